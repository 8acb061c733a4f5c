//! HOP by panes: where an aggregate counts each row once instead of once per window.
//!
//! ```text
//!   Aggregate by (a, window_start, window_end)          Pane aggregate by (a)
//!   Exchange by (a, window_start, window_end)    ──►    Exchange by (a)
//!   Map a, window_start, window_end                     Map a, pane_start
//!   Window hop, a row per window                        Window hop, in panes
//! ```
//!
//! The planner replaces the tail of the plan where nothing but the aggregate looks at the windows,
//! results appear on close, and its functions can be combined; everywhere else the plan says why
//! there is a row per window.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;

use crate::base::limits::PANES_PER_SLIDE_MAX;
use crate::catalog::Changelog;
use crate::function::window::{Panes, WindowKind};
use crate::operator::aggregate::{AggregateCall, AggregateFunction, PaneAggregateSpec};
use crate::operator::window::{Assignment, WindowSpec};
use crate::plan::build::{Build, column_expr, plain_column};
use crate::plan::stream::{Node, Operation};
use crate::sql::statement::Emit;

/// The name of the column that says which pane a row is in.
const PANE_START: &str = "pane_start";

/// Why a HOP whose windows overlap has a row per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expansion {
    NotGrouped,
    OnUpdate,
    Lateness,
    Calendar,
    Short,
    Function,
    Retracting,
    Sources,
    Unbounded,
    Used,
    BoundedKey,
}

impl Expansion {
    /// Of a window of which nothing else is known; `None` where a row is in one window at most.
    pub(super) fn of(kind: WindowKind) -> Option<Expansion> {
        match kind {
            WindowKind::Calendar(_) if kind.is_hopping() => Some(Expansion::Calendar),
            kind => Panes::of(kind).map(|_| Expansion::NotGrouped),
        }
    }
}

impl fmt::Display for Expansion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Expansion::NotGrouped => "no aggregate by window is directly above",
            Expansion::OnUpdate => "results appear on update",
            Expansion::Lateness => "windows are corrected after their close",
            Expansion::Calendar => "lengths on the calendar differ",
            Expansion::Short => "panes would be too short",
            Expansion::Function => "an aggregate cannot be combined",
            Expansion::Retracting => "min or max of rows that can be taken back",
            Expansion::Sources => "several sources tell the time",
            Expansion::Unbounded => "no watermark closes windows",
            Expansion::Used => "an expression uses a window's bounds",
            Expansion::BoundedKey => "time bounds another key",
        })
    }
}

/// What a column above the window is.
#[derive(Clone, Copy)]
enum Column {
    /// A column of the plan by panes.
    Plain(usize),
    Start,
    End,
}

/// A filter and projection of the plan by panes.
struct Step {
    filter: Option<Arc<dyn PhysicalExpr>>,
    project: Vec<Arc<dyn PhysicalExpr>>,
    output: SchemaRef,
}

/// The tail of the plan by panes.
struct Tail {
    panes: Panes,
    steps: Vec<Step>,
    /// Columns of the last step.
    keys: Vec<usize>,
    pane_column: usize,
    calls: Vec<AggregateCall>,
    /// For each column of the group its place in the pane aggregate's output.
    order: Vec<usize>,
}

impl Build<'_> {
    /// The aggregate by panes in place of one over a row per window; `None` where that is not
    /// possible, which the window then says why.
    pub(super) fn pane_aggregate(
        &mut self,
        mapped: usize,
        group: &[usize],
        calls: &[AggregateCall],
        output: &SchemaRef,
    ) -> Option<usize> {
        let window = self.window_below(mapped)?;
        match self.pane_tail(window, mapped, group, calls) {
            Ok(tail) => Some(self.by_panes(window, tail, output)),
            Err(why) => {
                if let Operation::Window(_, expansion) = &mut self.nodes[window].operation {
                    *expansion = Some(why);
                }
                None
            }
        }
    }

    /// The HOP that is, through filters and projections only, below the plan's last node.
    fn window_below(&self, mapped: usize) -> Option<usize> {
        let mut at = mapped;
        while let Operation::Map(_) = self.nodes[at].operation
            && self.nodes[at].inputs[0] + 1 == at
        {
            at -= 1;
        }
        let is_last = mapped + 1 == self.nodes.len();
        let is_hop = matches!(self.nodes[at].operation, Operation::Window(_, Some(_)));
        (is_last && is_hop).then_some(at)
    }

    fn pane_tail(
        &self,
        window: usize,
        mapped: usize,
        group: &[usize],
        calls: &[AggregateCall],
    ) -> Result<Tail, Expansion> {
        let node = &self.nodes[window];
        let Operation::Window(spec, _) = &node.operation else {
            return Err(Expansion::NotGrouped);
        };
        let panes = Panes::of(spec.kind).ok_or(Expansion::Calendar)?;
        self.check_panes(node, spec, panes, calls)?;
        let width = spec.input.fields().len();
        let mut columns: Vec<Column> = (0..width).map(Column::Plain).collect();
        columns.extend([Column::Start, Column::End]);
        let mut schema = pane_schema(spec);
        let mut steps = Vec::new();
        for above in &self.nodes[window + 1..=mapped] {
            let Operation::Map(map) = &above.operation else {
                return Err(Expansion::NotGrouped);
            };
            let filter = map.filter.as_ref().map(|filter| rebased(filter, &columns));
            let filter = filter.transpose()?;
            let (mut project, mut fields, mut projected) = (Vec::new(), Vec::new(), Vec::new());
            for (expr, field) in map.project.iter().zip(map.output.fields()) {
                match plain_column(expr).map(|column| columns[column]) {
                    Some(bound @ (Column::Start | Column::End)) => projected.push(bound),
                    Some(Column::Plain(_)) | None => {
                        projected.push(Column::Plain(project.len()));
                        project.push(rebased(expr, &columns)?);
                        fields.push(field.clone());
                    }
                }
            }
            let pane = schema.fields().len() - 1;
            project.push(column_expr(&schema, pane));
            fields.push(schema.fields()[pane].clone());
            columns = projected;
            schema = Arc::new(Schema::new(fields));
            steps.push(Step {
                filter,
                project,
                output: schema.clone(),
            });
        }
        let mut keys = Vec::new();
        let mut bounds = Vec::new();
        for &column in group {
            match columns[column] {
                Column::Plain(_) if self.nodes[mapped].bounded.contains(&column) => {
                    return Err(Expansion::BoundedKey);
                }
                Column::Plain(place) => keys.push(place),
                bound @ (Column::Start | Column::End) => bounds.push(bound),
            }
        }
        if bounds.is_empty() {
            return Err(Expansion::NotGrouped);
        }
        let mut plain = 0..;
        let mut place = |column: &usize| match columns[*column] {
            Column::Plain(_) => plain.next().expect("numbers do not end"),
            Column::Start => keys.len(),
            Column::End => keys.len() + 1,
        };
        let order = group.iter().map(&mut place).collect();
        let of_rows = |column: usize| match columns[column] {
            Column::Plain(place) => Ok(place),
            Column::Start | Column::End => Err(Expansion::Used),
        };
        let moved = |call: &AggregateCall| {
            Ok(AggregateCall {
                function: call.function.clone(),
                argument: call.argument.map(of_rows).transpose()?,
                filter: call.filter.map(of_rows).transpose()?,
            })
        };
        Ok(Tail {
            panes,
            steps,
            pane_column: schema.fields().len() - 1,
            calls: calls.iter().map(moved).collect::<Result<_, Expansion>>()?,
            order,
            keys,
        })
    }

    /// What does not depend on the columns.
    fn check_panes(
        &self,
        node: &Node,
        spec: &WindowSpec,
        panes: Panes,
        calls: &[AggregateCall],
    ) -> Result<(), Expansion> {
        let is_bounded = node.bounded.contains(&spec.input.fields().len());
        let is_extreme = |call: &AggregateCall| {
            matches!(
                call.function,
                AggregateFunction::Min | AggregateFunction::Max
            )
        };
        let refusals = [
            (
                self.options.emit != Some(Emit::OnWindowClose),
                Expansion::OnUpdate,
            ),
            (spec.lateness_micros != 0, Expansion::Lateness),
            (!is_bounded, Expansion::Unbounded),
            (
                spec.judges && self.is_union(node.inputs[0]),
                Expansion::Sources,
            ),
            (
                !calls.iter().all(|call| call.function.is_mergeable()),
                Expansion::Function,
            ),
            (
                node.changelog == Changelog::Retracting && calls.iter().any(is_extreme),
                Expansion::Retracting,
            ),
            (panes.per_slide() > PANES_PER_SLIDE_MAX, Expansion::Short),
        ];
        match refusals.into_iter().find(|(applies, _)| *applies) {
            Some((_, why)) => Err(why),
            None => Ok(()),
        }
    }

    fn by_panes(&mut self, window: usize, tail: Tail, output: &SchemaRef) -> usize {
        self.nodes.truncate(window + 1);
        let source = &self.nodes[self.nodes[window].inputs[0]];
        let (key, mut bounded) = (source.key.clone(), source.bounded.clone());
        let node = &mut self.nodes[window];
        let Operation::Window(spec, expansion) = &mut node.operation else {
            unreachable!("the tail is over a window");
        };
        *expansion = None;
        let width = spec.input.fields().len();
        let bounds = spec.output.fields()[width..].to_vec();
        spec.assignment = Assignment::Panes(tail.panes);
        spec.output = pane_schema(spec);
        node.schema = spec.output.clone();
        node.key = key;
        bounded.push(width);
        node.bounded = bounded;
        let mut at = window;
        for step in tail.steps {
            at = self.map_compiled(at, step.filter, step.project, step.output);
        }
        let exchanged = self.exchange(at, tail.keys.clone());
        let source = &self.nodes[exchanged];
        let keys = tail.keys.len();
        let of_keys = tail.order.iter().zip(output.fields());
        let of_keys = of_keys.filter(|(place, _)| **place < keys);
        let values = &output.fields()[tail.order.len()..];
        let fields = of_keys.map(|(_, field)| field).chain(&bounds).chain(values);
        let schema: SchemaRef = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
        let mut key = tail.order.clone();
        key.sort_unstable();
        key.dedup();
        let node = Node {
            inputs: vec![exchanged],
            // Windows come out once and are never taken back.
            changelog: Changelog::AppendOnly,
            key: Some(key),
            bounded: vec![keys, keys + 1],
            schema: schema.clone(),
            operation: Operation::PaneAggregate(PaneAggregateSpec {
                input: source.schema.clone(),
                keys: tail.keys,
                pane_column: tail.pane_column,
                panes: tail.panes,
                calls: tail.calls,
                is_append_only: source.changelog == Changelog::AppendOnly,
                output: schema.clone(),
            }),
        };
        let node = self.add(node);
        let columns = tail
            .order
            .into_iter()
            .chain(keys + 2..schema.fields().len());
        let project = columns.map(|column| column_expr(&schema, column)).collect();
        self.map_compiled(node, None, project, output.clone())
    }
}

/// The window's input and the column that says which pane a row is in.
fn pane_schema(spec: &WindowSpec) -> SchemaRef {
    let width = spec.input.fields().len();
    let pane: Field = spec.output.field(width).clone().with_name(PANE_START);
    let mut fields: Vec<_> = spec.input.fields().iter().cloned().collect();
    fields.push(Arc::new(pane));
    Arc::new(Schema::new(fields))
}

/// An expression over the columns of the plan by panes.
fn rebased(
    expr: &Arc<dyn PhysicalExpr>,
    columns: &[Column],
) -> Result<Arc<dyn PhysicalExpr>, Expansion> {
    let mut is_of_rows = true;
    let rebased = expr.clone().transform(|expr| {
        let any: &dyn std::any::Any = expr.as_ref();
        let Some(column) = any.downcast_ref::<PhysicalColumn>() else {
            return Ok(Transformed::no(expr));
        };
        let Column::Plain(place) = columns[column.index()] else {
            is_of_rows = false;
            return Ok(Transformed::no(expr));
        };
        let moved = PhysicalColumn::new(column.name(), place);
        Ok(Transformed::yes(Arc::new(moved) as Arc<dyn PhysicalExpr>))
    });
    match rebased {
        Ok(rebased) if is_of_rows => Ok(rebased.data),
        Ok(_) | Err(_) => Err(Expansion::Used),
    }
}
