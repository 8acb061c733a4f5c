//! One value out of any Arrow array, in the few shapes that SQL has.
//!
//! A plan may produce the same SQL type in a dozen physical layouts (`Utf8`, `Utf8View`, a
//! dictionary of either, …). [`Node`] is resolved from the field once and then reads values of its
//! layout without allocation, so that whoever prints them knows SQL types only.

use std::ops::Range;

use arrow::array::{AnyDictionaryArray, Array, ArrowPrimitiveType, AsArray, RunArray, StructArray};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type, i256,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::{Error, Result, SqlState};
use crate::types::calendar::MICROS_PER_DAY;
use crate::types::{SqlType, SystemType};

/// A value that is not NULL. Which SQL type it has is said by the [`Node`] that read it: text may
/// be `jsonb`, and bytes a `uuid`.
#[derive(Clone, Debug)]
pub(crate) enum Datum<'a> {
    Boolean(bool),
    SmallInt(i16),
    Integer(i32),
    BigInt(i64),
    Real(f32),
    DoublePrecision(f64),
    Numeric {
        value: i128,
        scale: i8,
    },
    /// More than 38 digits: only expressions make these.
    WideNumeric {
        value: i256,
        scale: i8,
    },
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Days since 1970-01-01.
    Date(i64),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970-01-01 00:00.
    Timestamp(i64),
    /// Microseconds since 1970-01-01 00:00 UTC.
    Timestamptz(i64),
    Interval(Interval),
    /// Elements of `values`; the node's only child reads them.
    Array {
        values: &'a dyn Array,
        range: Range<usize>,
    },
    /// A row of `values`; the node's children read its columns.
    Struct {
        values: &'a StructArray,
        row: usize,
    },
    /// The text of a type that SQL has no shape for.
    Shown(String),
}

/// Postgres' interval: three parts that do not convert into each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

/// How to read a column's values.
#[derive(Debug)]
pub(crate) struct Node {
    pub sql_type: SqlType,
    /// What a client is told instead of the SQL type.
    pub system_type: Option<SystemType>,
    layout: DataType,
    pub children: Vec<Node>,
}

impl Node {
    /// # Errors
    /// As [`SqlType::of`].
    pub fn new(field: &Field) -> Result<Node> {
        let layout = field.data_type().clone();
        let mut children = children_of(&layout)?;
        let system_type = SystemType::of(field);
        if let (Some(system_type), [child]) = (system_type, children.as_mut_slice()) {
            child.system_type = system_type.element();
        }
        Ok(Node {
            sql_type: SqlType::of(field)?,
            system_type,
            layout,
            children,
        })
    }

    /// Reads a value; None is NULL.
    ///
    /// # Errors
    /// 22008 when a time in coarse units does not fit into microseconds; an internal error when
    /// `array` is not of the field's type.
    pub fn read<'a>(&self, array: &'a dyn Array, row: usize) -> Result<Option<Datum<'a>>> {
        read(&self.layout, array, row)
    }
}

fn children_of(layout: &DataType) -> Result<Vec<Node>> {
    match layout {
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::FixedSizeList(element, _)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::Map(element, _) => Ok(vec![Node::new(element)?]),
        DataType::Struct(fields) => fields.iter().map(|field| Node::new(field)).collect(),
        DataType::Dictionary(_, value) => children_of(value),
        DataType::RunEndEncoded(_, value) => children_of(value.data_type()),
        _ => Ok(Vec::new()),
    }
}

fn read<'a>(layout: &DataType, array: &'a dyn Array, row: usize) -> Result<Option<Datum<'a>>> {
    assert!(
        row < array.len(),
        "row {row} of an array of {}",
        array.len()
    );
    if array.is_null(row) {
        return Ok(None);
    }
    let datum = match layout {
        DataType::Null => return Ok(None),
        DataType::Dictionary(_, value) => {
            return match dictionary_slot(array, row)? {
                Some((values, slot)) => read(value, values, slot),
                None => Ok(None),
            };
        }
        DataType::RunEndEncoded(ends, value) => {
            let (values, slot) = run_slot(ends.data_type(), array, row)?;
            return read(value.data_type(), values, slot);
        }
        DataType::Boolean => Datum::Boolean(typed(array.as_boolean_opt(), array)?.value(row)),
        DataType::Int8 => Datum::SmallInt(native::<Int8Type>(array, row)?.into()),
        DataType::UInt8 => Datum::SmallInt(native::<UInt8Type>(array, row)?.into()),
        DataType::Int16 => Datum::SmallInt(native::<Int16Type>(array, row)?),
        DataType::UInt16 => Datum::Integer(native::<UInt16Type>(array, row)?.into()),
        DataType::Int32 => Datum::Integer(native::<Int32Type>(array, row)?),
        DataType::UInt32 => Datum::BigInt(native::<UInt32Type>(array, row)?.into()),
        DataType::Int64 => Datum::BigInt(native::<Int64Type>(array, row)?),
        DataType::UInt64 => Datum::Numeric {
            value: native::<UInt64Type>(array, row)?.into(),
            scale: 0,
        },
        DataType::Float16 => Datum::Real(native::<Float16Type>(array, row)?.to_f32()),
        DataType::Float32 => Datum::Real(native::<Float32Type>(array, row)?),
        DataType::Float64 => Datum::DoublePrecision(native::<Float64Type>(array, row)?),
        DataType::Decimal32(_, scale) => Datum::Numeric {
            value: native::<Decimal32Type>(array, row)?.into(),
            scale: *scale,
        },
        DataType::Decimal64(_, scale) => Datum::Numeric {
            value: native::<Decimal64Type>(array, row)?.into(),
            scale: *scale,
        },
        DataType::Decimal128(_, scale) => Datum::Numeric {
            value: native::<Decimal128Type>(array, row)?,
            scale: *scale,
        },
        DataType::Decimal256(_, scale) => Datum::WideNumeric {
            value: native::<Decimal256Type>(array, row)?,
            scale: *scale,
        },
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => read_bytes(layout, array, row)?,
        DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(_, _)
        | DataType::Duration(_)
        | DataType::Interval(_) => read_time(layout, array, row)?,
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(_, _)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Map(_, _) => read_list(layout, array, row)?,
        DataType::Struct(_) => Datum::Struct {
            values: typed(array.as_struct_opt(), array)?,
            row,
        },
        DataType::Union(_, _) => Datum::Shown(show(array, row)?),
    };
    Ok(Some(datum))
}

fn read_bytes<'a>(layout: &DataType, array: &'a dyn Array, row: usize) -> Result<Datum<'a>> {
    Ok(match layout {
        DataType::Utf8 => Datum::Text(typed(array.as_string_opt::<i32>(), array)?.value(row)),
        DataType::LargeUtf8 => Datum::Text(typed(array.as_string_opt::<i64>(), array)?.value(row)),
        DataType::Utf8View => Datum::Text(typed(array.as_string_view_opt(), array)?.value(row)),
        DataType::Binary => Datum::Bytes(typed(array.as_binary_opt::<i32>(), array)?.value(row)),
        DataType::LargeBinary => {
            Datum::Bytes(typed(array.as_binary_opt::<i64>(), array)?.value(row))
        }
        DataType::BinaryView => Datum::Bytes(typed(array.as_binary_view_opt(), array)?.value(row)),
        DataType::FixedSizeBinary(_) => {
            Datum::Bytes(typed(array.as_fixed_size_binary_opt(), array)?.value(row))
        }
        _ => return Err(mismatch(array)),
    })
}

fn read_time<'a>(layout: &DataType, array: &'a dyn Array, row: usize) -> Result<Datum<'a>> {
    Ok(match layout {
        DataType::Date32 => Datum::Date(native::<Date32Type>(array, row)?.into()),
        DataType::Date64 => {
            Datum::Date(native::<Date64Type>(array, row)?.div_euclid(MICROS_PER_DAY / 1_000))
        }
        DataType::Time32(TimeUnit::Second) => {
            Datum::Time(i64::from(native::<Time32SecondType>(array, row)?) * 1_000_000)
        }
        DataType::Time32(_) => {
            Datum::Time(i64::from(native::<Time32MillisecondType>(array, row)?) * 1_000)
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            Datum::Time(native::<Time64NanosecondType>(array, row)?.div_euclid(1_000))
        }
        DataType::Time64(_) => Datum::Time(native::<Time64MicrosecondType>(array, row)?),
        DataType::Timestamp(unit, zone) => {
            let units = match unit {
                TimeUnit::Second => native::<TimestampSecondType>(array, row)?,
                TimeUnit::Millisecond => native::<TimestampMillisecondType>(array, row)?,
                TimeUnit::Microsecond => native::<TimestampMicrosecondType>(array, row)?,
                TimeUnit::Nanosecond => native::<TimestampNanosecondType>(array, row)?,
            };
            let micros = to_micros(units, unit).ok_or_else(|| out_of_range("timestamp"))?;
            match zone {
                None => Datum::Timestamp(micros),
                Some(_) => Datum::Timestamptz(micros),
            }
        }
        DataType::Duration(unit) => {
            let units = match unit {
                TimeUnit::Second => native::<DurationSecondType>(array, row)?,
                TimeUnit::Millisecond => native::<DurationMillisecondType>(array, row)?,
                TimeUnit::Microsecond => native::<DurationMicrosecondType>(array, row)?,
                TimeUnit::Nanosecond => native::<DurationNanosecondType>(array, row)?,
            };
            Datum::Interval(Interval {
                micros: to_micros(units, unit).ok_or_else(|| out_of_range("interval"))?,
                ..Interval::default()
            })
        }
        DataType::Interval(IntervalUnit::YearMonth) => Datum::Interval(Interval {
            months: native::<IntervalYearMonthType>(array, row)?,
            ..Interval::default()
        }),
        DataType::Interval(IntervalUnit::DayTime) => {
            let value = native::<IntervalDayTimeType>(array, row)?;
            Datum::Interval(Interval {
                months: 0,
                days: value.days,
                micros: i64::from(value.milliseconds) * 1_000,
            })
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let value = native::<IntervalMonthDayNanoType>(array, row)?;
            Datum::Interval(Interval {
                months: value.months,
                days: value.days,
                micros: value.nanoseconds / 1_000,
            })
        }
        _ => return Err(mismatch(array)),
    })
}

fn read_list<'a>(layout: &DataType, array: &'a dyn Array, row: usize) -> Result<Datum<'a>> {
    let (values, start, length): (&dyn Array, usize, usize) = match layout {
        DataType::List(_) => {
            let list = typed(array.as_list_opt::<i32>(), array)?;
            let start = index(list.value_offsets()[row])?;
            (list.values(), start, index(list.value_length(row))?)
        }
        DataType::LargeList(_) => {
            let list = typed(array.as_list_opt::<i64>(), array)?;
            let start = index(list.value_offsets()[row])?;
            (list.values(), start, index(list.value_length(row))?)
        }
        DataType::FixedSizeList(_, _) => {
            let list = typed(array.as_fixed_size_list_opt(), array)?;
            let start = index(list.value_offset(row))?;
            (list.values(), start, index(list.value_length())?)
        }
        DataType::ListView(_) => {
            let list = typed(array.as_list_view_opt::<i32>(), array)?;
            (
                list.values(),
                index(list.value_offset(row))?,
                index(list.value_size(row))?,
            )
        }
        DataType::LargeListView(_) => {
            let list = typed(array.as_list_view_opt::<i64>(), array)?;
            (
                list.values(),
                index(list.value_offset(row))?,
                index(list.value_size(row))?,
            )
        }
        DataType::Map(_, _) => {
            let map = typed(array.as_map_opt(), array)?;
            let start = index(map.value_offsets()[row])?;
            (map.entries(), start, index(map.value_length(row))?)
        }
        _ => return Err(mismatch(array)),
    };
    Ok(Datum::Array {
        values,
        range: start..start + length,
    })
}

/// The values of a dictionary and the slot that a row points to; None when its key is NULL.
fn dictionary_slot(array: &dyn Array, row: usize) -> Result<Option<(&dyn Array, usize)>> {
    let dictionary: &dyn AnyDictionaryArray = typed(array.as_any_dictionary_opt(), array)?;
    let keys = dictionary.keys();
    let slot = match read(keys.data_type(), keys, row)? {
        None => return Ok(None),
        Some(Datum::SmallInt(key)) => index(key)?,
        Some(Datum::Integer(key)) => index(key)?,
        Some(Datum::BigInt(key)) => index(key)?,
        Some(Datum::Numeric { value, .. }) => index(value)?,
        Some(_) => return Err(mismatch(array)),
    };
    Ok(Some((dictionary.values().as_ref(), slot)))
}

/// The values of a run-length encoded array and the slot that a row is in.
fn run_slot<'a>(
    ends: &DataType,
    array: &'a dyn Array,
    row: usize,
) -> Result<(&'a dyn Array, usize)> {
    let any = array.as_any();
    match ends {
        DataType::Int16 => {
            let runs = typed(any.downcast_ref::<RunArray<Int16Type>>(), array)?;
            Ok((runs.values().as_ref(), runs.get_physical_index(row)))
        }
        DataType::Int32 => {
            let runs = typed(any.downcast_ref::<RunArray<Int32Type>>(), array)?;
            Ok((runs.values().as_ref(), runs.get_physical_index(row)))
        }
        _ => {
            let runs = typed(any.downcast_ref::<RunArray<Int64Type>>(), array)?;
            Ok((runs.values().as_ref(), runs.get_physical_index(row)))
        }
    }
}

fn show(array: &dyn Array, row: usize) -> Result<String> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options)
        .map_err(|cause| Error::internal(format!("cannot show a value as text: {cause}")))?;
    Ok(formatter.value(row).to_string())
}

fn native<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> Result<T::Native> {
    Ok(typed(array.as_primitive_opt::<T>(), array)?.value(row))
}

fn typed<T>(downcast: Option<T>, array: &dyn Array) -> Result<T> {
    downcast.ok_or_else(|| mismatch(array))
}

fn mismatch(array: &dyn Array) -> Error {
    Error::internal(format!(
        "a column of {} is not of its field's type",
        array.data_type()
    ))
}

/// An offset of Arrow's as an index.
fn index<T: TryInto<usize>>(offset: T) -> Result<usize> {
    offset
        .try_into()
        .map_err(|_| Error::internal("an array has a negative offset"))
}

fn to_micros(units: i64, unit: &TimeUnit) -> Option<i64> {
    match unit {
        TimeUnit::Second => units.checked_mul(1_000_000),
        TimeUnit::Millisecond => units.checked_mul(1_000),
        TimeUnit::Microsecond => Some(units),
        TimeUnit::Nanosecond => Some(units.div_euclid(1_000)),
    }
}

pub(crate) fn out_of_range(what: &str) -> Error {
    Error::new(
        SqlState::DATETIME_FIELD_OVERFLOW,
        format!("{what} out of range"),
    )
}
