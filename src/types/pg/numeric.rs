//! Exact numbers: decimal digits out to text and to Postgres' base-10,000 binary form, and in.

use std::fmt::Write;

use arrow::datatypes::i256;
use bytes::{BufMut, BytesMut};

use crate::error::{Error, Result, SqlState};
use crate::types::pg::text::StackText;

/// Decimal digits of the widest number Arrow has (76), and its sign.
const DIGITS_MAX: usize = 80;

/// Base-10,000 digits of a number of `DIGITS_MAX` decimal digits at any scale of an `i8`.
const GROUPS_MAX: usize = DIGITS_MAX / 4 + 2;

const SIGN_NEGATIVE: u16 = 0x4000;
const SIGN_NAN: u16 = 0xC000;
const SIGN_INFINITE: u16 = 0xD000;
const SIGN_NEGATIVE_INFINITE: u16 = 0xF000;

/// A decimal number taken apart: sign, digits without leading zeros, and how many of them stand
/// after the point.
pub(crate) struct Digits {
    is_negative: bool,
    /// Empty for zero.
    digits: StackText<DIGITS_MAX>,
    scale: i32,
}

impl Digits {
    pub fn of(value: i128, scale: i8) -> Digits {
        Digits::from_magnitude(value < 0, &format_args!("{}", value.unsigned_abs()), scale)
    }

    pub fn of_wide(value: i256, scale: i8) -> Digits {
        match value.to_i128() {
            Some(value) => Digits::of(value, scale),
            None => {
                let magnitude = value.to_string();
                let digits = magnitude.trim_start_matches('-');
                Digits::from_magnitude(value < i256::ZERO, &digits, scale)
            }
        }
    }

    fn from_magnitude(is_negative: bool, magnitude: &dyn std::fmt::Display, scale: i8) -> Digits {
        let mut digits = StackText::default();
        write!(digits, "{magnitude}").expect("256 bits have at most 78 digits");
        if digits.as_str() == "0" {
            digits = StackText::default();
        }
        Digits {
            is_negative,
            digits,
            scale: i32::from(scale),
        }
    }

    /// Appends the number with all digits of its scale.
    pub fn write_text(&self, buffer: &mut BytesMut) {
        let digits = self.digits.as_str().as_bytes();
        if self.is_negative {
            buffer.put_u8(b'-');
        }
        let fraction = usize::try_from(self.scale).unwrap_or(0);
        let whole = digits.len().saturating_sub(fraction);
        if whole == 0 {
            buffer.put_u8(b'0');
        }
        buffer.put_slice(&digits[..whole]);
        if self.scale < 0 && whole > 0 {
            buffer.put_bytes(b'0', usize::try_from(-self.scale).unwrap_or(0));
        }
        if fraction > 0 {
            buffer.put_u8(b'.');
            buffer.put_bytes(b'0', fraction - (digits.len() - whole));
            buffer.put_slice(&digits[whole..]);
        }
    }

    /// Appends Postgres' form: the number of base-10,000 digits, the power of the first, the sign,
    /// the digits to show after the point, then the digits without zeros at either end.
    pub fn write_binary(&self, buffer: &mut BytesMut) {
        let digits = self.digits.as_str().as_bytes();
        let mut groups = [0_i16; GROUPS_MAX];
        let mut count = 0;
        let mut group = 0;
        // The power of ten of the current digit; groups end where it is a multiple of four.
        let mut power = i32::try_from(digits.len()).unwrap_or(0) - 1 - self.scale;
        let weight = if digits.is_empty() {
            0
        } else {
            power.div_euclid(4)
        };
        for digit in digits {
            group = group * 10 + i16::from(digit - b'0');
            if power.rem_euclid(4) == 0 {
                groups[count] = group;
                count += 1;
                group = 0;
            }
            power -= 1;
        }
        if group > 0 {
            // The digits ended inside a group: what is missing are zeros.
            for _ in 0..=power.rem_euclid(4) {
                group *= 10;
            }
            groups[count] = group;
            count += 1;
        }
        while count > 0 && groups[count - 1] == 0 {
            count -= 1;
        }
        buffer.put_u16(u16::try_from(count).unwrap_or(0));
        buffer.put_i16(i16::try_from(weight).unwrap_or(0));
        buffer.put_u16(if self.is_negative { SIGN_NEGATIVE } else { 0 });
        buffer.put_u16(u16::try_from(self.scale).unwrap_or(0));
        for group in &groups[..count] {
            buffer.put_i16(*group);
        }
    }
}

/// Precision and scale that a number must fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub precision: u8,
    pub scale: i8,
}

impl Bounds {
    /// Reads `[+-]digits[.digits][e[+-]digits]`, rounded half away from zero to the scale.
    ///
    /// # Errors
    /// 22P02 for other text, 22003 for a number of too many digits, 0A000 for NaN and infinity.
    pub fn parse(self, text: &str) -> Result<i128> {
        let trimmed = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
        let syntax = || {
            Error::new(
                SqlState::INVALID_TEXT_REPRESENTATION,
                format!("invalid input syntax for type numeric: \"{text}\""),
            )
        };
        let (is_negative, unsigned) = match trimmed.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        for special in ["nan", "inf", "infinity"] {
            if unsigned.eq_ignore_ascii_case(special.as_bytes()) {
                return Err(not_finite(trimmed));
            }
        }
        let (mantissa, exponent) = match unsigned.iter().position(|b| matches!(b, b'e' | b'E')) {
            Some(at) => (
                &unsigned[..at],
                parse_exponent(&unsigned[at + 1..]).ok_or_else(syntax)?,
            ),
            None => (unsigned, 0),
        };
        let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
            Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
            None => (mantissa, &[][..]),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(syntax());
        }
        if !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
            return Err(syntax());
        }
        // Kept are the digits whose power of ten is not below the scale; the next one rounds.
        let powers_kept = i64::try_from(whole.len()).map_err(|_| self.overflow())?
            + exponent
            + i64::from(self.scale);
        let digits = || whole.iter().chain(fraction).map(|digit| digit - b'0');
        self.collect(is_negative, digits(), powers_kept)
    }

    /// Adds up the first `kept` digits (zeros follow when there are fewer) and rounds by the next.
    fn collect(
        self,
        is_negative: bool,
        mut digits: impl Iterator<Item = u8>,
        kept: i64,
    ) -> Result<i128> {
        if kept < 0 {
            return Ok(0);
        }
        let mut value: i128 = 0;
        let mut taken = 0;
        while taken < kept {
            let Some(digit) = digits.next() else {
                break;
            };
            taken += 1;
            if value == 0 && digit == 0 {
                continue;
            }
            value = self.append(value, digit)?;
        }
        if taken == kept {
            if digits.next().is_some_and(|digit| digit >= 5) {
                value += 1;
            }
        } else if value != 0 {
            // A number that is not zero overflows long before this loop gets long.
            for _ in taken..kept {
                value = self.append(value, 0)?;
            }
        }
        if value > self.magnitude_max() {
            return Err(self.overflow());
        }
        Ok(if is_negative { -value } else { value })
    }

    fn append(self, value: i128, digit: u8) -> Result<i128> {
        match value.checked_mul(10) {
            Some(shifted) if shifted <= self.magnitude_max() => Ok(shifted + i128::from(digit)),
            _ => Err(self.overflow()),
        }
    }

    fn magnitude_max(self) -> i128 {
        // More than 38 digits do not fit the type that parameters and rows are read into.
        10_i128.pow(u32::from(self.precision.min(38))) - 1
    }

    fn overflow(self) -> Error {
        let Bounds { precision, scale } = self;
        let whole = i32::from(precision) - i32::from(scale);
        let bound = match whole {
            0 => "1".to_string(),
            _ => format!("10^{whole}"),
        };
        Error::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            "numeric field overflow",
        )
        .detail(format!(
            "A field with precision {precision}, scale {scale} must round to an absolute value \
             less than {bound}."
        ))
    }

    /// Reads Postgres' binary form, see [`Digits::write_binary`].
    ///
    /// # Errors
    /// 22P03 for bytes that are not a numeric, 22003 and 0A000 as [`Bounds::parse`].
    pub fn parse_binary(self, bytes: &[u8]) -> Result<i128> {
        let malformed = || {
            Error::new(
                SqlState::INVALID_BINARY_REPRESENTATION,
                "invalid binary value for type numeric",
            )
        };
        let (header, groups) = bytes.split_first_chunk::<8>().ok_or_else(malformed)?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (groups, rest) = groups.as_chunks::<2>();
        if groups.len() != usize::from(word(0)) || !rest.is_empty() {
            return Err(malformed());
        }
        let is_negative = match word(4) {
            0 => false,
            SIGN_NEGATIVE => true,
            SIGN_NAN => return Err(not_finite("NaN")),
            SIGN_INFINITE => return Err(not_finite("Infinity")),
            SIGN_NEGATIVE_INFINITE => return Err(not_finite("-Infinity")),
            _ => return Err(malformed()),
        };
        if groups
            .iter()
            .any(|group| u16::from_be_bytes(*group) > 9_999)
        {
            return Err(malformed());
        }
        let weight = i64::from(i16::from_be_bytes([header[2], header[3]]));
        let digits = groups.iter().flat_map(|group| {
            let group = u16::from_be_bytes(*group);
            [group / 1_000, group / 100 % 10, group / 10 % 10, group % 10]
                .map(|digit| u8::try_from(digit).unwrap_or(0))
        });
        self.collect(
            is_negative,
            digits,
            (weight + 1) * 4 + i64::from(self.scale),
        )
    }
}

fn not_finite(text: &str) -> Error {
    Error::unsupported(format!("numeric value \"{text}\" is not supported"))
        .hint("numeric holds finite numbers only; use double precision")
}

/// Digits of an exponent; far beyond any number's they only have to keep their sign.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        rest => (1, rest),
    };
    if digits.is_empty() {
        return None;
    }
    let mut exponent: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        exponent = (exponent * 10 + i64::from(digit - b'0')).min(1_000_000_000);
    }
    Some(sign * exponent)
}
