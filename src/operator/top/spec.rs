//! What a [`Top`](crate::operator::top::Top) is to do, as the planner has decided it.

use std::fmt;

use arrow::datatypes::{DataType, SchemaRef};

use crate::error::{Error, Result};
use crate::operator::aggregate::Close;
use crate::operator::ordered_rows::OrderColumn;

/// The first rows of each group.
#[derive(Clone, Debug)]
pub struct TopSpec {
    pub input: SchemaRef,
    /// Columns of the input by which rows are grouped; none: all rows are one group.
    pub partition: Vec<usize>,
    pub order: Vec<OrderColumn>,
    /// The limits of `row_number`, `rank` and `dense_rank`, in this order; all must hold.
    pub limits: [RankRange; 3],
    /// The functions whose numbers are columns of the output.
    pub shown: Vec<RankFunction>,
    /// The input's columns, then one for each function that is shown: a 64-bit integer.
    pub output: SchemaRef,
    /// By which column of the partition (its position there) a group is final; lateness is none.
    pub close: Option<Close>,
    /// How long a group without new rows is there, of an input that only grows: then it goes, and
    /// its rows are taken back.
    pub idle_micros: Option<i64>,
    /// The first order column, where it has a bound, rises, and NULLs are last: what a row changes
    /// then stands at its own value or behind.
    pub bounded_order: Option<usize>,
    /// The input never retracts.
    pub is_append_only: bool,
}

/// How rows of a group are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankFunction {
    /// 1, 2, 3 …
    RowNumber,
    /// One more than the rows that are before it in the order columns.
    Rank,
    /// One more than the different values that are before it.
    DenseRank,
}

impl RankFunction {
    pub const ALL: [RankFunction; 3] = [
        RankFunction::RowNumber,
        RankFunction::Rank,
        RankFunction::DenseRank,
    ];

    /// The function's name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            RankFunction::RowNumber => "row_number",
            RankFunction::Rank => "rank",
            RankFunction::DenseRank => "dense_rank",
        }
    }
}

impl fmt::Display for RankFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The numbers from the least to the greatest, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankRange {
    pub least: i64,
    pub greatest: i64,
}

impl RankRange {
    /// Every number: there is no limit.
    pub const ALL: RankRange = RankRange {
        least: 1,
        greatest: i64::MAX,
    };

    /// Both ranges hold.
    pub fn and(self, other: RankRange) -> RankRange {
        RankRange {
            least: self.least.max(other.least),
            greatest: self.greatest.min(other.greatest),
        }
    }

    /// One of them holds, and perhaps what is between them.
    pub fn or(self, other: RankRange) -> RankRange {
        RankRange {
            least: self.least.min(other.least),
            greatest: self.greatest.max(other.greatest),
        }
    }

    /// Whether no number is above what is wanted.
    pub fn is_bounded(self) -> bool {
        self.greatest < i64::MAX
    }
}

impl TopSpec {
    pub fn limit(&self, function: RankFunction) -> RankRange {
        self.limits[function as usize]
    }

    /// Whether some limit says where the wanted rows end.
    pub fn is_bounded(&self) -> bool {
        self.limits.iter().any(|limit| limit.is_bounded())
    }

    /// Whether rows behind the last one that is wanted can be let go.
    pub fn keeps_only_best(&self) -> bool {
        self.is_append_only && self.is_bounded()
    }

    /// Whether it matters which rows are equal in the order columns.
    pub fn has_classes(&self) -> bool {
        let is_asked = |function: RankFunction| {
            self.limit(function) != RankRange::ALL || self.shown.contains(&function)
        };
        is_asked(RankFunction::Rank) || is_asked(RankFunction::DenseRank)
    }

    /// # Errors
    /// Internal, when the spec contradicts itself.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::internal(format!("a ranking where {what}")));
        let width = self.input.fields().len();
        let columns = self.partition.iter().copied();
        let mut columns = columns.chain(self.order.iter().map(|order| order.column));
        if columns.any(|column| column >= width) {
            return wrong("a column is not one of the input");
        }
        let fields = self.output.fields();
        if fields.len() != width + self.shown.len() {
            return wrong("the output has other columns");
        }
        let is_number =
            |data_type: &DataType| matches!(data_type, DataType::Int64 | DataType::UInt64);
        if fields[width..]
            .iter()
            .any(|field| !is_number(field.data_type()))
        {
            return wrong("a number is no 64-bit integer");
        }
        if self.limits.iter().any(|limit| limit.least < 1) {
            return wrong("a limit is below one");
        }
        let is_grouped = self.is_append_only && self.close.is_none() && !self.partition.is_empty();
        if self.idle_micros.is_some() && !is_grouped {
            return wrong("what leaves when it is idle can be taken back, or is all there is");
        }
        match &self.close {
            Some(close) if close.column >= self.partition.len() || close.lateness_micros != 0 => {
                wrong("groups close otherwise than by their partition")
            }
            _ => Ok(()),
        }
    }
}
