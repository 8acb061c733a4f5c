//! Names of objects to their numbers and back: `to_regclass`, and what `'users'::regclass` and
//! `oid::regclass::text` become ([`crate::plan`] rewrites the casts to these calls).
//!
//! A function `reg…in` takes what a cast takes, a name or a number, and gives the oid. A function
//! `reg…out` takes an oid and gives the name; a number that is none's is written as it is.

use crate::error::{Error, Result, SqlState};
use crate::sql::name::quote_identifier;
use crate::system::function::session::entry;
use crate::system::function::{Arguments, Entry, Kind, Returns};
use crate::system::oids;
use crate::system::pg_catalog::relation::{keyed, primary_key_name};
use crate::system::pg_type::{format_type, function_by_oid, functions, type_by_name, type_by_oid};
use crate::system::rows::Cell;
use crate::system::shape::Shape;
use crate::system::snapshot::SystemSnapshot;

pub const ENTRIES: &[Entry] = &[
    entry!(
        "to_regclass",
        1..=1,
        BigInt,
        Stable,
        |snapshot, arguments| { found(class_oid, snapshot, arguments) }
    ),
    entry!(
        "to_regtype",
        1..=1,
        BigInt,
        Stable,
        |snapshot, arguments| { found(type_oid, snapshot, arguments) }
    ),
    entry!(
        "to_regproc",
        1..=1,
        BigInt,
        Stable,
        |snapshot, arguments| { found(procedure_oid, snapshot, arguments) }
    ),
    entry!(
        "to_regnamespace",
        1..=1,
        BigInt,
        Stable,
        |snapshot, arguments| { found(namespace_oid, snapshot, arguments) }
    ),
    entry!(
        "to_regrole",
        1..=1,
        BigInt,
        Stable,
        |snapshot, arguments| { found(role_oid, snapshot, arguments) }
    ),
    entry!(
        "regclassin",
        1..=1,
        BigInt,
        Stable,
        |snapshot, arguments| {
            required(
                "relation",
                SqlState::UNDEFINED_TABLE,
                class_oid,
                snapshot,
                arguments,
            )
        }
    ),
    entry!("regtypein", 1..=1, BigInt, Stable, |snapshot, arguments| {
        required(
            "type",
            SqlState::UNDEFINED_OBJECT,
            type_oid,
            snapshot,
            arguments,
        )
    }),
    entry!("regprocin", 1..=1, BigInt, Stable, |snapshot, arguments| {
        required(
            "function",
            SqlState::UNDEFINED_FUNCTION,
            procedure_oid,
            snapshot,
            arguments,
        )
    }),
    entry!(
        "regnamespacein",
        1..=1,
        BigInt,
        Stable,
        |snapshot, arguments| {
            required(
                "schema",
                SqlState::UNDEFINED_OBJECT,
                namespace_oid,
                snapshot,
                arguments,
            )
        }
    ),
    entry!("regrolein", 1..=1, BigInt, Stable, |snapshot, arguments| {
        required(
            "role",
            SqlState::UNDEFINED_OBJECT,
            role_oid,
            snapshot,
            arguments,
        )
    }),
    entry!("regclassout", 1..=1, Text, Stable, |snapshot, arguments| {
        written(|oid| class_name(snapshot, oid), arguments)
    }),
    entry!("regtypeout", 1..=1, Text, Stable, |_, arguments| {
        written(
            |oid| type_by_oid(oid).map(|row| format_type(row.oid, None)),
            arguments,
        )
    }),
    entry!("regprocout", 1..=1, Text, Stable, |_, arguments| {
        written(
            |oid| function_by_oid(oid).map(|row| row.name.to_string()),
            arguments,
        )
    }),
    entry!("regnamespaceout", 1..=1, Text, Stable, |_, arguments| {
        written(
            |oid| oids::namespace_name(oid).map(str::to_string),
            arguments,
        )
    }),
    entry!("regroleout", 1..=1, Text, Stable, |snapshot, arguments| {
        written(
            |oid| (oid == oids::OWNER).then(|| snapshot.session.user.clone()),
            arguments,
        )
    }),
];

type Lookup = fn(&SystemSnapshot, &[String]) -> Option<u32>;

/// The oid of a name, or NULL.
fn found(lookup: Lookup, snapshot: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let text = arguments.text(0)?.unwrap_or_default();
    Ok(number_or(lookup, snapshot, &text).into())
}

fn required(
    what: &str,
    state: SqlState,
    lookup: Lookup,
    snapshot: &SystemSnapshot,
    arguments: &Arguments<'_>,
) -> Result<Cell> {
    let text = arguments.text(0)?.unwrap_or_default();
    match number_or(lookup, snapshot, &text) {
        Some(oid) => Ok(oid.into()),
        None => Err(Error::new(
            state,
            format!("{what} \"{text}\" does not exist"),
        )),
    }
}

fn number_or(lookup: Lookup, snapshot: &SystemSnapshot, text: &str) -> Option<u32> {
    match text.trim() {
        "-" => Some(0),
        text => text.parse().ok().or_else(|| lookup(snapshot, &parts(text))),
    }
}

fn written(name: impl Fn(u32) -> Option<String>, arguments: &Arguments<'_>) -> Result<Cell> {
    let oid = arguments.oid(0)?;
    Ok(match oid {
        0 => "-".into(),
        oid => name(oid).unwrap_or_else(|| oid.to_string()).into(),
    })
}

/// The parts of a dotted name, folded as in SQL.
pub fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut is_quoted = false;
    for letter in text.trim().chars() {
        let part = parts.last_mut().expect("there is a first part");
        match letter {
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => parts.push(String::new()),
            letter if is_quoted => part.push(letter),
            letter => part.push(letter.to_ascii_lowercase()),
        }
    }
    parts
}

fn class_oid(snapshot: &SystemSnapshot, parts: &[String]) -> Option<u32> {
    let (schema, name) = match parts {
        [name] => (None, name),
        [.., schema, name] => (Some(schema.as_str()), name),
        [] => return None,
    };
    let system = Shape::find(schema.unwrap_or("pg_catalog"), name);
    if let Some(shape) = system.filter(|shape| shape.is_listed()) {
        return Some(shape.oid);
    }
    if schema.is_some_and(|schema| schema != "public") {
        return None;
    }
    if let Some(object) = snapshot.catalog.find(name) {
        return Some(object.definition.oid);
    }
    let mut keys = keyed(snapshot);
    let key = keys.find(|(object, _)| primary_key_name(object) == *name);
    key.map(|(object, _)| oids::index_of(object.definition.oid))
}

/// A relation's name, with its schema where a query would need it.
pub fn class_name(snapshot: &SystemSnapshot, oid: u32) -> Option<String> {
    let of_object = |oid: u32| {
        let mut objects = snapshot.catalog.objects();
        objects.find(|object| object.definition.oid == oid)
    };
    if let Some(object) = of_object(oid) {
        return Some(quote_identifier(object.name()).into_owned());
    }
    if let Some(object) = oids::object_of_index(oid).and_then(of_object) {
        return Some(quote_identifier(&primary_key_name(object)).into_owned());
    }
    let shape = Shape::all().find(|shape| shape.is_listed() && shape.oid == oid)?;
    Some(match shape.schema_name {
        "pg_catalog" => shape.name.to_string(),
        schema => format!("{schema}.{}", shape.name),
    })
}

fn type_oid(_: &SystemSnapshot, parts: &[String]) -> Option<u32> {
    type_by_name(parts.last()?).map(|row| row.oid)
}

fn procedure_oid(_: &SystemSnapshot, parts: &[String]) -> Option<u32> {
    let name = parts.last()?;
    functions()
        .iter()
        .find(|row| row.name == name)
        .map(|row| row.oid)
}

fn namespace_oid(_: &SystemSnapshot, parts: &[String]) -> Option<u32> {
    oids::namespace(parts.last()?)
}

fn role_oid(snapshot: &SystemSnapshot, parts: &[String]) -> Option<u32> {
    (*parts.last()? == snapshot.session.user).then_some(oids::OWNER)
}
