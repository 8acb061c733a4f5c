//! INSERT … ON CONFLICT: what becomes of a row whose key is there already.
//!
//! ```text
//!   INSERT INTO t VALUES (1, 5), (2, 6) ON CONFLICT (k) DO UPDATE SET n = t.n + excluded.n
//!
//!   to insert   there      becomes
//!   (1, 5)      (1, 10)    the pair (1, 10, 1, 5)  ──UPDATE──►  −(1, 10) +(1, 15)
//!   (2, 6)        —        +(2, 6)
//! ```
//!
//! Pairs are a relation of the statement alone: the table's columns as they are, and beside them
//! those of the row that was to be inserted. DO UPDATE is planned as an UPDATE of it. Rows are
//! found by their keys, under the table's writer lock.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::logical_expr::LogicalPlan;

use crate::catalog::{Object, ObjectKind};
use crate::delta::{DeltaBatch, KeyBatch, KeyTable, NO_SLOT, arrow_error, concat, consolidate};
use crate::engine::query::{Parameters, Reading};
use crate::engine::session::Session;
use crate::engine::tables::repeat;
use crate::engine::values::Target;
use crate::engine::write::{Changed, update_of};
use crate::error::{Error, Result, SqlState};
use crate::plan::lower_windows;
use crate::sql::ast;
use crate::sql::name::fold;
use crate::sql::statement::Statement;

/// The relation of the pairs: no text has such a name.
const PAIRS: &str = "\0pairs";

/// What the row that was to be inserted is called in DO UPDATE.
const EXCLUDED: &str = "excluded";

/// An ON CONFLICT that fits its table.
pub(super) struct Conflict<'a> {
    /// The columns of the key; `None` where no two rows are in conflict.
    key: Option<Vec<usize>>,
    /// What DO UPDATE says; `None` of DO NOTHING.
    update: Option<&'a ast::DoUpdate>,
    /// What the statement calls the table.
    alias: ast::Ident,
}

impl<'a> Conflict<'a> {
    /// That of a statement.
    ///
    /// # Errors
    /// 42P10 or 42704 when it names other columns than those of the primary key, or a constraint
    /// that is not there.
    pub fn of(statement: &'a Statement, object: &Object) -> Result<Option<Conflict<'a>>> {
        let Statement::Insert(insert) = statement else {
            return Ok(None);
        };
        let Some(ast::OnInsert::OnConflict(conflict)) = &insert.on else {
            return Ok(None);
        };
        let key = object.relation.key.clone();
        let key = key.filter(|_| object.kind() == ObjectKind::Table);
        match &conflict.conflict_target {
            None => {}
            Some(ast::ConflictTarget::Columns(columns)) => {
                check_columns(columns, key.as_deref(), object)?;
            }
            Some(ast::ConflictTarget::OnConstraint(name)) => {
                let last = name.0.last().and_then(|part| part.as_ident()).map(fold);
                let name = last.unwrap_or_else(|| name.to_string());
                if key.is_none() || name != format!("{}_pkey", object.name()) {
                    let table = object.name();
                    let message =
                        format!("constraint \"{name}\" for table \"{table}\" does not exist");
                    return Err(Error::new(SqlState::UNDEFINED_OBJECT, message));
                }
            }
        }
        let update = match &conflict.action {
            ast::OnConflictAction::DoNothing => None,
            ast::OnConflictAction::DoUpdate(update) => Some(update),
        };
        let alias = insert.table_alias.as_ref().map(|alias| alias.alias.clone());
        Ok(Some(Conflict {
            key,
            update,
            alias: alias.unwrap_or_else(|| ast::Ident::with_quote('"', object.name())),
        }))
    }

    /// Whether rows that are there may change.
    pub fn updates(&self) -> bool {
        self.update.is_some()
    }

    /// DO UPDATE over pairs; `None` of DO NOTHING.
    ///
    /// # Errors
    /// Those of planning an UPDATE.
    pub fn plan(
        &self,
        reading: &Reading<'_>,
        target: &Target,
        pairs: RecordBatch,
    ) -> Result<Option<LogicalPlan>> {
        let Some(update) = self.update else {
            return Ok(None);
        };
        let parsed = crate::sql::parse_single("UPDATE pairs AS t SET c = 0")?;
        let Some(Statement::Update(statement)) = parsed.map(|parsed| parsed.statement) else {
            return Err(Error::internal("an UPDATE that is none"));
        };
        let mut statement = statement.as_ref().clone();
        if let ast::TableFactor::Table { name, alias, .. } = &mut statement.table.relation {
            *name = ast::ObjectName::from(vec![ast::Ident::with_quote('"', PAIRS)]);
            if let Some(alias) = alias {
                alias.name = self.alias.clone();
            }
        }
        statement.assignments = update.assignments.clone();
        statement.selection = update.selection.clone();
        let schema = pairs.schema();
        for assignment in &mut statement.assignments {
            name_excluded(&mut assignment.value, &schema)?;
        }
        if let Some(selection) = &mut statement.selection {
            name_excluded(selection, &schema)?;
        }
        reading.give(PAIRS, pairs);
        target.complete_update(&mut statement)?;
        let statement = ast::Statement::Update(statement);
        let plan = reading.planning(|planner| planner.statement(statement))?;
        lower_windows(plan).map(Some)
    }
}

fn check_columns(columns: &[ast::Ident], key: Option<&[usize]>, object: &Object) -> Result<()> {
    let schema = &object.relation.schema;
    let mut places = Vec::with_capacity(columns.len());
    for column in columns {
        let name = fold(column);
        let place = schema.index_of(&name).map_err(|_| {
            let error = Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{name}\" does not exist"),
            );
            match column.span.start {
                start if start.line > 0 => error.place(start.line, start.column),
                _ => error,
            }
        })?;
        places.push(place);
    }
    places.sort_unstable();
    places.dedup();
    let mut key = key.map(<[usize]>::to_vec).unwrap_or_default();
    key.sort_unstable();
    match !key.is_empty() && places == key {
        true => Ok(()),
        false => Err(Error::new(
            SqlState::INVALID_COLUMN_REFERENCE,
            "there is no unique or exclusion constraint matching the ON CONFLICT specification",
        )
        .hint("name the columns of the primary key")),
    }
}

/// The table's columns, and beside them those of the row that was to be inserted.
pub(super) fn pairs_schema(table: &SchemaRef) -> SchemaRef {
    let excluded = table.fields().iter().map(|field| {
        let field = field.as_ref().clone();
        let name = excluded_name(field.name());
        Arc::new(field.with_name(name).with_nullable(true))
    });
    let fields = table.fields().iter().cloned().chain(excluded);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn excluded_name(column: &str) -> String {
    format!("\0{EXCLUDED}.{column}")
}

/// Names the columns of the row that was to be inserted as the pairs do.
fn name_excluded(expr: &mut ast::Expr, pairs: &Schema) -> Result<()> {
    let named = ast::visit_expressions_mut(expr, |expr| {
        let ast::Expr::CompoundIdentifier(parts) = expr else {
            return ControlFlow::Continue(());
        };
        let [relation, column] = parts.as_slice() else {
            return ControlFlow::Continue(());
        };
        if fold(relation) != EXCLUDED {
            return ControlFlow::Continue(());
        }
        let name = excluded_name(&fold(column));
        if pairs.index_of(&name).is_err() {
            let message = format!("column excluded.{} does not exist", fold(column));
            let error = Error::new(SqlState::UNDEFINED_COLUMN, message);
            return ControlFlow::Break(match column.span.start {
                start if start.line > 0 => error.place(start.line, start.column),
                _ => error,
            });
        }
        let mut ident = ast::Ident::with_quote('"', name);
        ident.span = column.span;
        *expr = ast::Expr::Identifier(ident);
        ControlFlow::Continue(())
    });
    match named {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

impl Session {
    /// Of rows to be inserted those that are new, and what the others make of what is there.
    ///
    /// # Errors
    /// 21000 when two of the rows would change the same one.
    pub(super) async fn resolve(
        &self,
        reading: &Reading<'_>,
        conflict: &Conflict<'_>,
        inserted: Changed,
        (object, target): (&Object, &Target),
        parameters: &Parameters,
    ) -> Result<Changed> {
        let Some(key) = &conflict.key else {
            return Ok(inserted);
        };
        let rows = &inserted.affected;
        let mut keys = Keys::new(key, rows)?;
        let there = self.rows_under(object, &keys)?;
        let old = keys.places_of(&there)?;
        let (mut new, mut changed, mut by) = (Vec::new(), Vec::new(), Vec::new());
        let mut is_met = vec![false; old.len()];
        for (row, &slot) in (0u32..).zip(&std::mem::take(&mut keys.slots)) {
            let is_second = std::mem::replace(&mut is_met[slot as usize], true);
            match (is_second, old[slot as usize]) {
                (true, _) if conflict.updates() => {
                    let message = "ON CONFLICT DO UPDATE command cannot affect row a second time";
                    return Err(Error::new(SqlState::CARDINALITY_VIOLATION, message).hint(
                        "ensure that no rows proposed for insertion within the same command have \
                         duplicate constrained values",
                    ));
                }
                (true, _) => {}
                (false, None) => new.push(row),
                (false, Some(place)) => {
                    changed.push(place);
                    by.push(row);
                }
            }
        }
        let schema = object.relation.schema.clone();
        let new = take_record_batch(rows, &UInt32Array::from(new)).map_err(arrow_error)?;
        let pairs = {
            let one =
                take_record_batch(&there, &UInt32Array::from(changed)).map_err(arrow_error)?;
            let other = take_record_batch(rows, &UInt32Array::from(by)).map_err(arrow_error)?;
            let columns = [one.columns(), other.columns()].concat();
            RecordBatch::try_new(pairs_schema(&schema), columns).map_err(arrow_error)?
        };
        let mut held = inserted.held;
        let is_none_changed = pairs.num_rows() == 0;
        let plan = conflict.plan(reading, target, pairs)?;
        let Some(plan) = plan.filter(|_| !is_none_changed) else {
            return Ok(Changed {
                count: new.num_rows(),
                delta: DeltaBatch::insertions(new.clone()),
                affected: new,
                held,
            });
        };
        Reading::check_parameters(&plan, parameters.values.len())?;
        let LogicalPlan::Dml(dml) = plan else {
            return Err(Error::internal("an UPDATE without a DML plan"));
        };
        let input = dml.input.as_ref().clone();
        let values = parameters.values.clone();
        let updated = update_of(reading, input, object, target, values).await?;
        held.set(held.bytes() + updated.held.bytes());
        let delta = [updated.delta, DeltaBatch::insertions(new.clone())];
        let affected = arrow::compute::concat_batches(&schema, [&new, &updated.affected]);
        Ok(Changed {
            delta: concat(&schema, &delta)?,
            count: new.num_rows() + updated.count,
            affected: affected.map_err(arrow_error)?,
            held,
        })
    }

    /// The table's rows with these keys, as the transaction sees them.
    fn rows_under(&self, object: &Object, keys: &Keys) -> Result<RecordBatch> {
        let schema = &object.relation.schema;
        let id = object.id();
        let transaction = self.transaction.as_ref();
        let mut parts = Vec::new();
        match transaction.and_then(|transaction| transaction.pin.as_ref()) {
            None => {
                let published = self.engine.published();
                let is_there = published.contains(id, &keys.columns)?;
                let is_there = BooleanArray::from(is_there);
                let columns = keys.columns.iter();
                let columns = columns.map(|column| arrow::compute::filter(column, &is_there));
                let columns = columns
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(arrow_error)?;
                if is_there.true_count() > 0 {
                    let found = published.find(id, &columns)?;
                    parts.push(DeltaBatch::insertions(
                        found.with_schema(schema.clone()).map_err(arrow_error)?,
                    ));
                }
            }
            Some(pin) => {
                let snapshot = pin.snapshots.get(&id).ok_or_else(|| {
                    Error::new(
                        SqlState::SERIALIZATION_FAILURE,
                        "the relation was created after the transaction's snapshot was taken",
                    )
                })?;
                for delta in snapshot.deltas() {
                    parts.push(keys.of(&delta?)?);
                }
            }
        }
        let own = transaction.and_then(|transaction| transaction.writes.get(&id));
        if let Some(own) = own {
            parts.push(keys.of(own)?);
        }
        repeat(&consolidate(&concat(schema, &parts)?)?)
    }
}

/// The keys of rows to be inserted.
struct Keys {
    /// Places of the key's columns in the table.
    key: Vec<usize>,
    /// The key of each different row.
    columns: Vec<ArrayRef>,
    table: KeyTable,
    /// By row, which key it has.
    slots: Vec<u32>,
}

impl Keys {
    fn new(key: &[usize], rows: &RecordBatch) -> Result<Keys> {
        let columns: Vec<ArrayRef> = key.iter().map(|&c| rows.column(c).clone()).collect();
        let types: Vec<DataType> = columns.iter().map(|c| c.data_type().clone()).collect();
        let mut table = KeyTable::new(&types)?;
        let batch = KeyBatch::new(&table, &columns)?;
        let mut slots = Vec::new();
        table.insert(&batch, &mut slots);
        // Keys of a fresh table are numbered in the order of their first row.
        let mut first = Vec::with_capacity(table.slots());
        for (row, &slot) in (0u32..).zip(&slots) {
            if slot as usize == first.len() {
                first.push(row);
            }
        }
        let first = UInt32Array::from(first);
        let columns = columns.iter();
        let columns = columns.map(|column| arrow::compute::take(column, &first, None));
        Ok(Keys {
            key: key.to_vec(),
            columns: columns.collect::<Result<_, _>>().map_err(arrow_error)?,
            table,
            slots,
        })
    }

    /// For each row of the table which of the keys it has, or [`NO_SLOT`].
    fn lookup(&self, rows: &RecordBatch) -> Result<Vec<u32>> {
        let columns = self.key.iter().map(|&column| rows.column(column).clone());
        let columns: Vec<ArrayRef> = columns.collect();
        let mut slots = Vec::new();
        self.table
            .lookup(&KeyBatch::new(&self.table, &columns)?, &mut slots);
        Ok(slots)
    }

    /// Of a change the rows with these keys.
    fn of(&self, delta: &DeltaBatch) -> Result<DeltaBatch> {
        let slots = self.lookup(delta.rows())?;
        let is_of: BooleanArray = slots.iter().map(|&slot| Some(slot != NO_SLOT)).collect();
        delta.filter(&is_of)
    }

    /// By key, the row that has it.
    fn places_of(&self, rows: &RecordBatch) -> Result<Vec<Option<u32>>> {
        let mut places = vec![None; self.table.slots()];
        for (row, &slot) in (0u32..).zip(&self.lookup(rows)?) {
            places[slot as usize] = Some(row);
        }
        Ok(places)
    }
}
