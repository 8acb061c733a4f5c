//! `format(pattern, …)`: `%s`, `%I`, `%L` and `%%`, with positions and widths, as in Postgres.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::base::limits::VALUE_BYTES_MAX;
use crate::error::{Error, SqlState};
use crate::function::columnar::{failure, text_too_large};
use crate::function::text::builder::{Texts, by_rows, shown, text_at};
use crate::function::time::zone_of;
use crate::sql::name::quote_identifier;
use crate::types::pg::DateTimeStyle;

pub(super) fn format() -> ScalarUDF {
    ScalarUDF::new_from_impl(FormatText {
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FormatText {
    signature: Signature,
}

impl ScalarUDFImpl for FormatText {
    fn name(&self) -> &str {
        "format"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [_, values @ ..] = arguments else {
            return plan_err!("function format takes a pattern");
        };
        let plain = values.iter().map(|data_type| match data_type {
            DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
            other => other.clone(),
        });
        Ok(std::iter::once(DataType::Utf8).chain(plain).collect())
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let style = DateTimeStyle {
            zone: zone_of(&call.config_options),
        };
        by_rows(&call.args, call.number_rows, |arrays, rows| {
            let values = arrays.iter().zip(&call.arg_fields).skip(1);
            let values = values.map(|(array, field)| shown(array, field, style));
            let values = values.collect::<Result<Vec<_>>>()?;
            let mut texts = Texts::new(rows);
            for row in 0..rows {
                match text_at(&arrays[0], row) {
                    None => texts.push_null(),
                    Some(pattern) => {
                        let text = formatted(pattern, &values, row).map_err(failure)?;
                        texts.push(&text)?;
                    }
                }
            }
            Ok(texts.finish())
        })
    }
}

/// `%[position$][-][width]type`.
struct Specifier {
    position: Option<usize>,
    is_left: bool,
    width: Option<Width>,
    kind: char,
}

enum Width {
    Fixed(usize),
    /// The next argument, or the one at a position.
    Argument(Option<usize>),
}

fn formatted(pattern: &str, values: &[ArrayRef], row: usize) -> Result<String, Error> {
    let mut text = String::new();
    // How many arguments are used.
    let mut used = 0;
    let mut rest = pattern.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        if rest.peek() == Some(&'%') {
            rest.next();
            text.push('%');
            continue;
        }
        let specifier = specifier(&mut rest)?;
        let (width, is_left) = match specifier.width {
            None => (0, specifier.is_left),
            Some(Width::Fixed(width)) => (width, specifier.is_left),
            Some(Width::Argument(position)) => {
                let width = width_of(argument(values, row, position, &mut used)?)?;
                let is_left = specifier.is_left || width < 0;
                (
                    usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX),
                    is_left,
                )
            }
        };
        let value = argument(values, row, specifier.position, &mut used)?;
        let value = match (specifier.kind, value) {
            ('s', value) => value.unwrap_or_default().to_string(),
            ('I', Some(name)) => identifier(name),
            ('I', None) => {
                let message = "null values cannot be formatted as an SQL identifier";
                return Err(Error::new(SqlState::NULL_VALUE_NOT_ALLOWED, message));
            }
            (_, Some(value)) => literal(value),
            (_, None) => "NULL".to_string(),
        };
        let missing = width.saturating_sub(value.chars().count());
        if missing > VALUE_BYTES_MAX || text.len() + value.len() > VALUE_BYTES_MAX {
            return Err(text_too_large());
        }
        let filling = std::iter::repeat_n(' ', missing);
        match is_left {
            true => {
                text.push_str(&value);
                text.extend(filling);
            }
            false => {
                text.extend(filling);
                text.push_str(&value);
            }
        }
    }
    Ok(text)
}

fn specifier(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Specifier, Error> {
    let number = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| {
        let mut number: Option<usize> = None;
        while let Some(digit) = rest.peek().and_then(|character| character.to_digit(10)) {
            rest.next();
            let before = number.unwrap_or(0);
            let digit = usize::try_from(digit).unwrap_or(0);
            number = Some(before.saturating_mul(10).saturating_add(digit));
        }
        number
    };
    let position_zero = || {
        let message = "format specifies argument 0, but arguments are numbered from 1";
        Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
    };
    let mut position = None;
    let mut is_left = false;
    let mut width = number(rest);
    if width.is_some() && rest.peek() == Some(&'$') {
        rest.next();
        position = width.take();
        if position == Some(0) {
            return Err(position_zero());
        }
    }
    if width.is_none() {
        while rest.peek() == Some(&'-') {
            rest.next();
            is_left = true;
        }
        width = number(rest);
    }
    let mut width = width.map(Width::Fixed);
    if width.is_none() && rest.peek() == Some(&'*') {
        rest.next();
        let place = number(rest);
        if place == Some(0) {
            return Err(position_zero());
        }
        if place.is_some() && rest.next() != Some('$') {
            let message = "width argument position must be ended by \"$\"";
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        width = Some(Width::Argument(place));
    }
    match rest.next() {
        Some(kind @ ('s' | 'I' | 'L')) => Ok(Specifier {
            position,
            is_left,
            width,
            kind,
        }),
        None => Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "unterminated format() type specifier",
        )
        .hint("for a single \"%\" use \"%%\"")),
        Some(other) => Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("unrecognized format() type specifier \"{other}\""),
        )
        .hint("for a single \"%\" use \"%%\"")),
    }
}

/// The next argument, or the one at a position.
fn argument<'a>(
    values: &'a [ArrayRef],
    row: usize,
    position: Option<usize>,
    used: &mut usize,
) -> Result<Option<&'a str>, Error> {
    let place = match position {
        Some(position) => position,
        None => *used + 1,
    };
    *used = place;
    match values.get(place - 1) {
        Some(array) => {
            let texts = array.as_string::<i32>();
            Ok(texts.is_valid(row).then(|| texts.value(row)))
        }
        None => Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "too few arguments for format()",
        )),
    }
}

fn width_of(value: Option<&str>) -> Result<i64, Error> {
    let Some(text) = value else {
        return Ok(0);
    };
    text.trim().parse::<i32>().map(i64::from).map_err(|_| {
        let message = format!("invalid input syntax for type integer: \"{text}\"");
        Error::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
    })
}

/// The name, in quotes if it needs them.
fn identifier(name: &str) -> String {
    quote_identifier(name).into_owned()
}

/// The text as a constant.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}
