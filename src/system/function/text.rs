//! Texts: quoting, sizes, encodings, patterns.

use datafusion::scalar::ScalarValue;
use serde_json::{Map, Number, Value};

use crate::error::{Error, Result, SqlState};
use crate::sql::name;
use crate::system::function::names::parts;
use crate::system::function::session::entry;
use crate::system::function::{Arguments, Entry, Kind, Returns};
use crate::system::rows::Cell;
use crate::system::snapshot::SystemSnapshot;

pub const ENTRIES: &[Entry] = &[
    entry!("quote_ident", 1..=1, Text, Pure, |_, arguments| {
        let text = arguments.text(0)?.unwrap_or_default();
        Ok(name::quote_identifier(&text).into_owned().into())
    }),
    entry!("quote_literal", 1..=1, Text, Pure, |_, arguments| {
        Ok(arguments.text(0)?.map(|text| quote_literal(&text)).into())
    }),
    entry!(
        "quote_nullable",
        1..=1,
        Text,
        PureWithNulls,
        |_, arguments| {
            let text = arguments.text(0)?;
            Ok(text
                .map_or("NULL".to_string(), |text| quote_literal(&text))
                .into())
        }
    ),
    entry!("like_escape", 2..=2, Text, Pure, like_escape),
    entry!("pg_size_pretty", 1..=1, Text, Pure, size_pretty),
    entry!("pg_encoding_to_char", 1..=1, Text, Pure, encoding_name),
    entry!("pg_char_to_encoding", 1..=1, Integer, Pure, encoding_number),
    entry!("getdatabaseencoding", 0..=0, Text, Pure, |_, _| Ok(
        "UTF8".into()
    )),
    entry!("parse_ident", 1..=2, Texts, Pure, |_, arguments| {
        Ok(Cell::list(parts(&arguments.text(0)?.unwrap_or_default())))
    }),
    entry!(
        "json_build_object",
        0..=FUNCTION_ARGUMENTS_MAX,
        Text,
        PureWithNulls,
        json_build_object
    ),
];

/// Arguments that one call may have: Postgres' own limit.
const FUNCTION_ARGUMENTS_MAX: usize = 100;

/// A text with a backslash is written with `E`, so that it means the same under any setting.
fn quote_literal(text: &str) -> String {
    if text.contains('\\') {
        return format!("E{}", name::quote_literal(&text.replace('\\', "\\\\")));
    }
    name::quote_literal(text)
}

/// A pattern with an escape character of its own, written with a backslash.
fn like_escape(_: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let pattern = arguments.text(0)?.unwrap_or_default();
    let escape = arguments.text(1)?.unwrap_or_default();
    let mut letters = escape.chars();
    let (escape, rest) = (letters.next(), letters.next());
    if rest.is_some() {
        let error = Error::new(SqlState::DATA_EXCEPTION, "invalid escape string");
        return Err(error.hint("escape string must be empty or one character"));
    }
    let mut written = String::with_capacity(pattern.len());
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if Some(letter) == escape {
            written.push('\\');
            written.extend(letters.next());
        } else if letter == '\\' {
            written.push_str("\\\\");
        } else {
            written.push(letter);
        }
    }
    Ok(written.into())
}

/// Bytes in the largest unit that shows at least two digits, rounded half up, as Postgres does.
fn size_pretty(_: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let Some(bytes) = arguments.integer(0)? else {
        return Ok(Cell::Null);
    };
    const LIMIT: u64 = 10 * 1024;
    let sign = if bytes < 0 { "-" } else { "" };
    let mut size = bytes.unsigned_abs();
    if size < LIMIT {
        return Ok(format!("{bytes} bytes").into());
    }
    // One bit more than the unit is kept, for rounding.
    size >>= 9;
    let units = ["kB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    while size >= 2 * LIMIT - 1 && unit + 1 < units.len() {
        size >>= 10;
        unit += 1;
    }
    Ok(format!("{sign}{} {}", size.div_ceil(2), units[unit]).into())
}

fn encoding_name(_: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    Ok(match arguments.integer(0)? {
        Some(0) => "SQL_ASCII",
        Some(6) => "UTF8",
        _ => "",
    }
    .into())
}

fn encoding_number(_: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    let name = arguments
        .text(0)?
        .unwrap_or_default()
        .to_lowercase()
        .replace(['-', '_'], "");
    Ok(match name.as_str() {
        "utf8" | "unicode" => 6,
        "sqlascii" => 0,
        _ => -1,
    }
    .into())
}

/// Names and values in turn, as one JSON object.
fn json_build_object(_: &SystemSnapshot, arguments: &Arguments<'_>) -> Result<Cell> {
    if !arguments.len().is_multiple_of(2) {
        let error = Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "argument list must have even number of elements",
        );
        return Err(error.hint("the arguments of json_build_object are names and values in turn"));
    }
    let mut object = Map::new();
    for index in (0..arguments.len()).step_by(2) {
        let Some(key) = arguments.text(index)? else {
            let message = "null value not allowed for object key";
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
        };
        object.insert(key, json(arguments, index + 1)?);
    }
    Ok(Value::Object(object).to_string().into())
}

fn json(arguments: &Arguments<'_>, index: usize) -> Result<Value> {
    Ok(match arguments.value(index) {
        None => Value::Null,
        Some(value) if value.is_null() => Value::Null,
        Some(ScalarValue::Boolean(Some(value))) => Value::Bool(*value),
        Some(value) if value.data_type().is_integer() => arguments
            .integer(index)?
            .map_or(Value::Null, |number| Value::Number(number.into())),
        Some(ScalarValue::Float64(Some(value))) => {
            Number::from_f64(*value).map_or(Value::Null, Value::Number)
        }
        Some(_) => arguments.text(index)?.map_or(Value::Null, Value::String),
    })
}
