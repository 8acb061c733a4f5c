//! The plan of a view's dataflow: every decision taken, nothing running.
//!
//! ```text
//!   0 Scan bids (auction, price, ts)                       append-only
//!   1 Window TUMBLE 10 s on ts                             append-only, judges lateness
//!   2 Map auction, window_start, window_end, price         append-only
//!   3 Exchange by (auction, window_start, window_end)
//!   4 Aggregate count(*), max(price)                       key (auction, window_start, window_end)
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::base::ObjectId;
use crate::catalog::Changelog;
use crate::operator::aggregate::{AggregateSpec, PaneAggregateSpec, SessionAggregateSpec};
use crate::operator::asof::AsOfSpec;
use crate::operator::every::EverySpec;
use crate::operator::gate::GateSpec;
use crate::operator::join::JoinSpec;
use crate::operator::judge::JudgeSpec;
use crate::operator::lifetime::LifetimeSpec;
use crate::operator::map::MapSpec;
use crate::operator::over::OverSpec;
use crate::operator::repeat::RepeatSpec;
use crate::operator::session::SessionSpec;
use crate::operator::temporal::TemporalSpec;
use crate::operator::top::TopSpec;
use crate::operator::window::WindowSpec;
use crate::plan::late::LatePlan;
use crate::plan::panes::Expansion;
use crate::view::Identity;

/// The dataflow of one view.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    /// In an order in which inputs come before their users; the last one is the view's output.
    pub nodes: Vec<Node>,
    /// The view's columns with the names that users see.
    pub schema: SchemaRef,
    pub key: Option<Vec<usize>>,
    pub changelog: Changelog,
    /// Output columns with a bound that rises with the watermark.
    pub bounded: Vec<usize>,
    /// Objects the text names, rising; more than what is scanned where views are expanded.
    pub depends_on: Vec<ObjectId>,
    /// The relation that its late rows are kept in, if they are.
    pub late: Option<LatePlan>,
    /// When its rows are too old, if they ever are.
    pub retention: Option<Retention>,
}

/// By which rows leave a view: those whose time is before the view's watermark less a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A column of the view whose bound is the watermark: a timestamp in microseconds.
    pub column: usize,
    pub micros: i64,
    pub mode: RetentionMode,
}

/// Who is told that a row has left by its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionMode {
    /// Those who follow the view and the views above it.
    Retract,
    /// Nobody: it is just not there any more.
    Forget,
}

impl StreamPlan {
    /// What makes a row of the view the same row.
    pub fn identity(&self) -> Identity {
        // What leaves by age is found by its place: that alone needs no index.
        let last = self.nodes.last().map(|node| node.changelog);
        match (&self.key, last.unwrap_or(self.changelog)) {
            (Some(key), _) => Identity::Key(key.clone()),
            (None, Changelog::AppendOnly) => Identity::AppendOnly,
            (None, Changelog::Retracting) => Identity::Row,
        }
    }

    /// The plan without what only EXPLAIN says of it: why no better one was possible.
    pub fn without_remarks(&self) -> StreamPlan {
        let mut plan = self.clone();
        for node in &mut plan.nodes {
            if let Operation::Window(_, expansion) = &mut node.operation {
                *expansion = None;
            }
        }
        plan
    }

    /// The scans whose rows must come to the operators above in the order in which the step took
    /// them: a session that judges asks what came before a row.
    pub fn sequential_scans(&self) -> BTreeSet<usize> {
        let judges = |node: &Node| match &node.operation {
            Operation::Session(session) => session.judges,
            Operation::SessionAggregate(aggregate) => aggregate.session.judges,
            _ => false,
        };
        let judging = (0..self.nodes.len()).filter(|&node| judges(&self.nodes[node]));
        let mut open: Vec<usize> = judging.collect();
        let mut found = BTreeSet::new();
        while let Some(node) = open.pop() {
            if let Operation::Scan(_) = self.nodes[node].operation {
                found.insert(node);
            }
            open.extend(&self.nodes[node].inputs);
        }
        found
    }

    /// Whether rows look others up.
    pub fn has_lookup(&self) -> bool {
        let is_lookup = |node: &Node| matches!(node.operation, Operation::Lookup(_));
        self.nodes.iter().any(is_lookup)
    }

    /// The objects below the looked-up sides of its joins.
    pub fn looked_up(&self) -> BTreeSet<ObjectId> {
        let lookups = self.nodes.iter().filter_map(|node| match node.operation {
            Operation::Lookup(_) => Some(node.inputs[0]),
            _ => None,
        });
        let mut open: Vec<usize> = lookups.collect();
        let mut found = BTreeSet::new();
        while let Some(node) = open.pop() {
            if let Operation::Scan(scan) = &self.nodes[node].operation {
                found.insert(scan.object);
            }
            open.extend(&self.nodes[node].inputs);
        }
        found
    }

    /// The objects it reads, with the columns it uses of them, once per scan.
    pub fn scans(&self) -> impl Iterator<Item = &Scan> {
        self.nodes.iter().filter_map(|node| match &node.operation {
            Operation::Scan(scan) => Some(scan),
            _ => None,
        })
    }
}

/// One operator of the plan.
#[derive(Clone, Debug)]
pub struct Node {
    pub operation: Operation,
    /// Positions of the inputs in the plan, in port order.
    pub inputs: Vec<usize>,
    pub schema: SchemaRef,
    pub changelog: Changelog,
    pub key: Option<Vec<usize>>,
    pub bounded: Vec<usize>,
}

/// What a node does.
#[derive(Clone, Debug)]
pub enum Operation {
    /// The change of a collection, with the columns in the given order.
    Scan(Scan),
    Map(MapSpec),
    /// A HOP that has a row per window says why.
    Window(WindowSpec, Option<Expansion>),
    /// Takes late rows out where no window does.
    Judge(JudgeSpec),
    Session(SessionSpec),
    SessionAggregate(SessionAggregateSpec),
    PaneAggregate(PaneAggregateSpec),
    /// Rows go to the shard that their key's hash names; with no columns, to the first shard.
    Exchange(Vec<usize>),
    Aggregate(AggregateSpec),
    Join(JoinSpec),
    AsOf(AsOfSpec),
    /// Its inputs are the right side, which is kept, and then the left one.
    Lookup(JoinSpec),
    Top(TopSpec, Portion),
    Over(OverSpec),
    Repeat(RepeatSpec),
    Gate(GateSpec),
    Every(EverySpec),
    Temporal(TemporalSpec),
    /// Rows that come, each for so long.
    Lifetime(LifetimeSpec),
    /// UNION ALL of inputs with equal types.
    Union,
    /// Rows that are there from the beginning: VALUES, a SELECT without FROM, or none at all.
    Constant(Arc<RecordBatch>),
}

/// Of which rows a ranking knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Portion {
    /// All of a group.
    Groups,
    /// Those of one worker: a first choice, from which the last is made.
    Worker,
}

/// Which columns of which collection.
#[derive(Clone, Debug)]
pub struct Scan {
    pub object: ObjectId,
    pub name: String,
    pub columns: Vec<usize>,
    /// Where in `columns` the declared event time stands.
    pub event_time: Option<usize>,
    /// Where in `columns` the times stand whose bound is the clock.
    pub clocked: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

    use super::*;
    use crate::function::window::WindowKind;
    use crate::operator::window::Assignment;

    fn plan_of_hop(expansion: Expansion) -> StreamPlan {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let fields = ["ts", "window_start", "window_end"];
        let fields = fields.map(|name| Field::new(name, time.clone(), false));
        let output: SchemaRef = Arc::new(Schema::new(fields.to_vec()));
        let window = WindowSpec {
            input: Arc::new(Schema::new(fields[..1].to_vec())),
            time_column: 0,
            kind: WindowKind::Hop {
                slide_micros: 7,
                size_micros: 8,
                offset_micros: 0,
            },
            assignment: Assignment::Windows,
            output: output.clone(),
            lateness_micros: 0,
            judges: true,
        };
        StreamPlan {
            nodes: vec![Node {
                operation: Operation::Window(window, Some(expansion)),
                inputs: Vec::new(),
                schema: output.clone(),
                changelog: Changelog::AppendOnly,
                key: None,
                bounded: Vec::new(),
            }],
            schema: output,
            key: None,
            changelog: Changelog::AppendOnly,
            bounded: Vec::new(),
            depends_on: Vec::new(),
            late: None,
            retention: None,
        }
    }

    #[test]
    fn why_no_better_plan_was_possible_is_a_remark() {
        let plans = [Expansion::Few, Expansion::Used].map(plan_of_hop);
        let [one, other] = plans.each_ref().map(|plan| format!("{plan:?}"));
        assert_ne!(one, other);
        let [one, other] = plans.map(|plan| format!("{:?}", plan.without_remarks()));
        assert_eq!(one, other);
    }
}
