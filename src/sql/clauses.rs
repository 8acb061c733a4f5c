//! Clauses that the parser reads and nothing here answers: refused, never passed over.
//!
//! The library's parser reads the words of many databases into one tree, and its planner passes
//! over some of what it finds there. So each struct of the tree is taken apart here, field by
//! field and without `..`: a field that a new version of the library brings does not compile until
//! somebody has decided what it means. A field is
//!
//! - **answered**, by the planner or by us, or its parts are visited by themselves;
//! - **harmless**: the answer is the same without it, and the reason is said;
//! - **refused**, with its place and, where there is one, a way out.
//!
//! ```text
//!   text ──parse──► tree ──refuse──► rewritten ──► … ──refuse_left──► the library's planner
//!                          0A000                        0A000
//! ```
//!
//! [`refuse`] looks at what was written. [`refuse_left`] looks at what the planner's own rewrites
//! have left of the clauses that they may take: a table's version in a join, WITH ORDINALITY.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Cte, Expr, Function, FunctionArguments, GroupByExpr, Join, JoinConstraint, JoinOperator,
    LimitClause, NamedWindowExpr, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectFlavor,
    SelectItem, SetExpr, SetOperator, SetQuantifier, Spanned, Statement, TableAlias, TableFactor,
    TableFunctionArgs, TableVersion, TableWithJoins, Values, Visit, Visitor,
    WildcardAdditionalOptions, WindowSpec, WindowType,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::error::{Error, Result, SqlState};
use crate::sql::as_of::is_proctime;
use crate::sql::position::Positions;
use crate::sql::write_clauses::{check_delete, check_insert, check_update};

/// Refuses clauses inside `node` that nothing answers.
///
/// # Errors
/// 0A000, 42601, 42701 or 42703 with the clause's place.
pub(super) fn refuse(node: &impl Visit, positions: &Positions) -> Result<()> {
    match node.visit(&mut Clauses) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break((span, error)) => Err(positions.of(span).mark(error)),
    }
}

/// Refuses what is left of clauses that a rewrite of the planner might have answered.
///
/// # Errors
/// 0A000 with the clause's line and column.
pub fn refuse_left(node: &impl Visit) -> Result<()> {
    match node.visit(&mut Left) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break((span, error)) => Err(match span.start.line {
            0 => error,
            line => error.place(line, span.start.column),
        }),
    }
}

/// What is refused, and where it stands.
pub(super) type Refused = (Span, Error);

pub(super) type Checked = Result<(), Refused>;

/// Refuses `what` where it is there. A place costs a walk of the part: it is found when needed.
pub(super) fn no(is_there: bool, place: impl FnOnce() -> Span, what: &str, hint: &str) -> Checked {
    match is_there {
        false => Ok(()),
        true => Err((place(), unsupported(what, hint))),
    }
}

pub(super) fn unsupported(what: &str, hint: &str) -> Error {
    let error = Error::unsupported(format!("{what} is not supported"));
    match hint.is_empty() {
        true => error,
        false => error.hint(hint),
    }
}

/// The place of the first of some parts.
pub(super) fn first<'a, T: Spanned + 'a>(
    parts: impl IntoIterator<Item = &'a T>,
    otherwise: Span,
) -> Span {
    let span = parts.into_iter().next().map(Spanned::span);
    span.filter(|span| span.start.line > 0).unwrap_or(otherwise)
}

fn flow(checked: Checked) -> ControlFlow<Refused> {
    match checked {
        Ok(()) => ControlFlow::Continue(()),
        Err(refused) => ControlFlow::Break(refused),
    }
}

struct Clauses;

impl Visitor for Clauses {
    type Break = Refused;

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Refused> {
        flow(match statement {
            Statement::Insert(insert) => check_insert(insert),
            Statement::Update(update) => check_update(update),
            Statement::Delete(delete) => check_delete(delete),
            // Our own grammar reads every other statement.
            _ => Ok(()),
        })
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refused> {
        flow(check_query(query))
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refused> {
        flow(check_select(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refused> {
        flow(check_table_factor(factor))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Refused> {
        match expr {
            Expr::Function(function) => flow(check_function(function)),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn check_query(query: &Query) -> Checked {
    let Query {
        with,
        body,
        order_by,
        limit_clause,
        // Answered by the planner's forms.
        fetch: _,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    let span = || query.span();
    if let Some(lock) = locks.first() {
        let what = format!("SELECT … FOR {}", lock.lock_type);
        let hint = "read and write in BEGIN ISOLATION LEVEL REPEATABLE READ: a write of a row \
                    that has changed since is refused with 40001, and the transaction is to be \
                    tried again";
        return Err((first(&lock.of, Span::empty()), unsupported(&what, hint)));
    }
    no(for_clause.is_some(), span, "FOR XML, JSON or BROWSE", "")?;
    no(settings.is_some(), span, "SETTINGS", "use SET")?;
    let formats = "the client chooses the format; COPY (…) TO STDOUT has more of them";
    no(
        format_clause.is_some(),
        span,
        "FORMAT behind a query",
        formats,
    )?;
    no(!pipe_operators.is_empty(), span, "|>", "write a subquery")?;
    for cte in with.iter().flat_map(|with| &with.cte_tables) {
        check_cte(cte)?;
    }
    if let Some(order_by) = order_by {
        check_order_by(order_by)?;
    }
    if let Some(LimitClause::LimitOffset {
        limit: _,
        offset: _,
        limit_by,
    }) = limit_clause
    {
        let hint = "compare with row_number() OVER (PARTITION BY …)";
        no(
            !limit_by.is_empty(),
            || first(limit_by, Span::empty()),
            "LIMIT … BY",
            hint,
        )?;
    }
    check_set_operations(body)
}

/// Chains of set operations are deep on the left: they are walked without recursion.
fn check_set_operations(body: &SetExpr) -> Checked {
    let mut open = vec![body];
    while let Some(body) = open.pop() {
        match body {
            SetExpr::SetOperation {
                left,
                op,
                set_quantifier,
                right,
            } => {
                let is_by_name = match set_quantifier {
                    SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None => false,
                    SetQuantifier::ByName
                    | SetQuantifier::AllByName
                    | SetQuantifier::DistinctByName => true,
                };
                // The library matches columns by name for UNION only.
                let is_passed_over = is_by_name && *op != SetOperator::Union;
                no(
                    is_passed_over,
                    || right.span(),
                    &format!("{op} BY NAME"),
                    "name the columns in the same order on both sides",
                )?;
                open.push(right);
                open.push(left);
            }
            SetExpr::Values(values) => {
                let Values {
                    // MySQL's `ROW(…)` around each row: the same rows.
                    explicit_row: _,
                    value_keyword,
                    rows: _,
                } = values;
                no(*value_keyword, || values.span(), "VALUE", "write VALUES")?;
            }
            // Visited by themselves, or refused before this.
            SetExpr::Select(_)
            | SetExpr::Query(_)
            | SetExpr::Insert(_)
            | SetExpr::Update(_)
            | SetExpr::Delete(_)
            | SetExpr::Merge(_)
            | SetExpr::Table(_) => {}
        }
    }
    Ok(())
}

fn check_cte(cte: &Cte) -> Checked {
    let Cte {
        alias,
        query: _,
        from,
        // It says how the rows are to be computed, not which.
        materialized: _,
        closing_paren_token: _,
    } = cte;
    no(
        from.is_some(),
        || cte.span(),
        "FROM behind a WITH query",
        "",
    )?;
    check_alias(alias)
}

fn check_order_by(order_by: &OrderBy) -> Checked {
    let OrderBy { kind, interpolate } = order_by;
    no(interpolate.is_some(), || order_by.span(), "INTERPOLATE", "")?;
    match kind {
        OrderByKind::All(_) => Ok(()),
        OrderByKind::Expressions(exprs) => exprs.iter().try_for_each(check_order_by_expr),
    }
}

fn check_order_by_expr(order_by: &OrderByExpr) -> Checked {
    let OrderByExpr {
        expr: _,
        options: _,
        with_fill,
    } = order_by;
    let hint = "join with generate_series(…) for the rows that are not there";
    no(with_fill.is_some(), || order_by.span(), "WITH FILL", hint)
}

fn check_select(select: &Select) -> Checked {
    let Select {
        select_token,
        // Comments: they say how to compute, not what.
        optimizer_hints: _,
        distinct: _,
        select_modifiers,
        top,
        // Nothing without `top`.
        top_before_distinct: _,
        projection,
        exclude,
        into,
        from,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window,
        qualify: _,
        // Two orders of clauses that mean the same.
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    let start = select_token.0.span;
    let modifies = select_modifiers
        .as_ref()
        .is_some_and(|modifiers| modifiers.is_any_set());
    no(modifies, || start, "a modifier of SELECT", "leave it out")?;
    no(top.is_some(), || start, "TOP", "use LIMIT")?;
    no(
        exclude.is_some(),
        || start,
        "EXCLUDE behind a list",
        "name the columns",
    )?;
    if let Some(into) = into {
        let hint = "use CREATE MATERIALIZED VIEW, or CREATE TABLE and INSERT … SELECT";
        return Err((into.name.span(), unsupported("SELECT INTO", hint)));
    }
    if let Some(view) = lateral_views.first() {
        let hint = "use CROSS JOIN LATERAL unnest(…)";
        let span = view.lateral_view.span();
        return Err((span, unsupported("LATERAL VIEW", hint)));
    }
    no(
        prewhere.is_some(),
        || first(prewhere, start),
        "PREWHERE",
        "use WHERE",
    )?;
    let hint = "use WITH RECURSIVE";
    no(
        !connect_by.is_empty(),
        || first(connect_by, start),
        "CONNECT BY",
        hint,
    )?;
    let hint = "use ORDER BY; how rows are spread over workers is not the query's";
    no(
        !cluster_by.is_empty(),
        || first(cluster_by, start),
        "CLUSTER BY",
        hint,
    )?;
    let span = first(distribute_by, start);
    no(!distribute_by.is_empty(), || span, "DISTRIBUTE BY", hint)?;
    no(
        !sort_by.is_empty(),
        || first(sort_by, start),
        "SORT BY",
        hint,
    )?;
    let hint = "select the columns, or named_struct(…)";
    no(value_table_mode.is_some(), || start, "SELECT AS", hint)?;
    let is_standard = matches!(flavor, SelectFlavor::Standard);
    no(
        !is_standard,
        || start,
        "FROM before SELECT",
        "write SELECT first",
    )?;
    check_group_by(group_by, start)?;
    for item in projection {
        check_item(item)?;
    }
    for table in from {
        check_joins(table)?;
    }
    for definition in named_window {
        if let NamedWindowExpr::WindowSpec(spec) = &definition.1 {
            check_window(spec, definition.0.span)?;
        }
    }
    Ok(())
}

fn check_group_by(group_by: &GroupByExpr, start: Span) -> Checked {
    let (span, modifiers) = match group_by {
        GroupByExpr::All(modifiers) => (start, modifiers),
        GroupByExpr::Expressions(exprs, modifiers) => (first(exprs, start), modifiers),
    };
    let hint = "write GROUP BY ROLLUP (…), CUBE (…) or GROUPING SETS (…)";
    no(!modifiers.is_empty(), || span, "WITH behind GROUP BY", hint)
}

fn check_item(item: &SelectItem) -> Checked {
    match item {
        SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { expr: _, alias: _ } => Ok(()),
        SelectItem::ExprWithAliases { expr, aliases: _ } => {
            let refused = unsupported("a column with several names", "give it one name");
            Err((expr.span(), refused))
        }
        SelectItem::QualifiedWildcard(_, options) | SelectItem::Wildcard(options) => {
            check_wildcard(options)
        }
    }
}

fn check_wildcard(options: &WildcardAdditionalOptions) -> Checked {
    let WildcardAdditionalOptions {
        wildcard_token,
        opt_ilike: _,
        opt_exclude: _,
        opt_except: _,
        opt_replace: _,
        opt_rename,
        opt_alias,
    } = options;
    let start = wildcard_token.0.span;
    no(
        opt_rename.is_some(),
        || start,
        "* RENAME",
        "name the columns",
    )?;
    no(
        opt_alias.is_some(),
        || start,
        "an alias of *",
        "name the columns",
    )
}

fn check_joins(table: &TableWithJoins) -> Checked {
    let TableWithJoins { relation: _, joins } = table;
    joins.iter().try_for_each(check_join)
}

fn check_join(join: &Join) -> Checked {
    let Join {
        relation,
        global,
        join_operator,
    } = join;
    let span = || relation.span();
    no(*global, span, "GLOBAL JOIN", "leave GLOBAL out")?;
    // The library takes the left column for the one that both share, which may be padded.
    let is_merged = |constraint: &JoinConstraint| {
        matches!(
            constraint,
            JoinConstraint::Using(_) | JoinConstraint::Natural
        )
    };
    match join_operator {
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => no(
            is_merged(constraint),
            span,
            "RIGHT JOIN with USING or NATURAL",
            "write b LEFT JOIN a USING (…), or ON a.k = b.k and name b.k",
        )?,
        JoinOperator::FullOuter(constraint) => no(
            is_merged(constraint),
            span,
            "FULL JOIN with USING or NATURAL",
            "write ON a.k = b.k and coalesce(a.k, b.k)",
        )?,
        _ => {}
    }
    match join_operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) => match constraint {
            JoinConstraint::On(_) | JoinConstraint::Using(_) | JoinConstraint::Natural => Ok(()),
            JoinConstraint::None => {
                let error = Error::new(SqlState::SYNTAX_ERROR, "a join needs ON or USING")
                    .hint("write CROSS JOIN for every row with every other");
                Err((span(), error))
            }
        },
        JoinOperator::CrossJoin(constraint) => match constraint {
            JoinConstraint::None => Ok(()),
            JoinConstraint::On(_) | JoinConstraint::Using(_) | JoinConstraint::Natural => {
                let message = "CROSS JOIN takes neither ON nor USING";
                Err((span(), Error::new(SqlState::SYNTAX_ERROR, message)))
            }
        },
        JoinOperator::Semi(_) | JoinOperator::Anti(_) => {
            let refused = unsupported("SEMI or ANTI JOIN without a side", "use [NOT] EXISTS");
            Err((span(), refused))
        }
        JoinOperator::CrossApply | JoinOperator::OuterApply => {
            Err((span(), unsupported("APPLY", "use JOIN LATERAL (…) ON true")))
        }
        // The planner takes it.
        JoinOperator::AsOf {
            match_condition: _,
            constraint: _,
        } => Ok(()),
        JoinOperator::StraightJoin(_) => Err((span(), unsupported("STRAIGHT_JOIN", "use JOIN"))),
        JoinOperator::ArrayJoin | JoinOperator::LeftArrayJoin | JoinOperator::InnerArrayJoin => {
            let refused = unsupported("ARRAY JOIN", "use CROSS JOIN LATERAL unnest(…)");
            Err((span(), refused))
        }
    }
}

fn check_table_factor(factor: &TableFactor) -> Checked {
    let span = || factor.span();
    let sampled = "TABLESAMPLE";
    let sample_hint = "WHERE random() < 0.01 takes about a hundredth of the rows";
    match factor {
        TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            // A join may take it: refused by `refuse_left` if none has.
            version: _,
            // The functions that have it are rewritten: refused by `refuse_left` if left.
            with_ordinality: _,
            partitions,
            json_path,
            sample,
            index_hints,
        } => {
            let span = first(&name.0, Span::empty());
            no(sample.is_some(), || span, sampled, sample_hint)?;
            if !with_hints.is_empty() {
                let error = Error::new(SqlState::SYNTAX_ERROR, "a table in FROM takes no options")
                    .hint(
                        "a view takes its options before AS: CREATE … VIEW v WITH (…) AS SELECT …",
                    );
                return Err((span, error));
            }
            no(
                !partitions.is_empty(),
                || span,
                "PARTITION of a table",
                "use WHERE",
            )?;
            no(json_path.is_some(), || span, "a path behind a table", "")?;
            no(
                !index_hints.is_empty(),
                || span,
                "a hint of an index",
                "leave it out",
            )?;
            if let Some(TableFunctionArgs { args: _, settings }) = args {
                no(settings.is_some(), || span, "SETTINGS", "use SET")?;
            }
            // To the library's parser ONLY is a table, and what stands behind it its alias.
            let is_only = match name.0.as_slice() {
                [part] => part.as_ident().is_some_and(|ident| {
                    ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("only")
                }),
                _ => false,
            };
            no(
                is_only,
                || span,
                "ONLY",
                "leave it out: no table has others below it",
            )?;
            alias.iter().try_for_each(check_alias)
        }
        TableFactor::Derived {
            lateral: _,
            subquery: _,
            alias,
            sample,
        } => {
            no(sample.is_some(), span, sampled, sample_hint)?;
            alias.iter().try_for_each(check_alias)
        }
        TableFactor::TableFunction { expr: _, alias }
        | TableFactor::Function {
            lateral: _,
            name: _,
            args: _,
            // As above.
            with_ordinality: _,
            alias,
        } => alias.iter().try_for_each(check_alias),
        TableFactor::UNNEST {
            alias,
            array_exprs: _,
            with_offset,
            with_offset_alias,
            with_ordinality: _,
        } => {
            let has_offset = *with_offset || with_offset_alias.is_some();
            no(has_offset, span, "WITH OFFSET", "use WITH ORDINALITY")?;
            alias.iter().try_for_each(check_alias)
        }
        TableFactor::NestedJoin {
            table_with_joins,
            alias,
        } => {
            check_joins(table_with_joins)?;
            alias.iter().try_for_each(check_alias)
        }
        // The library plans none of these; its message would print the tree.
        TableFactor::JsonTable { .. } => Err((span(), unsupported("JSON_TABLE", ""))),
        TableFactor::OpenJsonTable { .. } => Err((span(), unsupported("OPENJSON", ""))),
        TableFactor::XmlTable { .. } => Err((span(), unsupported("XMLTABLE", ""))),
        TableFactor::SemanticView { .. } => Err((span(), unsupported("SEMANTIC_VIEW", ""))),
        TableFactor::Pivot { .. } => {
            let hint = "use an aggregate with FILTER (WHERE …) for each column";
            Err((span(), unsupported("PIVOT", hint)))
        }
        TableFactor::Unpivot { .. } => {
            let hint = "use CROSS JOIN LATERAL (VALUES …), or UNION ALL";
            Err((span(), unsupported("UNPIVOT", hint)))
        }
        // Parsed for a planner of its own, which refuses it while it has none.
        TableFactor::MatchRecognize { .. } => Ok(()),
    }
}

fn check_alias(alias: &TableAlias) -> Checked {
    let TableAlias {
        explicit: _,
        name,
        columns,
        at,
    } = alias;
    no(
        at.is_some(),
        || name.span,
        "AT behind an alias",
        "use WITH ORDINALITY",
    )?;
    if let Some(column) = columns.iter().find(|column| column.data_type.is_some()) {
        let message = "a column definition list is only allowed for functions returning \"record\"";
        let error = Error::new(SqlState::SYNTAX_ERROR, message)
            .hint("name the columns without their types");
        return Err((column.name.span, error));
    }
    Ok(())
}

fn check_function(function: &Function) -> Checked {
    let Function {
        name,
        // `{fn f(x)}` is f(x).
        uses_odbc_syntax: _,
        parameters,
        // Which of these a function takes, the planner knows: see `plan::calls`.
        args: _,
        filter: _,
        null_treatment: _,
        over,
        within_group: _,
    } = function;
    let has_parameters = !matches!(parameters, FunctionArguments::None);
    let span = name.span();
    no(
        has_parameters,
        || span,
        "a second list of arguments",
        "give one list",
    )?;
    match over {
        None | Some(WindowType::NamedWindow(_)) => Ok(()),
        Some(WindowType::WindowSpec(spec)) => check_window(spec, span),
    }
}

fn check_window(spec: &WindowSpec, span: Span) -> Checked {
    let WindowSpec {
        window_name,
        partition_by: _,
        order_by,
        window_frame: _,
    } = spec;
    let span = window_name.as_ref().map_or(span, |name| name.span);
    let hint = "write the whole window, or its name alone without parentheses";
    no(
        window_name.is_some(),
        || span,
        "a window that extends another",
        hint,
    )?;
    order_by.iter().try_for_each(check_order_by_expr)
}

/// Finds what the planner's rewrites have left.
struct Left;

impl Visitor for Left {
    type Break = Refused;

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refused> {
        let (has_version, has_ordinality) = match factor {
            TableFactor::Table {
                version,
                with_ordinality,
                ..
            } => {
                // What is there at the moment is read in any place.
                let is_now = matches!(
                    version,
                    Some(TableVersion::ForSystemTimeAsOf(time)) if is_proctime(time)
                );
                (version.is_some() && !is_now, *with_ordinality)
            }
            TableFactor::Function {
                with_ordinality, ..
            }
            | TableFactor::UNNEST {
                with_ordinality, ..
            } => (false, *with_ordinality),
            TableFactor::Derived { .. }
            | TableFactor::TableFunction { .. }
            | TableFactor::NestedJoin { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::OpenJsonTable { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::XmlTable { .. }
            | TableFactor::SemanticView { .. } => (false, false),
        };
        let span = || match factor {
            TableFactor::Table { name, .. } => first(&name.0, Span::empty()),
            _ => factor.span(),
        };
        let hint = "a relation is read as it is now: only a JOIN takes the versions of its right \
                    side AS OF a time; SUBSCRIBE … AS OF gives changes since an epoch";
        flow(
            no(has_version, span, "FOR SYSTEM_TIME AS OF", hint).and_then(|()| {
                let hint = "use row_number() OVER () in a SELECT";
                no(has_ordinality, span, "WITH ORDINALITY of this", hint)
            }),
        )
    }
}
