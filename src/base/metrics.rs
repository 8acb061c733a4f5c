//! Counters that any thread may raise and any reader may look at.
//!
//! What belongs to one object (a view's operators, a source's queue) is counted by its owner. What
//! belongs to the process, as the disk does, has a counter here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the process has done since it started.
pub static PROCESS: ProcessMetrics = ProcessMetrics::new();

/// Numbers of the process; see [`PROCESS`].
#[derive(Debug)]
pub struct ProcessMetrics {
    /// Waits for the disk to hold what was written: every file and directory of the data
    /// directory. Counted in `storage::file`, where the calls are.
    pub fsyncs: Counter,
    pub steps: Counter,
    /// Time from a step's cut to its publication.
    pub step_nanos: Counter,
    /// Rows that steps took in, from sources and by writes.
    pub rows_in: Counter,
    pub checkpoints: Counter,
    pub checkpoints_failed: Counter,
    /// Time that writing checkpoints took, beside the steps.
    pub checkpoint_nanos: Counter,
    /// Bytes that checkpoints wrote.
    pub checkpoint_bytes_written: Counter,
    /// A gauge: bytes of all files of the newest checkpoint.
    pub checkpoint_bytes: Counter,
    /// A gauge: the epoch of the newest checkpoint.
    pub checkpoint_epoch: Counter,
}

impl ProcessMetrics {
    const fn new() -> ProcessMetrics {
        ProcessMetrics {
            fsyncs: Counter::new(),
            steps: Counter::new(),
            step_nanos: Counter::new(),
            rows_in: Counter::new(),
            checkpoints: Counter::new(),
            checkpoints_failed: Counter::new(),
            checkpoint_nanos: Counter::new(),
            checkpoint_bytes_written: Counter::new(),
            checkpoint_bytes: Counter::new(),
            checkpoint_epoch: Counter::new(),
        }
    }
}

/// A number that only rises, or a gauge that is set. Relaxed: it is looked at, never decided by.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Self {
        Counter(AtomicU64::new(0))
    }

    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds a time in nanoseconds.
    pub fn add_time(&self, time: Duration) {
        self.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
