//! What has no type of its own gets one from where it stands: parameters and quoted constants.
//!
//! ```text
//!   $1::bigint                    $1 is a bigint
//!   id BETWEEN '1' AND $1         the constant and $1 have the type of id
//!   id = ANY ($1)                 $1 is an array of id's type
//!   coalesce(n, $1, '2')          $1 and the constant have the type of n
//!   CASE n WHEN '1' THEN …        so has this one
//!   LIMIT $1                      $1 is a bigint
//! ```
//!
//! Operators are typed when they are planned; this is the rest. What is left is text.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Between, Case, Cast, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, Limit, LogicalPlan};
use datafusion::scalar::ScalarValue;

use crate::plan::lenient::strict;
use crate::plan::numbers::UNIFYING;
use crate::plan::operators::{
    beside_value, check_constant, is_untyped_parameter, takes_text, text_of, typed,
};

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

/// Their type depends on how many places are asked for, if that is a constant integer: it must be
/// one from the beginning, and not become one after types were made to fit.
const ROUNDING: [&str; 2] = ["round", "trunc"];

fn as_integer(places: &ScalarValue) -> ScalarValue {
    match places {
        ScalarValue::Int64(Some(value)) => match i32::try_from(*value) {
            Ok(value) => ScalarValue::Int32(Some(value)),
            Err(_) => places.clone(),
        },
        other => other.clone(),
    }
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
        Expr::ScalarFunction(mut call) => {
            let strict = strict(&call.func);
            let is_lenient = strict.is_some();
            call.func = strict.unwrap_or(call.func);
            let is_rounded = ROUNDING.contains(&call.func.name());
            if is_rounded && let Some(Expr::Literal(places, _)) = call.args.get_mut(1) {
                *places = as_integer(places);
            }
            match call.args.iter().any(is_untyped) {
                true => in_call(call, schema),
                false if is_lenient || is_rounded => {
                    Ok(Transformed::yes(Expr::ScalarFunction(call)))
                }
                false => Ok(Transformed::no(Expr::ScalarFunction(call))),
            }
        }
        Expr::Case(case) => in_case(case, schema),
        other => Ok(Transformed::no(other)),
    }
}

/// The conditions of a CASE with a base have its type, its results that of the first one with one.
fn in_case(case: Case, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Case {
        expr: base,
        when_then_expr,
        else_expr,
    } = case;
    let results = when_then_expr.iter().map(|(_, then)| then.as_ref());
    let mut results = results.chain(else_expr.as_deref());
    let result = results.find(|result| has_type(result, schema)).cloned();
    let beside = |expr: Box<Expr>, other: Option<&Expr>| match other {
        Some(other) => constant_beside(*expr, other, schema).map(Box::new),
        None => Ok(expr),
    };
    let pairs = when_then_expr.into_iter().map(|(when, then)| {
        let when = beside(when, base.as_deref())?;
        Ok((when, beside(then, result.as_ref())?))
    });
    let when_then_expr = pairs.collect::<Result<Vec<_>>>()?;
    let otherwise = else_expr.map(|expr| beside(expr, result.as_ref()));
    Ok(Transformed::yes(Expr::Case(Case {
        expr: base,
        when_then_expr,
        else_expr: otherwise.transpose()?,
    })))
}

/// Whether the expression says its own type.
fn has_type(expr: &Expr, schema: &DFSchema) -> bool {
    !is_untyped(expr) && matches!(expr.get_type(schema), Ok(data_type) if !data_type.is_null())
}

/// A constant in quotes, or a parameter of which nothing is known.
fn is_untyped(expr: &Expr) -> bool {
    text_of(expr).is_some() || is_untyped_parameter(expr)
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
    let known = |expr: &Expr| match has_type(expr, schema) {
        false => None,
        true => expr.to_field(schema).ok().map(|(_, field)| field),
    };
    let wanted: Option<FieldRef> = match call.func.name() {
        name if UNIFYING.contains(&name) => call.args.iter().find_map(known),
        // `x = ANY (array)` is planned as array_has(array, x).
        "array_has" if call.args.iter().any(is_untyped_parameter) => {
            call.args.get(1).and_then(known).map(|element| {
                let element = element.as_ref().clone().with_name("item");
                let list = DataType::List(Arc::new(element.with_nullable(true)));
                Arc::new(Field::new("", list, true))
            })
        }
        _ => None,
    };
    let Some(wanted) = wanted.filter(|field| !field.data_type().is_null()) else {
        return Ok(Transformed::no(Expr::ScalarFunction(call)));
    };
    let args = call
        .args
        .into_iter()
        .map(|argument| {
            let is_constant = text_of(&argument).is_some() && takes_text(&wanted);
            match is_constant || is_untyped_parameter(&argument) {
                true => typed(argument, &wanted),
                false => Ok(argument),
            }
        })
        .collect::<Result<_>>()?;
    Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction {
        args,
        ..call
    })))
}
