//! HOP by panes: where an aggregate counts each row once instead of once per window.
//!
//! ```text
//!   Aggregate by (a, window_start, window_end)          Pane aggregate by (a)
//!   Exchange by (a, window_start, window_end)    ──►    Exchange by (a)
//!   Map a, window_start, window_end                     Map a, pane_start
//!   Window hop, a row per window                        Window hop, in panes
//! ```
//!
//! The planner replaces the tail of the plan where nothing but the aggregate looks at the windows
//! and its functions can be combined; everywhere else the plan says why there is a row per window.
//! There are two forms. Where windows come out once, when they have closed, panes are the state.
//! Everywhere else windows are, and panes are what a step's rows are added up by first:
//!
//! ```text
//!   Aggregate by (a, window_start, window_end), a step's rows by panes first
//!   Exchange by (a)
//!   Map a, window_start, window_end                     the end is NULL, of rows that have a pane
//!   Window hop, in panes
//! ```

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;

use crate::catalog::Changelog;
use crate::function::window::{Panes, WindowKind};
use crate::operator::aggregate::{
    AggregateCall, AggregateSpec, Close, CloseEmit, PaneAggregateSpec, PaneKey,
};
use crate::operator::temporal::{Condition, TemporalSpec};
use crate::operator::window::{Assignment, WindowSpec};
use crate::plan::build::{Build, column_expr, plain_column};
use crate::plan::emit::close_column;
use crate::plan::stream::{Node, Operation};
use crate::plan::window::WINDOW_END;
use crate::sql::statement::Emit;

/// The name of the column that says which pane a row is in.
const PANE_START: &str = "pane_start";

/// Why a HOP whose windows overlap has a row per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expansion {
    NotGrouped,
    Calendar,
    Few,
    Function,
    Retracting,
    Used,
    Timed,
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
            Expansion::Calendar => "lengths on the calendar differ",
            Expansion::Few => "a row is in too few windows for their panes",
            Expansion::Function => "an aggregate cannot be combined",
            Expansion::Retracting => "min or max of rows that can be taken back",
            Expansion::Used => "an expression uses a window's bounds",
            Expansion::Timed => "rows that can be taken back wait for the clock",
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

/// What is kept by panes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// All rows of open windows: a window is put together when it closes.
    State,
    /// The rows of a step, before they count for windows.
    Gathered,
}

/// A node of the plan by panes, between the window and the aggregate.
enum Step {
    Map {
        filter: Option<Arc<dyn PhysicalExpr>>,
        project: Vec<Arc<dyn PhysicalExpr>>,
        output: SchemaRef,
    },
    Temporal(TemporalSpec),
}

/// The tail of the plan by panes.
struct Tail {
    form: Form,
    panes: Panes,
    steps: Vec<Step>,
    /// Columns of the last step; behind all others are those of the pane.
    keys: Vec<usize>,
    calls: Vec<AggregateCall>,
    /// For each column of the group its place in the pane aggregate's output.
    order: Vec<usize>,
}

impl Tail {
    /// Whether a key other than the window has a bound in the node below the aggregate.
    fn has_other_bound(&self, group: &[usize], last: &Node) -> bool {
        let mut keys = group.iter().zip(&self.order);
        keys.any(|(column, place)| *place < self.keys.len() && last.bounded.contains(column))
    }
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
        let tail = |form: Form| self.pane_tail(form, window, mapped, group, calls);
        let found = match self.closes_by_panes(window, mapped) {
            true => match tail(Form::State) {
                // Where time bounds another key, too, a window's rows may be final before it
                // closes.
                Ok(found) if found.has_other_bound(group, &self.nodes[mapped]) => {
                    tail(Form::Gathered)
                }
                found => found,
            },
            false => tail(Form::Gathered),
        };
        match found {
            Ok(tail) => Some(self.by_panes(window, tail, output)),
            Err(why) => {
                if let Operation::Window(_, expansion) = &mut self.nodes[window].operation {
                    *expansion = Some(why);
                }
                None
            }
        }
    }

    /// The HOP that is below the plan's last node, through projections and filters only, those by
    /// the clock among them.
    fn window_below(&self, mapped: usize) -> Option<usize> {
        let mut at = mapped;
        while let Operation::Map(_) | Operation::Temporal(_) = self.nodes[at].operation
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
        form: Form,
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
        check_calls(&self.nodes[mapped], panes, calls)?;
        let width = spec.input.fields().len();
        let mut columns: Vec<Column> = (0..width).map(Column::Plain).collect();
        columns.extend([Column::Start, Column::End]);
        let mut schema = pane_schema(spec, form);
        let carried = schema.fields().len() - width;
        let mut steps = Vec::new();
        for above in &self.nodes[window + 1..=mapped] {
            let map = match &above.operation {
                Operation::Map(map) => map,
                Operation::Temporal(spec) => {
                    // One that is late for some windows is another row when it is taken back.
                    if node.changelog == Changelog::Retracting {
                        return Err(Expansion::Timed);
                    }
                    steps.push(Step::Temporal(rebased_spec(spec, &schema, &columns)?));
                    continue;
                }
                _ => return Err(Expansion::NotGrouped),
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
            for column in schema.fields().len() - carried..schema.fields().len() {
                project.push(column_expr(&schema, column));
                fields.push(schema.fields()[column].clone());
            }
            columns = projected;
            schema = Arc::new(Schema::new(fields));
            steps.push(Step::Map {
                filter,
                project,
                output: schema.clone(),
            });
        }
        let mut keys = Vec::new();
        let mut bounds = Vec::new();
        for &column in group {
            match columns[column] {
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
            form,
            panes,
            steps,
            calls: calls.iter().map(moved).collect::<Result<_, Expansion>>()?,
            order,
            keys,
        })
    }

    /// Whether windows come out once, when they have closed, and a window's rows are then those
    /// that have come: no correction follows, and all rows were judged by the watermark that closes
    /// it.
    fn closes_by_panes(&self, window: usize, mapped: usize) -> bool {
        let node = &self.nodes[window];
        let Operation::Window(spec, _) = &node.operation else {
            return false;
        };
        let is_map = |node: &Node| matches!(node.operation, Operation::Map(_));
        let start = spec.input.fields().len();
        self.options.emit == Some(Emit::OnWindowClose)
            && spec.lateness_micros == 0
            && node.bounded.contains(&start)
            && !(spec.judges && self.is_union(node.inputs[0]))
            && self.nodes[window + 1..=mapped].iter().all(is_map)
    }

    fn by_panes(&mut self, window: usize, tail: Tail, output: &SchemaRef) -> usize {
        self.truncate(window + 1);
        let source = &self.nodes[self.nodes[window].inputs[0]];
        let (key, mut bounded) = (source.key.clone(), source.bounded.clone());
        let node = &mut self.nodes[window];
        let Operation::Window(spec, expansion) = &mut node.operation else {
            unreachable!("the tail is over a window");
        };
        *expansion = None;
        let width = spec.input.fields().len();
        let bounds = spec.output.fields()[width..].to_vec();
        spec.output = pane_schema(spec, tail.form);
        node.schema = spec.output.clone();
        match tail.form {
            Form::State => {
                spec.assignment = Assignment::Panes(tail.panes);
                node.key = key;
                bounded.push(width);
                node.bounded = bounded;
            }
            Form::Gathered => spec.assignment = Assignment::PanesOrWindows(tail.panes),
        }
        let mut at = window;
        for step in tail.steps {
            at = match step {
                Step::Map {
                    filter,
                    project,
                    output,
                } => self.map_compiled(at, filter, project, output),
                Step::Temporal(spec) => self.temporal_of(at, spec),
            };
        }
        let at = self.exchange(at, tail.keys.clone());
        let source = &self.nodes[at];
        let keys = tail.keys.len();
        let of_keys = tail.order.iter().zip(output.fields());
        let of_keys = of_keys.filter(|(place, _)| **place < keys);
        let values = &output.fields()[tail.order.len()..];
        let fields = of_keys.map(|(_, field)| field).chain(&bounds).chain(values);
        let schema: SchemaRef = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
        let mut key = tail.order.clone();
        key.sort_unstable();
        key.dedup();
        let is_append_only = source.changelog == Changelog::AppendOnly;
        let pane = source.schema.fields().len() - carried(tail.form);
        let node = match tail.form {
            Form::State => Node {
                inputs: vec![at],
                // Windows come out once and are never taken back.
                changelog: Changelog::AppendOnly,
                key: Some(key),
                bounded: vec![keys, keys + 1],
                schema: schema.clone(),
                operation: Operation::PaneAggregate(PaneAggregateSpec {
                    input: source.schema.clone(),
                    keys: tail.keys,
                    pane_column: pane,
                    panes: tail.panes,
                    calls: tail.calls,
                    is_append_only,
                    output: schema.clone(),
                }),
            },
            Form::Gathered => {
                let mut group = tail.keys;
                group.extend([pane, pane + 1]);
                let of_group = (0..).zip(&group);
                let is_bounded = |(_, column): &(usize, &usize)| source.bounded.contains(column);
                let bounded = of_group.filter(is_bounded).map(|(at, _)| at);
                let bounded: Vec<usize> = bounded.collect();
                let close = close_column(&bounded, &schema).map(|column| Close {
                    column,
                    emit: CloseEmit::OnUpdate,
                    lateness_micros: 0,
                });
                let idle_micros = self.idle_micros(at, close.is_none());
                Node {
                    inputs: vec![at],
                    changelog: match tail.calls.is_empty()
                        && is_append_only
                        && idle_micros.is_none()
                    {
                        true => Changelog::AppendOnly,
                        false => Changelog::Retracting,
                    },
                    key: Some(key),
                    bounded,
                    schema: schema.clone(),
                    operation: Operation::Aggregate(AggregateSpec {
                        input: source.schema.clone(),
                        group,
                        calls: tail.calls,
                        output: schema.clone(),
                        close,
                        idle_micros,
                        panes: Some(PaneKey {
                            panes: tail.panes,
                            start: keys,
                            end: keys + 1,
                        }),
                        is_append_only,
                        is_global: false,
                    }),
                }
            }
        };
        let node = self.add(node);
        let columns = tail
            .order
            .into_iter()
            .chain(keys + 2..schema.fields().len());
        let project = columns.map(|column| column_expr(&schema, column)).collect();
        self.map_compiled(node, None, project, output.clone())
    }

    /// A temporal filter, over a node that is never taken back.
    fn temporal_of(&mut self, input: usize, spec: TemporalSpec) -> usize {
        let mut conditions = spec.conditions.iter();
        let leaves = conditions.any(|condition| !condition.relation.is_lasting());
        let node = Node {
            inputs: vec![input],
            changelog: match leaves {
                true => Changelog::Retracting,
                false => Changelog::AppendOnly,
            },
            key: self.nodes[input].key.clone(),
            bounded: spec.bounded.clone(),
            schema: spec.input.clone(),
            operation: Operation::Temporal(spec),
        };
        self.add(node)
    }
}

/// What does not depend on the columns; `last` is the node below the aggregate.
fn check_calls(last: &Node, panes: Panes, calls: &[AggregateCall]) -> Result<(), Expansion> {
    let is_extreme = |call: &AggregateCall| call.function.is_extreme();
    if !calls.iter().all(|call| call.function.is_mergeable()) {
        return Err(Expansion::Function);
    }
    if last.changelog == Changelog::Retracting && calls.iter().any(is_extreme) {
        return Err(Expansion::Retracting);
    }
    match panes.pay() {
        true => Ok(()),
        false => Err(Expansion::Few),
    }
}

/// How many columns say which pane a row is in.
fn carried(form: Form) -> usize {
    match form {
        Form::State => 1,
        Form::Gathered => 2,
    }
}

/// The window's input and the columns that say which pane a row is in, or which window.
fn pane_schema(spec: &WindowSpec, form: Form) -> SchemaRef {
    let width = spec.input.fields().len();
    let mut fields: Vec<_> = spec.input.fields().iter().cloned().collect();
    let start: Field = spec.output.field(width).clone();
    match form {
        Form::State => fields.push(Arc::new(start.with_name(PANE_START))),
        Form::Gathered => {
            let end = start.clone().with_name(WINDOW_END).with_nullable(true);
            fields.extend([Arc::new(start), Arc::new(end)]);
        }
    }
    Arc::new(Schema::new(fields))
}

/// A temporal filter over the columns of the plan by panes.
fn rebased_spec(
    spec: &TemporalSpec,
    schema: &SchemaRef,
    columns: &[Column],
) -> Result<TemporalSpec, Expansion> {
    let place = |column: usize| match columns[column] {
        Column::Plain(place) => Ok(place),
        Column::Start | Column::End => Err(Expansion::Used),
    };
    let condition = |condition: &Condition| {
        Ok(Condition {
            column: place(condition.column)?,
            ..*condition
        })
    };
    let conditions = spec.conditions.iter().map(condition);
    let bounded = spec.bounded.iter().map(|&column| place(column));
    Ok(TemporalSpec {
        input: schema.clone(),
        conditions: conditions.collect::<Result<_, _>>()?,
        is_append_only: spec.is_append_only,
        bounded: bounded.collect::<Result<_, _>>()?,
    })
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
