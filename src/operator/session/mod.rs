//! Sessions: rows of one key that are at most a gap apart are in one window.
//!
//! Rule: a session is `[first row, last row + gap)`. A row joins the live sessions of its key that
//! it is at most a gap away from, and makes one of them; taking a row away may leave two. A session
//! is *final*, and not live any more, when `end + lateness ≤ W`; its rows are put out as they are
//! and forgotten, and a later row that would have continued it begins a session of its own.
//!
//! A row is late when it would be final alone (`time + gap + lateness ≤ W`, W being the watermark
//! that stood before it) and no live session spans it (`start ≤ time < end`). Whether sessions are
//! final is asked for every row with the W that it came with, so that steps make no difference.
//!
//! ```text
//!   gap 10                 time                       time  start  end
//!   step 1              +    5            ─────────► +  5      5   15
//!   step 2              +   20            ─────────► + 20     20   30
//!   step 3              +   12            ─────────► -  5      5   15     + 5    5  30
//!                                                    - 20     20   30     + 20   5  30
//!                                                                         + 12   5  30
//!   step 4              -   12            ─────────► back to the two of step 2
//! ```
//!
//! State: the rows of live sessions as a multiset, state table 0; everything else follows from
//! them. With [`SessionEmit::OnClose`] rows wait until their session is final and come out once.
//!
//! Bounds: with H = W − lateness (for derived input, the bound less one), later changes are of
//! sessions that end after H: `window_end ≥ H + 1`. What rows may be taken from may fall apart, and
//! then ends a gap behind the start of the oldest live session. `window_start`, and the time of the
//! rows, is at least the least of that start and of what a new row can begin, `H + 1 − gap`.
//!
//! Reading order: `spec`, `sessions` (which there are), `members` (whose rows are where),
//! `operator` (from rows to rows).

mod members;
mod operator;
pub(in crate::operator) mod sessions;
mod spec;

pub use operator::Session;
pub(in crate::operator) use operator::timed;
pub use spec::{SessionEmit, SessionSpec};

#[cfg(test)]
mod tests;
