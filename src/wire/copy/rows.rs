//! Columns built from the fields of COPY's rows, and where in the input each error is.
//!
//! State: a builder per column, the rows and bytes in them, the number of the line that is read.
//! Bounds: a batch is due at `CHUNK_ROWS_MAX` rows or `COPY_BATCH_BYTES_MAX` bytes of fields.
//!
//! Example, `1⇥x` and `2⇥\N`: columns [1, 2] and ["x", NULL].

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use crate::base::limits::{CHUNK_ROWS_MAX, COPY_BATCH_BYTES_MAX};
use crate::error::{Error, Result, SqlState};
use crate::types::pg::{ColumnBuilder, DateTimeStyle, Format};
use crate::wire::copy::bad_format;

/// Characters of a value that an error quotes, as in Postgres.
const QUOTED_CHARACTERS_MAX: usize = 100;

/// The rows of a COPY that were decoded and not yet written.
pub(in crate::wire) struct CopyRows {
    schema: SchemaRef,
    /// The table's name, if the statement has one.
    relation: Option<String>,

    builders: Vec<ColumnBuilder>,
    rows: usize,
    bytes: usize,
    /// The line that was read last, from 1; rows in binary.
    line: u64,
}

impl CopyRows {
    pub(in crate::wire) fn new(
        schema: SchemaRef,
        relation: Option<String>,
        style: DateTimeStyle,
    ) -> Result<CopyRows> {
        let builders = schema
            .fields()
            .iter()
            .map(|field| ColumnBuilder::with_style(field, style))
            .collect::<Result<Vec<_>>>()?;
        Ok(CopyRows {
            schema,
            relation,
            builders,
            rows: 0,
            bytes: 0,
            line: 0,
        })
    }

    pub(in crate::wire) fn is_due(&self) -> bool {
        self.rows >= CHUNK_ROWS_MAX || self.bytes >= COPY_BATCH_BYTES_MAX
    }

    /// The rows so far, if there are any; the next begin a new batch.
    pub(in crate::wire) fn take(&mut self) -> Result<Option<RecordBatch>> {
        if self.rows == 0 {
            return Ok(None);
        }
        let columns = self
            .builders
            .iter_mut()
            .map(ColumnBuilder::finish)
            .collect::<Result<Vec<_>>>()?;
        // A table without columns has rows too.
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.rows = 0;
        self.bytes = 0;
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map(Some)
            .map_err(|error| Error::internal(format!("COPY built a wrong batch: {error}")))
    }

    /// How many fields a row has.
    pub(super) fn columns(&self) -> usize {
        self.builders.len()
    }

    pub(super) fn count_lines(&mut self, lines: u64) {
        self.line += lines;
    }

    /// Adds a field to the row that is read.
    pub(super) fn push(
        &mut self,
        column: usize,
        value: Option<&[u8]>,
        format: Format,
    ) -> Result<()> {
        let Some(builder) = self.builders.get_mut(column) else {
            return Err(bad_format("extra data after last expected column"));
        };
        let field = self.schema.field(column);
        if value.is_none() && !field.is_nullable() {
            return Err(self.at_column(
                column,
                value,
                Error::new(
                    SqlState::NOT_NULL_VIOLATION,
                    format!(
                        "null value in column \"{}\" violates not-null constraint",
                        field.name()
                    ),
                ),
            ));
        }
        self.bytes += value.map_or(1, <[u8]>::len);
        let pushed = builder.push(value, format);
        pushed.map_err(|error| {
            let quoted = value.filter(|_| format == Format::Text);
            self.at_column(column, quoted, error)
        })
    }

    /// Ends the row: it has this many fields.
    pub(super) fn end_row(&mut self, fields: usize) -> Result<()> {
        if fields < self.builders.len() {
            let name = self.schema.field(fields).name();
            return Err(bad_format(format!("missing data for column \"{name}\"")));
        }
        self.rows += 1;
        Ok(())
    }

    /// Says on which line an error is, unless it already says more.
    pub(super) fn at_line(&self, error: Error) -> Error {
        let place = self.place();
        match error.get_detail() {
            Some(detail) if detail.contains(&place) => error,
            _ => with_detail(error, place),
        }
    }

    fn at_column(&self, column: usize, value: Option<&[u8]>, error: Error) -> Error {
        let mut place = format!(
            "{}, column {}",
            self.place(),
            self.schema.field(column).name()
        );
        if let Some(value) = value {
            let text = String::from_utf8_lossy(value);
            let mut quoted: String = text.chars().take(QUOTED_CHARACTERS_MAX).collect();
            if quoted.len() < text.len() {
                quoted.push_str("...");
            }
            place.push_str(&format!(": \"{quoted}\""));
        }
        with_detail(error, place)
    }

    fn place(&self) -> String {
        match &self.relation {
            Some(relation) => format!("COPY {relation}, line {}", self.line),
            None => format!("COPY, line {}", self.line),
        }
    }
}

fn with_detail(error: Error, place: String) -> Error {
    match error.get_detail() {
        Some(detail) => {
            let both = format!("{detail}; {place}");
            error.detail(both)
        }
        None => error.detail(place),
    }
}
