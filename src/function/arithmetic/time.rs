//! Dates, times and intervals.
//!
//! An interval is months, days and microseconds, which do not convert into each other: a month is
//! added on the calendar (the 31st becomes the last day of a shorter month), then days, then time.
//! Of a point in time the calendar is that of the statement's zone, UTC in views: a day may then
//! have 23 or 25 hours.
//!
//! ```text
//!   2026-01-31 + 1 month                  2026-02-28 00:00:00
//!   2026-01-01 13:00 − 2025-12-30 12:00   2 days 01:00:00
//!   1 month / 7                           4 days 06:51:25.6896     a month has 30 days here
//! ```

use arrow::array::ArrayRef;
use arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int32Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

use crate::error::{Error, SqlState};
use crate::function::arithmetic::integer::{division_by_zero, out_of_range};
use crate::function::arithmetic::operand::{Operand, combine};
use crate::function::arithmetic::signature::{ArithmeticOperator, Kind};
use crate::function::columnar::failure;
use crate::types::Zone;
use crate::types::calendar::{Civil, MICROS_PER_DAY};

const NANOS_PER_MICRO: i64 = 1_000;

/// Days of a month where a fraction of one becomes days.
const DAYS_PER_MONTH: f64 = 30.0;
const SECONDS_PER_DAY: f64 = 86_400.0;
const MICROS_PER_SECOND: f64 = 1e6;

type Timestamps = TimestampMicrosecondType;
type Times = Time64MicrosecondType;
type Intervals = IntervalMonthDayNanoType;

/// The operands are in the order that the kind wants.
pub(super) fn compute(
    kind: Kind,
    operator: ArithmeticOperator,
    left: &ColumnarValue,
    right: &ColumnarValue,
    result: &DataType,
    zone: Zone,
) -> Result<ArrayRef> {
    let adds = operator == ArithmeticOperator::Add;
    match kind {
        Kind::DateAndDays => {
            let (left, right) = (Operand::new(left)?, Operand::new(right)?);
            combine::<Date32Type, Int32Type, Date32Type>(&left, &right, result, |date, days| {
                let moved = match adds {
                    true => date.checked_add(days),
                    false => date.checked_sub(days),
                };
                moved.ok_or_else(|| out_of_calendar("date"))
            })
        }
        Kind::DateDifference => {
            let (left, right) = (Operand::new(left)?, Operand::new(right)?);
            combine::<Date32Type, Date32Type, Int32Type>(&left, &right, result, |a, b| {
                a.checked_sub(b).ok_or_else(|| out_of_range("integer"))
            })
        }
        Kind::DateAndTime => {
            let (left, right) = (Operand::new(left)?, Operand::new(right)?);
            combine::<Date32Type, Times, Timestamps>(&left, &right, result, |date, time| {
                let start = i64::from(date).checked_mul(MICROS_PER_DAY);
                let moment = start.and_then(|start| start.checked_add(time));
                moment.ok_or_else(|| out_of_calendar("timestamp"))
            })
        }
        Kind::TimestampAndInterval => {
            let (left, right) = (Operand::new(left)?, Operand::new(right)?);
            combine::<Timestamps, Intervals, Timestamps>(&left, &right, result, |moment, by| {
                let by = if adds { Some(by) } else { negated(by) };
                let moved = by.and_then(|by| moved(moment, by, zone));
                moved.ok_or_else(|| out_of_calendar("timestamp"))
            })
        }
        Kind::TimestampDifference => {
            let (left, right) = (Operand::new(left)?, Operand::new(right)?);
            combine::<Timestamps, Timestamps, Intervals>(&left, &right, result, |a, b| {
                let micros = a.checked_sub(b);
                micros
                    .and_then(|micros| {
                        let days = i32::try_from(micros / MICROS_PER_DAY).ok()?;
                        interval(0, days, micros % MICROS_PER_DAY)
                    })
                    .ok_or_else(|| out_of_calendar("interval"))
            })
        }
        Kind::TimeAndInterval => {
            let (left, right) = (Operand::new(left)?, Operand::new(right)?);
            combine::<Times, Intervals, Times>(&left, &right, result, |time, by| {
                let micros = by.nanoseconds / NANOS_PER_MICRO % MICROS_PER_DAY;
                let moved = if adds { time + micros } else { time - micros };
                Ok(moved.rem_euclid(MICROS_PER_DAY))
            })
        }
        Kind::TimeDifference => {
            let (left, right) = (Operand::new(left)?, Operand::new(right)?);
            combine::<Times, Times, Intervals>(&left, &right, result, |a, b| {
                interval(0, 0, a - b).ok_or_else(|| out_of_calendar("interval"))
            })
        }
        Kind::Intervals => {
            let (left, right) = (Operand::new(left)?, Operand::new(right)?);
            combine::<Intervals, Intervals, Intervals>(&left, &right, result, |a, b| {
                let b = if adds { Some(b) } else { negated(b) };
                let sum = b.and_then(|b| {
                    Some(IntervalMonthDayNano::new(
                        a.months.checked_add(b.months)?,
                        a.days.checked_add(b.days)?,
                        a.nanoseconds.checked_add(b.nanoseconds)?,
                    ))
                });
                sum.ok_or_else(|| out_of_calendar("interval"))
            })
        }
        Kind::IntervalAndFactor => {
            let (left, right) = (Operand::new(left)?, Operand::new(right)?);
            let divides = operator == ArithmeticOperator::Divide;
            combine::<Intervals, Float64Type, Intervals>(&left, &right, result, |by, factor| {
                let scaled = match divides {
                    true if factor == 0.0 => return Err(division_by_zero()),
                    true => scaled(by, |part| part / factor),
                    false => scaled(by, |part| part * factor),
                };
                scaled.ok_or_else(|| out_of_calendar("interval"))
            })
        }
        Kind::Integer | Kind::Numeric | Kind::Float => {
            Err(failure(Error::internal("numbers as times")))
        }
    }
}

fn interval(months: i32, days: i32, micros: i64) -> Option<IntervalMonthDayNano> {
    let nanos = micros.checked_mul(NANOS_PER_MICRO)?;
    Some(IntervalMonthDayNano::new(months, days, nanos))
}

fn negated(by: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    Some(IntervalMonthDayNano::new(
        by.months.checked_neg()?,
        by.days.checked_neg()?,
        by.nanoseconds.checked_neg()?,
    ))
}

/// The point in time so much later, with months and days of the zone's calendar.
pub(crate) fn moved(moment: i64, by: IntervalMonthDayNano, zone: Zone) -> Option<i64> {
    let mut moment = moment;
    if by.months != 0 {
        moment = zone.to_utc(add_months(zone.to_local(moment)?, by.months)?)?;
    }
    if by.days != 0 {
        let days = i64::from(by.days).checked_mul(MICROS_PER_DAY)?;
        moment = zone.to_utc(zone.to_local(moment)?.checked_add(days)?)?;
    }
    // Rounded down, so that nothing moves forward by a part of a microsecond.
    moment.checked_add(by.nanoseconds.div_euclid(NANOS_PER_MICRO))
}

/// The same time of day so many months later, on the last day of the month if it has no such day.
fn add_months(moment: i64, months: i32) -> Option<i64> {
    let date = Civil::from_days(moment.div_euclid(MICROS_PER_DAY));
    let count = date.year * 12 + date.month - 1 + i64::from(months);
    let mut moved = Civil {
        year: count.div_euclid(12),
        month: count.rem_euclid(12) + 1,
        day: date.day,
    };
    while !moved.exists() {
        moved.day -= 1;
    }
    let start = moved.to_days().checked_mul(MICROS_PER_DAY)?;
    start.checked_add(moment.rem_euclid(MICROS_PER_DAY))
}

/// Every part times a factor; fractions go to the next smaller part (Postgres' `interval_mul`,
/// timestamp.c).
fn scaled(by: IntervalMonthDayNano, times: impl Fn(f64) -> f64) -> Option<IntervalMonthDayNano> {
    let (months, days) = (times(f64::from(by.months)), times(f64::from(by.days)));
    let whole_months = whole(months)?;
    let whole_days = whole(days)?;
    let more_days = rounded((months - f64::from(whole_months)) * DAYS_PER_MONTH);
    let fraction = days - f64::from(whole_days) + more_days - more_days.trunc();
    let mut seconds = rounded(fraction * SECONDS_PER_DAY);
    let mut result_days = whole_days;
    if seconds.abs() >= SECONDS_PER_DAY {
        let carried = whole(seconds / SECONDS_PER_DAY)?;
        result_days = result_days.checked_add(carried)?;
        seconds -= f64::from(carried) * SECONDS_PER_DAY;
    }
    result_days = result_days.checked_add(whole(more_days)?)?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a float is what is multiplied with"
    )]
    let micros = times((by.nanoseconds / NANOS_PER_MICRO) as f64) + seconds * MICROS_PER_SECOND;
    interval(whole_months, result_days, whole_micros(micros)?)
}

/// Rounded to microseconds, so that a fraction that no float has does not show.
fn rounded(value: f64) -> f64 {
    (value * MICROS_PER_SECOND).round_ties_even() / MICROS_PER_SECOND
}

fn whole(value: f64) -> Option<i32> {
    let fits = value.trunc() >= f64::from(i32::MIN) && value.trunc() <= f64::from(i32::MAX);
    #[expect(clippy::cast_possible_truncation, reason = "the line above bounds it")]
    fits.then_some(value as i32)
}

fn whole_micros(value: f64) -> Option<i64> {
    let rounded = value.round_ties_even();
    // 2^63 itself is the first float that does not fit.
    #[expect(clippy::cast_possible_truncation, reason = "the condition bounds it")]
    (rounded.abs() < 9_223_372_036_854_775_808.0).then_some(rounded as i64)
}

fn out_of_calendar(type_name: &str) -> Error {
    let message = format!("{type_name} out of range");
    Error::new(SqlState::DATETIME_FIELD_OVERFLOW, message)
}
