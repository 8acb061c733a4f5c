//! What readers see: the stores of all tables and views at one epoch.
//!
//! The stepper changes every store of a step under one write lock and then raises the epoch, so
//! whoever holds the read lock sees all relations at the same one. Readers take snapshots (cheap)
//! and
//! let go; nobody computes under the lock.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use arrow::array::{ArrayRef, RecordBatch};
use tokio::sync::watch;

use crate::base::memory::Account;
use crate::base::{Epoch, EventTime, Memory, ObjectId, Offset, PartitionId};
use crate::dataflow::errors::{ErrorLog, ErrorRow};
use crate::dataflow::expiry;
use crate::dataflow::graph::DataflowOutput;
use crate::dataflow::metrics::DataflowMetrics;
use crate::dataflow::source::SourceStatus;
use crate::delta::DeltaBatch;
use crate::error::{Error, Result, SqlState};
use crate::operator::{Counts, TableChange};
use crate::view::{ChangeSet, History, Readers, Snapshot, SnapshotLimits, Store};

/// The published state of all relations.
pub struct Published {
    // A lock, because the stepper replaces several stores as one while readers copy their heads.
    state: RwLock<State>,
    epoch: watch::Sender<Epoch>,
    /// Who reads at an epoch that has passed.
    readers: Readers,
    memory: Arc<Memory>,
}

#[derive(Default)]
struct State {
    epoch: Epoch,
    /// How many relations have gone or failed: who follows one of them is told at once.
    ends: u64,
    collections: BTreeMap<ObjectId, Collection>,
    sources: Vec<SourceStatus>,
    /// The watermarks of the tables that tell time.
    table_times: BTreeMap<ObjectId, EventTime>,
}

struct Collection {
    /// `None` for a source: its rows are not kept.
    store: Option<Store>,
    history: History,
    failure: Option<Error>,
    statistics: Statistics,
    /// What the operators of a view have done.
    metrics: Option<Arc<DataflowMetrics>>,
    /// What was missing where a view began.
    gaps: Vec<String>,
    errors: ErrorLog,
}

/// Relations and sources, all as of one epoch.
pub struct Frame {
    pub epoch: Epoch,
    /// In the order in which they were asked for.
    pub snapshots: Vec<Snapshot>,
    /// For each source that was asked for and that steps take rows of: for each partition the
    /// offset up to which they have.
    pub positions: BTreeMap<ObjectId, BTreeMap<PartitionId, Offset>>,
}

/// Numbers that the system relations show of a relation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    pub counts: Counts,
    /// Rows of change, insertions and removals.
    pub rows_changed: u64,
    pub state_bytes: usize,
}

/// One relation's state for the system relations.
#[derive(Clone, Debug)]
pub struct CollectionStatus {
    pub id: ObjectId,
    pub rows: Option<u64>,
    pub store_bytes: usize,
    pub history_floor: Epoch,
    pub failure: Option<Error>,
    pub statistics: Statistics,
    /// What the operators of a view have done since it runs in this process.
    pub metrics: Option<Arc<DataflowMetrics>>,
    /// What was missing where a view began.
    pub gaps: Vec<String>,
}

impl Published {
    pub fn new(epoch: Epoch, memory: Arc<Memory>) -> Published {
        let state = State {
            epoch,
            ..State::default()
        };
        Published {
            state: RwLock::new(state),
            epoch: watch::Sender::new(epoch),
            readers: Readers::default(),
            memory,
        }
    }

    /// The newest epoch.
    pub fn epoch(&self) -> Epoch {
        *self.epoch.borrow()
    }

    /// Tells when epochs are published, and when a relation goes or fails.
    pub fn watch(&self) -> watch::Receiver<Epoch> {
        self.epoch.subscribe()
    }

    /// Snapshots of the relations, all at the epoch that is returned with them. They are never
    /// taken away: for a view that is built on them, which has a bound of its own.
    ///
    /// # Errors
    /// 55000 when one of them has failed or keeps no rows.
    pub fn snapshots(&self, ids: &[ObjectId]) -> Result<(Epoch, Vec<Snapshot>)> {
        let state = self.read();
        let snapshots = ids
            .iter()
            .map(|id| Ok(state.store(*id)?.snapshot()))
            .collect::<Result<Vec<_>>>()?;
        Ok((state.epoch, snapshots))
    }

    /// Snapshots of relations, and how far the rows of sources are in them, at one epoch. They
    /// may be taken away from who keeps them for long ([`Published::expire_snapshots`]).
    ///
    /// # Errors
    /// As [`Published::snapshots`].
    pub fn frame(&self, ids: &[ObjectId], sources: &[ObjectId]) -> Result<Frame> {
        let state = self.read();
        let snapshots = ids.iter().map(|id| Ok(state.store(*id)?.snapshot()));
        let snapshots = snapshots.collect::<Result<Vec<_>>>()?;
        self.readers.add(&snapshots, Instant::now());
        // Without a reader no step takes rows of a source that others write.
        let is_taken = |source: &&SourceStatus| {
            sources.contains(&source.id) && (source.is_embedded || source.reader.is_some())
        };
        let positions = state.sources.iter().filter(is_taken).map(|source| {
            let partitions = source.partitions.iter();
            let positions = partitions.map(|(partition, state)| (*partition, state.position));
            (source.id, positions.collect())
        });
        Ok(Frame {
            epoch: state.epoch,
            positions: positions.collect(),
            snapshots,
        })
    }

    /// Takes snapshots away from readers: those that are too old, and the oldest while all hold
    /// too much.
    pub(super) fn expire_snapshots(&self, limits: SnapshotLimits, now: Instant) {
        let lost = self.readers.expire(&self.memory, limits, now);
        if lost > 0 {
            tracing::warn!(readers = lost, "snapshots were too old, or held too much");
        }
    }

    /// When the next snapshot is too old.
    pub(super) fn snapshot_deadline(&self, limits: SnapshotLimits) -> Option<Instant> {
        self.readers.deadline(limits)
    }

    /// The rows under the keys, if the newest epoch is still `epoch`; `None` if it is not.
    pub fn lookup(
        &self,
        id: ObjectId,
        epoch: Epoch,
        keys: &[ArrayRef],
    ) -> Result<Option<RecordBatch>> {
        let state = self.read();
        match state.epoch == epoch {
            true => state.store(id)?.lookup(keys).map(Some),
            false => Ok(None),
        }
    }

    /// The next piece of a relation's rows for the checkpoint under way.
    pub(super) fn thaw(&self, id: ObjectId, rows: usize) -> Result<Option<TableChange>> {
        let mut piece = None;
        self.change(|change| {
            if let Some(store) = change.store(id) {
                piece = store.thaw(rows)?;
            }
            Ok(())
        })?;
        Ok(piece)
    }

    /// The row under a key, which is a value per column, at the newest epoch.
    ///
    /// # Errors
    /// 55000 when the relation has failed or gone.
    pub fn find(&self, id: ObjectId, key: &[ArrayRef]) -> Result<RecordBatch> {
        self.read().store(id)?.lookup(key)
    }

    /// The rows of a view before a time, as removals.
    pub(super) fn before(&self, id: ObjectId, time: i64) -> Result<Vec<DeltaBatch>> {
        self.read().store(id)?.before(time)
    }

    /// Which of the keys are in the relation now.
    pub fn contains(&self, id: ObjectId, keys: &[ArrayRef]) -> Result<Vec<bool>> {
        self.read().store(id)?.contains(keys)
    }

    /// Whether a change of a table can be applied to its rows as they are now.
    pub fn accepts(&self, id: ObjectId, delta: &DeltaBatch) -> Result<bool> {
        self.read().store(id)?.accepts(delta)
    }

    /// The changes of a relation after `epoch` up to the epoch that is returned.
    ///
    /// # Errors
    /// 53400 when they are not kept any more, 55000 when the relation has failed.
    pub fn changes_since(&self, id: ObjectId, epoch: Epoch) -> Result<(Epoch, Vec<ChangeSet>)> {
        let state = self.read();
        let collection = state.healthy(id)?;
        match collection.history.since(epoch) {
            Ok(changes) => Ok((state.epoch, changes)),
            Err(oldest) => Err(Error::new(
                SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                format!("the changes after epoch {epoch} are not kept any more"),
            )
            .detail(format!(
                "the oldest epoch that can be resumed from is {oldest}"
            ))
            .hint("subscribe anew with a snapshot")),
        }
    }

    /// The oldest epoch after which all changes of a relation are kept.
    ///
    /// # Errors
    /// 55000 when the relation has failed.
    pub fn oldest_epoch(&self, id: ObjectId) -> Result<Epoch> {
        Ok(self.read().healthy(id)?.history.floor())
    }

    pub(super) fn has_failed(&self, id: ObjectId) -> bool {
        let state = self.read();
        let collection = state.collections.get(&id);
        collection.is_some_and(|collection| collection.failure.is_some())
    }

    /// For each relation the epoch of its last change.
    pub(super) fn last_changes(&self) -> BTreeMap<ObjectId, Epoch> {
        let state = self.read();
        let last = |(id, collection): (&ObjectId, &Collection)| (*id, collection.history.last());
        state.collections.iter().map(last).collect()
    }

    /// What was missing where views began, of those where something was.
    pub(super) fn gaps(&self) -> BTreeMap<ObjectId, Vec<String>> {
        let state = self.read();
        let with_gaps = state
            .collections
            .iter()
            .filter(|(_, collection)| !collection.gaps.is_empty());
        with_gaps
            .map(|(id, collection)| (*id, collection.gaps.clone()))
            .collect()
    }

    /// The state of every relation, by id.
    pub fn status(&self) -> (Epoch, Vec<CollectionStatus>) {
        let state = self.read();
        let status = |(id, collection): (&ObjectId, &Collection)| CollectionStatus {
            id: *id,
            rows: collection.store.as_ref().map(Store::rows),
            store_bytes: collection.store.as_ref().map_or(0, Store::bytes),
            history_floor: collection.history.floor(),
            failure: collection.failure.clone(),
            statistics: collection.statistics,
            metrics: collection.metrics.clone(),
            gaps: collection.gaps.clone(),
        };
        (state.epoch, state.collections.iter().map(status).collect())
    }

    /// The sources as of the newest epoch, by id.
    pub fn sources(&self) -> Vec<SourceStatus> {
        self.read().sources.clone()
    }

    /// The watermarks of the tables that tell time.
    pub fn table_times(&self) -> BTreeMap<ObjectId, EventTime> {
        self.read().table_times.clone()
    }

    /// The errors that a relation keeps, oldest first.
    pub fn errors(&self, id: ObjectId) -> Vec<ErrorRow> {
        let state = self.read();
        state
            .collections
            .get(&id)
            .map_or_else(Vec::new, |collection| {
                collection.errors.rows().cloned().collect()
            })
    }

    /// Changes the published state as one. Only the stepper calls it.
    pub(super) fn change<T>(&self, work: impl FnOnce(&mut Change<'_>) -> Result<T>) -> Result<T> {
        let mut state = self.write();
        let before = (state.epoch, state.ends);
        let result = work(&mut Change(&mut state, &self.memory));
        let (epoch, ends) = (state.epoch, state.ends);
        drop(state);
        if (epoch, ends) != before {
            self.epoch.send_replace(epoch);
        }
        result
    }

    // A reader or the stepper that panicked under the lock left nothing half done that another
    // could not read: stores are replaced slot by slot and a failed dataflow is marked as such.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn healthy(&self, id: ObjectId) -> Result<&Collection> {
        let collection = self.collections.get(&id).ok_or_else(|| {
            Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the relation is not ready or has been dropped",
            )
            .hint("tidemill.progress shows views that are being built")
        })?;
        match &collection.failure {
            None => Ok(collection),
            Some(failure) => Err(Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the relation has failed: {}", failure.message()),
            )
            .hint("drop it and create it again when the cause is gone")),
        }
    }

    fn store(&self, id: ObjectId) -> Result<&Store> {
        self.healthy(id)?
            .store
            .as_ref()
            .ok_or_else(|| Error::internal("a source keeps no rows"))
    }
}

/// The stepper's hands on the published state.
pub(super) struct Change<'a>(&'a mut State, &'a Arc<Memory>);

impl Change<'_> {
    pub fn add(&mut self, id: ObjectId, mut store: Option<Store>, history: History) {
        if let Some(store) = &mut store {
            store.count_superseded_in(self.1.clone());
        }
        let collection = Collection {
            store,
            history,
            failure: None,
            statistics: Statistics::default(),
            metrics: None,
            gaps: Vec::new(),
            errors: ErrorLog::default(),
        };
        self.0.collections.insert(id, collection);
    }

    /// Tells the accounts what running views hold, what rows of views and tables, and what their
    /// histories and left-out rows do.
    pub fn account(&self, memory: &Memory) {
        let (mut state, mut rows, mut history) = (0, 0, 0);
        for collection in self.0.collections.values() {
            state += collection.statistics.state_bytes;
            rows += collection.store.as_ref().map_or(0, Store::bytes);
            history += collection.history.bytes() + collection.errors.bytes();
        }
        memory.set(Account::State, state);
        memory.set(Account::Rows, rows);
        memory.set(Account::History, history);
    }

    pub fn set_sources(&mut self, sources: Vec<SourceStatus>) {
        self.0.sources = sources;
    }

    pub fn set_table_times(&mut self, times: BTreeMap<ObjectId, EventTime>) {
        self.0.table_times = times;
    }

    /// Says what was missing where a view began.
    pub fn set_gaps(&mut self, id: ObjectId, gaps: Vec<String>) {
        if let Some(collection) = self.0.collections.get_mut(&id) {
            collection.gaps = gaps;
        }
    }

    /// Says where a view's operators count.
    pub fn watch(&mut self, id: ObjectId, metrics: Arc<DataflowMetrics>) {
        if let Some(collection) = self.0.collections.get_mut(&id) {
            collection.metrics = Some(metrics);
        }
    }

    pub fn remove(&mut self, id: ObjectId) {
        if self.0.collections.remove(&id).is_some() {
            self.0.ends += 1;
        }
    }

    pub fn apply(&mut self, id: ObjectId, epoch: Epoch, delta: &DeltaBatch) -> Result<()> {
        let Some(collection) = self.0.collections.get_mut(&id) else {
            return Ok(());
        };
        if let Some(store) = &mut collection.store {
            store.apply(delta)?;
        }
        collection.statistics.rows_changed += delta.len() as u64;
        let change = delta.clone().with_origins(None);
        collection.history.push(epoch, change);
        Ok(())
    }

    /// Applies a step's output to a view: to its rows, and to what is told of them.
    pub fn apply_output(
        &mut self,
        id: ObjectId,
        epoch: Epoch,
        output: &DataflowOutput,
    ) -> Result<()> {
        let Some(collection) = self.0.collections.get_mut(&id) else {
            return Ok(());
        };
        if let Some(store) = &mut collection.store {
            expiry::apply(store, output)?;
        }
        if let Some(delta) = &output.delta {
            collection.statistics.rows_changed += delta.len() as u64;
            let change = delta.clone().with_origins(None);
            collection.history.push(epoch, change);
        }
        Ok(())
    }

    pub fn count(&mut self, id: ObjectId, counts: &Counts, state_bytes: usize) {
        if let Some(collection) = self.0.collections.get_mut(&id) {
            collection.statistics.counts.add(counts);
            collection.statistics.state_bytes = state_bytes;
        }
    }

    pub fn record_errors(&mut self, id: ObjectId, rows: impl IntoIterator<Item = ErrorRow>) {
        if let Some(collection) = self.0.collections.get_mut(&id) {
            for row in rows {
                // A record is told of once.
                let _is_new = collection.errors.push(row);
            }
        }
    }

    /// The errors of a relation.
    pub fn errors(&mut self, id: ObjectId) -> Option<&mut ErrorLog> {
        Some(&mut self.0.collections.get_mut(&id)?.errors)
    }

    /// The numbers that a relation has counted.
    pub fn statistics(&mut self, id: ObjectId) -> Option<&mut Statistics> {
        Some(&mut self.0.collections.get_mut(&id)?.statistics)
    }

    pub fn fail(&mut self, id: ObjectId, cause: Error) {
        if let Some(collection) = self.0.collections.get_mut(&id) {
            collection.failure.get_or_insert(cause);
            collection.statistics.state_bytes = 0;
            self.0.ends += 1;
        }
    }

    pub fn publish(&mut self, epoch: Epoch) {
        assert!(epoch >= self.0.epoch, "epochs rise");
        self.0.epoch = epoch;
    }

    pub fn store(&mut self, id: ObjectId) -> Option<&mut Store> {
        self.0.collections.get_mut(&id)?.store.as_mut()
    }

    pub fn history(&mut self, id: ObjectId) -> Option<&mut History> {
        Some(&mut self.0.collections.get_mut(&id)?.history)
    }
}
