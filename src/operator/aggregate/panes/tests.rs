//! Panes in scripts, and against windows that are filled row by row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::array_value_to_string;
use fastrand::Rng;

use super::{PaneAggregate, PaneAggregateSpec};
use crate::base::limits::{CHUNK_ROWS_MAX, CLOSED_WINDOWS_BYTES_MAX};
use crate::base::{Epoch, EventTime};
use crate::delta::{DeltaBatch, Weights, concat, consolidate};
use crate::function::window::{Panes, WindowKind};
use crate::operator::aggregate::{AggregateCall, AggregateFunction};
use crate::operator::window::{Assignment, Window, WindowSpec};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

/// A row: key, time, number, text, float, truth; how often, and the watermark before it.
#[derive(Clone, Debug)]
struct Row {
    key: Option<i64>,
    time: i64,
    number: Option<i64>,
    text: Option<&'static str>,
    float: Option<f64>,
    truth: Option<bool>,
    weight: i64,
    watermark: i64,
}

fn row(key: i64, time: i64, number: i64, watermark: i64) -> Row {
    Row {
        key: Some(key),
        time,
        number: Some(number),
        text: None,
        float: None,
        truth: None,
        weight: 1,
        watermark,
    }
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn input() -> SchemaRef {
    let fields = [
        ("k", DataType::Int64),
        ("ts", time_type()),
        ("n", DataType::Int64),
        ("t", DataType::Utf8),
        ("f", DataType::Float64),
        ("b", DataType::Boolean),
    ];
    let fields = fields.map(|(name, data_type)| Field::new(name, data_type, true));
    Arc::new(Schema::new(fields.to_vec()))
}

fn batch(rows: &[Row]) -> DeltaBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.key).collect::<Int64Array>()),
        Arc::new(TimestampMicrosecondArray::from_iter_values(
            rows.iter().map(|row| row.time),
        )),
        Arc::new(rows.iter().map(|row| row.number).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.text).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.float).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.truth).collect::<BooleanArray>()),
    ];
    let weights: Vec<i64> = rows.iter().map(|row| row.weight).collect();
    let watermarks: Vec<i64> = rows.iter().map(|row| row.watermark).collect();
    let rows = RecordBatch::try_new(input(), columns).unwrap();
    DeltaBatch::new(rows, Weights::Each(weights.into())).with_watermarks(Some(watermarks.into()))
}

/// The functions of the tests, and the columns that they are over.
fn all_calls() -> Vec<(AggregateFunction, Option<usize>)> {
    vec![
        (AggregateFunction::CountAll, None),
        (AggregateFunction::Count, Some(2)),
        (AggregateFunction::Sum, Some(2)),
        (AggregateFunction::Avg, Some(4)),
        (AggregateFunction::Sum, Some(4)),
        (AggregateFunction::BoolAnd, Some(5)),
        (AggregateFunction::BoolOr, Some(5)),
        (AggregateFunction::Min, Some(2)),
        (AggregateFunction::Max, Some(2)),
        (AggregateFunction::Min, Some(3)),
        (AggregateFunction::Max, Some(3)),
    ]
}

/// The window operator and the aggregate above it, with the checkpoints they have written.
struct Run {
    window: Window,
    spec: PaneAggregateSpec,
    aggregate: PaneAggregate,
    blocks: Vec<TableChange>,
    deltas: Vec<DeltaBatch>,
    out: Output,
    watermark: i64,
}

impl Run {
    fn new(
        [slide_micros, size_micros, offset_micros]: [i64; 3],
        calls: &[(AggregateFunction, Option<usize>)],
        is_append_only: bool,
    ) -> Run {
        let kind = WindowKind::Hop {
            slide_micros,
            size_micros,
            offset_micros,
        };
        let panes = Panes::of(kind).unwrap();
        let mut fields: Vec<Field> = input()
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
        fields.push(Field::new("pane_start", time_type(), false));
        let windowed = Arc::new(Schema::new(fields));
        let window = Window::new(WindowSpec {
            input: input(),
            time_column: 1,
            kind,
            assignment: Assignment::Panes(panes),
            output: windowed.clone(),
            lateness_micros: 0,
            judges: true,
        });
        let mut fields = vec![
            Field::new("k", DataType::Int64, true),
            Field::new("window_start", time_type(), false),
            Field::new("window_end", time_type(), false),
        ];
        let mut of_input = Vec::new();
        for (at, (function, argument)) in calls.iter().enumerate() {
            let of = argument.map(|column| windowed.field(column).data_type());
            let data_type = function.result_type(of).unwrap();
            fields.push(Field::new(format!("c{at}"), data_type, true));
            of_input.push(AggregateCall {
                function: function.clone(),
                argument: *argument,
                filter: None,
            });
        }
        let spec = PaneAggregateSpec {
            input: windowed,
            keys: vec![0],
            pane_column: 6,
            panes,
            calls: of_input,
            is_append_only,
            output: Arc::new(Schema::new(fields)),
        };
        Run {
            window: window.unwrap(),
            aggregate: PaneAggregate::new(spec.clone()).unwrap(),
            spec,
            blocks: Vec::new(),
            deltas: Vec::new(),
            out: Output::default(),
            watermark: i64::MIN,
        }
    }

    /// A step of some batches, at the end of which the watermark stands there.
    fn step(&mut self, batches: &[&[Row]], watermark: i64) -> String {
        self.watermark = watermark;
        for rows in batches {
            let mut windowed = Output::default();
            self.window.push(0, batch(rows), &mut windowed).unwrap();
            self.out.counts.add(&windowed.counts);
            self.out.late.append(&mut windowed.late);
            for delta in windowed.deltas {
                self.aggregate.push(0, delta, &mut self.out).unwrap();
            }
        }
        let bounds = |bounds: Bounds| Step {
            epoch: Epoch(1),
            clock_micros: 0,
            bounds: vec![bounds],
        };
        let mut known = Bounds::unknown(6);
        known.0[1] = (watermark > i64::MIN).then_some(EventTime(watermark));
        let step = bounds(self.window.bounds(&bounds(known)));
        self.aggregate.finish(&step, &mut self.out).unwrap();
        let put_out = std::mem::take(&mut self.out.deltas);
        let text = texts(&concat(&self.spec.output, &put_out).unwrap()).join(", ");
        let bound = self.aggregate.bounds(&step).0[1];
        for delta in &put_out {
            for row in 0..delta.len() {
                let start = value(delta, 1, row).parse::<i64>().unwrap();
                assert!(bound.unwrap().0 > start, "what comes later begins later");
            }
        }
        self.deltas.extend(put_out);
        text
    }

    fn scope(&self) -> Scope {
        match self.blocks.is_empty() {
            true => Scope::All,
            false => Scope::Changed,
        }
    }

    /// Begins a checkpoint that steps run beside; the one before is completed.
    fn begin_checkpoint(&mut self) {
        self.complete_checkpoint();
        self.aggregate.freeze(self.scope()).unwrap();
    }

    fn complete_checkpoint(&mut self) {
        while let Some(piece) = self.aggregate.thaw(3).unwrap() {
            self.blocks.push(piece);
        }
    }

    fn restart(&mut self) {
        self.complete_checkpoint();
        let changes = self.aggregate.changes(self.scope()).unwrap();
        self.blocks.extend(changes);
        self.aggregate = PaneAggregate::new(self.spec.clone()).unwrap();
        for block in &self.blocks {
            self.aggregate.restore(block.clone()).unwrap();
        }
        self.aggregate.resume();
    }
}

fn value(delta: &DeltaBatch, column: usize, row: usize) -> String {
    let array = delta.rows().column(column);
    if let DataType::Timestamp(..) = array.data_type() {
        let micros = crate::operator::rows::micros(array);
        return micros.value(row).to_string();
    }
    match array.is_null(row) {
        true => "NULL".to_string(),
        false => array_value_to_string(array, row).unwrap(),
    }
}

fn texts(delta: &DeltaBatch) -> Vec<String> {
    let columns = 0..delta.rows().num_columns();
    let line = |row: usize| {
        let values: Vec<String> = columns.clone().map(|c| value(delta, c, row)).collect();
        let sign = match delta.weights().get(row) {
            1 => "+".to_string(),
            weight => format!("{weight:+}"),
        };
        format!("{sign} {}", values.join(" "))
    };
    let mut lines: Vec<String> = (0..delta.len()).map(line).collect();
    lines.sort();
    lines
}

const COUNT_AND_MAX: [(AggregateFunction, Option<usize>); 2] = [
    (AggregateFunction::CountAll, None),
    (AggregateFunction::Max, Some(2)),
];

#[test]
fn a_window_comes_out_once_when_it_has_closed() {
    let mut run = Run::new([5, 10, 0], &COUNT_AND_MAX, true);
    let rows = [row(1, 1, 7, 0), row(1, 6, 3, 0), row(2, 12, 4, 0)];
    assert_eq!(run.step(&[&rows], 4), "");
    assert_eq!(run.step(&[], 5), "+ 1 -5 5 1 7");
    assert_eq!(run.step(&[], 10), "+ 1 0 10 2 7");
    // The greatest value has left with its pane.
    assert_eq!(run.step(&[], 15), "+ 1 5 15 1 3, + 2 5 15 1 4");
    assert_eq!(run.step(&[], 19), "");
    assert_eq!(run.step(&[], 20), "+ 2 10 20 1 4");
    assert_eq!(run.aggregate.state_rows(), 0);
    assert_eq!(run.step(&[], 1_000), "");
}

#[test]
fn time_may_jump_over_a_million_windows() {
    let mut run = Run::new([5, 10, 0], &COUNT_AND_MAX, true);
    let late = 5_000_000_000_000;
    let rows = [row(1, 1, 7, 0), row(1, late + 6, 3, 0)];
    let expected = "+ 1 -5 5 1 7, + 1 0 10 1 7, + 1 5000000000000 5000000000010 1 3, \
                    + 1 5000000000005 5000000000015 1 3";
    assert_eq!(run.step(&[&rows], late + 100), expected);
    assert_eq!(run.aggregate.state_rows(), 0);
    // Everything is over.
    run.step(&[&[row(1, late + 111, 1, late + 100)]], i64::MAX);
    assert_eq!(run.aggregate.state_rows(), 0);
    assert_eq!(run.deltas.iter().map(DeltaBatch::len).sum::<usize>(), 6);
}

#[test]
fn a_row_late_for_some_windows_counts_in_the_others() {
    let mut run = Run::new([5, 10, 0], &COUNT_AND_MAX, true);
    assert_eq!(run.step(&[&[row(1, 6, 3, 0)]], 10), "+ 1 0 10 1 3");
    // Into a pane that is in its total, and into one before it, of another key.
    let late = [row(1, 7, 9, 10), row(2, 5, 1, 10), row(2, 4, 1, 10)];
    assert_eq!(run.step(&[&late], 10), "");
    let counts = run.out.counts;
    assert_eq!((counts.rows_late, counts.rows_late_partly), (1, 2));
    assert_eq!(run.out.late.len(), 1);
    assert_eq!(run.step(&[], 15), "+ 1 5 15 2 9, + 2 5 15 1 1");
}

#[test]
fn a_row_that_comes_with_the_step_that_closes_a_window_is_late_for_it() {
    let mut run = Run::new([5, 10, 0], &COUNT_AND_MAX, true);
    let rows = [
        row(1, 6, 3, 0),
        row(1, 20, 1, 0),
        row(1, 7, 9, 10),
        row(3, 6, 5, 10),
    ];
    let expected = "+ 1 0 10 1 3, + 1 5 15 2 9, + 3 5 15 1 5";
    assert_eq!(run.step(&[&rows], 15), expected);
    assert_eq!(run.out.counts.rows_late_partly, 2);
    // One that waits for a window which does not close yet.
    let rows = [row(4, 21, 1, 15), row(1, 30, 1, 15), row(4, 22, 2, 26)];
    assert_eq!(run.step(&[&rows], 27), "+ 1 15 25 1 1, + 4 15 25 1 1");
    assert_eq!(run.step(&[], 30), "+ 1 20 30 1 1, + 4 20 30 2 2");
}

#[test]
fn the_retraction_of_the_last_row_leaves_no_window() {
    let calls = [
        (AggregateFunction::CountAll, None),
        (AggregateFunction::Sum, Some(2)),
    ];
    let mut run = Run::new([5, 10, 0], &calls, false);
    let taken = Row {
        weight: -1,
        ..row(1, 6, 3, 0)
    };
    let null = Row {
        key: None,
        ..row(0, 6, 4, 0)
    };
    assert_eq!(run.step(&[&[row(1, 6, 3, 0), null]], 0), "");
    assert_eq!(
        run.step(&[std::slice::from_ref(&taken)], 10),
        "+ NULL 0 10 1 4"
    );
    let again = row(1, 6, 3, 10);
    assert_eq!(run.step(&[&[again]], 10), "");
    let taken = Row {
        watermark: 10,
        ..taken
    };
    assert_eq!(run.step(&[&[taken]], 15), "+ NULL 5 15 1 4");
    assert_eq!(run.aggregate.state_rows(), 0);
}

#[test]
fn panes_without_rows_are_freed_at_once() {
    let calls = [
        (AggregateFunction::CountAll, None),
        (AggregateFunction::Sum, Some(4)),
    ];
    let mut run = Run::new([5, 10, 0], &calls, false);
    let float = |time: i64, watermark: i64| Row {
        float: Some(0.1),
        ..row(1, time, 3, watermark)
    };
    let taken = |row: Row| Row { weight: -1, ..row };
    run.step(&[&[float(21, 0), float(26, 0)]], 0);
    assert_eq!(run.aggregate.state_rows(), 3, "two panes and a total");
    let others = run.aggregate.starts.bytes();
    run.restart();
    run.step(&[&[taken(float(21, 0))]], 0);
    assert_eq!(run.aggregate.state_rows(), 2);
    assert!(run.aggregate.starts.bytes() < others);
    // One that is in its total, and then its total.
    assert_eq!(run.step(&[&[float(17, 0)]], 20), "+ 1 10 20 1 0.1");
    assert_eq!(run.step(&[&[taken(float(17, 20))]], 20), "");
    assert_eq!(run.aggregate.state_rows(), 2);
    run.restart();
    assert_eq!(run.step(&[&[taken(float(26, 20))]], 20), "");
    assert_eq!(run.aggregate.state_rows(), 0);
    assert_eq!(
        run.step(&[&[float(27, 20)]], 35),
        "+ 1 20 30 1 0.1, + 1 25 35 1 0.1"
    );
}

#[test]
fn rows_of_windows_that_are_out_change_nothing_and_are_counted() {
    let calls = [(AggregateFunction::CountAll, None)];
    let mut run = Run::new([5, 10, 0], &calls, false);
    assert_eq!(
        run.step(&[&[row(1, 6, 3, 0)]], 15),
        "+ 1 0 10 1, + 1 5 15 1"
    );
    // Rows that were judged elsewhere, if at all.
    let taken = Row {
        weight: -1,
        ..row(1, 6, 3, 0)
    };
    let rows = batch(&[row(2, 9, 1, 0), taken, row(2, 11, 1, 0)]).with_watermarks(None);
    let mut windowed = Output::default();
    run.window.push(0, rows, &mut windowed).unwrap();
    for delta in windowed.deltas {
        run.aggregate.push(0, delta, &mut run.out).unwrap();
    }
    let counts = run.out.counts;
    assert_eq!((counts.rows_late, counts.retractions_late), (1, 1));
    assert_eq!(run.step(&[], 20), "+ 2 10 20 1");
    assert_eq!(run.step(&[], 25), "");
}

#[test]
fn closed_windows_come_out_in_batches_of_bounded_size() {
    let calls = [(AggregateFunction::CountAll, None)];
    let mut run = Run::new([5, 10, 0], &calls, true);
    let keys = i64::try_from(CHUNK_ROWS_MAX).unwrap() * 2 + 7;
    let many: Vec<Row> = (0..keys).map(|key| row(key, 1, 1, 0)).collect();
    // Then a key in many windows.
    let far: Vec<Row> = (4..30_000).map(|at| row(1, at * 5, 1, 0)).collect();
    run.step(&[&many, &far], 1_000_000);
    let batches = run.deltas.iter().map(DeltaBatch::len);
    assert!(batches.clone().all(|rows| rows <= CHUNK_ROWS_MAX));
    assert_eq!(batches.sum::<usize>(), 2 * many.len() + far.len() + 1);
    let bytes = |delta: &DeltaBatch| delta.rows().get_array_memory_size();
    assert!(
        run.deltas
            .iter()
            .all(|delta| bytes(delta) <= CLOSED_WINDOWS_BYTES_MAX)
    );
    assert!(run.deltas.len() < 30, "and not one by one");
    assert_eq!(run.aggregate.state_rows(), 0);
}

#[test]
fn zero_has_no_sign() {
    let calls = [
        (AggregateFunction::CountAll, None),
        (AggregateFunction::Min, Some(4)),
        (AggregateFunction::Max, Some(4)),
        (AggregateFunction::Sum, Some(4)),
    ];
    for floats in [[0.0, -0.0], [-0.0, 0.0]] {
        let mut run = Run::new([5, 10, 0], &calls, true);
        let rows = floats.map(|float| Row {
            float: Some(float),
            ..row(1, 1, 1, 0)
        });
        assert_eq!(run.step(&[&rows], 5), "+ 1 -5 5 2 0.0 0.0 0.0");
    }
}

#[test]
fn what_was_never_there_cannot_be_retracted() {
    let calls = [(AggregateFunction::CountAll, None)];
    let mut run = Run::new([5, 10, 0], &calls, false);
    let taken = Row {
        weight: -1,
        ..row(1, 6, 3, 0)
    };
    let mut windowed = Output::default();
    run.window.push(0, batch(&[taken]), &mut windowed).unwrap();
    let mut out = Output::default();
    for delta in windowed.deltas {
        run.aggregate.push(0, delta, &mut out).unwrap();
    }
    let step = Step {
        epoch: Epoch(1),
        clock_micros: 0,
        bounds: vec![Bounds::unknown(7)],
    };
    assert!(run.aggregate.finish(&step, &mut out).is_err());
}

#[test]
fn a_sum_that_does_not_fit_leaves_its_window_out() {
    let calls = [
        (AggregateFunction::Sum, Some(2)),
        (AggregateFunction::Avg, Some(4)),
    ];
    let mut run = Run::new([5, 10, 0], &calls, true);
    let huge = Row {
        float: Some(f64::MAX),
        ..row(1, 1, 1, 0)
    };
    let rows = [huge.clone(), huge, row(2, 1, 5, 0), row(1, 6, 2, 0)];
    assert_eq!(run.step(&[&rows], 10), "+ 2 -5 5 5 NULL, + 2 0 10 5 NULL");
    assert_eq!(run.out.counts.rows_failed, 2);
    assert_eq!(run.step(&[], 15), "+ 1 5 15 2 NULL");
}

/// What windows hold, filled row by row: rows by key and start of the window.
type Filled = BTreeMap<(Option<i64>, i64), Vec<Row>>;

fn answer(filled: &Filled, size: i64, watermark: i64, calls: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for ((key, start), rows) in filled {
        if rows.is_empty() || start + size > watermark {
            continue;
        }
        let of = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_string());
        let numbers = || rows.iter().filter_map(|row| row.number);
        let texts = || rows.iter().filter_map(|row| row.text);
        let floats = || rows.iter().filter_map(|row| row.float);
        let truths = || rows.iter().filter_map(|row| row.truth);
        let some = |count: usize, value: String| (count > 0).then_some(value);
        let float = |value: f64| {
            let array: ArrayRef = Arc::new(Float64Array::from(vec![value]));
            array_value_to_string(&array, 0).unwrap()
        };
        let sum: f64 = floats().sum();
        #[expect(clippy::cast_precision_loss, reason = "few rows")]
        let average = sum / floats().count() as f64;
        let values = [
            Some(rows.len().to_string()),
            Some(numbers().count().to_string()),
            some(numbers().count(), numbers().sum::<i64>().to_string()),
            some(floats().count(), float(average)),
            some(floats().count(), float(sum)),
            some(truths().count(), truths().all(|truth| truth).to_string()),
            some(truths().count(), truths().any(|truth| truth).to_string()),
            numbers().min().map(|number| number.to_string()),
            numbers().max().map(|number| number.to_string()),
            texts().min().map(str::to_string),
            texts().max().map(str::to_string),
        ];
        let key = of(key.map(|key| key.to_string()));
        let values: Vec<String> = values.into_iter().take(calls).map(of).collect();
        lines.push(format!(
            "+ {key} {start} {} {}",
            start + size,
            values.join(" ")
        ));
    }
    lines.sort();
    lines
}

fn random_row(random: &mut Rng, newest: i64, watermark: i64) -> Row {
    let some = |random: &mut Rng| random.u8(..5) > 0;
    let behind = match random.u8(..4) {
        0 => random.i64(0..40),
        _ => random.i64(0..6),
    };
    let texts = ["", "a", "ab", "b"];
    Row {
        key: some(random).then(|| random.i64(0..3)),
        time: newest - behind,
        number: some(random).then(|| random.i64(-9..9)),
        text: some(random).then(|| texts[random.usize(..4)]),
        float: some(random).then(|| random.i32(-9..9).into()),
        truth: some(random).then(|| random.bool()),
        weight: 1,
        watermark,
    }
}

fn agrees(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let kinds = [
        [5, 10, 0],
        [2, 10, 1],
        [4, 10, 0],
        [3, 10, -1],
        [6, 8, 2],
        [1, 16, 0],
    ];
    let kind @ [slide, size, offset] = kinds[random.usize(..kinds.len())];
    let is_append_only = random.bool();
    let mut calls = all_calls();
    if !is_append_only {
        calls.truncate(7);
    }
    let mut run = Run::new(kind, &calls, is_append_only);
    let mut filled = Filled::new();
    let (mut newest, mut watermark) = (0, i64::MIN);
    let mut present: Vec<Row> = Vec::new();
    for _ in 0..random.usize(1..25) {
        let mut rows = Vec::new();
        for _ in 0..random.usize(..12) {
            newest += match random.u8(..20) {
                0 => random.i64(0..100),
                _ => random.i64(0..4),
            };
            let is_removal = !is_append_only && !present.is_empty() && random.u8(..3) == 0;
            let row = match is_removal {
                true => Row {
                    weight: -1,
                    watermark,
                    ..present.swap_remove(random.usize(..present.len()))
                },
                false => random_row(&mut random, newest, watermark),
            };
            if row.weight > 0 {
                present.push(row.clone());
            }
            for start in row.time - size + 1..=row.time {
                if (start - offset).rem_euclid(slide) != 0 || start + size <= row.watermark {
                    continue;
                }
                let window = filled.entry((row.key, start)).or_default();
                match row.weight {
                    1 => window.push(row.clone()),
                    _ => {
                        let same = |other: &Row| {
                            Row {
                                weight: 0,
                                watermark: 0,
                                ..other.clone()
                            }
                            .same(&row)
                        };
                        let place = window.iter().position(same).unwrap();
                        window.remove(place);
                    }
                }
            }
            rows.push(row);
            watermark = watermark.max(newest - 5);
        }
        let batches: Vec<&[Row]> = match rows.is_empty() {
            true => Vec::new(),
            false => rows.chunks(random.usize(1..=rows.len())).collect(),
        };
        run.step(&batches, watermark);
        match random.u8(..6) {
            0 => run.restart(),
            1 => run.begin_checkpoint(),
            2 => {
                let piece = run.aggregate.thaw(2).unwrap();
                run.blocks.extend(piece);
            }
            _ => {}
        }
        let total = consolidate(&concat(&run.spec.output, &run.deltas).unwrap()).unwrap();
        let expected = answer(&filled, size, watermark, calls.len());
        assert_eq!(texts(&total), expected, "seed {seed}, {kind:?}");
    }
    run.step(&[], watermark.max(newest) + 3 * size);
    assert_eq!(
        run.aggregate.state_rows(),
        0,
        "seed {seed}: nothing is left"
    );
}

impl Row {
    fn same(&self, other: &Row) -> bool {
        let of = |row: &Row| {
            (
                row.key, row.time, row.number, row.text, row.float, row.truth,
            )
        };
        of(self) == of(other)
    }
}

#[test]
fn windows_are_what_their_rows_say_whatever_the_steps_and_restarts() {
    for seed in 0..400 {
        agrees(seed);
    }
}

#[test]
fn a_checkpoint_is_of_the_moment_it_began() {
    for seed in 0..100 {
        let mut random = Rng::with_seed(seed);
        let mut run = Run::new([2, 10, 0], &all_calls(), true);
        let (mut newest, mut watermark) = (0, 0);
        let mut step = |run: &mut Run, random: &mut Rng| {
            let mut rows = Vec::new();
            for _ in 0..random.usize(1..8) {
                newest += random.i64(0..3);
                rows.push(random_row(random, newest, watermark));
                watermark = watermark.max(newest - 5);
            }
            run.step(&[&rows], watermark);
        };
        for _ in 0..3 {
            (0..random.usize(..5)).for_each(|_| step(&mut run, &mut random));
            let scope = run.scope();
            run.aggregate.freeze(scope).unwrap();
            let expected = run.aggregate.state_rows();
            let mut blocks = run.blocks.clone();
            for _ in 0..3 {
                // Pieces are taken while steps go on.
                blocks.extend(run.aggregate.thaw(1).unwrap());
                step(&mut run, &mut random);
            }
            while let Some(piece) = run.aggregate.thaw(3).unwrap() {
                blocks.push(piece);
            }
            let mut restored = PaneAggregate::new(run.spec.clone()).unwrap();
            for block in &blocks {
                restored.restore(block.clone()).unwrap();
            }
            restored.rebuild().unwrap();
            assert_eq!(restored.state_rows(), expected, "seed {seed}");
            run.blocks = blocks;
        }
    }
}
