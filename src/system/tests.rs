//! Clients' own queries over a small catalog, and what they answer.
//!
//! `testdata/psql.txt` holds what psql 15 sends for its commands, `testdata/drivers.txt` what
//! drivers send when they connect, load types and describe tables, as they were written by these
//! clients. `testdata/*.out` holds the answers. To write them anew, run the tests with
//! `TIDEMILL_REWRITE=1` and read the difference.
//!
//! The planning here is that of an ad-hoc SELECT without the objects' own rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::Schema;
use arrow::util::pretty::pretty_format_batches;
use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::LogicalPlan;

use crate::base::{EventTime, ObjectId};
use crate::catalog::{Catalog, Changelog, Definition, Object, ObjectKind, Relation};
use crate::error::Result;
use crate::plan::compatibility::{self, EMPTY_RELATIONS, NULL_COLUMNS};
use crate::plan::{Planner, from_datafusion, session_state, unique_names};
use crate::sql::{Statement, parse_single};
use crate::system::shape::Shape;
use crate::system::{
    EngineRows, ErrorRow, SessionFacts, SessionRow, SettingChange, SettingRow, SystemSnapshot,
    SystemTable, ViewRow, WatermarkRow, flatten_subqueries, function, function_names, register,
    tables,
};
use crate::types::SqlType;

/// Name, kind, statement, and the columns with their types.
type Example = (
    &'static str,
    ObjectKind,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const OBJECTS: [Example; 5] = [
    (
        "clicks",
        ObjectKind::Source,
        "CREATE SOURCE clicks (page TEXT, ts TIMESTAMPTZ, WATERMARK FOR ts AS ts) \
         WITH (connector = 'topic')",
        &[("page", "text"), ("ts", "timestamptz")],
    ),
    (
        "bids",
        ObjectKind::Source,
        "CREATE SOURCE bids (auction BIGINT, price NUMERIC(10,2), half NUMERIC AS price / 2, \
         ts TIMESTAMPTZ) WITH (connector = 'kafka', topic = 'bids') FORMAT PLAIN ENCODE JSON",
        &[
            ("auction", "bigint"),
            ("price", "numeric(10,2)"),
            ("half", "numeric"),
            ("ts", "timestamptz"),
        ],
    ),
    (
        "users",
        ObjectKind::Table,
        "CREATE TABLE users (id BIGINT PRIMARY KEY, name TEXT NOT NULL DEFAULT 'x', \
         city VARCHAR(20))",
        &[("id", "bigint"), ("name", "text"), ("city", "varchar(20)")],
    ),
    (
        "expensive",
        ObjectKind::View,
        "CREATE VIEW expensive AS SELECT * FROM bids WHERE price > 100",
        &[("auction", "bigint"), ("price", "numeric(10,2)")],
    ),
    (
        "per_auction",
        ObjectKind::MaterializedView,
        "CREATE MATERIALIZED VIEW per_auction AS SELECT auction, count(*) AS bids FROM bids \
         GROUP BY auction EMIT ON UPDATE",
        &[("auction", "bigint"), ("bids", "bigint")],
    ),
];

const OID_FIRST: u32 = 16_384;

fn object(index: usize) -> Object {
    let (name, kind, text, columns) = OBJECTS[index];
    let field = |(name, sql_type): &(&str, &str)| {
        let is_nullable = !matches!(*name, "id" | "name");
        SqlType::parse(sql_type)
            .unwrap()
            .to_field(name, is_nullable)
    };
    let is_users = name == "users";
    Object {
        definition: Definition {
            id: ObjectId(1 + index as u64),
            oid: OID_FIRST + index as u32,
            kind,
            name: name.to_string(),
            text: text.to_string(),
            startup: BTreeMap::new(),
            identity: None,
            comment: is_users.then(|| "people".to_string()),
            late: None,
        },
        relation: Relation {
            schema: Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>())),
            key: matches!(name, "users" | "per_auction").then(|| vec![0]),
            changelog: Changelog::Retracting,
            bounded: Vec::new(),
            clocked: Vec::new(),
            event_time: (name == "clicks").then_some(1),
            defaults: Vec::new(),
        },
        depends_on: if index > 2 {
            vec![ObjectId(2)]
        } else {
            Vec::new()
        },
    }
}

fn snapshot() -> Arc<SystemSnapshot> {
    let mut catalog = Catalog::default();
    (0..OBJECTS.len()).for_each(|index| catalog.put(object(index)));
    let setting = |name: &str, value: &str| SettingRow {
        name: name.to_string(),
        value: value.to_string(),
        description: format!("What {name} is."),
    };
    let engine = EngineRows {
        views: vec![ViewRow {
            name: "per_auction".to_string(),
            state: "running".to_string(),
            epoch: Some(7),
            watermark: Some(EventTime(0)),
            rows: 3,
            bytes: 20_000,
            ..ViewRow::default()
        }],
        watermarks: vec![WatermarkRow {
            source: "clicks".to_string(),
            holds_back: true,
            ..WatermarkRow::default()
        }],
        errors: vec![ErrorRow {
            source: Some("bids".to_string()),
            offset: Some(12),
            reason: "no JSON".to_string(),
            record: Some(b"{".to_vec()),
            ..ErrorRow::default()
        }]
        .into(),
        ..EngineRows::default()
    };
    Arc::new(SystemSnapshot {
        catalog: Arc::new(catalog),
        session: SessionFacts {
            database: "tidemill".to_string(),
            user: "ada".to_string(),
            backend_pid: 4711,
            epoch: 7,
            ..SessionFacts::default()
        },
        settings: vec![
            setting("application_name", "psql"),
            setting("statement_timeout", "0"),
            setting("TimeZone", "UTC"),
        ],
        sessions: vec![SessionRow {
            pid: 4711,
            user: "ada".to_string(),
            database: "tidemill".to_string(),
            state: "active".to_string(),
            ..SessionRow::default()
        }],
        engine: engine.into(),
    })
}

/// Plans and runs as an ad-hoc SELECT.
struct Server {
    state: SessionState,
    snapshot: Arc<SystemSnapshot>,
}

impl Server {
    fn new() -> Server {
        let mut state = session_state();
        // One partition: rows without ORDER BY come in one order.
        state.config_mut().options_mut().execution.target_partitions = 1;
        let snapshot = snapshot();
        register(&mut state).unwrap();
        for name in function_names() {
            let function = function(|| snapshot.clone(), name).unwrap();
            state.register_udf(function).unwrap();
        }
        Server { state, snapshot }
    }

    fn plan(&self, text: &str) -> Result<LogicalPlan> {
        let parsed = parse_single(text)?.expect("a query is not empty");
        let Statement::Query(mut query) = parsed.statement else {
            panic!("not a query: {text}");
        };
        compatibility::rewrite(&mut query);
        unique_names(&mut query);
        let resolve = |name: &TableReference| {
            let found = tables(|| self.snapshot.clone(), name)?;
            Ok(found.map(provider_as_source))
        };
        let planner = Planner::new(&self.state, &resolve);
        planner.optimize(&flatten_subqueries(planner.query(&query)?)?)
    }

    async fn run(&self, text: &str) -> Result<Vec<RecordBatch>> {
        let plan = self.plan(text)?;
        let physical = self
            .state
            .query_planner()
            .create_physical_plan(&plan, &self.state);
        let physical = physical.await.map_err(from_datafusion)?;
        let batches = datafusion::physical_plan::collect(physical, self.state.task_ctx());
        batches.await.map_err(from_datafusion)
    }

    async fn table(&self, text: &str) -> String {
        match self.run(text).await {
            Ok(batches) if batches.iter().all(|batch| batch.num_rows() == 0) => {
                "(no rows)".to_string()
            }
            Ok(batches) => pretty_format_batches(&batches).unwrap().to_string(),
            Err(error) => format!("ERROR {error}"),
        }
    }
}

/// The queries of a file: what asked, and its text with the oids of our objects.
fn queries(file: &str) -> Vec<(String, String)> {
    let mut text = file.to_string();
    for (index, (name, ..)) in OBJECTS.iter().enumerate() {
        text = text.replace(
            &format!("{{{name}}}"),
            &(OID_FIRST + index as u32).to_string(),
        );
    }
    text = text.replace("{users_pkey}", &((OID_FIRST + 2) | 1 << 30).to_string());
    let parts = text.split("@@ ").skip(1);
    let pairs = parts.map(|part| part.split_once('\n').expect("a title and a query"));
    pairs
        .map(|(title, query)| (title.to_string(), query.trim().to_string()))
        .collect()
}

async fn check(name: &str, file: &str, expected: &str) {
    let server = Server::new();
    let mut answers = String::new();
    for (title, query) in queries(file) {
        let answer = server.table(&query).await;
        let first = query.lines().next().unwrap_or_default();
        let first: String = first.chars().take(90).collect();
        answers.push_str(&format!("@@ {title}\n{first}\n{answer}\n\n"));
    }
    let path = format!(
        "{}/src/system/testdata/{name}.out",
        env!("CARGO_MANIFEST_DIR")
    );
    if std::env::var_os("TIDEMILL_REWRITE").is_some() {
        std::fs::write(path, answers).unwrap();
        return;
    }
    assert_eq!(
        answers, expected,
        "{name}: read the difference, then rewrite the answers"
    );
    assert!(!answers.contains("ERROR"));
}

#[tokio::test]
async fn psql_commands_are_answered() {
    check(
        "psql",
        include_str!("testdata/psql.txt"),
        include_str!("testdata/psql.out"),
    )
    .await;
}

#[tokio::test]
async fn drivers_and_libraries_are_answered() {
    let expected = include_str!("testdata/drivers.out");
    check("drivers", include_str!("testdata/drivers.txt"), expected).await;
}

#[tokio::test]
async fn tools_and_users_are_answered() {
    let expected = include_str!("testdata/tools.out");
    check("tools", include_str!("testdata/tools.txt"), expected).await;
}

/// What the rewrite of queries takes for granted.
#[test]
fn empty_relations_are_empty_and_null_columns_null() {
    let snapshot = snapshot();
    for shape in Shape::all().filter(|shape| shape.schema_name == "pg_catalog") {
        let batch = SystemTable::new(shape, &snapshot).rows().unwrap();
        if EMPTY_RELATIONS.contains(&shape.name) {
            assert_eq!(batch.num_rows(), 0, "{}", shape.name);
        }
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            if NULL_COLUMNS.contains(&field.name().as_str()) {
                assert_eq!(column.null_count(), column.len(), "{}", field.name());
            }
        }
    }
}

#[test]
fn every_relation_can_be_made() {
    let snapshot = snapshot();
    for shape in Shape::all() {
        let batch = SystemTable::new(shape, &snapshot).rows().unwrap();
        assert_eq!(batch.schema(), shape.schema);
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_as_postgres_says_it() {
    let server = Server::new();
    for (query, code, message) in [
        (
            "SELECT 'nothing'::regclass",
            "42P01",
            "relation \"nothing\" does not exist",
        ),
        (
            "SELECT 'nothing'::regtype",
            "42704",
            "type \"nothing\" does not exist",
        ),
        (
            "SELECT current_setting('nothing')",
            "42704",
            "unrecognized configuration parameter \"nothing\"",
        ),
        (
            "SELECT format_type(20)",
            "42883",
            "function format_type with 1 arguments does not exist",
        ),
    ] {
        let error = server.run(query).await.unwrap_err();
        assert_eq!(
            (error.state().code(), error.message()),
            (code, message),
            "{query}"
        );
    }
}

#[tokio::test]
async fn set_config_is_told_to_the_session() {
    let server = Server::new();
    server
        .run("SELECT set_config('jit', 'off', false)")
        .await
        .unwrap();
    let changes = server.snapshot.session.changes.take();
    let expected = SettingChange {
        name: "jit".to_string(),
        value: "off".to_string(),
        is_local: false,
    };
    assert_eq!(changes, [expected]);
    assert!(server.snapshot.session.changes.take().is_empty());
}
