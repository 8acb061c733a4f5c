//! The embedded, durable topic as a source: partitions are logs of this server's own writes.
//!
//! ```text
//!   log records    [0 .. 3)  [3 .. 4)  [4 ............ 9)      one INSERT or COPY batch each
//!   from 1, boundaries 4, 6
//!   chunks           [1 ......... 4)[4 .. 6)[6 ..... 9)        rows of records joined, or a part
//! ```
//!
//! Rule: a chunk begins where the one before it ended and takes rows until a boundary, `until`,
//! `CHUNK_ROWS_MAX`, `TOPIC_CHUNK_BYTES_MAX` or the synced end stops it. From the same offset to
//! the same boundary it is therefore the same chunk, however the rows came in.
//!
//! Checksum: a row stands for its share of its record's payload, bytes `n * row / rows` to
//! `n * (row + 1) / rows` of `n`. A chunk's checksum is the CRC-32 of the shares of its rows in
//! order, its `bytes` their length. So the number depends on the range only, the numbers of
//! neighbouring chunks combine to that of both, and a record that is covered as a whole is summed
//! as a whole.
//!
//! Bounds: one record (`LOG_RECORD_BYTES_MAX`) per partition is kept decoded, and one chunk is
//! built. A chunk owns its memory: it keeps neither its record nor columns not asked for alive.
//!
//! Partitions take turns. Waiting is for one log at a time, so with several partitions the others
//! are looked at every few milliseconds (`TOPIC_WAIT_MS_MAX` when they have been silent for long).

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::concat;
use arrow::datatypes::{Schema, SchemaRef};
use crc32fast::Hasher;

use crate::base::limits::{CHUNK_ROWS_MAX, TOPIC_CHUNK_BYTES_MAX, TOPIC_WAIT_MS_MAX};
use crate::base::{Clock, Offset, PartitionId};
use crate::connector::{Bounds, Chunk, Polled, ReadRange, Reader, SourceConnector};
use crate::error::{Error, Result, SqlState};
use crate::storage::{LogCursor, LogReader, LogRecord, decode_batch};

/// How long partitions beside the one that is waited for are not looked at, at first.
const WAIT_MIN: Duration = Duration::from_millis(1);
const WAIT_MAX: Duration = Duration::from_millis(TOPIC_WAIT_MS_MAX);

/// A topic in the data directory: a log for each partition.
pub struct TopicConnector {
    schema: SchemaRef,
    logs: Vec<LogReader>,
    startup: TopicStartup,
    clock: Clock,
}

/// Where the first reading of a topic begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopicStartup {
    #[default]
    Earliest,
    Latest,
}

impl TopicConnector {
    /// A topic whose partition `n` is `logs[n]`. `schema` is the source's full schema; records
    /// hold at least those of its columns that are ever asked for, found by name.
    pub fn new(schema: SchemaRef, logs: Vec<LogReader>) -> Self {
        TopicConnector {
            schema,
            logs,
            startup: TopicStartup::Earliest,
            clock: Clock::system(),
        }
    }

    pub fn with_startup(mut self, startup: TopicStartup) -> Self {
        self.startup = startup;
        self
    }

    /// Uses another clock for the chunks' times of arrival.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    fn log(&self, partition: PartitionId) -> Result<&LogReader> {
        let index = usize::try_from(partition.0).expect("32 bits fit into an index");
        self.logs.get(index).ok_or_else(|| {
            Error::internal(format!(
                "the topic has {} partitions, not a partition {partition}",
                self.logs.len()
            ))
        })
    }
}

impl SourceConnector for TopicConnector {
    fn partitions(&self) -> Result<Vec<PartitionId>> {
        let count = u32::try_from(self.logs.len())
            .map_err(|_| Error::internal("a topic has less than 2^32 partitions"))?;
        Ok((0..count).map(PartitionId).collect())
    }

    fn bounds(&self, partitions: &[PartitionId]) -> Result<Vec<Bounds>> {
        let bounds = |partition: &PartitionId| {
            let log = self.log(*partition)?;
            // The start first: it only rises, and never beyond an end that is read after it.
            let start = log.start_offset();
            Ok(Bounds {
                start,
                end: log.end_offset(),
            })
        };
        partitions.iter().map(bounds).collect()
    }

    fn startup(&self, partitions: &[PartitionId]) -> Result<Vec<Offset>> {
        let bounds = self.bounds(partitions)?;
        let begin = |bounds: Bounds| match self.startup {
            TopicStartup::Earliest => bounds.start,
            TopicStartup::Latest => bounds.end,
        };
        Ok(bounds.into_iter().map(begin).collect())
    }

    fn reader(&self, ranges: Vec<ReadRange>, columns: &[usize]) -> Result<Box<dyn Reader>> {
        let schema = self
            .schema
            .project(columns)
            .map_err(|error| Error::internal(format!("columns of a reader: {error}")))?;
        let mut feeds = Vec::with_capacity(ranges.len());
        for range in ranges {
            let place = |error: Error| error.context(format!("partition {}", range.partition));
            let cursor = self.log(range.partition)?.read_from(range.from);
            feeds.push(Feed::new(cursor.map_err(place)?, range));
        }
        Ok(Box::new(TopicReader {
            schema: Arc::new(schema),
            clock: self.clock.clone(),
            alarm: Arc::default(),
            feeds,
            turn: 0,
            pause: WAIT_MIN,
            failure: None,
        }))
    }
}

struct TopicReader {
    schema: SchemaRef,
    clock: Clock,
    alarm: Arc<Alarm>,

    feeds: Vec<Feed>,
    /// The feed that is asked first.
    turn: usize,
    /// How long the next wait for one of several logs is.
    pause: Duration,
    /// The error that ended the reading.
    failure: Option<Error>,
}

/// What a waker rings. The flag is under a mutex because a finished reader waits for it.
#[derive(Default)]
struct Alarm {
    is_ringing: Mutex<bool>,
    rung: Condvar,
}

impl Alarm {
    fn ring(&self) {
        *self
            .is_ringing
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.rung.notify_all();
    }

    /// Waits for a ring, at most for `timeout`, and ends it; whether there was one.
    fn take(&self, timeout: Duration) -> bool {
        let ringing = self
            .is_ringing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (mut ringing, _) = self
            .rung
            .wait_timeout_while(ringing, timeout, |is_ringing| !*is_ringing)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *ringing)
    }
}

impl TopicReader {
    /// The next event of the first partition, in turn, that has one.
    fn advance(&mut self) -> Result<Option<Polled>> {
        let count = self.feeds.len();
        for index in (self.turn..count).chain(0..self.turn) {
            let feed = &mut self.feeds[index];
            let partition = feed.partition;
            let polled = feed
                .advance(&self.schema, &self.clock)
                .map_err(|error| error.context(format!("partition {partition}")))?;
            if polled.is_some() {
                self.turn = (index + 1) % count;
                return Ok(polled);
            }
        }
        Ok(None)
    }

    /// Waits for one log or, where nothing is left to read, for the waker.
    fn wait(&mut self, left: Duration) -> Result<()> {
        let count = self.feeds.len();
        let mut order = (self.turn..count).chain(0..self.turn);
        let Some(index) = order.find(|index| !self.feeds[*index].is_finished) else {
            if self.alarm.take(left) {
                self.alarm.ring();
            }
            return Ok(());
        };
        let is_only_one = order.all(|index| self.feeds[index].is_finished);
        let slice = if is_only_one { WAIT_MAX } else { self.pause };
        self.turn = (index + 1) % count;
        self.pause = (self.pause * 2).min(WAIT_MAX);
        self.feeds[index].cursor.wait(left.min(slice)).map(drop)
    }

    fn next_event(&mut self, timeout: Duration) -> Result<Polled> {
        let begun = Instant::now();
        loop {
            if let Some(polled) = self.advance()? {
                self.pause = WAIT_MIN;
                return Ok(polled);
            }
            let left = timeout.saturating_sub(begun.elapsed());
            if self.alarm.take(Duration::ZERO) || left.is_zero() {
                return Ok(Polled::Nothing);
            }
            self.wait(left)?;
        }
    }
}

impl Reader for TopicReader {
    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        // A cursor that failed looks like one at its end.
        if let Some(error) = &self.failure {
            return Err(error.clone());
        }
        let polled = self.next_event(timeout);
        self.failure = polled.as_ref().err().cloned();
        polled
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let alarm = Arc::clone(&self.alarm);
        Arc::new(move || alarm.ring())
    }
}

/// One partition that is being read.
struct Feed {
    partition: PartitionId,
    until: Option<Offset>,

    cursor: LogCursor,
    /// The record that holds `position`, if it was read already.
    open: Option<OpenRecord>,
    /// The first offset that was not reported yet.
    position: Offset,
    boundaries: VecDeque<Offset>,
    is_end_reported: bool,
    is_finished: bool,
}

impl Feed {
    fn new(cursor: LogCursor, range: ReadRange) -> Self {
        Feed {
            partition: range.partition,
            until: range.until,
            cursor,
            open: None,
            position: range.from,
            boundaries: range.boundaries,
            is_end_reported: false,
            is_finished: false,
        }
    }

    fn advance(&mut self, schema: &SchemaRef, clock: &Clock) -> Result<Option<Polled>> {
        if self.is_finished {
            return Ok(None);
        }
        if self.until.is_some_and(|until| self.position >= until) {
            self.is_finished = true;
            self.open = None;
            return Ok(Some(Polled::Finished(self.partition)));
        }
        if let Some(chunk) = self.next_chunk(schema, clock)? {
            self.is_end_reported = false;
            return Ok(Some(Polled::Chunk(chunk)));
        }
        if self.is_end_reported {
            return Ok(None);
        }
        self.is_end_reported = true;
        Ok(Some(Polled::AtEnd(self.partition, self.position)))
    }

    fn next_chunk(&mut self, schema: &SchemaRef, clock: &Clock) -> Result<Option<Chunk>> {
        let limit = self.limit();
        let is_replay = !self.boundaries.is_empty() || self.until.is_some();
        let mut gathered = Gathered::new(schema.fields().len());
        let mut to = self.position;
        while to < limit && gathered.bytes < TOPIC_CHUNK_BYTES_MAX {
            if self
                .open
                .as_ref()
                .is_none_or(|open| open.record.end() <= to)
            {
                self.open = match self.cursor.next().transpose()? {
                    Some(record) => Some(OpenRecord::decode(record, schema)?),
                    None => break,
                };
            }
            let open = self.open.as_ref().expect("a record was opened");
            to = gathered.take(open, to, limit)?;
        }
        if to == self.position {
            return Ok(None);
        }
        let from = std::mem::replace(&mut self.position, to);
        let bytes = gathered.bytes;
        let (rows, checksum) = gathered.finish(schema)?;
        Ok(Some(Chunk {
            partition: self.partition,
            from,
            to,
            rows,
            jumps: Vec::new(),
            weights: None,
            bad: Vec::new(),
            bad_rows: Vec::new(),
            skipped: 0,
            checksum,
            bytes,
            arrived_micros: if is_replay { 0 } else { clock.now_micros() },
        }))
    }

    /// Where a chunk that begins at `position` must end at the latest. Drops boundaries that are
    /// behind.
    fn limit(&mut self) -> Offset {
        while self
            .boundaries
            .front()
            .is_some_and(|next| *next <= self.position)
        {
            self.boundaries.pop_front();
        }
        let rows_max = u64::try_from(CHUNK_ROWS_MAX).expect("a bound fits 64 bits");
        let full = Offset(self.position.0.saturating_add(rows_max));
        let ends = self.boundaries.front().into_iter().chain(&self.until);
        ends.copied().fold(full, Offset::min)
    }
}

/// A record and the columns asked for of its rows.
struct OpenRecord {
    record: LogRecord,
    columns: Vec<ArrayRef>,
}

impl OpenRecord {
    fn decode(record: LogRecord, schema: &Schema) -> Result<OpenRecord> {
        let (batch, weights) = decode_batch(&record.payload)?;
        let damaged = |what: String| {
            let what = format!("the record at offset {} {what}", record.offset);
            Error::new(SqlState::DATA_CORRUPTED, what)
        };
        if weights.is_some() {
            return Err(damaged(
                "has weights, which a topic's rows never have".to_string(),
            ));
        }
        if u32::try_from(batch.num_rows()) != Ok(record.rows) {
            let held = batch.num_rows();
            return Err(damaged(format!(
                "stands for {} rows and holds {held}",
                record.rows
            )));
        }
        let stored = batch.schema_ref();
        let column = |field: &Arc<arrow::datatypes::Field>| {
            let (index, found) = stored
                .column_with_name(field.name())
                .ok_or_else(|| damaged(format!("has no column \"{}\"", field.name())))?;
            if found.data_type() != field.data_type() {
                let name = field.name();
                return Err(damaged(format!("has another type in column \"{name}\"")));
            }
            Ok(Arc::clone(batch.column(index)))
        };
        let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
        Ok(OpenRecord { record, columns })
    }

    /// The byte of the payload at which the share of the row with this index begins.
    fn share(&self, row: u64) -> usize {
        let bytes = u64::try_from(self.record.payload.len()).expect("a length fits 64 bits");
        // A record is at most 2^26 bytes long and has less than 2^32 rows.
        let at = bytes * row / u64::from(self.record.rows);
        usize::try_from(at).expect("it is at most the payload's length")
    }

    /// The row at which the share begins that holds the byte at `share` after `row`, at least the
    /// next one: how far rows of so many bytes reach.
    fn reach(&self, row: u64, bytes: usize) -> u64 {
        let all = self.record.payload.len().max(1);
        let end = self.share(row).saturating_add(bytes).min(all);
        let rows = u64::from(self.record.rows);
        let (end, all) = (
            u64::try_from(end).expect("a length fits 64 bits"),
            u64::try_from(all).expect("a length fits 64 bits"),
        );
        (end * rows / all).max(row + 1)
    }
}

/// The rows of a chunk that is being built.
struct Gathered {
    /// For each column its parts.
    columns: Vec<Vec<ArrayRef>>,
    rows: usize,
    bytes: usize,
    hasher: Hasher,
}

impl Gathered {
    fn new(columns: usize) -> Self {
        Gathered {
            columns: vec![Vec::new(); columns],
            rows: 0,
            bytes: 0,
            hasher: Hasher::new(),
        }
    }

    /// Takes rows of the record from offset `from` on, at least one and none at or after `limit`;
    /// returns the offset after the last one.
    fn take(&mut self, open: &OpenRecord, from: Offset, limit: Offset) -> Result<Offset> {
        let base = open.record.offset.0;
        assert!(
            base <= from.0,
            "a log yields the record that holds the offset"
        );
        let first = from.0 - base;
        let left = TOPIC_CHUNK_BYTES_MAX - self.bytes;
        let end = (limit.0.min(open.record.end().0) - base).min(open.reach(first, left));
        let index = |row: u64| {
            usize::try_from(row).map_err(|_| Error::internal("a record has too many rows"))
        };
        let (start, count) = (index(first)?, index(end - first)?);
        for (parts, column) in self.columns.iter_mut().zip(&open.columns) {
            parts.push(column.slice(start, count));
        }
        let share = &open.record.payload[open.share(first)..open.share(end)];
        self.hasher.update(share);
        self.bytes += share.len();
        self.rows += count;
        Ok(Offset(base + end))
    }

    /// The rows as one batch with memory of its own, and the checksum.
    fn finish(self, schema: &SchemaRef) -> Result<(RecordBatch, u32)> {
        let broken = |error| Error::internal(format!("rows of a topic do not join: {error}"));
        let join = |parts: Vec<ArrayRef>| {
            // A single array would be handed on as it is and keep its whole record in memory, so
            // an empty one goes with it.
            let empty = parts[0].slice(0, 0);
            let mut arrays: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
            if arrays.len() == 1 {
                arrays.push(&empty);
            }
            concat(&arrays).map_err(broken)
        };
        let columns = self.columns.into_iter().map(join).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let rows = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
            .map_err(broken)?;
        Ok((rows, self.hasher.finalize()))
    }
}
