//! Values as the Postgres protocol carries them: oids, text and binary, out and in.
//!
//! ```text
//!   Field ──► PgType                          what RowDescription says
//!   Field ──► ValueWriter   array, row ──► text or bytes, without the length word
//!   Field ──► ColumnBuilder text or bytes ──► array        (COPY FROM, literals)
//!             parse_value   text or bytes ──► ScalarValue  (parameters)
//! ```
//!
//! Texts, bytes and error messages are those of Postgres 15. Two values that Postgres has and
//! Arrow cannot hold are refused by name: infinite dates and times, and NaN as a numeric.
//!
//! Reading order: `oid`, `writer` (with `text` and `binary`), then `column`, which parses by
//! `parse` (text) and `parse_binary`.

mod binary;
mod bytea;
mod column;
mod datetime;
mod float;
mod interval;
mod numeric;
mod oid;
mod parse;
mod parse_binary;
mod text;
mod value;
mod writer;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod round_trip;

pub use column::{ColumnBuilder, parse_value, parse_value_in};
pub use oid::{PgType, data_type_of_oid, field_of_oid};
pub use writer::{DateTimeStyle, Format, ValueWriter};
