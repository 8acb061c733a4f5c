//! EXISTS and IN as values: the library knows them in WHERE only.
//!
//! ```text
//!   SELECT EXISTS (SELECT … )        (SELECT count(*) …) > 0
//!   SELECT x IN (SELECT a …)         true, if a row is x; NULL, if it is not known; else false
//! ```

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr,
    Ident, Query, Select, SelectItem, SetExpr, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::plan::compatibility::empty::is_aggregate_item;
use crate::plan::compatibility::function::array_of_rows;
use crate::plan::compatibility::tree::{number, plain_function};
use crate::plan::compatibility::{Scope, folded};

/// What IN means, in terms of numbers of rows: those that are the value, all, those that are NULL.
/// A subquery that counts can be correlated.
const IS_IN: &str = r#"CASE
    WHEN "in:equal" > 0 THEN true
    WHEN ("in:sought") IS NULL AND "in:all" > 0 THEN NULL
    WHEN "in:null" > 0 THEN NULL
    ELSE false END"#;

/// The number of a subquery's rows with a condition on their only column.
const COUNT: &str = r#"(SELECT count(*) FROM (SELECT 1) AS "in:rows" ("in:value") WHERE true)"#;

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
    struct Filler<'a>(&'a [(&'a str, Expr)]);
    impl VisitorMut for Filler<'_> {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Identifier(name) = expr
                && let Some((_, value)) = self.0.iter().find(|(place, _)| *place == name.value)
            {
                *expr = value.clone();
            }
            ControlFlow::Continue(())
        }
    }
    let equal = |value: &Expr| binary(value.clone(), BinaryOperator::Eq, nested(sought));
    let null = |value: &Expr| Expr::IsNull(Box::new(nested(value)));
    let places = [
        ("in:sought", sought.clone()),
        ("in:equal", counted(sought, rows, Some(&equal))?),
        ("in:all", counted(sought, rows, None)?),
        ("in:null", counted(sought, rows, Some(&null))?),
    ];
    let mut filled = parsed(IS_IN)?;
    let _: ControlFlow<()> = filled.visit(&mut Filler(&places));
    Some(filled)
}

/// How many rows satisfy a condition on their only column.
fn counted(sought: &Expr, rows: &Query, condition: Option<&dyn Fn(&Expr) -> Expr>) -> Option<Expr> {
    if let Some(mut plain) = plain_rows(sought, rows)
        && let SetExpr::Select(select) = plain.body.as_mut()
        && let Some(item) = select.projection.first()
        && let SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. } = item
    {
        let condition = condition.map(|condition| condition(&nested(value)));
        let both = match (select.selection.take(), condition) {
            (Some(a), Some(b)) => Some(binary(nested(&a), BinaryOperator::And, b)),
            (a, b) => a.or(b),
        };
        select.selection = both;
        count_rows(select);
        return Some(Expr::Subquery(Box::new(plain)));
    }
    let mut counted = parsed(COUNT)?;
    let Expr::Subquery(query) = &mut counted else {
        return None;
    };
    let SetExpr::Select(select) = query.body.as_mut() else {
        return None;
    };
    let value = ["in:rows", "in:value"].map(|name| Ident::with_quote('"', name));
    let value = Expr::CompoundIdentifier(value.to_vec());
    select.selection = condition.map(|condition| condition(&value));
    let TableFactor::Derived { subquery, .. } = &mut select.from.first_mut()?.relation else {
        return None;
    };
    **subquery = rows.clone();
    Some(counted)
}

/// The query, if its rows can be counted by a condition of its own, so that it can be correlated
/// (the library does not look for outer columns deeper): nothing happens to its rows, and what is
/// sought means the same inside of it.
fn plain_rows(sought: &Expr, rows: &Query) -> Option<Query> {
    let SetExpr::Select(select) = rows.body.as_ref() else {
        return None;
    };
    let is_plain = is_countable(rows, select)
        && rows.with.is_none()
        && rows.fetch.is_none()
        && select.having.is_none()
        && select.projection.len() == 1
        && !select.from.is_empty();
    let factors = select.from.iter().flat_map(|from| {
        let joined = from.joins.iter().map(|join| &join.relation);
        std::iter::once(&from.relation).chain(joined)
    });
    let inner: Vec<String> = factors.map(factor_name).collect::<Option<_>>()?;
    let is_outside = |name: &Ident| !inner.contains(&folded(name));
    let mut is_clear = true;
    let _: ControlFlow<()> = ast::visit_expressions(sought, |expr| {
        is_clear &= match expr {
            Expr::Identifier(_) | Expr::Subquery(_) => false,
            Expr::CompoundIdentifier(parts) => parts.first().is_some_and(is_outside),
            _ => true,
        };
        ControlFlow::Continue(())
    });
    let mut plain = rows.clone();
    plain.order_by = None;
    (is_plain && is_clear).then_some(plain)
}

/// What columns of a relation in FROM are qualified by; `None` where that is not told.
fn factor_name(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { name, alias, .. } => match alias {
            Some(alias) => Some(folded(&alias.name)),
            None => Some(folded(name.0.last()?.as_ident()?)),
        },
        TableFactor::Derived {
            alias: Some(alias), ..
        } => Some(folded(&alias.name)),
        _ => None,
    }
}

/// Whether the number of a query's rows is that of a `count(*)` in its place.
fn is_countable(query: &Query, select: &Select) -> bool {
    query.limit_clause.is_none()
        && matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty())
        && !select.projection.iter().any(is_aggregate_item)
}

fn count_rows(select: &mut Select) {
    let mut count = plain_function("count", Vec::new());
    if let FunctionArguments::List(list) = &mut count.args {
        list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Wildcard)];
    }
    select.projection = vec![SelectItem::UnnamedExpr(Expr::Function(count))];
    select.distinct = None;
}

fn nested(expr: &Expr) -> Expr {
    Expr::Nested(Box::new(expr.clone()))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    let (left, right) = (Box::new(left), Box::new(right));
    Expr::BinaryOp { left, op, right }
}

fn parsed(text: &str) -> Option<Expr> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).ok()?;
    parser.parse_expr().ok()
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
            && let SetExpr::Select(select) = subquery.body.as_ref()
            && is_countable(subquery, select)
        {
            if let SetExpr::Select(select) = subquery.body.as_mut() {
                count_rows(select);
            }
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
