//! Rows that come by pane against the same rows in all of their windows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};
use fastrand::Rng;

use super::{Runner, call, closing, filtered, spec};
use crate::base::{Epoch, EventTime};
use crate::delta::notation::print_sorted;
use crate::delta::{DeltaBatch, Weights, concat, consolidate};
use crate::function::window::{Panes, WindowKind};
use crate::operator::aggregate::{AggregateFunction, AggregateSpec, Close, CloseEmit, PaneKey};
use crate::operator::window::{Assignment, Window, WindowSpec};
use crate::operator::{Bounds, Counts, Operator, Output, Step};

/// A row: key, time, number, text, float, truth, whether a filter lets it through; how often, and
/// the watermark before it.
#[derive(Clone, Debug)]
struct Row {
    key: Option<i64>,
    time: i64,
    number: Option<i64>,
    text: Option<&'static str>,
    float: Option<f64>,
    truth: Option<bool>,
    passes: Option<bool>,
    weight: i64,
    watermark: i64,
}

fn batch(rows: &[Row]) -> DeltaBatch {
    let times = rows.iter().map(|row| row.time);
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "k",
            Arc::new(rows.iter().map(|row| row.key).collect::<Int64Array>()),
        ),
        (
            "ts",
            Arc::new(TimestampMicrosecondArray::from_iter_values(times)),
        ),
        (
            "n",
            Arc::new(rows.iter().map(|row| row.number).collect::<Int64Array>()),
        ),
        (
            "t",
            Arc::new(rows.iter().map(|row| row.text).collect::<StringArray>()),
        ),
        (
            "f",
            Arc::new(rows.iter().map(|row| row.float).collect::<Float64Array>()),
        ),
        (
            "b",
            Arc::new(rows.iter().map(|row| row.truth).collect::<BooleanArray>()),
        ),
        (
            "p",
            Arc::new(rows.iter().map(|row| row.passes).collect::<BooleanArray>()),
        ),
    ];
    let columns = columns
        .into_iter()
        .map(|(name, column)| (name, column, true));
    let weights: Vec<i64> = rows.iter().map(|row| row.weight).collect();
    let weights = match weights.iter().all(|&weight| weight == 1) {
        true => Weights::Ones,
        false => Weights::Each(weights.into()),
    };
    let watermarks: Vec<i64> = rows.iter().map(|row| row.watermark).collect();
    let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    DeltaBatch::new(rows, weights).with_watermarks(Some(watermarks.into()))
}

/// What a case has decided.
#[derive(Clone, Copy)]
struct Shape {
    panes: Panes,
    lateness_micros: i64,
    emit: CloseEmit,
    is_append_only: bool,
    /// Whether time closes windows.
    is_closed: bool,
}

/// A window and the aggregate above it.
struct Run {
    window: Window,
    aggregate: Runner,
    counts: Counts,
    late: usize,
}

impl Run {
    fn new(shape: Shape, assignment: Assignment) -> Run {
        let input = batch(&[]).schema();
        let mut fields: Vec<_> = input.fields().iter().cloned().collect();
        for (name, is_nullable) in [("window_start", false), ("window_end", true)] {
            let time = input.field(1).data_type().clone();
            fields.push(Arc::new(Field::new(name, time, is_nullable)));
        }
        let windowed = Arc::new(Schema::new(fields));
        let window = Window::new(WindowSpec {
            input,
            time_column: 1,
            kind: shape.panes.windows(),
            assignment,
            output: windowed.clone(),
            lateness_micros: shape.lateness_micros,
            judges: true,
        });
        let mut calls = vec![
            call(AggregateFunction::CountAll, None),
            call(AggregateFunction::Count, Some(2)),
            call(AggregateFunction::Sum, Some(2)),
            call(AggregateFunction::Avg, Some(4)),
            call(AggregateFunction::BoolAnd, Some(5)),
            call(AggregateFunction::BoolOr, Some(5)),
            filtered(AggregateFunction::Sum, Some(4), 6),
            filtered(AggregateFunction::CountAll, None, 6),
        ];
        if shape.is_append_only {
            calls.extend([
                call(AggregateFunction::Min, Some(2)),
                call(AggregateFunction::Max, Some(3)),
                filtered(AggregateFunction::Min, Some(3), 6),
            ]);
        }
        let spec = AggregateSpec {
            panes: (assignment != Assignment::Windows).then_some(PaneKey {
                panes: shape.panes,
                start: 1,
                end: 2,
            }),
            is_append_only: shape.is_append_only,
            ..spec(&windowed, &[0, 7, 8], calls)
        };
        let spec = match shape.is_closed {
            false => spec,
            true => closing(
                spec,
                Close {
                    column: 2,
                    emit: shape.emit,
                    lateness_micros: shape.lateness_micros,
                },
            ),
        };
        Run {
            window: window.unwrap(),
            aggregate: Runner::new(spec),
            counts: Counts::default(),
            late: 0,
        }
    }

    /// A step; returns its change in a fixed order.
    fn step(&mut self, batches: &[&[Row]], watermark: i64) -> String {
        let mut windowed = Output::default();
        for rows in batches {
            self.window.push(0, batch(rows), &mut windowed).unwrap();
        }
        let mut known = Bounds::unknown(7);
        known.0[1] = (watermark > i64::MIN).then_some(EventTime(watermark));
        let bounds = self.window.bounds(&Step {
            epoch: Epoch(1),
            clock_micros: 0,
            bounds: vec![known],
        });
        let bounds = bounds
            .0
            .iter()
            .map(|bound| bound.map(|EventTime(time)| time));
        let out = self
            .aggregate
            .step_bounded(&windowed.deltas, bounds.collect());
        self.counts.add(&windowed.counts);
        self.counts.add(&out.counts);
        self.late += windowed
            .late
            .iter()
            .map(|late| late.rows.len())
            .sum::<usize>();
        let change = concat(&self.aggregate.spec.output, &out.deltas).unwrap();
        print_sorted(&consolidate(&change).unwrap())
    }
}

fn hop(slide_micros: i64, size_micros: i64, offset_micros: i64) -> Panes {
    let kind = WindowKind::Hop {
        slide_micros,
        size_micros,
        offset_micros,
    };
    Panes::of(kind).unwrap()
}

fn random_row(random: &mut Rng, newest: i64, watermark: i64) -> Row {
    let some = |random: &mut Rng| random.u8(..5) > 0;
    let behind = match random.u8(..4) {
        0 => random.i64(0..40),
        _ => random.i64(0..6),
    };
    let texts = ["", "a", "ab", "a longer text than fits into a word"];
    Row {
        key: some(random).then(|| random.i64(0..3)),
        time: newest - behind,
        number: some(random).then(|| random.i64(-9..9)),
        text: some(random).then(|| texts[random.usize(..4)]),
        float: some(random).then(|| f64::from(random.i32(-9..9)) / 10.0),
        truth: some(random).then(|| random.bool()),
        passes: some(random).then(|| random.bool()),
        weight: 1,
        watermark,
    }
}

fn agrees(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let kinds = [
        hop(5, 10, 0),
        hop(2, 10, 1),
        hop(4, 10, 0),
        hop(3, 10, -1),
        hop(1, 16, 0),
    ];
    let is_closed = random.u8(..4) > 0;
    let shape = Shape {
        panes: kinds[random.usize(..kinds.len())],
        lateness_micros: [0, 0, 4, 12][random.usize(..4)],
        emit: match random.bool() {
            true => CloseEmit::OnUpdate,
            false => CloseEmit::OnClose,
        },
        is_append_only: random.bool(),
        is_closed,
    };
    let mut expected = Run::new(shape, Assignment::Windows);
    let mut found = Run::new(shape, Assignment::PanesOrWindows(shape.panes));
    let (mut newest, mut watermark) = (0, i64::MIN);
    let mut present: Vec<Row> = Vec::new();
    for _ in 0..random.usize(1..25) {
        let mut rows = Vec::new();
        for _ in 0..random.usize(..12) {
            newest += match random.u8(..20) {
                0 => random.i64(0..100),
                _ => random.i64(0..4),
            };
            let is_removal = !shape.is_append_only && !present.is_empty() && random.u8(..3) == 0;
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
            rows.push(row);
            if is_closed {
                watermark = watermark.max(newest - 5);
            }
        }
        let batches: Vec<&[Row]> = match rows.is_empty() {
            true => Vec::new(),
            false => rows.chunks(random.usize(1..=rows.len())).collect(),
        };
        let change = found.step(&batches, watermark);
        assert_eq!(change, expected.step(&batches, watermark), "seed {seed}");
        assert_eq!(found.counts, expected.counts, "seed {seed}");
        assert_eq!(found.late, expected.late, "seed {seed}");
        let groups = |run: &Run| run.aggregate.aggregate.state_rows();
        assert_eq!(
            groups(&found),
            groups(&expected),
            "seed {seed}: only windows stay"
        );
        match random.u8(..6) {
            0 => {
                while found.aggregate.take_piece(3) {}
                found.aggregate.restart();
            }
            1 => {
                // A checkpoint that the next steps run beside.
                while found.aggregate.take_piece(3) {}
                found.aggregate.begin_checkpoint();
            }
            2 => {
                found.aggregate.take_piece(2);
            }
            _ => {}
        }
    }
    if is_closed {
        found.step(&[], watermark.max(newest) + 100);
        assert_eq!(found.aggregate.aggregate.state_rows(), 0, "seed {seed}");
    }
}

#[test]
fn rows_by_pane_are_rows_in_all_of_their_windows() {
    (0..500).for_each(agrees);
}

#[test]
fn a_row_costs_one_group_until_the_step_ends() {
    let shape = Shape {
        panes: hop(1, 60, 0),
        lateness_micros: 0,
        emit: CloseEmit::OnUpdate,
        is_append_only: true,
        is_closed: true,
    };
    let mut run = Run::new(shape, Assignment::PanesOrWindows(shape.panes));
    let mut random = Rng::with_seed(1);
    let rows: Vec<Row> = (0..1_000)
        .map(|_| Row {
            key: Some(1),
            time: 100,
            ..random_row(&mut random, 100, i64::MIN)
        })
        .collect();
    let mut windowed = Output::default();
    run.window.push(0, batch(&rows), &mut windowed).unwrap();
    assert_eq!(
        windowed.deltas.iter().map(DeltaBatch::len).sum::<usize>(),
        1_000
    );
    let mut out = Output::default();
    for delta in windowed.deltas {
        run.aggregate.aggregate.push(0, delta, &mut out).unwrap();
    }
    assert_eq!(run.aggregate.aggregate.state_rows(), 1);
    assert_eq!(run.step(&[], 0).lines().count(), 60);
    assert_eq!(run.aggregate.aggregate.state_rows(), 60);
}

#[test]
fn rows_of_freed_windows_change_nothing_and_are_counted() {
    let shape = Shape {
        panes: hop(5, 10, 0),
        lateness_micros: 0,
        emit: CloseEmit::OnUpdate,
        is_append_only: false,
        is_closed: true,
    };
    let mut run = Run::new(shape, Assignment::PanesOrWindows(shape.panes));
    let mut random = Rng::with_seed(1);
    let mut row = |time: i64, weight: i64| Row {
        key: Some(1),
        time,
        weight,
        ..random_row(&mut random, time, i64::MIN)
    };
    run.step(&[&[row(6, 1)]], 15);
    assert_eq!(run.aggregate.aggregate.state_rows(), 0);
    // Not judged: as if they came from a view that does not keep its bounds.
    run.step(&[&[row(6, 1), row(9, -1), row(12, 1)]], 15);
    let counts = run.counts;
    assert_eq!((counts.rows_late, counts.retractions_late), (1, 1));
    assert_eq!(
        counts.rows_late_partly, 1,
        "[5, 15) has gone, [10, 20) has not"
    );
    assert_eq!(run.aggregate.aggregate.state_rows(), 1);
}
