//! `extract(unit FROM value)` and `date_part('unit', value)`.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Float64Array, PrimitiveArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::{internal_err, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, SqlState};
use crate::function::columnar::{constant_text, failure, map_column};
use crate::function::time::broken_down::{BrokenDown, named_year, zone_of};
use crate::function::time::unit::{Unit, not_supported};
use crate::types::calendar::{MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE};
use crate::types::{SqlType, Zone};

/// Fractional digits of the Julian day of a point in time.
const JULIAN_SCALE: u32 = 16;

/// The function behind EXTRACT: a numeric, whose scale follows from the unit.
pub fn extract() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        Arc::new(ScalarUDF::new_from_impl(Extract {
            name: "extract",
            gives_float: false,
            signature: Signature::user_defined(Volatility::Immutable),
        }))
    });
    FUNCTION.clone()
}

/// `date_part`: the same as a double precision.
pub fn date_part() -> ScalarUDF {
    ScalarUDF::new_from_impl(Extract {
        name: "date_part",
        gives_float: true,
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extract {
    name: &'static str,
    gives_float: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Extract {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the unit says the type")
    }

    fn return_field_from_args(&self, call: ReturnFieldArgs) -> Result<FieldRef> {
        let data_type = match self.gives_float {
            true => DataType::Float64,
            false => {
                let unit = match call.scalar_arguments.first() {
                    Some(Some(unit)) => constant_text(
                        &ColumnarValue::Scalar((*unit).clone()),
                        "the unit of extract",
                    )?,
                    _ => return Err(unit_must_be_constant()),
                };
                let source = call.arg_fields[1].data_type();
                let scale = match unit {
                    Some(unit) => scale_of(Unit::parse(&unit, &SqlType::name_of(source))?, source),
                    None => 0,
                };
                DataType::Decimal128(38, i8::try_from(scale).expect("scales are small"))
            }
        };
        Ok(Arc::new(Field::new(self.name, data_type, true)))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [_, source] = arguments else {
            return plan_err!("function {} takes a unit and a value", self.name);
        };
        Ok(vec![DataType::Utf8, coerced(source, self.name)?])
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let result = call.return_field.data_type();
        let Some(name) = constant_text(&call.args[0], "the unit of extract")? else {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(result)?));
        };
        let source = call.args[1].data_type();
        let type_name = SqlType::name_of(&source);
        let unit = Unit::parse(&name, &type_name)?;
        let scale = scale_of(unit, &source);
        let zone = match &source {
            DataType::Timestamp(_, Some(_)) => Some(zone_of(&call.config_options)),
            _ => None,
        };
        let missing = || not_supported(&name, &type_name);
        map_column(&call.args[1], |array| {
            let parts = parts(unit, array, zone, missing)?;
            match self.gives_float {
                false => Ok(Arc::new(parts.with_data_type(result.clone()))),
                true => {
                    let floats: Float64Array = parts.unary(|part| {
                        let text = format!("{part}e-{scale}");
                        text.parse().unwrap_or(f64::NAN)
                    });
                    Ok(Arc::new(floats))
                }
            }
        })
    }
}

fn unit_must_be_constant() -> DataFusionError {
    let error = Error::unsupported("the unit of extract must be a constant");
    failure(error.hint("use CASE to choose between several"))
}

/// The type that a value is taken apart as.
pub(super) fn coerced(source: &DataType, function: &str) -> Result<DataType> {
    Ok(match source {
        DataType::Null | DataType::Utf8 => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Interval(_) | DataType::Duration(_) => {
            DataType::Interval(IntervalUnit::MonthDayNano)
        }
        other => {
            let name = SqlType::name_of(other);
            let message = format!("function {function}(text, {name}) does not exist");
            return Err(failure(
                Error::new(SqlState::UNDEFINED_FUNCTION, message)
                    .hint("give it a date, a time, a timestamp or an interval"),
            ));
        }
    })
}

fn scale_of(unit: Unit, source: &DataType) -> u32 {
    match unit {
        Unit::Second => 6,
        Unit::Epoch if *source != DataType::Date32 => 6,
        Unit::Milliseconds => 3,
        Unit::Julian if *source != DataType::Date32 => JULIAN_SCALE,
        _ => 0,
    }
}

/// The part of every value, in units of its scale.
fn parts(
    unit: Unit,
    array: &ArrayRef,
    zone: Option<Zone>,
    missing: impl Fn() -> DataFusionError,
) -> Result<Decimal128Array> {
    // Whether the type has the part does not depend on the value.
    let of = |part: Option<i128>| part.ok_or_else(&missing);
    Ok(match array.data_type() {
        DataType::Timestamp(..) => {
            array
                .as_primitive::<TimestampMicrosecondType>()
                .try_unary::<_, Decimal128Type, _>(|moment| of(of_moment(unit, moment, zone)))?
        }
        DataType::Date32 => array
            .as_primitive::<Date32Type>()
            .try_unary::<_, Decimal128Type, _>(|days| of(of_date(unit, days)))?,
        DataType::Time64(_) => array
            .as_primitive::<Time64MicrosecondType>()
            .try_unary::<_, Decimal128Type, _>(|time| of(of_time(unit, time)))?,
        DataType::Interval(_) => {
            let intervals: &PrimitiveArray<IntervalMonthDayNanoType> = array.as_primitive();
            intervals.try_unary::<_, Decimal128Type, _>(|value| of(of_interval(unit, value)))?
        }
        other => return internal_err!("nothing to extract from {other}"),
    })
}

fn of_moment(unit: Unit, moment: i64, zone: Option<Zone>) -> Option<i128> {
    let offset = zone.map(|zone| i64::from(zone.offset_seconds(moment)));
    let local = moment.saturating_add(offset.unwrap_or(0) * 1_000_000);
    Some(match (unit, offset) {
        (Unit::Epoch, _) => i128::from(moment),
        (Unit::Timezone, Some(offset)) => offset.into(),
        (Unit::TimezoneHour, Some(offset)) => (offset / 3_600).into(),
        (Unit::TimezoneMinute, Some(offset)) => (offset / 60 % 60).into(),
        (Unit::Timezone | Unit::TimezoneHour | Unit::TimezoneMinute, None) => return None,
        (Unit::Julian, _) => {
            let day = 10i128.pow(JULIAN_SCALE);
            let time = i128::from(local.rem_euclid(MICROS_PER_DAY));
            let fraction =
                (time * day + i128::from(MICROS_PER_DAY) / 2) / i128::from(MICROS_PER_DAY);
            i128::from(BrokenDown::new(local).julian_day()) * day + fraction
        }
        (Unit::Microseconds | Unit::Milliseconds | Unit::Second | Unit::Minute | Unit::Hour, _) => {
            of_clock(unit, local.rem_euclid(MICROS_PER_DAY))?
        }
        _ => of_calendar(unit, &BrokenDown::new(local))?,
    })
}

fn of_date(unit: Unit, days: i32) -> Option<i128> {
    let days = i64::from(days);
    let date = BrokenDown::new(days * MICROS_PER_DAY);
    match unit {
        Unit::Epoch => Some(i128::from(days) * 86_400),
        Unit::Julian => Some(date.julian_day().into()),
        _ => of_calendar(unit, &date),
    }
}

fn of_time(unit: Unit, time: i64) -> Option<i128> {
    match unit {
        Unit::Epoch => Some(time.into()),
        _ => of_clock(unit, time),
    }
}

/// Microseconds and milliseconds count from the start of the minute, as in Postgres.
fn of_clock(unit: Unit, time: i64) -> Option<i128> {
    Some(match unit {
        Unit::Microseconds | Unit::Milliseconds | Unit::Second => (time % MICROS_PER_MINUTE).into(),
        Unit::Minute => (time % MICROS_PER_HOUR / MICROS_PER_MINUTE).into(),
        Unit::Hour => (time / MICROS_PER_HOUR).into(),
        _ => return None,
    })
}

fn of_calendar(unit: Unit, parts: &BrokenDown) -> Option<i128> {
    let (year, month) = (parts.date.year, parts.date.month);
    let part = match unit {
        Unit::Day => parts.date.day,
        Unit::Week => parts.iso_week().1,
        Unit::Month => month,
        Unit::Quarter => (month - 1) / 3 + 1,
        Unit::Year => parts.year(),
        Unit::Decade => year.div_euclid(10),
        Unit::Century => span_of(year, 100),
        Unit::Millennium => span_of(year, 1_000),
        Unit::IsoYear => named_year(parts.iso_week().0),
        Unit::DayOfWeek => parts.day_of_week(),
        Unit::IsoDayOfWeek => parts.iso_day_of_week(),
        Unit::DayOfYear => parts.day_of_year(),
        _ => return None,
    };
    Some(part.into())
}

/// The number of the century or millennium: the first begins with the year 1, before it is −1.
fn span_of(year: i64, years: i64) -> i64 {
    match year > 0 {
        true => (year + years - 1) / years,
        false => -((years - 1 - (year - 1)) / years),
    }
}

fn of_interval(unit: Unit, value: IntervalMonthDayNano) -> Option<i128> {
    let (years, months) = (i64::from(value.months / 12), i64::from(value.months % 12));
    let micros = value.nanoseconds / 1_000;
    Some(match unit {
        Unit::Day => value.days.into(),
        Unit::Month => months.into(),
        Unit::Quarter => (months / 3 + 1).into(),
        Unit::Year => years.into(),
        Unit::Decade => (years / 10).into(),
        Unit::Century => (years / 100).into(),
        Unit::Millennium => (years / 1_000).into(),
        // A year has 365.25 days, a month 30.
        Unit::Epoch => {
            let quarter_days = i128::from(years) * 1_461 + i128::from(months) * 120;
            let days = quarter_days + i128::from(value.days) * 4;
            days * i128::from(MICROS_PER_DAY / 4) + i128::from(micros)
        }
        _ => of_clock(unit, micros)?,
    })
}
