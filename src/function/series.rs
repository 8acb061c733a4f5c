//! `generate_series(start, stop [, step])` as an array: numbers, and times by an interval.
//!
//! ```text
//!   generate_series(1, 7, 3)                                     {1,4,7}
//!   generate_series(TIMESTAMP '2026-01-30', '2026-04-01', '1 month')
//!       2026-01-30, 2026-02-28, 2026-03-28             each from the one before, as in Postgres
//! ```
//!
//! A date is the moment at which it begins, so that a series between dates has a time zone; a day
//! is one of the statement's zone. Elements are bounded, since the array is made at once; a series
//! of constants in FROM is not made by this function and has no bound.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, ListArray, PrimitiveArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Int32Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::base::limits::BATCH_ELEMENTS_MAX;
use crate::error::{Error, SqlState};
use crate::function::arithmetic::{ArithmeticOperator, Operation, moved};
use crate::function::columnar::{array_too_large, failure};
use crate::function::time::zone_of;
use crate::types::{SqlType, Zone};

/// The function.
pub fn generate_series() -> ScalarUDF {
    ScalarUDF::new_from_impl(Series {
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Series {
    signature: Signature,
}

impl ScalarUDFImpl for Series {
    fn name(&self) -> &str {
        "generate_series"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let element = self.coerce_types(arguments)?.swap_remove(0);
        Ok(DataType::List(Arc::new(Field::new_list_field(
            element, true,
        ))))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        series_types(arguments).ok_or_else(|| {
            let names: Vec<String> = arguments.iter().map(SqlType::name_of).collect();
            let message = format!(
                "function generate_series({}) does not exist",
                names.join(", ")
            );
            let error = Error::new(SqlState::UNDEFINED_FUNCTION, message);
            failure(error.hint("give it integers, numerics, or timestamps and an interval"))
        })
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = call.number_rows;
        let arrays = call.args.iter().map(|argument| argument.to_array(rows));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let DataType::List(element) = call.return_field.data_type() else {
            return Err(failure(Error::internal("a series that is no list")));
        };
        let (lengths, valid, values) = match element.data_type() {
            DataType::Int32 => numbers::<Int32Type>(&arrays, element.data_type(), 1)?,
            DataType::Int64 => numbers::<Int64Type>(&arrays, element.data_type(), 1)?,
            DataType::Decimal128(_, scale) => {
                let one = 10_i128.pow(u32::from(scale.unsigned_abs()));
                numbers::<Decimal128Type>(&arrays, element.data_type(), one)?
            }
            DataType::Timestamp(_, zone) => {
                let zone = match zone {
                    Some(_) => zone_of(&call.config_options),
                    None => Zone::UTC,
                };
                times(&arrays, element.data_type(), zone)?
            }
            other => {
                let message = format!("a series of {other}");
                return Err(failure(Error::internal(message)));
            }
        };
        let offsets = OffsetBuffer::from_lengths(lengths);
        let nulls = Some(NullBuffer::from(valid));
        let lists = ListArray::try_new(element.clone(), offsets, values, nulls)?;
        Ok(ColumnarValue::Array(Arc::new(lists)))
    }
}

/// What the arguments are brought to.
fn series_types(arguments: &[DataType]) -> Option<Vec<DataType>> {
    let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::Null);
    let is_time =
        |data_type: &DataType| matches!(data_type, DataType::Timestamp(..) | DataType::Date32);
    if let [start, stop, step] = arguments
        && (is_time(start) || is_time(stop))
    {
        let has_zone = |data_type: &DataType| matches!(data_type, DataType::Timestamp(_, Some(_)));
        let is_plain = |data_type: &DataType| matches!(data_type, DataType::Timestamp(_, None));
        if !(is_time(start) || is_text(start)) || !(is_time(stop) || is_text(stop)) {
            return None;
        }
        let ends = [start, stop];
        let has_zone = ends.into_iter().any(has_zone) || !ends.into_iter().any(is_plain);
        let zone = has_zone.then(|| Arc::from("UTC"));
        let end = DataType::Timestamp(TimeUnit::Microsecond, zone);
        let is_step = matches!(step, DataType::Interval(_) | DataType::Duration(_));
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        return (is_step || is_text(step)).then(|| vec![end.clone(), end, interval]);
    }
    if !(2..=3).contains(&arguments.len()) {
        return None;
    }
    let mut common = DataType::Null;
    for argument in arguments.iter().filter(|argument| !argument.is_null()) {
        let found = Operation::find(ArithmeticOperator::Modulo, argument, argument)?.result;
        common = match common {
            DataType::Null => found,
            common => Operation::find(ArithmeticOperator::Modulo, &common, &found)?.result,
        };
    }
    let element = match common {
        DataType::Null | DataType::Int16 | DataType::Int32 => DataType::Int32,
        DataType::Int64 => DataType::Int64,
        DataType::Decimal128(_, scale) => DataType::Decimal128(38, scale),
        _ => return None,
    };
    Some(vec![element; arguments.len()])
}

/// The lengths of the lists, which of them are not NULL, and all elements.
type Lists = (Vec<usize>, Vec<bool>, ArrayRef);

fn is_whole(arrays: &[ArrayRef], row: usize) -> bool {
    arrays.iter().all(|array| array.is_valid(row))
}

fn zero_step() -> Error {
    let message = "step size cannot equal zero";
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn numbers<T: ArrowPrimitiveType>(
    arrays: &[ArrayRef],
    element: &DataType,
    one: i128,
) -> Result<Lists>
where
    T::Native: TryFrom<i128> + Into<i128>,
{
    let rows = arrays[0].len();
    let (mut lengths, mut valid) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    let mut values: Vec<T::Native> = Vec::new();
    let at =
        |place: usize, row: usize| -> i128 { arrays[place].as_primitive::<T>().value(row).into() };
    for row in 0..rows {
        valid.push(is_whole(arrays, row));
        if !is_whole(arrays, row) {
            lengths.push(0);
            continue;
        }
        let (start, stop) = (at(0, row), at(1, row));
        let step = if arrays.len() > 2 { at(2, row) } else { one };
        if step == 0 {
            return Err(failure(zero_step()));
        }
        // Numbers of 128 bits have 38 digits: their difference does not wrap.
        let distance = if step > 0 { stop - start } else { start - stop };
        let length = match distance < 0 {
            true => 0,
            false => distance / step.abs() + 1,
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > BATCH_ELEMENTS_MAX - values.len().min(BATCH_ELEMENTS_MAX) {
            return Err(failure(array_too_large()));
        }
        let mut value = start;
        for _ in 0..length {
            // Between start and stop, which both are of the type.
            values.extend(T::Native::try_from(value).ok());
            value += step;
        }
        lengths.push(length);
    }
    let values = PrimitiveArray::<T>::new(values.into(), None);
    Ok((
        lengths,
        valid,
        Arc::new(values.with_data_type(element.clone())),
    ))
}

fn times(arrays: &[ArrayRef], element: &DataType, zone: Zone) -> Result<Lists> {
    let rows = arrays[0].len();
    let (mut lengths, mut valid) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    let mut values: Vec<i64> = Vec::new();
    let at = |place: usize, row: usize| {
        arrays[place]
            .as_primitive::<TimestampMicrosecondType>()
            .value(row)
    };
    let steps = arrays[2].as_primitive::<IntervalMonthDayNanoType>();
    for row in 0..rows {
        valid.push(is_whole(arrays, row));
        if !is_whole(arrays, row) {
            lengths.push(0);
            continue;
        }
        let (start, stop, step) = (at(0, row), at(1, row), steps.value(row));
        let before = values.len();
        let is_forward = match sign(step) {
            0 => return Err(failure(zero_step())),
            sign => sign > 0,
        };
        let mut time = Some(start);
        while let Some(next) = time.filter(|time| match is_forward {
            true => *time <= stop,
            false => *time >= stop,
        }) {
            if values.len() >= BATCH_ELEMENTS_MAX {
                return Err(failure(array_too_large()));
            }
            values.push(next);
            // What is out of range is behind the end.
            time = moved(next, step, zone).filter(|moved| *moved != next);
        }
        lengths.push(values.len() - before);
    }
    let values = PrimitiveArray::<TimestampMicrosecondType>::new(values.into(), None);
    Ok((
        lengths,
        valid,
        Arc::new(values.with_data_type(element.clone())),
    ))
}

/// Of the interval's length, a month having 30 days.
fn sign(step: IntervalMonthDayNano) -> i128 {
    crate::function::interval::length_micros(step).signum()
}
