//! COPY's text format, read: lines of delimited fields with backslash escapes.
//!
//! Rule: a line ends at the line end that the first line has (LF, CR LF or CR) unless a backslash
//! stands before it; a field equal to the null text, before escapes are undone, is NULL; a line
//! that is `\.` ends the data.
//! State: how far the line at the front has been looked at; which line end it is.
//!
//! Example: `1⇥a\tb⇥\N⏎` is (1, "a⇥b", NULL).

use crate::error::{Error, Result};
use crate::types::pg::Format;
use crate::wire::copy::bad_format;
use crate::wire::copy::rows::CopyRows;

/// How the input's lines end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// No line has ended yet.
    Unknown,
    Lf,
    CrLf,
    Cr,
}

/// Where a line ends in the gathered bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Bytes of the line.
    pub(super) length: usize,
    /// Bytes of its end.
    pub(super) end: usize,
    /// Physical lines that it takes; more than one only within quotes.
    pub(super) lines: u64,
}

/// Whether more bytes may follow those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    Expected,
    Ended,
}

/// Reads text rows.
pub(super) struct TextReader {
    delimiter: u8,
    null: Vec<u8>,

    line_end: LineEnd,
    /// Bytes of the front line that were looked at.
    looked_at: usize,
    /// A field with its escapes undone; reused.
    value: Vec<u8>,
}

impl TextReader {
    pub(super) fn new(delimiter: u8, null: &str) -> Self {
        TextReader {
            delimiter,
            null: null.as_bytes().to_vec(),
            line_end: LineEnd::Unknown,
            looked_at: 0,
            value: Vec::new(),
        }
    }

    /// Finds the end of the line at the front of `bytes`; `None` = it is not there yet.
    pub(super) fn line(&mut self, bytes: &[u8], more: More) -> Result<Option<Line>> {
        while let Some(byte) = bytes.get(self.looked_at) {
            match byte {
                // What follows is data, a line end too. It may not be there yet.
                b'\\' if self.looked_at + 1 < bytes.len() => self.looked_at += 2,
                b'\\' if more == More::Expected => return Ok(None),
                b'\n' | b'\r' => match line_end(&mut self.line_end, bytes, self.looked_at, more)? {
                    Ended::Line(end) => {
                        let length = std::mem::take(&mut self.looked_at);
                        return Ok(Some(Line {
                            length,
                            end,
                            lines: 1,
                        }));
                    }
                    Ended::Unclear => return Ok(None),
                    Ended::No => return Err(literal_line_end(*byte)),
                },
                _ => self.looked_at += 1,
            }
        }
        Ok(match more {
            More::Ended if !bytes.is_empty() => {
                self.looked_at = 0;
                Some(Line {
                    length: bytes.len(),
                    end: 0,
                    lines: 1,
                })
            }
            _ => None,
        })
    }

    /// Adds the fields of a line.
    pub(super) fn row(&mut self, line: &[u8], rows: &mut CopyRows) -> Result<()> {
        let mut column = 0;
        let mut rest = Some(line);
        if line.is_empty() && rows.columns() == 0 {
            rest = None;
        }
        while let Some(bytes) = rest {
            let end = field_end(bytes, self.delimiter);
            let raw = &bytes[..end];
            rest = bytes.get(end + 1..);
            let value = if raw == self.null {
                None
            } else if raw.contains(&b'\\') {
                self.value.clear();
                unescape(raw, &mut self.value);
                Some(self.value.as_slice())
            } else {
                Some(raw)
            };
            rows.push(column, value, Format::Text)?;
            column += 1;
        }
        rows.end_row(column)
    }
}

/// What a CR or LF outside of quotes is.
pub(super) enum Ended {
    /// A line end of this many bytes.
    Line(usize),
    /// A CR after which an LF may follow.
    Unclear,
    /// Not how the lines of this input end.
    No,
}

/// Decides about the CR or LF at `at`; the first one decides for the whole input.
pub(super) fn line_end(known: &mut LineEnd, bytes: &[u8], at: usize, more: More) -> Result<Ended> {
    let seen = match (bytes[at], bytes.get(at + 1)) {
        (b'\n', _) => LineEnd::Lf,
        (_, Some(b'\n')) => LineEnd::CrLf,
        (_, None) if more == More::Expected && *known != LineEnd::Cr => return Ok(Ended::Unclear),
        _ => LineEnd::Cr,
    };
    if *known == LineEnd::Unknown {
        *known = seen;
    }
    Ok(match (*known, seen) {
        (LineEnd::CrLf, LineEnd::CrLf) => Ended::Line(2),
        // Lines that end in CR may be empty: the LF is not part of the end and fails as data.
        (LineEnd::Cr, LineEnd::Cr | LineEnd::CrLf) => Ended::Line(1),
        (LineEnd::Lf, LineEnd::Lf) => Ended::Line(1),
        _ => Ended::No,
    })
}

fn literal_line_end(byte: u8) -> Error {
    let (what, escape) = match byte {
        b'\n' => ("newline", "\\n"),
        _ => ("carriage return", "\\r"),
    };
    bad_format(format!("literal {what} found in data"))
        .hint(format!("use \"{escape}\" to represent {what}"))
}

fn field_end(bytes: &[u8], delimiter: u8) -> usize {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            byte if *byte == delimiter => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Undoes escapes: letters for control characters, octal and hexadecimal bytes, else the character.
fn unescape(raw: &[u8], value: &mut Vec<u8>) {
    let mut bytes = raw.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        let Some(escaped) = bytes.next() else {
            // A backslash at the very end of the input stands for itself.
            value.push(b'\\');
            return;
        };
        let mut digits = |radix: u32, limit: usize, first: u32| {
            let mut number = first;
            for _ in 0..limit {
                let digit = bytes
                    .peek()
                    .and_then(|byte| char::from(*byte).to_digit(radix));
                let Some(digit) = digit else {
                    break;
                };
                number = number * radix + digit;
                bytes.next();
            }
            // Three octal digits may exceed a byte; Postgres keeps the low bits.
            number.to_le_bytes()[0]
        };
        value.push(match escaped {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            b'0'..=b'7' => digits(8, 2, u32::from(escaped - b'0')),
            b'x' => match bytes.peek().and_then(|byte| char::from(*byte).to_digit(16)) {
                Some(first) => {
                    bytes.next();
                    let second = bytes.peek().and_then(|byte| char::from(*byte).to_digit(16));
                    if second.is_some() {
                        bytes.next();
                    }
                    second
                        .map_or(first, |second| first * 16 + second)
                        .to_le_bytes()[0]
                }
                None => b'x',
            },
            other => other,
        });
    }
}
