//! The operators as functions of DataFusion's, and the two functions that go with them: `mod` and
//! `abs`.
//!
//! The planner makes a call of [`arithmetic`] from every operator in a query's text. In plans and
//! names of columns it looks like the operator: `a + b`.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, SqlState};
use crate::function::arithmetic::signature::{ArithmeticOperator, Kind, Operation};
use crate::function::arithmetic::{float, integer, numeric, time};
use crate::function::columnar::{failure, map_column};
use crate::function::time::zone_of;
use crate::types::{SqlType, Zone};

/// The function that an operator stands for; made once.
pub fn arithmetic(operator: ArithmeticOperator) -> Arc<ScalarUDF> {
    static FUNCTIONS: LazyLock<[Arc<ScalarUDF>; 5]> = LazyLock::new(|| {
        ArithmeticOperator::ALL
            .map(|operator| Arc::new(ScalarUDF::new_from_impl(Arithmetic::new(operator))))
    });
    FUNCTIONS[operator as usize].clone()
}

/// `mod(a, b)`: the operator `%` by its name.
pub fn modulus() -> ScalarUDF {
    ScalarUDF::new_from_impl(Arithmetic {
        name: "mod",
        ..Arithmetic::new(ArithmeticOperator::Modulo)
    })
}

/// `abs(a)`: of the type of its argument, so that the least integer has none.
pub fn absolute() -> ScalarUDF {
    ScalarUDF::new_from_impl(Absolute {
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Arithmetic {
    name: &'static str,
    operator: ArithmeticOperator,
    signature: Signature,
}

impl Arithmetic {
    fn new(operator: ArithmeticOperator) -> Self {
        Arithmetic {
            name: operator.name(),
            operator,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }

    fn operation(&self, arguments: &[DataType]) -> Result<Operation> {
        let [left, right] = arguments else {
            return plan_err!("function {} takes two arguments", self.name);
        };
        // A NULL without a type has the other's.
        let (left, right) = match (left, right) {
            (DataType::Null, DataType::Null) => (&DataType::Int32, &DataType::Int32),
            (DataType::Null, other) | (other, DataType::Null) => (other, other),
            both => both,
        };
        Operation::find(self.operator, left, right)
            .ok_or_else(|| failure(no_such_operator(self.operator, left, right)))
    }
}

/// 42883 in Postgres' words.
fn no_such_operator(operator: ArithmeticOperator, left: &DataType, right: &DataType) -> Error {
    let name = |data_type: &DataType| SqlType::name_of(data_type);
    let message = format!(
        "operator does not exist: {} {operator} {}",
        name(left),
        name(right)
    );
    Error::new(SqlState::UNDEFINED_FUNCTION, message).hint(
        "no operator matches the given name and argument types; you might need to add explicit \
         type casts",
    )
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        let names = arguments.iter().map(|argument| argument.schema_name());
        let names: Vec<String> = names.map(|name| name.to_string()).collect();
        Ok(match (self.name, names.as_slice()) {
            ("mod", _) => format!("mod({})", names.join(",")),
            (_, [left, right]) => format!("{left} {} {right}", self.operator),
            _ => format!("{}({})", self.name, names.join(",")),
        })
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(self.operation(arguments)?.result)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let operation = self.operation(arguments)?;
        Ok(vec![operation.left, operation.right])
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = call.args.as_slice() else {
            return plan_err!("function {} takes two arguments", self.name);
        };
        let types = [left.data_type(), right.data_type()];
        let operation = self.operation(&types)?;
        let (left, right) = match operation.is_swapped {
            true => (right, left),
            false => (left, right),
        };
        let (operator, result) = (self.operator, &operation.result);
        let values = match operation.kind {
            Kind::Integer => integer::compute(operator, left, right, result)?,
            Kind::Numeric => numeric::compute(operator, left, right, result)?,
            Kind::Float => float::compute(operator, left, right, result)?,
            kind => {
                let zone = match result {
                    DataType::Timestamp(_, Some(_)) => zone_of(&call.config_options),
                    _ => Zone::UTC,
                };
                time::compute(kind, operator, left, right, result, zone)?
            }
        };
        match (left, right) {
            (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)) => {
                let value = ScalarValue::try_from_array(&values, 0)?;
                Ok(ColumnarValue::Scalar(value))
            }
            _ => Ok(ColumnarValue::Array(values)),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Absolute {
    signature: Signature,
}

impl ScalarUDFImpl for Absolute {
    fn name(&self) -> &str {
        "abs"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(self.coerce_types(arguments)?.remove(0))
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [argument] = arguments else {
            return plan_err!("function abs takes one argument");
        };
        let number = match argument {
            DataType::Null => Some(DataType::Float64),
            // Its own operation with itself brings a number to one of the types computed here.
            other => Operation::find(ArithmeticOperator::Modulo, other, other)
                .map(|operation| operation.result),
        };
        match number {
            Some(number) => Ok(vec![number]),
            None => {
                let name = SqlType::name_of(argument);
                let message = format!("function abs({name}) does not exist");
                Err(failure(
                    Error::new(SqlState::UNDEFINED_FUNCTION, message)
                        .hint("cast the argument to a number"),
                ))
            }
        }
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        map_column(&call.args[0], |values| {
            Ok(match values.data_type() {
                DataType::Int16 => absolute_integers::<Int16Type>(values, "smallint")?,
                DataType::Int32 => absolute_integers::<Int32Type>(values, "integer")?,
                DataType::Int64 => absolute_integers::<Int64Type>(values, "bigint")?,
                DataType::Float32 => Arc::new(
                    values
                        .as_primitive::<Float32Type>()
                        .unary::<_, Float32Type>(f32::abs),
                ),
                DataType::Float64 => Arc::new(
                    values
                        .as_primitive::<Float64Type>()
                        .unary::<_, Float64Type>(f64::abs),
                ),
                decimal => {
                    let numerics = values.as_primitive::<Decimal128Type>();
                    let absolute: PrimitiveArray<Decimal128Type> =
                        numerics.unary(|value: i128| value.wrapping_abs());
                    Arc::new(absolute.with_data_type(decimal.clone()))
                }
            })
        })
    }
}

fn absolute_integers<T: ArrowPrimitiveType>(values: &ArrayRef, name: &str) -> Result<ArrayRef> {
    let zero = T::Native::ZERO;
    let absolute = values
        .as_primitive::<T>()
        .try_unary::<_, T, _>(|value| match value.is_lt(zero) {
            true => zero
                .sub_checked(value)
                .map_err(|_| integer::out_of_range(name)),
            false => Ok(value),
        })
        .map_err(failure)?;
    Ok(Arc::new(absolute))
}
