//! Casts, explicit and implied, become Postgres' own where the library's differ; so does the minus
//! sign before an integer.
//!
//! The rule comes after the library's type coercion, so that it sees every cast there is. Casts
//! that are the same in both stay: the optimizer moves filters through them.

use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ExprSchema};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::{FunctionRewrite, NamePreserver};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

use crate::function::arithmetic::{ArithmeticOperator, arithmetic};
use crate::function::cast::{cast_to, differs};
use crate::plan::operators::text_of;
use crate::types::pg::{Format, parse_value};

/// The rule: for plans, and for single expressions.
#[derive(Debug)]
pub struct PostgresCasts;

impl AnalyzerRule for PostgresCasts {
    fn name(&self) -> &str {
        "postgres_casts"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| {
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let rewritten = expr.transform_up(|expr| rewrite(expr, &schema, config))?;
                Ok(rewritten.update_data(|expr| name.restore(expr)))
            })?
            .map_data(LogicalPlan::recompute_schema)
        })?;
        Ok(rewritten.data)
    }
}

impl FunctionRewrite for PostgresCasts {
    fn name(&self) -> &str {
        "postgres_casts"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        config: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        rewrite(expr, schema, config)
    }
}

fn rewrite(
    expr: Expr,
    schema: &dyn ExprSchema,
    config: &ConfigOptions,
) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Cast(Cast { expr, field }) => {
            if let Some(interval) = interval(&expr, &field) {
                return Ok(Transformed::yes(interval));
            }
            let is_ours = match expr.get_type(schema) {
                Ok(from) => differs(&from, &field, config),
                Err(_) => false,
            };
            match is_ours {
                false => Ok(Transformed::no(Expr::Cast(Cast { expr, field }))),
                true => {
                    let function = std::sync::Arc::new(cast_to(&field));
                    let call = ScalarFunction::new_udf(function, vec![*expr]);
                    Ok(Transformed::yes(Expr::ScalarFunction(call)))
                }
            }
        }
        Expr::Negative(expr) => {
            let zero = match expr.get_type(schema) {
                Ok(DataType::Int16) => ScalarValue::Int16(Some(0)),
                Ok(DataType::Int32) => ScalarValue::Int32(Some(0)),
                Ok(DataType::Int64) => ScalarValue::Int64(Some(0)),
                _ => return Ok(Transformed::no(Expr::Negative(expr))),
            };
            // The least integer has no opposite: the difference knows.
            let function = arithmetic(ArithmeticOperator::Subtract);
            let call = ScalarFunction::new_udf(function, vec![Expr::Literal(zero, None), *expr]);
            Ok(Transformed::yes(Expr::ScalarFunction(call)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// A constant interval as the value that it is: what is compiled without the optimizer would read
/// its text again for every batch.
fn interval(expr: &Expr, field: &Field) -> Option<Expr> {
    let text = text_of(expr)?;
    match field.data_type() {
        DataType::Interval(_) => parse_value(field, Format::Text, text.as_bytes())
            .ok()
            .map(|value| Expr::Literal(value, None)),
        _ => None,
    }
}
