//! EMIT ON WINDOW CLOSE for whatever is not an aggregate: rows wait until they are final.
//!
//! Rule: out = the rows whose time is below the input's bound for the time column. No later delta
//! is below that bound, so each of them comes out once, with the weight it has ended up with.
//!
//! ```text
//!   step 1   + (10, 'a')   + (20, 'b')    bound 10     —
//!   step 2   - (20, 'b')   + (20, 'c')    bound 15     + (10, 'a')
//!   step 3                                bound 21     + (20, 'c')
//! ```
//!
//! State: the rows that wait, as a multiset, and an order of them by time; state table 0. A
//! retraction of a row that is out already has its time below the bound and goes out with the
//! same step. A row without a time would wait for ever: it goes to the errors.
//!
//! Bounds: the time column keeps its bound, because nothing below it waits; the others have none,
//! because rows of any age may wait.

use std::collections::{BTreeSet, VecDeque};

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::{is_not_null, is_null};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};

use crate::base::EventTime;
use crate::base::limits::CHUNK_ROWS_MAX;
use crate::delta::{DeltaBatch, arrow_error};
use crate::error::{Error, Result};
use crate::operator::evaluate::{Failure, report};
use crate::operator::rows::{Removal, RowStore, micros, weights_of};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const ROWS_TABLE: u32 = 0;

/// What a [`Gate`] waits for.
#[derive(Clone, Debug)]
pub struct GateSpec {
    pub input: SchemaRef,
    /// The column whose time must be final: a timestamp in microseconds with a bound.
    pub time_column: usize,
}

/// Holds rows back until their time is final.
pub struct Gate {
    spec: GateSpec,
    rows: RowStore,
    /// The waiting rows' slots by time.
    order: BTreeSet<(i64, u32)>,
    /// What the checkpoint under way has not taken yet.
    frozen: VecDeque<TableChange>,
}

impl Gate {
    /// # Errors
    /// Internal, when the time column is not one; 0A000, when a column's type cannot be kept.
    pub fn new(spec: GateSpec) -> Result<Gate> {
        let field = spec.input.field(spec.time_column);
        if !matches!(
            field.data_type(),
            DataType::Timestamp(TimeUnit::Microsecond, _)
        ) {
            let (name, data_type) = (field.name(), field.data_type());
            return Err(Error::internal(format!(
                "rows cannot wait for {name} of {data_type}"
            )));
        }
        let rows = RowStore::new(spec.input.clone(), Removal::ByRow)?;
        Ok(Gate {
            spec,
            rows,
            order: BTreeSet::new(),
            frozen: VecDeque::new(),
        })
    }

    /// Rows that wait.
    pub fn rows(&self) -> usize {
        self.rows.rows()
    }

    /// The rows that have a time; the others go to the errors.
    fn timed(&self, batch: DeltaBatch, out: &mut Output) -> Result<DeltaBatch> {
        let times = batch.rows().column(self.spec.time_column);
        if times.null_count() == 0 {
            return Ok(batch);
        }
        let is_missing: BooleanArray = is_null(times).map_err(arrow_error)?;
        let name = self.spec.input.field(self.spec.time_column).name();
        let missing = is_missing.values().set_indices().map(|row| Failure {
            row: u32::try_from(row).expect("a batch has fewer than 2^32 rows"),
            reason: format!("event time \"{name}\" is null"),
        });
        report(&batch, &missing.collect::<Vec<_>>(), out)?;
        batch.filter(&is_not_null(times).map_err(arrow_error)?)
    }

    fn enter(&mut self, times: &ArrayRef, slots: impl Iterator<Item = (u32, u32)>) {
        let times = micros(times);
        self.order
            .extend(slots.map(|(slot, row)| (times.value(row as usize), slot)));
    }

    fn free(&mut self, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let times = micros(&self.rows.gather_column(self.spec.time_column, slots)?);
        for (time, &slot) in times.values().iter().zip(slots) {
            self.order.remove(&(*time, slot));
        }
        self.rows.release(slots);
        self.rows.shrink()?;
        Ok(())
    }
}

impl Operator for Gate {
    fn push(&mut self, port: usize, batch: DeltaBatch, out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "a gate has one input");
        let batch = self.timed(batch, out)?;
        if batch.is_empty() {
            return Ok(());
        }
        let fresh = self.rows.add(&batch, &mut Vec::new())?;
        let times = batch.rows().column(self.spec.time_column);
        self.enter(times, fresh.iter().map(|fresh| (fresh.slot, fresh.row)));
        Ok(())
    }

    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()> {
        let touched = self.rows.take_touched();
        let bound = step.bounds[0].0[self.spec.time_column].unwrap_or(EventTime::MIN);
        let range = self.order.range(..(bound.0, 0));
        let mut going: Vec<u32> = range.map(|&(_, slot)| slot).collect();
        let weighty = going
            .iter()
            .copied()
            .filter(|&slot| self.rows.weight(slot) != 0);
        let weighty: Vec<u32> = weighty.collect();
        for slots in weighty.chunks(CHUNK_ROWS_MAX) {
            let weights: Vec<i64> = slots.iter().map(|&slot| self.rows.weight(slot)).collect();
            out.emit(DeltaBatch::new(
                self.rows.gather(slots)?,
                weights_of(weights),
            ));
        }
        going.extend(
            touched
                .iter()
                .map(|t| t.slot)
                .filter(|&slot| self.rows.weight(slot) == 0),
        );
        going.sort_unstable();
        going.dedup();
        let is_missing =
            |slot: u32| self.rows.weight(slot) < 0 && going.binary_search(&slot).is_err();
        if touched.iter().any(|each| is_missing(each.slot)) {
            return Err(Error::internal("a row was taken away that does not wait"));
        }
        self.free(&going)
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let mut bounds = Bounds::unknown(self.spec.input.fields().len());
        bounds.0[self.spec.time_column] = step.bounds[0].0[self.spec.time_column];
        bounds
    }

    fn state_rows(&self) -> usize {
        self.rows.rows()
    }

    fn state_bytes(&self) -> usize {
        // A B-tree's nodes are two thirds full on average.
        self.rows.bytes() + self.order.len() * size_of::<(i64, u32)>() * 3 / 2
    }

    fn freeze(&mut self, scope: Scope) -> Result<()> {
        self.frozen = self.rows.changes(scope, ROWS_TABLE)?.into();
        Ok(())
    }

    fn thaw(&mut self, _rows: usize) -> Result<Option<TableChange>> {
        Ok(self.frozen.pop_front())
    }

    fn unfreeze(&mut self) {
        self.frozen = VecDeque::new();
    }

    fn restore(&mut self, change: TableChange) -> Result<()> {
        if change.table != ROWS_TABLE {
            let table = change.table;
            return Err(Error::internal(format!(
                "a gate has no state table {table}"
            )));
        }
        let replaced = self.rows.replaced(&change);
        self.free(&replaced)?;
        let rows = self.rows.restore(&change)?;
        let numbers = 0..u32::try_from(change.slots.len()).expect("a block fits u32");
        let slots = change.slots.iter().copied().zip(numbers);
        self.enter(rows.column(self.spec.time_column), slots);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::base::Epoch;
    use crate::delta::notation::{parse, parse_rows, print, print_sorted};
    use crate::delta::{concat, consolidate};

    const HEADER: &str = "t:timestamp a:text";
    const SECOND: i64 = 1_000_000;

    struct Run {
        gate: Gate,
        bound: Option<EventTime>,
        out: Output,
    }

    impl Run {
        fn new() -> Run {
            let spec = GateSpec {
                input: parse(HEADER).schema(),
                time_column: 0,
            };
            Run {
                gate: Gate::new(spec).unwrap(),
                bound: None,
                out: Output::default(),
            }
        }

        /// One step with rows `+ 10 a, …`, in seconds, up to a bound in seconds.
        fn step(&mut self, rows: &str, bound: i64) -> Result<String> {
            self.out = Output::default();
            let lines = rows
                .split(',')
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .map(timed);
            let lines: Vec<String> = lines.collect();
            let schema = self.gate.spec.input.clone();
            let batch = parse_rows(&schema, lines.iter().map(String::as_str));
            self.gate.push(0, batch, &mut self.out)?;
            self.bound = Some(EventTime(bound * SECOND));
            let bounds = vec![Bounds(vec![self.bound, None])];
            let step = Step {
                epoch: Epoch(1),
                clock_micros: 0,
                bounds,
            };
            self.gate.finish(&step, &mut self.out)?;
            assert_eq!(self.gate.bounds(&step), Bounds(vec![self.bound, None]));
            let text: String = self.out.deltas.iter().map(print).collect();
            let text = text.replace("1970-01-01T00:00:", "");
            Ok(text.lines().collect::<Vec<_>>().join(", "))
        }
    }

    fn timed(line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        match words[1] {
            "NULL" => line.to_string(),
            second => format!("{} 1970-01-01T00:00:{second:0>2} {}", words[0], words[2]),
        }
    }

    #[test]
    fn a_row_comes_out_once_and_when_it_is_final() {
        let mut run = Run::new();
        assert_eq!(run.step("+ 20 b, + 10 a, + 10 b", 10).unwrap(), "");
        assert_eq!(
            run.step("- 20 b, + 20 c, +2 10 a, - 10 b", 20).unwrap(),
            "+3 10 a"
        );
        assert_eq!(run.step("", 20).unwrap(), "");
        assert_eq!(run.step("+ 30 d", 21).unwrap(), "+ 20 c");
        assert_eq!(run.gate.rows(), 1);
        // However far time jumps, everything comes out, in the order of its time.
        assert_eq!(run.step("+ 22 e", 99).unwrap(), "+ 22 e, + 30 d");
        assert_eq!(run.gate.rows(), 0);
    }

    #[test]
    fn a_row_that_is_out_can_be_taken_back() {
        let mut run = Run::new();
        assert_eq!(run.step("+ 10 a", 20).unwrap(), "+ 10 a");
        assert_eq!(run.step("- 10 a, + 10 b", 20).unwrap(), "- 10 a, + 10 b");
        assert_eq!(run.gate.rows(), 0);
        assert!(
            run.step("- 30 a", 20).is_err(),
            "of rows that wait only those may leave"
        );
    }

    #[test]
    fn a_row_without_a_time_is_an_error() {
        let mut run = Run::new();
        assert_eq!(run.step("+ NULL a, + 10 b", 20).unwrap(), "+ 10 b");
        let error = &run.out.errors[0];
        assert_eq!(
            (error.reason.as_str(), error.row.as_str()),
            ("event time \"t\" is null", "NULL, a")
        );
        assert_eq!(run.out.counts.rows_failed, 1);
    }

    #[test]
    fn what_comes_out_is_what_is_final_whatever_the_steps_and_restarts() {
        for seed in 0..30 {
            let mut random = Rng::with_seed(seed);
            let mut run = Run::new();
            let schema = run.gate.spec.input.clone();
            let (mut input, mut output) = (Vec::new(), Vec::new());
            let mut checkpoint: Vec<TableChange> = Vec::new();
            let mut held: Vec<String> = Vec::new();
            let mut bound = 0;
            for _ in 0..20 {
                held.retain(|row| row.split(' ').next().unwrap().parse::<i64>().unwrap() >= bound);
                let mut lines = Vec::new();
                for _ in 0..random.usize(..6) {
                    let second = bound + random.i64(0..10);
                    let row = format!("{second:02} {}", ["a", "b"][random.usize(..2)]);
                    lines.push(format!("+ {row}"));
                    held.push(row);
                }
                if !held.is_empty() && random.bool() {
                    let row = held.swap_remove(random.usize(..held.len()));
                    lines.push(format!("- {row}"));
                }
                random.shuffle(&mut lines);
                bound += random.i64(0..3);
                let timed: Vec<String> =
                    lines.iter().map(|line| super::tests::timed(line)).collect();
                input.push(parse_rows(&schema, timed.iter().map(String::as_str)));
                run.step(&lines.join(","), bound).unwrap();
                output.append(&mut run.out.deltas);
                let times = |batch: &DeltaBatch| micros(batch.rows().column(0));
                let all = concat(&schema, &input).unwrap();
                let is_final = times(&all)
                    .iter()
                    .map(|time| Some(time? < bound * SECOND))
                    .collect();
                let expected = consolidate(&all.filter(&is_final).unwrap()).unwrap();
                let output = consolidate(&concat(&schema, &output).unwrap()).unwrap();
                assert_eq!(
                    print_sorted(&output),
                    print_sorted(&expected),
                    "seed {seed}"
                );
                if random.u8(..3) == 0 {
                    let is_first = checkpoint.is_empty();
                    let scope = if is_first { Scope::All } else { Scope::Changed };
                    checkpoint.extend(run.gate.changes(scope).unwrap());
                    run.gate = Gate::new(run.gate.spec.clone()).unwrap();
                    checkpoint
                        .iter()
                        .for_each(|c| run.gate.restore(c.clone()).unwrap());
                }
            }
        }
    }
}
