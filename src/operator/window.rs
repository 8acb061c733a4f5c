//! Windows: gives each row the windows that its time falls into, and judges which rows are late.
//!
//! Rule: windows are `[start, start + size)` with `start ≡ offset (mod slide)`, counted from
//! 1970-01-01T00:00 UTC with floored division; TUMBLE is the case `slide = size`. A row goes out
//! once per window that holds it; where `slide > size`, a row between two windows is in none and
//! is gone. A row is late when every window it is in has `end + lateness ≤ W`, W being the
//! watermark that stood before the row; if only some have, the row goes out for the others.
//!
//! ```text
//!   HOP slide 5, size 10      ts                       ts  start  end
//!                          +  12  W 0     ─────────► +  12      5   15
//!                                                    + 12     10   20
//!                          +  12  W 15    ─────────► +  12     10   20   late for [5, 15)
//!                          +  12  W 20    ─────────► Output.late
//! ```
//!
//! State: none. A row whose time is NULL, or whose windows do not fit the type, is an error row.
//!
//! Bounds: with W the bound of the time column, a later row's windows end after `W - lateness`:
//! `window_end ≥ W - lateness + 1`, and `window_start` is at least that less the size. So a window
//! is closed, `end ≤ W`, exactly when its end is below the bound plus the lateness. Where the
//! operator judges, rows behind W may still pass, and other columns have no bound.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, RecordBatch, UInt32Array,
};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};

use crate::base::EventTime;
use crate::base::limits::{WINDOW_ROWS_MAX, WINDOWS_PER_ROW_MAX};
use crate::delta::{DeltaBatch, arrow_error};
use crate::error::{Error, Result, SqlState};
use crate::operator::evaluate::{Failure, report};
use crate::operator::{Bounds, LateRows, Operator, Output, Step};

/// Which windows there are; lengths in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// One window after the other.
    Tumble {
        size_micros: i64,
        offset_micros: i64,
    },
    /// A window every `slide`, overlapping or with gaps.
    Hop {
        slide_micros: i64,
        size_micros: i64,
        offset_micros: i64,
    },
}

impl fmt::Display for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (slide, size, offset) = match *self {
            WindowKind::Tumble {
                size_micros,
                offset_micros,
            } => {
                write!(f, "tumble")?;
                (None, size_micros, offset_micros)
            }
            WindowKind::Hop {
                slide_micros,
                size_micros,
                offset_micros,
            } => {
                write!(f, "hop")?;
                (Some(slide_micros), size_micros, offset_micros)
            }
        };
        if let Some(slide) = slide {
            write!(f, " slide {}", Length(slide))?;
        }
        write!(f, " size {}", Length(size))?;
        match offset {
            0 => Ok(()),
            offset => write!(f, " offset {}", Length(offset)),
        }
    }
}

/// A length in the largest unit that shows it whole.
struct Length(i64);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (86_400_000_000, "d"),
            (3_600_000_000, "h"),
            (60_000_000, "min"),
        ];
        let units = units
            .into_iter()
            .chain([(1_000_000, "s"), (1_000, "ms"), (1, "us")]);
        let (micros, unit) = units
            .into_iter()
            .find(|(micros, _)| self.0 % micros == 0)
            .expect("everything is a multiple of a microsecond");
        write!(f, "{} {unit}", self.0 / micros)
    }
}

/// What a [`Window`] does.
#[derive(Clone, Debug)]
pub struct WindowSpec {
    pub input: SchemaRef,
    /// The column of the input that windows are cut on: a timestamp in microseconds.
    pub time_column: usize,
    pub kind: WindowKind,
    /// The input's columns, then `window_start` and `window_end` of the time column's type.
    pub output: SchemaRef,
    /// How long after its end a window stays open for corrections.
    pub lateness_micros: i64,
    /// Whether rows are judged here: rows straight from a source or table. Derived rows are never
    /// late.
    pub judges: bool,
}

/// Assigns windows.
pub struct Window {
    spec: WindowSpec,
    /// `slide` of the windows; of tumbling ones the size.
    slide: i64,
    size: i64,
    /// In `0..slide`.
    offset: i64,
    /// Most windows that one row is in.
    windows_per_row: usize,
}

impl Window {
    /// # Errors
    /// 22023 when a length is not positive, 54001 when a row could be in more windows than
    /// [`WINDOWS_PER_ROW_MAX`]; internal when the schemas are not as [`WindowSpec`] says.
    pub fn new(spec: WindowSpec) -> Result<Window> {
        let (slide, size, offset) = match spec.kind {
            WindowKind::Tumble {
                size_micros,
                offset_micros,
            } => (size_micros, size_micros, offset_micros),
            WindowKind::Hop {
                slide_micros,
                size_micros,
                offset_micros,
            } => (slide_micros, size_micros, offset_micros),
        };
        if slide <= 0 || size <= 0 || spec.lateness_micros < 0 {
            let message = "the lengths of a window must be positive";
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        let windows = 1 + (size - 1) / slide;
        let windows_per_row = usize::try_from(windows)
            .ok()
            .filter(|&windows| windows <= WINDOWS_PER_ROW_MAX);
        let Some(windows_per_row) = windows_per_row else {
            let message = format!(
                "each row would be in {windows} windows; at most {WINDOWS_PER_ROW_MAX} are allowed"
            );
            return Err(Error::new(SqlState::STATEMENT_TOO_COMPLEX, message)
                .hint("make the slide larger or the size smaller"));
        };
        let time = spec.input.field(spec.time_column).data_type();
        let width = spec.input.fields().len();
        let is_sound = matches!(time, DataType::Timestamp(TimeUnit::Microsecond, _))
            && spec.output.fields().len() == width + 2
            && (width..width + 2).all(|column| spec.output.field(column).data_type() == time);
        if !is_sound {
            return Err(Error::internal(format!(
                "window over {time} into {}",
                spec.output
            )));
        }
        let offset = offset.rem_euclid(slide);
        Ok(Window {
            spec,
            slide,
            size,
            offset,
            windows_per_row,
        })
    }

    /// The start of the latest window that begins at or before `time`; `None` when it or its end
    /// does not fit.
    #[inline]
    fn last_start(&self, time: i64) -> Option<i64> {
        let start = time.checked_sub(self.offset)?.div_euclid(self.slide);
        // Below the least multiple of the slide the product does not fit.
        let start = start.checked_mul(self.slide)?.checked_add(self.offset)?;
        start.checked_add(self.size)?;
        Some(start)
    }

    /// Splits off rows without a usable time; the rest has a last window start each.
    fn last_starts(&self, batch: DeltaBatch, out: &mut Output) -> Result<(DeltaBatch, Vec<i64>)> {
        let column = batch.rows().column(self.spec.time_column);
        let times = column.as_primitive::<TimestampMicrosecondType>();
        let mut failures = Vec::new();
        let mut starts = Vec::with_capacity(batch.len());
        if times.null_count() == 0 && self.fill_starts(times.values(), &mut starts) {
            return Ok((batch, starts));
        }
        starts.clear();
        let mut is_good = vec![true; batch.len()];
        for (row, time) in times.iter().enumerate() {
            let reason = match time.map(|time| self.last_start(time)) {
                Some(Some(start)) => {
                    starts.push(start);
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
        Ok((batch.filter(&BooleanArray::from(is_good))?, starts))
    }

    /// Pushes every time's last window start; false as soon as one does not fit.
    fn fill_starts(&self, times: &[i64], starts: &mut Vec<i64>) -> bool {
        for chunk in times.chunks(1024) {
            // Both ends of a run that lies within one window say so: no division per row.
            let (least, greatest) = ends(chunk);
            let Some(first) = self.last_start(least) else {
                return false;
            };
            if self.last_start(greatest).is_none() {
                return false;
            }
            if within(first, self.slide, greatest) {
                starts.resize(starts.len() + chunk.len(), first);
                continue;
            }
            let mut start = first;
            starts.extend(chunk.iter().map(|&time| {
                // Neighbours are mostly in one window.
                if !within(start, self.slide, time) {
                    start = self.last_start(time).expect("both ends of the run fit");
                }
                start
            }));
        }
        true
    }

    /// One window per row.
    fn assign_tumbling(&self, batch: DeltaBatch, starts: Vec<i64>, out: &mut Output) -> Result<()> {
        let Some(watermarks) = self.watermarks_that_matter(&batch, &starts) else {
            return self.emit(batch, starts, out);
        };
        let is_open = |row: usize| !self.is_late(starts[row], watermarks[row]);
        let mask = BooleanArray::from_iter((0..batch.len()).map(|row| Some(is_open(row))));
        let open = (0..batch.len())
            .filter(|&row| is_open(row))
            .map(|row| starts[row])
            .collect();
        self.put_out_late(&batch, &mask, out)?;
        self.emit(batch.filter(&mask)?, open, out)
    }

    /// As many windows per row as hold it, in runs that stay below [`WINDOW_ROWS_MAX`].
    fn assign_hopping(&self, batch: DeltaBatch, starts: &[i64], out: &mut Output) -> Result<()> {
        let run = (WINDOW_ROWS_MAX / self.windows_per_row).max(1);
        let mut is_kept = vec![true; batch.len()];
        for first in (0..batch.len()).step_by(run) {
            let rows = first..batch.len().min(first + run);
            self.assign_run(&batch, starts, rows, &mut is_kept, out)?;
        }
        if is_kept.contains(&false) {
            self.put_out_late(&batch, &BooleanArray::from(is_kept), out)?;
        }
        Ok(())
    }

    fn assign_run(
        &self,
        batch: &DeltaBatch,
        starts: &[i64],
        rows: Range<usize>,
        is_kept: &mut [bool],
        out: &mut Output,
    ) -> Result<()> {
        let times = batch.rows().column(self.spec.time_column);
        let times = times.as_primitive::<TimestampMicrosecondType>().values();
        let watermarks = batch.watermarks().filter(|_| self.spec.judges);
        let mut taken: Vec<u32> = Vec::with_capacity(rows.len() * self.windows_per_row);
        let mut taken_starts = Vec::with_capacity(taken.capacity());
        for row in rows {
            let mut windows = 0;
            let mut open = 0;
            // Rising, so that the same input always comes out in the same order.
            let first = self.first_start(times[row], starts[row]);
            for start in
                (0..self.windows_per_row).map(|n| first.saturating_add(n_slides(n, self.slide)))
            {
                if start > starts[row] || !within(start, self.size, times[row]) {
                    break;
                }
                windows += 1;
                if watermarks.is_some_and(|watermarks| self.is_late(start, watermarks[row])) {
                    continue;
                }
                open += 1;
                taken.push(u32::try_from(row).expect("a batch has fewer than 2^32 rows"));
                taken_starts.push(start);
            }
            is_kept[row] = open > 0 || windows == 0;
            if 0 < open && open < windows {
                out.counts.rows_late_partly += batch.weights().get(row).unsigned_abs();
            }
        }
        let run = batch.take(&UInt32Array::from(taken))?;
        self.emit(run, taken_starts, out)
    }

    /// The earliest start of a window that holds `time`, if any does; `last` is the latest.
    fn first_start(&self, time: i64, last: i64) -> i64 {
        // Windows that begin after time - size hold it. What is below the type's range is no
        // window, so the first that fits is the first.
        let into = i128::from(self.size) - 1 - (i128::from(time) - i128::from(last));
        let before = into.div_euclid(i128::from(self.slide)).max(0);
        let fits = (i128::from(last) - i128::from(i64::MIN)) / i128::from(self.slide);
        let first = i128::from(last) - before.min(fits) * i128::from(self.slide);
        i64::try_from(first).expect("it is between the least value and the last start")
    }

    /// Whether the window that begins at `start` is not open for corrections any more.
    #[inline]
    fn is_late(&self, start: i64, watermark: i64) -> bool {
        start + self.size <= watermark.saturating_sub(self.spec.lateness_micros)
    }

    /// The watermarks, unless it is clear from their greatest that no row is late.
    fn watermarks_that_matter<'a>(
        &self,
        batch: &'a DeltaBatch,
        starts: &[i64],
    ) -> Option<&'a [i64]> {
        let watermarks = batch
            .watermarks()
            .filter(|_| self.spec.judges && !batch.is_empty())?;
        let is_clear = !self.is_late(ends(starts).0, ends(watermarks).1);
        (!is_clear).then_some(watermarks)
    }

    /// Puts out and counts the rows that the mask leaves out.
    fn put_out_late(
        &self,
        batch: &DeltaBatch,
        is_kept: &BooleanArray,
        out: &mut Output,
    ) -> Result<()> {
        let is_late = arrow::compute::not(is_kept).map_err(arrow_error)?;
        if is_late.true_count() == 0 {
            return Ok(());
        }
        let rows = batch.filter(&is_late)?;
        for row in 0..rows.len() {
            let weight = rows.weights().get(row);
            let count = match weight > 0 {
                true => &mut out.counts.rows_late,
                false => &mut out.counts.retractions_late,
            };
            *count += weight.unsigned_abs();
        }
        let times = rows.rows().column(self.spec.time_column);
        let event_times = times
            .as_primitive::<TimestampMicrosecondType>()
            .values()
            .to_vec();
        out.late.push(LateRows { rows, event_times });
        Ok(())
    }

    /// Puts out the rows with their windows.
    fn emit(&self, batch: DeltaBatch, starts: Vec<i64>, out: &mut Output) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let ends: Vec<i64> = starts.iter().map(|start| start + self.size).collect();
        let data_type = self.spec.input.field(self.spec.time_column).data_type();
        let column = |values: Vec<i64>| -> ArrayRef {
            let array = PrimitiveArray::<TimestampMicrosecondType>::new(values.into(), None);
            Arc::new(array.with_data_type(data_type.clone()))
        };
        let mut columns = batch.rows().columns().to_vec();
        columns.extend([column(starts), column(ends)]);
        let rows = RecordBatch::try_new(self.spec.output.clone(), columns).map_err(arrow_error)?;
        let batch = batch.with_rows(rows);
        out.emit(match self.spec.judges {
            true => batch.with_watermarks(None),
            false => batch,
        });
        Ok(())
    }
}

impl Operator for Window {
    fn push(&mut self, port: usize, batch: DeltaBatch, out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "a window has one input");
        let (batch, starts) = self.last_starts(batch, out)?;
        match self.spec.kind {
            WindowKind::Tumble { .. } => self.assign_tumbling(batch, starts, out),
            WindowKind::Hop { .. } => self.assign_hopping(batch, &starts, out),
        }
    }

    fn finish(&mut self, _step: &Step, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let input = &step.bounds[0].0;
        let Some(EventTime(time)) = input[self.spec.time_column] else {
            let mut columns = input.clone();
            columns.extend([None, None]);
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
        let start = match end {
            i64::MAX => end,
            end => end.saturating_sub(self.size),
        };
        let mut columns = match self.spec.judges {
            true => vec![None; input.len()],
            false => input.clone(),
        };
        if self.spec.judges {
            columns[self.spec.time_column] = Some(EventTime(start));
        }
        columns.extend([Some(EventTime(start)), Some(EventTime(end))]);
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

/// Whether `time` is in the window of the given start and size.
#[inline]
fn within(start: i64, size: i64, time: i64) -> bool {
    // As unsigned numbers, what is before the start is far beyond every size.
    time.wrapping_sub(start).cast_unsigned() < size.cast_unsigned()
}

fn n_slides(count: usize, slide: i64) -> i64 {
    i64::try_from(count).map_or(i64::MAX, |count| count.saturating_mul(slide))
}

#[cfg(test)]
mod tests;
