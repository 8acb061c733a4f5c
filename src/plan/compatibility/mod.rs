//! What Postgres clients write and DataFusion does not read, in words that it does.
//!
//! Clients' catalog queries are written for Postgres 15: functions, types and operators with their
//! schema, casts to `regclass`, arrays of subqueries, set-returning functions. Each rewrite is of
//! one construct, wherever it stands; nothing knows a whole query.
//!
//! ```text
//!   pg_catalog.f(x)                        f(x)
//!   a OPERATOR(pg_catalog.~) b             a ~ b
//!   a COLLATE pg_catalog.default           a
//!   x::pg_catalog.text, x::oid             x::text, x::bigint
//!   'users'::regclass                      regclassin('users')          the oid
//!   c.oid::regclass::text                  regclassout(c.oid)           the name
//!   ARRAY(SELECT a … ORDER BY b)           array_or_empty((SELECT array_agg(a ORDER BY b) …))
//!   x LIKE p ESCAPE '/'                    x LIKE like_escape(p, '/')
//!   '{a,b}'::text[], = ANY ('{a,b}')       ARRAY['a', 'b']
//!   (f(x)).n                               get_field(f(x), 'n')
//!   FROM unnest(a) WITH ORDINALITY k(x, n) FROM UNNEST(a, generate_subscripts(a, 1)) k(x, n)
//!   FROM generate_series(1, f(x)) s        FROM UNNEST(generate_series(1, f(x))) s(s)
//! ```
//!
//! A value of type `regclass` is shown as a name and compared as a number. Here it is the number,
//! except in the columns of the outermost query, where it is the name.
//!
//! Some relations of Postgres are always empty here ([`empty`]). A subquery over one has
//! no rows, whatever else is in it; it is replaced by what that means, so that it need not be
//! planned.
//!
//! Reading order: this file, `cast`, `function`, `relation`, `empty`, `subquery`, `whole`,
//! `outermost`; `tree` makes small trees.

mod cast;
mod empty;
mod function;
mod outermost;
mod relation;
mod subquery;
mod tree;
mod whole;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, Function, FunctionArg, FunctionArguments, Ident, ObjectName, Query,
    Select, TableFactor, VisitMut, VisitorMut,
};

use crate::plan::compatibility::cast::{array_literal, cast};
use crate::plan::compatibility::empty::{
    blank_empty_selects, is_null_argument, is_unnest, subquery_of_nothing, system_facts,
};
use crate::plan::compatibility::function::{field_access, like, set_returning, subquery_array};
use crate::plan::compatibility::outermost::{keep_display_names, show_names};
use crate::plan::compatibility::relation::{TableNumbers, distinct_from_wildcards, table_factor};
use crate::plan::compatibility::subquery::values_of_subqueries;
use crate::plan::compatibility::tree::{arguments, call, null};
use crate::plan::names::display_names;

pub use crate::plan::compatibility::empty::{EMPTY_RELATIONS, NULL_COLUMNS};

/// Words that Postgres reads as calls without parentheses.
const WORD_FUNCTIONS: [&str; 6] = [
    "current_catalog",
    "current_role",
    "current_schema",
    "current_user",
    "session_user",
    "user",
];

/// Rewrites a query that is answered once; a view's query needs none of it.
pub fn rewrite(query: &mut Query) {
    let names = display_names(query);
    let scope = scope_of(query);
    // Nothing breaks off.
    let _: ControlFlow<()> = VisitMut::visit(query, &mut Rewriter { scope });
    show_names(&mut query.body);
    keep_display_names(query, names);
}

/// What a query reads: facts about columns of system relations hold where nothing else is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    System,
    Mixed,
}

impl Scope {
    /// Whether it is `unnest` of a column that is always NULL.
    fn has_null(self, function: &ObjectName, args: &[FunctionArg]) -> bool {
        self == Scope::System && is_unnest(function) && args.iter().all(is_null_argument)
    }
}

fn scope_of(query: &Query) -> Scope {
    #[derive(Default)]
    struct Names {
        relations: Vec<ObjectName>,
        own: Vec<String>,
    }
    impl ast::Visitor for Names {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let tables = query.with.iter().flat_map(|with| &with.cte_tables);
            self.own
                .extend(tables.map(|table| folded(&table.alias.name)));
            ControlFlow::Continue(())
        }

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table {
                name, args: None, ..
            } = factor
            {
                self.relations.push(name.clone());
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names::default();
    let _: ControlFlow<()> = ast::Visit::visit(query, &mut names);
    let is_system = |name: &ObjectName| match system_name(name) {
        Some(last) => name.0.len() > 1 || last.starts_with("pg_") || names.own.contains(&last),
        None => false,
    };
    match !names.relations.is_empty() && names.relations.iter().all(is_system) {
        true => Scope::System,
        false => Scope::Mixed,
    }
}

struct Rewriter {
    scope: Scope,
}

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        blank_empty_selects(self.scope, &mut query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let mut tables = TableNumbers::of(&select.from);
        let _: ControlFlow<()> = select.visit(&mut tables);
        distinct_from_wildcards(select);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        values_of_subqueries(self.scope, select);
        whole::in_select(select);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        whole::in_query(query);
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        table_factor(factor);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        subquery_of_nothing(self.scope, expr);
        if self.scope == Scope::System {
            system_facts(expr);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        rewrite_expr(expr);
        whole::in_expr(expr);
        ControlFlow::Continue(())
    }
}

fn rewrite_expr(expr: &mut Expr) {
    match expr {
        Expr::Function(function) => function_call(function),
        Expr::BinaryOp { op, .. } => {
            if let Some(plain) = plain_operator(op) {
                *op = plain;
            }
        }
        Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => {
            if let Some(array) = array_literal(right) {
                **right = array;
            }
        }
        _ => {}
    }
    let rewritten = match expr {
        Expr::Function(function) => subquery_array(function).or_else(|| set_returning(function)),
        Expr::Identifier(word) => word_function(word),
        Expr::Collate { expr, .. } => Some(std::mem::replace(expr.as_mut(), null())),
        Expr::Cast {
            expr, data_type, ..
        } => cast(expr, data_type),
        Expr::CompoundFieldAccess { root, access_chain } => field_access(root, access_chain),
        Expr::Like {
            pattern,
            escape_char,
            ..
        }
        | Expr::ILike {
            pattern,
            escape_char,
            ..
        } => {
            like(pattern, escape_char);
            None
        }
        _ => None,
    };
    if let Some(rewritten) = rewritten {
        *expr = rewritten;
    }
}

/// The last part of a name, folded, if what is before it is nothing or a system schema.
pub(super) fn system_name(name: &ObjectName) -> Option<String> {
    let parts: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
    let is_system = |schema: &Ident| {
        let schema = folded(schema);
        schema == "pg_catalog" || schema == "information_schema"
    };
    match parts.as_slice() {
        [name] => Some(folded(name)),
        [schema, name] if is_system(schema) => Some(folded(name)),
        _ => None,
    }
}

pub(super) fn folded(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}

pub(super) fn function_call(function: &mut Function) {
    let Some(name) = system_name(&function.name) else {
        return;
    };
    if function.name.0.len() > 1 {
        function.name = ObjectName::from(vec![Ident::new(&name)]);
    }
    if matches!(function.args, FunctionArguments::None) && WORD_FUNCTIONS.contains(&name.as_str()) {
        function.args = arguments(Vec::new());
    }
}

pub(super) fn word_function(word: &Ident) -> Option<Expr> {
    let name = folded(word);
    let is_word = word.quote_style.is_none() && WORD_FUNCTIONS.contains(&name.as_str());
    is_word.then(|| call(&name, Vec::new()))
}

pub(super) fn plain_operator(op: &BinaryOperator) -> Option<BinaryOperator> {
    let BinaryOperator::PGCustomBinaryOperator(parts) = op else {
        return None;
    };
    let plain = match parts.last()?.as_str() {
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "%" => BinaryOperator::Modulo,
        "||" => BinaryOperator::StringConcat,
        "&" => BinaryOperator::BitwiseAnd,
        "|" => BinaryOperator::BitwiseOr,
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        _ => return None,
    };
    Some(plain)
}
