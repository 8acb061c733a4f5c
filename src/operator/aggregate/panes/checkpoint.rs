//! The state's tables in a checkpoint, and how state is put back.
//!
//! | table | slots | columns |
//! | --- | --- | --- |
//! | 0 | panes | key, start, rows, absent rows, stores' columns |
//! | 1 | only 0 | the start of the next window to close: panes before it are freed |
//!
//! Totals are not saved: after a restart no pane is in one, and with the next window that closes
//! they enter again.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use crate::delta::{KeyBatch, SlotSet, arrow_error};
use crate::error::{Error, Result, SqlState};
use crate::operator::aggregate::change::Selection;
use crate::operator::aggregate::layout::SelectedStore;
use crate::operator::aggregate::panes::operator::{Group, PaneAggregate};
use crate::operator::frozen::{Frozen, Piece};
use crate::operator::{Scope, TableChange};

const PANES: u32 = 0;
const NEXT: u32 = 1;

/// The columns of the panes' table.
pub(super) fn saved_schema(
    pane_types: &[DataType],
    selections: &[Selection],
    stores: &[SelectedStore],
) -> SchemaRef {
    let mut types = pane_types.to_vec();
    types.push(DataType::Int64);
    types.extend(selections.iter().map(|_| DataType::Int64));
    let stores = stores.iter();
    types.extend(stores.flat_map(|selected| selected.store.saved_types()));
    let field = |(at, data_type)| Field::new(format!("column{at}"), data_type, true);
    let fields: Vec<Field> = types.into_iter().enumerate().map(field).collect();
    Arc::new(Schema::new(fields))
}

impl PaneAggregate {
    pub(super) fn begin_saving(&mut self, scope: Scope) -> Result<()> {
        let mut pending = std::mem::take(&mut self.changed);
        if scope == Scope::All {
            pending = SlotSet::default();
            for (slot, group) in (0..).zip(&self.groups) {
                if group.is(Group::PANE) {
                    pending.insert(slot);
                }
            }
        }
        let mut frozen = Frozen::new(pending);
        let has_moved = std::mem::take(&mut self.has_moved);
        if has_moved || scope == Scope::All {
            let next: ArrayRef = Arc::new(Int64Array::from(vec![self.next]));
            frozen.keep(TableChange {
                table: NEXT,
                slots: vec![0],
                rows: RecordBatch::try_from_iter([("freed_before", next)]).map_err(arrow_error)?,
                freed: vec![],
            });
        }
        self.frozen = frozen;
        Ok(())
    }

    pub(super) fn save_some(&mut self, rows: usize) -> Result<Option<TableChange>> {
        Ok(match self.frozen.next(rows) {
            None => None,
            Some(Piece::Saved(change)) => Some(change),
            Some(Piece::Slots(slots)) => Some(self.save(slots)?),
        })
    }

    /// Saves those of the panes, which are about to change, that the checkpoint under way has not
    /// taken yet.
    pub(super) fn keep(&mut self, slots: &[u32]) -> Result<()> {
        let slots = self.frozen.claim(slots);
        if !slots.is_empty() {
            let change = self.save(slots)?;
            self.frozen.keep(change);
        }
        Ok(())
    }

    fn save(&self, slots: Vec<u32>) -> Result<TableChange> {
        let is_pane = |slot: &u32| self.groups[*slot as usize].is(Group::PANE);
        let (slots, freed): (Vec<u32>, Vec<u32>) = slots.into_iter().partition(is_pane);
        let mut columns = self.keys.columns(&slots)?;
        let rows = slots.iter().map(|&slot| self.groups[slot as usize].rows);
        columns.push(Arc::new(Int64Array::from_iter_values(rows)));
        for selection in &self.selections {
            let absent = slots.iter().map(|&slot| selection.absent(slot));
            columns.push(Arc::new(Int64Array::from_iter_values(absent)));
        }
        for selected in &self.stores {
            columns.extend(selected.store.save(&slots)?);
        }
        let rows = RecordBatch::try_new(self.saved.clone(), columns).map_err(arrow_error)?;
        Ok(TableChange {
            table: PANES,
            slots,
            rows,
            freed,
        })
    }

    pub(super) fn load(&mut self, change: &TableChange) -> Result<()> {
        self.is_restored = true;
        match change.table {
            NEXT => {
                self.next = change.rows.column(0).as_primitive::<Int64Type>().value(0);
                Ok(())
            }
            PANES if change.rows.num_columns() == self.saved.fields().len() => {
                self.load_panes(change)
            }
            table => {
                let message = format!("a checkpoint's table {table} is not one of these panes");
                Err(Error::new(SqlState::DATA_CORRUPTED, message))
            }
        }
    }

    fn load_panes(&mut self, change: &TableChange) -> Result<()> {
        let (slots, freed) = (&change.slots, &change.freed);
        let mut columns = change.rows.columns().iter();
        let mut next = |count: usize| columns.by_ref().take(count).cloned().collect::<Vec<_>>();
        let keys = next(self.spec.keys.len() + 1);
        self.keys.restore(&KeyBatch::new(&self.keys, &keys)?, slots);
        for &slot in freed {
            if self.keys.holds(slot) {
                self.keys.remove(slot);
            }
        }
        self.grow();
        let freed: Vec<u32> = freed
            .iter()
            .copied()
            .filter(|&slot| (slot as usize) < self.groups.len())
            .collect();
        for &slot in &freed {
            self.groups[slot as usize] = Group::NONE;
        }
        let rows = next(1);
        let rows = rows[0].as_primitive::<Int64Type>().values();
        for (&slot, &rows) in slots.iter().zip(rows) {
            self.groups[slot as usize] = Group {
                rows,
                flags: Group::PANE,
                ..Group::NONE
            };
        }
        for selection in &mut self.selections {
            let absent = next(1);
            let absent = absent[0].as_primitive::<Int64Type>().values();
            for (&slot, &absent) in slots.iter().zip(absent) {
                selection.set_absent(slot, absent);
            }
            freed.iter().for_each(|&slot| selection.set_absent(slot, 0));
        }
        for selected in &mut self.stores {
            let columns = next(selected.store.saved_types().len());
            selected.store.load(slots, &columns)?;
            selected.store.clear(&freed)?;
        }
        Ok(())
    }

    /// Derives what follows from state that has been put back: all panes wait.
    pub(super) fn rebuild(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_restored) {
            return Ok(());
        }
        let slots = self.groups.len();
        for selected in &mut self.stores {
            selected.store.rebuild(slots)?;
        }
        let panes = self.keys.live_slots();
        self.open(&panes)
    }
}
