//! Queries for the first rows of each group.
//!
//! Which of several equal rows is taken SQL leaves open, and the views do not: it is the first in
//! the order of the other columns that the view uses. A batch asks for this order in so many words.

use crate::dataflow::oracle::query::{Case, query};

pub fn rankings() -> Vec<Case> {
    let mut cases = ranks();
    cases.extend(limits());
    cases.extend(distinct_on());
    cases.extend(among_others());
    cases.extend(windows());
    cases.extend(closing());
    cases
}

/// The columns of the rows of a relation whose number is within a limit.
fn ranked(columns: &str, rank: &str, relation: &str, limit: &str) -> String {
    format!("SELECT {columns} FROM (SELECT *, {rank} AS place FROM {relation}) AS q WHERE {limit}")
}

fn ranks() -> Vec<Case> {
    let number = "row_number() OVER (PARTITION BY a ORDER BY d DESC, id)";
    vec![
        query(&ranked("id, a, d", number, "t", "place <= 2")),
        query(&ranked("a, place, id", number, "t", "place <= 3")),
        query(&ranked(
            "a, place, id",
            number,
            "t",
            "place = 1 AND id > 3 AND e",
        )),
        query(&ranked("a, id", number, "t", "2 > place OR place = 3")),
        query(&ranked("a, id, place", number, "t", "place IN (1, 3)")),
        query(
            "SELECT id, b, a FROM t \
             QUALIFY row_number() OVER (PARTITION BY b ORDER BY id DESC) < 3",
        ),
        query("SELECT id, rank() OVER (ORDER BY a % 3, id) AS place FROM t QUALIFY place <= 4"),
        query(
            "SELECT b, k, i, place FROM (SELECT b, k, i, row_number() OVER (PARTITION BY b \
               ORDER BY k) AS place FROM u) AS q WHERE place BETWEEN 2 AND 3",
        )
        .batch(
            "SELECT b, k, i, place FROM (SELECT b, k, i, row_number() OVER (PARTITION BY b \
             ORDER BY k, i) AS place FROM u) AS q WHERE place BETWEEN 2 AND 3",
        ),
        query(
            "SELECT b, k FROM (SELECT b, k, row_number() OVER (PARTITION BY b \
               ORDER BY k DESC) AS place FROM u) AS q WHERE place > 2",
        ),
        query(
            "SELECT b, i, place FROM (SELECT b, i, rank() OVER (PARTITION BY b \
               ORDER BY i DESC NULLS LAST) AS place FROM u) AS q WHERE place <= 2",
        ),
        query(
            "SELECT k, place FROM (SELECT k, dense_rank() OVER (ORDER BY k) AS place FROM u) \
               AS q WHERE place < 3",
        ),
        query(
            "SELECT b, k FROM (SELECT b, k, dense_rank() OVER (PARTITION BY b ORDER BY k) \
               AS place FROM u) AS q WHERE place BETWEEN 2 AND 3",
        ),
        query(
            "SELECT b, i, r, n, d FROM (SELECT b, i, rank() OVER (PARTITION BY b ORDER BY i) AS r, \
             row_number() OVER (PARTITION BY b ORDER BY i) AS n, \
             dense_rank() OVER (PARTITION BY b ORDER BY i) AS d FROM u) AS q \
             WHERE r <= 3 AND n > 1",
        ),
        query(
            "SELECT b, i FROM (SELECT b, i, rank() OVER (PARTITION BY b) AS place FROM u) AS q \
               WHERE place = 1",
        ),
        query(
            "SELECT a % 2 AS x, id FROM (SELECT *, row_number() OVER (PARTITION BY a % 2 \
               ORDER BY d + 1 DESC, id) AS place FROM t) AS q WHERE place <= 2",
        ),
        query(&ranked(
            "a, b, ts",
            "row_number() OVER (PARTITION BY a ORDER BY ts DESC, b)",
            "s",
            "place <= 2",
        ))
        .keeps(),
        query(&ranked(
            "a, v, place",
            "rank() OVER (PARTITION BY a ORDER BY v)",
            "r",
            "place <= 2",
        ))
        .keeps(),
        query(&ranked(
            "b, v",
            "dense_rank() OVER (PARTITION BY b ORDER BY v DESC)",
            "r",
            "place <= 2",
        ))
        .keeps(),
        query(&ranked(
            "b, v",
            "row_number() OVER (PARTITION BY b ORDER BY v)",
            "l",
            "place <= 3",
        ))
        .keeps(),
    ]
}

fn limits() -> Vec<Case> {
    vec![
        query("SELECT id, a FROM t ORDER BY id DESC LIMIT 5"),
        query("SELECT id FROM t ORDER BY id LIMIT 3 OFFSET 2"),
        query("SELECT a FROM t ORDER BY id OFFSET 4"),
        query("SELECT a FROM t ORDER BY b NULLS FIRST, id LIMIT 4"),
        query("SELECT b FROM t ORDER BY a + 1 DESC NULLS LAST, id DESC FETCH FIRST 3 ROWS ONLY")
            .batch(
                "SELECT b FROM t WHERE a IS NULL OR a < 9223372036854775807 \
                 ORDER BY a + 1 DESC NULLS LAST, id DESC LIMIT 3",
            )
            .failing("t", |row| {
                matches!(
                    row[1],
                    datafusion::scalar::ScalarValue::Int64(Some(i64::MAX))
                )
            }),
        query("SELECT k, i FROM u ORDER BY k LIMIT 4")
            .batch("SELECT k, i FROM u ORDER BY k, i LIMIT 4"),
        query("SELECT k FROM u LIMIT 3").batch("SELECT k FROM u ORDER BY k LIMIT 3"),
        query("SELECT i, k FROM u ORDER BY i FETCH FIRST 3 ROWS WITH TIES"),
        query("SELECT k FROM u ORDER BY i OFFSET 1 ROW FETCH NEXT 2 ROWS WITH TIES").batch(
            "SELECT k FROM (SELECT k, rank() OVER (ORDER BY i) AS r, \
             row_number() OVER (ORDER BY i, k) AS n FROM u) AS q WHERE r <= 3 AND n > 1",
        ),
        query("SELECT a, v FROM r ORDER BY v DESC, a LIMIT 3").keeps(),
        query(
            "SELECT a, n FROM (SELECT a, count(*) AS n FROM t GROUP BY a) AS q \
               ORDER BY n DESC, a LIMIT 3",
        ),
        query(
            "(SELECT id FROM t ORDER BY id LIMIT 2) UNION ALL \
               (SELECT k FROM u ORDER BY k DESC LIMIT 2)",
        ),
    ]
}

fn distinct_on() -> Vec<Case> {
    vec![
        query("SELECT DISTINCT ON (a) a, id, b FROM t ORDER BY a, id DESC"),
        query("SELECT DISTINCT ON (b, e) id, b FROM t ORDER BY b, e, d, id"),
        query("SELECT DISTINCT ON (a) a, ts FROM s ORDER BY a, ts").keeps(),
        query("SELECT DISTINCT ON (b) b, ts, v FROM l ORDER BY b, ts DESC, v").keeps(),
        query("SELECT DISTINCT ON (a) a, id FROM t ORDER BY a, id LIMIT 2"),
        query("SELECT DISTINCT ON (a) id FROM t ORDER BY a DESC, id LIMIT 2 OFFSET 1"),
    ]
}

fn among_others() -> Vec<Case> {
    vec![
        query("SELECT count(*), sum(id) FROM (SELECT id FROM t ORDER BY id DESC LIMIT 4) AS q"),
        query(
            "SELECT place, count(*), max(id) FROM (SELECT id, row_number() OVER (PARTITION BY a \
             ORDER BY id) AS place FROM t) AS q WHERE place <= 3 GROUP BY place",
        ),
        query(
            "SELECT u.k, q.id FROM u JOIN \
             (SELECT DISTINCT ON (a) a, id FROM t ORDER BY a, id DESC) \
             AS q ON u.k = q.a",
        ),
        query("SELECT id, a FROM t ORDER BY id DESC LIMIT 6")
            .then("SELECT a, count(*) AS n FROM v0 GROUP BY a")
            .then("SELECT a, n FROM v1 ORDER BY n DESC, a LIMIT 2"),
        query(&ranked(
            "a, id, place",
            "row_number() OVER (PARTITION BY a ORDER BY id)",
            "t",
            "place <= 2",
        ))
        .every(),
        query(
            "SELECT a, id FROM (SELECT *, row_number() OVER (PARTITION BY a ORDER BY id) AS place \
             FROM t WHERE ts > now() - INTERVAL '20 seconds') AS q WHERE place = 1",
        ),
        query(&ranked(
            "a, id, ts",
            "row_number() OVER (PARTITION BY a ORDER BY id)",
            "t",
            "place <= 2 AND ts > now() - INTERVAL '20 seconds'",
        )),
    ]
}

const COUNTS: &str = "(SELECT a, window_start, window_end, count(*) AS n FROM {0} \
                      GROUP BY a, window_start, window_end) AS p";

fn of_windows() -> String {
    ranked(
        "a, window_end, n, place",
        "row_number() OVER (PARTITION BY window_start, window_end ORDER BY n DESC, a)",
        COUNTS,
        "place <= 2",
    )
}

fn windows() -> Vec<Case> {
    let rows = |columns: &str, rank: &str| ranked(columns, rank, "{0}", "place <= 2");
    vec![
        query(&of_windows()).tumble("s", 10),
        query(&of_windows()).hop("s", 5, 15),
        query(&of_windows()).tumble("l", 10).lateness(8),
        query(&of_windows()).session("s", "a", &[0], 5),
        query(&rows(
            "a, b, window_end, place",
            "rank() OVER (PARTITION BY window_start, window_end, b ORDER BY a)",
        ))
        .tumble("s", 10),
        query(&rows(
            "b, v, window_end",
            "row_number() OVER (PARTITION BY window_end ORDER BY v DESC, b)",
        ))
        .cumulate("r", 5, 15),
        query(&rows(
            "b, v, window_start",
            "dense_rank() OVER (PARTITION BY window_start, b ORDER BY v)",
        ))
        .hop("l", 5, 10),
    ]
}

fn closing() -> Vec<Case> {
    let rows = |columns: &str, rank: &str| ranked(columns, rank, "{0}", "place <= 2");
    let first = |order: &str, limit: &str| {
        ranked(
            "a, b, ts",
            &format!("row_number() OVER (PARTITION BY a ORDER BY {order})"),
            "{0}",
            limit,
        )
    };
    vec![
        query(&of_windows()).tumble("s", 10).closes(1),
        query(&of_windows()).hop("s", 5, 15).closes(1),
        query(&of_windows()).tumble("l", 10).closes(1),
        query(&of_windows())
            .tumble("l", 10)
            .lateness(8)
            .closes_behind(1, 8),
        query(&of_windows())
            .session("s", "a", &[0], 5)
            .closes_or_later(1),
        query(&rows(
            "a, b, window_end, place",
            "rank() OVER (PARTITION BY window_start, window_end, b ORDER BY a)",
        ))
        .tumble("s", 10)
        .closes(2),
        query(&rows(
            "b, v, window_end",
            "row_number() OVER (PARTITION BY window_end ORDER BY v DESC, b)",
        ))
        .cumulate("r", 5, 15)
        .closes(2),
        query(&rows(
            "b, v, window_end",
            "dense_rank() OVER (PARTITION BY window_start, window_end, b ORDER BY v)",
        ))
        .hop("l", 5, 10)
        .closes(2),
        // Each window's best, and the best of these.
        query(&ranked(
            "a, window_end, n",
            "row_number() OVER (PARTITION BY window_end ORDER BY n DESC, a)",
            &format!("({}) AS w", of_windows().replace("n, place", "n")),
            "place <= 2",
        ))
        .tumble("s", 10)
        .closes(1),
        query(&of_windows())
            .hop("s", 5, 10)
            .closes(1)
            .then("SELECT window_end, max(n), count(*) FROM v0 GROUP BY window_end")
            .closes(0),
        query(&of_windows())
            .tumble("s", 5)
            .closes(1)
            .then(
                "SELECT x.window_end, x.a, x.c FROM (SELECT a, window_end, c, row_number() OVER \
                 (PARTITION BY window_end ORDER BY c DESC, a) AS place FROM \
                 (SELECT a, window_end, count(*) AS c FROM v0 GROUP BY a, window_end) AS p) AS x \
                 WHERE place <= 2",
            )
            .closes(0),
        // The first rows by time are final when no earlier one can come.
        query(&first("ts, b", "place = 1"))
            .timed("s")
            .closes_after(2)
            .keeps(),
        query(&first("ts, b", "place <= 3"))
            .timed("l")
            .closes_after(2)
            .keeps(),
        query("SELECT DISTINCT ON (b) b, ts, v FROM {0} ORDER BY b, ts, v")
            .timed("r")
            .closes_after(1)
            .keeps(),
    ]
}
