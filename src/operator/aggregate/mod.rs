//! GROUP BY: one row per group, kept up to date under insertions and retractions.
//!
//! Rule: a group is there while the weights of its rows add up to more than zero; when a step ends,
//! each group that it touched puts out −(what it put out last) +(its row now), or nothing when both
//! are equal.
//!
//! ```text
//!   count(*), max(price)             auction price                      auction count max
//!   GROUP BY auction              +  7       10      finish()        +  7       2     20
//!                                 +  7       20      ─────────►
//!                                 -  7       20      finish()        -  7       2     20
//!                                                    ─────────►      +  7       1     10
//!
//!   batch ─► KeyTable ─► slots [0, 1, 0, …] ─► Group { rows, flags } by slot
//!                          │                    Selection  NULLs and filtered rows by slot
//!                          └─────────────────►  Store      sums, extremes, multisets by slot
//!                                               Past       the row that is out, before it changes
//! ```
//!
//! State, all of it in columns by slot: the number of rows (a group lives by it alone, whatever its
//! aggregates say), one [`store`] per kind of aggregate and argument, shared by the calls that need
//! the same (`sum(x)` and `avg(x)`; `min(x)`, `max(x)` and `count(DISTINCT x)`). The row that a
//! group has out follows from it ([`past`]).
//! Stores are classes by algebra: totals are groups and need no rows; the extreme of append-only
//! input is one value; everything else keeps the multiset of its arguments.
//!
//! Time: with [`Close`], groups end with the window in their key. Let B be the input's bound for
//! `window_end`: no later row has a lesser one. A group with `end < B + lateness` is closed (that
//! is `end ≤ W`, see [`window`](crate::operator::window)); one with `end < B` is final, and freed;
//! its rows stay downstream. A row for a freed window changes nothing and is counted.
//!
//! Rows of HOP may come by pane: a step adds them up by pane first, so that a row costs one update
//! and not one for each window that holds it ([`gathering`]).
//!
//! Bounds: key columns keep theirs. Where rows wait for their window to close, a column's bound is
//! held back by the groups that wait.
//!
//! Reading order: [`spec`](AggregateSpec), [`grouped`](Aggregate), [`past`], [`emission`],
//! [`closing`], [`gathering`], [`layout`], [`store`] and the stores, [`checkpoint`]; then the
//! relatives that replace what is below the aggregate, too: [`session`], [`panes`].

mod change;
mod checkpoint;
pub(super) mod closing;
mod emission;
mod extreme;
mod gathering;
mod grouped;
mod layout;
mod multiset;
mod order;
mod panes;
mod past;
mod session;
mod spec;
mod stock;
mod store;
mod totals;
mod truths;

pub use grouped::Aggregate;
pub use panes::{PaneAggregate, PaneAggregateSpec};
pub use session::{SessionAggregate, SessionAggregateSpec};
pub use spec::{
    AggregateCall, AggregateFunction, AggregateSpec, Close, CloseEmit, PaneKey, StockAggregate,
};

#[cfg(test)]
mod tests;
