//! The rows of one view or table: multi-version, columnar, found by key.
//!
//! Rows live in slots; 4096 slots make a chunk with an [`Arena`] of the columns and a weight per
//! slot. The step writes in place; a snapshot holds the chunks as they are, and a chunk that is
//! held
//! is copied before the first write after it. How a row is found again depends on what makes it
//! itself ([`Identity`]): its key, its whole contents, or nothing (append-only).
//!
//! ```text
//!   Key([auction])            delta  −(7, 2) +(7, 3)      index: 7 → slot 4
//!   slot 4: (7, 2) w=1   ──────────────────────────────►  slot 4: (7, 3) w=1     written in place
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use crate::base::Memory;
use crate::delta::{Arena, DeltaBatch, KeyBatch, KeyTable, NO_SLOT, SlotSet, consolidate};
use crate::error::{Error, Result};
use crate::operator::frozen::Frozen;
use crate::view::aging::Ages;
use crate::view::snapshot::{Chunk, Snapshot};

/// Slots of a chunk: a copy of one costs some tens of microseconds, and a million rows are 245 of
/// them, few enough for a snapshot to be taken under a lock.
pub(super) const CHUNK_SLOTS: usize = 4096;

/// Hints that are kept for each slot: the numbers of as many shards as there are cores, where all
/// keys are in one of them.
const HINTS_PER_SLOT: usize = 4;

/// What makes a row of a view the same row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// These columns; no two rows share them. Empty: the view has at most one row.
    Key(Vec<usize>),
    /// All columns; equal rows are one row with a weight.
    Row,
    /// Rows are only ever added; they leave by age alone.
    AppendOnly,
}

/// The rows of one relation at the newest epoch.
pub struct Store {
    pub(super) schema: SchemaRef,
    identity: Identity,
    pub(super) chunks: Vec<Arc<Chunk>>,
    /// Key or whole row → slot; absent where rows are only added.
    pub(super) index: Option<KeyTable>,
    /// By the number that stands for a row's key in the changes ([`DeltaBatch::origins`]): the
    /// slot in which the key was last.
    hints: Vec<u32>,
    /// One past the last slot of an append-only store.
    pub(super) appended: usize,
    /// Slots of an append-only store whose rows have left by age.
    pub(super) unused: Vec<u32>,
    /// Of a view whose rows leave by age.
    pub(super) ages: Option<Ages>,
    rows: u64,
    bytes: usize,
    /// Slots changed since the last checkpoint.
    pub(super) dirty: SlotSet,
    pub(super) frozen: Frozen,
    /// Where chunks are counted that only snapshots hold.
    memory: Option<Arc<Memory>>,
}

impl Drop for Store {
    fn drop(&mut self) {
        // What a snapshot holds is its alone now; of the others nothing is left to count.
        for chunk in &self.chunks {
            chunk.leave(self.memory.as_ref());
        }
    }
}

impl Store {
    pub fn new(schema: SchemaRef, identity: Identity) -> Result<Store> {
        let types = |columns: &[usize]| -> Vec<_> {
            columns
                .iter()
                .map(|&column| schema.field(column).data_type().clone())
                .collect()
        };
        let index = match &identity {
            Identity::Key(columns) => Some(KeyTable::new(&types(columns))?),
            Identity::Row => {
                let all: Vec<usize> = (0..schema.fields().len()).collect();
                Some(KeyTable::new(&types(&all))?)
            }
            Identity::AppendOnly => None,
        };
        Ok(Store {
            schema,
            identity,
            chunks: Vec::new(),
            index,
            hints: Vec::new(),
            appended: 0,
            unused: Vec::new(),
            ages: None,
            rows: 0,
            bytes: 0,
            dirty: SlotSet::default(),
            frozen: Frozen::default(),
            memory: None,
        })
    }

    /// Says where chunks are counted that only snapshots hold from now on.
    pub fn count_superseded_in(&mut self, memory: Arc<Memory>) {
        self.memory = Some(memory);
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Rows, each counted as often as it is there.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes held, as of the last apply.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Applies one step's change.
    ///
    /// # Errors
    /// Internal, when the change removes a row that is not there, or adds a second row under a key:
    /// the
    /// dataflow that made it is wrong.
    pub fn apply(&mut self, delta: &DeltaBatch) -> Result<()> {
        if delta.is_empty() {
            return Ok(());
        }
        match self.identity.clone() {
            Identity::AppendOnly => self.append(delta)?,
            Identity::Key(columns) => {
                let keys: Vec<ArrayRef> = columns
                    .iter()
                    .map(|&column| delta.rows().column(column).clone())
                    .collect();
                self.apply_keyed(delta, &keys)?;
            }
            Identity::Row => self.apply_rows(delta)?,
        }
        self.account();
        Ok(())
    }

    fn append(&mut self, delta: &DeltaBatch) -> Result<()> {
        for row in 0..delta.len() {
            let weight = delta.weights().get(row);
            if weight < 0 {
                return Err(Error::internal(
                    "an append-only view was asked to remove a row",
                ));
            }
        }
        let reused = delta.len().min(self.unused.len());
        let mut slots = self.unused.split_off(self.unused.len() - reused);
        self.keep(&slots)?;
        let first = self.appended;
        self.appended += delta.len() - reused;
        slots.extend((first..self.appended).map(slot_number));
        let rows: Vec<u32> = (0..delta.len()).map(slot_number).collect();
        self.write(&slots, delta, &rows)?;
        for (row, &slot) in slots.iter().enumerate() {
            self.set_weight(slot, delta.weights().get(row));
        }
        Ok(())
    }

    /// Under a key: what is removed must be there, and what is added goes into the key's slot.
    fn apply_keyed(&mut self, delta: &DeltaBatch, keys: &[ArrayRef]) -> Result<()> {
        let mut slots = Vec::new();
        let fresh = self.find(delta, keys, &mut slots)?;
        self.grow(highest(&slots));
        self.keep(&slots)?;
        let weight_of = |row: u32| delta.weights().get(row as usize);
        let slot_of = |row: u32| slots[row as usize];
        let mut freed = Vec::new();
        let (mut places, mut sources, mut counted) = (Vec::new(), Vec::new(), Vec::new());
        for (number, rows) in &by_chunk(&slots) {
            let chunk = Chunk::writable(&mut self.chunks[number], self.memory.as_ref());
            places.clear();
            sources.clear();
            counted.clear();
            let mut rows = rows.iter().copied().peekable();
            while let Some(row) = rows.next() {
                let (slot, weight) = (slot_of(row), weight_of(row));
                let at = place(slot).1;
                self.dirty.insert(slot);
                // Most changes are −old +new next to each other: the key's row is another one, and
                // nothing else.
                if weight == -1
                    && !fresh.contains(slot)
                    && let Some(new) =
                        rows.next_if(|&next| slot_of(next) == slot && weight_of(next) == 1)
                {
                    places.push(slot_number(at));
                    sources.push(new);
                    continue;
                }
                // Between a row's removal and its return within a step the sum may be below zero.
                self.rows = self.rows.wrapping_add_signed(weight);
                chunk.weights.set(at, chunk.weights.get(at) + weight);
                counted.push(slot);
                // A key's row is the one that was added last.
                if weight > 0 {
                    places.push(slot_number(at));
                    sources.push(row);
                }
            }
            chunk
                .arena
                .write(&places, delta.rows().columns(), &sources)?;
            if let Some(ages) = &mut self.ages {
                ages.note(number, delta.rows().columns(), &sources);
            }
            for &slot in &counted {
                match chunk.weights.get(place(slot).1) {
                    1 => {}
                    0 => freed.push(slot),
                    weight => {
                        return Err(Error::internal(format!(
                            "a key of the view has {weight} rows after the step"
                        )));
                    }
                }
            }
        }
        self.free(freed);
        Ok(())
    }

    /// Puts the slot of each row's key into `slots`. Returns those that held no key before.
    fn find(
        &mut self,
        delta: &DeltaBatch,
        keys: &[ArrayRef],
        slots: &mut Vec<u32>,
    ) -> Result<SlotSet> {
        let index = self.index.as_mut().expect("a keyed store has an index");
        let mut fresh = SlotSet::default();
        if keys.is_empty() {
            slots.resize(delta.len(), 0);
            // The only row's slot is there from the first row on.
            if self.rows == 0 {
                fresh.insert(0);
            }
            return Ok(fresh);
        }
        let batch = KeyBatch::new(index, keys)?;
        let taken = match delta.origins() {
            None => index.insert(&batch, slots),
            Some(origins) => {
                let hint = |&origin: &u32| self.hints.get(origin as usize).copied();
                let hints = origins.iter().map(|origin| hint(origin).unwrap_or(NO_SLOT));
                let hints: Vec<u32> = hints.collect();
                let taken = index.insert_guided(&batch, &hints, slots);
                // Numbers are dense; what is far off is not worth its memory.
                let most = (index.slots() * HINTS_PER_SLOT).max(CHUNK_SLOTS);
                for ((&origin, &hint), &slot) in origins.iter().zip(&hints).zip(&*slots) {
                    let origin = origin as usize;
                    if hint != slot && origin < most {
                        if self.hints.len() <= origin {
                            self.hints.resize(origin + 1, NO_SLOT);
                        }
                        self.hints[origin] = slot;
                    }
                }
                taken
            }
        };
        taken.into_iter().for_each(|slot| {
            fresh.insert(slot);
        });
        Ok(fresh)
    }

    fn apply_rows(&mut self, delta: &DeltaBatch) -> Result<()> {
        let index = self
            .index
            .as_mut()
            .expect("a store of whole rows has an index");
        let mut slots = Vec::new();
        let mut fresh = Vec::new();
        match delta.rows().num_columns() {
            0 => slots = vec![0; delta.len()],
            _ => {
                let batch = KeyBatch::new(index, delta.rows().columns())?;
                fresh = index.insert(&batch, &mut slots);
            }
        }
        fresh.sort_unstable();
        self.grow(highest(&slots));
        self.keep(&slots)?;
        let mut written = Vec::new();
        let mut sources = Vec::new();
        for (row, &slot) in slots.iter().enumerate() {
            if fresh.binary_search(&slot).is_ok() {
                written.push(slot);
                sources.push(slot_number(row));
            }
            self.add_weight(slot, delta.weights().get(row));
        }
        self.write(&written, delta, &sources)?;
        if let Some(&slot) = slots.iter().find(|&&slot| self.weight(slot) < 0) {
            let weight = self.weight(slot);
            return Err(Error::internal(format!(
                "a row of the view is there {weight} times after the step"
            )));
        }
        let freed = slots
            .into_iter()
            .filter(|&slot| self.weight(slot) == 0)
            .collect();
        self.free(freed);
        Ok(())
    }

    pub(super) fn free(&mut self, mut slots: Vec<u32>) {
        slots.sort_unstable();
        slots.dedup();
        let has_columns = !self.key_columns().is_empty();
        for &slot in &slots {
            let (chunk, place) = place(slot);
            Chunk::writable(&mut self.chunks[chunk], self.memory.as_ref())
                .arena
                .release(&[slot_number(place)]);
            self.mark(slot);
            if let Some(index) = self.index.as_mut().filter(|_| has_columns) {
                index.remove(slot);
            }
        }
        if self.index.is_none() {
            self.unused.extend(slots);
        }
    }

    pub(super) fn key_columns(&self) -> Vec<usize> {
        match &self.identity {
            Identity::Key(columns) => columns.clone(),
            Identity::Row => (0..self.schema.fields().len()).collect(),
            Identity::AppendOnly => Vec::new(),
        }
    }

    pub(super) fn grow(&mut self, slots: usize) {
        let types: Vec<_> = self
            .schema
            .fields()
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        while self.chunks.len() * CHUNK_SLOTS < slots {
            let arena =
                Arena::new(&types).expect("the schema's types were checked by the first chunk");
            self.chunks.push(Arc::new(Chunk::new(arena)));
        }
        // The last chunk grows with its rows, so that a small view stays small.
        for (number, chunk) in self.chunks.iter_mut().enumerate() {
            let wanted = slots.saturating_sub(number * CHUNK_SLOTS).min(CHUNK_SLOTS);
            if chunk.weights.len() < wanted {
                let room = wanted.next_power_of_two().min(CHUNK_SLOTS);
                let chunk = Chunk::writable(chunk, self.memory.as_ref());
                chunk.arena.grow(room);
                chunk.weights.resize(room);
            }
        }
    }

    /// Writes row `rows[i]` into slot `slots[i]`, chunk by chunk; of two rows for one slot the
    /// later one stays.
    pub(super) fn write(&mut self, slots: &[u32], delta: &DeltaBatch, rows: &[u32]) -> Result<()> {
        self.grow(highest(slots));
        for (number, group) in &by_chunk(slots) {
            let at = |&at: &u32| slot_number(place(slots[at as usize]).1);
            let places: Vec<u32> = group.iter().map(at).collect();
            let sources: Vec<u32> = group.iter().map(|&at| rows[at as usize]).collect();
            let chunk = Chunk::writable(&mut self.chunks[number], self.memory.as_ref());
            chunk
                .arena
                .write(&places, delta.rows().columns(), &sources)?;
            if let Some(ages) = &mut self.ages {
                ages.note(number, delta.rows().columns(), &sources);
            }
        }
        slots.iter().for_each(|&slot| self.mark(slot));
        Ok(())
    }

    pub(super) fn weight(&self, slot: u32) -> i64 {
        let (chunk, place) = place(slot);
        self.chunks[chunk].weights.get(place)
    }

    fn add_weight(&mut self, slot: u32, weight: i64) {
        let sum = self.weight(slot) + weight;
        self.set_weight(slot, sum);
    }

    pub(super) fn set_weight(&mut self, slot: u32, weight: i64) {
        let (chunk, place) = place(slot);
        let stored = &mut Chunk::writable(&mut self.chunks[chunk], self.memory.as_ref()).weights;
        // Between a row's removal and its return within a step the sum may be below zero.
        self.rows = self.rows.wrapping_add_signed(weight - stored.get(place));
        stored.set(place, weight);
        self.mark(slot);
    }

    fn mark(&mut self, slot: u32) {
        self.dirty.insert(slot);
    }

    pub(super) fn account(&mut self) {
        let chunks = self.chunks.iter().map(|chunk| chunk.bytes());
        self.bytes = chunks.sum::<usize>()
            + self.hints.capacity() * size_of::<u32>()
            + self.unused.capacity() * size_of::<u32>()
            + self.ages.as_ref().map_or(0, Ages::bytes)
            + self.dirty.bytes()
            + self.frozen.bytes()
            + self.index.as_ref().map_or(0, KeyTable::bytes);
    }

    /// The rows as they are now; cheap, and never changed by later steps.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.schema.clone(), self.chunks.clone(), self.rows)
    }

    /// The row under each key (columns in the identity's order), as a batch of those that are
    /// there.
    ///
    /// # Panics
    /// When the store's identity is not a key.
    pub fn lookup(&self, keys: &[ArrayRef]) -> Result<RecordBatch> {
        assert!(
            matches!(self.identity, Identity::Key(_)),
            "only a keyed store is looked up"
        );
        let mut slots = Vec::new();
        if keys.is_empty() {
            // The one row, if it is there.
            slots.extend((self.rows > 0).then_some(0));
        } else {
            let index = self.index.as_ref().expect("a keyed store has an index");
            let batch = KeyBatch::new(index, keys)?;
            index.lookup(&batch, &mut slots);
            slots.retain(|&slot| slot != NO_SLOT);
        }
        let mut batches = Vec::with_capacity(slots.len());
        for slot in slots {
            let (chunk, place) = place(slot);
            let columns = self.chunks[chunk].arena.gather(&[slot_number(place)])?;
            batches.push(batch_of(&self.schema, columns, 1)?);
        }
        arrow::compute::concat_batches(&self.schema, &batches)
            .map_err(|error| Error::internal(format!("rows of one view: {error}")))
    }

    /// Whether a change can be applied: it removes only rows that are there, and leaves at most one
    /// row under a key. A change that was computed from rows that have changed since cannot.
    pub fn accepts(&self, delta: &DeltaBatch) -> Result<bool> {
        let columns = self.key_columns();
        let Some(index) = self.index.as_ref().filter(|_| !columns.is_empty()) else {
            return Ok(true);
        };
        // Net: what goes is then a row of the store and not one that the change itself brought.
        let delta = &match delta.is_append_only() {
            true => delta.clone(),
            false => consolidate(delta)?,
        };
        let arrays = delta.rows().columns();
        let keys: Vec<ArrayRef> = columns
            .iter()
            .map(|&column| arrays[column].clone())
            .collect();
        let batch = KeyBatch::new(index, &keys)?;
        let mut slots = Vec::new();
        index.lookup(&batch, &mut slots);
        // Keys that are not there are told apart by a table of their own.
        let types: Vec<_> = keys.iter().map(|key| key.data_type().clone()).collect();
        let mut others = KeyTable::new(&types)?;
        let mut numbers = Vec::new();
        others.insert(&KeyBatch::new(&others, &keys)?, &mut numbers);
        let mut sums: Vec<Option<i64>> = vec![None; others.slots()];
        let most = match &self.identity {
            Identity::Key(_) => 1,
            Identity::Row | Identity::AppendOnly => i64::MAX,
        };
        // The rows that go, by the chunk that must hold them.
        let mut going: BTreeMap<usize, (Vec<u32>, Vec<u32>)> = BTreeMap::new();
        for (row, (&slot, &number)) in slots.iter().zip(&numbers).enumerate() {
            let there = if slot == NO_SLOT {
                0
            } else {
                self.weight(slot)
            };
            let sum = sums[number as usize].get_or_insert(there);
            let weight = delta.weights().get(row);
            *sum += weight;
            if weight < 0 && slot != NO_SLOT {
                let (chunk, place) = place(slot);
                let (places, rows) = going.entry(chunk).or_default();
                places.push(slot_number(place));
                rows.push(slot_number(row));
            }
        }
        if !sums.iter().flatten().all(|sum| (0..=most).contains(sum)) {
            return Ok(false);
        }
        for (chunk, (places, rows)) in going {
            let is_same = self.chunks[chunk].arena.equal(&places, arrays, &rows)?;
            if is_same.contains(&false) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Which keys (columns in the identity's order) are there.
    pub fn contains(&self, keys: &[ArrayRef]) -> Result<Vec<bool>> {
        assert!(
            matches!(self.identity, Identity::Key(_)),
            "only a keyed store is looked up"
        );
        let index = self.index.as_ref().expect("a keyed store has an index");
        let batch = KeyBatch::new(index, keys)?;
        let mut slots = Vec::new();
        index.lookup(&batch, &mut slots);
        Ok(slots.into_iter().map(|slot| slot != NO_SLOT).collect())
    }
}

/// How many slots there must be for the highest of these.
fn highest(slots: &[u32]) -> usize {
    slots.iter().max().map_or(0, |&slot| slot as usize + 1)
}

/// Positions of slots, those of one chunk together and in their order.
pub(super) struct ByChunk {
    order: Vec<u32>,
    /// For each chunk that occurs, rising: its number and where its positions end.
    ends: Vec<(usize, usize)>,
}

pub(super) fn by_chunk(slots: &[u32]) -> ByChunk {
    // A counting sort: the chunks are few and their order is all that is wanted.
    let mut next = vec![0usize; highest(slots).div_ceil(CHUNK_SLOTS)];
    slots.iter().for_each(|&slot| next[place(slot).0] += 1);
    let mut ends = Vec::new();
    let mut begin = 0;
    for (number, count) in next.iter_mut().enumerate() {
        let end = begin + *count;
        if *count > 0 {
            ends.push((number, end));
        }
        *count = begin;
        begin = end;
    }
    let mut order = vec![0; slots.len()];
    for (at, &slot) in slots.iter().enumerate() {
        let place = &mut next[place(slot).0];
        order[*place] = slot_number(at);
        *place += 1;
    }
    ByChunk { order, ends }
}

impl<'a> IntoIterator for &'a ByChunk {
    type Item = (usize, &'a [u32]);
    type IntoIter = Box<dyn Iterator<Item = Self::Item> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|&(_, end)| end));
        let both = self.ends.iter().zip(begins);
        Box::new(both.map(|(&(number, end), begin)| (number, &self.order[begin..end])))
    }
}

#[inline]
pub(super) fn place(slot: u32) -> (usize, usize) {
    (slot as usize / CHUNK_SLOTS, slot as usize % CHUNK_SLOTS)
}

pub(super) fn slot_number(slot: usize) -> u32 {
    u32::try_from(slot).expect("a store has fewer than 2^32 slots")
}

pub(super) fn batch_of(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(crate::delta::arrow_error)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use fastrand::Rng;

    use super::*;
    use crate::delta::Weights;
    use crate::operator::{Scope, TableChange};

    fn delta(rows: &[(i64, i64, i64)], origins: Option<Vec<u32>>) -> DeltaBatch {
        let field = |name| Field::new(name, DataType::Int64, true);
        let schema = Arc::new(Schema::new(vec![field("key"), field("value")]));
        let column = |pick: fn(&(i64, i64, i64)) -> i64| -> ArrayRef {
            Arc::new(
                rows.iter()
                    .map(|row| Some(pick(row)))
                    .collect::<Int64Array>(),
            )
        };
        let columns = vec![column(|row| row.0), column(|row| row.1)];
        let weights: Vec<i64> = rows.iter().map(|row| row.2).collect();
        let rows = RecordBatch::try_new(schema, columns).unwrap();
        DeltaBatch::new(rows, Weights::Each(weights.into())).with_origins(origins.map(Into::into))
    }

    fn contents(snapshot: &Snapshot) -> BTreeMap<i64, i64> {
        let mut rows = BTreeMap::new();
        for delta in snapshot.deltas() {
            let delta = delta.unwrap();
            let column = |at: usize| delta.rows().column(at).as_primitive::<Int64Type>().clone();
            let (keys, values) = (column(0), column(1));
            for row in 0..delta.len() {
                assert!(rows.insert(keys.value(row), values.value(row)).is_none());
            }
        }
        rows
    }

    fn complete(store: &mut Store, blocks: &mut Vec<TableChange>) {
        blocks.extend(std::iter::from_fn(|| store.thaw(usize::MAX).unwrap()));
    }

    /// Rows come, change and go; the numbers that stand for keys are missing, right, given to
    /// another key since, or wrong. Snapshots stay what they were, and so does a checkpoint that is
    /// taken while steps go on.
    #[test]
    fn a_keyed_store_is_a_map_whatever_stands_for_its_keys() {
        for seed in 0..40 {
            let mut random = Rng::with_seed(seed);
            let schema = delta(&[], None).schema();
            let mut store = Store::new(schema, Identity::Key(vec![0])).unwrap();
            let mut model: BTreeMap<i64, i64> = BTreeMap::new();
            let (mut blocks, mut saved) = (Vec::new(), BTreeMap::new());
            let mut held: Vec<(Snapshot, BTreeMap<i64, i64>)> = Vec::new();
            for step in 0..40 {
                let (mut rows, mut origins) = (Vec::new(), Vec::new());
                for _ in 0..random.usize(..30) {
                    let key = random.i64(0..50);
                    let value = random.i64(0..1000);
                    let number = match random.u8(..5) {
                        0 => random.u32(..200),
                        1 => u32::MAX,
                        _ => u32::try_from(key % 40).unwrap(),
                    };
                    if let Some(old) = model.remove(&key) {
                        rows.push((key, old, -1));
                        origins.push(number);
                    }
                    if random.u8(..4) > 0 {
                        rows.push((key, value, 1));
                        origins.push(number);
                        model.insert(key, value);
                    }
                }
                let origins = random.bool().then_some(origins);
                store.apply(&delta(&rows, origins)).unwrap();
                assert_eq!(
                    contents(&store.snapshot()),
                    model,
                    "seed {seed} step {step}"
                );
                assert_eq!(store.rows(), model.len() as u64, "seed {seed} step {step}");
                match random.u8(..6) {
                    0 => held.push((store.snapshot(), model.clone())),
                    1 => {
                        complete(&mut store, &mut blocks);
                        store.freeze(Scope::Changed);
                        saved = model.clone();
                    }
                    _ => blocks.extend(store.thaw(random.usize(1..8)).unwrap()),
                }
            }
            for (snapshot, expected) in held {
                assert_eq!(contents(&snapshot), expected, "seed {seed}");
            }
            complete(&mut store, &mut blocks);
            let mut restored =
                Store::new(store.schema().clone(), store.identity().clone()).unwrap();
            restored.restore(blocks).unwrap();
            assert_eq!(contents(&restored.snapshot()), saved, "seed {seed}");
        }
    }

    #[test]
    fn a_second_row_under_a_key_and_the_removal_of_none_are_errors() {
        let schema = delta(&[], None).schema();
        for wrong in [[(1, 1, 1), (1, 2, 1)], [(1, 1, -1), (2, 1, 1)]] {
            let mut store = Store::new(schema.clone(), Identity::Key(vec![0])).unwrap();
            assert!(store.apply(&delta(&wrong, None)).is_err(), "{wrong:?}");
        }
    }
}
