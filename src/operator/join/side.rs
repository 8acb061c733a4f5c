//! What one side of a join keeps: its rows, chained by their key.
//!
//! ```text
//!   keys  7 → key slot 0       heads [2, 1]        rows  slot 0  (7, 'a')  weight 1
//!         9 → key slot 1       next  [NO, NO, 0]         slot 1  (9, 'x')  weight 1
//!                                                        slot 2  (7, 'b')  weight 1
//! ```
//!
//! A row is found by its contents through the row store's index and leaves its chain through links
//! both ways, so that adding and removing a row costs the same under a key of a million rows as
//! under a key of one. Where rows expire by a time, an order by that time tells which may go: an
//! order of the keys where the time is one of the key's columns, since all rows of a key go
//! together, and otherwise of the rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};

use crate::base::EventTime;
use crate::delta::{DeltaBatch, KeyBatch, KeyTable, NO_SLOT};
use crate::error::{Error, Result};
use crate::operator::join::NullEquality;
use crate::operator::rows::{Fresh, Removal, RowStore, micros};
use crate::operator::{Scope, TableChange};

/// The rows of one input.
pub struct Side {
    key_columns: Vec<usize>,
    null_equality: NullEquality,

    rows: RowStore,
    keys: KeyTable,
    /// By key slot, the row slot at which the key's chain begins.
    heads: Vec<u32>,
    /// By row slot, its neighbours in the chain of its key, and the key.
    next: Vec<u32>,
    previous: Vec<u32>,
    key_of: Vec<u32>,
    /// Columns beside the key without which a row matches nothing.
    needed: Vec<usize>,
    expiry: Option<Expiry>,
}

/// The keys, or the rows, by the time at which they expire.
struct Expiry {
    column: usize,
    /// The time is a column of the key.
    is_by_key: bool,
    /// By key slot or row slot; stale for those that are gone or have no time.
    times: Vec<i64>,
    order: BTreeSet<(i64, u32)>,
}

impl Side {
    /// `expiry_column`: the column by whose time rows expire. `times`: the times that the join
    /// compares.
    ///
    /// # Errors
    /// 0A000 when a column's type cannot be kept; internal when the time is not one.
    pub fn new(
        schema: &SchemaRef,
        key_columns: &[usize],
        null_equality: NullEquality,
        removal: Removal,
        expiry_column: Option<usize>,
        times: &[usize],
    ) -> Result<Side> {
        let expiry = expiry_column.map(|column| {
            let data_type = schema.field(column).data_type();
            match data_type {
                DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(Expiry {
                    column,
                    is_by_key: key_columns.contains(&column),
                    times: Vec::new(),
                    order: BTreeSet::new(),
                }),
                other => Err(Error::internal(format!("rows cannot expire by a {other}"))),
            }
        });
        Ok(Side {
            key_columns: key_columns.to_vec(),
            null_equality,
            rows: RowStore::new(schema.clone(), removal)?,
            keys: KeyTable::new(&key_types(schema, key_columns))?,
            heads: Vec::new(),
            next: Vec::new(),
            previous: Vec::new(),
            key_of: Vec::new(),
            needed: times
                .iter()
                .copied()
                .filter(|time| !key_columns.contains(time))
                .collect(),
            expiry: expiry.transpose()?,
        })
    }

    /// Keeps the number of matches of each row.
    pub fn with_matches(mut self) -> Side {
        self.rows = self.rows.with_counts();
        self
    }

    pub fn rows(&self) -> &RowStore {
        &self.rows
    }

    pub fn rows_mut(&mut self) -> &mut RowStore {
        &mut self.rows
    }

    pub fn bytes(&self) -> usize {
        let links = self.heads.capacity()
            + self.next.capacity()
            + self.previous.capacity()
            + self.key_of.capacity();
        // A B-tree's nodes are two thirds full on average.
        let expiry = self.expiry.as_ref().map_or(0, |expiry| {
            expiry.times.capacity() * size_of::<i64>()
                + expiry.order.len() * size_of::<(i64, u32)>() * 3 / 2
        });
        self.rows.bytes() + self.keys.bytes() + links * size_of::<u32>() + expiry
    }

    /// Which rows of the side's input can match anything; `None`: all.
    pub fn matchable(&self, rows: &RecordBatch) -> Option<BooleanArray> {
        let keys = match self.null_equality {
            NullEquality::NullIsEqual => &[],
            NullEquality::NullIsUnequal => self.key_columns.as_slice(),
        };
        let nulls =
            keys.iter()
                .chain(&self.needed)
                .fold(None, |nulls: Option<NullBuffer>, &column| {
                    NullBuffer::union(nulls.as_ref(), rows.column(column).logical_nulls().as_ref())
                });
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0)?;
        Some(BooleanArray::new(nulls.into_inner(), None))
    }

    /// The keys of a batch of this side's input, for both sides' tables.
    pub fn key_batch(&self, rows: &RecordBatch) -> Result<KeyBatch> {
        self.key_batch_at(rows, &self.key_columns)
    }

    /// The keys of rows whose key columns stand elsewhere.
    pub fn key_batch_at(&self, rows: &RecordBatch, key_columns: &[usize]) -> Result<KeyBatch> {
        let columns: Vec<ArrayRef> = match key_columns.is_empty() {
            // Without key columns all rows have one key.
            true => vec![Arc::new(BooleanArray::from(vec![true; rows.num_rows()]))],
            false => key_columns
                .iter()
                .map(|&column| rows.column(column).clone())
                .collect(),
        };
        KeyBatch::new(&self.keys, &columns)
    }

    /// For each key the first row slot of its chain, or [`NO_SLOT`].
    pub fn chains(&self, keys: &KeyBatch) -> Vec<u32> {
        let mut slots = Vec::new();
        self.keys.lookup(keys, &mut slots);
        for slot in slots.iter_mut().filter(|slot| **slot != NO_SLOT) {
            *slot = self.heads[*slot as usize];
        }
        slots
    }

    /// The row slot after this one in its chain, or [`NO_SLOT`].
    #[inline]
    pub fn after(&self, slot: u32) -> u32 {
        self.next[slot as usize]
    }

    /// Adds the weights of the batch's rows. Returns the rows that are new.
    pub fn add(&mut self, batch: &DeltaBatch, keys: &KeyBatch) -> Result<Vec<Fresh>> {
        let mut slots = Vec::new();
        let fresh = self.rows.add(batch, &mut slots)?;
        let key_slots = self.key_slots(keys);
        self.link(batch.rows(), &key_slots, &fresh);
        Ok(fresh)
    }

    fn key_slots(&mut self, keys: &KeyBatch) -> Vec<u32> {
        let mut key_slots = Vec::new();
        let fresh = self.keys.insert(keys, &mut key_slots);
        self.heads.resize(self.keys.slots(), NO_SLOT);
        fresh
            .into_iter()
            .for_each(|key| self.heads[key as usize] = NO_SLOT);
        key_slots
    }

    /// Puts fresh rows of the batch at the front of their keys' chains.
    fn link(&mut self, batch: &RecordBatch, key_slots: &[u32], fresh: &[Fresh]) {
        let room = self.rows.slots();
        self.next.resize(room, NO_SLOT);
        self.previous.resize(room, NO_SLOT);
        self.key_of.resize(room, NO_SLOT);
        let times = self
            .expiry
            .as_ref()
            .map(|expiry| micros(batch.column(expiry.column)));
        for &Fresh { slot, row } in fresh {
            let key = key_slots[row as usize];
            let head = std::mem::replace(&mut self.heads[key as usize], slot);
            self.next[slot as usize] = head;
            self.previous[slot as usize] = NO_SLOT;
            self.key_of[slot as usize] = key;
            if head != NO_SLOT {
                self.previous[head as usize] = slot;
            }
            if let (Some(expiry), Some(times)) = (&mut self.expiry, &times) {
                match expiry.is_by_key {
                    true if head != NO_SLOT => {}
                    true => expiry.add(key, times, row as usize),
                    false => expiry.add(slot, times, row as usize),
                }
            }
        }
    }

    /// Slots of rows whose time is below the bound.
    pub fn expired(&self, bound: EventTime) -> Vec<u32> {
        let Some(expiry) = &self.expiry else {
            return Vec::new();
        };
        let gone = expiry.order.range(..(bound.0, 0)).map(|&(_, slot)| slot);
        if !expiry.is_by_key {
            return gone.collect();
        }
        let mut slots = Vec::new();
        for key in gone {
            let mut slot = self.heads[key as usize];
            while slot != NO_SLOT {
                slots.push(slot);
                slot = self.after(slot);
            }
        }
        slots
    }

    /// The least time of a kept row; [`EventTime::MAX`] when there is none, `None` when rows are
    /// not ordered by `column`.
    pub fn oldest(&self, column: usize) -> Option<EventTime> {
        let expiry = self
            .expiry
            .as_ref()
            .filter(|expiry| expiry.column == column)?;
        Some(
            expiry
                .order
                .first()
                .map_or(EventTime::MAX, |&(time, _)| EventTime(time)),
        )
    }

    /// Lets rows go; each slot holds one and is named once.
    pub fn release(&mut self, slots: &[u32]) -> Result<()> {
        for &slot in slots {
            self.unlink(slot);
        }
        self.rows.release(slots);
        if self.rows.shrink()? {
            debug_assert!(self.keys.is_empty(), "a key goes with its last row");
            let types = key_types(self.rows.schema(), &self.key_columns);
            self.keys = KeyTable::new(&types)?;
            for links in [
                &mut self.heads,
                &mut self.next,
                &mut self.previous,
                &mut self.key_of,
            ] {
                *links = Vec::new();
            }
            if let Some(expiry) = &mut self.expiry {
                expiry.times = Vec::new();
            }
        }
        Ok(())
    }

    fn unlink(&mut self, slot: u32) {
        if let Some(expiry) = self.expiry.as_mut().filter(|expiry| !expiry.is_by_key) {
            expiry.remove(slot);
        }
        let (previous, next) = (self.previous[slot as usize], self.next[slot as usize]);
        if next != NO_SLOT {
            self.previous[next as usize] = previous;
        }
        if previous != NO_SLOT {
            self.next[previous as usize] = next;
            return;
        }
        let key = self.key_of[slot as usize];
        self.heads[key as usize] = next;
        if next == NO_SLOT {
            self.keys.remove(key);
            if let Some(expiry) = self.expiry.as_mut().filter(|expiry| expiry.is_by_key) {
                expiry.remove(key);
            }
        }
    }

    pub fn changes(&mut self, scope: Scope, table: u32) -> Result<Vec<TableChange>> {
        self.rows.changes(scope, table)
    }

    /// Puts a block back; what its slots held before goes.
    pub fn restore(&mut self, change: &TableChange) -> Result<()> {
        let replaced = self.rows.replaced(change);
        for &slot in &replaced {
            self.unlink(slot);
        }
        self.rows.release(&replaced);
        let rows = self.rows.restore(change)?;
        if change.slots.is_empty() {
            return Ok(());
        }
        let keys = self.key_batch(&rows)?;
        let key_slots = self.key_slots(&keys);
        let numbers = 0..u32::try_from(change.slots.len()).expect("a block fits u32");
        let slots = change.slots.iter().copied().zip(numbers);
        let fresh: Vec<Fresh> = slots.map(|(slot, row)| Fresh { slot, row }).collect();
        self.link(&rows, &key_slots, &fresh);
        Ok(())
    }
}

impl Expiry {
    fn add(&mut self, slot: u32, times: &Int64Array, row: usize) {
        if self.times.len() <= slot as usize {
            self.times.resize(slot as usize + 1, 0);
        }
        // A key without a time matches only its like, for ever; a row without one is not kept.
        if times.is_valid(row) {
            self.times[slot as usize] = times.value(row);
            self.order.insert((times.value(row), slot));
        }
    }

    fn remove(&mut self, slot: u32) {
        if let Some(&time) = self.times.get(slot as usize) {
            self.order.remove(&(time, slot));
        }
    }
}

fn key_types(schema: &SchemaRef, key_columns: &[usize]) -> Vec<DataType> {
    match key_columns.is_empty() {
        true => vec![DataType::Boolean],
        false => key_columns
            .iter()
            .map(|&column| schema.field(column).data_type().clone())
            .collect(),
    }
}
