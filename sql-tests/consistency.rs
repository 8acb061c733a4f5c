//! Readers beside writers: nobody ever sees half of a transaction, or two views at two moments.
//!
//! ```text
//! transfers   BEGIN; UPDATE −x; UPDATE +x; COMMIT         the sum of all balances is always 0
//! views       balance per account, credits − debits, a join of both, their total
//! readers     SELECT in every way that could show a moment that never was
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::crash::seed;
use crate::server::{Server, block_on, connect};

const ACCOUNTS: i64 = 5;

/// Transfers of each writer.
const TRANSFERS: usize = 40;

const WRITERS: usize = 3;

const OBJECTS: &str = "
    CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT);
    CREATE TABLE log (id BIGINT PRIMARY KEY, debtor BIGINT, creditor BIGINT, amount BIGINT);
    CREATE MATERIALIZED VIEW total AS SELECT sum(balance)::BIGINT AS n FROM accounts;
    CREATE MATERIALIZED VIEW credits AS
      SELECT creditor AS id, sum(amount)::BIGINT AS n FROM log GROUP BY creditor;
    CREATE MATERIALIZED VIEW debits AS
      SELECT debtor AS id, sum(amount)::BIGINT AS n FROM log GROUP BY debtor;
    CREATE MATERIALIZED VIEW balances AS
      SELECT a.id, a.balance, coalesce(c.n, 0) - coalesce(d.n, 0) AS booked
      FROM accounts a LEFT JOIN credits c ON c.id = a.id LEFT JOIN debits d ON d.id = a.id;
    CREATE MATERIALIZED VIEW wrong AS SELECT count(*) AS n FROM balances WHERE balance <> booked;
    INSERT INTO accounts VALUES (0, 0), (1, 0), (2, 0), (3, 0), (4, 0);";

#[test]
fn no_reader_sees_half_of_a_transaction() {
    block_on(async {
        let seed = seed();
        let server = Server::start_with(&["--workers", "2", "--checkpoint-interval-ms", "100"]);
        let client = server.connect().await;
        client.batch_execute(OBJECTS).await.unwrap();
        let is_done = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..2)
            .map(|_| tokio::spawn(read(server.address(), is_done.clone())))
            .collect();
        let follower = tokio::spawn(follow(server.address()));
        let writers =
            (0..WRITERS).map(|writer| tokio::spawn(transfer(server.address(), seed, writer)));
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.await.unwrap() > 0);
        }
        // The end of the subscription: a table that the follower's view has a row of.
        client.batch_execute("DELETE FROM accounts").await.unwrap();
        assert!(follower.await.unwrap() > 1);
        let log = client
            .query_one("SELECT count(*) FROM log", &[])
            .await
            .unwrap();
        assert_eq!(
            log.get::<_, i64>(0),
            i64::try_from(WRITERS * TRANSFERS).unwrap()
        );
    });
}

/// Moves money, with the booking in the same transaction.
async fn transfer(address: SocketAddr, seed: u64, writer: usize) {
    let mut random = fastrand::Rng::with_seed(seed ^ u64::try_from(writer).unwrap());
    let client = connect(address).await.unwrap();
    for transfer in 0..TRANSFERS {
        let id = writer * TRANSFERS + transfer;
        let (debtor, creditor) = (random.i64(0..ACCOUNTS), random.i64(0..ACCOUNTS));
        let amount = random.i64(1..100);
        let sql = format!(
            "BEGIN;
             INSERT INTO log VALUES ({id}, {debtor}, {creditor}, {amount});
             UPDATE accounts SET balance = balance - {amount} WHERE id = {debtor};
             UPDATE accounts SET balance = balance + {amount} WHERE id = {creditor};
             COMMIT"
        );
        client.batch_execute(&sql).await.unwrap();
    }
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn read(address: SocketAddr, is_done: Arc<AtomicBool>) -> usize {
    let client = connect(address).await.unwrap();
    let mut rounds = 0;
    while !is_done.load(Ordering::Relaxed) {
        let checks = [
            "SELECT n FROM total",
            "SELECT n FROM wrong",
            "SELECT sum(balance)::BIGINT FROM accounts",
            "SELECT sum(balance)::BIGINT FROM balances",
            // Views and what they are made of, in one statement.
            "SELECT (SELECT sum(n)::BIGINT FROM credits) - (SELECT sum(amount)::BIGINT FROM log)
               + (SELECT sum(n)::BIGINT FROM debits) - (SELECT sum(amount)::BIGINT FROM log)",
            "SELECT count(*) FROM balances b JOIN accounts a ON a.id = b.id
             WHERE a.balance <> b.booked",
        ];
        for sql in checks {
            let row = client.query_one(sql, &[]).await.unwrap();
            assert_eq!(row.get::<_, Option<i64>>(0).unwrap_or(0), 0, "{sql}");
        }
        // The same moment in several statements.
        client
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            .await
            .unwrap();
        let before = number(&client, "SELECT count(*) FROM log").await;
        let credits = "SELECT coalesce(sum(n), 0)::BIGINT FROM credits";
        let credited = number(&client, credits).await;
        let amounts = "SELECT coalesce(sum(amount), 0)::BIGINT FROM log";
        assert_eq!(number(&client, amounts).await, credited);
        assert_eq!(number(&client, "SELECT count(*) FROM log").await, before);
        client.batch_execute("COMMIT").await.unwrap();
        rounds += 1;
    }
    rounds
}

/// Integrates the changes of the balances until all are gone; after each epoch their sum is 0.
async fn follow(address: SocketAddr) -> usize {
    let client = connect(address).await.unwrap();
    let declare = "BEGIN; DECLARE c CURSOR FOR SUBSCRIBE TO balances";
    client.batch_execute(declare).await.unwrap();
    let (mut total, mut rows, mut epochs, mut epoch) = (0, 0, 0, 0);
    loop {
        let fetch = "FETCH 1000 FROM c WITH (timeout = '30s')";
        let messages = client.simple_query(fetch).await.unwrap();
        for message in &messages {
            let SimpleQueryMessage::Row(row) = message else {
                continue;
            };
            let number = |place: usize| row.get(place).unwrap().parse::<i64>().unwrap();
            if number(0) != epoch {
                assert_eq!(total, 0, "the balances of epoch {epoch}");
                epoch = number(0);
                epochs += 1;
            }
            total += number(1) * number(3);
            rows += number(1);
        }
        if rows == 0 && epochs > 0 {
            return epochs;
        }
    }
}

#[test]
fn of_two_transactions_that_wait_for_each_other_one_is_told() {
    block_on(async {
        let server = Server::start();
        let (one, other) = (server.connect().await, server.connect().await);
        one.batch_execute("CREATE TABLE a (id BIGINT PRIMARY KEY)")
            .await
            .unwrap();
        one.batch_execute("CREATE TABLE b (id BIGINT PRIMARY KEY)")
            .await
            .unwrap();
        one.batch_execute("BEGIN; INSERT INTO a VALUES (1)")
            .await
            .unwrap();
        other
            .batch_execute("BEGIN; INSERT INTO b VALUES (1)")
            .await
            .unwrap();
        let (first, second) = tokio::join!(
            insert_or_roll_back(&one, "INSERT INTO b VALUES (2)"),
            insert_or_roll_back(&other, "INSERT INTO a VALUES (2)"),
        );
        let failures: Vec<_> = [first, second]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        let codes: Vec<_> = failures
            .iter()
            .map(|error| error.code().unwrap().code())
            .collect();
        assert_eq!(codes, ["40P01"]);
    });
}

async fn insert_or_roll_back(client: &Client, sql: &str) -> Result<(), tokio_postgres::Error> {
    let result = client.batch_execute(sql).await;
    if result.is_err() {
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    result
}
