//! What an [`Over`](crate::operator::over::Over) is to do, as the planner has decided it.

use std::fmt;

use arrow::datatypes::SchemaRef;
use datafusion::scalar::ScalarValue;

use crate::error::{Error, Result};
use crate::operator::aggregate::{AggregateCall, AggregateFunction, Close};
use crate::operator::ordered_rows::OrderColumn;

/// Functions over one window: all have its partitions and its order, each its own frame.
#[derive(Clone, Debug)]
pub struct OverSpec {
    pub input: SchemaRef,
    /// Columns of the input by which rows are partitioned; none: all rows are one partition.
    pub partition: Vec<usize>,
    pub order: Vec<OrderColumn>,
    pub calls: Vec<OverCall>,
    /// The input's columns, then one for each call.
    pub output: SchemaRef,
    /// By which column of the partition (its position there) one is final; lateness is none.
    pub close: Option<Close>,
    /// The first order column, where it has a bound, rises, and NULLs are last, and what a change
    /// moves stands at its own value, or behind, or so many microseconds before.
    pub bounded_order: Option<BoundedOrder>,
    /// What of the rows that the bound of the order has passed is still asked for; `None`: all.
    pub kept: Option<Kept>,
}

/// What functions of rows that are not final ask of those that are: the others are let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// So many copies of rows before them.
    pub rows: i64,
    /// So many classes of equal rows before them.
    pub classes: i64,
    /// Rows so far before them, microseconds of the order.
    pub micros: i64,
    /// So many copies at the beginning of the partition.
    pub first: i64,
    /// What all rows before them add up to.
    pub adds_up: bool,
}

impl Kept {
    /// What both ask for.
    #[must_use]
    pub fn and(self, other: Kept) -> Kept {
        Kept {
            rows: self.rows.max(other.rows),
            classes: self.classes.max(other.classes),
            micros: self.micros.max(other.micros),
            first: self.first.max(other.first),
            adds_up: self.adds_up || other.adds_up,
        }
    }
}

/// How far the bound of the order reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundedOrder {
    pub column: usize,
    /// How far a frame looks ahead, microseconds.
    pub ahead_micros: i64,
}

/// A column of the output.
#[derive(Clone, Debug)]
pub struct OverCall {
    pub function: OverFunction,
    /// The rows that it is of; functions of a row's place have none and leave it as it is.
    pub frame: Frame,
}

/// What is said of a row.
#[derive(Clone, Debug)]
pub enum OverFunction {
    RowNumber,
    Rank,
    DenseRank,
    PercentRank,
    CumeDist,
    /// In so many parts.
    Ntile(i64),
    Shift(Shift),
    Nth(Nth),
    Aggregate(AggregateCall),
}

/// `lag` and `lead`.
#[derive(Clone, Debug)]
pub struct Shift {
    pub argument: usize,
    /// So many rows before, or behind where it is negative.
    pub offset: i64,
    /// Where there is no such row; of the type of the argument.
    pub default: ScalarValue,
    pub ignores_nulls: bool,
}

/// `first_value`, `last_value` and `nth_value`.
#[derive(Clone, Debug)]
pub struct Nth {
    pub argument: usize,
    /// The row's number in its frame, from 1 on, or from its end where it is negative.
    pub number: i64,
    pub ignores_nulls: bool,
}

/// The rows of a partition that a function is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub units: FrameUnits,
    pub start: FrameBound,
    pub end: FrameBound,
}

/// What a distance counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameUnits {
    Rows,
    /// The value of the only order column.
    Range,
    /// Rows that are equal in the order count once.
    Groups,
}

/// Where a frame begins or ends.
#[derive(Clone, Debug, PartialEq)]
pub enum FrameBound {
    UnboundedPreceding,
    Preceding(Distance),
    CurrentRow,
    Following(Distance),
    UnboundedFollowing,
}

/// How far a bound is from the row.
#[derive(Clone, Debug, PartialEq)]
pub enum Distance {
    Count(i64),
    /// What is added to the order column, or taken from it.
    Value(ScalarValue),
}

impl Frame {
    /// All rows of the partition.
    pub const WHOLE: Frame = Frame {
        units: FrameUnits::Rows,
        start: FrameBound::UnboundedPreceding,
        end: FrameBound::UnboundedFollowing,
    };

    /// From the first row to the last one that is equal in the order.
    pub const RUNNING: Frame = Frame {
        units: FrameUnits::Range,
        start: FrameBound::UnboundedPreceding,
        end: FrameBound::CurrentRow,
    };

    pub fn has_start(&self) -> bool {
        self.start != FrameBound::UnboundedPreceding
    }

    pub fn has_end(&self) -> bool {
        self.end != FrameBound::UnboundedFollowing
    }

    /// Whether copies of one row may have different frames.
    fn tells_copies(&self) -> bool {
        self.units == FrameUnits::Rows && (self.has_start() || self.has_end())
    }

    fn has_values(&self) -> bool {
        let is_value = |bound: &FrameBound| {
            matches!(
                bound,
                FrameBound::Preceding(Distance::Value(_))
                    | FrameBound::Following(Distance::Value(_))
            )
        };
        is_value(&self.start) || is_value(&self.end)
    }
}

impl OverCall {
    /// Whether copies of one row may have different values.
    pub fn tells_copies(&self) -> bool {
        match &self.function {
            OverFunction::RowNumber | OverFunction::Ntile(_) | OverFunction::Shift(_) => true,
            OverFunction::Rank
            | OverFunction::DenseRank
            | OverFunction::PercentRank
            | OverFunction::CumeDist => false,
            OverFunction::Nth(_) | OverFunction::Aggregate(_) => self.frame.tells_copies(),
        }
    }

    /// Whether it matters which rows are equal in the order columns.
    pub fn has_classes(&self) -> bool {
        match &self.function {
            OverFunction::RowNumber | OverFunction::Ntile(_) | OverFunction::Shift(_) => false,
            OverFunction::Rank
            | OverFunction::DenseRank
            | OverFunction::PercentRank
            | OverFunction::CumeDist => true,
            OverFunction::Nth(_) | OverFunction::Aggregate(_) => {
                self.frame.units != FrameUnits::Rows
            }
        }
    }

    /// Whether it depends on how many rows the partition has.
    pub fn counts_all(&self) -> bool {
        matches!(
            self.function,
            OverFunction::PercentRank | OverFunction::CumeDist | OverFunction::Ntile(_)
        )
    }

    /// Whether its frame is found by values of the order column.
    pub fn has_values(&self) -> bool {
        let has_frame = matches!(
            self.function,
            OverFunction::Nth(_) | OverFunction::Aggregate(_)
        );
        has_frame && self.frame.has_values()
    }

    /// Columns of the input that it reads.
    fn columns(&self) -> Vec<usize> {
        match &self.function {
            OverFunction::Shift(shift) => vec![shift.argument],
            OverFunction::Nth(nth) => vec![nth.argument],
            OverFunction::Aggregate(call) => call.columns(),
            _ => Vec::new(),
        }
    }
}

impl OverFunction {
    /// The same over an input that has its columns elsewhere.
    #[must_use]
    pub fn moved(self, place: impl Fn(usize) -> usize) -> OverFunction {
        match self {
            OverFunction::Shift(shift) => OverFunction::Shift(Shift {
                argument: place(shift.argument),
                ..shift
            }),
            OverFunction::Nth(nth) => OverFunction::Nth(Nth {
                argument: place(nth.argument),
                ..nth
            }),
            OverFunction::Aggregate(call) => OverFunction::Aggregate(call.moved(place)),
            of_place => of_place,
        }
    }
}

impl OverSpec {
    /// # Errors
    /// Internal, when the spec contradicts itself.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::internal(format!("a window where {what}")));
        let width = self.input.fields().len();
        let columns = self.partition.iter().copied();
        let columns = columns.chain(self.order.iter().map(|order| order.column));
        let mut columns = columns.chain(self.calls.iter().flat_map(OverCall::columns));
        if columns.any(|column| column >= width) {
            return wrong("a column is not one of the input");
        }
        if self.output.fields().len() != width + self.calls.len() {
            return wrong("the output has other columns");
        }
        for call in &self.calls {
            let in_partition = |order: &OrderColumn| self.partition.contains(&order.column);
            if call.has_values() && (self.order.len() != 1 || self.order.iter().any(in_partition)) {
                return wrong("a distance is not in the values of one column");
            }
            if matches!(call.function, OverFunction::Ntile(..1)) {
                return wrong("rows are put into no parts");
            }
            if matches!(&call.function, OverFunction::Nth(nth) if nth.number == 0) {
                return wrong("rows are counted from zero");
            }
        }
        if self.kept.is_some() && (self.bounded_order.is_none() || self.close.is_some()) {
            return wrong("rows are let go by a time that has no bound");
        }
        match &self.close {
            Some(close) if close.column >= self.partition.len() || close.lateness_micros != 0 => {
                wrong("partitions close otherwise than by their columns")
            }
            _ => Ok(()),
        }
    }

    /// Whether copies of one row may have different values.
    pub fn tells_copies(&self) -> bool {
        self.calls.iter().any(OverCall::tells_copies)
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = match self.units {
            FrameUnits::Rows => "rows",
            FrameUnits::Range => "range",
            FrameUnits::Groups => "groups",
        };
        write!(f, "{units} {} to {}", self.start, self.end)
    }
}

impl fmt::Display for FrameBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameBound::UnboundedPreceding => f.write_str("the first"),
            FrameBound::Preceding(distance) => write!(f, "{distance} preceding"),
            FrameBound::CurrentRow => f.write_str("current"),
            FrameBound::Following(distance) => write!(f, "{distance} following"),
            FrameBound::UnboundedFollowing => f.write_str("the last"),
        }
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distance::Count(count) => write!(f, "{count}"),
            Distance::Value(value) => write!(f, "{value}"),
        }
    }
}

impl fmt::Display for OverFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            OverFunction::RowNumber => "row_number",
            OverFunction::Rank => "rank",
            OverFunction::DenseRank => "dense_rank",
            OverFunction::PercentRank => "percent_rank",
            OverFunction::CumeDist => "cume_dist",
            OverFunction::Ntile(parts) => return write!(f, "ntile({parts})"),
            OverFunction::Shift(shift) if shift.offset < 0 => "lead",
            OverFunction::Shift(_) => "lag",
            OverFunction::Nth(nth) => match nth.number {
                1 => "first_value",
                -1 => "last_value",
                _ => "nth_value",
            },
            OverFunction::Aggregate(AggregateCall { function, .. }) => match function {
                AggregateFunction::CountAll => "count(*)",
                other => return write!(f, "{other}"),
            },
        };
        f.write_str(name)
    }
}
