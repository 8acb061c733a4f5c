//! Functions in FROM, `tableoid`, and columns named beside a wildcard.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Array, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, Select, SelectItem,
    SetExpr, TableAlias, TableAliasColumnDef, TableFactor, TableWithJoins, VisitorMut,
};

use crate::plan::compatibility::empty::is_aggregate_item;
use crate::plan::compatibility::tree::{call, number, string};
use crate::plan::compatibility::{folded, system_name};

/// Functions in FROM that take nothing and stand for a relation of the same name.
const RELATION_FUNCTIONS: [&str; 1] = ["pg_get_keywords"];

/// Functions that give one value, in FROM a relation of one row.
const VALUE_FUNCTIONS: [&str; 6] = [
    "current_database",
    "current_schemas",
    "current_setting",
    "now",
    "string_to_array",
    "version",
];

/// Functions in FROM.
pub(super) fn table_factor(factor: &mut TableFactor) {
    lateral_values(factor);
    let (name, args, alias, with_ordinality) = match factor {
        TableFactor::Table {
            name,
            args: Some(args),
            alias,
            with_ordinality,
            ..
        } => (
            system_name(name),
            function_exprs(&args.args),
            alias.take(),
            *with_ordinality,
        ),
        TableFactor::Function {
            name,
            args,
            alias,
            with_ordinality,
            ..
        } => (
            system_name(name),
            function_exprs(args),
            alias.take(),
            *with_ordinality,
        ),
        TableFactor::UNNEST {
            array_exprs,
            alias,
            with_ordinality,
            ..
        } => {
            let args = Some(std::mem::take(array_exprs));
            (
                Some("unnest".to_string()),
                args,
                alias.take(),
                *with_ordinality,
            )
        }
        _ => return,
    };
    let (Some(name), Some(args)) = (name, args) else {
        return restore_alias(factor, alias);
    };
    let is_constant = args
        .iter()
        .all(|arg| matches!(arg, Expr::Value(_) | Expr::UnaryOp { .. }));
    let arrays = match name.as_str() {
        // The elements of a list in brackets are planned without a view of what stands before.
        "unnest" => args.into_iter().map(called).collect(),
        "generate_series" if is_constant && !with_ordinality => {
            return name_column(factor, alias, &name);
        }
        "generate_series" | "generate_subscripts" => vec![call(&name, args)],
        name if RELATION_FUNCTIONS.contains(&name) && args.is_empty() => {
            if let TableFactor::Table { args, .. } = factor {
                *args = None;
            }
            return restore_alias(factor, alias);
        }
        name if VALUE_FUNCTIONS.contains(&name) => {
            *factor = value_factor(call(name, args), alias, name);
            return;
        }
        _ => return restore_alias(factor, alias),
    };
    *factor = unnest_factor(arrays, alias, &name, with_ordinality);
}

/// `LATERAL (SELECT a.x * 2 AS y, …) l` as `UNNEST(make_array(a.x * 2), …) l (y, …)`: the library
/// knows columns of what stands before in the arguments of `unnest`, and not in a SELECT list.
fn lateral_values(factor: &mut TableFactor) {
    let TableFactor::Derived {
        lateral: true,
        subquery,
        alias: Some(alias),
        ..
    } = factor
    else {
        return;
    };
    let SetExpr::Select(select) = subquery.body.as_ref() else {
        return;
    };
    let is_one_row = select.from.is_empty()
        && select.selection.is_none()
        && select.having.is_none()
        && select.distinct.is_none()
        && subquery.with.is_none()
        && subquery.limit_clause.is_none()
        && subquery.fetch.is_none()
        && !select.projection.iter().any(is_aggregate_item);
    let mut columns = Vec::new();
    let mut values = Vec::new();
    for item in &select.projection {
        let (value, name) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (expr, alias.clone()),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => {
                (&Expr::Identifier(name.clone()), name.clone())
            }
            SelectItem::UnnamedExpr(expr) => (expr, Ident::with_quote('"', "?column?")),
            _ => return,
        };
        columns.push(column_definition(name));
        values.push(call("make_array", vec![value.clone()]));
    }
    if !is_one_row || values.is_empty() {
        return;
    }
    let mut alias = alias.clone();
    let given = alias.columns.len().min(columns.len());
    columns.splice(..given, alias.columns.drain(..given));
    alias.columns = columns;
    *factor = TableFactor::UNNEST {
        alias: Some(alias),
        array_exprs: values,
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    };
}

fn called(array: Expr) -> Expr {
    match array {
        Expr::Array(Array { elem, .. }) if !elem.is_empty() => call("make_array", elem),
        other => other,
    }
}

/// `f(x) s` as `(SELECT f(x) AS s) s`.
pub(super) fn value_factor(value: Expr, alias: Option<TableAlias>, name: &str) -> TableFactor {
    let mut alias = alias.unwrap_or_else(|| plain_alias(name));
    if alias.columns.is_empty() {
        alias.columns.push(column_definition(alias.name.clone()));
    }
    let row = ast::Values {
        explicit_row: false,
        value_keyword: false,
        rows: vec![ast::Parens::with_empty_span(vec![value])],
    };
    let query = Query {
        with: None,
        body: Box::new(SetExpr::Values(row)),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    };
    TableFactor::Derived {
        lateral: false,
        subquery: Box::new(query),
        alias: Some(alias),
        sample: None,
    }
}

pub(super) fn unnest_factor(
    mut arrays: Vec<Expr>,
    alias: Option<TableAlias>,
    name: &str,
    with_ordinality: bool,
) -> TableFactor {
    let mut alias = alias.unwrap_or_else(|| plain_alias(name));
    if alias.columns.is_empty() && arrays.len() == 1 {
        alias.columns.push(column_definition(alias.name.clone()));
    }
    if with_ordinality {
        if let Some(first) = arrays.first() {
            arrays.push(call("generate_subscripts", vec![first.clone(), number(1)]));
        }
        if alias.columns.len() + 1 == arrays.len() {
            alias
                .columns
                .push(column_definition(Ident::new("ordinality")));
        }
    }
    TableFactor::UNNEST {
        alias: Some(alias),
        array_exprs: arrays,
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    }
}

/// The column of `generate_series(…) s` is `s` too.
pub(super) fn name_column(factor: &mut TableFactor, alias: Option<TableAlias>, name: &str) {
    let mut alias = alias.unwrap_or_else(|| plain_alias(name));
    if alias.columns.is_empty() {
        alias.columns.push(column_definition(alias.name.clone()));
    }
    if let TableFactor::Table { name, .. } = factor
        && name.0.len() > 1
        && let Some(last) = name.0.pop()
    {
        *name = ObjectName(vec![last]);
    }
    restore_alias(factor, Some(alias));
}

pub(super) fn restore_alias(factor: &mut TableFactor, old: Option<TableAlias>) {
    if let TableFactor::Table { alias, .. }
    | TableFactor::Function { alias, .. }
    | TableFactor::UNNEST { alias, .. } = factor
    {
        *alias = old;
    }
}

pub(super) fn plain_alias(name: &str) -> TableAlias {
    TableAlias {
        explicit: true,
        name: Ident::new(name),
        columns: Vec::new(),
        at: None,
    }
}

pub(super) fn column_definition(name: Ident) -> TableAliasColumnDef {
    TableAliasColumnDef {
        name,
        data_type: None,
    }
}

pub(super) fn function_exprs(args: &[FunctionArg]) -> Option<Vec<Expr>> {
    let plain = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    args.iter().map(plain).collect()
}

/// `c.tableoid`, the number of the relation that the row is from.
pub(super) struct TableNumbers(Vec<(String, ObjectName)>);

impl TableNumbers {
    pub(super) fn of(from: &[TableWithJoins]) -> TableNumbers {
        let mut tables = TableNumbers(Vec::new());
        from.iter().for_each(|from| tables.collect(from));
        tables
    }

    fn collect(&mut self, from: &TableWithJoins) {
        let factors = std::iter::once(&from.relation);
        for factor in factors.chain(from.joins.iter().map(|join| &join.relation)) {
            match factor {
                TableFactor::Table {
                    name,
                    alias,
                    args: None,
                    ..
                } => {
                    let last = name.0.last().and_then(|part| part.as_ident());
                    let alias = alias.as_ref().map(|alias| &alias.name).or(last);
                    if let Some(alias) = alias {
                        self.0.push((folded(alias), name.clone()));
                    }
                }
                TableFactor::NestedJoin {
                    table_with_joins, ..
                } => self.collect(table_with_joins),
                _ => {}
            }
        }
    }
}

impl VisitorMut for TableNumbers {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let (alias, column) = match &*expr {
            Expr::Identifier(column) => (None, column),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [alias, column] => (Some(folded(alias)), column),
                _ => return ControlFlow::Continue(()),
            },
            _ => return ControlFlow::Continue(()),
        };
        if folded(column) != "tableoid" {
            return ControlFlow::Continue(());
        }
        let is_meant = |(known, _): &&(String, ObjectName)| match &alias {
            Some(alias) => known == alias,
            None => self.0.len() == 1,
        };
        if let Some((_, name)) = self.0.iter().find(is_meant) {
            *expr = call("regclassin", vec![string(&name.to_string())]);
        }
        ControlFlow::Continue(())
    }
}

/// `SELECT a.oid, a.*`: the column that is named beside the wildcard gets a name of its own, as two
/// columns of one name cannot be planned.
pub(super) fn distinct_from_wildcards(select: &mut Select) {
    let mut qualifiers = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::Wildcard(_) => qualifiers.push(None),
            SelectItem::QualifiedWildcard(
                ast::SelectItemQualifiedWildcardKind::ObjectName(name),
                _,
            ) => qualifiers.push(system_name(name)),
            _ => {}
        }
    }
    for (position, item) in select.projection.iter_mut().enumerate() {
        let SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) = item else {
            continue;
        };
        let [qualifier, name] = parts.as_slice() else {
            continue;
        };
        if qualifiers.contains(&None) || qualifiers.contains(&Some(folded(qualifier))) {
            let alias = Ident::with_quote('"', format!("{}:{position}", folded(name)));
            let expr = Expr::CompoundIdentifier(parts.clone());
            *item = SelectItem::ExprWithAlias { expr, alias };
        }
    }
}
