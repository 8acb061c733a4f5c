//! Statements that move rows in bulk or follow changes: `SUBSCRIBE` and `COPY`.

use datafusion::sql::sqlparser::ast;

use crate::sql::ObjectName;
use crate::sql::statement::RelationOrQuery;

/// `SUBSCRIBE TO v | (query) …`: the changes of a relation as they happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    pub input: RelationOrQuery,
    /// Whether the rows that are there already come first; on unless said otherwise.
    pub snapshot: bool,
    /// Whether rows that only say how far time has come are wanted.
    pub progress: bool,
    /// Changes after this epoch are wanted; with a snapshot, the rows as they were at it.
    pub as_of: Option<u64>,
    /// The subscription ends before this epoch.
    pub up_to: Option<u64>,
    pub envelope: SubscribeEnvelope,
}

/// How a change is written as a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscribeEnvelope {
    /// (epoch, diff, row…).
    Diff,
    /// The latest row per key; the names are the key's columns.
    Upsert(Vec<String>),
    /// Before and after per key.
    Debezium(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct CopyRows {
    pub target: CopyTarget,
    pub direction: CopyDirection,
    pub options: CopyOptions,
}

#[derive(Clone, Debug, PartialEq)]
pub enum CopyTarget {
    /// No columns means all of them, in order.
    Relation {
        name: ObjectName,
        columns: Vec<String>,
    },
    Query(Box<ast::Query>),
    Subscribe(Box<Subscribe>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyDirection {
    FromStdin,
    ToStdout,
}

/// Only what was said; the defaults depend on the format and belong to the codec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub delimiter: Option<char>,
    pub null: Option<String>,
    pub header: Option<CopyHeader>,
    pub quote: Option<char>,
    pub escape: Option<char>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopyFormat {
    #[default]
    Text,
    Csv,
    Binary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyHeader {
    Off,
    On,
    /// The header must name the columns, in order.
    Match,
}
