//! The wall clock, as a value that tests can move.
//!
//! The core never asks for the time: a step carries its own, journaled, so that a replay sees the
//! same. This clock is for the edges: readers, timeouts, freshness, and what a step is told.
//!
//! The clock of steps never goes back, and it does not stand still either: what happens every
//! second must not stop for an hour because somebody has set the wall clock back by one. Until the
//! wall clock is there again it goes at half its speed, see [`Clock::after`].
//!
//! ```text
//!   wall      10:00   10:30 → 9:30   10:00   10:30   11:00   11:30   12:00
//!   steps     10:00   10:30          10:45   11:00   11:15   11:30   12:00
//! ```

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A source of wall-clock time, cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System,
    /// Moved by a test.
    Manual(Arc<Manual>),
}

/// Microseconds.
#[derive(Debug)]
struct Manual {
    wall: AtomicI64,
    steady: AtomicI64,
}

/// A moment from which steady time is counted.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock {
    pub fn system() -> Self {
        Clock(Kind::System)
    }

    /// A clock that stands at `micros` until it is set.
    pub fn manual(micros: i64) -> Self {
        Clock(Kind::Manual(Arc::new(Manual {
            wall: AtomicI64::new(micros),
            steady: AtomicI64::new(0),
        })))
    }

    /// Microseconds since 1970-01-01T00:00 UTC.
    pub fn now_micros(&self) -> i64 {
        match &self.0 {
            Kind::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                // A clock before 1970 is a machine without a battery; it reads as 1970.
                since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
            }
            Kind::Manual(manual) => manual.wall.load(Ordering::Acquire),
        }
    }

    /// Microseconds that have passed since some moment, however the wall clock was set meanwhile.
    pub fn steady_micros(&self) -> i64 {
        match &self.0 {
            Kind::System => i64::try_from(BEGINNING.elapsed().as_micros()).unwrap_or(i64::MAX),
            Kind::Manual(manual) => manual.steady.load(Ordering::Acquire),
        }
    }

    /// What a clock shows that follows the wall clock and never goes back, if it has shown
    /// `shown_micros` at the steady time `shown_at`: the wall clock; half its speed while that is
    /// behind.
    pub fn after(&self, shown_micros: i64, shown_at: i64) -> i64 {
        let wall = self.now_micros();
        if wall >= shown_micros {
            return wall;
        }
        let passed = self.steady_micros().saturating_sub(shown_at);
        shown_micros.saturating_add(passed.max(0) / 2)
    }

    /// Moves a manual clock; steady time passes as well if it goes forward.
    ///
    /// # Panics
    /// On the system's clock, which nobody moves.
    pub fn set_micros(&self, micros: i64) {
        match &self.0 {
            Kind::System => panic!("the system clock cannot be set"),
            Kind::Manual(manual) => {
                let before = manual.wall.swap(micros, Ordering::AcqRel);
                let passed = micros.saturating_sub(before).max(0);
                manual.steady.fetch_add(passed, Ordering::AcqRel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_steps_neither_goes_back_nor_stands_still() {
        let clock = Clock::manual(10_000);
        let (mut shown, mut at) = (i64::MIN, clock.steady_micros());
        let mut next = |clock: &Clock| {
            shown = clock.after(shown, at);
            at = clock.steady_micros();
            shown
        };
        assert_eq!(next(&clock), 10_000);
        clock.set_micros(10_300);
        assert_eq!(next(&clock), 10_300);
        // Set back: time goes on, more slowly.
        clock.set_micros(9_300);
        assert_eq!(next(&clock), 10_300);
        clock.set_micros(9_700);
        assert_eq!(next(&clock), 10_500);
        clock.set_micros(10_100);
        assert_eq!(next(&clock), 10_700);
        // What the wall clock shows is not before it again.
        clock.set_micros(10_900);
        assert_eq!(next(&clock), 10_900);
        clock.set_micros(12_000);
        assert_eq!(next(&clock), 12_000);
    }

    #[test]
    fn the_system_has_a_steady_clock() {
        let clock = Clock::system();
        let before = clock.steady_micros();
        assert!(clock.steady_micros() >= before);
        let ahead = clock.now_micros() + 3_600_000_000;
        assert!(
            clock.after(ahead, before) >= ahead,
            "an hour ahead of the wall clock"
        );
    }
}
