//! Values out of the bytes that Postgres' `…recv` functions take.

use std::borrow::Cow;

use arrow::datatypes::IntervalMonthDayNano;

use crate::error::{Error, Result, SqlState};
use crate::types::SqlType;
use crate::types::calendar::{MICROS_PER_DAY, POSTGRES_EPOCH_DAYS};
use crate::types::datum::out_of_range;
use crate::types::pg::binary::{JSONB_VERSION, POSTGRES_EPOCH_MICROS};
use crate::types::pg::datetime::infinite;
use crate::types::pg::numeric::Bounds;
use crate::types::pg::parse;
use crate::types::pg::value::Value;

/// Reads a value of a type.
///
/// # Errors
/// As [`crate::types::pg::ColumnBuilder::push`].
pub(crate) fn parse<'a>(sql_type: &SqlType, bytes: &'a [u8]) -> Result<Value<'a>> {
    let malformed = || malformed(sql_type);
    Ok(match sql_type {
        SqlType::Boolean => match bytes {
            [byte] => Value::Boolean(*byte != 0),
            _ => return Err(malformed()),
        },
        SqlType::SmallInt => Value::SmallInt(parse_integer(sql_type, bytes)?),
        SqlType::Integer => Value::Integer(parse_integer(sql_type, bytes)?),
        SqlType::BigInt => Value::BigInt(parse_integer(sql_type, bytes)?),
        SqlType::Real => Value::Real(f32::from_be_bytes(
            bytes.try_into().map_err(|_| malformed())?,
        )),
        SqlType::DoublePrecision => match <[u8; 4]>::try_from(bytes) {
            // A client that declared float4 for a double column.
            Ok(single) => Value::DoublePrecision(f32::from_be_bytes(single).into()),
            Err(_) => Value::DoublePrecision(f64::from_be_bytes(
                bytes.try_into().map_err(|_| malformed())?,
            )),
        },
        SqlType::Numeric { precision, scale } => {
            let bounds = Bounds {
                precision: *precision,
                scale: *scale,
            };
            Value::Numeric(bounds.parse_binary(bytes)?)
        }
        SqlType::Text | SqlType::Varchar(None) => Value::Text(Cow::Borrowed(parse::utf8(bytes)?)),
        SqlType::Varchar(Some(length)) => {
            Value::Text(Cow::Borrowed(parse::limit(parse::utf8(bytes)?, *length)?))
        }
        SqlType::Jsonb => {
            // The binary form of plain `json` has no version, and no JSON starts with one.
            let text = bytes.strip_prefix(&[JSONB_VERSION]).unwrap_or(bytes);
            Value::Text(Cow::Borrowed(parse::check_json(parse::utf8(text)?)?))
        }
        SqlType::Bytea => Value::Bytes(Cow::Borrowed(bytes)),
        SqlType::Date => Value::Date(parse_date(bytes).ok_or_else(malformed)??),
        SqlType::Time => match read_i64(bytes).ok_or_else(malformed)? {
            micros @ 0..MICROS_PER_DAY => Value::Time(micros),
            _ => return Err(out_of_range("time")),
        },
        SqlType::Timestamp | SqlType::Timestamptz => {
            Value::Timestamp(parse_timestamp(read_i64(bytes).ok_or_else(malformed)?)?)
        }
        SqlType::Interval => Value::Interval(parse_interval(bytes).ok_or_else(malformed)??),
        SqlType::Uuid => Value::Uuid(bytes.try_into().map_err(|_| malformed())?),
        SqlType::Array(element) => {
            let mut reader = Reader { sql_type, bytes };
            let value = parse_array(element, &mut reader)?;
            reader.finish(value)?
        }
        SqlType::Struct(fields) => {
            let mut reader = Reader { sql_type, bytes };
            if usize::try_from(reader.i32()?) != Ok(fields.len()) {
                return Err(malformed());
            }
            let mut values = Vec::with_capacity(fields.len());
            for field in fields {
                let _oid = reader.i32()?;
                values.push(reader.sized(&field.sql_type)?);
            }
            reader.finish(Value::Struct(values))?
        }
    })
}

fn malformed(sql_type: &SqlType) -> Error {
    Error::new(
        SqlState::INVALID_BINARY_REPRESENTATION,
        format!("incorrect binary data format for type {sql_type}"),
    )
}

/// Reads an integer of any width: clients send what they declared, the column may be wider.
fn parse_integer<T: TryFrom<i64>>(sql_type: &SqlType, bytes: &[u8]) -> Result<T> {
    let value = match bytes.len() {
        2 => <[u8; 2]>::try_from(bytes).map(|bytes| i64::from(i16::from_be_bytes(bytes))),
        4 => <[u8; 4]>::try_from(bytes).map(|bytes| i64::from(i32::from_be_bytes(bytes))),
        _ => <[u8; 8]>::try_from(bytes).map(i64::from_be_bytes),
    };
    let value = value.map_err(|_| malformed(sql_type))?;
    T::try_from(value).map_err(|_| {
        Error::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("value \"{value}\" is out of range for type {sql_type}"),
        )
    })
}

fn read_i64(bytes: &[u8]) -> Option<i64> {
    bytes.try_into().ok().map(i64::from_be_bytes)
}

/// None when the bytes are not a date.
fn parse_date(bytes: &[u8]) -> Option<Result<i32>> {
    let days = i32::from_be_bytes(bytes.try_into().ok()?);
    if matches!(days, i32::MIN | i32::MAX) {
        return Some(Err(infinite("date")));
    }
    let days = i64::from(days) + POSTGRES_EPOCH_DAYS;
    Some(i32::try_from(days).map_err(|_| out_of_range("date")))
}

fn parse_timestamp(micros: i64) -> Result<i64> {
    if matches!(micros, i64::MIN | i64::MAX) {
        return Err(infinite("timestamp"));
    }
    micros
        .checked_add(POSTGRES_EPOCH_MICROS)
        .ok_or_else(|| out_of_range("timestamp"))
}

/// None when the bytes are not an interval.
fn parse_interval(bytes: &[u8]) -> Option<Result<IntervalMonthDayNano>> {
    let (micros, rest) = bytes.split_first_chunk::<8>()?;
    let (days, months) = rest.split_first_chunk::<4>()?;
    let days = i32::from_be_bytes(*days);
    let months = i32::from_be_bytes(months.try_into().ok()?);
    let nanos = i64::from_be_bytes(*micros).checked_mul(1_000);
    Some(match nanos {
        Some(nanos) => Ok(IntervalMonthDayNano::new(months, days, nanos)),
        None => Err(out_of_range("interval")),
    })
}

fn parse_array<'a>(element: &SqlType, reader: &mut Reader<'a, '_>) -> Result<Value<'a>> {
    let dimensions = reader.i32()?;
    let _has_nulls = reader.i32()?;
    let _oid = reader.i32()?;
    if dimensions == 0 {
        return Ok(Value::Array(Vec::new()));
    }
    let mut depth = 1;
    let mut innermost = element;
    while let SqlType::Array(inner) = innermost {
        innermost = inner;
        depth += 1;
    }
    if dimensions != depth {
        return Err(malformed(reader.sql_type));
    }
    let mut lengths = Vec::new();
    for _ in 0..depth {
        let length = usize::try_from(reader.i32()?).map_err(|_| malformed(reader.sql_type))?;
        let _lower_bound = reader.i32()?;
        lengths.push(length);
    }
    // With a length of zero the others could be anything, and cost time without costing bytes.
    if lengths.contains(&0) {
        return Ok(Value::Array(Vec::new()));
    }
    parse_level(innermost, &lengths, reader)
}

fn parse_level<'a>(
    innermost: &SqlType,
    lengths: &[usize],
    reader: &mut Reader<'a, '_>,
) -> Result<Value<'a>> {
    let Some((length, deeper)) = lengths.split_first() else {
        return Err(Error::internal("an array has a dimension"));
    };
    // Not allocated at once: the length is the client's claim.
    let mut values = Vec::new();
    for _ in 0..*length {
        values.push(match deeper {
            [] => reader.sized(innermost)?,
            _ => Some(parse_level(innermost, deeper, reader)?),
        });
    }
    Ok(Value::Array(values))
}

struct Reader<'a, 'b> {
    sql_type: &'b SqlType,
    bytes: &'a [u8],
}

impl<'a> Reader<'a, '_> {
    fn i32(&mut self) -> Result<i32> {
        let (word, rest) = self
            .bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| malformed(self.sql_type))?;
        self.bytes = rest;
        Ok(i32::from_be_bytes(*word))
    }

    /// A value behind its length, −1 for NULL.
    fn sized(&mut self, sql_type: &SqlType) -> Result<Option<Value<'a>>> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let (value, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| self.bytes.split_at_checked(length))
            .ok_or_else(|| malformed(self.sql_type))?;
        self.bytes = rest;
        parse(sql_type, value).map(Some)
    }

    fn finish(self, value: Value<'a>) -> Result<Value<'a>> {
        match self.bytes {
            [] => Ok(value),
            _ => Err(malformed(self.sql_type)),
        }
    }
}
