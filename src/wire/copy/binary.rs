//! COPY's binary format, read.
//!
//! ```text
//!   PGCOPY\n\377\r\n\0 | flags u32 | extension length u32, bytes     header
//!   fields i16 ( length i32, bytes )*                                a row; length −1 = NULL
//!   −1 i16                                                           the end
//! ```

use bytes::Buf;

use crate::error::Result;
use crate::types::pg::Format;
use crate::wire::copy::rows::CopyRows;
use crate::wire::copy::text::More;
use crate::wire::copy::{SIGNATURE, bad_format};

/// Signature, flags and the extension's length.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;

/// Flags that a reader must understand.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

/// Reads binary rows.
#[derive(Default)]
pub(super) struct BinaryReader {
    has_header: bool,
    /// Bytes of the row at the front whose lengths were looked at.
    looked_at: usize,
    /// Fields of the row at the front that were looked at.
    fields_seen: usize,
}

/// What is at the front of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A header of this many bytes, to be passed over.
    Header(usize),
    /// A row of this many bytes.
    Row(usize),
    End,
}

impl BinaryReader {
    /// Finds what is at the front; `None` = it is not whole yet.
    pub(super) fn piece(
        &mut self,
        bytes: &[u8],
        columns: usize,
        more: More,
    ) -> Result<Option<Piece>> {
        let piece = match self.has_header {
            true => self.row_end(bytes, columns)?,
            false => header(bytes)?,
        };
        match (piece, more) {
            (Some(Piece::Header(_)), _) => self.has_header = true,
            (None, More::Ended) if !self.has_header => {
                return Err(bad_format("COPY file signature not recognized"));
            }
            (None, More::Ended) if !bytes.is_empty() => {
                return Err(bad_format("unexpected EOF in COPY data"));
            }
            _ => {}
        }
        Ok(piece)
    }

    fn row_end(&mut self, bytes: &[u8], columns: usize) -> Result<Option<Piece>> {
        let Some(mut count) = bytes.get(..2) else {
            return Ok(None);
        };
        let count = count.get_i16();
        if count == -1 {
            return Ok(Some(Piece::End));
        }
        if usize::try_from(count) != Ok(columns) {
            return Err(bad_format(format!(
                "row field count is {count}, expected {columns}"
            )));
        }
        self.looked_at = self.looked_at.max(2);
        while self.fields_seen < columns {
            let Some(mut length) = bytes.get(self.looked_at..self.looked_at + 4) else {
                return Ok(None);
            };
            self.looked_at += 4;
            self.looked_at += match length.get_i32() {
                -1 => 0,
                length => usize::try_from(length).map_err(|_| bad_format("invalid field size"))?,
            };
            self.fields_seen += 1;
        }
        if self.looked_at > bytes.len() {
            return Ok(None);
        }
        self.fields_seen = 0;
        Ok(Some(Piece::Row(std::mem::take(&mut self.looked_at))))
    }

    /// Adds the fields of a row that was found whole.
    pub(super) fn row(&mut self, mut row: &[u8], rows: &mut CopyRows) -> Result<()> {
        row.advance(2);
        let columns = rows.columns();
        for column in 0..columns {
            let value = match usize::try_from(row.get_i32()) {
                Ok(length) => {
                    let (value, rest) = row.split_at(length);
                    row = rest;
                    Some(value)
                }
                Err(_) => None,
            };
            rows.push(column, value, Format::Binary)?;
        }
        rows.end_row(columns)
    }
}

fn header(bytes: &[u8]) -> Result<Option<Piece>> {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Err(bad_format("COPY file signature not recognized"));
    }
    let Some(mut fixed) = bytes.get(SIGNATURE.len()..HEADER_BYTES) else {
        return Ok(None);
    };
    if fixed.get_u32() & CRITICAL_FLAGS != 0 {
        return Err(bad_format(
            "unrecognized critical flags in COPY file header",
        ));
    }
    let extension = usize::try_from(fixed.get_i32())
        .map_err(|_| bad_format("invalid COPY file header (wrong length)"))?;
    let length = HEADER_BYTES + extension;
    Ok((bytes.len() >= length).then_some(Piece::Header(length)))
}
