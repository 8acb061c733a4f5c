//! PostgreSQL itself, asked the same: generated queries, as views and as SELECTs, over tables that
//! change.
//!
//! ```text
//!   grammar ─► tables, changes, queries ─┬─► Tidemill: view and SELECT ─► texts ─┐
//!                                        └─► PostgreSQL: SELECT ────────► texts ─┴─ equal?
//! ```
//!
//! The test starts a PostgreSQL of its own from the programs that Debian's packages install, on a
//! socket in a directory that vanishes. Where there is none it says that it skips; with
//! `TIDEMILL_TEST_POSTGRES_REQUIRED=1` that is a failure.
//!
//! `TIDEMILL_POSTGRES_QUERIES` says how many queries are asked (64), `TIDEMILL_POSTGRES_SEED` at
//! which of them it begins (1). Rows are compared as texts, sorted; of numbers, zeros at the end of
//! a fraction and the sign of a zero do not count.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::grammar::choice::Choices;
use crate::grammar::schema::{Table, row, tables, value};
use crate::grammar::{Reader, condition, query, text};
use crate::server::{START_TIMEOUT, Server, block_on};

/// Queries over the same tables.
const QUERIES_PER_SCHEMA: usize = 16;

/// How often the tables change and are looked at.
const CHANGES: usize = 5;

/// A feature that one of both does not have.
const NOT_SUPPORTED: &str = "0A000";

/// From so many queries on it is looked at how many are answered.
const FLOORS_FROM: usize = 160;

/// So many failures are shown.
const FAILURES_MAX: usize = 12;

/// A PostgreSQL of this test alone.
struct Postgres {
    child: Child,
    directory: TempDir,
    /// What it logs, until it has ended.
    log: mpsc::Receiver<String>,
}

/// How long it may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);

impl Postgres {
    /// None, with a line that says so, where it is not installed.
    fn start() -> Option<Postgres> {
        let Some(programs) = programs() else {
            let required = std::env::var("TIDEMILL_TEST_POSTGRES_REQUIRED");
            assert!(
                !required.is_ok_and(|it| it == "1"),
                "PostgreSQL is not installed"
            );
            println!("skipped: PostgreSQL is not installed");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let user = user();
        if let Some(user) = user {
            chown(directory.path(), Some(user), None).unwrap();
        }
        let run = |name: &str| {
            let mut command = Command::new(programs.join(name));
            command
                .arg("-D")
                .arg(directory.path().join("data"))
                .current_dir(directory.path())
                .env("LC_ALL", "C.UTF-8")
                .stdin(Stdio::null());
            if let Some(user) = user {
                command.uid(user);
            }
            command
        };
        let made = run("initdb")
            .args([
                "--username=test",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-sync",
            ])
            .args(["--locale=C", "--lc-ctype=C.UTF-8"])
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let mut child = run("postgres")
            .arg("-k")
            .arg(directory.path())
            .args(["-c", "listen_addresses="])
            .args(["-c", "fsync=off", "-c", "timezone=UTC"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = mpsc::channel();
        let log = BufReader::new(child.stderr.take().unwrap());
        // It ends with the child, whose log it reads to the end: a full pipe would block it.
        std::thread::Builder::new()
            .name("postgres-log".to_string())
            .spawn(move || {
                for line in log.lines().map_while(Result::ok) {
                    let _ = send.send(line);
                }
            })
            .unwrap();
        let postgres = Postgres {
            child,
            directory,
            log: lines,
        };
        let mut said = Vec::new();
        while let Ok(line) = postgres.log.recv_timeout(START_TIMEOUT) {
            said.push(line);
            if said
                .iter()
                .any(|line| line.contains("ready to accept connections"))
            {
                return Some(postgres);
            }
        }
        panic!("PostgreSQL did not start: {said:#?}");
    }

    async fn connect(&self) -> Client {
        let host = self.directory.path().display();
        let settings = format!("host={host} user=test dbname=postgres");
        let (client, connection) = tokio_postgres::connect(&settings, NoTls).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        client
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It ends at once, and frees its shared memory; killed, it would leave that behind.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-QUIT", &id]).status();
        let ended = Instant::now() + END_TIMEOUT;
        while Instant::now() < ended {
            // The end of its log is its own.
            match self.log.recv_timeout(END_TIMEOUT) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        // Already gone is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where `initdb` and `postgres` are: on the path, or where Debian has them.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut versions: Vec<PathBuf> = versions
        .map(|version| version.unwrap().path().join("bin"))
        .collect();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    let has_both = |folder: &PathBuf| has(folder, "initdb") && has(folder, "postgres");
    folders.into_iter().find(has_both)
}

fn has(folder: &Path, name: &str) -> bool {
    folder.join(name).is_file()
}

/// Who PostgreSQL runs as where it must be somebody else: it refuses to be root.
fn user() -> Option<u32> {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let id = Command::new("id").args(["-u", "nobody"]).output().unwrap();
    let id = String::from_utf8(id.stdout).unwrap();
    Some(id.trim().parse().expect("the number of nobody"))
}

#[test]
fn generated_queries_have_the_answers_of_postgres() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let queries = std::env::var("TIDEMILL_POSTGRES_QUERIES");
    let queries: usize = queries.map_or(64, |queries| queries.parse().unwrap());
    let first = std::env::var("TIDEMILL_POSTGRES_SEED");
    let first: u64 = first.map_or(1, |seed| seed.parse().unwrap());
    let server = Server::start();
    let tally = block_on(async {
        let mut both = Both {
            ours: server.connect().await,
            theirs: postgres.connect().await,
            log: Vec::new(),
            tally: Tally::default(),
        };
        both.ours
            .batch_execute("SET TimeZone = 'UTC'")
            .await
            .unwrap();
        for number in 0..queries.div_ceil(QUERIES_PER_SCHEMA) {
            both.schema(first.wrapping_add(number as u64)).await;
            if both.tally.failures.len() >= FAILURES_MAX {
                break;
            }
        }
        both.tally
    });
    println!("{tally:#?}");
    assert!(tally.failures.is_empty(), "{}", tally.failures.join("\n\n"));
    // A few schemas say nothing of how many are answered.
    if tally.drawn < FLOORS_FROM {
        return;
    }
    let percent = |part: usize, whole: usize| part * 100 / whole.max(1);
    // Measured: 98 % are asked, 96 % are views.
    assert!(
        percent(tally.asked, tally.drawn) >= 75,
        "too much is refused"
    );
    assert!(percent(tally.views, tally.drawn) >= 60, "too few are views");
    assert!(
        percent(tally.with_rows, tally.compared) >= 20,
        "too little is found"
    );
}

/// What came of the queries.
#[derive(Debug, Default)]
struct Tally {
    drawn: usize,
    /// That both have accepted.
    asked: usize,
    views: usize,
    /// Answers, and those with a row.
    compared: usize,
    with_rows: usize,
    /// By whom, and how often for which reason.
    refused: std::collections::BTreeMap<String, usize>,
    failures: Vec<String>,
}

struct Both {
    ours: Client,
    theirs: Client,
    /// The statements that both have taken since the tables were made.
    log: Vec<String>,
    tally: Tally,
}

/// A query that both have accepted.
struct Asked {
    sql: String,
    /// Its view, if it can be one.
    view: Option<String>,
    has_failed: bool,
}

impl Both {
    /// Makes tables and views, changes and compares, and removes all again.
    async fn schema(&mut self, seed: u64) {
        let mut choices = Choices::drawn(seed);
        let tables = tables(&mut choices);
        self.log = vec![format!("-- TIDEMILL_POSTGRES_SEED={seed}")];
        for table in &tables {
            self.execute(&table.create()).await;
        }
        let mut asked = Vec::new();
        for number in 0..QUERIES_PER_SCHEMA {
            let sql = text(&query(&mut choices, &tables, true), Reader::Postgres);
            asked.extend(self.ask(sql, number).await);
        }
        let mut key = 0;
        for _ in 0..CHANGES {
            for table in &tables {
                self.change(&mut choices, table, &mut key).await;
            }
            for asked in &mut asked {
                if !asked.has_failed {
                    self.compare(asked).await;
                }
            }
        }
        for view in asked.iter().filter_map(|asked| asked.view.as_ref()) {
            let drop = format!("DROP MATERIALIZED VIEW {view}");
            self.ours.batch_execute(&drop).await.unwrap();
        }
        for table in &tables {
            self.execute(&format!("DROP TABLE {}", table.name)).await;
        }
    }

    /// A statement for both, which neither may refuse.
    async fn execute(&mut self, sql: &str) {
        self.log.push(format!("{sql};"));
        for (who, client) in [("Tidemill", &self.ours), ("PostgreSQL", &self.theirs)] {
            let done = client.batch_execute(sql).await;
            done.unwrap_or_else(|error| panic!("{who}: {sql}: {error:?}"));
        }
    }

    /// Rows that come, change and go.
    async fn change(&mut self, choices: &mut Choices, table: &Table, key: &mut i64) {
        let name = table.name;
        let mut rows = Vec::new();
        for _ in 0..1 + choices.below(3) {
            *key += 1;
            let row = row(choices, table, *key);
            rows.push(format!("({})", table.literals(&row)));
        }
        self.execute(&format!("INSERT INTO {name} VALUES {}", rows.join(", ")))
            .await;
        let condition = text(&condition(choices, table), Reader::Postgres);
        match choices.below(4) {
            0 => {
                let delete = format!("DELETE FROM {name} WHERE {condition}");
                self.execute(&delete).await;
            }
            1 => {
                let first = usize::from(table.has_key);
                let place = first + choices.below(table.columns.len() - first);
                let column = &table.columns[place];
                let value = value(choices, column).literal(column.of);
                let set = &column.name;
                let update = format!("UPDATE {name} SET {set} = {value} WHERE {condition}");
                self.execute(&update).await;
            }
            _ => {}
        }
    }

    /// Has the view made; None for what one of both does not support at all.
    async fn ask(&mut self, sql: String, number: usize) -> Option<Asked> {
        self.tally.drawn += 1;
        let ours = rows(&self.ours, &sql).await;
        let theirs = rows(&self.theirs, &sql).await;
        for (who, answer) in [("Tidemill", ours), ("PostgreSQL", theirs)] {
            if let Err(error) = answer {
                self.refused(who, &sql, error);
                return None;
            }
        }
        self.tally.asked += 1;
        let view = format!("v{number}");
        let create = format!("CREATE MATERIALIZED VIEW {view} AS {sql}");
        let created = self.ours.batch_execute(&create).await;
        let view = match created {
            Ok(()) => {
                self.tally.views += 1;
                Some(view)
            }
            Err(error) => {
                self.refused("a view", &sql, (code(&error), message(&error)));
                None
            }
        };
        let has_failed = false;
        Some(Asked {
            sql,
            view,
            has_failed,
        })
    }

    fn refused(&mut self, who: &str, sql: &str, (code, message): (String, String)) {
        if code != NOT_SUPPORTED {
            let log = self.log.join("\n");
            let failure = format!("{log}\n{sql};\n{who}: {code} {message}");
            self.tally.failures.push(failure);
        }
        *self
            .tally
            .refused
            .entry(format!("{who}: {message}"))
            .or_default() += 1;
    }

    async fn compare(&mut self, asked: &mut Asked) {
        let expected = rows(&self.theirs, &asked.sql).await;
        let mut answers = vec![("SELECT", rows(&self.ours, &asked.sql).await)];
        if let Some(view) = &asked.view {
            let select = format!("SELECT * FROM {view}");
            answers.push(("view", rows(&self.ours, &select).await));
        }
        let has_rows = expected.as_ref().is_ok_and(|rows| !rows.is_empty());
        for (what, answer) in answers {
            self.tally.compared += 1;
            self.tally.with_rows += usize::from(has_rows);
            if answer != expected || expected.is_err() {
                asked.has_failed = true;
                let log = self.log.join("\n");
                let sql = &asked.sql;
                self.tally.failures.push(format!(
                    "{log}\n{sql};\n{what}: {answer:?}\nPostgres: {expected:?}"
                ));
                return;
            }
        }
    }
}

type Texts = Vec<Vec<Option<String>>>;

/// The rows of a query, sorted; or SQLSTATE and message.
async fn rows(client: &Client, sql: &str) -> Result<Texts, (String, String)> {
    let messages = client.simple_query(sql).await;
    let messages = messages.map_err(|error| (code(&error), message(&error)))?;
    let row = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let value = |column| row.get(column).map(plain);
            Some((0..row.len()).map(value).collect())
        }
        _ => None,
    };
    let mut rows: Texts = messages.into_iter().filter_map(row).collect();
    rows.sort();
    Ok(rows)
}

fn code(error: &tokio_postgres::Error) -> String {
    let code = error.code().map(|code| code.code().to_string());
    code.unwrap_or_else(|| format!("{error:?}"))
}

fn message(error: &tokio_postgres::Error) -> String {
    let message = error.as_db_error().map(|error| error.message().to_string());
    message.unwrap_or_default()
}

/// A number without the zeros that end its fraction, and without the sign of a zero.
fn plain(text: &str) -> String {
    let is_number = text.contains('.') && text.parse::<f64>().is_ok() && !text.contains(['e', 'E']);
    let text = match is_number {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    };
    match text {
        "-0" => "0".to_string(),
        _ => text.to_string(),
    }
}
