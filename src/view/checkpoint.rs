//! The rows of a view or table in a checkpoint, and how they are put back.
//!
//! A checkpoint wants the rows as they were at its beginning and takes them a piece at a time,
//! while steps go on: what a step is about to change is saved before, row by row. (Sharing whole
//! chunks with the checkpoint would copy all of them within the next few steps.)

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};

use crate::delta::{DeltaBatch, KeyBatch, SlotSet, arrow_error};
use crate::error::Result;
use crate::operator::frozen::{Frozen, Piece};
use crate::operator::{Scope, TableChange};
use crate::view::store::{CHUNK_SLOTS, Store, batch_of, by_chunk, place, slot_number};

impl Store {
    /// Begins a checkpoint: what changed since the last one ([`Scope::All`]: all rows) is to be
    /// saved as it is now. What an earlier one has not taken of its own is forgotten.
    pub fn freeze(&mut self, scope: Scope) {
        let mut pending = std::mem::take(&mut self.dirty);
        if scope == Scope::All {
            pending = SlotSet::default();
            for slot in self.live_slots() {
                pending.insert(slot);
            }
        }
        self.frozen = Frozen::new(pending);
    }

    /// The next piece of it, of at most `rows` rows unless a step had to save more at once; `None`
    /// when everything has been given. The rows carry the weight as their last column.
    pub fn thaw(&mut self, rows: usize) -> Result<Option<TableChange>> {
        Ok(match self.frozen.next(rows) {
            None => None,
            Some(Piece::Saved(change)) => Some(change),
            Some(Piece::Slots(slots)) => Some(self.save(&slots)?),
        })
    }

    /// Forgets what was frozen and not given: the checkpoint has failed.
    pub fn unfreeze(&mut self) {
        self.frozen = Frozen::default();
    }

    /// [`Store::freeze`] and everything that [`Store::thaw`] has.
    pub fn changes(&mut self, scope: Scope) -> Result<Vec<TableChange>> {
        self.freeze(scope);
        std::iter::from_fn(|| self.thaw(usize::MAX).transpose()).collect()
    }

    /// Saves those of the slots, which are about to change, that the checkpoint under way has not
    /// taken yet.
    pub(super) fn keep(&mut self, slots: &[u32]) -> Result<()> {
        let slots = self.frozen.claim(slots);
        if !slots.is_empty() {
            let change = self.save(&slots)?;
            self.frozen.keep(change);
        }
        Ok(())
    }

    fn save(&self, slots: &[u32]) -> Result<TableChange> {
        let is_there = |slot: &u32| self.chunk_of(*slot).is_some() && self.weight(*slot) != 0;
        let (live, freed): (Vec<u32>, Vec<u32>) = slots.iter().copied().partition(is_there);
        let fields = self.schema.fields().len();
        let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::new(); fields];
        let (mut saved, mut weights) = (Vec::with_capacity(live.len()), Vec::new());
        for (number, rows) in &by_chunk(&live) {
            let chunk = &self.chunks[number];
            let places = rows.iter().map(|&row| place(live[row as usize]).1);
            let places: Vec<u32> = places.map(slot_number).collect();
            let columns = chunk.arena.gather(&places)?;
            parts
                .iter_mut()
                .zip(columns)
                .for_each(|(parts, column)| parts.push(column));
            saved.extend(rows.iter().map(|&row| live[row as usize]));
            weights.extend(
                places
                    .iter()
                    .map(|&place| chunk.weights.get(place as usize)),
            );
        }
        let schema = weighted(&self.schema);
        let mut columns = Vec::with_capacity(fields + 1);
        for (parts, field) in parts.iter().zip(schema.fields()) {
            columns.push(joined(parts, field.data_type())?);
        }
        columns.push(Arc::new(Int64Array::from(weights)));
        Ok(TableChange {
            table: 0,
            rows: batch_of(&schema, columns, saved.len())?,
            slots: saved,
            freed,
        })
    }

    fn chunk_of(&self, slot: u32) -> Option<usize> {
        let (number, at) = place(slot);
        let chunk = self.chunks.get(number)?;
        (at < chunk.weights.len()).then_some(number)
    }

    /// Slots that hold a row, rising.
    fn live_slots(&self) -> Vec<u32> {
        let mut live = Vec::new();
        for (number, chunk) in self.chunks.iter().enumerate() {
            let slots = (0..chunk.weights.len()).filter(|&place| chunk.weights.get(place) != 0);
            live.extend(slots.map(|place| slot_number(number * CHUNK_SLOTS + place)));
        }
        live
    }

    /// Puts back blocks that [`Store::changes`] gave, in their order, into a new store.
    pub fn restore(&mut self, changes: impl IntoIterator<Item = TableChange>) -> Result<()> {
        for change in changes {
            let columns = self.schema.fields().len();
            let weights = change.rows.column(columns).clone();
            let weights = weights.as_primitive::<Int64Type>();
            let all: Vec<usize> = (0..columns).collect();
            let rows = change.rows.project(&all).map_err(arrow_error)?;
            let rows = rows.with_schema(self.schema.clone()).map_err(arrow_error)?;
            let delta = DeltaBatch::insertions(rows);
            let sources: Vec<u32> = (0..change.slots.len()).map(slot_number).collect();
            let highest = change
                .freed
                .iter()
                .max()
                .map_or(0, |&slot| slot as usize + 1);
            self.grow(highest);
            self.write(&change.slots, &delta, &sources)?;
            for (row, &slot) in change.slots.iter().enumerate() {
                self.set_weight(slot, weights.value(row));
            }
            change
                .freed
                .iter()
                .for_each(|&slot| self.set_weight(slot, 0));
        }
        self.rebuild_index()?;
        self.dirty = SlotSet::default();
        self.account();
        Ok(())
    }

    fn rebuild_index(&mut self) -> Result<()> {
        let live = self.live_slots();
        self.appended = live.last().map_or(0, |&slot| slot as usize + 1);
        if self.index.is_none() {
            let slots = (0..self.appended).rev().map(slot_number);
            self.unused = slots.filter(|&slot| self.weight(slot) == 0).collect();
        }
        let columns = self.key_columns();
        let Some(index) = self.index.as_mut().filter(|_| !columns.is_empty()) else {
            return Ok(());
        };
        let mut batches: Vec<Vec<ArrayRef>> = vec![Vec::new(); columns.len()];
        for group in live.chunk_by(|&a, &b| place(a).0 == place(b).0) {
            let chunk = &self.chunks[place(group[0]).0];
            let places: Vec<u32> = group
                .iter()
                .map(|&slot| slot_number(place(slot).1))
                .collect();
            for (parts, &column) in batches.iter_mut().zip(&columns) {
                parts.push(chunk.arena.gather_column(column, &places)?);
            }
        }
        if live.is_empty() {
            return Ok(());
        }
        let keys = batches
            .iter()
            .zip(&columns)
            .map(|(parts, &column)| joined(parts, self.schema.field(column).data_type()))
            .collect::<Result<Vec<_>>>()?;
        let batch = KeyBatch::new(index, &keys)?;
        index.restore(&batch, &live);
        Ok(())
    }
}

/// The columns one after another.
fn joined(parts: &[ArrayRef], data_type: &DataType) -> Result<ArrayRef> {
    match parts {
        [] => Ok(arrow::array::new_empty_array(data_type)),
        [only] => Ok(only.clone()),
        _ => {
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            arrow::compute::concat(&parts).map_err(arrow_error)
        }
    }
}

fn weighted(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("weight", DataType::Int64, false)));
    Arc::new(Schema::new(fields))
}
