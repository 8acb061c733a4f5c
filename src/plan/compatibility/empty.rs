//! What has no rows: subqueries over relations that are always empty, and what else is known of
//! system relations.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr,
    JoinOperator, ObjectName, Query, Select, SelectItem, SetExpr, TableFactor, TableWithJoins,
    Value, VisitMut, VisitorMut,
};

use crate::plan::compatibility::cast::array_literal;
use crate::plan::compatibility::tree::{boolean, empty_array, no_elements, null, unnested};
use crate::plan::compatibility::{Scope, folded, system_name};

/// Relations, and functions in FROM, that never have rows here.
pub const EMPTY_RELATIONS: [&str; 38] = [
    "pg_auth_members",
    "pg_conversion",
    "pg_db_role_setting",
    "pg_default_acl",
    "pg_depend",
    "pg_enum",
    "pg_event_trigger",
    "pg_extension",
    "pg_inherits",
    "pg_init_privs",
    "pg_largeobject_metadata",
    "pg_opclass",
    "pg_operator",
    "pg_options_to_table",
    "pg_partitioned_table",
    "pg_policy",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_range",
    "pg_rewrite",
    "pg_seclabel",
    "pg_sequence",
    "pg_shdepend",
    "pg_shdescription",
    "pg_statistic",
    "pg_statistic_ext",
    "pg_statistic_ext_data",
    "pg_stats",
    "pg_subscription",
    "pg_subscription_rel",
    "pg_transform",
    "pg_trigger",
    "pg_ts_config",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_user_mapping",
];

/// Array columns of system relations that are always NULL here.
pub const NULL_COLUMNS: [&str; 18] = [
    "attacl",
    "attfdwoptions",
    "attmissingval",
    "attoptions",
    "datacl",
    "fdwacl",
    "fdwoptions",
    "ftoptions",
    "lanacl",
    "nspacl",
    "proacl",
    "proconfig",
    "relacl",
    "reloptions",
    "spcacl",
    "srvacl",
    "srvoptions",
    "typacl",
];

/// In a SELECT without rows nothing is evaluated: what cannot be planned in it goes.
pub(super) fn blank_empty_selects(scope: Scope, body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) if is_empty_select(scope, select) => {
            let _: ControlFlow<()> = select.projection.visit(&mut Blank);
        }
        SetExpr::SetOperation { left, right, .. } => {
            blank_empty_selects(scope, left);
            blank_empty_selects(scope, right);
        }
        _ => {}
    }
}

/// Puts NULL for subqueries and for comparisons with an array in a string.
pub(super) struct Blank;

impl VisitorMut for Blank {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let is_array = |expr: &Expr| array_literal(expr).is_some();
        match expr {
            Expr::Subquery(_) | Expr::Exists { .. } => *expr = null(),
            Expr::Function(function) if matches!(function.args, FunctionArguments::Subquery(_)) => {
                *expr = empty_array();
            }
            Expr::BinaryOp { left, right, .. } if is_array(left) || is_array(right) => {
                *expr = null();
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// There are base and pseudo types only, and no array column of the catalog is a text.
pub(super) fn system_facts(expr: &mut Expr) {
    match expr {
        Expr::Case {
            operand: None,
            conditions,
            else_result,
            ..
        } => {
            conditions.retain(|branch| {
                !(is_other_type(&branch.condition)
                    && matches!(unnested(&branch.result), Expr::Subquery(_)))
            });
            if conditions.is_empty() {
                let otherwise = else_result.take().map_or_else(null, |result| *result);
                *expr = otherwise;
            }
        }
        Expr::Function(function) if system_name(&function.name).as_deref() == Some("coalesce") => {
            let FunctionArguments::List(list) = &mut function.args else {
                return;
            };
            for arg in &mut list.args {
                if let FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) = arg
                    && array_literal(arg).is_some_and(|array| array == no_elements())
                {
                    *arg = empty_array();
                }
            }
        }
        _ => {}
    }
}

/// `t.typtype = 'd'`: domains, composites, enums and ranges do not exist.
pub(super) fn is_other_type(condition: &Expr) -> bool {
    let Expr::BinaryOp {
        left,
        op: BinaryOperator::Eq,
        right,
    } = unnested(condition)
    else {
        return false;
    };
    let column = match left.as_ref() {
        Expr::Identifier(column) => Some(column),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    };
    let is_kind = |value: &Value| match value {
        Value::SingleQuotedString(kind) => matches!(kind.as_str(), "c" | "d" | "e" | "m" | "r"),
        _ => false,
    };
    column.is_some_and(|column| folded(column) == "typtype")
        && matches!(right.as_ref(), Expr::Value(value) if is_kind(&value.value))
}

/// A subquery without rows is NULL, false or the empty array.
pub(super) fn subquery_of_nothing(scope: Scope, expr: &mut Expr) {
    let rewritten = match expr {
        Expr::Subquery(query) if is_empty_query(scope, query) => null(),
        Expr::Exists { subquery, negated } if is_empty_query(scope, subquery) => boolean(*negated),
        Expr::InSubquery {
            subquery, negated, ..
        } if is_empty_query(scope, subquery) => boolean(*negated),
        Expr::Function(function) => match &function.args {
            FunctionArguments::Subquery(query) if is_empty_query(scope, query) => empty_array(),
            _ => return,
        },
        _ => return,
    };
    *expr = rewritten;
}

pub(super) fn is_empty_query(scope: Scope, query: &Query) -> bool {
    match query.body.as_ref() {
        SetExpr::Select(select) => is_empty_select(scope, select),
        SetExpr::Query(query) => is_empty_query(scope, query),
        _ => false,
    }
}

/// Whether a SELECT has no rows because of what it reads. An aggregate without GROUP BY has one.
pub(super) fn is_empty_select(scope: Scope, select: &Select) -> bool {
    let is_grouped =
        !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
    let is_aggregate = !is_grouped && select.projection.iter().any(is_aggregate_item);
    !is_aggregate && select.from.iter().any(|from| is_empty_from(scope, from))
}

pub(super) fn is_aggregate_item(item: &SelectItem) -> bool {
    /// How many subqueries deep it is: an aggregate in there is that subquery's.
    struct Finder(usize);
    impl ast::Visitor for Finder {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.0 += 1;
            ControlFlow::Continue(())
        }

        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.0 -= 1;
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(function)
                    if self.0 == 0
                        && function.over.is_none()
                        && system_name(&function.name)
                            .is_some_and(|name| AGGREGATES.contains(&name.as_str())) =>
                {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    ast::Visit::visit(item, &mut Finder(0)).is_break()
}

pub(super) const AGGREGATES: [&str; 12] = [
    "array_agg",
    "avg",
    "bool_and",
    "bool_or",
    "count",
    "every",
    "json_agg",
    "jsonb_agg",
    "max",
    "min",
    "string_agg",
    "sum",
];

pub(super) fn is_empty_from(scope: Scope, from: &TableWithJoins) -> bool {
    let mut is_empty = is_empty_factor(scope, &from.relation);
    for join in &from.joins {
        let right = is_empty_factor(scope, &join.relation);
        is_empty = match &join.join_operator {
            JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_) => {
                is_empty || right
            }
            JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => is_empty,
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) => right,
            _ => is_empty && right,
        };
    }
    is_empty
}

pub(super) fn is_empty_factor(scope: Scope, factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Table {
            name, args: None, ..
        } => is_empty_name(name),
        TableFactor::Table {
            name,
            args: Some(args),
            ..
        } => is_empty_name(name) || scope.has_null(name, &args.args),
        TableFactor::Function { name, args, .. } => {
            is_empty_name(name) || scope.has_null(name, args)
        }
        TableFactor::UNNEST { array_exprs, .. } => {
            scope == Scope::System && array_exprs.iter().all(is_null_column)
        }
        TableFactor::NestedJoin {
            table_with_joins, ..
        } => is_empty_from(scope, table_with_joins),
        _ => false,
    }
}

pub(super) fn is_empty_name(name: &ObjectName) -> bool {
    system_name(name).is_some_and(|name| EMPTY_RELATIONS.contains(&name.as_str()))
}

pub(super) fn is_unnest(name: &ObjectName) -> bool {
    system_name(name).is_some_and(|name| name == "unnest" || name == "aclexplode")
}

pub(super) fn is_null_argument(argument: &FunctionArg) -> bool {
    matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if is_null_column(expr))
}

pub(super) fn is_null_column(expr: &Expr) -> bool {
    let name = match expr {
        Expr::Identifier(name) => name,
        Expr::CompoundIdentifier(parts) => match parts.last() {
            Some(name) => name,
            None => return false,
        },
        _ => return false,
    };
    NULL_COLUMNS.contains(&folded(name).as_str())
}
