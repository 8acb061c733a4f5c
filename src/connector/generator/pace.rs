//! When a made-up event has happened: at `rate` events a second, or at once; from the first reader
//! on, or from a moment that was set.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::Clock;
use crate::connector::generator::timeline::Timeline;

/// The pace of a source, shared by all its readers.
#[derive(Debug)]
pub(in crate::connector) struct Pace {
    clock: Clock,
    /// Events a second, of every kind and partition; `None`: all have happened from the start.
    rate: Option<u64>,
    /// Wall clock, microseconds, of the moment before which nothing has happened; `None`: the first
    /// reader decides.
    starts_at: Option<i64>,
    /// A mutex because readers on several threads set it: rarely, and for a few instructions.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// At this wall clock time (microseconds) the events below this number had happened. `None`
    /// until the first reader.
    anchor: Option<(i64, u64)>,
    /// For each partition one past the highest offset that was handed out.
    handed_out: Vec<u64>,
}

impl Pace {
    pub fn new(clock: Clock, rate: Option<u64>, starts_at: Option<i64>, partitions: usize) -> Self {
        let state = State {
            anchor: starts_at.map(|start| (start, 0)),
            handed_out: vec![0; partitions],
        };
        Pace {
            clock,
            rate,
            starts_at,
            state: Mutex::new(state),
        }
    }

    pub fn now_micros(&self) -> i64 {
        self.clock.now_micros()
    }

    /// Says that the events below `number` are known to have happened, by the offsets that a
    /// reader begins with: after a restart the pace goes on where it was. A start that was set
    /// decides alone.
    pub fn begin(&self, number: u64) {
        if self.starts_at.is_some() {
            return;
        }
        let now = self.now_micros();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let happened = state.anchor.map(|anchor| self.happened_since(anchor, now));
        if happened.is_none_or(|happened| happened < number) {
            state.anchor = Some((now, number));
        }
    }

    /// The number of events that have happened, at most `events`.
    pub fn happened(&self, events: u64) -> u64 {
        let now = self.now_micros();
        if self.rate.is_none() {
            let has_begun = self.starts_at.is_none_or(|start| start <= now);
            return if has_begun { events } else { 0 };
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .anchor
            .map_or(0, |anchor| self.happened_since(anchor, now))
            .min(events)
    }

    fn happened_since(&self, (start, number): (i64, u64), now: i64) -> u64 {
        let Some(rate) = self.rate else {
            return u64::MAX;
        };
        let elapsed = u128::try_from(now.saturating_sub(start)).unwrap_or(0);
        let more = elapsed * u128::from(rate) / 1_000_000;
        number.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
    }

    /// How long it is until the event `number` has happened; `None`: it has.
    pub fn wait_for(&self, number: u64) -> Option<Duration> {
        let until_start = self.starts_at.map_or(0, |start| start - self.now_micros());
        if let Some(micros) = u64::try_from(until_start).ok().filter(|&micros| micros > 0) {
            return Some(Duration::from_micros(micros));
        }
        let rate = self.rate?;
        let happened = self.happened(u64::MAX);
        let missing = number
            .saturating_add(1)
            .checked_sub(happened)
            .filter(|&count| count > 0)?;
        let micros = u128::from(missing) * 1_000_000 / u128::from(rate);
        Some(Duration::from_micros(
            u64::try_from(micros).unwrap_or(u64::MAX).max(1),
        ))
    }

    pub fn hand_out(&self, partition: usize, end: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let handed_out = &mut state.handed_out[partition];
        *handed_out = end.max(*handed_out);
    }

    /// The partition's end: one past its last event that has happened. An endless source without
    /// a rate has none: there it is the end of what some reader has had.
    pub fn end(&self, timeline: &Timeline, partition: usize, is_endless: bool) -> u64 {
        if is_endless && self.rate.is_none() {
            return self
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .handed_out[partition];
        }
        match timeline.count_below(partition, self.happened(timeline.events())) {
            0 => 0,
            count => timeline.number_at(partition, count - 1) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_happen_at_their_rate() {
        let clock = Clock::manual(0);
        let pace = Pace::new(clock.clone(), Some(1_000), None, 1);
        assert_eq!(
            pace.happened(u64::MAX),
            0,
            "nothing before the first reader"
        );
        pace.begin(500);
        assert_eq!(
            pace.happened(u64::MAX),
            500,
            "what was read before a restart has happened"
        );
        clock.set_micros(2_000_000);
        assert_eq!(pace.happened(u64::MAX), 2_500);
        assert_eq!(pace.happened(1_000), 1_000);
        pace.begin(0);
        assert_eq!(
            pace.happened(u64::MAX),
            2_500,
            "a reader that starts over changes nothing"
        );
        assert_eq!(pace.wait_for(2_499), None);
        assert_eq!(pace.wait_for(2_500), Some(Duration::from_millis(1)));
    }

    #[test]
    fn without_a_rate_all_has_happened() {
        let pace = Pace::new(Clock::manual(0), None, None, 2);
        let timeline = Timeline::new(2, 1, 0..1, 100);
        assert_eq!(pace.happened(100), 100);
        assert_eq!(pace.end(&timeline, 1, false), 100);
        assert_eq!(pace.end(&timeline, 0, false), 99);
        assert_eq!(pace.end(&timeline, 0, true), 0);
        pace.hand_out(0, 7);
        assert_eq!(pace.end(&timeline, 0, true), 7);
    }

    #[test]
    fn nothing_happens_before_the_start_that_was_set() {
        let clock = Clock::manual(0);
        let at_once = Pace::new(clock.clone(), None, Some(1_000_000), 1);
        let paced = Pace::new(clock.clone(), Some(10), Some(1_000_000), 1);
        for pace in [&at_once, &paced] {
            pace.begin(5);
            assert_eq!(pace.happened(100), 0);
            assert_eq!(pace.wait_for(0), Some(Duration::from_secs(1)));
        }
        clock.set_micros(2_000_000);
        assert_eq!(at_once.happened(100), 100);
        assert_eq!(at_once.wait_for(99), None);
        assert_eq!(paced.happened(100), 10);
    }
}
