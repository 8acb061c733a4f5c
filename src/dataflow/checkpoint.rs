//! Checkpoints of the running dataflows: what changed since the last one, written in the
//! background.
//!
//! At the end of a step every operator, view and table notes what is to be saved as it is then, and
//! a thread begins to write. Steps go on meanwhile: the state is handed over a piece at a time,
//! each when the thread asks for it, and who is about to change something that was not asked for
//! yet saves it before. So a checkpoint costs a step next to nothing and is never in memory as a
//! whole.
//!
//! ```text
//!   step ── freeze ── step ── piece ── step ── piece ── step ── …     stepper
//!              └────────────── └► write ──────── └► write ─► publish  thread
//! ```
//!
//! A dataflow that has no state on disk yet is written whole. If a checkpoint fails, what it was
//! given is lost to the next one, so that one is whole again. The changes since the last one go to
//! the histories before the manifest that relies on them.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::base::limits::{
    CHECKPOINT_BLOCK_ROWS, CHECKPOINT_INTERVAL_PART, CHECKPOINT_MERGE_BYTES,
    CHECKPOINT_REPLAY_BYTES, CHECKPOINT_REPLAY_ROWS,
};
use crate::base::memory::Account;
use crate::base::metrics::PROCESS;
use crate::base::{Epoch, EventTime, Memory, ObjectId, Offset, PartitionId, task};
use crate::dataflow::expiry::view_store;
use crate::dataflow::graph::{Dataflow, StateChange};
use crate::dataflow::handover::{Entry, Giving, handover};
use crate::dataflow::history::HistoryEntry;
use crate::dataflow::progress::Progress;
use crate::dataflow::published::Statistics;
use crate::dataflow::source::PartitionState;
use crate::dataflow::stepper::{Command, Stepper};
use crate::error::{Error, Result};
use crate::operator::{Scope, TableChange};
use crate::plan::StreamPlan;
use crate::storage::{
    Address, BlockKind, Changes, CheckpointStore, CheckpointWriter, HistoryStore, Manifest, Merging,
};
use crate::view::Store;

/// The operator number under which a view's or table's rows are kept.
pub(super) const STORE: u32 = u32::MAX;

/// Where the rows are: they have one shard.
pub(super) const STORE_PLACE: (u32, u32) = (STORE, 0);

/// The operator number under which the errors of a source or view are kept.
pub(super) const ERRORS: u32 = u32::MAX - 1;

/// What a manifest says beside the blocks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Meta {
    pub version: u32,
    pub clock_micros: i64,
    pub sources: BTreeMap<ObjectId, SourceMeta>,
    pub views: BTreeMap<ObjectId, ViewMeta>,
    pub tables: BTreeSet<ObjectId>,
    /// The watermarks of the tables that tell time.
    #[serde(default)]
    pub table_times: BTreeMap<ObjectId, EventTime>,
    /// The epoch of each relation's last change: since then it is the same.
    #[serde(default)]
    pub changed: BTreeMap<ObjectId, Epoch>,
    /// What views have counted.
    #[serde(default)]
    pub counted: BTreeMap<ObjectId, Counted>,
    /// What was missing where views began.
    #[serde(default)]
    pub gaps: BTreeMap<ObjectId, Vec<String>>,
}

/// The counters of a view.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Counted {
    rows_late: u64,
    rows_late_partly: u64,
    retractions_late: u64,
    rows_failed: u64,
    rows_expired: u64,
    rows_evicted: u64,
    rows_changed: u64,
}

impl Counted {
    fn of(statistics: &Statistics) -> Counted {
        let counts = &statistics.counts;
        Counted {
            rows_late: counts.rows_late,
            rows_late_partly: counts.rows_late_partly,
            retractions_late: counts.retractions_late,
            rows_failed: counts.rows_failed,
            rows_expired: counts.rows_expired,
            rows_evicted: counts.rows_evicted,
            rows_changed: statistics.rows_changed,
        }
    }

    /// Puts the numbers back.
    pub fn restore(self, statistics: &mut Statistics) {
        let counts = &mut statistics.counts;
        counts.rows_late = self.rows_late;
        counts.rows_late_partly = self.rows_late_partly;
        counts.retractions_late = self.retractions_late;
        counts.rows_failed = self.rows_failed;
        counts.rows_expired = self.rows_expired;
        counts.rows_evicted = self.rows_evicted;
        statistics.rows_changed = self.rows_changed;
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SourceMeta {
    pub partitions: BTreeMap<PartitionId, PartitionState>,
    pub watermark: EventTime,
    /// See [`crate::dataflow::SourceState::followed_micros`].
    #[serde(default)]
    pub followed_micros: i64,
    /// Where its partitions begin, those among them that were found while it was read.
    #[serde(default)]
    pub startup: BTreeMap<PartitionId, Offset>,
    /// See [`crate::dataflow::SourceState::counted`].
    #[serde(default)]
    pub counted: BTreeSet<usize>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ViewMeta {
    pub shards: usize,
    /// The plan as text: state of another plan is of no use.
    pub plan: String,
}

/// The bytes-on-disk version of [`Meta`].
pub(super) const META_VERSION: u32 = 1;

/// What tells a plan from any other whose state would be laid out or computed otherwise. What
/// EXPLAIN says of a plan besides makes no difference.
pub(super) fn fingerprint(plan: &StreamPlan) -> String {
    let plan = plan.without_remarks();
    format!("{STATE_VERSION}: {plan:?}")
}

/// Raised whenever an operator lays out its state otherwise.
const STATE_VERSION: u32 = 3;

/// Decides when, and keeps the thread that writes.
pub(super) struct Checkpointer {
    store: CheckpointStore,
    // Behind a mutex because it goes to each checkpoint's thread in turn; nobody waits for it.
    histories: Arc<Mutex<HistoryStore>>,
    commands: SyncSender<Command>,
    interval_micros: i64,
    due_micros: i64,
    /// When one is due at the earliest, however much there is to replay.
    early_micros: i64,
    /// What a restart would replay: the rows and the bytes of writes since the last one.
    rows_since: u64,
    bytes_since: u64,
    writing: Option<JoinHandle<()>>,
    /// Who waits for the checkpoint being written, and for the one after it.
    waiting: Vec<Waiting>,
    requested: Vec<Waiting>,
    /// Objects whose state is on disk up to the last checkpoint.
    known: BTreeSet<ObjectId>,
    /// The epoch up to which a relation's history is on disk.
    in_history: BTreeMap<ObjectId, Epoch>,
    dropped: BTreeSet<ObjectId>,
    /// Those of them that the checkpoint being written removes.
    removing: BTreeSet<ObjectId>,
    /// What operators still have to give to the checkpoint being written.
    pub(super) giving: Option<Giving>,
    last: Option<Epoch>,
}

/// Somebody who waits for a checkpoint.
struct Waiting {
    done: oneshot::Sender<Result<Epoch>>,
    /// Of a view that is ready with this checkpoint.
    progress: Option<Arc<Progress>>,
    /// Where that view had its own checkpoints.
    unfinished: Option<PathBuf>,
}

impl Waiting {
    fn answer(self, result: &Result<Epoch>) {
        match (&self.progress, result) {
            (Some(progress), Ok(_)) => progress.finish(),
            (Some(progress), Err(error)) => progress.fail(error.clone()),
            (None, _) => {}
        }
        let _ = self.done.send(result.clone());
    }
}

/// What a checkpoint writes.
pub(super) struct Contents<E> {
    /// What is written whole: it replaces everything that was there, tables that are empty now
    /// included.
    pub whole: BTreeSet<ObjectId>,
    pub dropped: BTreeSet<ObjectId>,
    pub entries: E,
}

/// What is there for a checkpoint at once.
struct Collected {
    scopes: BTreeMap<ObjectId, Scope>,
    /// Views and tables, whose state and rows are given in pieces.
    given: Vec<(ObjectId, Scope)>,
    entries: Vec<Entry>,
    histories: Vec<HistoryEntry>,
}

impl Checkpointer {
    pub fn new(
        (store, histories): (CheckpointStore, HistoryStore),
        commands: SyncSender<Command>,
        interval_micros: i64,
        now_micros: i64,
    ) -> Self {
        Checkpointer {
            store,
            histories: Arc::new(Mutex::new(histories)),
            commands,
            interval_micros,
            due_micros: now_micros.saturating_add(interval_micros),
            early_micros: now_micros.saturating_add(interval_micros / CHECKPOINT_INTERVAL_PART),
            rows_since: 0,
            bytes_since: 0,
            writing: None,
            waiting: Vec::new(),
            requested: Vec::new(),
            known: BTreeSet::new(),
            in_history: BTreeMap::new(),
            dropped: BTreeSet::new(),
            removing: BTreeSet::new(),
            giving: None,
            last: None,
        }
    }

    /// Says that an object's state was read back from the newest checkpoint, and up to which epoch
    /// its history is on disk.
    pub fn is_restored(&mut self, id: ObjectId, in_history: Epoch) {
        self.known.insert(id);
        self.in_history.insert(id, in_history);
    }

    /// Says that a source's errors were read back from the newest checkpoint.
    pub fn is_source_restored(&mut self, id: ObjectId) {
        self.known.insert(id);
    }

    /// Says which epoch the state on disk is of.
    pub fn set_last(&mut self, epoch: Epoch) {
        self.last = Some(epoch);
    }

    /// What is on disk of a relation's history.
    pub fn read_history(&self, id: ObjectId) -> Result<Vec<Changes>> {
        self.histories().read(id)
    }

    /// Removes every history but those of objects that were read back.
    pub fn keep_histories(&self) -> Result<()> {
        self.histories().keep_only(&self.known)
    }

    fn histories(&self) -> MutexGuard<'_, HistoryStore> {
        self.histories
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a checkpoint as soon as there can be one.
    pub fn request(&mut self, done: oneshot::Sender<Result<Epoch>>) {
        self.requested.push(Waiting {
            done,
            progress: None,
            unfinished: None,
        });
    }

    /// As [`Checkpointer::request`], for a view that has joined: with the checkpoint it is ready,
    /// and its own checkpoints are deleted.
    pub fn request_for(
        &mut self,
        progress: Arc<Progress>,
        unfinished: Option<PathBuf>,
        done: oneshot::Sender<Result<Epoch>>,
    ) {
        self.requested.push(Waiting {
            done,
            progress: Some(progress),
            unfinished,
        });
    }

    /// An object is gone: so is its state, with the next checkpoint.
    pub fn forget(&mut self, id: ObjectId) {
        if let Some(giving) = self.giving.take_if(|giving| giving.is_of(id)) {
            // It has failed: what it has is of no epoch.
            giving.fail(Error::internal("a view failed while its state was saved"));
        }
        self.known.remove(&id);
        self.in_history.remove(&id);
        self.dropped.insert(id);
    }

    /// The next checkpoint is due soon, after a tenth of the interval: what was replayed once need
    /// not be again. A server that is killed again and again before its next checkpoint would
    /// replay more each time.
    pub fn hasten(&mut self, now_micros: i64) {
        let part = self.interval_micros / CHECKPOINT_INTERVAL_PART;
        self.due_micros = now_micros.saturating_add(part);
    }

    /// A step was journaled that took so many rows, and writes of so many bytes.
    pub fn note_step(&mut self, rows: u64, bytes: u64) {
        self.rows_since += rows;
        self.bytes_since += bytes;
        if self.rows_since >= CHECKPOINT_REPLAY_ROWS || self.bytes_since >= CHECKPOINT_REPLAY_BYTES
        {
            self.due_micros = self.due_micros.min(self.early_micros);
        }
    }

    /// There is nothing to write, or one is still being written.
    fn put_off(&mut self, now_micros: i64) {
        self.due_micros = now_micros.saturating_add(self.interval_micros);
    }

    /// A checkpoint begins.
    fn begin(&mut self, now_micros: i64) {
        let part = self.interval_micros / CHECKPOINT_INTERVAL_PART;
        self.due_micros = now_micros.saturating_add(self.interval_micros);
        self.early_micros = now_micros.saturating_add(part);
        self.rows_since = 0;
        self.bytes_since = 0;
    }

    /// When the next checkpoint is due by itself.
    pub fn deadline(&self) -> Option<i64> {
        match (self.writing.is_some(), self.requested.is_empty()) {
            (true, _) => None,
            (false, false) => Some(0),
            (false, true) => Some(self.due_micros),
        }
    }

    fn is_due(&self, now_micros: i64, epoch: Epoch) -> bool {
        let is_timely = now_micros >= self.due_micros && self.last != Some(epoch);
        self.writing.is_none() && (!self.requested.is_empty() || is_timely)
    }

    /// The thread has ended. Returns the epoch before which the journal is not needed any more.
    ///
    /// # Errors
    /// When nobody knows any more what is on disk: no checkpoint will ever succeed in this process.
    pub fn finished(&mut self, result: Result<Epoch>) -> Result<Option<Epoch>> {
        self.giving = None;
        if let Some(thread) = self.writing.take()
            && thread.join().is_err()
        {
            tracing::error!("the checkpoint's thread panicked");
        }
        for waiting in self.waiting.drain(..) {
            waiting.answer(&result);
        }
        match result {
            Ok(epoch) => {
                self.last = Some(epoch);
                let removed = std::mem::take(&mut self.removing);
                self.dropped.retain(|id| !removed.contains(id));
                Ok(self.store.oldest_epoch())
            }
            Err(error) => {
                tracing::error!(%error, "a checkpoint failed; the next one is whole");
                PROCESS.checkpoints_failed.add(1);
                self.known.clear();
                self.in_history.clear();
                self.store.check()?;
                self.histories().check()?;
                Ok(None)
            }
        }
    }

    pub fn join(&mut self) {
        if let Some(thread) = self.writing.take() {
            let _ = thread.join();
        }
    }
}

impl Stepper {
    pub(super) fn start_checkpoint_if_due(&mut self) {
        let now = self.options.clock.now_micros();
        if !self.checkpointer.is_due(now, self.epoch) {
            if now >= self.checkpointer.due_micros {
                self.checkpointer.put_off(now);
                // Nothing has changed, but rows grow old.
                self.trim_topics();
            }
            return;
        }
        self.checkpointer.begin(now);
        let collected = match self.collect() {
            Ok(collected) => collected,
            Err(error) => {
                tracing::error!(%error, "the state for a checkpoint could not be collected");
                self.unfreeze();
                self.checkpointer.known.clear();
                self.checkpointer.in_history.clear();
                let requested = std::mem::take(&mut self.checkpointer.requested);
                for waiting in requested {
                    waiting.answer(&Err(error.clone()));
                }
                return;
            }
        };
        let meta = self.meta();
        self.trimmer.note(self.epoch, self.topic_positions());
        self.note_group_positions();
        let checkpointer = &mut self.checkpointer;
        checkpointer.waiting = std::mem::take(&mut checkpointer.requested);
        // Kept until the checkpoint is there: a failed one has removed nothing.
        let dropped = checkpointer.dropped.clone();
        checkpointer.removing.clone_from(&dropped);
        let (store, commands) = (checkpointer.store.clone(), checkpointer.commands.clone());
        let histories = checkpointer.histories.clone();
        let Collected {
            scopes,
            given,
            entries,
            histories: changes,
        } = collected;
        let (giving, taking) = handover(
            given,
            commands.clone(),
            self.options.memory.hold(Account::Checkpoints),
        );
        checkpointer.giving = Some(giving);
        let whole = scopes.iter().filter(|(_, scope)| **scope == Scope::All);
        let contents = Contents {
            whole: whole.map(|(id, _)| *id).collect(),
            dropped,
            entries: entries.into_iter().map(Ok).chain(taking.entries()),
        };
        let waiting = checkpointer.waiting.iter();
        let unfinished: Vec<PathBuf> = waiting.filter_map(|w| w.unfinished.clone()).collect();
        let epoch = self.epoch;
        checkpointer.writing = Some(task::spawn("checkpoint", move || {
            let started = Instant::now();
            // What a panic left behind is a log that is read with suspicion, as after a crash.
            let mut histories = histories.lock().unwrap_or_else(PoisonError::into_inner);
            let work = AssertUnwindSafe(|| {
                write_histories(&mut histories, changes, &contents.dropped)?;
                let meta = serde_json::to_value(&meta)
                    .map_err(|error| Error::internal(format!("the description: {error}")))?;
                let (written, total) = write(&store, epoch, contents, meta)?;
                PROCESS.checkpoints.add(1);
                PROCESS.checkpoint_bytes_written.add(written);
                PROCESS.checkpoint_bytes.set(total);
                PROCESS.checkpoint_epoch.set(epoch.0);
                // They are not needed any more; what is left of them goes at the next start.
                unfinished.iter().for_each(|directory| {
                    if let Err(error) = CheckpointStore::delete(directory) {
                        tracing::warn!(%error, "a ready view's own checkpoints stay");
                    }
                });
                Ok(())
            });
            let result = catch_unwind(work)
                .unwrap_or_else(|_| Err(Error::internal("writing the checkpoint panicked")))
                .map(|()| epoch);
            PROCESS.checkpoint_nanos.add_time(started.elapsed());
            // Until the next one nothing needs what this one took.
            Memory::give_back();
            let _ = commands.send(Command::CheckpointDone(result));
        }));
    }

    /// Notes what changed since the last checkpoint.
    fn collect(&mut self) -> Result<Collected> {
        let mut entries = Vec::new();
        let mut histories = Vec::new();
        let mut given = Vec::new();
        let mut scopes = BTreeMap::new();
        let ids = self.views.keys().chain(self.tables.keys());
        // What is left on disk of a table that cannot be read stays as it is.
        let whole = |id: &&ObjectId| !self.published.has_failed(**id);
        for id in ids.chain(self.sources.keys()).filter(whole) {
            let is_known = self.checkpointer.known.contains(id);
            let scope = if is_known { Scope::Changed } else { Scope::All };
            scopes.insert(*id, scope);
        }
        for (id, view) in &mut self.views {
            view.freeze(scopes[id])?;
        }
        let in_history = &mut self.checkpointer.in_history;
        let late = self
            .views
            .values()
            .filter_map(|view| view.plan().late.as_ref());
        let late: Vec<ObjectId> = late.map(|late| late.object).collect();
        self.published.change(|change| {
            // Their rows are state of their view.
            for id in &late {
                if let Some(history) = change.history(*id) {
                    let entry = HistoryEntry::collect(*id, history, in_history.get(id).copied());
                    in_history.insert(*id, entry.until());
                    histories.push(entry);
                }
            }
            for (id, scope) in &scopes {
                // What a source keeps is its errors.
                if change.store(*id).is_some()
                    && let Some(history) = change.history(*id)
                {
                    let entry = HistoryEntry::collect(*id, history, in_history.get(id).copied());
                    in_history.insert(*id, entry.until());
                    histories.push(entry);
                }
                if let Some(store) = change.store(*id) {
                    store.freeze(*scope);
                    given.push((*id, *scope));
                }
                if let Some(errors) = change.errors(*id)
                    && let Some(change) = errors.changes(*scope)?
                {
                    entries.push(Entry::new(*id, (ERRORS, 0), *scope, change));
                }
            }
            Ok(())
        })?;
        self.checkpointer.known.extend(scopes.keys().copied());
        Ok(Collected {
            scopes,
            given,
            entries,
            histories,
        })
    }

    fn meta(&self) -> Meta {
        let source = |(id, source): (&ObjectId, &super::reading::Source)| {
            let partitions = source.state.partitions.clone();
            (
                *id,
                SourceMeta {
                    partitions,
                    watermark: source.state.watermark(),
                    followed_micros: source.state.followed_micros(),
                    startup: source.state.spec().startup.clone(),
                    counted: source.state.counted().clone(),
                },
            )
        };
        let view = |(id, view): (&ObjectId, &super::graph::Dataflow)| {
            (
                *id,
                ViewMeta {
                    shards: view.shards(),
                    plan: fingerprint(view.plan()),
                },
            )
        };
        let (_, relations) = self.published.status();
        let counted = relations
            .iter()
            .filter(|relation| self.views.contains_key(&relation.id))
            .map(|relation| (relation.id, Counted::of(&relation.statistics)))
            .collect();
        Meta {
            version: META_VERSION,
            clock_micros: self.clock_micros,
            sources: self.sources.iter().map(source).collect(),
            views: self.views.iter().map(view).collect(),
            tables: self.tables.keys().copied().collect(),
            table_times: self.table_times(),
            changed: self.published.last_changes(),
            counted,
            gaps: self.published.gaps(),
        }
    }
}

pub(super) fn kind(scope: Scope) -> BlockKind {
    match scope {
        Scope::All => BlockKind::Full,
        Scope::Changed => BlockKind::Delta,
    }
}

/// Before the manifest: what it says of a relation's last change holds for the history too.
fn write_histories(
    store: &mut HistoryStore,
    entries: Vec<HistoryEntry>,
    dropped: &BTreeSet<ObjectId>,
) -> Result<()> {
    dropped.iter().try_for_each(|id| store.remove(*id))?;
    let mut entries = entries.into_iter();
    entries.try_for_each(|entry| entry.write(store))
}

/// The changes of one operator or store, in the order in which they were written.
pub(super) fn load(
    store: &CheckpointStore,
    manifest: &Arc<Manifest>,
    dataflow: ObjectId,
) -> Result<Vec<(Address, TableChange)>> {
    let mut changes = Vec::new();
    let addresses = manifest.addresses();
    for address in addresses.filter(|address| address.dataflow == dataflow) {
        for block in store.load(manifest, address) {
            let block = block?;
            let change = TableChange {
                table: address.table,
                slots: block.slots,
                rows: block.batch,
                freed: block.freed,
            };
            changes.push((address, change));
        }
    }
    Ok(changes)
}

/// A view's dataflow and rows from what [`load`] gave.
pub(super) fn put_back(
    plan: &StreamPlan,
    shards: usize,
    changes: Vec<(Address, TableChange)>,
) -> Result<(Dataflow, Store)> {
    let mut dataflow = Dataflow::new(plan.clone(), shards)?;
    let mut store = view_store(plan)?;
    let mut rows = Vec::new();
    for (address, change) in changes {
        match address.operator {
            STORE => rows.push(change),
            operator => {
                dataflow.restore(StateChange {
                    operator,
                    shard: address.shard,
                    change,
                })?;
            }
        }
    }
    store.restore(rows)?;
    dataflow.resume();
    Ok((dataflow, store))
}

/// Writes and publishes a checkpoint; returns the bytes written and those of all its files. `meta`
/// is for whoever reads it back. What has been written is let go at once, so that it is not held in
/// memory twice.
pub(super) fn write<E>(
    store: &CheckpointStore,
    epoch: Epoch,
    contents: Contents<E>,
    meta: serde_json::Value,
) -> Result<(u64, u64)>
where
    E: Iterator<Item = Result<Entry>>,
{
    // A bounded share of the work of keeping old files small goes before each checkpoint; its
    // results are published with it.
    loop {
        match store.merge_step(CHECKPOINT_MERGE_BYTES) {
            Ok(Merging::Working) => {}
            Ok(Merging::Idle) => break,
            // Files stay larger than they need be; what is being written now is not in doubt.
            Err(error) => {
                tracing::warn!(%error, "old checkpoint files are not merged");
                break;
            }
        }
    }
    let mut writer: CheckpointWriter = store.begin(epoch)?;
    for id in contents.dropped.iter().chain(&contents.whole) {
        writer.remove_dataflow(*id);
    }
    for entry in contents.entries {
        let Entry {
            address,
            kind,
            change,
        } = entry?;
        write_change(&mut writer, address, kind, &change)?;
    }
    let written = writer.bytes();
    let manifest: Arc<_> = writer.publish(meta)?;
    Ok((written, manifest.bytes()))
}

/// Writes a change in blocks of bounded size; the freed slots go with the first.
fn write_change(
    writer: &mut CheckpointWriter,
    address: Address,
    kind: BlockKind,
    change: &TableChange,
) -> Result<()> {
    let mut freed = change.freed.as_slice();
    let mut begin = 0;
    loop {
        let rows = (change.slots.len() - begin).min(CHECKPOINT_BLOCK_ROWS);
        let slots = &change.slots[begin..begin + rows];
        writer.write_block(address, kind, slots, &change.rows.slice(begin, rows), freed)?;
        begin += rows;
        freed = &[];
        if begin == change.slots.len() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_to_replay_makes_a_checkpoint_due_early() {
        let temporary = tempfile::tempdir().unwrap();
        let (store, _) = CheckpointStore::open(temporary.path().join("c")).unwrap();
        let histories = HistoryStore::new(temporary.path());
        let (commands, _) = std::sync::mpsc::sync_channel(1);
        let mut checkpointer = Checkpointer::new((store, histories), commands, 1_000, 0);
        let is_due = |checkpointer: &Checkpointer, now| checkpointer.is_due(now, Epoch(1));
        checkpointer.note_step(CHECKPOINT_REPLAY_ROWS - 1, CHECKPOINT_REPLAY_BYTES - 1);
        assert!(!is_due(&checkpointer, 999) && is_due(&checkpointer, 1_000));
        checkpointer.note_step(1, 0);
        assert!(!is_due(&checkpointer, 99) && is_due(&checkpointer, 100));
        assert_eq!(checkpointer.deadline(), Some(100));
        checkpointer.begin(100);
        assert!(!is_due(&checkpointer, 1_099) && is_due(&checkpointer, 1_100));
        checkpointer.note_step(0, CHECKPOINT_REPLAY_BYTES);
        assert!(!is_due(&checkpointer, 199) && is_due(&checkpointer, 200));
    }
}
