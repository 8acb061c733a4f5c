//! Texts, and bytes, one after another: `||`, `concat` and `concat_ws`.

use std::sync::{Arc, LazyLock};

use arrow::array::builder::BinaryBuilder;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::base::limits::{BATCH_TEXT_BYTES_MAX, VALUE_BYTES_MAX};
use crate::function::columnar::{failure, text_too_large};
use crate::function::text::builder::{Texts, by_rows, shown, text_at};
use crate::function::time::zone_of;
use crate::types::pg::DateTimeStyle;

/// `a || b` of texts; another type is cast to text before.
pub fn text_concat() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Arc::new(Join::function(Form::Operator)));
    FUNCTION.clone()
}

/// `a || b` of bytes.
pub fn bytes_concat() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Arc::new(Join::function(Form::Bytes)));
    FUNCTION.clone()
}

/// `concat(a, …)`: NULLs are left out.
pub(super) fn concat() -> ScalarUDF {
    Join::function(Form::Concat)
}

/// `concat_ws(separator, a, …)`.
pub(super) fn concat_ws() -> ScalarUDF {
    Join::function(Form::Separated)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Operator,
    Bytes,
    Concat,
    Separated,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Join {
    form: Form,
    signature: Signature,
}

impl Join {
    fn function(form: Form) -> ScalarUDF {
        let signature = Signature::user_defined(Volatility::Immutable);
        ScalarUDF::new_from_impl(Join { form, signature })
    }
}

impl ScalarUDFImpl for Join {
    fn name(&self) -> &str {
        match self.form {
            Form::Operator => "textcat",
            Form::Bytes => "byteacat",
            Form::Concat => "concat",
            Form::Separated => "concat_ws",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        let names = arguments.iter().map(|argument| argument.schema_name());
        let names: Vec<String> = names.map(|name| name.to_string()).collect();
        Ok(match self.form {
            Form::Operator | Form::Bytes => names.join(" || "),
            Form::Concat | Form::Separated => format!("{}({})", self.name(), names.join(",")),
        })
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.form {
            Form::Bytes => DataType::Binary,
            _ => DataType::Utf8,
        })
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let texts = |data_type: &DataType| match data_type {
            DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
            other => other.clone(),
        };
        match (self.form, arguments) {
            (Form::Operator, [_, _]) => Ok(vec![DataType::Utf8; 2]),
            (Form::Bytes, [_, _]) => Ok(vec![DataType::Binary; 2]),
            (Form::Concat, [_, ..]) => Ok(arguments.iter().map(texts).collect()),
            (Form::Separated, [_, values @ ..]) if !values.is_empty() => {
                Ok(std::iter::once(DataType::Utf8)
                    .chain(values.iter().map(texts))
                    .collect())
            }
            _ => plan_err!("function {} takes more arguments", self.name()),
        }
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let style = DateTimeStyle {
            zone: zone_of(&call.config_options),
        };
        by_rows(&call.args, call.number_rows, |arrays, rows| {
            if self.form == Form::Bytes {
                return joined_bytes(arrays, rows);
            }
            let texts = arrays.iter().zip(&call.arg_fields);
            let texts = texts.map(|(array, field)| shown(array, field, style));
            let texts = texts.collect::<Result<Vec<_>>>()?;
            match self.form {
                Form::Separated => joined(&texts[1..], rows, Some(&texts[0])),
                Form::Concat => joined(&texts, rows, None),
                Form::Operator | Form::Bytes => {
                    let mut all = Texts::new(rows);
                    for row in 0..rows {
                        match (text_at(&texts[0], row), text_at(&texts[1], row)) {
                            (Some(a), Some(b)) => {
                                all.reserve(a.len() + b.len())?;
                                all.push_parts([a, b].into_iter())?;
                            }
                            _ => all.push_null(),
                        }
                    }
                    Ok(all.finish())
                }
            }
        })
    }
}

/// The texts of every row that are not NULL; without its separator a row is NULL.
fn joined(texts: &[ArrayRef], rows: usize, separators: Option<&ArrayRef>) -> Result<ArrayRef> {
    let mut all = Texts::new(rows);
    for row in 0..rows {
        let separator = match separators {
            None => "",
            Some(separators) => match text_at(separators, row) {
                Some(separator) => separator,
                None => {
                    all.push_null();
                    continue;
                }
            },
        };
        let parts = || texts.iter().filter_map(|texts| text_at(texts, row));
        let count = parts().count();
        let bytes: usize = parts().map(str::len).sum();
        all.reserve(bytes + separator.len() * count.saturating_sub(1))?;
        let separated = parts().enumerate().flat_map(|(place, part)| {
            let before = if place == 0 { "" } else { separator };
            [before, part]
        });
        all.push_parts(separated)?;
    }
    Ok(all.finish())
}

fn joined_bytes(arrays: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let (left, right) = (arrays[0].as_binary::<i32>(), arrays[1].as_binary::<i32>());
    let mut all = BinaryBuilder::new();
    let mut total = 0_usize;
    for row in 0..rows {
        if left.is_null(row) || right.is_null(row) {
            all.append_null();
            continue;
        }
        let both = [left.value(row), right.value(row)];
        let bytes = both[0].len() + both[1].len();
        total += bytes;
        if bytes > VALUE_BYTES_MAX || total > BATCH_TEXT_BYTES_MAX {
            return Err(failure(text_too_large()));
        }
        all.append_value(both.concat());
    }
    Ok(Arc::new(all.finish()))
}
