//! What the plan says of a join.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;

use crate::error::{Error, Result};

/// Which rows a join gives beside the matching pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// None.
    Inner,
    /// Left rows without a match, with NULLs for the right columns.
    Left,
}

/// Whether NULL is equal to NULL in the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NullEquality {
    /// `=`: a row with a NULL in its key matches nothing.
    NullIsUnequal,
    /// `IS NOT DISTINCT FROM`.
    NullIsEqual,
}

/// By what time the rows of each side go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expire {
    pub left: Option<ExpireRule>,
    pub right: Option<ExpireRule>,
}

/// Rows whose `column` is below the bound of the other input's `other_column` match nothing that is
/// still to come, because the join equates the two columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpireRule {
    /// A key column of the side itself: a timestamp in microseconds.
    pub column: usize,
    /// The key column of the other side that it is equated with.
    pub other_column: usize,
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
    /// left ++ right; the right columns nullable in a left join.
    pub output: SchemaRef,
    /// The input never takes a row away: its rows need no index by contents.
    pub left_append_only: bool,
    pub right_append_only: bool,
    pub expire: Option<Expire>,
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
        let inputs = self.left.fields().iter().chain(self.right.fields().iter());
        let types_fit = self.output.fields().len() == inputs.clone().count()
            && inputs
                .zip(self.output.fields())
                .all(|(input, output)| input.data_type() == output.data_type());
        if !types_fit {
            return wrong("the output is not left ++ right".to_string());
        }
        let width = self.left.fields().len();
        let right = &self.output.fields()[width..];
        if self.kind == JoinKind::Left && right.iter().any(|field| !field.is_nullable()) {
            return wrong("the right columns of a left join may be NULL".to_string());
        }
        let expire = self.expire.unwrap_or_default();
        let is_key = |rule: Option<ExpireRule>, own: &[usize], other: &[usize]| {
            rule.is_none_or(|rule| {
                let mut pairs = own.iter().zip(other);
                pairs.any(|(&own, &other)| own == rule.column && other == rule.other_column)
            })
        };
        let left_fits = is_key(expire.left, &self.left_keys, &self.right_keys);
        let right_fits = is_key(expire.right, &self.right_keys, &self.left_keys);
        match left_fits && right_fits {
            true => Ok(()),
            false => wrong("rows expire by columns that are not equated".to_string()),
        }
    }
}
