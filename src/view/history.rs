//! The last changes of a view, for those who follow it.
//!
//! A subscriber reads the changes after an epoch it knows; it keeps no queue of its own, so a slow
//! one
//! costs nothing and falls out of the history's bound visibly, with the oldest epoch it could have
//! asked for.
//!
//! ```text
//!   epoch   4      7          8                 floor = 3: changes after 3 are complete
//!   delta  [+a]   [−a +b]    [+c]               since(4) ─► [7, 8]     since(2) ─► too old
//! ```

use std::collections::VecDeque;

use crate::base::Epoch;
use crate::delta::DeltaBatch;

/// One step's change of a view.
#[derive(Clone, Debug)]
pub struct ChangeSet {
    pub epoch: Epoch,
    pub delta: DeltaBatch,
}

/// A bounded run of change sets with rising epochs.
#[derive(Debug)]
pub struct History {
    changes: VecDeque<(ChangeSet, usize)>,
    /// Every change after this epoch is here.
    floor: Epoch,
    bytes: usize,
    bytes_max: usize,
    /// Epochs that somebody still needs, with how many do: nothing after the least of them is
    /// dropped.
    pins: Vec<Epoch>,
}

impl History {
    /// An empty history of a view whose contents are those of `floor`.
    pub fn new(floor: Epoch, bytes_max: usize) -> Self {
        History {
            changes: VecDeque::new(),
            floor,
            bytes: 0,
            bytes_max,
            pins: Vec::new(),
        }
    }

    /// Adds a step's change; drops the oldest ones beyond the bound.
    ///
    /// # Panics
    /// When epochs do not rise.
    pub fn push(&mut self, epoch: Epoch, delta: DeltaBatch) {
        let last = self
            .changes
            .back()
            .map_or(self.floor, |(change, _)| change.epoch);
        assert!(epoch > last, "epochs rise");
        if delta.is_empty() {
            return;
        }
        let bytes = delta.bytes();
        self.bytes += bytes;
        self.changes.push_back((ChangeSet { epoch, delta }, bytes));
        self.trim();
    }

    fn trim(&mut self) {
        while self.bytes > self.bytes_max {
            let Some((oldest, bytes)) = self.changes.front() else {
                return;
            };
            if self.pins.iter().any(|&pin| pin < oldest.epoch) {
                return;
            }
            self.bytes -= bytes;
            self.floor = oldest.epoch;
            self.changes.pop_front();
        }
    }

    /// The changes after `epoch` in order, or the oldest epoch that can be asked for.
    pub fn since(&self, epoch: Epoch) -> Result<Vec<ChangeSet>, Epoch> {
        if epoch < self.floor {
            return Err(self.floor);
        }
        let start = self
            .changes
            .partition_point(|(change, _)| change.epoch <= epoch);
        Ok(self
            .changes
            .range(start..)
            .map(|(change, _)| change.clone())
            .collect())
    }

    /// Keeps every change after `epoch` until [`History::unpin`]: for a view that is built on this
    /// one
    /// and must not miss a step. The pin's owner answers for its length.
    pub fn pin(&mut self, epoch: Epoch) {
        self.pins.push(epoch);
    }

    pub fn unpin(&mut self, epoch: Epoch) {
        if let Some(at) = self.pins.iter().position(|&pin| pin == epoch) {
            self.pins.swap_remove(at);
        }
        self.trim();
    }

    /// The epoch of the last change.
    pub fn last(&self) -> Epoch {
        self.changes
            .back()
            .map_or(self.floor, |(change, _)| change.epoch)
    }

    /// The oldest epoch that [`History::since`] accepts.
    pub fn floor(&self) -> Epoch {
        self.floor
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::notation;

    fn row(value: usize) -> DeltaBatch {
        notation::parse(&format!("a:bigint\n+ {value}"))
    }

    #[test]
    fn changes_after_an_epoch_are_complete_or_refused() {
        let size = row(0).bytes();
        let mut history = History::new(Epoch(3), size * 2);
        for epoch in [4, 7, 8] {
            history.push(Epoch(epoch), row(1));
        }
        assert_eq!(history.since(Epoch(3)).unwrap_err(), Epoch(4));
        let epochs: Vec<_> = history
            .since(Epoch(5))
            .unwrap()
            .iter()
            .map(|change| change.epoch.0)
            .collect();
        assert_eq!(epochs, [7, 8]);
    }

    #[test]
    fn a_pinned_epoch_holds_what_came_after_it() {
        let mut history = History::new(Epoch(0), 1);
        history.pin(Epoch(0));
        history.push(Epoch(1), row(1));
        history.push(Epoch(2), row(2));
        assert_eq!(history.since(Epoch(0)).unwrap().len(), 2);
        history.unpin(Epoch(0));
        assert_eq!(history.since(Epoch(0)).unwrap_err(), Epoch(2));
    }
}
