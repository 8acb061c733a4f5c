//! Time zones: what a session prints points in time in, and what a literal may name.

use std::fmt;
use std::hash::{Hash, Hasher};

use arrow::array::timezone::Tz;
use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone};

use crate::error::{Error, Result, SqlState};
use crate::types::calendar::{MICROS_PER_DAY, MICROS_PER_SECOND};

/// A time zone: UTC, a fixed offset, or a place with its history of rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Zone(Kind);

#[derive(Clone, Copy, Debug, Default)]
enum Kind {
    /// Apart from the others because it needs no look-up, and nearly everything is in UTC.
    #[default]
    Utc,
    Other(Tz),
}

impl Zone {
    pub const UTC: Zone = Zone(Kind::Utc);

    /// Reads `UTC`, `Europe/Berlin` (in any case), or an offset: `+02`, `-03:30`, `+0530`, east
    /// being positive.
    ///
    /// # Errors
    /// 22023 when there is no such zone.
    pub fn parse(name: &str) -> Result<Zone> {
        Zone::find(name).ok_or_else(|| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("time zone \"{name}\" not recognized"),
            )
            .hint("use a name of the IANA database such as Europe/Berlin, or an offset as +02:00")
        })
    }

    /// As [`Zone::parse`], for texts in which the zone is only a part.
    pub(crate) fn find(name: &str) -> Option<Zone> {
        let name = name.trim();
        if ["utc", "z", "zulu", "gmt", "etc/utc", "+00", "+00:00"]
            .iter()
            .any(|utc| name.eq_ignore_ascii_case(utc))
        {
            return Some(Zone::UTC);
        }
        let title = title_case(name);
        let spellings = [name, title.as_str(), &name.to_ascii_uppercase()];
        let found = spellings.iter().find_map(|name| name.parse::<Tz>().ok());
        found.map(|zone| Zone(Kind::Other(zone)))
    }

    /// As [`Zone::parse`], but an offset counts west, as in `AT TIME ZONE '+02'`.
    ///
    /// # Errors
    /// As [`Zone::parse`].
    pub fn posix(name: &str) -> Result<Zone> {
        let name = name.trim();
        match (name.strip_prefix('+'), name.strip_prefix('-')) {
            (Some(offset), _) => Zone::parse(&format!("-{offset}")),
            (_, Some(offset)) => Zone::parse(&format!("+{offset}")),
            _ => Zone::parse(name),
        }
    }

    /// The zone whose clocks are always so many seconds ahead of UTC.
    ///
    /// # Errors
    /// 22023 when it is a day or more.
    pub fn east(seconds: i64) -> Result<Zone> {
        let minutes = seconds.abs() / 60;
        let sign = if seconds < 0 { '-' } else { '+' };
        Zone::parse(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60))
    }

    pub fn is_utc(&self) -> bool {
        matches!(self.0, Kind::Utc)
    }

    /// Seconds that this zone's clocks are ahead of UTC at a point in time (micros since 1970).
    ///
    /// Outside the years that have rules (before −262,143, after 262,142) it is UTC.
    pub fn offset_seconds(&self, micros: i64) -> i32 {
        match self.0 {
            Kind::Utc => 0,
            Kind::Other(zone) => match naive(micros) {
                Some(utc) => zone.offset_from_utc_datetime(&utc).fix().local_minus_utc(),
                None => 0,
            },
        }
    }

    /// What this zone's clocks show at a point in time; `None` when out of range.
    pub fn to_local(&self, micros: i64) -> Option<i64> {
        micros.checked_add(i64::from(self.offset_seconds(micros)) * MICROS_PER_SECOND)
    }

    /// The point in time at which this zone's clocks show `local` (micros since 1970 on the clock).
    ///
    /// A time that the clocks skip in spring counts from the offset before the change, one that
    /// they show twice in autumn is the second; both as Postgres decides. None when out of range.
    pub fn to_utc(&self, local: i64) -> Option<i64> {
        let Kind::Other(zone) = self.0 else {
            return Some(local);
        };
        let Some(clock) = naive(local) else {
            return Some(local);
        };
        let offset = match zone.offset_from_local_datetime(&clock) {
            MappedLocalTime::Single(offset) => offset,
            MappedLocalTime::Ambiguous(first, second) => {
                // The second showing is the one of the smaller offset.
                match first.fix().local_minus_utc() < second.fix().local_minus_utc() {
                    true => first,
                    false => second,
                }
            }
            MappedLocalTime::None => {
                let day_before = clock.checked_sub_signed(TimeDelta::days(1))?;
                zone.offset_from_utc_datetime(&day_before)
            }
        };
        local.checked_sub(i64::from(offset.fix().local_minus_utc()) * MICROS_PER_SECOND)
    }

    /// The first point in time at which this zone's clocks show `local` or more: of a time that
    /// they show twice the first, of one that they skip the moment of the change. It rises with
    /// `local`, which makes it the bound of windows. None when out of range.
    pub fn first_utc(&self, local: i64) -> Option<i64> {
        let Kind::Other(zone) = self.0 else {
            return Some(local);
        };
        let Some(clock) = naive(local) else {
            return Some(local);
        };
        let seconds = match zone.offset_from_local_datetime(&clock) {
            MappedLocalTime::Single(offset) => offset.fix().local_minus_utc(),
            MappedLocalTime::Ambiguous(first, second) => {
                let (first, second) = (first.fix(), second.fix());
                first.local_minus_utc().max(second.local_minus_utc())
            }
            MappedLocalTime::None => return self.change_near(local),
        };
        local.checked_sub(i64::from(seconds) * MICROS_PER_SECOND)
    }

    /// The moment at which the clocks skip `local`.
    fn change_near(&self, local: i64) -> Option<i64> {
        // No zone is a day and a half away from UTC.
        let reach = MICROS_PER_DAY + MICROS_PER_DAY / 2;
        let before = local.checked_sub(reach)?.div_euclid(MICROS_PER_SECOND);
        let after = local.checked_add(reach)?.div_euclid(MICROS_PER_SECOND);
        let offset = |second: i64| self.offset_seconds(second * MICROS_PER_SECOND);
        let (mut old, mut new) = (before, after);
        // Clocks show less than `local` before the change and more from then on.
        while new - old > 1 {
            let middle = old + (new - old) / 2;
            match (middle + i64::from(offset(middle))) * MICROS_PER_SECOND < local {
                true => old = middle,
                false => new = middle,
            }
        }
        Some(new * MICROS_PER_SECOND)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Utc => f.write_str("UTC"),
            Kind::Other(zone) => write!(f, "{zone}"),
        }
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Zone {}

impl Hash for Zone {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_string().hash(state);
    }
}

fn naive(micros: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|point| point.naive_utc())
}

/// `europe/berlin` to `Europe/Berlin`: nearly all names of the database are written so.
fn title_case(name: &str) -> String {
    let mut at_start = true;
    name.chars()
        .map(|character| {
            let cased = match at_start {
                true => character.to_ascii_uppercase(),
                false => character.to_ascii_lowercase(),
            };
            at_start = !character.is_ascii_alphabetic();
            cased
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::types::Zone;
    use crate::types::event_time;

    fn micros(text: &str) -> i64 {
        event_time::parse(text).unwrap()
    }

    #[test]
    fn names_and_offsets_are_found() {
        for (name, offset) in [
            ("UTC", 0),
            ("gmt", 0),
            ("europe/berlin", 3_600),
            ("America/New_York", -18_000),
            ("+05:30", 19_800),
            ("-03", -10_800),
            ("EST", -18_000),
        ] {
            let zone = Zone::parse(name).unwrap();
            assert_eq!(
                zone.offset_seconds(micros("2026-01-02 03:04:05")),
                offset,
                "{name}"
            );
        }
        let error = Zone::parse("Mars/Phobos").unwrap_err();
        assert_eq!(error.message(), "time zone \"Mars/Phobos\" not recognized");
        assert_eq!(error.state().code(), "22023");
    }

    #[test]
    fn offsets_of_posix_count_west_and_seconds_east() {
        let offset = |zone: Zone| zone.offset_seconds(0);
        assert_eq!(offset(Zone::posix("+02").unwrap()), -7_200);
        assert_eq!(offset(Zone::posix("-03:30").unwrap()), 12_600);
        assert_eq!(offset(Zone::posix("Asia/Kolkata").unwrap()), 19_800);
        assert_eq!(offset(Zone::east(-5_400).unwrap()), -5_400);
        assert_eq!(offset(Zone::east(0).unwrap()), 0);
        assert!(Zone::east(1_000_000).is_err());
        assert_eq!(
            Zone::parse("Asia/Tokyo").unwrap().to_local(0),
            Some(32_400_000_000)
        );
    }

    #[test]
    fn skipped_and_repeated_local_times_follow_postgres() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        for (local, utc) in [
            ("2026-03-29 02:30:00", "2026-03-29 01:30:00"),
            ("2026-10-25 02:30:00", "2026-10-25 01:30:00"),
            ("2026-07-01 12:00:00", "2026-07-01 10:00:00"),
        ] {
            assert_eq!(berlin.to_utc(micros(local)), Some(micros(utc)), "{local}");
        }
        for (local, utc) in [
            ("2026-03-29 01:59:59", "2026-03-29 00:59:59"),
            ("2026-03-29 02:00:00", "2026-03-29 01:00:00"),
            ("2026-03-29 02:30:00", "2026-03-29 01:00:00"),
            ("2026-03-29 03:00:00", "2026-03-29 01:00:00"),
            ("2026-10-25 02:30:00", "2026-10-25 00:30:00"),
            ("2026-10-25 03:00:00", "2026-10-25 02:00:00"),
        ] {
            assert_eq!(
                berlin.first_utc(micros(local)),
                Some(micros(utc)),
                "{local}"
            );
        }
        assert_eq!(berlin.to_utc(i64::MAX), Some(i64::MAX));
        assert_eq!(berlin.first_utc(i64::MAX), Some(i64::MAX));
        assert_eq!(berlin.offset_seconds(i64::MIN), 0);
    }
}
