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
//! are like. One that late rows are added to is where it was, or is compared with the leader that
//! has surpassed it: the chain is walked only for a pane that is late as a whole, over the leaders
//! behind which it comes. The chain of a total is a ring through the total's own slot.

use crate::delta::NO_SLOT;

/// Rings of panes, by slot.
#[derive(Default)]
pub(super) struct Leaders {
    /// The next later one; of a total the first of all. [`NO_SLOT`] for what is in no ring.
    later: Vec<u32>,
    /// The next earlier one; of a total the last of all.
    earlier: Vec<u32>,
    /// Of a pane in its total that is no leader, a later one that is as far out or was until
    /// another one surpassed it in turn.
    surpassed_by: Vec<u32>,
}

impl Leaders {
    pub fn grow(&mut self, slots: usize) {
        if self.later.len() < slots {
            self.later.resize(slots, NO_SLOT);
            self.earlier.resize(slots, NO_SLOT);
            self.surpassed_by.resize(slots, NO_SLOT);
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
        let last = self.earlier[total as usize];
        self.place(pane, total, last, start, is_ahead);
    }

    /// The value of a pane that is in the total may have gone further out.
    pub fn amend(
        &mut self,
        pane: u32,
        total: u32,
        start: impl Fn(u32) -> i64,
        is_ahead: impl Fn(u32, u32) -> bool,
    ) {
        if self.later[pane as usize] != NO_SLOT {
            let before = self.earlier[pane as usize];
            self.surpass(before, pane, total, is_ahead);
            return;
        }
        let leader = self.leader_after(pane);
        // Nearly always: whether a leader between the two is further out does not matter then.
        if !is_ahead(pane, leader) {
            return;
        }
        let before = self.earlier[leader as usize];
        self.place(pane, total, before, start, is_ahead);
    }

    /// The leader that a pane was surpassed by, directly or not.
    fn leader_after(&mut self, pane: u32) -> u32 {
        let mut leader = self.surpassed_by[pane as usize];
        while self.later[leader as usize] == NO_SLOT {
            leader = self.surpassed_by[leader as usize];
        }
        // Whoever asks next for one of those on the way is there at once.
        let mut at = pane;
        while self.surpassed_by[at as usize] != leader {
            at = std::mem::replace(&mut self.surpassed_by[at as usize], leader);
        }
        leader
    }

    /// Makes a pane that is in no ring a leader, if it is one, given one that it may stand behind.
    fn place(
        &mut self,
        pane: u32,
        total: u32,
        mut before: u32,
        start: impl Fn(u32) -> i64,
        is_ahead: impl Fn(u32, u32) -> bool,
    ) {
        while before != total && start(before) > start(pane) {
            before = self.earlier[before as usize];
        }
        let after = self.later[before as usize];
        if after != total && !is_ahead(pane, after) {
            self.surpassed_by[pane as usize] = after;
            return;
        }
        let before = self.surpass(before, pane, total, is_ahead);
        self.later[before as usize] = pane;
        self.earlier[pane as usize] = before;
        self.later[pane as usize] = after;
        self.earlier[after as usize] = pane;
        self.surpassed_by[pane as usize] = NO_SLOT;
    }

    /// Takes out those that a pane has surpassed, from the one before it on. Returns the last one
    /// that stays.
    fn surpass(
        &mut self,
        mut before: u32,
        pane: u32,
        total: u32,
        is_ahead: impl Fn(u32, u32) -> bool,
    ) -> u32 {
        while before != total && !is_ahead(before, pane) {
            let earlier = self.earlier[before as usize];
            self.remove(before);
            self.surpassed_by[before as usize] = pane;
            before = earlier;
        }
        before
    }

    /// Takes a pane out, if it is among them.
    pub fn remove(&mut self, pane: u32) {
        self.surpassed_by[pane as usize] = NO_SLOT;
        let later = std::mem::replace(&mut self.later[pane as usize], NO_SLOT);
        let earlier = std::mem::replace(&mut self.earlier[pane as usize], NO_SLOT);
        if later != NO_SLOT {
            self.earlier[later as usize] = earlier;
            self.later[earlier as usize] = later;
        }
    }

    pub fn bytes(&self) -> usize {
        let slots = self.later.capacity() + self.earlier.capacity();
        (slots + self.surpassed_by.capacity()) * size_of::<u32>()
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
            let mut values: Vec<u8> = (0..40).map(|_| random.u8(..9)).collect();
            let mut waiting: Vec<u32> = (0..40).collect();
            let mut inside: Vec<u32> = Vec::new();
            while !(waiting.is_empty() && inside.is_empty()) {
                if !inside.is_empty() && random.u8(..4) == 0 {
                    let pane = inside[random.usize(..inside.len())];
                    values[pane as usize] += random.u8(..3);
                    let is_ahead = |a: u32, b: u32| values[a as usize] > values[b as usize];
                    leaders.amend(pane, total, i64::from, is_ahead);
                } else if !waiting.is_empty() && random.u8(..5) < 3 {
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

    #[test]
    fn rows_that_come_late_for_a_pane_do_not_walk_the_chain() {
        let mut leaders = Leaders::default();
        leaders.grow(1_001);
        let total = 1_000;
        leaders.open(total);
        let mut values: Vec<i64> = (0..1_000).map(|pane| -pane).collect();
        values[0] = -5_000;
        // All but the first lead.
        for pane in (1..1_000).chain([0]) {
            let is_ahead = |a: u32, b: u32| values[a as usize] > values[b as usize];
            leaders.insert(pane, total, i64::from, is_ahead);
        }
        let steps = std::cell::Cell::new(0);
        for pane in (0..1_000).rev() {
            values[pane as usize] += 1;
            let start = |pane: u32| {
                steps.set(steps.get() + 1);
                i64::from(pane)
            };
            let is_ahead = |a: u32, b: u32| {
                steps.set(steps.get() + 1);
                values[a as usize] > values[b as usize]
            };
            leaders.amend(pane, total, start, is_ahead);
        }
        assert_eq!(leaders.first(total), 1);
        assert!(steps.get() <= 10_000, "{} steps", steps.get());
    }
}
