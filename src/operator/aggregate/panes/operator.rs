//! The operator: rows to panes, panes to totals.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array, new_null_array};
use arrow::compute::not;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};

use crate::base::EventTime;
use crate::delta::{DeltaBatch, KeyBatch, KeyTable, NO_SLOT, SlotSet, Weights, arrow_error};
use crate::error::{Error, Result};
use crate::operator::aggregate::change::{Change, Selection};
use crate::operator::aggregate::layout::{Call, Layout, SelectedStore, add_rows};
use crate::operator::aggregate::panes::checkpoint::saved_schema;
use crate::operator::aggregate::panes::leaders::Leaders;
use crate::operator::aggregate::panes::spec::PaneAggregateSpec;
use crate::operator::aggregate::panes::starts::Starts;
use crate::operator::aggregate::spec::{AggregateFunction, AggregateSpec};
use crate::operator::aggregate::store::{Reading, Times};
use crate::operator::frozen::Frozen;
use crate::operator::judge::put_out_late;
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

/// Aggregates by key and window of HOP, one shard of it.
pub struct PaneAggregate {
    pub(super) spec: PaneAggregateSpec,
    pub(super) calls: Vec<Call>,
    /// The table of panes in a checkpoint.
    pub(super) saved: SchemaRef,

    /// Key and start of a pane; of a total the start is NULL.
    pub(super) keys: KeyTable,
    pub(super) groups: Vec<Group>,
    pub(super) places: Vec<Place>,
    pub(super) selections: Vec<Selection>,
    pub(super) stores: Vec<SelectedStore>,
    /// By store; only of extremes.
    pub(super) leaders: Vec<Option<Leaders>>,
    /// Panes by when they begin.
    pub(super) starts: Starts,
    /// Totals with panes in them.
    pub(super) active: Vec<u32>,
    /// The start of the next window to close; the least time before the first one has.
    pub(super) next: i64,
    /// Rows of this step that do not count for the windows before the one that begins there.
    pub(super) deferred: BTreeMap<i64, Vec<DeltaBatch>>,
    /// State has been put back, and what follows from it has not been derived yet.
    pub(super) is_restored: bool,

    /// Panes that the step has touched.
    dirty: Vec<u32>,
    /// Panes that have changed since the last checkpoint.
    pub(super) changed: SlotSet,
    /// So has `next`.
    pub(super) has_moved: bool,
    pub(super) frozen: Frozen,
    /// The pane of each row of the batch at hand, kept for its memory.
    slots: Vec<u32>,
}

/// How panes move in and out of the totals of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    /// With the first closing window that holds them.
    Enter,
    /// Before rows are added to them, and after.
    TakeOut,
    PutBack,
    /// Behind the last window that holds them.
    Leave,
}

impl Shift {
    fn times(self) -> Times {
        match self {
            Shift::Enter | Shift::PutBack => Times::Once,
            Shift::TakeOut | Shift::Leave => Times::Minus,
        }
    }
}

/// A pane of a key, or the total of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// The sum of the weights of its rows; below zero only within a step.
    pub rows: i64,
    /// Of a pane, the total of its key.
    pub total: u32,
    pub flags: u32,
}

/// What is looked at less often.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// When the pane begins.
    pub start: i64,
    /// Of a total, how many panes its key has, and how many of them are in it.
    pub panes: u32,
    pub entered: u32,
}

impl Group {
    pub const NONE: Group = Group {
        rows: 0,
        total: NO_SLOT,
        flags: 0,
    };

    pub const PANE: u32 = 1;
    /// The step has touched it.
    pub const DIRTY: u32 = 2;
    /// The pane is in its total.
    pub const ENTERED: u32 = 4;

    pub fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

impl PaneAggregate {
    /// # Errors
    /// 0A000 when a value has no order; internal when the output's types are not those of the
    /// calls, or one of them cannot be kept by panes.
    pub fn new(spec: PaneAggregateSpec) -> Result<PaneAggregate> {
        let type_of = |column: usize| spec.input.field(column).data_type().clone();
        let time = type_of(spec.pane_column);
        let key_types: Vec<DataType> = spec.keys.iter().map(|&key| type_of(key)).collect();
        let mut types = key_types.clone();
        types.extend([time.clone(), time.clone()]);
        for call in &spec.calls {
            let argument = call.argument.map(type_of);
            types.push(call.function.result_type(argument.as_ref())?);
        }
        let planned = spec.output.fields().iter().map(|field| field.data_type());
        let is_fit = |function: &AggregateFunction| {
            function.is_mergeable() && (spec.is_append_only || !function.is_extreme())
        };
        let is_sound = planned.eq(&types)
            && matches!(time, DataType::Timestamp(TimeUnit::Microsecond, _))
            && spec.calls.iter().all(|call| is_fit(&call.function));
        if !is_sound {
            let output = &spec.output;
            return Err(Error::internal(format!(
                "an aggregate by panes as {output}"
            )));
        }
        let aggregate = AggregateSpec {
            input: spec.input.clone(),
            group: spec.keys.clone(),
            calls: spec.calls.clone(),
            output: spec.output.clone(),
            close: None,
            idle_micros: None,
            panes: None,
            is_append_only: spec.is_append_only,
            is_global: false,
        };
        let mut layout = Layout::default();
        for call in &spec.calls {
            layout.add(call, &aggregate)?;
        }
        let stores = layout.stores(&spec.input)?;
        let Layout {
            selections, calls, ..
        } = layout;
        let mut leaders: Vec<Option<Leaders>> = stores.iter().map(|_| None).collect();
        for call in &calls {
            if let Call::Stored {
                store,
                reading: Reading::Least | Reading::Greatest,
                ..
            } = call
            {
                leaders[*store] = Some(Leaders::default());
            }
        }
        let mut pane_types = key_types;
        pane_types.push(time);
        Ok(PaneAggregate {
            calls,
            saved: saved_schema(&pane_types, &selections, &stores),
            keys: KeyTable::new(&pane_types)?,
            groups: Vec::new(),
            places: Vec::new(),
            selections,
            stores,
            leaders,
            starts: Starts::default(),
            active: Vec::new(),
            next: i64::MIN,
            deferred: BTreeMap::new(),
            is_restored: false,
            dirty: Vec::new(),
            changed: SlotSet::default(),
            has_moved: false,
            frozen: Frozen::default(),
            slots: Vec::new(),
            spec,
        })
    }

    /// Room for as many groups as have a slot.
    pub(super) fn grow(&mut self) {
        let slots = self.keys.slots();
        if self.groups.len() < slots {
            self.groups.resize(slots, Group::NONE);
            self.places.resize(slots, Place::default());
            let stores = self.stores.iter_mut();
            stores.for_each(|selected| selected.store.grow(slots));
            let leaders = self.leaders.iter_mut().flatten();
            leaders.for_each(|leaders| leaders.grow(slots));
            self.starts.grow(slots);
        }
    }

    /// Takes out the rows that no window is open for any more.
    fn drop_over(&self, batch: DeltaBatch, out: &mut Output) -> Result<DeltaBatch> {
        let column = self.spec.pane_column;
        let starts = batch.rows().column(column);
        let starts = starts.as_primitive::<TimestampMicrosecondType>().values();
        // Windows begin with a pane: one that begins before the next window is in none to come.
        if starts.iter().all(|&start| start >= self.next) {
            return Ok(batch);
        }
        let is_over = starts.iter().map(|&start| Some(start < self.next));
        let is_over: BooleanArray = is_over.collect();
        put_out_late(&batch, &is_over, column, out)?;
        batch.filter(&not(&is_over).map_err(arrow_error)?)
    }

    /// Sets rows apart that came when windows which hold them had ended, but were not put out yet.
    fn defer(&mut self, batch: DeltaBatch) -> Result<DeltaBatch> {
        let Some(watermarks) = batch.watermarks().cloned() else {
            return Ok(batch);
        };
        let column = batch.rows().column(self.spec.pane_column);
        let starts = column.as_primitive::<TimestampMicrosecondType>().values();
        let mut kept: Vec<u32> = Vec::with_capacity(batch.len());
        let mut deferred: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, (&pane, &watermark)) in (0..).zip(starts.iter().zip(watermarks.iter())) {
            let first = self.spec.panes.first_holding(pane).max(self.next);
            match self.spec.panes.first_open(watermark) {
                open if open > first => deferred.entry(open).or_default().push(row),
                _ => kept.push(row),
            }
        }
        let batch = batch.with_watermarks(None);
        for (open, rows) in deferred {
            let rows = batch.take(&UInt32Array::from(rows))?;
            self.deferred.entry(open).or_default().push(rows);
        }
        match kept.len() == batch.len() {
            true => Ok(batch),
            false => batch.take(&UInt32Array::from(kept)),
        }
    }

    /// Adds rows to their panes, and to the totals that these are in.
    pub(super) fn add(&mut self, batch: &DeltaBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let column = |column: &usize| batch.rows().column(*column).clone();
        let mut columns: Vec<ArrayRef> = self.spec.keys.iter().map(column).collect();
        let starts = column(&self.spec.pane_column);
        columns.push(starts.clone());
        let rows = KeyBatch::new(&self.keys, &columns)?;
        let mut slots = std::mem::take(&mut self.slots);
        let fresh = self.keys.insert(&rows, &mut slots);
        self.open(&fresh)?;
        self.keep(&slots)?;
        let starts = starts.as_primitive::<TimestampMicrosecondType>().values();
        let amended = self.entered(starts, &slots);
        self.shift(&amended, Shift::TakeOut)?;
        let all = Change {
            slots: &slots,
            weights: match batch.weights() {
                Weights::Ones => None,
                Weights::Each(weights) => Some(weights.as_ref()),
            },
            valid: None,
        };
        let (groups, dirty) = (&mut self.groups, &mut self.dirty);
        all.each(|row, slot, weight| {
            let group = &mut groups[slot];
            group.rows += weight;
            if group.flags & Group::DIRTY == 0 {
                group.flags |= Group::DIRTY;
                dirty.push(slots[row]);
            }
        });
        let groups = self.groups.len();
        let (selections, stores) = (&mut self.selections, &mut self.stores);
        add_rows(selections, stores, groups, batch.rows(), &all)?;
        self.slots = slots;
        self.shift(&amended, Shift::PutBack)
    }

    /// The panes of rows that are in their totals already: rows behind the watermark whose last
    /// windows are open.
    fn entered(&self, starts: &[i64], slots: &[u32]) -> Vec<u32> {
        let Some(last) = self.starts.last_held() else {
            return Vec::new();
        };
        if starts
            .iter()
            .fold(i64::MAX, |least, &start| least.min(start))
            > last
        {
            return Vec::new();
        }
        let is_in = |slot: &u32| self.groups[*slot as usize].is(Group::ENTERED);
        let mut panes: Vec<u32> = slots.iter().copied().filter(is_in).collect();
        panes.sort_unstable();
        panes.dedup();
        panes
    }

    /// Gives new panes a place: their key's total, and the list of those that wait.
    pub(super) fn open(&mut self, fresh: &[u32]) -> Result<()> {
        if fresh.is_empty() {
            return Ok(());
        }
        self.grow();
        // What a checkpoint under way has in these slots is not they.
        self.keep(fresh)?;
        let mut columns = self.keys.columns(fresh)?;
        let starts = columns.pop().expect("a pane has a start");
        columns.push(new_null_array(starts.data_type(), fresh.len()));
        let of_totals = KeyBatch::new(&self.keys, &columns)?;
        let mut totals = Vec::with_capacity(fresh.len());
        let new_totals = self.keys.insert(&of_totals, &mut totals);
        self.grow();
        for total in new_totals {
            let leaders = self.leaders.iter_mut().flatten();
            leaders.for_each(|leaders| leaders.open(total));
        }
        let starts = starts.as_primitive::<TimestampMicrosecondType>().values();
        for ((&pane, &total), &start) in fresh.iter().zip(&totals).zip(starts) {
            let group = &mut self.groups[pane as usize];
            group.total = total;
            group.flags |= Group::PANE;
            self.places[pane as usize].start = start;
            self.places[total as usize].panes += 1;
            self.starts.wait(pane, start);
        }
        Ok(())
    }

    /// Adds panes to their totals, or takes them out.
    pub(super) fn shift(&mut self, panes: &[u32], shift: Shift) -> Result<()> {
        if panes.is_empty() {
            return Ok(());
        }
        let times = shift.times();
        let total = |&pane: &u32| self.groups[pane as usize].total;
        let totals: Vec<u32> = panes.iter().map(total).collect();
        for (&pane, &total) in panes.iter().zip(&totals) {
            let rows = self.groups[pane as usize].rows * times.factor();
            self.groups[total as usize].rows += rows;
        }
        for selection in self.selections.iter_mut().filter(|each| !each.is_whole()) {
            for (&pane, &total) in panes.iter().zip(&totals) {
                let absent = selection.absent(pane) * times.factor();
                selection.set_absent(total, selection.absent(total) + absent);
            }
        }
        for (selected, leaders) in self.stores.iter_mut().zip(&mut self.leaders) {
            let Some(leaders) = leaders else {
                selected.store.combine(panes, &totals, times)?;
                continue;
            };
            let (places, store) = (&self.places, &selected.store);
            let start = |pane: u32| places[pane as usize].start;
            let is_ahead = |one, other| store.is_ahead(one, other);
            for (&pane, &total) in panes.iter().zip(&totals) {
                match shift {
                    Shift::Enter => leaders.insert(pane, total, start, is_ahead),
                    // Its value can only have gone further out.
                    Shift::TakeOut => {}
                    Shift::PutBack => leaders.amend(pane, total, start, is_ahead),
                    Shift::Leave => leaders.remove(pane),
                }
            }
        }
        Ok(())
    }

    /// The input so far is complete as far as the panes touched go.
    pub(super) fn settle(&mut self) -> Result<()> {
        for selected in &mut self.stores {
            selected.store.settle(&self.dirty)?;
        }
        let mut empty = Vec::new();
        for &slot in &self.dirty {
            let group = &mut self.groups[slot as usize];
            group.flags &= !Group::DIRTY;
            self.changed.insert(slot);
            match group.rows {
                ..0 => {
                    let message = "more rows of a pane were retracted than were there";
                    return Err(Error::internal(message));
                }
                0 => empty.push(slot),
                1.. => {}
            }
        }
        self.dirty.clear();
        for &pane in &empty {
            let is_held = self.groups[pane as usize].is(Group::ENTERED);
            let start = self.places[pane as usize].start;
            self.starts.remove(pane, start, is_held);
        }
        self.drop_panes(&empty)
    }

    /// Takes panes, which are in no list any more, out of the totals that they are in, and frees
    /// them and the totals of keys without any.
    pub(super) fn drop_panes(&mut self, panes: &[u32]) -> Result<()> {
        if panes.is_empty() {
            return Ok(());
        }
        self.keep(panes)?;
        let is_in = |pane: &u32| self.groups[*pane as usize].is(Group::ENTERED);
        let entered: Vec<u32> = panes.iter().copied().filter(is_in).collect();
        self.shift(&entered, Shift::Leave)?;
        let mut has_left = false;
        for &pane in &entered {
            let total = self.groups[pane as usize].total;
            let place = &mut self.places[total as usize];
            place.entered -= 1;
            has_left |= place.entered == 0;
        }
        let mut without_panes = Vec::new();
        for &pane in panes {
            let total = self.groups[pane as usize].total;
            let place = &mut self.places[total as usize];
            place.panes -= 1;
            if place.panes == 0 {
                without_panes.push(total);
            }
        }
        if has_left {
            let places = &self.places;
            self.active
                .retain(|&total| places[total as usize].entered > 0);
        }
        self.free(panes)?;
        for leaders in self.leaders.iter_mut().flatten() {
            without_panes.iter().for_each(|&total| leaders.close(total));
        }
        self.free(&without_panes)
    }

    /// Gives slots back.
    fn free(&mut self, slots: &[u32]) -> Result<()> {
        for &slot in slots {
            self.keys.remove(slot);
            self.groups[slot as usize] = Group::NONE;
            self.places[slot as usize] = Place::default();
            self.changed.insert(slot);
            let selections = self.selections.iter_mut();
            selections.for_each(|selection| selection.set_absent(slot, 0));
        }
        let mut stores = self.stores.iter_mut();
        stores.try_for_each(|selected| selected.store.clear(slots))
    }

    /// The bound of the pane column: windows that begin before it are closed.
    fn bound(&self, step: &Step) -> Option<i64> {
        step.bounds[0].0[self.spec.pane_column].map(|EventTime(bound)| bound)
    }
}

impl Operator for PaneAggregate {
    fn push(&mut self, port: usize, batch: DeltaBatch, out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "an aggregate has one input");
        self.rebuild()?;
        if self.spec.is_append_only && !batch.is_append_only() {
            let message = "a retraction in an input that is append-only";
            return Err(Error::internal(message));
        }
        let batch = self.drop_over(batch, out)?;
        let batch = self.defer(batch)?;
        self.add(&batch)
    }

    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()> {
        self.rebuild()?;
        self.settle()?;
        if let Some(bound) = self.bound(step) {
            self.close(bound, out)?;
        }
        // Windows that were open for these rows are still.
        self.count_deferred(i64::MAX)
    }

    fn due_time(&self) -> Option<i64> {
        let start = self.next_window()?;
        Some(start.saturating_add(self.spec.panes.size()))
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let mut columns = vec![None; self.spec.output.fields().len()];
        if let Some(start) = self.bound(step) {
            let end = match start {
                i64::MIN | i64::MAX => start,
                start => start.saturating_add(self.spec.panes.size()),
            };
            let keys = self.spec.keys.len();
            columns[keys] = Some(EventTime(start));
            columns[keys + 1] = Some(EventTime(end));
        }
        Bounds(columns)
    }

    fn state_rows(&self) -> usize {
        self.keys.len()
    }

    fn state_bytes(&self) -> usize {
        let stores = self.stores.iter().map(|selected| selected.store.bytes());
        let leaders = self.leaders.iter().flatten().map(Leaders::bytes);
        self.keys.bytes()
            + self.groups.capacity() * size_of::<Group>()
            + self.places.capacity() * size_of::<Place>()
            + self.selections.iter().map(Selection::bytes).sum::<usize>()
            + stores.sum::<usize>()
            + leaders.sum::<usize>()
            + self.starts.bytes()
            + (self.active.capacity() + self.dirty.capacity() + self.slots.capacity()) * 4
            + self.changed.bytes()
            + self.frozen.bytes()
    }

    fn freeze(&mut self, scope: Scope) -> Result<()> {
        self.rebuild()?;
        self.begin_saving(scope)
    }

    fn thaw(&mut self, rows: usize) -> Result<Option<TableChange>> {
        self.save_some(rows)
    }

    fn unfreeze(&mut self) {
        self.frozen = Frozen::default();
    }

    fn restore(&mut self, change: TableChange) -> Result<()> {
        self.load(&change)
    }
}
