//! `now_is(op, time, offset)`: whether the clock stands in a relation to a time of the row.
//!
//! What a condition on `now()` becomes in a view's plan, so that the library moves it about like
//! any other condition on the row's columns and never takes it for a constant:
//!
//! ```text
//!   ts > now() - INTERVAL '1 hour'      now_is('<', ts, 3600000000)      now() < ts + 1 h
//! ```
//!
//! It is never computed: an operator with a clock takes its place. Of NULL it is NULL, which the
//! library wants to know when it asks whether a condition rejects the rows that an outer join adds.

use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::array::Array;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::scalar::ScalarValue;

/// How the clock stands to a time: `now() < time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockIs {
    Before,
    BeforeOrAt,
    After,
    AtOrAfter,
}

impl ClockIs {
    const ALL: [ClockIs; 4] = [
        ClockIs::Before,
        ClockIs::BeforeOrAt,
        ClockIs::After,
        ClockIs::AtOrAfter,
    ];

    /// The operator between `now()` and the time.
    pub fn symbol(self) -> &'static str {
        match self {
            ClockIs::Before => "<",
            ClockIs::BeforeOrAt => "<=",
            ClockIs::After => ">",
            ClockIs::AtOrAfter => ">=",
        }
    }

    /// With the sides changed over: `time > now()` is `now() < time`.
    pub fn flipped(self) -> ClockIs {
        match self {
            ClockIs::Before => ClockIs::After,
            ClockIs::BeforeOrAt => ClockIs::AtOrAfter,
            ClockIs::After => ClockIs::Before,
            ClockIs::AtOrAfter => ClockIs::BeforeOrAt,
        }
    }

    /// What holds exactly where this does not.
    pub fn negated(self) -> ClockIs {
        match self {
            ClockIs::Before => ClockIs::AtOrAfter,
            ClockIs::BeforeOrAt => ClockIs::After,
            ClockIs::After => ClockIs::BeforeOrAt,
            ClockIs::AtOrAfter => ClockIs::Before,
        }
    }

    /// Whether it holds, once it does, for ever: rows come in by it, and leave by the others.
    pub fn is_lasting(self) -> bool {
        matches!(self, ClockIs::After | ClockIs::AtOrAfter)
    }
}

impl fmt::Display for ClockIs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

/// `now() <relation> time + offset` as a call; the time is a `timestamptz`.
pub fn now_is(relation: ClockIs, time: Expr, offset_micros: i64) -> Expr {
    let arguments = vec![lit(relation.symbol()), time, lit(offset_micros)];
    Expr::ScalarFunction(ScalarFunction::new_udf(function(), arguments))
}

/// The parts of such a call.
pub fn as_now_is(expr: &Expr) -> Option<(ClockIs, &Expr, i64)> {
    let Expr::ScalarFunction(call) = expr else {
        return None;
    };
    if call.func.name() != NAME {
        return None;
    }
    let [Expr::Literal(symbol, _), time, Expr::Literal(offset, _)] = call.args.as_slice() else {
        return None;
    };
    let (ScalarValue::Utf8(Some(symbol)), ScalarValue::Int64(Some(offset))) = (symbol, offset)
    else {
        return None;
    };
    let mut all = ClockIs::ALL.into_iter();
    let relation = all.find(|relation| relation.symbol() == symbol)?;
    Some((relation, time, *offset))
}

/// No name that a text can call: it is not registered.
const NAME: &str = "now_is";

fn function() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
        let arguments = vec![DataType::Utf8, time, DataType::Int64];
        Arc::new(ScalarUDF::new_from_impl(NowIs {
            signature: Signature::exact(arguments, Volatility::Stable),
        }))
    });
    FUNCTION.clone()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NowIs {
    signature: Signature,
}

impl ScalarUDFImpl for NowIs {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_null = match &call.args[1] {
            ColumnarValue::Scalar(value) => value.is_null(),
            ColumnarValue::Array(values) => values.null_count() == values.len(),
        };
        match is_null {
            true => Ok(ColumnarValue::Scalar(ScalarValue::Boolean(None))),
            false => internal_err!("a condition on now() is an operator's"),
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::col;

    use super::*;

    #[test]
    fn a_call_is_read_back() {
        for relation in ClockIs::ALL {
            let call = now_is(relation, col("ts"), -7);
            assert_eq!(as_now_is(&call), Some((relation, &col("ts"), -7)));
            assert_eq!(relation.flipped().flipped(), relation);
            assert_eq!(relation.negated().negated(), relation);
            assert_ne!(relation.is_lasting(), relation.negated().is_lasting());
        }
        assert_eq!(as_now_is(&col("ts")), None);
    }
}
