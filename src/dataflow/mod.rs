//! The step engine: everything that runs between a reader's queue and a published epoch.
//!
//! ```text
//!   readers ─► queue ─┐        ┌─ journal: what the step took in (fsync overlaps the step)
//!   INSERT ─► writes ─┼─► cut ─┤
//!   deadlines ────────┘        └─ views in dependency order ─► publish one epoch ─► readers
//!                                        │
//!   CREATE ─► catch-up (own thread, own readers) ─► join      checkpoint, in the background
//! ```
//!
//! Invariants:
//! - One thread, the stepper, owns every running dataflow. Others send it a [`Command`].
//! - Epoch e is visible only when its journal record is durable, and for all views at once.
//! - What a step does follows from its journal record and the state before it: replay is the same
//!   code with the record read in place of written.
//! - A dataflow that fails, by error or panic, is taken out with the views above it; the others run
//!   on.
//!
//! Reading order: [`graph`] (one dataflow), `reader` and `closer` (how rows come in), `source` and
//! `idle` (what time it is there), `table` (and in tables), `drift` (whose rows are next),
//! `bad_rows` (who does without which), `published` (what readers see), `stepper` (the loop),
//! `waiting` (what it waits for), `intake` (what a step takes in), `failing`, `reading` and `watch`
//! (which sources are read, and what happens to their topics), `startup`, `catch_up`, `join`,
//! `news` and `unfinished` (how a new view gets there), `checkpoint` and `handover`,
//! `group_commit`, `history`, `errors`, `late` and `recovery`.

mod bad_rows;
mod catch_up;
mod checkpoint;
mod closer;
mod drift;
mod errors;
mod expiry;
mod failing;
mod graph;
mod group_commit;
mod handover;
mod history;
mod idle;
mod intake;
mod join;
mod late;
mod metrics;
mod news;
#[cfg(test)]
mod oracle;
mod panic;
mod progress;
mod published;
mod reader;
mod reading;
mod recovery;
mod retention;
mod source;
#[cfg(test)]
mod source_tests;
mod startup;
mod stepper;
mod table;
mod tee;
#[cfg(test)]
mod topic_tests;
mod unfinished;
mod waiting;
mod watch;
mod writes;

pub use bad_rows::{BadCells, tightened, usable};
pub use errors::ErrorRow;
pub use graph::{CollectionDelta, Dataflow, DataflowOutput, StateChange};
pub use metrics::{DataflowMetrics, NodeMetrics};
pub use progress::Progress;
pub use published::{CollectionStatus, Frame, Published, Statistics};
pub use reader::{ReaderHandle, ReaderStatus};
pub use recovery::{Objects, RecoveredView};
pub use source::{PartitionState, SourceSpec, SourceState, SourceStatus, Taken};
pub use startup::{Phase, Startup};
pub use stepper::{Command, NewView, Runtime, RuntimeOptions, Write};
pub use table::TableSpec;
pub use watch::{Sight, another_topic};
