//! Texts and bytes as Postgres 15 prints and accepts them, and its words for what it refuses.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Decimal128Array, Decimal256Array, DictionaryArray, DurationSecondArray,
    Float16Array, Int64Array, MapBuilder, MapFieldNames, NullArray, RunArray, StringArray,
    StringBuilder, StringViewArray, TimestampSecondArray, UInt64Array, UnionArray,
};
use arrow::array::{Int64Builder, LargeStringArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, Int8Type, Int32Type, UnionFields, i256};
use bytes::BytesMut;

use crate::types::pg::{ColumnBuilder, DateTimeStyle, Format, ValueWriter};
use crate::types::{SqlType, Zone};

/// Reads a text as a type and writes it again.
fn convert(
    name: &str,
    text: &str,
    from: Format,
    to: Format,
    zone: &str,
) -> Result<Vec<u8>, String> {
    let style = DateTimeStyle {
        zone: Zone::parse(zone).unwrap(),
    };
    let field = SqlType::parse(name).unwrap().to_field("c", true);
    let mut builder = ColumnBuilder::with_style(&field, style).unwrap();
    builder
        .push(Some(text.as_bytes()), from)
        .map_err(|error| format!("{} {}", error.state(), error.message()))?;
    let column = builder.finish().unwrap();
    let mut buffer = BytesMut::new();
    let writer = ValueWriter::with_style(&field, to, style).unwrap();
    assert!(writer.write(&column, 0, &mut buffer).unwrap());
    Ok(buffer.to_vec())
}

fn text_of(name: &str, text: &str) -> String {
    text_in(name, text, "UTC")
}

fn text_in(name: &str, text: &str, zone: &str) -> String {
    match convert(name, text, Format::Text, Format::Text, zone) {
        Ok(bytes) => String::from_utf8(bytes).unwrap(),
        Err(error) => error,
    }
}

fn hex_of(name: &str, text: &str) -> String {
    let bytes = convert(name, text, Format::Text, Format::Binary, "UTC").unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn show(field: &Field, column: &dyn Array, row: usize) -> Option<String> {
    let writer = ValueWriter::new(field, Format::Text).unwrap();
    let mut buffer = BytesMut::new();
    let is_value = writer.write(column, row, &mut buffer).unwrap();
    is_value.then(|| String::from_utf8(buffer.to_vec()).unwrap())
}

fn check(name: &str, pairs: &[(&str, &str)]) {
    for (input, output) in pairs {
        assert_eq!(text_of(name, input), *output, "{name}: {input}");
    }
}

#[test]
fn booleans() {
    check(
        "boolean",
        &[
            ("t", "t"),
            (" TRUE ", "t"),
            ("tru", "t"),
            ("y", "t"),
            ("on", "t"),
            ("1", "t"),
            ("of", "f"),
            ("fAl", "f"),
            ("no", "f"),
            ("0", "f"),
            ("o", "22P02 invalid input syntax for type boolean: \"o\""),
            ("", "22P02 invalid input syntax for type boolean: \"\""),
            (
                "truer",
                "22P02 invalid input syntax for type boolean: \"truer\"",
            ),
        ],
    );
}

#[test]
fn integers() {
    check(
        "bigint",
        &[
            (" -42 ", "-42"),
            ("+0", "0"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("abc", "22P02 invalid input syntax for type bigint: \"abc\""),
            ("1.5", "22P02 invalid input syntax for type bigint: \"1.5\""),
            ("", "22P02 invalid input syntax for type bigint: \"\""),
            ("-", "22P02 invalid input syntax for type bigint: \"-\""),
            (
                "9223372036854775808",
                "22003 value \"9223372036854775808\" is out of range for type bigint",
            ),
        ],
    );
    check(
        "smallint",
        &[(
            "32768",
            "22003 value \"32768\" is out of range for type smallint",
        )],
    );
    assert_eq!(hex_of("integer", "-2"), "fffffffe");
    assert_eq!(
        convert("bigint", "\u{1}\u{2}", Format::Binary, Format::Text, "UTC").unwrap(),
        b"258",
        "a client may send a narrower integer",
    );
}

#[test]
fn floats() {
    check(
        "double precision",
        &[
            ("1e20", "1e+20"),
            ("1e15", "1e+15"),
            ("123456789012345", "123456789012345"),
            ("100", "100"),
            ("0.1", "0.1"),
            ("0.0001", "0.0001"),
            ("0.00001234", "1.234e-05"),
            ("-0", "-0"),
            ("1.50", "1.5"),
            ("1e-310", "1e-310"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("nan", "NaN"),
            ("-inf", "-Infinity"),
            (" Infinity ", "Infinity"),
            (
                "1e400",
                "22003 \"1e400\" is out of range for type double precision",
            ),
            (
                "1e-400",
                "22003 \"1e-400\" is out of range for type double precision",
            ),
            ("0e-400", "0"),
            (
                "x",
                "22P02 invalid input syntax for type double precision: \"x\"",
            ),
        ],
    );
    check(
        "real",
        &[
            ("1000000", "1e+06"),
            ("123456.7", "123456.7"),
            ("0.1", "0.1"),
            ("1e40", "22003 \"1e40\" is out of range for type real"),
        ],
    );
}

#[test]
fn numerics() {
    check(
        "numeric(10,3)",
        &[
            ("1.5", "1.500"),
            (" -.0005 ", "-0.001"),
            ("0.00049", "0.000"),
            ("-0.0001", "0.000"),
            ("12e-1", "1.200"),
            ("1.2345E+2", "123.450"),
            ("9999999.9994", "9999999.999"),
            ("9999999.9995", "22003 numeric field overflow"),
            ("1e7", "22003 numeric field overflow"),
            ("1e999999999999", "22003 numeric field overflow"),
            ("0e999999999999", "0.000"),
            ("1e-999999999999", "0.000"),
            ("1e", "22P02 invalid input syntax for type numeric: \"1e\""),
            (".", "22P02 invalid input syntax for type numeric: \".\""),
            ("NaN", "0A000 numeric value \"NaN\" is not supported"),
        ],
    );
    for (name, text, hex) in [
        ("numeric(10,3)", "0", "0000000000000003"),
        (
            "numeric(10,3)",
            "-12345.678",
            "000300014000000300010929 1a7c",
        ),
        ("numeric(10,3)", "0.001", "0001ffff00000003000a"),
        ("numeric(10,0)", "10000", "00010001000000000001"),
    ] {
        assert_eq!(hex_of(name, text), hex.replace(' ', ""), "{text}");
    }
    let field = Field::new("c", DataType::Decimal128(5, -2), true);
    let column = Decimal128Array::from(vec![123, 0])
        .with_precision_and_scale(5, -2)
        .unwrap();
    assert_eq!(show(&field, &column, 0).unwrap(), "12300");
    assert_eq!(show(&field, &column, 1).unwrap(), "0");
}

#[test]
fn texts() {
    check(
        "varchar(3)",
        &[
            ("abc", "abc"),
            ("äöü", "äöü"),
            ("abc  ", "abc"),
            ("abcd", "22001 value too long for type character varying(3)"),
        ],
    );
    let field = SqlType::Text.to_field("c", true);
    let mut builder = ColumnBuilder::new(&field).unwrap();
    for (bytes, message) in [
        (
            &b"a\xff"[..],
            "invalid byte sequence for encoding \"UTF8\": 0xff",
        ),
        (
            b"\xe4nd",
            "invalid byte sequence for encoding \"UTF8\": 0xe4 0x6e 0x64",
        ),
        (b"\xc3", "invalid byte sequence for encoding \"UTF8\": 0xc3"),
        (b"a\0", "invalid byte sequence for encoding \"UTF8\": 0x00"),
    ] {
        for format in [Format::Text, Format::Binary] {
            let error = builder.push(Some(bytes), format).unwrap_err();
            assert_eq!((error.state().code(), error.message()), ("22021", message));
        }
    }
}

#[test]
fn bytes_uuids_and_json() {
    check(
        "bytea",
        &[
            ("\\xDEAD be\nef", "\\xdeadbeef"),
            ("a\\\\b\\001", "\\x615c6201"),
            (
                "\\x1",
                "22023 invalid hexadecimal data: odd number of digits",
            ),
            ("\\x1g", "22023 invalid hexadecimal digit: \"g\""),
            ("\\400", "22P02 invalid input syntax for type bytea"),
        ],
    );
    let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    check(
        "uuid",
        &[
            ("{A0EEBC999C0B4EF8BB6D6BB9BD380A11}", uuid),
            ("a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", uuid),
            (
                "a0eebc",
                "22P02 invalid input syntax for type uuid: \"a0eebc\"",
            ),
            ("{", "22P02 invalid input syntax for type uuid: \"{\""),
        ],
    );
    assert_eq!(hex_of("uuid", uuid), uuid.replace('-', ""));
    check(
        "jsonb",
        &[
            ("{\"a\": 1}", "{\"a\": 1}"),
            ("{", "22P02 invalid input syntax for type json"),
        ],
    );
    assert_eq!(hex_of("jsonb", "1"), "0131");
    let deep = "[".repeat(100_000);
    assert!(text_of("jsonb", &deep).starts_with("22P02"));
}

#[test]
fn dates_and_times() {
    check(
        "date",
        &[
            ("2026-01-02", "2026-01-02"),
            ("20260102", "2026-01-02"),
            (" 2026/1/2 10:00 ", "2026-01-02"),
            ("0044-03-15 BC", "0044-03-15 BC"),
            ("12026-01-02", "12026-01-02"),
            ("epoch", "1970-01-01"),
            ("abc", "22007 invalid input syntax for type date: \"abc\""),
            (
                "2026-13-01",
                "22008 date/time field value out of range: \"2026-13-01\"",
            ),
            (
                "2026-02-29",
                "22008 date/time field value out of range: \"2026-02-29\"",
            ),
            (
                "0000-01-01",
                "22008 date/time field value out of range: \"0000-01-01\"",
            ),
            (
                "infinity",
                "0A000 infinite values of type date are not supported",
            ),
        ],
    );
    check(
        "time",
        &[
            ("3:04", "03:04:00"),
            ("030405.678", "03:04:05.678"),
            ("03:04 PM", "15:04:00"),
            ("12:00am", "00:00:00"),
            ("23:59:59.999999", "23:59:59.999999"),
            ("10:00:00+02", "10:00:00"),
            (
                "25:00",
                "22008 date/time field value out of range: \"25:00\"",
            ),
            (
                "24:00",
                "22008 date/time field value out of range: \"24:00\"",
            ),
            ("x", "22007 invalid input syntax for type time: \"x\""),
        ],
    );
    assert_eq!(hex_of("date", "1999-12-31"), "ffffffff");
    assert_eq!(hex_of("time", "00:00:01"), "00000000000f4240");
}

#[test]
fn timestamps() {
    check(
        "timestamp",
        &[
            ("2026-01-02 03:04:05.678", "2026-01-02 03:04:05.678"),
            ("2026-01-02T03:04:05Z", "2026-01-02 03:04:05"),
            ("2026-01-02 03:04:05+05", "2026-01-02 03:04:05"),
            ("2026-01-02", "2026-01-02 00:00:00"),
            ("2026-01-02 24:00", "2026-01-03 00:00:00"),
            ("2026-12-31 23:59:60", "2027-01-01 00:00:00"),
            ("2026-01-02 03:04:05.9999999", "2026-01-02 03:04:06"),
            ("0001-01-01 00:00:00 BC", "0001-01-01 00:00:00 BC"),
            ("2026-01-02 3:4:5 pm", "2026-01-02 15:04:05"),
            (
                "nope",
                "22007 invalid input syntax for type timestamp: \"nope\"",
            ),
            (
                "-infinity",
                "0A000 infinite values of type timestamp are not supported",
            ),
            (
                "9999999-01-01",
                "22008 timestamp out of range: \"9999999-01-01\"",
            ),
        ],
    );
    assert_eq!(
        hex_of("timestamp", "2000-01-01 00:00:00.000001"),
        "0000000000000001"
    );
}

#[test]
fn points_in_time_follow_the_session_zone() {
    for (zone, input, output) in [
        (
            "UTC",
            "2026-01-02 03:04:05.678",
            "2026-01-02 03:04:05.678+00",
        ),
        (
            "UTC",
            "2026-01-02 03:04:05 Europe/Berlin",
            "2026-01-02 02:04:05+00",
        ),
        (
            "UTC",
            "2026-01-02 03:04:05.5-0330",
            "2026-01-02 06:34:05.5+00",
        ),
        (
            "Europe/Berlin",
            "2026-07-02 12:00",
            "2026-07-02 12:00:00+02",
        ),
        (
            "Europe/Berlin",
            "2026-07-02 12:00Z",
            "2026-07-02 14:00:00+02",
        ),
        (
            "Europe/Berlin",
            "2026-03-29 02:30",
            "2026-03-29 03:30:00+02",
        ),
        (
            "Europe/Berlin",
            "2026-10-25 02:30",
            "2026-10-25 02:30:00+01",
        ),
        (
            "Asia/Kolkata",
            "1850-01-01 00:00",
            "1850-01-01 00:00:00+05:53:28",
        ),
        (
            "-03:30",
            "2026-01-02 00:00 UTC",
            "2026-01-01 20:30:00-03:30",
        ),
        (
            "Asia/Kolkata",
            "4713-01-01 00:00 BC",
            "4713-01-01 00:00:00+05:53:28 BC",
        ),
    ] {
        assert_eq!(
            text_in("timestamptz", input, zone),
            output,
            "{input} in {zone}"
        );
    }
}

#[test]
fn zones_that_do_not_exist_are_refused() {
    for (zone, input, output) in [
        (
            "UTC",
            "2026-01-02 03:04 Mars/Phobos",
            "22023 time zone \"Mars/Phobos\" not recognized",
        ),
        (
            "UTC",
            "2026-01-02 03:04 nonsense",
            "22007 invalid input syntax for type timestamp with time zone: \
             \"2026-01-02 03:04 nonsense\"",
        ),
        (
            "UTC",
            "2026-01-02 03:04+17",
            "22008 time zone displacement out of range: \"2026-01-02 03:04+17\"",
        ),
    ] {
        assert_eq!(text_in("timestamptz", input, zone), output);
    }
}

#[test]
fn intervals() {
    check(
        "interval",
        &[
            ("1 mon 2 days 03:04:05", "1 mon 2 days 03:04:05"),
            (
                "1 year 2 mons -3 days 04:05:06.7",
                "1 year 2 mons -3 days +04:05:06.7",
            ),
            ("-1 mon 2 days -3:04:05", "-1 mons +2 days -03:04:05"),
            ("10 seconds", "00:00:10"),
            ("0", "00:00:00"),
            ("1.5 hours", "01:30:00"),
            ("1.5 days", "1 day 12:00:00"),
            ("1.5 months", "1 mon 15 days"),
            ("1.5 years", "1 year 6 mons"),
            ("1.5 weeks", "10 days 12:00:00"),
            ("1 12:00", "1 day 12:00:00"),
            ("1-2", "1 year 2 mons"),
            ("@ 1 hour 5 min ago", "-01:05:00"),
            ("4h30m", "04:30:00"),
            ("-00:00:01.5", "-00:00:01.5"),
            ("100:00:00", "100:00:00"),
            ("P1Y2M3DT4H5M6.5S", "1 year 2 mons 3 days 04:05:06.5"),
            ("PT-10S", "-00:00:10"),
            ("1500 ms", "00:00:01.5"),
            ("", "22007 invalid input syntax for type interval: \"\""),
            (
                "5 apples",
                "22007 invalid input syntax for type interval: \"5 apples\"",
            ),
            (
                "1 day 2 days",
                "22007 invalid input syntax for type interval: \"1 day 2 days\"",
            ),
            ("P", "22007 invalid input syntax for type interval: \"P\""),
            (
                "99999999999 years",
                "22008 interval field value out of range: \"99999999999 years\"",
            ),
        ],
    );
    assert_eq!(
        hex_of("interval", "1 mon 2 days 00:00:01"),
        "00000000000f42400000000200000001"
    );
}

#[test]
fn arrays() {
    check(
        "text[]",
        &[
            ("{1,NULL,\"a b\"}", "{1,NULL,\"a b\"}"),
            ("{ a , null , \"null\" }", "{a,NULL,\"null\"}"),
            ("{}", "{}"),
            ("{\"\",\"a\\\"b\",c\\,d}", "{\"\",\"a\\\"b\",\"c,d\"}"),
            ("{\"a\" , \"b\"}", "{a,b}"),
            ("{a,b", "22P02 malformed array literal: \"{a,b\""),
            ("{a,,b}", "22P02 malformed array literal: \"{a,,b}\""),
            ("a", "22P02 malformed array literal: \"a\""),
            ("{a}b", "22P02 malformed array literal: \"{a}b\""),
        ],
    );
    check(
        "bigint[][]",
        &[
            ("{{1,2},{3,NULL}}", "{{1,2},{3,NULL}}"),
            (
                "{{1,x}}",
                "22P02 invalid input syntax for type bigint: \"x\"",
            ),
        ],
    );
    assert_eq!(
        hex_of("integer[]", "{1,NULL}"),
        "00000001000000010000001700000002000000010000000400000001ffffffff"
    );
    assert_eq!(hex_of("integer[][]", "{}"), "000000000000000000000017");
    assert_eq!(
        hex_of("smallint[][]", "{{1},{2}}"),
        "0000000200000000000000150000000200000001000000010000000100000002000100000002 0002"
            .replace(' ', "")
    );
}

#[test]
fn an_array_of_unequal_arrays_has_a_text_but_no_binary_form() {
    let text = "{{1},{2,3}}";
    assert_eq!(text_of("bigint[][]", text), text);
    let field = SqlType::parse("bigint[][]").unwrap().to_field("c", true);
    let mut builder = ColumnBuilder::new(&field).unwrap();
    builder.push(Some(text.as_bytes()), Format::Text).unwrap();
    let column = builder.finish().unwrap();
    let mut buffer = BytesMut::from(&b"before"[..]);
    let writer = ValueWriter::new(&field, Format::Binary).unwrap();
    let error = writer.write(&column, 0, &mut buffer).unwrap_err();
    assert_eq!(error.state().code(), "22P03");
    assert_eq!(&buffer[..], b"before");
}

#[test]
fn records() {
    check(
        "struct<a bigint, b text>",
        &[
            ("(1,\"a b\")", "(1,\"a b\")"),
            ("(,)", "(,)"),
            ("(1,\"\")", "(1,\"\")"),
            ("(1,\"a\"\"b\\\\c\")", "(1,\"a\"\"b\\\\c\")"),
            ("(1, a)", "(1,\" a\")"),
            ("(1)", "22P02 malformed record literal: \"(1)\""),
            ("(1,2,3)", "22P02 malformed record literal: \"(1,2,3)\""),
            ("1,2", "22P02 malformed record literal: \"1,2\""),
            ("(1,2", "22P02 malformed record literal: \"(1,2\""),
        ],
    );
    check(
        "struct<a bigint, b text>[]",
        &[("{\"(1,\\\"a b\\\")\"}", "{\"(1,\\\"a b\\\")\"}")],
    );
    assert_eq!(
        hex_of("struct<a integer, b text>", "(1,)"),
        "00000002000000170000000400000001 00000019ffffffff".replace(' ', "")
    );
}

#[test]
fn columns_of_any_arrow_type_are_shown() {
    let seconds = Arc::new(TimestampSecondArray::from(vec![1]).with_timezone("Europe/Berlin"));
    let dictionary: DictionaryArray<Int8Type> = vec![Some("a"), None].into_iter().collect();
    let ends = arrow::array::Int32Array::from(vec![2, 3]);
    let runs = RunArray::<Int32Type>::try_new(&ends, &StringArray::from(vec!["x", "y"])).unwrap();
    let names = MapFieldNames {
        entry: "entries".to_string(),
        key: "key".to_string(),
        value: "value".to_string(),
    };
    let mut map = MapBuilder::new(Some(names), StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k k");
    map.values().append_value(1);
    map.append(true).unwrap();
    let union_fields = UnionFields::try_new([0], [Field::new("i", DataType::Int64, true)]).unwrap();
    let union = UnionArray::try_new(
        union_fields,
        ScalarBuffer::from(vec![0_i8]),
        None,
        vec![Arc::new(Int64Array::from(vec![7]))],
    )
    .unwrap();
    let wide = Decimal256Array::from(vec![i256::MAX])
        .with_precision_and_scale(76, 76)
        .unwrap();
    let columns: Vec<(ArrayRef, &str)> = vec![
        (
            Arc::new(UInt64Array::from(vec![u64::MAX])),
            "18446744073709551615",
        ),
        (Arc::new(Float16Array::from(vec![half_of(1.5)])), "1.5"),
        (Arc::new(StringViewArray::from(vec!["view"])), "view"),
        (Arc::new(LargeStringArray::from(vec!["large"])), "large"),
        (
            Arc::new(DurationSecondArray::from(vec![-90_000])),
            "-25:00:00",
        ),
        (seconds, "1970-01-01 00:00:01+00"),
        (Arc::new(dictionary), "a"),
        (Arc::new(runs), "x"),
        (Arc::new(map.finish()), "{\"(\\\"k k\\\",1)\"}"),
        (Arc::new(union), "{i=7}"),
        (
            Arc::new(wide),
            "5.7896044618658097711785492504343953926634992332820282019728792003956564819967",
        ),
    ];
    for (column, text) in columns {
        let field = Field::new("c", column.data_type().clone(), true);
        assert_eq!(show(&field, &column, 0).as_deref(), Some(text));
        let writer = ValueWriter::new(&field, Format::Binary).unwrap();
        assert!(writer.write(&column, 0, &mut BytesMut::new()).unwrap());
    }
    let nothing = Field::new("c", DataType::Null, true);
    assert_eq!(show(&nothing, &NullArray::new(1), 0), None);
}

fn half_of(
    value: f32,
) -> <arrow::datatypes::Float16Type as arrow::array::ArrowPrimitiveType>::Native {
    <arrow::datatypes::Float16Type as arrow::array::ArrowPrimitiveType>::Native::from_f32(value)
}

#[test]
fn times_that_do_not_fit_and_wrong_columns_are_errors() {
    let field = Field::new(
        "c",
        DataType::Timestamp(arrow::datatypes::TimeUnit::Second, None),
        true,
    );
    let writer = ValueWriter::new(&field, Format::Text).unwrap();
    let mut buffer = BytesMut::new();
    let far = TimestampSecondArray::from(vec![i64::MAX]);
    let error = writer.write(&far, 0, &mut buffer).unwrap_err();
    assert_eq!(error.state().code(), "22008");
    let other = Int64Array::from(vec![1]);
    let error = writer.write(&other, 0, &mut buffer).unwrap_err();
    assert_eq!(error.state().code(), "XX000");
    assert!(buffer.is_empty());
}

#[test]
fn infinite_times_are_refused_in_binary_too() {
    for (name, bytes) in [
        ("date", &i32::MAX.to_be_bytes()[..]),
        ("timestamp", &i64::MIN.to_be_bytes()[..]),
        ("timestamptz", &i64::MAX.to_be_bytes()[..]),
    ] {
        let field = SqlType::parse(name).unwrap().to_field("c", true);
        let mut builder = ColumnBuilder::new(&field).unwrap();
        let error = builder.push(Some(bytes), Format::Binary).unwrap_err();
        assert_eq!(error.state().code(), "0A000");
    }
}
