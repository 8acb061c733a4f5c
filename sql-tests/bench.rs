//! `tidemill bench`, run small: every query gives the batch answer and a figure for everything.

use std::process::{Command, Output};

use crate::broker;

/// Runs the bench and returns what it printed, one line a run.
fn bench(arguments: &[&str]) -> (Output, Vec<String>) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .arg("bench")
        .args(arguments)
        .output()
        .unwrap();
    let lines = String::from_utf8_lossy(&output.stdout);
    let lines = lines.lines().map(str::to_string).collect();
    (output, lines)
}

fn assert_right(arguments: &[&str], queries: usize) {
    let (output, lines) = bench(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{lines:#?}\n{said}");
    assert_eq!(lines.len(), queries, "{lines:#?}");
    for line in lines {
        assert!(line.contains(r#""status":"ok""#), "{line}");
        assert!(line.contains(r#""rows_per_second":"#), "{line}");
    }
}

#[test]
fn every_query_from_the_generator_gives_the_batch_answer() {
    assert_right(&["--rows", "20000", "--seconds", "0", "--json"], 19);
}

/// Enough rows for some windows to close.
#[test]
fn windows_that_have_closed_are_the_batch_answer() {
    let (output, lines) = bench(&["hop", "--rows", "100000", "--seconds", "0", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{lines:#?}\n{said}");
    let line = &lines[0];
    assert!(line.contains(r#""status":"ok""#), "{line}");
    assert!(!line.contains(r#""view_rows":0"#), "{line}");
}

#[test]
fn a_paced_run_measures_freshness() {
    let arguments = [
        "tumble",
        "--rows",
        "1000",
        "--rate",
        "1000",
        "--seconds",
        "3",
    ];
    let (output, lines) = bench(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{lines:#?}\n{said}");
    let line = lines
        .iter()
        .find(|line| line.contains("freshness p50, p99"));
    let line = line.unwrap_or_else(|| panic!("{lines:#?}"));
    assert!(!line.contains("NaN"), "{line}");
}

#[test]
fn a_soak_compares_memory_and_fails_where_it_grew() {
    let arguments = ["soak", "--rows", "30000", "--json", "--growth-max"];
    let with = |most| bench(&[&arguments[..], &[most]].concat());
    let (output, lines) = with("100");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{lines:#?}\n{said}");
    assert!(lines[0].contains(r#""status":"ok""#), "{lines:#?}");
    let (output, lines) = with("0.01");
    assert!(!output.status.success(), "{lines:#?}");
    assert!(lines[0].contains(r#""status":"failed""#), "{lines:#?}");
}

#[test]
fn a_query_that_does_not_exist_is_refused_with_the_names() {
    let (output, lines) = bench(&["q99"]);
    assert!(!output.status.success());
    assert!(lines.is_empty(), "{lines:#?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("q99") && said.contains("q7"), "{said}");
}

#[test]
fn queries_from_a_real_broker_give_the_batch_answer() {
    let Some(address) = broker::broker() else {
        return;
    };
    let arguments = [
        "tumble", "q8", "group", "--kafka", &address, "--rows", "5000",
    ];
    let arguments: Vec<&str> = arguments
        .into_iter()
        .chain([
            "--rate",
            "1000",
            "--seconds",
            "2",
            "--partitions",
            "2",
            "--json",
        ])
        .collect();
    assert_right(&arguments, 3);
}
