//! The state's tables in a checkpoint, and how state is put back.
//!
//! | table | slots | columns |
//! | --- | --- | --- |
//! | 0 | groups | key, rows, flags, absent rows, stores' columns, kept values of what is out |
//! | 1 | only 0 | since when windows are freed |
//! | 2 + n | entries | what the n-th store keeps by entries of its own: group, values, weight |
//!
//! Where idle groups leave, the clock of a group's last touch stands behind its flags.
//!
//! Blocks are put back raw, in any number; what follows from them (chains, orders, sums of distinct
//! values, windows) is derived once, before the first use.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType, UInt32Type,
};

use crate::delta::{KeyBatch, SlotSet, arrow_error};
use crate::error::{Error, Result, SqlState};
use crate::operator::aggregate::change::Selection;
use crate::operator::aggregate::grouped::{Aggregate, Group};
use crate::operator::aggregate::layout::{Call, SelectedStore};
use crate::operator::aggregate::past::is_kept;
use crate::operator::aggregate::spec::CloseEmit;
use crate::operator::frozen::{Frozen, Piece};
use crate::operator::{Scope, TableChange};

const GROUPS: u32 = 0;
const WINDOWS: u32 = 1;
/// The table of the first store.
const STORES: u32 = 2;

/// Flags that outlive a step.
const SAVED_FLAGS: u32 = Group::EMITTED | Group::FAILED;

/// The columns of the groups' table.
pub(super) fn saved_schema(
    key_types: &[DataType],
    is_timed: bool,
    selections: &[Selection],
    stores: &[SelectedStore],
    calls: &[Call],
    results: &[DataType],
) -> SchemaRef {
    let mut types = key_types.to_vec();
    types.extend([DataType::Int64, DataType::UInt32]);
    types.extend(is_timed.then_some(DataType::Int64));
    types.extend(selections.iter().map(|_| DataType::Int64));
    types.extend(
        stores
            .iter()
            .flat_map(|selected| selected.store.saved_types()),
    );
    let results = calls.iter().zip(results);
    types.extend(
        results
            .filter(|(call, _)| is_kept(call))
            .map(|(_, of)| of.clone()),
    );
    let field = |(at, data_type)| Field::new(format!("column{at}"), data_type, true);
    Arc::new(Schema::new(
        types.into_iter().enumerate().map(field).collect::<Vec<_>>(),
    ))
}

impl Aggregate {
    /// Begins a checkpoint: see [`Operator::freeze`](crate::operator::Operator::freeze).
    pub(super) fn begin_saving(&mut self, scope: Scope) -> Result<()> {
        let mut pending = std::mem::take(&mut self.changed);
        if scope == Scope::All {
            pending = SlotSet::default();
            let groups = u32::try_from(self.groups.len()).expect("slots fit u32");
            let live = (0..groups).filter(|&slot| self.groups[slot as usize].is(Group::LIVE));
            live.for_each(|slot| {
                pending.insert(slot);
            });
        }
        let mut frozen = Frozen::new(pending);
        if let Some(windows) = &mut self.windows {
            let changed = windows.take_change();
            let freed_before = match scope {
                Scope::All => Some(windows.freed_before()),
                Scope::Changed => changed,
            };
            if let Some(freed_before) = freed_before {
                let column: ArrayRef = Arc::new(Int64Array::from(vec![freed_before]));
                let rows = RecordBatch::try_from_iter([("freed_before", column)]);
                let rows = rows.map_err(arrow_error)?;
                frozen.keep(TableChange {
                    table: WINDOWS,
                    slots: vec![0],
                    rows,
                    freed: vec![],
                });
            }
        }
        for (table, selected) in (STORES..).zip(&mut self.stores) {
            if let Some(change) = selected.store.changes(scope)? {
                frozen.keep(TableChange { table, ..change });
            }
        }
        self.frozen = frozen;
        Ok(())
    }

    /// The next piece of the checkpoint under way.
    pub(super) fn save_some(&mut self, rows: usize) -> Result<Option<TableChange>> {
        Ok(match self.frozen.next(rows) {
            None => None,
            Some(Piece::Saved(change)) => Some(change),
            Some(Piece::Slots(slots)) => Some(self.save_groups(slots)?),
        })
    }

    /// Saves those of the groups, which are about to change, that the checkpoint under way has not
    /// taken yet.
    pub(super) fn keep(&mut self, slots: &[u32]) -> Result<()> {
        let slots = self.frozen.claim(slots);
        if !slots.is_empty() {
            let change = self.save_groups(slots)?;
            self.frozen.keep(change);
        }
        Ok(())
    }

    fn save_groups(&self, slots: Vec<u32>) -> Result<TableChange> {
        let is_live = |slot: &u32| self.groups[*slot as usize].is(Group::LIVE);
        let (slots, freed): (Vec<u32>, Vec<u32>) = slots.into_iter().partition(is_live);
        let mut columns = match &self.keys {
            Some(keys) => keys.columns(&slots)?,
            None => Vec::new(),
        };
        let group = |slot: &u32| self.groups[*slot as usize];
        let rows = slots.iter().map(|slot| group(slot).rows());
        columns.push(Arc::new(Int64Array::from_iter_values(rows)));
        let flags = slots.iter().map(|slot| group(slot).flags(SAVED_FLAGS));
        columns.push(Arc::new(UInt32Array::from_iter_values(flags)));
        if let Some(idle) = &self.idle {
            let touched = slots.iter().map(|&slot| idle.touched(slot));
            columns.push(Arc::new(Int64Array::from_iter_values(touched)));
        }
        for selection in &self.selections {
            let absent = slots.iter().map(|&slot| selection.absent(slot));
            columns.push(Arc::new(Int64Array::from_iter_values(absent)));
        }
        for selected in &self.stores {
            columns.extend(selected.store.save(&slots)?);
        }
        columns.extend(self.save_kept(&slots)?);
        let rows = RecordBatch::try_new(self.saved.clone(), columns).map_err(arrow_error)?;
        Ok(TableChange {
            table: GROUPS,
            slots,
            rows,
            freed,
        })
    }

    /// What is kept of the rows that are out; NULLs for groups that have none.
    fn save_kept(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let is_out = |slot: &u32| self.groups[*slot as usize].is(Group::EMITTED);
        let out: Vec<u32> = slots.iter().copied().filter(is_out).collect();
        let columns = self.past.kept.gather(&out)?;
        if out.len() == slots.len() {
            return Ok(columns);
        }
        let mut next = 0..;
        let places: UInt32Array = slots
            .iter()
            .map(|slot| is_out(slot).then(|| next.next()).flatten())
            .collect();
        let spread = |column: &ArrayRef| take(column, &places, None).map_err(arrow_error);
        columns.iter().map(spread).collect()
    }

    /// Puts a block of a table back.
    pub(super) fn load(&mut self, change: TableChange) -> Result<()> {
        self.is_restored = true;
        match change.table {
            GROUPS => self.load_groups(&change),
            WINDOWS => {
                let freed_before = change.rows.column(0).as_primitive::<Int64Type>().value(0);
                let windows = self.windows.as_mut().ok_or_else(|| unknown(&change))?;
                windows.restore(freed_before);
                Ok(())
            }
            table => {
                let store = usize::try_from(table - STORES).expect("table numbers fit usize");
                let selected = self.stores.get_mut(store).ok_or_else(|| unknown(&change))?;
                selected.store.restore(change)
            }
        }
    }

    fn load_groups(&mut self, change: &TableChange) -> Result<()> {
        if change.rows.num_columns() != self.saved.fields().len() {
            return Err(unknown(change));
        }
        let slots = &change.slots;
        let mut columns = change.rows.columns().iter();
        let mut next = |count: usize| columns.by_ref().take(count).cloned().collect::<Vec<_>>();
        let keys = next(self.spec.group.len());
        if let Some(table) = &mut self.keys {
            table.restore(&KeyBatch::new(table, &keys)?, slots);
            for &slot in &change.freed {
                if table.holds(slot) {
                    table.remove(slot);
                }
            }
        }
        let highest = slots
            .iter()
            .chain(&change.freed)
            .max()
            .map_or(0, |&slot| slot as usize + 1);
        self.grow(highest);
        let (rows, flags) = (next(1), next(1));
        let rows = rows[0].as_primitive::<Int64Type>().values();
        let flags = flags[0].as_primitive::<UInt32Type>().values();
        for (row, &slot) in slots.iter().enumerate() {
            self.groups[slot as usize] = Group::new(rows[row], flags[row] | Group::LIVE);
        }
        if let Some(idle) = &mut self.idle {
            let touched = next(1);
            let touched = touched[0].as_primitive::<Int64Type>().values();
            let slots = slots.iter().zip(touched);
            slots.for_each(|(&slot, &touched)| idle.restore(slot, Some(touched)));
            let freed = change.freed.iter();
            freed.for_each(|&slot| idle.restore(slot, None));
        }
        for selection in &mut self.selections {
            let absent = next(1);
            let absent = absent[0].as_primitive::<Int64Type>().values();
            slots
                .iter()
                .zip(absent)
                .for_each(|(&slot, &absent)| selection.set_absent(slot, absent));
            change
                .freed
                .iter()
                .for_each(|&slot| selection.set_absent(slot, 0));
        }
        for selected in &mut self.stores {
            let columns = next(selected.store.saved_types().len());
            selected.store.load(slots, &columns)?;
            selected.store.clear(&change.freed)?;
        }
        change
            .freed
            .iter()
            .for_each(|&slot| self.groups[slot as usize] = Group::default());
        self.past.kept.release(&change.freed);
        let is_out = |row: &u32| flags[*row as usize] & Group::EMITTED != 0;
        let count = u32::try_from(slots.len()).expect("slots fit u32");
        let rows: Vec<u32> = (0..count).filter(is_out).collect();
        let out: Vec<u32> = rows.iter().map(|&row| slots[row as usize]).collect();
        let values = next(self.calls.iter().filter(|call| is_kept(call)).count());
        self.past.kept.write(&out, &values, &rows)
    }

    /// Derives what follows from state that has been put back.
    pub(super) fn rebuild(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_restored) {
            return Ok(());
        }
        let groups = self.groups.len();
        for selected in &mut self.stores {
            selected.store.rebuild(groups)?;
        }
        if let Some(idle) = &mut self.idle {
            idle.rebuild();
        }
        let (Some(windows), Some(keys)) = (&mut self.windows, &self.keys) else {
            return Ok(());
        };
        let slots = keys.live_slots();
        let columns = keys.columns(&slots)?;
        let timed: Vec<_> = windows
            .timed()
            .iter()
            .map(|&at| columns[at].as_primitive::<TimestampMicrosecondType>())
            .collect();
        let close = windows.close().clone();
        let ends = columns[close.column].as_primitive::<TimestampMicrosecondType>();
        for (row, &slot) in slots.iter().enumerate() {
            let end = ends.is_valid(row).then(|| ends.value(row));
            let times: Vec<Option<i64>> = timed
                .iter()
                .map(|c| c.is_valid(row).then(|| c.value(row)))
                .collect();
            let is_closed = self.groups[slot as usize].is(SAVED_FLAGS);
            match (end, close.emit) {
                (Some(end), CloseEmit::OnClose) if is_closed => windows.hold(slot, end),
                _ => windows.insert(slot, end, &times),
            }
        }
        Ok(())
    }
}

fn unknown(change: &TableChange) -> Error {
    let message = format!(
        "a checkpoint's table {} is not one of this aggregate",
        change.table
    );
    Error::new(SqlState::DATA_CORRUPTED, message)
}
