//! The operator: rows to groups, groups to stores, and the order of things at the end of a step.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};

use crate::base::EventTime;
use crate::base::growth::grow;
use crate::delta::{DeltaBatch, KeyBatch, KeyTable, SlotSet, Weights};
use crate::error::{Error, Result};
use crate::operator::aggregate::change::{Change, Selection};
use crate::operator::aggregate::checkpoint::saved_schema;
use crate::operator::aggregate::closing::Windows;
use crate::operator::aggregate::gathering::check_panes;
use crate::operator::aggregate::layout::{Call, Layout, SelectedStore, add_rows};
use crate::operator::aggregate::past::Past;
use crate::operator::aggregate::spec::{AggregateSpec, CloseEmit};
use crate::operator::frozen::Frozen;
use crate::operator::idle::IdleOrder;
use crate::operator::judge::put_out_late;
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

/// The slot of the only group where there is no GROUP BY.
const GLOBAL: u32 = 0;

/// GROUP BY, one shard of it.
pub struct Aggregate {
    pub(super) spec: AggregateSpec,
    pub(super) calls: Vec<Call>,
    /// This shard has the row of an aggregate without GROUP BY.
    holds_global: bool,
    /// The table of groups in a checkpoint.
    pub(super) saved: SchemaRef,

    /// `None` where there is no GROUP BY.
    pub(super) keys: Option<KeyTable>,
    pub(super) groups: Vec<Group>,
    pub(super) selections: Vec<Selection>,
    pub(super) stores: Vec<SelectedStore>,
    pub(super) past: Past,
    pub(super) windows: Option<Windows>,
    /// Groups that leave when no row has come for long.
    pub(super) idle: Option<IdleOrder>,
    /// State has been put back, and what follows from it has not been derived yet.
    pub(super) is_restored: bool,

    /// Groups that the step has touched, in the order of their first row.
    dirty: Vec<u32>,
    /// What the step's rows come to by pane, before they count for windows.
    pub(super) gathered: Vec<u32>,
    /// Groups that have changed since the last checkpoint.
    pub(super) changed: SlotSet,
    pub(super) frozen: Frozen,
    /// The group of each row of the batch at hand, kept for its memory.
    pub(super) slots: Vec<u32>,
}

/// What every group has, in eight bytes: the flags are the lowest eight bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group(i64);

impl Group {
    const FLAG_BITS: u32 = 8;

    /// The slot belongs to a group.
    pub const LIVE: u32 = 1;
    /// The step has touched it.
    pub const DIRTY: u32 = 2;
    /// The step has noted what it has out.
    pub const SEEN: u32 = 4;
    /// Its row is out.
    pub const EMITTED: u32 = 8;
    /// Its row could not be put out, and that has been told.
    pub const FAILED: u32 = 16;
    /// It is in the list of groups whose windows have just closed.
    const CLOSING: u32 = 32;

    pub fn new(rows: i64, flags: u32) -> Group {
        debug_assert!(flags < 1 << Group::FLAG_BITS, "flags of eight bits");
        Group(rows << Group::FLAG_BITS | i64::from(flags))
    }

    /// The sum of the weights of its rows; below zero only within a step.
    #[inline]
    pub fn rows(self) -> i64 {
        self.0 >> Group::FLAG_BITS
    }

    /// 2^55 rows are more than any input brings.
    #[inline]
    pub fn add_rows(&mut self, weight: i64) {
        self.0 = self.0.wrapping_add(weight << Group::FLAG_BITS);
    }

    /// It has no rows any more.
    pub fn empty(&mut self) {
        self.0 &= (1 << Group::FLAG_BITS) - 1;
    }

    /// Those of these flags that are set.
    #[inline]
    pub fn flags(self, among: u32) -> u32 {
        u32::try_from(self.0 & i64::from(among)).expect("flags of eight bits")
    }

    #[inline]
    pub fn is(self, flag: u32) -> bool {
        self.0 & i64::from(flag) != 0
    }

    #[inline]
    pub fn set(&mut self, flag: u32, is_set: bool) {
        match is_set {
            true => self.0 |= i64::from(flag),
            false => self.0 &= !i64::from(flag),
        }
    }
}

impl Aggregate {
    /// The shard of the given number; the first one has the row of an aggregate without GROUP BY.
    ///
    /// # Errors
    /// 0A000 when a value has no order or cannot be kept; internal when the output's types are not
    /// those of the calls.
    pub fn new(spec: AggregateSpec, shard: usize) -> Result<Aggregate> {
        assert_eq!(spec.is_global, spec.group.is_empty(), "one group, or a key");
        if spec.idle_micros.is_some() {
            // What is taken back of a group that has left would be missing in the next one.
            assert!(spec.is_append_only && spec.close.is_none() && !spec.is_global);
        }
        let input = &spec.input;
        let type_of = |column: &usize| input.field(*column).data_type().clone();
        let key_types: Vec<DataType> = spec.group.iter().map(type_of).collect();
        let mut types = key_types.clone();
        for call in &spec.calls {
            types.push(
                call.function
                    .result_type(call.argument.map(|c| type_of(&c)).as_ref())?,
            );
        }
        let planned = spec.output.fields().iter().map(|field| field.data_type());
        if !planned.eq(&types) {
            return Err(Error::internal(format!(
                "an aggregate of {types:?} as {}",
                spec.output
            )));
        }
        check_panes(&spec, &key_types)?;
        let mut layout = Layout::default();
        for call in &spec.calls {
            layout.add(call, &spec)?;
        }
        let stores = layout.stores(&spec.input)?;
        let Layout {
            selections, calls, ..
        } = layout;
        let saved = saved_schema(
            &types[..key_types.len()],
            spec.idle_micros.is_some(),
            &selections,
            &stores,
            &calls,
            &types[key_types.len()..],
        );
        let is_timed = |at: &usize| {
            matches!(
                key_types[*at],
                DataType::Timestamp(TimeUnit::Microsecond, _)
            )
        };
        let timed = (0..key_types.len()).filter(is_timed).collect();
        let windows = spec.close.clone().map(|close| {
            assert!(is_timed(&close.column), "a window ends at a timestamp");
            Windows::new(close, timed)
        });
        let keys = (!spec.is_global)
            .then(|| KeyTable::new(&key_types))
            .transpose()?;
        Ok(Aggregate {
            holds_global: spec.is_global && shard == 0,
            idle: spec.idle_micros.map(IdleOrder::new),
            spec,
            past: Past::new(&calls, &types[key_types.len()..])?,
            calls,
            saved,
            keys,
            groups: Vec::new(),
            selections,
            stores,
            windows,
            is_restored: false,
            dirty: Vec::new(),
            gathered: Vec::new(),
            changed: SlotSet::default(),
            frozen: Frozen::default(),
            slots: Vec::new(),
        })
    }

    /// The columns of the key.
    pub(super) fn key_of(&self, batch: &DeltaBatch) -> Vec<ArrayRef> {
        let column = |column: &usize| batch.rows().column(*column).clone();
        self.spec.group.iter().map(column).collect()
    }

    /// Room for as many groups as have a slot.
    pub(super) fn grow(&mut self, groups: usize) {
        if self.groups.len() < groups {
            grow(&mut self.groups, groups, Group::default());
            self.past.kept.grow(groups);
            self.stores
                .iter_mut()
                .for_each(|selected| selected.store.grow(groups));
        }
    }

    /// Takes out the rows of windows that have been freed.
    pub(super) fn drop_freed(&self, batch: DeltaBatch, out: &mut Output) -> Result<DeltaBatch> {
        let Some(windows) = &self.windows else {
            return Ok(batch);
        };
        let freed_before = windows.freed_before();
        let column = self.spec.group[windows.close().column];
        let ends = batch
            .rows()
            .column(column)
            .as_primitive::<TimestampMicrosecondType>();
        if ends.values().iter().all(|&end| end >= freed_before) {
            return Ok(batch);
        }
        let is_freed = |row: usize| ends.is_valid(row) && ends.values()[row] < freed_before;
        let mask = BooleanArray::from_iter((0..batch.len()).map(|row| Some(is_freed(row))));
        put_out_late(&batch, &mask, column, out)?;
        let kept = BooleanArray::from_iter((0..batch.len()).map(|row| Some(!is_freed(row))));
        batch.filter(&kept)
    }

    /// The group of each row, by the columns of the key.
    pub(super) fn assign(
        &mut self,
        columns: &[ArrayRef],
        count: usize,
        slots: &mut Vec<u32>,
    ) -> Result<()> {
        let Some(keys) = &mut self.keys else {
            if !self.holds_global {
                let message = "rows of an aggregate without GROUP BY came to another shard";
                return Err(Error::internal(message));
            }
            slots.clear();
            slots.resize(count, GLOBAL);
            self.grow(1);
            return Ok(());
        };
        let rows = KeyBatch::new(keys, columns)?;
        keys.insert(&rows, slots);
        let groups = keys.slots();
        self.grow(groups);
        Ok(())
    }

    /// Counts the rows of each group. Returns the first row of each new one.
    pub(super) fn count_rows(&mut self, change: &Change<'_>) -> Vec<usize> {
        let mut fresh = Vec::new();
        let (groups, dirty) = (&mut self.groups, &mut self.dirty);
        change.each(|row, slot, weight| {
            let group = &mut groups[slot];
            group.add_rows(weight);
            if !group.is(Group::DIRTY) {
                dirty.push(change.slots[row]);
                if !group.is(Group::LIVE) {
                    fresh.push(row);
                }
                group.set(Group::DIRTY | Group::LIVE, true);
            }
        });
        fresh
    }

    /// Says when new groups end.
    pub(super) fn place_in_windows(
        &mut self,
        columns: &[ArrayRef],
        slots: &[u32],
        fresh: &[usize],
    ) {
        let Some(windows) = &mut self.windows else {
            return;
        };
        let timed = windows.timed().to_vec();
        let columns: Vec<_> = timed
            .iter()
            .map(|&at| columns[at].as_primitive::<TimestampMicrosecondType>())
            .collect();
        let end_at = timed.iter().position(|&at| at == windows.close().column);
        let end_at = end_at.expect("the window's end is a timestamp");
        let mut times = Vec::with_capacity(columns.len());
        for &row in fresh {
            times.clear();
            times.extend(
                columns
                    .iter()
                    .map(|c| c.is_valid(row).then(|| c.values()[row])),
            );
            windows.insert(slots[row], times[end_at], &times);
        }
    }

    /// The row of an aggregate without GROUP BY is there before the first input.
    fn touch_global(&mut self) -> Result<()> {
        if !self.holds_global {
            return Ok(());
        }
        self.grow(1);
        self.keep(&[GLOBAL])?;
        let group = &mut self.groups[GLOBAL as usize];
        if !group.is(Group::EMITTED | Group::FAILED | Group::DIRTY) {
            group.set(Group::DIRTY | Group::LIVE, true);
            self.dirty.push(GLOBAL);
        }
        Ok(())
    }

    /// The bound of the windows' ends, where the input has one.
    fn end_bound(&self, step: &Step) -> Option<i64> {
        let close = self.windows.as_ref()?.close();
        step.bounds[0].0[self.spec.group[close.column]].map(|EventTime(bound)| bound)
    }

    /// Ends the step for the groups that it touched. Returns those without rows.
    fn close_step(&mut self, dirty: &[u32]) -> Result<Vec<u32>> {
        let mut dead = Vec::new();
        for &slot in dirty {
            let group = &mut self.groups[slot as usize];
            group.set(Group::DIRTY | Group::SEEN, false);
            self.changed.insert(slot);
            match group.rows() {
                ..0 => {
                    let message = "more rows of a group were retracted than were there";
                    return Err(Error::internal(message));
                }
                0 if !self.spec.is_global => dead.push(slot),
                _ => {}
            }
        }
        Ok(dead)
    }

    /// Where rows appear when windows close: the groups that may put out a change now, those whose
    /// windows close and those touched ones whose windows are closed. `None` where every touched
    /// group may.
    fn closing(&mut self, dirty: &[u32], bound: Option<i64>) -> Option<Vec<u32>> {
        let windows = self.windows.as_mut()?;
        if windows.close().emit == CloseEmit::OnUpdate {
            return None;
        }
        let mut candidates = match bound {
            Some(bound) => windows.close_until(bound),
            None => Vec::new(),
        };
        let closing = candidates.len();
        for &slot in &candidates {
            self.groups[slot as usize].set(Group::CLOSING, true);
        }
        let groups = &self.groups;
        let corrected =
            |slot: &u32| windows.is_closed(*slot) && !groups[*slot as usize].is(Group::CLOSING);
        candidates.extend(dirty.iter().copied().filter(corrected));
        for &slot in &candidates[..closing] {
            self.groups[slot as usize].set(Group::CLOSING, false);
        }
        Some(candidates)
    }

    /// The groups are about to change otherwise than by rows.
    fn touch(&mut self, slots: &[u32]) -> Result<()> {
        self.keep(slots)?;
        for &slot in slots {
            self.changed.insert(slot);
        }
        Ok(())
    }

    /// Takes everything out of the groups that have been idle for too long. Their rows are taken
    /// back at the end of the step, unless new ones have come by then.
    fn evict(&mut self, clock_micros: i64, out: &mut Output) -> Result<()> {
        let due = self.idle.as_ref().map(|idle| idle.due(clock_micros));
        let due = due.unwrap_or_default();
        if due.is_empty() {
            return Ok(());
        }
        self.keep(&due)?;
        self.look_back(&due)?;
        for selected in &mut self.stores {
            selected.store.clear(&due)?;
        }
        for &slot in &due {
            self.selections
                .iter_mut()
                .for_each(|selection| selection.set_absent(slot, 0));
            let group = &mut self.groups[slot as usize];
            group.empty();
            group.set(Group::FAILED, false);
            group.set(Group::DIRTY, true);
        }
        if let Some(idle) = &mut self.idle {
            due.iter().for_each(|&slot| idle.remove(slot));
        }
        out.counts.rows_evicted += due.len() as u64;
        self.dirty.extend(due);
        Ok(())
    }

    /// The groups have been touched by the step.
    fn touched(&mut self, slots: &[u32], clock_micros: i64) {
        if let Some(idle) = &mut self.idle {
            let groups = &self.groups;
            let live = slots
                .iter()
                .filter(|slot| groups[**slot as usize].rows() > 0);
            live.for_each(|&slot| idle.touch(slot, clock_micros));
        }
    }

    /// Gives the slots of groups back; their rows stay downstream.
    pub(super) fn free(&mut self, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let keys = self
            .keys
            .as_mut()
            .expect("a group without a key is never freed");
        for &slot in slots {
            keys.remove(slot);
            self.groups[slot as usize] = Group::default();
            self.selections
                .iter_mut()
                .for_each(|selection| selection.set_absent(slot, 0));
        }
        self.past.kept.release(slots);
        for selected in &mut self.stores {
            selected.store.clear(slots)?;
        }
        Ok(())
    }
}

impl Operator for Aggregate {
    fn begin(&mut self, clock_micros: i64, out: &mut Output) -> Result<()> {
        self.rebuild()?;
        self.evict(clock_micros, out)
    }

    fn push(&mut self, port: usize, batch: DeltaBatch, out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "an aggregate has one input");
        self.rebuild()?;
        if self.spec.is_append_only && !batch.is_append_only() {
            return Err(Error::internal(
                "a retraction in an input that is append-only",
            ));
        }
        let batch = self.gather(batch, out)?;
        let batch = self.drop_freed(batch, out)?;
        if batch.is_empty() {
            return Ok(());
        }
        let columns = self.key_of(&batch);
        let mut slots = std::mem::take(&mut self.slots);
        self.assign(&columns, batch.len(), &mut slots)?;
        self.keep(&slots)?;
        self.look_back(&slots)?;
        let weights = match batch.weights() {
            Weights::Ones => None,
            Weights::Each(weights) => Some(weights.as_ref()),
        };
        let all = Change {
            slots: &slots,
            weights,
            valid: None,
        };
        let fresh = self.count_rows(&all);
        self.place_in_windows(&columns, &slots, &fresh);
        let groups = self.groups.len();
        let (selections, stores) = (&mut self.selections, &mut self.stores);
        add_rows(selections, stores, groups, batch.rows(), &all)?;
        self.slots = slots;
        Ok(())
    }

    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()> {
        self.rebuild()?;
        self.spread(out)?;
        self.touch_global()?;
        for selected in &mut self.stores {
            selected.store.settle(&self.dirty)?;
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        // In the order of their state in memory: with a million groups that halves the misses of
        // everything from here to the view's rows, which are in much the same order.
        dirty.sort_unstable();
        let dead = self.close_step(&dirty)?;
        self.touched(&dirty, step.clock_micros);
        let bound = self.end_bound(step);
        match self.closing(&dirty, bound) {
            Some(candidates) => {
                self.touch(&candidates)?;
                self.emit(&candidates, out)?;
            }
            None => self.emit(&dirty, out)?,
        }
        if let Some(windows) = &mut self.windows {
            dead.iter().for_each(|&slot| windows.remove(slot));
        }
        self.free(&dead)?;
        if let (Some(windows), Some(bound)) = (&mut self.windows, bound) {
            let last = windows.free_until(bound);
            self.touch(&last)?;
            self.free(&last)?;
        }
        self.dirty = dirty;
        self.dirty.clear();
        Ok(())
    }

    fn deadline(&self) -> Option<i64> {
        let idle = self.idle.as_ref()?;
        match self.is_restored {
            // The next step says.
            true => Some(i64::MIN),
            false => idle.deadline(),
        }
    }

    fn due_time(&self) -> Option<i64> {
        if self.is_restored && self.windows.is_some() {
            return Some(i64::MIN);
        }
        // A window ends when the clock is there; a group by a bare time, one microsecond later.
        self.windows.as_ref()?.first_end()
    }

    fn bounds(&self, step: &Step) -> Bounds {
        if self.idle.is_some() {
            // Groups of any age leave.
            return Bounds::unknown(self.spec.output.fields().len());
        }
        let input = &step.bounds[0].0;
        let waiting = self
            .windows
            .as_ref()
            .filter(|w| w.close().emit == CloseEmit::OnClose);
        let bound = |(at, &column): (usize, &usize)| {
            let bound = input[column]?;
            let held_back = waiting.and_then(|windows| windows.least_waiting(at));
            Some(held_back.map_or(bound, |time| bound.min(EventTime(time))))
        };
        let mut columns: Vec<_> = self.spec.group.iter().enumerate().map(bound).collect();
        columns.resize(self.spec.output.fields().len(), None);
        Bounds(columns)
    }

    fn state_rows(&self) -> usize {
        let is_there = usize::from(!self.groups.is_empty());
        self.keys.as_ref().map_or(is_there, KeyTable::len)
    }

    fn state_bytes(&self) -> usize {
        let stores = self.stores.iter().map(|selected| selected.store.bytes());
        self.keys.as_ref().map_or(0, KeyTable::bytes)
            + self.groups.capacity() * size_of::<Group>()
            + self.selections.iter().map(Selection::bytes).sum::<usize>()
            + stores.sum::<usize>()
            + self.past.kept.bytes()
            + self.windows.as_ref().map_or(0, Windows::bytes)
            + self.idle.as_ref().map_or(0, IdleOrder::bytes)
            + (self.dirty.capacity() + self.gathered.capacity() + self.slots.capacity()) * 4
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
        self.load(change)
    }
}
