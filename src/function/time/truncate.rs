//! `date_trunc('unit', value [, zone])`: the start of the unit that a time is in.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, SqlState};
use crate::function::columnar::{constant_text, failure, map_column};
use crate::function::time::broken_down::{BrokenDown, zone_of};
use crate::function::time::extract::coerced;
use crate::function::time::unit::{Unit, not_recognized, not_supported};
use crate::types::calendar::{
    Civil, MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND,
};
use crate::types::{SqlType, Zone};

const MICROS_PER_MILLISECOND: i64 = 1_000;

/// The function.
pub fn date_trunc() -> ScalarUDF {
    ScalarUDF::new_from_impl(DateTrunc {
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTrunc {
    signature: Signature,
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        "date_trunc"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(self.coerce_types(arguments)?.swap_remove(1))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let (source, zone) = match arguments {
            [_, source] => (source, None),
            [_, source, zone] => (source, Some(zone)),
            _ => return plan_err!("function date_trunc takes a unit and a value"),
        };
        let with_zone = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
        let source = match coerced(source, self.name())? {
            // A date is the moment at which it begins.
            DataType::Date32 => with_zone.clone(),
            DataType::Time64(_) => DataType::Interval(IntervalUnit::MonthDayNano),
            other => other,
        };
        Ok(match zone {
            None => vec![DataType::Utf8, source],
            Some(_) => vec![DataType::Utf8, with_zone, DataType::Utf8],
        })
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let source = call.args[1].data_type();
        let null = || Ok(ColumnarValue::Scalar(ScalarValue::try_from(&source)?));
        let Some(name) = constant_text(&call.args[0], "the unit of date_trunc")? else {
            return null();
        };
        let zone = match (call.args.get(2), &source) {
            (Some(zone), _) => match constant_text(zone, "the zone of date_trunc")? {
                Some(zone) => Zone::parse(&zone).map_err(failure)?,
                None => return null(),
            },
            (None, DataType::Timestamp(_, Some(_))) => zone_of(&call.config_options),
            (None, _) => Zone::UTC,
        };
        let type_name = SqlType::name_of(&source);
        let unit = Unit::parse(&name, &type_name)?;
        let missing = || match unit.cuts() {
            true => not_supported(&name, &type_name),
            false => not_recognized(&name, &type_name),
        };
        map_column(&call.args[1], |array| {
            let array: ArrayRef = match array.data_type() {
                DataType::Interval(_) => {
                    let intervals: &PrimitiveArray<IntervalMonthDayNanoType> = array.as_primitive();
                    let cut = intervals.try_unary::<_, IntervalMonthDayNanoType, _>(|value| {
                        cut_interval(unit, value).ok_or_else(missing)
                    })?;
                    Arc::new(cut)
                }
                data_type => {
                    let data_type = data_type.clone();
                    let moments = array.as_primitive::<TimestampMicrosecondType>();
                    let cut = moments.try_unary::<_, TimestampMicrosecondType, _>(|moment| {
                        match cut_in_zone(unit, moment, zone) {
                            Cut::To(moment) => Ok(moment),
                            Cut::NotByThis => Err(missing()),
                            Cut::OutOfRange => Err(failure(Error::new(
                                SqlState::DATETIME_FIELD_OVERFLOW,
                                "timestamp out of range",
                            ))),
                        }
                    })?;
                    Arc::new(cut.with_data_type(data_type))
                }
            };
            Ok(array)
        })
    }
}

enum Cut {
    To(i64),
    /// There is no such unit of the calendar.
    NotByThis,
    OutOfRange,
}

fn cut_in_zone(unit: Unit, moment: i64, zone: Zone) -> Cut {
    let offset = i64::from(zone.offset_seconds(moment)) * MICROS_PER_SECOND;
    let Some(local) = moment.checked_add(offset) else {
        return Cut::OutOfRange;
    };
    match cut(unit, local) {
        // What is shorter than a day is cut off: an hour that the clocks show twice is two.
        Cut::To(start) if local - start < MICROS_PER_DAY && !unit.is_of_calendar() => {
            Cut::To(moment - (local - start))
        }
        Cut::To(local) => match zone.to_utc(local) {
            Some(moment) => Cut::To(moment),
            None => Cut::OutOfRange,
        },
        other => other,
    }
}

fn cut(unit: Unit, local: i64) -> Cut {
    let floor = |micros: i64| match local.checked_sub(local.rem_euclid(micros)) {
        Some(cut) => Cut::To(cut),
        None => Cut::OutOfRange,
    };
    match unit {
        Unit::Microseconds => Cut::To(local),
        Unit::Milliseconds => floor(MICROS_PER_MILLISECOND),
        Unit::Second => floor(MICROS_PER_SECOND),
        Unit::Minute => floor(MICROS_PER_MINUTE),
        Unit::Hour => floor(MICROS_PER_HOUR),
        Unit::Day => floor(MICROS_PER_DAY),
        _ => {
            let parts = BrokenDown::new(local);
            let Civil { year, month, .. } = parts.date;
            let first = |year, month| {
                let day = 1;
                Civil { year, month, day }.to_days()
            };
            // The first century begins with the year 1; the decade of 2026 with 2020.
            let days = match unit {
                Unit::Week => parts.days - parts.iso_day_of_week() + 1,
                Unit::Month => first(year, month),
                Unit::Quarter => first(year, (month - 1) / 3 * 3 + 1),
                Unit::Year => first(year, 1),
                Unit::Decade => first(year.div_euclid(10) * 10, 1),
                Unit::Century => first((year - 1).div_euclid(100) * 100 + 1, 1),
                Unit::Millennium => first((year - 1).div_euclid(1_000) * 1_000 + 1, 1),
                _ => return Cut::NotByThis,
            };
            match days.checked_mul(MICROS_PER_DAY) {
                Some(cut) => Cut::To(cut),
                None => Cut::OutOfRange,
            }
        }
    }
}

/// Drops what is smaller than the unit.
fn cut_interval(unit: Unit, value: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let IntervalMonthDayNano {
        months,
        days,
        nanoseconds,
    } = value;
    let time = |micros: i64| nanoseconds - nanoseconds % (micros * 1_000);
    let (months, days, nanoseconds) = match unit {
        Unit::Microseconds => (months, days, time(1)),
        Unit::Milliseconds => (months, days, time(MICROS_PER_MILLISECOND)),
        Unit::Second => (months, days, time(MICROS_PER_SECOND)),
        Unit::Minute => (months, days, time(MICROS_PER_MINUTE)),
        Unit::Hour => (months, days, time(MICROS_PER_HOUR)),
        Unit::Day => (months, days, 0),
        Unit::Month => (months, 0, 0),
        Unit::Quarter => (months / 3 * 3, 0, 0),
        Unit::Year => (months / 12 * 12, 0, 0),
        Unit::Decade => (months / 120 * 120, 0, 0),
        Unit::Century => (months / 1_200 * 1_200, 0, 0),
        Unit::Millennium => (months / 12_000 * 12_000, 0, 0),
        _ => return None,
    };
    Some(IntervalMonthDayNano::new(months, days, nanoseconds))
}
