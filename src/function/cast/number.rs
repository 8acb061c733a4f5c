//! Numbers to numbers.
//!
//! Numerics are rounded half away from zero, floats half to even when they become integers. A float
//! becomes the numeric that its significant digits say: 15 of a double precision, 6 of a real.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
};

use crate::error::{Error, Result, SqlState};
use crate::function::arithmetic::{power_of_ten, rescale};

/// Numerics of up to this many digits, and powers of ten up to this one, are floats exactly; their
/// quotient is then the float nearest to the number.
const EXACT_VALUE_MAX: u128 = 1 << 53;
const EXACT_POWER_MAX: i8 = 22;

pub(super) fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    match (array.data_type(), to) {
        (_, DataType::Int16) => to_integers::<Int16Type>(array, "smallint"),
        (_, DataType::Int32) => to_integers::<Int32Type>(array, "integer"),
        (_, DataType::Int64) => to_integers::<Int64Type>(array, "bigint"),
        (_, DataType::Decimal128(precision, scale)) => to_numerics(array, *precision, *scale),
        (DataType::Decimal128(_, scale), DataType::Float64) => {
            let scale = *scale;
            let numerics = array.as_primitive::<Decimal128Type>();
            let floats: PrimitiveArray<Float64Type> =
                numerics.unary(|value| nearest_float(value, scale));
            Ok(Arc::new(floats))
        }
        (DataType::Decimal128(_, scale), DataType::Float32) => {
            let scale = *scale;
            let numerics = array.as_primitive::<Decimal128Type>();
            let floats: PrimitiveArray<Float32Type> = numerics.unary(|value: i128| {
                let text = format!("{value}e{}", -i16::from(scale));
                text.parse().unwrap_or(f32::NAN)
            });
            Ok(Arc::new(floats))
        }
        (DataType::Float64, DataType::Float32) => {
            let floats = array.as_primitive::<Float64Type>();
            let narrow = floats.try_unary::<_, Float32Type, _>(|value| {
                #[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked")]
                let narrow = value as f32;
                match () {
                    () if narrow.is_infinite() && value.is_finite() => Err(over("overflow")),
                    () if narrow == 0.0 && value != 0.0 => Err(over("underflow")),
                    () => Ok(narrow),
                }
            })?;
            Ok(Arc::new(narrow))
        }
        (from, to) => Err(Error::internal(format!("no cast from {from} to {to}"))),
    }
}

fn to_integers<T: ArrowPrimitiveType>(array: &ArrayRef, name: &str) -> Result<ArrayRef>
where
    T::Native: TryFrom<i128>,
{
    let fits = |value: i128| T::Native::try_from(value).map_err(|_| out_of_range(name));
    macro_rules! from {
        ($kind:ty, $whole:expr) => {
            array
                .as_primitive::<$kind>()
                .try_unary::<_, T, _>(|value| $whole(value).and_then(fits))?
        };
    }
    let whole = |value: f64| match value.is_finite() && value.abs() < 1e30 {
        #[expect(clippy::cast_possible_truncation, reason = "10^30 fits 128 bits")]
        true => Ok(value.round_ties_even() as i128),
        false => Err(out_of_range(name)),
    };
    let integers: PrimitiveArray<T> = match array.data_type() {
        DataType::Int16 => from!(Int16Type, |value: i16| Ok(i128::from(value))),
        DataType::Int32 => from!(Int32Type, |value: i32| Ok(i128::from(value))),
        DataType::Int64 => from!(Int64Type, |value: i64| Ok(i128::from(value))),
        DataType::Float32 => from!(Float32Type, |value: f32| whole(f64::from(value))),
        DataType::Float64 => from!(Float64Type, whole),
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            from!(Decimal128Type, |value: i128| rescale(value, scale, 0)
                .ok_or_else(|| out_of_range(name)))
        }
        other => return Err(Error::internal(format!("no cast from {other} to {name}"))),
    };
    Ok(Arc::new(integers))
}

fn to_numerics(array: &ArrayRef, precision: u8, scale: i8) -> Result<ArrayRef> {
    let limit = power_of_ten(u32::from(precision)).unsigned_abs();
    let fits = |value: Option<i128>| match value {
        Some(value) if value.unsigned_abs() < limit => Ok(value),
        _ => Err(overflow(precision, scale)),
    };
    macro_rules! from {
        ($kind:ty, $value:expr) => {
            array
                .as_primitive::<$kind>()
                .try_unary::<_, Decimal128Type, _>(|value| fits($value(value)))?
        };
    }
    let numerics: PrimitiveArray<Decimal128Type> = match array.data_type() {
        DataType::Int16 => from!(Int16Type, |value: i16| rescale(i128::from(value), 0, scale)),
        DataType::Int32 => from!(Int32Type, |value: i32| rescale(i128::from(value), 0, scale)),
        DataType::Int64 => from!(Int64Type, |value: i64| rescale(i128::from(value), 0, scale)),
        DataType::Decimal128(_, from) => {
            let from = *from;
            from!(Decimal128Type, |value: i128| rescale(value, from, scale))
        }
        DataType::Float32 => {
            let digits = |value: f32| digits_of(format!("{value:.5e}"), scale);
            not_finite(
                array
                    .as_primitive::<Float32Type>()
                    .values()
                    .iter()
                    .zip(valid(array)),
            )?;
            from!(Float32Type, digits)
        }
        DataType::Float64 => {
            let digits = |value: f64| digits_of(format!("{value:.14e}"), scale);
            let wide = array.as_primitive::<Float64Type>().values().iter();
            not_finite(wide.zip(valid(array)))?;
            from!(Float64Type, digits)
        }
        other => return Err(Error::internal(format!("no cast from {other} to numeric"))),
    };
    let data_type = DataType::Decimal128(precision, scale);
    Ok(Arc::new(numerics.with_data_type(data_type)))
}

fn valid(array: &ArrayRef) -> impl Iterator<Item = bool> + '_ {
    (0..array.len()).map(|row| array.is_valid(row))
}

/// Refuses NaN and infinities: Postgres' numeric has them, a 128-bit integer does not.
fn not_finite<'a, T: Copy + Into<f64> + 'a>(
    mut values: impl Iterator<Item = (&'a T, bool)>,
) -> Result<()> {
    match values.find(|(value, is_valid)| *is_valid && !(**value).into().is_finite()) {
        None => Ok(()),
        Some(_) => Err(
            Error::unsupported("NaN and infinity are not supported as numeric")
                .hint("keep the value as double precision"),
        ),
    }
}

/// The numeric that `1.2345e-6` is.
fn digits_of(text: String, scale: i8) -> Option<i128> {
    let (mantissa, exponent) = text.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let after = mantissa.split_once('.').map_or(0, |(_, after)| after.len());
    let value: i128 = mantissa.replace('.', "").parse().ok()?;
    let from = i32::try_from(after).ok()? - exponent;
    match i8::try_from(from) {
        Ok(from) => rescale(value, from, scale),
        // Too small for any digit to be left, or too large.
        Err(_) if from > 0 || value == 0 => Some(0),
        Err(_) => None,
    }
}

/// The float nearest to `value / 10^scale`.
#[expect(
    clippy::cast_precision_loss,
    reason = "what is converted is an integer that floats hold exactly"
)]
fn nearest_float(value: i128, scale: i8) -> f64 {
    let is_exact =
        value.unsigned_abs() <= EXACT_VALUE_MAX && (0..=EXACT_POWER_MAX).contains(&scale);
    match is_exact {
        true => value as f64 / power_of_ten(u32::from(scale.unsigned_abs())) as f64,
        false => {
            let text = format!("{value}e{}", -i16::from(scale));
            text.parse().unwrap_or(f64::NAN)
        }
    }
}

fn out_of_range(name: &str) -> Error {
    let message = format!("{name} out of range");
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
}

fn over(what: &str) -> Error {
    let message = format!("value out of range: {what}");
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
}

fn overflow(precision: u8, scale: i8) -> Error {
    let before = i16::from(precision) - i16::from(scale);
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        "numeric field overflow",
    )
    .detail(format!(
        "a field with precision {precision}, scale {scale} must round to an absolute value less \
         than 10^{before}"
    ))
}
