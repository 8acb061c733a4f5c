//! Conditions on `now()` in a stream plan: what of a query is one, and where its operator stands.
//!
//! ```text
//!   WHERE ts > now() - INTERVAL '1 hour' AND price > 10
//!
//!   timed_conditions   now_is('<', ts, 3600000000) AND price > 10      before the library's rules
//!   optimize           they move it below joins, unions and groups like any other condition
//!   above_windows      it moves above windows again, whose rows are judged below it
//!   Build              Map where price > 10 ─► Temporal filter now() < ts + 1 h
//! ```
//!
//! A condition compares `now()`, plus or minus constants, with a time of the row. What holds of
//! single rows at single moments does so of `now() - ts < INTERVAL '1 hour'` as well. Everything
//! else about `now()` is refused: inside OR the row would come and go by more than one span, a day
//! or month of `now()` is no point in time that a row could be ordered by.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, Schema, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, JoinType};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{BinaryExpr, Cast, ScalarFunction};
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Extension, Filter, Join, LogicalPlan, Operator, Projection, SubqueryAlias,
    UserDefinedLogicalNodeCore, lit,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::scalar::ScalarValue;

use crate::catalog::Changelog;
use crate::error::{Error, Result, SqlState};
use crate::function::arithmetic::{ArithmeticOperator, arithmetic};
use crate::function::interval::length_micros;
use crate::function::time::{ClockIs, as_now_is, now_is};
use crate::operator::temporal::{Condition, TemporalSpec};
use crate::plan::build::{Build, all_columns, arrow_schema, column_expr, plain_column};
use crate::plan::context::Planner;
use crate::plan::failure::from_datafusion;
use crate::plan::operators::no_such_operator;
use crate::plan::place::at_name;
use crate::plan::session::SessionNode;
use crate::plan::stream::{Node, Operation};
use crate::plan::window::WindowNode;
use crate::sql::ast;
use crate::types::calendar::MICROS_PER_DAY;

/// The clock's functions by their names in plans.
const CLOCKS: [&str; 2] = ["now", "localtimestamp"];

const NANOS_PER_MICRO: i64 = 1_000;

/// Whether a function is the step's clock.
pub(super) fn is_clock(name: &str) -> bool {
    CLOCKS.contains(&name)
}

/// `now()` in a place where a view cannot have it.
pub(super) fn misplaced() -> Error {
    Error::unsupported("function now() cannot be used here in a view")
        .detail("a view knows the time only in conditions by which its rows come and go")
        .hint("compare it with a time of the row: WHERE ts > now() - INTERVAL '1 hour' AND …")
}

/// The error with its place in the query, where it names something in it.
pub(super) fn in_query(error: Error, query: &ast::Query) -> Error {
    at_name(error, &ast::Statement::Query(Box::new(query.clone())))
}

/// Whether an expression has a condition on `now()` in it.
pub(super) fn has_timed_condition(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(as_now_is(expr).is_some()))
        .expect("nothing fails")
}

fn has_clock(expr: &Expr) -> bool {
    let is_clock = |expr: &Expr| match expr {
        Expr::ScalarFunction(call) => is_clock(call.func.name()),
        _ => false,
    };
    expr.exists(|expr| Ok(is_clock(expr)))
        .expect("nothing fails")
}

/// The plan with what WHERE, HAVING and ON say of `now()` as conditions that rules can move.
pub(super) fn timed_conditions(planner: &Planner<'_>, plan: LogicalPlan) -> Result<LogicalPlan> {
    let solver = Solver { planner };
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        let rewritten = solver.rewritten(plan);
        rewritten.map_err(|error| DataFusionError::External(Box::new(error)))
    });
    Ok(rewritten.map_err(from_datafusion)?.data)
}

/// One side of a comparison.
enum Side {
    /// Says nothing of the clock.
    Row(Expr),
    /// `now()` plus so many microseconds.
    Now(i64),
    /// How long before `now()`, plus so many microseconds, the time of the row is.
    Since(Expr, i64),
    /// How long after.
    Until(Expr, i64),
}

struct Solver<'a> {
    planner: &'a Planner<'a>,
}

impl Solver<'_> {
    fn rewritten(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(filter) if has_clock(&filter.predicate) => {
                let schema = filter.input.schema().clone();
                let predicate = self.predicate(filter.predicate, &schema)?;
                let filter = Filter::try_new(predicate, filter.input).map_err(from_datafusion)?;
                Ok(Transformed::yes(LogicalPlan::Filter(filter)))
            }
            LogicalPlan::Join(join) if join.filter.as_ref().is_some_and(has_clock) => {
                let schema = join.left.schema().join(join.right.schema());
                let schema = schema.map_err(from_datafusion)?;
                let filter = join.filter.map(|filter| self.predicate(filter, &schema));
                let filter = filter.transpose()?;
                let join = Join { filter, ..join };
                Ok(Transformed::yes(LogicalPlan::Join(join)))
            }
            other => Ok(Transformed::no(other)),
        }
    }

    fn predicate(&self, predicate: Expr, schema: &DFSchema) -> Result<Expr> {
        let mut conditions = Vec::new();
        for condition in split_conjunction_owned(predicate) {
            match has_clock(&condition) {
                true => self.solve(condition, schema, &mut conditions)?,
                false => conditions.push(condition),
            }
        }
        Ok(conjunction(conditions).unwrap_or_else(|| lit(true)))
    }

    /// One condition on `now()` as those that say the same of it.
    fn solve(&self, condition: Expr, schema: &DFSchema, out: &mut Vec<Expr>) -> Result<()> {
        match condition {
            Expr::Alias(alias) => self.solve(*alias.expr, schema, out),
            Expr::Not(inner) => match *inner {
                Expr::Not(inner) => self.solve(*inner, schema, out),
                Expr::BinaryExpr(compared) => {
                    let op = compared.op.negate().ok_or_else(misplaced)?;
                    let compared = BinaryExpr { op, ..compared };
                    self.compare(compared, schema, out)
                }
                _ => Err(misplaced()),
            },
            Expr::Between(between) if !between.negated => {
                let ends = [
                    (Operator::GtEq, between.low),
                    (Operator::LtEq, between.high),
                ];
                for (op, end) in ends {
                    let compared = BinaryExpr::new(between.expr.clone(), op, end);
                    self.compare(compared, schema, out)?;
                }
                Ok(())
            }
            Expr::BinaryExpr(compared) => self.compare(compared, schema, out),
            _ => Err(misplaced()),
        }
    }

    fn compare(&self, compared: BinaryExpr, schema: &DFSchema, out: &mut Vec<Expr>) -> Result<()> {
        let (left, right) = (&compared.left, &compared.right);
        if !has_clock(left) && !has_clock(right) {
            out.push(Expr::BinaryExpr(compared));
            return Ok(());
        }
        let relation = match compared.op {
            Operator::Lt => ClockIs::Before,
            Operator::LtEq => ClockIs::BeforeOrAt,
            Operator::Gt => ClockIs::After,
            Operator::GtEq => ClockIs::AtOrAfter,
            Operator::Eq | Operator::NotEq => {
                return Err(misplaced().hint(
                    "no step is taken at exactly one microsecond: compare with <, <=, > or >=",
                ));
            }
            _ => return Err(misplaced()),
        };
        let sides = (self.side(left, schema)?, self.side(right, schema)?);
        out.push(match sides {
            (Side::Now(a), Side::Now(b)) => lit(match relation {
                ClockIs::Before => a < b,
                ClockIs::BeforeOrAt => a <= b,
                ClockIs::After => a > b,
                ClockIs::AtOrAfter => a >= b,
            }),
            (Side::Now(now), Side::Row(time)) => {
                self.condition(relation, time, negated(now)?, schema)?
            }
            (Side::Row(time), Side::Now(now)) => {
                self.condition(relation.flipped(), time, negated(now)?, schema)?
            }
            (Side::Row(length), age) => self.aged(age, relation.flipped(), &length, schema)?,
            (age, Side::Row(length)) => self.aged(age, relation, &length, schema)?,
            _ => return Err(misplaced()),
        });
        Ok(())
    }

    /// `age <relation> length`.
    fn aged(&self, age: Side, relation: ClockIs, length: &Expr, schema: &DFSchema) -> Result<Expr> {
        let Some(length) = self.constant(length, schema)? else {
            return Err(misplaced().hint(
                "add the interval to the row's time: now() < ts + length in place of \
                 now() - ts < length",
            ));
        };
        // Intervals compare by their length, with months of 30 days.
        let length = length_micros(length);
        let length = i64::try_from(length).map_err(|_| out_of_range())?;
        match age {
            Side::Since(time, now) => {
                let offset = length.checked_sub(now).ok_or_else(out_of_range)?;
                self.condition(relation, time, offset, schema)
            }
            Side::Until(time, now) => {
                let offset = length.checked_add(now).ok_or_else(out_of_range)?;
                self.condition(relation.flipped(), time, negated(offset)?, schema)
            }
            Side::Row(_) | Side::Now(_) => Err(misplaced()),
        }
    }

    /// `now() <relation> time + offset`.
    fn condition(
        &self,
        relation: ClockIs,
        time: Expr,
        offset: i64,
        schema: &DFSchema,
    ) -> Result<Expr> {
        let (time, added) = self.without_constants(time, schema)?;
        let offset = offset.checked_add(added).ok_or_else(out_of_range)?;
        let data_type = time.get_type(schema).map_err(from_datafusion)?;
        let instant = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
        let time = match &data_type {
            data_type if *data_type == instant => time,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Null => {
                // A view computes in UTC.
                Expr::Cast(Cast::new(Box::new(time), instant))
            }
            other => return Err(no_such_operator(relation.symbol(), &instant, other)),
        };
        Ok(now_is(relation, time, offset))
    }

    fn side(&self, expr: &Expr, schema: &DFSchema) -> Result<Side> {
        if !has_clock(expr) {
            return Ok(Side::Row(expr.clone()));
        }
        match expr {
            Expr::Alias(alias) => self.side(&alias.expr, schema),
            // On the clock of UTC, which is the view's, both types of time show the same.
            Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(..)) => {
                match self.side(&cast.expr, schema)? {
                    Side::Now(now) => Ok(Side::Now(now)),
                    _ => Err(misplaced()),
                }
            }
            Expr::ScalarFunction(call) if is_clock(call.func.name()) => Ok(Side::Now(0)),
            Expr::ScalarFunction(call) => self.sum(call, schema),
            _ => Err(misplaced()),
        }
    }

    /// A side that is `now()` plus or minus something, or something minus `now()`.
    fn sum(&self, call: &ScalarFunction, schema: &DFSchema) -> Result<Side> {
        let (operator, a, b) = as_sum(call).ok_or_else(misplaced)?;
        let sides = (self.side(a, schema)?, self.side(b, schema)?);
        match (operator, sides) {
            (ArithmeticOperator::Add, (Side::Now(now), Side::Row(length)))
            | (ArithmeticOperator::Add, (Side::Row(length), Side::Now(now))) => {
                let length = self.fixed(&length, schema)?;
                let sum = now.checked_add(length).ok_or_else(out_of_range)?;
                Ok(Side::Now(sum))
            }
            (ArithmeticOperator::Subtract, (Side::Now(now), Side::Row(row))) => {
                let data_type = row.get_type(schema).map_err(from_datafusion)?;
                match is_time(&data_type) {
                    true => Ok(Side::Since(row, now)),
                    false => {
                        let length = negated(self.fixed(&row, schema)?)?;
                        let sum = now.checked_add(length).ok_or_else(out_of_range)?;
                        Ok(Side::Now(sum))
                    }
                }
            }
            (ArithmeticOperator::Subtract, (Side::Row(row), Side::Now(now))) => {
                let data_type = row.get_type(schema).map_err(from_datafusion)?;
                match is_time(&data_type) {
                    true => Ok(Side::Until(row, now)),
                    false => Err(misplaced()),
                }
            }
            _ => Err(misplaced()),
        }
    }

    /// The microseconds of an interval that is added to `now()`.
    fn fixed(&self, expr: &Expr, schema: &DFSchema) -> Result<i64> {
        let Some(interval) = self.constant(expr, schema)? else {
            return Err(misplaced().hint(
                "only a constant is added to now(): add the row's interval to the row's time, \
                 now() < ts + length in place of now() - length < ts",
            ));
        };
        fixed_micros(interval)?.ok_or_else(|| {
            misplaced().hint(
                "a month before now() goes by unevenly: add it to the row's time, \
                 ts + INTERVAL '1 month' > now()",
            )
        })
    }

    /// A time without the constants that are added to it, and their sum. A time so near the end of
    /// all times that the sum is beyond it stays on its side of the clock.
    fn without_constants(&self, time: Expr, schema: &DFSchema) -> Result<(Expr, i64)> {
        let Expr::ScalarFunction(call) = &time else {
            return Ok((time, 0));
        };
        let Some((operator, a, b)) = as_sum(call) else {
            return Ok((time, 0));
        };
        let fixed = |expr: &Expr| -> Result<Option<i64>> {
            match self.constant(expr, schema)? {
                Some(interval) => fixed_micros(interval),
                None => Ok(None),
            }
        };
        let (rest, added) = match (operator, fixed(a)?, fixed(b)?) {
            (ArithmeticOperator::Add, None, Some(added)) => (a, added),
            (ArithmeticOperator::Add, Some(added), None) => (b, added),
            (ArithmeticOperator::Subtract, None, Some(taken)) => (a, negated(taken)?),
            _ => return Ok((time, 0)),
        };
        let data_type = rest.get_type(schema).map_err(from_datafusion)?;
        if !is_time(&data_type) {
            return Ok((time, 0));
        }
        let (rest, more) = self.without_constants(rest.clone(), schema)?;
        Ok((rest, added.checked_add(more).ok_or_else(out_of_range)?))
    }

    /// The interval that an expression without columns is.
    fn constant(&self, expr: &Expr, schema: &DFSchema) -> Result<Option<IntervalMonthDayNano>> {
        let is_constant = |expr: &Expr| {
            !matches!(
                expr,
                Expr::Column(_)
                    | Expr::OuterReferenceColumn(..)
                    | Expr::Placeholder(_)
                    | Expr::ScalarSubquery(_)
            )
        };
        let has_other = expr.exists(|expr| Ok(!is_constant(expr)));
        if has_other.map_err(from_datafusion)? || has_clock(expr) {
            return Ok(None);
        }
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        if expr.get_type(schema).map_err(from_datafusion)? != interval {
            return Ok(None);
        }
        let compiled = self
            .planner
            .state()
            .create_physical_expr(expr.clone(), &DFSchema::empty());
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options);
        let row = row.map_err(crate::delta::arrow_error)?;
        let value = compiled
            .and_then(|compiled| compiled.evaluate(&row)?.into_array(1))
            .and_then(|values| ScalarValue::try_from_array(&values, 0));
        match value.map_err(from_datafusion)? {
            ScalarValue::IntervalMonthDayNano(interval) => Ok(interval),
            _ => Ok(None),
        }
    }
}

/// `a + b` and `a - b` of a query's text.
fn as_sum(call: &ScalarFunction) -> Option<(ArithmeticOperator, &Expr, &Expr)> {
    let operators = [ArithmeticOperator::Add, ArithmeticOperator::Subtract];
    let is_called = |operator: &ArithmeticOperator| *call.func == *arithmetic(*operator);
    let operator = operators.into_iter().find(is_called)?;
    match call.args.as_slice() {
        [a, b] => Some((operator, a, b)),
        _ => None,
    }
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32)
}

/// The length of an interval without months; in UTC every day has 24 hours.
fn fixed_micros(interval: IntervalMonthDayNano) -> Result<Option<i64>> {
    if interval.months != 0 {
        return Ok(None);
    }
    let micros = i64::from(interval.days)
        .checked_mul(MICROS_PER_DAY)
        .and_then(|days| days.checked_add(interval.nanoseconds / NANOS_PER_MICRO));
    micros.map(Some).ok_or_else(out_of_range)
}

fn negated(micros: i64) -> Result<i64> {
    micros.checked_neg().ok_or_else(out_of_range)
}

fn out_of_range() -> Error {
    Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range")
}

/// The plan with conditions on `now()` above the windows that they stand directly below.
///
/// A window judges the rows of a source by the watermark that stood before each. Rows that come
/// and go by the clock have none, so they do so behind it; which windows a row is in does not
/// depend on when. It does for sessions, whose rows hold each other together: there such a
/// condition is refused.
pub(super) fn above_windows(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut number = 0;
    let lifted = plan.transform_up(|plan| {
        let lifted = lifted(plan, &mut number);
        lifted.map_err(|error| DataFusionError::External(Box::new(error)))
    });
    Ok(lifted.map_err(from_datafusion)?.data)
}

fn lifted(plan: LogicalPlan, number: &mut usize) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Extension(extension) = &plan else {
        return Ok(Transformed::no(plan));
    };
    let node = extension.node.as_any();
    if let Some(session) = node.downcast_ref::<SessionNode>() {
        return match is_below(&session.input) {
            true => Err(below("SESSION")),
            false => Ok(Transformed::no(plan)),
        };
    }
    let Some(window) = node.downcast_ref::<WindowNode>() else {
        return Ok(Transformed::no(plan));
    };
    if !is_below(&window.input) {
        return Ok(Transformed::no(plan));
    }
    let (input, conditions) = pulled(&window.input, number).map_err(from_datafusion)?;
    if is_below(&input) {
        return Err(below("a window over a UNION"));
    }
    let columns = window.schema().columns().into_iter();
    let columns: Vec<Expr> = columns.map(Expr::Column).collect();
    let lifted = || -> datafusion::error::Result<LogicalPlan> {
        let node = WindowNode::new(Arc::new(input), window.time.clone(), window.kind)?;
        let node = LogicalPlan::Extension(Extension {
            node: Arc::new(node),
        });
        let predicate = conjunction(conditions).unwrap_or_else(|| lit(true));
        let filter = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(node))?);
        let projection = Projection::try_new(columns, Arc::new(filter))?;
        Ok(LogicalPlan::Projection(projection))
    };
    Ok(Transformed::yes(lifted().map_err(from_datafusion)?))
}

fn below(what: &str) -> Error {
    Error::unsupported(format!(
        "a condition on now() below {what} is not supported"
    ))
    .hint(
        "write it in the WHERE of the SELECT that has the window in its FROM, on a column of the \
         window's rows",
    )
}

/// Whether there are conditions on `now()` between a window and the rows it judges.
fn is_below(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Filter(filter) => {
            has_timed_condition(&filter.predicate) || is_below(&filter.input)
        }
        LogicalPlan::Projection(projection) => is_below(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_below(&alias.input),
        LogicalPlan::Union(union) => union.inputs.iter().any(|input| is_below(input)),
        LogicalPlan::TableScan(scan) => scan.filters.iter().any(has_timed_condition),
        _ => false,
    }
}

/// The plan without its conditions on `now()`, with their times as further columns where they are
/// not among its own; and the conditions over these.
fn pulled(
    plan: &LogicalPlan,
    number: &mut usize,
) -> datafusion::error::Result<(LogicalPlan, Vec<Expr>)> {
    match plan {
        LogicalPlan::Filter(filter) => {
            let (input, mut conditions) = pulled(&filter.input, number)?;
            let (timed, rest) = split(&filter.predicate);
            conditions.extend(timed);
            let plan = match conjunction(rest) {
                None => input,
                Some(rest) => LogicalPlan::Filter(Filter::try_new(rest, Arc::new(input))?),
            };
            Ok((plan, conditions))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let (input, conditions) = pulled(&alias.input, number)?;
            if conditions.is_empty() {
                return Ok((plan.clone(), conditions));
            }
            let inside = input.schema().clone();
            let renamed = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?;
            let outside = renamed.schema.columns();
            let rename = |condition: Expr| {
                condition.transform(|expr| match expr {
                    Expr::Column(column) => {
                        let place = inside.index_of_column(&column)?;
                        Ok(Transformed::yes(Expr::Column(outside[place].clone())))
                    }
                    other => Ok(Transformed::no(other)),
                })
            };
            let conditions = conditions.into_iter().map(|each| Ok(rename(each)?.data));
            let conditions = conditions.collect::<datafusion::error::Result<_>>()?;
            Ok((LogicalPlan::SubqueryAlias(renamed), conditions))
        }
        LogicalPlan::Projection(projection) => {
            let (input, conditions) = pulled(&projection.input, number)?;
            if conditions.is_empty() {
                return Ok((plan.clone(), conditions));
            }
            let mut exprs = projection.expr.clone();
            let mut above = Vec::new();
            for condition in &conditions {
                let (relation, time, offset) = as_now_is(condition).expect("only those are split");
                if let Some(place) = exprs.iter().position(|expr| expr == time) {
                    let known = projection.schema.columns().into_iter().nth(place);
                    if let Some(known) = known {
                        above.push(now_is(relation, Expr::Column(known), offset));
                        continue;
                    }
                }
                let name = format!("__now_{number}");
                *number += 1;
                above.push(now_is(
                    relation,
                    datafusion::logical_expr::ident(&name),
                    offset,
                ));
                exprs.push(time.clone().alias(name));
            }
            let projection = Projection::try_new(exprs, Arc::new(input))?;
            Ok((LogicalPlan::Projection(projection), above))
        }
        other => Ok((other.clone(), Vec::new())),
    }
}

/// The conditions on `now()` among those that must all hold, and the others.
fn split(predicate: &Expr) -> (Vec<Expr>, Vec<Expr>) {
    let all = split_conjunction(predicate).into_iter().cloned();
    all.partition(|condition| as_now_is(condition).is_some())
}

impl Build<'_> {
    /// A join whose further conditions may be on `now()`: they filter its rows.
    pub(super) fn timed_join(&mut self, join: &Join) -> Result<usize> {
        let (timed, rest) = match &join.filter {
            Some(filter) => split(filter),
            None => (Vec::new(), Vec::new()),
        };
        let Some(predicate) = conjunction(timed) else {
            return self.join(join);
        };
        if join.join_type != JoinType::Inner {
            return Err(misplaced().hint(
                "in the ON of an outer join it decides which rows match: put the condition into \
                 the WHERE of a subquery that is joined",
            ));
        }
        let filter = conjunction(rest);
        let joined = self.join(&Join {
            filter,
            ..join.clone()
        })?;
        self.map(joined, &join.schema, Some(&predicate), None, &join.schema)
    }

    /// Filter and projection with conditions on `now()` among the filter's.
    ///
    /// The operator holds rows, so only the columns that are used above it reach it, and other
    /// conditions come first.
    pub(super) fn timed_map(
        &mut self,
        input: usize,
        schema: &DFSchema,
        filter: Option<&Expr>,
        project: Option<&[Expr]>,
        output: &DFSchema,
    ) -> Result<usize> {
        let (timed, rest) = filter.map(split).unwrap_or_default();
        let rest = conjunction(rest).map(|rest| self.compile(&rest, schema));
        let project = match project {
            Some(exprs) => exprs
                .iter()
                .map(|expr| self.compile(expr, schema))
                .collect::<Result<Vec<_>>>()?,
            None => all_columns(&self.nodes[input].schema),
        };
        let used: BTreeSet<usize> = project
            .iter()
            .flat_map(collect_columns)
            .map(|column| column.index())
            .collect();
        let used: Vec<usize> = used.into_iter().collect();
        let source = self.nodes[input].schema.clone();
        let mut kept: Vec<Arc<dyn PhysicalExpr>> = used
            .iter()
            .map(|&column| column_expr(&source, column))
            .collect();
        let mut conditions = Vec::new();
        for condition in &timed {
            let (relation, time, offset_micros) =
                as_now_is(condition).expect("only those are split");
            let time = self.compile(time, schema)?;
            let known = kept
                .iter()
                .position(|other| other.as_ref() == time.as_ref());
            conditions.push(Condition {
                relation,
                column: known.unwrap_or(kept.len()),
                offset_micros,
            });
            if known.is_none() {
                kept.push(time);
            }
        }
        let narrow = self.projected_schema(input, &kept)?;
        let node = self.map_compiled(input, rest.transpose()?, kept, narrow);
        let node = self.temporal(node, conditions);
        let place = |column: usize| used.binary_search(&column).expect("a used column");
        let project = project.into_iter().map(|expr| moved(expr, &place));
        let project = project.collect::<Result<Vec<_>>>()?;
        Ok(self.map_compiled(node, None, project, arrow_schema(output)))
    }

    /// The operator, on the shards where a row comes to that is taken away again.
    fn temporal(&mut self, input: usize, conditions: Vec<Condition>) -> usize {
        let input = match self.nodes[input].changelog {
            Changelog::AppendOnly => input,
            Changelog::Retracting => {
                let node = &self.nodes[input];
                let all = || (0..node.schema.fields().len()).collect();
                let columns = node.key.clone().unwrap_or_else(all);
                self.exchange(input, columns)
            }
        };
        let node = &self.nodes[input];
        let of = |is_lasting: bool| {
            let mut all = conditions.iter();
            let found = all
                .by_ref()
                .find(|each| each.relation.is_lasting() == is_lasting);
            let is_alone = all.all(|each| each.relation.is_lasting() != is_lasting);
            (found, is_alone)
        };
        let kinds = [of(true), of(false)];
        let is_bounded = |column: &usize| {
            kinds.iter().all(|(condition, is_alone)| {
                *is_alone && condition.is_none_or(|each| each.column == *column)
            })
        };
        let bounded: Vec<usize> = node.bounded.iter().copied().filter(is_bounded).collect();
        let node = Node {
            changelog: match kinds[1].0 {
                None => node.changelog,
                Some(_) => Changelog::Retracting,
            },
            key: node.key.clone(),
            schema: node.schema.clone(),
            operation: Operation::Temporal(TemporalSpec {
                input: node.schema.clone(),
                is_append_only: node.changelog == Changelog::AppendOnly,
                bounded: bounded.clone(),
                conditions,
            }),
            inputs: vec![input],
            bounded,
        };
        self.add(node)
    }

    /// Whether rows leave the plan by the clock.
    pub(super) fn has_leaving(&self) -> bool {
        let leaves = |node: &Node| match &node.operation {
            Operation::Temporal(spec) => {
                let mut conditions = spec.conditions.iter();
                conditions.any(|condition| !condition.relation.is_lasting())
            }
            operation => operation.has_ttl(),
        };
        self.nodes.iter().any(leaves)
    }

    /// What has left before its window closed would never be shown, and what closes after all of
    /// its rows have left is nothing.
    pub(super) fn refuse_leaving(&self) -> Result<()> {
        let has_ttl = self.nodes.iter().any(|node| node.operation.has_ttl());
        match self.has_leaving() {
            false => Ok(()),
            true if has_ttl => Err(Error::unsupported(
                "EMIT ON WINDOW CLOSE of rows that leave by state_ttl is not supported",
            )
            .detail("a result that is final cannot lose its rows")
            .hint("leave EMIT or state_ttl out")),
            true => Err(Error::unsupported(
                "EMIT ON WINDOW CLOSE of rows that leave by now() is not supported",
            )
            .detail("a result that is final cannot lose its rows")
            .hint("leave EMIT out, or leave the condition out and read the view with it")),
        }
    }
}

/// An expression over other places of the same columns.
fn moved(
    expr: Arc<dyn PhysicalExpr>,
    place: &dyn Fn(usize) -> usize,
) -> Result<Arc<dyn PhysicalExpr>> {
    if let Some(column) = plain_column(&expr) {
        return Ok(Arc::new(PhysicalColumn::new(
            &name_of(&expr),
            place(column),
        )));
    }
    let moved = expr.transform(|expr| match plain_column(&expr) {
        Some(column) => {
            let moved = PhysicalColumn::new(&name_of(&expr), place(column));
            Ok(Transformed::yes(Arc::new(moved) as Arc<dyn PhysicalExpr>))
        }
        None => Ok(Transformed::no(expr)),
    });
    Ok(moved.map_err(from_datafusion)?.data)
}

fn name_of(column: &Arc<dyn PhysicalExpr>) -> String {
    let any: &dyn std::any::Any = column.as_ref();
    let column = any.downcast_ref::<PhysicalColumn>();
    column
        .expect("the caller knows it is one")
        .name()
        .to_string()
}
