//! That events are what Nexmark says, and the same however they are read.

use std::collections::HashMap;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Int64Type, TimestampMicrosecondType};

use super::{Nexmark, NexmarkConnector, NexmarkOptions, NexmarkType};
use crate::base::{Clock, Offset, PartitionId};
use crate::connector::{Chunk, Polled, ReadRange, Reader, SourceConnector};
use crate::error::SqlState;
use crate::format::Decoder;
use crate::format::json::{JsonColumn, JsonDecoder, JsonOptions};
use crate::types::SqlType;

fn fields(columns: &[(&str, &str)]) -> Vec<Field> {
    let field =
        |&(name, sql_type): &(&str, &str)| SqlType::parse(sql_type).unwrap().to_field(name, true);
    columns.iter().map(field).collect()
}

const BID: [(&str, &str); 7] = [
    ("auction", "bigint"),
    ("bidder", "bigint"),
    ("price", "bigint"),
    ("channel", "text"),
    ("url", "varchar"),
    ("ts", "timestamptz"),
    ("extra", "text"),
];
const AUCTION: [(&str, &str); 10] = [
    ("id", "bigint"),
    ("itemName", "text"),
    ("description", "text"),
    ("initial_bid", "bigint"),
    ("reserve", "bigint"),
    ("dateTime", "timestamp"),
    ("expires", "timestamp"),
    ("seller", "bigint"),
    ("category", "integer"),
    ("extra", "text"),
];
const PERSON: [(&str, &str); 8] = [
    ("id", "bigint"),
    ("name", "text"),
    ("email", "text"),
    ("credit_card", "text"),
    ("city", "text"),
    ("state", "text"),
    ("date_time", "timestamp"),
    ("extra", "text"),
];

fn connector(columns: &[(&str, &str)], options: &[(&str, &str)]) -> NexmarkConnector {
    let options: Vec<_> = options
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    NexmarkConnector::new(&fields(columns), &options).unwrap()
}

fn range(partition: u32, from: u64, boundaries: &[u64], until: u64) -> ReadRange {
    ReadRange {
        partition: PartitionId(partition),
        from: Offset(from),
        boundaries: boundaries.iter().copied().map(Offset).collect(),
        until: Some(Offset(until)),
    }
}

/// Reads until every range is finished.
fn read(mut reader: Box<dyn Reader>, ranges: usize) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut finished = 0;
    while finished < ranges {
        match reader.poll(Duration::ZERO).unwrap() {
            Polled::Chunk(chunk) => chunks.push(chunk),
            Polled::Finished(_) => finished += 1,
            other => panic!("{other:?}"),
        }
    }
    chunks
}

fn rows(source: &NexmarkConnector, ranges: Vec<ReadRange>, columns: &[usize]) -> RecordBatch {
    let count = ranges.len();
    let chunks = read(source.reader(ranges, columns).unwrap(), count);
    let batches: Vec<_> = chunks.iter().map(|chunk| chunk.rows.clone()).collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

#[test]
fn types_have_their_share_and_the_fields_their_ratios() {
    let events = 100_000;
    let count = |kind, columns: &[(&str, &str)]| {
        let source = connector(columns, &[("type", kind), ("events", "100000")]);
        rows(&source, vec![range(0, 0, &[], events)], &[0]).num_rows()
    };
    assert_eq!(count("person", &PERSON), 2_000);
    assert_eq!(count("auction", &AUCTION), 6_000);
    assert_eq!(count("bid", &BID), 92_000);

    let bids = rows(
        &connector(&BID, &[]),
        vec![range(0, 0, &[], events)],
        &[0, 1, 2, 3],
    );
    let column = |place: usize| {
        bids.column(place)
            .as_primitive::<Int64Type>()
            .values()
            .to_vec()
    };
    let share = |hot: usize| hot as f64 / bids.num_rows() as f64;
    let hot_auctions = column(0)
        .iter()
        .filter(|&&auction| auction % 100 == 0)
        .count();
    assert!(
        (0.49..0.53).contains(&share(hot_auctions)),
        "{}",
        share(hot_auctions)
    );
    let hot_bidders = column(1)
        .iter()
        .filter(|&&bidder| bidder % 100 == 1)
        .count();
    assert!(
        (0.74..0.77).contains(&share(hot_bidders)),
        "{}",
        share(hot_bidders)
    );
    let prices = column(2);
    assert!(
        prices
            .iter()
            .all(|price| (100..=100_000_000).contains(price))
    );
    // Log-uniform: each decade has a sixth.
    let cheap = prices.iter().filter(|&&price| price < 1_000).count();
    assert!((0.15..0.18).contains(&share(cheap)), "{}", share(cheap));
    let mut channels = HashMap::new();
    for channel in bids.column(3).as_string::<i32>().iter().flatten() {
        *channels.entry(channel.to_string()).or_insert(0) += 1;
    }
    assert!(
        (0.11..0.14).contains(&share(channels["Google"])),
        "{}",
        channels["Google"]
    );
    // Half as many names as channels: upstream takes the absolute value of a number that is bit
    // reversed, and most numbers have a twin.
    assert!(
        (4_500..=10_004).contains(&channels.len()),
        "{}",
        channels.len()
    );
}

#[test]
fn auctions_name_persons_and_bids_name_auctions() {
    let end = 50_000;
    let auctions = rows(
        &connector(&AUCTION, &[("type", "auction")]),
        vec![range(0, 0, &[], end)],
        &[0, 3, 4, 5, 6, 7, 8],
    );
    let ids = auctions.column(0).as_primitive::<Int64Type>().values();
    assert!(ids.iter().copied().eq(1_000..4_000), "ids are dense");
    let number = |place: usize, row: usize| {
        auctions
            .column(place)
            .as_primitive::<Int64Type>()
            .value(row)
    };
    let time = |place: usize, row: usize| {
        auctions
            .column(place)
            .as_primitive::<TimestampMicrosecondType>()
            .value(row)
    };
    for row in 0..auctions.num_rows() {
        assert!(
            number(2, row) > number(1, row),
            "the reserve is above the initial bid"
        );
        assert!(
            time(4, row) > time(3, row),
            "an auction ends after it began"
        );
        let persons = 1_000 + i64::try_from(row / 3).unwrap();
        assert!(
            (1_000..=persons + 10).contains(&number(5, row)),
            "{}",
            number(5, row)
        );
    }
    let categories = auctions
        .column(6)
        .as_primitive::<arrow::datatypes::Int32Type>();
    assert!(
        categories
            .values()
            .iter()
            .all(|category| (10..15).contains(category))
    );
    let bids = rows(&connector(&BID, &[]), vec![range(0, 0, &[], end)], &[0]);
    let bid_on = bids.column(0).as_primitive::<Int64Type>().values();
    assert!(
        bid_on
            .iter()
            .all(|auction| (1_000..4_010).contains(auction))
    );
}

#[test]
fn any_cut_of_a_range_has_the_same_rows() {
    let mut random = fastrand::Rng::with_seed(8);
    for (kind, columns) in [
        ("bid", &BID[..]),
        ("auction", &AUCTION),
        ("person", &PERSON),
    ] {
        let all: Vec<usize> = (0..columns.len()).collect();
        for partitions in ["1", "3"] {
            let options = [
                ("type", kind),
                ("seed", "7"),
                ("partitions", partitions),
                ("disorder_ms", "500"),
            ];
            let source = connector(columns, &options);
            let end = 60_000;
            for partition in 0..partitions.parse().unwrap() {
                let whole = rows(&source, vec![range(partition, 0, &[], end)], &all);
                let mut cuts: Vec<u64> = (0..20).map(|_| random.u64(1..end)).collect();
                cuts.sort_unstable();
                cuts.dedup();
                let cut = range(partition, 0, &cuts, end);
                let chunks = read(source.reader(vec![cut.clone()], &all).unwrap(), 1);
                for boundary in &cuts {
                    assert!(
                        chunks.iter().any(|chunk| chunk.to.0 == *boundary),
                        "{boundary}"
                    );
                }
                let mut at = 0;
                for chunk in &chunks {
                    assert_eq!(chunk.from.0, at, "chunks follow each other");
                    at = chunk.to.0;
                }
                assert_eq!(at, end);
                let batches: Vec<_> = chunks.iter().map(|chunk| chunk.rows.clone()).collect();
                assert_eq!(concat_batches(&whole.schema(), &batches).unwrap(), whole);

                let again = read(
                    connector(columns, &options)
                        .reader(vec![cut], &all)
                        .unwrap(),
                    1,
                );
                for (chunk, again) in chunks.iter().zip(&again) {
                    assert_eq!((&chunk.rows, chunk.checksum), (&again.rows, again.checksum));
                }
            }
        }
    }
}

#[test]
fn a_subset_of_columns_has_the_same_values() {
    for (kind, columns) in [
        ("bid", &BID[..]),
        ("auction", &AUCTION),
        ("person", &PERSON),
    ] {
        let source = connector(columns, &[("type", kind)]);
        let all: Vec<usize> = (0..columns.len()).collect();
        let ranges = || vec![range(0, 12_345, &[], 20_000)];
        let whole = rows(&source, ranges(), &all);
        for place in all {
            let one = rows(&source, ranges(), &[place]);
            assert_eq!(one.column(0), whole.column(place));
            assert_eq!(one.column(0).null_count(), 0);
        }
        let none = rows(&source, ranges(), &[]);
        assert_eq!(none.num_rows(), whole.num_rows());
    }
}

#[test]
fn json_has_the_same_events() {
    let options = NexmarkOptions {
        seed: 3,
        disorder_ms: 250,
        ..NexmarkOptions::default()
    };
    let nexmark = Nexmark::new(options);
    for (kind, name, columns) in [
        (NexmarkType::Bid, "bid", &BID[..]),
        (NexmarkType::Auction, "auction", &AUCTION),
        (NexmarkType::Person, "person", &PERSON),
    ] {
        let source = connector(
            columns,
            &[("type", name), ("seed", "3"), ("disorder_ms", "250")],
        );
        let all: Vec<usize> = (0..columns.len()).collect();
        let made = rows(&source, vec![range(0, 0, &[], 30_000)], &all);
        let names = ["initialBid", "ts", "emailAddress", "creditCard"];
        let json_name = |name: &str| match name {
            "initial_bid" => names[0].to_string(),
            "dateTime" | "date_time" => names[1].to_string(),
            "email" => names[2].to_string(),
            "credit_card" => names[3].to_string(),
            other => other.to_string(),
        };
        let columns = fields(columns).into_iter().map(|field| JsonColumn {
            path: Some(vec![crate::format::json::PathStep::Field(json_name(
                field.name(),
            ))]),
            field,
        });
        let mut decoder = JsonDecoder::new(columns.collect(), JsonOptions::default()).unwrap();
        let (mut record, mut bytes) = (Vec::new(), 0);
        for number in (0..30_000).filter(|&number| Nexmark::type_of(number) == kind) {
            record.clear();
            nexmark.write_json(number, &mut record);
            bytes += record.len();
            decoder.push(&record).unwrap();
        }
        if kind == NexmarkType::Bid {
            let mean = bytes / made.num_rows();
            assert!((195..=205).contains(&mean), "a bid has {mean} bytes");
        }
        assert_eq!(decoder.finish().unwrap(), made);
    }
    assert_eq!(Nexmark::bid_number(0), 4);
    assert_eq!(Nexmark::bid_number(46), 54);
}

#[test]
fn event_time_moves_by_its_rate_and_disorder_only_delays() {
    let orderly = Nexmark::new(NexmarkOptions {
        event_rate: 3,
        ..NexmarkOptions::default()
    });
    let start = orderly.time_micros(0);
    assert_eq!(orderly.time_micros(3) - start, 1_000_000);
    assert_eq!(orderly.time_micros(4) - start, 1_333_000);
    let options = NexmarkOptions {
        disorder_ms: 2_000,
        ..NexmarkOptions::default()
    };
    let (disorderly, orderly) = (
        Nexmark::new(options),
        Nexmark::new(NexmarkOptions::default()),
    );
    let early: Vec<_> = (0..10_000)
        .map(|n| orderly.time_micros(n) - disorderly.time_micros(n))
        .collect();
    assert!(early.iter().all(|early| (0..=2_000_000).contains(early)));
    assert!(early.iter().any(|early| *early > 1_900_000));
}

#[test]
fn a_rate_paces_readers_by_the_clock() {
    let clock = Clock::manual(0);
    let options = [("rate".to_string(), "1000".to_string())];
    let source = NexmarkConnector::with_clock(&fields(&BID), &options, clock.clone()).unwrap();
    let partition = PartitionId(0);
    let end = || source.bounds(&[partition]).unwrap()[0].end;
    let mut reader = source
        .reader(vec![ReadRange::tail(partition, Offset(0))], &[0])
        .unwrap();
    assert!(matches!(
        reader.poll(Duration::ZERO).unwrap(),
        Polled::AtEnd(_, Offset(0))
    ));
    assert!(matches!(
        reader.poll(Duration::ZERO).unwrap(),
        Polled::Nothing
    ));
    clock.set_micros(1_000_000);
    assert_eq!(end(), Offset(1_000));
    let Polled::Chunk(chunk) = reader.poll(Duration::ZERO).unwrap() else {
        panic!()
    };
    assert_eq!(
        (chunk.from, chunk.to, chunk.rows.num_rows()),
        (Offset(0), Offset(1_000), 920)
    );
    assert_eq!(chunk.arrived_micros, 1_000_000);
    assert!(matches!(
        reader.poll(Duration::ZERO).unwrap(),
        Polled::AtEnd(_, Offset(1_000))
    ));
    // Two more events, both before the next bid: nothing to read, and the end stays.
    clock.set_micros(1_002_000);
    assert!(matches!(
        reader.poll(Duration::ZERO).unwrap(),
        Polled::Nothing
    ));
    assert_eq!(end(), Offset(1_000));
    // A reader that starts over gets what has happened at once.
    let mut second = source
        .reader(vec![ReadRange::tail(partition, Offset(0))], &[0])
        .unwrap();
    let Polled::Chunk(chunk) = second.poll(Duration::ZERO).unwrap() else {
        panic!()
    };
    assert_eq!(chunk.rows.num_rows(), 920);
}

#[test]
fn a_replay_does_not_wait_for_the_clock() {
    let options = [("rate".to_string(), "10".to_string())];
    let source = NexmarkConnector::with_clock(&fields(&BID), &options, Clock::manual(0)).unwrap();
    let cut = ReadRange {
        until: None,
        ..range(0, 5_000, &[6_000, 7_000], 0)
    };
    let mut reader = source.reader(vec![cut], &[0]).unwrap();
    for (from, to) in [(5_000, 6_000), (6_000, 7_000)] {
        let Polled::Chunk(chunk) = reader.poll(Duration::ZERO).unwrap() else {
            panic!()
        };
        assert_eq!(
            (chunk.from.0, chunk.to.0, chunk.arrived_micros),
            (from, to, 0)
        );
    }
    assert!(matches!(
        reader.poll(Duration::ZERO).unwrap(),
        Polled::AtEnd(_, Offset(7_000))
    ));
}

#[test]
fn a_waker_ends_a_waiting_poll() {
    let source = connector(&BID, &[("events", "50")]);
    let mut reader = source
        .reader(vec![ReadRange::tail(PartitionId(0), Offset(50))], &[0])
        .unwrap();
    assert!(matches!(
        reader.poll(Duration::ZERO).unwrap(),
        Polled::AtEnd(_, Offset(50))
    ));
    (reader.waker())();
    assert!(matches!(
        reader.poll(Duration::from_secs(3_600)).unwrap(),
        Polled::Nothing
    ));
}

#[test]
fn an_endless_source_ends_where_it_was_read_to() {
    let source = connector(&BID, &[]);
    let partition = PartitionId(0);
    assert_eq!(source.bounds(&[partition]).unwrap()[0].end, Offset(0));
    let mut reader = source
        .reader(vec![ReadRange::tail(partition, Offset(0))], &[0])
        .unwrap();
    let Polled::Chunk(chunk) = reader.poll(Duration::ZERO).unwrap() else {
        panic!()
    };
    assert_eq!(source.bounds(&[partition]).unwrap()[0].end, chunk.to);
    assert_eq!(chunk.rows.num_rows(), crate::base::limits::CHUNK_ROWS_MAX);
}

#[test]
fn bad_columns_and_options_name_the_good_ones() {
    let refuse = |columns: &[(&str, &str)], name: &str, value: &str| {
        let options = [(name.to_string(), value.to_string())];
        NexmarkConnector::new(&fields(columns), &options)
            .err()
            .unwrap()
    };
    let error = refuse(&[("prize", "bigint")], "seed", "1");
    assert_eq!(error.state(), SqlState::INVALID_TABLE_DEFINITION);
    assert_eq!(
        error.message(),
        "column \"prize\" is not a field of Nexmark's bids"
    );
    assert!(
        error
            .get_hint()
            .unwrap()
            .starts_with("the fields are: auction, bidder")
    );
    let error = refuse(&[("auction", "integer")], "seed", "1");
    assert_eq!(error.get_hint(), Some("declare it bigint"));
    for (name, value, message) in [
        ("sed", "1", "unknown option \"sed\" of connector nexmark"),
        (
            "type",
            "cat",
            "option \"type\" of connector nexmark cannot be 'cat'",
        ),
        (
            "rate",
            "0",
            "option \"rate\" of connector nexmark cannot be '0'",
        ),
        (
            "events",
            "-1",
            "option \"events\" of connector nexmark cannot be '-1'",
        ),
        (
            "start_time",
            "x",
            "option \"start_time\" of connector nexmark cannot be 'x'",
        ),
        (
            "disorder_ms",
            "1s",
            "option \"disorder_ms\" of connector nexmark cannot be '1s'",
        ),
        (
            "partitions",
            "2000",
            "option \"partitions\" of connector nexmark cannot be '2000'",
        ),
    ] {
        let error = refuse(&BID, name, value);
        assert_eq!(
            (error.state(), error.message()),
            (SqlState::INVALID_PARAMETER_VALUE, message)
        );
        assert!(error.get_hint().is_some());
    }
}

#[test]
fn numbers_may_have_other_types() {
    let columns = [
        ("auction", "text"),
        ("price", "integer"),
        ("bidder", "numeric(20,0)"),
        ("ts", "timestamp"),
    ];
    let batch = rows(
        &connector(&columns, &[]),
        vec![range(0, 0, &[], 100)],
        &[0, 1, 2, 3],
    );
    assert_eq!(batch.num_rows(), 92);
    assert!(
        batch
            .columns()
            .iter()
            .all(|column| column.null_count() == 0)
    );
}
