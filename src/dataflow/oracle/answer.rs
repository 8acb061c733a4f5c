//! The batch answer: DataFusion over tables of the rows that the model keeps.
//!
//! Rows are compared as text: one form for all zeros and all NaNs, times as microseconds.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::TableReference;
use datafusion::datasource::{MemTable, TableProvider, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::physical_plan::collect;
use datafusion::scalar::ScalarValue;

use crate::dataflow::oracle::query::Case;
use crate::dataflow::oracle::relation::{World, batch, timestamp};
use crate::error::Result;
use crate::plan::{Planner, from_datafusion, lower_windows, named_query};
use crate::sql::ast::Query;
use crate::sql::parse_single;
use crate::sql::statement::Statement;

/// Rows as text with how often they are there.
pub type Multiset = BTreeMap<Vec<String>, i64>;

/// The batch side of a case.
pub struct Answers {
    state: SessionState,
    runtime: tokio::runtime::Runtime,
    tables: BTreeMap<String, Arc<MemTable>>,
    plans: Vec<LogicalPlan>,
}

impl Answers {
    /// Plans every view of the case. `schemas` are those of the views as the engine has them.
    pub fn new(world: &World, case: &Case, schemas: &[SchemaRef]) -> Answers {
        let mut answers = Answers::over(world);
        answers.add("clock", &clock_schema());
        for (number, window) in case.windows.iter().enumerate() {
            let relation = &world.relations[world.relation(window.relation)];
            answers.add(&format!("w{number}"), &windowed_schema(&relation.schema));
        }
        for (number, schema) in schemas.iter().enumerate() {
            answers.ask(&case.batch_sql(number)).unwrap();
            answers.add(&format!("v{number}"), schema);
        }
        answers
    }

    /// Over the relations, with no query yet.
    pub fn over(world: &World) -> Answers {
        let config = world.state.config().clone().with_target_partitions(1);
        let state = SessionStateBuilder::new_from_existing(world.state.clone());
        let state = state.with_config(config).build();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut answers = Answers {
            state,
            runtime,
            tables: BTreeMap::new(),
            plans: Vec::new(),
        };
        for relation in &world.relations {
            answers.add(relation.name, &relation.schema);
        }
        answers
    }

    /// Plans a further query. Returns its number.
    pub fn ask(&mut self, sql: &str) -> Result<usize> {
        let plan = self.plan(sql)?;
        self.plans.push(plan);
        Ok(self.plans.len() - 1)
    }

    fn add(&mut self, name: &str, schema: &SchemaRef) {
        let table = MemTable::try_new(schema.clone(), vec![Vec::new()]).unwrap();
        self.tables.insert(name.to_string(), Arc::new(table));
    }

    fn plan(&self, sql: &str) -> Result<LogicalPlan> {
        let resolve = |reference: &TableReference| -> Result<Option<Arc<dyn TableSource>>> {
            let table = self.tables.get(reference.table()).cloned();
            Ok(table.map(|table| provider_as_source(table)))
        };
        let planner = Planner::new(&self.state, &resolve);
        let (plan, _) = named_query(&planner, &parsed(sql), &[])?;
        planner.optimize(&lower_windows(plan)?)
    }

    /// Says what the clock shows.
    pub fn set_clock(&self, micros: Option<i64>) {
        let schema = clock_schema();
        let shown = timestamp(schema.field(0).data_type(), micros);
        self.fill("clock", batch(&schema, &[Arc::new([shown])]));
    }

    pub fn fill(&self, name: &str, batch: RecordBatch) {
        let table = &self.tables[name];
        let mut batches = table.batches[0].try_write().expect("no query runs");
        *batches = vec![batch.with_schema(table.schema()).unwrap()];
    }

    /// The types of a view's columns, as a batch has them.
    pub fn types(&self, view: usize) -> Vec<DataType> {
        let fields = self.plans[view].schema().fields();
        fields
            .iter()
            .map(|field| field.data_type().clone())
            .collect()
    }

    /// The view's rows over what the tables are filled with.
    pub fn run(&self, view: usize) -> Vec<RecordBatch> {
        self.try_run(view).unwrap()
    }

    /// The same, where it may fail.
    pub fn try_run(&self, view: usize) -> Result<Vec<RecordBatch>> {
        let planner = self.state.query_planner();
        let answered = self.runtime.block_on(async {
            let plan = planner
                .create_physical_plan(&self.plans[view], &self.state)
                .await?;
            collect(plan, self.state.task_ctx()).await
        });
        answered.map_err(from_datafusion)
    }
}

fn clock_schema() -> SchemaRef {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
    Arc::new(Schema::new(vec![Field::new("now", instant, true)]))
}

pub fn windowed_schema(schema: &SchemaRef) -> SchemaRef {
    let time = schema.field_with_name("ts").unwrap().data_type();
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    for name in ["window_start", "window_end"] {
        fields.push(Arc::new(Field::new(name, time.clone(), false)));
    }
    Arc::new(Schema::new(fields))
}

pub fn parsed(sql: &str) -> Query {
    let text = format!("CREATE MATERIALIZED VIEW x AS {sql}");
    match parse_single(&text)
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
        .unwrap()
        .statement
    {
        Statement::CreateMaterializedView(create) => *create.query,
        other => panic!("{other:?}"),
    }
}

/// The rows of batches, counted.
pub fn multiset(batches: &[RecordBatch]) -> Multiset {
    let mut rows = Multiset::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            *rows.entry(row_text(batch, row)).or_insert(0) += 1;
        }
    }
    rows
}

pub fn row_text(batch: &RecordBatch, row: usize) -> Vec<String> {
    let cell = |column: &Arc<dyn Array>| text(&ScalarValue::try_from_array(column, row).unwrap());
    batch.columns().iter().map(cell).collect()
}

/// A value's text.
pub fn text(value: &ScalarValue) -> String {
    match value {
        value if value.is_null() => "NULL".to_string(),
        ScalarValue::Float64(Some(float)) if *float == 0.0 => "0.0".to_string(),
        ScalarValue::Float64(Some(float)) => format!("{float:?}"),
        ScalarValue::TimestampMicrosecond(Some(micros), _) => micros.to_string(),
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => format!("{text:?}"),
        ScalarValue::Decimal128(Some(value), _, scale) => format!("{value}e-{scale}"),
        other => other.to_string(),
    }
}

/// What is in one and not in the other, a line each; empty where both are equal.
pub fn difference(found: &Multiset, expected: &Multiset) -> String {
    let mut lines = String::new();
    let keys: std::collections::BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    for key in keys {
        let (have, want) = (
            found.get(key).unwrap_or(&0),
            expected.get(key).unwrap_or(&0),
        );
        if have != want {
            lines += &format!("  {} is there {have} times, not {want}\n", key.join(" | "));
        }
    }
    lines
}
