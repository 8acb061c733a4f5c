//! SQL types and their two other faces: Arrow's data types and the Postgres protocol's oids, texts
//! and bytes.
//!
//! ```text
//!   CREATE … (a BIGINT, b JSONB[])          result of a plan (any Arrow type)
//!            │ SqlType::parse                         │ Field
//!            ▼                                        ▼
//!         SqlType ──── to_field / of ────── Field ── pg::ValueWriter ──► text or binary
//!                                             └───── pg::ColumnBuilder ◄── COPY, parameters
//! ```
//!
//! Invariants
//! - A column of a source, table or view has the canonical Arrow type of its [`SqlType`]
//!   ([`SqlType::to_field`]); `SqlType::of(&t.to_field(..)) == t`, except that `varchar` inside an
//!   array or a struct reads back as `text`.
//! - Every Arrow type that a plan may produce has a Postgres type, so that no result fails to
//!   print ([`SqlType::of`]).
//! - What [`pg::ValueWriter`] writes, [`pg::ColumnBuilder`] reads back to the same value, in both
//!   formats.
//!
//! Reading order: [`SqlType`], `type_name`, [`SystemType`], `datum`, then [`pg`]. [`event_time`] is
//! the fast path of the record decoders, [`Zone`] the time zone of a session.

pub(crate) mod calendar;
mod datum;
pub mod event_time;
pub mod pg;
mod sql_type;
mod system_type;
mod type_name;
mod zone;

pub use sql_type::{SqlType, StructField, TYPE_KEY};
pub use system_type::SystemType;
pub use zone::Zone;
