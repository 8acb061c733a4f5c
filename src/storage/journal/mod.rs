//! The step journal: what must be known to repeat every step since a checkpoint exactly.
//!
//! ```text
//! epoch        6            7             8            9
//! record       step 6 ───── step 7 ────── step 8 ───── step 9
//!              runs 0..40   runs 40..90   runs 90..91  idle
//! checkpoint                └ at epoch 7: replay begins after it
//! ```
//!
//! The engine appends the record of step e, computes the step while the journal's thread syncs, and
//! waits for the ticket before it publishes. Step epochs rise by one and none is skipped.
//!
//! Read [`record`] for what is in a record and its bytes, [`store`] for the file.

mod record;
mod store;

pub use record::{Event, Run, StepRecord, TableWrite};
pub use store::{Journal, Steps, Truncation};
