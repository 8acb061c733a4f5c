//! Expressions over batches in which single rows may fail: the others go on.
//!
//! An expression is evaluated over the whole batch. Only where that fails, the batch is halved
//! until the failing rows stand alone: a batch of n rows with k bad ones costs at most 2·k·log₂ n
//! evaluations, one without bad ones costs one. What a row gives does not depend on its neighbours,
//! so the result is that of evaluating row by row.
//!
//! ```text
//!   10 / b    b = [2, 0, 5, 1]  ─►  fails  ─►  [2, 0] fails ─► [2] 5 · [0] "division by zero"
//!                                              [5, 1] ─► [2, 10]
//!   values [5, NULL, 2, 10], failures [(1, "division by zero")]
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use bytes::BytesMut;
use datafusion::common::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;

use crate::base::limits::{ERROR_RECORD_BYTES_MAX, ERROR_ROWS_MAX};
use crate::delta::{DeltaBatch, arrow_error};
use crate::error::{Error, Result};
use crate::operator::{Output, RowError};
use crate::types::pg::{Format, ValueWriter};

/// What an expression gave for a batch.
pub struct Evaluated {
    /// A value per row; NULL where the row failed.
    pub values: ArrayRef,
    /// The rows that failed, rising.
    pub failures: Vec<Failure>,
}

/// A row that an expression could not be evaluated for.
pub struct Failure {
    pub row: u32,
    /// Why, as the user reads it: `division by zero`.
    pub reason: String,
}

/// Evaluates an expression for every row; the values have type `data_type`.
///
/// # Errors
/// Internal, when the values are of another type than the plan says.
pub fn evaluate(
    expression: &Arc<dyn PhysicalExpr>,
    data_type: &DataType,
    batch: &RecordBatch,
) -> Result<Evaluated> {
    let mut parts = Vec::new();
    let mut failures = Vec::new();
    if batch.num_rows() > 0 {
        halve(expression, data_type, batch, 0, &mut parts, &mut failures)?;
    }
    let values = match parts.as_slice() {
        [] => new_null_array(data_type, 0),
        [only] => only.clone(),
        _ => {
            let parts: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
            concat(&parts).map_err(arrow_error)?
        }
    };
    Ok(Evaluated { values, failures })
}

/// Evaluates over the batch, whose first row has number `first`, or over its halves.
fn halve(
    expression: &Arc<dyn PhysicalExpr>,
    data_type: &DataType,
    batch: &RecordBatch,
    first: usize,
    parts: &mut Vec<ArrayRef>,
    failures: &mut Vec<Failure>,
) -> Result<()> {
    let rows = batch.num_rows();
    let value = expression
        .evaluate(batch)
        .and_then(|value| value.into_array_of_size(rows));
    let cause = match value {
        Ok(values) => {
            parts.push(with_type(values, data_type)?);
            return Ok(());
        }
        Err(cause) => cause,
    };
    if rows == 1 {
        parts.push(new_null_array(data_type, 1));
        let row = u32::try_from(first).expect("a batch has fewer than 2^32 rows");
        failures.push(Failure {
            row,
            reason: reason(&cause),
        });
        return Ok(());
    }
    let half = rows / 2;
    halve(
        expression,
        data_type,
        &batch.slice(0, half),
        first,
        parts,
        failures,
    )?;
    let rest = batch.slice(half, rows - half);
    halve(expression, data_type, &rest, first + half, parts, failures)
}

/// The values under the type of the plan, which may differ in what can be NULL inside of it.
fn with_type(values: ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if values.data_type() == data_type {
        return Ok(values);
    }
    if !is_same_shape(values.data_type(), data_type) {
        return Err(Error::internal(format!(
            "an expression gave values of type {}, the plan says {data_type}",
            values.data_type()
        )));
    }
    cast(&values, data_type).map_err(arrow_error)
}

/// Whether two types differ in nothing but the names, metadata and nullability of nested fields.
fn is_same_shape(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::List(a), DataType::List(b)) | (DataType::Map(a, _), DataType::Map(b, _)) => {
            is_same_shape(a.data_type(), b.data_type())
        }
        (DataType::FixedSizeList(a, m), DataType::FixedSizeList(b, n)) => {
            m == n && is_same_shape(a.data_type(), b.data_type())
        }
        (DataType::Struct(a), DataType::Struct(b)) => {
            let mut pairs = a.iter().zip(b.iter());
            a.len() == b.len() && pairs.all(|(a, b)| is_same_shape(a.data_type(), b.data_type()))
        }
        _ => a == b,
    }
}

/// Puts failed rows of a batch into the output: counted, and kept up to [`ERROR_ROWS_MAX`] a step.
pub fn report(rows: &DeltaBatch, failures: &[Failure], out: &mut Output) -> Result<()> {
    if failures.is_empty() {
        return Ok(());
    }
    for failure in failures {
        let row = usize::try_from(failure.row).expect("row numbers fit usize");
        out.counts.rows_failed += rows.weights().get(row).unsigned_abs();
    }
    let room = ERROR_ROWS_MAX.saturating_sub(out.errors.len());
    let schema = rows.schema();
    let writers = schema
        .fields()
        .iter()
        .map(|field| ValueWriter::new(field, Format::Text));
    let writers = writers.collect::<Result<Vec<_>>>()?;
    for failure in failures.iter().take(room) {
        let row = usize::try_from(failure.row).expect("row numbers fit usize");
        out.errors.push(RowError {
            reason: failure.reason.clone(),
            row: row_text(&writers, rows.rows(), row)?,
            weight: rows.weights().get(row),
        });
    }
    Ok(())
}

/// The row's values with commas between them, cut at [`ERROR_RECORD_BYTES_MAX`].
fn row_text(writers: &[ValueWriter], batch: &RecordBatch, row: usize) -> Result<String> {
    let mut text = BytesMut::new();
    for (number, (writer, column)) in writers.iter().zip(batch.columns()).enumerate() {
        if number > 0 {
            text.extend_from_slice(b", ");
        }
        if !writer.write(column, row, &mut text)? {
            text.extend_from_slice(b"NULL");
        }
        if text.len() > ERROR_RECORD_BYTES_MAX {
            break;
        }
    }
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if text.len() > ERROR_RECORD_BYTES_MAX {
        let end = (0..=ERROR_RECORD_BYTES_MAX)
            .rev()
            .find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or(0));
    }
    Ok(text)
}

/// What a failed evaluation says to a user, in the words of Postgres where it has some.
pub fn reason(error: &DataFusionError) -> String {
    match error {
        DataFusionError::Context(_, cause) | DataFusionError::Diagnostic(_, cause) => reason(cause),
        DataFusionError::Shared(cause) => reason(cause),
        DataFusionError::Collection(causes) => match causes.first() {
            Some(cause) => reason(cause),
            None => error.strip_backtrace(),
        },
        DataFusionError::ArrowError(cause, _) => arrow_reason(cause),
        DataFusionError::External(cause) => external_reason(cause.as_ref()),
        DataFusionError::Execution(text)
        | DataFusionError::NotImplemented(text)
        | DataFusionError::Plan(text)
        | DataFusionError::Internal(text) => without_backtrace(text).to_string(),
        other => other.strip_backtrace(),
    }
}

fn external_reason(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    if let Some(error) = cause.downcast_ref::<Error>() {
        return error.message().to_string();
    }
    if let Some(error) = cause.downcast_ref::<DataFusionError>() {
        return reason(error);
    }
    match cause.downcast_ref::<ArrowError>() {
        Some(error) => arrow_reason(error),
        None => cause.to_string(),
    }
}

fn arrow_reason(error: &ArrowError) -> String {
    match error {
        ArrowError::DivideByZero => "division by zero".to_string(),
        ArrowError::ArithmeticOverflow(text) => {
            let operands = text.strip_prefix("Overflow happened on: ").unwrap_or(text);
            format!("value out of range: {operands}")
        }
        ArrowError::ExternalError(cause) => external_reason(cause.as_ref()),
        ArrowError::CastError(text) => cast_reason(text),
        ArrowError::ParseError(text)
        | ArrowError::ComputeError(text)
        | ArrowError::InvalidArgumentError(text)
        | ArrowError::NotYetImplemented(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `Cannot cast string 'x' to value of Int64 type` and `Can't cast value 70000 to type Int16`, as
/// Postgres says them.
fn cast_reason(text: &str) -> String {
    let syntax = text.strip_prefix("Cannot cast string '");
    let syntax = syntax.or_else(|| text.strip_prefix("Cannot cast value '"));
    if let Some((value, rest)) = syntax.and_then(|rest| rest.rsplit_once("' to value of ")) {
        let name = type_name(rest.strip_suffix(" type").unwrap_or(rest));
        return format!("invalid input syntax for type {name}: \"{value}\"");
    }
    let range = text.strip_prefix("Can't cast value ");
    match range.and_then(|rest| rest.rsplit_once(" to type ")) {
        Some((value, name)) => format!("{} out of range: {value}", type_name(name)),
        None => text.to_string(),
    }
}

/// The SQL name of an Arrow type of which only the printed name is left.
fn type_name(printed: &str) -> &str {
    let head = printed.split('(').next().unwrap_or(printed);
    match head {
        "Boolean" => "boolean",
        "Int16" => "smallint",
        "Int32" => "integer",
        "Int64" => "bigint",
        "Float32" => "real",
        "Float64" => "double precision",
        "Decimal128" | "Decimal256" => "numeric",
        "Utf8" => "text",
        "Date32" | "Date64" => "date",
        "Time64" | "Time32" => "time",
        "Timestamp" => "timestamp",
        "Interval" => "interval",
        _ => printed,
    }
}

fn without_backtrace(text: &str) -> &str {
    text.split(DataFusionError::BACK_TRACE_SEP)
        .next()
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_in_the_users_words() {
        let arrow = |error: ArrowError| DataFusionError::ArrowError(Box::new(error), None);
        let cast = |text: &str| arrow(ArrowError::CastError(text.to_string()));
        let cases = [
            (
                arrow(ArrowError::DivideByZero).context("10 / b"),
                "division by zero",
            ),
            (
                arrow(ArrowError::ArithmeticOverflow(
                    "Overflow happened on: 9 + 1".to_string(),
                )),
                "value out of range: 9 + 1",
            ),
            (
                cast("Cannot cast string 'it's' to value of Int64 type"),
                "invalid input syntax for type bigint: \"it's\"",
            ),
            (
                cast("Cannot cast value 'invalid' to value of Boolean type"),
                "invalid input syntax for type boolean: \"invalid\"",
            ),
            (
                cast("Can't cast value 70000 to type Int16"),
                "smallint out of range: 70000",
            ),
            (
                DataFusionError::External(Box::new(Error::unsupported("no such zone"))),
                "no such zone",
            ),
            (
                DataFusionError::Execution("negative length".to_string()),
                "negative length",
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(reason(&error), expected);
        }
    }
}
