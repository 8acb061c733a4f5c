//! Windows in delta notation, and against windows that are tried one by one.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, TimestampMicrosecondType};

use super::{Assignment, Window, WindowSpec};
use crate::base::{Epoch, EventTime};
use crate::delta::notation::parse;
use crate::delta::{DeltaBatch, Weights};
use crate::function::window::{Calendar, Span, WindowKind};
use crate::operator::{Bounds, Operator, Output, Step};
use crate::types::Zone;

fn tumble(size_micros: i64) -> WindowKind {
    WindowKind::Tumble {
        size_micros,
        offset_micros: 0,
    }
}

fn hop(slide_micros: i64, size_micros: i64) -> WindowKind {
    WindowKind::Hop {
        slide_micros,
        size_micros,
        offset_micros: 0,
    }
}

fn window(kind: WindowKind, lateness_micros: i64, input: &DeltaBatch) -> Window {
    let input = input.schema();
    let mut fields: Vec<_> = input.fields().iter().cloned().collect();
    for name in ["window_start", "window_end"] {
        fields.push(Arc::new(Field::new(
            name,
            input.field(0).data_type().clone(),
            false,
        )));
    }
    let output = Arc::new(Schema::new(fields));
    Window::new(WindowSpec {
        input,
        time_column: 0,
        kind,
        assignment: Assignment::Windows,
        output,
        lateness_micros,
        judges: true,
    })
    .unwrap()
}

/// Rows with their times as microseconds.
fn batch(text: &str) -> DeltaBatch {
    let numbers = parse(&format!("ts:bigint\n{text}"));
    let times = numbers
        .rows()
        .column(0)
        .as_primitive::<arrow::datatypes::Int64Type>();
    let times = times.reinterpret_cast::<TimestampMicrosecondType>();
    let field = Field::new("ts", times.data_type().clone(), true);
    let schema = Arc::new(Schema::new(vec![field]));
    let rows = RecordBatch::try_new(schema, vec![Arc::new(times)]).unwrap();
    DeltaBatch::new(rows, numbers.weights().clone()).with_watermarks(numbers.watermarks().cloned())
}

/// Each row of a batch as weight and numbers.
fn numbers(batch: &DeltaBatch) -> Vec<(i64, Vec<i64>)> {
    let column = |column: usize| {
        batch
            .rows()
            .column(column)
            .as_primitive::<TimestampMicrosecondType>()
            .values()
            .to_vec()
    };
    let columns: Vec<Vec<i64>> = (0..batch.rows().num_columns()).map(column).collect();
    let row = |row: usize| columns.iter().map(|column| column[row]).collect();
    (0..batch.len())
        .map(|at| (batch.weights().get(at), row(at)))
        .collect()
}

fn run(kind: WindowKind, lateness: i64, text: &str) -> (Vec<(i64, Vec<i64>)>, Output) {
    let batch = batch(text);
    let mut window = window(kind, lateness, &batch);
    let mut out = Output::default();
    window.push(0, batch, &mut out).unwrap();
    (out.deltas.iter().flat_map(numbers).collect(), out)
}

#[test]
fn a_row_is_in_the_window_that_begins_at_or_before_it() {
    let (rows, _) = run(tumble(10), 0, "+ 0\n+ 9\n- 10\n+2 -1\n+ -10\n+ -11");
    let expected = [
        (1, vec![0, 0, 10]),
        (1, vec![9, 0, 10]),
        (-1, vec![10, 10, 20]),
        (2, vec![-1, -10, 0]),
        (1, vec![-10, -10, 0]),
        (1, vec![-11, -20, -10]),
    ];
    assert_eq!(rows, expected);
    let kind = WindowKind::Tumble {
        size_micros: 10,
        offset_micros: -3,
    };
    assert_eq!(
        run(kind, 0, "+ 6\n+ 7").0,
        [(1, vec![6, -3, 7]), (1, vec![7, 7, 17])]
    );
}

#[test]
fn a_hopping_row_is_in_every_window_that_holds_it() {
    let expected = [(1, vec![12, 5, 15]), (1, vec![12, 10, 20])];
    assert_eq!(run(hop(5, 10), 0, "+ 12").0, expected);
    // The size is no multiple of the slide.
    let expected = [
        (-1, vec![11, 3, 13]),
        (-1, vec![11, 6, 16]),
        (-1, vec![11, 9, 19]),
    ];
    assert_eq!(run(hop(3, 10), 0, "- 11").0, expected);
    assert_eq!(run(hop(3, 10), 0, "+ 9").0.len(), 4);
}

fn cumulate(step_micros: i64, size_micros: i64) -> WindowKind {
    WindowKind::Cumulate {
        step_micros,
        size_micros,
        offset_micros: 0,
    }
}

#[test]
fn a_cumulating_row_is_in_every_prefix_that_holds_it() {
    let expected = [(2, vec![14, 10, 16]), (2, vec![14, 10, 20])];
    let (rows, _) = run(cumulate(2, 10), 0, "+2 14");
    assert_eq!(rows[0], (2, vec![14, 10, 16]));
    assert_eq!(rows.len(), 3);
    // Late for the prefix that has closed.
    let (rows, out) = run(cumulate(2, 10), 0, "+2 @16 15\n+ @20 15");
    assert_eq!(rows[0], (2, vec![15, 10, 18]));
    assert_eq!(rows[1].1, [15, expected[1].1[1], 20]);
    assert_eq!((out.counts.rows_late, out.counts.rows_late_partly), (1, 2));
}

#[test]
fn a_day_of_a_zone_is_one_window() {
    let hour = 3_600_000_000;
    let berlin = WindowKind::Calendar(Calendar {
        every: Span::Micros(24 * hour),
        size: Span::Micros(24 * hour),
        step: None,
        offset_months: 0,
        offset_micros: 0,
        zone: Zone::parse("Europe/Berlin").unwrap(),
    });
    // 1970-01-01 there, an hour ahead of UTC.
    let (start, end) = (-hour, 23 * hour);
    let text = format!("+ @0 0\n+ @{end} 1\n- @0 {}", end - 1);
    let (rows, out) = run(berlin, 0, &text);
    let expected = [(1, vec![0, start, end]), (-1, vec![end - 1, start, end])];
    assert_eq!(rows, expected);
    assert_eq!(out.counts.rows_late, 1);
}

#[test]
fn a_row_in_a_gap_is_gone_and_not_late() {
    let (rows, out) = run(hop(10, 4), 0, "+ @99 5\n+ @0 3\n+ @0 14");
    assert_eq!(rows, [(1, vec![3, 0, 4])]);
    assert!(out.late.is_empty());
    assert_eq!(out.counts, crate::operator::Counts::default());
}

#[test]
fn a_row_is_late_when_its_window_has_closed_before_it() {
    let (rows, out) = run(tumble(10), 0, "+ @19 11\n+3 @20 19\n- @20 12\n+ @20 20");
    assert_eq!(rows, [(1, vec![11, 10, 20]), (1, vec![20, 20, 30])]);
    assert_eq!((out.counts.rows_late, out.counts.retractions_late), (3, 1));
    assert_eq!(numbers(&out.late[0].rows), [(3, vec![19]), (-1, vec![12])]);
    assert_eq!(out.late[0].event_times, [19, 12]);
    assert_eq!(out.late[0].rows.watermarks().unwrap().to_vec(), [20, 20]);
    assert!(out.deltas[0].watermarks().is_none(), "it is judged once");
}

#[test]
fn lateness_keeps_a_window_open() {
    let (rows, out) = run(tumble(10), 5, "+ @24 11\n+ @25 11");
    assert_eq!(rows, [(1, vec![11, 10, 20])]);
    assert_eq!(out.counts.rows_late, 1);
}

#[test]
fn a_hopping_row_goes_into_the_windows_that_are_open() {
    let (rows, out) = run(hop(5, 10), 0, "+2 @15 12\n+ @20 12");
    assert_eq!(rows, [(2, vec![12, 10, 20])]);
    assert_eq!((out.counts.rows_late, out.counts.rows_late_partly), (1, 2));
}

#[test]
fn rows_without_a_usable_time_are_errors() {
    let max = i64::MAX;
    let min = i64::MIN;
    let text = format!("+ NULL\n- {max}\n+ 5\n+ {min}");
    for kind in [tumble(10), hop(5, 10)] {
        let (rows, out) = run(kind, 0, &text);
        assert!(rows.iter().all(|(_, row)| row[0] == 5));
        let errors: Vec<_> = out
            .errors
            .iter()
            .map(|e| (e.reason.as_str(), e.weight))
            .collect();
        let range = "event time is out of the range of windows";
        assert_eq!(errors, [("event time is NULL", 1), (range, -1), (range, 1)]);
        assert_eq!(out.counts.rows_failed, 3);
    }
}

#[test]
fn nothing_near_the_ends_of_time_panics() {
    let times = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    let lengths = [1, 7, 1_000_000, i64::MAX / 2, i64::MAX];
    for slide in lengths {
        for size in lengths.into_iter().filter(|size| size / slide < 5_000) {
            for offset in [0, -3, i64::MAX, i64::MIN] {
                let kind = WindowKind::Hop {
                    slide_micros: slide,
                    size_micros: size,
                    offset_micros: offset,
                };
                let marks = times.map(|mark| times.map(|time| format!("+ @{mark} {time}")));
                run(kind, i64::MAX, &marks.concat().join("\n"));
                run(kind, 0, &marks.concat().join("\n"));
            }
        }
    }
}

#[test]
fn random_rows_agree_with_windows_tried_one_by_one() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (slide, size) = (random.i64(1..20), random.i64(1..40));
        let offset = random.i64(-30..30);
        let lateness = random.i64(0..8);
        let kind = match random.bool() {
            true => WindowKind::Hop {
                slide_micros: slide,
                size_micros: size,
                offset_micros: offset,
            },
            false => WindowKind::Tumble {
                size_micros: size,
                offset_micros: offset,
            },
        };
        let slide = if matches!(kind, WindowKind::Hop { .. }) {
            slide
        } else {
            size
        };
        let count = random.usize(1..3000);
        let times: Vec<i64> = (0..count).map(|_| random.i64(-100..100)).collect();
        let marks: Vec<i64> = (0..count).map(|_| random.i64(-100..100)).collect();
        let array = TimestampMicrosecondArray::from(times.clone());
        let schema = Schema::new(vec![Field::new("ts", array.data_type().clone(), true)]);
        let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(array)]).unwrap();
        let batch =
            DeltaBatch::new(rows, Weights::Ones).with_watermarks(Some(marks.clone().into()));
        let mut window = window(kind, lateness, &batch);
        let mut out = Output::default();
        window.push(0, batch, &mut out).unwrap();
        let mut expected = Vec::new();
        let mut late = 0;
        for (&time, &mark) in times.iter().zip(&marks) {
            let holds = |start: &i64| (start - offset).rem_euclid(slide) == 0;
            let starts: Vec<i64> = (time - size + 1..=time).filter(holds).collect();
            let open: Vec<i64> = starts
                .iter()
                .copied()
                .filter(|start| start + size + lateness > mark)
                .collect();
            late += u64::from(open.is_empty() && !starts.is_empty());
            expected.extend(
                open.iter()
                    .map(|&start| (1, vec![time, start, start + size])),
            );
        }
        let rows: Vec<_> = out.deltas.iter().flat_map(numbers).collect();
        assert_eq!(rows, expected, "seed {seed}");
        assert_eq!(out.counts.rows_late, late, "seed {seed}");
    }
}

#[test]
fn bounds_follow_the_watermark_and_are_held_back_by_lateness() {
    let input = batch("+ 0");
    let step = |time: Option<i64>| Step {
        epoch: Epoch(1),
        clock_micros: 0,
        bounds: vec![Bounds(vec![time.map(EventTime)])],
    };
    let bounds = |lateness: i64, time: Option<i64>| {
        let bounds = window(tumble(10), lateness, &input).bounds(&step(time));
        bounds
            .0
            .iter()
            .map(|bound| bound.map(|time| time.0))
            .collect::<Vec<_>>()
    };
    assert_eq!(bounds(0, None), [None, None, None]);
    assert_eq!(bounds(0, Some(20)), [Some(11), Some(11), Some(21)]);
    assert_eq!(bounds(5, Some(20)), [Some(6), Some(6), Some(16)]);
    assert_eq!(bounds(5, Some(i64::MIN)), [Some(i64::MIN); 3]);
    assert_eq!(bounds(0, Some(i64::MAX)), [Some(i64::MAX); 3]);
}
