//! `age(later, earlier)`: the difference in years, months and days of the calendar.

use std::sync::Arc;

use arrow::array::{AsArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::{Error, SqlState};
use crate::function::columnar::failure;
use crate::function::time::broken_down::{BrokenDown, zone_of};
use crate::types::SqlType;
use crate::types::calendar::{Civil, MICROS_PER_DAY};

/// The function, of two arguments. With one, Postgres counts to the current date, which a view's
/// rows cannot depend on.
pub fn age() -> ScalarUDF {
    ScalarUDF::new_from_impl(Age {
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Age {
    signature: Signature,
}

impl ScalarUDFImpl for Age {
    fn name(&self) -> &str {
        "age"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Interval(IntervalUnit::MonthDayNano))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [later, earlier] = arguments else {
            return Err(failure(
                Error::unsupported("age with one argument is not supported")
                    .hint("write age(current_date, value)"),
            ));
        };
        let zoned = |data_type: &DataType| {
            matches!(
                data_type,
                DataType::Timestamp(_, Some(_)) | DataType::Date32
            )
        };
        for argument in [later, earlier] {
            let is_time = matches!(
                argument,
                DataType::Timestamp(..) | DataType::Date32 | DataType::Null | DataType::Utf8
            );
            if !is_time {
                let name = SqlType::name_of(argument);
                return plan_err!("age takes timestamps or dates, not {name}");
            }
        }
        let zone = (zoned(later) || zoned(earlier)).then(|| Arc::from("UTC"));
        Ok(vec![DataType::Timestamp(TimeUnit::Microsecond, zone); 2])
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = match call.args[0].data_type() {
            DataType::Timestamp(_, Some(_)) => zone_of(&call.config_options),
            _ => crate::types::Zone::UTC,
        };
        let rows = call.number_rows;
        let (later, earlier) = (call.args[0].to_array(rows)?, call.args[1].to_array(rows)?);
        let later = later.as_primitive::<TimestampMicrosecondType>();
        let earlier = earlier.as_primitive::<TimestampMicrosecondType>();
        let local =
            |moment: i64| moment.saturating_add(i64::from(zone.offset_seconds(moment)) * 1_000_000);
        let ages: PrimitiveArray<IntervalMonthDayNanoType> =
            arrow::compute::try_binary(later, earlier, |later, earlier| {
                between(local(later), local(earlier)).ok_or_else(|| {
                    let error =
                        Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range");
                    arrow::error::ArrowError::ExternalError(Box::new(error))
                })
            })?;
        Ok(ColumnarValue::Array(Arc::new(ages)))
    }
}

/// Whole months, then days of the month before, then time (Postgres' `timestamp_age`).
fn between(later: i64, earlier: i64) -> Option<IntervalMonthDayNano> {
    let is_negative = later < earlier;
    let (a, b) = match is_negative {
        true => (earlier, later),
        false => (later, earlier),
    };
    let (from, to) = (BrokenDown::new(b), BrokenDown::new(a));
    let mut months = (to.date.year - from.date.year) * 12 + to.date.month - from.date.month;
    let mut days = to.date.day - from.date.day;
    let mut micros = a.rem_euclid(MICROS_PER_DAY) - b.rem_euclid(MICROS_PER_DAY);
    if micros < 0 {
        micros += MICROS_PER_DAY;
        days -= 1;
    }
    // The month that a day is borrowed from is that of the earlier of the two.
    while days < 0 {
        days += days_in_month(from.date);
        months -= 1;
    }
    let sign = if is_negative { -1 } else { 1 };
    Some(IntervalMonthDayNano::new(
        i32::try_from(i64::from(sign) * months).ok()?,
        i32::try_from(i64::from(sign) * days).ok()?,
        i64::from(sign) * micros * 1_000,
    ))
}

fn days_in_month(date: Civil) -> i64 {
    let first = Civil { day: 1, ..date };
    let next = match date.month {
        12 => Civil {
            year: date.year + 1,
            month: 1,
            day: 1,
        },
        month => Civil {
            month: month + 1,
            ..first
        },
    };
    next.to_days() - first.to_days()
}
