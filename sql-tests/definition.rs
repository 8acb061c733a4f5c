//! Definitions under SIGKILL: what was acknowledged is there, what was dropped is gone, and every
//! view holds what its query says, whatever the server was doing when it died.
//!
//! ```text
//! definer   CREATE MATERIALIZED VIEW …, DROP MATERIALIZED VIEW …, one after the other
//! writer    INSERT INTO events …                        (views catch up while rows come)
//! ─────── SIGKILL at a random moment, restart, compare every view with its batch answer ───────
//! ```

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tokio::sync::watch;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::crash::seed;
use crate::server::{Server, block_on, connect};

const KILLS: usize = 8;

/// Views are called v0, v1 …; more than these are dropped before new ones come.
const VIEWS_MAX: usize = 5;

/// The query of the view with this number.
fn query(number: u64) -> String {
    match number % 4 {
        0 => format!("SELECT k, count(*) AS n, sum(n) + {number} AS total FROM events GROUP BY k"),
        1 => format!("SELECT n, n + {number} AS more FROM events WHERE k <> 1"),
        2 => "SELECT e.n, t.name FROM events e LEFT JOIN names t ON t.k = e.k".to_string(),
        _ => "SELECT name, count(*) AS n FROM names GROUP BY name".to_string(),
    }
}

/// What the definer knows.
#[derive(Default)]
struct Definitions {
    there: BTreeSet<u64>,
    /// The statement that was under way: whether it was done is not known.
    unsure: Option<u64>,
    next: u64,
}

#[test]
fn definitions_survive_kills_while_rows_come() {
    block_on(async {
        let mut random = fastrand::Rng::with_seed(seed());
        let mut server = Server::start_with(&["--checkpoint-interval-ms", "30"]);
        let objects = "CREATE SOURCE events (k BIGINT, n BIGINT) WITH (connector = 'topic');
            CREATE TABLE names (k BIGINT PRIMARY KEY, name TEXT);
            INSERT INTO names VALUES (0, 'zero'), (1, 'one'), (3, 'zero')";
        server.connect().await.batch_execute(objects).await.unwrap();
        let mut definitions = Definitions::default();
        for kill in 0..KILLS {
            let (count, statements) = watch::channel(0);
            let definer = tokio::spawn(define(server.address(), definitions, count));
            let writer = tokio::spawn(write(server.address()));
            let wanted = random.usize(1..8);
            statements
                .clone()
                .wait_for(|count| *count >= wanted)
                .await
                .unwrap();
            for _ in 0..random.usize(0..2_000) {
                tokio::task::yield_now().await;
            }
            server.kill();
            definitions = definer.await.unwrap();
            writer.await.unwrap();
            println!(
                "kill {kill}: {:?}, unsure {:?}",
                definitions.there, definitions.unsure
            );
            server.start_again();
            check(&server.connect().await, &mut definitions).await;
        }
    });
}

async fn define(
    address: SocketAddr,
    mut definitions: Definitions,
    count: watch::Sender<usize>,
) -> Definitions {
    let client = connect(address).await.unwrap();
    loop {
        let (number, sql) = match definitions.there.first() {
            Some(&oldest) if definitions.there.len() >= VIEWS_MAX => {
                (oldest, format!("DROP MATERIALIZED VIEW v{oldest}"))
            }
            _ => {
                let number = definitions.next;
                definitions.next += 1;
                (
                    number,
                    format!("CREATE MATERIALIZED VIEW v{number} AS {}", query(number)),
                )
            }
        };
        if let Err(error) = client.batch_execute(&sql).await {
            assert!(error.as_db_error().is_none(), "{sql}: {error:?}");
            definitions.unsure = Some(number);
            return definitions;
        }
        if !definitions.there.remove(&number) {
            definitions.there.insert(number);
        }
        count.send_modify(|count| *count += 1);
    }
}

async fn write(address: SocketAddr) {
    let client = connect(address).await.unwrap();
    for n in 0.. {
        let sql = format!(
            "INSERT INTO events VALUES ({}, {n}), ({}, {n})",
            n % 4,
            n % 3
        );
        if let Err(error) = client.simple_query(&sql).await {
            assert!(error.as_db_error().is_none(), "{error:?}");
            return;
        }
    }
}

async fn check(client: &Client, definitions: &mut Definitions) {
    let there: BTreeSet<u64> = rows(client, "SHOW MATERIALIZED VIEWS")
        .await
        .iter()
        .map(|name| name.trim_start_matches('v').parse().unwrap())
        .collect();
    let mut expected = definitions.there.clone();
    if let Some(unsure) = definitions.unsure.take() {
        expected.remove(&unsure);
        if there.contains(&unsure) {
            expected.insert(unsure);
        }
    }
    assert_eq!(there, expected);
    definitions.there = there;
    for number in &definitions.there {
        let view = rows(client, &format!("SELECT * FROM v{number}")).await;
        assert_eq!(view, rows(client, &query(*number)).await, "v{number}");
    }
}

/// A query's rows as text, sorted.
async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let messages = client
        .simple_query(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let mut rows: Vec<String> = messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let values: Vec<&str> = (0..row.len())
                    .map(|place| row.get(place).unwrap_or("NULL"))
                    .collect();
                Some(values.join(" "))
            }
            _ => None,
        })
        .collect();
    rows.sort_unstable();
    rows
}
