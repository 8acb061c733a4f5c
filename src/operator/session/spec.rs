//! What a [`Session`](super::Session) does, as the planner has decided it.

use arrow::datatypes::SchemaRef;

/// Sessions over a relation.
#[derive(Clone, Debug)]
pub struct SessionSpec {
    pub input: SchemaRef,
    /// The column of the input that sessions are cut on: a timestamp in microseconds.
    pub time_column: usize,
    /// The columns whose values have sessions of their own; none: all rows have the same.
    pub keys: Vec<usize>,
    /// Rows that are so far apart are in one session, those that are farther are not.
    pub gap_micros: i64,
    /// The input's columns, then `window_start` and `window_end` of the time column's type.
    pub output: SchemaRef,
    /// How long after its end a session stays open for corrections.
    pub lateness_micros: i64,
    /// Whether rows are judged here: rows straight from a source or table. Derived rows are never
    /// late.
    pub judges: bool,
    /// The input never retracts.
    pub is_append_only: bool,
    pub emit: SessionEmit,
}

/// When rows appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEmit {
    /// In the step that brings them; again whenever their session changes.
    OnUpdate,
    /// Once, when their session is final.
    OnClose,
}
