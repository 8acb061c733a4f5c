//! Operators against Postgres' answers.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use datafusion::scalar::ScalarValue;

use crate::function::arithmetic::{ArithmeticOperator, Operation, arithmetic};
use crate::types::SqlType;
use crate::types::pg::{ColumnBuilder, Format, ValueWriter};

fn column(sql_type: &str, texts: &[Option<&str>]) -> ArrayRef {
    let field = SqlType::parse(sql_type).unwrap().to_field("", true);
    let mut builder = ColumnBuilder::new(&field).unwrap();
    for text in texts {
        let bytes = text.map(str::as_bytes);
        builder.push(bytes, Format::Text).unwrap();
    }
    builder.finish().unwrap()
}

fn invoke(
    operator: ArithmeticOperator,
    arguments: [ColumnarValue; 2],
    rows: usize,
) -> datafusion::error::Result<ColumnarValue> {
    let [left, right] = arguments;
    let operation = Operation::find(operator, &left.data_type(), &right.data_type()).unwrap();
    let field = |data_type| Arc::new(Field::new("", data_type, true));
    arithmetic(operator).invoke_with_args(ScalarFunctionArgs {
        args: vec![
            left.cast_to(&operation.left, None)?,
            right.cast_to(&operation.right, None)?,
        ],
        arg_fields: vec![field(operation.left), field(operation.right)],
        number_rows: rows,
        return_field: field(operation.result),
        config_options: Arc::new(ConfigOptions::default()),
    })
}

/// The message of an error of ours.
fn reason(error: &datafusion::error::DataFusionError) -> String {
    use datafusion::error::DataFusionError;
    let external: &(dyn std::error::Error + Send + Sync) = match error {
        DataFusionError::External(cause) => cause.as_ref(),
        DataFusionError::ArrowError(cause, _) => match cause.as_ref() {
            arrow::error::ArrowError::ExternalError(cause) => cause.as_ref(),
            other => panic!("{other}"),
        },
        other => panic!("{other}"),
    };
    let error = external.downcast_ref::<crate::error::Error>().unwrap();
    error.message().to_string()
}

/// The text of `left operator right`, each written as `type 'text'`, or the error's.
fn answer(left: (&str, &str), symbol: &str, right: (&str, &str)) -> String {
    let operator = ArithmeticOperator::ALL
        .into_iter()
        .find(|operator| operator.symbol() == symbol)
        .unwrap();
    let value = |(sql_type, text): (&str, &str)| {
        let array = column(sql_type, &[Some(text)]);
        ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0).unwrap())
    };
    match invoke(operator, [value(left), value(right)], 1) {
        Err(error) => reason(&error),
        Ok(value) => {
            let array = value.into_array(1).unwrap();
            let field = Field::new("", array.data_type().clone(), true);
            let writer = ValueWriter::new(&field, Format::Text).unwrap();
            let mut text = bytes::BytesMut::new();
            writer.write(&array, 0, &mut text).unwrap();
            String::from_utf8(text.to_vec()).unwrap()
        }
    }
}

/// `type 'a' + type 'b'` as its parts.
fn parts(expression: &str) -> [(&str, &str, &str); 2] {
    let mut words = expression.split('\'');
    let mut next = || words.next().unwrap().trim();
    let (left_type, left) = (next(), next());
    let (symbol, right_type) = next().split_once(' ').unwrap();
    [(left_type, left, symbol), (right_type, next(), "")]
}

#[test]
fn answers_are_those_of_postgres() {
    for (expression, expected) in [
        ("int '2147483647' + int '1'", "integer out of range"),
        (
            "bigint '-9223372036854775808' - bigint '1'",
            "bigint out of range",
        ),
        ("smallint '-32768' * smallint '-1'", "smallint out of range"),
        (
            "bigint '-9223372036854775808' / bigint '-1'",
            "bigint out of range",
        ),
        ("bigint '-9223372036854775808' % bigint '-1'", "0"),
        ("int '7' / int '-2'", "-3"),
        ("int '-7' % int '3'", "-1"),
        ("int '1' / int '0'", "division by zero"),
        ("smallint '3' + bigint '4'", "7"),
        (
            "numeric(2,1) '1.0' / numeric(1,0) '3'",
            "0.3333333333333333",
        ),
        ("numeric(2,1) '7.0' / int '2'", "3.5000000000000000"),
        (
            "numeric(2,1) '-1.0' / numeric(1,0) '6'",
            "-0.1666666666666667",
        ),
        ("numeric(3,1) '1.0' / int '0'", "division by zero"),
        ("numeric(2,1) '7.5' % int '2'", "1.5"),
        ("numeric(3,2) '2.50' + int '1'", "3.50"),
        ("numeric(2,1) '1.5' * numeric(3,2) '2.25'", "3.375"),
        (
            "numeric '123456789012345678.12' * numeric '1000.5'",
            "numeric field overflow",
        ),
        (
            "numeric(38,0) '99999999999999999999999999999999999999' + int '1'",
            "numeric field overflow",
        ),
        (
            "numeric(38,38) '0.00000000000000000000000000000000000003' / numeric(38,38) \
             '0.00000000000000000000000000000000000002'",
            "numeric field overflow",
        ),
        (
            "float8 '1e308' * float8 '10'",
            "value out of range: overflow",
        ),
        (
            "float8 '1e-308' * float8 '1e-308'",
            "value out of range: underflow",
        ),
        ("float8 '1' / float8 '0'", "division by zero"),
        ("float8 'infinity' * float8 '2'", "Infinity"),
        ("real '0.1' + real '0.2'", "0.3"),
        ("real '0.1' + float8 '0.2'", "0.30000000149011613"),
        (
            "date '2026-01-31' + interval '1 month'",
            "2026-02-28 00:00:00",
        ),
        (
            "interval '1 month' + date '2024-01-31'",
            "2024-02-29 00:00:00",
        ),
        ("date '2026-01-01' + int '5'", "2026-01-06"),
        ("bigint '5' + date '2026-01-01'", "2026-01-06"),
        ("date '2026-01-02' - date '2026-01-01'", "1"),
        ("date '2026-01-01' + time '10:00'", "2026-01-01 10:00:00"),
        (
            "timestamp '2026-01-01' - timestamp '2025-12-30 13:00'",
            "1 day 11:00:00",
        ),
        (
            "timestamp '2025-12-30 13:00' - date '2026-01-01'",
            "-1 days -11:00:00",
        ),
        (
            "timestamp '2026-03-31' - interval '1 month'",
            "2026-02-28 00:00:00",
        ),
        ("time '23:00' + interval '2 hours'", "01:00:00"),
        ("time '10:00' - time '12:30'", "-02:30:00"),
        ("interval '1 day' - interval '1 hour'", "1 day -01:00:00"),
        ("interval '1 day' * int '2'", "2 days"),
        ("numeric '1.5' * interval '1 day 3 hours'", "1 day 16:30:00"),
        ("interval '1 month' / int '7'", "4 days 06:51:25.6896"),
        ("interval '1 day' / int '0'", "division by zero"),
        (
            "interval '1 month' * float8 '1e10'",
            "interval out of range",
        ),
    ] {
        let [(left_type, left, symbol), (right_type, right, _)] = parts(expression);
        let found = answer((left_type, left), symbol, (right_type, right));
        assert_eq!(found, expected, "{expression}");
    }
}

#[test]
fn columns_and_constants_mix_and_null_stays_null() {
    let column = column("bigint", &[Some("1"), None, Some("3")]);
    let array = ColumnarValue::Array(column);
    let constant = |value| ColumnarValue::Scalar(ScalarValue::Int64(value));
    let values = |arguments| {
        let sum = invoke(ArithmeticOperator::Subtract, arguments, 3).unwrap();
        let sum = sum.into_array(3).unwrap();
        sum.as_primitive::<Int64Type>().iter().collect::<Vec<_>>()
    };
    let expected = [Some(-9), None, Some(-7)];
    assert_eq!(values([array.clone(), constant(Some(10))]), expected);
    let expected = [Some(9), None, Some(7)];
    assert_eq!(values([constant(Some(10)), array.clone()]), expected);
    assert_eq!(
        values([array.clone(), array.clone()]),
        [Some(0), None, Some(0)]
    );
    assert_eq!(values([array, constant(None)]), [None; 3]);
}

#[test]
fn operators_exist_for_the_types_they_have_in_postgres() {
    let found = |operator, left: &str, right: &str| {
        let data_type = |name: &str| SqlType::parse(name).unwrap().data_type();
        let operation = Operation::find(operator, &data_type(left), &data_type(right))?;
        Some(SqlType::name_of(&operation.result))
    };
    use ArithmeticOperator::{Add, Divide, Multiply, Subtract};
    for (operator, left, right, expected) in [
        (Add, "smallint", "integer", Some("integer")),
        (Add, "real", "integer", Some("double precision")),
        (Add, "date", "date", None),
        (Subtract, "integer", "date", None),
        (Subtract, "interval", "timestamp", None),
        (Multiply, "interval", "interval", None),
        (Divide, "integer", "interval", None),
        (Add, "text", "integer", None),
        (Add, "timestamp", "integer", None),
        (Subtract, "timestamptz", "date", Some("interval")),
    ] {
        assert_eq!(
            found(operator, left, right).as_deref(),
            expected,
            "{left} {operator} {right}"
        );
    }
    let operation = Operation::find(Add, &DataType::UInt64, &DataType::Int64).unwrap();
    assert_eq!(operation.result, DataType::Decimal128(21, 0));
}
