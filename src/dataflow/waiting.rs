//! What the loop waits for, and how long: rows, commands, and the clock.

use std::time::Duration;

use crate::base::limits::CLOCK_STEP_INTERVAL;
use crate::dataflow::drift;
use crate::dataflow::graph::Dataflow;
use crate::dataflow::idle::{follow_deadline, idle_deadline, idle_partitions, roused_partitions};
use crate::dataflow::stepper::Stepper;

impl Stepper {
    /// What the clock of steps shows now.
    pub(super) fn now(&self) -> i64 {
        self.options.clock.after(self.clock_micros, self.shown_at)
    }

    pub(super) fn has_work(&self) -> bool {
        let now = self.now();
        !self.staged.is_empty()
            || self.is_step_due
            || self.sources.values().any(|source| {
                drift::has_chunks(source)
                    || follow_deadline(source).is_some_and(|deadline| deadline <= now)
                    || !source.found.is_empty()
                    || !roused_partitions(source).is_empty()
                    || !idle_partitions(source, now).is_empty()
            })
            || self.views.values().any(|view| {
                view.is_waiting(match now >= self.next_clock_step() {
                    true => now,
                    false => i64::MIN,
                })
            })
    }

    /// When the next step may be that only the clock asks for.
    fn next_clock_step(&self) -> i64 {
        let pause = i64::try_from(CLOCK_STEP_INTERVAL.as_micros()).unwrap_or(i64::MAX);
        self.clock_micros.saturating_add(pause)
    }

    /// How long there is nothing to do but wait.
    pub(super) fn timeout(&self) -> Duration {
        if self.has_work() {
            return Duration::ZERO;
        }
        let views = self.views.values().filter_map(Dataflow::deadline);
        let idle = self.sources.values().filter_map(idle_deadline);
        let following = self.sources.values().filter_map(follow_deadline);
        let steps = views
            .map(|deadline| deadline.max(self.next_clock_step()))
            .chain(idle)
            .chain(following)
            .min();
        // Checkpoints go by the wall clock.
        let (now, wall) = (self.now(), self.options.clock.now_micros());
        let checkpoint = self.checkpointer.deadline();
        let waits = [(steps, now), (checkpoint, wall)].into_iter();
        let micros = waits
            .filter_map(|(deadline, now)| Some(deadline?.saturating_sub(now)))
            .min()
            .unwrap_or(i64::MAX);
        let micros = u64::try_from(micros).unwrap_or(0);
        // An hour: nothing is late by it, and the arithmetic of the wait stays in range.
        Duration::from_micros(micros.clamp(1_000, 3_600_000_000))
    }
}
