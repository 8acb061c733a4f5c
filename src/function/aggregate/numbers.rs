//! What `sum` and `avg` do with which type, and their last step from exact sum to SQL value.
//!
//! | argument | sum | avg |
//! | --- | --- | --- |
//! | `smallint`, `integer` | `bigint` | `numeric(38, 16)` |
//! | `bigint` | `numeric(38, 0)` | `numeric(38, 16)` |
//! | `numeric(p, s)` | `numeric(38, s)` | `numeric(38, max(s, 16))` |
//! | `real`, `double precision` | `double precision` | `double precision` |
//!
//! As in Postgres, but for the scale of averages, which is fixed there where Postgres chooses it
//! per value, and for `sum(real)`, which Postgres rounds to `real`.

use std::sync::Arc;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array};
use arrow::datatypes::DataType;

use crate::error::{Error, Result, SqlState};
use crate::function::aggregate::{ExactSums, FloatSums};

/// Most digits of a decimal.
const PRECISION_MAX: u8 = 38;

/// Fractional digits of an average: what Postgres shows at least.
const AVERAGE_SCALE: i8 = 16;

/// Which of the two is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Total {
    Sum,
    Average,
}

impl Total {
    /// The SQL name of the function.
    pub fn name(self) -> &'static str {
        match self {
            Total::Sum => "sum",
            Total::Average => "avg",
        }
    }

    /// The type of the result over arguments of a type.
    ///
    /// # Errors
    /// 42883 when the type has no sum.
    pub fn result_type(self, argument: &DataType) -> Result<DataType> {
        let algebra = Algebra::of(argument).ok_or_else(|| {
            let message = format!("function {}({argument}) does not exist", self.name());
            Error::new(SqlState::UNDEFINED_FUNCTION, message)
                .hint("cast the argument to numeric or double precision")
        })?;
        Ok(match (self, algebra) {
            (_, Algebra::Float) => DataType::Float64,
            (Total::Sum, Algebra::Integer) if is_narrow(argument) => DataType::Int64,
            (Total::Sum, _) => DataType::Decimal128(PRECISION_MAX, scale_of(argument)),
            (Total::Average, _) => {
                DataType::Decimal128(PRECISION_MAX, scale_of(argument).max(AVERAGE_SCALE))
            }
        })
    }
}

/// How values of a type add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algebra {
    /// Integers of at most 64 bits.
    Integer,
    /// Decimals of up to 128 bits.
    Decimal,
    Float,
}

impl Algebra {
    /// `None` for types that do not add up.
    pub fn of(argument: &DataType) -> Option<Algebra> {
        match argument {
            integer if integer.is_integer() => Some(Algebra::Integer),
            DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) => {
                Some(Algebra::Decimal)
            }
            DataType::Float32 | DataType::Float64 => Some(Algebra::Float),
            _ => None,
        }
    }
}

/// Integers whose sum is a bigint: those that SQL knows as `smallint` and `integer`.
fn is_narrow(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16
    )
}

fn scale_of(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale) => *scale,
        _ => 0,
    }
}

/// Sums by slot of one argument, in the algebra of its type.
#[derive(Debug)]
pub enum Totals {
    Exact(ExactSums),
    Float(FloatSums),
}

/// The last step of a total: which, of what type, into what type.
#[derive(Clone, Debug)]
pub struct TotalRule {
    pub total: Total,
    pub result: DataType,
    /// Fractional digits that the average has more than the sum.
    digits: u32,
}

/// A total that its type does not hold; the text is the reason in Postgres' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange(pub &'static str);

impl TotalRule {
    /// # Errors
    /// As [`Total::result_type`].
    pub fn new(total: Total, argument: &DataType) -> Result<TotalRule> {
        let result = total.result_type(argument)?;
        let digits = match total {
            Total::Sum => 0,
            Total::Average => i32::from(scale_of(&result)) - i32::from(scale_of(argument)),
        };
        let digits = u32::try_from(digits).unwrap_or(0);
        Ok(TotalRule {
            total,
            result,
            digits,
        })
    }

    /// The result for each (slot, number of rows in the sum): NULL over no rows. Those that the
    /// type does not hold are NULL too and come back by their place.
    pub fn results(
        &self,
        totals: &Totals,
        groups: impl ExactSizeIterator<Item = (usize, i64)>,
    ) -> (ArrayRef, Vec<(usize, OutOfRange)>) {
        let mut failed = Vec::new();
        let mut valid = NullBufferBuilder::new(groups.len());
        let array: ArrayRef = match totals {
            Totals::Float(sums) => {
                let values = collect(groups, &mut valid, &mut failed, |slot, count| {
                    self.float(sums, slot, count)
                });
                Arc::new(Float64Array::new(values.into(), valid.finish()))
            }
            Totals::Exact(sums) if self.result == DataType::Int64 => {
                let values = collect(groups, &mut valid, &mut failed, |slot, _| {
                    sums.get(slot)
                        .to_bigint()
                        .ok_or(OutOfRange("bigint out of range"))
                });
                Arc::new(Int64Array::new(values.into(), valid.finish()))
            }
            Totals::Exact(sums) => {
                let values = collect(groups, &mut valid, &mut failed, |slot, count| {
                    self.decimal(sums, slot, count)
                });
                let array = Decimal128Array::new(values.into(), valid.finish());
                Arc::new(array.with_data_type(self.result.clone()))
            }
        };
        (array, failed)
    }

    fn decimal(&self, sums: &ExactSums, slot: usize, count: i64) -> Result<i128, OutOfRange> {
        let sum = sums.get(slot);
        let value = match self.total {
            Total::Sum => sum.to_decimal(),
            Total::Average => sum.average(count, self.digits),
        };
        value.ok_or(OutOfRange("numeric field overflow"))
    }

    fn float(&self, sums: &FloatSums, slot: usize, count: i64) -> Result<f64, OutOfRange> {
        let sum = sums
            .get(slot)
            .ok_or(OutOfRange("value out of range: overflow"))?;
        #[expect(clippy::cast_precision_loss, reason = "a quotient is rounded anyway")]
        Ok(match self.total {
            Total::Average if sum.is_finite() => sum / count as f64,
            Total::Sum | Total::Average => sum,
        })
    }
}

/// Evaluates group by group; what has no value is the type's zero under a NULL.
fn collect<T: Default>(
    groups: impl Iterator<Item = (usize, i64)>,
    valid: &mut NullBufferBuilder,
    failed: &mut Vec<(usize, OutOfRange)>,
    value: impl Fn(usize, i64) -> Result<T, OutOfRange>,
) -> Vec<T> {
    let one = |(place, (slot, count)): (usize, (usize, i64))| {
        let value = match count {
            ..=0 => None,
            _ => value(slot, count)
                .map_err(|reason| failed.push((place, reason)))
                .ok(),
        };
        valid.append(value.is_some());
        value.unwrap_or_default()
    };
    groups.enumerate().map(one).collect()
}

impl Totals {
    pub fn new(algebra: Algebra) -> Totals {
        match algebra {
            Algebra::Integer | Algebra::Decimal => Totals::Exact(ExactSums::default()),
            Algebra::Float => Totals::Float(FloatSums::default()),
        }
    }

    pub fn grow(&mut self, slots: usize) {
        match self {
            Totals::Exact(sums) => sums.grow(slots),
            Totals::Float(sums) => sums.grow(slots),
        }
    }

    pub fn clear(&mut self, slot: usize) {
        match self {
            Totals::Exact(sums) => sums.clear(slot),
            Totals::Float(sums) => sums.clear(slot),
        }
    }

    pub fn write(&self, slot: usize, bytes: &mut Vec<u8>) {
        match self {
            Totals::Exact(sums) => sums.write(slot, bytes),
            Totals::Float(sums) => sums.write(slot, bytes),
        }
    }

    pub fn merge(&mut self, slot: usize, bytes: &[u8]) -> Result<()> {
        match self {
            Totals::Exact(sums) => sums.merge(slot, bytes),
            Totals::Float(sums) => sums.merge(slot, bytes),
        }
    }

    /// Adds `times` (1 or −1) the sum of slot `from` to that of `into`.
    #[inline]
    pub fn combine(&mut self, from: usize, into: usize, times: i64) {
        match self {
            Totals::Exact(sums) => sums.combine(from, into, times),
            Totals::Float(sums) => sums.combine(from, into, times),
        }
    }

    pub fn drop_first(&mut self, slots: usize) {
        match self {
            Totals::Exact(sums) => sums.drop_first(slots),
            Totals::Float(sums) => sums.drop_first(slots),
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Totals::Exact(sums) => sums.bytes(),
            Totals::Float(sums) => sums.bytes(),
        }
    }
}
