//! The operator of the equi-join; the module's page has its rule.

use std::collections::VecDeque;

use crate::base::EventTime;
use crate::base::limits::{CHUNK_ROWS_MAX, JOIN_NET_BYTES_MAX};
use crate::delta::{DeltaBatch, KeyBatch, concat, consolidate};
use crate::error::{Error, Result};
use crate::operator::join::pairs::{Joiner, PairWalk, Pairs, Port};
use crate::operator::join::side::Side;
use crate::operator::join::spec::{JoinKind, JoinSpec, TimeRange};
use crate::operator::rows::{Removal, Touched, weights_of};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const LEFT_TABLE: u32 = 0;
const RIGHT_TABLE: u32 = 1;

/// One shard of a join.
pub struct Join {
    spec: JoinSpec,
    joiner: Joiner,

    left: Side,
    right: Side,

    /// This step's pairs, held until its end where some may cancel.
    pending: Vec<(Port, DeltaBatch)>,
    /// This step's left rows of a left join whose key matches nothing.
    unmatchable: Vec<DeltaBatch>,
    /// What the checkpoint under way has not taken yet.
    frozen: VecDeque<TableChange>,
}

impl Join {
    /// # Errors
    /// Internal, when the spec contradicts itself; 0A000, when a column's type cannot be kept.
    pub fn new(spec: JoinSpec) -> Result<Join> {
        spec.check()?;
        let width = spec.left.fields().len();
        let joiner = Joiner::new(width, &spec.output, spec.residual.as_ref())?;
        let removal = |is_append_only: bool| match is_append_only {
            true => Removal::Never,
            false => Removal::ByRow,
        };
        let (left_times, right_times): (Vec<usize>, Vec<usize>) = spec
            .times
            .iter()
            .map(|range| (range.left, range.right))
            .unzip();
        let left = Side::new(
            &spec.left,
            &spec.left_keys,
            spec.null_equality,
            removal(spec.left_append_only),
            spec.expire.left.map(|at| left_times[at]),
            &left_times,
        )?;
        let left = match spec.kind {
            JoinKind::Inner => left,
            JoinKind::Left => left.with_matches(),
        };
        let right = Side::new(
            &spec.right,
            &spec.right_keys,
            spec.null_equality,
            removal(spec.right_append_only),
            spec.expire.right.map(|at| right_times[at]),
            &right_times,
        )?;
        Ok(Join {
            spec,
            joiner,
            left,
            right,
            pending: Vec::new(),
            unmatchable: Vec::new(),
            frozen: VecDeque::new(),
        })
    }

    /// Rows kept of the left and the right input.
    pub fn rows(&self) -> (usize, usize) {
        (self.left.rows().rows(), self.right.rows().rows())
    }

    /// Kept rows that were compared with rows of deltas to find them again, ever.
    pub fn rows_compared(&self) -> u64 {
        self.left.rows().compared() + self.right.rows().compared()
    }

    fn side(&self, port: Port) -> &Side {
        match port {
            Port::Left => &self.left,
            Port::Right => &self.right,
        }
    }

    /// The rows whose key can match; the others are done with, but for their padded rows.
    fn matchable(&mut self, port: Port, batch: DeltaBatch) -> Result<DeltaBatch> {
        let Some(is_matchable) = self.side(port).matchable(batch.rows()) else {
            return Ok(batch);
        };
        if port == Port::Left && self.spec.kind == JoinKind::Left {
            let is_unmatchable = arrow::compute::not(&is_matchable);
            let is_unmatchable = is_unmatchable.map_err(crate::delta::arrow_error)?;
            self.unmatchable.push(batch.filter(&is_unmatchable)?);
        }
        batch.filter(&is_matchable)
    }

    fn push_left(&mut self, batch: &DeltaBatch, keys: &KeyBatch, out: &mut Output) -> Result<()> {
        let mut walk = PairWalk::new(self.right.chains(keys));
        let mut pairs = Pairs::default();
        let mut matches = vec![0i64; batch.len()];
        while walk.next(&self.right, &mut pairs) {
            self.joiner
                .meet(Port::Left, batch, &self.right, &mut pairs, out)?;
            for (&row, &weight) in pairs.rows.iter().zip(&pairs.weights) {
                matches[row as usize] += weight;
            }
            let joined = self.joiner.joined(Port::Left, batch, &self.right, &pairs)?;
            self.put(Port::Left, joined, out);
        }
        let fresh = self.left.add(batch, keys)?;
        if self.spec.kind == JoinKind::Left {
            for fresh in fresh {
                self.left
                    .rows_mut()
                    .add_count(fresh.slot, matches[fresh.row as usize]);
            }
        }
        Ok(())
    }

    fn push_right(&mut self, batch: &DeltaBatch, keys: &KeyBatch, out: &mut Output) -> Result<()> {
        let mut walk = PairWalk::new(self.left.chains(keys));
        let mut pairs = Pairs::default();
        while walk.next(&self.left, &mut pairs) {
            self.joiner
                .meet(Port::Right, batch, &self.left, &mut pairs, out)?;
            if self.spec.kind == JoinKind::Left {
                for (&row, &slot) in pairs.rows.iter().zip(&pairs.slots) {
                    let weight = batch.weights().get(row as usize);
                    self.left.rows_mut().add_count(slot, weight);
                }
            }
            let joined = self.joiner.joined(Port::Right, batch, &self.left, &pairs)?;
            self.put(Port::Right, joined, out);
        }
        self.right.add(batch, keys)?;
        Ok(())
    }

    /// Pairs of inputs that only grow never cancel and go out at once.
    fn put(&mut self, port: Port, joined: DeltaBatch, out: &mut Output) {
        if joined.is_empty() {
            return;
        }
        match self.spec.left_append_only && self.spec.right_append_only {
            true => out.emit(joined),
            false => self.pending.push((port, joined)),
        }
    }

    /// Puts out the held pairs, those that cancel left out. Pairs cancel where a row of one input
    /// came and left, and where both inputs changed: an old row with a new one is made by port 0
    /// and unmade by port 1.
    fn put_pending(&mut self, out: &mut Output) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let has = |port: Port| pending.iter().any(|(each, _)| *each == port);
        let bytes: usize = pending.iter().map(|(_, batch)| batch.bytes()).sum();
        let has_repeats = self.left.rows().has_repeats() || self.right.rows().has_repeats();
        let may_cancel = (has_repeats || has(Port::Left) && has(Port::Right))
            && bytes <= JOIN_NET_BYTES_MAX
            && pending.iter().any(|(_, batch)| !batch.is_append_only());
        let batches: Vec<DeltaBatch> = pending.into_iter().map(|(_, batch)| batch).collect();
        match may_cancel {
            true => out.emit(consolidate(&concat(&self.spec.output, &batches)?)?),
            false => batches.into_iter().for_each(|batch| out.emit(batch)),
        }
        Ok(())
    }

    /// Puts out the differences of the left rows' padded rows over the step.
    fn put_padded(&mut self, touched: &[Touched], out: &mut Output) -> Result<()> {
        let rows = self.left.rows();
        let (mut slots, mut weights) = (Vec::new(), Vec::new());
        for before in touched {
            let old = if before.count == 0 { before.weight } else { 0 };
            let new = if rows.count(before.slot) == 0 {
                rows.weight(before.slot)
            } else {
                0
            };
            if new != old {
                slots.push(before.slot);
                weights.push(new - old);
            }
        }
        for (slots, weights) in slots
            .chunks(CHUNK_ROWS_MAX)
            .zip(weights.chunks(CHUNK_ROWS_MAX))
        {
            let padded = self.joiner.padded(&rows.gather(slots)?)?;
            out.emit(DeltaBatch::new(padded, weights_of(weights.to_vec())));
        }
        let unmatchable = std::mem::take(&mut self.unmatchable);
        let mut unmatchable = concat(&self.spec.left, &unmatchable)?;
        if !unmatchable.is_append_only() {
            unmatchable = consolidate(&unmatchable)?;
        }
        for first in (0..unmatchable.len()).step_by(CHUNK_ROWS_MAX) {
            let length = CHUNK_ROWS_MAX.min(unmatchable.len() - first);
            let part = unmatchable.slice(first, length);
            let padded = self.joiner.padded(part.rows())?;
            out.emit(DeltaBatch::new(padded, part.weights().clone()));
        }
        Ok(())
    }

    /// For two times that are kept near each other the bounds of the left and of the right output
    /// column.
    fn time_bounds(&self, step: &Step, range: &TimeRange) -> (EventTime, EventTime) {
        let known = |bound: Option<EventTime>| bound.unwrap_or(EventTime::MIN);
        let from_left = known(step.bounds[0].0[range.left]);
        let from_right = known(step.bounds[1].0[range.right]);
        // A later pair has a later row of one side, and of the other a kept row or a later one.
        let any_left = from_left.min(known(self.left.oldest(range.left)));
        let any_right = from_right.min(known(self.right.oldest(range.right)));
        let least = |right: EventTime| right.moved(range.least).unwrap_or(EventTime::MIN);
        let greatest = |left: EventTime| {
            let back = range.greatest.map(i64::saturating_neg);
            left.moved(back).unwrap_or(EventTime::MIN)
        };
        let by_left = (
            from_left.max(least(any_right)),
            any_right.max(greatest(from_left)),
        );
        let by_right = (
            any_left.max(least(from_right)),
            from_right.max(greatest(any_left)),
        );
        let pairs = (by_left.0.min(by_right.0), by_left.1.min(by_right.1));
        match self.spec.kind {
            JoinKind::Inner => pairs,
            // A later left row comes out whatever it meets, a kept one only by a right one.
            JoinKind::Left => (from_left.min(by_right.0), pairs.1),
        }
    }

    /// Below which time rows of each side go, where they do.
    fn expired_below(&self, step: &Step) -> (Option<EventTime>, Option<EventTime>) {
        let range = |at: Option<usize>| at.map(|at| &self.spec.times[at]);
        let left = range(self.spec.expire.left).and_then(|range| {
            let bound = step.bounds[1].0[range.right]?;
            bound.moved(range.least)
        });
        let right = range(self.spec.expire.right).and_then(|range| {
            let bound = step.bounds[0].0[range.left]?;
            bound.moved(range.greatest.map(i64::saturating_neg))
        });
        (left, right)
    }
}

impl Operator for Join {
    fn push(&mut self, port: usize, batch: DeltaBatch, out: &mut Output) -> Result<()> {
        let port = match port {
            0 => Port::Left,
            1 => Port::Right,
            _ => {
                return Err(Error::internal(format!(
                    "a join has two inputs, not {port}"
                )));
            }
        };
        let batch = self.matchable(port, batch)?;
        if batch.is_empty() {
            return Ok(());
        }
        let keys = self.side(port).key_batch(batch.rows())?;
        match port {
            Port::Left => self.push_left(&batch, &keys, out),
            Port::Right => self.push_right(&batch, &keys, out),
        }
    }

    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()> {
        self.put_pending(out)?;
        let left_touched = self.left.rows_mut().take_touched();
        let right_touched = self.right.rows_mut().take_touched();
        if self.spec.kind == JoinKind::Left {
            self.put_padded(&left_touched, out)?;
        }
        let (left_bound, right_bound) = self.expired_below(step);
        free(&mut self.left, &left_touched, left_bound)?;
        free(&mut self.right, &right_touched, right_bound)
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let mut bounds = Bounds::unknown(self.spec.output.fields().len());
        let width = self.spec.left.fields().len();
        for range in self.spec.times.iter().filter(|range| range.is_bounded) {
            let (of_left, of_right) = self.time_bounds(step, range);
            for (column, bound) in [(range.left, of_left), (width + range.right, of_right)] {
                if bound > EventTime::MIN {
                    // None is below every time.
                    bounds.0[column] = bounds.0[column].max(Some(bound));
                }
            }
        }
        bounds
    }

    fn state_rows(&self) -> usize {
        self.left.rows().rows() + self.right.rows().rows()
    }

    fn state_bytes(&self) -> usize {
        self.left.bytes() + self.right.bytes()
    }

    fn freeze(&mut self, scope: Scope) -> Result<()> {
        self.frozen = self.left.changes(scope, LEFT_TABLE)?.into();
        self.frozen.extend(self.right.changes(scope, RIGHT_TABLE)?);
        Ok(())
    }

    fn thaw(&mut self, _rows: usize) -> Result<Option<TableChange>> {
        Ok(self.frozen.pop_front())
    }

    fn unfreeze(&mut self) {
        self.frozen = VecDeque::new();
    }

    fn restore(&mut self, change: TableChange) -> Result<()> {
        match change.table {
            LEFT_TABLE => self.left.restore(&change),
            RIGHT_TABLE => self.right.restore(&change),
            other => Err(Error::internal(format!(
                "a join has no state table {other}"
            ))),
        }
    }
}

/// Frees the rows that left in the step and those below the bound. A row that expired may have come
/// as a retraction of what was freed before: only of rows that stay must none be there less than
/// once.
pub(super) fn free(side: &mut Side, touched: &[Touched], bound: Option<EventTime>) -> Result<()> {
    let mut going = bound.map_or_else(Vec::new, |bound| side.expired(bound));
    let rows = side.rows();
    let left = touched
        .iter()
        .map(|each| each.slot)
        .filter(|&slot| rows.weight(slot) == 0);
    going.extend(left);
    going.sort_unstable();
    going.dedup();
    let is_missing = |slot: u32| rows.weight(slot) < 0 && going.binary_search(&slot).is_err();
    if touched.iter().any(|each| is_missing(each.slot)) {
        return Err(Error::internal(
            "a join was asked to remove a row that is not there",
        ));
    }
    match going.is_empty() {
        true => Ok(()),
        false => side.release(&going),
    }
}
