//! How often the row of each slot is there: a byte per slot, as nearly every row is there once.
//!
//! ```text
//!   small   [1, 1, 0, LARGE, 1]        large   3 → 1000
//! ```

use std::collections::BTreeMap;

/// Stands for a weight that does not fit.
const LARGE: i8 = i8::MIN;

/// Weights by place; 0 where nothing else was set.
#[derive(Clone, Default)]
pub(super) struct Weights {
    small: Vec<i8>,
    large: BTreeMap<u32, i64>,
}

impl Weights {
    pub fn len(&self) -> usize {
        self.small.len()
    }

    pub fn resize(&mut self, places: usize) {
        debug_assert!(places >= self.small.len(), "places are not taken away");
        self.small.resize(places, 0);
    }

    #[inline]
    pub fn get(&self, place: usize) -> i64 {
        match self.small[place] {
            LARGE => self.large[&number(place)],
            small => i64::from(small),
        }
    }

    #[inline]
    pub fn set(&mut self, place: usize, weight: i64) {
        let small = i8::try_from(weight).ok().filter(|small| *small != LARGE);
        if self.small[place] == LARGE && small.is_some() {
            self.large.remove(&number(place));
        }
        self.small[place] = small.unwrap_or(LARGE);
        if small.is_none() {
            self.large.insert(number(place), weight);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        (0..self.small.len()).map(|place| self.get(place))
    }

    pub fn bytes(&self) -> usize {
        // A B-tree's nodes are two thirds full on average.
        self.small.capacity() + self.large.len() * size_of::<(u32, i64)>() * 3 / 2
    }
}

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("a chunk has fewer than 2^32 places")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_of_any_size_is_kept() {
        let mut weights = Weights::default();
        weights.resize(3);
        let values = [0, 1, 127, 128, -127, -128, -129, i64::MAX, i64::MIN, 1];
        for value in values {
            weights.set(1, value);
            assert_eq!(weights.iter().collect::<Vec<_>>(), [0, value, 0]);
        }
        assert!(
            weights.large.is_empty(),
            "what is small again takes no room"
        );
        weights.set(0, 1000);
        weights.resize(4);
        assert_eq!(
            (weights.get(0), weights.get(3), weights.len()),
            (1000, 0, 4)
        );
    }
}
