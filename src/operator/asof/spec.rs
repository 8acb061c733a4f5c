//! What the plan says of an ASOF join.

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};

use crate::error::{Error, Result};

/// Which right row is the nearest to a left row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nearest {
    /// `left >= right`: the last one at the left row's time or before it.
    AtOrBefore,
    /// `left > right`
    Before,
    /// `left <= right`: the first one at the left row's time or after it.
    AtOrAfter,
    /// `left < right`
    After,
}

impl Nearest {
    /// The comparison as it is written.
    pub fn sign(self) -> &'static str {
        match self {
            Nearest::AtOrBefore => ">=",
            Nearest::Before => ">",
            Nearest::AtOrAfter => "<=",
            Nearest::After => "<",
        }
    }

    /// Whether a right row at the left row's very time counts.
    pub fn allows_equal(self) -> bool {
        match self {
            Nearest::AtOrBefore | Nearest::AtOrAfter => true,
            Nearest::Before | Nearest::After => false,
        }
    }

    /// Whether right rows are looked for in the past of the left row.
    pub fn is_past(self) -> bool {
        match self {
            Nearest::AtOrBefore | Nearest::Before => true,
            Nearest::AtOrAfter | Nearest::After => false,
        }
    }
}

/// An ASOF join.
#[derive(Clone, Debug)]
pub struct AsOfSpec {
    pub left: SchemaRef,
    pub right: SchemaRef,
    /// Equated pairwise with `right_keys`, and of the same types; where there are none, both inputs
    /// must be on one shard. A row with a NULL in its key meets nothing.
    pub left_keys: Vec<usize>,
    pub right_keys: Vec<usize>,
    /// Timestamps in microseconds of the same type.
    pub left_time: usize,
    pub right_time: usize,
    pub nearest: Nearest,
    /// Left rows that meet nothing come out with NULLs.
    pub is_outer: bool,
    /// left ++ right; the right columns nullable in a left join.
    pub output: SchemaRef,
    /// The input never takes a row away: its rows need no index by contents.
    pub left_append_only: bool,
    pub right_append_only: bool,
    /// No right row comes below the right time's bound: it frees left rows.
    pub frees_left: bool,
    /// Nor a left row below the left time's: both free right rows.
    pub frees_right: bool,
}

impl AsOfSpec {
    /// # Errors
    /// Internal, naming what the plan has wrong.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::internal(format!("ASOF join: {what}")));
        let types = |schema: &SchemaRef, columns: &[usize]| -> Vec<DataType> {
            let of = |&column: &usize| schema.field(column).data_type().clone();
            columns.iter().map(of).collect()
        };
        if types(&self.left, &self.left_keys) != types(&self.right, &self.right_keys) {
            return wrong("the keys of the sides have different types");
        }
        let times = [
            types(&self.left, &[self.left_time]),
            types(&self.right, &[self.right_time]),
        ]
        .concat();
        let is_time = |t: &DataType| matches!(t, DataType::Timestamp(TimeUnit::Microsecond, _));
        if !times.iter().all(is_time) {
            return wrong("the nearest row is found by timestamps in microseconds");
        }
        let inputs = self.left.fields().iter().chain(self.right.fields().iter());
        let inputs: Vec<_> = inputs.map(|field| field.data_type()).collect();
        let output: Vec<_> = self.output.fields().iter().map(|f| f.data_type()).collect();
        if inputs != output {
            return wrong("the output is not left ++ right");
        }
        let right = &self.output.fields()[self.left.fields().len()..];
        match self.is_outer && right.iter().any(|field| !field.is_nullable()) {
            true => wrong("the right columns of a left join may be NULL"),
            false => Ok(()),
        }
    }
}
