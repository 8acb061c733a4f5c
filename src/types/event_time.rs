//! Points in time out of records: RFC 3339 and `YYYY-MM-DD hh:mm:ss[.f]`, without allocation.
//!
//! A JSON decoder calls this once per record, so it is a single pass over bytes at fixed places;
//! everything that Postgres accepts beside (months by name, BC, zone names) is read by
//! [`crate::types::pg`], which asks here first.

use crate::types::calendar::{
    Civil, MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND,
};

/// A date and time as written: the clock's reading, and the offset where one follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Microseconds from 1970-01-01 00:00 to what the clock shows.
    pub local: i64,
    /// Seconds east of UTC.
    pub offset: Option<i64>,
}

/// Microseconds since 1970-01-01T00:00 UTC, or None when `text` is not of the form
/// `YYYY-MM-DD(T| )hh:mm:ss[.f…][Z|±hh[[:]mm]]` or names a time that does not exist.
///
/// Without an offset the time is UTC. Digits beyond microseconds round half up, as in Postgres;
/// `:60` is the first second of the next minute.
pub fn parse(text: &str) -> Option<i64> {
    let reading = parse_reading(text.as_bytes())?;
    Some(reading.local - reading.offset.unwrap_or(0) * MICROS_PER_SECOND)
}

/// As [`parse`], but keeps the clock's reading and the offset apart.
pub(crate) fn parse_reading(text: &[u8]) -> Option<Reading> {
    let (head, rest) = text.split_first_chunk::<19>()?;
    let date_separators = head[4] == b'-' && head[7] == b'-';
    let time_separators = head[13] == b':' && head[16] == b':';
    let between = matches!(head[10], b'T' | b' ' | b't');
    if !(date_separators && time_separators && between) {
        return None;
    }
    let civil = Civil {
        year: pair(head, 0)? * 100 + pair(head, 2)?,
        month: pair(head, 5)?,
        day: pair(head, 8)?,
    };
    let (hour, minute, second) = (pair(head, 11)?, pair(head, 14)?, pair(head, 17)?);
    // Year 0000 is refused as Postgres does: the year before 1 is 1 BC.
    if civil.year == 0 || !civil.exists() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, rest) = match rest {
        [b'.', digits @ ..] => parse_fraction(digits)?,
        _ => (0, rest),
    };
    let local = civil.to_days() * MICROS_PER_DAY
        + hour * MICROS_PER_HOUR
        + minute * MICROS_PER_MINUTE
        + second * MICROS_PER_SECOND
        + fraction;
    let offset = match rest {
        [] => None,
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), offset @ ..] => Some(parse_offset(*sign, offset)?),
        _ => return None,
    };
    Some(Reading { local, offset })
}

fn digit(byte: u8) -> Option<i64> {
    let value = byte.wrapping_sub(b'0');
    (value < 10).then_some(i64::from(value))
}

fn pair(text: &[u8; 19], at: usize) -> Option<i64> {
    Some(digit(text[at])? * 10 + digit(text[at + 1])?)
}

/// Micros of the digits after a point, rounded half up, and what follows them.
pub(crate) fn parse_fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let mut micros = 0;
    let mut count = 0;
    while let Some(value) = text.get(count).copied().and_then(digit) {
        match count {
            0..6 => micros = micros * 10 + value,
            6 if value >= 5 => micros += 1,
            _ => {}
        }
        count += 1;
    }
    // Rounding happens at the seventh digit only, when all six before are in place.
    for _ in count..6 {
        micros *= 10;
    }
    (count > 0).then_some((micros, &text[count..]))
}

/// `hh`, `hhmm` or `hh:mm` after the sign, in seconds east of UTC.
fn parse_offset(sign: u8, text: &[u8]) -> Option<i64> {
    let (hours, minutes) = match text {
        [a, b] => (digit(*a)? * 10 + digit(*b)?, 0),
        [a, b, b':', c, d] | [a, b, c, d] => {
            (digit(*a)? * 10 + digit(*b)?, digit(*c)? * 10 + digit(*d)?)
        }
        _ => return None,
    };
    // Postgres' bound on an offset is under sixteen hours.
    if hours > 15 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3_600 + minutes * 60;
    Some(if sign == b'-' { -seconds } else { seconds })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use crate::types::event_time::parse;

    #[test]
    fn every_form_is_read() {
        let base = 1_767_323_045_000_000;
        for (text, micros) in [
            ("2026-01-02T03:04:05Z", base),
            ("2026-01-02t03:04:05z", base),
            ("2026-01-02 03:04:05", base),
            ("2026-01-02 03:04:05.678", base + 678_000),
            ("2026-01-02T03:04:05.123456789Z", base + 123_457),
            ("2026-01-02T03:04:05.9999995Z", base + 1_000_000),
            ("2026-01-02T03:04:05.12345649", base + 123_456),
            ("2026-01-02T05:04:05+02:00", base),
            ("2026-01-01T23:34:05-0330", base),
            ("2026-01-02 04:04:05+01", base),
            ("2026-01-02 03:03:65", 0),
            ("2026-01-02 03:03:60", base - 5_000_000),
            ("1969-12-31T23:59:59.5Z", -500_000),
        ] {
            let expected = (micros != 0).then_some(micros);
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_times() {
        for text in [
            "",
            "2026-01-02",
            "2026-01-02T03:04",
            "2026-02-30T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "2026-01-02T24:00:00Z",
            "2026-01-02T03:60:00Z",
            "2026-01-02T03:04:05.",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05 Z",
            "2026-01-02T03:04:05+",
            "2026-01-02T03:04:05+2",
            "2026-01-02T03:04:05+02:0",
            "2026-01-02T03:04:05+16",
            "2026-01-02X03:04:05",
            "2026-01-0२T03:04:05",
            "-026-01-02T03:04:05",
            "2026-01-02T03:04:05Zz",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn it_agrees_with_chrono_on_random_times() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let micros = random.i64(-62_000_000_000_000_000..250_000_000_000_000_000);
            let point = DateTime::from_timestamp_micros(micros).unwrap();
            assert_eq!(parse(&point.to_rfc3339()), Some(micros));
        }
    }
}
