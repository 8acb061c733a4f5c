//! INTERSECT ALL and EXCEPT ALL, in every statement: rows by how often each side has them.
//!
//! ```text
//!   SELECT a FROM t EXCEPT ALL SELECT b FROM u
//!
//!   Repeat n                                      a row comes out n times
//!     Projection a, l - r AS n                    INTERSECT: the lesser of l and r
//!       Aggregate count(l) AS l, count(r) AS r by a
//!         Union
//!           Projection a, 1 AS l, NULL AS r
//!           Projection b, NULL AS l, 1 AS r
//! ```
//!
//! The library plans both as joins that ask whether a row is on the other side, and not how often:
//! those joins are recognised, and become this. A side that is DISTINCT has every row once, so that
//! the join was right and stays: it is the plan of INTERSECT and EXCEPT without ALL, too.
//!
//! In a stream [`RepeatNode`] is the operator of that name; for a batch it is an UNNEST of as many
//! copies.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{
    Column, DFSchema, DFSchemaRef, JoinType, NullEquality, ScalarValue, UnnestOptions,
};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::functions::core::{get_field, named_struct};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::functions_nested::repeat::array_repeat_udf;
use datafusion::logical_expr::{
    Distinct, Expr, Extension, Join, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore,
    col, lit, when,
};

use crate::error::Result;
use crate::operator::repeat::RepeatSpec;
use crate::plan::build::{Build, arrow_schema};
use crate::plan::stream::{Node, Operation};

/// How often, in plans.
const NUMBER: &str = "repeated";
const LEFT: &str = "left_count";
const RIGHT: &str = "right_count";

/// Rows that are there as often as their last column says; without that column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RepeatNode {
    input: Arc<LogicalPlan>,
    schema: DFSchemaRef,
}

impl RepeatNode {
    fn new(input: Arc<LogicalPlan>) -> DataFusionResult<RepeatNode> {
        let width = input.schema().fields().len() - 1;
        let fields = input.schema().iter().take(width);
        let fields = fields.map(|(qualifier, field)| (qualifier.cloned(), field.clone()));
        let metadata = DFSchema::metadata(input.schema()).clone();
        // What was a key is none any more: dependencies are not passed on.
        let schema = DFSchema::new_with_metadata(fields.collect(), metadata)?;
        let schema = Arc::new(schema);
        Ok(RepeatNode { input, schema })
    }

    /// For a batch: each row as a struct, a list of as many of it, and that taken apart again. The
    /// columns do not pass as they are: the library would go on taking them for a key.
    pub(super) fn lower(&self) -> DataFusionResult<LogicalPlan> {
        let mut columns = self.input.schema().columns();
        let Some(number) = columns.pop() else {
            return Err(DataFusionError::Internal("it has a number".to_string()));
        };
        let mut fields = Vec::new();
        let mut parts = Vec::new();
        for (place, column) in columns.into_iter().enumerate() {
            let name = format!("field{place}");
            let row = Expr::Column(Column::new_unqualified(NUMBER));
            let part = get_field().call(vec![row, lit(name.clone())]);
            parts.push(part.alias_qualified(column.relation.clone(), column.name.clone()));
            fields.extend([lit(name), Expr::Column(column)]);
        }
        let row = named_struct().call(fields);
        let rows = array_repeat_udf().call(vec![row, Expr::Column(number)]);
        LogicalPlanBuilder::from(self.input.as_ref().clone())
            .project(vec![rows.alias(NUMBER)])?
            .unnest_columns_with_options(
                vec![Column::new_unqualified(NUMBER)],
                UnnestOptions::new().with_preserve_nulls(false),
            )?
            .project(parts)?
            .build()
    }
}

impl PartialOrd for RepeatNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for RepeatNode {
    fn name(&self) -> &str {
        "Repeat"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        // A filter on what is repeated can stand before it is.
        HashSet::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Repeat")
    }

    fn with_exprs_and_inputs(
        &self,
        _exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> DataFusionResult<Self> {
        let input = inputs
            .pop()
            .ok_or_else(|| DataFusionError::Internal("it has an input".to_string()))?;
        RepeatNode::new(Arc::new(input))
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let mut needed = output_columns.to_vec();
        needed.push(self.schema.fields().len());
        Some(vec![needed])
    }
}

/// The plan with every INTERSECT ALL and EXCEPT ALL counted.
pub(super) fn counted(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let counted = plan.transform_up_with_subqueries(|plan| match &plan {
        LogicalPlan::Join(join) if is_counted(join) => Ok(Transformed::yes(counted_join(join)?)),
        _ => Ok(Transformed::no(plan)),
    });
    Ok(counted?.data)
}

/// Whether a join, as the library has planned a text, stands for one of both.
fn is_counted(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)))
}

fn counted_join(join: &Join) -> DataFusionResult<LogicalPlan> {
    let side = |plan: &LogicalPlan, is_left: bool| {
        let one = lit(1i64);
        let none = lit(ScalarValue::Int64(None));
        let (left, right) = if is_left { (one, none) } else { (none, one) };
        let columns = plan.schema().columns().into_iter().enumerate();
        let mut columns: Vec<Expr> = columns
            .map(|(place, column)| Expr::Column(column).alias(format!("column{place}")))
            .collect();
        columns.push(left.alias(LEFT));
        columns.push(right.alias(RIGHT));
        LogicalPlanBuilder::from(plan.clone())
            .project(columns)?
            .build()
    };
    let names = 0..join.left.schema().fields().len();
    let names: Vec<Expr> = names.map(|place| col(format!("column{place}"))).collect();
    let counts = [LEFT, RIGHT].map(|name| count(col(name)).alias(name));
    let (left, right) = (col(LEFT), col(RIGHT));
    let number = match join.join_type {
        JoinType::LeftSemi => when(left.clone().lt(right.clone()), left).otherwise(right)?,
        _ => left - right,
    };
    let mut with_number = names.clone();
    with_number.push(number.alias(NUMBER));
    let input = LogicalPlanBuilder::from(side(&join.left, true)?)
        .union(side(&join.right, false)?)?
        .aggregate(names.clone(), counts)?
        .project(with_number)?
        .build()?;
    let node = Arc::new(RepeatNode::new(Arc::new(input))?);
    let repeated = LogicalPlan::Extension(Extension { node });
    // The columns are called as those of the left side.
    let called = names.into_iter().zip(join.left.schema().iter());
    let called = called.map(|(column, (qualifier, field))| {
        column.alias_qualified(qualifier.cloned(), field.name())
    });
    LogicalPlanBuilder::from(repeated)
        .project(called.collect::<Vec<_>>())?
        .build()
}

impl Build<'_> {
    pub(super) fn repeat(&mut self, node: &RepeatNode) -> Result<usize> {
        let input = self.plan(&node.input)?;
        let source = &self.nodes[input];
        let output = arrow_schema(&node.schema);
        let width = output.fields().len();
        debug_assert_eq!(source.schema.field(width).data_type(), &DataType::Int64);
        let bounded = source.bounded.iter().copied();
        let node = Node {
            operation: Operation::Repeat(RepeatSpec {
                input: source.schema.clone(),
                output: output.clone(),
            }),
            inputs: vec![input],
            changelog: source.changelog,
            // Its rows are there several times.
            key: None,
            bounded: bounded.filter(|column| *column < width).collect(),
            schema: output,
        };
        Ok(self.add(node))
    }
}
