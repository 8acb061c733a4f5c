//! Exact sums of integers and decimals, a column of them: nothing wraps, and what leaves a sum
//! leaves no trace.
//!
//! A sum stands in 128 bits, which integers cannot exceed while the number of rows fits 64 bits.
//! Decimals of 38 digits can: each time such a sum passes the end of the 128 bits it is counted, so
//! that the value is always `low + wraps × 2^128` and comes back when rows leave.
//!
//! ```text
//!   add 9e37            low  9e37   wraps 0
//!   add 9e37            low −1.6e38 wraps 1     out of numeric's range: an error row, not a number
//!   add 9e37, weight −1 low  9e37   wraps 0
//! ```

use arrow::datatypes::i256;

use crate::base::growth::grow;
use crate::error::{Error, Result, SqlState};

/// The first integer that `numeric` of 38 digits does not hold.
const NUMERIC_END: i128 = 10i128.pow(38);

/// One exact sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExactSum {
    low: i128,
    wraps: i64,
}

impl ExactSum {
    /// The sum as the unscaled value of a decimal of 38 digits; `None` when it has more.
    pub fn to_decimal(self) -> Option<i128> {
        (self.wraps == 0).then_some(self.low).and_then(in_range)
    }

    /// The sum as a bigint; `None` when it is out of its range.
    pub fn to_bigint(self) -> Option<i64> {
        (self.wraps == 0).then(|| i64::try_from(self.low).ok())?
    }

    /// Adds `weight × value`.
    pub fn add(&mut self, value: i128, weight: i64) {
        let (low, wraps) = match value.checked_mul(i128::from(weight)) {
            Some(product) => (product, 0),
            None => wide_product(value, weight),
        };
        self.combine(ExactSum { low, wraps }, 1);
    }

    /// Adds `times` (1, or −1 to take it out again) another sum.
    pub fn combine(&mut self, other: ExactSum, times: i64) {
        let (low, has_wrapped) = match times {
            1 => self.low.overflowing_add(other.low),
            _ => self.low.overflowing_sub(other.low),
        };
        self.low = low;
        self.wraps += other.wraps * times;
        if has_wrapped {
            // The end that was passed is that of the sign of what was added.
            self.wraps += match (other.low < 0) != (times < 0) {
                true => -1,
                false => 1,
            };
        }
    }

    /// The sum divided by `count`, with `digits` more fractional digits than the sum has, rounded
    /// half away from zero as Postgres does; `None` when it has more than 38 digits.
    ///
    /// # Panics
    /// When `count` is not positive.
    pub fn average(self, count: i64, digits: u32) -> Option<i128> {
        assert!(count > 0, "an average is over at least one row");
        self.average_narrow(i128::from(count), digits)
            .unwrap_or_else(|| self.average_wide(count, digits))
    }

    /// The average in 128 bits; the outer `None` says that an intermediate value does not fit.
    fn average_narrow(self, count: i128, digits: u32) -> Option<Option<i128>> {
        if self.wraps != 0 {
            return None;
        }
        let power = 10i128.checked_pow(digits)?;
        let whole = (self.low / count).checked_mul(power)?;
        let rest = (self.low % count).checked_mul(power)?;
        let fraction = round_half_away(rest / count, rest % count, count);
        Some(whole.checked_add(fraction).and_then(in_range))
    }

    fn average_wide(self, count: i64, digits: u32) -> Option<i128> {
        let carry = i128::from(self.wraps) - i128::from(self.low < 0);
        let sum = i256::from_parts(u128::from_le_bytes(self.low.to_le_bytes()), carry);
        let scaled = sum.checked_mul(i256::from_i128(10).checked_pow(digits)?)?;
        let count = i128::from(count);
        let divisor = i256::from_i128(count);
        let whole = scaled.checked_div(divisor)?.to_i128()?;
        let rest = scaled.checked_rem(divisor)?.to_i128()?;
        in_range(round_half_away(whole, rest, count))
    }
}

fn in_range(value: i128) -> Option<i128> {
    (value.unsigned_abs() < NUMERIC_END.unsigned_abs()).then_some(value)
}

/// The quotient, one further from zero when the rest is at least half the divisor.
fn round_half_away(quotient: i128, rest: i128, divisor: i128) -> i128 {
    match rest.unsigned_abs() >= divisor.unsigned_abs().div_ceil(2) {
        true => quotient + rest.signum(),
        false => quotient,
    }
}

/// The product's lower 128 bits as a number, and how often it has passed their end.
#[cold]
fn wide_product(value: i128, weight: i64) -> (i128, i64) {
    let product = i256::from_i128(value).wrapping_mul(i256::from_i128(i128::from(weight)));
    let (low, high) = product.to_parts();
    let low = i128::from_le_bytes(low.to_le_bytes());
    let wraps = high + i128::from(low < 0);
    let wraps = i64::try_from(wraps).expect("127 bits times 63 bits stay below 191 bits");
    (low, wraps)
}

/// Exact sums by slot.
#[derive(Debug, Default)]
pub struct ExactSums {
    low: Vec<i128>,
    /// Empty until a sum first passes the end of 128 bits.
    wraps: Vec<i64>,
}

/// Bytes of a sum as [`ExactSums::write`] puts it out.
const ENCODED_BYTES: usize = 24;

impl ExactSums {
    /// Makes room for slots below `slots`; new ones are zero.
    pub fn grow(&mut self, slots: usize) {
        grow(&mut self.low, slots, 0);
    }

    /// Adds `weight × value`, where a value is an integer of at most 64 bits.
    #[inline]
    pub fn add_integer(&mut self, slot: usize, value: i128, weight: i64) {
        // 2^63 rows of 2^64 stay below 2^127: the sum itself cannot wrap, and intermediate values
        // may, without harm, because the last one is right modulo 2^128.
        let sum = &mut self.low[slot];
        *sum = sum.wrapping_add(value.wrapping_mul(i128::from(weight)));
    }

    /// Adds `weight × value` for any value.
    #[inline]
    pub fn add(&mut self, slot: usize, value: i128, weight: i64) {
        match value.checked_mul(i128::from(weight)) {
            Some(product) => self.add_once(slot, product),
            None => self.add_wide(slot, value, weight),
        }
    }

    #[inline]
    fn add_once(&mut self, slot: usize, value: i128) {
        let (sum, has_wrapped) = self.low[slot].overflowing_add(value);
        self.low[slot] = sum;
        if has_wrapped {
            self.add_wraps(slot, if value < 0 { -1 } else { 1 });
        }
    }

    #[cold]
    fn add_wide(&mut self, slot: usize, value: i128, weight: i64) {
        let (low, wraps) = wide_product(value, weight);
        self.add_once(slot, low);
        self.add_wraps(slot, wraps);
    }

    #[cold]
    fn add_wraps(&mut self, slot: usize, wraps: i64) {
        if self.wraps.len() < self.low.len() {
            self.wraps.resize(self.low.len(), 0);
        }
        self.wraps[slot] += wraps;
    }

    #[inline]
    pub fn get(&self, slot: usize) -> ExactSum {
        ExactSum {
            low: self.low[slot],
            wraps: self.wraps.get(slot).copied().unwrap_or(0),
        }
    }

    /// Adds a sum to that of a slot.
    pub(super) fn add_sum(&mut self, slot: usize, sum: ExactSum) {
        self.add_once(slot, sum.low);
        if sum.wraps != 0 {
            self.add_wraps(slot, sum.wraps);
        }
    }

    /// Sets a slot back to zero.
    pub fn clear(&mut self, slot: usize) {
        self.low[slot] = 0;
        if let Some(wraps) = self.wraps.get_mut(slot) {
            *wraps = 0;
        }
    }

    /// Appends the slot's sum to `bytes`, in a form that [`ExactSums::merge`] reads.
    pub fn write(&self, slot: usize, bytes: &mut Vec<u8>) {
        let sum = self.get(slot);
        bytes.extend_from_slice(&sum.low.to_le_bytes());
        bytes.extend_from_slice(&sum.wraps.to_le_bytes());
    }

    /// Adds a written sum to the slot's.
    pub fn merge(&mut self, slot: usize, bytes: &[u8]) -> Result<()> {
        let (low, wraps) = bytes
            .split_first_chunk::<16>()
            .and_then(|(low, rest)| Some((low, rest.first_chunk::<8>()?)))
            .filter(|_| bytes.len() == ENCODED_BYTES)
            .ok_or_else(|| {
                Error::new(
                    SqlState::DATA_CORRUPTED,
                    "a stored sum has the wrong length",
                )
            })?;
        self.add_once(slot, i128::from_le_bytes(*low));
        match i64::from_le_bytes(*wraps) {
            0 => {}
            wraps => self.add_wraps(slot, wraps),
        }
        Ok(())
    }

    /// Adds `times` (1, or −1 to take it out again) the sum of slot `from` to that of `into`.
    #[inline]
    pub fn combine(&mut self, from: usize, into: usize, times: i64) {
        let ExactSum { low, wraps } = self.get(from);
        match times {
            1 => self.add_once(into, low),
            _ => self.add(into, low, times),
        }
        if wraps != 0 {
            self.add_wraps(into, wraps * times);
        }
    }

    /// Takes the first `slots` slots away; the others move down.
    pub fn drop_first(&mut self, slots: usize) {
        self.low.drain(..slots.min(self.low.len()));
        self.wraps.drain(..slots.min(self.wraps.len()));
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.low.capacity() * size_of::<i128>() + self.wraps.capacity() * size_of::<i64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums() -> ExactSums {
        let mut sums = ExactSums::default();
        sums.grow(1);
        sums
    }

    #[test]
    fn a_sum_that_left_its_range_comes_back() {
        let mut sums = sums();
        let huge = NUMERIC_END - 1;
        for _ in 0..5 {
            sums.add(0, huge, 1);
        }
        assert_eq!(sums.get(0).to_decimal(), None);
        assert_eq!(sums.get(0).average(5, 0), Some(huge));
        sums.add(0, huge, -4);
        assert_eq!(sums.get(0).to_decimal(), Some(huge));
        sums.add(0, huge, -1);
        assert_eq!(sums.get(0), ExactSum::default());
    }

    #[test]
    fn weights_multiply_beyond_128_bits() {
        let mut sums = sums();
        sums.add(0, -(NUMERIC_END - 1), i64::MAX);
        assert_eq!(sums.get(0).average(i64::MAX, 0), Some(-(NUMERIC_END - 1)));
        let mut bytes = Vec::new();
        sums.write(0, &mut bytes);
        let mut other = self::sums();
        other.merge(0, &bytes).unwrap();
        assert_eq!(other.get(0), sums.get(0));
        other.add(0, NUMERIC_END - 1, i64::MAX);
        assert_eq!(other.get(0), ExactSum::default());
    }

    #[test]
    fn a_sum_that_is_combined_and_taken_out_again_leaves_no_trace() {
        let mut sums = ExactSums::default();
        sums.grow(3);
        sums.add(0, NUMERIC_END - 1, 3);
        sums.add(1, i128::MIN, 1);
        sums.add(2, 7, 1);
        sums.combine(0, 2, 1);
        sums.combine(1, 2, 1);
        sums.combine(0, 2, -1);
        assert_eq!(sums.get(2).average(1, 0), None);
        sums.combine(1, 2, -1);
        assert_eq!(sums.get(2).to_bigint(), Some(7));
    }

    #[test]
    fn one_sum_is_what_a_column_of_them_is() {
        let values = [
            i128::MAX,
            NUMERIC_END - 1,
            -7,
            i128::MIN,
            0,
            1 - NUMERIC_END,
        ];
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut sums, mut parts) = (sums(), [ExactSum::default(); 3]);
            for _ in 0..random.usize(..20) {
                let value = values[random.usize(..values.len())];
                let weight = if random.bool() {
                    1
                } else {
                    random.i64(-1000..1000)
                };
                sums.add(0, value, weight);
                parts[random.usize(..parts.len())].add(value, weight);
            }
            let mut whole = ExactSum::default();
            parts.iter().for_each(|&part| whole.combine(part, 1));
            assert_eq!(whole, sums.get(0), "seed {seed}");
            parts.iter().for_each(|&part| whole.combine(part, -1));
            assert_eq!(whole, ExactSum::default(), "seed {seed}");
        }
    }

    #[test]
    fn an_average_rounds_half_away_from_zero() {
        let average = |sum: i128, count, digits| {
            let mut sums = sums();
            sums.add(0, sum, 1);
            sums.get(0).average(count, digits)
        };
        assert_eq!(average(1, 3, 4), Some(3333));
        assert_eq!(average(2, 3, 4), Some(6667));
        assert_eq!(average(-2, 3, 4), Some(-6667));
        assert_eq!(average(5, 2, 0), Some(3));
        assert_eq!(average(-5, 2, 0), Some(-3));
        assert_eq!(average(7, 2, 16), Some(35_000_000_000_000_000));
        // More digits than 38 are refused, also where 128 bits would hold them.
        assert_eq!(average(NUMERIC_END - 1, 1, 1), None);
        assert_eq!(average(NUMERIC_END - 1, 10, 1), Some(NUMERIC_END - 1));
    }

    #[test]
    fn a_bigint_sum_is_refused_at_its_ends() {
        let mut sums = sums();
        sums.add_integer(0, i128::from(i64::MAX), 1);
        assert_eq!(sums.get(0).to_bigint(), Some(i64::MAX));
        sums.add_integer(0, 1, 1);
        assert_eq!(sums.get(0).to_bigint(), None);
        sums.add_integer(0, i128::from(i64::MAX), -2);
        assert_eq!(sums.get(0).to_bigint(), Some(1 - i64::MAX));
    }
}
