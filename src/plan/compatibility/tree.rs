//! Small trees, to be put in the places of others.

use datafusion::sql::sqlparser::ast::{
    Array, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, ObjectName, Value,
};

pub(super) fn unnested(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => unnested(inner),
        other => other,
    }
}

pub(super) fn null() -> Expr {
    Expr::Value(Value::Null.into())
}

pub(super) fn boolean(value: bool) -> Expr {
    Expr::Value(Value::Boolean(value).into())
}

pub(super) fn number(value: u32) -> Expr {
    Expr::Value(Value::Number(value.to_string(), false).into())
}

pub(super) fn string(text: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_string()).into())
}

pub(super) fn no_elements() -> Expr {
    Expr::Array(Array {
        elem: Vec::new(),
        named: true,
    })
}

/// An array of texts without elements.
pub(super) fn empty_array() -> Expr {
    call("array_or_empty", vec![null()])
}

pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
    Expr::Function(plain_function(name, args))
}

pub(super) fn plain_function(name: &str, args: Vec<Expr>) -> Function {
    Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: arguments(args),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}

pub(super) fn arguments(args: Vec<Expr>) -> FunctionArguments {
    let args = args
        .into_iter()
        .map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    FunctionArguments::List(FunctionArgumentList {
        duplicate_treatment: None,
        args: args.collect(),
        clauses: Vec::new(),
    })
}
