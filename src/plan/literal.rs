//! Type names and constants out of the library's syntax tree.

use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Result, SqlState};
use crate::types::SqlType;

/// The type that a type name in a statement means.
pub fn sql_type(data_type: &ast::DataType) -> Result<SqlType> {
    SqlType::parse(&data_type.to_string())
}

/// The text of a constant expression: a literal with an optional sign.
pub fn literal_value(expr: &ast::Expr) -> Result<String> {
    match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(text, _) => Ok(text.to_string()),
            ast::Value::SingleQuotedString(text) => Ok(text.clone()),
            ast::Value::Boolean(value) => Ok(value.to_string()),
            other => Err(not_constant(other)),
        },
        ast::Expr::UnaryOp {
            op: ast::UnaryOperator::Minus,
            expr,
        } => Ok(format!("-{}", literal_value(expr)?)),
        other => Err(not_constant(other)),
    }
}

fn not_constant(what: impl std::fmt::Display) -> Error {
    Error::new(
        SqlState::SYNTAX_ERROR,
        format!("expected a constant, found {what}"),
    )
}
