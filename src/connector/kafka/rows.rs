//! Records to rows: the payload's columns from the decoder, the metadata columns beside them.
//!
//! ```text
//!   full schema      auction  bidder  price  k(key)  o(offset)
//!   columns asked    0                2              4
//!   decoder          auction          price
//!   metadata                                         o
//!   rows             auction          price          o
//! ```

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use crate::connector::kafka::metadata::{MetadataBuilder, MetadataColumn, check};
use crate::connector::kafka::native::Message;
use crate::error::{Error, Result};
use crate::format::{Decoder, OnError};

/// Makes a decoder for the payload columns with the given indices of the source's full schema, in
/// rising order; called once per reader.
pub type DecoderFactory = Arc<dyn Fn(&[usize]) -> Result<Box<dyn Decoder>> + Send + Sync>;

/// What a source's rows are made of.
#[derive(Clone)]
pub struct RowLayout {
    /// Every column of the source, in order.
    pub schema: SchemaRef,
    /// Those that do not come from the payload.
    pub metadata: Vec<MetadataColumn>,
    pub decoder: DecoderFactory,
    /// What becomes of metadata that a column cannot show; the decoder knows it for its own.
    pub on_error: OnError,
}

impl RowLayout {
    /// Checks that the metadata columns are there and have types that can show them.
    pub(super) fn check(&self) -> Result<()> {
        check(&self.metadata, &self.schema)
    }
}

/// Builds batches of the columns asked for.
pub(super) struct RowBuilder {
    schema: SchemaRef,
    /// For each column of `schema`, where it comes from.
    places: Vec<Place>,
    decoder: Box<dyn Decoder>,
    /// The decoder's columns, as the source's full schema numbers them.
    payload: Vec<usize>,
    metadata: Vec<MetadataBuilder>,
    on_error: OnError,
}

enum Place {
    Payload(usize),
    Metadata(usize),
}

impl RowBuilder {
    pub(super) fn new(layout: &RowLayout, columns: &[usize]) -> Result<Self> {
        let schema = layout
            .schema
            .project(columns)
            .map_err(|error| Error::internal(format!("columns of a reader: {error}")))?;
        let (mut places, mut payload, mut metadata) = (Vec::new(), Vec::new(), Vec::new());
        for column in columns {
            match layout
                .metadata
                .iter()
                .find(|included| included.column == *column)
            {
                Some(included) => {
                    places.push(Place::Metadata(metadata.len()));
                    let field = layout.schema.field(*column);
                    metadata.push(MetadataBuilder::new(*included, field));
                }
                None => {
                    places.push(Place::Payload(payload.len()));
                    payload.push(*column);
                }
            }
        }
        let decoder = (layout.decoder)(&payload)?;
        Ok(RowBuilder {
            schema: Arc::new(schema),
            places,
            decoder,
            payload,
            metadata,
            on_error: layout.on_error,
        })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Adds a record whose payload is not NULL; returns the columns with bad values, rising, each
    /// with what is wrong with it. On `Err` nothing was added.
    pub(super) fn push(
        &mut self,
        record: &Message<'_>,
        payload: &[u8],
    ) -> Result<Vec<(usize, String)>, String> {
        let values = self.decoder.push(payload)?;
        let mut bad = Vec::new();
        for value in values {
            bad.push((self.payload[value.column], value.reason));
        }
        for column in &mut self.metadata {
            if let Some(reason) = column.objection(record)
                && self.on_error != OnError::Null
            {
                bad.push((column.place(), reason));
            }
            column.append(record);
        }
        if bad.len() > 1 {
            bad.sort_unstable_by_key(|(column, _)| *column);
        }
        Ok(bad)
    }

    /// The rows added since the last call.
    pub(super) fn finish(&mut self) -> Result<RecordBatch> {
        let count = self.decoder.rows();
        let payload = self.decoder.finish()?;
        let metadata: Vec<ArrayRef> = self.metadata.iter_mut().map(|c| c.finish()).collect();
        let column = |place: &Place| match place {
            Place::Payload(index) => Arc::clone(payload.column(*index)),
            Place::Metadata(index) => Arc::clone(&metadata[*index]),
        };
        let columns = self.places.iter().map(column).collect();
        // Without a column the count cannot be seen from the arrays.
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(self.schema(), columns, &options)
            .map_err(|error| Error::internal(format!("decoded columns do not fit: {error}")))
    }
}
