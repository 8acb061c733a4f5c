//! The aggregate in delta notation, against batch answers, and through restarts.

mod gathered;
mod idle;
mod oracle;
mod scripts;
mod windows;

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use super::{Aggregate, AggregateCall, AggregateFunction, AggregateSpec, Close};
use crate::base::{Epoch, EventTime};
use crate::delta::{DeltaBatch, concat, consolidate};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

fn call(function: AggregateFunction, argument: Option<usize>) -> AggregateCall {
    AggregateCall {
        function,
        argument,
        filter: None,
    }
}

fn filtered(function: AggregateFunction, argument: Option<usize>, filter: usize) -> AggregateCall {
    AggregateCall {
        function,
        argument,
        filter: Some(filter),
    }
}

fn spec(input: &SchemaRef, group: &[usize], calls: Vec<AggregateCall>) -> AggregateSpec {
    let mut fields: Vec<Field> = group
        .iter()
        .map(|&column| input.field(column).clone().with_nullable(true))
        .collect();
    for (at, call) in calls.iter().enumerate() {
        let argument = call.argument.map(|column| input.field(column).data_type());
        let data_type = call.function.result_type(argument).unwrap();
        fields.push(Field::new(format!("c{at}"), data_type, true));
    }
    AggregateSpec {
        input: input.clone(),
        group: group.to_vec(),
        calls,
        output: Arc::new(Schema::new(fields)),
        close: None,
        idle_micros: None,
        panes: None,
        is_append_only: false,
        is_global: group.is_empty(),
    }
}

fn closing(spec: AggregateSpec, close: Close) -> AggregateSpec {
    AggregateSpec {
        close: Some(close),
        ..spec
    }
}

/// An aggregate with the checkpoints it has written.
struct Runner {
    spec: AggregateSpec,
    aggregate: Aggregate,
    blocks: Vec<TableChange>,
    epoch: Epoch,
    clock_micros: i64,
}

impl Runner {
    fn new(spec: AggregateSpec) -> Runner {
        let aggregate = Aggregate::new(spec.clone(), 0).unwrap();
        Runner {
            spec,
            aggregate,
            blocks: Vec::new(),
            epoch: Epoch::ZERO,
            clock_micros: 0,
        }
    }

    fn step_of(&mut self, bounds: Vec<Option<i64>>) -> Step {
        self.epoch = self.epoch.next();
        let bounds = bounds
            .into_iter()
            .map(|bound| bound.map(EventTime))
            .collect();
        Step {
            epoch: self.epoch,
            clock_micros: self.clock_micros,
            bounds: vec![Bounds(bounds)],
        }
    }

    /// Runs a step over some batches, with bounds for the input's columns.
    fn step_bounded(&mut self, batches: &[DeltaBatch], bounds: Vec<Option<i64>>) -> Output {
        let mut out = Output::default();
        let begun = self.aggregate.begin(self.clock_micros, &mut out);
        begun.unwrap();
        for batch in batches {
            self.aggregate.push(0, batch.clone(), &mut out).unwrap();
        }
        let step = self.step_of(bounds);
        self.aggregate.finish(&step, &mut out).unwrap();
        out
    }

    fn step(&mut self, batches: &[DeltaBatch]) -> Output {
        self.step_bounded(batches, vec![None; self.spec.input.fields().len()])
    }

    /// Writes a checkpoint: the first one whole, later ones what has changed.
    fn checkpoint(&mut self) {
        let scope = match self.blocks.is_empty() {
            true => Scope::All,
            false => Scope::Changed,
        };
        self.blocks.extend(self.aggregate.changes(scope).unwrap());
    }

    /// Goes on from the checkpoints with a new operator.
    fn restart(&mut self) {
        self.checkpoint();
        self.restore();
    }

    fn restore(&mut self) {
        self.aggregate = Aggregate::new(self.spec.clone(), 0).unwrap();
        for block in &self.blocks {
            self.aggregate.restore(block.clone()).unwrap();
        }
        self.aggregate.resume();
    }

    /// Begins a checkpoint that later steps must not show in.
    fn begin_checkpoint(&mut self) {
        let scope = match self.blocks.is_empty() {
            true => Scope::All,
            false => Scope::Changed,
        };
        self.aggregate.freeze(scope).unwrap();
    }

    /// Takes a piece of it. Returns whether there was one.
    fn take_piece(&mut self, rows: usize) -> bool {
        let piece = self.aggregate.thaw(rows).unwrap();
        let is_there = piece.is_some();
        self.blocks.extend(piece);
        is_there
    }

    /// Slots in all tables.
    fn slots(&mut self) -> usize {
        let tables = self.aggregate.changes(Scope::All).unwrap();
        tables
            .iter()
            .filter(|table| table.table != 1)
            .map(|table| table.slots.len())
            .sum()
    }
}

/// What some deltas add up to.
fn total(schema: &SchemaRef, deltas: &[DeltaBatch]) -> DeltaBatch {
    consolidate(&concat(schema, deltas).unwrap()).unwrap()
}
