//! Repeats rows as often as their last column says: what INTERSECT ALL and EXCEPT ALL end with.
//!
//! Rule: d(repeat A) = repeat dA. The number is a part of the row, so that a row whose number
//! changes comes as two: its weight is multiplied by the number, and the number is dropped.
//!
//! ```text
//!   a  n                  a
//!   -  x  1    ───────►   -1 x
//!   +  x  3    ───────►   +3 x
//!   +  y  0    ───────►
//! ```
//!
//! State: none. A number below one repeats a row never.
//!
//! Bounds: those of the input's columns.

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use crate::delta::{DeltaBatch, Weights, arrow_error};
use crate::error::{Error, Result, SqlState};
use crate::operator::{Bounds, Operator, Output, Step};

/// What a [`Repeat`] works on.
#[derive(Clone, Debug)]
pub struct RepeatSpec {
    /// Its last column is how often, a bigint.
    pub input: SchemaRef,
    /// The columns before it.
    pub output: SchemaRef,
}

/// Repeats rows.
pub struct Repeat {
    spec: RepeatSpec,
}

impl Repeat {
    /// # Errors
    /// Internal, when the last column is no bigint or the others are not those of the output.
    pub fn new(spec: RepeatSpec) -> Result<Repeat> {
        let width = spec.output.fields().len();
        let types = |schema: &SchemaRef| -> Vec<DataType> {
            let fields = schema.fields().iter();
            fields.map(|field| field.data_type().clone()).collect()
        };
        let (mut input, output) = (types(&spec.input), types(&spec.output));
        match input.pop() == Some(DataType::Int64) && input == output {
            true => Ok(Repeat { spec }),
            false => Err(Error::internal(format!(
                "{width} columns repeated by the last of {:?}",
                spec.input
            ))),
        }
    }
}

impl Operator for Repeat {
    fn push(&mut self, port: usize, batch: DeltaBatch, out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "rows of one input are repeated");
        let width = self.spec.output.fields().len();
        let number = |batch: &DeltaBatch| batch.rows().column(width).clone();
        let numbers = number(&batch);
        let numbers = numbers.as_primitive::<Int64Type>();
        let repeats = |row: usize| numbers.is_valid(row) && numbers.value(row) > 0;
        let is_wanted: BooleanArray = (0..batch.len()).map(|row| Some(repeats(row))).collect();
        let batch = match is_wanted.false_count() {
            0 => batch,
            _ => batch.filter(&is_wanted)?,
        };
        let numbers = number(&batch);
        let numbers = numbers.as_primitive::<Int64Type>().values();
        let weight = |(row, times): (usize, &i64)| {
            batch.weights().get(row).checked_mul(*times).ok_or_else(|| {
                Error::new(
                    SqlState::PROGRAM_LIMIT_EXCEEDED,
                    "a row is there more than 2^63 times",
                )
            })
        };
        let weights = numbers.iter().enumerate().map(weight);
        let weights = weights.collect::<Result<Vec<i64>>>()?;
        let columns: Vec<usize> = (0..width).collect();
        let rows = batch.rows().project(&columns).map_err(arrow_error)?;
        let rows = rows
            .with_schema(self.spec.output.clone())
            .map_err(arrow_error)?;
        out.emit(DeltaBatch::new(rows, Weights::Each(weights.into())));
        Ok(())
    }

    fn finish(&mut self, _step: &Step, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let width = self.spec.output.fields().len();
        Bounds(step.bounds[0].0[..width].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn schema(names: &[&str]) -> SchemaRef {
        let field = |name: &&str| Field::new(*name, DataType::Int64, true);
        Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()))
    }

    #[test]
    fn a_row_is_there_as_often_as_its_number_says() {
        let (input, output) = (schema(&["a", "n"]), schema(&["a"]));
        let spec = RepeatSpec {
            input: input.clone(),
            output,
        };
        let mut repeat = Repeat::new(spec).unwrap();
        let a = Int64Array::from(vec![Some(1), Some(1), None, Some(2), Some(3)]);
        let n = Int64Array::from(vec![Some(1), Some(3), Some(2), Some(0), None]);
        let rows = RecordBatch::try_new(input, vec![Arc::new(a), Arc::new(n)]).unwrap();
        let weights = Weights::Each(vec![-1, 1, 2, 1, 1].into());
        let mut out = Output::default();
        repeat
            .push(0, DeltaBatch::new(rows, weights), &mut out)
            .unwrap();
        let delta = &out.deltas[0];
        let weights: Vec<i64> = (0..3).map(|row| delta.weights().get(row)).collect();
        assert_eq!((delta.len(), weights), (3, vec![-1, 3, 4]));
        let values = delta.rows().column(0).as_primitive::<Int64Type>();
        let values: Vec<Option<i64>> = values.iter().collect();
        assert_eq!(values, [Some(1), Some(1), None]);
    }

    #[test]
    fn more_than_can_be_counted_is_an_error() {
        let input = schema(&["n"]);
        let output = schema(&[]);
        let spec = RepeatSpec {
            input: input.clone(),
            output,
        };
        let mut repeat = Repeat::new(spec).unwrap();
        let n = Int64Array::from(vec![i64::MAX]);
        let rows = RecordBatch::try_new(input, vec![Arc::new(n)]).unwrap();
        let delta = DeltaBatch::new(rows, Weights::Each(vec![2].into()));
        let error = repeat.push(0, delta, &mut Output::default()).unwrap_err();
        assert_eq!(error.state(), SqlState::PROGRAM_LIMIT_EXCEEDED);
    }
}
