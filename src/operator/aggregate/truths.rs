//! `bool_and` and `bool_or`: the number of true values by slot.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};

use crate::base::growth::grow;
use crate::error::{Error, Result};
use crate::operator::aggregate::change::Change;
use crate::operator::aggregate::store::{Groups, Reading, Store, Times};
use crate::operator::evaluate::Failure;

/// How many values of a boolean column are true.
pub(super) struct TruthStore {
    argument: usize,
    truths: Vec<i64>,
}

impl TruthStore {
    pub fn new(argument: usize) -> TruthStore {
        TruthStore {
            argument,
            truths: Vec::new(),
        }
    }
}

impl Store for TruthStore {
    fn grow(&mut self, groups: usize) {
        grow(&mut self.truths, groups, 0);
    }

    fn update(&mut self, rows: &RecordBatch, change: &Change<'_>) -> Result<()> {
        let values = rows.column(self.argument).as_boolean().values();
        let true_rows = match change.valid {
            Some(valid) => valid & values,
            None => values.clone(),
        };
        let true_rows = Change {
            valid: Some(&true_rows),
            ..*change
        };
        true_rows.each(|_, slot, weight| self.truths[slot] += weight);
        Ok(())
    }

    fn settle(&mut self, _slots: &[u32]) -> Result<()> {
        Ok(())
    }

    fn read(
        &self,
        reading: &Reading,
        groups: Groups<'_>,
        _failures: &mut Vec<Failure>,
    ) -> Result<ArrayRef> {
        let holds: fn(i64, i64) -> bool = match reading {
            Reading::All => |truths, count| truths == count,
            Reading::Any => |truths, _| truths > 0,
            other => return Err(Error::internal(format!("truths are not read as {other:?}"))),
        };
        let value = |(&slot, &count): (&u32, &i64)| {
            (count > 0).then(|| holds(self.truths[slot as usize], count))
        };
        let values: BooleanArray = groups.slots.iter().zip(groups.counts).map(value).collect();
        Ok(Arc::new(values))
    }

    fn clear(&mut self, slots: &[u32]) -> Result<()> {
        slots
            .iter()
            .for_each(|&slot| self.truths[slot as usize] = 0);
        Ok(())
    }

    fn merge(&mut self, from: u32, into: u32) -> Result<()> {
        self.truths[into as usize] += std::mem::take(&mut self.truths[from as usize]);
        Ok(())
    }

    fn combine(&mut self, from: &[u32], into: &[u32], times: Times) -> Result<()> {
        for (&from, &into) in from.iter().zip(into) {
            self.truths[into as usize] += self.truths[from as usize] * times.factor();
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.truths.capacity() * size_of::<i64>()
    }

    fn saved_types(&self) -> Vec<DataType> {
        vec![DataType::Int64]
    }

    fn save(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let truths = slots.iter().map(|&slot| self.truths[slot as usize]);
        Ok(vec![Arc::new(Int64Array::from_iter_values(truths))])
    }

    fn load(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let truths = columns[0].as_primitive::<Int64Type>().values();
        for (&slot, &count) in slots.iter().zip(truths) {
            self.truths[slot as usize] = count;
        }
        Ok(())
    }
}
