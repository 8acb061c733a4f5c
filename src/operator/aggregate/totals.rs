//! Sums and averages: the state is the sum alone, whatever comes and goes.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryBuilder, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type};

use crate::error::{Error, Result};
use crate::function::aggregate::{Algebra, Totals, for_integers};
use crate::operator::aggregate::change::Change;
use crate::operator::aggregate::store::{Groups, Reading, Store, Times};
use crate::operator::evaluate::Failure;

/// The sum of one column by slot.
pub(super) struct TotalStore {
    argument: usize,
    algebra: Algebra,
    totals: Totals,
}

impl TotalStore {
    /// # Errors
    /// Internal, when the type does not add up: the plan has the result's type from the same rule.
    pub fn new(argument: usize, data_type: &DataType) -> Result<TotalStore> {
        let algebra = Algebra::of(data_type)
            .ok_or_else(|| Error::internal(format!("a total over {data_type}")))?;
        Ok(TotalStore {
            argument,
            algebra,
            totals: Totals::new(algebra),
        })
    }

    /// Adds the values of a column.
    pub fn add(&mut self, array: &ArrayRef, change: &Change<'_>) -> Result<()> {
        let unknown = || Error::internal(format!("a total over {}", array.data_type()));
        match (&mut self.totals, self.algebra) {
            (Totals::Exact(sums), Algebra::Integer) => for_integers!(array, values => {
                change.each(|row, slot, weight| {
                    sums.add_integer(slot, i128::from(values[row]), weight);
                });
            }, else return Err(unknown())),
            (Totals::Exact(sums), _) => for_integers!(array, values => {
                change.each(|row, slot, weight| sums.add(slot, i128::from(values[row]), weight));
            }, else return Err(unknown())),
            (Totals::Float(sums), _) => match array.data_type() {
                DataType::Float64 => {
                    let values: &[f64] = array.as_primitive::<Float64Type>().values();
                    change.each(|row, slot, weight| sums.add(slot, values[row], weight));
                }
                DataType::Float32 => {
                    let values: &[f32] = array.as_primitive::<Float32Type>().values();
                    change.each(|row, slot, weight| {
                        sums.add(slot, f64::from(values[row]), weight);
                    });
                }
                _ => return Err(unknown()),
            },
        }
        Ok(())
    }
}

impl Store for TotalStore {
    fn grow(&mut self, groups: usize) {
        self.totals.grow(groups);
    }

    fn update(&mut self, rows: &RecordBatch, change: &Change<'_>) -> Result<()> {
        self.add(rows.column(self.argument), change)
    }

    fn settle(&mut self, slots: &[u32]) -> Result<()> {
        if let Totals::Float(sums) = &mut self.totals {
            slots.iter().for_each(|&slot| sums.settle(slot as usize));
        }
        Ok(())
    }

    fn read(
        &self,
        reading: &Reading,
        groups: Groups<'_>,
        failures: &mut Vec<Failure>,
    ) -> Result<ArrayRef> {
        let Reading::Total(rule) = reading else {
            return Err(Error::internal(format!(
                "a total is not read as {reading:?}"
            )));
        };
        let slots = groups.slots.iter().map(|&slot| slot as usize);
        let counted = slots.zip(groups.counts.iter().copied());
        let (values, failed) = rule.results(&self.totals, counted);
        failures.extend(failed.into_iter().map(|(row, reason)| Failure {
            row: u32::try_from(row).expect("there are fewer than 2^32 groups"),
            reason: reason.0.to_string(),
        }));
        Ok(values)
    }

    fn clear(&mut self, slots: &[u32]) -> Result<()> {
        slots
            .iter()
            .for_each(|&slot| self.totals.clear(slot as usize));
        Ok(())
    }

    fn merge(&mut self, from: u32, into: u32) -> Result<()> {
        let mut sum = Vec::new();
        self.totals.write(from as usize, &mut sum);
        self.totals.clear(from as usize);
        self.totals.merge(into as usize, &sum)
    }

    fn combine(&mut self, from: &[u32], into: &[u32], times: Times) -> Result<()> {
        for (&from, &into) in from.iter().zip(into) {
            let (from, into) = (from as usize, into as usize);
            self.totals.combine(from, into, times.factor());
        }
        self.settle(into)
    }

    fn bytes(&self) -> usize {
        self.totals.bytes()
    }

    fn saved_types(&self) -> Vec<DataType> {
        vec![DataType::Binary]
    }

    fn save(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let mut sums = BinaryBuilder::with_capacity(slots.len(), slots.len() * 24);
        let mut bytes = Vec::new();
        for &slot in slots {
            bytes.clear();
            self.totals.write(slot as usize, &mut bytes);
            sums.append_value(&bytes);
        }
        Ok(vec![Arc::new(sums.finish())])
    }

    fn load(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let sums = columns[0].as_binary::<i32>();
        for (row, &slot) in slots.iter().enumerate() {
            self.totals.clear(slot as usize);
            self.totals.merge(slot as usize, sums.value(row))?;
        }
        Ok(())
    }
}
