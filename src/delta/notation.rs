//! Deltas that a person can type and read: the language of operator tests.
//!
//! The first line names the columns with their types; every other line is a row, its weight first.
//! Values that hold blanks are quoted with `'`; `NULL` is NULL; `@t` before a row's values gives
//! the watermark that stood before it.
//!
//! ```text
//!        auction:bigint  channel:text
//!   +    7               app
//!   -    7               'two words'
//!   +3   NULL            NULL
//! ```

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::delta::{DeltaBatch, Weights};

/// Reads a batch in the notation.
///
/// # Panics
/// When the text is not in the notation: it is written by the author of a test.
pub fn parse(text: &str) -> DeltaBatch {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let header = lines.next().expect("a line that names the columns");
    let schema = Arc::new(Schema::new(
        header.split_whitespace().map(field).collect::<Vec<_>>(),
    ));
    parse_rows(&schema, lines)
}

/// Reads rows of a known schema.
///
/// # Panics
/// As [`parse`].
pub fn parse_rows<'a>(schema: &SchemaRef, lines: impl Iterator<Item = &'a str>) -> DeltaBatch {
    let mut weights = Vec::new();
    let mut watermarks = Vec::new();
    let mut values: Vec<Vec<Option<String>>> = vec![Vec::new(); schema.fields().len()];
    for line in lines {
        let mut words = words(line).into_iter().peekable();
        let (weight, _) = words
            .next()
            .unwrap_or_else(|| panic!("a weight in {line:?}"));
        weights.push(match weight.as_str() {
            "+" => 1,
            "-" => -1,
            number => number
                .parse()
                .unwrap_or_else(|_| panic!("a weight, not {number:?}")),
        });
        if let Some((mark, _)) = words.next_if(|(word, _)| word.starts_with('@')) {
            watermarks.push(
                mark[1..]
                    .parse()
                    .unwrap_or_else(|_| panic!("a time in {mark:?}")),
            );
        }
        let row: Vec<_> = words.collect();
        assert_eq!(row.len(), values.len(), "a value per column in {line:?}");
        for (column, (word, is_quoted)) in values.iter_mut().zip(row) {
            column.push((is_quoted || word != "NULL").then_some(word));
        }
    }
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .zip(values)
        .map(|(field, column)| {
            let text: ArrayRef = Arc::new(StringArray::from(column));
            cast_with_options(&text, field.data_type(), &strict)
                .unwrap_or_else(|error| panic!("column {}: {error}", field.name()))
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(weights.len()));
    let rows = RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .expect("columns of one length");
    let weights = match weights.iter().all(|&weight| weight == 1) {
        true => Weights::Ones,
        false => Weights::Each(weights.into()),
    };
    let watermarks = (!watermarks.is_empty()).then(|| watermarks.into());
    DeltaBatch::new(rows, weights).with_watermarks(watermarks)
}

/// Prints the rows, one line each: weight, then values. `sorted` puts equal changes at equal
/// places whatever order they came in.
pub fn print_sorted(batch: &DeltaBatch) -> String {
    let mut lines = lines(batch);
    lines.sort();
    lines.concat()
}

/// Prints the rows in their order.
pub fn print(batch: &DeltaBatch) -> String {
    lines(batch).concat()
}

fn lines(batch: &DeltaBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let formatters: Vec<_> = batch
        .rows()
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).expect("columns print"))
        .collect();
    let line = |row: usize| {
        let mut line = match batch.weights().get(row) {
            1 => "+".to_string(),
            -1 => "-".to_string(),
            weight => format!("{weight:+}"),
        };
        for formatter in &formatters {
            let value = formatter.value(row).to_string();
            match value.is_empty() || value.contains([' ', '\'']) {
                true => write!(line, " '{}'", value.replace('\'', "''")),
                false => write!(line, " {value}"),
            }
            .expect("a String takes every write");
        }
        line + "\n"
    };
    (0..batch.len()).map(line).collect()
}

fn field(column: &str) -> Field {
    let (name, type_name) = column.split_once(':').unwrap_or((column, "bigint"));
    let data_type = match type_name {
        "bigint" => DataType::Int64,
        "integer" => DataType::Int32,
        "text" => DataType::Utf8,
        "boolean" => DataType::Boolean,
        "double" => DataType::Float64,
        "numeric" => DataType::Decimal128(38, 2),
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
        other => panic!("the notation has no type {other:?}"),
    };
    Field::new(name, data_type, true)
}

/// Splits at blanks; `'…'` is one word, told apart from an unquoted one.
fn words(line: &str) -> Vec<(String, bool)> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('\'') {
            let end = quoted
                .find('\'')
                .unwrap_or_else(|| panic!("a closing quote in {line:?}"));
            words.push((quoted[..end].to_string(), true));
            rest = quoted[end + 1..].trim_start();
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            words.push((rest[..end].to_string(), false));
            rest = rest[end..].trim_start();
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::consolidate;

    #[test]
    fn a_delta_reads_and_prints() {
        let batch = parse(
            "auction:bigint channel:text
             +   7          app
             -   7          'two words'
             +3  NULL       NULL",
        );
        assert_eq!(print(&batch), "+ 7 app\n- 7 'two words'\n+3 NULL NULL\n");
    }

    #[test]
    fn consolidation_adds_weights_of_equal_rows_and_drops_zeros() {
        let batch = parse(
            "a:double b:text
             +  0.0   x
             +  -0.0  x
             -  1     y
             +  1     y
             +  NULL  NULL
             +  NULL  NULL",
        );
        assert_eq!(
            print(&consolidate(&batch).unwrap()),
            "+2 0.0 x\n+2 NULL NULL\n"
        );
    }
}
