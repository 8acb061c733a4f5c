//! Windows that close: which of them have rows, what goes in and out of the totals, and their rows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, PrimitiveArray, RecordBatch, RecordBatchOptions,
};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Schema, TimestampMicrosecondType};

use crate::base::limits::CHUNK_ROWS_MAX;
use crate::delta::{DeltaBatch, arrow_error};
use crate::error::Result;
use crate::operator::Output;
use crate::operator::aggregate::layout::Call;
use crate::operator::aggregate::panes::operator::{Group, PaneAggregate};
use crate::operator::aggregate::store::{Groups, Times};
use crate::operator::evaluate::{Failure, report};

impl PaneAggregate {
    /// Puts out the windows that begin before `bound`, in the order of time, and frees the panes
    /// that no later one holds.
    pub(super) fn close(&mut self, bound: i64, out: &mut Output) -> Result<()> {
        let mut windows = Vec::new();
        let closed = |start: &i64| *start < bound;
        while let Some(start) = self.next_window().filter(closed) {
            self.count_deferred(start)?;
            self.enter_before(start + self.spec.panes.size())?;
            windows.extend(self.window(start, out)?);
            self.advance(start.saturating_add(self.spec.panes.slide()));
            self.leave_before(self.next)?;
        }
        match bound {
            i64::MIN => {}
            i64::MAX => self.advance(i64::MAX),
            bound => self.advance(self.spec.panes.first_from(bound)),
        }
        self.emit(&windows, out)
    }

    fn advance(&mut self, next: i64) {
        if next > self.next {
            self.next = next;
            self.has_moved = true;
        }
    }

    /// The start of the next window that has a row; windows without one are passed over at no cost.
    fn next_window(&self) -> Option<i64> {
        if !self.active.is_empty() {
            return Some(self.next);
        }
        let first_holding = |pane: &i64| self.spec.panes.first_holding(*pane).max(self.next);
        let waiting = self.waiting.keys().next().map(first_holding);
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
        let rest = self.waiting.split_off(&time);
        let entering = std::mem::replace(&mut self.waiting, rest);
        let mut panes = Vec::new();
        for (start, slots) in entering {
            panes.extend_from_slice(&slots);
            self.held.entry(start).or_default().extend(slots);
        }
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
        self.shift(&panes, Times::Once)
    }

    /// Takes out of the totals, and frees, the panes that begin before a time.
    fn leave_before(&mut self, time: i64) -> Result<()> {
        let rest = self.held.split_off(&time);
        let leaving = std::mem::replace(&mut self.held, rest);
        let panes: Vec<u32> = leaving.into_values().flatten().collect();
        if panes.is_empty() {
            return Ok(());
        }
        self.keep(&panes)?;
        self.shift(&panes, Times::Minus)?;
        let mut without_panes = Vec::new();
        let mut has_left = false;
        for &pane in &panes {
            let total = self.groups[pane as usize].total;
            let place = &mut self.places[total as usize];
            place.entered -= 1;
            place.panes -= 1;
            has_left |= place.entered == 0;
            if place.panes == 0 {
                without_panes.push(total);
            }
        }
        if has_left {
            let places = &self.places;
            self.active
                .retain(|&total| places[total as usize].entered > 0);
        }
        self.free(&panes)?;
        for leaders in self.leaders.iter_mut().flatten() {
            without_panes.iter().for_each(|&total| leaders.close(total));
        }
        self.free(&without_panes)
    }

    /// The rows of a window; `None` where every key's rows have been taken back.
    fn window(&self, start: i64, out: &mut Output) -> Result<Option<RecordBatch>> {
        let has_rows = |total: &u32| self.groups[*total as usize].rows > 0;
        let totals: Vec<u32> = self.active.iter().copied().filter(has_rows).collect();
        if totals.is_empty() {
            return Ok(None);
        }
        let mut columns = self.keys.columns(&totals)?;
        columns.truncate(self.spec.keys.len());
        let time = self.spec.input.field(self.spec.pane_column).data_type();
        columns.push(constant(start, totals.len(), time));
        let end = start + self.spec.panes.size();
        columns.push(constant(end, totals.len(), time));
        let mut failures = Vec::new();
        for call in &self.calls {
            columns.push(self.value_of(call, &totals, &mut failures)?);
        }
        let rows = RecordBatch::try_new(self.spec.output.clone(), columns).map_err(arrow_error)?;
        match failures.is_empty() {
            true => Ok(Some(rows)),
            false => self.without(rows, failures, out).map(Some),
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

    /// Puts out windows, small ones together: each batch has a price of its own from here on.
    fn emit(&self, windows: &[RecordBatch], out: &mut Output) -> Result<()> {
        let mut rest = windows;
        while !rest.is_empty() {
            let mut rows = 0;
            let fits = |window: &&RecordBatch| {
                rows += window.num_rows();
                rows <= CHUNK_ROWS_MAX
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (these, others) = rest.split_at(count);
            let batch = match these {
                [one] => one.clone(),
                many => concat_batches(&self.spec.output, many).map_err(arrow_error)?,
            };
            out.emit(DeltaBatch::insertions(batch));
            rest = others;
        }
        Ok(())
    }
}

fn constant(value: i64, rows: usize, data_type: &DataType) -> ArrayRef {
    let values = PrimitiveArray::<TimestampMicrosecondType>::from_value(value, rows);
    Arc::new(values.with_data_type(data_type.clone()))
}
