//! The operator of window functions; the module's page has its rule.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, PrimitiveArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;

use crate::base::EventTime;
use crate::delta::DeltaBatch;
use crate::error::{Error, Result};
use crate::operator::aggregate::CloseEmit;
use crate::operator::ordered_rows::Encoded;
use crate::operator::over::affected::{Both, Changed, Region};
use crate::operator::over::difference::Emission;
use crate::operator::over::evaluation::{Needs, Source};
use crate::operator::over::final_rows::Freeing;
use crate::operator::over::frames::Order;
use crate::operator::over::partitions::{Origin, Partitions};
use crate::operator::over::spec::{BoundedOrder, OverCall, OverSpec};
use crate::operator::over::tree::Tree;
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const ROWS_TABLE: u32 = 0;
const BASES_TABLE: u32 = 1;

/// One shard of window functions.
pub struct Over {
    spec: OverSpec,
    has_classes: bool,
    /// Rows come out when their partition is final, and not before.
    emits_on_close: bool,
    sources: Vec<Source>,
    known: Vec<Option<usize>>,
    /// Measures of an extreme from the first row on.
    extremes: Vec<usize>,
    partitions: Partitions,

    /// This step's rows, as they came and as bytes, and which of them in which partition.
    batches: Vec<(RecordBatch, Encoded)>,
    arrived: Vec<Arrived>,
    /// What the checkpoint under way has not taken yet.
    frozen: VecDeque<TableChange>,
}

/// A row of the step.
#[derive(Clone, Copy)]
struct Arrived {
    partition: u32,
    prefix: u64,
    batch: usize,
    row: usize,
    weight: i64,
}

/// What a step lets go of at its end.
#[derive(Default)]
struct Due {
    /// Slots of rows that are in no partition any more; what they hold is put out before.
    released: Vec<u32>,
    /// Partitions that rows came for.
    touched: Vec<u32>,
    /// Partitions that are final.
    closed: Vec<u32>,
}

impl Over {
    /// # Errors
    /// Internal, when the spec contradicts itself; 0A000, when a column's type has no order.
    pub fn new(spec: OverSpec) -> Result<Over> {
        spec.check()?;
        let needs = Needs::of(&spec)?;
        let close = spec.close.as_ref();
        Ok(Over {
            has_classes: spec.calls.iter().any(OverCall::has_classes),
            emits_on_close: close.is_some_and(|close| close.emit == CloseEmit::OnClose),
            partitions: Partitions::new(&spec, needs.kept, needs.compared, &needs.measures)?,
            sources: needs.sources,
            known: needs.known,
            extremes: needs.extremes,
            batches: Vec::new(),
            arrived: Vec::new(),
            frozen: VecDeque::new(),
            spec,
        })
    }

    /// Nodes from the root to an entry in the first partition.
    #[cfg(test)]
    pub fn height(&self) -> usize {
        self.partitions.tree(0).height()
    }

    fn bytes(&self, arrived: &Arrived) -> &[u8] {
        let (_, encoded) = &self.batches[arrived.batch];
        encoded.bytes.value(arrived.row)
    }

    fn is_same(&self, a: &Arrived, b: &Arrived) -> bool {
        (a.partition, a.prefix) == (b.partition, b.prefix) && self.bytes(a) == self.bytes(b)
    }

    fn order<'a>(&'a self, partition: u32, tree: &'a Tree) -> Order<'a> {
        Order {
            spec: &self.spec,
            partitions: &self.partitions,
            tree,
            base: self.partitions.bases().of(partition),
            known: &self.known,
            has_classes: self.has_classes,
        }
    }

    fn both<'a>(&'a self, partition: u32, old: &'a Tree, new: &'a Tree) -> Both<'a> {
        Both {
            old: self.order(partition, old),
            new: self.order(partition, new),
            sources: &self.sources,
        }
    }

    /// Does this step's changes and puts out what they have moved.
    fn change(&mut self, due: &mut Due, out: &mut Output) -> Result<()> {
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.sort_unstable_by(|a, b| {
            let by = (a.partition, a.prefix).cmp(&(b.partition, b.prefix));
            by.then_with(|| self.bytes(a).cmp(self.bytes(b)))
        });
        due.touched = arrived.iter().map(|arrived| arrived.partition).collect();
        due.touched.dedup();
        let changed = self.look(&arrived)?;
        self.batches.clear();
        let mut emission = Emission::default();
        for changed in changed.chunk_by(|a, b| a.partition == b.partition) {
            let partition = changed[0].partition;
            let old = self.partitions.tree(partition).clone();
            for row in changed {
                self.partitions.set(partition, row.slot, row.old, row.new);
                due.released.extend((row.new == 0).then_some(row.slot));
            }
            if self.emits_on_close {
                continue;
            }
            let both = self.both(partition, &old, self.partitions.tree(partition));
            for region in both.regions(changed)? {
                both.put_out(&region, &mut emission, out)?;
            }
        }
        emission.put_out(&self.spec, &self.partitions, out)
    }

    /// The rows that change, in the order of partitions and rows, as they were before. Those that
    /// are new have a slot afterwards.
    fn look(&mut self, arrived: &[Arrived]) -> Result<Vec<Changed>> {
        let mut changed = Vec::new();
        let mut fresh: Vec<usize> = Vec::new();
        let mut origins: Vec<Origin> = Vec::new();
        for same in arrived.chunk_by(|a, b| self.is_same(a, b)) {
            let delta: i64 = same.iter().map(|row| row.weight).sum();
            if delta == 0 {
                continue;
            }
            let row = same[0];
            let key = self.partitions.key(self.bytes(&row));
            let tree = self.partitions.tree(row.partition);
            let (before, entry) = tree.locate(&key, self.partitions.rows());
            let weight = entry.map_or(0, |entry| entry.weight);
            if weight + delta < 0 {
                return Err(Error::internal(
                    "a window was asked to remove a row that is not there",
                ));
            }
            if entry.is_none() {
                fresh.push(changed.len());
                origins.push((row.batch, row.row));
            }
            changed.push(Changed {
                partition: row.partition,
                slot: entry.map_or(0, |entry| entry.slot),
                old: weight,
                new: weight + delta,
                position: before.rows,
            });
        }
        let weights: Vec<i64> = fresh.iter().map(|&at| changed[at].new).collect();
        let slots = self.partitions.add(&self.batches, &origins, &weights)?;
        for (&at, slot) in fresh.iter().zip(slots) {
            changed[at].slot = slot;
        }
        Ok(changed)
    }

    /// Rows that no later row can ask for are let go.
    fn let_go(&mut self, step: &Step, due: &mut Due) -> Result<()> {
        let (Some(kept), Some(order)) = (self.spec.kept, self.spec.bounded_order) else {
            return Ok(());
        };
        let bound = step.bounds[0].0[order.column];
        let bound = bound.and_then(|bound| bound.moved(Some(order.ahead_micros.saturating_neg())));
        let Some(EventTime(time)) = bound.filter(|&bound| bound != EventTime::MIN) else {
            return Ok(());
        };
        let times = [time, time.saturating_sub(kept.micros)];
        let data_type = self.spec.input.field(order.column).data_type().clone();
        let times = PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(times);
        let times: ArrayRef = Arc::new(times.with_data_type(data_type));
        let times = self.partitions.encode_order(&times)?;
        let (now, reached) = (times.row(0), times.row(1));
        let freeing = Freeing {
            kept,
            column: order.column,
            time,
            bytes: [now.data(), reached.data()],
            extremes: &self.extremes,
        };
        let mut partitions = self.partitions.bases_and_measured().0.take_due(time);
        partitions.extend_from_slice(&due.touched);
        partitions.sort_unstable();
        partitions.dedup();
        for &partition in &partitions {
            self.partitions
                .let_go(partition, &freeing, &mut due.released)?;
        }
        due.touched = partitions;
        Ok(())
    }

    /// Partitions that are final come out, if this is what they wait for, and go.
    fn close(&mut self, step: &Step, due: &mut Due, out: &mut Output) -> Result<()> {
        let Some(close) = &self.spec.close else {
            return Ok(());
        };
        let column = self.spec.partition[close.column];
        let Some(EventTime(bound)) = step.bounds[0].0[column] else {
            return Ok(());
        };
        let windows = self.partitions.windows();
        let windows = windows.expect("partitions that close have times");
        let closed = windows.close_until(bound);
        due.closed = windows.free_until(bound);
        let (nothing, mut emission) = (Tree::default(), Emission::default());
        for partition in closed {
            let tree = self.partitions.tree(partition);
            let region = Region {
                old: 0..0,
                new: 0..tree.total().rows,
            };
            self.both(partition, &nothing, tree)
                .put_out(&region, &mut emission, out)?;
        }
        emission.put_out(&self.spec, &self.partitions, out)?;
        for &partition in &due.closed {
            due.released.extend(self.partitions.clear(partition));
        }
        Ok(())
    }
}

impl Operator for Over {
    fn push(&mut self, port: usize, batch: DeltaBatch, _out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "a window has one input");
        if batch.is_empty() {
            return Ok(());
        }
        let partitions = self.partitions.of_rows(batch.rows())?;
        let encoded = self.partitions.encode(batch.rows())?;
        for (row, &partition) in partitions.iter().enumerate() {
            self.arrived.push(Arrived {
                partition,
                prefix: self.partitions.key(encoded.bytes.value(row)).prefix,
                batch: self.batches.len(),
                row,
                weight: batch.weights().get(row),
            });
        }
        self.batches.push((batch.rows().clone(), encoded));
        Ok(())
    }

    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()> {
        let mut due = Due::default();
        self.change(&mut due, out)?;
        self.close(step, &mut due, out)?;
        self.let_go(step, &mut due)?;
        self.partitions.forget(&due.closed);
        self.partitions.forget_empty(&due.touched);
        self.partitions.release(&due.released)
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let input = &step.bounds[0].0;
        let mut bounds = Bounds::unknown(self.spec.output.fields().len());
        for (at, &column) in self.spec.partition.iter().enumerate() {
            let waiting = match self.emits_on_close {
                true => self.partitions.least_waiting(at),
                false => None,
            };
            bounds.0[column] = input[column].map(|bound| match waiting {
                Some(time) => bound.min(EventTime(time)),
                None => bound,
            });
        }
        if let Some(BoundedOrder {
            column,
            ahead_micros,
        }) = self.spec.bounded_order
            && !self.emits_on_close
        {
            let back = Some(ahead_micros.saturating_neg());
            bounds.0[column] = input[column].and_then(|bound| bound.moved(back));
        }
        bounds
    }

    fn due_time(&self) -> Option<i64> {
        Some(self.partitions.first_end()?.saturating_add(1))
    }

    fn state_rows(&self) -> usize {
        self.partitions.rows().rows()
    }

    fn state_bytes(&self) -> usize {
        self.partitions.bytes() + self.arrived.capacity() * size_of::<Arrived>()
    }

    fn freeze(&mut self, scope: Scope) -> Result<()> {
        self.frozen = self.partitions.changes(scope, ROWS_TABLE)?.into();
        let is_all = scope == Scope::All;
        self.frozen
            .extend(self.partitions.base_changes(is_all, BASES_TABLE)?);
        Ok(())
    }

    fn thaw(&mut self, _rows: usize) -> Result<Option<TableChange>> {
        Ok(self.frozen.pop_front())
    }

    fn unfreeze(&mut self) {
        self.frozen = VecDeque::new();
    }

    fn restore(&mut self, change: TableChange) -> Result<()> {
        match change.table {
            ROWS_TABLE => self.partitions.restore(&change),
            BASES_TABLE => self.partitions.restore_bases(&change),
            other => Err(Error::internal(format!(
                "a window has no state table {other}"
            ))),
        }
    }

    fn resume(&mut self) {
        self.partitions.rebuild();
        if self.spec.kept.is_some() {
            self.partitions.wake_all();
        }
    }
}
