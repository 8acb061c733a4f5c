//! The ASOF join: to each left row the right row of the same key that is nearest in time.
//!
//! Rule: of the right rows with the left row's key and a time that is at most the left row's (or
//! below, at least, above it, as the spec says), the nearest; of several at the same time the last
//! in the order of all their columns. A left join has NULLs where there is none. When a right row
//! comes or goes, the left rows between it and the next right row look again; what a left row had
//! out goes and what it has now comes, once per step.
//!
//! ```text
//!   trades ASOF JOIN quotes, trades.ts >= quotes.ts
//!   step 1   quotes + (7, @10, 100)   trades + (7, @15)     + (7, @15, 7, @10, 100)
//!   step 2   quotes + (7, @12, 101)                         - (7, @15, 7, @10, 100)
//!                                                           + (7, @15, 7, @12, 101)
//!   bound of quotes' time @16                               the trade is final and goes
//! ```
//!
//! State: left rows that a later right row can still change; right rows that a left row can still
//! meet. Where both times are bounded, a left row goes when the right bound has passed the time
//! that decides about it, and a right row when a nearer one has been there before both bounds. The
//! last right row of each key before them stays: how many there are depends on the keys. State
//! tables: 0 the left rows, 1 the right rows.
//!
//! Bounds: the left time has one, the least of a later left row's and of the oldest kept one's.
//!
//! Reading order: `spec`, `operator`, `rows` (one side, in the order of key and time).

mod operator;
mod rows;
mod spec;
#[cfg(test)]
mod tests;

pub use operator::AsOf;
pub use spec::{AsOfSpec, Nearest};
