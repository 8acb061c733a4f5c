//! From `ENCODE … (options)` to a decoder.

use arrow::datatypes::Field;

use crate::base::limits::CSV_FIELDS_MAX;
use crate::error::{Error, Result, SqlState};
use crate::format::csv::{CsvColumn, CsvDecoder, CsvOptions};
use crate::format::json::{JsonColumn, JsonDecoder, JsonOptions, PathStep};
use crate::format::raw::BytesDecoder;
use crate::format::{Decoder, TimestampUnit};

/// How payloads are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encode {
    Json,
    Csv,
    Bytes,
}

/// What becomes of a record with a column that cannot be converted. A payload that is not of its
/// encoding at all is bad whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The value is bad: whoever uses the column does without the row.
    #[default]
    Skip,
    /// The column is NULL; where it is NOT NULL the value is bad.
    Null,
    /// The value is bad and whoever reads the source stops. A decoder does the same as for
    /// [`OnError::Skip`]: stopping is the reader's.
    Fail,
}

/// A column that a decoder is to fill.
#[derive(Clone, Debug)]
pub struct WantedColumn {
    pub field: Field,
    /// Its place among all columns that the source takes from payloads, from 0; what CSV without a
    /// header goes by.
    pub place: usize,
    /// `PATH '$.a.b[0]'`, JSON only.
    pub path: Option<Vec<PathStep>>,
}

/// The options of an encoding, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormatOptions {
    pub timestamp_unit: Option<TimestampUnit>,
    pub on_error: OnError,
    /// CSV: the character between fields, `,` unless set.
    pub delimiter: Option<u8>,
    /// CSV: the character around fields, `"` unless set.
    pub quote: Option<u8>,
    /// CSV: the unquoted field that is NULL, empty unless set.
    pub null: Option<String>,
    /// CSV: the names of the fields in order, where they are not the columns in order.
    pub header: Option<Vec<String>>,
}

impl Encode {
    /// Reads the word after ENCODE.
    ///
    /// # Errors
    /// 0A000 for an encoding that does not exist here.
    pub fn parse(name: &str) -> Result<Encode> {
        match name.to_ascii_uppercase().as_str() {
            "JSON" => Ok(Encode::Json),
            "CSV" => Ok(Encode::Csv),
            "BYTES" => Ok(Encode::Bytes),
            other => Err(
                Error::unsupported(format!("ENCODE {other} is not supported")).hint(
                    "use ENCODE JSON, CSV or BYTES; a bytea column of ENCODE BYTES takes anything",
                ),
            ),
        }
    }

    /// The options that the encoding has, in the order of the documentation.
    pub fn option_names(self) -> &'static [&'static str] {
        match self {
            Encode::Json => &["timestamp.unit", "on_error"],
            Encode::Csv => &[
                "timestamp.unit",
                "on_error",
                "delimiter",
                "quote",
                "null",
                "header",
            ],
            Encode::Bytes => &["on_error"],
        }
    }
}

impl FormatOptions {
    /// Reads the options of an encoding.
    ///
    /// # Errors
    /// 22023 for a name that the encoding does not have and for a bad value; both name what would
    /// be good.
    pub fn parse(encode: Encode, options: &[(String, String)]) -> Result<FormatOptions> {
        let mut parsed = FormatOptions::default();
        for (name, value) in options {
            let name = name.to_ascii_lowercase();
            if !encode.option_names().contains(&name.as_str()) {
                return Err(
                    invalid(format!("unknown option \"{name}\" of the encoding")).hint(format!(
                        "the options are: {}",
                        encode.option_names().join(", ")
                    )),
                );
            }
            parsed.set(&name, value)?;
        }
        Ok(parsed)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "timestamp.unit" => self.timestamp_unit = Some(parse_unit(value)?),
            "on_error" => self.on_error = OnError::parse(value)?,
            "delimiter" => self.delimiter = Some(parse_character(name, value)?),
            "quote" => self.quote = Some(parse_character(name, value)?),
            "null" => self.null = Some(value.to_string()),
            _ => {
                let names = value.split(',').map(|name| name.trim().to_string());
                self.header = Some(names.collect());
            }
        }
        Ok(())
    }
}

impl OnError {
    /// Reads the option `on_error`.
    ///
    /// # Errors
    /// 22023.
    pub fn parse(value: &str) -> Result<OnError> {
        match value.to_ascii_lowercase().as_str() {
            "skip" => Ok(OnError::Skip),
            "null" => Ok(OnError::Null),
            "fail" => Ok(OnError::Fail),
            _ => Err(invalid(format!("option \"on_error\" cannot be '{value}'"))
                .hint("the values are: 'skip', 'null', 'fail'")),
        }
    }
}

/// Makes the decoder of a source.
///
/// # Errors
/// 0A000 for column types that records do not carry, 42P16 for columns that the encoding cannot
/// fill, 22023 for options that do not fit together.
pub fn decoder(
    columns: Vec<WantedColumn>,
    encode: Encode,
    options: &FormatOptions,
) -> Result<Box<dyn Decoder>> {
    if encode != Encode::Json
        && let Some(column) = columns.iter().find(|column| column.path.is_some())
    {
        let name = column.field.name();
        return Err(Error::new(
            SqlState::INVALID_TABLE_DEFINITION,
            format!("column \"{name}\" has a PATH, which only ENCODE JSON follows"),
        ));
    }
    match encode {
        Encode::Json => {
            let columns = columns.into_iter();
            let columns =
                columns.map(|WantedColumn { field, path, .. }| JsonColumn { field, path });
            let options = JsonOptions {
                timestamp_unit: options.timestamp_unit,
                on_error: options.on_error,
            };
            Ok(Box::new(JsonDecoder::new(columns.collect(), options)?))
        }
        Encode::Csv => Ok(Box::new(csv_decoder(columns, options)?)),
        Encode::Bytes => {
            let fields = columns.into_iter().map(|column| column.field).collect();
            Ok(Box::new(BytesDecoder::new(fields, options.on_error)?))
        }
    }
}

fn csv_decoder(columns: Vec<WantedColumn>, options: &FormatOptions) -> Result<CsvDecoder> {
    let place_of = |column: &WantedColumn| match &options.header {
        None => Ok(column.place),
        Some(header) => find_in_header(header, column.field.name()),
    };
    let columns = columns.into_iter().map(|column| {
        let place = place_of(&column)?;
        Ok(CsvColumn {
            field: column.field,
            place,
        })
    });
    let csv_options = CsvOptions {
        delimiter: options.delimiter.unwrap_or(b','),
        quote: options.quote.unwrap_or(b'"'),
        null: options.null.clone().unwrap_or_default(),
        fields_max: options.header.as_ref().map_or(CSV_FIELDS_MAX, Vec::len),
        timestamp_unit: options.timestamp_unit,
        on_error: options.on_error,
    };
    CsvDecoder::new(columns.collect::<Result<_>>()?, csv_options)
}

/// Exactly, else without regard to case, as JSON names match.
fn find_in_header(header: &[String], name: &str) -> Result<usize> {
    let exact = header.iter().position(|field| field == name);
    exact
        .or_else(|| {
            header
                .iter()
                .position(|field| field.eq_ignore_ascii_case(name))
        })
        .ok_or_else(|| {
            Error::new(
                SqlState::INVALID_TABLE_DEFINITION,
                format!("column \"{name}\" is not in the header"),
            )
            .hint(format!("the header names: {}", header.join(", ")))
        })
}

fn parse_unit(value: &str) -> Result<TimestampUnit> {
    match value.to_ascii_lowercase().as_str() {
        "s" => Ok(TimestampUnit::Seconds),
        "ms" => Ok(TimestampUnit::Milliseconds),
        "us" => Ok(TimestampUnit::Microseconds),
        _ => Err(
            invalid(format!("option \"timestamp.unit\" cannot be '{value}'"))
                .hint("the values are: 's', 'ms', 'us'"),
        ),
    }
}

fn parse_character(name: &str, value: &str) -> Result<u8> {
    match value.as_bytes() {
        b"\\t" => Ok(b'\t'),
        [byte] => Ok(*byte),
        _ => Err(invalid(format!("option \"{name}\" cannot be '{value}'"))
            .hint("it is one ASCII character, or '\\t' for the tabulator")),
    }
}

fn invalid(message: String) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::types::SqlType;

    fn pairs(options: &[(&str, &str)]) -> Vec<(String, String)> {
        options
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    fn wanted(name: &str, place: usize) -> WantedColumn {
        WantedColumn {
            field: SqlType::BigInt.to_field(name, true),
            place,
            path: None,
        }
    }

    #[test]
    fn every_option_is_read() {
        let options = pairs(&[
            ("timestamp.unit", "MS"),
            ("on_error", "null"),
            ("delimiter", "\\t"),
            ("quote", "'"),
            ("null", "NULL"),
            ("header", "a, b"),
        ]);
        let parsed = FormatOptions::parse(Encode::Csv, &options).unwrap();
        let expected = FormatOptions {
            timestamp_unit: Some(TimestampUnit::Milliseconds),
            on_error: OnError::Null,
            delimiter: Some(b'\t'),
            quote: Some(b'\''),
            null: Some("NULL".to_string()),
            header: Some(vec!["a".to_string(), "b".to_string()]),
        };
        assert_eq!(parsed, expected);
    }

    #[test]
    fn bad_options_name_the_good_ones() {
        for (encode, name, value, hint) in [
            (
                Encode::Json,
                "delimiter",
                ",",
                "the options are: timestamp.unit, on_error",
            ),
            (
                Encode::Json,
                "timestamp.unit",
                "ns",
                "the values are: 's', 'ms', 'us'",
            ),
            (
                Encode::Json,
                "on_error",
                "stop",
                "the values are: 'skip', 'null', 'fail'",
            ),
            (
                Encode::Csv,
                "quote",
                "é",
                "it is one ASCII character, or '\\t' for the tabulator",
            ),
        ] {
            let error = FormatOptions::parse(encode, &pairs(&[(name, value)])).unwrap_err();
            assert_eq!(error.state(), SqlState::INVALID_PARAMETER_VALUE);
            assert_eq!(error.get_hint(), Some(hint));
        }
        assert_eq!(
            Encode::parse("avro").unwrap_err().state(),
            SqlState::FEATURE_NOT_SUPPORTED
        );
        assert_eq!(Encode::parse("json").unwrap(), Encode::Json);
    }

    #[test]
    fn a_header_places_the_columns() {
        let options = FormatOptions::parse(Encode::Csv, &pairs(&[("header", "b,A")])).unwrap();
        let mut csv = decoder(vec![wanted("a", 0)], Encode::Csv, &options).unwrap();
        csv.push(b"1,2").unwrap();
        let batch = csv.finish().unwrap();
        assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(0), 2);
        let error = decoder(vec![wanted("c", 0)], Encode::Csv, &options)
            .err()
            .unwrap();
        assert_eq!(error.get_hint(), Some("the header names: b, A"));
    }

    #[test]
    fn a_path_is_for_json() {
        let mut column = wanted("a", 0);
        column.path = Some(Vec::new());
        let error = decoder(vec![column], Encode::Bytes, &FormatOptions::default())
            .err()
            .unwrap();
        assert_eq!(error.state(), SqlState::INVALID_TABLE_DEFINITION);
    }
}
