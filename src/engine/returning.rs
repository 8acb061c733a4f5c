//! RETURNING: a SELECT list over the rows that a statement has written.
//!
//! The rows are a relation of the statement alone, under the table's name or alias; subqueries see
//! everything else as it was before the statement.

use arrow::array::RecordBatch;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;

use crate::catalog::Object;
use crate::engine::query::{PlannedQuery, Reading};
use crate::error::{Error, Result, SqlState};
use crate::plan::from_datafusion;
use crate::sql::ast;
use crate::sql::statement::Statement;

/// The relation of the written rows: no text has such a name.
const WRITTEN: &str = "\0written";

/// What a statement wants to see of the rows that it writes.
fn items(statement: &Statement) -> Option<&[ast::SelectItem]> {
    match statement {
        Statement::Insert(insert) => insert.returning.as_deref(),
        Statement::Update(update) => update.returning.as_deref(),
        Statement::Delete(delete) => delete.returning.as_deref(),
        _ => None,
    }
}

/// What the statement calls its table, where it has another name for it.
fn alias(statement: &Statement) -> Option<ast::Ident> {
    let of_factor = |factor: &ast::TableFactor| match factor {
        ast::TableFactor::Table { alias, .. } => alias.as_ref().map(|alias| alias.name.clone()),
        _ => None,
    };
    match statement {
        Statement::Insert(insert) => insert.table_alias.as_ref().map(|alias| alias.alias.clone()),
        Statement::Update(update) => of_factor(&update.table.relation),
        Statement::Delete(delete) => match &delete.from {
            ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from) => {
                from.first().and_then(|table| of_factor(&table.relation))
            }
        },
        _ => None,
    }
}

/// Plans what a statement returns of the rows that it has written; `None` where it returns none.
///
/// # Errors
/// Those of planning a SELECT; 42803 and 42P20 for functions of many rows.
pub(super) fn plan(
    reading: &Reading<'_>,
    statement: &Statement,
    object: &Object,
    written: RecordBatch,
) -> Result<Option<PlannedQuery>> {
    let Some(items) = items(statement) else {
        return Ok(None);
    };
    let parsed = crate::sql::parse_single("SELECT 0 FROM written AS t")?;
    let Some(Statement::Query(query)) = parsed.map(|parsed| parsed.statement) else {
        return Err(Error::internal("a SELECT that is none"));
    };
    let mut query = query.as_ref().clone();
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items.to_vec();
        for table in &mut select.from {
            if let ast::TableFactor::Table {
                name, alias: of, ..
            } = &mut table.relation
            {
                *name = ast::ObjectName::from(vec![ast::Ident::with_quote('"', WRITTEN)]);
                if let Some(of) = of {
                    let named = || ast::Ident::with_quote('"', object.name());
                    of.name = alias(statement).unwrap_or_else(named);
                }
            }
        }
    }
    reading.give(WRITTEN, written);
    let planned = reading.plan(&query)?;
    refuse_sets(&planned.plan)?;
    Ok(Some(planned))
}

/// Refuses functions of many rows; those in subqueries are over other rows.
fn refuse_sets(plan: &LogicalPlan) -> Result<()> {
    let mut refused = None;
    let visited = plan.apply(|plan| {
        refused = match plan {
            LogicalPlan::Aggregate(_) => Some((
                SqlState::GROUPING_ERROR,
                "aggregate functions are not allowed in RETURNING",
            )),
            LogicalPlan::Window(_) => Some((
                SqlState::WINDOWING_ERROR,
                "window functions are not allowed in RETURNING",
            )),
            // What is below stands in FROM.
            LogicalPlan::SubqueryAlias(_) => return Ok(TreeNodeRecursion::Jump),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        Ok(TreeNodeRecursion::Stop)
    });
    visited.map_err(from_datafusion)?;
    match refused {
        None => Ok(()),
        Some((state, message)) => Err(Error::new(state, message)),
    }
}
