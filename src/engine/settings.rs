//! Session variables: what SET takes, SHOW prints and the protocol reports.
//!
//! A variable that Postgres has and that means nothing here is accepted and kept, so that drivers
//! connect; one that would change an answer and is not supported is refused. Values are kept as
//! SHOW prints them.

use std::collections::BTreeMap;

use crate::error::{Error, Result, SqlState};
use crate::sql::interval;

/// A variable's description.
struct Variable {
    name: &'static str,
    default: &'static str,
    kind: Kind,
    description: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Bool,
    Integer,
    /// Milliseconds, or a text with a unit; 0 = off.
    Time,
    Words(&'static [&'static str]),
    /// On or off, of which one cannot be had: the value that can, and what to do instead.
    Only(&'static str, &'static str),
    /// A style and an order of dates.
    DateStyle,
    /// Cannot be changed.
    Fixed,
}

/// The version of Postgres whose dialect and catalogs this server speaks. Clients parse it.
pub const SERVER_VERSION: &str = concat!("15.13 (Tidemill ", env!("CARGO_PKG_VERSION"), ")");

const ISOLATION: &[&str] = &[
    "read committed",
    "repeatable read",
    "serializable",
    "read uncommitted",
];

macro_rules! variables {
    ($($name:literal = $default:expr, $kind:expr, $description:literal;)*) => {
        const VARIABLES: &[Variable] = &[$(Variable {
            name: $name, default: $default, kind: $kind, description: $description,
        }),*];
    };
}

variables! {
    "application_name" = "", Kind::Text, "the application's name, for the logs";
    "background_ddl" = "off", Kind::Bool, "whether CREATE MATERIALIZED VIEW returns at once";
    "bytea_output" = "hex", Kind::Words(&["hex"]), "how bytea values are printed";
    "client_encoding" = "UTF8", Kind::Words(&["utf8", "utf-8", "unicode", "sql_ascii"]),
        "the client's encoding";
    "client_min_messages" = "notice", Kind::Text, "which messages are sent";
    "datestyle" = "ISO, MDY", Kind::DateStyle, "how dates are printed";
    "default_transaction_isolation" = "read committed", Kind::Words(ISOLATION),
        "the isolation of new transactions";
    "default_transaction_read_only" = "off", Kind::Bool, "whether new transactions only read";
    "extra_float_digits" = "1", Kind::Integer, "floats are printed shortest that reads back";
    "idle_in_transaction_session_timeout" = "0", Kind::Time,
        "how long a transaction may wait for its client";
    "idle_session_timeout" = "0", Kind::Time, "how long a session may wait for its client";
    "in_hot_standby" = "off", Kind::Fixed, "this server is no standby";
    "integer_datetimes" = "on", Kind::Fixed, "timestamps are integers";
    "intervalstyle" = "postgres", Kind::Words(&["postgres"]), "how intervals are printed";
    "is_superuser" = "on", Kind::Fixed, "every user may do everything";
    "jit" = "off", Kind::Bool, "without a meaning here";
    "lc_messages" = "C", Kind::Text, "the language of messages";
    "lock_timeout" = "0", Kind::Time, "how long a write may wait for another one of its table";
    "max_identifier_length" = "63", Kind::Fixed, "bytes of a name";
    "real_time_recency" = "off", Kind::Only("off", "SELECT from the source reads to its ends; \
        tidemill.sources tells how far the views are"),
        "whether SELECT waits for what brokers have now";
    "row_security" = "on", Kind::Bool, "there are no row policies";
    "search_path" = "\"$user\", public", Kind::Text, "where names are looked up";
    "server_encoding" = "UTF8", Kind::Fixed, "the server's encoding";
    "server_version" = SERVER_VERSION, Kind::Fixed, "the dialect's version";
    "server_version_num" = "150013", Kind::Fixed, "the dialect's version";
    "session_authorization" = "tidemill", Kind::Text, "the session's user";
    "standard_conforming_strings" = "on", Kind::Words(&["on"]), "backslashes are ordinary";
    "statement_timeout" = "0", Kind::Time, "how long a statement may run";
    "synchronize_seqscans" = "on", Kind::Bool, "without a meaning here";
    "timezone" = "UTC", Kind::Text, "the zone in which timestamps are printed";
    "transaction_isolation" = "read committed", Kind::Words(ISOLATION),
        "the isolation of the transaction";
    "transaction_read_only" = "off", Kind::Bool, "whether the transaction only reads";
}

/// Those that clients are told of when they change, by the names they know.
const REPORTED: &[(&str, &str)] = &[
    ("application_name", "application_name"),
    ("client_encoding", "client_encoding"),
    ("datestyle", "DateStyle"),
    (
        "default_transaction_read_only",
        "default_transaction_read_only",
    ),
    ("in_hot_standby", "in_hot_standby"),
    ("integer_datetimes", "integer_datetimes"),
    ("intervalstyle", "IntervalStyle"),
    ("is_superuser", "is_superuser"),
    ("server_encoding", "server_encoding"),
    ("server_version", "server_version"),
    ("session_authorization", "session_authorization"),
    ("standard_conforming_strings", "standard_conforming_strings"),
    ("timezone", "TimeZone"),
];

/// A session's variables.
#[derive(Clone, Debug)]
pub struct Settings {
    values: BTreeMap<String, String>,
    /// What the session started with: RESET goes back to it.
    initial: BTreeMap<String, String>,
    /// Values to go back to at the end of the transaction (SET LOCAL, or a rollback).
    before_transaction: Option<BTreeMap<String, String>>,
    local: BTreeMap<String, String>,
    changed: Vec<String>,
}

impl Settings {
    /// The defaults, changed by what the client said when it connected. Unknown ones are kept: a
    /// client that sends one must be able to connect.
    pub fn new(start: &BTreeMap<String, String>) -> Settings {
        let defaults = VARIABLES
            .iter()
            .map(|v| (v.name.to_string(), v.default.to_string()));
        let mut settings = Settings {
            values: defaults.collect(),
            initial: BTreeMap::new(),
            before_transaction: None,
            local: BTreeMap::new(),
            changed: Vec::new(),
        };
        for (name, value) in start {
            let name = canonical(name);
            match Settings::check(&name, value) {
                Ok(checked) => {
                    settings.values.insert(name, checked);
                }
                // One that is known keeps its default, which SHOW tells, and never a value that
                // nothing here obeys.
                Err(_) if VARIABLES.iter().any(|variable| variable.name == name) => {}
                Err(_) => {
                    settings.values.insert(name, value.clone());
                }
            }
        }
        settings.initial.clone_from(&settings.values);
        settings
    }

    /// The value as SHOW prints it.
    pub fn get(&self, name: &str) -> Option<&str> {
        let name = canonical(name);
        self.values.get(&name).map(String::as_str)
    }

    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == Some("on")
    }

    /// Every variable with its value and description.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.values.iter().map(|(name, value)| {
            let known = VARIABLES.iter().find(|variable| variable.name == name);
            (
                name.as_str(),
                value.as_str(),
                known.map_or("", |variable| variable.description),
            )
        })
    }

    /// Sets a variable; `None` sets its default.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        let name = canonical(name);
        let value = match value {
            Some(value) => Settings::check(&name, value)?,
            None => self
                .initial
                .get(&name)
                .cloned()
                .ok_or_else(|| unknown(&name))?,
        };
        if self.values.get(&name) != Some(&value) {
            self.changed.push(name.clone());
        }
        self.values.insert(name, value);
        Ok(())
    }

    /// Sets a variable until the transaction ends.
    pub fn set_local(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        let name = canonical(name);
        let before = self.values.get(&name).cloned();
        self.set(&name, value)?;
        if let Some(before) = before {
            self.local.entry(name).or_insert(before);
        }
        Ok(())
    }

    /// Sets every variable back to what the session started with.
    pub fn reset_all(&mut self) {
        let names: Vec<String> = self.values.keys().cloned().collect();
        for name in names {
            match self.initial.get(&name) {
                Some(value) if self.values.get(&name) != Some(value) => {
                    self.values.insert(name.clone(), value.clone());
                    self.changed.push(name);
                }
                _ => {}
            }
        }
    }

    pub fn begin(&mut self) {
        self.before_transaction = Some(self.values.clone());
    }

    /// Ends the transaction: SET LOCAL ends with it, SET too if it is rolled back.
    pub fn end(&mut self, is_committed: bool) {
        let before = self.before_transaction.take();
        let local = std::mem::take(&mut self.local);
        let back = match (is_committed, before) {
            (false, Some(before)) => before,
            _ => local,
        };
        for (name, value) in back {
            if self.values.get(&name) != Some(&value) {
                self.values.insert(name.clone(), value);
                self.changed.push(name);
            }
        }
    }

    /// Reported variables that changed since the last call, by the names that clients know.
    pub fn take_changed(&mut self) -> Vec<(String, String)> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort();
        changed.dedup();
        let report = |name: String| {
            let (_, reported) = REPORTED.iter().find(|(known, _)| *known == name)?;
            Some(((*reported).to_string(), self.values[&name].clone()))
        };
        changed.into_iter().filter_map(report).collect()
    }

    /// The value as it is kept, if the variable takes it.
    pub fn check(name: &str, value: &str) -> Result<String> {
        let name = canonical(name);
        let name = name.as_str();
        let Some(variable) = VARIABLES.iter().find(|variable| variable.name == name) else {
            // Names with a dot belong to extensions, in Postgres too.
            return match name.contains('.') {
                true => Ok(value.to_string()),
                false => Err(unknown(name)),
            };
        };
        let refused = |what: &str| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("invalid value for parameter \"{name}\": \"{value}\""),
            )
            .hint(what.to_string())
        };
        match variable.kind {
            Kind::Fixed if value == variable.default => Ok(value.to_string()),
            Kind::Fixed => Err(Error::new(
                SqlState::CANT_CHANGE_RUNTIME_PARAM,
                format!("parameter \"{name}\" cannot be changed"),
            )),
            Kind::Text if name == "timezone" => {
                let zone = crate::types::Zone::parse(value)
                    .map_err(|_| refused("use a name such as 'Europe/Berlin' or UTC"))?;
                Ok(zone.to_string())
            }
            Kind::Text => Ok(value.to_string()),
            Kind::Bool => switch(value).ok_or_else(|| refused("use on or off")),
            Kind::Only(only, hint) => {
                let value = switch(value).ok_or_else(|| refused("use on or off"))?;
                match value == only {
                    true => Ok(value),
                    false => {
                        let error =
                            Error::unsupported(format!("{name} = {value} is not supported"));
                        Err(error.hint(hint))
                    }
                }
            }
            Kind::DateStyle => date_style(value)
                .ok_or_else(|| refused("dates are printed and read as ISO, MDY: 2026-01-31")),
            Kind::Integer => match value.parse::<i64>() {
                Ok(number) => Ok(number.to_string()),
                Err(_) => Err(refused("use a number")),
            },
            Kind::Time => milliseconds(value)
                .map(|millis| match millis {
                    0 => "0".to_string(),
                    millis => format!("{millis}ms"),
                })
                .ok_or_else(|| refused("use milliseconds, or a time such as '5s'")),
            Kind::Words(words) => {
                let lower = value.to_lowercase();
                match words.contains(&lower.as_str()) {
                    true if name == "client_encoding" => Ok("UTF8".to_string()),
                    true => Ok(lower),
                    false => Err(refused(&format!("use one of {}", words.join(", ")))),
                }
            }
        }
    }
}

/// A truth value as SHOW prints it.
fn switch(value: &str) -> Option<String> {
    match value.to_lowercase().as_str() {
        "on" | "true" | "yes" | "1" | "t" | "y" => Some("on".to_string()),
        "off" | "false" | "no" | "0" | "f" | "n" => Some("off".to_string()),
        _ => None,
    }
}

/// A style of dates, if it is the one that there is. The order is that of numbers with slashes, of
/// which a month comes first here.
fn date_style(value: &str) -> Option<String> {
    let mut words = value.split(',').map(|word| word.trim().to_lowercase());
    let is_known = |word: String| matches!(word.as_str(), "iso" | "mdy" | "us" | "noneuropean");
    words.all(is_known).then(|| "ISO, MDY".to_string())
}

/// The milliseconds that a time setting says.
pub fn milliseconds(value: &str) -> Option<u64> {
    if let Ok(number) = value.trim().parse::<u64>() {
        return Some(number);
    }
    let micros = interval::parse(value).ok()?.fixed_micros()?;
    u64::try_from(micros / 1000).ok()
}

/// The name under which a variable is kept.
pub fn canonical(name: &str) -> String {
    match name.to_lowercase().as_str() {
        "time zone" => "timezone".to_string(),
        "transaction isolation level" => "transaction_isolation".to_string(),
        "names" => "client_encoding".to_string(),
        other => other.to_string(),
    }
}

fn unknown(name: &str) -> Error {
    Error::new(
        SqlState::UNDEFINED_OBJECT,
        format!("unrecognized configuration parameter \"{name}\""),
    )
    .hint("SHOW ALL lists them")
}
