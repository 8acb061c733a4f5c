//! The first rows of each group, in an order: top-N, deduplication, LIMIT.
//!
//! Rule: rows with the same partition columns are a group; its rows stand in the order of the order
//! columns, and where these are equal in that of the other columns (ascending, NULLs last), so that
//! every row has its place. A copy of a row is put out when its numbers by `row_number`, `rank` and
//! `dense_rank` are within the limits of the spec; where numbers are shown they are columns of it.
//! When rows come and go, what is no longer within goes and what now is comes, once per step.
//!
//! ```text
//!   row_number() OVER (PARTITION BY k ORDER BY x DESC) <= 2, the number shown
//!   step 1   + (7, 10)   + (7, 30)   + (7, 20)     + (7, 30, 1)   + (7, 20, 2)
//!   step 2   - (7, 30)                             - (7, 30, 1)   - (7, 20, 2)
//!                                                  + (7, 20, 1)   + (7, 10, 2)
//! ```
//!
//! A changed row costs its way through the group's order, a tree of sums: O(log group). What it
//! moves over a limit, or what has a shown number behind it, is walked over and nothing else: how
//! far the numbers behind each changed row have shifted says what every row there was before.
//!
//! State: all rows, each as one string of bytes that compares as it is ordered, and the trees;
//! where rows only come and a limit is above, only those within it. State table 0: the rows with
//! their weights, as columns. A group goes with its last row; one whose partition has a bounded
//! time goes when that is final, and where output is on close its rows come then, once.
//!
//! Bounds: partition columns keep theirs, less what waits for its close. The first order column
//! keeps its own where it rises: what a row changes stands behind it.
//!
//! Reading order: `spec`, `operator`, `ordered_rows` beside it (rows as bytes), `tree` (the order
//! of a group), `groups` (all of them), `ranking` (numbers and limits), `difference` (what a change
//! moves).

mod difference;
mod groups;
mod operator;
mod ranking;
mod spec;
#[cfg(test)]
mod tests;
mod tree;

pub use crate::operator::ordered_rows::OrderColumn;
pub use operator::Top;
pub use spec::{RankFunction, RankRange, TopSpec};
