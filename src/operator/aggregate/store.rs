//! What a kind of aggregate keeps for its groups, behind one face.
//!
//! A store is asked once per batch, never per row: inside, its loops know their types.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;

use crate::error::Result;
use crate::function::aggregate::TotalRule;
use crate::operator::aggregate::change::Change;
use crate::operator::evaluate::Failure;
use crate::operator::{Scope, TableChange};

/// State by slot of one kind of aggregate over one argument.
pub(super) trait Store: Send {
    /// Makes room for groups below `groups`; new ones are empty.
    fn grow(&mut self, groups: usize);

    /// Adds the rows of a batch.
    fn update(&mut self, rows: &RecordBatch, change: &Change<'_>) -> Result<()>;

    /// The step's input is complete, and changed these groups: what was kept for the sake of the
    /// step is given back.
    fn settle(&mut self, slots: &[u32]) -> Result<()>;

    /// The value of each group, of which `counts[i]` rows count; a group without a value because it
    /// is out of range is NULL and among the failures.
    fn read(
        &self,
        reading: &Reading,
        groups: Groups<'_>,
        failures: &mut Vec<Failure>,
    ) -> Result<ArrayRef>;

    /// Empties the groups.
    fn clear(&mut self, slots: &[u32]) -> Result<()>;

    /// Adds what a group has to another one; the first is empty then.
    fn merge(&mut self, _from: u32, _into: u32) -> Result<()> {
        let message = "groups of this aggregate cannot become one";
        Err(crate::error::Error::internal(message))
    }

    /// Adds what groups have to others, or takes it out of them again; `from` is as it was. What
    /// keeps one extreme cannot take it out: there, see [`Store::is_ahead`].
    fn combine(&mut self, _from: &[u32], _into: &[u32], _times: Times) -> Result<()> {
        let message = "groups of this aggregate cannot be added up";
        Err(crate::error::Error::internal(message))
    }

    /// Whether the store keeps an extreme, and that of one group is further out than that of
    /// another one.
    fn is_ahead(&self, _group: u32, _than: u32) -> bool {
        false
    }

    fn bytes(&self) -> usize;

    /// The types of the columns that [`Store::save`] gives.
    fn saved_types(&self) -> Vec<DataType> {
        Vec::new()
    }

    /// The state of the groups, in columns by slot.
    fn save(&self, _slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(Vec::new())
    }

    /// Puts saved state back, over what the groups had.
    fn load(&mut self, _slots: &[u32], _columns: &[ArrayRef]) -> Result<()> {
        Ok(())
    }

    /// The change of the table of the store's own, where it has one. The table's number is set by
    /// the caller.
    fn changes(&mut self, _scope: Scope) -> Result<Option<TableChange>> {
        Ok(None)
    }

    /// Puts a block of the store's own table back.
    fn restore(&mut self, change: TableChange) -> Result<()> {
        Err(crate::error::Error::internal(format!(
            "a store without a table was given table {}",
            change.table
        )))
    }

    /// Everything is restored: derives what is not saved.
    fn rebuild(&mut self, _groups: usize) -> Result<()> {
        Ok(())
    }
}

/// Which way groups are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    Once,
    /// What was added is taken out.
    Minus,
}

impl Times {
    pub fn factor(self) -> i64 {
        match self {
            Times::Once => 1,
            Times::Minus => -1,
        }
    }
}

/// Groups to be read, with the number of rows that count in each.
#[derive(Clone, Copy)]
pub(super) struct Groups<'a> {
    pub slots: &'a [u32],
    pub counts: &'a [i64],
}

/// Which of a store's values is wanted.
#[derive(Clone, Debug)]
pub(super) enum Reading {
    Total(TotalRule),
    Least,
    Greatest,
    /// How many distinct values there are.
    Distinct,
    /// Whether all are true.
    All,
    /// Whether one is true.
    Any,
    Stock,
}
