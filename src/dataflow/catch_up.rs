//! How a new view gets to where the running ones are, without holding them up.
//!
//! ```text
//!   catch-up thread                                          stepper
//!   Inputs ───────────────────────────────────────────────►  pins histories, keeps a copy of what
//!     snapshots at epoch E, source positions T  ◄──────────   sources take from now on (the tee)
//!   read every source from its start to T
//!   Drain ─► chunks since T, until few are left
//!   Join ─────────────────────────────────────────────────►  last chunks, changes since E: then
//!                                                            the view is one of the running
//! ```
//!
//! The thread has its own readers and its own clock for each source; its watermark never passes the
//! running source's, so that no window closes here that is open there. If the tee overflows (the
//! running source is faster than the catch-up) the thread reads on to a newer T by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::base::limits::{
    CATCH_UP_FOLLOW_STEPS, CATCH_UP_JOIN_ROWS_MAX, CATCH_UP_STEP_ROWS, ERROR_ROWS_MAX,
    MEMORY_VIEW_MIN, READER_POLL, STEP_BYTES_MAX,
};
use crate::base::memory::{Account, Held};
use crate::base::{Clock, Epoch, EventTime, Memory, ObjectId, Offset, PartitionId};
use crate::connector::{Chunk, ReadRange};
use crate::dataflow::checkpoint::SourceMeta;
use crate::dataflow::drift;
use crate::dataflow::errors::ErrorRow;
use crate::dataflow::expiry::{age, apply, view_store};
use crate::dataflow::graph::{CollectionDelta, Dataflow};
use crate::dataflow::news::News;
use crate::dataflow::panic::contained;
use crate::dataflow::progress::{Progress, stopped};
use crate::dataflow::published::Published;
use crate::dataflow::reader::ReaderThread;
use crate::dataflow::source::{PartitionState, SourceSpec, SourceState, error_row};
use crate::dataflow::stepper::{Command, RuntimeOptions};
use crate::dataflow::table::TableClock;
use crate::dataflow::unfinished::{Keeping, Reached, Resumed, Unfinished};
use crate::dataflow::watch::{another_topic, patiently};
use crate::delta::DeltaBatch;
use crate::error::{Error, Result, SqlState};
use crate::operator::{Bounds, Counts};
use crate::plan::StreamPlan;
use crate::view::{Snapshot, Store};

/// What a catch-up begins with.
#[derive(Clone)]
pub struct CatchUpStart {
    pub(super) id: ObjectId,
    name: String,
    plan: StreamPlan,
    workers: usize,
    clock: Clock,
    pub(super) memory: Arc<Memory>,
    pub(super) progress: Arc<Progress>,
    /// Present if a restart is to go on with it.
    pub(super) keeping: Option<Keeping>,
    /// The relations whose rows are in, with the epoch they are of.
    pub(super) since: BTreeMap<ObjectId, Epoch>,
}

impl CatchUpStart {
    pub fn new(
        (id, name): (ObjectId, String),
        plan: StreamPlan,
        options: &RuntimeOptions,
        progress: Arc<Progress>,
        checkpoints: Option<PathBuf>,
    ) -> Self {
        let keeping = checkpoints.map(|directory| Keeping {
            directory,
            interval_micros: options.checkpoint_interval_micros,
        });
        CatchUpStart {
            id,
            name,
            plan,
            workers: options.workers,
            clock: options.clock.clone(),
            memory: options.memory.clone(),
            progress,
            keeping,
            since: BTreeMap::new(),
        }
    }

    /// Whether there is memory to go on reading.
    fn check_memory(&self) -> Result<()> {
        match self.memory.is_tight() {
            true => Err(self.refusal()),
            false => Ok(()),
        }
    }

    fn refusal(&self) -> Error {
        self.memory.refusal(&format!("view \"{}\"", self.name))
    }

    /// For each object that is read, the columns, rising.
    pub(super) fn wanted(&self) -> BTreeMap<ObjectId, Vec<usize>> {
        let mut wanted: BTreeMap<ObjectId, Vec<usize>> = BTreeMap::new();
        for scan in self.plan.scans() {
            wanted.entry(scan.object).or_default().extend(&scan.columns);
        }
        for columns in wanted.values_mut() {
            columns.sort_unstable();
            columns.dedup();
        }
        wanted
    }
}

/// Where chunks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A reader of the catch-up's own.
    Read,
    /// What running sources have taken since, as they have taken it.
    Taken,
}

/// What the stepper says a catch-up has to read.
pub struct Inputs {
    pub(super) epoch: Epoch,
    pub(super) snapshots: BTreeMap<ObjectId, Snapshot>,
    pub(super) sources: BTreeMap<ObjectId, SourceInput>,
    /// Of the tables that tell time.
    pub(super) tables: BTreeMap<ObjectId, TableClock>,
    /// The clock of the running system's last step.
    pub(super) clock_micros: i64,
}

pub(super) struct SourceInput {
    pub spec: SourceSpec,
    /// Where the running source stands; `None` = nobody reads it yet.
    pub running: Option<BTreeMap<PartitionId, PartitionState>>,
    pub watermark: EventTime,
    /// The columns whose bad values the running source has counted.
    pub counted: BTreeSet<usize>,
    /// Chunks that follow what was handed out before.
    pub chunks: Vec<Chunk>,
    /// The chunks were too many to keep: read to `running` instead.
    pub has_overflowed: bool,
}

/// A view on its way.
pub struct CatchUp {
    pub(super) start: CatchUpStart,
    pub(super) dataflow: Dataflow,
    pub(super) store: Store,
    pub(super) sources: BTreeMap<ObjectId, SourceState>,
    /// Whether the running system read the source when this began.
    pub(super) is_running: BTreeMap<ObjectId, bool>,
    /// Relations (views, tables) with the epoch up to which their changes are in.
    relations: BTreeMap<ObjectId, Epoch>,
    /// What time it is in tables as far as they are in.
    tables: BTreeMap<ObjectId, TableClock>,
    /// The rows that relations had at the beginning are in: time may go on.
    is_begun: bool,
    pub(super) counts: Counts,
    steps: u64,
    /// The clock of the last step: no later one, of the running system either, has an earlier one.
    pub(super) clock_micros: i64,
    /// Chunks drained and not yet fed.
    pending: Vec<(ObjectId, Chunk)>,
    /// Records and rows that were left out, by the source or view that shows them.
    pub(super) errors: BTreeMap<ObjectId, VecDeque<ErrorRow>>,
    pub(super) news: BTreeMap<ObjectId, News>,
    /// The memory of the above.
    held: Held,
    pub(super) unfinished: Option<Unfinished>,
}

/// How a catch-up reaches the running system.
struct Way<'a> {
    commands: &'a SyncSender<Command>,
    published: &'a Published,
}

/// The thread's work: to the join, or to the reason why not.
pub(super) fn run(
    start: CatchUpStart,
    commands: &SyncSender<Command>,
    published: &Published,
    done: oneshot::Sender<Result<Epoch>>,
) {
    let (id, name, progress) = (start.id, start.name.clone(), start.progress.clone());
    let approached = contained(|| approach(start, commands, published));
    let sent = match approached {
        Ok(catch_up) => commands.send(Command::Join {
            catch_up: Box::new(catch_up),
            done,
        }),
        Err(error) => {
            tracing::info!(view = name, %error, "a view was not built");
            progress.fail(error.clone());
            let sent = commands.send(Command::Abandon { view: id });
            let _ = done.send(Err(error));
            sent
        }
    };
    if sent.is_err() {
        tracing::info!(view = name, "the server stopped while the view was built");
    }
}

/// Reads everything up to a few rows behind the running system.
fn approach(
    mut start: CatchUpStart,
    commands: &SyncSender<Command>,
    published: &Published,
) -> Result<CatchUp> {
    let what = format!("view \"{}\"", start.name);
    start.memory.check(&what, MEMORY_VIEW_MIN)?;
    let (mut unfinished, mut resumed) = (None, None);
    if let Some(keeping) = &start.keeping {
        let now = start.clock.now_micros();
        let (store, found) = Unfinished::open(keeping, start.id, &start.plan, now)?;
        (unfinished, resumed) = (Some(store), found);
    }
    if let Some(resumed) = &resumed {
        start.since.clone_from(&resumed.reached.relations);
    }
    let inputs = loop {
        let inputs = ask(commands, |reply| Command::Inputs {
            start: Box::new(start.clone()),
            reply,
        });
        match inputs {
            // Another view, or a deletion, is first: this one follows it.
            Err(error) if error.is_retryable() => {
                start.progress.check()?;
                std::thread::park_timeout(READER_POLL);
            }
            // What changed since is not known any more.
            Err(error)
                if error.state() == SqlState::CONFIGURATION_LIMIT_EXCEEDED
                    && !start.since.is_empty() =>
            {
                tracing::info!(view = start.name, %error, "a view is built from the beginning");
                start.since.clear();
                // Both are closed before the directory is emptied.
                (unfinished, resumed) = (None, None);
                if let Some(keeping) = &start.keeping {
                    let now = start.clock.now_micros();
                    unfinished = Some(Unfinished::create(keeping, start.id, now)?);
                }
            }
            inputs => break inputs?,
        }
    };
    let is_resumed = resumed.is_some();
    let mut catch_up = CatchUp::new(start, &inputs, resumed)?;
    catch_up.unfinished = unfinished;
    if is_resumed {
        tracing::info!(view = catch_up.start.name, "building a view goes on");
    } else {
        catch_up.take_snapshots(&inputs)?;
    }
    let way = Way {
        commands,
        published,
    };
    catch_up.read_sources(&inputs, &way)?;
    loop {
        catch_up.start.progress.check()?;
        let view = catch_up.start.id;
        let inputs = ask(commands, |reply| Command::Drain { view, reply })?;
        if inputs.sources.values().any(|source| source.has_overflowed) {
            catch_up.read_sources(&inputs, &way)?;
            continue;
        }
        let rows = catch_up.queue(inputs) + catch_up.follow_relations(published, None)?;
        if rows <= CATCH_UP_JOIN_ROWS_MAX {
            return Ok(catch_up);
        }
        catch_up.feed_pending()?;
    }
}

fn ask<T>(
    commands: &SyncSender<Command>,
    command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    commands.send(command(reply)).map_err(|_| stopped())?;
    answer.blocking_recv().map_err(|_| stopped())?
}

impl CatchUp {
    fn new(start: CatchUpStart, inputs: &Inputs, resumed: Option<Resumed>) -> Result<CatchUp> {
        let held = start.memory.hold(Account::CatchUps);
        let (mut dataflow, store, reached) = match resumed {
            Some(resumed) => (resumed.dataflow, resumed.store, Some(resumed.reached)),
            None => {
                let dataflow = Dataflow::new(start.plan.clone(), start.workers)?;
                let store = view_store(&start.plan)?;
                (dataflow, store, None)
            }
        };
        dataflow.set_building(true);
        start.progress.watch(dataflow.metrics().clone());
        let wanted = start.wanted();
        let mut sources = BTreeMap::new();
        let mut is_running = BTreeMap::new();
        let mut news = BTreeMap::new();
        let reached_news = reached.as_ref().map(|reached| &reached.news);
        for (id, input) in &inputs.sources {
            let mut source = SourceState::new(input.spec.clone(), wanted[id].clone())?;
            let reached = reached.as_ref().and_then(|reached| reached.sources.get(id));
            if let Some(reached) = reached {
                let time = (reached.watermark, reached.followed_micros);
                source.restore(reached.partitions.clone(), time);
            }
            sources.insert(*id, source);
            is_running.insert(*id, input.running.is_some());
            if let Some(running) = &input.running {
                let place = |(id, state): (&PartitionId, &PartitionState)| (*id, state.position);
                let known = News {
                    until: running.iter().map(place).collect(),
                    counted: input.counted.clone(),
                    ..News::default()
                };
                // One that goes on after a restart stands to the running source as it did.
                let before = reached_news.and_then(|news| news.get(id)).cloned();
                news.insert(*id, before.unwrap_or(known));
            }
        }
        let mut relations = start.since.clone();
        relations.extend(inputs.snapshots.keys().map(|id| (*id, inputs.epoch)));
        let mut tables = inputs.tables.clone();
        let is_begun = reached.is_some();
        if let Some(reached) = &reached {
            for (id, clock) in &mut tables {
                // Those whose changes are followed from where the catch-up was.
                if let Some(watermark) = reached.tables.get(id) {
                    clock.restore(*watermark);
                }
            }
        }
        let (mut steps, mut counts) = (0, Counts::default());
        let mut clock_micros = inputs.clock_micros;
        if let Some(reached) = reached {
            (steps, counts) = (reached.steps, reached.counts());
            clock_micros = clock_micros.max(reached.clock_micros);
            start.progress.records_done.add(reached.records_done);
            start.progress.records_total.add(reached.records_done);
        }
        Ok(CatchUp {
            start,
            dataflow,
            store,
            sources,
            is_running,
            relations,
            tables,
            is_begun,
            counts,
            steps,
            clock_micros,
            pending: Vec::new(),
            errors: BTreeMap::new(),
            news,
            held,
            unfinished: None,
        })
    }

    /// Takes a checkpoint of what is built so far, if it is time. One that fails is the last: the
    /// view itself can be built without.
    fn keep(&mut self) {
        let now = self.start.clock.now_micros();
        let Some(mut unfinished) = self.unfinished.take_if(|unfinished| unfinished.is_due(now))
        else {
            return;
        };
        let done = self.start.progress.records_done.get();
        let mut reached = Reached::new(&self.dataflow, self.steps, done, &self.counts);
        reached.clock_micros = self.clock_micros;
        reached.relations.clone_from(&self.relations);
        let times = self.tables.iter();
        reached.tables = times.map(|(id, clock)| (*id, clock.watermark())).collect();
        for (id, source) in &self.sources {
            let source = SourceMeta {
                partitions: source.partitions.clone(),
                watermark: source.watermark(),
                followed_micros: source.followed_micros(),
                startup: source.spec().startup.clone(),
                counted: source.counted().clone(),
            };
            reached.sources.insert(*id, source);
        }
        reached.news.clone_from(&self.news);
        match unfinished.write(&mut self.dataflow, &mut self.store, &reached, now) {
            Ok(()) => self.unfinished = Some(unfinished),
            Err(error) => {
                let view = &self.start.name;
                tracing::warn!(view, %error, "a view that is being built has no checkpoints");
            }
        }
    }

    /// One step of the dataflow over the given changes; the others' bounds come along.
    fn step(&mut self, mut deltas: BTreeMap<ObjectId, CollectionDelta>) -> Result<()> {
        self.steps += 1;
        let mut inputs = BTreeMap::new();
        for (id, source) in &self.sources {
            let nothing = || CollectionDelta::new(source.wanted().to_vec(), source.bounds());
            let input = deltas.remove(id).unwrap_or_else(nothing);
            let bounds = source.bounds();
            inputs.insert(*id, CollectionDelta { bounds, ..input });
        }
        for id in self.relations.keys() {
            let scans = || self.start.plan.scans().filter(|scan| scan.object == *id);
            let width = scans()
                .flat_map(|scan| scan.columns.iter())
                .max()
                .map_or(0, |n| n + 1);
            let nothing = || CollectionDelta::new((0..width).collect(), Bounds::unknown(width));
            let input = deltas.remove(id).unwrap_or_else(nothing);
            let bounds = match self.tables.get(id) {
                Some(clock) if self.is_begun => clock.bounds(),
                _ => Bounds::unknown(width.max(input.columns.len())),
            };
            inputs.insert(*id, CollectionDelta { bounds, ..input });
        }
        let input = |object: ObjectId| inputs[&object].clone();
        // What comes and goes by the clock does so here as in the running system, so that what is
        // long over is never held.
        let now = self.start.clock.now_micros();
        self.clock_micros = self.clock_micros.max(now);
        let epoch = Epoch(self.steps);
        let mut output = self.dataflow.step(epoch, self.clock_micros, &input)?;
        age(&self.dataflow, &mut output, |before| {
            self.store.before(before)
        })?;
        self.counts.add(&output.counts);
        let at_micros = self.start.clock.now_micros();
        let errors = self.errors.entry(self.start.id).or_default();
        errors.extend(
            std::mem::take(&mut output.errors)
                .into_iter()
                .map(|error| ErrorRow::of_row(error, at_micros)),
        );
        for errors in self.errors.values_mut() {
            while errors.len() > ERROR_ROWS_MAX {
                errors.pop_front();
            }
        }
        apply(&mut self.store, &output)?;
        self.held
            .set(self.dataflow.state_bytes() + self.store.bytes());
        let memory = self.held.memory();
        match memory.used() >= memory.limit() {
            true => Err(self.start.refusal()),
            false => Ok(()),
        }
    }

    fn take_snapshots(&mut self, inputs: &Inputs) -> Result<()> {
        // What is looked up is there before who looks, also where both are one relation.
        let looked_up = self.start.plan.looked_up();
        let mut first: BTreeMap<ObjectId, CollectionDelta> = BTreeMap::new();
        for (id, snapshot) in &inputs.snapshots {
            let width = snapshot.schema().fields().len();
            for delta in snapshot.deltas().filter(|_| looked_up.contains(id)) {
                self.start.progress.check()?;
                let delta = delta?;
                self.start.progress.rows_done.add(delta.len() as u64);
                let columns = (0..width).collect();
                let nothing = || CollectionDelta::new(columns, Bounds::unknown(width));
                first
                    .entry(*id)
                    .or_insert_with(nothing)
                    .push(delta, Vec::new());
            }
        }
        if !first.is_empty() {
            self.step(first)?;
        }
        for (id, snapshot) in &inputs.snapshots {
            let width = snapshot.schema().fields().len();
            for delta in snapshot.deltas().filter(|_| !looked_up.contains(id)) {
                self.start.progress.check()?;
                let delta = delta?;
                self.start.progress.rows_done.add(delta.len() as u64);
                self.step(BTreeMap::from([(*id, whole(width, delta))]))?;
            }
        }
        self.is_begun = true;
        // Also over nothing there is an answer: count(*) is 0.
        self.step(BTreeMap::new())
    }

    /// Reads every source from where it stands here to where the running one stands, or to the ends
    /// that the broker has now where nobody runs it.
    fn read_sources(&mut self, inputs: &Inputs, way: &Way<'_>) -> Result<()> {
        for (id, input) in &inputs.sources {
            let patience = self.start.keeping.as_ref().map(|_| &*self.start.progress);
            let another = patiently(patience, || another_topic(&input.spec))?;
            if let Some(error) = another {
                return Err(error);
            }
            let ends = patiently(patience, || ends(input))?;
            self.skip_gaps(*id, &input.spec)?;
            let state = self.sources.get_mut(id).expect("a source of this view");
            state.set_ceiling(match input.running {
                Some(_) => input.watermark,
                None => EventTime::MAX,
            });
            let partitions: Vec<PartitionId> = ends.keys().copied().collect();
            let mut ranges = state.ranges(&partitions);
            for range in &mut ranges {
                range.until = ends.get(&range.partition).copied();
            }
            ranges.retain(|range| range.until.is_some_and(|until| range.from < until));
            // A partition that has nothing at its first fetch does not hold time back; one that was
            // empty before and is not now does.
            for (partition, end) in &ends {
                let Some(known) = state.partitions.get(partition) else {
                    continue;
                };
                match known.position >= *end {
                    true if known.rows == 0 => state.set_idle(*partition, true),
                    true => {}
                    false => state.set_idle(*partition, false),
                }
            }
            let records = |range: &ReadRange| range.until.map_or(0, |until| until.0 - range.from.0);
            let total: u64 = ranges.iter().map(records).sum();
            self.start.progress.records_total.add(total);
            if !ranges.is_empty() {
                self.read(*id, ranges, way)?;
            }
        }
        Ok(())
    }

    /// Begins behind what retention has deleted since the source was created, and says so.
    fn skip_gaps(&mut self, id: ObjectId, spec: &SourceSpec) -> Result<()> {
        let state = self.sources.get_mut(&id).expect("a source of this view");
        let is_unread = |(partition, state): &(&PartitionId, &PartitionState)| {
            state.rows == 0 && spec.startup.get(*partition) == Some(&state.position)
        };
        let unread = state.partitions.iter().filter(is_unread);
        let unread: Vec<PartitionId> = unread.map(|(partition, _)| *partition).collect();
        let bounds = spec.connector.bounds(&unread)?;
        for (partition, bounds) in unread.iter().zip(bounds) {
            let at = state.partitions.get_mut(partition).expect("just listed");
            if at.position < bounds.start {
                self.start.progress.tell_gap(format!(
                    "offsets {} to {} of partition {partition} of source \"{}\"",
                    at.position, bounds.start, spec.name
                ));
                at.position = bounds.start;
            }
        }
        Ok(())
    }

    fn read(&mut self, id: ObjectId, ranges: Vec<ReadRange>, way: &Way<'_>) -> Result<()> {
        let expected = ranges.len();
        let state = &self.sources[&id];
        let (wake, woken) = std::sync::mpsc::sync_channel::<()>(1);
        let wake = Arc::new(move || {
            let _ = wake.try_send(());
        });
        let memory = self.held.memory().clone();
        let reader = ReaderThread::start(state.spec(), ranges, &state.decoded(), &memory, wake);
        let mut steps = 0;
        loop {
            self.start.progress.check()?;
            // Rows meet what they came after, or a little more.
            if steps % CATCH_UP_FOLLOW_STEPS == 0 || self.start.plan.has_lookup() {
                self.follow(way)?;
            }
            // Asked before the chunks are taken: what is finished then has left its chunks.
            let finished = reader.finished().len();
            let most = (CATCH_UP_STEP_ROWS, STEP_BYTES_MAX);
            let clock_micros = self.now();
            let chunks = drift::take(&reader, &self.sources[&id], most, clock_micros)?;
            if !chunks.is_empty() {
                let chunks = chunks.into_iter().map(|chunk| (id, chunk));
                self.feed(chunks.collect(), Origin::Read)?;
                self.keep();
                steps += 1;
                continue;
            }
            if finished == expected {
                return Ok(());
            }
            // Nothing of its own is left to give back: it would wait for others for ever.
            self.start.check_memory()?;
            if let Err(error) = reader.error() {
                return Err(error.context(format!("reading for view \"{}\"", self.start.name)));
            }
            let _ = woken.recv_timeout(READER_POLL.max(Duration::from_millis(10)));
            // A source that has nothing at the moment is no reason to stop following.
            steps = 0;
        }
    }

    /// The clock of the step to come. Rows that come later come at no earlier time.
    fn now(&mut self) -> i64 {
        self.clock_micros = self.start.clock.now_micros().max(self.clock_micros);
        self.clock_micros
    }

    fn feed(&mut self, chunks: Vec<(ObjectId, Chunk)>, origin: Origin) -> Result<()> {
        let clock_micros = self.now();
        let mut deltas: BTreeMap<ObjectId, CollectionDelta> = BTreeMap::new();
        for (id, chunk) in &chunks {
            let Some(source) = self.sources.get_mut(id) else {
                continue;
            };
            // What a running source has taken it has judged, once and for all views: by another
            // clock another row might be too far ahead.
            let without_ahead = match origin {
                Origin::Read => source.without_ahead(chunk, clock_micros)?,
                Origin::Taken => None,
            };
            let chunk = without_ahead.as_ref().unwrap_or(chunk);
            let taken = source.take(chunk, clock_micros)?;
            let mut news = self.news.get_mut(id);
            for bad in &taken.bad {
                // What the running source saw it has recorded itself.
                if news.as_mut().is_none_or(|news| news.note(bad)) {
                    let errors = self.errors.entry(*id).or_default();
                    errors.push_back(error_row(bad, clock_micros));
                }
            }
            self.start.progress.rows_done.add(taken.delta.len() as u64);
            self.start
                .progress
                .records_done
                .add(chunk.to.0 - chunk.from.0);
            let entry = deltas
                .entry(*id)
                .or_insert_with(|| CollectionDelta::new(source.wanted().to_vec(), source.bounds()));
            entry.push(taken.delta, taken.bad_cells);
        }
        self.step(deltas)
    }

    /// Takes over what the running sources took since; returns how many rows that are.
    pub(super) fn queue(&mut self, inputs: Inputs) -> usize {
        let mut rows = 0;
        for (id, input) in inputs.sources {
            let state = self.sources.get_mut(&id).expect("a source of this view");
            if input.running.is_some() {
                state.set_ceiling(input.watermark);
            }
            for chunk in input.chunks {
                rows += chunk.rows.num_rows();
                self.pending.push((id, chunk));
            }
        }
        rows
    }

    pub(super) fn feed_pending(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        match pending.is_empty() {
            true => Ok(()),
            false => self.feed(pending, Origin::Taken),
        }
    }

    /// Feeds what has changed in views and tables while sources are read, and tells the stepper, so
    /// that their histories need not grow with the time that the reading takes.
    fn follow(&mut self, way: &Way<'_>) -> Result<()> {
        if self.relations.is_empty() {
            return Ok(());
        }
        let before = self.relations.clone();
        self.follow_relations(way.published, None)?;
        if self.relations == before {
            return Ok(());
        }
        let (view, reached) = (self.start.id, self.relations.clone());
        let sent = way.commands.send(Command::Followed { view, reached });
        sent.map_err(|_| stopped())
    }

    /// Feeds the changes of views and tables, up to an epoch or to the newest.
    pub(super) fn follow_relations(
        &mut self,
        published: &Published,
        until: Option<Epoch>,
    ) -> Result<usize> {
        let mut rows = 0;
        let relations: Vec<(ObjectId, Epoch)> = self
            .relations
            .iter()
            .map(|(id, epoch)| (*id, *epoch))
            .collect();
        // One step for each epoch of theirs, as in the running system.
        let until = until.unwrap_or_else(|| published.epoch());
        let mut epochs: BTreeMap<Epoch, BTreeMap<ObjectId, CollectionDelta>> = BTreeMap::new();
        for (id, since) in relations {
            let (_, changes) = published.changes_since(id, since)?;
            for change in changes
                .into_iter()
                .take_while(|change| change.epoch <= until)
            {
                let width = change.delta.rows().num_columns();
                rows += change.delta.len();
                let delta = match self.tables.get_mut(&id) {
                    Some(clock) => clock.take(change.delta)?,
                    None => change.delta,
                };
                let deltas = epochs.entry(change.epoch).or_default();
                deltas.insert(id, whole(width, delta));
            }
            self.relations.insert(id, until);
        }
        for deltas in epochs.into_values() {
            self.step(deltas)?;
        }
        Ok(rows)
    }
}

/// A change of a relation with all its columns.
fn whole(width: usize, delta: DeltaBatch) -> CollectionDelta {
    let mut whole = CollectionDelta::new((0..width).collect(), Bounds::unknown(width));
    whole.push(delta, Vec::new());
    whole
}

/// Where to read to.
fn ends(input: &SourceInput) -> Result<BTreeMap<PartitionId, Offset>> {
    if let Some(running) = &input.running {
        return Ok(running
            .iter()
            .map(|(partition, state)| (*partition, state.position))
            .collect());
    }
    let partitions = input.spec.connector.partitions()?;
    let bounds = input.spec.connector.bounds(&partitions)?;
    Ok(partitions
        .into_iter()
        .zip(bounds)
        .map(|(id, bounds)| (id, bounds.end))
        .collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, new_null_array};
    use arrow::datatypes::{Int64Type, SchemaRef};
    use datafusion::common::TableReference;

    use super::*;
    use crate::connector::factory::TimeOptions;
    use crate::dataflow::oracle::answer::parsed;
    use crate::dataflow::oracle::relation::{SECOND, World, planned_table};
    use crate::plan::{Planner, ViewOptions, plan_view};
    use crate::view::SnapshotLimits;

    /// Rows of these seconds, as a reader of the source gives them.
    fn chunk(source: &SourceState, from: u64, seconds: &[i64]) -> Chunk {
        let schema = source.spec().schema.project(&source.decoded());
        let schema: SchemaRef = Arc::new(schema.unwrap());
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            if field.name() != "ts" {
                return new_null_array(field.data_type(), seconds.len());
            }
            let times = seconds.iter().map(|second| second * SECOND);
            let times = TimestampMicrosecondArray::from_iter_values(times);
            Arc::new(times.with_data_type(field.data_type().clone()))
        });
        Chunk {
            partition: PartitionId(0),
            from: Offset(from),
            to: Offset(from + seconds.len() as u64),
            rows: RecordBatch::try_new(schema.clone(), columns.collect()).unwrap(),
            jumps: Vec::new(),
            weights: None,
            bad: Vec::new(),
            bad_rows: Vec::new(),
            skipped: 0,
            checksum: 0,
            bytes: 0,
            arrived_micros: 0,
        }
    }

    /// A row is too far ahead of the clock or not, once: the running views have what the source has
    /// taken, and so has the view that catches up, though its own clock is behind theirs.
    #[test]
    fn what_a_running_source_has_taken_is_not_judged_again() {
        let world = World::new();
        let mut spec = world.relations[world.relation("s")].source.clone().unwrap();
        spec.time = TimeOptions {
            ahead_max_micros: Some(60 * SECOND),
            ..TimeOptions::default()
        };
        let id = spec.id;
        let resolve = |reference: &TableReference| planned_table(&world.catalog, reference);
        let planner = Planner::new(&world.state, &resolve);
        let query = parsed("SELECT count(*) AS n FROM s");
        let plan = plan_view(&planner, &query, &[], &ViewOptions::default()).unwrap();
        let options = RuntimeOptions {
            workers: 1,
            clock: Clock::manual(0),
            checkpoint_interval_micros: i64::MAX / 4,
            memory: Memory::accounted_only(usize::MAX),
            snapshots: SnapshotLimits {
                age: Duration::MAX,
                bytes: usize::MAX,
            },
        };
        let progress = Arc::new(Progress::default());
        let named = (ObjectId(1_000), "v".to_string());
        let start = CatchUpStart::new(named, plan, &options, progress, None);
        let inputs = |chunks: Vec<Chunk>| Inputs {
            epoch: Epoch(1),
            snapshots: BTreeMap::new(),
            sources: BTreeMap::from([(
                id,
                SourceInput {
                    spec: spec.clone(),
                    running: None,
                    watermark: EventTime::MIN,
                    counted: BTreeSet::new(),
                    chunks,
                    has_overflowed: false,
                },
            )]),
            tables: BTreeMap::new(),
            clock_micros: 0,
        };
        let mut catch_up = CatchUp::new(start, &inputs(Vec::new()), None).unwrap();
        let rows = |catch_up: &CatchUp| {
            let snapshot = catch_up.store.snapshot();
            let delta = snapshot.deltas().next().expect("a row").unwrap();
            delta.rows().column(0).as_primitive::<Int64Type>().value(0)
        };
        // Of its own reader it judges by its own clock, which is at 0.
        let read = chunk(&catch_up.sources[&id], 0, &[30, 61, 59]);
        catch_up.feed(vec![(id, read)], Origin::Read).unwrap();
        assert_eq!(rows(&catch_up), 2);
        // The running system's was at 40 s when it took the same.
        let taken = chunk(&catch_up.sources[&id], 3, &[30, 61, 59]);
        catch_up.queue(inputs(vec![taken]));
        catch_up.feed_pending().unwrap();
        assert_eq!(rows(&catch_up), 5);
    }
}
