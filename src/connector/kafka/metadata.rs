//! The columns that `INCLUDE key | partition | offset | timestamp | headers` adds to a source.

use std::ffi::CStr;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int32Builder, Int64Builder, ListBuilder, StringBuilder, StructBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};

use crate::connector::kafka::native::Message;
use crate::error::{Error, Result, SqlState};

/// What of a record, besides its payload, a column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataField {
    /// `bytea`, or `text` where the column is declared so.
    Key,
    /// `int`
    Partition,
    /// `bigint`
    Offset,
    /// `timestamptz` (or `timestamp`), NULL where the record has none.
    Timestamp,
    /// An array of `(key text, value bytea)`, in the record's order.
    Headers,
}

/// A metadata column and its place in the source's full schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataColumn {
    pub field: MetadataField,
    pub column: usize,
}

impl MetadataField {
    pub const NAMES: &[&str] = &["key", "partition", "offset", "timestamp", "headers"];

    /// The field behind a word after INCLUDE.
    pub fn parse(name: &str) -> Result<Self> {
        match name.to_ascii_lowercase().as_str() {
            "key" => Ok(MetadataField::Key),
            "partition" => Ok(MetadataField::Partition),
            "offset" => Ok(MetadataField::Offset),
            "timestamp" => Ok(MetadataField::Timestamp),
            "headers" => Ok(MetadataField::Headers),
            _ => Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("connector kafka has no \"{name}\" to include"),
            )
            .hint(format!("INCLUDE takes {}", MetadataField::NAMES.join(", ")))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            MetadataField::Key => "key",
            MetadataField::Partition => "partition",
            MetadataField::Offset => "offset",
            MetadataField::Timestamp => "timestamp",
            MetadataField::Headers => "headers",
        }
    }

    /// The type of the column where the user names none.
    pub fn data_type(self) -> DataType {
        match self {
            MetadataField::Key => DataType::Binary,
            MetadataField::Partition => DataType::Int32,
            MetadataField::Offset => DataType::Int64,
            MetadataField::Timestamp => {
                DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
            }
            MetadataField::Headers => {
                DataType::List(Arc::new(Field::new("item", header_type(), true)))
            }
        }
    }

    /// Whether a column of this type can show the field.
    fn accepts(self, data_type: &DataType) -> bool {
        match self {
            MetadataField::Key => matches!(data_type, DataType::Binary | DataType::Utf8),
            MetadataField::Timestamp => {
                matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _))
            }
            MetadataField::Headers => match data_type {
                DataType::List(item) => *item.data_type() == header_type(),
                _ => false,
            },
            MetadataField::Partition | MetadataField::Offset => *data_type == self.data_type(),
        }
    }
}

fn header_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Binary, true),
    ])
}

fn header_type() -> DataType {
    DataType::Struct(header_fields())
}

/// Checks that the columns exist and have types that can show their fields.
pub(super) fn check(columns: &[MetadataColumn], schema: &Schema) -> Result<()> {
    for MetadataColumn { field, column } in columns {
        let Some(found) = schema.fields().get(*column) else {
            return Err(Error::internal(format!(
                "metadata column {column} is not in the schema"
            )));
        };
        if !field.accepts(found.data_type()) {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "column \"{}\" cannot have this type for a record's {}",
                    found.name(),
                    field.name()
                ),
            ));
        }
    }
    Ok(())
}

/// Builds one metadata column.
pub(super) struct MetadataBuilder {
    place: usize,
    name: String,
    data_type: DataType,
    values: Values,
}

enum Values {
    KeyBytes(BinaryBuilder),
    KeyText(StringBuilder),
    Partition(Int32Builder),
    Offset(Int64Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Headers(ListBuilder<StructBuilder>),
}

impl MetadataBuilder {
    pub(super) fn new(included: MetadataColumn, column: &Field) -> Self {
        let values = match (included.field, column.data_type()) {
            (MetadataField::Key, DataType::Utf8) => Values::KeyText(StringBuilder::new()),
            (MetadataField::Key, _) => Values::KeyBytes(BinaryBuilder::new()),
            (MetadataField::Partition, _) => Values::Partition(Int32Builder::new()),
            (MetadataField::Offset, _) => Values::Offset(Int64Builder::new()),
            (MetadataField::Timestamp, data_type) => Values::Timestamp(
                TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()),
            ),
            (MetadataField::Headers, data_type) => {
                let list = ListBuilder::new(StructBuilder::from_fields(header_fields(), 0));
                Values::Headers(match data_type {
                    DataType::List(item) => list.with_field(Arc::clone(item)),
                    _ => list,
                })
            }
        };
        let (name, data_type) = (column.name().clone(), column.data_type().clone());
        MetadataBuilder {
            place: included.column,
            name,
            data_type,
            values,
        }
    }

    /// The column's place in the source's full schema.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// What in the record cannot be shown by this column.
    pub(super) fn objection(&self, record: &Message<'_>) -> Option<String> {
        let is_bad = match &self.values {
            Values::KeyText(_) => record.key().is_some_and(|key| str::from_utf8(key).is_err()),
            Values::Headers(_) => record
                .headers()
                .iter()
                .any(|(name, _)| name.to_str().is_err()),
            Values::KeyBytes(_)
            | Values::Partition(_)
            | Values::Offset(_)
            | Values::Timestamp(_) => false,
        };
        is_bad.then(|| format!("column \"{}\": the record's bytes are not UTF-8", self.name))
    }

    /// Appends the record's value; NULL stands for what [`MetadataBuilder::objection`] is against.
    pub(super) fn append(&mut self, record: &Message<'_>) {
        match &mut self.values {
            Values::KeyBytes(keys) => keys.append_option(record.key()),
            Values::KeyText(keys) => {
                keys.append_option(record.key().and_then(|key| str::from_utf8(key).ok()));
            }
            Values::Partition(partitions) => partitions.append_value(record.partition()),
            Values::Offset(offsets) => offsets.append_value(record.offset()),
            Values::Timestamp(times) => {
                // A time that microseconds cannot hold is shown as none, not as another one.
                times.append_option(
                    record
                        .timestamp_millis()
                        .and_then(|ms| ms.checked_mul(1000)),
                );
            }
            Values::Headers(lists) => append_headers(lists, &record.headers()),
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        let array: ArrayRef = match &mut self.values {
            Values::KeyBytes(keys) => Arc::new(keys.finish()),
            Values::KeyText(keys) => Arc::new(keys.finish()),
            Values::Partition(partitions) => Arc::new(partitions.finish()),
            Values::Offset(offsets) => Arc::new(offsets.finish()),
            Values::Timestamp(times) => Arc::new(times.finish()),
            Values::Headers(lists) => Arc::new(lists.finish()),
        };
        debug_assert_eq!(*array.data_type(), self.data_type);
        array
    }
}

fn append_headers(lists: &mut ListBuilder<StructBuilder>, headers: &[(&CStr, Option<&[u8]>)]) {
    const FIELDS: &str = "the struct is made of a text and a bytea";
    let items = lists.values();
    for (name, value) in headers {
        let names: &mut StringBuilder = items.field_builder(0).expect(FIELDS);
        names.append_option(name.to_str().ok());
        let values: &mut BinaryBuilder = items.field_builder(1).expect(FIELDS);
        values.append_option(*value);
        items.append(true);
    }
    lists.append(true);
}

#[cfg(test)]
mod tests {
    use super::{MetadataColumn, MetadataField, check};
    use arrow::datatypes::{DataType, Field, Schema};

    #[test]
    fn every_name_is_a_field_and_others_are_refused_with_the_list() {
        for name in MetadataField::NAMES {
            MetadataField::parse(&name.to_uppercase()).unwrap();
        }
        let error = MetadataField::parse("payload").unwrap_err();
        assert_eq!(error.state().code(), "22023");
        assert!(error.get_hint().unwrap().contains("key, partition, offset"));
    }

    #[test]
    fn a_column_of_another_type_is_refused() {
        let schema = Schema::new(vec![Field::new("o", DataType::Int32, true)]);
        let error = check(
            &[MetadataColumn {
                field: MetadataField::Offset,
                column: 0,
            }],
            &schema,
        );
        let error = error.unwrap_err();
        assert_eq!(error.state().code(), "42804");
        assert_eq!(
            error.message(),
            "column \"o\" cannot have this type for a record's offset"
        );
    }
}
