//! Columns out of texts and bytes: COPY FROM, literals and parameters.

use arrow::array::ArrayRef;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field};
use datafusion::scalar::ScalarValue;

use crate::base::limits::COLUMN_INPUT_BYTES_MAX;
use crate::error::{Error, Result, SqlState};
use crate::types::pg::parse;
use crate::types::pg::parse_binary;
use crate::types::pg::value::Collector;
use crate::types::pg::writer::{DateTimeStyle, Format};
use crate::types::{SqlType, StructField};

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
    format: Format,
    bytes: &[u8],
    style: DateTimeStyle,
) -> Result<ScalarValue> {
    let mut builder = ColumnBuilder::with_style(field, style)?;
    builder.push(Some(bytes), format)?;
    let array = builder.finish()?;
    ScalarValue::try_from_array(&array, 0)
        .map_err(|cause| Error::internal(format!("cannot take a parameter's value: {cause}")))
}

/// Collects a column from texts and bytes, value by value.
#[derive(Debug)]
pub struct ColumnBuilder {
    data_type: DataType,
    sql_type: SqlType,
    style: DateTimeStyle,
    collector: Collector,
    /// Bytes pushed since the last [`ColumnBuilder::finish`].
    bytes: usize,
}

impl ColumnBuilder {
    /// A builder that reads texts without a zone as UTC.
    ///
    /// # Errors
    /// As [`SqlType::of`].
    pub fn new(field: &Field) -> Result<ColumnBuilder> {
        ColumnBuilder::with_style(field, DateTimeStyle::default())
    }

    /// A builder with the session's settings.
    ///
    /// # Errors
    /// As [`SqlType::of`].
    pub fn with_style(field: &Field, style: DateTimeStyle) -> Result<ColumnBuilder> {
        let sql_type = narrowed(SqlType::of(field)?);
        Ok(ColumnBuilder {
            data_type: field.data_type().clone(),
            collector: Collector::new(&sql_type)?,
            sql_type,
            style,
            bytes: 0,
        })
    }

    /// Appends a value; None is NULL. After an error nothing is appended, and the builder goes on.
    ///
    /// # Errors
    /// As Postgres words them: 22P02 for bad text, 22P03 for bad bytes, 22003 for a number out of
    /// range, 22007 and 22008 for dates and times, 22021 for text that is not UTF-8, 22001 for a
    /// too long varchar, 0A000 for infinite dates and NaN as a numeric; 53400 when the column has
    /// more than `COLUMN_INPUT_BYTES_MAX` bytes.
    pub fn push(&mut self, value: Option<&[u8]>, format: Format) -> Result<()> {
        let Some(bytes) = value else {
            self.collector.append(None);
            return Ok(());
        };
        if bytes.len() > COLUMN_INPUT_BYTES_MAX - self.bytes {
            return Err(Error::new(
                SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                format!("a column of more than {COLUMN_INPUT_BYTES_MAX} bytes cannot be read"),
            )
            .hint("send the rows in smaller batches"));
        }
        let value = match format {
            Format::Text => parse::parse(&self.sql_type, parse::utf8(bytes)?, &self.style)?,
            Format::Binary => parse_binary::parse(&self.sql_type, bytes)?,
        };
        self.bytes += bytes.len();
        self.collector.append(Some(value));
        Ok(())
    }

    /// The column, of the field's type; the builder is empty again.
    ///
    /// # Errors
    /// 22003 when the field's type is not canonical and too narrow for a value.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        self.bytes = 0;
        let array = self.collector.finish()?;
        // A parameter of unknown type stays the text that it is.
        if *array.data_type() == self.data_type || self.data_type == DataType::Null {
            return Ok(array);
        }
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        cast_with_options(&array, &self.data_type, &options).map_err(|cause| {
            Error::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                format!("value is out of range for its column: {cause}"),
            )
        })
    }
}

/// The type with its numerics cut to what one can be read into: expressions make numerics of up to
/// 76 digits, but no column has more than 38.
fn narrowed(sql_type: SqlType) -> SqlType {
    match sql_type {
        SqlType::Numeric { precision, scale } => SqlType::Numeric {
            precision: precision.min(SqlType::NUMERIC_PRECISION_MAX),
            scale: scale.min(38),
        },
        SqlType::Array(element) => SqlType::Array(Box::new(narrowed(*element))),
        SqlType::Struct(fields) => SqlType::Struct(
            fields
                .into_iter()
                .map(|field| StructField {
                    name: field.name,
                    sql_type: narrowed(field.sql_type),
                })
                .collect(),
        ),
        other => other,
    }
}
