//! That values are within their bounds and the same however they are read.

use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{
    Date32Type, Decimal128Type, Field, Float64Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};

use super::DatagenConnector;
use crate::base::{Offset, PartitionId};
use crate::connector::{Polled, ReadRange, SourceConnector};
use crate::error::{Result, SqlState};
use crate::types::SqlType;

const EVERY: [&str; 15] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "numeric(10,2)",
    "text",
    "varchar(12)",
    "bytea",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
];

fn fields(types: &[&str]) -> Vec<Field> {
    let field = |(place, sql_type): (usize, &&str)| {
        SqlType::parse(sql_type)
            .unwrap()
            .to_field(&format!("c{place}"), false)
    };
    types.iter().enumerate().map(field).collect()
}

fn connector(types: &[&str], options: &[(&str, &str)]) -> Result<DatagenConnector> {
    let options: Vec<_> = options
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    DatagenConnector::new(&fields(types), &options)
}

fn rows(source: &DatagenConnector, from: u64, boundaries: &[u64], until: u64) -> RecordBatch {
    let columns: Vec<usize> = (0..source.columns.len()).collect();
    let range = ReadRange {
        partition: PartitionId(0),
        from: Offset(from),
        boundaries: boundaries.iter().copied().map(Offset).collect(),
        until: Some(Offset(until)),
    };
    let mut reader = source.reader(vec![range], &columns).unwrap();
    let mut batches = Vec::new();
    loop {
        match reader.poll(Duration::ZERO).unwrap() {
            Polled::Chunk(chunk) => batches.push(chunk.rows),
            Polled::Finished(_) => return concat_batches(&reader.schema(), &batches).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_type_has_a_default() {
    let batch = rows(&connector(&EVERY, &[]).unwrap(), 0, &[], 10_000);
    assert_eq!(batch.num_rows(), 10_000);
    for column in batch.columns() {
        assert_eq!(column.null_count(), 0);
    }
    let bigint = batch.column(3).as_primitive::<Int64Type>();
    assert!(
        bigint
            .values()
            .iter()
            .all(|value| (0..1_000).contains(value))
    );
    let double = batch.column(5).as_primitive::<Float64Type>();
    assert!(
        double
            .values()
            .iter()
            .all(|value| (0.0..1.0).contains(value))
    );
    assert!(
        batch
            .column(7)
            .as_string::<i32>()
            .iter()
            .all(|text| text.unwrap().len() == 10)
    );
    assert!(
        batch
            .column(9)
            .as_binary::<i32>()
            .iter()
            .all(|bytes| bytes.unwrap().len() == 10)
    );
    let days = batch.column(10).as_primitive::<Date32Type>();
    assert_eq!(days.value(0), 19_723, "2024-01-01");
    let times = batch.column(12).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.value(1) - times.value(0), 1_000);
}

#[test]
fn rows_are_the_same_in_any_cut() {
    let source = connector(&EVERY, &[("seed", "5")]).unwrap();
    let whole = rows(&source, 100, &[], 20_000);
    let mut random = fastrand::Rng::with_seed(1);
    let mut cuts: Vec<u64> = (0..10).map(|_| random.u64(101..20_000)).collect();
    cuts.sort_unstable();
    let again = connector(&EVERY, &[("seed", "5")]).unwrap();
    assert_eq!(rows(&again, 100, &cuts, 20_000), whole);
    let other = connector(&EVERY, &[("seed", "6")]).unwrap();
    assert_ne!(rows(&other, 100, &[], 20_000), whole);
}

#[test]
fn options_set_the_rules() {
    let source = connector(
        &[
            "smallint",
            "integer",
            "numeric(5,2)",
            "text",
            "text",
            "timestamp",
            "numeric(5,2)",
        ],
        &[
            ("fields.c0.kind", "sequence"),
            ("fields.c0.start", "-2"),
            ("fields.c0.end", "2"),
            ("fields.c1.min", "-5"),
            ("fields.c1.max", "5"),
            ("fields.c2.max", "9"),
            ("fields.c3.length", "3"),
            ("fields.c3.distinct", "4"),
            ("fields.c4.kind", "sequence"),
            ("fields.c5.kind", "random"),
            ("fields.c5.min", "2020-01-01"),
            ("fields.c5.max", "2020-01-02"),
            ("fields.c6.kind", "sequence"),
            ("rows", "1000"),
        ],
    )
    .unwrap();
    let batch = rows(&source, 0, &[], 1_000);
    assert_eq!(
        batch.column(0).as_primitive::<Int16Type>().values()[..6],
        [-2, -1, 0, 1, 2, -2]
    );
    let whole = batch.column(1).as_primitive::<Int32Type>().values();
    assert_eq!(
        (whole.iter().min(), whole.iter().max()),
        (Some(&-5), Some(&5))
    );
    let numeric = batch.column(2).as_primitive::<Decimal128Type>().values();
    assert!(numeric.iter().all(|value| (0..=900).contains(value)));
    let texts: std::collections::BTreeSet<_> = batch.column(3).as_string::<i32>().iter().collect();
    assert_eq!(texts.len(), 4);
    assert_eq!(batch.column(4).as_string::<i32>().value(17), "17");
    let day = 1_577_836_800_000_000;
    let times = batch
        .column(5)
        .as_primitive::<TimestampMicrosecondType>()
        .values();
    assert!(
        times
            .iter()
            .all(|time| (day..=day + 86_400_000_000).contains(time))
    );
    assert_eq!(
        batch.column(6).as_primitive::<Decimal128Type>().value(7),
        700
    );
    let bounds = source.bounds(&[PartitionId(0)]).unwrap()[0];
    assert_eq!((bounds.start, bounds.end), (Offset(0), Offset(1_000)));
}

#[test]
fn the_whole_range_of_a_bigint_is_drawn() {
    let (min, max) = (i64::MIN.to_string(), i64::MAX.to_string());
    let source = connector(
        &["bigint"],
        &[("fields.c0.min", &min), ("fields.c0.max", &max)],
    )
    .unwrap();
    let batch = rows(&source, 0, &[], 1_000);
    let negative = batch.column(0).as_primitive::<Int64Type>().values().iter();
    assert!((400..600).contains(&negative.filter(|value| **value < 0).count()));
}

#[test]
fn bad_options_are_refused() {
    for (types, name, value) in [
        (["bigint"], "rowz", "1"),
        (["bigint"], "rows", "x"),
        (["bigint"], "fields.c1.kind", "random"),
        (["bigint"], "fields.c0.kind", "normal"),
        (["bigint"], "fields.c0.min", "1000"),
        (["smallint"], "fields.c0.max", "40000"),
        (["smallint"], "fields.c0.length", "4"),
        (["text"], "fields.c0.length", "10001"),
        (["varchar(5)"], "fields.c0.length", "6"),
        (["double precision"], "fields.c0.min", "NaN"),
        (["date"], "fields.c0.kind", "x"),
    ] {
        let error = connector(&types, &[(name, value)]).err().unwrap();
        assert_eq!(error.state(), SqlState::INVALID_PARAMETER_VALUE, "{name}");
        assert!(error.get_hint().is_some(), "{name}");
    }
    let error = connector(&["jsonb"], &[]).err().unwrap();
    assert_eq!(error.state(), SqlState::FEATURE_NOT_SUPPORTED);
}
