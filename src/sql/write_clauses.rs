//! The clauses of INSERT, UPDATE and DELETE that nothing answers: see
//! [`clauses`](crate::sql::clauses), of which this is a part.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, DoUpdate, Expr, FromTable, Insert, OnConflict,
    OnConflictAction, OnInsert, Query, SelectItem, Spanned, TableObject, Update, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::error::{Error, SqlState};
use crate::sql::clauses::{Checked, first, no, unsupported};
use crate::sql::name::fold;

const OUTPUT: (&str, &str) = ("OUTPUT", "write RETURNING at the end");
const REPLACES: (&str, &str) = (
    "INSERT that replaces or passes over rows",
    "write ON CONFLICT behind the rows, or DELETE first",
);

/// INSERT. What RETURNING names is planned with the statement.
pub(super) fn check_insert(insert: &Insert) -> Checked {
    let Insert {
        insert_token,
        // Comments.
        optimizer_hints: _,
        or,
        ignore,
        // Words that may be left out.
        into: _,
        has_table_keyword: _,
        table,
        table_alias: _,
        columns: _,
        overwrite,
        source: _,
        assignments,
        partitioned,
        after_columns,
        on,
        returning,
        output,
        replace_into,
        priority,
        insert_alias,
        settings,
        format_clause,
        multi_table_insert_type,
        multi_table_into_clauses,
        multi_table_when_clauses,
        multi_table_else_clause,
    } = insert;
    let start = insert_token.0.span;
    match table {
        TableObject::TableName(_) => {}
        TableObject::TableFunction(_) | TableObject::TableQuery(_) => {
            let hint = "name a table or an embedded topic";
            return Err((start, unsupported("INSERT into this", hint)));
        }
    }
    let replaces = or.is_some() || *ignore || *overwrite || *replace_into;
    no(
        replaces || partitioned.is_some(),
        || start,
        REPLACES.0,
        REPLACES.1,
    )?;
    let hint = "name the columns before VALUES or SELECT";
    no(!assignments.is_empty(), || start, "INSERT … SET", hint)?;
    no(
        !after_columns.is_empty(),
        || start,
        "columns behind PARTITION",
        hint,
    )?;
    check_on_conflict(on.as_ref(), start)?;
    check_returning(returning.as_deref())?;
    no(output.is_some(), || start, OUTPUT.0, OUTPUT.1)?;
    no(
        priority.is_some(),
        || start,
        "a priority of INSERT",
        "leave it out",
    )?;
    no(
        insert_alias.is_some(),
        || start,
        "an alias of the new rows",
        "",
    )?;
    no(settings.is_some(), || start, "SETTINGS", "use SET")?;
    no(
        format_clause.is_some(),
        || start,
        "INSERT … FORMAT",
        "use COPY … FROM STDIN",
    )?;
    let is_multiple = multi_table_insert_type.is_some()
        || !multi_table_into_clauses.is_empty()
        || !multi_table_when_clauses.is_empty()
        || multi_table_else_clause.is_some();
    let hint = "write one INSERT for each table, between BEGIN and COMMIT";
    no(is_multiple, || start, "INSERT into several tables", hint)
}

pub(super) fn check_update(update: &Update) -> Checked {
    let Update {
        update_token,
        // Comments.
        optimizer_hints: _,
        table,
        assignments,
        from,
        selection: _,
        returning,
        output,
        or,
        order_by,
        limit,
    } = update;
    let start = update_token.0.span;
    // A row that two rows are joined with would be changed twice.
    let is_joined = !table.joins.is_empty() || from.is_some();
    let hint = "use SET column = (SELECT …) and WHERE EXISTS (SELECT …)";
    no(
        is_joined,
        || first(from, start),
        "UPDATE with other tables",
        hint,
    )?;
    no(
        or.is_some(),
        || start,
        "UPDATE OR …",
        "name the rows in WHERE",
    )?;
    let is_cut = !order_by.is_empty() || limit.is_some();
    let span = first(order_by, first(limit, start));
    no(
        is_cut,
        || span,
        "UPDATE with ORDER BY or LIMIT",
        "name the rows in WHERE",
    )?;
    check_returning(returning.as_deref())?;
    no(output.is_some(), || start, OUTPUT.0, OUTPUT.1)?;
    check_assignments(assignments)
}

/// What becomes of a row whose key is there already.
fn check_on_conflict(on: Option<&OnInsert>, start: Span) -> Checked {
    let conflict = match on {
        None => return Ok(()),
        Some(OnInsert::OnConflict(conflict)) => conflict,
        Some(_) => {
            let hint = "write ON CONFLICT (key) DO UPDATE SET column = excluded.column";
            return Err((start, unsupported("ON DUPLICATE KEY UPDATE", hint)));
        }
    };
    let OnConflict {
        conflict_target,
        action,
    } = conflict;
    let DoUpdate {
        assignments,
        selection: _,
    } = match action {
        OnConflictAction::DoNothing => return Ok(()),
        OnConflictAction::DoUpdate(update) => update,
    };
    if conflict_target.is_none() {
        let message = "ON CONFLICT DO UPDATE requires inference specification or constraint name";
        let error = Error::new(SqlState::SYNTAX_ERROR, message);
        return Err((start, error.hint("for example, ON CONFLICT (column_name)")));
    }
    check_assignments(assignments)
}

fn check_returning(items: Option<&[SelectItem]>) -> Checked {
    for item in items.unwrap_or_default() {
        if let ControlFlow::Break(span) = item.visit(&mut Sets { queries: 0 }) {
            let message = "set-returning functions are not allowed in RETURNING";
            return Err((span, Error::unsupported(message)));
        }
    }
    Ok(())
}

fn check_assignments(assignments: &[Assignment]) -> Checked {
    let mut names: Vec<String> = Vec::with_capacity(assignments.len());
    for assignment in assignments {
        let Assignment { target, value } = assignment;
        // A row with several new values would be removed as often.
        if let ControlFlow::Break(span) = value.visit(&mut Sets { queries: 0 }) {
            let message = "set-returning functions are not allowed in UPDATE";
            return Err((span, Error::unsupported(message)));
        }
        let parts = match target {
            AssignmentTarget::ColumnName(name) => &name.0,
            AssignmentTarget::Tuple(names) => {
                let hint = "set each column by itself: SET a = …, b = …";
                let span = first(names, target.span());
                return Err((span, unsupported("SET of several columns at once", hint)));
            }
        };
        let span = first(parts, target.span());
        let folded = parts.iter().filter_map(|part| part.as_ident()).map(fold);
        let name = match folded.collect::<Vec<_>>().as_slice() {
            [name] => name.clone(),
            // What stands before a dot is a column to Postgres, and its field behind it.
            [column, ..] => {
                let message = format!("column \"{column}\" of the relation does not exist");
                let error = Error::new(SqlState::UNDEFINED_COLUMN, message)
                    .hint("SET target columns cannot be qualified with the relation name");
                return Err((span, error));
            }
            [] => continue,
        };
        if names.contains(&name) {
            let message = format!("multiple assignments to same column \"{name}\"");
            return Err((span, Error::new(SqlState::SYNTAX_ERROR, message)));
        }
        names.push(name);
    }
    Ok(())
}

/// Finds a function that returns a set, outside of subqueries.
struct Sets {
    /// How many subqueries deep it is.
    queries: usize,
}

impl Visitor for Sets {
    type Break = Span;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Span> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Span> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Span> {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        let name = function.name.0.last().and_then(|part| part.as_ident());
        let is_set = name.is_some_and(|name| SETS.contains(&fold(name).as_str()));
        match is_set && self.queries == 0 {
            true => ControlFlow::Break(function.name.span()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Functions that return sets.
const SETS: [&str; 4] = [
    "generate_series",
    "generate_subscripts",
    "string_to_table",
    "unnest",
];

pub(super) fn check_delete(delete: &Delete) -> Checked {
    let Delete {
        delete_token,
        // Comments.
        optimizer_hints: _,
        tables,
        from,
        using,
        selection: _,
        returning,
        output,
        order_by,
        limit,
    } = delete;
    let start = delete_token.0.span;
    let from = match from {
        FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from) => from,
    };
    let is_joined = from.len() != 1 || from.iter().any(|table| !table.joins.is_empty());
    let is_joined = is_joined || using.is_some() || !tables.is_empty();
    let span = first(using.iter().flatten(), start);
    no(
        is_joined,
        || span,
        "DELETE with other tables",
        "use WHERE EXISTS (SELECT …)",
    )?;
    let is_cut = !order_by.is_empty() || limit.is_some();
    let span = first(order_by, first(limit, start));
    no(
        is_cut,
        || span,
        "DELETE with ORDER BY or LIMIT",
        "name the rows in WHERE",
    )?;
    check_returning(returning.as_deref())?;
    no(output.is_some(), || start, OUTPUT.0, OUTPUT.1)
}
