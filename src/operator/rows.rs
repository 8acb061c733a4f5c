//! A multiset of rows by slot: what joins, gates and rankings keep.
//!
//! Every distinct row has a slot with its weight; the row is found again by an index over a hash of
//! all its columns, so that a retraction costs the same whatever else the owner chains the row to.
//! Where rows are only ever added there is no index, and every row gets a slot of its own; an owner
//! that keeps rows in an order finds them by it.
//!
//! ```text
//!   add   + (7, 'a')      slot 0  (7, 'a')  weight 1
//!         + (7, 'b')      slot 1  (7, 'b')  weight 1
//!         + (7, 'a')      slot 0            weight 2
//!         - (7, 'b')      slot 1            weight 0: the owner releases it when the step ends
//! ```
//!
//! Rows are equal as in GROUP BY: NULL to NULL, −0.0 to 0.0, NaN to NaN. Within a step a weight may
//! be below zero (a row may leave before it comes); the owner checks that it is not at the end.
//!
//! Bounds: at most 2^32 − 2 rows. A store that held many rows and is empty gives its memory back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, PrimitiveArray, RecordBatch, RecordBatchOptions,
    make_array,
};
use arrow::compute::unary;
use arrow::datatypes::{
    DataType, Field, FieldRef, Float32Type, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit,
};
use datafusion::common::hash_utils::{RandomState, create_hashes};
use hashbrown::HashTable;

use crate::delta::{Arena, DeltaBatch, NO_SLOT, Weights, arrow_error};
use crate::error::{Error, Result, SqlState};
use crate::operator::{Scope, TableChange};

/// Slots of one block of a checkpoint: small enough to be written out without a second copy of the
/// state in memory, large enough for a block's header to vanish.
const BLOCK_SLOTS: usize = 64 * 1024;

/// A store with room for fewer slots keeps its memory when it becomes empty: giving it back and
/// asking for it again would cost more than a few pages are worth.
const KEPT_SLOTS: usize = 1024;

/// The seed is fixed: what a store does must not depend on the run.
const SEED: u64 = 0x6a6f_696e_726f_7773;

/// How a row that is taken away is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// By its whole contents.
    ByRow,
    /// Rows are never taken away by contents: each row added gets its own slot.
    Never,
    /// The owner finds rows itself and says which slot's weight changes.
    ByOwner,
}

/// A row that was given a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    pub slot: u32,
    /// Its number in the batch it came in.
    pub row: u32,
}

/// A slot changed in this step, as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    pub slot: u32,
    pub weight: i64,
    /// The owner's count; 0 in a store without counts.
    pub count: i64,
}

/// Rows with weights, and where the owner wants it a count per row.
pub struct RowStore {
    schema: SchemaRef,
    removal: Removal,

    arena: Arena,
    /// By slot: how often the row is there; 0 = free, or about to be.
    weights: Vec<i64>,
    counts: Option<Vec<i64>>,
    /// By slot, the hash of the row; empty where rows are not found by contents.
    hashes: Vec<u32>,
    index: HashTable<u32>,
    free: Vec<u32>,
    /// Slots were put back in any order: `free` must be made again before a slot is taken.
    is_free_stale: bool,
    rows: usize,

    /// Slots changed in this step, once each, with a bit per slot to know them by.
    touched: Vec<Touched>,
    is_touched: Vec<u64>,
    has_repeats: bool,
    /// Slots changed since the last checkpoint; a bit each.
    dirty: Vec<u64>,

    /// Stored rows that were compared with a row, ever: the work that an index is to save.
    compared: u64,
}

impl RowStore {
    /// # Errors
    /// 0A000, when a column's type cannot be kept.
    pub fn new(schema: SchemaRef, removal: Removal) -> Result<RowStore> {
        Ok(RowStore {
            arena: arena(&schema)?,
            schema,
            removal,
            weights: Vec::new(),
            counts: None,
            hashes: Vec::new(),
            index: HashTable::new(),
            free: Vec::new(),
            is_free_stale: false,
            rows: 0,
            touched: Vec::new(),
            is_touched: Vec::new(),
            has_repeats: false,
            dirty: Vec::new(),
            compared: 0,
        })
    }

    /// Keeps a number per row, 0 for a fresh one, that the owner counts in.
    pub fn with_counts(mut self) -> RowStore {
        self.counts = Some(Vec::new());
        self
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Slots that hold a row.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// One past the highest slot given out: how long the owner's per-slot vectors must be.
    pub fn slots(&self) -> usize {
        self.weights.len()
    }

    pub fn weight(&self, slot: u32) -> i64 {
        self.weights[slot as usize]
    }

    /// # Panics
    /// When the store keeps no counts.
    pub fn count(&self, slot: u32) -> i64 {
        self.counts.as_ref().expect("a store with counts")[slot as usize]
    }

    /// # Panics
    /// As [`RowStore::count`].
    pub fn add_count(&mut self, slot: u32, number: i64) {
        self.touch(slot);
        self.counts.as_mut().expect("a store with counts")[slot as usize] += number;
    }

    /// Stored rows that were compared with a row, ever.
    pub fn compared(&self) -> u64 {
        self.compared
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.arena.bytes()
            + self.weights.capacity() * size_of::<i64>()
            + self.counts.as_ref().map_or(0, Vec::capacity) * size_of::<i64>()
            + (self.hashes.capacity() + self.free.capacity()) * size_of::<u32>()
            + self.index.allocation_size()
            + self.touched.capacity() * size_of::<Touched>()
            + (self.is_touched.capacity() + self.dirty.capacity()) * size_of::<u64>()
    }

    /// Adds the weights of the batch's rows and puts each row's slot into `slots` (cleared first).
    /// Returns the rows that were given a slot.
    ///
    /// # Errors
    /// Internal, when a row leaves a store that rows never leave.
    pub fn add(&mut self, batch: &DeltaBatch, slots: &mut Vec<u32>) -> Result<Vec<Fresh>> {
        slots.clear();
        self.refresh_free();
        let fresh = match self.removal {
            Removal::Never => self.append(batch, slots)?,
            Removal::ByOwner => return Err(Error::internal("the owner of rows adds them itself")),
            Removal::ByRow => self.find_or_take(batch, slots)?,
        };
        for (row, &slot) in slots.iter().enumerate() {
            self.has_repeats |= !self.touch(slot);
            self.weights[slot as usize] += batch.weights().get(row);
        }
        Ok(fresh)
    }

    /// Gives each row of the columns a slot and the weight that is said, not 0, where the owner
    /// finds rows itself. Returns the slots.
    pub fn put(&mut self, columns: &[ArrayRef], weights: &[i64]) -> Result<Vec<u32>> {
        assert_eq!(self.removal, Removal::ByOwner, "rows are found by someone");
        self.refresh_free();
        let slots: Vec<u32> = weights.iter().map(|_| self.take_slot()).collect();
        let rows: Vec<u32> = (0..slots.len()).map(number).collect();
        self.write(&slots, columns, &rows)?;
        for (&slot, &weight) in slots.iter().zip(weights) {
            self.set_weight(slot, weight);
        }
        Ok(slots)
    }

    /// Says how often a row is there, where the owner finds rows itself; it releases what is at 0.
    pub fn set_weight(&mut self, slot: u32, weight: i64) {
        self.touch(slot);
        self.weights[slot as usize] = weight;
    }

    /// Has the next checkpoint save a slot again: what its owner knows of it has changed.
    pub fn mark(&mut self, slot: u32) {
        let (word, bit) = place(slot);
        self.dirty[word] |= bit;
    }

    /// The bytes of a slot in a column of bytes.
    #[inline]
    pub fn bytes_of(&self, column: usize, slot: u32) -> &[u8] {
        self.arena.bytes_of(column, slot)
    }

    fn refresh_free(&mut self) {
        if self.is_free_stale {
            let free = (0..self.weights.len())
                .rev()
                .filter(|&slot| self.weights[slot] == 0);
            self.free = free.map(number).collect();
            self.is_free_stale = false;
        }
    }

    fn append(&mut self, batch: &DeltaBatch, slots: &mut Vec<u32>) -> Result<Vec<Fresh>> {
        if !batch.is_append_only() {
            return Err(Error::internal(
                "an input that only grows was asked to remove a row",
            ));
        }
        slots.extend((0..batch.len()).map(|_| self.take_slot()));
        let rows: Vec<u32> = (0..batch.len()).map(number).collect();
        self.write(slots, batch.rows().columns(), &rows)?;
        Ok(slots
            .iter()
            .zip(rows)
            .map(|(&slot, row)| Fresh { slot, row })
            .collect())
    }

    fn find_or_take(&mut self, batch: &DeltaBatch, slots: &mut Vec<u32>) -> Result<Vec<Fresh>> {
        let columns: Vec<ArrayRef> = batch.rows().columns().iter().map(canonical).collect();
        let hashes = row_hashes(&columns, batch.len())?;
        let mut fresh = Vec::new();
        let (mut suspects, mut suspect_rows) = (Vec::new(), Vec::new());
        for (row, &hash) in hashes.iter().enumerate() {
            let row = number(row);
            let candidate = self.candidates(hash).next();
            match candidate {
                Some(slot) => {
                    suspects.push(slot);
                    suspect_rows.push(row);
                    slots.push(slot);
                }
                None => {
                    let slot = self.take_indexed(hash);
                    fresh.push(Fresh { slot, row });
                    slots.push(slot);
                }
            }
        }
        let (taken, rows): (Vec<u32>, Vec<u32>) =
            fresh.iter().map(|fresh| (fresh.slot, fresh.row)).unzip();
        self.write(&taken, &columns, &rows)?;
        let is_equal = self.arena.equal(&suspects, &columns, &suspect_rows)?;
        self.compared += u64::try_from(suspects.len()).expect("rows of a batch fit u64");
        let unequal = suspect_rows
            .iter()
            .zip(is_equal)
            .filter(|(_, is_equal)| !is_equal);
        for (&row, _) in unequal {
            // Another row has the same hash: one in 2^32, so one at a time.
            let hash = hashes[row as usize];
            let slot = match self.find(hash, &columns, row)? {
                Some(slot) => slot,
                None => {
                    let slot = self.take_indexed(hash);
                    self.write(&[slot], &columns, &[row])?;
                    fresh.push(Fresh { slot, row });
                    slot
                }
            };
            slots[row as usize] = slot;
        }
        Ok(fresh)
    }

    fn candidates(&self, hash: u32) -> impl Iterator<Item = u32> + '_ {
        let slots = self.index.iter_hash(spread(hash)).copied();
        slots.filter(move |&slot| self.hashes[slot as usize] == hash)
    }

    fn find(&mut self, hash: u32, columns: &[ArrayRef], row: u32) -> Result<Option<u32>> {
        let candidates: Vec<u32> = self.candidates(hash).collect();
        self.compared += u64::try_from(candidates.len()).expect("rows of a store fit u64");
        for slot in candidates {
            if self.arena.equal(&[slot], columns, &[row])?[0] {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    fn take_indexed(&mut self, hash: u32) -> u32 {
        let slot = self.take_slot();
        self.hashes[slot as usize] = hash;
        let hashes = &self.hashes;
        self.index
            .insert_unique(spread(hash), slot, |&slot| spread(hashes[slot as usize]));
        slot
    }

    fn take_slot(&mut self) -> u32 {
        self.rows += 1;
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        let slot = number(self.weights.len());
        assert!(slot != NO_SLOT, "a store has fewer than 2^32 - 1 rows");
        self.grow(self.weights.len() + 1);
        slot
    }

    fn grow(&mut self, slots: usize) {
        if slots <= self.weights.len() {
            return;
        }
        self.weights.resize(slots, 0);
        if let Some(counts) = &mut self.counts {
            counts.resize(slots, 0);
        }
        if self.removal == Removal::ByRow {
            self.hashes.resize(slots, 0);
        }
        let words = slots.div_ceil(64);
        self.is_touched.resize(words.max(self.is_touched.len()), 0);
        self.dirty.resize(words.max(self.dirty.len()), 0);
    }

    fn write(&mut self, slots: &[u32], columns: &[ArrayRef], rows: &[u32]) -> Result<()> {
        self.arena.grow(self.weights.len());
        self.arena.write(slots, columns, rows)
    }

    /// Remembers a slot as it is before its first change in the step. Returns whether it is that.
    fn touch(&mut self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        self.dirty[word] |= bit;
        // Nobody asks for the past of a row that neither leaves nor counts.
        if self.removal != Removal::ByRow && self.counts.is_none() {
            return true;
        }
        if self.is_touched[word] & bit != 0 {
            return false;
        }
        self.is_touched[word] |= bit;
        let weight = self.weights[slot as usize];
        let count = self
            .counts
            .as_ref()
            .map_or(0, |counts| counts[slot as usize]);
        self.touched.push(Touched {
            slot,
            weight,
            count,
        });
        true
    }

    /// Whether some row was added to more than once in this step, so that its changes may cancel.
    pub fn has_repeats(&self) -> bool {
        self.has_repeats
    }

    /// The slots changed since this was last called, once each, in the order of their first change.
    pub fn take_touched(&mut self) -> Vec<Touched> {
        self.has_repeats = false;
        let touched = std::mem::take(&mut self.touched);
        for each in &touched {
            let (word, bit) = place(each.slot);
            self.is_touched[word] &= !bit;
        }
        touched
    }

    /// Frees slots, whatever their weight. Each must hold a row and be named once.
    pub fn release(&mut self, slots: &[u32]) {
        for &slot in slots {
            if self.removal == Removal::ByRow {
                let hash = spread(self.hashes[slot as usize]);
                let entry = self.index.find_entry(hash, |&each| each == slot);
                entry
                    .unwrap_or_else(|_| panic!("slot {slot} holds a row"))
                    .remove();
            }
            self.weights[slot as usize] = 0;
            if let Some(counts) = &mut self.counts {
                counts[slot as usize] = 0;
            }
            let (word, bit) = place(slot);
            self.dirty[word] |= bit;
        }
        self.arena.release(slots);
        self.free.extend_from_slice(slots);
        self.rows -= slots.len();
    }

    /// Gives the memory of an empty store back. Returns whether it did: no slot is in use then.
    pub fn shrink(&mut self) -> Result<bool> {
        if self.rows > 0 || self.weights.len() < KEPT_SLOTS {
            return Ok(false);
        }
        let dirty = std::mem::take(&mut self.dirty);
        let compared = self.compared;
        let mut empty = RowStore::new(self.schema.clone(), self.removal)?;
        if self.counts.is_some() {
            empty = empty.with_counts();
        }
        *self = RowStore {
            dirty,
            compared,
            ..empty
        };
        Ok(true)
    }

    /// The rows in the slots, in their order.
    pub fn gather(&self, slots: &[u32]) -> Result<RecordBatch> {
        let columns = match slots.is_empty() {
            true => return Ok(RecordBatch::new_empty(self.schema.clone())),
            false => self.arena.gather(slots)?,
        };
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(arrow_error)
    }

    /// One column of the rows in the slots, in their order.
    pub fn gather_column(&self, column: usize, slots: &[u32]) -> Result<ArrayRef> {
        self.arena.gather_column(column, slots)
    }

    /// What changed since the last call, as blocks of state table `table`. The rows carry weight
    /// and count after their columns. The step must be complete: every slot in use has a weight.
    pub fn changes(&mut self, scope: Scope, table: u32) -> Result<Vec<TableChange>> {
        let slots = self.weights.len().max(self.dirty.len() * 64);
        let mut changes = Vec::new();
        for first in (0..slots).step_by(BLOCK_SLOTS) {
            let block = first..(first + BLOCK_SLOTS).min(slots);
            let (mut live, mut freed) = (Vec::new(), Vec::new());
            for slot in block {
                let is_dirty = self.dirty[slot / 64] & (1 << (slot % 64)) != 0;
                let is_live = self.weights.get(slot).is_some_and(|&weight| weight != 0);
                match (scope, is_live) {
                    (Scope::All, true) => live.push(number(slot)),
                    (Scope::Changed, true) if is_dirty => live.push(number(slot)),
                    (Scope::Changed, false) if is_dirty => freed.push(number(slot)),
                    _ => {}
                }
            }
            if live.is_empty() && freed.is_empty() {
                continue;
            }
            let rows = self.saved(&live)?;
            changes.push(TableChange {
                table,
                slots: live,
                rows,
                freed,
            });
        }
        self.dirty.fill(0);
        // Of slots that are given back nothing more is known than that they are free.
        self.dirty.truncate(self.weights.len().div_ceil(64));
        Ok(changes)
    }

    fn saved(&self, slots: &[u32]) -> Result<RecordBatch> {
        let pick = |values: &Vec<i64>| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(
                slots.iter().map(|&slot| values[slot as usize]),
            ))
        };
        let mut columns = self.arena.gather(slots)?;
        let mut fields: Vec<FieldRef> = self.schema.fields().iter().cloned().collect();
        columns.push(pick(&self.weights));
        fields.push(Arc::new(Field::new("weight", DataType::Int64, false)));
        if let Some(counts) = &self.counts {
            columns.push(pick(counts));
            fields.push(Arc::new(Field::new("count", DataType::Int64, false)));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(arrow_error)
    }

    /// The slots of a block that hold a row now: the owner lets go of them, and
    /// [`RowStore::release`]s them, before it puts the block back.
    pub fn replaced(&self, change: &TableChange) -> Vec<u32> {
        let named = change.slots.iter().chain(&change.freed).copied();
        named
            .filter(|&slot| self.weights.get(slot as usize).is_some_and(|&w| w != 0))
            .collect()
    }

    /// Puts rows back into exactly their slots. Returns the rows' columns.
    ///
    /// # Errors
    /// XX001, when the block is not one of this store.
    pub fn restore(&mut self, change: &TableChange) -> Result<RecordBatch> {
        let width = self.schema.fields().len();
        let numbers = if self.counts.is_some() { 2 } else { 1 };
        let columns = change.rows.columns();
        let fits = columns.len() == width + numbers
            && columns[..width]
                .iter()
                .zip(self.schema.fields())
                .all(|(column, field)| column.data_type() == field.data_type())
            && columns[width..]
                .iter()
                .all(|column| column.data_type() == &DataType::Int64)
            && change.rows.num_rows() == change.slots.len();
        if !fits {
            let message = "a block of kept rows does not have the columns of its operator";
            return Err(Error::new(SqlState::DATA_CORRUPTED, message));
        }
        let columns = &columns[..width];
        let highest = change
            .slots
            .iter()
            .max()
            .map_or(0, |&slot| slot as usize + 1);
        self.grow(highest);
        let rows: Vec<u32> = (0..change.slots.len()).map(number).collect();
        self.write(&change.slots, columns, &rows)?;
        let weights = change.rows.column(width).as_primitive::<Int64Type>();
        let counts = change
            .rows
            .columns()
            .get(width + 1)
            .map(|c| c.as_primitive::<Int64Type>());
        let hashes = match self.removal {
            Removal::ByRow => row_hashes(columns, change.slots.len())?,
            Removal::Never | Removal::ByOwner => Vec::new(),
        };
        for (row, &slot) in change.slots.iter().enumerate() {
            self.weights[slot as usize] = weights.value(row);
            if let (Some(kept), Some(counts)) = (&mut self.counts, counts) {
                kept[slot as usize] = counts.value(row);
            }
            if let Some(&hash) = hashes.get(row) {
                self.hashes[slot as usize] = hash;
                let all = &self.hashes;
                self.index
                    .insert_unique(spread(hash), slot, |&slot| spread(all[slot as usize]));
            }
        }
        self.rows += change.slots.len();
        self.is_free_stale = true;
        let options = RecordBatchOptions::new().with_row_count(Some(change.slots.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns.to_vec(), &options)
            .map_err(arrow_error)
    }
}

fn arena(schema: &SchemaRef) -> Result<Arena> {
    let types: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.data_type().clone())
        .collect();
    Arena::new(&types)
}

/// One hash per row, equal for equal rows of canonical columns.
fn row_hashes(columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
    let mut hashes = vec![0u64; rows];
    create_hashes(columns, &RandomState::with_seed(SEED), &mut hashes)
        .map_err(|cause| Error::internal(format!("hash of a row: {cause}")))?;
    // Folded, because a table takes its tag and its place from different ends.
    let fold = |hash: u64| u32::try_from((hash ^ (hash >> 32)) & 0xffff_ffff);
    Ok(hashes
        .into_iter()
        .map(|hash| fold(hash).expect("32 bits are left"))
        .collect())
}

/// A 64-bit hash from the kept half: hashbrown takes its tag from the top bits.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The column with −0.0 as 0.0 and every NaN as one, so that equal rows have equal bits.
pub fn canonical(array: &ArrayRef) -> ArrayRef {
    macro_rules! float {
        ($kind:ty, $nan:expr) => {{
            let floats: &PrimitiveArray<$kind> = array.as_primitive();
            let mut values = floats.values().iter();
            match values.any(|value| value.is_nan() || (*value == 0.0 && value.is_sign_negative()))
            {
                true => Arc::new(unary::<$kind, _, $kind>(floats, |value| {
                    if value.is_nan() { $nan } else { value + 0.0 }
                })),
                false => array.clone(),
            }
        }};
    }
    match array.data_type() {
        DataType::Float32 => float!(Float32Type, f32::NAN),
        DataType::Float64 => float!(Float64Type, f64::NAN),
        _ => array.clone(),
    }
}

/// The microseconds of a timestamp column, whatever its zone.
///
/// # Panics
/// When it is not one.
pub fn micros(column: &ArrayRef) -> Int64Array {
    assert!(matches!(
        column.data_type(),
        DataType::Timestamp(TimeUnit::Microsecond, _)
    ));
    let data = column.to_data().into_builder().data_type(DataType::Int64);
    let data = data.build().expect("a timestamp is a 64-bit number");
    make_array(data).as_primitive::<Int64Type>().clone()
}

/// The cheap form where every weight is 1.
pub fn weights_of(weights: Vec<i64>) -> Weights {
    match weights.iter().all(|&weight| weight == 1) {
        true => Weights::Ones,
        false => Weights::Each(weights.into()),
    }
}

#[inline]
fn place(slot: u32) -> (usize, u64) {
    (slot as usize / 64, 1 << (slot % 64))
}

fn number(slot: usize) -> u32 {
    u32::try_from(slot).expect("a store and a batch have fewer than 2^32 rows")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::notation::{parse, print_sorted};

    const ROWS: &str = "
        a:bigint b:double
        +  7     -0.0
        +  7     0.0
        +2 NULL  1
        +  8     1
        -  8     1";

    fn store(removal: Removal) -> RowStore {
        RowStore::new(parse(ROWS).schema(), removal).unwrap()
    }

    fn contents(store: &RowStore) -> String {
        let slots: Vec<u32> = (0..store.slots())
            .map(number)
            .filter(|&slot| store.weight(slot) != 0)
            .collect();
        let weights: Vec<i64> = slots.iter().map(|&slot| store.weight(slot)).collect();
        let weights = crate::delta::Weights::Each(weights.into());
        print_sorted(&DeltaBatch::new(store.gather(&slots).unwrap(), weights))
    }

    #[test]
    fn equal_rows_share_a_slot() {
        let mut store = store(Removal::ByRow);
        let mut slots = Vec::new();
        let fresh = store.add(&parse(ROWS), &mut slots).unwrap();
        assert_eq!(slots, [0, 0, 1, 2, 2]);
        assert_eq!(
            fresh.iter().map(|fresh| fresh.row).collect::<Vec<_>>(),
            [0, 2, 3]
        );
        assert_eq!(contents(&store), "+2 7 0.0\n+2 NULL 1.0\n");
        let touched = store.take_touched();
        assert_eq!(
            touched[2],
            Touched {
                slot: 2,
                weight: 0,
                count: 0
            }
        );
        store.release(&[2]);
        assert_eq!(store.rows(), 2);
        // The freed slot is used again.
        store
            .add(&parse("a:bigint b:double\n+ 9 9"), &mut slots)
            .unwrap();
        assert_eq!(slots, [2]);
    }

    #[test]
    fn rows_that_never_leave_have_slots_of_their_own() {
        let mut store = store(Removal::Never);
        let mut slots = Vec::new();
        let twice = parse("a:bigint b:double\n+ 1 1\n+ 1 1");
        store.add(&twice, &mut slots).unwrap();
        assert_eq!(slots, [0, 1]);
        assert!(store.add(&twice.negate(), &mut slots).is_err());
    }

    #[test]
    fn a_store_is_put_back_from_its_changes() {
        let mut first = store(Removal::ByRow).with_counts();
        let mut second = store(Removal::ByRow).with_counts();
        let mut slots = Vec::new();
        let copy = |first: &mut RowStore, second: &mut RowStore| {
            for change in first.changes(Scope::Changed, 3).unwrap() {
                assert_eq!(change.table, 3);
                let replaced = second.replaced(&change);
                second.release(&replaced);
                second.restore(&change).unwrap();
            }
            assert_eq!(contents(first), contents(second));
        };
        first.add(&parse(ROWS), &mut slots).unwrap();
        first.add_count(1, 5);
        first.release(&[2]);
        copy(&mut first, &mut second);
        assert_eq!(second.count(1), 5);
        first
            .add(&parse("a:bigint b:double\n-2 NULL 1\n+ 10 1"), &mut slots)
            .unwrap();
        first.release(&[1]);
        copy(&mut first, &mut second);
        assert_eq!(second.rows(), 2);
        assert!(first.changes(Scope::Changed, 0).unwrap().is_empty());
        // The copy finds its rows and uses the freed slots.
        second
            .add(&parse("a:bigint b:double\n- 10 1\n+ 11 1"), &mut slots)
            .unwrap();
        assert_eq!(slots, [2, 1]);
    }

    #[test]
    fn an_empty_store_gives_its_memory_back_and_its_slots_are_known_as_free() {
        let mut store = RowStore::new(parse("a:bigint\n+ 1").schema(), Removal::ByRow).unwrap();
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10_000));
        let rows = RecordBatch::try_new(store.schema().clone(), vec![column]).unwrap();
        let batch = DeltaBatch::insertions(rows);
        let mut slots = Vec::new();
        store.add(&batch, &mut slots).unwrap();
        store.take_touched();
        store.changes(Scope::Changed, 0).unwrap();
        let full = store.bytes();
        store.add(&batch.negate(), &mut slots).unwrap();
        store.take_touched();
        store.release(&slots);
        assert!(store.shrink().unwrap());
        assert!(
            store.bytes() < full / 20,
            "{} of {full} bytes",
            store.bytes()
        );
        let freed: usize = store
            .changes(Scope::Changed, 0)
            .unwrap()
            .iter()
            .map(|change| change.freed.len())
            .sum();
        assert_eq!(freed, 10_000);
    }

    #[test]
    fn rows_with_one_hash_are_told_apart() {
        let mut store = RowStore::new(parse("a:bigint\n+ 1").schema(), Removal::ByRow).unwrap();
        let rows = 200_000;
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let batch = RecordBatch::try_new(store.schema().clone(), vec![column.clone()]).unwrap();
        let batch = DeltaBatch::insertions(batch);
        let mut slots = Vec::new();
        let fresh = store.add(&batch, &mut slots).unwrap();
        assert_eq!(fresh.len(), 200_000);
        // So many rows have some pairs of equal hashes of 32 bits; only those were compared.
        assert!(
            (1..100).contains(&store.compared()),
            "{} compared",
            store.compared()
        );
        assert_eq!(&store.gather_column(0, &slots).unwrap(), &column);
        let stored = slots.clone();
        assert!(store.add(&batch.negate(), &mut slots).unwrap().is_empty());
        assert_eq!(slots, stored);
        assert!(stored.iter().all(|&slot| store.weight(slot) == 0));
    }
}
