//! Which of a key's panes may still have the extreme of a window.
//!
//! A pane matters only until a later one has a value as far out: the later one stays longer. What
//! is left is a chain of panes in the order of time whose values fall back one after the other, and
//! the first one has the extreme of all.
//!
//! ```text
//!   max of panes   0: 7   5: 9   10: 4   15: 6        leaders of 0..20   9 (pane 5) → 6 (pane 15)
//!   pane 5 leaves                                     leaders of 10..25  6 (pane 15) → …
//! ```
//!
//! A pane enters once and leaves once, so that the work is constant per pane, whatever the values
//! are like. The chain of a total is a ring through the total's own slot.

use crate::delta::NO_SLOT;

/// Rings of panes, by slot.
#[derive(Default)]
pub(super) struct Leaders {
    /// The next later one; of a total the first of all. [`NO_SLOT`] for what is in no ring.
    later: Vec<u32>,
    /// The next earlier one; of a total the last of all.
    earlier: Vec<u32>,
}

impl Leaders {
    pub fn grow(&mut self, slots: usize) {
        if self.later.len() < slots {
            self.later.resize(slots, NO_SLOT);
            self.earlier.resize(slots, NO_SLOT);
        }
    }

    /// A new total, of no pane.
    pub fn open(&mut self, total: u32) {
        self.later[total as usize] = total;
        self.earlier[total as usize] = total;
    }

    /// A total of no pane goes.
    pub fn close(&mut self, total: u32) {
        assert_eq!(self.later[total as usize], total, "its panes have left");
        self.later[total as usize] = NO_SLOT;
        self.earlier[total as usize] = NO_SLOT;
    }

    /// The pane with the extreme.
    pub fn first(&self, total: u32) -> u32 {
        self.later[total as usize]
    }

    /// Takes a pane in. `start` tells when a pane begins, `is_ahead` whether the value of one is
    /// further out than that of another.
    pub fn insert(
        &mut self,
        pane: u32,
        total: u32,
        start: impl Fn(u32) -> i64,
        is_ahead: impl Fn(u32, u32) -> bool,
    ) {
        // Nearly always the last one is the one before it.
        let mut before = self.earlier[total as usize];
        while before != total && start(before) > start(pane) {
            before = self.earlier[before as usize];
        }
        let after = self.later[before as usize];
        if after != total && !is_ahead(pane, after) {
            return;
        }
        while before != total && !is_ahead(before, pane) {
            let earlier = self.earlier[before as usize];
            self.remove(before);
            before = earlier;
        }
        self.later[before as usize] = pane;
        self.earlier[pane as usize] = before;
        self.later[pane as usize] = after;
        self.earlier[after as usize] = pane;
    }

    /// Takes a pane out, if it is among them.
    pub fn remove(&mut self, pane: u32) {
        let later = std::mem::replace(&mut self.later[pane as usize], NO_SLOT);
        let earlier = std::mem::replace(&mut self.earlier[pane as usize], NO_SLOT);
        if later != NO_SLOT {
            self.earlier[later as usize] = earlier;
            self.later[earlier as usize] = later;
        }
    }

    pub fn bytes(&self) -> usize {
        (self.later.capacity() + self.earlier.capacity()) * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panes enter in any order and leave from the oldest on; the first leader is the maximum.
    #[test]
    fn the_first_leader_has_the_extreme() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut leaders = Leaders::default();
            leaders.grow(41);
            let total = 40;
            leaders.open(total);
            let values: Vec<u8> = (0..40).map(|_| random.u8(..9)).collect();
            let mut waiting: Vec<u32> = (0..40).collect();
            let mut inside: Vec<u32> = Vec::new();
            while !(waiting.is_empty() && inside.is_empty()) {
                if !waiting.is_empty() && random.u8(..5) < 3 {
                    let ahead = random.usize(..waiting.len().min(4));
                    let pane = waiting.remove(ahead);
                    let is_ahead = |a: u32, b: u32| values[a as usize] > values[b as usize];
                    leaders.insert(pane, total, i64::from, is_ahead);
                    inside.push(pane);
                } else if let Some(oldest) = inside.iter().copied().min() {
                    leaders.remove(oldest);
                    inside.retain(|pane| *pane != oldest);
                }
                let most = inside.iter().map(|&pane| values[pane as usize]).max();
                let first = leaders.first(total);
                let found = (first != total).then(|| values[first as usize]);
                assert_eq!(found, most, "seed {seed}");
            }
            leaders.close(total);
        }
    }
}
