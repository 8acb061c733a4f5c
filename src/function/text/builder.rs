//! A column of texts that is measured while it is built, and the output of any value as text.

use std::sync::Arc;

use arrow::array::builder::StringBuilder;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use bytes::BytesMut;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;

use crate::base::limits::{BATCH_TEXT_BYTES_MAX, VALUE_BYTES_MAX};
use crate::error::Error;
use crate::function::columnar::{failure, text_too_large};
use crate::types::pg::{DateTimeStyle, Format, ValueWriter};

/// Texts under construction.
pub(super) struct Texts {
    builder: StringBuilder,
    bytes: usize,
}

impl Texts {
    pub fn new(rows: usize) -> Texts {
        Texts {
            builder: StringBuilder::with_capacity(rows, 0),
            bytes: 0,
        }
    }

    /// Room for a text of so many bytes.
    ///
    /// # Errors
    /// 54000 when it is too long, or the texts together.
    pub fn reserve(&mut self, bytes: usize) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        match bytes > VALUE_BYTES_MAX || self.bytes > BATCH_TEXT_BYTES_MAX {
            true => Err(failure(text_too_large())),
            false => Ok(()),
        }
    }

    /// # Errors
    /// As [`Texts::reserve`].
    pub fn push(&mut self, text: &str) -> Result<()> {
        self.reserve(text.len())?;
        self.builder.append_value(text);
        Ok(())
    }

    /// A text of parts; room must be reserved.
    pub fn push_parts<'a>(&mut self, parts: impl Iterator<Item = &'a str>) -> Result<()> {
        use std::fmt::Write;
        for part in parts {
            self.builder
                .write_str(part)
                .map_err(|_| failure(Error::internal("a text cannot be written")))?;
        }
        self.builder.append_value("");
        Ok(())
    }

    pub fn push_null(&mut self) {
        self.builder.append_null();
    }

    pub fn finish(mut self) -> ArrayRef {
        Arc::new(self.builder.finish())
    }
}

/// Applies a function to rows; of constants alone once, which gives a constant.
pub(super) fn by_rows(
    arguments: &[ColumnarValue],
    rows: usize,
    function: impl FnOnce(&[ArrayRef], usize) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let is_constant = |argument: &ColumnarValue| matches!(argument, ColumnarValue::Scalar(_));
    let is_once = arguments.iter().all(is_constant);
    let rows = if is_once { 1 } else { rows };
    let arrays = arguments.iter().map(|argument| argument.to_array(rows));
    let result = function(&arrays.collect::<Result<Vec<_>>>()?, rows)?;
    match is_once {
        true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
            &result, 0,
        )?)),
        false => Ok(ColumnarValue::Array(result)),
    }
}

/// A column's values as they are sent to a client.
///
/// # Errors
/// As [`ValueWriter::write`] and [`Texts::reserve`].
pub(super) fn shown(array: &ArrayRef, field: &FieldRef, style: DateTimeStyle) -> Result<ArrayRef> {
    if matches!(array.data_type(), DataType::Utf8) {
        return Ok(array.clone());
    }
    // The argument's field may say less than the values are.
    let field =
        Field::new("", array.data_type().clone(), true).with_metadata(field.metadata().clone());
    let writer = ValueWriter::with_style(&field, Format::Text, style).map_err(failure)?;
    let mut texts = Texts::new(array.len());
    let mut buffer = BytesMut::new();
    for row in 0..array.len() {
        buffer.clear();
        match writer.write(array, row, &mut buffer).map_err(failure)? {
            false => texts.push_null(),
            true => texts.push(
                std::str::from_utf8(&buffer)
                    .map_err(|_| failure(Error::internal("a value's text is not UTF-8")))?,
            )?,
        }
    }
    Ok(texts.finish())
}

/// The text at `row`; `None` for NULL.
pub(super) fn text_at(array: &ArrayRef, row: usize) -> Option<&str> {
    let texts = array.as_string::<i32>();
    texts.is_valid(row).then(|| texts.value(row))
}
