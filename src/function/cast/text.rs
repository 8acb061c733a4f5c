//! To and from text, by Postgres' input and output functions.

use std::sync::Arc;

use arrow::array::builder::StringBuilder;
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field};
use bytes::BytesMut;

use crate::error::{Error, Result};
use crate::types::SqlType;
use crate::types::pg::{ColumnBuilder, DateTimeStyle, Format, ValueWriter};

/// The texts of any layout as one.
fn strings(array: &ArrayRef) -> Result<StringArray> {
    let plain = match array.data_type() {
        DataType::Utf8 => array.clone(),
        _ => arrow::compute::cast(array, &DataType::Utf8)
            .map_err(|cause| Error::internal(format!("texts of another layout: {cause}")))?,
    };
    Ok(plain.as_string::<i32>().clone())
}

/// Reads texts as values of the field's type.
///
/// # Errors
/// As [`ColumnBuilder::push`].
pub(super) fn read(array: &ArrayRef, to: &Field, style: DateTimeStyle) -> Result<ArrayRef> {
    let strings = strings(array)?;
    let mut builder = ColumnBuilder::with_style(to, style)?;
    for text in &strings {
        builder.push(text.map(str::as_bytes), Format::Text)?;
    }
    builder.finish()
}

/// Writes values as text.
pub(super) fn write(
    array: &ArrayRef,
    from: &Field,
    to: &Field,
    style: DateTimeStyle,
) -> Result<ArrayRef> {
    let texts: ArrayRef = match array.data_type() {
        // `t` is what a client is sent; the cast says the word.
        DataType::Boolean => {
            let words = array.as_boolean().iter();
            let words = words.map(|value| value.map(|value| if value { "true" } else { "false" }));
            Arc::new(words.collect::<StringArray>())
        }
        _ => {
            let writer = ValueWriter::with_style(from, Format::Text, style)?;
            let mut texts = StringBuilder::with_capacity(array.len(), array.len() * 8);
            let mut buffer = BytesMut::new();
            for row in 0..array.len() {
                buffer.clear();
                match writer.write(array, row, &mut buffer)? {
                    false => texts.append_null(),
                    true => texts.append_value(utf8(&buffer)?),
                }
            }
            Arc::new(texts.finish())
        }
    };
    let texts = shorten(&texts, to)?;
    match texts.data_type() == to.data_type() {
        true => Ok(texts),
        false => arrow::compute::cast(&texts, to.data_type())
            .map_err(|cause| Error::internal(format!("texts of another layout: {cause}"))),
    }
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::internal("a value's text is not UTF-8"))
}

/// Cuts texts at the length of a varchar, as an explicit cast does.
pub(super) fn shorten(array: &ArrayRef, to: &Field) -> Result<ArrayRef> {
    let SqlType::Varchar(Some(length)) = SqlType::of(to)? else {
        return Ok(array.clone());
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let strings = strings(array)?;
    let cut = strings.iter().map(|text| {
        text.map(|text| match text.char_indices().nth(length) {
            Some((end, _)) => &text[..end],
            None => text,
        })
    });
    Ok(Arc::new(cut.collect::<StringArray>()))
}
