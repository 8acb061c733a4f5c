//! Functions of the library behind a bound on what they build.
//!
//! The size of a result is computed, or bounded from above, out of the arguments before the
//! function is called: what no account holds is never allocated.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::functions::regex::regexp_replace;
use datafusion::functions::string::replace;
use datafusion::functions_nested::concat::{array_append_udf, array_concat_udf, array_prepend_udf};
use datafusion::functions_nested::repeat::array_repeat_udf;
use datafusion::functions_nested::resize::array_resize_udf;
use datafusion::functions_nested::string::array_to_string_udf;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};

use crate::base::limits::{BATCH_TEXT_BYTES_MAX, VALUE_BYTES_MAX};
use crate::function::columnar::{array_too_large, failure, text_too_large};

/// Bytes that one value of an array counts beside its own, so that many small ones count.
const ELEMENT_BYTES: usize = 8;

/// How many times greater than the bound the upper bound of a result may be that is not known
/// exactly: a pattern rarely matches at every character.
const ESTIMATE_FACTOR: usize = 4;

/// How the size of a result follows from the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Rule {
    Replace,
    RegexpReplace,
    ArrayRepeat,
    ArrayResize,
    ArrayToString,
    /// All arguments together.
    Sum,
}

/// Puts the bounded functions in the place of the library's, and takes away the one that
/// `generate_series` stands for.
pub(super) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    registry.deregister_udf("range")?;
    let functions = [
        bounded(replace(), Rule::Replace),
        bounded(regexp_replace(), Rule::RegexpReplace),
        bounded(array_repeat_udf(), Rule::ArrayRepeat),
        bounded(array_resize_udf(), Rule::ArrayResize),
        bounded(array_to_string_udf(), Rule::ArrayToString),
        array_concat(),
        array_append(),
        array_prepend(),
    ];
    for function in functions {
        registry.deregister_udf(function.name())?;
        registry.register_udf(function)?;
    }
    Ok(())
}

/// `a || b` of arrays.
pub fn array_concat() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| bounded(array_concat_udf(), Rule::Sum));
    FUNCTION.clone()
}

/// `array || element`.
pub fn array_append() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| bounded(array_append_udf(), Rule::Sum));
    FUNCTION.clone()
}

/// `element || array`.
pub fn array_prepend() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| bounded(array_prepend_udf(), Rule::Sum));
    FUNCTION.clone()
}

fn bounded(inner: Arc<ScalarUDF>, rule: Rule) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Bounded { inner, rule }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    rule: Rule,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args.args, args.number_rows)?;
        self.inner.invoke_with_args(args)
    }
}

impl Bounded {
    fn check(&self, args: &[ColumnarValue], rows: usize) -> Result<()> {
        let is_constant = |value: &ColumnarValue| matches!(value, ColumnarValue::Scalar(_));
        let rows = if args.iter().all(is_constant) {
            1
        } else {
            rows
        };
        let arrays = args.iter().map(|argument| argument.to_array(rows));
        let arrays = Arguments::new(arrays.collect::<Result<Vec<_>>>()?, self.rule)?;
        let (is_array, factor) = match self.rule {
            Rule::Replace | Rule::ArrayToString => (false, 1),
            Rule::RegexpReplace => (false, ESTIMATE_FACTOR),
            Rule::ArrayRepeat | Rule::ArrayResize | Rule::Sum => (true, 1),
        };
        let mut all = 0_usize;
        for row in 0..rows {
            let bytes = arrays.result_bytes(self.rule, row)?;
            all = all.saturating_add(bytes);
            // An array is many values.
            let one_max = if is_array {
                BATCH_TEXT_BYTES_MAX
            } else {
                VALUE_BYTES_MAX
            };
            if bytes / factor > one_max || all / factor > BATCH_TEXT_BYTES_MAX {
                return Err(failure(match is_array {
                    true => array_too_large(),
                    false => text_too_large(),
                }));
            }
        }
        Ok(())
    }
}

/// A batch of arguments; texts and counts in one layout.
struct Arguments(Vec<ArrayRef>);

impl Arguments {
    fn new(arrays: Vec<ArrayRef>, rule: Rule) -> Result<Arguments> {
        let plain = |(place, array): (usize, ArrayRef)| match array.data_type() {
            DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
                Ok(cast(&array, &DataType::Utf8)?)
            }
            other if other.is_integer() && is_count(rule, place) => {
                Ok(cast(&array, &DataType::Int64)?)
            }
            _ => Ok(array),
        };
        let arrays = arrays.into_iter().enumerate().map(plain);
        Ok(Arguments(arrays.collect::<Result<Vec<_>>>()?))
    }

    fn result_bytes(&self, rule: Rule, row: usize) -> Result<usize> {
        Ok(match rule {
            Rule::Replace => {
                let (text, from, to) = (self.text(0, row), self.text(1, row), self.text(2, row));
                let times = match from.is_empty() {
                    true => 0,
                    false => text.matches(from).count(),
                };
                text.len().saturating_add(times.saturating_mul(to.len()))
            }
            Rule::RegexpReplace => {
                let (text, by) = (self.text(0, row), self.text(2, row));
                let times = match self.text(3, row).contains('g') {
                    true => text.len() + 1,
                    false => 1,
                };
                // `\1` stands for a part of the text.
                let parts = by.matches(['\\', '$']).count();
                let own = by.len().saturating_mul(times);
                own.saturating_add(text.len().saturating_mul(parts + 1))
            }
            Rule::ArrayRepeat => self.bytes(0, row)?.saturating_mul(self.count(1, row)),
            Rule::ArrayResize => {
                let fill = self.bytes(2, row)?.saturating_mul(self.count(1, row));
                fill.saturating_add(self.bytes(0, row)?)
            }
            Rule::ArrayToString => {
                let elements = self.elements(0, row);
                let between = self.text(1, row).len() + self.text(2, row).len();
                let own = self.bytes(0, row)?;
                elements.saturating_mul(between).saturating_add(own)
            }
            Rule::Sum => {
                let mut all = 0_usize;
                for place in 0..self.0.len() {
                    all = all.saturating_add(self.bytes(place, row)?);
                }
                all
            }
        })
    }

    fn text(&self, place: usize, row: usize) -> &str {
        let texts = self
            .0
            .get(place)
            .and_then(|array| array.as_string_opt::<i32>());
        match texts {
            Some(texts) if texts.is_valid(row) => texts.value(row),
            _ => "",
        }
    }

    fn count(&self, place: usize, row: usize) -> usize {
        let counts = self.0.get(place);
        let counts = counts.and_then(|array| array.as_primitive_opt::<Int64Type>());
        match counts {
            Some(counts) if counts.is_valid(row) => {
                let count = counts.value(row);
                usize::try_from(count).unwrap_or(if count < 0 { 0 } else { usize::MAX })
            }
            _ => 0,
        }
    }

    fn elements(&self, place: usize, row: usize) -> usize {
        match self
            .0
            .get(place)
            .and_then(|array| array.as_list_opt::<i32>())
        {
            Some(lists) if lists.is_valid(row) => lists.value(row).len(),
            _ => 0,
        }
    }

    /// What the value occupies.
    fn bytes(&self, place: usize, row: usize) -> Result<usize> {
        let Some(array) = self.0.get(place).filter(|array| array.is_valid(row)) else {
            return Ok(ELEMENT_BYTES);
        };
        if array.data_type().primitive_width().is_some() {
            return Ok(ELEMENT_BYTES);
        }
        let own = match array.as_list_opt::<i32>() {
            // A slice of a list's array still has all elements.
            Some(lists) => lists.value(row).to_data().get_slice_memory_size()?,
            None => array.slice(row, 1).to_data().get_slice_memory_size()?,
        };
        Ok(own.max(ELEMENT_BYTES))
    }
}

fn is_count(rule: Rule, place: usize) -> bool {
    matches!(rule, Rule::ArrayRepeat | Rule::ArrayResize) && place == 1
}
