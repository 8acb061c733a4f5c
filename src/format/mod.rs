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
//! Invariants: a payload adds one row or none; a value is converted exactly or the record is bad,
//! never a silent NULL; no bytes make a decoder panic.
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

/// Builds columns from payloads.
pub trait Decoder: Send {
    /// Adds the payload's row. On `Err(reason)` nothing was added: the record is bad, and the text
    /// says what was wrong with it, naming the column. Never panics, whatever the bytes.
    fn push(&mut self, payload: &[u8]) -> std::result::Result<(), String>;

    /// Rows added since the last [`Decoder::finish`].
    fn rows(&self) -> usize;

    /// The rows added so far as one batch; the decoder is empty afterwards and keeps its capacity.
    fn finish(&mut self) -> Result<RecordBatch>;

    /// The schema of the batches.
    fn schema(&self) -> SchemaRef;
}
