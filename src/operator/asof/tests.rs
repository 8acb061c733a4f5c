//! Scripts, and the answer of a model that looks at every pair.

use std::fmt::Write;

use fastrand::Rng;

use crate::base::{Epoch, EventTime};
use crate::delta::notation::{parse, parse_rows, print_sorted};
use crate::delta::{DeltaBatch, concat, consolidate};
use crate::error::Result;
use crate::operator::asof::{AsOf, AsOfSpec, Nearest};
use crate::operator::join::tests::joined_schema;
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const SECOND: i64 = 1_000_000;
const LEFT: &str = "k:bigint t:timestamp a:text";
const RIGHT: &str = "l:bigint u:timestamp b:bigint";

fn spec(nearest: Nearest, is_outer: bool) -> AsOfSpec {
    let (left, right) = (parse(LEFT).schema(), parse(RIGHT).schema());
    AsOfSpec {
        output: joined_schema(&left, &right),
        left,
        right,
        left_keys: vec![0],
        right_keys: vec![0],
        left_time: 1,
        right_time: 1,
        nearest,
        is_outer,
        left_append_only: false,
        right_append_only: false,
        frees_left: true,
        frees_right: true,
    }
}

struct Run {
    join: AsOf,
    spec: AsOfSpec,
    bounds: [i64; 2],
}

impl Run {
    fn new(spec: AsOfSpec) -> Run {
        Run {
            join: AsOf::new(spec.clone()).unwrap(),
            spec,
            bounds: [i64::MIN; 2],
        }
    }

    fn clock(&self) -> Step {
        let of = |bound: i64| {
            let time = match bound {
                i64::MIN => None,
                second => Some(EventTime(second * SECOND)),
            };
            Bounds(vec![None, time, None])
        };
        Step {
            epoch: Epoch(1),
            clock_micros: 0,
            bounds: self.bounds.iter().map(|&bound| of(bound)).collect(),
        }
    }

    fn step(&mut self, left: &[&str], right: &[&str]) -> Result<DeltaBatch> {
        let mut out = Output::default();
        for (port, lines) in [left, right].into_iter().enumerate() {
            let schema = [&self.spec.left, &self.spec.right][port];
            let lines: Vec<String> = lines.iter().map(|line| timed(line)).collect();
            let batch = parse_rows(schema, lines.iter().map(String::as_str));
            self.join.push(port, batch, &mut out)?;
        }
        self.join.finish(&self.clock(), &mut out)?;
        let all = concat(&self.spec.output, &out.deltas)?;
        // Nothing comes and goes in one step.
        let changes = |batch: &DeltaBatch| -> i64 {
            let weights = (0..batch.len()).map(|row| batch.weights().get(row).abs());
            weights.sum()
        };
        assert_eq!(changes(&consolidate(&all)?), changes(&all));
        Ok(all)
    }

    fn shown(&mut self, left: &[&str], right: &[&str]) -> String {
        let delta = self.step(left, right).unwrap();
        let text = print_sorted(&delta).replace("1970-01-01T00:00:", "@");
        text.trim().replace('\n', ", ")
    }

    fn rows(&self) -> usize {
        self.join.state_rows()
    }
}

/// `@7` is the second 7.
fn timed(line: &str) -> String {
    let words = line.split(' ').map(|word| match word.strip_prefix('@') {
        Some(second) => format!("1970-01-01T00:00:{second:0>2}"),
        None => word.to_string(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_left_row_has_the_last_right_row_before_it() {
    let mut run = Run::new(spec(Nearest::AtOrBefore, false));
    assert_eq!(
        run.shown(&["+ 7 @15 x", "+ 8 @15 y", "+ 7 @09 z"], &["+ 7 @10 100"]),
        "+ 7 @15 x 7 @10 100"
    );
    // A nearer one comes; a later one says nothing; the one at its very time is the nearest.
    assert_eq!(
        run.shown(&[], &["+ 7 @12 101", "+ 7 @16 102"]),
        "+ 7 @15 x 7 @12 101, - 7 @15 x 7 @10 100"
    );
    assert_eq!(
        run.shown(&[], &["+ 7 @15 103", "- 7 @12 101"]),
        "+ 7 @15 x 7 @15 103, - 7 @15 x 7 @12 101"
    );
    assert_eq!(
        run.shown(&[], &["- 7 @15 103"]),
        "+ 7 @15 x 7 @10 100, - 7 @15 x 7 @15 103"
    );
    assert_eq!(run.shown(&[], &["- 7 @10 100"]), "- 7 @15 x 7 @10 100");
    assert_eq!(
        run.shown(&["- 7 @15 x", "- 8 @15 y", "- 7 @09 z"], &["- 7 @16 102"]),
        ""
    );
    assert_eq!(run.rows(), 0);
    assert!(run.step(&["- 7 @15 x"], &[]).is_err());
}

#[test]
fn a_left_join_has_nulls_where_there_is_none() {
    let mut run = Run::new(spec(Nearest::Before, true));
    assert_eq!(
        run.shown(
            &["+2 7 @15 x", "+ NULL @15 y", "+ 7 NULL z"],
            &["+ 7 @15 1"]
        ),
        "+ 7 NULL z NULL NULL NULL, + NULL @15 y NULL NULL NULL, +2 7 @15 x NULL NULL NULL"
    );
    assert_eq!(
        run.shown(&[], &["+ 7 @14 2", "+ NULL @14 3"]),
        "+2 7 @15 x 7 @14 2, -2 7 @15 x NULL NULL NULL"
    );
    assert_eq!(run.shown(&["- 7 @15 x"], &[]), "- 7 @15 x 7 @14 2");
    assert_eq!(
        run.shown(&[], &["- 7 @14 2"]),
        "+ 7 @15 x NULL NULL NULL, - 7 @15 x 7 @14 2"
    );
}

#[test]
fn of_several_at_one_time_the_last_in_order_is_taken() {
    let mut run = Run::new(spec(Nearest::AtOrAfter, false));
    assert_eq!(
        run.shown(
            &["+ 7 @15 x"],
            &["+ 7 @16 5", "+ 7 @16 9", "+ 7 @17 1", "+ 7 @16 NULL"]
        ),
        "+ 7 @15 x 7 @16 9"
    );
    assert_eq!(
        run.shown(&[], &["- 7 @16 9"]),
        "+ 7 @15 x 7 @16 5, - 7 @15 x 7 @16 9"
    );
    assert_eq!(
        run.shown(&[], &["- 7 @16 5"]),
        "+ 7 @15 x 7 @16 NULL, - 7 @15 x 7 @16 5"
    );
}

#[test]
fn what_time_has_decided_is_not_kept() {
    let mut run = Run::new(spec(Nearest::AtOrBefore, true));
    run.bounds = [10, 12];
    run.step(
        &["+ 7 @11 x", "+ 7 @12 y", "+ 8 @30 z"],
        &[
            "+ 7 @08 1",
            "+ 7 @09 2",
            "+ 7 @10 3",
            "+ 7 @20 4",
            "+ 8 @08 5",
        ],
    )
    .unwrap();
    // x is final; the rows before @10 are met by nothing any more.
    assert_eq!(run.rows(), 2 + 3);
    let bounds = run.join.bounds(&run.clock());
    assert_eq!(bounds.0[1], Some(EventTime(10 * SECOND)));
    assert!(bounds.0.iter().filter(|bound| bound.is_some()).count() == 1);
    // Behind the right bound it is final at once, and can be taken back all the same.
    assert_eq!(run.shown(&["+ 7 @11 w"], &[]), "+ 7 @11 w 7 @10 3");
    assert_eq!(run.shown(&["- 7 @11 w"], &[]), "- 7 @11 w 7 @10 3");
    run.bounds = [40, 40];
    assert_eq!(run.shown(&[], &[]), "");
    // The last version of each key stays.
    assert_eq!(run.rows(), 2);

    let mut run = Run::new(spec(Nearest::After, true));
    run.bounds = [10, 12];
    run.step(
        &["+ 7 @11 x", "+ 7 @09 y", "+ 8 @09 z"],
        &["+ 7 @11 1", "+ 7 @12 2", "+ 7 @09 3"],
    )
    .unwrap();
    // y has met @11; x may meet a nearer one at @12, z has met none; @09 is before both bounds.
    assert_eq!(run.rows(), 2 + 2);
    run.bounds = [40, 40];
    run.step(&[], &[]).unwrap();
    assert_eq!(run.rows(), 1);
    assert_eq!(
        run.shown(&[], &["+ 8 @41 4"]),
        "+ 8 @09 z 8 @41 4, - 8 @09 z NULL NULL NULL"
    );
}

/// A row of an input: key, second, rest.
type Plain = (Option<i64>, Option<i64>, i64);

/// The answer, by looking at every pair.
fn answer(spec: &AsOfSpec, left: &[Plain], right: &[Plain]) -> String {
    let mut text = String::new();
    let shown = |row: &Plain, is_left: bool| {
        let number = |value: Option<i64>| value.map_or("NULL".to_string(), |v| v.to_string());
        let time = row
            .1
            .map_or("NULL".to_string(), |second| format!("@{second}"));
        match is_left {
            true => format!("{} {time} r{}", number(row.0), row.2),
            false => format!("{} {time} {}", number(row.0), row.2),
        }
    };
    for row in left {
        let is_met = |other: &&Plain| {
            let (Some(t), Some(u)) = (row.1, other.1) else {
                return false;
            };
            let is_near = match spec.nearest {
                Nearest::AtOrBefore => u <= t,
                Nearest::Before => u < t,
                Nearest::AtOrAfter => u >= t,
                Nearest::After => u > t,
            };
            row.0.is_some() && row.0 == other.0 && is_near
        };
        let met = right.iter().filter(is_met).max_by_key(|other| {
            let time = other.1.unwrap();
            let time = if spec.nearest.is_past() { time } else { -time };
            (time, other.2)
        });
        match met {
            Some(other) => {
                writeln!(text, "+ {} {}", shown(row, true), shown(other, false)).unwrap();
            }
            None if spec.is_outer => {
                writeln!(text, "+ {} NULL NULL NULL", shown(row, true)).unwrap();
            }
            None => {}
        }
    }
    text
}

struct Trial {
    seed: u64,
    random: Rng,
    run: Run,
    inputs: [Vec<Plain>; 2],
    checkpoint: Vec<TableChange>,
    total: DeltaBatch,
}

impl Trial {
    fn new(seed: u64) -> Trial {
        let mut random = Rng::with_seed(seed);
        let nearest = [
            Nearest::AtOrBefore,
            Nearest::Before,
            Nearest::AtOrAfter,
            Nearest::After,
        ][random.usize(..4)];
        let is_outer = random.bool();
        let spec = AsOfSpec {
            left_append_only: random.u8(..3) == 0,
            right_append_only: random.u8(..3) == 0,
            ..spec(nearest, is_outer)
        };
        let mut run = Run::new(spec.clone());
        if random.u8(..4) > 0 {
            run.bounds = [0, 0];
        }
        Trial {
            seed,
            random,
            total: DeltaBatch::empty(spec.output.clone()),
            run,
            inputs: [Vec::new(), Vec::new()],
            checkpoint: Vec::new(),
        }
    }

    fn change(&mut self, port: usize) -> Vec<String> {
        let is_append_only = [
            self.run.spec.left_append_only,
            self.run.spec.right_append_only,
        ][port];
        let first = self.run.bounds[port].max(0);
        let mut lines = Vec::new();
        let shown = |row: &Plain| {
            let number = |value: Option<i64>| value.map_or("NULL".to_string(), |v| v.to_string());
            let time = row
                .1
                .map_or("NULL".to_string(), |second| format!("@{second}"));
            let prefix = if port == 0 { "r" } else { "" };
            format!("{} {time} {prefix}{}", number(row.0), row.2)
        };
        for _ in 0..self.random.usize(..7) {
            let row = (
                (self.random.u8(..9) > 0).then(|| self.random.i64(0..3)),
                (self.random.u8(..9) > 0).then(|| first + self.random.i64(0..8)),
                self.random.i64(0..3),
            );
            self.inputs[port].push(row);
            lines.push(format!("+ {}", shown(&row)));
        }
        for _ in 0..self.random.usize(..7) {
            if is_append_only || self.inputs[port].is_empty() {
                break;
            }
            let at = self.random.usize(..self.inputs[port].len());
            let row = self.inputs[port][at];
            if row.1.is_none_or(|second| second >= first) {
                self.inputs[port].swap_remove(at);
                lines.push(format!("- {}", shown(&row)));
            }
        }
        self.random.shuffle(&mut lines);
        lines
    }

    fn step(&mut self) {
        let before = self.run.join.bounds(&self.run.clock());
        let left = self.change(0);
        let right = self.change(1);
        if self.run.bounds[0] >= 0 {
            for bound in &mut self.run.bounds {
                *bound += self.random.i64(0..3);
            }
        }
        let left: Vec<&str> = left.iter().map(String::as_str).collect();
        let right: Vec<&str> = right.iter().map(String::as_str).collect();
        let delta = self.run.step(&left, &right).unwrap();
        if let Some(bound) = before.0[1] {
            let times = crate::operator::rows::micros(delta.rows().column(1));
            let least = arrow::compute::min(&times).unwrap_or(i64::MAX);
            assert!(least >= bound.0, "seed {}: behind the bound", self.seed);
        }
        let both = [self.total.clone(), delta];
        self.total = consolidate(&concat(&self.run.spec.output, &both).unwrap()).unwrap();
        let expected = answer(&self.run.spec, &self.inputs[0], &self.inputs[1]);
        let expected: Vec<String> = expected.lines().map(timed).collect();
        let output = &self.run.spec.output;
        let expected = parse_rows(output, expected.iter().map(String::as_str));
        let both = [self.total.clone(), expected.negate()];
        let difference = consolidate(&concat(output, &both).unwrap()).unwrap();
        assert_eq!(print_sorted(&difference), "", "seed {}", self.seed);
    }

    fn restart(&mut self) {
        let scope = match self.checkpoint.is_empty() {
            true => Scope::All,
            false => Scope::Changed,
        };
        self.checkpoint
            .extend(self.run.join.changes(scope).unwrap());
        self.run.join = AsOf::new(self.run.spec.clone()).unwrap();
        for change in self.checkpoint.clone() {
            self.run.join.restore(change).unwrap();
        }
    }
}

#[test]
fn what_comes_out_is_the_models_answer() {
    for seed in 0..200 {
        let mut trial = Trial::new(seed);
        for _ in 0..20 {
            trial.step();
            if trial.random.u8(..4) == 0 {
                trial.restart();
            }
        }
    }
}
