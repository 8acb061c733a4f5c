//! One behaviour each, in delta notation.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_aggregate::median::median_udaf;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;

use super::{Runner, call, filtered, spec};
use crate::delta::DeltaBatch;
use crate::delta::notation::{parse, print};
use crate::operator::aggregate::{Aggregate, AggregateFunction, StockAggregate};
use crate::operator::{Operator, Output};

const BIDS: &str = "auction:bigint price:bigint channel:text is_won:boolean\n";

fn bids(rows: &str) -> DeltaBatch {
    parse(&format!("{BIDS}{rows}"))
}

fn runner(group: &[usize], calls: &[(AggregateFunction, Option<usize>)]) -> Runner {
    let calls = calls
        .iter()
        .map(|(function, argument)| call(function.clone(), *argument));
    Runner::new(spec(&bids("+ 0 0 a true").schema(), group, calls.collect()))
}

/// Runs a step and prints what comes out, in its order.
fn run(runner: &mut Runner, rows: &str) -> String {
    let batch = bids(rows);
    let out = runner.step(&[batch]);
    out.deltas.iter().map(print).collect()
}

#[test]
fn an_update_is_a_retraction_and_an_insertion_next_to_each_other() {
    let functions = [
        (AggregateFunction::CountAll, None),
        (AggregateFunction::Max, Some(1)),
    ];
    let mut runner = runner(&[0], &functions);
    let text = run(&mut runner, "+ 7 10 a true\n+ 8 5 a true\n+ 7 20 a true");
    assert_eq!(text, "+ 7 2 20\n+ 8 1 5\n");
    let text = run(&mut runner, "+ 8 6 a true\n- 7 20 a true\n+ 9 1 a true");
    assert_eq!(text, "- 7 2 20\n+ 7 1 10\n- 8 1 5\n+ 8 2 6\n+ 9 1 1\n");
}

#[test]
fn a_change_that_changes_nothing_is_not_put_out() {
    let mut runner = runner(&[0], &[(AggregateFunction::Max, Some(1))]);
    assert_eq!(run(&mut runner, "+ 7 10 a true"), "+ 7 10\n");
    assert_eq!(run(&mut runner, "+ 7 3 a true"), "");
    assert_eq!(run(&mut runner, "+ 7 20 a true\n- 7 20 a true"), "");
    assert_eq!(run(&mut runner, "- 9 1 a true\n+ 9 1 a true"), "");
    assert_eq!(runner.slots(), 3, "one group and two values");
}

#[test]
fn the_retraction_of_the_last_row_takes_the_group_away() {
    let functions = [
        (AggregateFunction::Count, Some(1)),
        (AggregateFunction::Sum, Some(1)),
    ];
    let mut runner = runner(&[0], &functions);
    // The group lives although its aggregates say zero and NULL.
    assert_eq!(run(&mut runner, "+2 7 NULL a true"), "+ 7 0 NULL\n");
    assert_eq!(run(&mut runner, "- 7 NULL a true"), "");
    assert_eq!(run(&mut runner, "- 7 NULL a true"), "- 7 0 NULL\n");
    assert_eq!(runner.slots(), 0);
    assert_eq!(run(&mut runner, "+ 7 1 a true"), "+ 7 1 1\n");
}

#[test]
fn null_is_a_group_of_its_own() {
    let mut runner = runner(&[2], &[(AggregateFunction::CountAll, None)]);
    let text = run(
        &mut runner,
        "+ 1 1 NULL true\n+ 1 1 '' true\n+ 2 1 NULL true",
    );
    assert_eq!(text, "+ NULL 2\n+ '' 1\n");
    assert_eq!(run(&mut runner, "-2 2 1 NULL true"), "- NULL 2\n");
}

#[test]
fn weights_multiply() {
    let functions = [
        (AggregateFunction::CountAll, None),
        (AggregateFunction::Sum, Some(1)),
        (AggregateFunction::Avg, Some(1)),
        (AggregateFunction::CountDistinct, Some(1)),
    ];
    let mut runner = runner(&[0], &functions);
    let text = run(&mut runner, "+1000 7 10 a true\n+ 7 4 a true");
    assert_eq!(text, "+ 7 1001 10004 9.9940059940059940 2\n");
    let text = run(&mut runner, "-999 7 10 a true");
    let expected = "- 7 1001 10004 9.9940059940059940 2\n+ 7 2 14 7.0000000000000000 2\n";
    assert_eq!(text, expected);
}

#[test]
fn a_filter_chooses_rows_and_null_is_not_true() {
    let input = bids("+ 0 0 a true").schema();
    let calls = vec![
        filtered(AggregateFunction::CountAll, None, 3),
        filtered(AggregateFunction::Sum, Some(1), 3),
        filtered(AggregateFunction::Min, Some(1), 3),
        call(AggregateFunction::Sum, Some(1)),
    ];
    let mut runner = Runner::new(spec(&input, &[0], calls));
    let text = run(
        &mut runner,
        "+ 7 1 a true\n+ 7 2 a false\n+ 7 4 a NULL\n+ 8 1 a false",
    );
    assert_eq!(text, "+ 7 1 1 1 7\n+ 8 0 NULL NULL 1\n");
    let text = run(&mut runner, "- 7 1 a true");
    assert_eq!(text, "- 7 1 1 1 7\n+ 7 0 NULL NULL 6\n");
}

#[test]
fn without_group_by_there_is_always_one_row() {
    let functions = [
        (AggregateFunction::CountAll, None),
        (AggregateFunction::Max, Some(2)),
    ];
    let mut runner = runner(&[], &functions);
    let out = runner.step(&[]);
    assert_eq!(print(&out.deltas[0]), "+ 0 NULL\n");
    assert!(runner.step(&[]).deltas.is_empty());
    runner.restart();
    assert!(runner.step(&[]).deltas.is_empty(), "the row is out already");
    assert_eq!(run(&mut runner, "+ 1 1 a true"), "- 0 NULL\n+ 1 a\n");
    assert_eq!(run(&mut runner, "- 1 1 a true"), "- 1 a\n+ 0 NULL\n");

    let mut other = Aggregate::new(runner.spec.clone(), 1).unwrap();
    let step = runner.step_of(vec![None; 4]);
    let mut out = Output::default();
    other.finish(&step, &mut out).unwrap();
    assert!(out.deltas.is_empty(), "only the first shard has the row");
    assert!(other.push(0, bids("+ 1 1 a true"), &mut out).is_err());
}

#[test]
fn a_sum_that_overflows_leaves_its_row_out_until_it_is_valid() {
    let numbers = |rows: &str| parse(&format!("k:bigint n:numeric\n{rows}"));
    let big = "9".repeat(36);
    let one = numbers(&format!("+ 1 {big}"));
    let calls = vec![
        call(AggregateFunction::Sum, Some(1)),
        call(AggregateFunction::CountAll, None),
    ];
    let mut runner = Runner::new(spec(&one.schema(), &[0], calls));
    let print_all = |out: &Output| out.deltas.iter().map(print).collect::<String>();
    assert_eq!(
        print_all(&runner.step(std::slice::from_ref(&one))),
        format!("+ 1 {big}.00 1\n")
    );
    let out = runner.step(&[one.clone(), numbers("+ 2 5")]);
    assert_eq!(print_all(&out), format!("- 1 {big}.00 1\n+ 2 5.00 1\n"));
    let errors: Vec<_> = out
        .errors
        .iter()
        .map(|e| (e.reason.as_str(), e.row.as_str()))
        .collect();
    assert_eq!(errors, [("numeric field overflow", "1")]);
    assert_eq!(out.counts.rows_failed, 1);
    runner.restart();
    let out = runner.step(&[numbers("+ 1 -1")]);
    assert!(
        out.deltas.is_empty() && out.errors.is_empty(),
        "it is told once"
    );
    let out = runner.step(&[one.negate()]);
    let expected = format!("+ 1 {}8.00 2\n", "9".repeat(35));
    assert_eq!(print_all(&out), expected);
    let out = runner.step(&[one.clone(), one]);
    assert_eq!(out.errors.len(), 1, "it fails anew");
}

#[test]
fn the_retraction_of_what_was_never_there_is_an_error_of_ours() {
    for function in [
        AggregateFunction::CountAll,
        AggregateFunction::CountDistinct,
    ] {
        let argument = matches!(function, AggregateFunction::CountDistinct).then_some(1);
        let mut runner = runner(&[0], &[(function, argument)]);
        run(&mut runner, "+ 7 1 a true");
        let mut out = Output::default();
        runner
            .aggregate
            .push(0, bids("- 7 2 a true\n- 7 3 a true"), &mut out)
            .unwrap();
        let step = runner.step_of(vec![None; 4]);
        let error = runner.aggregate.finish(&step, &mut out).unwrap_err();
        assert_eq!(error.state().code(), "XX000");
    }
}

#[test]
fn retractions_are_refused_where_the_plan_says_there_are_none() {
    let functions = [(AggregateFunction::Max, Some(1))];
    let mut spec = runner(&[0], &functions).spec;
    spec.is_append_only = true;
    let mut runner = Runner::new(spec);
    assert_eq!(
        run(&mut runner, "+ 7 1 a true\n+3 7 5 a true\n+0 7 9 a true"),
        "+ 7 5\n"
    );
    assert_eq!(runner.slots(), 1, "no value is kept but the greatest");
    let mut out = Output::default();
    assert!(
        runner
            .aggregate
            .push(0, bids("- 7 1 a true"), &mut out)
            .is_err()
    );
}

#[test]
fn select_distinct_is_an_aggregate_without_calls() {
    let mut runner = runner(&[0, 2], &[]);
    assert_eq!(
        run(&mut runner, "+ 1 1 a true\n+ 1 2 a true\n+ 1 1 b true"),
        "+ 1 a\n+ 1 b\n"
    );
    assert_eq!(run(&mut runner, "- 1 1 a true\n- 1 1 b true"), "- 1 b\n");
}

fn stock(input: &SchemaRef, ordered: bool) -> AggregateFunction {
    let price: Arc<dyn PhysicalExpr> = Arc::new(Column::new("price", 0));
    let kept = Arc::new(input.project(&[1, 2]).unwrap());
    let builder = match ordered {
        true => {
            let by: Arc<dyn PhysicalExpr> = Arc::new(Column::new("channel", 1));
            let sort = datafusion::physical_expr::PhysicalSortExpr {
                expr: by,
                options: arrow::compute::SortOptions {
                    descending: true,
                    nulls_first: false,
                },
            };
            AggregateExprBuilder::new(array_agg_udaf(), vec![price]).order_by(vec![sort])
        }
        false => AggregateExprBuilder::new(median_udaf(), vec![price]),
    };
    let expression = builder.schema(kept).alias("stock").build().unwrap();
    AggregateFunction::Stock(Arc::new(StockAggregate {
        expression,
        arguments: vec![1, 2],
    }))
}

#[test]
fn a_stock_aggregate_runs_again_over_the_rows_that_are_left() {
    let input = bids("+ 0 0 a true").schema();
    let calls = vec![
        call(stock(&input, false), None),
        call(stock(&input, true), None),
    ];
    let mut runner = Runner::new(spec(&input, &[0], calls));
    let text = run(&mut runner, "+ 7 10 a true\n+2 7 20 c true\n+ 7 50 b true");
    assert_eq!(text, "+ 7 20 '[20, 20, 50, 10]'\n");
    runner.restart();
    let text = run(&mut runner, "-2 7 20 c true\n+ 7 60 d true");
    assert_eq!(text, "- 7 20 '[20, 20, 50, 10]'\n+ 7 50 '[60, 50, 10]'\n");
    run(&mut runner, "- 7 10 a true\n- 7 50 b true\n- 7 60 d true");
    assert_eq!(runner.slots(), 0);
}

#[test]
fn state_is_accounted_and_given_back() {
    let functions = [
        (AggregateFunction::Min, Some(2)),
        (AggregateFunction::Avg, Some(1)),
        (AggregateFunction::AvgDistinct, Some(1)),
    ];
    let mut runner = runner(&[0], &functions);
    let before = runner.aggregate.state_bytes();
    let rows: Vec<String> = (0..2000)
        .map(|n| format!("+ {n} {n} text{n} true"))
        .collect();
    run(&mut runner, &rows.join("\n"));
    assert!(runner.aggregate.state_bytes() > before + 2000 * 50);
    run(&mut runner, &rows.join("\n").replace('+', "-"));
    assert_eq!(runner.slots(), 0);
}

#[test]
fn a_checkpoint_shows_nothing_of_the_steps_that_run_while_it_is_written() {
    let functions = [
        (AggregateFunction::Sum, Some(1)),
        (AggregateFunction::Max, Some(2)),
        (AggregateFunction::CountDistinct, Some(1)),
    ];
    for pieces in 0..4 {
        let mut runner = runner(&[0], &functions);
        run(
            &mut runner,
            "+ 1 1 a true\n+ 2 2 b true\n+ 3 3 c true\n+ 4 4 d true",
        );
        runner.checkpoint();
        run(&mut runner, "+ 1 10 e true\n- 3 3 c true\n+ 5 5 f true");
        runner.begin_checkpoint();
        // The key 6 comes into the slot that the key 3 has left.
        let steps = [
            "- 1 1 a true\n- 2 2 b true\n+ 6 6 g true",
            "+ 2 20 h true\n- 5 5 f true\n+ 4 1 z true",
        ];
        let mut outputs = Vec::new();
        for step in steps {
            for _ in 0..pieces {
                runner.take_piece(1);
            }
            outputs.push(run(&mut runner, step));
        }
        while runner.take_piece(2) {}
        runner.restore();
        let again: Vec<String> = steps.iter().map(|step| run(&mut runner, step)).collect();
        assert_eq!(again, outputs, "{pieces} pieces before each step");
    }
}

#[test]
fn a_checkpoint_that_failed_keeps_nothing() {
    let mut runner = runner(&[0], &[(AggregateFunction::Sum, Some(1))]);
    run(&mut runner, "+ 1 1 a true\n+ 2 2 b true");
    runner.begin_checkpoint();
    runner.aggregate.unfreeze();
    run(&mut runner, "+ 1 5 a true\n- 2 2 b true");
    assert!(!runner.take_piece(1), "nobody will take what is kept");
    runner.blocks.clear();
    runner.restart();
    assert_eq!(run(&mut runner, "+ 1 1 a true"), "- 1 6\n+ 1 7\n");
}
