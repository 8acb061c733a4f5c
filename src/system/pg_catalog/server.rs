//! What does not depend on the objects: schemas, databases, roles, types, functions, settings.

use crate::system::oids;
use crate::system::pg_type::{self, function_oid};
use crate::system::rows::{Cell, RowSet};
use crate::system::snapshot::SystemSnapshot;

pub fn namespaces(rows: &mut RowSet) {
    for (name, oid) in oids::NAMESPACES {
        rows.add([
            ("oid", oid.into()),
            ("nspname", name.into()),
            ("nspowner", oids::OWNER.into()),
        ]);
    }
}

pub fn databases(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    rows.add([
        ("oid", oids::DATABASE.into()),
        ("datname", (&snapshot.session.database).into()),
        ("datdba", oids::OWNER.into()),
        ("encoding", 6.into()),
        ("datlocprovider", "c".into()),
        ("datallowconn", true.into()),
        ("datconnlimit", (-1).into()),
        ("dattablespace", oids::TABLESPACE.into()),
        ("datcollate", "C.UTF-8".into()),
        ("datctype", "C.UTF-8".into()),
    ]);
}

pub fn tablespaces(rows: &mut RowSet) {
    for (name, oid) in [
        ("pg_default", oids::TABLESPACE),
        ("pg_global", oids::TABLESPACE_GLOBAL),
    ] {
        rows.add([
            ("oid", oid.into()),
            ("spcname", name.into()),
            ("spcowner", oids::OWNER.into()),
        ]);
    }
}

pub fn roles(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    rows.add([
        ("oid", oids::OWNER.into()),
        ("rolname", (&snapshot.session.user).into()),
        ("rolsuper", true.into()),
        ("rolinherit", true.into()),
        ("rolcreaterole", false.into()),
        ("rolcreatedb", false.into()),
        ("rolcanlogin", true.into()),
        ("rolreplication", false.into()),
        ("rolconnlimit", (-1).into()),
        ("rolpassword", "********".into()),
        ("rolbypassrls", true.into()),
    ]);
}

pub fn authorizations(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    rows.add([
        ("oid", oids::OWNER.into()),
        ("rolname", (&snapshot.session.user).into()),
        ("rolsuper", true.into()),
        ("rolinherit", true.into()),
        ("rolcanlogin", true.into()),
        ("rolconnlimit", (-1).into()),
        ("rolbypassrls", true.into()),
    ]);
}

pub fn users(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    rows.add([
        ("usename", (&snapshot.session.user).into()),
        ("usesysid", oids::OWNER.into()),
        ("usecreatedb", false.into()),
        ("usesuper", true.into()),
        ("userepl", false.into()),
        ("usebypassrls", true.into()),
        ("passwd", "********".into()),
    ]);
}

pub fn types(rows: &mut RowSet) {
    for row in pg_type::types() {
        rows.add([
            ("oid", row.oid.into()),
            ("typname", row.name.into()),
            ("typnamespace", oids::NAMESPACE_CATALOG.into()),
            ("typowner", oids::OWNER.into()),
            ("typlen", row.len.into()),
            ("typbyval", row.is_by_value.into()),
            ("typtype", row.kind.into()),
            ("typcategory", row.category.into()),
            ("typispreferred", row.is_preferred.into()),
            ("typisdefined", true.into()),
            ("typdelim", row.delimiter.into()),
            ("typsubscript", function_oid(row.subscript).into()),
            ("typelem", row.element.into()),
            ("typarray", row.array.into()),
            ("typinput", function_oid(row.input).into()),
            ("typoutput", function_oid(row.output).into()),
            ("typreceive", function_oid(row.receive).into()),
            ("typsend", function_oid(row.send).into()),
            ("typalign", row.align.into()),
            ("typstorage", row.storage.into()),
            ("typtypmod", (-1).into()),
            ("typcollation", row.collation.into()),
        ]);
    }
}

pub fn functions(rows: &mut RowSet) {
    for row in pg_type::functions() {
        rows.add([
            ("oid", row.oid.into()),
            ("proname", row.name.into()),
            ("pronamespace", oids::NAMESPACE_CATALOG.into()),
            ("proowner", oids::OWNER.into()),
            // Language "internal".
            ("prolang", 12.into()),
            ("procost", 1.0.into()),
            (
                "prorows",
                if row.returns_set { 1_000.0 } else { 0.0 }.into(),
            ),
            ("prokind", row.kind.into()),
            ("proretset", row.returns_set.into()),
            ("provolatile", row.volatility.into()),
            ("proparallel", "s".into()),
            ("pronargs", row.arguments.len().into()),
            ("prorettype", row.returns.into()),
            ("proargtypes", Cell::list(row.arguments.iter().copied())),
            ("prosrc", row.name.into()),
        ]);
    }
}

pub fn methods(rows: &mut RowSet) {
    let known = [
        (oids::METHOD_HEAP, "heap", "t"),
        (oids::METHOD_BTREE, "btree", "i"),
    ];
    for (oid, name, kind) in known {
        rows.add([
            ("oid", oid.into()),
            ("amname", name.into()),
            ("amtype", kind.into()),
        ]);
    }
}

/// Text compares by code point, whatever a collation is called.
pub fn collations(rows: &mut RowSet) {
    for (oid, name, provider) in [
        (oids::COLLATION_DEFAULT, "default", "d"),
        (950, "C", "c"),
        (951, "POSIX", "c"),
    ] {
        rows.add([
            ("oid", oid.into()),
            ("collname", name.into()),
            ("collnamespace", oids::NAMESPACE_CATALOG.into()),
            ("collowner", oids::OWNER.into()),
            ("collprovider", provider.into()),
            ("collisdeterministic", true.into()),
            ("collencoding", (-1).into()),
        ]);
    }
}

pub fn languages(rows: &mut RowSet) {
    for (oid, name) in [(12, "internal"), (14, "sql")] {
        rows.add([
            ("oid", oid.into()),
            ("lanname", name.into()),
            ("lanowner", oids::OWNER.into()),
        ]);
    }
}

pub fn settings(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for (name, value, description) in snapshot.all_settings() {
        let context = if snapshot.is_preset(name) {
            "internal"
        } else {
            "user"
        };
        rows.add([
            ("name", name.into()),
            ("setting", value.into()),
            ("category", "Session".into()),
            ("short_desc", description.into()),
            ("context", context.into()),
            ("vartype", "string".into()),
            ("source", "session".into()),
            ("boot_val", value.into()),
            ("reset_val", value.into()),
            ("pending_restart", false.into()),
        ]);
    }
}

pub fn sessions(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for row in &snapshot.sessions {
        rows.add([
            ("datid", oids::DATABASE.into()),
            ("datname", (&row.database).into()),
            ("pid", row.pid.into()),
            ("usesysid", oids::OWNER.into()),
            ("usename", (&row.user).into()),
            ("application_name", (&row.application_name).into()),
            ("client_addr", row.client_address.clone().into()),
            ("client_port", row.client_port.into()),
            ("backend_start", row.connected_at.into()),
            ("query_start", row.statement_at.into()),
            ("state_change", row.statement_at.into()),
            ("state", (&row.state).into()),
            ("query", (&row.statement).into()),
            ("backend_type", "client backend".into()),
        ]);
    }
}
