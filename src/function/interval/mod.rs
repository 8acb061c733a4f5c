//! Intervals by their length, as Postgres compares them.
//!
//! A month counts 30 days and a day 24 hours: `'1 mon' = '30 days'`, `'48 hours' > '1 day'`. The
//! library compares months, then days, then time. So the planner (`plan/intervals.rs`) compares
//! lengths, and where a value itself is chosen calls what is here:
//!
//! ```text
//!   interval_length(i)              the length in microseconds, a numeric: what is compared
//!   interval_min(i), interval_max   aggregates, also over frames
//!   interval_least(a, b, …)         and interval_greatest
//! ```
//!
//! Of values that are equal by length but not alike, the aggregates choose the one with the fewest
//! months, then days: the order of rows never shows.

mod choice;
mod extreme;
mod length;

use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;

pub use choice::choice_function;
pub use extreme::extreme_function;
pub use length::length_function;
pub(crate) use length::length_micros;

/// Which end of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Least,
    Greatest,
}

/// Registers what plans name; a plan that is taken apart and put together again looks them up.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    registry.register_udf(length_function())?;
    for end in [End::Least, End::Greatest] {
        registry.register_udf(choice_function(end))?;
        registry.register_udaf(extreme_function(end))?;
    }
    Ok(())
}
