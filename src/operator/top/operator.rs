//! The operator of rankings; the module's page has its rule.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::datatypes::DataType;

use crate::base::EventTime;
use crate::base::limits::CHUNK_ROWS_MAX;
use crate::delta::{DeltaBatch, arrow_error};
use crate::error::{Error, Result};
use crate::operator::aggregate::CloseEmit;
use crate::operator::frozen::Frozen;
use crate::operator::ordered_rows::Encoded;
use crate::operator::rows::weights_of;
use crate::operator::top::difference::{Changed, Emission, look, put_out};
use crate::operator::top::groups::Groups;
use crate::operator::top::ranking::Ranking;
use crate::operator::top::spec::{RankFunction, TopSpec};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const ROWS_TABLE: u32 = 0;

/// One shard of a ranking.
pub struct Top {
    spec: TopSpec,
    ranking: Ranking,
    /// Rows come out when their group is final, and not before.
    emits_on_close: bool,
    groups: Groups,

    /// This step's rows, as they came, and which of them in which group.
    batches: Vec<Encoded>,
    arrived: Vec<Arrived>,
    /// The step's clock, and the groups that rows came for, where groups leave when none does.
    clock_micros: i64,
    touched: Vec<u32>,
    /// State has been put back, and the order of idle groups has not been made of it yet.
    is_restored: bool,
    /// What the checkpoint under way has not taken yet.
    frozen: Frozen,
}

/// A row of the step.
#[derive(Clone, Copy)]
struct Arrived {
    group: u32,
    prefix: u64,
    batch: u32,
    row: u32,
    weight: i64,
}

impl Top {
    /// # Errors
    /// Internal, when the spec contradicts itself; 0A000, when a column's type has no order.
    pub fn new(spec: TopSpec) -> Result<Top> {
        spec.check()?;
        let close = spec.close.as_ref();
        Ok(Top {
            ranking: Ranking::new(&spec),
            emits_on_close: close.is_some_and(|close| close.emit == CloseEmit::OnClose),
            groups: Groups::new(&spec)?,
            batches: Vec::new(),
            arrived: Vec::new(),
            clock_micros: i64::MIN,
            touched: Vec::new(),
            is_restored: false,
            frozen: Frozen::default(),
            spec,
        })
    }

    /// Nodes from the root to an entry in the first group.
    #[cfg(test)]
    pub fn height(&self) -> usize {
        self.groups.tree(0).height()
    }

    fn bytes(&self, arrived: &Arrived) -> &[u8] {
        let batch = &self.batches[arrived.batch as usize];
        batch.bytes.value(arrived.row as usize)
    }

    /// Whether a row of a group that is full stands behind all that will ever be within the limits.
    fn is_beyond(&self, encoded: &Encoded, row: usize, group: u32) -> bool {
        let tree = self.groups.tree(group);
        let Some(last) = tree.last() else {
            return false;
        };
        let bytes = encoded.bytes.value(row);
        let key = self.groups.key(bytes);
        let rows = self.groups.rows();
        let is_behind = match key.prefix.cmp(&last.prefix()) {
            std::cmp::Ordering::Equal => bytes > rows.bytes_of(0, last.slot()),
            other => other.is_gt(),
        };
        if !is_behind {
            return false;
        }
        let total = tree.total(rows);
        let is_full = |function| {
            let count = match function {
                RankFunction::DenseRank => total.classes,
                RankFunction::RowNumber | RankFunction::Rank => total.rows,
            };
            count >= self.spec.limit(function).greatest
        };
        let is_higher = || {
            let length = encoded.class_lengths[row] as usize;
            bytes[..length] != *self.groups.class(last.slot())
        };
        is_full(RankFunction::RowNumber)
            || (is_full(RankFunction::Rank) || is_full(RankFunction::DenseRank)) && is_higher()
    }

    /// Does this step's changes and says what they have moved.
    fn change(&mut self, due: &mut Due) -> Result<()> {
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.sort_unstable_by(|a, b| {
            let by = (a.group, a.prefix).cmp(&(b.group, b.prefix));
            by.then_with(|| self.bytes(a).cmp(self.bytes(b)))
        });
        due.touched = arrived.iter().map(|arrived| arrived.group).collect();
        due.touched.dedup();
        let mut changed = self.look(&arrived)?;
        self.batches.clear();
        for changed in changed.chunk_by_mut(|a, b| a.group == b.group) {
            for row in changed.iter() {
                self.groups.set(row.group, row.slot, row.old, row.new);
                due.released.extend((row.new == 0).then_some(row.slot));
            }
            if !self.emits_on_close {
                put_out(&self.groups, &self.ranking, changed, &mut due.emission);
            }
            if self.spec.keeps_only_best() {
                self.prune(changed[0].group, &mut due.released);
            }
        }
        Ok(())
    }

    /// The rows that change, in the order of groups and rows, as they were before. Those that are
    /// new have a slot afterwards.
    fn look(&mut self, arrived: &[Arrived]) -> Result<Vec<Changed>> {
        let mut changed = Vec::new();
        let mut fresh = Vec::new();
        for same in arrived.chunk_by(|a, b| self.is_same(a, b)) {
            let delta: i64 = same.iter().map(|row| row.weight).sum();
            if delta == 0 {
                continue;
            }
            let row = same[0];
            let looked = look(&self.groups, &self.ranking, row.group, self.bytes(&row));
            if looked.weight + delta < 0 {
                return Err(Error::internal(
                    "a ranking was asked to remove a row that is not there",
                ));
            }
            if looked.slot.is_none() {
                fresh.push((changed.len(), row));
            }
            changed.push(Changed {
                group: row.group,
                slot: looked.slot.unwrap_or(0),
                old: looked.weight,
                new: looked.weight + delta,
                place: looked.place,
                next: looked.next,
            });
        }
        let bytes: Vec<&[u8]> = fresh
            .iter()
            .map(|(_, row)| {
                let batch = &self.batches[row.batch as usize];
                batch.bytes.value(row.row as usize)
            })
            .collect();
        let lengths = fresh.iter().map(|(_, row)| {
            let lengths = &self.batches[row.batch as usize].class_lengths;
            lengths.get(row.row as usize).copied().unwrap_or(0)
        });
        let lengths: Vec<u32> = lengths.collect();
        let weights: Vec<i64> = fresh.iter().map(|&(at, _)| changed[at].new).collect();
        let slots = self.groups.add(&bytes, &lengths, &weights)?;
        for (&(at, _), slot) in fresh.iter().zip(slots) {
            changed[at].slot = slot;
        }
        Ok(changed)
    }

    fn is_same(&self, a: &Arrived, b: &Arrived) -> bool {
        (a.group, a.prefix) == (b.group, b.prefix) && self.bytes(a) == self.bytes(b)
    }

    /// Lets go of the rows of a group that stand behind all that will ever be within the limits.
    fn prune(&mut self, group: u32, released: &mut Vec<u32>) {
        let (tree, rows) = (self.groups.tree(group), self.groups.rows());
        let total = tree.total(rows);
        let end = self.ranking.end(tree, total, rows);
        let mut behind = Vec::new();
        tree.walk(end..total.rows, rows, &mut |placed| {
            // Of a row at the end some copies may be within.
            if placed.before.rows >= end {
                behind.push((placed.entry.slot(), placed.entry.weight(rows)));
            }
        });
        for &(slot, weight) in behind.iter().rev() {
            self.groups.set(group, slot, weight, 0);
            released.push(slot);
        }
    }

    /// Groups that are final come out, if this is what they wait for, and go.
    fn close(&mut self, step: &Step, due: &mut Due) {
        let Some(close) = &self.spec.close else {
            return;
        };
        let column = self.spec.partition[close.column];
        let Some(EventTime(bound)) = step.bounds[0].0[column] else {
            return;
        };
        let windows = self.groups.windows().expect("groups that close have times");
        let closed = windows.close_until(bound);
        due.closed = windows.free_until(bound);
        for group in closed {
            due.emission.whole(&self.groups, &self.ranking, group);
        }
        for &group in &due.closed {
            due.released.extend(self.groups.clear(group));
        }
    }

    /// Groups that no row has come for go, with what they have out.
    fn evict(&mut self, clock_micros: i64, out: &mut Output) -> Result<()> {
        let is_restored = std::mem::take(&mut self.is_restored);
        let Some(idle) = self.groups.idle() else {
            return Ok(());
        };
        if is_restored {
            idle.rebuild();
        }
        let due = idle.due(clock_micros);
        if due.is_empty() {
            return Ok(());
        }
        let (mut emission, mut released) = (Emission::default(), Vec::new());
        for &group in &due {
            emission.gone(&self.groups, &self.ranking, group);
            released.extend(self.groups.clear(group));
        }
        self.put_out(&emission, out)?;
        self.groups.forget(&due);
        out.counts.rows_evicted += due.len() as u64;
        self.groups.release(&released)
    }

    /// The step has brought rows for the groups, whether or not they are among the first.
    fn touch(&mut self, groups: &[u32]) {
        let clock_micros = self.clock_micros;
        if let Some(idle) = self.groups.idle() {
            groups
                .iter()
                .for_each(|&group| idle.touch(group, clock_micros));
            self.touched.extend(groups);
        }
    }

    /// Says in the next checkpoint which groups the step has touched.
    fn mark_touched(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched.iter().for_each(|&group| self.groups.mark(group));
        touched.clear();
        self.touched = touched;
    }

    fn put_out(&self, emission: &Emission, out: &mut Output) -> Result<()> {
        let stride = self.spec.shown.len();
        let width = self.spec.input.fields().len();
        for first in (0..emission.slots.len()).step_by(CHUNK_ROWS_MAX) {
            let part = first..emission.slots.len().min(first + CHUNK_ROWS_MAX);
            let rows = self.groups.gather(&emission.slots[part.clone()])?;
            let mut columns = rows.columns().to_vec();
            for at in 0..stride {
                let numbers = part.clone().map(|row| emission.numbers[row * stride + at]);
                columns.push(match self.spec.output.field(width + at).data_type() {
                    DataType::UInt64 => {
                        let numbers = numbers.map(i64::cast_unsigned);
                        Arc::new(UInt64Array::from_iter_values(numbers)) as ArrayRef
                    }
                    _ => Arc::new(Int64Array::from_iter_values(numbers)),
                });
            }
            let options = RecordBatchOptions::new().with_row_count(Some(part.len()));
            let schema = self.spec.output.clone();
            let rows = RecordBatch::try_new_with_options(schema, columns, &options);
            let weights = weights_of(emission.weights[part].to_vec());
            out.emit(DeltaBatch::new(rows.map_err(arrow_error)?, weights));
        }
        Ok(())
    }
}

/// What a step is to put out and to let go of.
#[derive(Default)]
struct Due {
    emission: Emission,
    /// Slots of rows that are in no group any more; what they hold is put out before.
    released: Vec<u32>,
    /// Groups that rows came for.
    touched: Vec<u32>,
    /// Groups that are final.
    closed: Vec<u32>,
}

impl Operator for Top {
    fn begin(&mut self, clock_micros: i64, out: &mut Output) -> Result<()> {
        self.clock_micros = clock_micros;
        self.evict(clock_micros, out)
    }

    fn push(&mut self, port: usize, batch: DeltaBatch, _out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "a ranking has one input");
        if batch.is_empty() {
            return Ok(());
        }
        let groups = self.groups.of_rows(batch.rows())?;
        self.touch(&groups);
        let encoded = self.groups.encode(batch.rows())?;
        let number = |number: usize| u32::try_from(number).expect("a step has less than 2^32 rows");
        let at = number(self.batches.len());
        for (row, &group) in groups.iter().enumerate() {
            if self.spec.keeps_only_best() && self.is_beyond(&encoded, row, group) {
                continue;
            }
            self.arrived.push(Arrived {
                group,
                prefix: self.groups.key(encoded.bytes.value(row)).prefix,
                batch: at,
                row: number(row),
                weight: batch.weights().get(row),
            });
        }
        self.batches.push(encoded);
        Ok(())
    }

    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()> {
        let mut due = Due::default();
        self.change(&mut due)?;
        self.close(step, &mut due);
        self.put_out(&due.emission, out)?;
        self.groups.forget(&due.closed);
        self.groups.forget_empty(&due.touched);
        self.mark_touched();
        self.groups.release(&due.released)
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let input = &step.bounds[0].0;
        let mut bounds = Bounds::unknown(self.spec.output.fields().len());
        if self.spec.idle_micros.is_some() {
            // Groups of any age leave.
            return bounds;
        }
        for (at, &column) in self.spec.partition.iter().enumerate() {
            let waiting = match self.emits_on_close {
                true => self.groups.least_waiting(at),
                false => None,
            };
            bounds.0[column] = input[column].map(|bound| match waiting {
                Some(time) => bound.min(EventTime(time)),
                None => bound,
            });
        }
        if let Some(order) = self.spec.bounded_order
            && !self.emits_on_close
        {
            bounds.0[order] = input[order];
        }
        bounds
    }

    fn deadline(&self) -> Option<i64> {
        match self.is_restored {
            // The next step says.
            true if self.spec.idle_micros.is_some() => Some(i64::MIN),
            _ => self.groups.deadline(),
        }
    }

    fn due_time(&self) -> Option<i64> {
        self.groups.first_end()
    }

    fn state_rows(&self) -> usize {
        self.groups.rows().rows()
    }

    fn state_bytes(&self) -> usize {
        self.groups.bytes()
            + self.arrived.capacity() * size_of::<Arrived>()
            + self.touched.capacity() * size_of::<u32>()
            + self.frozen.bytes()
    }

    fn freeze(&mut self, scope: Scope) -> Result<()> {
        self.frozen = Frozen::saved(self.groups.changes(scope, ROWS_TABLE)?);
        Ok(())
    }

    fn thaw(&mut self, _rows: usize) -> Result<Option<TableChange>> {
        self.frozen.next_saved()
    }

    fn unfreeze(&mut self) {
        self.frozen = Frozen::default();
    }

    fn restore(&mut self, change: TableChange) -> Result<()> {
        match change.table {
            ROWS_TABLE => {
                self.is_restored = true;
                self.groups.restore(&self.spec.input, &change)
            }
            other => Err(Error::internal(format!(
                "a ranking has no state table {other}"
            ))),
        }
    }

    fn resume(&mut self) {
        self.groups.rebuild();
    }
}
