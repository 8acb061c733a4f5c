//! The numbers of rows, the limits on them, and which rows are within.
//!
//! ```text
//!   x            30   20   20   10       a Place counts what is before: row_number − 1, rank − 1,
//!   row_number    1    2    3    4       dense_rank − 1
//!   rank          1    2    2    4
//!   dense_rank    1    2    2    3       rank <= 2 and row_number > 1: the second and third
//! ```
//!
//! Every number rises along the order, so what is within is one piece of it.

use std::ops::Range;

use crate::operator::rows::RowStore;
use crate::operator::top::spec::{RankFunction, RankRange, TopSpec};
use crate::operator::top::tree::{Placed, Sum, Tree};

/// What is before a row; or by how much that has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Copies of rows.
    pub rows: i64,
    /// Copies of rows of lower classes.
    pub rank: i64,
    /// Lower classes.
    pub class: i64,
}

/// The copies of a row that are within the limits, by the number of copies before each, and the
/// numbers that they share.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub copies: Range<i64>,
    pub place: Place,
}

impl Kept {
    pub const NOTHING: Kept = Kept {
        copies: 0..0,
        place: Place {
            rows: 0,
            rank: 0,
            class: 0,
        },
    };
}

/// What of the numbers is asked for.
pub(super) struct Ranking {
    limits: [RankRange; 3],
    shown: Vec<RankFunction>,
    has_classes: bool,
}

impl Ranking {
    pub fn new(spec: &TopSpec) -> Ranking {
        Ranking {
            limits: spec.limits,
            shown: spec.shown.clone(),
            has_classes: spec.has_classes(),
        }
    }

    /// Whether it matters which rows are equal in the order columns.
    pub fn has_classes(&self) -> bool {
        self.has_classes
    }

    pub fn shown(&self) -> &[RankFunction] {
        &self.shown
    }

    pub fn shows(&self, function: RankFunction) -> bool {
        self.shown.contains(&function)
    }

    /// Whether two places show the same numbers, but for that of the copy.
    pub fn is_alike(&self, a: &Place, b: &Place) -> bool {
        (a.rank == b.rank || !self.shows(RankFunction::Rank))
            && (a.class == b.class || !self.shows(RankFunction::DenseRank))
    }

    fn limit(&self, function: RankFunction) -> RankRange {
        self.limits[function as usize]
    }

    fn is_limited(&self, function: RankFunction) -> bool {
        self.limit(function) != RankRange::ALL
    }

    /// The place of an entry, which is among the rows of the tree.
    pub fn place(&self, tree: &Tree, placed: &Placed, rows: &RowStore) -> Place {
        let before = placed.before;
        if !self.has_classes {
            return Place {
                rows: before.rows,
                ..Place::default()
            };
        }
        let class = before.classes + i64::from(placed.entry.is_first()) - 1;
        let rank = match placed.entry.is_first() {
            true => before.rows,
            false => {
                let first = tree.at_class(class, rows).expect("a class has a first row");
                first.before.rows
            }
        };
        Place {
            rows: before.rows,
            rank,
            class,
        }
    }

    /// What of a row's copies is within the limits.
    pub fn kept(&self, place: Place, weight: i64) -> Kept {
        let is_in = |function, before: i64| {
            let limit = self.limit(function);
            (limit.least - 1..limit.greatest).contains(&before)
        };
        let copies = self.limit(RankFunction::RowNumber);
        let is_kept =
            is_in(RankFunction::Rank, place.rank) && is_in(RankFunction::DenseRank, place.class);
        let start = place.rows.max(copies.least - 1);
        let end = match is_kept {
            true => (place.rows + weight).min(copies.greatest),
            false => start,
        };
        Kept {
            copies: start..end.max(start),
            place,
        }
    }

    /// How far a shift of places matters: what no limit and no column asks for does not.
    pub fn relevant(&self, shift: Place) -> Place {
        let is_asked = |function| self.is_limited(function) || self.shows(function);
        let pick = |function, number| if is_asked(function) { number } else { 0 };
        Place {
            rows: pick(RankFunction::RowNumber, shift.rows),
            rank: pick(RankFunction::Rank, shift.rank),
            class: pick(RankFunction::DenseRank, shift.class),
        }
    }

    /// Whether rows whose places have shifted show other numbers.
    pub fn renumbers(&self, shift: Place) -> bool {
        shift.rows != 0 && self.shows(RankFunction::RowNumber)
            || shift.rank != 0 && self.shows(RankFunction::Rank)
            || shift.class != 0 && self.shows(RankFunction::DenseRank)
    }

    /// The copies that would be within the limits if every place were less by the shift: what was
    /// within before places rose by so much.
    pub fn span(&self, tree: &Tree, total: Sum, shift: Place, rows: &RowStore) -> Range<i64> {
        let (mut start, mut end) = (0, total.rows);
        for function in RankFunction::ALL {
            if !self.is_limited(function) {
                continue;
            }
            let limit = self.limit(function);
            // Shifts are small beside what a number may be.
            let by = match function {
                RankFunction::RowNumber => shift.rows,
                RankFunction::Rank => shift.rank,
                RankFunction::DenseRank => shift.class,
            };
            let least = (limit.least - 1).saturating_add(by);
            start = start.max(self.first(function, least, tree, total, rows));
            if limit.is_bounded() {
                let behind = limit.greatest.saturating_add(by);
                end = end.min(self.first(function, behind, tree, total, rows));
            }
        }
        start..end.max(start)
    }

    /// How many copies stand before the first row behind all limits.
    pub fn end(&self, tree: &Tree, total: Sum, rows: &RowStore) -> i64 {
        let bounded = RankFunction::ALL.into_iter();
        let bounded = bounded.filter(|&function| self.limit(function).is_bounded());
        let ends = bounded.map(|function| {
            let behind = self.limit(function).greatest;
            self.first(function, behind, tree, total, rows)
        });
        ends.fold(total.rows, i64::min)
    }

    /// Copies before the first row, or copy, before which the function counts at least `number`.
    fn first(
        &self,
        function: RankFunction,
        number: i64,
        tree: &Tree,
        total: Sum,
        rows: &RowStore,
    ) -> i64 {
        if number <= 0 {
            return 0;
        }
        let of_class = |class| {
            let first = tree.at_class(class, rows);
            first.map_or(total.rows, |placed| placed.before.rows)
        };
        match function {
            RankFunction::RowNumber => number.min(total.rows),
            RankFunction::DenseRank => of_class(number),
            RankFunction::Rank => match tree.at(number, rows) {
                None => total.rows,
                Some(placed) => {
                    let place = self.place(tree, &placed, rows);
                    if place.rank >= number {
                        place.rank
                    } else {
                        of_class(place.class + 1)
                    }
                }
            },
        }
    }
}
