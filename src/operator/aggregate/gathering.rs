//! HOP in every step: rows are added up by pane first, and then each pane to the windows that hold
//! it.
//!
//! ```text
//!   HOP slide 5, size 10            gathered by key and pane     spread over windows
//!   + (a, 6)   start 5   no end ─┐
//!   + (a, 8)   start 5   no end ─┴► (a, 5)   2 rows         ┌─► (a, [0, 10))    + 2
//!   - (a, 7)   start 5   no end ──► (a, 5)   2 − 1 rows  ───┴─► (a, [5, 15))    + 1 …
//!   + (a, 6)   [5, 15)          ──────────────────────────────► (a, [5, 15))    + 1
//! ```
//!
//! A row costs one update however many windows hold it; a window costs one for each of a key's
//! panes that the step has touched, and its row. What is gathered is a group like any other, whose
//! window has no end. It lives from a step's first row of the pane until the step's end, so it is
//! in no checkpoint, and what it has may be less than nothing. State, closing, lateness and bounds
//! are those of the windows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, UInt32Array};
use arrow::compute::{is_not_null, is_null, not, take};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};

use crate::base::limits::WINDOW_ROWS_MAX;
use crate::delta::{DeltaBatch, Weights, arrow_error};
use crate::error::{Error, Result};
use crate::operator::Output;
use crate::operator::aggregate::change::Change;
use crate::operator::aggregate::grouped::{Aggregate, Group};
use crate::operator::aggregate::layout::add_rows;
use crate::operator::aggregate::spec::{AggregateFunction, AggregateSpec, PaneKey};
use crate::operator::aggregate::store::Times;
use crate::operator::judge::put_out_late;

/// # Errors
/// Internal, when the plan has a key by pane that is none, or an aggregate that panes cannot be
/// added up for.
pub(super) fn check_panes(spec: &AggregateSpec, key_types: &[DataType]) -> Result<()> {
    let Some(PaneKey { start, end, .. }) = spec.panes else {
        return Ok(());
    };
    let is_time =
        |at: usize| matches!(key_types[at], DataType::Timestamp(TimeUnit::Microsecond, _));
    let is_fit = |function: &AggregateFunction| {
        function.is_mergeable() && (spec.is_append_only || !function.is_extreme())
    };
    let is_sound = start != end
        && is_time(start)
        && is_time(end)
        && spec.calls.iter().all(|call| is_fit(&call.function));
    match is_sound {
        true => Ok(()),
        false => Err(Error::internal(format!(
            "an aggregate of a step by panes as {}",
            spec.output
        ))),
    }
}

/// Windows of some panes, row by row.
#[derive(Default)]
struct Spread {
    /// The pane, by its place among them and by its slot.
    places: Vec<u32>,
    from: Vec<u32>,
    starts: Vec<i64>,
    ends: Vec<i64>,
}

impl Aggregate {
    /// Adds the rows that have a pane to what is gathered. Returns those with a window.
    pub(super) fn gather(&mut self, batch: DeltaBatch, out: &mut Output) -> Result<DeltaBatch> {
        let Some(key) = self.spec.panes else {
            return Ok(batch);
        };
        let ends = batch.rows().column(self.spec.group[key.end]);
        let (in_panes, in_windows) = match ends.null_count() {
            0 => return Ok(batch),
            nulls if nulls == batch.len() => {
                let schema = batch.schema();
                (batch, DeltaBatch::empty(schema))
            }
            _ => (
                batch.filter(&is_null(ends).map_err(arrow_error)?)?,
                batch.filter(&is_not_null(ends).map_err(arrow_error)?)?,
            ),
        };
        let rows = match &self.spec.close {
            // What is freed by the window's end is told by the pane, which has none.
            Some(close) if close.column != key.end => self.drop_freed(in_panes, out)?,
            Some(_) | None => self.drop_over(in_panes, key, out)?,
        };
        if rows.is_empty() {
            return Ok(in_windows);
        }
        let columns = self.key_of(&rows);
        let mut slots = std::mem::take(&mut self.slots);
        self.assign(&columns, rows.len(), &mut slots)?;
        // What a checkpoint under way has in these slots is not they.
        self.keep(&slots)?;
        let all = Change {
            slots: &slots,
            weights: match rows.weights() {
                Weights::Ones => None,
                Weights::Each(weights) => Some(weights.as_ref()),
            },
            valid: None,
        };
        let (groups, gathered) = (&mut self.groups, &mut self.gathered);
        all.each(|row, slot, weight| {
            let group = &mut groups[slot];
            group.add_rows(weight);
            if !group.is(Group::DIRTY) {
                group.set(Group::DIRTY, true);
                gathered.push(slots[row]);
            }
        });
        let groups = self.groups.len();
        let (selections, stores) = (&mut self.selections, &mut self.stores);
        add_rows(selections, stores, groups, rows.rows(), &all)?;
        self.slots = slots;
        Ok(in_windows)
    }

    /// The start of the first window that has not been freed.
    fn first_kept(&self, key: PaneKey) -> i64 {
        let by_end = self.windows.as_ref();
        let by_end = by_end.filter(|windows| windows.close().column == key.end);
        match by_end.map(|windows| windows.freed_before()) {
            None | Some(i64::MIN) => i64::MIN,
            // One that ends there is kept.
            Some(freed_before) => key.panes.first_open(freed_before.saturating_sub(1)),
        }
    }

    /// Takes out the rows of which all windows have been freed.
    fn drop_over(&self, batch: DeltaBatch, key: PaneKey, out: &mut Output) -> Result<DeltaBatch> {
        let first = self.first_kept(key);
        let column = self.spec.group[key.start];
        let starts = batch.rows().column(column);
        let starts = starts.as_primitive::<TimestampMicrosecondType>().values();
        // Windows begin with a pane: one that begins before the first window is in none.
        if starts.iter().all(|&start| start >= first) {
            return Ok(batch);
        }
        let is_over: BooleanArray = starts.iter().map(|&start| Some(start < first)).collect();
        put_out_late(&batch, &is_over, column, out)?;
        batch.filter(&not(&is_over).map_err(arrow_error)?)
    }

    /// The step's rows are complete: adds what is gathered to the windows.
    pub(super) fn spread(&mut self, out: &mut Output) -> Result<()> {
        let Some(key) = self.spec.panes else {
            return Ok(());
        };
        let mut gathered = std::mem::take(&mut self.gathered);
        let per_pane = key.panes.size() / key.panes.slide() + 1;
        let run = WINDOW_ROWS_MAX / usize::try_from(per_pane).unwrap_or(usize::MAX);
        for panes in gathered.chunks(run.max(1)) {
            self.spread_some(panes, key, out)?;
        }
        self.free(&gathered)?;
        gathered.clear();
        self.gathered = gathered;
        Ok(())
    }

    fn spread_some(&mut self, panes: &[u32], key: PaneKey, out: &mut Output) -> Result<()> {
        let keys = self.keys.as_ref().expect("a window is a key");
        let columns = keys.columns(panes)?;
        let Spread {
            places,
            from,
            starts,
            ends,
        } = self.windows_of(panes, &columns[key.start], key, out);
        let places = UInt32Array::from(places);
        let time = |values: Vec<i64>, of: &ArrayRef| -> ArrayRef {
            let values = PrimitiveArray::<TimestampMicrosecondType>::new(values.into(), None);
            Arc::new(values.with_data_type(of.data_type().clone()))
        };
        let (start, end) = (
            time(starts, &columns[key.start]),
            time(ends, &columns[key.end]),
        );
        let of_window = |(at, column): (usize, &ArrayRef)| match at {
            at if at == key.start => Ok(start.clone()),
            at if at == key.end => Ok(end.clone()),
            _ => take(column, &places, None).map_err(arrow_error),
        };
        let columns = columns.iter().enumerate().map(of_window);
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let mut slots = std::mem::take(&mut self.slots);
        self.assign(&columns, from.len(), &mut slots)?;
        self.keep(&slots)?;
        self.look_back(&slots)?;
        let rows = from.iter().map(|&pane| self.groups[pane as usize].rows());
        let rows: Vec<i64> = rows.collect();
        let all = Change {
            slots: &slots,
            weights: Some(&rows),
            valid: None,
        };
        let fresh = self.count_rows(&all);
        self.place_in_windows(&columns, &slots, &fresh);
        for selection in self.selections.iter_mut().filter(|each| !each.is_whole()) {
            for (&pane, &window) in from.iter().zip(&slots) {
                let absent = selection.absent(pane) + selection.absent(window);
                selection.set_absent(window, absent);
            }
        }
        for selected in &mut self.stores {
            selected.store.combine(&from, &slots, Times::Once)?;
        }
        self.slots = slots;
        Ok(())
    }

    /// The windows that hold the panes. Of a pane that comes when some of its windows have been
    /// freed, as none does whose time has the bound that the plan says, the others.
    fn windows_of(
        &self,
        panes: &[u32],
        starts: &ArrayRef,
        key: PaneKey,
        out: &mut Output,
    ) -> Spread {
        let first = self.first_kept(key);
        let starts = starts.as_primitive::<TimestampMicrosecondType>().values();
        let mut spread = Spread::default();
        for ((place, &pane), &start) in (0..).zip(panes).zip(starts) {
            if key.panes.first_holding(start) < first {
                let rows = self.groups[pane as usize].rows();
                out.counts.rows_late_partly += rows.unsigned_abs();
            }
            for window in key.panes.holding_from(start, first) {
                spread.places.push(place);
                spread.from.push(pane);
                spread.starts.push(window);
                spread.ends.push(window + key.panes.size());
            }
        }
        spread
    }
}
