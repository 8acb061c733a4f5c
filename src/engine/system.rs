//! The system relations as one statement sees them: facts gathered from everything that runs.
//!
//! Gathering waits for nobody: it copies what the last step published and what readers say now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::memory::Account;
use crate::base::{EventTime, Memory, ObjectId};
use crate::catalog::{Catalog, Object, ObjectKind};
use crate::dataflow::{CollectionStatus, Progress, Published, ReaderStatus, SourceStatus};
use crate::engine::server::Engine;
use crate::engine::session::Session;
use crate::system::{
    EngineRows, ErrorRow, Lazy, MemoryRow, OperatorRow, ProgressRow, SessionFacts, SessionRow,
    SettingRow, SourceRow, SystemSnapshot, ViewRow, WatermarkRow,
};

impl Session {
    /// What the system relations say now, of the objects in `catalog`.
    pub(super) fn system_snapshot(&self, catalog: &Arc<Catalog>) -> Arc<SystemSnapshot> {
        let epoch = self.engine.published().epoch();
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
            changes: self.setting_changes.clone(),
            ..SessionFacts::default()
        };
        let (gathered, engine) = (catalog.clone(), self.engine.clone());
        let gather = move || engine.rows_of(gathered);
        Arc::new(SystemSnapshot {
            catalog: catalog.clone(),
            session: facts,
            settings: self.all_settings().map(setting).collect(),
            sessions: vec![session],
            engine: Lazy::new(gather),
        })
    }
}

impl Engine {
    /// What the system relations say of what runs.
    pub fn rows(&self) -> EngineRows {
        self.rows_of(self.catalog())
    }

    fn rows_of(&self, catalog: Arc<Catalog>) -> EngineRows {
        let progress = self.0.progress().clone();
        let running = Running::new(catalog, self.published(), self.0.clock.now_micros());
        let (published, catalog) = (self.published().clone(), running.catalog.clone());
        EngineRows {
            views: running.views(&progress),
            sources: running.source_rows(),
            watermarks: running.watermarks(),
            operators: running.operators(&progress),
            errors: Lazy::new(move || errors(&catalog, &published)),
            progress: running.progress(&progress),
            memory: memory_rows(self.memory()),
        }
    }
}

/// Everything that runs, at one moment.
pub(super) struct Running {
    catalog: Arc<Catalog>,
    epoch: u64,
    relations: Vec<CollectionStatus>,
    /// Sources with their readers.
    sources: BTreeMap<ObjectId, (SourceStatus, Option<ReaderStatus>)>,
    /// The watermarks of the tables that tell time.
    table_times: BTreeMap<ObjectId, EventTime>,
    now_micros: i64,
}

impl Running {
    pub fn new(catalog: Arc<Catalog>, published: &Published, now_micros: i64) -> Running {
        let (epoch, relations) = published.status();
        let with_reader = |status: SourceStatus| {
            let reader = status.reader.as_ref().map(|reader| reader.status());
            (status.id, (status, reader))
        };
        let sources = published.sources().into_iter().map(with_reader).collect();
        Running {
            catalog,
            epoch: epoch.0,
            relations,
            sources,
            table_times: published.table_times(),
            now_micros,
        }
    }

    /// The running state of a view or table.
    pub fn relation(&self, id: ObjectId) -> Option<&CollectionStatus> {
        self.relations.iter().find(|relation| relation.id == id)
    }

    /// The wall clock up to which a view contains what has reached the server, microseconds.
    ///
    /// That is the least over the sources below it: now, where nothing waits; the arrival of the
    /// oldest row that is in no epoch yet; the last contact, where a source does not answer. Rows
    /// that users write are visible before they are acknowledged and never wait.
    pub fn fresh_at(&self, view: ObjectId) -> i64 {
        let sources = self.inputs_below(view);
        let known = sources.iter().filter_map(|id| self.sources.get(id));
        let fresh = known.filter_map(|(status, reader)| {
            let Some(reader) = reader else {
                // Its last row is the last that is known of it.
                let rows = status.partitions.values().map(|state| state.row_at_micros);
                return status.error.as_ref().and(rows.max());
            };
            let silence = i64::try_from(reader.silence.as_micros()).unwrap_or(i64::MAX);
            let heard = self.now_micros.saturating_sub(silence);
            let answered = reader.error.as_ref().map(|_| heard);
            answered
                .into_iter()
                .chain(reader.waiting_since_micros)
                .min()
        });
        fresh.min().unwrap_or(self.now_micros).min(self.now_micros)
    }

    /// The sources and tables that a view reads, itself or through other views.
    fn inputs_below(&self, view: ObjectId) -> BTreeSet<ObjectId> {
        let mut found = BTreeSet::new();
        let mut open = vec![view];
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            let Some(object) = self.catalog.get(id).filter(|_| seen.insert(id)) else {
                continue;
            };
            match object.kind() {
                ObjectKind::Source | ObjectKind::Table => {
                    found.insert(id);
                }
                _ => open.extend(&object.depends_on),
            }
        }
        found
    }

    fn watermark_of(&self, view: ObjectId) -> Option<EventTime> {
        let sources = self.inputs_below(view);
        let timed = sources.iter().filter(|id| {
            let object = self.catalog.get(**id);
            object.is_some_and(|object| object.relation.event_time.is_some())
        });
        let least = timed
            .filter_map(|id| match self.sources.get(id) {
                Some((status, _)) => Some(status.watermark),
                None => self.table_times.get(id).copied(),
            })
            .min()?;
        (least != EventTime::MIN).then_some(least)
    }

    fn views(&self, progress: &BTreeMap<ObjectId, Arc<Progress>>) -> Vec<ViewRow> {
        let objects = self.catalog.objects();
        let views = objects.filter(|object| object.kind() == ObjectKind::MaterializedView);
        let row = |object: &Arc<Object>| match self.relation(object.id()) {
            Some(relation) => Some(self.view(object, relation)),
            None => progress.contains_key(&object.id()).then(|| ViewRow {
                name: object.name().to_string(),
                state: "catching up".to_string(),
                ..ViewRow::default()
            }),
        };
        views.filter_map(row).collect()
    }

    fn view(&self, object: &Object, relation: &CollectionStatus) -> ViewRow {
        let counts = &relation.statistics.counts;
        let failure = relation.failure.as_ref();
        let fresh_at = failure.is_none().then(|| self.fresh_at(object.id()));
        let age = |at: i64| u64::try_from(self.now_micros.saturating_sub(at) / 1_000).unwrap_or(0);
        ViewRow {
            name: object.name().to_string(),
            state: if failure.is_some() {
                "failed"
            } else {
                "running"
            }
            .to_string(),
            error: failure.map(|error| error.message().to_string()),
            epoch: Some(self.epoch),
            fresh_at: fresh_at.map(EventTime),
            freshness_ms: fresh_at.map(age),
            watermark: self.watermark_of(object.id()),
            rows: relation.rows.unwrap_or(0),
            bytes: number(relation.store_bytes),
            state_bytes: number(relation.statistics.state_bytes),
            rows_late: counts.rows_late,
            rows_late_partly: counts.rows_late_partly,
            retractions_late: counts.retractions_late,
            rows_bad: counts.rows_failed,
            rows_expired: counts.rows_expired,
            rows_evicted: counts.rows_evicted,
            gaps: (!relation.gaps.is_empty()).then(|| relation.gaps.join("; ")),
        }
    }

    fn source_rows(&self) -> Vec<SourceRow> {
        let mut rows = Vec::new();
        for (id, (status, reader)) in &self.sources {
            let Some(object) = self.catalog.get(*id) else {
                continue;
            };
            let no_reader = ReaderStatus::default();
            let seen = reader.as_ref().unwrap_or(&no_reader);
            for (partition, state) in &status.partitions {
                // An embedded topic has no rows that its step has not seen.
                let end = match status.is_embedded {
                    true => Some(&state.position),
                    false => seen.ends.get(partition),
                };
                let error = status.error.as_ref().or(seen.error.as_ref());
                let shown = match seen {
                    _ if error.is_some() => "disconnected",
                    _ if reader.is_none() && !status.is_embedded => "unread",
                    seen if seen.is_paused => "paused",
                    _ if state.is_idle => "idle",
                    _ => "reading",
                };
                let queued = seen.queued_bytes.get(partition);
                rows.push(SourceRow {
                    name: object.name().to_string(),
                    connector: status.connector.to_string(),
                    partition: partition.0,
                    state: shown.to_string(),
                    position: state.position.0,
                    end_position: end.map(|end| end.0.max(state.position.0)),
                    start_position: status.starts.get(partition).map(|start| start.0),
                    queued_bytes: queued.map_or(0, |bytes| number(*bytes)),
                    rows_in: state.rows,
                    records_bad: state.bad,
                    records_skipped: state.skipped,
                    last_error: error.map(|error| error.message().to_string()),
                });
            }
        }
        rows
    }

    fn watermarks(&self) -> Vec<WatermarkRow> {
        let mut rows = Vec::new();
        for (id, (status, _)) in &self.sources {
            let Some(object) = self.catalog.get(*id) else {
                continue;
            };
            let partitions = status.partitions.values();
            let active = partitions.filter(|partition| !partition.is_idle);
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
                    is_held: status.held.contains(partition),
                    follows_clock: status.follows_clock,
                    source_watermark: known(status.watermark),
                    rows_ahead: state.rows_ahead,
                });
            }
        }
        for (id, watermark) in &self.table_times {
            let Some(object) = self.catalog.get(*id) else {
                continue;
            };
            rows.push(WatermarkRow {
                source: object.name().to_string(),
                watermark: (*watermark != EventTime::MIN).then_some(*watermark),
                source_watermark: (*watermark != EventTime::MIN).then_some(*watermark),
                holds_back: true,
                ..WatermarkRow::default()
            });
        }
        rows
    }

    /// The operators of running views and of those that are being built.
    fn operators(&self, progress: &BTreeMap<ObjectId, Arc<Progress>>) -> Vec<OperatorRow> {
        let running = self.relations.iter();
        let running =
            running.filter_map(|relation| Some((relation.id, relation.metrics.as_ref()?)));
        let is_building = |id: &ObjectId| self.relation(*id).is_none();
        let building = progress.iter().filter(|(id, _)| is_building(id));
        let building = building.filter_map(|(id, progress)| Some((*id, progress.metrics()?)));
        let mut rows = Vec::new();
        for (id, metrics) in running.chain(building) {
            let Some(object) = self.catalog.get(id) else {
                continue;
            };
            for (shard, nodes) in (0..).zip(metrics.shards()) {
                for ((operator, node), description) in
                    (0..).zip(nodes.iter()).zip(metrics.descriptions())
                {
                    rows.push(OperatorRow {
                        view: object.name().to_string(),
                        operator,
                        shard,
                        description: description.clone(),
                        rows_in: node.rows_in.get(),
                        rows_out: node.rows_out.get(),
                        state_rows: node.state_rows.get(),
                        state_bytes: node.state_bytes.get(),
                        busy_ms: millis(node.busy_nanos.get()),
                        rows_late: node.rows_late.get(),
                        rows_bad: node.rows_failed.get(),
                        rows_evicted: node.rows_evicted.get(),
                    });
                }
            }
        }
        rows
    }

    fn progress(&self, progress: &BTreeMap<ObjectId, Arc<Progress>>) -> Vec<ProgressRow> {
        let row = |(id, progress): (&ObjectId, &Arc<Progress>)| {
            let object = self.catalog.get(*id);
            let (done, total) = (progress.records_done.get(), progress.records_total.get());
            // What came since it began is read beyond the end it began with.
            let is_read = total > 0 && done >= total;
            ProgressRow {
                job: id.0,
                view: object.map_or_else(String::new, |object| object.name().to_string()),
                phase: match progress.failure() {
                    Some(_) => "failed",
                    None if is_read => "joining",
                    None => "reading",
                }
                .to_string(),
                records_done: done,
                records_total: (total > 0).then_some(total),
                started_at: EventTime(progress.started_micros()),
                error: progress.failure().map(|cause| cause.message().to_string()),
            }
        };
        progress.iter().map(row).collect()
    }
}

fn errors(catalog: &Catalog, published: &Published) -> Vec<ErrorRow> {
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

/// The accounts; then their sum, what the system says, what counts of the two, and the limit.
fn memory_rows(memory: &Memory) -> Vec<MemoryRow> {
    let accounts = Account::ALL.map(|account| (account.name(), memory.held(account)));
    let sums = [
        ("accounted", memory.accounted()),
        ("resident", memory.resident()),
        ("used", memory.used()),
        ("limit", memory.limit()),
    ];
    let row = |(account, bytes): (&str, usize)| MemoryRow {
        account: account.to_string(),
        bytes: u64::try_from(bytes).map_or(i64::MAX.cast_unsigned(), |bytes| {
            bytes.min(i64::MAX.cast_unsigned())
        }),
    };
    accounts.into_iter().chain(sums).map(row).collect()
}

fn number(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Nanoseconds as milliseconds, to be looked at.
#[expect(
    clippy::cast_precision_loss,
    reason = "the digits that a double drops do not matter"
)]
pub(super) fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}
