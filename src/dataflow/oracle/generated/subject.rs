//! One test: a query over tables, kept up to date while their rows come and go.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::logical_expr::TableSource;
use datafusion::scalar::ScalarValue;
use fastrand::Rng;

use crate::base::ObjectId;
use crate::dataflow::oracle::answer::{Answers, difference, multiset, parsed};
use crate::dataflow::oracle::engine::Engine;
use crate::dataflow::oracle::generated::found::Found;
use crate::dataflow::oracle::grammar::schema::{Step, Table};
use crate::dataflow::oracle::grammar::value::Value;
use crate::dataflow::oracle::relation::{Row, World, batch, planned_table};
use crate::dataflow::oracle::script::{Change, Item};
use crate::error::{Error, Result, SqlState};
use crate::operator::aggregate::AggregateSpec;
use crate::plan::{Operation, Planner, StreamPlan, ViewOptions, named_query, plan_view};

/// What was drawn.
pub struct Subject {
    pub tables: Vec<Table>,
    pub view: String,
    pub batch: String,
    pub history: Vec<Step>,
}

/// What came of a test.
pub enum Outcome {
    Agrees {
        has_rows: bool,
    },
    /// The view is not supported.
    Refused(String),
    /// The batch is not supported, though the view is.
    Unanswered(String),
    Fails(String),
}

/// The same, ready to run.
pub struct Text {
    tables: Vec<(&'static str, String, Option<usize>)>,
    view: String,
    batch: String,
    history: Vec<Vec<Event>>,
}

/// A row that comes or goes.
struct Event {
    table: usize,
    row: Arc<[ScalarValue]>,
    weight: i64,
}

/// After how many steps the answers are compared, besides the last ones.
const STEPS_PER_CHECK: u8 = 16;

impl Subject {
    pub fn text(&self) -> Text {
        let table = |table: &Table| (table.name, table.create(), table.has_key.then_some(0));
        let event = |change: &crate::dataflow::oracle::grammar::schema::Change| {
            let columns = self.tables[change.table].columns.iter();
            let values = columns.zip(&change.row);
            Event {
                table: change.table,
                row: values
                    .map(|(column, value)| scalar(value, column.of))
                    .collect(),
                weight: change.weight,
            }
        };
        let step = |step: &Step| step.iter().map(event).collect();
        Text {
            tables: self.tables.iter().map(table).collect(),
            view: self.view.clone(),
            batch: self.batch.clone(),
            history: self.history.iter().map(step).collect(),
        }
    }

    /// As it stands in `found`.
    pub fn as_found(&self) -> String {
        let mut text = String::from("    Found {\n        name: \"\",\n        tables: &[\n");
        for table in &self.tables {
            let _ = writeln!(text, "            {:?},", table.create());
        }
        let _ = writeln!(text, "        ],\n        query: {:?},", self.view);
        let batch = Some(&self.batch).filter(|batch| **batch != self.view);
        let _ = writeln!(text, "        batch: {batch:?},\n        steps: &[");
        for step in &self.history {
            let change = |change: &crate::dataflow::oracle::grammar::schema::Change| {
                let table = &self.tables[change.table];
                let sign = if change.weight > 0 { '+' } else { '-' };
                format!("{sign}{} {}", table.name, table.literals(&change.row))
            };
            let changes: Vec<String> = step.iter().map(change).collect();
            if !changes.is_empty() {
                let _ = writeln!(text, "            &{changes:?},");
            }
        }
        text + "        ],\n    },"
    }
}

fn scalar(value: &Value, of: crate::dataflow::oracle::grammar::value::Type) -> ScalarValue {
    use crate::dataflow::oracle::grammar::value::Type;
    let zone: Option<Arc<str>> = Some(Arc::from("UTC"));
    let integer = match value {
        Value::Integer(value) => Some(*value),
        _ => None,
    };
    let time = match value {
        Value::Time(micros) => Some(*micros),
        _ => None,
    };
    match of {
        Type::BigInt => ScalarValue::Int64(integer),
        Type::Integer => {
            ScalarValue::Int32(integer.map(|value| i32::try_from(value).expect("an integer")))
        }
        Type::Text => ScalarValue::Utf8(match value {
            Value::Text(text) => Some((*text).to_string()),
            _ => None,
        }),
        Type::Boolean => ScalarValue::Boolean(match value {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }),
        Type::Numeric => {
            let value = match value {
                Value::Numeric(hundredths) => Some(i128::from(*hundredths)),
                _ => None,
            };
            ScalarValue::Decimal128(value, 20, 2)
        }
        Type::Double => ScalarValue::Float64(match value {
            Value::Double(value) => Some(*value),
            _ => None,
        }),
        Type::Date => ScalarValue::Date32(match value {
            Value::Date(days) => Some(*days),
            _ => None,
        }),
        Type::Timestamp => ScalarValue::TimestampMicrosecond(time, None),
        Type::Timestamptz => ScalarValue::TimestampMicrosecond(time, zone),
    }
}

/// A batch takes 0.0 and −0.0 for two values.
fn with_one_zero(row: &Row) -> Row {
    let value = |value: &ScalarValue| match value {
        ScalarValue::Float64(Some(zero)) if *zero == 0.0 => ScalarValue::Float64(Some(0.0)),
        other => other.clone(),
    };
    row.iter().map(value).collect()
}

impl Text {
    /// A test that was found before.
    pub fn found(state: &SessionState, found: &Found) -> Text {
        const NAMES: [&str; 3] = ["t0", "t1", "t2"];
        let table = |(name, text): (&&'static str, &&str)| {
            let key = text.contains("PRIMARY KEY").then_some(0);
            (*name, (*text).to_string(), key)
        };
        let tables: Vec<_> = NAMES.iter().zip(found.tables).map(table).collect();
        let mut answers = Answers::over(&World::of_tables(state.clone(), &[]));
        let mut event = |change: &&str| {
            let (place, values) = change.split_once(' ').expect("a table and its row");
            let table = NAMES.iter().position(|name| *name == &place[1..]);
            let query = answers.ask(&format!("SELECT {values}")).unwrap();
            let rows = answers.run(query).remove(0);
            let columns = rows.columns().iter();
            let row = columns.map(|column| ScalarValue::try_from_array(column, 0).unwrap());
            Event {
                table: table.expect("a table of the test"),
                row: row.collect(),
                weight: if change.starts_with('+') { 1 } else { -1 },
            }
        };
        let mut history = Vec::new();
        for step in found.steps {
            history.push(step.iter().map(&mut event).collect());
        }
        Text {
            tables,
            view: found.query.to_string(),
            batch: found.batch.unwrap_or(found.query).to_string(),
            history,
        }
    }

    /// Runs it; `seed` decides about workers, restarts, and when it is compared.
    pub fn run(&self, state: &SessionState, seed: u64) -> Outcome {
        match self.compared(state, seed) {
            Ok(outcome) => outcome,
            Err(error) if error.state() == SqlState::FEATURE_NOT_SUPPORTED => {
                Outcome::Refused(error.message().to_string())
            }
            Err(error) => Outcome::Fails(format!("error: {error}")),
        }
    }

    fn compared(&self, state: &SessionState, seed: u64) -> Result<Outcome> {
        let world = World::of_tables(state.clone(), &self.tables);
        let plan = self.plan(&world)?;
        let mut answers = Answers::over(&world);
        let asked = match answers.ask(&self.batch) {
            Ok(asked) => asked,
            Err(error) => return unanswered(&error),
        };
        if let Some(message) = types_differ(&plan.schema, &answers.types(asked)) {
            return Ok(Outcome::Fails(message));
        }
        let plans = [(ObjectId(100), plan)];
        let mut random = Rng::with_seed(seed);
        let mut engine = Engine::new(&world, &plans, random.usize(1..=3));
        let items = self.items();
        let mut live: Vec<Vec<Row>> = vec![Vec::new(); self.tables.len()];
        let mut has_rows = false;
        let mut begin = 0;
        for (number, step) in self.history.iter().enumerate() {
            engine.step(&items, begin..begin + step.len(), &mut random);
            begin += step.len();
            step.iter().for_each(|event| take(&mut live, event));
            match random.u8(..16) {
                0..2 => engine.checkpoint(&mut random),
                2 => {
                    engine.checkpoint(&mut random);
                    engine.crash();
                }
                3 if engine.has_checkpoint() => engine.crash(),
                _ => {}
            }
            if number + 3 < self.history.len() && random.u8(..STEPS_PER_CHECK) > 0 {
                continue;
            }
            for (relation, rows) in world.relations.iter().zip(&live) {
                let rows: Vec<Row> = rows.iter().map(with_one_zero).collect();
                answers.fill(relation.name, batch(&relation.schema, &rows));
            }
            let answer = match answers.try_run(asked) {
                Ok(answer) => answer,
                Err(error) => return unanswered(&error),
            };
            has_rows |= answer.iter().any(|rows| rows.num_rows() > 0);
            let wrong = self.difference(&engine, &answer);
            if !wrong.is_empty() {
                return Ok(Outcome::Fails(format!(
                    "differs: in step {number}\n{wrong}"
                )));
            }
            if live.iter().all(Vec::is_empty) {
                let kept = engine.state_rows();
                if kept > needed(&plans[0].1) {
                    let message = format!("keeps: {kept} rows of state for no rows");
                    return Ok(Outcome::Fails(message));
                }
            }
        }
        Ok(Outcome::Agrees { has_rows })
    }

    fn difference(&self, engine: &Engine<'_>, answer: &[RecordBatch]) -> String {
        let failed = engine.tally(0).errors;
        match failed {
            0 => difference(&engine.rows(0), &multiset(answer)),
            _ => format!("{failed} rows failed: {}\n", engine.tally(0).reason),
        }
    }

    fn plan(&self, world: &World) -> Result<StreamPlan> {
        let resolve = |reference: &TableReference| -> Result<Option<Arc<dyn TableSource>>> {
            planned_table(&world.catalog, reference)
        };
        let planner = Planner::new(&world.state, &resolve);
        let query = parsed(&self.view);
        let (_, names) = named_query(&planner, &query, &[])?;
        plan_view(&planner, &query, &names, &ViewOptions::default())
    }

    fn items(&self) -> Vec<Item> {
        let steps = self.history.iter().flatten();
        let item = |event: &Event| {
            Item::Row(Change {
                relation: event.table,
                partition: 0,
                row: event.row.clone(),
                weight: event.weight,
                is_joined: false,
                bad: Vec::new(),
            })
        };
        steps.map(item).collect()
    }
}

/// What a batch does not support is said so; any other error is wrong.
fn unanswered(error: &Error) -> Result<Outcome> {
    match error.state() == SqlState::FEATURE_NOT_SUPPORTED {
        true => Ok(Outcome::Unanswered(error.message().to_string())),
        false => Ok(Outcome::Fails(format!("batch: {error}"))),
    }
}

fn take(live: &mut [Vec<Row>], event: &Event) {
    let rows = &mut live[event.table];
    match event.weight > 0 {
        true => rows.push(event.row.clone()),
        false => {
            let same = |row: &Row| *row == event.row;
            let place = rows.iter().position(same).expect("what goes was there");
            rows.swap_remove(place);
        }
    }
}

fn types_differ(schema: &SchemaRef, batch: &[DataType]) -> Option<String> {
    let view: Vec<&DataType> = schema
        .fields()
        .iter()
        .map(|field| field.data_type())
        .collect();
    match view.iter().copied().eq(batch) {
        true => None,
        false => Some(format!("types: a view has {view:?}, a batch {batch:?}")),
    }
}

/// How many rows of state a plan may have when its tables are empty: what global aggregates and
/// constants are, and what becomes of them.
fn needed(plan: &StreamPlan) -> usize {
    let makes = |operation: &Operation| match operation {
        Operation::Aggregate(AggregateSpec { is_global, .. }) => *is_global,
        Operation::Constant(_) => true,
        _ => false,
    };
    let makers = plan.nodes.iter().filter(|node| makes(&node.operation));
    makers.count() * plan.nodes.len() * 4
}
