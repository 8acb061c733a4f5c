//! COPY's own encodings of rows, to and from the client.
//!
//! ```text
//!   batch, row ──► encode ──► CopyData (one a row)                    TO STDOUT
//!   CopyData … ──► feed ──► text │ csv │ binary ──► rows ──► batch     FROM STDIN
//!                           (fields of one row)    (columns)
//! ```
//!
//! Rows may lie across the borders of CopyData messages anywhere. A decoder gathers bytes until a
//! row is whole, remembers how far it has looked so that no byte is looked at twice, and hands the
//! row's fields to `rows`, which builds columns. Texts of errors are Postgres' own.
//!
//! Reading order: `rows`, `text`, `csv`, `binary`, `decode`, then `encode`.

mod binary;
mod csv;
mod decode;
mod encode;
mod rows;
mod text;

pub(super) use decode::CopyDecoder;
pub(super) use encode::CopyEncoder;
pub(super) use rows::CopyRows;

use crate::error::{Error, SqlState};

/// The bytes that begin a binary COPY; the zero byte and the mixed line ends show a damaged one.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

fn bad_format(message: impl Into<String>) -> Error {
    Error::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}
