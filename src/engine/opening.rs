//! The rows that a subscription begins with, a part of the snapshot at a time.
//!
//! Rule: rows at an earlier epoch are today's, less what has changed since. Rows that came since
//! are left out where they are met; rows that went since are given at the end.
//!
//! ```text
//!   today: a b c d     since then: +1 c  −1 e
//!   parts: [a b] [c d]        given: [a b] [d] [e]
//! ```
//!
//! State: the net change since the epoch, which the bound of a history bounds. Time: one probe for
//! each row of today, none when nothing has changed since.

use arrow::array::{ArrayRef, UInt32Array};
use arrow::datatypes::DataType;

use crate::base::limits::CHUNK_ROWS_MAX;
use crate::base::memory::Held;
use crate::delta::{DeltaBatch, KeyBatch, KeyTable, NO_SLOT, Weights, concat, consolidate};
use crate::error::{Error, Result};
use crate::view::{ChangeSet, Snapshot};

/// Gives the rows of a relation as they were at an epoch.
pub(super) struct Opening {
    snapshot: Snapshot,
    /// The next part of the snapshot.
    part: usize,
    came: Option<Came>,
    /// Rows that went since, with weights above zero, and how many of them were given.
    went: DeltaBatch,
    given: usize,
    /// The memory of the net change. The snapshot's is the relation's own.
    #[expect(dead_code, reason = "it is given back with the rows")]
    held: Held,
}

/// Rows that are there today and were not then.
struct Came {
    table: KeyTable,
    /// By slot, how often the row is still to be left out.
    counts: Vec<i64>,
}

impl Opening {
    /// `since`: the changes after the epoch, up to that of the snapshot.
    pub fn new(snapshot: Snapshot, since: &[ChangeSet], mut held: Held) -> Result<Opening> {
        let parts: Vec<DeltaBatch> = since.iter().map(|change| change.delta.negate()).collect();
        let net = consolidate(&concat(snapshot.schema(), &parts)?)?;
        held.memory().check("the rows of SUBSCRIBE", net.bytes())?;
        held.set(net.bytes());
        let of_sign = |sign: i64| {
            let rows = (0..net.len()).filter(|row| net.weights().get(*row).signum() == sign);
            let rows = rows.map(|row| u32::try_from(row).expect("fewer than 2^32 rows"));
            net.take(&UInt32Array::from_iter_values(rows))
        };
        let came = of_sign(-1)?;
        Ok(Opening {
            snapshot,
            part: 0,
            came: match came.is_empty() {
                true => None,
                false => Some(Came::new(&came)?),
            },
            went: of_sign(1)?,
            given: 0,
            held,
        })
    }

    /// The next rows; none of the batches is empty.
    pub fn next(&mut self) -> Result<Option<DeltaBatch>> {
        let columns: Vec<usize> = (0..self.snapshot.schema().fields().len()).collect();
        while self.part < self.snapshot.parts() {
            let rows = self.snapshot.part(self.part, &columns)?;
            self.part += 1;
            let mut rows = DeltaBatch::insertions(rows);
            if let Some(came) = &mut self.came {
                rows = came.left_out(&rows)?;
            }
            if !rows.is_empty() {
                return Ok(Some(rows));
            }
        }
        if let Some(came) = self.came.take()
            && came.counts.iter().any(|count| *count > 0)
        {
            return Err(Error::internal(
                "a change has brought a row that is not there",
            ));
        }
        let length = CHUNK_ROWS_MAX.min(self.went.len() - self.given);
        if length == 0 {
            return Ok(None);
        }
        let rows = self.went.rows().slice(self.given, length);
        let weights = (self.given..self.given + length).map(|row| self.went.weights().get(row));
        let weights: Vec<i64> = weights.collect();
        self.given += length;
        Ok(Some(DeltaBatch::new(rows, Weights::Each(weights.into()))))
    }
}

impl Came {
    fn new(rows: &DeltaBatch) -> Result<Came> {
        let columns = rows.rows().columns();
        let types = columns.iter().map(|column| column.data_type().clone());
        let mut table = KeyTable::new(&types.collect::<Vec<DataType>>())?;
        let mut slots = Vec::new();
        table.insert(&KeyBatch::new(&table, columns)?, &mut slots);
        let mut counts = vec![0; table.slots()];
        for (row, slot) in slots.into_iter().enumerate() {
            counts[slot as usize] -= rows.weights().get(row);
        }
        Ok(Came { table, counts })
    }

    /// The rows without those that came since.
    fn left_out(&mut self, rows: &DeltaBatch) -> Result<DeltaBatch> {
        let columns: Vec<ArrayRef> = rows.rows().columns().to_vec();
        let mut slots = Vec::new();
        let keys = KeyBatch::new(&self.table, &columns)?;
        self.table.lookup(&keys, &mut slots);
        let mut kept = Vec::with_capacity(slots.len());
        for (row, slot) in (0u32..).zip(slots) {
            let is_there = slot == NO_SLOT || self.counts[slot as usize] == 0;
            match is_there {
                true => kept.push(row),
                false => self.counts[slot as usize] -= 1,
            }
        }
        rows.take(&UInt32Array::from(kept))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{Field, Schema};

    use crate::base::memory::Account;
    use crate::base::{Epoch, Memory};
    use crate::view::{Identity, Store};

    use super::*;

    fn delta(rows: &[(i64, i64)]) -> DeltaBatch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let values: Int64Array = rows.iter().map(|(_, value)| Some(*value)).collect();
        let weights: Vec<i64> = rows.iter().map(|(weight, _)| *weight).collect();
        let batch = RecordBatch::try_new(schema, vec![Arc::new(values)]).unwrap();
        DeltaBatch::new(batch, Weights::Each(weights.into()))
    }

    /// (value, weight), sorted.
    fn opened(first: &[(i64, i64)], later: &[&[(i64, i64)]]) -> Vec<(i64, i64)> {
        let rows = delta(first);
        let mut store = Store::new(rows.schema(), Identity::Row).unwrap();
        store.apply(&rows).unwrap();
        let mut since = Vec::new();
        for (epoch, change) in (1..).zip(later) {
            let delta = delta(change);
            store.apply(&delta).unwrap();
            since.push(ChangeSet {
                epoch: Epoch(epoch),
                delta,
            });
        }
        let held = Memory::accounted_only(usize::MAX).hold(Account::Sessions);
        let mut opening = Opening::new(store.snapshot(), &since, held).unwrap();
        let mut given = Vec::new();
        while let Some(batch) = opening.next().unwrap() {
            assert!(!batch.is_empty() && batch.len() <= CHUNK_ROWS_MAX);
            let values: &Int64Array = batch.rows().column(0).as_any().downcast_ref().unwrap();
            given.extend((0..batch.len()).map(|row| (values.value(row), batch.weights().get(row))));
        }
        given.sort_unstable();
        given
    }

    #[test]
    fn the_rows_of_an_earlier_epoch_are_given_without_what_came_and_with_what_went() {
        let first = [(1, 7), (2, 8), (1, 9)];
        assert_eq!(opened(&first, &[]), [(7, 1), (8, 1), (8, 1), (9, 1)]);
        assert_eq!(
            opened(&first, &[&[(1, 8), (-1, 9)], &[(2, 5), (-1, 5)]]),
            [(7, 1), (8, 1), (8, 1), (9, 1)]
        );
        assert_eq!(
            opened(&first, &[&[(-2, 8), (1, 6)], &[(1, 8)]]),
            [(7, 1), (8, 1), (8, 1), (9, 1)]
        );
        assert_eq!(opened(&[(1, 7)], &[&[(-1, 7)]]), [(7, 1)]);
        assert_eq!(opened(&[], &[&[(1, 7)]]), []);
    }

    #[test]
    fn many_rows_are_given_in_parts() {
        let count = i64::try_from(CHUNK_ROWS_MAX).unwrap() * 3;
        let first: Vec<(i64, i64)> = (0..count).map(|n| (1, n)).collect();
        let gone: Vec<(i64, i64)> = (0..count - 5).map(|n| (-1, n)).collect();
        let all: Vec<(i64, i64)> = (0..count).map(|n| (n, 1)).collect();
        assert_eq!(opened(&first, &[&gone]), all);
    }
}
