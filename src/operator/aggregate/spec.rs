//! What an aggregate is to do, as the planner has decided it.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::error::{Error, Result};
use crate::function::aggregate::Total;
use crate::function::window::Panes;

/// A grouped aggregate.
#[derive(Clone, Debug)]
pub struct AggregateSpec {
    pub input: SchemaRef,
    /// Columns of the input that are the key.
    pub group: Vec<usize>,
    pub calls: Vec<AggregateCall>,
    /// The group columns, then a column per call.
    pub output: SchemaRef,
    pub close: Option<Close>,
    /// How long a group without new rows is there, of an input that only grows: then it goes, and
    /// its row is taken back.
    pub idle_micros: Option<i64>,
    /// Rows may come with a pane in place of a window.
    pub panes: Option<PaneKey>,
    /// The input never retracts.
    pub is_append_only: bool,
    /// There is no GROUP BY: exactly one row is put out, over no input too.
    pub is_global: bool,
}

/// A window of HOP in a group key, for rows that come by pane: one whose window has no end counts
/// for all windows that hold the pane which begins at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaneKey {
    pub panes: Panes,
    /// Positions in `group` of the window's start and end, timestamps in microseconds.
    pub start: usize,
    pub end: usize,
}

/// One aggregate in the select list.
#[derive(Clone, Debug)]
pub struct AggregateCall {
    pub function: AggregateFunction,
    /// The column of the input that is aggregated; `None` for `count(*)` and stock aggregates.
    pub argument: Option<usize>,
    /// A boolean column of the input; only rows for which it is true count.
    pub filter: Option<usize>,
}

impl AggregateCall {
    /// The columns of the input that it reads.
    pub fn columns(&self) -> Vec<usize> {
        let stock = match &self.function {
            AggregateFunction::Stock(stock) => stock.arguments.as_slice(),
            _ => &[],
        };
        let single = self.argument.iter().chain(&self.filter);
        single.chain(stock).copied().collect()
    }

    /// The same over an input that has its columns elsewhere.
    #[must_use]
    pub fn moved(&self, place: impl Fn(usize) -> usize) -> AggregateCall {
        let function = match &self.function {
            AggregateFunction::Stock(stock) => {
                let arguments = stock.arguments.iter().map(|&column| place(column));
                AggregateFunction::Stock(Arc::new(StockAggregate {
                    expression: stock.expression.clone(),
                    arguments: arguments.collect(),
                }))
            }
            other => other.clone(),
        };
        AggregateCall {
            function,
            argument: self.argument.map(&place),
            filter: self.filter.map(&place),
        }
    }
}

/// The functions that are kept incrementally.
#[derive(Clone, Debug)]
pub enum AggregateFunction {
    CountAll,
    Count,
    Sum,
    Avg,
    Min,
    Max,
    BoolAnd,
    BoolOr,
    CountDistinct,
    SumDistinct,
    AvgDistinct,
    /// Any other function of DataFusion: its own accumulator runs again over a group's rows when
    /// the group has changed.
    Stock(Arc<StockAggregate>),
}

/// A function that is not incremental, and what it is run over.
#[derive(Debug)]
pub struct StockAggregate {
    /// The function with its arguments, DISTINCT, ORDER BY and so on, over a schema of exactly the
    /// columns in `arguments`.
    pub expression: AggregateFunctionExpr,
    /// Columns of the input that are kept for each row.
    pub arguments: Vec<usize>,
}

/// Which key column ends a group, and when its rows appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Position in `group` of the window's end, a timestamp in microseconds.
    pub column: usize,
    pub emit: CloseEmit,
    /// How far the input's bound for that column is held back for corrections.
    pub lateness_micros: i64,
}

/// When a group's row appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseEmit {
    /// In every step that changes it.
    OnUpdate,
    /// In the step that closes its window, and in later ones that correct it.
    OnClose,
}

impl AggregateFunction {
    /// The function of a name that DataFusion resolved; `None` where only stock will do.
    pub fn named(name: &str) -> Option<AggregateFunction> {
        Some(match name {
            "count" => AggregateFunction::Count,
            "sum" => AggregateFunction::Sum,
            "avg" | "mean" => AggregateFunction::Avg,
            "min" => AggregateFunction::Min,
            "max" => AggregateFunction::Max,
            "bool_and" => AggregateFunction::BoolAnd,
            "bool_or" => AggregateFunction::BoolOr,
            _ => return None,
        })
    }

    /// Whether two groups can become one without their rows, where rows only come.
    pub fn is_mergeable(&self) -> bool {
        match self {
            AggregateFunction::CountAll
            | AggregateFunction::Count
            | AggregateFunction::Sum
            | AggregateFunction::Avg
            | AggregateFunction::Min
            | AggregateFunction::Max
            | AggregateFunction::BoolAnd
            | AggregateFunction::BoolOr => true,
            AggregateFunction::CountDistinct
            | AggregateFunction::SumDistinct
            | AggregateFunction::AvgDistinct
            | AggregateFunction::Stock(_) => false,
        }
    }

    /// Whether it is the least or the greatest value: one that cannot be taken out again unless all
    /// are kept.
    pub fn is_extreme(&self) -> bool {
        matches!(self, AggregateFunction::Min | AggregateFunction::Max)
    }

    /// The same function over the distinct values of its argument.
    pub fn distinct(self) -> AggregateFunction {
        match self {
            AggregateFunction::Count => AggregateFunction::CountDistinct,
            AggregateFunction::Sum => AggregateFunction::SumDistinct,
            AggregateFunction::Avg => AggregateFunction::AvgDistinct,
            // How often a value is there makes no difference to the others; stock knows itself.
            same => same,
        }
    }

    /// The type of the result, given that of the argument.
    ///
    /// # Errors
    /// 42883 when the function does not take such an argument.
    pub fn result_type(&self, argument: Option<&DataType>) -> Result<DataType> {
        let argument =
            || argument.ok_or_else(|| Error::internal(format!("{self} has no argument")));
        Ok(match self {
            AggregateFunction::CountAll
            | AggregateFunction::Count
            | AggregateFunction::CountDistinct => DataType::Int64,
            AggregateFunction::Sum | AggregateFunction::SumDistinct => {
                Total::Sum.result_type(argument()?)?
            }
            AggregateFunction::Avg | AggregateFunction::AvgDistinct => {
                Total::Average.result_type(argument()?)?
            }
            AggregateFunction::Min | AggregateFunction::Max => argument()?.clone(),
            AggregateFunction::BoolAnd | AggregateFunction::BoolOr => match argument()? {
                DataType::Boolean => DataType::Boolean,
                other => return Err(Error::internal(format!("{self} over {other}"))),
            },
            AggregateFunction::Stock(stock) => stock.expression.field().data_type().clone(),
        })
    }
}

impl fmt::Display for AggregateFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AggregateFunction::CountAll => "count(*)",
            AggregateFunction::Count => "count",
            AggregateFunction::Sum => "sum",
            AggregateFunction::Avg => "avg",
            AggregateFunction::Min => "min",
            AggregateFunction::Max => "max",
            AggregateFunction::BoolAnd => "bool_and",
            AggregateFunction::BoolOr => "bool_or",
            AggregateFunction::CountDistinct => "count distinct",
            AggregateFunction::SumDistinct => "sum distinct",
            AggregateFunction::AvgDistinct => "avg distinct",
            AggregateFunction::Stock(stock) => stock.expression.fun().name(),
        })
    }
}
