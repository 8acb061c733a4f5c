//! Slots in the order in which they were last touched: which have been idle for too long.
//!
//! Rule: a slot that was last touched at clock c is due from c + length on. Clocks never go back,
//! so that what is touched now is the newest: a list in which each slot knows its neighbours is
//! always in order, and neither a touch nor a search costs more with more slots.
//!
//! ```text
//!   length 10    touch 4 at 100, 7 at 102, 4 at 105      oldest  7 (102) ─ 4 (105)  newest
//!                due at 112                              7
//! ```
//!
//! State: 16 bytes a slot; the owner saves the clocks, of which the rest follows.

use crate::delta::NO_SLOT;

/// The clock of a slot that is not there.
const NEVER: i64 = i64::MIN;

/// See the module page.
#[derive(Debug)]
pub struct IdleOrder {
    /// How long a slot may be idle; more than nothing.
    length_micros: i64,
    /// By slot the clock of its last touch.
    touched: Vec<i64>,
    links: Vec<Link>,
    oldest: u32,
    newest: u32,
}

/// The neighbours of a slot, which those that are not there have none of.
#[derive(Clone, Copy, Debug)]
struct Link {
    older: u32,
    newer: u32,
}

const ALONE: Link = Link {
    older: NO_SLOT,
    newer: NO_SLOT,
};

impl IdleOrder {
    pub fn new(length_micros: i64) -> IdleOrder {
        assert!(length_micros > 0, "what is touched is there for a while");
        IdleOrder {
            length_micros,
            touched: Vec::new(),
            links: Vec::new(),
            oldest: NO_SLOT,
            newest: NO_SLOT,
        }
    }

    /// Puts a slot, new or not, behind all others. No clock is before an earlier one.
    pub fn touch(&mut self, slot: u32, clock_micros: i64) {
        self.remove(slot);
        self.note(slot, clock_micros);
        self.append(slot);
    }

    /// Takes a slot out, if it is there.
    pub fn remove(&mut self, slot: u32) {
        if !self.holds(slot) {
            return;
        }
        self.touched[slot as usize] = NEVER;
        let Link { older, newer } = std::mem::replace(&mut self.links[slot as usize], ALONE);
        match older {
            NO_SLOT => self.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
        match newer {
            NO_SLOT => self.newest = older,
            newer => self.links[newer as usize].older = older,
        }
    }

    /// What has been idle for too long, in the order of last touches.
    pub fn due(&self, clock_micros: i64) -> Vec<u32> {
        let next = |slot: &u32| IdleOrder::some(self.links[*slot as usize].newer);
        let all = std::iter::successors(IdleOrder::some(self.oldest), next);
        all.take_while(|&slot| self.due_at(slot) <= clock_micros)
            .collect()
    }

    /// When the first slot is due.
    pub fn deadline(&self) -> Option<i64> {
        IdleOrder::some(self.oldest).map(|oldest| self.due_at(oldest))
    }

    /// The clock of a slot's last touch, for a checkpoint.
    ///
    /// # Panics
    /// When the slot is not there.
    pub fn touched(&self, slot: u32) -> i64 {
        assert!(self.holds(slot), "only what is there has been touched");
        self.touched[slot as usize]
    }

    /// Says when a slot was touched, the latest of several times; until [`IdleOrder::rebuild`]
    /// there is no order. `None`: it is free.
    pub fn restore(&mut self, slot: u32, touched: Option<i64>) {
        let known = self.touched.get(slot as usize).copied();
        let latest = touched.map(|touched| known.map_or(touched, |known| known.max(touched)));
        self.note(slot, latest.unwrap_or(NEVER));
    }

    /// Puts what was restored in order.
    pub fn rebuild(&mut self) {
        let slots = (0..).zip(&self.touched);
        let there = slots.filter(|(_, touched)| **touched != NEVER);
        let mut order: Vec<(i64, u32)> = there.map(|(slot, touched)| (*touched, slot)).collect();
        order.sort_unstable();
        self.links.fill(ALONE);
        (self.oldest, self.newest) = (NO_SLOT, NO_SLOT);
        order.into_iter().for_each(|(_, slot)| self.append(slot));
    }

    pub fn bytes(&self) -> usize {
        self.touched.capacity() * size_of::<i64>() + self.links.capacity() * size_of::<Link>()
    }

    fn some(slot: u32) -> Option<u32> {
        (slot != NO_SLOT).then_some(slot)
    }

    fn due_at(&self, slot: u32) -> i64 {
        self.touched[slot as usize].saturating_add(self.length_micros)
    }

    fn holds(&self, slot: u32) -> bool {
        let touched = self.touched.get(slot as usize);
        touched.is_some_and(|touched| *touched != NEVER)
    }

    fn note(&mut self, slot: u32, clock_micros: i64) {
        if self.touched.len() <= slot as usize {
            self.touched.resize(slot as usize + 1, NEVER);
            self.links.resize(slot as usize + 1, ALONE);
        }
        self.touched[slot as usize] = clock_micros;
    }

    fn append(&mut self, slot: u32) {
        self.links[slot as usize] = Link {
            older: self.newest,
            newer: NO_SLOT,
        };
        match self.newest {
            NO_SLOT => self.oldest = slot,
            newest => self.links[newest as usize].newer = slot,
        }
        self.newest = slot;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fastrand::Rng;

    use super::*;

    #[test]
    fn what_is_touched_is_the_newest() {
        let mut order = IdleOrder::new(10);
        for (slot, clock) in [(4, 100), (7, 102), (4, 105), (9, 105)] {
            order.touch(slot, clock);
        }
        assert_eq!(order.deadline(), Some(112));
        assert_eq!(order.due(111), [] as [u32; 0]);
        assert_eq!(order.due(112), [7]);
        order.remove(7);
        order.remove(4);
        order.remove(4);
        assert_eq!(order.deadline(), Some(115));
        assert_eq!(order.due(i64::MAX), [9]);
        order.remove(9);
        assert_eq!(order.deadline(), None);
    }

    /// Against a map that is searched through, over restarts from the clocks alone.
    #[test]
    fn slots_are_due_in_the_order_of_their_last_touch() {
        for seed in 0..50 {
            let mut random = Rng::with_seed(seed);
            let mut order = IdleOrder::new(5);
            let mut model: BTreeMap<u32, i64> = BTreeMap::new();
            let mut clock = 0;
            for _ in 0..200 {
                clock += random.i64(0..3);
                let slot = random.u32(0..12);
                match random.u8(..8) {
                    0 => {
                        order.remove(slot);
                        model.remove(&slot);
                    }
                    1 => {
                        let mut again = IdleOrder::new(5);
                        (0..12).for_each(|slot| again.restore(slot, model.get(&slot).copied()));
                        again.rebuild();
                        order = again;
                    }
                    2 => {
                        let mut due = order.due(clock);
                        due.iter().for_each(|&slot| order.remove(slot));
                        due.sort_unstable();
                        let is_due = |touched: &i64| touched + 5 <= clock;
                        let expected = model.iter().filter(|(_, touched)| is_due(touched));
                        let expected: Vec<u32> = expected.map(|(slot, _)| *slot).collect();
                        assert_eq!(due, expected, "seed {seed}");
                        model.retain(|_, touched| !is_due(touched));
                    }
                    _ => {
                        order.touch(slot, clock);
                        model.insert(slot, clock);
                    }
                }
                assert_eq!(
                    order.deadline(),
                    model.values().min().map(|touched| touched + 5),
                    "seed {seed}"
                );
                model
                    .iter()
                    .for_each(|(slot, touched)| assert_eq!(order.touched(*slot), *touched));
            }
        }
    }
}
