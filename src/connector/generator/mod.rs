//! What sources that make up their rows have in common.
//!
//! ```text
//!   event numbers   0  1  2  3  4  5  6 …      (the offsets; one sequence for all partitions)
//!   partition 0     0     2     4     6        (number modulo partitions)
//!   partition 1        1     3     5
//!                   ◄── have happened ──►◄── to come, at `rate` ──►
//! ```
//!
//! Invariants:
//! - Event n is a pure function of the source's options and n: reading a range again, in other
//!   chunks, other columns or after a restart, gives the same rows.
//! - A partition's offsets are event numbers. Numbers that are another partition's, or another
//!   kind of event, are gaps that chunks cover.
//! - `rate` decides when an event can be read, never what is in it. All readers of a source share
//!   one pace, so that a reader that starts over gets what has happened at once.
//!
//! Reading order: [`timeline`] (which events), [`pace`] (when), [`reader`] (chunks), [`draw`]
//! (randomness by number), [`options`].

pub(super) mod draw;
pub(super) mod options;
pub(super) mod pace;
pub(super) mod reader;
pub(super) mod timeline;
