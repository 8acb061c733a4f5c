//! Rows that are final are let go, and nobody can tell.

use fastrand::Rng;

use super::*;
use crate::operator::over::{BoundedOrder, Kept};
use crate::operator::{Scope, TableChange};

const SECOND: i64 = 1_000_000;
const HEADER: &str = "k:bigint t:timestamp x:integer b:boolean";

fn interval(seconds: i64) -> ScalarValue {
    let nanos = seconds * 1_000_000_000;
    let length = arrow::datatypes::IntervalMonthDayNano::new(0, 0, nanos);
    ScalarValue::IntervalMonthDayNano(Some(length))
}

fn before(seconds: i64) -> FrameBound {
    FrameBound::Preceding(Distance::Value(interval(seconds)))
}

fn behind(seconds: i64) -> FrameBound {
    FrameBound::Following(Distance::Value(interval(seconds)))
}

/// A call, what it asks for of final rows, and how many seconds it looks ahead.
fn random_call(random: &mut Rng) -> (OverCall, Kept, i64) {
    let nothing = Kept::default();
    let sums = Kept {
        adds_up: true,
        ..nothing
    };
    let count = random.i64(0..4);
    let rows = Kept {
        rows: count,
        ..nothing
    };
    let function = [
        (AggregateFunction::CountAll, None),
        (AggregateFunction::Count, Some(2)),
        (AggregateFunction::Sum, Some(2)),
        (AggregateFunction::Avg, Some(2)),
        (AggregateFunction::Min, Some(2)),
        (AggregateFunction::Max, Some(2)),
        (AggregateFunction::BoolAnd, Some(3)),
    ];
    let (function, argument) = function[random.usize(..function.len())].clone();
    let current = FrameBound::CurrentRow;
    let open = FrameBound::UnboundedPreceding;
    let (units, start, end, kept, ahead) = match random.u8(..8) {
        0 => (FrameUnits::Range, open, current, sums, 0),
        1 => (FrameUnits::Rows, open, preceding(count), rows.and(sums), 0),
        2 => (FrameUnits::Rows, preceding(count), current, rows, 0),
        3 => {
            let kept = Kept {
                micros: count * SECOND,
                ..nothing
            };
            (FrameUnits::Range, before(count), behind(2), kept, 2)
        }
        4 => {
            let kept = Kept {
                micros: count * SECOND,
                ..sums
            };
            (FrameUnits::Range, open, before(count), kept, 0)
        }
        5 => {
            let kept = Kept {
                classes: count,
                ..nothing
            };
            (FrameUnits::Groups, preceding(count), current, kept, 0)
        }
        6 => (FrameUnits::Range, open, behind(1), sums, 1),
        _ => (FrameUnits::Range, current.clone(), current, nothing, 0),
    };
    let running = Frame::RUNNING;
    match random.u8(..10) {
        0 => (placed(OverFunction::RowNumber), sums, 0),
        1 => (placed(OverFunction::Rank), sums, 0),
        2 => (placed(OverFunction::DenseRank), sums, 0),
        3 => (shift(2, count, false), rows, 0),
        4 => {
            let kept = Kept {
                first: count + 1,
                ..nothing
            };
            (nth(2, count + 1, false, running), kept, 0)
        }
        5 => {
            let kept = Kept {
                rows: count + 1,
                ..nothing
            };
            (nth(2, -count - 1, false, running), kept, 0)
        }
        _ => {
            let frame = frame(units, start, end);
            (aggregate(function, argument, frame), kept, ahead)
        }
    }
}

fn timestamp(seconds: i64) -> String {
    format!("1970-01-01T00:{:02}:{:02}", seconds / 60, seconds % 60)
}

fn agrees(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let calls: Vec<_> = (0..random.usize(1..4))
        .map(|_| random_call(&mut random))
        .collect();
    let kept = calls.iter().map(|(_, kept, _)| *kept);
    let ahead = calls.iter().map(|(.., ahead)| *ahead).max().unwrap();
    let bounded_order = Some(BoundedOrder {
        column: 1,
        ahead_micros: ahead * SECOND,
    });
    let calls: Vec<OverCall> = calls.iter().map(|(call, ..)| call.clone()).collect();
    let all = OverSpec {
        bounded_order,
        ..spec(HEADER, 1, calls)
    };
    let some = OverSpec {
        kept: kept.reduce(Kept::and),
        ..all.clone()
    };
    let (mut all, mut run) = (Run::new(all), Run::new(some.clone()));
    let mut checkpoint: Vec<TableChange> = Vec::new();
    let mut open: Vec<(i64, String)> = Vec::new();
    let mut bound = 0;
    for step in 0..30 {
        open.retain(|(time, _)| *time >= bound);
        let mut lines = Vec::new();
        for _ in 0..random.usize(..6) {
            let time = bound + random.i64(0..6);
            let number = (random.u8(..6) > 0).then(|| random.i32(-9..9).to_string());
            let number = number.unwrap_or("NULL".to_string());
            let (key, truth) = (random.u8(..2), random.bool());
            let row = format!("{key} {} {number} {truth}", timestamp(time));
            let weight = if random.u8(..5) == 0 { 2 } else { 1 };
            open.extend(std::iter::repeat_n((time, row.clone()), weight));
            lines.push(format!("+{weight} {row}"));
        }
        if random.bool() && !open.is_empty() {
            let (_, row) = open.swap_remove(random.usize(..open.len()));
            lines.push(format!("- {row}"));
        }
        bound += random.i64(0..3);
        let times = Some(EventTime(bound * SECOND));
        (all.bounds[1], run.bounds[1]) = (times, times);
        let expected = all.step(lines.iter().map(String::as_str)).unwrap();
        let found = run.step(lines.iter().map(String::as_str)).unwrap();
        assert_eq!(
            print_sorted(&found),
            print_sorted(&expected),
            "seed {seed}, step {step}, {some:?}"
        );
        if random.u8(..4) == 0 {
            let scope = match checkpoint.is_empty() {
                true => Scope::All,
                false => Scope::Changed,
            };
            checkpoint.extend(run.over.changes(scope).unwrap());
            run = Run::new(some.clone());
            for change in &checkpoint {
                run.over.restore(change.clone()).unwrap();
            }
            run.over.resume();
        }
    }
    run.bounds[1] = Some(EventTime(i64::MAX - 1));
    run.step([]).unwrap();
    // Two partitions, and of each at most what three functions ask for.
    let rows = run.over.state_rows();
    assert!(
        rows <= 2 * 12,
        "{rows} rows are kept, seed {seed}, {some:?}"
    );
}

#[test]
fn what_is_let_go_is_not_missed() {
    for seed in 0..150 {
        agrees(seed);
    }
}

#[test]
fn a_running_sum_by_time_keeps_the_sum_alone() {
    let calls = vec![
        aggregate(AggregateFunction::Sum, Some(2), Frame::RUNNING),
        placed(OverFunction::RowNumber),
    ];
    let mut run = Run::new(OverSpec {
        bounded_order: Some(BoundedOrder {
            column: 1,
            ahead_micros: 0,
        }),
        kept: Some(Kept {
            adds_up: true,
            ..Kept::default()
        }),
        ..spec(HEADER, 1, calls)
    });
    let row = |seconds: i64, x: i64| format!("+ 1 {} {x} true", timestamp(seconds));
    let lines: Vec<String> = (0..100).map(|second| row(second, 2)).collect();
    run.bounds[1] = Some(EventTime(100 * SECOND));
    run.step(lines.iter().map(String::as_str)).unwrap();
    assert_eq!(run.over.state_rows(), 0);
    let line = row(100, 5);
    assert_eq!(
        run.shown(&[&line]),
        format!("+ 1 {} 5 true 205 101", timestamp(100))
    );
    assert_eq!(run.over.state_rows(), 1);
    // No row comes, and time goes on.
    run.bounds[1] = Some(EventTime(101 * SECOND));
    assert_eq!(run.shown(&[]), "");
    assert_eq!(run.over.state_rows(), 0);
}

/// Partitions have other numbers after a restart, and what was let go of them has the same slot.
#[test]
fn what_was_let_go_has_its_slot_for_ever() {
    let sum = aggregate(AggregateFunction::Sum, Some(2), Frame::RUNNING);
    let mut run = Run::new(OverSpec {
        bounded_order: Some(BoundedOrder {
            column: 1,
            ahead_micros: 0,
        }),
        kept: Some(Kept {
            adds_up: true,
            ..Kept::default()
        }),
        ..spec(HEADER, 1, vec![sum])
    });
    let row = |key: i64, seconds: i64, x: i64| format!("+ {key} {} {x} true", timestamp(seconds));
    let step = |run: &mut Run, bound: i64, lines: &[String]| {
        run.bounds[1] = Some(EventTime(bound * SECOND));
        run.step(lines.iter().map(String::as_str)).unwrap()
    };
    step(&mut run, 5, &[row(1, 1, 10), row(2, 2, 20), row(2, 9, 1)]);
    let mut checkpoint = run.over.changes(Scope::All).unwrap();
    let restored = |checkpoint: &[TableChange], spec: &OverSpec| {
        let mut run = Run::new(spec.clone());
        for change in checkpoint {
            run.over.restore(change.clone()).unwrap();
        }
        run.over.resume();
        run
    };
    // Of the first partition no row is left, so that the second one is known before it.
    let mut run = restored(&checkpoint, &run.spec);
    step(&mut run, 10, &[]);
    let changes = run.over.changes(Scope::Changed).unwrap();
    let bases = changes.iter().find(|change| change.table == 1).unwrap();
    assert_eq!(bases.slots, [1]);
    checkpoint.extend(changes);
    let mut run = restored(&checkpoint, &run.spec);
    let delta = step(&mut run, 10, &[row(1, 11, 3), row(2, 12, 4)]);
    assert_eq!(
        print_sorted(&delta),
        format!(
            "+ 1 {} 3 true 13\n+ 2 {} 4 true 25\n",
            timestamp(11),
            timestamp(12)
        )
    );
}
