//! Options of a generator out of `WITH (name = 'value', …)`.

use std::str::FromStr;

use crate::error::{Error, Result, SqlState};
use crate::types::event_time;

/// The options of a source, taken one by one; what is left over at the end is unknown.
pub(in crate::connector) struct Options {
    connector: &'static str,
    left: Vec<(String, String)>,
    known: Vec<String>,
}

impl Options {
    /// The options in the order in which they were written; `connector` itself is not looked at.
    pub fn new(connector: &'static str, options: &[(String, String)]) -> Self {
        let named = options
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        let left = named.filter(|(name, _)| name != "connector").collect();
        Options {
            connector,
            left,
            known: Vec::new(),
        }
    }

    /// The option's text; of several the last one.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.known.push(name.to_string());
        let found = self.left.iter().rposition(|(given, _)| given == name)?;
        let (_, value) = self.left.remove(found);
        self.left.retain(|(given, _)| given != name);
        Some(value)
    }

    /// The option as a number (or whatever parses).
    ///
    /// # Errors
    /// 22023, saying that it must be `kind`.
    pub fn parsed<T: FromStr>(&mut self, name: &str, kind: &str) -> Result<Option<T>> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        match value.trim().parse() {
            Ok(parsed) => Ok(Some(parsed)),
            Err(_) => Err(self.bad(name, &value, kind)),
        }
    }

    /// The option as a number from 1 to `max`.
    ///
    /// # Errors
    /// 22023.
    pub fn count(&mut self, name: &str, max: u64) -> Result<Option<u64>> {
        let kind = format!("a whole number from 1 to {max}");
        match self.parsed::<u64>(name, &kind)? {
            Some(count) if count == 0 || count > max => {
                Err(self.bad(name, &count.to_string(), &kind))
            }
            count => Ok(count),
        }
    }

    /// The option as a point in time, microseconds since 1970.
    ///
    /// # Errors
    /// 22023.
    pub fn time(&mut self, name: &str) -> Result<Option<i64>> {
        let Some(value) = self.text(name) else {
            return Ok(None);
        };
        let text = value.trim();
        let micros = event_time::parse(text)
            .or_else(|| event_time::parse(&format!("{text}T00:00:00Z")))
            .ok_or_else(|| self.bad(name, &value, "a time such as 2026-01-31T12:00:00Z"))?;
        Ok(Some(micros))
    }

    /// The error of a bad value.
    pub fn bad(&self, name: &str, value: &str, kind: &str) -> Error {
        invalid(format!(
            "option \"{name}\" of connector {} cannot be '{value}'",
            self.connector
        ))
        .hint(format!("it is {kind}"))
    }

    /// # Errors
    /// 22023 for an option that nobody asked for.
    pub fn finish(self) -> Result<()> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _)) => {
                let connector = self.connector;
                Err(invalid(format!(
                    "unknown option \"{name}\" of connector {connector}"
                ))
                .hint(format!("the options are: {}", self.known.join(", "))))
            }
        }
    }
}

pub(in crate::connector) fn invalid(message: String) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}
