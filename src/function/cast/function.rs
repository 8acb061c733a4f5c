//! Which casts are ours, and the function that does them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, PrimitiveArray, Time64MicrosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::plan_err;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::error::Error;
use crate::function::cast::{number, text};
use crate::function::columnar::{failure, map_column};
use crate::function::time::zone_of;
use crate::types::calendar::MICROS_PER_DAY;
use crate::types::pg::DateTimeStyle;
use crate::types::{SqlType, Zone};

/// Whether a cast between the two is one of ours. In UTC a point in time is what its clocks show,
/// and the library's cast, which the optimizer moves filters through, is right.
pub fn differs(from: &DataType, to: &Field, options: &ConfigOptions) -> bool {
    match way(from, to) {
        Some(Way::LocalToInstant | Way::InstantToLocal) => !zone_of(options).is_utc(),
        way => way.is_some(),
    }
}

/// The function that casts its argument to the type of a field.
pub fn cast_to(field: &Field) -> ScalarUDF {
    let target = SqlType::of(field).map_or_else(|_| field.data_type().to_string(), name_of);
    let field =
        Field::new("", field.data_type().clone(), true).with_metadata(field.metadata().clone());
    ScalarUDF::new_from_impl(Cast {
        name: format!("cast_to_{target}"),
        field: Arc::new(field),
        signature: Signature::any(1, Volatility::Immutable),
    })
}

fn name_of(sql_type: SqlType) -> String {
    sql_type.to_string().replace(' ', "_")
}

/// How a cast is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Read as Postgres' input functions do.
    FromText,
    /// Written as Postgres' output functions do.
    ToText,
    /// Text to text of at most so many characters.
    Shortened,
    Number,
    TimestampToDate,
    TimestampToTime,
    /// What clocks show, or the start of a date, to the point in time.
    LocalToInstant,
    InstantToLocal,
}

fn way(from: &DataType, to: &Field) -> Option<Way> {
    let target = SqlType::of(to).ok()?;
    let is_text = |data_type: &DataType| {
        matches!(
            data_type,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        )
    };
    let is_integer = |data_type: &DataType| {
        matches!(
            data_type,
            DataType::Int16 | DataType::Int32 | DataType::Int64
        )
    };
    let is_float =
        |data_type: &DataType| matches!(data_type, DataType::Float32 | DataType::Float64);
    let is_numeric = |data_type: &DataType| matches!(data_type, DataType::Decimal128(..));
    match (from, to.data_type()) {
        (DataType::Null, _) => None,
        (text, other) if is_text(text) && is_text(other) => match target {
            SqlType::Varchar(Some(_)) => Some(Way::Shortened),
            SqlType::Jsonb => Some(Way::FromText),
            _ => None,
        },
        (text, _) if is_text(text) => match target {
            SqlType::Struct(_) => None,
            _ => Some(Way::FromText),
        },
        // Unions and maps have no text that reads back; the library's is as good.
        (DataType::Union(..) | DataType::Map(..), _) => None,
        (_, other) if is_text(other) => match target {
            SqlType::Jsonb => None,
            _ => Some(Way::ToText),
        },
        (a, b) if is_integer(a) && is_integer(b) && b.primitive_width() < a.primitive_width() => {
            Some(Way::Number)
        }
        (a, b) if (is_float(a) || is_numeric(a)) && is_integer(b) => Some(Way::Number),
        (a, b) if (is_integer(a) || is_numeric(a)) && is_numeric(b) => {
            (!holds_all(b, a)).then_some(Way::Number)
        }
        (a, b) if is_float(a) && is_numeric(b) => Some(Way::Number),
        (a, b) if is_numeric(a) && is_float(b) => Some(Way::Number),
        (DataType::Float64, DataType::Float32) => Some(Way::Number),
        (DataType::Timestamp(..), DataType::Date32) => Some(Way::TimestampToDate),
        (DataType::Timestamp(..), DataType::Time64(_)) => Some(Way::TimestampToTime),
        (DataType::Timestamp(_, None) | DataType::Date32, DataType::Timestamp(_, Some(_))) => {
            Some(Way::LocalToInstant)
        }
        (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, None)) => {
            Some(Way::InstantToLocal)
        }
        _ => None,
    }
}

/// Whether every value of `from` is one of the numeric `to`: such a cast cannot fail or round.
fn holds_all(to: &DataType, from: &DataType) -> bool {
    let digits = |data_type: &DataType| match data_type {
        DataType::Int16 => (5, 0),
        DataType::Int32 => (10, 0),
        DataType::Decimal128(precision, scale) => {
            (i16::from(*precision) - i16::from(*scale), i16::from(*scale))
        }
        _ => (19, 0),
    };
    let ((whole, fraction), (wanted_whole, wanted_fraction)) = (digits(to), digits(from));
    whole >= wanted_whole && fraction >= wanted_fraction
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Cast {
    name: String,
    field: FieldRef,
    signature: Signature,
}

impl ScalarUDFImpl for Cast {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        let [argument] = arguments else {
            return plan_err!("a cast takes one argument");
        };
        let target = self.field.data_type();
        Ok(format!("CAST({} AS {target})", argument.schema_name()))
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn return_field_from_args(&self, call: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = call.arg_fields.iter().any(|field| field.is_nullable());
        let field = self.field.as_ref().clone();
        Ok(Arc::new(field.with_nullable(nullable)))
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // A point in time is shown, and a text without a zone read, in the statement's zone.
        let style = DateTimeStyle {
            zone: zone_of(&call.config_options),
        };
        let from = &call.arg_fields[0];
        map_column(&call.args[0], |array| self.cast(array, from, style))
    }
}

impl Cast {
    fn cast(&self, array: &ArrayRef, from: &Field, style: DateTimeStyle) -> Result<ArrayRef> {
        // The argument's field may say less than the values are.
        let from =
            Field::new("", array.data_type().clone(), true).with_metadata(from.metadata().clone());
        let to = &self.field;
        let zone = match from.data_type() {
            DataType::Timestamp(_, None) => Zone::UTC,
            _ => style.zone,
        };
        let ours = |result: crate::error::Result<ArrayRef>| result.map_err(failure);
        match way(array.data_type(), to) {
            None => strict(array, to.data_type()),
            Some(Way::FromText) => ours(text::read(array, to, style)),
            Some(Way::ToText) => ours(text::write(array, &from, to, style)),
            Some(Way::Shortened) => ours(text::shorten(array, to)),
            Some(Way::Number) => ours(number::cast(array, to.data_type())),
            Some(Way::TimestampToDate) => ours(dates(&local(array, zone)?)),
            Some(Way::TimestampToTime) => Ok(times(&local(array, zone)?, to.data_type())?),
            Some(Way::InstantToLocal) => Ok(local(array, zone)?),
            Some(Way::LocalToInstant) => {
                let shown = in_micros(array)?;
                let instants = shown.try_unary::<_, TimestampMicrosecondType, Error>(|shown| {
                    style.zone.to_utc(shown).ok_or_else(out_of_range)
                });
                let instants = instants.map_err(failure)?;
                Ok(Arc::new(instants.with_data_type(to.data_type().clone())))
            }
        }
    }
}

fn moments(array: &ArrayRef) -> &PrimitiveArray<TimestampMicrosecondType> {
    array.as_primitive::<TimestampMicrosecondType>()
}

/// Times or dates as microseconds, whatever their unit and zone.
fn in_micros(array: &ArrayRef) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    let wanted = DataType::Timestamp(TimeUnit::Microsecond, None);
    let plain = match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => moments(array).clone(),
        // The number of the point in time, not what a clock shows then.
        DataType::Timestamp(_, Some(_)) => {
            let utc = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
            moments(&strict(array, &utc)?).clone()
        }
        _ => moments(&strict(array, &wanted)?).clone(),
    };
    Ok(plain.with_data_type(wanted))
}

fn strict(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = arrow::compute::CastOptions {
        safe: false,
        ..Default::default()
    };
    Ok(arrow::compute::cast_with_options(array, to, &options)?)
}

/// What a zone's clocks show.
fn local(array: &ArrayRef, zone: Zone) -> Result<ArrayRef> {
    let instants = in_micros(array)?;
    if zone.is_utc() {
        return Ok(Arc::new(instants));
    }
    let shown = instants.try_unary::<_, TimestampMicrosecondType, Error>(|instant| {
        zone.to_local(instant).ok_or_else(out_of_range)
    });
    Ok(Arc::new(shown.map_err(failure)?))
}

fn out_of_range() -> Error {
    Error::new(
        crate::error::SqlState::DATETIME_FIELD_OVERFLOW,
        "timestamp out of range",
    )
}

/// Floored, so that a moment before 1970 is on its own day.
fn dates(array: &ArrayRef) -> crate::error::Result<ArrayRef> {
    let days = moments(array).try_unary::<_, arrow::datatypes::Date32Type, Error>(|moment| {
        i32::try_from(moment.div_euclid(MICROS_PER_DAY)).map_err(|_| {
            Error::new(
                crate::error::SqlState::DATETIME_FIELD_OVERFLOW,
                "date out of range",
            )
        })
    })?;
    let days: Date32Array = days;
    Ok(Arc::new(days))
}

fn times(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    let times: Time64MicrosecondArray =
        moments(array).unary(|moment| moment.rem_euclid(MICROS_PER_DAY));
    let times: ArrayRef = Arc::new(times);
    match times.data_type() == data_type {
        true => Ok(times),
        false => Ok(arrow::compute::cast(&times, data_type)?),
    }
}
