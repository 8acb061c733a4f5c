//! Any aggregate function of DataFusion: its accumulator runs again over a changed group's rows.
//!
//! Its accumulators cannot take an arbitrary row back, drain when they are read, and some cannot be
//! restored. So the multiset of a group's argument rows is kept, and when the group has changed a
//! fresh accumulator is fed with all of them, each as often as its weight says, in a fixed order:
//! that of the call's ORDER BY, then of the argument columns. The cost is that of the group's rows
//! per step; the planner uses it for what has no class of its own.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::scalar::ScalarValue;

use crate::base::limits::CHUNK_ROWS_MAX;
use crate::delta::arrow_error;
use crate::error::{Error, Result};
use crate::operator::aggregate::change::Change;
use crate::operator::aggregate::multiset::Multiset;
use crate::operator::aggregate::spec::StockAggregate;
use crate::operator::aggregate::store::{Groups, Reading, Store};
use crate::operator::evaluate::{Failure, reason};
use crate::operator::{Scope, TableChange};

/// The argument rows of each group, and the function to run over them.
pub(super) struct StockStore {
    aggregate: Arc<StockAggregate>,
    /// The columns that are kept, as the function's expressions know them.
    schema: SchemaRef,
    /// Sorts by the call's ORDER BY, then by all columns.
    sorter: RowConverter,
    rows: Multiset,
}

impl StockStore {
    pub fn new(aggregate: Arc<StockAggregate>, input: &SchemaRef) -> Result<StockStore> {
        let fields: Vec<Field> = aggregate
            .arguments
            .iter()
            .map(|&column| input.field(column).clone())
            .collect();
        let types: Vec<DataType> = fields
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let mut sort_fields = Vec::new();
        for sort in aggregate.expression.order_bys() {
            let data_type = sort.expr.data_type(&schema).map_err(unplanned)?;
            sort_fields.push(SortField::new_with_options(data_type, sort.options));
        }
        sort_fields.extend(
            types
                .iter()
                .map(|data_type| SortField::new(data_type.clone())),
        );
        let sorter = RowConverter::new(sort_fields).map_err(arrow_error)?;
        let rows = Multiset::new(aggregate.arguments.clone(), &types)?;
        Ok(StockStore {
            aggregate,
            schema,
            sorter,
            rows,
        })
    }

    /// The function's value over the rows of a group; the inner error is the user's.
    fn value(&self, slot: u32) -> Result<Result<ScalarValue, DataFusionError>> {
        let (columns, weights) = self.rows.rows(slot)?;
        let count = Some(weights.len());
        let options = RecordBatchOptions::new().with_row_count(count);
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options);
        let rows = rows.map_err(arrow_error)?;
        let order = self.order(&rows)?;
        Ok(self.accumulate(&rows, &weights, &order))
    }

    fn order(&self, rows: &RecordBatch) -> Result<Vec<u32>> {
        let mut columns = Vec::new();
        for sort in self.aggregate.expression.order_bys() {
            columns.push(evaluate(&sort.expr, rows).map_err(unplanned)?);
        }
        columns.extend_from_slice(rows.columns());
        let count = u32::try_from(rows.num_rows()).expect("a group has fewer than 2^32 rows");
        let mut order: Vec<u32> = (0..count).collect();
        if !columns.is_empty() {
            let keys = self.sorter.convert_columns(&columns).map_err(arrow_error)?;
            order.sort_unstable_by(|&a, &b| keys.row(a as usize).cmp(&keys.row(b as usize)));
        }
        Ok(order)
    }

    fn accumulate(
        &self,
        rows: &RecordBatch,
        weights: &[i64],
        order: &[u32],
    ) -> Result<ScalarValue, DataFusionError> {
        let expression = &self.aggregate.expression;
        let mut accumulator = expression.create_accumulator()?;
        // As AggregateExec does: the ORDER BY columns come behind the arguments.
        let mut inputs = expression.expressions();
        inputs.extend(expression.order_bys().iter().map(|sort| sort.expr.clone()));
        let inputs = inputs
            .iter()
            .map(|input| evaluate(input, rows))
            .collect::<Result<Vec<_>, _>>()?;
        let mut chunk: Vec<u32> = Vec::with_capacity(CHUNK_ROWS_MAX);
        let mut feed = |chunk: &mut Vec<u32>| -> Result<(), DataFusionError> {
            let indices = UInt32Array::from(std::mem::take(chunk));
            let values = inputs.iter().map(|input| take(input, &indices, None));
            accumulator.update_batch(&values.collect::<Result<Vec<_>, _>>()?)
        };
        for &row in order {
            for _ in 0..weights[row as usize] {
                chunk.push(row);
                if chunk.len() == CHUNK_ROWS_MAX {
                    feed(&mut chunk)?;
                }
            }
        }
        if !chunk.is_empty() {
            feed(&mut chunk)?;
        }
        accumulator.evaluate()
    }
}

fn evaluate(
    expression: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
) -> Result<ArrayRef, DataFusionError> {
    expression
        .evaluate(rows)?
        .into_array_of_size(rows.num_rows())
}

fn unplanned(cause: DataFusionError) -> Error {
    Error::internal(format!("ORDER BY of an aggregate: {}", reason(&cause)))
}

impl Store for StockStore {
    fn grow(&mut self, groups: usize) {
        self.rows.grow(groups);
    }

    fn update(&mut self, rows: &RecordBatch, change: &Change<'_>) -> Result<()> {
        self.rows.update(rows, change)
    }

    fn settle(&mut self, slots: &[u32]) -> Result<()> {
        self.rows.settle(slots)
    }

    fn read(
        &self,
        _reading: &Reading,
        groups: Groups<'_>,
        failures: &mut Vec<Failure>,
    ) -> Result<ArrayRef> {
        let field = self.aggregate.expression.field();
        let data_type = field.data_type();
        let mut values = Vec::with_capacity(groups.slots.len());
        for (place, &slot) in groups.slots.iter().enumerate() {
            let value = self.value(slot)?.unwrap_or_else(|cause| {
                let row = u32::try_from(place).expect("there are fewer than 2^32 groups");
                failures.push(Failure {
                    row,
                    reason: reason(&cause),
                });
                ScalarValue::Null
            });
            let value = match value {
                ScalarValue::Null => ScalarValue::try_from(data_type),
                value => Ok(value),
            };
            values.push(value.map_err(|cause| Error::internal(cause.to_string()))?);
        }
        let array = match values.is_empty() {
            true => arrow::array::new_empty_array(data_type),
            false => ScalarValue::iter_to_array(values)
                .map_err(|cause| Error::internal(format!("{data_type}: {cause}")))?,
        };
        match array.data_type() == data_type {
            true => Ok(array),
            false => cast(&array, data_type).map_err(arrow_error),
        }
    }

    fn clear(&mut self, slots: &[u32]) -> Result<()> {
        self.rows.clear(slots)
    }

    fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    fn changes(&mut self, scope: Scope) -> Result<Option<TableChange>> {
        self.rows.changes(scope)
    }

    fn restore(&mut self, change: TableChange) -> Result<()> {
        self.rows.restore(change)
    }

    fn rebuild(&mut self, groups: usize) -> Result<()> {
        self.rows.rebuild(groups)
    }
}
