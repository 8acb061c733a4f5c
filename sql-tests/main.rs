//! Tests of whole servers, over the real protocol: what a user types and sees.
//!
//! Every test starts the real program on free ports and a directory of its own. SQL scripts stand
//! in one folder per theme; the other tests are Rust, a file per kind of client or accident:
//!
//! | file | proves |
//! | --- | --- |
//! | `server` | starts, kills and restarts the program |
//! | `script` | runs a script with its views made before the data, after it, and with restarts |
//! | `crash` | SIGKILL of a server that is being written loses and repeats nothing |
//! | `definition` | the same for CREATE and DROP while rows come |
//! | `client` | tokio-postgres: parameters, binary values, cancelling, prepared statements |
//! | `consistency` | readers and subscribers beside writers see whole transactions |
//! | `transaction` | the statements of a text, COPY in one, topics and tables under SIGKILL |
//! | `pipeline` | the extended protocol by its messages: what is before one Sync |
//! | `copying` | COPY in both directions, and a live subscription by COPY |
//! | `ending` | rows that come and go by the clock, without input and over restarts |
//! | `lifetime` | views that are cancelled, made in the background, dropped under a reader |
//! | `input` | large, broken and hostile input |
//! | `program` | psql and psycopg |
//! | `bench` | the benchmark command, on small inputs |
//! | `printed` | what the program tells its user to type does what it says; the demo |
//! | `watching` | what the server tells of itself: EXPLAIN ANALYZE, metrics, health |
//! | `broker` | a real Kafka broker: the session of the README |
//! | `source` | a real Kafka broker: bad values, topics that change |
//! | `postgres` | PostgreSQL itself: generated queries, as views and as SELECTs, have its answers |
//! | `tpch` | the 22 queries of TPC-H as views, under loads with rows that go and come again |
//!
//! `TIDEMILL_TEST_REWRITE=1` writes the answers of the server into the scripts; the difference is
//! then to be read.

// The library's own tests draw from the same grammar, and from all of it.
#[allow(dead_code, unused_imports)]
#[path = "../src/dataflow/oracle/grammar/mod.rs"]
mod grammar;

mod bench;
mod broker;
mod client;
mod consistency;
mod copying;
mod crash;
mod definition;
mod ending;
mod input;
mod lifetime;
mod pipeline;
mod postgres;
mod printed;
mod program;
mod script;
mod server;
mod source;
mod tpch;
mod tpch_queries;
mod transaction;
mod watching;

use std::collections::BTreeSet;

/// The folders with scripts; each has its test below, so that they run beside each other.
const THEMES: [&str; 11] = [
    "aggregates",
    "errors",
    "joins",
    "queries",
    "show",
    "sources",
    "subscribe",
    "tables",
    "types",
    "views",
    "windows",
];

#[test]
fn every_folder_with_scripts_has_a_test() {
    let entries = std::fs::read_dir(script::folder(""))
        .unwrap()
        .map(Result::unwrap);
    let folders: BTreeSet<String> = entries
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, THEMES.iter().map(ToString::to_string).collect());
}

#[test]
fn scripts_of_aggregates() {
    script::run_folder("aggregates");
}

#[test]
fn scripts_of_errors() {
    script::run_folder("errors");
}

#[test]
fn scripts_of_joins() {
    script::run_folder("joins");
}

#[test]
fn scripts_of_queries() {
    script::run_folder("queries");
}

#[test]
fn scripts_of_show() {
    script::run_folder("show");
}

#[test]
fn scripts_of_sources() {
    script::run_folder("sources");
}

#[test]
fn scripts_of_subscribe() {
    script::run_folder("subscribe");
}

#[test]
fn scripts_of_tables() {
    script::run_folder("tables");
}

#[test]
fn scripts_of_types() {
    script::run_folder("types");
}

#[test]
fn scripts_of_views() {
    script::run_folder("views");
}

#[test]
fn scripts_of_windows() {
    script::run_folder("windows");
}
