//! The queries: every shape that a view may have, at least once.
//!
//! A batch's text differs from the view's only where DataFusion means something else than Postgres
//! and we do: it tells 0.0 from −0.0, takes the greatest finite float for the least of
//! infinities alone, and its conversions fail the query and not the row.

use datafusion::scalar::ScalarValue;

use crate::dataflow::oracle::grouping_list::grouping;
use crate::dataflow::oracle::model::Cut;
use crate::dataflow::oracle::over_list::window_functions;
use crate::dataflow::oracle::query::{Case, query};
use crate::dataflow::oracle::relation::SECOND;
use crate::dataflow::oracle::subquery_list::subqueries;
use crate::dataflow::oracle::temporal_list::temporal;
use crate::dataflow::oracle::top_list::rankings;
use crate::dataflow::oracle::ttl_list::lifetimes;

pub fn cases() -> Vec<Case> {
    let mut cases = linear();
    cases.extend(numbers());
    cases.extend(aggregates());
    cases.extend(subqueries());
    cases.extend(grouping());
    cases.extend(joins());
    cases.extend(windows());
    cases.extend(other_windows());
    cases.extend(sessions());
    cases.extend(closing());
    cases.extend(panes());
    cases.extend(every());
    cases.extend(gathered());
    cases.extend(window_joins());
    cases.extend(interval_joins());
    cases.extend(as_of_joins());
    cases.extend(views_over_views());
    cases.extend(temporal());
    cases.extend(rankings());
    cases.extend(lifetimes());
    cases.extend(window_functions());
    cases
}

fn linear() -> Vec<Case> {
    vec![
        query("SELECT * FROM t"),
        query(
            "SELECT id, a % 9 + 1 AS x, b || '!' AS y, d * 2 AS z FROM t WHERE a > 0 OR b IS NULL",
        ),
        // The greatest integer has no successor.
        query("SELECT id, a + 1 AS x FROM t")
            .batch("SELECT id, a + 1 AS x FROM t WHERE a IS NULL OR a < 9223372036854775807")
            .failing("t", |row| is(&row[1], i64::MAX)),
        query("SELECT * FROM u"),
        query("SELECT b, k FROM u WHERE i BETWEEN 0 AND 3 AND b IN ('a', 'b', '')"),
        query(
            "SELECT id, CASE WHEN e THEN 'yes' WHEN a IS NULL THEN 'none' ELSE b END AS x, \
             coalesce(b, 'nil') AS y, nullif(a, 1) AS z FROM t",
        ),
        query(
            "SELECT a::text AS x, d::double precision AS y, i::bigint AS z, (k = 1)::text AS w \
             FROM (SELECT k, i, k AS a, d FROM u) AS q",
        ),
        query(
            "SELECT upper(b) AS x, length(b) AS y, substr(b, 2, 3) AS z, abs(i::bigint) AS w, \
             date_trunc('minute', ts) AS m FROM u",
        ),
        query("SELECT k / i AS x, b FROM u")
            .batch(
                "SELECT k / i AS x, b FROM u WHERE i IS NULL OR k IS NULL OR \
                 (i <> 0 AND NOT (i = -1 AND k < -9223372036854775807))",
            )
            .failing("u", |row| {
                !row[0].is_null() && is(&row[1], 0) || is(&row[1], -1) && is(&row[0], i64::MIN)
            }),
        query("SELECT b::bigint AS x FROM u")
            .batch(
                "SELECT TRY_CAST(b AS BIGINT) AS x FROM u \
                    WHERE b IS NULL OR TRY_CAST(b AS BIGINT) IS NOT NULL",
            )
            .failing("u", |row| !row[2].is_null() && !is_number(&row[2])),
        query("SELECT a, ts, c FROM s WHERE e").keeps(),
        query("SELECT a FROM t UNION ALL SELECT k FROM u"),
        query("SELECT id, a FROM t WHERE a > 1 UNION ALL SELECT id, a FROM t WHERE a <= 2"),
        query("SELECT a, b FROM s UNION ALL SELECT a, b FROM r UNION ALL SELECT 7, 'seven'")
            .keeps(),
        query("SELECT 1 AS x, 'text' AS y"),
        query("SELECT a FROM t WHERE false"),
        query("SELECT a, b, v FROM l WHERE v > 0").keeps(),
    ]
}

/// Numbers of several types: a numeric beside a float is one.
fn numbers() -> Vec<Case> {
    vec![
        query("SELECT id, c FROM t WHERE c > 0.5 OR c IN (0.1, -7.5)").batch(
            "SELECT id, c FROM t WHERE c > 0.5::double precision \
             OR c IN (0.1::double precision, -7.5::double precision)",
        ),
        query("SELECT id, c FROM t WHERE c NOT BETWEEN 0.1 AND d").batch(
            "SELECT id, c FROM t WHERE c NOT BETWEEN 0.1::double precision AND d::double precision",
        ),
        query("SELECT id, coalesce(c, 0.0) AS x, CASE WHEN e THEN c ELSE 1.0 END AS y FROM t")
            .batch(
                "SELECT id, coalesce(c, 0.0::double precision) AS x, \
                 CASE WHEN e THEN c ELSE 1.0::double precision END AS y FROM t",
            ),
        query("SELECT t.id, u.k FROM t JOIN u ON t.d = u.c")
            .batch("SELECT t.id, u.k FROM t JOIN u ON t.d::double precision = u.c"),
        query("SELECT c FROM t UNION ALL SELECT d FROM u")
            .batch("SELECT c FROM t UNION ALL SELECT d::double precision FROM u"),
        query("SELECT a, c * 1.5 AS x FROM t UNION SELECT k, d FROM u").batch(
            "SELECT a, c * 1.5::double precision + 0e0 AS x FROM t \
             UNION SELECT k, d::double precision FROM u",
        ),
        query("SELECT k, i FROM u WHERE i > 1.5 AND k < 1e30"),
    ]
}

fn aggregates() -> Vec<Case> {
    vec![
        query("SELECT count(*) FROM t"),
        query("SELECT count(*), count(a), sum(a), avg(a), min(a), max(b) FROM t"),
        query("SELECT sum(c), avg(c), sum(d), avg(d), min(d), max(d) FROM u"),
        query("SELECT a, count(*), sum(d), avg(d), min(ts), max(ts) FROM t GROUP BY a"),
        query("SELECT b, e, count(*) AS n, bool_and(a > 0), bool_or(e) FROM t GROUP BY b, e"),
        query("SELECT k, sum(c) AS x, avg(c) AS y, count(c) AS z FROM u GROUP BY k"),
        query("SELECT c, count(*) FROM u GROUP BY c")
            .batch("SELECT c + 0e0, count(*) FROM u GROUP BY c + 0e0"),
        query(
            "SELECT i, min(c), max(c) FROM u WHERE c + 1 < 'Infinity'::double precision \
               AND c > '-Infinity'::double precision GROUP BY i",
        ),
        query(
            "SELECT a, count(*) FILTER (WHERE b = 'a') AS x, sum(a) FILTER (WHERE e) AS y, \
             max(b) FILTER (WHERE d > 0) AS z FROM t GROUP BY a",
        ),
        query("SELECT a, count(*) FROM t GROUP BY a HAVING count(*) > 1 AND max(b) > 'A'"),
        query("SELECT count(DISTINCT b), sum(DISTINCT a), avg(DISTINCT d) FROM t"),
        query(
            "SELECT b, count(DISTINCT k), count(DISTINCT i) FILTER (WHERE k > 0), count(*) \
             FROM u GROUP BY b",
        ),
        query(
            "SELECT a % 9 + 1 AS x, length(b) AS y, count(*), sum(a % 9 * 2) FROM t GROUP BY 1, 2",
        ),
        query(
            "SELECT a % 2 = 0 AS even, min(a) + max(a) AS x, sum(a) / count(*) AS y \
               FROM t WHERE a BETWEEN -100 AND 100 GROUP BY a % 2 = 0",
        ),
        query("SELECT DISTINCT a, b FROM t"),
        query("SELECT DISTINCT e FROM t WHERE a > 0"),
        query("SELECT DISTINCT a, b FROM s").keeps(),
        query("SELECT a, count(*), sum(a), min(b), max(ts) FROM s GROUP BY a").keeps(),
        query("SELECT count(*), sum(v), max(v), min(b) FROM l").keeps(),
        query("SELECT b, count(*), avg(v), count(DISTINCT v) FROM l GROUP BY b").keeps(),
        query(
            "SELECT b, string_agg(k::text, ',' ORDER BY k), array_agg(i ORDER BY i) \
               FROM u GROUP BY b",
        ),
        query(
            "SELECT b, round(stddev(i % 100), 6), round(var_pop(i % 100), 6), median(d) \
               FROM u GROUP BY b",
        ),
        query(
            "SELECT n, count(*) FROM (SELECT b, count(*) AS n FROM t GROUP BY b) AS q GROUP BY n",
        ),
        query("SELECT max(n), sum(n) FROM (SELECT a, count(*) AS n FROM t GROUP BY a) AS q"),
        query(
            "SELECT a, count(*) FROM (SELECT a FROM t UNION ALL SELECT k FROM u) AS q GROUP BY a",
        ),
        query("SELECT ts, count(*) FROM t GROUP BY ts"),
        query(
            "SELECT ts::date AS day, extract(minute FROM ts) AS m, count(*) FROM t GROUP BY 1, 2",
        ),
        query("SELECT d, a IS NULL AS z, sum(CASE WHEN e THEN 1 ELSE 0 END) FROM t GROUP BY 1, 2"),
        query("SELECT b FROM u GROUP BY b HAVING count(*) = 1"),
        query("SELECT sum(k), count(*) FROM u HAVING count(*) > 5"),
        query(
            "SELECT b, max(x) \
             FROM (SELECT b, a, max(id) AS x FROM t GROUP BY b, a) AS q GROUP BY b",
        ),
        query(
            "WITH q AS (SELECT a, count(*) AS n FROM t GROUP BY a) \
             SELECT x.a, x.n, y.n AS other FROM q AS x JOIN q AS y ON x.n = y.n",
        ),
    ]
}

fn joins() -> Vec<Case> {
    vec![
        query("SELECT t.id, u.k, t.b, u.b AS ub FROM t JOIN u ON t.a = u.k"),
        query("SELECT t.id, u.k, u.b AS ub FROM t LEFT JOIN u ON t.a = u.k"),
        query("SELECT t.id, u.k, u.i FROM t RIGHT JOIN u ON t.a = u.k"),
        query("SELECT t.id, u.i FROM t JOIN u ON t.a = u.i"),
        query("SELECT t.id, u.d FROM t LEFT JOIN u ON t.d = u.d"),
        query("SELECT t.id, u.k FROM t JOIN u ON t.a = u.k AND t.b = u.b AND t.d < u.d"),
        query("SELECT t.id, u.k FROM t LEFT JOIN u ON t.a = u.k AND t.id > u.i"),
        query("SELECT t.id, u.k FROM t LEFT JOIN u ON t.a = u.k AND t.e"),
        query("SELECT t.id, u.k FROM t JOIN u ON t.a % 9 + 1 = u.k % 9 * 2"),
        query("SELECT t.id, u.k FROM t JOIN u ON t.b IS NOT DISTINCT FROM u.b"),
        query("SELECT t.id, u.k FROM t JOIN u ON t.c = u.c")
            .batch("SELECT t.id, u.k FROM t JOIN u ON t.c + 0e0 = u.c + 0e0"),
        query("SELECT t.id, u.k FROM t, u WHERE t.a = u.k AND u.b IS NOT DISTINCT FROM t.b"),
        query("SELECT id, x.b, y.k FROM t AS x JOIN u AS y USING (b) WHERE x.e OR y.i > 1"),
        query("SELECT id, (SELECT max(k) FROM u WHERE u.b = t.b) AS m FROM t"),
        query("SELECT a FROM t UNION SELECT k FROM u"),
        query("SELECT t.id, u.k FROM t LEFT JOIN u ON t.ts = u.ts AND t.a = u.k"),
        query("SELECT t.id, u.d FROM t JOIN u ON t.a = u.d"),
        query("SELECT t.id, u.k FROM t LEFT JOIN u ON t.id = u.k WHERE u.k IS NULL"),
        query("SELECT x.id, y.id AS other FROM t AS x JOIN t AS y ON x.a = y.a"),
        query(
            "SELECT x.id, y.id AS other FROM t AS x LEFT JOIN t AS y ON x.a = y.a AND x.id < y.id",
        ),
        query("SELECT x.id, y.a FROM t AS x JOIN t AS y ON x.id = y.id"),
        query("SELECT x.b, y.b AS z FROM u AS x JOIN u AS y ON x.k = y.i"),
        query(
            "SELECT t.id, q.n FROM t JOIN (SELECT k, count(*) AS n FROM u GROUP BY k) AS q \
               ON t.a = q.k",
        ),
        query(
            "SELECT t.id, t.a, q.n FROM t LEFT JOIN \
               (SELECT a, count(*) AS n, max(d) AS m FROM t GROUP BY a) AS q ON t.a = q.a",
        ),
        query(
            "SELECT b, n, m FROM (SELECT b, count(*) AS n FROM t GROUP BY b) AS x \
               JOIN (SELECT b AS ub, count(*) AS m FROM u GROUP BY b) AS y ON b = ub",
        ),
        query(
            "SELECT u.b, count(*), sum(t.a), count(t.id) FROM u LEFT JOIN t ON u.k = t.a \
               GROUP BY u.b",
        ),
        query("SELECT t.id, u.k, s.v FROM t JOIN u ON t.a = u.k LEFT JOIN l AS s ON s.a = t.a")
            .keeps(),
        query("SELECT s.a, s.b, t.id FROM s JOIN t ON s.a = t.a").keeps(),
        query("SELECT s.a, t.id, t.b FROM s LEFT JOIN t ON s.a = t.id").keeps(),
    ]
}

fn windows() -> Vec<Case> {
    vec![
        query(
            "SELECT a, window_start, window_end, count(*), max(d), sum(a) FROM {0} \
               GROUP BY a, window_start, window_end",
        )
        .tumble("s", 10),
        query("SELECT window_end, count(*), min(b), avg(d) FROM {0} GROUP BY window_end")
            .tumble("s", 7),
        query(
            "SELECT a, window_start, window_end, count(*), count(DISTINCT b) FROM {0} \
               GROUP BY a, window_start, window_end",
        )
        .hop("s", 5, 15),
        query("SELECT window_start, count(*) FROM {0} GROUP BY window_start").hop("s", 4, 10),
        query("SELECT window_start, count(*), sum(c) FROM {0} GROUP BY window_start, window_end")
            .hop("s", 10, 4),
        query("SELECT a, window_start, window_end, ts FROM {0}").tumble("s", 10),
        query("SELECT b, window_end, v FROM {0} WHERE v > 0")
            .hop("r", 5, 10)
            .filter(|row| over(&row[2], 0)),
        query(
            "SELECT b, window_start, count(*), max(v), min(v), sum(v) FROM {0} \
               GROUP BY b, window_start, window_end",
        )
        .tumble("l", 10),
        query(
            "SELECT window_start, window_end, count(*), count(DISTINCT v) FROM {0} \
               GROUP BY window_start, window_end",
        )
        .hop("l", 5, 15),
        query("SELECT window_start, count(*), max(v) FROM {0} GROUP BY window_start")
            .tumble("r", 10),
        query(
            "SELECT window_start, window_end, count(*) FROM {0} GROUP BY window_start, window_end",
        )
        .window(
            "TUMBLE(s, ts, INTERVAL '10 seconds', INTERVAL '3 seconds')",
            "s",
            [10, 10, 3],
        ),
        query("SELECT window_start, count(*) FROM {0} GROUP BY window_start").window(
            "TABLE(TUMBLE(TABLE s, DESCRIPTOR(ts), INTERVAL '10' SECOND))",
            "s",
            [10, 10, 0],
        ),
        query("SELECT window_start, count(*) FROM {0} GROUP BY window_start").window(
            "TABLE(HOP(DATA => TABLE s, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '5' SECOND, \
             SIZE => INTERVAL '10' SECOND))",
            "s",
            [5, 10, 0],
        ),
        query(
            "SELECT a, TUMBLE_START(ts, INTERVAL '10 seconds') AS x, count(*) FROM s \
               GROUP BY TUMBLE(ts, INTERVAL '10 seconds'), a",
        )
        .tumble("s", 10)
        .batch("SELECT a, window_start, count(*) FROM w0 GROUP BY window_start, window_end, a"),
        query(
            "SELECT HOP_END(ts, INTERVAL '5 seconds', INTERVAL '10 seconds') AS x, sum(a) FROM s \
               GROUP BY HOP(ts, INTERVAL '5 seconds', INTERVAL '10 seconds')",
        )
        .hop("s", 5, 10)
        .batch("SELECT window_end, sum(a) FROM w0 GROUP BY window_start, window_end"),
        query(
            "SELECT a, window_start, count(*) FROM {0} GROUP BY a, window_start, window_end \
               HAVING count(*) > 1",
        )
        .tumble("s", 15),
        query("SELECT DISTINCT a, window_end FROM {0}").tumble("s", 10),
        query("SELECT count(*), max(window_end) FROM {0}").tumble("s", 10),
        query("SELECT a, count(*), max(window_start) FROM {0} GROUP BY a")
            .tumble("s", 10)
            .keeps(),
        query("SELECT window_end, count(*) FROM {0} GROUP BY window_end")
            .tumble("s", 10)
            .lateness(8),
        query("SELECT a, window_end, count(*), max(v) FROM {0} GROUP BY a, window_end")
            .hop("l", 5, 10)
            .lateness(20),
        query(
            "SELECT window_start, count(*) FROM {0} GROUP BY window_start UNION ALL \
               SELECT window_start, sum(v) FROM {1} GROUP BY window_start",
        )
        .tumble("s", 10)
        .tumble("r", 10)
        .batch(
            "SELECT window_start, count(*) FROM w0 GROUP BY window_start UNION ALL \
                    SELECT window_start, sum(v) FROM w1 GROUP BY window_start",
        ),
        query("SELECT x.a, x.window_end, t.id FROM {0} AS x JOIN t ON x.a = t.a")
            .tumble("s", 10)
            .keeps(),
    ]
}

const BERLIN_DAY: &str =
    "TUMBLE(s, ts, INTERVAL '1 day', INTERVAL '1 hour', zone => 'Europe/Berlin')";
const MONTH: &str = "TUMBLE(l, ts, INTERVAL '1 month')";

fn other_windows() -> Vec<Case> {
    let cumulate = Cut::Cumulate {
        step: 5 * SECOND,
        size: 20 * SECOND,
    };
    vec![
        query(
            "SELECT a, window_start, window_end, count(*), sum(d), max(b) FROM {0} \
               GROUP BY a, window_start, window_end",
        )
        .cumulate("s", 5, 20),
        query("SELECT window_end, count(*), max(v) FROM {0} GROUP BY window_end")
            .cumulate("l", 3, 12),
        query("SELECT window_start, count(DISTINCT a) FROM {0} GROUP BY window_start")
            .cumulate("r", 10, 10),
        query("SELECT a, v, window_start, window_end FROM {0}").cumulate("l", 4, 8),
        query("SELECT window_end, count(*), sum(v) FROM {0} GROUP BY window_end")
            .cumulate("l", 5, 20)
            .lateness(10),
        query("SELECT window_start, window_end, count(*) FROM {0} GROUP BY 1, 2").cut(
            "TABLE(CUMULATE(DATA => TABLE s, TIMECOL => DESCRIPTOR(ts), \
             STEP => INTERVAL '5' SECOND, SIZE => INTERVAL '20' SECOND))",
            "s",
            cumulate,
        ),
        query(
            "SELECT CUMULATE_END(ts, INTERVAL '5 seconds', INTERVAL '20 seconds') AS x, b, sum(a) \
               FROM s GROUP BY CUMULATE(ts, INTERVAL '5 seconds', INTERVAL '20 seconds'), b",
        )
        .cumulate("s", 5, 20)
        .batch("SELECT window_end, b, sum(a) FROM w0 GROUP BY window_start, window_end, b"),
        query("SELECT window_start, window_end, count(*), max(d) FROM {0} GROUP BY 1, 2").cut(
            BERLIN_DAY,
            "s",
            Cut::BerlinDay,
        ),
        query("SELECT window_start, window_end, b, count(*), sum(v) FROM {0} GROUP BY 1, 2, 3")
            .cut(MONTH, "l", Cut::Month),
        query("SELECT window_start, window_end, b, count(*), sum(v) FROM {0} GROUP BY 1, 2, 3")
            .cumulate("l", 5, 20)
            .closes(1),
        query("SELECT a, window_end, count(*) FROM {0} GROUP BY a, window_end")
            .cumulate("s", 2, 10)
            .lateness(5)
            .closes(1),
        query("SELECT a, ts, window_end FROM {0}")
            .cumulate("r", 5, 10)
            .closes(2),
        query("SELECT window_start, window_end, count(*) FROM {0} GROUP BY 1, 2")
            .cut(BERLIN_DAY, "s", Cut::BerlinDay)
            .closes(1),
        query("SELECT window_end, count(*), sum(v) FROM {0} GROUP BY 1")
            .cut(MONTH, "l", Cut::Month)
            .closes(0),
        query("SELECT window_start, window_end, count(*) AS n FROM {0} GROUP BY 1, 2")
            .cumulate("s", 5, 10)
            .closes(1)
            .then("SELECT window_end, max(n), count(*) FROM v0 GROUP BY window_end")
            .closes(0),
    ]
}

fn sessions() -> Vec<Case> {
    let grouped = "SELECT a, window_start, window_end, count(*), sum(d), max(b) FROM {0} \
                   GROUP BY a, window_start, window_end";
    let of_l = "SELECT b, window_start, window_end, count(*), sum(v), max(v) FROM {0} \
                GROUP BY b, window_start, window_end";
    let gap = 4 * SECOND;
    vec![
        query(grouped).session("s", "a", &[0], 5),
        query(of_l).session("l", "b", &[1], 5),
        query(
            "SELECT window_start, window_end, count(*), count(DISTINCT a) FROM {0} GROUP BY 1, 2",
        )
        .session("s", "", &[], 1),
        query("SELECT window_start, window_end, count(*), min(v) FROM {0} GROUP BY 1, 2").session(
            "l",
            "",
            &[],
            2,
        ),
        query("SELECT a, b, ts, window_start, window_end FROM {0}").session(
            "s",
            "a, b",
            &[0, 1],
            8,
        ),
        query("SELECT a, v, window_start, window_end FROM {0}").session("l", "a", &[0], 6),
        query("SELECT window_end, v FROM {0} WHERE v > 1").session("r", "b", &[1], 3),
        query("SELECT b, window_start, count(*) FROM {0} GROUP BY b, window_start").session(
            "r",
            "b",
            &[1],
            3,
        ),
        query(
            "SELECT b, SESSION_START(ts, INTERVAL '4 seconds') AS x, \
             SESSION_END(ts, INTERVAL '4 seconds') AS y, count(*), sum(a) FROM s WHERE a > 1 \
             GROUP BY b, SESSION(ts, INTERVAL '4 seconds')",
        )
        .cut("", "s", Cut::Session { gap, keys: &[1] })
        .filter(|row| over(&row[0], 1))
        .batch("SELECT b, window_start, window_end, count(*), sum(a) FROM w0 GROUP BY 1, 2, 3"),
        query("SELECT a, window_end, count(*) FROM {0} GROUP BY a, window_end").cut(
            "TABLE(SESSION(TABLE l PARTITION BY a, DESCRIPTOR(ts), INTERVAL '4' SECOND))",
            "l",
            Cut::Session { gap, keys: &[0] },
        ),
        // Other scans than that of the session's rows have no order to keep.
        query(
            "SELECT x.a, x.window_end, x.n, t.b FROM (SELECT a, window_start, window_end, \
             count(*) AS n FROM {0} GROUP BY a, window_start, window_end) AS x \
             JOIN t ON t.id = x.a",
        )
        .session("s", "a", &[0], 5)
        .keeps(),
        query(grouped).session("s", "a", &[0], 5).lateness(10),
        query(of_l).session("l", "b", &[1], 5).lateness(10),
        query(grouped).session("s", "a", &[0], 5).closes(2),
        query("SELECT window_start, window_end, count(*), max(a) FROM {0} GROUP BY 1, 2")
            .session("s", "", &[], 2)
            .closes(1),
        query("SELECT a, ts, window_end FROM {0}")
            .session("s", "b", &[1], 5)
            .closes(2),
        query("SELECT a, v, window_end FROM {0}")
            .session("l", "a", &[0], 6)
            .closes(2),
        query(grouped)
            .session("s", "a", &[0], 5)
            .lateness(10)
            .closes(2),
        query("SELECT a, window_start, window_end, count(*) AS n FROM {0} GROUP BY 1, 2, 3")
            .session("s", "a", &[0], 4)
            .then("SELECT n, count(*), max(window_end) FROM v0 GROUP BY n")
            .keeps(),
        query("SELECT b, window_start, window_end, count(*) AS n FROM {0} GROUP BY 1, 2, 3")
            .tumble("l", 5)
            .then(
                "SELECT b, window_start, window_end, sum(n), count(*) FROM \
                 SESSION((SELECT b, n, window_end AS x FROM v0) PARTITION BY b, x, \
                 INTERVAL '5 seconds') GROUP BY 1, 2, 3",
            ),
        query("SELECT a, window_start, window_end, count(*) AS n FROM {0} GROUP BY 1, 2, 3")
            .session("s", "a", &[0], 3)
            .closes(2)
            .then(
                "SELECT window_end, sum(n), count(*) FROM \
                 TUMBLE((SELECT n, window_end AS x FROM v0), x, INTERVAL '20 seconds') GROUP BY 1",
            )
            .closes_or_later(0),
    ]
}

fn closing() -> Vec<Case> {
    let rounded = "to_timestamp_micros((floor(arrow_cast(window_end, 'Int64')::double precision \
                   / 20000000)::bigint + 1) * 20000000)::timestamptz";
    vec![
        query(
            "SELECT window_end, count(*) FROM TUMBLE((SELECT window_end AS x, a FROM {0}), x, \
             INTERVAL '20 seconds') GROUP BY window_end",
        )
        .tumble("s", 10)
        .batch(&format!("SELECT {rounded}, count(*) FROM w0 GROUP BY 1"))
        .closes(0),
        query("SELECT window_end, count(*) FROM {0} GROUP BY window_end")
            .window(
                "TUMBLE((SELECT ts AS x, a FROM s WHERE a > 1), x, INTERVAL '10 seconds')",
                "s",
                [10, 10, 0],
            )
            .filter(|row| over(&row[0], 1))
            .closes(0),
        query(
            "SELECT a, window_start, window_end, count(*), max(d), sum(a) FROM {0} \
               GROUP BY a, window_start, window_end",
        )
        .tumble("s", 10)
        .closes(2),
        query(
            "SELECT window_start, window_end, count(*), count(DISTINCT b), min(ts) FROM {0} \
               GROUP BY window_start, window_end",
        )
        .hop("s", 5, 15)
        .closes(1),
        query("SELECT b, window_end, count(*), sum(v) FROM {0} GROUP BY b, window_end")
            .tumble("l", 10)
            .closes(1),
        query("SELECT window_end, count(*), max(v) FROM {0} GROUP BY window_end")
            .hop("r", 10, 20)
            .closes(0),
        query("SELECT a, ts, window_end FROM {0}")
            .tumble("s", 10)
            .closes(2),
        query("SELECT a, v, window_end FROM {0}")
            .tumble("l", 10)
            .closes(2),
        query("SELECT DISTINCT b, window_end FROM {0}")
            .hop("s", 5, 10)
            .closes(1),
        query("SELECT window_end, count(*) AS n FROM {0} GROUP BY window_end HAVING count(*) > 2")
            .tumble("s", 10)
            .closes(0),
        query("SELECT window_start, count(*) FROM {0} GROUP BY window_start")
            .hop("l", 5, 10)
            .closes_behind(0, 10),
        query("SELECT a, b, window_end FROM {0}")
            .tumble("l", 10)
            .lateness(10)
            .closes_behind(2, 10),
        query(
            "SELECT b, window_end, v FROM {0} WHERE v IS NOT NULL UNION ALL \
             SELECT b, window_end, a FROM {1}",
        )
        .tumble("r", 10)
        .filter(|row| !row[2].is_null())
        .hop("s", 5, 10)
        .closes(1),
        query(
            "SELECT window_end, b, count(*) FROM {0} WHERE window_start > '1970-01-01T00:00:20Z' \
             GROUP BY window_end, b",
        )
        .tumble("s", 10)
        .closes(0),
        query(
            "SELECT window_end + INTERVAL '1 second' AS x, window_end, n * 2 AS y FROM \
             (SELECT window_end, count(*) AS n FROM {0} GROUP BY window_end) AS q WHERE n > 1",
        )
        .hop("s", 10, 20)
        .closes(1),
        query("SELECT a, window_end, count(*), sum(d) FROM {0} GROUP BY a, window_end")
            .tumble("s", 10)
            .lateness(15)
            .closes(1),
        query("SELECT window_end, count(*), max(v) FROM {0} GROUP BY window_end")
            .hop("l", 5, 10)
            .lateness(10)
            .closes(0),
    ]
}

/// HOP in every step, its rows added up by panes first.
fn gathered() -> Vec<Case> {
    let all = "SELECT a, window_start, window_end, count(*), sum(a), min(b), max(b), min(ts), \
               sum(c), avg(d), max(d), bool_and(e), bool_or(e), count(b) FILTER (WHERE e) FROM {0} \
               GROUP BY a, window_start, window_end";
    let sums = "SELECT b, window_end, count(*), sum(v), avg(v), count(v) FROM {0} \
                GROUP BY b, window_end";
    vec![
        query(all).hop("s", 2, 10),
        query(all).hop("s", 4, 10).lateness(7),
        query(all).hop("s", 2, 6).every(),
        query(sums).hop("l", 3, 12),
        query(sums).hop("l", 2, 20).lateness(6),
        query(sums).hop("r", 2, 10).lateness(4).closes(1),
        query("SELECT window_start, count(*), sum(v) FROM {0} GROUP BY window_start")
            .hop("l", 5, 10)
            .lateness(10)
            .closes_behind(0, 10),
        query("SELECT window_end, a, count(*) FROM {0} GROUP BY a, window_end HAVING sum(a) > 3")
            .hop("s", 1, 12),
        query("SELECT window_end, ts, count(*) FROM {0} GROUP BY ts, window_end").hop("s", 5, 20),
        query("SELECT a, window_end FROM {0} GROUP BY a, window_end").hop("s", 5, 20),
        query("SELECT a, window_end, count(*) AS n FROM {0} GROUP BY a, window_end")
            .tumble("l", 5)
            .then(
                "SELECT window_end, sum(n), count(*) FROM HOP((SELECT n, window_end AS x FROM v0), \
                 x, INTERVAL '5 seconds', INTERVAL '20 seconds') GROUP BY window_end",
            )
            .batch(
                "SELECT e AS window_end, sum(n), count(*) FROM \
                 (SELECT n, window_end + INTERVAL '5 seconds' AS e FROM v0 UNION ALL \
                 SELECT n, window_end + INTERVAL '10 seconds' FROM v0 UNION ALL \
                 SELECT n, window_end + INTERVAL '15 seconds' FROM v0 UNION ALL \
                 SELECT n, window_end + INTERVAL '20 seconds' FROM v0) AS q GROUP BY e",
            ),
    ]
}

/// HOP on close: by panes where nothing speaks against it.
fn panes() -> Vec<Case> {
    vec![
        query(
            "SELECT a, window_start, window_end, count(*), sum(a), min(b), max(b), min(ts), \
             sum(c), avg(d), max(d), bool_and(e), bool_or(e), count(b) FILTER (WHERE e) FROM {0} \
             GROUP BY a, window_start, window_end",
        )
        .hop("s", 2, 10)
        .closes(2),
        query("SELECT b, window_start, count(*), max(v), min(v) FROM {0} GROUP BY b, window_start")
            .hop("r", 4, 10)
            .closes_behind(1, 10),
        query(
            "SELECT b, window_end, count(*), sum(v), avg(v), count(v) FROM {0} \
             GROUP BY b, window_end",
        )
        .hop("l", 3, 12)
        .closes(1),
        query("SELECT window_end, count(*), max(v) FROM {0} GROUP BY window_end")
            .hop("l", 3, 12)
            .closes(0),
        query(
            "SELECT b || 'x' AS x, window_end, window_start, sum(v % 9 * 2) AS y FROM {0} \
             WHERE v > 0 GROUP BY b || 'x', window_start, window_end HAVING count(*) > 1",
        )
        .hop("r", 5, 20)
        .filter(|row| over(&row[2], 0))
        .closes(1),
        query("SELECT window_start, window_end, count(*), min(a) FROM {0} GROUP BY 1, 2")
            .window(
                "HOP(s, ts, INTERVAL '1 second', INTERVAL '30 seconds', INTERVAL '3 seconds')",
                "s",
                [1, 30, 3],
            )
            .closes(1),
        query("SELECT a, window_end, count(*) AS n FROM {0} GROUP BY a, window_end")
            .tumble("s", 5)
            .closes(1)
            .then(
                "SELECT window_end, sum(n), max(n), count(*) FROM HOP((SELECT n, window_end AS x \
                 FROM v0), x, INTERVAL '5 seconds', INTERVAL '15 seconds') GROUP BY window_end",
            )
            .closes_or_later(0),
        query(
            "SELECT most, window_end, q.n FROM (SELECT max(n) AS most, window_end AS e FROM \
             (SELECT a, count(*) AS n, window_start, window_end FROM {0} GROUP BY 1, 3, 4) AS p \
             GROUP BY window_end) AS m JOIN \
             (SELECT a, count(*) AS n, window_start, window_end FROM {1} GROUP BY 1, 3, 4) AS q \
             ON q.window_end = m.e AND q.n = m.most",
        )
        .hop("s", 5, 10)
        .hop("s", 5, 10)
        .closes(1),
    ]
}

/// Changes that are merged and shown every so often.
fn every() -> Vec<Case> {
    let grouped = "SELECT a, window_start, window_end, count(*) AS n FROM {0} \
                   GROUP BY a, window_start, window_end";
    vec![
        query("SELECT a, count(*), sum(d), max(b) FROM t GROUP BY a").every(),
        query("SELECT count(*), max(a) FROM t").every(),
        query("SELECT id, a, b FROM t WHERE a > 0").every(),
        query("SELECT b FROM u").every(),
        query("SELECT a, ts, c FROM s WHERE e").every().keeps(),
        query("SELECT t.id, u.k FROM t LEFT JOIN u ON t.a = u.k").every(),
        query("SELECT a FROM t UNION ALL SELECT k FROM u").every(),
        query(grouped).hop("s", 5, 15).every(),
        query(grouped).tumble("l", 10).every(),
        query(grouped).session("s", "a", &[0], 5).every(),
        query("SELECT a, count(*) AS n FROM t GROUP BY a")
            .every()
            .then("SELECT n, count(*) AS m, max(a) FROM v0 GROUP BY n"),
        query("SELECT a, count(*) AS n FROM t GROUP BY a")
            .every()
            .then("SELECT n, count(*) AS m, max(a) FROM v0 GROUP BY n")
            .every(),
        query(grouped)
            .tumble("s", 10)
            .every()
            .then("SELECT window_end, max(n), count(*) FROM v0 GROUP BY window_end")
            .closes_or_later(0),
    ]
}

/// Joins whose condition keeps the times of both sides near each other.
fn interval_joins() -> Vec<Case> {
    let near = "x.ts BETWEEN y.ts - INTERVAL '5 seconds' AND y.ts + INTERVAL '3 seconds'";
    vec![
        query(&format!(
            "SELECT x.a, x.b, x.ts, y.v FROM {{0}} AS x JOIN {{1}} AS y ON x.a = y.a AND {near}"
        ))
        .timed("s")
        .timed("r"),
        query(&format!(
            "SELECT x.a, x.ts, y.v FROM {{0}} AS x LEFT JOIN {{1}} AS y ON x.a = y.a AND {near}"
        ))
        .timed("s")
        .timed("l"),
        query(
            "SELECT x.a, x.v, y.c FROM {0} AS x LEFT JOIN {1} AS y ON x.b = y.b \
             AND y.ts > x.ts AND y.ts - x.ts <= INTERVAL '4 seconds' AND y.e",
        )
        .timed("l")
        .timed("s")
        .filter(|row| row[4] == ScalarValue::Boolean(Some(true))),
        query(
            "SELECT x.a, y.ts, y.v FROM {0} AS x RIGHT JOIN {1} AS y \
             ON x.a = y.a AND x.ts >= y.ts AND x.ts < y.ts + INTERVAL '2 seconds'",
        )
        .timed("s")
        .timed("l"),
        query(&format!(
            "SELECT x.a, x.ts, y.v FROM {{0}} AS x JOIN {{1}} AS y ON x.a = y.a AND {near}"
        ))
        .timed("l")
        .timed("l")
        .lateness(3),
        query(
            "SELECT x.a, x.ts, y.b FROM {0} AS x LEFT JOIN {1} AS y \
             ON x.a = y.a AND y.ts = x.ts + INTERVAL '1 second'",
        )
        .timed("s")
        .timed("r"),
        query(
            "SELECT s.a, r.v, s.ts FROM {0} AS s LEFT JOIN {1} AS r \
             ON s.a = r.a AND s.ts = r.ts",
        )
        .timed("s")
        .timed("r"),
        // Only the rows of one side are let go.
        query("SELECT x.a, y.v FROM {0} AS x JOIN l AS y ON x.a = y.a AND x.ts <= y.ts")
            .timed("s")
            .keeps(),
        // Windows of what was joined, and joined again with what has windows.
        query(&format!(
            "SELECT b, window_end, count(*), max(v) FROM TUMBLE((SELECT x.b, x.ts, y.v \
             FROM {{0}} AS x JOIN {{1}} AS y ON x.a = y.a AND {near}), ts, INTERVAL '10 seconds') \
             GROUP BY b, window_end"
        ))
        .batch(&format!(
            "SELECT b, date_bin(INTERVAL '10 seconds', ts) + INTERVAL '10 seconds', count(*), \
             max(v) FROM (SELECT x.b, x.ts, y.v \
             FROM {{0}} AS x JOIN {{1}} AS y ON x.a = y.a AND {near}) AS q GROUP BY 1, 2"
        ))
        .timed("s")
        .timed("l"),
        query(&format!(
            "SELECT x.a, greatest(x.ts, y.ts) AS t, x.ts AS xt, y.ts AS yt, y.v \
             FROM {{0}} AS x JOIN {{1}} AS y ON x.a = y.a AND {near}"
        ))
        .timed("s")
        .timed("r")
        .closes_or_earlier_behind(1, 5),
        query(&format!(
            "SELECT x.a, x.ts, y.v FROM {{0}} AS x LEFT JOIN {{1}} AS y ON x.a = y.a AND {near}"
        ))
        .timed("s")
        .timed("l")
        .closes_or_earlier_behind(1, 5),
        query(
            "SELECT x.a, x.ts, y.v FROM {0} AS x LEFT JOIN {1} AS y \
             ON x.a = y.a AND y.ts BETWEEN x.ts AND x.ts + INTERVAL '6 seconds'",
        )
        .timed("l")
        .timed("r")
        .closes_or_earlier_behind(1, 6),
    ]
}

/// What an ASOF join is: the first of all right rows that a left row could meet.
pub fn ranked(join: &str, on: &str, order: &str, right: &str) -> String {
    format!(
        "SELECT a, ts, v FROM (SELECT x.a, x.ts, y.v, row_number() OVER (PARTITION BY x.number \
         ORDER BY {order}, y.a DESC NULLS LAST, y.b DESC NULLS LAST, y.v DESC NULLS LAST) AS place \
         FROM (SELECT *, row_number() OVER () AS number FROM {{0}}) AS x \
         {join} {right} AS y ON {on}) AS q WHERE place = 1"
    )
}

fn as_of_joins() -> Vec<Case> {
    let last = "y.ts DESC NULLS LAST";
    let first = "y.ts ASC NULLS LAST";
    let select = "SELECT x.a, x.ts, y.v FROM {0} AS x";
    let case = |join: &str, on: &str, order: &str| {
        let plain = join.replace("ASOF ", "");
        query(&format!("{select} {join} {{1}} AS y ON {on}"))
            .batch(&ranked(&plain, on, order, "{1}"))
    };
    vec![
        case("ASOF JOIN", "x.a = y.a AND x.ts >= y.ts", last)
            .timed("s")
            .timed("r"),
        case("ASOF LEFT JOIN", "x.b = y.b AND x.ts > y.ts", last)
            .timed("l")
            .timed("r"),
        // What can be taken back is neither judged nor let go.
        query("SELECT x.a, x.ts, y.v FROM s AS x ASOF JOIN l AS y ON x.b = y.b AND x.ts > y.ts")
            .batch(&ranked("JOIN", "x.b = y.b AND x.ts > y.ts", last, "l").replace("{0}", "s"))
            .keeps(),
        case("ASOF LEFT JOIN", "y.a = x.a AND y.ts > x.ts", first)
            .timed("l")
            .timed("r")
            .keeps(),
        case(
            "ASOF JOIN",
            "x.a = y.a AND x.b = y.b AND x.ts <= y.ts",
            first,
        )
        .timed("l")
        .timed("r")
        .lateness(3)
        .keeps(),
        case("ASOF JOIN", "x.ts >= y.ts", last)
            .timed("s")
            .timed("r"),
        case("ASOF LEFT JOIN", "x.a = y.a AND x.ts >= y.ts", last)
            .timed("l")
            .timed("r")
            .closes_or_earlier(1),
        query(&format!(
            "{select} LEFT JOIN {{1}} FOR SYSTEM_TIME AS OF x.ts AS y ON y.a = x.a"
        ))
        .batch(&ranked(
            "LEFT JOIN",
            "x.a = y.a AND x.ts >= y.ts",
            last,
            "{1}",
        ))
        .timed("l")
        .timed("r"),
        // A table's rows may come with any time.
        query(
            "SELECT x.id, x.ts, y.v FROM t AS x ASOF LEFT JOIN l AS y \
             ON x.a = y.a AND x.ts >= y.ts",
        )
        .batch(
            "SELECT id, ts, v FROM (SELECT x.id, x.ts, y.v, row_number() OVER (PARTITION BY x.id \
             ORDER BY y.ts DESC NULLS LAST, y.b DESC NULLS LAST, y.v DESC NULLS LAST) AS place \
             FROM t AS x LEFT JOIN l AS y ON x.a = y.a AND x.ts >= y.ts) AS q WHERE place = 1",
        )
        .keeps(),
    ]
}

fn window_joins() -> Vec<Case> {
    let ends = "x.window_start = y.window_start AND x.window_end = y.window_end";
    vec![
        query(&format!(
            "SELECT x.a, x.window_end, y.v FROM {{0}} AS x JOIN {{1}} AS y \
                        ON x.a = y.a AND {ends}"
        ))
        .tumble("s", 10)
        .tumble("r", 10),
        query(&format!(
            "SELECT x.a, x.window_end, y.v FROM {{0}} AS x LEFT JOIN {{1}} AS y \
                        ON x.a = y.a AND {ends}"
        ))
        .tumble("s", 10)
        .tumble("r", 10),
        query(&format!(
            "SELECT x.a, x.b, x.window_end, y.v FROM {{0}} AS x JOIN {{1}} AS y \
                        ON x.b = y.b AND {ends}"
        ))
        .hop("s", 5, 10)
        .hop("l", 5, 10),
        query(&format!(
            "SELECT x.window_end, x.n, y.m FROM \
                        (SELECT window_start, window_end, count(*) AS n FROM {{0}} \
                         GROUP BY window_start, window_end) AS x JOIN \
                        (SELECT window_start, window_end, max(v) AS m FROM {{1}} \
                         GROUP BY window_start, window_end) AS y ON {ends}"
        ))
        .tumble("s", 10)
        .tumble("r", 10),
        query(&format!(
            "SELECT x.a, x.window_end, y.v FROM {{0}} AS x JOIN {{1}} AS y \
                        ON x.a = y.a AND {ends}"
        ))
        .tumble("s", 10)
        .tumble("r", 10)
        .closes_or_earlier(1),
        query(&format!(
            "SELECT x.a, x.window_end, y.v FROM {{0}} AS x LEFT JOIN {{1}} AS y \
                        ON x.a = y.a AND {ends}"
        ))
        .tumble("s", 10)
        .tumble("l", 10)
        .closes_or_earlier(1),
        query(&format!(
            "SELECT x.window_end, x.n, y.m FROM \
                        (SELECT window_start, window_end, count(*) AS n FROM {{0}} \
                         GROUP BY window_start, window_end) AS x LEFT JOIN \
                        (SELECT window_start, window_end, max(v) AS m FROM {{1}} \
                         GROUP BY window_start, window_end) AS y ON {ends}"
        ))
        .hop("s", 5, 10)
        .hop("r", 5, 10)
        .closes_or_earlier(0),
        query(&format!(
            "SELECT x.a, x.window_end, count(*) FROM {{0}} AS x JOIN {{1}} AS y \
                        ON x.a = y.a AND {ends} GROUP BY x.a, x.window_end"
        ))
        .tumble("s", 10)
        .tumble("s", 10)
        .closes_or_earlier(1),
    ]
}

fn views_over_views() -> Vec<Case> {
    vec![
        query("SELECT a, count(*) AS n FROM t GROUP BY a")
            .then("SELECT n, count(*) AS m, max(a) FROM v0 GROUP BY n"),
        query("SELECT id, a, b FROM t WHERE a > 0")
            .then("SELECT x.id, y.k FROM v0 AS x LEFT JOIN u AS y ON x.a = y.k")
            .then("SELECT count(*), count(k), sum(id) FROM v1"),
        query("SELECT DISTINCT b FROM u").then("SELECT t.id, v0.b FROM t JOIN v0 ON t.b = v0.b"),
        query(
            "SELECT a, window_start, window_end, count(*) AS n FROM {0} \
               GROUP BY a, window_start, window_end",
        )
        .tumble("s", 10)
        .then("SELECT window_end, max(n), count(*) FROM v0 GROUP BY window_end"),
        query(
            "SELECT a, window_start, window_end, count(*) AS n FROM {0} \
               GROUP BY a, window_start, window_end",
        )
        .tumble("s", 10)
        .then("SELECT window_end, max(n), count(*) FROM v0 GROUP BY window_end")
        .closes(0),
        query(
            "SELECT a, window_start, window_end, count(*) AS n FROM {0} \
               GROUP BY a, window_start, window_end",
        )
        .hop("s", 5, 10)
        .closes(2)
        .then("SELECT window_end, max(n), count(*) FROM v0 GROUP BY window_end")
        .closes(0),
        query(
            "SELECT a, window_start, window_end, count(*) AS n FROM {0} \
               GROUP BY a, window_start, window_end",
        )
        .tumble("s", 10)
        .closes(2)
        .then("SELECT x.a, x.window_end, x.n, t.id FROM v0 AS x LEFT JOIN t ON x.a = t.a")
        .keeps(),
        query(
            "SELECT window_start, window_end, sum(v) AS v FROM {0} \
               GROUP BY window_start, window_end",
        )
        .tumble("l", 5)
        .then("SELECT count(*), sum(v), min(window_end) FROM v0"),
    ]
}

fn is(value: &ScalarValue, wanted: i64) -> bool {
    integer(value) == Some(wanted)
}

fn over(value: &ScalarValue, least: i64) -> bool {
    integer(value).is_some_and(|value| value > least)
}

fn integer(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::Int32(value) => value.map(i64::from),
        ScalarValue::Int64(value) => *value,
        other => panic!("{other} is not an integer"),
    }
}

fn is_number(value: &ScalarValue) -> bool {
    matches!(value, ScalarValue::Utf8(Some(text)) if text.trim().parse::<i64>().is_ok())
}
