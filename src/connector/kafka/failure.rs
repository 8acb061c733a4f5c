//! From Kafka's error codes to the one error: which SQLSTATE, and whether trying again may help.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::connector::kafka::config::KafkaConfig;
use crate::error::{Error, SqlState};

/// What kind of trouble a code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The topic or the partition does not exist.
    Missing,
    /// Not allowed to do this.
    Denied,
    /// Not let in at all.
    Stranger,
    /// The network or the cluster; it may pass.
    Away,
    /// Anything else: trying again gives the same.
    Broken,
}

pub(super) fn kind(code: RDKafkaErrorCode) -> Kind {
    use RDKafkaErrorCode as Code;
    match code {
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId => Kind::Missing,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed => Kind::Denied,
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            Kind::Stranger
        }
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::SSL
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::WaitingForCoordinator
        | Code::WaitCache
        | Code::NetworkException
        | Code::RequestTimedOut
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::OffsetNotAvailable
        | Code::KafkaStorageError
        | Code::PreferredLeaderNotAvailable => Kind::Away,
        _ => Kind::Broken,
    }
}

/// The error for a request about the source that failed.
///
/// `what` is what was tried, as "read the offsets of"; `reason` is the last thing that the client
/// said about its connections.
pub(super) fn describe(
    code: RDKafkaErrorCode,
    what: &str,
    config: &KafkaConfig,
    reason: Option<String>,
) -> Error {
    let KafkaConfig { topic, servers, .. } = config;
    let kind = kind(code);
    let cause = match kind {
        Kind::Missing => return missing(config),
        Kind::Denied | Kind::Stranger | Kind::Away | Kind::Broken => text(code),
    };
    let message = format!("cannot {what} topic \"{topic}\" on {servers}: {cause}");
    let error = match kind {
        Kind::Denied => Error::new(SqlState::INSUFFICIENT_PRIVILEGE, message)
            .hint("the Kafka user needs READ and DESCRIBE on the topic"),
        Kind::Stranger => Error::new(SqlState::INVALID_AUTHORIZATION, message).hint(
            "check properties.security.protocol, properties.sasl.mechanism, \
             properties.sasl.username and properties.sasl.password",
        ),
        Kind::Away => Error::new(SqlState::CONNECTION_FAILURE, message)
            .hint("is the broker running and is properties.bootstrap.server right?")
            .retryable(),
        Kind::Missing | Kind::Broken => Error::new(SqlState::SYSTEM_ERROR, message),
    };
    match reason {
        Some(reason) => error.detail(reason),
        None => error,
    }
}

/// The topic does not exist.
pub(super) fn missing(config: &KafkaConfig) -> Error {
    let KafkaConfig { topic, servers, .. } = config;
    Error::new(
        SqlState::UNDEFINED_OBJECT,
        format!("topic \"{topic}\" does not exist on {servers}"),
    )
    .hint("topic names are case-sensitive; create the topic first or correct the option topic")
}

/// librdkafka refused to make a client: a property has a bad value.
pub(super) fn refused(error: &KafkaError) -> Error {
    let (message, culprit) = match error {
        // The value is left out: it may be a password.
        KafkaError::ClientConfig(_, description, name, _) => (
            format!("option \"properties.{name}\" has a bad value"),
            description.as_str(),
        ),
        KafkaError::ClientCreation(description) => (
            "the Kafka client cannot be made from these properties".to_string(),
            &description[..],
        ),
        other => return Error::internal(format!("making a Kafka client: {other}")),
    };
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message).detail(culprit)
}

/// librdkafka's text of a code, in our spelling.
pub(super) fn text(code: RDKafkaErrorCode) -> String {
    let text = code.to_string();
    let text = text
        .split_once(" (")
        .filter(|_| text.ends_with(')'))
        .map_or(&text[..], |(_, t)| t.trim_end_matches(')'));
    let text = text
        .trim_start_matches("Local: ")
        .trim_start_matches("Broker: ");
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => "unknown error".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{describe, text};
    use crate::connector::kafka::config::KafkaConfig;
    use rdkafka::types::RDKafkaErrorCode;

    fn error(code: RDKafkaErrorCode) -> crate::error::Error {
        describe(
            code,
            "read the offsets of",
            &KafkaConfig::new("bids", "h:1"),
            None,
        )
    }

    #[test]
    fn an_absent_broker_is_retryable_and_a_missing_topic_is_not() {
        let away = error(RDKafkaErrorCode::BrokerTransportFailure);
        assert_eq!((away.state().code(), away.is_retryable()), ("08006", true));
        let missing = error(RDKafkaErrorCode::UnknownTopicOrPartition);
        assert_eq!(
            (missing.state().code(), missing.is_retryable()),
            ("42704", false)
        );
        assert_eq!(missing.message(), "topic \"bids\" does not exist on h:1");
        assert_eq!(
            error(RDKafkaErrorCode::TopicAuthorizationFailed)
                .state()
                .code(),
            "42501"
        );
        assert_eq!(
            error(RDKafkaErrorCode::SaslAuthenticationFailed)
                .state()
                .code(),
            "28000"
        );
    }

    #[test]
    fn texts_are_lower_case_without_their_origin() {
        assert_eq!(
            text(RDKafkaErrorCode::BrokerTransportFailure),
            "broker transport failure"
        );
        assert_eq!(
            text(RDKafkaErrorCode::LeaderNotAvailable),
            "leader not available"
        );
    }
}
