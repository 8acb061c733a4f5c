//! Rows as bytes that compare as the rows are ordered.
//!
//! ```text
//!   input      k  name  x         partition k, ORDER BY x DESC
//!   a row      7  'ab'  30
//!   group      7                  in the table of groups, once
//!   bytes      [30 inverted]['ab']     the order columns, then the others, in arrow's row format
//! ```
//!
//! The bytes are the row: its columns are read from them again. Partition columns are in the
//! group's key, once for all its rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};

use crate::delta::{KeyBatch, KeyTable, arrow_error};
use crate::error::{Error, Result};
use crate::operator::rows::canonical;

/// A column that rows are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderColumn {
    pub column: usize,
    pub options: SortOptions,
}

/// Where the columns of a row are.
pub(in crate::operator) struct Layout {
    input: SchemaRef,
    partition: Vec<usize>,
    /// The input's columns in the order in which the bytes have them.
    columns: Vec<usize>,
    /// Of the first column alone, of the order columns, and of all.
    first: RowConverter,
    order: RowConverter,
    whole: RowConverter,
    order_width: usize,
    /// What the first byte of a value that is not NULL is; no longer value begins with another.
    first_byte: u8,
}

/// The rows of a batch as bytes.
pub(in crate::operator) struct Encoded {
    pub bytes: BinaryArray,
    /// How many bytes of each are of the order columns, where that was asked for.
    pub class_lengths: Vec<u32>,
}

impl Layout {
    /// # Errors
    /// 0A000, when values of a column have no order.
    pub fn new(
        input: &SchemaRef,
        partition: &[usize],
        order_columns: &[OrderColumn],
    ) -> Result<Layout> {
        let mut columns: Vec<usize> = Vec::new();
        let mut options: Vec<SortOptions> = Vec::new();
        for order in order_columns {
            // The second time it decides nothing, and within a group its columns are all equal.
            if !columns.contains(&order.column) && !partition.contains(&order.column) {
                columns.push(order.column);
                options.push(order.options);
            }
        }
        let order_width = columns.len();
        for column in 0..input.fields().len() {
            if !columns.contains(&column) && !partition.contains(&column) {
                columns.push(column);
                options.push(SortOptions {
                    descending: false,
                    nulls_first: false,
                });
            }
        }
        let field = |at: usize| {
            let data_type = input.field(columns[at]).data_type().clone();
            SortField::new_with_options(data_type, options[at])
        };
        let converter = |width: usize| {
            RowConverter::new((0..width).map(field).collect()).map_err(|cause| {
                Error::unsupported(format!("rows without an order cannot be ranked: {cause}"))
            })
        };
        let first_byte = match columns.first() {
            Some(&column) => first_byte(input.field(column).data_type(), options[0]),
            None => 0,
        };
        Ok(Layout {
            input: input.clone(),
            partition: partition.to_vec(),
            first: converter(order_width.min(1))?,
            order: converter(order_width)?,
            whole: converter(columns.len())?,
            columns,
            order_width,
            first_byte,
        })
    }

    /// An empty table of groups.
    pub fn groups(&self) -> Result<KeyTable> {
        let types = self.partition.iter();
        let types = types.map(|&column| self.input.field(column).data_type().clone());
        let types: Vec<DataType> = types.collect();
        match types.is_empty() {
            // Without partition columns all rows have one key.
            true => KeyTable::new(&[DataType::Boolean]),
            false => KeyTable::new(&types),
        }
    }

    /// The groups' keys of some rows.
    pub fn keys(&self, groups: &KeyTable, rows: &RecordBatch) -> Result<KeyBatch> {
        let columns: Vec<ArrayRef> = match self.partition.is_empty() {
            true => vec![Arc::new(BooleanArray::from(vec![true; rows.num_rows()]))],
            false => {
                let columns = self.partition.iter();
                columns.map(|&column| rows.column(column).clone()).collect()
            }
        };
        KeyBatch::new(groups, &columns)
    }

    pub fn encode(&self, rows: &RecordBatch, has_classes: bool) -> Result<Encoded> {
        let columns = self.columns.iter();
        let columns: Vec<ArrayRef> = columns
            .map(|&column| canonical(rows.column(column)))
            .collect();
        let class_lengths = match (has_classes, self.order_width) {
            (false, _) => Vec::new(),
            (true, 0) => vec![0; rows.num_rows()],
            (true, width) => {
                let order = self.order.convert_columns(&columns[..width]);
                let order = order.map_err(arrow_error)?;
                let lengths = order.iter().map(|row| row.data().len());
                let lengths = lengths.map(|length| u32::try_from(length).map_err(|_| too_long()));
                lengths.collect::<Result<_>>()?
            }
        };
        let bytes = match columns.is_empty() {
            true => BinaryArray::from_iter_values(vec![&[][..]; rows.num_rows()]),
            false => {
                let rows = self.whole.convert_columns(&columns).map_err(arrow_error)?;
                rows.try_into_binary().map_err(|_| too_long())?
            }
        };
        Ok(Encoded {
            bytes,
            class_lengths,
        })
    }

    /// Values of the first order column as the bytes of a row begin with.
    pub fn encode_first(&self, column: &ArrayRef) -> Result<Rows> {
        let columns = [canonical(column)];
        self.first.convert_columns(&columns).map_err(arrow_error)
    }

    /// The rows of some bytes in some groups, as the input has them.
    pub fn decode<'a>(
        &self,
        bytes: impl Iterator<Item = &'a [u8]>,
        groups: &KeyTable,
        of_groups: &[u32],
    ) -> Result<RecordBatch> {
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.input.fields().len()];
        if !self.columns.is_empty() {
            let parser = self.whole.parser();
            let rows = bytes.map(|bytes| parser.parse(bytes));
            let decoded = self.whole.convert_rows(rows).map_err(arrow_error)?;
            for (&column, array) in self.columns.iter().zip(decoded) {
                columns[column] = Some(array);
            }
        }
        if !self.partition.is_empty() {
            let keys = groups.columns(of_groups)?;
            for (&column, array) in self.partition.iter().zip(keys) {
                columns[column] = Some(array);
            }
        }
        let columns = columns.into_iter();
        let columns = columns.map(|column| column.expect("a column is in the bytes or the key"));
        // Read from bytes, a column may be of the same type in another dress.
        let schema: SchemaRef = Arc::new(Schema::new(self.input.fields().clone()));
        let options = RecordBatchOptions::new().with_row_count(Some(of_groups.len()));
        RecordBatch::try_new_with_options(schema, columns.collect(), &options).map_err(arrow_error)
    }

    /// The eight bytes of a row's bytes that decide most comparisons: those behind the first one,
    /// which nearly always says only that a value is not NULL. Of two rows the one with the lesser
    /// number is the lesser; rows with equal numbers may be anything.
    #[inline]
    pub fn prefix(&self, bytes: &[u8]) -> u64 {
        let Some((&first, rest)) = bytes.split_first() else {
            return 0;
        };
        match first.cmp(&self.first_byte) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Greater => u64::MAX,
            std::cmp::Ordering::Equal => match rest.first_chunk::<8>() {
                Some(chunk) => u64::from_be_bytes(*chunk),
                None => {
                    let mut chunk = [0; 8];
                    chunk[..rest.len()].copy_from_slice(rest);
                    u64::from_be_bytes(chunk)
                }
            },
        }
    }
}

fn first_byte(data_type: &DataType, options: SortOptions) -> u8 {
    let byte = match data_type {
        DataType::Utf8 | DataType::Binary | DataType::List(_) => 2,
        _ => return 1,
    };
    if options.descending { !byte } else { byte }
}

fn too_long() -> Error {
    Error::new(
        crate::error::SqlState::OUT_OF_MEMORY,
        "the rows of a batch are too long to be ranked",
    )
}
