//! Which operator there is for which types, and what its result is.
//!
//! | operands | result |
//! | --- | --- |
//! | integers | the wider one |
//! | numeric with numeric or integer | numeric, its scale as below |
//! | real with real | real |
//! | a float with any other number | double precision |
//! | date ± integer | date |
//! | date − date | integer |
//! | date ± interval, date + time | timestamp |
//! | timestamp ± interval, time ± interval | the same type |
//! | timestamp − timestamp, time − time | interval |
//! | interval ± interval, interval · number, interval / number | interval |
//!
//! An integer beside a numeric counts as a numeric of all its digits. The scale of `+`, `-` and `%`
//! is that of the finer operand, that of `/` too, but at least 16. `*` has both scales together; a
//! product that could need more than 38 digits has at most 20, or as many as the finer operand.

use std::fmt;

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

/// Most digits of a numeric.
pub(super) const PRECISION_MAX: u8 = 38;

/// Fractional digits that a quotient has at least: what Postgres shows at least.
const QUOTIENT_SCALE_MIN: i8 = 16;

/// Fractional digits of a product that would need more than 38 digits. It leaves 18 before the
/// point; Postgres would keep all of them.
const PRODUCT_SCALE_MAX: i8 = 20;

/// An operator with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArithmeticOperator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl ArithmeticOperator {
    pub const ALL: [ArithmeticOperator; 5] = [
        ArithmeticOperator::Add,
        ArithmeticOperator::Subtract,
        ArithmeticOperator::Multiply,
        ArithmeticOperator::Divide,
        ArithmeticOperator::Modulo,
    ];

    pub fn symbol(self) -> &'static str {
        match self {
            ArithmeticOperator::Add => "+",
            ArithmeticOperator::Subtract => "-",
            ArithmeticOperator::Multiply => "*",
            ArithmeticOperator::Divide => "/",
            ArithmeticOperator::Modulo => "%",
        }
    }

    /// What the function is called in plans.
    pub(super) fn name(self) -> &'static str {
        match self {
            ArithmeticOperator::Add => "add",
            ArithmeticOperator::Subtract => "subtract",
            ArithmeticOperator::Multiply => "multiply",
            ArithmeticOperator::Divide => "divide",
            ArithmeticOperator::Modulo => "modulo",
        }
    }
}

impl fmt::Display for ArithmeticOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

/// How an operation is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Numeric,
    Float,
    DateAndDays,
    DateDifference,
    DateAndTime,
    TimestampAndInterval,
    TimestampDifference,
    TimeAndInterval,
    TimeDifference,
    Intervals,
    /// An interval times, or divided by, a float.
    IntervalAndFactor,
}

/// An operator over operands of two types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What the operands are brought to before.
    pub left: DataType,
    pub right: DataType,
    pub result: DataType,
    pub(super) kind: Kind,
    /// Whether the operands are in the other order than the kind wants them.
    pub(super) is_swapped: bool,
}

impl Operation {
    /// `None` where the operator does not exist for these types.
    pub fn find(
        operator: ArithmeticOperator,
        left: &DataType,
        right: &DataType,
    ) -> Option<Operation> {
        if let (Some(a), Some(b)) = (Number::of(left), Number::of(right)) {
            return Some(numbers(operator, a, b));
        }
        if let Some(found) = times(operator, left, right) {
            return Some(found);
        }
        // What commutes is written down once, with the interval, time or number on the right.
        let commutes = match operator {
            ArithmeticOperator::Add => true,
            ArithmeticOperator::Multiply => Number::of(left).is_some(),
            _ => false,
        };
        let swapped = commutes.then(|| times(operator, right, left)).flatten()?;
        Some(Operation {
            left: swapped.right,
            right: swapped.left,
            is_swapped: true,
            ..swapped
        })
    }
}

fn times(operator: ArithmeticOperator, left: &DataType, right: &DataType) -> Option<Operation> {
    use ArithmeticOperator::{Add, Divide, Multiply, Subtract};
    use DataType::{Date32, Interval, Time64, Timestamp};
    let number = Number::of(right);
    let is_whole = matches!(number, Some(Number::Integer(_)));
    let plain = Timestamp(TimeUnit::Microsecond, None);
    let micros = Time64(TimeUnit::Microsecond);
    let interval = Interval(IntervalUnit::MonthDayNano);
    let operation = |left: &DataType, right: &DataType, result: &DataType, kind| {
        Some(Operation {
            left: left.clone(),
            right: right.clone(),
            result: result.clone(),
            kind,
            is_swapped: false,
        })
    };
    match (operator, left, right) {
        (Add | Subtract, Date32, _) if is_whole => {
            operation(&Date32, &DataType::Int32, &Date32, Kind::DateAndDays)
        }
        (Subtract, Date32, Date32) => {
            operation(&Date32, &Date32, &DataType::Int32, Kind::DateDifference)
        }
        (Add, Date32, Time64(_)) => operation(&Date32, &micros, &plain, Kind::DateAndTime),
        (Add | Subtract, Date32, Interval(_)) => {
            operation(&plain, &interval, &plain, Kind::TimestampAndInterval)
        }
        (Add | Subtract, Timestamp(_, zone), Interval(_)) => {
            let same = Timestamp(TimeUnit::Microsecond, zone.clone());
            operation(&same, &interval, &same, Kind::TimestampAndInterval)
        }
        (Subtract, Timestamp(_, a), Timestamp(_, b)) => {
            let zone = a.as_ref().or(b.as_ref());
            let same = Timestamp(TimeUnit::Microsecond, zone.cloned());
            operation(&same, &same, &interval, Kind::TimestampDifference)
        }
        (Subtract, Timestamp(_, zone), Date32) => {
            let same = Timestamp(TimeUnit::Microsecond, zone.clone());
            operation(&same, &same, &interval, Kind::TimestampDifference)
        }
        (Subtract, Date32, Timestamp(_, zone)) => {
            let same = Timestamp(TimeUnit::Microsecond, zone.clone());
            operation(&same, &same, &interval, Kind::TimestampDifference)
        }
        (Add | Subtract, Time64(_), Interval(_)) => {
            operation(&micros, &interval, &micros, Kind::TimeAndInterval)
        }
        (Subtract, Time64(_), Time64(_)) => {
            operation(&micros, &micros, &interval, Kind::TimeDifference)
        }
        (Add | Subtract, Interval(_), Interval(_)) => {
            operation(&interval, &interval, &interval, Kind::Intervals)
        }
        (Multiply | Divide, Interval(_), _) if number.is_some() => operation(
            &interval,
            &DataType::Float64,
            &interval,
            Kind::IntervalAndFactor,
        ),
        _ => None,
    }
}

/// A number's type, reduced to what the operators ask of it.
#[derive(Clone, Copy)]
enum Number {
    /// Bits with the sign.
    Integer(u8),
    Numeric {
        precision: u8,
        scale: i8,
    },
    Real,
    Double,
}

impl Number {
    fn of(data_type: &DataType) -> Option<Number> {
        Some(match data_type {
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => Number::Integer(16),
            DataType::UInt16 | DataType::Int32 => Number::Integer(32),
            DataType::UInt32 | DataType::Int64 => Number::Integer(64),
            DataType::UInt64 => Number::Numeric {
                precision: 20,
                scale: 0,
            },
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => Number::Numeric {
                // A literal such as 1e10 has a negative scale: its zeros are digits too.
                precision: precision
                    .saturating_add(scale.min(&0).unsigned_abs())
                    .min(PRECISION_MAX),
                scale: (*scale).clamp(0, 38),
            },
            DataType::Float16 | DataType::Float32 => Number::Real,
            DataType::Float64 => Number::Double,
            _ => return None,
        })
    }

    /// Digits before and after the point.
    fn digits(self) -> (u8, i8) {
        match self {
            Number::Integer(16) => (5, 0),
            Number::Integer(32) => (10, 0),
            Number::Integer(_) => (19, 0),
            Number::Numeric { precision, scale } => {
                let after = u8::try_from(scale).unwrap_or(0);
                (precision.saturating_sub(after), scale)
            }
            Number::Real | Number::Double => (PRECISION_MAX, 0),
        }
    }
}

fn integer(bits: u8) -> DataType {
    match bits {
        16 => DataType::Int16,
        32 => DataType::Int32,
        _ => DataType::Int64,
    }
}

fn numbers(operator: ArithmeticOperator, a: Number, b: Number) -> Operation {
    let alike = |data_type: DataType, kind| Operation {
        left: data_type.clone(),
        right: data_type.clone(),
        result: data_type,
        kind,
        is_swapped: false,
    };
    match (a, b) {
        (Number::Integer(a), Number::Integer(b)) => alike(integer(a.max(b)), Kind::Integer),
        (Number::Real, Number::Real) => alike(DataType::Float32, Kind::Float),
        (Number::Real | Number::Double, _) | (_, Number::Real | Number::Double) => {
            alike(DataType::Float64, Kind::Float)
        }
        _ => numerics(operator, a.digits(), b.digits()),
    }
}

/// `a` and `b` are the digits before and after the point.
fn numerics(operator: ArithmeticOperator, a: (u8, i8), b: (u8, i8)) -> Operation {
    let finer = a.1.max(b.1);
    let before = a.0.max(b.0);
    let (before, scale) = match operator {
        ArithmeticOperator::Add | ArithmeticOperator::Subtract => (before + 1, finer),
        ArithmeticOperator::Modulo => (before, finer),
        ArithmeticOperator::Divide => (PRECISION_MAX, finer.max(QUOTIENT_SCALE_MIN)),
        ArithmeticOperator::Multiply => {
            let before = a.0 + b.0;
            let scale = a.1.saturating_add(b.1);
            match i16::from(before) + i16::from(scale) <= i16::from(PRECISION_MAX) {
                true => (before, scale),
                false => (before, scale.min(PRODUCT_SCALE_MAX.max(finer))),
            }
        }
    };
    let after = u8::try_from(scale).unwrap_or(0);
    let decimal = |(before, scale): (u8, i8)| {
        let after = u8::try_from(scale).unwrap_or(0);
        DataType::Decimal128((before + after).clamp(1, PRECISION_MAX), scale)
    };
    Operation {
        left: decimal(a),
        right: decimal(b),
        result: DataType::Decimal128(before.saturating_add(after).clamp(1, PRECISION_MAX), scale),
        kind: Kind::Numeric,
        is_swapped: false,
    }
}
