//! Functions that return sets or take subqueries, member access, patterns.

use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, Expr, Function, FunctionArgumentClause, FunctionArguments, OrderByKind,
    Query, SelectItem, SetExpr, Value,
};

use crate::plan::compatibility::tree::{call, null, plain_function, string};
use crate::plan::compatibility::{folded, system_name};

/// `ARRAY(SELECT …)` as an aggregate of the subquery's rows.
pub(super) fn subquery_array(function: &mut Function) -> Option<Expr> {
    match &function.args {
        FunctionArguments::Subquery(query) if system_name(&function.name)? == "array" => {
            array_of_rows(query)
        }
        _ => None,
    }
}

/// The array of what a subquery with one column gives.
pub(super) fn array_of_rows(query: &Query) -> Option<Expr> {
    let mut query = Box::new(query.clone());
    let order = query.order_by.take();
    let SetExpr::Select(select) = query.body.as_mut() else {
        return None;
    };
    let item = match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] => {
            item.clone()
        }
        _ => return None,
    };
    let mut clauses = Vec::new();
    if let Some(OrderByKind::Expressions(mut keys)) = order.map(|order| order.kind) {
        for key in &mut keys {
            // `ORDER BY 1` is the only column.
            if matches!(key.expr, Expr::Value(_)) {
                key.expr = item.clone();
            }
        }
        clauses.push(FunctionArgumentClause::OrderBy(keys));
    }
    let is_distinct = select.distinct.take().is_some();
    let mut aggregate = plain_function("array_agg", vec![item]);
    if let FunctionArguments::List(list) = &mut aggregate.args {
        list.clauses = clauses;
        list.duplicate_treatment = is_distinct.then_some(ast::DuplicateTreatment::Distinct);
    }
    select.projection = vec![SelectItem::UnnamedExpr(Expr::Function(aggregate))];
    Some(call("array_or_empty", vec![Expr::Subquery(query)]))
}

/// Functions that give a row per element do so here by way of `unnest`.
pub(super) fn set_returning(function: &mut Function) -> Option<Expr> {
    let name = system_name(&function.name)?;
    if name != "generate_subscripts" && name != "_pg_expandarray" {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else {
        return None;
    };
    let elements = Expr::Function(Function {
        args: FunctionArguments::List(list.clone()),
        ..function.clone()
    });
    Some(call("unnest", vec![elements]))
}

/// `(value).member`.
pub(super) fn field_access(root: &mut Expr, chain: &[AccessExpr]) -> Option<Expr> {
    let [AccessExpr::Dot(Expr::Identifier(member))] = chain else {
        return None;
    };
    let Expr::Nested(_) = root else {
        return None;
    };
    let root = std::mem::replace(root, null());
    Some(call("get_field", vec![root, string(&folded(member))]))
}

pub(super) fn like(pattern: &mut Expr, escape: &mut Option<ast::ValueWithSpan>) {
    let is_default =
        |value: &Value| matches!(value, Value::SingleQuotedString(text) if text == "\\");
    if escape
        .as_ref()
        .is_none_or(|escape| is_default(&escape.value))
    {
        return;
    }
    if let Some(escape) = escape.take() {
        let plain = std::mem::replace(pattern, null());
        *pattern = call("like_escape", vec![plain, Expr::Value(escape)]);
    }
}
