//! Joins in a stream plan: which rows are kept, until when, and what their output's key is.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, JoinType, NullEquality as PlanNullEquality, ScalarValue};
use datafusion::logical_expr::{Expr, Join, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column as PhysicalColumn, Literal};

use crate::catalog::Changelog;
use crate::error::{Error, Result};
use crate::operator::asof::AsOfSpec;
use crate::operator::join::{Expire, JoinKind, JoinSpec, NullEquality, TimeRange};
use crate::operator::judge::JudgeSpec;
use crate::plan::as_of::AsOfNode;
use crate::plan::build::{Build, arrow_schema, column_expr};
use crate::plan::failure::from_datafusion;
use crate::plan::lookup::{looked_up, refuse_sources};
use crate::plan::stream::{Node, Operation};
use crate::plan::time_range::time_ranges;

impl Build<'_> {
    pub(super) fn join(&mut self, join: &Join) -> Result<usize> {
        let kind = match join.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            JoinType::Full => JoinKind::Full,
            JoinType::LeftSemi => JoinKind::Semi,
            JoinType::LeftAnti => JoinKind::Anti,
            JoinType::LeftMark => JoinKind::Mark,
            JoinType::Right => return self.swapped(join, JoinType::Left),
            JoinType::RightSemi => return self.swapped(join, JoinType::LeftSemi),
            JoinType::RightAnti => return self.swapped(join, JoinType::LeftAnti),
            JoinType::RightMark => return self.swapped(join, JoinType::LeftMark),
        };
        let looked_up = looked_up(&join.right)?;
        let left = self.plan(&join.left)?;
        let right = self.plan(looked_up.as_ref().unwrap_or(join.right.as_ref()))?;
        let (left_exprs, right_exprs): (Vec<_>, Vec<_>) = join.on.iter().cloned().unzip();
        let (left, left_keys) = self.with_columns(left, join.left.schema(), &left_exprs)?;
        let (mut right, mut right_keys) =
            self.with_columns(right, join.right.schema(), &right_exprs)?;
        if join.null_aware && kind == JoinKind::Anti {
            let output = arrow_schema(&join.schema);
            return self.not_in(join, (left, left_keys), (right, right_keys), output);
        }
        let mut times = time_ranges(join)?;
        if !kind.has_pairs() && join.filter.is_none() {
            let all = right_keys.clone();
            (right, right_keys) = self.distinct_keys(right, right_keys, &times);
            // Where they were taken apart from the rest, they have other places.
            if right_keys != all {
                for range in &mut times {
                    let place = all.iter().position(|key| *key == range.right);
                    range.right = place.expect("every time is a key");
                }
            }
        }
        let residual = match &join.filter {
            None => None,
            Some(filter) => Some(self.residual(join, filter, left)?),
        };
        let joining = Joining {
            kind,
            null_equality: join.null_equality,
            residual,
            times,
        };
        let sides = ((left, left_keys), (right, right_keys));
        let joined = match looked_up {
            Some(_) => {
                refuse_sources(&join.right)?;
                self.lookup(joining, sides.0, sides.1)?
            }
            None => self.joined(joining, sides.0, sides.1),
        };
        // Key expressions that were computed for the join are dropped again.
        let left_all = self.nodes[left].schema.fields().len();
        let widths = (
            join.left.schema().fields().len(),
            match kind {
                JoinKind::Inner | JoinKind::Left | JoinKind::Full => {
                    join.right.schema().fields().len()
                }
                JoinKind::Semi | JoinKind::Anti => 0,
                JoinKind::Mark => 1,
            },
        );
        let kept = (0..widths.0).chain(left_all..left_all + widths.1);
        let schema = self.nodes[joined].schema.clone();
        let project = kept.map(|column| column_expr(&schema, column)).collect();
        Ok(self.map_compiled(joined, None, project, arrow_schema(&join.schema)))
    }

    /// The join with its sides in the other order: `a RIGHT JOIN b` is `b LEFT JOIN a` with its
    /// columns in the other order.
    fn swapped(&mut self, join: &Join, join_type: JoinType) -> Result<usize> {
        let swapped = Join::try_new(
            join.right.clone(),
            join.left.clone(),
            join.on
                .iter()
                .map(|(left, right)| (right.clone(), left.clone()))
                .collect(),
            join.filter.clone(),
            join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )
        .map_err(from_datafusion)?;
        let node = self.join(&swapped)?;
        if join_type != JoinType::Left {
            return Ok(node);
        }
        let right = join.right.schema().fields().len();
        let left = join.left.schema().fields().len();
        let schema = self.nodes[node].schema.clone();
        let order = (right..right + left).chain(0..right);
        let project = order.map(|column| column_expr(&schema, column)).collect();
        Ok(self.map_compiled(node, None, project, arrow_schema(&join.schema)))
    }

    /// The keys of the right side, each once: all that a join needs of it that only asks whether
    /// there is a match. A left row then has one at most, however often the key is there. Where
    /// keys go by a time that only the join bounds, its rows are left as they are.
    pub(super) fn distinct_keys(
        &mut self,
        right: usize,
        keys: Vec<usize>,
        times: &[TimeRange],
    ) -> (usize, Vec<usize>) {
        let node = &self.nodes[right];
        let is_unique = |key: &Vec<usize>| key.iter().all(|column| keys.contains(column));
        let is_lost = |range: &TimeRange| {
            !node.bounded.contains(&range.right) || !keys.contains(&range.right)
        };
        if node.key.as_ref().is_some_and(is_unique) || times.iter().any(is_lost) {
            return (right, keys);
        }
        let schema = node.schema.clone();
        let (project, fields): (Vec<Arc<dyn PhysicalExpr>>, Vec<Field>) = match keys.is_empty() {
            // Whether there is a row at all.
            true => {
                let one: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::from(true)));
                (
                    vec![one],
                    vec![Field::new("some", DataType::Boolean, false)],
                )
            }
            false => keys
                .iter()
                .map(|&key| (column_expr(&schema, key), schema.field(key).clone()))
                .unzip(),
        };
        let narrow: SchemaRef = Arc::new(Schema::new(fields));
        let mapped = self.map_compiled(right, None, project, narrow.clone());
        let group = (0..narrow.fields().len()).collect();
        let distinct = self.grouped(mapped, group, Vec::new(), narrow);
        (distinct, (0..keys.len()).collect())
    }

    /// The rows where the join finds them: those of an aggregate by the keys are there already.
    fn exchange_for_join(&mut self, input: usize, keys: &[usize]) -> usize {
        match &self.nodes[input].operation {
            Operation::Aggregate(spec) if spec.group == keys => input,
            _ => self.exchange(input, keys.to_vec()),
        }
    }

    /// The join of two nodes by columns of theirs.
    pub(super) fn joined(
        &mut self,
        joining: Joining,
        (left, left_keys): (usize, Vec<usize>),
        (right, right_keys): (usize, Vec<usize>),
    ) -> usize {
        let Joining {
            kind,
            null_equality,
            residual,
            mut times,
        } = joining;
        let mut expire = self.expire(left, right, &times);
        // Of a side whose rows can be taken back only the watermark bounds what is kept.
        let is_needed = |expiry: Option<usize>, side| expiry.is_some() && !self.has_lifetime(side);
        let needs_watermark = is_needed(expire.left, left) || is_needed(expire.right, right);
        let is_unbounded = (expire.left.is_none() || expire.right.is_none()) && !needs_watermark;
        let (left, right) = match is_unbounded {
            true => (self.with_lifetime(left), self.with_lifetime(right)),
            false => (left, right),
        };
        // What is taken back after its time must still find what it was joined with.
        let leaves = |side: usize| matches!(self.nodes[side].operation, Operation::Lifetime(_));
        if is_unbounded && (leaves(left) || leaves(right)) {
            expire = Expire::default();
        }
        // What frees the rows of one side must not fall behind: the other's rows are judged.
        let right = match expire.left {
            Some(at) => self.judged(right, times[at].right),
            None => right,
        };
        let left = match expire.right {
            Some(at) => self.judged(left, times[at].left),
            None => left,
        };
        let left = self.exchange_for_join(left, &left_keys);
        let right = self.exchange_for_join(right, &right_keys);
        let (l, r) = (&self.nodes[left], &self.nodes[right]);
        let left_width = l.schema.fields().len();
        let output = joined_schema(&l.schema, &r.schema, kind);
        let key = joined_key(l, r, kind, &right_keys);
        let changelog = match kind {
            JoinKind::Inner | JoinKind::Semi => l.changelog.and(r.changelog),
            JoinKind::Left | JoinKind::Full | JoinKind::Anti | JoinKind::Mark => {
                Changelog::Retracting
            }
        };
        let mut bounded = Vec::new();
        for range in &mut times {
            range.is_bounded = l.bounded.contains(&range.left) && r.bounded.contains(&range.right);
            // Beside a padded left column anything can come.
            if range.is_bounded && kind != JoinKind::Full {
                bounded.extend(range.least.map(|_| range.left));
                // Beside a padded row anything can come.
                let is_inner = kind == JoinKind::Inner;
                let right = range.greatest.filter(|_| is_inner);
                bounded.extend(right.map(|_| left_width + range.right));
            }
        }
        let (l, r) = (&self.nodes[left], &self.nodes[right]);
        let spec = JoinSpec {
            left: l.schema.clone(),
            right: r.schema.clone(),
            left_keys,
            right_keys,
            null_equality: null_equality_of(null_equality),
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
        self.add(node)
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
        // Of a side whose rows can be taken back only the watermark bounds what is kept.
        let needs_watermark = frees_left && !self.has_lifetime(left);
        let is_kept = (!frees_left || !frees_right) && !needs_watermark;
        let has_lifetime = self.has_lifetime(left) || self.has_lifetime(right);
        let (left, right, frees_left, frees_right) = match is_kept && has_lifetime {
            // As in any other join.
            true => {
                let right = self.with_lifetime(right);
                (self.with_lifetime(left), right, false, false)
            }
            false => (left, right, frees_left, frees_right),
        };
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
                is_outer: node.is_outer,
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
        left: usize,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let left_width = self.nodes[left].schema.fields().len();
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

/// What a join is, beside its inputs and keys.
pub(super) struct Joining {
    pub kind: JoinKind,
    pub null_equality: PlanNullEquality,
    /// Over left ++ right, with the columns that were computed for keys.
    pub residual: Option<Arc<dyn PhysicalExpr>>,
    pub times: Vec<TimeRange>,
}

pub(super) fn null_equality_of(planned: PlanNullEquality) -> NullEquality {
    match planned {
        PlanNullEquality::NullEqualsNothing => NullEquality::NullIsUnequal,
        PlanNullEquality::NullEqualsNull => NullEquality::NullIsEqual,
    }
}

/// The columns that come out of a join.
pub(super) fn joined_schema(left: &SchemaRef, right: &SchemaRef, kind: JoinKind) -> SchemaRef {
    let (pads_left, pads_right) = match kind {
        JoinKind::Left => (false, true),
        JoinKind::Full => (true, true),
        _ => (false, false),
    };
    let side = |schema: &SchemaRef, is_padded: bool| -> Vec<FieldRef> {
        let fields = schema.fields().iter();
        let field = |field: &FieldRef| match is_padded {
            true => Arc::new(field.as_ref().clone().with_nullable(true)),
            false => field.clone(),
        };
        fields.map(field).collect()
    };
    let mut fields = side(left, pads_left);
    match kind {
        JoinKind::Inner | JoinKind::Left | JoinKind::Full => {
            fields.extend(side(right, pads_right));
        }
        JoinKind::Semi | JoinKind::Anti => {}
        JoinKind::Mark => fields.push(Arc::new(Field::new("mark", DataType::Boolean, false))),
    }
    Arc::new(Schema::new(fields))
}

/// The key of joined rows: both keys; the left one alone where the join gives a left row once.
pub(super) fn joined_key(
    l: &Node,
    r: &Node,
    kind: JoinKind,
    right_keys: &[usize],
) -> Option<Vec<usize>> {
    let left = l.key.clone()?;
    if !kind.has_pairs() {
        return Some(left);
    }
    let right = r.key.as_ref()?;
    if kind == JoinKind::Full {
        // A padded row has NULLs for one side's key: rows of both sides with NULLs for their own
        // would be the same.
        let is_total = |node: &Node, key: &[usize]| {
            let mut columns = key.iter().map(|&column| node.schema.field(column));
            columns.any(|field| !field.is_nullable())
        };
        if !is_total(l, &left) && !is_total(r, right) {
            return None;
        }
    } else if right.iter().all(|column| right_keys.contains(column)) {
        return Some(left);
    }
    let left_width = l.schema.fields().len();
    let right = right.iter().map(|column| left_width + column);
    Some(left.into_iter().chain(right).collect())
}
