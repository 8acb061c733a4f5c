//! How far a view that is being built has come, and how it is told to end.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::base::metrics::Counter;
use crate::dataflow::metrics::DataflowMetrics;
use crate::error::{Error, Result, SqlState};

/// How far a view that is being built has come; read by whoever waits for it.
#[derive(Debug, Default)]
pub struct Progress {
    pub rows_done: Counter,
    /// Records between the start and where the running system stood; 0 until known.
    pub records_total: Counter,
    pub records_done: Counter,
    started: AtomicI64,
    is_cancelled: AtomicBool,
    is_stopped: AtomicBool,
    is_finished: AtomicBool,
    failure: OnceLock<Error>,
    // A mutex, because whoever waits reads what the catch-up writes, each of them once.
    gaps: Mutex<Vec<String>>,
    metrics: OnceLock<Arc<DataflowMetrics>>,
}

impl Progress {
    /// What the view's operators have done so far; `None` before they are there.
    pub fn metrics(&self) -> Option<&Arc<DataflowMetrics>> {
        self.metrics.get()
    }

    /// Says where the operators count. A view that begins anew has had operators before: the first
    /// ones are shown.
    pub(super) fn watch(&self, metrics: Arc<DataflowMetrics>) {
        let _ = self.metrics.set(metrics);
    }

    /// Says when the work began, microseconds since 1970.
    pub fn start(&self, micros: i64) {
        self.started.store(micros, Ordering::Relaxed);
    }

    /// When the work began.
    pub fn started_micros(&self) -> i64 {
        self.started.load(Ordering::Relaxed)
    }

    /// What was missing where the view should have begun, in words.
    pub fn gaps(&self) -> Vec<String> {
        let gaps = self.gaps.lock();
        gaps.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn tell_gap(&self, gap: String) {
        let mut gaps = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
        gaps.push(gap);
    }

    /// Asks the catch-up to end; it answers with 57014.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
    }

    /// Ends the catch-up because the server ends: the next start goes on with it.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    /// The view is one of the running, and its state is on disk.
    pub(super) fn finish(&self) {
        self.is_finished.store(true, Ordering::Release);
    }

    pub fn is_finished(&self) -> bool {
        self.is_finished.load(Ordering::Acquire)
    }

    pub(super) fn fail(&self, cause: Error) {
        // The first cause is the one to tell.
        let _ = self.failure.set(cause);
    }

    /// Why the view is not built and never will be.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.is_stopped.load(Ordering::Acquire) {
            return Err(stopped());
        }
        match self.is_cancelled.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err(Error::new(
                SqlState::QUERY_CANCELED,
                "building the view was cancelled",
            )),
        }
    }
}

/// The error of whatever the end of the server has ended.
pub(super) fn stopped() -> Error {
    Error::new(SqlState::ADMIN_SHUTDOWN, "the server is shutting down")
}
