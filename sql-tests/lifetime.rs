//! A view from CREATE to DROP: cancelled while it catches up, made in the background, dropped under
//! those who follow it, and going on while others come and go.

use std::pin::pin;

use futures::StreamExt;
use tokio_postgres::{Client, NoTls};

use crate::server::{Server, block_on, code};

/// A source with more rows than a test has time to read: a view over it never has caught up.
const ENDLESS: &str =
    "CREATE SOURCE endless (n BIGINT) WITH (connector = 'datagen', rows = 1000000000)";

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Asks until a query over something that goes on by itself gives this number.
async fn until(client: &Client, sql: &str, expected: i64) {
    let begun = std::time::Instant::now();
    loop {
        let number = count(client, sql).await;
        if number == expected {
            return;
        }
        assert!(
            begun.elapsed() < crate::server::START_TIMEOUT,
            "{sql}: {number}"
        );
    }
}

/// Asks until a query gives a greater number; that number.
async fn beyond(client: &Client, sql: &str, bound: i64) -> i64 {
    let begun = std::time::Instant::now();
    loop {
        let number = count(client, sql).await;
        if number > bound {
            return number;
        }
        assert!(
            begun.elapsed() < crate::server::START_TIMEOUT,
            "{sql}: {number}"
        );
    }
}

#[test]
fn a_view_that_is_being_made_is_cancelled_and_leaves_nothing() {
    block_on(async {
        let mut server = Server::start();
        let (client, other) = (server.connect().await, server.connect().await);
        client.batch_execute(ENDLESS).await.unwrap();
        let create = "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM endless";
        let token = client.cancel_token();
        let (made, ()) = tokio::join!(client.batch_execute(create), async {
            until(&other, "SELECT count(*) FROM tidemill.progress", 1).await;
            // It is not there to be read before it is ready.
            let reading = other.query("SELECT n FROM v", &[]).await.unwrap_err();
            assert!(["55000", "42P01"].contains(&code(&reading)), "{reading:?}");
            token.cancel_query(NoTls).await.unwrap();
        });
        assert_eq!(code(&made.unwrap_err()), "57014");
        until(&other, "SELECT count(*) FROM tidemill.progress", 0).await;
        // The name is free, the others go on, and a restart does not bring it back.
        client
            .batch_execute("CREATE TABLE v (n BIGINT)")
            .await
            .unwrap();
        server.restart();
        let client = server.connect().await;
        assert_eq!(count(&client, "SELECT count(*) FROM v").await, 0);
        assert_eq!(
            count(&client, "SELECT count(*) FROM tidemill.views").await,
            0
        );
    });
}

#[test]
fn a_server_that_is_killed_while_a_view_is_made_starts_again() {
    block_on(async {
        let mut server = Server::start_with(&["--checkpoint-interval-ms", "50"]);
        let (client, other) = (server.connect().await, server.connect().await);
        client.batch_execute(ENDLESS).await.unwrap();
        let create = "CREATE MATERIALIZED VIEW v AS SELECT n % 10 AS k, count(*) AS rows
            FROM endless GROUP BY n % 10";
        let making = tokio::spawn(async move { client.batch_execute(create).await });
        until(&other, "SELECT count(*) FROM tidemill.progress", 1).await;
        server.kill();
        assert!(making.await.unwrap().is_err());
        server.start_again();
        let client = server.connect().await;
        client
            .batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
            .await
            .unwrap();
        client
            .batch_execute("INSERT INTO t VALUES (1)")
            .await
            .unwrap();
        assert_eq!(count(&client, "SELECT count(*) FROM t").await, 1);
    });
}

#[test]
fn a_view_is_made_in_the_background() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        client.batch_execute(ENDLESS).await.unwrap();
        client
            .batch_execute("SET background_ddl = on")
            .await
            .unwrap();
        let objects = "CREATE MATERIALIZED VIEW never AS SELECT count(*) AS n FROM endless;
            CREATE SOURCE few (n BIGINT) WITH (connector = 'datagen', rows = 1000);
            CREATE MATERIALIZED VIEW soon AS SELECT count(*) AS n FROM few;";
        client.batch_execute(objects).await.unwrap();
        let unready = client.query("SELECT n FROM never", &[]).await.unwrap_err();
        assert_eq!(code(&unready), "55000");
        let waiting = "SELECT count(*) FROM tidemill.progress WHERE view = 'soon'";
        until(&client, waiting, 0).await;
        assert_eq!(count(&client, "SELECT n FROM soon").await, 1000);
        let jobs = client.simple_query("SHOW JOBS").await.unwrap();
        let job = jobs.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
            _ => None,
        });
        let cancel = format!("CANCEL JOB {}", job.expect("a job that never ends"));
        client.batch_execute(&cancel).await.unwrap();
        until(&client, "SELECT count(*) FROM tidemill.progress", 0).await;
    });
}

#[test]
fn who_follows_a_view_is_told_when_it_is_dropped() {
    block_on(async {
        let server = Server::start();
        let (client, other) = (server.connect().await, server.connect().await);
        let objects = "CREATE TABLE t (id BIGINT PRIMARY KEY);
            CREATE MATERIALIZED VIEW v AS SELECT id FROM t;
            CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM t;
            INSERT INTO t VALUES (1);";
        client.batch_execute(objects).await.unwrap();
        let stream = other
            .query_raw("SUBSCRIBE TO v", Vec::<i64>::new())
            .await
            .unwrap();
        let mut stream = pin!(stream);
        assert_eq!(stream.next().await.unwrap().unwrap().get::<_, i64>("id"), 1);
        client
            .batch_execute("DROP MATERIALIZED VIEW v")
            .await
            .unwrap();
        let end = stream
            .next()
            .await
            .expect("an end that says why")
            .unwrap_err();
        assert!(["42P01", "55000"].contains(&code(&end)), "{end:?}");
        assert_eq!(count(&other, "SELECT n FROM w").await, 1);
    });
}

#[test]
fn other_views_go_on_while_one_catches_up() {
    block_on(async {
        let server = Server::start();
        let (client, other) = (server.connect().await, server.connect().await);
        let objects = "CREATE TABLE t (id BIGINT PRIMARY KEY);
            CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM t;";
        client.batch_execute(objects).await.unwrap();
        client.batch_execute(ENDLESS).await.unwrap();
        let token = client.cancel_token();
        let create = "CREATE MATERIALIZED VIEW v AS SELECT e.n FROM endless e JOIN t ON t.id = e.n";
        let (made, ()) = tokio::join!(client.batch_execute(create), async {
            until(&other, "SELECT count(*) FROM tidemill.progress", 1).await;
            for id in 1..=20i64 {
                other
                    .execute("INSERT INTO t VALUES ($1)", &[&id])
                    .await
                    .unwrap();
                assert_eq!(count(&other, "SELECT n FROM w").await, id);
            }
            token.cancel_query(NoTls).await.unwrap();
        });
        assert_eq!(code(&made.unwrap_err()), "57014");
        other.batch_execute("DROP TABLE t CASCADE").await.unwrap();
    });
}

#[test]
fn definitions_go_on_while_a_view_is_made() {
    block_on(async {
        let server = Server::start();
        let (client, other) = (server.connect().await, server.connect().await);
        client.batch_execute(ENDLESS).await.unwrap();
        let create = "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM endless";
        let (made, ()) = tokio::join!(client.batch_execute(create), async {
            until(&other, "SELECT count(*) FROM tidemill.progress", 1).await;
            // Its name is taken, and it cannot be read.
            for (statement, state) in [
                ("CREATE TABLE v (n BIGINT)", "42P07"),
                ("SELECT n FROM v", "55000"),
                ("SUBSCRIBE TO v", "55000"),
                ("CREATE VIEW above AS SELECT n FROM v", "55000"),
                ("COMMENT ON MATERIALIZED VIEW v IS 'soon'", "55000"),
                ("DROP SOURCE endless", "2BP01"),
            ] {
                let error = other.simple_query(statement).await.unwrap_err();
                assert_eq!(code(&error), state, "{statement}: {error:?}");
            }
            let others = [
                "CREATE TABLE t (id BIGINT PRIMARY KEY)",
                "CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM t",
                "INSERT INTO t VALUES (1)",
                "CREATE SOURCE s (n BIGINT) WITH (connector = 'topic')",
                "DROP SOURCE s",
            ];
            for statement in others {
                other.batch_execute(statement).await.unwrap();
            }
            assert_eq!(count(&other, "SELECT n FROM w").await, 1);
            other
                .batch_execute("DROP MATERIALIZED VIEW v")
                .await
                .unwrap();
        });
        assert_eq!(code(&made.unwrap_err()), "57014");
        until(&other, "SELECT count(*) FROM tidemill.progress", 0).await;
        let again = "CREATE TABLE v (n BIGINT); DROP SOURCE endless";
        other.batch_execute(again).await.unwrap();
    });
}

#[test]
fn a_source_is_dropped_under_a_view_that_is_made() {
    block_on(async {
        let mut server = Server::start();
        let (client, other) = (server.connect().await, server.connect().await);
        client.batch_execute(ENDLESS).await.unwrap();
        let create = "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM endless";
        let (made, ()) = tokio::join!(client.batch_execute(create), async {
            until(&other, "SELECT count(*) FROM tidemill.progress", 1).await;
            let drop = "DROP SOURCE endless CASCADE";
            other.batch_execute(drop).await.unwrap();
        });
        assert_eq!(code(&made.unwrap_err()), "57014");
        server.restart();
        let client = server.connect().await;
        client.batch_execute(ENDLESS).await.unwrap();
        client
            .batch_execute("CREATE TABLE v (n BIGINT)")
            .await
            .unwrap();
    });
}

#[test]
fn a_client_that_goes_takes_its_unfinished_view_and_those_above_along() {
    block_on(async {
        let server = Server::start();
        let other = server.connect().await;
        other.batch_execute(ENDLESS).await.unwrap();
        let (address, above) = (server.address(), server.connect().await);
        let settings = format!(
            "host={} port={} user=test dbname=tidemill",
            address.ip(),
            address.port()
        );
        let (below, connection) = tokio_postgres::connect(&settings, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let making = tokio::spawn(async move {
            let create = "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM endless";
            below.batch_execute(create).await
        });
        until(&other, "SELECT count(*) FROM tidemill.progress", 1).await;
        let create = "CREATE MATERIALIZED VIEW w AS SELECT n + 1 AS n FROM v";
        let (made, ()) = tokio::join!(above.batch_execute(create), async {
            until(&other, "SELECT count(*) FROM tidemill.progress", 2).await;
            connection.abort();
        });
        assert!(making.await.unwrap().is_err());
        assert_eq!(code(&made.unwrap_err()), "57014");
        until(&other, "SELECT count(*) FROM tidemill.progress", 0).await;
        let again = "CREATE TABLE v (n BIGINT); CREATE TABLE w (n BIGINT)";
        other.batch_execute(again).await.unwrap();
    });
}

#[test]
fn a_view_over_one_that_is_made_waits_for_it() {
    block_on(async {
        let mut server = Server::start();
        let (below, above) = (server.connect().await, server.connect().await);
        let source = "CREATE SOURCE many (n BIGINT) WITH (connector = 'datagen', rows = 200000)";
        below.batch_execute(source).await.unwrap();
        let create = "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM many";
        let (made, ()) = tokio::join!(below.batch_execute(create), async {
            let create = "CREATE MATERIALIZED VIEW w AS SELECT n + 1 AS n FROM v";
            while let Err(error) = above.batch_execute(create).await {
                assert_eq!(code(&error), "42P01", "{error:?}");
            }
            assert_eq!(count(&above, "SELECT n FROM w").await, 200_001);
        });
        made.unwrap();
        server.restart();
        let client = server.connect().await;
        assert_eq!(count(&client, "SELECT n FROM w").await, 200_001);
    });
}

#[test]
fn a_cancelled_job_leaves_nothing() {
    block_on(async {
        let mut server = Server::start();
        let client = server.connect().await;
        client.batch_execute(ENDLESS).await.unwrap();
        client
            .batch_execute("SET background_ddl = on")
            .await
            .unwrap();
        let create = "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM endless";
        client.batch_execute(create).await.unwrap();
        let job = count(&client, "SELECT job FROM tidemill.progress").await;
        client
            .batch_execute(&format!("CANCEL JOB {job}"))
            .await
            .unwrap();
        until(&client, "SELECT count(*) FROM tidemill.progress", 0).await;
        client
            .batch_execute("CREATE TABLE v (n BIGINT)")
            .await
            .unwrap();
        // A view that is made in the background goes on after an orderly stop.
        let create = "CREATE MATERIALIZED VIEW u AS SELECT count(*) AS n FROM endless";
        client.batch_execute(create).await.unwrap();
        assert!(server.terminate().success(), "{}", server.log());
        server.start_again();
        let client = server.connect().await;
        let jobs = "SELECT count(*) FROM tidemill.progress WHERE view = 'u'";
        assert_eq!(count(&client, jobs).await, 1);
    });
}

#[test]
fn a_view_that_is_made_in_the_background_goes_on_after_a_kill() {
    block_on(async {
        let mut server = Server::start_with(&["--checkpoint-interval-ms", "20"]);
        let client = server.connect().await;
        let objects = "CREATE TABLE names (k BIGINT PRIMARY KEY, name TEXT);
            INSERT INTO names VALUES (0, 'zero'), (1, 'one');
            CREATE SOURCE many (n BIGINT)
              WITH (connector = 'datagen', rows = 1200000, fields.n.kind = 'sequence');
            SET background_ddl = on;
            CREATE MATERIALIZED VIEW v AS
              SELECT t.name, count(*) AS rows, min(m.n) AS least, max(m.n) AS most
              FROM many m JOIN names t ON t.k = m.n % 10 GROUP BY t.name;";
        client.batch_execute(objects).await.unwrap();
        let progress = "SELECT coalesce(max(records_done), 0)::BIGINT FROM tidemill.progress";
        let mut before = 0;
        for _ in 0..3 {
            let client = server.connect().await;
            // Beyond what the last start had read, so that each goes a part of the way.
            before = beyond(&client, progress, before + 100_000).await;
            // The table goes on meanwhile: its changes are in the view in the end.
            client
                .batch_execute("UPDATE names SET name = name || '+'")
                .await
                .unwrap();
            server.restart();
        }
        let client = server.connect().await;
        until(&client, "SELECT count(*) FROM tidemill.progress", 0).await;
        let rows = client.query("SELECT * FROM v ORDER BY name", &[]).await;
        let rows: Vec<(String, i64)> = rows
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect();
        let expected = [("one+++", 120_000), ("zero+++", 120_000)];
        let expected = expected.map(|(name, rows)| (name.to_string(), rows));
        assert_eq!(rows, expected);
        assert!(server.log().contains("building a view goes on"));
        // Another restart finds it ready.
        server.restart();
        let client = server.connect().await;
        assert_eq!(
            count(&client, "SELECT sum(rows)::BIGINT FROM v").await,
            240_000
        );
    });
}
