//! A source inside the step engine: its reader, its positions and its event time.
//!
//! The reader thread polls and decodes into a bounded queue and pauses when it is full. A step
//! takes
//! whole chunks; in the order taken, every row gets the watermark that stood before it:
//!
//! ```text
//!                          W before   partition's W   source's W: min over active partitions
//!   run of p0   10:00:05   −          10:00:05        −
//!   run of p1   10:00:01   −          10:00:01        10:00:01
//!   run of p0   10:00:09   10:00:01   10:00:09        10:00:01
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};

use crate::base::limits::{READER_POLL, READER_RETRY, SOURCE_QUEUE_BYTES_MAX};
use crate::base::memory::{Account, Held};
use crate::base::{EventTime, Memory, ObjectId, Offset, PartitionId, task};
use crate::connector::{BadRecord, Chunk, Polled, ReadRange, SourceConnector};
use crate::dataflow::bad_rows::{BadCells, Cells, merged, nullable, record_of, records, without};
use crate::dataflow::errors::ErrorRow;
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
    /// The event time's column and the watermark's expression, over all columns.
    pub watermark: Option<(usize, Arc<dyn PhysicalExpr>)>,
    /// Where each partition begins, resolved at CREATE SOURCE.
    pub startup: BTreeMap<PartitionId, Offset>,
    /// Microseconds without a row after which a partition that is at its end is idle; 0 = never.
    pub idle_timeout_micros: i64,
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
    /// The decoded columns that time is told by.
    time_inputs: Vec<usize>,
    pub partitions: BTreeMap<PartitionId, PartitionState>,
    watermark: EventTime,
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
    /// Whether rows come from this server's own writes.
    pub is_embedded: bool,
    /// For each partition of an embedded topic the oldest offset there is.
    pub starts: BTreeMap<PartitionId, Offset>,
    /// Why there is no reader, where one should be.
    pub error: Option<Error>,
    /// The reader; `None` where no running view reads it, or rows come by writes.
    pub reader: Option<ReaderHandle>,
}

/// What whoever watches a reader sees of it.
#[derive(Clone)]
pub struct ReaderHandle(Arc<Shared>);

/// A reader at one moment.
#[derive(Clone, Debug, Default)]
pub struct ReaderStatus {
    /// The last error; none once reading goes on.
    pub error: Option<Error>,
    /// Whether it waits for room in its queue or in memory.
    pub is_paused: bool,
    /// Decoded bytes that wait for a step, by partition.
    pub queued_bytes: BTreeMap<PartitionId, usize>,
    /// Where partitions end, as far as the reader stands there.
    pub ends: BTreeMap<PartitionId, Offset>,
    /// When the oldest row came that is in no epoch yet, microseconds since 1970.
    pub waiting_since_micros: Option<i64>,
    /// How long ago the source was last heard of.
    pub silence: Duration,
}

impl ReaderHandle {
    pub fn status(&self) -> ReaderStatus {
        let queue = self.0.lock();
        let mut queued_bytes = BTreeMap::new();
        for chunk in &queue.chunks {
            *queued_bytes.entry(chunk.partition).or_default() += size(chunk);
        }
        let first = queue.chunks.front().map(|chunk| chunk.arrived_micros);
        ReaderStatus {
            error: queue.error.clone(),
            is_paused: queue.is_paused,
            queued_bytes,
            ends: queue.at_end.clone(),
            waiting_since_micros: queue.in_step_since_micros.or(first),
            silence: queue.heard.elapsed(),
        }
    }
}

impl SourceState {
    pub fn new(spec: SourceSpec, wanted: Vec<usize>) -> Result<SourceState> {
        let mut state = SourceState {
            schema: spec.schema.clone(),
            computed: Vec::new(),
            watermark_expr: None,
            time_inputs: spec.decoded(&[]),
            wanted: Vec::new(),
            partitions: spec.unread(),
            watermark: EventTime::MIN,
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

    /// Puts back positions and watermarks. Partitions of the source that are not among them have
    /// not been read.
    pub fn restore(
        &mut self,
        partitions: BTreeMap<PartitionId, PartitionState>,
        watermark: EventTime,
    ) {
        self.partitions = self.spec.unread();
        self.partitions.extend(partitions);
        self.watermark = watermark;
    }

    /// Takes in a partition that was added to the topic. It holds the watermark back, which stays
    /// where it is, until it has a row or is known to be empty.
    pub fn add_partition(&mut self, partition: PartitionId, from: Offset) {
        self.spec.startup.entry(partition).or_insert(from);
        let new = || PartitionState::at(from);
        self.partitions.entry(partition).or_insert_with(new);
    }

    /// Forgets everything that was read.
    pub fn reset(&mut self) {
        self.restore(BTreeMap::new(), EventTime::MIN);
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

    /// The rows of a chunk as a delta of the wanted columns, and the clock moved by them. The chunk
    /// has the decoded columns, and may have more.
    pub fn take(&mut self, chunk: &Chunk, clock_micros: i64) -> Result<Taken> {
        let narrowed = self.narrow(chunk)?;
        let chunk = narrowed.as_ref().unwrap_or(chunk);
        let (times, timeless) = self.times(chunk)?;
        if !timeless.is_empty() {
            return self.take(&without(chunk, timeless)?, clock_micros);
        }
        let (batch, cells) = self.columns(chunk)?;
        let bad = match cells.is_empty() {
            true => chunk.bad.clone(),
            false => merged(chunk.bad.clone(), records(chunk, &cells)),
        };
        let state = self
            .partitions
            .entry(chunk.partition)
            .or_insert_with(|| PartitionState::at(Offset::default()));
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
        let mut columns = Vec::with_capacity(self.wanted.len());
        for (&column, computed) in self.wanted.iter().zip(&self.computed) {
            let field = self.spec.schema.field(column);
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

/// A reader on its thread with the queue that it fills.
pub struct ReaderThread {
    shared: Arc<Shared>,
    waker: Arc<dyn Fn() + Send + Sync>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Room in the queue, or the end.
    drained: Condvar,
    is_stopped: AtomicBool,
}

struct Queue {
    chunks: VecDeque<Chunk>,
    /// The chunks' bytes.
    held: Held,
    /// When the oldest row came that a step has taken and not published.
    in_step_since_micros: Option<i64>,
    /// Whether the reader waits for room.
    is_paused: bool,
    /// When the source last answered.
    heard: Instant,
    at_end: BTreeMap<PartitionId, Offset>,
    finished: Vec<PartitionId>,
    error: Option<Error>,
    is_ended: bool,
}

impl ReaderThread {
    /// Starts reading; `wake` is called whenever there is something new.
    pub fn start(
        spec: &SourceSpec,
        ranges: Vec<ReadRange>,
        columns: &[usize],
        memory: &Arc<Memory>,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<ReaderThread> {
        let mut reader = spec.connector.reader(ranges, columns)?;
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(memory)),
            drained: Condvar::new(),
            is_stopped: AtomicBool::new(false),
        });
        let waker = reader.waker();
        let inner = shared.clone();
        let name = spec.name.clone();
        let thread = task::spawn("reader", move || {
            while !inner.is_stopped.load(Ordering::Acquire) {
                let polled = reader.poll(READER_POLL);
                if !inner.offer(polled, &name) {
                    break;
                }
                wake();
            }
        });
        Ok(ReaderThread {
            shared,
            waker,
            thread: Some(thread),
        })
    }

    /// Takes whole chunks, in order, until the bounds are reached; at least one if there is one.
    pub fn take(&self, rows_max: usize, bytes_max: usize) -> Vec<Chunk> {
        let mut queue = self.shared.lock();
        let mut taken = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while let Some(chunk) = queue.chunks.front() {
            if !taken.is_empty()
                && (rows + chunk.rows.num_rows() > rows_max || bytes + size(chunk) > bytes_max)
            {
                break;
            }
            let chunk = queue.chunks.pop_front().expect("just seen");
            rows += chunk.rows.num_rows();
            bytes += size(&chunk);
            queue
                .in_step_since_micros
                .get_or_insert(chunk.arrived_micros);
            taken.push(chunk);
        }
        if !taken.is_empty() {
            let left = queue.held.bytes() - bytes;
            queue.held.set(left);
            self.shared.drained.notify_all();
        }
        taken
    }

    /// Whether chunks wait.
    pub fn is_filled(&self) -> bool {
        !self.shared.lock().chunks.is_empty()
    }

    /// Says that everything taken so far is published.
    pub fn is_published(&self) {
        self.shared.lock().in_step_since_micros = None;
    }

    /// For those who watch it.
    pub fn handle(&self) -> ReaderHandle {
        ReaderHandle(self.shared.clone())
    }

    /// Partitions whose end the reader has confirmed, with the position there.
    pub fn at_end(&self) -> BTreeMap<PartitionId, Offset> {
        self.shared.lock().at_end.clone()
    }

    /// Partitions that were read to where they should stop.
    pub fn finished(&self) -> Vec<PartitionId> {
        self.shared.lock().finished.clone()
    }

    /// The last error; `Err` when the reader has ended by it.
    pub fn error(&self) -> Result<Option<Error>> {
        let queue = self.shared.lock();
        match (&queue.error, queue.is_ended) {
            (Some(error), true) => Err(error.clone()),
            (error, _) => Ok(error.clone()),
        }
    }
}

impl Drop for ReaderThread {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.shared.drained.notify_all();
        (self.waker)();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a reader panicked");
        }
    }
}

impl Queue {
    /// Whether there is room for a chunk, here and in the server's memory.
    fn has_room(&self) -> bool {
        self.held.bytes() < SOURCE_QUEUE_BYTES_MAX && !self.held.memory().is_tight()
    }

    fn new(memory: &Arc<Memory>) -> Queue {
        Queue {
            chunks: VecDeque::new(),
            held: memory.hold(Account::Queues),
            in_step_since_micros: None,
            is_paused: false,
            heard: Instant::now(),
            at_end: BTreeMap::new(),
            finished: Vec::new(),
            error: None,
            is_ended: false,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what was polled into the queue, waiting for room; false when the reader is to end.
    fn offer(&self, polled: Result<Polled>, name: &str) -> bool {
        let mut queue = self.lock();
        if polled.is_ok() {
            queue.heard = Instant::now();
        }
        match polled {
            Ok(Polled::Chunk(chunk)) => {
                while !queue.has_room() && !self.is_stopped.load(Ordering::Acquire) {
                    queue.is_paused = true;
                    let waited = self.drained.wait_timeout(queue, READER_POLL);
                    queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                queue.is_paused = false;
                queue.error = None;
                queue.at_end.remove(&chunk.partition);
                let bytes = queue.held.bytes() + size(&chunk);
                queue.held.set(bytes);
                queue.chunks.push_back(chunk);
            }
            Ok(Polled::AtEnd(partition, offset)) => {
                queue.error = None;
                queue.at_end.insert(partition, offset);
            }
            Ok(Polled::Finished(partition)) => queue.finished.push(partition),
            Ok(Polled::Nothing) => {}
            Err(error) if error.is_retryable() => {
                if queue.error.as_ref() != Some(&error) {
                    tracing::warn!(source = name, %error, "reading is interrupted");
                }
                queue.error = Some(error);
                let waited = self.drained.wait_timeout(queue, READER_RETRY);
                drop(waited);
            }
            Err(error) => {
                tracing::error!(source = name, %error, "reading has ended");
                queue.error = Some(error);
                queue.is_ended = true;
                return false;
            }
        }
        true
    }
}

/// The bytes that a chunk holds.
pub(super) fn size(chunk: &Chunk) -> usize {
    let bad: usize = chunk.bad.iter().map(|bad| bad.raw.len()).sum();
    let rows: usize = chunk.bad_rows.iter().map(|bad| bad.raw.len()).sum();
    chunk.rows.get_array_memory_size() + bad + rows
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
