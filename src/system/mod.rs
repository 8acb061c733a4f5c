//! System relations and functions: what psql, drivers and tools ask before they ask for data.
//!
//! ```text
//!   query ── plan::compatibility::rewrite ──► names, casts and operators as DataFusion has them
//!     │                                        (pg_catalog.f(…) → f(…), 'x'::regclass → a call)
//!     ▼
//!   Planner ── tables(snapshot, name) ───────► SystemTable: rows made when it is scanned
//!     │        function(snapshot, name) ─────► ScalarUDF over the same snapshot
//!     ▼
//!   LogicalPlan ── flatten_subqueries ───────► correlated lookups over system relations as joins
//! ```
//!
//! Everything is answered from one [`SystemSnapshot`], which the engine makes for a statement that
//! names a relation or function of it.
//!
//! Invariants
//! - Relations of `pg_catalog` and `information_schema` have the columns, order and oids of
//!   Postgres 15 ([`shape`]), whether they have rows here or not.
//! - What one relation says another does not contradict: both are filled from the catalog by the
//!   same functions of [`pg_catalog`].
//! - Oids of objects are those of the catalog; what belongs to an object has one derived from it.
//!
//! Reading order: [`snapshot`], `shape`, `rows`, `table`, `pg_catalog`, `function`, `subquery`.

mod definition;
mod function;
mod information_schema;
mod lateral;
mod oids;
mod pg_catalog;
mod pg_type;
mod rows;
mod shape;
mod snapshot;
mod subquery;
mod table;
mod tidemill;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;

use crate::error::Result;

pub use function::{function, function_names, register};
pub use snapshot::{
    EngineRows, ErrorRow, Lazy, MemoryRow, OperatorRow, POSTGRES_VERSION, ProgressRow,
    SessionFacts, SessionRow, SettingChange, SettingChanges, SettingRow, SourceRow, SystemSnapshot,
    ViewRow, WatermarkRow,
};
pub use subquery::flatten_subqueries;
pub use table::SystemTable;

/// Whether a name is that of a system relation.
pub fn is_relation(reference: &TableReference) -> bool {
    SystemTable::shape_of(reference).is_some()
}

/// The system relation of a name: `pg_class` is found with and without its schema. `None` where
/// there is none; the caller then looks among the objects.
pub fn tables(
    snapshot: impl FnOnce() -> Arc<SystemSnapshot>,
    reference: &TableReference,
) -> Result<Option<Arc<dyn TableProvider>>> {
    Ok(SystemTable::find(snapshot, reference))
}
