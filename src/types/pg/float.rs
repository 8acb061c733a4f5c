//! Floats as Postgres prints them: the fewest digits that read back to the same float.
//!
//! Rust's formatter finds the same digits but for two cases. Where the shortest decimal lies
//! exactly half-way between two floats, it relies on the reader to round to even; Postgres does
//! not, and prints a digit more: `1e23` as `9.999999999999999e+22`. Where the float lies exactly
//! half-way between two decimals of that length, Postgres takes the even one.

use std::fmt::Write;

use bytes::{BufMut, BytesMut};

use crate::types::pg::text::{StackText, write_padded};

/// What tells the two float types apart.
struct Kind {
    /// Bits of the mantissa, the leading one included.
    mantissa_bits: u32,
    /// Digits before the point up to which the plain notation is used.
    plain_digits: i32,
}

const REAL: Kind = Kind {
    mantissa_bits: f32::MANTISSA_DIGITS,
    plain_digits: 6,
};

const DOUBLE: Kind = Kind {
    mantissa_bits: f64::MANTISSA_DIGITS,
    plain_digits: 15,
};

impl Kind {
    fn reads_back(&self, text: &Scientific, value: f64) -> bool {
        let read = match self.mantissa_bits {
            f32::MANTISSA_DIGITS => text.as_str().parse::<f32>().map(f64::from),
            _ => text.as_str().parse::<f64>(),
        };
        read == Ok(value)
    }
}

/// At most 17 digits, a sign, a point and an exponent.
type Scientific = StackText<32>;

pub(crate) fn write_real(buffer: &mut BytesMut, value: f32) {
    write(buffer, f64::from(value), &REAL, |text| {
        write!(text, "{:e}", value.abs())
    });
}

pub(crate) fn write_double(buffer: &mut BytesMut, value: f64) {
    write(buffer, value, &DOUBLE, |text| {
        write!(text, "{:e}", value.abs())
    });
}

/// Plain notation from 0.0001 up to the kind's digits before the point, else scientific, the
/// exponent with at least two digits.
fn write(
    buffer: &mut BytesMut,
    value: f64,
    kind: &Kind,
    shortest: impl Fn(&mut Scientific) -> std::fmt::Result,
) {
    if value.is_nan() {
        return buffer.put_slice(b"NaN");
    }
    if value.is_sign_negative() {
        buffer.put_u8(b'-');
    }
    if value.is_infinite() {
        return buffer.put_slice(b"Infinity");
    }
    let mut text = Scientific::default();
    shortest(&mut text).expect("a float has at most 17 digits and an exponent");
    if is_half_way(value.abs(), text.as_str(), kind) {
        text = longer(value.abs(), kind);
    } else if let Some(decimals) = tied_decimals(value.abs(), text.as_str()) {
        // With a given length the formatter rounds half to even.
        text = Scientific::default();
        write!(text, "{:.decimals$e}", value.abs()).expect("as long as the shortest");
    }
    let (mantissa, exponent) = split(text.as_str());
    let (first, rest) = mantissa.split_at(1);
    let rest = rest.trim_start_matches('.').as_bytes();
    if exponent < -4 || exponent >= kind.plain_digits {
        buffer.put_slice(mantissa.as_bytes());
        buffer.put_slice(if exponent < 0 { b"e-" } else { b"e+" });
        return write_padded(buffer, exponent.unsigned_abs().into(), 2);
    }
    if exponent < 0 {
        buffer.put_slice(b"0.");
        buffer.put_bytes(b'0', usize::try_from(-1 - exponent).unwrap_or(0));
        buffer.put_slice(first.as_bytes());
        return buffer.put_slice(rest);
    }
    let before_point = usize::try_from(exponent).unwrap_or(0);
    buffer.put_slice(first.as_bytes());
    if rest.len() <= before_point {
        buffer.put_slice(rest);
        buffer.put_bytes(b'0', before_point - rest.len());
    } else {
        buffer.put_slice(&rest[..before_point]);
        buffer.put_u8(b'.');
        buffer.put_slice(&rest[before_point..]);
    }
}

/// The fewest digits that read back and are not half-way. Rare enough to search from the start.
fn longer(value: f64, kind: &Kind) -> Scientific {
    for decimals in 1.. {
        let mut text = Scientific::default();
        write!(text, "{value:.decimals$e}").expect("17 digits always read back");
        if kind.reads_back(&text, value) && !is_half_way(value, text.as_str(), kind) {
            return text;
        }
    }
    unreachable!("17 digits always read back")
}

fn split(scientific: &str) -> (&str, i32) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    (mantissa, exponent.parse().unwrap_or(0))
}

/// Floats from here on are out of reach of the exact integers below, and beyond all half-ways.
const EXACT_MAX: f64 = 1e38;

/// A positive float as an integer, times two to the second number.
fn to_integer(value: f64) -> (u128, i64) {
    let bits = value.to_bits();
    let power = i64::try_from(bits >> 52).unwrap_or(0) - 1_023 - 52;
    let mantissa = u128::from(bits & ((1 << 52) - 1) | 1 << 52);
    let zeros = mantissa.trailing_zeros();
    (mantissa >> zeros, power + i64::from(zeros))
}

/// Whether a decimal lies exactly in the middle between a positive float and a neighbour.
///
/// Both are integers then: with a fraction, the middle has more digits than the float itself, and
/// is not the shortest.
fn is_half_way(value: f64, decimal: &str, kind: &Kind) -> bool {
    if !(16_777_216.0..EXACT_MAX).contains(&value) {
        return false;
    }
    let (odd, shift) = to_integer(value);
    let (Ok(shift), Some(decimal)) = (u32::try_from(shift), whole_of(decimal)) else {
        return false;
    };
    let exact = odd << shift;
    // Its leading bit's place less the mantissa's length: the place of the last bit.
    let Some(gap_power) = (exact.ilog2() + 1).checked_sub(kind.mantissa_bits) else {
        return false;
    };
    // Below a power of two the floats are twice as dense.
    let gap = match odd == 1 && decimal < exact {
        true => (1_u128 << gap_power) / 2,
        false => 1_u128 << gap_power,
    };
    decimal != exact && decimal.abs_diff(exact) * 2 == gap
}

/// The value of a decimal in scientific notation, when it is an integer.
fn whole_of(scientific: &str) -> Option<u128> {
    let (mantissa, exponent) = split(scientific);
    let digits = mantissa.bytes().filter(u8::is_ascii_digit);
    let count = i32::try_from(digits.clone().count()).ok()?;
    let zeros = u32::try_from(exponent + 1 - count).ok()?;
    let significant = digits.fold(0, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    significant.checked_mul(10_u128.checked_pow(zeros)?)
}

/// The decimals of a shortest decimal when the positive float lies exactly between it and another
/// of the same length.
fn tied_decimals(value: f64, decimal: &str) -> Option<usize> {
    // Below, a float that has only one digit more than its shortest decimal is that decimal.
    if !(1.0..EXACT_MAX).contains(&value) {
        return None;
    }
    let (mantissa, exponent) = split(decimal);
    let decimals = mantissa.len().saturating_sub(2);
    let dropped = i64::from(exponent) - i64::try_from(decimals).ok()?;
    let (odd, shift) = to_integer(value);
    let is_tied = match u32::try_from(shift) {
        // An odd number over two to the n has n digits after the point, and the last is a 5.
        Err(_) => -shift == 1 - dropped,
        Ok(shift) => {
            let unit = 10_u128.checked_pow(u32::try_from(dropped).ok()?)?;
            (odd << shift) % unit * 2 == unit
        }
    };
    is_tied.then_some(decimals)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use crate::types::pg::float::{write_double, write_real};

    #[test]
    fn half_ways_are_decided_as_postgres_does() {
        let double = |value| {
            let mut buffer = BytesMut::new();
            write_double(&mut buffer, value);
            String::from_utf8(buffer.to_vec()).unwrap()
        };
        let real = |value| {
            let mut buffer = BytesMut::new();
            write_real(&mut buffer, value);
            String::from_utf8(buffer.to_vec()).unwrap()
        };
        assert_eq!(double(1e23), "9.999999999999999e+22");
        assert_eq!(double(-3.345661277244147e16), "-3.3456612772441472e+16");
        assert_eq!(double(1e22), "1e+22");
        assert_eq!(double(9_007_199_254_740_993.0), "9.007199254740992e+15");
        assert_eq!(real(-1.0184978e8), "-1.01849776e+08");
        assert_eq!(real(1e10), "1e+10");
        assert_eq!(real(16_777_216.0), "1.6777216e+07");
        assert_eq!(real(-1_183_941.0 - 0.25), "-1.1839412e+06");
        assert_eq!(
            double(1_149_623_295_343_901.0 + 0.25),
            "1.1496232953439012e+15"
        );
    }
}
