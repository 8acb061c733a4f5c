//! Definitions, comments, visibility and sizes of what the catalog holds.

use std::sync::Arc;

use crate::catalog::Object;
use crate::error::Result;
use crate::sql::name::quote_identifier;
use crate::system::definition::Described;
use crate::system::function::session::entry;
use crate::system::function::{Arguments, Entry, Kind, Returns};
use crate::system::oids;
use crate::system::pg_catalog::relation::{primary_key, primary_key_name};
use crate::system::pg_type;
use crate::system::rows::Cell;
use crate::system::shape::Shape;
use crate::system::snapshot::SystemSnapshot;

pub const ENTRIES: &[Entry] = &[
    entry!("format_type", 2..=2, Text, StableWithNulls, format_type),
    entry!("pg_get_userbyid", 1..=1, Text, Stable, user_by_id),
    entry!("pg_get_expr", 2..=3, Text, Stable, |_, arguments| Ok(
        arguments.text(0)?.into()
    )),
    entry!("pg_get_viewdef", 1..=2, Text, Stable, view_definition),
    entry!("pg_get_indexdef", 1..=3, Text, Stable, index_text),
    entry!("pg_get_constraintdef", 1..=2, Text, Stable, constraint_text),
    entry!(
        "pg_get_function_result",
        1..=1,
        Text,
        Stable,
        function_result
    ),
    entry!(
        "pg_get_function_arguments",
        1..=1,
        Text,
        Stable,
        function_arguments
    ),
    entry!(
        "pg_get_function_identity_arguments",
        1..=1,
        Text,
        Stable,
        function_arguments
    ),
    // There are no rules, triggers, partitions, sequences or functions with a body.
    entry!("pg_get_ruledef", 1..=2, Text, Stable, null),
    entry!("pg_get_triggerdef", 1..=2, Text, Stable, null),
    entry!("pg_get_functiondef", 1..=1, Text, Stable, null),
    entry!("pg_get_function_sqlbody", 1..=1, Text, Stable, null),
    entry!("pg_get_serial_sequence", 2..=2, Text, Stable, null),
    entry!("pg_get_statisticsobjdef", 1..=1, Text, Stable, null),
    entry!("pg_get_statisticsobjdef_columns", 1..=1, Text, Stable, null),
    entry!("pg_get_partkeydef", 1..=1, Text, Stable, null),
    entry!("pg_get_partition_constraintdef", 1..=1, Text, Stable, null),
    entry!("pg_get_replica_identity_index", 1..=1, BigInt, Stable, null),
    entry!(
        "pg_relation_is_publishable",
        1..=1,
        Boolean,
        Stable,
        |_, _| Ok(false.into())
    ),
    entry!("obj_description", 1..=2, Text, Stable, object_comment),
    entry!("shobj_description", 2..=2, Text, Stable, null),
    entry!("col_description", 2..=2, Text, Stable, null),
    entry!(
        "pg_table_is_visible",
        1..=1,
        Boolean,
        Stable,
        is_table_visible
    ),
    entry!("pg_type_is_visible", 1..=1, Boolean, Stable, is_visible),
    entry!("pg_function_is_visible", 1..=1, Boolean, Stable, is_visible),
    entry!("pg_operator_is_visible", 1..=1, Boolean, Stable, is_visible),
    entry!("pg_opclass_is_visible", 1..=1, Boolean, Stable, is_visible),
    entry!("pg_opfamily_is_visible", 1..=1, Boolean, Stable, is_visible),
    entry!(
        "pg_collation_is_visible",
        1..=1,
        Boolean,
        Stable,
        is_visible
    ),
    entry!(
        "pg_conversion_is_visible",
        1..=1,
        Boolean,
        Stable,
        is_visible
    ),
    entry!(
        "pg_statistics_obj_is_visible",
        1..=1,
        Boolean,
        Stable,
        is_visible
    ),
    entry!(
        "pg_ts_config_is_visible",
        1..=1,
        Boolean,
        Stable,
        is_visible
    ),
    entry!("pg_ts_dict_is_visible", 1..=1, Boolean, Stable, is_visible),
    entry!(
        "pg_ts_parser_is_visible",
        1..=1,
        Boolean,
        Stable,
        is_visible
    ),
    entry!(
        "pg_ts_template_is_visible",
        1..=1,
        Boolean,
        Stable,
        is_visible
    ),
    entry!("pg_relation_size", 1..=2, BigInt, Stable, relation_size),
    entry!("pg_table_size", 1..=1, BigInt, Stable, relation_size),
    entry!(
        "pg_total_relation_size",
        1..=1,
        BigInt,
        Stable,
        relation_size
    ),
    entry!("pg_indexes_size", 1..=1, BigInt, Stable, |_, _| Ok(
        0_i64.into()
    )),
    entry!("pg_tablespace_size", 1..=1, BigInt, Stable, database_size),
    entry!("pg_database_size", 1..=1, BigInt, Stable, database_size),
    entry!("pg_tablespace_location", 1..=1, Text, Stable, |_, _| Ok(
        "".into()
    )),
];

fn null(_: &SystemSnapshot, _: &Arguments<'_>) -> Result<Cell> {
    Ok(Cell::Null)
}

fn is_visible(_: &SystemSnapshot, _: &Arguments<'_>) -> Result<Cell> {
    Ok(true.into())
}

fn object(snapshot: &SystemSnapshot, oid: u32) -> Option<&Arc<Object>> {
    snapshot
        .catalog
        .objects()
        .find(|object| object.definition.oid == oid)
}

fn format_type(_: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    if arguments.is_null(0) {
        return Ok(Cell::Null);
    }
    let modifier = arguments
        .integer(1)?
        .and_then(|modifier| i32::try_from(modifier).ok());
    Ok(pg_type::format_type(arguments.oid(0)?, modifier).into())
}

fn user_by_id(snapshot: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    Ok(match arguments.oid(0)? {
        oids::OWNER => (&snapshot.session.user).into(),
        other => format!("unknown (OID={other})").into(),
    })
}

/// The query of a view, named by oid or by name.
fn view_definition(snapshot: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let found = match arguments.integer(0) {
        Ok(_) => object(snapshot, arguments.oid(0)?),
        Err(_) => snapshot
            .catalog
            .find(&arguments.text(0)?.unwrap_or_default()),
    };
    let query = found.and_then(|object| Described::of(object).query);
    Ok(query.map(|query| format!(" {query};")).into())
}

/// `CREATE UNIQUE INDEX …` for a table's primary key.
pub fn index_definition(object: &Object, key: &[usize]) -> String {
    let name = primary_key_name(object);
    let (name, table) = (quote_identifier(&name), quote_identifier(object.name()));
    let columns = key_columns(object, key);
    format!("CREATE UNIQUE INDEX {name} ON public.{table} USING btree ({columns})")
}

fn key_columns(object: &Object, key: &[usize]) -> String {
    let schema = &object.relation.schema;
    let name = |column: &usize| quote_identifier(schema.field(*column).name()).into_owned();
    key.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The whole definition, or the column of a number counted from 1.
fn index_text(snapshot: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let table = oids::object_of_index(arguments.oid(0)?).and_then(|oid| object(snapshot, oid));
    let Some((table, key)) = table.and_then(|table| Some((table, primary_key(table)?))) else {
        return Ok(Cell::Null);
    };
    let position = usize::try_from(arguments.integer(1)?.unwrap_or(0)).unwrap_or(0);
    Ok(match position.checked_sub(1) {
        None => index_definition(table, key).into(),
        Some(index) => match key.get(index) {
            Some(column) => key_columns(table, &[*column]).into(),
            None => "".into(),
        },
    })
}

fn constraint_text(snapshot: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let oid = oids::object_of_constraint(arguments.oid(0)?);
    let table = oid.and_then(|oid| object(snapshot, oid));
    let text = table.and_then(|table| {
        let key = primary_key(table)?;
        Some(format!("PRIMARY KEY ({})", key_columns(table, key)))
    });
    Ok(text.into())
}

fn function_result(_: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let row = pg_type::function_by_oid(arguments.oid(0)?);
    let text = row.map(|row| {
        let set = if row.returns_set { "SETOF " } else { "" };
        format!("{set}{}", pg_type::format_type(row.returns, None))
    });
    Ok(text.into())
}

fn function_arguments(_: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let row = pg_type::function_by_oid(arguments.oid(0)?);
    let text = row.map(|row| {
        let types = row
            .arguments
            .iter()
            .map(|oid| pg_type::format_type(*oid, None));
        types.collect::<Vec<_>>().join(", ")
    });
    Ok(text.into())
}

/// Only relations have comments.
fn object_comment(snapshot: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let is_relation = arguments.text(1)?.is_none_or(|name| name == "pg_class");
    let found = object(snapshot, arguments.oid(0)?).filter(|_| is_relation);
    Ok(found
        .and_then(|object| object.definition.comment.clone())
        .into())
}

/// Whether the relation is found without naming its schema.
fn is_table_visible(_: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let oid = arguments.oid(0)?;
    let system = Shape::all().find(|shape| shape.is_listed() && shape.oid == oid);
    Ok(system
        .is_none_or(|shape| shape.schema_name == "pg_catalog")
        .into())
}

/// Bytes of a view's rows; 0 for what keeps none or is not known.
fn relation_size(snapshot: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let found = object(snapshot, arguments.oid(0)?);
    let view = found.and_then(|object| {
        snapshot
            .engine
            .views
            .iter()
            .find(|view| view.name == object.name())
    });
    Ok(view.map_or(0, |view| view.bytes).into())
}

fn database_size(snapshot: &SystemSnapshot, _: &Arguments<'_>) -> Result<Cell> {
    Ok(snapshot
        .engine
        .views
        .iter()
        .map(|view| view.bytes)
        .sum::<u64>()
        .into())
}
