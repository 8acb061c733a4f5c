//! `GROUP BY TUMBLE(ts, size)` of older Flink, rewritten to a window in FROM.
//!
//! ```text
//! SELECT k, TUMBLE_START(ts, i), count(*)     SELECT k, window_start AS tumble_start, count(*)
//! FROM bids AS b                         ──►  FROM TUMBLE((SELECT * FROM bids AS b), ts, i)
//! WHERE p                                     WHERE p
//! GROUP BY TUMBLE(ts, i), k                   GROUP BY window_start, window_end, k
//! ```
//!
//! All of FROM, joins included, becomes the window's input; its columns keep their qualifiers.
//! WHERE stays outside, where a correlated condition is still understood; for SESSION it goes
//! inside, because rows that are filtered out must not keep a session open, and the other group
//! keys become the session's keys.
//!
//! Refused: more than one window in GROUP BY, a window inside ROLLUP, CUBE or GROUPING SETS, bounds
//! of another window than the one grouped by, and for SESSION a key that is the name of a computed
//! output column. If FROM already has a column `window_start`, the name is ambiguous and the
//! planner says so: use a window in FROM for the outer one.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident,
    ObjectName, ObjectNamePart, OrderBy, OrderByKind, Query, Select, SelectItem, TableWithJoins,
    Value, VisitMut, VisitorMut,
};

use crate::error::{Error, Result, SqlState};
use crate::sql::name::fold;
use crate::sql::position::Positions;
use crate::sql::window::{WindowCall, WindowKind, kind_of, select_all};

/// The function's name, if it is the bound of a grouped window: `TUMBLE_START`, `HOP_END`.
pub(super) fn bound_of(name: &ObjectName) -> Option<String> {
    let name = simple_name(name)?.to_ascii_uppercase();
    let (kind, _) = name.split_once('_')?;
    let suffix = &name[kind.len() + 1..];
    let is_bound = matches!(suffix, "START" | "END" | "ROWTIME" | "PROCTIME");
    (is_bound && WindowKind::from_name(kind).is_some()).then_some(name)
}

/// Rewrites `select` if it groups by a window; `order_by` is that of the query it is the body of.
///
/// # Errors
/// See the refusals above: 0A000 and 42803.
pub(super) fn rewrite(
    select: &mut Select,
    order_by: Option<&mut OrderBy>,
    positions: &Positions,
) -> Result<()> {
    let GroupByExpr::Expressions(keys, modifiers) = &mut select.group_by else {
        return Ok(());
    };
    let windows: Vec<usize> = (0..keys.len())
        .filter(|index| is_window(&keys[*index]))
        .collect();
    let [index] = windows[..] else {
        return match windows.get(1) {
            Some(second) => Err(refused(
                &keys[*second],
                positions,
                "grouping by two windows",
            )),
            None => Ok(()),
        };
    };
    if !modifiers.is_empty() {
        return Err(refused(
            &keys[index],
            positions,
            "a window with WITH ROLLUP or CUBE",
        ));
    }
    let bounds = ["window_start", "window_end"].map(|name| Expr::Identifier(Ident::new(name)));
    let removed = keys.splice(index..=index, bounds).next();
    let Some(Expr::Function(function)) = removed else {
        return Err(Error::internal(
            "the window to group by is no function call",
        ));
    };
    let window = GroupedWindow::of(function, positions)?;
    window.replace_bounds(select, order_by)?;
    window.move_into_from(select, index)
}

fn refused(key: &Expr, positions: &Positions, what: &str) -> Error {
    let error = Error::unsupported(format!("{what} is not supported"))
        .hint("use a window in FROM and group by window_start and window_end");
    match key {
        Expr::Function(function) => mark(&function.name, positions, error),
        _ => error,
    }
}

fn mark(name: &ObjectName, positions: &Positions, error: Error) -> Error {
    match name.0.first().and_then(ObjectNamePart::as_ident) {
        Some(ident) => positions.of(ident.span).mark(error),
        None => error,
    }
}

fn is_window(key: &Expr) -> bool {
    matches!(key, Expr::Function(function) if kind_of(&function.name).is_some())
}

fn simple_name(name: &ObjectName) -> Option<&str> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => Some(&ident.value),
        _ => None,
    }
}

struct GroupedWindow<'a> {
    kind: WindowKind,
    name: ObjectName,
    /// Without the table, which is FROM.
    args: Vec<FunctionArg>,
    positions: &'a Positions,
}

impl<'a> GroupedWindow<'a> {
    fn of(function: Function, positions: &'a Positions) -> Result<Self> {
        let name = function.name;
        match (kind_of(&name), function.args) {
            (Some(kind), FunctionArguments::List(list)) => Ok(GroupedWindow {
                kind,
                name,
                args: list.args,
                positions,
            }),
            _ => {
                let error = Error::new(SqlState::SYNTAX_ERROR, "a window needs its arguments");
                Err(mark(&name, positions, error))
            }
        }
    }

    fn replace_bounds(&self, select: &mut Select, order_by: Option<&mut OrderBy>) -> Result<()> {
        for item in &mut select.projection {
            // Postgres names the column of a bare call after the function.
            let alias = match item {
                SelectItem::UnnamedExpr(Expr::Function(function)) => bound_of(&function.name),
                _ => None,
            };
            self.replace(item)?;
            match (alias, &mut *item) {
                (Some(alias), SelectItem::UnnamedExpr(expr)) => {
                    let alias = Ident::new(alias.to_ascii_lowercase());
                    let expr = expr.clone();
                    *item = SelectItem::ExprWithAlias { expr, alias };
                }
                _ => continue,
            }
        }
        self.replace(&mut select.having)?;
        self.replace(&mut select.qualify)?;
        match order_by.map(|order_by| &mut order_by.kind) {
            Some(OrderByKind::Expressions(exprs)) => self.replace(exprs),
            Some(OrderByKind::All(_)) | None => Ok(()),
        }
    }

    fn replace(&self, node: &mut impl VisitMut) -> Result<()> {
        match node.visit(&mut BoundReplacer {
            window: self,
            depth: 0,
        }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    /// What stands for a bound's call, or `None` if `function` is none.
    fn bound(&self, function: &Function) -> Result<Option<Expr>> {
        let Some(name) = bound_of(&function.name) else {
            return Ok(None);
        };
        let column = match name.strip_prefix(self.kind.name()) {
            Some("_START") => "window_start",
            Some("_END") => "window_end",
            Some(_) => {
                let error = Error::unsupported(format!("{name} is not supported"))
                    .hint("use the window's start or end");
                return Err(mark(&function.name, self.positions, error));
            }
            // The bound of another kind; the rewriter refuses it.
            None => return Ok(None),
        };
        let is_same = match &function.args {
            FunctionArguments::List(list) => list.args.is_empty() || list.args == self.args,
            FunctionArguments::None | FunctionArguments::Subquery(_) => false,
        };
        if !is_same {
            let message = format!("{name} is of another window than the one in GROUP BY");
            let error = Error::new(SqlState::GROUPING_ERROR, message)
                .hint("give it the same arguments, or none");
            return Err(mark(&function.name, self.positions, error));
        }
        let mut column = Ident::new(column);
        if let Some(ident) = function.name.0.first().and_then(ObjectNamePart::as_ident) {
            column.span = ident.span;
        }
        Ok(Some(Expr::Identifier(column)))
    }

    /// `index` is the place of the window's bounds among the group keys.
    fn move_into_from(mut self, select: &mut Select, index: usize) -> Result<()> {
        if select.from.is_empty() {
            let error = Error::new(SqlState::GROUPING_ERROR, "a window needs a table in FROM");
            return Err(mark(&self.name, self.positions, error));
        }
        let keys = match self.kind {
            WindowKind::Session => self.session_keys(select, index)?,
            WindowKind::Tumble | WindowKind::Hop | WindowKind::Cumulate => Vec::new(),
        };
        let selection = match self.kind {
            WindowKind::Session => select.selection.take(),
            WindowKind::Tumble | WindowKind::Hop | WindowKind::Cumulate => None,
        };
        let input = select_all(std::mem::take(&mut select.from), selection);
        let mut args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Subquery(
            Box::new(input),
        )))];
        args.append(&mut self.args);
        let mut call = WindowCall::read(self.kind, args)
            .map_err(|error| mark(&self.name, self.positions, error))?;
        call.partition_by.extend(keys);
        let relation = call.into_table_factor(None);
        select.from = vec![TableWithJoins {
            relation,
            joins: Vec::new(),
        }];
        Ok(())
    }

    /// The group keys beside the window, as expressions over FROM.
    fn session_keys(&self, select: &Select, index: usize) -> Result<Vec<Expr>> {
        let GroupByExpr::Expressions(keys, _) = &select.group_by else {
            return Ok(Vec::new());
        };
        let others = keys
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != index && *at != index + 1);
        others
            .map(|(_, key)| self.session_key(select, key))
            .collect()
    }

    fn session_key(&self, select: &Select, key: &Expr) -> Result<Expr> {
        let unsupported = |what: &str| {
            let error = Error::unsupported(format!("{what} beside SESSION is not supported"))
                .hint("write the key's expression itself in GROUP BY");
            mark(&self.name, self.positions, error)
        };
        match key {
            Expr::Value(value) if matches!(value.value, Value::Number(..)) => {
                let item = value.to_string().parse::<usize>().ok();
                let item = item.and_then(|number| select.projection.get(number.checked_sub(1)?));
                match item {
                    Some(SelectItem::UnnamedExpr(expr))
                    | Some(SelectItem::ExprWithAlias { expr, .. }) => Ok(expr.clone()),
                    _ => Err(unsupported("a column number")),
                }
            }
            Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_) => {
                Err(unsupported("ROLLUP, CUBE or GROUPING SETS"))
            }
            Expr::Identifier(name) if is_computed(select, name) => {
                Err(unsupported("the name of a computed column"))
            }
            key => Ok(key.clone()),
        }
    }
}

/// Whether the name is given to an expression, so that it is no column of FROM.
fn is_computed(select: &Select, name: &Ident) -> bool {
    select.projection.iter().any(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } => {
            let is_column = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
            fold(alias) == fold(name) && !is_column
        }
        _ => false,
    })
}

/// Replaces bounds in the expressions of one SELECT; subqueries have their own.
struct BoundReplacer<'a> {
    window: &'a GroupedWindow<'a>,
    depth: usize,
}

impl VisitorMut for BoundReplacer<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let Expr::Function(function) = &*expr else {
            return ControlFlow::Continue(());
        };
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        match self.window.bound(function) {
            Ok(Some(column)) => *expr = column,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}
