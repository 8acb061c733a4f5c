//! Relations and their columns, keys and defaults.
//!
//! Sources are foreign tables (`f`): their rows are elsewhere and are read when asked for. Tables
//! are `r`, views `v`, materialized views `m`, a primary key's index `i`.

use std::collections::BTreeMap;

use arrow::datatypes::Field;

use crate::catalog::{Object, ObjectKind};
use crate::system::definition::Described;
use crate::system::oids;
use crate::system::pg_type::{type_by_name, type_by_oid};
use crate::system::rows::{Cell, RowSet};
use crate::system::shape::Shape;
use crate::system::snapshot::SystemSnapshot;
use crate::types::pg::PgType;

/// Columns of the primary key; only a table declares one.
pub fn primary_key(object: &Object) -> Option<&[usize]> {
    match object.kind() {
        ObjectKind::Table => object.relation.key.as_deref(),
        _ => None,
    }
}

pub fn primary_key_name(object: &Object) -> String {
    format!("{}_pkey", object.name())
}

/// The objects with a primary key, and its columns.
pub fn keyed(snapshot: &SystemSnapshot) -> impl Iterator<Item = (&Object, &[usize])> {
    snapshot
        .catalog
        .objects()
        .filter_map(|object| primary_key(object).map(|key| (object.as_ref(), key)))
}

pub fn relkind(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Source => "f",
        ObjectKind::Table => "r",
        ObjectKind::View => "v",
        ObjectKind::MaterializedView | ObjectKind::LateRows => "m",
    }
}

/// Attribute numbers of columns: they count from 1.
fn numbers(columns: &[usize]) -> Cell {
    Cell::list(columns.iter().map(|column| column + 1))
}

/// A row of `pg_class`, as far as they differ.
struct Class<'a> {
    oid: u32,
    name: &'a str,
    namespace: u32,
    kind: &'a str,
    columns: usize,
    method: u32,
    row_count: Option<u64>,
    has_index: bool,
}

pub fn classes(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    let counts: BTreeMap<&str, u64> = snapshot
        .engine
        .views
        .iter()
        .map(|view| (view.name.as_str(), view.rows))
        .collect();
    for object in snapshot.catalog.objects() {
        let method = match object.kind() {
            ObjectKind::Table | ObjectKind::MaterializedView | ObjectKind::LateRows => {
                oids::METHOD_HEAP
            }
            ObjectKind::Source | ObjectKind::View => 0,
        };
        class(
            rows,
            &Class {
                oid: object.definition.oid,
                name: object.name(),
                namespace: oids::NAMESPACE_PUBLIC,
                kind: relkind(object.kind()),
                columns: object.relation.schema.fields().len(),
                method,
                row_count: counts.get(object.name()).copied(),
                has_index: primary_key(object).is_some(),
            },
        );
    }
    for (object, key) in keyed(snapshot) {
        class(
            rows,
            &Class {
                oid: oids::index_of(object.definition.oid),
                name: &primary_key_name(object),
                namespace: oids::NAMESPACE_PUBLIC,
                kind: "i",
                columns: key.len(),
                method: oids::METHOD_BTREE,
                row_count: None,
                has_index: false,
            },
        );
    }
    for shape in Shape::all().filter(|shape| shape.is_listed()) {
        class(
            rows,
            &Class {
                oid: shape.oid,
                name: shape.name,
                namespace: oids::namespace(shape.schema_name).unwrap_or(0),
                kind: shape.kind,
                columns: shape.columns.len(),
                method: if shape.kind == "r" {
                    oids::METHOD_HEAP
                } else {
                    0
                },
                row_count: None,
                has_index: false,
            },
        );
    }
}

fn class(rows: &mut RowSet, class: &Class<'_>) {
    // -1 is Postgres' "never counted".
    #[allow(clippy::cast_precision_loss)]
    let tuples = class.row_count.map_or(-1.0, |count| count as f64);
    rows.add([
        ("oid", class.oid.into()),
        ("relname", class.name.into()),
        ("relnamespace", class.namespace.into()),
        ("relowner", oids::OWNER.into()),
        ("relam", class.method.into()),
        (
            "relfilenode",
            if class.method == 0 { 0 } else { class.oid }.into(),
        ),
        ("reltuples", tuples.into()),
        ("relhasindex", class.has_index.into()),
        ("relpersistence", "p".into()),
        ("relkind", class.kind.into()),
        ("relnatts", class.columns.into()),
        ("relispopulated", true.into()),
        (
            "relreplident",
            if class.kind == "r" { "d" } else { "n" }.into(),
        ),
    ]);
}

/// A row of `pg_attribute`, as far as they differ.
struct Attribute<'a> {
    relation: u32,
    name: &'a str,
    number: usize,
    type_oid: u32,
    modifier: i32,
    is_not_null: bool,
    has_default: bool,
    is_generated: bool,
}

pub fn attributes(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for object in snapshot.catalog.objects() {
        let defaults = Described::of(object).defaults;
        let key = primary_key(object).unwrap_or(&[]);
        for (index, field) in object.relation.schema.fields().iter().enumerate() {
            let default = defaults.get(field.name());
            let is_not_null = !field.is_nullable() || key.contains(&index);
            let oid = object.definition.oid;
            let mut described = of_field(oid, index + 1, field);
            described.is_not_null = is_not_null && relkind(object.kind()) != "v";
            described.has_default = default.is_some();
            described.is_generated = default.is_some_and(|default| default.is_generated);
            attribute(rows, &described);
        }
    }
    for (object, key) in keyed(snapshot) {
        for (position, column) in key.iter().enumerate() {
            let field = object.relation.schema.field(*column);
            let oid = oids::index_of(object.definition.oid);
            attribute(rows, &of_field(oid, position + 1, field));
        }
    }
    for shape in Shape::all().filter(|shape| shape.is_listed()) {
        for (index, column) in shape.columns.iter().enumerate() {
            attribute(
                rows,
                &Attribute {
                    relation: shape.oid,
                    name: column.name,
                    number: index + 1,
                    type_oid: type_by_name(column.type_name).map_or(25, |row| row.oid),
                    modifier: -1,
                    is_not_null: column.is_not_null,
                    has_default: false,
                    is_generated: false,
                },
            );
        }
    }
}

fn of_field(relation: u32, number: usize, field: &Field) -> Attribute<'_> {
    let pg_type = PgType::of(field);
    Attribute {
        relation,
        name: field.name(),
        number,
        type_oid: pg_type.oid,
        modifier: pg_type.modifier,
        is_not_null: false,
        has_default: false,
        is_generated: false,
    }
}

fn attribute(rows: &mut RowSet, attribute: &Attribute<'_>) {
    let row = type_by_oid(attribute.type_oid);
    rows.add([
        ("attrelid", attribute.relation.into()),
        ("attname", attribute.name.into()),
        ("atttypid", attribute.type_oid.into()),
        ("attstattarget", (-1).into()),
        ("attlen", row.map_or(-1, |row| row.len).into()),
        ("attnum", attribute.number.into()),
        (
            "attndims",
            i32::from(row.is_some_and(|row| row.category == "A")).into(),
        ),
        ("attcacheoff", (-1).into()),
        ("atttypmod", attribute.modifier.into()),
        ("attbyval", row.is_some_and(|row| row.is_by_value).into()),
        ("attalign", row.map_or("i", |row| row.align).into()),
        ("attstorage", row.map_or("x", |row| row.storage).into()),
        ("attnotnull", attribute.is_not_null.into()),
        ("atthasdef", attribute.has_default.into()),
        (
            "attgenerated",
            if attribute.is_generated { "s" } else { "" }.into(),
        ),
        ("attislocal", true.into()),
        ("attcollation", row.map_or(0, |row| row.collation).into()),
    ]);
}

pub fn indexes(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for (object, key) in keyed(snapshot) {
        let zeros = || Cell::list(key.iter().map(|_| 0_i64));
        let collations = key.iter().map(|column| {
            let oid = PgType::of(object.relation.schema.field(*column)).oid;
            type_by_oid(oid).map_or(0, |row| row.collation)
        });
        rows.add([
            ("indexrelid", oids::index_of(object.definition.oid).into()),
            ("indrelid", object.definition.oid.into()),
            ("indnatts", key.len().into()),
            ("indnkeyatts", key.len().into()),
            ("indisunique", true.into()),
            ("indisprimary", true.into()),
            ("indimmediate", true.into()),
            ("indisvalid", true.into()),
            ("indisready", true.into()),
            ("indislive", true.into()),
            ("indkey", numbers(key)),
            ("indcollation", Cell::list(collations)),
            ("indclass", zeros()),
            ("indoption", zeros()),
        ]);
    }
}

pub fn constraints(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for (object, key) in keyed(snapshot) {
        rows.add([
            ("oid", oids::constraint_of(object.definition.oid).into()),
            ("conname", primary_key_name(object).into()),
            ("connamespace", oids::NAMESPACE_PUBLIC.into()),
            ("contype", "p".into()),
            ("convalidated", true.into()),
            ("conrelid", object.definition.oid.into()),
            ("conindid", oids::index_of(object.definition.oid).into()),
            ("confupdtype", " ".into()),
            ("confdeltype", " ".into()),
            ("confmatchtype", " ".into()),
            ("conislocal", true.into()),
            ("connoinherit", true.into()),
            ("conkey", numbers(key)),
        ]);
    }
}

/// Defaults and generated columns; the expression's text stands where Postgres keeps a tree, and
/// `pg_get_expr` returns it as it is.
pub fn defaults(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    /// Numbers of defaults begin behind those of all indexes.
    const FIRST: u32 = 3 << 29;
    let mut oid = FIRST;
    for object in snapshot.catalog.objects() {
        let described = Described::of(object);
        for (index, field) in object.relation.schema.fields().iter().enumerate() {
            let Some(default) = described.defaults.get(field.name()) else {
                continue;
            };
            rows.add([
                ("oid", oid.into()),
                ("adrelid", object.definition.oid.into()),
                ("adnum", (index + 1).into()),
                ("adbin", (&default.text).into()),
            ]);
            oid += 1;
        }
    }
}

pub fn descriptions(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    let class = Shape::find("pg_catalog", "pg_class").map_or(0, |shape| shape.oid);
    for object in snapshot.catalog.objects() {
        if let Some(comment) = &object.definition.comment {
            rows.add([
                ("objoid", object.definition.oid.into()),
                ("classoid", class.into()),
                ("description", comment.into()),
            ]);
        }
    }
}
