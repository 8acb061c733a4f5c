//! DataFusion's optimized plan to a [`StreamPlan`]: one node after the other, or a refusal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, LogicalPlan, TableScan, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column as PhysicalColumn};

use crate::base::ObjectId;
use crate::catalog::Changelog;
use crate::error::{Error, Result};
use crate::function::time::as_now_is;
use crate::operator::aggregate::{AggregateCall, AggregateSpec, Close, CloseEmit};
use crate::operator::map::{MapSpec, OnError};
use crate::operator::top::RankRange;
use crate::plan::aggregate::aggregate_calls;
use crate::plan::context::{PlannedTable, Planner};
use crate::plan::emit::close_column;
use crate::plan::failure::from_datafusion;
use crate::plan::late::{LateOption, LatePlan};
use crate::plan::names::{display_names, output_names, refuse_twice, unique_names};
use crate::plan::retention::RetentionOption;
use crate::plan::stream::{Node, Operation, RetentionMode, Scan, StreamPlan};
use crate::plan::subquery::check_subqueries;
use crate::plan::temporal::{
    above_windows, has_timed_condition, in_query, is_clock, misplaced, timed_conditions,
};
use crate::plan::ties::unsorted;
use crate::plan::top::{Ranked, distinct_on};
use crate::sql::ast;
use crate::sql::statement::Emit;

/// What a view's WITH and EMIT clauses decide.
#[derive(Clone, Debug)]
pub struct ViewOptions {
    pub emit: Option<Emit>,
    /// How long after its close a window stays correctable, microseconds.
    pub allowed_lateness_micros: i64,
    pub late_rows: LateOption,
    pub retention: Option<RetentionOption>,
    /// How long state is there that no time bounds, microseconds.
    pub state_ttl_micros: Option<i64>,
    pub on_error: OnError,
}

impl Default for ViewOptions {
    fn default() -> Self {
        ViewOptions {
            emit: None,
            allowed_lateness_micros: 0,
            late_rows: LateOption::Discard,
            retention: None,
            state_ttl_micros: None,
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
    let (logical, names) = named_query(planner, query, columns)?;
    refuse_twice(&names)?;
    let depends_on = dependencies(&logical)?;
    let logical = distinct_on(unsorted(logical, query)?)?;
    check_subqueries(&logical).map_err(|error| in_query(error, query))?;
    let logical = timed_conditions(planner, logical).map_err(|error| in_query(error, query))?;
    refuse_volatile(&logical).map_err(|error| in_query(error, query))?;
    let optimized = above_windows(planner.optimize(&logical)?)?;
    let mut build = Build {
        planner,
        options,
        nodes: Vec::new(),
        computed: BTreeMap::new(),
    };
    let root = build.plan(&optimized)?;
    let root = build.emit(root)?;
    build.finish(root, names, depends_on)
}

/// A query's plan and what its columns are called; `columns` renames the first ones. Inside the
/// plan the names are unique, what they are called may be not.
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
    /// For nodes with columns that were computed for the operator above, behind all others, how
    /// many others there are.
    computed: BTreeMap<usize, usize>,
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
                if let Some(ranked) = Ranked::of(plan)? {
                    return self.ranked(&ranked, &projection.schema);
                }
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
                if let Some(ranked) = Ranked::of(plan)? {
                    return self.ranked(&ranked, plan.schema());
                }
                let node = self.plan(&filter.input)?;
                let schema = filter.input.schema();
                self.map(node, schema, Some(&filter.predicate), None, schema)
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Join(join) => self.timed_join(join),
            LogicalPlan::Window(window) => self.over(window),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Sort(sort) if sort.fetch.is_some() => self.sort(sort, RankRange::ALL),
            LogicalPlan::Union(union) => {
                let inputs = union
                    .inputs
                    .iter()
                    .map(|input| self.plan(input))
                    .collect::<Result<Vec<_>>>()?;
                Ok(self.union(inputs, arrow_schema(&union.schema)))
            }
            LogicalPlan::Extension(extension) => self.extension(extension),
            LogicalPlan::Values(values) => self.values(values),
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
                clocked: relation.clocked.iter().filter_map(place).collect(),
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
    pub(super) fn map(
        &mut self,
        input: usize,
        input_schema: &DFSchema,
        filter: Option<&Expr>,
        project: Option<&[Expr]>,
        output: &DFSchema,
    ) -> Result<usize> {
        if filter.is_some_and(has_timed_condition) {
            return self.timed_map(input, input_schema, filter, project, output);
        }
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
        let key_place = |column: &usize| {
            let same = |expr| key_column(expr, &source.schema) == Some(*column);
            project.iter().position(same)
        };
        let node = Node {
            inputs: vec![input],
            changelog: source.changelog,
            key: source
                .key
                .as_ref()
                .and_then(|key| key.iter().map(key_place).collect()),
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

    pub(super) fn compile(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        if has_timed_condition(expr) {
            return Err(misplaced());
        }
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
        let input = self.plan(&aggregate.input)?;
        if let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() {
            return self.grouping_sets(input, aggregate, sets);
        }
        let schema = aggregate.input.schema();
        let (mapped, calls) =
            self.group_input(input, schema, &aggregate.group_expr, &aggregate.aggr_expr)?;
        let group: Vec<usize> = (0..aggregate.group_expr.len()).collect();
        let output = arrow_schema(&aggregate.schema);
        Ok(
            if let Some(node) = self.session_aggregate(mapped, &group, &calls, &output) {
                node
            } else if let Some(node) = self.pane_aggregate(mapped, &group, &calls, &output) {
                node
            } else {
                self.grouped(mapped, group, calls, output)
            },
        )
    }

    /// What an aggregate works on: the columns of its groups, and behind them what its functions
    /// take and are not groups' columns; and the functions over them.
    pub(super) fn group_input(
        &mut self,
        input: usize,
        schema: &DFSchema,
        group: &[Expr],
        functions: &[Expr],
    ) -> Result<(usize, Vec<AggregateCall>)> {
        let mut project = Vec::new();
        for expr in group {
            project.push(self.compile(expr, schema)?);
        }
        let calls = aggregate_calls(
            functions,
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
        Ok((self.map_compiled(input, None, project, narrow), calls))
    }

    fn distinct(&mut self, plan: &LogicalPlan) -> Result<usize> {
        let input = self.plan(plan)?;
        let schema = self.nodes[input].schema.clone();
        let group = (0..schema.fields().len()).collect();
        Ok(self.grouped(input, group, Vec::new(), schema))
    }

    pub(super) fn grouped(
        &mut self,
        input: usize,
        group: Vec<usize>,
        calls: Vec<AggregateCall>,
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
        let close = close_column(&bounded, &source.schema).map(|column| Close {
            column,
            emit: CloseEmit::OnUpdate,
            lateness_micros: 0,
        });
        let is_distinct_only = calls.is_empty() && !group.is_empty();
        let is_append_only = source.changelog == Changelog::AppendOnly;
        let idle_micros = self.idle_micros(exchanged, close.is_none() && !group.is_empty());
        let spec = AggregateSpec {
            input: source.schema.clone(),
            group: group.clone(),
            calls,
            output: output.clone(),
            close,
            idle_micros,
            panes: None,
            is_append_only,
            is_global: group.is_empty(),
        };
        let node = Node {
            operation: Operation::Aggregate(spec),
            inputs: vec![exchanged],
            schema: output,
            changelog: match is_distinct_only && is_append_only && idle_micros.is_none() {
                true => Changelog::AppendOnly,
                false => Changelog::Retracting,
            },
            key: Some(group),
            bounded,
        };
        self.add(node)
    }

    /// The schema of compiled expressions over a node's output.
    pub(super) fn projected_schema(
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

    /// The node with the expressions as columns; those that are columns already are not added.
    pub(super) fn with_columns(
        &mut self,
        input: usize,
        schema: &DFSchema,
        exprs: &[Expr],
    ) -> Result<(usize, Vec<usize>)> {
        let mut project = all_columns(&self.nodes[input].schema);
        let known = project.len();
        let mut places = Vec::new();
        for expr in exprs {
            let compiled = self.compile(expr, schema)?;
            places.push(plain_column(&compiled).unwrap_or_else(|| {
                project.push(compiled);
                project.len() - 1
            }));
        }
        let is_computed = project.len() > known;
        let output = self.projected_schema(input, &project)?;
        let node = self.map_compiled(input, None, project, output);
        if is_computed {
            self.computed.insert(node, known);
        }
        Ok((node, places))
    }

    /// Gives up the nodes from one on.
    pub(super) fn truncate(&mut self, node: usize) {
        self.nodes.truncate(node);
        self.computed.retain(|&known, _| known < node);
    }

    /// How many of the columns that come into a node the query has: others were computed for it.
    fn known_columns(&self, node: usize) -> usize {
        let input = self.nodes[node].inputs[0];
        let width = self.nodes[input].schema.fields().len();
        let passes = |at: &usize| match self.nodes[*at].operation {
            Operation::Exchange(_) | Operation::Judge(_) => Some(self.nodes[*at].inputs[0]),
            _ => None,
        };
        let mut below = std::iter::successors(Some(input), passes);
        let known = below.find_map(|at| self.computed.get(&at).copied());
        known.unwrap_or(width)
    }

    pub(super) fn union(&mut self, inputs: Vec<usize>, schema: SchemaRef) -> usize {
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
        self.check_state_ttl()?;
        let last = self.nodes.last().expect("a plan has a node");
        let retention = self.retention(self.nodes.len() - 1, &schema)?;
        let is_retracted = retention.is_some_and(|r| r.mode == RetentionMode::Retract);
        let bounded = match self.has_leaving() || is_retracted {
            // Above it a window that has closed would be one whose rows have left.
            true => Vec::new(),
            false => last.bounded.clone(),
        };
        Ok(StreamPlan {
            schema,
            key: last.key.clone(),
            changelog: match retention {
                None => last.changelog,
                Some(retention) => retention.changelog(last.changelog),
            },
            bounded,
            depends_on,
            late: match self.options.late_rows {
                LateOption::Discard => None,
                LateOption::SideOutput => {
                    LatePlan::of(&self.nodes, |node| self.known_columns(node))
                }
            },
            retention,
            nodes: self.nodes,
        })
    }
}

pub(super) fn arrow_schema(schema: &DFSchema) -> SchemaRef {
    Arc::new(schema.as_arrow().clone().with_metadata(Default::default()))
}

pub(super) fn all_columns(schema: &SchemaRef) -> Vec<Arc<dyn PhysicalExpr>> {
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

/// The input column that an expression tells apart as that does: itself, or a rank as a signed
/// number.
fn key_column(expr: &Arc<dyn PhysicalExpr>, input: &SchemaRef) -> Option<usize> {
    let any: &dyn std::any::Any = expr.as_ref();
    match any.downcast_ref::<CastExpr>() {
        None => plain_column(expr),
        Some(cast) => plain_column(cast.expr()).filter(|&column| {
            let from = input.field(column).data_type();
            *from == DataType::UInt64 && *cast.cast_type() == DataType::Int64
        }),
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
                    && as_now_is(expr).is_none()
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
        Some(name) if is_clock(&name) => Err(misplaced()),
        Some(name) => Err(Error::unsupported(format!(
            "function {name}() cannot be used in a view"
        ))
        .detail("its value changes from call to call, and a view depends on its inputs only")
        .hint("use a column of the source, or call it in the SELECT that reads the view")),
    }
}

fn refusal(plan: &LogicalPlan) -> Error {
    match plan {
        LogicalPlan::Sort(_) => {
            Error::unsupported("ORDER BY without LIMIT is not supported in views")
                .hint("order the SELECT that reads the view, or say how many rows with LIMIT")
        }
        LogicalPlan::Unnest(_) => Error::unsupported("unnest() is not supported in views")
            .hint("use it in the SELECT that reads the view"),
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
