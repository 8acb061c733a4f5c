//! What the server tells of itself while it works, and what it does at its memory limit.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use tokio_postgres::Client;

use crate::server::{START_TIMEOUT, Server, block_on};

/// The lines of an EXPLAIN, or of any statement with one column of text.
async fn lines(client: &Client, statement: &str) -> String {
    let rows = client.query(statement, &[]).await.unwrap();
    let line = |row: &tokio_postgres::Row| row.get::<_, String>(0) + "\n";
    rows.iter().map(line).collect()
}

/// The body of an answer to a GET, with its status.
pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_string())
}

/// A server with a view that has seen a late row and a bad one.
async fn watched(server: &Server) -> Client {
    let client = server.connect().await;
    let objects = "
        CREATE SOURCE s (id BIGINT, n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)
            WITH (connector = 'topic');
        CREATE MATERIALIZED VIEW v AS
            SELECT window_start, sum(100 / n) AS total FROM TUMBLE(s, ts, INTERVAL '10 seconds')
            GROUP BY window_start, window_end;
        INSERT INTO s VALUES (1, 1, '2026-01-01 00:00:00'), (2, 0, '2026-01-01 00:00:10'),
            (3, 5, '2026-01-01 00:00:15'), (4, 1, '2026-01-01 00:00:05');";
    client.batch_execute(objects).await.unwrap();
    client
}

#[test]
fn explain_analyze_tells_what_a_running_view_has_done() {
    block_on(async {
        let server = Server::start_with(&["--workers", "2"]);
        let client = watched(&server).await;
        let told = lines(&client, "EXPLAIN ANALYZE v").await;
        for part in [
            "0: Scan s (n, ts) [append-only]\n     rows in 0 (0.0/s), out 4 (",
            "rows in 4 (",
            "; late 1",
            "; bad 1",
            "; state 1 rows, ",
            "view: retracting, ",
            "rows 2, ",
            "late 1, bad 1",
            "fresh at 20",
        ] {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
        // The plan is that of EXPLAIN, line by line.
        for line in lines(&client, "EXPLAIN v").await.lines() {
            assert!(told.contains(line), "{line:?} is not in\n{told}");
        }
    });
}

#[test]
fn explain_analyze_of_a_query_runs_it() {
    block_on(async {
        let server = Server::start();
        let client = watched(&server).await;
        let told = lines(&client, "EXPLAIN ANALYZE SELECT * FROM v WHERE total > 50").await;
        assert!(
            told.contains("output_rows=") && told.contains("rows: 1"),
            "{told}"
        );
        let refused = client
            .query(
                "EXPLAIN ANALYZE CREATE MATERIALIZED VIEW w AS SELECT id FROM s",
                &[],
            )
            .await;
        assert_eq!(refused.unwrap_err().code().unwrap().code(), "0A000");
        let nothing = client.query("EXPLAIN ANALYZE s", &[]).await;
        assert_eq!(nothing.unwrap_err().code().unwrap().code(), "42809");
    });
}

#[test]
fn a_generator_that_is_behind_makes_its_views_stale_and_not_others() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let objects = "
            CREATE SOURCE bids WITH (connector = 'nexmark', rate = 1000);
            CREATE MATERIALIZED VIEW per_auction AS SELECT auction, count(*) AS n FROM bids
                GROUP BY auction;";
        client.batch_execute(objects).await.unwrap();
        let query = "SELECT s.state, s.rows_in, v.freshness_ms, v.rows
            FROM tidemill.sources s, tidemill.views v WHERE s.rows_in > 100";
        let row = loop {
            if let Some(row) = client.query_opt(query, &[]).await.unwrap() {
                break row;
            }
        };
        assert!(["reading", "paused"].contains(&row.get::<_, &str>(0)));
        let freshness: i64 = row.get(2);
        assert!((0..60_000).contains(&freshness), "{freshness} ms");
        let rows: i64 = row.get(3);
        assert!(rows > 0);
    });
}

#[test]
fn health_and_readiness_answer() {
    let server = Server::start();
    assert_eq!(
        get(server.http_address(), "/healthz"),
        (200, "ok\n".to_string())
    );
    assert_eq!(get(server.http_address(), "/readyz").0, 200);
}

#[test]
fn metrics_tell_of_steps_views_sources_and_memory() {
    block_on(async {
        let server = Server::start_with(&["--checkpoint-interval-ms", "50"]);
        let client = watched(&server).await;
        client
            .batch_execute("CREATE TABLE t (id BIGINT); INSERT INTO t VALUES (1), (2)")
            .await
            .unwrap();
        let metric = |name: &str| -> f64 {
            let (_, body) = get(server.http_address(), "/metrics");
            let line = body.lines().find_map(|line| line.strip_prefix(name));
            let line = line.unwrap_or_else(|| panic!("{name} is not in\n{body}"));
            line.trim().parse().unwrap()
        };
        assert_eq!(metric("tidemill_rows_in_total "), 6.0);
        assert!(metric("tidemill_steps_total ") >= 2.0);
        assert!(metric("tidemill_step_seconds_total ") > 0.0);
        assert!(metric("tidemill_fsyncs_total ") > 0.0);
        assert_eq!(metric("tidemill_view_rows{view=\"v\"} "), 2.0);
        assert_eq!(metric("tidemill_view_up{view=\"v\"} "), 1.0);
        assert_eq!(metric("tidemill_view_rows_late_total{view=\"v\"} "), 1.0);
        assert_eq!(metric("tidemill_view_rows_bad_total{view=\"v\"} "), 1.0);
        assert_eq!(metric("tidemill_view_freshness_seconds{view=\"v\"} "), 0.0);
        assert_eq!(
            metric("tidemill_source_rows_in_total{source=\"s\",partition=\"0\"} "),
            4.0
        );
        assert_eq!(
            metric("tidemill_source_lag_records{source=\"s\",partition=\"0\"} "),
            0.0
        );
        assert_eq!(metric("tidemill_rows_changed_total{relation=\"t\"} "), 2.0);
        assert!(metric("tidemill_memory_bytes{account=\"rows\"} ") > 0.0);
        assert!(metric("tidemill_memory_bytes{account=\"state\"} ") > 0.0);
        assert!(metric("tidemill_memory_used_bytes ") < metric("tidemill_memory_limit_bytes "));
        // CREATE MATERIALIZED VIEW has waited for one.
        assert!(metric("tidemill_checkpoints_total ") >= 1.0);
        assert!(metric("tidemill_checkpoint_bytes ") > 0.0);
        let (status, page) = get(server.http_address(), "/");
        assert_eq!(status, 200);
        assert!(page.contains("Views") && page.contains("running"), "{page}");
    });
}

/// The SQLSTATE that a statement is refused with, and the hint.
async fn refusal(client: &Client, statement: &str) -> (String, String) {
    let error = client.batch_execute(statement).await.unwrap_err();
    let error = error.as_db_error().expect("the server's refusal");
    let hint = error.hint().unwrap_or_default().to_string();
    (error.code().code().to_string(), hint)
}

/// Puts rows of a megabyte into a table until one is refused; how many there are then.
async fn fill(client: &Client) -> i64 {
    client
        .batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY, x TEXT)")
        .await
        .unwrap();
    let megabyte = "x".repeat(1_000_000);
    for id in 0.. {
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&id, &megabyte];
        match client
            .execute("INSERT INTO t VALUES ($1, $2)", &values)
            .await
        {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.code().unwrap().code(), "53200", "{error}");
                return id;
            }
        }
    }
    unreachable!("the memory has an end");
}

#[test]
fn at_the_memory_limit_the_server_refuses_and_goes_on() {
    block_on(async {
        let server = Server::start_with(&["--memory-limit", "256MB"]);
        let client = server.connect().await;
        let before = "CREATE TABLE small (id BIGINT PRIMARY KEY);
            INSERT INTO small VALUES (1), (2), (3);
            CREATE MATERIALIZED VIEW doubled AS SELECT id, id * 2 AS twice FROM small;";
        client.batch_execute(before).await.unwrap();
        let rows = fill(&client).await;
        assert!((20..256).contains(&rows), "{rows} megabytes");
        // What would take more is refused with the limit's name.
        for statement in [
            "CREATE MATERIALIZED VIEW all_of_it AS SELECT x, count(*) FROM t GROUP BY x",
            "SELECT x || id, count(*) FROM t GROUP BY x || id",
        ] {
            let (code, hint) = refusal(&client, statement).await;
            assert_eq!(code, "53200", "{statement}");
            assert!(
                hint.contains("256 MB") && hint.contains("--memory-limit"),
                "{hint}"
            );
        }
        // Whoever wants to know why is told, views are read, and rows can go.
        let used = "SELECT m.bytes * 10 >= l.bytes * 9 FROM tidemill.memory m, tidemill.memory l
            WHERE m.account = 'used' AND l.account = 'limit'";
        assert!(client.query_one(used, &[]).await.unwrap().get::<_, bool>(0));
        let views = client
            .query("SELECT * FROM tidemill.views", &[])
            .await
            .unwrap();
        assert_eq!(views.len(), 1);
        let twice = client
            .query("SELECT twice FROM doubled WHERE id = 2", &[])
            .await
            .unwrap();
        assert_eq!(twice[0].get::<_, i64>(0), 4);
        client
            .batch_execute("DELETE FROM small WHERE id = 1")
            .await
            .unwrap();
        let left = client
            .query_one("SELECT count(*) FROM doubled", &[])
            .await
            .unwrap();
        assert_eq!(left.get::<_, i64>(0), 2);
        // With the room comes the rest.
        client.batch_execute("DROP TABLE t").await.unwrap();
        let begun = Instant::now();
        while let Err(error) = client.batch_execute("INSERT INTO small VALUES (4)").await {
            assert_eq!(error.code().unwrap().code(), "53200", "{error}");
            assert!(begun.elapsed() < START_TIMEOUT, "{error:?}");
        }
    });
}

#[test]
fn near_the_memory_limit_readers_pause_and_the_server_answers() {
    block_on(async {
        let server = Server::start_with(&["--memory-limit", "192MB"]);
        let client = server.connect().await;
        // Every row is another group: nothing bounds this view but the memory.
        let objects = "CREATE SOURCE wide (n BIGINT, t TEXT)
                WITH (connector = 'datagen', fields.n.kind = 'sequence', fields.t.length = 1000);
            CREATE MATERIALIZED VIEW all_rows AS
                SELECT n, t, count(*) AS rows FROM wide GROUP BY n, t;";
        client.batch_execute(objects).await.unwrap();
        let query = "SELECT s.state = 'paused' AND u.bytes * 10 >= l.bytes * 9
            FROM tidemill.sources s, tidemill.memory u, tidemill.memory l
            WHERE u.account = 'used' AND l.account = 'limit'";
        let begun = Instant::now();
        loop {
            let row = client.query_one(query, &[]).await.unwrap();
            if row.get::<_, bool>(0) {
                break;
            }
            assert!(begun.elapsed() < START_TIMEOUT, "it goes on");
        }
        let count = "SELECT rows FROM tidemill.views WHERE name = 'all_rows'";
        let rows: i64 = client.query_one(count, &[]).await.unwrap().get(0);
        assert!(rows > 0);
        let one = "SELECT n FROM all_rows LIMIT 1";
        assert_eq!(client.query(one, &[]).await.unwrap().len(), 1);
    });
}

/// Writes numbered rows of a kilobyte into a topic, some at a time.
async fn write_rows(client: &Client, from: i64, to: i64) {
    for first in (from..to).step_by(50) {
        let statement = format!(
            "INSERT INTO log SELECT value, repeat('x', 1000)
             FROM generate_series({first}, {}) AS s(value)",
            (first + 49).min(to - 1)
        );
        client.batch_execute(&statement).await.unwrap();
    }
}

#[test]
fn a_topic_lets_go_of_what_is_past_its_retention_and_a_new_view_says_so() {
    block_on(async {
        let mut server = Server::start_with(&["--checkpoint-interval-ms", "20"]);
        let client = server.connect().await;
        let objects = "CREATE SOURCE log (id BIGINT, x TEXT)
                WITH (connector = 'topic', retention.bytes = '200000');
            CREATE MATERIALIZED VIEW before AS SELECT count(*) AS n, min(id) AS low FROM log;";
        client.batch_execute(objects).await.unwrap();
        let mut written = 0;
        let start = loop {
            write_rows(&client, written, written + 100).await;
            written += 100;
            let query = "SELECT start_position FROM tidemill.sources WHERE name = 'log'";
            let start: i64 = client.query_one(query, &[]).await.unwrap().get(0);
            if start > 0 {
                break start;
            }
        };
        // The view that was there has seen everything.
        let seen = client
            .query_one("SELECT n, low FROM before", &[])
            .await
            .unwrap();
        assert_eq!((seen.get::<_, i64>(0), seen.get::<_, i64>(1)), (written, 0));
        client
            .batch_execute(
                "CREATE MATERIALIZED VIEW after AS SELECT count(*) AS n, min(id) AS low FROM log",
            )
            .await
            .unwrap();
        let after = client
            .query_one("SELECT n, low FROM after", &[])
            .await
            .unwrap();
        let low: i64 = after.get(1);
        assert!(low >= start, "{low} of {start}");
        assert_eq!(after.get::<_, i64>(0), written - low);
        let gaps = "SELECT gaps FROM tidemill.views WHERE name = 'after'";
        let told: String = client.query_one(gaps, &[]).await.unwrap().get(0);
        assert_eq!(
            told,
            format!("offsets 0 to {low} of partition 0 of source \"log\"")
        );
        // A restart replays what it must and needs nothing that is gone.
        server.restart();
        let client = server.connect().await;
        let seen = client.query_one("SELECT n FROM before", &[]).await.unwrap();
        assert_eq!(seen.get::<_, i64>(0), written);
        assert_eq!(
            client
                .query_one(gaps, &[])
                .await
                .unwrap()
                .get::<_, String>(0),
            told
        );
    });
}
