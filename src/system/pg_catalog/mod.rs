//! The relations of `pg_catalog` that have rows here; all others are there and empty.
//!
//! ```text
//!   relation   pg_class, pg_attribute, pg_index, pg_constraint, pg_attrdef, pg_description
//!   listing    pg_tables, pg_views, pg_matviews, pg_indexes, foreign tables
//!   server     databases, roles, schemas, types, functions, settings, sessions
//! ```

mod listing;
pub mod relation;
mod server;

use crate::system::rows::RowSet;
use crate::system::shape::Shape;
use crate::system::snapshot::SystemSnapshot;

/// Fills the relation of this shape.
pub fn fill(shape: &Shape, snapshot: &SystemSnapshot, rows: &mut RowSet) {
    match shape.name {
        "pg_class" => relation::classes(snapshot, rows),
        "pg_attribute" => relation::attributes(snapshot, rows),
        "pg_index" => relation::indexes(snapshot, rows),
        "pg_constraint" => relation::constraints(snapshot, rows),
        "pg_attrdef" => relation::defaults(snapshot, rows),
        "pg_description" => relation::descriptions(snapshot, rows),
        "pg_tables" => listing::tables(snapshot, rows),
        "pg_views" => listing::views(snapshot, rows),
        "pg_matviews" => listing::materialized_views(snapshot, rows),
        "pg_indexes" => listing::indexes(snapshot, rows),
        "pg_foreign_table" => listing::foreign_tables(snapshot, rows),
        "pg_foreign_server" => listing::foreign_servers(rows),
        "pg_foreign_data_wrapper" => listing::foreign_wrappers(rows),
        "pg_namespace" => server::namespaces(rows),
        "pg_database" => server::databases(snapshot, rows),
        "pg_tablespace" => server::tablespaces(rows),
        "pg_roles" => server::roles(snapshot, rows),
        "pg_authid" => server::authorizations(snapshot, rows),
        "pg_user" | "pg_shadow" => server::users(snapshot, rows),
        "pg_type" => server::types(rows),
        "pg_proc" => server::functions(rows),
        "pg_am" => server::methods(rows),
        "pg_collation" => server::collations(rows),
        "pg_language" => server::languages(rows),
        "pg_settings" => server::settings(snapshot, rows),
        "pg_stat_activity" => server::sessions(snapshot, rows),
        _ => {}
    }
}
