//! Change histories that outlive the server: what a checkpoint writes of them, and how a restart
//! puts them together again.
//!
//! ```text
//!   step 12 ─► History in memory ─ checkpoint at 20 ─► records 12 … 19 on disk, then the manifest
//!   restart:   records up to the manifest's epoch, then the replay of 21, 22 … adds the rest
//! ```
//!
//! A checkpoint writes only what came since the last one, so its cost follows the change. Steps are
//! replayed exactly, so an epoch that is on disk and beyond the manifest is simply dropped: the
//! replay makes it again. Whether the disk has everything up to the manifest is decided by the
//! epoch of the last change, which the manifest names; if it has not, the history begins there.

use std::collections::VecDeque;

use arrow::array::UInt32Array;
use arrow::datatypes::SchemaRef;

use crate::base::limits::{HISTORY_BYTES_MAX, HISTORY_RECORD_BYTES};
use crate::base::{Epoch, ObjectId};
use crate::delta::{DeltaBatch, Weights, concat};
use crate::error::Result;
use crate::storage::{Changes, HistoryStore};
use crate::view::{ChangeSet, History};

/// What a checkpoint writes of one relation's history.
pub(super) struct HistoryEntry {
    id: ObjectId,
    /// The epoch of the change before the first of these.
    after: Epoch,
    changes: Vec<ChangeSet>,
    /// Changes up to this epoch are not wanted any more.
    floor: Epoch,
}

impl HistoryEntry {
    /// What the disk lacks that has everything up to `since`; `None` = nothing of this relation.
    pub fn collect(id: ObjectId, history: &History, since: Option<Epoch>) -> HistoryEntry {
        let floor = history.floor();
        let after = since.map_or(floor, |since| since.max(floor));
        let changes = history.since(after).expect("it is not before the floor");
        HistoryEntry {
            id,
            after,
            changes,
            floor,
        }
    }

    /// The epoch up to which the disk has everything once this is written.
    pub fn until(&self) -> Epoch {
        self.changes.last().map_or(self.after, |last| last.epoch)
    }

    /// Writes the changes, durably, and lets go of each record as soon as it is.
    pub fn write(self, store: &mut HistoryStore) -> Result<()> {
        let mut after = self.after;
        let mut rest = VecDeque::from(self.changes);
        let mut has_appended = false;
        while !rest.is_empty() {
            let length = record_length(rest.make_contiguous());
            let part: Vec<ChangeSet> = rest.drain(..length).collect();
            let next = part.last().expect("a record has a change").epoch;
            if store.append(self.id, &record(after, part)?)? {
                has_appended = true;
                store.sync(self.id)?;
            }
            after = next;
        }
        match has_appended {
            true => store.trim(self.id, self.floor),
            false => Ok(()),
        }
    }
}

/// How many of the changes, at least one, make a record.
fn record_length(changes: &[ChangeSet]) -> usize {
    let mut bytes = 0;
    for (place, change) in changes.iter().enumerate() {
        bytes += change.delta.bytes();
        if bytes > HISTORY_RECORD_BYTES {
            return place.max(1);
        }
    }
    changes.len()
}

fn record(after: Epoch, changes: Vec<ChangeSet>) -> Result<Changes> {
    let rows_of = |change: &ChangeSet| (change.epoch, change.delta.len());
    let epochs = changes.iter().map(rows_of).collect();
    let deltas: Vec<DeltaBatch> = changes.into_iter().map(|change| change.delta).collect();
    let all = concat(&deltas[0].schema(), &deltas)?;
    Ok(Changes {
        after,
        epochs,
        rows: all.rows().clone(),
        weights: match all.weights() {
            Weights::Ones => None,
            Weights::Each(weights) => Some(weights.to_vec()),
        },
    })
}

/// The history of a relation as of a checkpoint at `epoch`, after which its last change was that of
/// `changed`.
pub(super) fn restore(
    records: Vec<Changes>,
    schema: &SchemaRef,
    epoch: Epoch,
    changed: Epoch,
) -> Result<History> {
    let mut floor = None;
    let mut changes: VecDeque<(Epoch, DeltaBatch)> = VecDeque::new();
    for record in records {
        // What comes again replaces what was there.
        while changes.back().is_some_and(|last| last.0 > record.after) {
            changes.pop_back();
        }
        if changes.back().map(|last| last.0).or(floor) != Some(record.after) {
            changes.clear();
            floor = Some(record.after);
        }
        for change in split(&record, schema)? {
            changes.push_back(change);
        }
    }
    while changes.back().is_some_and(|last| last.0 > epoch) {
        changes.pop_back();
    }
    match (floor, changes.back().map(|last| last.0).or(floor)) {
        (Some(floor), Some(last)) if last == changed => {
            let mut history = History::new(floor, HISTORY_BYTES_MAX);
            for (epoch, delta) in changes {
                history.push(epoch, delta);
            }
            Ok(history)
        }
        _ => Ok(History::new(changed, HISTORY_BYTES_MAX)),
    }
}

/// The record's changes one by one, each with memory of its own.
fn split(record: &Changes, schema: &SchemaRef) -> Result<Vec<(Epoch, DeltaBatch)>> {
    let rows = record.rows.clone().with_schema(schema.clone());
    let rows = rows.map_err(crate::delta::arrow_error)?;
    let weights = match &record.weights {
        None => Weights::Ones,
        Some(weights) => Weights::Each(weights.clone().into()),
    };
    let all = DeltaBatch::new(rows, weights);
    let mut changes = Vec::with_capacity(record.epochs.len());
    let mut at = 0;
    for (epoch, rows) in &record.epochs {
        let number = |row: usize| u32::try_from(row).expect("a batch has fewer than 2^32 rows");
        let indices = UInt32Array::from_iter_values((at..at + rows).map(number));
        changes.push((*epoch, all.take(&indices)?));
        at += rows;
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::notation;

    fn row(value: u64) -> DeltaBatch {
        notation::parse(&format!("a:bigint\n+ {value}\n- {}", value + 100))
    }

    fn changes(after: u64, epochs: &[u64]) -> Changes {
        let set = |epoch: &u64| ChangeSet {
            epoch: Epoch(*epoch),
            delta: row(*epoch),
        };
        record(Epoch(after), epochs.iter().map(set).collect()).unwrap()
    }

    /// The floor and the epochs that are there.
    fn restored(records: Vec<Changes>, epoch: u64, changed: u64) -> (u64, Vec<u64>) {
        let schema = row(0).schema();
        let history = restore(records, &schema, Epoch(epoch), Epoch(changed)).unwrap();
        let floor = history.floor();
        let mut epochs = Vec::new();
        for change in history.since(floor).unwrap() {
            let expected = notation::print(&row(change.epoch.0));
            assert_eq!(notation::print(&change.delta), expected);
            epochs.push(change.epoch.0);
        }
        (floor.0, epochs)
    }

    #[test]
    fn records_that_join_on_are_one_history() {
        let records = vec![changes(3, &[5, 6]), changes(6, &[9])];
        assert_eq!(restored(records.clone(), 9, 9), (3, vec![5, 6, 9]));
        assert_eq!(restored(records, 12, 9), (3, vec![5, 6, 9]));
    }

    #[test]
    fn epochs_beyond_the_checkpoint_are_left_to_the_replay() {
        let records = vec![changes(3, &[5]), changes(5, &[8, 9])];
        assert_eq!(restored(records.clone(), 8, 8), (3, vec![5, 8]));
        assert_eq!(restored(records, 6, 5), (3, vec![5]));
    }

    #[test]
    fn epochs_that_came_again_are_there_once() {
        let records = vec![changes(3, &[5]), changes(5, &[7]), changes(5, &[7, 8])];
        assert_eq!(restored(records, 8, 8), (3, vec![5, 7, 8]));
        let records = vec![changes(3, &[5]), changes(5, &[7]), changes(3, &[5, 7])];
        assert_eq!(restored(records, 8, 7), (3, vec![5, 7]));
    }

    #[test]
    fn a_gap_begins_the_history_anew() {
        let records = vec![changes(3, &[5]), changes(6, &[9])];
        assert_eq!(restored(records, 9, 9), (6, vec![9]));
    }

    #[test]
    fn a_history_that_lacks_the_last_change_is_none() {
        assert_eq!(restored(vec![changes(3, &[5])], 9, 8), (8, vec![]));
        assert_eq!(restored(vec![], 9, 8), (8, vec![]));
        // The checkpoint before was the last whole one, and its part has been trimmed.
        assert_eq!(restored(vec![changes(11, &[12])], 9, 8), (8, vec![]));
    }
}
