//! What an engine makes of statements that are dropped half way, and of a data directory that they
//! or a bad disk have left.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use futures::TryStreamExt;

use crate::base::{Clock, Memory, ObjectId};
use crate::dataflow::Startup;
use crate::engine::define::OBJECT_PREFIX;
use crate::engine::{Cancel, Engine, EngineOptions, Response, Session, SessionParameters};
use crate::error::{Error, Result, SqlState};

/// How long a test waits for what must come; only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine with one session.
struct Host {
    runtime: tokio::runtime::Runtime,
    engine: Engine,
    session: Session,
}

impl Host {
    fn open(directory: &Path) -> Host {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let options = EngineOptions {
            data_dir: directory.to_path_buf(),
            workers: 2,
            // Only when a test asks for it.
            checkpoint_interval_micros: i64::MAX / 4,
            snapshot_age: Duration::from_secs(3600),
            memory: Memory::accounted_only(usize::MAX),
            clock: Clock::system(),
            startup: Arc::new(Startup::default()),
        };
        let engine = {
            let _entered = runtime.enter();
            Engine::open(options).unwrap()
        };
        let parameters = SessionParameters {
            user: "u".to_string(),
            ..SessionParameters::default()
        };
        let (notices, _) = tokio::sync::mpsc::channel(100);
        let session = engine.session(parameters, notices).unwrap();
        Host {
            runtime,
            engine,
            session,
        }
    }

    fn close(self) {
        self.engine.shutdown();
    }

    fn checkpoint(&self) {
        self.runtime.block_on(self.engine.checkpoint()).unwrap();
    }

    /// The rows of a statement, as text.
    fn run(&mut self, sql: &str) -> Result<String> {
        let session = &mut self.session;
        self.runtime.block_on(async {
            let batches = run(session, sql).await?;
            Ok(format!("{batches:?}"))
        })
    }

    /// Polls a statement a number of times and drops it; whether it had come to its end.
    fn drop_after(&mut self, sql: &str, polls: usize) -> bool {
        let session = &mut self.session;
        let is_over = self.runtime.block_on(async {
            let mut statement = pin!(run(session, sql));
            let mut left = polls;
            poll_fn(|ctx| match statement.as_mut().poll(ctx) {
                Poll::Ready(result) => {
                    result.unwrap();
                    Poll::Ready(true)
                }
                Poll::Pending => {
                    left -= 1;
                    match left {
                        0 => Poll::Ready(false),
                        _ => Poll::Pending,
                    }
                }
            })
            .await
        });
        // What goes on without it holds the lock.
        drop(self.runtime.block_on(self.engine.0.ddl.lock()));
        is_over
    }

    fn id(&self, name: &str) -> Option<ObjectId> {
        self.engine.catalog().find(name).map(|object| object.id())
    }

    /// Waits until a query answers as expected.
    fn until(&mut self, sql: &str, expected: &str) {
        let begun = Instant::now();
        loop {
            let found = self.run(sql);
            if found.as_deref() == Ok(expected) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{sql}: {found:?}");
            std::thread::yield_now();
        }
    }
}

async fn run(session: &mut Session, sql: &str) -> Result<Vec<RecordBatch>> {
    let parsed = session.parse(sql)?.remove(0);
    let prepared = session.prepare(parsed, &[]).await?;
    let answer = session
        .execute(&prepared, Vec::new(), Cancel::new())
        .await?;
    match answer {
        Response::Rows { batches, .. } => batches.try_collect().await,
        Response::Done { .. } | Response::Empty => Ok(Vec::new()),
        Response::CopyOut { .. } | Response::CopyIn { .. } => {
            Err(Error::internal("no test copies"))
        }
    }
}

#[test]
fn a_definition_whose_statement_is_dropped_is_on_disk_as_it_is_shown() {
    let statements = [
        "CREATE TABLE x (a BIGINT)",
        "CREATE SOURCE x (a BIGINT) WITH (connector = 'topic')",
        "CREATE VIEW x AS SELECT a FROM base",
        "CREATE MATERIALIZED VIEW x AS SELECT a FROM base",
        "COMMENT ON TABLE base IS 'it'",
        "DROP TABLE other",
    ];
    for sql in statements {
        for polls in 1.. {
            let directory = tempfile::tempdir().unwrap();
            let mut host = Host::open(directory.path());
            host.run("CREATE TABLE base (a BIGINT)").unwrap();
            host.run("CREATE TABLE other (a BIGINT)").unwrap();
            host.run("SET background_ddl = on").unwrap();
            let is_over = host.drop_after(sql, polls);
            if sql.starts_with("CREATE") {
                // Whoever does not know what came of it tries again.
                let again = host.run(sql);
                let is_fine = |error: &Error| error.state() == SqlState::DUPLICATE_TABLE;
                assert!(again.as_ref().err().is_none_or(is_fine), "{again:?}");
            }
            let shown = ["x", "other"].map(|name| host.id(name));
            host.close();
            let host = Host::open(directory.path());
            let found = ["x", "other"].map(|name| host.id(name));
            assert_eq!(found, shown, "{sql}, dropped after {polls}");
            host.close();
            if is_over {
                break;
            }
        }
    }
}

#[test]
fn of_two_objects_with_one_name_the_newer_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::open(directory.path());
    host.run("CREATE TABLE x (a BIGINT)").unwrap();
    let older = host.engine.catalog().find("x").unwrap().definition.clone();
    let (id, oid) = host.engine.0.next_id().unwrap();
    let mut newer = older.clone();
    (newer.id, newer.oid) = (id, oid);
    host.engine.0.persist(&[newer]).unwrap();
    host.close();
    for _ in 0..2 {
        let mut host = Host::open(directory.path());
        assert_eq!(host.id("x"), Some(id));
        assert_eq!(host.engine.0.store.scan(OBJECT_PREFIX).unwrap().len(), 1);
        host.run("SELECT a FROM x").unwrap();
        host.close();
    }
}

const TABLE: &str = "SELECT a, b FROM t ORDER BY a";
const VIEWS: [&str; 2] = [
    "SELECT b, n FROM over_table ORDER BY b",
    "SELECT n, m FROM over_topic",
];

/// A directory with a table, a topic and views over both in two checkpoints and a journal.
fn filled(directory: &Path) -> [String; 3] {
    let mut host = Host::open(directory);
    for sql in [
        "CREATE TABLE t (a BIGINT PRIMARY KEY, b BIGINT)",
        "CREATE SOURCE s (a BIGINT) WITH (connector = 'topic')",
        "INSERT INTO t VALUES (1, 1), (2, 1), (3, 2)",
        "INSERT INTO s VALUES (10), (20)",
        "CREATE MATERIALIZED VIEW over_table AS SELECT b, count(*) AS n FROM t GROUP BY b",
        "CREATE MATERIALIZED VIEW over_topic AS SELECT count(*) AS n, max(a) AS m FROM s",
        "CREATE MATERIALIZED VIEW above AS SELECT n + 1 AS n FROM over_topic",
    ] {
        host.run(sql).unwrap();
    }
    for (row, sql) in [(4, true), (5, true), (6, false)] {
        host.run(&format!("INSERT INTO t VALUES ({row}, {row})"))
            .unwrap();
        host.run(&format!("INSERT INTO s VALUES ({row}0)")).unwrap();
        if sql {
            host.checkpoint();
        }
    }
    let answers = [TABLE, VIEWS[0], VIEWS[1]].map(|sql| host.run(sql).unwrap());
    host.close();
    answers
}

#[test]
fn a_damaged_block_costs_what_it_holds_and_no_start() {
    let original = tempfile::tempdir().unwrap();
    let answers = filled(original.path());
    let (mut tables_failed, mut views_built, mut starts) = (0, 0, 0);
    for (file, at) in blocks(&original.path().join("checkpoints")) {
        let copy = tempfile::tempdir().unwrap();
        copy_all(original.path(), copy.path());
        let path = copy.path().join("checkpoints").join(&file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();

        let mut host = Host::open(copy.path());
        starts += 1;
        match host.run(TABLE) {
            Ok(rows) => assert_eq!(rows, answers[0], "never others, and never none"),
            Err(error) => {
                assert!(error.message().contains("table \"t\""), "{error}");
                let refused = host.run("INSERT INTO t VALUES (100, 1)").unwrap_err();
                assert!(refused.message().contains("table \"t\""), "{refused}");
                tables_failed += 1;
            }
        }
        for (sql, answer) in VIEWS.iter().zip(&answers[1..]) {
            host.until(sql, answer);
        }
        let gaps = host
            .run("SELECT gaps FROM tidemill.views ORDER BY name")
            .unwrap();
        views_built += usize::from(gaps.contains("was damaged"));
        // It goes on, and the next start has nothing to complain of but the table.
        host.run("INSERT INTO s VALUES (1)").unwrap();
        host.checkpoint();
        host.close();
        let mut host = Host::open(copy.path());
        let rows = host.run(TABLE);
        assert!(rows.is_err() || rows.as_deref() == Ok(answers[0].as_str()));
        host.run(VIEWS[1]).unwrap();
        host.close();
    }
    assert!(starts > 5, "{starts} blocks");
    assert!(
        tables_failed > 0 && tables_failed < starts,
        "{tables_failed} of {starts}"
    );
    assert!(views_built > 0, "some views were built anew");
}

/// A place in each block of the data files.
fn blocks(directory: &Path) -> Vec<(PathBuf, usize)> {
    const HEADER: usize = 24;
    const BLOCK_HEADER: usize = 44;
    let mut places = Vec::new();
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| PathBuf::from(entry.unwrap().file_name()))
        .filter(|name| name.extension().is_some_and(|suffix| suffix == "blocks"))
        .collect();
    files.sort();
    for file in files {
        let bytes = std::fs::read(directory.join(&file)).unwrap();
        let number = |at: usize| {
            let bytes: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
            usize::try_from(u32::from_le_bytes(bytes)).unwrap()
        };
        let end = bytes.len() - 24;
        let end = end - number(end);
        let mut at = HEADER;
        while at < end {
            let length = BLOCK_HEADER + 4 * (number(at + 4) + number(at + 8)) + number(at + 20);
            places.push((file.clone(), at + length / 2));
            at += length;
        }
        assert_eq!(at, end, "the blocks end where the index begins");
    }
    places
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
