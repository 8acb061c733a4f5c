//! A running dataflow: the operators of one view, a set per shard, and one step of them.
//!
//! The nodes of a plan fall into levels: an exchange ends one. Within a level every shard runs on
//! its
//! own; between levels the rows that an exchange sends change hands, in the order of the shards
//! that
//! sent them, so that no timing shows in the output.
//!
//! ```text
//!             level 0                      level 1
//!   shard 0   scan ─ window ─ map ─┐╱───► aggregate ─► output
//!   shard 1   scan ─ window ─ map ─┘╲───► aggregate ─► output
//!                               exchange
//! ```

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::datatypes::DataType;

use crate::base::limits::{PARALLEL_ROWS_MIN, WATERMARK_FOLLOW_INTERVAL};
use crate::base::{Epoch, ObjectId};
use crate::dataflow::bad_rows::{BadCells, tightened, usable};
use crate::dataflow::expiry::Aged;
use crate::dataflow::late::LateRelation;
use crate::dataflow::metrics::{DataflowMetrics, NodeMetrics, rows};
use crate::delta::{DeltaBatch, KeyBatch, KeyTable, cancel_pairs, concat, consolidate};
use crate::error::{Error, Result};
use crate::operator::TableChange;
use crate::operator::aggregate::{Aggregate, PaneAggregate, SessionAggregate};
use crate::operator::asof::AsOf;
use crate::operator::every::Every;
use crate::operator::gate::Gate;
use crate::operator::join::{Join, Lookup};
use crate::operator::judge::Judge;
use crate::operator::lifetime::Lifetime;
use crate::operator::map::Map;
use crate::operator::over::Over;
use crate::operator::repeat::Repeat;
use crate::operator::session::Session;
use crate::operator::temporal::Temporal;
use crate::operator::top::Top;
use crate::operator::window::Window;
use crate::operator::{Bounds, Counts, LateRows, Operator, Output, RowError, Scope, Step};
use crate::plan::{Operation, StreamPlan};

/// What a step hands to a dataflow for one of the collections it reads.
#[derive(Clone, Debug)]
pub struct CollectionDelta {
    pub deltas: Vec<DeltaBatch>,
    /// Which columns of the collection the deltas have, rising.
    pub columns: Vec<usize>,
    /// For each column of the collection the bound after the step.
    pub bounds: Bounds,
    /// Rows that not every scan may take, by the number of their delta.
    pub bad_cells: BTreeMap<usize, Vec<BadCells>>,
}

impl CollectionDelta {
    /// No change yet of a collection.
    pub fn new(columns: Vec<usize>, bounds: Bounds) -> CollectionDelta {
        CollectionDelta {
            deltas: Vec::new(),
            columns,
            bounds,
            bad_cells: BTreeMap::new(),
        }
    }

    /// Adds what came of a source's chunk.
    pub fn push(&mut self, delta: DeltaBatch, bad_cells: Vec<BadCells>) {
        if delta.is_empty() {
            return;
        }
        if !bad_cells.is_empty() {
            self.bad_cells.insert(self.deltas.len(), bad_cells);
        }
        self.deltas.push(delta);
    }
}

/// What a step made of it.
#[derive(Debug, Default)]
pub struct DataflowOutput {
    pub delta: Option<DeltaBatch>,
    /// Late rows, with the number of the operator that judged them.
    pub late: Vec<(usize, LateRows)>,
    /// The change of the relation that they are kept in.
    pub late_delta: Option<DeltaBatch>,
    pub errors: Vec<RowError>,
    pub counts: Counts,
    /// Of a view whose rows leave by age: what becomes of them.
    pub aged: Option<Aged>,
}

/// How the rows that a step puts out stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// No two are equal.
    Distinct,
    /// Equal ones can only be a removal and the insertion behind it.
    Paired,
    Any,
}

impl Order {
    /// That of a plan's output. An aggregate puts −old +new of each group next to each other, and
    /// what maps its rows one by one leaves them so; as long as the group's key is among the
    /// columns, which a view with a key says, rows of different groups differ. So it is with
    /// sessions that only grow: none has had the bounds that another has now, and only what did
    /// not change comes as an equal pair.
    fn of(plan: &StreamPlan) -> Order {
        let mut node = plan.nodes.len() - 1;
        let mut order = Order::Distinct;
        while matches!(plan.nodes[node].operation, Operation::Map(_)) {
            order = Order::Paired;
            node = plan.nodes[node].inputs[0];
        }
        match &plan.nodes[node].operation {
            _ if plan.key.is_none() => Order::Any,
            Operation::Aggregate(_) => order,
            Operation::SessionAggregate(_) => Order::Paired,
            _ => Order::Any,
        }
    }
}

/// The operators of one view.
pub struct Dataflow {
    plan: StreamPlan,
    order: Order,
    levels: Vec<usize>,
    /// For each node whether what it waits for is the clock.
    by_clock: Vec<bool>,
    /// The scans whose rows stay in their order.
    sequential: BTreeSet<usize>,
    /// The clock of the last step.
    clock_micros: i64,
    shards: Vec<Shard>,
    /// Whether the rows that are there from the beginning have been put out.
    is_started: bool,
    bounds: Bounds,
    late: Option<LateRelation>,
    metrics: Arc<DataflowMetrics>,
}

struct Shard {
    /// By node; `None` where a node only passes rows on.
    operators: Vec<Option<Box<dyn Operator>>>,
    outputs: Vec<Vec<DeltaBatch>>,
    bounds: Vec<Bounds>,
    sent: Vec<Sent>,
    late: Vec<(usize, LateRows)>,
    errors: Vec<RowError>,
    counts: Counts,
    /// By node.
    metrics: Arc<[NodeMetrics]>,
    /// By node the one that reads its rows last.
    last_readers: Arc<[usize]>,
}

struct Sent {
    node: usize,
    shard: usize,
    batch: DeltaBatch,
}

/// State of one operator's table: where it belongs and what changed.
#[derive(Clone, Debug)]
pub struct StateChange {
    pub operator: u32,
    pub shard: u32,
    pub change: TableChange,
}

impl Dataflow {
    /// Operators without state for `shards` workers.
    pub fn new(plan: StreamPlan, shards: usize) -> Result<Dataflow> {
        assert!(shards > 0, "a dataflow runs on at least one shard");
        let mut levels = vec![0; plan.nodes.len()];
        for (id, node) in plan.nodes.iter().enumerate() {
            let after = |input: &usize| {
                let is_exchange = matches!(plan.nodes[*input].operation, Operation::Exchange(_));
                levels[*input] + usize::from(is_exchange)
            };
            levels[id] = node.inputs.iter().map(after).max().unwrap_or(0);
        }
        let metrics = Arc::new(DataflowMetrics::new(&plan, shards));
        let last_readers = last_readers(&plan, &levels);
        let shards = (0..shards)
            .map(|shard| {
                let metrics = metrics.shard(shard).clone();
                Shard::new(&plan, shard, metrics, last_readers.clone())
            })
            .collect::<Result<Vec<_>>>()?;
        let width = plan.schema.fields().len();
        Ok(Dataflow {
            order: Order::of(&plan),
            by_clock: plan.by_clock(),
            sequential: plan.sequential_scans(),
            clock_micros: i64::MIN,
            late: plan.late.clone().map(LateRelation::new).transpose()?,
            plan,
            levels,
            shards,
            is_started: false,
            bounds: Bounds::unknown(width),
            metrics,
        })
    }

    pub fn plan(&self) -> &StreamPlan {
        &self.plan
    }

    /// What its operators have done.
    pub fn metrics(&self) -> &Arc<DataflowMetrics> {
        &self.metrics
    }

    /// How many workers it runs on.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The bounds of the view's columns after the last step.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Runs one step. `input` gives the change of a collection; a collection without one has an
    /// entry all the same, for its bounds.
    pub fn step(
        &mut self,
        epoch: Epoch,
        clock_micros: i64,
        input: &dyn Fn(ObjectId) -> CollectionDelta,
    ) -> Result<DataflowOutput> {
        self.clock_micros = clock_micros;
        self.feed(input)?;
        let rows: usize = self
            .shards
            .iter()
            .flat_map(|shard| &shard.outputs)
            .flatten()
            .map(DeltaBatch::len)
            .sum();
        let last = self.levels.iter().copied().max().unwrap_or(0);
        for level in 0..=last {
            self.run_level(level, epoch, clock_micros, rows >= PARALLEL_ROWS_MIN)?;
            self.exchange(level);
        }
        self.is_started = true;
        let mut output = self.collect()?;
        if let Some(late) = &mut self.late {
            output.late_delta = late.step(&output.late)?;
        }
        Ok(output)
    }

    /// The late rows that are kept; `None` where none ever are.
    pub fn late_rows(&self) -> Result<Option<DeltaBatch>> {
        self.late.as_ref().map(LateRelation::snapshot).transpose()
    }

    /// The number under which they are kept: that of an operator behind all others.
    fn late_operator(&self) -> u32 {
        u32::try_from(self.plan.nodes.len()).expect("nodes are few")
    }

    /// Puts the inputs' rows where scans leave them, spread over the shards.
    fn feed(&mut self, input: &dyn Fn(ObjectId) -> CollectionDelta) -> Result<()> {
        for (id, node) in self.plan.nodes.iter().enumerate() {
            match &node.operation {
                Operation::Scan(scan) => {
                    // Where the order of rows counts, one shard has them all until they are
                    // exchanged: each such scan another one.
                    let count = match self.sequential.contains(&id) {
                        true => 1,
                        false => self.shards.len(),
                    };
                    let first = id * usize::from(count == 1) % self.shards.len();
                    let collection = input(scan.object);
                    let bounds = scan
                        .columns
                        .iter()
                        .map(|&column| collection.bounds.0[column]);
                    let bounds = Bounds(bounds.collect());
                    for shard in &mut self.shards {
                        shard.bounds[id] = bounds.clone();
                    }
                    let place = |column: &usize| collection.columns.binary_search(column).ok();
                    let places: Option<Vec<usize>> = scan.columns.iter().map(place).collect();
                    let places = places.ok_or_else(|| {
                        Error::internal(format!("\"{}\" lacks a column it reads", scan.name))
                    })?;
                    for (number, delta) in collection.deltas.into_iter().enumerate() {
                        let bad = collection.bad_cells.get(&number);
                        let delta = match bad {
                            None => delta,
                            Some(bad) => usable(delta, bad, &scan.columns)?,
                        };
                        if delta.is_empty() {
                            continue;
                        }
                        let rows = delta.rows().project(&places);
                        let mut rows = rows.map_err(crate::delta::arrow_error)?;
                        if bad.is_some() {
                            rows = tightened(&rows, &node.schema)?;
                        }
                        let rows = rows.with_schema(node.schema.clone());
                        let rows = rows.map_err(crate::delta::arrow_error)?;
                        // Another dataflow's numbers say nothing here.
                        let delta = delta.with_rows(rows).with_origins(None);
                        self.shards[first + number % count].outputs[id].push(delta);
                    }
                }
                Operation::Constant(rows) if !self.is_started && rows.num_rows() > 0 => {
                    let delta = DeltaBatch::insertions(rows.as_ref().clone());
                    self.shards[0].outputs[id].push(delta);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn run_level(
        &mut self,
        level: usize,
        epoch: Epoch,
        clock_micros: i64,
        is_parallel: bool,
    ) -> Result<()> {
        let (plan, levels) = (&self.plan, &self.levels);
        let count = self.shards.len();
        let run = |shard: &mut Shard| -> Result<()> {
            for id in (0..plan.nodes.len()).filter(|&id| levels[id] == level) {
                shard.run(plan, id, epoch, clock_micros, count)?;
            }
            Ok(())
        };
        if !is_parallel || count == 1 {
            return self.shards.iter_mut().try_for_each(run);
        }
        // The step's own thread is the first worker. The others live as long as the level: starting
        // them costs some ten microseconds, on a step of milliseconds.
        std::thread::scope(|scope| {
            let (first, others) = self.shards.split_first_mut().expect("at least one shard");
            let handles: Vec<_> = others
                .iter_mut()
                .map(|shard| {
                    let run = &run;
                    std::thread::Builder::new()
                        .name("worker".to_string())
                        .spawn_scoped(scope, move || run(shard))
                        .expect("the system starts a thread")
                })
                .collect();
            let mut result = run(first);
            for handle in handles {
                let other = handle
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(other);
            }
            result
        })
    }

    /// Hands over what the level's exchanges sent.
    fn exchange(&mut self, level: usize) {
        for id in (0..self.plan.nodes.len()).filter(|&id| self.levels[id] == level) {
            if !matches!(self.plan.nodes[id].operation, Operation::Exchange(_)) {
                continue;
            }
            let meet = |a: Bounds, b: &Shard| a.meet(&b.bounds[id]);
            let first = self.shards[0].bounds[id].clone();
            let bounds = self.shards[1..].iter().fold(first, meet);
            for shard in &mut self.shards {
                shard.bounds[id] = bounds.clone();
            }
        }
        for sender in 0..self.shards.len() {
            for Sent { node, shard, batch } in std::mem::take(&mut self.shards[sender].sent) {
                let receiver = &mut self.shards[shard];
                receiver.metrics[node].rows_out.add(batch.len() as u64);
                receiver.outputs[node].push(batch);
            }
        }
    }

    fn collect(&mut self) -> Result<DataflowOutput> {
        let last = self.plan.nodes.len() - 1;
        let mut out = DataflowOutput::default();
        let mut deltas = Vec::new();
        let mut bounds: Option<Bounds> = None;
        let shards = self.shards.len();
        for (number, shard) in self.shards.iter_mut().enumerate() {
            let outputs = shard.outputs[last].drain(..);
            deltas.extend(outputs.map(|delta| numbered(delta, number, shards)));
            shard.outputs.iter_mut().for_each(Vec::clear);
            out.late.append(&mut shard.late);
            out.errors.append(&mut shard.errors);
            out.counts.add(&std::mem::take(&mut shard.counts));
            bounds = Some(match bounds {
                None => shard.bounds[last].clone(),
                Some(bounds) => bounds.meet(&shard.bounds[last]),
            });
        }
        self.bounds = bounds.expect("at least one shard");
        if !deltas.is_empty() {
            let delta = concat(&self.plan.schema, &deltas)?;
            let delta = match self.order {
                Order::Distinct => delta,
                Order::Paired => cancel_pairs(&delta)?,
                Order::Any if delta.is_append_only() => delta,
                Order::Any => consolidate(&delta)?,
            };
            out.delta = (!delta.is_empty()).then_some(delta);
        }
        Ok(out)
    }

    /// Bytes of state of all operators.
    pub fn state_bytes(&self) -> usize {
        let mut total = self.late.as_ref().map_or(0, LateRelation::state_bytes);
        for shard in &self.shards {
            for (operator, metrics) in shard.operators.iter().zip(&*shard.metrics) {
                let Some(operator) = operator else { continue };
                let bytes = operator.state_bytes();
                metrics.state_bytes.set(bytes as u64);
                metrics.state_rows.set(operator.state_rows() as u64);
                total += bytes;
            }
        }
        total
    }

    /// The earliest wall clock at which a step without rows would change the output.
    pub fn deadline(&self) -> Option<i64> {
        let operators = self
            .shards
            .iter()
            .flat_map(|shard| shard.operators.iter().zip(&self.by_clock));
        let pause = i64::try_from(WATERMARK_FOLLOW_INTERVAL.as_micros()).unwrap_or(i64::MAX);
        let deadline = |(operator, by_clock): (&Option<Box<dyn Operator>>, &bool)| {
            let operator = operator.as_ref()?;
            let due = operator.due_time().filter(|_| *by_clock);
            // What is still there after the step of its time is asked for at leisure: a window of
            // which only the start is known. A bare time that is this very clock is over with the
            // next microsecond.
            let due = due.map(|due| match due.cmp(&self.clock_micros) {
                Ordering::Greater => due,
                Ordering::Equal => due.saturating_add(1),
                Ordering::Less => self.clock_micros.saturating_add(pause),
            });
            operator.deadline().into_iter().chain(due).min()
        };
        operators.filter_map(deadline).min()
    }

    /// Whether a step without any change of its inputs could still change the output.
    pub fn is_waiting(&self, clock_micros: i64) -> bool {
        !self.is_started
            || self
                .deadline()
                .is_some_and(|deadline| deadline <= clock_micros)
    }

    /// Says whether the view is being built: see [`Operator::set_building`].
    pub fn set_building(&mut self, is_building: bool) {
        let operators = self.shards.iter_mut().flat_map(|s| &mut s.operators);
        let operators = operators.flatten();
        operators.for_each(|operator| operator.set_building(is_building));
    }

    /// Begins a checkpoint between two steps: see [`Operator::freeze`].
    pub fn freeze(&mut self, scope: Scope) -> Result<()> {
        let operators = self.shards.iter_mut().flat_map(|s| &mut s.operators);
        let mut operators = operators.flatten();
        operators.try_for_each(|operator| operator.freeze(scope))?;
        self.late.as_mut().map_or(Ok(()), |late| late.freeze(scope))
    }

    /// Ends a checkpoint that will not be: see [`Operator::unfreeze`].
    pub fn unfreeze(&mut self) {
        let operators = self.shards.iter_mut().flat_map(|s| &mut s.operators);
        operators.flatten().for_each(|operator| operator.unfreeze());
    }

    /// The next piece of the state as it was when the checkpoint began, of about `rows` rows;
    /// `None` when everything has been given.
    pub fn thaw(&mut self, rows: usize) -> Result<Option<StateChange>> {
        let narrow = |number: usize| u32::try_from(number).expect("nodes and shards are few");
        for (shard, state) in self.shards.iter_mut().enumerate() {
            for (id, operator) in state.operators.iter_mut().enumerate() {
                let Some(operator) = operator else { continue };
                if let Some(change) = operator.thaw(rows)? {
                    return Ok(Some(StateChange {
                        operator: narrow(id),
                        shard: narrow(shard),
                        change,
                    }));
                }
            }
        }
        let operator = self.late_operator();
        let late = self.late.as_mut().map(LateRelation::thaw);
        let change = late.transpose()?.flatten();
        Ok(change.map(|change| StateChange {
            operator,
            shard: 0,
            change,
        }))
    }

    /// The state's changes since the last checkpoint, all at once.
    pub fn changes(&mut self, scope: Scope) -> Result<Vec<StateChange>> {
        self.freeze(scope)?;
        std::iter::from_fn(|| self.thaw(usize::MAX).transpose()).collect()
    }

    /// Puts back a change that [`Dataflow::changes`] gave, in its order, before the first step.
    pub fn restore(&mut self, change: StateChange) -> Result<()> {
        let missing = || Error::internal("a checkpoint has state of an operator that is not there");
        if change.operator == self.late_operator() {
            return self
                .late
                .as_mut()
                .ok_or_else(missing)?
                .restore(change.change);
        }
        let shard = self
            .shards
            .get_mut(change.shard as usize)
            .ok_or_else(missing)?;
        let operator = shard
            .operators
            .get_mut(change.operator as usize)
            .ok_or_else(missing)?;
        operator
            .as_mut()
            .ok_or_else(missing)?
            .restore(change.change)
    }

    /// Says that the state put back is that of a dataflow that has run.
    pub fn resume(&mut self) {
        self.is_started = true;
        for shard in &mut self.shards {
            for operator in shard.operators.iter_mut().flatten() {
                operator.resume();
            }
        }
    }
}

impl Shard {
    fn new(
        plan: &StreamPlan,
        shard: usize,
        metrics: Arc<[NodeMetrics]>,
        last_readers: Arc<[usize]>,
    ) -> Result<Shard> {
        let operator = |operation: &Operation| -> Result<Option<Box<dyn Operator>>> {
            Ok(match operation {
                Operation::Map(spec) => Some(Box::new(Map::new(spec.clone())?)),
                Operation::Window(spec, _) => Some(Box::new(Window::new(spec.clone())?)),
                Operation::Judge(spec) => Some(Box::new(Judge::new(spec.clone())?)),
                Operation::Session(spec) => Some(Box::new(Session::new(spec.clone())?)),
                Operation::SessionAggregate(spec) => {
                    Some(Box::new(SessionAggregate::new(spec.clone())?))
                }
                Operation::PaneAggregate(spec) => Some(Box::new(PaneAggregate::new(spec.clone())?)),
                Operation::Aggregate(spec) => Some(Box::new(Aggregate::new(spec.clone(), shard)?)),
                Operation::Join(spec) => Some(Box::new(Join::new(spec.clone())?)),
                Operation::Every(spec) => Some(Box::new(Every::new(spec.clone())?)),
                Operation::Lookup(spec) => Some(Box::new(Lookup::new(spec.clone())?)),
                Operation::AsOf(spec) => Some(Box::new(AsOf::new(spec.clone())?)),
                Operation::Top(spec, _) => Some(Box::new(Top::new(spec.clone())?)),
                Operation::Over(spec) => Some(Box::new(Over::new(spec.clone())?)),
                Operation::Repeat(spec) => Some(Box::new(Repeat::new(spec.clone())?)),
                Operation::Gate(spec) => Some(Box::new(Gate::new(spec.clone())?)),
                Operation::Temporal(spec) => Some(Box::new(Temporal::new(spec.clone())?)),
                Operation::Lifetime(spec) => Some(Box::new(Lifetime::new(spec.clone())?)),
                Operation::Scan(_)
                | Operation::Exchange(_)
                | Operation::Union
                | Operation::Constant(_) => None,
            })
        };
        let operators = plan
            .nodes
            .iter()
            .map(|node| operator(&node.operation))
            .collect::<Result<Vec<_>>>()?;
        let unknown = |node: &crate::plan::Node| Bounds::unknown(node.schema.fields().len());
        Ok(Shard {
            outputs: vec![Vec::new(); operators.len()],
            bounds: plan.nodes.iter().map(unknown).collect(),
            operators,
            sent: Vec::new(),
            late: Vec::new(),
            errors: Vec::new(),
            counts: Counts::default(),
            metrics,
            last_readers,
        })
    }

    /// Runs a node and counts what it did.
    fn run(
        &mut self,
        plan: &StreamPlan,
        id: usize,
        epoch: Epoch,
        clock_micros: i64,
        shards: usize,
    ) -> Result<()> {
        let started = Instant::now();
        let inputs = plan.nodes[id].inputs.iter();
        let rows_in = inputs.map(|&input| rows(&self.outputs[input])).sum();
        self.run_node(plan, id, epoch, clock_micros, shards)?;
        self.metrics[id].took(rows_in, rows(&self.outputs[id]), started);
        Ok(())
    }

    fn run_node(
        &mut self,
        plan: &StreamPlan,
        id: usize,
        epoch: Epoch,
        clock_micros: i64,
        shards: usize,
    ) -> Result<()> {
        let node = &plan.nodes[id];
        match &node.operation {
            // Fed by the step; nothing later than what is there from the beginning ever comes.
            Operation::Scan(_) => {}
            Operation::Constant(_) => {
                let end = Some(crate::base::EventTime::MAX);
                self.bounds[id] = Bounds(vec![end; node.schema.fields().len()]);
            }
            Operation::Union => {
                let mut inputs = node.inputs.iter();
                let first = *inputs.next().expect("a union has an input");
                self.bounds[id] = inputs.fold(self.bounds[first].clone(), |bounds, &input| {
                    bounds.meet(&self.bounds[input])
                });
                for &input in &node.inputs {
                    let rows = self.outputs[input].clone();
                    self.outputs[id].extend(rows);
                }
            }
            Operation::Exchange(columns) => {
                self.bounds[id] = self.bounds[node.inputs[0]].clone();
                self.send(id, node.inputs[0], columns, shards)?;
            }
            _ => self.run_operator(id, &node.inputs, epoch, clock_micros)?,
        }
        Ok(())
    }

    fn run_operator(
        &mut self,
        id: usize,
        inputs: &[usize],
        epoch: Epoch,
        clock_micros: i64,
    ) -> Result<()> {
        let operator = self.operators[id]
            .as_mut()
            .expect("the node has an operator");
        let mut out = Output::default();
        operator.begin(clock_micros, &mut out)?;
        for (port, &input) in inputs.iter().enumerate() {
            for batch in &self.outputs[input] {
                operator.push(port, batch.clone(), &mut out)?;
            }
        }
        let bounds = inputs
            .iter()
            .map(|&input| self.bounds[input].clone())
            .collect();
        let step = Step {
            epoch,
            clock_micros,
            bounds,
        };
        operator.finish(&step, &mut out)?;
        self.bounds[id] = operator.bounds(&step);
        self.outputs[id] = out.deltas;
        self.late
            .extend(out.late.into_iter().map(|late| (id, late)));
        self.errors.append(&mut out.errors);
        self.counts.add(&out.counts);
        self.metrics[id].counted(&out.counts);
        Ok(())
    }

    fn send(&mut self, node: usize, input: usize, columns: &[usize], shards: usize) -> Result<()> {
        // What nobody reads any more is let go of with each batch.
        let batches = match self.last_readers[input] == node {
            true => std::mem::take(&mut self.outputs[input]),
            false => self.outputs[input].clone(),
        };
        for batch in batches {
            if batch.is_empty() {
                continue;
            }
            if shards == 1 || columns.is_empty() {
                self.sent.push(Sent {
                    node,
                    shard: 0,
                    batch,
                });
                continue;
            }
            for (shard, part) in partition(&batch, columns, shards)?.into_iter().enumerate() {
                if !part.is_empty() {
                    self.sent.push(Sent {
                        node,
                        shard,
                        batch: part,
                    });
                }
            }
        }
        Ok(())
    }
}

/// For each node the one that reads its rows last; itself where none does.
fn last_readers(plan: &StreamPlan, levels: &[usize]) -> Arc<[usize]> {
    let mut last: Vec<usize> = (0..plan.nodes.len()).collect();
    let mut order = last.clone();
    order.sort_by_key(|&id| (levels[id], id));
    for id in order {
        for &input in &plan.nodes[id].inputs {
            last[input] = id;
        }
    }
    last.into()
}

/// A shard's output, whose numbers of keys are no other shard's then.
fn numbered(delta: DeltaBatch, shard: usize, shards: usize) -> DeltaBatch {
    let narrow = |number: usize| u32::try_from(number).expect("shards are few");
    let (shard, shards) = (narrow(shard), narrow(shards));
    let origins = delta.origins().map(|origins| {
        let of_all = |origin: &u32| origin.wrapping_mul(shards).wrapping_add(shard);
        origins.iter().map(of_all).collect()
    });
    delta.with_origins(origins)
}

/// The rows of each shard, in their order.
fn partition(batch: &DeltaBatch, columns: &[usize], shards: usize) -> Result<Vec<DeltaBatch>> {
    let keys: Vec<ArrayRef> = columns
        .iter()
        .map(|&column| batch.rows().column(column).clone())
        .collect();
    let types: Vec<DataType> = keys.iter().map(|key| key.data_type().clone()).collect();
    let keys = KeyBatch::new(&KeyTable::new(&types)?, &keys)?;
    let mut rows: Vec<Vec<u32>> = vec![Vec::with_capacity(batch.len() / shards * 2); shards];
    for (row, hash) in keys.hashes().iter().enumerate() {
        // The upper half: the tables under the operators go by the lower one.
        let shard = (hash >> 32) % shards as u64;
        let shard = usize::try_from(shard).expect("less than the number of shards");
        rows[shard].push(u32::try_from(row).expect("a batch has fewer than 2^32 rows"));
    }
    rows.into_iter()
        .map(|rows| batch.take(&UInt32Array::from(rows)))
        .collect()
}
