//! Functions that DataFusion lacks or that mean something else in Postgres.
//!
//! [`register`] adds them to DataFusion's state, over its own ones of the same name. They are pure:
//! the same arguments give the same result in a view, in a SELECT and in a replay.

pub mod aggregate;
mod window;

use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;

pub use window::window_starts;

/// Adds every function of ours.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    registry.register_udf(window_starts())?;
    aggregate::register(registry)
}
