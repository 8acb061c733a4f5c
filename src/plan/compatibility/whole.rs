//! Whole numbers of the text that are values by themselves: an `integer` if they fit.
//!
//! ```text
//!   SELECT 1, CASE WHEN a THEN 1 ELSE 0 END      SELECT CAST(1 AS integer), CASE … THEN CAST(1 …
//!   VALUES (1), (3000000000)                     the one an integer, the column a bigint
//! ```
//!
//! The library takes them for `bigint`. Operands of arithmetic are typed when they are planned;
//! arguments of functions stay what they are, since some have to be constants. The queries of views
//! do not come here: the types of their columns are on disk.

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query, Select,
    SelectItem, SetExpr, UnaryOperator, Value,
};

use crate::plan::compatibility::system_name;
use crate::plan::compatibility::tree::null;

/// The items of a SELECT list.
pub(super) fn in_select(select: &mut Select) {
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            narrow(expr);
        }
    }
}

/// The cells of VALUES.
pub(super) fn in_query(query: &mut Query) {
    in_body(&mut query.body);
}

fn in_body(body: &mut SetExpr) {
    match body {
        SetExpr::Values(values) => {
            let cells = values.rows.iter_mut().flat_map(|row| &mut row.content);
            cells.for_each(narrow);
        }
        SetExpr::SetOperation { left, right, .. } => {
            in_body(left);
            in_body(right);
        }
        _ => {}
    }
}

/// The results of a CASE, the elements of an array, and what is asked for its type.
pub(super) fn in_expr(expr: &mut Expr) {
    match expr {
        Expr::Case {
            conditions,
            else_result,
            ..
        } => {
            for branch in conditions {
                narrow(&mut branch.result);
            }
            if let Some(otherwise) = else_result {
                narrow(otherwise);
            }
        }
        Expr::Array(array) => array.elem.iter_mut().for_each(narrow),
        Expr::Function(function) if system_name(&function.name).as_deref() == Some("pg_typeof") => {
            if let FunctionArguments::List(list) = &mut function.args {
                for argument in &mut list.args {
                    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument {
                        narrow(expr);
                    }
                }
            }
        }
        _ => {}
    }
}

fn narrow(expr: &mut Expr) {
    if is_integer(expr) {
        *expr = Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(std::mem::replace(expr, null())),
            data_type: DataType::Integer(None),
            array: false,
            format: None,
        };
    }
}

fn is_integer(expr: &Expr) -> bool {
    let text = match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) => text.to_string(),
            _ => return false,
        },
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => match expr.as_ref() {
            Expr::Value(value) => match &value.value {
                Value::Number(text, _) => format!("-{text}"),
                _ => return false,
            },
            _ => return false,
        },
        _ => return false,
    };
    text.replace('_', "").parse::<i32>().is_ok()
}
