//! Relations that list objects by name, and sources as foreign tables.

use crate::catalog::{Object, ObjectKind};
use crate::system::definition::Described;
use crate::system::function::catalog::index_definition;
use crate::system::oids;
use crate::system::pg_catalog::relation::{keyed, primary_key, primary_key_name};
use crate::system::rows::RowSet;
use crate::system::shape::Shape;
use crate::system::snapshot::SystemSnapshot;

fn of_kind(snapshot: &SystemSnapshot, kind: ObjectKind) -> impl Iterator<Item = &Object> {
    snapshot
        .catalog
        .objects()
        .map(AsRef::as_ref)
        .filter(move |object: &&Object| object.kind() == kind)
}

pub fn tables(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for object in of_kind(snapshot, ObjectKind::Table) {
        rows.add([
            ("schemaname", "public".into()),
            ("tablename", object.name().into()),
            ("tableowner", (&snapshot.session.user).into()),
            ("hasindexes", primary_key(object).is_some().into()),
            ("hasrules", false.into()),
            ("hastriggers", false.into()),
            ("rowsecurity", false.into()),
        ]);
    }
    for shape in Shape::all().filter(|shape| shape.kind == "r") {
        rows.add([
            ("schemaname", shape.schema_name.into()),
            ("tablename", shape.name.into()),
            ("tableowner", (&snapshot.session.user).into()),
            ("hasindexes", false.into()),
            ("hasrules", false.into()),
            ("hastriggers", false.into()),
            ("rowsecurity", false.into()),
        ]);
    }
}

pub fn views(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for object in of_kind(snapshot, ObjectKind::View) {
        rows.add([
            ("schemaname", "public".into()),
            ("viewname", object.name().into()),
            ("viewowner", (&snapshot.session.user).into()),
            (
                "definition",
                Described::of(object)
                    .query
                    .map(|query| format!("{query};"))
                    .into(),
            ),
        ]);
    }
    for shape in Shape::all().filter(|shape| shape.kind == "v") {
        rows.add([
            ("schemaname", shape.schema_name.into()),
            ("viewname", shape.name.into()),
            ("viewowner", (&snapshot.session.user).into()),
        ]);
    }
}

pub fn materialized_views(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for object in of_kind(snapshot, ObjectKind::MaterializedView) {
        rows.add([
            ("schemaname", "public".into()),
            ("matviewname", object.name().into()),
            ("matviewowner", (&snapshot.session.user).into()),
            ("hasindexes", false.into()),
            ("ispopulated", true.into()),
            (
                "definition",
                Described::of(object)
                    .query
                    .map(|query| format!("{query};"))
                    .into(),
            ),
        ]);
    }
}

pub fn indexes(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for (object, key) in keyed(snapshot) {
        rows.add([
            ("schemaname", "public".into()),
            ("tablename", object.name().into()),
            ("indexname", primary_key_name(object).into()),
            ("indexdef", index_definition(object, key).into()),
        ]);
    }
}

pub fn foreign_tables(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for object in of_kind(snapshot, ObjectKind::Source) {
        let connector = Described::of(object).connector.unwrap_or_default();
        let server = oids::SERVERS.iter().find(|(name, _)| *name == connector);
        rows.add([
            ("ftrelid", object.definition.oid.into()),
            ("ftserver", server.map_or(0, |(_, oid)| *oid).into()),
        ]);
    }
}

pub fn foreign_servers(rows: &mut RowSet) {
    for (name, oid) in oids::SERVERS {
        rows.add([
            ("oid", oid.into()),
            ("srvname", name.into()),
            ("srvowner", oids::OWNER.into()),
            ("srvfdw", oids::WRAPPER.into()),
        ]);
    }
}

pub fn foreign_wrappers(rows: &mut RowSet) {
    rows.add([
        ("oid", oids::WRAPPER.into()),
        ("fdwname", "tidemill".into()),
        ("fdwowner", oids::OWNER.into()),
    ]);
}
