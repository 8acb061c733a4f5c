//! `repeat(text, n)`, `lpad(text, n [, fill])` and `rpad`: the length is known before the text.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::{Error, SqlState};
use crate::function::columnar::failure;
use crate::function::text::builder::{Texts, by_rows, text_at};
use crate::types::SqlType;

/// Where `lpad` and `rpad` fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Left,
    Right,
}

pub(super) fn repeat() -> ScalarUDF {
    Lengthen::function(Form::Repeat)
}

pub(super) fn pad(side: Side) -> ScalarUDF {
    Lengthen::function(Form::Pad(side))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Repeat,
    Pad(Side),
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Lengthen {
    form: Form,
    signature: Signature,
}

impl Lengthen {
    fn function(form: Form) -> ScalarUDF {
        let signature = Signature::user_defined(Volatility::Immutable);
        ScalarUDF::new_from_impl(Lengthen { form, signature })
    }
}

impl ScalarUDFImpl for Lengthen {
    fn name(&self) -> &str {
        match self.form {
            Form::Repeat => "repeat",
            Form::Pad(Side::Left) => "lpad",
            Form::Pad(Side::Right) => "rpad",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let is_text = |data_type: &DataType| {
            matches!(
                data_type,
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null
            )
        };
        let is_whole = |data_type: &DataType| {
            data_type.is_integer() || matches!(data_type, DataType::Null | DataType::Utf8)
        };
        let (is_right, types) = match (self.form, arguments) {
            (_, [text, length]) => (
                is_text(text) && is_whole(length),
                vec![DataType::Utf8, DataType::Int32],
            ),
            (Form::Pad(_), [text, length, fill]) => (
                is_text(text) && is_whole(length) && is_text(fill),
                vec![DataType::Utf8, DataType::Int32, DataType::Utf8],
            ),
            _ => (false, Vec::new()),
        };
        if is_right {
            return Ok(types);
        }
        let names: Vec<String> = arguments.iter().map(SqlType::name_of).collect();
        let message = format!(
            "function {}({}) does not exist",
            self.name(),
            names.join(", ")
        );
        let error = Error::new(SqlState::UNDEFINED_FUNCTION, message);
        Err(failure(error.hint("give it a text and a length")))
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        by_rows(&call.args, call.number_rows, |arrays, rows| {
            let lengths = arrays[1].as_primitive::<Int32Type>();
            let mut texts = Texts::new(rows);
            for row in 0..rows {
                let (Some(text), true) = (text_at(&arrays[0], row), lengths.is_valid(row)) else {
                    texts.push_null();
                    continue;
                };
                // As Postgres: nothing, for a negative length.
                let length = usize::try_from(lengths.value(row)).unwrap_or(0);
                match self.form {
                    Form::Repeat => {
                        texts.reserve(text.len().saturating_mul(length))?;
                        // Doubled in few steps, and not one by one.
                        texts.push_parts([text.repeat(length).as_str()].into_iter())?;
                    }
                    Form::Pad(side) => pad_one(&mut texts, text, length, fill(arrays, row), side)?,
                }
            }
            Ok(texts.finish())
        })
    }
}

/// What is filled with: a space, or the third argument; `None` when that is NULL.
fn fill(arrays: &[ArrayRef], row: usize) -> Option<&str> {
    match arrays.get(2) {
        None => Some(" "),
        Some(fills) => text_at(fills, row),
    }
}

/// Cuts the text, or fills it up to so many characters.
fn pad_one(
    texts: &mut Texts,
    text: &str,
    length: usize,
    fill: Option<&str>,
    side: Side,
) -> Result<()> {
    let Some(fill) = fill else {
        texts.push_null();
        return Ok(());
    };
    if let Some((end, _)) = text.char_indices().nth(length) {
        return texts.push(&text[..end]);
    }
    let missing = length - text.chars().count();
    let fill_characters = fill.chars().count();
    if fill_characters == 0 {
        return texts.push(text);
    }
    let whole = missing / fill_characters;
    let rest = fill.char_indices().nth(missing % fill_characters);
    let rest = rest.map_or("", |(end, _)| &fill[..end]);
    let bytes = fill.len().saturating_mul(whole).saturating_add(rest.len());
    texts.reserve(bytes.saturating_add(text.len()))?;
    let filling = fill.repeat(whole);
    let parts = match side {
        Side::Left => [filling.as_str(), rest, text],
        Side::Right => [text, filling.as_str(), rest],
    };
    texts.push_parts(parts.into_iter())
}
