//! `timezone(zone, time)`, which is `time AT TIME ZONE zone`: from a point in time to what the
//! clocks of a zone show, and back.
//!
//! ```text
//!   timezone('Europe/Berlin', TIMESTAMPTZ '2026-07-01 10:00Z')    2026-07-01 12:00:00
//!   timezone('Europe/Berlin', TIMESTAMP   '2026-07-01 12:00')     2026-07-01 10:00:00+00
//! ```
//!
//! An offset in a text counts west of Greenwich, as POSIX has it and Postgres here: `'+02'` is what
//! elsewhere is `-02`. An interval counts east.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, SqlState};
use crate::function::columnar::failure;
use crate::types::{SqlType, Zone};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The function.
pub fn timezone() -> ScalarUDF {
    ScalarUDF::new_from_impl(TimeZone {
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeZone {
    signature: Signature,
}

fn timestamp(has_zone: bool) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, has_zone.then(|| Arc::from("UTC")))
}

impl ScalarUDFImpl for TimeZone {
    fn name(&self) -> &str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let coerced = self.coerce_types(arguments)?;
        Ok(timestamp(coerced[1] == timestamp(false)))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let names = || {
            let names = arguments.iter().map(SqlType::name_of);
            names.collect::<Vec<_>>().join(", ")
        };
        let undefined = || {
            let message = format!("function timezone({}) does not exist", names());
            let error = Error::new(SqlState::UNDEFINED_FUNCTION, message);
            failure(error.hint("give it a zone and a timestamp"))
        };
        let [zone, time] = arguments else {
            return Err(undefined());
        };
        let zone = match zone {
            DataType::Interval(_) | DataType::Duration(_) => {
                DataType::Interval(IntervalUnit::MonthDayNano)
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
                DataType::Utf8
            }
            _ => return Err(undefined()),
        };
        let time = match time {
            DataType::Timestamp(_, None) => timestamp(false),
            // A date, and a text without a type, is a point in time.
            DataType::Timestamp(_, Some(_))
            | DataType::Date32
            | DataType::Utf8
            | DataType::Null => timestamp(true),
            _ => return Err(undefined()),
        };
        Ok(vec![zone, time])
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (zone, time) = (&call.args[0], &call.args[1]);
        let is_constant = matches!(
            (zone, time),
            (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_))
        );
        let rows = if is_constant { 1 } else { call.number_rows };
        let constant = match zone {
            ColumnarValue::Scalar(_) => Some(zone_at(&zone.to_array(1)?, 0)?),
            ColumnarValue::Array(_) => None,
        };
        let zones = zone.to_array(rows)?;
        let times = time.to_array(rows)?;
        let has_zone = matches!(times.data_type(), DataType::Timestamp(_, Some(_)));
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let shifted = (0..rows).map(|row| {
            let zone = match constant {
                Some(zone) => zone,
                None => zone_at(&zones, row)?,
            };
            let (Some(zone), true) = (zone, times.is_valid(row)) else {
                return Ok(None);
            };
            let time = times.value(row);
            let shifted = match has_zone {
                true => zone.to_local(time),
                false => zone.to_utc(time),
            };
            let out_of_range =
                || Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp out of range");
            shifted.map(Some).ok_or_else(|| failure(out_of_range()))
        });
        let shifted: PrimitiveArray<TimestampMicrosecondType> =
            shifted.collect::<Result<Vec<Option<i64>>>>()?.into();
        let shifted: ArrayRef = Arc::new(shifted.with_data_type(timestamp(!has_zone)));
        match is_constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &shifted, 0,
            )?)),
            false => Ok(ColumnarValue::Array(shifted)),
        }
    }
}

fn zone_at(zones: &ArrayRef, row: usize) -> Result<Option<Zone>> {
    if zones.is_null(row) {
        return Ok(None);
    }
    let zone = match zones.data_type() {
        DataType::Interval(_) => {
            let interval = zones.as_primitive::<IntervalMonthDayNanoType>().value(row);
            if interval.months != 0 || interval.days != 0 {
                let message = "interval time zone must not include months or days";
                return Err(failure(Error::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    message,
                )));
            }
            Zone::east(interval.nanoseconds / NANOS_PER_SECOND)
        }
        _ => Zone::posix(zones.as_string::<i32>().value(row)),
    };
    zone.map(Some).map_err(failure)
}
