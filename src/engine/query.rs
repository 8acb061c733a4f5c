//! Ad-hoc SELECT: DataFusion over snapshots of one epoch.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, TableReference};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;

use crate::base::ObjectId;
use crate::base::limits::WRITE_BYTES_MAX;
use crate::base::memory::Held;
use crate::catalog::{Catalog, Object, ObjectKind};
use crate::delta::DeltaBatch;
use crate::engine::define::expanded_view;
use crate::engine::response::BatchStream;
use crate::engine::server::Shared;
use crate::engine::session::Session;
use crate::engine::tables::{Pin, Reads, RowsTable, SourceTable};
use crate::engine::write::data_bytes;
use crate::error::{Error, Result, SqlState};
use crate::plan::{
    Planner, StatementFunctions, TableResolver, from_datafusion, lower_windows, named_query,
};
use crate::sql::ast;
use crate::system::SystemSnapshot;
use crate::types::SqlType;
use crate::view::Identity;

/// The functions that a session answers.
static SESSION_FUNCTIONS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| crate::system::function_names().collect());

/// Everything one statement needs to plan and read. What most statements do not need is made when
/// it is first asked for.
pub struct Reading<'a> {
    session: &'a Session,
    pub shared: &'a Shared,
    pub catalog: Arc<Catalog>,
    pub reads: Arc<Reads>,
    /// What types parameters have, as far as that is known before planning.
    parameters: Vec<Option<FieldRef>>,
    state: OnceLock<Arc<SessionState>>,
    system: OnceLock<Arc<SystemSnapshot>>,
    /// Relations of this statement alone, under names that no text can have.
    given: Mutex<BTreeMap<&'static str, RecordBatch>>,
}

/// The values of `$1`, `$2`, … and their types, which tell apart types with the same values.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    pub values: Vec<ScalarValue>,
    pub types: Vec<FieldRef>,
}

/// What a query's rows look like and how to get them.
pub struct PlannedQuery {
    pub plan: LogicalPlan,
    /// The plan with every type as the rows have it; `None` where that failed: it fails again, and
    /// is told, when the query runs.
    pub analyzed: Option<LogicalPlan>,
    pub schema: SchemaRef,
}

impl<'a> Reading<'a> {
    pub fn new(
        session: &'a Session,
        pin: Option<Pin>,
        own: BTreeMap<ObjectId, DeltaBatch>,
    ) -> Reading<'a> {
        let shared = session.shared();
        Reading {
            session,
            shared,
            catalog: shared.catalog(),
            reads: Reads::new(shared.runtime.published().clone(), pin, own),
            parameters: Vec::new(),
            state: OnceLock::new(),
            system: OnceLock::new(),
            given: Mutex::default(),
        }
    }

    /// Plans with parameters of these types.
    pub fn with_parameters(self, parameters: Vec<Option<FieldRef>>) -> Self {
        Reading { parameters, ..self }
    }

    /// Plans for these parameters.
    pub fn for_parameters(self, parameters: &Parameters) -> Self {
        let types = parameters.types.iter().cloned().map(Some);
        self.with_parameters(types.collect())
    }

    /// The state in which this statement is optimized and run: `now()` is its start, and the time
    /// zone that of the session.
    pub fn state(&self) -> &Arc<SessionState> {
        self.state.get_or_init(|| {
            let mut state = self.shared.query_template.clone();
            let zone = self.session.time_zone();
            // Nothing is copied for a session that is in UTC already.
            if state.config_options().execution.time_zone.as_deref() != Some(zone) {
                state.config_mut().options_mut().execution.time_zone = Some(zone.to_string());
            }
            state.mark_start_execution();
            Arc::new(state)
        })
    }

    /// What the system relations and the session's functions say to this statement.
    fn system(&self) -> Arc<SystemSnapshot> {
        let snapshot = || self.session.system_snapshot(&self.catalog);
        self.system.get_or_init(snapshot).clone()
    }

    /// Gives the statement a relation of its own. The name must be one that no text can have: one
    /// with a NUL.
    pub fn give(&self, name: &'static str, rows: RecordBatch) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.insert(name, rows);
    }

    fn given(&self, reference: &TableReference) -> Result<Option<Arc<dyn TableSource>>> {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rows) = given.get(reference.table()) else {
            return Ok(None);
        };
        let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]]);
        let table = table.map_err(from_datafusion)?;
        Ok(Some(provider_as_source(Arc::new(table))))
    }

    fn table(&self, reference: &TableReference) -> Result<Option<Arc<dyn TableSource>>> {
        if let Some(table) = self.given(reference)? {
            return Ok(Some(table));
        }
        if let Some(table) = crate::system::tables(|| self.system(), reference)? {
            return Ok(Some(provider_as_source(table)));
        }
        if reference.schema().is_some_and(|schema| schema != "public") {
            return Ok(None);
        }
        let object = self.catalog.resolve(reference.table())?.clone();
        self.provider(object).map(Some)
    }

    fn event_time(&self, reference: &TableReference) -> Result<Option<String>> {
        if reference.schema().is_some_and(|schema| schema != "public") {
            return Ok(None);
        }
        let relation = &self.catalog.resolve(reference.table())?.relation;
        let column = relation.event_time;
        Ok(column.map(|column| relation.schema.field(column).name().clone()))
    }

    fn provider(&self, object: Arc<Object>) -> Result<Arc<dyn TableSource>> {
        match object.kind() {
            ObjectKind::View => self.planning(|planner| expanded_view(planner, &object)),
            ObjectKind::Source => {
                let entry = self.shared.sources().get(&object.id()).cloned();
                let entry = entry.ok_or_else(|| Error::internal("a source that is not there"))?;
                let rows = SourceTable::new(object, entry, self.reads.clone());
                Ok(provider_as_source(Arc::new(rows)))
            }
            ObjectKind::Table | ObjectKind::MaterializedView | ObjectKind::LateRows => {
                self.shared.check_ready(&object)?;
                let identity = match &object.relation.key {
                    Some(key) => Identity::Key(key.clone()),
                    None => Identity::Row,
                };
                let rows = RowsTable::new(object, identity, self.reads.clone());
                Ok(provider_as_source(Arc::new(rows)))
            }
        }
    }

    /// Calls `work` with a planner over this statement's relations.
    pub fn planning<T>(&self, work: impl FnOnce(&Planner<'_>) -> Result<T>) -> Result<T> {
        let resolve = |reference: &TableReference| self.table(reference);
        let resolve: &TableResolver<'_> = &resolve;
        let find = |name: &str| crate::system::function(|| self.system(), name);
        let functions = StatementFunctions {
            find: &find,
            names: &SESSION_FUNCTIONS,
        };
        let event_time = |reference: &TableReference| self.event_time(reference);
        let planner = Planner::new(&self.shared.template, resolve)
            .with_event_times(&event_time)
            .with_functions(functions)
            .with_parameters(self.parameters.clone());
        work(&planner)
    }

    /// Plans a query: its plan with windows lowered, and the columns as the user sees them.
    pub fn plan(&self, query: &ast::Query) -> Result<PlannedQuery> {
        let mut query = query.clone();
        crate::plan::compatibility::rewrite(&mut query);
        self.planning(|planner| {
            let (plan, names) = named_query(planner, &query, &[])?;
            let plan = crate::system::flatten_subqueries(lower_windows(plan)?)?;
            // What is written is typed before types are made to fit; the rows come after.
            let analyzed = planner.analyze(&plan).ok();
            let schema = named_schema(analyzed.as_ref().unwrap_or(&plan), names);
            Ok(PlannedQuery {
                plan,
                analyzed,
                schema,
            })
        })
    }

    /// The types of `$1`, `$2`, …: those declared, else those inferred; as fields, whose metadata
    /// tells apart types with the same values.
    pub fn parameters(plan: &LogicalPlan, declared: &[Option<FieldRef>]) -> Result<Vec<FieldRef>> {
        Reading::parameters_of([plan], declared)
    }

    /// The same of a statement with several plans.
    pub fn parameters_of<'p>(
        plans: impl IntoIterator<Item = &'p LogicalPlan>,
        declared: &[Option<FieldRef>],
    ) -> Result<Vec<FieldRef>> {
        let mut inferred: BTreeMap<usize, Option<FieldRef>> = BTreeMap::new();
        for plan in plans {
            for (index, found) in inferred_parameters(plan)? {
                let known = inferred.entry(index).or_default();
                *known = known.take().or(found);
            }
        }
        let count = inferred.keys().max().map_or(0, |last| last + 1);
        let parameter = |index: usize| {
            let name = format!("${}", index + 1);
            let given = declared.get(index).cloned().flatten();
            let found = inferred.get(&index).cloned().flatten();
            let field = match (given, found) {
                (Some(given), Some(found)) if given.data_type() == found.data_type() => found,
                (Some(given), _) => given,
                (None, Some(found)) if !found.data_type().is_null() => found,
                // Postgres takes a parameter that nothing says the type of as text.
                (None, _) => Arc::new(Field::new("", DataType::Utf8, true)),
            };
            Arc::new(field.as_ref().clone().with_name(name).with_nullable(true))
        };
        Ok((0..count.max(declared.len())).map(parameter).collect())
    }

    /// Refuses a plan with parameters beyond those that have a value.
    ///
    /// # Errors
    /// 42P02.
    pub fn check_parameters(plan: &LogicalPlan, given: usize) -> Result<()> {
        let used = inferred_parameters(plan)?;
        match used.keys().find(|index| **index >= given) {
            None => Ok(()),
            Some(index) => Err(Error::new(
                SqlState::UNDEFINED_PARAMETER,
                format!("there is no parameter ${}", index + 1),
            )
            .hint("parameters need the extended protocol: in psql, \\bind")),
        }
    }

    /// Runs a plan and streams its rows with the given schema.
    pub async fn run(
        &self,
        plan: LogicalPlan,
        schema: SchemaRef,
        parameters: Vec<ScalarValue>,
    ) -> Result<BatchStream> {
        let plan = match parameters.is_empty() {
            true => plan,
            false => plan
                .with_param_values(ParamValues::from(parameters))
                .map_err(from_datafusion)?,
        };
        // Planning is done: from here on everything is read at one epoch.
        self.reads.pin()?;
        let memory = self.shared.memory.clone();
        let pool = &self.shared.queries;
        let stream = pool.run(self.state().clone(), plan, memory).await?;
        let renamed = stream.map(move |batch| {
            let batch = batch?;
            rename(batch.columns(), batch.num_rows(), &schema)
        });
        Ok(Box::pin(renamed))
    }

    /// Runs a plan to its end; for rows that are to be written.
    ///
    /// # Errors
    /// 54000 when they are more than a write may have, 53200 when there is no memory for new ones.
    pub async fn collect(
        &self,
        plan: LogicalPlan,
        schema: SchemaRef,
        parameters: Vec<ScalarValue>,
        purpose: Purpose,
    ) -> Result<Collected> {
        let bytes_max = purpose.bytes_max();
        let mut stream = self.run(plan, schema.clone(), parameters).await?;
        let mut batches = Vec::new();
        let mut held = self.session.hold_memory();
        let mut bytes = 0;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            bytes += data_bytes(&batch);
            if bytes > bytes_max {
                let megabytes = bytes_max >> 20;
                let message = format!("one statement writes at most {megabytes} MB");
                return Err(Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
                    .hint("write in parts: name some of the rows in WHERE"));
            }
            let memory = batch.get_array_memory_size();
            if purpose == Purpose::Insert {
                self.shared.memory.check("the rows to be written", memory)?;
            }
            held.set(held.bytes() + memory);
            batches.push(batch);
        }
        let rows = arrow::compute::concat_batches(&schema, &batches);
        let rows = rows.map_err(crate::delta::arrow_error)?;
        held.set(rows.get_array_memory_size());
        Ok(Collected { rows, held })
    }
}

/// What a query's rows are collected for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// They are new. Only these need room: who has run out of memory must be able to remove some.
    Insert,
    /// They are there and go.
    Delete,
    /// They are there, beside what becomes of them.
    Update,
}

impl Purpose {
    fn bytes_max(self) -> usize {
        match self {
            Purpose::Insert | Purpose::Delete => WRITE_BYTES_MAX,
            // Rows that stay the same are not written.
            Purpose::Update => 2 * WRITE_BYTES_MAX,
        }
    }
}

/// All rows of a query.
pub struct Collected {
    pub rows: RecordBatch,
    /// The memory of the rows.
    pub held: Held,
}

/// What is known of each parameter; what is known first is taken.
fn inferred_parameters(plan: &LogicalPlan) -> Result<BTreeMap<usize, Option<FieldRef>>> {
    let mut found: BTreeMap<usize, Option<FieldRef>> = BTreeMap::new();
    let mut visit = |expr: &Expr| {
        if let Expr::Placeholder(Placeholder { id, field }) = expr
            && let Some(number) = id.strip_prefix('$').and_then(|n| n.parse::<usize>().ok())
        {
            let known = found.entry(number.saturating_sub(1)).or_default();
            if known.is_none() {
                known.clone_from(field);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    };
    plan.apply_with_subqueries(|plan| plan.apply_expressions(|expr| expr.apply(&mut visit)))
        .map_err(from_datafusion)?;
    Ok(found)
}

/// The plan's columns under other names.
pub fn named_schema(plan: &LogicalPlan, names: Vec<String>) -> SchemaRef {
    let fields = plan
        .schema()
        .fields()
        .iter()
        .zip(names)
        .map(|(field, name)| {
            let nullable = field.as_ref().clone().with_name(name).with_nullable(true);
            Field::with_metadata(nullable, field.metadata().clone())
        });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The column as the field's type; a value that does not fit is an error, never NULL.
fn exactly(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(column, field.data_type(), &options).map_err(|cause| {
        let message = match SqlType::of(field) {
            Ok(sql_type) => format!("{sql_type} out of range"),
            Err(_) => "value out of range".to_string(),
        };
        Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message)
            .detail(format!("column \"{}\": {cause}", field.name()))
    })
}

/// The columns under the schema; where the physical plan chose a twin of a type (a view of
/// strings), its values are converted.
pub fn rename(columns: &[ArrayRef], rows: usize, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = columns
        .iter()
        .zip(schema.fields())
        .map(
            |(column, field)| match column.data_type() == field.data_type() {
                true => Ok(column.clone()),
                false => exactly(column, field),
            },
        )
        .collect::<Result<Vec<_>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(crate::delta::arrow_error)
}
