//! INSERT, UPDATE, DELETE and COPY FROM: rows to the step engine, answered when they are durable.
//!
//! What a statement changes is computed as a query over the newest epoch and becomes a delta. For
//! tables this happens under the table's writer lock, held until the change is visible, so reading,
//! the key check and writing are one unit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Values, WriteOp};
use datafusion::scalar::ScalarValue;
use tokio::sync::oneshot;

use crate::base::limits::{
    DETAIL_VALUE_CHARACTERS_MAX, LOCK_WAIT_MAX, TRANSACTION_ROWS_MAX, WRITE_BYTES_MAX,
};
use crate::base::memory::Held;
use crate::base::{Epoch, ObjectId};
use crate::catalog::{Object, ObjectKind};
use crate::dataflow::{Command, Write};
use crate::delta::{DeltaBatch, Weights, concat};
use crate::engine::query::{Collected, Parameters, PlannedQuery, Purpose, Reading};
use crate::engine::response::{CopyFormat, CopyWriter, Response, RowsTag};
use crate::engine::returning;
use crate::engine::server::{Engine, stopped};
use crate::engine::session::{Session, done};
use crate::engine::settings::milliseconds;
use crate::engine::upsert::{Conflict, pairs_schema};
use crate::engine::values::Target;
use crate::error::{Error, Result, SqlState};
use crate::plan::{from_datafusion, lower_windows, unique_names};
use crate::sql::ast;
use crate::sql::statement::Statement;
use crate::sql::watch::{self, CopyDirection, CopyRows, CopyTarget};
use crate::types::pg::{Format, ValueWriter};

/// One of those who hold a table and wait for another, while it waits.
struct Waiter<'a> {
    waiting: &'a AtomicU32,
    /// How many waited already when it came.
    others: u32,
}

impl<'a> Waiter<'a> {
    fn among(waiting: &'a AtomicU32) -> Waiter<'a> {
        let others = waiting.fetch_add(1, Ordering::AcqRel);
        Waiter { waiting, others }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Session {
    /// The parameters of a write, and the columns that it returns.
    pub(super) fn describe_write(
        &self,
        statement: &Statement,
        declared: &[Option<FieldRef>],
    ) -> Result<(Vec<FieldRef>, Option<SchemaRef>)> {
        let reading = self.reading().with_parameters(declared.to_vec());
        let object = self.catalog().resolve(&target_name(statement)?)?.clone();
        let target = Target::new(&object)?;
        let schema = &object.relation.schema;
        let plan = plan_write(&reading, statement, &target)?;
        let conflict = match Conflict::of(statement, &object)? {
            None => None,
            Some(conflict) => {
                let pairs = RecordBatch::new_empty(pairs_schema(schema));
                conflict.plan(&reading, &target, pairs)?
            }
        };
        let nothing = RecordBatch::new_empty(schema.clone());
        let returned = returning::plan(&reading, statement, &object, nothing.clone())?;
        let plans = [Some(&plan), conflict.as_ref()];
        let plans = plans.into_iter().flatten();
        let plans = plans.chain(returned.as_ref().map(|returned| &returned.plan));
        let parameters = Reading::parameters_of(plans, declared)?;
        let schema = match returned {
            None => None,
            Some(returned) if returned.analyzed.is_some() => Some(returned.schema),
            // A parameter without a type has none of its own before it is text.
            Some(_) => {
                let types = parameters.iter().cloned().map(Some);
                let reading = reading.with_parameters(types.collect());
                let returned = returning::plan(&reading, statement, &object, nothing)?;
                returned.map(|returned| returned.schema)
            }
        };
        Ok((parameters, schema))
    }

    pub(super) async fn write(
        &mut self,
        statement: &Statement,
        parameters: Parameters,
    ) -> Result<Response> {
        let object = self.target(statement)?;
        self.pin_transaction()?;
        let guard = self.lock(&object).await?;
        let conflict = Conflict::of(statement, &object)?;
        let (changed, returned) = {
            let reading = self.reading().for_parameters(&parameters);
            let target = Target::new(&object)?;
            let plan = plan_write(&reading, statement, &target)?;
            let given = parameters.values.len();
            Reading::check_parameters(&plan, given)?;
            let values = parameters.values.clone();
            let mut changed = change_of(&reading, plan, &object, &target, values).await?;
            if let Some(conflict) = &conflict {
                let into = (object.as_ref(), &target);
                changed = self
                    .resolve(&reading, conflict, changed, into, &parameters)
                    .await?;
            }
            let written = changed.affected.clone();
            let returned = match returning::plan(&reading, statement, &object, written)? {
                None => None,
                Some(PlannedQuery { plan, schema, .. }) => {
                    Reading::check_parameters(&plan, given)?;
                    let values = parameters.values;
                    Some(
                        reading
                            .collect(plan, schema, values, Purpose::Update)
                            .await?,
                    )
                }
            };
            (changed, returned)
        };
        let Changed {
            delta,
            count,
            affected: _,
            held: _held,
        } = changed;
        self.check_keys(&object, &delta).map_err(|error| {
            let transaction = self.transaction.as_ref();
            let is_pinned = transaction.is_some_and(|transaction| transaction.pin.is_some());
            match conflict.is_some() && is_pinned {
                // The row is newer than the transaction's snapshot.
                true => concurrent_update(),
                false => error,
            }
        })?;
        let updates = conflict.is_some_and(|conflict| conflict.updates());
        if updates || !matches!(statement, Statement::Insert(_)) {
            self.check_unchanged(&object, &delta)?;
        }
        self.apply_or_keep(&object, delta, guard).await?;
        let tag = match statement {
            Statement::Insert(_) => "INSERT 0",
            Statement::Update(_) => "UPDATE",
            _ => "DELETE",
        };
        Ok(match returned {
            None => done(&format!("{tag} {count}")),
            Some(Collected { rows, held }) => Response::Rows {
                schema: rows.schema(),
                batches: Box::pin(futures::stream::once(async move {
                    drop(held);
                    Ok(rows)
                })),
                tag: RowsTag(tag.to_string()),
            },
        })
    }

    /// No row is removed more often than it is there; under REPEATABLE READ one that somebody has
    /// changed since the snapshot is not changed again.
    fn check_unchanged(&self, object: &Object, delta: &DeltaBatch) -> Result<()> {
        let transaction = self.transaction.as_ref();
        let own = transaction.and_then(|transaction| transaction.writes.get(&object.id()));
        let both = match own {
            None => delta.clone(),
            Some(own) => concat(&delta.schema(), &[own.clone(), delta.clone()])?,
        };
        let is_pinned = transaction.is_some_and(|transaction| transaction.pin.is_some());
        match (
            self.engine.published().accepts(object.id(), &both)?,
            is_pinned,
        ) {
            (true, _) => Ok(()),
            (false, true) => Err(concurrent_update()),
            // Whoever holds the table's lock reads its newest rows.
            (false, false) => Err(Error::internal(format!(
                "a row of table \"{}\" would be removed more often than it is there",
                object.name()
            ))),
        }
    }

    /// The table or embedded topic that a statement writes.
    fn target(&self, statement: &Statement) -> Result<Arc<Object>> {
        let name = target_name(statement)?;
        let object = self.catalog().resolve(&name)?.clone();
        self.check_writable(&object, matches!(statement, Statement::Insert(_)))?;
        Ok(object)
    }

    fn check_writable(&self, object: &Object, is_insert: bool) -> Result<()> {
        let refused = |why: String| Err(Error::new(SqlState::WRONG_OBJECT_TYPE, why));
        match object.kind() {
            ObjectKind::Table => Ok(()),
            ObjectKind::Source => {
                let sources = self.shared().sources();
                let is_embedded = sources
                    .get(&object.id())
                    .is_some_and(|source| source.is_embedded);
                match (is_embedded, is_insert) {
                    (true, true) => Ok(()),
                    (true, false) => refused(format!(
                        "rows of source \"{}\" cannot be changed, only added",
                        object.name()
                    )),
                    (false, _) => refused(format!(
                        "source \"{}\" is written by others, not by this server",
                        object.name()
                    )),
                }
            }
            kind => refused(format!("cannot write to {kind} \"{}\"", object.name())),
        }
    }

    /// The right to write a table; `None` where nothing is read or checked before writing.
    async fn lock(&mut self, object: &Object) -> Result<Option<tokio::sync::OwnedMutexGuard<()>>> {
        if object.kind() != ObjectKind::Table {
            return Ok(None);
        }
        let held = self
            .transaction
            .as_ref()
            .map(|transaction| &transaction.locks);
        if held.is_some_and(|locks| locks.iter().any(|(id, _)| *id == object.id())) {
            return Ok(None);
        }
        let wait = self.shared().writer(object.id()).lock_owned();
        let timeout = self.setting("lock_timeout");
        let timeout = timeout.and_then(|timeout| milliseconds(&timeout));
        let wait = async move {
            match timeout.filter(|millis| *millis > 0) {
                None => Ok(wait.await),
                Some(millis) => tokio::time::timeout(Duration::from_millis(millis), wait)
                    .await
                    .map_err(|_| {
                        Error::new(
                            SqlState::LOCK_NOT_AVAILABLE,
                            "canceling statement due to lock timeout",
                        )
                    }),
            }
        };
        if held.is_none_or(Vec::is_empty) {
            return wait.await.map(Some);
        }
        // Who holds one table and waits for another may wait for somebody who waits for it. Of
        // several the last one to come gives up first, so that one of them is told and not all.
        let waiter = Waiter::among(&self.shared().waiting_holders);
        let patience = LOCK_WAIT_MAX + LOCK_WAIT_MAX / (waiter.others + 1);
        match tokio::time::timeout(patience, wait).await {
            Ok(guard) => guard.map(Some),
            Err(_) => Err(Error::new(SqlState::DEADLOCK_DETECTED, "deadlock detected")
                .detail(format!(
                    "waited {patience:?} for table \"{}\"",
                    object.name()
                ))
                .hint("run the transaction again; write tables in the same order everywhere")),
        }
    }

    async fn apply_or_keep(
        &mut self,
        object: &Arc<Object>,
        delta: DeltaBatch,
        guard: Option<tokio::sync::OwnedMutexGuard<()>>,
    ) -> Result<()> {
        let delta = match object.kind() {
            ObjectKind::Source => given(delta, &insertable(&self.engine, object))?,
            _ => delta,
        };
        match &mut self.transaction {
            Some(transaction) => {
                if let Some(guard) = guard {
                    transaction.locks.push((object.id(), guard));
                }
                transaction.write(object, delta)
            }
            None => {
                if !delta.is_empty() {
                    self.apply(BTreeMap::from([(object.id(), delta)])).await?;
                }
                drop(guard);
                Ok(())
            }
        }
    }

    /// Hands the writes to the step engine and waits until they are durable and visible.
    pub(super) async fn apply(&self, writes: BTreeMap<ObjectId, DeltaBatch>) -> Result<Epoch> {
        apply(&self.engine, writes).await
    }

    /// Refuses a second row under a key, within the change or beside what is there.
    fn check_keys(&self, object: &Object, delta: &DeltaBatch) -> Result<()> {
        let Some(key) = object
            .relation
            .key
            .as_ref()
            .filter(|_| object.kind() == ObjectKind::Table)
        else {
            return Ok(());
        };
        let own = self
            .transaction
            .as_ref()
            .and_then(|t| t.writes.get(&object.id()));
        let delta = match own {
            None => delta.clone(),
            Some(own) => concat(&object.relation.schema, &[own.clone(), delta.clone()])?,
        };
        let columns: Vec<ArrayRef> = key
            .iter()
            .map(|&column| delta.rows().column(column).clone())
            .collect();
        let types: Vec<DataType> = columns.iter().map(|c| c.data_type().clone()).collect();
        let mut table = crate::delta::KeyTable::new(&types)?;
        let batch = crate::delta::KeyBatch::new(&table, &columns)?;
        let mut slots = Vec::new();
        table.insert(&batch, &mut slots);
        let there = self.engine.published().contains(object.id(), &columns)?;
        let mut counts: Vec<Option<i64>> = vec![None; table.slots()];
        for (row, &slot) in slots.iter().enumerate() {
            let count = counts[slot as usize].get_or_insert(i64::from(there[row]));
            *count += delta.weights().get(row);
        }
        let twice = slots
            .iter()
            .position(|&slot| counts[slot as usize].is_some_and(|n| n > 1));
        let Some(row) = twice else { return Ok(()) };
        let names: Vec<&str> = key
            .iter()
            .map(|&c| object.relation.schema.field(c).name().as_str())
            .collect();
        let values: Vec<String> = columns
            .iter()
            .map(|column| {
                arrow::util::display::array_value_to_string(column, row).unwrap_or_default()
            })
            .collect();
        Err(Error::new(
            SqlState::UNIQUE_VIOLATION,
            format!(
                "duplicate key value violates unique constraint \"{}_pkey\"",
                object.name()
            ),
        )
        .detail(format!(
            "key ({})=({}) already exists",
            names.join(", "),
            values.join(", ")
        )))
    }

    pub(super) async fn copy(&mut self, copy: &CopyRows) -> Result<Response> {
        let format = copy_format(&copy.options)?;
        match (&copy.target, copy.direction) {
            (CopyTarget::Relation { name, columns }, CopyDirection::FromStdin) => {
                let object = self.catalog().resolve(name.name())?.clone();
                self.check_writable(&object, true)?;
                if object.kind() == ObjectKind::Table && Target::new(&object)?.generates() {
                    return Err(
                        Error::unsupported("COPY into a table with generated columns")
                            .hint("COPY into another table, then INSERT … SELECT"),
                    );
                }
                let schema = self.insertable(&object);
                let schema = match columns.is_empty() {
                    true => schema,
                    false => {
                        let places = columns
                            .iter()
                            .map(|name| {
                                schema.index_of(name).map_err(|_| {
                                    Error::new(
                                        SqlState::UNDEFINED_COLUMN,
                                        format!(
                                            "column \"{name}\" of relation \"{}\" does not exist",
                                            object.name()
                                        ),
                                    )
                                })
                            })
                            .collect::<Result<Vec<_>>>()?;
                        Arc::new(schema.project(&places).map_err(crate::delta::arrow_error)?)
                    }
                };
                let writer = Rows {
                    engine: self.engine.clone(),
                    all: self.insertable(&object),
                    object,
                    batches: Vec::new(),
                    rows: 0,
                    bytes: 0,
                    held: self.hold_memory(),
                };
                Ok(Response::CopyIn {
                    schema: nullable(&schema),
                    writer: Box::new(writer),
                    format,
                })
            }
            (CopyTarget::Relation { name, columns }, CopyDirection::ToStdout) => {
                let object = self.catalog().resolve(name.name())?.clone();
                let list = match columns.is_empty() {
                    true => "*".to_string(),
                    false => {
                        let quoted: Vec<String> = columns
                            .iter()
                            .map(|c| crate::sql::name::quote_identifier(c).to_string())
                            .collect();
                        quoted.join(", ")
                    }
                };
                let name = crate::sql::name::quote_identifier(object.name());
                let parsed = crate::sql::parse_single(&format!("SELECT {list} FROM {name}"))?;
                match parsed.map(|parsed| parsed.statement) {
                    Some(Statement::Query(query)) => self.copy_query(&query, format).await,
                    _ => Err(Error::internal("a COPY that reads nothing")),
                }
            }
            (CopyTarget::Query(query), _) => self.copy_query(query, format).await,
            (CopyTarget::Subscribe(subscribe), _) => {
                let stream = self
                    .subscription(subscribe, crate::engine::response::Cancel::new())
                    .await?;
                Ok(Response::CopyOut {
                    schema: stream.0,
                    batches: stream.1,
                    format,
                })
            }
        }
    }

    async fn copy_query(&mut self, query: &ast::Query, format: CopyFormat) -> Result<Response> {
        self.pin_transaction()?;
        let reading = self.reading();
        let planned = reading.plan(query)?;
        let schema = planned.schema.clone();
        let batches = reading
            .run(planned.plan, planned.schema, Vec::new())
            .await?;
        Ok(Response::CopyOut {
            schema,
            batches,
            format,
        })
    }

    /// The columns that a user gives a value.
    fn insertable(&self, object: &Object) -> SchemaRef {
        insertable(&self.engine, object)
    }
}

/// 40001: a row that the transaction's snapshot does not have as it is now.
fn concurrent_update() -> Error {
    let message = "could not serialize access due to concurrent update";
    Error::new(SqlState::SERIALIZATION_FAILURE, message).hint("run the transaction again")
}

fn insertable(engine: &Engine, object: &Object) -> SchemaRef {
    let schema = object.relation.schema.clone();
    match engine.0.sources().get(&object.id()) {
        None => schema,
        Some(source) => {
            let given: Vec<usize> = (0..schema.fields().len())
                .filter(|&c| source.computed[c].is_none())
                .collect();
            Arc::new(schema.project(&given).expect("columns of the schema"))
        }
    }
}

async fn apply(engine: &Engine, writes: BTreeMap<ObjectId, DeltaBatch>) -> Result<Epoch> {
    let writes = writes
        .into_iter()
        .map(|(object, delta)| Write { object, delta })
        .collect::<Vec<_>>();
    let (sender, answer) = oneshot::channel();
    engine.0.runtime.send(Command::Write {
        writes,
        done: sender,
    })?;
    answer.await.map_err(|_| stopped())?
}

/// Takes the rows of a COPY and writes them as one transaction, or as a part of the session's.
struct Rows {
    engine: Engine,
    object: Arc<Object>,
    /// Every column that can be given; those left out of the COPY are NULL.
    all: SchemaRef,
    batches: Vec<RecordBatch>,
    rows: usize,
    /// The bytes of the rows, without those that only stand ready.
    bytes: usize,
    /// The memory of the batches.
    held: Held,
}

#[async_trait::async_trait]
impl CopyWriter for Rows {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.rows += batch.num_rows();
        let columns = self
            .all
            .fields()
            .iter()
            .map(|field| match batch.schema().index_of(field.name()) {
                Ok(place) => batch.column(place).clone(),
                Err(_) => arrow::array::new_null_array(field.data_type(), batch.num_rows()),
            })
            .collect::<Vec<_>>();
        let schema = self.all.clone();
        check_nulls(&self.object, &schema, &columns)?;
        let batch = RecordBatch::try_new(schema, columns).map_err(crate::delta::arrow_error)?;
        self.bytes += data_bytes(&batch);
        if self.rows > TRANSACTION_ROWS_MAX || self.bytes > WRITE_BYTES_MAX {
            let megabytes = WRITE_BYTES_MAX >> 20;
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!(
                    "one COPY writes at most {TRANSACTION_ROWS_MAX} rows and {megabytes} MB: all \
                     of them or none"
                ),
            )
            .hint("cut the file into parts, and run a COPY for each"));
        }
        let bytes = batch.get_array_memory_size();
        self.engine.memory().check("the rows of COPY", bytes)?;
        self.held.set(self.held.bytes() + bytes);
        self.batches.push(batch);
        Ok(())
    }

    async fn finish(self: Box<Self>, session: &mut Session) -> Result<u64> {
        let rows = self.rows as u64;
        if self.batches.is_empty() {
            return Ok(rows);
        }
        let guard = session.lock(&self.object).await?;
        let batch = arrow::compute::concat_batches(&self.all, &self.batches)
            .map_err(crate::delta::arrow_error)?;
        let delta = DeltaBatch::insertions(batch);
        session.check_keys(&self.object, &delta)?;
        session.apply_or_keep(&self.object, delta, guard).await?;
        Ok(rows)
    }
}

/// The bytes of a batch's values: what its journal record has at least.
pub(super) fn data_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    let bytes = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
    bytes.sum()
}

/// Of rows for a topic the columns that are given: the others are computed when they are read.
fn given(delta: DeltaBatch, schema: &arrow::datatypes::SchemaRef) -> Result<DeltaBatch> {
    let rows = delta.rows();
    let place = |field: &arrow::datatypes::FieldRef| rows.schema().index_of(field.name()).ok();
    let places: Option<Vec<usize>> = schema.fields().iter().map(place).collect();
    let places = places.ok_or_else(|| Error::internal("a topic's row lacks a column"))?;
    let rows = rows.project(&places).map_err(crate::delta::arrow_error)?;
    Ok(delta.with_rows(rows))
}

/// 23502 for the first row with a NULL where none may be.
fn check_nulls(object: &Object, schema: &SchemaRef, columns: &[ArrayRef]) -> Result<()> {
    let first_null = |column: &ArrayRef| match column.null_count() {
        0 => None,
        _ => (0..column.len()).find(|row| column.is_null(*row)),
    };
    let violations = schema.fields().iter().zip(columns).enumerate();
    let violations = violations.filter(|(_, (field, _))| !field.is_nullable());
    let first = violations
        .filter_map(|(place, (_, column))| Some((first_null(column)?, place)))
        .min();
    let Some((row, place)) = first else {
        return Ok(());
    };
    let message = format!(
        "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
        schema.field(place).name(),
        object.name()
    );
    let error = Error::new(SqlState::NOT_NULL_VIOLATION, message);
    Err(error.detail(format!(
        "Failing row contains ({}).",
        row_text(schema, columns, row)?
    )))
}

/// The values of a row as an error's detail shows them: long ones are cut, as in Postgres.
fn row_text(schema: &SchemaRef, columns: &[ArrayRef], row: usize) -> Result<String> {
    let values = schema.fields().iter().zip(columns).map(|(field, column)| {
        let writer = ValueWriter::new(field, Format::Text)?;
        let mut bytes = bytes::BytesMut::new();
        if !writer.write(column, row, &mut bytes)? {
            return Ok("null".to_string());
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(match text.char_indices().nth(DETAIL_VALUE_CHARACTERS_MAX) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text.into_owned(),
        })
    });
    Ok(values.collect::<Result<Vec<_>>>()?.join(", "))
}

/// The schema with NULL allowed everywhere: what is computed is checked by us, row by row.
fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields: Vec<_> = fields
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    Arc::new(Schema::new(fields))
}

/// The plan with NULL allowed in its constants: VALUES of an INSERT take the table's columns.
fn with_nullable_values(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up(|plan| {
        let LogicalPlan::Values(values) = plan else {
            return plan.recompute_schema().map(Transformed::yes);
        };
        let fields = values.schema.iter().map(|(qualifier, field)| {
            let field = field.as_ref().clone().with_nullable(true);
            (qualifier.cloned(), Arc::new(field))
        });
        let metadata = values.schema.metadata().clone();
        let schema = DFSchema::new_with_metadata(fields.collect(), metadata)?;
        Ok(Transformed::yes(LogicalPlan::Values(Values {
            schema: Arc::new(schema),
            values: values.values,
        })))
    });
    Ok(rewritten.map_err(from_datafusion)?.data)
}

/// What a statement writes to, folded.
fn target_name(statement: &Statement) -> Result<String> {
    let relation = |factor: &ast::TableFactor| match factor {
        ast::TableFactor::Table { name, .. } => Some(name.clone()),
        _ => None,
    };
    let name = match statement {
        Statement::Insert(insert) => match &insert.table {
            ast::TableObject::TableName(name) => Some(name.clone()),
            _ => None,
        },
        Statement::Update(update) => relation(&update.table.relation),
        Statement::Delete(delete) => match &delete.from {
            ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from) => {
                from.first().and_then(|table| relation(&table.relation))
            }
        },
        _ => None,
    };
    let name = name.ok_or_else(|| Error::new(SqlState::SYNTAX_ERROR, "expected a table name"))?;
    let last = name.0.last().and_then(|part| part.as_ident());
    let last = last.ok_or_else(|| Error::new(SqlState::SYNTAX_ERROR, "expected a table name"))?;
    Ok(match last.quote_style {
        Some(_) => last.value.clone(),
        None => last.value.to_lowercase(),
    })
}

/// DataFusion's plan of the statement: a DML node over the rows to write. Clauses that nothing
/// answers were refused when it was read: see [`crate::sql::clauses`].
fn plan_write(
    reading: &Reading<'_>,
    statement: &Statement,
    target: &Target,
) -> Result<LogicalPlan> {
    let statement = match statement {
        Statement::Insert(insert) => {
            let mut insert = insert.as_ref().clone();
            // Planned by themselves; nothing else can name the alias.
            insert.table_alias = None;
            (insert.on, insert.returning) = (None, None);
            if let Some(source) = &mut insert.source {
                // Columns are taken in their order, whatever they are called.
                unique_names(source);
            }
            target.complete_insert(&mut insert, |query| {
                let planned = reading.planning(|planner| planner.query(query))?;
                Ok(planned.schema().fields().len())
            })?;
            ast::Statement::Insert(insert)
        }
        Statement::Update(update) => {
            let mut update = update.as_ref().clone();
            update.returning = None;
            target.complete_update(&mut update)?;
            ast::Statement::Update(update)
        }
        Statement::Delete(delete) => {
            let mut delete = delete.as_ref().clone();
            delete.returning = None;
            ast::Statement::Delete(delete)
        }
        _ => return Err(Error::internal("a write that is none")),
    };
    let plan = reading.planning(|planner| planner.statement(statement))?;
    lower_windows(plan)
}

/// The change that a DML plan makes.
pub(super) struct Changed {
    pub delta: DeltaBatch,
    /// How many rows the statement counts.
    pub count: usize,
    /// Those rows: as they are now, or as they were where they go.
    pub affected: RecordBatch,
    /// The memory of the rows, until the step engine has taken them into its own account.
    pub held: Held,
}

/// Runs a DML plan.
async fn change_of(
    reading: &Reading<'_>,
    plan: LogicalPlan,
    object: &Object,
    target: &Target,
    parameters: Vec<ScalarValue>,
) -> Result<Changed> {
    let LogicalPlan::Dml(dml) = plan else {
        return Err(Error::internal("a write without a DML plan"));
    };
    let schema = object.relation.schema.clone();
    let input = dml.input.as_ref().clone();
    match dml.op {
        WriteOp::Insert(_) => {
            let mut input = with_nullable_values(input)?;
            // The rows of a topic are computed where they are read.
            if object.kind() == ObjectKind::Table {
                input = reading.planning(|planner| target.generate(planner, input))?;
            }
            let Collected { rows, held } = reading
                .collect(input, nullable(&schema), parameters, Purpose::Insert)
                .await?;
            check_nulls(object, &schema, rows.columns())?;
            let count = rows.num_rows();
            let rows = RecordBatch::try_new(schema, rows.columns().to_vec())
                .map_err(crate::delta::arrow_error)?;
            Ok(Changed {
                delta: DeltaBatch::insertions(rows.clone()),
                count,
                affected: rows,
                held,
            })
        }
        WriteOp::Delete => {
            let Collected { rows, held } = reading
                .collect(input, schema, parameters, Purpose::Delete)
                .await?;
            Ok(Changed {
                count: rows.num_rows(),
                delta: DeltaBatch::insertions(rows.clone()).negate(),
                affected: rows,
                held,
            })
        }
        WriteOp::Update => update_of(reading, input, object, target, parameters).await,
        _ => {
            Err(Error::unsupported("this write is not supported")
                .hint("INSERT, UPDATE and DELETE are"))
        }
    }
}

/// Old rows go, new rows come: both from one run over the rows that match.
pub(super) async fn update_of(
    reading: &Reading<'_>,
    input: LogicalPlan,
    object: &Object,
    target: &Target,
    parameters: Vec<ScalarValue>,
) -> Result<Changed> {
    let schema = object.relation.schema.clone();
    let LogicalPlan::Projection(projection) = &input else {
        return Err(Error::internal("an UPDATE without its new values"));
    };
    let width = schema.fields().len();
    let old = |name: &str| {
        let found = projection
            .input
            .schema()
            .columns()
            .into_iter()
            .find(|c| c.name() == name);
        found
            .map(Expr::Column)
            .ok_or_else(|| Error::internal("an UPDATE without its old values"))
    };
    let mut both = Vec::with_capacity(width * 2);
    for field in schema.fields() {
        both.push(old(field.name())?.alias(format!("old:{}", field.name())));
    }
    let values = reading.planning(|planner| target.regenerate(planner, &projection.expr))?;
    for (field, expr) in schema.fields().iter().zip(&values) {
        both.push(
            expr.clone()
                .unalias()
                .alias(format!("new:{}", field.name())),
        );
    }
    let plan = LogicalPlanBuilder::from(projection.input.as_ref().clone())
        .project(both)
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)?;
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .chain(schema.fields())
        .enumerate()
        .map(|(place, field)| {
            field
                .as_ref()
                .clone()
                .with_name(format!("{place}"))
                .with_nullable(true)
        })
        .collect();
    let pairs = Arc::new(arrow::datatypes::Schema::new(fields));
    let Collected { rows, held } = reading
        .collect(plan, pairs, parameters, Purpose::Update)
        .await?;
    let count = rows.num_rows();
    let half = |from: usize| -> Result<DeltaBatch> {
        let columns = rows.columns()[from..from + width].to_vec();
        check_nulls(object, &schema, &columns)?;
        let batch = RecordBatch::try_new(schema.clone(), columns);
        Ok(DeltaBatch::insertions(
            batch.map_err(crate::delta::arrow_error)?,
        ))
    };
    let new = half(width)?;
    let affected = new.rows().clone();
    let delta = concat(&schema, &[half(0)?.negate(), new])?;
    let delta = crate::delta::consolidate(&delta)?;
    Ok(Changed {
        delta: ordered(delta)?,
        count,
        affected,
        held,
    })
}

/// Removals before additions: a key's old row is gone before its new one comes.
fn ordered(delta: DeltaBatch) -> Result<DeltaBatch> {
    let Weights::Each(weights) = delta.weights() else {
        return Ok(delta);
    };
    let mut rows: Vec<u32> = (0..weights.len())
        .map(|row| u32::try_from(row).expect("fewer than 2^32 rows"))
        .collect();
    rows.sort_by_key(|&row| weights[row as usize] > 0);
    delta.take(&arrow::array::UInt32Array::from(rows))
}

/// The codec's options with Postgres' defaults filled in.
fn copy_format(options: &watch::CopyOptions) -> Result<CopyFormat> {
    let byte = |letter: Option<char>, default: u8| match letter {
        None => Ok(default),
        Some(letter) => u8::try_from(letter).map_err(|_| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "COPY's delimiter, quote and escape must be single one-byte characters",
            )
        }),
    };
    let header = match options.header {
        None | Some(watch::CopyHeader::Off) => false,
        Some(watch::CopyHeader::On) => true,
        Some(watch::CopyHeader::Match) => {
            return Err(Error::unsupported("HEADER MATCH is not supported").hint("use HEADER"));
        }
    };
    Ok(match options.format {
        watch::CopyFormat::Text => CopyFormat::Text {
            delimiter: byte(options.delimiter, b'\t')?,
            null: options.null.clone().unwrap_or_else(|| "\\N".to_string()),
            header,
        },
        watch::CopyFormat::Csv => {
            let quote = byte(options.quote, b'"')?;
            CopyFormat::Csv {
                delimiter: byte(options.delimiter, b',')?,
                null: options.null.clone().unwrap_or_default(),
                header,
                quote,
                escape: byte(options.escape, quote)?,
            }
        }
        watch::CopyFormat::Binary => CopyFormat::Binary,
    })
}
