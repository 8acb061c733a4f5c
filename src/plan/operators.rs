//! Operators, EXTRACT and ranks as Postgres types them, while a query's text is planned.
//!
//! ```text
//!   a + 1                       add(a, 1)                our own arithmetic, typed as in Postgres
//!   ts > '2026-01-01'           ts > CAST('2026-01-01' AS timestamp)
//!   n + $1                      $1 has the type of n
//!   a || 1                      textcat(a, CAST(1 AS text)); arrays and bytes likewise
//!   EXTRACT(year FROM ts)       extract('year', ts)      a numeric
//!   row_number() OVER (…)       CAST(row_number() … AS bigint)
//! ```
//!
//! A quoted constant has no type of its own in SQL: it has the type of what it stands beside. The
//! library takes it for text and converts the other side.
//!
//! A whole number in the text is an `integer` if it fits, as an operand; the library takes it for a
//! `bigint`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{
    Cast, Placeholder, ScalarFunction, WindowFunction, WindowFunctionParams,
};
use datafusion::logical_expr::planner::{
    ExprPlanner, PlannerResult, RawAggregateExpr, RawBinaryExpr, RawWindowExpr,
};
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::error::{Error, SqlState};
use crate::function::arithmetic::{ArithmeticOperator, Operation, arithmetic};
use crate::function::text::{array_append, array_concat, array_prepend, bytes_concat, text_concat};
use crate::function::time::extract;
use crate::types::SqlType;
use crate::types::pg::{Format, parse_value};

/// Window functions whose numbers are unsigned in the library, and their type in Postgres.
const RANKS: [(&str, DataType); 4] = [
    ("row_number", DataType::Int64),
    ("rank", DataType::Int64),
    ("dense_rank", DataType::Int64),
    ("ntile", DataType::Int32),
];

/// The planner's extension.
#[derive(Debug)]
pub struct PostgresOperators;

/// An argument whose casts are in its name: the library leaves them out, and takes
/// `max(x::int)` and `max(x::text)` for one.
fn with_types_named(argument: Expr) -> Result<Expr> {
    let named = argument.transform_up(|expr| match &expr {
        Expr::Cast(cast) => {
            let name = format!("{}::{}", cast.expr.schema_name(), cast.field.data_type());
            Ok(Transformed::yes(expr.alias(name)))
        }
        _ => Ok(Transformed::no(expr)),
    });
    Ok(named?.data)
}

impl ExprPlanner for PostgresOperators {
    fn plan_binary_op(
        &self,
        raw: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        match operator_of(&raw.op) {
            Some(operator) => plan_arithmetic(operator, raw, schema),
            None if raw.op == BinaryOperator::StringConcat => plan_concat(raw, schema),
            None if is_comparison(&raw.op) => plan_comparison(raw, schema),
            None => Ok(PlannerResult::Original(raw)),
        }
    }

    fn plan_extract(&self, arguments: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        let call = ScalarFunction::new_udf(extract(), arguments);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }

    fn plan_aggregate(&self, mut raw: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        // The others, such as separators, are mostly constants and must stay so.
        if let Some(first) = raw.args.first_mut() {
            *first = with_types_named(first.clone())?;
        }
        raw.filter = raw
            .filter
            .map(|filter| with_types_named(*filter).map(Box::new))
            .transpose()?;
        Ok(PlannerResult::Original(raw))
    }

    fn plan_window(&self, raw: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        let name = raw.func_def.name();
        let Some((_, data_type)) = RANKS.iter().find(|(rank, _)| *rank == name) else {
            return Ok(PlannerResult::Original(raw));
        };
        let function = WindowFunction {
            fun: raw.func_def,
            params: WindowFunctionParams {
                args: raw.args,
                partition_by: raw.partition_by,
                order_by: raw.order_by,
                window_frame: raw.window_frame,
                filter: raw.filter,
                null_treatment: raw.null_treatment,
                distinct: raw.distinct,
            },
        };
        Ok(PlannerResult::Planned(cast(
            Expr::from(function),
            data_type.clone(),
        )))
    }
}

fn operator_of(op: &BinaryOperator) -> Option<ArithmeticOperator> {
    Some(match op {
        BinaryOperator::Plus => ArithmeticOperator::Add,
        BinaryOperator::Minus => ArithmeticOperator::Subtract,
        BinaryOperator::Multiply => ArithmeticOperator::Multiply,
        BinaryOperator::Divide => ArithmeticOperator::Divide,
        BinaryOperator::Modulo => ArithmeticOperator::Modulo,
        _ => return None,
    })
}

fn is_comparison(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq
    )
}

fn plan_arithmetic(
    operator: ArithmeticOperator,
    raw: RawBinaryExpr,
    schema: &DFSchema,
) -> Result<PlannerResult<RawBinaryExpr>> {
    let (left, right) = (is_untyped(&raw.left), is_untyped(&raw.right));
    if left && right {
        let message = format!("operator is not unique: unknown {operator} unknown");
        let error = Error::new(SqlState::AMBIGUOUS_FUNCTION, message)
            .hint("add explicit type casts to the operands");
        return Err(external(error));
    }
    // A name that is not found is reported better by who resolves names.
    let (Some(left_type), Some(right_type)) =
        (type_of(&raw.left, schema), type_of(&raw.right, schema))
    else {
        return Ok(PlannerResult::Original(raw));
    };
    let RawBinaryExpr {
        left: a, right: b, ..
    } = raw;
    let (left_type, right_type) = (whole_type(&a, left_type), whole_type(&b, right_type));
    let (a, b) = match (left, right) {
        (true, _) => (
            typed(a, &beside(operator, &right_type))?,
            narrowed(b, &right_type),
        ),
        (_, true) => {
            let wanted = beside(operator, &left_type);
            (narrowed(a, &left_type), typed(b, &wanted)?)
        }
        _ => (narrowed(a, &right_type), narrowed(b, &left_type)),
    };
    let (left_type, right_type) = (a.get_type(schema)?, b.get_type(schema)?);
    let is_known = left_type.is_null()
        || right_type.is_null()
        || Operation::find(operator, &left_type, &right_type).is_some();
    match is_known {
        true => Ok(PlannerResult::Planned(Expr::ScalarFunction(
            ScalarFunction::new_udf(arithmetic(operator), vec![a, b]),
        ))),
        false => Err(external(no_such_operator(
            operator.symbol(),
            &left_type,
            &right_type,
        ))),
    }
}

/// What `||` puts together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    Text,
    Bytes,
    Json,
    Array,
    Other,
    /// A constant in quotes, a parameter or NULL: what the other side is.
    Unknown,
}

impl Parts {
    fn of(expr: &Expr, field: &Field) -> Parts {
        let data_type = field.data_type();
        match data_type {
            _ if is_untyped(expr) || data_type.is_null() => Parts::Unknown,
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
                Parts::Array
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Parts::Bytes,
            _ => match SqlType::of(field) {
                Ok(SqlType::Jsonb) => Parts::Json,
                Ok(SqlType::Text | SqlType::Varchar(_)) => Parts::Text,
                _ => Parts::Other,
            },
        }
    }
}

fn plan_concat(raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
    let field = |expr: &Expr| expr.to_field(schema).ok().map(|(_, field)| field);
    // A name that is not found is reported better by who resolves names.
    let (Some(left), Some(right)) = (field(&raw.left), field(&raw.right)) else {
        return Ok(PlannerResult::Original(raw));
    };
    let parts = (Parts::of(&raw.left, &left), Parts::of(&raw.right, &right));
    let (a, b) = (raw.left, raw.right);
    let text: FieldRef = Arc::new(SqlType::Text.to_field("", true));
    let (function, a, b) = match parts {
        (Parts::Array, Parts::Unknown) => (array_concat(), a, as_array(b, &left)?),
        (Parts::Unknown, Parts::Array) => (array_concat(), as_array(a, &right)?, b),
        (Parts::Array, Parts::Array) => (array_concat(), a, b),
        (Parts::Array, _) => (array_append(), a, b),
        (_, Parts::Array) => (array_prepend(), a, b),
        (Parts::Bytes, Parts::Unknown) => (bytes_concat(), a, typed(b, &left)?),
        (Parts::Unknown, Parts::Bytes) => (bytes_concat(), typed(a, &right)?, b),
        (Parts::Bytes, Parts::Bytes) => (bytes_concat(), a, b),
        (Parts::Json, Parts::Json | Parts::Unknown) | (Parts::Unknown, Parts::Json) => {
            let error = Error::unsupported("operator || of jsonb is not supported");
            return Err(external(error.hint("cast both sides to text")));
        }
        (Parts::Text | Parts::Unknown, _) | (_, Parts::Text | Parts::Unknown) => {
            let a = as_text(a, parts.0, &text)?;
            (text_concat(), a, as_text(b, parts.1, &text)?)
        }
        _ => {
            let (left, right) = (left.data_type(), right.data_type());
            return Err(external(no_such_operator("||", left, right)));
        }
    };
    let call = ScalarFunction::new_udf(function, vec![a, b]);
    Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
}

/// A constant in quotes as an array of a field's type; NULL is an array too.
fn as_array(expr: Expr, field: &FieldRef) -> Result<Expr> {
    match expr {
        Expr::Literal(value, _) if value.is_null() => {
            let nothing = ScalarValue::try_from(field.data_type())?;
            Ok(Expr::Literal(nothing, None))
        }
        other => typed(other, field),
    }
}

/// The cast is written: the library would not bring every type to text by itself.
fn as_text(expr: Expr, part: Parts, text: &FieldRef) -> Result<Expr> {
    match part {
        Parts::Text => Ok(expr),
        Parts::Unknown if is_untyped_parameter(&expr) => typed(expr, text),
        Parts::Unknown => Ok(expr),
        _ => Ok(Expr::Cast(Cast::new_from_field(
            Box::new(expr),
            text.clone(),
        ))),
    }
}

fn plan_comparison(raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
    let RawBinaryExpr { op, left, right } = raw;
    let (left, right) = match (text_of(&left), text_of(&right)) {
        (Some(_), None) => (beside_value(left, &right, schema)?, right),
        (None, Some(_)) => {
            let right = beside_value(right, &left, schema)?;
            (left, right)
        }
        _ => (left, right),
    };
    Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
}

/// A quoted constant as a value of the type that another expression has.
pub(super) fn beside_value(constant: Expr, other: &Expr, schema: &DFSchema) -> Result<Expr> {
    let Ok((_, field)) = other.to_field(schema) else {
        return Ok(constant);
    };
    let data_type = whole_type(other, field.data_type().clone());
    match takes_text(&field) {
        true => typed(
            constant,
            &Arc::new(field.as_ref().clone().with_data_type(data_type)),
        ),
        false => Ok(constant),
    }
}

/// Whether a quoted constant beside such a value is one of its type.
pub fn takes_text(field: &Field) -> bool {
    !matches!(
        SqlType::of(field),
        Err(_) | Ok(SqlType::Text | SqlType::Varchar(_) | SqlType::Struct(_))
    )
}

/// What an untyped operand beside a value of this type is.
fn beside(operator: ArithmeticOperator, other: &DataType) -> FieldRef {
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    let data_type = match (operator, other) {
        (
            ArithmeticOperator::Add,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Time64(_),
        ) => interval,
        (ArithmeticOperator::Multiply | ArithmeticOperator::Divide, DataType::Interval(_)) => {
            DataType::Float64
        }
        (_, other) => other.clone(),
    };
    Arc::new(Field::new("", data_type, true))
}

/// A constant in quotes, or a parameter of which nothing is known.
fn is_untyped(expr: &Expr) -> bool {
    text_of(expr).is_some() || is_untyped_parameter(expr)
}

pub(super) fn is_untyped_parameter(expr: &Expr) -> bool {
    matches!(expr, Expr::Placeholder(Placeholder { field: None, .. }))
}

/// The text of a quoted constant.
pub(super) fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), None) => Some(text),
        _ => None,
    }
}

/// An untyped expression as a value of a field's type.
pub(super) fn typed(expr: Expr, field: &FieldRef) -> Result<Expr> {
    let nullable = || Arc::new(field.as_ref().clone().with_name("").with_nullable(true));
    match expr {
        Expr::Placeholder(parameter) if parameter.field.is_none() => Ok(Expr::Placeholder(
            Placeholder::new_with_field(parameter.id, Some(nullable())),
        )),
        constant if text_of(&constant).is_some() => {
            check_constant(&constant, field)?;
            let cast = Cast::new_from_field(Box::new(constant), nullable());
            Ok(Expr::Cast(cast))
        }
        other => Ok(other),
    }
}

/// What is wrong with a constant is said when the query is planned, even if no row needs it.
pub(super) fn check_constant(constant: &Expr, field: &Field) -> Result<()> {
    let Some(text) = text_of(constant) else {
        return Ok(());
    };
    match takes_text(field) {
        true => parse_value(field, Format::Text, text.as_bytes())
            .map(drop)
            .map_err(external),
        false => Ok(()),
    }
}

/// A whole number of the text as the narrowest of Postgres' types beside a value of another.
fn narrowed(expr: Expr, other: &DataType) -> Expr {
    let value = match &expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), None) => i128::from(*value),
        Expr::Literal(ScalarValue::UInt64(Some(value)), None) => i128::from(*value),
        _ => return expr,
    };
    let is_numeric = other.is_decimal();
    let narrow = match (i32::try_from(value), i64::try_from(value)) {
        (Ok(value), _) if !is_numeric => ScalarValue::Int32(Some(value)),
        (_, Ok(value)) if !is_numeric => ScalarValue::Int64(Some(value)),
        _ => {
            let digits = value.unsigned_abs().checked_ilog10().unwrap_or(0) + 1;
            let digits = u8::try_from(digits).expect("64 bits have 20 digits");
            ScalarValue::Decimal128(Some(value), digits, 0)
        }
    };
    Expr::Literal(narrow, None)
}

/// The type of a whole number of the text where nothing beside it says another.
fn whole_type(expr: &Expr, data_type: DataType) -> DataType {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), None) if i32::try_from(*value).is_ok() => {
            DataType::Int32
        }
        _ => data_type,
    }
}

fn type_of(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    expr.get_type(schema).ok()
}

/// 42883 in Postgres' words.
pub(super) fn no_such_operator(symbol: &str, left: &DataType, right: &DataType) -> Error {
    let message = format!(
        "operator does not exist: {} {symbol} {}",
        SqlType::name_of(left),
        SqlType::name_of(right)
    );
    Error::new(SqlState::UNDEFINED_FUNCTION, message).hint(
        "no operator matches the given name and argument types; you might need to add explicit \
         type casts",
    )
}

pub(super) fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
