//! What comes out of which changes, in lines that a person can read.

use super::*;
use crate::operator::aggregate::{Close, CloseEmit};
use crate::operator::over::BoundedOrder;
use crate::operator::{Scope, TableChange};

const SECOND: i64 = 1_000_000;
const PLAIN: &str = "k:bigint t:integer x:integer";

fn running_sum() -> OverCall {
    aggregate(AggregateFunction::Sum, Some(2), Frame::RUNNING)
}

#[test]
fn a_row_in_the_middle_moves_those_behind_it() {
    let mut run = Run::new(spec(PLAIN, 1, vec![running_sum(), shift(2, 1, false)]));
    assert_eq!(
        run.shown(&["+ 7 1 10", "+ 7 3 30"]),
        "+ 7 1 10 10 NULL, + 7 3 30 40 10"
    );
    assert_eq!(
        run.shown(&["+ 7 2 5"]),
        "+ 7 2 5 15 10, + 7 3 30 45 5, - 7 3 30 40 10"
    );
    // What two changes do to those behind them cancels out.
    assert_eq!(
        run.shown(&["- 7 2 5", "+ 7 2 4", "+ 7 0 1"]),
        "+ 7 0 1 1 NULL, + 7 1 10 11 1, + 7 2 4 15 10, + 7 3 30 45 4, \
         - 7 1 10 10 NULL, - 7 2 5 15 10, - 7 3 30 45 5"
    );
    assert_eq!(run.shown(&["+ 7 4 NULL"]), "+ 7 4 NULL 45 30");
    assert_eq!(run.shown(&["+ NULL NULL 1"]), "+ NULL NULL 1 1 NULL");
    let all = ["- 7 0 1", "- 7 1 10", "- 7 2 4", "- 7 3 30", "- 7 4 NULL"];
    run.step(all).unwrap();
    run.step(["- NULL NULL 1"]).unwrap();
    assert_eq!(run.over.state_rows(), 0);
    assert!(run.step(["- 7 0 1"]).is_err());
}

#[test]
fn equal_rows_have_one_frame_by_range_and_their_own_by_rows() {
    let rows = frame(
        FrameUnits::Rows,
        FrameBound::UnboundedPreceding,
        FrameBound::CurrentRow,
    );
    let by_rows = aggregate(AggregateFunction::CountAll, None, rows);
    let by_range = aggregate(AggregateFunction::CountAll, None, Frame::RUNNING);
    let mut run = Run::new(spec(PLAIN, 1, vec![by_rows, by_range.clone()]));
    assert_eq!(
        run.shown(&["+2 1 5 0", "+ 1 5 1"]),
        "+ 1 5 0 1 3, + 1 5 0 2 3, + 1 5 1 3 3"
    );
    assert_eq!(
        run.shown(&["- 1 5 0"]),
        "+ 1 5 0 1 2, + 1 5 1 2 2, - 1 5 0 1 3, - 1 5 0 2 3, - 1 5 1 3 3"
    );
    // Where copies are not told apart they come with their weight.
    let mut run = Run::new(spec(PLAIN, 1, vec![by_range]));
    assert_eq!(
        run.shown(&["+9000000000 1 5 0"]),
        "+9000000000 1 5 0 9000000000"
    );
    assert_eq!(run.shown(&["+ 1 6 0"]), "+ 1 6 0 9000000001");
}

#[test]
fn what_is_so_far_the_greatest_moves_only_until_it_is_the_same() {
    let greatest = aggregate(AggregateFunction::Max, Some(2), Frame::RUNNING);
    let first = nth(2, 1, false, Frame::RUNNING);
    let mut run = Run::new(spec(PLAIN, 1, vec![greatest, first]));
    run.step(["+ 1 1 3", "+ 1 2 2", "+ 1 4 1", "+ 1 5 9", "+ 1 6 1"])
        .unwrap();
    assert_eq!(
        run.shown(&["+ 1 3 4"]),
        "+ 1 3 4 4 3, + 1 4 1 4 3, - 1 4 1 3 3"
    );
    assert_eq!(
        run.shown(&["- 1 3 4"]),
        "+ 1 4 1 3 3, - 1 3 4 4 3, - 1 4 1 4 3"
    );
    let whole = aggregate(AggregateFunction::Max, Some(2), Frame::WHOLE);
    let mut run = Run::new(spec(PLAIN, 1, vec![whole]));
    run.step(["+ 1 1 3", "+ 1 2 9"]).unwrap();
    assert_eq!(run.shown(&["+ 1 0 4"]), "+ 1 0 4 9");
    assert_eq!(run.shown(&["- 1 2 9", "+ 1 5 9"]), "+ 1 5 9 9, - 1 2 9 9");
    assert_eq!(
        run.shown(&["+ 1 7 10"]),
        "+ 1 0 4 10, + 1 1 3 10, + 1 5 9 10, + 1 7 10 10, - 1 0 4 9, - 1 1 3 9, - 1 5 9 9"
    );
}

#[test]
fn frames_that_are_empty_or_far_outside_have_nothing() {
    let rows = |start, end| frame(FrameUnits::Rows, start, end);
    let calls = vec![
        aggregate(
            AggregateFunction::CountAll,
            None,
            rows(following(1), following(i64::MAX)),
        ),
        aggregate(
            AggregateFunction::Sum,
            Some(2),
            rows(preceding(i64::MAX), preceding(2)),
        ),
        nth(2, 1, false, rows(following(2), following(1))),
        nth(2, i64::MAX, false, Frame::WHOLE),
        nth(2, i64::MIN, false, Frame::WHOLE),
        shift(2, i64::MAX, false),
        shift(2, i64::MIN, true),
    ];
    let mut run = Run::new(spec(PLAIN, 1, calls));
    assert_eq!(
        run.shown(&["+ 1 1 3", "+ 1 2 2", "+ 1 4 1"]),
        "+ 1 1 3 2 NULL NULL NULL NULL NULL NULL, + 1 2 2 1 NULL NULL NULL NULL NULL NULL, \
         + 1 4 1 0 3 NULL NULL NULL NULL NULL"
    );
}

fn by_value(column: &str, distance: ScalarValue, options: SortOptions) -> Run {
    let bounds = [
        FrameBound::Preceding(Distance::Value(distance.clone())),
        FrameBound::Following(Distance::Value(distance)),
    ];
    let [before, behind] = bounds;
    let calls = vec![
        aggregate(
            AggregateFunction::CountAll,
            None,
            frame(FrameUnits::Range, before, FrameBound::CurrentRow),
        ),
        aggregate(
            AggregateFunction::CountAll,
            None,
            frame(FrameUnits::Range, FrameBound::CurrentRow, behind),
        ),
    ];
    let mut spec = spec(&format!("t:{column}"), 0, calls);
    spec.order[0].options = options;
    Run::new(spec)
}

#[test]
fn distances_beyond_a_type_reach_to_the_end_and_never_to_nulls() {
    let lines = [
        "+ 9223372036854775807",
        "+ 0",
        "+ -9223372036854775808",
        "+ NULL",
    ];
    for nulls_first in [true, false] {
        let options = SortOptions {
            descending: false,
            nulls_first,
        };
        let mut run = by_value("bigint", ScalarValue::Int64(Some(i64::MAX)), options);
        assert_eq!(
            run.shown(&lines),
            "+ -9223372036854775808 1 1, + 0 1 2, + 9223372036854775807 2 1, + NULL 1 1"
        );
        let options = SortOptions {
            descending: true,
            ..options
        };
        let mut run = by_value("bigint", ScalarValue::Int64(Some(i64::MAX)), options);
        assert_eq!(
            run.shown(&lines),
            "+ -9223372036854775808 1 1, + 0 2 1, + 9223372036854775807 1 2, + NULL 1 1"
        );
    }
}

#[test]
fn distances_in_floats_know_nan_and_zero() {
    let mut run = by_value("double", ScalarValue::Float64(Some(0.5)), ASCENDING);
    assert_eq!(
        run.shown(&["+ NaN", "+ NaN", "+ -0.0", "+ 0.0", "+ 0.5", "+ inf"]),
        "+ 0.5 3 1, + inf 1 1, +2 0.0 2 3, +2 NaN 2 2"
    );
}

#[test]
fn months_are_as_long_as_they_are() {
    let month = arrow::datatypes::IntervalMonthDayNano::new(1, 0, 0);
    let month = ScalarValue::IntervalMonthDayNano(Some(month));
    let mut run = by_value("timestamp", month, ASCENDING);
    let days = [
        "2026-01-31",
        "2026-02-01",
        "2026-02-28",
        "2026-03-28",
        "2026-03-29",
    ];
    let lines: Vec<String> = days.iter().map(|day| format!("+ {day}T00:00:00")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(
        run.shown(&lines),
        "+ 2026-01-31T00:00:00 1 3, + 2026-02-01T00:00:00 2 2, + 2026-02-28T00:00:00 3 2, \
         + 2026-03-28T00:00:00 2 2, + 2026-03-29T00:00:00 3 1"
    );
    assert_eq!(
        run.shown(&["- 2026-02-28T00:00:00"]),
        "+ 2026-01-31T00:00:00 1 2, + 2026-02-01T00:00:00 2 1, + 2026-03-28T00:00:00 1 2, \
         + 2026-03-29T00:00:00 2 1, - 2026-01-31T00:00:00 1 3, - 2026-02-01T00:00:00 2 2, \
         - 2026-02-28T00:00:00 3 2, - 2026-03-28T00:00:00 2 2, - 2026-03-29T00:00:00 3 1"
    );
}

#[test]
fn a_sum_that_does_not_fit_leaves_its_row_out_until_it_does() {
    let sum = aggregate(AggregateFunction::Sum, Some(2), Frame::RUNNING);
    let mut run = Run::new(spec("k:bigint t:integer x:numeric", 1, vec![sum]));
    let huge = "9".repeat(36);
    assert_eq!(
        run.shown(&[&format!("+ 1 1 {huge}"), "+ 1 2 1"]),
        format!("+ 1 1 {huge}.00 {huge}.00")
    );
    assert_eq!(run.out.counts.rows_failed, 1);
    assert_eq!(run.out.errors[0].reason, "numeric field overflow");
    // It fails as before, and is told of once.
    assert_eq!(run.shown(&["+ 1 3 -1"]), format!("+ 1 3 -1.00 {huge}.00"));
    assert_eq!(
        run.shown(&["+ 1 0 1"]),
        format!("+ 1 0 1.00 1.00, - 1 1 {huge}.00 {huge}.00, - 1 3 -1.00 {huge}.00")
    );
    assert_eq!(run.out.counts.rows_failed, 2);
    assert_eq!(
        run.shown(&[&format!("- 1 1 {huge}")]),
        "+ 1 2 1.00 2.00, + 1 3 -1.00 1.00"
    );
}

#[test]
fn nulls_are_ignored_where_that_is_said() {
    let rows = frame(FrameUnits::Rows, preceding(2), FrameBound::CurrentRow);
    let calls = vec![
        shift(2, 1, true),
        shift(2, -1, true),
        nth(2, 1, true, rows.clone()),
        nth(2, -1, true, rows.clone()),
        nth(2, 2, true, rows),
    ];
    let mut run = Run::new(spec(PLAIN, 1, calls));
    assert_eq!(
        run.shown(&["+ 1 1 3", "+ 1 2 NULL", "+ 1 3 NULL", "+ 1 4 5", "+ 1 5 6"]),
        "+ 1 1 3 NULL 5 3 3 NULL, + 1 2 NULL 3 5 3 3 NULL, + 1 3 NULL 3 5 3 3 NULL, \
         + 1 4 5 3 6 5 5 NULL, + 1 5 6 5 NULL 5 6 6"
    );
    assert_eq!(
        run.shown(&["- 1 4 5"]),
        "+ 1 1 3 NULL 6 3 3 NULL, + 1 2 NULL 3 6 3 3 NULL, + 1 3 NULL 3 6 3 3 NULL, \
         + 1 5 6 3 NULL 6 6 NULL, - 1 1 3 NULL 5 3 3 NULL, - 1 2 NULL 3 5 3 3 NULL, \
         - 1 3 NULL 3 5 3 3 NULL, - 1 4 5 3 6 5 5 NULL, - 1 5 6 5 NULL 5 6 6"
    );
}

#[test]
fn parts_and_shares_follow_the_number_of_rows() {
    let calls = vec![
        placed(OverFunction::Ntile(3)),
        placed(OverFunction::PercentRank),
        placed(OverFunction::CumeDist),
    ];
    let mut run = Run::new(spec("t:integer", 0, calls));
    assert_eq!(run.shown(&["+ 1"]), "+ 1 1 0.0 1.0");
    assert_eq!(
        run.shown(&["+ 2", "+ 2", "+ 3"]),
        "+ 1 1 0.0 0.25, + 2 1 0.3333333333333333 0.75, + 2 2 0.3333333333333333 0.75, \
         + 3 3 1.0 1.0, - 1 1 0.0 1.0"
    );
}

const AT_10: &str = "1970-01-01T00:00:10";
const AT_20: &str = "1970-01-01T00:00:20";

fn timed(emit: CloseEmit) -> Run {
    let close = Close {
        column: 0,
        emit,
        lateness_micros: 0,
    };
    let calls = vec![placed(OverFunction::RowNumber)];
    Run::new(OverSpec {
        close: Some(close),
        ..spec("t:timestamp x:bigint", 1, calls)
    })
}

#[test]
fn partitions_come_out_once_when_they_are_final() {
    let mut run = timed(CloseEmit::OnClose);
    let row = |sign: &str, time: &str, x: i64| format!("{sign} {time} {x}");
    let first = [row("+", AT_10, 1), row("+", AT_20, 5), row("+", AT_10, 2)];
    run.bounds[0] = Some(EventTime(10 * SECOND));
    assert_eq!(run.step(first.iter().map(String::as_str)).unwrap().len(), 0);
    // What waits holds its column back.
    let bounds = run.over.bounds(&run.clock());
    assert_eq!(bounds.0[0], Some(EventTime(10 * SECOND)));
    let second = [row("-", AT_10, 2), row("+", AT_10, 3)];
    run.bounds[0] = Some(EventTime(11 * SECOND));
    let second: Vec<&str> = second.iter().map(String::as_str).collect();
    assert_eq!(run.shown(&second), format!("+ {AT_10} 1 1, + {AT_10} 3 2"));
    assert_eq!(run.over.state_rows(), 1);
    run.bounds[0] = Some(EventTime::MAX);
    assert_eq!(run.shown(&[]), format!("+ {AT_20} 5 1"));
    assert_eq!(run.over.state_rows(), 0);
}

#[test]
fn partitions_that_are_final_are_freed() {
    let mut run = timed(CloseEmit::OnUpdate);
    let rows = [format!("+ {AT_10} 1"), format!("+ {AT_20} 5")];
    run.bounds[0] = Some(EventTime(10 * SECOND));
    assert_eq!(run.step(rows.iter().map(String::as_str)).unwrap().len(), 2);
    run.bounds[0] = Some(EventTime(11 * SECOND));
    assert_eq!(run.shown(&[]), "");
    assert_eq!(run.over.state_rows(), 1);
}

#[test]
fn the_rising_order_keeps_its_bound_less_what_frames_look_ahead() {
    let calls = vec![placed(OverFunction::RowNumber)];
    let mut run = Run::new(OverSpec {
        bounded_order: Some(BoundedOrder {
            column: 1,
            ahead_micros: 5,
        }),
        ..spec("k:bigint t:timestamp", 1, calls)
    });
    run.bounds = vec![None, Some(EventTime(7))];
    let bounds = run.over.bounds(&run.clock()).0;
    assert_eq!(bounds, [None, Some(EventTime(2)), None]);
}

/// A row at the end of many moves nothing else, and so does one in the middle of short frames.
#[test]
fn a_row_costs_its_way_through_the_order() {
    let short = frame(FrameUnits::Rows, preceding(2), FrameBound::CurrentRow);
    let calls = vec![
        running_sum(),
        shift(2, 1, false),
        placed(OverFunction::RowNumber),
        aggregate(AggregateFunction::Min, Some(2), short.clone()),
    ];
    let mut run = Run::new(spec(PLAIN, 1, calls));
    let lines: Vec<String> = (0..60_000).map(|t| format!("+ 1 {t} 1")).collect();
    for part in lines.chunks(10_000) {
        let delta = run.step(part.iter().map(String::as_str)).unwrap();
        assert_eq!(delta.len(), part.len());
    }
    assert!(run.over.height() <= 3, "{} nodes deep", run.over.height());
    let bytes = run.over.state_bytes() / 60_000;
    // The row's own are 14; two values, its bytes to be compared and its place are the rest.
    assert!(bytes < 260, "{bytes} bytes of each row");
    assert_eq!(run.shown(&["+ 1 60000 1"]), "+ 1 60000 1 60001 1 60001 1");
    let calls = vec![
        shift(2, 1, false),
        aggregate(AggregateFunction::Min, Some(2), short),
    ];
    let mut run = Run::new(spec(PLAIN, 1, calls));
    for part in lines.chunks(10_000) {
        run.step(part.iter().map(String::as_str)).unwrap();
    }
    // It stands before the other one of its time, which is moved, and one more is by its frame.
    assert_eq!(run.step(["+ 1 30000 0"]).unwrap().len(), 5);
    assert_eq!(run.step(["- 1 30000 0"]).unwrap().len(), 5);
}

#[test]
fn a_row_that_has_moved_between_slots_is_put_back_once() {
    let mut run = Run::new(spec(PLAIN, 1, vec![running_sum()]));
    run.step(["+ 1 1 10", "+ 1 2 20"]).unwrap();
    let mut checkpoint = run.over.changes(Scope::All).unwrap();
    run.step(["- 1 1 10", "- 1 2 20"]).unwrap();
    run.step(["+ 1 1 10"]).unwrap();
    for change in run.over.changes(Scope::Changed).unwrap() {
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
        run.over.restore(change.clone()).unwrap();
    }
    run.over.resume();
    assert_eq!(run.shown(&["+ 1 3 5"]), "+ 1 3 5 15");
    assert_eq!(
        run.shown(&["- 1 1 10"]),
        "+ 1 3 5 5, - 1 1 10 10, - 1 3 5 15"
    );
}
