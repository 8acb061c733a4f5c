//! Numerics: 128-bit integers with a scale.
//!
//! A step is computed in 128 bits where it fits and in 256 where it does not, so that only what the
//! result does not hold is out of range, never what lies on the way. Results are rounded half away
//! from zero.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Decimal128Type, i256};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

use crate::error::{Error, SqlState};
use crate::function::arithmetic::ArithmeticOperator;
use crate::function::arithmetic::integer::division_by_zero;
use crate::function::arithmetic::operand::{Operand, combine};

/// Digits that a remainder of at most 38 digits can be given at once within 256 bits (76 digits).
const DIGITS_AT_ONCE: u32 = 37;

pub(super) fn compute(
    operator: ArithmeticOperator,
    left: &ColumnarValue,
    right: &ColumnarValue,
    result: &DataType,
) -> Result<ArrayRef> {
    let (a, b) = (scale_of(&left.data_type()), scale_of(&right.data_type()));
    let s = scale_of(result);
    let limit = power_of_ten(u32::from(precision_of(result)));
    let left = Operand::<Decimal128Type>::new(left)?;
    let right = Operand::<Decimal128Type>::new(right)?;
    let fits = |value: Option<i128>| match value {
        Some(value) if value.unsigned_abs() < limit.unsigned_abs() => Ok(value),
        _ => Err(overflow()),
    };
    macro_rules! with {
        ($function:expr) => {
            combine::<Decimal128Type, Decimal128Type, Decimal128Type>(
                &left, &right, result, $function,
            )
        };
    }
    match operator {
        ArithmeticOperator::Add => with!(|x, y| fits(sum(x, s - a, y, s - b))),
        ArithmeticOperator::Subtract => with!(|x: i128, y: i128| match y.checked_neg() {
            Some(y) => fits(sum(x, s - a, y, s - b)),
            None => Err(overflow()),
        }),
        ArithmeticOperator::Multiply => with!(|x, y| fits(product(x, y, a + b - s))),
        // x / 10^a divided by y / 10^b, times 10^s.
        ArithmeticOperator::Divide => with!(|x, y| match y {
            0 => Err(division_by_zero()),
            _ => fits(quotient(x, y, s + b - a)),
        }),
        ArithmeticOperator::Modulo => with!(|x, y| match y {
            0 => Err(division_by_zero()),
            _ => fits(rest(x, s - a, y, s - b)),
        }),
    }
}

fn precision_of(data_type: &DataType) -> u8 {
    match data_type {
        DataType::Decimal128(precision, _) => *precision,
        _ => 38,
    }
}

fn scale_of(data_type: &DataType) -> u32 {
    match data_type {
        DataType::Decimal128(_, scale) => u32::try_from(*scale).unwrap_or(0),
        _ => 0,
    }
}

/// `10^exponent`, for up to 38.
pub(crate) fn power_of_ten(exponent: u32) -> i128 {
    10i128.checked_pow(exponent).expect("at most 10^38")
}

fn wide(value: i128, digits: u32) -> Option<i256> {
    let mut value = i256::from_i128(value);
    let mut left = digits;
    while left > 0 {
        let step = left.min(38);
        value = value.checked_mul(i256::from_i128(power_of_ten(step)))?;
        left -= step;
    }
    Some(value)
}

fn scaled(value: i128, digits: u32) -> Option<i128> {
    match digits {
        0 => Some(value),
        _ => value.checked_mul(10i128.checked_pow(digits)?),
    }
}

fn sum(x: i128, x_digits: u32, y: i128, y_digits: u32) -> Option<i128> {
    if let (Some(x), Some(y)) = (scaled(x, x_digits), scaled(y, y_digits))
        && let Some(sum) = x.checked_add(y)
    {
        return Some(sum);
    }
    wide(x, x_digits)?
        .checked_add(wide(y, y_digits)?)?
        .to_i128()
}

/// The product without its last `dropped` digits.
fn product(x: i128, y: i128, dropped: u32) -> Option<i128> {
    match (x.checked_mul(y), dropped) {
        (Some(product), 0) => Some(product),
        (None, 0) => None,
        (Some(product), _) if dropped <= 38 => Some(divide(product, power_of_ten(dropped))),
        _ => {
            let mut product = i256::from_i128(x).checked_mul(i256::from_i128(y))?;
            // All digits but the last are cut off: half away from zero looks at that one alone.
            let mut left = dropped;
            while left > 1 {
                let step = (left - 1).min(38);
                let power = i256::from_i128(power_of_ten(step));
                product = product.checked_div(power)?;
                left -= step;
            }
            let ten = i256::from_i128(10);
            let last = product.checked_rem(ten)?.to_i128()?;
            let whole = product.checked_div(ten)?.to_i128()?;
            whole.checked_add(i128::from(last >= 5) - i128::from(last <= -5))
        }
    }
}

/// `x · 10^digits / y`, rounded; digit by digit like on paper, many at once.
fn quotient(x: i128, y: i128, digits: u32) -> Option<i128> {
    if let Some(x) = scaled(x, digits) {
        return Some(divide(x, y));
    }
    let divisor = i256::from_i128(y);
    let mut whole = x.checked_div(y)?;
    let mut rest = x.checked_rem(y)?;
    let mut left = digits;
    while left > 0 {
        let step = left.min(DIGITS_AT_ONCE);
        let power = power_of_ten(step);
        let dividend = i256::from_i128(rest).checked_mul(i256::from_i128(power))?;
        let next = dividend.checked_div(divisor)?.to_i128()?;
        rest = dividend.checked_rem(divisor)?.to_i128()?;
        whole = whole.checked_mul(power)?.checked_add(next)?;
        left -= step;
    }
    // |y| − |rest| ≤ |rest| says that the rest is at least half, and does not overflow.
    let is_up = y.unsigned_abs() - rest.unsigned_abs() <= rest.unsigned_abs();
    let away = if (rest < 0) == (y < 0) { 1 } else { -1 };
    whole.checked_add(if is_up { away } else { 0 })
}

fn rest(x: i128, x_digits: u32, y: i128, y_digits: u32) -> Option<i128> {
    if let (Some(x), Some(y)) = (scaled(x, x_digits), scaled(y, y_digits)) {
        return Some(x.checked_rem(y).unwrap_or(0));
    }
    wide(x, x_digits)?
        .checked_rem(wide(y, y_digits)?)?
        .to_i128()
}

/// The quotient, rounded half away from zero. `y` is not zero.
fn divide(x: i128, y: i128) -> i128 {
    let (whole, rest) = (x / y, x % y);
    let is_up = y.unsigned_abs() - rest.unsigned_abs() <= rest.unsigned_abs();
    match (is_up, (x < 0) == (y < 0)) {
        (false, _) => whole,
        (true, true) => whole + 1,
        (true, false) => whole - 1,
    }
}

/// The value under another scale, rounded; `None` where it does not fit 128 bits.
pub(crate) fn rescale(value: i128, from: i8, to: i8) -> Option<i128> {
    let more = i32::from(to) - i32::from(from);
    let digits = more.unsigned_abs();
    match more >= 0 {
        true => scaled(value, digits),
        false if digits > 38 => Some(0),
        false => Some(divide(value, power_of_ten(digits))),
    }
}

fn overflow() -> Error {
    let message = "numeric field overflow";
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
}
