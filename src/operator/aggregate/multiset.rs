//! The multiset of arguments of every group: what an aggregate needs that a retraction can undo.
//!
//! Each (group, value) has an entry with its weight; entries of a group are chained. A value counts
//! while its weight is positive; when it comes or goes, what is derived follows: the number of
//! distinct values, their sum, their order. A step may pass through negative weights, but it does
//! not end with one.
//!
//! ```text
//!   entry  group  value  weight          group 0: distinct 2, sum 12, sorted {5, 7}
//!      0       0      5       2
//!      1       0      7       1    -  0 7  ──►    distinct 1, sum 5, sorted {5}; entry 1 is freed
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{filter, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt32Type};

use crate::delta::{KeyBatch, KeyTable, NO_SLOT, arrow_error};
use crate::error::{Error, Result};
use crate::operator::aggregate::change::Change;
use crate::operator::aggregate::order::{End, SortedValues, Transition};
use crate::operator::aggregate::store::{Groups, Reading, Store};
use crate::operator::aggregate::totals::TotalStore;
use crate::operator::evaluate::Failure;
use crate::operator::{Scope, TableChange};

/// The entry holds a key of the table and is in its group's chain.
const LIVE: u8 = 1;
/// The current step has touched the entry.
const TOUCHED: u8 = 2;
/// The entry has changed since the last checkpoint.
const CHANGED: u8 = 4;

/// Rows of some columns by group, with weights.
pub(super) struct Multiset {
    arguments: Vec<usize>,
    /// The entries' table in a checkpoint: group, values, weight.
    saved: SchemaRef,

    /// (group, values) to entries.
    entries: KeyTable,
    weights: Vec<i64>,
    flags: Vec<u8>,
    chain: Chain,
    derived: Derived,
    /// Entries with the flag of the same name, in the order in which they got it.
    touched: Vec<u32>,
    changed: Vec<u32>,
}

/// What follows from the values of a group that have a positive weight.
#[derive(Default)]
struct Derived {
    distinct: Vec<i64>,
    total: Option<TotalStore>,
    sorted: Option<SortedValues>,
}

impl Multiset {
    pub fn new(arguments: Vec<usize>, types: &[DataType]) -> Result<Multiset> {
        let mut key_types = vec![DataType::UInt32];
        key_types.extend_from_slice(types);
        let mut fields: Vec<Field> = key_types
            .iter()
            .enumerate()
            .map(|(at, data_type)| Field::new(format!("key{at}"), data_type.clone(), true))
            .collect();
        fields.push(Field::new("weight", DataType::Int64, false));
        Ok(Multiset {
            arguments,
            saved: Arc::new(Schema::new(fields)),
            entries: KeyTable::new(&key_types)?,
            weights: Vec::new(),
            flags: Vec::new(),
            chain: Chain::default(),
            derived: Derived::default(),
            touched: Vec::new(),
            changed: Vec::new(),
        })
    }

    fn value_type(&self) -> DataType {
        self.saved.field(1).data_type().clone()
    }

    /// Keeps the sum of the distinct values.
    pub fn keep_total(&mut self) -> Result<()> {
        if self.derived.total.is_none() {
            self.derived.total = Some(TotalStore::new(0, &self.value_type())?);
        }
        Ok(())
    }

    /// Keeps the values in order.
    pub fn keep_order(&mut self) -> Result<()> {
        if self.derived.sorted.is_none() {
            self.derived.sorted = Some(SortedValues::new(&self.value_type())?);
        }
        Ok(())
    }

    /// The rows of a group with their weights, in no particular order.
    pub fn rows(&self, slot: u32) -> Result<(Vec<ArrayRef>, Vec<i64>)> {
        let entries: Vec<u32> = self.chain.of(slot).collect();
        let mut columns = self.entries.columns(&entries)?;
        columns.remove(0);
        let weights = entries
            .iter()
            .map(|&entry| self.weights[entry as usize])
            .collect();
        Ok((columns, weights))
    }

    /// Adds rows of columns that all count.
    fn add(&mut self, columns: &[ArrayRef], change: &Change<'_>) -> Result<()> {
        let mut keys: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(change.slots.to_vec()))];
        keys.extend_from_slice(columns);
        let keys = KeyBatch::new(&self.entries, &keys)?;
        let mut entries = Vec::new();
        self.entries.insert(&keys, &mut entries);
        self.reserve();
        let mut transitions = Vec::new();
        change.each(|row, slot, weight| {
            let entry = entries[row];
            let place = entry as usize;
            let slot = u32::try_from(slot).expect("slots fit u32");
            if self.flags[place] & LIVE == 0 {
                self.flags[place] |= LIVE;
                self.chain.link(entry, slot);
            }
            if self.flags[place] & TOUCHED == 0 {
                self.flags[place] |= TOUCHED;
                self.touched.push(entry);
            }
            let was_there = self.weights[place] > 0;
            self.weights[place] += weight;
            let is_there = self.weights[place] > 0;
            if was_there != is_there {
                transitions.push(Transition {
                    row,
                    slot,
                    is_there,
                });
            }
        });
        self.derived.apply(columns, &transitions)
    }

    /// Room for as many entries as the table has.
    fn reserve(&mut self) {
        let entries = self.entries.slots();
        self.weights.resize(entries, 0);
        self.flags.resize(entries, 0);
        self.chain.reserve(entries);
    }

    /// Takes an entry out of the table.
    fn remove(&mut self, entry: u32) {
        self.entries.remove(entry);
        self.weights[entry as usize] = 0;
        self.flags[entry as usize] &= !LIVE;
        self.mark_changed(entry);
    }

    fn mark_changed(&mut self, entry: u32) {
        if self.flags[entry as usize] & CHANGED == 0 {
            self.flags[entry as usize] |= CHANGED;
            self.changed.push(entry);
        }
    }
}

impl Derived {
    fn apply(&mut self, columns: &[ArrayRef], transitions: &[Transition]) -> Result<()> {
        if transitions.is_empty() {
            return Ok(());
        }
        for transition in transitions {
            self.distinct[transition.slot as usize] += if transition.is_there { 1 } else { -1 };
        }
        if let Some(total) = &mut self.total {
            let rows = transitions
                .iter()
                .map(|t| u32::try_from(t.row).expect("rows fit u32"));
            let values = take(&columns[0], &UInt32Array::from_iter_values(rows), None);
            let slots: Vec<u32> = transitions.iter().map(|t| t.slot).collect();
            let signs: Vec<i64> = transitions
                .iter()
                .map(|t| if t.is_there { 1 } else { -1 })
                .collect();
            let change = Change {
                slots: &slots,
                weights: Some(&signs),
                valid: None,
            };
            total.add(&values.map_err(arrow_error)?, &change)?;
        }
        if let Some(sorted) = &mut self.sorted {
            sorted.apply(&columns[0], transitions)?;
        }
        Ok(())
    }
}

impl Store for Multiset {
    fn grow(&mut self, groups: usize) {
        self.chain.reserve_groups(groups);
        if self.derived.distinct.len() < groups {
            self.derived.distinct.resize(groups, 0);
        }
        if let Some(total) = &mut self.derived.total {
            total.grow(groups);
        }
    }

    fn update(&mut self, rows: &RecordBatch, change: &Change<'_>) -> Result<()> {
        let columns: Vec<ArrayRef> = self
            .arguments
            .iter()
            .map(|&column| rows.column(column).clone())
            .collect();
        let Some(valid) = change.valid else {
            return self.add(&columns, change);
        };
        let mask = BooleanArray::new(valid.clone(), None);
        let pick = |column: &ArrayRef| filter(column, &mask).map_err(arrow_error);
        let columns = columns.iter().map(pick).collect::<Result<Vec<_>>>()?;
        let slots: Vec<u32> = valid.set_indices().map(|row| change.slots[row]).collect();
        let pick = |weights: &[i64]| valid.set_indices().map(|row| weights[row]).collect();
        let weights: Option<Vec<i64>> = change.weights.map(pick);
        let change = Change {
            slots: &slots,
            weights: weights.as_deref(),
            valid: None,
        };
        self.add(&columns, &change)
    }

    fn settle(&mut self, slots: &[u32]) -> Result<()> {
        for entry in std::mem::take(&mut self.touched) {
            let place = entry as usize;
            self.flags[place] &= !TOUCHED;
            match self.weights[place] {
                ..0 => return Err(Error::internal("a row was retracted that was never there")),
                0 => {
                    self.chain.unlink(entry);
                    self.remove(entry);
                }
                _ => self.mark_changed(entry),
            }
        }
        match &mut self.derived.total {
            Some(total) => total.settle(slots),
            None => Ok(()),
        }
    }

    fn read(
        &self,
        reading: &Reading,
        groups: Groups<'_>,
        failures: &mut Vec<Failure>,
    ) -> Result<ArrayRef> {
        let distinct = || {
            groups
                .slots
                .iter()
                .map(|&slot| self.derived.distinct[slot as usize])
        };
        let missing = || Error::internal(format!("a multiset is not kept for {reading:?}"));
        match reading {
            Reading::Distinct => Ok(Arc::new(Int64Array::from_iter_values(distinct()))),
            Reading::Total(_) => {
                let total = self.derived.total.as_ref().ok_or_else(missing)?;
                let counts: Vec<i64> = distinct().collect();
                total.read(
                    reading,
                    Groups {
                        slots: groups.slots,
                        counts: &counts,
                    },
                    failures,
                )
            }
            Reading::Least | Reading::Greatest => {
                let sorted = self.derived.sorted.as_ref().ok_or_else(missing)?;
                let end = match reading {
                    Reading::Least => End::Least,
                    _ => End::Greatest,
                };
                sorted.ends(end, groups.slots)
            }
            Reading::All | Reading::Any | Reading::Stock => Err(missing()),
        }
    }

    fn clear(&mut self, slots: &[u32]) -> Result<()> {
        for &slot in slots {
            let entries: Vec<u32> = self.chain.of(slot).collect();
            self.chain.forget(slot);
            entries.into_iter().for_each(|entry| self.remove(entry));
            if let Some(sorted) = &mut self.derived.sorted {
                sorted.remove_group(slot);
            }
            self.derived.distinct[slot as usize] = 0;
        }
        match &mut self.derived.total {
            Some(total) => total.clear(slots),
            None => Ok(()),
        }
    }

    fn bytes(&self) -> usize {
        let derived = &self.derived;
        self.entries.bytes()
            + self.weights.capacity() * 8
            + self.flags.capacity()
            + self.chain.bytes()
            + derived.distinct.capacity() * 8
            + derived.total.as_ref().map_or(0, TotalStore::bytes)
            + derived.sorted.as_ref().map_or(0, SortedValues::bytes)
            + (self.touched.capacity() + self.changed.capacity()) * 4
    }

    fn changes(&mut self, scope: Scope) -> Result<Option<TableChange>> {
        let changed = std::mem::take(&mut self.changed);
        for &entry in &changed {
            self.flags[entry as usize] &= !CHANGED;
        }
        let is_live = |entry: &u32| self.flags[*entry as usize] & LIVE != 0;
        let (slots, freed) = match scope {
            Scope::All => (self.entries.live_slots(), Vec::new()),
            Scope::Changed => changed.into_iter().partition(is_live),
        };
        if slots.is_empty() && freed.is_empty() {
            return Ok(None);
        }
        let mut columns = self.entries.columns(&slots)?;
        let weights = slots.iter().map(|&entry| self.weights[entry as usize]);
        columns.push(Arc::new(Int64Array::from_iter_values(weights)));
        let rows = RecordBatch::try_new(self.saved.clone(), columns).map_err(arrow_error)?;
        Ok(Some(TableChange {
            table: 0,
            slots,
            rows,
            freed,
        }))
    }

    fn restore(&mut self, change: TableChange) -> Result<()> {
        let columns = change.rows.columns();
        let keys = KeyBatch::new(&self.entries, &columns[..columns.len() - 1])?;
        self.entries.restore(&keys, &change.slots);
        self.reserve();
        let weights = columns[columns.len() - 1]
            .as_primitive::<Int64Type>()
            .values();
        for (&entry, &weight) in change.slots.iter().zip(weights) {
            self.weights[entry as usize] = weight;
        }
        for &entry in &change.freed {
            if self.entries.holds(entry) {
                self.entries.remove(entry);
                self.weights[entry as usize] = 0;
            }
        }
        Ok(())
    }

    fn rebuild(&mut self, groups: usize) -> Result<()> {
        self.grow(groups);
        let entries = self.entries.live_slots();
        let columns = self.entries.columns(&entries)?;
        let owners = columns[0].as_primitive::<UInt32Type>().values();
        let mut transitions = Vec::new();
        for (row, (&entry, &slot)) in entries.iter().zip(owners).enumerate() {
            self.flags[entry as usize] |= LIVE;
            self.chain.link(entry, slot);
            if self.weights[entry as usize] > 0 {
                transitions.push(Transition {
                    row,
                    slot,
                    is_there: true,
                });
            }
        }
        self.derived.apply(&columns[1..], &transitions)
    }
}

/// Doubly linked lists of entries, one per group.
#[derive(Default)]
struct Chain {
    /// The first entry of each group.
    heads: Vec<u32>,
    links: Vec<Link>,
}

#[derive(Clone, Copy)]
struct Link {
    owner: u32,
    previous: u32,
    next: u32,
}

const UNLINKED: Link = Link {
    owner: NO_SLOT,
    previous: NO_SLOT,
    next: NO_SLOT,
};

impl Chain {
    fn reserve(&mut self, entries: usize) {
        self.links.resize(entries, UNLINKED);
    }

    fn reserve_groups(&mut self, groups: usize) {
        if self.heads.len() < groups {
            self.heads.resize(groups, NO_SLOT);
        }
    }

    fn link(&mut self, entry: u32, slot: u32) {
        let next = std::mem::replace(&mut self.heads[slot as usize], entry);
        if next != NO_SLOT {
            self.links[next as usize].previous = entry;
        }
        self.links[entry as usize] = Link {
            owner: slot,
            previous: NO_SLOT,
            next,
        };
    }

    fn unlink(&mut self, entry: u32) {
        let Link {
            owner,
            previous,
            next,
        } = std::mem::replace(&mut self.links[entry as usize], UNLINKED);
        match previous {
            NO_SLOT => self.heads[owner as usize] = next,
            previous => self.links[previous as usize].next = next,
        }
        if next != NO_SLOT {
            self.links[next as usize].previous = previous;
        }
    }

    /// The entries of a group.
    fn of(&self, slot: u32) -> impl Iterator<Item = u32> {
        let linked = |entry: u32| (entry != NO_SLOT).then_some(entry);
        let head = self.heads.get(slot as usize).copied().and_then(linked);
        std::iter::successors(head, move |&entry| linked(self.links[entry as usize].next))
    }

    /// Empties a group's list at once.
    fn forget(&mut self, slot: u32) {
        if let Some(head) = self.heads.get_mut(slot as usize) {
            *head = NO_SLOT;
        }
    }

    fn bytes(&self) -> usize {
        self.heads.capacity() * 4 + self.links.capacity() * size_of::<Link>()
    }
}
