//! The last changes of relations on disk, so that a subscriber can resume over a restart.
//!
//! Each relation has a log of its own. A record holds the changes of one or more epochs; the rows
//! of all of them are one batch, because most changes are a few rows and a batch of its own would
//! be mostly schema. Each record names the epoch of the change before it, whether that one is here
//! or not. So a reader sees by itself what is complete, whatever failed between two records:
//!
//! ```text
//!   after 10: 12 15 │ after 15: 19 │ after 15: 19 20 │ after 44: 45      44 did not fit
//!   ───── gone ─────┼──── gone ────┼───── gone ──────┼── kept ──►        floor = 44
//!                   └ a checkpoint that failed: its epochs came again
//! ```
//!
//! record: `version u8 | after | count | (epochs since the last, rows) … | batch` ([`batch`]).
//!
//! Bounds: a record is at most `LOG_RECORD_BYTES_MAX`; whoever appends also says from which epoch
//! on changes are still wanted, and what is older goes in whole segments of
//! `HISTORY_SEGMENT_BYTES`. Damage costs the history, never the relation: it is set aside with a
//! warning, since every row of it is in the checkpoint too. A log that met a full disk is closed
//! and opened anew when it is used again; any other error stops it ([`HistoryStore::check`]).
//!
//! [`batch`]: crate::storage::batch

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;

use crate::base::limits::{HISTORY_SEGMENT_BYTES, LOG_RECORD_BYTES_MAX};
use crate::base::{Epoch, ObjectId, Offset};
use crate::error::{Result, SqlState};
use crate::storage::batch::{decode_batch, encode_batch};
use crate::storage::codec::{Decoder, put_number};
use crate::storage::file::{Disk, size};
use crate::storage::log::{LogOptions, SegmentLog};

const VERSION: u8 = 1;

/// The changes of a relation at one or more epochs.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The epoch of the change before these.
    pub after: Epoch,
    /// The epochs, rising, and how many of the rows each has.
    pub epochs: Vec<(Epoch, usize)>,
    pub rows: RecordBatch,
    /// `None`: every row is added once.
    pub weights: Option<Vec<i64>>,
}

/// The histories of all relations. One owner; its calls block on the disk.
pub struct HistoryStore {
    disk: Disk,
    directory: PathBuf,
    logs: BTreeMap<ObjectId, HistoryLog>,
}

/// The open log of one relation.
struct HistoryLog {
    log: SegmentLog,
    /// For each record its last epoch and where it ends.
    records: VecDeque<(Epoch, Offset)>,
}

impl HistoryStore {
    /// The store in `directory`, which exists. Logs are opened when they are used.
    pub fn new(directory: impl AsRef<Path>) -> HistoryStore {
        HistoryStore::new_on(&Disk::new(), directory.as_ref())
    }

    fn new_on(disk: &Disk, directory: &Path) -> HistoryStore {
        HistoryStore {
            disk: disk.clone(),
            directory: directory.to_path_buf(),
            logs: BTreeMap::new(),
        }
    }

    /// What is there of a relation, in the order in which it was written; nothing of one that has
    /// no log, or whose log is damaged.
    pub fn read(&mut self, id: ObjectId) -> Result<Vec<Changes>> {
        if !self.disk.exists(&self.path(id)) {
            return Ok(Vec::new());
        }
        match self.open(id).and_then(HistoryLog::read) {
            Err(error) if error.state() == SqlState::DATA_CORRUPTED => {
                tracing::warn!(object = id.0, %error, "a change history is lost; it begins anew");
                self.remove(id)?;
                Ok(Vec::new())
            }
            read => read,
        }
    }

    /// Appends changes; they are durable after the next [`HistoryStore::sync`]. False: they are too
    /// large for a record, and the next one will not join on.
    pub fn append(&mut self, id: ObjectId, changes: &Changes) -> Result<bool> {
        let payload = encode(changes)?;
        if payload.len() > LOG_RECORD_BYTES_MAX {
            return Ok(false);
        }
        let last = changes.epochs.last().map_or(changes.after, |last| last.0);
        let appended = self.log(id)?.log.append(&payload, 1);
        let offset = self.settled(id, appended)?;
        let records = &mut self.log(id)?.records;
        records.push_back((last, Offset(offset.0 + 1)));
        Ok(true)
    }

    /// Makes what was appended to a relation's log durable.
    pub fn sync(&mut self, id: ObjectId) -> Result<()> {
        let synced = self.log(id)?.log.sync();
        self.settled(id, synced)
    }

    /// # Errors
    /// What has stopped a log, after which only a restart finds out what is on disk.
    pub fn check(&self) -> Result<()> {
        self.logs.values().try_for_each(|log| log.log.check())
    }

    /// Closes a log that the full disk has stopped: what it has is cut at its last whole record
    /// when it is opened again, and the records that were lost come again.
    fn settled<T>(&mut self, id: ObjectId, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| {
            if error.state() == SqlState::DISK_FULL {
                self.logs.remove(&id);
            }
        })
    }

    /// Deletes segments that hold nothing after `floor`.
    pub fn trim(&mut self, id: ObjectId, floor: Epoch) -> Result<()> {
        let log = self.log(id)?;
        let mut needed = None;
        while let Some((last, end)) = log.records.front() {
            if *last > floor {
                break;
            }
            needed = Some(*end);
            log.records.pop_front();
        }
        if let Some(needed) = needed {
            log.log.truncate_before(needed)?;
        }
        Ok(())
    }

    /// Removes a relation's history.
    pub fn remove(&mut self, id: ObjectId) -> Result<()> {
        self.logs.remove(&id);
        let path = self.path(id);
        if self.disk.exists(&path) {
            self.disk.remove_directory(&path)?;
            self.disk.sync_directory(&self.directory)?;
        }
        Ok(())
    }

    /// Removes every history but those of the given relations.
    pub fn keep_only(&mut self, ids: &BTreeSet<ObjectId>) -> Result<()> {
        for name in self.disk.list(&self.directory)? {
            if let Ok(id) = name.parse().map(ObjectId)
                && !ids.contains(&id)
            {
                self.remove(id)?;
            }
        }
        Ok(())
    }

    fn path(&self, id: ObjectId) -> PathBuf {
        self.directory.join(id.to_string())
    }

    fn log(&mut self, id: ObjectId) -> Result<&mut HistoryLog> {
        if !self.logs.contains_key(&id) && self.disk.exists(&self.path(id)) {
            // Which record is in which place is not known until it was read.
            self.read(id)?;
        }
        self.open(id)
    }

    fn open(&mut self, id: ObjectId) -> Result<&mut HistoryLog> {
        let path = self.path(id);
        match self.logs.entry(id) {
            std::collections::btree_map::Entry::Occupied(log) => Ok(log.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => {
                let is_new = !self.disk.exists(&path);
                let options = LogOptions {
                    segment_bytes: HISTORY_SEGMENT_BYTES,
                };
                let log = SegmentLog::open_on(&self.disk, &path, options)?;
                if is_new {
                    self.disk.sync_directory(&self.directory)?;
                }
                Ok(place.insert(HistoryLog {
                    log,
                    records: VecDeque::new(),
                }))
            }
        }
    }
}

impl HistoryLog {
    fn read(&mut self) -> Result<Vec<Changes>> {
        self.records.clear();
        let mut all = Vec::new();
        for record in self.log.reader().read_from(self.log.start_offset())? {
            let record = record?;
            let changes = decode(&record.payload)?;
            let last = changes.epochs.last().map_or(changes.after, |last| last.0);
            self.records.push_back((last, record.end()));
            all.push(changes);
        }
        Ok(all)
    }
}

fn encode(changes: &Changes) -> Result<Vec<u8>> {
    let batch = encode_batch(&changes.rows, changes.weights.as_deref())?;
    let mut out = Vec::with_capacity(batch.len() + 16 + 4 * changes.epochs.len());
    out.push(VERSION);
    put_number(&mut out, changes.after.0);
    put_number(&mut out, size(changes.epochs.len()));
    let mut last = changes.after;
    for (epoch, rows) in &changes.epochs {
        assert!(*epoch > last, "the epochs of changes rise");
        put_number(&mut out, epoch.0 - last.0);
        put_number(&mut out, size(*rows));
        last = *epoch;
    }
    out.extend_from_slice(&batch);
    Ok(out)
}

fn decode(bytes: &[u8]) -> Result<Changes> {
    let mut decoder = Decoder::new(bytes, "change history record");
    if decoder.byte()? != VERSION {
        return Err(decoder.wrong("was written by another version"));
    }
    let after = Epoch(decoder.number()?);
    let mut epochs = Vec::new();
    let (mut last, mut total) = (after, 0usize);
    for _ in 0..decoder.count()? {
        let epoch = last.0.checked_add(decoder.number()?).map(Epoch);
        last = epoch.ok_or_else(|| decoder.wrong("has an impossible epoch"))?;
        let rows = usize::try_from(decoder.number()?).ok();
        let rows = rows.ok_or_else(|| decoder.wrong("has impossibly many rows"))?;
        total = total.saturating_add(rows);
        epochs.push((last, rows));
    }
    let (rows, weights) = decode_batch(decoder.rest())?;
    match rows.num_rows() == total {
        true => Ok(Changes {
            after,
            epochs,
            rows,
            weights,
        }),
        false => Err(Decoder::new(bytes, "change history record").wrong("lacks rows")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;

    use super::*;
    use crate::storage::fault::{Fault, Faults};

    fn changes(after: u64, epochs: &[u64]) -> Changes {
        let values: Vec<i64> = epochs.iter().map(|epoch| epoch.cast_signed()).collect();
        let column = Arc::new(Int64Array::from(values));
        let batch = RecordBatch::try_from_iter([("n", column as arrow::array::ArrayRef)]);
        Changes {
            after: Epoch(after),
            epochs: epochs.iter().map(|&epoch| (Epoch(epoch), 1)).collect(),
            rows: batch.unwrap(),
            weights: Some(vec![-1; epochs.len()]),
        }
    }

    fn read(store: &mut HistoryStore, id: u64) -> Vec<(u64, Vec<u64>)> {
        let records = store.read(ObjectId(id)).unwrap();
        let summary = |record: &Changes| {
            let epochs = record.epochs.iter().map(|(epoch, _)| epoch.0).collect();
            assert_eq!(record.weights, Some(vec![-1; record.rows.num_rows()]));
            (record.after.0, epochs)
        };
        records.iter().map(summary).collect()
    }

    #[test]
    fn changes_come_back_until_they_are_trimmed_or_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let mut store = HistoryStore::new(temporary.path());
        for (after, epochs) in [(10, vec![12, 15]), (15, vec![19])] {
            assert!(store.append(ObjectId(1), &changes(after, &epochs)).unwrap());
        }
        store.append(ObjectId(2), &changes(0, &[1])).unwrap();
        store.sync(ObjectId(1)).unwrap();
        store.sync(ObjectId(2)).unwrap();
        let mut store = HistoryStore::new(temporary.path());
        assert_eq!(read(&mut store, 1), [(10, vec![12, 15]), (15, vec![19])]);
        // What is not old as a whole segment stays.
        store.trim(ObjectId(1), Epoch(15)).unwrap();
        assert_eq!(read(&mut store, 1).len(), 2);
        store.keep_only(&BTreeSet::from([ObjectId(2)])).unwrap();
        let mut store = HistoryStore::new(temporary.path());
        assert_eq!(read(&mut store, 1), []);
        assert_eq!(read(&mut store, 2), [(0, vec![1])]);
    }

    #[test]
    fn old_segments_go() {
        let temporary = tempfile::tempdir().unwrap();
        let mut store = HistoryStore::new(temporary.path());
        let id = ObjectId(1);
        let rows = i64::try_from(HISTORY_SEGMENT_BYTES / 16).unwrap();
        let column = Arc::new(Int64Array::from_iter_values(0..rows));
        let batch = RecordBatch::try_from_iter([("n", column as arrow::array::ArrayRef)]).unwrap();
        for epoch in 1..=8 {
            let large = Changes {
                after: Epoch(epoch - 1),
                epochs: vec![(Epoch(epoch), batch.num_rows())],
                rows: batch.clone(),
                weights: None,
            };
            store.append(id, &large).unwrap();
            store.sync(id).unwrap();
            store.trim(id, Epoch(epoch.saturating_sub(2))).unwrap();
        }
        let mut store = HistoryStore::new(temporary.path());
        let left: Vec<u64> = store.read(id).unwrap().iter().map(|c| c.after.0).collect();
        assert_eq!(left, [6, 7]);
    }

    #[test]
    fn a_full_disk_stops_no_history() {
        let id = ObjectId(1);
        for at in 0..100 {
            let temporary = tempfile::tempdir().unwrap();
            let faults = Arc::new(Faults::none());
            let mut store =
                HistoryStore::new_on(&Disk::with_faults(Arc::clone(&faults)), temporary.path());
            let write = |store: &mut HistoryStore, epoch| -> Result<()> {
                store.append(id, &changes(epoch - 1, &[epoch]))?;
                store.sync(id)
            };
            write(&mut store, 1).unwrap();
            let planned = faults.changes() + at;
            faults.plan(planned, Fault::Full);
            let written = write(&mut store, 2);
            let is_over = faults.changes() <= planned;
            // There is room again.
            faults.plan(u64::MAX, Fault::Full);
            if let Err(error) = written {
                assert_eq!(error.state(), SqlState::DISK_FULL, "{error}");
                store.check().unwrap();
                write(&mut store, 2).unwrap();
            }
            write(&mut store, 3).unwrap();
            store.trim(id, Epoch(2)).unwrap();
            drop(store);
            let mut store = HistoryStore::new(temporary.path());
            let last = read(&mut store, 1).last().cloned();
            assert_eq!(last, Some((2, vec![3])));
            if is_over {
                assert!(at > 1, "it has met a full disk");
                return;
            }
        }
        panic!("a record is few changes of the disk");
    }

    #[test]
    fn a_failed_sync_stops_the_history_and_says_so() {
        let temporary = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::none());
        let disk = Disk::with_faults(Arc::clone(&faults));
        let mut store = HistoryStore::new_on(&disk, temporary.path());
        store.append(ObjectId(1), &changes(0, &[1])).unwrap();
        store.check().unwrap();
        faults.plan_next(Fault::SyncError);
        store.sync(ObjectId(1)).unwrap_err();
        store.check().unwrap_err();
    }

    #[test]
    fn damage_costs_the_history_and_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let mut store = HistoryStore::new(temporary.path());
        let id = ObjectId(1);
        for epoch in 1..=2 {
            store.append(id, &changes(epoch - 1, &[epoch])).unwrap();
            store.sync(id).unwrap();
        }
        drop(store);
        let directory = temporary.path().join("1");
        let file = std::fs::read_dir(directory).unwrap().next().unwrap();
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = 60;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let mut store = HistoryStore::new(temporary.path());
        assert_eq!(read(&mut store, 1), []);
        store.append(id, &changes(7, &[9])).unwrap();
        store.sync(id).unwrap();
        assert_eq!(read(&mut store, 1), [(7, vec![9])]);
    }
}
