//! What may stand at a call of a function, by the kind of the function, in Postgres' words.
//!
//! ```text
//!                     DISTINCT   ORDER BY   FILTER   WITHIN GROUP   OVER
//!   lower(x)             no         no        no          no         no
//!   sum(x)              yes        yes       yes     by function    yes
//!   row_number()         no         no        no          no        yes
//! ```
//!
//! The library's planner passes over what is "no" here; what an aggregate takes, it checks itself.

use std::ops::ControlFlow;

use datafusion::logical_expr::planner::ContextProvider;
use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArgumentClause, FunctionArguments, Spanned, Visit,
    Visitor,
};

use crate::error::{Error, Result, SqlState};
use crate::plan::Planner;
use crate::sql::name::fold;

/// Checks every call in a statement or an expression.
///
/// # Errors
/// 42809 or 0A000 with the line and column of the call.
pub(super) fn check_calls(planner: &Planner<'_>, tree: &impl Visit) -> Result<()> {
    match tree.visit(&mut Calls { planner }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Calls<'a> {
    planner: &'a Planner<'a>,
}

impl Visitor for Calls<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        let Some(refused) = self.refused(function) else {
            return ControlFlow::Continue(());
        };
        let start = function.name.span().start;
        ControlFlow::Break(match start.line {
            0 => refused,
            line => refused.place(line, start.column),
        })
    }
}

impl Calls<'_> {
    fn refused(&self, function: &Function) -> Option<Error> {
        let given = Given::of(function);
        if !given.is_anything() {
            return None;
        }
        let [part] = function.name.0.as_slice() else {
            return None;
        };
        let name = fold(part.as_ident()?);
        if self.planner.get_function_meta(&name).is_some() {
            return given.beside_a_value(&name);
        }
        let is_aggregate = self.planner.get_aggregate_meta(&name).is_some();
        match !is_aggregate && self.planner.get_window_meta(&name).is_some() {
            true => given.beside_a_window_function(&name),
            false => None,
        }
    }
}

/// What stands at a call beside its arguments.
struct Given {
    is_distinct: bool,
    is_ordered: bool,
    is_filtered: bool,
    is_within_group: bool,
    is_over: bool,
    treats_nulls: bool,
}

impl Given {
    fn of(function: &Function) -> Given {
        let (duplicates, clauses) = match &function.args {
            FunctionArguments::List(list) => (list.duplicate_treatment, list.clauses.as_slice()),
            FunctionArguments::None | FunctionArguments::Subquery(_) => (None, [].as_slice()),
        };
        let is_ordered =
            |clause: &FunctionArgumentClause| matches!(clause, FunctionArgumentClause::OrderBy(_));
        let treats = |clause: &FunctionArgumentClause| {
            matches!(clause, FunctionArgumentClause::IgnoreOrRespectNulls(_))
        };
        Given {
            is_distinct: matches!(duplicates, Some(DuplicateTreatment::Distinct)),
            is_ordered: clauses.iter().any(is_ordered),
            is_filtered: function.filter.is_some(),
            is_within_group: !function.within_group.is_empty(),
            is_over: function.over.is_some(),
            treats_nulls: function.null_treatment.is_some() || clauses.iter().any(treats),
        }
    }

    fn is_anything(&self) -> bool {
        self.is_distinct
            || self.is_ordered
            || self.is_filtered
            || self.is_within_group
            || self.is_over
            || self.treats_nulls
    }

    fn beside_a_value(&self, name: &str) -> Option<Error> {
        let what = match self {
            Given {
                is_distinct: true, ..
            } => "DISTINCT",
            Given {
                is_within_group: true,
                ..
            } => "WITHIN GROUP",
            Given {
                is_ordered: true, ..
            } => "ORDER BY",
            Given {
                is_filtered: true, ..
            } => "FILTER",
            Given {
                treats_nulls: true, ..
            } => "IGNORE or RESPECT NULLS",
            Given { is_over: true, .. } => {
                let message = format!(
                    "OVER specified, but {name} is not a window function nor an aggregate function"
                );
                return Some(Error::new(SqlState::WRONG_OBJECT_TYPE, message));
            }
            _ => return None,
        };
        let message = format!("{what} specified, but {name} is not an aggregate function");
        Some(Error::new(SqlState::WRONG_OBJECT_TYPE, message))
    }

    fn beside_a_window_function(&self, name: &str) -> Option<Error> {
        if self.is_distinct {
            let message = "DISTINCT is not implemented for window functions";
            return Some(Error::unsupported(message));
        }
        if self.is_ordered {
            let message = "aggregate ORDER BY is not implemented for window functions";
            return Some(Error::unsupported(message).hint("put it into OVER (ORDER BY …)"));
        }
        if self.is_within_group {
            let message =
                format!("WITHIN GROUP specified, but {name} is not an aggregate function");
            return Some(Error::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
        let message = "FILTER is not implemented for non-aggregate window functions";
        self.is_filtered
            .then(|| Error::unsupported(message).hint("leave rows out with WHERE"))
    }
}
