//! A point in time as its parts on a clock and a calendar.

use datafusion::config::ConfigOptions;

use crate::types::Zone;
use crate::types::calendar::{
    Civil, MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND,
};

/// Days from the start of the Julian period to 1970-01-01, as Postgres counts them.
const JULIAN_EPOCH: i64 = 2_440_588;

/// The parts of a time on the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BrokenDown {
    /// Days since 1970-01-01.
    pub days: i64,
    pub date: Civil,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
    /// Below one second.
    pub micros: i64,
}

impl BrokenDown {
    /// Takes apart microseconds since 1970 on the clock.
    pub fn new(moment: i64) -> BrokenDown {
        let days = moment.div_euclid(MICROS_PER_DAY);
        let time = moment.rem_euclid(MICROS_PER_DAY);
        BrokenDown {
            days,
            date: Civil::from_days(days),
            hour: time / MICROS_PER_HOUR,
            minute: time % MICROS_PER_HOUR / MICROS_PER_MINUTE,
            second: time % MICROS_PER_MINUTE / MICROS_PER_SECOND,
            micros: time % MICROS_PER_SECOND,
        }
    }

    /// 0 is Sunday.
    pub fn day_of_week(&self) -> i64 {
        // 1970-01-01 was a Thursday.
        (self.days + 4).rem_euclid(7)
    }

    /// 1 is Monday, 7 Sunday.
    pub fn iso_day_of_week(&self) -> i64 {
        (self.days + 3).rem_euclid(7) + 1
    }

    /// 1 is the first of January.
    pub fn day_of_year(&self) -> i64 {
        self.days - new_year(self.date.year) + 1
    }

    /// The year and week by ISO 8601: a week belongs to the year in which its Thursday is.
    pub fn iso_week(&self) -> (i64, i64) {
        let thursday = self.days - self.iso_day_of_week() + 4;
        let year = Civil::from_days(thursday).year;
        (year, (thursday - new_year(year)) / 7 + 1)
    }

    pub fn julian_day(&self) -> i64 {
        self.days + JULIAN_EPOCH
    }

    /// The year as it is called: there is no year 0.
    pub fn year(&self) -> i64 {
        named_year(self.date.year)
    }
}

/// What an astronomical year is called: 0 is −1, the year 1 BC.
pub(super) fn named_year(year: i64) -> i64 {
    match year > 0 {
        true => year,
        false => year - 1,
    }
}

fn new_year(year: i64) -> i64 {
    Civil {
        year,
        month: 1,
        day: 1,
    }
    .to_days()
}

/// The zone of the statement.
pub(crate) fn zone_of(options: &ConfigOptions) -> Zone {
    let name = options.execution.time_zone.as_deref();
    name.and_then(Zone::find).unwrap_or_default()
}
