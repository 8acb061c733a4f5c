//! The loop: one thread that owns every running dataflow and takes one step after another.
//!
//! ```text
//!   wait (command, rows, deadline) ─► cut ─► journal ─► compute ─► durable? ─► publish ─► answer
//!                                       ▲                                         │
//!                                       └────────── again, while rows wait ◄──────┘
//! ```
//!
//! State: sources with their readers and clocks, tables' schemas, views' operators; the rows that
//! readers see are in [`Published`]. A failed write of the journal is fatal: what is durable is not
//! known then, and only a restart finds out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::base::limits::{
    COMMANDS_MAX, HISTORY_BYTES_MAX, STEP_ROWS_MAX, STEP_ROWS_MIN, STEP_TIME_MAX,
};
use crate::base::memory::Account;
use crate::base::metrics::PROCESS;
use crate::base::{Clock, Epoch, Memory, ObjectId, task};
use crate::connector::Chunk;
use crate::dataflow::catch_up::{CatchUp, CatchUpStart, Inputs};
use crate::dataflow::checkpoint::Checkpointer;
use crate::dataflow::closer::Closer;
use crate::dataflow::errors::ErrorRow;
use crate::dataflow::expiry;
use crate::dataflow::failing::{failing, input_has_failed};
use crate::dataflow::graph::{CollectionDelta, Dataflow, DataflowOutput};
use crate::dataflow::group_commit::GroupCommits;
use crate::dataflow::idle::follow_deadline;
use crate::dataflow::panic::contained;
use crate::dataflow::progress::Progress;
use crate::dataflow::published::Published;
use crate::dataflow::reader::ReaderThread;
use crate::dataflow::reading::{Source, Topic};
use crate::dataflow::recovery::recover;
use crate::dataflow::retention::Trimmer;
use crate::dataflow::source::{SourceSpec, SourceState};
use crate::dataflow::startup::Startup;
use crate::dataflow::table::{TableClock, TableSpec};
use crate::dataflow::watch::{Sight, Watch};
use crate::dataflow::writes::{Append, Staged, Taken, wait};
use crate::delta::DeltaBatch;
use crate::error::{Error, Result, SqlState};
use crate::operator::Bounds;
use crate::plan::StreamPlan;
use crate::storage::{DataDirectory, Event, Journal, LogWriter, Run, StepRecord, TableWrite};
use crate::view::{History, SnapshotLimits, Store};

/// What others ask of the stepper. Everything that can happen to it is in here.
pub enum Command {
    /// A source exists; its rows are read when a view needs them.
    AddSource {
        spec: Box<SourceSpec>,
        logs: Vec<LogWriter>,
    },
    AddTable(TableSpec),
    /// Builds a view beside the running ones; answers when it has joined them.
    AddView(Box<NewView>),
    Drop {
        ids: Vec<ObjectId>,
        done: oneshot::Sender<()>,
    },
    /// Applies writes in one step; answers with its epoch when they are durable and visible.
    Write {
        writes: Vec<Write>,
        done: oneshot::Sender<Result<Epoch>>,
    },
    /// Answers when everything that was there before is visible.
    Flush {
        done: oneshot::Sender<Result<Epoch>>,
    },
    /// From a catch-up: what to read, at one epoch.
    Inputs {
        start: Box<CatchUpStart>,
        reply: oneshot::Sender<Result<Inputs>>,
    },
    /// From a catch-up: the chunks that the running sources took since.
    Drain {
        view: ObjectId,
        reply: oneshot::Sender<Result<Inputs>>,
    },
    /// From a catch-up: up to which epochs it has the changes of views and tables.
    Followed {
        view: ObjectId,
        reached: BTreeMap<ObjectId, Epoch>,
    },
    /// From a catch-up that has almost everything: take it in.
    Join {
        catch_up: Box<CatchUp>,
        done: oneshot::Sender<Result<Epoch>>,
    },
    /// From a catch-up that has ended otherwise.
    Abandon {
        view: ObjectId,
    },
    CheckpointDone(Result<Epoch>),
    /// A checkpoint now; answers when it is durable.
    Checkpoint {
        done: oneshot::Sender<Result<Epoch>>,
    },
    /// From the watch: how a source's topic is.
    Seen {
        source: ObjectId,
        sight: Sight,
    },
    /// A reader has something.
    Wake,
    Shutdown,
}

/// Rows for one table or embedded topic.
pub struct Write {
    pub object: ObjectId,
    pub delta: DeltaBatch,
}

/// A view to be built.
pub struct NewView {
    pub id: ObjectId,
    pub name: String,
    pub plan: StreamPlan,
    pub progress: Arc<Progress>,
    /// Where its unfinished state is kept, if a restart is to go on with it.
    pub checkpoints: Option<PathBuf>,
    pub done: oneshot::Sender<Result<Epoch>>,
}

/// How the step engine is to run.
#[derive(Clone)]
pub struct RuntimeOptions {
    pub workers: usize,
    pub clock: Clock,
    /// Microseconds between checkpoints.
    pub checkpoint_interval_micros: i64,
    pub memory: Arc<Memory>,
    /// How long readers keep what they read.
    pub snapshots: SnapshotLimits,
}

/// The step engine, running on its own thread.
pub struct Runtime {
    commands: SyncSender<Command>,
    published: Arc<Published>,
    // Behind a mutex because whoever shuts down first joins it.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Runtime {
    /// Recovers what the data directory holds of the given objects and starts stepping. Views whose
    /// state is not there are built anew. Blocks, also for as long as a broker that the journal
    /// needs is away; `startup` says so and ends it.
    pub fn start(
        directory: &DataDirectory,
        options: RuntimeOptions,
        objects: crate::dataflow::recovery::Objects,
        startup: &Startup,
    ) -> Result<Runtime> {
        let (sender, receiver) = sync_channel(COMMANDS_MAX);
        let stepper = recover(directory, options, objects, sender.clone(), startup)?;
        let published = stepper.published.clone();
        let thread = task::spawn("stepper", move || {
            let run = AssertUnwindSafe(|| stepper.run(receiver));
            if catch_unwind(run).is_err() {
                // Half a step is done; a restart does it whole.
                tracing::error!("the step engine panicked");
                std::process::abort();
            }
        });
        Ok(Runtime {
            commands: sender,
            published,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// Hands over a command; waits while the stepper is far behind.
    pub fn send(&self, command: Command) -> Result<()> {
        self.commands
            .send(command)
            .map_err(|_| Error::new(SqlState::ADMIN_SHUTDOWN, "the server is shutting down"))
    }

    /// Ends the loop after the running step and waits for it.
    pub fn shutdown(&self) {
        let _ = self.commands.send(Command::Shutdown);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the stepper panicked");
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// The loop's state.
pub(super) struct Stepper {
    pub options: RuntimeOptions,
    pub commands: SyncSender<Command>,
    pub published: Arc<Published>,
    pub journal: Journal,
    pub checkpointer: Checkpointer,
    pub watch: Watch,
    pub closer: Closer,
    pub sources: BTreeMap<ObjectId, Source>,
    pub tables: BTreeMap<ObjectId, TableSpec>,
    /// Of the tables that tell time.
    pub table_clocks: BTreeMap<ObjectId, TableClock>,
    pub views: BTreeMap<ObjectId, Dataflow>,
    pub epoch: Epoch,
    pub clock_micros: i64,
    /// When the clock showed that, on the steady clock.
    pub shown_at: i64,
    pub staged: VecDeque<Staged>,
    /// A step is due although nothing came: a view has joined.
    pub is_step_due: bool,
    pub rows_budget: usize,
    pub catching_up: BTreeMap<ObjectId, Pins>,
    pub is_ended: bool,
    pub trimmer: Trimmer,
    pub group_commits: GroupCommits,
}

/// What a catching-up view holds on to in the loop.
#[derive(Default)]
pub(super) struct Pins {
    pub histories: Vec<(ObjectId, Epoch)>,
    /// For each source the columns it needs.
    pub wanted: BTreeMap<ObjectId, Vec<usize>>,
    pub thread: Option<JoinHandle<()>>,
    pub progress: Option<Arc<Progress>>,
    /// The relation of its late rows.
    pub late: Option<ObjectId>,
}

/// Everything that a step works on, from the cut or from the journal.
pub(super) struct Cut {
    pub epoch: Epoch,
    pub clock_micros: i64,
    pub events: Vec<Event>,
    /// In the order in which the step takes them.
    pub chunks: Vec<(ObjectId, Chunk)>,
    pub writes: Vec<Write>,
    /// The writes as the journal keeps them; empty in a replay.
    pub payloads: Vec<TableWrite>,
    /// What topics take in once the journal has it.
    pub appends: Vec<Append>,
}

/// What a step changes, before anybody sees it.
#[derive(Default)]
pub(super) struct Changes {
    pub deltas: Vec<(ObjectId, DeltaBatch)>,
    outputs: Vec<(ObjectId, DataflowOutput, usize)>,
    pub errors: Vec<(ObjectId, Vec<ErrorRow>)>,
    pub failures: Vec<(ObjectId, Error)>,
}

impl Stepper {
    pub(super) fn run(mut self, commands: Receiver<Command>) {
        while !self.is_ended {
            let timeout = self.timeout().min(self.expire_snapshots());
            match commands.recv_timeout(timeout) {
                Ok(command) => self.handle(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            for _ in 0..COMMANDS_MAX {
                let Ok(command) = commands.try_recv() else {
                    break;
                };
                self.handle(command);
            }
            if self.is_ended {
                break;
            }
            self.look_for_lost_topics();
            if self.has_work()
                && let Err(error) = self.step()
            {
                // Nothing can be made durable any more; a restart finds out what was.
                tracing::error!(%error, "the step engine cannot go on");
                std::process::abort();
            }
            self.start_checkpoint_if_due();
            self.give_to_checkpoint();
        }
        // Who sends now is told that nobody listens, instead of waiting for room.
        drop(commands);
        self.end();
    }

    fn end(&mut self) {
        for pins in self.catching_up.values() {
            if let Some(progress) = &pins.progress {
                progress.stop();
            }
        }
        // All are told before the first is waited for.
        let readers = self.sources.values().filter_map(|s| s.reader.as_ref());
        readers.for_each(ReaderThread::stop);
        self.sources.clear();
        if let Err(error) = self.journal.sync() {
            tracing::error!(%error, "the journal could not be closed");
        }
        self.give_rest_to_checkpoint();
        self.checkpointer.join();
        self.trimmer.join();
        self.group_commits.join();
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::AddSource { spec, logs } => self.add_source(*spec, logs),
            Command::AddTable(spec) => self.add_table(spec),
            Command::AddView(view) => self.add_view(*view),
            Command::Drop { ids, done } => {
                ids.into_iter().for_each(|id| self.drop_object(id));
                let _ = done.send(());
            }
            Command::Write { writes, done } => self.stage(writes, done),
            Command::Flush { done } => self.staged.push_back(Staged {
                writes: Vec::new(),
                held: self.options.memory.hold(Account::Sessions),
                done,
            }),
            Command::Inputs { start, reply } => {
                let _ = reply.send(self.inputs(&start));
            }
            Command::Drain { view, reply } => {
                let _ = reply.send(self.drain(view));
            }
            Command::Followed { view, reached } => self.followed(view, &reached),
            Command::Join { catch_up, done } => self.join(*catch_up, done),
            Command::Abandon { view } => self.release(view),
            Command::CheckpointDone(result) => self.checkpoint_done(result),
            Command::Checkpoint { done } => self.checkpointer.request(done),
            Command::Seen { source, sight } => self.see(source, sight),
            Command::Wake => {}
            Command::Shutdown => self.is_ended = true,
        }
    }

    fn checkpoint_done(&mut self, result: Result<Epoch>) {
        if result.is_err() {
            self.unfreeze();
        }
        match self.checkpointer.finished(result) {
            Ok(Some(oldest)) => {
                self.trimmer.truncate(self.journal.truncation(oldest));
                self.trimmer.keep_from(oldest);
                self.group_commits.run();
            }
            Ok(None) => {}
            Err(error) => {
                // As with the journal: a restart finds out what is on disk, and goes on.
                tracing::error!(%error, "the step engine cannot go on without checkpoints");
                std::process::abort();
            }
        }
        self.trim_topics();
    }

    pub(super) fn add_source(&mut self, spec: SourceSpec, logs: Vec<LogWriter>) {
        let id = spec.id;
        match SourceState::new(spec, Vec::new()) {
            Ok(state) => {
                let source = Source {
                    is_running: state.spec().is_embedded,
                    state,
                    reader: None,
                    logs,
                    tees: BTreeMap::new(),
                    topic: Topic::Unseen(None),
                    taken: Arc::default(),
                    is_unconfirmed: true,
                    lost: None,
                    found: Vec::new(),
                };
                self.sources.insert(id, source);
                self.publish_collection(id, None, self.no_history());
                self.publish_sources();
            }
            Err(error) => tracing::error!(%error, "a source could not be added"),
        }
    }

    fn add_table(&mut self, spec: TableSpec) {
        match Store::new(spec.schema.clone(), spec.identity.clone()) {
            Ok(store) => {
                let id = spec.id;
                self.add_table_spec(spec);
                self.publish_collection(id, Some(store), self.no_history());
            }
            Err(error) => tracing::error!(%error, "a table could not be added"),
        }
    }

    pub(super) fn add_table_spec(&mut self, spec: TableSpec) {
        if let Some(clock) = TableClock::new(&spec) {
            self.table_clocks.insert(spec.id, clock);
        }
        self.tables.insert(spec.id, spec);
    }

    /// The history of a relation that begins now.
    fn no_history(&self) -> History {
        History::new(self.epoch, HISTORY_BYTES_MAX)
    }

    /// Shows a relation with what is known of its past.
    pub(super) fn publish_collection(&self, id: ObjectId, store: Option<Store>, history: History) {
        let added = self.published.change(|change| {
            change.add(id, store, history);
            Ok(())
        });
        added.expect("adding a relation cannot fail");
    }

    pub(super) fn add_view(&mut self, view: NewView) {
        let NewView {
            id,
            name,
            plan,
            progress,
            checkpoints,
            done,
        } = view;
        let pins = self.catching_up.entry(id).or_default();
        pins.late = plan.late.as_ref().map(|late| late.object);
        progress.start(self.options.clock.now_micros());
        pins.progress = Some(progress.clone());
        let start = CatchUpStart::new((id, name), plan, &self.options, progress, checkpoints);
        let commands = self.commands.clone();
        let published = self.published.clone();
        let thread = task::spawn("catch-up", move || {
            crate::dataflow::catch_up::run(start, &commands, &published, done);
        });
        pins.thread = Some(thread);
    }

    fn drop_object(&mut self, id: ObjectId) {
        if let Some(progress) = self
            .catching_up
            .get(&id)
            .and_then(|pins| pins.progress.clone())
        {
            progress.cancel();
        }
        if let Some(giving) = &mut self.checkpointer.giving {
            giving.discard(id);
        }
        self.views.remove(&id);
        self.tables.remove(&id);
        self.table_clocks.remove(&id);
        self.end_reader(id);
        self.sources.remove(&id);
        self.watch.remove(id);
        self.checkpointer.forget(id);
        let memory = &self.options.memory;
        let _ = self.published.change(|change| {
            change.remove(id);
            change.account(memory);
            Ok(())
        });
        self.stop_unread_sources();
    }

    /// The columns of a source that running and coming views read.
    pub(super) fn wanted(&self, source: ObjectId) -> Vec<usize> {
        let mut wanted = BTreeSet::new();
        for view in self.views.values() {
            let scans = view.plan().scans().filter(|scan| scan.object == source);
            wanted.extend(scans.flat_map(|scan| scan.columns.iter().copied()));
        }
        for pins in self.catching_up.values() {
            wanted.extend(pins.wanted.get(&source).into_iter().flatten().copied());
        }
        wanted.into_iter().collect()
    }

    pub(super) fn is_read(&self, source: ObjectId) -> bool {
        self.views
            .values()
            .any(|view| view.plan().scans().any(|scan| scan.object == source))
    }

    /// Whether a running view reads the source, or one that will.
    pub(super) fn is_needed(&self, source: ObjectId) -> bool {
        self.is_read(source)
            || self
                .catching_up
                .values()
                .any(|pins| pins.wanted.contains_key(&source))
    }

    /// Takes snapshots away from who has kept them for too long; says when to look again.
    fn expire_snapshots(&self) -> Duration {
        let (limits, now) = (self.options.snapshots, Instant::now());
        self.published.expire_snapshots(limits, now);
        let next = self.published.snapshot_deadline(limits);
        // At the moment itself a snapshot is not yet too old.
        next.map_or(Duration::MAX, |next| {
            next.saturating_duration_since(now) + Duration::from_millis(1)
        })
    }

    /// One step, from the cut to the answers.
    fn step(&mut self) -> Result<()> {
        let started = Instant::now();
        let Taken {
            writes,
            is_mixed,
            answers,
        } = self.take_staged();
        let cut = self.cut(writes, is_mixed)?;
        let written = cut.writes.iter().map(|write| write.delta.len());
        let written = written.sum::<usize>();
        let rows: usize = cut
            .chunks
            .iter()
            .map(|(_, chunk)| chunk.rows.num_rows())
            .sum();
        let now = cut.clock_micros;
        let is_due = std::mem::take(&mut self.is_step_due)
            || self
                .sources
                .values()
                .any(|source| follow_deadline(source).is_some_and(|deadline| deadline <= now))
            || self
                .views
                .values()
                .any(|view| view.is_waiting(cut.clock_micros));
        if cut.is_empty() && !is_due {
            // Only FLUSH without rows: everything before it is visible already.
            let epoch = self.epoch;
            answers
                .into_iter()
                .for_each(|done| drop(done.send(Ok(epoch))));
            return Ok(());
        }
        let grown = cut.found();
        let epoch = self.commit(cut)?;
        for source in grown {
            self.read_anew(source);
        }
        let took = started.elapsed();
        // Counted before anybody is told: who looks then finds its rows.
        PROCESS.steps.add(1);
        PROCESS.step_nanos.add_time(took);
        PROCESS.rows_in.add((rows + written) as u64);
        for done in answers {
            let _ = done.send(Ok(epoch));
        }
        self.adapt(rows, took);
        Ok(())
    }

    /// Journals, computes and publishes a cut.
    pub(super) fn commit(&mut self, mut cut: Cut) -> Result<Epoch> {
        let rows = cut.chunks.iter().map(|(_, chunk)| chunk.rows.num_rows());
        let rows: usize = rows
            .chain(cut.writes.iter().map(|write| write.delta.len()))
            .sum();
        let record = record_of(&mut cut);
        let bytes: usize = record.writes.iter().map(|write| write.payload.len()).sum();
        self.checkpointer.note_step(rows as u64, bytes as u64);
        let appends = std::mem::take(&mut cut.appends);
        let ticket = self.journal.append(&record)?;
        let epoch = cut.epoch;
        let views = self.views.len();
        let changes = self.compute(cut)?;
        wait(&ticket)?;
        let appended: Result<Vec<_>> = appends.into_iter().map(Append::start).collect();
        appended?.iter().try_for_each(wait)?;
        self.publish(epoch, changes)?;
        if self.views.len() < views {
            self.stop_unread_sources();
        }
        Ok(epoch)
    }

    /// Keeps a step near the time in which nobody notices it, by the rate that steps reach.
    fn adapt(&mut self, rows: usize, took: Duration) {
        if rows < STEP_ROWS_MIN {
            return;
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let target = u64::try_from(STEP_TIME_MAX.as_micros()).unwrap_or(u64::MAX);
        let fits = (rows as u64).saturating_mul(target) / micros;
        let fits = usize::try_from(fits).unwrap_or(usize::MAX);
        let smooth = (self.rows_budget / 2).saturating_add(fits / 2);
        self.rows_budget = smooth.clamp(STEP_ROWS_MIN, STEP_ROWS_MAX);
    }

    /// What the step changes. Used alike for the running system and for replay.
    pub(super) fn compute(&mut self, cut: Cut) -> Result<Changes> {
        self.epoch = cut.epoch;
        self.clock_micros = cut.clock_micros;
        self.shown_at = self.options.clock.steady_micros();
        let mut changes = Changes::default();
        for event in &cut.events {
            self.take_event(event);
        }
        let mut inputs = self.take_chunks(&cut, &mut changes)?;
        self.take_writes(cut.writes, &mut inputs, &mut changes)?;
        let ids: Vec<ObjectId> = self.views.keys().copied().collect();
        for id in ids {
            // One above it may have taken it out.
            if !self.views.contains_key(&id) {
                continue;
            }
            self.step_view(id, cut.epoch, cut.clock_micros, &mut inputs, &mut changes);
        }
        Ok(changes)
    }

    /// Runs one view; its change becomes an input of those above it.
    fn step_view(
        &mut self,
        id: ObjectId,
        epoch: Epoch,
        clock_micros: i64,
        inputs: &mut BTreeMap<ObjectId, CollectionDelta>,
        changes: &mut Changes,
    ) {
        let view = self
            .views
            .get_mut(&id)
            .expect("the caller lists running views");
        let missing = view
            .plan()
            .scans()
            .find(|scan| !inputs.contains_key(&scan.object));
        let result = match missing {
            Some(scan) => Err(input_has_failed(&scan.name)),
            None => {
                let input = |object: ObjectId| inputs[&object].clone();
                let published = &self.published;
                contained(|| {
                    let mut output = view.step(epoch, clock_micros, &input)?;
                    expiry::age(view, &mut output, |before| published.before(id, before))?;
                    Ok(output)
                })
            }
        };
        match result {
            Ok(output) => {
                let width = view.plan().schema.fields().len();
                let mut input = CollectionDelta::new((0..width).collect(), expiry::bounds(view));
                input.deltas.extend(output.delta.clone());
                inputs.insert(id, input);
                if let Some(late) = &view.plan().late {
                    let width = late.schema.fields().len();
                    let columns = (0..width).collect();
                    let mut input = CollectionDelta::new(columns, Bounds::unknown(width));
                    input.deltas.extend(output.late_delta.clone());
                    inputs.insert(late.object, input);
                }
                let bytes = view.state_bytes();
                changes.outputs.push((id, output, bytes));
            }
            Err(error) => {
                tracing::error!(view = id.0, %error, "a view has failed");
                let causes = BTreeMap::from([(id, error)]);
                changes.failures.extend(self.take_out(causes));
            }
        }
    }

    /// Makes the step's changes visible, all at once.
    pub(super) fn publish(&mut self, epoch: Epoch, changes: Changes) -> Result<()> {
        let clock_micros = self.clock_micros;
        let sources = self.source_status();
        let tables = self.table_times();
        let memory = self.options.memory.clone();
        let (views, mut failed) = (&self.views, BTreeMap::new());
        self.published.change(|change| {
            for (id, delta) in &changes.deltas {
                change.apply(*id, epoch, delta)?;
            }
            for (id, mut output, bytes) in changes.outputs {
                change.count(id, &output.counts, bytes);
                change.record_errors(
                    id,
                    std::mem::take(&mut output.errors)
                        .into_iter()
                        .map(|error| ErrorRow::of_row(error, clock_micros)),
                );
                if let Some(delta) = &output.late_delta
                    && let Some(late) = views.get(&id).and_then(|v| v.plan().late.as_ref())
                {
                    change.apply(late.object, epoch, delta)?;
                }
                if let Err(error) = change.apply_output(id, epoch, &output) {
                    tracing::error!(view = id.0, %error, "a view's change does not fit its rows");
                    failed.insert(id, error);
                }
            }
            for (id, rows) in changes.errors {
                change.record_errors(id, rows);
            }
            for (id, error) in changes.failures {
                change.fail(id, error);
            }
            for (id, error) in failing(views, &failed) {
                change.fail(id, error);
            }
            change.set_sources(sources);
            change.set_table_times(tables);
            change.publish(epoch);
            change.account(&memory);
            Ok(())
        })?;
        for reader in self
            .sources
            .values()
            .filter_map(|source| source.reader.as_ref())
        {
            reader.is_published();
        }
        // They have been told above.
        let _told = self.take_out(failed);
        Ok(())
    }
}

impl Cut {
    /// The sources that get partitions.
    fn found(&self) -> BTreeSet<ObjectId> {
        let found = self.events.iter().filter_map(|event| match event {
            Event::Found { source, .. } => Some(*source),
            Event::Idle { .. } | Event::Active { .. } => None,
        });
        found.collect()
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.chunks.is_empty() && self.writes.is_empty()
    }
}

/// The cut as the journal keeps it.
fn record_of(cut: &mut Cut) -> StepRecord {
    let run = |(source, chunk): &(ObjectId, Chunk)| Run {
        source: *source,
        partition: chunk.partition,
        from: chunk.from,
        to: chunk.to,
        rows: chunk.rows.num_rows() as u64,
        checksum: u64::from(chunk.checksum),
    };
    StepRecord {
        epoch: cut.epoch,
        clock_micros: cut.clock_micros,
        runs: cut.chunks.iter().map(run).collect(),
        events: cut.events.clone(),
        writes: std::mem::take(&mut cut.payloads),
    }
}
