//! What a [`PaneAggregate`](super::PaneAggregate) does, as the planner has decided it.

use arrow::datatypes::SchemaRef;

use crate::function::window::Panes;
use crate::operator::aggregate::spec::AggregateCall;

/// An aggregate by key and window of HOP, put out on close.
#[derive(Clone, Debug)]
pub struct PaneAggregateSpec {
    pub input: SchemaRef,
    /// Columns of the input that are the key.
    pub keys: Vec<usize>,
    /// The column of the input that says where the row's pane begins: a timestamp in microseconds,
    /// never NULL. A row that has a watermark counts only for windows that end after it.
    pub pane_column: usize,
    pub panes: Panes,
    /// All of them mergeable, and without extremes where rows can be taken back.
    pub calls: Vec<AggregateCall>,
    /// The input never retracts.
    pub is_append_only: bool,
    /// The keys, `window_start`, `window_end`, then a column per call.
    pub output: SchemaRef,
}
