//! Dates and times out of text, in the ISO forms that Postgres accepts.
//!
//! `2026-01-02`, `20260102`, `2026/1/2`, then a `T` or blanks, `3:04[:05[.678]]`, `030405`, `3:04
//! PM`, then an offset (`Z`, `+02`, `-03:30`, `+053000`) or a zone's name, and `BC` at the end.

use crate::error::{Error, Result, SqlState};
use crate::types::Zone;
use crate::types::calendar::{
    Civil, MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND,
};
use crate::types::event_time;
use crate::types::pg::parse::trim;
use crate::types::pg::writer::DateTimeStyle;

/// Years are read up to here; what Arrow's types hold ends well before.
const YEAR_DIGITS_MAX: usize = 7;

/// Days since 1970-01-01; a time after the date is read and dropped, as in Postgres.
///
/// # Errors
/// 22007 for other text, 22008 for a day that does not exist, 0A000 for infinity.
pub(crate) fn parse_date(text: &str) -> Result<i32> {
    let input = Input { text, name: "date" };
    let parts = input.parse()?;
    let days = parts.date.ok_or_else(|| input.syntax())?;
    i32::try_from(days).map_err(|_| input.beyond("date"))
}

/// Microseconds since midnight; an offset is read and dropped.
///
/// # Errors
/// 22007 for other text, 22008 for a time that does not exist. Postgres also has 24:00:00; here a
/// time of day ends before it.
pub(crate) fn parse_time(text: &str) -> Result<i64> {
    let input = Input { text, name: "time" };
    let parts = input.parse()?;
    match parts.time.ok_or_else(|| input.syntax())? {
        micros if micros < MICROS_PER_DAY => Ok(micros),
        _ => Err(input.overflow()),
    }
}

/// Microseconds since 1970-01-01 00:00 on the clock; a zone is read and dropped, as in Postgres.
///
/// # Errors
/// 22007 for other text, 22008 for a time that does not exist, 0A000 for infinity.
pub(crate) fn parse_timestamp(text: &str) -> Result<i64> {
    if let Some(reading) = event_time::parse_reading(text.as_bytes()) {
        return Ok(reading.local);
    }
    let input = Input {
        text,
        name: "timestamp",
    };
    input.local(&input.parse()?)
}

/// Microseconds since 1970-01-01 00:00 UTC; without a zone the session's counts.
///
/// # Errors
/// As [`parse_timestamp`], and 22023 for an unknown zone.
pub(crate) fn parse_timestamptz(text: &str, style: &DateTimeStyle) -> Result<i64> {
    let input = Input {
        text,
        name: "timestamp with time zone",
    };
    let (local, offset) = match event_time::parse_reading(text.as_bytes()) {
        Some(reading) => (reading.local, reading.offset.map(Offset::Seconds)),
        None => {
            let parts = input.parse()?;
            (input.local(&parts)?, parts.offset)
        }
    };
    let utc = match offset.unwrap_or(Offset::Zone(style.zone)) {
        Offset::Seconds(seconds) => local.checked_sub(seconds * MICROS_PER_SECOND),
        Offset::Zone(zone) => zone.to_utc(local),
    };
    utc.ok_or_else(|| input.beyond("timestamp"))
}

/// Why an infinite date or time is refused.
pub(crate) fn infinite(type_name: &str) -> Error {
    Error::unsupported(format!(
        "infinite values of type {type_name} are not supported"
    ))
    .hint("use NULL or a far date")
}

#[derive(Clone, Copy)]
enum Offset {
    Seconds(i64),
    Zone(Zone),
}

/// What a text names.
#[derive(Default)]
struct Parts {
    /// Days since 1970-01-01.
    date: Option<i64>,
    /// Microseconds since midnight, a whole day included.
    time: Option<i64>,
    offset: Option<Offset>,
}

/// A text and the type that it is read for, both for the messages.
struct Input<'a> {
    text: &'a str,
    name: &'static str,
}

impl Input<'_> {
    fn local(&self, parts: &Parts) -> Result<i64> {
        let days = parts.date.ok_or_else(|| self.syntax())?;
        // In wider integers: midnight of the first day lies before the first microsecond.
        let midnight = i128::from(days) * i128::from(MICROS_PER_DAY);
        let micros = midnight + i128::from(parts.time.unwrap_or(0));
        i64::try_from(micros).map_err(|_| self.beyond("timestamp"))
    }

    fn parse(&self) -> Result<Parts> {
        let text = trim(self.text);
        if text.eq_ignore_ascii_case("epoch") && self.name != "time" {
            return Ok(Parts {
                date: Some(0),
                time: Some(0),
                offset: Some(Offset::Seconds(0)),
            });
        }
        let unsigned = text.trim_start_matches(['-', '+']);
        if unsigned.eq_ignore_ascii_case("infinity") {
            return Err(infinite(self.name));
        }
        let mut cursor = Cursor { rest: text };
        let mut parts = Parts::default();
        let mut civil = None;
        if self.name != "time" {
            civil = Some(self.date(&mut cursor)?);
            if !cursor.accept_any(b"Tt") {
                cursor.skip_blanks();
            }
        }
        if cursor.rest.starts_with(|c: char| c.is_ascii_digit()) {
            parts.time = Some(self.time(&mut cursor)?);
        }
        let mut is_before_christ = false;
        loop {
            cursor.skip_blanks();
            if cursor.rest.is_empty() {
                break;
            }
            let word = cursor.word();
            if word.eq_ignore_ascii_case("bc") {
                is_before_christ = true;
            } else if word.eq_ignore_ascii_case("am") || word.eq_ignore_ascii_case("pm") {
                let is_afternoon = word.eq_ignore_ascii_case("pm");
                parts.time = Some(self.twelve_hours(parts.time, is_afternoon)?);
            } else if !word.eq_ignore_ascii_case("ad") {
                if parts.offset.is_some() {
                    return Err(self.syntax());
                }
                parts.offset = Some(self.offset(word)?);
            }
        }
        if let Some(civil) = civil {
            parts.date = Some(self.days(civil, is_before_christ)?);
        }
        Ok(parts)
    }

    /// `YYYY-MM-DD`, with `/` or `.` between too, or `YYYYMMDD`.
    fn date(&self, cursor: &mut Cursor<'_>) -> Result<Civil> {
        let year = cursor.digits();
        if year.len() == 8 {
            return Ok(Civil {
                year: number(&year[..4]),
                month: number(&year[4..6]),
                day: number(&year[6..]),
            });
        }
        // Fewer digits would be a month or a day first, which depends on a setting.
        if !(3..=YEAR_DIGITS_MAX).contains(&year.len()) {
            return Err(self.syntax());
        }
        let separator = cursor.next();
        if !matches!(separator, Some(b'-' | b'/' | b'.')) {
            return Err(self.syntax());
        }
        let month = cursor.digits();
        if cursor.next() != separator {
            return Err(self.syntax());
        }
        let day = cursor.digits();
        if !(1..=2).contains(&month.len()) || !(1..=2).contains(&day.len()) {
            return Err(self.syntax());
        }
        Ok(Civil {
            year: number(year),
            month: number(month),
            day: number(day),
        })
    }

    fn days(&self, civil: Civil, is_before_christ: bool) -> Result<i64> {
        if civil.year == 0 {
            return Err(self.overflow());
        }
        let year = match is_before_christ {
            true => 1 - civil.year,
            false => civil.year,
        };
        let civil = Civil { year, ..civil };
        match civil.exists() {
            true => Ok(civil.to_days()),
            false => Err(self.overflow()),
        }
    }

    /// `h:mm[:ss[.f]]` or `hhmmss[.f]`.
    fn time(&self, cursor: &mut Cursor<'_>) -> Result<i64> {
        let first = cursor.digits();
        let (hour, minute, second) = match first.len() {
            6 => (
                number(&first[..2]),
                number(&first[2..4]),
                number(&first[4..]),
            ),
            1 | 2 => {
                if !cursor.accept_any(b":") {
                    return Err(self.syntax());
                }
                let minute = cursor.digits();
                let second = match cursor.accept_any(b":") {
                    true => cursor.digits(),
                    false => "0",
                };
                if !(1..=2).contains(&minute.len()) || !(1..=2).contains(&second.len()) {
                    return Err(self.syntax());
                }
                (number(first), number(minute), number(second))
            }
            _ => return Err(self.syntax()),
        };
        let mut fraction = 0;
        if cursor.accept_any(b".") {
            let digits = cursor.digits().as_bytes();
            fraction = event_time::parse_fraction(digits).map_or(0, |(micros, _)| micros);
        }
        let micros = hour * MICROS_PER_HOUR
            + minute * MICROS_PER_MINUTE
            + second * MICROS_PER_SECOND
            + fraction;
        if minute > 59 || second > 60 || micros > MICROS_PER_DAY {
            return Err(self.overflow());
        }
        Ok(micros)
    }

    fn twelve_hours(&self, time: Option<i64>, is_afternoon: bool) -> Result<i64> {
        let time = time.ok_or_else(|| self.syntax())?;
        let noon = 12 * MICROS_PER_HOUR;
        if time >= noon + MICROS_PER_HOUR {
            return Err(self.overflow());
        }
        Ok(time % noon + if is_afternoon { noon } else { 0 })
    }

    /// `Z`, `+02`, `+0230`, `+02:30[:15]` or a zone's name.
    fn offset(&self, word: &str) -> Result<Offset> {
        let bytes = word.as_bytes();
        let [sign @ (b'+' | b'-'), ..] = bytes else {
            return match Zone::find(word) {
                Some(zone) => Ok(Offset::Zone(zone)),
                None if word.contains('/') => Zone::parse(word).map(Offset::Zone),
                None => Err(self.syntax()),
            };
        };
        let digits = &word[1..];
        let parts: Vec<&str> = match digits.contains(':') {
            true => digits.split(':').collect(),
            false if digits.is_ascii() && digits.len() > 2 => {
                let hours = digits.len() - 2;
                vec![&digits[..hours], &digits[hours..]]
            }
            false => vec![digits],
        };
        let is_number =
            |part: &&str| (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if parts.len() > 3 || !parts.iter().all(is_number) {
            return Err(self.syntax());
        }
        let part = |at: usize| parts.get(at).map_or(0, |part| number(part));
        let (hours, minutes, seconds) = (part(0), part(1), part(2));
        if hours > 15 || minutes > 59 || seconds > 59 {
            return Err(Error::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("time zone displacement out of range: \"{}\"", self.text),
            ));
        }
        let total = hours * 3_600 + minutes * 60 + seconds;
        Ok(Offset::Seconds(if *sign == b'-' { -total } else { total }))
    }

    fn syntax(&self) -> Error {
        Error::new(
            SqlState::INVALID_DATETIME_FORMAT,
            format!(
                "invalid input syntax for type {}: \"{}\"",
                self.name, self.text
            ),
        )
    }

    fn overflow(&self) -> Error {
        Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date/time field value out of range: \"{}\"", self.text),
        )
    }

    fn beyond(&self, what: &str) -> Error {
        Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("{what} out of range: \"{}\"", self.text),
        )
    }
}

/// The value of at most eight digits.
fn number(digits: &str) -> i64 {
    digits.bytes().fold(0, |value, digit| {
        value * 10 + i64::from(digit.wrapping_sub(b'0'))
    })
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn digits(&mut self) -> &'a str {
        self.take(|byte| byte.is_ascii_digit())
    }

    /// All up to the next blank, and a name without the offset that follows it.
    fn word(&mut self) -> &'a str {
        if self.rest.starts_with(['+', '-']) {
            return self.take(|byte| matches!(byte, b'+' | b'-' | b':' | b'0'..=b'9'));
        }
        self.take(|byte| byte != b' ' && byte != b'\t')
    }

    fn take(&mut self, is_part: impl Fn(u8) -> bool) -> &'a str {
        let end = self.rest.bytes().position(|byte| !is_part(byte));
        let (taken, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }

    fn next(&mut self) -> Option<u8> {
        let first = self.rest.bytes().next().filter(u8::is_ascii)?;
        self.rest = &self.rest[1..];
        Some(first)
    }

    fn accept_any(&mut self, bytes: &[u8]) -> bool {
        let is_next = self
            .rest
            .bytes()
            .next()
            .is_some_and(|byte| bytes.contains(&byte));
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }
}
