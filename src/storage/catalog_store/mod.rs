//! The catalog's durable key/value store: a log that is the truth, and sled as its copy.
//!
//! ```text
//! commit ──► log: append, fsync ──► committed ──► sled: one transaction, flush, fsync
//!                                       │
//!            a crash here ──────────────┘ leaves sled behind; the next open catches it up
//! ```
//!
//! sled answers reads and keeps the catalog out of memory; the log is there because sled's files
//! cannot be trusted after a crash (its `flush` does not reach the disk, one flipped byte can make
//! it refuse to open, a missing file can make it open empty). So on open the log is replayed and
//! sled compared with it: when sled equals a prefix of the log it is caught up quietly, in every
//! other case it is thrown away and rebuilt from the log, with a warning.
//!
//! Invariants:
//! - `commit` is atomic, and durable when it returns `Ok`.
//! - Numbers of a counter rise and are never given out twice, restarts included.
//! - After an error in the middle of a commit every call reports it until a restart.
//!
//! Read [`store`] first, then [`image`] (the log's records) and [`mirror`] (sled).

mod image;
mod mirror;
mod store;
#[cfg(test)]
mod tests;

pub use image::Change;
pub use store::{CatalogStore, IdCounter};
