//! A function of one column, over a column or over one value for all rows.

use arrow::array::ArrayRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;

use crate::base::limits::{BATCH_ELEMENTS_MAX, BATCH_TEXT_BYTES_MAX, VALUE_BYTES_MAX};
use crate::error::{Error, SqlState};

/// Applies `function`; a constant gives a constant.
pub(crate) fn map_column(
    value: &ColumnarValue,
    function: impl FnOnce(&ArrayRef) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    match value {
        ColumnarValue::Array(array) => Ok(ColumnarValue::Array(function(array)?)),
        ColumnarValue::Scalar(value) => {
            let result = function(&value.to_array()?)?;
            let value = ScalarValue::try_from_array(&result, 0)?;
            Ok(ColumnarValue::Scalar(value))
        }
    }
}

/// The text of a constant argument; `None` for NULL.
///
/// # Errors
/// 0A000 when it is a column.
pub(crate) fn constant_text(value: &ColumnarValue, what: &str) -> Result<Option<String>> {
    let refused = || {
        failure(
            Error::unsupported(format!("{what} must be a constant"))
                .hint("use CASE to choose between several"),
        )
    };
    match value {
        ColumnarValue::Scalar(ScalarValue::Null) => Ok(None),
        ColumnarValue::Scalar(
            ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text),
        ) => Ok(text.clone()),
        _ => Err(refused()),
    }
}

/// 54000 for a text that a function would make and no account holds.
pub(crate) fn text_too_large() -> Error {
    let message = "requested length too large";
    Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message).detail(format!(
        "a value may have {} MB, all values that a function makes of a batch of rows {} MB",
        VALUE_BYTES_MAX >> 20,
        BATCH_TEXT_BYTES_MAX >> 20,
    ))
}

/// 54000 for arrays with more elements than a function may make of a batch of rows.
pub(crate) fn array_too_large() -> Error {
    let message = format!("array size exceeds the maximum allowed ({BATCH_ELEMENTS_MAX})");
    Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
}

/// An error of ours on its way through the library.
pub(crate) fn failure(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
