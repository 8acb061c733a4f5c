//! GROUP BY key and window of HOP, by panes: a row is counted once, however many windows hold it.
//!
//! Rule: as an aggregate over a row per window, each window put out once, when it has closed.
//!
//! ```text
//!   HOP slide 5, size 10, count(*)     panes of 5
//!   rows of a key     0: 3 rows   5: 1 row   10: 2 rows
//!
//!   window [0, 10) closes     total = 0 + 3 + 1       + (key, 0, 10, 4)
//!   pane 0 leaves             total = 4 − 3
//!   window [5, 15) closes     total = 1 + 2           + (key, 5, 15, 3)
//! ```
//!
//! Windows close in the order of time, so each key has one running **total**: panes enter it with
//! the first closing window that holds them and leave it behind the last one. Counts and sums are
//! added and taken out again, exactly, floats too. Extremes cannot be taken out: of a key's panes
//! those are chained ([`leaders`]) that no later pane has surpassed, and the first of them is the
//! extreme. Both cost one move per pane and key, not one per window that holds the pane.
//!
//! State, in columns by slot, as in [`aggregate`](crate::operator::aggregate): panes are groups of
//! key and start, totals are groups of the key alone. A checkpoint holds the panes (table 0) and
//! which window is the next to close (table 1); totals follow from them.
//!
//! Time: [`Window`](crate::operator::window) gives each row its pane and says, by the bound of that
//! column, which windows are closed: those that begin before it. Rows that are late for some of
//! their windows wait until these have been put out, within the step. A window without rows costs
//! nothing, so time may jump. A pane that no open window holds, or whose last row was taken back,
//! is freed. A row that would count for windows only that are out changes nothing and is counted.
//!
//! All windows that close in a step come out in that step, however many: a row of a closed window
//! appears in the first step that can show it. They are put out as they are put together, batch by
//! batch, so that beside the rows, which the view keeps, one batch's worth is held.
//!
//! Bounds: windows that are still to come begin at the bound of the pane column or later.
//!
//! Reading order: [`spec`](PaneAggregateSpec), [`operator`](PaneAggregate) (rows to panes),
//! [`starts`] (panes in the order of time), [`closing`] (panes to windows), [`leaders`],
//! [`checkpoint`].

mod checkpoint;
mod closing;
mod leaders;
mod operator;
mod spec;
mod starts;

pub use operator::PaneAggregate;
pub use spec::PaneAggregateSpec;

#[cfg(test)]
mod tests;
