//! Values out of the texts that Postgres accepts for them.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use crate::error::{Error, Result, SqlState};
use crate::types::pg::numeric::Bounds;
use crate::types::pg::text::is_blank;
use crate::types::pg::value::Value;
use crate::types::pg::writer::DateTimeStyle;
use crate::types::pg::{bytea, datetime, interval};
use crate::types::{SqlType, StructField};

/// Reads a value of a type.
///
/// # Errors
/// As [`crate::types::pg::ColumnBuilder::push`].
pub(crate) fn parse<'a>(
    sql_type: &SqlType,
    text: &'a str,
    style: &DateTimeStyle,
) -> Result<Value<'a>> {
    Ok(match sql_type {
        SqlType::Boolean => Value::Boolean(parse_boolean(text)?),
        SqlType::SmallInt => Value::SmallInt(parse_integer(sql_type, text)?),
        SqlType::Integer => Value::Integer(parse_integer(sql_type, text)?),
        SqlType::BigInt => Value::BigInt(parse_integer(sql_type, text)?),
        SqlType::Real => Value::Real(parse_real(text)?),
        SqlType::DoublePrecision => Value::DoublePrecision(parse_double(text)?),
        SqlType::Numeric { precision, scale } => {
            let bounds = Bounds {
                precision: *precision,
                scale: *scale,
            };
            Value::Numeric(bounds.parse(text)?)
        }
        SqlType::Text | SqlType::Varchar(None) => Value::Text(Cow::Borrowed(text)),
        SqlType::Varchar(Some(length)) => Value::Text(Cow::Borrowed(limit(text, *length)?)),
        SqlType::Jsonb => Value::Text(Cow::Borrowed(check_json(text)?)),
        SqlType::Bytea => Value::Bytes(Cow::Owned(bytea::parse(text)?)),
        SqlType::Date => Value::Date(datetime::parse_date(text)?),
        SqlType::Time => Value::Time(datetime::parse_time(text)?),
        SqlType::Timestamp => Value::Timestamp(datetime::parse_timestamp(text)?),
        SqlType::Timestamptz => Value::Timestamp(datetime::parse_timestamptz(text, style)?),
        SqlType::Interval => Value::Interval(interval::parse(text)?),
        SqlType::Uuid => {
            Value::Uuid(bytea::parse_uuid(text).ok_or_else(|| syntax_error("uuid", text))?)
        }
        SqlType::Array(element) => parse_array(element, text, style)?,
        SqlType::Struct(fields) => parse_record(fields, text, style)?,
    })
}

/// The bytes as text.
///
/// # Errors
/// 22021 when they are not UTF-8, or contain the byte 0, which Postgres refuses too.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str> {
    let bad = match std::str::from_utf8(bytes) {
        Ok(text) => match bytes.iter().position(|byte| *byte == 0) {
            None => return Ok(text),
            Some(at) => &bytes[at..=at],
        },
        Err(error) => {
            let rest = &bytes[error.valid_up_to()..];
            let expected = match rest.first() {
                Some(0xc2..=0xdf) => 2,
                Some(0xe0..=0xef) => 3,
                Some(0xf0..=0xf4) => 4,
                _ => 1,
            };
            &rest[..expected.min(rest.len())]
        }
    };
    let shown: Vec<String> = bad.iter().map(|byte| format!("0x{byte:02x}")).collect();
    Err(Error::new(
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        format!(
            "invalid byte sequence for encoding \"UTF8\": {}",
            shown.join(" ")
        ),
    ))
}

pub(crate) fn syntax_error(type_name: &str, text: &str) -> Error {
    Error::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(|character| u8::try_from(character).is_ok_and(is_blank))
}

/// `true`, `yes`, `on` and `1`, `false`, `no`, `off` and `0`, or a beginning of a word that could
/// be no other.
fn parse_boolean(text: &str) -> Result<bool> {
    let word = trim(text).to_ascii_lowercase();
    let is_start_of = |full: &str, least: usize| word.len() >= least && full.starts_with(&word);
    if is_start_of("true", 1) || is_start_of("yes", 1) || is_start_of("on", 2) || word == "1" {
        Ok(true)
    } else if is_start_of("false", 1)
        || is_start_of("no", 1)
        || is_start_of("off", 2)
        || word == "0"
    {
        Ok(false)
    } else {
        Err(syntax_error("boolean", text))
    }
}

fn parse_integer<T: TryFrom<i64>>(sql_type: &SqlType, text: &str) -> Result<T> {
    let trimmed = trim(text);
    let digits = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(syntax_error(&sql_type.to_string(), text));
    }
    // Only digits are left: the one error that remains is the range.
    let value = trimmed.parse::<i64>().ok();
    value
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| {
            Error::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                format!("value \"{text}\" is out of range for type {sql_type}"),
            )
        })
}

fn parse_real(text: &str) -> Result<f32> {
    let value: f32 = trim(text).parse().map_err(|_| syntax_error("real", text))?;
    check_float(f64::from(value), "real", text)?;
    Ok(value)
}

fn parse_double(text: &str) -> Result<f64> {
    let value: f64 = trim(text)
        .parse()
        .map_err(|_| syntax_error("double precision", text))?;
    check_float(value, "double precision", text)?;
    Ok(value)
}

/// Refuses what rounded to infinity or to zero without being either.
fn check_float(value: f64, type_name: &str, text: &str) -> Result<()> {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let overflowed = value.is_infinite() && mantissa.bytes().any(|byte| byte.is_ascii_digit());
    let underflowed = value == 0.0 && mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    if overflowed || underflowed {
        return Err(Error::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("\"{}\" is out of range for type {type_name}", trim(text)),
        ));
    }
    Ok(())
}

/// Checks a varchar's length in characters; blanks beyond it are cut off, as the standard has it.
pub(crate) fn limit(text: &str, length: u32) -> Result<&str> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let Some((end, _)) = text.char_indices().nth(length) else {
        return Ok(text);
    };
    if text[end..].bytes().all(|byte| byte == b' ') {
        return Ok(&text[..end]);
    }
    Err(Error::new(
        SqlState::STRING_DATA_RIGHT_TRUNCATION,
        format!("value too long for type character varying({length})"),
    ))
}

/// Checks that a text is JSON; it is kept as it is written.
pub(crate) fn check_json(text: &str) -> Result<&str> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(text),
        Err(cause) => Err(Error::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            "invalid input syntax for type json",
        )
        .detail(cause.to_string())),
    }
}

/// Reads `{1,NULL,"a b",{…}}`.
fn parse_array<'a>(element: &SqlType, text: &'a str, style: &DateTimeStyle) -> Result<Value<'a>> {
    let mut literal = Literal {
        text,
        rest: trim(text),
        kind: "array",
    };
    let value = literal.array(element, style)?;
    if !literal.rest.is_empty() {
        return Err(literal.malformed("Junk after closing right brace."));
    }
    Ok(value)
}

/// Reads `(1,"a b",)`: nothing between commas is NULL.
fn parse_record<'a>(
    fields: &[StructField],
    text: &'a str,
    style: &DateTimeStyle,
) -> Result<Value<'a>> {
    let mut literal = Literal {
        text,
        rest: trim(text),
        kind: "record",
    };
    if !literal.accept(b'(') {
        return Err(literal.malformed("Missing left parenthesis."));
    }
    let mut values = Vec::with_capacity(fields.len());
    for (position, field) in fields.iter().enumerate() {
        if position > 0 && !literal.accept(b',') {
            return Err(literal.malformed("Too few columns."));
        }
        let item = literal.item(b"),")?;
        values.push(match item {
            Item::Plain(text) if text.is_empty() => None,
            Item::Plain(text) | Item::Quoted(text) => {
                Some(parse_item(&field.sql_type, text, style)?)
            }
        });
    }
    if literal.accept(b',') {
        return Err(literal.malformed("Too many columns."));
    }
    if !literal.accept(b')') {
        return Err(literal.malformed("Unexpected end of input."));
    }
    if !literal.rest.is_empty() {
        return Err(literal.malformed("Junk after right parenthesis."));
    }
    Ok(Value::Struct(values))
}

/// Parses an element; one that had escapes in it is a copy and lends nothing.
fn parse_item<'a>(
    sql_type: &SqlType,
    text: Cow<'a, str>,
    style: &DateTimeStyle,
) -> Result<Value<'a>> {
    match text {
        Cow::Borrowed(text) => parse(sql_type, text, style),
        Cow::Owned(text) => parse(sql_type, &text, style).map(Value::into_owned),
    }
}

/// An element as written, with its escapes resolved.
enum Item<'a> {
    Plain(Cow<'a, str>),
    /// Quotes or escapes: never NULL, nor trimmed.
    Quoted(Cow<'a, str>),
}

struct Literal<'a> {
    text: &'a str,
    rest: &'a str,
    kind: &'static str,
}

impl<'a> Literal<'a> {
    fn array(&mut self, element: &SqlType, style: &DateTimeStyle) -> Result<Value<'a>> {
        if !self.accept(b'{') {
            return Err(
                self.malformed("Array value must start with \"{\" or dimension information.")
            );
        }
        let mut values = Vec::new();
        self.skip_blanks();
        if self.accept(b'}') {
            return Ok(Value::Array(values));
        }
        loop {
            self.skip_blanks();
            values.push(self.element(element, style)?);
            self.skip_blanks();
            if self.accept(b'}') {
                return Ok(Value::Array(values));
            }
            if !self.accept(b',') {
                return Err(self.malformed("Unexpected end of input."));
            }
        }
    }

    fn element(&mut self, sql_type: &SqlType, style: &DateTimeStyle) -> Result<Option<Value<'a>>> {
        if let SqlType::Array(inner) = sql_type
            && self.rest.starts_with('{')
        {
            return self.array(inner, style).map(Some);
        }
        match self.item(b"},{")? {
            Item::Plain(text) => match trim(&text) {
                "" => Err(self.malformed("Unexpected \"}\" or \",\" character.")),
                null if null.eq_ignore_ascii_case("null") => Ok(None),
                _ => {
                    let text = match text {
                        Cow::Borrowed(text) => Cow::Borrowed(trim(text)),
                        Cow::Owned(text) => Cow::Owned(trim(&text).to_string()),
                    };
                    parse_item(sql_type, text, style).map(Some)
                }
            },
            Item::Quoted(text) => parse_item(sql_type, text, style).map(Some),
        }
    }

    /// Takes what stands before one of `ends`. In quotes a doubled quote is a quote in a record,
    /// and the end of the item in an array; a backslash takes the next character as it is.
    fn item(&mut self, ends: &[u8]) -> Result<Item<'a>> {
        let bytes = self.rest.as_bytes();
        let is_special = |byte: &u8| ends.contains(byte) || matches!(byte, b'"' | b'\\');
        let Some(plain) = bytes.iter().position(is_special) else {
            return Err(self.malformed("Unexpected end of input."));
        };
        if ends.contains(&bytes[plain]) {
            let (item, rest) = self.rest.split_at(plain);
            self.rest = rest;
            return Ok(Item::Plain(Cow::Borrowed(item)));
        }
        let mut item = String::new();
        let mut in_quotes = false;
        let mut characters = self.rest.char_indices().peekable();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some((_, escaped)) => item.push(escaped),
                    None => break,
                },
                '"' if in_quotes
                    && self.kind == "record"
                    && characters.next_if(|(_, next)| *next == '"').is_some() =>
                {
                    item.push('"');
                }
                '"' => in_quotes = !in_quotes,
                end if !in_quotes && u8::try_from(end).is_ok_and(|end| ends.contains(&end)) => {
                    self.rest = &self.rest[at..];
                    return Ok(Item::Quoted(Cow::Owned(item)));
                }
                // Between an array's quotes and its commas there may be blanks.
                ' ' if !in_quotes && self.kind == "array" && bytes[..at].contains(&b'"') => {}
                other => item.push(other),
            }
        }
        Err(self.malformed("Unexpected end of input."))
    }

    fn accept(&mut self, byte: u8) -> bool {
        match self.rest.as_bytes().first() {
            Some(first) if *first == byte => {
                self.rest = &self.rest[1..];
                true
            }
            _ => false,
        }
    }

    fn skip_blanks(&mut self) {
        self.rest = self
            .rest
            .trim_start_matches(|character| u8::try_from(character).is_ok_and(is_blank));
    }

    fn malformed(&self, detail: &str) -> Error {
        Error::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            format!("malformed {} literal: \"{}\"", self.kind, self.text),
        )
        .detail(detail)
    }
}
