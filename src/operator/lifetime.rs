//! Rows of an input that only grows, each for so long: `state_ttl` where rows are kept one by one.
//!
//! Rule: out at clock c = the rows that came at a clock later than c − length. A row comes out in
//! the step that it comes in, and is taken back in the first step whose clock is its own plus the
//! length, or later.
//!
//! ```text
//!   length 10    clock 100     + (7, 'a')                + (7, 'a')
//!                      104     + (7, 'b')  + (8, 'c')    + (7, 'b')  + (8, 'c')
//!                      112                               - (7, 'a')
//!                      114     + (9, 'd')                - (7, 'b')  - (8, 'c')  + (9, 'd')
//! ```
//!
//! State: the rows that are out, with the clock of each (state table 0), and the order in which
//! they came: four bytes a row and some for each step. Whoever is above keeps them as well, in an
//! order of its own, and lets go of what is taken back as of anything that is: so that what a
//! join, say, makes of a row leaves with it.
//!
//! Time: the step's clock. The deadline is the first time at which a row leaves.
//!
//! Bounds: rows of any age are taken back, so no column has one.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use crate::base::limits::CHUNK_ROWS_MAX;
use crate::delta::{DeltaBatch, Weights, arrow_error};
use crate::error::{Error, Result};
use crate::operator::frozen::Frozen;
use crate::operator::rows::{Removal, RowStore};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const ROWS_TABLE: u32 = 0;

/// What a [`Lifetime`] lets go.
#[derive(Clone, Debug)]
pub struct LifetimeSpec {
    /// Of an input that never retracts.
    pub input: SchemaRef,
    pub length_micros: i64,
}

/// See the module page.
pub struct Lifetime {
    spec: LifetimeSpec,
    /// The step's input: when it has come is known when the step's clock is.
    input: Vec<DeltaBatch>,
    /// The input's columns, then the clock at which a row came.
    rows: RowStore,
    /// Slots in the order in which their rows came, and how many came at which clock.
    order: VecDeque<u32>,
    arrivals: VecDeque<Arrival>,
    /// State has been put back, and the order has not been made of it yet.
    is_restored: bool,
    /// What the checkpoint under way has not taken yet.
    frozen: Frozen,
}

/// Rows that came in one step.
struct Arrival {
    clock_micros: i64,
    rows: usize,
}

impl Lifetime {
    /// # Errors
    /// Internal, when the length is none; 0A000, when a column's type cannot be kept.
    pub fn new(spec: LifetimeSpec) -> Result<Lifetime> {
        if spec.length_micros <= 0 {
            return Err(Error::internal("rows stay for some time"));
        }
        let mut fields: Vec<_> = spec.input.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("came_at", DataType::Int64, false)));
        let kept = Arc::new(Schema::new(fields));
        Ok(Lifetime {
            rows: RowStore::new(kept, Removal::ByOwner)?,
            spec,
            input: Vec::new(),
            order: VecDeque::new(),
            arrivals: VecDeque::new(),
            is_restored: false,
            frozen: Frozen::default(),
        })
    }

    /// Takes back the rows whose time is over.
    fn let_go(&mut self, clock_micros: i64, out: &mut Output) -> Result<()> {
        let mut count = 0;
        let length = self.spec.length_micros;
        let is_over =
            |arrival: &Arrival| arrival.clock_micros.saturating_add(length) <= clock_micros;
        while let Some(arrival) = self.arrivals.pop_front_if(|first| is_over(first)) {
            count += arrival.rows;
        }
        if count == 0 {
            return Ok(());
        }
        let due: Vec<u32> = self.order.drain(..count).collect();
        let width = self.spec.input.fields().len();
        let columns: Vec<usize> = (0..width).collect();
        for slots in due.chunks(CHUNK_ROWS_MAX) {
            let weights: Vec<i64> = slots.iter().map(|&slot| -self.rows.weight(slot)).collect();
            let rows = self.rows.gather(slots)?.project(&columns);
            let rows = rows.and_then(|rows| rows.with_schema(self.spec.input.clone()));
            let rows = rows.map_err(arrow_error)?;
            out.emit(DeltaBatch::new(rows, Weights::Each(weights.into())));
        }
        out.counts.rows_evicted += count as u64;
        self.rows.release(&due);
        if self.rows.shrink()? {
            (self.order, self.arrivals) = (VecDeque::new(), VecDeque::new());
        }
        Ok(())
    }

    /// Lets rows out and keeps them.
    fn let_in(&mut self, batch: DeltaBatch, clock_micros: i64, out: &mut Output) -> Result<()> {
        if !batch.is_append_only() {
            return Err(Error::internal(
                "a retraction in an input that is append-only",
            ));
        }
        let batch = batch.without_zeros()?;
        if batch.is_empty() {
            return Ok(());
        }
        let clocks: ArrayRef = Arc::new(Int64Array::from(vec![clock_micros; batch.len()]));
        let mut columns = batch.rows().columns().to_vec();
        columns.push(clocks);
        let slots = self.rows.put(&columns, &batch.explicit_weights())?;
        self.order.extend(slots);
        match self.arrivals.back_mut() {
            Some(last) if last.clock_micros == clock_micros => last.rows += batch.len(),
            _ => self.arrivals.push_back(Arrival {
                clock_micros,
                rows: batch.len(),
            }),
        }
        out.emit(batch);
        Ok(())
    }

    /// Derives the order of rows that have been put back.
    fn rebuild(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_restored) {
            return Ok(());
        }
        let slots = 0..u32::try_from(self.rows.slots()).expect("slots fit u32");
        let slots: Vec<u32> = slots.filter(|&slot| self.rows.weight(slot) != 0).collect();
        let clocks = self.clocks(&slots)?;
        let clocks = clocks.as_primitive::<Int64Type>().values();
        let mut order: Vec<(i64, u32)> = clocks.iter().copied().zip(slots).collect();
        order.sort_unstable();
        let arrivals = order.chunk_by(|(a, _), (b, _)| a == b);
        let arrival = |same: &[(i64, u32)]| Arrival {
            clock_micros: same[0].0,
            rows: same.len(),
        };
        self.arrivals = arrivals.map(arrival).collect();
        self.order = order.into_iter().map(|(_, slot)| slot).collect();
        Ok(())
    }

    /// When rows came.
    fn clocks(&self, slots: &[u32]) -> Result<ArrayRef> {
        let column = self.spec.input.fields().len();
        match slots.is_empty() {
            true => Ok(RecordBatch::new_empty(self.rows.schema().clone())
                .column(column)
                .clone()),
            false => self.rows.gather_column(column, slots),
        }
    }
}

impl Operator for Lifetime {
    fn push(&mut self, port: usize, batch: DeltaBatch, _out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "rows that leave have one input");
        if !batch.is_empty() {
            self.input.push(batch);
        }
        Ok(())
    }

    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()> {
        self.rebuild()?;
        self.let_go(step.clock_micros, out)?;
        for batch in std::mem::take(&mut self.input) {
            self.let_in(batch, step.clock_micros, out)?;
        }
        Ok(())
    }

    fn bounds(&self, _step: &Step) -> Bounds {
        Bounds::unknown(self.spec.input.fields().len())
    }

    fn state_rows(&self) -> usize {
        self.rows.rows()
    }

    fn state_bytes(&self) -> usize {
        self.rows.bytes()
            + self.order.capacity() * size_of::<u32>()
            + self.arrivals.capacity() * size_of::<Arrival>()
            + self.frozen.bytes()
    }

    fn deadline(&self) -> Option<i64> {
        if self.is_restored {
            // The next step says.
            return Some(i64::MIN);
        }
        let first = self.arrivals.front()?;
        Some(first.clock_micros.saturating_add(self.spec.length_micros))
    }

    fn freeze(&mut self, scope: Scope) -> Result<()> {
        self.frozen = Frozen::saved(self.rows.changes(scope, ROWS_TABLE)?);
        Ok(())
    }

    fn thaw(&mut self, _rows: usize) -> Result<Option<TableChange>> {
        self.frozen.next_saved()
    }

    fn unfreeze(&mut self) {
        self.frozen = Frozen::default();
    }

    fn restore(&mut self, change: TableChange) -> Result<()> {
        if change.table != ROWS_TABLE {
            return Err(Error::internal(format!(
                "rows that leave have no state table {}",
                change.table
            )));
        }
        self.is_restored = true;
        let replaced = self.rows.replaced(&change);
        self.rows.release(&replaced);
        self.rows.restore(&change).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::base::Epoch;
    use crate::delta::notation::{parse, parse_rows, print_sorted};
    use crate::delta::{concat, consolidate};

    const HEADER: &str = "a:bigint b:text";

    struct Run {
        lifetime: Lifetime,
        blocks: Vec<TableChange>,
    }

    impl Run {
        fn new() -> Run {
            let spec = LifetimeSpec {
                input: parse(HEADER).schema(),
                length_micros: 10,
            };
            Run {
                lifetime: Lifetime::new(spec).unwrap(),
                blocks: Vec::new(),
            }
        }

        fn step(&mut self, rows: &[String], clock_micros: i64) -> (Vec<DeltaBatch>, u64) {
            let mut out = Output::default();
            let schema = self.lifetime.spec.input.clone();
            let batch = parse_rows(&schema, rows.iter().map(String::as_str));
            self.lifetime.push(0, batch, &mut out).unwrap();
            let step = Step {
                epoch: Epoch(1),
                clock_micros,
                bounds: vec![Bounds::unknown(2)],
            };
            self.lifetime.finish(&step, &mut out).unwrap();
            (out.deltas, out.counts.rows_evicted)
        }

        fn text(&mut self, rows: &[&str], clock_micros: i64) -> String {
            let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
            let (deltas, _) = self.step(&rows, clock_micros);
            let schema = self.lifetime.spec.input.clone();
            print_sorted(&concat(&schema, &deltas).unwrap()).replace('\n', ";")
        }

        fn restart(&mut self) {
            let scope = match self.blocks.is_empty() {
                true => Scope::All,
                false => Scope::Changed,
            };
            self.blocks.extend(self.lifetime.changes(scope).unwrap());
            self.lifetime = Lifetime::new(self.lifetime.spec.clone()).unwrap();
            for block in &self.blocks {
                self.lifetime.restore(block.clone()).unwrap();
            }
        }
    }

    #[test]
    fn a_row_leaves_when_its_time_is_over() {
        let mut run = Run::new();
        assert_eq!(run.text(&["+ 7 a"], 100), "+ 7 a;");
        assert_eq!(run.text(&["+ 7 b", "+ 8 c"], 104), "+ 7 b;+ 8 c;");
        assert_eq!(run.lifetime.deadline(), Some(110));
        assert_eq!(run.text(&[], 109), "");
        assert_eq!(run.text(&[], 112), "- 7 a;");
        assert_eq!(run.text(&["+ 9 d"], 114), "+ 9 d;- 7 b;- 8 c;");
        assert_eq!(run.lifetime.state_rows(), 1);
        assert_eq!(run.text(&[], i64::MAX), "- 9 d;");
        assert_eq!(
            (run.lifetime.deadline(), run.lifetime.state_rows()),
            (None, 0)
        );
    }

    #[test]
    fn what_can_be_taken_back_has_no_lifetime() {
        let mut run = Run::new();
        let mut out = Output::default();
        let batch = parse(&format!("{HEADER}\n- 1 a"));
        run.lifetime.push(0, batch, &mut out).unwrap();
        let step = Step {
            epoch: Epoch(1),
            clock_micros: 0,
            bounds: vec![Bounds::unknown(2)],
        };
        assert!(run.lifetime.finish(&step, &mut out).is_err());
    }

    /// What is out is what came less than the length ago, whatever the steps and restarts.
    #[test]
    fn what_is_out_came_less_than_the_length_ago() {
        for seed in 0..40 {
            let mut random = Rng::with_seed(seed);
            let mut run = Run::new();
            let schema = run.lifetime.spec.input.clone();
            let (mut came, mut output) = (Vec::new(), Vec::new());
            let (mut clock, mut evicted) = (0, 0);
            for _ in 0..40 {
                clock += random.i64(0..6);
                let rows = (0..random.usize(..5)).map(|_| match random.u8(..8) {
                    0 => "+2 NULL x".to_string(),
                    _ => format!(
                        "+ {} {}",
                        random.i64(0..3),
                        ["x", "NULL"][random.usize(..2)]
                    ),
                });
                let rows: Vec<String> = rows.collect();
                came.extend(rows.iter().map(|row| (clock, row.clone())));
                let (deltas, count) = run.step(&rows, clock);
                output.extend(deltas);
                evicted += count;
                let alive = came.iter().filter(|(came, _)| came + 10 > clock);
                let alive: Vec<&str> = alive.map(|(_, row)| row.as_str()).collect();
                let found = consolidate(&concat(&schema, &output).unwrap()).unwrap();
                let expected = consolidate(&parse_rows(&schema, alive.iter().copied())).unwrap();
                assert_eq!(
                    print_sorted(&found),
                    print_sorted(&expected),
                    "seed {seed}, clock {clock}"
                );
                assert_eq!(evicted as usize, came.len() - alive.len(), "seed {seed}");
                if random.u8(..3) == 0 {
                    run.restart();
                }
            }
            run.step(&[], clock + 10);
            assert_eq!(run.lifetime.state_rows(), 0, "seed {seed}");
        }
    }
}
