//! Lookup joins step by step, and against a model that looks at every pair of rows.

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::base::{Epoch, EventTime};
use crate::delta::notation::{parse, parse_rows, print_sorted};
use crate::operator::join::tests::{expression, joined_schema};
use crate::operator::join::{Expire, JoinKind, JoinSpec, Lookup, NullEquality};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

fn spec(kind: JoinKind, residual: Option<&str>) -> JoinSpec {
    let (left, right) = ("k:bigint a:bigint", "l:bigint b:bigint");
    let (left, right) = (parse(left).schema(), parse(right).schema());
    let output = joined_schema(&left, &right);
    JoinSpec {
        left_keys: vec![0],
        right_keys: vec![0],
        null_equality: NullEquality::NullIsUnequal,
        residual: residual.map(|sql| expression(sql, &output)),
        kind,
        output,
        left,
        right,
        left_append_only: true,
        right_append_only: false,
        times: Vec::new(),
        expire: Expire::default(),
    }
}

struct Run {
    spec: JoinSpec,
    lookup: Lookup,
    out: Output,
}

impl Run {
    fn new(spec: JoinSpec) -> Run {
        Run {
            lookup: Lookup::new(spec.clone()).unwrap(),
            spec,
            out: Output::default(),
        }
    }

    /// One step, of rows in notation, separated by commas; what it puts out, sorted.
    fn step(&mut self, left: &str, right: &str) -> String {
        self.out = Output::default();
        let sides = [(&self.spec.right, right), (&self.spec.left, left)];
        for (port, (schema, text)) in sides.into_iter().enumerate() {
            let lines = text.split(',').map(str::trim);
            let batch = parse_rows(schema, lines.filter(|line| !line.is_empty()));
            if !batch.is_empty() {
                self.lookup.push(port, batch, &mut self.out).unwrap();
            }
        }
        self.lookup.finish(&clock(), &mut self.out).unwrap();
        let mut lines: Vec<String> = Vec::new();
        for delta in &self.out.deltas {
            lines.extend(print_sorted(delta).lines().map(str::to_string));
        }
        lines.sort();
        lines.join(", ")
    }

    /// As after a stop with a checkpoint.
    fn restart(&mut self, saved: &mut Vec<TableChange>, scope: Scope) {
        if scope == Scope::All {
            saved.clear();
        }
        saved.extend(self.lookup.changes(scope).unwrap());
        self.lookup = Lookup::new(self.spec.clone()).unwrap();
        for change in saved {
            self.lookup.restore(change.clone()).unwrap();
        }
        self.lookup.resume();
    }
}

fn clock() -> Step {
    Step {
        epoch: Epoch(1),
        clock_micros: 0,
        bounds: vec![Bounds::unknown(2), Bounds(vec![None, Some(EventTime(7))])],
    }
}

#[test]
fn a_left_row_meets_what_is_there_and_keeps_it() {
    let mut run = Run::new(spec(JoinKind::Inner, None));
    assert_eq!(run.step("+ 1 10", ""), "");
    assert_eq!(
        run.step("", "+ 1 100, + 2 200"),
        "",
        "it is too late for the first row"
    );
    assert_eq!(run.step("+ 1 11", ""), "+ 1 11 1 100");
    assert_eq!(run.step("", "- 1 100, + 1 101"), "");
    assert_eq!(
        run.step("+ 1 12, +2 2 20", ""),
        "+ 1 12 1 101, +2 2 20 2 200"
    );
    assert_eq!(run.step("", "- 1 101, - 2 200"), "");
    assert_eq!(run.step("+ 1 13", ""), "");
    assert_eq!(run.lookup.state_rows(), 0);
}

#[test]
fn a_left_join_has_nulls_where_nothing_is_met() {
    let mut run = Run::new(spec(JoinKind::Left, None));
    assert_eq!(
        run.step("+ 1 10, + NULL 5, + 2 20", "+ 1 100, + 1 101, + NULL 9"),
        "+ 1 10 1 100, + 1 10 1 101, + 2 20 NULL NULL, + NULL 5 NULL NULL"
    );
    assert_eq!(run.lookup.state_rows(), 2, "a NULL key is not kept");
}

#[test]
fn the_changes_of_a_step_are_there_for_its_left_rows() {
    let mut run = Run::new(spec(JoinKind::Inner, None));
    assert_eq!(run.step("+ 1 10", "+ 1 100"), "+ 1 10 1 100");
    assert_eq!(run.step("+ 1 11", "- 1 100, + 1 101"), "+ 1 11 1 101");
    assert_eq!(run.step("+ 1 12", "- 1 101"), "");
}

#[test]
fn another_condition_decides_about_pairs_and_nulls() {
    let mut run = Run::new(spec(JoinKind::Left, Some("a > b")));
    assert_eq!(
        run.step("+ 1 10, + 1 1", "+ 1 5, + 1 9, + 1 50"),
        "+ 1 1 NULL NULL, + 1 10 1 5, + 1 10 1 9"
    );
}

#[test]
fn rows_keep_the_watermark_that_stood_before_them_and_the_left_bounds_hold() {
    let mut run = Run::new(spec(JoinKind::Left, None));
    let out = run.step("+ @3 1 10, + @4 2 20, + @5 1 30", "+ 1 100, + 1 101");
    let watermarks = |delta: &crate::delta::DeltaBatch| delta.watermarks().map(|w| w.to_vec());
    let all: Vec<_> = run.out.deltas.iter().map(watermarks).collect();
    assert_eq!(all.len(), 2, "{out}");
    assert!(all.iter().all(Option::is_some), "{out}");
    let bounds = run.lookup.bounds(&clock());
    assert_eq!(bounds.0, [None, Some(EventTime(7)), None, None]);
}

#[test]
fn a_row_to_take_back_that_is_not_there_is_an_error() {
    let mut run = Run::new(spec(JoinKind::Inner, None));
    let batch = parse_rows(&run.spec.right, ["- 1 100"].into_iter());
    run.lookup.push(0, batch, &mut run.out).unwrap();
    assert!(run.lookup.finish(&clock(), &mut Output::default()).is_err());
    let taken_back = JoinSpec {
        left_append_only: false,
        ..spec(JoinKind::Inner, None)
    };
    assert!(Lookup::new(taken_back).is_err());
}

#[test]
fn each_step_is_what_every_pair_of_rows_says() {
    for seed in 0..60 {
        let mut random = Rng::with_seed(seed);
        let kind = match random.bool() {
            true => JoinKind::Left,
            false => JoinKind::Inner,
        };
        let has_residual = random.bool();
        let mut run = Run::new(spec(kind, has_residual.then_some("a > b")));
        let mut right: BTreeMap<(Option<i64>, i64), i64> = BTreeMap::new();
        let mut saved = Vec::new();
        let key = |random: &mut Rng| (random.u8(..6) > 0).then(|| random.i64(0..4));
        let text = |key: Option<i64>| key.map_or("NULL".to_string(), |key| key.to_string());
        for step in 0..40 {
            let mut changes = Vec::new();
            for _ in 0..random.usize(..6) {
                let row = (key(&mut random), random.i64(0..5));
                let there = right.entry(row).or_default();
                let weight = match *there > 0 && random.bool() {
                    true => -1,
                    false => random.i64(1..3),
                };
                *there += weight;
                let sign = if weight > 0 {
                    format!("+{weight}")
                } else {
                    "-".to_string()
                };
                changes.push(format!("{sign} {} {}", text(row.0), row.1));
            }
            right.retain(|_, weight| *weight != 0);
            let mut expected: BTreeMap<String, i64> = BTreeMap::new();
            let mut rows = Vec::new();
            for _ in 0..random.usize(..6) {
                let (k, a) = (key(&mut random), random.i64(0..5));
                rows.push(format!("+ {} {a}", text(k)));
                let is_met =
                    |l: Option<i64>, b: i64| k.is_some() && k == l && (!has_residual || a > b);
                let met = right.iter().filter(|((l, b), _)| is_met(*l, *b));
                let mut count = 0;
                for ((l, b), weight) in met {
                    count += 1;
                    let row = format!("{} {a} {} {b}", text(k), text(*l));
                    *expected.entry(row).or_default() += weight;
                }
                if count == 0 && kind == JoinKind::Left {
                    *expected
                        .entry(format!("{} {a} NULL NULL", text(k)))
                        .or_default() += 1;
                }
            }
            run.step(&rows.join(","), &changes.join(","));
            let mut found: BTreeMap<String, i64> = BTreeMap::new();
            for delta in &run.out.deltas {
                for line in print_sorted(delta).lines() {
                    let (sign, row) = line.split_once(' ').unwrap();
                    let weight = sign.strip_prefix('+').expect("nothing is taken back");
                    let weight = weight.parse().unwrap_or(1);
                    *found.entry(row.to_string()).or_default() += weight;
                }
            }
            assert_eq!(found, expected, "seed {seed}, step {step}");
            if random.u8(..5) == 0 {
                let is_first = saved.is_empty() || random.u8(..4) == 0;
                let scope = if is_first { Scope::All } else { Scope::Changed };
                run.restart(&mut saved, scope);
            }
        }
    }
}
