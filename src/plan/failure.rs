//! DataFusion's errors in our words: the SQLSTATE a client expects, the names a user typed.

use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use crate::error::{Error, SqlState};
use crate::types::SqlType;

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
        DataFusionError::NotImplemented(message) if message.contains("OuterReferenceColumn") => {
            Error::unsupported(
                "a subquery that uses the outer query's columns like this is not supported",
            )
            .hint("compare them by = in its WHERE, or write a join")
        }
        DataFusionError::NotImplemented(message) if message.contains("<subquery>") => {
            Error::unsupported("a subquery in this place is not supported")
                .hint("write it as a join, or compute it in a subquery in FROM")
        }
        DataFusionError::NotImplemented(message) | DataFusionError::Plan(message)
            if ORDERS.iter().any(|part| message.contains(part)) =>
        {
            Error::unsupported("a query with these different orders is not supported")
                .hint("compute what is ordered in subqueries, each with one order")
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

/// What the library says where it does not bring together how several parts of a query are ordered.
const ORDERS: [&str; 2] = [
    "Conflicting ordering requirements",
    "does not satisfy order requirements",
];

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
            let message = lower_first(&sql_type_names(&message));
            Error::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
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
    if let Some(error) = no_function(message).or_else(|| not_boolean(message)) {
        return error;
    }
    if message.contains("substring without for/from") {
        let error = Error::new(
            SqlState::UNDEFINED_FUNCTION,
            "substring takes two arguments",
        );
        return error.hint("write substring(text FROM 2) or substr(text, 2)");
    }
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
    Error::new(state, lower_first(&sql_type_names(&line)))
}

/// 42883 in Postgres' words: for a name that is unknown, and for arguments that do not fit.
fn no_function(message: &str) -> Option<Error> {
    let error = |what: String| {
        let message = format!("function {what} does not exist");
        Error::new(SqlState::UNDEFINED_FUNCTION, message)
    };
    if let Some((_, call)) = message.split_once("argument types '") {
        let (call, _) = call.split_once('\'')?;
        return Some(error(sql_type_names(call)).hint(
            "no function matches the given name and argument types; you might need to add \
             explicit type casts",
        ));
    }
    let (_, name) = message.split_once("Invalid function '")?;
    let (name, rest) = name.split_once('\'')?;
    let found = error(name.to_string());
    if name.eq_ignore_ascii_case("proctime") {
        return Some(found.hint(
            "processing time is a column of a source: pt TIMESTAMPTZ AS PROCTIME(); the clock is \
             now()",
        ));
    }
    let near = rest
        .split_once("Did you mean '")
        .and_then(|(_, near)| near.split_once('\''));
    Some(match near {
        Some((near, _)) => found.hint(format!("did you mean {near}?")),
        None => found,
    })
}

/// 42804 for a condition that is none.
fn not_boolean(message: &str) -> Option<Error> {
    let (_, rest) = message.split_once("Cannot create filter with non-boolean predicate")?;
    let (_, data_type) = rest.rsplit_once("returning ")?;
    let name = sql_type_names(&first_line(data_type));
    let message = format!("argument of WHERE must be type boolean, not type {name}");
    Some(Error::new(SqlState::DATATYPE_MISMATCH, message))
}

/// 42804 for a value that its column does not take.
fn wrong_column_type(message: &str) -> Option<Error> {
    let (_, rest) = message.split_once("received data of type ")?;
    let (found, wanted) = rest.split_once(" for field of type ")?;
    let (found, wanted) = (sql_type_names(found), sql_type_names(&first_line(wanted)));
    let message = format!("column is of type {wanted} but expression is of type {found}");
    let error = Error::new(SqlState::DATATYPE_MISMATCH, message);
    Some(error.hint("you will need to rewrite or cast the expression"))
}

/// The text with the library's names of types replaced by those of SQL.
fn sql_type_names(text: &str) -> String {
    let mut named = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let starts_word = first.is_ascii_uppercase()
            && !named.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = match starts_word {
            true => type_length(rest),
            false => None,
        };
        match length.and_then(|length| Some((length, rest[..length].parse::<DataType>().ok()?))) {
            Some((length, data_type)) => {
                named.push_str(&SqlType::name_of(&data_type));
                rest = &rest[length..];
            }
            None => {
                named.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    named
}

/// Bytes of the word that a text begins with, and of the parentheses behind it.
fn type_length(text: &str) -> Option<usize> {
    let word = text
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(text.len());
    if !text[word..].starts_with('(') {
        return Some(word);
    }
    let mut depth = 0;
    for (place, letter) in text[word..].char_indices() {
        match letter {
            '(' => depth += 1,
            ')' if depth == 1 => return Some(word + place + 1),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn from_execution(message: &str) -> Error {
    if let Some(error) = wrong_column_type(message) {
        return error;
    }
    let line = first_line(message);
    let has = |text: &str| line.to_lowercase().contains(text);
    if has("subquery returned more than one row") {
        let message = "more than one row returned by a subquery used as an expression";
        return Error::new(SqlState::CARDINALITY_VIOLATION, message);
    }
    let state = if has("divide by zero") || has("division by zero") {
        return Error::new(SqlState::DIVISION_BY_ZERO, "division by zero");
    } else if has("overflow") || has("out of range") || has("can't cast value") {
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE
    } else if has("cannot cast") || has("parsing") || has("parse") || has("cast error") {
        SqlState::INVALID_TEXT_REPRESENTATION
    } else {
        SqlState::DATA_EXCEPTION
    };
    Error::new(state, lower_first(&sql_type_names(&line)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_speak_of_sql_types() {
        let cases = [
            ("Utf8 and Int64", "text and bigint"),
            ("Utf8 = Decimal128(10, 2)", "text = numeric"),
            (
                "Nothing of a Type or MyInt64",
                "Nothing of a Type or MyInt64",
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(sql_type_names(message), expected);
        }
        let error = from_plan(
            "No function matches the given name and argument types 'substr(Int64)'. You might",
        );
        assert_eq!(error.message(), "function substr(bigint) does not exist");
        let error = from_plan("Invalid function 'nofn'.\nDid you mean 'now'?");
        assert_eq!(error.message(), "function nofn does not exist");
        assert_eq!(error.get_hint(), Some("did you mean now?"));
        let error = from_execution(
            "Types don't match and no valid cast exists, received data of type Boolean for field \
             of type Timestamp(µs)",
        );
        assert_eq!(
            error.message(),
            "column is of type timestamp without time zone but expression is of type boolean"
        );
    }
}
