//! The only place with files of the data directory. It knows bytes, Arrow batches and JSON values,
//! never what rows mean. Everything here is synchronous: call it from ordinary threads.
//!
//! ```text
//! <data directory>
//! ├── LOCK                            held by the running server           [directory]
//! ├── FORMAT                          version of this layout
//! ├── catalog/
//! │   ├── log/*.log                   the truth: every catalog change      [catalog_store]
//! │   └── sled.<n>/                   its transactional copy
//! ├── journal/*.log                   what every step took in              [journal]
//! ├── checkpoints/
//! │   ├── manifest-<n>.json           the commit point of a checkpoint     [checkpoint]
//! │   └── data-<n>.blocks             blocks of changed state
//! ├── catchup/<object>/               checkpoints of a view that catches up
//! ├── topics/<object>/<partition>/*.log   embedded topics                  [log], [batch]
//! ├── outboxes/<object>/<shard>/*.log what sinks have not acknowledged
//! └── history/<object>/*.log          the last changes of a relation   [history]
//! ```
//!
//! Invariants:
//! - What a call acknowledged as durable is there after `kill -9` or a loss of power.
//! - Every file says its format's version, and every byte that is read back was checksummed: damage
//!   is an error that names file and position, never wrong data. The one thing that is cut quietly
//!   (with a warning in the log) is an interrupted write at the end of a log.
//! - A failed fsync stops its store for good; every later call reports it, and the server must end.
//! - Nothing grows without bound: every log and checkpoint has a way to be trimmed.
//!
//! Reading order: [`directory`], `file` (the one layer over the operating system, with its faults
//! for tests), [`log`], [`batch`], [`journal`], [`catalog_store`], [`checkpoint`], [`history`].

pub mod batch;
pub mod catalog_store;
pub mod checkpoint;
pub mod directory;
pub mod history;
pub mod journal;
pub mod log;

mod codec;
#[cfg(test)]
mod fault;
mod file;

pub use batch::{decode_batch, encode_batch};
pub use catalog_store::{CatalogStore, Change, IdCounter};
pub use checkpoint::{
    Address, Block, BlockKind, Blocks, CheckpointStore, CheckpointWriter, Manifest, Merging,
};
pub use directory::DataDirectory;
pub use history::{Changes, HistoryStore};
pub use journal::{Event, Journal, Run, StepRecord, Steps, TableWrite, Truncation};
pub use log::{
    LogCursor, LogOptions, LogReader, LogRecord, LogWriter, Retention, SegmentLog, Ticket,
};
