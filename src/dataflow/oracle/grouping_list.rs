//! Queries with GROUPING SETS, ROLLUP and CUBE.

use crate::dataflow::oracle::query::{Case, query};

pub(super) fn grouping() -> Vec<Case> {
    let windowed = "SELECT a, window_start, window_end, count(*), sum(d), max(b), grouping(a) \
                    FROM {0} GROUP BY GROUPING SETS ((window_start, window_end, a), \
                    (window_start, window_end))";
    vec![
        query(
            "SELECT a, b, count(*), sum(d), grouping(a), grouping(a, b) FROM t \
             GROUP BY ROLLUP (a, b)",
        ),
        query(
            "SELECT b, a, count(*), max(ts), grouping(b) + grouping(a) AS g FROM s \
             GROUP BY CUBE (b, a)",
        )
        .keeps(),
        query(
            "SELECT a, b, count(DISTINCT d), min(d) FROM t GROUP BY GROUPING SETS \
             ((a), (b), (b, a), (b))",
        ),
        query(
            "SELECT a % 3 AS x, b, count(*) AS n FROM t GROUP BY ROLLUP (a % 3), b \
             HAVING count(*) > 1",
        ),
        query("SELECT a, b FROM t GROUP BY CUBE (a, b)"),
        query("SELECT count(*), sum(a) FROM t GROUP BY GROUPING SETS ((), ())"),
        query(
            "SELECT a, sum(d) FILTER (WHERE e), array_agg(id ORDER BY id) FROM t \
             GROUP BY ROLLUP (a)",
        ),
        query(windowed).tumble("s", 10),
        query(windowed).tumble("s", 10).lateness(8),
        query(windowed).hop("s", 5, 10).closes(2),
        query(windowed).tumble("s", 10).closes(2),
        query(windowed).tumble("s", 10).lateness(5).closes(2),
        query(
            "SELECT b, window_start, window_end, count(*), sum(v) FROM {0} \
             GROUP BY ROLLUP (window_start, window_end, b)",
        )
        .tumble("l", 10),
        query(
            "SELECT b, window_start, window_end, count(*), sum(v) FROM {0} \
             GROUP BY window_start, window_end, ROLLUP (b)",
        )
        .session("l", "a", &[0], 5),
        query(
            "SELECT b, window_end, count(*) AS n FROM {0} \
             GROUP BY GROUPING SETS ((b, window_end), (window_end))",
        )
        .hop("l", 5, 10)
        .closes(1)
        .then("SELECT window_end, max(n), count(*) FROM v0 GROUP BY window_end")
        .closes(0),
        query(
            "SELECT window_end, count(*) AS n FROM {0} GROUP BY window_end UNION ALL \
             SELECT window_end, sum(v) FROM {1} GROUP BY window_end",
        )
        .tumble("s", 10)
        .tumble("r", 10)
        .closes(0),
    ]
}
