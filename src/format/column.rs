//! A column under construction: values of one type and which of them are NULL, cut back at will.
//!
//! A decoder appends a record's values column by column and finds out in the middle that the
//! record is bad; [`Column::truncate`] takes back what it has. Arrow's own builders cannot, which
//! is the reason for this one.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    IntervalMonthDayNanoArray, ListArray, NullBufferBuilder, StringArray, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, IntervalMonthDayNano, IntervalUnit, TimeUnit};

use crate::error::{Error, Result};
use crate::format::number::NumberFault;
use crate::types::SqlType;

/// Bytes of a `uuid`.
const UUID_BYTES: usize = 16;

/// Why a value was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reject {
    /// `"abc" is not a bigint`.
    NotA,
    /// `99999 is out of range for a smallint`.
    OutOfRange,
    /// NULL where the column says NOT NULL.
    Null,
    /// Anything else, in words that follow the value.
    Because(String),
}

impl From<NumberFault> for Reject {
    fn from(fault: NumberFault) -> Self {
        match fault {
            NumberFault::NotANumber => Reject::NotA,
            NumberFault::OutOfRange => Reject::OutOfRange,
        }
    }
}

/// Values of one field that is being decoded.
#[derive(Debug)]
pub(super) struct Column {
    field: FieldRef,
    sql_type: SqlType,
    valid: NullBufferBuilder,
    values: Values,
}

/// The values, in the layout of the finished array.
#[derive(Debug)]
pub(super) enum Values {
    Boolean(BooleanBufferBuilder),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    /// Bigints, and microseconds of times and timestamps.
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>),
    Interval(Vec<IntervalMonthDayNano>),
    Uuid(Vec<u8>),
    /// Texts, jsonb texts and byte strings.
    Bytes(Bytes),
    List {
        ends: Vec<i32>,
        items: Box<Column>,
    },
    Struct(Vec<Column>),
}

/// Strings one behind the other; `ends[i]` is where the i-th one ends.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    ends: Vec<i32>,
    data: Vec<u8>,
}

impl Bytes {
    /// Adds one string.
    ///
    /// # Errors
    /// When the batch's strings would pass the 2 GiB that Arrow's offsets reach.
    #[inline]
    pub fn push(&mut self, value: &[u8]) -> Result<(), Reject> {
        self.data.extend_from_slice(value);
        self.close()
    }

    /// Where to write the next string's bytes before [`Bytes::close`] ends it. What was written
    /// without a `close` is taken back by the column's `truncate`.
    pub fn open(&mut self) -> &mut Vec<u8> {
        &mut self.data
    }

    #[inline]
    pub fn close(&mut self) -> Result<(), Reject> {
        match i32::try_from(self.data.len()) {
            Ok(end) => {
                self.ends.push(end);
                Ok(())
            }
            Err(_) => Err(Reject::Because(
                "does not fit the batch of 2 GiB".to_string(),
            )),
        }
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        let end = self
            .ends
            .last()
            .map_or(0, |&end| usize::try_from(end).unwrap_or(0));
        self.data.truncate(end);
    }
}

impl Column {
    /// An empty column of a field with one of the canonical types ([`SqlType::to_field`]).
    ///
    /// # Errors
    /// 0A000 for a type that records do not carry.
    pub fn new(field: FieldRef) -> Result<Column> {
        let sql_type = SqlType::of(&field)?;
        let values = Values::new(&field)?;
        Ok(Column {
            field,
            sql_type,
            valid: NullBufferBuilder::new(0),
            values,
        })
    }

    pub fn field(&self) -> &FieldRef {
        &self.field
    }

    pub fn sql_type(&self) -> &SqlType {
        &self.sql_type
    }

    /// The number of finished rows.
    pub fn rows(&self) -> usize {
        self.valid.len()
    }

    /// The values, to append one; follow it with [`Column::mark_valid`].
    #[inline]
    pub fn values(&mut self) -> &mut Values {
        &mut self.values
    }

    /// Says that a value was appended.
    #[inline]
    pub fn mark_valid(&mut self) {
        self.valid.append_non_null();
    }

    /// Appends NULL.
    ///
    /// # Errors
    /// Where the field is NOT NULL.
    pub fn push_null(&mut self) -> Result<(), Reject> {
        if !self.field.is_nullable() {
            return Err(Reject::Null);
        }
        self.pad();
        Ok(())
    }

    /// Appends NULL whether the field allows it or not: members of a NULL struct.
    fn pad(&mut self) {
        match &mut self.values {
            Values::Boolean(values) => values.append(false),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) => values.push(0),
            Values::Int64(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal(values) => values.push(0),
            Values::Interval(values) => values.push(IntervalMonthDayNano::ZERO),
            Values::Uuid(values) => values.extend_from_slice(&[0; UUID_BYTES]),
            Values::Bytes(bytes) => bytes.ends.push(bytes.ends.last().copied().unwrap_or(0)),
            Values::List { ends, .. } => ends.push(ends.last().copied().unwrap_or(0)),
            Values::Struct(members) => members.iter_mut().for_each(Column::pad),
        }
        self.valid.append_null();
    }

    /// Appends what stands in the place of a bad value: NULL, or an empty value where the field is
    /// NOT NULL, since a finished array must be one of its field.
    pub fn push_stand_in(&mut self) {
        if self.push_null().is_ok() {
            return;
        }
        match &mut self.values {
            Values::Struct(members) => members.iter_mut().for_each(Column::push_stand_in),
            _ => {
                self.pad();
                self.valid.truncate(self.valid.len() - 1);
            }
        }
        self.valid.append_non_null();
    }

    /// Takes back everything behind the first `rows` rows, unfinished values included.
    pub fn truncate(&mut self, rows: usize) {
        self.valid.truncate(rows);
        match &mut self.values {
            Values::Boolean(values) => values.truncate(rows),
            Values::Int16(values) => values.truncate(rows),
            Values::Int32(values) => values.truncate(rows),
            Values::Int64(values) => values.truncate(rows),
            Values::Float32(values) => values.truncate(rows),
            Values::Float64(values) => values.truncate(rows),
            Values::Decimal(values) => values.truncate(rows),
            Values::Interval(values) => values.truncate(rows),
            Values::Uuid(values) => values.truncate(rows * UUID_BYTES),
            Values::Bytes(bytes) => bytes.truncate(rows),
            Values::List { ends, items } => {
                ends.truncate(rows);
                let end = ends
                    .last()
                    .map_or(0, |&end| usize::try_from(end).unwrap_or(0));
                items.truncate(end);
            }
            Values::Struct(members) => {
                for member in members {
                    member.truncate(rows);
                }
            }
        }
    }

    /// The rows so far as an array; the column is empty afterwards and has room for as many.
    ///
    /// # Errors
    /// Internal ones only: what was appended is of the field's type.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let nulls = self.valid.finish();
        self.values
            .finish(&self.field, nulls)
            .map_err(|error| Error::internal(format!("column \"{}\": {error}", self.field.name())))
    }
}

impl Values {
    fn new(field: &FieldRef) -> Result<Values> {
        Ok(match field.data_type() {
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 | DataType::Date32 => Values::Int32(Vec::new()),
            DataType::Int64
            | DataType::Time64(TimeUnit::Microsecond)
            | DataType::Timestamp(TimeUnit::Microsecond, _) => Values::Int64(Vec::new()),
            DataType::Float32 => Values::Float32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Decimal128(_, _) => Values::Decimal(Vec::new()),
            DataType::Interval(IntervalUnit::MonthDayNano) => Values::Interval(Vec::new()),
            DataType::FixedSizeBinary(16) => Values::Uuid(Vec::new()),
            DataType::Utf8 | DataType::Binary => Values::Bytes(Bytes::default()),
            DataType::List(item) => Values::List {
                ends: Vec::new(),
                items: Box::new(Column::new(Arc::clone(item))?),
            },
            DataType::Struct(members) => Values::Struct(
                members
                    .iter()
                    .map(|member| Column::new(Arc::clone(member)))
                    .collect::<Result<_>>()?,
            ),
            _ => {
                return Err(Error::unsupported(format!(
                    "column \"{}\" has type {}, which records do not carry",
                    field.name(),
                    SqlType::of(field)?
                )));
            }
        })
    }

    fn finish(
        &mut self,
        field: &FieldRef,
        nulls: Option<NullBuffer>,
    ) -> std::result::Result<ArrayRef, arrow::error::ArrowError> {
        Ok(match self {
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int16(values) => Arc::new(Int16Array::try_new(take(values), nulls)?),
            Values::Int32(values) if field.data_type() == &DataType::Date32 => {
                Arc::new(Date32Array::try_new(take(values), nulls)?)
            }
            Values::Int32(values) => Arc::new(Int32Array::try_new(take(values), nulls)?),
            Values::Int64(values) => match field.data_type() {
                DataType::Timestamp(_, zone) => Arc::new(
                    TimestampMicrosecondArray::try_new(take(values), nulls)?
                        .with_timezone_opt(zone.clone()),
                ),
                DataType::Time64(_) => {
                    Arc::new(Time64MicrosecondArray::try_new(take(values), nulls)?)
                }
                _ => Arc::new(Int64Array::try_new(take(values), nulls)?),
            },
            Values::Float32(values) => Arc::new(Float32Array::try_new(take(values), nulls)?),
            Values::Float64(values) => Arc::new(Float64Array::try_new(take(values), nulls)?),
            Values::Decimal(values) => Arc::new(
                Decimal128Array::try_new(take(values), nulls)?
                    .with_data_type(field.data_type().clone()),
            ),
            Values::Interval(values) => {
                Arc::new(IntervalMonthDayNanoArray::try_new(take(values), nulls)?)
            }
            Values::Uuid(values) => {
                let bytes = Buffer::from_vec(renew(values));
                Arc::new(FixedSizeBinaryArray::try_new(16, bytes, nulls)?)
            }
            Values::Bytes(bytes) => {
                let offsets = offsets(&mut bytes.ends);
                let data = Buffer::from_vec(renew(&mut bytes.data));
                match field.data_type() {
                    DataType::Utf8 => Arc::new(StringArray::try_new(offsets, data, nulls)?),
                    _ => Arc::new(BinaryArray::try_new(offsets, data, nulls)?),
                }
            }
            Values::List { ends, items } => {
                let item = Arc::clone(&items.field);
                let nulls_of_items = items.valid.finish();
                let values = items.values.finish(&item, nulls_of_items)?;
                Arc::new(ListArray::try_new(item, offsets(ends), values, nulls)?)
            }
            Values::Struct(members) => {
                let fields = members
                    .iter()
                    .map(|member| Arc::clone(&member.field))
                    .collect();
                let mut arrays = Vec::with_capacity(members.len());
                for member in members {
                    let nulls_of_member = member.valid.finish();
                    arrays.push(member.values.finish(&member.field, nulls_of_member)?);
                }
                Arc::new(StructArray::try_new(fields, arrays, nulls)?)
            }
        })
    }
}

/// Takes a vector's contents and leaves one with room for as many: batches resemble each other.
fn renew<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

fn take<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    ScalarBuffer::from(renew(values))
}

/// Arrow's offsets: a zero before the ends.
fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let ends = renew(ends);
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.extend_from_slice(&ends);
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}
