//! Groups that leave when no row has come for long.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::{Runner, call, spec};
use crate::delta::notation::{parse, parse_rows, print, print_sorted};
use crate::delta::{DeltaBatch, concat, consolidate};
use crate::operator::aggregate::{AggregateFunction, AggregateSpec};
use crate::operator::{Operator, Output};

const HEADER: &str = "k:bigint v:bigint";

/// Groups that are there for ten microseconds after their last row.
fn idle(functions: &[AggregateFunction]) -> AggregateSpec {
    let calls = functions.iter().map(|function| {
        let argument = !matches!(function, AggregateFunction::CountAll);
        call(function.clone(), argument.then_some(1))
    });
    AggregateSpec {
        idle_micros: Some(10),
        is_append_only: true,
        ..spec(&parse(HEADER).schema(), &[0], calls.collect())
    }
}

fn step(runner: &mut Runner, clock_micros: i64, rows: &str) -> String {
    runner.clock_micros = clock_micros;
    let lines = rows.split(',').map(str::trim).filter(|row| !row.is_empty());
    let batch = parse_rows(&runner.spec.input, lines);
    let out = runner.step(&[batch]);
    let text: String = out.deltas.iter().map(print).collect();
    text.trim().replace('\n', ", ")
}

#[test]
fn a_group_leaves_so_long_after_its_last_row() {
    let functions = [AggregateFunction::CountAll, AggregateFunction::Max];
    let mut runner = Runner::new(idle(&functions));
    assert_eq!(step(&mut runner, 100, "+ 7 1, + 8 5"), "+ 7 1 1, + 8 1 5");
    // A row that changes nothing that is shown is a row all the same.
    assert_eq!(step(&mut runner, 104, "+ 8 3"), "- 8 1 5, + 8 2 5");
    assert_eq!(runner.aggregate.deadline(), Some(110));
    assert_eq!(step(&mut runner, 109, ""), "");
    assert_eq!(step(&mut runner, 110, ""), "- 7 1 1");
    assert_eq!(runner.aggregate.deadline(), Some(114));
    // What comes at the very clock at which a group is over begins it anew: one change.
    assert_eq!(step(&mut runner, 114, "+ 8 4"), "- 8 2 5, + 8 1 4");
    // Nothing has changed for who looks, and yet it is another group.
    assert_eq!(step(&mut runner, 200, "+ 8 4"), "");
    assert_eq!(step(&mut runner, 205, "+ 8 4"), "- 8 1 4, + 8 2 4");
    assert_eq!(step(&mut runner, 300, ""), "- 8 2 4");
    assert_eq!(runner.slots(), 0);
    assert_eq!(runner.aggregate.deadline(), None);
}

#[test]
fn a_group_of_distinct_rows_alone_leaves_too() {
    let mut runner = Runner::new(idle(&[]));
    assert_eq!(step(&mut runner, 100, "+ 7 1, + 7 2"), "+ 7");
    assert_eq!(step(&mut runner, 110, "+ 7 1"), "");
    assert_eq!(step(&mut runner, 119, ""), "");
    assert_eq!(step(&mut runner, 120, ""), "- 7");
}

#[test]
fn after_a_restart_a_step_is_asked_for_at_once() {
    let mut runner = Runner::new(idle(&[AggregateFunction::CountAll]));
    step(&mut runner, 100, "+ 7 1");
    runner.restart();
    assert_eq!(runner.aggregate.deadline(), Some(i64::MIN));
    assert_eq!(step(&mut runner, 101, ""), "");
    assert_eq!(runner.aggregate.deadline(), Some(110));
    assert_eq!(step(&mut runner, 110, ""), "- 7 1");
}

/// What is out is the answer over the rows of the groups that are there, whatever the steps,
/// restarts, and checkpoints that are written while steps go on.
#[test]
fn what_is_out_is_the_answer_over_the_groups_that_are_there() {
    let functions = [
        AggregateFunction::CountAll,
        AggregateFunction::Sum,
        AggregateFunction::Min,
        AggregateFunction::CountDistinct,
    ];
    for seed in 0..40 {
        let mut random = Rng::with_seed(seed);
        let mut runner = Runner::new(idle(&functions));
        let mut groups: BTreeMap<i64, (i64, Vec<i64>)> = BTreeMap::new();
        let mut output: Vec<DeltaBatch> = Vec::new();
        let (mut clock, mut evicted, mut counted) = (0, 0, 0);
        let mut is_saving = false;
        for _ in 0..60 {
            clock += random.i64(0..5);
            let before = groups.len();
            groups.retain(|_, (last, _)| *last + 10 > clock);
            evicted += before - groups.len();
            let mut lines = Vec::new();
            for _ in 0..random.usize(..4) {
                let (key, value) = (random.i64(0..6), random.i64(-3..4));
                let group = groups.entry(key).or_insert((clock, Vec::new()));
                group.0 = clock;
                group.1.push(value);
                lines.push(format!("+ {key} {value}"));
            }
            runner.clock_micros = clock;
            let rows = parse_rows(&runner.spec.input, lines.iter().map(String::as_str));
            let out: Output = runner.step(&[rows]);
            counted += out.counts.rows_evicted;
            output.extend(out.deltas);
            let expected = groups.iter().map(|(key, (_, values))| {
                let distinct: std::collections::BTreeSet<_> = values.iter().collect();
                let (sum, least) = (values.iter().sum::<i64>(), values.iter().min().unwrap());
                format!(
                    "+ {key} {} {sum} {least} {}\n",
                    values.len(),
                    distinct.len()
                )
            });
            let all = concat(&runner.spec.output, &output).unwrap();
            let found = print_sorted(&consolidate(&all).unwrap());
            assert_eq!(
                found,
                expected.collect::<String>(),
                "seed {seed}, clock {clock}"
            );
            assert_eq!(counted, evicted as u64, "seed {seed}");
            match random.u8(..6) {
                0 if !is_saving => {
                    runner.begin_checkpoint();
                    is_saving = true;
                }
                1 if is_saving => is_saving = runner.take_piece(2),
                2 => {
                    while is_saving {
                        is_saving = runner.take_piece(1);
                    }
                    runner.restart();
                }
                _ => {}
            }
        }
        step(&mut runner, clock + 10, "");
        assert_eq!(runner.slots(), 0, "seed {seed}");
    }
}
