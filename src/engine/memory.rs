//! The memory of ad-hoc queries: DataFusion's operators ask for it, and get what is left.
//!
//! A query that must hold rows (a sort, a hash table) and gets no memory for them fails with 53200,
//! and the server goes on. One that holds few or none, such as a scan, a lookup or a look at the
//! system relations, goes on as well: who has run out of memory must be able to see why. Nothing is
//! spilled to disk: the data directory is not for that, and a slow answer is worse than a refusal
//! that names the limit.

use std::fmt;
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SessionState;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;

use crate::base::Memory;
use crate::base::limits::MEMORY_QUERIES_MIN;
use crate::base::memory::Account;
use crate::error::{Error, Result, SqlState};
use crate::plan::from_datafusion;

/// The state, with queries that run under the server's memory limit.
pub(super) fn with_memory(state: SessionState, memory: &Arc<Memory>) -> Result<SessionState> {
    let pool = QueryMemory(memory.clone());
    let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(no_disk)
        .build_arc()
        .map_err(from_datafusion)?;
    let builder = SessionStateBuilder::new_from_existing(state);
    Ok(builder.with_runtime_env(runtime).build())
}

/// What is refused when a query gets no memory.
const QUERY: &str = "what the query must hold";

/// A query's failure; one for want of memory names the limit.
pub(super) fn query_failure(memory: &Memory, error: DataFusionError) -> Error {
    let error = from_datafusion(error);
    match error.state() == SqlState::OUT_OF_MEMORY {
        true => memory.refusal(QUERY),
        false => error,
    }
}

/// What queries hold, as a part of the server's memory.
#[derive(Debug)]
struct QueryMemory(Arc<Memory>);

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "queries"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        self.0.add(Account::Queries, additional);
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        self.0.remove(Account::Queries, shrink);
    }

    fn try_grow(&self, _: &MemoryReservation, additional: usize) -> DataFusionResult<()> {
        if self.reserved().saturating_add(additional) <= MEMORY_QUERIES_MIN {
            self.0.add(Account::Queries, additional);
            return Ok(());
        }
        self.0
            .check(QUERY, additional)
            // The kind that makes an operator give out early what it can.
            .map_err(|error| DataFusionError::ResourcesExhausted(error.message().to_string()))?;
        self.0.add(Account::Queries, additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.0.held(Account::Queries)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.0.tight_from())
    }
}
