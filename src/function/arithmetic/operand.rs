//! An operand: a column, or one value for all rows; and the loops over two of them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, new_null_array};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

use crate::error::Error;
use crate::function::columnar::failure;

/// Values of one primitive type.
pub(super) enum Operand<T: ArrowPrimitiveType> {
    Column(PrimitiveArray<T>),
    /// NULL is `None`.
    Constant(Option<T::Native>),
}

impl<T: ArrowPrimitiveType> Operand<T> {
    /// # Errors
    /// Internal, when the values are of another type than the plan says.
    pub fn new(value: &ColumnarValue) -> Result<Operand<T>> {
        let typed = |array: &ArrayRef| {
            array.as_primitive_opt::<T>().cloned().ok_or_else(|| {
                failure(Error::internal(format!(
                    "an operand of {} where {} is expected",
                    array.data_type(),
                    T::DATA_TYPE
                )))
            })
        };
        Ok(match value {
            ColumnarValue::Array(array) => Operand::Column(typed(array)?),
            ColumnarValue::Scalar(scalar) => {
                let array = typed(&scalar.to_array()?)?;
                Operand::Constant(array.is_valid(0).then(|| array.value(0)))
            }
        })
    }
}

/// The function's value for every row in which neither operand is NULL.
///
/// # Errors
/// The first one that `function` gives.
pub(super) fn combine<A, B, O>(
    left: &Operand<A>,
    right: &Operand<B>,
    data_type: &DataType,
    function: impl Fn(A::Native, B::Native) -> Result<O::Native, Error>,
) -> Result<ArrayRef>
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    let function = |a, b| function(a, b).map_err(external);
    let values: PrimitiveArray<O> = match (left, right) {
        (Operand::Column(left), Operand::Column(right)) => {
            arrow::compute::try_binary(left, right, function)?
        }
        (Operand::Column(left), Operand::Constant(Some(right))) => {
            left.try_unary(|left| function(left, *right))?
        }
        (Operand::Constant(Some(left)), Operand::Column(right)) => {
            right.try_unary(|right| function(*left, right))?
        }
        (Operand::Constant(Some(left)), Operand::Constant(Some(right))) => {
            PrimitiveArray::from_value(function(*left, *right)?, 1)
        }
        (Operand::Column(column), Operand::Constant(None)) => {
            return Ok(new_null_array(data_type, column.len()));
        }
        (Operand::Constant(None), Operand::Column(column)) => {
            return Ok(new_null_array(data_type, column.len()));
        }
        (Operand::Constant(_), Operand::Constant(_)) => return Ok(new_null_array(data_type, 1)),
    };
    Ok(Arc::new(values.with_data_type(data_type.clone())))
}

fn external(error: Error) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}
