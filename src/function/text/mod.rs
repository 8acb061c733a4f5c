//! Functions of texts as Postgres has them, where the library's differ: in what they print, or in
//! what they would build.
//!
//! ```text
//!   'a' || true                   atrue       a cast to text
//!   concat('a', true, 1e300)      at1e+300    as a client is sent it
//!   format('%I = %L', 'A b', 1)   "A b" = '1'
//!   repeat('x', 1000000000)       54000 requested length too large
//! ```
//!
//! Invariant: a text is measured before it is built. One value has at most `VALUE_BYTES_MAX` bytes,
//! all of a batch of rows at most `BATCH_TEXT_BYTES_MAX`; functions of the library that may exceed
//! this, and arrays, are behind `bounded`.
//!
//! Reading order: `builder`, `concat`, `format`, `pad`, `bounded`.

mod bounded;
mod builder;
mod concat;
mod format;
mod pad;

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;

pub use bounded::{array_append, array_concat, array_prepend};
pub use concat::{bytes_concat, text_concat};

/// Puts ours in the place of the library's own.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    bounded::register(registry)?;
    let functions = [
        concat::concat(),
        concat::concat_ws(),
        format::format(),
        pad::repeat(),
        pad::pad(pad::Side::Left),
        pad::pad(pad::Side::Right),
    ];
    for function in functions {
        registry.deregister_udf(function.name())?;
        registry.register_udf(Arc::new(function))?;
    }
    Ok(())
}
