//! What changed groups put out: −old +new, once per group and step.
//!
//! ```text
//!   group   was out   now            goes out
//!     3     (3, 10)   (3, 10)        nothing
//!     1     (1, 20)   (1, 25)        −(1, 20)  +(1, 25)
//!     7        —      (7, 5)         +(7, 5)
//!     2     (2, 8)    no rows        −(2, 8)
//!     4     (4, 9)    out of range   −(4, 9), and an error row when it was not one already
//! ```
//!
//! Columns are evaluated, compared with what was out, and put together for all groups at once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::interleave;
use arrow::datatypes::Schema;

use crate::delta::{DeltaBatch, Weights, arrow_error};
use crate::error::{Error, Result};
use crate::operator::Output;
use crate::operator::aggregate::grouped::{Aggregate, Group};
use crate::operator::aggregate::layout::Call;
use crate::operator::aggregate::store::Groups;
use crate::operator::evaluate::{Failure, report};

/// The values of some groups now.
struct Evaluation {
    slots: Vec<u32>,
    /// A column per call, a row per slot.
    columns: Vec<ArrayRef>,
    /// Rows that have no value, rising, each once.
    failures: Vec<Failure>,
}

/// A group whose row changes.
struct Outcome {
    slot: u32,
    was_out: bool,
    /// The group's row in the evaluation; `None` when it has none any more.
    row: Option<u32>,
}

impl Aggregate {
    /// Puts out the changes of the groups and notes what is out then.
    pub(super) fn emit(&mut self, candidates: &[u32], out: &mut Output) -> Result<()> {
        let live = candidates
            .iter()
            .copied()
            .filter(|&slot| self.is_live(slot))
            .collect();
        let evaluation = self.evaluate(live)?;
        self.report_failures(&evaluation, out)?;
        let outcomes = self.outcomes(candidates, &evaluation)?;
        if outcomes.is_empty() {
            return Ok(());
        }
        out.emit(self.changed_rows(&outcomes, &evaluation)?);
        self.note(&outcomes, &evaluation)
    }

    fn evaluate(&self, slots: Vec<u32>) -> Result<Evaluation> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.calls.len());
        let mut failures = Vec::new();
        for call in &self.calls {
            match call {
                Call::Count { selection } => {
                    let counts = self.counts(&slots, *selection)?;
                    columns.push(Arc::new(Int64Array::from(counts)));
                }
                Call::Stored {
                    store,
                    selection,
                    reading,
                } => {
                    let counts = self.counts(&slots, *selection)?;
                    let groups = Groups {
                        slots: &slots,
                        counts: &counts,
                    };
                    let store = &self.stores[*store].store;
                    columns.push(store.read(reading, groups, &mut failures)?);
                }
            }
        }
        // Of several failures of one group the leftmost call's is told.
        failures.sort_by_key(|failure| failure.row);
        failures.dedup_by_key(|failure| failure.row);
        Ok(Evaluation {
            slots,
            columns,
            failures,
        })
    }

    /// How many rows of each group a selection counts.
    fn counts(&self, slots: &[u32], selection: Option<usize>) -> Result<Vec<i64>> {
        let rows = |slot: u32| self.groups[slot as usize].rows;
        let counts: Vec<i64> = match selection {
            None => slots.iter().map(|&slot| rows(slot)).collect(),
            Some(selection) => {
                let selection = &self.selections[selection];
                slots
                    .iter()
                    .map(|&slot| rows(slot) - selection.absent(slot))
                    .collect()
            }
        };
        match counts.iter().any(|&count| count < 0) {
            true => Err(Error::internal(
                "more values of a group were retracted than were there",
            )),
            false => Ok(counts),
        }
    }

    /// Tells of groups that fail and did not before; those that are well again may fail anew.
    fn report_failures(&mut self, evaluation: &Evaluation, out: &mut Output) -> Result<()> {
        let mut failing = evaluation.failures.iter().peekable();
        let mut fresh = Vec::new();
        for (row, &slot) in evaluation.slots.iter().enumerate() {
            let failure = failing.next_if(|failure| failure.row as usize == row);
            let group = &mut self.groups[slot as usize];
            if let Some(failure) = failure
                && !group.is(Group::FAILED)
            {
                fresh.push((slot, failure.reason.clone()));
            }
            group.set(Group::FAILED, failure.is_some());
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let slots: Vec<u32> = fresh.iter().map(|(slot, _)| *slot).collect();
        let numbered = (0..).zip(fresh);
        let failures: Vec<Failure> = numbered
            .map(|(row, (_, reason))| Failure { row, reason })
            .collect();
        let fields = self.spec.output.fields()[..self.spec.group.len()].to_vec();
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        let keys = self.key_columns(&slots)?;
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), keys, &options);
        report(
            &DeltaBatch::insertions(rows.map_err(arrow_error)?),
            &failures,
            out,
        )
    }

    fn key_columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        match &self.keys {
            Some(keys) => keys.columns(slots),
            None => Ok(Vec::new()),
        }
    }

    /// The groups whose row changes, in the order of the candidates.
    fn outcomes(&self, candidates: &[u32], evaluation: &Evaluation) -> Result<Vec<Outcome>> {
        let mut failing = evaluation
            .failures
            .iter()
            .map(|failure| failure.row)
            .peekable();
        let mut live = (0..).zip(&evaluation.slots).peekable();
        let mut outcomes = Vec::with_capacity(candidates.len());
        // Rows that were out and are there now, to be compared; and their place in `outcomes`.
        let (mut slots, mut rows, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for &slot in candidates {
            let was_out = self.groups[slot as usize].is(Group::EMITTED);
            let row = live.next_if(|(_, live)| **live == slot).map(|(row, _)| row);
            let row = row.filter(|row| failing.next_if_eq(row).is_none());
            if let (true, Some(row)) = (was_out, row) {
                slots.push(slot);
                rows.push(row);
                places.push(outcomes.len());
            }
            if was_out || row.is_some() {
                outcomes.push(Outcome { slot, was_out, row });
            }
        }
        let is_equal = self.emitted.equal(&slots, &evaluation.columns, &rows)?;
        let mut unchanged = places
            .iter()
            .zip(is_equal)
            .filter(|(_, equal)| *equal)
            .peekable();
        let mut place = 0;
        outcomes.retain(|_| {
            let is_unchanged = unchanged
                .next_if(|(unchanged, _)| **unchanged == place)
                .is_some();
            place += 1;
            !is_unchanged
        });
        Ok(outcomes)
    }

    /// The retractions and insertions, those of one group next to each other.
    fn changed_rows(&self, outcomes: &[Outcome], evaluation: &Evaluation) -> Result<DeltaBatch> {
        let mut slots = Vec::with_capacity(outcomes.len() * 2);
        let mut weights = Vec::with_capacity(outcomes.len() * 2);
        // Where a value comes from: what was out (0) or the evaluation (1), and which row there.
        let mut picks = Vec::with_capacity(outcomes.len() * 2);
        let mut old_slots = Vec::new();
        for outcome in outcomes {
            if outcome.was_out {
                slots.push(outcome.slot);
                weights.push(-1);
                picks.push((0, old_slots.len()));
                old_slots.push(outcome.slot);
            }
            if let Some(row) = outcome.row {
                slots.push(outcome.slot);
                weights.push(1);
                picks.push((1, row as usize));
            }
        }
        let is_all_new = old_slots.is_empty() && picks.len() == evaluation.slots.len();
        let mut columns = self.key_columns(&slots)?;
        if is_all_new {
            columns.extend_from_slice(&evaluation.columns);
        } else {
            let old = self.emitted.gather(&old_slots)?;
            for (old, new) in old.iter().zip(&evaluation.columns) {
                let sources: [&dyn Array; 2] = [old, new];
                columns.push(interleave(&sources, &picks).map_err(arrow_error)?);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        let rows = RecordBatch::try_new_with_options(self.spec.output.clone(), columns, &options);
        let weights = match old_slots.is_empty() {
            true => Weights::Ones,
            false => Weights::Each(weights.into()),
        };
        Ok(DeltaBatch::new(rows.map_err(arrow_error)?, weights))
    }

    /// Keeps what is out now.
    fn note(&mut self, outcomes: &[Outcome], evaluation: &Evaluation) -> Result<()> {
        let (mut slots, mut rows, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for outcome in outcomes {
            self.groups[outcome.slot as usize].set(Group::EMITTED, outcome.row.is_some());
            match outcome.row {
                Some(row) => {
                    slots.push(outcome.slot);
                    rows.push(row);
                }
                None => gone.push(outcome.slot),
            }
        }
        self.emitted.release(&gone);
        self.emitted.write(&slots, &evaluation.columns, &rows)
    }
}
