//! Deltas: what changes in a relation, as columns with weights.
//!
//! Inside the engine every relation is a Z-set: a multiset of rows in which a row's weight says how
//! often it is there. A change of a relation is again a Z-set, with negative weights for what goes:
//!
//! ```text
//!      auction  count              relation before   + delta   = relation after
//!   -1       7      2              (7, 2) × 1        (7, 2) × −1
//!   +1       7      3                                (7, 3) × +1    (7, 3) × 1
//! ```
//!
//! Reading order: [`DeltaBatch`] (the unit that flows), [`KeyTable`] (rows' keys to dense slots),
//! [`Arena`] (columns that live by slot), [`notation`] (deltas that a test can type).
//!
//! Nothing here knows operators, time or disks.

mod arena;
mod batch;
mod fold;
mod keys;
pub mod notation;
mod slots;

pub use arena::Arena;
pub use batch::{DeltaBatch, Weights, arrow_error};
pub use fold::{cancel_pairs, concat, consolidate, not_distinct};
pub use keys::{KeyBatch, KeyTable, NO_SLOT};
pub use slots::SlotSet;
