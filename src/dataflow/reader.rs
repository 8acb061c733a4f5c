//! A reader on its own thread, with the bounded queue that it fills for the steps.
//!
//! ```text
//!   poll ─► offer ─► queue ═ take ═► step        full: the reader waits, visibly
//!             ├─ trouble that may pass: what was confirmed of ends is forgotten, and said so
//!             └─ an error or a panic: the reader has ended, and says why
//! ```
//!
//! Rule: a partition is known to be at its end only while nothing has interrupted the reading since
//! that was confirmed. Who relies on ends asks for interruptions too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::limits::{READER_POLL, READER_RETRY, SOURCE_QUEUE_BYTES_MAX};
use crate::base::memory::{Account, Held};
use crate::base::{Memory, Offset, PartitionId, task};
use crate::connector::{Chunk, Polled, ReadRange, Reader};
use crate::dataflow::panic::contained;
use crate::dataflow::source::SourceSpec;
use crate::error::{Error, Result, SqlState};

/// A reader on its thread with the queue that it fills.
pub struct ReaderThread {
    shared: Arc<Shared>,
    partitions: BTreeSet<PartitionId>,
    thread: Option<JoinHandle<()>>,
}

/// What waits in a reader's queue, at one moment.
pub struct Queued<'a> {
    queue: &'a Queue,
    read: &'a BTreeSet<PartitionId>,
    /// The reader waits for room.
    pub is_full: bool,
}

impl Queued<'_> {
    /// The partitions of the waiting chunks, in their order.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.queue.chunks.iter().map(|chunk| chunk.partition)
    }

    /// How many chunks wait.
    pub fn len(&self) -> usize {
        self.queue.chunks.len()
    }

    pub fn chunk(&self, place: usize) -> &Chunk {
        &self.queue.chunks[place]
    }

    /// The partitions of which more can be expected: neither at their confirmed ends nor read to
    /// where they should be.
    pub fn open(&self) -> impl Iterator<Item = PartitionId> {
        let queue = self.queue;
        let is_over = |partition: &PartitionId| {
            let is_told = queue.at_end.contains_key(partition);
            // Of a reader that has ended nothing comes.
            is_told || queue.is_ended || queue.finished.contains(partition)
        };
        self.read.iter().copied().filter(move |p| !is_over(p))
    }
}

/// Makes a poll that waits return.
type Waker = Arc<dyn Fn() + Send + Sync>;

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
    /// What was confirmed of ends before does not hold any more.
    is_interrupted: bool,
    error: Option<Error>,
    is_ended: bool,
    /// There once the reader is open.
    waker: Option<Waker>,
}

impl ReaderThread {
    /// Starts reading; `wake` is called whenever there is something new, also the end.
    pub fn start(
        spec: &SourceSpec,
        ranges: Vec<ReadRange>,
        columns: &[usize],
        memory: &Arc<Memory>,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> ReaderThread {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(memory)),
            drained: Condvar::new(),
            is_stopped: AtomicBool::new(false),
        });
        let inner = shared.clone();
        let partitions = ranges.iter().map(|range| range.partition).collect();
        let (spec, columns) = (spec.clone(), columns.to_vec());
        let thread = task::spawn("reader", move || {
            inner.run(&spec, &ranges, &columns, &*wake);
        });
        ReaderThread {
            shared,
            partitions,
            thread: Some(thread),
        }
    }

    /// Tells the thread to end; dropping waits for it.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Takes whole chunks, in order, until the bounds are reached; at least one if there is one.
    pub fn take(&self, rows_max: usize, bytes_max: usize) -> Vec<Chunk> {
        let mut places = 0..;
        let in_order = |queued: &Queued<'_>| {
            let place = places.next().expect("numbers do not end");
            Ok((place < queued.len()).then_some(place))
        };
        let taken = self.take_chosen((rows_max, bytes_max), in_order);
        taken.expect("choosing the first cannot fail")
    }

    /// Takes whole chunks until the bounds of rows and bytes are reached, or `choose` has no more:
    /// it is asked for the place of the next one in the queue, from which none is taken out before
    /// all are chosen. Chunks of a partition stay in order if it takes the first of each.
    pub fn take_chosen(
        &self,
        (rows_max, bytes_max): (usize, usize),
        mut choose: impl FnMut(&Queued<'_>) -> Result<Option<usize>>,
    ) -> Result<Vec<Chunk>> {
        let mut queue = self.shared.lock();
        let is_full = !queue.has_room();
        let mut chosen = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        let mut since = queue.in_step_since_micros.unwrap_or(i64::MAX);
        loop {
            let next = choose(&Queued {
                queue: &queue,
                read: &self.partitions,
                is_full: is_full && chosen.is_empty(),
            })?;
            let Some(place) = next else { break };
            let chunk = &queue.chunks[place];
            if !chosen.is_empty()
                && (rows + chunk.rows.num_rows() > rows_max || bytes + size(chunk) > bytes_max)
            {
                break;
            }
            rows += chunk.rows.num_rows();
            bytes += size(chunk);
            since = since.min(chunk.arrived_micros);
            chosen.push(place);
        }
        let taken = queue.take_out(&chosen);
        if !taken.is_empty() {
            queue.in_step_since_micros = Some(since);
            let left = queue.held.bytes() - bytes;
            queue.held.set(left);
            self.shared.drained.notify_all();
        }
        Ok(taken)
    }

    /// Looks at what waits.
    pub fn look<T>(&self, look: impl FnOnce(&Queued<'_>) -> T) -> T {
        let queue = self.shared.lock();
        look(&Queued {
            queue: &queue,
            read: &self.partitions,
            is_full: !queue.has_room(),
        })
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

    /// Whether reading was interrupted, or has just begun, since the last
    /// [`ReaderThread::take_interruption`].
    pub fn is_interrupted(&self) -> bool {
        self.shared.lock().is_interrupted
    }

    /// As [`ReaderThread::is_interrupted`]. Asked after chunks were taken it covers them.
    pub fn take_interruption(&self) -> bool {
        std::mem::take(&mut self.shared.lock().is_interrupted)
    }

    /// The last error; `Err` when the reader has ended by it.
    pub fn error(&self) -> Result<Option<Error>> {
        let queue = self.shared.lock();
        match (&queue.error, queue.is_ended) {
            (Some(error), true) => Err(error.clone()),
            (error, _) => Ok(error.clone()),
        }
    }

    /// Why the reader has ended where another one may find what it did not: the topic, which a
    /// broker that has just come up may not know yet. Everything that it read was taken.
    pub fn lost(&self) -> Option<Error> {
        let queue = self.shared.lock();
        let is_lost = queue.is_ended && queue.chunks.is_empty();
        let error = queue.error.clone().filter(|_| is_lost);
        error.filter(|error| error.state() == SqlState::UNDEFINED_OBJECT)
    }
}

impl Drop for ReaderThread {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a reader panicked");
        }
    }
}

impl Queue {
    /// Takes the chunks at some places out, each named once, in the order of the places' names.
    /// Costs what stands before the last of them, and not what waits behind.
    fn take_out(&mut self, places: &[usize]) -> Vec<Chunk> {
        let end = places.iter().max().map_or(0, |last| last + 1);
        let mut chunks: Vec<Option<Chunk>> = self.chunks.drain(..end).map(Some).collect();
        let taken = places.iter().map(|&place| chunks[place].take());
        let taken = taken.map(|chunk| chunk.expect("each place is named once"));
        let taken = taken.collect();
        for chunk in chunks.into_iter().rev().flatten() {
            self.chunks.push_front(chunk);
        }
        taken
    }

    /// Nobody knows any more where partitions end.
    fn interrupt(&mut self) {
        self.at_end.clear();
        self.is_interrupted = true;
    }

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
            is_interrupted: true,
            error: None,
            is_ended: false,
            waker: None,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    fn stop(&self) {
        let waker = {
            // Under the lock: who looks at the flag and then waits cannot miss the call.
            let queue = self.lock();
            self.is_stopped.store(true, Ordering::Release);
            queue.waker.clone()
        };
        self.drained.notify_all();
        if let Some(wake) = waker {
            wake();
        }
    }

    /// The thread's work: opening may talk to a broker, so it is done here too.
    fn run(&self, spec: &SourceSpec, ranges: &[ReadRange], columns: &[usize], wake: &dyn Fn()) {
        let Some(mut reader) = self.open(spec, ranges, columns) else {
            wake();
            return;
        };
        self.lock().waker = Some(reader.waker());
        while !self.is_stopped() {
            let polled = contained(|| reader.poll(READER_POLL));
            let goes_on = self.offer(polled, &spec.name);
            wake();
            if !goes_on {
                break;
            }
        }
    }

    fn open(
        &self,
        spec: &SourceSpec,
        ranges: &[ReadRange],
        columns: &[usize],
    ) -> Option<Box<dyn Reader>> {
        while !self.is_stopped() {
            match contained(|| spec.connector.reader(ranges.to_vec(), columns)) {
                Ok(reader) => return Some(reader),
                Err(error) => {
                    if !self.bear(error, &spec.name) {
                        break;
                    }
                }
            }
        }
        None
    }

    /// Notes an error; after one that may pass it waits a little, after another the reader ends.
    fn bear(&self, error: Error, name: &str) -> bool {
        let mut queue = self.lock();
        queue.interrupt();
        if !error.is_retryable() {
            tracing::error!(source = name, %error, "reading has ended");
            queue.error = Some(error);
            queue.is_ended = true;
            return false;
        }
        if queue.error.as_ref() != Some(&error) {
            tracing::warn!(source = name, %error, "reading is interrupted");
        }
        queue.error = Some(error);
        let is_going_on = |_: &mut Queue| !self.is_stopped();
        let waited = self
            .drained
            .wait_timeout_while(queue, READER_RETRY, is_going_on);
        drop(waited);
        true
    }

    /// Puts what was polled into the queue, waiting for room; false when the reader is to end.
    fn offer(&self, polled: Result<Polled>, name: &str) -> bool {
        let mut queue = self.lock();
        if polled.is_ok() {
            queue.heard = Instant::now();
        }
        match polled {
            Ok(Polled::Chunk(chunk)) => {
                while !queue.has_room() && !self.is_stopped() {
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
            Ok(Polled::Interrupted) => queue.interrupt(),
            Ok(Polled::Nothing) => {}
            Err(error) => {
                drop(queue);
                return self.bear(error, name);
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
