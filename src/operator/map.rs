//! Filter and projection: the linear operator, which keeps no state.
//!
//! Rule: d(π σ A) = π σ dA. Each row of the delta is looked at by itself; its weight and the
//! watermark that stood before it stay with it.
//!
//! ```text
//!   a > 0, a / b       a  b                     a/b
//!                   +  6  3     ──────────►   +  2
//!                   -  8  4     ──────────►   -  2
//!                   +  1  0     ──────────►   RowError "division by zero", weight +1
//!                   +  0  1     ──────────►
//! ```
//!
//! Bounds: a column that is passed through keeps its bound; a computed one has none.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use crate::delta::{DeltaBatch, arrow_error};
use crate::error::{Error, Result};
use crate::operator::evaluate::{Evaluated, Failure, evaluate, report};
use crate::operator::{Bounds, Operator, Output, Step};

/// What happens to a row that an expression fails on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The row is left out, counted and kept as a row of the errors relation.
    FailRow,
    /// The expression is NULL for the row; a NULL filter drops it.
    Null,
}

/// What a [`Map`] does.
#[derive(Clone, Debug)]
pub struct MapSpec {
    pub input: SchemaRef,
    /// A boolean expression over the input; rows for which it is not true are dropped.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// An expression over the input for each column of the output.
    pub project: Vec<Arc<dyn PhysicalExpr>>,
    pub output: SchemaRef,
    pub on_error: OnError,
}

/// Filters and projects.
pub struct Map {
    spec: MapSpec,
    /// For each output column the input column that it is; `None` where it is computed.
    passed: Vec<Option<usize>>,
    /// The output has the input's columns, in their places.
    is_identity: bool,
}

impl Map {
    /// # Errors
    /// Internal, when an expression's type is not that of its output column or the filter is not
    /// boolean.
    ///
    /// # Panics
    /// When there is not one expression per output column.
    pub fn new(spec: MapSpec) -> Result<Map> {
        assert_eq!(
            spec.project.len(),
            spec.output.fields().len(),
            "an expression per column"
        );
        let type_of = |expression: &Arc<dyn PhysicalExpr>| {
            expression
                .data_type(&spec.input)
                .map_err(|cause| Error::internal(format!("expression {expression}: {cause}")))
        };
        if let Some(filter) = &spec.filter {
            let data_type = type_of(filter)?;
            if data_type != DataType::Boolean {
                return Err(Error::internal(format!(
                    "filter {filter} is of type {data_type}"
                )));
            }
        }
        let passed: Vec<Option<usize>> = spec.project.iter().map(column_of).collect();
        for (column, field) in passed.iter().zip(spec.output.fields()) {
            let Some(column) = column else { continue };
            let data_type = spec.input.field(*column).data_type();
            if data_type != field.data_type() {
                return Err(Error::internal(format!(
                    "column {} is of type {data_type}, the plan says {}",
                    field.name(),
                    field.data_type()
                )));
            }
        }
        let is_identity = passed.len() == spec.input.fields().len()
            && passed
                .iter()
                .enumerate()
                .all(|(at, column)| *column == Some(at));
        Ok(Map {
            spec,
            passed,
            is_identity,
        })
    }

    /// The rows that pass the filter; those it failed on go to the output's errors.
    fn filter(&self, batch: DeltaBatch, out: &mut Output) -> Result<DeltaBatch> {
        let Some(filter) = &self.spec.filter else {
            return Ok(batch);
        };
        let Evaluated { values, failures } = evaluate(filter, &DataType::Boolean, batch.rows())?;
        if self.spec.on_error == OnError::FailRow {
            report(&batch, &failures, out)?;
        }
        let is_wanted = values.as_boolean();
        match is_wanted.true_count() {
            count if count == batch.len() => Ok(batch),
            0 => Ok(batch.slice(0, 0)),
            _ => batch.filter(is_wanted),
        }
    }

    /// The output columns; rows that an expression failed on are taken out.
    fn project(&self, batch: DeltaBatch, out: &mut Output) -> Result<DeltaBatch> {
        let fields = self.spec.output.fields();
        if self.is_identity {
            let rows = batch.rows();
            return match rows.schema_ref() == &self.spec.output {
                true => Ok(batch),
                false => self.with_columns(&batch, rows.columns().to_vec()),
            };
        }
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(fields.len());
        let mut failed: Vec<Failure> = Vec::new();
        for ((expression, passed), field) in self.spec.project.iter().zip(&self.passed).zip(fields)
        {
            if let Some(column) = passed {
                columns.push(batch.rows().column(*column).clone());
                continue;
            }
            let result = evaluate(expression, field.data_type(), batch.rows())?;
            columns.push(result.values);
            // NULL is no way out where the column is promised to have none.
            if self.spec.on_error == OnError::FailRow || !field.is_nullable() {
                failed.extend(result.failures);
            }
        }
        if failed.is_empty() {
            return self.with_columns(&batch, columns);
        }
        // Of several failures of one row the leftmost column's is told.
        failed.sort_by_key(|failure| failure.row);
        failed.dedup_by_key(|failure| failure.row);
        report(&batch, &failed, out)?;
        let mut is_good = vec![true; batch.len()];
        failed
            .iter()
            .for_each(|failure| is_good[failure.row as usize] = false);
        let is_good = BooleanArray::from(is_good);
        let columns = columns
            .iter()
            .map(|column| arrow::compute::filter(column.as_ref(), &is_good).map_err(arrow_error));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        self.with_columns(&batch.filter(&is_good)?, columns)
    }

    fn with_columns(&self, batch: &DeltaBatch, columns: Vec<ArrayRef>) -> Result<DeltaBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.len()));
        let schema = self.spec.output.clone();
        let rows = RecordBatch::try_new_with_options(schema, columns, &options);
        Ok(batch.with_rows(rows.map_err(arrow_error)?))
    }
}

impl Operator for Map {
    fn push(&mut self, port: usize, batch: DeltaBatch, out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "a map has one input");
        let kept = self.filter(batch, out)?;
        if kept.is_empty() {
            return Ok(());
        }
        let projected = self.project(kept, out)?;
        out.emit(projected);
        Ok(())
    }

    fn finish(&mut self, _step: &Step, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let input = &step.bounds[0].0;
        Bounds(self.passed.iter().map(|column| input[(*column)?]).collect())
    }
}

fn column_of(expression: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expression.downcast_ref::<Column>().map(Column::index)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::Operator as Op;
    use datafusion::physical_expr::expressions::{BinaryExpr, Literal};
    use datafusion::scalar::ScalarValue;

    use super::*;
    use crate::base::{Epoch, EventTime};
    use crate::delta::notation::{parse, print};
    use crate::operator::RowError;

    const INPUT: &str = "
        a:bigint b:bigint
        +  6  3
        -  8  4
        +2 1  0
        +  0  1
        +  NULL 1";

    fn column(index: usize) -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new(["a", "b"][index], index))
    }

    fn binary(a: Arc<dyn PhysicalExpr>, op: Op, b: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(a, op, b))
    }

    fn number(value: i64) -> Arc<dyn PhysicalExpr> {
        Arc::new(Literal::new(ScalarValue::Int64(Some(value))))
    }

    fn map(
        filter: Option<Arc<dyn PhysicalExpr>>,
        project: Vec<Arc<dyn PhysicalExpr>>,
        on_error: OnError,
    ) -> Map {
        let output = project.iter().enumerate();
        let output = output.map(|(at, _)| Field::new(format!("c{at}"), DataType::Int64, true));
        let output = Arc::new(Schema::new(output.collect::<Vec<_>>()));
        let input = parse(INPUT).schema();
        Map::new(MapSpec {
            input,
            filter,
            project,
            output,
            on_error,
        })
        .unwrap()
    }

    fn push(map: &mut Map, batch: DeltaBatch) -> (String, Output) {
        let mut out = Output::default();
        map.push(0, batch, &mut out).unwrap();
        (out.deltas.iter().map(print).collect(), out)
    }

    #[test]
    fn a_failing_row_is_left_out_and_the_others_go_on_in_order() {
        let filter = binary(column(0), Op::Gt, number(0));
        let divided = binary(column(0), Op::Divide, column(1));
        let mut map = map(Some(filter), vec![divided, column(0)], OnError::FailRow);
        let (text, out) = push(&mut map, parse(INPUT));
        assert_eq!(text, "+ 2 6\n- 2 8\n");
        let error = RowError {
            reason: "division by zero".to_string(),
            row: "1, 0".to_string(),
            weight: 2,
        };
        assert_eq!(out.errors, [error]);
        assert_eq!(out.counts.rows_failed, 2);
    }

    #[test]
    fn a_failing_expression_is_null_where_that_is_wanted() {
        let divided = binary(column(0), Op::Divide, column(1));
        let mut projecting = map(None, vec![divided.clone()], OnError::Null);
        let (text, out) = push(&mut projecting, parse(INPUT));
        assert_eq!(text, "+ 2\n- 2\n+2 NULL\n+ 0\n+ NULL\n");
        assert!(out.errors.is_empty());
        let filter = binary(divided, Op::Eq, number(2));
        let mut filtering = map(Some(filter), vec![column(0)], OnError::Null);
        assert_eq!(push(&mut filtering, parse(INPUT)).0, "+ 6\n- 8\n");
    }

    #[test]
    fn a_filter_that_fails_counts_its_row_as_failed() {
        let divided = binary(column(0), Op::Divide, column(1));
        let filter = binary(divided, Op::Eq, number(2));
        let mut map = map(Some(filter), vec![column(0)], OnError::FailRow);
        let (text, out) = push(&mut map, parse(INPUT));
        assert_eq!(text, "+ 6\n- 8\n");
        assert_eq!(out.counts.rows_failed, 2);
    }

    #[test]
    fn a_guard_protects_whatever_rows_stand_beside() {
        let guard = binary(column(1), Op::NotEq, number(0));
        let divided = binary(column(0), Op::Divide, column(1));
        let guarded = binary(guard, Op::And, binary(divided, Op::Eq, number(2)));
        let mut map = map(Some(guarded), vec![column(0)], OnError::FailRow);
        let (text, out) = push(&mut map, parse(INPUT));
        assert_eq!(text, "+ 6\n- 8\n");
        assert_eq!(out.counts.rows_failed, 0);
    }

    #[test]
    fn constants_fill_their_column_and_watermarks_stay() {
        let mut map = map(None, vec![number(7), column(1)], OnError::FailRow);
        let input = parse("a:bigint b:bigint\n+ @10 1 2\n- @20 3 4");
        let (text, out) = push(&mut map, input);
        assert_eq!(text, "+ 7 2\n- 7 4\n");
        assert_eq!(out.deltas[0].watermarks().unwrap().to_vec(), [10, 20]);
    }

    #[test]
    fn the_identity_only_renames() {
        let mut map = map(None, vec![column(0), column(1)], OnError::FailRow);
        let (text, out) = push(&mut map, parse(INPUT));
        assert_eq!(text, print(&parse(INPUT)));
        assert_eq!(out.deltas[0].schema().field(0).name(), "c0");
    }

    #[test]
    fn rows_without_columns_are_counted_on() {
        let mut map = map(
            Some(binary(column(0), Op::Gt, number(5))),
            vec![],
            OnError::FailRow,
        );
        assert_eq!(push(&mut map, parse(INPUT)).0, "+\n-\n");
    }

    #[test]
    fn only_a_passed_column_has_a_bound() {
        let map = map(
            None,
            vec![column(1), number(1), column(0)],
            OnError::FailRow,
        );
        let step = Step {
            epoch: Epoch(1),
            clock_micros: 0,
            bounds: vec![Bounds(vec![None, Some(EventTime(5))])],
        };
        assert_eq!(
            map.bounds(&step),
            Bounds(vec![Some(EventTime(5)), None, None])
        );
    }

    #[test]
    fn a_type_that_the_plan_has_wrong_is_refused() {
        let output = Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true)]));
        let spec = MapSpec {
            input: parse(INPUT).schema(),
            filter: None,
            project: vec![column(0)],
            output,
            on_error: OnError::FailRow,
        };
        assert!(Map::new(spec).is_err());
    }
}
