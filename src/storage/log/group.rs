//! Group commit: many threads append, one thread syncs once for all that is queued.
//!
//! ```text
//! thread A  append ─┐            ┌─ wait ────────────── ok
//! thread B  append ─┤ queue      ├─ wait ────────────── ok
//! log thread        └─► take all ┴─ write ─ fsync ────► publish end, wake
//! thread C            append ─────► queued for the next fsync
//! ```
//!
//! Offsets are given out when a record is queued, in queue order, so a ticket is just "wait until
//! the synced end has passed me". The queue is a vector under a mutex that the log thread takes
//! whole, which is what group commit needs and no channel offers; every wait re-checks its
//! condition under that mutex and every change notifies all, so no wake-up can be lost. Appenders
//! wait while the queue is full (bytes and records); one record is admitted however large.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use crate::base::limits::{LOG_QUEUE_BYTES_MAX, LOG_QUEUE_RECORDS_MAX};
use crate::base::{Offset, task};
use crate::error::{Error, Result};
use crate::storage::log::appender::check_record;
use crate::storage::log::segments::{Retention, Segments};
use crate::storage::log::{LogReader, SegmentLog};

/// The right to append to a log, shared by any number of threads. When the last clone is dropped,
/// what is queued is synced and the log closed.
#[derive(Clone)]
pub struct LogWriter(Arc<Inner>);

struct Inner {
    segments: Arc<Segments>,
    queue: Arc<Queue>,
    /// Joined by the last owner; behind a mutex because dropping needs it out of a shared place.
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Queue {
    queued: Mutex<Queued>,
    /// There are records, or it is closed.
    filled: Condvar,
    /// There is room, or it is closed.
    drained: Condvar,
}

struct Queued {
    records: Vec<(Vec<u8>, u32)>,
    bytes: usize,
    /// The offset of the next record.
    next: Offset,
    /// The active segment is to be closed behind what is queued.
    is_roll_due: bool,
    /// No more records are taken: the writer is gone or the log has stopped.
    is_closed: bool,
}

/// What the log's thread is to do next.
struct Work {
    records: Vec<(Vec<u8>, u32)>,
    is_roll_due: bool,
}

/// A record on its way to the disk.
#[must_use = "the record is durable only after its ticket was waited for"]
#[derive(Clone)]
pub struct Ticket {
    segments: Arc<Segments>,
    offset: Offset,
    end: Offset,
}

impl LogWriter {
    /// Gives the log to a thread of its own, named `name`.
    pub fn spawn(name: &str, log: SegmentLog) -> LogWriter {
        let segments = Arc::clone(log.segments());
        let queued = Queued {
            records: Vec::new(),
            bytes: 0,
            next: log.end_offset(),
            is_roll_due: false,
            is_closed: false,
        };
        let queue = Arc::new(Queue {
            queued: Mutex::new(queued),
            filled: Condvar::new(),
            drained: Condvar::new(),
        });
        let worker_queue = Arc::clone(&queue);
        let thread = task::spawn(name, move || run(log, &worker_queue));
        LogWriter(Arc::new(Inner {
            segments,
            queue,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Queues a record that stands for `rows` rows; waits while the queue is full. Records are in
    /// the log in the order in which these calls return.
    ///
    /// # Errors
    /// 53400 when the payload is too long; the log's own error once it has stopped.
    pub fn append(&self, payload: Vec<u8>, rows: u32) -> Result<Ticket> {
        check_record(&payload, rows)?;
        let queue = &self.0.queue;
        let mut queued = queue.lock();
        while queued.is_full(payload.len()) && !queued.is_closed {
            queued = queue
                .drained
                .wait(queued)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if queued.is_closed {
            drop(queued);
            self.0.segments.check()?;
            return Err(Error::internal("the log's thread has ended"));
        }
        let offset = queued.next;
        queued.next = Offset(offset.0 + u64::from(rows));
        queued.bytes += payload.len();
        queued.records.push((payload, rows));
        let end = queued.next;
        queue.filled.notify_all();
        Ok(Ticket {
            segments: Arc::clone(&self.0.segments),
            offset,
            end,
        })
    }

    /// Waits until everything queued so far is durable.
    pub fn sync(&self) -> Result<()> {
        let end = self.end_offset();
        self.0.segments.wait_synced(end)
    }

    /// A handle for reading what is synced.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.0.segments))
    }

    /// The first offset that can be read.
    pub fn start_offset(&self) -> Offset {
        self.0.segments.start()
    }

    /// The offset of the next record that is queued.
    pub fn end_offset(&self) -> Offset {
        self.0.queue.lock().next
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.0.segments.bytes()
    }

    /// Deletes the segments whose rows are all before `offset`; returns the new start.
    pub fn truncate_before(&self, offset: Offset) -> Result<Offset> {
        self.0.segments.truncate_before(offset)
    }

    /// Deletes the segments that `retention` does not keep and whose rows are all before `needed`;
    /// returns the new start.
    pub fn retain(&self, retention: &Retention, needed: Offset, now: SystemTime) -> Result<Offset> {
        self.0.segments.retain(retention, needed, now)
    }

    /// Has the active segment closed soon, if there is anything in it: only closed ones can be
    /// deleted.
    pub fn roll(&self) {
        self.0.queue.lock().is_roll_due = true;
        self.0.queue.filled.notify_all();
    }
}

impl Ticket {
    /// The offset of the record's first row.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// Waits until the record is durable.
    ///
    /// # Errors
    /// The log has stopped: the record may or may not be there after a restart.
    pub fn wait(&self) -> Result<Offset> {
        self.segments.wait_synced(self.end)?;
        Ok(self.offset)
    }

    /// Whether [`Ticket::wait`] would return at once.
    pub fn is_synced(&self) -> Result<bool> {
        if self.segments.end() >= self.end {
            return Ok(true);
        }
        self.segments.check()?;
        Ok(false)
    }
}

impl Queue {
    /// A panic under this lock is one of ours in a few plain assignments; the data stays whole.
    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.filled.notify_all();
        self.drained.notify_all();
    }

    /// Takes everything queued, waiting for some; `None` when closed and empty.
    fn take(&self) -> Option<Work> {
        let mut queued = self.lock();
        while queued.records.is_empty() && !queued.is_roll_due {
            if queued.is_closed {
                return None;
            }
            queued = self
                .filled
                .wait(queued)
                .unwrap_or_else(PoisonError::into_inner);
        }
        queued.bytes = 0;
        let work = Work {
            records: std::mem::take(&mut queued.records),
            is_roll_due: std::mem::take(&mut queued.is_roll_due),
        };
        self.drained.notify_all();
        Some(work)
    }
}

impl Queued {
    fn is_full(&self, bytes: usize) -> bool {
        !self.records.is_empty()
            && (self.bytes + bytes > LOG_QUEUE_BYTES_MAX
                || self.records.len() >= LOG_QUEUE_RECORDS_MAX)
    }
}

/// The log's thread: until the queue is closed and empty, or the log stops.
fn run(mut log: SegmentLog, queue: &Queue) {
    let segments = Arc::clone(log.segments());
    let ending = Ending {
        queue,
        segments: &segments,
    };
    while let Some(work) = queue.take() {
        let written = work
            .records
            .iter()
            .try_for_each(|(payload, rows)| log.append(payload, *rows).map(drop))
            .and_then(|()| log.sync())
            .and_then(|()| match work.is_roll_due {
                true => log.roll(),
                false => Ok(()),
            });
        if written.is_err() {
            // The log has recorded why; everybody who waits is told.
            break;
        }
    }
    drop(ending);
}

/// However the thread ends, nobody is left waiting for it.
struct Ending<'a> {
    queue: &'a Queue,
    segments: &'a Segments,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.segments
                .fail(Error::internal("the log's thread panicked"));
        }
        self.queue.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A panic there has already stopped the log and was reported to everyone.
            let _ = thread.join();
        }
    }
}
