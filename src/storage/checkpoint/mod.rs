//! Incremental checkpoints: the state of every operator as of one epoch, at the cost of what
//! changed since the checkpoint before.
//!
//! ```text
//!  manifest 12 ── epoch 700, meta
//!    ├─ address (dataflow 3, operator 1, shard 0, table 0)
//!    │    chain: [file 4 @24 full] [file 9 @24 delta] [file 12 @24 delta]
//!    └─ address (dataflow 3, operator 1, shard 1, table 0)
//!         chain: [file 11 @24 merged] [file 12 @880 delta]
//!  manifest 9 ── epoch 600 ── ...       kept, to fall back to
//! ```
//!
//! State is slots. A block holds rows for some slots and the numbers of slots that were freed;
//! restoring an address applies its chain in order, within a block first what is freed, then the
//! rows, so that the last writer of a slot wins. A checkpoint writes an address either in full,
//! which replaces its chain, or as a delta, which extends it.
//!
//! A checkpoint is one data file and one manifest. The manifest is the commit point: written aside,
//! synced, renamed, directory synced. A crash before it leaves files that nobody names, which the
//! next open deletes.
//!
//! Invariants:
//! - A manifest that can be read names only files that are whole; the newest such manifest wins, a
//!   damaged one is set aside with a warning.
//! - A file is deleted only when no retained manifest, no manifest somebody still holds, and no
//!   unfinished merge names it, and only after the newer manifest is durable.
//! - After merging has caught up, the newest manifest's files take at most three times its live
//!   rows (plus `CHECKPOINT_GARBAGE_BYTES_MIN` and `CHECKPOINT_CHAIN_BYTES_MIN` per address). What
//!   only the manifest before it names comes on top until the next checkpoint.
//! - Every byte read is checked; a bad block is an error that names file and position.
//!
//! Read [`block`] (bytes), [`data_file`], [`manifest`], then [`store`], [`writer`], [`merge`].

mod block;
mod data_file;
mod manifest;
mod merge;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use block::{Address, Block, BlockKind};
pub use manifest::Manifest;
pub use merge::Merging;
pub use store::{Blocks, CheckpointStore};
pub use writer::CheckpointWriter;
