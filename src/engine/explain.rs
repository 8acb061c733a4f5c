//! EXPLAIN: how a view is maintained or a query is run; with ANALYZE, what that has cost.
//!
//! ```text
//!   EXPLAIN v            the stream plan
//!   EXPLAIN ANALYZE v    the stream plan of the running view, and below each operator
//!                        its rows in and out, time, state, late and bad rows
//!   EXPLAIN SELECT …     the batch plan; ANALYZE runs it and drops its rows; a SELECT of a row by
//!                        its key begins with KeyLookup: the plan then says what is answered, and
//!                        not how
//! ```

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::StringArray;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use crate::base::EventTime;
use crate::catalog::{Object, ObjectKind};
use crate::dataflow::{CollectionStatus, DataflowMetrics, NodeMetrics};
use crate::engine::define;
use crate::engine::memory::query_failure;
use crate::engine::point_read::PointRead;
use crate::engine::response::Response;
use crate::engine::session::Session;
use crate::engine::show::{explain_schema, rows, time_text};
use crate::engine::system::{Running, millis};
use crate::error::{Error, Result, SqlState};
use crate::plan::from_datafusion;
use crate::sql::session::{Explain, ExplainFormat, ExplainTarget};
use crate::sql::statement::Statement;
use crate::sql::{ObjectName, ast};

impl Session {
    pub(super) async fn explain(&mut self, explain: &Explain) -> Result<Response> {
        if explain.format != ExplainFormat::Text {
            return Err(Error::unsupported("EXPLAIN prints text only").hint("leave out FORMAT"));
        }
        let text = match &explain.target {
            ExplainTarget::Object(name) => {
                let object = self.view_to_explain(name)?;
                match explain.analyze {
                    true => self.running_plan(&object)?,
                    false => self.stream_plan(&object)?,
                }
            }
            ExplainTarget::Statement(statement) => match (statement.as_ref(), explain.analyze) {
                (Statement::CreateMaterializedView(create), false) => {
                    let catalog = self.catalog();
                    define::stream_plan(&self.shared().template, &catalog, create)?.to_string()
                }
                (Statement::CreateMaterializedView(_), true) => {
                    return Err(Error::unsupported(
                        "EXPLAIN ANALYZE of a view that does not run is not supported",
                    )
                    .hint("create the view, then EXPLAIN ANALYZE it by its name"));
                }
                (Statement::Query(query), false) => {
                    let reading = self.reading();
                    let planned = reading.plan(query)?;
                    let optimized = reading.state().optimize(&planned.plan);
                    let optimized = optimized.map_err(from_datafusion)?;
                    let plan = optimized.display_indent();
                    match PointRead::compile(&reading, &planned, &[]) {
                        Some(point) => format!("{}\n{plan}", point.describe()),
                        None => plan.to_string(),
                    }
                }
                (Statement::Query(query), true) => self.analyzed_query(query).await?,
                _ => {
                    return Err(
                        Error::unsupported("EXPLAIN of this statement is not supported").hint(
                            "EXPLAIN SELECT …, EXPLAIN CREATE MATERIALIZED VIEW …, or a view",
                        ),
                    );
                }
            },
        };
        let lines: Vec<&str> = text.lines().collect();
        let column = Arc::new(StringArray::from(lines));
        rows(explain_schema(), vec![column], "EXPLAIN")
    }

    fn view_to_explain(&self, name: &ObjectName) -> Result<Arc<Object>> {
        let catalog = self.catalog();
        let object = catalog
            .resolve(name.name())
            .map_err(|error| name.position().mark(error))?;
        match object.kind() {
            ObjectKind::MaterializedView => Ok(object.clone()),
            kind => Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("{kind} \"{}\" has no dataflow", object.name()),
            )
            .hint("EXPLAIN SELECT … shows how a query is run")),
        }
    }

    fn stream_plan(&self, object: &Object) -> Result<String> {
        let parsed = crate::sql::parse_single(&object.definition.text)?;
        let Some(Statement::CreateMaterializedView(create)) = parsed.map(|parsed| parsed.statement)
        else {
            return Err(Error::internal(
                "a view's text is not CREATE MATERIALIZED VIEW",
            ));
        };
        let catalog = self.catalog();
        Ok(define::stream_plan(&self.shared().template, &catalog, &create)?.to_string())
    }

    /// The plan that runs, with its numbers.
    fn running_plan(&self, object: &Object) -> Result<String> {
        let shared = self.shared();
        let published = self.engine.published();
        let running = Running::new(self.catalog(), published, shared.clock.now_micros());
        let relation = running.relation(object.id());
        let (Some(relation), Some(metrics)) = (
            relation,
            relation.and_then(|relation| relation.metrics.as_ref()),
        ) else {
            return Err(Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("view \"{}\" is being built", object.name()),
            )
            .hint("tidemill.progress shows how far it is"));
        };
        if let Some(failure) = &relation.failure {
            return Err(Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the view has failed: {}", failure.message()),
            )
            .hint("drop it and create it again when the cause is gone"));
        }
        let mut text = operators(metrics);
        text.push_str(&summary(&running, object, relation, metrics));
        Ok(text)
    }

    /// Runs the query and tells what its operators did; its rows are dropped.
    async fn analyzed_query(&self, query: &ast::Query) -> Result<String> {
        let reading = self.reading();
        let planned = reading.plan(query)?;
        reading.reads.pin()?;
        let (state, memory) = (reading.state().clone(), self.shared().memory.clone());
        let work = async move {
            let failure = |error| query_failure(&memory, error);
            let physical = state.create_physical_plan(&planned.plan).await;
            let physical = physical.map_err(from_datafusion)?;
            let mut stream = execute_stream(physical.clone(), state.task_ctx()).map_err(failure)?;
            let mut count = 0;
            while let Some(batch) = stream.next().await {
                count += batch.map_err(failure)?.num_rows();
            }
            let plan = DisplayableExecutionPlan::with_metrics(physical.as_ref());
            Ok(format!("{}rows: {count}", plan.indent(false)))
        };
        self.shared().queries.call(work).await
    }
}

/// Each operator's line of EXPLAIN, and below it what it has done.
fn operators(metrics: &DataflowMetrics) -> String {
    let mut text = String::new();
    let seconds = metrics.age().as_secs_f64();
    for (id, description) in metrics.descriptions().iter().enumerate().rev() {
        let node = metrics.total(id);
        let _ = writeln!(text, "{id}: {description}");
        let _ = writeln!(text, "     {}", numbers(&node, seconds));
    }
    text
}

/// `rows in 3 (0.1/s), out 4 (0.1/s); busy 0.1 ms; state 2 rows, 12 kB; late 1; bad 2`
fn numbers(node: &NodeMetrics, seconds: f64) -> String {
    let mut text = format!(
        "rows in {}, out {}; busy {:.1} ms",
        rated(node.rows_in.get(), seconds),
        rated(node.rows_out.get(), seconds),
        millis(node.busy_nanos.get())
    );
    if node.state_bytes.get() > 0 {
        let (rows, bytes) = (node.state_rows.get(), size(node.state_bytes.get()));
        let _ = write!(text, "; state {rows} rows, {bytes}");
    }
    for (name, count) in [("late", &node.rows_late), ("bad", &node.rows_failed)] {
        if count.get() > 0 {
            let _ = write!(text, "; {name} {}", count.get());
        }
    }
    text
}

fn summary(
    running: &Running,
    object: &Object,
    relation: &CollectionStatus,
    metrics: &DataflowMetrics,
) -> String {
    let counts = &relation.statistics.counts;
    let bytes = |number: usize| size(u64::try_from(number).unwrap_or(u64::MAX));
    format!(
        "view: {}\n     rows {}, {}; state {}; late {}, bad {}\n     \
         fresh at {}; running for {:.1} s in this process\n",
        metrics.summary(),
        relation.rows.unwrap_or(0),
        bytes(relation.store_bytes),
        bytes(relation.statistics.state_bytes),
        counts.rows_late,
        counts.rows_failed,
        time_text(EventTime(running.fresh_at(object.id()))).unwrap_or_default(),
        metrics.age().as_secs_f64(),
    )
}

/// A total with its mean rate.
#[expect(
    clippy::cast_precision_loss,
    reason = "the digits that a double drops do not matter"
)]
fn rated(count: u64, seconds: f64) -> String {
    // A dataflow that has just begun has no rate worth the name.
    let rate = count as f64 / seconds.max(1.0);
    format!("{count} ({rate:.1}/s)")
}

/// Bytes as a person reads them, in units of 1024 as Postgres has them.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_are_read_by_people() {
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(1536), "1.5 kB");
        assert_eq!(size(3 << 30), "3.0 GB");
        assert_eq!(size(u64::MAX), "16777216.0 TB");
        assert_eq!(rated(10, 0.0), "10 (10.0/s)");
        assert_eq!(rated(10, 4.0), "10 (2.5/s)");
    }

    #[test]
    fn an_operator_says_only_what_it_has() {
        let node = NodeMetrics::default();
        node.rows_in.add(4);
        node.busy_nanos.add(1_250_000);
        assert_eq!(
            numbers(&node, 2.0),
            "rows in 4 (2.0/s), out 0 (0.0/s); busy 1.2 ms"
        );
        node.state_bytes.set(2048);
        node.state_rows.set(3);
        node.rows_late.add(1);
        let told = numbers(&node, 2.0);
        assert!(told.ends_with("; state 3 rows, 2.0 kB; late 1"), "{told}");
    }
}
