//! A parsed value, and the Arrow builders that collect such values.
//!
//! Parsing makes a whole value first and appending cannot fail, so a builder never holds half of an
//! array whose last element was bad.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    FixedSizeBinaryBuilder, Float32Builder, Float64Builder, Int16Builder, Int32Builder,
    Int64Builder, IntervalMonthDayNanoBuilder, ListArray, NullBufferBuilder, StringBuilder,
    StructArray, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, FieldRef, Fields, IntervalMonthDayNano};
use arrow::error::ArrowError;

use crate::error::{Error, Result};
use crate::types::SqlType;

/// A value that is not NULL, in the units of the canonical Arrow type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Boolean(bool),
    SmallInt(i16),
    Integer(i32),
    BigInt(i64),
    Real(f32),
    DoublePrecision(f64),
    /// Scaled to the column's scale.
    Numeric(i128),
    /// Text, varchar or jsonb.
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970-01-01 00:00, with or without a zone.
    Timestamp(i64),
    Interval(IntervalMonthDayNano),
    Uuid([u8; 16]),
    Array(Vec<Option<Value<'a>>>),
    Struct(Vec<Option<Value<'a>>>),
}

impl Value<'_> {
    /// The same value, borrowing nothing.
    pub fn into_owned(self) -> Value<'static> {
        let own = |values: Vec<Option<Value<'_>>>| {
            values
                .into_iter()
                .map(|value| value.map(Value::into_owned))
                .collect()
        };
        match self {
            Value::Boolean(value) => Value::Boolean(value),
            Value::SmallInt(value) => Value::SmallInt(value),
            Value::Integer(value) => Value::Integer(value),
            Value::BigInt(value) => Value::BigInt(value),
            Value::Real(value) => Value::Real(value),
            Value::DoublePrecision(value) => Value::DoublePrecision(value),
            Value::Numeric(value) => Value::Numeric(value),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
            Value::Date(value) => Value::Date(value),
            Value::Time(value) => Value::Time(value),
            Value::Timestamp(value) => Value::Timestamp(value),
            Value::Interval(value) => Value::Interval(value),
            Value::Uuid(value) => Value::Uuid(value),
            Value::Array(values) => Value::Array(own(values)),
            Value::Struct(values) => Value::Struct(own(values)),
        }
    }
}

/// Arrow builders for one SQL type.
#[derive(Debug)]
pub(crate) enum Collector {
    Boolean(BooleanBuilder),
    SmallInt(Int16Builder),
    Integer(Int32Builder),
    BigInt(Int64Builder),
    Real(Float32Builder),
    DoublePrecision(Float64Builder),
    Numeric(Decimal128Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
    Uuid(FixedSizeBinaryBuilder),
    Array {
        element: FieldRef,
        lengths: Vec<usize>,
        nulls: NullBufferBuilder,
        elements: Box<Collector>,
    },
    Struct {
        fields: Fields,
        nulls: NullBufferBuilder,
        columns: Vec<Collector>,
    },
}

impl Collector {
    pub fn new(sql_type: &SqlType) -> Result<Collector> {
        let data_type = sql_type.data_type();
        Ok(match sql_type {
            SqlType::Boolean => Collector::Boolean(BooleanBuilder::new()),
            SqlType::SmallInt => Collector::SmallInt(Int16Builder::new()),
            SqlType::Integer => Collector::Integer(Int32Builder::new()),
            SqlType::BigInt => Collector::BigInt(Int64Builder::new()),
            SqlType::Real => Collector::Real(Float32Builder::new()),
            SqlType::DoublePrecision => Collector::DoublePrecision(Float64Builder::new()),
            SqlType::Numeric { precision, scale } => Collector::Numeric(
                Decimal128Builder::new()
                    .with_precision_and_scale(*precision, *scale)
                    .map_err(broken)?,
            ),
            SqlType::Text | SqlType::Varchar(_) | SqlType::Jsonb => {
                Collector::Text(StringBuilder::new())
            }
            SqlType::Bytea => Collector::Bytes(BinaryBuilder::new()),
            SqlType::Date => Collector::Date(Date32Builder::new()),
            SqlType::Time => Collector::Time(Time64MicrosecondBuilder::new()),
            SqlType::Timestamp | SqlType::Timestamptz => {
                Collector::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(data_type))
            }
            SqlType::Interval => Collector::Interval(IntervalMonthDayNanoBuilder::new()),
            SqlType::Uuid => Collector::Uuid(FixedSizeBinaryBuilder::new(16)),
            SqlType::Array(inner) => match data_type {
                DataType::List(element) => Collector::Array {
                    element,
                    lengths: Vec::new(),
                    nulls: NullBufferBuilder::new(0),
                    elements: Box::new(Collector::new(inner)?),
                },
                _ => return Err(Error::internal("an array is a list")),
            },
            SqlType::Struct(members) => match data_type {
                DataType::Struct(fields) => Collector::Struct {
                    fields,
                    nulls: NullBufferBuilder::new(0),
                    columns: members
                        .iter()
                        .map(|member| Collector::new(&member.sql_type))
                        .collect::<Result<_>>()?,
                },
                _ => return Err(Error::internal("a struct is a struct")),
            },
        })
    }

    /// Appends a value that was parsed for this collector's type; None is NULL.
    ///
    /// # Panics
    /// When the value is of another type, a bug of the parser.
    pub fn append(&mut self, value: Option<Value<'_>>) {
        let Some(value) = value else {
            return self.append_null();
        };
        match (self, value) {
            (Collector::Boolean(builder), Value::Boolean(value)) => builder.append_value(value),
            (Collector::SmallInt(builder), Value::SmallInt(value)) => builder.append_value(value),
            (Collector::Integer(builder), Value::Integer(value)) => builder.append_value(value),
            (Collector::BigInt(builder), Value::BigInt(value)) => builder.append_value(value),
            (Collector::Real(builder), Value::Real(value)) => builder.append_value(value),
            (Collector::DoublePrecision(builder), Value::DoublePrecision(value)) => {
                builder.append_value(value);
            }
            (Collector::Numeric(builder), Value::Numeric(value)) => builder.append_value(value),
            (Collector::Text(builder), Value::Text(text)) => builder.append_value(text),
            (Collector::Bytes(builder), Value::Bytes(bytes)) => builder.append_value(bytes),
            (Collector::Date(builder), Value::Date(value)) => builder.append_value(value),
            (Collector::Time(builder), Value::Time(value)) => builder.append_value(value),
            (Collector::Timestamp(builder), Value::Timestamp(value)) => builder.append_value(value),
            (Collector::Interval(builder), Value::Interval(value)) => builder.append_value(value),
            (Collector::Uuid(builder), Value::Uuid(value)) => {
                builder.append_value(value).expect("a uuid has 16 bytes");
            }
            (
                Collector::Array {
                    lengths,
                    nulls,
                    elements,
                    ..
                },
                Value::Array(values),
            ) => {
                lengths.push(values.len());
                nulls.append_non_null();
                for value in values {
                    elements.append(value);
                }
            }
            (Collector::Struct { nulls, columns, .. }, Value::Struct(values)) => {
                assert_eq!(columns.len(), values.len(), "a value for each member");
                nulls.append_non_null();
                for (column, value) in columns.iter_mut().zip(values) {
                    column.append(value);
                }
            }
            (_, value) => panic!("{value:?} was parsed for another type"),
        }
    }

    fn append_null(&mut self) {
        match self {
            Collector::Boolean(builder) => builder.append_null(),
            Collector::SmallInt(builder) => builder.append_null(),
            Collector::Integer(builder) => builder.append_null(),
            Collector::BigInt(builder) => builder.append_null(),
            Collector::Real(builder) => builder.append_null(),
            Collector::DoublePrecision(builder) => builder.append_null(),
            Collector::Numeric(builder) => builder.append_null(),
            Collector::Text(builder) => builder.append_null(),
            Collector::Bytes(builder) => builder.append_null(),
            Collector::Date(builder) => builder.append_null(),
            Collector::Time(builder) => builder.append_null(),
            Collector::Timestamp(builder) => builder.append_null(),
            Collector::Interval(builder) => builder.append_null(),
            Collector::Uuid(builder) => builder.append_null(),
            Collector::Array { lengths, nulls, .. } => {
                lengths.push(0);
                nulls.append_null();
            }
            Collector::Struct { nulls, columns, .. } => {
                nulls.append_null();
                for column in columns {
                    column.append_null();
                }
            }
        }
    }

    /// The column so far; the collector is empty again.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Collector::Boolean(builder) => Arc::new(builder.finish()),
            Collector::SmallInt(builder) => Arc::new(builder.finish()),
            Collector::Integer(builder) => Arc::new(builder.finish()),
            Collector::BigInt(builder) => Arc::new(builder.finish()),
            Collector::Real(builder) => Arc::new(builder.finish()),
            Collector::DoublePrecision(builder) => Arc::new(builder.finish()),
            Collector::Numeric(builder) => Arc::new(builder.finish()),
            Collector::Text(builder) => Arc::new(builder.finish()),
            Collector::Bytes(builder) => Arc::new(builder.finish()),
            Collector::Date(builder) => Arc::new(builder.finish()),
            Collector::Time(builder) => Arc::new(builder.finish()),
            Collector::Timestamp(builder) => Arc::new(builder.finish()),
            Collector::Interval(builder) => Arc::new(builder.finish()),
            Collector::Uuid(builder) => Arc::new(builder.finish()),
            Collector::Array {
                element,
                lengths,
                nulls,
                elements,
            } => {
                let offsets = OffsetBuffer::from_lengths(lengths.drain(..));
                let elements = elements.finish()?;
                let list =
                    ListArray::try_new(Arc::clone(element), offsets, elements, nulls.finish());
                Arc::new(list.map_err(broken)?)
            }
            Collector::Struct {
                fields,
                nulls,
                columns,
            } => {
                let length = nulls.len();
                let columns = columns
                    .iter_mut()
                    .map(Collector::finish)
                    .collect::<Result<_>>()?;
                let array = StructArray::try_new_with_length(
                    fields.clone(),
                    columns,
                    nulls.finish(),
                    length,
                );
                Arc::new(array.map_err(broken)?)
            }
        })
    }
}

fn broken(cause: ArrowError) -> Error {
    Error::internal(format!("cannot build a column: {cause}"))
}
