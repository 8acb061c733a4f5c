//! Joins in a stream plan: which rows are kept, until when, and what their output's key is.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{JoinType, NullEquality as PlanNullEquality};
use datafusion::logical_expr::{Expr, Join};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;

use crate::catalog::Changelog;
use crate::error::{Error, Result};
use crate::operator::join::{Expire, ExpireRule, JoinKind, JoinSpec, NullEquality};
use crate::plan::build::{Build, arrow_schema, column_expr};
use crate::plan::failure::from_datafusion;
use crate::plan::stream::{Node, Operation};

impl Build<'_> {
    pub(super) fn join(&mut self, join: &Join) -> Result<usize> {
        let kind = match join.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            JoinType::Right => return self.right_join(join),
            other => return Err(refused_join(other)),
        };
        if join.on.is_empty() {
            return Err(
                Error::unsupported("joins without an equality are not supported in views")
                    .hint("join on at least one column: ON a.id = b.id"),
            );
        }
        let left = self.plan(&join.left)?;
        let right = self.plan(&join.right)?;
        let (left_exprs, right_exprs): (Vec<_>, Vec<_>) = join.on.iter().cloned().unzip();
        let (left, left_keys) = self.with_columns(left, join.left.schema(), &left_exprs)?;
        let (right, right_keys) = self.with_columns(right, join.right.schema(), &right_exprs)?;
        let widths = (
            join.left.schema().fields().len(),
            join.right.schema().fields().len(),
        );
        let joined = self.joined(join, kind, (left, left_keys), (right, right_keys))?;
        // Key expressions that were computed for the join are dropped again.
        let left_all = self.nodes[left].schema.fields().len();
        let kept = (0..widths.0).chain(left_all..left_all + widths.1);
        let schema = self.nodes[joined].schema.clone();
        let project = kept.map(|column| column_expr(&schema, column)).collect();
        Ok(self.map_compiled(joined, None, project, arrow_schema(&join.schema)))
    }

    /// `a RIGHT JOIN b` is `b LEFT JOIN a` with its columns in the other order.
    fn right_join(&mut self, join: &Join) -> Result<usize> {
        let swapped = Join::try_new(
            join.right.clone(),
            join.left.clone(),
            join.on
                .iter()
                .map(|(left, right)| (right.clone(), left.clone()))
                .collect(),
            join.filter.clone(),
            JoinType::Left,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )
        .map_err(from_datafusion)?;
        let node = self.join(&swapped)?;
        let right = join.right.schema().fields().len();
        let left = join.left.schema().fields().len();
        let schema = self.nodes[node].schema.clone();
        let order = (right..right + left).chain(0..right);
        let project = order.map(|column| column_expr(&schema, column)).collect();
        Ok(self.map_compiled(node, None, project, arrow_schema(&join.schema)))
    }

    fn joined(
        &mut self,
        join: &Join,
        kind: JoinKind,
        (left, left_keys): (usize, Vec<usize>),
        (right, right_keys): (usize, Vec<usize>),
    ) -> Result<usize> {
        let left = self.exchange(left, left_keys.clone());
        let right = self.exchange(right, right_keys.clone());
        let (l, r) = (&self.nodes[left], &self.nodes[right]);
        let left_width = l.schema.fields().len();
        let right_fields = r.schema.fields().iter().map(|field| match kind {
            JoinKind::Left => Arc::new(field.as_ref().clone().with_nullable(true)),
            JoinKind::Inner => field.clone(),
        });
        let fields: Vec<_> = l
            .schema
            .fields()
            .iter()
            .cloned()
            .chain(right_fields)
            .collect();
        let output: SchemaRef = Arc::new(Schema::new(fields));
        let pairs = || left_keys.iter().copied().zip(right_keys.iter().copied());
        let timed: Vec<(usize, usize)> = pairs()
            .filter(|(a, b)| l.bounded.contains(a) && r.bounded.contains(b))
            .collect();
        let expire = timed.first().map(|&(column, other_column)| Expire {
            left: Some(ExpireRule {
                column,
                other_column,
            }),
            right: Some(ExpireRule {
                column: other_column,
                other_column: column,
            }),
        });
        let key = joined_key(l, r, &right_keys, left_width);
        let changelog = match kind {
            JoinKind::Inner => l.changelog.and(r.changelog),
            JoinKind::Left => Changelog::Retracting,
        };
        let bounded = match kind {
            JoinKind::Inner => timed
                .iter()
                .flat_map(|&(a, b)| [a, left_width + b])
                .collect(),
            JoinKind::Left => timed.iter().map(|&(a, _)| a).collect(),
        };
        let residual = match &join.filter {
            None => None,
            Some(filter) => Some(self.residual(join, filter, left_width)?),
        };
        let (l, r) = (&self.nodes[left], &self.nodes[right]);
        let spec = JoinSpec {
            left: l.schema.clone(),
            right: r.schema.clone(),
            left_keys,
            right_keys,
            null_equality: match join.null_equality {
                PlanNullEquality::NullEqualsNothing => NullEquality::NullIsUnequal,
                PlanNullEquality::NullEqualsNull => NullEquality::NullIsEqual,
            },
            residual,
            kind,
            output: output.clone(),
            left_append_only: l.changelog == Changelog::AppendOnly,
            right_append_only: r.changelog == Changelog::AppendOnly,
            expire,
        };
        let node = Node {
            operation: Operation::Join(spec),
            inputs: vec![left, right],
            schema: output,
            changelog,
            key,
            bounded,
        };
        Ok(self.add(node))
    }

    /// The join's other conditions over left ++ right, where columns computed for the keys stand
    /// between the two.
    fn residual(
        &self,
        join: &Join,
        filter: &Expr,
        left_width: usize,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let schema = join
            .left
            .schema()
            .join(join.right.schema())
            .map_err(from_datafusion)?;
        let compiled = self.compile(filter, &schema)?;
        let shift = left_width - join.left.schema().fields().len();
        let first_right = join.left.schema().fields().len();
        let moved = compiled.transform(|expr| {
            let any: &dyn std::any::Any = expr.as_ref();
            match any.downcast_ref::<PhysicalColumn>() {
                Some(column) if column.index() >= first_right => {
                    let moved = PhysicalColumn::new(column.name(), column.index() + shift);
                    Ok(Transformed::yes(Arc::new(moved) as Arc<dyn PhysicalExpr>))
                }
                _ => Ok(Transformed::no(expr)),
            }
        });
        Ok(moved.map_err(from_datafusion)?.data)
    }
}

/// The key of joined rows: both keys; the left one alone where the join finds at most one right
/// row.
fn joined_key(l: &Node, r: &Node, right_keys: &[usize], left_width: usize) -> Option<Vec<usize>> {
    let left = l.key.clone()?;
    let right = r.key.as_ref()?;
    if right.iter().all(|column| right_keys.contains(column)) {
        return Some(left);
    }
    Some(
        left.into_iter()
            .chain(right.iter().map(|column| left_width + column))
            .collect(),
    )
}

/// What the user wrote that became a join which cannot be maintained.
fn refused_join(kind: JoinType) -> Error {
    let (what, hint) = match kind {
        JoinType::Inner | JoinType::Left | JoinType::Right => ("this join", "use an inner join"),
        JoinType::Full => (
            "FULL JOIN",
            "inner, left and right joins are: make two views and select from both",
        ),
        JoinType::LeftSemi | JoinType::RightSemi => (
            "EXISTS or IN over a subquery",
            "join with (SELECT DISTINCT …) instead",
        ),
        JoinType::LeftAnti | JoinType::RightAnti => (
            "NOT EXISTS or NOT IN over a subquery",
            "write a LEFT JOIN b ON … WHERE b.key IS NULL",
        ),
        JoinType::LeftMark | JoinType::RightMark => (
            "EXISTS or IN over a subquery inside an expression",
            "write it as a LEFT JOIN and test a column of the right side for NULL",
        ),
    };
    Error::unsupported(format!("{what} is not supported in views")).hint(hint)
}
