//! Windows in a stream plan: which rows are judged, and what their bounds are worth.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::{Extension, UserDefinedLogicalNodeCore};

use crate::catalog::Changelog;
use crate::error::{Error, Result};
use crate::operator::aggregate::{AggregateCall, SessionAggregateSpec};
use crate::operator::session::{SessionEmit, SessionSpec};
use crate::operator::window::{Assignment, WindowSpec};
use crate::plan::as_of::AsOfNode;
use crate::plan::build::{Build, arrow_schema, column_expr, plain_column};
use crate::plan::failure::from_datafusion;
use crate::plan::lookup::{CurrentNode, misplaced_lookup};
use crate::plan::panes::Expansion;
use crate::plan::repeat::RepeatNode;
use crate::plan::session::SessionNode;
use crate::plan::stream::{Node, Operation};
use crate::plan::window::WindowNode;
use crate::sql::statement::Emit;

impl Build<'_> {
    pub(super) fn extension(&mut self, extension: &Extension) -> Result<usize> {
        let node = extension.node.as_any();
        if let Some(window) = node.downcast_ref::<WindowNode>() {
            return self.window(window);
        }
        if let Some(session) = node.downcast_ref::<SessionNode>() {
            return self.session(session);
        }
        if let Some(as_of) = node.downcast_ref::<AsOfNode>() {
            return self.as_of(as_of);
        }
        if let Some(repeat) = node.downcast_ref::<RepeatNode>() {
            return self.repeat(repeat);
        }
        if node.downcast_ref::<CurrentNode>().is_some() {
            return Err(misplaced_lookup());
        }
        let name = extension.node.name();
        Err(Error::internal(format!("unknown plan node {name}")))
    }

    fn window(&mut self, window: &WindowNode) -> Result<usize> {
        let input = self.plan(&window.input)?;
        let source = &self.nodes[input];
        let time_column = window.time_index().map_err(from_datafusion)?;
        let width = source.schema.fields().len();
        let mut bounded = source.bounded.clone();
        if self.is_timed(input, time_column) {
            bounded.extend([width, width + 1]);
        }
        let source = &self.nodes[input];
        let key = source.key.clone().map(|mut key| {
            // What tells the windows of a row apart.
            key.extend(window.kind.is_hopping().then_some(width));
            key.extend(window.kind.is_cumulating().then_some(width + 1));
            key
        });
        let output = arrow_schema(window.schema());
        let node = Node {
            operation: Operation::Window(
                WindowSpec {
                    input: source.schema.clone(),
                    time_column,
                    kind: window.kind,
                    assignment: Assignment::Windows,
                    output: output.clone(),
                    lateness_micros: self.options.allowed_lateness_micros,
                    judges: self.judges(input, time_column),
                },
                Expansion::of(window.kind),
            ),
            inputs: vec![input],
            changelog: source.changelog,
            key,
            bounded,
            schema: output,
        };
        Ok(self.add(node))
    }

    /// Sessions of each key on one shard. A computed key is a column of theirs and leaves again.
    fn session(&mut self, session: &SessionNode) -> Result<usize> {
        let input = self.plan(&session.input)?;
        let time_column = session.time_index().map_err(from_datafusion)?;
        let judges = self.judges(input, time_column);
        if judges && self.is_union(input) {
            return Err(
                Error::unsupported("SESSION over a UNION ALL of sources is not supported")
                    .detail("which rows are late would depend on the order of the sources' rows")
                    .hint("give each source its own SESSION"),
            );
        }
        if judges && self.is_lookup(input) {
            return Err(Error::unsupported(
                "SESSION over a lookup join by event time is not supported",
            )
            .detail("rows come out of the join by key, not in the order of the source")
            .hint("make the sessions in a view below the join"));
        }
        let is_timed = self.is_timed(input, time_column);
        let schema = session.input.schema();
        let (keyed, keys) = self.with_columns(input, schema, &session.keys)?;
        let exchanged = self.exchange(keyed, keys.clone());
        let source = &self.nodes[exchanged];
        let (kept, width) = (schema.fields().len(), source.schema.fields().len());
        let planned = arrow_schema(session.schema());
        let mut fields: Vec<_> = source.schema.fields().iter().cloned().collect();
        fields.extend(planned.fields()[kept..].iter().cloned());
        let output = Arc::new(Schema::new(fields));
        let lateness_micros = self.options.allowed_lateness_micros;
        // Without a time that is bounded no session ever is final; then the view is refused.
        let is_final =
            is_timed && lateness_micros == 0 && self.options.emit == Some(Emit::OnWindowClose);
        let emit = match is_final {
            true => SessionEmit::OnClose,
            false => SessionEmit::OnUpdate,
        };
        let node = Node {
            operation: Operation::Session(SessionSpec {
                input: source.schema.clone(),
                time_column,
                keys,
                gap_micros: session.gap_micros,
                output: output.clone(),
                lateness_micros,
                judges,
                is_append_only: source.changelog == Changelog::AppendOnly,
                emit,
            }),
            inputs: vec![exchanged],
            // A row's session changes with the rows around it.
            changelog: match emit {
                SessionEmit::OnClose => Changelog::AppendOnly,
                SessionEmit::OnUpdate => Changelog::Retracting,
            },
            key: source.key.clone(),
            bounded: match is_timed {
                true => vec![width, width + 1],
                false => Vec::new(),
            },
            schema: output,
        };
        let session = self.add(node);
        let schema = self.nodes[session].schema.clone();
        let columns = (0..kept).chain(width..width + 2);
        let project = columns.map(|column| column_expr(&schema, column)).collect();
        Ok(self.map_compiled(session, None, project, planned))
    }

    /// The aggregate by session as one operator that keeps no rows, in place of the sessions of
    /// rows below it: where rows only come, what is grouped by is the session and its keys, what
    /// is aggregated are columns, and two groups can become one. `None` where that is not so.
    pub(super) fn session_aggregate(
        &mut self,
        mapped: usize,
        group: &[usize],
        calls: &[AggregateCall],
        output: &SchemaRef,
    ) -> Option<usize> {
        let mut places: Vec<usize> = (0..self.nodes[mapped].schema.fields().len()).collect();
        let mut at = mapped;
        while let Operation::Map(map) = &self.nodes[at].operation {
            if map.filter.is_some() || self.nodes[at].inputs[0] + 1 != at {
                return None;
            }
            let pass = |&place: &usize| plain_column(&map.project[place]);
            places = places.iter().map(pass).collect::<Option<_>>()?;
            at -= 1;
        }
        let Operation::Session(session) = &self.nodes[at].operation else {
            return None;
        };
        let is_last = mapped + 1 == self.nodes.len();
        let closes = self.options.emit == Some(Emit::OnWindowClose);
        let shows = closes == (session.emit == SessionEmit::OnClose);
        let width = session.input.fields().len();
        let keys = session.keys.len();
        // Where each column of the group is in the output.
        let of_group = |place: usize| match place.checked_sub(width) {
            Some(bound) => Some(keys + bound),
            None => session.keys.iter().position(|&key| key == place),
        };
        let order = group.iter().map(|&column| of_group(places[column]));
        let order: Vec<usize> = order.collect::<Option<_>>()?;
        let is_whole = order.iter().copied().collect::<BTreeSet<_>>().len() == keys + 2;
        let is_of_input = |column: &Option<usize>| column.is_none_or(|c| places[c] < width);
        let is_fit = |call: &AggregateCall| {
            call.function.is_mergeable() && is_of_input(&call.argument) && is_of_input(&call.filter)
        };
        let is_fit = calls.iter().all(is_fit) && order.len() == keys + 2;
        if !(is_last && shows && session.is_append_only && is_whole && is_fit) {
            return None;
        }
        let calls = calls.iter().map(|call| AggregateCall {
            function: call.function.clone(),
            argument: call.argument.map(|column| places[column]),
            filter: call.filter.map(|column| places[column]),
        });
        let calls: Vec<AggregateCall> = calls.collect();
        let key_fields = session.keys.iter().map(|&key| &session.input.fields()[key]);
        let bounds = &session.output.fields()[width..];
        let values = &output.fields()[group.len()..];
        let fields = key_fields.chain(bounds).chain(values).cloned();
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let session = session.clone();
        let below = self.nodes[at].clone();
        self.truncate(at);
        let node = self.add(Node {
            inputs: below.inputs,
            changelog: below.changelog,
            key: Some((0..keys + 2).collect()),
            bounded: match below.bounded.is_empty() {
                true => Vec::new(),
                false => vec![keys, keys + 1],
            },
            schema: schema.clone(),
            operation: Operation::SessionAggregate(SessionAggregateSpec {
                session,
                calls,
                output: schema.clone(),
            }),
        });
        let columns = order.into_iter().chain(keys + 2..schema.fields().len());
        let project = columns.map(|column| column_expr(&schema, column)).collect();
        Some(self.map_compiled(node, None, project, output.clone()))
    }

    /// Whether the column is a time with a bound: the event time of a source or table, or a column
    /// that an operator bounds.
    pub(super) fn is_timed(&self, node: usize, column: usize) -> bool {
        self.nodes[node].bounded.contains(&column) || self.judges(node, column)
    }

    /// Whether the column is, through filters and projections only, the declared event time of a
    /// source or table: the rows that are judged for lateness.
    pub(super) fn judges(&self, node: usize, column: usize) -> bool {
        let node = &self.nodes[node];
        match &node.operation {
            Operation::Scan(scan) => scan.event_time == Some(column),
            Operation::Map(map) => match plain_column(&map.project[column]) {
                Some(pass) => self.judges(node.inputs[0], pass),
                None => false,
            },
            Operation::Union => node.inputs.iter().all(|&input| self.judges(input, column)),
            // A left row comes out at once, with the watermark that stood before it.
            Operation::Lookup(spec) if column < spec.left.fields().len() => {
                let left = node.inputs[1];
                let below = match &self.nodes[left].operation {
                    Operation::Exchange(_) => self.nodes[left].inputs[0],
                    _ => left,
                };
                self.judges(below, column)
            }
            _ => false,
        }
    }

    /// Whether the rows come, through filters and projections only, from several inputs.
    pub(super) fn is_union(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        match &node.operation {
            Operation::Map(_) => self.is_union(node.inputs[0]),
            Operation::Union => true,
            _ => false,
        }
    }
}
