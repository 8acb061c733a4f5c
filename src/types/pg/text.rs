//! Values as Postgres prints them.

use std::fmt::Write;
use std::ops::Range;

use arrow::array::{Array, StructArray};
use bytes::{BufMut, BytesMut};

use crate::error::{Error, Result};
use crate::types::calendar::{
    Civil, MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND,
};
use crate::types::datum::{Datum, Interval, Node, out_of_range};
use crate::types::pg::bytea;
use crate::types::pg::float;
use crate::types::pg::numeric::Digits;
use crate::types::pg::writer::DateTimeStyle;
use crate::types::{SqlType, SystemType};

/// Appends a value's text.
pub(crate) fn write(
    node: &Node,
    datum: &Datum<'_>,
    style: &DateTimeStyle,
    buffer: &mut BytesMut,
) -> Result<()> {
    match datum {
        Datum::Boolean(true) => buffer.put_u8(b't'),
        Datum::Boolean(false) => buffer.put_u8(b'f'),
        Datum::SmallInt(value) => write_integer(buffer, i64::from(*value)),
        Datum::Integer(value) => write_integer(buffer, i64::from(*value)),
        Datum::BigInt(value) => write_integer(buffer, *value),
        Datum::Real(value) => float::write_real(buffer, *value),
        Datum::DoublePrecision(value) => float::write_double(buffer, *value),
        Datum::Numeric { value, scale } => Digits::of(*value, *scale).write_text(buffer),
        Datum::WideNumeric { value, scale } => Digits::of_wide(*value, *scale).write_text(buffer),
        Datum::Text(text) => buffer.put_slice(text.as_bytes()),
        Datum::Shown(text) => buffer.put_slice(text.as_bytes()),
        Datum::Bytes(bytes) => match node.sql_type {
            SqlType::Uuid => write_uuid(buffer, bytes),
            _ => bytea::write_hex(buffer, bytes),
        },
        Datum::Date(days) => {
            let civil = Civil::from_days(*days);
            write_date(buffer, civil);
            write_era(buffer, civil);
        }
        Datum::Time(micros) => write_time(buffer, *micros),
        Datum::Timestamp(micros) => {
            let civil = write_timestamp(buffer, *micros);
            write_era(buffer, civil);
        }
        Datum::Timestamptz(micros) => {
            let offset = style.zone.offset_seconds(*micros);
            let local = micros
                .checked_add(i64::from(offset) * MICROS_PER_SECOND)
                .ok_or_else(|| out_of_range("timestamp"))?;
            let civil = write_timestamp(buffer, local);
            write_offset(buffer, offset);
            write_era(buffer, civil);
        }
        Datum::Interval(interval) => write_interval(buffer, interval),
        Datum::Array { values, range } => {
            write_array(node, *values, range.clone(), style, buffer)?;
        }
        Datum::Struct { values, row } => write_record(node, values, *row, style, buffer)?,
    }
    Ok(())
}

fn write_integer(buffer: &mut BytesMut, value: i64) {
    if value < 0 {
        buffer.put_u8(b'-');
    }
    write_padded(buffer, value.unsigned_abs(), 1);
}

/// Writes at least `width` digits (20 at most).
pub(crate) fn write_padded(buffer: &mut BytesMut, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while value > 0 {
        start -= 1;
        // A remainder of ten always fits; the fallback is never taken.
        digits[start] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
    buffer.put_slice(&digits[start.min(digits.len() - width)..]);
}

fn write_uuid(buffer: &mut BytesMut, bytes: &[u8]) {
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            buffer.put_u8(b'-');
        }
        bytea::write_byte(buffer, *byte);
    }
}

fn write_date(buffer: &mut BytesMut, civil: Civil) {
    let year = if civil.year > 0 {
        civil.year
    } else {
        1 - civil.year
    };
    write_padded(buffer, year.unsigned_abs(), 4);
    buffer.put_u8(b'-');
    write_padded(buffer, civil.month.unsigned_abs(), 2);
    buffer.put_u8(b'-');
    write_padded(buffer, civil.day.unsigned_abs(), 2);
}

fn write_era(buffer: &mut BytesMut, civil: Civil) {
    if civil.year <= 0 {
        buffer.put_slice(b" BC");
    }
}

/// `hh:mm:ss[.f]` of a non-negative number of microseconds; hours may be more than 24.
fn write_time(buffer: &mut BytesMut, micros: i64) {
    let micros = micros.unsigned_abs();
    let per = i64::unsigned_abs;
    write_padded(buffer, micros / per(MICROS_PER_HOUR), 2);
    buffer.put_u8(b':');
    write_padded(buffer, micros / per(MICROS_PER_MINUTE) % 60, 2);
    buffer.put_u8(b':');
    write_padded(buffer, micros / per(MICROS_PER_SECOND) % 60, 2);
    let mut fraction = micros % per(MICROS_PER_SECOND);
    if fraction > 0 {
        let mut width = 6;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            width -= 1;
        }
        buffer.put_u8(b'.');
        write_padded(buffer, fraction, width);
    }
}

fn write_timestamp(buffer: &mut BytesMut, micros: i64) -> Civil {
    let civil = Civil::from_days(micros.div_euclid(MICROS_PER_DAY));
    write_date(buffer, civil);
    buffer.put_u8(b' ');
    write_time(buffer, micros.rem_euclid(MICROS_PER_DAY));
    civil
}

/// `+02`, `-03:30` or, for the local mean times of old, `+05:53:28`.
fn write_offset(buffer: &mut BytesMut, seconds: i32) {
    buffer.put_u8(if seconds < 0 { b'-' } else { b'+' });
    let seconds = u64::from(seconds.unsigned_abs());
    write_padded(buffer, seconds / 3_600, 2);
    if !seconds.is_multiple_of(3_600) {
        buffer.put_u8(b':');
        write_padded(buffer, seconds / 60 % 60, 2);
    }
    if !seconds.is_multiple_of(60) {
        buffer.put_u8(b':');
        write_padded(buffer, seconds % 60, 2);
    }
}

/// `1 year 2 mons -3 days +04:05:06`: a part after a negative one shows its plus sign.
fn write_interval(buffer: &mut BytesMut, interval: &Interval) {
    let start = buffer.len();
    let mut is_after_negative = false;
    for (value, unit) in [
        (interval.months / 12, "year"),
        (interval.months % 12, "mon"),
        (interval.days, "day"),
    ] {
        if value == 0 {
            continue;
        }
        if buffer.len() > start {
            buffer.put_u8(b' ');
        }
        if is_after_negative && value > 0 {
            buffer.put_u8(b'+');
        }
        write_integer(buffer, i64::from(value));
        buffer.put_u8(b' ');
        buffer.put_slice(unit.as_bytes());
        if value != 1 {
            buffer.put_u8(b's');
        }
        is_after_negative = value < 0;
    }
    let is_empty = buffer.len() == start;
    if is_empty || interval.micros != 0 {
        if !is_empty {
            buffer.put_u8(b' ');
        }
        if interval.micros < 0 {
            buffer.put_u8(b'-');
        } else if is_after_negative {
            buffer.put_u8(b'+');
        }
        write_time(buffer, interval.micros);
    }
}

fn write_array(
    node: &Node,
    values: &dyn Array,
    range: Range<usize>,
    style: &DateTimeStyle,
    buffer: &mut BytesMut,
) -> Result<()> {
    let element = only_child(node)?;
    // A vector of the catalog is its numbers with blanks between them.
    let is_vector = node.system_type.is_some_and(SystemType::is_vector);
    if !is_vector {
        buffer.put_u8(b'{');
    }
    for (position, row) in range.enumerate() {
        if position > 0 {
            buffer.put_u8(if is_vector { b' ' } else { b',' });
        }
        let Some(datum) = element.read(values, row)? else {
            buffer.put_slice(b"NULL");
            continue;
        };
        let start = buffer.len();
        write(element, &datum, style, buffer)?;
        if matches!(datum, Datum::Array { .. }) {
            continue;
        }
        let text = &buffer[start..];
        let needs_quotes = text.is_empty()
            || text.eq_ignore_ascii_case(b"null")
            || text
                .iter()
                .any(|byte| matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\') || is_blank(*byte));
        if needs_quotes {
            quote(buffer, start, |byte| match byte {
                b'"' | b'\\' => Some(b'\\'),
                _ => None,
            });
        }
    }
    if !is_vector {
        buffer.put_u8(b'}');
    }
    Ok(())
}

pub(crate) fn only_child(node: &Node) -> Result<&Node> {
    node.children
        .first()
        .ok_or_else(|| Error::internal("an array without an element type"))
}

fn write_record(
    node: &Node,
    values: &StructArray,
    row: usize,
    style: &DateTimeStyle,
    buffer: &mut BytesMut,
) -> Result<()> {
    buffer.put_u8(b'(');
    for (position, (child, column)) in node.children.iter().zip(values.columns()).enumerate() {
        if position > 0 {
            buffer.put_u8(b',');
        }
        // NULL is nothing between the commas.
        let Some(datum) = child.read(column.as_ref(), row)? else {
            continue;
        };
        let start = buffer.len();
        write(child, &datum, style, buffer)?;
        let text = &buffer[start..];
        let needs_quotes = text.is_empty()
            || text
                .iter()
                .any(|byte| matches!(byte, b'(' | b')' | b',' | b'"' | b'\\') || is_blank(*byte));
        if needs_quotes {
            quote(buffer, start, |byte| match byte {
                b'"' | b'\\' => Some(byte),
                _ => None,
            });
        }
    }
    buffer.put_u8(b')');
    Ok(())
}

/// What C's `isspace` says, which Postgres asks.
pub(crate) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Puts the text from `start` on into double quotes, each byte behind the escape it needs. The copy
/// is the only allocation, and only texts that need quotes pay it.
fn quote(buffer: &mut BytesMut, start: usize, escape: impl Fn(u8) -> Option<u8>) {
    let text = buffer[start..].to_vec();
    buffer.truncate(start);
    buffer.reserve(text.len() + 2);
    buffer.put_u8(b'"');
    for byte in text {
        if let Some(escape) = escape(byte) {
            buffer.put_u8(escape);
        }
        buffer.put_u8(byte);
    }
    buffer.put_u8(b'"');
}

/// A short text on the stack, so that formatting a number allocates nothing.
pub(crate) struct StackText<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for StackText<N> {
    fn default() -> Self {
        StackText {
            bytes: [0; N],
            length: 0,
        }
    }
}

impl<const N: usize> StackText<N> {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("only whole texts are appended")
    }
}

impl<const N: usize> Write for StackText<N> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        let room = self
            .bytes
            .get_mut(self.length..end)
            .ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
