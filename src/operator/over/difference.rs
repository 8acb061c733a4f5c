//! What goes and what comes of the rows that a step may have moved: old values against new ones.
//!
//! Both sides of a region are gone through side by side, a chunk of each at a time. A row that is
//! in both is put out where a value is another one; one that is in one of them goes, or comes.
//!
//! ```text
//!   old  b 20 2 · c 30 3           new  b 20 2 · k 25 3 · c 30 4
//!   out                                 + k 25 3     - c 30 3   + c 30 4
//! ```

use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat, interleave};

use crate::base::limits::CHUNK_ROWS_MAX;
use crate::delta::{DeltaBatch, arrow_error, consolidate, not_distinct};
use crate::error::Result;
use crate::operator::Output;
use crate::operator::evaluate::{Failure, report};
use crate::operator::over::affected::{Both, Region};
use crate::operator::over::evaluation::{Evaluation, Source};
use crate::operator::over::frames::{Order, Place};
use crate::operator::over::partitions::{Partitions, batch};
use crate::operator::over::spec::OverSpec;
use crate::operator::rows::weights_of;

/// One side of a region, a chunk at a time.
struct Side<'a> {
    order: Order<'a>,
    left: Range<i64>,
    chunk: Evaluation,
    /// The next row of the chunk.
    at: usize,
    /// The slot of the row before it.
    last: Option<u32>,
}

/// Rows that are put out: which of the old chunk or the new one, and how often.
#[derive(Default)]
struct Picks {
    rows: Vec<(usize, usize)>,
    weights: Vec<i64>,
    /// Rows of the new chunk that have no value, and had one or were not there.
    failed: Vec<usize>,
}

/// Rows that are to be put out, of however many partitions: what is done once for a batch is not
/// done for each of them.
#[derive(Default)]
pub(super) struct Emission {
    slots: Vec<u32>,
    weights: Vec<i64>,
    /// For each call its values, piece by piece.
    columns: Vec<Vec<ArrayRef>>,
    has_copies: bool,
}

impl Emission {
    /// Puts out what there is.
    pub fn put_out(
        &mut self,
        spec: &OverSpec,
        partitions: &Partitions,
        out: &mut Output,
    ) -> Result<()> {
        let emission = std::mem::take(self);
        if emission.slots.is_empty() {
            return Ok(());
        }
        let rows = partitions.gather(&emission.slots)?;
        let mut columns = rows.columns().to_vec();
        for parts in &emission.columns {
            let parts: Vec<&dyn Array> = parts.iter().map(ArrayRef::as_ref).collect();
            columns.push(concat(&parts).map_err(arrow_error)?);
        }
        let rows = batch(spec.output.clone(), columns, emission.slots.len())?;
        let delta = DeltaBatch::new(rows, weights_of(emission.weights));
        out.emit(match emission.has_copies {
            true => consolidate(&delta)?,
            false => delta,
        });
        Ok(())
    }
}

impl<'a> Side<'a> {
    fn new(order: Order<'a>, left: Range<i64>) -> Side<'a> {
        let chunk = Evaluation {
            places: Vec::new(),
            columns: Vec::new(),
            failures: Vec::new(),
        };
        Side {
            order,
            left,
            chunk,
            at: 0,
            last: None,
        }
    }

    fn is_read(&self) -> bool {
        self.at == self.chunk.places.len()
    }

    /// The next chunk, where this one is read and there is one.
    fn refill(&mut self, sources: &[Source]) -> Result<()> {
        if !self.is_read() || self.left.is_empty() {
            return Ok(());
        }
        let (chunk, next) = self.order.evaluate(self.left.clone(), sources)?;
        self.chunk = chunk;
        self.left.start = next;
        self.at = 0;
        Ok(())
    }

    fn peek(&self) -> Option<&(Place, i64)> {
        self.chunk.places.get(self.at)
    }

    fn take(&mut self, slot: u32) -> usize {
        self.last = Some(slot);
        self.at += 1;
        self.at - 1
    }

    fn has_failed(&self, row: usize) -> bool {
        let failures = &self.chunk.failures;
        !failures.is_empty() && failures.binary_search_by_key(&row, |(row, _)| *row).is_ok()
    }
}

impl Both<'_> {
    /// Puts out what differs in a region, when there is enough of it.
    pub fn put_out(
        &self,
        region: &Region,
        emission: &mut Emission,
        out: &mut Output,
    ) -> Result<()> {
        let mut old = Side::new(self.old, region.old.clone());
        let mut new = Side::new(self.new, region.new.clone());
        loop {
            // What is read is put out before it is gone.
            let mut picks = Picks::default();
            old.refill(self.sources)?;
            new.refill(self.sources)?;
            if old.is_read() && new.is_read() {
                return Ok(());
            }
            self.compare(&mut old, &mut new, &mut picks)?;
            self.report_failures(&new, &picks, out)?;
            if !picks.rows.is_empty() {
                self.collect(&old, &new, &picks, emission)?;
            }
            if emission.slots.len() >= CHUNK_ROWS_MAX {
                emission.put_out(self.new.spec, self.new.partitions, out)?;
            }
        }
    }

    /// Goes through both chunks until one is read and has more to come.
    fn compare(&self, old: &mut Side<'_>, new: &mut Side<'_>, picks: &mut Picks) -> Result<()> {
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        let mut pair_weights: Vec<(i64, i64)> = Vec::new();
        let rows = self.new.partitions.rows();
        loop {
            let was = old
                .peek()
                .map(|(place, copies)| (place.entry.slot, *copies));
            let is = new
                .peek()
                .map(|(place, copies)| (place.entry.slot, *copies));
            match (was, is) {
                (None, _) if !old.left.is_empty() => break,
                (_, None) if !new.left.is_empty() => break,
                (None, None) => break,
                (Some((slot, was)), Some((other, is))) if slot == other => {
                    pairs.push((old.take(slot), new.take(slot)));
                    pair_weights.push((was, is));
                }
                (Some((slot, copies)), other) => {
                    let goes = rows.weight(slot) == 0 || old.last == Some(slot);
                    match other {
                        Some((fresh, comes)) if !goes => {
                            let row = new.take(fresh);
                            picks.come(new, row, comes, false);
                        }
                        _ => {
                            let row = old.take(slot);
                            picks.go(old, row, copies);
                        }
                    }
                }
                (None, Some((slot, copies))) => {
                    let row = new.take(slot);
                    picks.come(new, row, copies, false);
                }
            }
        }
        let is_same = same(&old.chunk.columns, &new.chunk.columns, &pairs)?;
        for (at, (&(was_row, is_row), &(was, is))) in pairs.iter().zip(&pair_weights).enumerate() {
            let failed = (old.has_failed(was_row), new.has_failed(is_row));
            if is_same.value(at) && failed == (false, false) {
                if was != is {
                    picks.come(new, is_row, is - was, false);
                }
                continue;
            }
            picks.go(old, was_row, was);
            picks.come(new, is_row, is, failed.0);
        }
        Ok(())
    }

    fn collect(
        &self,
        old: &Side<'_>,
        new: &Side<'_>,
        picks: &Picks,
        emission: &mut Emission,
    ) -> Result<()> {
        let chunks = [&old.chunk, &new.chunk];
        let slot = |&(side, row): &(usize, usize)| chunks[side].places[row].0.entry.slot;
        emission.slots.extend(picks.rows.iter().map(slot));
        emission.weights.extend_from_slice(&picks.weights);
        // Copies of a row may take each other's places.
        emission.has_copies |= chunks.iter().any(|chunk| has_copies(&chunk.places));
        emission.columns.resize_with(self.sources.len(), Vec::new);
        let mut numbered = picks.rows.iter().enumerate();
        let is_whole = picks.rows.len() == new.chunk.places.len()
            && numbered.all(|(row, pick)| *pick == (1, row));
        for (at, parts) in emission.columns.iter_mut().enumerate() {
            let of = |side: usize| chunks[side].columns.get(at);
            parts.push(match of(1).filter(|_| is_whole) {
                Some(column) => column.clone(),
                None => pick([of(0), of(1)], &picks.rows)?,
            });
        }
        Ok(())
    }

    fn report_failures(&self, new: &Side<'_>, picks: &Picks, out: &mut Output) -> Result<()> {
        if picks.failed.is_empty() {
            return Ok(());
        }
        let places = picks.failed.iter().map(|&row| &new.chunk.places[row]);
        let slots: Vec<u32> = places.clone().map(|(place, _)| place.entry.slot).collect();
        let weights: Vec<i64> = places.map(|(_, copies)| *copies).collect();
        let rows = DeltaBatch::new(self.new.partitions.gather(&slots)?, weights_of(weights));
        let reason = |row: &usize| {
            let failures = &new.chunk.failures;
            let found = failures.binary_search_by_key(row, |(row, _)| *row);
            failures[found.expect("it has failed")].1.clone()
        };
        let failures = picks.failed.iter().zip(0..).map(|(row, number)| Failure {
            row: number,
            reason: reason(row),
        });
        report(&rows, &failures.collect::<Vec<_>>(), out)
    }
}

impl Picks {
    /// A row of the old chunk goes, if it was out.
    fn go(&mut self, old: &Side<'_>, row: usize, copies: i64) {
        if !old.has_failed(row) {
            self.rows.push((0, row));
            self.weights.push(-copies);
        }
    }

    /// A row of the new chunk comes, if it has values.
    fn come(&mut self, new: &Side<'_>, row: usize, copies: i64, had_failed: bool) {
        if !new.has_failed(row) {
            self.rows.push((1, row));
            self.weights.push(copies);
        } else if !had_failed {
            self.failed.push(row);
        }
    }
}

/// Whether some row is there more than once.
fn has_copies(places: &[(Place, i64)]) -> bool {
    let slot = |at: usize| places[at].0.entry.slot;
    (1..places.len()).any(|at| slot(at - 1) == slot(at))
}

/// Whether the values of pairs of rows are the same in all columns.
fn same(old: &[ArrayRef], new: &[ArrayRef], pairs: &[(usize, usize)]) -> Result<BooleanBuffer> {
    let mut is_same = BooleanBuffer::new_set(pairs.len());
    if pairs.is_empty() {
        return Ok(is_same);
    }
    let rows = |side: fn(&(usize, usize)) -> usize| -> Vec<(usize, usize)> {
        pairs.iter().map(|pair| (0, side(pair))).collect()
    };
    let (old_rows, new_rows) = (rows(|pair| pair.0), rows(|pair| pair.1));
    for (old, new) in old.iter().zip(new) {
        let old = pick([Some(old), None], &old_rows)?;
        let new = pick([Some(new), None], &new_rows)?;
        is_same = &is_same & &not_distinct(&old, &new)?;
    }
    Ok(is_same)
}

/// Rows of two columns, of which a missing one has none.
fn pick(columns: [Option<&ArrayRef>; 2], rows: &[(usize, usize)]) -> Result<ArrayRef> {
    let known = columns[0].or(columns[1]).expect("a row is of one of them");
    let sources = columns.map(|column| column.unwrap_or(known).as_ref());
    let sources: [&dyn Array; 2] = sources;
    interleave(&sources, rows).map_err(arrow_error)
}
