//! A segmented append-only log: embedded topics, outboxes, histories and the journal.
//!
//! ```text
//!  00000000000000000000.log   00000000000000000900.log   00000000000000001800.log
//!  ┌────────┬───┬───┬─────┐   ┌────────┬─────┬───────┐   ┌────────┬────┬───┬╌╌╌╌┐
//!  │ header │ r │ r │  r  │   │ header │  r  │   r   │   │ header │ r  │ r │torn│
//!  └────────┴───┴───┴─────┘   └────────┴─────┴───────┘   └────────┴────┴───┴╌╌╌╌┘
//!  closed, never changed      named for the first        active: appended to; readers see
//!  again; deleted whole       offset in it               it up to the last fsync
//! ```
//!
//! A record is opaque bytes that stand for one or more rows; offsets count rows, so a record
//! with rows 900..905 is found by each of these offsets.
//!
//! Invariants:
//! - What `sync` (or a waited-for ticket) acknowledged is read back after any crash.
//! - Readers see synced records only.
//! - Only the end of the active segment may be torn; it is cut on open, with a warning. Each record
//!   says how far the segment was synced before it, so damage to what had been synced is told apart
//!   from a tear and refused. Damage anywhere else is an error that names file and position.
//! - After a failed write or fsync every call reports it: nobody knows what is on disk.
//!
//! Read [`record`] (the bytes), then [`segments`] (what appender and readers share), [`appender`],
//! [`reader`], and [`group`] (many threads, one fsync).

mod appender;
mod group;
mod reader;
mod record;
mod segments;
#[cfg(test)]
mod tests;

pub use appender::{LogOptions, SegmentLog};
pub use group::{LogWriter, Ticket};
pub use reader::{LogCursor, LogReader};
pub use record::LogRecord;
pub use segments::Retention;
