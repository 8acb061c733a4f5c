//! The proleptic Gregorian calendar in plain integers: days since 1970-01-01 to year, month, day
//! and back.
//!
//! Years are astronomical: year 0 is 1 BC. The arithmetic is Howard Hinnant's
//! ("chrono-compatible low-level date algorithms"): years start in March, so that the leap day is
//! the last one, and 400-year eras all have the same length. It covers every Arrow timestamp, which
//! chrono's types do not (they end at year 262,143).

pub(crate) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(crate) const MICROS_PER_MINUTE: i64 = 60 * MICROS_PER_SECOND;
pub(crate) const MICROS_PER_HOUR: i64 = 60 * MICROS_PER_MINUTE;
pub(crate) const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

/// Days from 1970-01-01 to 2000-01-01, where Postgres' binary format starts to count.
pub(crate) const POSTGRES_EPOCH_DAYS: i64 = 10_957;

const DAYS_PER_ERA: i64 = 146_097;

/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_SHIFT: i64 = 719_468;

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    /// Astronomical: 0 is 1 BC.
    pub year: i64,
    pub month: i64,
    pub day: i64,
}

impl Civil {
    /// The day that lies `days` after 1970-01-01. Exact for |days| up to 2^60.
    pub fn from_days(days: i64) -> Civil {
        let shifted = days + EPOCH_SHIFT;
        let era = shifted.div_euclid(DAYS_PER_ERA);
        let day_of_era = shifted.rem_euclid(DAYS_PER_ERA);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        Civil {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day,
        }
    }

    /// Days since 1970-01-01. The day must exist, see [`Civil::exists`].
    pub fn to_days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = (self.month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * DAYS_PER_ERA + day_of_era - EPOCH_SHIFT
    }

    /// Whether the calendar has this day.
    pub fn exists(self) -> bool {
        (1..=12).contains(&self.month) && self.day >= 1 && self.day <= self.days_in_month()
    }

    fn days_in_month(self) -> i64 {
        match self.month {
            2 if self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::types::calendar::{Civil, POSTGRES_EPOCH_DAYS};

    #[test]
    fn days_and_dates_agree_over_the_whole_range() {
        let known = |year, month, day| Civil { year, month, day };
        assert_eq!(Civil::from_days(0), known(1970, 1, 1));
        assert_eq!(Civil::from_days(POSTGRES_EPOCH_DAYS), known(2000, 1, 1));
        assert_eq!(known(2024, 2, 29).to_days(), 19_782);
        assert_eq!(Civil::from_days(-719_528), known(0, 1, 1));
        let mut expected = Civil::from_days(-1_000_000);
        for days in -1_000_000..1_000_000 {
            let civil = Civil::from_days(days);
            assert_eq!(civil, expected);
            assert!(civil.exists());
            assert_eq!(civil.to_days(), days);
            expected.day += 1;
            if !expected.exists() {
                expected = known(expected.year, expected.month + 1, 1);
                if expected.month == 13 {
                    expected = known(expected.year + 1, 1, 1);
                }
            }
        }
        for days in [
            i64::from(i32::MIN),
            i64::from(i32::MAX),
            -106_751_991,
            106_751_991,
        ] {
            assert_eq!(Civil::from_days(days).to_days(), days);
        }
    }

    #[test]
    fn days_that_do_not_exist_are_told() {
        for (year, month, day) in [(2023, 2, 29), (1900, 2, 29), (2024, 4, 31), (2024, 13, 1)] {
            assert!(!Civil { year, month, day }.exists());
        }
        assert!(
            Civil {
                year: 2000,
                month: 2,
                day: 29
            }
            .exists()
        );
    }
}
