//! The rules of the house that a machine can check, as a test.
//!
//! `docs/style.md` holds all rules; here are those whose breach a program can name with file and
//! line. The checks read the repository as text, so they also see code that is not compiled on
//! this machine, and they are themselves tried on small bad inputs below.
//!
//! ```text
//! repository ── read ──► House { sources, documents, paths, … } ── RULES ──► file:line: what
//!                           Source = text, kinds of bytes, tokens, paths, what is a test
//! ```
//!
//! To add a rule: a function `fn(&House) -> Vec<Finding>` in `rules`, its line in `RULES`, and a
//! bad input in `tests`.

mod rules;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::tidy::rules::{House, RULES};
use crate::tidy::source::Source;

/// Folders whose files belong to the repository.
const FOLDERS: [&str; 5] = [".ci", "docker", "docs", "sql-tests", "src"];

#[test]
fn the_house_is_tidy() {
    let house = read_house(Path::new(env!("CARGO_MANIFEST_DIR")));
    let mut report = String::new();
    for (name, rule) in RULES {
        let mut findings = rule(&house);
        findings.sort();
        findings.dedup();
        if !findings.is_empty() {
            report.push_str(&format!("\n{name}:\n"));
            findings
                .iter()
                .for_each(|finding| report.push_str(&format!("  {finding}\n")));
        }
    }
    assert!(report.is_empty(), "docs/style.md is broken:\n{report}");
}

/// Reads everything that the rules look at.
fn read_house(top: &Path) -> House {
    let text = |name: &str| fs::read_to_string(top.join(name)).unwrap_or_default();
    let entries = fs::read_dir(top).expect("the repository can be listed");
    let mut house = House {
        top_level: entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect(),
        ignored: text(".gitignore"),
        manifest: text("Cargo.toml"),
        documents: vec![("README.md".to_string(), text("README.md"))],
        ..House::default()
    };
    for folder in FOLDERS {
        collect_paths(top, folder, &mut house.paths);
    }
    let mut sources = Vec::new();
    for path in &house.paths {
        if path.ends_with(".rs") {
            sources.push((path.as_str(), text(path)));
        } else if path.ends_with(".md") {
            house.documents.push((path.clone(), text(path)));
        }
    }
    house.sources = parse_all(&sources);
    house
}

fn collect_paths(top: &Path, folder: &str, paths: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(top.join(folder)) else {
        return;
    };
    paths.insert(folder.to_string());
    for entry in entries {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            collect_paths(top, &path, paths);
        } else {
            paths.insert(path);
        }
    }
}

/// Parses files and finds out which of them are compiled only for tests: those under `sql-tests/`,
/// and those that a `#[cfg(test)] mod name;` brings in.
fn parse_all(files: &[(&str, String)]) -> Vec<Source> {
    let mut sources: Vec<Source> = files
        .iter()
        .map(|(path, text)| Source::parse(path, text))
        .collect();
    let mut test_roots = vec!["sql-tests/".to_string()];
    for source in &sources {
        for child in source.test_children() {
            let root = format!("{}/{child}", source.child_folder());
            test_roots.push(format!("{root}.rs"));
            test_roots.push(format!("{root}/"));
        }
    }
    for source in &mut sources {
        if test_roots
            .iter()
            .any(|root| source.path.starts_with(root.as_str()))
        {
            source.set_test();
        }
    }
    sources
}

/// The findings of the rule with this name over a few files, as text.
fn check(rule: &str, files: &[(&str, &str)]) -> Vec<String> {
    let owned: Vec<(&str, String)> = files
        .iter()
        .map(|(path, text)| (*path, (*text).to_string()))
        .collect();
    let house = House {
        sources: parse_all(&owned),
        ..House::default()
    };
    check_house(rule, &house)
}

fn check_house(rule: &str, house: &House) -> Vec<String> {
    let (_, check) = RULES
        .iter()
        .find(|(name, _)| *name == rule)
        .expect("a rule of this name");
    check(house).iter().map(ToString::to_string).collect()
}

const LIB: (&str, &str) = (
    "src/lib.rs",
    "pub mod base;\npub mod plan;\npub mod wire;\n#[cfg(test)]\nmod tidy;\n",
);

#[test]
fn a_module_that_uses_one_below_it_is_named_with_its_line() {
    let rule = "modules use only modules above them";
    let good = (
        "src/plan/mod.rs",
        "use crate::base::ids;\nuse crate::plan::x;\nuse super::base;\n",
    );
    assert_eq!(check(rule, &[LIB, good]), [""; 0]);
    let bad = [
        ("src/plan/mod.rs", "//! a\nuse crate::wire::x;\n"),
        ("src/plan/a.rs", "use crate::{base, wire::{y, z}};\n"),
        (
            "src/plan/b.rs",
            "fn f() {\n    super::super::wire::g()\n}\n",
        ),
        (
            "src/plan/c.rs",
            "#[cfg(test)]\nmod tests {\n    use super::super::super::wire::g;\n}\n",
        ),
        (
            "src/base/mod.rs",
            "fn f(x: crate::nothing::T) {}\n// crate::wire::a\n",
        ),
        ("src/odd.rs", "\n"),
    ];
    for (file, expected) in bad.iter().zip([
        "src/plan/mod.rs:2: plan may not use wire, which is below it in src/lib.rs",
        "src/plan/a.rs:1: plan may not use wire, which is below it in src/lib.rs",
        "src/plan/b.rs:2: plan may not use wire, which is below it in src/lib.rs",
        "src/plan/c.rs:3: plan may not use wire, which is below it in src/lib.rs",
        "src/base/mod.rs:1: crate::nothing is not a module of src/lib.rs",
        "src/odd.rs: src/lib.rs has no module odd",
    ]) {
        let findings = check(rule, &[LIB, *file]);
        assert!(
            findings.iter().all(|found| found == expected),
            "{findings:?}"
        );
        assert!(!findings.is_empty(), "{expected}");
    }
}

#[test]
fn a_dependency_outside_its_folder_is_named() {
    let rule = "dependencies stay in their folder";
    let good = [
        (
            "src/sql/parse.rs",
            "use datafusion::sql::sqlparser::ast;\n// rdkafka\n",
        ),
        ("src/connector/kafka/reader.rs", "use rdkafka::message;\n"),
        ("sql-tests/kafka.rs", "use rdkafka::mocking;\n"),
    ];
    assert_eq!(check(rule, &good), [""; 0]);
    let bad = [
        ("src/connector/mod.rs", "fn f(x: rdkafka::Message) {}\n"),
        (
            "src/catalog/mod.rs",
            "\nuse datafusion::sql::sqlparser::ast;\n",
        ),
        ("src/engine/mod.rs", "use {pgwire::api, sled as tree};\n"),
    ];
    let findings = check(rule, &bad);
    assert_eq!(findings.len(), 4, "{findings:?}");
    assert_eq!(
        findings[0],
        "src/connector/mod.rs:1: rdkafka may be named only in src/connector/kafka/"
    );
}

#[test]
fn the_core_may_be_impure_only_in_tests() {
    let rule = "the core is pure";
    let pure = "//! async\nuse std::sync::Arc;\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
    assert_eq!(check(rule, &[("src/operator/join.rs", pure)]), [""; 0]);
    assert_eq!(
        check(rule, &[("src/storage/log.rs", "use std::fs;\n")]),
        [""; 0]
    );
    for (line, word) in [
        ("async fn f() {}", "async"),
        ("use std::{fmt, fs};", "std::fs"),
        ("fn f() { ::std::net::x() }", "std::net"),
        (
            "fn f() { let t = std::time::SystemTime::now(); }",
            "SystemTime",
        ),
        ("fn f() { Instant::now() }", "Instant"),
        ("fn f() { thread::spawn(g) }", "thread::"),
        ("struct S(std::sync::Mutex<u8>);", "Mutex"),
        ("fn f() { chrono::Utc::now() }", "Utc::now"),
    ] {
        let findings = check(rule, &[("src/delta/batch.rs", line)]);
        assert_eq!(findings.len(), 1, "{line}: {findings:?}");
        assert!(
            findings[0].contains(&format!("but {word} ")),
            "{findings:?}"
        );
    }
}

#[test]
fn files_begin_with_their_purpose_and_stay_short() {
    let first = "every file says what it is for";
    assert_eq!(check(first, &[("src/a.rs", "//! What it is.\n")]), [""; 0]);
    assert_eq!(
        check(first, &[("src/a.rs", "use b;\n"), ("src/c.rs", "//!\n")]).len(),
        2
    );

    let short = "files and lines are short";
    let golden = format!("let x = \"a\n{}\";\n", "b".repeat(200));
    let address = format!("// https://{}\n", "c".repeat(100));
    assert_eq!(
        check(short, &[("src/a.rs", &golden), ("src/b.rs", &address)]),
        [""; 0]
    );
    let string = format!("\nlet x = \"{}\";\n", "b".repeat(100));
    let comment = format!("// {}\n", "words ".repeat(20));
    let long = "\n".repeat(1001);
    let bad = [
        ("src/a.rs", string.as_str()),
        ("src/b.rs", &comment),
        ("src/c.rs", &long),
    ];
    let findings = check(short, &bad);
    assert_eq!(findings[0], "src/a.rs:2: 111 characters, 100 are allowed");
    assert_eq!(findings.len(), 3, "{findings:?}");
}

#[test]
fn what_is_left_unfinished_is_found_in_code_and_comments() {
    let rule = "nothing is left unfinished";
    assert_eq!(
        check(
            rule,
            &[("src/a.rs", "let s = \"todo!()\"; // unimplemented\n")]
        ),
        [""; 0]
    );
    for bad in [
        "fn f() { todo!() }",
        "fn f() { unimplemented!(\"x\") }",
        "#[ignore = \"slow\"]\nfn f() {}",
        "use std::thread::sleep;",
        "fn f() { std::thread::sleep(d) }",
        "// FIXME: later\n",
    ] {
        assert_eq!(check(rule, &[("src/a.rs", bad)]).len(), 1, "{bad}");
        assert_eq!(check(rule, &[("sql-tests/a.rs", bad)]).len(), 1, "{bad}");
    }
}

#[test]
fn unwrap_and_globs_belong_to_tests() {
    let rule = "nothing unwraps outside tests";
    let parent = (
        "src/a/mod.rs",
        "#[cfg(test)]\nmod tests;\nfn f() { x.unwrap_or(1) }\n",
    );
    let tests = ("src/a/tests.rs", "fn f() { x.unwrap() }\n");
    let under = ("src/a/tests/deep.rs", "fn f() { x.unwrap() }\n");
    let inline = ("src/b.rs", "#[test]\nfn f() { x.unwrap() }\n");
    assert_eq!(check(rule, &[parent, tests, under, inline]), [""; 0]);
    assert_eq!(check(rule, &[tests]).len(), 1);
    let bad = (
        "src/c.rs",
        "#[cfg(test)]\nmod tests {}\nfn f() {\n    x.unwrap()\n}\n",
    );
    assert!(check(rule, &[bad])[0].starts_with("src/c.rs:4: unwrap"));

    let rule = "imports have no globs";
    let good = "#[cfg(test)]\nmod tests {\n    use super::*;\n}\nfn f() { a * b }\n";
    assert_eq!(check(rule, &[("src/a.rs", good)]), [""; 0]);
    let bad = ("src/a.rs", "use super::*;\nuse std::{fmt, io::*};\n");
    assert_eq!(check(rule, &[bad]).len(), 2);
}

#[test]
fn names_and_the_top_level_are_as_agreed() {
    let set = |names: &[&str]| {
        names
            .iter()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>()
    };
    let mut house = House {
        paths: set(&["src/delta/keys.rs", "src/implicit.rs", "src/view/video.rs"]),
        top_level: set(&[
            ".ci",
            "Cargo.toml",
            "Cargo.lock",
            "LICENSE",
            "README.md",
            "docker",
            "docs",
            "sql-tests",
            "src",
            "target",
        ]),
        ignored: "/target\n".to_string(),
        ..House::default()
    };
    assert_eq!(
        check_house("files are named for the thing inside", &house),
        [""; 0]
    );
    assert_eq!(check_house("the top level is as agreed", &house), [""; 0]);
    house.paths = set(&[
        "src/string_utils.rs",
        "src/common/mod.rs",
        "src/common",
        "a/join_v2.rs",
    ]);
    house.top_level.insert("scripts".to_string());
    house.top_level.remove("LICENSE");
    assert_eq!(
        check_house("files are named for the thing inside", &house).len(),
        3
    );
    assert_eq!(check_house("the top level is as agreed", &house).len(), 2);
}

#[test]
fn a_bound_or_dependency_without_a_reason_is_named() {
    let limits = "/// Because.\npub const A: usize = 1;\n\npub const B: usize = 2;\n";
    let house = House {
        sources: vec![Source::parse("src/base/limits.rs", limits)],
        manifest:
            "[package]\nname = \"x\"\n[dependencies]\n# why: a\nb = \"1\"\nb-c = \"1\"\nc = \"1\"\n"
                .into(),
        ..House::default()
    };
    assert_eq!(
        check_house("numbers and dependencies have a reason", &house),
        [
            "src/base/limits.rs:4: a bound needs its reason as ///",
            "Cargo.toml:7: c needs a \"# why:\" above it",
        ]
    );
}

#[test]
fn a_document_that_points_nowhere_is_named() {
    let text = "see [a](b.md#top), [c](../README.md), [d](https://e) and `src/f.rs`, `src/<x>`\n";
    let map = "| `base` | x |\n| `plan` | y |\n";
    let mut house = House {
        sources: parse_all(&[("src/lib.rs", "mod base;\nmod plan;\n".to_string())]),
        documents: vec![
            ("docs/a.md".into(), text.into()),
            ("docs/architecture.md".into(), map.into()),
        ],
        paths: ["docs/b.md", "src/f.rs"].map(String::from).into(),
        top_level: ["README.md"].map(String::from).into(),
        ..House::default()
    };
    let rule = "documents point at what exists";
    assert_eq!(check_house(rule, &house), [""; 0]);
    house.paths.clear();
    house.documents[1].1 = "| `plan` | y |\n| `base` | x |\n".to_string();
    assert_eq!(
        check_house(rule, &house),
        [
            "docs/a.md:1: b.md does not exist",
            "docs/a.md:1: src/f.rs does not exist",
            "docs/architecture.md: the code map names plan base, but src/lib.rs has base plan",
        ]
    );
}
