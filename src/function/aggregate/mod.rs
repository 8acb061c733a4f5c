//! Aggregate functions as Postgres has them: exact sums and averages, floats in their order.
//!
//! ```text
//!   UDAF sum, avg (ad-hoc SELECT, the oracle)        operator::aggregate (views, with retractions)
//!            └────────────┬──────────────────────────────────────┘
//!                  TotalRule: types, last step, overflow
//!                         │
//!        ExactSums (integers, decimals)   FloatSums (correctly rounded)
//! ```
//!
//! Invariants:
//! - A total depends on the multiset of its rows, not on their order, cuts or detours: what was
//!   added and removed again leaves no trace.
//! - Nothing wraps and nothing is silently infinite: what the result's type does not hold is an
//!   error, 22003 in a SELECT and an error row in a view.
//!
//! Reading order: [`numbers`](TotalRule), [`ExactSums`], [`FloatSums`], [`Amount`], then the
//! functions.

/// The optimizer rule of DataFusion that must be taken out wherever `sum` is ours: it answers
/// `sum(a), count(DISTINCT b)` by a sum of sums, whose type is another one than that of the sum.
pub const STACKING_RULE: &str = "single_distinct_aggregation_to_group_by";

mod amount;
mod exact_sums;
mod extremes;
mod float_sums;
mod groups;
mod numbers;
mod udaf;
mod wide_float;

pub use amount::{Amount, FloatSum};
pub use exact_sums::{ExactSum, ExactSums};
pub use float_sums::FloatSums;
pub use numbers::{Algebra, OutOfRange, Total, TotalRule, Totals};
pub use udaf::{register, total_function};

/// Runs a block for the native values of an integer or decimal column, whatever its width: inside
/// it `$values` is a slice of an integer type that `i128::from` takes.
///
/// The block is compiled once per type, so that its loop asks for no type per row.
macro_rules! for_integers {
    ($array:expr, $values:ident => $block:expr, else $other:expr) => {{
        use arrow::array::AsArray;
        use arrow::datatypes as types;
        macro_rules! with {
            ($kind:ty) => {{
                let $values: &[_] = $array.as_primitive::<$kind>().values();
                $block
            }};
        }
        match $array.data_type() {
            types::DataType::Int8 => with!(types::Int8Type),
            types::DataType::Int16 => with!(types::Int16Type),
            types::DataType::Int32 => with!(types::Int32Type),
            types::DataType::Int64 => with!(types::Int64Type),
            types::DataType::UInt8 => with!(types::UInt8Type),
            types::DataType::UInt16 => with!(types::UInt16Type),
            types::DataType::UInt32 => with!(types::UInt32Type),
            types::DataType::UInt64 => with!(types::UInt64Type),
            types::DataType::Decimal32(..) => with!(types::Decimal32Type),
            types::DataType::Decimal64(..) => with!(types::Decimal64Type),
            types::DataType::Decimal128(..) => with!(types::Decimal128Type),
            _ => $other,
        }
    }};
}
pub(crate) use for_integers;
