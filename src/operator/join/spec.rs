//! What the plan says of a join.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, SchemaRef, TimeUnit};
use datafusion::physical_expr::PhysicalExpr;

use crate::error::{Error, Result};

/// Which rows a join gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// The matching pairs.
    Inner,
    /// And left rows without a match, with NULLs for the right columns.
    Left,
    /// And right rows without a match, with NULLs for the left columns.
    Full,
    /// Left rows with a match, each as often as it is there: `EXISTS`, `IN`.
    Semi,
    /// Left rows without a match: `NOT EXISTS`.
    Anti,
    /// All left rows, with whether they have a match.
    Mark,
}

impl JoinKind {
    /// Whether the pairs themselves come out.
    pub fn has_pairs(self) -> bool {
        matches!(self, JoinKind::Inner | JoinKind::Left | JoinKind::Full)
    }

    /// Whether left rows come out, or not, for having no match.
    pub fn counts_left(self) -> bool {
        self != JoinKind::Inner
    }

    /// Whether right rows come out for having no match.
    pub fn counts_right(self) -> bool {
        self == JoinKind::Full
    }
}

/// Whether NULL is equal to NULL in the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NullEquality {
    /// `=`: a row with a NULL in its key matches nothing.
    NullIsUnequal,
    /// `IS NOT DISTINCT FROM`.
    NullIsEqual,
}

/// Two times that the join keeps near each other: of every pair of rows that match,
/// `right + least ≤ left ≤ right + greatest`.
///
/// ```text
///   a.ts BETWEEN b.ts - INTERVAL '5 s' AND b.ts        least −5 s, greatest 0
///   a.window_end = b.window_end                        least 0, greatest 0
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// A column of the left input: a timestamp in microseconds.
    pub left: usize,
    /// A column of the right input: one of the same type.
    pub right: usize,
    /// Microseconds; `None` where nothing bounds that side.
    pub least: Option<i64>,
    pub greatest: Option<i64>,
    /// Both inputs bound these times: no row comes that is below what they say.
    pub is_bounded: bool,
}

/// By which of the times the rows of each side go, as positions in [`JoinSpec::times`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expire {
    /// A left row goes when the right bound has passed its time less the range's `least`.
    pub left: Option<usize>,
    /// A right row goes when the left bound has passed its time plus the range's `greatest`.
    pub right: Option<usize>,
}

/// A join.
#[derive(Clone, Debug)]
pub struct JoinSpec {
    pub left: SchemaRef,
    pub right: SchemaRef,
    /// Equated pairwise with `right_keys`, and of the same types; empty: every pair of rows is
    /// looked at, and both inputs must be on one shard.
    pub left_keys: Vec<usize>,
    pub right_keys: Vec<usize>,
    pub null_equality: NullEquality,
    /// A boolean expression over left ++ right that pairs must meet too.
    pub residual: Option<Arc<dyn PhysicalExpr>>,
    pub kind: JoinKind,
    /// left ++ right, nullable where an outer join has NULLs; of a semi and an anti join left
    /// alone; of a mark join left and a boolean.
    pub output: SchemaRef,
    /// The input never takes a row away: its rows need no index by contents.
    pub left_append_only: bool,
    pub right_append_only: bool,
    /// What the equalities and the residual say of times, and no more than they say.
    pub times: Vec<TimeRange>,
    pub expire: Expire,
}

impl JoinSpec {
    /// # Errors
    /// Internal, naming what the plan has wrong.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::internal(format!("join: {what}")));
        if self.left_keys.len() != self.right_keys.len() {
            return wrong("the sides have different numbers of key columns".to_string());
        }
        for (&left, &right) in self.left_keys.iter().zip(&self.right_keys) {
            let (left, right) = (self.left.field(left), self.right.field(right));
            if left.data_type() != right.data_type() {
                return wrong(format!(
                    "key {} is of type {}, but {} of {}",
                    left.name(),
                    left.data_type(),
                    right.name(),
                    right.data_type()
                ));
            }
        }
        let types = |schema: &SchemaRef| -> Vec<DataType> {
            let types = schema
                .fields()
                .iter()
                .map(|field| field.data_type().clone());
            types.collect()
        };
        let mut expected = types(&self.left);
        match self.kind {
            JoinKind::Inner | JoinKind::Left | JoinKind::Full => {
                expected.extend(types(&self.right));
            }
            JoinKind::Semi | JoinKind::Anti => {}
            JoinKind::Mark => expected.push(DataType::Boolean),
        }
        if types(&self.output) != expected {
            return wrong(format!(
                "the output does not fit a join of kind {:?}",
                self.kind
            ));
        }
        let (left, right) = self.output.fields().split_at(self.left.fields().len());
        let (pads_left, pads_right) = match self.kind {
            JoinKind::Left => (false, true),
            JoinKind::Full => (true, true),
            _ => (false, false),
        };
        let is_total = |fields: &[FieldRef]| fields.iter().any(|field| !field.is_nullable());
        if pads_left && is_total(left) || pads_right && is_total(right) {
            return wrong("the columns that an outer join pads may be NULL".to_string());
        }
        let is_time = |schema: &SchemaRef, column: usize| {
            let data_type = schema.field(column).data_type();
            matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _))
        };
        let are_times = |range: &TimeRange| {
            is_time(&self.left, range.left) && is_time(&self.right, range.right)
        };
        if !self.times.iter().all(are_times) {
            return wrong("rows expire by timestamps in microseconds".to_string());
        }
        let range = |at: Option<usize>| at.map(|at| self.times.get(at));
        let left_fits =
            range(self.expire.left).is_none_or(|r| r.is_some_and(|r| r.least.is_some()));
        let right_fits =
            range(self.expire.right).is_none_or(|r| r.is_some_and(|r| r.greatest.is_some()));
        match left_fits && right_fits {
            true => Ok(()),
            false => wrong("rows expire by a time that nothing bounds".to_string()),
        }
    }
}
