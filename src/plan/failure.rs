//! DataFusion's errors in our words: the SQLSTATE a client expects, the names a user typed.

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use crate::error::{Error, SqlState};

/// Turns a DataFusion error into ours. An error of ours that travelled through it comes out as it
/// was.
pub fn from_datafusion(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => match other.downcast::<DataFusionError>() {
                Ok(nested) => from_datafusion(*nested),
                Err(other) => Error::internal(other.to_string()),
            },
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            from_datafusion(*inner)
        }
        DataFusionError::Shared(inner) => from_shared(&inner),
        DataFusionError::SchemaError(error, _) => from_schema(&error),
        DataFusionError::ArrowError(error, _) => from_arrow(*error),
        DataFusionError::SQL(error, _) => {
            Error::new(SqlState::SYNTAX_ERROR, error.to_string().to_lowercase())
        }
        DataFusionError::NotImplemented(message) => Error::unsupported(first_line(&message)),
        DataFusionError::ResourcesExhausted(message) => {
            Error::new(SqlState::OUT_OF_MEMORY, first_line(&message))
        }
        DataFusionError::Plan(message) => from_plan(&message),
        DataFusionError::Execution(message) => from_execution(&message),
        DataFusionError::Collection(errors) => match errors.into_iter().next() {
            Some(first) => from_datafusion(first),
            None => Error::internal("an empty collection of errors"),
        },
        other => Error::internal(first_line(&other.to_string())),
    }
}

/// A shared error cannot be taken apart; its kind decides and its text is kept.
fn from_shared(error: &DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(ours) => ours.clone(),
            None => Error::internal(inner.to_string()),
        },
        DataFusionError::Plan(message) => from_plan(message),
        DataFusionError::Execution(message) => from_execution(message),
        DataFusionError::ArrowError(error, _) => from_execution(&error.to_string()),
        DataFusionError::ResourcesExhausted(message) => {
            Error::new(SqlState::OUT_OF_MEMORY, first_line(message))
        }
        other => Error::internal(first_line(&other.to_string())),
    }
}

fn from_schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let error = Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{}\" does not exist", field.flat_name()),
            );
            let names: Vec<_> = valid_fields
                .iter()
                .map(|field| field.name.clone())
                .collect();
            match names.is_empty() || names.len() > 30 {
                true => error,
                false => error.hint(format!("there are the columns {}", names.join(", "))),
            }
        }
        SchemaError::AmbiguousReference { field } => Error::new(
            SqlState::AMBIGUOUS_COLUMN,
            format!("column reference \"{}\" is ambiguous", field.name),
        ),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => Error::new(
            SqlState::DUPLICATE_COLUMN,
            format!("column \"{name}\" specified more than once"),
        ),
    }
}

fn from_arrow(error: ArrowError) -> Error {
    match error {
        ArrowError::DivideByZero => Error::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
        ArrowError::ArithmeticOverflow(_) => {
            Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "number out of range")
        }
        ArrowError::CastError(message) => {
            Error::new(SqlState::INVALID_TEXT_REPRESENTATION, lower_first(&message))
        }
        ArrowError::ParseError(message) => {
            Error::new(SqlState::INVALID_TEXT_REPRESENTATION, lower_first(&message))
        }
        ArrowError::ExternalError(inner) => match inner.downcast::<DataFusionError>() {
            Ok(nested) => from_datafusion(*nested),
            Err(other) => match other.downcast::<Error>() {
                Ok(ours) => *ours,
                Err(other) => Error::internal(other.to_string()),
            },
        },
        other => from_execution(&other.to_string()),
    }
}

fn from_plan(message: &str) -> Error {
    let line = first_line(message);
    let has = |text: &str| line.contains(text);
    let state = if has("Invalid function") || has("No function matches") || has("function ") {
        SqlState::UNDEFINED_FUNCTION
    } else if has("must be in the GROUP BY") || has("must appear in the GROUP BY") {
        SqlState::GROUPING_ERROR
    } else if has("Cannot coerce") || has("Cannot infer common") || has("types") {
        SqlState::DATATYPE_MISMATCH
    } else if has("table '") && has("not found") {
        SqlState::UNDEFINED_TABLE
    } else if has("unique expression names") || has("duplicate") {
        SqlState::DUPLICATE_COLUMN
    } else {
        SqlState::SYNTAX_ERROR
    };
    Error::new(state, lower_first(&line))
}

fn from_execution(message: &str) -> Error {
    let line = first_line(message);
    let has = |text: &str| line.to_lowercase().contains(text);
    let state = if has("divide by zero") || has("division by zero") {
        return Error::new(SqlState::DIVISION_BY_ZERO, "division by zero");
    } else if has("overflow") || has("out of range") || has("can't cast value") {
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE
    } else if has("cannot cast") || has("parsing") || has("parse") || has("cast error") {
        SqlState::INVALID_TEXT_REPRESENTATION
    } else {
        SqlState::DATA_EXCEPTION
    };
    Error::new(state, lower_first(&line))
}

fn first_line(message: &str) -> String {
    message
        .lines()
        .next()
        .unwrap_or("")
        .trim_end_matches('.')
        .to_string()
}

fn lower_first(message: &str) -> String {
    let line = first_line(message);
    let mut letters = line.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => line,
    }
}
