//! Incremental operators: pure state machines from deltas to deltas, a file each.
//!
//! ```text
//!              push(port, batch) …            finish(step)
//!   inputs ───────────────────────► Operator ───────────────► Output { deltas, late, errors }
//!                                     │   ▲
//!                 freeze() thaw() ────┘   └─── restore()        blocks of slots, for checkpoints
//! ```
//!
//! Invariants:
//! - The sum of everything an operator has put out is its query's batch answer over the sum of
//!   everything it was given. When within a step it puts rows out is its own business.
//! - An operator sees time only as the [`Step`] it is handed: no clock, no I/O, no async, no
//!   randomness. The same pushes and steps give the same outputs, and hash order never shows.
//! - Batches of one port come in the port's order; port 0 is complete before port 1 begins.
//! - An operator exists once per shard and sees only the rows whose key belongs to its shard.
//! - A panic or an error fails the dataflow the operator is in, and no other.

pub mod aggregate;
pub mod asof;
pub mod evaluate;
pub mod every;
pub mod frozen;
pub mod gate;
pub mod idle;
pub mod join;
pub mod judge;
pub mod lifetime;
pub mod map;
pub mod ordered_rows;
pub mod over;
pub mod recent;
pub mod repeat;
pub mod rows;
pub mod session;
pub mod temporal;
pub mod top;
pub mod window;

use arrow::array::RecordBatch;

use crate::base::{Epoch, EventTime};
use crate::delta::DeltaBatch;
use crate::error::Result;

/// One shard of a node of a dataflow.
pub trait Operator: Send {
    /// A step begins, before its first batch: what is over by its clock goes first, so that it
    /// makes no difference whether a step was taken in between.
    fn begin(&mut self, _clock_micros: i64, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    /// Takes a batch of the change of input `port`.
    fn push(&mut self, port: usize, batch: DeltaBatch, out: &mut Output) -> Result<()>;

    /// The step's input is complete: puts out what has waited for this and frees what the step's
    /// bounds let go. Called once per step, also in one without input.
    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()>;

    /// What may still come out of this shard: for each output column the least value that a later
    /// delta can have, given the bounds of the inputs (`step.bounds`). Called after `finish`.
    fn bounds(&self, step: &Step) -> Bounds;

    /// Says whether the steps that follow are those of a view that is being built: nobody reads yet
    /// what comes out.
    fn set_building(&mut self, _is_building: bool) {}

    /// Bytes of state held. Called once per step; must cost next to nothing.
    fn state_bytes(&self) -> usize {
        0
    }

    /// Rows or groups that the state holds. Called once per step; must cost next to nothing.
    fn state_rows(&self) -> usize {
        0
    }

    /// The earliest wall clock, microseconds, at which a step without rows would change the output.
    fn deadline(&self) -> Option<i64> {
        None
    }

    /// The earliest time at which something that the operator holds is over, where its times go by
    /// the clock: a step at that time would change the output, or free state. It may say a time too
    /// early, but none too late.
    fn due_time(&self) -> Option<i64> {
        None
    }

    /// Begins a checkpoint at the end of the step just finished: what changed since the last one
    /// ([`Scope::All`]: everything that is there) is to be saved as it is now. What an earlier
    /// checkpoint has not taken of its own is forgotten.
    fn freeze(&mut self, _scope: Scope) -> Result<()> {
        Ok(())
    }

    /// The next piece of what was frozen, of about `rows` rows and as it was then, however many
    /// steps have run since; `None` when everything has been given.
    fn thaw(&mut self, _rows: usize) -> Result<Option<TableChange>> {
        Ok(None)
    }

    /// Forgets what was frozen and not given: the checkpoint has failed.
    fn unfreeze(&mut self) {}

    /// [`Operator::freeze`] and everything that [`Operator::thaw`] has.
    fn changes(&mut self, scope: Scope) -> Result<Vec<TableChange>> {
        self.freeze(scope)?;
        std::iter::from_fn(|| self.thaw(usize::MAX).transpose()).collect()
    }

    /// Puts back a block of one state table. Called on a new operator, block after block in the
    /// order in which they were written; a later block's slots replace those of earlier ones.
    fn restore(&mut self, change: TableChange) -> Result<()> {
        Err(crate::error::Error::internal(format!(
            "an operator without state was given state table {}",
            change.table
        )))
    }

    /// All state is put back: the operator is one that has run before.
    fn resume(&mut self) {}
}

/// The time at which a step ends, as an operator may know it.
#[derive(Clone, Debug)]
pub struct Step {
    pub epoch: Epoch,
    /// The step's wall clock, microseconds: max(previous step's, wall), journaled.
    pub clock_micros: i64,
    /// For each port the bounds of its input at the end of the step.
    pub bounds: Vec<Bounds>,
}

/// For each column the least event time that any later delta, insertion or retraction, can have;
/// `None` where nothing is known. A bound never goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds(pub Vec<Option<EventTime>>);

impl Bounds {
    pub fn unknown(columns: usize) -> Bounds {
        Bounds(vec![None; columns])
    }

    /// What holds for the union of two outputs (shards, inputs of a UNION ALL).
    pub fn meet(&self, other: &Bounds) -> Bounds {
        let both = self.0.iter().zip(&other.0);
        Bounds(both.map(|(a, b)| Some((*a)?.min((*b)?))).collect())
    }
}

/// Which state a checkpoint wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// What changed since the last call.
    Changed,
    /// Everything: the first checkpoint of an operator.
    All,
}

/// A change of one state table: slots with their new rows, and slots that are free now.
#[derive(Clone, Debug)]
pub struct TableChange {
    /// The operator's own number of the table.
    pub table: u32,
    pub slots: Vec<u32>,
    /// One row per slot.
    pub rows: RecordBatch,
    /// Freed slots; disjoint from `slots`.
    pub freed: Vec<u32>,
}

impl TableChange {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let slots = self.slots.capacity() + self.freed.capacity();
        self.rows.get_array_memory_size() + slots * size_of::<u32>()
    }
}

/// What an operator has put out in a step.
#[derive(Debug, Default)]
pub struct Output {
    pub deltas: Vec<DeltaBatch>,
    /// Rows that came too late, with the reason; their count is in the counters below.
    pub late: Vec<LateRows>,
    /// Rows that an expression failed on.
    pub errors: Vec<RowError>,
    pub counts: Counts,
}

impl Output {
    pub fn emit(&mut self, batch: DeltaBatch) {
        if !batch.is_empty() {
            self.deltas.push(batch);
        }
    }
}

/// Numbers that the system relations show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub rows_late: u64,
    /// Rows late for some of their windows and counted into the others.
    pub rows_late_partly: u64,
    /// Retractions of state that was already freed.
    pub retractions_late: u64,
    pub rows_failed: u64,
    /// Rows that a view's retention has taken out, or kept out.
    pub rows_expired: u64,
    /// Rows and groups of state that a view's `state_ttl` has let go.
    pub rows_evicted: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.rows_late += other.rows_late;
        self.rows_late_partly += other.rows_late_partly;
        self.retractions_late += other.retractions_late;
        self.rows_failed += other.rows_failed;
        self.rows_expired += other.rows_expired;
        self.rows_evicted += other.rows_evicted;
    }
}

/// Input rows that were judged late.
#[derive(Clone, Debug)]
pub struct LateRows {
    /// The rows as they came in, with weights and the watermark that stood before each.
    pub rows: DeltaBatch,
    /// The row's event time, microseconds, one per row.
    pub event_times: Vec<i64>,
}

/// A row that an expression could not be evaluated for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    /// What failed: `division by zero`.
    pub reason: String,
    /// The row as text, cut at `ERROR_RECORD_BYTES_MAX`.
    pub row: String,
    pub weight: i64,
}
