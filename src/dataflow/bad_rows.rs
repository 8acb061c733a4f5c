//! Rows with values that cannot be used, and who does without them.
//!
//! Rule: a row is left out by the scans that read one of its bad columns and taken by all others;
//! it moves the watermark either way. A row whose event time cannot be told is left out by
//! everybody. So what a view sees follows from its query and the input, never from which other
//! views there are.
//!
//! ```text
//!   record             {"a":1,"b":2,"ts":…}   {"a":"x","b":3,"ts":…}   {"a":4,"b":5,"ts":"?"}
//!   view of a          1
//!   view of b          2                      3
//!   errors relation                           column "a"               column "ts"
//! ```
//!
//! Where nothing is bad all of this is a look at an empty list.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;

use crate::base::limits::ERROR_RECORD_BYTES_MAX;
use crate::connector::{BadRecord, BadRow, Chunk, Jumps};
use crate::delta::{DeltaBatch, arrow_error};
use crate::error::Result;

/// The bad values of a row of a delta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadCells {
    pub row: u32,
    /// The columns of the source, rising.
    pub columns: Vec<usize>,
}

/// For each row its bad columns, each with what is wrong. A generated column that cannot be
/// computed because of another one has nothing of its own to say.
pub(super) type Cells = BTreeMap<u32, BTreeMap<usize, Option<String>>>;

/// The delta's rows for a scan of some of the source's columns.
pub fn usable(delta: DeltaBatch, bad: &[BadCells], scanned: &[usize]) -> Result<DeltaBatch> {
    let is_read = |column: &usize| scanned.contains(column);
    let mut keep = vec![true; delta.len()];
    for cells in bad.iter().filter(|cells| cells.columns.iter().any(is_read)) {
        keep[cells.row as usize] = false;
    }
    match keep.contains(&false) {
        true => delta.filter(&BooleanArray::from(keep)),
        false => Ok(delta),
    }
}

/// Rows of which the bad ones are gone, under a schema that says NOT NULL again.
pub fn tightened(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    with_nullability(rows, |column| schema.field(column).is_nullable())
}

/// A schema in which every column can be NULL: that of rows some of which are bad.
pub(super) fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields: Vec<Field> = fields
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn with_nullability(
    rows: &RecordBatch,
    is_nullable: impl Fn(usize) -> bool,
) -> Result<RecordBatch> {
    let schema = rows.schema();
    let fields = schema.fields().iter().enumerate();
    let fields: Vec<Field> = fields
        .map(|(column, field)| field.as_ref().clone().with_nullable(is_nullable(column)))
        .collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema, rows.columns().to_vec(), &options)
        .map_err(arrow_error)
}

/// The records behind rows with bad cells, for the errors relation.
pub(super) fn records(chunk: &Chunk, cells: &Cells) -> Vec<BadRecord> {
    let record = |(row, columns): (&u32, &BTreeMap<usize, Option<String>>)| {
        let reasons: Vec<&str> = columns.values().flatten().map(String::as_str).collect();
        BadRecord {
            columns: columns.keys().copied().collect(),
            ..record_of(chunk, *row, reasons.join("; "))
        }
    };
    cells.iter().map(record).collect()
}

/// A row as a bad record for everybody.
pub(super) fn record_of(chunk: &Chunk, row: u32, reason: String) -> BadRecord {
    BadRecord {
        partition: chunk.partition,
        offset: chunk.offset_of(row),
        raw: raw(chunk, row),
        reason,
        columns: Vec::new(),
    }
}

/// The bytes of the row's record where the reader kept them, else the row's values as text.
fn raw(chunk: &Chunk, row: u32) -> Vec<u8> {
    if let Some(bad) = find(&chunk.bad_rows, row) {
        return bad.raw.clone();
    }
    let text = |column: &ArrayRef| match column.is_null(row as usize) {
        true => "NULL".to_string(),
        false => array_value_to_string(column, row as usize).unwrap_or_default(),
    };
    let texts: Vec<String> = chunk.rows.columns().iter().map(text).collect();
    let mut raw = texts.join(", ").into_bytes();
    raw.truncate(ERROR_RECORD_BYTES_MAX);
    raw
}

fn find(bad_rows: &[BadRow], row: u32) -> Option<&BadRow> {
    let place = bad_rows.binary_search_by_key(&row, |bad| bad.row).ok()?;
    Some(&bad_rows[place])
}

/// Both lists as one, by offset.
pub(super) fn merged(mut all: Vec<BadRecord>, more: Vec<BadRecord>) -> Vec<BadRecord> {
    if !more.is_empty() {
        all.extend(more);
        all.sort_by_key(|bad| bad.offset);
    }
    all
}

/// The chunk with some of its rows turned into bad records.
pub(super) fn without(chunk: &Chunk, left_out: BTreeMap<u32, BadRecord>) -> Result<Chunk> {
    let count = u32::try_from(chunk.rows.num_rows()).expect("a chunk has fewer than 2^32 rows");
    let keep: BooleanArray = (0..count)
        .map(|row| Some(!left_out.contains_key(&row)))
        .collect();
    let rows = arrow::compute::filter_record_batch(&chunk.rows, &keep).map_err(arrow_error)?;
    let weights = chunk.weights.as_ref().map(|weights| {
        let kept = weights.iter().zip(keep.values()).filter(|(_, keep)| *keep);
        kept.map(|(weight, _)| *weight).collect()
    });
    let mut jumps = Jumps::from(chunk.from);
    let mut bad_rows = Vec::new();
    for row in (0..count).filter(|row| !left_out.contains_key(row)) {
        if let Some(bad) = find(&chunk.bad_rows, row) {
            let row = jumps.rows();
            bad_rows.push(BadRow { row, ..bad.clone() });
        }
        jumps.push(chunk.offset_of(row).0);
    }
    let bad = merged(chunk.bad.clone(), left_out.into_values().collect());
    Ok(Chunk {
        rows,
        weights,
        jumps: jumps.finish(chunk.to),
        bad,
        bad_rows,
        ..chunk.clone()
    })
}
