//! An exact sum of any floats: one long fixed-point number.
//!
//! Every finite double is an integer times 2^−1074 of at most 2,098 bits, so a number of 70 digits
//! to the base 2^32 holds every sum of them exactly, with room for 2^63 rows of weight 2^63.
//! Digits are signed and 64 bits wide: carries are put off until they could run over.

/// Digits to the base 2^32: 2,098 bits of a double, 126 of count and weight, rounded up.
const DIGITS: usize = 70;

/// An addition puts less than 2^33 into a digit; after so many the carries are done.
const ADDITIONS_MAX: u32 = 1 << 29;

const DIGIT_BITS: usize = 32;
const DIGIT_MASK: i64 = 0xffff_ffff;

/// Bits of a double's mantissa, the hidden one included.
const MANTISSA_BITS: usize = 53;

/// An exact sum of finite doubles.
#[derive(Clone, Debug)]
pub(super) struct WideFloat {
    digits: Box<[i64; DIGITS]>,
    /// Additions since the digits were last brought below 2^32.
    additions: u32,
}

/// Bytes of a number as [`WideFloat::write`] puts it out.
pub(super) const WIDE_BYTES: usize = DIGITS * 8;

impl WideFloat {
    pub fn zero() -> WideFloat {
        WideFloat {
            digits: Box::new([0; DIGITS]),
            additions: 0,
        }
    }

    /// Adds `weight × value`.
    ///
    /// # Panics
    /// When the value is not finite.
    pub fn add(&mut self, value: f64, weight: i64) {
        assert!(
            value.is_finite(),
            "infinities and NaN are counted, not added"
        );
        let bits = value.to_bits();
        let exponent = (bits >> 52) & 0x7ff;
        let fraction = bits & ((1 << 52) - 1);
        let mantissa = match exponent {
            0 => fraction,
            _ => fraction | (1 << 52),
        };
        let position = usize::try_from(exponent.max(1) - 1).expect("eleven bits");
        let is_negative = value.is_sign_negative() != (weight < 0);
        let product = u128::from(mantissa) * u128::from(weight.unsigned_abs());
        self.add_product(product, position, is_negative);
    }

    /// Adds or subtracts `product × 2^position`, the product below 2^117.
    fn add_product(&mut self, product: u128, position: usize, is_negative: bool) {
        let shift = position % DIGIT_BITS;
        let mut rest = product;
        for digit in self.digits[position / DIGIT_BITS..].iter_mut() {
            if rest == 0 {
                break;
            }
            // The lowest digit takes what is left of it above the shift.
            let width = match rest == product {
                true => DIGIT_BITS - shift,
                false => DIGIT_BITS,
            };
            let piece = low_bits(rest, width) << (DIGIT_BITS - width);
            rest >>= width;
            *digit += if is_negative { -piece } else { piece };
        }
        assert!(rest == 0, "the digits hold every product");
        self.additions += 1;
        if self.additions >= ADDITIONS_MAX {
            self.carry();
        }
    }

    /// Adds `times` (1 or −1) another number.
    pub fn add_wide(&mut self, other: &WideFloat, times: i64) {
        self.carry();
        let mut other = other.clone();
        other.carry();
        for (digit, added) in self.digits.iter_mut().zip(other.digits.iter()) {
            *digit += added * times;
        }
        self.carry();
    }

    /// Brings every digit but the highest into 0..2^32; the highest has the number's sign.
    fn carry(&mut self) {
        for index in 0..DIGITS - 1 {
            let carried = self.digits[index] >> DIGIT_BITS;
            self.digits[index] &= DIGIT_MASK;
            self.digits[index + 1] += carried;
        }
        self.additions = 0;
    }

    /// The nearest double, half to even; infinite when the sum is beyond the largest.
    pub fn round(&self) -> f64 {
        let mut magnitude = self.clone();
        magnitude.carry();
        let is_negative = magnitude.digits[DIGITS - 1] < 0;
        if is_negative {
            magnitude
                .digits
                .iter_mut()
                .for_each(|digit| *digit = -*digit);
            magnitude.carry();
        }
        let rounded = magnitude.round_magnitude();
        if is_negative { -rounded } else { rounded }
    }

    fn round_magnitude(&self) -> f64 {
        let Some(highest) = self.digits.iter().rposition(|&digit| digit != 0) else {
            return 0.0;
        };
        let leading = usize::try_from(self.digits[highest].leading_zeros()).expect("at most 64");
        let top = highest * DIGIT_BITS + (63 - leading);
        if top < MANTISSA_BITS {
            // Up to 2^53 × 2^−1074 a double's bits are the number itself.
            return f64::from_bits(self.bits_from(0));
        }
        let shift = top + 1 - MANTISSA_BITS;
        let mantissa = self.bits_from(shift);
        let is_half = self.bit(shift - 1);
        let is_above_half = is_half && (0..shift - 1).any(|bit| self.bit(bit));
        let rounds_up = is_above_half || (is_half && mantissa & 1 == 1);
        // The hidden bit counts one into the exponent, and so does a mantissa that rounds over.
        let exponent = u64::try_from(shift).expect("a few thousand bits");
        let bits = (exponent << 52) + mantissa + u64::from(rounds_up);
        match bits >= f64::INFINITY.to_bits() || exponent >= 0x7ff {
            true => f64::INFINITY,
            false => f64::from_bits(bits),
        }
    }

    /// The 53 bits from `shift` on, of a number without signs.
    fn bits_from(&self, shift: usize) -> u64 {
        let digit = |index: usize| {
            let digit = self.digits.get(index).copied().unwrap_or(0);
            u128::try_from(digit).expect("a magnitude has no negative digit")
        };
        let first = shift / DIGIT_BITS;
        let window = digit(first) | digit(first + 1) << 32 | digit(first + 2) << 64;
        let bits = (window >> (shift % DIGIT_BITS)) & ((1 << MANTISSA_BITS) - 1);
        u64::try_from(bits).expect("53 bits")
    }

    fn bit(&self, index: usize) -> bool {
        self.digits[index / DIGIT_BITS] >> (index % DIGIT_BITS) & 1 == 1
    }

    /// The number as a sum of two doubles, where it is one.
    pub fn to_pair(&self) -> Option<(f64, f64)> {
        let high = self.round();
        if !high.is_finite() {
            return None;
        }
        let mut rest = self.clone();
        rest.add(high, -1);
        let low = rest.round();
        rest.add(low, -1);
        rest.carry();
        rest.digits
            .iter()
            .all(|&digit| digit == 0)
            .then_some((high, low))
    }

    pub fn write(&self, bytes: &mut Vec<u8>) {
        let mut carried = self.clone();
        carried.carry();
        carried
            .digits
            .iter()
            .for_each(|digit| bytes.extend_from_slice(&digit.to_le_bytes()));
    }

    pub fn read(bytes: &[u8; WIDE_BYTES]) -> WideFloat {
        let mut number = WideFloat::zero();
        let (words, _) = bytes.as_chunks::<8>();
        for (digit, word) in number.digits.iter_mut().zip(words) {
            *digit = i64::from_le_bytes(*word);
        }
        number.carry();
        number
    }
}

fn low_bits(value: u128, width: usize) -> i64 {
    i64::try_from(value & ((1 << width) - 1)).expect("at most 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> WideFloat {
        let mut sum = WideFloat::zero();
        values.iter().for_each(|&value| sum.add(value, 1));
        sum
    }

    #[test]
    fn one_value_comes_back_bit_by_bit() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let value = f64::from_bits(random.u64(..));
            if value.is_finite() && value != 0.0 {
                assert_eq!(
                    sum(&[value]).round().to_bits(),
                    value.to_bits(),
                    "{value:e}"
                );
            }
        }
        for value in [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -5e-324, 1.0] {
            assert_eq!(sum(&[value]).round(), value);
        }
    }

    #[test]
    fn two_values_round_as_the_processor_rounds() {
        let mut random = fastrand::Rng::with_seed(12);
        for _ in 0..50_000 {
            let a = f64::from_bits(random.u64(..));
            // Near exponents make carries and ties.
            let b = a * (random.f64() - 0.5) * 2f64.powi(random.i32(-60..60));
            if a.is_finite() && b.is_finite() {
                assert_eq!(sum(&[a, b]).round(), a + b, "{a:e} + {b:e}");
            }
        }
    }

    #[test]
    fn halves_round_to_even_and_the_end_is_infinite() {
        let ulp = f64::EPSILON;
        assert_eq!(sum(&[1.0, ulp / 2.0]).round(), 1.0);
        assert_eq!(sum(&[1.0, ulp / 2.0, 5e-324]).round(), 1.0 + ulp);
        assert_eq!(sum(&[1.0 + ulp, ulp / 2.0]).round(), 1.0 + 2.0 * ulp);
        assert_eq!(sum(&[f64::MAX, f64::MAX]).round(), f64::INFINITY);
        assert_eq!(sum(&[f64::MAX, f64::MAX, f64::MIN]).round(), f64::MAX);
        assert_eq!(sum(&[f64::MIN, f64::MIN]).round(), f64::NEG_INFINITY);
    }

    #[test]
    fn weights_and_copies_are_exact() {
        let mut number = WideFloat::zero();
        number.add(0.1, i64::MAX);
        number.add(f64::MAX, i64::MIN);
        let mut bytes = Vec::new();
        number.write(&mut bytes);
        let mut copy = WideFloat::read(bytes.as_slice().try_into().unwrap());
        copy.add(f64::MAX, i64::MAX);
        copy.add(f64::MAX, 1);
        copy.add(0.1, -i64::MAX);
        copy.add(1e-300, 1);
        assert_eq!(copy.round(), 1e-300);
        copy.add_wide(&sum(&[-1e-300, 3.0, -7.5]), 1);
        assert_eq!(copy.round(), -4.5);
        assert_eq!(copy.to_pair(), Some((-4.5, 0.0)));
        copy.add_wide(&sum(&[3.0, f64::MAX]), -1);
        copy.add_wide(&sum(&[f64::MAX]), 1);
        assert_eq!(copy.to_pair(), Some((-7.5, 0.0)));
    }
}
