//! The incremental equi-join: inner, left and full outer, semi, anti and mark, with any further
//! condition.
//!
//! Rule: d(A ⋈ B) = dA ⋈ B_old + A_new ⋈ dB. Port 0 brings dA: it is paired with the kept rows of
//! B, then kept. Port 1, which comes after it, brings dB: it is paired with the kept rows of A,
//! this step's among them, then kept. A left join adds the left rows without a match, padded with
//! NULLs. Each left row knows how many matches it has; where that number leaves or reaches zero in
//! a step, or the row itself comes or goes, the difference of its padded row goes out at the step's
//! end: once, as a plain insertion or deletion. A full join does so for both sides. A semi join
//! (EXISTS, IN), an anti join and a mark join put out no pairs, only left rows by that number.
//!
//! ```text
//!   a LEFT JOIN b USING (k)
//!   step 1   a  + (7, 'x')                       + (7, 'x', NULL)
//!   step 2   b  + (7, 10)                        - (7, 'x', NULL)   + (7, 'x', 10)
//!   step 3   b  - (7, 10)   + (7, 11)            - (7, 'x', 10)     + (7, 'x', 11)
//! ```
//!
//! State: both inputs, less rows that can match nothing (NULL keys or times) and rows that time
//! rules out. Where the condition keeps a time of each side near the other's, a row goes as soon as
//! the other input's bound has passed all times that it can match:
//!
//! ```text
//!   a.ts BETWEEN b.ts - 5 AND b.ts + 60      a row of a at 100 matches b from 40 to 105
//!   bound of b.ts: 106                       no later row of b is below it: the row goes
//! ```
//!
//! State tables: 0 the left rows, 1 the right rows; with weights and, where rows come out for
//! having a match or none, the number of their matches.
//!
//! Bounds: such a time has one where its inputs have; all other columns have none, because a kept
//! row can come out again at any time; those of a full join have none. A row that comes out for
//! having no match is final when it has gone.
//!
//! Reading order: `spec`, `equi` (the operator), `side` (what is kept), `pairs` (what comes out),
//! and `lookup`, a join of its own that keeps one side only.

mod equi;
mod lookup;
#[cfg(test)]
mod lookup_tests;
#[cfg(test)]
mod oracle;
mod pairs;
mod side;
mod spec;
#[cfg(test)]
pub(super) mod tests;

pub use equi::Join;
pub use lookup::Lookup;
pub use spec::{Expire, JoinKind, JoinSpec, NullEquality, TimeRange};
