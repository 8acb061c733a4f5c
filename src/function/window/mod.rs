//! Windows over event time: which there are, and which of them hold a time.
//!
//! ```text
//!   TUMBLE 10            |----------|----------|
//!   HOP 5 of 10          |----------|
//!                             |----------|
//!   CUMULATE 5 up to 10  |----|     |----|
//!                        |---------||---------|
//!   calendar, Berlin     |- 23 hours -|-- 24 hours --|     the day on which summer time begins
//! ```
//!
//! Invariants:
//! - A window is `[start, end)`, aligned to 1970-01-01T00:00 on the clock that cuts it; division is
//!   floored, so times before 1970 fall into windows like all others.
//! - A window whose bounds do not fit a timestamp is none.
//! - The operator and the batch function ask the same [`Windows`]; the tests of both do not.
//!
//! Reading order: [`WindowKind`], [`Windows`], [`Calendar`], [`Panes`], [`window_starts`].

mod bounds;
mod calendar;
mod kind;
mod panes;
mod windows;

pub use bounds::{window_ends, window_starts};
pub use calendar::{Calendar, Span};
pub use kind::WindowKind;
pub use panes::Panes;
pub use windows::{Cell, Windows};
