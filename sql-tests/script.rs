//! SQL scripts with their expected answers, each run in several modes.
//!
//! A script has statements that make objects and views, statements that bring data, and queries:
//!
//! ```text
//! mode      CREATE SOURCE   CREATE … VIEW   INSERT …        SELECT …   INSERT …   SELECT …
//! before    as written
//! after     CREATE SOURCE   INSERT …        CREATE … VIEW   SELECT …   as written
//! restart   as written, and the server is killed (SIGKILL) and started again before each
//! ```
//!
//! None may change an answer. A script where one would (rows that are late for a view that was
//! there, epochs, session settings) names its modes in a comment: `# modes: before restart`.
//! The number of workers differs with the mode and must not matter either.
//!
//! Epochs are shown, and written behind AS OF and UP TO, as e0, e1 … in the order in which they
//! came.
//! A single record is kept to one mode by `onlyif before` in front of it.
//!
//! Errors are matched as `SQLSTATE: message`. Rows are compared sorted (`control sortmode rowsort`
//! opens each script) unless the query has an ORDER BY and says `nosort`. Column types are `I` for
//! integers, `R` for numerics and floats, `T` for the rest, `?` where a statement has no
//! description of its own (SHOW, FETCH).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sqllogictest::{
    AsyncDB, DBOutput, DefaultColumnType, MakeConnection, Record, Runner, StatementExpect,
    default_normalizer, default_validator, strict_column_validator,
};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::server::{Server, block_on, connect};

/// A statement without an answer by now waits for something that does not come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

type Line = Record<DefaultColumnType>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Before,
    After,
    Restart,
}

impl Mode {
    const ALL: [Mode; 3] = [Mode::Before, Mode::After, Mode::Restart];

    fn name(self) -> &'static str {
        match self {
            Mode::Before => "before",
            Mode::After => "after",
            Mode::Restart => "restart",
        }
    }

    /// Few milliseconds between checkpoints make a restart meet every mixture of checkpoint and
    /// journal.
    fn arguments(self) -> [&'static str; 4] {
        match self {
            Mode::Before => ["--workers", "1", "--checkpoint-interval-ms", "10000"],
            Mode::After => ["--workers", "2", "--checkpoint-interval-ms", "200"],
            Mode::Restart => ["--workers", "3", "--checkpoint-interval-ms", "50"],
        }
    }
}

/// A folder below `sql-tests/`.
pub fn folder(theme: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("sql-tests")
        .join(theme)
}

/// Runs every script of a folder in every mode it has; fails at the end with all failures.
pub fn run_folder(theme: &str) {
    let entries = fs::read_dir(folder(theme))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut scripts: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "slt"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts in {theme}");
    if std::env::var("TIDEMILL_TEST_REWRITE").is_ok_and(|value| value == "1") {
        return scripts.iter().for_each(|path| block_on(rewrite(path)));
    }
    let failures: Vec<String> = scripts
        .iter()
        .flat_map(|path| block_on(run_script(path)))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The failures of one script in its modes.
async fn run_script(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let name = path
        .strip_prefix(env!("CARGO_MANIFEST_DIR"))
        .unwrap()
        .display()
        .to_string();
    let records = match sqllogictest::parse_with_name::<DefaultColumnType>(&text, name.as_str()) {
        Ok(records) => records,
        Err(error) => return vec![format!("{name}: {error}")],
    };
    let mut failures = omissions(&name, &records);
    for mode in modes(&name, &text) {
        let records = match mode {
            Mode::Before | Mode::Restart => records.clone(),
            Mode::After => views_after_data(&records),
        };
        if let Err(failure) = run_mode(&records, mode).await {
            failures.push(format!("mode {}: {failure}", mode.name()));
        }
    }
    failures
}

/// What would make a script depend on the order in which rows happen to come.
fn omissions(name: &str, records: &[Line]) -> Vec<String> {
    let mut omissions = Vec::new();
    let sorted = |record: &Line| record.to_string() == "control sortmode rowsort";
    if !records.iter().any(sorted) {
        omissions.push(format!("{name}: no `control sortmode rowsort`"));
    }
    for record in records {
        if let Record::Query {
            loc, sql, expected, ..
        } = record
            && let sqllogictest::QueryExpect::Results {
                sort_mode: None, ..
            } = expected
            && sql.to_uppercase().contains("ORDER BY")
        {
            omissions.push(format!("{loc}: ORDER BY without nosort"));
        }
    }
    omissions
}

/// All modes, or those that the script's comment `# modes: …` names.
fn modes(name: &str, text: &str) -> Vec<Mode> {
    let Some(named) = text.lines().find_map(|line| line.strip_prefix("# modes:")) else {
        return Mode::ALL.to_vec();
    };
    let mode = |word: &str| {
        let found = Mode::ALL.into_iter().find(|mode| mode.name() == word);
        found.unwrap_or_else(|| panic!("{name}: there is no mode {word}"))
    };
    named.split_whitespace().map(mode).collect()
}

/// The same records with the views of the part before the first query behind that part's data.
fn views_after_data(records: &[Line]) -> Vec<Line> {
    let is_query = |record: &Line| matches!(record, Record::Query { .. });
    let first_query = records.iter().position(is_query).unwrap_or(records.len());
    let (preparation, rest) = records.split_at(first_query);
    let (views, others): (Vec<Line>, Vec<Line>) = preparation.iter().cloned().partition(makes_view);
    others
        .into_iter()
        .chain(views)
        .chain(rest.iter().cloned())
        .collect()
}

fn makes_view(record: &Line) -> bool {
    let Record::Statement {
        sql,
        expected: StatementExpect::Ok,
        ..
    } = record
    else {
        return false;
    };
    let sql = sql.to_uppercase();
    ["CREATE VIEW", "CREATE MATERIALIZED VIEW"]
        .iter()
        .any(|begin| sql.starts_with(begin))
}

async fn run_mode(records: &[Line], mode: Mode) -> Result<(), String> {
    let server = Arc::new(Mutex::new(Server::start_with(&mode.arguments())));
    let mut runner = runner(&server);
    runner.add_label(mode.name());
    let mut in_transaction = false;
    for record in records {
        // A transaction ends with its connection: there is nothing to compare inside it.
        if mode == Mode::Restart
            && matches!(record, Record::Query { .. } | Record::Statement { .. })
            && !in_transaction
        {
            server.lock().unwrap().restart();
        }
        in_transaction = is_in_transaction(record, in_transaction);
        if let Err(error) = runner.run_async(record.clone()).await {
            let log = server.lock().unwrap().log();
            return Err(format!("{error}\nthe server's log:\n{log}"));
        }
    }
    runner.shutdown_async().await;
    Ok(())
}

fn is_in_transaction(record: &Line, before: bool) -> bool {
    let Record::Statement { sql, .. } = record else {
        return before;
    };
    match sql
        .split_whitespace()
        .next()
        .map(str::to_uppercase)
        .as_deref()
    {
        Some("BEGIN") => true,
        Some("COMMIT" | "ROLLBACK") => false,
        _ => before,
    }
}

/// Writes the server's answers into the script.
async fn rewrite(path: &Path) {
    let server = Arc::new(Mutex::new(Server::start_with(&Mode::Before.arguments())));
    let mut runner = runner(&server);
    let done = runner
        .update_test_file(
            path,
            " ",
            default_validator,
            default_normalizer,
            strict_column_validator,
        )
        .await;
    done.unwrap();
    runner.shutdown_async().await;
}

fn runner(server: &Arc<Mutex<Server>>) -> Runner<Session, impl MakeConnection<Conn = Session>> {
    let server = server.clone();
    let epochs = Arc::new(Mutex::new(Epochs::default()));
    let mut runner = Runner::new(move || {
        let session = Session {
            server: server.clone(),
            client: None,
            epochs: epochs.clone(),
            start: 0,
        };
        async move { Ok::<_, Failure>(session) }
    });
    runner.with_column_validator(strict_column_validator);
    runner
}

/// A connection of the script, made anew when the server has been restarted.
struct Session {
    /// Shared with the runner of the mode, which restarts the server between statements.
    server: Arc<Mutex<Server>>,
    client: Option<Client>,
    /// Shared by the sessions of a script, which compare epochs.
    epochs: Arc<Mutex<Epochs>>,
    /// The start of the server that the client is connected to.
    start: u64,
}

impl Session {
    async fn client(&mut self) -> Result<&Client, Failure> {
        let (start, address) = {
            let server = self.server.lock().unwrap();
            (server.starts(), server.address())
        };
        if self.start != start || self.client.is_none() {
            self.client = Some(connect(address).await?);
            self.start = start;
        }
        Ok(self.client.as_ref().expect("a client was just made"))
    }
}

#[async_trait]
impl AsyncDB for Session {
    type Error = Failure;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        let sql = &self.epochs.lock().unwrap().numbered(sql);
        let epochs = self.epochs.clone();
        let client = self.client().await?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.simple_query(sql)).await;
        let messages = answer.map_err(|_| Failure("no answer in time".to_string()))??;
        let mut output = DBOutput::StatementComplete(0);
        let mut width = None;
        let mut has_epoch = false;
        let mut rows = Vec::new();
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    width = Some(columns.len());
                    has_epoch = columns[0].name() == "epoch";
                }
                SimpleQueryMessage::Row(row) => {
                    let mut values: Vec<String> =
                        (0..row.len()).map(|place| shown(row.get(place))).collect();
                    if has_epoch {
                        values[0] = epochs.lock().unwrap().name(&values[0]);
                    }
                    rows.push(values);
                }
                SimpleQueryMessage::CommandComplete(count) => {
                    output = DBOutput::StatementComplete(count);
                }
                _ => return Err(Failure("a message that scripts do not expect".to_string())),
            }
        }
        if let Some(width) = width {
            let types = types(client, sql, width).await?;
            output = DBOutput::Rows { types, rows };
        }
        Ok(output)
    }

    async fn shutdown(&mut self) {
        self.client = None;
    }
}

/// The epochs that a script has met, by the names it uses for them: e0, e1 and so on in the order
/// in which they came. Their numbers are nobody's business; that they stay the same is.
#[derive(Default)]
struct Epochs(Vec<String>);

impl Epochs {
    fn name(&mut self, number: &str) -> String {
        let known = self.0.iter().position(|known| known == number);
        let place = known.unwrap_or_else(|| {
            self.0.push(number.to_string());
            self.0.len() - 1
        });
        format!("e{place}")
    }

    /// The statement with numbers for the names behind AS OF and UP TO.
    fn numbered(&self, sql: &str) -> String {
        let mut sql = sql.to_string();
        for (place, number) in self.0.iter().enumerate().rev() {
            for words in ["AS OF", "UP TO"] {
                sql = sql.replace(&format!("{words} e{place}"), &format!("{words} {number}"));
            }
        }
        sql
    }
}

/// A value as scripts write it: NULL and the empty text are visible, lines stay one row.
fn shown(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_string(),
        Some("") => "(empty)".to_string(),
        Some(text) => text.replace('\n', "\\n"),
    }
}

/// The columns' types as the extended protocol describes them, which must agree with the rows.
async fn types(
    client: &Client,
    sql: &str,
    width: usize,
) -> Result<Vec<DefaultColumnType>, Failure> {
    let word = sql
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_uppercase();
    let described = [
        "SELECT", "WITH", "VALUES", "(SELECT", "INSERT", "UPDATE", "DELETE",
    ];
    if !described.contains(&word.as_str()) {
        return Ok(vec![DefaultColumnType::Any; width]);
    }
    let statement = client.prepare(sql).await?;
    if statement.columns().len() != width {
        let described = statement.columns().len();
        return Err(Failure(format!(
            "{described} columns described, {width} sent"
        )));
    }
    let kind = |type_: &Type| match *type_ {
        Type::INT2 | Type::INT4 | Type::INT8 => DefaultColumnType::Integer,
        Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Text,
    };
    Ok(statement
        .columns()
        .iter()
        .map(|column| kind(column.type_()))
        .collect())
}

/// An error as scripts match it: `SQLSTATE: message`.
#[derive(Debug)]
struct Failure(String);

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        match error.as_db_error() {
            Some(error) => Failure(format!("{}: {}", error.code().code(), error.message())),
            None => Failure(error.to_string()),
        }
    }
}
