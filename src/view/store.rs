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

use crate::delta::{Arena, DeltaBatch, KeyBatch, KeyTable, NO_SLOT, consolidate};
use crate::error::{Error, Result};
use crate::operator::{Scope, TableChange};

/// Slots of a chunk: a copy of one costs some tens of microseconds, and a million rows are 245 of
/// them, few enough for a snapshot to be taken under a lock.
const CHUNK_SLOTS: usize = 4096;

/// What makes a row of a view the same row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// These columns; no two rows share them. Empty: the view has at most one row.
    Key(Vec<usize>),
    /// All columns; equal rows are one row with a weight.
    Row,
    /// Rows are only ever added.
    AppendOnly,
}

/// The rows of one relation at the newest epoch.
pub struct Store {
    schema: SchemaRef,
    identity: Identity,
    chunks: Vec<Arc<Chunk>>,
    /// Key or whole row → slot; absent where rows are only added.
    index: Option<KeyTable>,
    /// One past the last slot of an append-only store.
    appended: usize,
    rows: u64,
    bytes: usize,
    /// Slots changed since the last checkpoint; a bit each.
    dirty: Vec<u64>,
}

#[derive(Clone)]
struct Chunk {
    arena: Arena,
    /// How often the slot's row is there; 0 = free.
    weights: Vec<i64>,
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
            appended: 0,
            rows: 0,
            bytes: 0,
            dirty: Vec::new(),
        })
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
        let first = self.appended;
        self.appended += delta.len();
        let slots: Vec<u32> = (first..self.appended).map(slot_number).collect();
        let rows: Vec<u32> = (0..delta.len()).map(slot_number).collect();
        self.write(&slots, delta, &rows)?;
        for (row, &slot) in slots.iter().enumerate() {
            self.set_weight(slot, delta.weights().get(row));
        }
        Ok(())
    }

    /// Under a key: what is removed must be there, and what is added goes into the key's slot.
    fn apply_keyed(&mut self, delta: &DeltaBatch, keys: &[ArrayRef]) -> Result<()> {
        let index = self.index.as_mut().expect("a keyed store has an index");
        let mut slots = Vec::new();
        let rows = delta.len();
        if keys.is_empty() {
            slots = vec![0; rows];
        } else {
            let batch = KeyBatch::new(index, keys)?;
            index.insert(&batch, &mut slots);
        }
        self.grow(highest(&slots));
        let mut freed = Vec::new();
        let (mut places, mut sources) = (Vec::new(), Vec::new());
        for (number, rows) in &by_chunk(&slots) {
            let chunk = Arc::make_mut(&mut self.chunks[number]);
            places.clear();
            sources.clear();
            for &row in rows {
                let slot = slots[row as usize];
                let weight = delta.weights().get(row as usize);
                let (_, at) = place(slot);
                // Between a row's removal and its return within a step the sum may be below zero.
                self.rows = self.rows.wrapping_add_signed(weight);
                chunk.weights[at] += weight;
                self.dirty[slot as usize / 64] |= 1 << (slot % 64);
                // A key's row is the one that was added last.
                if weight > 0 {
                    places.push(slot_number(at));
                    sources.push(row);
                }
            }
            chunk
                .arena
                .write(&places, delta.rows().columns(), &sources)?;
            for &row in rows {
                let slot = slots[row as usize];
                match chunk.weights[place(slot).1] {
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

    fn free(&mut self, mut slots: Vec<u32>) {
        slots.sort_unstable();
        slots.dedup();
        let has_columns = !self.key_columns().is_empty();
        for &slot in &slots {
            let (chunk, place) = place(slot);
            Arc::make_mut(&mut self.chunks[chunk])
                .arena
                .release(&[slot_number(place)]);
            self.mark(slot);
            if let Some(index) = self.index.as_mut().filter(|_| has_columns) {
                index.remove(slot);
            }
        }
    }

    fn key_columns(&self) -> Vec<usize> {
        match &self.identity {
            Identity::Key(columns) => columns.clone(),
            Identity::Row => (0..self.schema.fields().len()).collect(),
            Identity::AppendOnly => Vec::new(),
        }
    }

    fn grow(&mut self, slots: usize) {
        let types: Vec<_> = self
            .schema
            .fields()
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        while self.chunks.len() * CHUNK_SLOTS < slots {
            let arena =
                Arena::new(&types).expect("the schema's types were checked by the first chunk");
            self.chunks.push(Arc::new(Chunk {
                arena,
                weights: Vec::new(),
            }));
        }
        // The last chunk grows with its rows, so that a small view stays small.
        for (number, chunk) in self.chunks.iter_mut().enumerate() {
            let wanted = slots.saturating_sub(number * CHUNK_SLOTS).min(CHUNK_SLOTS);
            if chunk.weights.len() < wanted {
                let room = wanted.next_power_of_two().min(CHUNK_SLOTS);
                let chunk = Arc::make_mut(chunk);
                chunk.arena.grow(room);
                chunk.weights.resize(room, 0);
            }
        }
        self.dirty.resize(self.chunks.len() * CHUNK_SLOTS / 64, 0);
    }

    /// Writes row `rows[i]` into slot `slots[i]`, chunk by chunk; of two rows for one slot the
    /// later one stays.
    fn write(&mut self, slots: &[u32], delta: &DeltaBatch, rows: &[u32]) -> Result<()> {
        self.grow(highest(slots));
        for (number, group) in &by_chunk(slots) {
            let at = |&at: &u32| slot_number(place(slots[at as usize]).1);
            let places: Vec<u32> = group.iter().map(at).collect();
            let sources: Vec<u32> = group.iter().map(|&at| rows[at as usize]).collect();
            let chunk = Arc::make_mut(&mut self.chunks[number]);
            chunk
                .arena
                .write(&places, delta.rows().columns(), &sources)?;
        }
        slots.iter().for_each(|&slot| self.mark(slot));
        Ok(())
    }

    fn weight(&self, slot: u32) -> i64 {
        let (chunk, place) = place(slot);
        self.chunks[chunk].weights[place]
    }

    fn add_weight(&mut self, slot: u32, weight: i64) {
        let sum = self.weight(slot) + weight;
        self.set_weight(slot, sum);
    }

    fn set_weight(&mut self, slot: u32, weight: i64) {
        let (chunk, place) = place(slot);
        let stored = &mut Arc::make_mut(&mut self.chunks[chunk]).weights[place];
        // Between a row's removal and its return within a step the sum may be below zero.
        self.rows = self.rows.wrapping_add_signed(weight - *stored);
        *stored = weight;
        self.mark(slot);
    }

    fn mark(&mut self, slot: u32) {
        self.dirty[slot as usize / 64] |= 1 << (slot % 64);
    }

    fn account(&mut self) {
        let chunk = |chunk: &Arc<Chunk>| chunk.arena.bytes() + chunk.weights.capacity() * 8;
        self.bytes = self.chunks.iter().map(chunk).sum::<usize>()
            + self.index.as_ref().map_or(0, KeyTable::bytes);
    }

    /// The rows as they are now; cheap, and never changed by later steps.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            schema: self.schema.clone(),
            chunks: self.chunks.clone(),
            rows: self.rows,
        }
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
        let index = self.index.as_ref().expect("a keyed store has an index");
        let batch = KeyBatch::new(index, keys)?;
        let mut slots = Vec::new();
        index.lookup(&batch, &mut slots);
        slots.retain(|&slot| slot != NO_SLOT);
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

    /// The slots changed since the last call, for a checkpoint; [`Scope::All`]: all that are there.
    pub fn changes(&mut self, scope: Scope) -> Result<Vec<TableChange>> {
        self.freeze(scope).changes().collect()
    }

    /// Holds on to what changed since the last call. Costs next to nothing: chunks are shared until
    /// a later step writes to them.
    pub fn freeze(&mut self, scope: Scope) -> Frozen {
        let mut parts = Vec::new();
        for (number, chunk) in self.chunks.iter().enumerate() {
            let words = &self.dirty[number * CHUNK_SLOTS / 64..][..CHUNK_SLOTS / 64];
            if scope == Scope::All || words.iter().any(|&word| word != 0) {
                parts.push((number, Arc::clone(chunk), words.to_vec()));
            }
        }
        self.dirty.fill(0);
        Frozen {
            schema: weighted(&self.schema),
            scope,
            parts,
        }
    }

    /// Puts back blocks that [`Store::changes`] gave, in their order, into a new store.
    pub fn restore(&mut self, changes: impl IntoIterator<Item = TableChange>) -> Result<()> {
        for change in changes {
            let columns = self.schema.fields().len();
            let weights = change.rows.column(columns).clone();
            let weights =
                arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&weights);
            let all: Vec<usize> = (0..columns).collect();
            let rows = change
                .rows
                .project(&all)
                .map_err(crate::delta::arrow_error)?;
            let rows = rows
                .with_schema(self.schema.clone())
                .map_err(crate::delta::arrow_error)?;
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
        self.dirty.fill(0);
        self.account();
        Ok(())
    }

    fn rebuild_index(&mut self) -> Result<()> {
        let mut live = Vec::new();
        for (number, chunk) in self.chunks.iter().enumerate() {
            let slots = (0..chunk.weights.len()).filter(|&place| chunk.weights[place] != 0);
            live.extend(slots.map(|place| slot_number(number * CHUNK_SLOTS + place)));
        }
        self.appended = live.last().map_or(0, |&slot| slot as usize + 1);
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
            .map(|parts| {
                let parts: Vec<&dyn arrow::array::Array> =
                    parts.iter().map(|part| part.as_ref()).collect();
                arrow::compute::concat(&parts).map_err(crate::delta::arrow_error)
            })
            .collect::<Result<Vec<_>>>()?;
        let batch = KeyBatch::new(index, &keys)?;
        index.restore(&batch, &live);
        Ok(())
    }
}

/// What changed in a store up to a moment, to be written while later steps go on.
pub struct Frozen {
    schema: SchemaRef,
    scope: Scope,
    /// Chunks by number, each with the slots that changed, a bit each.
    parts: Vec<(usize, Arc<Chunk>, Vec<u64>)>,
}

impl Frozen {
    /// The changes, a chunk at a time; the rows carry the weight as their last column. What has
    /// been given is let go.
    pub fn changes(self) -> impl Iterator<Item = Result<TableChange>> {
        let Frozen {
            schema,
            scope,
            parts,
        } = self;
        parts
            .into_iter()
            .map(move |(number, chunk, dirty)| chunk.change(number, &dirty, scope, &schema))
    }
}

impl Chunk {
    fn change(
        &self,
        number: usize,
        dirty: &[u64],
        scope: Scope,
        schema: &SchemaRef,
    ) -> Result<TableChange> {
        let is_wanted =
            |place: usize| scope == Scope::All || dirty[place / 64] & (1 << (place % 64)) != 0;
        let wanted = (0..self.weights.len()).filter(|&place| is_wanted(place));
        let (live, free): (Vec<usize>, Vec<usize>) =
            wanted.partition(|&place| self.weights[place] != 0);
        let first = number * CHUNK_SLOTS;
        let slots = |places: &[usize]| -> Vec<u32> {
            let slot = |place: &usize| slot_number(first + place);
            places.iter().map(slot).collect()
        };
        let places: Vec<u32> = live.iter().map(|&place| slot_number(place)).collect();
        let mut columns = self.arena.gather(&places)?;
        let weights: Vec<i64> = live.iter().map(|&place| self.weights[place]).collect();
        columns.push(Arc::new(arrow::array::Int64Array::from(weights)));
        Ok(TableChange {
            table: 0,
            slots: slots(&live),
            rows: batch_of(schema, columns, live.len())?,
            freed: match scope {
                Scope::All => Vec::new(),
                Scope::Changed => slots(&free),
            },
        })
    }
}

/// The rows of a relation at one epoch.
#[derive(Clone)]
pub struct Snapshot {
    schema: SchemaRef,
    chunks: Vec<Arc<Chunk>>,
    rows: u64,
}

impl Snapshot {
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows, each counted as often as it is there.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many parts [`Snapshot::part`] can be asked for.
    pub fn parts(&self) -> usize {
        self.chunks.len()
    }

    /// The rows of one part with only the columns asked for; a row that is there twice comes twice.
    pub fn part(&self, part: usize, columns: &[usize]) -> Result<RecordBatch> {
        let chunk = &self.chunks[part];
        let mut places = Vec::with_capacity(chunk.weights.len());
        for (place, &weight) in chunk.weights.iter().enumerate() {
            for _ in 0..weight {
                places.push(slot_number(place));
            }
        }
        let schema = Arc::new(
            self.schema
                .project(columns)
                .map_err(crate::delta::arrow_error)?,
        );
        let arrays = columns
            .iter()
            .map(|&column| chunk.arena.gather_column(column, &places))
            .collect::<Result<Vec<_>>>()?;
        batch_of(&schema, arrays, places.len())
    }

    /// Everything as insertions, a batch per part: how a view on this one begins.
    pub fn deltas(&self) -> impl Iterator<Item = Result<DeltaBatch>> + '_ {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        (0..self.parts()).map(move |part| Ok(DeltaBatch::insertions(self.part(part, &all)?)))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({} rows)", self.rows)
    }
}

/// How many slots there must be for the highest of these.
fn highest(slots: &[u32]) -> usize {
    slots.iter().max().map_or(0, |&slot| slot as usize + 1)
}

/// Positions of slots, those of one chunk together and in their order.
struct ByChunk {
    order: Vec<u32>,
    /// For each chunk that occurs, rising: its number and where its positions end.
    ends: Vec<(usize, usize)>,
}

fn by_chunk(slots: &[u32]) -> ByChunk {
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
fn place(slot: u32) -> (usize, usize) {
    (slot as usize / CHUNK_SLOTS, slot as usize % CHUNK_SLOTS)
}

fn slot_number(slot: usize) -> u32 {
    u32::try_from(slot).expect("a store has fewer than 2^32 slots")
}

fn weighted(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<arrow::datatypes::FieldRef> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(arrow::datatypes::Field::new(
        "weight",
        arrow::datatypes::DataType::Int64,
        false,
    )));
    Arc::new(arrow::datatypes::Schema::new(fields))
}

fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(crate::delta::arrow_error)
}
