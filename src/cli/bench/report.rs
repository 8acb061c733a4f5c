//! What a measurement prints: a block of lines for people, or one JSON object a run.

use serde_json::{Value, json};

use crate::cli::bench::BenchOptions;
use crate::cli::bench::queries::Query;
use crate::cli::bench::run::{Figures, Latencies};

/// Says what was measured on.
pub(super) fn print_heading(options: &BenchOptions) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let build = match cfg!(debug_assertions) {
        true => "DEBUG BUILD: figures mean nothing",
        false => "release build",
    };
    println!(
        "Tidemill {}, {build}, {cores} cores",
        env!("CARGO_PKG_VERSION")
    );
    println!("input: {}", input(options));
}

fn input(options: &BenchOptions) -> String {
    match &options.kafka {
        Some(servers) => format!("JSON from Kafka at {servers}"),
        None => "the generator, every declared column".to_string(),
    }
}

/// Prints one run; of one with a wrong answer nothing but that.
pub(super) fn print(query: &Query, figures: &Figures, options: &BenchOptions) {
    if options.json {
        println!("{}", object(query, figures, options));
        return;
    }
    println!();
    println!("{}: {}", query.name, query.about);
    if !figures.is_right() {
        println!("  FAILED: {}", failure(figures));
        return;
    }
    for (name, value) in lines(figures) {
        println!("  {name:<28}{value}");
    }
}

/// Prints the medians of several runs.
pub(super) fn print_median(query: &Query, runs: &[Figures], options: &BenchOptions) {
    let of = |value: &dyn Fn(&Figures) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        (
            values[values.len() / 2],
            values[0],
            values[values.len() - 1],
        )
    };
    let rates = of(&rate);
    let engine = of(&engine_rate);
    let share = of(&|figures| rate(figures) / ceiling_rate(figures));
    if options.json {
        let median = json!({
            "query": query.name, "median_of": runs.len(),
            "rows_per_second": rates.0.round(),
            "rows_per_engine_cpu_second": engine.0.round(),
            "share_of_ceiling": share.0,
        });
        println!("{median}");
        return;
    }
    println!(
        "{}: median of {} runs (least to most)",
        query.name,
        runs.len()
    );
    let line = |name: &str, (median, least, most): (f64, f64, f64), unit: f64| {
        let (median, least, most) = (median / unit, least / unit, most / unit);
        println!("  {name:<28}{median:.2} ({least:.2} to {most:.2})");
    };
    line("million rows/s", rates, 1e6);
    line("million rows/engine CPU-s", engine, 1e6);
    line("share of the input alone", share, 1.0);
}

fn failure(figures: &Figures) -> String {
    match figures.view_rows {
        0 => "the view is empty".to_string(),
        rows => format!(
            "{} rows of the view ({rows}) and of the batch answer differ",
            figures.differences
        ),
    }
}

fn lines(figures: &Figures) -> Vec<(&'static str, String)> {
    let ceiling = &figures.ceiling;
    let mut lines = vec![
        (
            "rows, rows of the view",
            format!("{}, {}", figures.rows, figures.view_rows),
        ),
        (
            "changes of the view",
            format!(
                "{}, an engine CPU-s for {:.0}",
                figures.changes,
                count(figures.changes) / engine_cpu(figures)
            ),
        ),
        (
            "rows out/s, CPU ns each",
            format!(
                "{:.0}, {:.0}",
                change_rate(figures),
                nanos_per_change(figures)
            ),
        ),
        ("rows/s", format!("{:.0}", rate(figures))),
        (
            "CPU s / million rows",
            format!("{:.3}", per_million(figures, figures.cpu)),
        ),
        (
            "  of it reading and decoding",
            format!("{:.3}", per_million(figures, figures.cpu_readers)),
        ),
        (
            "rows / engine CPU-second",
            format!("{:.0}", engine_rate(figures)),
        ),
        (
            "peak memory",
            format!("{:.0} MB", megabytes(figures.memory_bytes)),
        ),
        (
            "state: entries, bytes each",
            match figures.state_rows {
                0 => "0".to_string(),
                rows => format!("{rows}, {:.0}", count(figures.state_bytes) / count(rows)),
            },
        ),
        (
            "fsyncs/s",
            format!("{:.1}", figures.fsyncs / figures.seconds),
        ),
        (
            "the input alone",
            format!(
                "{:.0} rows/s, {:.3} CPU s / million",
                ceiling_rate(figures),
                ceiling.cpu / count(ceiling.rows) * 1e6
            ),
        ),
        (
            "share of the input alone",
            format!("{:.2}", rate(figures) / ceiling_rate(figures)),
        ),
    ];
    if let Some(paced) = &figures.paced {
        let both = |values: &[f64]| {
            format!(
                "{:.2} ms, {:.2} ms",
                percentile(values, 50),
                percentile(values, 99)
            )
        };
        lines.push(("freshness p50, p99", both(&paced.freshness)));
        if !paced.lookup.is_empty() {
            lines.push(("SELECT by key p50, p99", both(&paced.lookup)));
            lines.push(("prepared, by key p50, p99", both(&paced.prepared)));
        }
    }
    lines
}

fn object(query: &Query, figures: &Figures, options: &BenchOptions) -> Value {
    if !figures.is_right() {
        return json!({"query": query.name, "status": "FAILED", "reason": failure(figures)});
    }
    let paced = |value: &dyn Fn(&Latencies) -> f64| figures.paced.as_ref().map(value);
    json!({
        "query": query.name,
        "status": "ok",
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "input": input(options),
        "rows": figures.rows,
        "view_rows": figures.view_rows,
        "changes": figures.changes,
        "seconds": figures.seconds,
        "rows_per_second": rate(figures).round(),
        "rows_out_per_second": change_rate(figures).round(),
        "engine_cpu_nanoseconds_per_row_out": nanos_per_change(figures).round(),
        "cpu_seconds_per_million_rows": per_million(figures, figures.cpu),
        "cpu_seconds_per_million_rows_reading": per_million(figures, figures.cpu_readers),
        "rows_per_engine_cpu_second": engine_rate(figures).round(),
        "peak_memory_bytes": figures.memory_bytes,
        "state_rows": figures.state_rows,
        "state_bytes": figures.state_bytes,
        "fsyncs_per_second": figures.fsyncs / figures.seconds,
        "input_alone_rows_per_second": ceiling_rate(figures).round(),
        "input_alone_cpu_seconds_per_million_rows":
            figures.ceiling.cpu / count(figures.ceiling.rows) * 1e6,
        "share_of_input_alone": rate(figures) / ceiling_rate(figures),
        "freshness_ms_p50": paced(&|paced| percentile(&paced.freshness, 50)),
        "freshness_ms_p99": paced(&|paced| percentile(&paced.freshness, 99)),
        "lookup_ms_p50": paced(&|paced| percentile(&paced.lookup, 50)),
        "lookup_ms_p99": paced(&|paced| percentile(&paced.lookup, 99)),
        "prepared_lookup_ms_p50": paced(&|paced| percentile(&paced.prepared, 50)),
        "prepared_lookup_ms_p99": paced(&|paced| percentile(&paced.prepared, 99)),
    })
}

fn rate(figures: &Figures) -> f64 {
    count(figures.rows) / figures.seconds
}

/// Rows per CPU second of everything but the reading threads.
fn engine_rate(figures: &Figures) -> f64 {
    count(figures.rows) / engine_cpu(figures)
}

fn engine_cpu(figures: &Figures) -> f64 {
    figures.cpu - figures.cpu_readers
}

/// Rows of change that the view puts out a second.
fn change_rate(figures: &Figures) -> f64 {
    count(figures.changes) / figures.seconds
}

/// What each of them costs everything but the reading threads; infinite where there are none.
fn nanos_per_change(figures: &Figures) -> f64 {
    engine_cpu(figures) / count(figures.changes) * 1e9
}

fn ceiling_rate(figures: &Figures) -> f64 {
    count(figures.ceiling.rows) / figures.ceiling.seconds
}

fn per_million(figures: &Figures, cpu: f64) -> f64 {
    cpu / count(figures.rows) * 1e6
}

pub(super) fn megabytes(bytes: u64) -> f64 {
    count(bytes) / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "a figure has few digits")]
fn count(number: u64) -> f64 {
    number as f64
}

/// A percentile of rising values, by the nearest rank; NaN of none.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::input::Ceiling;
    use crate::cli::bench::queries::{QUERIES, Shows};

    fn figures(differences: u64) -> Figures {
        Figures {
            shows: Shows::OnUpdate,
            rows: 2_000_000,
            view_rows: 10,
            changes: 30,
            seconds: 2.0,
            cpu: 1.5,
            cpu_readers: 0.5,
            memory_bytes: 1 << 20,
            state_rows: 0,
            state_bytes: 0,
            fsyncs: 4.0,
            ceiling: Ceiling {
                rows: 2_000_000,
                seconds: 1.0,
                cpu: 1.0,
            },
            paced: None,
            differences,
        }
    }

    fn options() -> BenchOptions {
        BenchOptions {
            queries: Vec::new(),
            kafka: None,
            rows: 1,
            rate: 1,
            seconds: 0,
            partitions: 1,
            runs: 1,
            workers: 0,
            growth_max: 1.3,
            json: true,
        }
    }

    #[test]
    fn a_wrong_answer_has_no_figure() {
        let wrong = object(&QUERIES[0], &figures(3), &options());
        assert_eq!(wrong["status"], "FAILED");
        assert!(wrong.get("rows_per_second").is_none());
        let right = object(&QUERIES[0], &figures(0), &options());
        assert_eq!(right["status"], "ok");
        assert_eq!(right["rows_per_second"], 1_000_000.0);
        assert_eq!(right["rows_per_engine_cpu_second"], 2_000_000.0);
        assert_eq!(right["share_of_input_alone"], 0.5);
        assert_eq!(right["rows_out_per_second"], 15.0);
        assert_eq!(right["engine_cpu_nanoseconds_per_row_out"], 33_333_333.0);
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert!((percentile(&values, 50) - 100.0).abs() < f64::EPSILON);
        assert!((percentile(&values, 99) - 198.0).abs() < f64::EPSILON);
        assert!(percentile(&[], 99).is_nan());
    }
}
