//! Random calls over random changes, against sorting and counting.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use fastrand::Rng;

use super::*;
use crate::operator::{Scope, TableChange};

/// A row of the model: partition, order and value, text.
type Plain = (Option<i64>, Option<i32>, u8);

const HEADER: &str = "k:bigint x:integer y:text";

// Some texts are longer than eight bytes and begin alike.
const TEXTS: [Option<&str>; 4] = [Some("a"), Some("beginning-a"), Some("beginning-b"), None];

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or("NULL".to_string(), |value| value.to_string())
}

fn line(sign: &str, row: &Plain) -> String {
    let text = TEXTS[usize::from(row.2)];
    format!("{sign} {} {} {}", shown(row.0), shown(row.1), shown(text))
}

fn by_order<T: Ord>(options: SortOptions, a: Option<T>, b: Option<T>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) if options.nulls_first => Ordering::Less,
        (Some(_), None) if !options.nulls_first => Ordering::Less,
        (None, Some(_)) | (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) if options.descending => b.cmp(&a),
        (Some(a), Some(b)) => a.cmp(&b),
    }
}

/// A partition's copies of rows in their order, with the class of each.
struct Sorted {
    rows: Vec<Plain>,
    classes: Vec<i64>,
    options: Option<SortOptions>,
}

impl Sorted {
    fn new(spec: &OverSpec, mut rows: Vec<Plain>) -> Sorted {
        let options = spec.order.first().map(|order| order.options);
        let class = |a: &Plain, b: &Plain| match options {
            Some(options) => by_order(options, a.1, b.1),
            None => Ordering::Equal,
        };
        let text = |row: &Plain| TEXTS[usize::from(row.2)];
        rows.sort_by(|a, b| {
            let order = class(a, b).then_with(|| by_order(ASCENDING, a.0, b.0));
            let order = order.then_with(|| by_order(ASCENDING, a.1, b.1));
            order.then_with(|| by_order(ASCENDING, text(a), text(b)))
        });
        let mut classes: Vec<i64> = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let last = classes.last().copied().unwrap_or(-1);
            let is_first = at == 0 || class(&rows[at - 1], row) != Ordering::Equal;
            classes.push(last + i64::from(is_first));
        }
        Sorted {
            rows,
            classes,
            options,
        }
    }

    fn length(&self) -> i64 {
        i64::try_from(self.rows.len()).unwrap()
    }

    fn class(&self, at: i64) -> i64 {
        self.classes[usize::try_from(at).unwrap()]
    }

    fn row(&self, at: i64) -> &Plain {
        &self.rows[usize::try_from(at).unwrap()]
    }

    /// Where rows of a class begin and end, whether there are any or not.
    fn of_class(&self, class: i64) -> Range<i64> {
        let before = |end: i64| self.classes.iter().filter(|&&class| class < end).count();
        let count = |end: i64| i64::try_from(before(end)).unwrap();
        count(class)..count(class.saturating_add(1))
    }

    fn frame(&self, frame: &Frame, at: i64) -> Range<i64> {
        let bound = |bound: &FrameBound, is_start: bool| -> i64 {
            let side = |range: Range<i64>| if is_start { range.start } else { range.end };
            let (distance, sign) = match bound {
                FrameBound::UnboundedPreceding => return 0,
                FrameBound::UnboundedFollowing => return self.length(),
                FrameBound::CurrentRow => (&Distance::Count(0), 1),
                FrameBound::Preceding(distance) => (distance, -1),
                FrameBound::Following(distance) => (distance, 1),
            };
            match (distance, frame.units) {
                (Distance::Count(count), FrameUnits::Rows) => {
                    side(at + count * sign..at + count * sign + 1).clamp(0, self.length())
                }
                (Distance::Count(count), _) => side(self.of_class(self.class(at) + count * sign)),
                (Distance::Value(value), _) => {
                    let ScalarValue::Int32(Some(by)) = value else {
                        panic!("a distance of {value}")
                    };
                    side(self.so_far(at, i64::from(*by) * sign))
                }
            }
        };
        let start = bound(&frame.start, true);
        start..bound(&frame.end, false).max(start)
    }

    /// Where rows stand whose value is so far from a row's.
    fn so_far(&self, at: i64, by: i64) -> Range<i64> {
        let Some(value) = self.row(at).1 else {
            return self.of_class(self.class(at));
        };
        let options = self.options.expect("there is an order");
        let by = if options.descending { -by } else { by };
        let target = Some(i64::from(value) + by);
        let count = |is_before: &dyn Fn(Ordering) -> bool| {
            let order = |row: &&Plain| by_order(options, row.1.map(i64::from), target);
            let before = self.rows.iter().filter(|row| is_before(order(row)));
            i64::try_from(before.count()).unwrap()
        };
        count(&Ordering::is_lt)..count(&Ordering::is_le)
    }

    fn value(&self, call: &OverCall, at: i64) -> String {
        let length = self.length();
        let class = self.of_class(self.class(at));
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let float = |number: i64| number as f64;
        let frame = || self.frame(&call.frame, at);
        match &call.function {
            OverFunction::RowNumber => (at + 1).to_string(),
            OverFunction::Rank => (class.start + 1).to_string(),
            OverFunction::DenseRank => (self.class(at) + 1).to_string(),
            OverFunction::PercentRank => {
                (float(class.start) / (float(length) - 1.0).max(1.0)).to_string()
            }
            OverFunction::CumeDist => (float(class.end) / float(length)).to_string(),
            OverFunction::Ntile(parts) => {
                // Rows are dealt out; the parts then stand side by side.
                let sizes: Vec<i64> = (0..*parts)
                    .map(|part| length / parts + i64::from(part < length % parts))
                    .collect();
                let ends = sizes.iter().scan(0, |end, size| {
                    *end += size;
                    Some(*end)
                });
                (ends.take_while(|&end| end <= at).count() + 1).to_string()
            }
            OverFunction::Shift(shift) => {
                let found = match (shift.ignores_nulls, shift.offset) {
                    (_, 0) => Some(at),
                    (false, offset) => Some(at - offset).filter(|at| (0..length).contains(at)),
                    (true, 1..) => self.known(shift.argument, (0..at).rev(), shift.offset),
                    (true, _) => self.known(shift.argument, at + 1..length, -shift.offset),
                };
                self.cell(shift.argument, found)
            }
            OverFunction::Nth(nth) => {
                let (frame, number) = (frame(), nth.number.abs());
                let found = match (nth.ignores_nulls, nth.number > 0) {
                    (true, true) => self.known(nth.argument, frame, number),
                    (true, false) => self.known(nth.argument, frame.rev(), number),
                    (false, true) => frame.clone().nth(usize::try_from(number - 1).unwrap()),
                    (false, false) => frame.rev().nth(usize::try_from(number - 1).unwrap()),
                };
                self.cell(nth.argument, found)
            }
            OverFunction::Aggregate(aggregate) => self.aggregate(aggregate, frame()),
        }
    }

    /// The n-th row, from 1 on, whose value is not NULL.
    fn known(
        &self,
        column: usize,
        mut rows: impl Iterator<Item = i64>,
        number: i64,
    ) -> Option<i64> {
        let is_known = |at: &i64| self.cell(column, Some(*at)) != "NULL";
        let mut left = number;
        rows.find(|at| {
            left -= i64::from(is_known(at));
            left == 0
        })
    }

    fn cell(&self, column: usize, at: Option<i64>) -> String {
        let Some(row) = at.map(|at| self.row(at)) else {
            return "NULL".to_string();
        };
        match column {
            0 => shown(row.0),
            1 => shown(row.1),
            _ => shown(TEXTS[usize::from(row.2)]),
        }
    }

    fn aggregate(&self, call: &AggregateCall, frame: Range<i64>) -> String {
        let rows = || frame.clone().map(|at| self.row(at));
        let values = || rows().filter_map(|row| row.1);
        let texts = || rows().filter_map(|row| TEXTS[usize::from(row.2)]);
        match (&call.function, call.argument) {
            (AggregateFunction::CountAll, _) => rows().count().to_string(),
            (AggregateFunction::Count, _) => values().count().to_string(),
            (AggregateFunction::Sum, _) => {
                let sum: i64 = values().map(i64::from).sum();
                shown((values().count() > 0).then_some(sum))
            }
            (AggregateFunction::Min, Some(1)) => shown(values().min()),
            (AggregateFunction::Max, Some(1)) => shown(values().max()),
            (AggregateFunction::Min, _) => shown(texts().min()),
            (AggregateFunction::Max, _) => shown(texts().max()),
            (other, _) => panic!("the model knows no {other}"),
        }
    }
}

/// The answer, by sorting and counting.
fn answer(spec: &OverSpec, rows: &[Plain]) -> Vec<String> {
    let mut partitions: BTreeMap<Option<i64>, Vec<Plain>> = BTreeMap::new();
    for row in rows {
        let key = if spec.partition.is_empty() {
            None
        } else {
            row.0
        };
        partitions.entry(key).or_default().push(*row);
    }
    let mut lines = Vec::new();
    for rows in partitions.into_values() {
        let sorted = Sorted::new(spec, rows);
        for at in 0..sorted.length() {
            let mut line = line("+", sorted.row(at));
            for call in &spec.calls {
                line += &format!(" {}", sorted.value(call, at));
            }
            lines.push(line);
        }
    }
    lines
}

fn random_bound(random: &mut Rng, units: FrameUnits, has_values: bool) -> FrameBound {
    let most = if random.bool() { 3 } else { 40 };
    let distance = match units {
        FrameUnits::Range if has_values => {
            Distance::Value(ScalarValue::Int32(Some(random.i32(0..most))))
        }
        FrameUnits::Range => return FrameBound::CurrentRow,
        _ => Distance::Count(i64::from(random.i32(0..most))),
    };
    match random.u8(..6) {
        0 => FrameBound::CurrentRow,
        1..4 => FrameBound::Preceding(distance),
        _ => FrameBound::Following(distance),
    }
}

fn random_frame(random: &mut Rng, has_values: bool) -> Frame {
    let units = [FrameUnits::Rows, FrameUnits::Range, FrameUnits::Groups];
    let units = units[random.usize(..3)];
    let start = match random.u8(..3) {
        0 => FrameBound::UnboundedPreceding,
        _ => random_bound(random, units, has_values),
    };
    let end = match random.u8(..4) {
        0 => FrameBound::UnboundedFollowing,
        _ => random_bound(random, units, has_values),
    };
    Frame { units, start, end }
}

fn random_call(random: &mut Rng, has_values: bool) -> OverCall {
    let frame = random_frame(random, has_values);
    let argument = random.usize(1..3);
    let ignores_nulls = random.bool();
    let most = if random.bool() { 4 } else { 30 };
    match random.u8(..14) {
        0 => placed(OverFunction::RowNumber),
        1 => placed(OverFunction::Rank),
        2 => placed(OverFunction::DenseRank),
        3 => placed(match random.u8(..3) {
            0 => OverFunction::PercentRank,
            1 => OverFunction::CumeDist,
            _ => OverFunction::Ntile(random.i64(1..most)),
        }),
        4 | 5 => shift(argument, random.i64(-most..most), ignores_nulls),
        6 => nth(argument, 1, ignores_nulls, frame),
        7 => nth(argument, -1, ignores_nulls, frame),
        8 => {
            let number = random.i64(1..most) * if random.bool() { 1 } else { -1 };
            nth(argument, number, ignores_nulls, frame)
        }
        9 => aggregate(AggregateFunction::CountAll, None, frame),
        10 => aggregate(AggregateFunction::Count, Some(1), frame),
        11 => aggregate(AggregateFunction::Sum, Some(1), frame),
        12 => aggregate(AggregateFunction::Min, Some(argument), frame),
        _ => aggregate(AggregateFunction::Max, Some(argument), frame),
    }
}

fn random_spec(random: &mut Rng) -> OverSpec {
    let kind = random.u8(..6);
    let mut calls = Vec::new();
    for _ in 0..random.usize(1..4) {
        calls.push(random_call(random, kind != 0));
    }
    let mut spec = spec(HEADER, 1, calls);
    spec.order[0].options = SortOptions {
        descending: random.bool(),
        nulls_first: random.bool(),
    };
    match kind {
        0 => spec.order.clear(),
        1 => spec.partition.clear(),
        _ => {}
    }
    spec
}

fn agrees(seed: u64, steps: usize, rows_per_step: usize, values: i32) {
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
                (random.u8(..9) > 0).then(|| random.i32(0..values)),
                random.u8(..4),
            );
            let weight = if random.u8(..5) == 0 { 3 } else { 1 };
            rows.extend(std::iter::repeat_n(row, weight));
            lines.push(line(&format!("+{weight}"), &row));
        }
        for _ in 0..random.usize(..rows_per_step) {
            if rows.is_empty() {
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
            checkpoint.extend(run.over.changes(scope).unwrap());
            run = Run::new(spec.clone());
            for change in &checkpoint {
                run.over.restore(change.clone()).unwrap();
            }
            run.over.resume();
        }
    }
    let lines: Vec<String> = rows.iter().map(|row| line("-", row)).collect();
    run.step(lines.iter().map(String::as_str)).unwrap();
    assert_eq!(run.over.state_rows(), 0, "seed {seed}");
}

#[test]
fn windows_are_what_sorting_says() {
    for seed in 0..300 {
        agrees(seed, 16, 8, 5);
    }
}

#[test]
fn large_partitions_are_the_same() {
    for seed in 1000..1015 {
        agrees(seed, 6, 250, 120);
    }
}
