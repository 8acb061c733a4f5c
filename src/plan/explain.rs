//! A stream plan as text: what EXPLAIN shows, goldens guard, and checkpoints compare.

use std::fmt;

use arrow::datatypes::SchemaRef;

use crate::function::window::{Panes, Span};
use crate::operator::aggregate::{AggregateCall, AggregateSpec, CloseEmit};
use crate::operator::asof::AsOfSpec;
use crate::operator::join::{JoinKind, JoinSpec, TimeRange};
use crate::operator::map::MapSpec;
use crate::operator::over::{Frame, OverCall, OverFunction, OverSpec};
use crate::operator::session::{SessionEmit, SessionSpec};
use crate::operator::temporal::{Condition, TemporalSpec};
use crate::operator::top::{OrderColumn, RankFunction, RankRange, TopSpec};
use crate::operator::window::Assignment;
use crate::plan::build::plain_column;
use crate::plan::stream::{Node, Operation, Portion, Retention, RetentionMode, StreamPlan};

impl fmt::Display for StreamPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for id in (0..self.nodes.len()).rev() {
            writeln!(f, "{id}: {}", self.describe(id))?;
        }
        write!(f, "view: {}", self.summary())
    }
}

impl StreamPlan {
    /// The line of one node, without its number.
    pub fn describe(&self, id: usize) -> String {
        Line(&self.nodes[id], &self.nodes).to_string()
    }

    /// What the view's changes are like.
    pub fn summary(&self) -> String {
        let key = match &self.key {
            Some(key) => format!("key ({})", names(&self.schema, key)),
            None => "no key".to_string(),
        };
        let late = match &self.late {
            Some(_) => ", late rows are kept",
            None => "",
        };
        let retention = match self.retention {
            None => String::new(),
            Some(Retention {
                column,
                micros,
                mode,
            }) => {
                let name = self.schema.field(column).name();
                let how = match mode {
                    RetentionMode::Retract => "retracted",
                    RetentionMode::Forget => "forgotten",
                };
                let length = Span::Micros(micros);
                format!(", rows are {how} {length} after the watermark has passed {name}")
            }
        };
        format!("{}, {key}{late}{retention}", self.changelog)
    }
}

/// A node, among all nodes of its plan.
struct Line<'a>(&'a Node, &'a [Node]);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.0;
        match &node.operation {
            Operation::Scan(scan) => {
                write!(f, "Scan {} ({})", scan.name, all_names(&node.schema))?;
                if !scan.clocked.is_empty() {
                    write!(f, ", {} by the clock", names(&node.schema, &scan.clocked))?;
                }
            }
            Operation::Map(map) => write_map(f, map)?,
            Operation::Window(window, expansion) => {
                let time = window.input.field(window.time_column).name();
                write!(f, "Window {} on {time}", window.kind)?;
                match (window.assignment, expansion) {
                    (Assignment::Panes(panes) | Assignment::PanesOrWindows(panes), _) => {
                        write!(f, ", {}", in_panes(&panes))?
                    }
                    (Assignment::Windows, Some(why)) => write!(f, ", a row per window: {why}")?,
                    (Assignment::Windows, None) => {}
                }
                if window.judges {
                    write!(f, ", drops late rows")?;
                }
            }
            Operation::Judge(judge) => {
                let time = judge.input.field(judge.time_column).name();
                write!(f, "Judge {time}, drops late rows")?;
            }
            Operation::Session(session) => {
                write!(f, "Session ")?;
                write_session(f, session, "rows of open sessions")?;
            }
            Operation::SessionAggregate(aggregate) => {
                write!(f, "Session aggregate")?;
                write_calls(f, &aggregate.calls, &aggregate.session.input)?;
                write!(f, " by session ")?;
                write_session(f, &aggregate.session, "open sessions")?;
            }
            Operation::PaneAggregate(aggregate) => {
                write!(f, "Pane aggregate")?;
                write_calls(f, &aggregate.calls, &aggregate.input)?;
                let (kind, panes) = (aggregate.panes.windows(), in_panes(&aggregate.panes));
                write!(f, " by {kind}, {panes}")?;
                if !aggregate.keys.is_empty() {
                    write!(f, ", by ({})", names(&aggregate.input, &aggregate.keys))?;
                }
                write!(f, "; emits on close; state: panes of open windows")?;
            }
            Operation::Exchange(columns) if columns.is_empty() => write!(f, "Exchange to one")?,
            Operation::Exchange(columns) => {
                write!(f, "Exchange by ({})", names(&node.schema, columns))?;
            }
            Operation::Aggregate(spec) => write_aggregate(f, spec)?,
            Operation::Join(spec) => {
                let leaves = [0, 1].map(|port| leaves(self.1, node.inputs[port]));
                write_join(f, spec, leaves)?;
            }
            Operation::AsOf(spec) => {
                let leaves = [0, 1].map(|port| leaves(self.1, node.inputs[port]));
                write_as_of(f, spec, leaves)?;
            }
            Operation::Lookup(spec) => write_lookup(f, spec)?,
            Operation::Top(spec, portion) => write_top(f, spec, *portion)?,
            Operation::Over(spec) => write_over(f, spec)?,
            Operation::Repeat(repeat) => {
                let width = repeat.output.fields().len();
                write!(f, "Repeat {} times", repeat.input.field(width).name())?;
            }
            Operation::Gate(gate) => write!(
                f,
                "Gate until {} is final; state: waiting rows",
                names(&gate.input, &gate.time_columns)
            )?,
            Operation::Every(every) => write!(
                f,
                "Every {}, changes merged; state: changes since the last time",
                Span::Micros(every.interval_micros)
            )?,
            Operation::Temporal(spec) => write_temporal(f, spec)?,
            Operation::Lifetime(spec) => {
                let length = Span::Micros(spec.length_micros);
                write!(
                    f,
                    "Lifetime {length}; state: rows that came in the last {length}"
                )?;
            }
            Operation::Union => write!(f, "Union")?,
            Operation::Constant(rows) => write!(f, "Constant {} rows", rows.num_rows())?,
        }
        let inputs: Vec<String> = node.inputs.iter().map(ToString::to_string).collect();
        if !inputs.is_empty() {
            write!(f, " of {}", inputs.join(", "))?;
        }
        write!(f, " [{}", node.changelog)?;
        if let Some(key) = &node.key {
            write!(f, "; key ({})", names(&node.schema, key))?;
        }
        if !node.bounded.is_empty() {
            write!(
                f,
                "; closed by watermark ({})",
                names(&node.schema, &node.bounded)
            )?;
        }
        write!(f, "]")
    }
}

fn in_panes(panes: &Panes) -> String {
    format!("in panes of {}", Span::Micros(panes.length()))
}

fn write_map(f: &mut fmt::Formatter<'_>, map: &MapSpec) -> fmt::Result {
    write!(f, "Map ")?;
    for (place, expr) in map.project.iter().enumerate() {
        let separator = if place == 0 { "" } else { ", " };
        let name = map.output.field(place).name();
        match plain_column(expr) {
            Some(column) if map.input.field(column).name() == name => {
                write!(f, "{separator}{name}")?;
            }
            _ => write!(f, "{separator}{expr} AS {name}")?,
        }
    }
    match &map.filter {
        Some(filter) => write!(f, " where {filter}"),
        None => Ok(()),
    }
}

fn write_calls(
    f: &mut fmt::Formatter<'_>,
    calls: &[AggregateCall],
    input: &SchemaRef,
) -> fmt::Result {
    for (place, call) in calls.iter().enumerate() {
        let separator = if place == 0 { " " } else { ", " };
        write!(f, "{separator}{}", call.function)?;
        if let Some(argument) = call.argument {
            write!(f, "({})", input.field(argument).name())?;
        }
        if let Some(filter) = call.filter {
            write!(f, " filter {}", input.field(filter).name())?;
        }
    }
    Ok(())
}

fn write_session(f: &mut fmt::Formatter<'_>, session: &SessionSpec, state: &str) -> fmt::Result {
    let gap = Span::Micros(session.gap_micros);
    let time = session.input.field(session.time_column).name();
    write!(f, "gap {gap} on {time}")?;
    if !session.keys.is_empty() {
        write!(f, " by ({})", names(&session.input, &session.keys))?;
    }
    if session.judges {
        write!(f, ", drops late rows")?;
    }
    let when = match session.emit {
        SessionEmit::OnUpdate => "on update",
        SessionEmit::OnClose => "on close",
    };
    write!(f, "; emits {when}; state: {state}")?;
    match session.lateness_micros {
        0 => Ok(()),
        micros => write!(f, ", {} s longer", micros / 1_000_000),
    }
}

fn write_aggregate(f: &mut fmt::Formatter<'_>, spec: &AggregateSpec) -> fmt::Result {
    write!(f, "Aggregate")?;
    write_calls(f, &spec.calls, &spec.input)?;
    if !spec.group.is_empty() {
        write!(f, " by ({})", names(&spec.input, &spec.group))?;
    }
    if let Some(key) = &spec.panes {
        write!(f, ", a step's rows {} first", in_panes(&key.panes))?;
    }
    if let Some(micros) = spec.idle_micros {
        let length = Span::Micros(micros);
        return write!(f, "; state: groups with rows in the last {length}");
    }
    match &spec.close {
        None if spec.is_global => write!(f, "; state: one group"),
        None => write!(f, "; state: every group, unbounded"),
        Some(close) => {
            let column = spec.input.field(spec.group[close.column]).name();
            let when = match close.emit {
                CloseEmit::OnUpdate => "on update",
                CloseEmit::OnClose => "on close",
            };
            write!(f, "; emits {when}; state: groups whose {column} is open")?;
            match close.lateness_micros {
                0 => Ok(()),
                micros => write!(f, ", {} s longer", micros / 1_000_000),
            }
        }
    }
}

fn write_temporal(f: &mut fmt::Formatter<'_>, spec: &TemporalSpec) -> fmt::Result {
    write!(f, "Temporal filter")?;
    for (place, condition) in spec.conditions.iter().enumerate() {
        let separator = if place == 0 { "" } else { " and" };
        let time = spec.input.field(condition.column).name();
        write!(f, "{separator} now() {} {time}", condition.relation)?;
        let length = Span::Micros(condition.offset_micros.saturating_abs());
        match condition.offset_micros {
            0 => {}
            ..0 => write!(f, " - {length}")?,
            1.. => write!(f, " + {length}")?,
        }
    }
    let leaves = |condition: &Condition| !condition.relation.is_lasting();
    match (
        spec.conditions.iter().any(leaves),
        spec.conditions.iter().all(leaves),
    ) {
        (false, _) => write!(f, "; state: rows until they come in"),
        (true, true) => write!(f, "; state: rows until they leave"),
        (true, false) => write!(f, "; state: rows until they have come and left"),
    }
}

/// Whether the rows of an input leave after a time, wherever they are exchanged to.
fn leaves(nodes: &[Node], input: usize) -> bool {
    match &nodes[input].operation {
        Operation::Lifetime(_) => true,
        Operation::Exchange(_) => leaves(nodes, nodes[input].inputs[0]),
        _ => false,
    }
}

fn write_join(f: &mut fmt::Formatter<'_>, spec: &JoinSpec, leaves: [bool; 2]) -> fmt::Result {
    let kind = match spec.kind {
        JoinKind::Inner => "Inner",
        JoinKind::Left => "Left",
        JoinKind::Full => "Full",
        JoinKind::Semi => "Semi",
        JoinKind::Anti => "Anti",
        JoinKind::Mark => "Mark",
    };
    match spec.left_keys.is_empty() {
        true => write!(f, "{kind} join of every pair of rows, on one worker")?,
        false => write!(
            f,
            "{kind} join on ({}) = ({})",
            names(&spec.left, &spec.left_keys),
            names(&spec.right, &spec.right_keys)
        )?,
    }
    if let Some(residual) = &spec.residual {
        write!(f, " and {residual}")?;
    }
    let range = |at: Option<usize>| at.map(|at| &spec.times[at]);
    let (left, right) = (range(spec.expire.left), range(spec.expire.right));
    match (left, right) {
        (None, None) if leaves == [true, true] => {
            return write!(f, "; state: rows of both sides until they leave");
        }
        (None, None) if leaves[0] => {
            return write!(f, "; state: left rows until they leave, all right rows");
        }
        (None, None) if leaves[1] => {
            return write!(f, "; state: all left rows, right rows until they leave");
        }
        (None, None) => return write!(f, "; state: all rows of both sides, unbounded"),
        (Some(left), Some(right)) if is_equality(left) && is_equality(right) => {
            return write!(f, "; state: rows of both sides whose window is open");
        }
        _ => write!(f, "; state: ")?,
    }
    let least = left.and_then(|range| range.least);
    write_rows(
        f,
        "left",
        &spec.left,
        left.map(|range| range.left),
        least.map(i64::saturating_neg),
    )?;
    write!(f, ", ")?;
    let greatest = right.and_then(|range| range.greatest);
    write_rows(
        f,
        "right",
        &spec.right,
        right.map(|range| range.right),
        greatest,
    )
}

fn write_lookup(f: &mut fmt::Formatter<'_>, spec: &JoinSpec) -> fmt::Result {
    let kind = match spec.kind == JoinKind::Left {
        true => "Left lookup join",
        false => "Lookup join",
    };
    let left = names(&spec.left, &spec.left_keys);
    let right = names(&spec.right, &spec.right_keys);
    write!(f, "{kind} on ({left}) = ({right})")?;
    if let Some(residual) = &spec.residual {
        write!(f, " and {residual}")?;
    }
    write!(f, "; each left row once; state: right rows")
}

fn write_as_of(f: &mut fmt::Formatter<'_>, spec: &AsOfSpec, leaves: [bool; 2]) -> fmt::Result {
    let kind = if spec.is_outer { "Left" } else { "Inner" };
    write!(
        f,
        "{kind} ASOF join on ({}) = ({}), {} {} {}",
        names(&spec.left, &spec.left_keys),
        names(&spec.right, &spec.right_keys),
        spec.left.field(spec.left_time).name(),
        spec.nearest.sign(),
        spec.right.field(spec.right_time).name(),
    )?;
    let left = match (spec.frees_left, spec.nearest.is_past()) {
        (true, true) => "left rows until they are final",
        (true, false) => "left rows until they are final, unbounded where they meet none",
        (false, _) if leaves[0] => "left rows until they leave",
        (false, _) => "all left rows, unbounded",
    };
    let right = match (spec.frees_right, spec.nearest.is_past()) {
        (true, true) => "the last right row of each key",
        (true, false) => "right rows ahead of time",
        (false, _) if leaves[1] => "right rows until they leave",
        (false, _) => "all right rows, unbounded",
    };
    write!(f, "; state: {left}, {right}")
}

fn write_top(f: &mut fmt::Formatter<'_>, spec: &TopSpec, portion: Portion) -> fmt::Result {
    write!(f, "Top")?;
    let mut separator = " ";
    for function in RankFunction::ALL {
        let limit = spec.limit(function);
        match (limit.least, limit.greatest) {
            _ if limit == RankRange::ALL => continue,
            (1, greatest) => write!(f, "{separator}{function} <= {greatest}")?,
            (least, i64::MAX) => write!(f, "{separator}{function} >= {least}")?,
            (least, greatest) if least == greatest => write!(f, "{separator}{function} = {least}")?,
            (least, greatest) => write!(f, "{separator}{function} {least} to {greatest}")?,
        }
        separator = " and ";
    }
    if !spec.partition.is_empty() {
        write!(f, " by ({})", names(&spec.input, &spec.partition))?;
    }
    write_order(f, &spec.order, &spec.input)?;
    if portion == Portion::Worker {
        write!(f, ", of each worker")?;
    }
    let rows = match spec.keeps_only_best() {
        true => "the rows within the limit",
        false => "all rows",
    };
    if let Some(micros) = spec.idle_micros {
        let length = Span::Micros(micros);
        return write!(
            f,
            "; state: {rows}, of groups with rows in the last {length}"
        );
    }
    let Some(close) = &spec.close else {
        return match spec.keeps_only_best() && spec.partition.is_empty() {
            true => write!(f, "; state: {rows}"),
            false if spec.keeps_only_best() => write!(f, "; state: {rows}, of every group"),
            false => write!(f, "; state: {rows}, unbounded"),
        };
    };
    let when = match close.emit {
        CloseEmit::OnUpdate => "on update",
        CloseEmit::OnClose => "on close",
    };
    let column = spec.input.field(spec.partition[close.column]).name();
    write!(
        f,
        "; emits {when}; state: {rows} of groups whose {column} is open"
    )
}

fn write_order(
    f: &mut fmt::Formatter<'_>,
    order: &[OrderColumn],
    input: &SchemaRef,
) -> fmt::Result {
    for (place, order) in order.iter().enumerate() {
        let separator = if place == 0 { " order" } else { "," };
        write!(f, "{separator} {}", input.field(order.column).name())?;
        let options = order.options;
        if options.descending {
            write!(f, " DESC")?;
        }
        if options.nulls_first != options.descending {
            let place = if options.nulls_first { "FIRST" } else { "LAST" };
            write!(f, " NULLS {place}")?;
        }
    }
    Ok(())
}

fn write_over(f: &mut fmt::Formatter<'_>, spec: &OverSpec) -> fmt::Result {
    write!(f, "Over")?;
    for (place, call) in spec.calls.iter().enumerate() {
        let separator = if place == 0 { " " } else { ", " };
        write!(f, "{separator}")?;
        write_over_call(f, call, &spec.input)?;
    }
    if !spec.partition.is_empty() {
        write!(f, " by ({})", names(&spec.input, &spec.partition))?;
    }
    write_order(f, &spec.order, &spec.input)?;
    let Some(close) = &spec.close else {
        return write_kept(f, spec);
    };
    let when = match close.emit {
        CloseEmit::OnUpdate => "on update",
        CloseEmit::OnClose => "on close",
    };
    let column = spec.input.field(spec.partition[close.column]).name();
    write!(
        f,
        "; emits {when}; state: rows of partitions whose {column} is open"
    )
}

/// Which rows are kept where no partition is ever final.
fn write_kept(f: &mut fmt::Formatter<'_>, spec: &OverSpec) -> fmt::Result {
    let (Some(kept), Some(order)) = (spec.kept, spec.bounded_order) else {
        return write!(f, "; state: all rows, unbounded");
    };
    let time = spec.input.field(order.column).name();
    write!(f, "; state: rows until {time}")?;
    if order.ahead_micros > 0 {
        write!(f, " + {}", Span::Micros(order.ahead_micros))?;
    }
    write!(f, " is final")?;
    if kept.micros > 0 {
        write!(f, ", {} longer", Span::Micros(kept.micros))?;
    }
    if kept.rows > 0 {
        write!(f, ", the last {} final ones", kept.rows)?;
    }
    if kept.classes > 0 {
        write!(f, ", those of the last {} final values", kept.classes)?;
    }
    if kept.first > 0 {
        write!(f, ", the first {}", kept.first)?;
    }
    if kept.adds_up {
        write!(f, ", and what the others add up to")?;
    }
    match spec.partition.is_empty() {
        true => Ok(()),
        false => write!(f, ", of every partition"),
    }
}

fn write_over_call(f: &mut fmt::Formatter<'_>, call: &OverCall, input: &SchemaRef) -> fmt::Result {
    let ignoring = |ignores: bool| if ignores { " ignoring NULLs" } else { "" };
    match &call.function {
        OverFunction::Shift(shift) => {
            let argument = input.field(shift.argument).name();
            let (function, offset) = (&call.function, shift.offset.unsigned_abs());
            write!(f, "{function}({argument}, {offset}")?;
            if !shift.default.is_null() {
                write!(f, ", {}", shift.default)?;
            }
            return write!(f, "){}", ignoring(shift.ignores_nulls));
        }
        OverFunction::Nth(nth) => {
            write!(f, "{}({}", call.function, input.field(nth.argument).name())?;
            if nth.number.unsigned_abs() != 1 {
                write!(f, ", {}", nth.number)?;
            }
            write!(f, "){}", ignoring(nth.ignores_nulls))?;
        }
        OverFunction::Aggregate(aggregate) => {
            write!(f, "{}", aggregate.function)?;
            if let Some(argument) = aggregate.argument {
                write!(f, "({})", input.field(argument).name())?;
            }
            if let Some(filter) = aggregate.filter {
                write!(f, " filter {}", input.field(filter).name())?;
            }
        }
        of_place => return write!(f, "{of_place}"),
    }
    match call.frame == Frame::RUNNING {
        true => Ok(()),
        false => write!(f, " {}", call.frame),
    }
}

fn is_equality(range: &TimeRange) -> bool {
    (range.least, range.greatest) == (Some(0), Some(0))
}

/// Until when the rows of a side are kept, by the time of the other.
fn write_rows(
    f: &mut fmt::Formatter<'_>,
    side: &str,
    schema: &SchemaRef,
    column: Option<usize>,
    micros: Option<i64>,
) -> fmt::Result {
    let (Some(column), Some(micros)) = (column, micros) else {
        return write!(f, "all {side} rows, unbounded");
    };
    let (sign, length) = match micros {
        0 => return write!(f, "{side} rows until {}", schema.field(column).name()),
        ..0 => ('-', Span::Micros(micros.saturating_neg())),
        1.. => ('+', Span::Micros(micros)),
    };
    write!(
        f,
        "{side} rows until {} {sign} {length}",
        schema.field(column).name()
    )
}

fn names(schema: &SchemaRef, columns: &[usize]) -> String {
    let names: Vec<&str> = columns
        .iter()
        .map(|&column| schema.field(column).name().as_str())
        .collect();
    names.join(", ")
}

fn all_names(schema: &SchemaRef) -> String {
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    names(schema, &all)
}
