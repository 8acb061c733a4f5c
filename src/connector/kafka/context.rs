//! What librdkafka says beside records: its log lines and its errors without a partition.
//!
//! librdkafka reconnects by itself and repeats itself while doing so. Its lines go to the log at
//! `debug`, except the severe ones; the last trouble is remembered, so that the error that a user
//! sees can say why ("connection refused"), not only that a request took too long.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use crate::base::limits::KAFKA_TROUBLE_SECONDS;

/// Remembers the last trouble of one client.
///
/// A mutex, because librdkafka calls from whichever thread polls and no call takes long.
#[derive(Debug, Default)]
pub(super) struct Context(Mutex<Trouble>);

#[derive(Debug, Default)]
struct Trouble {
    /// What the last connection attempt ended with.
    reason: Option<String>,
    /// No broker can be reached, as far as the client knows.
    is_down: bool,
    /// When the trouble was last handed to somebody.
    reported: Option<Instant>,
}

impl Context {
    /// Whether the client has tried every broker in vain since the last success.
    pub(super) fn is_down(&self) -> bool {
        self.lock().is_down
    }

    pub(super) fn reason(&self) -> Option<String> {
        self.lock().reason.clone()
    }

    /// A request or a fetch has succeeded.
    pub(super) fn clear(&self) {
        let mut trouble = self.lock();
        trouble.is_down = false;
        trouble.reason = None;
    }

    /// Whether the trouble may be reported now: at most once per `KAFKA_TROUBLE_SECONDS`.
    pub(super) fn take_turn(&self) -> bool {
        let mut trouble = self.lock();
        let pause = Duration::from_secs(KAFKA_TROUBLE_SECONDS);
        let is_due = trouble.reported.is_none_or(|at| at.elapsed() >= pause);
        if is_due {
            trouble.reported = Some(Instant::now());
        }
        is_due
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.0
            .lock()
            .expect("nothing panics while it holds this lock")
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "tidemill::kafka", "{facility}: {message}");
            }
            // "FAIL" and "ERROR" repeat with every attempt to reconnect; the reader's error is
            // what tells a person about it.
            _ => tracing::debug!(target: "tidemill::kafka", "{facility}: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "tidemill::kafka", "{error}: {reason}");
        let mut trouble = self.lock();
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => trouble.is_down = true,
            Some(_) => trouble.reason = Some(reason.to_string()),
            None => {}
        }
    }
}

impl ConsumerContext for Context {}

#[cfg(test)]
mod tests {
    use super::Context;
    use rdkafka::ClientContext;
    use rdkafka::error::KafkaError;
    use rdkafka::types::RDKafkaErrorCode;

    #[test]
    fn the_reason_outlives_the_summary_and_success_clears_both() {
        let context = Context::default();
        context.error(
            KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure),
            "refused",
        );
        assert!(!context.is_down());
        context.error(
            KafkaError::Global(RDKafkaErrorCode::AllBrokersDown),
            "1/1 brokers are down",
        );
        assert!(context.is_down());
        assert_eq!(context.reason().as_deref(), Some("refused"));
        context.clear();
        assert!(!context.is_down() && context.reason().is_none());
    }

    #[test]
    fn trouble_is_reported_once_and_then_held_back() {
        let context = Context::default();
        assert!(context.take_turn());
        assert!(!context.take_turn());
    }
}
