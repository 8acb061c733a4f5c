//! SHOW: what there is and how it is set.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::base::EventTime;
use crate::catalog::ObjectKind;
use crate::engine::ddl::kind_of;
use crate::engine::response::{Response, RowsTag};
use crate::engine::session::Session;
use crate::error::{Error, Result, SqlState};
use crate::sql::session::{Listing, ShowObjects, Variable};
use crate::sql::statement::ShowCreate;

impl Session {
    pub(super) fn show_variable(&self, variable: &Variable) -> Result<Response> {
        let schema = variable_schema(variable);
        let columns: Vec<ArrayRef> = match variable {
            Variable::All => {
                let all: Vec<_> = self.all_settings().collect();
                let column = |pick: fn(&(&str, &str, &str)) -> String| -> ArrayRef {
                    Arc::new(StringArray::from_iter_values(all.iter().map(pick)))
                };
                vec![
                    column(|row| row.0.to_string()),
                    column(|row| row.1.to_string()),
                    column(|row| row.2.to_string()),
                ]
            }
            Variable::Named { name, position } => {
                let value = self.setting(name).ok_or_else(|| {
                    position.mark(
                        Error::new(
                            SqlState::UNDEFINED_OBJECT,
                            format!("unrecognized configuration parameter \"{name}\""),
                        )
                        .hint("SHOW ALL lists them"),
                    )
                })?;
                vec![Arc::new(StringArray::from(vec![value]))]
            }
        };
        rows(schema, columns, "SHOW")
    }

    pub(super) fn show_objects(&self, show: &ShowObjects) -> Result<Response> {
        let schema = objects_schema(show.what);
        let table = match show.what {
            Listing::Sources => self.list(ObjectKind::Source),
            Listing::Tables => self.list(ObjectKind::Table),
            Listing::MaterializedViews => self.list(ObjectKind::MaterializedView),
            Listing::Views => self.list(ObjectKind::View),
            Listing::Sinks | Listing::Indexes => Vec::new(),
            Listing::Jobs => self.list_jobs(),
            Listing::Watermarks => self.list_watermarks(),
        };
        let kept: Vec<Vec<Option<String>>> = table
            .into_iter()
            .filter(|row| match &show.like {
                None => true,
                Some(pattern) => like(row[0].as_deref().unwrap_or(""), pattern),
            })
            .collect();
        let column = |place: usize| -> ArrayRef {
            Arc::new(
                kept.iter()
                    .map(|row| row[place].as_deref())
                    .collect::<StringArray>(),
            )
        };
        let columns = (0..schema.fields().len()).map(column).collect();
        rows(schema, columns, "SHOW")
    }

    fn list(&self, kind: ObjectKind) -> Vec<Vec<Option<String>>> {
        let catalog = self.catalog();
        let of_kind = catalog.objects().filter(|object| object.kind() == kind);
        let mut names: Vec<_> = of_kind.map(|o| vec![Some(o.name().to_string())]).collect();
        names.sort();
        names
    }

    fn list_jobs(&self) -> Vec<Vec<Option<String>>> {
        let catalog = self.catalog();
        let progress = self.shared().progress();
        let job = |(id, progress): (&crate::base::ObjectId, &Arc<crate::dataflow::Progress>)| {
            let name = catalog.get(*id).map(|object| object.name().to_string());
            vec![
                Some(id.to_string()),
                Some("CREATE MATERIALIZED VIEW".to_string()),
                name,
                Some(progress.records_done.get().to_string()),
                Some(progress.records_total.get().to_string()),
            ]
        };
        let running = progress
            .iter()
            .filter(|(_, progress)| progress.failure().is_none());
        running.map(job).collect()
    }

    fn list_watermarks(&self) -> Vec<Vec<Option<String>>> {
        let catalog = self.catalog();
        let mut table = Vec::new();
        for status in self.engine.published().sources() {
            let Some(object) = catalog.get(status.id) else {
                continue;
            };
            let active = status
                .partitions
                .values()
                .filter(|partition| !partition.is_idle);
            let least = active.map(|partition| partition.watermark).min();
            for (partition, state) in &status.partitions {
                let holds_back = !state.is_idle && Some(state.watermark) == least;
                let what = match (status.held.contains(partition), state.is_idle) {
                    (true, _) => "waits for slower ones",
                    (false, true) if status.follows_clock => "idle, by the clock",
                    (false, true) => "idle",
                    (false, false) => "active",
                };
                table.push(vec![
                    Some(object.name().to_string()),
                    Some(partition.to_string()),
                    time_text(state.watermark),
                    time_text(EventTime(state.row_at_micros)),
                    Some(what.to_string()),
                    Some(if holds_back { "yes" } else { "no" }.to_string()),
                    time_text(status.watermark),
                    Some(state.rows_ahead.to_string()),
                ]);
            }
        }
        for (id, watermark) in self.engine.published().table_times() {
            let Some(object) = catalog.get(id) else {
                continue;
            };
            table.push(vec![
                Some(object.name().to_string()),
                Some("0".to_string()),
                time_text(watermark),
                None,
                Some("active".to_string()),
                Some("yes".to_string()),
                time_text(watermark),
                Some("0".to_string()),
            ]);
        }
        table
    }

    pub(super) fn show_create(&self, show: &ShowCreate) -> Result<Response> {
        let catalog = self.catalog();
        let object = catalog
            .resolve_kind(show.name.name(), kind_of(show.kind)?)
            .map_err(|e| show.name.position().mark(e))?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![object.name()])),
            Arc::new(StringArray::from(vec![object.definition.text.as_str()])),
        ];
        rows(create_schema(), columns, "SHOW")
    }
}

pub(super) fn rows(schema: SchemaRef, columns: Vec<ArrayRef>, tag: &str) -> Result<Response> {
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(crate::delta::arrow_error)?;
    let batches = Box::pin(futures::stream::iter([Ok(batch)]));
    Ok(Response::Rows {
        schema,
        batches,
        tag: RowsTag(tag.to_string()),
    })
}

fn texts(names: &[&str]) -> SchemaRef {
    let field = |name: &&str| Field::new(*name, DataType::Utf8, true);
    Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()))
}

pub(super) fn variable_schema(variable: &Variable) -> SchemaRef {
    match variable {
        Variable::All => texts(&["name", "setting", "description"]),
        Variable::Named { name, .. } => texts(&[name.as_str()]),
    }
}

pub(super) fn objects_schema(what: Listing) -> SchemaRef {
    match what {
        Listing::Jobs => texts(&["job", "statement", "view", "records_done", "records_total"]),
        Listing::Watermarks => texts(&[
            "source",
            "partition",
            "watermark",
            "last_row_at",
            "state",
            "holds_back",
            "source_watermark",
            "rows_ahead",
        ]),
        _ => texts(&["name"]),
    }
}

pub(super) fn create_schema() -> SchemaRef {
    texts(&["name", "create_statement"])
}

pub(super) fn explain_schema() -> SchemaRef {
    texts(&["QUERY PLAN"])
}

/// A time as text; nothing where there was no row.
pub(super) fn time_text(time: EventTime) -> Option<String> {
    if time == EventTime::MIN {
        return None;
    }
    let time = chrono::DateTime::from_timestamp_micros(time.0)?;
    Some(time.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string())
}

/// SQL's LIKE.
fn like(text: &str, pattern: &str) -> bool {
    let matched = arrow::compute::kernels::comparison::like(
        &arrow::array::Scalar::new(StringArray::from(vec![text])),
        &arrow::array::Scalar::new(StringArray::from(vec![pattern])),
    );
    matched.is_ok_and(|matched| matched.value(0))
}
