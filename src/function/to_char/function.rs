//! The function: which pattern is for which type.

use std::sync::Arc;

use arrow::array::builder::StringBuilder;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::{internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, SqlState};
use crate::function::columnar::{constant_text, failure};
use crate::function::time::zone_of;
use crate::function::to_char::moment::{Fields, MomentPattern};
use crate::function::to_char::number::NumberPattern;
use crate::types::{SqlType, Zone};

/// The function.
pub fn to_char() -> ScalarUDF {
    ScalarUDF::new_from_impl(ToChar {
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar {
    signature: Signature,
}

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        "to_char"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [value, _] = arguments else {
            return plan_err!("function to_char takes a value and a pattern");
        };
        let with_zone = || Some(Arc::from("UTC"));
        let value = match value {
            DataType::Null => DataType::Timestamp(TimeUnit::Microsecond, with_zone()),
            DataType::Timestamp(_, zone) => {
                DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
            }
            // A date is the moment at which it begins.
            DataType::Date32 | DataType::Date64 => {
                DataType::Timestamp(TimeUnit::Microsecond, with_zone())
            }
            DataType::Interval(_) | DataType::Duration(_) | DataType::Time64(_) => {
                DataType::Interval(IntervalUnit::MonthDayNano)
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
            DataType::UInt64 => DataType::Decimal128(20, 0),
            integer if integer.is_integer() => DataType::Decimal128(19, 0),
            DataType::Decimal128(..) => value.clone(),
            other => {
                let name = SqlType::name_of(other);
                let message = format!("function to_char({name}, text) does not exist");
                return Err(failure(
                    Error::new(SqlState::UNDEFINED_FUNCTION, message)
                        .hint("give it a time, an interval or a number"),
                ));
            }
        };
        Ok(vec![value, DataType::Utf8])
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value, pattern] = call.args.as_slice() else {
            return plan_err!("function to_char takes a value and a pattern");
        };
        let zone = match value.data_type() {
            DataType::Timestamp(_, Some(_)) => Some(zone_of(&call.config_options)),
            _ => None,
        };
        let constant = match pattern {
            ColumnarValue::Scalar(_) => match constant_text(pattern, "the pattern of to_char")? {
                None => return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None))),
                Some(text) => Some(Pattern::new(&text, &value.data_type())?),
            },
            ColumnarValue::Array(_) => None,
        };
        let is_constant = constant.is_some() && matches!(value, ColumnarValue::Scalar(_));
        let rows = if is_constant { 1 } else { call.number_rows };
        let values = value.to_array(rows)?;
        let patterns = pattern.to_array(rows)?;
        let patterns = patterns.as_string::<i32>();
        let mut texts = StringBuilder::with_capacity(rows, rows * 16);
        let mut text = String::new();
        for row in 0..rows {
            if values.is_null(row) || patterns.is_null(row) {
                texts.append_null();
                continue;
            }
            text.clear();
            match &constant {
                Some(pattern) => pattern.write(&values, row, zone, &mut text)?,
                None => Pattern::new(patterns.value(row), values.data_type())?
                    .write(&values, row, zone, &mut text)?,
            }
            // Postgres gives NULL for an empty pattern of a time.
            match text.is_empty() && patterns.value(row).is_empty() {
                true => texts.append_null(),
                false => texts.append_value(&text),
            }
        }
        let texts = texts.finish();
        match is_constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &texts, 0,
            )?)),
            false => Ok(ColumnarValue::Array(Arc::new(texts))),
        }
    }
}

enum Pattern {
    Moment(MomentPattern),
    Number(NumberPattern),
}

impl Pattern {
    fn new(text: &str, data_type: &DataType) -> Result<Pattern> {
        let pattern = match data_type {
            DataType::Timestamp(..) => MomentPattern::of_moments(text).map(Pattern::Moment),
            DataType::Interval(_) => MomentPattern::of_intervals(text).map(Pattern::Moment),
            _ => NumberPattern::parse(text).map(Pattern::Number),
        };
        pattern.map_err(failure)
    }

    /// Writes the value at `row`, which is not NULL.
    fn write(
        &self,
        values: &ArrayRef,
        row: usize,
        zone: Option<Zone>,
        text: &mut String,
    ) -> Result<()> {
        match (self, values.data_type()) {
            (Pattern::Moment(pattern), DataType::Timestamp(..)) => {
                let moment = values.as_primitive::<TimestampMicrosecondType>().value(row);
                pattern.write(&Fields::of_moment(moment, zone), text);
            }
            (Pattern::Moment(pattern), DataType::Interval(_)) => {
                let interval = values.as_primitive::<IntervalMonthDayNanoType>().value(row);
                pattern.write(&Fields::of_interval(interval), text);
            }
            (Pattern::Number(pattern), DataType::Decimal128(_, scale)) => {
                let value = values.as_primitive::<Decimal128Type>().value(row);
                pattern.write_numeric(value, *scale, text);
            }
            (Pattern::Number(pattern), DataType::Float64) => {
                pattern.write_float(values.as_primitive::<Float64Type>().value(row), text);
            }
            (_, other) => return internal_err!("no pattern for {other}"),
        }
        Ok(())
    }
}
