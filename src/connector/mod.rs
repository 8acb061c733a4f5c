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
//!   that are no rows beside it and the values that could not be converted marked. What a chunk
//!   holds depends only on the partition's content, the range and the columns asked for, never on
//!   timing; so a replay of the same range gives the same rows and the same checksum. Which records
//!   are rows does not depend on the columns either.
//! - A reader that is given boundaries ends a chunk at each of them, so that a replay can cut
//!   exactly where the journal says the first run was cut.
//! - Nothing here knows operators, views or SQL text. Calls block; they run on named threads.

mod checksum;
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

    /// Whether positions are shown to the broker's own tools.
    fn has_group(&self) -> bool {
        false
    }

    /// Shows positions to the broker's own tools: for each partition the next offset to be read.
    /// Best effort, and nothing is read back.
    fn commit(&self, _positions: &[(PartitionId, Offset)]) -> Result<()> {
        Ok(())
    }

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
    /// pause. Any other error ends it. After a retryable error, and after
    /// [`Polled::Interrupted`], every end is confirmed and reported anew.
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
    /// The connection was lost for a moment: what was reported of ends does not hold any more.
    Interrupted,
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
    /// The rows in offset order; may be empty.
    pub rows: RecordBatch,
    /// The rows whose offset is not the one after their predecessor's, with their offsets; the
    /// first row's predecessor is before `from`.
    pub jumps: Vec<(u32, Offset)>,
    /// Weights of the rows where the input retracts (tables, changelogs); `None` = all +1.
    pub weights: Option<Arc<[i64]>>,
    /// Records that are no rows.
    pub bad: Vec<BadRecord>,
    /// Rows with values that could not be converted, in their order.
    pub bad_rows: Vec<BadRow>,
    /// Records that carried nothing to decode (NULL payload under PLAIN).
    pub skipped: u64,
    /// CRC-32 of the payloads in order (or of what stands for them): equal input, equal number.
    pub checksum: u32,
    /// Raw bytes consumed, for rates and bounds.
    pub bytes: usize,
    /// Wall clock at which the newest record reached the server, microseconds; 0 in a replay.
    pub arrived_micros: i64,
}

impl Chunk {
    /// The checksum of neighbouring chunks as of one: that of the run they make up.
    pub fn checksum_of(chunks: &[Chunk]) -> u32 {
        let parts = chunks.iter().map(|chunk| (chunk.checksum, chunk.bytes));
        parts.reduce(checksum::combine).map_or(0, |(sum, _)| sum)
    }

    /// The offset of a row.
    pub fn offset_of(&self, row: u32) -> Offset {
        let jumps = self.jumps.partition_point(|(at, _)| *at <= row);
        let (at, offset) = match jumps.checked_sub(1) {
            Some(last) => self.jumps[last],
            None => (0, self.from),
        };
        Offset(offset.0 + u64::from(row - at))
    }
}

/// Notes for rows that are added one by one where their offsets jump.
#[derive(Debug)]
pub struct Jumps {
    next: u64,
    rows: u32,
    jumps: Vec<(u32, Offset)>,
}

impl Jumps {
    /// For a chunk that begins at an offset.
    pub fn from(offset: Offset) -> Jumps {
        Jumps {
            next: offset.0,
            rows: 0,
            jumps: Vec::new(),
        }
    }

    /// The next row has this offset.
    #[inline]
    pub fn push(&mut self, offset: u64) {
        if offset != self.next {
            self.jumps.push((self.rows, Offset(offset)));
        }
        self.next = offset + 1;
        self.rows += 1;
    }

    /// How many rows there are.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// What the chunk keeps; the next one begins at an offset.
    pub fn finish(&mut self, next: Offset) -> Vec<(u32, Offset)> {
        std::mem::replace(self, Jumps::from(next)).jumps
    }
}

/// A row of a chunk with values that could not be converted. In their places are NULLs or, in NOT
/// NULL columns, values that stand for none: whoever uses one of the columns does without the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    pub row: u32,
    /// The raw bytes, cut at `ERROR_RECORD_BYTES_MAX`.
    pub raw: Vec<u8>,
    /// The columns, of the source's full schema and rising, each with what is wrong with its value.
    pub values: Vec<(usize, String)>,
}

/// A record that something is wrong with, for the errors relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    pub partition: PartitionId,
    pub offset: Offset,
    /// The raw bytes, cut at `ERROR_RECORD_BYTES_MAX`.
    pub raw: Vec<u8>,
    /// What was wrong, with the column where there is one: `column "price": "abc" is not a bigint`.
    pub reason: String,
    /// The columns that have bad values, rising; none where the record is no row at all, whoever
    /// reads it.
    pub columns: Vec<usize>,
}
