//! State that ends: rows that come and go by the clock alone, without anything that is written.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::server::{START_TIMEOUT, Server, block_on};
use crate::watching::get;

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Asks until a query that time changes gives this number.
async fn until(client: &Client, sql: &str, expected: i64) {
    let begun = Instant::now();
    while count(client, sql).await != expected {
        assert!(begun.elapsed() < START_TIMEOUT, "{sql}: not {expected}");
        tokio::task::yield_now().await;
    }
}

#[test]
fn rows_come_and_go_without_any_input_and_over_a_restart() {
    block_on(async {
        let mut server = Server::start_with(&["--checkpoint-interval-ms", "50"]);
        let client = server.connect().await;
        let objects = "
            CREATE TABLE t (id BIGINT PRIMARY KEY, begins TIMESTAMPTZ, ends TIMESTAMPTZ);
            CREATE MATERIALIZED VIEW open AS
                SELECT id FROM t WHERE now() >= begins AND now() < ends;
            CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM open;
            INSERT INTO t VALUES
                (1, now(), now() + INTERVAL '700 milliseconds'),
                (2, now() + INTERVAL '400 milliseconds', now() + INTERVAL '1 hour'),
                (3, now() + INTERVAL '2 seconds', now() + INTERVAL '3 seconds'),
                (4, now() - INTERVAL '2 seconds', now() - INTERVAL '1 second')";
        client.batch_execute(objects).await.unwrap();
        // Both views are of one moment, whenever it is.
        let differs = "SELECT count(*) FROM n WHERE n <> (SELECT count(*) FROM open)";
        until(&client, "SELECT coalesce(sum(id), 0)::BIGINT FROM open", 2).await;
        assert_eq!(count(&client, differs).await, 0);
        // The next change is due while nobody is there, or after the start.
        drop(client);
        server.restart();
        let client = server.connect().await;
        until(&client, "SELECT sum(id)::BIGINT FROM open", 5).await;
        until(&client, "SELECT sum(id)::BIGINT FROM open", 2).await;
        until(&client, "SELECT n FROM n", 1).await;
        assert_eq!(count(&client, differs).await, 0);
    });
}

#[test]
fn many_rows_that_leave_one_by_one_are_few_steps() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let objects = "
            CREATE TABLE t (id BIGINT, ends TIMESTAMPTZ);
            CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM t WHERE ends > now();
            INSERT INTO t SELECT id, now() + INTERVAL '1 second' + id * INTERVAL '100 microseconds'
                FROM generate_series(1, 20000) AS ids(id)";
        client.batch_execute(objects).await.unwrap();
        let steps = || {
            let (_, body) = get(server.http_address(), "/metrics");
            let mut lines = body.lines();
            let line = lines.find_map(|line| line.strip_prefix("tidemill_steps_total "));
            line.unwrap().trim().parse::<f64>().unwrap()
        };
        let (begun, before) = (Instant::now(), steps());
        until(&client, "SELECT n FROM n", 0).await;
        // Each step that only the clock asks for is a twentieth of a second behind the last.
        let most = begun.elapsed().as_secs_f64() / Duration::from_millis(50).as_secs_f64();
        let taken = steps() - before;
        assert!(taken <= most + 2.0, "{taken} steps of {most}");
    });
}

#[test]
fn the_last_windows_close_by_the_clock_and_over_a_restart() {
    block_on(async {
        let mut server = Server::start_with(&["--checkpoint-interval-ms", "50"]);
        let client = server.connect().await;
        let objects = "
            CREATE SOURCE s (n BIGINT, ts TIMESTAMPTZ,
                WATERMARK FOR ts AS ts - INTERVAL '500 milliseconds') WITH
                (connector = 'topic', watermark.idle_timeout = '200 milliseconds',
                 watermark.advance_when_idle = true, watermark.max_ahead = '1 hour');
            CREATE SOURCE still (n BIGINT, ts TIMESTAMPTZ, WATERMARK FOR ts AS ts) WITH
                (connector = 'topic', watermark.idle_timeout = '200 milliseconds');
            CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n
                FROM TUMBLE(s, ts, INTERVAL '1 second') GROUP BY window_start, window_end
                EMIT ON WINDOW CLOSE;
            CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n
                FROM TUMBLE(still, ts, INTERVAL '1 second') GROUP BY window_start, window_end
                EMIT ON WINDOW CLOSE;
            INSERT INTO s VALUES (1, now()), (2, now() + INTERVAL '1 day');
            INSERT INTO still VALUES (1, now())";
        client.batch_execute(objects).await.unwrap();
        // The row of tomorrow has moved nothing, and is told.
        let told = "SELECT count(*) FROM tidemill.errors WHERE source = 's'
                    AND reason LIKE 'event time % is too far ahead of the clock'";
        assert_eq!(count(&client, told).await, 1);
        let ahead = "SELECT sum(rows_ahead)::BIGINT FROM tidemill.watermarks";
        assert_eq!(count(&client, ahead).await, 1);
        until(&client, "SELECT coalesce(sum(n), 0)::BIGINT FROM v", 1).await;
        let follows = "SELECT count(*) FROM tidemill.watermarks
                       WHERE follows_clock AND source_watermark > watermark";
        until(&client, follows, 1).await;
        client
            .batch_execute("INSERT INTO s VALUES (3, now())")
            .await
            .unwrap();
        drop(client);
        server.restart();
        let client = server.connect().await;
        until(&client, "SELECT sum(n)::BIGINT FROM v", 2).await;
        assert_eq!(count(&client, "SELECT count(*) FROM w").await, 0);
        let late = "SELECT sum(rows_late)::BIGINT FROM tidemill.views";
        assert_eq!(count(&client, late).await, 0);
    });
}

#[test]
fn windows_by_arrival_close_without_any_input_and_over_a_restart() {
    block_on(async {
        let mut server = Server::start_with(&["--checkpoint-interval-ms", "50"]);
        let client = server.connect().await;
        let of_windows = |name: &str, window: &str| {
            format!(
                "CREATE MATERIALIZED VIEW {name} AS SELECT count(*) AS n, window_end FROM {window}
                 GROUP BY window_start, window_end EMIT ON WINDOW CLOSE"
            )
        };
        let objects = [
            "CREATE SOURCE s (n BIGINT, pt AS PROCTIME()) WITH (connector = 'topic')".to_string(),
            of_windows("tumbling", "TUMBLE(s, pt, INTERVAL '1 second')"),
            of_windows(
                "hopping",
                "HOP(s, pt, INTERVAL '500 milliseconds', INTERVAL '1 second')",
            ),
            of_windows("sessions", "SESSION(s, pt, INTERVAL '300 milliseconds')"),
            "CREATE MATERIALIZED VIEW above AS SELECT count(*) AS windows FROM tumbling"
                .to_string(),
            "INSERT INTO s VALUES (1), (2)".to_string(),
        ];
        for sql in objects {
            client.batch_execute(&sql).await.unwrap();
        }
        for (view, expected) in [("tumbling", 2), ("hopping", 4), ("sessions", 2)] {
            let sum = format!("SELECT coalesce(sum(n), 0)::BIGINT FROM {view}");
            until(&client, &sum, expected).await;
            // Not before its time.
            let early = format!("SELECT count(*) FROM {view} WHERE window_end > now()");
            assert_eq!(count(&client, &early).await, 0);
        }
        client
            .batch_execute("INSERT INTO s VALUES (3)")
            .await
            .unwrap();
        drop(client);
        server.restart();
        let client = server.connect().await;
        for (view, expected) in [("tumbling", 3), ("hopping", 6), ("sessions", 3)] {
            let sum = format!("SELECT sum(n)::BIGINT FROM {view}");
            until(&client, &sum, expected).await;
        }
        until(&client, "SELECT windows FROM above", 2).await;
    });
}

#[test]
fn idle_groups_and_old_rows_leave_without_any_input_and_over_a_restart() {
    block_on(async {
        let mut server = Server::start_with(&["--checkpoint-interval-ms", "50"]);
        let client = server.connect().await;
        let objects = [
            "CREATE SOURCE s (k BIGINT) WITH (connector = 'topic')",
            "CREATE SOURCE r (k BIGINT) WITH (connector = 'topic')",
            "CREATE MATERIALIZED VIEW groups WITH (state_ttl = '700 milliseconds') AS
                SELECT k, count(*) AS n FROM s GROUP BY k",
            "CREATE MATERIALIZED VIEW above AS SELECT count(*) AS keys, sum(n) AS n FROM groups",
            "CREATE MATERIALIZED VIEW pairs WITH (state_ttl = '700 milliseconds') AS
                SELECT s.k FROM s JOIN r ON r.k = s.k",
            "INSERT INTO r VALUES (1)",
            "INSERT INTO s VALUES (1), (1), (2)",
        ];
        for sql in objects {
            client.batch_execute(sql).await.unwrap();
        }
        // They leave one after the other, and what was made of them in the same step.
        until(&client, "SELECT count(*) FROM groups", 0).await;
        until(&client, "SELECT count(*) FROM pairs", 0).await;
        assert_eq!(count(&client, "SELECT keys FROM above").await, 0);
        let state = "SELECT sum(state_rows)::BIGINT FROM tidemill.operators
                     WHERE view IN ('groups', 'pairs')";
        assert_eq!(count(&client, state).await, 0);
        let evicted =
            |view: &str| format!("SELECT rows_evicted FROM tidemill.views WHERE name = '{view}'");
        assert_eq!(count(&client, &evicted("groups")).await, 2);
        assert_eq!(count(&client, &evicted("pairs")).await, 4);
        // Whatever comes then begins anew, and leaves after a restart as it would have without.
        client
            .batch_execute("INSERT INTO r VALUES (2)")
            .await
            .unwrap();
        client
            .batch_execute("INSERT INTO s VALUES (2)")
            .await
            .unwrap();
        drop(client);
        server.restart();
        let client = server.connect().await;
        until(&client, "SELECT count(*) FROM groups", 0).await;
        until(&client, "SELECT count(*) FROM pairs", 0).await;
        assert_eq!(count(&client, &evicted("groups")).await, 3);
        assert_eq!(count(&client, &evicted("pairs")).await, 6);
        let (_, body) = get(server.http_address(), "/metrics");
        assert!(
            body.contains("tidemill_view_rows_evicted_total{view=\"groups\"} 3"),
            "{body}"
        );
    });
}
