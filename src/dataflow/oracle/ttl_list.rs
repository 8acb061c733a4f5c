//! Queries with `state_ttl`: groups that leave when no row has come for long, and rows of joins
//! that leave so long after they came.
//!
//! The model knows of keys and clocks only; which operator lets go of what is the engine's alone.
//! A batch is asked the same of the rows that are there.

use datafusion::scalar::ScalarValue;

use crate::dataflow::oracle::query::{Case, query};
use crate::dataflow::oracle::query_list::ranked;

/// Seconds: the clock goes on by as much in a few steps, and not in one.
const TTL: i64 = 20;

pub fn lifetimes() -> Vec<Case> {
    let mut cases = groups();
    cases.extend(rankings());
    cases.extend(joins());
    cases.extend(subqueries());
    cases
}

fn ttl(sql: &str) -> Case {
    query(sql).ttl(TTL)
}

fn groups() -> Vec<Case> {
    vec![
        ttl(
            "SELECT a, count(*) AS n, sum(d) AS x, avg(d) AS y, min(ts) AS z, max(b) AS w \
             FROM {0} GROUP BY a",
        )
        .lives("s", Some(&[0])),
        ttl("SELECT DISTINCT b, e FROM {0}").lives("s", Some(&[1, 4])),
        ttl(
            "SELECT a, b, count(DISTINCT v) AS n, sum(v) AS x, count(v) AS y FROM {0} \
             WHERE v > 0 GROUP BY a, b",
        )
        .lives("r", Some(&[0, 1]))
        .filter(|row| matches!(row[2], ScalarValue::Int64(Some(value)) if value > 0)),
        // A rarer function runs anew over the rows of the group.
        ttl("SELECT b, array_agg(a ORDER BY a) AS x FROM {0} GROUP BY b").lives("r", Some(&[1])),
        ttl("SELECT a, count(*) AS n FROM {0} GROUP BY a HAVING count(*) > 1")
            .lives("p", Some(&[0])),
        // One group for all rows is there for ever.
        ttl(
            "SELECT count(*) AS n, sum(m) AS m FROM (SELECT a, count(*) AS m FROM {0} GROUP BY a) \
             AS q",
        )
        .lives("s", Some(&[0])),
        ttl("SELECT a, count(*) AS n FROM {0} GROUP BY a")
            .lives("s", Some(&[0]))
            .then("SELECT n, count(*) AS m, max(a) AS a FROM v0 GROUP BY n"),
        ttl("SELECT a, b, count(*) AS n FROM s GROUP BY GROUPING SETS ((a), (b))")
            .batch(
                "SELECT a, CASE WHEN false THEN max(b) END AS b, count(*) AS n FROM {0} GROUP BY a \
                 UNION ALL \
                 SELECT CASE WHEN false THEN max(a) END, b, count(*) FROM {1} GROUP BY b",
            )
            .lives("s", Some(&[0]))
            .lives("s", Some(&[1])),
    ]
}

fn rankings() -> Vec<Case> {
    vec![
        // First rows of each key: the same row may be there again when its key has left.
        ttl(
            "SELECT a, b, ts FROM (SELECT a, b, ts, row_number() OVER (PARTITION BY a \
             ORDER BY ts NULLS LAST, b NULLS LAST) AS place FROM {0}) AS q WHERE place = 1",
        )
        .lives("s", Some(&[0])),
        ttl(
            "SELECT b, v, place FROM (SELECT b, v, row_number() OVER (PARTITION BY b \
             ORDER BY v DESC NULLS LAST) AS place FROM {0}) AS q WHERE place <= 2",
        )
        .lives("r", Some(&[1])),
        ttl(
            "SELECT a, v, rank FROM (SELECT a, v, rank() OVER (PARTITION BY a \
             ORDER BY v NULLS FIRST) AS rank FROM {0}) AS q WHERE rank <= 2",
        )
        .lives("p", Some(&[0])),
    ]
}

fn joins() -> Vec<Case> {
    vec![
        ttl("SELECT x.a, x.b, y.v FROM {0} AS x JOIN {1} AS y ON x.a = y.a")
            .lives("s", None)
            .lives("r", None),
        ttl("SELECT x.a, x.ts, y.v FROM {0} AS x LEFT JOIN {1} AS y ON x.b = y.b AND x.a < y.v")
            .lives("s", None)
            .lives("r", None),
        ttl("SELECT x.a, y.a AS z FROM {0} AS x FULL JOIN {1} AS y ON x.b = y.b")
            .lives("s", None)
            .lives("p", None),
        // One bound frees one side only: both are let go by the clock then.
        ttl("SELECT x.a, y.v FROM {0} AS x JOIN {1} AS y \
             ON x.a = y.a AND x.ts >= y.ts - INTERVAL '5 seconds'")
        .lives("s", None)
        .lives("r", None),
        // A table's rows are there as long as they are.
        ttl("SELECT x.a, x.b, t.d FROM {0} AS x LEFT JOIN t ON x.a = t.id").lives("s", None),
        ttl("SELECT t.id, x.v FROM t LEFT JOIN {0} AS x ON x.a = t.a").lives("r", None),
        // What is nearest to a row that leaves goes with it.
        ttl("SELECT x.a, x.ts, y.v FROM {0} AS x ASOF JOIN l AS y ON x.b = y.b AND x.ts > y.ts")
            .batch(&ranked(
                "JOIN",
                "x.b = y.b AND x.ts > y.ts",
                "y.ts DESC NULLS LAST",
                "l",
            ))
            .lives("s", None)
            .keeps(),
        ttl(
            "SELECT x.a, y.n FROM {0} AS x JOIN (SELECT a, count(*) AS n FROM {1} GROUP BY a) AS y \
             ON x.a = y.a",
        )
        .lives("s", None)
        .lives("r", Some(&[0])),
    ]
}

fn subqueries() -> Vec<Case> {
    vec![
        ttl("SELECT a, ts FROM {0} AS x WHERE EXISTS (SELECT 1 FROM {1} AS y WHERE y.b = x.b)")
            .lives("s", None)
            .lives("r", Some(&[1])),
        ttl("SELECT a, b FROM {0} AS x WHERE NOT EXISTS (SELECT 1 FROM {1} AS y WHERE y.b = x.b)")
            .lives("s", None)
            .lives("r", Some(&[1])),
        ttl("SELECT a, b FROM {0} WHERE a = 1 OR b IN (SELECT b FROM {1})")
            .lives("s", None)
            .lives("r", Some(&[1])),
        ttl("SELECT a, b FROM {0} WHERE b NOT IN (SELECT b FROM {1})")
            .lives("s", None)
            .lives("r", None),
    ]
}
