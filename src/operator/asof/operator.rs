//! The operator of the ASOF join; the module's page has its rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, SortField};

use crate::base::EventTime;
use crate::base::limits::CHUNK_ROWS_MAX;
use crate::delta::{DeltaBatch, KeyBatch, KeyTable, NO_SLOT, arrow_error, concat, consolidate};
use crate::error::{Error, Result};
use crate::operator::asof::rows::TimedRows;
use crate::operator::asof::spec::AsOfSpec;
use crate::operator::frozen::Frozen;
use crate::operator::rows::{Touched, weights_of};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const LEFT_TABLE: u32 = 0;
const RIGHT_TABLE: u32 = 1;

/// One shard of an ASOF join.
pub struct AsOf {
    spec: AsOfSpec,
    /// Which of several right rows at one time is the last.
    tie_order: RowConverter,

    /// The keys of both sides.
    keys: KeyTable,
    /// By key slot, how many rows of either side have the key.
    key_rows: Vec<u32>,
    left: TimedRows,
    right: TimedRows,
    /// By left slot the right row that the left one has out, or [`NO_SLOT`].
    matches: Vec<u32>,
    /// Left rows by the time, signed, that the right bound must pass for them to be final: their
    /// own where the nearest row is in the past, else that of the row they meet.
    undecided: BTreeSet<(i64, u32)>,
    /// Right rows that both bounds have not passed, by their time.
    ahead: BTreeSet<(i64, u32)>,
    /// State has been put back, and what follows from it has not been derived yet.
    is_restored: bool,

    /// This step's left rows that can meet nothing.
    unmatchable: Vec<DeltaBatch>,
    /// What the checkpoint under way has not taken yet.
    frozen: Frozen,
}

/// What a step puts out: left rows with the right rows they meet.
#[derive(Default)]
struct Pairs {
    left: Vec<u32>,
    right: Vec<u32>,
    weights: Vec<i64>,
}

impl Pairs {
    fn push(&mut self, left: u32, right: u32, weight: i64) {
        if weight != 0 {
            self.left.push(left);
            self.right.push(right);
            self.weights.push(weight);
        }
    }
}

impl AsOf {
    /// # Errors
    /// Internal, when the spec contradicts itself; 0A000, when a column's type cannot be kept or
    /// has no order.
    pub fn new(spec: AsOfSpec) -> Result<AsOf> {
        spec.check()?;
        let types: Vec<DataType> = match spec.left_keys.is_empty() {
            true => vec![DataType::Boolean],
            false => {
                let keys = spec.left_keys.iter();
                keys.map(|&key| spec.left.field(key).data_type().clone())
                    .collect()
            }
        };
        let fields = spec.right.fields().iter();
        let fields = fields.map(|field| SortField::new(field.data_type().clone()));
        let is_past = spec.nearest.is_past();
        Ok(AsOf {
            tie_order: RowConverter::new(fields.collect()).map_err(|cause| {
                Error::unsupported(format!("rows of an ASOF join without an order: {cause}"))
            })?,
            keys: KeyTable::new(&types)?,
            key_rows: Vec::new(),
            left: TimedRows::new(&spec.left, spec.left_time, is_past, spec.left_append_only)?,
            right: TimedRows::new(
                &spec.right,
                spec.right_time,
                is_past,
                spec.right_append_only,
            )?,
            matches: Vec::new(),
            undecided: BTreeSet::new(),
            ahead: BTreeSet::new(),
            is_restored: false,
            unmatchable: Vec::new(),
            frozen: Frozen::default(),
            spec,
        })
    }

    /// The rows that can meet others; left ones that cannot are kept aside.
    fn matchable(&mut self, is_left: bool, batch: DeltaBatch) -> Result<DeltaBatch> {
        let (keys, time) = match is_left {
            true => (&self.spec.left_keys, self.spec.left_time),
            false => (&self.spec.right_keys, self.spec.right_time),
        };
        let nulls = keys.iter().chain([&time]).fold(None, |nulls, &column| {
            let own = batch.rows().column(column).logical_nulls();
            NullBuffer::union(nulls.as_ref(), own.as_ref())
        });
        let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else {
            return Ok(batch);
        };
        let is_good = BooleanArray::new(nulls.into_inner(), None);
        if is_left && self.spec.is_outer {
            let is_bad = arrow::compute::not(&is_good).map_err(arrow_error)?;
            self.unmatchable.push(batch.filter(&is_bad)?);
        }
        batch.filter(&is_good)
    }

    /// The key slot of each row.
    fn key_slots(&mut self, rows: &RecordBatch, keys: &[usize]) -> Result<Vec<u32>> {
        let columns: Vec<ArrayRef> = match keys.is_empty() {
            // Without key columns all rows have one key.
            true => vec![Arc::new(BooleanArray::from(vec![true; rows.num_rows()]))],
            false => keys.iter().map(|&key| rows.column(key).clone()).collect(),
        };
        let batch = KeyBatch::new(&self.keys, &columns)?;
        let mut slots = Vec::new();
        let fresh = self.keys.insert(&batch, &mut slots);
        self.key_rows.resize(self.keys.slots(), 0);
        fresh
            .into_iter()
            .for_each(|key| self.key_rows[key as usize] = 0);
        Ok(slots)
    }

    /// Takes rows of a side into what is kept beside them.
    fn enter(&mut self, is_left: bool, slots: &[u32]) {
        let side = if is_left { &self.left } else { &self.right };
        for &slot in slots {
            self.key_rows[side.key(slot) as usize] += 1;
            match is_left {
                true if self.spec.nearest.is_past() => {
                    self.undecided.insert((side.time(slot), slot));
                }
                true => {}
                false => {
                    self.ahead.insert((side.signed(side.time(slot)), slot));
                }
            }
        }
        if is_left {
            self.matches.resize(self.left.rows().slots(), NO_SLOT);
            slots
                .iter()
                .for_each(|&slot| self.matches[slot as usize] = NO_SLOT);
        }
    }

    /// Lets rows of a side go.
    fn release(&mut self, is_left: bool, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        for &slot in slots {
            let key = match is_left {
                true => {
                    self.undecided.remove(&(self.decided_at(slot), slot));
                    self.left.key(slot)
                }
                false => {
                    let time = self.right.signed(self.right.time(slot));
                    self.ahead.remove(&(time, slot));
                    self.right.key(slot)
                }
            };
            self.key_rows[key as usize] -= 1;
            if self.key_rows[key as usize] == 0 {
                self.keys.remove(key);
            }
        }
        match is_left {
            true => self.left.release(slots),
            false => self.right.release(slots),
        }
    }

    /// Where a left row stands in the order of those that are not final.
    fn decided_at(&self, slot: u32) -> i64 {
        match (self.spec.nearest.is_past(), self.matches[slot as usize]) {
            (true, _) => self.left.time(slot),
            (false, NO_SLOT) => i64::MIN,
            (false, right) => self.right.time(right),
        }
    }

    /// The right row nearest to a left row.
    fn nearest(&self, left: u32) -> Result<u32> {
        let (key, time) = (self.left.key(left), self.left.time(left));
        let found = self.right.last(key, time, self.spec.nearest.allows_equal());
        match found.as_slice() {
            [] => Ok(NO_SLOT),
            [one] => Ok(*one),
            several => {
                let rows = self.right.rows().gather(several)?;
                let rows = self.tie_order.convert_columns(rows.columns());
                let rows = rows.map_err(arrow_error)?;
                let last = (0..several.len()).max_by(|&a, &b| rows.row(a).cmp(&rows.row(b)));
                let last = last.expect("there are several");
                // Of equal rows the one that is out stays out.
                let old = self.matches[left as usize];
                let out = several.iter().position(|&slot| slot == old);
                let stays = out.filter(|&out| rows.row(out) == rows.row(last));
                Ok(several[stays.unwrap_or(last)])
            }
        }
    }

    /// Left rows that may meet another row than before the step: those that changed, with what they
    /// were, and those between a right row that changed and the next one.
    fn affected(&self, left: &[Touched], right: &[Touched]) -> Vec<Touched> {
        let mut affected = left.to_vec();
        let mut seen: BTreeSet<u32> = left.iter().map(|each| each.slot).collect();
        let is_in = !self.spec.nearest.allows_equal();
        let is_changed =
            |each: &&Touched| (each.weight > 0) != (self.right.rows().weight(each.slot) > 0);
        let changed = right.iter().filter(is_changed);
        let mut changed: Vec<(u32, i64)> = changed
            .map(|each| (self.right.key(each.slot), self.right.time(each.slot)))
            .collect();
        changed.sort_unstable();
        changed.dedup();
        // Up to where the left rows of a key have been looked at.
        let mut seen_until: Option<(u32, i64)> = None;
        for (key, time) in changed {
            if seen_until.is_some_and(|(last, end)| last == key && time < end) {
                continue;
            }
            let start = match is_in {
                true => time.saturating_add(1),
                false => time,
            };
            let next = self.right.next_time(key, time);
            let (end, is_in) = next.map_or((i64::MAX, true), |next| (next, is_in));
            seen_until = Some((key, end));
            for &(_, _, slot) in self.left.range(key, start, end, is_in) {
                if seen.insert(slot) {
                    affected.push(Touched {
                        slot,
                        weight: self.left.rows().weight(slot),
                        count: 0,
                    });
                }
            }
        }
        affected
    }

    /// Matches the affected rows anew; what goes and what comes.
    fn rematch(&mut self, affected: &[Touched]) -> Result<Pairs> {
        let mut pairs = Pairs::default();
        for before in affected {
            let slot = before.slot;
            let weight = self.left.rows().weight(slot);
            let old = self.matches[slot as usize];
            let new = match weight {
                0 => old,
                _ => self.nearest(slot)?,
            };
            if old == new {
                pairs.push(slot, old, weight - before.weight);
            } else {
                pairs.push(slot, old, -before.weight);
                pairs.push(slot, new, weight);
            }
            if !self.spec.nearest.is_past() {
                self.undecided.remove(&(self.decided_at(slot), slot));
            }
            self.matches[slot as usize] = new;
            if !self.spec.nearest.is_past() && new != NO_SLOT {
                self.undecided.insert((self.decided_at(slot), slot));
            }
        }
        Ok(pairs)
    }

    fn put_out(&self, pairs: &Pairs, out: &mut Output) -> Result<()> {
        let (met, alone): (Vec<usize>, Vec<usize>) =
            (0..pairs.left.len()).partition(|&at| pairs.right[at] != NO_SLOT);
        for part in met.chunks(CHUNK_ROWS_MAX) {
            let pick = |values: &[u32]| -> Vec<u32> { part.iter().map(|&at| values[at]).collect() };
            let left = self.left.rows().gather(&pick(&pairs.left))?;
            let right = self.right.rows().gather(&pick(&pairs.right))?;
            let columns = [left.columns(), right.columns()].concat();
            let weights = part.iter().map(|&at| pairs.weights[at]).collect();
            let rows = batch(&self.spec.output, columns, part.len())?;
            out.emit(DeltaBatch::new(rows, weights_of(weights)));
        }
        if self.spec.is_outer {
            for part in alone.chunks(CHUNK_ROWS_MAX) {
                let slots: Vec<u32> = part.iter().map(|&at| pairs.left[at]).collect();
                let rows = self.padded(&self.left.rows().gather(&slots)?)?;
                let weights = part.iter().map(|&at| pairs.weights[at]).collect();
                out.emit(DeltaBatch::new(rows, weights_of(weights)));
            }
        }
        Ok(())
    }

    fn put_unmatchable(&mut self, out: &mut Output) -> Result<()> {
        let unmatchable = std::mem::take(&mut self.unmatchable);
        let mut rows = concat(&self.spec.left, &unmatchable)?;
        if !rows.is_append_only() {
            rows = consolidate(&rows)?;
        }
        for first in (0..rows.len()).step_by(CHUNK_ROWS_MAX) {
            let part = rows.slice(first, CHUNK_ROWS_MAX.min(rows.len() - first));
            let padded = self.padded(part.rows())?;
            out.emit(DeltaBatch::new(padded, part.weights().clone()));
        }
        Ok(())
    }

    /// Left rows with NULLs for the right columns.
    fn padded(&self, left: &RecordBatch) -> Result<RecordBatch> {
        let nulls = self.spec.right.fields().iter();
        let nulls = nulls.map(|field| new_null_array(field.data_type(), left.num_rows()));
        let columns = left.columns().iter().cloned().chain(nulls).collect();
        batch(&self.spec.output, columns, left.num_rows())
    }

    /// The bounds of the left and of the right time, where they free anything.
    fn time_bounds(&self, step: &Step) -> (EventTime, EventTime) {
        let known = |is_bound: bool, port: usize, column: usize| {
            let bound = step.bounds[port].0[column].filter(|_| is_bound);
            bound.unwrap_or(EventTime::MIN)
        };
        (
            known(self.spec.frees_right, 0, self.spec.left_time),
            known(self.spec.frees_left, 1, self.spec.right_time),
        )
    }

    /// Left rows that no later right row changes.
    fn decided(&self, right_bound: EventTime) -> Vec<u32> {
        let is_past = self.spec.nearest.is_past();
        let slots = |entry: &(i64, u32)| entry.1;
        match is_past {
            true => self
                .undecided
                .range(..(right_bound.0, 0))
                .map(slots)
                .collect(),
            // Times are signed: a row that is met before the bound is above it.
            false if right_bound == EventTime::MIN => Vec::new(),
            false => {
                let bound = self.left.signed(right_bound.0);
                let first = bound.saturating_add(1);
                self.undecided.range((first, 0)..).map(slots).collect()
            }
        }
    }

    /// Right rows that no left row meets any more, when the bounds have come to this.
    fn passed(&mut self, left_bound: EventTime, right_bound: EventTime) -> Vec<u32> {
        let is_past = self.spec.nearest.is_past();
        // A left row at its bound meets a right row at the same time, if it may.
        let is_in = is_past && self.spec.nearest.allows_equal() && left_bound != EventTime::MIN;
        let mut passed: Vec<u32> = Vec::new();
        while let Some(&(time, slot)) = self.ahead.first() {
            let is_met = time < left_bound.0 || is_in && time == left_bound.0;
            // A right row at its own bound can still go, and leave the place to the one before.
            if !(is_met && time < right_bound.0) {
                break;
            }
            self.ahead.pop_first();
            // One that has left in this very step takes nobody's place.
            if self.right.rows().weight(slot) > 0 {
                passed.push(slot);
            }
        }
        if !is_past {
            return passed;
        }
        // The rows of their keys before the last of them; `passed` is in the order of time.
        let mut last = BTreeMap::new();
        for slot in passed {
            last.insert(self.right.key(slot), self.right.time(slot));
        }
        let before = last
            .into_iter()
            .flat_map(|(key, time)| self.right.range(key, i64::MIN, time, false));
        before.map(|&(_, _, slot)| slot).collect()
    }

    /// Frees what left in the step and what time has decided about.
    fn free(&mut self, step: &Step, left: &[Touched], right: &[Touched]) -> Result<()> {
        let (left_bound, right_bound) = self.time_bounds(step);
        let gone = |rows: &TimedRows, touched: &[Touched], mut going: Vec<u32>| {
            let left = touched.iter().map(|each| each.slot);
            going.extend(left.filter(|&slot| rows.rows().weight(slot) == 0));
            going.sort_unstable();
            going.dedup();
            let stays = |slot: u32| going.binary_search(&slot).is_err();
            let is_missing = |each: &Touched| rows.rows().weight(each.slot) < 0 && stays(each.slot);
            match touched.iter().any(is_missing) {
                true => Err(Error::internal(
                    "an ASOF join was asked to remove a row that is not there",
                )),
                false => Ok(going),
            }
        };
        let going = gone(&self.left, left, self.decided(right_bound))?;
        self.release(true, &going)?;
        let passed = self.passed(left_bound, right_bound);
        let going = gone(&self.right, right, passed)?;
        self.release(false, &going)
    }

    /// Derives what follows from state that has been put back.
    fn rebuild(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_restored) {
            return Ok(());
        }
        let slots = u32::try_from(self.left.rows().slots()).expect("slots are 32 bits");
        let live: Vec<u32> = (0..slots)
            .filter(|&slot| self.left.rows().weight(slot) != 0)
            .collect();
        let as_they_are: Vec<Touched> = live
            .iter()
            .map(|&slot| Touched {
                slot,
                weight: self.left.rows().weight(slot),
                count: 0,
            })
            .collect();
        self.rematch(&as_they_are).map(drop)
    }
}

impl Operator for AsOf {
    fn push(&mut self, port: usize, batch: DeltaBatch, _out: &mut Output) -> Result<()> {
        assert!(port < 2, "an ASOF join has two inputs");
        self.rebuild()?;
        let is_left = port == 0;
        let batch = self.matchable(is_left, batch)?;
        if batch.is_empty() {
            return Ok(());
        }
        let columns = match is_left {
            true => self.spec.left_keys.clone(),
            false => self.spec.right_keys.clone(),
        };
        let keys = self.key_slots(batch.rows(), &columns)?;
        let fresh = match is_left {
            true => self.left.add(&batch, &keys)?,
            false => self.right.add(&batch, &keys)?,
        };
        self.enter(is_left, &fresh);
        Ok(())
    }

    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()> {
        self.rebuild()?;
        let left = self.left.take_touched();
        let right = self.right.take_touched();
        let affected = self.affected(&left, &right);
        let pairs = self.rematch(&affected)?;
        self.put_out(&pairs, out)?;
        self.put_unmatchable(out)?;
        self.free(step, &left, &right)
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let mut bounds = Bounds::unknown(self.spec.output.fields().len());
        if !self.spec.nearest.is_past() {
            // A left row may wait for ever for one that it meets.
            return bounds;
        }
        let (left, right) = self.time_bounds(step);
        let oldest = self.undecided.first();
        let oldest = oldest.map_or(EventTime::MAX, |&(time, _)| EventTime(time));
        let bound = left.min(oldest);
        if bound > EventTime::MIN && right > EventTime::MIN {
            bounds.0[self.spec.left_time] = Some(bound);
        }
        bounds
    }

    fn state_rows(&self) -> usize {
        self.left.rows().rows() + self.right.rows().rows()
    }

    fn state_bytes(&self) -> usize {
        let entries = self.undecided.len() + self.ahead.len();
        self.keys.bytes()
            + self.left.bytes()
            + self.right.bytes()
            + (self.key_rows.capacity() + self.matches.capacity()) * size_of::<u32>()
            + entries * size_of::<(i64, u32)>() * 3 / 2
            + self.frozen.bytes()
    }

    fn freeze(&mut self, scope: Scope) -> Result<()> {
        self.frozen = Frozen::saved(self.left.changes(scope, LEFT_TABLE)?);
        self.frozen
            .keep_all(self.right.changes(scope, RIGHT_TABLE)?);
        Ok(())
    }

    fn thaw(&mut self, _rows: usize) -> Result<Option<TableChange>> {
        self.frozen.next_saved()
    }

    fn unfreeze(&mut self) {
        self.frozen = Frozen::default();
    }

    fn restore(&mut self, change: TableChange) -> Result<()> {
        let (is_left, columns) = match change.table {
            LEFT_TABLE => (true, self.spec.left_keys.clone()),
            RIGHT_TABLE => (false, self.spec.right_keys.clone()),
            other => {
                return Err(Error::internal(format!(
                    "an ASOF join has no state table {other}"
                )));
            }
        };
        let side = if is_left { &self.left } else { &self.right };
        let replaced = side.rows().replaced(&change);
        self.release(is_left, &replaced)?;
        let side = match is_left {
            true => &mut self.left,
            false => &mut self.right,
        };
        let rows = side.restore(&change)?;
        self.is_restored = true;
        if change.slots.is_empty() {
            return Ok(());
        }
        let keys = self.key_slots(&rows, &columns)?;
        match is_left {
            true => self.left.place(&rows, &change.slots, &keys),
            false => self.right.place(&rows, &change.slots, &keys),
        }
        self.enter(is_left, &change.slots);
        Ok(())
    }
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(arrow_error)
}
