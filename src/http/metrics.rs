//! Prometheus' text exposition format, version 0.0.4.
//!
//! Example:
//! ```text
//! # HELP tidemill_rows_total Rows read from a source.
//! # TYPE tidemill_rows_total counter
//! tidemill_rows_total{source="bids"} 42
//! ```

use std::fmt::Write;

/// A metric with all its samples at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// `[a-zA-Z_:][a-zA-Z0-9_:]*`, with its unit and `_total` for counters.
    pub name: &'static str,
    pub help: &'static str,
    pub kind: MetricKind,
    pub samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Names and values; names are valid as metric names are, without `:`.
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

impl Metric {
    /// A metric with one value and no labels.
    pub fn single(name: &'static str, help: &'static str, kind: MetricKind, value: f64) -> Metric {
        Metric {
            name,
            help,
            kind,
            samples: vec![Sample {
                labels: Vec::new(),
                value,
            }],
        }
    }
}

/// The metrics as Prometheus reads them.
pub(super) fn render(metrics: &[Metric]) -> String {
    let mut text = String::new();
    for metric in metrics {
        put_metric(&mut text, metric);
    }
    text
}

fn put_metric(text: &mut String, metric: &Metric) {
    let Metric {
        name,
        help,
        kind,
        samples,
    } = metric;
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    let kind = match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
    };
    text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    for Sample { labels, value } in samples {
        text.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            text.push_str(&format!("{label}=\"{value}\""));
        }
        if !labels.is_empty() {
            text.push('}');
        }
        text.push(' ');
        put_value(text, *value);
        text.push('\n');
    }
}

fn put_value(text: &mut String, value: f64) {
    if value.is_nan() {
        text.push_str("NaN");
    } else if value.is_infinite() {
        text.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        write!(text, "{value}").expect("a string takes any text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_render_with_escaped_labels() {
        let rows = Metric {
            name: "tidemill_rows_total",
            help: "Rows read\nfrom a source.",
            kind: MetricKind::Counter,
            samples: vec![
                Sample {
                    labels: vec![("source", "a\"b\\c\nd".into()), ("partition", "0".into())],
                    value: 42.0,
                },
                Sample {
                    labels: vec![("source", "x".into())],
                    value: f64::INFINITY,
                },
            ],
        };
        let uptime = Metric::single("uptime_seconds", "Since start.", MetricKind::Gauge, 1.5);
        assert_eq!(
            render(&[rows, uptime]),
            "# HELP tidemill_rows_total Rows read\\nfrom a source.\n\
             # TYPE tidemill_rows_total counter\n\
             tidemill_rows_total{source=\"a\\\"b\\\\c\\nd\",partition=\"0\"} 42\n\
             tidemill_rows_total{source=\"x\"} +Inf\n\
             # HELP uptime_seconds Since start.\n\
             # TYPE uptime_seconds gauge\n\
             uptime_seconds 1.5\n"
        );
    }
}
