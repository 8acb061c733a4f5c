//! What a start is at, for whoever asks before it is done; and how it is told to end.
//!
//! ```text
//!   Opening ──► Recovering ──► Waiting("source …: broker …") ──► Recovering ──► (done)
//! ```

use std::sync::{Condvar, Mutex, PoisonError};

use tokio::sync::watch;

use crate::base::limits::READER_RETRY;
use crate::error::{Error, Result, SqlState};

/// How far a start has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The data directory is locked and the catalog read. It may fail.
    #[default]
    Opening,
    /// State is loaded and the journal replayed.
    Recovering,
    /// The outside world has not yet what the journal names; in the words for a user.
    Waiting(String),
}

/// A start that is under way. Whoever begins one shares it with those who answer meanwhile.
#[derive(Debug, Default)]
pub struct Startup {
    phase: watch::Sender<Phase>,
    // Behind a mutex because the one who waits sleeps on it.
    is_cancelled: Mutex<bool>,
    cancelled: Condvar,
}

impl Startup {
    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Tells when the phase changes.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Says where the start is.
    pub fn set(&self, phase: Phase) {
        self.phase.send_if_modified(|old| {
            let is_new = *old != phase;
            if is_new {
                if let Phase::Waiting(what) = &phase {
                    tracing::warn!("the start waits for {what}");
                }
                *old = phase;
            }
            is_new
        });
    }

    /// Waits a little for something outside.
    ///
    /// # Errors
    /// 57P01 when the start is to end.
    pub fn wait(&self, what: String) -> Result<()> {
        self.set(Phase::Waiting(what));
        let lock = self.is_cancelled.lock();
        let lock = lock.unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .cancelled
            .wait_timeout_while(lock, READER_RETRY, |is_cancelled| !*is_cancelled);
        drop(waited);
        self.check()
    }

    /// # Errors
    /// 57P01 when the start is to end.
    pub fn check(&self) -> Result<()> {
        let is_cancelled = self.is_cancelled.lock();
        match *is_cancelled.unwrap_or_else(PoisonError::into_inner) {
            false => Ok(()),
            true => Err(Error::new(
                SqlState::ADMIN_SHUTDOWN,
                "the server was told to stop while it started",
            )),
        }
    }

    /// Ends the start at its next wait.
    pub fn cancel(&self) {
        let is_cancelled = self.is_cancelled.lock();
        *is_cancelled.unwrap_or_else(PoisonError::into_inner) = true;
        self.cancelled.notify_all();
    }

    /// What a client is told instead of being served.
    pub fn refusal(&self) -> Error {
        let error = Error::new(
            SqlState::CANNOT_CONNECT_NOW,
            "the database system is starting up",
        );
        match self.phase() {
            Phase::Opening => error.detail("the data directory is opened"),
            Phase::Recovering => error.detail("the journal is replayed"),
            Phase::Waiting(what) => error.detail(format!("it waits for {what}")),
        }
    }
}
