//! What a [`Session`](super::Session) does, as the planner has decided it.

use arrow::datatypes::SchemaRef;

use crate::base::EventTime;
use crate::delta::DeltaBatch;
use crate::operator::Step;

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

impl SessionSpec {
    /// Up to which end sessions are final for each row of a batch; `None`: none is.
    pub(in crate::operator) fn horizons(&self, batch: &DeltaBatch) -> Option<Vec<i64>> {
        let watermarks = batch.watermarks().filter(|_| self.judges)?;
        let horizon = |watermark: &i64| watermark.saturating_sub(self.lateness_micros);
        Some(watermarks.iter().map(horizon).collect())
    }

    /// Up to which end sessions are final when a step ends.
    pub(in crate::operator) fn horizon(&self, step: &Step) -> Option<i64> {
        let EventTime(bound) = step.bounds[0].0[self.time_column]?;
        Some(match (bound, self.judges) {
            (i64::MIN | i64::MAX, _) => bound,
            (bound, true) => bound.saturating_sub(self.lateness_micros),
            // A later row can have this very time, and continue what ends there.
            (bound, false) => bound - 1,
        })
    }

    /// The bounds of `window_start` and `window_end`, given the start of the oldest session that
    /// is not final.
    pub(in crate::operator) fn bounds(
        &self,
        step: &Step,
        oldest: Option<i64>,
    ) -> Option<(EventTime, EventTime)> {
        let next = match self.horizon(step)? {
            end @ (i64::MIN | i64::MAX) => return Some((EventTime(end), EventTime(end))),
            horizon => horizon + 1,
        };
        let begin = match self.judges {
            true => next.saturating_sub(self.gap_micros),
            false => next,
        };
        let start = oldest.map_or(begin, |oldest| oldest.min(begin));
        let end = match (oldest, self.is_append_only) {
            (Some(oldest), false) => next.min(oldest.saturating_add(self.gap_micros)),
            _ => next,
        };
        Some((EventTime(start), EventTime(end)))
    }
}

/// When rows appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEmit {
    /// In the step that brings them; again whenever their session changes.
    OnUpdate,
    /// Once, when their session is final.
    OnClose,
}
