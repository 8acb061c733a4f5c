//! What the generator has found, made small: each was wrong once.

/// Tables, a query, and what happened: a line for each step, `+t0 row` and `-t0 row` in it.
pub struct Found {
    pub name: &'static str,
    pub tables: &'static [&'static str],
    pub query: &'static str,
    /// Where a batch must be asked in other words.
    pub batch: Option<&'static str>,
    pub steps: &'static [&'static [&'static str]],
}

const TABLES: &[&str] = &[
    "CREATE TABLE t0 (n bigint, f double precision, b boolean, d numeric(20, 2), s text)",
    "CREATE TABLE t1 (n bigint, b boolean)",
];

const STEPS: &[&[&str]] = &[
    &[
        "+t0 1::bigint, NULL::double precision, true, 1.25::numeric(20, 2), 'a'::text",
        "+t0 2::bigint, 1.5::double precision, false, 1.00::numeric(20, 2), 'b'::text",
        "+t0 NULL::bigint, 1.5::double precision, NULL::boolean, 0.50::numeric(20, 2), 'b'::text",
        "+t1 1::bigint, true",
        "+t1 2::bigint, true",
    ],
    &[
        "-t0 2::bigint, 1.5::double precision, false, 1.00::numeric(20, 2), 'b'::text",
        "+t1 NULL::bigint, NULL::boolean",
        "+t1 2::bigint, true",
    ],
    &["-t1 1::bigint, true"],
];

const fn found(name: &'static str, query: &'static str) -> Found {
    Found {
        name,
        tables: TABLES,
        query,
        batch: None,
        steps: STEPS,
    }
}

pub const FOUND: &[Found] = &[
    found(
        "IS DISTINCT FROM took what follows AND for its right side",
        "SELECT t0.n, t1.b FROM t0 JOIN t1 ON t0.n IS NOT DISTINCT FROM t1.n AND t0.d > 1",
    ),
    found(
        "a UNION whose first side never has rows asked the other for its names",
        "SELECT n AS x FROM t0 WHERE (n IS NULL) IS UNKNOWN UNION ALL \
         (SELECT n AS y FROM t1 UNION SELECT n AS z FROM t0)",
    ),
    found(
        "a rounded numeric was compared with another scale",
        "SELECT n, round(d, 1) > d AS x FROM t0 WHERE round(d, 1) >= d",
    ),
    found(
        "aggregates that differ in a cast had one name",
        "SELECT max(d::integer) AS x, max(d::text) AS y, max(NULL::date) AS z, \
         count(NULL::text) AS w FROM t0",
    ),
    found(
        "DISTINCT ON counted an expression twice that it had once",
        "SELECT DISTINCT ON (x, y) n AS x, n AS y, s FROM t0 ORDER BY x, y DESC, s, n",
    ),
    found(
        "string_agg(DISTINCT constant) failed for every row",
        "SELECT n, string_agg(DISTINCT 'a'::text, ',' ORDER BY 'a'::text) AS x FROM t0 GROUP BY n",
    ),
    found(
        "VALUES were refused",
        "SELECT t0.n, v.x FROM t0 LEFT JOIN (VALUES (1, 'a'), (3, NULL)) AS v(y, x) ON v.y = t0.n",
    ),
    found(
        "NOT IN over the outer row was refused",
        "SELECT n, s FROM t0 WHERE n NOT IN (SELECT t1.n FROM t1 WHERE t1.b = t0.b)",
    ),
    found(
        "an IN that may be NULL was taken for false",
        "SELECT n FROM t0 WHERE (n IN (SELECT n FROM t1)) IS NULL OR n NOT IN (SELECT n FROM t1)",
    ),
    found(
        "NOT IN of a constant did not see the NULL among the values",
        "SELECT n FROM t0 WHERE 7 NOT IN (SELECT n FROM t1)",
    ),
    found(
        "EXCEPT ALL was refused",
        "SELECT n FROM t1 EXCEPT ALL SELECT n FROM t0",
    ),
    found(
        "INTERSECT ALL was refused",
        "SELECT n FROM t1 INTERSECT ALL (SELECT n FROM t0 UNION ALL SELECT n FROM t1)",
    ),
    found(
        "a constant in an aggregate's ORDER BY was the place of a column",
        "SELECT array_to_string(array_agg(s ORDER BY 0, s), ',') AS x FROM t0",
    ),
];
