//! CSV: one record per payload, fields by place.
//!
//! The record is RFC 4180's: fields between delimiters, in quotes where they contain a delimiter,
//! a quote (doubled) or a line break. A line break at the end of the payload is not part of it;
//! one outside of quotes is an error, since a payload is one record.
//!
//! An unquoted field that equals the `null` text (default: empty) is NULL, as in Postgres' COPY;
//! `""` is an empty text. Fields that are missing at the end are NULL; more fields than a header
//! names are an error, without a header they are ignored. jsonb, struct and list columns take JSON
//! text.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::error::{Error, Result, SqlState};
use crate::format::column::{Column, Reject};
use crate::format::json::push_json_text;
use crate::format::text::{describe, push_text};
use crate::format::{BadValue, Decoder, OnError, TimestampUnit};
use crate::types::SqlType;

/// A column to decode.
#[derive(Clone, Debug)]
pub struct CsvColumn {
    pub field: Field,
    /// The place of its field in the record, from 0.
    pub place: usize,
}

/// How the records are written.
#[derive(Clone, Debug)]
pub struct CsvOptions {
    /// A single ASCII character, neither the quote nor a line break.
    pub delimiter: u8,
    /// A single ASCII character.
    pub quote: u8,
    /// What an unquoted field says for NULL.
    pub null: String,
    /// The most fields that a record may have.
    pub fields_max: usize,
    pub timestamp_unit: Option<TimestampUnit>,
    pub on_error: OnError,
}

/// Decodes CSV records.
pub struct CsvDecoder {
    schema: SchemaRef,
    options: CsvOptions,
    places: Vec<usize>,

    columns: Vec<Column>,
    rows: usize,
    parts: Vec<Part>,
    /// The contents of quoted fields that have doubled quotes.
    unquoted: Vec<u8>,
}

/// A field of the record that is being decoded.
#[derive(Clone, Debug)]
struct Part {
    bytes: Range<usize>,
    kind: PartKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartKind {
    /// The bytes stand in the record.
    Plain,
    /// The bytes stand in the record, between quotes.
    Quoted,
    /// The bytes stand in `unquoted`.
    Rewritten,
}

impl CsvDecoder {
    /// # Errors
    /// 0A000 for a column whose type records do not carry, 22023 for characters that cannot be
    /// told apart.
    pub fn new(columns: Vec<CsvColumn>, options: CsvOptions) -> Result<CsvDecoder> {
        check_characters(&options)?;
        let places = columns.iter().map(|column| column.place).collect();
        let fields: Vec<_> = columns
            .into_iter()
            .map(|column| Arc::new(column.field))
            .collect();
        let columns = fields.iter().map(|field| Column::new(Arc::clone(field)));
        Ok(CsvDecoder {
            columns: columns.collect::<Result<_>>()?,
            schema: Arc::new(Schema::new(fields)),
            options,
            places,
            rows: 0,
            parts: Vec::new(),
            unquoted: Vec::new(),
        })
    }

    /// Cuts the record into `parts`.
    fn split(&mut self, record: &[u8]) -> std::result::Result<(), String> {
        self.parts.clear();
        self.unquoted.clear();
        let mut at = 0;
        loop {
            let part = if record.get(at) == Some(&self.options.quote) {
                self.quoted_part(record, &mut at)?
            } else {
                let start = at;
                at = self.plain_end(record, at)?;
                Part {
                    bytes: start..at,
                    kind: PartKind::Plain,
                }
            };
            self.parts.push(part);
            if self.parts.len() > self.options.fields_max {
                let count = self.options.fields_max;
                return Err(format!("malformed CSV: more than {count} fields"));
            }
            match record.get(at) {
                None => return Ok(()),
                Some(&byte) if byte == self.options.delimiter => at += 1,
                Some(_) => {
                    return Err(format!(
                        "malformed CSV at byte {}: text after a quote",
                        at + 1
                    ));
                }
            }
        }
    }

    fn plain_end(&self, record: &[u8], start: usize) -> std::result::Result<usize, String> {
        let mut at = start;
        while let Some(&byte) = record.get(at) {
            if byte == self.options.delimiter {
                break;
            }
            if byte == self.options.quote {
                return Err(format!(
                    "malformed CSV at byte {}: a quote inside a field",
                    at + 1
                ));
            }
            if matches!(byte, b'\n' | b'\r') {
                return Err(format!("malformed CSV at byte {}: a second line", at + 1));
            }
            at += 1;
        }
        Ok(at)
    }

    /// The field whose opening quote is at `at`; moves `at` behind the closing one.
    fn quoted_part(&mut self, record: &[u8], at: &mut usize) -> std::result::Result<Part, String> {
        let quote = self.options.quote;
        let start = *at + 1;
        let rewritten = self.unquoted.len();
        let mut copied = start;
        let mut end = start;
        loop {
            match record.get(end) {
                None => return Err("malformed CSV: a quoted field does not end".to_string()),
                Some(&byte) if byte != quote => end += 1,
                Some(_) if record.get(end + 1) == Some(&quote) => {
                    self.unquoted.extend_from_slice(&record[copied..=end]);
                    end += 2;
                    copied = end;
                }
                Some(_) => break,
            }
        }
        *at = end + 1;
        if copied == start {
            return Ok(Part {
                bytes: start..end,
                kind: PartKind::Quoted,
            });
        }
        self.unquoted.extend_from_slice(&record[copied..end]);
        Ok(Part {
            bytes: rewritten..self.unquoted.len(),
            kind: PartKind::Rewritten,
        })
    }

    /// Appends the record's values; returns the bad ones.
    fn push_columns(&mut self, record: &[u8]) -> Vec<BadValue> {
        let CsvDecoder {
            columns,
            places,
            parts,
            unquoted,
            options,
            rows,
            ..
        } = self;
        let mut bad = Vec::new();
        for (number, (column, &place)) in columns.iter_mut().zip(places.iter()).enumerate() {
            let (value, is_quoted) = match parts.get(place) {
                None => (options.null.as_bytes(), false),
                Some(Part {
                    bytes,
                    kind: PartKind::Rewritten,
                }) => (&unquoted[bytes.clone()], true),
                Some(Part { bytes, kind }) => (&record[bytes.clone()], *kind == PartKind::Quoted),
            };
            let result = if !is_quoted && value == options.null.as_bytes() {
                column.push_null()
            } else {
                push_field(column, value, options.timestamp_unit)
            };
            let Err(reject) = result else { continue };
            column.truncate(*rows);
            if options.on_error == OnError::Null && column.push_null().is_ok() {
                continue;
            }
            column.push_stand_in();
            let shown = [b"\"", value, b"\""].concat();
            bad.push(BadValue {
                column: number,
                reason: describe(column, &shown, &reject),
            });
        }
        bad
    }

    fn push_record(&mut self, payload: &[u8]) -> std::result::Result<Vec<BadValue>, String> {
        let record = payload.strip_suffix(b"\n").unwrap_or(payload);
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        if let Err(error) = std::str::from_utf8(record) {
            let at = error.valid_up_to() + 1;
            return Err(format!("malformed CSV at byte {at}: not valid UTF-8"));
        }
        self.split(record)?;
        Ok(self.push_columns(record))
    }
}

fn push_field(
    column: &mut Column,
    value: &[u8],
    unit: Option<TimestampUnit>,
) -> std::result::Result<(), Reject> {
    match column.sql_type() {
        SqlType::Jsonb | SqlType::Array(_) | SqlType::Struct(_) => {
            push_json_text(column, value, unit)
        }
        _ => {
            let text = std::str::from_utf8(value).map_err(|_| Reject::NotA)?;
            push_text(column, text, unit)
        }
    }
}

fn check_characters(options: &CsvOptions) -> Result<()> {
    let is_usable = |byte: u8| byte.is_ascii() && !matches!(byte, b'\n' | b'\r');
    let CsvOptions {
        delimiter, quote, ..
    } = options;
    if delimiter == quote || !is_usable(*delimiter) || !is_usable(*quote) {
        return Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "delimiter and quote must be two different ASCII characters, and no line breaks",
        ));
    }
    Ok(())
}

impl Decoder for CsvDecoder {
    fn push(&mut self, payload: &[u8]) -> std::result::Result<Vec<BadValue>, String> {
        let bad = self.push_record(payload)?;
        self.rows += 1;
        Ok(bad)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let arrays = self
            .columns
            .iter_mut()
            .map(Column::finish)
            .collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.rows = 0;
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|error| Error::internal(format!("a decoded batch: {error}")))
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;

    use super::*;

    fn decoder(types: &[(&str, &str, usize)], on_error: OnError) -> CsvDecoder {
        let columns = types.iter().map(|&(name, sql_type, place)| CsvColumn {
            field: SqlType::parse(sql_type)
                .unwrap()
                .to_field(name, name != "id"),
            place,
        });
        let options = CsvOptions {
            delimiter: b',',
            quote: b'"',
            null: String::new(),
            fields_max: 4,
            timestamp_unit: None,
            on_error,
        };
        CsvDecoder::new(columns.collect(), options).unwrap()
    }

    fn show(decoder: &mut CsvDecoder) -> String {
        pretty_format_batches(&[decoder.finish().unwrap()])
            .unwrap()
            .to_string()
    }

    #[test]
    fn fields_are_found_by_place() {
        let types = [
            ("id", "bigint", 0),
            ("name", "text", 2),
            ("tags", "bigint[]", 3),
        ];
        let mut csv = decoder(&types, OnError::Skip);
        for record in [
            "1,x,plain",
            "2,,\"a, \"\"b\"\"\",\"[1,2]\"\r\n",
            "3,x,\"\"\n",
            "4,x,",
        ] {
            assert_eq!(csv.push(record.as_bytes()), Ok(vec![]), "{record}");
        }
        let expected = "\
+----+--------+--------+
| id | name   | tags   |
+----+--------+--------+
| 1  | plain  |        |
| 2  | a, \"b\" | [1, 2] |
| 3  |        |        |
| 4  |        |        |
+----+--------+--------+";
        let batch = csv.finish().unwrap();
        assert_eq!(
            batch.column(1).null_count(),
            1,
            "only the last name is NULL"
        );
        assert_eq!(
            pretty_format_batches(&[batch]).unwrap().to_string(),
            expected
        );
    }

    #[test]
    fn bad_values_say_why_and_leave_the_others() {
        let types = [("name", "text", 1), ("id", "bigint", 0)];
        let mut csv = decoder(&types, OnError::Skip);
        for (record, reason) in [
            (&b"x,y"[..], "column \"id\": \"x\" is not a bigint"),
            (b",y", "column \"id\": NULL, but the column is NOT NULL"),
            (
                b"99999999999999999999,y",
                "column \"id\": \"99999999999999999999\" is out of range for a bigint",
            ),
        ] {
            let reason = reason.to_string();
            assert_eq!(csv.push(record), Ok(vec![BadValue { column: 1, reason }]));
        }
        assert_eq!(csv.push(b"1,good"), Ok(vec![]));
        let shown = show(&mut csv);
        assert_eq!(shown.matches("| y    | 0  |").count(), 3, "{shown}");
        assert!(shown.contains("| good | 1  |"), "{shown}");
    }

    #[test]
    fn bad_records_say_why_and_leave_nothing() {
        let types = [("name", "text", 1), ("id", "bigint", 0)];
        let mut csv = decoder(&types, OnError::Skip);
        for (record, reason) in [
            (&b"1,\"y"[..], "malformed CSV: a quoted field does not end"),
            (b"1,\"y\"z", "malformed CSV at byte 6: text after a quote"),
            (b"1,y\"z", "malformed CSV at byte 4: a quote inside a field"),
            (b"1\n2", "malformed CSV at byte 2: a second line"),
            (b"1,\xff", "malformed CSV at byte 3: not valid UTF-8"),
            (b"1,2,3,4,5", "malformed CSV: more than 4 fields"),
        ] {
            assert_eq!(csv.push(record), Err(reason.to_string()));
        }
        assert_eq!(csv.push(b"1,good"), Ok(vec![]));
        assert_eq!(csv.rows(), 1);
        assert!(show(&mut csv).contains("| good | 1  |"));
    }

    #[test]
    fn on_error_null_keeps_the_row() {
        let types = [("id", "bigint", 0), ("price", "integer", 1)];
        let mut csv = decoder(&types, OnError::Null);
        assert_eq!(csv.push(b"1,abc"), Ok(vec![]));
        assert_eq!(csv.finish().unwrap().column(1).null_count(), 1);
        assert_eq!(csv.push(b"abc,1").unwrap()[0].column, 0);
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(11);
        let types = [("id", "bigint", 0), ("name", "text", 1)];
        let mut csv = decoder(&types, OnError::Skip);
        let mut good = 0;
        for _ in 0..20_000 {
            let pool = b"12,\"\n\r\xc3\xa9a";
            let record: Vec<u8> = (0..random.usize(0..12))
                .map(|_| pool[random.usize(0..pool.len())])
                .collect();
            good += usize::from(csv.push(&record).is_ok());
        }
        assert_eq!(csv.finish().unwrap().num_rows(), good);
    }
}
