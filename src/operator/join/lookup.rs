//! The lookup join: to each left row the right rows that are there when it comes, and no others.
//!
//! Rule: a left row meets the right rows of its key as they are at the end of the step's change of
//! the right side. What comes out is never taken back: later changes of the right side are for
//! later left rows. A left join has NULLs where there is nothing to meet.
//!
//! ```text
//!   orders JOIN rates FOR SYSTEM_TIME AS OF PROCTIME() USING (currency)
//!   step 1   rates  + (EUR, 2)     orders + (1, EUR)      + (1, EUR, 2)
//!   step 2   rates  - (EUR, 2)  + (EUR, 3)                nothing
//!   step 3                         orders + (2, EUR)      + (2, EUR, 3)
//! ```
//!
//! State: the right rows, by their key; a row whose key is NULL meets nothing and is not kept.
//! State table: 0 the right rows. Nothing is kept of the left side, whatever its length. Time frees
//! nothing: the right side is as large as its relation.
//!
//! Ports: 0 is the right side and 1 the left one, so that a step's right rows are there before its
//! left rows.
//!
//! Bounds: the left columns have those of the left input, whose rows wait for nothing; each row
//! keeps the watermark that stood before it. The right columns have none.

use arrow::buffer::ScalarBuffer;

use crate::base::limits::CHUNK_ROWS_MAX;
use crate::delta::DeltaBatch;
use crate::error::{Error, Result};
use crate::operator::frozen::Frozen;
use crate::operator::join::equi::free;
use crate::operator::join::pairs::{Joiner, PairWalk, Pairs, Port};
use crate::operator::join::side::Side;
use crate::operator::join::spec::{JoinKind, JoinSpec};
use crate::operator::rows::Removal;
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const RIGHT: usize = 0;
const LEFT: usize = 1;

const RIGHT_TABLE: u32 = 0;

/// One shard of a lookup join.
pub struct Lookup {
    spec: JoinSpec,
    joiner: Joiner,

    right: Side,
    /// What the checkpoint under way has not taken yet.
    frozen: Frozen,
}

impl Lookup {
    /// # Errors
    /// Internal, when the spec contradicts itself, or its left side is not append-only; 0A000, when
    /// a column's type cannot be kept.
    pub fn new(spec: JoinSpec) -> Result<Lookup> {
        spec.check()?;
        if !spec.left_append_only || !spec.times.is_empty() {
            return Err(Error::internal(
                "a lookup join of rows that can be taken back, or by time",
            ));
        }
        let removal = match spec.right_append_only {
            true => Removal::Never,
            false => Removal::ByRow,
        };
        let joiner = Joiner::new(
            spec.left.fields().len(),
            &spec.output,
            spec.residual.as_ref(),
        )?;
        let right = Side::new(
            &spec.right,
            &spec.right_keys,
            spec.null_equality,
            removal,
            None,
            &[],
        )?;
        Ok(Lookup {
            spec,
            joiner,
            right,
            frozen: Frozen::default(),
        })
    }

    fn keep(&mut self, batch: DeltaBatch) -> Result<()> {
        let batch = match self.right.matchable(batch.rows()) {
            Some(is_matchable) => batch.filter(&is_matchable)?,
            None => batch,
        };
        if batch.is_empty() {
            return Ok(());
        }
        let keys = self.right.key_batch(batch.rows())?;
        self.right.add(&batch, &keys).map(drop)
    }

    /// Puts out what left rows meet now, and in a left join those that meet nothing.
    fn look_up(&self, batch: &DeltaBatch, out: &mut Output) -> Result<()> {
        let keys = self
            .right
            .key_batch_at(batch.rows(), &self.spec.left_keys)?;
        let mut is_met = vec![false; batch.len()];
        let mut walk = PairWalk::new(self.right.chains(&keys));
        let mut pairs = Pairs::default();
        while walk.next(&self.right, &mut pairs) {
            self.joiner
                .meet(Port::Left, batch, &self.right, &mut pairs, out)?;
            pairs
                .rows
                .iter()
                .for_each(|&row| is_met[row as usize] = true);
            let joined = self.joiner.joined(Port::Left, batch, &self.right, &pairs)?;
            let before = watermarks(batch, &pairs.rows);
            out.emit(joined.with_watermarks(before));
        }
        if self.spec.kind == JoinKind::Left && is_met.contains(&false) {
            let alone = is_met.iter().map(|is_met| Some(!is_met)).collect();
            let alone = batch.filter(&alone)?;
            for first in (0..alone.len()).step_by(CHUNK_ROWS_MAX) {
                let part = alone.slice(first, CHUNK_ROWS_MAX.min(alone.len() - first));
                let padded = self.joiner.padded(Port::Left, part.rows())?;
                let padded = DeltaBatch::new(padded, part.weights().clone());
                out.emit(padded.with_watermarks(part.watermarks().cloned()));
            }
        }
        Ok(())
    }
}

/// The watermarks before some rows of a batch.
fn watermarks(batch: &DeltaBatch, rows: &[u32]) -> Option<ScalarBuffer<i64>> {
    let watermarks = batch.watermarks()?;
    Some(rows.iter().map(|&row| watermarks[row as usize]).collect())
}

impl Operator for Lookup {
    fn push(&mut self, port: usize, batch: DeltaBatch, out: &mut Output) -> Result<()> {
        match port {
            RIGHT => self.keep(batch),
            LEFT if batch.is_empty() => Ok(()),
            LEFT => self.look_up(&batch, out),
            _ => Err(Error::internal(format!(
                "a lookup join has two inputs, not {port}"
            ))),
        }
    }

    fn finish(&mut self, _step: &Step, _out: &mut Output) -> Result<()> {
        let touched = self.right.rows_mut().take_touched();
        free(&mut self.right, &touched, None)
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let mut bounds = step.bounds[LEFT].clone();
        bounds.0.resize(self.spec.output.fields().len(), None);
        bounds
    }

    fn state_rows(&self) -> usize {
        self.right.rows().rows()
    }

    fn state_bytes(&self) -> usize {
        self.right.bytes() + self.frozen.bytes()
    }

    fn freeze(&mut self, scope: Scope) -> Result<()> {
        self.frozen = Frozen::saved(self.right.changes(scope, RIGHT_TABLE)?);
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
            RIGHT_TABLE => self.right.restore(&change),
            other => Err(Error::internal(format!(
                "a lookup join has no state table {other}"
            ))),
        }
    }
}
