//! How many columns a query may have.

use std::ops::ControlFlow;

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Select, Visit, Visitor};

use crate::base::limits::RESULT_COLUMNS_MAX;
use crate::error::{Error, Result, SqlState};

/// Refuses SELECT lists that are too long, before anything is planned.
///
/// # Errors
/// 54011, as Postgres.
pub fn refuse_wide(tree: &impl Visit) -> Result<()> {
    struct Lists;
    impl Visitor for Lists {
        type Break = ();

        fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
            match select.projection.len() > RESULT_COLUMNS_MAX {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }
    match tree.visit(&mut Lists) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(too_wide()),
    }
}

/// Refuses a plan whose wildcards make it too wide.
///
/// # Errors
/// 54011, as Postgres.
pub fn refuse_wide_plan(plan: &LogicalPlan) -> Result<()> {
    match plan.schema().fields().len() > RESULT_COLUMNS_MAX {
        true => Err(too_wide()),
        false => Ok(()),
    }
}

fn too_wide() -> Error {
    let message = format!("target lists can have at most {RESULT_COLUMNS_MAX} entries");
    Error::new(SqlState::TOO_MANY_COLUMNS, message).hint("put values into arrays or jsonb")
}
