//! Groups by the end of their window: which close, and which may be freed.
//!
//! ```text
//!   window_end      10        20        30        40
//!   groups        [4, 1]    [0, 7]    [2, 3]     [5]
//!                 freed   │  held   │  waiting …              OnClose, lateness 10
//!                     B = 11   B + lateness = 21
//! ```
//!
//! Under EMIT ON WINDOW CLOSE a group waits until it is closed, then is held for corrections until
//! it is final. Under ON UPDATE every group is held from the start. This is the only place that
//! frees groups by time. A group whose window end is NULL is never closed.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;

use crate::delta::NO_SLOT;
use crate::operator::aggregate::spec::{Close, CloseEmit};

/// Groups in the order of their windows.
pub(in crate::operator) struct Windows {
    close: Close,
    /// Position in the group of each key column that can bound the output.
    timed: Vec<usize>,
    waiting: BTreeMap<i64, Waiting>,
    held: BTreeMap<i64, Vec<u32>>,
    places: Vec<Place>,
    /// Windows that end before it have been freed.
    freed_before: i64,
    /// `freed_before` has changed since the last checkpoint.
    is_changed: bool,
}

/// Groups that wait for their window to close.
#[derive(Default)]
struct Waiting {
    slots: Vec<u32>,
    /// For each timed column the least value that a group has had.
    least: Vec<i64>,
}

/// Where a group stands.
#[derive(Clone, Copy)]
struct Place {
    end: i64,
    /// Position among the groups of its window, so that one can leave at once.
    position: u32,
    is_waiting: bool,
}

const NOWHERE: Place = Place {
    end: i64::MAX,
    position: NO_SLOT,
    is_waiting: false,
};

impl Windows {
    pub fn new(close: Close, timed: Vec<usize>) -> Windows {
        Windows {
            close,
            timed,
            waiting: BTreeMap::new(),
            held: BTreeMap::new(),
            places: Vec::new(),
            freed_before: i64::MIN,
            is_changed: false,
        }
    }

    pub fn close(&self) -> &Close {
        &self.close
    }

    /// Positions in the group of the columns whose values [`Windows::insert`] wants.
    pub fn timed(&self) -> &[usize] {
        &self.timed
    }

    pub fn freed_before(&self) -> i64 {
        self.freed_before
    }

    /// Takes a new group in. `times` are its values of the timed columns, `None` where NULL.
    pub fn insert(&mut self, slot: u32, end: Option<i64>, times: &[Option<i64>]) {
        if self.places.len() <= slot as usize {
            self.places.resize(slot as usize + 1, NOWHERE);
        }
        let Some(end) = end else { return };
        match self.close.emit {
            CloseEmit::OnUpdate => self.hold(slot, end),
            CloseEmit::OnClose => self.wait(slot, end, times),
        }
    }

    /// Takes the groups in that a batch of rows is the first of: `fresh`, each with its first row's
    /// times in the columns of the key, which are `key` of the rows'.
    pub fn insert_new(&mut self, key: &[usize], rows: &RecordBatch, groups: &[u32], fresh: &[u32]) {
        let timed = self.timed.clone();
        let columns = timed.iter().map(|&at| rows.column(key[at]));
        let columns: Vec<_> = columns
            .map(|column| column.as_primitive::<TimestampMicrosecondType>())
            .collect();
        let end = timed.iter().position(|&at| at == self.close.column);
        let end = end.expect("what makes a group final is a timestamp");
        // New groups are in the order of their first rows.
        let mut fresh = fresh.iter().peekable();
        for (row, group) in groups.iter().enumerate() {
            if fresh.next_if_eq(&group).is_some() {
                let time = |column: &&PrimitiveArray<TimestampMicrosecondType>| {
                    column.is_valid(row).then(|| column.value(row))
                };
                let times: Vec<Option<i64>> = columns.iter().map(time).collect();
                self.insert(*group, times[end], &times);
            }
        }
    }

    /// Takes a group in that is closed already.
    pub fn hold(&mut self, slot: u32, end: i64) {
        if self.places.len() <= slot as usize {
            self.places.resize(slot as usize + 1, NOWHERE);
        }
        let slots = self.held.entry(end).or_default();
        self.places[slot as usize] = Place {
            end,
            position: push(slots, slot),
            is_waiting: false,
        };
    }

    fn wait(&mut self, slot: u32, end: i64, times: &[Option<i64>]) {
        let waiting = self.waiting.entry(end).or_default();
        waiting.least.resize(times.len(), i64::MAX);
        for (least, time) in waiting.least.iter_mut().zip(times) {
            // Where a value is NULL, the column has no bound that a group could break.
            *least = (*least).min(time.unwrap_or(i64::MAX));
        }
        let position = push(&mut waiting.slots, slot);
        self.places[slot as usize] = Place {
            end,
            position,
            is_waiting: true,
        };
    }

    /// Whether the group's row may be out.
    pub fn is_closed(&self, slot: u32) -> bool {
        self.close.emit == CloseEmit::OnUpdate || {
            let place = self.places[slot as usize];
            place.position != NO_SLOT && !place.is_waiting
        }
    }

    /// Takes a group out.
    pub fn remove(&mut self, slot: u32) {
        let place = std::mem::replace(&mut self.places[slot as usize], NOWHERE);
        if place.position == NO_SLOT {
            return;
        }
        let slots = match place.is_waiting {
            true => self
                .waiting
                .get_mut(&place.end)
                .map(|waiting| &mut waiting.slots),
            false => self.held.get_mut(&place.end),
        };
        let slots = slots.expect("a group stands among those of its window");
        let position = place.position as usize;
        slots.swap_remove(position);
        if let Some(&moved) = slots.get(position) {
            self.places[moved as usize].position = place.position;
        }
        if slots.is_empty() {
            match place.is_waiting {
                true => drop(self.waiting.remove(&place.end)),
                false => drop(self.held.remove(&place.end)),
            }
        }
    }

    /// Closes the windows for which the bound is far enough; their groups in the order of ends.
    pub fn close_until(&mut self, bound: i64) -> Vec<u32> {
        let closed_before = bound.saturating_add(self.close.lateness_micros);
        let rest = self.waiting.split_off(&closed_before);
        let closed = std::mem::replace(&mut self.waiting, rest);
        let mut slots = Vec::new();
        for (end, waiting) in closed {
            waiting.slots.iter().for_each(|&slot| self.hold(slot, end));
            slots.extend(waiting.slots);
        }
        slots
    }

    /// Takes out the groups whose windows are final, in the order of ends.
    pub fn free_until(&mut self, bound: i64) -> Vec<u32> {
        if bound > self.freed_before {
            self.freed_before = bound;
            self.is_changed = true;
        }
        let rest = self.held.split_off(&bound);
        let slots: Vec<u32> = std::mem::replace(&mut self.held, rest)
            .into_values()
            .flatten()
            .collect();
        slots
            .iter()
            .for_each(|&slot| self.places[slot as usize] = NOWHERE);
        slots
    }

    /// The least value of a key column among the groups that wait; `None` when none waits.
    pub fn least_waiting(&self, column: usize) -> Option<i64> {
        let timed = self.timed.iter().position(|&timed| timed == column)?;
        self.waiting
            .values()
            .map(|waiting| waiting.least[timed])
            .min()
    }

    /// The end of the first window that waits or is held.
    pub fn first_end(&self) -> Option<i64> {
        let waiting = self.waiting.keys().next();
        waiting
            .into_iter()
            .chain(self.held.keys().next())
            .min()
            .copied()
    }

    /// What has to be known after a restart besides the groups: since when windows are freed.
    pub fn take_change(&mut self) -> Option<i64> {
        std::mem::take(&mut self.is_changed).then_some(self.freed_before)
    }

    pub fn restore(&mut self, freed_before: i64) {
        self.freed_before = freed_before;
    }

    pub fn bytes(&self) -> usize {
        // A group is in one list; its place may have been doubled by the vector's growth.
        self.places.capacity() * (size_of::<Place>() + 2 * size_of::<u32>())
    }
}

fn push(slots: &mut Vec<u32>, slot: u32) -> u32 {
    slots.push(slot);
    u32::try_from(slots.len() - 1).expect("there are fewer than 2^32 groups")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(emit: CloseEmit) -> Windows {
        let close = Close {
            column: 0,
            emit,
            lateness_micros: 10,
        };
        let mut windows = Windows::new(close, vec![0, 1]);
        for (slot, end) in [(4, 10), (1, 10), (0, 20), (7, 20), (2, 30)] {
            windows.insert(
                slot,
                Some(end),
                &[Some(end), Some(end - 5 - i64::from(slot))],
            );
        }
        windows
    }

    #[test]
    fn groups_close_and_are_freed_in_the_order_of_their_windows() {
        let mut windows = windows(CloseEmit::OnClose);
        assert_eq!(windows.close_until(11), [4, 1, 0, 7]);
        assert!(windows.is_closed(7) && !windows.is_closed(2));
        assert_eq!(windows.free_until(11), [4, 1]);
        assert_eq!(windows.free_until(11), [] as [u32; 0]);
        // A correction within the lateness makes a group anew.
        windows.insert(5, Some(20), &[Some(20), Some(15)]);
        assert_eq!(windows.close_until(11), [5]);
        windows.remove(0);
        assert_eq!(windows.free_until(100), [5, 7]);
        assert_eq!(windows.close_until(i64::MAX), [2]);
    }

    #[test]
    fn groups_that_wait_hold_their_columns_back() {
        let mut windows = windows(CloseEmit::OnClose);
        assert_eq!(windows.least_waiting(1), Some(1));
        windows.close_until(11);
        assert_eq!(windows.least_waiting(1), Some(23));
        windows.remove(2);
        assert_eq!(windows.least_waiting(1), None);
        assert_eq!(self::windows(CloseEmit::OnUpdate).least_waiting(1), None);
    }

    #[test]
    fn a_group_without_an_end_stays() {
        let mut windows = windows(CloseEmit::OnUpdate);
        windows.insert(9, None, &[None, None]);
        assert_eq!(windows.free_until(i64::MAX).len(), 5);
        windows.remove(9);
    }
}
