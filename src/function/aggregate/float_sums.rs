//! Correctly rounded sums of floats, a column of them, that do not depend on the order of rows.
//!
//! The sum of a group stands as an unevaluated pair of doubles whose exact sum it is. Most groups
//! never need more: values of like magnitude fill some eighty of the pair's 106 bits. Where a pair
//! does not hold the exact sum, the group gets a long fixed-point number until
//! [`FloatSums::settle`] finds that a pair is enough again. NaN and infinities are counted apart,
//! so that they can leave.
//!
//! ```text
//!   +1e16, +1, +1     pair (1e16, 2)                      sum 1.0000000000000002e16
//!   +1e-300           a long number                       (three distant magnitudes)
//!   −1e16, −1, −1     pair (1e-300, 0) after settle       sum 1e-300, exactly
//! ```

use crate::base::growth::grow;
use crate::error::{Error, Result, SqlState};
use crate::function::aggregate::wide_float::{WIDE_BYTES, WideFloat};

/// Partial sums from here on go to the long form: the error-free addition of two doubles is proven
/// only where nothing near it overflows.
pub(super) const PAIR_MAX: f64 = f64::MAX / 8.0;

/// Integers up to 2^53 are doubles.
const WEIGHT_MAX: u64 = 1 << 53;

/// An exact sum as `high + low`; when `high` is NaN, the sum is `longs[low]`.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    high: f64,
    low: f64,
}

/// How often a group has each value that cannot be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Specials {
    nan: i64,
    positive: i64,
    negative: i64,
}

/// Correctly rounded sums by slot.
#[derive(Clone, Debug, Default)]
pub struct FloatSums {
    pairs: Vec<Pair>,
    longs: Vec<WideFloat>,
    free_longs: Vec<usize>,
    /// Empty until the first NaN or infinity comes.
    specials: Vec<Specials>,
}

impl FloatSums {
    /// Makes room for slots below `slots`; new ones are zero.
    pub fn grow(&mut self, slots: usize) {
        if self.pairs.len() < slots {
            grow(&mut self.pairs, slots, Pair::default());
            if !self.specials.is_empty() {
                self.specials.resize(slots, Specials::default());
            }
        }
    }

    /// Adds `weight × value`.
    #[inline]
    pub fn add(&mut self, slot: usize, value: f64, weight: i64) {
        match weight {
            1 => self.add_once(slot, value),
            -1 if value.is_finite() => self.add_once(slot, -value),
            _ => self.add_weighted(slot, value, weight),
        }
    }

    #[inline]
    fn add_once(&mut self, slot: usize, value: f64) {
        let pair = &mut self.pairs[slot];
        let (high, error) = two_sum(pair.high, value);
        let (low, rest) = two_sum(pair.low, error);
        // Not true either when the value is NaN or infinite, or the sum stands in its long form.
        if rest == 0.0 && high.abs() < PAIR_MAX {
            *pair = Pair { high, low };
        } else {
            self.add_slowly(slot, value, 1);
        }
    }

    #[cold]
    fn add_weighted(&mut self, slot: usize, value: f64, weight: i64) {
        let product = value * weight_as_float(weight);
        if weight.unsigned_abs() <= WEIGHT_MAX && product.abs() < PAIR_MAX {
            // A multiple of the value's last bit, the error is a double, whatever the exponent.
            let error = value.mul_add(weight_as_float(weight), -product);
            self.add_once(slot, product);
            self.add_once(slot, error);
        } else if weight != 0 {
            self.add_slowly(slot, value, weight);
        }
    }

    #[cold]
    fn add_slowly(&mut self, slot: usize, value: f64, weight: i64) {
        if !value.is_finite() {
            if self.specials.is_empty() {
                self.specials.resize(self.pairs.len(), Specials::default());
            }
            let specials = &mut self.specials[slot];
            match (value.is_nan(), value > 0.0) {
                (true, _) => specials.nan += weight,
                (false, true) => specials.positive += weight,
                (false, false) => specials.negative += weight,
            }
            return;
        }
        if weight == 1 && self.add_renormalised(slot, value) {
            return;
        }
        self.long(slot).add(value, weight);
    }

    /// Adds a value that the pair holds only after its parts have been drawn apart.
    fn add_renormalised(&mut self, slot: usize, value: f64) -> bool {
        let pair = self.pairs[slot];
        let (sum, first_error) = two_sum(pair.high, value);
        let (low, second_error) = two_sum(pair.low, first_error);
        let (high, low) = two_sum(sum, low);
        let (low, rest) = two_sum(low, second_error);
        let is_exact = rest == 0.0 && high.abs() < PAIR_MAX && sum.abs() < PAIR_MAX;
        if is_exact {
            self.pairs[slot] = Pair { high, low };
        }
        is_exact
    }

    /// The slot's sum in its long form.
    fn long(&mut self, slot: usize) -> &mut WideFloat {
        let pair = self.pairs[slot];
        if !pair.high.is_nan() {
            let mut long = WideFloat::zero();
            long.add(pair.high, 1);
            long.add(pair.low, 1);
            let index = self.free_longs.pop().unwrap_or(self.longs.len());
            match self.longs.get_mut(index) {
                Some(place) => *place = long,
                None => self.longs.push(long),
            }
            let low = f64::from(u32::try_from(index).expect("there are fewer than 2^32 slots"));
            self.pairs[slot] = Pair {
                high: f64::NAN,
                low,
            };
        }
        let index = self.long_index(slot).expect("it has been given one");
        &mut self.longs[index]
    }

    #[inline]
    fn long_index(&self, slot: usize) -> Option<usize> {
        let pair = self.pairs[slot];
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the pair holds an index below 2^32"
        )]
        pair.high.is_nan().then_some(pair.low as usize)
    }

    /// Puts the slot's sum back into a pair where one holds it.
    pub fn settle(&mut self, slot: usize) {
        let Some(index) = self.long_index(slot) else {
            return;
        };
        if let Some((high, low)) = self.longs[index].to_pair()
            && high.abs() < PAIR_MAX
        {
            self.release_long(slot);
            self.pairs[slot] = Pair { high, low };
        }
    }

    fn release_long(&mut self, slot: usize) {
        if let Some(index) = self.long_index(slot) {
            self.free_longs.push(index);
            if self.free_longs.len() == self.longs.len() {
                self.longs.clear();
                self.free_longs.clear();
            }
        }
    }

    /// The slot's sum; `None` when all its values are finite and their sum is not.
    pub fn get(&self, slot: usize) -> Option<f64> {
        let specials = self.specials.get(slot).copied().unwrap_or_default();
        match specials {
            Specials {
                nan: 0,
                positive: 0,
                negative: 0,
            } => {}
            Specials {
                nan: 0,
                positive: _,
                negative: 0,
            } => return Some(f64::INFINITY),
            Specials {
                nan: 0,
                positive: 0,
                negative: _,
            } => return Some(f64::NEG_INFINITY),
            _ => return Some(f64::NAN),
        }
        let sum = match self.long_index(slot) {
            Some(index) => self.longs[index].round(),
            None => self.pairs[slot].high + self.pairs[slot].low,
        };
        // Zero has no sign here: which one it got would depend on the order of rows.
        sum.is_finite().then_some(sum + 0.0)
    }

    /// Sets a slot back to zero.
    pub fn clear(&mut self, slot: usize) {
        self.release_long(slot);
        self.pairs[slot] = Pair::default();
        if let Some(specials) = self.specials.get_mut(slot) {
            *specials = Specials::default();
        }
    }

    /// Appends the slot's sum to `bytes`, in a form that [`FloatSums::merge`] reads.
    pub fn write(&self, slot: usize, bytes: &mut Vec<u8>) {
        let specials = self.specials.get(slot).copied().unwrap_or_default();
        for count in [specials.nan, specials.positive, specials.negative] {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        match self.long_index(slot) {
            Some(index) => self.longs[index].write(bytes),
            None => {
                bytes.extend_from_slice(&self.pairs[slot].high.to_le_bytes());
                bytes.extend_from_slice(&self.pairs[slot].low.to_le_bytes());
            }
        }
    }

    /// Adds a written sum to the slot's.
    pub fn merge(&mut self, slot: usize, bytes: &[u8]) -> Result<()> {
        let corrupted = || {
            Error::new(
                SqlState::DATA_CORRUPTED,
                "a stored float sum has the wrong length",
            )
        };
        let (counts, sum) = bytes.split_first_chunk::<24>().ok_or_else(corrupted)?;
        let (counts, _) = counts.as_chunks::<8>();
        let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        for (count, value) in counts.iter().zip(values) {
            match i64::from_le_bytes(*count) {
                0 => {}
                count => self.add_slowly(slot, value, count),
            }
        }
        if let Ok(pair) = <&[u8; 16]>::try_from(sum) {
            let (parts, _) = pair.as_chunks::<8>();
            parts
                .iter()
                .for_each(|part| self.add(slot, f64::from_le_bytes(*part), 1));
        } else {
            let long: &[u8; WIDE_BYTES] = sum.try_into().map_err(|_| corrupted())?;
            self.long(slot).add_wide(&WideFloat::read(long), 1);
        }
        Ok(())
    }

    /// Adds `times` (1, or −1 to take it out again) the sum of slot `from` to that of `into`.
    pub fn combine(&mut self, from: usize, into: usize, times: i64) {
        if let Some(specials) = self.specials.get(from).copied() {
            let counts = [specials.nan, specials.positive, specials.negative];
            let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
            let counted = values.into_iter().zip(counts);
            for (value, count) in counted.filter(|(_, count)| *count != 0) {
                self.add_slowly(into, value, count * times);
            }
        }
        match self.long_index(from) {
            None => {
                let Pair { high, low } = self.pairs[from];
                self.add(into, high, times);
                self.add(into, low, times);
            }
            Some(index) => {
                let long = self.longs[index].clone();
                self.long(into).add_wide(&long, times);
            }
        }
    }

    /// Adds `times` (1 or −1) the sum of slot `from` of another column to that of `into`.
    pub(super) fn combine_from(&mut self, into: usize, other: &FloatSums, from: usize, times: i64) {
        if let Some(specials) = other.specials.get(from) {
            let counts = [specials.nan, specials.positive, specials.negative];
            let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
            let counted = values.into_iter().zip(counts);
            for (value, count) in counted.filter(|(_, count)| *count != 0) {
                self.add_slowly(into, value, count * times);
            }
        }
        match other.long_index(from) {
            None => {
                let Pair { high, low } = other.pairs[from];
                self.add(into, high, times);
                self.add(into, low, times);
            }
            Some(index) => self.long(into).add_wide(&other.longs[index], times),
        }
    }

    /// The slot's sum as two doubles, where nothing else is needed for it.
    pub(super) fn pair(&self, slot: usize) -> Option<(f64, f64)> {
        let specials = self.specials.get(slot).copied().unwrap_or_default();
        let Pair { high, low } = self.pairs[slot];
        (specials == Specials::default() && !high.is_nan()).then_some((high, low))
    }

    /// Takes the first `slots` slots away; the others move down.
    pub fn drop_first(&mut self, slots: usize) {
        let slots = slots.min(self.pairs.len());
        (0..slots).for_each(|slot| self.release_long(slot));
        self.pairs.drain(..slots);
        self.specials.drain(..slots.min(self.specials.len()));
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.pairs.capacity() * size_of::<Pair>()
            + self.longs.capacity() * size_of::<WideFloat>()
            + self.longs.len() * WIDE_BYTES
            + self.specials.capacity() * size_of::<Specials>()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53; beyond, it only tells the size"
)]
fn weight_as_float(weight: i64) -> f64 {
    weight as f64
}

/// The rounded sum and its error: `a + b` is exactly the sum of both (Knuth).
#[inline]
pub(super) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums() -> FloatSums {
        let mut sums = FloatSums::default();
        sums.grow(1);
        sums
    }

    fn random_value(random: &mut fastrand::Rng) -> f64 {
        match random.u8(..) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => f64::NEG_INFINITY,
            3..9 => f64::from_bits(random.u64(..)),
            9..20 => random.f64() * 10f64.powi(random.i32(-300..300)),
            _ => random.f64() * 1000.0,
        }
    }

    #[test]
    fn the_sum_is_exact_whatever_comes_goes_and_in_which_order() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut sums = sums();
            let mut rows: Vec<(f64, i64)> = Vec::new();
            for _ in 0..random.usize(1..60) {
                let is_removal = random.bool() && !rows.is_empty();
                let (value, weight) = match is_removal {
                    true => {
                        let (value, weight) = rows.swap_remove(random.usize(..rows.len()));
                        (value, -weight)
                    }
                    false => {
                        let weight = if random.bool() {
                            1
                        } else {
                            random.i64(1..1 << 60)
                        };
                        rows.push((random_value(&mut random), weight));
                        rows[rows.len() - 1]
                    }
                };
                sums.add(0, value, weight);
                if random.bool() {
                    sums.settle(0);
                }
            }
            random.shuffle(&mut rows);
            let mut fresh = self::sums();
            rows.iter()
                .for_each(|&(value, weight)| fresh.add(0, value, weight));
            let (left, right) = (sums.get(0), fresh.get(0));
            assert_eq!(
                left.map(f64::to_bits),
                right.map(f64::to_bits),
                "seed {seed}"
            );
            rows.iter()
                .for_each(|&(value, weight)| sums.add(0, value, -weight));
            sums.settle(0);
            assert_eq!(sums.get(0), Some(0.0), "seed {seed}");
            assert!(
                sums.longs.is_empty(),
                "nothing is left of the long form, seed {seed}"
            );
        }
    }

    #[test]
    fn a_sum_that_is_combined_and_taken_out_again_leaves_no_trace() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut sums = FloatSums::default();
            sums.grow(3);
            for slot in 0..3 {
                for _ in 0..random.usize(..8) {
                    sums.add(slot, random_value(&mut random), 1);
                }
            }
            let before = sums.get(2).map(f64::to_bits);
            sums.combine(0, 2, 1);
            sums.combine(1, 2, 1);
            sums.combine(0, 2, -1);
            sums.settle(2);
            sums.combine(1, 2, -1);
            sums.settle(2);
            assert_eq!(sums.get(2).map(f64::to_bits), before, "seed {seed}");
        }
    }

    #[test]
    fn an_ordinary_column_stays_compact() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut sums = sums();
        for _ in 0..100_000 {
            sums.add(0, random.f64() * 1000.0, 1);
        }
        assert!(sums.longs.is_empty());
    }

    #[test]
    fn what_is_written_is_merged() {
        for seed in 0..100 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut whole = sums();
            let mut merged = sums();
            for _ in 0..4 {
                let mut part = sums();
                for _ in 0..random.usize(..5) {
                    let value = random_value(&mut random);
                    whole.add(0, value, 1);
                    part.add(0, value, 1);
                }
                let mut bytes = Vec::new();
                part.write(0, &mut bytes);
                merged.merge(0, &bytes).unwrap();
            }
            assert_eq!(
                merged.get(0).map(f64::to_bits),
                whole.get(0).map(f64::to_bits)
            );
        }
        assert_eq!(
            sums().merge(0, b"short").unwrap_err().state().code(),
            "XX001"
        );
    }

    #[test]
    fn a_sum_beyond_the_largest_double_is_none_until_it_is_back() {
        let mut sums = sums();
        sums.add(0, f64::MAX, 2);
        assert_eq!(sums.get(0), None);
        sums.add(0, f64::MAX, -1);
        assert_eq!(sums.get(0), Some(f64::MAX));
    }
}
