//! Rows as COPY TO STDOUT sends them: one CopyData message for each row.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::{BufMut, BytesMut};

use crate::engine::CopyFormat;
use crate::error::Result;
use crate::types::pg::{DateTimeStyle, Format, ValueWriter};
use crate::wire::copy::SIGNATURE;
use crate::wire::outbound::Outbound;
use crate::wire::rows::{column_count, value_length};

/// Writes the rows of one COPY.
pub(in crate::wire) struct CopyEncoder {
    format: CopyFormat,
    names: Vec<String>,
    columns: i16,
    writers: Vec<ValueWriter>,
    /// The binary header was not sent yet.
    owes_header: bool,
    /// One value's text before it is quoted; reused.
    value: BytesMut,
}

impl CopyEncoder {
    pub(in crate::wire) fn new(
        schema: &SchemaRef,
        format: CopyFormat,
        style: DateTimeStyle,
    ) -> Result<CopyEncoder> {
        let value_format = value_format(&format);
        let writers = schema
            .fields()
            .iter()
            .map(|field| ValueWriter::with_style(field, value_format, style))
            .collect::<Result<Vec<_>>>()?;
        let names = schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let columns = column_count(schema)?;
        Ok(CopyEncoder {
            format,
            names,
            columns,
            writers,
            owes_header: false,
            value: BytesMut::new(),
        })
    }

    /// What comes before the rows.
    pub(in crate::wire) fn write_start(&mut self, outbound: &mut Outbound) -> Result<()> {
        match &self.format {
            CopyFormat::Text { header: false, .. } | CopyFormat::Csv { header: false, .. } => {
                Ok(())
            }
            CopyFormat::Text { delimiter, .. } => outbound.frame(b'd', |buffer| {
                for (column, name) in self.names.iter().enumerate() {
                    separate(buffer, *delimiter, column);
                    put_text(buffer, name.as_bytes(), *delimiter);
                }
                buffer.put_u8(b'\n');
                Ok(())
            }),
            CopyFormat::Csv {
                delimiter,
                null,
                quote,
                escape,
                ..
            } => outbound.frame(b'd', |buffer| {
                let style = Csv {
                    delimiter: *delimiter,
                    quote: *quote,
                    escape: *escape,
                    null: null.as_bytes(),
                    is_only_column: self.names.len() == 1,
                };
                for (column, name) in self.names.iter().enumerate() {
                    separate(buffer, *delimiter, column);
                    style.put(buffer, name.as_bytes());
                }
                buffer.put_u8(b'\n');
                Ok(())
            }),
            // Drivers expect it at the front of the first row's message, where Postgres has it.
            CopyFormat::Binary => {
                self.owes_header = true;
                Ok(())
            }
        }
    }

    pub(in crate::wire) fn write(
        &mut self,
        batch: &RecordBatch,
        row: usize,
        outbound: &mut Outbound,
    ) -> Result<()> {
        let CopyEncoder {
            format,
            columns,
            writers,
            owes_header,
            value,
            ..
        } = self;
        let is_only_column = writers.len() == 1;
        let pairs = writers.iter().zip(batch.columns());
        outbound.frame(b'd', |buffer| {
            match format {
                CopyFormat::Text {
                    delimiter, null, ..
                } => {
                    for (column, (writer, array)) in pairs.enumerate() {
                        separate(buffer, *delimiter, column);
                        value.clear();
                        match writer.write(array.as_ref(), row, value)? {
                            true => put_text(buffer, value, *delimiter),
                            false => buffer.put_slice(null.as_bytes()),
                        }
                    }
                    buffer.put_u8(b'\n');
                }
                CopyFormat::Csv {
                    delimiter,
                    null,
                    quote,
                    escape,
                    ..
                } => {
                    let style = Csv {
                        delimiter: *delimiter,
                        quote: *quote,
                        escape: *escape,
                        null: null.as_bytes(),
                        is_only_column,
                    };
                    for (column, (writer, array)) in pairs.enumerate() {
                        separate(buffer, *delimiter, column);
                        value.clear();
                        match writer.write(array.as_ref(), row, value)? {
                            true => style.put(buffer, value),
                            false => buffer.put_slice(null.as_bytes()),
                        }
                    }
                    buffer.put_u8(b'\n');
                }
                CopyFormat::Binary => {
                    put_owed_header(buffer, owes_header);
                    buffer.put_i16(*columns);
                    for (writer, array) in pairs {
                        let start = buffer.len();
                        buffer.put_i32(-1);
                        if writer.write(array.as_ref(), row, buffer)? {
                            let length = value_length(buffer.len() - start - 4)?;
                            buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
                        }
                    }
                }
            }
            Ok(())
        })
    }

    /// What comes after the rows.
    pub(in crate::wire) fn write_end(&mut self, outbound: &mut Outbound) -> Result<()> {
        match self.format {
            CopyFormat::Text { .. } | CopyFormat::Csv { .. } => Ok(()),
            CopyFormat::Binary => outbound.frame(b'd', |buffer| {
                put_owed_header(buffer, &mut self.owes_header);
                buffer.put_i16(-1);
                Ok(())
            }),
        }
    }
}

fn put_owed_header(buffer: &mut BytesMut, owes_header: &mut bool) {
    if std::mem::take(owes_header) {
        buffer.put_slice(SIGNATURE);
        // No flags, and no header extension.
        buffer.put_u32(0);
        buffer.put_u32(0);
    }
}

fn value_format(format: &CopyFormat) -> Format {
    match format {
        CopyFormat::Text { .. } | CopyFormat::Csv { .. } => Format::Text,
        CopyFormat::Binary => Format::Binary,
    }
}

fn separate(buffer: &mut BytesMut, delimiter: u8, column: usize) {
    if column > 0 {
        buffer.put_u8(delimiter);
    }
}

/// A value in COPY's text format: what would end it, or be taken for an escape, is escaped.
fn put_text(buffer: &mut BytesMut, value: &[u8], delimiter: u8) {
    let mut plain = 0;
    for (index, byte) in value.iter().enumerate() {
        let letter = match byte {
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x0b => b'v',
            b'\\' => b'\\',
            byte if *byte == delimiter => delimiter,
            _ => continue,
        };
        buffer.put_slice(&value[plain..index]);
        buffer.put_slice(&[b'\\', letter]);
        plain = index + 1;
    }
    buffer.put_slice(&value[plain..]);
}

/// How one CSV value is written.
struct Csv<'a> {
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: &'a [u8],
    is_only_column: bool,
}

impl Csv<'_> {
    fn put(&self, buffer: &mut BytesMut, value: &[u8]) {
        if !self.needs_quotes(value) {
            buffer.put_slice(value);
            return;
        }
        buffer.put_u8(self.quote);
        for byte in value {
            if *byte == self.quote || *byte == self.escape {
                buffer.put_u8(self.escape);
            }
            buffer.put_u8(*byte);
        }
        buffer.put_u8(self.quote);
    }

    fn needs_quotes(&self, value: &[u8]) -> bool {
        // An unquoted value that reads as the null text would be NULL, an only `\.` the end.
        value == self.null
            || (self.is_only_column && value == b"\\.")
            || value.iter().any(|byte| {
                *byte == self.delimiter || *byte == self.quote || matches!(*byte, b'\n' | b'\r')
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str, delimiter: u8) -> String {
        let mut buffer = BytesMut::new();
        put_text(&mut buffer, value.as_bytes(), delimiter);
        String::from_utf8(buffer.to_vec()).unwrap()
    }

    fn csv(value: &str, is_only_column: bool) -> String {
        let style = Csv {
            delimiter: b',',
            quote: b'"',
            escape: b'"',
            null: b"",
            is_only_column,
        };
        let mut buffer = BytesMut::new();
        style.put(&mut buffer, value.as_bytes());
        String::from_utf8(buffer.to_vec()).unwrap()
    }

    #[test]
    fn text_escapes_what_would_end_a_value() {
        assert_eq!(text("plain ä", b'\t'), "plain ä");
        assert_eq!(
            text("a\tb\nc\\d\r\u{8}\u{c}\u{b}", b'\t'),
            r"a\tb\nc\\d\r\b\f\v"
        );
        assert_eq!(text("a|b", b'|'), r"a\|b");
    }

    #[test]
    fn csv_quotes_only_where_it_must() {
        assert_eq!(csv("plain", false), "plain");
        assert_eq!(csv("", false), "\"\"");
        assert_eq!(csv("a,b", false), "\"a,b\"");
        assert_eq!(csv("say \"hi\"", false), "\"say \"\"hi\"\"\"");
        assert_eq!(csv("two\nlines", false), "\"two\nlines\"");
        assert_eq!(csv("\\.", false), "\\.");
        assert_eq!(csv("\\.", true), "\"\\.\"");
    }
}
