//! Window functions in a stream plan: `OVER (PARTITION BY … ORDER BY … frame)`.
//!
//! ```text
//!   SELECT k, t, x - lag(x) OVER w, sum(x) OVER w, rank() OVER (ORDER BY x) FROM s …
//!
//!   Projection ─ Window rank() ─ Window lag(x), sum(x) ─ …          DataFusion: one for each order
//!
//!   Build     Map ─ Over rank order x ─ Exchange to one
//!               ─ Map ─ Over lag(x), sum(x) by (k) order t ─ Exchange by (k) ─ Map, arguments as
//!                                                                              columns
//! ```
//!
//! A filter that limits a rank makes of it the first rows of each group, which cost less to keep:
//! see `top`, which is asked first.
//!
//! Refused: what must be a constant and is none; distances in values that cannot be added.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::{
    AggregateFunction as AggregateExpr, NullTreatment, WindowFunction, WindowFunctionParams,
};
use datafusion::logical_expr::{
    Expr, ExprSchemable, SortExpr, Window, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition,
};
use datafusion::scalar::ScalarValue;

use crate::catalog::Changelog;
use crate::error::{Error, Result, SqlState};
use crate::operator::aggregate::{Close, CloseEmit};
use crate::operator::over::{
    BoundedOrder, Distance, Frame, FrameBound, FrameUnits, Kept, Nth, OverCall, OverFunction,
    OverSpec, Shift,
};
use crate::operator::top::OrderColumn;
use crate::plan::aggregate::frame_aggregate;
use crate::plan::build::{Build, arrow_schema, column_expr};
use crate::plan::emit::close_column;
use crate::plan::failure::from_datafusion;
use crate::plan::stream::{Node, Operation};
use crate::plan::top::rising;
use crate::types::SqlType;

/// Functions over one window, with the columns that they add.
struct Together<'a> {
    params: &'a WindowFunctionParams,
    /// Each with its place among all that the plan's node adds.
    calls: Vec<(usize, &'a WindowFunction)>,
}

impl Build<'_> {
    /// A node of DataFusion's plan: the input's columns, and one for each function.
    ///
    /// # Errors
    /// 0A000 for what a view cannot have.
    pub(super) fn over(&mut self, window: &Window) -> Result<usize> {
        let schema = window.input.schema();
        let width = schema.fields().len();
        let mut node = self.plan(&window.input)?;
        let mut places = vec![0; window.window_expr.len()];
        for together in in_windows(&window.window_expr)? {
            let (over, first) = self.one_window(node, schema, &together, window)?;
            for (number, (place, _)) in together.calls.iter().enumerate() {
                places[*place] = first + number;
            }
            node = over;
        }
        let over = self.nodes[node].schema.clone();
        let columns = (0..width).chain(places);
        let project = columns.map(|column| column_expr(&over, column)).collect();
        Ok(self.map_compiled(node, None, project, arrow_schema(&window.schema)))
    }

    /// The operator, and where the columns of its functions begin.
    fn one_window(
        &mut self,
        input: usize,
        schema: &DFSchema,
        together: &Together<'_>,
        window: &Window,
    ) -> Result<(usize, usize)> {
        let params = together.params;
        // What is the same in all rows of a partition orders none of them.
        let decides = |sort: &&SortExpr| {
            !matches!(sort.expr, Expr::Literal(..)) && !params.partition_by.contains(&sort.expr)
        };
        let order: Vec<&SortExpr> = params.order_by.iter().filter(decides).collect();
        let mut columns = Columns::default();
        let mut partition: Vec<usize> = Vec::new();
        for expr in &params.partition_by {
            let column = columns.place(expr);
            if !partition.contains(&column) {
                partition.push(column);
            }
        }
        let orders = order.iter().map(|sort| OrderColumn {
            column: columns.place(&sort.expr),
            options: SortOptions {
                descending: !sort.asc,
                nulls_first: sort.nulls_first,
            },
        });
        let orders: Vec<OrderColumn> = orders.collect();
        let mut calls = Vec::new();
        for (_, call) in &together.calls {
            let function = function(call, schema, &mut columns)?;
            let frame = match &function {
                OverFunction::Nth(_) | OverFunction::Aggregate(_) => {
                    frame(&call.params.window_frame, &order, schema)?
                }
                _ => Frame::WHOLE,
            };
            calls.push(OverCall { function, frame });
        }
        let (input, places) = self.with_columns(input, schema, &columns.exprs)?;
        let place = |column: usize| places[column];
        let placed = partition.into_iter().map(place);
        let mut partition: Vec<usize> = Vec::new();
        for column in placed {
            if !partition.contains(&column) {
                partition.push(column);
            }
        }
        let orders = orders.into_iter().map(|order| OrderColumn {
            column: place(order.column),
            ..order
        });
        let orders: Vec<OrderColumn> = orders.collect();
        let calls = calls.into_iter().map(|call| OverCall {
            function: call.function.moved(place),
            ..call
        });
        let calls: Vec<OverCall> = calls.collect();
        let input = self.judged_final(input, &partition, &orders, &calls);
        let is_bounded = |column: &usize| self.nodes[input].bounded.contains(column);
        let is_final = rising(&orders).is_some_and(|column| is_bounded(&column));
        let input = match is_final || partition.iter().any(is_bounded) {
            true => input,
            false => self.with_lifetime(input),
        };
        let input = self.exchange(input, partition.clone());
        let first = self.nodes[input].schema.fields().len();
        let fields = self.nodes[input].schema.fields().iter().cloned();
        let added = together.calls.iter().zip(&calls).map(|((place, _), call)| {
            let field = &window.schema.fields()[window.input.schema().fields().len() + place];
            let field = field.as_ref().clone();
            Arc::new(
                field
                    .with_name(call.function.to_string())
                    .with_nullable(true),
            )
        });
        let fields: Vec<Arc<Field>> = fields.chain(added).collect();
        let spec = OverSpec {
            input: self.nodes[input].schema.clone(),
            partition,
            order: orders,
            calls,
            output: Arc::new(Schema::new(fields)),
            close: None,
            bounded_order: None,
            kept: None,
        };
        Ok((self.add_over(input, spec), first))
    }

    /// Where rows are let go by their time, or are to be final by it, those that come behind it
    /// are late.
    fn judged_final(
        &mut self,
        input: usize,
        partition: &[usize],
        order: &[OrderColumn],
        calls: &[OverCall],
    ) -> usize {
        let input = self.judged_order(input, partition, order);
        let bounded = &self.nodes[input].bounded;
        let is_by_partition = partition.iter().any(|column| bounded.contains(column));
        let ends = calls.iter().all(|call| ahead(call).is_some()) && kept(calls).is_some();
        match rising(order) {
            Some(column)
                if ends
                    && !is_by_partition
                    && !partition.contains(&column)
                    && self.judges(input, column) =>
            {
                self.judged(input, column)
            }
            _ => input,
        }
    }

    fn add_over(&mut self, input: usize, spec: OverSpec) -> usize {
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
        // What waits for its partition's close holds its order back, too, and nobody knows how far.
        let waits = close.is_some() && self.closes();
        let bounded_order = rising(&spec.order)
            .filter(|column| !waits && is_bounded(column) && !spec.partition.contains(column))
            .and_then(|column| {
                let mut ahead = spec.calls.iter().map(ahead);
                let ahead_micros = ahead.try_fold(0, |most, ahead| Some(ahead?.max(most)))?;
                Some(BoundedOrder {
                    column,
                    ahead_micros,
                })
            });
        bounded.extend(bounded_order.map(|order| order.column));
        bounded.sort_unstable();
        let is_number = |call: &OverCall| matches!(call.function, OverFunction::RowNumber);
        let number = spec.calls.iter().position(is_number);
        let key = match (&source.key, number) {
            (Some(key), _) => Some(key.clone()),
            (None, Some(number)) => {
                let mut key = spec.partition.clone();
                key.push(width + number);
                Some(key)
            }
            (None, None) => None,
        };
        let node = Node {
            inputs: vec![input],
            schema: spec.output.clone(),
            changelog: Changelog::Retracting,
            key,
            bounded,
            operation: Operation::Over(OverSpec {
                kept: match (&close, bounded_order) {
                    (None, Some(_)) => kept(&spec.calls),
                    _ => None,
                },
                close,
                bounded_order,
                ..spec
            }),
        };
        self.add(node)
    }
}

/// Expressions that are to be columns.
#[derive(Default)]
struct Columns {
    exprs: Vec<Expr>,
}

impl Columns {
    fn place(&mut self, expr: &Expr) -> usize {
        let known = self.exprs.iter().position(|known| known == expr);
        known.unwrap_or_else(|| {
            self.exprs.push(expr.clone());
            self.exprs.len() - 1
        })
    }
}

/// The functions of a node, those over one window together.
fn in_windows(exprs: &[Expr]) -> Result<Vec<Together<'_>>> {
    let mut windows: Vec<Together<'_>> = Vec::new();
    for (place, expr) in exprs.iter().enumerate() {
        let call = called(expr)?;
        let params = &call.params;
        let known = windows.iter_mut().find(|window| {
            window.params.partition_by == params.partition_by
                && window.params.order_by == params.order_by
        });
        match known {
            Some(window) => window.calls.push((place, call)),
            None => windows.push(Together {
                params,
                calls: vec![(place, call)],
            }),
        }
    }
    Ok(windows)
}

fn called(expr: &Expr) -> Result<&WindowFunction> {
    match expr {
        Expr::Alias(alias) => called(&alias.expr),
        Expr::WindowFunction(call) => Ok(call),
        other => Err(Error::internal(format!("{other} is not a window function"))),
    }
}

fn function(
    call: &WindowFunction,
    schema: &DFSchema,
    columns: &mut Columns,
) -> Result<OverFunction> {
    let params = &call.params;
    let ignores_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
    let name = match &call.fun {
        WindowFunctionDefinition::AggregateUDF(function) => {
            check_aggregate(function.name())?;
            let expr = AggregateExpr::new_udf(
                function.clone(),
                params.args.clone(),
                params.distinct,
                params.filter.clone(),
                Vec::new(),
                params.null_treatment,
            );
            let mut column = |expr: &Expr| Ok(columns.place(expr));
            let call = frame_aggregate(&expr, &mut column, schema)?;
            return Ok(OverFunction::Aggregate(call));
        }
        WindowFunctionDefinition::WindowUDF(function) => function.name().to_string(),
    };
    check_clauses(&name, params)?;
    let argument = |place: usize| {
        let missing = || Error::internal(format!("{name} without its arguments"));
        params.args.get(place).ok_or_else(missing)
    };
    let value_type = || argument(0)?.get_type(schema).map_err(from_datafusion);
    Ok(match name.as_str() {
        "row_number" => OverFunction::RowNumber,
        "rank" => OverFunction::Rank,
        "dense_rank" => OverFunction::DenseRank,
        "percent_rank" => OverFunction::PercentRank,
        "cume_dist" => OverFunction::CumeDist,
        "ntile" => match whole(argument(0)?, "the argument of ntile")? {
            parts @ 1.. => OverFunction::Ntile(parts),
            _ => {
                let message = "argument of ntile must be greater than zero";
                return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
        },
        "lag" | "lead" => {
            let offset = match params.args.get(1) {
                Some(offset) => whole(offset, &format!("the offset of {name}"))?,
                None => 1,
            };
            let data_type = typed(value_type()?, &name)?;
            OverFunction::Shift(Shift {
                argument: columns.place(argument(0)?),
                offset: match name.as_str() {
                    "lag" => offset,
                    _ => offset.saturating_neg(),
                },
                default: default(params.args.get(2), &data_type, &name)?,
                ignores_nulls,
            })
        }
        "first_value" | "last_value" | "nth_value" => {
            let number = match name.as_str() {
                "first_value" => 1,
                "last_value" => -1,
                _ => whole(argument(1)?, "the number of nth_value")?,
            };
            if number == 0 {
                let message = "argument of nth_value must not be zero";
                return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
            typed(value_type()?, &name)?;
            OverFunction::Nth(Nth {
                argument: columns.place(argument(0)?),
                number,
                ignores_nulls,
            })
        }
        _ => {
            let message = format!("window function {name} is not supported in views");
            return Err(
                Error::unsupported(message).hint("use it in the SELECT that reads the view")
            );
        }
    })
}

/// Aggregates that say of rows in an order what they say whenever they are asked: others depend on
/// which rows they are given at once, so that what was out is not known again.
const REPEATABLE: [&str; 33] = [
    "approx_distinct",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "interval_max",
    "interval_min",
    "max",
    "median",
    "min",
    "percentile_cont",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "string_agg",
    "sum",
    "var",
    "var_pop",
];

fn check_aggregate(name: &str) -> Result<()> {
    match REPEATABLE.contains(&name) {
        true => Ok(()),
        false => {
            let message = format!("{name} OVER a window is not supported in views");
            let error = Error::unsupported(message);
            Err(error.hint("use it in the SELECT that reads the view"))
        }
    }
}

/// Refuses what functions that are no aggregates do not have.
fn check_clauses(name: &str, params: &WindowFunctionParams) -> Result<()> {
    if params.filter.is_some() {
        let message = "FILTER is not implemented for non-aggregate window functions";
        return Err(Error::unsupported(message).hint("leave rows out with WHERE"));
    }
    if params.distinct {
        let message = "DISTINCT is not implemented for window functions";
        return Err(Error::unsupported(message));
    }
    let names = ["lag", "lead", "first_value", "last_value", "nth_value"];
    let ignores_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
    match ignores_nulls && !names.contains(&name) {
        true => {
            let message = format!("IGNORE NULLS is not implemented for {name}");
            Err(Error::unsupported(message))
        }
        false => Ok(()),
    }
}

/// A type that values of rows can have.
fn typed(data_type: DataType, name: &str) -> Result<DataType> {
    match data_type {
        DataType::Null => Err(Error::unsupported(format!(
            "{name} of a NULL without a type is not supported in views"
        ))
        .hint("say of what type it is: NULL::bigint")),
        other => Ok(other),
    }
}

/// A whole number that is written in the text.
fn whole(expr: &Expr, what: &str) -> Result<i64> {
    let Expr::Literal(value, _) = expr else {
        return Err(
            Error::unsupported(format!("{what} must be a constant in a view"))
                .hint("write the number itself"),
        );
    };
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(Some(number))) if value.data_type().is_integer() => Ok(number),
        _ => {
            let message = format!("{what} must be a whole number, not {value}");
            Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message))
        }
    }
}

fn default(expr: Option<&Expr>, data_type: &DataType, name: &str) -> Result<ScalarValue> {
    let value = match expr {
        None => ScalarValue::Null,
        Some(Expr::Literal(value, _)) => value.clone(),
        Some(_) => {
            return Err(Error::unsupported(format!(
                "the default of {name} must be a constant in a view"
            ))
            .hint(format!(
                "coalesce({name}(…) OVER (…), …), where the value is never NULL"
            )));
        }
    };
    match value.is_null() {
        true => ScalarValue::try_from(data_type).map_err(from_datafusion),
        false => value.cast_to(data_type).map_err(from_datafusion),
    }
}

fn frame(frame: &WindowFrame, order: &[&SortExpr], schema: &DFSchema) -> Result<Frame> {
    let units = match frame.units {
        WindowFrameUnits::Rows => FrameUnits::Rows,
        WindowFrameUnits::Range => FrameUnits::Range,
        WindowFrameUnits::Groups => FrameUnits::Groups,
    };
    let value = |value: &ScalarValue| distance(value, units, order, schema);
    let bound = |bound: &WindowFrameBound| -> Result<FrameBound> {
        Ok(match bound {
            WindowFrameBound::Preceding(by) if by.is_null() => FrameBound::UnboundedPreceding,
            WindowFrameBound::Following(by) if by.is_null() => FrameBound::UnboundedFollowing,
            WindowFrameBound::CurrentRow => FrameBound::CurrentRow,
            WindowFrameBound::Preceding(by) => FrameBound::Preceding(value(by)?),
            WindowFrameBound::Following(by) => FrameBound::Following(value(by)?),
        })
    };
    Ok(Frame {
        units,
        start: bound(&frame.start_bound)?,
        end: bound(&frame.end_bound)?,
    })
}

fn distance(
    value: &ScalarValue,
    units: FrameUnits,
    order: &[&SortExpr],
    schema: &DFSchema,
) -> Result<Distance> {
    let invalid = || {
        let message = "invalid preceding or following size in window function";
        Error::new(SqlState::INVALID_PRECEDING_OR_FOLLOWING_SIZE, message)
    };
    if units != FrameUnits::Range {
        return match value {
            ScalarValue::UInt64(Some(count)) => {
                Ok(Distance::Count(i64::try_from(*count).unwrap_or(i64::MAX)))
            }
            _ => Err(invalid()),
        };
    }
    let [sort] = order else {
        return Err(Error::unsupported(
            "RANGE with a distance over an order that is the same in all rows is not supported in \
             views",
        )
        .hint("order by a column that is not one of PARTITION BY"));
    };
    let data_type = sort.expr.get_type(schema).map_err(from_datafusion)?;
    let refused = |what: &str| {
        let message = format!("RANGE with a distance over {what} is not supported in views");
        Err(Error::unsupported(message).hint("order by a number or a timestamp, or use ROWS"))
    };
    match (&data_type, value) {
        (DataType::Timestamp(..), ScalarValue::IntervalMonthDayNano(Some(length))) => {
            match (is_negative(length), length.months) {
                (true, _) => Err(invalid()),
                (false, 0) => Ok(Distance::Value(value.clone())),
                // A month before the 30th at 23:00 is after a month before the 31st at 01:00.
                (false, _) => Err(Error::unsupported(
                    "RANGE with months over timestamps is not supported in views",
                )
                .detail("the ends of months do not come in the order of times")
                .hint("write days, as in INTERVAL '30 days', or order by a date")),
            }
        }
        (DataType::Date32, ScalarValue::IntervalMonthDayNano(Some(length))) => {
            match (is_negative(length), length.nanoseconds) {
                (true, _) => Err(invalid()),
                (false, 0) => Ok(Distance::Value(value.clone())),
                (false, _) => refused("dates and hours"),
            }
        }
        (data_type, value) if data_type.is_numeric() && value.data_type() == *data_type => {
            let zero = ScalarValue::new_zero(data_type).map_err(from_datafusion)?;
            let is_positive = value.partial_cmp(&zero).is_some_and(|order| order.is_ge());
            match is_positive && !is_nan(value) {
                true => Ok(Distance::Value(value.clone())),
                false => Err(invalid()),
            }
        }
        (data_type, _) => refused(&SqlType::name_of(data_type)),
    }
}

fn is_negative(length: &IntervalMonthDayNano) -> bool {
    length.months < 0 || length.days < 0 || length.nanoseconds < 0
}

fn is_nan(value: &ScalarValue) -> bool {
    match value {
        ScalarValue::Float32(Some(value)) => value.is_nan(),
        ScalarValue::Float64(Some(value)) => value.is_nan(),
        _ => false,
    }
}

/// What of final rows functions of others ask for; `None` where that is all, or nobody knows.
fn kept(calls: &[OverCall]) -> Option<Kept> {
    let each = calls.iter().map(kept_of);
    each.reduce(|one, other| Some(one?.and(other?)))?
}

fn kept_of(call: &OverCall) -> Option<Kept> {
    let nothing = Kept::default();
    let sums = Kept {
        adds_up: true,
        ..nothing
    };
    let frame = &call.frame;
    let both = || Some(back(frame.units, &frame.start)?.and(back(frame.units, &frame.end)?));
    match &call.function {
        OverFunction::RowNumber | OverFunction::Rank | OverFunction::DenseRank => Some(sums),
        OverFunction::PercentRank | OverFunction::CumeDist | OverFunction::Ntile(_) => None,
        OverFunction::Shift(shift) => (shift.offset >= 0 && !shift.ignores_nulls).then_some(Kept {
            rows: shift.offset,
            ..nothing
        }),
        _ if frame.has_start() => both(),
        OverFunction::Nth(nth) if nth.ignores_nulls => None,
        OverFunction::Nth(nth) if nth.number > 0 => Some(both()?.and(Kept {
            first: nth.number,
            ..nothing
        })),
        OverFunction::Nth(nth) => match (frame.units, &frame.end) {
            (_, FrameBound::CurrentRow | FrameBound::Following(_)) => Some(Kept {
                rows: nth.number.saturating_neg(),
                ..nothing
            }),
            (FrameUnits::Rows, FrameBound::Preceding(Distance::Count(rows))) => Some(Kept {
                rows: rows.saturating_sub(nth.number),
                ..nothing
            }),
            _ => None,
        },
        OverFunction::Aggregate(call) if call.function.is_mergeable() => Some(both()?.and(sums)),
        OverFunction::Aggregate(_) => None,
    }
}

/// How far back a bound of a frame is.
fn back(units: FrameUnits, bound: &FrameBound) -> Option<Kept> {
    let nothing = Kept::default();
    match bound {
        FrameBound::Preceding(Distance::Count(count)) => Some(match units {
            FrameUnits::Groups => Kept {
                classes: *count,
                ..nothing
            },
            _ => Kept {
                rows: *count,
                ..nothing
            },
        }),
        FrameBound::Preceding(Distance::Value(ScalarValue::IntervalMonthDayNano(Some(length)))) => {
            // No month is longer.
            let days = i64::from(length.months) * 31 + i64::from(length.days);
            let micros = days.checked_mul(24 * 3_600_000_000)?;
            let rest = length.nanoseconds.checked_add(999)?.div_euclid(1000);
            Some(Kept {
                micros: micros.checked_add(rest)?,
                ..nothing
            })
        }
        FrameBound::Preceding(Distance::Value(_)) => None,
        FrameBound::UnboundedPreceding
        | FrameBound::CurrentRow
        | FrameBound::Following(_)
        | FrameBound::UnboundedFollowing => Some(nothing),
    }
}

/// How far before a change, in microseconds of the order, rows stand that it can move; `None`
/// where nobody knows.
fn ahead(call: &OverCall) -> Option<i64> {
    match &call.function {
        OverFunction::RowNumber | OverFunction::Rank | OverFunction::DenseRank => Some(0),
        OverFunction::PercentRank | OverFunction::CumeDist | OverFunction::Ntile(_) => None,
        OverFunction::Shift(shift) => (shift.offset >= 0).then_some(0),
        OverFunction::Nth(_) | OverFunction::Aggregate(_) => match &call.frame.end {
            FrameBound::UnboundedPreceding | FrameBound::Preceding(_) | FrameBound::CurrentRow => {
                Some(0)
            }
            FrameBound::Following(Distance::Value(ScalarValue::IntervalMonthDayNano(Some(
                length,
            )))) if length.months == 0 => {
                let days = i64::from(length.days).checked_mul(24 * 3_600_000_000)?;
                // A part of a microsecond reaches as far as a whole one.
                days.checked_add(length.nanoseconds.checked_add(999)?.div_euclid(1000))
            }
            FrameBound::Following(_) | FrameBound::UnboundedFollowing => None,
        },
    }
}
