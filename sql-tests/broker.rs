//! A real Kafka broker: the session that the README shows, with bad and late records, and a kill in
//! the middle of the load.
//!
//! The broker is `TIDEMILL_TEST_KAFKA=host:port`. Without it the tests say that they skip; with
//! `TIDEMILL_TEST_KAFKA_REQUIRED=1` they fail. Each test has a topic of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidemill::connector::kafka::{Codec, NewTopic, Producer, ProducerConfig, Record, create_topic};
use tokio_postgres::Client;

use crate::server::{Server, block_on};

/// How long a view may take to hold what is in the topic.
pub const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);

const AUCTIONS: i64 = 7;

/// The broker's address; None, with a line that says so, where there is none.
pub fn broker() -> Option<String> {
    let address = std::env::var("TIDEMILL_TEST_KAFKA")
        .ok()
        .filter(|address| !address.is_empty());
    if address.is_none() {
        let required = std::env::var("TIDEMILL_TEST_KAFKA_REQUIRED").is_ok_and(|it| it == "1");
        assert!(!required, "TIDEMILL_TEST_KAFKA is not set");
        println!("skipped: TIDEMILL_TEST_KAFKA is not set");
    }
    address
}

pub struct Topic {
    pub broker: String,
    pub name: String,
}

impl Topic {
    pub fn create(broker: &str, purpose: &str, partitions: i32) -> Topic {
        let name = format!("sql-tests-{purpose}-{:016x}", fastrand::u64(..));
        create_topic(
            broker,
            NewTopic {
                name: &name,
                partitions,
                settings: &[],
            },
        )
        .unwrap();
        Topic {
            broker: broker.to_string(),
            name,
        }
    }

    /// Writes records in order and waits until the broker has them.
    pub fn produce(&self, codec: Codec, payloads: &[String]) {
        let mut config = ProducerConfig::new(self.broker.as_str());
        config.codec = codec;
        let producer = Producer::new(&config).unwrap();
        for payload in payloads {
            let record = Record {
                payload: Some(payload.as_bytes()),
                ..Record::default()
            };
            producer.send(&self.name, record).unwrap();
        }
        producer.flush(ARRIVAL_TIMEOUT).unwrap();
    }

    /// What stands behind the columns of a source.
    pub fn with(&self) -> String {
        format!(
            "WITH (connector = 'kafka', topic = '{}', properties.bootstrap.server = '{}')
             FORMAT PLAIN ENCODE JSON",
            self.name, self.broker
        )
    }

    fn create_source(&self, delay: &str) -> String {
        format!(
            "CREATE SOURCE bids (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR,
               url VARCHAR, ts TIMESTAMPTZ, WATERMARK FOR ts AS ts - INTERVAL '{delay}')
             {}",
            self.with()
        )
    }
}

const PER_AUCTION: &str = "
    CREATE MATERIALIZED VIEW per_auction AS
      SELECT auction, window_start, window_end,
             count(*) AS bids, max(price) AS top, avg(price) AS mean
      FROM TUMBLE(bids, ts, INTERVAL '10 seconds')
      GROUP BY auction, window_start, window_end";

/// A bid at `second` after the beginning of 2026-01-01; its price is its number.
fn bid(number: i64, second: i64) -> String {
    let (hour, minute, rest) = (second / 3600, second / 60 % 60, second % 60);
    format!(
        "{{\"auction\":{},\"bidder\":{number},\"price\":{number},\"channel\":\"c\",\
         \"url\":\"https://example.org/\\u00e9\",\"unknown\":[1,{{\"a\":null}}],\
         \"ts\":\"2026-01-01T{hour:02}:{minute:02}:{rest:02}Z\"}}",
        number % AUCTIONS
    )
}

/// (auction, window) to (bids, greatest price, sum of prices).
type Model = BTreeMap<(i64, i64), (i64, i64, i64)>;

fn add(model: &mut Model, number: i64, second: i64) {
    let group = model.entry((number % AUCTIONS, second / 10)).or_default();
    *group = (group.0 + 1, group.1.max(number), group.2 + number);
}

async fn view(client: &Client) -> Model {
    let sql = "SELECT auction, extract(epoch FROM window_start)::BIGINT / 10, bids, top,
                 (mean * bids)::DOUBLE PRECISION FROM per_auction";
    let rows = client.query(sql, &[]).await.unwrap();
    let start = 1_767_225_600 / 10;
    let group = |row: &tokio_postgres::Row| {
        let total = row.get::<_, f64>(4).round();
        let total: i64 = format!("{total}").parse().unwrap();
        (
            (row.get(0), row.get::<_, i64>(1) - start),
            (row.get(2), row.get(3), total),
        )
    };
    rows.iter().map(group).collect()
}

/// Late rows of the view, bad records of the source, and rows of the errors relation.
async fn counters(client: &Client) -> (i64, i64, i64) {
    let sql = "SELECT (SELECT rows_late FROM tidemill.views WHERE name = 'per_auction'),
                      (SELECT sum(records_bad)::BIGINT FROM tidemill.sources),
                      (SELECT count(*) FROM tidemill.errors)";
    let row = client.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

/// Asks until the view has so many bids, which never are more.
async fn until_bids(client: &Client, expected: i64) {
    let begun = Instant::now();
    loop {
        let sql = "SELECT coalesce(sum(bids), 0)::BIGINT FROM per_auction";
        let bids: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        assert!(bids <= expected, "{bids} bids of {expected}");
        if bids == expected {
            return;
        }
        assert!(
            begun.elapsed() < ARRIVAL_TIMEOUT,
            "{bids} bids of {expected} in time"
        );
    }
}

#[test]
fn the_session_of_the_readme_survives_bad_and_late_records_and_a_kill() {
    let Some(broker) = broker() else {
        return;
    };
    let topic = Topic::create(&broker, "session", 1);
    let mut model = Model::new();
    let mut records = Vec::new();
    for number in 0..3_000 {
        let second = number / 10;
        add(&mut model, number, second);
        records.push(bid(number, second));
    }
    // The watermark stands at 295 s: all windows up to 290 s are closed.
    records.push(bid(9_000_001, 5));
    records.push(bid(9_000_002, 289));
    // In a window that is open, though behind the watermark.
    records.push(bid(3_000, 291));
    add(&mut model, 3_000, 291);
    records.push("{\"auction\":1,".to_string());
    records.push("{\"auction\":\"one\",\"ts\":\"2026-01-01T00:05:00Z\"}".to_string());
    records.push("{\"auction\":1,\"ts\":\"yesterday\"}".to_string());
    records.push("[]".to_string());
    topic.produce(Codec::None, &records);
    block_on(async {
        let mut server = Server::start_with(&["--checkpoint-interval-ms", "200"]);
        let client = server.connect().await;
        client
            .batch_execute(&topic.create_source("4 seconds"))
            .await
            .unwrap();
        // CREATE returns when the view holds what the topic held.
        client.batch_execute(PER_AUCTION).await.unwrap();
        assert_eq!(view(&client).await, model);
        assert_eq!(counters(&client).await, (2, 4, 4));

        let mut records = Vec::new();
        for number in 3_001..20_000 {
            let second = number / 10;
            add(&mut model, number, second);
            records.push(bid(number, second));
        }
        let (first, second) = records.split_at(records.len() / 2);
        topic.produce(Codec::Lz4, first);
        server.restart();
        topic.produce(Codec::Zstd, second);
        server.restart();
        let client = server.connect().await;
        until_bids(&client, 20_000).await;
        assert_eq!(view(&client).await, model);
        assert_eq!(counters(&client).await, (2, 4, 4));
        // The topic as it is: all bids, the late ones too, without the bad records. Columns that a
        // query does not use are not decoded, and do not make a record bad.
        let all = client
            .query_one("SELECT count(auction) FROM bids", &[])
            .await
            .unwrap();
        assert_eq!(all.get::<_, i64>(0), 20_002);
    });
}

#[test]
fn several_partitions_and_every_codec_are_read() {
    let Some(broker) = broker() else {
        return;
    };
    let topic = Topic::create(&broker, "partitions", 4);
    let mut model = Model::new();
    block_on(async {
        let mut server = Server::start();
        let client = server.connect().await;
        client
            .batch_execute(&topic.create_source("1 hour"))
            .await
            .unwrap();
        client.batch_execute(PER_AUCTION).await.unwrap();
        let mut number = 0;
        for codec in Codec::ALL {
            let mut records = Vec::new();
            for _ in 0..1_000 {
                add(&mut model, number, number / 10);
                records.push(bid(number, number / 10));
                number += 1;
            }
            topic.produce(*codec, &records);
        }
        server.restart();
        let client = server.connect().await;
        until_bids(&client, number).await;
        assert_eq!(view(&client).await, model);
    });
}

#[test]
fn an_unknown_topic_is_an_error_at_create() {
    let Some(broker) = broker() else {
        return;
    };
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let missing = Topic {
            broker,
            name: "sql-tests-nobody-makes-this".to_string(),
        };
        let sql = missing.create_source("1 second");
        let error = client.batch_execute(&sql).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert!(
            error.message().contains("sql-tests-nobody-makes-this"),
            "{error:?}"
        );
        let sources = client.simple_query("SHOW SOURCES").await.unwrap();
        let rows = sources
            .iter()
            .filter(|message| matches!(message, tokio_postgres::SimpleQueryMessage::Row(_)));
        assert_eq!(rows.count(), 0);
    });
}

#[test]
fn a_broker_that_is_away_is_an_error_at_create() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        // Nobody listens at a port that was free a moment ago.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let broker = listener.local_addr().unwrap().to_string();
        drop(listener);
        let away = Topic {
            broker: broker.clone(),
            name: "bids".to_string(),
        };
        let sql = away.create_source("1 second");
        let error = client.batch_execute(&sql).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert!(error.message().contains(&broker), "{error:?}");
        // The connection and the name are free again.
        client
            .batch_execute("CREATE TABLE bids (id BIGINT PRIMARY KEY)")
            .await
            .unwrap();
    });
}
