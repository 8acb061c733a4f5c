//! The system relations as one statement sees them: facts gathered from everything that runs.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::logical_expr::ScalarUDF;

use crate::base::EventTime;
use crate::catalog::{Catalog, ObjectKind};
use crate::dataflow::{CollectionStatus, SourceStatus};
use crate::engine::session::Session;
use crate::error::Result;
use crate::sql::ast;
use crate::system::{
    EngineRows, ErrorRow, ProgressRow, SessionFacts, SessionRow, SettingRow, SourceRow,
    SystemSnapshot, ViewRow, WatermarkRow,
};

/// What the system relations say during one statement.
#[derive(Clone)]
pub struct SystemView(Arc<SystemSnapshot>);

impl SystemView {
    pub fn table(&self, reference: &TableReference) -> Result<Option<Arc<dyn TableProvider>>> {
        crate::system::tables(&self.0, reference)
    }

    pub fn functions(&self) -> Vec<Arc<ScalarUDF>> {
        crate::system::functions(&self.0)
    }

    pub fn rewrite(&self, query: &mut ast::Query) {
        crate::plan::compatibility::rewrite(query);
    }
}

impl Session {
    /// Gathers what the system relations say now.
    pub(super) async fn system_snapshot(&self) -> Result<SystemView> {
        let catalog = self.catalog();
        let (epoch, relations) = self.engine.published().status();
        let sources = self.engine.source_status().await?;
        let setting = |(name, value, description): (&str, &str, &str)| SettingRow {
            name: name.to_string(),
            value: value.to_string(),
            description: description.to_string(),
        };
        let now = EventTime(self.shared().clock.now_micros());
        let session = SessionRow {
            pid: 0,
            user: self.user.clone(),
            database: self.database.clone(),
            application_name: self
                .settings
                .get("application_name")
                .unwrap_or("")
                .to_string(),
            client_address: None,
            client_port: None,
            connected_at: now,
            statement_at: Some(now),
            state: "active".to_string(),
            statement: String::new(),
        };
        let facts = SessionFacts {
            database: self.database.clone(),
            user: self.user.clone(),
            epoch: epoch.0,
            server_started_at: self.shared().started_at,
            ..SessionFacts::default()
        };
        let engine = EngineRows {
            views: views(&catalog, &relations, epoch.0),
            sources: source_rows(&catalog, &sources),
            watermarks: watermarks(&catalog, &sources),
            operators: Vec::new(),
            errors: self.errors(&catalog),
            progress: self.progress_rows(&catalog),
        };
        Ok(SystemView(Arc::new(SystemSnapshot {
            catalog,
            session: facts,
            settings: self.settings.all().map(setting).collect(),
            sessions: vec![session],
            engine: Arc::new(engine),
        })))
    }

    fn errors(&self, catalog: &Catalog) -> Vec<ErrorRow> {
        let published = self.engine.published();
        let mut rows = Vec::new();
        for object in catalog.objects() {
            let name = Some(object.name().to_string());
            let is_source = object.kind() == ObjectKind::Source;
            for error in published.errors(object.id()) {
                rows.push(ErrorRow {
                    at: EventTime(error.at_micros),
                    source: name.clone().filter(|_| is_source),
                    view: name.clone().filter(|_| !is_source),
                    partition: error.partition,
                    offset: error.offset,
                    reason: error.reason,
                    record: Some(error.row.into_bytes()),
                });
            }
        }
        rows
    }

    fn progress_rows(&self, catalog: &Catalog) -> Vec<ProgressRow> {
        let progress = self.shared().progress();
        let row = |(id, progress): (&crate::base::ObjectId, &Arc<crate::dataflow::Progress>)| {
            let total = progress.records_total.get();
            ProgressRow {
                job: id.0,
                view: catalog
                    .get(*id)
                    .map_or_else(String::new, |object| object.name().to_string()),
                phase: match progress.failure() {
                    None => "reading".to_string(),
                    Some(_) => "failed".to_string(),
                },
                records_done: progress.records_done.get(),
                records_total: (total > 0).then_some(total),
                started_at: EventTime(progress.started_micros()),
                error: progress.failure().map(|cause| cause.message().to_string()),
            }
        };
        progress.iter().map(row).collect()
    }
}

fn views(catalog: &Catalog, relations: &[CollectionStatus], epoch: u64) -> Vec<ViewRow> {
    let row = |relation: &CollectionStatus| {
        let object = catalog.get(relation.id)?;
        if object.kind() != ObjectKind::MaterializedView {
            return None;
        }
        let statistics = &relation.statistics;
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Some(ViewRow {
            name: object.name().to_string(),
            state: if relation.failure.is_some() {
                "failed"
            } else {
                "running"
            }
            .to_string(),
            error: relation
                .failure
                .as_ref()
                .map(|error| error.message().to_string()),
            epoch: Some(epoch),
            rows: relation.rows.unwrap_or(0),
            bytes: number(relation.store_bytes),
            state_bytes: number(statistics.state_bytes),
            rows_late: statistics.counts.rows_late,
            rows_late_partly: statistics.counts.rows_late_partly,
            retractions_late: statistics.counts.retractions_late,
            rows_bad: statistics.counts.rows_failed,
            ..ViewRow::default()
        })
    };
    relations.iter().filter_map(row).collect()
}

fn source_rows(catalog: &Catalog, sources: &[SourceStatus]) -> Vec<SourceRow> {
    let mut rows = Vec::new();
    for status in sources {
        let Some(object) = catalog.get(status.id) else {
            continue;
        };
        for (partition, state) in &status.partitions {
            let shown = match (&status.error, state.is_idle) {
                (Some(_), _) => "disconnected",
                (None, true) => "idle",
                (None, false) => "reading",
            };
            rows.push(SourceRow {
                name: object.name().to_string(),
                connector: status.connector.to_string(),
                partition: partition.0,
                state: shown.to_string(),
                position: state.position.0,
                rows_in: state.rows,
                records_bad: state.bad,
                records_skipped: state.skipped,
                last_error: status
                    .error
                    .as_ref()
                    .map(|error| error.message().to_string()),
                ..SourceRow::default()
            });
        }
    }
    rows
}

fn watermarks(catalog: &Catalog, sources: &[SourceStatus]) -> Vec<WatermarkRow> {
    let mut rows = Vec::new();
    for status in sources {
        let Some(object) = catalog.get(status.id) else {
            continue;
        };
        let active = status
            .partitions
            .values()
            .filter(|partition| !partition.is_idle);
        let least = active.map(|partition| partition.watermark).min();
        let known = |time: EventTime| (time != EventTime::MIN).then_some(time);
        for (partition, state) in &status.partitions {
            rows.push(WatermarkRow {
                source: object.name().to_string(),
                partition: partition.0,
                watermark: known(state.watermark),
                last_row_at: (state.rows > 0).then_some(EventTime(state.row_at_micros)),
                is_idle: state.is_idle,
                holds_back: !state.is_idle && Some(state.watermark) == least,
            });
        }
    }
    rows
}
