//! The server's numbers for Prometheus.
//!
//! Names begin with `tidemill_`, end in their unit, and in `_total` where they only rise. Labels
//! are names that users gave: `view`, `source`, `partition`, `relation`.

use crate::base::memory::Account;
use crate::base::metrics::{Counter, PROCESS};
use crate::engine::Engine;
use crate::http::{Metric, Sample};
use crate::system::{EngineRows, SourceRow, ViewRow};

use crate::http::MetricKind::{Counter as Rising, Gauge};

/// Everything that is told, at this moment.
pub(super) fn metrics(engine: &Engine) -> Vec<Metric> {
    let rows = engine.rows();
    let mut metrics = vec![Metric::single(
        "tidemill_epoch",
        "The newest published epoch.",
        Gauge,
        float(engine.published().epoch().0),
    )];
    metrics.extend(process());
    metrics.extend(memory(engine));
    metrics.extend(views(&rows));
    metrics.extend(sources(&rows));
    metrics.extend(relations(engine));
    metrics
}

fn process() -> Vec<Metric> {
    let rising =
        |name, help, counter: &Counter| Metric::single(name, help, Rising, float(counter.get()));
    let gauge =
        |name, help, counter: &Counter| Metric::single(name, help, Gauge, float(counter.get()));
    let seconds = |name, help, counter: &Counter| {
        Metric::single(name, help, Rising, float(counter.get()) / 1e9)
    };
    vec![
        rising("tidemill_steps_total", "Steps taken.", &PROCESS.steps),
        seconds(
            "tidemill_step_seconds_total",
            "Time from the cut of a step to its publication.",
            &PROCESS.step_nanos,
        ),
        rising(
            "tidemill_rows_in_total",
            "Rows that steps took in, from sources and by writes.",
            &PROCESS.rows_in,
        ),
        rising(
            "tidemill_fsyncs_total",
            "Waits for the disk, for all files of the data directory.",
            &PROCESS.fsyncs,
        ),
        rising(
            "tidemill_checkpoints_total",
            "Checkpoints written.",
            &PROCESS.checkpoints,
        ),
        rising(
            "tidemill_checkpoints_failed_total",
            "Checkpoints that could not be written.",
            &PROCESS.checkpoints_failed,
        ),
        seconds(
            "tidemill_checkpoint_seconds_total",
            "Time that writing checkpoints took, beside the steps.",
            &PROCESS.checkpoint_nanos,
        ),
        rising(
            "tidemill_checkpoint_written_bytes_total",
            "Bytes that checkpoints wrote.",
            &PROCESS.checkpoint_bytes_written,
        ),
        gauge(
            "tidemill_checkpoint_bytes",
            "Bytes of the files of the newest checkpoint.",
            &PROCESS.checkpoint_bytes,
        ),
        gauge(
            "tidemill_checkpoint_epoch",
            "The epoch of the newest checkpoint.",
            &PROCESS.checkpoint_epoch,
        ),
    ]
}

fn memory(engine: &Engine) -> Vec<Metric> {
    let memory = engine.memory();
    let sample = |account: Account| Sample {
        labels: vec![("account", account.name().to_string())],
        value: bytes(memory.held(account)),
    };
    vec![
        Metric {
            name: "tidemill_memory_bytes",
            help: "Memory by what it is held for.",
            kind: Gauge,
            samples: Account::ALL.map(sample).to_vec(),
        },
        Metric::single(
            "tidemill_memory_resident_bytes",
            "Memory that the process holds of its own, as the system says.",
            Gauge,
            bytes(memory.resident()),
        ),
        Metric::single(
            "tidemill_memory_used_bytes",
            "Memory that counts against the limit.",
            Gauge,
            bytes(memory.used()),
        ),
        Metric::single(
            "tidemill_memory_limit_bytes",
            "The memory limit.",
            Gauge,
            bytes(memory.limit()),
        ),
    ]
}

fn views(rows: &EngineRows) -> Vec<Metric> {
    let of = |name, help, kind, value: &dyn Fn(&ViewRow) -> Option<f64>| {
        let sample = |view: &ViewRow| {
            Some(Sample {
                labels: vec![("view", view.name.clone())],
                value: value(view)?,
            })
        };
        Metric {
            name,
            help,
            kind,
            samples: rows.views.iter().filter_map(sample).collect(),
        }
    };
    vec![
        of(
            "tidemill_view_up",
            "1 for a view that runs, 0 for one that has failed or is being built.",
            Gauge,
            &|view| Some(float(u64::from(view.state == "running"))),
        ),
        of("tidemill_view_rows", "Rows of the view.", Gauge, &|view| {
            Some(float(view.rows))
        }),
        of(
            "tidemill_view_bytes",
            "Bytes of the view's rows.",
            Gauge,
            &|view| Some(float(view.bytes)),
        ),
        of(
            "tidemill_view_state_bytes",
            "Bytes of the state of the view's operators.",
            Gauge,
            &|view| Some(float(view.state_bytes)),
        ),
        of(
            "tidemill_view_freshness_seconds",
            "How far the view is behind what has reached the server.",
            Gauge,
            &|view| view.freshness_ms.map(|millis| float(millis) / 1e3),
        ),
        of(
            "tidemill_view_watermark_seconds",
            "The view's watermark, seconds since 1970.",
            Gauge,
            #[expect(clippy::cast_precision_loss, reason = "Prometheus has only floats")]
            &|view| view.watermark.map(|time| time.0 as f64 / 1e6),
        ),
        of(
            "tidemill_view_rows_late_total",
            "Rows that came too late for the view.",
            Rising,
            &|view| Some(float(view.rows_late)),
        ),
        of(
            "tidemill_view_rows_bad_total",
            "Rows that an expression of the view failed on.",
            Rising,
            &|view| Some(float(view.rows_bad)),
        ),
        of(
            "tidemill_view_rows_evicted_total",
            "Groups, and rows of joins, that the view's state_ttl has let go.",
            Rising,
            &|view| Some(float(view.rows_evicted)),
        ),
    ]
}

fn sources(rows: &EngineRows) -> Vec<Metric> {
    let of = |name, help, kind, value: &dyn Fn(&SourceRow) -> Option<f64>| {
        let sample = |source: &SourceRow| {
            let partition = source.partition.to_string();
            Some(Sample {
                labels: vec![("source", source.name.clone()), ("partition", partition)],
                value: value(source)?,
            })
        };
        Metric {
            name,
            help,
            kind,
            samples: rows.sources.iter().filter_map(sample).collect(),
        }
    };
    vec![
        of(
            "tidemill_source_rows_in_total",
            "Rows that came from the partition.",
            Rising,
            &|source| Some(float(source.rows_in)),
        ),
        of(
            "tidemill_source_records_bad_total",
            "Records of the partition that could not be decoded.",
            Rising,
            &|source| Some(float(source.records_bad)),
        ),
        of(
            "tidemill_source_position",
            "The next record to read of the partition.",
            Gauge,
            &|source| Some(float(source.position)),
        ),
        of(
            "tidemill_source_lag_records",
            "Records between the position and the partition's end, where it is known.",
            Gauge,
            &|source| Some(float(source.end_position?.saturating_sub(source.position))),
        ),
        of(
            "tidemill_source_queued_bytes",
            "Decoded bytes that wait for a step.",
            Gauge,
            &|source| Some(float(source.queued_bytes)),
        ),
        of(
            "tidemill_source_paused",
            "1 while the reader waits for room in its queue or in memory.",
            Gauge,
            &|source| Some(float(u64::from(source.state == "paused"))),
        ),
        of(
            "tidemill_source_up",
            "0 while the source does not answer.",
            Gauge,
            &|source| Some(float(u64::from(source.state != "disconnected"))),
        ),
    ]
}

/// Tables and views alike.
fn relations(engine: &Engine) -> Vec<Metric> {
    let (_, relations) = engine.published().status();
    let catalog = engine.catalog();
    let changed = relations.iter().filter_map(|relation| {
        let object = catalog.get(relation.id)?;
        Some(Sample {
            labels: vec![("relation", object.name().to_string())],
            value: float(relation.statistics.rows_changed),
        })
    });
    vec![Metric {
        name: "tidemill_rows_changed_total",
        help: "Rows of change of the relation, insertions and removals.",
        kind: Rising,
        samples: changed.collect(),
    }]
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has only floats")]
fn float(number: u64) -> f64 {
    number as f64
}

fn bytes(number: usize) -> f64 {
    float(u64::try_from(number).unwrap_or(u64::MAX))
}
