//! Functions of dates, times and intervals as Postgres has them.
//!
//! ```text
//!   extract(second FROM TIMESTAMP '2026-01-01 00:00:01.5')      1.500000, a numeric
//!   date_part('second', …)                                      1.5, a double precision
//!   date_trunc('month', TIMESTAMP '2026-05-17 10:00')           2026-05-01 00:00:00
//!   age(TIMESTAMP '2026-03-01', TIMESTAMP '2025-12-30')         2 mons 1 day
//! ```
//!
//! A point in time with a zone is taken apart on the clock of the statement's zone: UTC in views.
//!
//! Reading order: `unit`, `broken_down`, then the functions.

mod age;
mod broken_down;
mod extract;
mod moment;
mod now;
mod timezone;
mod truncate;
mod unit;

pub use age::age;
pub(crate) use broken_down::{BrokenDown, zone_of};
pub use extract::{date_part, extract};
pub use moment::{ClockIs, as_now_is, now_is};
pub use now::{localtimestamp, now};
pub use timezone::timezone;
pub use truncate::date_trunc;
