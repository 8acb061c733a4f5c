//! `interval_length(i)`: the length by which intervals compare.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, Decimal128Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::function::columnar::map_column;
use crate::types::calendar::MICROS_PER_DAY;

const DAYS_PER_MONTH: i128 = 30;
const NANOS_PER_MICRO: i64 = 1_000;

/// The microseconds of an interval whose months have 30 days; they need more than 64 bits.
pub(crate) fn length_micros(interval: IntervalMonthDayNano) -> i128 {
    let days = i128::from(interval.months) * DAYS_PER_MONTH + i128::from(interval.days);
    days * i128::from(MICROS_PER_DAY) + i128::from(interval.nanoseconds / NANOS_PER_MICRO)
}

/// The function; made once.
pub fn length_function() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        Arc::new(ScalarUDF::new_from_impl(Length {
            signature: Signature::exact(vec![interval], Volatility::Immutable),
        }))
    });
    FUNCTION.clone()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Length {
    signature: Signature,
}

const LENGTH: DataType = DataType::Decimal128(38, 0);

impl ScalarUDFImpl for Length {
    fn name(&self) -> &str {
        "interval_length"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(LENGTH)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        map_column(&call.args[0], |array| {
            let intervals = array.as_primitive::<IntervalMonthDayNanoType>();
            let lengths: PrimitiveArray<Decimal128Type> = intervals.unary(length_micros);
            let lengths: ArrayRef = Arc::new(lengths.with_data_type(LENGTH));
            Ok(lengths)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_have_thirty_days_and_days_a_day() {
        let length = |months, days, micros: i64| {
            length_micros(IntervalMonthDayNano::new(months, days, micros * 1_000))
        };
        assert_eq!(length(1, 0, 0), length(0, 30, 0));
        assert_eq!(length(0, 1, 0), length(0, 0, MICROS_PER_DAY));
        assert_eq!(length(1, -30, 0), 0);
        assert!(length(i32::MAX, i32::MAX, 0) > length(i32::MAX, 0, 0));
        assert!(length(i32::MIN, i32::MIN, i64::MIN / 1_000) < length(i32::MIN, i32::MIN, 0));
    }
}
