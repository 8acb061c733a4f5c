//! Which event numbers belong to a partition.
//!
//! A generator's events come in cycles of fixed length (50 in Nexmark: one person, three auctions,
//! 46 bids) and a source takes some places of the cycle. Together with `number % partitions` this
//! repeats after their least common multiple, so the partition's events can be counted and
//! addressed without walking over the others.
//!
//! ```text
//!   cycle 5, places 1..3, partition 1 of 2:   1 | 2  6  7 | 11 12 …  odd ones: 1, 7, 11, 17 …
//!   period 10, residues [1, 7]                index 0 → 1, 1 → 7, 2 → 11, 3 → 17
//! ```

use std::ops::Range;

/// The events of each partition of a source.
#[derive(Debug)]
pub(in crate::connector) struct Timeline {
    period: u64,
    /// For each partition its numbers below `period`, rising.
    residues: Vec<Vec<u64>>,
    /// The number of events in all, of every kind.
    events: u64,
}

impl Timeline {
    /// Of a source that takes the places in `places` of every cycle of `cycle` numbers.
    ///
    /// # Panics
    /// Without partitions or with an empty cycle.
    pub fn new(partitions: u32, cycle: u64, places: Range<u64>, events: u64) -> Self {
        assert!(
            partitions > 0 && cycle > 0,
            "a timeline has a partition and a cycle"
        );
        let partitions = u64::from(partitions);
        let period = partitions * cycle / greatest_common_divisor(partitions, cycle);
        let residues = (0..partitions).map(|partition| {
            let own = (partition..period).step_by(usize::try_from(partitions).unwrap_or(1));
            own.filter(|number| places.contains(&(number % cycle)))
                .collect()
        });
        Timeline {
            period,
            residues: residues.collect(),
            events,
        }
    }

    /// The number of partitions.
    pub fn partitions(&self) -> usize {
        self.residues.len()
    }

    /// The number of events in all, of every kind and partition; numbers are below it.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How many events of the partition have numbers below `number`.
    pub fn count_below(&self, partition: usize, number: u64) -> u64 {
        let residues = &self.residues[partition];
        let within = residues.partition_point(|&residue| residue < number % self.period);
        number / self.period * length(residues.len()) + length(within)
    }

    /// The number of the partition's event with this index; the partition must not be empty.
    pub fn number_at(&self, partition: usize, index: u64) -> u64 {
        let residues = &self.residues[partition];
        let count = length(residues.len());
        let place = usize::try_from(index % count).expect("a remainder of a vector's length");
        index / count * self.period + residues[place]
    }

    /// Puts the numbers of the partition's events with the given indices into `numbers`.
    pub fn fill(&self, partition: usize, indices: Range<u64>, numbers: &mut Vec<u64>) {
        numbers.clear();
        let residues = &self.residues[partition];
        if indices.is_empty() || residues.is_empty() {
            return;
        }
        let count = length(residues.len());
        let mut base = indices.start / count * self.period;
        let mut place = usize::try_from(indices.start % count).expect("below a vector's length");
        for _ in indices {
            numbers.push(base + residues[place]);
            place += 1;
            if place == residues.len() {
                place = 0;
                base += self.period;
            }
        }
    }
}

fn length(count: usize) -> u64 {
    u64::try_from(count).expect("a usize fits 64 bits")
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_share_the_events_of_the_kind() {
        for partitions in [1, 2, 3, 7, 50, 64] {
            let timeline = Timeline::new(partitions, 50, 4..50, 10_000);
            let mut all = Vec::new();
            let mut numbers = Vec::new();
            for partition in 0..timeline.partitions() {
                let count = timeline.count_below(partition, 10_000);
                timeline.fill(partition, 0..count, &mut numbers);
                for (index, &number) in (0..).zip(&numbers) {
                    assert_eq!(timeline.number_at(partition, index), number);
                    assert_eq!(timeline.count_below(partition, number), index);
                    assert_eq!(number % u64::from(partitions), length(partition));
                }
                all.extend_from_slice(&numbers);
            }
            all.sort_unstable();
            assert!(
                all.iter()
                    .copied()
                    .eq((0..10_000).filter(|number| number % 50 >= 4))
            );
        }
    }

    #[test]
    fn a_partition_may_be_empty() {
        let timeline = Timeline::new(2, 2, 0..1, 100);
        assert_eq!(timeline.count_below(1, 100), 0);
        let mut numbers = vec![1];
        timeline.fill(1, 0..5, &mut numbers);
        assert!(numbers.is_empty());
    }
}
