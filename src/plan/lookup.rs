//! Joins FOR SYSTEM_TIME AS OF PROCTIME(): each left row meets the right rows of the moment.
//!
//! ```text
//!   orders JOIN rates FOR SYSTEM_TIME AS OF PROCTIME() USING (currency)
//!
//!   Join currency = currency            Lookup join on currency = currency
//!     Scan orders               ─►        Scan orders                       append-only
//!     Current                             Scan rates                        kept, by currency
//!       Scan rates
//! ```
//!
//! The right relation is wrapped in a [`CurrentNode`], under which the join is planned, and moved
//! about, like any other. As a batch the node is its input: what is there at the moment. In a
//! stream the join above it is the lookup join; the node anywhere else is refused.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::sql::sqlparser::ast::{TableFactor, TableVersion};

use crate::catalog::{Changelog, ObjectKind};
use crate::error::{Error, Result};
use crate::operator::join::{Expire, JoinKind, JoinSpec};
use crate::plan::build::Build;
use crate::plan::context::PlannedTable;
use crate::plan::failure::from_datafusion;
use crate::plan::join::{Joining, joined_key, joined_schema, null_equality_of};
use crate::plan::stream::{Node, Operation};
use crate::sql::as_of::is_proctime;

/// A relation as it is when a row looks it up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CurrentNode {
    pub input: Arc<LogicalPlan>,
}

impl PartialOrd for CurrentNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for CurrentNode {
    fn name(&self) -> &str {
        "Current"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Current")
    }

    fn with_exprs_and_inputs(
        &self,
        _exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> DataFusionResult<Self> {
        let input = inputs
            .pop()
            .ok_or_else(|| DataFusionError::Internal("it has an input".to_string()))?;
        Ok(CurrentNode {
            input: Arc::new(input),
        })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// Plans `t FOR SYSTEM_TIME AS OF PROCTIME()` where a table is expected.
#[derive(Debug)]
pub struct LookupPlanner;

impl RelationPlanner for LookupPlanner {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DataFusionResult<RelationPlanning> {
        let TableFactor::Table { version, .. } = &mut relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let is_now =
            matches!(&*version, Some(TableVersion::ForSystemTimeAsOf(time)) if is_proctime(time));
        if !is_now {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        *version = None;
        let input = Arc::new(context.plan(relation)?);
        let plan = LogicalPlan::Extension(Extension {
            node: Arc::new(CurrentNode { input }),
        });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation {
            plan,
            alias: None,
        })))
    }
}

/// The node, where a plan's node is one.
pub(super) fn as_current(plan: &LogicalPlan) -> Option<&CurrentNode> {
    let LogicalPlan::Extension(extension) = plan else {
        return None;
    };
    extension.node.as_any().downcast_ref()
}

/// The right side of a lookup join without its node, which may stand under filters and projections;
/// `None` for another join.
pub(super) fn looked_up(right: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let mut at = right;
    loop {
        if as_current(at).is_some() {
            break;
        }
        at = match at {
            LogicalPlan::Filter(filter) => filter.input.as_ref(),
            LogicalPlan::Projection(projection) => projection.input.as_ref(),
            LogicalPlan::SubqueryAlias(alias) => alias.input.as_ref(),
            _ => return Ok(None),
        };
    }
    let mut is_found = false;
    let plain = right.clone().transform_down(|plan| {
        if is_found {
            return Ok(Transformed::new(plan, false, TreeNodeRecursion::Stop));
        }
        let input = as_current(&plan).map(|current| current.input.as_ref().clone());
        Ok(match input {
            None => Transformed::no(plan),
            Some(input) => {
                is_found = true;
                Transformed::new(input, true, TreeNodeRecursion::Stop)
            }
        })
    });
    Ok(Some(plain.map_err(from_datafusion)?.data))
}

/// What a lookup anywhere but on the right side of a join is told.
pub(super) fn misplaced_lookup() -> Error {
    Error::unsupported(
        "FOR SYSTEM_TIME AS OF PROCTIME() is for the right side of JOIN and LEFT JOIN",
    )
    .hint("write it as a LEFT JOIN b FOR SYSTEM_TIME AS OF PROCTIME() ON a.id = b.id")
}

/// A source's rows are not there, they come.
pub(super) fn refuse_sources(plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let source = scan.source.as_ref() as &dyn std::any::Any
            && let Some(table) = source.downcast_ref::<PlannedTable>()
            && table.object.kind() == ObjectKind::Source
        {
            found = Some(table.object.name().to_string());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(from_datafusion)?;
    match found {
        None => Ok(()),
        Some(name) => Err(Error::unsupported(format!(
            "FOR SYSTEM_TIME AS OF PROCTIME() of source \"{name}\" is not supported"
        ))
        .detail("its rows come and are not kept")
        .hint("CREATE MATERIALIZED VIEW of what is to be looked up, or a table")),
    }
}

impl Build<'_> {
    /// A join whose right side is looked up, which is planned here without its node.
    pub(super) fn lookup(
        &mut self,
        joining: Joining,
        (left, left_keys): (usize, Vec<usize>),
        (right, right_keys): (usize, Vec<usize>),
    ) -> Result<usize> {
        let is_pairs = matches!(joining.kind, JoinKind::Inner | JoinKind::Left);
        if !is_pairs || left_keys.is_empty() {
            return Err(Error::unsupported(
                "FOR SYSTEM_TIME AS OF PROCTIME() is for inner and left joins with an equality",
            )
            .hint("join on at least one column: ON r.currency = o.currency"));
        }
        if self.nodes[left].changelog != Changelog::AppendOnly {
            return Err(Error::unsupported(
                "FOR SYSTEM_TIME AS OF PROCTIME() for rows that can be taken back is not supported",
            )
            .detail("what such a row was joined to is not there any more when it goes")
            .hint("look up for the rows of a source that only grows, or leave the clause out"));
        }
        let left = self.exchange(left, left_keys.clone());
        let right = self.exchange(right, right_keys.clone());
        let (l, r) = (&self.nodes[left], &self.nodes[right]);
        let kind = joining.kind;
        let output = joined_schema(&l.schema, &r.schema, kind);
        let node = Node {
            operation: Operation::Lookup(JoinSpec {
                left: l.schema.clone(),
                right: r.schema.clone(),
                left_keys,
                right_keys: right_keys.clone(),
                null_equality: null_equality_of(joining.null_equality),
                residual: joining.residual,
                kind,
                output: output.clone(),
                left_append_only: true,
                right_append_only: r.changelog == Changelog::AppendOnly,
                times: Vec::new(),
                expire: Expire::default(),
            }),
            // What is looked up is there before who looks.
            inputs: vec![right, left],
            schema: output,
            changelog: Changelog::AppendOnly,
            key: joined_key(l, r, kind, &right_keys),
            bounded: l.bounded.clone(),
        };
        Ok(self.add(node))
    }

    /// Whether rows come, through filters and projections only, from a lookup join.
    pub(super) fn is_lookup(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        match &node.operation {
            Operation::Map(_) => self.is_lookup(node.inputs[0]),
            Operation::Union => node.inputs.iter().any(|&input| self.is_lookup(input)),
            Operation::Lookup(_) => true,
            _ => false,
        }
    }
}
