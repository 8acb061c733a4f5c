//! The rows of the errors relation that one source or view keeps, and what a checkpoint has of
//! them.
//!
//! A ring: row n is in slot n mod `ERROR_ROWS_MAX`, so a checkpoint writes the new rows only, and
//! they take the places of those that were dropped.
//!
//! ```text
//!   n        0  1  2  3  4            capacity 3: rows 0 and 1 are dropped, dropped = 2
//!   slot     0  1  2  0  1            on disk: slot 0 = row 3, 1 = row 4, 2 = row 2
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt32Type, UInt64Type};

use crate::base::limits::ERROR_ROWS_MAX;
use crate::error::{Error, Result, SqlState};
use crate::operator::{RowError, Scope, TableChange};

/// A record or row that was left out, as the errors relation shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorRow {
    pub at_micros: i64,
    pub partition: Option<u32>,
    pub offset: Option<u64>,
    pub reason: String,
    pub row: String,
}

impl ErrorRow {
    /// A row that an expression of a view failed on.
    pub fn of_row(error: RowError, at_micros: i64) -> ErrorRow {
        ErrorRow {
            at_micros,
            partition: None,
            offset: None,
            reason: error.reason,
            row: error.row,
        }
    }

    fn bytes(&self) -> usize {
        size_of::<ErrorRow>() + self.reason.capacity() + self.row.capacity()
    }

    /// The record of a source that it is about.
    fn record(&self) -> Option<(u32, u64)> {
        self.partition.zip(self.offset)
    }
}

/// The errors of a relation, oldest first; a record is among them once.
#[derive(Debug, Default)]
pub struct ErrorLog {
    rows: VecDeque<ErrorRow>,
    bytes: usize,
    /// How many came before the first one that is kept.
    dropped: u64,
    /// The records that the rows are about.
    records: BTreeSet<(u32, u64)>,
    /// How many of all, dropped ones included, are on disk.
    saved: u64,
}

impl ErrorLog {
    pub fn rows(&self) -> impl Iterator<Item = &ErrorRow> {
        self.rows.iter()
    }

    /// Adds a row, in place of the oldest when the log is full; false for a record that is there.
    pub fn push(&mut self, row: ErrorRow) -> bool {
        if let Some(record) = row.record()
            && !self.records.insert(record)
        {
            return false;
        }
        if self.rows.len() >= ERROR_ROWS_MAX {
            let oldest = self.rows.pop_front();
            self.bytes -= oldest.as_ref().map_or(0, ErrorRow::bytes);
            if let Some(record) = oldest.and_then(|row| row.record()) {
                self.records.remove(&record);
            }
            self.dropped += 1;
        }
        self.bytes += row.bytes();
        self.rows.push_back(row);
        true
    }

    /// Bytes of the rows.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn end(&self) -> u64 {
        self.dropped + self.rows.len() as u64
    }

    /// The rows since the last call (`Scope::All`: all of them), for a checkpoint.
    pub fn changes(&mut self, scope: Scope) -> Result<Option<TableChange>> {
        let first = match scope {
            Scope::All => self.dropped,
            Scope::Changed => self.saved.max(self.dropped),
        };
        let end = self.end();
        self.saved = end;
        if first == end {
            return Ok(None);
        }
        let skipped = usize::try_from(first - self.dropped).expect("fewer than are kept");
        let rows: Vec<&ErrorRow> = self.rows.iter().skip(skipped).collect();
        let slot = |number: u64| {
            u32::try_from(number % ERROR_ROWS_MAX as u64).expect("the bound is below 2^32")
        };
        let rows = RecordBatch::try_new(
            schema(),
            vec![
                Arc::new(UInt64Array::from_iter_values(first..end)),
                Arc::new(Int64Array::from_iter_values(
                    rows.iter().map(|row| row.at_micros),
                )),
                Arc::new(
                    rows.iter()
                        .map(|row| row.partition)
                        .collect::<UInt32Array>(),
                ),
                Arc::new(rows.iter().map(|row| row.offset).collect::<UInt64Array>()),
                Arc::new(StringArray::from_iter_values(
                    rows.iter().map(|row| &row.reason),
                )),
                Arc::new(StringArray::from_iter_values(
                    rows.iter().map(|row| &row.row),
                )),
            ],
        );
        Ok(Some(TableChange {
            table: 0,
            slots: (first..end).map(slot).collect(),
            rows: rows.map_err(crate::delta::arrow_error)?,
            freed: Vec::new(),
        }))
    }

    /// The log that changes, in the order in which they were written, come to.
    ///
    /// # Errors
    /// XX001 for a block that is none of an errors relation.
    pub fn restored(changes: impl IntoIterator<Item = TableChange>) -> Result<ErrorLog> {
        let mut kept: BTreeMap<u32, (u64, ErrorRow)> = BTreeMap::new();
        for change in changes {
            if change.rows.schema() != schema() || change.rows.num_rows() != change.slots.len() {
                let message = "a checkpoint's errors have other columns";
                return Err(Error::new(SqlState::DATA_CORRUPTED, message));
            }
            let numbers = change.rows.column(0).as_primitive::<UInt64Type>();
            for (row, slot) in change.slots.iter().enumerate() {
                kept.insert(*slot, (numbers.value(row), row_of(&change.rows, row)));
            }
        }
        let mut rows: Vec<(u64, ErrorRow)> = kept.into_values().collect();
        rows.sort_by_key(|(number, _)| *number);
        let mut log = ErrorLog {
            dropped: rows.first().map_or(0, |(number, _)| *number),
            ..ErrorLog::default()
        };
        for (_, row) in rows {
            log.push(row);
        }
        log.saved = log.end();
        Ok(log)
    }
}

fn row_of(rows: &RecordBatch, row: usize) -> ErrorRow {
    let partition = rows.column(2).as_primitive::<UInt32Type>();
    let offset = rows.column(3).as_primitive::<UInt64Type>();
    ErrorRow {
        at_micros: rows.column(1).as_primitive::<Int64Type>().value(row),
        partition: partition.is_valid(row).then(|| partition.value(row)),
        offset: offset.is_valid(row).then(|| offset.value(row)),
        reason: rows.column(4).as_string::<i32>().value(row).to_string(),
        row: rows.column(5).as_string::<i32>().value(row).to_string(),
    }
}

/// Bytes on disk: what a checkpoint has of an errors relation.
fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("number", DataType::UInt64, false),
        Field::new("at", DataType::Int64, false),
        Field::new("partition", DataType::UInt32, true),
        Field::new("offset", DataType::UInt64, true),
        Field::new("reason", DataType::Utf8, false),
        Field::new("row", DataType::Utf8, false),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u64) -> ErrorRow {
        ErrorRow {
            at_micros: 7,
            partition: number.is_multiple_of(2).then_some(3),
            offset: Some(number),
            reason: format!("reason {number}"),
            row: String::new(),
        }
    }

    #[test]
    fn a_record_is_kept_once_and_the_oldest_goes_first() {
        let mut log = ErrorLog::default();
        let count = ERROR_ROWS_MAX as u64 + 5;
        for number in 0..count {
            assert!(log.push(row(number)));
        }
        assert!(!log.push(row((count - 1) & !1)), "it is there");
        assert!(log.push(row(0)), "it was dropped");
        assert_eq!(log.rows().count(), ERROR_ROWS_MAX);
        assert_eq!(log.dropped, 6);
    }

    #[test]
    fn what_a_checkpoint_has_comes_back() {
        let mut log = ErrorLog::default();
        let mut changes = Vec::new();
        assert!(log.changes(Scope::All).unwrap().is_none());
        for number in 0..ERROR_ROWS_MAX as u64 * 2 + 100 {
            log.push(row(number));
            if number % 4_001 == 0 {
                changes.extend(log.changes(Scope::Changed).unwrap());
            }
        }
        changes.extend(log.changes(Scope::Changed).unwrap());
        assert!(log.changes(Scope::Changed).unwrap().is_none());
        let back = ErrorLog::restored(changes).unwrap();
        assert!(back.rows().eq(log.rows()));
        assert_eq!((back.dropped, back.saved), (log.dropped, log.saved));
        let whole = log.changes(Scope::All).unwrap();
        assert!(ErrorLog::restored(whole).unwrap().rows().eq(log.rows()));
    }
}
