//! Queries whose rows come and go by the clock, and views whose rows leave by their age.
//!
//! A batch asks for the clock in the same words: it stands in a table of one row there. What is a
//! condition on it and what is moved where is the engine's alone.

use datafusion::scalar::ScalarValue;

use crate::dataflow::oracle::model::Cut;
use crate::dataflow::oracle::query::{Case, query};
use crate::plan::RetentionMode::{Forget, Retract};

pub fn temporal() -> Vec<Case> {
    let mut cases = conditions();
    cases.extend(above_and_below());
    cases.extend(windows());
    cases.extend(retention());
    cases.extend(processing());
    cases
}

fn conditions() -> Vec<Case> {
    vec![
        query("SELECT id, a FROM t WHERE ts > now() - INTERVAL '20 seconds'"),
        query("SELECT k, b FROM u WHERE ts <= now()"),
        query("SELECT id FROM t WHERE now() BETWEEN ts AND ts + INTERVAL '15 seconds' AND a > 0"),
        query(
            "SELECT id, b FROM t WHERE now() >= ts - INTERVAL '5 seconds' \
             AND ts + INTERVAL '10 seconds' > current_timestamp \
             AND NOT ts < now() - INTERVAL '8 seconds'",
        ),
        query("SELECT a, b, ts FROM l WHERE ts >= now() - INTERVAL '20 seconds'"),
        query("SELECT a, b FROM s WHERE e AND ts > now() - INTERVAL '20 seconds' AND ts < now()"),
        query("SELECT id FROM t WHERE now() - ts < INTERVAL '20 seconds'"),
        query("SELECT k FROM u WHERE ts - now() <= INTERVAL '-5 seconds'"),
        query("SELECT id FROM t WHERE date_trunc('minute', ts) + INTERVAL '1 minute' > now()"),
        query("SELECT id, a + 1 AS x FROM t WHERE now() > '1970-01-01 00:00:30+00' AND a < 9"),
        query("SELECT k FROM u WHERE ts + INTERVAL '1 month' >= now() AND ts < now()"),
    ]
}

fn above_and_below() -> Vec<Case> {
    vec![
        query(
            "SELECT a, count(*), sum(d), min(ts) FROM t \
             WHERE ts > now() - INTERVAL '20 seconds' GROUP BY a",
        ),
        query("SELECT count(*) FROM s WHERE ts >= now() - INTERVAL '30 seconds'"),
        query("SELECT DISTINCT a FROM t WHERE ts > now() - INTERVAL '20 seconds'"),
        query(
            "SELECT t.id, u.b FROM t JOIN u ON t.a = u.k \
             WHERE t.ts > now() - INTERVAL '20 seconds' AND u.ts > now() - INTERVAL '40 seconds'",
        ),
        query(
            "SELECT s.a, t.b FROM s LEFT JOIN t ON s.a = t.id \
             WHERE s.ts > now() - INTERVAL '20 seconds'",
        ),
        query(
            "SELECT t.id, u.i FROM t JOIN u ON t.a = u.k \
             AND now() < t.ts + u.i % 100 * INTERVAL '10 seconds'",
        ),
        query(
            "SELECT a, max(ts) AS last FROM t GROUP BY a \
             HAVING max(ts) > now() - INTERVAL '20 seconds'",
        ),
        query(
            "SELECT id AS x FROM t WHERE ts > now() - INTERVAL '10 seconds' \
             UNION ALL SELECT k FROM u WHERE ts <= now()",
        ),
        query("SELECT id, a, ts FROM t WHERE ts > now() - INTERVAL '30 seconds'")
            .then("SELECT a, count(*) AS n, max(ts) AS last FROM v0 GROUP BY a")
            .then("SELECT a, n FROM v1 WHERE last <= now()"),
    ]
}

fn windows() -> Vec<Case> {
    vec![
        query(
            "SELECT a, window_end, count(*) AS n FROM {0} \
             WHERE ts > now() - INTERVAL '30 seconds' GROUP BY a, window_end",
        )
        .tumble("s", 10),
        query("SELECT a, b, window_end FROM {0} WHERE window_end > now() - INTERVAL '40 seconds'")
            .hop("s", 5, 10),
        query(
            "SELECT a, window_end, count(*) AS n, sum(a), avg(d) FROM {0} \
             WHERE ts > now() - INTERVAL '30 seconds' GROUP BY a, window_end",
        )
        .hop("s", 5, 20),
        query(
            "SELECT window_end, max(a) AS a, count(*) AS n FROM {0} WHERE ts <= now() \
             GROUP BY window_end",
        )
        .hop("s", 2, 10)
        .keeps(),
        query(
            "SELECT b, window_end, count(*) AS n FROM {0} \
             WHERE ts > now() - INTERVAL '30 seconds' GROUP BY b, window_end",
        )
        .hop("l", 5, 20),
        query(
            "SELECT a, window_start, window_end, count(*) AS n FROM {0} \
             WHERE window_end <= now() GROUP BY a, window_start, window_end",
        )
        .tumble("r", 10),
        // The condition stands below the window, on a column that the window's rows do not have.
        query("SELECT window_end, count(*) AS n FROM {0} GROUP BY window_end")
            .window(
                "TUMBLE((SELECT a, ts FROM (SELECT a, e, ts, ts + INTERVAL '30 seconds' AS ends \
                 FROM s) AS q WHERE e AND ends > now()), ts, INTERVAL '10 seconds')",
                "s",
                [10, 10, 0],
            )
            .filter(|row| row[4] == ScalarValue::from(true))
            .batch(
                "SELECT window_end, count(*) AS n FROM {0} \
                 WHERE ts > now() - INTERVAL '30 seconds' GROUP BY window_end",
            ),
        query(
            "SELECT a, window_start, window_end, count(*) AS n FROM {0} \
             WHERE window_end > now() - INTERVAL '60 seconds' GROUP BY a, window_start, window_end",
        )
        .session("s", "a", &[0], 5),
        query(
            "SELECT a, window_end, count(*) AS n FROM {0} \
             WHERE window_end > now() - INTERVAL '60 seconds' GROUP BY a, window_end",
        )
        .tumble("l", 10)
        .lateness(5)
        .then("SELECT window_end, sum(n) AS n FROM v0 GROUP BY window_end"),
    ]
}

fn retention() -> Vec<Case> {
    let per_window = "SELECT a, window_end, count(*) AS n FROM {0} GROUP BY a, window_end";
    let above = "SELECT window_end, count(*) AS keys, sum(n) AS n FROM v0 GROUP BY window_end";
    vec![
        query(per_window)
            .tumble("s", 10)
            .retention(1, 30, Retract)
            .then(above),
        query(per_window)
            .tumble("s", 10)
            .retention(1, 30, Forget)
            .then(above),
        query(per_window)
            .hop("l", 5, 10)
            .lateness(0)
            .closes(1)
            .retention(1, 20, Retract)
            .then("SELECT count(*) AS n FROM v0"),
        query("SELECT a, b, window_start, window_end FROM {0} WHERE v > 0")
            .hop("r", 5, 20)
            .filter(|row| matches!(row[2], ScalarValue::Int64(Some(v)) if v > 0))
            .closes(3)
            .retention(3, 15, Retract),
        query("SELECT a, b, window_end FROM {0}")
            .tumble("r", 10)
            .retention(2, 25, Forget)
            .keeps(),
        query("SELECT a, b, ts FROM s")
            .retention_of_events(2, 15, Retract)
            .then("SELECT a, count(*) AS n FROM v0 GROUP BY a")
            .keeps(),
        query("SELECT ts, a + 1 AS x FROM r WHERE a < 4")
            .retention_of_events(0, 40, Forget)
            .keeps(),
    ]
}

/// Windows over processing time: the rows of `p` have the clock of the step that takes them.
fn processing() -> Vec<Case> {
    let tumble = |sql: &str| {
        let window = "TUMBLE(p, pt, INTERVAL '10 seconds')";
        query(sql).window(window, "p", [10, 10, 0]).by_clock()
    };
    let hop = |sql: &str| {
        let window = "HOP(p, pt, INTERVAL '5 seconds', INTERVAL '20 seconds')";
        query(sql).window(window, "p", [5, 20, 0]).by_clock()
    };
    let session = |sql: &str| {
        let gap = 5_000_000;
        let window = "SESSION(p PARTITION BY a, pt, INTERVAL '5 seconds')";
        let keys: &[usize] = &[0];
        query(sql)
            .cut(window, "p", Cut::Session { gap, keys })
            .by_clock()
    };
    let per_key = "SELECT a, window_start, window_end, count(*) AS n, sum(v) AS total, \
                   max(ts) AS last FROM {0} GROUP BY a, window_start, window_end";
    vec![
        tumble(per_key),
        tumble(per_key).closes(2),
        tumble("SELECT a, b, pt, window_end FROM {0} WHERE v > 0").closes(3),
        hop(per_key),
        hop(per_key).closes(2),
        session(per_key),
        session(per_key).closes_or_later(2),
        session("SELECT a, b, v, pt, window_end FROM {0}"),
        tumble("SELECT a, window_end, count(*) AS n FROM {0} GROUP BY a, window_end")
            .then("SELECT window_end, sum(n) AS n FROM v0 GROUP BY window_end")
            .closes(0),
        tumble("SELECT window_end, count(*) AS n FROM {0} GROUP BY window_end")
            .closes(0)
            .then("SELECT count(*) AS windows, sum(n) AS n FROM v0"),
    ]
}
