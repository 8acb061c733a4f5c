//! A set of slots, a bit each: which of them a step has changed, which a checkpoint still wants.

/// Slots; see the module page.
#[derive(Clone, Debug, Default)]
pub struct SlotSet {
    words: Vec<u64>,
    /// No word before this one has a slot: where taking slots out goes on.
    first: usize,
}

impl SlotSet {
    /// Adds a slot. Returns whether it is new.
    #[inline]
    pub fn insert(&mut self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.first = self.first.min(word);
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        is_new
    }

    #[inline]
    pub fn contains(&self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        self.words.get(word).is_some_and(|each| each & bit != 0)
    }

    /// Takes a slot out. Returns whether it was there.
    #[inline]
    pub fn remove(&mut self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        let Some(each) = self.words.get_mut(word) else {
            return false;
        };
        let was_there = *each & bit != 0;
        *each &= !bit;
        was_there
    }

    /// Takes out the lowest slots, rising, as many as `count` if there are.
    pub fn take(&mut self, count: usize) -> Vec<u32> {
        let mut slots = Vec::new();
        while let Some(word) = self.words.get_mut(self.first) {
            while *word != 0 && slots.len() < count {
                let bit = word.trailing_zeros();
                *word &= *word - 1;
                let base = u32::try_from(self.first * 64).expect("slots fit u32");
                slots.push(base + bit);
            }
            if *word != 0 {
                break;
            }
            self.first += 1;
        }
        slots
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        let rest = self.words.get(self.first..).unwrap_or_default();
        rest.iter().all(|&word| word == 0)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }
}

#[inline]
fn place(slot: u32) -> (usize, u64) {
    (slot as usize / 64, 1 << (slot % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_taken_once_each_and_in_order() {
        let mut set = SlotSet::default();
        for slot in [700, 3, 64, 63, 3] {
            set.insert(slot);
        }
        assert!(!set.insert(64) && set.contains(700) && !set.contains(4) && !set.contains(9999));
        assert_eq!(set.take(2), [3, 63]);
        // One behind the place that was reached.
        assert!(set.insert(1));
        assert!(set.remove(64) && !set.remove(64) && !set.remove(5000));
        assert_eq!(set.take(10), [1, 700]);
        assert!(set.is_empty());
        for slot in 62..66 {
            set.insert(slot);
        }
        assert!(!set.is_empty());
        assert_eq!(set.take(usize::MAX), [62, 63, 64, 65]);
    }
}
