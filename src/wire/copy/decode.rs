//! CopyData messages, decoded row by row whatever their borders.
//!
//! State: bytes that are not yet a whole row.
//! Bounds: a row of at most `COPY_ROW_BYTES_MAX`; messages are fed one at a time and decoded before
//! the next.

use bytes::{Buf, Bytes, BytesMut};

use crate::base::limits::COPY_ROW_BYTES_MAX;
use crate::engine::CopyFormat;
use crate::error::{Error, Result, SqlState};
use crate::wire::copy::bad_format;
use crate::wire::copy::binary::{BinaryReader, Piece};
use crate::wire::copy::csv::CsvReader;
use crate::wire::copy::rows::CopyRows;
use crate::wire::copy::text::{More, TextReader};

/// Decodes the data of one COPY FROM STDIN.
pub(in crate::wire) struct CopyDecoder {
    reader: Reader,
    /// The first line names the columns.
    skips_line: bool,

    pending: BytesMut,
    more: More,
    /// The end marker was read.
    has_ended: bool,
}

enum Reader {
    Text(TextReader),
    Csv(CsvReader),
    Binary(BinaryReader),
}

impl CopyDecoder {
    pub(in crate::wire) fn new(format: &CopyFormat) -> CopyDecoder {
        let (reader, skips_line) = match format {
            CopyFormat::Text {
                delimiter,
                null,
                header,
            } => (Reader::Text(TextReader::new(*delimiter, null)), *header),
            CopyFormat::Csv {
                delimiter,
                null,
                header,
                quote,
                escape,
            } => (
                Reader::Csv(CsvReader::new(*delimiter, null, *quote, *escape)),
                *header,
            ),
            CopyFormat::Binary => (Reader::Binary(BinaryReader::default()), false),
        };
        CopyDecoder {
            reader,
            skips_line,
            pending: BytesMut::new(),
            more: More::Expected,
            has_ended: false,
        }
    }

    /// Takes the contents of a message; call [`CopyDecoder::next_row`] until it has none.
    pub(in crate::wire) fn feed(&mut self, data: Bytes) {
        match (&self.reader, self.has_ended) {
            // What follows the end marker of a text is ignored, as Postgres does.
            (Reader::Text(_) | Reader::Csv(_), true) => {}
            // A message that was read alone into its buffer is taken without a copy.
            _ if self.pending.is_empty() => self.pending = BytesMut::from(data),
            _ => self.pending.extend_from_slice(&data),
        }
    }

    /// Says that no more comes; a last line without an end is then a row.
    pub(in crate::wire) fn end(&mut self) {
        self.more = More::Ended;
    }

    /// Decodes the next whole row into `rows`; returns whether there was one.
    ///
    /// # Errors
    /// 22P04 for what is not the format, and those of the columns' types; the detail says where.
    pub(in crate::wire) fn next_row(&mut self, rows: &mut CopyRows) -> Result<bool> {
        let decoded = self.decode(rows).map_err(|error| rows.at_line(error))?;
        if !decoded && self.pending.len() > COPY_ROW_BYTES_MAX {
            rows.count_lines(1);
            let error = Error::new(
                SqlState::STATEMENT_TOO_COMPLEX,
                format!("a row is longer than {COPY_ROW_BYTES_MAX} bytes"),
            )
            .hint("look for a quote that is not closed");
            return Err(rows.at_line(error));
        }
        Ok(decoded)
    }

    fn decode(&mut self, rows: &mut CopyRows) -> Result<bool> {
        if matches!(self.reader, Reader::Binary(_)) {
            return self.decode_binary(rows);
        }
        while !self.has_ended {
            let line = match &mut self.reader {
                Reader::Text(reader) => reader.line(&self.pending, self.more),
                Reader::Csv(reader) => reader.line(&self.pending, self.more),
                Reader::Binary(_) => return Ok(false),
            };
            let line = line.inspect_err(|_| rows.count_lines(1))?;
            let Some(line) = line else {
                return Ok(false);
            };
            rows.count_lines(line.lines);
            let row = self.pending.split_to(line.length);
            self.pending.advance(line.end);
            if row.as_ref() == b"\\." {
                self.has_ended = true;
                self.pending.clear();
            } else if !std::mem::take(&mut self.skips_line) {
                match &mut self.reader {
                    Reader::Text(reader) => reader.row(&row, rows)?,
                    Reader::Csv(reader) => reader.row(&row, rows)?,
                    Reader::Binary(_) => {}
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn decode_binary(&mut self, rows: &mut CopyRows) -> Result<bool> {
        let Reader::Binary(reader) = &mut self.reader else {
            return Ok(false);
        };
        while !self.has_ended {
            let piece = reader.piece(&self.pending, rows.columns(), self.more);
            match piece.inspect_err(|_| rows.count_lines(1))? {
                None => return Ok(false),
                Some(Piece::Header(bytes)) => self.pending.advance(bytes),
                Some(Piece::Row(bytes)) => {
                    rows.count_lines(1);
                    let row = self.pending.split_to(bytes);
                    reader.row(&row, rows)?;
                    return Ok(true);
                }
                Some(Piece::End) => {
                    self.pending.advance(2);
                    self.has_ended = true;
                }
            }
        }
        match self.pending.is_empty() {
            true => Ok(false),
            false => Err(bad_format("received copy data after EOF marker")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Array;
    use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    use arrow::util::display::{ArrayFormatter, FormatOptions};

    use crate::types::pg::DateTimeStyle;

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
        ]))
    }

    fn text() -> CopyFormat {
        CopyFormat::Text {
            delimiter: b'\t',
            null: "\\N".into(),
            header: false,
        }
    }

    fn csv() -> CopyFormat {
        csv_with(false, b'"')
    }

    fn csv_with(header: bool, escape: u8) -> CopyFormat {
        CopyFormat::Csv {
            delimiter: b',',
            null: String::new(),
            header,
            quote: b'"',
            escape,
        }
    }

    /// The rows of `input`, fed in pieces of `cut` bytes.
    fn decoded_by(format: &CopyFormat, input: &[u8], cut: usize) -> Result<String> {
        let mut rows = CopyRows::new(schema(), Some("bids".into()), DateTimeStyle::default())?;
        let mut decoder = CopyDecoder::new(format);
        for piece in input.chunks(cut) {
            decoder.feed(Bytes::copy_from_slice(piece));
            while decoder.next_row(&mut rows)? {}
        }
        decoder.end();
        while decoder.next_row(&mut rows)? {}
        let Some(batch) = rows.take()? else {
            return Ok(String::new());
        };
        let options = FormatOptions::new().with_null("NULL");
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref() as &dyn Array, &options).unwrap())
            .collect();
        let lines: Vec<_> = (0..batch.num_rows())
            .map(|row| format!("{}|{}", columns[0].value(row), columns[1].value(row)))
            .collect();
        Ok(lines.join(";"))
    }

    /// As [`decoded_by`], the same however the input is cut.
    fn decoded(format: &CopyFormat, input: &[u8]) -> Result<String> {
        let whole = decoded_by(format, input, input.len().max(1));
        for cut in 1..input.len() {
            assert_eq!(
                decoded_by(format, input, cut),
                whole,
                "cut every {cut} bytes"
            );
        }
        whole
    }

    fn failure(format: &CopyFormat, input: &[u8]) -> String {
        let error = decoded(format, input).unwrap_err();
        format!(
            "{} {} [{}]",
            error.state(),
            error.message(),
            error.get_detail().unwrap_or("-")
        )
    }

    #[test]
    fn text_rows_with_escapes_nulls_and_any_line_end() {
        let rows = decoded(&text(), b"1\ta\\tb\\\\\n2\t\\N\n3\t\n4\t\\101\\x41\\\n\\q");
        assert_eq!(rows.unwrap(), "1|a\tb\\;2|NULL;3|;4|AA\nq");
        assert_eq!(decoded(&text(), b"1\ta\r\n2\tb\r\n").unwrap(), "1|a;2|b");
        assert_eq!(decoded(&text(), b"1\ta\r2\tb\r").unwrap(), "1|a;2|b");
        assert_eq!(decoded(&text(), b"").unwrap(), "");
    }

    #[test]
    fn the_end_marker_ends_the_rows() {
        assert_eq!(decoded(&text(), b"1\ta\n\\.\nnot\tread").unwrap(), "1|a");
        assert_eq!(decoded(&csv(), b"1,a\n\\.\nnot,read").unwrap(), "1|a");
        assert_eq!(decoded(&csv(), b"1,\\.\n").unwrap(), "1|\\.");
    }

    #[test]
    fn headers_are_passed_over() {
        let format = CopyFormat::Text {
            delimiter: b'|',
            null: "null".into(),
            header: true,
        };
        assert_eq!(
            decoded(&format, b"id|name\n1|null\n2|a\\|b\n").unwrap(),
            "1|NULL;2|a|b"
        );
        let format = csv_with(true, b'"');
        assert_eq!(decoded(&format, b"id,\"na\nme\"\n1,x\n").unwrap(), "1|x");
    }

    #[test]
    fn csv_rows_with_quotes_nulls_and_lines_inside() {
        let rows = decoded(&csv(), b"1,\"a,\"\"b\"\"\nc\"\n2,\n3,\"\"\n4,x\"y,z\"w\n");
        assert_eq!(rows.unwrap(), "1|a,\"b\"\nc;2|NULL;3|;4|xy,zw");
        let rows = decoded(&csv_with(false, b'\\'), b"1,\"a\\\"b\\\\\"\r\n2,c\\d\r\n");
        assert_eq!(rows.unwrap(), "1|a\"b\\;2|c\\d");
    }

    #[test]
    fn binary_rows() {
        let mut input = SIGNATURE_AND_HEADER.to_vec();
        input.extend(b"\0\x02\0\0\0\x08\0\0\0\0\0\0\0\x07\0\0\0\x01x");
        input.extend(b"\0\x02\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(decoded(&CopyFormat::Binary, &input).unwrap(), "7|x;-1|NULL");
        input.extend(b"\xff\xff");
        assert_eq!(decoded(&CopyFormat::Binary, &input).unwrap(), "7|x;-1|NULL");
        input.push(0);
        let after = failure(&CopyFormat::Binary, &input);
        assert!(
            after.starts_with("22P04 received copy data after EOF marker"),
            "{after}"
        );
    }

    const SIGNATURE_AND_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

    #[test]
    fn binary_that_is_damaged_is_refused() {
        let with = |row: &[u8]| [SIGNATURE_AND_HEADER, row].concat();
        for (input, message) in [
            (b"1\ta\n".to_vec(), "COPY file signature not recognized"),
            (b"PGCOPY".to_vec(), "COPY file signature not recognized"),
            (
                b"PGCOPY\n\xff\r\n\0\0\x01\0\0\0\0\0\0".to_vec(),
                "unrecognized critical flags in COPY file header",
            ),
            (with(b"\0\x03"), "row field count is 3, expected 2"),
            (with(b"\0\x02\0\0\0\x08\0\0"), "unexpected EOF in COPY data"),
            (with(b"\0\x02\xff\xff\xff\xfe"), "invalid field size"),
        ] {
            let failure = failure(&CopyFormat::Binary, &input);
            assert!(
                failure.starts_with(&format!("22P04 {message}")),
                "{failure}"
            );
        }
    }

    #[test]
    fn errors_say_where_they_are() {
        assert_eq!(
            failure(&text(), b"1\ta\n2\tb\nx\tc\n"),
            "22P02 invalid input syntax for type bigint: \"x\" \
             [COPY bids, line 3, column id: \"x\"]"
        );
        assert_eq!(
            failure(&text(), b"1\ta\n2\n"),
            "22P04 missing data for column \"name\" [COPY bids, line 2]"
        );
        assert_eq!(
            failure(&text(), b"1\ta\tb\n"),
            "22P04 extra data after last expected column [COPY bids, line 1]"
        );
        assert_eq!(
            failure(&text(), b"\\N\ta\n"),
            "23502 null value in column \"id\" violates not-null constraint \
             [COPY bids, line 1, column id]"
        );
        assert_eq!(
            failure(&text(), b"1\ta\n2\tb\rc\n"),
            "22P04 literal carriage return found in data [COPY bids, line 2]"
        );
        assert_eq!(
            failure(&csv(), b"1,\"a\nb\"\nx,c\n"),
            "22P02 invalid input syntax for type bigint: \"x\" \
             [COPY bids, line 3, column id: \"x\"]"
        );
        assert_eq!(
            failure(&csv(), b"1,\"a\n"),
            "22P04 unterminated CSV quoted field [COPY bids, line 1]"
        );
    }

    #[test]
    fn a_row_without_end_is_refused_at_its_bound() {
        let mut rows = CopyRows::new(schema(), None, DateTimeStyle::default()).unwrap();
        let mut decoder = CopyDecoder::new(&csv());
        decoder.feed(Bytes::from_static(b"1,\""));
        let piece = Bytes::from(vec![b'a'; 1 << 20]);
        let error = loop {
            decoder.feed(piece.clone());
            match decoder.next_row(&mut rows) {
                Ok(found) => assert!(!found),
                Err(error) => break error,
            }
        };
        assert_eq!(error.state(), SqlState::STATEMENT_TOO_COMPLEX);
        assert_eq!(error.get_detail(), Some("COPY, line 1"));
    }
}
