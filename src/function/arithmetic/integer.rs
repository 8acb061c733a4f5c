//! Integers: `smallint`, `integer` and `bigint`.

use arrow::array::{ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

use crate::error::{Error, SqlState};
use crate::function::arithmetic::ArithmeticOperator;
use crate::function::arithmetic::operand::{Operand, combine};

pub(super) fn compute(
    operator: ArithmeticOperator,
    left: &ColumnarValue,
    right: &ColumnarValue,
    result: &DataType,
) -> Result<ArrayRef> {
    match result {
        DataType::Int16 => typed::<Int16Type>(operator, left, right, "smallint"),
        DataType::Int32 => typed::<Int32Type>(operator, left, right, "integer"),
        _ => typed::<Int64Type>(operator, left, right, "bigint"),
    }
}

fn typed<T: ArrowPrimitiveType>(
    operator: ArithmeticOperator,
    left: &ColumnarValue,
    right: &ColumnarValue,
    type_name: &str,
) -> Result<ArrayRef> {
    let (left, right) = (Operand::<T>::new(left)?, Operand::<T>::new(right)?);
    let fits = |value: Result<T::Native, _>| value.map_err(|_| out_of_range(type_name));
    // The operator is chosen outside of the loop.
    macro_rules! with {
        ($function:expr) => {
            combine::<T, T, T>(&left, &right, &T::DATA_TYPE, $function)
        };
    }
    let (zero, minus_one) = (
        T::Native::ZERO,
        T::Native::ZERO.sub_wrapping(T::Native::ONE),
    );
    match operator {
        ArithmeticOperator::Add => with!(|a, b| fits(a.add_checked(b))),
        ArithmeticOperator::Subtract => with!(|a, b| fits(a.sub_checked(b))),
        ArithmeticOperator::Multiply => with!(|a, b| fits(a.mul_checked(b))),
        ArithmeticOperator::Divide => with!(|a, b| match b == zero {
            true => Err(division_by_zero()),
            false => fits(a.div_checked(b)),
        }),
        ArithmeticOperator::Modulo => with!(|a, b| match b == zero {
            true => Err(division_by_zero()),
            // The least integer divided by −1 is out of range, its rest is not.
            false if b == minus_one => Ok(zero),
            false => Ok(a.mod_wrapping(b)),
        }),
    }
}

pub(super) fn out_of_range(type_name: &str) -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("{type_name} out of range"),
    )
}

pub(super) fn division_by_zero() -> Error {
    Error::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}
