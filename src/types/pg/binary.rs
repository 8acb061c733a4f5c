//! Values in the bytes that Postgres' `…send` functions make: big-endian, times counted from
//! 2000-01-01.

use std::ops::Range;

use arrow::array::{Array, StructArray};
use bytes::{BufMut, BytesMut};

use crate::error::{Error, Result, SqlState};
use crate::types::calendar::{MICROS_PER_DAY, POSTGRES_EPOCH_DAYS};
use crate::types::datum::{Datum, Node, out_of_range};
use crate::types::pg::numeric::Digits;
use crate::types::pg::oid::oid_of;
use crate::types::pg::text::only_child;
use crate::types::{SqlType, SystemType};

/// The version that stands before the text of a jsonb.
pub(crate) const JSONB_VERSION: u8 = 1;

/// Microseconds from 1970-01-01 to 2000-01-01.
pub(crate) const POSTGRES_EPOCH_MICROS: i64 = POSTGRES_EPOCH_DAYS * MICROS_PER_DAY;

/// Appends a value's bytes.
pub(crate) fn write(node: &Node, datum: &Datum<'_>, buffer: &mut BytesMut) -> Result<()> {
    match datum {
        Datum::Boolean(value) => buffer.put_u8(u8::from(*value)),
        Datum::SmallInt(value) => buffer.put_i16(*value),
        Datum::Integer(value) => buffer.put_i32(*value),
        Datum::BigInt(value) if node.system_type.is_some_and(SystemType::is_number) => {
            buffer.put_u32(u32::try_from(*value).map_err(|_| oid_out_of_range())?);
        }
        Datum::BigInt(value) => buffer.put_i64(*value),
        Datum::Real(value) => buffer.put_f32(*value),
        Datum::DoublePrecision(value) => buffer.put_f64(*value),
        Datum::Numeric { value, scale } => Digits::of(*value, *scale).write_binary(buffer),
        Datum::WideNumeric { value, scale } => Digits::of_wide(*value, *scale).write_binary(buffer),
        Datum::Text(text) => {
            if matches!(node.sql_type, SqlType::Jsonb) {
                buffer.put_u8(JSONB_VERSION);
            }
            buffer.put_slice(text.as_bytes());
        }
        Datum::Shown(text) => buffer.put_slice(text.as_bytes()),
        Datum::Bytes(bytes) => buffer.put_slice(bytes),
        Datum::Date(days) => {
            let days = i32::try_from(days - POSTGRES_EPOCH_DAYS);
            buffer.put_i32(days.map_err(|_| out_of_range("date"))?);
        }
        Datum::Time(micros) => buffer.put_i64(*micros),
        Datum::Timestamp(micros) | Datum::Timestamptz(micros) => {
            let micros = micros.checked_sub(POSTGRES_EPOCH_MICROS);
            buffer.put_i64(micros.ok_or_else(|| out_of_range("timestamp"))?);
        }
        Datum::Interval(interval) => {
            buffer.put_i64(interval.micros);
            buffer.put_i32(interval.days);
            buffer.put_i32(interval.months);
        }
        Datum::Array { values, range } => write_array(node, *values, range.clone(), buffer)?,
        Datum::Struct { values, row } => write_record(node, values, *row, buffer)?,
    }
    Ok(())
}

/// Writes an array: the number of dimensions, whether there are NULLs, the innermost element's
/// type, each dimension's length and lower bound, then every element behind its length.
fn write_array(
    node: &Node,
    values: &dyn Array,
    range: Range<usize>,
    buffer: &mut BytesMut,
) -> Result<()> {
    let start = buffer.len();
    let mut innermost = only_child(node)?;
    while let SqlType::Array(_) = innermost.sql_type {
        innermost = only_child(innermost)?;
    }
    buffer.put_i32(0);
    buffer.put_i32(0);
    buffer.put_u32(match innermost.system_type {
        Some(system_type) => system_type.oid(),
        None => oid_of(&innermost.sql_type),
    });
    if range.is_empty() {
        // An empty array has no dimensions, whatever its type says.
        return Ok(());
    }
    let dimensions_start = buffer.len();
    let lower_bound = match node.system_type.is_some_and(SystemType::is_vector) {
        true => 0,
        false => 1,
    };
    let element = only_child(node)?;
    let Some(dimensions) = write_dimensions(element, values, range.clone(), lower_bound, buffer)?
    else {
        buffer.truncate(dimensions_start);
        return Ok(());
    };
    let mut elements = Elements {
        dimensions_start,
        has_nulls: false,
    };
    elements.write(node, values, range, 0, buffer)?;
    buffer[start..start + 4].copy_from_slice(&dimensions.to_be_bytes());
    buffer[start + 7] = u8::from(elements.has_nulls);
    Ok(())
}

/// Writes the length and lower bound of each dimension, as the first element of each level has it,
/// and returns their number; None when a level is empty, which makes the whole array empty.
fn write_dimensions(
    mut element: &Node,
    mut values: &dyn Array,
    mut range: Range<usize>,
    lower_bound: i32,
    buffer: &mut BytesMut,
) -> Result<Option<i32>> {
    for dimensions in 1.. {
        if range.is_empty() {
            return Ok(None);
        }
        buffer.put_i32(to_length(range.len())?);
        buffer.put_i32(lower_bound);
        let SqlType::Array(_) = element.sql_type else {
            return Ok(Some(dimensions));
        };
        match element.read(values, range.start)? {
            Some(Datum::Array {
                values: inner_values,
                range: inner_range,
            }) => (values, range) = (inner_values, inner_range),
            _ => return Err(ragged()),
        }
        element = only_child(element)?;
    }
    Err(Error::internal("an array with too many dimensions"))
}

fn oid_out_of_range() -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "OID out of range")
}

struct Elements {
    /// Where the dimensions stand in the buffer.
    dimensions_start: usize,
    has_nulls: bool,
}

impl Elements {
    fn write(
        &mut self,
        node: &Node,
        values: &dyn Array,
        range: Range<usize>,
        level: usize,
        buffer: &mut BytesMut,
    ) -> Result<()> {
        let at = self.dimensions_start + level * 8;
        if buffer[at..at + 4] != to_length(range.len())?.to_be_bytes() {
            return Err(ragged());
        }
        let element = only_child(node)?;
        let is_nested = matches!(element.sql_type, SqlType::Array(_));
        for row in range {
            match element.read(values, row)? {
                Some(Datum::Array { values, range }) if is_nested => {
                    self.write(element, values, range, level + 1, buffer)?;
                }
                _ if is_nested => return Err(ragged()),
                datum => {
                    self.has_nulls |= datum.is_none();
                    write_sized(element, datum.as_ref(), buffer)?;
                }
            }
        }
        Ok(())
    }
}

fn write_record(
    node: &Node,
    values: &StructArray,
    row: usize,
    buffer: &mut BytesMut,
) -> Result<()> {
    buffer.put_i32(to_length(node.children.len())?);
    for (child, column) in node.children.iter().zip(values.columns()) {
        buffer.put_u32(oid_of(&child.sql_type));
        let datum = child.read(column.as_ref(), row)?;
        write_sized(child, datum.as_ref(), buffer)?;
    }
    Ok(())
}

/// Writes a value behind its length, −1 for NULL.
fn write_sized(node: &Node, datum: Option<&Datum<'_>>, buffer: &mut BytesMut) -> Result<()> {
    let start = buffer.len();
    buffer.put_i32(-1);
    if let Some(datum) = datum {
        write(node, datum, buffer)?;
        let length = to_length(buffer.len() - start - 4)?;
        buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

fn to_length(length: usize) -> Result<i32> {
    i32::try_from(length).map_err(|_| {
        Error::new(
            SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            format!("a value of {length} bytes is too long for the protocol"),
        )
    })
}

fn ragged() -> Error {
    Error::new(
        SqlState::INVALID_BINARY_REPRESENTATION,
        "nested arrays of different lengths have no binary form",
    )
    .hint("ask for text results, or cast the column to text")
}
