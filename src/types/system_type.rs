//! Types of Postgres' system relations, which have no SQL type of their own here.
//!
//! An oid is carried as a `bigint` and a name as `text`, so that queries compute with them as with
//! any other value. Clients are told the types that Postgres has, and drivers read them in binary:
//! an oid has four bytes. What tells the column apart is a mark in its field's metadata, which
//! travels with the column and is lost with the first expression around it.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field};

/// Key of the field metadata that names a system type.
pub const SYSTEM_TYPE_KEY: &str = "tidemill.system_type";

/// A type that only system relations have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemType {
    Oid,
    Xid,
    RegProc,
    RegType,
    Name,
    /// One byte, written `"char"` in SQL.
    Char,
    NodeTree,
    Int2Vector,
    OidVector,
    Oids,
    Names,
    Chars,
}

/// Names as `pg_type` has them, oids, and bytes of a value.
const TYPES: [(&str, SystemType, u32, i16); 12] = [
    ("oid", SystemType::Oid, 26, 4),
    ("xid", SystemType::Xid, 28, 4),
    ("regproc", SystemType::RegProc, 24, 4),
    ("regtype", SystemType::RegType, 2206, 4),
    ("name", SystemType::Name, 19, 64),
    ("char", SystemType::Char, 18, 1),
    ("pg_node_tree", SystemType::NodeTree, 194, -1),
    ("int2vector", SystemType::Int2Vector, 22, -1),
    ("oidvector", SystemType::OidVector, 30, -1),
    ("_oid", SystemType::Oids, 1028, -1),
    ("_name", SystemType::Names, 1003, -1),
    ("_char", SystemType::Chars, 1002, -1),
];

impl SystemType {
    /// The system type that a field is marked with and that its values can be.
    pub fn of(field: &Field) -> Option<SystemType> {
        let marker = field.metadata().get(SYSTEM_TYPE_KEY)?;
        let (_, found, ..) = TYPES.iter().find(|(name, ..)| name == marker)?;
        // An expression may keep the metadata of an argument but not its type.
        let is_carried = match found {
            SystemType::Oid | SystemType::Xid | SystemType::RegProc | SystemType::RegType => {
                *field.data_type() == DataType::Int64
            }
            SystemType::Name | SystemType::Char | SystemType::NodeTree => {
                matches!(field.data_type(), DataType::Utf8 | DataType::Utf8View)
            }
            SystemType::Int2Vector
            | SystemType::OidVector
            | SystemType::Oids
            | SystemType::Names
            | SystemType::Chars => matches!(field.data_type(), DataType::List(_)),
        };
        is_carried.then_some(*found)
    }

    /// The field, marked with the system type of a name; as it is where there is none.
    pub fn mark(field: Field, name: &str) -> Field {
        if !TYPES.iter().any(|(known, ..)| *known == name) {
            return field;
        }
        let mut metadata: HashMap<_, _> = field.metadata().clone();
        metadata.insert(SYSTEM_TYPE_KEY.to_string(), name.to_string());
        field.with_metadata(metadata)
    }

    /// Row of `pg_type`.
    pub fn oid(self) -> u32 {
        self.entry().0
    }

    /// Bytes of a value, −1 when they vary.
    pub fn bytes(self) -> i16 {
        self.entry().1
    }

    fn entry(self) -> (u32, i16) {
        let entry = TYPES.iter().find(|(_, known, ..)| *known == self);
        entry.map_or((25, -1), |(_, _, oid, len)| (*oid, *len))
    }

    /// Whether a value is a number of four bytes.
    pub(crate) fn is_number(self) -> bool {
        matches!(
            self,
            SystemType::Oid | SystemType::Xid | SystemType::RegProc | SystemType::RegType
        )
    }

    /// Whether it is an array that is written without braces, its first element being number 0.
    pub(crate) fn is_vector(self) -> bool {
        matches!(self, SystemType::Int2Vector | SystemType::OidVector)
    }

    /// The type of an array's elements, where it is a system type.
    pub(crate) fn element(self) -> Option<SystemType> {
        match self {
            SystemType::OidVector | SystemType::Oids => Some(SystemType::Oid),
            SystemType::Names => Some(SystemType::Name),
            SystemType::Chars => Some(SystemType::Char),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use crate::types::SystemType;
    use crate::types::pg::PgType;

    #[test]
    fn a_marked_column_is_announced_as_postgres_does() {
        let announced = |data_type, name: &str| {
            let field = SystemType::mark(Field::new("c", data_type, true), name);
            let PgType { oid, len, .. } = PgType::of(&field);
            (oid, len)
        };
        assert_eq!(announced(DataType::Int64, "oid"), (26, 4));
        assert_eq!(announced(DataType::Utf8, "name"), (19, 64));
        assert_eq!(announced(DataType::Utf8, "char"), (18, 1));
        // Neither a mark without its type nor an unknown one counts.
        assert_eq!(announced(DataType::Utf8, "oid"), (25, -1));
        assert_eq!(announced(DataType::Int64, "int8"), (20, 8));
    }
}
