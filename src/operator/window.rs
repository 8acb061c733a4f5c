//! Windows: gives each row the windows that its time falls into, and judges which rows are late.
//!
//! Rule: which windows hold a time is said by [`Windows`]. A row goes out once per window that
//! holds it; one between two windows of a HOP with gaps is in none and is gone. A row is late when
//! every window it is in has `end + lateness ≤ W`, W being the watermark that stood before the row;
//! if only some have, the row goes out for the others.
//!
//! ```text
//!   HOP slide 5, size 10      ts                       ts  start  end
//!                          +  12  W 0     ─────────► +  12      5   15
//!                                                    + 12     10   20
//!                          +  12  W 15    ─────────► +  12     10   20   late for [5, 15)
//!                          +  12  W 20    ─────────► Output.late
//! ```
//!
//! With [`Assignment::Panes`] a row goes out once, with the start of its pane in place of windows,
//! and rows that are late for some windows keep the watermark that stood before them:
//!
//! ```text
//!   the same, by panes        ts                       ts  pane
//!                          +  12  W 0     ─────────► +  12    10
//!                          +  12  W 15    ─────────► +  12    10   W 15
//! ```
//!
//! With [`Assignment::PanesOrWindows`] it is either: a row goes out once, with its pane and no end,
//! unless it is late for some windows; then it goes out for each of the others. So nothing above
//! has to know what a watermark was:
//!
//! ```text
//!   the same, by panes or windows     ts                  ts  start  end
//!                                  +  12  W 0   ───────► + 12     10    —     for all that hold it
//!                                  +  12  W 15  ───────► + 12     10   20
//! ```
//!
//! State: none. A row whose time is NULL, or whose windows do not fit the type, is an error row.
//!
//! Bounds: with W the bound of the time column, a later row's windows end after `W - lateness`:
//! `window_end ≥ W - lateness + 1`, and `window_start` is at least the start of the first such
//! window. So a window is closed, `end ≤ W`, exactly when its end is below the bound plus the
//! lateness. The pane of a later row begins with such a window or in it, so its bound is that of
//! `window_start`; a window is closed exactly when it begins below it. Where the operator judges,
//! rows behind W may still pass, and other columns have no bound.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, RecordBatch, UInt32Array,
};
use arrow::compute::not;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};

use crate::base::EventTime;
use crate::base::limits::WINDOW_ROWS_MAX;
use crate::delta::{DeltaBatch, arrow_error};
use crate::error::{Error, Result, SqlState};
use crate::function::window::{Cell, Panes, WindowKind, Windows};
use crate::operator::evaluate::{Failure, report};
use crate::operator::judge::put_out_late;
use crate::operator::{Bounds, Operator, Output, Step};

/// What a [`Window`] does.
#[derive(Clone, Debug)]
pub struct WindowSpec {
    pub input: SchemaRef,
    /// The column of the input that windows are cut on: a timestamp in microseconds.
    pub time_column: usize,
    pub kind: WindowKind,
    pub assignment: Assignment,
    /// The input's columns, then of the time column's type `window_start` and `window_end`, or the
    /// start of the pane; or both, and only the end may be NULL.
    pub output: SchemaRef,
    /// How long after its end a window stays open for corrections.
    pub lateness_micros: i64,
    /// Whether rows are judged here: rows straight from a source or table. Derived rows are never
    /// late.
    pub judges: bool,
}

/// How often a row goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// Once for each window that holds it.
    Windows,
    /// Once, with its pane. There is no lateness: what is late for a window never counts for it.
    Panes(Panes),
    /// Once, with its pane for a start and no end, or, if it is late for some windows, once for
    /// each of the others.
    PanesOrWindows(Panes),
}

impl Assignment {
    /// How many columns are added to the input's.
    fn width(self) -> usize {
        match self {
            Assignment::Windows | Assignment::PanesOrWindows(_) => 2,
            Assignment::Panes(_) => 1,
        }
    }
}

/// Assigns windows.
pub struct Window {
    spec: WindowSpec,
    windows: Windows,
    /// What is looked up for each row: the windows, or their panes.
    cells: Windows,
    /// Every row is in its latest window and in no other.
    is_single: bool,
}

/// For each row the latest window that begins by its time, or its pane.
#[derive(Default)]
struct Latest {
    starts: Vec<i64>,
    ends: Vec<i64>,
}

impl Latest {
    fn with_capacity(rows: usize) -> Latest {
        Latest {
            starts: Vec::with_capacity(rows),
            ends: Vec::with_capacity(rows),
        }
    }

    fn push(&mut self, cell: Cell) {
        self.starts.push(cell.start);
        self.ends.push(cell.end);
    }

    fn cell(&self, row: usize) -> Cell {
        let (start, end) = (self.starts[row], self.ends[row]);
        Cell {
            start,
            end,
            next: end,
        }
    }
}

impl Window {
    /// # Errors
    /// As [`Windows::new`]; internal when the schemas are not as [`WindowSpec`] says.
    pub fn new(spec: WindowSpec) -> Result<Window> {
        if spec.lateness_micros < 0 {
            let message = "the lateness of a window must not be negative";
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        let windows = Windows::new(spec.kind)?;
        let cells = match spec.assignment {
            Assignment::Windows => windows,
            Assignment::Panes(panes) | Assignment::PanesOrWindows(panes) => {
                Windows::new(panes.as_windows())?
            }
        };
        let time = spec.input.field(spec.time_column).data_type();
        let width = spec.input.fields().len();
        let end = width + spec.assignment.width();
        let is_fit = match spec.assignment {
            Assignment::Windows => true,
            Assignment::Panes(panes) => {
                Panes::of(spec.kind) == Some(panes) && spec.lateness_micros == 0
            }
            Assignment::PanesOrWindows(panes) => {
                let last = spec.output.fields().last();
                let may_lack_end = last.is_some_and(|field| field.is_nullable());
                Panes::of(spec.kind) == Some(panes) && may_lack_end
            }
        };
        let is_sound = matches!(time, DataType::Timestamp(TimeUnit::Microsecond, _))
            && spec.output.fields().len() == end
            && (width..end).all(|column| spec.output.field(column).data_type() == time)
            && is_fit;
        if !is_sound {
            return Err(Error::internal(format!(
                "window over {time} into {}",
                spec.output
            )));
        }
        let is_single = !spec.kind.is_hopping() && windows.per_row() == 1;
        Ok(Window {
            spec,
            windows,
            cells,
            is_single,
        })
    }

    /// Splits off rows without a usable time; the rest has a latest window each.
    fn latest(&self, batch: DeltaBatch, out: &mut Output) -> Result<(DeltaBatch, Latest)> {
        let column = batch.rows().column(self.spec.time_column);
        let times = column.as_primitive::<TimestampMicrosecondType>();
        let mut latest = Latest::with_capacity(batch.len());
        if times.null_count() == 0 && self.fill(times.values(), &mut latest) {
            return Ok((batch, latest));
        }
        let mut failures = Vec::new();
        latest = Latest::with_capacity(batch.len());
        let mut is_good = vec![true; batch.len()];
        for (row, time) in times.iter().enumerate() {
            let reason = match time.map(|time| self.cell(time)) {
                Some(Some(cell)) => {
                    latest.push(cell);
                    continue;
                }
                Some(None) => "event time is out of the range of windows",
                None => "event time is NULL",
            };
            is_good[row] = false;
            let row = u32::try_from(row).expect("a batch has fewer than 2^32 rows");
            failures.push(Failure {
                row,
                reason: reason.to_string(),
            });
        }
        report(&batch, &failures, out)?;
        Ok((batch.filter(&BooleanArray::from(is_good))?, latest))
    }

    /// What a time is in; `None` when its latest window does not fit.
    #[inline]
    fn cell(&self, time: i64) -> Option<Cell> {
        if self.spec.assignment != Assignment::Windows {
            self.windows.cell(time)?;
        }
        self.cells.cell(time)
    }

    /// Pushes every time's latest window, or its pane; false as soon as one does not fit.
    fn fill(&self, times: &[i64], latest: &mut Latest) -> bool {
        for chunk in times.chunks(1024) {
            // Both ends of a run that lies within one cell say so: no division per row.
            let (least, greatest) = ends(chunk);
            let Some(mut cell) = self.cell(least) else {
                return false;
            };
            if self.cell(greatest).is_none() {
                return false;
            }
            if cell.covers(greatest) {
                let rows = latest.starts.len() + chunk.len();
                latest.starts.resize(rows, cell.start);
                latest.ends.resize(rows, cell.end);
                continue;
            }
            for &time in chunk {
                // Neighbours are mostly in one window.
                if !cell.covers(time) {
                    let found = self.cells.cell(time);
                    cell = found.expect("both ends of the run fit");
                }
                latest.push(cell);
            }
        }
        true
    }

    /// One window per row.
    fn assign_single(&self, batch: DeltaBatch, latest: Latest, out: &mut Output) -> Result<()> {
        let Some(watermarks) = self.watermarks_that_matter(&batch, &latest.ends) else {
            return self.emit(batch, latest, out);
        };
        let is_open = |row: usize| !self.is_late(latest.ends[row], watermarks[row]);
        let mask = BooleanArray::from_iter((0..batch.len()).map(|row| Some(is_open(row))));
        let mut open = Latest::with_capacity(batch.len());
        for row in mask.values().set_indices() {
            open.push(latest.cell(row));
        }
        let is_late = not(&mask).map_err(arrow_error)?;
        put_out_late(&batch, &is_late, self.spec.time_column, out)?;
        self.emit(batch.filter(&mask)?, open, out)
    }

    /// As many windows per row as hold it, in runs that stay below [`WINDOW_ROWS_MAX`].
    fn assign_many(&self, batch: DeltaBatch, latest: &Latest, out: &mut Output) -> Result<()> {
        let run = (WINDOW_ROWS_MAX / self.windows.per_row()).max(1);
        let mut is_kept = vec![true; batch.len()];
        for first in (0..batch.len()).step_by(run) {
            let rows = first..batch.len().min(first + run);
            self.assign_run(&batch, latest, rows, &mut is_kept, out)?;
        }
        if is_kept.contains(&false) {
            let is_late = not(&BooleanArray::from(is_kept)).map_err(arrow_error)?;
            put_out_late(&batch, &is_late, self.spec.time_column, out)?;
        }
        Ok(())
    }

    fn assign_run(
        &self,
        batch: &DeltaBatch,
        latest: &Latest,
        rows: Range<usize>,
        is_kept: &mut [bool],
        out: &mut Output,
    ) -> Result<()> {
        let times = batch.rows().column(self.spec.time_column);
        let times = times.as_primitive::<TimestampMicrosecondType>().values();
        let watermarks = batch.watermarks().filter(|_| self.spec.judges);
        let mut taken: Vec<u32> = Vec::with_capacity(rows.len() * self.windows.per_row());
        let mut bounds = Latest::with_capacity(taken.capacity());
        for row in rows {
            let mut windows = 0;
            let mut open = 0;
            let number = u32::try_from(row).expect("a batch has fewer than 2^32 rows");
            // Rising, so that the same input always comes out in the same order.
            self.windows
                .each(times[row], latest.cell(row), |start, end| {
                    windows += 1;
                    if !watermarks.is_some_and(|watermarks| self.is_late(end, watermarks[row])) {
                        open += 1;
                        taken.push(number);
                        bounds.starts.push(start);
                        bounds.ends.push(end);
                    }
                });
            is_kept[row] = open > 0 || windows == 0;
            if 0 < open && open < windows {
                out.counts.rows_late_partly += batch.weights().get(row).unsigned_abs();
            }
        }
        let run = batch.take(&UInt32Array::from(taken))?;
        self.emit(run, bounds, out)
    }

    /// One pane per row.
    fn assign_panes(
        &self,
        batch: DeltaBatch,
        latest: Latest,
        panes: Panes,
        out: &mut Output,
    ) -> Result<()> {
        // Windows that hold a pane end with it or later.
        let Some(watermarks) = self.watermarks_that_matter(&batch, &latest.ends) else {
            return self.emit(batch.with_watermarks(None), latest, out);
        };
        let mut is_kept = vec![true; batch.len()];
        let mut is_partly_late = false;
        // Neighbours have mostly come at one watermark, whose first open window is known then.
        let (mut known, mut first_open) = (i64::MIN, panes.first_open(i64::MIN));
        for row in 0..batch.len() {
            if !self.is_late(latest.ends[row], watermarks[row]) {
                continue;
            }
            if watermarks[row] != known {
                known = watermarks[row];
                first_open = panes.first_open(known.saturating_sub(self.spec.lateness_micros));
            }
            // The last window that holds a pane begins with it or before, and all begin with one.
            let start = latest.starts[row];
            is_kept[row] = start >= first_open;
            if is_kept[row] && panes.first_holding(start) < first_open {
                is_partly_late = true;
                out.counts.rows_late_partly += batch.weights().get(row).unsigned_abs();
            }
        }
        let mask = BooleanArray::from(is_kept);
        let is_late = not(&mask).map_err(arrow_error)?;
        put_out_late(&batch, &is_late, self.spec.time_column, out)?;
        let mut kept = Latest::with_capacity(batch.len());
        for row in mask.values().set_indices() {
            kept.push(latest.cell(row));
        }
        let batch = batch.filter(&mask)?;
        match is_partly_late {
            true => self.emit(batch, kept, out),
            false => self.emit(batch.with_watermarks(None), kept, out),
        }
    }

    /// One pane per row, or as many windows as are still open.
    fn assign_panes_or_windows(
        &self,
        batch: &DeltaBatch,
        latest: &Latest,
        panes: Panes,
        out: &mut Output,
    ) -> Result<()> {
        let Some(watermarks) = self.watermarks_that_matter(batch, &latest.ends) else {
            let ends = vec![None; batch.len()];
            return self.emit_some(batch.clone(), latest.starts.clone(), ends, out);
        };
        let mut is_kept = vec![true; batch.len()];
        let (mut taken, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let (mut known, mut first_open) = (i64::MIN, panes.first_open(i64::MIN));
        for (row, number) in (0..batch.len()).zip(0..) {
            let start = latest.starts[row];
            if watermarks[row] != known {
                known = watermarks[row];
                first_open = panes.first_open(known.saturating_sub(self.spec.lateness_micros));
            }
            if panes.first_holding(start) >= first_open {
                taken.push(number);
                starts.push(start);
                ends.push(None);
                continue;
            }
            is_kept[row] = start >= first_open;
            if is_kept[row] {
                out.counts.rows_late_partly += batch.weights().get(row).unsigned_abs();
            }
            for open in panes.holding_from(start, first_open) {
                taken.push(number);
                starts.push(open);
                ends.push(Some(open + panes.size()));
            }
            if taken.len() >= WINDOW_ROWS_MAX {
                let rows = batch.take(&UInt32Array::from(std::mem::take(&mut taken)))?;
                let (starts, ends) = (std::mem::take(&mut starts), std::mem::take(&mut ends));
                self.emit_some(rows, starts, ends, out)?;
            }
        }
        let is_late = not(&BooleanArray::from(is_kept)).map_err(arrow_error)?;
        put_out_late(batch, &is_late, self.spec.time_column, out)?;
        self.emit_some(batch.take(&UInt32Array::from(taken))?, starts, ends, out)
    }

    /// Whether the window that ends at `end` is not open for corrections any more.
    #[inline]
    fn is_late(&self, end: i64, watermark: i64) -> bool {
        end <= watermark.saturating_sub(self.spec.lateness_micros)
    }

    /// The watermarks, unless it is clear from their greatest that no row is late.
    fn watermarks_that_matter<'a>(
        &self,
        batch: &'a DeltaBatch,
        window_ends: &[i64],
    ) -> Option<&'a [i64]> {
        let watermarks = batch
            .watermarks()
            .filter(|_| self.spec.judges && !batch.is_empty())?;
        let is_clear = !self.is_late(ends(window_ends).0, ends(watermarks).1);
        (!is_clear).then_some(watermarks)
    }

    /// Puts out the rows with their windows.
    fn emit(&self, batch: DeltaBatch, bounds: Latest, out: &mut Output) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let starts = self.times(PrimitiveArray::new(bounds.starts.into(), None));
        match self.spec.assignment {
            Assignment::Panes(_) => self.emit_with(batch, [starts], true, out),
            Assignment::Windows | Assignment::PanesOrWindows(_) => {
                let ends = self.times(PrimitiveArray::new(bounds.ends.into(), None));
                self.emit_with(batch, [starts, ends], !self.spec.judges, out)
            }
        }
    }

    /// Puts out rows with their panes, which have no end, or windows.
    fn emit_some(
        &self,
        batch: DeltaBatch,
        starts: Vec<i64>,
        ends: Vec<Option<i64>>,
        out: &mut Output,
    ) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let starts = self.times(PrimitiveArray::new(starts.into(), None));
        let ends = self.times(PrimitiveArray::from(ends));
        self.emit_with(batch, [starts, ends], !self.spec.judges, out)
    }

    fn times(&self, values: PrimitiveArray<TimestampMicrosecondType>) -> ArrayRef {
        let data_type = self.spec.input.field(self.spec.time_column).data_type();
        Arc::new(values.with_data_type(data_type.clone()))
    }

    fn emit_with(
        &self,
        batch: DeltaBatch,
        added: impl IntoIterator<Item = ArrayRef>,
        keeps_watermarks: bool,
        out: &mut Output,
    ) -> Result<()> {
        let mut columns = batch.rows().columns().to_vec();
        columns.extend(added);
        let rows = RecordBatch::try_new(self.spec.output.clone(), columns).map_err(arrow_error)?;
        let batch = batch.with_rows(rows);
        out.emit(match keeps_watermarks {
            true => batch,
            false => batch.with_watermarks(None),
        });
        Ok(())
    }
}

impl Operator for Window {
    fn push(&mut self, port: usize, batch: DeltaBatch, out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "a window has one input");
        let (batch, latest) = self.latest(batch, out)?;
        match self.spec.assignment {
            Assignment::Panes(panes) => self.assign_panes(batch, latest, panes, out),
            Assignment::PanesOrWindows(panes) => {
                self.assign_panes_or_windows(&batch, &latest, panes, out)
            }
            Assignment::Windows if self.is_single => self.assign_single(batch, latest, out),
            Assignment::Windows => self.assign_many(batch, &latest, out),
        }
    }

    fn finish(&mut self, _step: &Step, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let input = &step.bounds[0].0;
        let Some(EventTime(time)) = input[self.spec.time_column] else {
            let mut columns = input.clone();
            columns.resize(self.spec.output.fields().len(), None);
            return Bounds(columns);
        };
        let held_back = match self.spec.judges {
            true => time.saturating_sub(self.spec.lateness_micros),
            false => time,
        };
        // Before the first row and after the last one nothing is known, or everything.
        let end = match held_back {
            i64::MIN | i64::MAX => held_back,
            time => time + 1,
        };
        let start = match held_back {
            i64::MIN | i64::MAX => held_back,
            time => self.windows.least_start(time),
        };
        let mut columns = match self.spec.judges {
            true => vec![None; input.len()],
            false => input.clone(),
        };
        if self.spec.judges {
            columns[self.spec.time_column] = Some(EventTime(start));
        }
        columns.push(Some(EventTime(start)));
        if self.spec.assignment.width() == 2 {
            columns.push(Some(EventTime(end)));
        }
        Bounds(columns)
    }
}

/// The least and the greatest of some values.
fn ends(values: &[i64]) -> (i64, i64) {
    let start = (i64::MAX, i64::MIN);
    values.iter().fold(start, |(least, greatest), &value| {
        (least.min(value), greatest.max(value))
    })
}

#[cfg(test)]
mod tests;
