//! Intervals compare by their length, wherever a plan compares, orders or groups them.
//!
//! ```text
//!   a < b                         interval_length(a) < interval_length(b)
//!   ORDER BY i, PARTITION BY i    ORDER BY interval_length(i), …
//!   ON a.i = b.i                  ON interval_length(a.i) = interval_length(b.i)
//!   min(i), count(DISTINCT i)     interval_min(i), count(DISTINCT interval_length(i))
//!   GROUP BY i                    GROUP BY interval_length(i), with interval_min(i) as the key
//!   SELECT DISTINCT i             the same
//! ```
//!
//! A group shows one of its own values, as in Postgres: not a canonical form, since `'1 mon'` and
//! `'30 days'` are equal but add up differently. Which one does not depend on the order of rows.
//! The rows of a view that is grouped so have no key that a look-up could use.
//!
//! The rule comes after types are made to fit, and finds nothing to do in its own result.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ExprSchema, JoinConstraint};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{
    AggregateFunction, Between, BinaryExpr, Case, GroupingSet, InList, InSubquery, ScalarFunction,
    Sort as SortExpr, WindowFunction, WindowFunctionDefinition,
};
use datafusion::logical_expr::expr_rewriter::{FunctionRewrite, NamePreserver};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder,
    Operator, WindowFrameBound, WindowFrameUnits, when,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use crate::function::interval::{End, choice_function, extreme_function, length_function};

/// The rule: for plans, and for single expressions.
#[derive(Debug)]
pub struct IntervalsByLength;

impl AnalyzerRule for IntervalsByLength {
    fn name(&self) -> &str {
        "intervals_by_length"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite_plan)?.data)
    }
}

impl FunctionRewrite for IntervalsByLength {
    fn name(&self) -> &str {
        "intervals_by_length"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _config: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        rewrite(expr, schema)
    }
}

fn rewrite_plan(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    let plan = plan
        .map_expressions(|expr| {
            let name = names.save(&expr);
            let rewritten = expr.transform_up(|expr| rewrite(expr, &schema))?;
            Ok(rewritten.update_data(|expr| name.restore(expr)))
        })?
        .data;
    let plan = match plan {
        LogicalPlan::Sort(mut sort) => {
            lengthen_sort(&mut sort.expr, &schema);
            LogicalPlan::Sort(sort)
        }
        LogicalPlan::Join(mut join) => {
            for (left, right) in &mut join.on {
                if is_interval(left, join.left.schema()) && is_interval(right, join.right.schema())
                {
                    lengthen(left);
                    lengthen(right);
                    // USING wants columns; which ones the result has is decided already.
                    join.join_constraint = JoinConstraint::On;
                }
            }
            LogicalPlan::Join(join)
        }
        LogicalPlan::Aggregate(aggregate) => grouped(aggregate)?,
        LogicalPlan::Distinct(Distinct::All(input)) => distinct(input)?,
        LogicalPlan::Distinct(Distinct::On(on)) => LogicalPlan::Distinct(Distinct::On(first(on))),
        other => other,
    };
    Ok(Transformed::yes(plan.recompute_schema()?))
}

fn is_interval(expr: &Expr, schema: &dyn ExprSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Interval(_)))
}

fn lengthen(expr: &mut Expr) {
    *expr = length(std::mem::take(expr));
}

fn length(expr: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(length_function(), vec![expr]))
}

/// Lengths in the place of those expressions that are intervals.
fn lengthen_each<'a>(exprs: impl Iterator<Item = &'a mut Expr>, schema: &dyn ExprSchema) -> bool {
    let mut is_any = false;
    for expr in exprs.filter(|expr| is_interval(expr, schema)) {
        lengthen(expr);
        is_any = true;
    }
    is_any
}

fn lengthen_sort(sorts: &mut [SortExpr], schema: &dyn ExprSchema) -> bool {
    lengthen_each(sorts.iter_mut().map(|sort| &mut sort.expr), schema)
}

/// One expression whose parts are rewritten already.
fn rewrite(expr: Expr, schema: &dyn ExprSchema) -> Result<Transformed<Expr>> {
    if let Expr::ScalarFunction(call) = expr {
        return in_call(call, schema);
    }
    let mut expr = expr;
    let is_changed = match &mut expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
            // NULL has no length, and compares with anything.
            let fits = |expr: &Expr| is_interval(expr, schema) || is_null(expr);
            fits(left)
                && fits(right)
                && lengthen_each([left.as_mut(), right.as_mut()].into_iter(), schema)
        }
        Expr::Between(Between {
            expr, low, high, ..
        }) => {
            let all = [expr.as_mut(), low.as_mut(), high.as_mut()];
            lengthen_each(all.into_iter(), schema)
        }
        Expr::InList(InList { expr, list, .. }) => {
            lengthen_each(std::iter::once(expr.as_mut()).chain(list), schema)
        }
        Expr::InSubquery(InSubquery { expr, subquery, .. }) if is_interval(expr, schema) => {
            let rows = subquery.subquery.as_ref().clone();
            let values = rows.schema().columns().into_iter().map(Expr::Column);
            let lengths = values.map(|value| match is_interval(&value, rows.schema()) {
                true => length(value),
                false => value,
            });
            let lengths: Vec<Expr> = lengths.collect();
            let rows = LogicalPlanBuilder::from(rows).project(lengths)?.build()?;
            subquery.subquery = Arc::new(rows);
            lengthen(expr);
            true
        }
        Expr::Case(case) => in_case(case, schema),
        Expr::AggregateFunction(call) => in_aggregate(call, schema),
        Expr::WindowFunction(call) => in_window(call, schema),
        _ => false,
    };
    Ok(match is_changed {
        true => Transformed::yes(expr),
        false => Transformed::no(expr),
    })
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

fn is_comparison(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

/// `CASE i WHEN …` compares.
fn in_case(case: &mut Case, schema: &dyn ExprSchema) -> bool {
    let Some(base) = case.expr.as_mut().filter(|base| is_interval(base, schema)) else {
        return false;
    };
    lengthen(base);
    let whens = case.when_then_expr.iter_mut();
    lengthen_each(whens.map(|(when, _)| when.as_mut()), schema);
    true
}

fn in_call(call: ScalarFunction, schema: &dyn ExprSchema) -> Result<Transformed<Expr>> {
    let ScalarFunction { func, args } = call;
    let is_over_intervals = args.iter().any(|argument| is_interval(argument, schema));
    let choose = |end: End, args: Vec<Expr>| {
        let args = args.into_iter().filter(|argument| !is_null(argument));
        let call = ScalarFunction::new_udf(choice_function(end), args.collect());
        Ok(Transformed::yes(Expr::ScalarFunction(call)))
    };
    match (func.name(), args.as_slice()) {
        ("least", _) if is_over_intervals => choose(End::Least, args),
        ("greatest", _) if is_over_intervals => choose(End::Greatest, args),
        ("nullif", [a, b]) if is_interval(a, schema) && is_interval(b, schema) => {
            let are_equal = length(a.clone()).eq(length(b.clone()));
            let nothing = Expr::Literal(ScalarValue::IntervalMonthDayNano(None), None);
            Ok(Transformed::yes(
                when(are_equal, nothing).otherwise(a.clone())?,
            ))
        }
        _ => Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction {
            func,
            args,
        }))),
    }
}

/// The aggregate that `min` and `max` are over intervals.
fn extreme(name: &str) -> Option<End> {
    match name {
        "min" => Some(End::Least),
        "max" => Some(End::Greatest),
        _ => None,
    }
}

fn in_aggregate(call: &mut AggregateFunction, schema: &dyn ExprSchema) -> bool {
    let mut is_changed = lengthen_sort(&mut call.params.order_by, schema);
    let name = call.func.name().to_string();
    match call.params.args.as_mut_slice() {
        [argument] if is_interval(argument, schema) => match extreme(&name) {
            Some(end) => {
                call.func = extreme_function(end);
                // Of equal ones one is as good as all.
                call.params.distinct = false;
                is_changed = true;
            }
            None if name == "count" && call.params.distinct => {
                lengthen(argument);
                is_changed = true;
            }
            None => {}
        },
        _ => {}
    }
    is_changed
}

fn in_window(call: &mut WindowFunction, schema: &dyn ExprSchema) -> bool {
    let params = &mut call.params;
    let mut is_changed = lengthen_each(params.partition_by.iter_mut(), schema);
    // A distance in a frame over intervals is an interval itself.
    let is_open = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::CurrentRow => true,
        WindowFrameBound::Preceding(by) | WindowFrameBound::Following(by) => by.is_null(),
    };
    let frame = &params.window_frame;
    let has_distance = frame.units == WindowFrameUnits::Range
        && !(is_open(&frame.start_bound) && is_open(&frame.end_bound));
    if !has_distance {
        is_changed |= lengthen_sort(&mut params.order_by, schema);
    }
    if let [argument] = params.args.as_slice()
        && is_interval(argument, schema)
        && let WindowFunctionDefinition::AggregateUDF(function) = &call.fun
        && let Some(end) = extreme(function.name())
    {
        call.fun = WindowFunctionDefinition::AggregateUDF(extreme_function(end));
        is_changed = true;
    }
    is_changed
}

/// `DISTINCT ON` shows what it is told to: only what it compares changes.
fn first(mut on: DistinctOn) -> DistinctOn {
    let schema = on.input.schema().clone();
    lengthen_each(on.on_expr.iter_mut(), schema.as_ref());
    if let Some(sorts) = &mut on.sort_expr {
        lengthen_sort(sorts, schema.as_ref());
    }
    on
}

fn distinct(input: Arc<LogicalPlan>) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = input
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    let schema = input.schema().clone();
    if !columns
        .iter()
        .any(|column| is_interval(column, schema.as_ref()))
    {
        return Ok(LogicalPlan::Distinct(Distinct::All(input)));
    }
    grouped(Aggregate::try_new(input, columns, Vec::new())?)
}

/// Groups by lengths; the values that are shown are aggregates, put in their places again.
fn grouped(aggregate: Aggregate) -> Result<LogicalPlan> {
    let input = aggregate.input.schema().clone();
    let keys: Vec<Expr> = match aggregate.group_expr.as_slice() {
        [Expr::GroupingSet(set)] => set.distinct_expr().into_iter().cloned().collect(),
        keys => keys.to_vec(),
    };
    let is_key = |expr: &Expr| is_interval(expr, input.as_ref());
    if !keys.iter().any(is_key) {
        return Ok(LogicalPlan::Aggregate(aggregate));
    }
    let by_length = |expr: &Expr| match is_key(expr) {
        true => length(expr.clone().unalias()),
        false => expr.clone(),
    };
    let all_by_length = |exprs: &Vec<Expr>| exprs.iter().map(by_length).collect::<Vec<_>>();
    let is_sets = matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]);
    let group_expr = match aggregate.group_expr.as_slice() {
        [Expr::GroupingSet(set)] => vec![Expr::GroupingSet(match set {
            GroupingSet::Rollup(exprs) => GroupingSet::Rollup(all_by_length(exprs)),
            GroupingSet::Cube(exprs) => GroupingSet::Cube(all_by_length(exprs)),
            GroupingSet::GroupingSets(sets) => {
                GroupingSet::GroupingSets(sets.iter().map(all_by_length).collect())
            }
        })],
        keys => keys.iter().map(by_length).collect(),
    };
    let mut aggr_expr = aggregate.aggr_expr.clone();
    let shown = keys.iter().enumerate().filter(|(_, key)| is_key(key));
    let shown: Vec<usize> = shown.map(|(place, _)| place).collect();
    for &place in &shown {
        let value = keys[place].clone().unalias();
        let function = extreme_function(End::Least).call(vec![value]);
        aggr_expr.push(function.alias(format!("interval_key:{place}")));
    }
    let old = aggregate.schema.clone();
    let new = Aggregate::try_new(aggregate.input, group_expr, aggr_expr)?;
    let columns = new.schema.columns();
    let width = old.fields().len();
    let project = old.iter().enumerate().map(|(place, (qualifier, field))| {
        let column = Expr::Column(columns[place].clone());
        let value = match shown.iter().position(|key| *key == place) {
            None => column,
            Some(nth) => {
                let value = Expr::Column(columns[width + nth].clone());
                match is_sets {
                    false => value,
                    // Not a part of this grouping: NULL, whatever the rows are.
                    true => when(column.is_not_null(), value).end()?,
                }
            }
        };
        Ok(value.alias_qualified(qualifier.cloned(), field.name()))
    });
    let project = project.collect::<Result<Vec<Expr>>>()?;
    LogicalPlanBuilder::from(LogicalPlan::Aggregate(new))
        .project(project)?
        .build()
}
