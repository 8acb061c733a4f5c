//! Sources over a real Kafka broker: what becomes of bad values, of a topic that changes, and of a
//! start while the broker is away.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::Offset;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;
use tidemill::connector::kafka::{Codec, NewTopic, Producer, ProducerConfig, Record, create_topic};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::broker::{ARRIVAL_TIMEOUT, Topic, broker};
use crate::server::{Server, block_on, connect};

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
    ("of_a", "count(*) AS n, sum(a) AS a", "4 13"),
    ("of_b", "count(*) AS n, min(b) AS a, max(b) AS b", "4 0 40"),
    ("of_c", "count(*) AS n, max(c) AS c", "4 x"),
    ("of_d", "count(*) AS n, sum(d) AS d", "3 17"),
    (
        "of_all",
        "count(*) AS n, sum(a) AS a, sum(b) AS b, max(c) AS c, sum(d) AS d",
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
        // Each record is told of once, with all that is wrong in it.
        let sql = "SELECT record_offset, reason FROM tidemill.errors WHERE record_offset < 7
                   ORDER BY 1";
        let reasons = lines(&client, sql).await;
        let expected = [
            "1 column \"a\": \"no\" is not a bigint",
            "2 column \"b\": [] is not a bigint",
            "3 column \"c\": NULL, but the column is NOT NULL",
            "4 column \"d\": division by zero",
            "5 column \"ts\": \"never\" is not a timestamp with time zone",
            "6 malformed JSON at byte 1: the record is not an object",
        ];
        assert_eq!(reasons, expected);
        let sql = "SELECT sum(records_bad), (SELECT count(*) FROM tidemill.errors)
                   FROM tidemill.sources";
        assert_eq!(lines(&client, sql).await, ["12 12"]);
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
        let sql = "CREATE MATERIALIZED VIEW v AS
                   SELECT count(*), count(a) AS a, count(b) AS b FROM events";
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

fn admin(broker: &str) -> AdminClient<DefaultClientContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker).create().unwrap()
}

/// Writes records to one partition.
fn produce_to(topic: &Topic, partition: i32, payloads: &[String]) {
    let producer = Producer::new(&ProducerConfig::new(topic.broker.as_str())).unwrap();
    for payload in payloads {
        let record = Record {
            partition: Some(partition),
            payload: Some(payload.as_bytes()),
            ..Record::default()
        };
        producer.send(&topic.name, record).unwrap();
    }
    producer.flush(ARRIVAL_TIMEOUT).unwrap();
}

/// Records with `a` from 1 to `count`, a second after the other.
fn numbered(count: u32) -> Vec<String> {
    let record = |number| {
        let second = number % 60;
        format!("{{\"a\":{number},\"c\":\"x\",\"ts\":\"2026-01-01T00:00:{second:02}Z\"}}")
    };
    (1..=count).map(record).collect()
}

const COUNTING: &str =
    "CREATE MATERIALIZED VIEW counting AS SELECT count(*) AS n, max(a) AS a FROM events";

#[test]
fn partitions_that_are_added_are_read_from_their_start() {
    let Some(broker) = broker() else {
        return;
    };
    let topic = Topic::create(&broker, "grows", 1);
    produce_to(&topic, 0, &numbered(3));
    block_on(async {
        let mut server = Server::start();
        let client = server.connect().await;
        let with = topic.with().replacen(
            "WITH (",
            "WITH (scan.discovery.interval = '50 milliseconds', ",
            1,
        );
        client
            .batch_execute(&format!("{EVENTS} {with}"))
            .await
            .unwrap();
        client.batch_execute(COUNTING).await.unwrap();
        let before = lines(&client, "SELECT watermark FROM tidemill.watermarks").await;
        let options = AdminOptions::new();
        let partitions = NewPartitions::new(&topic.name, 3);
        let added = admin(&broker)
            .create_partitions(&[partitions], &options)
            .await
            .unwrap();
        assert!(added.iter().all(Result::is_ok), "{added:?}");
        produce_to(&topic, 2, &numbered(5));
        until(&client, "SELECT * FROM counting", &["8 5"]).await;
        let sql = "SELECT min(watermark) FROM tidemill.watermarks WHERE partition = 0";
        assert!(lines(&client, sql).await >= before, "time never goes back");
        // A replay has them from the same epoch on.
        server.restart();
        let client = server.connect().await;
        assert_eq!(lines(&client, "SELECT * FROM counting").await, ["8 5"]);
        produce_to(&topic, 1, &numbered(7));
        until(&client, "SELECT * FROM counting", &["15 7"]).await;
        // A view that is made later reads them all.
        client
            .batch_execute(&COUNTING.replace("counting", "later"))
            .await
            .unwrap();
        assert_eq!(lines(&client, "SELECT * FROM later").await, ["15 7"]);
    });
}

#[test]
fn a_topic_that_was_made_again_is_told_by_its_id() {
    let Some(broker) = broker() else {
        return;
    };
    let topic = Topic::create(&broker, "made-again", 1);
    produce_to(&topic, 0, &numbered(3));
    block_on(async {
        let mut server = Server::start();
        let client = server.connect().await;
        let with = topic.with().replacen(
            "WITH (",
            "WITH (scan.discovery.interval = '50 milliseconds', ",
            1,
        );
        client
            .batch_execute(&format!("{EVENTS} {with}"))
            .await
            .unwrap();
        client.batch_execute(COUNTING).await.unwrap();
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        let deleted = admin(&broker).delete_topics(&[&topic.name], &options).await;
        assert!(deleted.unwrap().iter().all(Result::is_ok));
        let again = NewTopic {
            name: &topic.name,
            partitions: 1,
            settings: &[],
        };
        let begun = Instant::now();
        while create_topic(&broker, again).is_err() {
            assert!(begun.elapsed() < ARRIVAL_TIMEOUT);
        }
        produce_to(&topic, 0, &numbered(50));
        let told = "SELECT count(*) FROM tidemill.sources
                    WHERE last_error LIKE '%source \"events\" was deleted and made again%'";
        until(&client, told, &["1"]).await;
        // The view is what it was, or has failed if it may hold rows of both; the next process says
        // the same.
        let check = async |client: &Client| match client.query("SELECT n FROM counting", &[]).await
        {
            Ok(rows) => assert_eq!(rows[0].get::<_, i64>(0), 3),
            Err(error) => {
                let error = error.as_db_error().unwrap();
                assert_eq!(error.code().code(), "55000", "{error:?}");
            }
        };
        check(&client).await;
        server.restart();
        let client = server.connect().await;
        check(&client).await;
        let sql = COUNTING.replace("counting", "later");
        let error = client.batch_execute(&sql).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "55000");
        assert!(error.message().contains("made again"), "{error:?}");
        let sql = "SELECT a FROM events";
        let error = client.batch_execute(sql).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert!(error.message().contains("made again"), "{error:?}");
        // The way out.
        client
            .batch_execute("DROP SOURCE events CASCADE")
            .await
            .unwrap();
        client
            .batch_execute(&format!("{EVENTS} {with}"))
            .await
            .unwrap();
        client.batch_execute(COUNTING).await.unwrap();
        assert_eq!(lines(&client, "SELECT * FROM counting").await, ["50 50"]);
    });
}

/// A port that leads to the broker until it is closed. Clients begin there, and without it find
/// none.
struct Gate {
    address: SocketAddr,
    is_closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Gate {
    fn open(address: SocketAddr, broker: &str) -> Gate {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let is_closed = Arc::new(AtomicBool::new(false));
        let (broker, closed) = (broker.to_string(), is_closed.clone());
        let thread = std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming().map(Result::unwrap) {
                if closed.load(Ordering::Acquire) {
                    break;
                }
                let Ok(target) = TcpStream::connect(&broker) else {
                    continue;
                };
                for (from, to) in [(&stream, &target), (&target, &stream)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || forward(from, to));
                }
                open.push(stream);
            }
            for stream in open {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Gate {
            address,
            is_closed,
            thread: Some(thread),
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Release);
        // Wakes the one who waits for connections.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// The status and the text of a page.
fn page(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_server_that_starts_without_its_broker_says_so_and_becomes_ready_by_itself() {
    let Some(broker) = broker() else {
        return;
    };
    let mut topic = Topic::create(&broker, "away", 1);
    let gate = Gate::open("127.0.0.1:0".parse().unwrap(), &broker);
    let address = gate.address;
    produce_to(&topic, 0, &numbered(3));
    block_on(async {
        let mut server = Server::start_with(&["--checkpoint-interval-ms", "3600000"]);
        let client = server.connect().await;
        topic.broker = address.to_string();
        let sql = format!("{EVENTS} {}", topic.with());
        topic.broker.clone_from(&broker);
        client.batch_execute(&sql).await.unwrap();
        client.batch_execute(COUNTING).await.unwrap();
        // What comes after the view's checkpoint is to be read again.
        produce_to(&topic, 0, &numbered(20));
        until(&client, "SELECT * FROM counting", &["23 20"]).await;
        drop(client);
        server.kill();
        drop(gate);
        server.start_early();
        let begun = Instant::now();
        let detail = loop {
            assert!(begun.elapsed() < ARRIVAL_TIMEOUT);
            let Err(error) = connect(server.address()).await else {
                panic!("it waits for the broker");
            };
            let error = error.as_db_error().expect("an answer");
            assert_eq!(error.code().code(), "57P03");
            assert_eq!(error.message(), "the database system is starting up");
            let detail = error.detail().expect("it says what it is at").to_string();
            if detail.contains("it waits for source \"events\"") {
                break detail;
            }
        };
        assert!(detail.contains(&address.to_string()), "{detail}");
        let health = page(server.http_address(), "/healthz");
        assert!(health.starts_with("HTTP/1.1 200"), "{health}");
        let ready = page(server.http_address(), "/readyz");
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        assert!(ready.contains("it waits for source"), "{ready}");
        let _gate = Gate::open(address, &broker);
        server.wait_until_ready();
        let client = server.connect().await;
        assert_eq!(lines(&client, "SELECT * FROM counting").await, ["23 20"]);
        let ready = page(server.http_address(), "/readyz");
        assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    });
}

#[test]
fn rows_that_came_while_the_server_was_down_are_not_late() {
    let Some(broker) = broker() else {
        return;
    };
    let topic = Topic::create(&broker, "down", 2);
    let at =
        |minute: u32| format!("{{\"a\":1,\"c\":\"x\",\"ts\":\"2026-01-01T00:{minute:02}:00Z\"}}");
    for partition in 0..2 {
        produce_to(&topic, partition, &[at(0)]);
    }
    block_on(async {
        let mut server = Server::start();
        let client = server.connect().await;
        let with = topic.with().replacen(
            "WITH (",
            "WITH (watermark.idle_timeout = '100 milliseconds', ",
            1,
        );
        let sql = "CREATE MATERIALIZED VIEW windows AS SELECT window_start, count(*) AS n
                   FROM TUMBLE(events, ts, INTERVAL '1 minute') GROUP BY window_start, window_end";
        for sql in [&format!("{EVENTS} {with}"), sql] {
            client.batch_execute(sql).await.unwrap();
        }
        let idle = "SELECT count(*) FROM tidemill.watermarks WHERE is_idle";
        until(&client, idle, &["2"]).await;
        for round in 1..3 {
            server.kill();
            // One partition is far ahead of the other, and may well be read first.
            produce_to(&topic, 0, &[at(20 * round)]);
            produce_to(
                &topic,
                1,
                &(1..20)
                    .rev()
                    .map(|m| at(20 * round - m))
                    .collect::<Vec<_>>(),
            );
            server.start_again();
            let client = server.connect().await;
            let expected = (2 + 20 * round).to_string();
            until(&client, "SELECT sum(n) FROM windows", &[&expected]).await;
            let late = lines(&client, "SELECT rows_late FROM tidemill.views").await;
            assert_eq!(late, ["0"]);
            until(&client, idle, &["2"]).await;
        }
    });
}

#[test]
fn positions_are_shown_in_the_group_that_the_source_names() {
    let Some(broker) = broker() else {
        return;
    };
    let topic = Topic::create(&broker, "group", 1);
    produce_to(&topic, 0, &numbered(3));
    let group = format!("group-of-{}", topic.name);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &broker);
    let watcher: BaseConsumer = config.set("group.id", &group).create().unwrap();
    let until_shown = |position: i64| {
        let begun = Instant::now();
        loop {
            let mut wanted = TopicPartitionList::new();
            wanted.add_partition(&topic.name, 0);
            let shown = watcher.committed_offsets(wanted, Duration::from_secs(10));
            let shown = shown.map(|list| list.elements()[0].offset());
            if shown == Ok(Offset::Offset(position)) {
                return;
            }
            assert!(begun.elapsed() < ARRIVAL_TIMEOUT, "{position}: {shown:?}");
        }
    };
    block_on(async {
        let server = Server::start_with(&["--checkpoint-interval-ms", "100"]);
        let client = server.connect().await;
        let with = topic.with().replacen(
            "WITH (",
            &format!("WITH (properties.group.id = '{group}', "),
            1,
        );
        client
            .batch_execute(&format!("{EVENTS} {with}"))
            .await
            .unwrap();
        client.batch_execute(COUNTING).await.unwrap();
        until_shown(3);
        produce_to(&topic, 0, &numbered(5));
        until_shown(8);
    });
}
