//! Groups that end with their window, against a model over plain rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};

use super::{Runner, call, closing, spec};
use crate::base::EventTime;
use crate::delta::{DeltaBatch, Weights};
use crate::operator::aggregate::{AggregateFunction, AggregateSpec, Close, CloseEmit};
use crate::operator::{Counts, Operator, Output};

/// Rows (weight, start, end, k, n).
type Row = (i64, i64, i64, i64, i64);

fn batch(rows: &[Row]) -> DeltaBatch {
    let times = |of: fn(&Row) -> i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter_values(
            rows.iter().map(of),
        ))
    };
    let numbers = |of: fn(&Row) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(of)))
    };
    let columns = [
        ("start", times(|row| row.1)),
        ("end", times(|row| row.2)),
        ("k", numbers(|row| row.3)),
        ("n", numbers(|row| row.4)),
    ];
    let weights: Vec<i64> = rows.iter().map(|row| row.0).collect();
    let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true)));
    DeltaBatch::new(rows.unwrap(), Weights::Each(weights.into()))
}

fn windowed(emit: CloseEmit, lateness_micros: i64) -> AggregateSpec {
    let calls = vec![
        call(AggregateFunction::CountAll, None),
        call(AggregateFunction::Max, Some(3)),
    ];
    let spec = spec(&batch(&[]).schema(), &[2, 0, 1], calls);
    closing(
        spec,
        Close {
            column: 2,
            emit,
            lateness_micros,
        },
    )
}

/// Rows (weight, k, end, count, max).
fn rows(out: &Output) -> Vec<(i64, i64, i64, i64, i64)> {
    let rows_of = |batch: &DeltaBatch| {
        let columns = batch.rows().columns();
        let number =
            |column: usize, row: usize| columns[column].as_primitive::<Int64Type>().value(row);
        let end = |row: usize| {
            columns[2]
                .as_primitive::<TimestampMicrosecondType>()
                .value(row)
        };
        let row = |at: usize| {
            (
                batch.weights().get(at),
                number(0, at),
                end(at),
                number(3, at),
                number(4, at),
            )
        };
        (0..batch.len()).map(row).collect::<Vec<_>>()
    };
    out.deltas.iter().flat_map(rows_of).collect()
}

fn bounds(bound: i64) -> Vec<Option<i64>> {
    vec![Some(bound - 10), Some(bound), None, None]
}

#[test]
fn a_row_appears_once_when_its_window_closes() {
    let mut runner = Runner::new(windowed(CloseEmit::OnClose, 0));
    let first = batch(&[
        (1, 0, 10, 1, 5),
        (1, 0, 10, 1, 9),
        (1, 10, 20, 1, 1),
        (1, 0, 10, 2, 0),
    ]);
    assert_eq!(rows(&runner.step_bounded(&[first], bounds(10))), []);
    let second = batch(&[(-1, 0, 10, 1, 9), (-1, 0, 10, 2, 0)]);
    assert_eq!(
        rows(&runner.step_bounded(&[second], bounds(11))),
        [(1, 1, 10, 1, 5)]
    );
    // Time jumps far ahead: nothing is lost.
    assert_eq!(
        rows(&runner.step_bounded(&[], bounds(1_000_000))),
        [(1, 1, 20, 1, 1)]
    );
    assert_eq!(runner.slots(), 0, "state is freed, rows stay");
}

#[test]
fn within_the_lateness_a_closed_window_is_corrected() {
    let mut runner = Runner::new(windowed(CloseEmit::OnClose, 5));
    // W = 10 and lateness 5 give the bound 6.
    let first = batch(&[(1, 0, 10, 1, 5)]);
    assert_eq!(
        rows(&runner.step_bounded(&[first], bounds(6))),
        [(1, 1, 10, 1, 5)]
    );
    runner.restart();
    let second = batch(&[(1, 0, 10, 1, 7), (1, 0, 10, 2, 1)]);
    let expected = [(1, 2, 10, 1, 1), (-1, 1, 10, 1, 5), (1, 1, 10, 2, 7)];
    assert_eq!(rows(&runner.step_bounded(&[second], bounds(10))), expected);
    let third = batch(&[(-1, 0, 10, 2, 1)]);
    assert_eq!(
        rows(&runner.step_bounded(&[third], bounds(10))),
        [(-1, 2, 10, 1, 1)]
    );
    assert_eq!(rows(&runner.step_bounded(&[], bounds(11))), []);
    assert_eq!(runner.slots(), 0);
}

#[test]
fn a_row_for_a_freed_window_changes_nothing_and_is_counted() {
    for emit in [CloseEmit::OnUpdate, CloseEmit::OnClose] {
        let mut runner = Runner::new(windowed(emit, 0));
        runner.step_bounded(&[batch(&[(1, 0, 10, 1, 5)])], bounds(11));
        runner.restart();
        let late = batch(&[(-1, 0, 10, 1, 5), (2, 0, 10, 3, 1), (1, 10, 20, 1, 1)]);
        let out = runner.step_bounded(&[late], bounds(15));
        let expected = match emit {
            CloseEmit::OnUpdate => vec![(1, 1, 20, 1, 1)],
            CloseEmit::OnClose => vec![],
        };
        assert_eq!(rows(&out), expected);
        let counts = Counts {
            rows_late: 2,
            retractions_late: 1,
            ..Counts::default()
        };
        assert_eq!(out.counts, counts);
        assert_eq!(out.late[0].event_times, [10, 10]);
    }
}

#[test]
fn groups_that_wait_hold_the_bounds_of_key_columns_back() {
    let bound = |runner: &mut Runner, bound: i64| {
        let step = runner.step_of(bounds(bound));
        let bounds = runner.aggregate.bounds(&step);
        bounds
            .0
            .iter()
            .map(|bound| bound.map(|EventTime(time)| time))
            .collect::<Vec<_>>()
    };
    let rows = batch(&[(1, 12, 30, 1, 5)]);
    let mut runner = Runner::new(windowed(CloseEmit::OnUpdate, 0));
    runner.step_bounded(std::slice::from_ref(&rows), bounds(25));
    assert_eq!(
        bound(&mut runner, 25),
        [None, Some(15), Some(25), None, None]
    );
    let mut runner = Runner::new(windowed(CloseEmit::OnClose, 0));
    runner.step_bounded(&[rows], bounds(25));
    assert_eq!(
        bound(&mut runner, 25),
        [None, Some(12), Some(25), None, None]
    );
    runner.step_bounded(&[], bounds(31));
    assert_eq!(
        bound(&mut runner, 31),
        [None, Some(21), Some(31), None, None]
    );
}

#[test]
fn random_rows_give_each_window_the_batch_answer() {
    for seed in 0..80 {
        let mut random = fastrand::Rng::with_seed(seed);
        let emit = match random.bool() {
            true => CloseEmit::OnUpdate,
            false => CloseEmit::OnClose,
        };
        let lateness = random.i64(0..3) * 10;
        let mut runner = Runner::new(windowed(emit, lateness));
        let mut present: Vec<Row> = Vec::new();
        let mut view: BTreeMap<(i64, i64, i64, i64), i64> = BTreeMap::new();
        let mut bound = -20;
        for _ in 0..random.usize(1..25) {
            let mut changes = Vec::new();
            for _ in 0..random.usize(0..12) {
                let lively: Vec<usize> = (0..present.len())
                    .filter(|&at| present[at].2 >= bound)
                    .collect();
                if random.u8(..4) == 0 && !lively.is_empty() {
                    let row = present.swap_remove(lively[random.usize(..lively.len())]);
                    changes.push((-row.0, row.1, row.2, row.3, row.4));
                } else {
                    let end = (bound.div_euclid(10) + random.i64(1..5)) * 10;
                    let weight = random.i64(1..3);
                    let row = (weight, end - 10, end, random.i64(0..3), random.i64(0..9));
                    present.push(row);
                    changes.push(row);
                }
            }
            bound += random.i64(0..15);
            let cut = random.usize(0..=changes.len());
            let batches = [batch(&changes[..cut]), batch(&changes[cut..])];
            let out = runner.step_bounded(&batches, bounds(bound));
            assert_eq!(out.counts, Counts::default(), "seed {seed}");
            for (weight, k, end, count, max) in rows(&out) {
                assert!(
                    weight > 0 || emit == CloseEmit::OnUpdate || lateness > 0,
                    "a final row is never taken back, seed {seed}"
                );
                let place = view.entry((k, end, count, max)).or_insert(0);
                *place += weight;
                if *place == 0 {
                    view.remove(&(k, end, count, max));
                }
            }
            assert_eq!(view, model(&present, emit, bound + lateness), "seed {seed}");
            match random.u8(..6) {
                0 => runner.checkpoint(),
                1 => runner.restart(),
                _ => {}
            }
        }
        runner.step_bounded(&[], bounds(i64::MAX));
        assert_eq!(runner.slots(), 0, "seed {seed}");
    }
}

/// The view's rows: (k, end, count, max), each once.
fn model(
    present: &[Row],
    emit: CloseEmit,
    closed_before: i64,
) -> BTreeMap<(i64, i64, i64, i64), i64> {
    let mut groups: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for &(weight, _, end, k, n) in present {
        if emit == CloseEmit::OnUpdate || end < closed_before {
            let group = groups.entry((k, end)).or_insert((0, i64::MIN));
            *group = (group.0 + weight, group.1.max(n));
        }
    }
    groups
        .into_iter()
        .map(|((k, end), (count, max))| ((k, end, count, max), 1))
        .collect()
}
