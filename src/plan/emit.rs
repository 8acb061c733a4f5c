//! The EMIT clause in a stream plan: on the aggregate that the output follows from, or behind it.

use arrow::datatypes::SchemaRef;

use crate::catalog::Changelog;
use crate::error::{Error, Result};
use crate::operator::aggregate::CloseEmit;
use crate::operator::every::EverySpec;
use crate::operator::gate::GateSpec;
use crate::operator::join::JoinKind;
use crate::operator::session::SessionEmit;
use crate::plan::build::Build;
use crate::plan::stream::{Node, Operation};
use crate::plan::window::WINDOW_END;
use crate::sql::statement::Emit;

impl Build<'_> {
    /// The EMIT clause: on the aggregate that the output follows from, or as a gate behind it.
    pub(super) fn emit(&mut self, root: usize) -> Result<usize> {
        let lateness = self.options.allowed_lateness_micros;
        match &self.options.emit {
            None | Some(Emit::OnUpdate) => {
                self.set_lateness(lateness);
                Ok(root)
            }
            Some(Emit::Every { interval, .. }) => {
                let micros = interval.fixed_micros();
                let micros =
                    micros.ok_or_else(|| Error::internal("EMIT EVERY without a length"))?;
                self.set_lateness(lateness);
                Ok(self.emit_every(root, micros))
            }
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
        self.refuse_leaving()?;
        if self.can_close(root) {
            self.close(root);
            return Ok(root);
        }
        let node = &self.nodes[root];
        let times = final_columns(&node.bounded, &node.schema);
        if times.is_empty() {
            let error =
                Error::unsupported("EMIT ON WINDOW CLOSE needs a column that the watermark closes");
            let below = self
                .nodes
                .iter()
                .rev()
                .find(|node| !node.bounded.is_empty());
            let is_full = self.nodes.iter().any(|node| {
                matches!(&node.operation, Operation::Join(spec) if spec.kind == JoinKind::Full)
            });
            if is_full {
                return Err(error.hint(
                    "beside a row that FULL JOIN pads any other can come: use LEFT JOIN, or \
                     EMIT ON UPDATE",
                ));
            }
            if let Some(below) = below {
                let column = below.schema.field(below.bounded[0]).name();
                return Err(error.hint(format!("select \"{column}\", too")));
            }
            return Err(error.hint(
                "group by window_start and window_end of a window over a source with a \
                 WATERMARK, or join on them, or on event times that are near each other",
            ));
        }
        // A row waits where its retraction comes to.
        let root = match node.changelog {
            Changelog::AppendOnly => root,
            Changelog::Retracting => self.exchange_by_row(root),
        };
        let node = &self.nodes[root];
        let gate = Node {
            operation: Operation::Gate(GateSpec {
                input: node.schema.clone(),
                time_columns: times.clone(),
            }),
            inputs: vec![root],
            schema: node.schema.clone(),
            changelog: Changelog::AppendOnly,
            key: node.key.clone(),
            bounded: times,
        };
        Ok(self.add(gate))
    }

    /// Whether all rows of a node come from operators that put out closed windows.
    fn can_close(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        match &node.operation {
            Operation::Map(_) | Operation::Exchange(_) | Operation::Repeat(_) => {
                self.can_close(node.inputs[0])
            }
            // Those of several sources close when the slowest of them is so far.
            Operation::Union => {
                self.have_one_origin(&node.inputs)
                    && node.inputs.iter().all(|&input| self.can_close(input))
            }
            // Its rows are final when they come out.
            Operation::Session(spec) => spec.emit == SessionEmit::OnClose,
            Operation::SessionAggregate(spec) => spec.session.emit == SessionEmit::OnClose,
            Operation::PaneAggregate(_) => true,
            Operation::Aggregate(spec) => spec.close.is_some(),
            Operation::Top(spec, _) => spec.close.is_some(),
            Operation::Over(spec) => spec.close.is_some(),
            _ => false,
        }
    }

    /// Whether all rows of the nodes come from one node below them.
    fn have_one_origin(&self, nodes: &[usize]) -> bool {
        let below = |node: usize| {
            std::iter::successors(Some(node), |&at| match self.nodes[at].inputs[..] {
                [input] => Some(input),
                _ => None,
            })
        };
        let Some((&first, others)) = nodes.split_first() else {
            return false;
        };
        let is_common = |node: &usize| {
            others
                .iter()
                .all(|&other| below(other).any(|at| at == *node))
        };
        below(first).any(|node| is_common(&node))
    }

    /// Has them do it, and says of all nodes above whether rows that have left a closed window are
    /// ever taken back.
    fn close(&mut self, at: usize) {
        let inputs = match &mut self.nodes[at].operation {
            Operation::Map(_)
            | Operation::Exchange(_)
            | Operation::Repeat(_)
            | Operation::Union => self.nodes[at].inputs.clone(),
            Operation::Aggregate(spec) => {
                let close = spec.close.as_mut().expect("it can close");
                close.emit = CloseEmit::OnClose;
                if close.lateness_micros == 0 {
                    self.nodes[at].changelog = Changelog::AppendOnly;
                }
                return;
            }
            Operation::Top(..) | Operation::Over(_) => return self.rank_on_close(at),
            _ => return,
        };
        inputs.iter().for_each(|&input| self.close(input));
        let changelogs = inputs.iter().map(|&input| self.nodes[input].changelog);
        self.nodes[at].changelog = changelogs.fold(Changelog::AppendOnly, Changelog::and);
    }

    /// The groups of a ranking, or partitions of window functions, come out when they are final. So
    /// do those of what is below, if that has groups which close, and then it only grows; with
    /// lateness these may still change.
    fn rank_on_close(&mut self, top: usize) {
        let input = self.nodes[top].inputs[0];
        let is_final = self.options.allowed_lateness_micros == 0 && self.can_close(input);
        if is_final {
            self.close(input);
        }
        let close = match &mut self.nodes[top].operation {
            Operation::Top(spec, _) => {
                spec.is_append_only |= is_final;
                &mut spec.close
            }
            Operation::Over(spec) => &mut spec.close,
            _ => return,
        };
        if let Some(close) = close {
            close.emit = CloseEmit::OnClose;
        }
        self.nodes[top].changelog = Changelog::AppendOnly;
    }

    /// Changes wait where those of the same row come together.
    fn emit_every(&mut self, root: usize, interval_micros: i64) -> usize {
        let is_append_only = self.nodes[root].changelog == Changelog::AppendOnly;
        let root = match is_append_only || self.is_of_groups(root) {
            true => root,
            false => self.exchange_by_row(root),
        };
        let node = self.nodes[root].clone();
        self.add(Node {
            operation: Operation::Every(EverySpec {
                input: node.schema.clone(),
                interval_micros,
                is_append_only,
            }),
            inputs: vec![root],
            ..node
        })
    }

    /// Rows go where their retraction goes.
    pub(super) fn exchange_by_row(&mut self, root: usize) -> usize {
        let node = &self.nodes[root];
        let all = || (0..node.schema.fields().len()).collect();
        let columns = node.key.clone().unwrap_or_else(all);
        self.exchange(root, columns)
    }

    /// Whether all changes of a row come from one group, and so from one place.
    fn is_of_groups(&self, root: usize) -> bool {
        let node = &self.nodes[root];
        match &node.operation {
            Operation::Map(_) => self.is_of_groups(node.inputs[0]),
            Operation::Aggregate(_)
            | Operation::SessionAggregate(_)
            | Operation::PaneAggregate(_)
            | Operation::Top(..)
            | Operation::Over(_) => true,
            _ => false,
        }
    }
}

/// Of the bounded columns the one that says best when a row is final: a window's end.
pub(super) fn close_column(bounded: &[usize], schema: &SchemaRef) -> Option<usize> {
    let is_end = |column: &&usize| schema.field(**column).name() == WINDOW_END;
    bounded.iter().find(is_end).or(bounded.first()).copied()
}

/// The times that all must be final for a row to be: a window's end, which says it alone, or the
/// times of all sides of a join.
fn final_columns(bounded: &[usize], schema: &SchemaRef) -> Vec<usize> {
    let is_end = |column: &&usize| schema.field(**column).name() == WINDOW_END;
    match bounded.iter().find(is_end) {
        Some(&end) => vec![end],
        None => bounded.to_vec(),
    }
}
