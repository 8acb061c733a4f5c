//! Where a float and a numeric meet, the numeric becomes a float: as in Postgres.
//!
//! ```text
//!   c > 0.5                 c > cast(0.5 as float)      not: cast(c as numeric(30, 15)) > 0.5,
//!   coalesce(c, 0.0)        a double precision                which fails on 1e300 and on NaN
//! ```
//!
//! DataFusion's own rule, which runs after this one, goes the other way. It finds both sides alike
//! and has nothing left to do.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ExprSchema};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Expr, ExprSchemable, Join, LogicalPlan, LogicalPlanBuilder, Union, cast,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::scalar::ScalarValue;

/// Functions whose arguments and result are of one type.
pub(super) const UNIFYING: [&str; 6] = ["coalesce", "nullif", "greatest", "least", "nvl", "ifnull"];

/// The rule, for plans.
#[derive(Debug)]
pub struct FloatsWin;

impl AnalyzerRule for FloatsWin {
    fn name(&self) -> &str {
        "floats_win"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite)?.data)
    }
}

fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let plan = match plan {
        LogicalPlan::Union(union) => LogicalPlan::Union(in_union(union)?),
        LogicalPlan::Join(join) => LogicalPlan::Join(in_join(join)?),
        other => other,
    };
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(floats_win(expr, &schema)?.update_data(|expr| name.restore(expr)))
    })?
    // What an expression was of may have changed below.
    .map_data(LogicalPlan::recompute_schema)
}

/// The rule, for an expression over the columns of a schema.
pub fn floats_win(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => unify([left, right], schema)
                .update_data(|[left, right]| Expr::BinaryExpr(BinaryExpr { left, op, right })),
            Expr::Between(Between {
                expr,
                negated,
                low,
                high,
            }) => unify([expr, low, high], schema).update_data(|[expr, low, high]| {
                Expr::Between(Between {
                    expr,
                    negated,
                    low,
                    high,
                })
            }),
            Expr::InList(InList {
                expr,
                list,
                negated,
            }) => {
                let all = std::iter::once(*expr).chain(list).collect();
                unify_all(all, schema).update_data(|mut all| {
                    let expr = Box::new(all.remove(0));
                    Expr::InList(InList {
                        expr,
                        list: all,
                        negated,
                    })
                })
            }
            Expr::ScalarFunction(ScalarFunction { func, args })
                if UNIFYING.contains(&func.name()) =>
            {
                unify_all(args, schema)
                    .update_data(|args| Expr::ScalarFunction(ScalarFunction { func, args }))
            }
            Expr::Case(case) => in_case(case, schema),
            other => Transformed::no(other),
        })
    })
}

/// The conditions of a CASE with a base are of its type, and its results of one type.
fn in_case(case: Case, schema: &DFSchema) -> Transformed<Expr> {
    let (whens, thens): (Vec<_>, Vec<_>) = case
        .when_then_expr
        .into_iter()
        .map(|(when, then)| (*when, *then))
        .unzip();
    let count = thens.len();
    let results = thens
        .into_iter()
        .chain(case.else_expr.map(|expr| *expr))
        .collect();
    let results = unify_all(results, schema);
    let conditions = match case.expr {
        Some(base) => unify_all(std::iter::once(*base).chain(whens).collect(), schema),
        None => Transformed::no(whens),
    };
    let transformed = results.transformed || conditions.transformed;
    let (mut results, mut conditions) = (results.data, conditions.data);
    let otherwise = results.split_off(count).pop();
    let base = (conditions.len() > count).then(|| Box::new(conditions.remove(0)));
    let pairs = conditions.into_iter().zip(results);
    let case = Case {
        expr: base,
        when_then_expr: pairs
            .map(|(when, then)| (Box::new(when), Box::new(then)))
            .collect(),
        else_expr: otherwise.map(Box::new),
    };
    match transformed {
        true => Transformed::yes(Expr::Case(case)),
        false => Transformed::no(Expr::Case(case)),
    }
}

/// Columns of a union that are floats in one input are floats in all.
fn in_union(union: Union) -> Result<Union> {
    let has = |column: usize, is: fn(&DataType) -> bool| {
        union
            .inputs
            .iter()
            .any(|input| is(input.schema().field(column).data_type()))
    };
    // UNION BY NAME is not ours to look at: its inputs may have fewer columns.
    let width = union.schema.fields().len();
    if union
        .inputs
        .iter()
        .any(|input| input.schema().fields().len() != width)
    {
        return Ok(union);
    }
    let mixed: Vec<bool> = (0..width)
        .map(|column| has(column, is_float) && has(column, is_decimal))
        .collect();
    if !mixed.contains(&true) {
        return Ok(union);
    }
    let inputs = union.inputs.iter().map(|input| {
        let schema = input.schema();
        let exprs = schema
            .columns()
            .into_iter()
            .enumerate()
            .map(|(place, column)| {
                match mixed[place] && is_decimal(schema.field(place).data_type()) {
                    true => to_float(Expr::Column(column.clone())).alias(column.name()),
                    false => Expr::Column(column),
                }
            });
        let projected = LogicalPlanBuilder::from(input.as_ref().clone())
            .project(exprs.collect::<Vec<_>>())?
            .build()?;
        Ok(Arc::new(projected))
    });
    Union::try_new_with_loose_types(inputs.collect::<Result<Vec<_>>>()?)
}

fn in_join(mut join: Join) -> Result<Join> {
    let (left, right) = (join.left.schema().clone(), join.right.schema().clone());
    for (a, b) in &mut join.on {
        let (of_a, of_b) = (a.get_type(&left)?, b.get_type(&right)?);
        if is_float(&of_a) && is_decimal(&of_b) {
            *b = to_float(b.clone());
        } else if is_decimal(&of_a) && is_float(&of_b) {
            *a = to_float(a.clone());
        }
    }
    Ok(join)
}

fn unify<const N: usize>(exprs: [Box<Expr>; N], schema: &DFSchema) -> Transformed<[Box<Expr>; N]> {
    let all = exprs.into_iter().map(|expr| *expr).collect();
    unify_all(all, schema).update_data(|all| {
        let boxed: Vec<Box<Expr>> = all.into_iter().map(Box::new).collect();
        boxed.try_into().expect("as many as there were")
    })
}

/// If one of the expressions is a float, every numeric among them becomes one.
fn unify_all(exprs: Vec<Expr>, schema: &DFSchema) -> Transformed<Vec<Expr>> {
    let types: Vec<Option<DataType>> = exprs.iter().map(|expr| type_of(expr, schema)).collect();
    let has = |is: fn(&DataType) -> bool| types.iter().flatten().any(is);
    if !(has(is_float) && has(is_decimal)) {
        return Transformed::no(exprs);
    }
    let cast = exprs.into_iter().zip(&types).map(|(expr, data_type)| {
        match data_type.as_ref().is_some_and(is_decimal) {
            true => to_float(expr),
            false => expr,
        }
    });
    Transformed::yes(cast.collect())
}

/// `None` where types do not fit: the library's own rule says so better.
fn type_of(expr: &Expr, schema: &dyn ExprSchema) -> Option<DataType> {
    expr.get_type(schema).ok()
}

fn is_float(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Float16 | DataType::Float32 | DataType::Float64
    )
}

fn is_decimal(data_type: &DataType) -> bool {
    data_type.is_decimal()
}

/// A constant becomes the float that its digits say, which a cast in two steps could miss.
fn to_float(expr: Expr) -> Expr {
    if let Expr::Literal(ScalarValue::Decimal128(Some(value), _, scale), metadata) = &expr
        && let Ok(float) = format!("{value}e{}", -i16::from(*scale)).parse::<f64>()
    {
        return Expr::Literal(ScalarValue::Float64(Some(float)), metadata.clone());
    }
    cast(expr, DataType::Float64)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn rewritten(expr: Expr) -> String {
        let fields = vec![
            Field::new("c", DataType::Float64, true),
            Field::new("d", DataType::Decimal128(12, 2), true),
            Field::new("a", DataType::Int64, true),
        ];
        let schema = DFSchema::try_from(Schema::new(fields)).unwrap();
        floats_win(expr, &schema).unwrap().data.to_string()
    }

    fn numeric(value: i128, scale: i8) -> Expr {
        lit(ScalarValue::Decimal128(Some(value), 20, scale))
    }

    #[test]
    fn a_numeric_beside_a_float_is_a_float() {
        assert_eq!(rewritten(col("c").gt(numeric(5, 1))), "c > Float64(0.5)");
        assert_eq!(rewritten(col("d").eq(col("c"))), "CAST(d AS Float64) = c");
        let between = col("c").between(numeric(1, 1), col("d"));
        assert_eq!(
            rewritten(between),
            "c BETWEEN Float64(0.1) AND CAST(d AS Float64)"
        );
        let list = col("c").in_list(vec![numeric(15, 1), col("a")], false);
        assert_eq!(rewritten(list), "c IN ([Float64(1.5), a])");
        let digits = numeric(123_456_789_012_345_678, 17);
        assert_eq!(
            rewritten(col("c") - digits),
            "c - Float64(1.2345678901234567)"
        );
    }

    #[test]
    fn results_of_a_case_are_alike() {
        let case = Expr::Case(Case {
            expr: Some(Box::new(col("c"))),
            when_then_expr: vec![(Box::new(numeric(5, 1)), Box::new(col("d")))],
            else_expr: Some(Box::new(col("c"))),
        });
        let expected = "CASE c WHEN Float64(0.5) THEN CAST(d AS Float64) ELSE c END";
        assert_eq!(rewritten(case), expected);
    }

    #[test]
    fn numerics_and_integers_among_themselves_stay() {
        let expr = col("d").gt(numeric(5, 1)).and(col("a").lt(col("d")));
        assert_eq!(rewritten(expr.clone()), expr.to_string());
    }
}
