//! What a statement answers, in terms that every protocol can send.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::Stream;
use tokio::sync::Notify;

use crate::engine::session::Session;
use crate::error::{Error, Result, SqlState};

/// Batches as they become ready. A batch is to be flushed to the client when the next is not ready.
pub type BatchStream = Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// The answer to one statement.
pub enum Response {
    /// Rows, possibly without end (SUBSCRIBE). The field names are what the user sees.
    Rows {
        schema: SchemaRef,
        batches: BatchStream,
        tag: RowsTag,
    },
    /// The statement is done; the text is its command tag (`CREATE SOURCE`, `INSERT 0 3`, `BEGIN`).
    Done { tag: String },
    /// Rows for `COPY … TO STDOUT`, possibly without end.
    CopyOut {
        schema: SchemaRef,
        batches: BatchStream,
        format: CopyFormat,
    },
    /// `COPY … FROM STDIN`: the protocol decodes rows of `schema` and hands batches to the writer.
    CopyIn {
        schema: SchemaRef,
        writer: Box<dyn CopyWriter>,
        format: CopyFormat,
    },
    /// The statement was empty.
    Empty,
}

/// How the command tag of a row answer is made: `SELECT 5`, `FETCH 5`, `INSERT 0 5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsTag(pub String);

/// Takes the rows of a COPY FROM STDIN.
#[async_trait::async_trait]
pub trait CopyWriter: Send {
    /// Takes a batch; waits when the table's writer is behind.
    async fn write(&mut self, batch: RecordBatch) -> Result<()>;
    /// Makes the rows durable, or a part of the session's transaction, and returns how many there
    /// were. Not called when the client gives up: dropping the writer discards what was not
    /// committed.
    async fn finish(self: Box<Self>, session: &mut Session) -> Result<u64>;
}

/// The encoding of COPY data and its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    Text {
        delimiter: u8,
        null: String,
        header: bool,
    },
    Csv {
        delimiter: u8,
        null: String,
        header: bool,
        quote: u8,
        escape: u8,
    },
    Binary,
}

/// A message beside the answer; sent to the client at once.
#[derive(Clone, Debug)]
pub struct Notice {
    pub severity: Severity,
    pub state: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Notice,
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
        })
    }
}

/// Asks a running statement to stop: Ctrl-C, `statement_timeout` or a client that has gone.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<CancelState>);

#[derive(Debug, Default)]
struct CancelState {
    is_cancelled: AtomicBool,
    notify: Notify,
}

impl Cancel {
    pub fn new() -> Self {
        Cancel::default()
    }

    pub fn cancel(&self) {
        self.0.is_cancelled.store(true, Ordering::Release);
        self.0.notify.notify_waiters();
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::Acquire)
    }

    /// Resolves when cancelled; at once if it already is.
    pub async fn cancelled(&self) {
        let notified = self.0.notify.notified();
        tokio::pin!(notified);
        // Registered before the flag is read, so that a cancel in between is not missed.
        notified.as_mut().enable();
        if !self.is_cancelled() {
            notified.await;
        }
    }

    pub fn check(&self) -> Result<()> {
        match self.is_cancelled() {
            true => Err(Error::new(
                SqlState::QUERY_CANCELED,
                "canceling statement due to user request",
            )),
            false => Ok(()),
        }
    }
}
