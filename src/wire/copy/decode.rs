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
            CopyFormat::Text { delimiter, null, header } => {
                (Reader::Text(TextReader::new(*delimiter, null)), *header)
            }
            CopyFormat::Csv { delimiter, null, header, quote, escape } => {
                (Reader::Csv(CsvReader::new(*delimiter, null, *quote, *escape)), *header)
            }
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
    pub(in crate::wire) fn feed(&mut self, data: Bytes) -> Result<()> {
        match (&self.reader, self.has_ended) {
            // Text after its end marker is ignored, as Postgres does; bytes are a mistake.
            (Reader::Text(_) | Reader::Csv(_), true) => {}
            (Reader::Binary(_), true) if !data.is_empty() => {
                return Err(bad_format("received copy data after EOF marker"));
            }
            // A message that was read alone into its buffer is taken without a copy.
            _ if self.pending.is_empty() => self.pending = BytesMut::from(data),
            _ => self.pending.extend_from_slice(&data),
        }
        Ok(())
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
        while !self.has_ended {
            let line = match &mut self.reader {
                Reader::Text(reader) => reader.line(&self.pending, self.more),
                Reader::Csv(reader) => reader.line(&self.pending, self.more),
                Reader::Binary(_) => return self.decode_binary(rows),
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
        loop {
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
                    return match self.pending.is_empty() {
                        true => Ok(false),
                        false => Err(bad_format("received copy data after EOF marker")),
                    };
                }
            }
        }
    }
}
