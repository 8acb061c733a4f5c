//! The step journal: what must be known to repeat every step since a checkpoint exactly.
//!
//! ```text
//! epoch        6            7                8             8            9
//! record       step 6 ───── step 7 ───────── control ───── step 8 ───── step 9
//!              runs 0..40   runs 40..90      join view 12  runs 90..91  idle
//! checkpoint                └ at epoch 7: replay begins after it
//! ```
//!
//! The engine appends the record of step e, computes the step while the journal's thread syncs, and
//! waits for the ticket before it publishes. A control record of epoch e takes effect before step
//! e: it changes what step e computes. Step epochs rise by one and none is skipped.
//!
//! Read [`record`] for what is in a record and its bytes, [`store`] for the file.

mod record;
mod store;

pub use record::{ControlRecord, Event, JournalRecord, Run, StepRecord, TableWrite, Watermark};
pub use store::Journal;
