//! The operator of the equi-join; the module's page has its rule.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{FieldRef, Schema};

use crate::base::EventTime;
use crate::base::limits::{CHUNK_ROWS_MAX, JOIN_NET_BYTES_MAX};
use crate::delta::{DeltaBatch, KeyBatch, concat, consolidate};
use crate::error::{Error, Result};
use crate::operator::frozen::Frozen;
use crate::operator::join::pairs::{Joiner, PairWalk, Pairs, Port, batch};
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
    /// This step's rows whose key matches nothing, where they come out for it.
    unmatchable: Vec<(Port, DeltaBatch)>,
    /// What the checkpoint under way has not taken yet.
    frozen: Frozen,
}

impl Join {
    /// # Errors
    /// Internal, when the spec contradicts itself; 0A000, when a column's type cannot be kept.
    pub fn new(spec: JoinSpec) -> Result<Join> {
        spec.check()?;
        let width = spec.left.fields().len();
        let pairs = match spec.kind.has_pairs() {
            true => spec.output.clone(),
            false => {
                let (left, right) = (spec.left.fields().iter(), spec.right.fields().iter());
                let fields: Vec<FieldRef> = left.chain(right).cloned().collect();
                Arc::new(Schema::new(fields))
            }
        };
        let joiner = Joiner::new(width, &pairs, spec.residual.as_ref())?;
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
        let left = match spec.kind.counts_left() {
            true => left.with_matches(),
            false => left,
        };
        let right = Side::new(
            &spec.right,
            &spec.right_keys,
            spec.null_equality,
            removal(spec.right_append_only),
            spec.expire.right.map(|at| right_times[at]),
            &right_times,
        )?;
        let right = match spec.kind.counts_right() {
            true => right.with_matches(),
            false => right,
        };
        Ok(Join {
            spec,
            joiner,
            left,
            right,
            pending: Vec::new(),
            unmatchable: Vec::new(),
            frozen: Frozen::default(),
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
        let is_wanted = match (port, self.spec.kind) {
            (Port::Left, kind) => kind.counts_left() && kind != JoinKind::Semi,
            (Port::Right, kind) => kind.counts_right(),
        };
        if is_wanted {
            let is_unmatchable = arrow::compute::not(&is_matchable);
            let is_unmatchable = is_unmatchable.map_err(crate::delta::arrow_error)?;
            self.unmatchable
                .push((port, batch.filter(&is_unmatchable)?));
        }
        batch.filter(&is_matchable)
    }

    /// Pairs the rows of one input with the kept ones of the other, and keeps them. Each row has
    /// the number of its matches: a kept one what has come for it, a new one all that it found.
    fn pair(
        &mut self,
        port: Port,
        batch: &DeltaBatch,
        keys: &KeyBatch,
        out: &mut Output,
    ) -> Result<()> {
        let kind = self.spec.kind;
        let (counts_own, counts_kept) = match port {
            Port::Left => (kind.counts_left(), kind.counts_right()),
            Port::Right => (kind.counts_right(), kind.counts_left()),
        };
        let (own, kept) = match port {
            Port::Left => (&mut self.left, &mut self.right),
            Port::Right => (&mut self.right, &mut self.left),
        };
        let mut walk = PairWalk::new(kept.chains(keys));
        let mut pairs = Pairs::default();
        let mut matches = vec![0i64; if counts_own { batch.len() } else { 0 }];
        while walk.next(kept, &mut pairs) {
            self.joiner.meet(port, batch, kept, &mut pairs, out)?;
            if counts_own {
                for (&row, &weight) in pairs.rows.iter().zip(&pairs.weights) {
                    matches[row as usize] += weight;
                }
            }
            if counts_kept {
                for (&row, &slot) in pairs.rows.iter().zip(&pairs.slots) {
                    let weight = batch.weights().get(row as usize);
                    kept.rows_mut().add_count(slot, weight);
                }
            }
            if kind.has_pairs() && !pairs.rows.is_empty() {
                let joined = self.joiner.joined(port, batch, kept, &pairs)?;
                // Pairs of inputs that only grow never cancel and go out at once.
                match self.spec.left_append_only && self.spec.right_append_only {
                    true => out.emit(joined),
                    false => self.pending.push((port, joined)),
                }
            }
        }
        for fresh in own.add(batch, keys)? {
            if counts_own {
                let found = matches[fresh.row as usize];
                own.rows_mut().add_count(fresh.slot, found);
            }
        }
        Ok(())
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

    /// Puts out the differences, over the step, of the rows of one side that come out for having a
    /// match or none.
    fn put_alone(&mut self, port: Port, touched: &[Touched], out: &mut Output) -> Result<()> {
        let has_matched = match self.spec.kind {
            JoinKind::Semi => &[true][..],
            JoinKind::Mark => &[false, true],
            _ => &[false],
        };
        for &is_matched in has_matched {
            let rows = self.side(port).rows();
            let (mut slots, mut weights) = (Vec::new(), Vec::new());
            let shown = |count: i64, weight: i64| match (count != 0) == is_matched {
                true => weight,
                false => 0,
            };
            for before in touched {
                let new = shown(rows.count(before.slot), rows.weight(before.slot));
                let old = shown(before.count, before.weight);
                if new != old {
                    slots.push(before.slot);
                    weights.push(new - old);
                }
            }
            for (slots, weights) in slots
                .chunks(CHUNK_ROWS_MAX)
                .zip(weights.chunks(CHUNK_ROWS_MAX))
            {
                let alone = self.alone(port, is_matched, &rows.gather(slots)?)?;
                out.emit(DeltaBatch::new(alone, weights_of(weights.to_vec())));
            }
        }
        Ok(())
    }

    /// Puts out the step's rows that can have no match.
    fn put_unmatchable(&mut self, out: &mut Output) -> Result<()> {
        let unmatchable = std::mem::take(&mut self.unmatchable);
        for port in [Port::Left, Port::Right] {
            let of_port = unmatchable.iter().filter(|(each, _)| *each == port);
            let batches: Vec<DeltaBatch> = of_port.map(|(_, batch)| batch.clone()).collect();
            if batches.is_empty() {
                continue;
            }
            let schema = match port {
                Port::Left => &self.spec.left,
                Port::Right => &self.spec.right,
            };
            let mut rows = concat(schema, &batches)?;
            if !rows.is_append_only() {
                rows = consolidate(&rows)?;
            }
            for first in (0..rows.len()).step_by(CHUNK_ROWS_MAX) {
                let part = rows.slice(first, CHUNK_ROWS_MAX.min(rows.len() - first));
                let alone = self.alone(port, false, part.rows())?;
                out.emit(DeltaBatch::new(alone, part.weights().clone()));
            }
        }
        Ok(())
    }

    /// Rows of one side as they come out without the other's.
    fn alone(&self, port: Port, is_matched: bool, rows: &RecordBatch) -> Result<RecordBatch> {
        match self.spec.kind {
            JoinKind::Inner | JoinKind::Left | JoinKind::Full => self.joiner.padded(port, rows),
            JoinKind::Semi | JoinKind::Anti => {
                batch(&self.spec.output, rows.columns().to_vec(), rows.num_rows())
            }
            JoinKind::Mark => {
                let mark: ArrayRef =
                    Arc::new(BooleanArray::from(vec![is_matched; rows.num_rows()]));
                let columns = [rows.columns(), &[mark]].concat();
                batch(&self.spec.output, columns, rows.num_rows())
            }
        }
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
            JoinKind::Left | JoinKind::Semi | JoinKind::Anti | JoinKind::Mark => {
                (from_left.min(by_right.0), pairs.1)
            }
            // So does a right row, and beside either anything can come.
            JoinKind::Full => (EventTime::MIN, EventTime::MIN),
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
        self.pair(port, &batch, &keys, out)
    }

    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()> {
        self.put_pending(out)?;
        let left_touched = self.left.rows_mut().take_touched();
        let right_touched = self.right.rows_mut().take_touched();
        if self.spec.kind.counts_left() {
            self.put_alone(Port::Left, &left_touched, out)?;
        }
        if self.spec.kind.counts_right() {
            self.put_alone(Port::Right, &right_touched, out)?;
        }
        self.put_unmatchable(out)?;
        let (left_bound, right_bound) = self.expired_below(step);
        free(&mut self.left, &left_touched, left_bound)?;
        free(&mut self.right, &right_touched, right_bound)
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let mut bounds = Bounds::unknown(self.spec.output.fields().len());
        let width = self.spec.left.fields().len();
        for range in self.spec.times.iter().filter(|range| range.is_bounded) {
            let (of_left, of_right) = self.time_bounds(step, range);
            let right = self.spec.kind.has_pairs().then_some(width + range.right);
            for (column, bound) in [(Some(range.left), of_left), (right, of_right)] {
                if let Some(column) = column.filter(|_| bound > EventTime::MIN) {
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
        self.left.bytes() + self.right.bytes() + self.frozen.bytes()
    }

    fn freeze(&mut self, scope: Scope) -> Result<()> {
        self.frozen = Frozen::saved(self.left.changes(scope, LEFT_TABLE)?);
        self.frozen
            .keep_all(self.right.changes(scope, RIGHT_TABLE)?);
        Ok(())
    }

    fn thaw(&mut self, _rows: usize) -> Result<Option<TableChange>> {
        self.frozen.next_saved()
    }

    fn unfreeze(&mut self) {
        self.frozen = Frozen::default();
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
