//! Values in the shapes that nearly all records have, read in place a word at a time.
//!
//! Each function either returns the value and the position behind it, or `None` for everything
//! that is not of the common shape, even if it is a good value: the full rules then decide. What
//! they return is what the full rules would have made of the same bytes; the decoder's property
//! test holds them to it.

use crate::format::json::scan::{ZEROS, beyond_nine, leading_digits};

#[inline(always)]
fn word(text: &[u8], at: usize) -> Option<u64> {
    let bytes = text.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*bytes))
}

/// The number whose eight digits are the bytes of `digits`, the first one lowest.
#[inline(always)]
fn eight_digits(digits: u64) -> u64 {
    // Neighbours become pairs, pairs become fours, fours become the eight: two multiplications
    // because the second one adds two products at once.
    const PAIR: u64 = 0x0000_00ff_0000_00ff;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let high = (pairs & PAIR).wrapping_mul(0x000f_4240_0000_0064);
    let low = (pairs >> 16 & PAIR).wrapping_mul(0x0000_2710_0000_0001);
    high.wrapping_add(low) >> 32
}

/// Up to eight digits at `at` and how many there are.
#[inline(always)]
fn some_digits(text: &[u8], at: usize) -> Option<(u64, usize)> {
    let digits = word(text, at)? ^ ZEROS;
    let count = leading_digits(digits);
    // Shifted up, the digits end in the highest byte and zeros stand before them.
    let value = match count {
        0 => 0,
        8 => eight_digits(digits),
        _ => eight_digits(digits << (64 - 8 * count)),
    };
    Some((value, count))
}

const POWERS_OF_TEN: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// A whole number of at most sixteen digits: `-?(0|[1-9][0-9]*)`. The caller sees to it that what
/// follows ends the value, since `12.5` and `12e3` begin like one.
#[inline(always)]
pub(super) fn whole(text: &[u8], at: usize) -> Option<(i64, usize)> {
    let negative = text.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let (mut value, mut count) = some_digits(text, start)?;
    if count == 8 {
        let (more, digits) = some_digits(text, start + 8)?;
        if digits == 8 {
            return None;
        }
        value = value * POWERS_OF_TEN[digits] + more;
        count += digits;
    }
    let has_leading_zero = count > 1 && text[start] == b'0';
    if count == 0 || has_leading_zero {
        return None;
    }
    // Below 10^16, so the cast keeps the value.
    let value = value.cast_signed();
    Some((if negative { -value } else { value }, start + count))
}

/// The last date seen and its first microsecond: most records are of their predecessor's day.
#[derive(Clone, Copy, Debug)]
pub(super) struct DayCache {
    text: [u8; 10],
    micros: i64,
}

impl Default for DayCache {
    fn default() -> Self {
        DayCache {
            text: *b"1970-01-01",
            micros: 0,
        }
    }
}

impl DayCache {
    #[inline]
    fn micros_of(&mut self, text: &[u8; 10]) -> Option<i64> {
        if &self.text == text {
            return Some(self.micros);
        }
        self.look_up(text)
    }

    #[cold]
    fn look_up(&mut self, text: &[u8; 10]) -> Option<i64> {
        let mut midnight = *b"YYYY-MM-DDT00:00:00Z";
        midnight[..10].copy_from_slice(text);
        let midnight = std::str::from_utf8(&midnight).ok()?;
        let micros = crate::types::event_time::parse(midnight)?;
        *self = DayCache {
            text: *text,
            micros,
        };
        Some(micros)
    }
}

/// A quoted `YYYY-MM-DD(T| )hh:mm:ss[.f{1,6}][Z]` in microseconds since 1970; without an offset it
/// is UTC.
#[inline]
pub(super) fn timestamp(text: &[u8], at: usize, days: &mut DayCache) -> Option<(i64, usize)> {
    let rest = text.get(at..)?;
    let (head, rest) = rest.split_first_chunk::<20>()?;
    if head[0] != b'"' || !matches!(head[11], b'T' | b' ') {
        return None;
    }
    let day = days.micros_of(head[1..].first_chunk::<10>()?)?;
    let seconds = clock_seconds(u64::from_le_bytes(*head[12..].first_chunk::<8>()?))?;
    let mut end = at + 20;
    let mut micros = day + seconds * 1_000_000;
    if rest.first() == Some(&b'.') {
        let (digits, count) = some_digits(text, end + 1)?;
        if !(1..=6).contains(&count) {
            return None;
        }
        let fraction = digits * POWERS_OF_TEN[6 - count];
        // At most 999,999.
        micros += fraction.cast_signed();
        end += 1 + count;
    }
    end += usize::from(text.get(end) == Some(&b'Z'));
    (text.get(end) == Some(&b'"')).then_some((micros, end + 1))
}

/// The seconds of `hh:mm:ss`, below 24 hours and without a leap second.
#[inline]
fn clock_seconds(clock: u64) -> Option<i64> {
    const COLONS: u64 = u64::from_le_bytes(*b"00:00:00");
    const SEPARATORS: u64 = u64::from_le_bytes([0, 0, 0xff, 0, 0, 0xff, 0, 0]);
    let digits = clock ^ COLONS;
    if beyond_nine(digits) != 0 || digits & SEPARATORS != 0 {
        return None;
    }
    let [h1, h2, _, m1, m2, _, s1, s2] = digits.to_le_bytes().map(i64::from);
    let (hour, minute, second) = (h1 * 10 + h2, m1 * 10 + m2, s1 * 10 + s2);
    let exists = hour < 24 && minute < 60 && second < 60;
    exists.then_some(hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_of_every_length() {
        for count in 1..=15_u32 {
            for number in [10_i64.pow(count - 1), 10_i64.pow(count) - 1] {
                for number in [number, -number] {
                    let text = format!("{number},         ");
                    let end = text.find(',').unwrap();
                    assert_eq!(whole(text.as_bytes(), 0), Some((number, end)), "{text}");
                }
            }
        }
        for text in [
            "",
            "-",
            "-,       ",
            "01,      ",
            "00000000001,     ",
            "1234567",
            "a       ",
        ] {
            assert_eq!(whole(text.as_bytes(), 0), None, "{text}");
        }
        assert_eq!(whole(b"0,         ", 0), Some((0, 1)));
        assert_eq!(whole(b"1234567890123456,       ", 0), None);
    }

    #[test]
    fn every_byte_but_digits_ends_a_number() {
        for byte in (0..=255_u8).filter(|byte| !byte.is_ascii_digit()) {
            let text = [b'1', b'2', byte, b'3', b'4', b'5', b'6', b'7', b'8'];
            assert_eq!(whole(&text, 0), Some((12, 2)), "{byte}");
        }
    }

    #[test]
    fn timestamps_agree_with_the_full_rules() {
        let mut days = DayCache::default();
        let mut random = fastrand::Rng::with_seed(3);
        let base = b"\"2026-11-23T15:04:05.678901Z\"         ";
        let pool = b"0123456789-:TZ. +\"t";
        let mut taken = 0;
        for _ in 0..200_000 {
            let mut text = base.to_vec();
            for _ in 0..random.usize(0..3) {
                let at = random.usize(0..28);
                match random.bool() {
                    true => text[at] = pool[random.usize(0..pool.len())],
                    false => {
                        text.remove(at);
                    }
                }
            }
            if let Some((micros, end)) = timestamp(&text, 0, &mut days) {
                taken += 1;
                let inside = std::str::from_utf8(&text[1..end - 1]).unwrap();
                assert_eq!(
                    crate::types::event_time::parse(inside),
                    Some(micros),
                    "{inside}"
                );
            }
        }
        assert!(taken > 50_000, "{taken}");
    }
}
