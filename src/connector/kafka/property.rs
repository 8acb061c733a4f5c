//! Which of librdkafka's properties a user may pass through as `properties.*`.
//!
//! An allow-list, because the other ones load code into the server (`plugin.library.paths`), run
//! commands (`sasl.kerberos.kinit.cmd`), or would take away what the reader relies on (offsets that
//! are ours, end-of-partition events, an error where retention has cut).

/// Properties that are passed on as they are, in alphabetical order.
pub(super) const ALLOWED: &[&str] = &[
    "api.version.request.timeout.ms",
    "broker.address.family",
    "broker.address.ttl",
    "check.crcs",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "connections.max.idle.ms",
    "debug",
    "enable.ssl.certificate.verification",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "max.partition.fetch.bytes",
    "message.max.bytes",
    "metadata.max.age.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.config",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.sigalgs.list",
    "topic.metadata.refresh.interval.ms",
];

/// Properties that are not passed on but read by the connector itself.
pub(super) const OWN: &[&str] = &[
    "bootstrap.server",
    "bootstrap.servers",
    "group.id",
    "isolation.level",
];

/// Properties that users of other systems bring along, with why they are refused here.
const REFUSED: &[(&str, &str)] = &[
    (
        "allow.auto.create.topics",
        "a source never creates its topic",
    ),
    ("auto.commit.interval.ms", OFFSETS_ARE_OURS),
    (
        "auto.offset.reset",
        "where reading begins is said by scan.startup.mode",
    ),
    ("enable.auto.commit", OFFSETS_ARE_OURS),
    ("enable.auto.offset.store", OFFSETS_ARE_OURS),
    (
        "enable.partition.eof",
        "idle partitions are found by these events",
    ),
    ("group.instance.id", PARTITIONS_ARE_OURS),
    ("group.protocol", PARTITIONS_ARE_OURS),
    ("interceptors", LOADS_CODE),
    (
        "metadata.broker.list",
        "brokers are named by properties.bootstrap.server",
    ),
    ("partition.assignment.strategy", PARTITIONS_ARE_OURS),
    ("plugin.library.paths", LOADS_CODE),
    (
        "sasl.kerberos.kinit.cmd",
        "it would run a command on the server",
    ),
    ("ssl.engine.id", LOADS_CODE),
    ("ssl.engine.location", LOADS_CODE),
    ("ssl.providers", LOADS_CODE),
];

const OFFSETS_ARE_OURS: &str = "offsets are kept by the server itself";
const PARTITIONS_ARE_OURS: &str = "partitions are assigned by the server itself";
const LOADS_CODE: &str = "it would load code into the server";

/// What may be done with a property.
pub(super) enum Verdict {
    PassOn,
    Refuse(&'static str),
    Unknown,
}

/// Judges a property by its name without the prefix `properties.`.
pub(super) fn judge(name: &str) -> Verdict {
    if ALLOWED.binary_search(&name).is_ok() {
        return Verdict::PassOn;
    }
    match REFUSED.iter().find(|(refused, _)| *refused == name) {
        Some((_, reason)) => Verdict::Refuse(reason),
        None => Verdict::Unknown,
    }
}

/// Whether the value of a property must not be shown in errors, logs or SHOW.
pub(super) fn is_secret(name: &str) -> bool {
    name.contains("password") || name.ends_with("key.pem") || name == "sasl.oauthbearer.config"
}

#[cfg(test)]
mod tests {
    use super::{ALLOWED, OWN, REFUSED, Verdict, is_secret, judge};

    #[test]
    fn the_allow_list_is_sorted_and_apart_from_the_refused() {
        assert!(ALLOWED.is_sorted());
        for (name, _) in REFUSED {
            assert!(!ALLOWED.contains(name) && !OWN.contains(name), "{name}");
        }
    }

    #[test]
    fn every_allowed_property_is_known_to_the_client_library() {
        let native = rdkafka::ClientConfig::new().create_native_config().unwrap();
        for name in ALLOWED {
            // Reading a property that was never set fails or is empty; an unknown one says so.
            if let Err(error) = native.get(name) {
                assert!(!error.to_string().contains("No such"), "{name}: {error}");
            }
        }
    }

    #[test]
    fn what_loads_code_is_refused_and_what_nobody_knows_is_unknown() {
        assert!(matches!(judge("plugin.library.paths"), Verdict::Refuse(_)));
        assert!(matches!(judge("security.protocol"), Verdict::PassOn));
        assert!(matches!(judge("nonsense"), Verdict::Unknown));
    }

    #[test]
    fn passwords_and_private_keys_are_secret() {
        assert!(is_secret("sasl.password") && is_secret("ssl.key.pem"));
        assert!(!is_secret("sasl.username") && !is_secret("ssl.ca.pem"));
    }
}
