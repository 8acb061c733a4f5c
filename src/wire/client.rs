//! A client and everything that may happen to it while something is awaited.
//!
//! Whatever a connection waits for, it waits here, so that each wait also notices a client that has
//! gone, a cancel request, the statement's deadline and the server's end, sends notices at once and
//! writes what is gathered:
//!
//! ```text
//!               ┌ work done ───────────► its result (looked at first: ready batches go unflushed)
//!               ├ cancelled, too late ─► Stop::Failed
//!    wait(work) ┼ server stops ────────► Stop::Fatal
//!               ├ client gone ─────────► Stop::Gone
//!               ├ notice ──► gathered ─┐
//!               └ socket takes bytes ◄─┘  and wait on
//! ```

use std::future;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::response::CommandComplete;
use tokio::sync::{mpsc, watch};

use crate::base::limits::{CANCEL_GRACE_MS, SHUTDOWN_GRACE_MS};
use crate::engine::Notice;
use crate::error::{Error, Result, SqlState};
use crate::wire::frame::Message;
use crate::wire::inbound::Inbound;
use crate::wire::outbound::{Outbound, Severity};
use crate::wire::running::Running;

/// Why a statement or a connection does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// The statement failed; the connection goes on.
    Failed(Error),
    /// The client is told and the connection ends.
    Fatal(Error),
    /// Nobody is there to be told.
    Gone,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

/// A connected client.
pub(super) struct Client {
    inbound: Inbound,
    pub(super) outbound: Outbound,
    notices: mpsc::Receiver<Notice>,
    /// True when the server stops.
    shutdown: watch::Receiver<bool>,
}

impl Client {
    pub(super) fn new(
        inbound: Inbound,
        outbound: Outbound,
        notices: mpsc::Receiver<Notice>,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        Client {
            inbound,
            outbound,
            notices,
            shutdown,
        }
    }

    pub(super) fn send(&mut self, message: PgWireBackendMessage) {
        self.outbound.send(message);
    }

    pub(super) fn complete(&mut self, tag: String) {
        self.send(PgWireBackendMessage::CommandComplete(CommandComplete::new(
            tag,
        )));
    }

    /// What to do between two batches that are both there.
    pub(super) fn check(&self, running: &Running) -> Result<(), Stop> {
        if *self.shutdown.borrow() {
            return Err(Stop::Fatal(shutting_down()));
        }
        Ok(running.check()?)
    }

    /// Waits for the engine. When the statement is interrupted the engine is told and has a moment
    /// to end it by itself; what it then answers counts.
    pub(super) async fn wait<T>(
        &mut self,
        running: &Running,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T, Stop> {
        let mut work = pin!(work);
        let stop = match self.attend(running, work.as_mut()).await {
            Ok(result) => {
                self.take_notices();
                return result.map_err(|error| Stop::Failed(running.explain(error)));
            }
            Err(stop) => stop,
        };
        running.cancel().cancel();
        let grace = Duration::from_millis(CANCEL_GRACE_MS);
        let Ok(result) = tokio::time::timeout(grace, work).await else {
            return Err(stop);
        };
        self.take_notices();
        match (stop, result) {
            // The cancel came too late: the work is done and may be durable.
            (Stop::Failed(_), Ok(value)) => Ok(value),
            (Stop::Failed(_), Err(error)) => Err(Stop::Failed(running.explain(error))),
            (stop, _) => Err(stop),
        }
    }

    /// Waits for a stream's next item, which may be dropped half way at any time.
    pub(super) async fn wait_item<T>(
        &mut self,
        running: &Running,
        next: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let item = self.attend(running, pin!(next)).await;
        if item.is_err() {
            running.cancel().cancel();
        }
        item
    }

    /// Waits until the client has taken enough for more to be made.
    pub(super) async fn drain(&mut self, running: &Running) -> Result<(), Stop> {
        while self.outbound.is_full() {
            let stop = tokio::select! {
                biased;
                error = running.interrupted() => Stop::Failed(error),
                stop = stopped(&mut self.shutdown) => stop,
                written = self.outbound.write_some() => match written {
                    Ok(()) => continue,
                    Err(_) => Stop::Gone,
                },
                () = self.inbound.gone() => Stop::Gone,
            };
            running.cancel().cancel();
            return Err(stop);
        }
        Ok(())
    }

    /// Whether what was sent ends with the message in hand: Sync is the next, and is here.
    pub(super) fn is_at_sync(&self) -> bool {
        self.inbound.is_at_sync()
    }

    /// The client's next message, while no statement runs. `idle_max`: how long it may be silent.
    pub(super) async fn next(&mut self, idle_max: Option<Duration>) -> Result<Message, Stop> {
        let silent = async {
            match idle_max {
                Some(idle_max) => tokio::time::sleep(idle_max).await,
                None => future::pending().await,
            }
            Stop::Fatal(Error::new(
                SqlState::ADMIN_SHUTDOWN,
                "terminating connection due to idle-session timeout",
            ))
        };
        self.message(silent).await
    }

    /// The client's next message to a running statement (COPY FROM STDIN).
    pub(super) async fn next_for(&mut self, running: &Running) -> Result<Message, Stop> {
        let message = self
            .message(async { Stop::Failed(running.interrupted().await) })
            .await;
        if message.is_err() {
            running.cancel().cancel();
        }
        message
    }

    /// Says the last words of a connection, if somebody hears them in time.
    pub(super) async fn farewell(mut self, error: Option<Error>) {
        self.outbound.repair();
        if let Some(error) = error {
            self.outbound.error(Severity::Fatal, &error);
        }
        let grace = Duration::from_millis(SHUTDOWN_GRACE_MS);
        // A client that does not take its last message has lost interest in it.
        let _ = tokio::time::timeout(grace, self.outbound.finish()).await;
    }

    async fn attend<T>(
        &mut self,
        running: &Running,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Stop> {
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                error = running.interrupted() => return Err(Stop::Failed(error)),
                stop = stopped(&mut self.shutdown) => return Err(stop),
                written = self.outbound.write_some(), if !self.outbound.is_empty() => {
                    written.map_err(|_| Stop::Gone)?;
                }
                () = self.inbound.gone() => return Err(Stop::Gone),
                Some(notice) = self.notices.recv(), if !self.outbound.is_full() => {
                    self.outbound.notice(&notice);
                }
            }
        }
    }

    async fn message(&mut self, end: impl Future<Output = Stop>) -> Result<Message, Stop> {
        let mut end = pin!(end);
        loop {
            let is_full = self.outbound.is_full();
            // A client that does not take its answers is not read from: they would pile up.
            if !is_full && let Some(message) = self.inbound.take().map_err(Stop::Fatal)? {
                return Ok(message);
            }
            tokio::select! {
                biased;
                stop = stopped(&mut self.shutdown) => return Err(stop),
                stop = &mut end => return Err(stop),
                written = self.outbound.write_some(), if !self.outbound.is_empty() => {
                    written.map_err(|_| Stop::Gone)?;
                }
                filled = self.inbound.fill(), if !is_full => filled.map_err(|_| Stop::Gone)?,
                Some(notice) = self.notices.recv(), if !is_full => self.outbound.notice(&notice),
            }
        }
    }

    /// Notices that were sent before the work ended come before its answer.
    fn take_notices(&mut self) {
        while !self.outbound.is_full()
            && let Ok(notice) = self.notices.try_recv()
        {
            self.outbound.notice(&notice);
        }
    }
}

/// Resolves when the server stops.
async fn stopped(shutdown: &mut watch::Receiver<bool>) -> Stop {
    // A server that has gone without a word has stopped too.
    let _ = shutdown.wait_for(|is_stopping| *is_stopping).await;
    Stop::Fatal(shutting_down())
}

fn shutting_down() -> Error {
    Error::new(
        SqlState::ADMIN_SHUTDOWN,
        "terminating connection due to administrator command",
    )
}
