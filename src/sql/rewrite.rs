//! The one set of rewrites that every query in every statement goes through.
//!
//! Afterwards the tree holds only what DataFusion's planner, with our relation planner for
//! windows, understands: windows have the one shape of [`crate::sql::window`], `GROUP BY
//! TUMBLE(…)` has become such a window ([`crate::sql::group_window`]), `TABLE(f(…))` is `f(…)`,
//! and long chains are shallow ([`crate::sql::depth`]). What has no meaning is refused with its
//! place, clauses that nothing answers in [`crate::sql::clauses`].

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, ObjectName, Query, Select, SetExpr, TableAlias, TableFactor, Visit, VisitMut,
    VisitorMut,
};

use crate::error::{Error, Result, SqlState};
use crate::sql::clauses;
use crate::sql::depth::Flattener;
use crate::sql::group_window;
use crate::sql::position::Positions;
use crate::sql::window::{WindowCall, function_factor, kind_of};

/// Rewrites all queries inside `node`.
///
/// # Errors
/// 0A000, 42601, 42803, 42883 or 54001, with the place of what cannot be rewritten.
pub(super) fn rewrite(node: &mut (impl Visit + VisitMut), positions: &Positions) -> Result<()> {
    // First, because the others copy and compare what they find.
    broken(VisitMut::visit(node, &mut Flattener::new()))?;
    // What a rewrite takes apart would be gone.
    clauses::refuse(node, positions)?;
    broken(VisitMut::visit(node, &mut Rewriter { positions }))
}

fn broken(flow: ControlFlow<Error>) -> Result<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Rewriter<'a> {
    positions: &'a Positions,
}

impl Rewriter<'_> {
    fn mark(&self, name: &ObjectName, error: Error) -> Error {
        match name.0.first().and_then(|part| part.as_ident()) {
            Some(ident) => self.positions.of(ident.span).mark(error),
            None => error,
        }
    }

    fn table_factor(&self, factor: &mut TableFactor) -> Result<()> {
        match factor {
            TableFactor::TableFunction { expr, alias } => {
                if let Some(rewritten) = self.table_function(expr, alias) {
                    *factor = rewritten;
                    return self.table_factor(factor);
                }
                Ok(())
            }
            TableFactor::Function {
                lateral: true,
                name,
                ..
            } if kind_of(name).is_some() => {
                let error = Error::unsupported("a window after LATERAL is not supported")
                    .hint("a window depends on no other table: leave LATERAL out");
                Err(self.mark(name, error))
            }
            TableFactor::Table {
                name,
                alias,
                args: Some(args),
                with_ordinality,
                ..
            } => {
                let Some(kind) = kind_of(name) else {
                    return Ok(());
                };
                if *with_ordinality {
                    let error = Error::unsupported("WITH ORDINALITY on a window is not supported");
                    return Err(self.mark(name, error));
                }
                let call = WindowCall::read(kind, std::mem::take(&mut args.args))
                    .map_err(|error| self.mark(name, error))?;
                *factor = call.into_table_factor(alias.take());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// `TABLE(f(…))`.
    fn table_function(&self, expr: &Expr, alias: &Option<TableAlias>) -> Option<TableFactor> {
        let Expr::Function(function) = expr else {
            return None;
        };
        let mut factor = function_factor(function.clone())?;
        if let TableFactor::Table { alias: place, .. } = &mut factor {
            place.clone_from(alias);
        }
        Some(factor)
    }

    /// A window's name where only expressions can be.
    fn expression(&self, function: &Function) -> Result<()> {
        let error = match kind_of(&function.name) {
            Some(kind) => {
                let message = format!("{} is a table function", kind.name());
                Error::new(SqlState::WRONG_OBJECT_TYPE, message).hint(format!(
                    "write FROM {}, or GROUP BY {0}(time, …)",
                    kind.name()
                ))
            }
            None => match group_window::bound_of(&function.name) {
                Some(name) => {
                    let message = format!("{name} needs the same window in GROUP BY");
                    Error::new(SqlState::GROUPING_ERROR, message)
                        .hint("group by the window, or use window_start of a window in FROM")
                }
                None => return Ok(()),
            },
        };
        Err(self.mark(&function.name, error))
    }
}

fn flow(result: Result<()>) -> ControlFlow<Error> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

impl VisitorMut for Rewriter<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        let Query { body, order_by, .. } = query;
        match body.as_mut() {
            SetExpr::Select(select) => flow(group_window::rewrite(
                select,
                order_by.as_mut(),
                self.positions,
            )),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        flow(group_window::rewrite(select, None, self.positions))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        flow(self.table_factor(factor))
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::Function(function) => flow(self.expression(function)),
            _ => ControlFlow::Continue(()),
        }
    }
}
