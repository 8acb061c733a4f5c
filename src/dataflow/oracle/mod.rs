//! The oracle: whatever comes in, however it is cut, a view is what its query says.
//!
//! ```text
//!   script: rows in sequence ──┬─► cut into steps, batches ─► Dataflow × workers ─► Store ─┐
//!   (insert, update, delete,   │     restarts and crashes between                          ├─
//! equal?
//!    late, ahead, idle)        └─► model: watermarks, late rows, windows ─► batch SQL ─────┘
//! ```
//!
//! The model decides by itself, over plain rows in sequence, what the watermark was before each of
//! them, which windows hold it and whether it is late for them: nothing of it is the engine's, and
//! the engine's counters and late rows are compared with it. The rest of the query is answered by
//! DataFusion, over tables of the rows that the model keeps.
//!
//! A failure names the seed, the query and the step. `TIDEMILL_ORACLE_ROUNDS=n` runs n seeds of
//! every query in place of one, `TIDEMILL_ORACLE_SEED=n` begins at another one; a seed that has
//! failed becomes a line of [`FOUND`].
//!
//! Reading order: `relation` (what there is to query), `query` (what is asked), `script` (what
//! happens), `model` (what it means), `answer` (what SQL makes of it), `engine` (what ours does),
//! `trial` (that both agree). `generated` asks the same of queries that a `grammar` makes.

pub(super) mod answer;
mod engine;
mod generated;
// The tests of servers use what is not used here.
#[allow(dead_code, unused_imports)]
mod grammar;
mod grouping_list;
mod model;
mod over_list;
mod query;
mod query_list;
pub(super) mod relation;
mod script;
mod subquery_list;
mod temporal_list;
mod top_list;
mod trial;
mod ttl_list;

use crate::dataflow::oracle::relation::World;
use crate::dataflow::oracle::trial::{
    Trial, agree_on_many_rows, agree_under_all_cuts, agrees_on_bad_values, agrees_when_made_late,
};

/// Seeds that once failed, by a part of the query that is enough to find it.
const FOUND: &[(&str, u64)] = &[];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Runs to the end of everything, so that one run shows all that is wrong; panics count as one.
fn failures(attempt: impl FnOnce() -> usize) -> usize {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt)).unwrap_or(1)
}

fn run_naming(trial: &Trial<'_>, seed: u64) -> usize {
    trial.run(seed);
    0
}

#[test]
fn a_view_is_what_its_query_says() {
    let world = World::new();
    let first = number("TIDEMILL_ORACLE_SEED", 1);
    let rounds = number("TIDEMILL_ORACLE_ROUNDS", 1);
    let only = std::env::var("TIDEMILL_ORACLE_QUERY").unwrap_or_default();
    let mut failed = 0;
    for case in query_list::cases()
        .iter()
        .filter(|case| case.name().contains(&only))
    {
        failed += failures(|| {
            let trial = Trial::new(&world, case);
            (first..first + rounds)
                .map(|seed| failures(|| run_naming(&trial, seed)))
                .sum()
        });
    }
    assert_eq!(failed, 0, "what failed stands above");
}

#[test]
fn what_has_failed_once_does_not_fail_again() {
    let world = World::new();
    for (part, seed) in FOUND {
        let cases = query_list::cases();
        let mut found = cases
            .iter()
            .filter(|case| case.name().contains(part))
            .peekable();
        assert!(found.peek().is_some(), "no query has {part:?} in it");
        found.for_each(|case| Trial::new(&world, case).run(*seed));
    }
}

#[test]
fn one_sequence_has_one_result_however_it_is_cut() {
    let world = World::new();
    let first = number("TIDEMILL_ORACLE_SEED", 1);
    for (case, seed) in query_list::cases().iter().zip(first..) {
        agree_under_all_cuts(&Trial::new(&world, case), seed);
    }
}

#[test]
fn bad_values_are_left_out_by_those_who_read_them() {
    let world = World::new();
    let first = number("TIDEMILL_ORACLE_SEED", 1);
    let rounds = number("TIDEMILL_ORACLE_ROUNDS", 1);
    for case in query_list::cases() {
        let trial = Trial::new(&world, &case);
        (first..first + rounds).for_each(|seed| agrees_on_bad_values(&trial, seed));
    }
}

/// So many rows in a step that its workers are threads.
#[test]
fn workers_on_threads_have_the_same_result() {
    let world = World::new();
    for part in [
        "SELECT k, sum(c) AS x, avg(c) AS y, count(c) AS z FROM u GROUP BY k",
        "SELECT a, window_start, window_end, count(*), count(DISTINCT b) FROM HOP(s",
        "SELECT b, window_end, count(*), sum(v), avg(v), count(v) FROM HOP(l",
        "SELECT x.window_end, x.n, y.m \
         FROM (SELECT window_start, window_end, count(*) AS n FROM TUMBLE",
    ] {
        let cases = query_list::cases();
        let case = cases
            .iter()
            .find(|case| case.name().contains(part))
            .expect("a listed query");
        agree_on_many_rows(&Trial::new(&world, case), 1);
    }
}

#[test]
fn a_view_made_late_is_what_it_would_have_been() {
    let world = World::new();
    let first = number("TIDEMILL_ORACLE_SEED", 1);
    for (case, seed) in query_list::cases().iter().zip(first..) {
        agrees_when_made_late(&Trial::new(&world, case), seed);
    }
}
