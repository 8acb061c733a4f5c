//! GROUP BY session, of input that only grows: the sums of each session are kept, and no rows.
//!
//! Rule: as sessions over the rows and an aggregate by key and bounds above them, in one. Sessions
//! that become one add up what they have.
//!
//! ```text
//!   gap 10, count(*)       time                       start  end  count
//!   step 1              +    5            ─────────► +  5    15     1
//!   step 2              +   20            ─────────► + 20    30     1
//!   step 3              +   12            ─────────► -  5    15     1
//!                                                    - 20    30     1
//!                                                    +  5    30     3
//! ```
//!
//! State, in columns by session: how many rows it has, a store per kind of aggregate and argument,
//! and on update the row that is out; table 0 of a checkpoint. What is out follows from the rest
//! and is not saved. Time, lateness and bounds: see [`session`](crate::operator::session).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, PrimitiveArray, RecordBatch, UInt32Array,
};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};

use crate::base::growth::grow;
use crate::delta::{Arena, DeltaBatch, KeyBatch, KeyTable, SlotSet, Weights, arrow_error};
use crate::error::{Error, Result, SqlState};
use crate::operator::aggregate::change::{Change, Selection};
use crate::operator::aggregate::layout::{Call, Layout, SelectedStore, add_rows};
use crate::operator::aggregate::spec::{AggregateCall, AggregateSpec};
use crate::operator::aggregate::store::Groups;
use crate::operator::evaluate::{Failure, report};
use crate::operator::judge::put_out_late;
use crate::operator::rows::micros;
use crate::operator::session::sessions::{Merges, Sessions};
use crate::operator::session::{SessionEmit, SessionSpec, timed};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const SESSIONS_TABLE: u32 = 0;

/// The only key where there is no PARTITION BY.
const ALL: u32 = 0;

/// What a [`SessionAggregate`] does.
#[derive(Clone, Debug)]
pub struct SessionAggregateSpec {
    /// Append-only sessions; its own output is that of the rows, which do not come out.
    pub session: SessionSpec,
    /// All of them mergeable.
    pub calls: Vec<AggregateCall>,
    /// The session's keys, `window_start`, `window_end`, then a column per call.
    pub output: SchemaRef,
}

/// Aggregates by session, one shard of it.
pub struct SessionAggregate {
    spec: SessionAggregateSpec,
    calls: Vec<Call>,
    /// The table of sessions in a checkpoint.
    saved: SchemaRef,

    /// `None` where all rows have one key.
    keys: Option<KeyTable>,
    sessions: Sessions,
    /// By session, how many rows it has.
    rows: Vec<i64>,
    selections: Vec<Selection>,
    stores: Vec<SelectedStore>,
    /// The bounds and values that each session has put out last; only on update.
    emitted: Arena,
    is_out: SlotSet,
    /// Sessions whose values do not fit, and that has been told.
    is_failed: SlotSet,
    /// The start of the oldest session that is not final.
    oldest: Option<i64>,
    /// State has been put back, and what follows from it has not been derived yet.
    is_restored: bool,

    /// Sessions whose rows another one has taken in this step.
    taken: Vec<u32>,
    /// Sessions that have changed since the last checkpoint.
    changed: SlotSet,
    /// What a checkpoint under way has not taken yet.
    frozen: Option<TableChange>,
}

impl SessionAggregate {
    /// # Errors
    /// 22023 when the gap is not positive; 0A000 when a value has no order; internal when the
    /// output's types are not those of the calls, or one of them cannot be merged.
    pub fn new(spec: SessionAggregateSpec) -> Result<SessionAggregate> {
        let session = &spec.session;
        if session.gap_micros <= 0 || session.lateness_micros < 0 {
            let message = "the gap of a session must be positive";
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        let type_of = |column: usize| session.input.field(column).data_type().clone();
        let key_types: Vec<DataType> = session.keys.iter().map(|&key| type_of(key)).collect();
        let time = type_of(session.time_column);
        let mut values = vec![time.clone(), time];
        for call in &spec.calls {
            let argument = call.argument.map(type_of);
            values.push(call.function.result_type(argument.as_ref())?);
        }
        let planned = spec.output.fields().iter().map(|field| field.data_type());
        let is_sound = planned.eq(key_types.iter().chain(&values))
            && session.is_append_only
            && spec.calls.iter().all(|call| call.function.is_mergeable());
        if !is_sound {
            let output = &spec.output;
            return Err(Error::internal(format!(
                "an aggregate by session as {output}"
            )));
        }
        let aggregate = AggregateSpec {
            input: session.input.clone(),
            group: session.keys.clone(),
            calls: spec.calls.clone(),
            output: spec.output.clone(),
            close: None,
            idle_micros: None,
            panes: None,
            is_append_only: true,
            is_global: false,
        };
        let mut layout = Layout::default();
        for call in &spec.calls {
            layout.add(call, &aggregate)?;
        }
        let stores = layout.stores(&session.input)?;
        let Layout {
            selections, calls, ..
        } = layout;
        let keys = match key_types.is_empty() {
            true => None,
            false => Some(KeyTable::new(&key_types)?),
        };
        Ok(SessionAggregate {
            calls,
            saved: saved_schema(&key_types, &selections, &stores),
            keys,
            sessions: Sessions::new(session.gap_micros),
            rows: Vec::new(),
            selections,
            stores,
            emitted: Arena::new(&values)?,
            is_out: SlotSet::default(),
            is_failed: SlotSet::default(),
            oldest: None,
            is_restored: false,
            taken: Vec::new(),
            changed: SlotSet::default(),
            frozen: None,
            spec,
        })
    }

    fn emits_on_update(&self) -> bool {
        self.spec.session.emit == SessionEmit::OnUpdate
    }

    /// The key of each row.
    fn keys_of(&mut self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        let Some(table) = &mut self.keys else {
            self.sessions.grow(1, &[]);
            return Ok(vec![ALL; rows]);
        };
        let keys = KeyBatch::new(table, columns)?;
        let mut slots = Vec::with_capacity(rows);
        let fresh = table.insert(&keys, &mut slots);
        self.sessions.grow(table.slots(), &fresh);
        Ok(slots)
    }

    /// Room for every session that has a slot.
    fn grow(&mut self) {
        let slots = self.sessions.slots();
        if self.rows.len() < slots {
            grow(&mut self.rows, slots, 0);
            self.stores
                .iter_mut()
                .for_each(|selected| selected.store.grow(slots));
            if self.emits_on_update() {
                self.emitted.grow(slots);
            }
        }
    }

    /// Puts each row into its session; a row of no session is late.
    fn place(&mut self, batch: &DeltaBatch, is_late: &mut [bool]) -> Result<Vec<u32>> {
        let column = |column: &usize| batch.rows().column(*column).clone();
        let columns: Vec<ArrayRef> = self.spec.session.keys.iter().map(column).collect();
        let keys = self.keys_of(&columns, batch.len())?;
        let times = micros(batch.rows().column(self.spec.session.time_column));
        let horizons = self.spec.session.horizons(batch);
        let mut merges = Merges::new();
        let mut placed = Vec::with_capacity(batch.len());
        for (row, (&key, &time)) in keys.iter().zip(times.values()).enumerate() {
            let horizon = horizons.as_ref().map_or(i64::MIN, |horizons| horizons[row]);
            match self.sessions.place(key, time, horizon, &mut merges) {
                Some(session) => placed.push(session),
                None => is_late[row] = true,
            }
        }
        self.grow();
        for (into, from) in merges {
            let count = std::mem::take(&mut self.rows[from as usize]);
            self.rows[into as usize] += count;
            for selection in &mut self.selections {
                let absent = selection.absent(from) + selection.absent(into);
                selection.set_absent(into, absent);
                selection.set_absent(from, 0);
            }
            for selected in &mut self.stores {
                selected.store.merge(from, into)?;
            }
            self.taken.push(from);
        }
        for session in &mut placed {
            *session = self.sessions.resolve(*session);
        }
        Ok(placed)
    }

    fn update(&mut self, batch: &DeltaBatch, slots: &[u32]) -> Result<()> {
        let all = Change {
            slots,
            weights: match batch.weights() {
                Weights::Ones => None,
                Weights::Each(weights) => Some(weights.as_ref()),
            },
            valid: None,
        };
        let rows = &mut self.rows;
        all.each(|_, slot, weight| rows[slot] += weight);
        let groups = self.rows.len();
        let (selections, stores) = (&mut self.selections, &mut self.stores);
        add_rows(selections, stores, groups, batch.rows(), &all)
    }

    /// The bounds and values of sessions, and which of them have none.
    fn evaluate(&self, slots: &[u32]) -> Result<(Vec<ArrayRef>, Vec<Failure>)> {
        let bounds = slots.iter().map(|&slot| self.sessions.bounds(slot));
        let (starts, ends): (Vec<i64>, Vec<i64>) = bounds.unzip();
        let time = self.spec.session.time_column;
        let time = self.spec.session.input.field(time).data_type();
        let times = |values: Vec<i64>| -> ArrayRef {
            let array: PrimitiveArray<TimestampMicrosecondType> = values.into();
            Arc::new(array.with_data_type(time.clone()))
        };
        let mut columns = vec![times(starts), times(ends)];
        let mut failures = Vec::new();
        for call in &self.calls {
            columns.push(match call {
                Call::Count { selection } => {
                    Arc::new(Int64Array::from(self.counts(slots, *selection)))
                }
                Call::Stored {
                    store,
                    selection,
                    reading,
                } => {
                    let counts = self.counts(slots, *selection);
                    let groups = Groups {
                        slots,
                        counts: &counts,
                    };
                    let store = &self.stores[*store].store;
                    store.read(reading, groups, &mut failures)?
                }
            });
        }
        failures.sort_by_key(|failure| failure.row);
        failures.dedup_by_key(|failure| failure.row);
        Ok((columns, failures))
    }

    fn counts(&self, slots: &[u32], selection: Option<usize>) -> Vec<i64> {
        let absent = |slot: u32| selection.map_or(0, |at| self.selections[at].absent(slot));
        let count = |&slot: &u32| self.rows[slot as usize] - absent(slot);
        slots.iter().map(count).collect()
    }

    fn key_columns(&self, sessions: &[u32]) -> Result<Vec<ArrayRef>> {
        let Some(keys) = &self.keys else {
            return Ok(Vec::new());
        };
        let slots: Vec<u32> = sessions
            .iter()
            .map(|&slot| self.sessions.key(slot))
            .collect();
        keys.columns(&slots)
    }

    /// Takes back what is out of some sessions.
    fn retract(&mut self, sessions: &[u32], out: &mut Output) -> Result<()> {
        let is_out = |slot: &u32| self.is_out.contains(*slot);
        let slots: Vec<u32> = sessions.iter().copied().filter(is_out).collect();
        if slots.is_empty() {
            return Ok(());
        }
        let mut columns = self.key_columns(&slots)?;
        columns.extend(self.emitted.gather(&slots)?);
        let rows = RecordBatch::try_new(self.spec.output.clone(), columns);
        let weights = Weights::Each(vec![-1; slots.len()].into());
        out.emit(DeltaBatch::new(rows.map_err(arrow_error)?, weights));
        for &slot in &slots {
            self.is_out.remove(slot);
        }
        self.emitted.release(&slots);
        Ok(())
    }

    /// Puts out sessions as they are now, each behind what was out of it.
    fn change(&mut self, sessions: &[u32], out: &mut Output) -> Result<()> {
        if sessions.is_empty() {
            return Ok(());
        }
        let (values, failures) = self.evaluate(sessions)?;
        let failing: Vec<u32> = failures.iter().map(|failure| failure.row).collect();
        self.tell_failures(sessions, failures, out)?;
        let was_out = sessions.iter().copied();
        let was_out: Vec<u32> = was_out.filter(|&slot| self.is_out.contains(slot)).collect();
        let old = self.emitted.gather(&was_out)?;
        let room = was_out.len() + sessions.len();
        let (mut slots, mut weights) = (Vec::with_capacity(room), Vec::with_capacity(room));
        // Where a value comes from: what was out (0) or is now (1), and which row there.
        let mut picks = Vec::with_capacity(room);
        let (mut shown, mut rows) = (Vec::new(), Vec::new());
        let mut old_rows = 0..was_out.len();
        let mut failing = failing.into_iter().peekable();
        for (row, &slot) in (0..).zip(sessions) {
            if self.is_out.remove(slot)
                && let Some(old_row) = old_rows.next()
            {
                slots.push(slot);
                weights.push(-1);
                picks.push((0, old_row));
            }
            if failing.next_if_eq(&row).is_none() {
                slots.push(slot);
                weights.push(1);
                picks.push((1, row as usize));
                shown.push(slot);
                rows.push(row);
            }
        }
        let mut columns = self.key_columns(&slots)?;
        for (old, new) in old.iter().zip(&values) {
            let sources: [&dyn Array; 2] = [old, new];
            columns.push(interleave(&sources, &picks).map_err(arrow_error)?);
        }
        if !slots.is_empty() {
            let batch = RecordBatch::try_new(self.spec.output.clone(), columns);
            let weights = Weights::Each(weights.into());
            out.emit(DeltaBatch::new(batch.map_err(arrow_error)?, weights));
        }
        self.emitted.release(&was_out);
        self.emitted.write(&shown, &values, &rows)?;
        for slot in shown {
            self.is_out.insert(slot);
        }
        Ok(())
    }

    /// Puts out sessions that are final.
    fn show(&mut self, sessions: &[u32], out: &mut Output) -> Result<()> {
        if sessions.is_empty() {
            return Ok(());
        }
        let (values, failures) = self.evaluate(sessions)?;
        let failing: Vec<u32> = failures.iter().map(|failure| failure.row).collect();
        self.tell_failures(sessions, failures, out)?;
        let count = u32::try_from(sessions.len()).expect("sessions are numbered by 32 bits");
        let is_good = |row: &u32| failing.binary_search(row).is_err();
        let rows: Vec<u32> = (0..count).filter(is_good).collect();
        let slots: Vec<u32> = rows.iter().map(|&row| sessions[row as usize]).collect();
        let mut columns = self.key_columns(&slots)?;
        match failing.is_empty() {
            true => columns.extend_from_slice(&values),
            false => {
                let places = UInt32Array::from(rows.clone());
                for column in &values {
                    columns.push(take(column, &places, None).map_err(arrow_error)?);
                }
            }
        }
        let batch = RecordBatch::try_new(self.spec.output.clone(), columns);
        out.emit(DeltaBatch::insertions(batch.map_err(arrow_error)?));
        Ok(())
    }

    /// Tells of sessions that fail and did not before.
    fn tell_failures(
        &mut self,
        sessions: &[u32],
        failures: Vec<Failure>,
        out: &mut Output,
    ) -> Result<()> {
        let mut fresh = Vec::new();
        let mut reasons = Vec::new();
        let mut failures = failures.into_iter().peekable();
        for (row, &slot) in (0..).zip(sessions) {
            match failures.next_if(|failure| failure.row == row) {
                None => {
                    self.is_failed.remove(slot);
                }
                Some(failure) => {
                    if self.is_failed.insert(slot) {
                        fresh.push(slot);
                        reasons.push(failure.reason);
                    }
                }
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let numbered = (0..).zip(reasons);
        let failures: Vec<Failure> = numbered
            .map(|(row, reason)| Failure { row, reason })
            .collect();
        let keys = self.spec.session.keys.len();
        let mut columns = self.key_columns(&fresh)?;
        columns.extend(self.evaluate(&fresh)?.0.drain(..2));
        let fields = self.spec.output.fields()[..keys + 2].to_vec();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
        let rows = DeltaBatch::insertions(rows.map_err(arrow_error)?);
        report(&rows, &failures, out)
    }

    /// Empties the slots of sessions that are gone.
    fn clear(&mut self, slots: &[u32]) -> Result<()> {
        for &slot in slots {
            if let Some(rows) = self.rows.get_mut(slot as usize) {
                *rows = 0;
            }
            self.is_failed.remove(slot);
            if self.is_out.remove(slot) {
                self.emitted.release(&[slot]);
            }
            for selection in &mut self.selections {
                selection.set_absent(slot, 0);
            }
        }
        let mut stores = self.stores.iter_mut();
        stores.try_for_each(|selected| selected.store.clear(slots))
    }

    fn free_keys(&mut self) {
        let emptied = self.sessions.settle();
        if let Some(keys) = &mut self.keys {
            for key in emptied {
                if keys.holds(key) {
                    keys.remove(key);
                }
            }
        }
    }

    /// Derives what follows from state that has been put back.
    fn rebuild(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_restored) {
            return Ok(());
        }
        self.sessions.relink();
        self.grow();
        let slots = self.sessions.slots();
        for selected in &mut self.stores {
            selected.store.rebuild(slots)?;
        }
        if self.emits_on_update() {
            let mut nothing = Output::default();
            self.change(&self.sessions.live_slots(), &mut nothing)?;
        }
        self.free_keys();
        self.oldest = self.sessions.oldest();
        Ok(())
    }

    fn save(&self, slots: &[u32]) -> Result<RecordBatch> {
        let mut columns = self.key_columns(slots)?;
        let spans: Vec<(i64, i64)> = slots.iter().map(|&slot| self.sessions.span(slot)).collect();
        let numbers = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
        columns.push(numbers(spans.iter().map(|span| span.0).collect()));
        columns.push(numbers(spans.iter().map(|span| span.1).collect()));
        columns.push(numbers(
            slots.iter().map(|&slot| self.rows[slot as usize]).collect(),
        ));
        for selection in &self.selections {
            columns.push(numbers(
                slots.iter().map(|&slot| selection.absent(slot)).collect(),
            ));
        }
        for selected in &self.stores {
            columns.extend(selected.store.save(slots)?);
        }
        RecordBatch::try_new(self.saved.clone(), columns).map_err(arrow_error)
    }
}

fn saved_schema(
    key_types: &[DataType],
    selections: &[Selection],
    stores: &[SelectedStore],
) -> SchemaRef {
    let mut types = key_types.to_vec();
    // First row, last row, how many rows.
    types.extend([DataType::Int64, DataType::Int64, DataType::Int64]);
    types.extend(selections.iter().map(|_| DataType::Int64));
    types.extend(
        stores
            .iter()
            .flat_map(|selected| selected.store.saved_types()),
    );
    let field = |(at, data_type)| Field::new(format!("column{at}"), data_type, true);
    Arc::new(Schema::new(
        types.into_iter().enumerate().map(field).collect::<Vec<_>>(),
    ))
}

impl Operator for SessionAggregate {
    fn push(&mut self, port: usize, batch: DeltaBatch, out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "an aggregate has one input");
        self.rebuild()?;
        if !batch.is_append_only() {
            let message = "a retraction in an input that is append-only";
            return Err(Error::internal(message));
        }
        let batch = timed(&self.spec.session, batch, out)?;
        if batch.is_empty() {
            return Ok(());
        }
        let mut is_late = vec![false; batch.len()];
        let slots = self.place(&batch, &mut is_late)?;
        if slots.len() == batch.len() {
            return self.update(&batch, &slots);
        }
        let is_late = BooleanArray::from(is_late);
        put_out_late(&batch, &is_late, self.spec.session.time_column, out)?;
        let is_kept = arrow::compute::not(&is_late).map_err(arrow_error)?;
        self.update(&batch.filter(&is_kept)?, &slots)
    }

    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()> {
        self.rebuild()?;
        if let Some(horizon) = self.spec.session.horizon(step) {
            self.sessions.retire_all(horizon);
        }
        let mut dirty = self.sessions.take_dirty();
        dirty.retain(|&session| !self.sessions.is_merged(session));
        for selected in &mut self.stores {
            selected.store.settle(&dirty)?;
        }
        let retired = self.sessions.take_retired();
        let taken = std::mem::take(&mut self.taken);
        if self.emits_on_update() {
            self.retract(&taken, out)?;
            self.change(&dirty, out)?;
        } else {
            self.show(&retired, out)?;
        }
        for &session in dirty.iter().chain(&retired).chain(&taken) {
            self.changed.insert(session);
        }
        self.clear(&retired)?;
        self.clear(&taken)?;
        self.free_keys();
        self.oldest = self.sessions.oldest();
        Ok(())
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let mut columns = vec![None; self.spec.output.fields().len()];
        if let Some((start, end)) = self.spec.session.bounds(step, self.oldest) {
            let keys = self.spec.session.keys.len();
            columns[keys] = Some(start);
            columns[keys + 1] = Some(end);
        }
        Bounds(columns)
    }

    fn due_time(&self) -> Option<i64> {
        self.sessions.due_time()
    }

    fn state_rows(&self) -> usize {
        self.sessions.live()
    }

    fn state_bytes(&self) -> usize {
        let stores = self.stores.iter().map(|selected| selected.store.bytes());
        self.keys.as_ref().map_or(0, KeyTable::bytes)
            + self.sessions.bytes()
            + self.rows.capacity() * size_of::<i64>()
            + self.selections.iter().map(Selection::bytes).sum::<usize>()
            + stores.sum::<usize>()
            + self.emitted.bytes()
            + self.is_out.bytes()
            + self.is_failed.bytes()
            + self.changed.bytes()
    }

    fn freeze(&mut self, scope: Scope) -> Result<()> {
        self.rebuild()?;
        self.frozen = None;
        let changed = self.changed.take(usize::MAX);
        let (slots, freed): (Vec<u32>, Vec<u32>) = match scope {
            Scope::All => (self.sessions.live_slots(), Vec::new()),
            Scope::Changed => changed
                .into_iter()
                .partition(|&session| self.sessions.is_live(session)),
        };
        if !(slots.is_empty() && freed.is_empty()) {
            self.frozen = Some(TableChange {
                table: SESSIONS_TABLE,
                rows: self.save(&slots)?,
                slots,
                freed,
            });
        }
        Ok(())
    }

    fn thaw(&mut self, _rows: usize) -> Result<Option<TableChange>> {
        Ok(self.frozen.take())
    }

    fn restore(&mut self, change: TableChange) -> Result<()> {
        let is_ours = change.table == SESSIONS_TABLE
            && change.rows.num_columns() == self.saved.fields().len();
        if !is_ours {
            let table = change.table;
            let message = format!("a checkpoint's table {table} is not one of these sessions");
            return Err(Error::new(SqlState::DATA_CORRUPTED, message));
        }
        self.is_restored = true;
        let mut columns = change.rows.columns().iter();
        let mut next = |count: usize| columns.by_ref().take(count).cloned().collect::<Vec<_>>();
        let keys = next(self.spec.session.keys.len());
        let numbers = next(3 + self.selections.len());
        let values = |column: &ArrayRef| column.as_primitive::<Int64Type>().values().to_vec();
        let numbers: Vec<Vec<i64>> = numbers.iter().map(values).collect();
        let stored: Vec<Vec<ArrayRef>> = self
            .stores
            .iter()
            .map(|selected| next(selected.store.saved_types().len()))
            .collect();
        let keys = self.keys_of(&keys, change.slots.len())?;
        for &slot in &change.freed {
            self.sessions.clear(slot);
        }
        for (row, (&slot, &key)) in change.slots.iter().zip(&keys).enumerate() {
            self.sessions
                .put(slot, key, numbers[0][row], numbers[1][row]);
        }
        self.grow();
        self.clear(&change.freed)?;
        self.clear(&change.slots)?;
        for (row, &slot) in change.slots.iter().enumerate() {
            self.rows[slot as usize] = numbers[2][row];
            for (selection, absent) in self.selections.iter_mut().zip(&numbers[3..]) {
                selection.set_absent(slot, absent[row]);
            }
        }
        for (selected, columns) in self.stores.iter_mut().zip(&stored) {
            selected.store.load(&change.slots, columns)?;
        }
        Ok(())
    }
}
