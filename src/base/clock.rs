//! The wall clock, as a value that tests can move.
//!
//! The core never asks for the time: a step carries its own (`max(previous, wall)`, journaled), so
//! that a replay sees the same. This clock is for the edges: readers, timeouts, freshness.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of wall-clock time, cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System,
    /// Microseconds, moved by a test.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    pub fn system() -> Self {
        Clock(Kind::System)
    }

    /// A clock that stands at `micros` until it is set.
    pub fn manual(micros: i64) -> Self {
        Clock(Kind::Manual(Arc::new(AtomicI64::new(micros))))
    }

    /// Microseconds since 1970-01-01T00:00 UTC.
    pub fn now_micros(&self) -> i64 {
        match &self.0 {
            Kind::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                // A clock before 1970 is a machine without a battery; it reads as 1970.
                since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
            }
            Kind::Manual(micros) => micros.load(Ordering::Acquire),
        }
    }

    /// Moves a manual clock.
    ///
    /// # Panics
    /// On the system's clock, which nobody moves.
    pub fn set_micros(&self, micros: i64) {
        match &self.0 {
            Kind::System => panic!("the system clock cannot be set"),
            Kind::Manual(cell) => cell.store(micros, Ordering::Release),
        }
    }
}
