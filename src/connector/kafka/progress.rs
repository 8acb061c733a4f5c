//! How far a partition is read, and where its chunks must be cut.
//!
//! ```text
//!   offsets      0  1  2  3  ·  ·  6  7  ·        (4, 5 compacted away, 8 a control record)
//!   boundaries            ▲3    ▲5                until ▲9
//!   chunks       [0 ···· 3)[3 · 5)[5 ······· 9)
//! ```
//!
//! A boundary may stand where there is no record. What proves that it is reached is the next
//! record at or behind it, or the end of the partition, whichever comes first.

use std::collections::VecDeque;

use crate::base::{Offset, PartitionId};
use crate::connector::ReadRange;

/// The reading of one partition.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) partition: PartitionId,
    /// First offset that no chunk has covered yet.
    start: u64,
    /// Everything before it has been seen.
    position: u64,
    boundaries: VecDeque<u64>,
    until: Option<u64>,
    is_finished: bool,
    /// The least of boundaries and `until`; `u64::MAX` where there is none. One comparison per
    /// record decides by it.
    next_cut: u64,
}

/// A place at which a chunk must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) from: Offset,
    pub(super) to: Offset,
    /// It is `until`: nothing follows.
    pub(super) is_last: bool,
}

impl Progress {
    pub(super) fn new(range: ReadRange) -> Self {
        let start = range.from.0;
        let until = range.until.map(|offset| offset.0);
        let mut boundaries: VecDeque<u64> = range
            .boundaries
            .into_iter()
            .map(|offset| offset.0)
            .filter(|cut| *cut > start && until.is_none_or(|until| *cut < until))
            .collect();
        boundaries.make_contiguous().sort_unstable();
        let mut progress = Progress {
            partition: range.partition,
            start,
            position: start,
            boundaries,
            until,
            is_finished: false,
            next_cut: u64::MAX,
        };
        progress.look_ahead();
        progress
    }

    pub(super) fn is_finished(&self) -> bool {
        self.is_finished
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Whether the reading repeats what was read before: it has cuts to keep to.
    pub(super) fn is_replay(&self) -> bool {
        self.next_cut != u64::MAX
    }

    /// Whether a cut stands at or before an offset up to which everything is now seen.
    pub(super) fn is_cut_due(&self, seen: u64) -> bool {
        self.next_cut <= seen
    }

    /// Takes note that everything before `seen` has been seen and gives the first cut that this
    /// makes due; call again until there is none.
    pub(super) fn take_cut(&mut self, seen: u64) -> Option<Cut> {
        if self.is_finished || self.next_cut > seen {
            return None;
        }
        let to = self.next_cut;
        let cut = Cut {
            from: Offset(self.start),
            to: Offset(to),
            is_last: self.until.is_some_and(|until| until <= to),
        };
        self.start = self.start.max(to);
        self.position = self.position.max(to);
        self.is_finished = cut.is_last;
        self.boundaries.pop_front_if(|boundary| *boundary <= to);
        self.look_ahead();
        Some(cut)
    }

    /// Everything before `seen` has been seen; no cut stands before it.
    pub(super) fn advance(&mut self, seen: u64) {
        debug_assert!(!self.is_cut_due(seen.saturating_sub(1)));
        self.position = self.position.max(seen);
    }

    /// Ends a chunk at the position; `None` where it would cover nothing.
    pub(super) fn cut_here(&mut self) -> Option<Cut> {
        if self.position == self.start {
            return None;
        }
        let cut = Cut {
            from: Offset(self.start),
            to: Offset(self.position),
            is_last: false,
        };
        self.start = self.position;
        Some(cut)
    }

    fn look_ahead(&mut self) {
        let boundary = self.boundaries.front().copied().unwrap_or(u64::MAX);
        self.next_cut = match self.until {
            Some(until) if !self.is_finished => boundary.min(until),
            _ => boundary,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::Progress;
    use crate::base::{Offset, PartitionId};
    use crate::connector::ReadRange;

    fn progress(from: u64, boundaries: &[u64], until: Option<u64>) -> Progress {
        Progress::new(ReadRange {
            partition: PartitionId(0),
            from: Offset(from),
            boundaries: boundaries.iter().map(|cut| Offset(*cut)).collect(),
            until: until.map(Offset),
        })
    }

    /// Feeds records and then the partition's end, as the reader does; the chunks as text.
    fn chunks(mut progress: Progress, records: &[u64], end: u64) -> String {
        let mut text = String::new();
        let mut show = |cut: super::Cut| {
            let mark = if cut.is_last { "!" } else { "" };
            text.push_str(&format!("[{},{}){mark}", cut.from, cut.to));
        };
        for record in records {
            while let Some(cut) = progress.take_cut(*record) {
                show(cut);
            }
            if progress.is_finished() {
                return text;
            }
            progress.advance(record + 1);
            while let Some(cut) = progress.take_cut(record + 1) {
                show(cut);
            }
        }
        while let Some(cut) = progress.take_cut(end) {
            show(cut);
        }
        if !progress.is_finished() {
            progress.advance(end);
            progress.cut_here().into_iter().for_each(show);
        }
        text
    }

    #[test]
    fn a_tail_is_cut_nowhere_but_where_it_stops() {
        assert_eq!(chunks(progress(0, &[], None), &[0, 1, 2], 3), "[0,3)");
        assert_eq!(chunks(progress(5, &[], None), &[], 5), "");
    }

    #[test]
    fn boundaries_are_kept_even_where_no_record_stands() {
        let records = [0, 1, 2, 3, 6, 7];
        assert_eq!(
            chunks(progress(0, &[3, 5], Some(9)), &records, 9),
            "[0,3)[3,5)[5,9)!"
        );
        assert_eq!(
            chunks(progress(0, &[3, 5], None), &records, 9),
            "[0,3)[3,5)[5,9)"
        );
        // The end of the partition proves a boundary that no record follows.
        assert_eq!(chunks(progress(6, &[8, 9], None), &[6, 7], 9), "[6,8)[8,9)");
    }

    #[test]
    fn until_ends_the_reading_in_a_gap_and_before_the_end() {
        assert_eq!(chunks(progress(0, &[], Some(5)), &[0, 3, 6], 7), "[0,5)!");
        assert_eq!(chunks(progress(0, &[5], Some(5)), &[0, 4, 5], 6), "[0,5)!");
        assert_eq!(chunks(progress(0, &[1], Some(2)), &[4], 5), "[0,1)[1,2)!");
    }

    #[test]
    fn cuts_at_or_before_the_start_mean_nothing() {
        assert_eq!(
            chunks(progress(4, &[2, 4, 5], None), &[4, 5], 6),
            "[4,5)[5,6)"
        );
    }

    #[test]
    fn an_empty_range_is_finished_with_an_empty_cut() {
        let mut progress = progress(7, &[], Some(7));
        let cut = progress.take_cut(7).unwrap();
        assert!(cut.is_last && cut.from == cut.to && progress.is_finished());
    }

    #[test]
    fn a_replay_lasts_until_its_last_cut() {
        let mut progress = progress(0, &[2], None);
        assert!(progress.is_replay());
        progress.advance(2);
        assert!(progress.take_cut(2).is_some());
        assert!(!progress.is_replay());
    }
}
