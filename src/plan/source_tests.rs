//! Statements in, planned sources and tables out, or the error with its code and place.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};

use crate::catalog::Changelog;
use crate::connector::factory::ConnectorKind;
use crate::error::{Error, Result};
use crate::plan::context::{Planner, session_state};
use crate::plan::source::{PlannedSource, plan_source, plan_table};
use crate::sql::{Statement, parse_single};
use crate::types::SqlType;

fn plan(text: &str) -> Result<PlannedSource> {
    let state = session_state();
    let planner = Planner::new(&state, &|_| Ok(None));
    let parsed = parse_single(text)?.expect("a statement");
    match parsed.statement {
        Statement::CreateSource(create) => plan_source(&planner, &create),
        Statement::CreateTable(create) => plan_table(&planner, &create),
        other => panic!("{other:?} is neither a source nor a table"),
    }
}

/// Columns of a topic.
fn topic(columns: &str) -> String {
    format!("CREATE SOURCE s ({columns}) WITH (connector = 'topic')")
}

fn kafka(columns: &str, rest: &str) -> String {
    format!(
        "CREATE SOURCE s ({columns}) {rest} WITH (connector = 'kafka', topic = 't', \
         properties.bootstrap.server = '127.0.0.1:1')"
    )
}

/// The columns as `name type`, with `not null` where it is so.
fn shape(planned: &PlannedSource) -> Vec<String> {
    let column = |field: &Arc<arrow::datatypes::Field>| {
        let not_null = if field.is_nullable() { "" } else { " not null" };
        format!("{} {}{not_null}", field.name(), SqlType::of(field).unwrap())
    };
    planned.schema.fields().iter().map(column).collect()
}

/// `code @word: message | hint`, with the word of the statement at the error's position.
fn told(text: &str, error: &Error) -> String {
    let place = match error.get_position() {
        Some(position) => {
            let rest: String = text.chars().skip(position - 1).collect();
            let word = rest
                .split([' ', ',', '(', ')'])
                .next()
                .unwrap_or_default()
                .to_string();
            format!(" @{word}")
        }
        None => String::new(),
    };
    let hint = error
        .get_hint()
        .map_or(String::new(), |hint| format!(" | {hint}"));
    format!("{}{place}: {}{hint}", error.state(), error.message())
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = plan(text).expect_err(text);
    let told = told(text, &error);
    assert!(
        told.starts_with(expected),
        "{text}\n     told {told}\n expected {expected}"
    );
}

#[test]
fn the_bids_of_the_handbook() {
    let planned = plan(
        "CREATE SOURCE bids (auction BIGINT NOT NULL, price BIGINT, url VARCHAR(80), ts TIMESTAMPTZ,
           price_eur NUMERIC AS price * 0.93,
           WATERMARK FOR ts AS ts - INTERVAL '4 seconds')
         INCLUDE key AS k, partition, offset AS o, timestamp AS kts, headers
         WITH (connector = 'kafka', topic = 'bids', properties.bootstrap.server = '127.0.0.1:1',
               scan.startup.mode = 'latest', watermark.idle_timeout = '3s')
         FORMAT PLAIN ENCODE JSON (timestamp.unit = 'ms')",
    )
    .unwrap();
    assert_eq!(
        shape(&planned),
        [
            "auction bigint not null",
            "price bigint",
            "url character varying(80)",
            "ts timestamp with time zone",
            "price_eur numeric(38,10)",
            "k bytea",
            "partition integer",
            "o bigint",
            "kts timestamp with time zone",
            "headers struct<key text, value bytea>[]",
        ]
    );
    let computed: Vec<bool> = planned.computed.iter().map(Option::is_some).collect();
    assert_eq!(computed.iter().filter(|computed| **computed).count(), 1);
    assert!(computed[4]);
    assert_eq!(planned.watermark.as_ref().unwrap().0, 3);
    assert_eq!(planned.relation().event_time, Some(3));
    assert_eq!(planned.relation().changelog, Changelog::AppendOnly);
    let config = planned.config.unwrap();
    assert_eq!(
        (config.kind, config.idle_timeout_micros),
        (ConnectorKind::Kafka, 3_000_000)
    );
    config.open(Vec::new()).unwrap();
}

/// Rows of columns `id`, `ms`, and placeholders for all others.
fn evaluate(planned: &PlannedSource, ids: &[Option<i64>]) -> (Vec<ArrayRef>, Option<ArrayRef>) {
    let columns: Vec<ArrayRef> = planned
        .schema
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            DataType::Int64 => Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef,
            other => arrow::array::new_null_array(other, ids.len()),
        })
        .collect();
    let batch = RecordBatch::try_new(planned.schema.clone(), columns).unwrap();
    let array = |expr: &Arc<dyn datafusion::physical_expr::PhysicalExpr>| {
        expr.evaluate(&batch)
            .unwrap()
            .into_array(ids.len())
            .unwrap()
    };
    let computed = planned.computed.iter().flatten().map(array).collect();
    (
        computed,
        planned.watermark.as_ref().map(|(_, expr)| array(expr)),
    )
}

#[test]
fn generated_columns_are_cast_and_the_watermark_sees_through_them() {
    let planned = plan(&topic(
        "ts TIMESTAMP AS to_timestamp_millis(s.ms), label TEXT AS ms, ms BIGINT,
         WATERMARK FOR ts AS ts - INTERVAL '1' SECOND",
    ))
    .unwrap();
    let (computed, watermark) = evaluate(&planned, &[Some(2_500), None]);
    let times = computed[0].as_primitive::<TimestampMicrosecondType>();
    assert_eq!((times.value(0), times.is_null(1)), (2_500_000, true));
    assert_eq!(
        computed[1].as_string::<i32>(),
        &StringArray::from(vec![Some("2500"), None])
    );
    let watermark = watermark.unwrap();
    assert_eq!(watermark.data_type(), planned.schema.field(0).data_type());
    assert_eq!(
        watermark
            .as_primitive::<TimestampMicrosecondType>()
            .value(0),
        1_500_000
    );
    assert_eq!(planned.stored(), [2]);
}

#[test]
fn a_watermark_is_of_its_columns_type() {
    for (sql_type, expr) in [
        ("TIMESTAMPTZ", "ts"),
        ("TIMESTAMP", "ts - INTERVAL '30 seconds'"),
        ("TIMESTAMPTZ", "s.ts - '5 minutes'::interval"),
        (
            "TIMESTAMPTZ",
            "CASE WHEN id > 0 THEN ts ELSE ts - INTERVAL '1 day' END",
        ),
    ] {
        let text = topic(&format!(
            "id BIGINT, ts {sql_type}, WATERMARK FOR ts AS {expr}"
        ));
        let planned = plan(&text).unwrap();
        let (_, watermark) = evaluate(&planned, &[Some(1)]);
        assert_eq!(
            watermark.unwrap().data_type(),
            planned.schema.field(1).data_type(),
            "{expr}"
        );
    }
}

#[test]
fn a_topic_may_have_defaults_and_names_are_folded() {
    let planned = plan(&topic(
        "Id BIGINT DEFAULT 7, \"Note\" TEXT DEFAULT 'x' || 'y', at TIMESTAMPTZ DEFAULT now()",
    ))
    .unwrap();
    assert_eq!(shape(&planned)[0..2], ["id bigint", "Note text"]);
    assert_eq!(
        planned
            .defaults
            .iter()
            .filter(|default| default.is_some())
            .count(),
        3
    );
    assert!(planned.config.unwrap().is_embedded());
}

#[test]
fn nexmark_brings_its_own_columns() {
    let planned = plan(
        "CREATE SOURCE bid (WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds')
         WITH (connector = 'nexmark', type = 'bid', events = 1000)",
    )
    .unwrap();
    assert_eq!(planned.schema.fields().len(), 7);
    assert_eq!(planned.watermark.as_ref().unwrap().0, 5);
    planned.config.unwrap().open(Vec::new()).unwrap();
    let declared = "CREATE SOURCE b (auction BIGINT, price NUMERIC, twice BIGINT AS auction * 2)
         WITH (connector = 'nexmark')";
    assert_eq!(plan(declared).unwrap().stored(), [0, 1]);
}

#[test]
fn paths_reach_into_json_only() {
    let columns = "id BIGINT, city TEXT PATH '$.seller.address.city', tag TEXT PATH '$.tags[0]'";
    plan(&format!("{} FORMAT PLAIN ENCODE JSON", kafka(columns, ""))).unwrap();
    let told = "42P16 @city: column \"city\" has a PATH, which only ENCODE JSON follows";
    refused(
        &format!("{} FORMAT PLAIN ENCODE CSV", kafka(columns, "")),
        told,
    );
    refused(&topic(columns), told);
    refused(&format!("CREATE TABLE t ({columns})"), told);
    let text = format!(
        "{} FORMAT PLAIN ENCODE JSON",
        kafka("city TEXT PATH 'city'", "")
    );
    refused(
        &text,
        "22023 @city: \"city\" is not the path of a field | write '$.a.b'",
    );
}

#[test]
fn formats_are_asked_for_where_they_are_needed() {
    refused(
        &kafka("id BIGINT", ""),
        "42601 @s: a source of connector \"kafka\" needs a FORMAT | add FORMAT PLAIN ENCODE JSON",
    );
    refused(
        &format!("{} FORMAT PLAIN ENCODE JSON", topic("id BIGINT")),
        "42P16 @PLAIN: connector \"topic\" takes no FORMAT | leave the clause out: INSERT",
    );
    refused(
        "CREATE SOURCE s (id BIGINT) WITH (connector = 'datagen') FORMAT PLAIN ENCODE JSON",
        "42P16 @PLAIN: connector \"datagen\" takes no FORMAT | leave the clause out: the connector",
    );
    for (format, what) in [
        ("UPSERT ENCODE JSON", "FORMAT UPSERT"),
        ("DEBEZIUM ENCODE JSON", "FORMAT DEBEZIUM"),
        ("PLAIN ENCODE AVRO", "ENCODE AVRO"),
        ("PLAIN ENCODE PROTOBUF", "ENCODE PROTOBUF"),
    ] {
        let text = format!("{} FORMAT {format}", kafka("id BIGINT", ""));
        let word = format.split(' ').next().unwrap();
        refused(&text, &format!("0A000 @{word}: {what} is not supported | "));
    }
    for encoding in ["JSON", "CSV (delimiter = '|')", "BYTES", "RAW"] {
        let text = format!(
            "{} FORMAT PLAIN ENCODE {encoding}",
            kafka("payload TEXT", "")
        );
        plan(&text).unwrap();
    }
    let text = format!(
        "{} FORMAT PLAIN ENCODE JSON (delimiter = '|')",
        kafka("a TEXT", "")
    );
    refused(
        &text,
        "22023 @delimiter: the encoding has no option \"delimiter\" | the options are",
    );
    let text = format!("{} FORMAT PLAIN ENCODE BYTES", kafka("a BYTEA, b TEXT", ""));
    refused(
        &text,
        "42P16 @b: column \"b\" cannot be filled by ENCODE BYTES",
    );
}

#[test]
fn columns_must_have_known_types_and_different_names() {
    refused(&topic("id BIGINT, x FOO"), "42704 @x: ");
    refused(&topic("id BIGINT, ID TEXT"), "42701 @ID: ");
    let text = kafka("key BIGINT", "INCLUDE offset, key");
    refused(
        &format!("{text} FORMAT PLAIN ENCODE JSON"),
        "42701 @key: column \"key\" is specified twice | name it with AS: INCLUDE key AS",
    );
    let text = kafka("id BIGINT", "INCLUDE offset, offset");
    refused(
        &format!("{text} FORMAT PLAIN ENCODE JSON"),
        "42701 @offset: ",
    );
    refused(
        "CREATE SOURCE s WITH (connector = 'topic')",
        "42P16 @s: a source needs columns | declare them in front of WITH",
    );
    refused(
        "CREATE TABLE t ()",
        "42P16 @t: a table needs at least one column",
    );
}

#[test]
fn event_time_must_be_a_timestamp() {
    refused(
        &topic("id BIGINT, WATERMARK FOR ts AS ts"),
        "42703 @ts: column \"ts\" does not exist | there are the columns id",
    );
    refused(
        &topic("ts BIGINT, WATERMARK FOR ts AS ts"),
        "42804 @ts: WATERMARK column \"ts\" is of type bigint, not a timestamp | declare it",
    );
    refused(
        &topic("ts DATE, WATERMARK FOR ts AS ts"),
        "42804 @ts: WATERMARK column \"ts\" is of type date, not a timestamp",
    );
    refused(
        &topic("ts TIMESTAMPTZ, n BIGINT, WATERMARK FOR ts AS n"),
        "42804 @ts: WATERMARK is of type timestamp with time zone, but its expression is of type",
    );
    refused(
        &topic("ts TIMESTAMPTZ, WATERMARK FOR ts AS tz"),
        "42703 @ts: ",
    );
    refused(
        &topic("ts TIMESTAMPTZ, WATERMARK FOR ts AS now() - INTERVAL '1 second'"),
        "42P17 @ts: WATERMARK cannot call now() | take the time from a column",
    );
    refused(
        &topic("ts TIMESTAMPTZ, WATERMARK FOR ts AS max(ts)"),
        "42803 @ts: WATERMARK cannot contain an aggregate function",
    );
}

#[test]
fn generated_columns_are_of_their_own_row() {
    refused(
        &topic("a BIGINT, b BIGINT AS a + 1, c BIGINT AS b + 1"),
        "42P17 @c: generated column \"c\" uses generated column \"b\" | repeat the expression",
    );
    refused(
        &topic("a BIGINT AS a + 1"),
        "42P17 @a: generated column \"a\" uses generated",
    );
    refused(
        &topic("a BIGINT, b BIGINT AS d"),
        "42703 @b: column \"d\" does not exist",
    );
    refused(
        &topic("a BIGINT, b DOUBLE PRECISION AS random()"),
        "42P17 @b: ",
    );
    refused(&topic("a BIGINT, b BIGINT AS sum(a)"), "42803 @b: ");
    refused(
        &topic("a BIGINT, b BIGINT AS row_number() OVER ()"),
        "42803 @b: ",
    );
    refused(&topic("a BIGINT, b BIGINT AS (SELECT 1)"), "0A000 @b: ");
    refused(
        &topic("a BIGINT, b BIGINT AS a IN (SELECT 1)"),
        "0A000 @b: ",
    );
    refused(&topic("a BIGINT, b BIGINT AS nosuch(a)"), "42883 @b: ");
    refused(
        &topic("a BIGINT, b DATE AS (a > 1)"),
        "42804 @b: generated column \"b\" is of type date, but its expression is of type boolean",
    );
    refused(&topic("a BIGINT, b BIGINT NOT NULL AS a"), "0A000 @b: ");
    refused(&topic("a BIGINT, b VARCHAR(3) AS a::text"), "0A000 @b: ");
    refused(
        "CREATE TABLE t (a BIGINT, b BIGINT AS a PRIMARY KEY)",
        "0A000 @b: ",
    );
}

#[test]
fn a_source_has_no_key_and_no_defaults_it_cannot_keep() {
    refused(
        &topic("a TEXT, id BIGINT PRIMARY KEY"),
        "0A000 @id: a source cannot have a PRIMARY KEY | leave it out and GROUP BY the key",
    );
    let text = format!(
        "{} FORMAT PLAIN ENCODE JSON",
        kafka("a BIGINT DEFAULT 1", "")
    );
    refused(
        &text,
        "0A000 @a: column \"a\" of a source cannot have a DEFAULT",
    );
    refused(
        &topic("a BIGINT, b BIGINT DEFAULT a"),
        "0A000 @b: the DEFAULT of column \"b\" uses",
    );
    refused(&topic("b BIGINT DEFAULT count(*)"), "42803 @b: ");
    refused(
        &topic("b DATE DEFAULT true"),
        "42804 @b: the DEFAULT of column \"b\" is of type date",
    );
    for connector in ["topic", "nexmark", "datagen"] {
        let text = format!(
            "CREATE SOURCE s (price BIGINT) INCLUDE offset WITH (connector = '{connector}')"
        );
        let told = format!("0A000 @offset: connector \"{connector}\" has nothing to INCLUDE");
        refused(&text, &told);
    }
}

#[test]
fn options_are_told_with_their_place() {
    refused(
        "CREATE SOURCE s (a BIGINT)",
        "22023 @s: a source needs the option \"connector\" | write WITH (connector = 'topic')",
    );
    refused(
        "CREATE SOURCE s (a BIGINT) WITH (connector = 'kinesis')",
        "22023 @connector: there is no connector \"kinesis\" | the connectors are: topic, kafka",
    );
    refused(
        "CREATE SOURCE s (a BIGINT) WITH (connector = 'topic', partitons = 2)",
        "22023 @partitons: connector \"topic\" has no option \"partitons\" | did you mean",
    );
    refused(
        "CREATE SOURCE s (a BIGINT) WITH (connector = 'datagen', rat = 2)",
        "22023 @rat: unknown option \"rat\" of connector datagen | the options are: rows",
    );
    refused(
        "CREATE SOURCE s (a BIGINT) WITH (connector = 'topic', watermark.max_ahead = '1s')",
        "22023 @watermark.max_ahead: option \"watermark.max_ahead\" is of a source that tells no \
         time | declare WATERMARK FOR its event time",
    );
    refused(
        "CREATE SOURCE s (nosuch BIGINT) WITH (connector = 'nexmark')",
        "42P16 @nosuch: ",
    );
}

#[test]
fn tables_have_keys_and_defaults() {
    let planned = plan(
        "CREATE TABLE users (name TEXT DEFAULT 'nobody', id BIGINT, at TIMESTAMPTZ DEFAULT now(),
           big BIGINT AS id * 10, PRIMARY KEY (id, name))",
    )
    .unwrap();
    assert_eq!(
        shape(&planned)[0..2],
        ["name text not null", "id bigint not null"]
    );
    assert_eq!(planned.primary_key, [1, 0]);
    assert!(planned.config.is_none());
    let relation = planned.relation();
    assert_eq!(
        (relation.key, relation.changelog),
        (Some(vec![1, 0]), Changelog::Retracting)
    );
    let (computed, _) = evaluate_non_null(&planned);
    assert_eq!(computed.as_primitive::<Int64Type>().value(0), 40);
    assert!(
        plan("CREATE TABLE t (a BIGINT)")
            .unwrap()
            .relation()
            .key
            .is_none()
    );

    refused(
        "CREATE TABLE t (a BIGINT, PRIMARY KEY (b))",
        "42703 @t: column \"b\" does not exist",
    );
    refused(
        "CREATE TABLE t (a BIGINT, PRIMARY KEY (a, a))",
        "42701 @t: ",
    );
    refused(
        "CREATE TABLE t (a BIGINT) WITH (connector = 'topic')",
        "0A000 @connector: a table with a connector is not supported | CREATE SOURCE reads it",
    );
    refused(
        "CREATE TABLE t (a BIGINT) WITH (retention = 1)",
        "22023 @retention: a table has no",
    );
    refused(
        "CREATE TABLE t (a BIGINT) FORMAT PLAIN ENCODE JSON",
        "42P16 @PLAIN: ",
    );
    refused(
        "CREATE TABLE t (a BIGINT) INCLUDE offset",
        "42P16 @offset: ",
    );
}

/// The generated column of one row whose bigints are 4 and texts `x`.
fn evaluate_non_null(planned: &PlannedSource) -> (ArrayRef, usize) {
    let columns: Vec<ArrayRef> = planned
        .schema
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            DataType::Int64 => Arc::new(Int64Array::from(vec![4])) as ArrayRef,
            DataType::Utf8 => Arc::new(StringArray::from(vec!["x"])),
            other => arrow::array::new_null_array(other, 1),
        })
        .collect();
    let batch = RecordBatch::try_new(planned.schema.clone(), columns).unwrap();
    let index = planned
        .computed
        .iter()
        .position(Option::is_some)
        .expect("a generated column");
    let expr = planned.computed[index].as_ref().expect("just found");
    (expr.evaluate(&batch).unwrap().into_array(1).unwrap(), index)
}
