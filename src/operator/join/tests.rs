//! Joins step by step, in delta notation; `oracle` tries them against batch SQL.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;

use crate::base::{Epoch, EventTime};
use crate::delta::notation::{parse, parse_rows, print_sorted};
use crate::operator::join::{Expire, Join, JoinKind, JoinSpec, NullEquality, TimeRange};
use crate::operator::{Bounds, Operator, Output, Scope, Step};

/// left ++ right, the right side nullable.
pub fn joined_schema(left: &SchemaRef, right: &SchemaRef) -> SchemaRef {
    let right = right
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true));
    let left = left.fields().iter().map(|field| field.as_ref().clone());
    Arc::new(Schema::new(left.chain(right).collect::<Vec<Field>>()))
}

/// What comes out of a join of a kind.
pub fn output_schema(kind: JoinKind, left: &SchemaRef, right: &SchemaRef) -> SchemaRef {
    let nullable = |fields: &Fields| -> Vec<Field> {
        let fields = fields.iter();
        let field = |field: &FieldRef| field.as_ref().clone().with_nullable(true);
        fields.map(field).collect()
    };
    match kind {
        JoinKind::Inner | JoinKind::Left => joined_schema(left, right),
        JoinKind::Full => {
            let fields = [nullable(left.fields()), nullable(right.fields())].concat();
            Arc::new(Schema::new(fields))
        }
        JoinKind::Semi | JoinKind::Anti => left.clone(),
        JoinKind::Mark => {
            let mark = Arc::new(Field::new("mark", DataType::Boolean, false));
            let fields = left.fields().iter().cloned().chain([mark]);
            Arc::new(Schema::new(fields.collect::<Vec<FieldRef>>()))
        }
    }
}

pub fn expression(sql: &str, schema: &SchemaRef) -> Arc<dyn PhysicalExpr> {
    let context = SessionContext::new();
    let schema = DFSchema::try_from(schema.as_ref().clone()).unwrap();
    let parsed = context.parse_sql_expr(sql, &schema).unwrap();
    context.create_physical_expr(parsed, &schema).unwrap()
}

fn spec(left: &str, right: &str, kind: JoinKind) -> JoinSpec {
    let (left, right) = (parse(left).schema(), parse(right).schema());
    JoinSpec {
        left_keys: vec![0],
        right_keys: vec![0],
        null_equality: NullEquality::NullIsUnequal,
        residual: None,
        kind,
        output: output_schema(kind, &left, &right),
        left,
        right,
        left_append_only: false,
        right_append_only: false,
        times: Vec::new(),
        expire: Expire::default(),
    }
}

fn plain(kind: JoinKind) -> JoinSpec {
    spec("k:bigint a:text", "l:bigint b:text", kind)
}

fn with_residual(kind: JoinKind, sql: &str) -> JoinSpec {
    let mut spec = spec("k:bigint a:bigint", "l:bigint b:bigint", kind);
    let pairs = joined_schema(&spec.left, &spec.right);
    spec.residual = Some(expression(sql, &pairs));
    spec
}

struct Run {
    spec: JoinSpec,
    join: Join,
    bounds: Vec<Bounds>,
    out: Output,
}

impl Run {
    fn new(spec: JoinSpec) -> Run {
        let bounds = vec![
            Bounds::unknown(spec.left.fields().len()),
            Bounds::unknown(spec.right.fields().len()),
        ];
        Run {
            join: Join::new(spec.clone()).unwrap(),
            spec,
            bounds,
            out: Output::default(),
        }
    }

    fn clock(&self) -> Step {
        Step {
            epoch: Epoch(1),
            clock_micros: 0,
            bounds: self.bounds.clone(),
        }
    }

    /// One step; what it puts out, sorted, as it came.
    fn step(&mut self, left: &str, right: &str) -> String {
        self.out = Output::default();
        for (port, (schema, text)) in [(&self.spec.left, left), (&self.spec.right, right)]
            .into_iter()
            .enumerate()
        {
            let lines = text
                .split(',')
                .map(str::trim)
                .filter(|line| !line.is_empty());
            let batch = parse_rows(schema, lines);
            if !batch.is_empty() {
                self.join.push(port, batch, &mut self.out).unwrap();
            }
        }
        let step = self.clock();
        self.join.finish(&step, &mut self.out).unwrap();
        let mut lines: Vec<String> = Vec::new();
        for delta in &self.out.deltas {
            lines.extend(print_sorted(delta).lines().map(str::to_string));
        }
        lines.sort();
        lines.join(", ")
    }
}

#[test]
fn each_side_meets_the_other() {
    let mut run = Run::new(plain(JoinKind::Inner));
    assert_eq!(run.step("+ 7 x", ""), "");
    assert_eq!(run.step("", "+ 7 p, + 8 q"), "+ 7 x 7 p");
    assert_eq!(run.step("+ 8 y, + 7 z", ""), "+ 7 z 7 p, + 8 y 8 q");
    assert_eq!(run.step("- 7 x", ""), "- 7 x 7 p");
    assert_eq!(run.step("", "- 8 q"), "- 8 y 8 q");
}

#[test]
fn weights_multiply_and_one_of_two_stays() {
    let mut run = Run::new(plain(JoinKind::Inner));
    assert_eq!(run.step("+2 7 x", "+3 7 p"), "+6 7 x 7 p");
    assert_eq!(run.step("- 7 x", ""), "-3 7 x 7 p");
    assert_eq!(run.step("", "+ 7 r"), "+ 7 x 7 r");
    assert_eq!(run.step("- 7 x", ""), "- 7 x 7 r, -3 7 x 7 p");
    assert_eq!(run.join.rows(), (0, 2));
}

#[test]
fn both_sides_change_in_one_step_and_what_cancels_never_leaves() {
    let mut run = Run::new(plain(JoinKind::Inner));
    assert_eq!(run.step("+ 7 x", "+ 7 p"), "+ 7 x 7 p");
    assert_eq!(
        run.step("- 7 x, + 7 y", "- 7 p, + 7 q"),
        "+ 7 y 7 q, - 7 x 7 p"
    );
    assert_eq!(run.step("- 7 y, + 7 y", "- 7 q, + 7 q"), "");
}

#[test]
fn null_keys_match_nothing_and_are_not_kept() {
    let mut run = Run::new(plain(JoinKind::Inner));
    assert_eq!(run.step("+ NULL x", "+ NULL p"), "");
    assert_eq!(run.join.rows(), (0, 0));
    let mut run = Run::new(plain(JoinKind::Left));
    assert_eq!(
        run.step("+ NULL x, + NULL x, + NULL y, - NULL y", "+ NULL p"),
        "+2 NULL x NULL NULL"
    );
    assert_eq!(run.join.rows(), (0, 0));
    assert_eq!(run.step("-2 NULL x", ""), "-2 NULL x NULL NULL");
}

#[test]
fn null_keys_match_where_null_is_equal() {
    let mut run = Run::new(JoinSpec {
        null_equality: NullEquality::NullIsEqual,
        ..plain(JoinKind::Left)
    });
    assert_eq!(run.step("+ NULL x", ""), "+ NULL x NULL NULL");
    assert_eq!(
        run.step("", "+ NULL p"),
        "+ NULL x NULL p, - NULL x NULL NULL"
    );
}

#[test]
fn padding_appears_and_disappears_as_insertions_and_deletions() {
    let mut run = Run::new(plain(JoinKind::Left));
    assert_eq!(run.step("+2 7 x", ""), "+2 7 x NULL NULL");
    assert_eq!(run.step("", "+ 7 p"), "+2 7 x 7 p, -2 7 x NULL NULL");
    assert_eq!(run.step("", "+ 7 q"), "+2 7 x 7 q");
    assert_eq!(run.step("", "- 7 p"), "-2 7 x 7 p");
    assert_eq!(run.step("", "- 7 q"), "+2 7 x NULL NULL, -2 7 x 7 q");
    assert_eq!(run.step("- 7 x", ""), "- 7 x NULL NULL");
    assert_eq!(run.step("- 7 x", ""), "- 7 x NULL NULL");
    assert_eq!(run.join.rows(), (0, 0));
}

#[test]
fn a_padded_row_changes_at_most_once_a_step() {
    let mut run = Run::new(plain(JoinKind::Left));
    // The row comes with its match: nothing is padded on the way.
    assert_eq!(run.step("+ 7 x", "+ 7 p"), "+ 7 x 7 p");
    // The only match is replaced.
    assert_eq!(run.step("", "- 7 p, + 7 q"), "+ 7 x 7 q, - 7 x 7 p");
    // The row leaves with its match.
    assert_eq!(run.step("- 7 x", "- 7 q"), "- 7 x 7 q");
    // The row comes and leaves again.
    assert_eq!(run.step("+ 7 x, - 7 x", ""), "");
    assert_eq!(run.step("+ 7 x", ""), "+ 7 x NULL NULL");
    assert_eq!(run.step("+ 7 x", "+ 7 p, - 7 p"), "+ 7 x NULL NULL");
    assert_eq!(
        run.step("-2 7 x, + 7 y", "+ 7 p"),
        "+ 7 y 7 p, -2 7 x NULL NULL"
    );
}

#[test]
fn a_residual_decides_by_pair() {
    let mut run = Run::new(with_residual(JoinKind::Left, "a < b"));
    assert_eq!(
        run.step("+ 7 1, + 7 5", "+ 7 3"),
        "+ 7 1 7 3, + 7 5 NULL NULL"
    );
    assert_eq!(
        run.step("", "+ 7 9"),
        "+ 7 1 7 9, + 7 5 7 9, - 7 5 NULL NULL"
    );
    assert_eq!(run.step("", "- 7 3"), "- 7 1 7 3");
    assert_eq!(
        run.step("", "- 7 9"),
        "+ 7 1 NULL NULL, + 7 5 NULL NULL, - 7 1 7 9, - 7 5 7 9"
    );
    assert_eq!(run.step("+ 7 NULL", "+ 7 NULL"), "+ 7 NULL NULL NULL");
}

#[test]
fn a_pair_that_the_residual_fails_on_is_left_out() {
    let mut run = Run::new(with_residual(JoinKind::Left, "10 / (a - b) > 1"));
    let text = run.step("+ 7 5, + 7 6", "+ 7 5");
    assert_eq!(text, "+ 7 5 NULL NULL, + 7 6 7 5");
    let error = &run.out.errors[0];
    assert_eq!(
        (error.reason.as_str(), error.row.as_str()),
        ("division by zero", "7, 5, 7, 5")
    );
    assert_eq!(run.out.counts.rows_failed, 1);
    assert_eq!(run.step("", "- 7 5"), "+ 7 6 NULL NULL, - 7 6 7 5");
    assert_eq!(run.out.errors[0].weight, -1);
}

#[test]
fn without_keys_every_pair_is_looked_at() {
    let spec = with_residual(JoinKind::Inner, "a < b");
    let mut run = Run::new(JoinSpec {
        left_keys: vec![],
        right_keys: vec![],
        ..spec
    });
    assert_eq!(
        run.step("+ 1 1, + 2 5", "+ 3 4, + 4 9"),
        "+ 1 1 3 4, + 1 1 4 9, + 2 5 4 9"
    );
    assert_eq!(
        run.step("- 1 1, - 2 5", "- 3 4, - 4 9"),
        "- 1 1 3 4, - 1 1 4 9, - 2 5 4 9"
    );
    assert_eq!(run.join.rows(), (0, 0));
}

#[test]
fn a_row_that_is_not_there_cannot_leave() {
    let mut join = Join::new(plain(JoinKind::Inner)).unwrap();
    let mut out = Output::default();
    join.push(0, parse("k:bigint a:text\n- 7 x"), &mut out)
        .unwrap();
    let step = Step {
        epoch: Epoch(1),
        clock_micros: 0,
        bounds: vec![Bounds::unknown(2), Bounds::unknown(2)],
    };
    assert!(join.finish(&step, &mut out).is_err());
}

#[test]
fn a_spec_that_contradicts_itself_is_refused() {
    let good = plain(JoinKind::Left);
    let wrong = [
        JoinSpec {
            right_keys: vec![1],
            ..good.clone()
        },
        JoinSpec {
            right_keys: vec![],
            ..good.clone()
        },
        JoinSpec {
            output: good.left.clone(),
            ..good.clone()
        },
        JoinSpec {
            residual: Some(expression("k", &good.left)),
            ..good.clone()
        },
        JoinSpec {
            times: vec![near(Some(0), Some(0))],
            ..good.clone()
        },
        JoinSpec {
            expire: Expire {
                left: Some(0),
                right: None,
            },
            ..good.clone()
        },
    ];
    for spec in wrong {
        assert!(Join::new(spec).is_err());
    }
}

#[test]
fn a_full_join_pads_both_sides_once() {
    let mut run = Run::new(plain(JoinKind::Full));
    assert_eq!(
        run.step("+ 1 x", "+ 2 y"),
        "+ 1 x NULL NULL, + NULL NULL 2 y"
    );
    let expected = "+ 1 x 1 z, - 1 x NULL NULL";
    assert_eq!(run.step("", "+ 1 z"), expected);
    // A row that comes and goes under a key of its own leaves nothing.
    assert_eq!(run.step("+ 2 w, - 2 w", ""), "");
    assert_eq!(run.step("- 1 x", ""), "+ NULL NULL 1 z, - 1 x 1 z");
    assert_eq!(run.step("", "+ NULL n"), "+ NULL NULL NULL n");
    assert_eq!(run.step("", "- NULL n, - 1 z, - 2 y").lines().count(), 1);
    assert_eq!(run.join.rows(), (0, 0));
}

#[test]
fn semi_anti_and_mark_joins_tell_of_the_first_match_and_the_last() {
    let steps = [
        ("+2 1 x, + 2 y", ""),
        ("", "+ 1 a, + 1 b"),
        ("", "- 1 a"),
        ("", "- 1 b"),
        ("- 1 x, + NULL n", "+ 2 c"),
    ];
    let expected = [
        (JoinKind::Semi, ["", "+2 1 x", "", "-2 1 x", "+ 2 y"]),
        (
            JoinKind::Anti,
            [
                "+ 2 y, +2 1 x",
                "-2 1 x",
                "",
                "+2 1 x",
                "+ NULL n, - 1 x, - 2 y",
            ],
        ),
        (
            JoinKind::Mark,
            [
                "+ 2 y false, +2 1 x false",
                "+2 1 x true, -2 1 x false",
                "",
                "+2 1 x false, -2 1 x true",
                "+ 2 y true, + NULL n false, - 1 x false, - 2 y false",
            ],
        ),
    ];
    for (kind, expected) in expected {
        let mut run = Run::new(plain(kind));
        for ((left, right), expected) in steps.iter().zip(expected) {
            assert_eq!(run.step(left, right), expected, "{kind:?}");
        }
    }
}

/// The first columns are near each other.
fn near(least: Option<i64>, greatest: Option<i64>) -> TimeRange {
    TimeRange {
        left: 0,
        right: 0,
        least,
        greatest,
        is_bounded: true,
    }
}

fn windowed(kind: JoinKind) -> Run {
    let spec = spec("t:timestamp a:text", "u:timestamp b:text", kind);
    Run::new(JoinSpec {
        times: vec![near(Some(0), Some(0))],
        expire: Expire {
            left: Some(0),
            right: Some(0),
        },
        ..spec
    })
}

fn at(second: i64) -> Option<EventTime> {
    Some(EventTime(second * 1_000_000))
}

fn bounds(run: &Run) -> (Option<EventTime>, Option<EventTime>) {
    let bounds = run.join.bounds(&run.clock());
    (bounds.0[0], bounds.0[2])
}

const FIRST: &str = "1970-01-01T00:00:10";
const SECOND: &str = "1970-01-01T00:00:20";

#[test]
fn rows_that_time_rules_out_are_freed_and_their_padding_stays() {
    let mut run = windowed(JoinKind::Left);
    let text = run.step(
        &format!("+ {FIRST} x, + {SECOND} y"),
        &format!("+ {SECOND} p"),
    );
    assert_eq!(
        text,
        format!("+ {FIRST} x NULL NULL, + {SECOND} y {SECOND} p")
    );
    assert_eq!(bounds(&run), (None, None));
    run.bounds[1].0[0] = at(15);
    assert_eq!(run.step("", ""), "");
    assert_eq!(run.join.rows(), (1, 1));
    // The left side may still take back what it brought: the right rows are all there.
    assert_eq!(
        run.step(&format!("- {FIRST} x"), ""),
        format!("- {FIRST} x NULL NULL")
    );
    run.bounds[0].0[0] = at(25);
    assert_eq!(run.step("", ""), "");
    assert_eq!(run.join.rows(), (1, 0));
    // What comes out now is late from the right only, and that side is at 15.
    assert_eq!(bounds(&run), (at(20), at(20)));
    let text = run.step("", &format!("- {SECOND} p"));
    assert_eq!(
        text,
        format!("+ {SECOND} y NULL NULL, - {SECOND} y {SECOND} p")
    );
    run.bounds[1].0[0] = at(30);
    run.step("", "");
    assert_eq!(run.join.rows(), (0, 0));
    assert_eq!(bounds(&run), (at(25), at(30)));
}

#[test]
fn bounds_hold_back_what_can_still_come() {
    let mut run = windowed(JoinKind::Inner);
    run.step(&format!("+ {SECOND} y"), "");
    run.bounds[0].0[0] = at(5);
    run.step("", "");
    assert_eq!(bounds(&run), (at(5), at(5)));
    run.bounds[1].0[0] = at(3);
    run.step("", "");
    assert_eq!(bounds(&run), (at(5), at(5)));
    run.bounds[0].0[0] = at(40);
    run.step("", "");
    assert_eq!(bounds(&run), (at(20), at(20)));
}

/// Rows compared and pairs made for one row more, and for its retraction, under a key of `rows`.
fn work_under_a_hot_key(rows: usize) -> (u64, usize) {
    let mut run = Run::new(with_residual(JoinKind::Left, "a = b"));
    let lines: Vec<String> = (0..rows).map(|row| format!("+ 7 {row}")).collect();
    run.step(&lines.join(","), "+ 7 1");
    let before = run.join.rows_compared();
    let text = run.step("+ 7 -1", "");
    let text = text + &run.step("- 7 -1, - 7 5", "");
    assert_eq!(text, "+ 7 -1 NULL NULL- 7 -1 NULL NULL, - 7 5 NULL NULL");
    (run.join.rows_compared() - before, run.join.rows().0)
}

#[test]
fn a_row_costs_the_same_under_a_key_of_many_rows() {
    let (few, kept) = work_under_a_hot_key(100);
    assert_eq!((few, kept), (2, 99));
    assert_eq!(work_under_a_hot_key(50_000), (2, 49_999));
}

#[test]
fn inserting_and_deleting_everything_leaves_nothing() {
    let mut run = Run::new(plain(JoinKind::Left));
    let lines = |sign: &str, each: i64| -> String {
        let line = |row: i64| format!("{sign} {} r{row}", row % each);
        (0..5_000).map(line).collect::<Vec<_>>().join(",")
    };
    run.step(&lines("+", 5_000), &lines("+", 500));
    let full = run.join.state_bytes();
    run.step(&lines("-", 5_000), "");
    assert_eq!(run.join.rows(), (0, 5_000));
    run.step("", &lines("-", 500));
    assert_eq!(run.join.rows(), (0, 0));
    let rest = run.join.state_bytes();
    assert!(rest < full / 50, "{rest} of {full} bytes");
    let changes = run.join.changes(Scope::All).unwrap();
    assert!(changes.iter().all(|change| change.slots.is_empty()));
}

#[test]
fn more_pairs_than_a_batch_come_in_several() {
    let mut run = Run::new(plain(JoinKind::Inner));
    let lines = |name: &str, rows: usize| {
        (0..rows)
            .map(|row| format!("+ 7 {name}{row}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    run.step(&lines("l", 100), "");
    run.step("", &lines("r", 200));
    let sizes: Vec<usize> = run.out.deltas.iter().map(|delta| delta.len()).collect();
    assert_eq!(sizes, [8192, 8192, 3616]);
}
