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
use crate::storage::journal::JournalRecord;
use crate::storage::log::{LogOptions, LogWriter, SegmentLog, Ticket};

/// The open journal. One owner appends; tickets may be waited for anywhere.
pub struct Journal {
    log: LogWriter,
    order: Order,
    index: EpochIndex,
}

impl Journal {
    /// Opens the journal and returns the records that come after a checkpoint: steps of epochs
    /// after `after`, and control records for those steps. `Epoch::ZERO` means no checkpoint.
    ///
    /// # Errors
    /// XX001 when a record is damaged, or when the record of a step after `after` is missing.
    pub fn open(
        directory: impl AsRef<Path>,
        after: Epoch,
    ) -> Result<(Journal, Vec<JournalRecord>)> {
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
    ) -> Result<(Journal, Vec<JournalRecord>)> {
        let log = SegmentLog::open_on(disk, directory, options)?;
        let mut order = Order::default();
        let mut index = EpochIndex::default();
        let mut replayed = Vec::new();
        let mut steps = Order {
            step: Some(after),
            control: None,
        };
        for stored in log.reader().read_from(log.start_offset())? {
            let stored = stored?;
            let record = JournalRecord::decode(&stored.payload)
                .map_err(|e| e.context(format_args!("journal record {}", stored.offset)))?;
            order.rises(&record).map_err(|e| misplaced(&e))?;
            index.offer(record.epoch(), stored.offset);
            if record.epoch() > after {
                steps.follows(&record).map_err(|e| misplaced(&e))?;
                replayed.push(record);
            }
        }
        // The checkpoint may be ahead of a journal whose end was cut: epochs are never used again.
        if order.step < Some(after) {
            order.step = Some(after);
        }
        Ok((
            Journal {
                log: LogWriter::spawn("journal", log),
                order,
                index,
            },
            replayed,
        ))
    }

    /// Queues a record for the next fsync. Step e may be published when its ticket was waited for;
    /// that ticket covers every record before it.
    ///
    /// # Errors
    /// XX000 when a step's epoch is not the next one; the journal's own error once it has stopped,
    /// and then the server must end.
    pub fn append(&mut self, record: &JournalRecord) -> Result<Ticket> {
        let mut order = self.order.clone();
        order.follows(record)?;
        let ticket = self.log.append(record.encode()?, 1)?;
        self.order = order;
        self.index.offer(record.epoch(), ticket.offset());
        Ok(ticket)
    }

    /// Waits until everything appended is durable.
    pub fn sync(&self) -> Result<()> {
        self.log.sync()
    }

    /// Deletes segments that hold no record of `epoch` or later.
    pub fn truncate_before(&mut self, epoch: Epoch) -> Result<()> {
        if let Some(offset) = self.index.first_needed(epoch) {
            let start = self.log.truncate_before(offset)?;
            self.index.forget_before(start);
        }
        Ok(())
    }

    /// The epoch of the last step in the journal, or of the checkpoint when that is later.
    pub fn last_epoch(&self) -> Epoch {
        self.order.step.unwrap_or_default()
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.log.bytes()
    }
}

/// The order that records keep: steps rise by one, control records come before their step.
#[derive(Clone, Default)]
struct Order {
    step: Option<Epoch>,
    control: Option<Epoch>,
}

impl Order {
    /// Takes the next record, which must follow the last one without a gap.
    fn follows(&mut self, record: &JournalRecord) -> Result<()> {
        if let (JournalRecord::Step(step), Some(last)) = (record, self.step)
            && step.epoch != last.next()
        {
            return Err(Error::internal(format!(
                "the journal has step {} after step {last}",
                step.epoch
            )));
        }
        self.rises(record)
    }

    /// Takes the next record, which must not go back.
    fn rises(&mut self, record: &JournalRecord) -> Result<()> {
        let epoch = record.epoch();
        if Some(epoch) <= self.step || Some(epoch) < self.control {
            return Err(Error::internal(format!(
                "the journal goes back to epoch {epoch}"
            )));
        }
        match record {
            JournalRecord::Step(_) => self.step = Some(epoch),
            JournalRecord::Control(_) => self.control = Some(epoch),
        }
        Ok(())
    }
}

fn misplaced(cause: &Error) -> Error {
    Error::new(SqlState::DATA_CORRUPTED, cause.message())
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
    use crate::storage::journal::{ControlRecord, StepRecord};

    fn step(epoch: u64) -> JournalRecord {
        JournalRecord::Step(StepRecord {
            epoch: Epoch(epoch),
            ..StepRecord::default()
        })
    }

    fn control(epoch: u64) -> JournalRecord {
        let change = serde_json::json!({"join": epoch});
        JournalRecord::Control(ControlRecord {
            epoch: Epoch(epoch),
            change,
        })
    }

    fn small() -> LogOptions {
        LogOptions {
            segment_bytes: 4096,
        }
    }

    #[test]
    fn replay_begins_after_the_checkpoint_with_its_control_records() {
        let temporary = tempfile::tempdir().unwrap();
        let (mut journal, replayed) = Journal::open(temporary.path(), Epoch::ZERO).unwrap();
        assert_eq!(replayed, []);
        for record in [
            step(1),
            control(2),
            control(2),
            step(2),
            step(3),
            control(4),
        ] {
            journal.append(&record).unwrap().wait().unwrap();
        }
        assert!(journal.append(&step(5)).is_err(), "step 4 is missing");
        assert!(journal.append(&control(3)).is_err(), "step 3 is over");
        drop(journal);
        let (_, replayed) = Journal::open(temporary.path(), Epoch(1)).unwrap();
        assert_eq!(
            replayed,
            [control(2), control(2), step(2), step(3), control(4)]
        );
        let (mut journal, replayed) = Journal::open(temporary.path(), Epoch(2)).unwrap();
        assert_eq!(replayed, [step(3), control(4)]);
        journal.append(&step(4)).unwrap().wait().unwrap();
    }

    #[test]
    fn a_checkpoint_ahead_of_the_journal_goes_on_from_the_checkpoint() {
        let temporary = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(temporary.path(), Epoch::ZERO).unwrap();
        journal.append(&step(1)).unwrap().wait().unwrap();
        drop(journal);
        let (mut journal, replayed) = Journal::open(temporary.path(), Epoch(5)).unwrap();
        assert_eq!((replayed, journal.last_epoch()), (vec![], Epoch(5)));
        journal.append(&step(6)).unwrap().wait().unwrap();
        drop(journal);
        let (_, replayed) = Journal::open(temporary.path(), Epoch(5)).unwrap();
        assert_eq!(replayed, [step(6)]);
        // The older checkpoint cannot be rolled forward any more, and that is said.
        let error = Journal::open(temporary.path(), Epoch(1)).err().unwrap();
        assert_eq!(error.state(), SqlState::DATA_CORRUPTED);
    }

    #[test]
    fn truncation_keeps_every_record_that_a_checkpoint_needs() {
        let temporary = tempfile::tempdir().unwrap();
        let disk = Disk::new();
        let open = |after| Journal::open_on(&disk, temporary.path(), after, small()).unwrap();
        let (mut journal, _) = open(Epoch::ZERO);
        for epoch in 1..=2000 {
            let _ = journal.append(&step(epoch)).unwrap();
        }
        journal.sync().unwrap();
        let before = journal.bytes();
        journal.truncate_before(Epoch(1500)).unwrap();
        assert!(
            journal.bytes() < before / 2,
            "{} of {before}",
            journal.bytes()
        );
        drop(journal);
        let (mut journal, replayed) = open(Epoch(1499));
        let expected: Vec<_> = (1500..=2000).map(step).collect();
        assert_eq!(replayed, expected);
        journal.truncate_before(Epoch(1800)).unwrap();
        assert!(Journal::open(temporary.path(), Epoch(10)).is_err());
    }

    #[test]
    fn a_failed_fsync_is_reported_by_every_later_call() {
        let temporary = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::none());
        let disk = Disk::with_faults(Arc::clone(&faults));
        let (mut journal, _) =
            Journal::open_on(&disk, temporary.path(), Epoch::ZERO, small()).unwrap();
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
        let (_, replayed) = Journal::open(temporary.path(), Epoch::ZERO).unwrap();
        assert_eq!(replayed[0], step(1), "what was acknowledged is there");
    }
}
