//! Panes by when they begin: those that no closed window has held yet, and those in their totals.
//!
//! ```text
//!   start       0        5        10       15
//!   panes     [4, 1]   [0, 7]   [2, 3]     [5]
//!             held ────────────┤ waiting ─────      the window [0, 10) has closed
//! ```

use std::collections::BTreeMap;

/// Panes, each in one of two lists by start.
#[derive(Default)]
pub(super) struct Starts {
    waiting: BTreeMap<i64, Vec<u32>>,
    held: BTreeMap<i64, Vec<u32>>,
    /// By slot, where the pane stands in its list, so that one can leave at once.
    positions: Vec<u32>,
    /// Bytes of the lists.
    bytes: usize,
}

/// What an entry of a tree takes, whose nodes may be half full, with the list's own header.
const ENTRY_BYTES: usize = 2 * (size_of::<i64>() + size_of::<Vec<u32>>());

impl Starts {
    pub fn grow(&mut self, slots: usize) {
        self.positions.resize(slots.max(self.positions.len()), 0);
    }

    /// Takes in a pane that is in no total yet.
    pub fn wait(&mut self, pane: u32, start: i64) {
        let list = self.waiting.entry(start).or_default();
        let before = list.capacity();
        push(list, pane, &mut self.positions);
        self.bytes += (list.capacity() - before) * size_of::<u32>();
    }

    /// The start of the first pane that waits.
    pub fn first_waiting(&self) -> Option<i64> {
        self.waiting.keys().next().copied()
    }

    /// The start of the last pane that is in its total.
    pub fn last_held(&self) -> Option<i64> {
        self.held.keys().next_back().copied()
    }

    /// Holds those that have waited and begin before a time; they are returned.
    pub fn hold_before(&mut self, time: i64) -> Vec<u32> {
        let mut panes = Vec::new();
        while let Some((start, list)) = pop_before(&mut self.waiting, time) {
            panes.extend_from_slice(&list);
            self.bytes -= list.capacity() * size_of::<u32>();
            let held = self.held.entry(start).or_default();
            let before = held.capacity();
            if held.is_empty() {
                *held = list;
            } else {
                list.iter()
                    .for_each(|&pane| push(held, pane, &mut self.positions));
            }
            self.bytes += (held.capacity() - before) * size_of::<u32>();
        }
        panes
    }

    /// Takes out those that are held and begin before a time.
    pub fn release_before(&mut self, time: i64) -> Vec<u32> {
        let mut panes = Vec::new();
        while let Some((_, list)) = pop_before(&mut self.held, time) {
            self.bytes -= list.capacity() * size_of::<u32>();
            panes.extend(list);
        }
        panes
    }

    /// Takes out one pane.
    pub fn remove(&mut self, pane: u32, start: i64, is_held: bool) {
        let lists = match is_held {
            true => &mut self.held,
            false => &mut self.waiting,
        };
        let list = lists.get_mut(&start).expect("a pane is in a list");
        let position = self.positions[pane as usize];
        let removed = list.swap_remove(position as usize);
        assert_eq!(removed, pane, "a pane is where it says");
        if let Some(&moved) = list.get(position as usize) {
            self.positions[moved as usize] = position;
        }
        if list.is_empty() {
            self.bytes -= list.capacity() * size_of::<u32>();
            lists.remove(&start);
        }
    }

    pub fn bytes(&self) -> usize {
        (self.waiting.len() + self.held.len()) * ENTRY_BYTES
            + self.bytes
            + self.positions.capacity() * size_of::<u32>()
    }
}

fn push(list: &mut Vec<u32>, pane: u32, positions: &mut [u32]) {
    positions[pane as usize] = u32::try_from(list.len()).expect("fewer than 2^32 panes");
    list.push(pane);
}

fn pop_before(lists: &mut BTreeMap<i64, Vec<u32>>, time: i64) -> Option<(i64, Vec<u32>)> {
    let first = lists.first_entry()?;
    (*first.key() < time).then(|| first.remove_entry())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_wait_are_held_and_leave_in_the_order_of_time() {
        let mut starts = Starts::default();
        starts.grow(8);
        let empty = starts.bytes();
        for (pane, start) in [(4, 0), (1, 0), (0, 5), (7, 5), (2, 10)] {
            starts.wait(pane, start);
        }
        assert_eq!(starts.first_waiting(), Some(0));
        assert_eq!(starts.hold_before(10), [4, 1, 0, 7]);
        assert_eq!(starts.last_held(), Some(5));
        // One that comes for a start which is held already.
        starts.wait(3, 0);
        starts.remove(4, 0, true);
        assert_eq!(starts.hold_before(10), [3]);
        starts.remove(1, 0, true);
        assert_eq!(starts.release_before(5), [3]);
        starts.remove(2, 10, false);
        assert_eq!(starts.first_waiting(), None);
        assert_eq!(starts.release_before(100), [0, 7]);
        assert_eq!(starts.bytes(), empty, "lists are gone");
    }

    #[test]
    fn what_lists_hold_is_accounted() {
        let mut starts = Starts::default();
        starts.grow(3_000);
        let empty = starts.bytes();
        (0..3_000).for_each(|pane| starts.wait(pane, i64::from(pane)));
        // A list of its own for each pane: an entry and a vector of four at least.
        assert!(starts.bytes() - empty >= 3_000 * (ENTRY_BYTES + 4 * size_of::<u32>()));
        (0..3_000).for_each(|pane| starts.remove(pane, i64::from(pane), false));
        assert_eq!(starts.bytes(), empty);
    }
}
