//! Chunks of made-up events: the connector and the reader that generators share.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::base::limits::{CHUNK_ROWS_MAX, GENERATOR_PAUSE};
use crate::base::{Offset, PartitionId};
use crate::connector::generator::pace::Pace;
use crate::connector::generator::timeline::Timeline;
use crate::connector::{Bounds, Chunk, Jumps, Polled, ReadRange, Reader};
use crate::error::{Error, Result};

/// Makes the rows of events, of some columns of a source.
pub(in crate::connector) trait RowMaker: Send {
    /// The rows of the events with the given numbers, in their order.
    ///
    /// # Errors
    /// Internal ones only.
    fn make(&mut self, numbers: &[u64]) -> Result<RecordBatch>;

    /// The schema of the rows.
    fn schema(&self) -> SchemaRef;
}

/// The events of a source and when they happen: what a connector needs besides its rows.
#[derive(Clone, Debug)]
pub(in crate::connector) struct Generated {
    pub timeline: Arc<Timeline>,
    pub pace: Arc<Pace>,
    pub is_endless: bool,
    /// What stands for the events' content in checksums: a hash of the options.
    pub fingerprint: u32,
}

impl Generated {
    pub fn partitions(&self) -> Result<Vec<PartitionId>> {
        let count = u32::try_from(self.timeline.partitions())
            .map_err(|_| Error::internal("more partitions than numbers for them"))?;
        Ok((0..count).map(PartitionId).collect())
    }

    pub fn bounds(&self, partitions: &[PartitionId]) -> Result<Vec<Bounds>> {
        let bounds = partitions.iter().map(|&partition| {
            let end = self
                .pace
                .end(&self.timeline, self.place(partition)?, self.is_endless);
            Ok(Bounds {
                start: Offset(0),
                end: Offset(end),
            })
        });
        bounds.collect()
    }

    /// Generators begin at their first event.
    pub fn startup(&self, partitions: &[PartitionId]) -> Result<Vec<Offset>> {
        Ok(vec![Offset(0); partitions.len()])
    }

    pub fn reader(
        &self,
        ranges: Vec<ReadRange>,
        maker: Box<dyn RowMaker>,
    ) -> Result<Box<dyn Reader>> {
        let mut progress = Vec::with_capacity(ranges.len());
        let mut happened = 0;
        for range in ranges {
            let place = self.place(range.partition)?;
            let known = range
                .boundaries
                .back()
                .copied()
                .unwrap_or(range.from)
                .max(range.from);
            let known = known.max(range.until.unwrap_or(known));
            happened = happened.max(known.0);
            self.pace.hand_out(place, range.from.0);
            progress.push(Progress {
                partition: range.partition,
                place,
                at: range.from.0,
                boundaries: range.boundaries,
                until: range.until.map(|offset| offset.0),
                replayed_to: known.0,
                has_reported_end: false,
                is_finished: false,
            });
        }
        self.pace.begin(happened.min(self.timeline.events()));
        Ok(Box::new(GeneratedReader {
            source: self.clone(),
            maker,
            waker: Arc::new(Waker::default()),
            progress,
            turn: 0,
            numbers: Vec::new(),
        }))
    }

    fn place(&self, partition: PartitionId) -> Result<usize> {
        let place = usize::try_from(partition.0).unwrap_or(usize::MAX);
        if place < self.timeline.partitions() {
            Ok(place)
        } else {
            Err(Error::internal(format!(
                "a generator has no partition {partition}"
            )))
        }
    }
}

/// Reads some partitions in turns.
struct GeneratedReader {
    source: Generated,
    maker: Box<dyn RowMaker>,
    waker: Arc<Waker>,

    progress: Vec<Progress>,
    /// The partition whose turn it is.
    turn: usize,
    numbers: Vec<u64>,
}

/// Where a partition's reading stands.
struct Progress {
    partition: PartitionId,
    place: usize,
    at: u64,
    boundaries: VecDeque<Offset>,
    until: Option<u64>,
    /// Events below this were read in an earlier life.
    replayed_to: u64,
    has_reported_end: bool,
    is_finished: bool,
}

/// Ends a waiting `poll`. A mutex because a condition variable needs one; it guards one bit.
#[derive(Default)]
struct Waker {
    is_woken: Mutex<bool>,
    changed: Condvar,
}

impl Waker {
    fn wake(&self) {
        *self.is_woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits for `wake`, at most `timeout`; returns whether it came.
    fn wait(&self, timeout: Duration) -> bool {
        let guard = self.is_woken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(guard, timeout, |is_woken| !*is_woken);
        let (mut guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *guard)
    }
}

impl Reader for GeneratedReader {
    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        if let Some(polled) = self.advance()? {
            return Ok(polled);
        }
        // A pause gathers what happens in it: rows one by one would cost more than they are worth.
        let pause = |wait: Duration| wait.max(GENERATOR_PAUSE).min(timeout);
        let next = self.next_event().map_or(timeout, pause);
        if self.waker.wait(next) {
            return Ok(Polled::Nothing);
        }
        Ok(self.advance()?.unwrap_or(Polled::Nothing))
    }

    fn schema(&self) -> SchemaRef {
        self.maker.schema()
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let waker = Arc::clone(&self.waker);
        Arc::new(move || waker.wake())
    }
}

impl GeneratedReader {
    /// What the next partition that has something to say says.
    fn advance(&mut self) -> Result<Option<Polled>> {
        let happened = self.source.pace.happened(self.source.timeline.events());
        for _ in 0..self.progress.len() {
            let turn = self.turn;
            self.turn = (turn + 1) % self.progress.len();
            if let Some(polled) = self.advance_partition(turn, happened)? {
                return Ok(Some(polled));
            }
        }
        Ok(None)
    }

    fn advance_partition(&mut self, turn: usize, happened: u64) -> Result<Option<Polled>> {
        let progress = &mut self.progress[turn];
        if progress.is_finished {
            return Ok(None);
        }
        if progress.until.is_some_and(|until| progress.at >= until) {
            progress.is_finished = true;
            return Ok(Some(Polled::Finished(progress.partition)));
        }
        let stop = progress.next_stop();
        let timeline = &self.source.timeline;
        let limit = happened.min(stop.unwrap_or(u64::MAX));
        let start = timeline.count_below(progress.place, progress.at);
        let ready = timeline.count_below(progress.place, limit.max(progress.at));
        let chunk_rows = u64::try_from(CHUNK_ROWS_MAX).unwrap_or(u64::MAX);
        let end = ready.min(start + chunk_rows);
        let reaches_stop = end == ready && stop.is_some_and(|stop| stop <= happened);
        let to = match stop {
            Some(stop) if reaches_stop => stop,
            _ if end > start => timeline.number_at(progress.place, end - 1) + 1,
            _ if progress.has_reported_end => return Ok(None),
            _ => {
                progress.has_reported_end = true;
                return Ok(Some(Polled::AtEnd(progress.partition, Offset(progress.at))));
            }
        };
        timeline.fill(progress.place, start..end, &mut self.numbers);
        self.make_chunk(turn, to)
            .map(|chunk| Some(Polled::Chunk(chunk)))
    }

    /// The chunk of the events in `numbers`, which reach up to `to`.
    fn make_chunk(&mut self, turn: usize, to: u64) -> Result<Chunk> {
        let rows = self.maker.make(&self.numbers)?;
        let progress = &mut self.progress[turn];
        let from = std::mem::replace(&mut progress.at, to);
        progress.has_reported_end = false;
        self.source.pace.hand_out(progress.place, to);
        let mut jumps = Jumps::from(Offset(from));
        self.numbers.iter().for_each(|number| jumps.push(*number));
        let is_replay = to <= progress.replayed_to;
        let arrived_micros = if is_replay {
            0
        } else {
            self.source.pace.now_micros()
        };
        Ok(Chunk {
            partition: progress.partition,
            from: Offset(from),
            to: Offset(to),
            bytes: rows.get_array_memory_size(),
            rows,
            jumps: jumps.finish(Offset(to)),
            weights: None,
            bad: Vec::new(),
            bad_rows: Vec::new(),
            skipped: 0,
            checksum: self.source.checksum(from, to),
            arrived_micros,
        })
    }

    /// How long it is until one of the partitions has its next event.
    fn next_event(&self) -> Option<Duration> {
        let Generated { timeline, pace, .. } = &self.source;
        let waits = self
            .progress
            .iter()
            .filter(|progress| !progress.is_finished)
            .map(|progress| {
                let index = timeline.count_below(progress.place, progress.at);
                if timeline.count_below(progress.place, timeline.events()) <= index {
                    return None;
                }
                pace.wait_for(timeline.number_at(progress.place, index))
            });
        waits.flatten().min()
    }
}

impl Generated {
    /// Equal for equal options and offsets: that is all that the rows depend on.
    fn checksum(&self, from: u64, to: u64) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.fingerprint);
        hasher.update(&from.to_le_bytes());
        hasher.update(&to.to_le_bytes());
        hasher.finalize()
    }
}

impl Progress {
    /// Where the next chunk must end: at a boundary or the end of the range, whichever is nearer.
    fn next_stop(&mut self) -> Option<u64> {
        while self
            .boundaries
            .front()
            .is_some_and(|boundary| boundary.0 <= self.at)
        {
            self.boundaries.pop_front();
        }
        match (self.boundaries.front(), self.until) {
            (Some(boundary), Some(until)) => Some(boundary.0.min(until)),
            (Some(boundary), None) => Some(boundary.0),
            (None, until) => until,
        }
    }
}
