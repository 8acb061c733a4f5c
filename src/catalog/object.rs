//! One object: its durable definition and what the planner knows of it.

use std::collections::BTreeMap;
use std::fmt;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::Expr;
use serde::{Deserialize, Serialize};

use crate::base::{ObjectId, Offset, PartitionId};

/// The kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    Source,
    Table,
    /// A query under a name: expanded where it is used, nothing is kept.
    View,
    MaterializedView,
    /// The rows that came too late for a materialized view; it comes and goes with the view.
    LateRows,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObjectKind::Source => "source",
            ObjectKind::Table => "table",
            ObjectKind::View => "view",
            ObjectKind::MaterializedView => "materialized view",
            ObjectKind::LateRows => "relation of late rows",
        })
    }
}

/// What the disk keeps of an object. A field that is added later must have a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub id: ObjectId,
    /// The oid that Postgres clients see.
    pub oid: u32,
    pub kind: ObjectKind,
    pub name: String,
    /// The statement as the user wrote it.
    pub text: String,
    /// A source's first offsets, resolved once at CREATE SOURCE.
    #[serde(default)]
    pub startup: BTreeMap<PartitionId, Offset>,
    /// What tells the source's topic from a later one of the same name.
    #[serde(default)]
    pub identity: Option<String>,
    #[serde(default)]
    pub comment: Option<String>,
    /// The relation of a view's late rows, if they are kept.
    #[serde(default)]
    pub late: Option<LateIds>,
}

/// The ids of a relation of late rows, whose name and columns follow from its view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateIds {
    pub id: ObjectId,
    pub oid: u32,
}

/// An object with all that was derived from its definition.
#[derive(Clone, Debug)]
pub struct Object {
    pub definition: Definition,
    pub relation: Relation,
    /// The objects its text names, rising.
    pub depends_on: Vec<ObjectId>,
}

impl Object {
    pub fn id(&self) -> ObjectId {
        self.definition.id
    }

    pub fn name(&self) -> &str {
        &self.definition.name
    }

    pub fn kind(&self) -> ObjectKind {
        self.definition.kind
    }
}

/// Whether a collection's changes ever take rows back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changelog {
    AppendOnly,
    Retracting,
}

impl Changelog {
    /// What a change that follows from both kinds of change is.
    pub fn and(self, other: Changelog) -> Changelog {
        match (self, other) {
            (Changelog::AppendOnly, Changelog::AppendOnly) => Changelog::AppendOnly,
            _ => Changelog::Retracting,
        }
    }
}

impl fmt::Display for Changelog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Changelog::AppendOnly => "append-only",
            Changelog::Retracting => "retracting",
        })
    }
}

/// What a plan over an object may rely on.
#[derive(Clone, Debug, PartialEq)]
pub struct Relation {
    /// The columns a user sees, in order.
    pub schema: SchemaRef,
    /// Columns no two rows share; `None` = none known.
    pub key: Option<Vec<usize>>,
    pub changelog: Changelog,
    /// Columns whose later values have a lower bound that rises with the watermark.
    pub bounded: Vec<usize>,
    /// Those of them whose bound is the clock of the last step: processing time, and the windows
    /// over it.
    pub clocked: Vec<usize>,
    /// The column with the declared watermark; its rows are judged for lateness.
    pub event_time: Option<usize>,
    /// For each column what INSERT puts where it names no value; empty where there is no DEFAULT.
    pub defaults: Vec<Option<Expr>>,
}
