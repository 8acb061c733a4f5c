//! Hostile texts: each must be answered, quickly, on the stack that every thread has.

use std::time::{Duration, Instant};

use crate::base::limits::{
    STATEMENT_BYTES_MAX, STATEMENT_DEPTH_MAX, STATEMENT_NESTING_MAX, STATEMENT_OPERATORS_MAX,
    STATEMENT_TOKENS_MAX,
};
use crate::error::{Error, SqlState};
use crate::sql::{Statement, parse_script, parse_single};

/// Runs on 2 MB of stack, which is what threads get, whatever the test runner gives.
fn on_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new()
        .name("small-stack".into())
        .stack_size(2 << 20);
    thread
        .spawn(work)
        .expect("a thread can be started")
        .join()
        .expect("the work does not panic")
}

fn refusal(script: String) -> Error {
    on_small_stack(move || {
        let start = Instant::now();
        let error = parse_script(&script)
            .map(|parsed| parsed.len())
            .expect_err("it is refused");
        let taken = start.elapsed();
        assert!(taken < Duration::from_secs(20), "refusing took {taken:?}");
        error
    })
}

/// What the server does with a statement, and what its tests do.
fn use_fully(script: String) {
    on_small_stack(move || {
        let parsed = parse_single(&script)
            .expect("it is accepted")
            .expect("a statement");
        let Statement::Query(query) = &parsed.statement else {
            panic!("a query")
        };
        assert_eq!(*query, query.clone());
        let again = parse_single(&query.to_string())
            .expect("it is read")
            .expect("a statement");
        assert_eq!(again.statement, parsed.statement);
    });
}

#[test]
fn a_chain_of_an_associative_operator_is_as_long_as_the_bound_on_operators() {
    for (first, term, last) in [
        ("SELECT a FROM t WHERE x", " OR x", ""),
        ("SELECT a FROM t WHERE x", " AND x", " OR y"),
        ("SELECT 1", " UNION ALL SELECT 1", " EXCEPT SELECT 2"),
        ("SELECT 1", " UNION SELECT 1", " LIMIT 3"),
    ] {
        use_fully(format!(
            "{first}{}{last}",
            term.repeat(STATEMENT_OPERATORS_MAX - 2)
        ));
        let error = refusal(format!(
            "{first}{}{last}",
            term.repeat(STATEMENT_OPERATORS_MAX + 1)
        ));
        assert_eq!(error.state(), SqlState::STATEMENT_TOO_COMPLEX, "{term}");
        assert!(error.get_position().is_some(), "{term}");
    }
}

#[test]
fn any_other_chain_is_as_long_as_the_bound_on_depth() {
    for (first, term, levels) in [
        ("SELECT 1", " + 1", 1),
        ("SELECT x", "::int", 1),
        ("SELECT x", " IS NULL", 1),
        ("SELECT 1", " EXCEPT SELECT 1", 3),
        ("SELECT 1", " UNION SELECT 1 UNION ALL SELECT 1", 6),
    ] {
        use_fully(format!(
            "{first}{}",
            term.repeat((STATEMENT_DEPTH_MAX - 8) / levels)
        ));
        for length in [
            STATEMENT_DEPTH_MAX / levels + 1,
            STATEMENT_OPERATORS_MAX / 2,
        ] {
            let error = refusal(format!("{first}{}", term.repeat(length)));
            assert_eq!(error.state(), SqlState::STATEMENT_TOO_COMPLEX, "{term}");
        }
    }
}

#[test]
fn long_lists_are_no_chains() {
    let values: Vec<String> = (0..20_000)
        .map(|n| format!("({n}, 'x' || 'y', -{n})"))
        .collect();
    let script = format!("INSERT INTO t VALUES {}", values.join(", "));
    assert_eq!(parse_script(&script).expect("it is accepted").len(), 1);
    let script = format!("SELECT {}", vec!["a + b * c"; 3_000].join(", "));
    assert_eq!(parse_script(&script).expect("it is accepted").len(), 1);
    let items: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    let script = format!("SELECT 1 WHERE x IN ({})", items.join(", "));
    assert_eq!(parse_script(&script).expect("it is accepted").len(), 1);
}

#[test]
fn nesting_is_bounded_in_every_form() {
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("f(", "1", ")"),
        ("(SELECT ", "1", ")"),
        ("CASE WHEN (", "a", ") THEN 1 END"),
        ("CAST(", "a", " AS int)"),
        ("ARRAY[", "1", "]"),
        ("x[", "1", "]"),
        ("interval ", "'1'", ""),
        ("- ", "1", ""),
        ("NOT ", "a", ""),
        ("EXISTS (SELECT ", "1", ")"),
    ] {
        let nested = |depth: usize| {
            format!(
                "SELECT {}{middle}{}",
                open.repeat(depth),
                close.repeat(depth)
            )
        };
        for depth in [STATEMENT_NESTING_MAX + 1, 3_000, 100_000] {
            let error = refusal(nested(depth));
            // A word may also be a name, and then what follows it does not fit.
            let is_word = open == "NOT " && error.state() == SqlState::SYNTAX_ERROR;
            let is_refused = error.state() == SqlState::STATEMENT_TOO_COMPLEX;
            assert!(is_refused || is_word, "{open} {depth}: {error}");
        }
    }
    for depth in [STATEMENT_NESTING_MAX + 1, 100_000] {
        let tables = format!("SELECT * FROM {}t{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(refusal(tables).state(), SqlState::STATEMENT_TOO_COMPLEX);
        let types = format!(
            "CREATE TABLE t (a {}int{})",
            "ARRAY<".repeat(depth),
            ">".repeat(depth)
        );
        assert_eq!(refusal(types).state(), SqlState::STATEMENT_TOO_COMPLEX);
        let types = format!("CREATE TABLE t (a int{})", "[]".repeat(depth));
        assert_eq!(refusal(types).state(), SqlState::STATEMENT_TOO_COMPLEX);
    }
}

#[test]
fn usual_nesting_is_accepted() {
    on_small_stack(|| {
        for (open, middle, close) in [
            ("(", "1", ")"),
            ("f(", "1", ")"),
            ("coalesce(a, ", "1", ")"),
            ("CASE WHEN a THEN ", "1", " ELSE 2 END"),
            ("CAST(", "a", " AS int)"),
            ("(SELECT ", "1", ")"),
            ("extract(day FROM ", "a", ")"),
        ] {
            let depth = 30;
            let text = format!(
                "SELECT {}{middle}{}",
                open.repeat(depth),
                close.repeat(depth)
            );
            assert_eq!(parse_script(&text).map(|all| all.len()), Ok(1), "{open}");
        }
        let from = format!(
            "SELECT * FROM {}t{}",
            "(SELECT * FROM ".repeat(30),
            ") AS s".repeat(30)
        );
        assert_eq!(parse_script(&from).map(|all| all.len()), Ok(1));
    });
}

#[test]
fn exponential_backtracking_is_cut_off() {
    for (open, middle, close) in [
        ("cast(", "x", ")"),
        ("extract(", "x", ")"),
        ("trim(", "x y", ")"),
        ("f(a => ", "x y", ")"),
        ("interval (", "x", ")"),
        ("CASE WHEN ", "x", ""),
        ("position(", "x", ")"),
        ("ceil(", "x y", ")"),
        ("(SELECT * FROM (", "x y z", "))"),
    ] {
        let depth = 60;
        let text = format!(
            "SELECT {}{middle}{}",
            open.repeat(depth),
            close.repeat(depth)
        );
        on_small_stack(move || {
            let start = Instant::now();
            // Accepted or refused, but answered.
            let _ = parse_script(&text);
            let taken = start.elapsed();
            assert!(taken < Duration::from_secs(20), "{text} took {taken:?}");
        });
    }
}

#[test]
fn joins_in_parentheses_are_answered() {
    let text = format!(
        "SELECT * FROM {}a{}",
        "(".repeat(30),
        " JOIN b ON true)".repeat(30)
    );
    let start = Instant::now();
    let _ = parse_script(&text);
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "it took {:?}",
        start.elapsed()
    );
}

#[test]
fn a_script_beyond_the_bounds_is_refused_before_it_is_read() {
    let error = refusal(" ".repeat(STATEMENT_BYTES_MAX + 1));
    assert_eq!(error.state(), SqlState::STATEMENT_TOO_COMPLEX);
    let error = refusal("a,".repeat(STATEMENT_TOKENS_MAX / 2 + 1));
    assert_eq!(error.state(), SqlState::STATEMENT_TOO_COMPLEX);
}

#[test]
fn positions_go_on_counting_over_statements_lines_and_wide_characters() {
    let script = "SELECT 'äöü';\n-- ü\nSELECT 1;\n SELECT *\n FORM t WHERE;";
    let error = parse_script(script).expect_err("a syntax error");
    let at = error.get_position().expect("a position");
    let rest: String = script.chars().skip(at - 1).collect();
    assert_eq!(rest, "FORM t WHERE;");
    assert_eq!(error.get_hint(), Some("did you mean FROM?"));

    let parsed = parse_script("SELECT 'äöü';\n-- ü\nSELECT\n  b;").expect("two statements");
    assert_eq!(parsed[1].text, "SELECT\n  b");
    assert_eq!(parsed[1].position.get(), Some(20));
    assert_eq!(parsed[1].position_at(2, 3), Some(29));
    assert_eq!(parsed[1].position_at(0, 0), None);
}

#[test]
fn a_single_statement_is_one_statement() {
    assert!(
        parse_single(" ; -- nothing")
            .expect("an empty text")
            .is_none()
    );
    let error = parse_single("SELECT 1; SELECT 2").expect_err("two statements");
    assert_eq!(
        (error.state(), error.get_position()),
        (SqlState::SYNTAX_ERROR, Some(11))
    );
}
