//! EMIT ON WINDOW CLOSE for whatever is not an aggregate: rows wait until they are final.
//!
//! Rule: out = the rows whose time is below the input's bound for the time column. No later delta
//! is below that bound, so each of them comes out once, with the weight it has ended up with. Where
//! a row has several times, as that of a join has, it is the greatest of them that must be below
//! the bound of its column.
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
//! Bounds: the time column keeps its bound, because nothing below it waits; of several each has
//! that of the input or of the oldest row that waits. Other columns have none, because rows of any
//! age may wait.

use std::collections::BTreeSet;

use arrow::array::{Array, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{is_not_null, is_null};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};

use crate::base::EventTime;
use crate::base::limits::CHUNK_ROWS_MAX;
use crate::delta::{DeltaBatch, arrow_error};
use crate::error::{Error, Result};
use crate::operator::evaluate::{Failure, report};
use crate::operator::frozen::Frozen;
use crate::operator::rows::{Removal, RowStore, micros, weights_of};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const ROWS_TABLE: u32 = 0;

/// What a [`Gate`] waits for.
#[derive(Clone, Debug)]
pub struct GateSpec {
    pub input: SchemaRef,
    /// The columns whose times must be final, at least one: timestamps in microseconds with bounds.
    pub time_columns: Vec<usize>,
}

/// Slots of rows by a time.
type Order = BTreeSet<(i64, u32)>;

/// Holds rows back until their time is final.
pub struct Gate {
    spec: GateSpec,
    rows: RowStore,
    /// By time column, the waiting rows whose greatest time is there.
    orders: Vec<Order>,
    /// Where there are several times, the slots of all rows by each of them.
    by_time: Vec<Order>,
    /// What the checkpoint under way has not taken yet.
    frozen: Frozen,
}

impl Gate {
    /// # Errors
    /// Internal, when a time column is not one; 0A000, when a column's type cannot be kept.
    pub fn new(spec: GateSpec) -> Result<Gate> {
        assert!(!spec.time_columns.is_empty(), "rows wait for a time");
        for &column in &spec.time_columns {
            let field = spec.input.field(column);
            if !matches!(
                field.data_type(),
                DataType::Timestamp(TimeUnit::Microsecond, _)
            ) {
                let (name, data_type) = (field.name(), field.data_type());
                return Err(Error::internal(format!(
                    "rows cannot wait for {name} of {data_type}"
                )));
            }
        }
        let several = spec.time_columns.len() > 1;
        let orders = vec![BTreeSet::new(); spec.time_columns.len()];
        let rows = RowStore::new(spec.input.clone(), Removal::ByRow)?;
        Ok(Gate {
            by_time: match several {
                true => vec![BTreeSet::new(); spec.time_columns.len()],
                false => Vec::new(),
            },
            spec,
            rows,
            orders,
            frozen: Frozen::default(),
        })
    }

    /// Rows that wait.
    pub fn rows(&self) -> usize {
        self.rows.rows()
    }

    /// The rows that have their times; the others go to the errors.
    fn timed(&self, batch: DeltaBatch, out: &mut Output) -> Result<DeltaBatch> {
        let mut timed = batch;
        for &column in &self.spec.time_columns {
            let times = timed.rows().column(column);
            if times.null_count() == 0 {
                continue;
            }
            let is_missing: BooleanArray = is_null(times).map_err(arrow_error)?;
            let name = self.spec.input.field(column).name();
            let missing = is_missing.values().set_indices().map(|row| Failure {
                row: u32::try_from(row).expect("a batch has fewer than 2^32 rows"),
                reason: format!("event time \"{name}\" is null"),
            });
            report(&timed, &missing.collect::<Vec<_>>(), out)?;
            timed = timed.filter(&is_not_null(times).map_err(arrow_error)?)?;
        }
        Ok(timed)
    }

    /// Takes rows into the orders, or out of them. `times`: by time column, of each row of a batch.
    fn place(
        &mut self,
        times: &[Int64Array],
        slots: impl Iterator<Item = (u32, usize)>,
        put: fn(&mut Order, (i64, u32)),
    ) {
        for (slot, row) in slots {
            let of_row = times.iter().map(|times| times.value(row));
            let greatest = of_row.clone().enumerate().max_by_key(|&(_, time)| time);
            let (column, greatest) = greatest.expect("there is a time column");
            put(&mut self.orders[column], (greatest, slot));
            for (order, time) in self.by_time.iter_mut().zip(of_row) {
                put(order, (time, slot));
            }
        }
    }

    fn enter(&mut self, rows: &RecordBatch, slots: impl Iterator<Item = (u32, usize)>) {
        let columns = self.spec.time_columns.iter();
        let times: Vec<_> = columns.map(|&column| micros(rows.column(column))).collect();
        self.place(&times, slots, |order, entry| {
            order.insert(entry);
        });
    }

    fn free(&mut self, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let columns = self.spec.time_columns.iter();
        let times = columns.map(|&column| Ok(micros(&self.rows.gather_column(column, slots)?)));
        let times = times.collect::<Result<Vec<_>>>()?;
        let placed = slots.iter().enumerate().map(|(row, &slot)| (slot, row));
        self.place(&times, placed, |order, entry| {
            order.remove(&entry);
        });
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
        let placed = fresh.iter().map(|fresh| (fresh.slot, fresh.row as usize));
        self.enter(batch.rows(), placed);
        Ok(())
    }

    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()> {
        let touched = self.rows.take_touched();
        let mut going = Vec::new();
        for (order, &column) in self.orders.iter().zip(&self.spec.time_columns) {
            let bound = step.bounds[0].0[column].unwrap_or(EventTime::MIN);
            going.extend(order.range(..(bound.0, 0)).map(|&(_, slot)| slot));
        }
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

    fn due_time(&self) -> Option<i64> {
        let first = |order: &BTreeSet<(i64, u32)>| order.first().map(|&(time, _)| time);
        self.orders.iter().filter_map(first).min()
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let mut bounds = Bounds::unknown(self.spec.input.fields().len());
        for (number, &column) in self.spec.time_columns.iter().enumerate() {
            let oldest = self.by_time.get(number).and_then(BTreeSet::first);
            let oldest = oldest.map(|&(time, _)| EventTime(time));
            let bound = step.bounds[0].0[column];
            bounds.0[column] = bound.map(|bound| oldest.map_or(bound, |oldest| oldest.min(bound)));
        }
        bounds
    }

    fn state_rows(&self) -> usize {
        self.rows.rows()
    }

    fn state_bytes(&self) -> usize {
        // A B-tree's nodes are two thirds full on average.
        let entries = self.rows.rows() * (1 + self.by_time.len());
        self.rows.bytes() + entries * size_of::<(i64, u32)>() * 3 / 2 + self.frozen.bytes()
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
            let table = change.table;
            return Err(Error::internal(format!(
                "a gate has no state table {table}"
            )));
        }
        let replaced = self.rows.replaced(&change);
        self.free(&replaced)?;
        let rows = self.rows.restore(&change)?;
        self.enter(&rows, change.slots.iter().copied().zip(0..));
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
                time_columns: vec![0],
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
    fn what_a_checkpoint_has_not_taken_is_accounted() {
        let mut run = Run::new();
        let rows: Vec<String> = (0..500).map(|row| format!("+ 10 r{row}")).collect();
        run.step(&rows.join(","), 1).unwrap();
        let before = run.gate.state_bytes();
        run.gate.freeze(Scope::All).unwrap();
        assert!(run.gate.state_bytes() >= before + 500 * 16);
        while run.gate.thaw(10).unwrap().is_some() {}
        assert_eq!(run.gate.state_bytes(), before);
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
    fn a_row_with_two_times_waits_for_the_later_one() {
        let spec = GateSpec {
            input: parse("t:timestamp u:timestamp").schema(),
            time_columns: vec![0, 1],
        };
        let mut gate = Gate::new(spec).unwrap();
        let at = |second: i64| Some(EventTime(second * SECOND));
        let mut step = |rows: &[&str], bounds: [i64; 2]| {
            let rows = rows.iter().map(|row| row.replace('@', "1970-01-01T00:00:"));
            let rows: Vec<String> = rows.collect();
            let batch = parse_rows(&gate.spec.input, rows.iter().map(String::as_str));
            let step = Step {
                epoch: Epoch(1),
                clock_micros: 0,
                bounds: vec![Bounds(bounds.map(at).to_vec())],
            };
            let mut out = Output::default();
            gate.push(0, batch, &mut out).unwrap();
            gate.finish(&step, &mut out).unwrap();
            let text: String = out.deltas.iter().map(print).collect();
            let text = text
                .trim()
                .replace("1970-01-01T00:00:", "@")
                .replace('\n', ", ");
            (text, gate.bounds(&step).0)
        };
        let nothing = String::new;
        let rows = ["+ @10 @25", "+ @22 @21", "+ @31 @30"];
        assert_eq!(step(&rows, [20, 15]), (nothing(), vec![at(10), at(15)]));
        // Its later time is final, and so is the row.
        let second = step(&["- @31 @30"], [23, 15]);
        assert_eq!(second, ("+ @22 @21".to_string(), vec![at(10), at(15)]));
        let third = step(&[], [23, 26]);
        assert_eq!(third, ("+ @10 @25".to_string(), vec![at(23), at(26)]));
        assert_eq!(gate.rows(), 0);
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
