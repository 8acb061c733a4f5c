//! Rankings in a stream plan: what in DataFusion's plans says "the first rows of each group".
//!
//! ```text
//!   WHERE rn <= 3, QUALIFY …             Projection ─ Filter rn <= 3 ─ Window row_number() OVER …
//!   DISTINCT ON (k) … ORDER BY k, ts     the same with rn = 1; the library's own words for it
//!                                        take the first value of each column
//!   ORDER BY x LIMIT 3 OFFSET 1          Limit skip 1 ─ Sort x, fetch 4
//!   FETCH FIRST 3 ROWS WITH TIES         see `ties`: a Filter over a Window
//!
//!   Build     Map ─ Top row_number 2 to 4 order x ─ Exchange ─ Map …
//! ```
//!
//! Conditions that say between which numbers a rank must be are the operator's; others stay above
//! it. Numbers without a limit above are those of `over`.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result as DataFusionResult;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{InList, WindowFunction};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Distinct, DistinctOn, Expr, ExprFunctionExt, FetchType, Limit, LogicalPlan,
    LogicalPlanBuilder, Operator, SkipType, Sort, SortExpr, Window, lit,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::scalar::ScalarValue;

use crate::catalog::Changelog;
use crate::error::{Error, Result};
use crate::operator::aggregate::{Close, CloseEmit};
use crate::operator::top::{OrderColumn, RankFunction, RankRange, TopSpec};
use crate::plan::build::{Build, arrow_schema, column_expr};
use crate::plan::emit::close_column;
use crate::plan::failure::from_datafusion;
use crate::plan::stream::{Node, Operation, Portion};
use crate::plan::temporal::has_timed_condition;
use crate::sql::statement::Emit;

/// More rows than this are not chosen by each worker first: what that saves is the choice of one
/// worker, and what it costs are so many rows of each.
const FIRST_CHOICE_ROWS_MAX: i64 = 10_000;

/// DISTINCT ON as what it is: the first row of each group.
pub(super) fn distinct_on(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down_with_subqueries(|plan| match plan {
        LogicalPlan::Distinct(Distinct::On(distinct)) => {
            Ok(Transformed::yes(first_of_each(&distinct, &[])?))
        }
        LogicalPlan::Limit(limit) => match limit.input.as_ref() {
            LogicalPlan::Distinct(Distinct::On(distinct)) => {
                // The groups stand in the order in which the clause names them.
                let order = distinct.sort_expr.as_deref().unwrap_or_default();
                let order = &order[..distinct.on_expr.len().min(order.len())];
                let input = Arc::new(first_of_each(distinct, order)?);
                Ok(Transformed::yes(LogicalPlan::Limit(Limit {
                    input,
                    ..limit
                })))
            }
            _ => Ok(Transformed::no(LogicalPlan::Limit(limit))),
        },
        other => Ok(Transformed::no(other)),
    });
    Ok(rewritten.map_err(from_datafusion)?.data)
}

fn first_of_each(distinct: &DistinctOn, order: &[SortExpr]) -> DataFusionResult<LogicalPlan> {
    let number = Expr::from(WindowFunction::new(row_number_udwf(), Vec::new()));
    let number = number
        .partition_by(distinct.on_expr.clone())
        .order_by(distinct.sort_expr.clone().unwrap_or_default())
        .build()?;
    let column = Expr::Column(Column::new_unqualified(number.schema_name().to_string()));
    let rows = LogicalPlanBuilder::from(distinct.input.as_ref().clone())
        .window(vec![number])?
        .filter(column.eq(lit(1_u64)))?;
    let rows = match order {
        [] => rows,
        order => rows.sort(order.to_vec())?,
    };
    rows.project(distinct.select_expr.clone())?.build()
}

/// Window functions that number rows, with limits on the numbers.
pub(super) struct Ranked<'a> {
    window: &'a Window,
    /// The columns of the whole, over those of the window.
    columns: Vec<Expr>,
    /// The function of each column that the window adds.
    functions: Vec<RankFunction>,
    partition: &'a [Expr],
    order: &'a [SortExpr],
    limits: [RankRange; 3],
    /// Conditions that are not limits, over the columns of the window.
    rest: Vec<Expr>,
}

impl<'a> Ranked<'a> {
    /// A filter over such a window, and projections above and below it; `None` where the plan is
    /// something else, or shows numbers that nothing limits.
    ///
    /// # Errors
    /// Internal, when the plan contradicts itself.
    pub fn of(plan: &'a LogicalPlan) -> Result<Option<Ranked<'a>>> {
        let (above, plan) = through(plan)?;
        let LogicalPlan::Filter(filter) = plan else {
            return Ok(None);
        };
        let (below, plan) = through(&filter.input)?;
        let LogicalPlan::Window(window) = plan else {
            return Ok(None);
        };
        let of_window = |expr: &Expr| replaced(expr, filter.input.schema(), &below);
        let columns = above.iter().map(of_window).collect::<Result<Vec<_>>>()?;
        let predicate = of_window(&filter.predicate)?;
        let mut ranked: Option<Ranked<'a>> = None;
        for expr in &window.window_expr {
            let Some((function, call)) = rank_function(expr) else {
                return Ok(None);
            };
            let params = &call.params;
            let ranked = ranked.get_or_insert_with(|| Ranked {
                window,
                columns: columns.clone(),
                functions: Vec::new(),
                partition: &params.partition_by,
                order: &params.order_by,
                limits: [RankRange::ALL; 3],
                rest: Vec::new(),
            });
            if ranked.partition != params.partition_by || ranked.order != params.order_by {
                return Ok(None);
            }
            ranked.functions.push(function);
        }
        let Some(mut ranked) = ranked else {
            return Ok(None);
        };
        let width = window.input.schema().fields().len();
        for condition in split_conjunction(&predicate) {
            let number = |column: &Column| {
                let place = window.schema.index_of_column(column).ok()?;
                place.checked_sub(width)
            };
            match limit(condition, &number) {
                Some(limit) => {
                    let function = ranked.functions[limit.number] as usize;
                    ranked.limits[function] = ranked.limits[function].and(limit.range);
                    if !limit.is_exact {
                        ranked.rest.push(condition.clone());
                    }
                }
                None => ranked.rest.push(condition.clone()),
            }
        }
        let is_bounded = ranked.limits.iter().any(|limit| limit.is_bounded());
        let is_limited = ranked.limits != [RankRange::ALL; 3];
        match is_limited && (is_bounded || !ranked.shows_numbers()?) {
            true => Ok(Some(ranked)),
            false => Ok(None),
        }
    }

    /// Which columns of the window what is above it uses.
    fn used(&self) -> Result<Vec<usize>> {
        let above = self.columns.iter().chain(&self.rest);
        let used = above.flat_map(Expr::column_refs);
        let place = |column| self.window.schema.index_of_column(column);
        let used = used.map(|column| place(column).map_err(from_datafusion));
        used.collect()
    }

    fn shows_numbers(&self) -> Result<bool> {
        let width = self.window.input.schema().fields().len();
        let is_timed = self.rest.iter().any(has_timed_condition);
        Ok(is_timed || self.used()?.iter().any(|&column| column >= width))
    }
}

/// The plan below projections, and their columns over its own.
fn through(plan: &LogicalPlan) -> Result<(Vec<Expr>, &LogicalPlan)> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let (columns, below) = through(&projection.input)?;
            let exprs = projection.expr.iter();
            let exprs = exprs.map(|expr| {
                let expr = expr.clone().unalias();
                replaced(&expr, projection.input.schema(), &columns)
            });
            Ok((exprs.collect::<Result<_>>()?, below))
        }
        LogicalPlan::SubqueryAlias(alias) => through(&alias.input),
        other => {
            let columns = other.schema().columns().into_iter();
            Ok((columns.map(Expr::Column).collect(), other))
        }
    }
}

/// The expression with others in the place of the columns of a schema.
fn replaced(expr: &Expr, schema: &DFSchema, columns: &[Expr]) -> Result<Expr> {
    let replaced = expr.clone().transform_up(|expr| match &expr {
        Expr::Column(column) => {
            let place = schema.index_of_column(column)?;
            Ok(Transformed::yes(columns[place].clone()))
        }
        _ => Ok(Transformed::no(expr)),
    });
    Ok(replaced.map_err(from_datafusion)?.data)
}

fn rank_function(expr: &Expr) -> Option<(RankFunction, &WindowFunction)> {
    match expr {
        Expr::Alias(alias) => rank_function(&alias.expr),
        Expr::WindowFunction(call) => {
            let name = call.fun.name();
            let mut all = RankFunction::ALL.into_iter();
            let function = all.find(|function| function.name() == name)?;
            let is_plain = call.params.filter.is_none() && !call.params.distinct;
            is_plain.then_some((function, call.as_ref()))
        }
        _ => None,
    }
}

/// Between which numbers a condition has one of the columns.
struct NumberLimit {
    /// Which of the window's columns.
    number: usize,
    range: RankRange,
    /// The condition says nothing else.
    is_exact: bool,
}

fn limit(condition: &Expr, number: &dyn Fn(&Column) -> Option<usize>) -> Option<NumberLimit> {
    match condition {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: op @ (Operator::Or | Operator::And),
            right,
        }) => {
            let (a, b) = (limit(left, number), limit(right, number));
            match (op, a, b) {
                (_, Some(a), Some(b)) if a.number == b.number => Some(match op {
                    Operator::And => NumberLimit {
                        range: a.range.and(b.range),
                        is_exact: a.is_exact && b.is_exact,
                        ..a
                    },
                    _ => NumberLimit {
                        range: a.range.or(b.range),
                        is_exact: false,
                        ..a
                    },
                }),
                (Operator::And, Some(limit), _) | (Operator::And, None, Some(limit)) => {
                    Some(NumberLimit {
                        is_exact: false,
                        ..limit
                    })
                }
                _ => None,
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (column, value, op) = match (numbered(left, number), numbered(right, number)) {
                (Some(column), None) => (column, whole(right)?, *op),
                (None, Some(column)) => (column, whole(left)?, op.swap()?),
                _ => return None,
            };
            let range = match op {
                Operator::Eq => (value, value),
                Operator::Lt => (1, value.saturating_sub(1)),
                Operator::LtEq => (1, value),
                Operator::Gt => (value.saturating_add(1), i64::MAX),
                Operator::GtEq => (value, i64::MAX),
                _ => return None,
            };
            Some(NumberLimit {
                number: column,
                range: RankRange {
                    least: range.0.max(1),
                    greatest: range.1.max(0),
                },
                is_exact: true,
            })
        }
        Expr::Between(between) if !between.negated => {
            let column = numbered(&between.expr, number)?;
            let range = RankRange {
                least: whole(&between.low)?.max(1),
                greatest: whole(&between.high)?.max(0),
            };
            Some(NumberLimit {
                number: column,
                range,
                is_exact: true,
            })
        }
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) => {
            let column = numbered(expr, number)?;
            let values = list.iter().map(whole).collect::<Option<Vec<i64>>>()?;
            let range = RankRange {
                least: (*values.iter().min()?).max(1),
                greatest: (*values.iter().max()?).max(0),
            };
            Some(NumberLimit {
                number: column,
                range,
                is_exact: false,
            })
        }
        _ => None,
    }
}

/// Which of the window's columns an expression is, in whatever type.
fn numbered(expr: &Expr, number: &dyn Fn(&Column) -> Option<usize>) -> Option<usize> {
    match expr {
        Expr::Column(column) => number(column),
        Expr::Cast(cast) if cast.field.data_type().is_numeric() => numbered(&cast.expr, number),
        _ => None,
    }
}

/// A whole number; others are compared with as they are.
fn whole(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else {
        return None;
    };
    let whole = value.cast_to(&arrow::datatypes::DataType::Int64).ok()?;
    let back = whole.cast_to(&value.data_type()).ok()?;
    match whole {
        ScalarValue::Int64(number) if back == *value => number,
        _ => None,
    }
}

/// Rows to be ranked, and how.
struct Ranking<'a> {
    input: usize,
    schema: &'a DFSchema,
    partition: &'a [Expr],
    order: &'a [SortExpr],
    limits: [RankRange; 3],
    /// The functions whose numbers are shown, with their columns.
    shown: Vec<(RankFunction, Arc<Field>)>,
}

impl Build<'_> {
    /// A window with limits, the conditions beside them and the projection above.
    pub(super) fn ranked(&mut self, ranked: &Ranked<'_>, output: &DFSchema) -> Result<usize> {
        let schema = ranked.window.schema.as_ref();
        let width = ranked.window.input.schema().fields().len();
        let rest = conjunction(ranked.rest.clone());
        let is_timed = rest.as_ref().is_some_and(has_timed_condition);
        let used = ranked.used()?;
        // By column of the window, where its function is among those that are shown.
        let mut shown: Vec<(RankFunction, Arc<Field>)> = Vec::new();
        let mut places = Vec::new();
        for (at, &function) in ranked.functions.iter().enumerate() {
            if !is_timed && !used.contains(&(width + at)) {
                places.push(None);
                continue;
            }
            let known = shown.iter().position(|(known, _)| *known == function);
            places.push(Some(known.unwrap_or_else(|| {
                shown.push((function, schema.fields()[width + at].clone()));
                shown.len() - 1
            })));
        }
        let input = self.plan(&ranked.window.input)?;
        let top = self.top(Ranking {
            input,
            schema: ranked.window.input.schema(),
            partition: ranked.partition,
            order: ranked.order,
            limits: ranked.limits,
            shown,
        })?;
        // Computed columns stand between the input's and the numbers.
        let Operation::Top(spec, _) = &self.nodes[top].operation else {
            return Err(Error::internal("a ranking is planned as one"));
        };
        let first_number = spec.input.fields().len();
        let place = |column: usize| match column.checked_sub(width) {
            None => Some(column),
            Some(at) => Some(first_number + places[at]?),
        };
        let top_schema = self.nodes[top].schema.clone();
        if is_timed {
            let all = (0..schema.fields().len()).map(|column| {
                let place = place(column).expect("every number is shown");
                column_expr(&top_schema, place)
            });
            let node = self.map_compiled(top, None, all.collect(), arrow_schema(schema));
            let project = Some(ranked.columns.as_slice());
            return self.map(node, schema, rest.as_ref(), project, output);
        }
        let compile = |expr: &Expr| moved(self.compile(expr, schema)?, &top_schema, &place);
        let filter = rest.as_ref().map(&compile).transpose()?;
        let project = ranked.columns.iter().map(compile);
        let project = project.collect::<Result<Vec<_>>>()?;
        Ok(self.map_compiled(top, filter, project, arrow_schema(output)))
    }

    /// LIMIT and OFFSET, with an order or without.
    pub(super) fn limit(&mut self, limit: &Limit) -> Result<usize> {
        let not_constant = || {
            Error::unsupported("LIMIT of a view must be a number")
                .hint("write the number, as in LIMIT 10")
        };
        let SkipType::Literal(skip) = limit.get_skip_type().map_err(from_datafusion)? else {
            return Err(not_constant());
        };
        let FetchType::Literal(fetch) = limit.get_fetch_type().map_err(from_datafusion)? else {
            return Err(not_constant());
        };
        let number = |rows: usize| i64::try_from(rows).unwrap_or(i64::MAX);
        let range = RankRange {
            least: number(skip).saturating_add(1),
            greatest: fetch.map_or(i64::MAX, |fetch| number(skip).saturating_add(number(fetch))),
        };
        match limit.input.as_ref() {
            LogicalPlan::Sort(sort) => self.sort(sort, range),
            // Its rows stand in the order of what is below it.
            LogicalPlan::Projection(projection) if is_sorted(&projection.input) => {
                let below = LogicalPlan::Limit(Limit {
                    input: projection.input.clone(),
                    ..limit.clone()
                });
                let above = limit
                    .input
                    .with_new_exprs(projection.expr.clone(), vec![below]);
                self.plan(&above.map_err(from_datafusion)?)
            }
            input => self.first_rows(input, &[], range),
        }
    }

    /// The rows of a sort that are in the range, and among its own first ones.
    pub(super) fn sort(&mut self, sort: &Sort, range: RankRange) -> Result<usize> {
        let own = match sort.fetch {
            None => RankRange::ALL,
            Some(fetch) => RankRange {
                least: 1,
                greatest: i64::try_from(fetch).unwrap_or(i64::MAX),
            },
        };
        self.first_rows(&sort.input, &sort.expr, range.and(own))
    }

    fn first_rows(
        &mut self,
        rows: &LogicalPlan,
        order: &[SortExpr],
        range: RankRange,
    ) -> Result<usize> {
        let input = self.plan(rows)?;
        let schema = self.nodes[input].schema.clone();
        let top = self.top(Ranking {
            input,
            schema: rows.schema(),
            partition: &[],
            order,
            limits: [range, RankRange::ALL, RankRange::ALL],
            shown: Vec::new(),
        })?;
        let top_schema = self.nodes[top].schema.clone();
        let columns = 0..schema.fields().len();
        let project = columns.map(|column| column_expr(&top_schema, column));
        Ok(self.map_compiled(top, None, project.collect(), schema))
    }

    /// The operator, with rows of a group on one shard.
    fn top(&mut self, ranking: Ranking<'_>) -> Result<usize> {
        // What is the same in all rows of a group orders none of them.
        let decides = |sort: &&SortExpr| {
            !matches!(sort.expr, Expr::Literal(..)) && !ranking.partition.contains(&sort.expr)
        };
        let order = ranking.order.iter().filter(decides);
        let order: Vec<&SortExpr> = order.collect();
        let mut exprs: Vec<Expr> = Vec::new();
        let wanted = ranking.partition.iter();
        for expr in wanted.chain(order.iter().map(|sort| &sort.expr)) {
            if !exprs.contains(expr) {
                exprs.push(expr.clone());
            }
        }
        let (input, places) = self.with_columns(ranking.input, ranking.schema, &exprs)?;
        let place = |expr: &Expr| {
            let known = exprs.iter().position(|known| known == expr);
            places[known.expect("every expression is a column")]
        };
        let mut partition: Vec<usize> = ranking.partition.iter().map(place).collect();
        partition.dedup();
        let order = order.iter().map(|sort| OrderColumn {
            column: place(&sort.expr),
            options: SortOptions {
                descending: !sort.asc,
                nulls_first: sort.nulls_first,
            },
        });
        let order: Vec<OrderColumn> = order.collect();
        let input = self.judged_order(input, &partition, &order);
        let spec = TopSpec {
            input: self.nodes[input].schema.clone(),
            partition,
            order,
            limits: ranking.limits,
            shown: Vec::new(),
            output: self.nodes[input].schema.clone(),
            close: None,
            idle_micros: None,
            bounded_order: None,
            is_append_only: false,
        };
        let input = self.first_choice(input, &spec);
        let input = self.exchange(input, spec.partition.clone());
        let fields = self.nodes[input].schema.fields().iter().cloned();
        let numbers = ranking.shown.iter().map(|(function, field)| {
            let field = field.as_ref().clone();
            Arc::new(field.with_name(function.name()))
        });
        let fields: Vec<Arc<Field>> = fields.chain(numbers).collect();
        let shown = ranking
            .shown
            .iter()
            .map(|(function, _)| *function)
            .collect();
        let spec = TopSpec {
            shown,
            output: Arc::new(Schema::new(fields)),
            ..spec
        };
        Ok(self.add_top(input, spec, Portion::Groups))
    }

    /// Where results are to be final, rows that come behind the order that they would change are
    /// late.
    pub(super) fn judged_order(
        &mut self,
        input: usize,
        partition: &[usize],
        order: &[OrderColumn],
    ) -> usize {
        let closes = self.closes();
        let bounded = &self.nodes[input].bounded;
        let is_by_partition = partition.iter().any(|column| bounded.contains(column));
        match rising(order) {
            Some(column) if closes && !is_by_partition && self.judges(input, column) => {
                self.judged(input, column)
            }
            _ => input,
        }
    }

    /// Whether results come when they are final.
    pub(super) fn closes(&self) -> bool {
        self.options.emit == Some(Emit::OnWindowClose)
    }

    /// Of one group for all rows each worker chooses first.
    fn first_choice(&mut self, input: usize, spec: &TopSpec) -> usize {
        let bounded = spec.limits.iter().filter(|limit| limit.is_bounded());
        let rows = bounded.map(|limit| limit.greatest).min();
        let is_few = rows.is_some_and(|rows| rows <= FIRST_CHOICE_ROWS_MAX);
        if !spec.partition.is_empty() || !is_few {
            return input;
        }
        let input = match self.nodes[input].changelog {
            Changelog::AppendOnly => input,
            Changelog::Retracting => self.exchange_by_row(input),
        };
        let limits = spec.limits.map(|limit| RankRange { least: 1, ..limit });
        let spec = TopSpec {
            limits,
            ..spec.clone()
        };
        self.add_top(input, spec, Portion::Worker)
    }

    fn add_top(&mut self, input: usize, spec: TopSpec, portion: Portion) -> usize {
        let source = &self.nodes[input];
        let width = source.schema.fields().len();
        let is_bounded = |column: &usize| source.bounded.contains(column);
        let by_partition = spec.partition.iter().copied().filter(is_bounded);
        let mut bounded: Vec<usize> = by_partition.collect();
        let close = close_column(&bounded, &source.schema);
        let close = close.map(|column| {
            let place = spec.partition.iter().position(|known| *known == column);
            Close {
                column: place.expect("it is one of the partition"),
                emit: CloseEmit::OnUpdate,
                lateness_micros: 0,
            }
        });
        let idle_micros = self.idle_micros(input, close.is_none() && !spec.partition.is_empty());
        // What waits for its group's close holds its order back, too, and nobody knows how far.
        let waits = close.is_some() && self.closes();
        // A group of any age may leave.
        let has_order = !waits && idle_micros.is_none();
        let bounded_order = rising(&spec.order).filter(|column| has_order && is_bounded(column));
        bounded.extend(bounded_order.filter(|column| !spec.partition.contains(column)));
        bounded.sort_unstable();
        let one = spec.limit(RankFunction::RowNumber);
        let is_one = one.is_bounded() && one.least >= one.greatest;
        let number = spec.shown.iter();
        let number = number.copied().position(|f| f == RankFunction::RowNumber);
        let key = match (is_one, &source.key, number) {
            (true, _, _) => Some(spec.partition.clone()),
            (false, Some(key), _) => Some(key.clone()),
            (false, None, Some(number)) => {
                let mut key = spec.partition.clone();
                key.push(width + number);
                Some(key)
            }
            (false, None, None) => None,
        };
        let node = Node {
            inputs: vec![input],
            schema: spec.output.clone(),
            changelog: Changelog::Retracting,
            key,
            bounded,
            operation: Operation::Top(
                TopSpec {
                    close,
                    idle_micros,
                    bounded_order,
                    is_append_only: source.changelog == Changelog::AppendOnly,
                    ..spec
                },
                portion,
            ),
        };
        self.add(node)
    }
}

/// The first order column, where later rows are those of greater values and not of NULL.
pub(super) fn rising(order: &[OrderColumn]) -> Option<usize> {
    let first = order.first()?;
    let rises = !first.options.descending && !first.options.nulls_first;
    rises.then_some(first.column)
}

/// Whether rows come in an order, through projections.
fn is_sorted(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(projection) => is_sorted(&projection.input),
        _ => false,
    }
}

/// An expression over columns that stand elsewhere, in the schema.
fn moved(
    expr: Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
    place: &dyn Fn(usize) -> Option<usize>,
) -> Result<Arc<dyn PhysicalExpr>> {
    let moved = expr.transform(|expr| {
        let any: &dyn std::any::Any = expr.as_ref();
        let column = any.downcast_ref::<PhysicalColumn>();
        Ok(match column.and_then(|column| place(column.index())) {
            Some(place) => Transformed::yes(column_expr(schema, place)),
            None => Transformed::no(expr),
        })
    });
    Ok(moved.map_err(from_datafusion)?.data)
}
