//! A checkpoint under way: what it has not taken yet of state as it was at its beginning.
//!
//! State is saved a piece at a time while steps go on. Slots that a step is about to change are
//! claimed and saved before, so that a piece is always of the beginning:
//!
//! ```text
//!   pending {3 5 8 9}     claim [5 7] ─► [5], saved and kept      next(2): kept first, then [3 8]
//! ```

use std::collections::VecDeque;

use crate::delta::SlotSet;
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

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let kept = |change: &TableChange| {
            change.rows.get_array_memory_size() + (change.slots.len() + change.freed.len()) * 4
        };
        self.kept.iter().map(kept).sum::<usize>() + self.pending.bytes()
    }
}
