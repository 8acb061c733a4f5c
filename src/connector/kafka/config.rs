//! The options of `CREATE SOURCE … WITH (connector = 'kafka', …)`, parsed once into a type.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;

use crate::base::limits::{
    KAFKA_FETCH_BACKOFF_MS, KAFKA_FETCH_BYTES_MAX, KAFKA_QUEUE_KBYTES_MAX, KAFKA_QUEUE_RECORDS_MIN,
    KAFKA_RECONNECT_MS_MAX,
};
use crate::connector::kafka::property::{self, Verdict};
use crate::error::{Error, Result, SqlState};

/// Everything the connector needs to know besides the columns.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    pub topic: String,
    /// `host:port`, several separated by commas.
    pub servers: String,
    pub startup: Startup,
    pub isolation: Isolation,
    /// The consumer group under which our positions are made visible to Kafka's own tools.
    pub group: Option<String>,
    /// What to do where the broker has deleted records that were to be read.
    pub on_gap: OnGap,
    /// Allow-listed properties for librdkafka.
    properties: BTreeMap<String, String>,
}

/// Where the first reading of a topic begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Startup {
    Earliest,
    Latest,
    /// The first record whose timestamp is at or after this one, milliseconds since 1970 (UTC).
    Timestamp(i64),
}

/// Which records of transactional producers are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    Committed,
    Uncommitted,
}

/// What a reader does when its offset has been deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGap {
    /// Ends with an error that names the gap.
    Fail,
    /// Goes on with the oldest record there is; the gap counts as covered.
    Skip,
}

/// The options that [`KafkaConfig::parse`] knows, as users write them.
pub const OPTIONS: &[&str] = &[
    "connector",
    "topic",
    "properties.*",
    "scan.startup.mode",
    "scan.startup.timestamp.millis",
    "on_gap",
];

/// Kafka's own bound on the length of a topic's name.
const TOPIC_NAME_BYTES_MAX: usize = 249;

impl KafkaConfig {
    /// A configuration with every default.
    pub fn new(topic: impl Into<String>, servers: impl Into<String>) -> Self {
        KafkaConfig {
            topic: topic.into(),
            servers: servers.into(),
            startup: Startup::Earliest,
            isolation: Isolation::Committed,
            group: None,
            on_gap: OnGap::Fail,
            properties: BTreeMap::new(),
        }
    }

    /// Reads the connector's options in the order in which the user wrote them.
    ///
    /// Names are compared without regard to case.
    ///
    /// # Errors
    /// 22023 for an option or property that is unknown, refused, missing, given twice or has a bad
    /// value; the hint names the valid ones. Values of secret properties never appear in it.
    pub fn parse(options: &[(String, String)]) -> Result<Self> {
        let mut given = Given::default();
        for (name, value) in options {
            given.take(&name.to_ascii_lowercase(), value)?;
        }
        given.finish()
    }

    /// Adds or replaces a property of librdkafka, under the rules of [`KafkaConfig::parse`].
    pub fn set_property(&mut self, name: &str, value: &str) -> Result<()> {
        match property::judge(name) {
            Verdict::PassOn => {
                self.properties.insert(name.to_string(), value.to_string());
                Ok(())
            }
            Verdict::Refuse(reason) => Err(bad(format!(
                "option \"properties.{name}\" is not allowed: {reason}"
            ))
            .hint(valid_properties())),
            Verdict::Unknown => Err(bad(format!(
                "option \"properties.{name}\" is not known to connector kafka"
            ))
            .hint(valid_properties())),
        }
    }

    /// The properties passed on to librdkafka, secrets blanked out, for SHOW.
    pub fn properties_shown(&self) -> Vec<(String, String)> {
        let shown = |(name, value): (&String, &String)| {
            let value = if property::is_secret(name) {
                "********"
            } else {
                value.as_str()
            };
            (name.clone(), value.to_string())
        };
        self.properties.iter().map(shown).collect()
    }

    /// What every client of this source is made with.
    pub(super) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("client.id", "tidemill")
            .set("queued.min.messages", KAFKA_QUEUE_RECORDS_MIN.to_string())
            .set(
                "queued.max.messages.kbytes",
                KAFKA_QUEUE_KBYTES_MAX.to_string(),
            )
            .set("fetch.message.max.bytes", KAFKA_FETCH_BYTES_MAX.to_string())
            .set("fetch.queue.backoff.ms", KAFKA_FETCH_BACKOFF_MS.to_string())
            .set(
                "reconnect.backoff.max.ms",
                KAFKA_RECONNECT_MS_MAX.to_string(),
            )
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true");
        for (name, value) in &self.properties {
            client.set(name, value);
        }
        client
            .set("bootstrap.servers", &self.servers)
            .set("isolation.level", self.isolation.name())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("enable.metrics.push", "false")
            .set("log.connection.close", "false");
        client
    }
}

/// Shows no secret.
impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("topic", &self.topic)
            .field("servers", &self.servers)
            .field("startup", &self.startup)
            .field("isolation", &self.isolation)
            .field("group", &self.group)
            .field("on_gap", &self.on_gap)
            .field("properties", &self.properties_shown())
            .finish()
    }
}

impl Isolation {
    fn name(self) -> &'static str {
        match self {
            Isolation::Committed => "read_committed",
            Isolation::Uncommitted => "read_uncommitted",
        }
    }
}

/// The options seen so far; `None` where one has not come.
#[derive(Default)]
struct Given {
    connector: Option<String>,
    topic: Option<String>,
    servers: Option<String>,
    mode: Option<String>,
    millis: Option<String>,
    on_gap: Option<String>,
    isolation: Option<String>,
    group: Option<String>,
    properties: BTreeMap<String, String>,
}

impl Given {
    fn take(&mut self, name: &str, value: &str) -> Result<()> {
        let place = match name {
            "connector" => &mut self.connector,
            "topic" => &mut self.topic,
            "scan.startup.mode" => &mut self.mode,
            "scan.startup.timestamp.millis" => &mut self.millis,
            "on_gap" => &mut self.on_gap,
            "properties.bootstrap.server" | "properties.bootstrap.servers" => &mut self.servers,
            "properties.isolation.level" => &mut self.isolation,
            "properties.group.id" => &mut self.group,
            _ => return self.take_property(name, value),
        };
        if place.replace(value.trim().to_string()).is_some() {
            return Err(twice(name));
        }
        Ok(())
    }

    fn take_property(&mut self, name: &str, value: &str) -> Result<()> {
        let Some(property) = name.strip_prefix("properties.") else {
            return Err(
                bad(format!("option \"{name}\" is not known to connector kafka"))
                    .hint(format!("valid options are {}", OPTIONS.join(", "))),
            );
        };
        // Values keep their blanks: a password may end in one.
        if self
            .properties
            .insert(property.to_string(), value.to_string())
            .is_some()
        {
            return Err(twice(name));
        }
        Ok(())
    }

    fn finish(self) -> Result<KafkaConfig> {
        if let Some(connector) = self
            .connector
            .filter(|name| !name.eq_ignore_ascii_case("kafka"))
        {
            return Err(bad(format!(
                "option \"connector\": \"{connector}\" is not \"kafka\""
            )));
        }
        let topic = checked_topic(required(self.topic, "topic", "topic = 'bids'")?)?;
        let servers = required(
            self.servers,
            "properties.bootstrap.server",
            "properties.bootstrap.server = '127.0.0.1:9092'",
        )?;
        let mut config = KafkaConfig::new(topic, servers);
        config.startup = startup(self.mode, self.millis)?;
        config.isolation = match self.isolation.as_deref() {
            None | Some("read_committed") => Isolation::Committed,
            Some("read_uncommitted") => Isolation::Uncommitted,
            Some(other) => {
                let valid = &["read_committed", "read_uncommitted"];
                return Err(not_one_of("properties.isolation.level", other, valid));
            }
        };
        config.on_gap = match self.on_gap.as_deref() {
            None | Some("fail") => OnGap::Fail,
            Some("skip") => OnGap::Skip,
            Some(other) => return Err(not_one_of("on_gap", other, &["fail", "skip"])),
        };
        config.group = match self.group {
            Some(group) if group.is_empty() => {
                return Err(bad("option \"properties.group.id\" is empty"));
            }
            group => group,
        };
        for (name, value) in &self.properties {
            config.set_property(name, value)?;
        }
        Ok(config)
    }
}

fn startup(mode: Option<String>, millis: Option<String>) -> Result<Startup> {
    let mode = mode
        .unwrap_or_else(|| "earliest".to_string())
        .to_ascii_lowercase();
    match (mode.as_str(), millis) {
        ("earliest", None) => Ok(Startup::Earliest),
        ("latest", None) => Ok(Startup::Latest),
        ("timestamp", Some(text)) => match text.parse::<i64>() {
            Ok(millis) if millis >= 0 => Ok(Startup::Timestamp(millis)),
            _ => Err(bad(format!(
                "option \"scan.startup.timestamp.millis\": \"{text}\" is not a number of \
                 milliseconds since 1970"
            ))),
        },
        ("timestamp", None) => Err(bad(
            "option \"scan.startup.mode\": \"timestamp\" needs a timestamp",
        )
        .hint("add scan.startup.timestamp.millis = '1700000000000'")),
        ("earliest" | "latest", Some(_)) => Err(bad(
            "option \"scan.startup.timestamp.millis\" is only for scan.startup.mode = 'timestamp'",
        )),
        _ => Err(not_one_of(
            "scan.startup.mode",
            &mode,
            &["earliest", "latest", "timestamp"],
        )),
    }
}

fn checked_topic(topic: String) -> Result<String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic == "." || topic == ".." || !topic.chars().all(is_legal) {
        return Err(bad(format!(
            "option \"topic\": \"{topic}\" is not a name that Kafka allows"
        ))
        .hint("a topic's name consists of letters, digits, dots, underscores and dashes"));
    }
    if topic.len() > TOPIC_NAME_BYTES_MAX {
        return Err(bad(format!(
            "option \"topic\" has more than {TOPIC_NAME_BYTES_MAX} characters"
        )));
    }
    Ok(topic)
}

fn required(value: Option<String>, name: &str, example: &str) -> Result<String> {
    match value {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(bad(format!("option \"{name}\" is missing"))
            .hint(format!("connector kafka needs it, for example {example}"))),
    }
}

fn not_one_of(name: &str, value: &str, valid: &[&str]) -> Error {
    bad(format!(
        "option \"{name}\": \"{value}\" is not one of {}",
        valid.join(", ")
    ))
}

fn twice(name: &str) -> Error {
    bad(format!("option \"{name}\" is given twice"))
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn valid_properties() -> String {
    let mut names: Vec<&str> = property::ALLOWED
        .iter()
        .chain(property::OWN)
        .copied()
        .collect();
    names.sort_unstable();
    format!("valid after \"properties.\" are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{Isolation, KafkaConfig, OnGap, Startup};
    use crate::error::{Error, Result};

    fn parse(options: &[(&str, &str)]) -> Result<KafkaConfig> {
        let owned: Vec<(String, String)> = options
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        KafkaConfig::parse(&owned)
    }

    fn with(option: (&str, &str)) -> Result<KafkaConfig> {
        parse(&[
            ("topic", "bids"),
            ("properties.bootstrap.server", "h:9092"),
            option,
        ])
    }

    fn refused(option: (&str, &str)) -> Error {
        let error = with(option).unwrap_err();
        assert_eq!(error.state().code(), "22023", "{error}");
        error
    }

    #[test]
    fn defaults_are_earliest_read_committed_and_an_error_on_gaps() {
        let config = with(("connector", "kafka")).unwrap();
        assert_eq!(
            (config.topic.as_str(), config.servers.as_str()),
            ("bids", "h:9092")
        );
        assert_eq!(config.startup, Startup::Earliest);
        assert_eq!(config.isolation, Isolation::Committed);
        assert_eq!((config.on_gap, config.group), (OnGap::Fail, None));
    }

    #[test]
    fn every_option_is_read() {
        let config = parse(&[
            ("Topic", "a.b-c_1"),
            ("properties.bootstrap.servers", "a:1,b:2"),
            ("properties.isolation.level", "read_uncommitted"),
            ("properties.group.id", "g"),
            ("properties.sasl.password", "hush "),
            ("scan.startup.mode", "timestamp"),
            ("scan.startup.timestamp.millis", "12"),
            ("on_gap", "skip"),
        ])
        .unwrap();
        assert_eq!(config.startup, Startup::Timestamp(12));
        assert_eq!(config.isolation, Isolation::Uncommitted);
        assert_eq!(
            (config.on_gap, config.group.as_deref()),
            (OnGap::Skip, Some("g"))
        );
        assert_eq!(config.client().get("sasl.password"), Some("hush "));
        assert!(!format!("{config:?}").contains("hush"));
        assert_eq!(
            with(("scan.startup.mode", "latest")).unwrap().startup,
            Startup::Latest
        );
    }

    #[test]
    fn bad_options_are_named_with_the_valid_ones() {
        let unknown = refused(("colour", "red"));
        assert_eq!(
            unknown.message(),
            "option \"colour\" is not known to connector kafka"
        );
        assert!(unknown.get_hint().unwrap().contains("scan.startup.mode"));

        let property = refused(("properties.colour", "red"));
        assert!(property.get_hint().unwrap().contains("security.protocol"));

        let plugin = refused(("properties.plugin.library.paths", "/tmp/x.so"));
        assert!(
            plugin
                .message()
                .ends_with("not allowed: it would load code into the server")
        );
        assert!(
            refused(("properties.enable.auto.commit", "true"))
                .message()
                .contains("offsets")
        );

        assert!(
            refused(("scan.startup.mode", "newest"))
                .message()
                .contains("latest, timestamp")
        );
        assert!(
            refused(("scan.startup.mode", "timestamp"))
                .get_hint()
                .is_some()
        );
        assert!(
            refused(("scan.startup.timestamp.millis", "5"))
                .message()
                .contains("only for")
        );
        assert!(
            refused(("on_gap", "maybe"))
                .message()
                .contains("fail, skip")
        );
        assert!(
            refused(("properties.isolation.level", "x"))
                .message()
                .contains("read_committed")
        );
        assert!(refused(("topic", "other")).message().contains("twice"));
        assert!(
            refused(("properties.bootstrap.servers", "x:1"))
                .message()
                .contains("twice")
        );
        assert!(
            refused(("properties.group.id", ""))
                .message()
                .contains("empty")
        );
        assert!(
            refused(("connector", "nexmark"))
                .message()
                .contains("not \"kafka\"")
        );
    }

    #[test]
    fn a_topic_and_a_broker_are_needed() {
        let error = parse(&[("properties.bootstrap.server", "h:1")]).unwrap_err();
        assert_eq!(error.message(), "option \"topic\" is missing");
        let error = parse(&[("topic", "t")]).unwrap_err();
        assert_eq!(
            error.message(),
            "option \"properties.bootstrap.server\" is missing"
        );
        for topic in ["a b", "..", "ü", "a/b"] {
            let error = parse(&[("topic", topic), ("properties.bootstrap.server", "h:1")]);
            assert!(
                error.unwrap_err().message().contains("not a name"),
                "{topic}"
            );
        }
    }
}
