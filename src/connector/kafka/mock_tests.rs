//! The connector against librdkafka's own mock cluster: everything that needs no real broker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::base::limits::CHUNK_ROWS_MAX;
use crate::base::{Clock, Offset, PartitionId};
use crate::connector::kafka::test_support::{
    PATIENCE, Seen, connector, failure, layout, next, read_all,
};
use crate::connector::kafka::{
    Codec, KafkaConfig, KafkaConnector, Producer, ProducerConfig, Record, Startup,
};
use crate::connector::{Polled, ReadRange, SourceConnector};

struct Mock {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: Producer,
}

impl Mock {
    fn new(partitions: i32) -> Mock {
        Mock::with_codec(partitions, Codec::None)
    }

    fn with_codec(partitions: i32, codec: Codec) -> Mock {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", partitions, 1).unwrap();
        let mut config = ProducerConfig::new(cluster.bootstrap_servers());
        config.codec = codec;
        let producer = Producer::new(&config).unwrap();
        Mock { cluster, producer }
    }

    fn config(&self) -> KafkaConfig {
        KafkaConfig::new("t", self.cluster.bootstrap_servers())
    }

    fn send(&self, partition: i32, payload: Option<&[u8]>) {
        let record = Record {
            partition: Some(partition),
            payload,
            ..Record::default()
        };
        self.producer.send("t", record).unwrap();
    }

    fn send_numbers(&self, partition: i32, numbers: std::ops::Range<i64>) {
        for number in numbers {
            self.send(partition, Some(format!("row={number}").as_bytes()));
        }
        self.flush();
    }

    fn flush(&self) {
        self.producer.flush(PATIENCE).unwrap();
    }
}

#[test]
fn rows_of_every_partition_come_in_order_and_the_end_is_told() {
    let mock = Mock::new(3);
    mock.send_numbers(0, 0..100);
    mock.send_numbers(2, 100..150);
    let seen = read_all(&connector(mock.config()));
    let ends: Vec<u64> = seen.at_end.values().map(|offset| offset.0).collect();
    assert_eq!(ends, [100, 0, 50]);
    for (partition, expected) in [(0, 0..100), (2, 100..150)] {
        let mine = Seen {
            chunks: seen
                .chunks
                .iter()
                .filter(|chunk| chunk.partition == PartitionId(partition))
                .cloned()
                .collect(),
            ..Seen::default()
        };
        assert_eq!(mine.numbers(), expected.collect::<Vec<i64>>());
    }
}

#[test]
fn bounds_and_startup_are_the_brokers() {
    let mock = Mock::new(2);
    mock.send_numbers(1, 0..7);
    let mut config = mock.config();
    let ids = [PartitionId(0), PartitionId(1)];
    let ends = |connector: &KafkaConnector| {
        let bounds = connector.bounds(&ids).unwrap();
        bounds
            .iter()
            .map(|bounds| (bounds.start.0, bounds.end.0))
            .collect::<Vec<_>>()
    };
    let earliest = connector(config.clone());
    assert_eq!(earliest.partitions().unwrap(), ids);
    assert_eq!(ends(&earliest), [(0, 0), (0, 7)]);
    assert_eq!(earliest.startup(&ids).unwrap(), [Offset(0), Offset(0)]);
    config.startup = Startup::Latest;
    assert_eq!(
        connector(config).startup(&ids).unwrap(),
        [Offset(0), Offset(7)]
    );
}

#[test]
fn a_record_that_comes_later_wakes_the_reader_at_once() {
    let mock = Mock::new(1);
    let connector = connector(mock.config()).with_clock(Clock::manual(77));
    let tail = ReadRange::tail(PartitionId(0), Offset(0));
    let mut reader = connector.reader(vec![tail], &[1]).unwrap();
    assert!(matches!(
        next(&mut *reader),
        Polled::AtEnd(PartitionId(0), Offset(0))
    ));
    mock.send_numbers(0, 5..6);
    let Polled::Chunk(chunk) = next(&mut *reader) else {
        panic!("a chunk was due")
    };
    assert_eq!(
        (chunk.from, chunk.to, chunk.arrived_micros),
        (Offset(0), Offset(1), 77)
    );
    assert!(matches!(
        next(&mut *reader),
        Polled::AtEnd(PartitionId(0), Offset(1))
    ));
}

#[test]
fn bad_null_empty_and_binary_payloads_are_counted_and_nothing_else_suffers() {
    let mock = Mock::new(1);
    for payload in [
        Some(&b"a=1"[..]),
        None,
        Some(b""),
        Some(b"\xff\xfe"),
        Some(b"b=two"),
        Some(b"c=3"),
    ] {
        mock.send(0, payload);
    }
    mock.flush();
    let seen = read_all(&connector(mock.config()));
    assert_eq!(seen.numbers(), [1, 3]);
    assert_eq!((seen.skipped(), seen.bad()), (1, 2));
    let bad: Vec<(u64, String)> = seen
        .chunks
        .iter()
        .flat_map(|chunk| &chunk.bad)
        .map(|bad| (bad.offset.0, bad.reason.clone()))
        .collect();
    assert_eq!(bad[0], (2, "no equals sign".to_string()));
    assert_eq!(bad[1], (3, "not UTF-8".to_string()));
    let reason = "column \"number\": \"two\" is not a bigint".to_string();
    assert_eq!(seen.bad_rows(), [(4, vec![1], reason)]);
}

#[test]
fn metadata_columns_stand_where_the_schema_has_them() {
    let mock = Mock::new(2);
    let headers: [(&str, Option<&[u8]>); 2] = [("h", Some(b"v")), ("none", None)];
    let record = Record {
        partition: Some(1),
        key: Some(b"key"),
        payload: Some(b"a=1"),
        timestamp_millis: Some(1_700_000_000_123),
        headers: &headers,
    };
    mock.producer.send("t", record).unwrap();
    // The key column is text: a key that is none is a bad value.
    let binary_key = Record {
        key: Some(b"\xff"),
        headers: &[],
        ..record
    };
    mock.producer.send("t", binary_key).unwrap();
    mock.producer
        .send(
            "t",
            Record {
                key: None,
                headers: &[],
                ..record
            },
        )
        .unwrap();
    mock.flush();
    let seen = read_all(&connector(mock.config()));
    assert_eq!((seen.rows(), seen.bad()), (3, 0));
    let reason = "column \"k_key\": the record's bytes are not UTF-8".to_string();
    assert_eq!(seen.bad_rows(), [(1, vec![2], reason)]);
    let rows = &seen.chunks[0].rows;
    assert_eq!(rows.schema(), layout().schema);
    assert_eq!(rows.column(2).as_string::<i32>().value(0), "key");
    assert!(rows.column(2).is_null(1) && rows.column(2).is_null(2));
    assert_eq!(rows.column(3).as_primitive::<Int32Type>().value(0), 1);
    assert_eq!(
        rows.column(4).as_primitive::<Int64Type>().values(),
        &[0, 1, 2]
    );
    let times = rows.column(5).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.value(0), 1_700_000_000_123_000);
    let headers = rows.column(6).as_list::<i32>();
    let first = headers.value(0);
    assert_eq!(
        first.as_struct().column(0).as_string::<i32>().value(1),
        "none"
    );
    assert_eq!(
        first.as_struct().column(1).as_binary::<i32>().value(0),
        b"v"
    );
    assert!(first.as_struct().column(1).is_null(1));
    assert_eq!((headers.value(1).len(), headers.value(2).len()), (0, 0));
}

#[test]
fn any_choice_of_columns_counts_the_same_rows() {
    let mock = Mock::new(1);
    mock.send_numbers(0, 0..10);
    mock.send(0, Some(b"bad"));
    mock.send(0, Some(b"a=bad"));
    mock.flush();
    let connector = connector(mock.config());
    for columns in [&[][..], &[4], &[0], &[1, 4], &[0, 3]] {
        let tail = ReadRange::tail(PartitionId(0), Offset(0));
        let mut reader = connector.reader(vec![tail], columns).unwrap();
        let seen = Seen::read(&mut *reader, 1);
        assert_eq!((seen.rows(), seen.bad()), (11, 1), "{columns:?}");
        let bad_rows = usize::from(columns.contains(&1));
        assert_eq!(seen.bad_rows().len(), bad_rows, "{columns:?}");
        assert_eq!(reader.schema().fields().len(), columns.len());
        assert_eq!(seen.chunks[0].rows.schema(), reader.schema());
    }
}

#[test]
fn boundaries_cut_and_until_ends_exactly_there() {
    let mock = Mock::new(2);
    mock.send_numbers(0, 0..20);
    mock.send_numbers(1, 0..20);
    let connector = connector(mock.config());
    let whole = read_all(&connector);
    let range = ReadRange {
        partition: PartitionId(0),
        from: Offset(2),
        boundaries: [Offset(3), Offset(9), Offset(15)].into(),
        until: Some(Offset(15)),
    };
    let mut reader = connector.reader(vec![range.clone()], &[1]).unwrap();
    let seen = Seen::read(&mut *reader, 1);
    assert_eq!(seen.cuts(), "[2,3)[3,9)[9,15)");
    assert_eq!(seen.finished, [PartitionId(0)]);
    assert_eq!(seen.numbers(), (2..15).collect::<Vec<i64>>());
    assert!(
        seen.chunks.iter().all(|chunk| chunk.arrived_micros == 0),
        "it is a replay"
    );
    assert!(matches!(reader.poll(Duration::ZERO), Ok(Polled::Nothing)));

    // Cut in another way, the run has the same checksum.
    let range = ReadRange {
        from: Offset(0),
        until: Some(Offset(20)),
        ..range
    };
    let mut reader = connector.reader(vec![range], &[1, 4]).unwrap();
    let again = Seen::read(&mut *reader, 1);
    assert_eq!(again.cuts(), "[0,3)[3,9)[9,15)[15,20)");
    assert_eq!(
        again.checksum(PartitionId(0)),
        whole.checksum(PartitionId(0))
    );
}

#[test]
fn an_empty_range_is_finished_without_a_broker() {
    let connector = connector(KafkaConfig::new("t", "127.0.0.1:1"));
    let range = ReadRange {
        until: Some(Offset(4)),
        ..ReadRange::tail(PartitionId(0), Offset(4))
    };
    let mut reader = connector.reader(vec![range], &[1]).unwrap();
    assert!(matches!(
        reader.poll(Duration::ZERO),
        Ok(Polled::Finished(PartitionId(0)))
    ));
    assert!(matches!(reader.poll(Duration::ZERO), Ok(Polled::Nothing)));
}

#[test]
fn chunks_are_bounded() {
    let mock = Mock::new(1);
    let count = i64::try_from(2 * CHUNK_ROWS_MAX + 5).unwrap();
    mock.send_numbers(0, 0..count);
    let seen = read_all(&connector(mock.config()));
    assert_eq!(seen.numbers(), (0..count).collect::<Vec<i64>>());
    assert!(
        seen.chunks
            .iter()
            .all(|chunk| chunk.rows.num_rows() <= CHUNK_ROWS_MAX)
    );
}

#[test]
fn every_codec_is_read() {
    for codec in Codec::ALL {
        let mock = Mock::with_codec(1, *codec);
        mock.send_numbers(0, 0..500);
        assert_eq!(
            read_all(&connector(mock.config())).rows(),
            500,
            "{}",
            codec.name()
        );
    }
}

#[test]
fn a_waker_ends_a_long_wait() {
    let mock = Mock::new(1);
    let connector = connector(mock.config());
    let tail = ReadRange::tail(PartitionId(0), Offset(0));
    let mut reader = connector.reader(vec![tail], &[1]).unwrap();
    assert!(matches!(next(&mut *reader), Polled::AtEnd(..)));
    let waker = reader.waker();
    let begun = Instant::now();
    let polled = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let polled = reader.poll(PATIENCE);
            drop(reader);
            polled
        });
        while !waiting.is_finished() {
            waker();
            std::thread::yield_now();
        }
        waiting.join().unwrap()
    });
    assert!(matches!(polled, Ok(Polled::Nothing)));
    assert!(begun.elapsed() < PATIENCE);
    // The reader is gone; waking it means nothing.
    waker();
}

#[test]
fn an_unknown_topic_is_named() {
    let mock = Mock::new(1);
    let config = KafkaConfig::new("bids", mock.cluster.bootstrap_servers());
    let missing = rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    mock.cluster.topic_error("bids", missing).unwrap();
    let error = connector(config).partitions().unwrap_err();
    assert_eq!(error.state().code(), "42704");
    assert!(
        error
            .message()
            .starts_with("topic \"bids\" does not exist on 127.0.0.1:"),
        "{error}"
    );
}

#[test]
fn an_absent_broker_is_a_retryable_error_within_seconds() {
    let connector = connector(KafkaConfig::new("t", "127.0.0.1:1"));
    let begun = Instant::now();
    let error = connector.partitions().unwrap_err();
    assert_eq!(
        (error.state().code(), error.is_retryable()),
        ("08006", true)
    );
    assert!(error.get_detail().unwrap().contains("refused"), "{error}");
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );

    let tail = ReadRange::tail(PartitionId(0), Offset(0));
    let mut reader = connector.reader(vec![tail], &[1]).unwrap();
    let error = loop {
        match reader.poll(Duration::from_secs(1)) {
            Ok(Polled::Nothing | Polled::Interrupted) => assert!(begun.elapsed() < PATIENCE),
            Ok(polled) => panic!("{polled:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(
        (error.state().code(), error.is_retryable()),
        ("08006", true)
    );
    // Told once, not with every poll.
    for _ in 0..20 {
        let polled = reader.poll(Duration::ZERO);
        assert!(matches!(polled, Ok(Polled::Nothing | Polled::Interrupted)));
    }
}

#[test]
fn ends_are_confirmed_anew_after_an_outage() {
    let mock = Mock::new(2);
    mock.send_numbers(0, 0..5);
    let connector = connector(mock.config());
    let tails = [0, 1].map(|id| ReadRange::tail(PartitionId(id), Offset(0)));
    let mut reader = connector.reader(tails.to_vec(), &[1]).unwrap();
    let seen = Seen::read(&mut *reader, 2);
    let ends = BTreeMap::from([(PartitionId(0), Offset(5)), (PartitionId(1), Offset(0))]);
    assert_eq!(seen.at_end, ends);
    mock.cluster.broker_down(-1).unwrap();
    let begun = Instant::now();
    while !matches!(
        reader.poll(Duration::from_secs(1)),
        Ok(Polled::Interrupted) | Err(_)
    ) {
        assert!(begun.elapsed() < PATIENCE, "nobody noticed");
    }
    mock.cluster.broker_up(-1).unwrap();
    // Nothing new has come, and every end is told again.
    let mut again = Seen::default();
    while again.at_end != ends {
        again.take(next(&mut *reader));
    }
    assert_eq!(again.rows(), 0, "nothing is read twice");
}

#[test]
fn a_broker_that_goes_and_comes_back_costs_no_record() {
    let mock = Mock::new(1);
    mock.send_numbers(0, 0..50);
    let connector = connector(mock.config());
    let tail = ReadRange::tail(PartitionId(0), Offset(0));
    let mut reader = connector.reader(vec![tail], &[1]).unwrap();
    let mut seen = Seen::read(&mut *reader, 1);
    mock.cluster.broker_down(-1).unwrap();
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
    mock.cluster.broker_up(-1).unwrap();
    mock.send_numbers(0, 50..80);
    while seen.rows() < 80 {
        seen.take(next(&mut *reader));
    }
    assert_eq!(seen.numbers(), (0..80).collect::<Vec<i64>>());
}

#[test]
fn an_offset_that_the_broker_does_not_have_is_an_error_that_names_it() {
    let mock = Mock::new(1);
    mock.send_numbers(0, 0..5);
    let connector = connector(mock.config());
    let tail = ReadRange::tail(PartitionId(0), Offset(50));
    let mut reader = connector.reader(vec![tail], &[1]).unwrap();
    let error = failure(&mut *reader);
    assert_eq!(error.state().code(), "55000");
    assert_eq!(
        error.message(),
        "partition 0 of topic \"t\" has offsets 0 to 5, but 50 is to be read next"
    );
    // It stays ended.
    assert_eq!(reader.poll(Duration::ZERO).unwrap_err(), error);
}

#[test]
fn a_bad_property_value_is_told_at_once() {
    let mut config = KafkaConfig::new("t", "127.0.0.1:1");
    config
        .set_property("security.protocol", "carrier-pigeon")
        .unwrap();
    let error = KafkaConnector::new(config, layout()).err().unwrap();
    assert_eq!(error.state().code(), "22023");
    assert_eq!(
        error.message(),
        "option \"properties.security.protocol\" has a bad value"
    );
}

#[test]
fn positions_are_committed_for_others_to_see() {
    let mock = Mock::new(1);
    mock.send_numbers(0, 0..5);
    let mut config = mock.config();
    connector(config.clone())
        .commit(&[(PartitionId(0), Offset(3))])
        .unwrap();
    config.group = Some("g".to_string());
    connector(config)
        .commit(&[(PartitionId(0), Offset(3))])
        .unwrap();
}

#[test]
fn a_cluster_without_a_controller_gives_no_identity_and_does_not_hang() {
    let mock = Mock::new(1);
    let begun = Instant::now();
    assert_eq!(connector(mock.config()).identity().unwrap(), None);
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
}
