//! VALUES in a view: rows that are there from the beginning, computed once.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::Values;

use crate::catalog::Changelog;
use crate::delta::arrow_error;
use crate::error::Result;
use crate::plan::build::{Build, arrow_schema};
use crate::plan::failure::from_datafusion;
use crate::plan::stream::{Node, Operation};

impl Build<'_> {
    /// # Errors
    /// What a value's expression fails with, as in a SELECT.
    pub(super) fn values(&mut self, values: &Values) -> Result<usize> {
        let schema = arrow_schema(&values.schema);
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let nothing =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
                .map_err(arrow_error)?;
        let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::new(); schema.fields().len()];
        for row in &values.values {
            for ((expr, field), column) in row.iter().zip(schema.fields()).zip(&mut columns) {
                let value = self.compile(expr, &DFSchema::empty())?;
                let value = value.evaluate(&nothing).and_then(|value| {
                    let value = ScalarValue::try_from_array(&value.into_array(1)?, 0)?;
                    value.cast_to(field.data_type())
                });
                column.push(value.map_err(from_datafusion)?);
            }
        }
        let columns = columns
            .into_iter()
            .map(|column| ScalarValue::iter_to_array(column).map_err(from_datafusion))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let rows = RecordBatch::try_new(schema.clone(), columns).map_err(arrow_error)?;
        let node = Node {
            key: (rows.num_rows() <= 1).then(Vec::new),
            operation: Operation::Constant(Arc::new(rows)),
            inputs: Vec::new(),
            schema,
            changelog: Changelog::AppendOnly,
            bounded: Vec::new(),
        };
        Ok(self.add(node))
    }
}
