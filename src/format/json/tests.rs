//! What records become, and that both ways of decoding agree.

use arrow::util::pretty::pretty_format_batches;

use super::{JsonColumn, JsonDecoder, JsonOptions, PathStep};
use crate::format::{BadValue, Decoder, OnError, TimestampUnit};
use crate::types::{SqlType, StructField};

fn column(name: &str, sql_type: SqlType) -> JsonColumn {
    JsonColumn {
        field: sql_type.to_field(name, !name.starts_with("must")),
        path: None,
    }
}

fn at_path(name: &str, sql_type: SqlType, path: &[&str]) -> JsonColumn {
    let step = |step: &&str| match step.parse() {
        Ok(place) => PathStep::Item(place),
        Err(_) => PathStep::Field(step.to_string()),
    };
    let path = Some(path.iter().map(step).collect());
    JsonColumn {
        path,
        ..column(name, sql_type)
    }
}

fn decoder(columns: Vec<JsonColumn>) -> JsonDecoder {
    JsonDecoder::new(columns, JsonOptions::default()).unwrap()
}

fn show(decoder: &mut JsonDecoder) -> String {
    pretty_format_batches(&[decoder.finish().unwrap()])
        .unwrap()
        .to_string()
}

/// The values that a column of the type takes from the given JSON, or the reasons why not.
fn values(sql_type: &str, unit: Option<TimestampUnit>, json: &[&str]) -> Vec<String> {
    let columns = vec![column("c", SqlType::parse(sql_type).unwrap())];
    let options = JsonOptions {
        timestamp_unit: unit,
        on_error: OnError::Skip,
    };
    let mut decoder = JsonDecoder::new(columns, options).unwrap();
    let value = |json: &&str| {
        let bad = decoder.push(format!("{{\"c\":{json}}}").as_bytes())?;
        let lines = show(&mut decoder);
        if let Some(BadValue { reason, .. }) = bad.into_iter().next() {
            return Err(reason);
        }
        Ok(lines
            .lines()
            .nth(3)
            .unwrap()
            .trim_matches(['|', ' '])
            .to_string())
    };
    json.iter()
        .map(value)
        .map(|shown: Result<String, String>| shown.unwrap_or_else(|e| e))
        .collect()
}

#[test]
fn numbers_convert_exactly_or_not_at_all() {
    assert_eq!(
        values(
            "bigint",
            None,
            &[
                "7",
                "\"-8\"",
                "1e3",
                "\" 42.0 \"",
                "null",
                "9223372036854775807"
            ]
        ),
        ["7", "-8", "1000", "42", "", "9223372036854775807"]
    );
    assert_eq!(
        values(
            "bigint",
            None,
            &["1.5", "\"abc\"", "9223372036854775808", "true", "[1]"]
        ),
        [
            "column \"c\": 1.5 is not a bigint",
            "column \"c\": \"abc\" is not a bigint",
            "column \"c\": 9223372036854775808 is out of range for a bigint",
            "column \"c\": true is not a bigint",
            "column \"c\": [1] is not a bigint",
        ]
    );
    assert_eq!(
        values("integer", None, &["2147483647", "2147483648"]),
        [
            "2147483647",
            "column \"c\": 2147483648 is out of range for an integer"
        ]
    );
    assert_eq!(
        values(
            "numeric(5,2)",
            None,
            &["1.005", "-0.125", "\"999.99\"", "999.995"]
        ),
        [
            "1.01",
            "-0.13",
            "999.99",
            "column \"c\": 999.995 is out of range for a numeric(5,2)"
        ]
    );
    assert_eq!(
        values("double precision", None, &["0.1", "\"NaN\"", "1e400"]),
        [
            "0.1",
            "NaN",
            "column \"c\": 1e400 is out of range for a double precision"
        ]
    );
}

#[test]
fn timestamps_are_texts_or_numbers_with_a_unit() {
    let texts = [
        "\"2026-01-02T03:04:05.678Z\"",
        "\"2026-01-02 03:04:05\"",
        "\"2026-01-02T05:04:05+02:00\"",
    ];
    assert_eq!(
        values("timestamptz", None, &texts),
        [
            "2026-01-02T03:04:05.678Z",
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05Z"
        ]
    );
    let second = Some(TimestampUnit::Seconds);
    assert_eq!(
        values(
            "timestamp",
            second,
            &["1.5", "\"1\"", "-1", "\"2026-01-02 03:04:05\""]
        ),
        [
            "1970-01-01T00:00:01.500",
            "1970-01-01T00:00:01",
            "1969-12-31T23:59:59",
            "2026-01-02T03:04:05"
        ]
    );
    let milli = Some(TimestampUnit::Milliseconds);
    assert_eq!(
        values("timestamp", milli, &["1"]),
        ["1970-01-01T00:00:00.001"]
    );
    assert_eq!(
        values("timestamp", None, &["1700000000", "\"soon\""]),
        [
            "column \"c\": 1700000000 is a number, and timestamp.unit does not say of what",
            "column \"c\": \"soon\" is not a timestamp without time zone",
        ]
    );
    let far = values("timestamp", second, &["99999999999999"]);
    assert!(far[0].contains("is out of range"), "{far:?}");
}

#[test]
fn texts_take_scalars_and_subtrees_as_written() {
    let json = [
        "\"a\\n\\u00e9\"",
        "1.50",
        "true",
        "{\"a\": [1]}",
        "\"\\ud83d\"",
    ];
    assert_eq!(
        values("text", None, &json)[1..],
        [
            "1.50",
            "true",
            "{\"a\": [1]}",
            "column \"c\": \"\\ud83d\" has half of a surrogate pair"
        ]
    );
    assert_eq!(
        values("jsonb", None, &["\"x\"", "{\"a\": 1}"]),
        ["\"x\"", "{\"a\": 1}"]
    );
    assert_eq!(
        values("varchar(3)", None, &["\"äöü\"", "\"abcd\"", "1234"]),
        [
            "äöü",
            "column \"c\": \"abcd\" is too long for a varchar(3)",
            "column \"c\": 1234 is too long for a varchar(3)",
        ]
    );
}

#[test]
fn other_types_take_what_postgres_takes() {
    for (sql_type, json, value) in [
        ("boolean", "true", "true"),
        ("boolean", "\"off\"", "false"),
        ("date", "\"2026-01-02\"", "2026-01-02"),
        ("date", "\"20260102\"", "2026-01-02"),
        ("time", "\"12:34:56.5\"", "12:34:56.500"),
        ("time", "\"12:34\"", "12:34:00"),
        ("interval", "\"1 day 02:00:00\"", "1 days 2 hours"),
        (
            "uuid",
            "\"00112233-4455-6677-8899-aabbccddeeff\"",
            "00112233445566778899aabbccddeeff",
        ),
        (
            "uuid",
            "\"{00112233445566778899aabbccddeeff}\"",
            "00112233445566778899aabbccddeeff",
        ),
        ("bytea", "\"\\\\x0aFF\"", "0aff"),
        ("bytea", "\"Cv8=\"", "0aff"),
    ] {
        assert_eq!(
            values(sql_type, None, &[json]),
            [value],
            "{sql_type} {json}"
        );
    }
    for (sql_type, json, reason) in [
        ("boolean", "1", "1 is not a boolean"),
        ("date", "\"2026-02-30\"", "\"2026-02-30\" is not a date"),
        ("interval", "\"x\"", "\"x\" is not an interval"),
        ("uuid", "7", "7 is not a uuid"),
    ] {
        assert_eq!(
            values(sql_type, None, &[json]),
            [format!("column \"c\": {reason}")]
        );
    }
}

#[test]
fn structs_and_lists_take_subtrees() {
    let member = |name: &str, sql_type| StructField {
        name: name.to_string(),
        sql_type,
    };
    let inner = SqlType::Struct(vec![
        member("a", SqlType::BigInt),
        member("b", SqlType::Array(Box::new(SqlType::Text))),
    ]);
    let mut json = decoder(vec![column("c", SqlType::Array(Box::new(inner)))]);
    for record in [
        r#"{"c":[{"a":1,"b":["x",null]},null,{"B":["y"],"a":2,"a":3,"z":{}}]}"#,
        r#"{"c":[]}"#,
        r#"{"c":null}"#,
    ] {
        json.push(record.as_bytes()).unwrap();
    }
    for record in [
        r#"{"c":[{"a":1},{"a":"x"}]}"#,
        r#"{"c":{}}"#,
        r#"{"c":[[]]}"#,
    ] {
        assert_eq!(json.push(record.as_bytes()).unwrap().len(), 1);
    }
    assert_eq!(
        show(&mut json),
        "\
+--------------------------------------+
| c                                    |
+--------------------------------------+
| [{a: 1, b: [x, ]}, , {a: 3, b: [y]}] |
| []                                   |
|                                      |
|                                      |
|                                      |
|                                      |
+--------------------------------------+"
    );
}

#[test]
fn names_match_exactly_then_without_case() {
    let mut json = decoder(vec![
        column("price", SqlType::BigInt),
        column("ID", SqlType::BigInt),
        column("id", SqlType::BigInt),
        column("größe", SqlType::BigInt),
    ]);
    for record in [
        r#"{"Price":1,"id":2,"GRÖSSE":0,"GRÖßE":3}"#,
        r#"{"price":4,"PRICE":5,"ID":6}"#,
        r#"{"PRICE":5,"price":4,"price":7,"\u0069d":8}"#,
    ] {
        json.push(record.as_bytes()).unwrap();
    }
    assert_eq!(
        show(&mut json),
        "\
+-------+----+----+-------+
| price | ID | id | größe |
+-------+----+----+-------+
| 1     |    | 2  | 3     |
| 4     | 6  |    |       |
| 7     |    | 8  |       |
+-------+----+----+-------+"
    );
}

#[test]
fn paths_lead_into_the_record() {
    let mut json = decoder(vec![
        at_path("city", SqlType::Text, &["seller", "address", "city"]),
        at_path("tag", SqlType::Text, &["tags", "1"]),
        at_path("seller", SqlType::Jsonb, &["seller"]),
        at_path("doc", SqlType::Jsonb, &[]),
    ]);
    for record in [
        r#"{"seller":{"address":{"city":"Kent"}},"tags":["a","b"]}"#,
        r#"{"seller":{"address":{"city":"Bend"},"address":{}},"tags":["a"]}"#,
        r#"{"Seller":1,"tags":{"1":2}}"#,
    ] {
        json.push(record.as_bytes()).unwrap();
    }
    let text = show(&mut json);
    let cells = |row: usize| -> Vec<String> {
        let line = text.lines().nth(row + 3).unwrap();
        line.split('|')
            .map(|cell| cell.trim().to_string())
            .collect()
    };
    assert_eq!(
        cells(0)[1..4],
        ["Kent", "b", r#"{"address":{"city":"Kent"}}"#]
    );
    assert_eq!(cells(1)[1..3], ["", ""]);
    assert_eq!(
        cells(2)[1..5],
        ["", "", "", r#"{"Seller":1,"tags":{"1":2}}"#]
    );
}

#[test]
fn bad_records_say_why_and_leave_nothing() {
    let mut json = decoder(vec![
        column("a", SqlType::Text),
        column("must", SqlType::BigInt),
    ]);
    for (record, reason) in [
        (
            &b""[..],
            "malformed JSON at byte 1: the record ends where a value was expected",
        ),
        (
            b"[1]",
            "malformed JSON at byte 1: the record is not an object",
        ),
        (
            b"{\"must\":1}}",
            "malformed JSON at byte 11: the record goes on behind the object",
        ),
        (
            b"{\"must\":1,}",
            "malformed JSON at byte 11: a field name in quotes was expected",
        ),
        (
            b"{\"must\":1,\"x\":tru}",
            "malformed JSON at byte 15: a value was expected",
        ),
        (
            b"{\"must\":1,\"x\":\"\xff\"}",
            "malformed JSON at byte 16: a string is not valid UTF-8",
        ),
    ] {
        assert_eq!(json.push(record), Err(reason.to_string()));
    }
    assert_eq!(json.rows(), 0);
    json.push(b" {\"a\":\"x\", \"must\":1}\n").unwrap();
    assert_eq!(json.finish().unwrap().num_rows(), 1);
}

#[test]
fn bad_values_say_why_and_leave_the_others() {
    let mut json = decoder(vec![
        column("a", SqlType::Text),
        column("must", SqlType::BigInt),
        column("flag", SqlType::Boolean),
    ]);
    let bad = |column, reason: &str| BadValue {
        column,
        reason: format!("column {reason}"),
    };
    let missing = || bad(1, "\"must\": NULL, but the column is NOT NULL");
    for (record, expected) in [
        (&b"{\"a\":\"x\"}"[..], vec![missing()]),
        (b"{\"must\":null}", vec![missing()]),
        (
            b"{\"a\":\"x\",\"must\":\"abc\"}",
            vec![bad(1, "\"must\": \"abc\" is not a bigint")],
        ),
        (
            b"{\"a\":\"y\",\"must\":[],\"flag\":7}",
            vec![
                bad(1, "\"must\": [] is not a bigint"),
                bad(2, "\"flag\": 7 is not a boolean"),
            ],
        ),
        (b"{\"a\":\"x\",\"must\":2,\"flag\":true}", vec![]),
    ] {
        assert_eq!(json.push(record), Ok(expected));
    }
    assert_eq!(
        show(&mut json),
        "\
+---+------+------+
| a | must | flag |
+---+------+------+
| x | 0    |      |
|   | 0    |      |
| x | 0    |      |
| y | 0    |      |
| x | 2    | true |
+---+------+------+"
    );
}

#[test]
fn on_error_null_keeps_the_row_where_null_may_be() {
    let columns = vec![
        column("a", SqlType::BigInt),
        column("must", SqlType::BigInt),
    ];
    let options = JsonOptions {
        timestamp_unit: None,
        on_error: OnError::Null,
    };
    let mut json = JsonDecoder::new(columns, options).unwrap();
    json.push(br#"{"a":"x","must":1}"#).unwrap();
    let bad = json.push(br#"{"a":1,"must":"x"}"#).unwrap();
    assert_eq!((bad.len(), bad[0].column), (1, 1));
    assert!(
        json.push(br#"{"a":"x","must":1"#).is_err(),
        "malformed stays bad"
    );
    assert_eq!(json.finish().unwrap().column(0).null_count(), 1);
}

#[test]
fn a_batch_without_columns_counts_rows() {
    let mut json = decoder(Vec::new());
    json.push(b"{\"a\":1}").unwrap();
    json.push(b"{\"a\":2}").unwrap();
    assert_eq!(json.finish().unwrap().num_rows(), 2);
    assert_eq!(json.rows(), 0);
}

#[test]
fn layouts_are_bounded() {
    let mut json = decoder(vec![column("a", SqlType::BigInt)]);
    for number in 0..30_000 {
        json.push(format!("{{\"x{number}\":1,\"y{number}\":2,\"a\":3}}").as_bytes())
            .unwrap();
        assert!(json.layout_nodes() <= crate::base::limits::JSON_LAYOUT_NODES_MAX);
    }
}

#[test]
fn records_of_alternating_shapes_stay_on_the_fast_way() {
    let mut json = decoder(vec![
        column("a", SqlType::BigInt),
        column("b", SqlType::Text),
        at_path("c", SqlType::BigInt, &["x", "c"]),
    ]);
    let records = [
        r#"{"a": 1, "b": "y", "x": {"c": 1}}"#,
        r#"{"a": 1, "x": {"c": 2}}"#,
        r#"{"a": 1, "x": {}, "z": [1, {"y": "ü"}]}"#,
        r#"{"b": null, "a": 5}"#,
    ];
    for record in records {
        json.push(record.as_bytes()).unwrap();
    }
    for _ in 0..3 {
        for record in records {
            assert!(json.push_by_fast_way(record.as_bytes()), "{record}");
        }
    }
    assert_eq!(json.rows(), 16);
    json.finish().unwrap();
}

/// Records of a few shapes with every kind of value, some of them damaged.
struct Records {
    random: fastrand::Rng,
}

impl Records {
    fn value(&mut self, depth: usize) -> String {
        let random = &mut self.random;
        match random.usize(0..if depth < 3 { 16 } else { 13 }) {
            0 => random.i64(-1000..1000).to_string(),
            1 => random.i64(..).to_string(),
            2 => random.u128(..).to_string(),
            3 => format!("{}", random.f64() * 1e6),
            4 => format!("{}e{}", random.i32(-99..99), random.i32(-20..20)),
            5 => format!(
                "\"2026-{:02}-{:02}T{:02}:{:02}:{:02}{}\"",
                random.u8(0..14),
                random.u8(0..32),
                random.u8(0..25),
                random.u8(0..61),
                random.u8(0..61),
                ["", "Z", ".5Z", ".123456", ".1234567Z", "+02:00"][random.usize(0..6)]
            ),
            6 => "null".to_string(),
            7 => ["true", "false"][random.usize(0..2)].to_string(),
            8 => format!("\"{}\"", random.i64(-99..99)),
            9 => "\"plain text of some length, more than one block of sixteen\"".to_string(),
            10 => "\"e\\u00e9 \\\"quoted\\\" \\\\ \\ud83d\\ude00\"".to_string(),
            11 => "\"größer 日本\"".to_string(),
            12 => "\"\"".to_string(),
            13 => format!("[{}, {}]", self.value(depth + 1), self.value(depth + 1)),
            14 => "[]".to_string(),
            _ => format!(
                "{{\"c\":{},\"k\":{}}}",
                self.value(depth + 1),
                self.value(depth + 1)
            ),
        }
    }

    fn record(&mut self) -> Vec<u8> {
        let mut names = vec![
            "a", "b", "ts", "tz", "d", "f", "j", "l", "n", "i", "x", "skip", "other",
        ];
        match self.random.u8(0..10) {
            0 => self.random.shuffle(&mut names),
            1 => names.truncate(self.random.usize(0..names.len())),
            2 => names.push(["a", "A", "\\u0061", "x"][self.random.usize(0..4)]),
            3 => names[0] = "B",
            _ => {}
        }
        let (colon, comma) = [(":", ","), (": ", ", "), (" :\t", "\n,")][self.random.usize(0..3)];
        let mut fields = Vec::new();
        for name in names {
            let value = self.fitting(name);
            fields.push(format!("\"{name}\"{colon}{value}"));
        }
        let mut record = format!("{{{}}}", fields.join(comma)).into_bytes();
        let pool = b"{}[]\",:\\ 0123456789.eE-tfn\xc3\xa9\x00\x80";
        if self.random.u8(0..4) == 0 {
            for _ in 0..self.random.usize(1..3) {
                let at = self.random.usize(0..record.len());
                let byte = pool[self.random.usize(0..pool.len())];
                match self.random.u8(0..4) {
                    0 => record.truncate(at + 1),
                    1 => record[at] = byte,
                    2 => record.insert(at, byte),
                    _ => {
                        record.remove(at);
                        record.push(b' ');
                    }
                }
            }
        }
        record
    }

    /// Mostly a value that the column of that name takes.
    fn fitting(&mut self, name: &str) -> String {
        if self.random.u8(0..20) == 0 {
            return self.value(0);
        }
        let random = &mut self.random;
        match name {
            "a" | "i" => random.i64(-100_000..100_000_000).to_string(),
            "b" => format!("\"{}\"", "text ".repeat(random.usize(0..9))),
            "ts" => format!(
                "\"2026-{:02}-{:02}T12:34:56.789Z\"",
                random.u8(1..13),
                random.u8(1..29)
            ),
            "tz" => random.i64(0..2_000_000_000_000).to_string(),
            "d" => format!("{:.2}", random.f64() * 1000.0),
            "f" => format!("{}", random.f64()),
            "l" => format!("[{}, null]", random.u8(..)),
            "n" => ["true", "false", "null"][random.usize(0..3)].to_string(),
            "x" => format!("{{\"c\": {}, \"m\": {}}}", random.u8(..), self.value(2)),
            _ => self.value(0),
        }
    }
}

fn every_kind_of_column() -> Vec<JsonColumn> {
    vec![
        column("a", SqlType::BigInt),
        column("b", SqlType::Text),
        column("ts", SqlType::Timestamptz),
        column("tz", SqlType::Timestamp),
        column(
            "d",
            SqlType::Numeric {
                precision: 8,
                scale: 1,
            },
        ),
        column("f", SqlType::DoublePrecision),
        column("j", SqlType::Jsonb),
        column("l", SqlType::Array(Box::new(SqlType::SmallInt))),
        column("n", SqlType::Boolean),
        column("must_i", SqlType::Integer),
        at_path("c", SqlType::Text, &["x", "c"]),
        at_path("i", SqlType::Integer, &["i"]),
    ]
}

#[test]
fn the_fast_way_agrees_with_the_full_rules() {
    let mut taken = 0;
    for on_error in [OnError::Skip, OnError::Null] {
        let mut columns = every_kind_of_column();
        columns[9] = at_path("must_i", SqlType::Integer, &["i"]);
        let options = JsonOptions {
            timestamp_unit: Some(TimestampUnit::Milliseconds),
            on_error,
        };
        let mut fast = JsonDecoder::new(columns.clone(), options).unwrap();
        let mut full = JsonDecoder::new(columns, options).unwrap();
        let mut records = Records {
            random: fastrand::Rng::with_seed(42),
        };
        for round in 0..30_000 {
            let record = records.record();
            let shown = String::from_utf8_lossy(&record).into_owned();
            let theirs = full.push_by_full_rules(&record);
            if fast.push_by_fast_way(&record) {
                taken += 1;
                assert_eq!(theirs, Ok(Vec::new()), "{shown}");
            } else {
                assert_eq!(fast.push(&record), theirs, "{shown}");
            }
            if round % 64 == 63 {
                assert_eq!(fast.finish().unwrap(), full.finish().unwrap());
            }
        }
    }
    assert!(taken > 5_000, "the fast way took {taken} records");
}

#[test]
fn truncated_records_are_bad_on_both_ways() {
    let record = br#"{"a":12345678,"b":"some text","ts":"2026-01-02T03:04:05.678Z","skip":[1,2]}"#;
    let mut json = decoder(vec![
        column("a", SqlType::BigInt),
        column("ts", SqlType::Timestamptz),
    ]);
    json.push(record).unwrap();
    for end in 0..record.len() {
        assert!(json.push(&record[..end]).is_err(), "{end}");
    }
    assert!(json.push_by_fast_way(record));
}
