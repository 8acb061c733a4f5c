//! ORDER BY in aggregates and DISTINCT ON: every expression once.
//!
//! What is equal in an expression is not ordered by it again. The library drops repeated ones in
//! one place and counts them in another:
//!
//! ```text
//!   array_agg(a ORDER BY b, b DESC)                         array_agg(a ORDER BY b)
//!   SELECT DISTINCT ON (x, y) a AS x, a AS y, b ORDER BY x, y, b
//!                                                           DISTINCT ON (a) … ORDER BY a, b
//! ```

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, SortExpr};

/// The plan whose orders repeat nothing.
pub(super) fn ordered_once(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let ordered = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Distinct(Distinct::On(mut on)) => {
            let before = on.on_expr.len() + on.sort_expr.as_ref().map_or(0, Vec::len);
            let mut seen: Vec<Expr> = Vec::new();
            on.on_expr.retain(|expr| is_first(&mut seen, expr));
            on.sort_expr = on.sort_expr.map(once);
            let after = on.on_expr.len() + on.sort_expr.as_ref().map_or(0, Vec::len);
            let plan = LogicalPlan::Distinct(Distinct::On(on));
            Ok(Transformed::new_transformed(plan, before != after))
        }
        LogicalPlan::Aggregate(_) => {
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let ordered = expr.transform_up(in_aggregate)?;
                Ok(ordered.update_data(|expr| name.restore(expr)))
            })
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(ordered?.data)
}

fn in_aggregate(expr: Expr) -> DataFusionResult<Transformed<Expr>> {
    match expr {
        Expr::AggregateFunction(mut call) => {
            let before = call.params.order_by.len();
            call.params.order_by = once(call.params.order_by);
            let is_changed = call.params.order_by.len() != before;
            let call = Expr::AggregateFunction(call);
            Ok(Transformed::new_transformed(call, is_changed))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn once(order: Vec<SortExpr>) -> Vec<SortExpr> {
    let mut seen: Vec<Expr> = Vec::new();
    let mut order = order;
    order.retain(|key| is_first(&mut seen, &key.expr));
    order
}

/// Whether an expression was not there before, whatever it was called.
fn is_first(seen: &mut Vec<Expr>, expr: &Expr) -> bool {
    let expr = expr.clone().unalias();
    if seen.contains(&expr) {
        return false;
    }
    seen.push(expr);
    true
}
