//! Joins against batch SQL: random changes in random batches and steps, with restarts in between;
//! what has come out must at every step be what the query gives over what has gone in.

use std::fmt::Write;
use std::sync::Arc;

use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use fastrand::Rng;

use crate::base::{Epoch, EventTime};
use crate::delta::notation::{parse, parse_rows, print_sorted};
use crate::delta::{DeltaBatch, concat, consolidate};
use crate::operator::join::tests::{expression, joined_schema, output_schema};
use crate::operator::join::{Expire, Join, JoinKind, JoinSpec, NullEquality, TimeRange};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const SECOND: i64 = 1_000_000;

/// The types of the key columns; a leading timestamp makes a window join.
const KEYS: [&[&str]; 6] = [
    &["bigint"],
    &["text"],
    &["bigint", "text"],
    &["timestamp"],
    &["timestamp", "text"],
    &[],
];

/// Each with how SQL writes it.
const KINDS: [(JoinKind, &str); 6] = [
    (JoinKind::Inner, "JOIN"),
    (JoinKind::Left, "LEFT JOIN"),
    (JoinKind::Full, "FULL JOIN"),
    (JoinKind::Semi, "LEFT SEMI JOIN"),
    (JoinKind::Anti, "LEFT ANTI JOIN"),
    (JoinKind::Mark, ""),
];

struct Trial {
    seed: u64,
    random: Rng,
    keys: &'static [&'static str],
    spec: JoinSpec,
    sql: String,
    join: Join,
    /// What each input holds: rows in notation, as often as they are there.
    inputs: [Vec<String>; 2],
    /// Each input's bound, seconds.
    bounds: [i64; 2],
    checkpoint: Vec<TableChange>,
    total: DeltaBatch,
}

impl Trial {
    fn new(seed: u64) -> Trial {
        let mut random = Rng::with_seed(seed);
        let keys = KEYS[random.usize(..KEYS.len())];
        let range = Trial::range(&mut random, keys);
        let schema = |side: char| {
            let mut header = String::new();
            for (number, kind) in keys.iter().enumerate() {
                write!(header, "{side}k{number}:{kind} ").unwrap();
            }
            if range.is_some_and(|range| range.left == keys.len()) {
                write!(header, "{side}t:timestamp ").unwrap();
            }
            parse(&format!(
                "{header} {side}v:bigint {side}s:text {side}f:double"
            ))
            .schema()
        };
        let (left, right) = (schema('l'), schema('r'));
        let (kind, join) = KINDS[random.usize(..KINDS.len())];
        let (null_equality, equals) = match random.bool() {
            true => (NullEquality::NullIsUnequal, "="),
            false => (NullEquality::NullIsEqual, "IS NOT DISTINCT FROM"),
        };
        let pairs = joined_schema(&left, &right);
        let output = output_schema(kind, &left, &right);
        let residual = ["lv < rv", "lv + rv > 3 OR ls = rs"];
        let mut residual: Vec<String> = random
            .bool()
            .then(|| format!("({})", residual[random.usize(..residual.len())]))
            .into_iter()
            .collect();
        if let Some(range) = range.filter(|range| range.left == keys.len()) {
            let near = |operator: &str, micros: i64| {
                let seconds = micros / SECOND;
                format!("lt {operator} rt + INTERVAL '{seconds} seconds'")
            };
            residual.extend(range.least.map(|least| near(">=", least)));
            residual.extend(range.greatest.map(|greatest| near("<=", greatest)));
        }
        let residual = (!residual.is_empty()).then(|| residual.join(" AND "));
        let mut conditions: Vec<String> = (0..keys.len())
            .map(|key| format!("(lk{key} {equals} rk{key})"))
            .collect();
        conditions.push(format!("({})", residual.as_deref().unwrap_or("true")));
        let conditions = conditions.join(" AND ");
        let sql = match kind {
            JoinKind::Mark => format!(
                "SELECT *, true AS mark FROM l LEFT SEMI JOIN r ON {conditions} UNION ALL \
                 SELECT *, false AS mark FROM l LEFT ANTI JOIN r ON {conditions}"
            ),
            _ => format!("SELECT * FROM l {join} r ON {conditions}"),
        };
        let spec = JoinSpec {
            left_keys: (0..keys.len()).collect(),
            right_keys: (0..keys.len()).collect(),
            null_equality,
            residual: residual.map(|residual| expression(&residual, &pairs)),
            kind,
            left_append_only: random.u8(..4) == 0,
            right_append_only: random.u8(..4) == 0,
            expire: Expire {
                left: range.and_then(|range| range.least).map(|_| 0),
                right: range.and_then(|range| range.greatest).map(|_| 0),
            },
            times: range.into_iter().collect(),
            left,
            right,
            output: output.clone(),
        };
        Trial {
            seed,
            random,
            keys,
            sql,
            join: Join::new(spec.clone()).unwrap(),
            spec,
            inputs: [Vec::new(), Vec::new()],
            bounds: [0, 0],
            checkpoint: Vec::new(),
            total: DeltaBatch::empty(output),
        }
    }

    /// Which times the join keeps near each other: those that are keys, or some beside the keys.
    fn range(random: &mut Rng, keys: &[&str]) -> Option<TimeRange> {
        if keys.first() == Some(&"timestamp") {
            return Some(TimeRange {
                left: 0,
                right: 0,
                least: Some(0),
                greatest: Some(0),
                is_bounded: true,
            });
        }
        let middle = random.i64(-3..=3);
        let least = middle - random.i64(0..4);
        let greatest = middle + random.i64(0..4);
        let range = random.bool().then(|| TimeRange {
            left: keys.len(),
            right: keys.len(),
            least: (random.u8(..4) > 0).then_some(least * SECOND),
            greatest: (random.u8(..4) > 0).then_some(greatest * SECOND),
            is_bounded: true,
        });
        // Times that nothing compares may be NULL.
        range.filter(|range| range.least.is_some() || range.greatest.is_some())
    }

    /// The column of each input that the join compares as a time.
    fn time_column(&self) -> Option<usize> {
        self.spec.times.first().map(|range| range.left)
    }

    fn row(&mut self, port: usize) -> String {
        let mut row = String::new();
        let is_beside = self.time_column() == Some(self.keys.len());
        for kind in self.keys.iter().chain(is_beside.then_some(&"timestamp")) {
            let value = match (*kind, self.random.u8(..8)) {
                (_, 0) => "NULL".to_string(),
                ("timestamp", _) => time(self.bounds[port] + self.random.i64(0..6)),
                ("bigint", _) => self.random.i64(0..4).to_string(),
                _ => ["a", "''", "a-long-key"][self.random.usize(..3)].to_string(),
            };
            write!(row, "{value} ").unwrap();
        }
        let number = match self.random.u8(..6) {
            0 => "NULL".to_string(),
            _ => self.random.i64(0..5).to_string(),
        };
        let text = ["NULL", "x", "'two words'"][self.random.usize(..3)];
        let float = ["0.0", "-0.0", "NaN", "1.5"][self.random.usize(..4)];
        row + &format!("{number} {text} {float}")
    }

    /// Whether a row of the input may still change: its time is not below the bound.
    fn is_open(&self, port: usize, row: &str) -> bool {
        let time_of = |column| row.split(' ').nth(column).unwrap();
        let written = self.time_column().map_or("NULL", time_of);
        written == "NULL" || written >= time(self.bounds[port]).as_str()
    }

    /// The lines of a step's change of one input, and the input changed by it.
    fn change(&mut self, port: usize) -> Vec<String> {
        let is_append_only = [self.spec.left_append_only, self.spec.right_append_only][port];
        let mut lines = Vec::new();
        for _ in 0..self.random.usize(..8) {
            let row = self.row(port);
            let times = self.random.usize(1..3);
            self.inputs[port].extend(std::iter::repeat_n(row.clone(), times));
            lines.push(format!("+{times} {row}"));
        }
        for _ in 0..self.random.usize(..8) {
            if is_append_only || self.inputs[port].is_empty() {
                break;
            }
            let at = self.random.usize(..self.inputs[port].len());
            if self.is_open(port, &self.inputs[port][at]) {
                let row = self.inputs[port].swap_remove(at);
                lines.push(format!("- {row}"));
            }
        }
        self.random.shuffle(&mut lines);
        lines
    }

    fn step(&mut self, epoch: u64) {
        let before = self.join_bounds();
        let mut out = Output::default();
        for port in 0..2 {
            let lines = self.change(port);
            let schema = [&self.spec.left, &self.spec.right][port].clone();
            let mut lines = lines.as_slice();
            while !lines.is_empty() {
                let (part, rest) = lines.split_at(self.random.usize(1..=lines.len()));
                let batch = parse_rows(&schema, part.iter().map(String::as_str));
                self.join.push(port, batch, &mut out).unwrap();
                lines = rest;
            }
        }
        for bound in &mut self.bounds {
            *bound += self.random.i64(0..3);
        }
        let step = self.clock(epoch);
        self.join.finish(&step, &mut out).unwrap();
        assert!(out.errors.is_empty());
        let delta = concat(&self.spec.output, &out.deltas).unwrap();
        self.check_bounds(&before, &delta);
        self.check_padding(&delta);
        let batches = [self.total.clone(), delta];
        self.total = consolidate(&concat(&self.spec.output, &batches).unwrap()).unwrap();
    }

    fn clock(&self, epoch: u64) -> Step {
        let of = |port: usize| {
            let columns = [&self.spec.left, &self.spec.right][port].fields().len();
            let mut bounds = Bounds::unknown(columns);
            if let Some(column) = self.time_column() {
                bounds.0[column] = Some(EventTime(self.bounds[port] * SECOND));
            }
            bounds
        };
        Step {
            epoch: Epoch(epoch),
            clock_micros: 0,
            bounds: vec![of(0), of(1)],
        }
    }

    fn join_bounds(&self) -> Bounds {
        self.join.bounds(&self.clock(0))
    }

    /// No row came out below the bound of the step before, and no bound went back.
    fn check_bounds(&self, before: &Bounds, delta: &DeltaBatch) {
        let after = self.join_bounds();
        for (column, bound) in before.0.iter().enumerate() {
            let Some(bound) = bound else { continue };
            assert!(
                after.0[column] >= Some(*bound),
                "seed {}: a bound went back",
                self.seed
            );
            let times = crate::operator::rows::micros(delta.rows().column(column));
            let least = arrow::compute::min(&times).unwrap_or(i64::MAX);
            assert!(
                least >= bound.0,
                "seed {}: {least} came after {bound}",
                self.seed
            );
        }
        if let Some(TimeRange {
            left,
            right,
            least: Some(_),
            greatest: Some(_),
            ..
        }) = self.spec.times.first().copied()
        {
            let right = self.spec.left.fields().len() + right;
            let has_right = matches!(self.spec.kind, JoinKind::Inner | JoinKind::Left);
            assert!(after.0[left].is_some() || self.spec.kind == JoinKind::Full);
            assert!(!has_right || after.0[right].is_some());
        }
    }

    /// A row that may leave is padded, or no longer padded, at most once in a step.
    fn check_padding(&self, delta: &DeltaBatch) {
        let width = self.spec.left.fields().len();
        if self.spec.left_append_only || self.spec.kind != JoinKind::Left {
            return;
        }
        // The right side's float is never NULL itself.
        let last = delta.rows().columns().last().unwrap();
        let padded = delta
            .filter(&arrow::compute::is_null(last).unwrap())
            .unwrap();
        let left: Vec<usize> = (0..width).collect();
        let rows = padded.with_rows(padded.rows().project(&left).unwrap());
        assert_eq!(
            consolidate(&rows).unwrap().len(),
            rows.len(),
            "seed {}",
            self.seed
        );
    }

    fn restart(&mut self) {
        let scope = if self.checkpoint.is_empty() {
            Scope::All
        } else {
            Scope::Changed
        };
        self.checkpoint.extend(self.join.changes(scope).unwrap());
        if self.random.bool() {
            self.join = Join::new(self.spec.clone()).unwrap();
            for change in self.checkpoint.clone() {
                self.join.restore(change).unwrap();
            }
        }
    }

    async fn check(&self) {
        let context = SessionContext::new();
        for (name, schema, rows) in [
            ("l", &self.spec.left, &self.inputs[0]),
            ("r", &self.spec.right, &self.inputs[1]),
        ] {
            let lines: Vec<String> = rows.iter().map(|row| format!("+ {row}")).collect();
            let batch = parse_rows(schema, lines.iter().map(String::as_str))
                .rows()
                .clone();
            let table = MemTable::try_new(schema.clone(), vec![vec![batch]]).unwrap();
            context.register_table(name, Arc::new(table)).unwrap();
        }
        let result = context
            .sql(&self.sql)
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        let result: Vec<DeltaBatch> = result
            .into_iter()
            .map(|batch| batch.with_schema(self.spec.output.clone()).unwrap())
            .map(DeltaBatch::insertions)
            .collect();
        let expected = consolidate(&concat(&self.spec.output, &result).unwrap()).unwrap();
        let both = [self.total.clone(), expected.negate()];
        let difference = concat(&self.spec.output, &both).unwrap();
        let difference = print_sorted(&consolidate(&difference).unwrap());
        assert_eq!(difference, "", "seed {}: {}", self.seed, self.sql);
    }
}

fn time(second: i64) -> String {
    format!("1970-01-01T00:{:02}:{:02}", second / 60, second % 60)
}

#[test]
fn what_comes_out_is_the_querys_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for seed in 0..240 {
        let mut trial = Trial::new(seed);
        for epoch in 1..=15 {
            trial.step(epoch);
            if trial.random.u8(..3) == 0 {
                trial.restart();
            }
            if epoch % 5 == 0 {
                runtime.block_on(trial.check());
            }
        }
    }
}
