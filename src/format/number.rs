//! Exact numbers out of text: decimal digits, a point and an exponent, never by way of a float.
//!
//! ```text
//!   "12.345e1" at scale 1   digits 12345, three of them behind the point, exponent 1
//!                           12345 · 10^(1 - 3 + 1) = 1234.5 → 1235 (half away from zero) = 123.5
//! ```

/// Why a text gave no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberFault {
    /// Not a number at all, or not a whole one where only a whole one will do.
    NotANumber,
    /// A number, but larger than the type holds.
    OutOfRange,
}

/// What to do with digits behind the last place that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Surplus {
    /// Round half away from zero, as Postgres' numeric does.
    Round,
    /// Only zeros may be dropped: `1.0` is a whole number, `1.5` is not one.
    Refuse,
}

/// The number times 10^`scale`, rounded half away from zero.
pub(super) fn parse_scaled(text: &[u8], scale: i8) -> Result<i128, NumberFault> {
    Parts::of(text)?.scaled(i64::from(scale), Surplus::Round)
}

/// The number as a whole one: `42`, `-7`, `1e3`, `42.0`.
pub(super) fn parse_whole(text: &[u8]) -> Result<i64, NumberFault> {
    let whole = Parts::of(text)?.scaled(0, Surplus::Refuse)?;
    i64::try_from(whole).map_err(|_| NumberFault::OutOfRange)
}

/// The nearest double. Takes what Postgres takes: `Infinity`, `-inf` and `NaN` as well.
pub(super) fn parse_double(text: &[u8]) -> Result<f64, NumberFault> {
    let value: f64 = parse_std(text)?;
    in_range(value.is_infinite(), text).map(|()| value)
}

/// The nearest single.
pub(super) fn parse_real(text: &[u8]) -> Result<f32, NumberFault> {
    let value: f32 = parse_std(text)?;
    in_range(value.is_infinite(), text).map(|()| value)
}

fn parse_std<T: std::str::FromStr>(text: &[u8]) -> Result<T, NumberFault> {
    let text = std::str::from_utf8(text).map_err(|_| NumberFault::NotANumber)?;
    text.parse().map_err(|_| NumberFault::NotANumber)
}

/// An infinity that was not written as a word is a number that was too large.
fn in_range(is_infinite: bool, text: &[u8]) -> Result<(), NumberFault> {
    if is_infinite && text.iter().any(u8::is_ascii_digit) {
        return Err(NumberFault::OutOfRange);
    }
    Ok(())
}

/// The value -1^negative · (whole ‖ fraction) · 10^(exponent - length of fraction).
struct Parts<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

/// Digits that any i128 has room for.
const DIGITS_MAX: i64 = 38;

impl<'a> Parts<'a> {
    fn of(text: &'a [u8]) -> Result<Parts<'a>, NumberFault> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let (whole, rest) = take_digits(rest);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => take_digits(rest),
            _ => (&rest[..0], rest),
        };
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', exponent @ ..] => parse_exponent(exponent)?,
            _ => return Err(NumberFault::NotANumber),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(NumberFault::NotANumber);
        }
        Ok(Parts {
            negative,
            whole,
            fraction,
            exponent,
        })
    }

    fn digits(&self) -> impl Iterator<Item = u8> + '_ {
        self.whole
            .iter()
            .chain(self.fraction)
            .copied()
            .skip_while(|&digit| digit == b'0')
    }

    fn scaled(&self, scale: i64, surplus: Surplus) -> Result<i128, NumberFault> {
        let count = length(self.digits().count());
        if count == 0 {
            return Ok(0);
        }
        let shift = (scale - length(self.fraction.len())).saturating_add(self.exponent);
        let kept = count.saturating_add(shift);
        if kept > DIGITS_MAX {
            return Err(NumberFault::OutOfRange);
        }
        let mut value: i128 = 0;
        for (place, digit) in (0..).zip(self.digits()) {
            let digit = i128::from(digit - b'0');
            if place < kept {
                value = value * 10 + digit;
            } else if surplus == Surplus::Refuse && digit != 0 {
                return Err(NumberFault::NotANumber);
            } else if surplus == Surplus::Round && place == kept && digit >= 5 {
                value += 1;
            }
        }
        for _ in 0..shift.max(0) {
            value *= 10;
        }
        Ok(if self.negative { -value } else { value })
    }
}

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn take_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.split_at(count)
}

/// Saturates: an exponent beyond 18 digits moves any number out of every range.
fn parse_exponent(text: &[u8]) -> Result<i64, NumberFault> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (digits, []) = take_digits(text) else {
        return Err(NumberFault::NotANumber);
    };
    if digits.is_empty() {
        return Err(NumberFault::NotANumber);
    }
    // A quarter of the range leaves room for the additions that follow.
    const EXPONENT_MAX: i64 = i64::MAX / 4;
    let value = digits.iter().fold(0_i64, |value, digit| {
        (value.saturating_mul(10))
            .saturating_add(i64::from(digit - b'0'))
            .min(EXPONENT_MAX)
    });
    Ok(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_exact() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("+7", 7),
            ("007", 7),
            ("42.000", 42),
            ("1e3", 1000),
            ("1200e-2", 12),
            ("-9223372036854775808", i64::MIN),
            ("9223372036854775807", i64::MAX),
            ("0e999999999999999999999999", 0),
        ] {
            assert_eq!(parse_whole(text.as_bytes()), Ok(value), "{text}");
        }
        for text in [
            "",
            "-",
            ".",
            "1.5",
            "abc",
            "1e",
            "1e+",
            "0x10",
            "1 ",
            "1e-1",
            "1e-99999999999",
        ] {
            assert_eq!(
                parse_whole(text.as_bytes()),
                Err(NumberFault::NotANumber),
                "{text}"
            );
        }
        let wide = "9".repeat(500);
        for text in [
            "9223372036854775808",
            "1e19",
            "1e99999999999999999999",
            &wide,
        ] {
            assert_eq!(
                parse_whole(text.as_bytes()),
                Err(NumberFault::OutOfRange),
                "{text}"
            );
        }
    }

    #[test]
    fn decimals_round_half_away_from_zero() {
        for (text, scale, value) in [
            ("12.345e1", 1, 1235),
            ("-0.005", 2, -1),
            ("0.0049999", 2, 0),
            ("0.5", 0, 1),
            (".5", 1, 5),
            ("5.", 1, 50),
            ("1e-50", 2, 0),
            ("123456", -2, 1235),
            (
                "0.00000000000000000000000000000000000000000000000001e50",
                0,
                1,
            ),
        ] {
            assert_eq!(parse_scaled(text.as_bytes(), scale), Ok(value), "{text}");
        }
        assert_eq!(parse_scaled(b"1e38", 2), Err(NumberFault::OutOfRange));
    }

    #[test]
    fn floats_know_infinity_and_their_range() {
        assert_eq!(parse_double(b"-Infinity"), Ok(f64::NEG_INFINITY));
        assert!(parse_double(b"NaN").unwrap().is_nan());
        assert_eq!(parse_double(b"1e400"), Err(NumberFault::OutOfRange));
        assert_eq!(parse_real(b"1e39"), Err(NumberFault::OutOfRange));
        assert_eq!(parse_real(b"1.5"), Ok(1.5));
        assert_eq!(parse_double(b"1,5"), Err(NumberFault::NotANumber));
    }
}
