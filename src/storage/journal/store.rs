//! The journal's file: a segmented log with one record per offset, and an index by epoch.
//!
//! The journal is kept back to the oldest checkpoint that might be needed
//! (`CheckpointStore::oldest_epoch`), in whole segments. The epoch index is sparse, in memory, and
//! rebuilt while the journal is read on open. Bounds: `JOURNAL_SEGMENT_BYTES`,
//! `JOURNAL_INDEX_SPACING_RECORDS`.

use std::collections::VecDeque;
use std::path::Path;

use crate::base::limits::{JOURNAL_INDEX_SPACING_RECORDS, JOURNAL_SEGMENT_BYTES};
use crate::base::{Epoch, Offset};
use crate::error::{Error, Result, SqlState};
use crate::storage::file::Disk;
use crate::storage::journal::StepRecord;
use crate::storage::log::{LogCursor, LogOptions, LogWriter, SegmentLog, Ticket};

/// The open journal. One owner appends; tickets may be waited for anywhere.
pub struct Journal {
    log: LogWriter,
    /// The last step, or the checkpoint when that is later.
    last: Epoch,
    index: EpochIndex,
}

impl Journal {
    /// Opens the journal, checking every record, to go on from a checkpoint of the state after
    /// epoch `after`; `Epoch::ZERO` means no checkpoint.
    ///
    /// # Errors
    /// XX001 when a record is damaged, or when the record of a step after `after` is missing.
    pub fn open(directory: impl AsRef<Path>, after: Epoch) -> Result<Journal> {
        let options = LogOptions {
            segment_bytes: JOURNAL_SEGMENT_BYTES,
        };
        Journal::open_on(&Disk::new(), directory.as_ref(), after, options)
    }

    pub(in crate::storage) fn open_on(
        disk: &Disk,
        directory: &Path,
        after: Epoch,
        options: LogOptions,
    ) -> Result<Journal> {
        let log = SegmentLog::open_on(disk, directory, options)?;
        let mut last: Option<Epoch> = None;
        let mut index = EpochIndex::default();
        for stored in log.reader().read_from(log.start_offset())? {
            let stored = stored?;
            let epoch = decode(&stored.payload, stored.offset)?.epoch;
            // Only what comes after the checkpoint must be without a gap.
            let follows = match last {
                Some(last) if last < after => epoch > last && epoch <= after.next(),
                Some(last) => epoch == last.next(),
                None => epoch <= after.next(),
            };
            if !follows {
                return Err(misplaced(epoch, last.unwrap_or(after)));
            }
            last = Some(epoch);
            index.offer(epoch, stored.offset);
        }
        Ok(Journal {
            log: LogWriter::spawn("journal", log),
            // The checkpoint may be ahead of a journal whose end was cut: epochs are never used
            // again.
            last: last.unwrap_or(after).max(after),
            index,
        })
    }

    /// The steps after an epoch, read one by one: there is no bound to what they hold together.
    pub fn steps(&self, after: Epoch) -> Result<Steps> {
        let start = self.index.first_needed(after.next());
        let start = start.unwrap_or_else(|| self.log.start_offset());
        let records = self.log.reader().read_from(start)?;
        Ok(Steps { records, after })
    }

    /// Queues a record for the next fsync. Step e may be published when its ticket was waited for;
    /// that ticket covers every record before it.
    ///
    /// # Errors
    /// XX000 when a step's epoch is not the next one; the journal's own error once it has stopped,
    /// and then the server must end.
    pub fn append(&mut self, step: &StepRecord) -> Result<Ticket> {
        if step.epoch != self.last.next() {
            return Err(Error::internal(format!(
                "the journal has step {} after step {}",
                step.epoch, self.last
            )));
        }
        let ticket = self.log.append(step.encode()?, 1)?;
        self.last = step.epoch;
        self.index.offer(step.epoch, ticket.offset());
        Ok(ticket)
    }

    /// Waits until everything appended is durable.
    pub fn sync(&self) -> Result<()> {
        self.log.sync()
    }

    /// What deletes the segments that hold no record of `epoch` or later; for another thread, since
    /// each file is a sync.
    pub fn truncation(&mut self, epoch: Epoch) -> Option<Truncation> {
        let offset = self.index.first_needed(epoch)?;
        // Entries before it are of no use, whether their segments go now or not.
        self.index.forget_before(offset);
        let log = self.log.clone();
        Some(Truncation { log, offset })
    }

    /// The epoch of the last step in the journal, or of the checkpoint when that is later.
    pub fn last_epoch(&self) -> Epoch {
        self.last
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.log.bytes()
    }
}

/// Segments that are not needed any more.
pub struct Truncation {
    log: LogWriter,
    offset: Offset,
}

impl Truncation {
    /// Deletes them.
    pub fn run(self) -> Result<()> {
        self.log.truncate_before(self.offset).map(drop)
    }
}

/// The steps of the journal from some epoch on.
pub struct Steps {
    records: LogCursor,
    after: Epoch,
}

impl Iterator for Steps {
    type Item = Result<StepRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let step = self.records.next()?;
            let step = step.and_then(|stored| decode(&stored.payload, stored.offset));
            match step {
                Ok(step) if step.epoch <= self.after => {}
                step => return Some(step),
            }
        }
    }
}

fn decode(payload: &[u8], offset: Offset) -> Result<StepRecord> {
    StepRecord::decode(payload).map_err(|e| e.context(format_args!("journal record {offset}")))
}

fn misplaced(epoch: Epoch, last: Epoch) -> Error {
    Error::new(
        SqlState::DATA_CORRUPTED,
        format!("the journal has step {epoch} after step {last}"),
    )
    .hint("steps cannot be repeated without every record since the checkpoint")
}

/// Which offset an epoch begins at, roughly.
#[derive(Default)]
struct EpochIndex(VecDeque<(Epoch, Offset)>);

impl EpochIndex {
    fn offer(&mut self, epoch: Epoch, offset: Offset) {
        let is_far = |last: &(Epoch, Offset)| offset.0 >= last.1.0 + JOURNAL_INDEX_SPACING_RECORDS;
        if self.0.back().is_none_or(is_far) {
            self.0.push_back((epoch, offset));
        }
    }

    /// An offset before which every record has a lower epoch; the largest one known.
    fn first_needed(&self, epoch: Epoch) -> Option<Offset> {
        // Records before an entry have its epoch or a lower one.
        let after = self.0.partition_point(|entry| entry.0 < epoch);
        after.checked_sub(1).map(|at| self.0[at].1)
    }

    fn forget_before(&mut self, start: Offset) {
        while self.0.len() > 1 && self.0[1].1 <= start {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::fault::{Fault, Faults};

    fn step(epoch: u64) -> StepRecord {
        StepRecord {
            epoch: Epoch(epoch),
            ..StepRecord::default()
        }
    }

    /// The journal, and what it has after an epoch.
    fn open(directory: &Path, after: u64) -> Result<(Journal, Vec<StepRecord>)> {
        let journal = Journal::open(directory, Epoch(after))?;
        let steps = journal.steps(Epoch(after))?.collect::<Result<_>>()?;
        Ok((journal, steps))
    }

    fn small() -> LogOptions {
        LogOptions {
            segment_bytes: 4096,
        }
    }

    #[test]
    fn replay_begins_after_the_checkpoint() {
        let temporary = tempfile::tempdir().unwrap();
        let (mut journal, replayed) = open(temporary.path(), 0).unwrap();
        assert_eq!(replayed, []);
        for epoch in 1..=3 {
            journal.append(&step(epoch)).unwrap().wait().unwrap();
        }
        assert!(journal.append(&step(5)).is_err(), "step 4 is missing");
        assert!(journal.append(&step(3)).is_err(), "step 3 is over");
        drop(journal);
        let (_, replayed) = open(temporary.path(), 1).unwrap();
        assert_eq!(replayed, [step(2), step(3)]);
        let (mut journal, replayed) = open(temporary.path(), 2).unwrap();
        assert_eq!(replayed, [step(3)]);
        journal.append(&step(4)).unwrap().wait().unwrap();
    }

    #[test]
    fn a_checkpoint_ahead_of_the_journal_goes_on_from_the_checkpoint() {
        let temporary = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(temporary.path(), 0).unwrap();
        journal.append(&step(1)).unwrap().wait().unwrap();
        drop(journal);
        let (mut journal, replayed) = open(temporary.path(), 5).unwrap();
        assert_eq!((replayed, journal.last_epoch()), (vec![], Epoch(5)));
        journal.append(&step(6)).unwrap().wait().unwrap();
        drop(journal);
        let (_, replayed) = open(temporary.path(), 5).unwrap();
        assert_eq!(replayed, [step(6)]);
        // The older checkpoint cannot be rolled forward any more, and that is said.
        let error = open(temporary.path(), 1).err().unwrap();
        assert_eq!(error.state(), SqlState::DATA_CORRUPTED);
    }

    #[test]
    fn truncation_keeps_every_record_that_a_checkpoint_needs() {
        let temporary = tempfile::tempdir().unwrap();
        let disk = Disk::new();
        let reopen = |after| Journal::open_on(&disk, temporary.path(), after, small()).unwrap();
        let mut journal = reopen(Epoch::ZERO);
        for epoch in 1..=2000 {
            let _ = journal.append(&step(epoch)).unwrap();
        }
        journal.sync().unwrap();
        let before = journal.bytes();
        journal.truncation(Epoch(1500)).unwrap().run().unwrap();
        assert!(
            journal.bytes() < before / 2,
            "{} of {before}",
            journal.bytes()
        );
        drop(journal);
        let mut journal = reopen(Epoch(1499));
        let replayed = journal.steps(Epoch(1499)).unwrap();
        let replayed: Vec<_> = replayed.map(Result::unwrap).collect();
        let expected: Vec<_> = (1500..=2000).map(step).collect();
        assert_eq!(replayed, expected);
        journal.truncation(Epoch(1800)).unwrap().run().unwrap();
        assert!(open(temporary.path(), 10).is_err());
    }

    #[test]
    fn a_failed_fsync_is_reported_by_every_later_call() {
        let temporary = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::none());
        let disk = Disk::with_faults(Arc::clone(&faults));
        let mut journal = Journal::open_on(&disk, temporary.path(), Epoch::ZERO, small()).unwrap();
        journal.append(&step(1)).unwrap().wait().unwrap();
        faults.plan_next(Fault::SyncError);
        assert!(journal.append(&step(2)).unwrap().wait().is_err());
        assert!(
            journal
                .append(&step(3))
                .and_then(|ticket| ticket.wait())
                .is_err()
        );
        assert!(journal.sync().is_err());
        drop(journal);
        let (_, replayed) = open(temporary.path(), 0).unwrap();
        assert_eq!(replayed[0], step(1), "what was acknowledged is there");
    }
}
