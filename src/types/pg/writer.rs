//! Writes the values of a column as the Postgres protocol wants them.

use arrow::array::Array;
use arrow::datatypes::Field;
use bytes::BytesMut;

use crate::error::Result;
use crate::types::Zone;
use crate::types::datum::Node;
use crate::types::pg::binary;
use crate::types::pg::text;

/// The two encodings of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Binary,
}

/// The session's settings that dates and times are written and read by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DateTimeStyle {
    /// Where `timestamp with time zone` is shown, and where a text without a zone was written.
    pub zone: Zone,
}

/// Writes values of one column; made once per column of a result.
#[derive(Debug)]
pub struct ValueWriter {
    node: Node,
    format: Format,
    style: DateTimeStyle,
}

impl ValueWriter {
    /// A writer that shows points in time in UTC.
    ///
    /// # Errors
    /// As [`crate::types::SqlType::of`].
    pub fn new(field: &Field, format: Format) -> Result<ValueWriter> {
        ValueWriter::with_style(field, format, DateTimeStyle::default())
    }

    /// A writer with the session's settings.
    ///
    /// # Errors
    /// As [`crate::types::SqlType::of`].
    pub fn with_style(field: &Field, format: Format, style: DateTimeStyle) -> Result<ValueWriter> {
        Ok(ValueWriter {
            node: Node::new(field)?,
            format,
            style,
        })
    }

    /// Appends the value at `row`, without a length word. Returns whether there is one: for NULL
    /// (and for an error) nothing is appended.
    ///
    /// # Errors
    /// 22008 for a time, 22003 for a number that Postgres' encoding cannot hold, 22P03 for nested
    /// arrays of different lengths in binary; an internal error when `array` is not of the field's
    /// type.
    pub fn write(&self, array: &dyn Array, row: usize, buffer: &mut BytesMut) -> Result<bool> {
        let Some(datum) = self.node.read(array, row)? else {
            return Ok(false);
        };
        let start = buffer.len();
        let written = match self.format {
            Format::Text => text::write(&self.node, &datum, &self.style, buffer),
            Format::Binary => binary::write(&self.node, &datum, buffer),
        };
        match written {
            Ok(()) => Ok(true),
            Err(error) => {
                buffer.truncate(start);
                Err(error)
            }
        }
    }
}
