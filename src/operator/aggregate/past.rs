//! What groups have out: the rows that their next change takes back.
//!
//! The row of a group follows from its state, so it is not kept: before a step changes a group that
//! has a row out for the first time, the row is made again from the state as it still is. With a
//! million groups this is a third of their memory, and the state that is looked at is in the cache
//! when it changes. Kept are only the values of DataFusion's own functions, which cost more and may
//! add up in another order another time.

use arrow::array::{Array, ArrayRef, UInt32Array, new_empty_array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, FieldRef};

use crate::delta::{Arena, arrow_error};
use crate::error::{Error, Result};
use crate::operator::aggregate::grouped::{Aggregate, Group};
use crate::operator::aggregate::layout::Call;
use crate::operator::aggregate::store::Reading;

/// What a shard's groups have out, as far as it is not in their state.
pub(super) struct Past {
    /// The values of the kept calls, by slot.
    pub kept: Arena,
    /// Of this step: groups in the order in which they were touched, and what they had out: a
    /// column for each call that is not kept.
    seen: Vec<(Vec<u32>, Vec<ArrayRef>)>,
}

impl Past {
    /// Of calls with the given results.
    pub fn new(calls: &[Call], results: &[DataType]) -> Result<Past> {
        let kept = calls.iter().zip(results).filter(|(call, _)| is_kept(call));
        let kept: Vec<DataType> = kept.map(|(_, result)| result.clone()).collect();
        Ok(Past {
            kept: Arena::new(&kept)?,
            seen: Vec::new(),
        })
    }
}

/// Whether the call's value that is out is kept.
pub(super) fn is_kept(call: &Call) -> bool {
    matches!(
        call,
        Call::Stored {
            reading: Reading::Stock,
            ..
        }
    )
}

/// Those of a column per call whose calls are kept.
pub(super) fn kept_of(calls: &[Call], columns: &[ArrayRef]) -> Vec<ArrayRef> {
    let both = calls.iter().zip(columns);
    let kept = both.filter(|(call, _)| is_kept(call));
    kept.map(|(_, column)| column.clone()).collect()
}

impl Aggregate {
    /// The step is about to add rows to the groups: notes what those have out that it has not
    /// touched before.
    pub(super) fn look_back(&mut self, slots: &[u32]) -> Result<()> {
        if self.calls.iter().all(is_kept) {
            return Ok(());
        }
        let mut touched = Vec::new();
        for &slot in slots {
            let group = &mut self.groups[slot as usize];
            let known = Group::EMITTED | Group::DIRTY | Group::SEEN;
            if group.flags(known) == Group::EMITTED {
                group.set(Group::SEEN, true);
                touched.push(slot);
            }
        }
        if touched.is_empty() {
            return Ok(());
        }
        let rows = touched
            .iter()
            .map(|&slot| self.groups[slot as usize].rows());
        let rows: Vec<i64> = rows.collect();
        let mut failures = Vec::new();
        let derived = self.calls.iter().filter(|call| !is_kept(call));
        let columns = derived.map(|call| self.value_of(call, &touched, &rows, &mut failures));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        if !failures.is_empty() {
            let message = "a group whose row is out has no value any more";
            return Err(Error::internal(message));
        }
        self.past.seen.push((touched, columns));
        Ok(())
    }

    /// What groups had out before the step, a column per call: all groups that the step touched
    /// and that have a row out, by rising slot.
    pub(super) fn what_was_out(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let seen = std::mem::take(&mut self.past.seen);
        let mut order: Vec<(u32, u32)> = Vec::with_capacity(slots.len());
        for (touched, _) in &seen {
            let next = order.len()..;
            order.extend(next.zip(touched).map(|(at, &slot)| (slot, number(at))));
        }
        order.sort_unstable();
        let is_derived = self.calls.iter().any(|call| !is_kept(call));
        if is_derived && !order.iter().map(|(slot, _)| slot).eq(slots) {
            let message = "the rows that are out are not those of the groups that were touched";
            return Err(Error::internal(message));
        }
        let places: UInt32Array = order.iter().map(|&(_, at)| Some(at)).collect();
        let mut kept = self.past.kept.gather(slots)?.into_iter();
        let results = &self.spec.output.fields()[self.spec.group.len()..];
        let mut derived = 0..;
        let column = |(call, result): (&Call, &FieldRef)| {
            if is_kept(call) {
                return Ok(kept.next().expect("a column for each kept call"));
            }
            let at = derived.next().expect("numbers do not end");
            let parts: Vec<&dyn Array> = seen.iter().map(|(_, columns)| &*columns[at]).collect();
            if parts.is_empty() {
                return Ok(new_empty_array(result.data_type()));
            }
            take(&concat(&parts).map_err(arrow_error)?, &places, None).map_err(arrow_error)
        };
        self.calls.iter().zip(results).map(column).collect()
    }
}

fn number(at: usize) -> u32 {
    u32::try_from(at).expect("fewer than 2^32 groups")
}
