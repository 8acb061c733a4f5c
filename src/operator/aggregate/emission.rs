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

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{interleave, take};
use arrow::datatypes::Schema;

use crate::delta::{DeltaBatch, Weights, arrow_error, not_distinct};
use crate::error::{Error, Result};
use crate::operator::Output;
use crate::operator::aggregate::grouped::{Aggregate, Group};
use crate::operator::aggregate::layout::Call;
use crate::operator::aggregate::past::kept_of;
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
    /// Its row among those that were out; `None` when it was not.
    old: Option<u32>,
    /// Its row in the evaluation; `None` when it has none any more.
    new: Option<u32>,
}

impl Aggregate {
    /// Puts out the changes of the groups and notes what is out then.
    ///
    /// With a million groups each look at a group's state misses the cache, so it is copied once
    /// and everything after runs over columns in the candidates' order.
    pub(super) fn emit(&mut self, candidates: &[u32], out: &mut Output) -> Result<()> {
        let group = |&slot: &u32| self.groups[slot as usize];
        let groups: Vec<Group> = candidates.iter().map(group).collect();
        let is_global = self.spec.is_global;
        let live = || {
            let both = candidates.iter().zip(&groups);
            both.filter(|(_, group)| is_global || group.rows() > 0)
        };
        let slots = live().map(|(&slot, _)| slot).collect();
        let rows: Vec<i64> = live().map(|(_, group)| group.rows()).collect();
        let evaluation = self.evaluate(slots, &rows)?;
        if !evaluation.failures.is_empty() || groups.iter().any(|group| group.is(Group::FAILED)) {
            self.report_failures(&evaluation, out)?;
        }
        let mut outcomes = self.outcomes(candidates, &groups, &evaluation);
        let was_out = candidates
            .iter()
            .zip(&groups)
            .filter(|(_, group)| group.is(Group::EMITTED));
        let was_out: Vec<u32> = was_out.map(|(&slot, _)| slot).collect();
        let old = self.what_was_out(&was_out)?;
        drop_unchanged(&mut outcomes, &old, &evaluation.columns)?;
        if outcomes.is_empty() {
            return Ok(());
        }
        out.emit(self.changed_rows(&outcomes, &old, &evaluation)?);
        self.note(&outcomes, &evaluation)
    }

    fn evaluate(&self, slots: Vec<u32>, rows: &[i64]) -> Result<Evaluation> {
        let mut failures = Vec::new();
        let columns = self.calls.iter();
        let columns = columns.map(|call| self.value_of(call, &slots, rows, &mut failures));
        let columns = columns.collect::<Result<_>>()?;
        // Of several failures of one group the leftmost call's is told.
        failures.sort_by_key(|failure| failure.row);
        failures.dedup_by_key(|failure| failure.row);
        Ok(Evaluation {
            slots,
            columns,
            failures,
        })
    }

    /// What a call says of groups, each with so many rows.
    pub(super) fn value_of(
        &self,
        call: &Call,
        slots: &[u32],
        rows: &[i64],
        failures: &mut Vec<Failure>,
    ) -> Result<ArrayRef> {
        match call {
            Call::Count { selection } => {
                let counts = self.counts(slots, rows, *selection)?;
                Ok(Arc::new(Int64Array::from(counts.into_owned())))
            }
            Call::Stored {
                store,
                selection,
                reading,
            } => {
                let counts = self.counts(slots, rows, *selection)?;
                let groups = Groups {
                    slots,
                    counts: &counts,
                };
                self.stores[*store].store.read(reading, groups, failures)
            }
        }
    }

    /// How many of each group's rows a selection counts.
    fn counts<'a>(
        &self,
        slots: &[u32],
        rows: &'a [i64],
        selection: Option<usize>,
    ) -> Result<Cow<'a, [i64]>> {
        let selection = selection.map(|selection| &self.selections[selection]);
        let Some(selection) = selection.filter(|selection| !selection.is_whole()) else {
            return Ok(Cow::Borrowed(rows));
        };
        let both = slots.iter().zip(rows);
        let counts: Vec<i64> = both
            .map(|(&slot, rows)| rows - selection.absent(slot))
            .collect();
        match counts.iter().any(|&count| count < 0) {
            true => Err(Error::internal(
                "more values of a group were retracted than were there",
            )),
            false => Ok(Cow::Owned(counts)),
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

    /// The groups that were out or have a row now, in the order of the candidates.
    fn outcomes(
        &self,
        candidates: &[u32],
        groups: &[Group],
        evaluation: &Evaluation,
    ) -> Vec<Outcome> {
        let mut failing = evaluation
            .failures
            .iter()
            .map(|failure| failure.row)
            .peekable();
        let mut live = (0..).zip(&evaluation.slots).peekable();
        let mut was_out = 0..;
        let mut outcomes = Vec::with_capacity(candidates.len());
        for (&slot, group) in candidates.iter().zip(groups) {
            let old = group.is(Group::EMITTED).then(|| was_out.next()).flatten();
            let new = live.next_if(|(_, live)| **live == slot).map(|(row, _)| row);
            let new = new.filter(|row| failing.next_if_eq(row).is_none());
            if old.is_some() || new.is_some() {
                outcomes.push(Outcome { slot, old, new });
            }
        }
        outcomes
    }

    /// The retractions and insertions, those of one group next to each other.
    fn changed_rows(
        &self,
        outcomes: &[Outcome],
        old: &[ArrayRef],
        evaluation: &Evaluation,
    ) -> Result<DeltaBatch> {
        let mut slots = Vec::with_capacity(outcomes.len() * 2);
        let mut weights = Vec::with_capacity(outcomes.len() * 2);
        // Where a value comes from: what was out (0) or the evaluation (1), and which row there.
        let mut picks = Vec::with_capacity(outcomes.len() * 2);
        let mut is_insertion_only = true;
        for outcome in outcomes {
            if let Some(row) = outcome.old {
                is_insertion_only = false;
                slots.push(outcome.slot);
                weights.push(-1);
                picks.push((0, row as usize));
            }
            if let Some(row) = outcome.new {
                slots.push(outcome.slot);
                weights.push(1);
                picks.push((1, row as usize));
            }
        }
        let mut columns = self.key_columns(&slots)?;
        if is_insertion_only && picks.len() == evaluation.slots.len() {
            columns.extend_from_slice(&evaluation.columns);
        } else {
            for (old, new) in old.iter().zip(&evaluation.columns) {
                let sources: [&dyn Array; 2] = [old, new];
                columns.push(interleave(&sources, &picks).map_err(arrow_error)?);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        let rows = RecordBatch::try_new_with_options(self.spec.output.clone(), columns, &options);
        let weights = match is_insertion_only {
            true => Weights::Ones,
            false => Weights::Each(weights.into()),
        };
        let delta = DeltaBatch::new(rows.map_err(arrow_error)?, weights);
        Ok(delta.with_origins(Some(slots.into())))
    }

    /// Keeps what is out now.
    fn note(&mut self, outcomes: &[Outcome], evaluation: &Evaluation) -> Result<()> {
        let (mut slots, mut rows, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for outcome in outcomes {
            self.groups[outcome.slot as usize].set(Group::EMITTED, outcome.new.is_some());
            match outcome.new {
                Some(row) => {
                    slots.push(outcome.slot);
                    rows.push(row);
                }
                None => gone.push(outcome.slot),
            }
        }
        self.past.kept.release(&gone);
        let kept = kept_of(&self.calls, &evaluation.columns);
        self.past.kept.write(&slots, &kept, &rows)
    }
}

/// Takes out the groups whose row is what it was.
fn drop_unchanged(outcomes: &mut Vec<Outcome>, old: &[ArrayRef], new: &[ArrayRef]) -> Result<()> {
    let pairs = || {
        outcomes
            .iter()
            .filter_map(|outcome| Some((outcome.old?, outcome.new?)))
    };
    let old_rows: UInt32Array = pairs().map(|(old, _)| Some(old)).collect();
    let new_rows: UInt32Array = pairs().map(|(_, new)| Some(new)).collect();
    let mut is_equal = BooleanBuffer::new_set(old_rows.len());
    for (old, new) in old.iter().zip(new) {
        if is_equal.count_set_bits() == 0 {
            return Ok(());
        }
        let old = pick(old, &old_rows)?;
        let new = pick(new, &new_rows)?;
        is_equal = &is_equal & &not_distinct(&old, &new)?;
    }
    let mut is_equal = is_equal.iter();
    outcomes.retain(|outcome| {
        outcome.old.is_none() || outcome.new.is_none() || is_equal.next() != Some(true)
    });
    Ok(())
}

/// The rows of a column; itself where they are all of them, which rising row numbers are when they
/// are as many.
fn pick(column: &ArrayRef, rows: &UInt32Array) -> Result<ArrayRef> {
    match rows.len() == column.len() {
        true => Ok(column.clone()),
        false => take(column, rows, None).map_err(arrow_error),
    }
}
