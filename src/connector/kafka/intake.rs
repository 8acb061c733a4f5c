//! From the messages of a batch to chunks: what a reader reports, in the order in which it does.
//!
//! State: one [`Progress`] per partition, and one open chunk, that of the partition whose messages
//! are being taken. A batch holds each partition's messages together, so the open chunk ends when
//! the partition changes and at the end of the batch at the latest: nothing is held back.

use std::collections::{BTreeMap, VecDeque};

use crate::base::limits::{CHUNK_ROWS_MAX, ERROR_RECORD_BYTES_MAX, KAFKA_CHUNK_BYTES_MAX};
use crate::base::{Offset, PartitionId};
use crate::connector::kafka::checksum::Checksum;
use crate::connector::kafka::native::Message;
use crate::connector::kafka::progress::{Cut, Progress};
use crate::connector::kafka::rows::RowBuilder;
use crate::connector::{BadRecord, BadRow, Chunk, Jumps, Polled, ReadRange};
use crate::error::{Error, Result};

pub(super) struct Intake {
    rows: RowBuilder,
    partitions: BTreeMap<i32, Progress>,
    /// The partition of the open chunk; its progress is in `partitions`.
    open: Option<i32>,
    /// The offsets of the open chunk's rows.
    jumps: Jumps,
    bad: Vec<BadRecord>,
    bad_rows: Vec<BadRow>,
    records: usize,
    skipped: u64,
    checksum: Checksum,
    /// What the reader is to report next.
    ready: VecDeque<Result<Polled>>,
    /// Partitions that have reached their end and need not be fetched any more.
    finished: Vec<i32>,
    arrived_micros: i64,
}

impl Intake {
    /// # Errors
    /// A partition or an offset beyond what Kafka counts, or a partition given twice.
    pub(super) fn new(rows: RowBuilder, ranges: Vec<ReadRange>) -> Result<Self> {
        let mut partitions = BTreeMap::new();
        for range in ranges {
            let id = native_partition(range.partition)?;
            if partitions.insert(id, Progress::new(range)).is_some() {
                return Err(Error::internal(format!(
                    "partition {id} is to be read twice"
                )));
            }
        }
        let mut intake = Intake {
            rows,
            partitions,
            open: None,
            jumps: Jumps::from(Offset(0)),
            bad: Vec::new(),
            bad_rows: Vec::new(),
            records: 0,
            skipped: 0,
            checksum: Checksum::default(),
            ready: VecDeque::new(),
            finished: Vec::new(),
            arrived_micros: 0,
        };
        intake.finish_empty_ranges()?;
        Ok(intake)
    }

    /// The partitions still to be fetched, each with the offset to begin at.
    pub(super) fn unfinished(&self) -> Vec<(i32, u64)> {
        let left = self
            .partitions
            .iter()
            .filter(|(_, progress)| !progress.is_finished());
        left.map(|(id, progress)| (*id, progress.position()))
            .collect()
    }

    /// Whether nothing is left to read.
    pub(super) fn is_done(&self) -> bool {
        self.partitions.values().all(Progress::is_finished)
    }

    pub(super) fn rows(&self) -> &RowBuilder {
        &self.rows
    }

    pub(super) fn next_ready(&mut self) -> Option<Result<Polled>> {
        self.ready.pop_front()
    }

    /// Reports something of the reader's own, after what is ready already.
    pub(super) fn report(&mut self, polled: Result<Polled>) {
        self.ready.push_back(polled);
    }

    pub(super) fn take_finished(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.finished)
    }

    /// A new batch has come in, at this time.
    pub(super) fn begin_batch(&mut self, arrived_micros: i64) {
        self.arrived_micros = arrived_micros;
    }

    pub(super) fn end_batch(&mut self) -> Result<()> {
        self.close()
    }

    /// Takes a record.
    pub(super) fn record(&mut self, record: &Message<'_>) -> Result<()> {
        let Ok(offset) = u64::try_from(record.offset()) else {
            return Err(Error::internal(format!(
                "a record has offset {}",
                record.offset()
            )));
        };
        let Some(progress) = self.turn_to(record.partition())? else {
            return Ok(());
        };
        // A record before the position was covered already.
        if progress.is_finished() || offset < progress.position() {
            return Ok(());
        }
        if progress.is_cut_due(offset) && self.cut_up_to(offset)? {
            return Ok(());
        }
        self.push(record, offset);
        let seen = offset + 1;
        let progress = self.progress();
        progress.advance(seen);
        if progress.is_cut_due(seen) {
            self.cut_up_to(seen)?;
        } else if self.records >= CHUNK_ROWS_MAX || self.checksum.bytes() >= KAFKA_CHUNK_BYTES_MAX {
            self.close_chunk()?;
        }
        Ok(())
    }

    /// A fetch has found nothing more in the partition; everything before `position` is seen.
    pub(super) fn end_of_partition(&mut self, partition: i32, position: i64) -> Result<()> {
        let Ok(position) = u64::try_from(position) else {
            return Ok(());
        };
        let Some(progress) = self.turn_to(partition)? else {
            return Ok(());
        };
        if progress.is_finished() || self.cut_up_to(position)? {
            return Ok(());
        }
        let progress = self.progress();
        progress.advance(position);
        let (id, at) = (progress.partition, Offset(progress.position()));
        self.close_chunk()?;
        self.ready.push_back(Ok(Polled::AtEnd(id, at)));
        Ok(())
    }

    /// Ends the open chunk of another partition and opens one of this; `None` where the partition
    /// is not read here.
    fn turn_to(&mut self, partition: i32) -> Result<Option<&mut Progress>> {
        if self.open != Some(partition) {
            self.close()?;
            let Some(progress) = self.partitions.get(&partition) else {
                return Ok(None);
            };
            self.jumps = Jumps::from(Offset(progress.position()));
            self.open = Some(partition);
        }
        Ok(Some(self.progress()))
    }

    fn progress(&mut self) -> &mut Progress {
        let open = self.open.expect("a partition was turned to");
        self.partitions
            .get_mut(&open)
            .expect("only partitions that are read are turned to")
    }

    fn push(&mut self, record: &Message<'_>, offset: u64) {
        let payload = record.payload();
        self.records += 1;
        self.checksum.add(payload);
        let Some(payload) = payload else {
            self.skipped += 1;
            return;
        };
        let raw = || payload[..payload.len().min(ERROR_RECORD_BYTES_MAX)].to_vec();
        match self.rows.push(record, payload) {
            Ok(values) => {
                if !values.is_empty() {
                    self.bad_rows.push(BadRow {
                        row: self.jumps.rows(),
                        raw: raw(),
                        values,
                    });
                }
                self.jumps.push(offset);
            }
            Err(reason) => {
                let record = BadRecord {
                    partition: self.progress().partition,
                    offset: Offset(offset),
                    raw: raw(),
                    reason,
                    columns: Vec::new(),
                };
                self.bad.push(record);
            }
        }
    }

    /// Ends chunks at every cut up to `seen`; true when the last of them ends the reading.
    fn cut_up_to(&mut self, seen: u64) -> Result<bool> {
        let mut is_over = false;
        loop {
            let is_replay = self.progress().is_replay();
            let Some(cut) = self.progress().take_cut(seen) else {
                return Ok(is_over);
            };
            self.emit(cut, is_replay)?;
            if cut.is_last {
                is_over = true;
                let partition = self.progress().partition;
                self.ready.push_back(Ok(Polled::Finished(partition)));
                self.finished.extend(self.open);
            }
        }
    }

    fn close(&mut self) -> Result<()> {
        if self.open.is_some() {
            self.close_chunk()?;
            self.open = None;
        }
        Ok(())
    }

    fn close_chunk(&mut self) -> Result<()> {
        let progress = self.progress();
        let is_replay = progress.is_replay();
        match progress.cut_here() {
            Some(cut) => self.emit(cut, is_replay),
            None => Ok(()),
        }
    }

    fn emit(&mut self, cut: Cut, is_replay: bool) -> Result<()> {
        if cut.from >= cut.to {
            return Ok(());
        }
        let partition = self.progress().partition;
        self.records = 0;
        let (checksum, bytes) = self.checksum.finish();
        let chunk = Chunk {
            partition,
            from: cut.from,
            to: cut.to,
            rows: self.rows.finish()?,
            jumps: self.jumps.finish(cut.to),
            weights: None,
            bad: std::mem::take(&mut self.bad),
            bad_rows: std::mem::take(&mut self.bad_rows),
            skipped: std::mem::take(&mut self.skipped),
            checksum,
            bytes,
            arrived_micros: if is_replay { 0 } else { self.arrived_micros },
        };
        self.ready.push_back(Ok(Polled::Chunk(chunk)));
        Ok(())
    }

    fn finish_empty_ranges(&mut self) -> Result<()> {
        let all: Vec<(i32, u64)> = self.unfinished();
        for (partition, from) in all {
            self.turn_to(partition)?;
            self.cut_up_to(from)?;
        }
        self.open = None;
        self.finished.clear();
        Ok(())
    }
}

/// Kafka's own number of a partition.
pub(super) fn native_partition(partition: PartitionId) -> Result<i32> {
    i32::try_from(partition.0)
        .map_err(|_| Error::internal(format!("Kafka has no partition {partition}")))
}
