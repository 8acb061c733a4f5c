//! A checkpoint under way: what it has not taken yet of state as it was at its beginning.
//!
//! State is saved a piece at a time while steps go on. Slots that a step is about to change are
//! claimed and saved before, so that a piece is always of the beginning:
//!
//! ```text
//!   pending {3 5 8 9}     claim [5 7] ─► [5], saved and kept      next(2): kept first, then [3 8]
//! ```
//!
//! What keeps its changes in a store of its own saves them all at the beginning
//! ([`Frozen::saved`]) and gives them away block after block; until then they count as its state.

use std::collections::VecDeque;

use crate::delta::SlotSet;
use crate::error::{Error, Result};
use crate::operator::TableChange;

/// See the module page. The default is that nothing is to be saved.
#[derive(Default)]
pub struct Frozen {
    /// Saved, and not taken yet.
    kept: VecDeque<TableChange>,
    /// Slots that are as they were.
    pending: SlotSet,
}

/// What a checkpoint takes next.
pub enum Piece {
    Saved(TableChange),
    /// Slots to be saved as they are, rising.
    Slots(Vec<u32>),
}

impl Frozen {
    /// A checkpoint that wants these slots.
    pub fn new(pending: SlotSet) -> Frozen {
        Frozen {
            kept: VecDeque::new(),
            pending,
        }
    }

    /// A checkpoint of which everything is saved already.
    pub fn saved(changes: Vec<TableChange>) -> Frozen {
        Frozen {
            kept: changes.into(),
            pending: SlotSet::default(),
        }
    }

    /// Keeps blocks that were saved until they are taken.
    pub fn keep_all(&mut self, changes: Vec<TableChange>) {
        self.kept.extend(changes);
    }

    /// Keeps what was saved until it is taken.
    pub fn keep(&mut self, change: TableChange) {
        self.kept.push_back(change);
    }

    /// Those of the slots that are not saved yet; whoever asks saves them and keeps that.
    pub fn claim(&mut self, slots: &[u32]) -> Vec<u32> {
        if self.pending.is_empty() {
            return Vec::new();
        }
        let claimed = slots.iter().copied();
        claimed.filter(|&slot| self.pending.remove(slot)).collect()
    }

    /// What is to be taken next, of at most `rows` slots unless more were saved at once; `None`
    /// when everything is.
    pub fn next(&mut self, rows: usize) -> Option<Piece> {
        if let Some(change) = self.kept.pop_front() {
            return Some(Piece::Saved(change));
        }
        let slots = self.pending.take(rows.max(1));
        (!slots.is_empty()).then_some(Piece::Slots(slots))
    }

    /// What is to be taken next of a checkpoint of which everything was saved.
    ///
    /// # Errors
    /// Internal, when there are slots that nobody has saved.
    pub fn next_saved(&mut self) -> Result<Option<TableChange>> {
        match self.kept.pop_front() {
            None if !self.pending.is_empty() => {
                Err(Error::internal("state of a checkpoint was not saved"))
            }
            next => Ok(next),
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.kept.iter().map(TableChange::bytes).sum::<usize>() + self.pending.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::notation::parse;

    fn block(slot: u32) -> TableChange {
        TableChange {
            table: 0,
            slots: vec![slot],
            rows: parse("a:bigint\n+ 7").rows().clone(),
            freed: Vec::new(),
        }
    }

    #[test]
    fn what_is_saved_counts_until_it_is_taken() {
        let mut frozen = Frozen::saved(vec![block(1), block(2)]);
        frozen.keep_all(vec![block(3)]);
        let full = frozen.bytes();
        assert!(full >= 3 * block(1).bytes(), "{full}");
        let mut taken = Vec::new();
        while let Some(change) = frozen.next_saved().unwrap() {
            taken.extend(change.slots);
        }
        assert_eq!(taken, [1, 2, 3]);
        assert_eq!(frozen.bytes(), 0);
    }

    #[test]
    fn slots_are_saved_before_they_are_given_away() {
        let mut pending = SlotSet::default();
        for slot in [3, 5, 8, 9] {
            pending.insert(slot);
        }
        let mut frozen = Frozen::new(pending);
        assert_eq!(frozen.claim(&[5, 7]), [5]);
        assert!(frozen.claim(&[5]).is_empty(), "it is saved already");
        frozen.keep(block(5));
        assert!(matches!(frozen.next(2), Some(Piece::Saved(change)) if change.slots == [5]));
        assert!(frozen.next_saved().is_err(), "3, 8 and 9 are not saved");
        assert!(matches!(frozen.next(2), Some(Piece::Slots(slots)) if slots == [3, 8]));
        assert!(matches!(frozen.next(2), Some(Piece::Slots(slots)) if slots == [9]));
        assert!(frozen.next(2).is_none());
    }
}
