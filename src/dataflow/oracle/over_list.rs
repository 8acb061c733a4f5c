//! Queries for window functions.
//!
//! Which of several equal rows comes first SQL leaves open, and the views do not: where it matters
//! the order names columns that tell all rows apart, but for those that are equal in all.

use crate::dataflow::oracle::query::{Case, query};

pub fn window_functions() -> Vec<Case> {
    let mut cases = places();
    cases.extend(aggregates());
    cases.extend(frames());
    cases.extend(values());
    cases.extend(among_others());
    cases.extend(windows());
    cases.extend(closing());
    cases
}

fn places() -> Vec<Case> {
    vec![
        query("SELECT id, a, row_number() OVER (PARTITION BY a ORDER BY d DESC, id) AS x FROM t"),
        query(
            "SELECT id, rank() OVER (ORDER BY a) AS x, dense_rank() OVER (ORDER BY a) AS y, \
             percent_rank() OVER (ORDER BY a) AS z, cume_dist() OVER (ORDER BY a) AS w FROM t",
        ),
        query("SELECT id, ntile(3) OVER (PARTITION BY e ORDER BY id DESC) AS x FROM t"),
        query("SELECT k, b, row_number() OVER (PARTITION BY b ORDER BY k) AS x FROM u"),
        query(
            "SELECT k, i, row_number() OVER (ORDER BY k, i) AS x, \
             cume_dist() OVER (PARTITION BY k ORDER BY i DESC NULLS LAST) AS y FROM u",
        ),
        query(
            "SELECT id, place FROM (SELECT id, row_number() OVER (PARTITION BY a ORDER BY id) \
             AS place FROM t) AS q WHERE place > 2",
        ),
        query(
            "SELECT id, r FROM (SELECT id, rank() OVER (ORDER BY a) AS r, \
             row_number() OVER (PARTITION BY a ORDER BY id) AS n FROM t) AS q WHERE r % 2 = n % 2",
        ),
        query("SELECT id, row_number() OVER (PARTITION BY a % 2 ORDER BY d + 1, id) AS x FROM t"),
        query("SELECT id FROM t QUALIFY count(*) OVER (PARTITION BY a) > 1"),
    ]
}

fn aggregates() -> Vec<Case> {
    vec![
        query(
            "SELECT id, sum(a) OVER w AS s, count(a) OVER w AS n, avg(d) OVER w AS v FROM t \
             WINDOW w AS (PARTITION BY e ORDER BY id)",
        ),
        query(
            "SELECT id, sum(c) OVER (PARTITION BY a) AS s, max(b) OVER (PARTITION BY a) AS m, \
             min(id) OVER (PARTITION BY a) AS i FROM t",
        ),
        query("SELECT id, count(*) OVER () AS n, sum(d) OVER () AS s, max(ts) OVER () AS m FROM t"),
        query(
            "SELECT k, sum(i) OVER (ORDER BY k) AS s, avg(c) OVER (ORDER BY k) AS v, \
             max(i) OVER (ORDER BY k DESC) AS m FROM u",
        ),
        query(
            "SELECT id, bool_and(e) OVER (PARTITION BY a ORDER BY id) AS x, \
             bool_or(e) OVER (PARTITION BY a ORDER BY id) AS y FROM t",
        ),
        query(
            "SELECT id, sum(a) FILTER (WHERE e) OVER (PARTITION BY b ORDER BY id) AS s, \
             count(*) FILTER (WHERE a > 1) OVER (PARTITION BY b) AS n FROM t",
        ),
        query(
            "SELECT id, string_agg(b, '/') OVER (PARTITION BY a ORDER BY id) AS s, \
             array_agg(a) OVER (PARTITION BY e ORDER BY id ROWS 2 PRECEDING) AS l FROM t",
        ),
        query("SELECT k, count(DISTINCT i) OVER (PARTITION BY b ORDER BY k) AS n FROM u"),
        query("SELECT a, v, sum(v) OVER (PARTITION BY b ORDER BY ts, v, a) AS s FROM {0}")
            .timed("r")
            .keeps(),
    ]
}

fn frames() -> Vec<Case> {
    let over = |frame: &str| {
        query(&format!(
            "SELECT id, sum(d) OVER w AS s, count(*) OVER w AS n, min(c) OVER w AS m, \
             first_value(id) OVER w AS f, last_value(id) OVER w AS l FROM t \
             WINDOW w AS (PARTITION BY e ORDER BY id {frame})"
        ))
    };
    // Where a value has none so far from it, the library counts NULLs as well.
    let by_value = |order: &str, frame: &str| {
        query(&format!(
            "SELECT k, i, count(*) OVER w AS n, sum(i) OVER w AS s FROM (SELECT * FROM u \
             WHERE coalesce(i, 0) BETWEEN -9 AND 9) AS q WINDOW w AS (PARTITION BY b ORDER BY \
              {order} {frame})"
        ))
    };
    vec![
        over("ROWS BETWEEN 2 PRECEDING AND CURRENT ROW"),
        over("ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING"),
        over("ROWS BETWEEN 1 FOLLOWING AND 2 FOLLOWING"),
        over("ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING"),
        over("ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING"),
        over("ROWS BETWEEN 1 PRECEDING AND UNBOUNDED FOLLOWING"),
        over("ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING"),
        over("RANGE BETWEEN 2 PRECEDING AND 1 FOLLOWING"),
        over("GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING"),
        by_value("i", "RANGE BETWEEN 1 PRECEDING AND CURRENT ROW"),
        by_value(
            "i DESC NULLS LAST",
            "RANGE BETWEEN 2 PRECEDING AND 1 PRECEDING",
        ),
        by_value("i NULLS FIRST", "RANGE BETWEEN CURRENT ROW AND 1 FOLLOWING"),
        by_value("i", "RANGE BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING"),
        by_value("i", "RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING"),
        by_value("k, i", "RANGE BETWEEN CURRENT ROW AND CURRENT ROW"),
        by_value("i", "GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW"),
        by_value("i DESC", "GROUPS BETWEEN 1 FOLLOWING AND 2 FOLLOWING"),
        by_value("i, k", "GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"),
        by_value(
            "ts",
            "RANGE BETWEEN INTERVAL '3 seconds' PRECEDING AND CURRENT ROW",
        ),
        query(
            "SELECT id, count(*) OVER (ORDER BY ts RANGE BETWEEN INTERVAL '4 seconds' PRECEDING \
             AND INTERVAL '2 seconds' FOLLOWING) AS n FROM t",
        ),
    ]
}

fn values() -> Vec<Case> {
    vec![
        query(
            "SELECT id, a - lag(a) OVER w AS x, lead(b, 2, 'none') OVER w AS y, \
             lag(c, 3) OVER w AS z FROM t WHERE a BETWEEN -9 AND 9 \
             WINDOW w AS (PARTITION BY e ORDER BY id)",
        ),
        query(
            "SELECT id, lag(a, 0) OVER w AS x, lag(a, -1) OVER w AS y, lead(a, 100, 7) OVER w AS z \
             FROM t WINDOW w AS (ORDER BY id DESC)",
        ),
        query("SELECT id, lag(b) IGNORE NULLS OVER (PARTITION BY e ORDER BY id) AS x FROM t"),
        query("SELECT k, i, lag(i) OVER (PARTITION BY b ORDER BY k, i) AS x FROM u"),
        query(
            "SELECT id, nth_value(b, 2) OVER w AS x, first_value(a) OVER w AS y, \
             last_value(c) OVER w AS z FROM t WINDOW w AS (PARTITION BY a ORDER BY id)",
        ),
        query(
            "SELECT id, first_value(b) IGNORE NULLS OVER w AS x, \
             last_value(a) RESPECT NULLS OVER w AS y FROM t \
             WINDOW w AS (PARTITION BY e ORDER BY id ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING)",
        ),
        query(
            "SELECT a, ts, lag(ts) OVER (PARTITION BY a ORDER BY ts, b) AS x FROM \
         {0}",
        )
        .timed("s")
        .keeps(),
        query(
            "SELECT b, ts, v, count(*) OVER w AS n, max(v) OVER w AS m, first_value(v) OVER w \
         AS f FROM {0} WINDOW w AS (PARTITION BY b ORDER BY ts, v)",
        )
        .timed("l")
        .keeps(),
        query(
            "SELECT b, ts, sum(v) OVER (PARTITION BY b ORDER BY ts RANGE BETWEEN INTERVAL '3 \
         seconds' PRECEDING AND INTERVAL '1 second' FOLLOWING) AS s FROM {0}",
        )
        .timed("r")
        .keeps(),
        query("SELECT b, ts, v, lead(v) OVER (PARTITION BY b ORDER BY ts, v) AS n FROM r").keeps(),
    ]
}

fn among_others() -> Vec<Case> {
    vec![
        // Of what is aggregated, and aggregated again.
        query(
            "SELECT a, sum(n) OVER (ORDER BY a) AS s FROM (SELECT a, count(*) AS n FROM t \
             GROUP BY a) AS g",
        ),
        query(
            "SELECT a, max(x) AS m FROM (SELECT a, row_number() OVER (PARTITION BY e ORDER BY id) \
             AS x FROM t) AS q GROUP BY a",
        ),
        // A running total of running totals.
        query(
            "SELECT id, sum(x) OVER (ORDER BY id) AS y FROM (SELECT id, count(*) OVER \
             (PARTITION BY a ORDER BY id) AS x FROM t) AS q",
        ),
        query(
            "SELECT id, x FROM (SELECT id, sum(id) OVER (PARTITION BY a) AS x FROM t) AS q \
               WHERE x IN (SELECT k FROM u)",
        ),
        query(
            "SELECT q.id, q.x, u.k FROM (SELECT id, a, rank() OVER (PARTITION BY e ORDER BY a) AS \
             x \
             FROM t) AS q JOIN u ON u.k = q.a",
        ),
        query("SELECT id, count(*) OVER (PARTITION BY a ORDER BY id) AS x FROM t")
            .then("SELECT x, count(*) AS n FROM v0 GROUP BY x"),
        query(
            "SELECT id, x, y FROM (SELECT id, sum(id) OVER (PARTITION BY a ORDER BY id) AS x, \
             row_number() OVER (PARTITION BY a ORDER BY id) AS y FROM t) AS q WHERE y <= 2",
        ),
        query("SELECT id, count(*) OVER (PARTITION BY e ORDER BY id) AS x FROM t").every(),
    ]
}

fn windows() -> Vec<Case> {
    let over = |window: &str| {
        format!(
            "SELECT a, v, window_end, sum(v) OVER w AS s, lag(v) OVER w AS g FROM {{0}} WINDOW w \
             AS \
             (PARTITION BY window_start, window_end{window} ORDER BY a, v, ts, b)"
        )
    };
    vec![
        query(&over("")).tumble("r", 10),
        query(&over(", b")).hop("l", 5, 10),
        query(&over("")).tumble("r", 10).closes(2),
        query(&over(", b")).hop("l", 5, 10).closes(2),
        query(
            "SELECT b, window_end, n, n - lag(n) OVER (PARTITION BY b ORDER BY window_end) AS d \
             FROM (SELECT b, window_start, window_end, count(*) AS n FROM {0} \
             GROUP BY b, window_start, window_end) AS c",
        )
        .tumble("s", 5)
        .closes(1)
        .keeps(),
    ]
}

fn closing() -> Vec<Case> {
    let over = |columns: &str, window: &str| {
        query(&format!(
            "SELECT a, b, ts, {columns} FROM {{0}} WINDOW w AS ({window})"
        ))
    };
    vec![
        over(
            "row_number() OVER w AS x, lag(v) OVER w AS y",
            "PARTITION BY b ORDER BY ts, a, v",
        )
        .timed("r")
        .closes_after(2)
        .keeps(),
        over(
            "sum(v) OVER w AS x, max(v) OVER w AS y, count(*) OVER w AS z",
            "ORDER BY ts",
        )
        .timed("l")
        .closes_after(2)
        .keeps(),
        over(
            "count(*) OVER w AS x, first_value(v) OVER w AS y",
            "PARTITION BY a ORDER BY ts, b, v ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
        )
        .timed("r")
        .closes_after(2)
        .keeps(),
        over(
            "sum(v) OVER w AS x, min(v) OVER w AS y",
            "PARTITION BY b ORDER BY ts RANGE BETWEEN INTERVAL '5 seconds' PRECEDING AND CURRENT \
             ROW",
        )
        .timed("r")
        .closes_after(2)
        .keeps(),
        over(
            "count(*) OVER w AS x",
            "PARTITION BY b ORDER BY ts RANGE BETWEEN INTERVAL '2 seconds' PRECEDING AND \
             INTERVAL '3 seconds' FOLLOWING",
        )
        .timed("l")
        .closes_after_seconds(2, 3)
        .keeps(),
    ]
}
