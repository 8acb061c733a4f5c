//! Sources from options: what is understood, what is refused, and what comes out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Field, Int64Type, Schema, SchemaRef};

use crate::base::{Offset, PartitionId};
use crate::connector::factory::{
    ConnectorKind, DecodedColumn, EncodingRequest, SourceConfig, SourceRequest, TimeOptions,
};
use crate::connector::kafka::{MetadataColumn, MetadataField};
use crate::connector::options::Options;
use crate::connector::topic::TopicStartup;
use crate::connector::{
    BadRecord, Bounds, Chunk, Polled, ReadRange, Reader, SourceConnector, factory,
};
use crate::error::{Error, Result, SqlState};
use crate::format::{Encode, OnError};
use crate::storage::{LogOptions, Retention, SegmentLog, encode_batch};
use crate::types::SqlType;

/// Options whose positions are 10, 20, 30 …
fn options(given: &[(&str, &str)]) -> Options {
    let triple = |(index, (name, value)): (usize, &(&str, &str))| {
        (name.to_string(), value.to_string(), Some(10 * (index + 1)))
    };
    Options::new(given.iter().enumerate().map(triple))
}

fn bigints(names: &[&str]) -> SchemaRef {
    let fields: Vec<Field> = names
        .iter()
        .map(|name| SqlType::BigInt.to_field(name, true))
        .collect();
    Arc::new(Schema::new(fields))
}

fn plain(columns: &[usize]) -> Vec<DecodedColumn> {
    columns
        .iter()
        .map(|column| DecodedColumn {
            column: *column,
            path: None,
        })
        .collect()
}

/// A request for bigint columns `a` and `b`.
fn request(given: &[(&str, &str)]) -> Result<SourceRequest> {
    let mut options = options(given);
    let kind = ConnectorKind::take(&mut options)?;
    Ok(SourceRequest {
        name: "s".to_string(),
        kind,
        options,
        schema: bigints(&["a", "b"]),
        decoded: plain(&[0, 1]),
        metadata: Vec::new(),
        encoding: kind.has_encoding().then(|| encoding(&[])),
    })
}

fn encoding(given: &[(&str, &str)]) -> EncodingRequest {
    EncodingRequest {
        encode: Encode::Json,
        options: options(given),
    }
}

fn configure(given: &[(&str, &str)]) -> Result<SourceConfig> {
    request(given)?.configure()
}

const KAFKA: [(&str, &str); 3] = [
    ("connector", "kafka"),
    ("topic", "t"),
    ("properties.bootstrap.server", "127.0.0.1:1"),
];

fn kafka<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&KAFKA[..], more].concat()
}

fn refusal(given: &[(&str, &str)]) -> Error {
    let error = configure(given).unwrap_err();
    assert_eq!(error.state(), SqlState::INVALID_PARAMETER_VALUE, "{error}");
    error
}

#[test]
fn a_source_needs_a_connector_that_exists() {
    let error = refusal(&[]);
    assert_eq!(error.message(), "a source needs the option \"connector\"");
    let error = refusal(&[("connector", "kafak")]);
    assert_eq!(error.message(), "there is no connector \"kafak\"");
    assert_eq!(
        error.get_hint(),
        Some("did you mean 'kafka'? the connectors are: topic, kafka, nexmark, datagen")
    );
    assert_eq!(error.get_position(), Some(10));
    assert_eq!(
        configure(&[("connector", "Topic")]).unwrap().kind,
        ConnectorKind::Topic
    );
}

#[test]
fn a_topic_has_defaults_and_reads_its_options() {
    let config = configure(&[("connector", "topic")]).unwrap();
    let topic = config.topic().unwrap();
    assert_eq!(
        (topic.partitions, topic.startup),
        (1, TopicStartup::Earliest)
    );
    assert_eq!(topic.retention, Retention::default());
    assert_eq!(config.idle_timeout_micros, 10_000_000);
    assert!(config.is_embedded());

    let given = [
        ("connector", "topic"),
        ("partitions", "3"),
        ("retention.ms", "60000"),
        ("retention.bytes", "1000000"),
        ("scan.startup.mode", "latest"),
        ("watermark.idle_timeout", "0"),
    ];
    let config = configure(&given).unwrap();
    let topic = config.topic().unwrap();
    assert_eq!((topic.partitions, topic.startup), (3, TopicStartup::Latest));
    let retention = Retention {
        bytes_min: Some(1_000_000),
        age_max: Some(Duration::from_secs(60)),
    };
    assert_eq!(
        (topic.retention, config.idle_timeout_micros),
        (retention, 0)
    );
}

#[test]
fn a_topic_refuses_bad_values_and_strange_options_in_their_place() {
    for (name, value) in [
        ("partitions", "0"),
        ("partitions", "129"),
        ("retention.ms", "-1"),
        ("retention.bytes", "1 GB"),
        ("scan.startup.mode", "timestamp"),
        ("watermark.idle_timeout", "1 month"),
    ] {
        let error = refusal(&[("connector", "topic"), (name, value)]);
        assert_eq!(
            error.message(),
            format!("option \"{name}\" cannot be '{value}'")
        );
        assert_eq!(error.get_position(), Some(20));
        assert!(error.get_hint().is_some());
    }
    let error = refusal(&[("connector", "topic"), ("partition", "2")]);
    assert_eq!(
        error.message(),
        "connector \"topic\" has no option \"partition\""
    );
    assert_eq!(
        error.get_hint(),
        Some(
            "did you mean \"partitions\"? the options are: connector, watermark.idle_timeout, \
             watermark.advance_when_idle, watermark.max_ahead, partitions, retention.ms, \
             retention.bytes, scan.startup.mode"
        )
    );
    // Its rows come decoded, so there is nothing to fail.
    refusal(&[("connector", "topic"), ("on_error", "skip")]);
}

#[test]
fn what_the_options_say_of_time_is_read() {
    let config = configure(&[("connector", "datagen")]).unwrap();
    assert_eq!(config.time, TimeOptions::default());
    let given = [
        ("connector", "datagen"),
        ("watermark.advance_when_idle", "on"),
        ("watermark.max_ahead", "1 minute"),
        ("watermark.max_drift", "2 hours"),
    ];
    let expected = TimeOptions {
        advances_when_idle: true,
        ahead_max_micros: Some(60_000_000),
        drift_max_micros: Some(7_200_000_000),
    };
    assert_eq!(configure(&given).unwrap().time, expected);
}

#[test]
fn bad_values_of_times_options_are_refused_in_their_place() {
    for (name, value, message) in [
        ("watermark.advance_when_idle", "maybe", "cannot be 'maybe'"),
        ("watermark.max_ahead", "1 month", "cannot be '1 month'"),
        ("watermark.max_ahead", "0", "must be longer than nothing"),
        ("watermark.max_drift", "0", "must be longer than nothing"),
    ] {
        let error = refusal(&[("connector", "datagen"), (name, value)]);
        assert_eq!(error.message(), format!("option \"{name}\" {message}"));
        assert_eq!(error.get_position(), Some(20));
    }
    let error = refusal(&[
        ("connector", "topic"),
        ("watermark.advance_when_idle", "true"),
        ("watermark.idle_timeout", "0"),
    ]);
    let hint = "say when they are: watermark.idle_timeout = '10 seconds'";
    assert_eq!(error.get_hint(), Some(hint));
    // Rows of a topic never wait for others.
    refusal(&[("connector", "topic"), ("watermark.max_drift", "1 hour")]);
}

#[test]
fn a_topic_opens_over_its_logs_only() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = configure(&[("connector", "topic"), ("partitions", "2")]).unwrap();
    let mut logs = Vec::new();
    for directory in &directories {
        let mut log = SegmentLog::open(directory.path(), LogOptions::default()).unwrap();
        let column = Int64Array::from_iter_values(0..5);
        let columns: Vec<Arc<dyn arrow::array::Array>> =
            vec![Arc::new(column.clone()), Arc::new(column)];
        let batch = RecordBatch::try_new(bigints(&["a", "b"]), columns).unwrap();
        log.append(&encode_batch(&batch, None).unwrap(), 5).unwrap();
        log.sync().unwrap();
        logs.push(log);
    }
    let readers = || logs.iter().map(SegmentLog::reader).collect::<Vec<_>>();
    assert!(config.open(readers()[..1].to_vec()).is_err());
    let topic = config.open(readers()).unwrap();
    assert_eq!(topic.partitions().unwrap().len(), 2);
    let mut reader = topic
        .reader(vec![ReadRange::tail(PartitionId(1), Offset(2))], &[1])
        .unwrap();
    let Polled::Chunk(chunk) = reader.poll(Duration::ZERO).unwrap() else {
        panic!("no chunk")
    };
    assert_eq!(
        chunk.rows.column(0).as_primitive::<Int64Type>().values(),
        &[2, 3, 4]
    );
    // Others have no logs.
    let datagen = configure(&[("connector", "datagen")]).unwrap();
    assert!(datagen.open(readers()).is_err() && datagen.topic().is_none());
}

#[test]
fn kafka_is_configured_with_its_encoding() {
    let given = kafka(&[
        ("properties.security.protocol", "plaintext"),
        ("scan.startup.mode", "latest"),
        ("on_error", "null"),
        ("timestamp.unit", "ms"),
        ("watermark.idle_timeout", "1 minute"),
        ("scan.discovery.interval", "2 seconds"),
    ]);
    let config = configure(&given).unwrap();
    assert_eq!(
        (config.on_error, config.idle_timeout_micros),
        (OnError::Null, 60_000_000)
    );
    assert_eq!(config.watch_interval_micros, 2_000_000);
    assert!(!config.is_embedded());
    let shown = format!("{config:?}");
    assert!(
        shown.contains("Latest") && shown.contains("security.protocol"),
        "{shown}"
    );
    config.open(Vec::new()).unwrap();
}

#[test]
fn kafka_refuses_bad_options_in_their_place() {
    for (name, value, message) in [
        (
            "on_eror",
            "skip",
            "connector \"kafka\" has no option \"on_eror\"",
        ),
        ("on_error", "stop", "option \"on_error\" cannot be 'stop'"),
        (
            "timestamp.unit",
            "ns",
            "option \"timestamp.unit\" cannot be 'ns'",
        ),
        (
            "properties.no.such",
            "1",
            "option \"properties.no.such\" is not known to connector kafka",
        ),
    ] {
        let error = refusal(&kafka(&[(name, value)]));
        assert_eq!(error.message(), message);
        assert_eq!(error.get_position(), Some(40), "{message}");
        assert!(error.get_hint().is_some());
    }
    let error = refusal(&[
        ("connector", "kafka"),
        ("properties.bootstrap.server", "x:1"),
    ]);
    assert_eq!(error.message(), "option \"topic\" is missing");
}

#[test]
fn options_of_the_encoding_are_checked_and_not_given_twice() {
    let with = |given: &[(&str, &str)], outer: &[(&str, &str)]| {
        let mut request = request(&kafka(outer)).unwrap();
        request.encoding = Some(encoding(given));
        request.configure()
    };
    assert_eq!(
        with(&[("on_error", "fail")], &[]).unwrap().on_error,
        OnError::Fail
    );
    let error = with(&[("delimiter", ",")], &[]).unwrap_err();
    assert_eq!(error.message(), "the encoding has no option \"delimiter\"");
    assert_eq!(
        error.get_hint(),
        Some("the options are: timestamp.unit, on_error")
    );
    assert_eq!(error.get_position(), Some(10));
    let error = with(&[("on_error", "fail")], &[("on_error", "skip")]).unwrap_err();
    assert_eq!(error.message(), "option \"on_error\" is given twice");
    assert_eq!(error.get_position(), Some(40));
    let error = with(&[("timestamp.unit", "ns")], &[]).unwrap_err();
    assert_eq!(error.get_position(), Some(10));
}

#[test]
fn columns_that_no_payload_fills_are_refused_before_anything_is_opened() {
    let mut source = request(&KAFKA).unwrap();
    source.encoding = Some(EncodingRequest {
        encode: Encode::Bytes,
        options: options(&[]),
    });
    let error = source.configure().unwrap_err();
    assert_eq!(error.state(), SqlState::INVALID_TABLE_DEFINITION);
}

#[test]
fn metadata_columns_stand_beside_decoded_ones() {
    let mut source = request(&KAFKA).unwrap();
    source.decoded = plain(&[0]);
    source.metadata = vec![MetadataColumn {
        field: MetadataField::Offset,
        column: 1,
    }];
    source.configure().unwrap().open(Vec::new()).unwrap();
}

/// Reads `columns` of the first rows of a generator.
fn first_rows(config: &SourceConfig, columns: &[usize]) -> RecordBatch {
    let source = config.open(Vec::new()).unwrap();
    let range = ReadRange {
        partition: PartitionId(0),
        from: Offset(0),
        boundaries: VecDeque::new(),
        until: Some(Offset(100)),
    };
    let mut reader = source.reader(vec![range], columns).unwrap();
    let Polled::Chunk(chunk) = reader.poll(Duration::from_secs(60)).unwrap() else {
        panic!("no chunk")
    };
    assert_eq!(chunk.rows.schema(), reader.schema());
    chunk.rows
}

#[test]
fn generators_make_their_columns_at_the_places_of_the_source() {
    let given = [
        ("connector", "datagen"),
        ("rows", "100"),
        ("fields.b.kind", "sequence"),
        ("fields.b.start", "7"),
        ("watermark.idle_timeout", "1s"),
    ];
    let mut source = request(&given).unwrap();
    // Between the made columns stands a computed one.
    source.schema = bigints(&["a", "twice", "b"]);
    source.decoded = plain(&[0, 2]);
    let config = source.configure().unwrap();
    let rows = first_rows(&config, &[2]);
    assert_eq!(rows.schema().field(0).name(), "b");
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(1), 8);
    let opened = config.open(Vec::new()).unwrap();
    assert!(opened.reader(Vec::new(), &[1]).is_err());
}

#[test]
fn nexmark_knows_its_columns() {
    for (kind, count) in [("bid", 7), ("Auction", 10), ("person", 8)] {
        let given = [("connector", "nexmark"), ("type", kind), ("events", "100")];
        let mut source = request(&given).unwrap();
        let columns = source.kind.default_columns(&source.options).unwrap();
        assert_eq!(columns.len(), count);
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, sql_type)| sql_type.to_field(name, true))
            .collect();
        source.schema = Arc::new(Schema::new(fields));
        source.decoded = plain(&(0..count).collect::<Vec<_>>());
        let config = source.configure().unwrap();
        let every: Vec<usize> = (0..count).collect();
        assert_eq!(first_rows(&config, &every).num_columns(), count);
    }
    let strange = options(&[("type", "seller")]);
    assert!(ConnectorKind::Nexmark.default_columns(&strange).is_none());
    assert!(ConnectorKind::Topic.default_columns(&strange).is_none());
}

#[test]
fn generators_refuse_strange_options_in_their_place() {
    for connector in ["nexmark", "datagen"] {
        let mut source = request(&[("connector", connector), ("speed", "7")]).unwrap();
        source.schema = bigints(&["price"]);
        source.decoded = plain(&[0]);
        let error = source.configure().unwrap_err();
        assert_eq!(error.state(), SqlState::INVALID_PARAMETER_VALUE);
        assert_eq!(error.get_position(), Some(20));
        let hint = error.get_hint().unwrap();
        assert!(
            hint.contains("rate") && hint.contains("watermark.idle_timeout"),
            "{hint}"
        );
    }
}

/// A source with one good and one bad record.
struct Half;

impl SourceConnector for Half {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        Ok(vec![PartitionId(0)])
    }

    fn bounds(&self, _: &[PartitionId]) -> Result<Vec<Bounds>> {
        Ok(vec![Bounds {
            start: Offset(0),
            end: Offset(2),
        }])
    }

    fn startup(&self, _: &[PartitionId]) -> Result<Vec<Offset>> {
        Ok(vec![Offset(0)])
    }

    fn reader(&self, _: Vec<ReadRange>, _: &[usize]) -> Result<Box<dyn Reader>> {
        Ok(Box::new(HalfReader(0)))
    }
}

struct HalfReader(u64);

impl Reader for HalfReader {
    fn poll(&mut self, _: Duration) -> Result<Polled> {
        let bad = BadRecord {
            partition: PartitionId(0),
            offset: Offset(self.0),
            raw: b"x".to_vec(),
            reason: "not a JSON object".to_string(),
            columns: Vec::new(),
        };
        let bad = if self.0 == 0 { Vec::new() } else { vec![bad] };
        self.0 += 1;
        Ok(Polled::Chunk(Chunk {
            partition: PartitionId(0),
            from: Offset(self.0 - 1),
            to: Offset(self.0),
            rows: RecordBatch::new_empty(self.schema()),
            jumps: Vec::new(),
            weights: None,
            bad,
            bad_rows: Vec::new(),
            skipped: 0,
            checksum: 0,
            bytes: 0,
            arrived_micros: 0,
        }))
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }
}

#[test]
fn a_strict_source_ends_before_the_first_bad_record() {
    let strict = factory::strict(Arc::new(Half), Vec::new());
    assert_eq!(strict.partitions().unwrap(), [PartitionId(0)]);
    let mut reader = strict.reader(Vec::new(), &[]).unwrap();
    assert!(matches!(
        reader.poll(Duration::ZERO).unwrap(),
        Polled::Chunk(_)
    ));
    for _ in 0..2 {
        let error = reader.poll(Duration::ZERO).unwrap_err();
        assert_eq!(error.state(), SqlState::DATA_EXCEPTION);
        assert_eq!(error.message(), "partition 0, offset 1: not a JSON object");
        assert!(!error.is_retryable());
    }
}
