//! Casts as Postgres has them, where Arrow's differ.
//!
//! ```text
//!   1.5::bigint         2                      half away from zero     Arrow: 1
//!   2.5::float8::int    2                      half to even            Arrow: 2, but 3.7 is 3
//!   '\x00ff'::bytea     two bytes                                      Arrow: six characters
//!   now()::text         2026-01-01 00:00:00+00                         Arrow: 2026-01-01T00:00:00Z
//!   'x'::bigint         22P02 invalid input syntax for type bigint: "x"
//!   70000::smallint     22003 smallint out of range
//! ```
//!
//! A cast that is the same in both stays the library's own, which its optimizer knows: see
//! [`differs`].
//!
//! Reading order: this page, `function` (which casts, and the way in), `number`, `text`.

mod function;
mod number;
mod text;

pub use function::{cast_to, differs};
