//! Keys to dense slots: the hash table under every keyed state.
//!
//! A [`KeyTable`] gives every distinct key a slot, a small number under which the owner keeps the
//! rest in columns ([`Arena`](crate::delta::Arena), accumulators). Keys of one to three columns of
//! at most eight bytes are kept as machine words; all others as row-format bytes (`arrow::row`).
//! NULL is a key like any other and equal to itself; −0.0 equals 0.0 and every NaN equals every
//! NaN, as in Postgres' GROUP BY.
//!
//! ```text
//!   columns ─► KeyBatch (words or bytes, hashes) ─► probe (hash32, slot) ─► slots [4, 0, 4, 1]
//!                                                       └── equal? ── words[slot] / heap[slot]
//! ```
//!
//! Bounds: a table holds at most 2^32 − 2 keys; freed slots are used again, and the heap of byte
//! keys is compacted when more than half of it is garbage.

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::compute::kernels::arity::unary;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};
use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::base::growth::grow;
use crate::delta::batch::arrow_error;
use crate::error::Result;

/// What a lookup gives for a key that is not in the table.
pub const NO_SLOT: u32 = u32::MAX;

/// Rows whose lookups are under way at the same time: more than a core keeps apart, few enough to
/// stay in its nearest cache.
const PROBES_AHEAD: usize = 64;

/// The mask of a slot without a key; those of keys have a bit per NULL of at most three columns.
const FREE: u8 = 0x80;

/// Most key columns that are kept as words; a fourth would make the key longer than most row-format
/// keys.
const WORDS_MAX: usize = 3;

/// The seed is fixed: shards, plans and goldens must not depend on the run.
const SEED: u64 = 0x7469_6465_6d69_6c6c;

/// The keys of a batch, ready to be looked up.
pub struct KeyBatch {
    keys: Keys,
    hashes: Vec<u64>,
}

enum Keys {
    Words {
        words: Vec<u64>,
        masks: Option<Vec<u8>>,
    },
    Bytes(Rows),
}

impl KeyBatch {
    /// Encodes the key columns (in the order of the table's types) of a batch.
    pub fn new(table: &KeyTable, columns: &[ArrayRef]) -> Result<KeyBatch> {
        let hasher = FixedState::with_seed(SEED);
        match &table.store {
            Store::Words { stride, .. } => {
                let rows = columns[0].len();
                let mut words = vec![0u64; rows * stride];
                let mut masks: Option<Vec<u8>> = None;
                for (column, array) in columns.iter().enumerate() {
                    read_words(array, &mut words, *stride, column);
                    if let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) {
                        let masks = masks.get_or_insert_with(|| vec![0u8; rows]);
                        for row in 0..rows {
                            if nulls.is_null(row) {
                                words[row * stride + column] = 0;
                                masks[row] |= 1 << column;
                            }
                        }
                    }
                }
                let hashes = hash_words(&hasher, &words, *stride, masks.as_deref());
                Ok(KeyBatch {
                    keys: Keys::Words { words, masks },
                    hashes,
                })
            }
            Store::Bytes { converter, .. } => {
                let canonical: Vec<ArrayRef> = columns.iter().map(canonical_floats).collect();
                let rows = converter.convert_columns(&canonical).map_err(arrow_error)?;
                let hashes = rows
                    .iter()
                    .map(|row| hasher.hash_one(row.as_ref()))
                    .collect();
                Ok(KeyBatch {
                    keys: Keys::Bytes(rows),
                    hashes,
                })
            }
        }
    }

    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether the key is that of the row before.
    #[inline]
    fn is_as_before(&self, row: usize) -> bool {
        if self.hashes[row] != self.hashes[row - 1] {
            return false;
        }
        match &self.keys {
            Keys::Words { words, masks } => {
                let stride = words.len() / self.hashes.len();
                let key = |row: usize| &words[row * stride..][..stride];
                let mask = |row: usize| masks.as_ref().map_or(0, |masks| masks[row]);
                key(row) == key(row - 1) && mask(row) == mask(row - 1)
            }
            Keys::Bytes(rows) => rows.row(row) == rows.row(row - 1),
        }
    }

    /// One hash per row, the same for equal keys in every table, run and machine.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }
}

/// Distinct keys and their slots.
pub struct KeyTable {
    types: Vec<DataType>,
    table: HashTable<Entry>,
    store: Store,
    /// Slots given out so far, freed ones included.
    slots: usize,
    free: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    slot: u32,
}

enum Store {
    Words {
        stride: usize,
        words: Vec<u64>,
        masks: Vec<u8>,
    },
    Bytes {
        converter: Arc<RowConverter>,
        spans: Vec<Span>,
        heap: Vec<u8>,
        garbage: usize,
    },
}

#[derive(Clone, Copy, Default)]
struct Span {
    start: u64,
    length: u32,
}

impl KeyTable {
    /// A table for keys of the given column types.
    pub fn new(types: &[DataType]) -> Result<KeyTable> {
        let is_words = !types.is_empty()
            && types.len() <= WORDS_MAX
            && types
                .iter()
                .all(|data_type| word_width(data_type).is_some());
        let store = match is_words {
            true => Store::Words {
                stride: types.len(),
                words: Vec::new(),
                masks: Vec::new(),
            },
            false => {
                let fields = types
                    .iter()
                    .map(|data_type| SortField::new(data_type.clone()));
                let converter = RowConverter::new(fields.collect()).map_err(arrow_error)?;
                Store::Bytes {
                    converter: Arc::new(converter),
                    spans: Vec::new(),
                    heap: Vec::new(),
                    garbage: 0,
                }
            }
        };
        Ok(KeyTable {
            types: types.to_vec(),
            table: HashTable::new(),
            store,
            slots: 0,
            free: Vec::new(),
        })
    }

    /// Keys that are in the table.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// One past the highest slot ever given out: how long per-slot vectors must be.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Puts each row's slot into `slots` (cleared first), giving new keys a slot. Returns the slots
    /// that were given out by this call, in the order of their first row; in a table that never
    /// freed one they are numbered in that order.
    pub fn insert(&mut self, keys: &KeyBatch, slots: &mut Vec<u32>) -> Vec<u32> {
        let mut fresh = Vec::new();
        self.insert_with(keys, slots, &mut fresh, Self::guess);
        fresh
    }

    /// [`KeyTable::insert`] where for each row a slot is known in which its key may well be, or
    /// [`NO_SLOT`]: what is right costs no lookup, what is wrong one as always.
    pub fn insert_guided(
        &mut self,
        keys: &KeyBatch,
        hints: &[u32],
        slots: &mut Vec<u32>,
    ) -> Vec<u32> {
        assert_eq!(hints.len(), keys.len(), "one hint per row");
        let mut fresh = Vec::new();
        self.insert_with(keys, slots, &mut fresh, |table, _, rows, guesses| {
            for (&hint, guess) in hints[rows].iter().zip(guesses) {
                *guess = if (hint as usize) < table.slots {
                    hint
                } else {
                    NO_SLOT
                };
            }
        });
        fresh
    }

    /// `guess` says for some rows in which slot each key may be.
    fn insert_with(
        &mut self,
        keys: &KeyBatch,
        slots: &mut Vec<u32>,
        fresh: &mut Vec<u32>,
        guess: impl Fn(&Self, &KeyBatch, Range<usize>, &mut [u32; PROBES_AHEAD]),
    ) {
        slots.clear();
        slots.reserve(keys.len());
        let mut guesses = [NO_SLOT; PROBES_AHEAD];
        for begin in (0..keys.len()).step_by(PROBES_AHEAD) {
            let rows = begin..keys.len().min(begin + PROBES_AHEAD);
            guess(self, keys, rows.clone(), &mut guesses);
            for (row, &guess) in rows.zip(&guesses) {
                // Changes often come as -old +new of one key next to each other.
                if row > 0 && keys.is_as_before(row) {
                    slots.push(slots[row - 1]);
                } else if guess != NO_SLOT && self.store.equals(guess, keys, row) {
                    slots.push(guess);
                } else {
                    slots.push(self.insert_one(keys, row, fresh));
                }
            }
        }
    }

    /// For each row the slot of a key with the same half hash, almost always the row's own key, or
    /// [`NO_SLOT`], which says nothing. In a table larger than the caches nearly all of a lookup is
    /// waiting for memory; lookups without a comparison do not wait for each other.
    fn guess(&self, keys: &KeyBatch, rows: Range<usize>, guesses: &mut [u32; PROBES_AHEAD]) {
        for (row, guess) in rows.zip(guesses) {
            if row > 0 && keys.hashes[row] == keys.hashes[row - 1] {
                // A key like the one before needs none.
                *guess = NO_SLOT;
                continue;
            }
            let hash = short(keys.hashes[row]);
            let found = self.table.find(spread(hash), |entry| entry.hash == hash);
            *guess = found.map_or(NO_SLOT, |entry| entry.slot);
        }
    }

    fn insert_one(&mut self, keys: &KeyBatch, row: usize, fresh: &mut Vec<u32>) -> u32 {
        let hash = short(keys.hashes[row]);
        let store = &self.store;
        let found = self.table.find(spread(hash), |entry| {
            entry.hash == hash && store.equals(entry.slot, keys, row)
        });
        if let Some(entry) = found {
            return entry.slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = u32::try_from(self.slots).expect("fewer than 2^32 keys");
            assert!(slot != NO_SLOT, "fewer than 2^32 - 1 keys");
            self.slots += 1;
            slot
        });
        self.store.put(slot, keys, row);
        self.table
            .insert_unique(spread(hash), Entry { hash, slot }, |entry| {
                spread(entry.hash)
            });
        fresh.push(slot);
        slot
    }

    /// Puts each row's slot, or [`NO_SLOT`], into `slots` (cleared first).
    pub fn lookup(&self, keys: &KeyBatch, slots: &mut Vec<u32>) {
        slots.clear();
        slots.reserve(keys.len());
        let mut guesses = [NO_SLOT; PROBES_AHEAD];
        for begin in (0..keys.len()).step_by(PROBES_AHEAD) {
            let rows = begin..keys.len().min(begin + PROBES_AHEAD);
            self.guess(keys, rows.clone(), &mut guesses);
            for (row, &guess) in rows.zip(&guesses) {
                if row > 0 && keys.is_as_before(row) {
                    slots.push(slots[row - 1]);
                    continue;
                }
                if guess != NO_SLOT && self.store.equals(guess, keys, row) {
                    slots.push(guess);
                    continue;
                }
                let hash = short(keys.hashes[row]);
                let found = self.table.find(spread(hash), |entry| {
                    entry.hash == hash && self.store.equals(entry.slot, keys, row)
                });
                slots.push(found.map_or(NO_SLOT, |entry| entry.slot));
            }
        }
    }

    /// Takes a key out; its slot may be given to another key by the next insert.
    ///
    /// # Panics
    /// When the slot holds no key.
    pub fn remove(&mut self, slot: u32) {
        let hash = short(self.store.hash(slot));
        let entry = self
            .table
            .find_entry(spread(hash), |entry| entry.slot == slot)
            .unwrap_or_else(|_| panic!("slot {slot} holds a key"));
        entry.remove();
        self.store.release(slot);
        self.free.push(slot);
    }

    /// Puts keys into exactly the given slots: how the blocks of a checkpoint are read back, the
    /// oldest first. What a slot held before is gone.
    ///
    /// # Panics
    /// When a slot is given twice or the numbers of slots and rows differ.
    pub fn restore(&mut self, keys: &KeyBatch, slots: &[u32]) {
        assert_eq!(keys.len(), slots.len(), "one slot per key");
        // All old keys go before the first new one comes: a key may have moved between slots.
        for &slot in slots {
            if self.holds(slot) {
                self.remove(slot);
            }
        }
        let highest = slots.iter().max().map_or(0, |&slot| slot as usize + 1);
        self.slots = self.slots.max(highest);
        let mut is_used = vec![false; self.slots];
        self.table
            .iter()
            .for_each(|entry| is_used[entry.slot as usize] = true);
        for (row, &slot) in slots.iter().enumerate() {
            assert!(
                !std::mem::replace(&mut is_used[slot as usize], true),
                "a slot holds one key"
            );
            let hash = short(keys.hashes[row]);
            self.store.put(slot, keys, row);
            self.table
                .insert_unique(spread(hash), Entry { hash, slot }, |entry| {
                    spread(entry.hash)
                });
        }
        let unused = (0..self.slots).rev().filter(|&slot| !is_used[slot]);
        self.free = unused
            .map(|slot| u32::try_from(slot).expect("slots fit u32"))
            .collect();
    }

    /// Whether the slot holds a key.
    pub fn holds(&self, slot: u32) -> bool {
        if slot as usize >= self.slots {
            return false;
        }
        let hash = short(self.store.hash(slot));
        self.table
            .find(spread(hash), |entry| entry.slot == slot)
            .is_some()
    }

    /// The slots that hold a key, rising.
    pub fn live_slots(&self) -> Vec<u32> {
        let mut slots: Vec<u32> = self.table.iter().map(|entry| entry.slot).collect();
        slots.sort_unstable();
        slots
    }

    /// The key columns of the given slots, in their order.
    pub fn columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        match &self.store {
            Store::Words {
                stride,
                words,
                masks,
            } => {
                let build = |column: usize| {
                    let values = slots
                        .iter()
                        .map(|&slot| words[slot as usize * stride + column]);
                    let is_null = |slot: u32| {
                        masks
                            .get(slot as usize)
                            .is_some_and(|mask| mask & (1 << column) != 0)
                    };
                    let nulls = match masks.is_empty() {
                        true => None,
                        false => Some(NullBuffer::new(BooleanBuffer::collect_bool(
                            slots.len(),
                            |i| !is_null(slots[i]),
                        ))),
                    };
                    write_words(&self.types[column], values, nulls)
                };
                (0..self.types.len()).map(build).collect()
            }
            Store::Bytes {
                converter,
                spans,
                heap,
                ..
            } => {
                let parser = converter.parser();
                let rows = slots.iter().map(|&slot| {
                    let span = spans[slot as usize];
                    let start = usize::try_from(span.start).expect("the heap is in memory");
                    parser.parse(&heap[start..start + span.length as usize])
                });
                converter.convert_rows(rows).map_err(arrow_error)
            }
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let index = self.table.allocation_size() + self.free.capacity() * 4;
        index
            + match &self.store {
                Store::Words { words, masks, .. } => words.capacity() * 8 + masks.capacity(),
                Store::Bytes { spans, heap, .. } => {
                    spans.capacity() * size_of::<Span>() + heap.capacity()
                }
            }
    }
}

impl Store {
    #[inline]
    fn equals(&self, slot: u32, keys: &KeyBatch, row: usize) -> bool {
        let slot = slot as usize;
        match (self, &keys.keys) {
            (
                Store::Words {
                    stride,
                    words,
                    masks,
                },
                Keys::Words {
                    words: other,
                    masks: other_masks,
                    ..
                },
            ) => {
                let same = match stride {
                    1 => words[slot] == other[row],
                    2 => {
                        words[slot * 2] == other[row * 2]
                            && words[slot * 2 + 1] == other[row * 2 + 1]
                    }
                    _ => words[slot * stride..][..*stride] == other[row * stride..][..*stride],
                };
                same && mask_of(masks, slot) == other_masks.as_ref().map_or(0, |each| each[row])
            }
            (Store::Bytes { spans, heap, .. }, Keys::Bytes(rows)) => {
                bytes_of(spans, heap, slot) == rows.row(row).as_ref()
            }
            _ => unreachable!("a key batch is made for its table's kind"),
        }
    }

    fn put(&mut self, slot: u32, keys: &KeyBatch, row: usize) {
        let slot = slot as usize;
        match (self, &keys.keys) {
            (
                Store::Words {
                    stride,
                    words,
                    masks,
                },
                Keys::Words {
                    words: other,
                    masks: nulls,
                    ..
                },
            ) => {
                grow(words, (slot + 1) * *stride, 0);
                words[slot * *stride..][..*stride]
                    .copy_from_slice(&other[row * *stride..][..*stride]);
                let mask = nulls.as_ref().map_or(0, |each| each[row]);
                // Masks cost nothing until the first NULL comes.
                if mask != 0 {
                    grow(masks, slot + 1, 0);
                }
                if let Some(stored) = masks.get_mut(slot) {
                    *stored = mask;
                }
            }
            (Store::Bytes { spans, heap, .. }, Keys::Bytes(rows)) => {
                let row = rows.row(row);
                let bytes = row.as_ref();
                grow(spans, slot + 1, Span::default());
                spans[slot] = Span {
                    start: heap.len() as u64,
                    length: u32::try_from(bytes.len()).expect("a key is shorter than 4 GiB"),
                };
                heap.extend_from_slice(bytes);
            }
            _ => unreachable!("a key batch is made for its table's kind"),
        }
    }

    fn hash(&self, slot: u32) -> u64 {
        let hasher = FixedState::with_seed(SEED);
        let slot = slot as usize;
        match self {
            Store::Words {
                stride,
                words,
                masks,
            } => hash_key(
                &hasher,
                &words[slot * stride..][..*stride],
                mask_of(masks, slot),
            ),
            Store::Bytes { spans, heap, .. } => hasher.hash_one(bytes_of(spans, heap, slot)),
        }
    }

    /// Empties a slot: it is equal to no key then.
    fn release(&mut self, slot: u32) {
        let (spans, heap, garbage) = match self {
            Store::Words { masks, .. } => {
                grow(masks, slot as usize + 1, 0);
                masks[slot as usize] = FREE;
                return;
            }
            Store::Bytes {
                spans,
                heap,
                garbage,
                ..
            } => (spans, heap, garbage),
        };
        *garbage += spans[slot as usize].length as usize;
        spans[slot as usize] = Span::default();
        if *garbage <= heap.len() / 2 || *garbage < 4096 {
            return;
        }
        let mut packed = Vec::with_capacity(heap.len() - *garbage);
        for span in spans.iter_mut().filter(|span| span.length > 0) {
            let start = usize::try_from(span.start).expect("the heap is in memory");
            span.start = packed.len() as u64;
            packed.extend_from_slice(&heap[start..start + span.length as usize]);
        }
        *heap = packed;
        *garbage = 0;
    }
}

#[inline]
fn mask_of(masks: &[u8], slot: usize) -> u8 {
    masks.get(slot).copied().unwrap_or(0)
}

fn bytes_of<'a>(spans: &[Span], heap: &'a [u8], slot: usize) -> &'a [u8] {
    let span = spans[slot];
    let start = usize::try_from(span.start).expect("the heap is in memory");
    &heap[start..start + span.length as usize]
}

/// The half of a hash that the table keeps; shards are chosen by the other half.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
fn short(hash: u64) -> u32 {
    hash as u32
}

/// A 64-bit hash from the kept half: hashbrown takes its tag from the top bits.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline]
fn hash_key(hasher: &FixedState, words: &[u64], mask: u8) -> u64 {
    let first = words[0] ^ (u64::from(mask) << 56);
    match words {
        [_] => hasher.hash_one(first),
        [_, b] => hasher.hash_one((first, *b)),
        [_, b, c] => hasher.hash_one((first, *b, *c)),
        _ => hasher.hash_one((first, &words[1..])),
    }
}

fn hash_words(hasher: &FixedState, words: &[u64], stride: usize, masks: Option<&[u8]>) -> Vec<u64> {
    let keys = words.chunks_exact(stride);
    match masks {
        None => keys.map(|key| hash_key(hasher, key, 0)).collect(),
        Some(masks) => keys
            .zip(masks)
            .map(|(key, mask)| hash_key(hasher, key, *mask))
            .collect(),
    }
}

/// The bytes of a type whose values fit a word; `None` for all others.
fn word_width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Boolean => Some(1),
        DataType::Float16 => Some(2),
        other if other.is_primitive() => other.primitive_width().filter(|&width| width <= 8),
        _ => None,
    }
}

fn canonical_floats(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float16 => Arc::new(unary::<_, _, Float16Type>(
            array.as_primitive::<Float16Type>(),
            |value| {
                if value.is_nan() {
                    half_nan()
                } else {
                    value + half_zero()
                }
            },
        )),
        DataType::Float32 => Arc::new(unary::<_, _, Float32Type>(
            array.as_primitive::<Float32Type>(),
            |value| {
                if value.is_nan() {
                    f32::NAN
                } else {
                    value + 0.0
                }
            },
        )),
        DataType::Float64 => Arc::new(unary::<_, _, Float64Type>(
            array.as_primitive::<Float64Type>(),
            |value| {
                if value.is_nan() {
                    f64::NAN
                } else {
                    value + 0.0
                }
            },
        )),
        _ => array.clone(),
    }
}

type Half = <Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native;

fn half_nan() -> Half {
    Half::NAN
}

fn half_zero() -> Half {
    Half::ZERO
}

/// Writes a column's values, as words, into every `stride`-th place from `column` on.
fn read_words(array: &ArrayRef, words: &mut [u64], stride: usize, column: usize) {
    if let DataType::Boolean = array.data_type() {
        let values = array.as_boolean().values();
        for (row, value) in values.iter().enumerate() {
            words[row * stride + column] = u64::from(value);
        }
        return;
    }
    let array = canonical_floats(array);
    let data = array.to_data();
    let width = word_width(array.data_type()).expect("the table keeps this type as words");
    let bytes = &data.buffers()[0].as_slice()[data.offset() * width..][..data.len() * width];
    fn fill<const WIDTH: usize>(bytes: &[u8], words: &mut [u64], stride: usize, column: usize) {
        let (values, rest) = bytes.as_chunks::<WIDTH>();
        debug_assert!(rest.is_empty());
        for (value, key) in values.iter().zip(words.chunks_exact_mut(stride)) {
            let mut word = [0u8; 8];
            word[..WIDTH].copy_from_slice(value);
            key[column] = u64::from_le_bytes(word);
        }
    }
    match width {
        1 => fill::<1>(bytes, words, stride, column),
        2 => fill::<2>(bytes, words, stride, column),
        4 => fill::<4>(bytes, words, stride, column),
        _ => fill::<8>(bytes, words, stride, column),
    }
}

fn write_words(
    data_type: &DataType,
    values: impl ExactSizeIterator<Item = u64>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let length = values.len();
    let buffer: Buffer = match word_width(data_type) {
        _ if matches!(data_type, DataType::Boolean) => {
            let bits: Vec<bool> = values.map(|word| word != 0).collect();
            BooleanBuffer::from(bits).into_inner()
        }
        Some(8) => values.collect::<Vec<u64>>().into(),
        Some(width) => {
            let mut bytes = Vec::with_capacity(length * width);
            values.for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()[..width]));
            Buffer::from_vec(bytes)
        }
        None => unreachable!("the table keeps this type as words"),
    };
    // Buffers of bytes may be less aligned than the type wants; the builder copies them then.
    let data = ArrayData::builder(data_type.clone())
        .len(length)
        .add_buffer(buffer)
        .nulls(nulls)
        .align_buffers(true)
        .build()
        .map_err(arrow_error)?;
    Ok(make_array(data))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::{Int64Array, StringArray};
    use fastrand::Rng;

    use super::*;

    /// Keys of words or of bytes; `None` is NULL.
    fn columns(keys: &[Option<i64>], is_text: bool) -> Vec<ArrayRef> {
        match is_text {
            true => {
                let text = keys.iter().map(|key| key.map(|key| format!("key {key}")));
                vec![Arc::new(text.collect::<StringArray>())]
            }
            false => vec![Arc::new(keys.iter().copied().collect::<Int64Array>())],
        }
    }

    /// Inserts and removals at random, with hints that are right, stale or nonsense, against a map.
    #[test]
    fn hints_change_nothing_but_the_work() {
        for seed in 0..60 {
            let mut random = Rng::with_seed(seed);
            let is_text = random.bool();
            let data_type = if is_text {
                DataType::Utf8
            } else {
                DataType::Int64
            };
            let mut table = KeyTable::new(&[data_type]).unwrap();
            let mut model: HashMap<Option<i64>, u32> = HashMap::new();
            let mut last: HashMap<Option<i64>, u32> = HashMap::new();
            for _ in 0..30 {
                let key = |random: &mut Rng| (random.u8(..20) > 0).then(|| random.i64(0..40));
                let keys: Vec<_> = (0..random.usize(..200)).map(|_| key(&mut random)).collect();
                let hint = |key: &Option<i64>, random: &mut Rng| match random.u8(..4) {
                    0 => random.u32(..60),
                    1 => NO_SLOT,
                    _ => last.get(key).copied().unwrap_or(NO_SLOT),
                };
                let hints: Vec<u32> = keys.iter().map(|key| hint(key, &mut random)).collect();
                let batch = KeyBatch::new(&table, &columns(&keys, is_text)).unwrap();
                let mut slots = Vec::new();
                let fresh = match random.bool() {
                    true => table.insert_guided(&batch, &hints, &mut slots),
                    false => table.insert(&batch, &mut slots),
                };
                let mut expected_fresh = Vec::new();
                for (key, &slot) in keys.iter().zip(&slots) {
                    let known = *model.entry(*key).or_insert_with(|| {
                        expected_fresh.push(slot);
                        slot
                    });
                    assert_eq!(slot, known, "seed {seed}: the slot of {key:?}");
                    last.insert(*key, slot);
                }
                assert_eq!(fresh, expected_fresh, "seed {seed}");
                assert_eq!(table.len(), model.len(), "seed {seed}");
                let mut found = Vec::new();
                table.lookup(&batch, &mut found);
                assert_eq!(found, slots, "seed {seed}");
                let gone: Vec<_> = model
                    .keys()
                    .copied()
                    .filter(|_| random.u8(..3) == 0)
                    .collect();
                for key in gone {
                    table.remove(model.remove(&key).unwrap());
                }
            }
        }
    }
}
