//! The units that times are taken apart and cut by.

use datafusion::error::{DataFusionError, Result};

use crate::error::{Error, SqlState};
use crate::function::columnar::failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Epoch,
    Julian,
    IsoYear,
    DayOfWeek,
    IsoDayOfWeek,
    DayOfYear,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

impl Unit {
    /// Reads a unit by any of the names that Postgres knows it by.
    ///
    /// # Errors
    /// 22023 when there is no such unit.
    pub fn parse(name: &str, type_name: &str) -> Result<Unit> {
        let lower = name.trim().to_ascii_lowercase();
        Ok(match lower.as_str() {
            "microsecond" | "microseconds" | "us" | "usec" | "usecs" | "usecond" | "useconds"
            | "microsecon" => Unit::Microseconds,
            "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" | "msecond" | "mseconds"
            | "millisecon" => Unit::Milliseconds,
            "second" | "seconds" | "s" | "sec" | "secs" => Unit::Second,
            "minute" | "minutes" | "m" | "min" | "mins" => Unit::Minute,
            "hour" | "hours" | "h" | "hr" | "hrs" => Unit::Hour,
            "day" | "days" | "d" => Unit::Day,
            "week" | "weeks" | "w" => Unit::Week,
            "month" | "months" | "mon" | "mons" => Unit::Month,
            "quarter" | "qtr" => Unit::Quarter,
            "year" | "years" | "y" | "yr" | "yrs" => Unit::Year,
            "decade" | "decades" | "dec" | "decs" => Unit::Decade,
            "century" | "centuries" | "c" | "cent" => Unit::Century,
            "millennium" | "millennia" | "mil" | "mils" => Unit::Millennium,
            "epoch" => Unit::Epoch,
            "julian" | "jd" | "j" => Unit::Julian,
            "isoyear" => Unit::IsoYear,
            "dow" => Unit::DayOfWeek,
            "isodow" => Unit::IsoDayOfWeek,
            "doy" => Unit::DayOfYear,
            "timezone" => Unit::Timezone,
            "timezone_hour" | "timezone_h" => Unit::TimezoneHour,
            "timezone_minute" | "timezone_m" => Unit::TimezoneMinute,
            _ => return Err(not_recognized(&lower, type_name)),
        })
    }

    /// Whether it is a day or is made of days.
    pub fn is_of_calendar(self) -> bool {
        !matches!(
            self,
            Unit::Microseconds | Unit::Milliseconds | Unit::Second | Unit::Minute | Unit::Hour
        )
    }

    /// Whether times can be cut by it; the others only name a part.
    pub fn cuts(self) -> bool {
        !matches!(
            self,
            Unit::Epoch | Unit::DayOfWeek | Unit::IsoDayOfWeek | Unit::DayOfYear
        )
    }
}

/// 22023: there is no such unit.
pub(super) fn not_recognized(name: &str, type_name: &str) -> DataFusionError {
    let name = name.trim().to_ascii_lowercase();
    let message = format!("unit \"{name}\" not recognized for type {type_name}");
    failure(Error::new(SqlState::INVALID_PARAMETER_VALUE, message))
}

/// 0A000: the type has no such part.
pub(super) fn not_supported(name: &str, type_name: &str) -> DataFusionError {
    let name = name.trim().to_ascii_lowercase();
    let message = format!("unit \"{name}\" not supported for type {type_name}");
    failure(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message))
}
