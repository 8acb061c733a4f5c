//! The connector against a real Apache Kafka: what the mock cluster cannot do.
//!
//! They run where `TIDEMILL_TEST_KAFKA` names a broker (`docker/kafka-local.sh start` prints one)
//! and say "skipped" elsewhere; with `TIDEMILL_TEST_KAFKA_REQUIRED=1` a skip is a failure.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::base::{Offset, PartitionId};
use crate::connector::kafka::test_support::{
    PATIENCE, Seen, connector, failure, next, read_all, unique,
};
use crate::connector::kafka::{
    Codec, Isolation, KafkaConfig, KafkaConnector, NewTopic, OnGap, Producer, ProducerConfig,
    Record, Startup, create_topic,
};
use crate::connector::{ReadRange, SourceConnector};

const FIRST: PartitionId = PartitionId(0);

/// The broker to test with, or `None` where there is none and that is allowed.
fn broker(test: &str) -> Option<String> {
    if let Some(address) = std::env::var("TIDEMILL_TEST_KAFKA")
        .ok()
        .filter(|a| !a.is_empty())
    {
        return Some(address);
    }
    let is_required = std::env::var("TIDEMILL_TEST_KAFKA_REQUIRED").is_ok_and(|v| v == "1");
    assert!(
        !is_required,
        "TIDEMILL_TEST_KAFKA is not set, but this run requires a broker"
    );
    // Past the test harness, which swallows what passing tests print.
    writeln!(
        std::io::stderr(),
        "skipped: {test}: TIDEMILL_TEST_KAFKA is not set"
    )
    .unwrap();
    None
}

struct Topic {
    servers: String,
    name: String,
    producer: Producer,
}

impl Topic {
    fn new(servers: &str, partitions: i32, settings: &[(&str, &str)]) -> Topic {
        let name = unique("tidemill-test");
        create_topic(
            servers,
            NewTopic {
                name: &name,
                partitions,
                settings,
            },
        )
        .unwrap();
        let producer = Producer::new(&ProducerConfig::new(servers)).unwrap();
        let topic = Topic {
            servers: servers.to_string(),
            name,
            producer,
        };
        // The topic is known to every broker only a moment later.
        let begun = Instant::now();
        while connector(topic.config()).bounds(&[FIRST]).is_err() {
            assert!(begun.elapsed() < PATIENCE);
        }
        topic
    }

    fn config(&self) -> KafkaConfig {
        KafkaConfig::new(&self.name, &self.servers)
    }

    fn send(&self, record: Record<'_>) {
        self.producer.send(&self.name, record).unwrap();
    }

    fn send_numbers(&self, partition: i32, numbers: std::ops::Range<i64>) {
        for number in numbers {
            let payload = format!("row={number}");
            self.send(Record {
                partition: Some(partition),
                payload: Some(payload.as_bytes()),
                ..Record::default()
            });
        }
        self.producer.flush(PATIENCE).unwrap();
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.servers);
        client
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// Deletes the records before an offset, as retention does.
    fn delete_before(&self, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, 0, rdkafka::Offset::Offset(offset))
            .unwrap();
        block_on(self.admin().delete_records(&list, &AdminOptions::new())).unwrap();
    }

    fn delete(&self) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let results = block_on(self.admin().delete_topics(&[&self.name], &options)).unwrap();
        results[0].as_ref().unwrap();
    }
}

fn end(config: KafkaConfig) -> Offset {
    connector(config).bounds(&[FIRST]).unwrap()[0].end
}

#[test]
fn every_codec_and_megabyte_records_are_read() {
    let Some(servers) = broker("every_codec_and_megabyte_records_are_read") else {
        return;
    };
    for codec in Codec::ALL {
        let mut topic = Topic::new(&servers, 1, &[]);
        let config = ProducerConfig {
            codec: *codec,
            ..ProducerConfig::new(&servers)
        };
        topic.producer = Producer::new(&config).unwrap();
        topic.send_numbers(0, 0..1000);
        let large = format!("{}=7", "x".repeat(1_000_000));
        topic.send(Record {
            payload: Some(large.as_bytes()),
            ..Record::default()
        });
        topic.send_numbers(0, 0..1);
        let seen = read_all(&connector(topic.config()));
        assert_eq!((seen.rows(), seen.bad()), (1002, 0), "{}", codec.name());
        assert!(seen.checksum(FIRST).1 > 1_000_000);
    }
}

#[test]
fn an_empty_topic_is_at_its_end_at_once() {
    let Some(servers) = broker("an_empty_topic_is_at_its_end_at_once") else {
        return;
    };
    let topic = Topic::new(&servers, 3, &[]);
    let seen = read_all(&connector(topic.config()));
    assert_eq!(seen.chunks.len(), 0);
    assert_eq!(seen.at_end.len(), 3);
}

#[test]
fn an_unknown_topic_is_an_error_and_is_not_created() {
    let Some(servers) = broker("an_unknown_topic_is_an_error_and_is_not_created") else {
        return;
    };
    let source = connector(KafkaConfig::new(unique("nowhere"), &servers));
    for _ in 0..2 {
        let error = source.partitions().unwrap_err();
        assert_eq!(error.state().code(), "42704", "{error}");
    }
    let error = source.bounds(&[FIRST]).unwrap_err();
    assert_eq!(error.state().code(), "42704", "{error}");
}

#[test]
fn aborted_transactions_are_invisible_and_open_ones_end_the_bounds() {
    let test = "aborted_transactions_are_invisible_and_open_ones_end_the_bounds";
    let Some(servers) = broker(test) else { return };
    let topic = Topic::new(&servers, 1, &[]);
    let producer: BaseProducer = topic
        .client()
        .set("transactional.id", unique("t"))
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let send = |numbers: std::ops::Range<i64>| {
        producer.begin_transaction().unwrap();
        for number in numbers {
            let payload = format!("row={number}");
            producer
                .send(
                    BaseRecord::<(), str>::to(&topic.name)
                        .payload(&payload)
                        .partition(0),
                )
                .unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    };
    send(0..3); // offsets 0 to 2, control record 3
    producer.commit_transaction(PATIENCE).unwrap();
    send(100..105); // offsets 4 to 8, control record 9
    producer.abort_transaction(PATIENCE).unwrap();
    send(3..5); // offsets 10 and 11, control record 12
    producer.commit_transaction(PATIENCE).unwrap();

    let committed = connector(topic.config());
    let seen = read_all(&committed);
    assert_eq!(seen.numbers(), [0, 1, 2, 3, 4]);
    // The control record at the end is covered, so that the position is the end that bounds tell.
    assert_eq!(seen.at_end[&FIRST], Offset(13));
    assert_eq!(seen.chunks.last().unwrap().to, Offset(13));
    assert_eq!(end(topic.config()), Offset(13));

    // Boundaries on control records and inside the aborted transaction.
    let range = ReadRange {
        boundaries: [Offset(3), Offset(4), Offset(7)].into(),
        until: Some(Offset(13)),
        ..ReadRange::tail(FIRST, Offset(0))
    };
    let mut reader = committed.reader(vec![range], &[0, 1]).unwrap();
    let again = Seen::read(&mut *reader, 1);
    // A batch may end anywhere, so there may be more cuts than these.
    let ends: Vec<u64> = again.chunks.iter().map(|chunk| chunk.to.0).collect();
    assert!(
        [3, 4, 7, 13].iter().all(|cut| ends.contains(cut)),
        "{}",
        again.cuts()
    );
    assert_eq!(again.checksum(FIRST), seen.checksum(FIRST));

    send(5..7); // offsets 13 and 14, open
    assert_eq!(end(topic.config()), Offset(13));
    assert_eq!(read_all(&committed).rows(), 5);
    let mut everything = topic.config();
    everything.isolation = Isolation::Uncommitted;
    assert_eq!(end(everything.clone()), Offset(15));
    assert_eq!(read_all(&connector(everything)).rows(), 12);
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(read_all(&committed).rows(), 7);
}

#[test]
fn compacted_offsets_are_gaps_that_count_as_covered() {
    let Some(servers) = broker("compacted_offsets_are_gaps_that_count_as_covered") else {
        return;
    };
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "50"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "1"),
    ];
    let topic = Topic::new(&servers, 1, &settings);
    let begun = Instant::now();
    let mut sent = 0;
    let seen = loop {
        assert!(
            begun.elapsed() < 2 * PATIENCE,
            "the broker has not compacted the topic"
        );
        for key in [b"a", b"b"] {
            topic.send(Record {
                key: Some(key),
                payload: Some(b"row=1"),
                ..Record::default()
            });
            sent += 1;
        }
        topic.producer.flush(PATIENCE).unwrap();
        let seen = read_all(&connector(topic.config()));
        assert_eq!(seen.at_end[&FIRST], Offset(sent));
        if seen.rows() < usize::try_from(sent).unwrap() {
            break seen;
        }
    };
    let covered: u64 = seen
        .chunks
        .iter()
        .map(|chunk| chunk.to.0 - chunk.from.0)
        .sum();
    assert_eq!(covered, sent);

    let boundaries: Vec<Offset> = (1..sent).step_by(3).map(Offset).collect();
    let range = ReadRange {
        boundaries: boundaries.iter().copied().collect(),
        until: Some(Offset(sent)),
        ..ReadRange::tail(FIRST, Offset(0))
    };
    let source = connector(topic.config());
    let cut = Seen::read(&mut *source.reader(vec![range], &[1]).unwrap(), 1);
    let ends: Vec<Offset> = cut.chunks.iter().map(|chunk| chunk.to).collect();
    assert!(
        boundaries.iter().all(|cut| ends.contains(cut)),
        "{}",
        cut.cuts()
    );
    assert_eq!(ends.last(), Some(&Offset(sent)));
}

#[test]
fn a_retention_gap_is_named_or_skipped() {
    let Some(servers) = broker("a_retention_gap_is_named_or_skipped") else {
        return;
    };
    let topic = Topic::new(&servers, 1, &[]);
    topic.send_numbers(0, 0..20);
    topic.delete_before(12);
    let source = connector(topic.config());
    assert_eq!(source.bounds(&[FIRST]).unwrap()[0].start, Offset(12));
    let from_zero = || vec![ReadRange::tail(FIRST, Offset(0))];
    let error = failure(&mut *source.reader(from_zero(), &[1]).unwrap());
    assert_eq!(error.state().code(), "55000");
    assert!(
        error.message().contains("offsets 0 to 11 are to be read"),
        "{error}"
    );
    assert!(error.message().ends_with("the oldest is 12"), "{error}");
    assert!(error.get_hint().unwrap().contains("on_gap = 'skip'"));

    let mut config = topic.config();
    config.on_gap = OnGap::Skip;
    let source = connector(config);
    let seen = Seen::read(&mut *source.reader(from_zero(), &[1]).unwrap(), 1);
    assert_eq!(seen.numbers(), (12..20).collect::<Vec<i64>>());
    assert_eq!(seen.cuts(), "[0,20)");
}

#[test]
fn startup_by_time_finds_the_first_record_that_is_not_older() {
    let test = "startup_by_time_finds_the_first_record_that_is_not_older";
    let Some(servers) = broker(test) else { return };
    let topic = Topic::new(&servers, 2, &[]);
    for millis in [1_000, 2_000, 3_000] {
        topic.send(Record {
            partition: Some(0),
            payload: Some(b"row=1"),
            timestamp_millis: Some(millis),
            ..Record::default()
        });
    }
    topic.producer.flush(PATIENCE).unwrap();
    let at = |millis| {
        let mut config = topic.config();
        config.startup = Startup::Timestamp(millis);
        connector(config).startup(&[FIRST, PartitionId(1)]).unwrap()
    };
    assert_eq!(at(0), [Offset(0), Offset(0)]);
    assert_eq!(at(1_500), [Offset(1), Offset(0)]);
    assert_eq!(at(3_000), [Offset(2), Offset(0)]);
    // Nothing is that new: reading begins at the end.
    assert_eq!(at(3_001), [Offset(3), Offset(0)]);
}

#[test]
fn new_partitions_are_seen_and_can_be_read() {
    let Some(servers) = broker("new_partitions_are_seen_and_can_be_read") else {
        return;
    };
    let topic = Topic::new(&servers, 1, &[]);
    let source = connector(topic.config());
    assert_eq!(source.partitions().unwrap(), [FIRST]);
    let grown = NewPartitions::new(&topic.name, 3);
    let results = block_on(
        topic
            .admin()
            .create_partitions(&[grown], &AdminOptions::new()),
    );
    results.unwrap()[0].as_ref().unwrap();
    let begun = Instant::now();
    while source.partitions().unwrap().len() != 3 {
        assert!(begun.elapsed() < PATIENCE);
    }
    // A producer that learns of the partition only now.
    let producer = Producer::new(&ProducerConfig::new(&servers)).unwrap();
    let record = Record {
        partition: Some(2),
        payload: Some(b"row=5"),
        ..Record::default()
    };
    producer.send(&topic.name, record).unwrap();
    producer.flush(PATIENCE).unwrap();
    assert_eq!(read_all(&source).numbers(), [5]);
}

#[test]
fn a_topic_that_was_made_again_has_another_identity() {
    let Some(servers) = broker("a_topic_that_was_made_again_has_another_identity") else {
        return;
    };
    let topic = Topic::new(&servers, 1, &[]);
    let source = connector(topic.config());
    let before = source
        .identity()
        .unwrap()
        .expect("a new broker knows topic ids");
    assert_eq!(source.identity().unwrap().as_ref(), Some(&before));
    topic.delete();
    let begun = Instant::now();
    let again = NewTopic {
        name: &topic.name,
        partitions: 1,
        settings: &[],
    };
    while create_topic(&servers, again).is_err() {
        assert!(begun.elapsed() < PATIENCE);
    }
    let after = loop {
        assert!(begun.elapsed() < PATIENCE);
        // For a moment the topic may be unknown.
        if let Ok(Some(id)) = source.identity()
            && id != before
        {
            break id;
        }
    };
    assert_ne!(before, after);
}

/// Commits as the engine does: what a broker refuses for the moment is tried again. A broker that
/// has just started loads its groups first.
fn commit(source: &KafkaConnector, positions: &[(PartitionId, Offset)]) {
    let start = Instant::now();
    loop {
        match source.commit(positions) {
            Ok(()) => return,
            Err(error) if error.is_retryable() && start.elapsed() < PATIENCE => {
                std::thread::park_timeout(Duration::from_millis(100));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn committed_positions_are_what_kafkas_tools_show() {
    let Some(servers) = broker("committed_positions_are_what_kafkas_tools_show") else {
        return;
    };
    let topic = Topic::new(&servers, 2, &[]);
    topic.send_numbers(0, 0..9);
    let mut config = topic.config();
    let group = unique("group");
    config.group = Some(group.clone());
    let source = connector(config);
    commit(&source, &[(FIRST, Offset(4)), (PartitionId(1), Offset(0))]);
    commit(&source, &[(FIRST, Offset(7))]);
    let tool: BaseConsumer = topic.client().set("group.id", &group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(&topic.name, 0);
    let committed = tool.committed_offsets(list, PATIENCE).unwrap();
    let first = committed.find_partition(&topic.name, 0).unwrap().offset();
    assert_eq!(first, rdkafka::Offset::Offset(7));
}

/// A broker of this test's own, which it may kill.
struct OwnBroker {
    script: PathBuf,
    dir: tempfile::TempDir,
    address: String,
}

impl OwnBroker {
    fn start() -> OwnBroker {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/kafka-local.sh");
        let dir = tempfile::tempdir().unwrap();
        let mut broker = OwnBroker {
            script,
            dir,
            address: String::new(),
        };
        broker.address = broker.run(&["start", "--port", "0", "--heap", "256m"]);
        broker
    }

    fn start_again(&self) {
        let port = self.address.rsplit(':').next().unwrap();
        assert_eq!(
            self.run(&["start", "--port", port, "--heap", "256m"]),
            self.address
        );
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.script)
            .args(arguments)
            .arg("--dir")
            .arg(self.dir.path())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", output.status);
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        // Whatever has happened, the broker must not outlive the test.
        let mut destroy = Command::new(&self.script);
        let _ = destroy
            .arg("destroy")
            .arg("--dir")
            .arg(self.dir.path())
            .status();
    }
}

#[test]
fn a_broker_killed_and_restarted_in_the_middle_costs_no_record() {
    let test = "a_broker_killed_and_restarted_in_the_middle_costs_no_record";
    if broker(test).is_none() {
        return;
    }
    let broker = OwnBroker::start();
    let topic = Topic::new(&broker.address, 2, &[]);
    topic.send_numbers(0, 0..500);
    topic.send_numbers(1, 500..1000);
    let source = connector(topic.config());
    let ranges = [0, 1].map(|id| ReadRange::tail(PartitionId(id), Offset(0)));
    let mut reader = source.reader(ranges.to_vec(), &[1]).unwrap();
    let mut seen = Seen::default();
    while seen.rows() < 1000 {
        seen.take(next(&mut *reader));
    }
    broker.run(&["kill"]);
    let begun = Instant::now();
    let error = loop {
        assert!(
            begun.elapsed() < PATIENCE,
            "nobody said that the broker is away"
        );
        match reader.poll(Duration::from_secs(1)) {
            Ok(polled) => seen.take(polled),
            Err(error) => break error,
        }
    };
    assert!(error.is_retryable(), "{error}");
    assert_eq!(source.partitions().unwrap_err().state().code(), "08006");
    broker.start_again();
    topic.send_numbers(0, 1000..1500);
    while seen.rows() < 1500 {
        seen.take(next(&mut *reader));
    }
    let mut numbers = seen.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1500).collect::<Vec<i64>>());
}
