//! `FROM t, unnest(t.list)` becomes an unnesting of `t` itself.
//!
//! ```text
//!   Cross join                              Projection t.*, UNNEST(t.list) AS k.x
//!     t                                       Unnest UNNEST(t.list)
//!     SubqueryAlias k                           Projection t.*, t.list AS UNNEST(t.list)
//!       Subquery                                  t
//!         Projection UNNEST(outer t.list) AS x
//!           Unnest …
//!             Projection outer t.list …
//!               EmptyRelation (one row)
//! ```
//!
//! The right side is a row per row of the left: what it computes from that row can be computed on
//! the left side as well, with the left side's columns carried along. DataFusion plans the join
//! but has no way to run it.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::TableReference;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::logical_plan::{Join, Projection, Unnest};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder};

/// The join without its lateral side; `None` when it has none, or one of another form.
pub fn unnest_lateral(join: &Join) -> Result<Option<LogicalPlan>> {
    if join.join_type != JoinType::Inner || !join.on.is_empty() {
        return Ok(None);
    }
    let Some(chain) = Chain::of(&join.right) else {
        return Ok(None);
    };
    let carried: Vec<Expr> = join
        .left
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    let mut plan = LogicalPlanBuilder::from(LogicalPlan::clone(&join.left));
    plan = plan.project(with(&carried, &chain.lists.expr)?)?;
    let columns = chain.unnest.exec_columns.clone();
    plan = plan.unnest_columns_with_options(columns, chain.unnest.options.clone())?;
    for projection in chain.projections.iter().rev() {
        plan = plan.project(with(&carried, &projection.expr)?)?;
    }
    if let Some(alias) = chain.alias {
        let own = join.right.schema().columns().into_iter();
        let inner = chain.output.schema().columns();
        let named = own.zip(inner).map(|(outside, inside)| {
            Expr::Column(inside).alias_qualified(Some(alias.clone()), outside.name)
        });
        let named: Vec<Expr> = named.collect();
        plan = plan.project(with(&carried, &named)?)?;
    }
    if let Some(filter) = &join.filter {
        plan = plan.filter(filter.clone())?;
    }
    plan.build().map(Some)
}

/// The columns of the left side, then the expressions with references to it as plain columns.
fn with(carried: &[Expr], exprs: &[Expr]) -> Result<Vec<Expr>> {
    let inside = exprs.iter().map(|expr| {
        let plain = expr.clone().transform_up(|expr| {
            Ok(match expr {
                Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
                other => Transformed::no(other),
            })
        });
        plain.map(|plain| plain.data)
    });
    carried.iter().cloned().map(Ok).chain(inside).collect()
}

/// The right side, from the top down.
struct Chain<'a> {
    alias: Option<TableReference>,
    /// What is below the alias.
    output: &'a LogicalPlan,
    projections: Vec<&'a Projection>,
    unnest: &'a Unnest,
    lists: &'a Projection,
}

impl<'a> Chain<'a> {
    fn of(right: &'a Arc<LogicalPlan>) -> Option<Chain<'a>> {
        let (mut alias, mut output, mut projections) = (None, right.as_ref(), Vec::new());
        let mut node = right.as_ref();
        loop {
            match node {
                LogicalPlan::SubqueryAlias(named) if projections.is_empty() => {
                    // The outermost name is the one that the query uses.
                    alias = alias.or_else(|| Some(named.alias.clone()));
                    node = named.input.as_ref();
                    output = node;
                }
                LogicalPlan::Subquery(subquery) if projections.is_empty() => {
                    node = subquery.subquery.as_ref();
                    output = node;
                }
                LogicalPlan::Projection(projection) => {
                    projections.push(projection);
                    node = projection.input.as_ref();
                }
                LogicalPlan::Unnest(unnest) => {
                    let LogicalPlan::Projection(lists) = unnest.input.as_ref() else {
                        return None;
                    };
                    let is_one_row = matches!(
                        lists.input.as_ref(),
                        LogicalPlan::EmptyRelation(empty) if empty.produce_one_row
                    );
                    return is_one_row.then_some(Chain {
                        alias,
                        output,
                        projections,
                        unnest,
                        lists,
                    });
                }
                _ => return None,
            }
        }
    }
}
