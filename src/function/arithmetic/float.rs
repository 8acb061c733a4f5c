//! Floats: IEEE 754, but what is infinite only because it is too large is an error, and so is a
//! result that is zero only because it is too small.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

use crate::error::{Error, SqlState};
use crate::function::arithmetic::ArithmeticOperator;
use crate::function::arithmetic::integer::division_by_zero;
use crate::function::arithmetic::operand::{Operand, combine};

macro_rules! floats {
    ($kind:ty, $operator:expr, $left:expr, $right:expr) => {{
        let (left, right) = (
            Operand::<$kind>::new($left)?,
            Operand::<$kind>::new($right)?,
        );
        let result = <$kind as arrow::array::ArrowPrimitiveType>::DATA_TYPE;
        macro_rules! with {
            ($function:expr) => {
                combine::<$kind, $kind, $kind>(&left, &right, &result, $function)
            };
        }
        let sum = |a: <$kind as arrow::array::ArrowPrimitiveType>::Native, b, value| match () {
            () if overflows(a.is_finite(), f64::from(b), f64::from(value)) => Err(overflow()),
            () => Ok(value),
        };
        match $operator {
            ArithmeticOperator::Add => with!(|a, b| sum(a, b, a + b)),
            ArithmeticOperator::Subtract => with!(|a, b| sum(a, b, a - b)),
            ArithmeticOperator::Multiply => with!(|a, b| match a * b {
                value if value == 0.0 && a != 0.0 && b != 0.0 => Err(underflow()),
                value => sum(a, b, value),
            }),
            ArithmeticOperator::Divide => with!(|a, b| match a / b {
                _ if b == 0.0 && !a.is_nan() => Err(division_by_zero()),
                value if value == 0.0 && a != 0.0 && b.is_finite() => Err(underflow()),
                value => sum(a, b, value),
            }),
            ArithmeticOperator::Modulo => with!(|a, b| match b == 0.0 {
                true => Err(division_by_zero()),
                false => Ok(a % b),
            }),
        }
    }};
}

pub(super) fn compute(
    operator: ArithmeticOperator,
    left: &ColumnarValue,
    right: &ColumnarValue,
    result: &DataType,
) -> Result<ArrayRef> {
    match result {
        DataType::Float32 => floats!(Float32Type, operator, left, right),
        _ => floats!(Float64Type, operator, left, right),
    }
}

/// Whether two finite numbers gave an infinite one.
fn overflows(left_is_finite: bool, right: f64, value: f64) -> bool {
    value.is_infinite() && left_is_finite && right.is_finite()
}

fn overflow() -> Error {
    let message = "value out of range: overflow";
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
}

fn underflow() -> Error {
    let message = "value out of range: underflow";
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
}
