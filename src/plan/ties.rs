//! `FETCH FIRST n ROWS WITH TIES`, in every statement.
//!
//! ```text
//!   SELECT a FROM t ORDER BY b OFFSET 1 FETCH FIRST 3 ROWS WITH TIES
//!
//!   forms       … LIMIT "fetch with ties"(3) OFFSET 1       the library knows no other FETCH
//!   ranked      Projection a
//!                 Sort b                                    where it is the statement's own
//!                   Filter rank() <= 4 AND row_number() > 1
//!                     Window rank(), row_number() OVER (ORDER BY b)
//! ```

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::functions_window::rank::rank_udwf;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{ScalarFunction, WindowFunction};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprFunctionExt, Limit, LogicalPlan, LogicalPlanBuilder,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Sort, SortExpr, Volatility, WindowUDF,
    lit,
};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, Result, SqlState};
use crate::plan::failure::from_datafusion;
use crate::sql::ast;

/// What a number of rows WITH TIES is wrapped in; no name that a user would give.
pub(super) const FETCH_WITH_TIES: &str = "fetch with ties";

/// The wrapping, which never runs.
pub(super) fn fetch_with_ties() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(FetchWithTies {
        signature: Signature::any(1, Volatility::Volatile),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FetchWithTies {
    signature: Signature,
}

impl ScalarUDFImpl for FetchWithTies {
    fn name(&self) -> &str {
        FETCH_WITH_TIES
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let error = Error::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("function \"{FETCH_WITH_TIES}\" does not exist"),
        );
        Err(DataFusionError::External(Box::new(error)))
    }
}

/// A plan whose limits WITH TIES are conditions on ranks.
pub(super) fn ranked_ties(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let plan = match plan {
        LogicalPlan::Limit(limit) if ties(&limit).is_some() => ranked(&limit, Order::Kept)?,
        other => other,
    };
    let nested = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Limit(limit) if ties(&limit).is_some() => {
            Ok(Transformed::yes(ranked(&limit, Order::Lost)?))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(nested?.data)
}

/// The plan of a view's query: rows of a view have no order.
///
/// # Errors
/// Internal, when the plan cannot be put together again.
pub(super) fn unsorted(plan: LogicalPlan, query: &ast::Query) -> Result<LogicalPlan> {
    if !query.fetch.as_ref().is_some_and(|fetch| fetch.with_ties) {
        return Ok(plan);
    }
    let plan = plan.transform_down(|plan| match plan {
        LogicalPlan::Projection(_) => Ok(Transformed::no(plan)),
        LogicalPlan::Sort(sort) => {
            let input = Arc::unwrap_or_clone(sort.input);
            Ok(Transformed::new(
                input,
                true,
                datafusion::common::tree_node::TreeNodeRecursion::Stop,
            ))
        }
        other => Ok(Transformed::new(
            other,
            false,
            datafusion::common::tree_node::TreeNodeRecursion::Stop,
        )),
    });
    Ok(plan.map_err(from_datafusion)?.data)
}

/// Whether rows come in their order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Kept,
    Lost,
}

/// The number of rows of a limit WITH TIES.
fn ties(limit: &Limit) -> Option<&Expr> {
    match limit.fetch.as_deref() {
        Some(Expr::ScalarFunction(ScalarFunction { func, args }))
            if func.name() == FETCH_WITH_TIES =>
        {
            args.first()
        }
        _ => None,
    }
}

fn ranked(limit: &Limit, order: Order) -> DataFusionResult<LogicalPlan> {
    let count = ties(limit).map_or(Ok(1), number)?;
    let skip = limit.skip.as_deref().map_or(Ok(0), number)?;
    below_projections(&limit.input, &|sort| {
        let rows = first_with_ties(sort, skip, count)?;
        Ok(match order {
            Order::Lost => rows,
            Order::Kept => LogicalPlan::Sort(Sort {
                input: Arc::new(rows),
                ..sort.clone()
            }),
        })
    })
}

/// Replaces the sort that stands below projections.
fn below_projections(
    plan: &LogicalPlan,
    replace: &dyn Fn(&Sort) -> DataFusionResult<LogicalPlan>,
) -> DataFusionResult<LogicalPlan> {
    match plan {
        LogicalPlan::Sort(sort) => replace(sort),
        LogicalPlan::Projection(projection) => {
            let input = below_projections(&projection.input, replace)?;
            plan.with_new_exprs(projection.expr.clone(), vec![input])
        }
        LogicalPlan::Distinct(_) => Err(external(
            Error::unsupported("DISTINCT ON … FETCH FIRST … WITH TIES is not supported")
                .hint("select from the DISTINCT ON in a subquery"),
        )),
        _ => Err(external(
            Error::new(
                SqlState::SYNTAX_ERROR,
                "WITH TIES cannot be specified without ORDER BY clause",
            )
            .hint("rows are equal only in an order"),
        )),
    }
}

fn first_with_ties(sort: &Sort, skip: u64, count: u64) -> DataFusionResult<LogicalPlan> {
    let over = |function: Arc<WindowUDF>, order: &[SortExpr]| {
        let call = Expr::from(WindowFunction::new(function, Vec::new()));
        call.order_by(order.to_vec()).build()
    };
    let computed =
        |function: &Expr| Expr::Column(Column::new_unqualified(function.schema_name().to_string()));
    let rank = over(rank_udwf(), &sort.expr)?;
    let last = skip.saturating_add(count);
    let mut condition = computed(&rank).lt_eq(lit(last));
    let mut windows = vec![rank];
    if count == 0 {
        condition = lit(false);
    }
    if skip > 0 {
        let number = over(row_number_udwf(), &sort.expr)?;
        condition = condition.and(computed(&number).gt(lit(skip)));
        windows.push(number);
    }
    let columns = sort.input.schema().columns().into_iter().map(Expr::Column);
    LogicalPlanBuilder::from(sort.input.as_ref().clone())
        .window(windows)?
        .filter(condition)?
        .project(columns)?
        .build()
}

fn number(expr: &Expr) -> DataFusionResult<u64> {
    let value = match expr {
        Expr::Literal(ScalarValue::Int64(Some(number)), _) => u64::try_from(*number).ok(),
        Expr::Literal(ScalarValue::UInt64(Some(number)), _) => Some(*number),
        _ => None,
    };
    value.ok_or_else(|| {
        external(
            Error::unsupported("FETCH FIRST … WITH TIES needs a number of rows")
                .hint("write the number, as in FETCH FIRST 3 ROWS WITH TIES"),
        )
    })
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
