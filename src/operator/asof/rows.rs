//! One side of an ASOF join: its rows in the order of key and time.
//!
//! ```text
//!   key 0   @10 slot 2   @15 slot 0          order   (0, 10, 2) (0, 15, 0) (1, 12, 1)
//!   key 1   @12 slot 1                       entry   (10, 2) (12, 1) (15, 0)
//! ```
//!
//! Where the nearest row is looked for in the future, times are kept with the opposite sign, so
//! that the nearest one is always the last one before.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;

use crate::delta::DeltaBatch;
use crate::error::Result;
use crate::operator::rows::{Removal, RowStore, Touched, micros};
use crate::operator::{Scope, TableChange};

/// Rows with their places in time.
pub struct TimedRows {
    time_column: usize,
    /// 1, or −1 where times are kept with the opposite sign.
    sign: i64,
    is_append_only: bool,

    rows: RowStore,
    /// By slot; stale for those that are free.
    keys: Vec<u32>,
    times: Vec<i64>,
    order: BTreeSet<(u32, i64, u32)>,
    /// Rows that came in this step, where they never leave.
    fresh: Vec<Touched>,
}

impl TimedRows {
    /// # Errors
    /// 0A000, when a column's type cannot be kept.
    pub fn new(
        schema: &arrow::datatypes::SchemaRef,
        time_column: usize,
        is_past: bool,
        is_append_only: bool,
    ) -> Result<TimedRows> {
        let removal = match is_append_only {
            true => Removal::Never,
            false => Removal::ByRow,
        };
        Ok(TimedRows {
            time_column,
            sign: if is_past { 1 } else { -1 },
            is_append_only,
            rows: RowStore::new(schema.clone(), removal)?,
            keys: Vec::new(),
            times: Vec::new(),
            order: BTreeSet::new(),
            fresh: Vec::new(),
        })
    }

    pub fn rows(&self) -> &RowStore {
        &self.rows
    }

    pub fn key(&self, slot: u32) -> u32 {
        self.keys[slot as usize]
    }

    /// The row's time, signed.
    pub fn time(&self, slot: u32) -> i64 {
        self.times[slot as usize]
    }

    /// A time as it is kept here, and one that is kept here as it is.
    pub fn signed(&self, time: i64) -> i64 {
        time.saturating_mul(self.sign)
    }

    /// Adds the weights of the batch's rows. Returns the slots of those that are new.
    pub fn add(&mut self, batch: &DeltaBatch, keys: &[u32]) -> Result<Vec<u32>> {
        let fresh = self.rows.add(batch, &mut Vec::new())?;
        let of_row: Vec<u32> = fresh.iter().map(|f| keys[f.row as usize]).collect();
        let slots: Vec<u32> = fresh.iter().map(|fresh| fresh.slot).collect();
        let rows: Vec<usize> = fresh.iter().map(|fresh| fresh.row as usize).collect();
        self.link(batch.rows(), &slots, &of_row, &rows);
        if self.is_append_only {
            let touched = |&slot: &u32| Touched {
                slot,
                weight: 0,
                count: 0,
            };
            self.fresh.extend(slots.iter().map(touched));
        }
        Ok(slots)
    }

    fn link(&mut self, batch: &RecordBatch, slots: &[u32], keys: &[u32], rows: &[usize]) {
        let room = self.rows.slots();
        self.keys.resize(room, 0);
        self.times.resize(room, 0);
        let times = micros(batch.column(self.time_column));
        for ((&slot, &key), &row) in slots.iter().zip(keys).zip(rows) {
            let time = self.signed(times.value(row));
            self.keys[slot as usize] = key;
            self.times[slot as usize] = time;
            self.order.insert((key, time, slot));
        }
    }

    /// The slots that changed in the step, as they were before, in the order of their first change.
    pub fn take_touched(&mut self) -> Vec<Touched> {
        match self.is_append_only {
            true => std::mem::take(&mut self.fresh),
            false => self.rows.take_touched(),
        }
    }

    /// The rows of a key that are there at its last time before `end`, or at it where `is_in`.
    pub fn last(&self, key: u32, end: i64, is_in: bool) -> Vec<u32> {
        let mut found = Vec::new();
        for &(_, time, slot) in self.range(key, i64::MIN, end, is_in).rev() {
            if found.first().is_some_and(|&first| self.time(first) != time) {
                break;
            }
            if self.rows.weight(slot) > 0 {
                found.push(slot);
            }
        }
        found
    }

    /// The first time of a key's rows that are there after `start`.
    pub fn next_time(&self, key: u32, start: i64) -> Option<i64> {
        let from = (key, start.checked_add(1)?, 0);
        let mut after = self.order.range(from..=(key, i64::MAX, u32::MAX));
        let next = after.find(|&&(_, _, slot)| self.rows.weight(slot) > 0);
        next.map(|&(_, time, _)| time)
    }

    /// The rows of a key from `start` on, up to `end`, and at `end` where `is_in`.
    pub fn range(
        &self,
        key: u32,
        start: i64,
        end: i64,
        is_in: bool,
    ) -> impl DoubleEndedIterator<Item = &(u32, i64, u32)> {
        let last = match is_in {
            true => (key, end, u32::MAX),
            false => (key, end, 0),
        };
        let first = (key, start, 0);
        let is_empty = first > last;
        let range = if is_empty {
            first..=first
        } else {
            first..=last
        };
        // Slot 0 at an end that is out is one too many.
        self.order
            .range(range)
            .filter(move |&&(_, time, _)| !is_empty && (is_in || time < end))
    }

    /// Lets rows go; each slot holds one and is named once.
    pub fn release(&mut self, slots: &[u32]) -> Result<()> {
        for &slot in slots {
            let entry = (self.key(slot), self.time(slot), slot);
            self.order.remove(&entry);
        }
        self.rows.release(slots);
        if self.rows.shrink()? {
            self.keys = Vec::new();
            self.times = Vec::new();
        }
        Ok(())
    }

    pub fn bytes(&self) -> usize {
        // A B-tree's nodes are two thirds full on average.
        self.rows.bytes()
            + self.keys.capacity() * size_of::<u32>()
            + self.times.capacity() * size_of::<i64>()
            + self.order.len() * size_of::<(u32, i64, u32)>() * 3 / 2
    }

    pub fn changes(&mut self, scope: Scope, table: u32) -> Result<Vec<TableChange>> {
        self.rows.changes(scope, table)
    }

    /// Puts a block back whose slots have been let go. Returns the rows.
    pub fn restore(&mut self, change: &TableChange) -> Result<RecordBatch> {
        self.rows.restore(change)
    }

    /// Gives rows that have been put back their keys.
    pub fn place(&mut self, rows: &RecordBatch, slots: &[u32], keys: &[u32]) {
        let numbers: Vec<usize> = (0..slots.len()).collect();
        self.link(rows, slots, keys, &numbers);
    }
}
