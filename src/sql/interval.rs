//! Intervals: months, days and microseconds, as Postgres reads and writes them.
//!
//! ```text
//! 1 day 02:03:04    10s    1h30m    -1.5 hours    3 4:05:06    PT10S    2 weeks ago
//! 1-2               years and months
//! ```
//!
//! The three parts stay apart because a month has no fixed number of days and, in a time zone, a
//! day no fixed number of hours. A fraction goes on to the next smaller part: half a month is 15
//! days, half a day 12 hours.

use std::fmt;

use datafusion::sql::sqlparser::ast::{self, DateTimeField, Expr, UnaryOperator, Value};

use crate::error::{Error, Result, SqlState};

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
const DAYS_PER_MONTH: i64 = 30;

/// A span of time in Postgres' three parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

impl Interval {
    /// The length in microseconds if it does not depend on the calendar: days count 24 hours.
    pub fn fixed_micros(&self) -> Option<i64> {
        if self.months != 0 {
            return None;
        }
        i64::from(self.days)
            .checked_mul(MICROS_PER_DAY)?
            .checked_add(self.micros)
    }

    fn checked_neg(self) -> Option<Interval> {
        Some(Interval {
            months: self.months.checked_neg()?,
            days: self.days.checked_neg()?,
            micros: self.micros.checked_neg()?,
        })
    }
}

impl fmt::Display for Interval {
    /// Postgres' own style: `1 year 2 mons -3 days +04:05:06.7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut is_negative = false;
        let units = [
            (self.months / 12, "year"),
            (self.months % 12, "mon"),
            (self.days, "day"),
        ];
        for (count, unit) in units.into_iter().filter(|(count, _)| *count != 0) {
            let plus = if is_negative && count > 0 { "+" } else { "" };
            let plural = if count == 1 { "" } else { "s" };
            parts.push(format!("{plus}{count} {unit}{plural}"));
            is_negative = count < 0;
        }
        if self.micros != 0 || parts.is_empty() {
            let sign = match self.micros {
                micros if micros < 0 => "-",
                _ if is_negative => "+",
                _ => "",
            };
            let (seconds, micros) = {
                let micros = self.micros.unsigned_abs();
                (micros / 1_000_000, micros % 1_000_000)
            };
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let mut time = format!("{sign}{hours:02}:{minutes:02}:{:02}", seconds % 60);
            if micros != 0 {
                time.push_str(format!(".{micros:06}").trim_end_matches('0'));
            }
            parts.push(time);
        }
        f.write_str(&parts.join(" "))
    }
}

/// Reads an interval in any of Postgres' spellings.
///
/// # Errors
/// 22007 for what is no interval, 22008 for one that is out of range.
pub fn parse(text: &str) -> Result<Interval> {
    Reader::new(text).read()
}

/// Reads a constant interval of a statement: `INTERVAL '10 seconds'`, `INTERVAL '10' SECOND`,
/// `'10s'::interval`, `'10s'`, and any of them negated or in parentheses.
///
/// # Errors
/// As [`parse`]; 42601 for an expression that is no constant interval.
pub fn from_expr(expr: &Expr) -> Result<Interval> {
    match expr {
        Expr::Nested(inner) => from_expr(inner),
        Expr::Interval(interval) => from_literal(interval),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => parse(text),
            _ => Err(not_constant()),
        },
        Expr::Cast {
            expr,
            data_type: ast::DataType::Interval { .. },
            ..
        } => from_expr(expr),
        Expr::UnaryOp {
            op: UnaryOperator::Plus,
            expr,
        } => from_expr(expr),
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => from_expr(expr)?
            .checked_neg()
            .ok_or_else(|| out_of_range(&expr.to_string())),
        _ => Err(not_constant()),
    }
}

fn not_constant() -> Error {
    Error::new(
        SqlState::SYNTAX_ERROR,
        "an interval must be a constant here",
    )
    .hint("write INTERVAL '10 seconds'")
}

fn from_literal(interval: &ast::Interval) -> Result<Interval> {
    let text = match interval.value.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::Number(text, _) => text,
            _ => return Err(not_constant()),
        },
        _ => return Err(not_constant()),
    };
    match (&interval.leading_field, &interval.last_field) {
        (None, _) => parse(text),
        // `'1:30' MINUTE TO SECOND`: without hours.
        (Some(DateTimeField::Minute), Some(DateTimeField::Second))
            if text.matches(':').count() == 1 =>
        {
            match text.strip_prefix('-') {
                Some(text) => parse(&format!("-00:{text}")),
                None => parse(&format!("00:{text}")),
            }
        }
        (Some(_), Some(_)) => parse(text),
        (Some(field), None) if text.trim().parse::<f64>().is_ok() => parse(&format!(
            "{} {}",
            text.trim(),
            field.to_string().to_ascii_lowercase()
        )),
        (Some(_), None) => parse(text),
    }
}

/// Units by their names: microseconds in one, or months in one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Micros(i64),
    Days(i64),
    Months(i64),
}

fn unit(name: &str) -> Option<Unit> {
    Some(match name {
        "us" | "usec" | "usecs" | "microsecond" | "microseconds" => Unit::Micros(1),
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => Unit::Micros(1_000),
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Micros(MICROS_PER_SECOND),
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Micros(60 * MICROS_PER_SECOND),
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Micros(3_600 * MICROS_PER_SECOND),
        "d" | "day" | "days" => Unit::Days(1),
        "w" | "week" | "weeks" => Unit::Days(7),
        "mon" | "mons" | "month" | "months" => Unit::Months(1),
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Months(12),
        "decade" | "decades" | "dec" | "decs" => Unit::Months(120),
        "c" | "cent" | "century" | "centuries" => Unit::Months(1_200),
        "mil" | "mils" | "millennium" | "millennia" => Unit::Months(12_000),
        _ => return None,
    })
}

/// A decimal number as exact billionths, so that `0.1 seconds` is exactly 100 ms.
#[derive(Clone, Copy)]
struct Decimal(i128);

impl Decimal {
    const ONE: i128 = 1_000_000_000;

    /// Digits beyond the ninth of the fraction are dropped; the parts are microseconds.
    fn parse(text: &str) -> Option<Decimal> {
        let (is_negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let has_digit = !(whole.is_empty() && fraction.is_empty());
        if !has_digit || !is_digits(whole) || !is_digits(fraction) || whole.len() > 18 {
            return None;
        }
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        let nine: String = fraction
            .chars()
            .chain(std::iter::repeat('0'))
            .take(9)
            .collect();
        let value = whole * Self::ONE + nine.parse::<i128>().ok()?;
        Some(Decimal(if is_negative { -value } else { value }))
    }

    fn times(self, factor: i64) -> Decimal {
        Decimal(self.0 * i128::from(factor))
    }

    fn whole(self) -> i128 {
        self.0 / Self::ONE
    }

    fn fraction(self) -> Decimal {
        Decimal(self.0 % Self::ONE)
    }

    fn rounded(self) -> i128 {
        let half = if self.0 < 0 {
            -Self::ONE / 2
        } else {
            Self::ONE / 2
        };
        (self.0 + half) / Self::ONE
    }
}

/// Collects the parts with room to spare; the bounds are checked once at the end.
#[derive(Default)]
struct Total {
    months: i128,
    days: i128,
    micros: i128,
}

impl Total {
    fn add(&mut self, count: Decimal, unit: Unit) {
        match unit {
            Unit::Micros(micros) => self.micros += count.times(micros).rounded(),
            Unit::Days(days) => self.add_days(count.times(days)),
            Unit::Months(months) => {
                let months = count.times(months);
                self.months += months.whole();
                self.add_days(months.fraction().times(DAYS_PER_MONTH));
            }
        }
    }

    fn add_days(&mut self, days: Decimal) {
        self.days += days.whole();
        self.micros += days.fraction().times(MICROS_PER_DAY).rounded();
    }

    fn finish(self) -> Option<Interval> {
        Some(Interval {
            months: self.months.try_into().ok()?,
            days: self.days.try_into().ok()?,
            micros: self.micros.try_into().ok()?,
        })
    }
}

struct Reader<'a> {
    text: &'a str,
    total: Total,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Reader {
            text,
            total: Total::default(),
        }
    }

    fn read(mut self) -> Result<Interval> {
        let text = self.text.trim().to_ascii_lowercase();
        let known = match text.strip_prefix('p') {
            Some(rest) => self.iso(rest),
            None => self.verbose(&text),
        };
        match known {
            Some(()) => {
                let text = self.text;
                self.total.finish().ok_or_else(|| out_of_range(text))
            }
            None => Err(Error::new(
                SqlState::INVALID_DATETIME_FORMAT,
                format!("\"{}\" is not an interval", self.text),
            )
            .hint("write it as '10 seconds', '1 day 02:03:04' or 'PT10S'")),
        }
    }

    /// `PnYnMnWnDTnHnMnS`, lower case, without the P.
    fn iso(&mut self, text: &str) -> Option<()> {
        let (date, time) = text.split_once('t').unwrap_or((text, ""));
        if date.is_empty() && time.is_empty() {
            return None;
        }
        let date_unit = |name: char| match name {
            'y' => Some(Unit::Months(12)),
            'm' => Some(Unit::Months(1)),
            'w' => Some(Unit::Days(7)),
            'd' => Some(Unit::Days(1)),
            _ => None,
        };
        let time_unit = |name: char| match name {
            'h' => Some(Unit::Micros(3_600 * MICROS_PER_SECOND)),
            'm' => Some(Unit::Micros(60 * MICROS_PER_SECOND)),
            's' => Some(Unit::Micros(MICROS_PER_SECOND)),
            _ => None,
        };
        self.iso_part(date, date_unit)?;
        self.iso_part(time, time_unit)
    }

    fn iso_part(&mut self, mut text: &str, unit: impl Fn(char) -> Option<Unit>) -> Option<()> {
        while !text.is_empty() {
            let end = text.find(|character: char| character.is_ascii_alphabetic())?;
            let name = text[end..].chars().next()?;
            self.total.add(Decimal::parse(&text[..end])?, unit(name)?);
            text = &text[end + 1..];
        }
        Some(())
    }

    /// Counts with units, times of day, `years-months`, and `ago`; lower case.
    fn verbose(&mut self, text: &str) -> Option<()> {
        let mut words = words(text.strip_prefix('@').unwrap_or(text))?
            .into_iter()
            .peekable();
        words.peek()?;
        while let Some(word) = words.next() {
            if word == "ago" {
                // It ends the text.
                return words.next().is_none().then(|| self.negate());
            }
            if word.contains(':') {
                self.time_of_day(word)?;
            } else if word.len() > 1 && word[1..].contains('-') {
                self.years_and_months(word)?;
            } else {
                let count = Decimal::parse(word)?;
                let unit = match words.peek().copied() {
                    None => Unit::Micros(MICROS_PER_SECOND),
                    // `3 4:05:06`: days before a time of day.
                    Some(next) if next.contains(':') => Unit::Days(1),
                    Some(next) => {
                        words.next();
                        unit(next)?
                    }
                };
                self.total.add(count, unit);
            }
        }
        Some(())
    }

    fn negate(&mut self) {
        self.total.months = -self.total.months;
        self.total.days = -self.total.days;
        self.total.micros = -self.total.micros;
    }

    /// `[+-]hh:mm[:ss[.f]]`.
    fn time_of_day(&mut self, word: &str) -> Option<()> {
        let (is_negative, word) = match word.as_bytes().first()? {
            b'-' => (true, &word[1..]),
            b'+' => (false, &word[1..]),
            _ => (false, word),
        };
        let fields: Vec<&str> = word.split(':').collect();
        let (hours, minutes, seconds) = match fields[..] {
            [hours, minutes] => (hours, minutes, "0"),
            [hours, minutes, seconds] => (hours, minutes, seconds),
            _ => return None,
        };
        let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
        let seconds = Decimal::parse(seconds)?;
        if minutes > 59 || seconds.0 < 0 || seconds.whole() > 60 {
            return None;
        }
        let whole = i128::from(hours) * 3_600 + i128::from(minutes) * 60;
        let micros =
            whole * i128::from(MICROS_PER_SECOND) + seconds.times(MICROS_PER_SECOND).rounded();
        self.total.micros += if is_negative { -micros } else { micros };
        Some(())
    }

    /// `[+-]y-m`.
    fn years_and_months(&mut self, word: &str) -> Option<()> {
        let (is_negative, word) = match word.as_bytes().first()? {
            b'-' => (true, &word[1..]),
            b'+' => (false, &word[1..]),
            _ => (false, word),
        };
        let (years, months) = word.split_once('-')?;
        let (years, months): (u32, u32) = (years.parse().ok()?, months.parse().ok()?);
        let months = i128::from(years) * 12 + i128::from(months);
        self.total.months += if is_negative { -months } else { months };
        Some(())
    }
}

/// Splits at blanks and between a number and its unit: `1h30m` is four words.
fn words(text: &str) -> Option<Vec<&str>> {
    let mut words = Vec::new();
    for chunk in text.split_ascii_whitespace() {
        let mut start = 0;
        let mut previous: Option<bool> = None;
        for (index, character) in chunk.char_indices() {
            if !character.is_ascii() {
                return None;
            }
            let is_letter = character.is_ascii_alphabetic();
            if previous.is_some_and(|previous| previous != is_letter) {
                words.push(&chunk[start..index]);
                start = index;
            }
            previous = Some(is_letter);
        }
        words.push(&chunk[start..]);
    }
    Some(words)
}

fn out_of_range(text: &str) -> Error {
    Error::new(
        SqlState::DATETIME_FIELD_OVERFLOW,
        format!("interval \"{text}\" is out of range"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (i32, i32, i64) {
        let interval = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        (interval.months, interval.days, interval.micros)
    }

    #[test]
    fn every_spelling_of_postgres_is_read() {
        let second = MICROS_PER_SECOND;
        for (text, expected) in [
            ("10 seconds", (0, 0, 10 * second)),
            ("10s", (0, 0, 10 * second)),
            ("10", (0, 0, 10 * second)),
            ("0.1 s", (0, 0, second / 10)),
            (".5s", (0, 0, second / 2)),
            ("250 ms", (0, 0, second / 4)),
            ("1h30m", (0, 0, 5_400 * second)),
            ("1 day 02:03:04", (0, 1, 7_384 * second)),
            ("3 4:05:06", (0, 3, 14_706 * second)),
            ("-1 day -00:00:01.5", (0, -1, -second * 3 / 2)),
            ("1-2", (14, 0, 0)),
            ("-1-2", (-14, 0, 0)),
            ("1 year 2 mons", (14, 0, 0)),
            ("1.5 months", (1, 15, 0)),
            ("1.5 days", (0, 1, 43_200 * second)),
            ("2 weeks ago", (0, -14, 0)),
            ("@ 1 minute", (0, 0, 60 * second)),
            ("PT10S", (0, 0, 10 * second)),
            ("P1Y2M3DT4H5M6.5S", (14, 3, 14_706 * second + second / 2)),
            ("p1w", (0, 7, 0)),
            ("02:03", (0, 0, 7_380 * second)),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_interval_is_refused() {
        for text in [
            "",
            "x",
            "10 parsecs",
            "1:2:3:4",
            "1:60",
            "P",
            "PT1X",
            "1 ago 2",
            "ü",
            "1-",
            "-",
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.state(), SqlState::INVALID_DATETIME_FORMAT, "{text}");
        }
        for text in ["999999999999 years", "100000000000000000 hours"] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.state(), SqlState::DATETIME_FIELD_OVERFLOW, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (text, written) in [
            ("1 day 02:03:04", "1 day 02:03:04"),
            ("-1 day 1 hour", "-1 days +01:00:00"),
            ("1-2", "1 year 2 mons"),
            ("0", "00:00:00"),
            ("100 hours", "100:00:00"),
            ("1.25 s", "00:00:01.25"),
            ("-5 min", "-00:05:00"),
        ] {
            let interval = parse(text).expect(text);
            assert_eq!(interval.to_string(), written);
            assert_eq!(parse(written).expect(written), interval);
        }
    }

    #[test]
    fn only_months_have_no_fixed_length() {
        assert_eq!(
            parse("1 day 1 s").unwrap().fixed_micros(),
            Some(MICROS_PER_DAY + 1_000_000)
        );
        assert_eq!(parse("1 month").unwrap().fixed_micros(), None);
    }
}
