//! Joins in a stream plan: which rows are kept, until when, and what their output's key is.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, JoinType, NullEquality as PlanNullEquality};
use datafusion::logical_expr::{Expr, Join, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;

use crate::catalog::Changelog;
use crate::error::{Error, Result};
use crate::operator::asof::AsOfSpec;
use crate::operator::join::{Expire, JoinKind, JoinSpec, NullEquality, TimeRange};
use crate::operator::judge::JudgeSpec;
use crate::plan::as_of::AsOfNode;
use crate::plan::build::{Build, arrow_schema, column_expr};
use crate::plan::failure::from_datafusion;
use crate::plan::lookup::looked_up;
use crate::plan::stream::{Node, Operation};
use crate::plan::time_range::time_ranges;

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
        let looked_up = looked_up(&join.right)?;
        let left = self.plan(&join.left)?;
        let right = self.plan(looked_up.as_ref().unwrap_or(join.right.as_ref()))?;
        let (left_exprs, right_exprs): (Vec<_>, Vec<_>) = join.on.iter().cloned().unzip();
        let (left, left_keys) = self.with_columns(left, join.left.schema(), &left_exprs)?;
        let (right, right_keys) = self.with_columns(right, join.right.schema(), &right_exprs)?;
        let widths = (
            join.left.schema().fields().len(),
            join.right.schema().fields().len(),
        );
        let sides = ((left, left_keys), (right, right_keys));
        let joined = match looked_up {
            Some(_) => self.lookup(join, kind, sides.0, sides.1)?,
            None => self.joined(join, kind, sides.0, sides.1, time_ranges(join)?)?,
        };
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
        times: Vec<TimeRange>,
    ) -> Result<usize> {
        let expire = self.expire(left, right, &times);
        // What frees the rows of one side must not fall behind: the other's rows are judged.
        let right = match expire.left {
            Some(at) => self.judged(right, times[at].right),
            None => right,
        };
        let left = match expire.right {
            Some(at) => self.judged(left, times[at].left),
            None => left,
        };
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
        let key = joined_key(l, r, &right_keys, left_width);
        let changelog = match kind {
            JoinKind::Inner => l.changelog.and(r.changelog),
            JoinKind::Left => Changelog::Retracting,
        };
        let mut bounded = Vec::new();
        let mut times = times;
        for range in &mut times {
            range.is_bounded = l.bounded.contains(&range.left) && r.bounded.contains(&range.right);
            if range.is_bounded {
                bounded.extend(range.least.map(|_| range.left));
                // Beside a padded row anything can come.
                let is_inner = kind == JoinKind::Inner;
                let right = range.greatest.filter(|_| is_inner);
                bounded.extend(right.map(|_| left_width + range.right));
            }
        }
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
            times,
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

    /// By which times the rows of each side go: those of which the other side's is bounded.
    fn expire(&self, left: usize, right: usize, times: &[TimeRange]) -> Expire {
        let frees_left =
            |range: &TimeRange| range.least.is_some() && self.is_timed(right, range.right);
        let frees_right =
            |range: &TimeRange| range.greatest.is_some() && self.is_timed(left, range.left);
        Expire {
            left: times.iter().position(frees_left),
            right: times.iter().position(frees_right),
        }
    }

    /// The node with a bound for the column, which is a time: where it comes straight from a
    /// source, late rows are taken out.
    pub(super) fn judged(&mut self, input: usize, time_column: usize) -> usize {
        let source = &self.nodes[input];
        if source.bounded.contains(&time_column) {
            return input;
        }
        let node = Node {
            operation: Operation::Judge(JudgeSpec {
                input: source.schema.clone(),
                time_column,
                lateness_micros: self.options.allowed_lateness_micros,
            }),
            inputs: vec![input],
            schema: source.schema.clone(),
            changelog: source.changelog,
            key: source.key.clone(),
            bounded: vec![time_column],
        };
        self.add(node)
    }

    /// An ASOF join: both sides by key, judged where their times free what is kept.
    pub(super) fn as_of(&mut self, node: &AsOfNode) -> Result<usize> {
        let left = self.plan(&node.left)?;
        let right = self.plan(&node.right)?;
        if node.is_versioned && self.nodes[right].changelog != Changelog::AppendOnly {
            return Err(Error::unsupported(
                "FOR SYSTEM_TIME AS OF a relation whose rows can change is not supported",
            )
            .detail("its versions would change with them")
            .hint("join a source that only grows: one row for each version, with its event time"));
        }
        let (left_schema, right_schema) = (node.left.schema(), node.right.schema());
        let widths = (left_schema.fields().len(), right_schema.fields().len());
        let (left, left_keys) = self.with_columns(left, left_schema, &node.left_keys)?;
        let (right, right_keys) = self.with_columns(right, right_schema, &node.right_keys)?;
        let time = |schema: &DFSchema, column| {
            let place = schema.index_of_column(column);
            place.map_err(from_datafusion)
        };
        let left_time = time(left_schema, &node.left_time)?;
        let right_time = time(right_schema, &node.right_time)?;
        // A kept right row is mostly behind the watermark. Where it can be taken back, nothing
        // behind the watermark may be left out, and so nothing is let go.
        let is_final = self.nodes[right].changelog == Changelog::AppendOnly
            || self.nodes[right].bounded.contains(&right_time);
        let frees_left = is_final && self.is_timed(right, right_time);
        let frees_right = frees_left && self.is_timed(left, left_time);
        let right = match frees_left {
            true => self.judged(right, right_time),
            false => right,
        };
        let left = match frees_right {
            true => self.judged(left, left_time),
            false => left,
        };
        let left = self.exchange(left, left_keys.clone());
        let right = self.exchange(right, right_keys.clone());
        let (l, r) = (&self.nodes[left], &self.nodes[right]);
        let right_fields = r.schema.fields().iter().map(|field| match node.is_outer {
            true => Arc::new(field.as_ref().clone().with_nullable(true)),
            false => field.clone(),
        });
        let fields = l.schema.fields().iter().cloned().chain(right_fields);
        let output: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let left_width = l.schema.fields().len();
        let is_bounded = frees_right && node.nearest.is_past();
        let joined = Node {
            operation: Operation::AsOf(AsOfSpec {
                left: l.schema.clone(),
                right: r.schema.clone(),
                left_keys,
                right_keys,
                left_time,
                right_time,
                nearest: node.nearest,
                kind: match node.is_outer {
                    true => JoinKind::Left,
                    false => JoinKind::Inner,
                },
                output: output.clone(),
                left_append_only: l.changelog == Changelog::AppendOnly,
                right_append_only: r.changelog == Changelog::AppendOnly,
                frees_left,
                frees_right,
            }),
            inputs: vec![left, right],
            schema: output.clone(),
            // A nearer row takes another one's place.
            changelog: Changelog::Retracting,
            key: l.key.clone(),
            bounded: is_bounded.then_some(left_time).into_iter().collect(),
        };
        let joined = self.add(joined);
        let kept = (0..widths.0).chain(left_width..left_width + widths.1);
        let project = kept.map(|column| column_expr(&output, column)).collect();
        let planned = arrow_schema(UserDefinedLogicalNodeCore::schema(node));
        Ok(self.map_compiled(joined, None, project, planned))
    }

    /// The join's other conditions over left ++ right, where columns computed for the keys stand
    /// between the two.
    pub(super) fn residual(
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
pub(super) fn joined_key(
    l: &Node,
    r: &Node,
    right_keys: &[usize],
    left_width: usize,
) -> Option<Vec<usize>> {
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
