//! Bytes ↔ rows: the encodings records come and go in.
//!
//! A [`Decoder`] is fed one payload after another and hands over a batch of the columns it was made
//! for; it knows nothing of brokers or offsets. It parses a payload once, straight from the borrowed
//! bytes, and touches only the wanted columns.

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
