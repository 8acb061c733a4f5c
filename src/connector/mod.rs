//! Sources and sinks: where rows come from and go to, behind two small traits.
//!
//! ```text
//!   CREATE SOURCE ──► SourceConnector ──► partitions(), bounds(), startup()    asked now and then
//!                            │
//!                            └─ reader(ranges) ──► Reader ──► poll() ──► Chunk ──► queue ──► step
//! ```
//!
//! Invariants:
//! - A reader decodes: a [`Chunk`] is a run of one partition, already columns, with the records
//!   that
//!   could not be decoded beside it. What a chunk holds depends only on the partition's content,
//!   the
//!   range and the columns asked for, never on timing; so a replay of the same range gives the same
//!   rows and the same checksum.
//! - A reader that is given boundaries ends a chunk at each of them, so that a replay can cut
//!   exactly where the journal says the first run was cut.
//! - Nothing here knows operators, views or SQL text. Calls block; they run on named threads.

pub mod datagen;
pub mod factory;
mod generator;
pub mod kafka;
pub mod nexmark;
pub mod options;
pub mod topic;

#[cfg(test)]
mod factory_tests;
#[cfg(test)]
mod topic_tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::base::{Offset, PartitionId};
use crate::error::Result;

/// A source that can be read: the connector's half of a `CREATE SOURCE`.
pub trait SourceConnector: Send + Sync {
    /// The partitions that exist now, in order. More may appear later, none disappears.
    fn partitions(&self) -> Result<Vec<PartitionId>>;

    /// For each partition the oldest offset that can still be read and the end: the offset that
    /// the next record will have (under read_committed: the last stable offset).
    fn bounds(&self, partitions: &[PartitionId]) -> Result<Vec<Bounds>>;

    /// The offset at which the source's startup mode begins, resolved against the broker now.
    fn startup(&self, partitions: &[PartitionId]) -> Result<Vec<Offset>>;

    /// A reader over the ranges that decodes the columns with the given indices (of the source's
    /// full schema, in rising order) and no others.
    fn reader(&self, ranges: Vec<ReadRange>, columns: &[usize]) -> Result<Box<dyn Reader>>;

    /// What tells this topic from a later one of the same name; `None` where nothing does.
    fn identity(&self) -> Result<Option<String>> {
        Ok(None)
    }
}

/// The readable part of a partition, `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub start: Offset,
    pub end: Offset,
}

/// Where a reader begins in a partition and where it must end chunks.
#[derive(Clone, Debug)]
pub struct ReadRange {
    pub partition: PartitionId,
    pub from: Offset,
    /// Rising offsets at which a chunk must end; the reader goes on after the last one unless
    /// `until` stops it.
    pub boundaries: VecDeque<Offset>,
    /// Where to stop: the reader reports [`Polled::Finished`] for the partition there.
    pub until: Option<Offset>,
}

impl ReadRange {
    /// Reads from `from` on, without an end.
    pub fn tail(partition: PartitionId, from: Offset) -> Self {
        ReadRange {
            partition,
            from,
            boundaries: VecDeque::new(),
            until: None,
        }
    }
}

/// Reads and decodes the partitions it was opened with. Owned by one thread.
pub trait Reader: Send {
    /// The next thing that happened, waiting at most `timeout` for it.
    ///
    /// An error that is retryable (broker away) leaves the reader usable: call again after a
    /// pause. Any other error ends it.
    fn poll(&mut self, timeout: Duration) -> Result<Polled>;

    /// The schema of the chunks' rows: the columns asked for.
    fn schema(&self) -> SchemaRef;

    /// A handle that makes a waiting `poll` return soon (with [`Polled::Nothing`]); used to stop.
    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        Arc::new(|| {})
    }
}

/// What a [`Reader::poll`] saw.
#[derive(Debug)]
pub enum Polled {
    Chunk(Chunk),
    /// A successful fetch confirmed that the reader stands at the partition's end (its position).
    AtEnd(PartitionId, Offset),
    /// The partition's `until` is reached.
    Finished(PartitionId),
    /// Nothing came within the timeout.
    Nothing,
}

/// A run of one partition, decoded.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub partition: PartitionId,
    /// First offset covered; gaps (control records, compaction, skipped tombstones) count as
    /// covered.
    pub from: Offset,
    /// One past the last offset covered.
    pub to: Offset,
    /// The good rows in offset order; may be empty.
    pub rows: RecordBatch,
    /// Weights of the rows where the input retracts (tables, changelogs); `None` = all +1.
    pub weights: Option<Arc<[i64]>>,
    pub bad: Vec<BadRecord>,
    /// Records that carried nothing to decode (NULL payload under PLAIN).
    pub skipped: u64,
    /// CRC-32 of the payloads in order (or of what stands for them): equal input, equal number.
    pub checksum: u32,
    /// Raw bytes consumed, for rates and bounds.
    pub bytes: usize,
    /// Wall clock at which the newest record reached the server, microseconds; 0 in a replay.
    pub arrived_micros: i64,
}

/// A record that could not become a row, for the errors relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    pub partition: PartitionId,
    pub offset: Offset,
    /// The raw bytes, cut at `ERROR_RECORD_BYTES_MAX`.
    pub raw: Vec<u8>,
    /// What was wrong, with the column where there is one: `column "price": "abc" is not a bigint`.
    pub reason: String,
}
