//! Transactions as a program meets them: the statements of one text, COPY between BEGIN and COMMIT,
//! settings, and one transaction over topics and tables under SIGKILL.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::SinkExt;
use tokio::sync::watch;
use tokio_postgres::{Client, Error};

use crate::crash::seed;
use crate::server::{Server, block_on, code, connect};

/// How long a test waits for what must come; only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Sends rows of one column by COPY.
async fn copy_in(client: &Client, sql: &str, rows: &[i64]) -> Result<u64, Error> {
    let mut sink = pin!(client.copy_in::<_, bytes::Bytes>(sql).await?);
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    sink.send(text.into()).await?;
    sink.finish().await
}

#[test]
fn the_statements_of_one_text_are_one_transaction() {
    block_on(async {
        let server = Server::start();
        let (client, other) = (server.connect().await, server.connect().await);
        let tables = "CREATE TABLE t (id BIGINT PRIMARY KEY); CREATE TABLE u (id BIGINT)";
        client.batch_execute(tables).await.unwrap();
        let rows = "SELECT (SELECT count(*) FROM t) * 10 + (SELECT count(*) FROM u)";

        // All or nothing.
        let text = "INSERT INTO t VALUES (1); INSERT INTO u VALUES (1); INSERT INTO t VALUES (1)";
        let error = client.batch_execute(text).await.unwrap_err();
        assert_eq!(code(&error), "23505");
        assert_eq!(count(&client, rows).await, 0);
        let text = "INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)";
        client.batch_execute(text).await.unwrap();
        assert_eq!(count(&other, rows).await, 11);

        // COMMIT and ROLLBACK in a text end what was before them; what follows is a new one.
        let text = "INSERT INTO t VALUES (2); COMMIT; INSERT INTO t VALUES (3); SELECT 1 / 0";
        let error = client.batch_execute(text).await.unwrap_err();
        assert_eq!(code(&error), "22012");
        assert_eq!(count(&client, rows).await, 21);
        let text = "INSERT INTO t VALUES (3); ROLLBACK; INSERT INTO u VALUES (2)";
        client.batch_execute(text).await.unwrap();
        assert_eq!(count(&client, rows).await, 22);

        // BEGIN in a text takes in what was before it and outlives the text.
        let text = "INSERT INTO t VALUES (4); BEGIN; INSERT INTO t VALUES (5)";
        client.batch_execute(text).await.unwrap();
        assert_eq!(count(&other, rows).await, 22);
        assert_eq!(count(&client, rows).await, 42);
        client.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(count(&client, rows).await, 22);

        // A definition takes effect at once, with what stands before it.
        let text = "INSERT INTO t VALUES (6);
            CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t;
            INSERT INTO t VALUES (7); SELECT 1 / 0";
        let error = client.batch_execute(text).await.unwrap_err();
        assert_eq!(code(&error), "22012");
        assert_eq!(count(&other, "SELECT n FROM v").await, 3);

        // SET is taken back with the rest.
        let text = "SET application_name = 'x'; SELECT 1 / 0";
        client.batch_execute(text).await.unwrap_err();
        let name = "SELECT count(*) FROM pg_settings WHERE setting = 'x'";
        assert_eq!(count(&client, name).await, 0);
    });
}

#[test]
fn rows_of_the_past_are_kept_for_as_long_as_allowed() {
    block_on(async {
        let server = Server::start_with(&["--snapshot-age-limit-s", "1"]);
        let (writer, reader) = (server.connect().await, server.connect().await);
        let fetcher = server.connect().await;
        let rows = "CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT);
            INSERT INTO t SELECT value, 1 FROM generate_series(1, 200000)";
        writer.batch_execute(rows).await.unwrap();
        let cursor = "DECLARE c CURSOR WITH HOLD FOR SELECT id, v FROM t; FETCH 10 FROM c";
        fetcher.batch_execute(cursor).await.unwrap();
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
        reader.batch_execute(begin).await.unwrap();
        let sum = "SELECT sum(v)::bigint FROM t";
        assert_eq!(count(&reader, sum).await, 200_000);

        // Until then it reads what it read first.
        let begun = Instant::now();
        let error = loop {
            let change = "UPDATE t SET v = v + 1 WHERE id % 5000 = 0";
            writer.batch_execute(change).await.unwrap();
            match reader.query_one(sum, &[]).await {
                Ok(row) => assert_eq!(row.get::<_, i64>(0), 200_000),
                Err(error) => break error,
            }
            assert!(begun.elapsed() < PATIENCE, "it is never too old");
        };
        assert_eq!(code(&error), "72000");
        assert!(begun.elapsed() >= Duration::from_millis(900));
        let error = reader.query_one(sum, &[]).await.unwrap_err();
        assert_eq!(code(&error), "25P02");
        reader.batch_execute("ROLLBACK").await.unwrap();
        assert!(count(&reader, sum).await > 200_000);

        let error = fetcher.batch_execute("FETCH ALL FROM c").await.unwrap_err();
        assert_eq!(code(&error), "72000");
    });
}

#[test]
fn a_copy_is_a_part_of_its_transaction() {
    block_on(async {
        let server = Server::start();
        let (client, other) = (server.connect().await, server.connect().await);
        let objects = "CREATE TABLE t (id BIGINT PRIMARY KEY);
            CREATE SOURCE s (id BIGINT) WITH (connector = 'topic');
            CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t;
            CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM s;
            INSERT INTO t VALUES (1)";
        client.batch_execute(objects).await.unwrap();
        client.batch_execute("BEGIN").await.unwrap();
        for relation in ["t", "s"] {
            let copy = format!("COPY {relation} FROM STDIN");
            assert_eq!(copy_in(&client, &copy, &[2, 3]).await.unwrap(), 2);
        }
        assert_eq!(count(&client, "SELECT count(*) FROM t").await, 3);
        for sql in ["SELECT count(*) - 1 FROM t", "SELECT count(*) FROM s"] {
            assert_eq!(count(&other, sql).await, 0);
        }
        client.batch_execute("COMMIT").await.unwrap();
        assert_eq!(count(&other, "SELECT n FROM v").await, 3);
        assert_eq!(count(&other, "SELECT n FROM w").await, 2);

        // A key that is there fails the transaction, with the rows before it.
        client.batch_execute("BEGIN").await.unwrap();
        copy_in(&client, "COPY s FROM STDIN", &[4]).await.unwrap();
        let error = copy_in(&client, "COPY t FROM STDIN", &[4, 1])
            .await
            .unwrap_err();
        assert_eq!(code(&error), "23505");
        client.batch_execute("COMMIT").await.unwrap();
        assert_eq!(count(&other, "SELECT n FROM v").await, 3);
        assert_eq!(count(&other, "SELECT n FROM w").await, 2);
    });
}

#[test]
fn set_config_sets() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let zone = "SELECT current_setting('timezone')";
        let read = async || -> String { client.query_one(zone, &[]).await.unwrap().get(0) };
        let set = async |value: &str, is_local: bool| -> Result<String, Error> {
            let sql = format!("SELECT set_config('TimeZone', '{value}', {is_local})");
            Ok(client.query_one(&sql, &[]).await?.get(0))
        };
        assert_eq!(set("Europe/Berlin", false).await.unwrap(), "Europe/Berlin");
        assert_eq!(read().await, "Europe/Berlin");
        client.batch_execute("BEGIN").await.unwrap();
        set("Asia/Tokyo", true).await.unwrap();
        assert_eq!(read().await, "Asia/Tokyo");
        client.batch_execute("COMMIT").await.unwrap();
        assert_eq!(read().await, "Europe/Berlin");
        client.batch_execute("BEGIN").await.unwrap();
        set("Asia/Tokyo", false).await.unwrap();
        client.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(read().await, "Europe/Berlin");
        assert_eq!(code(&set("Nowhere", false).await.unwrap_err()), "22023");
        let unknown = "SELECT set_config('no_such_setting', 'x', false)";
        let error = client.query_one(unknown, &[]).await.unwrap_err();
        assert_eq!(code(&error), "42704");
    });
}

const KILLS: usize = 6;

/// Ids of a relation, none of them twice.
async fn ids(client: &Client, sql: &str) -> BTreeSet<i64> {
    let rows = client.query(sql, &[]).await.unwrap();
    let ids: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(ids.len(), rows.len(), "{sql}: rows were repeated");
    ids
}

#[test]
fn a_killed_server_keeps_all_of_a_transaction_over_topics_and_tables_or_nothing() {
    block_on(async {
        let mut random = fastrand::Rng::with_seed(seed());
        let mut server = Server::start_with(&["--checkpoint-interval-ms", "100"]);
        let objects = "CREATE SOURCE a (id BIGINT) WITH (connector = 'topic', partitions = 2);
            CREATE SOURCE b (id BIGINT) WITH (connector = 'topic');
            CREATE TABLE t (id BIGINT PRIMARY KEY);
            CREATE MATERIALIZED VIEW v AS SELECT id FROM a;";
        server.connect().await.batch_execute(objects).await.unwrap();
        let mut acknowledged = BTreeSet::new();
        let mut next = 0;
        for kill in 0..KILLS {
            let (done, committed) = watch::channel(0);
            let writer = tokio::spawn(write(server.address(), next, done));
            let alone = tokio::spawn(write_alone(server.address(), next));
            let wanted = random.usize(1..20);
            committed
                .clone()
                .wait_for(|count| *count >= wanted)
                .await
                .unwrap();
            for _ in 0..random.usize(0..200) {
                tokio::task::yield_now().await;
            }
            server.kill();
            let (written, unsure) = writer.await.unwrap();
            alone.await.unwrap();
            acknowledged.extend(written);
            next = unsure + 1;
            server.start_again();
            let client = server.connect().await;
            let there = ids(&client, "SELECT id FROM t").await;
            println!("kill {kill}: {} transactions", there.len());
            assert_eq!(there, ids(&client, "SELECT id FROM a WHERE id >= 0").await);
            assert_eq!(there, ids(&client, "SELECT id FROM v WHERE id >= 0").await);
            assert_eq!(there, ids(&client, "SELECT id FROM b").await);
            let lost: Vec<_> = acknowledged.difference(&there).collect();
            assert!(lost.is_empty(), "acknowledged rows are lost: {lost:?}");
            let invented: Vec<_> = there.difference(&acknowledged).collect();
            assert!(invented.iter().all(|id| **id == unsure), "{invented:?}");
            acknowledged = there;
        }
    });
}

/// Transactions over both topics and the table; the ids of those that were acknowledged, and the
/// one that was under way.
async fn write(address: SocketAddr, first: i64, done: watch::Sender<usize>) -> (Vec<i64>, i64) {
    let client = connect(address).await.unwrap();
    let mut acknowledged = Vec::new();
    for id in first.. {
        let sql = format!(
            "BEGIN; INSERT INTO a VALUES ({id}); INSERT INTO t VALUES ({id});
             INSERT INTO b VALUES ({id}); COMMIT"
        );
        if let Err(error) = client.batch_execute(&sql).await {
            assert!(error.as_db_error().is_none(), "{error:?}");
            return (acknowledged, id);
        }
        acknowledged.push(id);
        done.send_replace(acknowledged.len());
    }
    unreachable!("the server is killed")
}

/// Rows of the first topic alone beside them, with negative ids.
async fn write_alone(address: SocketAddr, first: i64) {
    let client = connect(address).await.unwrap();
    for number in 1.. {
        let sql = format!("INSERT INTO a VALUES ({})", -(first * 1_000_000 + number));
        if let Err(error) = client.batch_execute(&sql).await {
            assert!(error.as_db_error().is_none(), "{error:?}");
            return;
        }
    }
}
