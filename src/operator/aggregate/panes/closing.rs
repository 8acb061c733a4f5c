//! Windows that close: which of them have rows, what goes in and out of the totals, and their rows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, PrimitiveArray, RecordBatch, RecordBatchOptions,
};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimestampMicrosecondType};

use crate::base::limits::{CHUNK_ROWS_MAX, CLOSED_WINDOWS_BYTES_MAX};
use crate::delta::{DeltaBatch, arrow_error};
use crate::error::Result;
use crate::operator::Output;
use crate::operator::aggregate::layout::Call;
use crate::operator::aggregate::panes::operator::{Group, PaneAggregate, Shift};
use crate::operator::aggregate::store::Groups;
use crate::operator::evaluate::{Failure, report};

/// Windows that have closed and are not put out yet: small ones go out together, because each
/// batch has a price of its own from here on.
#[derive(Default)]
struct Closed {
    windows: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Closed {
    /// Adds a window or a part of one; puts out what would be too much with it.
    fn add(&mut self, rows: RecordBatch, schema: &SchemaRef, out: &mut Output) -> Result<()> {
        let bytes = rows.get_array_memory_size();
        if self.rows + rows.num_rows() > CHUNK_ROWS_MAX
            || self.bytes + bytes > CLOSED_WINDOWS_BYTES_MAX
        {
            self.put_out(schema, out)?;
        }
        self.rows += rows.num_rows();
        self.bytes += bytes;
        self.windows.push(rows);
        Ok(())
    }

    fn put_out(&mut self, schema: &SchemaRef, out: &mut Output) -> Result<()> {
        let mut closed = std::mem::take(self);
        let batch = match closed.windows.as_slice() {
            [] => return Ok(()),
            [_] => closed.windows.remove(0),
            many => concat_batches(schema, many).map_err(arrow_error)?,
        };
        out.emit(DeltaBatch::insertions(batch));
        Ok(())
    }
}

impl PaneAggregate {
    /// Puts out the windows that begin before `bound`, in the order of time, and frees the panes
    /// that no later one holds.
    pub(super) fn close(&mut self, bound: i64, out: &mut Output) -> Result<()> {
        let mut closed = Closed::default();
        let is_closed = |start: &i64| *start < bound;
        while let Some(start) = self.next_window().filter(is_closed) {
            self.count_deferred(start)?;
            self.enter_before(start + self.spec.panes.size())?;
            self.put_out_window(start, &mut closed, out)?;
            self.advance(start.saturating_add(self.spec.panes.slide()));
            let leaving = self.starts.release_before(self.next);
            self.drop_panes(&leaving)?;
        }
        match bound {
            i64::MIN => {}
            i64::MAX => self.advance(i64::MAX),
            bound => self.advance(self.spec.panes.first_from(bound)),
        }
        closed.put_out(&self.spec.output, out)
    }

    fn advance(&mut self, next: i64) {
        if next > self.next {
            self.next = next;
            self.has_moved = true;
        }
    }

    /// The start of the next window that has a row; windows without one are passed over at no cost.
    pub(super) fn next_window(&self) -> Option<i64> {
        if !self.active.is_empty() {
            return Some(self.next);
        }
        let first_holding = |pane: &i64| self.spec.panes.first_holding(*pane).max(self.next);
        let waiting = self.starts.first_waiting();
        let waiting = waiting.as_ref().map(first_holding);
        let deferred = self.deferred.keys().next().copied();
        [waiting, deferred].into_iter().flatten().min()
    }

    /// Adds the rows that wait for the window which begins at `start` or for one before it.
    pub(super) fn count_deferred(&mut self, start: i64) -> Result<()> {
        while let Some(entry) = self.deferred.first_entry().filter(|e| *e.key() <= start) {
            for batch in entry.remove() {
                self.add(&batch)?;
            }
            self.settle()?;
        }
        Ok(())
    }

    /// Adds the panes that begin before a time to the totals of their keys.
    fn enter_before(&mut self, time: i64) -> Result<()> {
        let panes = self.starts.hold_before(time);
        if panes.is_empty() {
            return Ok(());
        }
        let active = self.active.len();
        for &pane in &panes {
            let group = &mut self.groups[pane as usize];
            group.flags |= Group::ENTERED;
            let total = group.total;
            let place = &mut self.places[total as usize];
            if place.entered == 0 {
                self.active.push(total);
            }
            place.entered += 1;
        }
        if self.active.len() > active {
            // In the order of their state in memory, as in any aggregate.
            self.active.sort_unstable();
        }
        self.shift(&panes, Shift::Enter)
    }

    /// Puts together and adds the rows of a window, of as many keys at a time as fill a batch.
    fn put_out_window(&self, start: i64, closed: &mut Closed, out: &mut Output) -> Result<()> {
        let has_rows = |total: &u32| self.groups[*total as usize].rows > 0;
        let totals: Vec<u32> = self.active.iter().copied().filter(has_rows).collect();
        for totals in totals.chunks(CHUNK_ROWS_MAX) {
            let rows = self.window(start, totals, out)?;
            closed.add(rows, &self.spec.output, out)?;
        }
        Ok(())
    }

    /// The rows of a window for some keys.
    fn window(&self, start: i64, totals: &[u32], out: &mut Output) -> Result<RecordBatch> {
        let mut columns = self.keys.columns(totals)?;
        columns.truncate(self.spec.keys.len());
        let time = self.spec.input.field(self.spec.pane_column).data_type();
        columns.push(constant(start, totals.len(), time));
        let end = start + self.spec.panes.size();
        columns.push(constant(end, totals.len(), time));
        let mut failures = Vec::new();
        for call in &self.calls {
            columns.push(self.value_of(call, totals, &mut failures)?);
        }
        let rows = RecordBatch::try_new(self.spec.output.clone(), columns).map_err(arrow_error)?;
        match failures.is_empty() {
            true => Ok(rows),
            false => self.without(rows, failures, out),
        }
    }

    fn value_of(
        &self,
        call: &Call,
        totals: &[u32],
        failures: &mut Vec<Failure>,
    ) -> Result<ArrayRef> {
        let (Call::Count { selection } | Call::Stored { selection, .. }) = call;
        let absent = |total: u32| selection.map_or(0, |at| self.selections[at].absent(total));
        let count = |&total: &u32| self.groups[total as usize].rows - absent(total);
        let counts: Vec<i64> = totals.iter().map(count).collect();
        let Call::Stored { store, reading, .. } = call else {
            return Ok(Arc::new(Int64Array::from(counts)));
        };
        let firsts: Vec<u32>;
        let slots = match &self.leaders[*store] {
            None => totals,
            Some(leaders) => {
                firsts = totals.iter().map(|&total| leaders.first(total)).collect();
                &firsts
            }
        };
        let groups = Groups {
            slots,
            counts: &counts,
        };
        self.stores[*store].store.read(reading, groups, failures)
    }

    /// Leaves out the rows with a value that does not fit its type, and tells of them.
    fn without(
        &self,
        rows: RecordBatch,
        mut failures: Vec<Failure>,
        out: &mut Output,
    ) -> Result<RecordBatch> {
        // Of several failures of one group the leftmost call's is told.
        failures.sort_by_key(|failure| failure.row);
        failures.dedup_by_key(|failure| failure.row);
        let mut is_good = vec![true; rows.num_rows()];
        for failure in &failures {
            is_good[failure.row as usize] = false;
        }
        let width = self.spec.keys.len() + 2;
        let fields = self.spec.output.fields()[..width].to_vec();
        let schema = Arc::new(Schema::new(fields));
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let columns = rows.columns()[..width].to_vec();
        let keys = RecordBatch::try_new_with_options(schema, columns, &options);
        let keys = DeltaBatch::insertions(keys.map_err(arrow_error)?);
        report(&keys, &failures, out)?;
        filter_record_batch(&rows, &BooleanArray::from(is_good)).map_err(arrow_error)
    }
}

fn constant(value: i64, rows: usize, data_type: &DataType) -> ArrayRef {
    let values = PrimitiveArray::<TimestampMicrosecondType>::from_value(value, rows);
    Arc::new(values.with_data_type(data_type.clone()))
}
