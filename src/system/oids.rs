//! The numbers of what the catalog has no number for: what belongs to an object, and what is fixed.
//!
//! Oids of objects are durable and given by the catalog from 16384 up. What belongs to an object
//! (its primary key's index and constraint) has the object's oid with a high bit, so it is as
//! durable as the object.

pub const NAMESPACE_CATALOG: u32 = 11;
pub const NAMESPACE_TOAST: u32 = 99;
pub const NAMESPACE_PUBLIC: u32 = 2200;
pub const NAMESPACE_INFORMATION: u32 = 13207;
pub const NAMESPACE_TIDEMILL: u32 = 15000;

/// The role that owns everything: the session's user.
pub const OWNER: u32 = 10;
pub const DATABASE: u32 = 5;
pub const TABLESPACE: u32 = 1663;
pub const TABLESPACE_GLOBAL: u32 = 1664;
pub const WRAPPER: u32 = 15020;
pub const METHOD_HEAP: u32 = 2;
pub const METHOD_BTREE: u32 = 403;
pub const COLLATION_DEFAULT: u32 = 100;

const INDEX: u32 = 1 << 30;
const CONSTRAINT: u32 = 1 << 29;

/// The schemas with their oids.
pub const NAMESPACES: [(&str, u32); 5] = [
    ("pg_catalog", NAMESPACE_CATALOG),
    ("pg_toast", NAMESPACE_TOAST),
    ("public", NAMESPACE_PUBLIC),
    ("information_schema", NAMESPACE_INFORMATION),
    ("tidemill", NAMESPACE_TIDEMILL),
];

/// The connectors, listed as foreign servers.
pub const SERVERS: [(&str, u32); 4] = [
    ("kafka", 15021),
    ("topic", 15022),
    ("datagen", 15023),
    ("nexmark", 15024),
];

pub fn namespace(name: &str) -> Option<u32> {
    NAMESPACES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, oid)| *oid)
}

pub fn namespace_name(oid: u32) -> Option<&'static str> {
    NAMESPACES
        .iter()
        .find(|(_, known)| *known == oid)
        .map(|(name, _)| *name)
}

/// The index of an object's primary key.
pub fn index_of(object: u32) -> u32 {
    object | INDEX
}

/// The constraint of an object's primary key.
pub fn constraint_of(object: u32) -> u32 {
    object | CONSTRAINT
}

/// The object whose primary key has this index.
pub fn object_of_index(index: u32) -> Option<u32> {
    (index & INDEX != 0).then_some(index & !INDEX)
}

/// The object whose primary key is this constraint.
pub fn object_of_constraint(constraint: u32) -> Option<u32> {
    (constraint & CONSTRAINT != 0).then_some(constraint & !CONSTRAINT)
}
