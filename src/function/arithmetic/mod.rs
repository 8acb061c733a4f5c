//! `+`, `-`, `*`, `/` and `%` as Postgres has them: nothing wraps, dates and intervals add up.
//!
//! ```text
//!   a + b ──► Arithmetic(Add) ──► Operation::find(+, type of a, type of b)
//!                                    │ the types both are brought to, the result's, the kind
//!                                    ▼
//!                integer · numeric · float · time      one loop per kind, over whole columns
//! ```
//!
//! Invariants:
//! - What a type does not hold is an error (22003 for numbers, 22008 for times), never another
//!   value. Division by zero is 22012, for floats too.
//! - The types alone decide the result's type. A numeric's scale is therefore fixed where Postgres
//!   chooses it per value: see `signature`.
//! - Rows that are NULL are not computed.
//!
//! Reading order: `signature` (which operators there are), `function`, then the kinds.

mod float;
mod function;
mod integer;
mod numeric;
mod operand;
mod signature;
mod time;

#[cfg(test)]
mod tests;

pub use function::{absolute, arithmetic, modulus};
pub(crate) use numeric::{power_of_ten, rescale};
pub use signature::{ArithmeticOperator, Operation};
pub(crate) use time::moved;
