//! `window_starts(ts, slide, size, offset)`: the starts of every window that holds a time.
//!
//! What HOP and TUMBLE mean as a batch: windows are `[start, start + size)` with
//! `start ≡ offset (mod slide)`, counted from 1970-01-01T00:00 UTC; division is floored, so times
//! before 1970 fall into windows like all others. A time near the ends of the type's range, whose
//! window does not fit, is in no window.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, TimeUnit, TimestampMicrosecondType};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

/// The function; made once.
pub fn window_starts() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(WindowStarts::new())));
    FUNCTION.clone()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowStarts {
    signature: Signature,
}

impl WindowStarts {
    fn new() -> Self {
        WindowStarts {
            signature: Signature::any(4, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for WindowStarts {
    fn name(&self) -> &str {
        "window_starts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match &arguments[0] {
            time @ DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(DataType::List(Arc::new(
                Field::new_list_field(time.clone(), true),
            ))),
            other => exec_err!("window_starts takes a timestamp, not {other}"),
        }
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = call.args[0].to_array(call.number_rows)?;
        let micros = |argument: &ColumnarValue| match argument {
            ColumnarValue::Scalar(ScalarValue::Int64(Some(micros))) => Ok(*micros),
            _ => exec_err!("window_starts takes constant lengths"),
        };
        let (slide, size) = (micros(&call.args[1])?, micros(&call.args[2])?);
        let offset = micros(&call.args[3])?;
        let item = times.data_type().clone();
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let mut starts = Vec::new();
        let mut lengths = Vec::with_capacity(times.len());
        for row in 0..times.len() {
            let before = starts.len();
            if times.is_valid(row) {
                push_starts(times.value(row), slide, size, offset, &mut starts);
            }
            lengths.push(starts.len() - before);
        }
        let values = PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(starts);
        let values: ArrayRef = Arc::new(values.with_data_type(item.clone()));
        let field = Arc::new(Field::new_list_field(item, true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(
            field, offsets, values, None,
        )?)))
    }
}

/// Pushes the starts of the windows that hold `time`, rising.
fn push_starts(time: i64, slide: i64, size: i64, offset: i64, starts: &mut Vec<i64>) {
    let (time, slide, size, offset) = (
        i128::from(time),
        i128::from(slide),
        i128::from(size),
        i128::from(offset),
    );
    let last = (time - offset).div_euclid(slide) * slide + offset;
    // The first start that is later than time - size.
    let mut start = last - (last - (time - size) - 1).div_euclid(slide) * slide;
    while start <= last {
        if let (Ok(fits), Ok(_)) = (i64::try_from(start), i64::try_from(start + size)) {
            starts.push(fits);
        }
        start += slide;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(time: i64, slide: i64, size: i64, offset: i64) -> Vec<i64> {
        let mut starts = Vec::new();
        push_starts(time, slide, size, offset, &mut starts);
        starts
    }

    #[test]
    fn a_time_is_in_every_window_that_holds_it() {
        for time in -50..50 {
            for (slide, size, offset) in
                [(10, 10, 0), (3, 10, 0), (10, 3, 0), (4, 10, 7), (5, 20, -2)]
            {
                let expected: Vec<i64> = (-200..200)
                    .filter(|start| i64::rem_euclid(start - offset, slide) == 0)
                    .filter(|&start| start <= time && time < start + size)
                    .collect();
                assert_eq!(
                    starts(time, slide, size, offset),
                    expected,
                    "{time} {slide} {size}"
                );
            }
        }
    }

    #[test]
    fn a_window_that_does_not_fit_the_type_is_none() {
        assert_eq!(starts(i64::MAX, 10, 10, 0), [] as [i64; 0]);
        assert_eq!(starts(i64::MIN, 10, 10, 0), [] as [i64; 0]);
    }
}
