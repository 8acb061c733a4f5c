//! When a partition that has no more rows stops holding time back.
//!
//! A partition is idle when a fetch has confirmed that it is read to its end and no row has come
//! for the source's `watermark.idle_timeout`; one that was empty from the beginning is idle at
//! once. Becoming idle is an event of a step and journaled with it: it moves the watermark.

use crate::base::PartitionId;
use crate::dataflow::source::PartitionState;
use crate::dataflow::stepper::Source;

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

/// When the next partition will be idle if no row comes.
pub(super) fn idle_deadline(source: &Source) -> Option<i64> {
    let timeout = source.state.spec().idle_timeout_micros;
    let partitions = silent_partitions(source).into_iter();
    partitions
        .map(|(_, state)| state.row_at_micros.saturating_add(timeout))
        .min()
}

/// Active partitions that are known to be read to their end, of a source that tells time.
fn silent_partitions(source: &Source) -> Vec<(PartitionId, PartitionState)> {
    let spec = source.state.spec();
    if spec.idle_timeout_micros == 0 || spec.watermark.is_none() {
        return Vec::new();
    }
    let at_end = match &source.reader {
        Some(reader) if reader.is_filled() => return Vec::new(),
        Some(reader) => reader.at_end(),
        // An embedded topic has no rows that its step has not seen.
        None if spec.is_embedded => {
            let partitions = source.state.partitions.iter();
            partitions
                .map(|(partition, state)| (*partition, state.position))
                .collect()
        }
        None => return Vec::new(),
    };
    let is_silent = |(partition, state): &(&PartitionId, &PartitionState)| {
        !state.is_idle && at_end.get(*partition) == Some(&state.position)
    };
    let partitions = source.state.partitions.iter().filter(is_silent);
    partitions
        .map(|(partition, state)| (*partition, *state))
        .collect()
}
