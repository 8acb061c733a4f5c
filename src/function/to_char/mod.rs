//! `to_char(value, pattern)`: times, intervals and numbers by a pattern of Postgres'.
//!
//! ```text
//!   to_char(TIMESTAMP '2026-01-02 15:04:05', 'FMDay, DDth Mon YYYY HH12:MI am')
//!                                        Friday, 02nd Jan 2026 03:04 pm
//!   to_char(-1234.5, '9,999.99')         -1,234.50
//! ```
//!
//! A pattern is read once per statement where it is a constant. Names are English, as in the
//! locale C. What a pattern may hold in Postgres and is not supported is refused by its name.
//!
//! Reading order: `function`, `moment` (with `keyword`), `number`.

mod function;
mod keyword;
mod moment;
mod number;

#[cfg(test)]
mod tests;

pub use function::to_char;
