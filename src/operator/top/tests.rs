//! Scripts, and the answer of a model that sorts every group anew.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema};
use fastrand::Rng;

use crate::base::{Epoch, EventTime};
use crate::delta::notation::{parse, parse_rows, print_sorted};
use crate::delta::{DeltaBatch, concat, consolidate};
use crate::error::Result;
use crate::operator::aggregate::{Close, CloseEmit};
use crate::operator::top::{OrderColumn, RankFunction, RankRange, Top, TopSpec};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const SECOND: i64 = 1_000_000;

fn up_to(greatest: i64) -> RankRange {
    RankRange { least: 1, greatest }
}

/// Rows of `header`, by the first columns, ordered by the column behind them.
fn spec(header: &str, partition: usize, limits: [RankRange; 3], shown: &[RankFunction]) -> TopSpec {
    let input = parse(header).schema();
    let mut fields: Vec<_> = input.fields().iter().cloned().collect();
    for function in shown {
        fields.push(Arc::new(Field::new(
            function.name(),
            DataType::UInt64,
            false,
        )));
    }
    TopSpec {
        input,
        partition: (0..partition).collect(),
        order: vec![OrderColumn {
            column: partition,
            options: SortOptions {
                descending: true,
                nulls_first: false,
            },
        }],
        limits,
        shown: shown.to_vec(),
        output: Arc::new(Schema::new(fields)),
        close: None,
        idle_micros: None,
        bounded_order: None,
        is_append_only: false,
    }
}

struct Run {
    top: Top,
    spec: TopSpec,
    bounds: Vec<Option<EventTime>>,
    clock_micros: i64,
    out: Output,
}

impl Run {
    fn new(spec: TopSpec) -> Run {
        Run {
            top: Top::new(spec.clone()).unwrap(),
            bounds: vec![None; spec.input.fields().len()],
            spec,
            clock_micros: 0,
            out: Output::default(),
        }
    }

    fn clock(&self) -> Step {
        Step {
            epoch: Epoch(1),
            clock_micros: self.clock_micros,
            bounds: vec![Bounds(self.bounds.clone())],
        }
    }

    fn step<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) -> Result<DeltaBatch> {
        self.out = Output::default();
        self.top.begin(self.clock_micros, &mut self.out)?;
        let lines: Vec<&str> = lines.into_iter().collect();
        // Two batches, so that rows meet across them.
        for part in lines.chunks(lines.len().div_ceil(2).max(1)) {
            let batch = parse_rows(&self.spec.input, part.iter().copied());
            self.top.push(0, batch, &mut self.out)?;
        }
        let step = self.clock();
        self.top.finish(&step, &mut self.out)?;
        let all = concat(&self.spec.output, &self.out.deltas)?;
        // Nothing comes and goes in one step.
        let changes = |batch: &DeltaBatch| -> i64 {
            (0..batch.len())
                .map(|row| batch.weights().get(row).abs())
                .sum()
        };
        assert_eq!(changes(&consolidate(&all)?), changes(&all));
        Ok(all)
    }

    fn shown(&mut self, lines: &[&str]) -> String {
        let delta = self.step(lines.iter().copied()).unwrap();
        print_sorted(&delta).trim().replace('\n', ", ")
    }
}

const PLAIN: &str = "k:bigint x:bigint";

#[test]
fn rows_move_up_and_down() {
    let limits = [up_to(2), RankRange::ALL, RankRange::ALL];
    let mut run = Run::new(spec(PLAIN, 1, limits, &[RankFunction::RowNumber]));
    assert_eq!(
        run.shown(&["+ 7 10", "+ 7 30", "+ 7 20"]),
        "+ 7 20 2, + 7 30 1"
    );
    assert_eq!(
        run.shown(&["- 7 30"]),
        "+ 7 10 2, + 7 20 1, - 7 20 2, - 7 30 1"
    );
    // Behind the limit nothing is seen of what comes and goes.
    assert_eq!(run.shown(&["+ 7 5", "+ 7 NULL"]), "");
    assert_eq!(run.shown(&["- 7 5"]), "");
    // A row that takes another's place leaves the others alone.
    assert_eq!(run.shown(&["- 7 10", "+ 7 11"]), "+ 7 11 2, - 7 10 2");
    assert_eq!(
        run.shown(&["+ NULL 1", "+ NULL NULL"]),
        "+ NULL 1 1, + NULL NULL 2"
    );
    assert_eq!(run.shown(&["+2 8 3"]), "+ 8 3 1, + 8 3 2");
    assert_eq!(run.shown(&["- 8 3"]), "- 8 3 2");
    assert_eq!(
        run.shown(&[
            "- 8 3",
            "- 7 20",
            "- 7 11",
            "- 7 NULL",
            "- NULL 1",
            "- NULL NULL"
        ]),
        "- 7 11 2, - 7 20 1, - 8 3 1, - NULL 1 1, - NULL NULL 2"
    );
    assert_eq!(run.top.state_rows(), 0);
    assert!(run.step(["- 7 30"]).is_err());
}

#[test]
fn without_numbers_only_members_change() {
    let limits = [
        RankRange {
            least: 2,
            greatest: 3,
        },
        RankRange::ALL,
        RankRange::ALL,
    ];
    let mut run = Run::new(spec(PLAIN, 1, limits, &[]));
    assert_eq!(
        run.shown(&["+ 7 50", "+ 7 40", "+ 7 30", "+ 7 20"]),
        "+ 7 30, + 7 40"
    );
    assert_eq!(run.shown(&["+ 7 60"]), "+ 7 50, - 7 30");
    assert_eq!(run.shown(&["- 7 50"]), "+ 7 30, - 7 50");
    assert_eq!(run.shown(&["+5 7 70"]), "+2 7 70, - 7 30, - 7 40");
    assert_eq!(run.shown(&["-3 7 70"]), "+ 7 60, - 7 70");
}

#[test]
fn equal_rows_share_a_rank() {
    let header = "x:bigint y:text";
    let limits = [RankRange::ALL, up_to(2), RankRange::ALL];
    let shown = [RankFunction::Rank, RankFunction::DenseRank];
    let mut run = Run::new(spec(header, 0, limits, &shown));
    assert_eq!(
        run.shown(&["+ 9 a", "+ 8 b", "+ 8 c", "+ 7 d"]),
        "+ 8 b 2 2, + 8 c 2 2, + 9 a 1 1"
    );
    // One more of the second class: all of them are within.
    assert_eq!(run.shown(&["+ 8 a"]), "+ 8 a 2 2");
    // One more of the first: the second class is third now, and goes.
    assert_eq!(
        run.shown(&["+ 9 b"]),
        "+ 9 b 1 1, - 8 a 2 2, - 8 b 2 2, - 8 c 2 2"
    );
    assert_eq!(
        run.shown(&["- 9 a", "- 9 b"]),
        "+ 8 a 1 1, + 8 b 1 1, + 8 c 1 1, - 9 a 1 1, - 9 b 1 1"
    );
    assert_eq!(
        run.shown(&["- 8 a", "- 8 b"]),
        "+ 7 d 2 2, - 8 a 1 1, - 8 b 1 1"
    );
}

#[test]
fn where_rows_only_come_those_behind_the_limit_are_let_go() {
    let limits = [up_to(2), RankRange::ALL, RankRange::ALL];
    let mut run = Run::new(TopSpec {
        is_append_only: true,
        ..spec(PLAIN, 1, limits, &[])
    });
    assert_eq!(
        run.shown(&["+ 7 1", "+ 7 2", "+ 7 3", "+ 8 1"]),
        "+ 7 2, + 7 3, + 8 1"
    );
    assert_eq!(run.top.state_rows(), 3);
    assert_eq!(run.shown(&["+ 7 1", "+ 7 0", "+ 8 0"]), "+ 8 0");
    assert_eq!(run.shown(&["+ 7 4"]), "+ 7 4, - 7 2");
    assert_eq!(run.top.state_rows(), 4);

    let limits = [RankRange::ALL, RankRange::ALL, up_to(1)];
    let mut run = Run::new(TopSpec {
        is_append_only: true,
        ..spec("x:bigint y:text", 0, limits, &[])
    });
    assert_eq!(run.shown(&["+ 1 a", "+ 2 a", "+ 2 b"]), "+ 2 a, + 2 b");
    assert_eq!(run.shown(&["+ 2 c", "+ 1 d"]), "+ 2 c");
    assert_eq!(run.top.state_rows(), 3);
}

fn timed(emit: CloseEmit) -> Run {
    let limits = [up_to(1), RankRange::ALL, RankRange::ALL];
    Run::new(TopSpec {
        close: Some(Close {
            column: 0,
            emit,
            lateness_micros: 0,
        }),
        ..spec(
            "t:timestamp x:bigint",
            1,
            limits,
            &[RankFunction::RowNumber],
        )
    })
}

const AT_10: &str = "1970-01-01T00:00:10";
const AT_20: &str = "1970-01-01T00:00:20";

#[test]
fn groups_come_out_once_when_they_are_final() {
    let mut run = timed(CloseEmit::OnClose);
    let row = |sign: &str, time: &str, x: i64| format!("{sign} {time} {x}");
    let first = [row("+", AT_10, 1), row("+", AT_20, 5), row("+", AT_10, 2)];
    run.bounds[0] = Some(EventTime(10 * SECOND));
    assert_eq!(run.step(first.iter().map(String::as_str)).unwrap().len(), 0);
    // What waits holds its column back.
    let bounds = run.top.bounds(&run.clock());
    assert_eq!(bounds.0[0], Some(EventTime(10 * SECOND)));
    let second = [row("-", AT_10, 2), row("+", AT_10, 3)];
    run.bounds[0] = Some(EventTime(11 * SECOND));
    let second: Vec<&str> = second.iter().map(String::as_str).collect();
    assert_eq!(run.shown(&second), format!("+ {AT_10} 3 1"));
    assert_eq!(run.top.state_rows(), 1);
    run.bounds[0] = Some(EventTime::MAX);
    assert_eq!(run.shown(&[]), format!("+ {AT_20} 5 1"));
    assert_eq!(run.top.state_rows(), 0);
}

#[test]
fn groups_that_are_final_are_freed() {
    let mut run = timed(CloseEmit::OnUpdate);
    let rows = [format!("+ {AT_10} 1"), format!("+ {AT_20} 5")];
    run.bounds[0] = Some(EventTime(10 * SECOND));
    assert_eq!(run.step(rows.iter().map(String::as_str)).unwrap().len(), 2);
    run.bounds[0] = Some(EventTime(11 * SECOND));
    assert_eq!(run.shown(&[]), "");
    assert_eq!(run.top.state_rows(), 1);
}

#[test]
fn the_rising_order_keeps_its_bound() {
    let limits = [up_to(1), RankRange::ALL, RankRange::ALL];
    let mut run = Run::new(TopSpec {
        bounded_order: Some(1),
        ..spec("k:bigint t:timestamp", 1, limits, &[])
    });
    run.bounds = vec![None, Some(EventTime(7))];
    assert_eq!(run.top.bounds(&run.clock()).0, [None, Some(EventTime(7))]);
}

/// A row of the model: key, value, text.
type Plain = (Option<i64>, Option<i64>, u8);

fn line(sign: &str, row: &Plain) -> String {
    let number = |value: Option<i64>| value.map_or("NULL".to_string(), |v| v.to_string());
    // Some texts are longer than eight bytes and begin alike.
    let text = ["a", "beginning-a", "beginning-b", "c"][usize::from(row.2)];
    format!("{sign} {} {} {text}", number(row.0), number(row.1))
}

fn by_order(options: SortOptions, a: Option<i64>, b: Option<i64>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) if options.nulls_first => Ordering::Less,
        (Some(_), None) if !options.nulls_first => Ordering::Less,
        (None, Some(_)) | (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) if options.descending => b.cmp(&a),
        (Some(a), Some(b)) => a.cmp(&b),
    }
}

/// The answer, by sorting and counting.
fn answer(spec: &TopSpec, rows: &[Plain]) -> Vec<String> {
    let mut groups: BTreeMap<Option<i64>, Vec<Plain>> = BTreeMap::new();
    for row in rows {
        let key = if spec.partition.is_empty() {
            None
        } else {
            row.0
        };
        groups.entry(key).or_default().push(*row);
    }
    let last = SortOptions {
        descending: false,
        nulls_first: false,
    };
    let options = spec.order.first().map(|order| order.options);
    let class = |a: &Plain, b: &Plain| match options {
        Some(options) => by_order(options, a.1, b.1),
        None => Ordering::Equal,
    };
    let mut lines = Vec::new();
    for group in groups.values_mut() {
        group.sort_by(|a, b| {
            let order = class(a, b).then_with(|| by_order(last, a.0, b.0));
            order
                .then_with(|| by_order(last, a.1, b.1))
                .then(a.2.cmp(&b.2))
        });
        let mut numbers = [0; 3];
        for (at, row) in group.iter().enumerate() {
            numbers[0] += 1;
            if at == 0 || class(&group[at - 1], row) != Ordering::Equal {
                numbers[1] = numbers[0];
                numbers[2] += 1;
            }
            let is_in = |(limit, number): (&RankRange, &i64)| {
                (limit.least..=limit.greatest).contains(number)
            };
            if spec.limits.iter().zip(&numbers).all(is_in) {
                let mut line = line("+", row);
                for function in &spec.shown {
                    line += &format!(" {}", numbers[*function as usize]);
                }
                lines.push(line);
            }
        }
    }
    lines
}

fn random_spec(random: &mut Rng) -> TopSpec {
    let mut limits = [RankRange::ALL; 3];
    let most = [4, 4, 30][random.usize(..3)];
    for _ in 0..random.usize(1..3) {
        let least = if random.bool() {
            1
        } else {
            random.i64(1..most)
        };
        let greatest = match random.u8(..6) {
            0 => i64::MAX,
            1 => random.i64(0..most),
            _ => least + random.i64(0..most),
        };
        limits[random.usize(..3)] = RankRange { least, greatest };
    }
    let mut shown = Vec::new();
    for function in RankFunction::ALL {
        if random.u8(..3) == 0 {
            shown.push(function);
        }
    }
    let mut spec = spec("k:bigint x:bigint y:text", 1, limits, &shown);
    spec.order[0].options = SortOptions {
        descending: random.bool(),
        nulls_first: random.bool(),
    };
    match random.u8(..6) {
        0 => spec.order.clear(),
        1 => spec.partition.clear(),
        _ => {}
    }
    spec.is_append_only = random.u8(..3) == 0;
    spec
}

fn agrees(seed: u64, steps: usize, rows_per_step: usize, values: i64) {
    let mut random = Rng::with_seed(seed);
    let spec = random_spec(&mut random);
    let mut run = Run::new(spec.clone());
    let (mut rows, mut checkpoint): (Vec<Plain>, Vec<TableChange>) = Default::default();
    let mut total = DeltaBatch::empty(spec.output.clone());
    for _ in 0..steps {
        let mut lines = Vec::new();
        for _ in 0..random.usize(..rows_per_step) {
            let row = (
                (random.u8(..9) > 0).then(|| random.i64(0..2)),
                (random.u8(..9) > 0).then(|| random.i64(0..values)),
                random.u8(..4),
            );
            let weight = if random.u8(..5) == 0 { 3 } else { 1 };
            rows.extend(std::iter::repeat_n(row, weight));
            lines.push(line(&format!("+{weight}"), &row));
        }
        for _ in 0..random.usize(..rows_per_step) {
            if spec.is_append_only || rows.is_empty() {
                break;
            }
            let row = rows.swap_remove(random.usize(..rows.len()));
            lines.push(line("-", &row));
        }
        random.shuffle(&mut lines);
        let delta = run.step(lines.iter().map(String::as_str)).unwrap();
        total = consolidate(&concat(&spec.output, &[total, delta]).unwrap()).unwrap();
        let expected = answer(&spec, &rows);
        let expected = parse_rows(&spec.output, expected.iter().map(String::as_str));
        let both = [total.clone(), expected.negate()];
        let difference = consolidate(&concat(&spec.output, &both).unwrap()).unwrap();
        assert_eq!(print_sorted(&difference), "", "seed {seed}, {spec:?}");
        if random.u8(..4) == 0 {
            let scope = match checkpoint.is_empty() {
                true => Scope::All,
                false => Scope::Changed,
            };
            checkpoint.extend(run.top.changes(scope).unwrap());
            run = Run::new(spec.clone());
            for change in &checkpoint {
                run.top.restore(change.clone()).unwrap();
            }
            run.top.resume();
        }
    }
    if !spec.is_append_only {
        let lines: Vec<String> = rows.iter().map(|row| line("-", row)).collect();
        run.step(lines.iter().map(String::as_str)).unwrap();
        assert_eq!(run.top.state_rows(), 0, "seed {seed}");
    }
}

#[test]
fn a_row_that_has_moved_between_slots_is_put_back_once() {
    // One of the two comes back in the slot that the other one had.
    for (stays, other) in [("1 1", "1 2"), ("1 2", "1 1")] {
        let limits = [up_to(1), RankRange::ALL, RankRange::ALL];
        let mut run = Run::new(spec(PLAIN, 1, limits, &[RankFunction::RowNumber]));
        let (comes, goes) = (
            [stays, other].map(|row| format!("+ {row}")),
            format!("- {stays}"),
        );
        run.step(comes.iter().map(String::as_str)).unwrap();
        let mut checkpoint = run.top.changes(Scope::All).unwrap();
        run.step([goes.as_str(), &format!("- {other}")]).unwrap();
        run.step([comes[0].as_str()]).unwrap();
        for change in run.top.changes(Scope::Changed).unwrap() {
            assert_eq!((change.slots.len(), change.freed.len()), (1, 1));
            // As where the two slots stand in different blocks.
            let freed = TableChange {
                slots: Vec::new(),
                rows: change.rows.slice(0, 0),
                ..change.clone()
            };
            checkpoint.push(TableChange {
                freed: Vec::new(),
                ..change
            });
            checkpoint.push(freed);
        }
        let mut run = Run::new(run.spec.clone());
        for change in &checkpoint {
            run.top.restore(change.clone()).unwrap();
        }
        run.top.resume();
        assert_eq!(run.shown(&[&goes]), format!("- {stays} 1"));
        assert_eq!(run.top.state_rows(), 0);
        assert_eq!(run.shown(&[&comes[1]]), format!("+ {other} 1"));
    }
}

#[test]
fn rankings_are_what_sorting_says() {
    for seed in 0..300 {
        agrees(seed, 20, 8, 5);
    }
}

#[test]
fn large_groups_are_ranked_the_same() {
    for seed in 1000..1030 {
        agrees(seed, 12, 900, 300);
    }
}

/// A row that comes or goes reads as many others in a group of many rows as its order is deep.
#[test]
fn a_row_costs_its_way_through_the_order() {
    let limits = [up_to(10), RankRange::ALL, RankRange::ALL];
    let mut run = Run::new(spec("x:bigint y:text", 0, limits, &[]));
    let mut random = Rng::with_seed(1);
    let mut lines: Vec<String> = (0..60_000).map(|x| format!("+ {x} a")).collect();
    random.shuffle(&mut lines);
    for part in lines.chunks(10_000) {
        run.step(part.iter().map(String::as_str)).unwrap();
    }
    assert!(run.top.height() <= 4, "{} nodes deep", run.top.height());
    let bytes = run.top.state_bytes() / 60_000;
    // The row's own are 19; its weight, its place and its entry are the rest.
    assert!(bytes < 160, "{bytes} bytes of each row");
    let removed: Vec<String> = (100..60_000).map(|x| format!("- {x} a")).collect();
    for part in removed.chunks(10_000) {
        run.step(part.iter().map(String::as_str)).unwrap();
    }
    assert!(run.top.height() <= 2, "{} nodes deep", run.top.height());
    assert_eq!(run.shown(&["+ 50 b", "- 99 a"]), "+ 89 a, - 99 a");
}

/// The first rows of groups that are there for ten microseconds after their last row.
fn idle(limit: i64) -> TopSpec {
    TopSpec {
        idle_micros: Some(10),
        is_append_only: true,
        ..spec(
            PLAIN,
            1,
            [up_to(limit), RankRange::ALL, RankRange::ALL],
            &[],
        )
    }
}

#[test]
fn a_group_leaves_so_long_after_its_last_row_among_the_first_or_not() {
    let mut run = Run::new(idle(1));
    run.clock_micros = 100;
    assert_eq!(run.shown(&["+ 1 50", "+ 2 5"]), "+ 1 50, + 2 5");
    // Behind the first: nothing is kept of it but that it came.
    run.clock_micros = 105;
    assert_eq!(run.shown(&["+ 1 40"]), "");
    assert_eq!(run.top.deadline(), Some(110));
    run.clock_micros = 110;
    assert_eq!(run.shown(&[]), "- 2 5");
    assert_eq!(run.out.counts.rows_evicted, 1);
    run.clock_micros = 120;
    assert_eq!(run.shown(&["+ 2 5"]), "+ 2 5, - 1 50");
    run.clock_micros = 130;
    assert_eq!(run.shown(&[]), "- 2 5");
    assert_eq!((run.top.state_rows(), run.top.deadline()), (0, None));
}

/// Over restarts, which know of a group's last row although nothing else is kept of it.
#[test]
fn what_is_out_are_the_first_rows_of_the_groups_that_are_there() {
    for seed in 0..60 {
        let mut random = Rng::with_seed(seed);
        let limit = random.i64(1..4);
        let mut run = Run::new(idle(limit));
        let mut blocks: Vec<TableChange> = Vec::new();
        let mut groups: std::collections::BTreeMap<i64, (i64, Vec<i64>)> = Default::default();
        let mut output = Vec::new();
        for _ in 0..60 {
            run.clock_micros += random.i64(0..5);
            let clock = run.clock_micros;
            groups.retain(|_, (last, _)| *last + 10 > clock);
            let mut lines = Vec::new();
            for _ in 0..random.usize(..4) {
                let (key, value) = (random.i64(0..5), random.i64(0..20));
                let group = groups.entry(key).or_insert((clock, Vec::new()));
                group.0 = clock;
                group.1.push(value);
                lines.push(format!("+ {key} {value}"));
            }
            run.out = Output::default();
            run.top.begin(clock, &mut run.out).unwrap();
            let rows = parse_rows(&run.spec.input, lines.iter().map(String::as_str));
            run.top.push(0, rows, &mut run.out).unwrap();
            let step = run.clock();
            run.top.finish(&step, &mut run.out).unwrap();
            output.append(&mut run.out.deltas);
            let mut expected = Vec::new();
            for (key, (_, values)) in &groups {
                let mut values = values.clone();
                values.sort_unstable_by(|a, b| b.cmp(a));
                let first = values.iter().take(usize::try_from(limit).unwrap());
                expected.extend(first.map(|value| format!("+ {key} {value}")));
            }
            let expected = parse_rows(&run.spec.input, expected.iter().map(String::as_str));
            let found = consolidate(&concat(&run.spec.output, &output).unwrap()).unwrap();
            let expected = consolidate(&expected).unwrap();
            let (found, expected) = (print_sorted(&found), print_sorted(&expected));
            assert_eq!(found, expected, "seed {seed}, clock {clock}");
            if random.u8(..4) == 0 {
                let is_first = blocks.is_empty();
                let scope = if is_first { Scope::All } else { Scope::Changed };
                blocks.extend(run.top.changes(scope).unwrap());
                run.top = Top::new(run.spec.clone()).unwrap();
                for block in &blocks {
                    run.top.restore(block.clone()).unwrap();
                }
                run.top.resume();
            }
        }
        run.clock_micros += 10;
        run.step([]).unwrap();
        assert_eq!(run.top.state_rows(), 0, "seed {seed}");
    }
}
