//! Intervals out of text: Postgres' own style (`1 mon -2 days 03:04:05`), units in words
//! (`1.5 hours ago`) and ISO 8601 (`P1Y2M3DT4H5M6S`).
//!
//! A fraction of a unit goes to the next smaller part, by Postgres' rules: a year has 12 months, a
//! month 30 days, a day 24 hours. Fractions of years round to months.

use arrow::datatypes::IntervalMonthDayNano;

use crate::error::{Error, Result, SqlState};
use crate::types::calendar::{
    MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND,
};
use crate::types::event_time;
use crate::types::pg::parse::trim;

/// Reads an interval.
///
/// # Errors
/// 22007 for other text, 22008 when a part is too large.
pub(crate) fn parse(text: &str) -> Result<IntervalMonthDayNano> {
    let trimmed = trim(text);
    let sum = match trimmed.strip_prefix(['P', 'p']) {
        Some(designators) => parse_iso(designators),
        None => parse_words(trimmed),
    };
    let sum = sum.map_err(|failure| match failure {
        Failure::Syntax => Error::new(
            SqlState::INVALID_DATETIME_FORMAT,
            format!("invalid input syntax for type interval: \"{text}\""),
        ),
        Failure::Overflow => overflow(text),
    })?;
    let nanos = sum
        .micros
        .checked_mul(1_000)
        .ok_or_else(|| overflow(text))?;
    Ok(IntervalMonthDayNano::new(sum.months, sum.days, nanos))
}

fn overflow(text: &str) -> Error {
    Error::new(
        SqlState::DATETIME_FIELD_OVERFLOW,
        format!("interval field value out of range: \"{text}\""),
    )
}

#[derive(Debug)]
enum Failure {
    Syntax,
    Overflow,
}

/// What a unit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
    Decade,
    Century,
    Millennium,
}

impl Unit {
    fn named(word: &str) -> Option<Unit> {
        let word = word.to_ascii_lowercase();
        Some(match word.as_str() {
            "microsecond" | "microseconds" | "us" | "usec" | "usecs" | "microsecon" | "usecond"
            | "useconds" => Unit::Microsecond,
            "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" | "mseconds" | "msecond" => {
                Unit::Millisecond
            }
            "second" | "seconds" | "s" | "sec" | "secs" => Unit::Second,
            "minute" | "minutes" | "m" | "min" | "mins" => Unit::Minute,
            "hour" | "hours" | "h" | "hr" | "hrs" => Unit::Hour,
            "day" | "days" | "d" => Unit::Day,
            "week" | "weeks" | "w" => Unit::Week,
            "month" | "months" | "mon" | "mons" => Unit::Month,
            "year" | "years" | "y" | "yr" | "yrs" => Unit::Year,
            "decade" | "decades" | "dec" | "decs" => Unit::Decade,
            "century" | "centuries" | "c" | "cent" => Unit::Century,
            "millennium" | "millennia" | "mil" | "mils" => Unit::Millennium,
            _ => return None,
        })
    }
}

/// A number in parts, so that no digit is lost to floating point.
#[derive(Clone, Copy, Debug)]
struct Number {
    whole: i64,
    /// With the number's sign, below one.
    fraction: f64,
}

#[derive(Default)]
struct Sum {
    months: i32,
    days: i32,
    micros: i64,
}

impl Sum {
    fn add(&mut self, unit: Unit, number: Number) -> Result<(), Failure> {
        match unit {
            Unit::Microsecond => self.add_time(number, 1),
            Unit::Millisecond => self.add_time(number, 1_000),
            Unit::Second => self.add_time(number, MICROS_PER_SECOND),
            Unit::Minute => self.add_time(number, MICROS_PER_MINUTE),
            Unit::Hour => self.add_time(number, MICROS_PER_HOUR),
            Unit::Day => {
                self.add_days(number.whole)?;
                self.add_fraction(number.fraction, MICROS_PER_DAY)
            }
            Unit::Week => {
                self.add_days(number.whole.checked_mul(7).ok_or(Failure::Overflow)?)?;
                self.add_fraction_of_days(number.fraction * 7.0)
            }
            Unit::Month => {
                self.add_months(number.whole)?;
                self.add_fraction_of_days(number.fraction * 30.0)
            }
            Unit::Year => self.add_years(number, 1),
            Unit::Decade => self.add_years(number, 10),
            Unit::Century => self.add_years(number, 100),
            Unit::Millennium => self.add_years(number, 1_000),
        }
    }

    fn add_time(&mut self, number: Number, micros: i64) -> Result<(), Failure> {
        let whole = number.whole.checked_mul(micros).ok_or(Failure::Overflow)?;
        self.micros = self.micros.checked_add(whole).ok_or(Failure::Overflow)?;
        self.add_fraction(number.fraction, micros)
    }

    fn add_days(&mut self, days: i64) -> Result<(), Failure> {
        let days = i32::try_from(days).map_err(|_| Failure::Overflow)?;
        self.days = self.days.checked_add(days).ok_or(Failure::Overflow)?;
        Ok(())
    }

    fn add_months(&mut self, months: i64) -> Result<(), Failure> {
        let months = i32::try_from(months).map_err(|_| Failure::Overflow)?;
        self.months = self.months.checked_add(months).ok_or(Failure::Overflow)?;
        Ok(())
    }

    fn add_years(&mut self, number: Number, years: i32) -> Result<(), Failure> {
        let months = i64::from(years) * 12;
        let fraction = to_i64((number.fraction * f64::from(years) * 12.0).round_ties_even());
        let whole = number.whole.checked_mul(months).ok_or(Failure::Overflow)?;
        self.add_months(whole)?;
        self.add_months(fraction)
    }

    /// Whole days out of a fraction of weeks or months, the rest as time.
    fn add_fraction_of_days(&mut self, days: f64) -> Result<(), Failure> {
        self.add_days(to_i64(days.trunc()))?;
        self.add_fraction(days.fract(), MICROS_PER_DAY)
    }

    fn add_fraction(&mut self, fraction: f64, micros: i64) -> Result<(), Failure> {
        // A day has fewer microseconds than a float has exact integers.
        let part = to_i64((fraction * to_f64(micros)).round_ties_even());
        self.micros = self.micros.checked_add(part).ok_or(Failure::Overflow)?;
        Ok(())
    }

    fn negate(&mut self) -> Result<(), Failure> {
        self.months = self.months.checked_neg().ok_or(Failure::Overflow)?;
        self.days = self.days.checked_neg().ok_or(Failure::Overflow)?;
        self.micros = self.micros.checked_neg().ok_or(Failure::Overflow)?;
        Ok(())
    }
}

/// The integer that a whole float of at most a day's microseconds is.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the callers bound it by 2^37"
)]
fn to_i64(value: f64) -> i64 {
    value as i64
}

/// The float of a unit's microseconds, exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "the callers bound it by 2^37")]
fn to_f64(value: i64) -> f64 {
    value as f64
}

fn parse_words(text: &str) -> Result<Sum, Failure> {
    let mut sum = Sum::default();
    let mut seen = Vec::new();
    let mut rest = text.strip_prefix('@').unwrap_or(text).trim_start();
    if rest.is_empty() {
        return Err(Failure::Syntax);
    }
    while !rest.is_empty() {
        if let Some(after) = strip_word(rest, "ago") {
            if !after.is_empty() || seen.is_empty() {
                return Err(Failure::Syntax);
            }
            sum.negate()?;
            break;
        }
        let end = rest.find(|c: char| !matches!(c, '+' | '-' | '.' | ':' | '0'..='9'));
        let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.trim_start();
        let unit = if number.contains(':') {
            add_clock(&mut sum, number)?;
            // Hours, minutes and seconds at once: none of them may come again.
            if seen.contains(&Unit::Minute) || seen.contains(&Unit::Hour) {
                return Err(Failure::Syntax);
            }
            seen.extend([Unit::Hour, Unit::Minute]);
            Unit::Second
        } else if let Some((years, months)) = years_and_months(number) {
            sum.add_months(years.checked_mul(12).ok_or(Failure::Overflow)?)?;
            sum.add_months(months)?;
            seen.push(Unit::Year);
            Unit::Month
        } else {
            let number = parse_number(number)?;
            let (unit, after) = take_unit(rest)?;
            rest = after;
            sum.add(unit, number)?;
            unit
        };
        if seen.contains(&unit) {
            return Err(Failure::Syntax);
        }
        seen.push(unit);
    }
    Ok(sum)
}

/// The unit that follows a number: a word; days before a time of day; else seconds, at the end.
fn take_unit(rest: &str) -> Result<(Unit, &str), Failure> {
    if rest.is_empty() || strip_word(rest, "ago").is_some() {
        return Ok((Unit::Second, rest));
    }
    let end = rest.find(|c: char| !c.is_ascii_alphabetic());
    let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
    if word.is_empty() {
        let next = rest.split(' ').next().unwrap_or(rest);
        return match next.contains(':') {
            true => Ok((Unit::Day, rest)),
            false => Err(Failure::Syntax),
        };
    }
    let unit = Unit::named(word).ok_or(Failure::Syntax)?;
    Ok((unit, after.trim_start()))
}

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (start, after) = text.split_at_checked(word.len())?;
    let is_whole = !after.starts_with(|c: char| c.is_ascii_alphanumeric());
    (start.eq_ignore_ascii_case(word) && is_whole).then(|| after.trim_start())
}

/// The standard's `1-2`: one year and two months.
fn years_and_months(text: &str) -> Option<(i64, i64)> {
    let (sign, digits) = split_sign(text);
    let (years, months) = digits.split_once('-')?;
    let months: i64 = months
        .parse()
        .ok()
        .filter(|months| (0..12).contains(months))?;
    let years: i64 = years.parse().ok()?;
    Some((sign * years, sign * months))
}

/// Adds `[+-]hh:mm[:ss[.f]]`; the sign is that of the whole.
fn add_clock(sum: &mut Sum, text: &str) -> Result<(), Failure> {
    let (sign, digits) = split_sign(text);
    let mut parts = digits.split(':');
    let mut part = || parts.next().filter(|part| !part.is_empty());
    let hours = part().ok_or(Failure::Syntax)?;
    let minutes = part().ok_or(Failure::Syntax)?;
    let seconds = part().unwrap_or("0");
    if parts.next().is_some() {
        return Err(Failure::Syntax);
    }
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let (fraction, rest) =
        event_time::parse_fraction(fraction.as_bytes()).ok_or(Failure::Syntax)?;
    let (hours, minutes, seconds) = (digits_of(hours)?, digits_of(minutes)?, digits_of(seconds)?);
    if !rest.is_empty() {
        return Err(Failure::Syntax);
    }
    if minutes > 59 || seconds > 60 {
        return Err(Failure::Overflow);
    }
    let micros = hours
        .checked_mul(MICROS_PER_HOUR)
        .and_then(|micros| micros.checked_add(minutes * MICROS_PER_MINUTE))
        .and_then(|micros| micros.checked_add(seconds * MICROS_PER_SECOND + fraction))
        .ok_or(Failure::Overflow)?;
    sum.add_time(
        Number {
            whole: sign * micros,
            fraction: 0.0,
        },
        1,
    )
}

fn split_sign(text: &str) -> (i64, &str) {
    match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn digits_of(text: &str) -> Result<i64, Failure> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Failure::Syntax);
    }
    text.parse().map_err(|_| Failure::Overflow)
}

/// Reads `[+-]digits[.digits]`, one of the two present.
fn parse_number(text: &str) -> Result<Number, Failure> {
    let (sign, digits) = split_sign(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(Failure::Syntax);
    }
    let whole = if whole.is_empty() {
        0
    } else {
        digits_of(whole)?
    };
    let magnitude = match fraction {
        "" => 0.0,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("0.{digits}").parse().map_err(|_| Failure::Syntax)?
        }
        _ => return Err(Failure::Syntax),
    };
    let fraction: f64 = magnitude;
    Ok(Number {
        whole: sign * whole,
        fraction: if sign < 0 { -fraction } else { fraction },
    })
}

/// Reads what follows the `P`: numbers with designators, those of the time after a `T`.
fn parse_iso(text: &str) -> Result<Sum, Failure> {
    let mut sum = Sum::default();
    let mut rest = text;
    let mut is_time = false;
    if rest.is_empty() {
        return Err(Failure::Syntax);
    }
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(['T', 't']) {
            if is_time || after.is_empty() {
                return Err(Failure::Syntax);
            }
            is_time = true;
            rest = after;
            continue;
        }
        let end = rest.find(|c: char| !matches!(c, '+' | '-' | '.' | '0'..='9'));
        let (number, after) = rest.split_at(end.ok_or(Failure::Syntax)?);
        let designator = after.bytes().next().map(|byte| byte.to_ascii_uppercase());
        let unit = match (designator, is_time) {
            (Some(b'Y'), false) => Unit::Year,
            (Some(b'M'), false) => Unit::Month,
            (Some(b'W'), false) => Unit::Week,
            (Some(b'D'), false) => Unit::Day,
            (Some(b'H'), true) => Unit::Hour,
            (Some(b'M'), true) => Unit::Minute,
            (Some(b'S'), true) => Unit::Second,
            _ => return Err(Failure::Syntax),
        };
        sum.add(unit, parse_number(number)?)?;
        rest = &after[1..];
    }
    Ok(sum)
}
