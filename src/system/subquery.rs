//! Correlated lookups over system relations become left joins.
//!
//! ```text
//!   SELECT a.attname, (SELECT d.adbin FROM pg_attrdef d
//!                      WHERE d.adrelid = a.attrelid AND a.atthasdef) FROM pg_attribute a
//!
//!   Projection a.attname, s.value
//!     Left join on s.c0 = a.attrelid AND a.atthasdef
//!       pg_attribute a
//!       s: Projection d.adbin AS value, d.adrelid AS c0  ─  pg_attrdef d
//! ```
//!
//! DataFusion refuses a correlated scalar subquery that is no aggregate, because nothing shows that
//! it has at most one row. The lookups that clients make have: they go by oid. That is known of
//! system relations only, so only subqueries that read nothing else are rewritten; all others keep
//! DataFusion's rules.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Filter, Projection, Subquery};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder};

use crate::error::Error;
use crate::system::lateral::unnest_lateral;
use crate::system::table::SystemTable;

/// Rewrites a plan that was not analyzed yet: such subqueries, and lateral lists
/// ([`crate::system::lateral`]). Any other plan stays as it is.
///
/// # Errors
/// An internal error when DataFusion refuses a join that was made here.
pub fn flatten_subqueries(plan: LogicalPlan) -> crate::error::Result<LogicalPlan> {
    let mut count = 0;
    plan.transform_up_with_subqueries(|node| flatten(node, &mut count))
        .map(|transformed| transformed.data)
        .map_err(|cause| Error::internal(format!("cannot flatten a subquery: {cause}")))
}

fn flatten(node: LogicalPlan, count: &mut usize) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Projection(projection) => {
            let names = NamePreserver::new_for_projection();
            let saved: Vec<_> = projection
                .expr
                .iter()
                .map(|expr| names.save(expr))
                .collect();
            let (input, exprs, is_changed) =
                lift(projection.input.clone(), projection.expr.clone(), count)?;
            if !is_changed {
                return Ok(Transformed::no(LogicalPlan::Projection(projection)));
            }
            let exprs = exprs
                .into_iter()
                .zip(saved)
                .map(|(expr, name)| name.restore(expr));
            let lifted = Projection::try_new(exprs.collect(), input)?;
            Ok(Transformed::yes(LogicalPlan::Projection(lifted)))
        }
        LogicalPlan::Filter(filter) => {
            let columns: Vec<Expr> = filter
                .input
                .schema()
                .columns()
                .into_iter()
                .map(Expr::Column)
                .collect();
            let (input, mut exprs, is_changed) =
                lift(filter.input.clone(), vec![filter.predicate.clone()], count)?;
            if !is_changed {
                return Ok(Transformed::no(LogicalPlan::Filter(filter)));
            }
            let predicate = exprs.pop().expect("one expression went in");
            let filtered = LogicalPlan::Filter(Filter::try_new(predicate, input)?);
            let plan = LogicalPlanBuilder::from(filtered)
                .project(columns)?
                .build()?;
            Ok(Transformed::yes(plan))
        }
        LogicalPlan::Join(join) => Ok(match unnest_lateral(&join)? {
            Some(plan) => Transformed::yes(plan),
            None => Transformed::no(LogicalPlan::Join(join)),
        }),
        other => Ok(Transformed::no(other)),
    }
}

/// Joins the subqueries of the expressions to the input, and puts columns in their places.
fn lift(
    input: Arc<LogicalPlan>,
    exprs: Vec<Expr>,
    count: &mut usize,
) -> Result<(Arc<LogicalPlan>, Vec<Expr>, bool)> {
    let mut joined = LogicalPlan::clone(&input);
    let mut is_changed = false;
    let mut lifted = Vec::with_capacity(exprs.len());
    for expr in exprs {
        let expr = expr.transform_down(|expr| {
            let Expr::ScalarSubquery(subquery) = &expr else {
                return Ok(Transformed::no(expr));
            };
            let Some(lookup) = Lookup::of(subquery)? else {
                return Ok(Transformed::no(expr));
            };
            *count += 1;
            is_changed = true;
            let (plan, value) = lookup.join(joined.clone(), *count)?;
            joined = plan;
            Ok(Transformed::new(value, true, TreeNodeRecursion::Jump))
        })?;
        lifted.push(expr.data);
    }
    Ok((Arc::new(joined), lifted, is_changed))
}

/// A subquery of the form `SELECT value FROM source WHERE predicate`, in which only the predicate
/// names columns from outside.
struct Lookup {
    value: Expr,
    predicate: Expr,
    source: Arc<LogicalPlan>,
}

impl Lookup {
    fn of(subquery: &Subquery) -> Result<Option<Lookup>> {
        if subquery.outer_ref_columns.is_empty() {
            return Ok(None);
        }
        let LogicalPlan::Projection(projection) = subquery.subquery.as_ref() else {
            return Ok(None);
        };
        let (LogicalPlan::Filter(filter), [value]) =
            (projection.input.as_ref(), projection.expr.as_slice())
        else {
            return Ok(None);
        };
        let is_plain = !names_outer(value) && !has_subquery(&filter.predicate);
        if !is_plain || !reads_system_relations_only(&filter.input)? {
            return Ok(None);
        }
        Ok(Some(Lookup {
            value: value.clone(),
            predicate: filter.predicate.clone(),
            source: filter.input.clone(),
        }))
    }

    /// The join, and the column with the subquery's value.
    fn join(self, outer: LogicalPlan, number: usize) -> Result<(LogicalPlan, Expr)> {
        let alias = format!("lookup:{number}");
        let mut inner: Vec<Expr> = vec![self.value.unalias().alias("value")];
        let predicate = self.predicate.transform_up(|expr| {
            Ok(match expr {
                Expr::Column(column) => {
                    let name = format!("c{}", inner.len());
                    inner.push(Expr::Column(column).alias(&name));
                    Transformed::yes(Expr::Column(Column::new(Some(alias.clone()), name)))
                }
                Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
                other => Transformed::no(other),
            })
        })?;
        let inner = LogicalPlanBuilder::from(LogicalPlan::clone(&self.source))
            .project(inner)?
            .alias(alias.as_str())?
            .build()?;
        let joined = LogicalPlanBuilder::from(outer)
            .join_on(inner, JoinType::Left, [predicate.data])?
            .build()?;
        Ok((joined, Expr::Column(Column::new(Some(alias), "value"))))
    }
}

fn has_subquery(expr: &Expr) -> bool {
    let is_subquery = |expr: &Expr| {
        Ok(matches!(
            expr,
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_)
        ))
    };
    expr.exists(is_subquery).unwrap_or(true)
}

/// Whether every leaf is a system relation, and nothing inside names columns from outside.
fn reads_system_relations_only(plan: &LogicalPlan) -> Result<bool> {
    let mut is_system = true;
    plan.apply(|node| {
        let is_known = match node {
            LogicalPlan::TableScan(scan) => {
                source_as_provider(&scan.source).is_ok_and(|provider| provider.is::<SystemTable>())
            }
            LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Projection(_) => true,
            _ => false,
        };
        let is_closed = node.expressions().iter().all(|expr| !names_outer(expr));
        is_system = is_known && is_closed;
        Ok(if is_system {
            TreeNodeRecursion::Continue
        } else {
            TreeNodeRecursion::Stop
        })
    })?;
    Ok(is_system)
}

fn names_outer(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::OuterReferenceColumn(_, _))))
        .unwrap_or(true)
}
