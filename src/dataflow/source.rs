//! A source inside the step engine: its positions and its event time.
//!
//! A step takes whole chunks from the reader's queue; in the order taken, every row gets the
//! watermark that stood before it:
//!
//! ```text
//!                          W before   partition's W   source's W: min over active partitions
//!   run of p0   10:00:05   −          10:00:05        −
//!   run of p1   10:00:01   −          10:00:01        10:00:01
//!   run of p0   10:00:09   10:00:01   10:00:09        10:00:01
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};

use crate::base::{EventTime, ObjectId, Offset, PartitionId};
use crate::connector::factory::TimeOptions;
use crate::connector::{BadRecord, Chunk, ReadRange, SourceConnector};
use crate::dataflow::bad_rows::{BadCells, Cells, merged, nullable, record_of, records, without};
use crate::dataflow::errors::ErrorRow;
use crate::dataflow::reader::ReaderHandle;
use crate::delta::{DeltaBatch, Weights};
use crate::error::{Error, Result};
use crate::operator::Bounds;
use crate::operator::evaluate::evaluate;
use crate::plan::from_datafusion;
use crate::storage::Retention;

/// What the step engine must know of a source.
#[derive(Clone)]
pub struct SourceSpec {
    pub id: ObjectId,
    pub name: String,
    pub connector: Arc<dyn SourceConnector>,
    /// All columns, computed ones included.
    pub schema: SchemaRef,
    /// For each column how it is computed from decoded ones; `None` = it is decoded.
    pub computed: Vec<Option<Arc<dyn PhysicalExpr>>>,
    /// Columns that are the clock of the step that takes a row, rising; computed, of nothing.
    pub clocked: Vec<usize>,
    /// The event time's column and the watermark's expression, over all columns.
    pub watermark: Option<(usize, Arc<dyn PhysicalExpr>)>,
    /// Where each partition begins, resolved at CREATE SOURCE.
    pub startup: BTreeMap<PartitionId, Offset>,
    /// Microseconds without a row after which a partition that is at its end is idle; 0 = never.
    pub idle_timeout_micros: i64,
    pub time: TimeOptions,
    /// Whether rows come from this server's own writes.
    pub is_embedded: bool,
    /// The connector's name in CREATE SOURCE.
    pub connector_name: &'static str,
    /// What tells its topic from a later one of the same name, as it was at CREATE SOURCE.
    pub identity: Option<String>,
    /// Microseconds between two looks for new partitions; 0 = they are not looked for.
    pub watch_interval_micros: i64,
    /// What an embedded topic keeps.
    pub retention: Retention,
}

impl std::fmt::Debug for SourceSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SourceSpec({})", self.name)
    }
}

impl SourceSpec {
    /// Every partition as it is before its first row: it holds the watermark back until it has one,
    /// or is known to be empty.
    fn unread(&self) -> BTreeMap<PartitionId, PartitionState> {
        let unread = |(partition, offset): (&PartitionId, &Offset)| {
            (*partition, PartitionState::at(*offset))
        };
        self.startup.iter().map(unread).collect()
    }

    /// The columns to decode so that `wanted` can be had and time be told, rising.
    pub fn decoded(&self, wanted: &[usize]) -> Vec<usize> {
        let mut columns = Vec::new();
        let mut add = |column: usize| columns.extend(self.decoded_for(column));
        wanted.iter().copied().for_each(&mut add);
        if let Some((column, expr)) = &self.watermark {
            add(*column);
            collect_columns(expr)
                .iter()
                .for_each(|column| add(column.index()));
        }
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// The columns to decode for one column.
    fn decoded_for(&self, column: usize) -> Vec<usize> {
        match &self.computed[column] {
            None => vec![column],
            Some(expr) => collect_columns(expr)
                .iter()
                .map(|column| column.index())
                .collect(),
        }
    }
}

/// Turns chunks of a source into deltas and keeps its clock. One for the running source, one for
/// each
/// view that catches up on it.
pub struct SourceState {
    spec: SourceSpec,
    /// The columns that views use, rising; what the deltas have.
    wanted: Vec<usize>,
    schema: SchemaRef,
    /// For each wanted column how it is made, if it is generated.
    computed: Vec<Option<Computed>>,
    watermark_expr: Option<Arc<dyn PhysicalExpr>>,
    /// The event time, where it may not be too far ahead of the clock.
    time_expr: Option<Arc<dyn PhysicalExpr>>,
    /// The decoded columns that time is told by.
    time_inputs: Vec<usize>,
    pub partitions: BTreeMap<PartitionId, PartitionState>,
    watermark: EventTime,
    /// Up to when the watermark has followed the clock, microseconds; 0 = it never has.
    followed_micros: i64,
    /// The clock of the last step; the least number = there was none.
    clock_micros: i64,
    /// The columns whose bad values are counted for all that has been read: what a view that
    /// catches up finds in others is news.
    counted: BTreeSet<usize>,
    /// The watermark does not pass this: that of the running source while a view catches up on it.
    ceiling: EventTime,
}

/// A partition as far as it has been read.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct PartitionState {
    pub position: Offset,
    pub watermark: EventTime,
    pub is_idle: bool,
    /// Wall clock of the last row, microseconds.
    pub row_at_micros: i64,
    pub rows: u64,
    /// Records that something was wrong with, whether they were rows or not.
    #[serde(default)]
    pub bad: u64,
    /// Records that carried nothing to decode.
    #[serde(default)]
    pub skipped: u64,
    /// Rows that were too far ahead of the clock; they are among the bad records, too.
    #[serde(default)]
    pub rows_ahead: u64,
}

impl PartitionState {
    /// A partition that is to be read from an offset on.
    fn at(position: Offset) -> Self {
        PartitionState {
            position,
            watermark: EventTime::MIN,
            is_idle: false,
            row_at_micros: 0,
            rows: 0,
            bad: 0,
            skipped: 0,
            rows_ahead: 0,
        }
    }
}

/// What a chunk came to.
pub struct Taken {
    /// The rows of the chunk, less those without a time.
    pub delta: DeltaBatch,
    /// The rows that some scans must do without, rising.
    pub bad_cells: Vec<BadCells>,
    /// The records that something is wrong with, by offset.
    pub bad: Vec<BadRecord>,
}

/// How a generated column is made.
struct Computed {
    /// Over the decoded columns.
    expr: Arc<dyn PhysicalExpr>,
    /// The columns that it is made of.
    inputs: Vec<usize>,
}

/// A source as of the last step, for the system relations.
#[derive(Clone)]
pub struct SourceStatus {
    pub id: ObjectId,
    /// The connector's name in CREATE SOURCE.
    pub connector: &'static str,
    pub watermark: EventTime,
    pub partitions: BTreeMap<PartitionId, PartitionState>,
    /// Whether its watermark goes on by the clock now.
    pub follows_clock: bool,
    /// Partitions that wait because they are too far ahead of the slowest.
    pub held: BTreeSet<PartitionId>,
    /// Whether rows come from this server's own writes.
    pub is_embedded: bool,
    /// For each partition of an embedded topic the oldest offset there is.
    pub starts: BTreeMap<PartitionId, Offset>,
    /// Why there is no reader, where one should be.
    pub error: Option<Error>,
    /// The reader; `None` where no running view reads it, or rows come by writes.
    pub reader: Option<ReaderHandle>,
}

impl SourceState {
    pub fn new(spec: SourceSpec, wanted: Vec<usize>) -> Result<SourceState> {
        let mut state = SourceState {
            schema: spec.schema.clone(),
            computed: Vec::new(),
            watermark_expr: None,
            time_expr: None,
            time_inputs: spec.decoded(&[]),
            wanted: Vec::new(),
            partitions: spec.unread(),
            watermark: EventTime::MIN,
            followed_micros: 0,
            clock_micros: i64::MIN,
            counted: BTreeSet::new(),
            ceiling: EventTime::MAX,
            spec,
        };
        state.want(wanted)?;
        state.counted = state.made();
        Ok(state)
    }

    /// The schema of the deltas.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn spec(&self) -> &SourceSpec {
        &self.spec
    }

    pub fn wanted(&self) -> &[usize] {
        &self.wanted
    }

    pub fn decoded(&self) -> Vec<usize> {
        self.spec.decoded(&self.wanted)
    }

    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// For each column the least value that a later row can have and not be late.
    pub fn bounds(&self) -> Bounds {
        let mut bounds = Bounds::unknown(self.spec.schema.fields().len());
        if let Some((column, _)) = &self.spec.watermark
            && self.watermark > EventTime::MIN
        {
            bounds.0[*column] = Some(self.watermark);
        }
        // No later row comes at an earlier time.
        for &column in self
            .spec
            .clocked
            .iter()
            .filter(|_| self.clock_micros > i64::MIN)
        {
            bounds.0[column] = Some(EventTime(self.clock_micros));
        }
        bounds
    }

    /// Holds the watermark back to that of the running source.
    pub fn set_ceiling(&mut self, ceiling: EventTime) {
        self.ceiling = ceiling;
    }

    /// Changes which columns the deltas have.
    pub fn want(&mut self, wanted: Vec<usize>) -> Result<()> {
        let decoded = self.spec.decoded(&wanted);
        let narrow = self
            .spec
            .schema
            .project(&decoded)
            .map_err(crate::delta::arrow_error)?;
        let place = |expr: &Arc<dyn PhysicalExpr>, schema| {
            reassign_expr_columns(expr.clone(), schema).map_err(from_datafusion)
        };
        self.computed = wanted
            .iter()
            .map(|&column| {
                let Some(expr) = &self.spec.computed[column] else {
                    return Ok(None);
                };
                let inputs = self.spec.decoded_for(column);
                let expr = place(expr, &narrow)?;
                Ok(Some(Computed { expr, inputs }))
            })
            .collect::<Result<_>>()?;
        self.schema = Arc::new(
            self.spec
                .schema
                .project(&wanted)
                .map_err(crate::delta::arrow_error)?,
        );
        let time = self
            .spec
            .watermark
            .as_ref()
            .map(|(_, expr)| place(expr, &narrow))
            .transpose()?;
        self.watermark_expr = time;
        self.time_expr = match (&self.spec.watermark, self.spec.time.ahead_max_micros) {
            (Some((column, _)), Some(_)) => Some(match &self.spec.computed[*column] {
                Some(expr) => place(expr, &narrow)?,
                None => {
                    let name = self.spec.schema.field(*column).name();
                    let index = narrow.index_of(name).map_err(crate::delta::arrow_error)?;
                    Arc::new(Column::new(name, index))
                }
            }),
            _ => None,
        };
        self.wanted = wanted;
        let made = self.made();
        self.counted.retain(|column| made.contains(column));
        Ok(())
    }

    /// The columns that are decoded or computed.
    fn made(&self) -> BTreeSet<usize> {
        let decoded = self.decoded().into_iter();
        decoded.chain(self.wanted.iter().copied()).collect()
    }

    pub fn counted(&self) -> &BTreeSet<usize> {
        &self.counted
    }

    /// Bad values of these columns, too, are counted for all that has been read.
    pub fn add_counted(&mut self, columns: &BTreeSet<usize>) {
        self.counted.extend(columns);
    }

    /// Puts back positions and watermarks, who was idle, and up to when time has followed the
    /// clock: a replay goes on from there. Partitions of the source that are not among them have
    /// not been read.
    pub fn restore(
        &mut self,
        partitions: BTreeMap<PartitionId, PartitionState>,
        (watermark, followed_micros): (EventTime, i64),
    ) {
        self.partitions = self.spec.unread();
        self.partitions.extend(partitions);
        self.watermark = watermark;
        self.followed_micros = followed_micros;
    }

    /// Up to when the watermark has followed the clock, microseconds.
    pub fn followed_micros(&self) -> i64 {
        self.followed_micros
    }

    /// Whether the watermark goes on by the clock now: every partition is idle, and a row has said
    /// from which time on.
    pub fn follows_clock(&self) -> bool {
        self.spec.time.advances_when_idle
            && self.watermark > EventTime::MIN
            && self.partitions.values().all(|state| state.is_idle)
    }

    /// Takes note of a step's clock.
    pub fn tell_clock(&mut self, clock_micros: i64) {
        self.clock_micros = self.clock_micros.max(clock_micros);
    }

    /// The same for a step without rows of the source: where all is idle the watermark goes on by
    /// as much as the clock has since the last row.
    pub fn follow_clock(&mut self, clock_micros: i64) {
        self.tell_clock(clock_micros);
        if !self.follows_clock() {
            return;
        }
        let read = self.partitions.values().filter(|state| state.rows > 0);
        let last = read.map(|state| state.row_at_micros).max().unwrap_or(0);
        let passed = clock_micros.saturating_sub(last.max(self.followed_micros));
        if passed > 0 {
            let time = EventTime(self.watermark.0.saturating_add(passed));
            self.watermark = self.watermark.max(time.min(self.ceiling));
            self.followed_micros = clock_micros;
        }
    }

    /// The chunk without the rows that are further ahead of the clock than the source's
    /// `watermark.max_ahead`: they are bad records, and move no time. `None` if it has none.
    pub fn without_ahead(&mut self, chunk: &Chunk, clock_micros: i64) -> Result<Option<Chunk>> {
        let Some((times, rows)) = self.ahead(chunk, clock_micros)? else {
            return Ok(None);
        };
        if rows.is_empty() {
            return Ok(None);
        }
        let mut ahead = BTreeMap::new();
        for row in rows {
            let time = array_value_to_string(&times, row as usize).unwrap_or_default();
            let reason = format!("event time {time} is too far ahead of the clock");
            ahead.insert(row, record_of(chunk, row, reason));
        }
        let state = self.partition(chunk.partition);
        state.rows_ahead += ahead.len() as u64;
        without(chunk, ahead).map(Some)
    }

    fn partition(&mut self, partition: PartitionId) -> &mut PartitionState {
        let unread = || PartitionState::at(Offset::default());
        self.partitions.entry(partition).or_insert_with(unread)
    }

    /// The event times of a chunk's rows and which of them are too far ahead of the clock, rising;
    /// `None` where none ever is.
    fn ahead(&self, chunk: &Chunk, clock_micros: i64) -> Result<Option<(ArrayRef, Vec<u32>)>> {
        let (Some(expr), Some(ahead), Some((column, _))) = (
            &self.time_expr,
            self.spec.time.ahead_max_micros,
            &self.spec.watermark,
        ) else {
            return Ok(None);
        };
        let narrow = self.narrow(chunk)?;
        let data_type = self.spec.schema.field(*column).data_type();
        // One whose time fails is told by `take`.
        let times = evaluate(expr, data_type, &narrow.as_ref().unwrap_or(chunk).rows)?;
        let latest = clock_micros.saturating_add(ahead);
        let micros = times.values.as_primitive::<TimestampMicrosecondType>();
        let is_ahead = |(_, time): &(u32, Option<i64>)| time.is_some_and(|time| time > latest);
        let rows = (0..).zip(micros).filter(is_ahead).map(|(row, _)| row);
        let rows = rows.collect();
        Ok(Some((times.values, rows)))
    }

    /// The greatest watermark of a chunk's rows, without those that a step with this clock would
    /// leave out as too far ahead of it.
    pub fn watermark_of(&self, chunk: &Chunk, clock_micros: i64) -> Result<Option<EventTime>> {
        let narrow = self.narrow(chunk)?;
        let (times, _) = self.times(narrow.as_ref().unwrap_or(chunk))?;
        let Some(times) = times else { return Ok(None) };
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let ahead = self.ahead(chunk, clock_micros)?;
        let ahead = ahead.map_or_else(Vec::new, |(_, rows)| rows);
        let mut ahead = ahead.into_iter().peekable();
        let near = (0..)
            .zip(times)
            .filter(|(row, _)| ahead.next_if_eq(row).is_none());
        Ok(near.filter_map(|(_, time)| time).max().map(EventTime))
    }

    /// Takes in a partition that was added to the topic. It holds the watermark back, which stays
    /// where it is, until it has a row or is known to be empty.
    pub fn add_partition(&mut self, partition: PartitionId, from: Offset) {
        self.spec.startup.entry(partition).or_insert(from);
        let new = || PartitionState::at(from);
        self.partitions.entry(partition).or_insert_with(new);
    }

    /// The partitions that are known.
    pub fn known(&self) -> BTreeSet<PartitionId> {
        self.partitions.keys().copied().collect()
    }

    /// Forgets everything that was read.
    pub fn reset(&mut self) {
        self.restore(BTreeMap::new(), (EventTime::MIN, 0));
    }

    /// Where a reader goes on, for the given partitions.
    pub fn ranges(&self, partitions: &[PartitionId]) -> Vec<ReadRange> {
        let from = |partition: &PartitionId| {
            self.partitions.get(partition).map_or_else(
                || {
                    self.spec
                        .startup
                        .get(partition)
                        .copied()
                        .unwrap_or_default()
                },
                |state| state.position,
            )
        };
        partitions
            .iter()
            .map(|partition| ReadRange::tail(*partition, from(partition)))
            .collect()
    }

    /// Goes on behind a chunk whose rows could not be taken.
    pub fn skip(&mut self, chunk: &Chunk) {
        if let Some(state) = self.partitions.get_mut(&chunk.partition) {
            state.position = state.position.max(chunk.to);
        }
    }

    /// The rows of a chunk as a delta of the wanted columns, and the clock moved by them. The chunk
    /// has the decoded columns, and may have more.
    pub fn take(&mut self, chunk: &Chunk, clock_micros: i64) -> Result<Taken> {
        let narrowed = self.narrow(chunk)?;
        let chunk = narrowed.as_ref().unwrap_or(chunk);
        let (times, timeless) = self.times(chunk)?;
        if !timeless.is_empty() {
            return self.take(&without(chunk, timeless)?, clock_micros);
        }
        self.clock_micros = self.clock_micros.max(clock_micros);
        let (batch, cells) = self.columns(chunk)?;
        let bad = match cells.is_empty() {
            true => chunk.bad.clone(),
            false => merged(chunk.bad.clone(), records(chunk, &cells)),
        };
        let state = self.partition(chunk.partition);
        state.position = chunk.to;
        state.rows += chunk.rows.num_rows() as u64;
        state.bad += bad.len() as u64;
        state.skipped += chunk.skipped;
        if chunk.rows.num_rows() > 0 || !chunk.bad.is_empty() {
            state.row_at_micros = clock_micros;
        }
        state.is_idle &= chunk.rows.num_rows() == 0;
        let watermarks = self.advance(chunk.partition, times.as_ref());
        let weights = match &chunk.weights {
            None => Weights::Ones,
            Some(weights) => Weights::Each(weights.to_vec().into()),
        };
        let bad_cells = cells.into_iter().map(|(row, columns)| BadCells {
            row,
            columns: columns.into_keys().collect(),
        });
        Ok(Taken {
            delta: DeltaBatch::new(batch, weights).with_watermarks(watermarks),
            bad_cells: bad_cells.collect(),
            bad,
        })
    }

    /// The watermark's times of the rows; and the rows that have none because a value that time is
    /// told by is bad.
    fn times(&self, chunk: &Chunk) -> Result<(Option<ArrayRef>, BTreeMap<u32, BadRecord>)> {
        let mut timeless = BTreeMap::new();
        for bad in &chunk.bad_rows {
            let is_told_by = |(column, _): &(usize, String)| self.time_inputs.contains(column);
            if bad.values.iter().any(is_told_by) {
                let reasons: Vec<&str> = bad.values.iter().map(|(_, why)| why.as_str()).collect();
                let record = record_of(chunk, bad.row, reasons.join("; "));
                timeless.insert(bad.row, record);
            }
        }
        let (Some(expr), Some((column, _))) = (&self.watermark_expr, &self.spec.watermark) else {
            return Ok((None, timeless));
        };
        let data_type = self.spec.schema.field(*column).data_type();
        let times = evaluate(expr, data_type, &chunk.rows)?;
        for failure in times.failures {
            let reason = format!("watermark: {}", failure.reason);
            timeless
                .entry(failure.row)
                .or_insert_with(|| record_of(chunk, failure.row, reason));
        }
        Ok((Some(times.values), timeless))
    }

    /// The chunk with only the decoded columns, if it has more: it was read for other views too.
    fn narrow(&self, chunk: &Chunk) -> Result<Option<Chunk>> {
        let decoded = self.decoded();
        if decoded.len() == chunk.rows.num_columns() {
            return Ok(None);
        }
        let schema = chunk.rows.schema();
        let places = decoded
            .iter()
            .map(|&column| schema.index_of(self.spec.schema.field(column).name()))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(crate::delta::arrow_error)?;
        let rows = chunk
            .rows
            .project(&places)
            .map_err(crate::delta::arrow_error)?;
        let mut bad_rows = chunk.bad_rows.clone();
        for bad in &mut bad_rows {
            bad.values
                .retain(|(column, _)| decoded.binary_search(column).is_ok());
        }
        bad_rows.retain(|bad| !bad.values.is_empty());
        Ok(Some(Chunk {
            rows,
            bad_rows,
            ..chunk.clone()
        }))
    }

    /// The wanted columns, and which of their values are bad. Where some are, every column can be
    /// NULL.
    fn columns(&self, chunk: &Chunk) -> Result<(RecordBatch, Cells)> {
        let decoded = chunk.rows.schema();
        let mut cells = self.marked(chunk);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.wanted.len());
        for (&column, computed) in self.wanted.iter().zip(&self.computed) {
            let field = self.spec.schema.field(column);
            if self.spec.clocked.contains(&column) {
                let clock =
                    TimestampMicrosecondArray::from_value(self.clock_micros, chunk.rows.num_rows());
                columns.push(Arc::new(clock.with_data_type(field.data_type().clone())));
                continue;
            }
            let Some(Computed { expr, .. }) = computed else {
                let index = decoded.index_of(field.name());
                let index = index.map_err(crate::delta::arrow_error)?;
                columns.push(chunk.rows.column(index).clone());
                continue;
            };
            let computed = evaluate(expr, field.data_type(), &chunk.rows)?;
            let mut note = |row: u32, reason: &str| {
                let reason = format!("column \"{}\": {reason}", field.name());
                let row = cells.entry(row).or_default();
                row.entry(column).or_insert(Some(reason));
            };
            for failure in &computed.failures {
                note(failure.row, &failure.reason);
            }
            if !field.is_nullable() && computed.values.null_count() > 0 {
                let rows = (0..).zip(computed.values.nulls().into_iter().flatten());
                let rows = rows.filter(|(_, is_valid)| !is_valid);
                rows.for_each(|(row, _)| note(row, "NULL, but the column is NOT NULL"));
            }
            columns.push(computed.values);
        }
        let count = Some(chunk.rows.num_rows());
        let options = arrow::array::RecordBatchOptions::new().with_row_count(count);
        let schema = match cells.is_empty() {
            true => self.schema.clone(),
            false => nullable(&self.schema),
        };
        let batch = RecordBatch::try_new_with_options(schema, columns, &options);
        Ok((batch.map_err(crate::delta::arrow_error)?, cells))
    }

    /// What the reader says is bad, and the generated columns that are made of it.
    fn marked(&self, chunk: &Chunk) -> Cells {
        let mut cells = Cells::new();
        for bad in &chunk.bad_rows {
            let row = cells.entry(bad.row).or_default();
            for (column, reason) in &bad.values {
                row.insert(*column, Some(reason.clone()));
            }
            for (column, computed) in self.wanted.iter().zip(&self.computed) {
                let is_bad = |input: &usize| bad.values.iter().any(|(column, _)| column == input);
                if let Some(Computed { inputs, .. }) = computed
                    && inputs.iter().any(is_bad)
                {
                    row.insert(*column, None);
                }
            }
        }
        cells
    }

    /// Moves the watermark row by row; returns what it was before each.
    fn advance(
        &mut self,
        partition: PartitionId,
        times: Option<&ArrayRef>,
    ) -> Option<ScalarBuffer<i64>> {
        let times = times?.as_primitive::<TimestampMicrosecondType>();
        let others = self
            .partitions
            .iter()
            .filter(|(other, state)| **other != partition && !state.is_idle)
            .map(|(_, state)| state.watermark)
            .min()
            .unwrap_or(EventTime::MAX);
        let held = others.min(self.ceiling).0;
        let state = self
            .partitions
            .get_mut(&partition)
            .expect("the chunk's partition");
        let mut own = state.watermark.0;
        let mut source = self.watermark.0;
        let mut before = Vec::with_capacity(times.len());
        for row in 0..times.len() {
            before.push(source);
            if times.is_valid(row) {
                own = own.max(times.value(row));
            }
            // Also by a row without a time, which may have made its partition the only active one.
            source = source.max(own.min(held));
        }
        state.watermark = EventTime(own);
        self.watermark = EventTime(source);
        Some(before.into())
    }

    /// Marks a partition idle or active and moves the watermark to what the active ones allow.
    pub fn set_idle(&mut self, partition: PartitionId, is_idle: bool) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.is_idle = is_idle;
        }
        let active = self.partitions.values().filter(|state| !state.is_idle);
        // With every partition idle nothing is known and the watermark stays.
        if let Some(least) = active.map(|state| state.watermark).min() {
            self.watermark = self.watermark.max(least.min(self.ceiling));
        }
    }
}

/// A bad record as the errors relation keeps it.
pub fn error_row(bad: &BadRecord, at_micros: i64) -> ErrorRow {
    ErrorRow {
        at_micros,
        partition: Some(bad.partition.0),
        offset: Some(bad.offset.0),
        reason: bad.reason.clone(),
        row: String::from_utf8_lossy(&bad.raw).into_owned(),
    }
}
