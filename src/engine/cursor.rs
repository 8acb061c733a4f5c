//! Cursors: a query's or subscription's rows, fetched a few at a time.
//!
//! A cursor holds the stream and what was read of it beyond the last FETCH. A cursor over a
//! subscription never ends; FETCH gives what is there, and waits for more only when it is given a
//! timeout.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;

use crate::base::limits::{CURSORS_MAX, FETCH_BYTES_MAX};
use crate::base::memory::Held;
use crate::engine::query::{Parameters, Reading};
use crate::engine::response::{BatchStream, Cancel, Response, RowsTag};
use crate::engine::session::{Session, done};
use crate::error::{Error, Result, SqlState};
use crate::sql::session::{Close, CursorInput, DeclareCursor, Fetch, FetchCount};

/// A session's open cursors.
#[derive(Default)]
pub struct Cursors(BTreeMap<String, Cursor>);

struct Cursor {
    schema: SchemaRef,
    // Behind a mutex only so that a session may be shared between threads; it is never locked.
    batches: Mutex<BatchStream>,
    /// Read from the stream and not yet fetched, in order.
    rest: VecDeque<RecordBatch>,
    /// The memory of what one FETCH takes, and of what it leaves.
    held: Held,
    is_over: bool,
    is_subscription: bool,
    with_hold: bool,
}

impl Cursors {
    pub fn schema(&self, name: &str) -> Result<SchemaRef> {
        self.0
            .get(name)
            .map(|cursor| cursor.schema.clone())
            .ok_or_else(|| missing(name))
    }

    /// Closes what a transaction's end closes.
    pub fn end_transaction(&mut self) {
        self.0.retain(|_, cursor| cursor.with_hold);
    }
}

impl Session {
    pub(super) async fn declare(
        &mut self,
        declare: &DeclareCursor,
        parameters: Parameters,
        cancel: Cancel,
    ) -> Result<Response> {
        if self.cursors.0.contains_key(&declare.name) {
            return Err(Error::new(
                SqlState::DUPLICATE_CURSOR,
                format!("cursor \"{}\" already exists", declare.name),
            ));
        }
        if self.cursors.0.len() >= CURSORS_MAX {
            return Err(Error::new(
                SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                format!("the session has {CURSORS_MAX} open cursors already"),
            )
            .hint("close some"));
        }
        let (is_outside, is_in_block) = (self.transaction.is_none(), self.is_in_block());
        let (schema, batches, is_subscription) = match &declare.input {
            CursorInput::Query(query) => {
                if is_outside && !declare.with_hold {
                    return Err(Error::new(
                        SqlState::ACTIVE_SQL_TRANSACTION,
                        "DECLARE CURSOR can only be used in transaction blocks",
                    )
                    .hint("BEGIN first, or declare it WITH HOLD"));
                }
                self.pin_transaction()?;
                let reading = self.reading().for_parameters(&parameters);
                let planned = reading.plan(query)?;
                Reading::check_parameters(&planned.plan, parameters.values.len())?;
                let schema = planned.schema.clone();
                let batches = reading
                    .run(planned.plan, planned.schema, parameters.values)
                    .await?;
                (schema, batches, false)
            }
            CursorInput::Subscribe(subscribe) => {
                let (schema, batches) = self.subscription(subscribe, cancel).await?;
                (schema, batches, true)
            }
        };
        let cursor = Cursor {
            schema,
            batches: Mutex::new(batches),
            rest: VecDeque::new(),
            held: self.hold_memory(),
            is_over: false,
            is_subscription,
            with_hold: declare.with_hold || is_subscription && !is_in_block,
        };
        self.cursors.0.insert(declare.name.clone(), cursor);
        Ok(done("DECLARE CURSOR"))
    }

    pub(super) async fn fetch(&mut self, fetch: &Fetch, cancel: Cancel) -> Result<Response> {
        let cursor = self
            .cursors
            .0
            .get_mut(&fetch.cursor)
            .ok_or_else(|| fetch.position.mark(missing(&fetch.cursor)))?;
        let timeout = match &fetch.timeout {
            None => None,
            Some(interval) => {
                let micros = interval
                    .fixed_micros()
                    .and_then(|micros| u64::try_from(micros).ok());
                Some(Duration::from_micros(micros.ok_or_else(|| {
                    Error::new(
                        SqlState::INVALID_PARAMETER_VALUE,
                        "FETCH needs a timeout of fixed, positive length",
                    )
                })?))
            }
        };
        let count = match fetch.count {
            FetchCount::Rows(count) => usize::try_from(count).unwrap_or(usize::MAX),
            FetchCount::All => usize::MAX,
        };
        let rows = cursor.take(count, timeout, &cancel).await?;
        let schema = cursor.schema.clone();
        let batches = Box::pin(futures::stream::iter(rows.into_iter().map(Ok)));
        Ok(Response::Rows {
            schema,
            batches,
            tag: RowsTag("FETCH".to_string()),
        })
    }

    pub(super) fn close(&mut self, close: &Close) -> Result<Response> {
        match close {
            Close::All => self.cursors.0.clear(),
            Close::Cursor { name, position } => {
                let closed = self.cursors.0.remove(name);
                closed.ok_or_else(|| position.mark(missing(name)))?;
            }
        }
        Ok(done("CLOSE CURSOR"))
    }
}

impl Cursor {
    /// Up to `count` rows. A query's cursor waits for them; a subscription's gives what is there
    /// and,
    /// if that is nothing, waits up to the timeout for the first.
    async fn take(
        &mut self,
        count: usize,
        timeout: Option<Duration>,
        cancel: &Cancel,
    ) -> Result<Vec<RecordBatch>> {
        let mut rows = Vec::new();
        let mut taken = 0;
        // What is left over is taken, and counted, again.
        self.held.set(0);
        let batches = self
            .batches
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let patience = tokio::time::sleep(timeout.unwrap_or(Duration::ZERO));
        tokio::pin!(patience);
        while taken < count && !self.is_over {
            let batch = match self.rest.pop_front() {
                Some(batch) => Some(batch),
                None if self.is_subscription => tokio::select! {
                    biased;
                    batch = batches.next() => match batch.transpose()? {
                        None => { self.is_over = true; None }
                        some => some,
                    },
                    () = &mut patience => None,
                    () = cancel.cancelled() => { cancel.check()?; None }
                },
                None => tokio::select! {
                    batch = batches.next() => match batch.transpose()? {
                        None => { self.is_over = true; None }
                        some => some,
                    },
                    () = cancel.cancelled() => { cancel.check()?; None }
                },
            };
            let Some(batch) = batch else { break };
            let memory = batch.get_array_memory_size();
            let refused = match self.held.bytes() + memory > FETCH_BYTES_MAX {
                true if !rows.is_empty() => Some(too_much()),
                _ => self.held.memory().check("the rows of FETCH", memory).err(),
            };
            self.held.set(self.held.bytes() + memory);
            if let Some(error) = refused {
                // The next FETCH begins where this one did.
                rows.push(batch);
                rows.extend(self.rest.drain(..));
                self.rest = rows.into();
                return Err(error);
            }
            let wanted = (count - taken).min(batch.num_rows());
            if wanted < batch.num_rows() {
                self.rest
                    .push_front(batch.slice(wanted, batch.num_rows() - wanted));
            }
            taken += wanted;
            rows.push(batch.slice(0, wanted));
            if self.is_subscription && taken > 0 {
                // Something is there: take what follows without waiting.
                patience.as_mut().reset(tokio::time::Instant::now());
            }
        }
        let left = self.rest.iter().map(RecordBatch::get_array_memory_size);
        self.held.set(left.sum());
        Ok(rows)
    }
}

fn too_much() -> Error {
    let megabytes = FETCH_BYTES_MAX >> 20;
    let message = format!("one FETCH gives at most {megabytes} MB");
    Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
        .hint("fetch fewer rows at a time: FETCH 1000 FROM …")
}

fn missing(name: &str) -> Error {
    Error::new(
        SqlState::INVALID_CURSOR_NAME,
        format!("cursor \"{name}\" does not exist"),
    )
}
