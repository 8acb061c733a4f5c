//! What has no type of its own gets one from where it stands: parameters and quoted constants.
//!
//! ```text
//!   $1::bigint                    $1 is a bigint
//!   id BETWEEN '1' AND $1         the constant and $1 have the type of id
//!   id = ANY ($1)                 $1 is an array of id's type
//!   coalesce(n, $1)               $1 has the type of n
//!   LIMIT $1                      $1 is a bigint
//! ```
//!
//! Operators are typed when they are planned; this is the rest. What is left is text.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Between, Cast, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, Limit, LogicalPlan};

use crate::plan::numbers::UNIFYING;
use crate::plan::operators::{beside_value, check_constant, is_untyped_parameter, text_of, typed};

/// Types parameters and constants all over a plan.
pub fn infer_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    let typed = plan.transform_up_with_subqueries(|plan| {
        let plan = match plan {
            LogicalPlan::Limit(limit) => LogicalPlan::Limit(in_limit(limit)?),
            other => other,
        };
        let schema = merge_schema(&plan.inputs());
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(infer_expression(expr, &schema)?.update_data(|expr| name.restore(expr)))
        })?
        .map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(typed.data)
}

/// Types parameters and constants in an expression.
pub fn infer_expression(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| in_expression(expr, schema))
}

fn in_limit(limit: Limit) -> Result<Limit> {
    let count: FieldRef = Arc::new(Field::new("", DataType::Int64, true));
    let typed = |expr: Option<Box<Expr>>| {
        expr.map(|expr| typed(*expr, &count).map(Box::new))
            .transpose()
    };
    Ok(Limit {
        skip: typed(limit.skip)?,
        fetch: typed(limit.fetch)?,
        input: limit.input,
    })
}

fn in_expression(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Cast(Cast { expr, field }) => {
            check_constant(&expr, &field)?;
            match is_untyped_parameter(&expr) {
                false => Ok(Transformed::no(Expr::Cast(Cast { expr, field }))),
                true => {
                    let expr = Box::new(typed(*expr, &field)?);
                    Ok(Transformed::yes(Expr::Cast(Cast { expr, field })))
                }
            }
        }
        Expr::Between(between) if has_constant([&between.low, &between.high]) => {
            let low = constant_beside(*between.low, &between.expr, schema)?;
            let high = constant_beside(*between.high, &between.expr, schema)?;
            Ok(Transformed::yes(Expr::Between(Between {
                low: Box::new(low),
                high: Box::new(high),
                ..between
            })))
        }
        Expr::InList(list) if list.list.iter().any(|item| text_of(item).is_some()) => {
            let items = list
                .list
                .into_iter()
                .map(|item| constant_beside(item, &list.expr, schema))
                .collect::<Result<_>>()?;
            Ok(Transformed::yes(Expr::InList(InList {
                list: items,
                ..list
            })))
        }
        Expr::ScalarFunction(call) if call.args.iter().any(is_untyped_parameter) => {
            in_call(call, schema)
        }
        other => Ok(Transformed::no(other)),
    }
}

fn has_constant<const N: usize>(exprs: [&Expr; N]) -> bool {
    exprs.iter().any(|expr| text_of(expr).is_some())
}

fn constant_beside(item: Expr, other: &Expr, schema: &DFSchema) -> Result<Expr> {
    match text_of(&item) {
        Some(_) => beside_value(item, other, schema),
        None => Ok(item),
    }
}

fn in_call(call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let known = |expr: &Expr| match is_untyped_parameter(expr) {
        true => None,
        false => expr.to_field(schema).ok().map(|(_, field)| field),
    };
    let wanted: Option<FieldRef> = match call.func.name() {
        name if UNIFYING.contains(&name) => call.args.iter().find_map(known),
        // `x = ANY (array)` is planned as array_has(array, x).
        "array_has" => call.args.get(1).and_then(known).map(|element| {
            let element = element.as_ref().clone().with_name("item");
            let list = DataType::List(Arc::new(element.with_nullable(true)));
            Arc::new(Field::new("", list, true))
        }),
        _ => None,
    };
    let Some(wanted) = wanted.filter(|field| !field.data_type().is_null()) else {
        return Ok(Transformed::no(Expr::ScalarFunction(call)));
    };
    let args = call
        .args
        .into_iter()
        .map(|argument| match is_untyped_parameter(&argument) {
            true => typed(argument, &wanted),
            false => Ok(argument),
        })
        .collect::<Result<_>>()?;
    Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction {
        args,
        ..call
    })))
}
