//! The outermost query: what the client sees.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr,
    Ident, Query, Select, SelectItem, SetExpr, VisitMut, VisitorMut,
};

use crate::plan::compatibility::Scope;
use crate::plan::compatibility::cast::shown;
use crate::plan::compatibility::empty::is_aggregate_item;
use crate::plan::compatibility::function::array_of_rows;
use crate::plan::compatibility::tree::{number, plain_function};
use crate::plan::names::display_names;

/// In what the client sees, numbers of objects are names; EXISTS and IN are values: DataFusion
/// knows them in WHERE only.
pub(super) fn show_names(scope: Scope, body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            for item in &mut select.projection {
                let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item
                else {
                    continue;
                };
                if let Some(name) = shown(expr) {
                    *expr = name;
                }
                let _: ControlFlow<()> = expr.visit(&mut PlainSubqueries { scope, depth: 0 });
            }
        }
        SetExpr::Query(query) => show_names(scope, &mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            show_names(scope, left);
            show_names(scope, right);
        }
        _ => {}
    }
}

/// Columns without an alias are called after what the client wrote, not after what it became.
pub(super) fn keep_display_names(query: &mut Query, names: Option<Vec<Option<String>>>) {
    let (Some(old), Some(new)) = (names, display_names(query)) else {
        return;
    };
    let Some(select) = leftmost(&mut query.body) else {
        return;
    };
    if old.len() != new.len() {
        return;
    }
    for (item, (old, new)) in select.projection.iter_mut().zip(old.into_iter().zip(new)) {
        if let (SelectItem::UnnamedExpr(expr), Some(old)) = (&*item, &old)
            && new.as_ref() != Some(old)
        {
            let alias = Ident::with_quote('"', old);
            *item = SelectItem::ExprWithAlias {
                expr: expr.clone(),
                alias,
            };
        }
    }
}

fn leftmost(body: &mut SetExpr) -> Option<&mut Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::SetOperation { left, .. } => leftmost(left),
        SetExpr::Query(query) => leftmost(&mut query.body),
        _ => None,
    }
}

/// `EXISTS (SELECT … )` as `(SELECT count(*) … ) > 0`, `x IN (SELECT …)` as
/// `x = ANY (ARRAY(SELECT …))`.
pub(super) struct PlainSubqueries {
    scope: Scope,
    /// How many subqueries deep it is: in there are WHEREs.
    depth: usize,
}

impl VisitorMut for PlainSubqueries {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        if let Expr::InSubquery { expr: left, subquery, negated } = expr
            // An array does not tell a NULL among the rows; names are never NULL.
            && self.scope == Scope::System
            && let Some(array) = array_of_rows(subquery)
        {
            let is_in = Expr::AnyOp {
                left: left.clone(),
                compare_op: BinaryOperator::Eq,
                right: Box::new(array),
                is_some: false,
            };
            *expr = match negated {
                false => is_in,
                true => Expr::UnaryOp {
                    op: ast::UnaryOperator::Not,
                    expr: Box::new(is_in),
                },
            };
        }
        if let Expr::Exists { subquery, negated } = expr
            && let SetExpr::Select(select) = subquery.body.as_mut()
            && subquery.limit_clause.is_none()
            && matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty())
            && !select.projection.iter().any(is_aggregate_item)
        {
            let mut count = plain_function("count", Vec::new());
            if let FunctionArguments::List(list) = &mut count.args {
                list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Wildcard)];
            }
            select.projection = vec![SelectItem::UnnamedExpr(Expr::Function(count))];
            select.distinct = None;
            let op = if *negated {
                BinaryOperator::Eq
            } else {
                BinaryOperator::Gt
            };
            let counted = Expr::Subquery(subquery.clone());
            *expr = Expr::Nested(Box::new(Expr::BinaryOp {
                left: Box::new(counted),
                op,
                right: Box::new(number(0)),
            }));
        }
        ControlFlow::Continue(())
    }
}
