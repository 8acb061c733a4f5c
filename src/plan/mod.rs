//! From a statement to a plan; every decision is taken and printed here.
//!
//! ```text
//!   Query (sql) ──► Planner ──► LogicalPlan ──► optimize ──┬──► batch: DataFusion runs it
//!                     │ names, types, functions, windows   │
//!                     └────────────────────────────────────┴──► build ──► StreamPlan
//! ```
//!
//! A [`StreamPlan`] says everything that the running dataflow does: which operator, on which key it
//! is sharded, what it keeps, when it lets go, what its change looks like. The runtime has no
//! choices left. What cannot be kept up to date is refused here, in `build`, with the nearest way
//! out.
//!
//! Reading order: [`context`] (text's names to DataFusion's plan), `window` (window table
//! functions), [`stream`] (the plan), `build` (how it is made: `temporal`, `windowed`, `panes`,
//! `aggregate`, `join`, `repeat`, `top`, `over`, `emit`, `retention` and `state_ttl` are its
//! parts), `explain` (how it is shown); apart from queries, [`source`] and `columns` plan CREATE
//! SOURCE and CREATE TABLE.

mod aggregate;
mod as_of;
mod build;
mod calls;
mod casts;
mod clocked;
mod columns;
pub mod compatibility;
mod constant;
mod context;
mod emit;
mod explain;
mod failure;
mod forms;
mod grouping;
mod intervals;
mod join;
mod late;
mod lenient;
mod literal;
mod lookup;
mod membership;
mod names;
mod numbers;
mod operators;
mod orders;
mod over;
mod panes;
mod parameters;
mod path;
mod place;
mod repeat;
mod retention;
mod session;
pub mod source;
mod state_ttl;
pub mod stream;
mod subquery;
mod temporal;
mod ties;
mod time_range;
mod top;
mod united;
mod values;
mod width;
mod window;
mod windowed;

#[cfg(test)]
mod source_tests;

pub use build::{ViewOptions, dependencies, named_query, plan_view};
pub use context::{PlannedTable, Planner, StatementFunctions, TableResolver, session_state};
pub use failure::from_datafusion;
pub use late::{LATE_SUFFIX, LateInput, LateOption, LatePlan, Reasons};
pub use literal::{literal_value, sql_type};
pub use names::{display_names, relation_names, unique_names};
pub use operators::takes_text;
pub use panes::Expansion;
pub use retention::RetentionOption;
pub use source::{PlannedSource, plan_source, plan_table};
pub use stream::{Node, Operation, Retention, RetentionMode, StreamPlan};
pub use window::lower_windows;
