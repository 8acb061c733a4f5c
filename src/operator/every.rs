//! EMIT EVERY: changes come out at multiples of an interval of the clock, merged.
//!
//! Rule: changes wait for the next multiple of the interval that is an interval or more after the
//! last firing; the first step whose clock is there fires. What comes out then is the sum of all
//! changes since, those of the step itself included; what has cancelled in between is not there.
//! A step that is late by a quarter of the interval at most counts from when it was due, so that
//! the next one is not put off; any other, such as the first one after a quiet time, from its own
//! clock: no two are within three quarters of an interval. It is the clock alone that decides, and
//! not what has changed: all shards of a view fire in the same step.
//!
//! ```text
//!   every 1 s
//!   clock 0.4     + (7, 1)                        + (7, 1)            at once; the next is at 2
//!   clock 0.8     - (7, 1)    + (7, 2)            —
//!   clock 1.1     - (7, 2)    + (7, 3)            —
//!   clock 2.1                                     - (7, 1) + (7, 3)   the next is at 3
//!   clock 2.3     - (7, 3)    + (7, 4)            —
//!   clock 2.4     - (7, 4)    + (7, 3)            —                   no step at 3: nothing waits
//!   clock 5.3     - (7, 3)    + (7, 5)            - (7, 3) + (7, 5)   the next is at 7
//! ```
//!
//! State: the changes that wait, as a multiset of rows (table 0), and when the next firing may be,
//! whether it is waited for, and which bounds held at the last step and at the last firing (table
//! 1).
//!
//! Time: the clock is the step's, which the journal keeps, so that a replay fires where the first
//! run did. While something waits the operator asks for a step when it may fire. Steps of a view
//! that is being built all fire: nobody reads it yet.
//!
//! Bounds: those of the input as they were at the last firing; what came before has come out.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use crate::base::EventTime;
use crate::base::limits::CHUNK_ROWS_MAX;
use crate::delta::{DeltaBatch, arrow_error};
use crate::error::{Error, Result, SqlState};
use crate::operator::frozen::Frozen;
use crate::operator::rows::{Removal, RowStore, weights_of};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const ROWS_TABLE: u32 = 0;
const FIRED_TABLE: u32 = 1;

/// A step that is late by so many parts of the interval is in time: under load steps take some ten
/// milliseconds, and few intervals are as short.
const TIMELY_PART: i64 = 4;

/// What an [`Every`] does.
#[derive(Clone, Debug)]
pub struct EverySpec {
    pub input: SchemaRef,
    pub interval_micros: i64,
    /// The input never retracts: nothing can cancel.
    pub is_append_only: bool,
}

/// Holds changes back until the next multiple of an interval.
pub struct Every {
    spec: EverySpec,
    rows: RowStore,
    /// Every step fires.
    is_building: bool,
    /// What the step has brought.
    incoming: Vec<DeltaBatch>,
    /// The clock at which the next firing may be: a multiple of the interval.
    next: i64,
    /// Those of the input at the last step, and at the last firing.
    bounds: Bounds,
    fired: Bounds,
    /// There is something that a firing would put out.
    is_waiting: bool,
    /// What the checkpoint under way has not taken yet.
    frozen: Frozen,
}

impl Every {
    /// # Errors
    /// Internal, when the interval is not positive; 0A000, when a column's type cannot be kept.
    pub fn new(spec: EverySpec) -> Result<Every> {
        if spec.interval_micros <= 0 {
            return Err(Error::internal("changes come out every so often"));
        }
        let removal = match spec.is_append_only {
            true => Removal::Never,
            false => Removal::ByRow,
        };
        let width = spec.input.fields().len();
        Ok(Every {
            rows: RowStore::new(spec.input.clone(), removal)?,
            spec,
            is_building: false,
            incoming: Vec::new(),
            next: i64::MIN,
            bounds: Bounds::unknown(width),
            fired: Bounds::unknown(width),
            is_waiting: false,
            frozen: Frozen::default(),
        })
    }

    /// Adds what has come to what waits; what has cancelled goes.
    fn wait(&mut self) -> Result<()> {
        let mut slots = Vec::new();
        for batch in std::mem::take(&mut self.incoming) {
            self.rows.add(&batch, &mut slots)?;
        }
        let touched = self.rows.take_touched();
        let gone = touched.iter().map(|touched| touched.slot);
        let gone: Vec<u32> = gone.filter(|&slot| self.rows.weight(slot) == 0).collect();
        self.rows.release(&gone);
        self.rows.shrink()?;
        Ok(())
    }

    /// When the firing after one at a clock may be.
    fn next_after(&self, clock: i64) -> i64 {
        let interval = self.spec.interval_micros;
        let is_timely = clock.saturating_sub(self.next) <= interval / TIMELY_PART;
        let fired_at = if is_timely { self.next } else { clock };
        let least = fired_at.saturating_add(interval);
        match least.rem_euclid(interval) {
            0 => least,
            past => least.saturating_add(interval - past),
        }
    }

    /// Puts out everything.
    fn fire(&mut self, out: &mut Output) -> Result<()> {
        if self.rows.rows() == 0 {
            self.incoming.drain(..).for_each(|batch| out.emit(batch));
            return Ok(());
        }
        self.wait()?;
        let slots = 0..u32::try_from(self.rows.slots()).expect("slots fit u32");
        let live: Vec<u32> = slots.filter(|&slot| self.rows.weight(slot) != 0).collect();
        for slots in live.chunks(CHUNK_ROWS_MAX) {
            let weights = slots.iter().map(|&slot| self.rows.weight(slot)).collect();
            let rows = self.rows.gather(slots)?;
            out.emit(DeltaBatch::new(rows, weights_of(weights)));
        }
        self.rows.release(&live);
        self.rows.shrink()?;
        Ok(())
    }

    /// The one row of table 1.
    fn save(&self) -> Result<TableChange> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![self.next])),
            Arc::new(BooleanArray::from(vec![self.is_waiting])),
        ];
        for bounds in [&self.bounds, &self.fired] {
            let bounds = bounds
                .0
                .iter()
                .map(|bound| bound.map(|EventTime(time)| time));
            columns.extend(
                bounds.map(|bound| -> ArrayRef { Arc::new(Int64Array::from(vec![bound])) }),
            );
        }
        let fields = columns.iter().enumerate().map(|(at, column)| {
            let name = match at {
                0 => "fired_at".to_string(),
                at => format!("column{at}"),
            };
            Field::new(name, column.data_type().clone(), true)
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(TableChange {
            table: FIRED_TABLE,
            slots: vec![0],
            rows: RecordBatch::try_new(schema, columns).map_err(arrow_error)?,
            freed: vec![],
        })
    }

    fn load(&mut self, rows: &RecordBatch) -> Result<()> {
        let width = self.spec.input.fields().len();
        let is_ours = rows.num_rows() == 1
            && rows.num_columns() == 2 + 2 * width
            && rows.columns().iter().enumerate().all(|(at, column)| {
                let expected = if at == 1 {
                    DataType::Boolean
                } else {
                    DataType::Int64
                };
                *column.data_type() == expected
            });
        if !is_ours {
            let message = "a checkpoint's row is not that of this EMIT EVERY";
            return Err(Error::new(SqlState::DATA_CORRUPTED, message));
        }
        self.next = rows.column(0).as_primitive::<Int64Type>().value(0);
        self.is_waiting = rows.column(1).as_boolean().value(0);
        let bound = |at: usize| {
            let column = rows.column(at).as_primitive::<Int64Type>();
            column.is_valid(0).then(|| EventTime(column.value(0)))
        };
        self.bounds = Bounds((2..2 + width).map(bound).collect());
        self.fired = Bounds((2 + width..2 + 2 * width).map(bound).collect());
        Ok(())
    }
}

impl Operator for Every {
    fn push(&mut self, port: usize, batch: DeltaBatch, _out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "EMIT EVERY has one input");
        let batch = batch.without_zeros()?;
        if !batch.is_empty() {
            self.incoming.push(batch);
        }
        Ok(())
    }

    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()> {
        self.bounds = step.bounds[0].clone();
        let is_due = step.clock_micros >= self.next;
        if is_due {
            self.next = self.next_after(step.clock_micros);
        }
        match is_due || self.is_building {
            true => {
                self.fire(out)?;
                self.fired = self.bounds.clone();
            }
            false => self.wait()?,
        }
        // Time that has passed is told as well: windows above close by it.
        self.is_waiting = self.rows.rows() > 0 || self.bounds != self.fired;
        Ok(())
    }

    fn bounds(&self, _step: &Step) -> Bounds {
        self.fired.clone()
    }

    fn deadline(&self) -> Option<i64> {
        self.is_waiting.then_some(self.next)
    }

    fn set_building(&mut self, is_building: bool) {
        self.is_building = is_building;
    }

    fn state_rows(&self) -> usize {
        self.rows.rows()
    }

    fn state_bytes(&self) -> usize {
        self.rows.bytes() + self.frozen.bytes()
    }

    fn freeze(&mut self, scope: Scope) -> Result<()> {
        self.frozen = Frozen::saved(self.rows.changes(scope, ROWS_TABLE)?);
        self.frozen.keep(self.save()?);
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
            FIRED_TABLE => self.load(&change.rows),
            ROWS_TABLE => {
                let replaced = self.rows.replaced(&change);
                self.rows.release(&replaced);
                self.rows.restore(&change).map(|_| ())
            }
            table => Err(Error::internal(format!(
                "EMIT EVERY has no state table {table}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::base::Epoch;
    use crate::delta::notation::{parse, parse_rows, print, print_sorted};
    use crate::delta::{concat, consolidate};

    const HEADER: &str = "t:timestamp a:bigint";

    struct Run {
        every: Every,
        blocks: Vec<TableChange>,
        out: Output,
    }

    impl Run {
        fn new(is_append_only: bool) -> Run {
            let spec = EverySpec {
                input: parse(HEADER).schema(),
                interval_micros: 1_000,
                is_append_only,
            };
            Run {
                every: Every::new(spec).unwrap(),
                blocks: Vec::new(),
                out: Output::default(),
            }
        }

        /// A step with rows such as `+ 7, - 8` at a clock, after which the time column is bounded
        /// there.
        fn step(&mut self, rows: &str, clock_micros: i64, bound: Option<i64>) -> String {
            self.out = Output::default();
            let lines = rows.split(',').map(str::trim).filter(|row| !row.is_empty());
            let timed = |line: &str| {
                let (weight, value) = line.split_once(' ').unwrap();
                format!("{weight} 1970-01-01T00:00:00 {value}")
            };
            let lines: Vec<String> = lines.map(timed).collect();
            let schema = self.every.spec.input.clone();
            let batch = parse_rows(&schema, lines.iter().map(String::as_str));
            self.every.push(0, batch, &mut self.out).unwrap();
            let step = Step {
                epoch: Epoch(1),
                clock_micros,
                bounds: vec![Bounds(vec![bound.map(EventTime), None])],
            };
            self.every.finish(&step, &mut self.out).unwrap();
            let text: String = self.out.deltas.iter().map(print).collect();
            let text = text.replace("1970-01-01T00:00:00 ", "");
            let lines: Vec<&str> = text.lines().collect();
            lines.join(", ")
        }

        fn restart(&mut self) {
            let scope = match self.blocks.is_empty() {
                true => Scope::All,
                false => Scope::Changed,
            };
            self.blocks.extend(self.every.changes(scope).unwrap());
            self.every = Every::new(self.every.spec.clone()).unwrap();
            for block in &self.blocks {
                self.every.restore(block.clone()).unwrap();
            }
        }
    }

    #[test]
    fn changes_come_out_merged_when_an_interval_has_passed() {
        let mut run = Run::new(false);
        assert_eq!(run.step("+ 1", 5_400, None), "+ 1", "the first step fires");
        assert_eq!(run.step("- 1, + 2", 5_800, None), "");
        assert_eq!(run.every.deadline(), Some(7_000));
        assert_eq!(run.step("- 2, + 3", 6_999, None), "");
        assert_eq!(run.step("", 7_000, None), "- 1, + 3");
        assert_eq!(run.every.state_rows(), 0);
        assert_eq!(run.every.deadline(), None);
        // What has changed back is no change.
        assert_eq!(run.step("- 3, + 4", 7_100, None), "");
        assert_eq!(run.every.deadline(), Some(8_000));
        assert_eq!(run.step("- 4, + 3", 7_200, None), "");
        assert_eq!(run.every.deadline(), None);
        assert_eq!(run.step("", 9_000, None), "");
    }

    #[test]
    fn one_interval_has_one_firing_wherever_it_begins() {
        let mut run = Run::new(true);
        assert_eq!(run.step("+ 1", 5_900, None), "+ 1");
        // Not at 6,000, which is a tenth of an interval later.
        assert_eq!(run.step("+ 2", 6_000, None), "");
        assert_eq!(run.step("", 6_950, None), "");
        // A step that comes a bit late does not put the next one off.
        assert_eq!(run.step("", 7_250, None), "+ 2");
        assert_eq!(run.step("+ 3", 7_400, None), "");
        assert_eq!(run.every.deadline(), Some(8_000));
        assert_eq!(run.step("", 8_000, None), "+ 3");
        // After a quiet time it is at once again.
        assert_eq!(run.step("+ 4", 12_400, None), "+ 4");
        assert_eq!(run.step("+ 5", 13_000, None), "");
        assert_eq!(run.every.deadline(), Some(14_000));
    }

    #[test]
    fn all_shards_fire_in_the_same_step() {
        let mut shards = [Run::new(true), Run::new(true)];
        for clock in [1_300, 1_900, 2_000, 2_700, 3_000, 3_400] {
            for (shard, run) in shards.iter_mut().enumerate() {
                let rows = if shard == 0 || clock > 2_500 {
                    "+ 1"
                } else {
                    ""
                };
                run.step(rows, clock, None);
            }
            let next = shards.each_ref().map(|run| run.every.next);
            assert_eq!(next[0], next[1], "after {clock}");
        }
    }

    #[test]
    fn what_a_checkpoint_has_not_taken_is_accounted() {
        let mut run = Run::new(true);
        run.step("+ 1", 1_000, None);
        let rows: Vec<String> = (0..500).map(|row| format!("+ {row}")).collect();
        run.step(&rows.join(","), 1_100, None);
        let before = run.every.state_bytes();
        run.every.freeze(Scope::All).unwrap();
        assert!(run.every.state_bytes() >= before + 500 * 16);
        while run.every.thaw(10).unwrap().is_some() {}
        assert_eq!(run.every.state_bytes(), before);
        run.every.freeze(Scope::All).unwrap();
        run.every.unfreeze();
        assert_eq!(run.every.state_bytes(), before);
    }

    #[test]
    fn time_that_passes_is_told_with_the_next_firing() {
        let mut run = Run::new(true);
        let bound = |run: &Run| {
            let step = Step {
                epoch: Epoch(1),
                clock_micros: 0,
                bounds: vec![],
            };
            run.every.bounds(&step).0[0].map(|EventTime(time)| time)
        };
        run.step("+ 1", 1_000, Some(7));
        assert_eq!(bound(&run), Some(7));
        run.step("", 1_500, Some(9));
        assert_eq!((bound(&run), run.every.deadline()), (Some(7), Some(2_000)));
        run.restart();
        assert_eq!((bound(&run), run.every.deadline()), (Some(7), Some(2_000)));
        run.step("", 2_000, Some(9));
        assert_eq!((bound(&run), run.every.deadline()), (Some(9), None));
    }

    #[test]
    fn steps_of_a_view_that_is_being_built_all_fire() {
        let mut run = Run::new(false);
        run.every.set_building(true);
        assert_eq!(run.step("+ 1", 0, None), "+ 1");
        assert_eq!(run.step("- 1, + 2", 0, None), "- 1, + 2");
        assert_eq!(run.every.state_rows(), 0);
    }

    #[test]
    fn what_is_out_is_the_input_as_it_was_at_the_last_firing() {
        for seed in 0..100 {
            let mut random = Rng::with_seed(seed);
            let is_append_only = random.bool();
            let mut run = Run::new(is_append_only);
            let schema = run.every.spec.input.clone();
            let (mut input, mut output): (Vec<DeltaBatch>, Vec<DeltaBatch>) = Default::default();
            let mut shown = String::new();
            let mut clock = 10_000;
            let mut fired: Vec<i64> = Vec::new();
            let mut held: Vec<i64> = Vec::new();
            for _ in 0..30 {
                let mut lines = Vec::new();
                for _ in 0..random.usize(..5) {
                    let value = random.i64(0..6);
                    lines.push(format!("+ {value}"));
                    held.push(value);
                }
                if !is_append_only && !held.is_empty() && random.bool() {
                    let value = held.swap_remove(random.usize(..held.len()));
                    lines.push(format!("- {value}"));
                }
                random.shuffle(&mut lines);
                let timed = lines.iter().map(|line| {
                    let (weight, value) = line.split_once(' ').unwrap();
                    format!("{weight} 1970-01-01T00:00:00 {value}")
                });
                let timed: Vec<String> = timed.collect();
                input.push(parse_rows(&schema, timed.iter().map(String::as_str)));
                clock += random.i64(0..600);
                run.step(&lines.join(","), clock, None);
                if !run.out.deltas.is_empty() {
                    fired.push(clock);
                    output.append(&mut run.out.deltas);
                    let all = consolidate(&concat(&schema, &input).unwrap()).unwrap();
                    shown = print_sorted(&all);
                }
                let most = run.every.deadline().unwrap_or(clock + 1);
                assert!(
                    clock < most && most <= clock + 2_000,
                    "seed {seed}: waits till {most}"
                );
                let found = consolidate(&concat(&schema, &output).unwrap()).unwrap();
                assert_eq!(print_sorted(&found), shown, "seed {seed}");
                if random.u8(..4) == 0 {
                    run.restart();
                }
            }
            let is_rare = |two: &[i64]| two[1] - two[0] >= 750;
            assert!(
                fired.windows(2).all(is_rare),
                "seed {seed}: fired at {fired:?}"
            );
            // Whatever waits has come out when the last multiple is there.
            run.step("", clock + 2_000, None);
            output.append(&mut run.out.deltas);
            let of = |deltas: &[DeltaBatch]| {
                print_sorted(&consolidate(&concat(&schema, deltas).unwrap()).unwrap())
            };
            assert_eq!(of(&output), of(&input), "seed {seed}");
        }
    }
}
