//! Views as readers see them: the rows at an epoch, and the changes since.
//!
//! ```text
//!   step ──► Store::apply(delta) ──► chunks of 4096 slots, copied only while a snapshot holds them
//!              │         │
//!              │         └─► History: (epoch, delta) …, bounded           SUBSCRIBE, resume, AS OF
//!              └─► index: key → slot                                      point reads
//!
//!   reader ──► Store::snapshot() ──► Snapshot: the chunks as they stood   SELECT, cursors
//! ```
//!
//! Invariants:
//! - A snapshot never changes and never blocks the step; what it costs is one copy of each chunk
//!   that the step writes while the snapshot lives. Those copies are counted, and bounded: a reader
//!   loses its snapshot to the bound, never the step its memory.
//! - A store holds no row with a negative weight after a step; a delta that would leave one is an
//!   internal error of the dataflow that made it.
//! - Nothing here knows operators, plans or epochs' meaning; the caller holds the lock that makes
//!   several stores change as one.

mod aging;
mod checkpoint;
mod history;
mod snapshot;
mod store;
mod weights;

pub use history::{ChangeSet, History};
pub use snapshot::{Readers, Snapshot, SnapshotLimits};
pub use store::{Identity, Store};
