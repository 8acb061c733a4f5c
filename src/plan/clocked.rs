//! Which times of a stream plan go by the clock, whether rows come or not.
//!
//! A column `AS PROCTIME()` of a source is the clock of the step that takes a row: after a step no
//! row can have an earlier one, so that the clock is the column's bound. Windows over it are
//! bounded
//! by the clock, too, and views above them. Such a bound rises by itself: operators that wait for
//! it ask for a step, where all others wait for rows.
//!
//! ```text
//!   Scan s (a, pt)                       pt               by the clock
//!   Window TUMBLE 10 s on pt             window_end       by the clock: closes at 10, 20, 30 s
//!   Aggregate count(*) by window_end     window_end       asks for a step at the end of its first
//! ```

use crate::plan::build::plain_column;
use crate::plan::stream::{Node, Operation, StreamPlan};

impl StreamPlan {
    /// The bounded columns of the view whose bounds are the clock.
    pub fn clocked_columns(&self) -> Vec<usize> {
        let last = clocked(&self.nodes).pop().unwrap_or_default();
        let is_bounded = |column: &usize| self.bounded.contains(column);
        last.into_iter().filter(is_bounded).collect()
    }

    /// For each node whether the time that it waits for goes by the clock.
    pub fn by_clock(&self) -> Vec<bool> {
        let columns = clocked(&self.nodes);
        let waits = |node: &Node| {
            let is_clocked = |column: usize| columns[node.inputs[0]].contains(&column);
            match &node.operation {
                Operation::Window(window, _) => is_clocked(window.time_column),
                Operation::Session(session) => is_clocked(session.time_column),
                Operation::SessionAggregate(aggregate) => is_clocked(aggregate.session.time_column),
                Operation::PaneAggregate(aggregate) => is_clocked(aggregate.pane_column),
                Operation::Aggregate(spec) => spec
                    .close
                    .as_ref()
                    .is_some_and(|close| is_clocked(close.column)),
                Operation::Gate(gate) => gate.time_columns.iter().any(|&column| is_clocked(column)),
                Operation::Top(spec, _) => {
                    let close = spec.close.as_ref();
                    close.is_some_and(|close| is_clocked(spec.partition[close.column]))
                }
                Operation::Over(spec) => {
                    let close = spec.close.as_ref();
                    close.is_some_and(|close| is_clocked(spec.partition[close.column]))
                }
                // What holds nothing until a time, or lets it go with the next step.
                _ => false,
            }
        };
        self.nodes.iter().map(waits).collect()
    }
}

/// For each node the columns whose bound is the clock.
fn clocked(nodes: &[Node]) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let input = |port: usize| &all[node.inputs[port]];
        let width = |port: usize| nodes[node.inputs[port]].schema.fields().len();
        let columns: Vec<usize> = match &node.operation {
            Operation::Scan(scan) => scan.clocked.clone(),
            Operation::Constant(_) => Vec::new(),
            Operation::Map(map) => {
                let columns = map.project.iter().enumerate();
                let is_clocked =
                    |expr| plain_column(expr).is_some_and(|column| input(0).contains(&column));
                let kept = columns.filter(|(_, expr)| is_clocked(*expr));
                kept.map(|(column, _)| column).collect()
            }
            Operation::Window(window, _) => {
                let added = width(0)..node.schema.fields().len();
                with(input(0), window.time_column, added)
            }
            Operation::Session(session) => {
                let added = width(0)..node.schema.fields().len();
                with(input(0), session.time_column, added)
            }
            Operation::SessionAggregate(aggregate) => {
                let keys = aggregate.session.keys.len();
                match input(0).contains(&aggregate.session.time_column) {
                    true => vec![keys, keys + 1],
                    false => Vec::new(),
                }
            }
            Operation::PaneAggregate(aggregate) => {
                let keys = aggregate.keys.len();
                match input(0).contains(&aggregate.pane_column) {
                    true => vec![keys, keys + 1],
                    false => Vec::new(),
                }
            }
            Operation::Aggregate(spec) => {
                let group = spec.group.iter().enumerate();
                let kept = group.filter(|(_, column)| input(0).contains(column));
                kept.map(|(place, _)| place).collect()
            }
            Operation::Join(_) | Operation::AsOf(_) => {
                let left = width(0);
                let both = input(0).iter().copied();
                let both: Vec<usize> = both
                    .chain(input(1).iter().map(|column| column + left))
                    .collect();
                match node.schema.fields().len() == left + width(1) {
                    true => both,
                    false => Vec::new(),
                }
            }
            Operation::Lookup(_) => input(1).clone(),
            Operation::Union => {
                let mut kept = input(0).clone();
                for port in 1..node.inputs.len() {
                    kept.retain(|column| input(port).contains(column));
                }
                kept
            }
            // Rows of any age are taken back.
            Operation::Lifetime(_) => Vec::new(),
            // The number that it drops is no time.
            Operation::Repeat(_)
            | Operation::Judge(_)
            | Operation::Exchange(_)
            | Operation::Gate(_)
            | Operation::Every(_)
            | Operation::Top(..)
            | Operation::Over(_)
            | Operation::Temporal(_) => input(0).clone(),
        };
        all.push(columns);
    }
    all
}

/// The columns that pass, and the added ones if their time is among them.
fn with(passed: &[usize], time: usize, added: std::ops::Range<usize>) -> Vec<usize> {
    let mut columns = passed.to_vec();
    if passed.contains(&time) {
        columns.extend(added);
    }
    columns
}
