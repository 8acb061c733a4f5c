//! The relations of the schema `tidemill`: what exists, and how it is doing.

use crate::catalog::Object;
use crate::system::rows::{Cell, RowSet};
use crate::system::shape::Shape;
use crate::system::snapshot::SystemSnapshot;

/// Fills the relation of this shape.
pub fn fill(shape: &Shape, snapshot: &SystemSnapshot, rows: &mut RowSet) {
    match shape.name {
        "objects" => objects(snapshot, rows),
        "views" => views(snapshot, rows),
        "sources" => sources(snapshot, rows),
        "watermarks" => watermarks(snapshot, rows),
        "operators" => operators(snapshot, rows),
        "errors" => errors(snapshot, rows),
        "progress" => progress(snapshot, rows),
        "memory" => {
            for row in &snapshot.engine.memory {
                rows.add([
                    ("account", (&row.account).into()),
                    ("bytes", row.bytes.into()),
                ]);
            }
        }
        "settings" => {
            for row in &snapshot.settings {
                rows.add([
                    ("name", (&row.name).into()),
                    ("value", (&row.value).into()),
                    ("description", (&row.description).into()),
                ]);
            }
        }
        _ => {}
    }
}

fn objects(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for object in snapshot.catalog.objects() {
        let schema = &object.relation.schema;
        let name_of = |column: &usize| schema.field(*column).name().clone();
        let key = object
            .relation
            .key
            .as_ref()
            .map(|key| Cell::list(key.iter().map(name_of)));
        let depends_on = object
            .depends_on
            .iter()
            .filter_map(|id| snapshot.catalog.get(*id));
        rows.add([
            ("oid", object.definition.oid.into()),
            ("name", object.name().into()),
            ("kind", object.kind().to_string().into()),
            ("definition", (&object.definition.text).into()),
            ("key", key.unwrap_or(Cell::Null)),
            ("changelog", object.relation.changelog.to_string().into()),
            (
                "event_time",
                object
                    .relation
                    .event_time
                    .map(|column| name_of(&column))
                    .into(),
            ),
            (
                "depends_on",
                Cell::list(depends_on.map(|object: &std::sync::Arc<Object>| object.name())),
            ),
            ("comment", object.definition.comment.clone().into()),
        ]);
    }
}

fn views(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for row in &snapshot.engine.views {
        rows.add([
            ("name", (&row.name).into()),
            ("state", (&row.state).into()),
            ("error", row.error.clone().into()),
            ("epoch", row.epoch.into()),
            ("fresh_at", row.fresh_at.into()),
            ("freshness_ms", row.freshness_ms.into()),
            ("watermark", row.watermark.into()),
            ("rows", row.rows.into()),
            ("bytes", row.bytes.into()),
            ("state_bytes", row.state_bytes.into()),
            ("rows_late", row.rows_late.into()),
            ("rows_late_partly", row.rows_late_partly.into()),
            ("retractions_late", row.retractions_late.into()),
            ("rows_bad", row.rows_bad.into()),
            ("rows_expired", row.rows_expired.into()),
            ("rows_evicted", row.rows_evicted.into()),
            ("gaps", row.gaps.clone().into()),
        ]);
    }
}

fn sources(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for row in &snapshot.engine.sources {
        rows.add([
            ("name", (&row.name).into()),
            ("connector", (&row.connector).into()),
            ("partition", row.partition.into()),
            ("state", (&row.state).into()),
            ("position", row.position.into()),
            ("end_position", row.end_position.into()),
            (
                "lag",
                row.end_position
                    .map(|end| end.saturating_sub(row.position))
                    .into(),
            ),
            ("start_position", row.start_position.into()),
            ("queued_bytes", row.queued_bytes.into()),
            ("rows_in", row.rows_in.into()),
            ("records_bad", row.records_bad.into()),
            ("records_skipped", row.records_skipped.into()),
            ("last_error", row.last_error.clone().into()),
        ]);
    }
}

fn watermarks(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for row in &snapshot.engine.watermarks {
        rows.add([
            ("source", (&row.source).into()),
            ("partition", row.partition.into()),
            ("watermark", row.watermark.into()),
            ("last_row_at", row.last_row_at.into()),
            ("is_idle", row.is_idle.into()),
            ("holds_back", row.holds_back.into()),
            ("is_held", row.is_held.into()),
            ("follows_clock", row.follows_clock.into()),
            ("source_watermark", row.source_watermark.into()),
            ("rows_ahead", row.rows_ahead.into()),
        ]);
    }
}

fn operators(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for row in &snapshot.engine.operators {
        rows.add([
            ("view", (&row.view).into()),
            ("operator", row.operator.into()),
            ("shard", row.shard.into()),
            ("description", (&row.description).into()),
            ("rows_in", row.rows_in.into()),
            ("rows_out", row.rows_out.into()),
            ("state_rows", row.state_rows.into()),
            ("state_bytes", row.state_bytes.into()),
            ("busy_ms", row.busy_ms.into()),
            ("rows_late", row.rows_late.into()),
            ("rows_bad", row.rows_bad.into()),
            ("rows_evicted", row.rows_evicted.into()),
        ]);
    }
}

fn errors(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for row in snapshot.engine.errors.iter() {
        rows.add([
            ("at", row.at.into()),
            ("source", row.source.clone().into()),
            ("view", row.view.clone().into()),
            ("partition", row.partition.into()),
            ("record_offset", row.offset.into()),
            ("reason", (&row.reason).into()),
            ("record", row.record.clone().into()),
        ]);
    }
}

fn progress(snapshot: &SystemSnapshot, rows: &mut RowSet) {
    for row in &snapshot.engine.progress {
        rows.add([
            ("job", row.job.into()),
            ("view", (&row.view).into()),
            ("phase", (&row.phase).into()),
            ("records_done", row.records_done.into()),
            ("records_total", row.records_total.into()),
            (
                "fraction",
                row.records_total
                    .map(|total| fraction(row.records_done, total))
                    .into(),
            ),
            ("started_at", row.started_at.into()),
            ("error", row.error.clone().into()),
        ]);
    }
}

/// How much of it is done, from 0 to 1; nothing to do is done.
fn fraction(done: u64, total: u64) -> f64 {
    if total == 0 {
        return 1.0;
    }
    // A ratio to be looked at: the digits that a double drops do not matter.
    #[allow(clippy::cast_precision_loss)]
    let ratio = done as f64 / total as f64;
    ratio.min(1.0)
}
