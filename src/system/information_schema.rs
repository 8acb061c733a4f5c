//! The relations of `information_schema` that have rows here; all others are there and empty.
//!
//! They list the objects in `public` and nothing else: who asks this schema looks for data.

use arrow::datatypes::Field;

use crate::catalog::{Object, ObjectKind};
use crate::system::definition::Described;
use crate::system::oids;
use crate::system::pg_catalog::relation::{keyed, primary_key, primary_key_name};
use crate::system::pg_type::{format_type, type_by_oid};
use crate::system::rows::RowSet;
use crate::system::shape::Shape;
use crate::system::snapshot::SystemSnapshot;
use crate::types::SqlType;
use crate::types::pg::PgType;

/// Fills the relation of this shape.
pub fn fill(shape: &Shape, snapshot: &SystemSnapshot, rows: &mut RowSet) {
    let database = snapshot.session.database.as_str();
    match shape.name {
        "information_schema_catalog_name" => rows.add([("catalog_name", database.into())]),
        "schemata" => schemata(snapshot, rows),
        "tables" => tables(snapshot, rows),
        "columns" => columns(snapshot, rows),
        "views" => views(snapshot, rows),
        "table_constraints" => table_constraints(snapshot, rows),
        "key_column_usage" => key_columns(snapshot, rows),
        "constraint_column_usage" => constraint_columns(snapshot, rows),
        "foreign_tables" => foreign_tables(snapshot, rows),
        _ => {}
    }
}

fn yes_no(yes: bool) -> crate::system::rows::Cell {
    if yes { "YES" } else { "NO" }.into()
}

fn schemata(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for (name, _) in oids::NAMESPACES {
        rows.add([
            ("catalog_name", (&snapshot.session.database).into()),
            ("schema_name", name.into()),
            ("schema_owner", (&snapshot.session.user).into()),
        ]);
    }
}

fn tables(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    let database = &snapshot.session.database;
    for object in snapshot.catalog.objects() {
        let (kind, takes_rows) = match object.kind() {
            ObjectKind::Source => {
                let connector = Described::of(object).connector;
                ("FOREIGN", connector.as_deref() == Some("topic"))
            }
            ObjectKind::Table => ("BASE TABLE", true),
            // The standard has no materialized views, and who looks for data wants to find them.
            ObjectKind::View | ObjectKind::MaterializedView | ObjectKind::LateRows => {
                ("VIEW", false)
            }
        };
        rows.add([
            ("table_catalog", database.into()),
            ("table_schema", "public".into()),
            ("table_name", object.name().into()),
            ("table_type", kind.into()),
            ("is_insertable_into", yes_no(takes_rows)),
            ("is_typed", yes_no(false)),
        ]);
    }
    for shape in Shape::all().filter(|shape| shape.is_listed()) {
        let kind = if shape.kind == "r" {
            "BASE TABLE"
        } else {
            "VIEW"
        };
        rows.add([
            ("table_catalog", database.into()),
            ("table_schema", shape.schema_name.into()),
            ("table_name", shape.name.into()),
            ("table_type", kind.into()),
            ("is_insertable_into", yes_no(false)),
            ("is_typed", yes_no(false)),
        ]);
    }
}

fn columns(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for object in snapshot.catalog.objects() {
        let described = Described::of(object);
        for (index, field) in object.relation.schema.fields().iter().enumerate() {
            column(
                snapshot,
                rows,
                &Column {
                    schema: "public",
                    table: object.name(),
                    position: index + 1,
                    field,
                    default: described.defaults.get(field.name()),
                    is_nullable: field.is_nullable()
                        && !primary_key(object).is_some_and(|key| key.contains(&index)),
                    is_updatable: object.kind() == ObjectKind::Table,
                },
            );
        }
    }
    for shape in Shape::all().filter(|shape| shape.is_listed()) {
        for (index, field) in shape.schema.fields().iter().enumerate() {
            column(
                snapshot,
                rows,
                &Column {
                    schema: shape.schema_name,
                    table: shape.name,
                    position: index + 1,
                    field,
                    default: None,
                    is_nullable: field.is_nullable(),
                    is_updatable: false,
                },
            );
        }
    }
}

struct Column<'a> {
    schema: &'a str,
    table: &'a str,
    position: usize,
    field: &'a Field,
    default: Option<&'a crate::system::definition::ColumnDefault>,
    is_nullable: bool,
    is_updatable: bool,
}

fn column(snapshot: &SystemSnapshot, rows: &mut RowSet, column: &Column<'_>) {
    let database = &snapshot.session.database;
    let sql_type = SqlType::of(column.field).unwrap_or(SqlType::Text);
    let oid = PgType::of_sql_type(&sql_type).oid;
    let data_type = match sql_type {
        SqlType::Array(_) => "ARRAY".to_string(),
        _ => format_type(oid, None),
    };
    let length = match sql_type {
        SqlType::Varchar(Some(length)) => Some(length),
        _ => None,
    };
    let (precision, radix, scale) = number_of(&sql_type);
    let is_time = matches!(
        sql_type,
        SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz | SqlType::Interval
    );
    let generated = column.default.filter(|default| default.is_generated);
    let default = column.default.filter(|default| !default.is_generated);
    rows.add([
        ("table_catalog", database.into()),
        ("table_schema", column.schema.into()),
        ("table_name", column.table.into()),
        ("column_name", column.field.name().into()),
        ("ordinal_position", column.position.into()),
        (
            "column_default",
            default.map(|default| default.text.clone()).into(),
        ),
        ("is_nullable", yes_no(column.is_nullable)),
        ("data_type", data_type.into()),
        ("character_maximum_length", length.into()),
        ("numeric_precision", precision.into()),
        ("numeric_precision_radix", radix.into()),
        ("numeric_scale", scale.into()),
        ("datetime_precision", is_time.then_some(6).into()),
        ("udt_catalog", database.into()),
        ("udt_schema", "pg_catalog".into()),
        ("udt_name", type_by_oid(oid).map(|row| row.name).into()),
        ("dtd_identifier", column.position.to_string().into()),
        ("is_self_referencing", yes_no(false)),
        ("is_identity", yes_no(false)),
        ("identity_cycle", yes_no(false)),
        (
            "is_generated",
            if generated.is_some() {
                "ALWAYS"
            } else {
                "NEVER"
            }
            .into(),
        ),
        (
            "generation_expression",
            generated.map(|default| default.text.clone()).into(),
        ),
        ("is_updatable", yes_no(column.is_updatable)),
    ]);
}

/// Precision, its radix, and scale of a number.
fn number_of(sql_type: &SqlType) -> (Option<i32>, Option<i32>, Option<i32>) {
    match sql_type {
        SqlType::SmallInt => (Some(16), Some(2), Some(0)),
        SqlType::Integer => (Some(32), Some(2), Some(0)),
        SqlType::BigInt => (Some(64), Some(2), Some(0)),
        SqlType::Real => (Some(24), Some(2), None),
        SqlType::DoublePrecision => (Some(53), Some(2), None),
        SqlType::Numeric { precision, scale } => (
            Some(i32::from(*precision)),
            Some(10),
            Some(i32::from(*scale)),
        ),
        _ => (None, None, None),
    }
}

fn views(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for object in snapshot.catalog.objects() {
        if !matches!(
            object.kind(),
            ObjectKind::View | ObjectKind::MaterializedView | ObjectKind::LateRows
        ) {
            continue;
        }
        rows.add([
            ("table_catalog", (&snapshot.session.database).into()),
            ("table_schema", "public".into()),
            ("table_name", object.name().into()),
            ("view_definition", Described::of(object).query.into()),
            ("check_option", "NONE".into()),
            ("is_updatable", yes_no(false)),
            ("is_insertable_into", yes_no(false)),
            ("is_trigger_updatable", yes_no(false)),
            ("is_trigger_deletable", yes_no(false)),
            ("is_trigger_insertable_into", yes_no(false)),
        ]);
    }
}

fn table_constraints(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for (object, _) in keyed(snapshot) {
        rows.add([
            ("constraint_catalog", (&snapshot.session.database).into()),
            ("constraint_schema", "public".into()),
            ("constraint_name", primary_key_name(object).into()),
            ("table_catalog", (&snapshot.session.database).into()),
            ("table_schema", "public".into()),
            ("table_name", object.name().into()),
            ("constraint_type", "PRIMARY KEY".into()),
            ("is_deferrable", yes_no(false)),
            ("initially_deferred", yes_no(false)),
            ("enforced", yes_no(true)),
        ]);
    }
}

fn key_columns(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for (object, name, position) in key_parts(snapshot) {
        rows.add([
            ("constraint_catalog", (&snapshot.session.database).into()),
            ("constraint_schema", "public".into()),
            ("constraint_name", primary_key_name(object).into()),
            ("table_catalog", (&snapshot.session.database).into()),
            ("table_schema", "public".into()),
            ("table_name", object.name().into()),
            ("column_name", name.into()),
            ("ordinal_position", position.into()),
        ]);
    }
}

fn constraint_columns(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for (object, name, _) in key_parts(snapshot) {
        rows.add([
            ("table_catalog", (&snapshot.session.database).into()),
            ("table_schema", "public".into()),
            ("table_name", object.name().into()),
            ("column_name", name.into()),
            ("constraint_catalog", (&snapshot.session.database).into()),
            ("constraint_schema", "public".into()),
            ("constraint_name", primary_key_name(object).into()),
        ]);
    }
}

/// Every column of every primary key: table, column, position from 1.
fn key_parts(snapshot: &SystemSnapshot) -> impl Iterator<Item = (&Object, &str, usize)> {
    keyed(snapshot).flat_map(|(object, key)| {
        let schema = &object.relation.schema;
        let name = |column: usize| schema.field(column).name().as_str();
        key.iter()
            .enumerate()
            .map(move |(position, column)| (object, name(*column), position + 1))
    })
}

fn foreign_tables(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for object in snapshot.catalog.objects() {
        if object.kind() != ObjectKind::Source {
            continue;
        }
        rows.add([
            ("foreign_table_catalog", (&snapshot.session.database).into()),
            ("foreign_table_schema", "public".into()),
            ("foreign_table_name", object.name().into()),
            (
                "foreign_server_catalog",
                (&snapshot.session.database).into(),
            ),
            (
                "foreign_server_name",
                Described::of(object).connector.into(),
            ),
        ]);
    }
}
