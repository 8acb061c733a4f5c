//! Rows as they stood at an epoch, for as long as somebody reads them and no longer than allowed.
//!
//! A snapshot shares its chunks with the store; a chunk that the store writes while a snapshot
//! holds it is copied, and what the snapshot has left is its alone. Such superseded chunks are
//! what snapshots cost, and they are counted, to the byte, from when they are superseded until the
//! last snapshot lets go of them. A slow reader of a busy view would hold ever more of them: the
//! oldest snapshots are therefore taken away from their readers when all together hold too much,
//! and those that are too old (72000, *snapshot too old*).
//!
//! ```text
//!   store       [a] [b] [c']                   superseded: [c], counted
//!   snapshot    [a] [b] [c]                    expired: no chunks, reading on is 72000
//! ```

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::base::Memory;
use crate::base::memory::{Account, Held};
use crate::delta::{Arena, DeltaBatch};
use crate::error::{Error, Result, SqlState};
use crate::view::store::{batch_of, slot_number};
use crate::view::weights::Weights;

/// A run of slots with their rows.
pub(super) struct Chunk {
    pub arena: Arena,
    /// How often the slot's row is there; 0 = free.
    pub weights: Weights,
    /// Set when the store has written on in a copy.
    superseded: OnceLock<Held>,
}

impl Chunk {
    pub fn new(arena: Arena) -> Chunk {
        Chunk {
            arena,
            weights: Weights::default(),
            superseded: OnceLock::new(),
        }
    }

    pub fn bytes(&self) -> usize {
        self.arena.bytes() + self.weights.bytes()
    }

    /// The chunk for writing. One that a snapshot holds is left to it, and counted, and the store
    /// goes on with a copy.
    pub fn writable<'a>(chunk: &'a mut Arc<Chunk>, memory: Option<&Arc<Memory>>) -> &'a mut Chunk {
        if Arc::get_mut(chunk).is_none() {
            chunk.leave(memory);
            *chunk = Arc::new(Chunk {
                arena: chunk.arena.clone(),
                weights: chunk.weights.clone(),
                superseded: OnceLock::new(),
            });
        }
        Arc::get_mut(chunk).expect("nobody else has the copy")
    }

    /// Counts the chunk as held by snapshots alone, until the last of them lets go of it.
    pub fn leave(&self, memory: Option<&Arc<Memory>>) {
        if let Some(memory) = memory {
            self.superseded.get_or_init(|| {
                let mut held = memory.hold(Account::Snapshots);
                held.set(self.bytes());
                held
            });
        }
    }
}

/// The chunks of a snapshot and of its clones, until they are taken away.
// A lock, because they are taken away while somebody reads; readers hold it for a pointer's copy.
type Chunks = RwLock<Option<Vec<Arc<Chunk>>>>;

/// The rows of a relation at one epoch.
#[derive(Clone)]
pub struct Snapshot {
    schema: SchemaRef,
    chunks: Arc<Chunks>,
    parts: usize,
    rows: u64,
}

impl Snapshot {
    pub(super) fn new(schema: SchemaRef, chunks: Vec<Arc<Chunk>>, rows: u64) -> Snapshot {
        Snapshot {
            schema,
            parts: chunks.len(),
            chunks: Arc::new(RwLock::new(Some(chunks))),
            rows,
        }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows, each counted as often as it is there.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many parts [`Snapshot::part`] can be asked for.
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// The rows of one part with only the columns asked for; a row that is there twice comes twice.
    ///
    /// # Errors
    /// 72000 when the snapshot has been taken away.
    pub fn part(&self, part: usize, columns: &[usize]) -> Result<RecordBatch> {
        let chunk = {
            let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
            chunks.as_ref().ok_or_else(too_old)?[part].clone()
        };
        let mut places = Vec::with_capacity(chunk.weights.len());
        for (place, weight) in chunk.weights.iter().enumerate() {
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

    /// Whether it can still be read.
    ///
    /// # Errors
    /// 72000 when it has been taken away.
    pub fn check(&self) -> Result<()> {
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        chunks.as_ref().map(|_| ()).ok_or_else(too_old)
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({} rows)", self.rows)
    }
}

fn too_old() -> Error {
    Error::new(SqlState::SNAPSHOT_TOO_OLD, "snapshot too old")
        .detail("the rows that it saw have changed since, and were kept for it as long as allowed")
        .hint(
            "end the transaction or close the cursor and begin again; read in shorter \
             transactions, or raise --snapshot-age-limit-s or --memory-limit",
        )
}

/// How long, and with how many superseded bytes, snapshots are kept for their readers.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotLimits {
    pub age: Duration,
    /// Of all readers together.
    pub bytes: usize,
}

/// The snapshots that readers hold, oldest first.
#[derive(Default)]
pub struct Readers {
    // A mutex, because statements come while the stepper takes snapshots away; each of them holds
    // it for as long as it takes to add one, or to look at the oldest.
    frames: Mutex<VecDeque<HeldFrame>>,
}

/// Snapshots that were taken as one, without keeping them alive.
struct HeldFrame {
    since: Instant,
    chunks: Vec<Weak<Chunks>>,
}

impl HeldFrame {
    fn is_held(&self) -> bool {
        self.chunks.iter().any(|chunks| chunks.strong_count() > 0)
    }

    /// Adds the superseded chunks that are not yet known, and their bytes.
    fn superseded(&self, known: &mut HashSet<*const Chunk>) -> usize {
        let mut bytes = 0;
        for chunks in self.chunks.iter().filter_map(Weak::upgrade) {
            let chunks = chunks.read().unwrap_or_else(PoisonError::into_inner);
            for chunk in chunks.iter().flatten() {
                if let Some(held) = chunk.superseded.get()
                    && known.insert(Arc::as_ptr(chunk))
                {
                    bytes += held.bytes();
                }
            }
        }
        bytes
    }
}

impl Readers {
    /// Takes note of snapshots that a reader has taken now.
    pub fn add(&self, snapshots: &[Snapshot], now: Instant) {
        if snapshots.is_empty() {
            return;
        }
        let chunks = snapshots.iter().map(|s| Arc::downgrade(&s.chunks));
        let mut frames = self.lock();
        // Most are let go of long before the next ones come. Those behind a long one are looked
        // through when there are twice as many as there were to be kept.
        while frames.front().is_some_and(|frame| !frame.is_held()) {
            frames.pop_front();
        }
        if frames.len() == frames.capacity() {
            frames.retain(HeldFrame::is_held);
        }
        frames.push_back(HeldFrame {
            since: now,
            chunks: chunks.collect(),
        });
    }

    /// When the oldest snapshots are too old, if nobody lets go of them before.
    pub fn deadline(&self, limits: SnapshotLimits) -> Option<Instant> {
        let frames = self.lock();
        let oldest = frames.iter().find(|frame| frame.is_held())?;
        oldest.since.checked_add(limits.age)
    }

    /// Takes away what is too old, and the oldest while all hold too much. Returns how many
    /// readers have lost theirs.
    pub fn expire(&self, memory: &Memory, limits: SnapshotLimits, now: Instant) -> usize {
        let mut lost = 0;
        for frame in self.expired(memory, limits, now) {
            let held: Vec<Arc<Chunks>> = frame.chunks.iter().filter_map(Weak::upgrade).collect();
            lost += usize::from(!held.is_empty());
            for chunks in held {
                let taken = {
                    let mut chunks = chunks.write().unwrap_or_else(PoisonError::into_inner);
                    chunks.take()
                };
                // Given back when nobody waits for the lock.
                drop(taken);
            }
        }
        lost
    }

    fn expired(&self, memory: &Memory, limits: SnapshotLimits, now: Instant) -> Vec<HeldFrame> {
        let mut expired = Vec::new();
        let mut frames = self.lock();
        while let Some(oldest) = frames.front()
            && (!oldest.is_held() || now.saturating_duration_since(oldest.since) > limits.age)
        {
            expired.extend(frames.pop_front());
        }
        // Views that are being built hold snapshots as well, which nobody can take away: what
        // readers hold is only looked at when all hold too much.
        if memory.held(Account::Snapshots) <= limits.bytes {
            return expired;
        }
        // From the youngest on, as many as fit are kept; of the others those that would free
        // something go.
        let mut known = HashSet::new();
        let mut bytes = 0;
        let mut kept = VecDeque::new();
        while let Some(frame) = frames.pop_back() {
            let own = frame.superseded(&mut known);
            bytes += own;
            match own > 0 && bytes > limits.bytes {
                true => expired.push(frame),
                false => kept.push_front(frame),
            }
        }
        *frames = kept;
        expired
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<HeldFrame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::notation;
    use crate::view::{Identity, Store};

    const HOUR: Duration = Duration::from_secs(3600);

    fn memory() -> Arc<Memory> {
        Memory::accounted_only(usize::MAX)
    }

    fn held(memory: &Memory) -> usize {
        memory.held(Account::Snapshots)
    }

    fn store(memory: &Arc<Memory>) -> Store {
        let schema = notation::parse("k:bigint v:bigint").schema();
        let mut store = Store::new(schema, Identity::Key(vec![0])).unwrap();
        store.count_superseded_in(memory.clone());
        store
    }

    fn change(store: &mut Store, text: &str) {
        let delta = notation::parse(&format!("k:bigint v:bigint\n{text}"));
        store.apply(&delta).unwrap();
    }

    fn state(snapshot: &Snapshot) -> Option<SqlState> {
        let read = snapshot.part(0, &[0]);
        assert_eq!(read.is_ok(), snapshot.check().is_ok());
        read.err().map(|error| error.state())
    }

    #[test]
    fn what_snapshots_alone_hold_is_counted_once_and_until_the_last_lets_go() {
        let memory = memory();
        let mut store = store(&memory);
        change(&mut store, "+ 1 1");
        let (first, second) = (store.snapshot(), store.snapshot());
        assert_eq!(held(&memory), 0, "it shares what the store has");
        change(&mut store, "- 1 1\n+ 1 2");
        let one = held(&memory);
        assert!(one > 0);
        change(&mut store, "- 1 2\n+ 1 3");
        assert_eq!(held(&memory), one, "nobody holds the second version");
        drop(first);
        assert_eq!(held(&memory), one);
        drop(second);
        assert_eq!(held(&memory), 0);
        let last = store.snapshot();
        drop(store);
        assert!(held(&memory) > 0, "the relation has gone");
        assert_eq!(last.rows(), 1);
        drop(last);
        assert_eq!(held(&memory), 0);
    }

    #[test]
    fn the_oldest_go_while_all_hold_too_much() {
        let memory = memory();
        let mut store = store(&memory);
        let readers = Readers::default();
        let now = Instant::now();
        let mut readings = Vec::new();
        change(&mut store, "+ 1 0");
        let first = store.snapshot();
        // A copy has no room to grow: all that follow are of one size.
        change(&mut store, "- 1 0\n+ 1 1");
        drop(first);
        let mut one = 0;
        for version in 1..=4 {
            let snapshot = store.snapshot();
            readers.add(std::slice::from_ref(&snapshot), now);
            readings.push(snapshot);
            change(&mut store, &format!("- 1 {version}\n+ 1 {}", version + 1));
            one = one.max(held(&memory) / readings.len());
        }
        let limits = SnapshotLimits {
            age: HOUR,
            bytes: 2 * one,
        };
        // A clone is the same snapshot.
        let clone = readings[0].clone();
        assert_eq!(readers.expire(&memory, limits, now), 2);
        assert!(held(&memory) <= limits.bytes);
        let states: Vec<_> = readings.iter().map(state).collect();
        let old = Some(SqlState::SNAPSHOT_TOO_OLD);
        assert_eq!(states, [old, old, None, None]);
        assert_eq!(state(&clone), old);
        assert_eq!(readers.expire(&memory, limits, now), 0);
    }

    #[test]
    fn who_holds_nothing_of_it_keeps_its_snapshot() {
        let memory = memory();
        let (mut busy, mut quiet) = (store(&memory), store(&memory));
        change(&mut busy, "+ 1 1");
        change(&mut quiet, "+ 1 1");
        let readers = Readers::default();
        let now = Instant::now();
        // A view that is being built is no reader.
        let (building, reading) = (busy.snapshot(), quiet.snapshot());
        readers.add(std::slice::from_ref(&reading), now);
        change(&mut busy, "- 1 1\n+ 1 2");
        let limits = SnapshotLimits {
            age: HOUR,
            bytes: 0,
        };
        assert!(held(&memory) > 0);
        assert_eq!(readers.expire(&memory, limits, now), 0);
        assert_eq!(state(&reading), None);
        assert_eq!(state(&building), None);
        assert_eq!(readers.deadline(limits), Some(now + HOUR));
        drop(reading);
        assert_eq!(readers.deadline(limits), None);
    }

    #[test]
    fn what_is_too_old_goes() {
        let memory = memory();
        let mut store = store(&memory);
        change(&mut store, "+ 1 1");
        let readers = Readers::default();
        let now = Instant::now();
        let (old, young) = (store.snapshot(), store.snapshot());
        readers.add(std::slice::from_ref(&old), now);
        readers.add(std::slice::from_ref(&young), now + HOUR);
        let limits = SnapshotLimits {
            age: HOUR,
            bytes: usize::MAX,
        };
        let lost = readers.expire(&memory, limits, now + HOUR + HOUR / 2);
        assert_eq!(lost, 1);
        assert_eq!(state(&old), Some(SqlState::SNAPSHOT_TOO_OLD));
        assert_eq!(state(&young), None);
    }

    #[test]
    fn readers_that_have_gone_leave_nothing_behind_a_long_one() {
        let mut store = store(&memory());
        change(&mut store, "+ 1 1");
        let readers = Readers::default();
        let long = store.snapshot();
        readers.add(std::slice::from_ref(&long), Instant::now());
        for _ in 0..10_000 {
            readers.add(&[store.snapshot()], Instant::now());
        }
        assert!(readers.lock().capacity() < 100);
    }
}
