//! Merging: keeping chains and files in proportion to what is live.
//!
//! ```text
//! chain     [1: a b c d] [2: b c] [3: free a] [4: b e]      live: b c d e
//! newest first              4 keeps b e · 3 marks a · 2 keeps c · 1 keeps d
//! merged    [b e c d]
//! ```
//! Two rules, both worked off in pieces of bounded size:
//! 1. A chain that may be larger than `CHECKPOINT_CHAIN_FACTOR` times its live rows, or has too
//!    many small blocks, is looked at. Its slots alone are counted first, newest block first, with
//!    one bit per slot; only when the chain really is too large are its rows rewritten, again
//!    newest first: a row stays if no later block wrote or freed its slot, so memory is that one
//!    bit per slot and one block.
//! 2. Files shared by many chains keep blocks that nobody names. When all files together are half
//!    as large again as the blocks that are named, the emptiest files' blocks are copied out.
//!
//! The results wait in a new file until the next checkpoint adopts them: a [`Replacement`] applies
//! where its old blocks still stand, so deltas written meanwhile stay behind the merged blocks, and
//! a full set written meanwhile wins. A crash before that loses nothing but the work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::error::ArrowError;

use crate::base::limits::{
    CHECKPOINT_CHAIN_BLOCKS_MAX, CHECKPOINT_CHAIN_BYTES_MIN, CHECKPOINT_CHAIN_FACTOR,
    CHECKPOINT_GARBAGE_BYTES_MIN, CHECKPOINT_MERGED_BLOCK_BYTES, CHECKPOINT_MERGED_FILE_BYTES,
};
use crate::error::{Error, Result, SqlState};
use crate::storage::checkpoint::block::{Address, Block, read_block, read_raw, read_slots};
use crate::storage::checkpoint::data_file::DataFileWriter;
use crate::storage::checkpoint::manifest::{BlockPlace, Chain, Manifest};
use crate::storage::checkpoint::store::Store;
use crate::storage::file::{length, size};

/// Whether there is more to merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merging {
    Working,
    /// Nothing to do until the next checkpoint.
    Idle,
}

/// What the next checkpoint adopts.
#[derive(Clone, Debug)]
pub enum Replacement {
    /// The chain that begins with `before` begins with `after` instead, whose rows are `live` many.
    Chain {
        address: Address,
        before: Vec<BlockPlace>,
        after: Vec<BlockPlace>,
        live: u64,
    },
    /// A block was copied.
    Moved {
        address: Address,
        before: BlockPlace,
        after: BlockPlace,
    },
}

impl Replacement {
    pub fn new_files(&self) -> Vec<u64> {
        match self {
            Replacement::Chain { after, .. } => after.iter().map(|place| place.file).collect(),
            Replacement::Moved { after, .. } => vec![after.file],
        }
    }

    fn address(&self) -> Address {
        match self {
            Replacement::Chain { address, .. } | Replacement::Moved { address, .. } => *address,
        }
    }
}

/// The state of merging between two steps.
#[derive(Default)]
pub struct Merger {
    task: Option<Task>,
    /// The file that results go to.
    output: Option<DataFileWriter>,
    /// Results in `output`, which is not yet whole.
    done: Vec<Replacement>,
    /// What cannot be read: it is left alone, so that the rest is merged.
    damaged: Vec<BlockPlace>,
}

enum Task {
    Count(Counting),
    Rewrite(Rewriting),
    Move(Moving),
}

/// Counts the live slots of a chain.
struct Counting {
    source: Source,
    seen: SlotSet,
    live: u64,
}

/// Writes the live rows of a chain anew.
struct Rewriting {
    source: Source,
    seen: SlotSet,
    live: u64,
    /// Rows that wait for a block to fill up.
    held_slots: Vec<u32>,
    held: Vec<RecordBatch>,
    held_bytes: usize,
    after: Vec<BlockPlace>,
}

/// The chain that a task works on, newest block first.
struct Source {
    /// Held so that the files stay.
    manifest: Arc<Manifest>,
    address: Address,
    blocks: Vec<BlockPlace>,
    /// Blocks not yet looked at.
    left: usize,
}

/// Copies blocks out of files that are mostly garbage.
struct Moving {
    _manifest: Arc<Manifest>,
    places: Vec<(Address, BlockPlace)>,
}

impl Task {
    /// The block that it reads next.
    fn place(&self) -> Option<BlockPlace> {
        match self {
            Task::Count(counting) => counting.source.next(),
            Task::Rewrite(rewriting) => rewriting.source.next(),
            Task::Move(moving) => moving.places.last().map(|(_, place)| *place),
        }
    }
}

impl Merger {
    /// Works until about `budget` bytes were read or written.
    pub fn step(&mut self, store: &Store, budget: u64) -> Result<Merging> {
        let mut spent = 0;
        loop {
            let Some(task) = self.task.take().or_else(|| self.choose(store)) else {
                self.finish(store)?;
                return Ok(Merging::Idle);
            };
            let place = task.place();
            let worked = match task {
                Task::Count(counting) => self.count(store, counting),
                Task::Rewrite(rewriting) => self.rewrite(store, rewriting),
                Task::Move(moving) => self.copy(store, moving),
            };
            let (bytes, task) = worked.inspect_err(|error| {
                if error.state() == SqlState::DATA_CORRUPTED {
                    self.damaged.extend(place);
                }
            })?;
            self.task = task;
            spent += bytes;
            let written = self.output.as_ref().map_or(0, DataFileWriter::bytes);
            if self.task.is_none() && written >= CHECKPOINT_MERGED_FILE_BYTES {
                self.finish(store)?;
            }
            if spent >= budget {
                return Ok(Merging::Working);
            }
        }
    }

    /// Forgets everything unfinished.
    pub fn abandon(&mut self, store: &Store) {
        let merger = std::mem::take(self);
        self.damaged = merger.damaged;
        if let Some(output) = merger.output {
            store.lock().open.remove(&output.sequence());
        }
    }

    /// The next thing to do in the newest checkpoint.
    fn choose(&self, store: &Store) -> Option<Task> {
        let state = store.lock();
        let manifest = state.retained.back()?;
        let results = self.done.iter().chain(&state.merged);
        let is_done: BTreeSet<Address> = results.map(Replacement::address).collect();
        let mut chains = manifest.chains.iter();
        let found = chains.find(|(address, chain)| {
            !is_done.contains(address)
                && !chain
                    .blocks
                    .iter()
                    .any(|place| self.damaged.contains(place))
                && is_excessive(chain, chain.live_min)
        });
        if let Some((address, chain)) = found {
            let source = Source {
                manifest: Arc::clone(manifest),
                address: *address,
                blocks: chain.blocks.clone(),
                left: chain.blocks.len(),
            };
            return Some(Task::Count(Counting {
                source,
                seen: SlotSet::default(),
                live: 0,
            }));
        }
        if !is_done.is_empty() {
            // Files are looked at when the chains are settled and published.
            return None;
        }
        let mut places = places_to_move(manifest);
        places.retain(|(_, place)| !self.damaged.contains(place));
        (!places.is_empty()).then(|| {
            Task::Move(Moving {
                _manifest: Arc::clone(manifest),
                places,
            })
        })
    }

    fn count(&mut self, store: &Store, mut task: Counting) -> Result<(u64, Option<Task>)> {
        let Some(place) = task.source.take_newest() else {
            let Counting {
                mut source, live, ..
            } = task;
            let chain = Chain {
                live_min: live,
                blocks: source.blocks.clone(),
            };
            if !is_excessive(&chain, live) {
                let before = chain.blocks;
                let (address, after) = (source.address, before.clone());
                self.done.push(Replacement::Chain {
                    address,
                    before,
                    after,
                    live,
                });
                return Ok((0, None));
            }
            source.left = source.blocks.len();
            return Ok((0, Some(Task::Rewrite(Rewriting::new(source)))));
        };
        let file = store.open_file(place.file)?;
        let slots = read_slots(&file, &place, task.source.address)?;
        // Within a block the last row of a slot counts, and rows come after what is freed.
        let is_new = slots
            .slots
            .iter()
            .rev()
            .filter(|slot| task.seen.insert(**slot));
        task.live += size(is_new.count());
        for slot in slots.freed {
            task.seen.insert(slot);
        }
        Ok((place.slot_bytes(), Some(Task::Count(task))))
    }

    fn rewrite(&mut self, store: &Store, mut task: Rewriting) -> Result<(u64, Option<Task>)> {
        let Some(place) = task.source.take_newest() else {
            self.flush(store, &mut task)?;
            let Rewriting {
                source,
                live,
                after,
                ..
            } = task;
            let Source {
                address,
                blocks: before,
                ..
            } = source;
            self.done.push(Replacement::Chain {
                address,
                before,
                after,
                live,
            });
            return Ok((0, None));
        };
        let file = store.open_file(place.file)?;
        let block = read_block(&file, &place, task.source.address)?;
        let Some((slots, batch)) = task.keep_live(block)? else {
            return Ok((place.bytes, Some(Task::Rewrite(task))));
        };
        let share = place.bytes * size(slots.len()) / u64::from(place.slots).max(1);
        let bytes = length(share);
        let is_full = task.held_bytes + bytes > CHECKPOINT_MERGED_BLOCK_BYTES;
        let is_other = task
            .held
            .last()
            .is_some_and(|last| last.schema() != batch.schema());
        if is_full || is_other {
            self.flush(store, &mut task)?;
        }
        task.live += size(slots.len());
        task.held_slots.extend(slots);
        task.held.push(batch);
        task.held_bytes += bytes;
        Ok((place.bytes + share, Some(Task::Rewrite(task))))
    }

    /// Writes the rows that wait as one block.
    fn flush(&mut self, store: &Store, task: &mut Rewriting) -> Result<()> {
        let Some(first) = task.held.first() else {
            return Ok(());
        };
        let batch = concat_batches(&first.schema(), &task.held).map_err(cannot_merge)?;
        let slots = std::mem::take(&mut task.held_slots);
        let output = self.output(store)?;
        task.after
            .push(output.write_block(task.source.address, &slots, &batch, &[])?);
        task.held.clear();
        task.held_bytes = 0;
        Ok(())
    }

    fn copy(&mut self, store: &Store, mut task: Moving) -> Result<(u64, Option<Task>)> {
        let Some((address, before)) = task.places.pop() else {
            return Ok((0, None));
        };
        let file = store.open_file(before.file)?;
        let bytes = read_raw(&file, &before, address)?;
        let output = self.output(store)?;
        let after = output.write_raw(address, &bytes, (before.slots, before.freed))?;
        self.done.push(Replacement::Moved {
            address,
            before,
            after,
        });
        Ok((2 * before.bytes, Some(Task::Move(task))))
    }

    fn output(&mut self, store: &Store) -> Result<&mut DataFileWriter> {
        if self.output.is_none() {
            self.output = Some(store.lock().create_file(store)?);
        }
        Ok(self.output.as_mut().expect("it was just created"))
    }

    /// Makes the results whole and hands them to the next checkpoint.
    fn finish(&mut self, store: &Store) -> Result<()> {
        let finished = self.output.take().map(|output| {
            let sequence = output.sequence();
            output.finish().inspect_err(|e| {
                let mut state = store.lock();
                state.open.remove(&sequence);
                state.note_failure(e);
            })
        });
        let entry = finished.transpose()?;
        let mut state = store.lock();
        if let Some(entry) = entry {
            state.open.remove(&entry.sequence);
            state.files.insert(entry.sequence, entry);
        }
        state.merged.append(&mut self.done);
        Ok(())
    }
}

impl Source {
    fn next(&self) -> Option<BlockPlace> {
        let next = self.left.checked_sub(1)?;
        self.blocks.get(next).copied()
    }

    fn take_newest(&mut self) -> Option<BlockPlace> {
        self.left = self.left.checked_sub(1)?;
        debug_assert!(
            self.manifest
                .files
                .contains_key(&self.blocks[self.left].file)
        );
        Some(self.blocks[self.left])
    }
}

impl Rewriting {
    fn new(source: Source) -> Self {
        Rewriting {
            source,
            seen: SlotSet::default(),
            live: 0,
            held_slots: Vec::new(),
            held: Vec::new(),
            held_bytes: 0,
            after: Vec::new(),
        }
    }

    /// The rows of a block that no later block overwrote or freed, if there are any.
    fn keep_live(&mut self, block: Block) -> Result<Option<(Vec<u32>, RecordBatch)>> {
        let Block {
            slots,
            batch,
            freed,
        } = block;
        let mut rows = Vec::new();
        // Backwards: of several rows for one slot the last counts.
        for (row, slot) in slots.iter().enumerate().rev() {
            if self.seen.insert(*slot) {
                rows.push(u32::try_from(row).expect("a block has less than 2^32 rows"));
            }
        }
        for slot in freed {
            self.seen.insert(slot);
        }
        if rows.is_empty() {
            return Ok(None);
        }
        if rows.len() == slots.len() {
            return Ok(Some((slots, batch)));
        }
        rows.reverse();
        let kept = rows
            .iter()
            .map(|row| slots[length(u64::from(*row))])
            .collect();
        let batch = take_record_batch(&batch, &UInt32Array::from(rows)).map_err(cannot_merge)?;
        Ok(Some((kept, batch)))
    }
}

/// Whether a chain with `live` live rows is larger than it should be.
fn is_excessive(chain: &Chain, live: u64) -> bool {
    let bytes = chain.bytes();
    let allowed = chain
        .live_bytes(live)
        .saturating_mul(CHECKPOINT_CHAIN_FACTOR);
    let blocks_allowed =
        CHECKPOINT_CHAIN_BLOCKS_MAX + 2 * bytes / size(CHECKPOINT_MERGED_BLOCK_BYTES);
    let blocks = size(chain.blocks.len());
    blocks > 1 && (bytes > allowed + CHECKPOINT_CHAIN_BYTES_MIN || blocks > blocks_allowed)
}

/// The blocks of the emptiest files, as many as must go for the garbage to be small again.
fn places_to_move(manifest: &Manifest) -> Vec<(Address, BlockPlace)> {
    let mut named: BTreeMap<u64, u64> = BTreeMap::new();
    let places = || {
        let chains = manifest.chains.iter();
        chains.flat_map(|(address, chain)| chain.blocks.iter().map(|place| (*address, *place)))
    };
    for (_, place) in places() {
        *named.entry(place.file).or_default() += place.bytes;
    }
    let named_total: u64 = named.values().sum();
    let allowed = named_total + named_total / 2 + CHECKPOINT_GARBAGE_BYTES_MIN;
    let mut total = manifest.bytes();
    // By the share that is named, in millionths, so that equal files keep their order.
    let share = |file: &u64| {
        let bytes = u128::from(manifest.files[file].bytes.max(1));
        u128::from(named[file]) * 1_000_000 / bytes
    };
    let mut files: Vec<u64> = named.keys().copied().collect();
    files.sort_by_key(share);
    let mut emptied = BTreeSet::new();
    for file in files {
        if total <= allowed {
            break;
        }
        total -= manifest.files[&file].bytes - named[&file];
        emptied.insert(file);
    }
    places()
        .filter(|(_, place)| emptied.contains(&place.file))
        .collect()
}

fn cannot_merge(cause: ArrowError) -> Error {
    Error::internal(format!("cannot merge checkpoint blocks: {cause}"))
}

/// A set of slots: one bit each up to the largest. Slots are dense, so that is small.
#[derive(Default)]
struct SlotSet(Vec<u64>);

impl SlotSet {
    /// Adds a slot; false when it was there.
    fn insert(&mut self, slot: u32) -> bool {
        let word = length(u64::from(slot / 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let bit = 1 << (slot % 64);
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }
}
