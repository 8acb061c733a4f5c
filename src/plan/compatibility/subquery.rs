//! EXISTS and IN as values: the library knows them in WHERE only.
//!
//! ```text
//!   SELECT EXISTS (SELECT … )        (SELECT count(*) …) > 0
//!   SELECT x IN (SELECT a …)         true, if a row is x; NULL, if it is not known; else false
//! ```

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr,
    Query, Select, SelectItem, SetExpr, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::plan::compatibility::Scope;
use crate::plan::compatibility::empty::is_aggregate_item;
use crate::plan::compatibility::function::array_of_rows;
use crate::plan::compatibility::tree::{number, plain_function};

/// The rows of a subquery and their only column, by names that no user's query has.
const ROWS: &str = "in:rows";

/// The place of the value that is looked for.
const SOUGHT: &str = "in:sought";

/// What IN means, in terms of numbers of rows. A subquery that counts can be correlated.
const IS_IN: &str = r#"CASE
    WHEN (SELECT count(*) FROM (SELECT 1) AS "in:rows" ("in:value")
          WHERE "in:rows"."in:value" = ("in:sought")) > 0 THEN true
    WHEN ("in:sought") IS NULL
         AND (SELECT count(*) FROM (SELECT 1) AS "in:rows" ("in:value")) > 0 THEN NULL
    WHEN (SELECT count(*) FROM (SELECT 1) AS "in:rows" ("in:value")
          WHERE "in:rows"."in:value" IS NULL) > 0 THEN NULL
    ELSE false END"#;

/// Rewrites the items of a SELECT list.
pub(super) fn values_of_subqueries(scope: Scope, select: &mut Select) {
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            let _: ControlFlow<()> = expr.visit(&mut PlainSubqueries { scope, depth: 0 });
        }
    }
}

/// `sought IN (rows)` in other words.
fn is_in(sought: &Expr, rows: &Query) -> Option<Expr> {
    struct Filler<'a> {
        sought: &'a Expr,
        rows: &'a Query,
    }
    impl VisitorMut for Filler<'_> {
        type Break = ();

        fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
            if let TableFactor::Derived {
                subquery,
                alias: Some(alias),
                ..
            } = factor
                && alias.name.value == ROWS
            {
                **subquery = self.rows.clone();
            }
            ControlFlow::Continue(())
        }

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if matches!(expr, Expr::Identifier(name) if name.value == SOUGHT) {
                *expr = self.sought.clone();
            }
            ControlFlow::Continue(())
        }
    }
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .try_with_sql(IS_IN)
        .ok()?;
    let mut filled = parser.parse_expr().ok()?;
    let _: ControlFlow<()> = filled.visit(&mut Filler { sought, rows });
    Some(filled)
}

/// Where only names are read, which are never NULL, `x IN (SELECT …)` is
/// `x = ANY (ARRAY(SELECT …))`.
struct PlainSubqueries {
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
        if let Expr::InSubquery {
            expr: left,
            subquery,
            negated,
        } = expr
            && let Some(is_in) = match (self.scope, array_of_rows(subquery)) {
                (Scope::System, Some(array)) => Some(Expr::AnyOp {
                    left: left.clone(),
                    compare_op: BinaryOperator::Eq,
                    right: Box::new(array),
                    is_some: false,
                }),
                _ => is_in(left, subquery),
            }
        {
            let is_in = Expr::Nested(Box::new(is_in));
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
