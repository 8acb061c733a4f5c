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

    /// For each node whether what it waits for is the clock alone.
    pub fn by_clock(&self) -> Vec<bool> {
        let columns = clocked(&self.nodes);
        let all = self.nodes.iter().zip(&columns).map(|(node, clocked)| {
            !node.bounded.is_empty() && node.bounded.iter().all(|column| clocked.contains(column))
        });
        all.collect()
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
            Operation::PaneAggregate(_) => by_panes(node, &nodes[node.inputs[0]], input(0)),
            Operation::Aggregate(spec) if spec.panes.is_some() => {
                by_panes(node, &nodes[node.inputs[0]], input(0))
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
            Operation::Judge(_)
            | Operation::Exchange(_)
            | Operation::Gate(_)
            | Operation::Every(_)
            | Operation::Top(..)
            | Operation::Temporal(_) => input(0).clone(),
        };
        all.push(columns);
    }
    all
}

/// The bounds of windows that are put together from panes, if the panes go by the clock.
fn by_panes(node: &Node, below: &Node, clocked: &[usize]) -> Vec<usize> {
    let is_clocked = below.bounded.iter().all(|column| clocked.contains(column));
    match is_clocked && !below.bounded.is_empty() {
        true => node.bounded.clone(),
        false => Vec::new(),
    }
}

/// The columns that pass, and the added ones if their time is among them.
fn with(passed: &[usize], time: usize, added: std::ops::Range<usize>) -> Vec<usize> {
    let mut columns = passed.to_vec();
    if passed.contains(&time) {
        columns.extend(added);
    }
    columns
}
