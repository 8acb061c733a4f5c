//! Aggregate functions: which class of operator keeps each of them up to date.
//!
//! Functions with an algebra of their own (counts, sums, extremes, truth values) go by name; every
//! other function of DataFusion is kept as the multiset of its arguments and run again over a group
//! that has changed. Arguments, filters and orderings become columns of the operator's input.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::AggregateFunction as AggregateExpr;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};

use crate::error::{Error, Result};
use crate::operator::aggregate::{AggregateCall, AggregateFunction, StockAggregate};
use crate::plan::failure::from_datafusion;

/// The calls of an aggregate node. `column` makes an expression a column of the operator's input
/// and
/// says which.
pub(super) fn aggregate_calls(
    exprs: &[Expr],
    column: &mut dyn FnMut(&Expr) -> Result<usize>,
    schema: &DFSchema,
) -> Result<Vec<AggregateCall>> {
    exprs
        .iter()
        .map(|expr| aggregate_call(expr, column, schema))
        .collect()
}

/// An aggregate over the rows of a frame: one over distinct values is run over them as it is.
pub(super) fn frame_aggregate(
    call: &AggregateExpr,
    column: &mut dyn FnMut(&Expr) -> Result<usize>,
    schema: &DFSchema,
) -> Result<AggregateCall> {
    if !call.params.distinct {
        return aggregate_call(&Expr::AggregateFunction(call.clone()), column, schema);
    }
    let filter = call.params.filter.as_deref();
    Ok(AggregateCall {
        filter: filter.map(&mut *column).transpose()?,
        function: AggregateFunction::Stock(Arc::new(stock(call, column, schema)?)),
        argument: None,
    })
}

fn aggregate_call(
    expr: &Expr,
    column: &mut dyn FnMut(&Expr) -> Result<usize>,
    schema: &DFSchema,
) -> Result<AggregateCall> {
    let call = match expr {
        Expr::Alias(alias) => return aggregate_call(&alias.expr, column, schema),
        Expr::AggregateFunction(call) => call,
        other => return Err(Error::internal(format!("{other} is not an aggregate"))),
    };
    let filter = call
        .params
        .filter
        .as_deref()
        .map(&mut *column)
        .transpose()?;
    let known = AggregateFunction::named(call.func.name());
    let is_ordered = !call.params.order_by.is_empty();
    match (known, call.params.args.as_slice()) {
        (Some(AggregateFunction::Count), [Expr::Literal(value, _)])
            if !value.is_null() && !call.params.distinct =>
        {
            Ok(AggregateCall {
                function: AggregateFunction::CountAll,
                argument: None,
                filter,
            })
        }
        (Some(function), [argument]) if !is_ordered => {
            let function = match call.params.distinct {
                true => function.distinct(),
                false => function,
            };
            let argument = Some(column(argument)?);
            Ok(AggregateCall {
                function,
                argument,
                filter,
            })
        }
        _ => {
            let stock = Arc::new(stock(call, column, schema)?);
            Ok(AggregateCall {
                function: AggregateFunction::Stock(stock),
                argument: None,
                filter,
            })
        }
    }
}

/// The function over a schema of just its arguments and ordering expressions.
fn stock(
    call: &AggregateExpr,
    column: &mut dyn FnMut(&Expr) -> Result<usize>,
    schema: &DFSchema,
) -> Result<StockAggregate> {
    let mut fields = Vec::new();
    let mut arguments = Vec::new();
    // An order by the argument is one by the same column: DISTINCT asks for that.
    let mut placed: Vec<(Expr, Arc<dyn PhysicalExpr>)> = Vec::new();
    let mut place = |expr: &Expr| -> Result<Arc<dyn PhysicalExpr>> {
        if let Some((_, known)) = placed.iter().find(|(other, _)| other == expr) {
            return Ok(known.clone());
        }
        let (_, field) = expr.to_field(schema).map_err(from_datafusion)?;
        let name = format!("argument{}", fields.len());
        let index = fields.len();
        fields.push(Field::new(&name, field.data_type().clone(), true));
        arguments.push(column(expr)?);
        let column: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new(&name, index));
        placed.push((expr.clone(), column.clone()));
        Ok(column)
    };
    let mut physical: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
    for (number, argument) in call.params.args.iter().enumerate() {
        physical.push(match argument {
            // A constant such as a percentile or a separator is the function's own.
            Expr::Literal(value, _) if number > 0 => Arc::new(
                datafusion::physical_expr::expressions::Literal::new(value.clone()),
            ),
            other => place(other)?,
        });
    }
    let mut order_by = Vec::new();
    for sort in &call.params.order_by {
        let options = arrow::compute::SortOptions {
            descending: !sort.asc,
            nulls_first: sort.nulls_first,
        };
        order_by.push(PhysicalSortExpr::new(place(&sort.expr)?, options));
    }
    let expression = AggregateExprBuilder::new(call.func.clone(), physical)
        .schema(Arc::new(Schema::new(fields)))
        .alias(call.func.name())
        .order_by(order_by)
        .with_distinct(call.params.distinct)
        .with_ignore_nulls(matches!(
            call.params.null_treatment,
            Some(datafusion::logical_expr::expr::NullTreatment::IgnoreNulls)
        ))
        .build()
        .map_err(from_datafusion)?;
    Ok(StockAggregate {
        expression,
        arguments,
    })
}
