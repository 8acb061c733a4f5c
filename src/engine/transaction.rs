//! A transaction of several statements: what it has written and what it reads.
//!
//! BEGIN opens one, and so do the statements of one text: together they are a transaction that ends
//! with the text, unless BEGIN makes it one that ends with COMMIT.

use std::collections::BTreeMap;

use crate::base::ObjectId;
use crate::base::limits::TRANSACTION_ROWS_MAX;
use crate::base::memory::Held;
use crate::catalog::Object;
use crate::delta::{DeltaBatch, concat, consolidate};
use crate::engine::tables::Pin;
use crate::error::{Error, Result, SqlState};
use crate::sql::session::{AccessMode, IsolationLevel, TransactionModes};

/// The state between the first statement and COMMIT.
pub struct Transaction {
    pub is_failed: bool,
    /// Of the statements of one text; ends with it.
    pub is_implicit: bool,
    pub is_read_only: bool,
    /// REPEATABLE READ: the first statement's snapshots serve all.
    pub reads_one_epoch: bool,
    pub pin: Option<Pin>,
    pub writes: BTreeMap<ObjectId, DeltaBatch>,
    rows: usize,
    /// The memory of the writes.
    held: Held,
    /// Tables this transaction may write until it ends.
    pub locks: Vec<(ObjectId, tokio::sync::OwnedMutexGuard<()>)>,
}

impl Transaction {
    pub fn new(reads_one_epoch: bool, is_read_only: bool, held: Held) -> Self {
        Transaction {
            is_failed: false,
            is_implicit: false,
            is_read_only,
            reads_one_epoch,
            pin: None,
            writes: BTreeMap::new(),
            rows: 0,
            held,
            locks: Vec::new(),
        }
    }

    /// How it was begun: what AND CHAIN gives the next one.
    pub fn modes(&self) -> TransactionModes {
        TransactionModes {
            isolation: Some(match self.reads_one_epoch {
                true => IsolationLevel::RepeatableRead,
                false => IsolationLevel::ReadCommitted,
            }),
            access: Some(match self.is_read_only {
                true => AccessMode::ReadOnly,
                false => AccessMode::ReadWrite,
            }),
            // It is about waiting for a moment without conflicts: nothing waits here.
            deferrable: None,
        }
    }

    /// Adds a write to those that COMMIT makes.
    pub fn write(&mut self, object: &Object, delta: DeltaBatch) -> Result<()> {
        if delta.is_empty() {
            return Ok(());
        }
        self.rows += delta.len();
        if self.rows > TRANSACTION_ROWS_MAX {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("the transaction writes more than {TRANSACTION_ROWS_MAX} rows"),
            )
            .hint("commit in between"));
        }
        let weights = (0..delta.len()).map(|row| delta.weights().get(row));
        if weights.sum::<i64>() > 0 {
            let memory = self.held.memory();
            memory.check("what the transaction writes", delta.bytes())?;
        }
        let sum = match self.writes.remove(&object.id()) {
            None => delta,
            Some(before) => {
                let both = concat(&delta.schema(), &[before, delta])?;
                match both.is_append_only() {
                    true => both,
                    false => consolidate(&both)?,
                }
            }
        };
        self.writes.insert(object.id(), sum);
        let bytes = self.writes.values().map(DeltaBatch::bytes);
        self.held.set(bytes.sum());
        Ok(())
    }
}
