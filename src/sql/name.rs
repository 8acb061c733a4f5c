//! Names as Postgres reads and writes them: folded to lower case unless quoted, quoted if needed.

use std::borrow::Cow;
use std::fmt;

use datafusion::sql::sqlparser::ast::Ident;

use crate::sql::Position;

/// The name of an object, with up to two qualifiers: `database.schema.name`.
///
/// Its parts are already folded: `Bids` is held as `bids`, `"Bids"` as `Bids`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectName {
    parts: Vec<String>,
    position: Position,
}

impl ObjectName {
    /// # Panics
    /// If `parts` is empty.
    pub fn new(parts: Vec<String>, position: Position) -> Self {
        assert!(!parts.is_empty(), "a name has at least one part");
        ObjectName { parts, position }
    }

    pub fn bare(name: impl Into<String>) -> Self {
        ObjectName::new(vec![name.into()], Position::UNKNOWN)
    }

    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// The name without its qualifiers.
    pub fn name(&self) -> &str {
        self.parts.last().expect("a name has at least one part")
    }

    pub fn schema(&self) -> Option<&str> {
        self.parts
            .len()
            .checked_sub(2)
            .map(|index| self.parts[index].as_str())
    }

    pub fn database(&self) -> Option<&str> {
        self.parts
            .len()
            .checked_sub(3)
            .map(|index| self.parts[index].as_str())
    }

    pub fn position(&self) -> Position {
        self.position
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(f, "{dot}{}", quote_identifier(part))?;
        }
        Ok(())
    }
}

/// The name that an identifier of the parser stands for.
pub fn fold(identifier: &Ident) -> String {
    match identifier.quote_style {
        Some(_) => identifier.value.clone(),
        None => identifier.value.to_ascii_lowercase(),
    }
}

/// Writes a folded name so that it is read back as the same name.
pub fn quote_identifier(name: &str) -> Cow<'_, str> {
    let mut characters = name.chars();
    let starts_well = characters
        .next()
        .is_some_and(|first| first.is_ascii_lowercase() || first == '_');
    let goes_on_well =
        characters.all(|next| next.is_ascii_lowercase() || next.is_ascii_digit() || next == '_');
    if starts_well && goes_on_well && !is_reserved(name) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("\"{}\"", name.replace('"', "\"\"")))
    }
}

/// Writes a string literal; a backslash stands for itself, as with Postgres' default settings.
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Whether the unquoted word cannot name a table or column in Postgres.
pub fn is_reserved(word: &str) -> bool {
    RESERVED
        .iter()
        .any(|reserved| reserved.eq_ignore_ascii_case(word))
}

/// The "reserved" column of the table of key words in Postgres' manual, appendix C.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_only_where_they_must_be() {
        for (name, written) in [
            ("bids", "bids"),
            ("_x1", "_x1"),
            ("Bids", "\"Bids\""),
            ("1st", "\"1st\""),
            ("user", "\"user\""),
            ("a\"b", "\"a\"\"b\""),
            ("größe", "\"größe\""),
            ("", "\"\""),
        ] {
            assert_eq!(quote_identifier(name), written);
        }
        assert_eq!(quote_literal("it's \\ here"), "'it''s \\ here'");
    }
}
