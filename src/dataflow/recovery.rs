//! From what is on disk to running dataflows: the newest checkpoint, then the journal.
//!
//! ```text
//!   manifest of epoch 700 ─► state of views and tables, positions, watermarks
//!   journal  701, 702, …  ─► the same runs read again, the same steps, the same epochs
//!   views without state   ─► built anew, beside the others
//! ```
//!
//! There is no other path: a server that was stopped in order starts the same way. A run that reads
//! back with other rows or another checksum is an error that names it; so is a topic that is not
//! the one that was read. A broker that is away is waited for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;

use crate::base::limits::{HISTORY_BYTES_MAX, READER_POLL, REPLAY_STALL};
use crate::base::{Epoch, ObjectId, Offset, PartitionId};
use crate::connector::{Chunk, Polled, ReadRange, Reader};
use crate::dataflow::checkpoint::{
    Checkpointer, ERRORS, META_VERSION, Meta, ViewMeta, fingerprint, load, put_back,
};
use crate::dataflow::closer::Closer;
use crate::dataflow::errors::ErrorLog;
use crate::dataflow::group_commit::GroupCommits;
use crate::dataflow::history;
use crate::dataflow::late::late_store;
use crate::dataflow::progress::Progress;
use crate::dataflow::published::Published;
use crate::dataflow::retention::Trimmer;
use crate::dataflow::source::{SourceSpec, SourceState};
use crate::dataflow::startup::{Phase, Startup};
use crate::dataflow::stepper::{Command, Cut, NewView, RuntimeOptions, Stepper, Write};
use crate::dataflow::table::TableSpec;
use crate::dataflow::watch::{Watch, another_topic};
use crate::dataflow::writes::decode_delta;
use crate::error::{Error, Result, SqlState};
use crate::operator::{Counts, TableChange};
use crate::plan::StreamPlan;
use crate::storage::{
    Address, CheckpointStore, DataDirectory, HistoryStore, Journal, LogWriter, Manifest, Run,
    StepRecord,
};
use crate::view::{History, Store};

/// The objects that the catalog says there are, dependencies before dependents.
#[derive(Default)]
pub struct Objects {
    pub sources: Vec<(SourceSpec, Vec<LogWriter>)>,
    pub tables: Vec<TableSpec>,
    pub views: Vec<RecoveredView>,
}

/// A view to go on with, or to build if its state is not there.
pub struct RecoveredView {
    pub id: ObjectId,
    pub name: String,
    pub plan: StreamPlan,
    pub progress: Arc<Progress>,
}

pub(super) fn recover(
    directory: &DataDirectory,
    options: RuntimeOptions,
    objects: Objects,
    commands: SyncSender<Command>,
    startup: &Startup,
) -> Result<Stepper> {
    startup.set(Phase::Recovering);
    let (checkpoints, manifest) = CheckpointStore::open(directory.checkpoints())?;
    let (manifest, stores) = read_tables(&checkpoints, manifest, &objects.tables)?;
    let epoch = manifest
        .as_ref()
        .map_or(Epoch::ZERO, |manifest| manifest.epoch());
    let journal = Journal::open(directory.journal(), epoch)?;
    let now = options.clock.now_micros();
    let histories = HistoryStore::new(directory.histories());
    let mut checkpointer = Checkpointer::new(
        (checkpoints.clone(), histories),
        commands.clone(),
        options.checkpoint_interval_micros,
        now,
    );
    checkpointer.set_last(epoch);
    let meta = manifest
        .as_deref()
        .map(meta_of)
        .transpose()?
        .unwrap_or_default();
    let (watch, closer) = (Watch::start(commands.clone()), Closer::start());
    let published = Published::new(epoch, options.memory.clone());
    let mut stepper = Stepper {
        shown_at: options.clock.steady_micros(),
        options,
        commands,
        published: Arc::new(published),
        journal,
        checkpointer,
        watch,
        closer,
        sources: BTreeMap::new(),
        tables: BTreeMap::new(),
        table_clocks: BTreeMap::new(),
        views: BTreeMap::new(),
        epoch,
        clock_micros: meta.clock_micros,
        staged: VecDeque::new(),
        is_step_due: false,
        rows_budget: crate::base::limits::STEP_ROWS_MIN,
        catching_up: BTreeMap::new(),
        is_ended: false,
        trimmer: Trimmer::default(),
        group_commits: GroupCommits::default(),
    };
    let state = State {
        checkpoints,
        manifest,
        meta,
    };
    let missing = stepper.restore(objects, stores, &state)?;
    let positions = stepper.topic_positions();
    stepper.trimmer.note(epoch, positions);
    for id in stepper.views.keys() {
        // A kill came between the checkpoint that has the view and this.
        CheckpointStore::delete(directory.catchup(*id))?;
    }
    stepper.replay(epoch, startup)?;
    stepper.take_orphans()?;
    for view in missing {
        let RecoveredView {
            id,
            name,
            plan,
            progress,
        } = view;
        tracing::info!(
            view = name,
            "a view's state is not on disk; it is built anew"
        );
        // Nobody waits for it: tidemill.progress shows it.
        let (done, _) = tokio::sync::oneshot::channel();
        stepper.add_view(NewView {
            id,
            name,
            plan,
            progress,
            checkpoints: Some(directory.catchup(id)),
            done,
        });
    }
    let memory = stepper.options.memory.clone();
    stepper.published.change(|change| {
        change.account(&memory);
        Ok(())
    })?;
    let ids: Vec<ObjectId> = stepper.sources.keys().copied().collect();
    for id in ids {
        if stepper.is_read(id) {
            stepper.try_to_read(id);
        }
    }
    // A source whose views have all failed begins anew with its next view.
    stepper.stop_unread_sources();
    // A topic without a view has positions too.
    stepper.publish_sources();
    Ok(stepper)
}

/// For each source and partition what is read again.
type Ranges = BTreeMap<ObjectId, BTreeMap<PartitionId, ReadRange>>;

struct State {
    checkpoints: CheckpointStore,
    manifest: Option<Arc<Manifest>>,
    meta: Meta,
}

impl State {
    /// The changes of one operator or store, in the order in which they were written.
    fn load(&self, dataflow: ObjectId) -> Result<Vec<(Address, TableChange)>> {
        match &self.manifest {
            None => Ok(Vec::new()),
            Some(manifest) => load(&self.checkpoints, manifest, dataflow),
        }
    }
}

/// For each table that the checkpoint has its rows, or why they cannot be read.
type Stores = BTreeMap<ObjectId, Result<Store>>;

/// Reads the rows of tables: from the newest checkpoint; from the one before it, which is the one
/// to recover from then, where rows of the newest are damaged there only. The journal reaches back
/// to it.
fn read_tables(
    checkpoints: &CheckpointStore,
    newest: Option<Arc<Manifest>>,
    tables: &[TableSpec],
) -> Result<(Option<Arc<Manifest>>, Stores)> {
    let Some(newest) = newest else {
        return Ok((None, Stores::new()));
    };
    let stores = table_stores(checkpoints, &newest, tables)?;
    if stores.values().all(Result::is_ok) {
        return Ok((Some(newest), stores));
    }
    if let Some(older) = checkpoints.before_newest() {
        let older_stores = table_stores(checkpoints, &older, tables)?;
        if older_stores.values().all(Result::is_ok) {
            tracing::warn!(epoch = %older.epoch(), "the checkpoint before the newest is used");
            checkpoints.set_newest_aside()?;
            return Ok((Some(older), older_stores));
        }
    }
    Ok((Some(newest), stores))
}

fn table_stores(
    checkpoints: &CheckpointStore,
    manifest: &Arc<Manifest>,
    tables: &[TableSpec],
) -> Result<Stores> {
    let meta = meta_of(manifest)?;
    let mut stores = Stores::new();
    for table in tables
        .iter()
        .filter(|table| meta.tables.contains(&table.id))
    {
        let store = load(checkpoints, manifest, table.id).and_then(|changes| {
            let mut store = Store::new(table.schema.clone(), table.identity.clone())?;
            store.restore(changes.into_iter().map(|(_, change)| change))?;
            Ok(store)
        });
        let store = match store {
            Err(error) if is_lost(&error) => {
                let error = error.context(format!("table \"{}\"", table.name));
                tracing::error!(%error, epoch = %manifest.epoch(), "rows cannot be read");
                Err(error)
            }
            store => Ok(store?),
        };
        stores.insert(table.id, store);
    }
    Ok(stores)
}

/// Whether an error says that a part of a checkpoint cannot be read, now or ever.
fn is_lost(error: &Error) -> bool {
    matches!(error.state(), SqlState::DATA_CORRUPTED | SqlState::IO_ERROR)
}

fn meta_of(manifest: &Manifest) -> Result<Meta> {
    let meta: Meta = serde_json::from_value(manifest.meta().clone()).map_err(|error| {
        Error::new(
            SqlState::DATA_CORRUPTED,
            format!("the checkpoint's description: {error}"),
        )
    })?;
    match meta.version {
        META_VERSION => Ok(meta),
        other => Err(Error::new(
            SqlState::DATA_CORRUPTED,
            format!("the checkpoint is of version {other}, this server writes {META_VERSION}"),
        )),
    }
}

impl Stepper {
    /// Puts back what the checkpoint holds; returns the views that it does not.
    fn restore(
        &mut self,
        objects: Objects,
        mut stores: Stores,
        state: &State,
    ) -> Result<Vec<RecoveredView>> {
        for (spec, logs) in objects.sources {
            let id = spec.id;
            self.add_source(spec, logs);
            if let (Some(meta), Some(source)) =
                (state.meta.sources.get(&id), self.sources.get_mut(&id))
            {
                for (partition, from) in &meta.startup {
                    source.state.add_partition(*partition, *from);
                }
                let time = (meta.watermark, meta.followed_micros);
                source.state.restore(meta.partitions.clone(), time);
                source.state.add_counted(&meta.counted);
                let errors = state.load(id).and_then(|changes| {
                    ErrorLog::restored(changes.into_iter().map(|(_, change)| change))
                });
                match errors {
                    Ok(errors) => {
                        self.restore_errors(id, errors);
                        self.checkpointer.is_source_restored(id);
                    }
                    Err(error) if is_lost(&error) => {
                        let name = &self.sources[&id].state.spec().name;
                        tracing::error!(
                            source = name, %error,
                            "what was kept of a source's bad records is lost: it begins anew"
                        );
                        self.checkpointer.forget(id);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        for table in objects.tables {
            let id = table.id;
            let none = History::new(self.epoch, HISTORY_BYTES_MAX);
            let (store, history, failure) = match stores.remove(&id) {
                None => {
                    let store = Store::new(table.schema.clone(), table.identity.clone())?;
                    (Some(store), none, None)
                }
                Some(Ok(store)) => {
                    let history = self.restore_history(id, &table.schema, state)?;
                    (Some(store), history, None)
                }
                // What the checkpoints hold of it stays there, for whoever can repair it.
                Some(Err(error)) => (None, none, Some(error)),
            };
            self.add_table_spec(table);
            if let Some(watermark) = state.meta.table_times.get(&id)
                && let Some(clock) = self.table_clocks.get_mut(&id)
            {
                clock.restore(*watermark);
            }
            self.publish_collection(id, store, history);
            if let Some(error) = failure {
                self.published.change(|change| {
                    change.fail(id, error);
                    Ok(())
                })?;
            }
        }
        let mut missing: Vec<RecoveredView> = Vec::new();
        for view in objects.views {
            let is_missing = |id: &ObjectId| {
                let late = |view: &RecoveredView| Some(view.plan.late.as_ref()?.object);
                missing
                    .iter()
                    .any(|missing| missing.id == *id || late(missing) == Some(*id))
            };
            let is_orphan = view.plan.depends_on.iter().any(is_missing);
            match state.meta.views.get(&view.id) {
                Some(meta) if meta.plan == fingerprint(&view.plan) && !is_orphan => {
                    match self.restore_view(&view, meta, state) {
                        Ok(()) => {}
                        Err(error) if is_lost(&error) => {
                            tracing::error!(
                                view = view.name, %error,
                                "a view's state is damaged: it is built anew"
                            );
                            view.progress.tell_gap(format!(
                                "its state on disk was damaged and it was built anew, from what \
                                 its inputs still have: {}",
                                error.message()
                            ));
                            // Whatever of it was put back goes again.
                            let gone = self.take_view(view.id);
                            self.published.change(|change| {
                                gone.into_iter().for_each(|id| change.remove(id));
                                Ok(())
                            })?;
                            if let Some(late) = &view.plan.late {
                                self.checkpointer.forget(late.object);
                            }
                            missing.push(view);
                        }
                        Err(error) => return Err(error),
                    }
                }
                _ => missing.push(view),
            }
        }
        self.checkpointer.keep_histories()?;
        let is_gone = |id: &ObjectId| {
            let (views, tables) = (&self.views, &self.tables);
            !views.contains_key(id) && !tables.contains_key(id) && !self.sources.contains_key(id)
        };
        let manifest = state.manifest.as_ref();
        let addresses = manifest.iter().flat_map(|manifest| manifest.addresses());
        let gone: BTreeSet<ObjectId> = addresses
            .map(|address| address.dataflow)
            .filter(is_gone)
            .collect();
        gone.into_iter().for_each(|id| self.checkpointer.forget(id));
        // The rows' columns follow from who reads them.
        let ids: Vec<ObjectId> = self.sources.keys().copied().collect();
        for id in ids {
            let (wanted, is_read) = (self.wanted(id), self.is_read(id));
            let source = self.sources.get_mut(&id).expect("just listed");
            source.is_running |= is_read;
            source.state.want(wanted)?;
        }
        Ok(missing)
    }

    fn restore_view(&mut self, view: &RecoveredView, meta: &ViewMeta, state: &State) -> Result<()> {
        let is_error = |(address, _): &(Address, TableChange)| address.operator == ERRORS;
        let (errors, changes): (Vec<_>, Vec<_>) =
            state.load(view.id)?.into_iter().partition(is_error);
        let errors = ErrorLog::restored(errors.into_iter().map(|(_, change)| change))?;
        // From here on nothing of it can be damaged.
        let (dataflow, store) = put_back(&view.plan, meta.shards, changes)?;
        let gaps = state.meta.gaps.get(&view.id).cloned().unwrap_or_default();
        let (bytes, metrics) = (dataflow.state_bytes(), dataflow.metrics().clone());
        let late = late_store(&dataflow)?;
        self.views.insert(view.id, dataflow);
        if let Some((id, store)) = late {
            let history = self.restore_history(id, &store.schema().clone(), state)?;
            self.publish_collection(id, Some(store), history);
        }
        let history = self.restore_history(view.id, &view.plan.schema, state)?;
        self.publish_collection(view.id, Some(store), history);
        self.restore_errors(view.id, errors);
        self.published.change(|change| {
            change.watch(view.id, metrics);
            change.set_gaps(view.id, gaps);
            change.count(view.id, &Counts::default(), bytes);
            if let Some(counted) = state.meta.counted.get(&view.id)
                && let Some(statistics) = change.statistics(view.id)
            {
                counted.restore(statistics);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// The changes up to the checkpoint, as far as they are kept.
    fn restore_history(
        &mut self,
        id: ObjectId,
        schema: &SchemaRef,
        state: &State,
    ) -> Result<History> {
        let changed = state.meta.changed.get(&id).copied().unwrap_or(self.epoch);
        let records = self.checkpointer.read_history(id)?;
        let history = history::restore(records, schema, self.epoch, changed)?;
        self.checkpointer.is_restored(id, history.last());
        Ok(history)
    }

    fn restore_errors(&self, id: ObjectId, log: ErrorLog) {
        let restored = self.published.change(|change| {
            if let Some(errors) = change.errors(id) {
                *errors = log;
            }
            Ok(())
        });
        restored.expect("putting errors back cannot fail");
    }

    /// Takes the journal's steps after an epoch again, exactly.
    ///
    /// They are read twice, and one by one, because what users wrote is in them and may be more
    /// than memory: first for the ranges to read again, then to take them.
    fn replay(&mut self, after: Epoch, startup: &Startup) -> Result<()> {
        let mut ranges = Ranges::new();
        let mut count = 0;
        for step in self.journal.steps(after)? {
            let step = step?;
            count += 1;
            self.complete_topics(&step)?;
            self.add_ranges(&step, &mut ranges);
        }
        if count == 0 {
            return Ok(());
        }
        tracing::info!(steps = count, "the journal is replayed");
        self.checkpointer.hasten(self.options.clock.now_micros());
        let mut readers = self.replay_readers(ranges, startup)?;
        for step in self.journal.steps(after)? {
            let step = step?;
            let epoch = step.epoch;
            let cut = self.replay_cut(step, &mut readers, startup)?;
            let changes = self.compute(cut)?;
            self.publish(epoch, changes)?;
        }
        Ok(())
    }

    /// Adds what a step read, so that a chunk ends again wherever the step did.
    fn add_ranges(&self, step: &StepRecord, ranges: &mut Ranges) {
        for run in &step.runs {
            if !self.is_replayed(run.source) {
                continue;
            }
            let range = ranges
                .entry(run.source)
                .or_default()
                .entry(run.partition)
                .or_insert(ReadRange {
                    partition: run.partition,
                    from: run.from,
                    boundaries: VecDeque::new(),
                    until: None,
                });
            range.boundaries.push_back(run.to);
            range.until = Some(run.to);
        }
    }

    /// A reader for each source that the steps read.
    fn replay_readers(
        &mut self,
        ranges: Ranges,
        startup: &Startup,
    ) -> Result<BTreeMap<ObjectId, Replay>> {
        let mut readers = BTreeMap::new();
        for (id, ranges) in ranges {
            let state = &self.sources[&id].state;
            let ranges: Vec<ReadRange> = ranges.into_values().collect();
            match Replay::open(state, ranges, startup) {
                Ok(replay) => drop(readers.insert(id, replay)),
                Err(error) => self.cannot_replay(id, &error, startup)?,
            }
        }
        Ok(readers)
    }

    /// Views over a source that cannot be read again fail; the others go on.
    fn cannot_replay(&mut self, id: ObjectId, error: &Error, startup: &Startup) -> Result<()> {
        startup.check()?;
        tracing::error!(source = id.0, %error, "a source cannot be replayed");
        self.fail_readers(id, error)
    }

    /// Whether a source's runs are read again: not if nothing that runs would see them.
    fn is_replayed(&self, id: ObjectId) -> bool {
        self.sources
            .get(&id)
            .is_some_and(|source| source.is_running)
    }

    fn replay_cut(
        &mut self,
        step: StepRecord,
        readers: &mut BTreeMap<ObjectId, Replay>,
        startup: &Startup,
    ) -> Result<Cut> {
        let mut chunks = Vec::new();
        for run in &step.runs {
            let Some(replay) = readers.get_mut(&run.source) else {
                continue;
            };
            match replay.read(run, startup) {
                Ok(read) => chunks.extend(read.into_iter().map(|chunk| (run.source, chunk))),
                Err(error) => {
                    readers.remove(&run.source);
                    self.cannot_replay(run.source, &error, startup)?;
                }
            }
        }
        let mut writes = Vec::new();
        for write in step.writes {
            let Some(table) = self.tables.get(&write.table) else {
                continue;
            };
            let delta = decode_delta(&write.payload, &table.schema)?;
            writes.push(Write {
                object: write.table,
                delta,
            });
        }
        Ok(Cut {
            epoch: step.epoch,
            clock_micros: step.clock_micros,
            events: step.events,
            chunks,
            writes,
            payloads: Vec::new(),
            appends: Vec::new(),
        })
    }

    /// Rows that reached an embedded topic's log when the server died before their step was
    /// journaled: nobody was told of them, and they are in the log for good. They are the next
    /// step.
    fn take_orphans(&mut self) -> Result<()> {
        let mut chunks = Vec::new();
        for (id, source) in &self.sources {
            let spec = source.state.spec();
            if !spec.is_embedded {
                continue;
            }
            let partitions = spec.connector.partitions()?;
            let bounds = spec.connector.bounds(&partitions)?;
            let mut ranges = source.state.ranges(&partitions);
            for (range, bounds) in ranges.iter_mut().zip(bounds) {
                range.until = Some(bounds.end);
            }
            ranges.retain(|range| range.until.is_some_and(|until| range.from < until));
            let mut open = ranges.len();
            if open == 0 {
                continue;
            }
            tracing::info!(source = spec.name, "rows without a step are taken in");
            let mut reader = spec.connector.reader(ranges, &source.state.decoded())?;
            while open > 0 {
                match reader.poll(READER_POLL)? {
                    Polled::Chunk(chunk) => chunks.push((*id, chunk)),
                    Polled::Finished(_) => open -= 1,
                    Polled::AtEnd(..) | Polled::Interrupted | Polled::Nothing => {}
                }
            }
        }
        if chunks.is_empty() {
            return Ok(());
        }
        let cut = Cut {
            epoch: self.epoch.next(),
            clock_micros: self.now(),
            events: Vec::new(),
            chunks,
            writes: Vec::new(),
            payloads: Vec::new(),
            appends: Vec::new(),
        };
        self.commit(cut).map(drop)
    }
}

/// A source read again.
struct Replay {
    spec: SourceSpec,
    reader: Box<dyn Reader>,
    /// Read ahead of the step, by partition.
    chunks: BTreeMap<PartitionId, VecDeque<Chunk>>,
}

impl Replay {
    /// A reader over the ranges, once the broker has been asked and has the same topic.
    fn open(state: &SourceState, ranges: Vec<ReadRange>, startup: &Startup) -> Result<Replay> {
        let spec = state.spec().clone();
        let begun = Instant::now();
        loop {
            let error = match another_topic(&spec) {
                Ok(None) => break,
                Ok(Some(error)) => return Err(error),
                Err(error) => error,
            };
            // A broker that has just come up may not know its topics yet.
            if !error.is_retryable() && begun.elapsed() > REPLAY_STALL {
                return Err(error);
            }
            startup.wait(what(&spec, &error))?;
        }
        startup.set(Phase::Recovering);
        let reader = spec.connector.reader(ranges, &state.decoded())?;
        Ok(Replay {
            spec,
            reader,
            chunks: BTreeMap::new(),
        })
    }

    /// The chunks of a run, which together cover it exactly.
    fn read(&mut self, run: &Run, startup: &Startup) -> Result<Vec<Chunk>> {
        let mut chunks = Vec::new();
        let mut at: Offset = run.from;
        let mut waited = Duration::ZERO;
        while at < run.to {
            if let Some(chunk) = self.chunks.entry(run.partition).or_default().pop_front() {
                at = chunk.to;
                chunks.push(chunk);
                continue;
            }
            match self.reader.poll(READER_POLL) {
                Ok(Polled::Chunk(chunk)) => {
                    waited = Duration::ZERO;
                    startup.set(Phase::Recovering);
                    let queue = self.chunks.entry(chunk.partition).or_default();
                    queue.push_back(chunk);
                }
                Ok(_) => waited += READER_POLL,
                Err(error) if error.is_retryable() => {
                    waited = Duration::ZERO;
                    startup.wait(what(&self.spec, &error))?;
                }
                Err(error) => {
                    let context = format!("replaying source \"{}\"", self.spec.name);
                    return Err(error.context(context));
                }
            }
            startup.check()?;
            if waited > REPLAY_STALL {
                match self.spec.connector.bounds(&[run.partition]) {
                    Err(error) if error.is_retryable() => {
                        waited = Duration::ZERO;
                        startup.wait(what(&self.spec, &error))?;
                    }
                    _ => return Err(self.differs(run, "its rows are not there any more")),
                }
            }
        }
        self.compare(run, at, &chunks)?;
        Ok(chunks)
    }

    /// Holds what was read against what the journal says of the first time.
    fn compare(&self, run: &Run, at: Offset, chunks: &[Chunk]) -> Result<()> {
        let rows = chunks.iter().map(|chunk| chunk.rows.num_rows() as u64);
        if at != run.to || rows.sum::<u64>() != run.rows {
            return Err(self.differs(run, "it has other rows"));
        }
        match u64::from(Chunk::checksum_of(chunks)) == run.checksum {
            true => Ok(()),
            false => Err(self.differs(run, "its rows have another content")),
        }
    }

    fn differs(&self, run: &Run, how: &str) -> Error {
        Error::new(
            SqlState::DATA_CORRUPTED,
            format!(
                "source \"{}\" does not read back as it did: partition {}, offsets {} to {}: {how}",
                self.spec.name, run.partition, run.from, run.to
            ),
        )
        .hint("compaction, retention or a new topic of the same name can be the cause")
    }
}

/// What is waited for, for a client that wants to be served.
fn what(spec: &SourceSpec, error: &Error) -> String {
    format!("source \"{}\": {}", spec.name, error.message())
}
