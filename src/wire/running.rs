//! One running statement: what may end it before its time.

use std::future;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::Cancel;
use crate::error::{Error, Result, SqlState};

/// A statement's cancel token and deadline.
pub(super) struct Running {
    cancel: Cancel,
    deadline: Option<Instant>,
}

impl Running {
    /// Starts the clock: `timeout` is the session's `statement_timeout`, if it has one.
    pub(super) fn new(cancel: Cancel, timeout: Option<Duration>) -> Self {
        // A deadline beyond what the clock can say is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Running { cancel, deadline }
    }

    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The error of a statement that was asked to stop or has had its time.
    pub(super) fn check(&self) -> Result<()> {
        match self.is_late() {
            true => Err(timed_out()),
            false => self.cancel.check(),
        }
    }

    /// Resolves when the statement is to end, with what its client is told.
    pub(super) async fn interrupted(&self) -> Error {
        let late = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            () = late => timed_out(),
            () = self.cancel.cancelled() => {
                self.check().err().unwrap_or_else(|| Error::internal("cancelled without a reason"))
            }
        }
    }

    /// The engine knows a cancelled statement only as cancelled; the deadline says why.
    pub(super) fn explain(&self, error: Error) -> Error {
        match error.state() == SqlState::QUERY_CANCELED && self.is_late() {
            true => timed_out(),
            false => error,
        }
    }

    fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline <= Instant::now())
    }
}

fn timed_out() -> Error {
    Error::new(
        SqlState::QUERY_CANCELED,
        "canceling statement due to statement timeout",
    )
    .hint("raise statement_timeout, or set it to 0 for SUBSCRIBE and other endless statements")
}

/// A time setting as SHOW prints it: a number with a unit, milliseconds without one. `None` when it
/// is zero (no limit) or is not a time.
pub(super) fn time_setting(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let micros_per_unit: u64 = match unit.trim() {
        "us" => 1,
        "" | "ms" => 1_000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    let micros = number.checked_mul(micros_per_unit)?;
    (micros > 0).then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_show_prints_them() {
        assert_eq!(time_setting("250"), Some(Duration::from_millis(250)));
        assert_eq!(time_setting("5s"), Some(Duration::from_secs(5)));
        assert_eq!(time_setting("2 min"), Some(Duration::from_secs(120)));
        assert_eq!(time_setting("1h"), Some(Duration::from_secs(3600)));
        assert_eq!(time_setting("0"), None);
        assert_eq!(time_setting("0ms"), None);
        assert_eq!(time_setting("soon"), None);
        assert_eq!(time_setting("99999999999999999999d"), None);
    }

    #[tokio::test]
    async fn a_deadline_and_a_cancel_are_told_apart() {
        let late = Running::new(Cancel::new(), Some(Duration::from_micros(1)));
        assert!(
            late.interrupted()
                .await
                .message()
                .contains("statement timeout")
        );
        let by_engine = Error::new(SqlState::QUERY_CANCELED, "cancelled");
        assert!(
            late.explain(by_engine)
                .message()
                .contains("statement timeout")
        );
        let asked = Running::new(Cancel::new(), None);
        asked.cancel().cancel();
        assert!(asked.interrupted().await.message().contains("user request"));
    }
}
