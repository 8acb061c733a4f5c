//! Our side: sources' clocks, dataflows and stores, stepped as the step engine does it, with
//! checkpoints, restarts and replays.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::scalar::ScalarValue;
use fastrand::Rng;

use crate::base::{Epoch, EventTime, ObjectId, Offset, PartitionId};
use crate::connector::{BadRow, Chunk};
use crate::dataflow::expiry;
use crate::dataflow::late::late_store;
use crate::dataflow::oracle::answer::{Multiset, multiset, row_text};
use crate::dataflow::oracle::model::{self, Late, Used};
use crate::dataflow::oracle::relation::{Relation, Row, World, batch, micros};
use crate::dataflow::oracle::script::{Change, Item};
use crate::dataflow::{CollectionDelta, Dataflow, PartitionState, SourceState, StateChange};
use crate::delta::{DeltaBatch, Weights};
use crate::operator::{Bounds, Counts, Scope, TableChange};
use crate::plan::{Node, Operation, StreamPlan};
use crate::view::Store;

/// What a step takes in.
#[derive(Clone)]
struct StepInput {
    /// How many items have been taken with it.
    taken: usize,
    /// What the clock shows from now on.
    clock: Option<i64>,
    idle: Vec<(usize, u32)>,
    /// In the order in which the step takes them.
    pieces: Vec<(usize, Piece)>,
}

#[derive(Clone)]
struct Piece {
    partition: u32,
    rows: RecordBatch,
    weights: Vec<i64>,
    bad_rows: Vec<BadRow>,
}

/// The interval of views that show their changes every so often.
pub const EVERY_MICROS: i64 = 1_000;

/// The clock of a step; some three steps are in an interval.
fn clock(epoch: u64) -> i64 {
    1_000_000 + i64::try_from(epoch).expect("few steps") * 370
}

/// A source's positions and clock.
type Clock = (BTreeMap<PartitionId, PartitionState>, EventTime);

/// One view, running.
struct Running {
    id: ObjectId,
    dataflow: Dataflow,
    store: Store,
    /// The relation of its late rows, as readers see it.
    late: Option<Store>,
    tally: Tally,
}

/// What a view has counted.
#[derive(Clone, Default)]
pub struct Tally {
    pub counts: Counts,
    pub late: Vec<Late>,
    pub errors: u64,
    /// Of the last of them.
    pub reason: String,
}

/// When views show what has changed: at the first clock that is at a multiple of the interval which
/// is an interval away from the last time, or as good as.
#[derive(Clone, Copy, Default)]
struct Firings {
    /// The last time: the multiple if the clock was near it, else the clock.
    last: Option<i64>,
    /// How many items had been taken.
    taken: usize,
}

impl Firings {
    fn step(&mut self, clock: i64, taken: usize) {
        let due = self.last.map(|last| {
            let multiples = (last + EVERY_MICROS..).find(|time| time % EVERY_MICROS == 0);
            multiples.expect("there is one in every interval")
        });
        let Some(due) = due else {
            *self = Firings {
                last: Some(clock),
                taken,
            };
            return;
        };
        if clock < due {
            return;
        }
        let is_near = clock - due <= EVERY_MICROS / 4;
        *self = Firings {
            last: Some(if is_near { due } else { clock }),
            taken,
        };
    }
}

/// Everything a checkpoint has, and the inputs of the steps since.
#[derive(Default)]
struct Saved {
    epoch: u64,
    clock: i64,
    clocks: BTreeMap<ObjectId, Clock>,
    firings: Firings,
    /// For each view its operators' changes, its store's, and its tally.
    views: Vec<(Vec<StateChange>, Vec<TableChange>, Tally)>,
    steps: Vec<StepInput>,
}

/// The views of a case, running on some workers.
pub struct Engine<'a> {
    world: &'a World,
    plans: &'a [(ObjectId, StreamPlan)],
    workers: usize,
    epoch: u64,
    /// How many items had been taken when the last step ended.
    taken: usize,
    firings: Firings,
    /// What the clock shows where a query asks for it.
    clock: i64,
    sources: BTreeMap<ObjectId, SourceState>,
    views: Vec<Running>,
    saved: Option<Saved>,
    /// A checkpoint that is being written while steps go on: what it has so far.
    saving: Option<Saved>,
}

impl<'a> Engine<'a> {
    pub fn new(
        world: &'a World,
        plans: &'a [(ObjectId, StreamPlan)],
        workers: usize,
    ) -> Engine<'a> {
        let mut engine = Engine {
            world,
            plans,
            workers,
            epoch: 0,
            taken: 0,
            firings: Firings::default(),
            clock: i64::MIN,
            sources: BTreeMap::new(),
            views: Vec::new(),
            saved: None,
            saving: None,
        };
        engine.build();
        engine
    }

    /// Has the sources make every column, as for views that use them all.
    pub fn want_all(&mut self) {
        for source in self.sources.values_mut() {
            let width = source.spec().schema.fields().len();
            source.want((0..width).collect()).unwrap();
        }
    }

    /// Everything new and without state.
    fn build(&mut self) {
        self.sources.clear();
        for relation in &self.world.relations {
            let Some(spec) = &relation.source else {
                continue;
            };
            let scans = self.plans.iter().flat_map(|(_, plan)| plan.scans());
            let mut wanted: Vec<usize> = scans
                .filter(|scan| scan.object == relation.id)
                .flat_map(|scan| scan.columns.clone())
                .collect();
            wanted.sort_unstable();
            wanted.dedup();
            let state = SourceState::new(spec.clone(), wanted).unwrap();
            self.sources.insert(relation.id, state);
        }
        let run = |(id, plan): &(ObjectId, StreamPlan)| Running::new(*id, plan, self.workers);
        self.views = self.plans.iter().map(run).collect();
    }

    /// Takes items in one step, in batches cut at random.
    pub fn step(&mut self, items: &[Item], range: Range<usize>, random: &mut Rng) {
        self.taken = range.end;
        let input = self.input(&items[range], random);
        self.run(&input);
        if let Some(saved) = &mut self.saved {
            saved.steps.push(input.clone());
        }
        if let Some(saving) = &mut self.saving {
            saving.steps.push(input);
            let views = self.views.iter_mut().zip(&mut saving.views);
            for (view, (operators, rows, _)) in views {
                for _ in 0..random.usize(..3) {
                    operators.extend(view.dataflow.thaw(random.usize(1..6)).unwrap());
                    rows.extend(view.store.thaw(random.usize(1..6)).unwrap());
                }
            }
        }
    }

    fn input(&self, items: &[Item], random: &mut Rng) -> StepInput {
        let mut input = StepInput {
            taken: self.taken,
            clock: None,
            idle: Vec::new(),
            pieces: Vec::new(),
        };
        let mut changes: BTreeMap<usize, Vec<&Change>> = BTreeMap::new();
        for item in items {
            match item {
                Item::Idle {
                    relation,
                    partition,
                } => input.idle.push((*relation, *partition)),
                Item::Clock(clock) => input.clock = Some(*clock),
                Item::Row(change) => changes.entry(change.relation).or_default().push(change),
            }
        }
        for (number, mut changes) in changes {
            let relation = &self.world.relations[number];
            // What a table takes in one step has no order; a source's rows are in sequence.
            if relation.time.is_none() && random.bool() {
                random.shuffle(&mut changes);
            }
            let most = random.usize(1..=changes.len());
            let mut rest = changes.as_slice();
            while let Some(first) = rest.first() {
                let run = rest
                    .iter()
                    .take_while(|each| each.partition == first.partition)
                    .count();
                let (now, later) = rest.split_at(random.usize(1..=most).min(run));
                rest = later;
                input.pieces.push((number, piece(relation, now)));
            }
        }
        input
    }

    fn run(&mut self, input: &StepInput) {
        self.epoch += 1;
        self.clock = input.clock.unwrap_or(self.clock);
        for &(relation, partition) in &input.idle {
            let source = self
                .sources
                .get_mut(&self.world.relations[relation].id)
                .unwrap();
            source.set_idle(PartitionId(partition), true);
        }
        let shown = self.shown();
        for source in self.sources.values_mut() {
            source.follow_clock(shown);
        }
        let mut inputs = BTreeMap::new();
        for relation in &self.world.relations {
            let columns = match self.sources.get(&relation.id) {
                Some(source) => source.wanted().to_vec(),
                None => (0..relation.schema.fields().len()).collect(),
            };
            let bounds = Bounds::unknown(relation.schema.fields().len());
            inputs.insert(relation.id, CollectionDelta::new(columns, bounds));
        }
        for (number, piece) in &input.pieces {
            let id = self.world.relations[*number].id;
            let input = inputs.get_mut(&id).unwrap();
            match self.sources.get_mut(&id) {
                None => input.deltas.push(piece.delta()),
                Some(source) => {
                    let taken = source.take(&piece.chunk(source), shown).unwrap();
                    input.push(taken.delta, taken.bad_cells);
                }
            }
        }
        for (id, source) in &self.sources {
            inputs.get_mut(id).unwrap().bounds = source.bounds();
        }
        for view in &mut self.views {
            let output = view.step(Epoch(self.epoch), shown, &inputs);
            inputs.insert(view.id, output);
        }
        if self.plans.iter().any(|(_, plan)| is_by_clock(plan)) {
            self.firings.step(shown, input.taken);
            self.check_deadlines(shown);
        }
    }

    /// What shows its changes every so often waits for the clock, and not too long.
    fn check_deadlines(&self, clock: i64) {
        let views = self.views.iter();
        for deadline in views.filter_map(|view| view.dataflow.deadline()) {
            assert!(deadline > clock, "a step has missed its deadline");
            assert!(
                deadline <= clock + 2 * EVERY_MICROS,
                "changes wait for too long"
            );
        }
    }

    /// The clock of a step: what the script says where a query asks for it.
    fn shown(&self) -> i64 {
        let asks = |plan: &StreamPlan| {
            let is_temporal = |node: &Node| match &node.operation {
                Operation::Temporal(_) => true,
                Operation::Scan(scan) => !scan.clocked.is_empty(),
                operation => operation.has_ttl(),
            };
            plan.nodes.iter().any(is_temporal)
        };
        match self.plans.iter().any(|(_, plan)| asks(plan)) {
            true => self.clock,
            false => clock(self.epoch),
        }
    }

    /// Begins a checkpoint: what changed since the last one, or everything. It is written while
    /// the next steps run; one that is under way is completed before.
    pub fn checkpoint(&mut self, random: &mut Rng) {
        self.complete();
        let is_first = self.saved.is_none() || random.u8(..4) == 0;
        let scope = if is_first { Scope::All } else { Scope::Changed };
        let mut saved = Saved {
            epoch: self.epoch,
            clock: self.clock,
            firings: self.firings,
            ..Saved::default()
        };
        for (id, source) in &self.sources {
            saved
                .clocks
                .insert(*id, (source.partitions.clone(), source.watermark()));
        }
        let mut old = self.saved.iter().flat_map(|saved| saved.views.clone());
        for view in &mut self.views {
            let (mut operators, mut store, _) = old.next().unwrap_or_default();
            if is_first {
                operators.clear();
                store.clear();
            }
            view.dataflow.freeze(scope).unwrap();
            view.store.freeze(scope);
            saved.views.push((operators, store, view.tally.clone()));
        }
        drop(old);
        self.saving = Some(saved);
    }

    /// Ends the checkpoint that is under way.
    fn complete(&mut self) {
        let Some(mut saved) = self.saving.take() else {
            return;
        };
        for (view, (operators, rows, _)) in self.views.iter_mut().zip(&mut saved.views) {
            operators.extend(std::iter::from_fn(|| {
                view.dataflow.thaw(usize::MAX).unwrap()
            }));
            rows.extend(std::iter::from_fn(|| view.store.thaw(usize::MAX).unwrap()));
        }
        self.saved = Some(saved);
    }

    /// Makes the last view anew, over the rows that its inputs have by now: as a catch-up does it,
    /// snapshot by snapshot, and at last a step without rows.
    pub fn make_anew(&mut self, items: &[Item], random: &mut Rng) {
        let (id, plan) = self.plans.last().expect("a case has a view");
        let mut view = Running::new(*id, plan, self.workers);
        view.dataflow.set_building(true);
        let shown = self.shown();
        let mut empty = BTreeMap::new();
        let mut snapshots: Vec<(ObjectId, DeltaBatch)> = Vec::new();
        for (number, relation) in self.world.relations.iter().enumerate() {
            let width = relation.schema.fields().len();
            empty.insert(relation.id, nothing(width));
            if relation.time.is_none() {
                let mut rows = model::rows(items, number, self.world, &Used::new());
                random.shuffle(&mut rows);
                for rows in rows.chunks(random.usize(1..20)) {
                    let delta = DeltaBatch::insertions(batch(&relation.schema, rows));
                    snapshots.push((relation.id, delta));
                }
            }
        }
        for other in &self.views[..self.views.len() - 1] {
            empty.insert(other.id, nothing(other.store.schema().fields().len()));
            let deltas = other.store.snapshot();
            snapshots.extend(deltas.deltas().map(|delta| (other.id, delta.unwrap())));
        }
        for (id, delta) in snapshots {
            let mut inputs = empty.clone();
            inputs
                .get_mut(&id)
                .expect("every relation has an input")
                .deltas
                .push(delta);
            view.step(Epoch(0), shown, &inputs);
        }
        view.step(Epoch(0), shown, &empty);
        view.dataflow.set_building(false);
        *self.views.last_mut().expect("a case has a view") = view;
        self.saved = None;
        self.saving = None;
    }

    pub fn has_checkpoint(&self) -> bool {
        self.saved.is_some() || self.saving.is_some()
    }

    /// Starts anew from the last checkpoint and takes the steps since then again.
    pub fn crash(&mut self) {
        let before: Vec<Multiset> = (0..self.views.len()).map(|view| self.rows(view)).collect();
        self.complete();
        let saved = self
            .saved
            .take()
            .expect("a checkpoint comes before a crash");
        self.build();
        self.epoch = saved.epoch;
        self.clock = saved.clock;
        self.firings = saved.firings;
        for (id, (partitions, watermark)) in &saved.clocks {
            self.sources
                .get_mut(id)
                .unwrap()
                .restore(partitions.clone(), (*watermark, 0));
        }
        for (view, (operators, store, tally)) in self.views.iter_mut().zip(&saved.views) {
            for StateChange {
                operator,
                shard,
                change,
            } in operators
            {
                let change = change.clone();
                let (operator, shard) = (*operator, *shard);
                view.dataflow
                    .restore(StateChange {
                        operator,
                        shard,
                        change,
                    })
                    .unwrap();
            }
            view.store.restore(store.iter().cloned()).unwrap();
            view.dataflow.resume();
            view.late = late_store(&view.dataflow).unwrap().map(|(_, store)| store);
            view.tally = tally.clone();
        }
        saved.steps.iter().for_each(|input| self.run(input));
        for (view, before) in before.iter().enumerate() {
            assert_eq!(&self.rows(view), before, "a replay gives the same rows");
        }
        self.saved = Some(saved);
    }

    /// Steps without rows, until one has fired.
    pub fn fire(&mut self, items: &[Item], random: &mut Rng) {
        let waits = |view: &Running| view.dataflow.deadline().is_some();
        while self.views.iter().any(waits) {
            self.step(items, self.taken..self.taken, random);
        }
    }

    /// How many of the items had been taken when a step fired last.
    pub fn fired(&self) -> usize {
        self.firings.taken
    }

    pub fn watermark(&self, relation: ObjectId) -> EventTime {
        self.sources[&relation].watermark()
    }

    pub fn rows(&self, view: usize) -> Multiset {
        let snapshot = self.views[view].store.snapshot();
        let batches: Vec<RecordBatch> = snapshot
            .deltas()
            .map(|delta| delta.unwrap().rows().clone())
            .collect();
        let rows = multiset(&batches);
        let count: i64 = rows.values().sum();
        assert_eq!(
            u64::try_from(count).unwrap(),
            snapshot.rows(),
            "rows are counted"
        );
        rows
    }

    /// The late rows that a view keeps: event time, watermark and weight of each.
    pub fn kept_late(&self, view: usize) -> Option<Vec<Late>> {
        let store = self.views[view].late.as_ref()?;
        let mut kept = Vec::new();
        for delta in store.snapshot().deltas() {
            let rows = delta.unwrap().rows().clone();
            let column = |column: usize| {
                let values = ScalarValue::try_from_array(rows.column(column), 0);
                values.unwrap().data_type()
            };
            assert_eq!(column(0), column(1), "both are times");
            let time = |row: usize, column: usize| {
                micros(&ScalarValue::try_from_array(rows.column(column), row).unwrap()).unwrap()
            };
            let weights = rows.column(2).as_primitive::<Int64Type>();
            kept.extend((0..rows.num_rows()).map(|r| (time(r, 0), time(r, 1), weights.value(r))));
        }
        kept.sort_unstable();
        Some(kept)
    }

    pub fn tally(&self, view: usize) -> &Tally {
        &self.views[view].tally
    }

    /// Rows of state of all operators of all views.
    pub fn state_rows(&mut self) -> usize {
        self.complete();
        let views = self.views.iter_mut();
        let changes = views.flat_map(|view| {
            // Late rows are kept up to a bound, whatever the time.
            let nodes = view.dataflow.plan().nodes.len();
            let mut changes = view.dataflow.changes(Scope::All).unwrap();
            changes.retain(|change| (change.operator as usize) < nodes);
            changes
        });
        // What is no row of state, such as the time up to which windows are freed, has one column
        // of its own.
        let is_row = |change: &StateChange| {
            let schema = change.change.rows.schema();
            !["freed_before", "fired_at"].contains(&schema.fields()[0].name().as_str())
        };
        changes
            .filter(is_row)
            .map(|change| change.change.rows.num_rows())
            .sum()
    }
}

impl Running {
    fn new(id: ObjectId, plan: &StreamPlan, workers: usize) -> Running {
        let dataflow = Dataflow::new(plan.clone(), workers).unwrap();
        Running {
            id,
            late: late_store(&dataflow).unwrap().map(|(_, store)| store),
            dataflow,
            store: expiry::view_store(plan).unwrap(),
            tally: Tally::default(),
        }
    }

    fn step(
        &mut self,
        epoch: Epoch,
        clock_micros: i64,
        inputs: &BTreeMap<ObjectId, CollectionDelta>,
    ) -> CollectionDelta {
        let before = self.dataflow.bounds().clone();
        let input = |object: ObjectId| inputs[&object].clone();
        let mut output = self.dataflow.step(epoch, clock_micros, &input).unwrap();
        let rows_before = |time| self.store.before(time);
        expiry::age(&self.dataflow, &mut output, rows_before).unwrap();
        if let Some(delta) = &output.delta {
            self.check(&before, delta);
        }
        expiry::apply(&mut self.store, &output).unwrap();
        if let Some(delta) = &output.late_delta {
            let late = self.late.as_mut().expect("a view that keeps late rows");
            late.apply(delta).unwrap();
        }
        for (old, new) in before.0.iter().zip(&self.dataflow.bounds().0) {
            // A restart forgets a bound until the next step.
            assert!(
                old.is_none() || new >= old,
                "a bound goes back from {old:?} to {new:?}"
            );
        }
        let tally = &mut self.tally;
        tally.counts.add(&output.counts);
        if let Some(error) = output.errors.last() {
            tally.reason.clone_from(&error.reason);
        }
        tally.errors += output
            .errors
            .iter()
            .map(|error| error.weight.unsigned_abs())
            .sum::<u64>();
        for (_, late) in &output.late {
            for (row, &time) in late.event_times.iter().enumerate() {
                let watermarks = late.rows.watermarks().expect("late rows have a watermark");
                let weight = late.rows.weights().get(row);
                tally.late.push((time, watermarks[row], weight));
            }
        }
        let columns = (0..self.dataflow.plan().schema.fields().len()).collect();
        let mut input = CollectionDelta::new(columns, expiry::bounds(&self.dataflow));
        input.deltas.extend(output.delta);
        input
    }

    /// A delta says each row once, and nothing below the bounds that were given out.
    fn check(&self, before: &Bounds, delta: &DeltaBatch) {
        let plan = self.dataflow.plan();
        let mut seen = std::collections::BTreeSet::new();
        for row in 0..delta.len() {
            assert_ne!(delta.weights().get(row), 0, "a change of nothing");
            let is_new = seen.insert(row_text(delta.rows(), row));
            assert!(
                delta.is_append_only() || is_new,
                "a row is in a delta twice"
            );
        }
        for &column in &plan.bounded {
            let Some(bound) = before.0[column] else {
                continue;
            };
            for row in 0..delta.len() {
                let value = ScalarValue::try_from_array(delta.rows().column(column), row).unwrap();
                let is_below = micros(&value).is_some_and(|micros| micros < bound.0);
                assert!(
                    !is_below,
                    "{value} comes below the bound {bound} of column {column}"
                );
            }
        }
    }
}

fn is_by_clock(plan: &StreamPlan) -> bool {
    let is_every = |node: &Node| matches!(node.operation, Operation::Every(_));
    plan.nodes.iter().any(is_every)
}

fn nothing(width: usize) -> CollectionDelta {
    CollectionDelta::new((0..width).collect(), Bounds::unknown(width))
}

fn piece(relation: &Relation, changes: &[&Change]) -> Piece {
    let rows: Vec<Row> = changes.iter().map(|change| change.decoded()).collect();
    let bad = (0..)
        .zip(changes)
        .filter(|(_, change)| !change.bad.is_empty());
    let bad_row = |(row, change): (u32, &&Change)| BadRow {
        row,
        raw: Vec::new(),
        values: change
            .bad
            .iter()
            .map(|column| (*column, "bad".to_string()))
            .collect(),
    };
    Piece {
        partition: changes[0].partition,
        rows: batch(&relation.schema, &rows),
        weights: changes.iter().map(|change| change.weight).collect(),
        bad_rows: bad.map(bad_row).collect(),
    }
}

impl Piece {
    fn delta(&self) -> DeltaBatch {
        DeltaBatch::new(self.rows.clone(), self.weights())
    }

    fn weights(&self) -> Weights {
        match self.weights.iter().all(|&weight| weight == 1) {
            true => Weights::Ones,
            false => Weights::Each(self.weights.clone().into()),
        }
    }

    fn chunk(&self, source: &SourceState) -> Chunk {
        let partition = PartitionId(self.partition);
        let from = source
            .partitions
            .get(&partition)
            .map_or(Offset(0), |state| state.position);
        let is_plain = matches!(self.weights(), Weights::Ones);
        Chunk {
            partition,
            from,
            to: Offset(from.0 + self.rows.num_rows() as u64),
            rows: self.rows.clone(),
            jumps: Vec::new(),
            weights: (!is_plain).then(|| self.weights.clone().into()),
            bad: Vec::new(),
            bad_rows: self.bad_rows.clone(),
            skipped: 0,
            checksum: 0,
            bytes: 0,
            arrived_micros: 0,
        }
    }
}
