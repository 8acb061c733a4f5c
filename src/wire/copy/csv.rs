//! COPY's CSV format, read.
//!
//! Rule: as Postgres: a quote may open and close anywhere in a field, line ends within quotes are
//! data, a field equal to the null text that had no quote is NULL, a line that is `\.` ends the
//! data.
//! State: how far the record at the front has been looked at, and whether that is within quotes.
//!
//! Example: `1,"a,""b""",⏎` is (1, `a,"b"`, NULL).

use crate::error::Result;
use crate::types::pg::Format;
use crate::wire::copy::bad_format;
use crate::wire::copy::rows::CopyRows;
use crate::wire::copy::text::{Ended, Line, LineEnd, More, line_end};

/// Reads CSV rows.
pub(super) struct CsvReader {
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: Vec<u8>,

    line_end: LineEnd,
    scan: Scan,
    /// A field without its quotes; reused.
    value: Vec<u8>,
}

/// How far the record at the front was looked at.
#[derive(Default)]
struct Scan {
    looked_at: usize,
    is_quoted: bool,
    /// The byte before was an escape that is not itself escaped.
    is_escaped: bool,
    /// Line ends within quotes.
    lines: u64,
}

impl CsvReader {
    pub(super) fn new(delimiter: u8, null: &str, quote: u8, escape: u8) -> Self {
        CsvReader {
            delimiter,
            quote,
            escape,
            null: null.as_bytes().to_vec(),
            line_end: LineEnd::Unknown,
            scan: Scan::default(),
            value: Vec::new(),
        }
    }

    /// Finds the end of the record at the front of `bytes`; `None` = it is not there yet.
    pub(super) fn line(&mut self, bytes: &[u8], more: More) -> Result<Option<Line>> {
        let scan = &mut self.scan;
        while let Some(&byte) = bytes.get(scan.looked_at) {
            if matches!(byte, b'\n' | b'\r') && !scan.is_quoted {
                match line_end(&mut self.line_end, bytes, scan.looked_at, more)? {
                    Ended::Line(end) => {
                        let Scan {
                            looked_at, lines, ..
                        } = std::mem::take(scan);
                        return Ok(Some(Line {
                            length: looked_at,
                            end,
                            lines: lines + 1,
                        }));
                    }
                    Ended::Unclear => return Ok(None),
                    Ended::No => {
                        let what = if byte == b'\n' {
                            "newline"
                        } else {
                            "carriage return"
                        };
                        return Err(bad_format(format!("unquoted {what} found in data"))
                            .hint(format!("use quoted CSV field to represent {what}")));
                    }
                }
            }
            // Where quote and escape are one, a doubled quote closes and opens again.
            let was_escaped = std::mem::take(&mut scan.is_escaped);
            if scan.is_quoted && byte == self.escape && self.escape != self.quote {
                scan.is_escaped = !was_escaped;
            } else if byte == self.quote && !was_escaped {
                scan.is_quoted = !scan.is_quoted;
            } else if byte == b'\n' {
                scan.lines += 1;
            }
            scan.looked_at += 1;
        }
        if more == More::Expected || bytes.is_empty() {
            return Ok(None);
        }
        let Scan {
            is_quoted, lines, ..
        } = std::mem::take(scan);
        match is_quoted {
            true => Err(bad_format("unterminated CSV quoted field")),
            false => Ok(Some(Line {
                length: bytes.len(),
                end: 0,
                lines: lines + 1,
            })),
        }
    }

    /// Adds the fields of a record.
    pub(super) fn row(&mut self, record: &[u8], rows: &mut CopyRows) -> Result<()> {
        if record.is_empty() && rows.columns() == 0 {
            return rows.end_row(0);
        }
        let mut column = 0;
        let mut rest = Some(record);
        while let Some(bytes) = rest {
            self.value.clear();
            let (end, had_quotes) = self.field(bytes);
            rest = bytes.get(end + 1..);
            let is_null = !had_quotes && self.value == self.null;
            let value = (!is_null).then_some(self.value.as_slice());
            rows.push(column, value, Format::Text)?;
            column += 1;
        }
        rows.end_row(column)
    }

    /// Takes the field at the front into `value`; returns where it ends and whether it had quotes.
    fn field(&mut self, bytes: &[u8]) -> (usize, bool) {
        let (mut at, mut is_quoted, mut had_quotes) = (0, false, false);
        while let Some(&byte) = bytes.get(at) {
            at += 1;
            if !is_quoted {
                if byte == self.delimiter {
                    return (at - 1, had_quotes);
                }
                if byte == self.quote {
                    (is_quoted, had_quotes) = (true, true);
                } else {
                    self.value.push(byte);
                }
            } else if byte == self.escape
                && let Some(next) = bytes.get(at)
                && (*next == self.escape || *next == self.quote)
            {
                self.value.push(*next);
                at += 1;
            } else if byte == self.quote {
                is_quoted = false;
            } else {
                self.value.push(byte);
            }
        }
        (bytes.len(), had_quotes)
    }
}
