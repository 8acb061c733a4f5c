//! `interval_least(a, b, …)` and `interval_greatest`: the one of several values, by length.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, IntervalMonthDayNanoType, IntervalUnit};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::function::interval::{End, length_micros};

/// The function that `least` or `greatest` of intervals is.
pub fn choice_function(end: End) -> Arc<ScalarUDF> {
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    Arc::new(ScalarUDF::new_from_impl(Choice {
        end,
        signature: Signature::variadic(vec![interval], Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Choice {
    end: End,
    signature: Signature,
}

impl ScalarUDFImpl for Choice {
    fn name(&self) -> &str {
        match self.end {
            End::Least => "interval_least",
            End::Greatest => "interval_greatest",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Interval(IntervalUnit::MonthDayNano))
    }

    /// NULLs are left out; of equal ones the first is chosen.
    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let wanted = match self.end {
            End::Least => Ordering::Less,
            End::Greatest => Ordering::Greater,
        };
        let arrays = ColumnarValue::values_to_arrays(&call.args)?;
        let columns: Vec<&PrimitiveArray<IntervalMonthDayNanoType>> =
            arrays.iter().map(|array| array.as_primitive()).collect();
        let rows = columns.first().map_or(0, |column| column.len());
        let chosen = (0..rows).map(|row| {
            let values = columns.iter().filter(|column| column.is_valid(row));
            values
                .map(|column| column.value(row))
                .reduce(|best, value| {
                    match length_micros(value).cmp(&length_micros(best)) == wanted {
                        true => value,
                        false => best,
                    }
                })
        });
        let chosen: PrimitiveArray<IntervalMonthDayNanoType> = chosen.collect();
        Ok(ColumnarValue::Array(Arc::new(chosen)))
    }
}
