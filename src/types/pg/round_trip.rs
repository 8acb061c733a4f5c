//! Random columns of every type, written and read back in both formats.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano};
use bytes::BytesMut;
use fastrand::Rng;

use crate::types::pg::value::{Collector, Value};
use crate::types::pg::{
    ColumnBuilder, DateTimeStyle, Format, ValueWriter, parse_value, parse_value_in,
};
use crate::types::{SqlType, Zone};

pub(super) const TYPES: [&str; 24] = [
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "numeric",
    "numeric(38,38)",
    "numeric(5,2)",
    "numeric(9,0)",
    "text",
    "varchar(40)",
    "bytea",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "uuid",
    "jsonb",
    "bigint[]",
    "text[][]",
    "struct<a bigint, b text, c numeric(9,3)>",
    "struct<a text[], b timestamptz>[]",
];

/// Years 4713 BC to 9999: Postgres' own range ends later, its lower bound is that.
const MICROS_MIN: i64 = -210_866_803_200_000_000;
const MICROS_MAX: i64 = 253_402_300_799_999_999;
const MICROS_PER_DAY: i64 = 86_400_000_000;

fn spread(random: &mut Rng) -> i64 {
    random.i64(..) >> random.u32(0..63)
}

fn text(random: &mut Rng) -> String {
    let letters = [
        'a', 'b', ' ', '"', '\\', ',', '{', '}', '(', ')', 'é', '\n', '\'', 'N', '🦀',
    ];
    (0..random.usize(0..8))
        .map(|_| letters[random.usize(..letters.len())])
        .collect()
}

/// A value of a type, now and then an extreme one.
pub(super) fn random_value(sql_type: &SqlType, random: &mut Rng) -> Value<'static> {
    match sql_type {
        SqlType::Boolean => Value::Boolean(random.bool()),
        SqlType::SmallInt => Value::SmallInt(random.i16(..)),
        SqlType::Integer => Value::Integer(random.i32(..) >> random.u32(0..31)),
        SqlType::BigInt => Value::BigInt(spread(random)),
        SqlType::Real => Value::Real(match random.bool() {
            true => f32::from_bits(random.u32(..)),
            false => random.i16(..).into(),
        }),
        SqlType::DoublePrecision => Value::DoublePrecision(match random.bool() {
            true => f64::from_bits(random.u64(..)),
            false => random.i32(..).into(),
        }),
        SqlType::Numeric { precision, .. } => {
            let bound = 10_i128.pow((*precision).into());
            let digits = random.u32(0..=u32::from(*precision));
            Value::Numeric(random.i128(1 - bound..bound) / 10_i128.pow(digits))
        }
        SqlType::Text | SqlType::Varchar(_) => Value::Text(text(random).into()),
        SqlType::Jsonb => Value::Text(format!("{{\"a\": [{}]}}", random.u32(..)).into()),
        SqlType::Bytea => Value::Bytes((0..random.usize(0..20)).map(|_| random.u8(..)).collect()),
        SqlType::Date => {
            let days = random
                .i64(MICROS_MIN..MICROS_MAX)
                .div_euclid(MICROS_PER_DAY);
            Value::Date(days.try_into().unwrap())
        }
        SqlType::Time => Value::Time(random.i64(0..MICROS_PER_DAY)),
        SqlType::Timestamp | SqlType::Timestamptz => {
            let micros = random.i64(MICROS_MIN + MICROS_PER_DAY..MICROS_MAX);
            Value::Timestamp(match random.u8(0..3) {
                0 => micros,
                1 => micros - micros % 1_000_000,
                _ => random.i64(0..4_102_444_800_000_000),
            })
        }
        SqlType::Interval => Value::Interval(IntervalMonthDayNano::new(
            random.i32(-100..100) * random.i32(0..2),
            random.i32(-100..100) * random.i32(0..2),
            random.i64(-1_000_000_000_000..1_000_000_000_000) * 1_000 * random.i64(0..2),
        )),
        SqlType::Uuid => Value::Uuid(random.u128(..).to_be_bytes()),
        SqlType::Array(element) => {
            // All inner arrays have the same length, or there is no binary form.
            let length = random.usize(1..4);
            Value::Array(
                (0..length)
                    .map(|_| random_element(element, random))
                    .collect(),
            )
        }
        SqlType::Struct(fields) => Value::Struct(
            fields
                .iter()
                .map(|field| random_element(&field.sql_type, random))
                .collect(),
        ),
    }
}

fn random_element(sql_type: &SqlType, random: &mut Rng) -> Option<Value<'static>> {
    match sql_type {
        SqlType::Array(element) => Some(Value::Array(
            (0..2).map(|_| random_element(element, random)).collect(),
        )),
        _ => (random.u8(0..4) > 0).then(|| random_value(sql_type, random)),
    }
}

pub(super) fn random_column(sql_type: &SqlType, rows: usize, random: &mut Rng) -> ArrayRef {
    let mut collector = Collector::new(sql_type).unwrap();
    for _ in 0..rows {
        let is_null = random.u8(0..10) == 0;
        collector.append((!is_null).then(|| random_value(sql_type, random)));
    }
    collector.finish().unwrap()
}

fn read_back(field: &Field, column: &dyn Array, format: Format, style: DateTimeStyle) -> ArrayRef {
    let writer = ValueWriter::with_style(field, format, style).unwrap();
    let mut builder = ColumnBuilder::with_style(field, style).unwrap();
    for row in 0..column.len() {
        let mut buffer = BytesMut::new();
        let is_value = writer.write(column, row, &mut buffer).unwrap();
        assert_eq!(is_value, column.is_valid(row));
        builder
            .push(is_value.then_some(&buffer[..]), format)
            .unwrap();
    }
    builder.finish().unwrap()
}

#[test]
fn what_is_written_reads_back() {
    let mut random = Rng::with_seed(11);
    for name in TYPES {
        let sql_type = SqlType::parse(name).unwrap();
        let field = sql_type.to_field("c", true);
        for zone in ["UTC", "Asia/Kolkata", "-03:30"] {
            let style = DateTimeStyle {
                zone: Zone::parse(zone).unwrap(),
            };
            let column = random_column(&sql_type, 500, &mut random);
            for format in [Format::Text, Format::Binary] {
                let read = read_back(&field, &column, format, style);
                assert_same(&column, &read, name);
            }
        }
    }
}

/// Compares by value; the floats that are not numbers count as equal.
fn assert_same(column: &ArrayRef, read: &ArrayRef, name: &str) {
    assert_eq!(column.data_type(), read.data_type());
    for row in 0..column.len() {
        let (left, right) = (column.slice(row, 1), read.slice(row, 1));
        let is_nan = match column.data_type() {
            DataType::Float32 => left
                .as_primitive::<arrow::datatypes::Float32Type>()
                .value(0)
                .is_nan(),
            DataType::Float64 => left
                .as_primitive::<arrow::datatypes::Float64Type>()
                .value(0)
                .is_nan(),
            _ => false,
        };
        assert!(
            is_nan || *left == *right,
            "{name}: {left:?} was read as {right:?}"
        );
    }
}

#[test]
fn the_ends_of_the_ranges_read_back_as_text() {
    for (name, values) in [
        ("date", vec![Value::Date(i32::MIN), Value::Date(i32::MAX)]),
        (
            "timestamp",
            vec![Value::Timestamp(i64::MIN), Value::Timestamp(i64::MAX)],
        ),
        (
            "timestamptz",
            vec![Value::Timestamp(i64::MIN), Value::Timestamp(i64::MAX)],
        ),
        (
            "bigint",
            vec![Value::BigInt(i64::MIN), Value::BigInt(i64::MAX)],
        ),
        (
            "real",
            vec![Value::Real(f32::MIN_POSITIVE), Value::Real(f32::MAX)],
        ),
        (
            "interval",
            vec![
                Value::Interval(IntervalMonthDayNano::new(i32::MIN, i32::MIN, 0)),
                Value::Interval(IntervalMonthDayNano::new(
                    i32::MAX,
                    i32::MAX,
                    i64::MAX / 1_000 * 1_000,
                )),
            ],
        ),
    ] {
        let sql_type = SqlType::parse(name).unwrap();
        let mut collector = Collector::new(&sql_type).unwrap();
        for value in values {
            collector.append(Some(value));
        }
        let column = collector.finish().unwrap();
        let field = sql_type.to_field("c", true);
        let read = read_back(&field, &column, Format::Text, DateTimeStyle::default());
        assert_same(&column, &read, name);
    }
}

#[test]
fn parameters_of_other_arrow_types_are_cast() {
    for (data_type, text) in [
        (DataType::Utf8View, "abc"),
        (DataType::UInt64, "18446744073709551615"),
        (DataType::Int8, "-128"),
        (DataType::LargeBinary, "\\x00ff"),
        (DataType::Decimal256(50, 3), "1.500"),
        (
            DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None),
            "2026-01-02 03:04:05",
        ),
        (
            DataType::Timestamp(arrow::datatypes::TimeUnit::Second, Some("+01:00".into())),
            "2026-01-02 03:04:05+00",
        ),
        (
            DataType::Time32(arrow::datatypes::TimeUnit::Second),
            "03:04:05",
        ),
        (DataType::Date64, "2026-01-02"),
        (
            DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::Utf8)),
            "x",
        ),
        (
            DataType::LargeList(Arc::new(Field::new("item", DataType::UInt32, true))),
            "{1,NULL}",
        ),
    ] {
        let field = Field::new("p", data_type.clone(), true);
        let value = parse_value(&field, Format::Text, text.as_bytes()).unwrap();
        assert_eq!(value.data_type(), data_type);
        let array = value.to_array().unwrap();
        let mut buffer = BytesMut::new();
        let writer = ValueWriter::new(&field, Format::Text).unwrap();
        assert!(writer.write(&array, 0, &mut buffer).unwrap());
        assert_eq!(std::str::from_utf8(&buffer).unwrap(), text);
    }
    let small = Field::new("p", DataType::Int8, true);
    let error = parse_value(&small, Format::Text, b"300").unwrap_err();
    assert_eq!(error.state().code(), "22003");
}

#[test]
fn a_failed_push_leaves_the_builder_as_it_was() {
    let field = SqlType::parse("bigint[]").unwrap().to_field("c", true);
    let mut builder = ColumnBuilder::new(&field).unwrap();
    builder.push(Some(b"{1,2}"), Format::Text).unwrap();
    builder.push(Some(b"{3,x}"), Format::Text).unwrap_err();
    builder.push(None, Format::Text).unwrap();
    builder.push(Some(b"{}"), Format::Text).unwrap();
    let column = builder.finish().unwrap();
    assert_eq!(column.as_list::<i32>().value_offsets(), [0, 2, 2, 2]);
    assert!(builder.finish().unwrap().is_empty());
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Rng::with_seed(5);
    let style = DateTimeStyle {
        zone: Zone::parse("Europe/Berlin").unwrap(),
    };
    for name in TYPES {
        let sql_type = SqlType::parse(name).unwrap();
        let field = sql_type.to_field("c", true);
        let column = random_column(&sql_type, 50, &mut random);
        for format in [Format::Text, Format::Binary] {
            let writer = ValueWriter::new(&field, format).unwrap();
            for round in 0..2_000 {
                let mut buffer = BytesMut::new();
                writer.write(&column, round % 50, &mut buffer).unwrap();
                for _ in 0..random.usize(1..4) {
                    if !buffer.is_empty() {
                        let at = random.usize(..buffer.len());
                        buffer[at] = match format {
                            Format::Text => b"0123456789-+.:eE{}(),\"\\ TZtPnx"[random.usize(..29)],
                            Format::Binary => random.u8(..),
                        };
                    }
                }
                buffer.truncate(random.usize(..=buffer.len()));
                // Accepted or refused: only a panic would be wrong.
                let _ = parse_value_in(&field, format, &buffer, style);
            }
        }
    }
}
