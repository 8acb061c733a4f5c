//! What result columns are called.
//!
//! Postgres names a column without an alias after its function, column or cast, and allows a name
//! twice; DataFusion wants every name of a SELECT list to be unique. So the items without an alias
//! are given one: a unique name inside, Postgres' name outside.

use std::collections::BTreeSet;

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Result, SqlState};
use crate::plan::failure::from_datafusion;

/// The names that a user sees of the query's columns; `None` for items that expand to several
/// columns (`*`), which keep the names of what they expand to.
pub fn display_names(query: &ast::Query) -> Option<Vec<Option<String>>> {
    let ast::SetExpr::Select(select) = leftmost(&query.body) else {
        return None;
    };
    Some(select.projection.iter().map(item_name).collect())
}

/// The relations that a query's text names, common table expressions left out.
pub fn relation_names(query: &ast::Query) -> Result<Vec<String>> {
    let statement = ast::Statement::Query(Box::new(query.clone()));
    let statement = datafusion::sql::parser::Statement::Statement(Box::new(statement));
    let (relations, _) = datafusion::sql::resolve::resolve_table_references(&statement, true)
        .map_err(from_datafusion)?;
    Ok(relations
        .into_iter()
        .map(|relation| relation.table().to_string())
        .collect())
}

/// Gives every item of the outermost SELECT that would clash with another a unique alias. The
/// position of items does not change.
pub fn unique_names(query: &mut ast::Query) {
    let ast::SetExpr::Select(select) = leftmost_mut(&mut query.body) else {
        return;
    };
    let mut seen = BTreeSet::new();
    let count = select.projection.len();
    for (position, item) in select.projection.iter_mut().enumerate() {
        let Some(name) = item_name(item) else {
            continue;
        };
        let is_free = seen.insert(name.clone());
        match item {
            ast::SelectItem::UnnamedExpr(expr) => {
                let is_plain = matches!(
                    expr,
                    ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_)
                );
                if is_plain && is_free {
                    continue;
                }
                let alias = match is_free {
                    true => name,
                    false => format!("{name}:{position}"),
                };
                seen.insert(alias.clone());
                *item = ast::SelectItem::ExprWithAlias {
                    expr: expr.clone(),
                    alias: ast::Ident::with_quote('"', alias),
                };
            }
            ast::SelectItem::ExprWithAlias { alias, .. } if !is_free && count > 1 => {
                *alias = ast::Ident::with_quote('"', format!("{name}:{position}"));
            }
            _ => {}
        }
    }
}

fn leftmost(body: &ast::SetExpr) -> &ast::SetExpr {
    match body {
        ast::SetExpr::SetOperation { left, .. } => leftmost(left),
        ast::SetExpr::Query(query) => leftmost(&query.body),
        other => other,
    }
}

fn leftmost_mut(body: &mut ast::SetExpr) -> &mut ast::SetExpr {
    match body {
        ast::SetExpr::SetOperation { left, .. } => leftmost_mut(left),
        ast::SetExpr::Query(query) => leftmost_mut(&mut query.body),
        other => other,
    }
}

fn item_name(item: &ast::SelectItem) -> Option<String> {
    match item {
        ast::SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        ast::SelectItem::UnnamedExpr(expr) => {
            Some(expression_name(expr).unwrap_or_else(|| "?column?".to_string()))
        }
        _ => None,
    }
}

/// Postgres' `FigureColname` (parse_target.c), for the expressions that have a name there.
fn expression_name(expr: &ast::Expr) -> Option<String> {
    use ast::Expr::{
        AtTimeZone, Case, Cast, Ceil, Collate, CompoundIdentifier, Exists, Extract, Floor,
        Function, Identifier, Nested, Position, Substring, Trim,
    };
    match expr {
        Identifier(name) => Some(folded(name)),
        CompoundIdentifier(parts) => parts.last().map(folded),
        Function(function) => {
            let last = function.name.0.last()?;
            last.as_ident().map(folded)
        }
        Cast {
            expr, data_type, ..
        } => expression_name(expr).or_else(|| Some(cast_name(data_type))),
        Nested(expr) | Collate { expr, .. } => expression_name(expr),
        Case { else_result, .. } => {
            let inner = else_result.as_deref().and_then(|expr| match expr {
                Identifier(_) | CompoundIdentifier(_) => expression_name(expr),
                _ => None,
            });
            Some(inner.unwrap_or_else(|| "case".to_string()))
        }
        Exists { .. } => Some("exists".to_string()),
        Extract { .. } => Some("extract".to_string()),
        Substring { .. } => Some("substring".to_string()),
        Position { .. } => Some("position".to_string()),
        Trim { .. } => Some("btrim".to_string()),
        Ceil { .. } => Some("ceil".to_string()),
        Floor { .. } => Some("floor".to_string()),
        AtTimeZone { .. } => Some("timezone".to_string()),
        ast::Expr::Subquery(query) => display_names(query)?.into_iter().next()?,
        ast::Expr::Array(_) => Some("array".to_string()),
        _ => None,
    }
}

fn cast_name(data_type: &ast::DataType) -> String {
    match crate::plan::literal::sql_type(data_type) {
        Ok(known) => match known.to_string().split('(').next().unwrap_or("") {
            "bigint" => "int8",
            "integer" => "int4",
            "smallint" => "int2",
            "boolean" => "bool",
            "double precision" => "float8",
            "real" => "float4",
            "character varying" => "varchar",
            "timestamp with time zone" => "timestamptz",
            "timestamp without time zone" => "timestamp",
            "time without time zone" => "time",
            other => other,
        }
        .to_string(),
        Err(_) => data_type.to_string().to_lowercase(),
    }
}

fn folded(name: &ast::Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}

/// The names of the output: given ones, else what Postgres would call them.
pub(super) fn output_names(
    plan: &LogicalPlan,
    display: Option<&[Option<String>]>,
    given: &[String],
) -> Result<Vec<String>> {
    let fields = plan.schema().fields();
    let mut names: Vec<String> = match display {
        Some(items) if items.len() == fields.len() => items
            .iter()
            .zip(fields)
            .map(|(item, field)| item.clone().unwrap_or_else(|| field.name().clone()))
            .collect(),
        _ => fields.iter().map(|field| field.name().clone()).collect(),
    };
    if given.len() > names.len() {
        return Err(Error::new(
            SqlState::SYNTAX_ERROR,
            format!(
                "the view has {} column names but its query {} columns",
                given.len(),
                names.len()
            ),
        ));
    }
    for (name, given) in names.iter_mut().zip(given) {
        name.clone_from(given);
    }
    Ok(names)
}

/// A relation's columns have names of their own.
pub(super) fn refuse_twice(names: &[String]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        None => Ok(()),
        Some(twice) => Err(Error::new(
            SqlState::DUPLICATE_COLUMN,
            format!("column \"{twice}\" specified more than once"),
        )
        .hint("give it another name with AS")),
    }
}
