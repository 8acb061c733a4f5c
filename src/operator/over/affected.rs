//! Which rows a step's changes may have moved.
//!
//! Between two changed rows stand rows that have not changed themselves: a piece of the order. In
//! each piece the rows that a change before it reaches are the first ones, and those that a change
//! behind it reaches are the last ones, because what a row depends on is one range of the order
//! that the row is in, and both ends of it rise along the order.
//!
//! ```text
//!   lag(x), sum(x) OVER (… ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)
//!
//!   a b c d e f g h         + k behind c:    a b c [k d e] f g h      k, and the two behind it
//!   sum(x) OVER (ORDER BY …)                 a b c [k d e f g h]      to the end
//!   max(x) OVER (ORDER BY …)                 a b c [k d] e f g h      until what is so far the
//!                                                                     greatest is what it was
//! ```
//!
//! A function of all rows so far has no nearer end than the partition's; but from where what it has
//! added up is what it was, nothing more changes. Where that is is searched for, too: a piece whose
//! last row still differs differs everywhere, others are halved.

use std::ops::Range;

use crate::error::Result;
use crate::operator::over::evaluation::Source;
use crate::operator::over::frames::{Order, Place};
use crate::operator::over::spec::OverFunction;

/// A partition before a step and after it.
#[derive(Clone, Copy)]
pub(super) struct Both<'a> {
    pub old: Order<'a>,
    pub new: Order<'a>,
    pub sources: &'a [Source],
}

/// A row whose weight a step changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changed {
    pub partition: u32,
    pub slot: u32,
    pub old: i64,
    pub new: i64,
    /// Copies that stood before it before the step.
    pub position: i64,
}

/// Positions before and after a step of what is to be looked at: unchanged rows in both, and
/// changed ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub old: Range<i64>,
    pub new: Range<i64>,
}

/// Rows that have not changed, between changed ones.
struct Piece {
    /// After the step.
    rows: Range<i64>,
    /// How many more copies there are before it than there were.
    shift: i64,
    is_first: bool,
    is_last: bool,
}

/// Where the change stands that is asked whether it reaches rows of a piece.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Before them.
    Before,
    /// Behind them.
    Behind,
}

impl Both<'_> {
    /// The regions that changes of a partition, in their order and done already, have moved.
    pub fn regions(&self, changed: &[Changed]) -> Result<Vec<Region>> {
        let mut regions = Vec::new();
        let mut shift = 0;
        let mut old_end = 0;
        for (at, row) in changed.iter().enumerate() {
            let piece = Piece {
                rows: old_end + shift..row.position + shift,
                shift,
                is_first: at == 0,
                is_last: false,
            };
            self.look(&piece, &mut regions)?;
            let new = row.position + shift;
            let region = Region {
                old: row.position..row.position + row.old,
                new: new..new + row.new,
            };
            add(&mut regions, region);
            shift += row.new - row.old;
            old_end = row.position + row.old;
        }
        let piece = Piece {
            rows: old_end + shift..self.new.rows(),
            shift,
            is_first: changed.is_empty(),
            is_last: true,
        };
        self.look(&piece, &mut regions)?;
        Ok(regions)
    }

    /// Adds what of a piece is reached.
    fn look(&self, piece: &Piece, regions: &mut Vec<Region>) -> Result<()> {
        if piece.rows.is_empty() {
            return Ok(());
        }
        let length = piece.rows.end - piece.rows.start;
        let (mut first, mut last) = (0, 0);
        for at in 0..self.sources.len() {
            if first + last >= length {
                break;
            }
            if self.new.spec.calls[at].counts_all() && self.old.rows() != self.new.rows() {
                first = length;
                break;
            }
            if !piece.is_first {
                first = first.max(self.reached(at, piece, Change::Before, length)?);
            }
            if !piece.is_last {
                last = last.max(self.reached(at, piece, Change::Behind, length)?);
            }
        }
        let whole = &piece.rows;
        let ranges = match first + last >= length {
            true => [whole.clone(), 0..0],
            false => [
                whole.start..whole.start + first,
                whole.end - last..whole.end,
            ],
        };
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            let old = range.start - piece.shift..range.end - piece.shift;
            add(regions, Region { old, new: range });
        }
        Ok(())
    }

    /// How many rows of a piece, from the side of a change on, it reaches by a call.
    fn reached(&self, at: usize, piece: &Piece, from: Change, length: i64) -> Result<i64> {
        let position = |number: i64| match from {
            Change::Before => piece.rows.start + number,
            Change::Behind => piece.rows.end - 1 - number,
        };
        let adds_up = self.adds_up(at, from);
        let is_reached = |number: i64| -> Result<bool> {
            let new = self.new.place(position(number));
            let old = self.old.place(position(number) - piece.shift);
            match adds_up {
                true => self.differs(at, piece, from, (&old, &new)),
                false => self.is_in_reach(at, piece, from, (&old, &new)),
            }
        };
        if adds_up {
            // What differs at the far end differs from here to there.
            if is_reached(length - 1)? {
                return Ok(length);
            }
        }
        if !is_reached(0)? {
            return Ok(0);
        }
        // The last that is known to be reached, and the first that is known not to be.
        let (mut reached, mut free) = (0, length);
        let mut stride = 1;
        while reached + stride < free {
            match is_reached(reached + stride)? {
                true => reached += stride,
                false => free = reached + stride,
            }
            stride *= 2;
        }
        while reached + 1 < free {
            let middle = reached + (free - reached) / 2;
            match is_reached(middle)? {
                true => reached = middle,
                false => free = middle,
            }
        }
        Ok(reached + 1)
    }

    /// Whether a call says of a row what is added up from the first one on, or up to the last.
    fn adds_up(&self, at: usize, from: Change) -> bool {
        let call = &self.new.spec.calls[at];
        let is_open = match from {
            Change::Before => !call.frame.has_start(),
            Change::Behind => !call.frame.has_end(),
        };
        match &call.function {
            OverFunction::RowNumber
            | OverFunction::Rank
            | OverFunction::DenseRank
            | OverFunction::PercentRank
            | OverFunction::CumeDist
            | OverFunction::Ntile(_) => from == Change::Before,
            OverFunction::Shift(_) => false,
            OverFunction::Nth(nth) => is_open && (nth.number > 0) == (from == Change::Before),
            OverFunction::Aggregate(_) => is_open,
        }
    }

    /// Whether what a row depends on has a changed row in it, or has one no more.
    fn is_in_reach(
        &self,
        at: usize,
        piece: &Piece,
        from: Change,
        (old, new): (&Place, &Place),
    ) -> Result<bool> {
        let (start, end) = (piece.rows.start, piece.rows.end);
        let is_over = |reach: Range<i64>, shift: i64| match from {
            Change::Before => reach.start < start - shift,
            Change::Behind => reach.end > end - shift,
        };
        Ok(is_over(self.new.reach(at, new)?, 0) || is_over(self.old.reach(at, old)?, piece.shift))
    }

    /// Whether what is added up for a row is not what it was, or has not come to the change yet.
    fn differs(
        &self,
        at: usize,
        piece: &Piece,
        from: Change,
        (old, new): (&Place, &Place),
    ) -> Result<bool> {
        let call = &self.new.spec.calls[at];
        let has_frame = matches!(
            call.function,
            OverFunction::Nth(_) | OverFunction::Aggregate(_)
        );
        if has_frame {
            let (old, new) = (self.old.frame(call, old)?, self.new.frame(call, new)?);
            let has_come = match from {
                Change::Before => {
                    let start = piece.rows.start;
                    new.end >= start && old.end >= start - piece.shift
                }
                Change::Behind => {
                    let end = piece.rows.end;
                    new.start <= end && old.start <= end - piece.shift
                }
            };
            if !has_come {
                return Ok(true);
            }
        }
        let source = &self.sources[at];
        let new = self.new.state(at, source, new)?;
        let old = self.old.state(at, source, old)?;
        Ok(!self.new.is_same(source, &old, &new))
    }
}

/// Adds a region, to the last one if it is next to it.
fn add(regions: &mut Vec<Region>, region: Region) {
    if let Some(last) = regions.last_mut()
        && last.new.end == region.new.start
        && last.old.end == region.old.start
    {
        last.new.end = region.new.end;
        last.old.end = region.old.end;
        return;
    }
    regions.push(region);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_that_touch_are_one() {
        let mut regions = Vec::new();
        let region = |old, new| Region { old, new };
        add(&mut regions, region(0..0, 0..1));
        add(&mut regions, region(0..2, 1..3));
        add(&mut regions, region(3..4, 4..5));
        assert_eq!(regions, [region(0..2, 0..3), region(3..4, 4..5)]);
    }
}
