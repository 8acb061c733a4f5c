//! Functions that DataFusion lacks or that mean something else in Postgres.
//!
//! [`register`] adds them to DataFusion's state, over its own ones of the same name. They are pure:
//! the same arguments give the same result in a view, in a SELECT and in a replay.

pub mod aggregate;
pub mod arithmetic;
pub mod cast;
mod columnar;
pub mod interval;
mod series;
pub mod text;
pub mod time;
mod to_char;
mod type_name;
pub mod window;

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;

/// Adds every function of ours.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    let functions = [
        arithmetic::modulus(),
        arithmetic::absolute(),
        time::date_part(),
        time::date_trunc(),
        time::age(),
        time::now(),
        time::localtimestamp(),
        time::timezone(),
        series::generate_series(),
        type_name::pg_typeof(),
        to_char::to_char(),
    ];
    for function in functions {
        // With its other names: a state that is copied would register it again under all of them.
        registry.deregister_udf(function.name())?;
        registry.register_udf(Arc::new(function))?;
    }
    interval::register(registry)?;
    text::register(registry)?;
    aggregate::register(registry)
}
