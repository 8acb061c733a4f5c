//! Health, metrics and a page to look at, over HTTP.
//!
//! ```text
//!   /healthz   200 while the process answers
//!   /readyz    200 when statements can be served, else 503 and why
//!   /metrics   Prometheus' text format, from a snapshot
//!   /          a page about the running server; plain text for curl, HTML for browsers
//! ```
//!
//! Nothing here knows the engine: [`Status`] holds the questions that are asked of it. There is no
//! password, so the address is loopback unless its owner knows better.
//!
//! Reading order: [`Server`] (`server`), [`Metric`] (`metrics`), [`Page`] (`page`).

mod metrics;
mod page;
mod server;

pub use metrics::{Metric, MetricKind, Sample};
pub use page::{Page, Table};
pub use server::{Server, Status, text_of};
