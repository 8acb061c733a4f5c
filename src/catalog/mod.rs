//! Objects and names: what exists, what it depends on, and how it is kept.
//!
//! The catalog is a value: a set of [`Object`]s by id and name. The engine changes it between
//! statements and hands out shared copies; nothing in here runs. What is durable of an object is
//! its
//! [`Definition`]: the user's text and what was resolved when it was created. Everything else is
//! planned again from it on start.
//!
//! Invariants: names are unique over all kinds (one namespace, as in Postgres' `pg_class`); an
//! object's dependencies have lower ids than it has itself; ids and oids are never used again.

mod object;
mod set;

pub use object::{Changelog, Definition, LateIds, Object, ObjectKind, Relation};
pub use set::Catalog;
