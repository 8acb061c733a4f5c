//! Text in, text out: every statement of `testdata/` with what it is read as, or its error.
//!
//! A file is a list of cases with empty lines between them: a script, `----`, and the answer. The
//! answer is the canonical text of each statement, which must be read as the same statement
//! again, or the error with its code and position. `TIDEMILL_REWRITE=1 cargo test sql::` writes
//! the answers; read the diff before committing it. Lines that begin with `#` are comments.

use std::fmt::Write;
use std::path::Path;

use crate::error::Error;
use crate::sql::{Statement, parse_script, parse_single};

fn answer(script: &str) -> String {
    match parse_script(script) {
        Ok(parsed) => {
            let lines: Vec<String> = parsed
                .iter()
                .map(|parsed| statement_answer(&parsed.statement))
                .collect();
            lines.join("\n")
        }
        Err(error) => error_answer(&error),
    }
}

fn statement_answer(statement: &Statement) -> String {
    if let Statement::Unsupported(unsupported) = statement {
        return format!("refused when run: {}", error_answer(&unsupported.refusal()));
    }
    let text = statement.to_string();
    let again = match parse_single(&text) {
        Ok(Some(again)) => again.statement,
        Ok(None) => panic!("nothing is printed for {statement:?}"),
        Err(error) => panic!("the printed text {text:?} is not read: {error}"),
    };
    assert_eq!(
        again.to_string(),
        text,
        "the text changes when it is read and printed again"
    );
    assert_eq!(
        &again, statement,
        "the printed text {text:?} is another statement"
    );
    text
}

fn error_answer(error: &Error) -> String {
    let mut answer = format!("error {}", error.state());
    if let Some(position) = error.get_position() {
        write!(answer, " at {position}").expect("a String takes all");
    }
    write!(answer, ": {}", error.message()).expect("a String takes all");
    if let Some(detail) = error.get_detail() {
        write!(answer, "\n  detail: {detail}").expect("a String takes all");
    }
    if let Some(hint) = error.get_hint() {
        write!(answer, "\n  hint: {hint}").expect("a String takes all");
    }
    answer
}

/// Runs the cases of a file; with `TIDEMILL_REWRITE` set it writes their answers instead.
fn check(file: &str, text: &str) {
    let mut written = String::new();
    for case in text.split("\n\n").filter(|case| !case.trim().is_empty()) {
        let lines: Vec<&str> = case.trim_matches('\n').lines().collect();
        let comments = lines
            .iter()
            .take_while(|line| line.starts_with('#'))
            .count();
        let cut = lines
            .iter()
            .position(|line| *line == "----")
            .unwrap_or(lines.len());
        let script = lines[comments..cut].join("\n");
        for line in &lines[..comments] {
            writeln!(written, "{line}").expect("a String takes all");
        }
        if !script.is_empty() {
            let answer = answer(&script);
            write!(written, "{script}\n----\n{answer}\n").expect("a String takes all");
        }
        written.push('\n');
    }
    let written = format!("{}\n", written.trim_end_matches('\n'));
    if std::env::var_os("TIDEMILL_REWRITE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src/sql/testdata")
            .join(file);
        std::fs::write(&path, written).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        return;
    }
    for (number, (expected, found)) in text.lines().zip(written.lines()).enumerate() {
        assert_eq!(found, expected, "{file}, line {}", number + 1);
    }
    assert_eq!(
        text.lines().count(),
        written.lines().count(),
        "{file} has another length"
    );
}

#[test]
fn definitions_are_read_and_printed() {
    check("definitions.txt", include_str!("testdata/definitions.txt"));
}

#[test]
fn sessions_are_read_and_printed() {
    check("sessions.txt", include_str!("testdata/sessions.txt"));
}

#[test]
fn queries_are_rewritten_and_printed() {
    check("queries.txt", include_str!("testdata/queries.txt"));
}

#[test]
fn errors_have_their_code_place_and_hint() {
    check("errors.txt", include_str!("testdata/errors.txt"));
}
