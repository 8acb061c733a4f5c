//! `connector = 'datagen'`: rows of made-up values, each column by its own rule.
//!
//! | option | default | |
//! | --- | --- | --- |
//! | `rows` (`number.of.rows`) | endless | number of rows in all |
//! | `rate` (`rows.per.second`) | none: at once | rows a second that become readable |
//! | `event_rate` | `rate`, else 1000 | rows in a second of a time sequence |
//! | `starts_at` | the first reader | wall clock before which no row is readable |
//! | `start_time` | 2024-01-01T00:00:00Z | where time sequences begin |
//! | `seed` | 0 | |
//! | `partitions` | 1 | row n is in partition n modulo this |
//! | `fields.c.kind` | see [`column`] | `random` or `sequence` |
//! | `fields.c.min`, `fields.c.max` | by type | bounds of random values, both included |
//! | `fields.c.start`, `fields.c.end` | 0 and the type's | a sequence starts over behind its end |
//! | `fields.c.length` | 10 | letters or bytes of random texts and bytea |
//! | `fields.c.distinct` | no bound | how many different values random ones have at most |
//! | `fields.c.seed` | the source's | |
//!
//! Row n is a function of the options and n; the offset of row n is n.

mod column;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::base::limits::{GENERATOR_EVENTS_MAX, GENERATOR_PARTITIONS_MAX, GENERATOR_RATE_MAX};
use crate::base::{Clock, Offset, PartitionId};
use crate::connector::datagen::column::{ColumnRule, Times};
use crate::connector::generator::options::Options;
use crate::connector::generator::pace::Pace;
use crate::connector::generator::reader::{Generated, RowMaker};
use crate::connector::generator::timeline::Timeline;
use crate::connector::{Bounds, ReadRange, Reader, SourceConnector};
use crate::error::{Error, Result};

/// A source of made-up rows.
pub struct DatagenConnector {
    generated: Generated,
    columns: Vec<Arc<ColumnRule>>,
}

impl DatagenConnector {
    /// A source with these columns; of the options only the connector's own are expected.
    ///
    /// # Errors
    /// 22023 for an option that does not exist or has a bad value, 0A000 for a column type that is
    /// not made up.
    pub fn new(fields: &[Field], options: &[(String, String)]) -> Result<Self> {
        DatagenConnector::with_clock(fields, options, Clock::system())
    }

    /// As [`DatagenConnector::new`], paced by the given clock.
    ///
    /// # Errors
    /// As [`DatagenConnector::new`].
    pub fn with_clock(
        fields: &[Field],
        options: &[(String, String)],
        clock: Clock,
    ) -> Result<Self> {
        /// 2024-01-01T00:00:00Z.
        const START_MICROS: i64 = 1_704_067_200_000_000;
        const EVENT_RATE: u64 = 1_000;
        let fingerprint = fingerprint(fields, options);
        let mut options = Options::new("datagen", options);
        let end = match options.count("rows", GENERATOR_EVENTS_MAX)? {
            None => options.count("number.of.rows", GENERATOR_EVENTS_MAX)?,
            rows => rows,
        };
        let rate = match options.count("rate", GENERATOR_RATE_MAX)? {
            None => options.count("rows.per.second", GENERATOR_RATE_MAX)?,
            rate => rate,
        };
        let event_rate = options.count("event_rate", GENERATOR_RATE_MAX)?.or(rate);
        let starts_at = options.time("starts_at")?;
        let times = Times {
            start_micros: options.time("start_time")?.unwrap_or(START_MICROS),
            rate: event_rate.unwrap_or(EVENT_RATE),
        };
        let seed = options.parsed("seed", "a whole number")?.unwrap_or(0);
        let partitions = options
            .count("partitions", GENERATOR_PARTITIONS_MAX)?
            .unwrap_or(1);
        let mut columns = Vec::with_capacity(fields.len());
        for (purpose, field) in (1..).zip(fields) {
            columns.push(Arc::new(ColumnRule::new(
                field,
                &mut options,
                seed,
                purpose,
                times,
            )?));
        }
        options.finish()?;

        let partitions = u32::try_from(partitions)
            .map_err(|_| Error::internal("the bound on partitions is above 32 bits"))?;
        let events = end.unwrap_or(GENERATOR_EVENTS_MAX);
        let timeline = Arc::new(Timeline::new(partitions, 1, 0..1, events));
        let pace = Arc::new(Pace::new(clock, rate, starts_at, timeline.partitions()));
        let generated = Generated {
            timeline,
            pace,
            is_endless: end.is_none(),
            fingerprint,
        };
        Ok(DatagenConnector { generated, columns })
    }
}

/// Equal for equal rows.
fn fingerprint(fields: &[Field], options: &[(String, String)]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for field in fields {
        hasher.update(field.name().as_bytes());
        hasher.update(field.data_type().to_string().as_bytes());
    }
    for (name, value) in options {
        hasher.update(name.as_bytes());
        hasher.update(value.as_bytes());
    }
    hasher.finalize()
}

impl SourceConnector for DatagenConnector {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        self.generated.partitions()
    }

    fn bounds(&self, partitions: &[PartitionId]) -> Result<Vec<Bounds>> {
        self.generated.bounds(partitions)
    }

    fn startup(&self, partitions: &[PartitionId]) -> Result<Vec<Offset>> {
        self.generated.startup(partitions)
    }

    fn reader(&self, ranges: Vec<ReadRange>, columns: &[usize]) -> Result<Box<dyn Reader>> {
        let columns: Vec<_> = columns
            .iter()
            .map(|&place| Arc::clone(&self.columns[place]))
            .collect();
        let fields: Vec<_> = columns
            .iter()
            .map(|column| Arc::clone(column.field()))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        self.generated
            .reader(ranges, Box::new(Rows { columns, schema }))
    }
}

/// Makes rows of some of the columns.
struct Rows {
    columns: Vec<Arc<ColumnRule>>,
    schema: SchemaRef,
}

impl RowMaker for Rows {
    fn make(&mut self, numbers: &[u64]) -> Result<RecordBatch> {
        let arrays = self.columns.iter().map(|column| column.make(numbers));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(numbers.len()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|error| Error::internal(format!("a batch of made-up rows: {error}")))
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
