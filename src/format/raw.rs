//! `ENCODE BYTES`: the payload itself is the only column's value, as bytea or as text.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::error::{Error, Result, SqlState};
use crate::format::column::{Column, Reject};
use crate::format::text::{check_length, describe, push_bytes};
use crate::format::{BadValue, Decoder, OnError};
use crate::types::SqlType;

/// Takes payloads as they are; with no column it only counts them.
pub struct BytesDecoder {
    schema: SchemaRef,
    on_error: OnError,
    column: Option<Column>,
    rows: usize,
}

impl BytesDecoder {
    /// # Errors
    /// 42P16 when there is more than one column or it is neither `bytea` nor text.
    pub fn new(fields: Vec<Field>, on_error: OnError) -> Result<BytesDecoder> {
        let fields: Vec<_> = fields.into_iter().map(Arc::new).collect();
        let column = match &fields[..] {
            [] => None,
            [field] => Some(Column::new(Arc::clone(field))?),
            [_, second, ..] => return Err(refusal(second)),
        };
        if let Some(column) = &column
            && !matches!(
                column.sql_type(),
                SqlType::Bytea | SqlType::Text | SqlType::Varchar(_)
            )
        {
            return Err(refusal(column.field()));
        }
        Ok(BytesDecoder {
            schema: Arc::new(Schema::new(fields)),
            on_error,
            column,
            rows: 0,
        })
    }
}

fn refusal(field: &Field) -> Error {
    Error::new(
        SqlState::INVALID_TABLE_DEFINITION,
        format!(
            "column \"{}\" cannot be filled by ENCODE BYTES",
            field.name()
        ),
    )
    .hint("declare one column of type bytea or text for the payload")
}

fn push_payload(column: &mut Column, payload: &[u8]) -> std::result::Result<(), Reject> {
    if !matches!(column.sql_type(), SqlType::Bytea) {
        let text = std::str::from_utf8(payload)
            .map_err(|_| Reject::Because("is not valid UTF-8".to_string()))?;
        if text.contains('\0') {
            return Err(Reject::Because("has the character \\u0000".to_string()));
        }
        if let SqlType::Varchar(limit) = column.sql_type() {
            check_length(text, *limit)?;
        }
    }
    push_bytes(column, payload)
}

impl Decoder for BytesDecoder {
    fn push(&mut self, payload: &[u8]) -> std::result::Result<Vec<BadValue>, String> {
        let mut bad = Vec::new();
        if let Some(column) = &mut self.column
            && let Err(reject) = push_payload(column, payload)
        {
            column.truncate(self.rows);
            if self.on_error != OnError::Null || column.push_null().is_err() {
                column.push_stand_in();
                let reason = describe(column, payload, &reject);
                bad.push(BadValue { column: 0, reason });
            }
        }
        self.rows += 1;
        Ok(bad)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let arrays = self
            .column
            .iter_mut()
            .map(Column::finish)
            .collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.rows = 0;
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|error| Error::internal(format!("a decoded batch: {error}")))
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;

    fn decoder(sql_type: &str) -> Result<BytesDecoder> {
        let field = SqlType::parse(sql_type).unwrap().to_field("data", true);
        BytesDecoder::new(vec![field], OnError::Skip)
    }

    #[test]
    fn payloads_are_taken_as_they_are() {
        let mut bytes = decoder("bytea").unwrap();
        bytes.push(b"\xff\0").unwrap();
        assert_eq!(
            bytes
                .finish()
                .unwrap()
                .column(0)
                .as_binary::<i32>()
                .value(0),
            b"\xff\0"
        );
        let mut text = decoder("text").unwrap();
        let reason = "column \"data\": \u{fffd} is not valid UTF-8".to_string();
        assert_eq!(text.push(b"\xff"), Ok(vec![BadValue { column: 0, reason }]));
        assert_eq!(text.push(b"a\0").unwrap().len(), 1);
        assert_eq!(text.push("grün".as_bytes()), Ok(vec![]));
        let rows = text.finish().unwrap();
        assert_eq!(rows.column(0).null_count(), 2);
        assert_eq!(rows.column(0).as_string::<i32>().value(2), "grün");
    }

    #[test]
    fn only_one_column_of_bytes_or_text() {
        assert_eq!(
            decoder("bigint").err().unwrap().state(),
            SqlState::INVALID_TABLE_DEFINITION
        );
        let field = SqlType::Text.to_field("a", true);
        assert!(BytesDecoder::new(vec![field.clone(), field], OnError::Skip).is_err());
        let mut none = BytesDecoder::new(Vec::new(), OnError::Skip).unwrap();
        none.push(b"x").unwrap();
        assert_eq!(none.finish().unwrap().num_rows(), 1);
    }
}
