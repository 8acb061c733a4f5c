//! Pairs of a delta row and a kept row under one key, and the columns that they make.
//!
//! ```text
//!   delta (left)      kept (right), by chain          pairs                  output
//!   0  + (7, 'a')     7: slot 4 ×1, slot 2 ×3         row 0 0 1              + (7, 'a', 7, …)
//!   1  - (9, 'b')     9: slot 1 ×1                    slot 4 2 1             +3(7, 'a', 7, …)
//!                                                     weight 1 3 1           - (9, 'b', 9, …)
//! ```
//!
//! A hot key has more pairs than fit memory at once: they are made and put out in batches.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array,
    new_null_array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;

use crate::base::limits::CHUNK_ROWS_MAX;
use crate::delta::{DeltaBatch, NO_SLOT, arrow_error};
use crate::error::{Error, Result};
use crate::operator::Output;
use crate::operator::evaluate::{evaluate, report};
use crate::operator::join::side::Side;
use crate::operator::rows::weights_of;

/// Which input a delta came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Left,
    Right,
}

/// Up to [`CHUNK_ROWS_MAX`] pairs.
#[derive(Default)]
pub struct Pairs {
    /// Rows of the delta.
    pub rows: Vec<u32>,
    /// Slots of the kept rows.
    pub slots: Vec<u32>,
    /// Weights of the kept rows.
    pub weights: Vec<i64>,
}

/// A walk over all pairs of a delta with a side's rows.
pub struct PairWalk {
    /// For each delta row where it stands in the chain of its key.
    chains: Vec<u32>,
    row: usize,
}

impl PairWalk {
    /// `chains`: for each delta row the first kept row under its key, or [`NO_SLOT`].
    pub fn new(chains: Vec<u32>) -> PairWalk {
        PairWalk { chains, row: 0 }
    }

    /// Replaces `pairs` by the next ones; false when there are no more.
    pub fn next(&mut self, kept: &Side, pairs: &mut Pairs) -> bool {
        pairs.rows.clear();
        pairs.slots.clear();
        pairs.weights.clear();
        while let Some(slot) = self.chains.get_mut(self.row) {
            let row = u32::try_from(self.row).expect("a batch has fewer than 2^32 rows");
            while *slot != NO_SLOT {
                if pairs.rows.len() == CHUNK_ROWS_MAX {
                    return true;
                }
                let weight = kept.rows().weight(*slot);
                // A row that left in this step is in its chain until the step ends.
                if weight != 0 {
                    pairs.rows.push(row);
                    pairs.slots.push(*slot);
                    pairs.weights.push(weight);
                }
                *slot = kept.after(*slot);
            }
            self.row += 1;
        }
        !pairs.rows.is_empty()
    }
}

impl Pairs {
    fn retain(&mut self, is_wanted: &BooleanArray) {
        let wanted = |at: usize| is_wanted.is_valid(at) && is_wanted.value(at);
        fn keep<T: Copy>(values: &mut Vec<T>, wanted: impl Fn(usize) -> bool) {
            let mut at = 0;
            values.retain(|_| {
                at += 1;
                wanted(at - 1)
            });
        }
        keep(&mut self.rows, wanted);
        keep(&mut self.slots, wanted);
        keep(&mut self.weights, wanted);
    }
}

/// Makes output batches of pairs.
pub struct Joiner {
    left_width: usize,
    /// left ++ right, nullable where the output is.
    pairs: SchemaRef,
    residual: Option<Residual>,
}

/// The condition beside the equalities, over only the columns that it reads.
struct Residual {
    expression: Arc<dyn PhysicalExpr>,
    /// The output columns it reads, rising.
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl Joiner {
    /// # Errors
    /// Internal, when the residual is not a boolean expression over left ++ right.
    pub fn new(
        left_width: usize,
        pairs: &SchemaRef,
        residual: Option<&Arc<dyn PhysicalExpr>>,
    ) -> Result<Joiner> {
        let residual = residual
            .map(|residual| Residual::new(residual, pairs))
            .transpose()?;
        Ok(Joiner {
            left_width,
            pairs: pairs.clone(),
            residual,
        })
    }

    /// Leaves only pairs that meet the residual. Those it fails on are left out and reported.
    pub fn meet(
        &self,
        port: Port,
        delta: &DeltaBatch,
        kept: &Side,
        pairs: &mut Pairs,
        out: &mut Output,
    ) -> Result<()> {
        let Some(residual) = &self.residual else {
            return Ok(());
        };
        let columns = self.columns(port, delta, kept, pairs, &residual.columns)?;
        let read = batch(&residual.schema, columns, pairs.rows.len())?;
        let met = evaluate(&residual.expression, &DataType::Boolean, &read)?;
        if !met.failures.is_empty() {
            report(&self.joined(port, delta, kept, pairs)?, &met.failures, out)?;
        }
        let is_met = met.values.as_boolean();
        if is_met.true_count() < pairs.rows.len() {
            pairs.retain(is_met);
        }
        Ok(())
    }

    /// The rows that the pairs are, with the product of their weights.
    pub fn joined(
        &self,
        port: Port,
        delta: &DeltaBatch,
        kept: &Side,
        pairs: &Pairs,
    ) -> Result<DeltaBatch> {
        let all: Vec<usize> = (0..self.pairs.fields().len()).collect();
        let columns = self.columns(port, delta, kept, pairs, &all)?;
        let rows = batch(&self.pairs, columns, pairs.rows.len())?;
        let of_row = |row: u32| delta.weights().get(row as usize);
        let products = pairs.rows.iter().zip(&pairs.weights).map(|(&row, &kept)| {
            of_row(row)
                .checked_mul(kept)
                .ok_or_else(|| Error::internal("a weight beyond 64 bits"))
        });
        let weights = products.collect::<Result<Vec<i64>>>()?;
        Ok(DeltaBatch::new(rows, weights_of(weights)))
    }

    fn columns(
        &self,
        port: Port,
        delta: &DeltaBatch,
        kept: &Side,
        pairs: &Pairs,
        wanted: &[usize],
    ) -> Result<Vec<ArrayRef>> {
        let rows = UInt32Array::from(pairs.rows.clone());
        let column = |&column: &usize| {
            let (from, at) = match column < self.left_width {
                true => (Port::Left, column),
                false => (Port::Right, column - self.left_width),
            };
            match from == port {
                true => take(delta.rows().column(at), &rows, None).map_err(arrow_error),
                false => kept.rows().gather_column(at, &pairs.slots),
            }
        };
        wanted.iter().map(column).collect()
    }

    /// Rows of one side with NULLs for the columns of the other.
    pub fn padded(&self, port: Port, rows: &RecordBatch) -> Result<RecordBatch> {
        let (left, right) = self.pairs.fields().split_at(self.left_width);
        let nulls = |fields: &[FieldRef]| -> Vec<ArrayRef> {
            let null = |field: &FieldRef| new_null_array(field.data_type(), rows.num_rows());
            fields.iter().map(null).collect()
        };
        let columns = match port {
            Port::Left => [rows.columns().to_vec(), nulls(right)].concat(),
            Port::Right => [nulls(left), rows.columns().to_vec()].concat(),
        };
        batch(&self.pairs, columns, rows.num_rows())
    }
}

impl Residual {
    fn new(residual: &Arc<dyn PhysicalExpr>, output: &SchemaRef) -> Result<Residual> {
        let mut columns: Vec<usize> = collect_columns(residual)
            .iter()
            .map(|column| column.index())
            .collect();
        columns.sort_unstable();
        columns.dedup();
        if columns
            .last()
            .is_some_and(|&column| column >= output.fields().len())
        {
            return Err(Error::internal(format!(
                "condition {residual} reads beyond both inputs"
            )));
        }
        let internal = |cause| Error::internal(format!("condition {residual}: {cause}"));
        let expression = Arc::clone(residual)
            .transform(|node| {
                let Some(column) = node.downcast_ref::<Column>() else {
                    return Ok(Transformed::no(node));
                };
                let place = columns
                    .binary_search(&column.index())
                    .expect("a collected column");
                let moved: Arc<dyn PhysicalExpr> = Arc::new(Column::new(column.name(), place));
                Ok(Transformed::yes(moved))
            })
            .data()
            .map_err(internal)?;
        let fields: Vec<Field> = columns
            .iter()
            .map(|&column| output.field(column).clone())
            .collect();
        let schema = Arc::new(Schema::new(fields));
        match expression.data_type(&schema).map_err(internal)? {
            DataType::Boolean => Ok(Residual {
                expression,
                columns,
                schema,
            }),
            other => Err(Error::internal(format!(
                "condition {residual} is of type {other}"
            ))),
        }
    }
}

/// A batch of so many rows, which may have no columns.
pub(super) fn batch(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(arrow_error)
}
