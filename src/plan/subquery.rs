//! Subqueries beside what DataFusion makes joins of: NOT IN with NULLs, and what others must be.
//!
//! `x NOT IN (SELECT y …)` is true where no y equals x, and false or NULL, which is as good as
//! false, where one does or may: where any y is NULL, or where x is NULL and there is any y. So the
//! rows without a match meet one row that says whether there is a y and whether one is NULL:
//!
//! ```text
//!   left ▷ right ──────────────────────────────────────────┐
//!   count(*) > 0, count(*) > count(y) ─► DISTINCT ─► 1 row ─┴─► where no y is NULL,
//!                                                               and x is not NULL or there is no y
//! ```
//!
//! DISTINCT keeps that row still while only the counts change.
//!
//! Refused, because the joins would mean something else:
//! - a scalar subquery that may have several rows: as one it is an error when it runs, as a join it
//!   would repeat the rows around it;
//! - IN that could be NULL where that is not as good as false, as far as `membership` has left it:
//!   the join only knows true and false;
//! - ranks inside a subquery that depends on the outer row, and OFFSET inside such an EXISTS: the
//!   condition would be moved above the rank, and OFFSET be forgotten.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, NullEquality, ScalarValue};
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::{
    Expr, ExprSchemable, FetchType, Join, LogicalPlan, Operator, SkipType,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, IsNotNullExpr, Literal, NotExpr};

use crate::error::{Error, Result};
use crate::operator::aggregate::{AggregateCall, AggregateFunction};
use crate::operator::join::JoinKind;
use crate::plan::build::{Build, column_expr};
use crate::plan::failure::from_datafusion;
use crate::plan::join::Joining;

type Physical = Arc<dyn PhysicalExpr>;

impl Build<'_> {
    /// The left rows whose key is NOT IN the right one's.
    ///
    /// # Errors
    /// 0A000 for a subquery that depends on the row of the query around it.
    pub(super) fn not_in(
        &mut self,
        join: &Join,
        (left, left_keys): (usize, Vec<usize>),
        (right, right_keys): (usize, Vec<usize>),
        output: SchemaRef,
    ) -> Result<usize> {
        let ([left_key], [right_key], None) = (&left_keys[..], &right_keys[..], &join.filter)
        else {
            return Err(Error::unsupported(
                "this NOT IN over a subquery is not supported in views",
            )
            .detail("it compares more than one column, or depends on the outer row")
            .hint("write NOT EXISTS (SELECT … WHERE …), which has no special case for NULL"));
        };
        let (left_key, right_key) = (*left_key, *right_key);
        // All three parts are to know of the same rows.
        let right = self.with_lifetime(right);
        let flags = self.null_flags(right, right_key);
        let joining = |kind, residual| Joining {
            kind,
            null_equality: NullEquality::NullEqualsNothing,
            residual,
            times: Vec::new(),
        };
        let right = self.distinct_keys(right, right_keys, &[]);
        let anti = self.joined(joining(JoinKind::Anti, None), (left, left_keys), right);
        let schema = self.nodes[anti].schema.clone();
        let width = schema.fields().len();
        let known: Physical = Arc::new(IsNotNullExpr::new(column_expr(&schema, left_key)));
        let flag = |name: &str, place: usize| -> Physical {
            let column = datafusion::physical_expr::expressions::Column::new(name, width + place);
            Arc::new(NotExpr::new(Arc::new(column)))
        };
        let is_known = binary(known, Operator::Or, flag("some", 0));
        let residual = binary(flag("nulls", 1), Operator::And, is_known);
        let both = self.joined(
            joining(JoinKind::Inner, Some(residual)),
            (anti, Vec::new()),
            (flags, Vec::new()),
        );
        let schema = self.nodes[both].schema.clone();
        let columns = 0..output.fields().len();
        let project = columns.map(|column| column_expr(&schema, column)).collect();
        Ok(self.map_compiled(both, None, project, output))
    }

    /// One row: whether there is a row, and whether one has NULL in the column.
    fn null_flags(&mut self, input: usize, column: usize) -> usize {
        let schema = self.nodes[input].schema.clone();
        let key = Arc::new(Schema::new(vec![schema.field(column).clone()]));
        let project = vec![column_expr(&schema, column)];
        let keys = self.map_compiled(input, None, project, key);
        let call = |function, argument| AggregateCall {
            function,
            argument,
            filter: None,
        };
        let calls = vec![
            call(AggregateFunction::CountAll, None),
            call(AggregateFunction::Count, Some(0)),
        ];
        let numbers = ["rows", "known"].map(|name| Field::new(name, DataType::Int64, false));
        let numbers: SchemaRef = Arc::new(Schema::new(numbers.to_vec()));
        let counts = self.grouped(keys, Vec::new(), calls, numbers.clone());
        let [rows, known] = [0, 1].map(|column| column_expr(&numbers, column));
        let zero: Physical = Arc::new(Literal::new(ScalarValue::from(0i64)));
        let flags = vec![
            binary(rows.clone(), Operator::Gt, zero),
            binary(rows, Operator::Gt, known),
        ];
        let names = ["some", "nulls"].map(|name| Field::new(name, DataType::Boolean, false));
        let names: SchemaRef = Arc::new(Schema::new(names.to_vec()));
        let flags = self.map_compiled(counts, None, flags, names.clone());
        self.grouped(flags, vec![0, 1], Vec::new(), names)
    }
}

fn binary(left: Physical, operator: Operator, right: Physical) -> Physical {
    Arc::new(BinaryExpr::new(left, operator, right))
}

/// Refuses subqueries that the joins they become would change the meaning of.
///
/// # Errors
/// 0A000.
pub(super) fn check_subqueries(plan: &LogicalPlan) -> Result<()> {
    let mut refused = Ok(());
    plan.apply_with_subqueries(|node| {
        // All that stands below a rank, as what is moved out of it comes from there.
        if matches!(node, LogicalPlan::Window(_)) && !node.all_out_ref_exprs().is_empty() {
            refused = Err(Error::unsupported(
                "ranks over rows that the outer query chooses are not supported in views",
            )
            .hint("PARTITION BY the columns that are compared with it, and join"));
        }
        let schema = match node.inputs().as_slice() {
            [input] => input.schema().as_ref().clone(),
            _ => DFSchema::empty(),
        };
        for expr in node.expressions() {
            let is_filter = matches!(node, LogicalPlan::Filter(_));
            let checked = check_expression(&expr, &schema, is_filter);
            if refused.is_ok() {
                refused = checked;
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(from_datafusion)?;
    refused
}

fn check_expression(expr: &Expr, schema: &DFSchema, is_filter: bool) -> Result<()> {
    let mut refused = Ok(());
    // Of a filter: what stands under nothing but AND, and whether under NOT; and what stands under
    // AND and OR.
    let mut plain: Vec<(&Expr, bool)> = Vec::new();
    let mut either: Vec<&Expr> = Vec::new();
    let mut open = vec![(expr, true)];
    while let Some((expr, is_plain)) = open.pop().filter(|_| is_filter) {
        match expr {
            Expr::BinaryExpr(both) if both.op == Operator::And => {
                open.extend([(&*both.left, is_plain), (&*both.right, is_plain)]);
            }
            Expr::BinaryExpr(both) if both.op == Operator::Or => {
                open.extend([(&*both.left, false), (&*both.right, false)]);
            }
            Expr::Not(inner) if is_plain => plain.push((inner, true)),
            other if is_plain => plain.push((other, false)),
            other => either.push(other),
        }
    }
    expr.apply(|expr| {
        let checked = match expr {
            Expr::ScalarSubquery(query) => {
                check_scalar(&query.subquery, query.outer_ref_columns.is_empty())
            }
            Expr::Exists(query) if !query.subquery.outer_ref_columns.is_empty() => {
                match query.subquery.subquery.exists(|node| Ok(has_offset(node))) {
                    Ok(false) => Ok(()),
                    _ => Err(Error::unsupported(
                        "OFFSET in an EXISTS over the outer row is not supported in views",
                    )
                    .hint("count the rows: (SELECT count(*) FROM …) > n")),
                }
            }
            Expr::InSubquery(query) => {
                let of_plain = plain.iter().find(|(other, _)| std::ptr::eq(*other, expr));
                let place = match of_plain {
                    Some((_, is_not)) if query.negated != *is_not => Place::PlainNot,
                    Some(_) => Place::Plain,
                    None if query.negated => Place::Other,
                    None if either.iter().any(|other| std::ptr::eq(*other, expr)) => Place::Plain,
                    None => Place::Other,
                };
                check_in(query, schema, place)
            }
            _ => Ok(()),
        };
        if refused.is_ok() {
            refused = checked;
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(from_datafusion)?;
    refused
}

fn check_scalar(query: &LogicalPlan, is_alone: bool) -> Result<()> {
    // One that depends on the outer row is checked by the library, but for grouping sets.
    let is_one = match is_alone {
        true => gives_one_row(query),
        false => !has_grouping_sets(query),
    };
    match is_one {
        true => Ok(()),
        false => Err(Error::unsupported(
            "a subquery that is used as an expression must give one row at most in a view",
        )
        .hint("aggregate it: (SELECT max(x) FROM …)")),
    }
}

/// Whether the form of a query says that it gives one row at most.
fn gives_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Values(values) => values.values.len() <= 1,
        LogicalPlan::Projection(node) => gives_one_row(&node.input),
        LogicalPlan::SubqueryAlias(node) => gives_one_row(&node.input),
        LogicalPlan::Filter(node) => gives_one_row(&node.input),
        LogicalPlan::Sort(node) => gives_one_row(&node.input),
        LogicalPlan::Distinct(node) => gives_one_row(node.input()),
        LogicalPlan::Aggregate(node) => node.group_expr.is_empty(),
        LogicalPlan::Limit(node) => {
            let fetch = node.get_fetch_type();
            matches!(fetch, Ok(FetchType::Literal(Some(rows))) if rows <= 1)
                || gives_one_row(&node.input)
        }
        _ => false,
    }
}

fn has_offset(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Limit(limit) => !matches!(limit.get_skip_type(), Ok(SkipType::Literal(0))),
        _ => false,
    }
}

fn has_grouping_sets(plan: &LogicalPlan) -> bool {
    let found = plan.exists(|node| {
        let LogicalPlan::Aggregate(aggregate) = node else {
            return Ok(false);
        };
        let mut groups = aggregate.group_expr.iter();
        Ok(groups.any(|expr| matches!(expr, Expr::GroupingSet(_))))
    });
    found.unwrap_or(true)
}

/// Where an IN stands.
#[derive(Clone, Copy)]
enum Place {
    /// Where NULL is as good as false.
    Plain,
    /// A condition of its own, negated.
    PlainNot,
    Other,
}

fn check_in(query: &InSubquery, schema: &DFSchema, place: Place) -> Result<()> {
    let is_nullable = query.expr.nullable(schema).unwrap_or(true);
    let inner = query.subquery.subquery.schema();
    let may_be_null = is_nullable || inner.fields().iter().any(|field| field.is_nullable());
    let column = query.expr.as_ref();
    let is_column = matches!(column, Expr::Column(_) | Expr::OuterReferenceColumn(..));
    let is_right = match place {
        Place::Plain => true,
        // The library only asks whether the columns of the expression may be NULL.
        Place::PlainNot => is_column || !is_nullable,
        Place::Other => !may_be_null,
    };
    match is_right {
        true => Ok(()),
        false => Err(Error::unsupported(
            "IN over a subquery is not supported in a view where it may be NULL, inside an \
             expression",
        )
        .hint("write [NOT] EXISTS (SELECT … WHERE y = x), which is never NULL")),
    }
}
