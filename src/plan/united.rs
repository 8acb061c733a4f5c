//! UNION: columns are called as those of the first SELECT on all sides.
//!
//! ```text
//!   SELECT a FROM t WHERE false UNION ALL SELECT b FROM u
//!
//!   Union                     the library keeps the only side that has rows in place of
//!     …                       the union, and asks it for the columns by the union's names
//!     Projection b AS a
//! ```

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Union};

/// The plan with unions whose sides call their columns alike.
pub(super) fn called_alike(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    let named = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Union(union) => named(union),
        other => Ok(Transformed::no(other)),
    });
    Ok(named?.data)
}

fn named(union: Union) -> DataFusionResult<Transformed<LogicalPlan>> {
    let mut is_changed = false;
    let mut inputs = Vec::with_capacity(union.inputs.len());
    for input in union.inputs {
        let names = union.schema.fields().iter().map(|field| field.name());
        let is_same = names
            .clone()
            .eq(input.schema().fields().iter().map(|field| field.name()));
        if is_same {
            inputs.push(input);
            continue;
        }
        is_changed = true;
        let columns = input.schema().columns().into_iter().zip(names);
        let columns: Vec<Expr> = columns
            .map(|(column, name)| Expr::Column(column).alias(name))
            .collect();
        let input = LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).project(columns)?;
        inputs.push(Arc::new(input.build()?));
    }
    let union = LogicalPlan::Union(Union {
        inputs,
        schema: union.schema,
    });
    Ok(Transformed::new_transformed(union, is_changed))
}
