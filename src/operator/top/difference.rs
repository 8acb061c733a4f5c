//! What a step's changes of a group move over its limits.
//!
//! Between two changed rows, in order, every row's place has shifted by the same: by the copies,
//! and classes, that have come and gone before. So nothing of what was out has to be remembered:
//!
//! ```text
//!   limit row_number <= 3      before   a b d e         + c, of one copy
//!                              after    a b c d e
//!   behind c all places have shifted by 1: before, copies 3 + 1 and less of them were within;
//!   now it is 3 and less: d goes. The rows before c are not looked at.
//! ```

use std::ops::Range;

use crate::operator::rows::RowStore;
use crate::operator::top::groups::Groups;
use crate::operator::top::ranking::{Kept, Place, Ranking};
use crate::operator::top::spec::RankFunction;
use crate::operator::top::tree::{Placed, Tree};

/// A row that a step changes, with what was known of it before.
pub(super) struct Changed {
    pub group: u32,
    pub slot: u32,
    pub old: i64,
    pub new: i64,
    /// Where it stood before the step, or would have.
    pub place: Place,
    /// Where the row behind it stood, if classes matter and there was one.
    pub next: Place,
}

/// Rows to be put out, by slot, with weights and their numbers.
#[derive(Default)]
pub(super) struct Emission {
    pub slots: Vec<u32>,
    pub weights: Vec<i64>,
    /// As many per row as are shown.
    pub numbers: Vec<i64>,
}

impl Emission {
    /// What a row had out goes, what it has now comes, where these differ.
    pub fn change(&mut self, ranking: &Ranking, slot: u32, old: &Kept, new: &Kept) {
        let is_alike = ranking.is_alike(&old.place, &new.place);
        if ranking.shows(RankFunction::RowNumber) {
            for copy in old.copies.clone() {
                if !(is_alike && new.copies.contains(&copy)) {
                    self.push(ranking, slot, -1, &old.place, copy);
                }
            }
            for copy in new.copies.clone() {
                if !(is_alike && old.copies.contains(&copy)) {
                    self.push(ranking, slot, 1, &new.place, copy);
                }
            }
            return;
        }
        let count = |kept: &Kept| kept.copies.end - kept.copies.start;
        match is_alike {
            true => self.push(ranking, slot, count(new) - count(old), &new.place, 0),
            false => {
                self.push(ranking, slot, -count(old), &old.place, 0);
                self.push(ranking, slot, count(new), &new.place, 0);
            }
        }
    }

    fn push(&mut self, ranking: &Ranking, slot: u32, weight: i64, place: &Place, copy: i64) {
        if weight == 0 {
            return;
        }
        self.slots.push(slot);
        self.weights.push(weight);
        let numbers = ranking.shown().iter().map(|function| match function {
            RankFunction::RowNumber => copy + 1,
            RankFunction::Rank => place.rank + 1,
            RankFunction::DenseRank => place.class + 1,
        });
        self.numbers.extend(numbers);
    }

    /// Everything of a group that is within the limits comes.
    pub fn whole(&mut self, groups: &Groups, ranking: &Ranking, group: u32) {
        self.all(groups, ranking, group, |emission, slot, kept| {
            emission.change(ranking, slot, &Kept::NOTHING, kept);
        });
    }

    /// Everything of a group that is within the limits goes.
    pub fn gone(&mut self, groups: &Groups, ranking: &Ranking, group: u32) {
        self.all(groups, ranking, group, |emission, slot, kept| {
            emission.change(ranking, slot, kept, &Kept::NOTHING);
        });
    }

    fn all(
        &mut self,
        groups: &Groups,
        ranking: &Ranking,
        group: u32,
        change: impl Fn(&mut Emission, u32, &Kept),
    ) {
        let tree = groups.tree(group);
        let rows = groups.rows();
        let span = ranking.span(tree, tree.total(rows), Place::default(), rows);
        let mut places = Places::new(ranking, tree, rows);
        tree.walk(span, rows, &mut |placed| {
            let kept = ranking.kept(places.of(&placed), placed.entry.weight(rows));
            change(self, placed.entry.slot(), &kept);
        });
    }
}

/// Places of rows that are walked over in order.
struct Places<'a> {
    ranking: &'a Ranking,
    tree: &'a Tree,
    rows: &'a RowStore,
    /// Of the class that was reached: copies before it.
    rank: Option<i64>,
}

impl<'a> Places<'a> {
    fn new(ranking: &'a Ranking, tree: &'a Tree, rows: &'a RowStore) -> Places<'a> {
        Places {
            ranking,
            tree,
            rows,
            rank: None,
        }
    }

    fn of(&mut self, placed: &Placed) -> Place {
        match self.rank {
            Some(rank) if !placed.entry.is_first() && self.ranking.has_classes() => Place {
                rows: placed.before.rows,
                rank,
                class: placed.before.classes - 1,
            },
            _ => {
                let place = self.ranking.place(self.tree, placed, self.rows);
                self.rank = Some(place.rank);
                place
            }
        }
    }
}

/// Where a row stands in its group, or would; that of the row behind; its entry's weight.
pub(super) fn look(groups: &Groups, ranking: &Ranking, group: u32, bytes: &[u8]) -> Looked {
    let (tree, rows) = (groups.tree(group), groups.rows());
    let (before, entry) = tree.locate(&groups.key(bytes), rows);
    let weight = entry.map_or(0, |entry| entry.weight(rows));
    let place = match entry {
        Some(entry) => ranking.place(tree, &Placed { entry, before }, rows),
        None => Place {
            rows: before.rows,
            ..Place::default()
        },
    };
    let next = match ranking.has_classes() {
        true => tree.at(before.rows + weight, rows),
        false => None,
    };
    let next = next.map(|next| ranking.place(tree, &next, rows));
    Looked {
        slot: entry.map(|entry| entry.slot()),
        weight,
        place,
        next: next.unwrap_or_default(),
    }
}

/// See [`look`].
pub(super) struct Looked {
    pub slot: Option<u32>,
    pub weight: i64,
    pub place: Place,
    pub next: Place,
}

/// Puts out what the changes of one group, in order and done already, have moved.
pub(super) fn put_out(groups: &Groups, ranking: &Ranking, changed: &[Changed], out: &mut Emission) {
    let Some(first) = changed.first() else { return };
    let (tree, rows) = (groups.tree(first.group), groups.rows());
    let total = tree.total(rows);
    let walk = Walk {
        ranking,
        tree,
        rows,
        span: ranking.span(tree, total, Place::default(), rows),
    };
    let mut moved = 0;
    for (at, row) in changed.iter().enumerate() {
        let start = row.place.rows + moved;
        let mut new_place = Place {
            rows: start,
            ..Place::default()
        };
        if ranking.has_classes() && row.new > 0 {
            let placed = tree.at(start, rows).expect("a row with copies has a place");
            new_place = ranking.place(tree, &placed, rows);
        }
        let of = |place, weight| match weight {
            0 => Kept::NOTHING,
            _ => ranking.kept(place, weight),
        };
        let (old, new) = (of(row.place, row.old), of(new_place, row.new));
        out.change(ranking, row.slot, &old, &new);
        moved += row.new - row.old;
        // The rows up to the next changed one.
        let start = start + row.new;
        let end = changed.get(at + 1);
        let end = end.map_or(total.rows, |next| next.place.rows + moved);
        if start >= end {
            continue;
        }
        let mut shift = Place {
            rows: moved,
            ..Place::default()
        };
        let mut behind = start;
        if ranking.has_classes() {
            // The first class of them may be that of the changed row, which has moved it less.
            let next = tree.at(start, rows).expect("there are rows behind");
            let next = ranking.place(tree, &next, rows);
            shift.class = next.class - row.next.class;
            let class_end = tree.at_class(next.class + 1, rows);
            let class_end = class_end.map_or(total.rows, |placed| placed.before.rows);
            behind = class_end.min(end);
            let of_class = Place {
                rank: next.rank - row.next.rank,
                ..shift
            };
            walk.piece(start..behind, of_class, out);
            shift.rank = moved;
        }
        walk.piece(behind..end, shift, out);
    }
}

struct Walk<'a> {
    ranking: &'a Ranking,
    tree: &'a Tree,
    rows: &'a RowStore,
    /// What is within the limits.
    span: Range<i64>,
}

impl Walk<'_> {
    /// Rows that have not changed and whose places have all shifted by the same.
    fn piece(&self, piece: Range<i64>, shift: Place, out: &mut Emission) {
        let shift = self.ranking.relevant(shift);
        if piece.is_empty() || shift == Place::default() {
            return;
        }
        let total = self.tree.total(self.rows);
        let old = self.ranking.span(self.tree, total, shift, self.rows);
        let (old, new) = (meet(&old, &piece), meet(&self.span, &piece));
        let ranges = match (old.is_empty(), new.is_empty()) {
            (true, true) => return,
            (true, false) => [new, 0..0],
            (false, true) => [old, 0..0],
            (false, false) => {
                let is_apart = old.end <= new.start || new.end <= old.start;
                match (is_apart, self.ranking.renumbers(shift)) {
                    (true, _) if old.start < new.start => [old, new],
                    (true, _) => [new, old],
                    (false, true) => [old.start.min(new.start)..old.end.max(new.end), 0..0],
                    (false, false) => [
                        old.start.min(new.start)..old.start.max(new.start),
                        old.end.min(new.end)..old.end.max(new.end),
                    ],
                }
            }
        };
        let mut last = None;
        for range in ranges {
            if range.is_empty() {
                continue;
            }
            let mut places = Places::new(self.ranking, self.tree, self.rows);
            self.tree.walk(range, self.rows, &mut |placed: Placed| {
                let place = places.of(&placed);
                let slot = placed.entry.slot();
                // Copies of one row may stand at both ends.
                if last.replace(slot) == Some(slot) {
                    return;
                }
                let weight = placed.entry.weight(self.rows);
                let before = Place {
                    rows: place.rows - shift.rows,
                    rank: place.rank - shift.rank,
                    class: place.class - shift.class,
                };
                let (old, new) = (
                    self.ranking.kept(before, weight),
                    self.ranking.kept(place, weight),
                );
                out.change(self.ranking, slot, &old, &new);
            });
        }
    }
}

fn meet(a: &Range<i64>, b: &Range<i64>) -> Range<i64> {
    a.start.max(b.start)..a.end.min(b.end)
}
