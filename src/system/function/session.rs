//! The session, the server, settings and rights.

use crate::error::{Error, Result, SqlState};
use crate::system::function::{Arguments, Entry, Kind, Returns};
use crate::system::rows::Cell;
use crate::system::snapshot::{POSTGRES_VERSION, SystemSnapshot};

macro_rules! entry {
    ($name:literal, $arguments:expr, $returns:ident, $kind:ident, $body:expr) => {
        Entry {
            name: $name,
            arguments: $arguments,
            returns: Returns::$returns,
            kind: Kind::$kind,
            body: $body,
        }
    };
}
pub(super) use entry;

pub const ENTRIES: &[Entry] = &[
    entry!("current_user", 0..=0, Text, Stable, user),
    entry!("session_user", 0..=0, Text, Stable, user),
    entry!("current_role", 0..=0, Text, Stable, user),
    entry!("user", 0..=0, Text, Stable, user),
    entry!("current_database", 0..=0, Text, Stable, database),
    entry!("current_catalog", 0..=0, Text, Stable, database),
    entry!("current_schema", 0..=0, Text, Stable, |_, _| Ok(
        "public".into()
    )),
    entry!("current_schemas", 1..=1, Texts, Stable, schemas),
    entry!("version", 0..=0, Text, Stable, version),
    entry!(
        "current_setting",
        1..=2,
        Text,
        StableWithNulls,
        current_setting
    ),
    entry!("set_config", 3..=3, Text, Volatile, set_config),
    entry!("pg_backend_pid", 0..=0, Integer, Stable, |snapshot, _| {
        Ok(snapshot.session.backend_pid.into())
    }),
    entry!("inet_server_addr", 0..=0, Text, Stable, |snapshot, _| {
        Ok(snapshot.session.server_address.clone().into())
    }),
    entry!("inet_server_port", 0..=0, Integer, Stable, |snapshot, _| {
        Ok(snapshot.session.server_port.into())
    }),
    entry!("inet_client_addr", 0..=0, Text, Stable, |snapshot, _| {
        Ok(snapshot.session.client_address.clone().into())
    }),
    entry!("inet_client_port", 0..=0, Integer, Stable, |snapshot, _| {
        Ok(snapshot.session.client_port.into())
    }),
    entry!(
        "pg_postmaster_start_time",
        0..=0,
        Timestamptz,
        Stable,
        started
    ),
    entry!("pg_conf_load_time", 0..=0, Timestamptz, Stable, started),
    entry!("txid_current", 0..=0, BigInt, Stable, |snapshot, _| {
        Ok(snapshot.session.epoch.into())
    }),
    entry!("pg_is_in_recovery", 0..=0, Boolean, Stable, no),
    entry!("pg_is_other_temp_schema", 1..=1, Boolean, Stable, no),
    entry!("row_security_active", 1..=1, Boolean, Stable, no),
    entry!("pg_my_temp_schema", 0..=0, BigInt, Stable, |_, _| Ok(
        0_i64.into()
    )),
    // There are no advisory locks, so all of them are free.
    entry!("pg_advisory_unlock_all", 0..=0, Text, Stable, |_, _| Ok(
        "".into()
    )),
    entry!("pg_client_encoding", 0..=0, Text, Stable, |_, _| Ok(
        "UTF8".into()
    )),
    // One user per session owns everything and may do everything.
    entry!("has_table_privilege", 2..=3, Boolean, Stable, yes),
    entry!("has_any_column_privilege", 2..=3, Boolean, Stable, yes),
    entry!("has_column_privilege", 3..=4, Boolean, Stable, yes),
    entry!("has_schema_privilege", 2..=3, Boolean, Stable, yes),
    entry!("has_database_privilege", 2..=3, Boolean, Stable, yes),
    entry!("has_function_privilege", 2..=3, Boolean, Stable, yes),
    entry!("has_sequence_privilege", 2..=3, Boolean, Stable, yes),
    entry!("has_type_privilege", 2..=3, Boolean, Stable, yes),
    entry!("has_tablespace_privilege", 2..=3, Boolean, Stable, yes),
    entry!("has_language_privilege", 2..=3, Boolean, Stable, yes),
    entry!("has_server_privilege", 2..=3, Boolean, Stable, yes),
    entry!(
        "has_foreign_data_wrapper_privilege",
        2..=3,
        Boolean,
        Stable,
        yes
    ),
    entry!("has_parameter_privilege", 2..=3, Boolean, Stable, yes),
    entry!("pg_has_role", 2..=3, Boolean, Stable, yes),
];

fn yes(_: &SystemSnapshot, _: &Arguments<'_>) -> Result<Cell> {
    Ok(true.into())
}

fn no(_: &SystemSnapshot, _: &Arguments<'_>) -> Result<Cell> {
    Ok(false.into())
}

fn user(snapshot: &SystemSnapshot, _: &Arguments<'_>) -> Result<Cell> {
    Ok((&snapshot.session.user).into())
}

fn database(snapshot: &SystemSnapshot, _: &Arguments<'_>) -> Result<Cell> {
    Ok((&snapshot.session.database).into())
}

fn started(snapshot: &SystemSnapshot, _: &Arguments<'_>) -> Result<Cell> {
    Ok(snapshot.session.server_started_at.into())
}

/// Clients read the number behind `PostgreSQL`; some refuse to go on without it.
fn version(_: &SystemSnapshot, _: &Arguments<'_>) -> Result<Cell> {
    let own = env!("CARGO_PKG_VERSION");
    Ok(format!("PostgreSQL {POSTGRES_VERSION} (Tidemill {own})").into())
}

/// The schemas in which names are looked for; the argument says whether the implicit one is asked
/// for too.
fn schemas(_: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let with_implicit = arguments
        .text(0)?
        .is_some_and(|text| text == "true" || text == "t");
    Ok(Cell::list(if with_implicit {
        vec!["pg_catalog", "public"]
    } else {
        vec!["public"]
    }))
}

fn current_setting(snapshot: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let Some(name) = arguments.text(0)? else {
        return Ok(Cell::Null);
    };
    let is_missing_ok = arguments
        .text(1)?
        .is_some_and(|text| text == "true" || text == "t");
    match snapshot.setting(&name) {
        Some(value) => Ok(value.into()),
        None if is_missing_ok => Ok(Cell::Null),
        None => Err(Error::new(
            SqlState::UNDEFINED_OBJECT,
            format!("unrecognized configuration parameter \"{name}\""),
        )),
    }
}

/// Takes note of the new value, which the engine sets when the statement has ended.
fn set_config(snapshot: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let Some(name) = arguments.text(0)? else {
        return Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "SET requires parameter name",
        ));
    };
    let value = arguments.text(1)?.unwrap_or_default();
    let is_local = arguments
        .text(2)?
        .is_some_and(|text| text == "true" || text == "t");
    let changes = &snapshot.session.changes;
    Ok(changes.push(&name, &value, is_local)?.into())
}
