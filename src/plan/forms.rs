//! Forms of Postgres' queries that the library plans in other words, in every statement.
//!
//! ```text
//!   t AT TIME ZONE z                   timezone(z, t)
//!   … OFFSET 2 FETCH FIRST 3 ROWS ONLY … OFFSET 2 LIMIT 3
//!   SELECT generate_series(1, 3), a    SELECT unnest(generate_series(1, 3)), a
//!   SELECT string_to_table(a, ',')     SELECT unnest(string_to_array(a, ','))
//!   a IS DISTINCT FROM 'x'             (a = 'x') IS NOT TRUE
//!   gen_random_uuid()                  CAST(uuid() AS UUID), which is a text to the library
//! ```
//!
//! A function that returns a set is an array to the library, and a set only by `unnest`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Fetch, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident,
    LimitClause, ObjectName, Query, Select, SelectItem, SetExpr, Value, VisitMut, VisitorMut,
};

use crate::error::{Error, Result};
use crate::plan::ties::FETCH_WITH_TIES;

/// Functions that return sets, and those that give the same values as an array.
const SETS: [(&str, &str); 3] = [
    ("generate_series", "generate_series"),
    ("generate_subscripts", "generate_subscripts"),
    ("string_to_table", "string_to_array"),
];

/// Rewrites a statement or an expression.
///
/// # Errors
/// 0A000 for a form that has no other words.
pub fn plain_forms(tree: &mut impl VisitMut) -> Result<()> {
    match tree.visit(&mut Forms) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Forms;

impl VisitorMut for Forms {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        tell_keys_apart(query);
        match query.fetch.take() {
            None => ControlFlow::Continue(()),
            Some(fetch) => limit(query, fetch),
        }
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                let _: ControlFlow<()> = expr.visit(&mut Sets::default());
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if let Expr::AtTimeZone {
            timestamp,
            time_zone,
        } = expr
        {
            let nothing = || Box::new(Expr::Value(Value::Null.into()));
            let time = std::mem::replace(timestamp, nothing());
            let zone = std::mem::replace(time_zone, nothing());
            *expr = Expr::Function(call("timezone", vec![*zone, *time]));
        }
        if let Expr::Function(function) = expr {
            unordered_by_constants(function);
        }
        if let Some(plain) = distinct_from_constant(expr) {
            *expr = plain;
        }
        if matches!(&*expr, Expr::Function(function)
            if name_of(function).as_deref() == Some("gen_random_uuid"))
        {
            *expr = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(Expr::Function(call("uuid", Vec::new()))),
                data_type: DataType::Uuid,
                array: false,
                format: None,
            };
        }
        ControlFlow::Continue(())
    }
}

/// `GROUP BY t::date, t::time`: the library leaves casts out of names, and takes both for one. Of
/// those that it would take for one all but one become `coalesce(t::time)`, which is the same; a
/// key without casts stays as it is.
fn tell_keys_apart(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else {
        return;
    };
    let GroupByExpr::Expressions(keys, _) = &select.group_by else {
        return;
    };
    let mut known: Vec<Key> = Vec::new();
    for key in keys {
        let expr = key_of(key, &select.projection).clone();
        let text = expr.to_string();
        if known.iter().any(|other| other.text == text) {
            continue;
        }
        let mut plain = expr.clone();
        let _: ControlFlow<()> = plain.visit(&mut Uncast);
        known.push(Key {
            expr,
            text,
            plain: plain.to_string(),
            wraps: 0,
        });
    }
    for at in 0..known.len() {
        if known[at].text == known[at].plain {
            continue;
        }
        let is_before = |(place, other): (usize, &Key)| {
            other.plain == known[at].plain
                && (place < at || other.text == other.plain && place > at)
        };
        known[at].wraps = known
            .iter()
            .enumerate()
            .filter(|key| is_before(*key))
            .count();
    }
    if known.iter().all(|key| key.wraps == 0) {
        return;
    }
    let _: ControlFlow<()> = query.visit(&mut Marked(&known));
    let _: ControlFlow<()> = query.visit(&mut Wrapped(&known));
}

/// A key of GROUP BY, its text with and without casts, and how often it is wrapped.
struct Key {
    expr: Expr,
    text: String,
    plain: String,
    wraps: usize,
}

/// What a key of GROUP BY stands for: an item of the list by its place or name, or itself.
fn key_of<'a>(key: &'a Expr, items: &'a [SelectItem]) -> &'a Expr {
    let expr_of = |item: &'a SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    };
    let found = match key {
        Expr::Value(value) => match &value.value {
            Value::Number(place, _) => {
                let place = place.to_string().parse::<usize>().ok();
                let item = place.and_then(|place| items.get(place.checked_sub(1)?));
                item.and_then(expr_of)
            }
            _ => None,
        },
        Expr::Identifier(name) => items.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } if alias == name => Some(expr),
            _ => None,
        }),
        _ => None,
    };
    found.unwrap_or(key)
}

/// Takes casts away.
struct Uncast;

impl VisitorMut for Uncast {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Cast { expr: inner, .. } | Expr::Nested(inner) = expr {
            let inner = std::mem::replace(inner, Box::new(Expr::Value(Value::Null.into())));
            *expr = *inner;
        }
        ControlFlow::Continue(())
    }
}

/// No name that a user gives.
const MARK: &str = "\u{0}key ";

/// Puts marks in the place of keys, the outermost ones: a key inside another one stays.
struct Marked<'a>(&'a [Key]);

impl VisitorMut for Marked<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if matches!(expr, Expr::Identifier(_) | Expr::Value(_)) {
            return ControlFlow::Continue(());
        }
        let text = expr.to_string();
        if let Some(at) = self.0.iter().position(|key| key.text == text) {
            *expr = Expr::Identifier(Ident::new(format!("{MARK}{at}")));
        }
        ControlFlow::Continue(())
    }
}

/// Puts the keys back, wrapped.
struct Wrapped<'a>(&'a [Key]);

impl VisitorMut for Wrapped<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let place = match &*expr {
            Expr::Identifier(name) => name.value.strip_prefix(MARK),
            _ => None,
        };
        let key = place.and_then(|place| self.0.get(place.parse::<usize>().ok()?));
        if let Some(key) = key {
            *expr = key.expr.clone();
            for _ in 0..key.wraps {
                let inner = std::mem::replace(expr, Expr::Value(Value::Null.into()));
                *expr = Expr::Function(call("coalesce", vec![inner]));
            }
        }
        ControlFlow::Continue(())
    }
}

/// `array_agg(a ORDER BY 1)`: a constant orders nothing; the library takes it for the place of a
/// column.
fn unordered_by_constants(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else {
        return;
    };
    list.clauses.retain_mut(|clause| match clause {
        FunctionArgumentClause::OrderBy(order) => {
            let is_constant = |expr: &Expr| match expr {
                Expr::Value(value) => !matches!(value.value, Value::Placeholder(_)),
                _ => false,
            };
            order.retain(|key| !is_constant(&key.expr));
            !order.is_empty()
        }
        _ => true,
    });
}

/// `a IS DISTINCT FROM 'x'`: a constant is not NULL, and beside `=` it gets a's type.
fn distinct_from_constant(expr: &Expr) -> Option<Expr> {
    let (left, right, is_distinct) = match expr {
        Expr::IsDistinctFrom(left, right) => (left, right, true),
        Expr::IsNotDistinctFrom(left, right) => (left, right, false),
        _ => return None,
    };
    let is_text = |expr: &Expr| {
        matches!(expr, Expr::Value(value)
            if matches!(value.value, Value::SingleQuotedString(_)))
    };
    if !is_text(left) && !is_text(right) {
        return None;
    }
    let equal = Box::new(Expr::Nested(Box::new(Expr::BinaryOp {
        left: left.clone(),
        op: BinaryOperator::Eq,
        right: right.clone(),
    })));
    Some(match is_distinct {
        true => Expr::IsNotTrue(equal),
        false => Expr::IsTrue(equal),
    })
}

/// `FETCH FIRST n ROWS ONLY` is LIMIT n; without a number it is one row. `WITH TIES` marks it.
fn limit(query: &mut Query, fetch: Fetch) -> ControlFlow<Error> {
    if fetch.percent {
        let error = Error::unsupported("FETCH FIRST … PERCENT is not supported");
        return ControlFlow::Break(error.hint("compare with percent_rank() OVER (ORDER BY …)"));
    }
    let one = || Expr::Value(Value::Number("1".to_string(), false).into());
    let count = fetch.quantity.unwrap_or_else(one);
    let count = Some(match fetch.with_ties {
        true => Expr::Function(call(FETCH_WITH_TIES, vec![count])),
        false => count,
    });
    query.limit_clause = Some(match query.limit_clause.take() {
        Some(LimitClause::LimitOffset {
            limit: None,
            offset,
            limit_by,
        }) => LimitClause::LimitOffset {
            limit: count,
            offset,
            limit_by,
        },
        None => LimitClause::LimitOffset {
            limit: count,
            offset: None,
            limit_by: Vec::new(),
        },
        Some(_) => {
            let state = crate::error::SqlState::SYNTAX_ERROR;
            let error = Error::new(state, "multiple LIMIT clauses not allowed");
            return ControlFlow::Break(error);
        }
    });
    ControlFlow::Continue(())
}

/// Makes sets of the functions in one item of a SELECT list.
#[derive(Default)]
struct Sets {
    /// How many subqueries deep it is: their items are visited with them.
    queries: usize,
    /// How many calls of `unnest` it is inside of: an array is what they want.
    unnests: usize,
}

impl VisitorMut for Sets {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.unnests += usize::from(is_unnest(expr));
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if is_unnest(expr) {
            self.unnests -= 1;
            return ControlFlow::Continue(());
        }
        if self.queries > 0 || self.unnests > 0 {
            return ControlFlow::Continue(());
        }
        if let Expr::Function(function) = expr
            && let Some(array) = array_of_set(function)
        {
            *expr = Expr::Function(call("unnest", vec![Expr::Function(array)]));
        }
        ControlFlow::Continue(())
    }
}

fn is_unnest(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function) if name_of(function).as_deref() == Some("unnest"))
}

/// The call that gives the elements of the set as an array.
fn array_of_set(function: &Function) -> Option<Function> {
    let name = name_of(function)?;
    let (_, array) = SETS.iter().find(|(set, _)| *set == name)?;
    Some(Function {
        name: ObjectName::from(vec![Ident::new(*array)]),
        ..function.clone()
    })
}

/// The function's name, folded, without a system schema.
fn name_of(function: &Function) -> Option<String> {
    let folded = |name: &Ident| match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    };
    let parts: Vec<&Ident> = function
        .name
        .0
        .iter()
        .map(|part| part.as_ident())
        .collect::<Option<_>>()?;
    match parts.as_slice() {
        [name] => Some(folded(name)),
        [schema, name] if folded(schema) == "pg_catalog" => Some(folded(name)),
        _ => None,
    }
}

fn call(name: &str, args: Vec<Expr>) -> Function {
    let unnamed = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into_iter().map(unnamed).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn rewritten(sql: &str) -> String {
        let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
        match plain_forms(&mut statements[0]) {
            Ok(()) => statements[0].to_string(),
            Err(error) => error.message().to_string(),
        }
    }

    #[test]
    fn forms_are_in_the_words_of_the_library() {
        for (sql, expected) in [
            (
                "SELECT a AT TIME ZONE 'UTC' FROM t",
                "SELECT timezone('UTC', a) FROM t",
            ),
            (
                "SELECT a FROM t OFFSET 2 FETCH FIRST 3 ROWS ONLY",
                "SELECT a FROM t LIMIT 3 OFFSET 2",
            ),
            (
                "SELECT a IS DISTINCT FROM 'x', 'x' IS NOT DISTINCT FROM b, a IS DISTINCT FROM b",
                "SELECT (a = 'x') IS NOT TRUE, ('x' = b) IS TRUE, a IS DISTINCT FROM b",
            ),
            (
                "SELECT a FROM t FETCH NEXT ROW ONLY",
                "SELECT a FROM t LIMIT 1",
            ),
            (
                "SELECT a FROM t FETCH FIRST 2 ROWS WITH TIES",
                "SELECT a FROM t LIMIT fetch with ties(2)",
            ),
            (
                "SELECT a FROM t FETCH FIRST 2 PERCENT ROWS ONLY",
                "FETCH FIRST … PERCENT is not supported",
            ),
            (
                "SELECT pg_catalog.generate_series(1, 3) * 2, unnest(generate_series(1, 2))",
                "SELECT unnest(generate_series(1, 3)) * 2, unnest(generate_series(1, 2))",
            ),
            (
                "SELECT (SELECT max(n) FROM generate_series(1, 3) AS s (n))",
                "SELECT (SELECT max(n) FROM generate_series(1, 3) AS s (n))",
            ),
        ] {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }
}
