//! JSON objects into columns.
//!
//! ```text
//!   payload ─► walk down the known layouts ─┬─ fits ─────────────────────────────► row
//!              (layout, quick)              └─ anything unexpected ─► full rules ─► row or reason
//!                                                (scan, wish, value)      └─► a new layout
//! ```
//!
//! Two ways to the same answer. The **full rules** define it: the whole payload must be one JSON
//! object ([`scan`] says how strictly), fields are found by name ([`wish`]), values are converted
//! ([`value`]). The **fast way** bets that the record has the field order of one seen before
//! ([`layout`]), and reads common shapes of numbers, times and texts in place ([`quick`]). It
//! checks everything that the full rules check, skipped values included, so whatever it takes they
//! would have taken with the same values; on the first byte that differs it gives up, takes its
//! values back and lets them decide. Errors come only from the full rules.
//!
//! Reading order: `scan`, `wish`, `value`, then [`decoder`], then `layout` and `quick`.

mod decoder;
mod layout;
mod quick;
mod scan;
mod value;
mod wish;

#[cfg(test)]
mod tests;

pub use decoder::{JsonColumn, JsonDecoder, JsonOptions};
pub use wish::PathStep;

pub(super) use decoder::push_json_text;
