//! Writes records to topics: for filling a topic before a measurement, and for tests.
//!
//! Bounds: `KAFKA_PRODUCER_KBYTES_MAX` unacknowledged; then [`Producer::send`] waits. A record that
//! is not acknowledged within `KAFKA_PRODUCER_SECONDS_MAX` is a failure, which the next
//! [`Producer::flush`] tells.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic as NativeTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, NoCustomPartitioner, Producer as NativeProducer, ProducerContext, ThreadedProducer,
};
use rdkafka::{ClientConfig, ClientContext, Message};

use crate::base::limits::{
    KAFKA_PRODUCER_KBYTES_MAX, KAFKA_PRODUCER_SECONDS_MAX, KAFKA_REQUEST_SECONDS_MAX,
};
use crate::connector::kafka::config::KafkaConfig;
use crate::connector::kafka::failure;
use crate::error::{Error, Result, SqlState};

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    pub const ALL: &[Codec] = &[
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

/// How a producer writes.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// `host:port`, several separated by commas.
    pub servers: String,
    pub codec: Codec,
    /// Acknowledgements to wait for: 0 none, 1 the leader's, -1 all in-sync replicas'.
    pub acks: i8,
    /// Milliseconds a record waits for others to share its batch.
    pub linger_ms: u32,
}

impl ProducerConfig {
    /// Uncompressed, acknowledged by the leader, batches of 5 ms.
    pub fn new(servers: impl Into<String>) -> Self {
        ProducerConfig {
            servers: servers.into(),
            codec: Codec::None,
            acks: 1,
            linger_ms: 5,
        }
    }
}

/// A record to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// Chosen by the key where there is none, or in turn without a key.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    /// `None` writes a NULL payload.
    pub payload: Option<&'a [u8]>,
    /// Milliseconds since 1970; now where there is none.
    pub timestamp_millis: Option<i64>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// A producer with a thread of its own for deliveries. Dropping it without a flush loses what is
/// not yet acknowledged.
pub struct Producer(ThreadedProducer<Deliveries>);

impl Producer {
    /// Makes the producer without talking to a broker.
    pub fn new(config: &ProducerConfig) -> Result<Self> {
        let millis = Duration::from_secs(KAFKA_PRODUCER_SECONDS_MAX).as_millis();
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &config.servers)
            .set("client.id", "tidemill")
            .set("compression.type", config.codec.name())
            .set("acks", config.acks.to_string())
            .set("linger.ms", config.linger_ms.to_string())
            .set("batch.num.messages", "100000")
            .set("queue.buffering.max.messages", "1000000")
            .set(
                "queue.buffering.max.kbytes",
                KAFKA_PRODUCER_KBYTES_MAX.to_string(),
            )
            .set("message.timeout.ms", millis.to_string())
            // What a broker accepts is the broker's decision.
            .set("message.max.bytes", "100000000")
            .set("socket.nagle.disable", "true")
            .set("enable.metrics.push", "false")
            .set("log.connection.close", "false");
        let producer = client
            .create_with_context(Deliveries::default())
            .map_err(|error| failure::refused(&error))?;
        Ok(Producer(producer))
    }

    /// Hands over a record; waits while the producer is full.
    ///
    /// # Errors
    /// When the record is not acceptable, or the producer stays full for
    /// `KAFKA_PRODUCER_SECONDS_MAX`.
    pub fn send(&self, topic: &str, record: Record<'_>) -> Result<()> {
        let mut native: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        native.key = record.key;
        native.payload = record.payload;
        native.partition = record.partition;
        native.timestamp = record.timestamp_millis;
        if !record.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (key, value) in record.headers {
                headers = headers.insert(Header { key, value: *value });
            }
            native.headers = Some(headers);
        }
        let begun = Instant::now();
        loop {
            match self.0.send(native) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if begun.elapsed() < Duration::from_secs(KAFKA_PRODUCER_SECONDS_MAX) =>
                {
                    native = back;
                    self.0.poll(Duration::from_millis(10));
                }
                Err((error, _)) => return Err(self.failure(topic, &error)),
            }
        }
    }

    /// Waits until everything is acknowledged.
    ///
    /// # Errors
    /// The first record that was not delivered since the last flush, or the timeout.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        let flushed = self.0.flush(timeout);
        if let Some((topic, error)) = self.0.context().take() {
            return Err(self.failure(&topic, &error));
        }
        flushed.map_err(|error| self.described("records are not acknowledged", &error))
    }

    fn failure(&self, topic: &str, error: &KafkaError) -> Error {
        self.described(&format!("cannot write to topic \"{topic}\""), error)
    }

    fn described(&self, what: &str, error: &KafkaError) -> Error {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let message = format!("{what}: {}", failure::text(code));
        let error = Error::new(SqlState::CONNECTION_FAILURE, message);
        match failure::kind(code) {
            failure::Kind::Away => error.retryable(),
            _ => error,
        }
    }
}

/// Keeps the first failed delivery. A mutex, because the delivery thread writes it.
#[derive(Default)]
struct Deliveries(Mutex<Option<(String, KafkaError)>>);

impl Deliveries {
    fn take(&self) -> Option<(String, KafkaError)> {
        self.0
            .lock()
            .expect("nothing panics while it holds this lock")
            .take()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "tidemill::kafka", "{facility}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "tidemill::kafka", "{error}: {reason}");
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        if let Err((error, message)) = result {
            let mut first = self
                .0
                .lock()
                .expect("nothing panics while it holds this lock");
            first.get_or_insert_with(|| (message.topic().to_string(), error.clone()));
        }
    }
}

/// A topic to create.
#[derive(Clone, Copy, Debug)]
pub struct NewTopic<'a> {
    pub name: &'a str,
    pub partitions: i32,
    /// Settings of the topic, such as `("cleanup.policy", "compact")`.
    pub settings: &'a [(&'a str, &'a str)],
}

/// Creates a topic with one replica. A topic that exists is an error, 42710.
pub fn create_topic(servers: &str, topic: NewTopic<'_>) -> Result<()> {
    let config = KafkaConfig::new(topic.name, servers);
    let (client, options) = admin(servers)?;
    let mut native = NativeTopic::new(topic.name, topic.partitions, TopicReplication::Fixed(1));
    for (name, value) in topic.settings {
        native = native.set(name, value);
    }
    let created = futures::executor::block_on(client.create_topics([&native], &options));
    match outcome(created) {
        None => Ok(()),
        Some(RDKafkaErrorCode::TopicAlreadyExists) => {
            let message = format!("topic \"{}\" already exists on {servers}", topic.name);
            Err(Error::new(SqlState::DUPLICATE_OBJECT, message))
        }
        Some(code) => Err(failure::describe(code, "create", &config, None)),
    }
}

/// Deletes a topic; one that does not exist is no error.
pub fn delete_topic(servers: &str, topic: &str) -> Result<()> {
    let config = KafkaConfig::new(topic, servers);
    let (client, options) = admin(servers)?;
    let deleted = futures::executor::block_on(client.delete_topics(&[topic], &options));
    match outcome(deleted) {
        None | Some(RDKafkaErrorCode::UnknownTopicOrPartition) => Ok(()),
        Some(code) => Err(failure::describe(code, "delete", &config, None)),
    }
}

fn admin(servers: &str) -> Result<(AdminClient<DefaultClientContext>, AdminOptions)> {
    let client = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .create()
        .map_err(|error| failure::refused(&error))?;
    let timeout = Duration::from_secs(KAFKA_REQUEST_SECONDS_MAX);
    let options = AdminOptions::new()
        .request_timeout(Some(timeout))
        .operation_timeout(Some(timeout));
    Ok((client, options))
}

/// What a request for one topic failed with.
fn outcome(
    result: std::result::Result<Vec<rdkafka::admin::TopicResult>, KafkaError>,
) -> Option<RDKafkaErrorCode> {
    match result {
        Ok(results) => results
            .into_iter()
            .find_map(|result| result.err().map(|(_, code)| code)),
        Err(error) => Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
    }
}
