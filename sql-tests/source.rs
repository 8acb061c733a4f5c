//! Sources over a real Kafka broker: what becomes of bad values, and of a topic that changes.

use std::time::Instant;

use tidemill::connector::kafka::Codec;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::broker::{ARRIVAL_TIMEOUT, Topic, broker};
use crate::server::{Server, block_on};

const EVENTS: &str = "
    CREATE SOURCE events (a BIGINT, b BIGINT, c TEXT NOT NULL, d BIGINT AS 100 / b, ts TIMESTAMPTZ,
                          WATERMARK FOR ts AS ts)";

/// The answer as lines of values.
async fn lines(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap();
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let values = (0..row.len()).map(|place| row.get(place).unwrap_or("NULL"));
            Some(values.collect::<Vec<_>>().join(" "))
        }
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

/// Asks until the answer is the expected one.
async fn until(client: &Client, sql: &str, expected: &[&str]) {
    let begun = Instant::now();
    loop {
        let found = lines(client, sql).await;
        if found == expected {
            return;
        }
        assert!(begun.elapsed() < ARRIVAL_TIMEOUT, "{sql}: {found:?}");
    }
}

/// Records each of which is bad in another way; only the first is good for everybody.
fn bad_values() -> Vec<String> {
    let record = |fields: &str| format!("{{{fields},\"ts\":\"2026-01-01T00:00:00Z\"}}");
    vec![
        record(r#""a":1,"b":10,"c":"x""#),
        record(r#""a":"no","b":20,"c":"x""#),
        record(r#""a":3,"b":[],"c":"x""#),
        record(r#""a":4,"b":40"#),
        record(r#""a":5,"b":0,"c":"x""#),
        r#"{"a":6,"b":60,"c":"x","ts":"never"}"#.to_string(),
        "[1]".to_string(),
    ]
}

/// Each view's columns, with what it says of the records above.
const VIEWS: [(&str, &str, &str); 6] = [
    ("nothing", "count(*)", "5"),
    ("of_a", "count(*), sum(a)", "4 13"),
    ("of_b", "count(*), min(b), max(b)", "4 0 40"),
    ("of_c", "count(*), max(c)", "4 x"),
    ("of_d", "count(*), sum(d)", "3 17"),
    (
        "of_all",
        "count(*), sum(a), sum(b), max(c), sum(d)",
        "1 1 10 x 10",
    ),
];

#[test]
fn a_bad_value_is_left_out_by_the_views_that_use_its_column() {
    let Some(broker) = broker() else {
        return;
    };
    let topic = Topic::create(&broker, "bad-values", 1);
    topic.produce(Codec::None, &bad_values());
    let create = |name: &str, columns: &str| {
        format!("CREATE MATERIALIZED VIEW {name} AS SELECT {columns} FROM events")
    };
    block_on(async {
        let mut server = Server::start();
        let client = server.connect().await;
        let sql = format!("{EVENTS} {}", topic.with());
        client.batch_execute(&sql).await.unwrap();
        // Made one after the other, with restarts between, over what other views read.
        for (number, (name, columns, expected)) in VIEWS.into_iter().enumerate() {
            let client = server.connect().await;
            client.batch_execute(&create(name, columns)).await.unwrap();
            let sql = format!("SELECT * FROM {name}");
            assert_eq!(lines(&client, &sql).await, [expected], "{name}");
            if number % 2 == 1 {
                server.restart();
            }
        }
        let client = server.connect().await;
        for (name, columns, expected) in VIEWS {
            let answer = lines(&client, &format!("SELECT * FROM {name}")).await;
            assert_eq!(answer, [expected], "{name}");
            let answer = lines(&client, &format!("SELECT {columns} FROM events")).await;
            assert_eq!(answer, [expected], "{name}, ad hoc");
        }
        // The same records again, read for all views at once and replayed after a kill.
        topic.produce(Codec::None, &bad_values());
        until(&client, "SELECT * FROM nothing", &["10"]).await;
        server.restart();
        let client = server.connect().await;
        for (name, expected) in [
            ("nothing", "10"),
            ("of_a", "8 26"),
            ("of_b", "8 0 40"),
            ("of_c", "8 x"),
            ("of_d", "6 34"),
            ("of_all", "2 2 20 x 20"),
        ] {
            until(&client, &format!("SELECT * FROM {name}"), &[expected]).await;
        }
    });
}

#[test]
fn on_error_says_what_becomes_of_a_bad_value() {
    let Some(broker) = broker() else {
        return;
    };
    let topic = Topic::create(&broker, "on-error", 1);
    topic.produce(Codec::None, &bad_values());
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let sql = format!("{EVENTS} {} (on_error = 'null')", topic.with());
        client.batch_execute(&sql).await.unwrap();
        let sql = "CREATE MATERIALIZED VIEW v AS SELECT count(*), count(a) AS a, count(b) AS b FROM events";
        client.batch_execute(sql).await.unwrap();
        assert_eq!(lines(&client, "SELECT * FROM v").await, ["6 5 5"]);
        client
            .batch_execute("DROP SOURCE events CASCADE")
            .await
            .unwrap();

        // Reading ends at the record, whether the bad column is used or not.
        let sql = format!("{EVENTS} {} (on_error = 'fail')", topic.with());
        client.batch_execute(&sql).await.unwrap();
        for columns in ["count(*)", "count(a)", "count(c)"] {
            let sql = format!("CREATE MATERIALIZED VIEW v AS SELECT {columns} FROM events");
            let error = client.batch_execute(&sql).await.unwrap_err();
            let error = error.as_db_error().unwrap();
            assert_eq!(error.code().code(), "22000", "{error:?}");
            let reason = "partition 0, offset 1: column \"a\": \"no\" is not a bigint";
            assert!(error.message().contains(reason), "{error:?}");
        }
    });
}
