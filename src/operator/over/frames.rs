//! Where rows stand, and which rows their functions are of.
//!
//! ```text
//!   x          10   20   20   40       position   0 1 2 3      class  0 1 1 2
//!   RANGE BETWEEN 10 PRECEDING AND CURRENT ROW     of 20, position 1: copies 0 to 3
//!   ROWS  BETWEEN 1 PRECEDING AND CURRENT ROW      of 20, position 2: copies 1 to 3
//! ```
//!
//! A frame is a range of positions; both of its ends rise along the order. Distances in values are
//! added to the row's value, and what comes out is looked for in the order; where the type does not
//! hold it, the bound is the end of the partition, as in Postgres. A row whose value is NULL has
//! its peers in place of what is a distance away.

use std::ops::Range;

use datafusion::scalar::ScalarValue;

use crate::error::{Error, Result};
use crate::operator::over::final_rows::Base;
use crate::operator::over::partitions::Partitions;
use crate::operator::over::parts::{Measured, Part};
use crate::operator::over::spec::{
    Distance, FrameBound, FrameUnits, Nth, OverCall, OverFunction, OverSpec, Shift,
};
use crate::operator::over::tree::{Entry, Placed, Sum, Tree};

/// Where a copy of a row stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub entry: Entry,
    /// Copies before it.
    pub position: i64,
    /// Where classes matter: lower ones, and the positions of its own.
    pub class: i64,
    pub start: i64,
    pub end: i64,
}

/// Which side of a frame a bound is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Start,
    End,
}

/// The order of a partition, at a moment.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub spec: &'a OverSpec,
    pub partitions: &'a Partitions,
    pub tree: &'a Tree,
    /// What was let go of it.
    pub base: Option<&'a Base>,
    /// The measure that counts values that are not NULL, for calls that ignore NULLs.
    pub known: &'a [Option<usize>],
    pub has_classes: bool,
}

impl<'a> Order<'a> {
    pub fn measured(&self) -> &'a Measured {
        self.partitions.measured()
    }

    /// Copies in the partition.
    pub fn rows(&self) -> i64 {
        self.tree.total().rows
    }

    /// Copies and classes that were let go, before all others.
    pub fn let_go(&self) -> Sum {
        self.base.map_or(Sum::default(), |base| base.sum)
    }

    /// The place of the copy at a position.
    pub fn place(&self, position: i64) -> Place {
        let placed = self.tree.at(position).expect("a row stands there");
        let mut place = Place {
            entry: placed.entry,
            position,
            class: 0,
            start: 0,
            end: 0,
        };
        if self.has_classes {
            self.find_class(&mut place, &placed);
        }
        place
    }

    /// Finds out which class a placed entry is of.
    fn find_class(&self, place: &mut Place, placed: &Placed) {
        let is_first = placed.entry.is_first;
        place.class = placed.before.classes + i64::from(is_first) - 1;
        place.start = match is_first {
            true => placed.before.rows,
            false => {
                let first = self.tree.at_class(place.class);
                first.expect("a class has a first row").before.rows
            }
        };
        place.end = self.class_start(place.class.saturating_add(1));
    }

    /// Where a class begins, or the partition ends.
    fn class_start(&self, class: i64) -> i64 {
        if class <= 0 {
            return 0;
        }
        let first = self.tree.at_class(class);
        first.map_or(self.rows(), |placed| placed.before.rows)
    }

    /// The places of some copies from a position on, and how many copies of its row each stands
    /// for: one, where copies are told apart. Returns where the next ones are.
    pub fn places(
        &self,
        range: Range<i64>,
        most: usize,
        places: &mut Vec<(Place, i64)>,
    ) -> Result<i64> {
        let tells_copies = self.spec.tells_copies();
        let mut last: Option<Place> = None;
        let mut next = range.start;
        let most_copies = i64::try_from(most).unwrap_or(i64::MAX);
        let end = match tells_copies {
            true => range.end.min(range.start.saturating_add(most_copies)),
            false => range.end,
        };
        self.tree
            .walk_some(range.start..end, most, &mut |placed: Placed| {
                let first = placed.before.rows.max(range.start);
                let behind = (placed.before.rows + placed.entry.weight).min(end);
                let mut place = Place {
                    entry: placed.entry,
                    position: first,
                    class: 0,
                    start: 0,
                    end: 0,
                };
                match last {
                    Some(last) if !placed.entry.is_first => {
                        (place.class, place.start, place.end) = (last.class, last.start, last.end);
                    }
                    _ if self.has_classes => self.find_class(&mut place, &placed),
                    _ => {}
                }
                last = Some(place);
                next = behind;
                if !tells_copies {
                    places.push((place, behind - first));
                    return;
                }
                for position in first..behind {
                    places.push((Place { position, ..place }, 1));
                }
            });
        if next == range.start {
            return Err(Error::internal("rows of a window are not where they were"));
        }
        Ok(next)
    }

    /// The positions of the rows that a function is of.
    pub fn frame(&self, call: &OverCall, place: &Place) -> Result<Range<i64>> {
        let start = self.bound(call, &call.frame.start, Side::Start, place)?;
        let end = self.bound(call, &call.frame.end, Side::End, place)?;
        Ok(start..end.max(start))
    }

    fn bound(&self, call: &OverCall, bound: &FrameBound, side: Side, place: &Place) -> Result<i64> {
        let rows = self.rows();
        let (distance, sign) = match bound {
            FrameBound::UnboundedPreceding => return Ok(0),
            FrameBound::UnboundedFollowing => return Ok(rows),
            FrameBound::CurrentRow => (None, 1),
            FrameBound::Preceding(distance) => (Some(distance), -1),
            FrameBound::Following(distance) => (Some(distance), 1),
        };
        let count = match distance {
            None => 0,
            Some(Distance::Count(count)) => count.saturating_mul(sign),
            Some(Distance::Value(value)) => return self.value_bound(value, sign, side, place),
        };
        Ok(match (call.frame.units, side) {
            (FrameUnits::Rows, Side::Start) => place.position.saturating_add(count).clamp(0, rows),
            (FrameUnits::Rows, Side::End) => {
                let end = place.position.saturating_add(count).saturating_add(1);
                end.clamp(0, rows)
            }
            (_, Side::Start) if count == 0 => place.start,
            (_, Side::End) if count == 0 => place.end,
            (_, Side::Start) => self.class_start(place.class.saturating_add(count)),
            (_, Side::End) => {
                let behind = place.class.saturating_add(count).saturating_add(1);
                self.class_start(behind)
            }
        })
    }

    /// Where the values begin, or end, that are so far from a row's in the order column.
    fn value_bound(
        &self,
        distance: &ScalarValue,
        sign: i64,
        side: Side,
        place: &Place,
    ) -> Result<i64> {
        let order = self.spec.order[0];
        let value = self.partitions.values(order.column, &[place.entry.slot])?;
        let internal = |cause: datafusion::error::DataFusionError| {
            Error::internal(format!("a distance in an order: {cause}"))
        };
        let value = ScalarValue::try_from_array(&value, 0).map_err(internal)?;
        if value.is_null() {
            return Ok(match side {
                Side::Start => place.start,
                Side::End => place.end,
            });
        }
        // Behind a row stand lesser values where the order falls.
        let is_added = (sign > 0) != order.options.descending;
        let Some(target) = moved(&value, distance, is_added) else {
            return Ok(if sign > 0 {
                self.behind_values()
            } else {
                self.before_values()
            });
        };
        let target = target.to_array().map_err(internal)?;
        let target = self.partitions.encode_order(&target)?;
        let target = target.row(0);
        let target = target.data();
        let rows = self.partitions.rows();
        Ok(match side {
            Side::Start => self.tree.partition_point(|bytes| bytes < target, rows),
            Side::End => {
                let is_up_to = |bytes: &[u8]| bytes < target || bytes.starts_with(target);
                self.tree.partition_point(is_up_to, rows)
            }
        })
    }

    /// Where the rows end whose value is not NULL: no value is further.
    fn behind_values(&self) -> i64 {
        self.nulls().map_or(self.rows(), |nulls| {
            match self.spec.order[0].options.nulls_first {
                true => self.rows(),
                false => nulls.start,
            }
        })
    }

    /// Where they begin.
    fn before_values(&self) -> i64 {
        self.nulls()
            .map_or(0, |nulls| match self.spec.order[0].options.nulls_first {
                true => nulls.end,
                false => 0,
            })
    }

    /// The positions of the rows whose value in the order is NULL.
    fn nulls(&self) -> Option<Range<i64>> {
        let column = self.spec.order[0].column;
        let data_type = self.spec.input.field(column).data_type();
        let null = arrow::array::new_null_array(data_type, 1);
        let null = self.partitions.encode_order(&null).ok()?;
        let null = null.row(0);
        let (null, rows) = (null.data(), self.partitions.rows());
        let start = self.tree.partition_point(|bytes| bytes < null, rows);
        let is_up_to = |bytes: &[u8]| bytes < null || bytes.starts_with(null);
        Some(start..self.tree.partition_point(is_up_to, rows))
    }

    /// The copy, with its position, that `lag` and `lead` take their value from.
    pub fn shifted(&self, call: usize, shift: &Shift, place: &Place) -> Option<(Entry, i64)> {
        if shift.offset == 0 {
            return Some((place.entry, place.position));
        }
        let Some(known) = self.known[call].filter(|_| shift.ignores_nulls) else {
            let position = place.position.checked_sub(shift.offset)?;
            return Some((self.tree.at(position)?.entry, position));
        };
        let number = match shift.offset {
            1.. => self
                .count(place.position, known)
                .checked_sub(shift.offset)?,
            _ => {
                let before = self.count(place.position.saturating_add(1), known);
                before.checked_sub(1)?.checked_sub(shift.offset)?
            }
        };
        self.tree.select(number, known, self.measured())
    }

    /// The copy that a numbered row of a frame is, with its position.
    pub fn numbered(&self, call: usize, nth: &Nth, frame: &Range<i64>) -> Option<(Entry, i64)> {
        if frame.is_empty() {
            return None;
        }
        let Some(known) = self.known[call].filter(|_| nth.ignores_nulls) else {
            let position = match nth.number {
                1.. => frame.start.checked_add(nth.number - 1)?,
                _ => frame.end.checked_add(nth.number)?,
            };
            let placed = frame
                .contains(&position)
                .then(|| self.tree.at(position))??;
            return Some((placed.entry, position));
        };
        let number = match nth.number {
            1.. => self.count(frame.start, known).checked_add(nth.number - 1)?,
            _ => self.count(frame.end, known).checked_add(nth.number)?,
        };
        let found = self.tree.select(number, known, self.measured())?;
        frame.contains(&found.1).then_some(found)
    }

    /// How many of the first copies a measure counts.
    fn count(&self, copies: i64, measure: usize) -> i64 {
        match self.tree.first(copies, measure, self.measured()) {
            Part::Count(count) => count,
            _ => unreachable!("what is counted has a count"),
        }
    }

    /// The positions of which a change can move what a call says of a row: its own is among them.
    pub fn reach(&self, at: usize, place: &Place) -> Result<Range<i64>> {
        let call = &self.spec.calls[at];
        let own = place.position..place.position + 1;
        let with = |range: Range<i64>| range.start.min(own.start)..range.end.max(own.end);
        Ok(match &call.function {
            OverFunction::RowNumber | OverFunction::Ntile(_) => 0..own.end,
            OverFunction::Rank | OverFunction::DenseRank | OverFunction::PercentRank => 0..own.end,
            OverFunction::CumeDist => 0..place.end,
            OverFunction::Shift(shift) => match (self.shifted(at, shift, place), shift.offset) {
                (Some((_, position)), _) => with(position..position + 1),
                (None, 1..) => 0..own.end,
                (None, _) => own.start..self.rows(),
            },
            OverFunction::Nth(nth) => {
                let frame = self.frame(call, place)?;
                match self.numbered(at, nth, &frame) {
                    // What is between the row that counts and the end that it is counted from.
                    Some((_, position)) if nth.number < 0 => with(position..frame.end),
                    Some((_, position)) => with(frame.start..position + 1),
                    None => with(frame),
                }
            }
            OverFunction::Aggregate(_) => with(self.frame(call, place)?),
        })
    }
}

/// The value so far away; `None` where the type does not hold it.
fn moved(value: &ScalarValue, distance: &ScalarValue, is_added: bool) -> Option<ScalarValue> {
    let moved = match is_added {
        true => value.add_checked(distance),
        false => value.sub_checked(distance),
    };
    let moved = moved.ok()?;
    match moved.data_type() == value.data_type() {
        true => Some(moved),
        false => moved.cast_to(&value.data_type()).ok(),
    }
    .filter(|moved| !moved.is_null())
}
