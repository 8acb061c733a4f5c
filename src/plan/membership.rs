//! IN over a subquery where NULL is not as good as false, in every statement.
//!
//! The library makes joins of subqueries, which know true and false: right for a condition of its
//! own, where a row that is not true is left out. Elsewhere `x IN (SELECT y …)` is written as what
//! it means:
//!
//! ```text
//!   CASE WHEN EXISTS (SELECT FROM (SELECT y …) AS q WHERE q.y = x) THEN true
//!        WHEN EXISTS (… WHERE q.y IS NULL) OR x IS NULL AND EXISTS (…) THEN NULL
//!        ELSE false END
//! ```
//!
//! Rows that do not depend on the outer row get a name that nothing else has: they may be of the
//! relation that `x` is of, and the library knows columns by their names when it makes a join of
//! them. Those that do cannot have one, and stay with the library where the names are the same.
//!
//! That is: under OR with NOT, inside CASE, IS NULL and other expressions of a WHERE, for NOT IN
//! that depends on the outer row, and for NOT IN of an expression that makes NULL of other values.

use std::cell::Cell;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, not_impl_err};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, lit, when,
};
use datafusion::scalar::ScalarValue;

/// The plan whose subqueries mean the same as joins.
pub(super) fn with_nulls(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let named = Cell::new(0);
    let rewritten = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Filter(filter) => {
            let schema = filter.input.schema().clone();
            let predicate = rewritten(filter.predicate, Place::And, &schema, &named)?;
            let filter = Filter::try_new(predicate.data, filter.input)?;
            Ok(Transformed::new_transformed(
                LogicalPlan::Filter(filter),
                predicate.transformed,
            ))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(rewritten?.data)
}

/// What the column of a subquery is called.
const VALUE: &str = "value";

/// Where an expression stands in a WHERE.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Under AND alone.
    And,
    /// Under AND and OR, where NULL is as good as false, too.
    Or,
    Inside,
}

/// `named` counts the subqueries that got a name.
fn rewritten(
    expr: Expr,
    place: Place,
    schema: &DFSchema,
    named: &Cell<usize>,
) -> DataFusionResult<Transformed<Expr>> {
    let below = match &expr {
        Expr::BinaryExpr(both) if both.op == Operator::And => place,
        Expr::BinaryExpr(both) if both.op == Operator::Or && place != Place::Inside => Place::Or,
        Expr::Not(inner) if place == Place::And => match inner.as_ref() {
            // NOT x IN … is x NOT IN ….
            Expr::InSubquery(membership) => {
                let mut negated = membership.clone();
                negated.negated = !negated.negated;
                return match is_plain(&negated, Place::And, schema)? {
                    true => Ok(Transformed::no(expr)),
                    false => Ok(Transformed::yes(three_valued(negated, schema, named)?)),
                };
            }
            _ => Place::Inside,
        },
        Expr::InSubquery(membership) => {
            return match is_plain(membership, place, schema)? {
                true => Ok(Transformed::no(expr)),
                false => Ok(Transformed::yes(three_valued(
                    membership.clone(),
                    schema,
                    named,
                )?)),
            };
        }
        _ => Place::Inside,
    };
    expr.map_children(|child| rewritten(child, below, schema, named))
}

/// Whether the join that the library makes of it is right.
fn is_plain(membership: &InSubquery, place: Place, schema: &DFSchema) -> DataFusionResult<bool> {
    let Subquery {
        subquery,
        outer_ref_columns,
        ..
    } = &membership.subquery;
    // What belongs to a query further out stays with the library.
    if has_outer(&membership.expr)? || subquery.schema().fields().len() != 1 {
        return Ok(true);
    }
    // The library takes a limit out of an EXISTS that depends on the outer row.
    let has_limit = subquery.exists(|plan| Ok(matches!(plan, LogicalPlan::Limit(_))))?;
    let is_correlated = !outer_ref_columns.is_empty();
    if has_limit && is_correlated {
        return Ok(true);
    }
    // Of no rows it has one, of NULL or 0, which the library's join of it does not have.
    let is_global = |plan: &LogicalPlan| match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        _ => false,
    };
    if is_correlated && subquery.exists(|plan| Ok(is_global(plan)))? {
        return match place != Place::Inside && !membership.negated {
            true => Ok(true),
            false => not_impl_err!(
                "NOT IN over an aggregate without GROUP BY that depends on the outer row"
            ),
        };
    }
    if is_correlated && shares_relation(&membership.expr, subquery)? {
        return Ok(true);
    }
    // Beside what else it is joined by, the library cannot look for NULLs.
    if place == Place::And && membership.negated && is_correlated {
        return Ok(false);
    }
    let is_nullable = membership.expr.nullable(schema)?;
    if !is_nullable && !subquery.schema().field(0).is_nullable() {
        return Ok(true);
    }
    let is_column = matches!(membership.expr.as_ref(), Expr::Column(_));
    Ok(match (place, membership.negated) {
        (Place::And | Place::Or, false) => true,
        // The library knows about NULLs there, as far as it joins by columns.
        (Place::And, true) => is_column,
        (Place::Or, true) | (Place::Inside, _) => false,
    })
}

fn has_outer(expr: &Expr) -> DataFusionResult<bool> {
    expr.exists(|expr| Ok(matches!(expr, Expr::OuterReferenceColumn(..))))
}

/// Whether a column of the expression is of a relation that the subquery calls the same.
fn shares_relation(expr: &Expr, subquery: &LogicalPlan) -> DataFusionResult<bool> {
    let columns = expr.column_refs();
    let is_of = |plan: &LogicalPlan| {
        let mut relations = plan.schema().iter().map(|(relation, _)| relation);
        relations.any(|relation| {
            columns
                .iter()
                .any(|column| column.relation.as_ref() == relation)
        })
    };
    subquery.exists(|plan| Ok(is_of(plan)))
}

fn three_valued(
    membership: InSubquery,
    schema: &DFSchema,
    named: &Cell<usize>,
) -> DataFusionResult<Expr> {
    let InSubquery {
        expr,
        subquery,
        negated,
    } = membership;
    let mut rows = subquery.subquery.as_ref().clone();
    let mut only = Column::from(rows.schema().qualified_field(0));
    let is_nullable = rows.schema().field(0).is_nullable();
    if subquery.outer_ref_columns.is_empty() {
        let name = format!("__in_{}", named.replace(named.get() + 1));
        rows = LogicalPlanBuilder::from(rows)
            .project([Expr::Column(only).alias(VALUE)])?
            .alias(name.as_str())?
            .build()?;
        only = Column::new(Some(name), VALUE);
    }
    let value = Expr::Column(only);
    let subquery = Subquery {
        subquery: Arc::new(rows),
        ..subquery
    };
    let (outer, columns) = as_outer(expr.as_ref().clone(), schema)?;
    let is_equal = exists(&subquery, Some(value.clone().eq(outer)), columns)?;
    let mut is_unknown = lit(false);
    if is_nullable {
        is_unknown = exists(&subquery, Some(value.is_null()), Vec::new())?;
    }
    if expr.nullable(schema)? {
        let any = exists(&subquery, None, Vec::new())?;
        is_unknown = is_unknown.or(expr.is_null().and(any));
    }
    let unknown = lit(ScalarValue::Boolean(None));
    when(is_equal, lit(!negated))
        .when(is_unknown, unknown)
        .otherwise(lit(negated))
}

/// Whether the subquery has a row of which the condition is true.
fn exists(
    subquery: &Subquery,
    condition: Option<Expr>,
    columns: Vec<Expr>,
) -> DataFusionResult<Expr> {
    let rows = subquery.subquery.as_ref().clone();
    let rows = match condition {
        Some(condition) => LogicalPlanBuilder::from(rows).filter(condition)?.build()?,
        None => rows,
    };
    let mut outer_ref_columns = subquery.outer_ref_columns.clone();
    for column in columns {
        if !outer_ref_columns.contains(&column) {
            outer_ref_columns.push(column);
        }
    }
    let subquery = Subquery {
        subquery: Arc::new(rows),
        outer_ref_columns,
        spans: subquery.spans.clone(),
    };
    Ok(Expr::Exists(Exists::new(subquery, false)))
}

/// The expression as a query inside sees it, and the columns in it.
fn as_outer(expr: Expr, schema: &DFSchema) -> DataFusionResult<(Expr, Vec<Expr>)> {
    let mut columns = Vec::new();
    let outer = expr.transform(|expr| match expr {
        Expr::Column(column) => {
            let (_, field) = schema.qualified_field_from_column(&column)?;
            let outer = Expr::OuterReferenceColumn(field.clone(), column);
            columns.push(outer.clone());
            Ok(Transformed::yes(outer))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok((outer?.data, columns))
}
