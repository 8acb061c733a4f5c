//! The operator: rows in, rows with the bounds of their session out.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};

use crate::base::limits::WINDOW_ROWS_MAX;
use crate::delta::{DeltaBatch, KeyBatch, KeyTable, NO_SLOT, arrow_error, concat, consolidate};
use crate::error::{Error, Result, SqlState};
use crate::operator::evaluate::{Failure, report};
use crate::operator::frozen::Frozen;
use crate::operator::judge::put_out_late;
use crate::operator::rows::{Removal, RowStore, micros, weights_of};
use crate::operator::session::members::Members;
use crate::operator::session::sessions::{Merges, Rest, Sessions};
use crate::operator::session::spec::{SessionEmit, SessionSpec};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const ROWS_TABLE: u32 = 0;

/// The only key where there is no PARTITION BY.
const ALL: u32 = 0;

/// Assigns sessions, one shard of it.
pub struct Session {
    spec: SessionSpec,

    rows: RowStore,
    /// `None` where all rows have one key.
    keys: Option<KeyTable>,
    sessions: Sessions,
    members: Members,
    /// By row: what is out of it. Empty where rows come out once.
    out: Vec<Shown>,
    /// By session: the bounds that its rows have out. Where these are what they were, only the rows
    /// that the step has touched are looked at.
    shown: Vec<(i64, i64)>,
    /// The start of the oldest live session after the last step.
    oldest: Option<i64>,
    /// State has been put back, and what follows from it has not been derived yet.
    is_restored: bool,
    /// What a checkpoint under way has not taken yet.
    frozen: Frozen,

    /// Rows that the step has brought, or of which it has taken a copy, with the session they were
    /// put into; empty where rows come out once.
    touched: Vec<(u32, u32)>,
    /// Rows that were looked at for what they have out, ever: what follows from a change.
    looked_at: u64,
    /// Rows that have lost their last copy in this step.
    removed: BTreeSet<u32>,
    /// What derived input has brought in this step, where it may take back.
    waiting: Vec<DeltaBatch>,
}

/// The bounds of a session that has nothing out.
const NOTHING: (i64, i64) = (i64::MAX, i64::MIN);

/// A row as it is out: with weight 0 it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shown {
    weight: i64,
    start: i64,
    end: i64,
}

/// Rows on their way out.
#[derive(Default)]
struct Changes {
    rows: Vec<u32>,
    weights: Vec<i64>,
    starts: Vec<i64>,
    ends: Vec<i64>,
}

impl Changes {
    fn push(&mut self, row: u32, shown: Shown) {
        if shown.weight != 0 {
            self.rows.push(row);
            self.weights.push(shown.weight);
            self.starts.push(shown.start);
            self.ends.push(shown.end);
        }
    }
}

impl Session {
    /// # Errors
    /// 22023, when the gap is not positive; 0A000, when a column's type cannot be kept; internal
    /// when the schemas are not as [`SessionSpec`] says.
    pub fn new(spec: SessionSpec) -> Result<Session> {
        if spec.gap_micros <= 0 || spec.lateness_micros < 0 {
            let message = "the gap of a session must be positive";
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        let time = spec.input.field(spec.time_column).data_type();
        let width = spec.input.fields().len();
        let is_sound = matches!(time, DataType::Timestamp(TimeUnit::Microsecond, _))
            && spec.output.fields().len() == width + 2
            && (width..width + 2).all(|column| spec.output.field(column).data_type() == time);
        if !is_sound {
            let output = &spec.output;
            return Err(Error::internal(format!(
                "sessions over {time} into {output}"
            )));
        }
        let removal = match spec.is_append_only {
            true => Removal::Never,
            false => Removal::ByRow,
        };
        let types = spec
            .keys
            .iter()
            .map(|&key| spec.input.field(key).data_type().clone());
        let types: Vec<DataType> = types.collect();
        let keys = (!types.is_empty())
            .then(|| KeyTable::new(&types))
            .transpose()?;
        Ok(Session {
            rows: RowStore::new(spec.input.clone(), removal)?,
            keys,
            sessions: Sessions::new(spec.gap_micros),
            members: Members::new(spec.is_append_only),
            out: Vec::new(),
            shown: Vec::new(),
            oldest: None,
            is_restored: false,
            frozen: Frozen::default(),
            touched: Vec::new(),
            looked_at: 0,
            removed: BTreeSet::new(),
            waiting: Vec::new(),
            spec,
        })
    }

    /// Live sessions.
    pub fn live(&self) -> usize {
        self.sessions.live()
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

    /// Takes rows in, in their order.
    fn take(&mut self, batch: &DeltaBatch, out: &mut Output) -> Result<()> {
        let column = |column: &usize| batch.rows().column(*column).clone();
        let columns: Vec<ArrayRef> = self.spec.keys.iter().map(column).collect();
        let keys = self.keys_of(&columns, batch.len())?;
        let times = micros(batch.rows().column(self.spec.time_column));
        let horizons = self.spec.horizons(batch);
        let horizon = |row: usize| horizons.as_ref().map_or(i64::MIN, |each| each[row]);
        let mut is_late = vec![false; batch.len()];
        if self.spec.is_append_only {
            let row = |row: usize| (keys[row], times.value(row), horizon(row));
            let places = (0..batch.len()).map(row).collect::<Vec<_>>();
            self.insert(batch, &places, &mut is_late)?;
        } else {
            for row in 0..batch.len() {
                let place = (keys[row], times.value(row), horizon(row));
                // Of equal rows one may be of a final session: it is gone before the other comes.
                self.sessions.retire_key(place.0, place.2);
                self.flush_retired(out)?;
                let one = batch.slice(row, 1);
                is_late[row] = match batch.weights().get(row) > 0 {
                    true => {
                        let mut late = [false];
                        self.insert(&one, &[place], &mut late)?;
                        late[0]
                    }
                    false => !self.remove(&one, place)?,
                };
            }
        }
        if is_late.contains(&true) && !self.spec.judges {
            return Err(Error::internal("a row was taken away that is not there"));
        }
        put_out_late(batch, &is_late.into(), self.spec.time_column, out)
    }

    /// Adds rows, each with key, time and horizon. Late ones are marked and left out.
    fn insert(
        &mut self,
        batch: &DeltaBatch,
        places: &[(u32, i64, i64)],
        is_late: &mut [bool],
    ) -> Result<()> {
        let mut merges = Merges::new();
        let mut placed = Vec::with_capacity(places.len());
        for (row, &(key, time, horizon)) in places.iter().enumerate() {
            match self.sessions.place(key, time, horizon, &mut merges) {
                Some(session) => placed.push((session, time)),
                None => is_late[row] = true,
            }
        }
        for merge in merges.drain(..) {
            self.members.merge(&self.sessions, merge);
            self.set_shown(merge.1, NOTHING);
        }
        let mut slots = Vec::with_capacity(placed.len());
        match placed.len() == batch.len() {
            true => self.rows.add(batch, &mut slots)?,
            false => {
                let is_kept = is_late.iter().map(|is_late| Some(!is_late)).collect();
                self.rows.add(&batch.filter(&is_kept)?, &mut slots)?
            }
        };
        for (&row, &(session, time)) in slots.iter().zip(&placed) {
            let session = self.sessions.resolve(session);
            self.members.add(&self.sessions, session, time, row);
            self.touch(session, row);
        }
        Ok(())
    }

    /// Takes a row away; false if it is not one of a live session.
    fn remove(&mut self, one: &DeltaBatch, (key, time, _): (u32, i64, i64)) -> Result<bool> {
        let mut slots = Vec::new();
        let fresh = self.rows.add(one, &mut slots)?;
        let row = slots[0];
        let is_there = fresh.is_empty() && self.members.holds(key, time, row);
        if !is_there || self.rows.weight(row) < 0 {
            // As if nothing had been.
            self.rows.add(&one.negate(), &mut slots)?;
            if !fresh.is_empty() {
                self.rows.release(&[row]);
            }
            return Ok(false);
        }
        let session = self.sessions.find(key, time);
        let session = session.ok_or_else(|| Error::internal("a row without a session"))?;
        if self.rows.weight(row) > 0 {
            // Its weight is part of what is out.
            self.touch(session, row);
            self.sessions.shrink(session, self.whole(session));
            return Ok(true);
        }
        let span = self.sessions.span(session);
        let rest = self
            .members
            .remove(span, self.spec.gap_micros, (key, time, row));
        self.sessions.shrink(session, rest);
        self.removed.insert(row);
        Ok(true)
    }

    fn touch(&mut self, session: u32, row: u32) {
        if self.spec.emit == SessionEmit::OnUpdate {
            self.touched.push((session, row));
        }
    }

    fn set_shown(&mut self, session: u32, bounds: (i64, i64)) {
        if self.spec.emit != SessionEmit::OnUpdate {
            return;
        }
        if self.shown.len() <= session as usize {
            self.shown.resize(session as usize + 1, NOTHING);
        }
        self.shown[session as usize] = bounds;
    }

    /// Notes what changes for the rows of the sessions that the step has changed.
    fn show_dirty(&mut self, changes: &mut Changes) {
        let mut touched = std::mem::take(&mut self.touched);
        for (session, _) in &mut touched {
            *session = self.sessions.resolve(*session);
        }
        touched.sort_unstable();
        touched.dedup();
        let mut rows = Vec::new();
        for session in self.sessions.take_dirty() {
            if !self.sessions.is_live(session) {
                self.set_shown(session, NOTHING);
                continue;
            }
            let bounds = self.sessions.bounds(session);
            rows.clear();
            if self.shown.get(session as usize) == Some(&bounds) {
                let first = touched.partition_point(|&(of, _)| of < session);
                let own = touched[first..]
                    .iter()
                    .take_while(|&&(of, _)| of == session);
                rows.extend(own.map(|&(_, row)| row));
            } else {
                self.members.of(&self.sessions, session, &mut rows);
                self.set_shown(session, bounds);
            }
            self.show(&rows, bounds, changes);
        }
        touched.clear();
        self.touched = touched;
    }

    /// Rows that were looked at for what they have out, ever.
    #[cfg(test)]
    pub fn looked_at(&self) -> u64 {
        self.looked_at
    }

    fn whole(&self, session: u32) -> Rest {
        let (start, last) = self.sessions.span(session);
        Rest::One(start, last)
    }

    /// What derived input has brought, as it is when the step ends: what comes goes in first.
    fn take_waiting(&mut self, out: &mut Output) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let all = concat(&self.spec.input, &std::mem::take(&mut self.waiting))?;
        let all = consolidate(&all)?;
        let comes: BooleanArray = (0..all.len())
            .map(|row| Some(all.weights().get(row) > 0))
            .collect();
        let goes = arrow::compute::not(&comes).map_err(arrow_error)?;
        for part in [all.filter(&comes)?, all.filter(&goes)?] {
            self.take(&part, out)?;
        }
        Ok(())
    }

    /// Notes what changes for the rows of a session with these bounds.
    fn show(&mut self, rows: &[u32], (start, end): (i64, i64), changes: &mut Changes) {
        if self.spec.emit == SessionEmit::OnClose {
            for &row in rows {
                let weight = self.rows.weight(row);
                changes.push(row, Shown { weight, start, end });
            }
            return;
        }
        self.looked_at += rows.len() as u64;
        if self.out.len() < self.rows.slots() {
            self.out.resize(self.rows.slots(), Shown::default());
        }
        for &row in rows {
            let weight = self.rows.weight(row);
            let now = match weight {
                0 => Shown::default(),
                weight => Shown { weight, start, end },
            };
            let before = std::mem::replace(&mut self.out[row as usize], now);
            if before != now {
                let weight = -before.weight;
                changes.push(row, Shown { weight, ..before });
                changes.push(row, now);
            }
        }
    }

    /// Puts out the rows of sessions that have become final, and forgets them.
    fn flush_retired(&mut self, out: &mut Output) -> Result<()> {
        let retired = self.sessions.take_retired();
        if retired.is_empty() {
            return Ok(());
        }
        let mut changes = Changes::default();
        let (mut rows, mut gone) = (Vec::new(), Vec::new());
        for session in retired {
            rows.clear();
            self.members.of(&self.sessions, session, &mut rows);
            self.show(&rows, self.sessions.bounds(session), &mut changes);
            self.members.forget(&self.sessions, session);
            self.set_shown(session, NOTHING);
            gone.extend_from_slice(&rows);
        }
        self.emit(&changes, out)?;
        self.release(&gone);
        Ok(())
    }

    fn release(&mut self, rows: &[u32]) {
        for &row in rows {
            // It may have come back, and gone with its session.
            self.removed.remove(&row);
            if let Some(shown) = self.out.get_mut(row as usize) {
                *shown = Shown::default();
            }
        }
        self.rows.release(rows);
    }

    fn emit(&self, changes: &Changes, out: &mut Output) -> Result<()> {
        let data_type = self.spec.input.field(self.spec.time_column).data_type();
        let times = |values: &[i64]| -> ArrayRef {
            let array = PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(
                values.iter().copied(),
            );
            Arc::new(array.with_data_type(data_type.clone()))
        };
        for first in (0..changes.rows.len()).step_by(WINDOW_ROWS_MAX) {
            let part = first..changes.rows.len().min(first + WINDOW_ROWS_MAX);
            let rows = self.rows.gather(&changes.rows[part.clone()])?;
            let mut columns = rows.columns().to_vec();
            columns.push(times(&changes.starts[part.clone()]));
            columns.push(times(&changes.ends[part.clone()]));
            let rows = RecordBatch::try_new(self.spec.output.clone(), columns);
            let weights = weights_of(changes.weights[part].to_vec());
            out.emit(DeltaBatch::new(rows.map_err(arrow_error)?, weights));
        }
        Ok(())
    }

    /// Derives sessions and what is out from rows that have been put back.
    fn rebuild(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_restored) {
            return Ok(());
        }
        let slots = (0..number(self.rows.slots())).filter(|&row| self.rows.weight(row) != 0);
        let slots: Vec<u32> = slots.collect();
        let column = |&column: &usize| self.rows.gather_column(column, &slots);
        let columns = self
            .spec
            .keys
            .iter()
            .map(column)
            .collect::<Result<Vec<_>>>()?;
        let times = micros(&self.rows.gather_column(self.spec.time_column, &slots)?);
        let keys = self.keys_of(&columns, slots.len())?;
        let mut merges = Merges::new();
        let mut order: Vec<usize> = (0..slots.len()).collect();
        order.sort_unstable_by_key(|&at| (keys[at], times.value(at), slots[at]));
        for at in order {
            let time = times.value(at);
            let session = self.sessions.place(keys[at], time, i64::MIN, &mut merges);
            let session = session.ok_or_else(|| Error::internal("a row that is not placed"))?;
            self.members.add(&self.sessions, session, time, slots[at]);
        }
        match self.spec.emit {
            SessionEmit::OnUpdate => self.show_dirty(&mut Changes::default()),
            SessionEmit::OnClose => drop(self.sessions.take_dirty()),
        }
        self.free_keys();
        self.oldest = self.sessions.oldest();
        Ok(())
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
}

impl Operator for Session {
    fn push(&mut self, port: usize, batch: DeltaBatch, out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "sessions have one input");
        self.rebuild()?;
        if self.spec.is_append_only && !batch.is_append_only() {
            let message = "a retraction in an input that is append-only";
            return Err(Error::internal(message));
        }
        let batch = timed(&self.spec, batch, out)?;
        if batch.is_empty() {
            return Ok(());
        }
        // Where rows have a sequence it decides; where they have none, a row may leave before it
        // comes.
        match self.spec.judges || self.spec.is_append_only {
            true => self.take(&batch, out),
            false => {
                self.waiting.push(batch.with_watermarks(None));
                Ok(())
            }
        }
    }

    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()> {
        self.rebuild()?;
        self.take_waiting(out)?;
        if let Some(horizon) = self.spec.horizon(step) {
            self.sessions.retire_all(horizon);
        }
        let mut changes = Changes::default();
        let removed = std::mem::take(&mut self.removed).into_iter();
        let removed = removed.filter(|&row| self.rows.weight(row) == 0);
        let removed: Vec<u32> = removed.collect();
        self.show(&removed, (0, 0), &mut changes);
        match self.spec.emit {
            SessionEmit::OnUpdate => self.show_dirty(&mut changes),
            SessionEmit::OnClose => drop(self.sessions.take_dirty()),
        }
        self.emit(&changes, out)?;
        self.release(&removed);
        self.flush_retired(out)?;
        self.free_keys();
        self.oldest = self.sessions.oldest();
        self.rows.take_touched();
        self.rows.shrink()?;
        Ok(())
    }

    fn due_time(&self) -> Option<i64> {
        self.sessions.due_time()
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let mut columns = vec![None; self.spec.output.fields().len()];
        if let Some((start, end)) = self.spec.bounds(step, self.oldest) {
            let width = self.spec.input.fields().len();
            columns[self.spec.time_column] = Some(start);
            columns[width] = Some(start);
            columns[width + 1] = Some(end);
        }
        Bounds(columns)
    }

    fn state_rows(&self) -> usize {
        self.rows.rows()
    }

    fn state_bytes(&self) -> usize {
        self.rows.bytes()
            + self.keys.as_ref().map_or(0, KeyTable::bytes)
            + self.sessions.bytes()
            + self.members.bytes()
            + self.out.capacity() * size_of::<Shown>()
            + self.shown.capacity() * size_of::<(i64, i64)>()
            + self.touched.capacity() * size_of::<(u32, u32)>()
            + self.frozen.bytes()
    }

    fn freeze(&mut self, scope: Scope) -> Result<()> {
        self.frozen = Frozen::saved(self.rows.changes(scope, ROWS_TABLE)?);
        Ok(())
    }

    fn thaw(&mut self, _rows: usize) -> Result<Option<TableChange>> {
        self.frozen.next_saved()
    }

    fn unfreeze(&mut self) {
        self.frozen = Frozen::default();
    }

    fn restore(&mut self, change: TableChange) -> Result<()> {
        if change.table != ROWS_TABLE {
            let table = change.table;
            return Err(Error::internal(format!(
                "sessions have no state table {table}"
            )));
        }
        let replaced = self.rows.replaced(&change);
        self.rows.release(&replaced);
        self.rows.restore(&change)?;
        self.is_restored = true;
        Ok(())
    }
}

/// The rows that have a time whose session fits the type; the others go to the errors.
pub(in crate::operator) fn timed(
    spec: &SessionSpec,
    batch: DeltaBatch,
    out: &mut Output,
) -> Result<DeltaBatch> {
    let times = micros(batch.rows().column(spec.time_column));
    let fits = |time: i64| time.checked_add(spec.gap_micros).is_some();
    if times.null_count() == 0 && times.values().iter().all(|&time| fits(time)) {
        return Ok(batch);
    }
    let mut failures = Vec::new();
    let mut is_good = vec![true; batch.len()];
    for (row, time) in times.iter().enumerate() {
        let reason = match time {
            Some(time) if fits(time) => continue,
            Some(_) => "event time is out of the range of windows",
            None => "event time is NULL",
        };
        is_good[row] = false;
        failures.push(Failure {
            row: number(row),
            reason: reason.to_string(),
        });
    }
    report(&batch, &failures, out)?;
    batch.filter(&BooleanArray::from(is_good))
}

fn number(row: usize) -> u32 {
    let number = u32::try_from(row).expect("there are fewer than 2^32 rows");
    assert!(number != NO_SLOT, "there are fewer than 2^32 - 1 rows");
    number
}
