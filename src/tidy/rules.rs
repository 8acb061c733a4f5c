//! The checks: each takes the house and returns what breaks its rule, with file and line.

use std::collections::BTreeSet;
use std::fmt;

use crate::tidy::source::{Kind, Path, Source, is_word};

/// Everything that is checked: a copy of the repository's texts, so that the checks themselves can
/// be tried on small bad ones.
#[derive(Default)]
pub struct House {
    /// Every `.rs` file under `src/` and `sql-tests/`.
    pub sources: Vec<Source>,
    /// Every `.md` file as (path, text).
    pub documents: Vec<(String, String)>,
    /// Every file and folder below the top level that is kept in the repository.
    pub paths: BTreeSet<String>,
    /// The names of the top level.
    pub top_level: BTreeSet<String>,
    /// `.gitignore`.
    pub ignored: String,
    /// `Cargo.toml`.
    pub manifest: String,
}

/// One breach of one rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub path: String,
    /// Counted from 1; 0 speaks of the whole file.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

fn finding(path: &str, line: usize, message: impl Into<String>) -> Finding {
    Finding {
        path: path.to_string(),
        line,
        message: message.into(),
    }
}

/// A rule by its name, as the test prints it.
pub type Rule = (&'static str, fn(&House) -> Vec<Finding>);

/// Every rule of the house.
pub const RULES: [Rule; 12] = [
    ("modules use only modules above them", module_order),
    ("dependencies stay in their folder", dependency_folders),
    ("the core is pure", pure_core),
    ("every file says what it is for", front_lines),
    ("files and lines are short", lengths),
    ("nothing is left unfinished", unfinished),
    ("nothing unwraps outside tests", unwraps),
    ("imports have no globs", globs),
    ("files are named for the thing inside", names),
    ("the top level is as agreed", top_level),
    ("numbers and dependencies have a reason", reasons),
    ("documents point at what exists", documents),
];

/// The only modules in which a dependency may be named. Arrow and DataFusion are everywhere.
const FOLDERS: [(&str, &[&str]); 6] = [
    (
        "sqlparser",
        &["src/sql/", "src/sql.rs", "src/plan/", "src/plan.rs"],
    ),
    (
        "rdkafka",
        &["src/connector/kafka/", "src/connector/kafka.rs"],
    ),
    (
        "rdkafka_sys",
        &["src/connector/kafka/", "src/connector/kafka.rs"],
    ),
    ("sled", &["src/storage/", "src/storage.rs"]),
    ("pgwire", &["src/wire/", "src/wire.rs"]),
    ("axum", &["src/http/", "src/http.rs"]),
];

/// Modules that can be replayed: their results depend on their arguments alone.
const PURE: [&str; 6] = ["types", "delta", "sql", "function", "operator", "plan"];

/// Words that bring the outside into the core.
const IMPURE_WORDS: [(&str, &str); 12] = [
    ("async", "is asynchronous"),
    ("await", "is asynchronous"),
    ("tokio", "is asynchronous"),
    ("SystemTime", "reads the clock"),
    ("Instant", "reads the clock"),
    ("Mutex", "locks"),
    ("RwLock", "locks"),
    ("Condvar", "locks"),
    ("thread_local", "keeps state per thread"),
    ("fastrand", "draws random numbers"),
    ("println", "writes to the terminal"),
    ("eprintln", "writes to the terminal"),
];

/// Paths that bring the outside into the core, wherever they begin.
const IMPURE_PATHS: [(&[&str], &str); 8] = [
    (&["std", "fs"], "reads or writes files"),
    (&["std", "net"], "talks to the network"),
    (&["io", "stdin"], "reads the terminal"),
    (&["std", "env"], "reads the environment"),
    (&["std", "process"], "starts or ends processes"),
    (&["std", "thread"], "starts or asks for threads"),
    (&["Utc", "now"], "reads the clock"),
    (&["Local", "now"], "reads the clock"),
];

/// Parts of a name that say nothing of what is inside.
const EMPTY_NAMES: [&str; 9] = [
    "util", "utils", "helper", "helpers", "common", "manager", "impl", "misc", "stuff",
];

/// The top level, besides dotfiles and what `.gitignore` names.
const TOP_LEVEL: [&str; 8] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "docker",
    "docs",
    "sql-tests",
    "src",
];

const FILE_LINES_MAX: usize = 1000;
const LINE_CHARS_MAX: usize = 100;

/// The modules in the order of `src/lib.rs`.
fn modules(house: &House) -> Vec<String> {
    let Some(lib) = house
        .sources
        .iter()
        .find(|source| source.path == "src/lib.rs")
    else {
        return Vec::new();
    };
    let named = lib
        .tokens
        .windows(3)
        .filter(|window| window[0].text == "mod" && window[2].text == ";" && !window[1].is_test);
    named.map(|window| window[1].text.clone()).collect()
}

fn module_order(house: &House) -> Vec<Finding> {
    let modules = modules(house);
    let place = |name: &str| modules.iter().position(|module| module == name);
    let mut findings = Vec::new();
    for source in &house.sources {
        let Some(module) = source.module() else {
            continue;
        };
        if module == "tidy" {
            continue;
        }
        let Some(own) = place(module) else {
            findings.push(finding(
                &source.path,
                0,
                format!("src/lib.rs has no module {module}"),
            ));
            continue;
        };
        for path in source.paths() {
            let Some(used) = used_module(&path) else {
                continue;
            };
            let message = match place(used) {
                Some(other) if other <= own => continue,
                Some(_) => format!("{module} may not use {used}, which is below it in src/lib.rs"),
                None => format!("crate::{used} is not a module of src/lib.rs"),
            };
            findings.push(finding(&source.path, path.line, message));
        }
    }
    findings
}

/// The module of the crate that a path goes into, by `crate::` or by enough `super::`.
fn used_module(path: &Path) -> Option<&str> {
    let segments = &path.segments;
    let skipped = match segments.first()?.as_str() {
        "crate" => 1,
        "super" | "self" => {
            let own = usize::from(segments[0] == "self");
            let up = segments[own..]
                .iter()
                .take_while(|segment| *segment == "super")
                .count();
            if up < path.depth {
                return None;
            }
            own + up
        }
        _ => return None,
    };
    segments.get(skipped).map(String::as_str)
}

fn dependency_folders(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in house
        .sources
        .iter()
        .filter(|source| source.path.starts_with("src/"))
    {
        for (dependency, folders) in FOLDERS {
            if folders.iter().any(|folder| source.path.starts_with(folder)) {
                continue;
            }
            for token in source
                .tokens
                .iter()
                .filter(|token| token.text == dependency)
            {
                let message = format!("{dependency} may be named only in {}", folders[0]);
                findings.push(finding(&source.path, token.line, message));
            }
        }
    }
    findings
}

fn pure_core(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &house.sources {
        if !source.module().is_some_and(|module| PURE.contains(&module)) {
            continue;
        }
        for token in source.tokens.iter().filter(|token| !token.is_test) {
            for (word, reason) in IMPURE_WORDS {
                if token.text == word {
                    let message = format!("the core is pure, but {word} {reason}");
                    findings.push(finding(&source.path, token.line, message));
                }
            }
        }
        for path in source.paths().iter().filter(|path| !path.is_test) {
            for (impure, reason) in IMPURE_PATHS {
                if holds(&path.segments, impure) {
                    let message = format!("the core is pure, but {} {reason}", impure.join("::"));
                    findings.push(finding(&source.path, path.line, message));
                }
            }
            // `thread::current()` behind a `use std::thread` has been reported; behind another
            // crate's `thread` it has not.
            if path.segments.len() > 1 && path.segments[0] == "thread" {
                let message = "the core is pure, but thread:: starts or asks for threads";
                findings.push(finding(&source.path, path.line, message));
            }
        }
    }
    findings
}

fn holds(segments: &[String], wanted: &[&str]) -> bool {
    segments
        .windows(wanted.len())
        .any(|window| window.iter().eq(wanted))
}

fn front_lines(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &house.sources {
        let first = source.text.lines().next().unwrap_or_default();
        match first.strip_prefix("//!") {
            None => findings.push(finding(
                &source.path,
                1,
                "the first line is not //! purpose",
            )),
            Some(purpose) if purpose.trim().is_empty() => {
                findings.push(finding(&source.path, 1, "the first //! line is empty"));
            }
            Some(_) => {}
        }
    }
    findings
}

fn lengths(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &house.sources {
        let count = source.text.lines().count();
        if count > FILE_LINES_MAX {
            let message = format!("{count} lines, {FILE_LINES_MAX} are allowed: split it by idea");
            findings.push(finding(&source.path, 0, message));
        }
        for (line, start, text) in source.lines() {
            let length = text.chars().count();
            if length > LINE_CHARS_MAX && !may_be_long(source, start, text) {
                let message = format!("{length} characters, {LINE_CHARS_MAX} are allowed");
                findings.push(finding(&source.path, line, message));
            }
        }
    }
    findings
}

/// A line may be long where it is text that must stand as it is: inside a string that began on an
/// earlier line (a golden, whose lines another program prints), or a comment that is an address.
fn may_be_long(source: &Source, start: usize, text: &str) -> bool {
    let kind = |at: usize| source.kinds.get(at).copied();
    let limit = text
        .char_indices()
        .nth(LINE_CHARS_MAX)
        .map_or(text.len(), |(at, _)| at);
    match kind(start + limit) {
        Some(Kind::Literal) => {
            let before = start.checked_sub(1).and_then(kind);
            before == Some(Kind::Literal)
                && source.kinds[start..start + limit]
                    .iter()
                    .all(|&kind| kind == Kind::Literal)
        }
        Some(Kind::Comment) => {
            let words = text
                .trim_start()
                .trim_start_matches(['/', '!'])
                .split_whitespace();
            words.clone().count() == 1 && words.clone().all(|word| word.contains("://"))
        }
        _ => false,
    }
}

fn unfinished(house: &House) -> Vec<Finding> {
    let words = ["FIXME", "XXX", "TODO", "HACK"];
    let mut findings = Vec::new();
    for source in &house.sources {
        for window in source.tokens.windows(3) {
            let texts = [
                window[0].text.as_str(),
                window[1].text.as_str(),
                window[2].text.as_str(),
            ];
            let message = match texts {
                ["todo" | "unimplemented" | "dbg", "!", _] => format!("{}! is left over", texts[0]),
                ["#", "[", "ignore"] => "a test is not ignored: repair it or delete it".to_string(),
                _ => continue,
            };
            findings.push(finding(&source.path, window[0].line, message));
        }
        for path in source.paths() {
            if holds(&path.segments, &["thread", "sleep"]) {
                let message = "thread::sleep: wait for what you need, with a bound";
                findings.push(finding(&source.path, path.line, message));
            }
        }
        for (line, start, text) in source.lines() {
            let comment: String = text
                .char_indices()
                .map(|(at, c)| {
                    if source.kinds[start + at] == Kind::Comment {
                        c
                    } else {
                        ' '
                    }
                })
                .collect();
            let mut parts = comment.split(|c: char| !c.is_alphanumeric() && c != '_');
            if let Some(word) = parts.find(|part| words.contains(part)) {
                findings.push(finding(
                    &source.path,
                    line,
                    format!("{word}: finish it or say why"),
                ));
            }
        }
    }
    findings
}

fn unwraps(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in house
        .sources
        .iter()
        .filter(|source| source.path.starts_with("src/"))
    {
        for window in source.tokens.windows(3).filter(|window| !window[1].is_test) {
            let is_call = [".", "::"].contains(&window[0].text.as_str());
            if is_call && ["unwrap", "unwrap_err"].contains(&window[1].text.as_str()) {
                let message = format!(
                    "{}: return the error, or expect(\"why it holds\") where that is provable",
                    window[1].text
                );
                findings.push(finding(&source.path, window[1].line, message));
            }
        }
    }
    findings
}

/// Globs hide where a name comes from. A test module may take all of what it tests.
fn globs(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &house.sources {
        for path in source.paths() {
            let is_glob = path.segments.len() > 1 && path.segments.ends_with(&["*".to_string()]);
            let tests_its_parent = path.is_test && path.segments[0] == "super";
            if is_glob && !tests_its_parent {
                let message = format!("{}: name what is used", path.segments.join("::"));
                findings.push(finding(&source.path, path.line, message));
            }
        }
    }
    findings
}

fn names(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in &house.paths {
        let name = path.rsplit('/').next().unwrap_or(path);
        let stem = name.split('.').next().unwrap_or(name).to_lowercase();
        let empty = stem.split(['_', '-']).find(|part| {
            let is_version = part.strip_prefix('v').is_some_and(|digits| {
                !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
            });
            EMPTY_NAMES.contains(part) || is_version
        });
        if let Some(part) = empty {
            let message = format!("\"{part}\" in a name says nothing: name the thing inside");
            findings.push(finding(path, 0, message));
        }
    }
    findings
}

fn top_level(house: &House) -> Vec<Finding> {
    let ignored: BTreeSet<&str> = house
        .ignored
        .lines()
        .map(|line| line.trim().trim_matches('/'))
        .collect();
    let is_agreed =
        |name: &str| name.starts_with('.') || TOP_LEVEL.contains(&name) || ignored.contains(name);
    let strangers = house.top_level.iter().filter(|name| !is_agreed(name));
    let mut findings: Vec<Finding> = strangers
        .map(|name| finding(name, 0, "the top level holds only what docs/style.md lists"))
        .collect();
    let missing = TOP_LEVEL
        .iter()
        .filter(|name| !house.top_level.contains(**name));
    findings.extend(missing.map(|name| finding(name, 0, "is missing from the top level")));
    findings
}

/// A bound has the sentence that justifies it, and a dependency its `# why`.
fn reasons(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    let limits = house
        .sources
        .iter()
        .find(|source| source.path == "src/base/limits.rs");
    if let Some(limits) = limits {
        let mut previous = "";
        for (line, _, text) in limits.lines() {
            if text.starts_with("pub const") && !previous.starts_with("///") {
                findings.push(finding(
                    &limits.path,
                    line,
                    "a bound needs its reason as ///",
                ));
            }
            previous = text;
        }
    }
    findings.extend(dependency_reasons(&house.manifest));
    findings
}

/// A companion (`serde_json` after `serde`) shares the reason of the line above it.
fn dependency_reasons(manifest: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut section = "";
    let mut has_reason = false;
    let mut previous = "";
    for (index, text) in manifest.lines().enumerate() {
        let is_entry = text.starts_with(|c: char| c.is_alphabetic());
        if text.starts_with('[') {
            (section, has_reason, previous) = (text, false, "");
        } else if text.starts_with("# why:") {
            has_reason = true;
        } else if is_entry && section.contains("dependencies") {
            let name = text.split('=').next().unwrap_or(text).trim();
            let is_companion = !previous.is_empty() && name.starts_with(previous);
            if !has_reason && !is_companion {
                let message = format!("{name} needs a \"# why:\" above it");
                findings.push(finding("Cargo.toml", index + 1, message));
            }
            (has_reason, previous) = (false, name);
        }
    }
    findings
}

/// Links between documents, and the paths they name in backticks, lead somewhere; and the code map
/// of `docs/architecture.md` has every module, in order.
fn documents(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in &house.documents {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut is_listing = false;
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                is_listing = !is_listing;
            }
            if is_listing {
                continue;
            }
            let broken = links(line)
                .map(|link| (link, resolve(folder, link)))
                .chain(quoted_paths(line).map(|quoted| (quoted, quoted.to_string())))
                .filter(|(_, target)| !exists(house, target));
            for (link, _) in broken {
                findings.push(finding(path, index + 1, format!("{link} does not exist")));
            }
        }
    }
    findings.extend(code_map(house));
    findings
}

/// The targets of `[text](target)`, without those that lead out of the repository.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let inside = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    inside.map(|target| target.split('#').next().unwrap_or(target))
}

/// What stands in backticks and is a path from the top.
fn quoted_paths(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(|text| {
        let begins = ["src/", "docs/", "docker/", "sql-tests/", ".ci/"];
        let is_plain = text
            .chars()
            .all(|c| c.is_alphanumeric() || "/._-".contains(c));
        begins.iter().any(|begin| text.starts_with(begin)) && is_plain
    })
}

/// A link relative to a folder, from the top.
fn resolve(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn exists(house: &House, target: &str) -> bool {
    let target = target.trim_end_matches('/');
    house.top_level.contains(target) || house.paths.contains(target)
}

fn code_map(house: &House) -> Vec<Finding> {
    let path = "docs/architecture.md";
    let Some((_, text)) = house.documents.iter().find(|(name, _)| name == path) else {
        return Vec::new();
    };
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let named: Vec<&str> = rows
        .filter_map(|row| row.split('`').next())
        .filter(|name| is_word(name) && !name.contains(['.', '/', ' ']))
        .collect();
    let modules = modules(house);
    if named == modules {
        return Vec::new();
    }
    let message = format!(
        "the code map names {}, but src/lib.rs has {}",
        named.join(" "),
        modules.join(" ")
    );
    vec![finding(path, 0, message)]
}
