//! `coalesce`, `greatest` and `least` while a text is planned: a constant in quotes among their
//! arguments is of the others' type.
//!
//! The library checks a call's types as soon as it is read, and knows neither that `'2026-01-01'`
//! beside a date is one nor that `'7'` beside a number is. So it reads these in the place of its
//! own functions; [`crate::plan::parameters`] types the constants and puts its own back.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

const LENIENT: [&str; 3] = ["coalesce", "greatest", "least"];

/// What is planned for a function of that name.
pub(super) fn lenient(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match LENIENT.contains(&function.name()) {
        false => function,
        true => {
            let signature = Signature::user_defined(function.signature().volatility);
            Arc::new(ScalarUDF::new_from_impl(Lenient {
                inner: function,
                signature,
            }))
        }
    }
}

/// The library's function, if this one stands for it.
pub(super) fn strict(function: &ScalarUDF) -> Option<Arc<ScalarUDF>> {
    let inner: &dyn Any = function.inner().as_ref();
    let lenient = inner.downcast_ref::<Lenient>()?;
    Some(lenient.inner.clone())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Lenient {
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for Lenient {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(self.coerce_types(arguments)?.swap_remove(0))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let is_text = |data_type: &&DataType| matches!(data_type, DataType::Utf8);
        let other = arguments
            .iter()
            .find(|data_type| !is_text(data_type) && !data_type.is_null());
        match (arguments.iter().find(is_text), other) {
            (Some(_), Some(other)) => Ok(vec![other.clone(); arguments.len()]),
            _ => self.inner.coerce_types(arguments),
        }
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{} is planned and never run", self.name())
    }
}
