//! What the operators of a view have done: numbers that a step adds up and anybody may read.
//!
//! A number is changed at most once per operator, shard and step, whatever the rows: two readings
//! of the clock and a few relaxed additions. So watching costs nothing that a step would notice,
//! and whoever looks asks nobody. The numbers are those of this dataflow in this process: they
//! begin anew with a restart, state and bytes excepted, which are what they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::metrics::Counter;
use crate::delta::DeltaBatch;
use crate::operator::Counts;
use crate::plan::StreamPlan;

/// The numbers of one view's operators.
#[derive(Debug)]
pub struct DataflowMetrics {
    /// For each node the line that EXPLAIN prints of it.
    descriptions: Vec<String>,
    /// EXPLAIN's last line: what the view's changes are like.
    summary: String,
    started: Instant,
    shards: Vec<Arc<[NodeMetrics]>>,
}

/// One operator on one shard, or the sum over its shards.
#[derive(Debug, Default)]
pub struct NodeMetrics {
    pub rows_in: Counter,
    pub rows_out: Counter,
    pub busy_nanos: Counter,
    pub rows_late: Counter,
    pub rows_failed: Counter,
    pub rows_evicted: Counter,
    /// A gauge, as of the last step.
    pub state_rows: Counter,
    /// A gauge, as of the last step.
    pub state_bytes: Counter,
}

impl DataflowMetrics {
    pub(super) fn new(plan: &StreamPlan, shards: usize) -> DataflowMetrics {
        let nodes = plan.nodes.len();
        let of_shard = |_| (0..nodes).map(|_| NodeMetrics::default()).collect();
        DataflowMetrics {
            descriptions: (0..nodes).map(|id| plan.describe(id)).collect(),
            summary: plan.summary(),
            started: Instant::now(),
            shards: (0..shards).map(of_shard).collect(),
        }
    }

    /// The operators of one shard.
    pub fn shard(&self, shard: usize) -> &Arc<[NodeMetrics]> {
        &self.shards[shard]
    }

    pub fn shards(&self) -> impl Iterator<Item = &Arc<[NodeMetrics]>> {
        self.shards.iter()
    }

    /// What EXPLAIN says of each operator, by its number there.
    pub fn descriptions(&self) -> &[String] {
        &self.descriptions
    }

    /// What EXPLAIN says of the view.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The operator over all shards.
    pub fn total(&self, node: usize) -> NodeMetrics {
        let total = NodeMetrics::default();
        for shard in &self.shards {
            total.add(&shard[node]);
        }
        total
    }

    /// How long the dataflow has been running in this process.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }
}

impl NodeMetrics {
    fn add(&self, other: &NodeMetrics) {
        let all = |metrics: &NodeMetrics| {
            [
                metrics.rows_in.get(),
                metrics.rows_out.get(),
                metrics.busy_nanos.get(),
                metrics.rows_late.get(),
                metrics.rows_failed.get(),
                metrics.rows_evicted.get(),
                metrics.state_rows.get(),
                metrics.state_bytes.get(),
            ]
        };
        let [
            rows_in,
            rows_out,
            busy,
            late,
            failed,
            evicted,
            state_rows,
            state_bytes,
        ] = all(other);
        self.rows_in.add(rows_in);
        self.rows_out.add(rows_out);
        self.busy_nanos.add(busy);
        self.rows_late.add(late);
        self.rows_failed.add(failed);
        self.rows_evicted.add(evicted);
        self.state_rows.add(state_rows);
        self.state_bytes.add(state_bytes);
    }

    /// Takes in what one step did: its rows, and the time since `started`.
    pub(super) fn took(&self, rows_in: usize, rows_out: usize, started: Instant) {
        self.rows_in.add(rows_in as u64);
        self.rows_out.add(rows_out as u64);
        self.busy_nanos.add_time(started.elapsed());
    }

    pub(super) fn counted(&self, counts: &Counts) {
        self.rows_late.add(counts.rows_late);
        self.rows_failed.add(counts.rows_failed);
        self.rows_evicted.add(counts.rows_evicted);
    }
}

/// Rows of change in some batches.
pub(super) fn rows(batches: &[DeltaBatch]) -> usize {
    batches.iter().map(DeltaBatch::len).sum()
}
