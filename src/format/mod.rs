//! Bytes ↔ rows: the encodings records come and go in.
//!
//! A [`Decoder`] is fed one payload after another and hands over a batch of the columns it was
//! made for; it knows nothing of brokers or offsets. It parses a payload once, straight from the
//! borrowed bytes, and touches only the wanted columns.
//!
//! ```text
//!   ENCODE JSON | CSV | BYTES ─► encoding ─► json | csv | raw ─► text, number ─► column ─► batch
//! ```
//!
//! Invariants: a payload adds one row or none, whichever columns are wanted: none where it is not
//! of its encoding. A value is converted exactly or reported as bad, never a silent NULL. No bytes
//! make a decoder panic.
//!
//! Reading order: [`encoding`] makes decoders from options; [`json`] is the one that must be fast;
//! `text` says what a text means to each type, `column` collects values.

mod column;
pub mod csv;
pub mod encoding;
pub mod json;
mod number;
pub mod raw;
mod text;

pub use encoding::{Encode, FormatOptions, OnError, WantedColumn, decoder};
pub use text::TimestampUnit;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::Result;

/// A value of a row that could not be converted. The row has NULL in its place or, where the column
/// is NOT NULL, a value that stands for none: nobody may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue {
    /// Of the columns that the decoder makes, counted from 0.
    pub column: usize,
    /// What is wrong with it: `column "price": "abc" is not a bigint`.
    pub reason: String,
}

/// Builds columns from payloads.
pub trait Decoder: Send {
    /// Adds the payload's row; returns its bad values, by column. On `Err(reason)` nothing was
    /// added: the payload is not of its encoding. Never panics, whatever the bytes.
    fn push(&mut self, payload: &[u8]) -> std::result::Result<Vec<BadValue>, String>;

    /// Rows added since the last [`Decoder::finish`].
    fn rows(&self) -> usize;

    /// The rows added so far as one batch; the decoder is empty afterwards and keeps its capacity.
    fn finish(&mut self) -> Result<RecordBatch>;

    /// The schema of the batches.
    fn schema(&self) -> SchemaRef;
}
