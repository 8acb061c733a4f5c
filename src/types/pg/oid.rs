//! Postgres' numbers for types, as RowDescription and parameter declarations name them.

use arrow::datatypes::{DataType, Field};

use crate::types::{SqlType, SystemType};

/// A type as RowDescription describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PgType {
    /// Row of `pg_type`; the built-in ones never change.
    pub oid: u32,
    /// Bytes of a value, −1 when they vary.
    pub len: i16,
    /// What stands in parentheses (length, precision and scale), encoded; −1 for nothing.
    pub modifier: i32,
}

impl PgType {
    /// The type under which a column is announced. A field that [`SqlType::of`] refuses is text:
    /// the error comes when its values are written.
    pub fn of(field: &Field) -> PgType {
        if let Some(system) = SystemType::of(field) {
            return PgType {
                oid: system.oid(),
                len: system.bytes(),
                modifier: -1,
            };
        }
        PgType::of_sql_type(&SqlType::of(field).unwrap_or(SqlType::Text))
    }

    /// The type under which values of `sql_type` are announced.
    pub fn of_sql_type(sql_type: &SqlType) -> PgType {
        PgType {
            oid: oid_of(sql_type),
            len: len_of(sql_type),
            modifier: modifier_of(sql_type),
        }
    }
}

/// The canonical Arrow type for a declared parameter type; None when Tidemill has no such type.
pub fn data_type_of_oid(oid: u32) -> Option<DataType> {
    sql_type_of_oid(oid).map(|sql_type| sql_type.data_type())
}

/// As [`data_type_of_oid`], with the metadata that tells `uuid` and `jsonb` from bytes and text.
pub fn field_of_oid(name: &str, oid: u32) -> Option<Field> {
    sql_type_of_oid(oid).map(|sql_type| sql_type.to_field(name, true))
}

/// Pairs of a type's oid and its array type's.
const OIDS: [(SqlType, u32, u32); 17] = [
    (SqlType::Boolean, 16, 1000),
    (SqlType::Bytea, 17, 1001),
    (SqlType::BigInt, 20, 1016),
    (SqlType::SmallInt, 21, 1005),
    (SqlType::Integer, 23, 1007),
    (SqlType::Text, 25, 1009),
    (SqlType::Real, 700, 1021),
    (SqlType::DoublePrecision, 701, 1022),
    (SqlType::Varchar(None), 1043, 1015),
    (SqlType::Date, 1082, 1182),
    (SqlType::Time, 1083, 1183),
    (SqlType::Timestamp, 1114, 1115),
    (SqlType::Timestamptz, 1184, 1185),
    (SqlType::Interval, 1186, 1187),
    (SqlType::NUMERIC, 1700, 1231),
    (SqlType::Uuid, 2950, 2951),
    (SqlType::Jsonb, 3802, 3807),
];

fn sql_type_of_oid(oid: u32) -> Option<SqlType> {
    // Types that exist for clients only: text by another name, and oids.
    match oid {
        18 | 19 | 705 | 1042 => return Some(SqlType::Text),
        26 => return Some(SqlType::BigInt),
        114 => return Some(SqlType::Jsonb),
        1002 | 1003 | 1014 => return Some(SqlType::Array(Box::new(SqlType::Text))),
        1028 => return Some(SqlType::Array(Box::new(SqlType::BigInt))),
        199 => return Some(SqlType::Array(Box::new(SqlType::Jsonb))),
        _ => {}
    }
    OIDS.iter().find_map(|(sql_type, scalar, array)| {
        if oid == *scalar {
            Some(sql_type.clone())
        } else if oid == *array {
            Some(SqlType::Array(Box::new(sql_type.clone())))
        } else {
            None
        }
    })
}

pub(crate) fn oid_of(sql_type: &SqlType) -> u32 {
    match sql_type {
        SqlType::Array(element) => array_oid_of(element),
        other => scalar_oids(other).0,
    }
}

/// The oid of an array of these elements; an array of arrays has the type of the innermost one.
fn array_oid_of(element: &SqlType) -> u32 {
    match element {
        SqlType::Array(inner) => array_oid_of(inner),
        other => scalar_oids(other).1,
    }
}

/// The oids of a type that is not an array, and of arrays of it.
fn scalar_oids(sql_type: &SqlType) -> (u32, u32) {
    match sql_type {
        SqlType::Boolean => (16, 1000),
        SqlType::Bytea => (17, 1001),
        SqlType::BigInt => (20, 1016),
        SqlType::SmallInt => (21, 1005),
        SqlType::Integer => (23, 1007),
        SqlType::Text => (25, 1009),
        SqlType::Real => (700, 1021),
        SqlType::DoublePrecision => (701, 1022),
        SqlType::Varchar(_) => (1043, 1015),
        SqlType::Date => (1082, 1182),
        SqlType::Time => (1083, 1183),
        SqlType::Timestamp => (1114, 1115),
        SqlType::Timestamptz => (1184, 1185),
        SqlType::Interval => (1186, 1187),
        SqlType::Numeric { .. } => (1700, 1231),
        SqlType::Uuid => (2950, 2951),
        SqlType::Jsonb => (3802, 3807),
        // `record` and `record[]`: a struct is an anonymous composite.
        SqlType::Struct(_) | SqlType::Array(_) => (2249, 2287),
    }
}

fn len_of(sql_type: &SqlType) -> i16 {
    match sql_type {
        SqlType::Boolean => 1,
        SqlType::SmallInt => 2,
        SqlType::Integer | SqlType::Real | SqlType::Date => 4,
        SqlType::BigInt
        | SqlType::DoublePrecision
        | SqlType::Time
        | SqlType::Timestamp
        | SqlType::Timestamptz => 8,
        SqlType::Interval | SqlType::Uuid => 16,
        SqlType::Numeric { .. }
        | SqlType::Text
        | SqlType::Varchar(_)
        | SqlType::Bytea
        | SqlType::Jsonb
        | SqlType::Array(_)
        | SqlType::Struct(_) => -1,
    }
}

/// Bytes of the length word that Postgres counts into a modifier (its VARHDRSZ).
const HEADER: i32 = 4;

fn modifier_of(sql_type: &SqlType) -> i32 {
    match sql_type {
        SqlType::Varchar(Some(length)) => {
            i32::try_from(*length).map_or(-1, |length| length + HEADER)
        }
        SqlType::Numeric { precision, scale } => {
            ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + HEADER
        }
        SqlType::Array(element) => modifier_of(element),
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use crate::types::SqlType;
    use crate::types::pg::oid::{OIDS, PgType, data_type_of_oid, field_of_oid, oid_of};

    fn pg_type(name: &str) -> (u32, i16, i32) {
        let field = SqlType::parse(name).unwrap().to_field("c", true);
        let PgType { oid, len, modifier } = PgType::of(&field);
        (oid, len, modifier)
    }

    #[test]
    fn types_are_announced_as_postgres_does() {
        assert_eq!(pg_type("bigint"), (20, 8, -1));
        assert_eq!(pg_type("varchar(20)"), (1043, -1, 24));
        assert_eq!(pg_type("numeric(10,2)"), (1700, -1, 655_366));
        assert_eq!(pg_type("uuid"), (2950, 16, -1));
        assert_eq!(pg_type("jsonb[][]"), (3807, -1, -1));
        assert_eq!(pg_type("struct<a bigint>"), (2249, -1, -1));
        let unsigned = Field::new("c", DataType::UInt64, true);
        assert_eq!(PgType::of(&unsigned).oid, 1700);
    }

    #[test]
    fn every_oid_leads_back_to_its_type() {
        for (sql_type, scalar, array) in OIDS {
            assert_eq!(oid_of(&sql_type), scalar);
            let field = field_of_oid("p", scalar).unwrap();
            assert_eq!(SqlType::of(&field).unwrap(), sql_type);
            let list = field_of_oid("p", array).unwrap();
            assert_eq!(
                PgType::of(&list).oid,
                if array == 1015 { 1009 } else { array }
            );
        }
        assert_eq!(data_type_of_oid(705), Some(DataType::Utf8));
        assert_eq!(data_type_of_oid(600), None);
    }
}
