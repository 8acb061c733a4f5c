//! The threads on which ad-hoc queries run: not those of the protocols, which must always answer.
//!
//! ```text
//!   connection's task                              a thread of the pool
//!   run(plan) ─────────────────────────────────►   physical plan, then batch after batch
//!      ready, or why not  ◄────────────────────
//!      batches            ◄──── at most one ahead
//!      dropped (Ctrl-C, timeout, client gone) ──►  ends at the query's next pause
//! ```
//!
//! A query computes for as long as it likes between two batches. It may take a thread of the pool
//! with it until then, but neither other connections nor its own one: a cancelled statement is
//! answered at once.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::base::Memory;
use crate::base::limits::{QUERY_THREADS_MIN, QUERY_THREADS_PER_CORE, THREAD_STACK_BYTES};
use crate::engine::memory::query_failure;
use crate::engine::response::BatchStream;
use crate::error::{Error, Result};

/// See the module page.
pub struct QueryPool {
    /// Present until the end: it ends in the background, from whatever thread.
    runtime: Option<Runtime>,
}

/// Work on a thread of the pool; dropping it ends the work.
struct Work(JoinHandle<()>);

/// A query on its way.
struct Running {
    batches: mpsc::Receiver<Result<RecordBatch>>,
    work: Work,
    is_over: bool,
}

impl QueryPool {
    /// # Errors
    /// 58030 when the system gives no threads.
    pub fn start() -> Result<QueryPool> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(QUERY_THREADS_MIN.max(cores * QUERY_THREADS_PER_CORE))
            .thread_name("query")
            .thread_stack_size(THREAD_STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|error| Error::io("starting the threads of queries", &error))?;
        Ok(QueryPool {
            runtime: Some(runtime),
        })
    }

    /// Runs a plan; returns when it gives rows, which it then does as they are asked for.
    pub async fn run(
        &self,
        state: Arc<SessionState>,
        plan: LogicalPlan,
        memory: Arc<Memory>,
    ) -> Result<BatchStream> {
        let (ready, is_ready) = oneshot::channel();
        let (send, batches) = mpsc::channel(1);
        let query = async move {
            let planned = state.create_physical_plan(&plan).await;
            let stream = planned.and_then(|physical| execute_stream(physical, state.task_ctx()));
            let mut stream = match stream {
                Ok(stream) => {
                    let _ = ready.send(Ok(()));
                    stream
                }
                Err(error) => {
                    let _ = ready.send(Err(query_failure(&memory, error)));
                    return;
                }
            };
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(|error| query_failure(&memory, error));
                if send.send(batch).await.is_err() {
                    return;
                }
            }
        };
        let runtime = self
            .runtime
            .as_ref()
            .expect("the pool lives until it is dropped");
        let mut running = Running {
            batches,
            work: Work(runtime.spawn(query)),
            is_over: false,
        };
        match is_ready.await {
            Ok(ready) => ready?,
            Err(_) => return Err(running.work.failure().await.unwrap_or_else(ended)),
        }
        let next = |mut running: Running| async move {
            let batch = running.next().await?;
            Some((batch, running))
        };
        Ok(Box::pin(futures::stream::unfold(running, next)))
    }
}

impl QueryPool {
    /// Runs other work that computes; dropping the future ends it.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (send, answer) = oneshot::channel();
        let runtime = self
            .runtime
            .as_ref()
            .expect("the pool lives until it is dropped");
        let mut work = Work(runtime.spawn(async move {
            // Whoever asked may have gone.
            let _ = send.send(work.await);
        }));
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(work.failure().await.unwrap_or_else(ended)),
        }
    }
}

impl Drop for QueryPool {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Running {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        if self.is_over {
            return None;
        }
        if let Some(batch) = self.batches.recv().await {
            return Some(batch);
        }
        self.is_over = true;
        self.work.failure().await.map(Err)
    }
}

impl Work {
    /// Why it has ended without an answer; `None` where it came to its end.
    async fn failure(&mut self) -> Option<Error> {
        match (&mut self.0).await {
            Ok(()) => None,
            Err(error) if error.is_panic() => Some(Error::internal("the query panicked")),
            Err(_) => Some(ended()),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn ended() -> Error {
    Error::new(
        crate::error::SqlState::ADMIN_SHUTDOWN,
        "the server is shutting down",
    )
}
