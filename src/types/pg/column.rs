//! Columns out of texts and bytes: COPY FROM, literals and parameters.

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use datafusion::scalar::ScalarValue;

use crate::error::{Error, Result};
use crate::types::pg::writer::{DateTimeStyle, Format};

/// Reads a parameter; a text without a zone is in UTC.
///
/// # Errors
/// As [`ColumnBuilder::push`].
pub fn parse_value(field: &Field, format: Format, bytes: &[u8]) -> Result<ScalarValue> {
    parse_value_in(field, format, bytes, DateTimeStyle::default())
}

/// Reads a parameter by the session's settings.
///
/// # Errors
/// As [`ColumnBuilder::push`].
pub fn parse_value_in(
    field: &Field,
    _format: Format,
    _bytes: &[u8],
    _style: DateTimeStyle,
) -> Result<ScalarValue> {
    Err(Error::unsupported(format!(
        "parameters of {} are not read yet",
        field.data_type()
    )))
}

/// Collects a column from texts and bytes.
#[derive(Debug)]
pub struct ColumnBuilder {
    field: Field,
}

impl ColumnBuilder {
    /// A builder that reads texts without a zone as UTC.
    ///
    /// # Errors
    /// As [`crate::types::SqlType::of`].
    pub fn new(field: &Field) -> Result<ColumnBuilder> {
        ColumnBuilder::with_style(field, DateTimeStyle::default())
    }

    /// A builder with the session's settings.
    ///
    /// # Errors
    /// As [`crate::types::SqlType::of`].
    pub fn with_style(field: &Field, _style: DateTimeStyle) -> Result<ColumnBuilder> {
        Ok(ColumnBuilder {
            field: field.clone(),
        })
    }

    /// Appends a value; None is NULL. After an error nothing is appended.
    ///
    /// # Errors
    /// 22P02, 22P03, 22003, 22007, 22008, 22021 as Postgres words them.
    pub fn push(&mut self, _value: Option<&[u8]>, _format: Format) -> Result<()> {
        Err(Error::unsupported(format!(
            "columns of {} are not read yet",
            self.field.data_type()
        )))
    }

    /// The column; the builder is empty again.
    ///
    /// # Errors
    /// Internal only.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        Err(Error::unsupported(format!(
            "columns of {} are not read yet",
            self.field.data_type()
        )))
    }
}
