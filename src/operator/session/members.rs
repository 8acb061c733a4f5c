//! Whose rows are where: the rows of each session, by slot of the row store.
//!
//! Where rows only come they are chained, and two sessions become one by tying two chains together.
//! Where they may go they stand in the order of time, so that the neighbours of one are found.

use std::collections::BTreeSet;

use crate::delta::NO_SLOT;
use crate::operator::session::sessions::{Rest, Sessions};

pub(super) enum Members {
    Chained(Chains),
    Ordered(BTreeSet<(u32, i64, u32)>),
}

#[derive(Default)]
pub(super) struct Chains {
    /// By session, its first and its last row.
    ends: Vec<(u32, u32)>,
    /// By row, the next one.
    next: Vec<u32>,
}

impl Members {
    pub fn new(is_append_only: bool) -> Members {
        match is_append_only {
            true => Members::Chained(Chains::default()),
            false => Members::Ordered(BTreeSet::new()),
        }
    }

    /// Adds a row to a session that is not merged.
    pub fn add(&mut self, sessions: &Sessions, session: u32, time: i64, row: u32) {
        match self {
            Members::Ordered(rows) => {
                rows.insert((sessions.key(session), time, row));
            }
            Members::Chained(chains) => {
                if chains.next.len() <= row as usize {
                    chains.next.resize(row as usize + 1, NO_SLOT);
                }
                chains.next[row as usize] = NO_SLOT;
                chains.append(sessions.slots(), session, (row, row));
            }
        }
    }

    /// The first session has taken the rows of the second.
    pub fn merge(&mut self, sessions: &Sessions, (into, from): (u32, u32)) {
        if let Members::Chained(chains) = self {
            let taken = match chains.ends.get_mut(from as usize) {
                Some(ends) => std::mem::replace(ends, (NO_SLOT, NO_SLOT)),
                None => return,
            };
            if taken.0 != NO_SLOT {
                chains.append(sessions.slots(), into, taken);
            }
        }
    }

    /// The rows of a session.
    pub fn of(&self, sessions: &Sessions, session: u32, rows: &mut Vec<u32>) {
        match self {
            Members::Ordered(all) => {
                let key = sessions.key(session);
                let (start, last) = sessions.span(session);
                let range = all.range((key, start, 0)..=(key, last, NO_SLOT));
                rows.extend(range.map(|&(_, _, row)| row));
            }
            Members::Chained(chains) => {
                let ends = chains.ends.get(session as usize);
                let mut row = ends.map_or(NO_SLOT, |ends| ends.0);
                while row != NO_SLOT {
                    rows.push(row);
                    row = chains.next[row as usize];
                }
            }
        }
    }

    /// Forgets a session that has come to its end.
    pub fn forget(&mut self, sessions: &Sessions, session: u32) {
        match self {
            Members::Ordered(all) => {
                let key = sessions.key(session);
                let (start, last) = sessions.span(session);
                let range = all.range((key, start, 0)..=(key, last, NO_SLOT));
                let gone: Vec<_> = range.copied().collect();
                for row in &gone {
                    all.remove(row);
                }
            }
            Members::Chained(chains) => {
                if let Some(ends) = chains.ends.get_mut(session as usize) {
                    *ends = (NO_SLOT, NO_SLOT);
                }
            }
        }
    }

    /// Whether the row is one of a live session; only where rows may go.
    pub fn holds(&self, key: u32, time: i64, row: u32) -> bool {
        match self {
            Members::Ordered(all) => all.contains(&(key, time, row)),
            Members::Chained(_) => false,
        }
    }

    /// Takes a row out of a session that spans from `start` to `last`; what that leaves.
    pub fn remove(&mut self, (start, last): (i64, i64), gap: i64, row: (u32, i64, u32)) -> Rest {
        let Members::Ordered(all) = self else {
            return Rest::Nothing;
        };
        all.remove(&row);
        let key = row.0;
        let before = all.range((key, start, 0)..row).next_back();
        let after = all.range(row..=(key, last, NO_SLOT)).next();
        match (before.map(|row| row.1), after.map(|row| row.1)) {
            (None, None) => Rest::Nothing,
            (None, Some(first)) => Rest::One(first, last),
            (Some(end), None) => Rest::One(start, end),
            (Some(left), Some(right)) if right.saturating_sub(left) > gap => Rest::Two(left, right),
            (Some(_), Some(_)) => Rest::One(start, last),
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            // A B-tree's nodes are two thirds full on average.
            Members::Ordered(all) => all.len() * size_of::<(u32, i64, u32)>() * 3 / 2,
            Members::Chained(chains) => {
                chains.ends.capacity() * size_of::<(u32, u32)>()
                    + chains.next.capacity() * size_of::<u32>()
            }
        }
    }
}

impl Chains {
    fn append(&mut self, sessions: usize, session: u32, (first, last): (u32, u32)) {
        if self.ends.len() < sessions {
            self.ends.resize(sessions, (NO_SLOT, NO_SLOT));
        }
        let ends = &mut self.ends[session as usize];
        match ends.1 {
            NO_SLOT => *ends = (first, last),
            end => {
                self.next[end as usize] = first;
                ends.1 = last;
            }
        }
    }
}
