//! `sum` and `avg` as DataFusion plans and runs them, with Postgres' types and errors.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature,
    Volatility,
};

use crate::function::aggregate::extremes::{FloatEnd, extreme_function};
use crate::function::aggregate::groups::{
    DistinctTotal, OneTotal, TotalGroups, external, state_fields,
};
use crate::function::aggregate::{Algebra, Total, TotalRule};

/// Puts ours in the place of DataFusion's own.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for end in [FloatEnd::Least, FloatEnd::Greatest] {
        registry.register_udaf(extreme_function(end))?;
    }
    for total in [Total::Sum, Total::Average] {
        registry.register_udaf(total_function(total))?;
    }
    Ok(())
}

/// The function as DataFusion knows it.
pub fn total_function(total: Total) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(TotalFunction::new(total)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TotalFunction {
    total: Total,
    aliases: Vec<String>,
    signature: Signature,
}

impl TotalFunction {
    fn new(total: Total) -> TotalFunction {
        let aliases = match total {
            Total::Sum => Vec::new(),
            Total::Average => vec!["mean".to_string()],
        };
        let signature = Signature::user_defined(Volatility::Immutable);
        TotalFunction {
            total,
            aliases,
            signature,
        }
    }

    fn rule(&self, args: &AccumulatorArgs<'_>) -> Result<(TotalRule, Algebra, DataType)> {
        let argument = args.expr_fields[0].data_type();
        let rule = TotalRule::new(self.total, argument).map_err(external)?;
        let algebra = Algebra::of(argument).expect("a type with a rule has an algebra");
        Ok((rule, algebra, argument.clone()))
    }
}

impl AggregateUDFImpl for TotalFunction {
    fn name(&self) -> &str {
        self.total.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.total.result_type(&arg_types[0]).map_err(external)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [argument] = arg_types else {
            let message = format!(
                "function {} takes one argument, not {}",
                self.name(),
                arg_types.len()
            );
            let state = crate::error::SqlState::UNDEFINED_FUNCTION;
            return Err(external(crate::error::Error::new(state, message)));
        };
        let coerced = coerced(argument);
        // The user's type is in the message, not the one it would have been made.
        self.total.result_type(&coerced).map_err(external)?;
        Ok(vec![coerced])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let (rule, algebra, argument) = self.rule(&args)?;
        Ok(match args.is_distinct {
            true => Box::new(DistinctTotal::new(rule, algebra, argument)),
            false => Box::new(OneTotal::new(rule, algebra)),
        })
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(state_fields(args.name, args.is_distinct))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let (rule, algebra, _) = self.rule(&args)?;
        Ok(Box::new(TotalGroups::new(rule, algebra)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// The type that an argument is cast to: one of those that add up.
fn coerced(argument: &DataType) -> DataType {
    match argument {
        // An untyped NULL: Postgres takes the preferred numeric type.
        DataType::Null => DataType::Float64,
        DataType::Float16 => DataType::Float64,
        DataType::Decimal256(_, scale) => DataType::Decimal128(38, *scale.min(&38)),
        DataType::Dictionary(_, values) => coerced(values),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::register;

    /// Answers a query over `t (k text, n bigint, x double)`; an error is its text.
    fn answer(partitions: usize, query: &str) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_batch_size(3);
        let mut ctx = SessionContext::new_with_config(config);
        register(&mut ctx).unwrap();
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "k",
                Arc::new(StringArray::from(vec!["a", "b", "a", "b", "a", "c"])),
            ),
            (
                "n",
                Arc::new(Int64Array::from(vec![
                    Some(i64::MAX),
                    Some(1),
                    Some(i64::MAX),
                    Some(2),
                    Some(2),
                    None,
                ])),
            ),
            (
                "x",
                Arc::new(Float64Array::from(vec![1e16, 0.1, 1.0, 0.2, -1e16, 5.0])),
            ),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        ctx.register_batch("t", rows).unwrap();
        let result = runtime
            .block_on(ctx.sql(query))
            .and_then(|frame| runtime.block_on(frame.collect()));
        match result {
            Ok(batches) => pretty_format_batches(&batches).unwrap().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn totals_have_the_types_and_values_of_postgres() {
        for partitions in [1, 4] {
            let query = "SELECT k, sum(n), avg(n), sum(x), avg(n::int) FILTER (WHERE n < 3),
                         arrow_typeof(sum(n)), arrow_typeof(sum(n::int))
                         FROM t WHERE n < 3 OR k <> 'b' GROUP BY k ORDER BY k";
            let query = query
                .replace("avg(n::int)", "avg(n)")
                .replace("n::int", "1::int");
            let text = answer(partitions, &query);
            for expected in [
                "18446744073709551616",
                "6148914691236517205.3333333333333333",
                "1.5000000000000000",
                "| 1.0 ",
                "0.30000000000000004",
                "Decimal128(38, 0)",
                "Int64",
            ] {
                assert!(text.contains(expected), "{expected} in\n{text}");
            }
        }
    }

    #[test]
    fn totals_of_distinct_values_and_of_frames() {
        let text = answer(
            1,
            "SELECT sum(DISTINCT n), avg(DISTINCT n), count(DISTINCT x) FROM t",
        );
        assert!(text.contains("9223372036854775810"), "{text}");
        let text = answer(
            1,
            "SELECT sum(n) OVER (ORDER BY x ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
        );
        assert!(text.contains("9223372036854775807"), "{text}");
        let text = answer(
            1,
            "SELECT sum(n) IS NULL, avg(n) IS NULL FROM t WHERE k = 'c'",
        );
        assert_eq!(text.matches("true").count(), 2, "{text}");
    }

    #[test]
    fn the_extremes_of_floats_have_the_order_of_postgres() {
        for partitions in [1, 4] {
            let query = "SELECT k, min(y), max(y) FROM
                         (SELECT k, CASE k WHEN 'a' THEN 'inf' WHEN 'b' THEN 'nan' ELSE NULL END
                          ::double AS y FROM t UNION ALL SELECT 'b', 1.0) GROUP BY k ORDER BY k";
            let text = answer(partitions, query);
            let rows: Vec<String> = text.lines().map(|line| line.replace(' ', "")).collect();
            assert_eq!(
                rows[3..6],
                ["|a|inf|inf|", "|b|1.0|NaN|", "|c|||"],
                "{text}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_or_exist_is_an_error() {
        let big = format!("arrow_cast('{}', 'Decimal128(38, 0)')", "9".repeat(38));
        let text = answer(1, &format!("SELECT sum({big}) FROM t"));
        assert!(
            text.contains("numeric field overflow") && text.contains("22003"),
            "{text}"
        );
        let text = answer(1, &format!("SELECT k, avg({big} - n) FROM t GROUP BY k"));
        assert!(text.contains("numeric field overflow"), "{text}");
        let text = answer(1, "SELECT sum(k) FROM t");
        assert!(text.contains("function sum(Utf8) does not exist"), "{text}");
    }
}
