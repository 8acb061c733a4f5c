//! The types that a column may have, and how each is carried by an Arrow field.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};

use crate::error::{Error, Result};

/// Key of the field metadata that tells apart SQL types with the same Arrow type. Its value is
/// `uuid`, `jsonb`, `varchar` or `varchar(n)`.
pub const TYPE_KEY: &str = "tidemill.type";

/// A SQL type.
///
/// `Display` prints it as Postgres does (`bigint[]`, `timestamp with time zone`), except a struct,
/// for which Postgres has no anonymous name: `struct<a bigint, b text>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SqlType {
    Boolean,
    SmallInt,
    Integer,
    BigInt,
    Real,
    DoublePrecision,
    /// An exact number of at most `precision` digits, `scale` of them after the point. NUMERIC
    /// without a precision is `numeric(38,10)`, see [`SqlType::NUMERIC`].
    Numeric {
        precision: u8,
        scale: i8,
    },
    Text,
    /// Text of at most so many characters, or of any length.
    Varchar(Option<u32>),
    Bytea,
    Date,
    /// Time of day without a zone, in microseconds.
    Time,
    /// Date and time of day without a zone, in microseconds.
    Timestamp,
    /// A point in time, in microseconds; the zone is only a matter of printing.
    Timestamptz,
    Interval,
    Uuid,
    Jsonb,
    Array(Box<SqlType>),
    Struct(Vec<StructField>),
}

/// A member of a struct. Members may always be NULL, as in Postgres' composite types.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StructField {
    pub name: String,
    pub sql_type: SqlType,
}

impl SqlType {
    /// NUMERIC without precision and scale: all the digits that 128 bits hold, ten of them after
    /// the point. Postgres would keep any number of digits; a columnar format has to choose.
    pub const NUMERIC: SqlType = SqlType::Numeric {
        precision: 38,
        scale: 10,
    };

    /// Digits of the widest numeric column.
    pub const NUMERIC_PRECISION_MAX: u8 = 38;

    /// The canonical Arrow type, without what only field metadata can say.
    pub fn data_type(&self) -> DataType {
        match self {
            SqlType::Boolean => DataType::Boolean,
            SqlType::SmallInt => DataType::Int16,
            SqlType::Integer => DataType::Int32,
            SqlType::BigInt => DataType::Int64,
            SqlType::Real => DataType::Float32,
            SqlType::DoublePrecision => DataType::Float64,
            SqlType::Numeric { precision, scale } => {
                if *precision <= SqlType::NUMERIC_PRECISION_MAX {
                    DataType::Decimal128(*precision, *scale)
                } else {
                    DataType::Decimal256(*precision, *scale)
                }
            }
            SqlType::Text | SqlType::Varchar(_) | SqlType::Jsonb => DataType::Utf8,
            SqlType::Bytea => DataType::Binary,
            SqlType::Date => DataType::Date32,
            SqlType::Time => DataType::Time64(TimeUnit::Microsecond),
            SqlType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            SqlType::Timestamptz => {
                DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
            }
            SqlType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            SqlType::Uuid => DataType::FixedSizeBinary(16),
            SqlType::Array(element) => DataType::List(Arc::new(element.to_inner_field("item"))),
            SqlType::Struct(fields) => DataType::Struct(
                fields
                    .iter()
                    .map(|field| field.sql_type.to_inner_field(&field.name))
                    .collect::<Fields>(),
            ),
        }
    }

    /// The Arrow field that carries a column of this type.
    pub fn to_field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.data_type(), nullable);
        match self.marker() {
            Some(marker) => field.with_metadata(HashMap::from([(TYPE_KEY.to_string(), marker)])),
            None => field,
        }
    }

    /// The field of an element or member. It has no varchar marker: Arrow counts an inner field's
    /// metadata as part of the outer data type, and `varchar[]` would not compare with `text[]`.
    fn to_inner_field(&self, name: &str) -> Field {
        match self {
            SqlType::Varchar(_) => SqlType::Text.to_field(name, true),
            other => other.to_field(name, true),
        }
    }

    /// The value under [`TYPE_KEY`], where the Arrow type alone does not tell.
    fn marker(&self) -> Option<String> {
        match self {
            SqlType::Uuid => Some("uuid".to_string()),
            SqlType::Jsonb => Some("jsonb".to_string()),
            SqlType::Varchar(None) => Some("varchar".to_string()),
            SqlType::Varchar(Some(length)) => Some(format!("varchar({length})")),
            _ => None,
        }
    }

    /// The SQL type of any Arrow field, the canonical ones and all that a plan may produce.
    ///
    /// Types that Postgres lacks widen to the next that holds all their values: `UInt32` is
    /// `bigint`, `UInt64` `numeric(20,0)`, a duration an interval, a map an array of pairs, and
    /// what has no SQL shape at all (a union) is shown as text.
    ///
    /// # Errors
    /// 0A000 when the field is marked with a type that this version does not know.
    pub fn of(field: &Field) -> Result<SqlType> {
        if let Some(marker) = field.metadata().get(TYPE_KEY) {
            let is_text = matches!(
                field.data_type(),
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
            );
            match (marker.as_str(), field.data_type()) {
                ("uuid", DataType::FixedSizeBinary(16)) => return Ok(SqlType::Uuid),
                ("jsonb", _) if is_text => return Ok(SqlType::Jsonb),
                (varchar, _) if is_text => match SqlType::parse(varchar) {
                    Ok(marked @ SqlType::Varchar(_)) => return Ok(marked),
                    _ => return Err(unknown_marker(field, marker)),
                },
                // An expression may keep the metadata of an argument but not its type (a count
                // over a uuid column): the data are right, the marker is stale.
                _ => {}
            }
        }
        SqlType::of_data_type(field.data_type())
    }

    /// The name of a data type's SQL type, for messages: `bigint`, `numeric`, `text[]`.
    pub fn name_of(data_type: &DataType) -> String {
        match SqlType::of_data_type(data_type) {
            Ok(SqlType::Numeric { .. }) => "numeric".to_string(),
            Ok(sql_type) => sql_type.to_string(),
            Err(_) => "unknown".to_string(),
        }
    }

    fn of_data_type(data_type: &DataType) -> Result<SqlType> {
        Ok(match data_type {
            DataType::Boolean => SqlType::Boolean,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => SqlType::SmallInt,
            DataType::Int32 | DataType::UInt16 => SqlType::Integer,
            DataType::Int64 | DataType::UInt32 => SqlType::BigInt,
            DataType::UInt64 => SqlType::Numeric {
                precision: 20,
                scale: 0,
            },
            DataType::Float16 | DataType::Float32 => SqlType::Real,
            DataType::Float64 => SqlType::DoublePrecision,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => SqlType::Numeric {
                precision: *precision,
                scale: *scale,
            },
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => SqlType::Text,
            // Functions drop metadata, and nothing else makes sixteen fixed bytes.
            DataType::FixedSizeBinary(16) => SqlType::Uuid,
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => SqlType::Bytea,
            DataType::Date32 | DataType::Date64 => SqlType::Date,
            DataType::Time32(_) | DataType::Time64(_) => SqlType::Time,
            DataType::Timestamp(_, None) => SqlType::Timestamp,
            DataType::Timestamp(_, Some(_)) => SqlType::Timestamptz,
            DataType::Interval(_) | DataType::Duration(_) => SqlType::Interval,
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::FixedSizeList(element, _)
            | DataType::ListView(element)
            | DataType::LargeListView(element)
            | DataType::Map(element, _) => SqlType::Array(Box::new(SqlType::of(element)?)),
            DataType::Struct(fields) => SqlType::Struct(
                fields
                    .iter()
                    .map(|field| {
                        Ok(StructField {
                            name: field.name().clone(),
                            sql_type: SqlType::of(field)?,
                        })
                    })
                    .collect::<Result<_>>()?,
            ),
            DataType::Dictionary(_, value) => SqlType::of_data_type(value)?,
            DataType::RunEndEncoded(_, value) => SqlType::of(value)?,
            DataType::Null | DataType::Union(_, _) => SqlType::Text,
        })
    }
}

fn unknown_marker(field: &Field, marker: &str) -> Error {
    Error::unsupported(format!(
        "column \"{}\" has type \"{marker}\", which this version does not know",
        field.name()
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};

    use crate::types::{SqlType, StructField, TYPE_KEY};

    fn every_type() -> Vec<SqlType> {
        let member = |name: &str, sql_type| StructField {
            name: name.to_string(),
            sql_type,
        };
        vec![
            SqlType::Boolean,
            SqlType::SmallInt,
            SqlType::Integer,
            SqlType::BigInt,
            SqlType::Real,
            SqlType::DoublePrecision,
            SqlType::NUMERIC,
            SqlType::Numeric {
                precision: 5,
                scale: 2,
            },
            SqlType::Text,
            SqlType::Varchar(None),
            SqlType::Varchar(Some(20)),
            SqlType::Bytea,
            SqlType::Date,
            SqlType::Time,
            SqlType::Timestamp,
            SqlType::Timestamptz,
            SqlType::Interval,
            SqlType::Uuid,
            SqlType::Jsonb,
            SqlType::Array(Box::new(SqlType::Array(Box::new(SqlType::Uuid)))),
            SqlType::Struct(vec![
                member("a", SqlType::Jsonb),
                member("odd name", SqlType::Array(Box::new(SqlType::BigInt))),
            ]),
        ]
    }

    #[test]
    fn a_field_carries_its_type() {
        for sql_type in every_type() {
            let field = sql_type.to_field("c", true);
            assert_eq!(SqlType::of(&field).unwrap(), sql_type);
        }
    }

    #[test]
    fn a_printed_type_reads_back() {
        for sql_type in every_type() {
            assert_eq!(SqlType::parse(&sql_type.to_string()).unwrap(), sql_type);
        }
    }

    #[test]
    fn varchar_in_an_array_is_text() {
        let field = SqlType::Array(Box::new(SqlType::Varchar(Some(3)))).to_field("c", true);
        assert_eq!(SqlType::of(&field).unwrap().to_string(), "text[]");
    }

    #[test]
    fn a_stale_marker_is_ignored_and_an_unknown_one_refused() {
        let mark = |data_type, marker: &str| {
            let pair = (TYPE_KEY.to_string(), marker.to_string());
            SqlType::of(&Field::new("c", data_type, true).with_metadata([pair].into()))
        };
        assert_eq!(mark(DataType::Int64, "uuid").unwrap(), SqlType::BigInt);
        assert_eq!(mark(DataType::LargeUtf8, "jsonb").unwrap(), SqlType::Jsonb);
        assert_eq!(
            mark(DataType::Utf8, "hstore").unwrap_err().state().code(),
            "0A000"
        );
    }

    #[test]
    fn types_that_postgres_lacks_widen() {
        let item = |data_type| Arc::new(Field::new("item", data_type, true));
        let pair = Fields::from(vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::Int64, true),
        ]);
        let entries = Arc::new(Field::new("entries", DataType::Struct(pair), false));
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        for (data_type, name) in [
            (DataType::Int8, "smallint"),
            (DataType::UInt8, "smallint"),
            (DataType::UInt16, "integer"),
            (DataType::UInt32, "bigint"),
            (DataType::UInt64, "numeric(20,0)"),
            (DataType::Float16, "real"),
            (DataType::Decimal256(76, 3), "numeric(76,3)"),
            (DataType::Utf8View, "text"),
            (DataType::BinaryView, "bytea"),
            (DataType::FixedSizeBinary(3), "bytea"),
            (DataType::Date64, "date"),
            (DataType::Time32(TimeUnit::Second), "time without time zone"),
            (DataType::Duration(TimeUnit::Second), "interval"),
            (DataType::Interval(IntervalUnit::DayTime), "interval"),
            (DataType::Null, "text"),
            (dictionary, "text"),
            (DataType::LargeList(item(DataType::UInt32)), "bigint[]"),
            (DataType::FixedSizeList(item(DataType::Utf8), 2), "text[]"),
            (
                DataType::Map(entries, false),
                "struct<key text, value bigint>[]",
            ),
        ] {
            let field = Field::new("c", data_type, true);
            assert_eq!(SqlType::of(&field).unwrap().to_string(), name);
        }
    }
}
