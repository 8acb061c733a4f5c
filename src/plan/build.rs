//! DataFusion's optimized plan to a [`StreamPlan`]: one node after the other, or a refusal.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, JoinType, NullEquality as PlanNullEquality};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Join, LogicalPlan, TableScan, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;

use crate::base::ObjectId;
use crate::catalog::Changelog;
use crate::error::{Error, Result, SqlState};
use crate::operator::gate::GateSpec;
use crate::operator::join::{Expire, ExpireRule, JoinKind, JoinSpec, NullEquality};
use crate::operator::map::{MapSpec, OnError};
use crate::operator::session::SessionEmit;
use crate::plan::aggregate::aggregate_calls;
use crate::plan::context::{PlannedTable, Planner};
use crate::plan::failure::from_datafusion;
use crate::plan::late::{LateOption, LatePlan};
use crate::plan::names::{display_names, unique_names};
use crate::plan::stream::{Node, Operation, Scan, StreamPlan};
use crate::plan::window::WINDOW_END;
use crate::sql::ast;
use crate::sql::statement::Emit;

/// What a view's WITH and EMIT clauses decide.
#[derive(Clone, Debug)]
pub struct ViewOptions {
    pub emit: Option<Emit>,
    /// How long after its close a window stays correctable, microseconds.
    pub allowed_lateness_micros: i64,
    pub late_rows: LateOption,
    pub on_error: OnError,
}

impl Default for ViewOptions {
    fn default() -> Self {
        ViewOptions {
            emit: None,
            allowed_lateness_micros: 0,
            late_rows: LateOption::Discard,
            on_error: OnError::FailRow,
        }
    }
}

/// Plans the dataflow of a view. `columns` renames its columns, as in `CREATE VIEW v (a, b)`.
pub fn plan_view(
    planner: &Planner<'_>,
    query: &ast::Query,
    columns: &[String],
    options: &ViewOptions,
) -> Result<StreamPlan> {
    let (logical, output_names) = named_query(planner, query, columns)?;
    refuse_twice(&output_names)?;
    let depends_on = dependencies(&logical)?;
    refuse_volatile(&logical)?;
    let optimized = planner.optimize(&logical)?;
    let mut build = Build {
        planner,
        options,
        nodes: Vec::new(),
    };
    let root = build.plan(&optimized)?;
    let root = build.emit(root)?;
    build.finish(root, output_names, depends_on)
}

/// A query's plan and what its columns are called; `columns` renames the first ones. Inside the
/// plan
/// the names are unique, what they are called may be not.
pub fn named_query(
    planner: &Planner<'_>,
    query: &ast::Query,
    columns: &[String],
) -> Result<(LogicalPlan, Vec<String>)> {
    let names = display_names(query);
    let mut query = query.clone();
    unique_names(&mut query);
    let logical = planner.query(&query)?;
    let names = output_names(&logical, names.as_deref(), columns)?;
    Ok((logical, names))
}

pub(super) struct Build<'a> {
    planner: &'a Planner<'a>,
    pub(super) options: &'a ViewOptions,
    pub(super) nodes: Vec<Node>,
}

impl Build<'_> {
    pub(super) fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    pub(super) fn plan(&mut self, plan: &LogicalPlan) -> Result<usize> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input),
            LogicalPlan::Projection(projection) => {
                let (input, filter) = match projection.input.as_ref() {
                    LogicalPlan::Filter(filter) => (filter.input.as_ref(), Some(&filter.predicate)),
                    other => (other, None),
                };
                let node = self.plan(input)?;
                self.map(
                    node,
                    input.schema(),
                    filter,
                    Some(&projection.expr),
                    &projection.schema,
                )
            }
            LogicalPlan::Filter(filter) => {
                let node = self.plan(&filter.input)?;
                let schema = filter.input.schema();
                self.map(node, schema, Some(&filter.predicate), None, schema)
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => {
                let inputs = union
                    .inputs
                    .iter()
                    .map(|input| self.plan(input))
                    .collect::<Result<Vec<_>>>()?;
                Ok(self.union(inputs, arrow_schema(&union.schema)))
            }
            LogicalPlan::Extension(extension) => self.extension(extension),
            LogicalPlan::EmptyRelation(empty) => {
                let rows = usize::from(empty.produce_one_row);
                Ok(self.constant(arrow_schema(&empty.schema), rows))
            }
            other => Err(refusal(other)),
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Result<usize> {
        let source: &dyn std::any::Any = scan.source.as_ref();
        let Some(table) = source.downcast_ref::<PlannedTable>() else {
            return Err(Error::unsupported(format!(
                "relation \"{}\" cannot be the input of a view",
                scan.table_name
            ))
            .hint("a view reads sources, tables and other views"));
        };
        let object = &table.object;
        let relation = &object.relation;
        let columns: Vec<usize> = match &scan.projection {
            Some(projection) => projection.clone(),
            None => (0..relation.schema.fields().len()).collect(),
        };
        let place = |column: &usize| columns.iter().position(|kept| kept == column);
        let node = Node {
            operation: Operation::Scan(Scan {
                object: object.id(),
                name: object.name().to_string(),
                columns: columns.clone(),
                event_time: relation.event_time.as_ref().and_then(place),
            }),
            inputs: Vec::new(),
            schema: arrow_schema(&scan.projected_schema),
            changelog: relation.changelog,
            key: relation
                .key
                .as_ref()
                .and_then(|key| key.iter().map(place).collect()),
            bounded: relation.bounded.iter().filter_map(place).collect(),
        };
        let mut id = self.add(node);
        if let Some(filter) = scan.filters.iter().cloned().reduce(Expr::and) {
            let schema = &scan.projected_schema;
            id = self.map(id, schema, Some(&filter), None, schema)?;
        }
        Ok(id)
    }

    /// Filter and projection in one; `None` projects every column.
    fn map(
        &mut self,
        input: usize,
        input_schema: &DFSchema,
        filter: Option<&Expr>,
        project: Option<&[Expr]>,
        output: &DFSchema,
    ) -> Result<usize> {
        let compile = |expr: &Expr| self.compile(expr, input_schema);
        let filter = filter.map(&compile).transpose()?;
        let project = match project {
            Some(exprs) => exprs.iter().map(compile).collect::<Result<Vec<_>>>()?,
            None => all_columns(&self.nodes[input].schema),
        };
        Ok(self.map_compiled(input, filter, project, arrow_schema(output)))
    }

    pub(super) fn map_compiled(
        &mut self,
        input: usize,
        filter: Option<Arc<dyn PhysicalExpr>>,
        project: Vec<Arc<dyn PhysicalExpr>>,
        output: SchemaRef,
    ) -> usize {
        let source = &self.nodes[input];
        let passes: Vec<Option<usize>> = project.iter().map(plain_column).collect();
        let is_identity = filter.is_none()
            && passes.len() == source.schema.fields().len()
            && passes
                .iter()
                .enumerate()
                .all(|(place, pass)| *pass == Some(place))
            && output == source.schema;
        if is_identity {
            return input;
        }
        let place = |column: &usize| passes.iter().position(|pass| *pass == Some(*column));
        let node = Node {
            inputs: vec![input],
            changelog: source.changelog,
            key: source
                .key
                .as_ref()
                .and_then(|key| key.iter().map(place).collect()),
            bounded: source.bounded.iter().filter_map(place).collect(),
            schema: output.clone(),
            operation: Operation::Map(MapSpec {
                input: source.schema.clone(),
                filter,
                project,
                output,
                on_error: self.options.on_error,
            }),
        };
        self.add(node)
    }

    fn compile(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        self.planner
            .state()
            .create_physical_expr(expr.clone(), schema)
            .map_err(from_datafusion)
    }

    pub(super) fn exchange(&mut self, input: usize, columns: Vec<usize>) -> usize {
        let source = &self.nodes[input];
        let node = Node {
            operation: Operation::Exchange(columns),
            inputs: vec![input],
            schema: source.schema.clone(),
            changelog: source.changelog,
            key: source.key.clone(),
            bounded: source.bounded.clone(),
        };
        self.add(node)
    }

    fn aggregate(&mut self, aggregate: &Aggregate) -> Result<usize> {
        if aggregate
            .group_expr
            .iter()
            .any(|expr| matches!(expr, Expr::GroupingSet(_)))
        {
            return Err(Error::unsupported(
                "GROUPING SETS, ROLLUP and CUBE are not supported in views",
            )
            .hint("write one view per grouping and UNION ALL them"));
        }
        let input = self.plan(&aggregate.input)?;
        let schema = aggregate.input.schema();
        let mut project = Vec::new();
        for expr in &aggregate.group_expr {
            project.push(self.compile(expr, schema)?);
        }
        let group: Vec<usize> = (0..project.len()).collect();
        let calls = aggregate_calls(
            &aggregate.aggr_expr,
            &mut |expr| {
                let compiled = self.compile(expr, schema)?;
                let known = project
                    .iter()
                    .position(|other| other.as_ref() == compiled.as_ref());
                Ok(known.unwrap_or_else(|| {
                    project.push(compiled.clone());
                    project.len() - 1
                }))
            },
            schema,
        )?;
        let narrow = self.projected_schema(input, &project)?;
        let mapped = self.map_compiled(input, None, project, narrow);
        let output = arrow_schema(&aggregate.schema);
        Ok(
            match self.session_aggregate(mapped, &group, &calls, &output) {
                Some(node) => node,
                None => self.grouped(mapped, group, calls, output),
            },
        )
    }

    fn distinct(&mut self, plan: &LogicalPlan) -> Result<usize> {
        let input = self.plan(plan)?;
        let schema = self.nodes[input].schema.clone();
        let group = (0..schema.fields().len()).collect();
        Ok(self.grouped(input, group, Vec::new(), schema))
    }

    fn grouped(
        &mut self,
        input: usize,
        group: Vec<usize>,
        calls: Vec<crate::operator::aggregate::AggregateCall>,
        output: SchemaRef,
    ) -> usize {
        let exchanged = self.exchange(input, group.clone());
        let source = &self.nodes[exchanged];
        // Group columns come first in the input, so positions are the same on both sides.
        let bounded: Vec<usize> = source
            .bounded
            .iter()
            .copied()
            .filter(|column| group.contains(column))
            .collect();
        let close = close_column(&bounded, &source.schema).map(|column| {
            crate::operator::aggregate::Close {
                column,
                emit: crate::operator::aggregate::CloseEmit::OnUpdate,
                lateness_micros: 0,
            }
        });
        let is_distinct_only = calls.is_empty() && !group.is_empty();
        let is_append_only = source.changelog == Changelog::AppendOnly;
        let spec = crate::operator::aggregate::AggregateSpec {
            input: source.schema.clone(),
            group: group.clone(),
            calls,
            output: output.clone(),
            close,
            is_append_only,
            is_global: group.is_empty(),
        };
        let node = Node {
            operation: Operation::Aggregate(spec),
            inputs: vec![exchanged],
            schema: output,
            changelog: match is_distinct_only && is_append_only {
                true => Changelog::AppendOnly,
                false => Changelog::Retracting,
            },
            key: Some(group),
            bounded,
        };
        self.add(node)
    }

    /// The schema of compiled expressions over a node's output.
    fn projected_schema(
        &self,
        input: usize,
        project: &[Arc<dyn PhysicalExpr>],
    ) -> Result<SchemaRef> {
        let schema = &self.nodes[input].schema;
        let fields = project.iter().enumerate().map(|(place, expr)| {
            let field = expr.return_field(schema).map_err(from_datafusion)?;
            let name = match plain_column(expr) {
                Some(column) => schema.field(column).name().clone(),
                None => format!("expr{place}"),
            };
            Ok(field.as_ref().clone().with_name(name))
        });
        Ok(Arc::new(Schema::new(
            fields.collect::<Result<Vec<Field>>>()?,
        )))
    }

    fn join(&mut self, join: &Join) -> Result<usize> {
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

    /// The node with the expressions as columns; those that are columns already are not added.
    pub(super) fn with_columns(
        &mut self,
        input: usize,
        schema: &DFSchema,
        exprs: &[Expr],
    ) -> Result<(usize, Vec<usize>)> {
        let mut project = all_columns(&self.nodes[input].schema);
        let mut places = Vec::new();
        for expr in exprs {
            let compiled = self.compile(expr, schema)?;
            places.push(plain_column(&compiled).unwrap_or_else(|| {
                project.push(compiled);
                project.len() - 1
            }));
        }
        let output = self.projected_schema(input, &project)?;
        Ok((self.map_compiled(input, None, project, output), places))
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
        let moved = datafusion::common::tree_node::TreeNode::transform(compiled, |expr| {
            let any: &dyn std::any::Any = expr.as_ref();
            match any.downcast_ref::<PhysicalColumn>() {
                Some(column) if column.index() >= first_right => {
                    let moved = PhysicalColumn::new(column.name(), column.index() + shift);
                    Ok(datafusion::common::tree_node::Transformed::yes(
                        Arc::new(moved) as Arc<dyn PhysicalExpr>,
                    ))
                }
                _ => Ok(datafusion::common::tree_node::Transformed::no(expr)),
            }
        });
        Ok(moved.map_err(from_datafusion)?.data)
    }

    fn union(&mut self, inputs: Vec<usize>, schema: SchemaRef) -> usize {
        let nodes = || inputs.iter().map(|&input| &self.nodes[input]);
        let changelog = nodes()
            .map(|node| node.changelog)
            .fold(Changelog::AppendOnly, Changelog::and);
        let bounded = (0..schema.fields().len())
            .filter(|column| nodes().all(|node| node.bounded.contains(column)))
            .collect();
        let inputs = inputs
            .into_iter()
            .map(|input| {
                // Equal types under other names or nullability: one schema for all.
                let project = all_columns(&self.nodes[input].schema);
                self.map_compiled(input, None, project, schema.clone())
            })
            .collect();
        let node = Node {
            operation: Operation::Union,
            inputs,
            schema,
            changelog,
            key: None,
            bounded,
        };
        self.add(node)
    }

    fn constant(&mut self, schema: SchemaRef, rows: usize) -> usize {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        let columns = schema
            .fields()
            .iter()
            .map(|field| arrow::array::new_null_array(field.data_type(), rows));
        let batch = RecordBatch::try_new_with_options(schema.clone(), columns.collect(), &options)
            .expect("columns of the schema");
        let node = Node {
            operation: Operation::Constant(Arc::new(batch)),
            inputs: Vec::new(),
            schema,
            changelog: Changelog::AppendOnly,
            key: (rows <= 1).then(Vec::new),
            bounded: Vec::new(),
        };
        self.add(node)
    }

    /// The EMIT clause: on the aggregate that the output follows from, or as a gate behind it.
    fn emit(&mut self, root: usize) -> Result<usize> {
        let lateness = self.options.allowed_lateness_micros;
        match &self.options.emit {
            None | Some(Emit::OnUpdate) => {
                self.set_lateness(lateness);
                Ok(root)
            }
            Some(Emit::Every { position, .. }) => Err(position
                .mark(Error::unsupported("EMIT EVERY is not supported"))
                .hint("leave it out: the view is always up to date")),
            Some(Emit::OnWindowClose) => {
                self.set_lateness(lateness);
                self.emit_on_close(root)
            }
        }
    }

    fn set_lateness(&mut self, lateness_micros: i64) {
        for node in &mut self.nodes {
            if let Operation::Aggregate(spec) = &mut node.operation
                && let Some(close) = &mut spec.close
            {
                close.lateness_micros = lateness_micros;
            }
        }
    }

    fn emit_on_close(&mut self, root: usize) -> Result<usize> {
        let mut at = root;
        loop {
            match &mut self.nodes[at].operation {
                Operation::Map(_) => at = self.nodes[at].inputs[0],
                // Its rows are final when they come out.
                Operation::Session(spec) if spec.emit == SessionEmit::OnClose => return Ok(root),
                Operation::SessionAggregate(spec) if spec.session.emit == SessionEmit::OnClose => {
                    return Ok(root);
                }
                Operation::Aggregate(spec) if spec.close.is_some() => {
                    let close = spec.close.as_mut().expect("just looked");
                    close.emit = crate::operator::aggregate::CloseEmit::OnClose;
                    if close.lateness_micros == 0 {
                        self.final_above(at, root);
                    }
                    return Ok(root);
                }
                _ => break,
            }
        }
        let node = &self.nodes[root];
        let Some(time) = close_column(&node.bounded, &node.schema) else {
            return Err(Error::unsupported(
                "EMIT ON WINDOW CLOSE needs a column that the watermark closes",
            )
            .hint(
                "group by window_start and window_end of a window over a source with a \
                 WATERMARK, or join on them",
            ));
        };
        // A row waits where its retraction comes to.
        let root = match node.changelog {
            Changelog::AppendOnly => root,
            Changelog::Retracting => {
                let all = || (0..node.schema.fields().len()).collect();
                let columns = node.key.clone().unwrap_or_else(all);
                self.exchange(root, columns)
            }
        };
        let node = &self.nodes[root];
        let gate = Node {
            operation: Operation::Gate(GateSpec {
                input: node.schema.clone(),
                time_column: time,
            }),
            inputs: vec![root],
            schema: node.schema.clone(),
            changelog: Changelog::AppendOnly,
            key: node.key.clone(),
            bounded: node.bounded.clone(),
        };
        Ok(self.add(gate))
    }

    /// Rows that leave a closed window once are never taken back: so say all nodes above it.
    fn final_above(&mut self, aggregate: usize, root: usize) {
        let mut at = root;
        loop {
            self.nodes[at].changelog = Changelog::AppendOnly;
            if at == aggregate {
                return;
            }
            at = self.nodes[at].inputs[0];
        }
    }

    fn finish(
        mut self,
        root: usize,
        names: Vec<String>,
        depends_on: Vec<ObjectId>,
    ) -> Result<StreamPlan> {
        let fields: Vec<Field> = self.nodes[root]
            .schema
            .fields()
            .iter()
            .zip(names)
            .map(|(field, name)| field.as_ref().clone().with_name(name))
            .collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let project = all_columns(&self.nodes[root].schema);
        let output = self.map_compiled(root, None, project, schema.clone());
        if output != self.nodes.len() - 1 {
            // The output is an earlier node; the last place is its own.
            let node = self.nodes[output].clone();
            let pass = Node {
                operation: Operation::Union,
                inputs: vec![output],
                ..node
            };
            self.add(pass);
        }
        let last = self.nodes.last().expect("a plan has a node");
        Ok(StreamPlan {
            schema,
            key: last.key.clone(),
            changelog: last.changelog,
            bounded: last.bounded.clone(),
            depends_on,
            late: match self.options.late_rows {
                LateOption::Discard => None,
                LateOption::SideOutput => LatePlan::of(&self.nodes),
            },
            nodes: self.nodes,
        })
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

/// Of the bounded columns the one that says best when a row is final: a window's end.
fn close_column(bounded: &[usize], schema: &SchemaRef) -> Option<usize> {
    let is_end = |column: &&usize| schema.field(**column).name() == WINDOW_END;
    bounded.iter().find(is_end).or(bounded.first()).copied()
}

pub(super) fn arrow_schema(schema: &DFSchema) -> SchemaRef {
    Arc::new(schema.as_arrow().clone().with_metadata(Default::default()))
}

fn all_columns(schema: &SchemaRef) -> Vec<Arc<dyn PhysicalExpr>> {
    (0..schema.fields().len())
        .map(|column| column_expr(schema, column))
        .collect()
}

pub(super) fn column_expr(schema: &SchemaRef, column: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(PhysicalColumn::new(schema.field(column).name(), column))
}

/// The input column that an expression is, if it is nothing more.
pub(crate) fn plain_column(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    let any: &dyn std::any::Any = expr.as_ref();
    any.downcast_ref::<PhysicalColumn>()
        .map(PhysicalColumn::index)
}

/// The names of the output: given ones, else what Postgres would call them.
fn output_names(
    plan: &LogicalPlan,
    display: Option<&[Option<String>]>,
    given: &[String],
) -> Result<Vec<String>> {
    let fields = plan.schema().fields();
    let mut names: Vec<String> = match display {
        Some(items) if items.len() == fields.len() => items
            .iter()
            .zip(fields)
            .map(|(item, field)| item.clone().unwrap_or_else(|| field.name().clone()))
            .collect(),
        _ => fields.iter().map(|field| field.name().clone()).collect(),
    };
    if given.len() > names.len() {
        return Err(Error::new(
            SqlState::SYNTAX_ERROR,
            format!(
                "the view has {} column names but its query {} columns",
                given.len(),
                names.len()
            ),
        ));
    }
    for (name, given) in names.iter_mut().zip(given) {
        name.clone_from(given);
    }
    Ok(names)
}

/// A relation's columns have names of their own.
fn refuse_twice(names: &[String]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        None => Ok(()),
        Some(twice) => Err(Error::new(
            SqlState::DUPLICATE_COLUMN,
            format!("column \"{twice}\" specified more than once"),
        )
        .hint("give it another name with AS")),
    }
}

/// Every object the plan names, rising.
pub fn dependencies(plan: &LogicalPlan) -> Result<Vec<ObjectId>> {
    let mut found = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let source = scan.source.as_ref() as &dyn std::any::Any
            && let Some(table) = source.downcast_ref::<PlannedTable>()
        {
            found.insert(table.object.id());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(from_datafusion)?;
    Ok(found.into_iter().collect())
}

/// A view is a function of its inputs: what differs from call to call has no place in it.
fn refuse_volatile(plan: &LogicalPlan) -> Result<()> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        for expr in node.expressions() {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    found.get_or_insert_with(|| call.func.name().to_string());
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(from_datafusion)?;
    match found {
        None => Ok(()),
        Some(name) => Err(Error::unsupported(format!(
            "function {name}() cannot be used in a view"
        ))
        .detail("its value changes from call to call, and a view depends on its inputs only")
        .hint("use a column of the source, or call it in the SELECT that reads the view")),
    }
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

fn refusal(plan: &LogicalPlan) -> Error {
    match plan {
        LogicalPlan::Sort(_) => Error::unsupported("ORDER BY is not supported in views")
            .hint("order the SELECT that reads the view"),
        LogicalPlan::Limit(_) => Error::unsupported("LIMIT is not supported in views")
            .hint("limit the SELECT that reads the view"),
        LogicalPlan::Window(_) => Error::unsupported("OVER is not supported in views")
            .hint("use it in the SELECT that reads the view"),
        LogicalPlan::Distinct(_) => Error::unsupported("DISTINCT ON is not supported in views")
            .hint("use GROUP BY with max() or min()"),
        LogicalPlan::Unnest(_) => Error::unsupported("unnest() is not supported in views")
            .hint("use it in the SELECT that reads the view"),
        LogicalPlan::Values(_) => {
            Error::unsupported("VALUES is not supported in views").hint("put the rows into a table")
        }
        LogicalPlan::RecursiveQuery(_) => {
            Error::unsupported("WITH RECURSIVE is not supported in views")
                .hint("use it in the SELECT that reads the view")
        }
        LogicalPlan::Subquery(_) => {
            Error::unsupported("this subquery is not supported in views").hint("write it as a join")
        }
        _ => Error::unsupported("this query cannot be kept up to date in a view")
            .hint("SELECT it when you want to know"),
    }
}
