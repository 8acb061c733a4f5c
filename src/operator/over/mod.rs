//! Window functions: what each row says of the rows around it.
//!
//! Rule: rows with the same partition columns are a partition; its rows stand in the order of the
//! order columns, and where these are equal in that of the other columns (ascending, NULLs last),
//! so that every copy of a row has its place. Each copy comes out once, with a column for each
//! function: its number, another row's value, or an aggregate of its frame. When rows come and go,
//! every row whose values change goes with the old ones and comes with the new ones, once per step.
//!
//! ```text
//!   sum(x) OVER (PARTITION BY k ORDER BY t), lag(x) OVER (PARTITION BY k ORDER BY t)
//!   k t  x                                                    k t  x   sum  lag
//!   step 1   + (7, 1, 10)   + (7, 3, 30)         + (7, 1, 10, 10, NULL)  + (7, 3, 30, 40, 10)
//!   step 2   + (7, 2, 5)                         + (7, 2, 5, 15, 10)
//!                                                - (7, 3, 30, 40, 10)    + (7, 3, 30, 45, 5)
//! ```
//!
//! The work follows what changes, not the partition. A row is found, and what is before it is
//! known and added up, by a tree: O(log partition). Which rows a change reaches is searched for in
//! the order, as are the ends of frames; only those are evaluated, before and after. Nothing is
//! kept of what is out: the tree of before the step says it, which shares all nodes that have not
//! changed.
//!
//! State: all rows, each as one string of bytes that compares as it is ordered, the columns that
//! functions read of other rows, and the trees. State table 0: the rows with their weights, as
//! columns; trees are built again. A partition goes with its last row; one that has a bounded time
//! among its columns goes when that is final, and where output is on close its rows come then,
//! once.
//!
//! Where the order is a time with a bound, rows that no later row can ask for are let go, and what
//! they add up to is kept in one piece for each partition: state table 1, see `final_rows`.
//!
//! Bounds: partition columns keep theirs, less what waits for its close. The first order column
//! keeps its own where it rises, less what frames look ahead.
//!
//! A value that its type does not hold (a sum of numerics) leaves its row out, which is counted and
//! told of, until it has one again.
//!
//! Reading order: `spec`, `operator`, `ordered_rows` beside it (rows as bytes), `parts` (what is
//! added up), `tree` (the order of a partition), `partitions` (all of them), `frames` (where rows
//! stand and which rows functions are of), `affected` (what a change reaches), `evaluation` (values
//! of many rows), `difference` (what goes and comes).

mod affected;
mod difference;
mod evaluation;
mod final_rows;
mod frames;
mod operator;
mod partitions;
mod parts;
mod spec;
#[cfg(test)]
mod tests;
mod tree;

pub use operator::Over;
pub use spec::{
    BoundedOrder, Distance, Frame, FrameBound, FrameUnits, Kept, Nth, OverCall, OverFunction,
    OverSpec, Shift,
};
