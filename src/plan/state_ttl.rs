//! `state_ttl` in a stream plan: how long state is there that no time bounds.
//!
//! It is about what only grows: rows of an input that never retracts, in state that no watermark
//! frees. What can be taken back is bounded by what takes it back: the rows of a table, or those of
//! a view with a bound of its own.
//!
//! ```text
//!   SELECT k, count(*) FROM s GROUP BY k         the group leaves, idle for so long
//!   SELECT DISTINCT k FROM s                     the same
//!   DISTINCT ON (k) … ORDER BY ts                the same: a group with all its rows
//!   FROM a JOIN b ON a.k = b.k                   a row leaves, so long after it came
//! ```
//!
//! Whatever was made of it is taken back: the view is its query over what is there.

use crate::catalog::Changelog;
use crate::error::{Error, Result};
use crate::operator::lifetime::LifetimeSpec;
use crate::plan::build::Build;
use crate::plan::stream::{Node, Operation};

impl Build<'_> {
    /// How long a group of these rows may be idle, where no time bounds the groups.
    pub(super) fn idle_micros(&self, input: usize, is_unbounded: bool) -> Option<i64> {
        let only_grows = self.nodes[input].changelog == Changelog::AppendOnly;
        let ttl = self.options.state_ttl_micros;
        ttl.filter(|_| is_unbounded && only_grows && self.is_read(input))
    }

    /// Whether rows of the node are read from somewhere. Those of VALUES are part of the query:
    /// they neither grow nor leave.
    fn is_read(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        let mut inputs = node.inputs.iter();
        matches!(node.operation, Operation::Scan(_)) || inputs.any(|&input| self.is_read(input))
    }

    /// Whether the rows of the node would leave after their time, were they kept for ever.
    pub(super) fn has_lifetime(&self, input: usize) -> bool {
        self.idle_micros(input, true).is_some()
    }

    /// The node with rows that leave, where they only come.
    pub(super) fn with_lifetime(&mut self, input: usize) -> usize {
        let Some(length_micros) = self.idle_micros(input, true) else {
            return input;
        };
        let source = &self.nodes[input];
        let node = Node {
            operation: Operation::Lifetime(LifetimeSpec {
                input: source.schema.clone(),
                length_micros,
            }),
            inputs: vec![input],
            schema: source.schema.clone(),
            changelog: Changelog::Retracting,
            key: source.key.clone(),
            // Rows of any age are taken back.
            bounded: Vec::new(),
        };
        self.add(node)
    }

    /// An option that would be taken and do nothing is refused.
    pub(super) fn check_state_ttl(&self) -> Result<()> {
        let is_used = self.nodes.iter().any(|node| node.operation.has_ttl());
        if self.options.state_ttl_micros.is_none() || is_used {
            return Ok(());
        }
        Err(Error::unsupported(
            "state_ttl of a view without state that only grows is not supported",
        )
        .detail(
            "every group and row of it leaves by a watermark, or when what it comes from is taken \
             back, or is kept for a lookup or beside a side that only a watermark bounds",
        )
        .hint(
            "leave it out; the rows of a view leave by retention, and those of a view below by its \
             own state_ttl",
        ))
    }
}

impl Operation {
    /// Whether state, and what was made of it, leaves by `state_ttl`.
    pub fn has_ttl(&self) -> bool {
        match self {
            Operation::Lifetime(_) => true,
            Operation::Aggregate(spec) => spec.idle_micros.is_some(),
            Operation::Top(spec, _) => spec.idle_micros.is_some(),
            _ => false,
        }
    }
}
