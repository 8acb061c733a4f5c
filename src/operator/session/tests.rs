//! Sessions in delta notation.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};

use super::{Session, SessionEmit, SessionSpec};
use crate::base::{Epoch, EventTime};
use crate::delta::notation::{parse, parse_rows, print_sorted};
use crate::delta::{DeltaBatch, concat, consolidate};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const HEADER: &str = "t:timestamp k:text";
const SECOND: i64 = 1_000_000;

struct Run {
    session: Session,
    spec: SessionSpec,
    out: Output,
    bounds: Bounds,
}

impl Run {
    fn new(change: impl FnOnce(&mut SessionSpec)) -> Run {
        let input = parse(HEADER).schema();
        let mut fields: Vec<_> = input.fields().iter().cloned().collect();
        for name in ["window_start", "window_end"] {
            let data_type = input.field(0).data_type().clone();
            fields.push(Arc::new(Field::new(name, data_type, false)));
        }
        let mut spec = SessionSpec {
            input,
            time_column: 0,
            keys: vec![1],
            gap_micros: 10 * SECOND,
            output: Arc::new(Schema::new(fields)),
            lateness_micros: 0,
            judges: true,
            is_append_only: false,
            emit: SessionEmit::OnUpdate,
        };
        change(&mut spec);
        Run {
            session: Session::new(spec.clone()).unwrap(),
            spec,
            out: Output::default(),
            bounds: Bounds::unknown(4),
        }
    }

    /// One step with rows `+ @3 10 a, …` in seconds, up to a watermark in seconds.
    fn step(&mut self, rows: &str, watermark: i64) -> String {
        let lines = rows
            .split(',')
            .map(str::trim)
            .filter(|line| !line.is_empty());
        let lines: Vec<String> = lines.map(timed).collect();
        self.out = Output::default();
        if !lines.is_empty() {
            let batch = parse_rows(&self.spec.input, lines.iter().map(String::as_str));
            self.session.push(0, batch, &mut self.out).unwrap();
        }
        let step = Step {
            epoch: Epoch(1),
            clock_micros: 0,
            bounds: vec![Bounds(vec![Some(EventTime(watermark * SECOND)), None])],
        };
        self.session.finish(&step, &mut self.out).unwrap();
        self.bounds = self.session.bounds(&step);
        shown(&self.spec, &self.out.deltas)
    }

    fn bound(&self, column: usize) -> i64 {
        self.bounds.0[column].unwrap().0
    }

    fn restart(&mut self) {
        let changes: Vec<TableChange> = self.session.changes(Scope::All).unwrap();
        self.session = Session::new(self.spec.clone()).unwrap();
        for change in changes {
            self.session.restore(change).unwrap();
        }
    }
}

/// `+ @3 10 a` with times of the first minutes of 1970.
fn timed(line: &str) -> String {
    let word = |word: &str| match (word.strip_prefix('@'), word.parse::<i64>()) {
        (Some(seconds), _) => format!("@{}", seconds.parse::<i64>().unwrap() * SECOND),
        (None, Ok(seconds)) => {
            format!("1970-01-01T00:{:02}:{:02}", seconds / 60, seconds % 60)
        }
        (None, Err(_)) => word.to_string(),
    };
    let (weight, rest) = line.split_once(' ').unwrap();
    let rest: Vec<String> = rest.split(' ').map(word).collect();
    format!("{weight} {}", rest.join(" "))
}

fn shown(spec: &SessionSpec, deltas: &[DeltaBatch]) -> String {
    let all = consolidate(&concat(&spec.output, deltas).unwrap()).unwrap();
    let text = print_sorted(&all).replace("1970-01-01T00:00:", "");
    text.lines().collect::<Vec<_>>().join(", ")
}

#[test]
fn rows_that_are_near_are_one_session() {
    let mut run = Run::new(|spec| spec.judges = false);
    assert_eq!(run.step("+ 05 a, + 06 b", 0), "+ 05 a 05 15, + 06 b 06 16");
    // Exactly a gap apart; a microsecond more would be another one.
    let changed = "+ 05 a 05 25, + 15 a 05 25, - 05 a 05 15";
    assert_eq!(sorted(&run.step("+ 15 a", 0)), changed);
    assert_eq!(run.step("+ 26 a", 0), "+ 26 a 26 36");
    assert_eq!(run.session.live(), 3);
}

#[test]
fn a_row_between_two_sessions_makes_one_and_taking_it_away_two() {
    let mut run = Run::new(|spec| spec.judges = false);
    run.step("+ 05 a, + 20 a", 0);
    let joined = "+ 05 a 05 30, + 12 a 05 30, + 20 a 05 30, - 05 a 05 15, - 20 a 20 30";
    assert_eq!(sorted(&run.step("+ 12 a", 0)), joined);
    run.restart();
    let parted = "+ 05 a 05 15, + 20 a 20 30, - 05 a 05 30, - 12 a 05 30, - 20 a 05 30";
    assert_eq!(sorted(&run.step("- 12 a", 0)), parted);
    // There and gone in one step, in any order.
    assert_eq!(run.step("- 12 a, + 12 a", 0), "");
    assert_eq!(
        sorted(&run.step("- 05 a, - 20 a", 0)),
        "- 05 a 05 15, - 20 a 20 30"
    );
    assert_eq!((run.session.live(), run.session.state_rows()), (0, 0));
}

#[test]
fn a_copy_of_a_row_holds_the_session() {
    let mut run = Run::new(|spec| spec.judges = false);
    assert_eq!(run.step("+2 05 a", 0), "+2 05 a 05 15");
    assert_eq!(run.step("- 05 a", 0), "- 05 a 05 15");
    assert_eq!(run.session.live(), 1);
    assert_eq!(run.step("- 05 a", 0), "- 05 a 05 15");
    assert_eq!(run.session.live(), 0);
}

#[test]
fn a_final_session_is_forgotten_and_not_continued() {
    for is_append_only in [true, false] {
        let mut run = Run::new(|spec| spec.is_append_only = is_append_only);
        assert_eq!(run.step("+ @0 05 a", 14), "+ 05 a 05 15");
        assert_eq!(run.step("", 15), "");
        assert_eq!((run.session.live(), run.session.state_rows()), (0, 0));
        // It is behind the watermark and in nobody's session, but alone it is open still.
        assert_eq!(run.step("+ @15 06 a", 15), "+ 06 a 06 16");
        assert_eq!(run.step("+ @15 05 a", 15), "");
        assert_eq!(run.out.counts.rows_late, 1);
        assert_eq!(run.out.late[0].event_times, [5 * SECOND]);
    }
}

#[test]
fn a_row_is_in_time_where_an_open_session_spans_it() {
    for is_append_only in [true, false] {
        let mut run = Run::new(|spec| spec.is_append_only = is_append_only);
        run.step("+ @0 05 a, + @0 14 a, + @0 23 a", 30);
        // Alone each would have been closed at 19 and at 14.
        let out = run.step("+ @30 09 a, + @30 04 a", 30);
        assert_eq!(out, "+ 09 a 05 33");
        assert_eq!(run.out.counts.rows_late, 1);
    }
}

#[test]
fn finality_is_asked_row_by_row() {
    for is_append_only in [true, false] {
        // One step or three: the same.
        let mut run = Run::new(|spec| spec.is_append_only = is_append_only);
        let out = run.step("+ @0 05 a, + @20 20 b, + @20 14 a", 20);
        assert_eq!(sorted(&out), "+ 05 a 05 15, + 14 a 14 24, + 20 b 20 30");
        assert_eq!(run.session.live(), 2);
    }
}

#[test]
fn a_retraction_of_a_final_session_is_late() {
    let mut run = Run::new(|_| {});
    run.step("+ @0 05 a, + @0 30 a", 20);
    assert_eq!(run.step("- @20 05 a, - @20 07 a", 20), "");
    assert_eq!(run.out.counts.retractions_late, 2);
    assert_eq!(run.step("- @20 30 a", 20), "- 30 a 30 40");
}

#[test]
fn rows_wait_for_their_session_on_close() {
    for is_append_only in [true, false] {
        let mut run = Run::new(|spec| {
            spec.emit = SessionEmit::OnClose;
            spec.is_append_only = is_append_only;
        });
        assert_eq!(run.step("+ @0 05 a, + @0 12 a, + @0 40 b", 21), "");
        run.restart();
        assert_eq!(run.step("", 22), "+ 05 a 05 22, + 12 a 05 22");
        assert_eq!(run.session.live(), 1);
        assert_eq!(run.step("", 3_000), "+ 40 b 40 50");
    }
}

#[test]
fn lateness_keeps_a_session_correctable() {
    let mut run = Run::new(|spec| spec.lateness_micros = 5 * SECOND);
    run.step("+ @0 05 a", 19);
    assert_eq!(
        sorted(&run.step("+ @19 07 a", 19)),
        "+ 05 a 05 17, + 07 a 05 17, - 05 a 05 15"
    );
    run.step("", 22);
    assert_eq!(run.session.live(), 0);
}

#[test]
fn bounds_are_those_of_what_is_open() {
    let mut run = Run::new(|spec| spec.is_append_only = true);
    run.step("+ @0 05 a", 12);
    // A new row begins after 12 - 10 at the earliest; ends come after 12.
    assert_eq!(run.bound(2), 2 * SECOND + 1);
    assert_eq!(run.bound(3), 12 * SECOND + 1);
    run.step("+ @12 14 a, + @12 23 a", 30);
    assert_eq!(run.bound(2), 5 * SECOND);
    assert_eq!(run.bound(0), 5 * SECOND);
    assert_eq!(run.bound(3), 30 * SECOND + 1);
    let mut run = Run::new(|_| {});
    run.step("+ @0 05 a, + @0 14 a, + @0 23 a", 30);
    // Without the row in the middle the first one ends at 15.
    assert_eq!(run.bound(3), 15 * SECOND);
    assert_eq!(
        sorted(&run.step("- @30 14 a", 30)),
        "+ 05 a 05 15, + 23 a 23 33, \
        - 05 a 05 33, - 14 a 05 33, - 23 a 05 33"
    );
    run.step("", 33);
    assert_eq!(run.session.live(), 0);
}

#[test]
fn a_row_without_a_time_is_an_error() {
    let mut run = Run::new(|_| {});
    assert_eq!(run.step("+ NULL a, + 05 NULL", 0), "+ 05 NULL 05 15");
    assert_eq!(run.out.errors[0].reason, "event time is NULL");
    assert_eq!(run.out.counts.rows_failed, 1);
}

fn sorted(text: &str) -> String {
    let mut rows: Vec<&str> = text.split(", ").collect();
    rows.sort_unstable();
    rows.join(", ")
}

/// A row within the bounds of its session is one row of work, however many the session has; one
/// that moves them changes what every row of the session says, and no row of another.
#[test]
fn work_follows_what_is_touched_and_not_the_key() {
    let mut run = Run::new(|spec| spec.judges = false);
    let many: Vec<String> = (0..500).map(|at| format!("+ {} a", at % 50)).collect();
    run.step(&many.join(", "), 0);
    let mut later: Vec<String> = (0..500)
        .map(|at| format!("+ {} a", 1_000 + at % 50))
        .collect();
    later.push("+ 2000 a".to_string());
    run.step(&later.join(", "), 0);
    let before = run.session.looked_at();
    assert_eq!(run.step("+ 7 a", 0).lines().count(), 1, "one more copy");
    assert_eq!(run.session.looked_at() - before, 1);
    run.step("- 7 a", 0);
    run.step("+ 2000 a, - 2000 a, + 9 a", 0);
    assert_eq!(run.session.looked_at() - before, 3);
    // The third session goes on; those before it are not looked at.
    run.step("+ 2001 a", 0);
    assert_eq!(run.session.looked_at() - before, 5);
    // Rows of 50 times in the first session: all of them say so when it gets longer.
    run.step("+ 55 a", 0);
    assert_eq!(run.session.looked_at() - before, 5 + 51);
}
