//! `pg_typeof(value)`: the name of its type.

use arrow::datatypes::{DataType, Field};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use crate::function::columnar::failure;
use crate::types::SqlType;

/// The function. In Postgres its result is of type `regtype`, which is shown as this text.
pub fn pg_typeof() -> ScalarUDF {
    ScalarUDF::new_from_impl(TypeName {
        signature: Signature::any(1, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TypeName {
    signature: Signature,
}

impl ScalarUDFImpl for TypeName {
    fn name(&self) -> &str {
        "pg_typeof"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = name_of(&call.arg_fields[0]).map_err(failure)?;
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))))
    }
}

/// Without the modifiers of the type.
fn name_of(field: &Field) -> crate::error::Result<String> {
    Ok(match SqlType::of(field)? {
        SqlType::Numeric { .. } => "numeric".to_string(),
        SqlType::Varchar(_) => "character varying".to_string(),
        SqlType::Struct(_) => "record".to_string(),
        _ if field.data_type().is_null() => "unknown".to_string(),
        other => other.to_string(),
    })
}
