//! When a partition that has no more rows stops holding time back, and when it does so again.
//!
//! A partition is idle when a fetch has confirmed that it is read to its end and no row has come
//! for the source's `watermark.idle_timeout`; one that was empty from the beginning is idle at
//! once. Becoming idle and active are events of a step and journaled with it: they move the
//! watermark.
//!
//! ```text
//!   p0 idle, p1 idle ─ restart, or trouble ─► both active ─ p1's end confirmed anew ─► p1 idle
//!                                             rows of the time in between are not late
//! ```
//!
//! With `watermark.advance_when_idle` time goes on by the clock of steps while all are idle. That
//! is no event: it follows from who is idle and from the clock, which are journaled.
//!
//! What was confirmed holds as long as the reader that confirmed it goes on undisturbed. After a
//! restart or an outage every partition is active: it may have rows of the time in which nobody
//! looked, and they must not be late because another partition's were read first.

use std::collections::BTreeMap;

use crate::base::limits::WATERMARK_FOLLOW_INTERVAL;
use crate::base::{Offset, PartitionId};
use crate::dataflow::reader::ReaderThread;
use crate::dataflow::reading::Source;
use crate::dataflow::source::{PartitionState, SourceState};

/// Partitions that have just become idle.
pub(super) fn idle_partitions(source: &Source, now: i64) -> Vec<PartitionId> {
    let timeout = source.state.spec().idle_timeout_micros;
    let is_idle = |state: &PartitionState| {
        state.rows == 0 || now.saturating_sub(state.row_at_micros) >= timeout
    };
    let partitions = silent_partitions(source).into_iter();
    partitions
        .filter(|(_, state)| is_idle(state))
        .map(|(partition, _)| partition)
        .collect()
}

/// Idle partitions whose ends are not certain any more: they are active again.
pub(super) fn roused_partitions(source: &Source) -> Vec<PartitionId> {
    let is_interrupted = source
        .reader
        .as_ref()
        .is_some_and(ReaderThread::is_interrupted);
    match source.is_unconfirmed || is_interrupted {
        true => roused(&source.state),
        false => Vec::new(),
    }
}

/// When the next partition will be idle if no row comes.
pub(super) fn idle_deadline(source: &Source) -> Option<i64> {
    let timeout = source.state.spec().idle_timeout_micros;
    let partitions = silent_partitions(source).into_iter();
    partitions
        .map(|(_, state)| state.row_at_micros.saturating_add(timeout))
        .min()
}

/// When the watermark is to follow the clock next, of a source that says nothing.
pub(super) fn follow_deadline(source: &Source) -> Option<i64> {
    let interval = i64::try_from(WATERMARK_FOLLOW_INTERVAL.as_micros()).unwrap_or(i64::MAX);
    let state = &source.state;
    (source.is_running && state.follows_clock())
        .then(|| state.followed_micros().saturating_add(interval))
}

/// Active partitions that are known to be read to their end, of a source that tells time.
fn silent_partitions(source: &Source) -> Vec<(PartitionId, PartitionState)> {
    match &source.reader {
        Some(reader) if reader.is_filled() => Vec::new(),
        Some(reader) => silent(&source.state, &reader.at_end()),
        // An embedded topic has no rows that its step has not seen.
        None if source.state.spec().is_embedded => {
            let partitions = source.state.partitions.iter();
            let ends = partitions.map(|(partition, state)| (*partition, state.position));
            silent(&source.state, &ends.collect())
        }
        None => Vec::new(),
    }
}

fn silent(
    source: &SourceState,
    at_end: &BTreeMap<PartitionId, Offset>,
) -> Vec<(PartitionId, PartitionState)> {
    let spec = source.spec();
    if spec.idle_timeout_micros == 0 || spec.watermark.is_none() {
        return Vec::new();
    }
    let is_silent = |(partition, state): &(&PartitionId, &PartitionState)| {
        !state.is_idle && at_end.get(*partition) == Some(&state.position)
    };
    let partitions = source.partitions.iter().filter(is_silent);
    partitions
        .map(|(partition, state)| (*partition, *state))
        .collect()
}

fn roused(source: &SourceState) -> Vec<PartitionId> {
    if source.spec().is_embedded {
        return Vec::new();
    }
    let idle = source.partitions.iter().filter(|(_, state)| state.is_idle);
    idle.map(|(partition, _)| *partition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::EventTime;
    use crate::dataflow::oracle::relation::World;

    /// A source of two partitions that were read to 5 and 7; the second is idle.
    fn source(is_embedded: bool) -> SourceState {
        let world = World::new();
        let relation = &world.relations[world.relation("s")];
        let mut spec = relation.source.clone().unwrap();
        spec.idle_timeout_micros = 1_000;
        spec.is_embedded = is_embedded;
        let mut source = SourceState::new(spec, Vec::new()).unwrap();
        let mut partitions = BTreeMap::new();
        for (id, position, is_idle) in [(0, 5, false), (1, 7, true)] {
            let state = PartitionState {
                position: Offset(position),
                watermark: EventTime(i64::try_from(position).unwrap()),
                is_idle,
                row_at_micros: 0,
                rows: position,
                bad: 0,
                skipped: 0,
                rows_ahead: 0,
            };
            partitions.insert(PartitionId(id), state);
        }
        source.restore(partitions, (EventTime(5), 0));
        source
    }

    fn ids(partitions: Vec<(PartitionId, PartitionState)>) -> Vec<u32> {
        partitions.iter().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn only_a_confirmed_end_makes_a_partition_silent() {
        let source = source(false);
        let at = |id, offset| BTreeMap::from([(PartitionId(id), Offset(offset))]);
        assert_eq!(ids(silent(&source, &at(0, 5))), [0]);
        assert!(silent(&source, &at(0, 4)).is_empty(), "it has gone on");
        assert!(silent(&source, &BTreeMap::new()).is_empty());
        assert!(silent(&source, &at(1, 7)).is_empty(), "it is idle already");
    }

    #[test]
    fn the_idle_are_roused_and_time_does_not_go_back() {
        let mut source = source(false);
        assert_eq!(roused(&source), [PartitionId(1)]);
        let before = source.watermark();
        source.set_idle(PartitionId(1), false);
        assert_eq!(source.watermark(), before.max(EventTime(5)));
        assert!(roused(&source).is_empty());
        let confirmed = BTreeMap::from([(PartitionId(1), Offset(7))]);
        assert_eq!(ids(silent(&source, &confirmed)), [1]);
    }

    #[test]
    fn a_topic_of_this_server_needs_no_confirmation() {
        assert!(roused(&self::source(true)).is_empty());
    }
}
