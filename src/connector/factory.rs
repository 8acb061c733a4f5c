//! From a source's options to its connector: the one place that knows which connectors there are.
//!
//! ```text
//!   WITH (…), FORMAT … ENCODE … (…), columns
//!        │ ConnectorKind::take                                 no I/O, nothing started
//!        ▼
//!   SourceRequest ── configure ──► SourceConfig ── open ──► dyn SourceConnector
//!                                                    ▲
//!                            an embedded topic's logs┘
//! ```
//!
//! Rule: everything that a user can have written wrong is refused by [`SourceRequest::configure`],
//! before anything exists; [`SourceConfig::open`] fails only where the world does.
//!
//! To add a connector: a folder beside this file, a variant of [`ConnectorKind`], an arm in
//! `configure`.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, SchemaRef};

use crate::base::limits::{
    SOURCE_IDLE_TIMEOUT_MICROS, TOPIC_PARTITIONS_MAX, WATCH_INTERVAL_MICROS,
};
use crate::base::{Offset, PartitionId};
use crate::connector::datagen::DatagenConnector;
use crate::connector::kafka::config::OPTIONS as KAFKA_OPTIONS;
use crate::connector::kafka::{
    DecoderFactory, KafkaConfig, KafkaConnector, MetadataColumn, RowLayout,
};
use crate::connector::nexmark::NexmarkConnector;
use crate::connector::options::{Options, nearest};
use crate::connector::topic::{TopicConnector, TopicStartup};
use crate::connector::{Bounds, Chunk, Polled, ReadRange, Reader, SourceConnector};
use crate::error::{Error, Result, SqlState};
use crate::format::json::PathStep;
use crate::format::{Encode, FormatOptions, OnError, WantedColumn, decoder};
use crate::storage::{LogReader, Retention};
use crate::types::SqlType;

/// The connectors that a source can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectorKind {
    /// A durable topic in the data directory, written by INSERT and COPY.
    Topic,
    Kafka,
    Nexmark,
    Datagen,
}

impl ConnectorKind {
    const ALL: [ConnectorKind; 4] = [
        ConnectorKind::Topic,
        ConnectorKind::Kafka,
        ConnectorKind::Nexmark,
        ConnectorKind::Datagen,
    ];

    pub fn name(self) -> &'static str {
        match self {
            ConnectorKind::Topic => "topic",
            ConnectorKind::Kafka => "kafka",
            ConnectorKind::Nexmark => "nexmark",
            ConnectorKind::Datagen => "datagen",
        }
    }

    /// Reads the option `connector`.
    ///
    /// # Errors
    /// 22023 when it is missing or names none; the hint names the ones there are.
    pub fn take(options: &mut Options) -> Result<ConnectorKind> {
        let names = ConnectorKind::ALL.map(ConnectorKind::name);
        let invalid = |message: String| Error::new(SqlState::INVALID_PARAMETER_VALUE, message);
        let Some(text) = options.take("connector") else {
            let hint = format!(
                "write WITH (connector = 'topic'); the connectors are: {}",
                names.join(", ")
            );
            return Err(invalid("a source needs the option \"connector\"".to_string()).hint(hint));
        };
        let wanted = text.trim().to_ascii_lowercase();
        let found = ConnectorKind::ALL.iter().find(|kind| kind.name() == wanted);
        found.copied().ok_or_else(|| {
            let mut hint = format!("the connectors are: {}", names.join(", "));
            if let Some(near) = nearest(&wanted, names.into_iter()) {
                hint = format!("did you mean '{near}'? {hint}");
            }
            let error = invalid(format!("there is no connector \"{text}\"")).hint(hint);
            options.at("connector", error)
        })
    }

    /// Whether records are bytes that FORMAT and ENCODE say how to read.
    pub fn has_encoding(self) -> bool {
        match self {
            ConnectorKind::Kafka => true,
            ConnectorKind::Topic | ConnectorKind::Nexmark | ConnectorKind::Datagen => false,
        }
    }

    /// The columns of a source that declares none, where the connector knows them.
    pub fn default_columns(self, options: &Options) -> Option<Vec<(&'static str, SqlType)>> {
        match self {
            ConnectorKind::Nexmark => nexmark_columns(options.get("type").unwrap_or("bid")),
            ConnectorKind::Topic | ConnectorKind::Kafka | ConnectorKind::Datagen => None,
        }
    }
}

/// `None` for a type that does not exist, which the connector refuses with its own words.
fn nexmark_columns(kind: &str) -> Option<Vec<(&'static str, SqlType)>> {
    let (number, text, time) = (
        SqlType::BigInt,
        SqlType::Varchar(None),
        SqlType::Timestamptz,
    );
    let columns: &[(&'static str, &SqlType)] = match kind.trim().to_ascii_lowercase().as_str() {
        "bid" => &[
            ("auction", &number),
            ("bidder", &number),
            ("price", &number),
            ("channel", &text),
            ("url", &text),
            ("date_time", &time),
            ("extra", &text),
        ],
        "auction" => &[
            ("id", &number),
            ("item_name", &text),
            ("description", &text),
            ("initial_bid", &number),
            ("reserve", &number),
            ("date_time", &time),
            ("expires", &time),
            ("seller", &number),
            ("category", &number),
            ("extra", &text),
        ],
        "person" => &[
            ("id", &number),
            ("name", &text),
            ("email_address", &text),
            ("credit_card", &text),
            ("city", &text),
            ("state", &text),
            ("date_time", &time),
            ("extra", &text),
        ],
        _ => return None,
    };
    let owned = columns
        .iter()
        .map(|(name, sql_type)| (*name, (*sql_type).clone()));
    Some(owned.collect())
}

/// A source as a statement describes it.
#[derive(Debug)]
pub struct SourceRequest {
    pub name: String,
    pub kind: ConnectorKind,
    /// The WITH list, of which `connector` is taken.
    pub options: Options,
    /// All columns of the source, in order.
    pub schema: SchemaRef,
    /// The columns that come from the payload, rising.
    pub decoded: Vec<DecodedColumn>,
    /// The columns that INCLUDE adds.
    pub metadata: Vec<MetadataColumn>,
    /// How payloads are read; given where, and only where, the connector has payloads.
    pub encoding: Option<EncodingRequest>,
}

/// A column and where in a record it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedColumn {
    /// Its place in the source's schema.
    pub column: usize,
    pub path: Option<Vec<PathStep>>,
}

/// `ENCODE … (…)`
#[derive(Debug)]
pub struct EncodingRequest {
    pub encode: Encode,
    pub options: Options,
}

/// A source whose options are all understood.
pub struct SourceConfig {
    pub name: String,
    pub kind: ConnectorKind,
    /// Microseconds without a row after which a partition at its end is idle; 0 = never.
    pub idle_timeout_micros: i64,
    pub time: TimeOptions,
    /// Microseconds between two looks for new partitions; 0 = they are not looked for.
    pub watch_interval_micros: i64,
    /// What becomes of records that cannot be decoded.
    pub on_error: OnError,
    /// Every column that a reader can be asked for, rising.
    readable: Vec<usize>,
    opening: Opening,
}

/// What a source's options say of its time, besides when a partition is idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeOptions {
    /// Time goes on by the clock while every partition is idle.
    pub advances_when_idle: bool,
    /// How far ahead of the clock a row's event time may be, microseconds.
    pub ahead_max_micros: Option<i64>,
    /// How far ahead of the slowest partition one may be and still be read on, microseconds.
    pub drift_max_micros: Option<i64>,
}

impl TimeOptions {
    /// The option that a source without a WATERMARK has in vain.
    pub fn without_watermark(&self) -> Option<&'static str> {
        let given = [
            (self.advances_when_idle, ADVANCE_WHEN_IDLE),
            (self.ahead_max_micros.is_some(), MAX_AHEAD),
            (self.drift_max_micros.is_some(), MAX_DRIFT),
        ];
        given
            .iter()
            .find_map(|(is_given, name)| is_given.then_some(*name))
    }
}

const IDLE_TIMEOUT: &str = "watermark.idle_timeout";
const ADVANCE_WHEN_IDLE: &str = "watermark.advance_when_idle";
const MAX_AHEAD: &str = "watermark.max_ahead";
const MAX_DRIFT: &str = "watermark.max_drift";

/// What is left to do.
enum Opening {
    Topic {
        config: TopicConfig,
        schema: SchemaRef,
    },
    Kafka {
        config: Box<KafkaConfig>,
        layout: RowLayout,
    },
    Ready(Arc<dyn SourceConnector>),
}

/// What the options of an embedded topic say of its logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    pub partitions: u32,
    pub retention: Retention,
    pub startup: TopicStartup,
}

impl SourceRequest {
    /// Reads every option and checks that the columns can be filled.
    ///
    /// # Errors
    /// 22023 for an option that does not exist or has a bad value, 0A000 for what is not supported,
    /// 42P16 for columns that the connector or encoding cannot fill; with a place and a hint.
    pub fn configure(mut self) -> Result<SourceConfig> {
        if self.kind.has_encoding() != self.encoding.is_some() {
            return Err(Error::internal(
                "an encoding is for connectors with payloads",
            ));
        }
        if !self.kind.has_encoding() && !self.metadata.is_empty() {
            return Err(Error::internal(
                "metadata columns are for connectors with records",
            ));
        }
        let idle_timeout_micros = self.idle_timeout()?;
        let watch_interval_micros = self.watch_interval()?;
        let time = self.time(idle_timeout_micros)?;
        let mut on_error = OnError::Skip;
        let readable = self.readable();
        let opening = match self.kind {
            ConnectorKind::Topic => {
                let config = topic_config(&mut self.options)?;
                self.options.finish("connector \"topic\"")?;
                Opening::Topic {
                    config,
                    schema: self.schema,
                }
            }
            ConnectorKind::Kafka => {
                let format = self.format_options()?;
                on_error = format.1.on_error;
                let config = Box::new(kafka_config(&mut self.options)?);
                self.options.finish("connector \"kafka\"")?;
                let layout = self.row_layout(format)?;
                Opening::Kafka { config, layout }
            }
            ConnectorKind::Nexmark => self.generator(|fields, options| {
                Ok(Arc::new(NexmarkConnector::new(fields, options)?))
            })?,
            ConnectorKind::Datagen => self.generator(|fields, options| {
                Ok(Arc::new(DatagenConnector::new(fields, options)?))
            })?,
        };
        Ok(SourceConfig {
            name: self.name,
            kind: self.kind,
            idle_timeout_micros,
            time,
            watch_interval_micros,
            on_error,
            readable,
            opening,
        })
    }

    fn readable(&self) -> Vec<usize> {
        let decoded = self.decoded.iter().map(|decoded| decoded.column);
        let included = self.metadata.iter().map(|included| included.column);
        let mut columns: Vec<usize> = decoded.chain(included).collect();
        columns.sort_unstable();
        columns
    }

    fn idle_timeout(&mut self) -> Result<i64> {
        let given = self.options.take_duration(IDLE_TIMEOUT)?;
        Ok(given.unwrap_or(SOURCE_IDLE_TIMEOUT_MICROS))
    }

    /// Only a topic of the outside world gets partitions by itself.
    fn watch_interval(&mut self) -> Result<i64> {
        if self.kind != ConnectorKind::Kafka {
            return Ok(0);
        }
        let given = self.options.take_duration("scan.discovery.interval")?;
        Ok(given.unwrap_or(WATCH_INTERVAL_MICROS))
    }

    fn time(&mut self, idle_timeout_micros: i64) -> Result<TimeOptions> {
        let advances_when_idle = self.options.take_bool(ADVANCE_WHEN_IDLE)?.unwrap_or(false);
        if advances_when_idle && idle_timeout_micros == 0 {
            let message = format!("{ADVANCE_WHEN_IDLE} needs partitions that can be idle");
            let error = Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
                .hint(format!("say when they are: {IDLE_TIMEOUT} = '10 seconds'"));
            return Err(self.options.at(ADVANCE_WHEN_IDLE, error));
        }
        Ok(TimeOptions {
            advances_when_idle,
            ahead_max_micros: self.length(MAX_AHEAD)?,
            drift_max_micros: match self.kind {
                // Rows of a topic are in a step as soon as they are written: none wait in a queue.
                ConnectorKind::Topic => None,
                _ => self.length(MAX_DRIFT)?,
            },
        })
    }

    /// A span of time that is more than none.
    fn length(&mut self, name: &str) -> Result<Option<i64>> {
        let given = self.options.take_duration(name)?;
        if given == Some(0) {
            let message = format!("option \"{name}\" must be longer than nothing");
            let error = Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
                .hint("leave it out, or write for example '1 hour'");
            return Err(self.options.at(name, error));
        }
        Ok(given)
    }

    /// The encoding with its options. `on_error` and `timestamp.unit` may stand in the WITH list,
    /// too.
    fn format_options(&mut self) -> Result<(Encode, FormatOptions)> {
        let Some(encoding) = &mut self.encoding else {
            return Err(Error::internal("a connector with payloads has an encoding"));
        };
        let encode = encoding.encode;
        let mut pairs = Vec::new();
        for name in encode.option_names() {
            let mut value = encoding.options.take(name);
            if matches!(*name, "on_error" | "timestamp.unit")
                && let Some(outer) = self.options.take(name)
            {
                if value.is_some() {
                    let message = format!("option \"{name}\" is given twice");
                    let error = Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
                        .hint("write it either in WITH or behind ENCODE");
                    return Err(self.options.at(name, error));
                }
                value = Some(outer);
            }
            pairs.extend(value.map(|value| (name.to_string(), value)));
        }
        encoding.options.finish("the encoding")?;
        let parsed = FormatOptions::parse(encode, &pairs)
            .map_err(|error| self.options.locate(encoding.options.locate(error)))?;
        Ok((encode, parsed))
    }

    fn row_layout(&self, (encode, options): (Encode, FormatOptions)) -> Result<RowLayout> {
        let wanted = |(place, decoded): (usize, &DecodedColumn)| {
            let field = self.schema.field(decoded.column).clone();
            let path = decoded.path.clone();
            (decoded.column, WantedColumn { field, place, path })
        };
        let all: Vec<(usize, WantedColumn)> = self.decoded.iter().enumerate().map(wanted).collect();
        let on_error = options.on_error;
        let factory: DecoderFactory = Arc::new(move |columns: &[usize]| {
            let chosen = all.iter().filter(|(column, _)| columns.contains(column));
            let chosen: Vec<_> = chosen.map(|(_, wanted)| wanted.clone()).collect();
            if chosen.len() != columns.len() {
                return Err(Error::internal("a column is asked for that no payload has"));
            }
            decoder(chosen, encode, &options)
        });
        let every: Vec<usize> = self.decoded.iter().map(|decoded| decoded.column).collect();
        factory(&every)?;
        Ok(RowLayout {
            schema: Arc::clone(&self.schema),
            metadata: self.metadata.clone(),
            decoder: factory,
            on_error,
        })
    }

    fn generator(
        &mut self,
        make: impl FnOnce(&[Field], &[(String, String)]) -> Result<Arc<dyn SourceConnector>>,
    ) -> Result<Opening> {
        let fields = self
            .decoded
            .iter()
            .map(|decoded| self.schema.field(decoded.column).clone());
        let fields: Vec<Field> = fields.collect();
        let mut places = vec![None; self.schema.fields().len()];
        for (place, decoded) in self.decoded.iter().enumerate() {
            places[decoded.column] = Some(place);
        }
        let options = self.options.take_rest();
        let made = make(&fields, &options).map_err(|error| {
            let hint = error
                .get_hint()
                .filter(|hint| hint.starts_with("the options are: "));
            // The generator lists its own; those of every source come from here.
            let own = [IDLE_TIMEOUT, ADVANCE_WHEN_IDLE, MAX_AHEAD, MAX_DRIFT].join(", ");
            let all = hint.map(|hint| format!("{hint}, {own}"));
            let error = match all {
                Some(all) => error.hint(all),
                None => error,
            };
            self.options.locate(error)
        })?;
        Ok(Opening::Ready(Arc::new(Placed {
            connector: made,
            places,
        })))
    }
}

impl SourceConfig {
    /// Whether rows come from this server's own writes.
    pub fn is_embedded(&self) -> bool {
        self.topic().is_some()
    }

    /// How the logs of an embedded topic are to be kept; `None` for other connectors.
    pub fn topic(&self) -> Option<&TopicConfig> {
        match &self.opening {
            Opening::Topic { config, .. } => Some(config),
            Opening::Kafka { .. } | Opening::Ready(_) => None,
        }
    }

    /// Makes the connector. `logs` are an embedded topic's partitions in order, and empty for every
    /// other connector.
    ///
    /// # Errors
    /// XX000 for another number of logs than [`TopicConfig::partitions`]; 22023 where the client
    /// library refuses a property's value. No broker is asked yet.
    pub fn open(&self, logs: Vec<LogReader>) -> Result<Arc<dyn SourceConnector>> {
        let expected = match self.topic() {
            Some(config) => config.partitions,
            None => 0,
        };
        if u32::try_from(logs.len()) != Ok(expected) {
            return Err(Error::internal(format!(
                "source \"{}\" has {expected} logs, not {}",
                self.name,
                logs.len()
            )));
        }
        let connector: Arc<dyn SourceConnector> = match &self.opening {
            Opening::Topic { config, schema } => {
                let topic = TopicConnector::new(Arc::clone(schema), logs);
                Arc::new(topic.with_startup(config.startup))
            }
            Opening::Kafka { config, layout } => {
                let config = config.as_ref().clone();
                Arc::new(KafkaConnector::new(config, layout.clone())?)
            }
            Opening::Ready(connector) => Arc::clone(connector),
        };
        Ok(match self.on_error {
            OnError::Skip | OnError::Null => connector,
            OnError::Fail => strict(connector, self.readable.clone()),
        })
    }
}

impl std::fmt::Debug for SourceConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("SourceConfig");
        shown
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("idle_timeout_micros", &self.idle_timeout_micros)
            .field("time", &self.time)
            .field("on_error", &self.on_error);
        match &self.opening {
            Opening::Topic { config, .. } => shown.field("topic", config),
            Opening::Kafka { config, .. } => shown.field("kafka", config),
            Opening::Ready(_) => &mut shown,
        };
        shown.finish()
    }
}

fn topic_config(options: &mut Options) -> Result<TopicConfig> {
    let most = u64::from(TOPIC_PARTITIONS_MAX);
    let partitions = options.take_integer("partitions", 1..=most)?.unwrap_or(1);
    let age = options.take_integer("retention.ms", 1..=u64::MAX)?;
    let bytes = options.take_integer("retention.bytes", 1..=u64::MAX)?;
    let modes = [
        ("earliest", TopicStartup::Earliest),
        ("latest", TopicStartup::Latest),
    ];
    let startup = options.take_word("scan.startup.mode", &modes)?;
    Ok(TopicConfig {
        partitions: u32::try_from(partitions)
            .map_err(|_| Error::internal("the bound on partitions is above 32 bits"))?,
        retention: Retention {
            bytes_min: bytes,
            age_max: age.map(Duration::from_millis),
        },
        startup: startup.unwrap_or_default(),
    })
}

fn kafka_config(options: &mut Options) -> Result<KafkaConfig> {
    let mut given = Vec::new();
    for name in KAFKA_OPTIONS.iter().filter(|name| **name != "connector") {
        match name.strip_suffix('*') {
            Some(prefix) => given.extend(options.take_family(prefix)),
            None => given.extend(options.take(name).map(|value| (name.to_string(), value))),
        }
    }
    KafkaConfig::parse(&given).map_err(|error| options.locate(error))
}

/// A connector that knows only the columns it makes, at their places in the source's schema.
struct Placed {
    connector: Arc<dyn SourceConnector>,
    /// For each column of the source, its place among those of the connector.
    places: Vec<Option<usize>>,
}

impl SourceConnector for Placed {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        self.connector.partitions()
    }

    fn bounds(&self, partitions: &[PartitionId]) -> Result<Vec<Bounds>> {
        self.connector.bounds(partitions)
    }

    fn startup(&self, partitions: &[PartitionId]) -> Result<Vec<Offset>> {
        self.connector.startup(partitions)
    }

    fn reader(&self, ranges: Vec<ReadRange>, columns: &[usize]) -> Result<Box<dyn Reader>> {
        let place = |column: &usize| {
            let place = self.places.get(*column).copied().flatten();
            place.ok_or_else(|| Error::internal(format!("column {column} is not a generator's")))
        };
        let columns = columns.iter().map(place).collect::<Result<Vec<_>>>()?;
        self.connector.reader(ranges, &columns)
    }

    fn identity(&self) -> Result<Option<String>> {
        self.connector.identity()
    }
}

/// `on_error = 'fail'`: reading ends at the first record with something wrong in any column, so
/// that where it ends does not depend on who reads. The chunk that holds it is not handed on, so
/// reading begins before it again once the cause is removed. `readable`: the columns there are.
pub(super) fn strict(
    connector: Arc<dyn SourceConnector>,
    readable: Vec<usize>,
) -> Arc<dyn SourceConnector> {
    Arc::new(Strict {
        connector,
        readable,
    })
}

struct Strict {
    connector: Arc<dyn SourceConnector>,
    readable: Vec<usize>,
}

impl SourceConnector for Strict {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        self.connector.partitions()
    }

    fn bounds(&self, partitions: &[PartitionId]) -> Result<Vec<Bounds>> {
        self.connector.bounds(partitions)
    }

    fn startup(&self, partitions: &[PartitionId]) -> Result<Vec<Offset>> {
        self.connector.startup(partitions)
    }

    fn reader(&self, ranges: Vec<ReadRange>, columns: &[usize]) -> Result<Box<dyn Reader>> {
        let place = |column: &usize| {
            let place = self.readable.binary_search(column);
            place.map_err(|_| Error::internal(format!("column {column} is not to be read")))
        };
        let places = columns.iter().map(place).collect::<Result<Vec<_>>>()?;
        Ok(Box::new(StrictReader {
            reader: self.connector.reader(ranges, &self.readable)?,
            places,
            failure: None,
        }))
    }

    fn identity(&self) -> Result<Option<String>> {
        self.connector.identity()
    }
}

struct StrictReader {
    /// Of every column.
    reader: Box<dyn Reader>,
    /// The columns asked for, among those.
    places: Vec<usize>,
    failure: Option<Error>,
}

impl Reader for StrictReader {
    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        if let Some(error) = &self.failure {
            return Err(error.clone());
        }
        let mut chunk = match self.reader.poll(timeout)? {
            Polled::Chunk(chunk) => chunk,
            other => return Ok(other),
        };
        if let Some((offset, reason)) = first_bad(&chunk) {
            let message = format!("partition {}, offset {offset}: {reason}", chunk.partition);
            let error = Error::new(SqlState::DATA_EXCEPTION, message)
                .hint("with on_error = 'skip' such records go to the errors relation instead");
            self.failure = Some(error.clone());
            return Err(error);
        }
        let rows = chunk.rows.project(&self.places);
        chunk.rows =
            rows.map_err(|error| Error::internal(format!("columns of a reader: {error}")))?;
        Ok(Polled::Chunk(chunk))
    }

    fn schema(&self) -> SchemaRef {
        let schema = self.reader.schema();
        let project = schema.project(&self.places);
        Arc::new(project.expect("the places are those of columns"))
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        self.reader.waker()
    }
}

/// Where the first record of the chunk is that something is wrong with, and what.
fn first_bad(chunk: &Chunk) -> Option<(Offset, &str)> {
    let record = chunk.bad.first();
    let record = record.map(|bad| (bad.offset, bad.reason.as_str()));
    let value = chunk.bad_rows.first().and_then(|bad| {
        let (_, reason) = bad.values.first()?;
        Some((chunk.offset_of(bad.row), reason.as_str()))
    });
    record
        .into_iter()
        .chain(value)
        .min_by_key(|(offset, _)| *offset)
}
