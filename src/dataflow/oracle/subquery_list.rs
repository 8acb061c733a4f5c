//! Queries with the joins that are not equi-joins of pairs: full, cross and by any condition; and
//! with subqueries and set operations, which become semi, anti and mark joins.

use crate::dataflow::oracle::query::{Case, query};

pub(super) fn subqueries() -> Vec<Case> {
    let ends = "x.window_start = y.window_start AND x.window_end = y.window_end";
    let mut cases: Vec<Case> = JOINS
        .iter()
        .chain(&SUBQUERIES)
        .map(|sql| query(sql))
        .collect();
    cases.extend([
        query("SELECT s.a, s.b FROM s WHERE s.a IN (SELECT a FROM t)").keeps(),
        query("SELECT s.a, s.v FROM l AS s WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.k = s.a)")
            .keeps(),
        query(&format!(
            "SELECT x.a, x.window_end FROM {{0}} AS x \
             WHERE EXISTS (SELECT 1 FROM {{1}} AS y WHERE x.a = y.a AND {ends})"
        ))
        .tumble("s", 10)
        .tumble("r", 10),
        query(&format!(
            "SELECT x.a, x.window_end FROM {{0}} AS x \
             WHERE NOT EXISTS (SELECT 1 FROM {{1}} AS y WHERE x.a = y.a AND {ends})"
        ))
        .tumble("s", 10)
        .tumble("r", 10)
        .closes(1),
        query(&format!(
            "SELECT x.window_end, x.n, y.m FROM \
                (SELECT window_start, window_end, count(*) AS n FROM {{0}} \
                 GROUP BY window_start, window_end) AS x FULL JOIN \
                (SELECT window_start, window_end, max(v) AS m FROM {{1}} \
                 GROUP BY window_start, window_end) AS y ON {ends}"
        ))
        .tumble("s", 10)
        .tumble("r", 10),
        query("SELECT window_end, b FROM {0} EXCEPT ALL SELECT window_end, b FROM {1}")
            .tumble("s", 10)
            .tumble("r", 10),
        query("SELECT window_end, b FROM {0} INTERSECT ALL SELECT window_end, b FROM {1}")
            .tumble("s", 10)
            .tumble("r", 10)
            .closes(0),
    ]);
    cases
}

const JOINS: [&str; 11] = [
    "SELECT t.id, t.a, u.k, u.b AS ub FROM t FULL JOIN u ON t.a = u.k",
    "SELECT t.id, u.k FROM t FULL JOIN u ON t.a = u.k AND t.d < u.d",
    "SELECT x.id, y.id AS other FROM t AS x FULL JOIN t AS y ON x.a = y.id",
    "SELECT coalesce(x.b, y.b) AS b, n, m FROM (SELECT b, count(*) AS n FROM t GROUP BY b) AS x \
     FULL JOIN (SELECT b, count(*) AS m FROM u GROUP BY b) AS y ON x.b = y.b",
    "SELECT x.b, y.b AS yb, x.n, y.m FROM (SELECT b, count(*) AS n FROM t GROUP BY b) AS x \
     FULL JOIN (SELECT b, count(*) AS m FROM u GROUP BY b) AS y ON x.b = y.b",
    "SELECT x.m, y.m AS n FROM (SELECT max(a) AS m FROM t) AS x \
     FULL JOIN (SELECT max(k) AS m FROM u) AS y ON x.m = y.m",
    "SELECT t.id, u.k FROM t CROSS JOIN u",
    "SELECT t.id, u.k FROM t JOIN u ON t.d < u.i",
    "SELECT t.id, u.k FROM t LEFT JOIN u ON t.d < u.i AND t.e",
    "SELECT t.id, u.k FROM t FULL JOIN u ON t.a > u.k / 2",
    "SELECT count(*), sum(t.a) FROM t NATURAL JOIN (SELECT b, c FROM u) AS v",
];

const SUBQUERIES: [&str; 25] = [
    "SELECT id, a FROM t WHERE a IN (SELECT k FROM u)",
    "SELECT id, a FROM t WHERE a IN (SELECT k FROM u WHERE i > 0) AND e",
    "SELECT id FROM t WHERE a NOT IN (SELECT k FROM u)",
    "SELECT id FROM t WHERE a NOT IN (SELECT k FROM u WHERE k IS NOT NULL)",
    "SELECT k FROM u WHERE k NOT IN (SELECT id FROM t)",
    "SELECT k, b FROM u WHERE k NOT IN (SELECT a FROM t WHERE e)",
    "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.k = t.a AND u.i < t.d)",
    "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.b = t.b AND u.i > 1)",
    "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.k = t.a)",
    "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.k = t.a AND u.d > t.d)",
    "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE i > 3)",
    "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE i > 3)",
    "SELECT id, e FROM t WHERE e OR a IN (SELECT k FROM u WHERE k IS NOT NULL)",
    "SELECT id FROM t WHERE id > 4 OR EXISTS (SELECT 1 FROM u WHERE u.b = t.b)",
    "SELECT id FROM t WHERE d > (SELECT avg(i) FROM u)",
    "SELECT id, (SELECT max(i) FROM u) AS m FROM t",
    "SELECT id, (SELECT count(*) FROM u WHERE u.k = t.a) AS n FROM t",
    "SELECT id FROM t WHERE a > (SELECT min(k) FROM u WHERE u.b = t.b)",
    "SELECT a, b FROM t INTERSECT SELECT k, b FROM u",
    "SELECT b FROM t EXCEPT SELECT b FROM u",
    "SELECT a, b FROM t EXCEPT ALL SELECT k, b FROM u",
    "SELECT k, i FROM u INTERSECT ALL SELECT a, i FROM t, (SELECT i FROM u) AS x",
    "(SELECT b FROM u EXCEPT ALL SELECT b FROM t) INTERSECT ALL SELECT b FROM u",
    "SELECT count(*) AS n, b FROM t WHERE a IN (SELECT k FROM u) GROUP BY b",
    "SELECT id FROM t WHERE a IN (SELECT k FROM u GROUP BY k HAVING count(*) > 1)",
];
