//! Random changes against DataFusion's batch answer over what they add up to, after every few
//! steps, with checkpoints and restarts in between.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::SchemaRef;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::{Runner, call, filtered, spec, total};
use crate::delta::notation::print_sorted;
use crate::delta::{DeltaBatch, Weights};
use crate::function::aggregate::STACKING_RULE;
use crate::operator::aggregate::{AggregateCall, AggregateFunction, StockAggregate};

/// One row; the columns are those of [`batch`].
#[derive(Clone)]
struct Row {
    k: Option<i64>,
    name: Option<String>,
    day: Option<i64>,
    n: Option<i64>,
    i: Option<i32>,
    d: Option<i128>,
    x: Option<f64>,
    y: Option<f64>,
    is_it: Option<bool>,
}

const NUMBERS: [usize; 4] = [3, 4, 5, 6];
const COLUMNS: [&str; 9] = ["k", "name", "day", "n", "i", "d", "x", "y", "is_it"];

fn batch(rows: &[(Row, i64)]) -> DeltaBatch {
    fn column<T, A: FromIterator<Option<T>> + arrow::array::Array + 'static>(
        rows: &[(Row, i64)],
        of: impl Fn(&Row) -> Option<T>,
    ) -> A {
        rows.iter().map(|(row, _)| of(row)).collect()
    }
    let days: TimestampMicrosecondArray = column(rows, |row| row.day);
    let decimals: Decimal128Array = column(rows, |row| row.d);
    let columns: [ArrayRef; 9] = [
        Arc::new(column::<_, Int64Array>(rows, |row| row.k)),
        Arc::new(column::<_, StringArray>(rows, |row| row.name.clone())),
        Arc::new(days),
        Arc::new(column::<_, Int64Array>(rows, |row| row.n)),
        Arc::new(column::<_, Int32Array>(rows, |row| row.i)),
        Arc::new(decimals.with_precision_and_scale(38, 3).unwrap()),
        Arc::new(column::<_, Float64Array>(rows, |row| row.x)),
        Arc::new(column::<_, Float64Array>(rows, |row| row.y)),
        Arc::new(column::<_, BooleanArray>(rows, |row| row.is_it)),
    ];
    let named = COLUMNS
        .into_iter()
        .zip(columns)
        .map(|(name, column)| (name, column, true));
    let weights: Vec<i64> = rows.iter().map(|(_, weight)| *weight).collect();
    let weights = match weights.iter().all(|&weight| weight == 1) {
        true => Weights::Ones,
        false => Weights::Each(weights.into()),
    };
    DeltaBatch::new(
        RecordBatch::try_from_iter_with_nullable(named).unwrap(),
        weights,
    )
}

fn random_row(random: &mut fastrand::Rng, nulls: bool) -> Row {
    let is_some = |random: &mut fastrand::Rng| !nulls || random.u8(..5) > 0;
    let mut maybe = |value: f64| is_some(random).then_some(value);
    let seeds: Vec<Option<f64>> = (0..9).map(|_| maybe(0.0)).collect();
    let pick = |at: usize| seeds[at].is_some();
    let names = ["", "a", "b", "a longer name than fits twelve bytes", "ä"];
    let n = match random.u8(..8) {
        0 => random.i64(..),
        1 => i64::MAX,
        _ => random.i64(-3..4),
    };
    let x = match random.u8(..8) {
        0 => f64::INFINITY,
        1 => random.f64() * 1e300,
        2 => random.f64() * 1e-300,
        3 => random.f64(),
        _ => f64::from(random.i32(-3..4)) + 0.5,
    };
    let y = match random.u8(..10) {
        0 => f64::NAN,
        1 => f64::NEG_INFINITY,
        _ => x * 0.1,
    };
    Row {
        k: pick(0).then(|| random.i64(0..4)),
        name: pick(1).then(|| names[random.usize(..names.len())].to_string()),
        day: pick(2).then(|| random.i64(-2..2) * 86_400_000_000),
        n: pick(3).then_some(n),
        i: pick(4).then(|| random.i32(-3..4)),
        d: pick(5).then(|| random.i128(-5..5) * 10i128.pow(random.u32(0..25))),
        x: pick(6).then_some(x),
        y: pick(7).then_some(y),
        is_it: pick(8).then(|| random.bool()),
    }
}

/// Calls and the same in SQL.
fn random_calls(
    random: &mut fastrand::Rng,
    input: &SchemaRef,
) -> (Vec<AggregateCall>, Vec<String>) {
    use AggregateFunction::{
        Avg, AvgDistinct, BoolAnd, BoolOr, Count, CountAll, CountDistinct, Max, Min, Sum,
        SumDistinct,
    };
    let mut calls = Vec::new();
    let mut sql = Vec::new();
    for _ in 0..random.usize(1..9) {
        let number = NUMBERS[random.usize(..NUMBERS.len())];
        let any = random.usize(..7);
        let (function, argument, text) = match random.usize(..13) {
            0 => (CountAll, None, "count(*)"),
            1 => (Count, Some(random.usize(..9)), "count(#)"),
            2 => (Sum, Some(number), "sum(#)"),
            3 => (Avg, Some(number), "avg(#)"),
            4 => (Min, Some(any), "min(#)"),
            5 => (Max, Some(any), "max(#)"),
            6 => (CountDistinct, Some(any), "count(distinct #)"),
            7 => (SumDistinct, Some(number), "sum(distinct #)"),
            8 => (AvgDistinct, Some(number), "avg(distinct #)"),
            9 => (BoolAnd, Some(8), "bool_and(#)"),
            10 => (BoolOr, Some(8), "bool_or(#)"),
            11 => (Sum, Some(7), "sum(#)"),
            _ => (stock(input), None, "array_agg(i order by i nulls last)"),
        };
        let is_stock = matches!(function, AggregateFunction::Stock(_));
        let text = text.replace('#', argument.map_or("", |column| COLUMNS[column]));
        match random.u8(..4) == 0 && !is_stock {
            true => {
                calls.push(filtered(function, argument, 8));
                sql.push(format!("{text} filter (where is_it)"));
            }
            false => {
                calls.push(call(function, argument));
                sql.push(text);
            }
        }
    }
    (calls, sql)
}

fn stock(input: &SchemaRef) -> AggregateFunction {
    let kept = Arc::new(input.project(&[4]).unwrap());
    let argument = Arc::new(Column::new("i", 0));
    let builder = AggregateExprBuilder::new(array_agg_udaf(), vec![argument.clone()]);
    let options = arrow::compute::SortOptions {
        descending: false,
        nulls_first: false,
    };
    let sort = datafusion::physical_expr::PhysicalSortExpr {
        expr: argument,
        options,
    };
    let expression = builder
        .order_by(vec![sort])
        .schema(kept)
        .alias("stock")
        .build()
        .unwrap();
    AggregateFunction::Stock(Arc::new(StockAggregate {
        expression,
        arguments: vec![4],
    }))
}

/// The batch answer, a row per line.
fn batch_answer(query: &str, present: &[(Row, i64)], schema: &SchemaRef) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let config = SessionConfig::new().with_target_partitions(1);
    let ctx = SessionContext::new_with_config(config);
    crate::function::register(&mut *ctx.state_ref().write()).unwrap();
    assert!(ctx.remove_optimizer_rule(STACKING_RULE));
    let each = present.iter().flat_map(|(row, weight)| {
        std::iter::repeat_n((row.clone(), 1), usize::try_from(*weight).unwrap())
    });
    let rows = batch(&each.collect::<Vec<_>>());
    ctx.register_batch("t", rows.rows().clone()).unwrap();
    let frame = runtime.block_on(ctx.sql(query)).unwrap();
    let batches = runtime.block_on(frame.collect()).unwrap();
    let renamed = |batch: &RecordBatch| {
        let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec());
        DeltaBatch::insertions(batch.unwrap())
    };
    let batches: Vec<_> = batches.iter().map(renamed).collect();
    print_sorted(&total(schema, &batches))
}

fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let input = batch(&[]).schema();
    let keys = [
        &[][..],
        &[0],
        &[1],
        &[2],
        &[0, 2],
        &[0, 1],
        &[8, 0, 2],
        &[1, 2, 0, 8],
        &[6],
    ];
    let group = keys[random.usize(..keys.len())];
    let (calls, sql) = random_calls(&mut random, &input);
    let mut columns: Vec<String> = group.iter().map(|&k| COLUMNS[k].to_string()).collect();
    let by = columns.join(", ");
    columns.extend(
        sql.iter()
            .enumerate()
            .map(|(at, call)| format!("{call} as c{at}")),
    );
    let query = match group.is_empty() {
        true => format!("SELECT {} FROM t", columns.join(", ")),
        false => format!("SELECT {} FROM t GROUP BY {by}", columns.join(", ")),
    };
    let mut spec = spec(&input, group, calls);
    spec.is_append_only = random.u8(..4) == 0;
    let is_append_only = spec.is_append_only;
    let nulls = random.u8(..4) > 0;
    let output = spec.output.clone();
    let mut runner = Runner::new(spec);
    let mut deltas = Vec::new();
    let mut present: Vec<(Row, i64)> = Vec::new();
    for _ in 0..random.usize(1..12) {
        let mut changes = Vec::new();
        for _ in 0..random.usize(0..30) {
            let is_removal = random.u8(..5) < 2 && !present.is_empty() && !is_append_only;
            let change = match is_removal {
                true => {
                    let (row, weight) = present.swap_remove(random.usize(..present.len()));
                    (row, -weight)
                }
                false => {
                    let weight = if random.u8(..3) == 0 {
                        random.i64(1..4)
                    } else {
                        1
                    };
                    present.push((random_row(&mut random, nulls), weight));
                    present[present.len() - 1].clone()
                }
            };
            changes.push(change);
        }
        // Within a step a retraction may come before its insertion.
        random.shuffle(&mut changes);
        let size = random.usize(1..=changes.len().max(1));
        let batches: Vec<_> = changes.chunks(size).map(batch).collect();
        deltas.extend(runner.step(&batches).deltas);
        match random.u8(..6) {
            0 => runner.checkpoint(),
            1 => runner.restart(),
            _ => {}
        }
        if random.u8(..3) == 0 {
            let answer = batch_answer(&query, &present, &output);
            assert_eq!(
                print_sorted(&total(&output, &deltas)),
                answer,
                "seed {seed}: {query}"
            );
        }
    }
    let answer = batch_answer(&query, &present, &output);
    assert_eq!(
        print_sorted(&total(&output, &deltas)),
        answer,
        "seed {seed}: {query}"
    );
    if !is_append_only {
        runner.step(&[batch(&present).negate()]);
        let left = runner.slots();
        assert_eq!(
            left,
            usize::from(group.is_empty()),
            "seed {seed}: nothing is left: {query}"
        );
    }
}

#[test]
fn the_output_adds_up_to_the_batch_answer() {
    for seed in 0..150 {
        run(seed);
    }
}
