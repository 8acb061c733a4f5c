//! Texts into columns: what a JSON string, a CSV field or a number's digits mean to a type.
//!
//! | type | texts |
//! | --- | --- |
//! | boolean, date, time, interval, uuid | what Postgres' text input takes |
//! | integers | decimal digits; also `42.0` and `1e3`, whose value is whole |
//! | numeric(p, s) | decimal digits, rounded half away from zero at s places |
//! | real, double precision | decimal digits, `NaN`, `Infinity` |
//! | timestamp, timestamptz | RFC 3339, `YYYY-MM-DD hh:mm:ss[.f]`; digits where a unit is set |
//! | bytea | `\x` and hexadecimal digits as in Postgres, else base64 as JSON writers use it |
//!
//! Times without an offset are UTC; those with one are moved to UTC, for both kinds of timestamp.

use std::fmt;

use arrow::array::AsArray;
use arrow::datatypes::{Date32Type, IntervalMonthDayNanoType, Time64MicrosecondType};

use crate::base::limits::REASON_VALUE_CHARS_MAX;
use crate::format::column::{Column, Reject, Values};
use crate::format::number;
use crate::types::pg::{ColumnBuilder, Format};
use crate::types::{SqlType, event_time};

/// What a number stands for in a timestamp column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampUnit {
    Seconds,
    Milliseconds,
    Microseconds,
}

impl TimestampUnit {
    /// Decimal places that a number moves by to become microseconds.
    fn scale(self) -> i8 {
        match self {
            TimestampUnit::Seconds => 6,
            TimestampUnit::Milliseconds => 3,
            TimestampUnit::Microseconds => 0,
        }
    }

    /// Microseconds in one.
    pub(super) fn micros(self) -> i64 {
        match self {
            TimestampUnit::Seconds => 1_000_000,
            TimestampUnit::Milliseconds => 1_000,
            TimestampUnit::Microseconds => 1,
        }
    }
}

/// Postgres' range of timestamps: 4713 BC to 294276 AD, in microseconds around 1970.
pub(super) const TIMESTAMP_MICROS: std::ops::Range<i64> =
    -210_866_803_200_000_000..9_223_371_331_200_000_000;

/// Appends the value that `text` means to the column's type.
///
/// On an error the column may hold part of a value: truncate it.
pub(super) fn push_text(
    column: &mut Column,
    text: &str,
    unit: Option<TimestampUnit>,
) -> Result<(), Reject> {
    let sql_type = column.sql_type().clone();
    match sql_type {
        SqlType::Text => push_bytes(column, text.as_bytes()),
        SqlType::Varchar(limit) => {
            check_length(text, limit)?;
            push_bytes(column, text.as_bytes())
        }
        SqlType::Bytea => push_bytes(column, &parse_bytea(text)?),
        SqlType::Timestamp | SqlType::Timestamptz => match event_time::parse(text) {
            Some(micros) => push_micros(column, micros),
            None => push_number(column, text.trim().as_bytes(), unit),
        },
        SqlType::SmallInt
        | SqlType::Integer
        | SqlType::BigInt
        | SqlType::Real
        | SqlType::DoublePrecision
        | SqlType::Numeric { .. } => push_number(column, text.trim().as_bytes(), unit),
        SqlType::Boolean | SqlType::Date | SqlType::Time | SqlType::Interval | SqlType::Uuid => {
            push_by_postgres_rules(column, text)
        }
        SqlType::Jsonb | SqlType::Array(_) | SqlType::Struct(_) => Err(Reject::NotA),
    }
}

/// Appends the value that decimal digits mean to the column's type; texts take them as written.
pub(super) fn push_number(
    column: &mut Column,
    digits: &[u8],
    unit: Option<TimestampUnit>,
) -> Result<(), Reject> {
    let sql_type = column.sql_type().clone();
    match (column.values(), sql_type) {
        (Values::Int16(values), SqlType::SmallInt) => {
            let whole = number::parse_whole(digits)?;
            values.push(i16::try_from(whole).map_err(|_| Reject::OutOfRange)?);
        }
        (Values::Int32(values), SqlType::Integer) => {
            let whole = number::parse_whole(digits)?;
            values.push(i32::try_from(whole).map_err(|_| Reject::OutOfRange)?);
        }
        (Values::Int64(values), SqlType::BigInt) => values.push(number::parse_whole(digits)?),
        (Values::Float32(values), _) => values.push(number::parse_real(digits)?),
        (Values::Float64(values), _) => values.push(number::parse_double(digits)?),
        (Values::Decimal(values), SqlType::Numeric { precision, scale }) => {
            let value = number::parse_scaled(digits, scale)?;
            // 10^38, the widest precision, fits an i128.
            if value.unsigned_abs() >= 10_u128.pow(u32::from(precision.min(38))) {
                return Err(Reject::OutOfRange);
            }
            values.push(value);
        }
        (Values::Int64(_), SqlType::Timestamp | SqlType::Timestamptz) => {
            let Some(unit) = unit else {
                return match number::parse_double(digits) {
                    Ok(_) => Err(Reject::Because(
                        "is a number, and timestamp.unit does not say of what".to_string(),
                    )),
                    Err(_) => Err(Reject::NotA),
                };
            };
            let micros = number::parse_scaled(digits, unit.scale())?;
            return push_micros(
                column,
                i64::try_from(micros).map_err(|_| Reject::OutOfRange)?,
            );
        }
        (_, SqlType::Text) => return push_bytes(column, digits),
        (_, SqlType::Varchar(limit)) => {
            check_length(&String::from_utf8_lossy(digits), limit)?;
            return push_bytes(column, digits);
        }
        _ => return Err(Reject::NotA),
    }
    column.mark_valid();
    Ok(())
}

/// Appends to a text, jsonb or bytea column.
#[inline]
pub(super) fn push_bytes(column: &mut Column, value: &[u8]) -> Result<(), Reject> {
    let Values::Bytes(bytes) = column.values() else {
        return Err(Reject::NotA);
    };
    bytes.push(value)?;
    column.mark_valid();
    Ok(())
}

/// Appends to a boolean column.
pub(super) fn push_boolean(column: &mut Column, value: bool) -> Result<(), Reject> {
    let Values::Boolean(values) = column.values() else {
        return Err(Reject::NotA);
    };
    values.append(value);
    column.mark_valid();
    Ok(())
}

/// Appends to a timestamp column.
#[inline]
pub(super) fn push_micros(column: &mut Column, micros: i64) -> Result<(), Reject> {
    let Values::Int64(values) = column.values() else {
        return Err(Reject::NotA);
    };
    if !TIMESTAMP_MICROS.contains(&micros) {
        return Err(Reject::OutOfRange);
    }
    values.push(micros);
    column.mark_valid();
    Ok(())
}

/// The bound of a `varchar(n)`, in characters as in Postgres.
pub(super) fn check_length(text: &str, limit: Option<u32>) -> Result<(), Reject> {
    let Some(limit) = limit else { return Ok(()) };
    if text.chars().count() > usize::try_from(limit).unwrap_or(usize::MAX) {
        return Err(Reject::Because(format!(
            "is too long for a varchar({limit})"
        )));
    }
    Ok(())
}

/// Booleans, dates, times, intervals and uuids: the usual spellings in place, all others by the
/// rules of Postgres' text input.
fn push_by_postgres_rules(column: &mut Column, text: &str) -> Result<(), Reject> {
    match column.values() {
        Values::Boolean(values) => match text {
            "true" => values.append(true),
            "false" => values.append(false),
            _ => return push_odd(column, text),
        },
        Values::Int32(values) => match parse_date(text) {
            Some(days) => values.push(days),
            None => return push_odd(column, text),
        },
        Values::Int64(values) => match parse_time(text) {
            Some(micros) => values.push(micros),
            None => return push_odd(column, text),
        },
        Values::Uuid(values) => match parse_uuid(text.as_bytes()) {
            Some(uuid) => values.extend_from_slice(&uuid),
            None => return push_odd(column, text),
        },
        _ => return push_odd(column, text),
    }
    column.mark_valid();
    Ok(())
}

/// By way of Postgres' text input. The builder made for one value is what unusual spellings cost;
/// intervals have no usual one.
fn push_odd(column: &mut Column, text: &str) -> Result<(), Reject> {
    let read = || {
        let mut builder = ColumnBuilder::new(column.field())?;
        builder.push(Some(text.as_bytes()), Format::Text)?;
        builder.finish()
    };
    let array = read().map_err(|_| Reject::NotA)?;
    match column.values() {
        Values::Boolean(values) => values.append(array.as_boolean().value(0)),
        Values::Int32(values) => values.push(array.as_primitive::<Date32Type>().value(0)),
        Values::Int64(values) => {
            values.push(array.as_primitive::<Time64MicrosecondType>().value(0));
        }
        Values::Interval(values) => {
            values.push(array.as_primitive::<IntervalMonthDayNanoType>().value(0));
        }
        Values::Uuid(values) => {
            values.extend_from_slice(array.as_fixed_size_binary().value(0));
        }
        _ => return Err(Reject::NotA),
    }
    column.mark_valid();
    Ok(())
}

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// `YYYY-MM-DD` in days since 1970.
fn parse_date(text: &str) -> Option<i32> {
    let mut midnight = *b"YYYY-MM-DD 00:00:00";
    let day: &[u8; 10] = text.as_bytes().try_into().ok()?;
    midnight[..10].copy_from_slice(day);
    let micros = event_time::parse(std::str::from_utf8(&midnight).ok()?)?;
    i32::try_from(micros.div_euclid(MICROS_PER_DAY)).ok()
}

/// `hh:mm:ss[.f{1,6}]` in microseconds since midnight.
fn parse_time(text: &str) -> Option<i64> {
    let mut time = *b"1970-01-01 hh:mm:ss.ffffff";
    let end = 11 + text.len();
    let is_clock = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b':' | b'.'));
    time.get_mut(11..end)
        .filter(|_| is_clock)?
        .copy_from_slice(text.as_bytes());
    let micros = event_time::parse(std::str::from_utf8(&time[..end]).ok()?)?;
    (0..MICROS_PER_DAY).contains(&micros).then_some(micros)
}

/// Eight, four, four, four and twelve hexadecimal digits.
fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.try_into().ok()?;
    let mut digits = [0; 32];
    let mut count = 0;
    for (place, &byte) in text.iter().enumerate() {
        if matches!(place, 8 | 13 | 18 | 23) {
            (byte == b'-').then_some(())?;
        } else {
            digits[count] = byte;
            count += 1;
        }
    }
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(uuid)
}

fn parse_bytea(text: &str) -> Result<Vec<u8>, Reject> {
    match text.strip_prefix("\\x") {
        Some(digits) => parse_hex(digits.as_bytes()).ok_or(Reject::NotA),
        None => parse_base64(text.as_bytes()).ok_or(Reject::NotA),
    }
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn parse_hex(digits: &[u8]) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?))
        .collect()
}

/// Standard or URL alphabet, padding optional.
fn parse_base64(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    let digits = &text[..text.len() - padding];
    let is_misplaced = padding > 2 || (padding > 0 && !text.len().is_multiple_of(4));
    if is_misplaced || digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for place in 0..4 {
            let value = match group.get(place) {
                Some(byte @ b'A'..=b'Z') => byte - b'A',
                Some(byte @ b'a'..=b'z') => byte - b'a' + 26,
                Some(byte @ b'0'..=b'9') => byte - b'0' + 52,
                Some(b'+' | b'-') => 62,
                Some(b'/' | b'_') => 63,
                Some(_) => return None,
                None => 0,
            };
            bits = bits << 6 | u32::from(value);
        }
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}

/// The reason of a bad record: `column "price": "abc" is not a bigint`.
pub(super) fn describe(column: &Column, value: &[u8], reject: &Reject) -> String {
    let name = column.field().name();
    let value = Shortened(value);
    let sql_type = column.sql_type();
    let article = match sql_type {
        SqlType::Integer | SqlType::Interval => "an",
        _ => "a",
    };
    match reject {
        Reject::NotA => format!("column \"{name}\": {value} is not {article} {sql_type}"),
        Reject::OutOfRange => {
            format!("column \"{name}\": {value} is out of range for {article} {sql_type}")
        }
        Reject::Null => format!("column \"{name}\": NULL, but the column is NOT NULL"),
        Reject::Because(words) => format!("column \"{name}\": {value} {words}"),
    }
}

/// A value as a reason shows it: not longer than a line, and printable.
struct Shortened<'a>(&'a [u8]);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Four bytes are the longest character, so the cut text has enough of them.
        let cut = &self.0[..self.0.len().min(REASON_VALUE_CHARS_MAX * 4)];
        let text = String::from_utf8_lossy(cut);
        let shown: String = text.chars().take(REASON_VALUE_CHARS_MAX).collect();
        f.write_str(&shown)?;
        if shown.len() < self.0.len() {
            f.write_str("…")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_and_hex_are_read() {
        for (text, bytes) in [
            ("", Some(&b""[..])),
            ("aGVsbG8=", Some(b"hello")),
            ("aGVsbG8", Some(b"hello")),
            ("_-8=", Some(b"\xff\xef")),
            ("\\x00fF", Some(b"\x00\xff")),
            ("\\x0", None),
            ("a", None),
            ("ab=", None),
            ("a b=", None),
        ] {
            assert_eq!(parse_bytea(text).ok().as_deref(), bytes, "{text}");
        }
    }

    #[test]
    fn usual_dates_times_and_uuids_are_read() {
        assert_eq!(parse_date("1970-01-02"), Some(1));
        assert_eq!(parse_date("1969-12-31"), Some(-1));
        assert_eq!(parse_date("2023-02-29"), None);
        assert_eq!(parse_time("00:00:01.5"), Some(1_500_000));
        assert_eq!(parse_time("23:59:59.999999"), Some(MICROS_PER_DAY - 1));
        for odd in [
            "",
            "24:00:00",
            "23:59:60",
            "1:2:3",
            "00:00:00Z",
            "00:00:00.1234567",
        ] {
            assert_eq!(parse_time(odd), None, "{odd}");
        }
        let uuid = parse_uuid(b"00112233-4455-6677-8899-aAbBcCdDeEfF").unwrap();
        assert_eq!(uuid[..3], [0x00, 0x11, 0x22]);
        assert_eq!(uuid[15], 0xff);
        assert_eq!(parse_uuid(b"00112233-4455-6677-8899-aabbccddeefg"), None);
    }

    #[test]
    fn a_shown_value_is_cut_at_a_character() {
        let long = "é".repeat(REASON_VALUE_CHARS_MAX + 1);
        let shown = Shortened(long.as_bytes()).to_string();
        assert_eq!(shown, format!("{}…", "é".repeat(REASON_VALUE_CHARS_MAX)));
        assert_eq!(Shortened(b"abc").to_string(), "abc");
    }
}
