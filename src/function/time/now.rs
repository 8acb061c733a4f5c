//! `now()`, `current_timestamp`, `transaction_timestamp()` and `localtimestamp`: the start of the
//! statement, in microseconds like every time here.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use crate::function::time::zone_of;

/// The point in time.
pub fn now() -> ScalarUDF {
    ScalarUDF::new_from_impl(Now {
        name: "now",
        aliases: vec![
            "current_timestamp".to_string(),
            "transaction_timestamp".to_string(),
            "statement_timestamp".to_string(),
        ],
        data_type: DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        signature: Signature::nullary(Volatility::Stable),
    })
}

/// What the clocks of the statement's zone show then.
pub fn localtimestamp() -> ScalarUDF {
    ScalarUDF::new_from_impl(Now {
        name: "localtimestamp",
        aliases: Vec::new(),
        data_type: DataType::Timestamp(TimeUnit::Microsecond, None),
        signature: Signature::nullary(Volatility::Stable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Now {
    name: &'static str,
    aliases: Vec<String>,
    data_type: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    /// Known when the statement is planned, so that it is one value all over it.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some(start) = info.query_execution_start_time() else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        let instant = start.timestamp_micros();
        let value = match &self.data_type {
            DataType::Timestamp(_, Some(zone)) => {
                ScalarValue::TimestampMicrosecond(Some(instant), Some(zone.clone()))
            }
            _ => {
                let zone = zone_of(info.config_options());
                ScalarValue::TimestampMicrosecond(zone.to_local(instant), None)
            }
        };
        Ok(ExprSimplifyResult::Simplified(Expr::Literal(value, None)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{} is a constant of the statement", self.name)
    }
}
