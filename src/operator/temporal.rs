//! Temporal filters: conditions on `now()`, by which rows come and go as the clock goes on.
//!
//! Rule: out at clock c = the rows for which every condition holds with c for `now()`. A condition
//! compares the clock with a time of the row, `now() < time`, so each row has one span in which it
//! passes, `[from, until)`: from the greatest time that the clock must have reached to the least
//! that it must not. One microsecond decides: `now() <= t` lasts until `t + 1`.
//!
//! ```text
//!   now() >= ts, now() < ts + 60         clock
//!   + (ts 100)                             90     —               waits until 100
//!                                         100     + (ts 100)
//!   + (ts 50)                             105     + (ts 50)
//!                                         110     - (ts 50)
//!   - (ts 100)                            120     - (ts 100)
//! ```
//!
//! State: the rows that will still change, ordered by when: those that wait (state table 0) and
//! those that are out and will leave (table 1). A row that stays out for ever is not kept, and one
//! whose span is over never comes back: what takes it away later is as late as it was. So which
//! rows are kept follows from the rows and the clock alone.
//!
//! Time: the step's clock, at the end of the step, for all rows alike. A row with a time that is
//! NULL never passes. The deadline is the first time at which a kept row changes.
//!
//! Bounds: rows of any age come or go by the clock, so a column has a bound only where the times
//! that rows are kept by are made of it: then none that will change is below the first of them.

use std::collections::BTreeSet;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};

use crate::base::EventTime;
use crate::base::limits::CHUNK_ROWS_MAX;
use crate::delta::DeltaBatch;
use crate::error::{Error, Result};
use crate::function::time::ClockIs;
use crate::operator::frozen::Frozen;
use crate::operator::rows::{Removal, RowStore, micros, weights_of};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const WAITING_TABLE: u32 = 0;
const SHOWN_TABLE: u32 = 1;

/// `now() <relation> column + offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    pub relation: ClockIs,
    /// A timestamp in microseconds.
    pub column: usize,
    pub offset_micros: i64,
}

impl Condition {
    /// The first microsecond at which the condition begins to hold, or ceases to.
    fn turn(&self, time: i64) -> i64 {
        let turn = time.saturating_add(self.offset_micros);
        match self.relation {
            ClockIs::Before | ClockIs::AtOrAfter => turn,
            ClockIs::BeforeOrAt | ClockIs::After => turn.saturating_add(1),
        }
    }
}

/// What a [`Temporal`] lets through.
#[derive(Clone, Debug)]
pub struct TemporalSpec {
    pub input: SchemaRef,
    /// All must hold; at least one.
    pub conditions: Vec<Condition>,
    /// Whether no row is ever taken away from the input.
    pub is_append_only: bool,
    /// Columns that keep their bound: every condition is made of the column, and of each kind,
    /// lasting or not, there is one at most.
    pub bounded: Vec<usize>,
}

/// Lets rows in and out by the clock.
pub struct Temporal {
    spec: TemporalSpec,
    /// Conditions by which rows come in, and those by which they leave.
    entries: Vec<Condition>,
    exits: Vec<Condition>,

    /// The step's input: what becomes of it is known when the step's clock is.
    input: Vec<DeltaBatch>,
    waiting: Kept,
    shown: Kept,
    /// What the checkpoint under way has not taken yet.
    frozen: Frozen,
}

/// When a row passes; empty where `from >= until`.
#[derive(Clone, Copy)]
struct Span {
    from: i64,
    until: i64,
}

impl Span {
    const NEVER: Span = Span { from: 0, until: 0 };
}

/// Rows ordered by the time at which they change.
struct Kept {
    rows: RowStore,
    order: BTreeSet<(i64, u32)>,
}

impl Kept {
    fn new(spec: &TemporalSpec) -> Result<Kept> {
        let removal = match spec.is_append_only {
            true => Removal::Never,
            false => Removal::ByRow,
        };
        Ok(Kept {
            rows: RowStore::new(spec.input.clone(), removal)?,
            order: BTreeSet::new(),
        })
    }

    /// Adds rows, each with its time.
    fn add(&mut self, batch: &DeltaBatch, times: &[i64]) -> Result<()> {
        let fresh = self.rows.add(batch, &mut Vec::new())?;
        let fresh = fresh.into_iter();
        self.order
            .extend(fresh.map(|fresh| (times[fresh.row as usize], fresh.slot)));
        Ok(())
    }

    /// Takes out the rows whose time the clock has reached, in the order of time.
    fn take_due(&mut self, clock: i64) -> Result<Vec<DeltaBatch>> {
        let is_due = |&&(time, _): &&(i64, u32)| time <= clock;
        if self.order.first().filter(is_due).is_none() {
            return Ok(Vec::new());
        }
        let later = self.order.split_off(&(clock.saturating_add(1), 0));
        let due = std::mem::replace(&mut self.order, later);
        let slots: Vec<u32> = due.into_iter().map(|(_, slot)| slot).collect();
        let mut batches = Vec::with_capacity(slots.len().div_ceil(CHUNK_ROWS_MAX));
        for slots in slots.chunks(CHUNK_ROWS_MAX) {
            let weights = slots.iter().map(|&slot| self.rows.weight(slot)).collect();
            batches.push(DeltaBatch::new(
                self.rows.gather(slots)?,
                weights_of(weights),
            ));
        }
        self.rows.release(&slots);
        self.rows.shrink()?;
        Ok(batches)
    }

    /// Ends a step: rows that are not there any more go.
    fn settle(&mut self, times: impl Fn(&RecordBatch) -> Vec<i64>) -> Result<()> {
        let touched = self.rows.take_touched().into_iter();
        // One that was released since holds nothing, or another row that was touched as well.
        let mut gone = Vec::new();
        for slot in touched.map(|touched| touched.slot) {
            match self.rows.weight(slot) {
                0 => gone.push(slot),
                1.. => {}
                _ => {
                    return Err(Error::internal(
                        "a row was taken away that a temporal filter did not have",
                    ));
                }
            }
        }
        self.free(&gone, times)
    }

    fn free(&mut self, slots: &[u32], times: impl Fn(&RecordBatch) -> Vec<i64>) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let times = times(&self.rows.gather(slots)?);
        for (time, &slot) in times.into_iter().zip(slots) {
            self.order.remove(&(time, slot));
        }
        self.rows.release(slots);
        self.rows.shrink()?;
        Ok(())
    }

    fn restore(
        &mut self,
        change: &TableChange,
        times: impl Fn(&RecordBatch) -> Vec<i64>,
    ) -> Result<()> {
        let replaced = self.rows.replaced(change);
        self.free(&replaced, &times)?;
        let rows = self.rows.restore(change)?;
        let slots = change.slots.iter().copied();
        self.order.extend(times(&rows).into_iter().zip(slots));
        Ok(())
    }

    fn first(&self) -> Option<i64> {
        self.order.first().map(|(time, _)| *time)
    }

    fn bytes(&self) -> usize {
        // A B-tree's nodes are two thirds full on average.
        self.rows.bytes() + self.order.len() * size_of::<(i64, u32)>() * 3 / 2
    }
}

impl Temporal {
    /// # Errors
    /// Internal, when a condition's column is no time; 0A000, when a column's type cannot be kept.
    pub fn new(spec: TemporalSpec) -> Result<Temporal> {
        for condition in &spec.conditions {
            let field = spec.input.field(condition.column);
            if !matches!(
                field.data_type(),
                DataType::Timestamp(TimeUnit::Microsecond, _)
            ) {
                let (name, data_type) = (field.name(), field.data_type());
                return Err(Error::internal(format!(
                    "the clock is compared with {name} of {data_type}"
                )));
            }
        }
        let all = || spec.conditions.iter().copied();
        Ok(Temporal {
            entries: all().filter(|each| each.relation.is_lasting()).collect(),
            exits: all().filter(|each| !each.relation.is_lasting()).collect(),
            input: Vec::new(),
            waiting: Kept::new(&spec)?,
            shown: Kept::new(&spec)?,
            frozen: Frozen::default(),
            spec,
        })
    }

    /// Lets rows out that may pass now, and keeps those that will leave.
    fn show(&mut self, batch: DeltaBatch, out: &mut Output) -> Result<()> {
        if !self.exits.is_empty() {
            let times = untils(&self.exits, batch.rows());
            let leaves: BooleanArray = times.iter().map(|&time| Some(time < i64::MAX)).collect();
            match leaves.true_count() {
                0 => {}
                count if count == batch.len() => self.shown.add(&batch, &times)?,
                _ => {
                    let leaving = batch.filter(&leaves)?;
                    let times = untils(&self.exits, leaving.rows());
                    self.shown.add(&leaving, &times)?;
                }
            }
        }
        out.emit(batch);
        Ok(())
    }

    /// Those of the rows that have waited until now.
    fn enter(&mut self, batch: DeltaBatch, clock: i64, out: &mut Output) -> Result<()> {
        let untils = untils(&self.exits, batch.rows());
        let stays: BooleanArray = untils.iter().map(|&until| Some(clock < until)).collect();
        match stays.true_count() {
            0 => Ok(()),
            count if count == batch.len() => self.show(batch, out),
            _ => self.show(batch.filter(&stays)?, out),
        }
    }

    fn take(&mut self, batch: DeltaBatch, clock: i64, out: &mut Output) -> Result<()> {
        let spans = self.spans(batch.rows());
        let is_over = |span: &Span| span.from >= span.until || clock >= span.until;
        let (mut passes, mut waits) = (0, 0);
        for span in &spans {
            match (is_over(span), span.from <= clock) {
                (true, _) => {}
                (false, true) => passes += 1,
                (false, false) => waits += 1,
            }
        }
        let of = |is_wanted: &dyn Fn(&Span) -> bool| -> BooleanArray {
            spans.iter().map(|span| Some(is_wanted(span))).collect()
        };
        if waits > 0 {
            let waiting = of(&|span| !is_over(span) && span.from > clock);
            let waiting = batch.filter(&waiting)?;
            let times = froms(&self.entries, waiting.rows());
            self.waiting.add(&waiting, &times)?;
        }
        match passes {
            0 => Ok(()),
            _ if passes == batch.len() => self.show(batch, out),
            _ => {
                let passing = of(&|span| !is_over(span) && span.from <= clock);
                self.show(batch.filter(&passing)?, out)
            }
        }
    }

    /// When each row passes.
    fn spans(&self, rows: &RecordBatch) -> Vec<Span> {
        let froms = froms(&self.entries, rows);
        let untils = untils(&self.exits, rows);
        let both = froms.into_iter().zip(untils);
        let mut spans: Vec<Span> = both.map(|(from, until)| Span { from, until }).collect();
        for condition in &self.spec.conditions {
            let column = rows.column(condition.column);
            for row in (0..rows.num_rows()).filter(|&row| column.is_null(row)) {
                spans[row] = Span::NEVER;
            }
        }
        spans
    }

    /// A bound of the input as far as no kept row that is below it can change.
    fn bound(&self, column: usize, input: EventTime) -> EventTime {
        let of = |kept: &Kept, conditions: &[Condition]| -> Option<i64> {
            let condition = conditions.first()?;
            assert_eq!(condition.column, column, "the plan says which are bounded");
            // The first turn is that of the least time: `turn` rises with it.
            Some(kept.first()?.saturating_sub(condition.turn(0)))
        };
        let waiting = of(&self.waiting, &self.entries);
        let shown = of(&self.shown, &self.exits);
        let least = waiting.into_iter().chain(shown).min();
        least.map_or(input, |least| input.min(EventTime(least)))
    }
}

/// For each row the greatest time that the clock must have reached; without conditions the least.
fn froms(entries: &[Condition], rows: &RecordBatch) -> Vec<i64> {
    turns(entries, rows, i64::MIN, i64::max)
}

/// For each row the least time that the clock must not have reached; without conditions the
/// greatest.
fn untils(exits: &[Condition], rows: &RecordBatch) -> Vec<i64> {
    turns(exits, rows, i64::MAX, i64::min)
}

/// What is NULL counts as any time: such a row passes never.
fn turns(
    conditions: &[Condition],
    rows: &RecordBatch,
    none: i64,
    pick: fn(i64, i64) -> i64,
) -> Vec<i64> {
    let mut turns = vec![none; rows.num_rows()];
    for condition in conditions {
        let times = micros(rows.column(condition.column));
        for (turn, &time) in turns.iter_mut().zip(times.values()) {
            *turn = pick(*turn, condition.turn(time));
        }
    }
    turns
}

impl Operator for Temporal {
    fn push(&mut self, port: usize, batch: DeltaBatch, _out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "a temporal filter has one input");
        self.input.push(batch);
        Ok(())
    }

    fn finish(&mut self, step: &Step, out: &mut Output) -> Result<()> {
        let clock = step.clock_micros;
        // First what the clock does, so that every kept row is where its span says it is when the
        // input takes it away.
        for batch in self.waiting.take_due(clock)? {
            self.enter(batch, clock, out)?;
        }
        for batch in self.shown.take_due(clock)? {
            out.emit(batch.negate());
        }
        for batch in std::mem::take(&mut self.input) {
            self.take(batch, clock, out)?;
        }
        self.waiting.settle(|rows| froms(&self.entries, rows))?;
        self.shown.settle(|rows| untils(&self.exits, rows))
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let input = &step.bounds[0].0;
        let mut bounds = Bounds::unknown(input.len());
        for &column in &self.spec.bounded {
            bounds.0[column] = input[column].map(|bound| self.bound(column, bound));
        }
        bounds
    }

    fn state_rows(&self) -> usize {
        self.waiting.rows.rows() + self.shown.rows.rows()
    }

    fn state_bytes(&self) -> usize {
        self.waiting.bytes() + self.shown.bytes() + self.frozen.bytes()
    }

    fn deadline(&self) -> Option<i64> {
        let both = self.waiting.first().into_iter().chain(self.shown.first());
        both.min()
    }

    fn freeze(&mut self, scope: Scope) -> Result<()> {
        self.frozen = Frozen::saved(self.waiting.rows.changes(scope, WAITING_TABLE)?);
        let shown = self.shown.rows.changes(scope, SHOWN_TABLE)?;
        self.frozen.keep_all(shown);
        Ok(())
    }

    fn thaw(&mut self, _rows: usize) -> Result<Option<TableChange>> {
        self.frozen.next_saved()
    }

    fn unfreeze(&mut self) {
        self.frozen = Frozen::default();
    }

    fn restore(&mut self, change: TableChange) -> Result<()> {
        let (entries, exits) = (&self.entries, &self.exits);
        match change.table {
            WAITING_TABLE => self.waiting.restore(&change, |rows| froms(entries, rows)),
            SHOWN_TABLE => self.shown.restore(&change, |rows| untils(exits, rows)),
            table => Err(Error::internal(format!(
                "a temporal filter has no state table {table}"
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

    const HEADER: &str = "a:text x:timestamp y:timestamp";

    fn condition(relation: ClockIs, column: usize, offset_micros: i64) -> Condition {
        Condition {
            relation,
            column,
            offset_micros,
        }
    }

    struct Run {
        filter: Temporal,
        bound: Option<EventTime>,
        out: Output,
    }

    impl Run {
        fn new(conditions: &[Condition], is_append_only: bool, bounded: &[usize]) -> Run {
            let spec = TemporalSpec {
                input: parse(HEADER).schema(),
                conditions: conditions.to_vec(),
                is_append_only,
                bounded: bounded.to_vec(),
            };
            Run {
                filter: Temporal::new(spec).unwrap(),
                bound: None,
                out: Output::default(),
            }
        }

        /// One step at a clock with rows `+ a 10 20, …`; times are microseconds.
        fn step(&mut self, rows: &str, clock_micros: i64) -> Result<String> {
            self.out = Output::default();
            let batch = batch(&self.filter.spec.input, rows);
            self.filter.push(0, batch, &mut self.out)?;
            let step = self.at(clock_micros);
            self.filter.finish(&step, &mut self.out)?;
            let text: String = self.out.deltas.iter().map(print).collect();
            let text = text.replace("1970-01-01T00:00:00.0000", "");
            let text = text.replace("1970-01-01T00:00:00", "00");
            Ok(text.lines().collect::<Vec<_>>().join(", "))
        }

        fn at(&self, clock_micros: i64) -> Step {
            Step {
                epoch: Epoch(1),
                clock_micros,
                bounds: vec![Bounds(vec![None, self.bound, None])],
            }
        }

        fn bound(&self, clock_micros: i64) -> Option<i64> {
            let bounds = self.filter.bounds(&self.at(clock_micros));
            bounds.0[1].map(|bound| bound.0)
        }
    }

    fn batch(schema: &SchemaRef, rows: &str) -> DeltaBatch {
        let lines = rows.split(',').map(str::trim).filter(|row| !row.is_empty());
        let timed = |row: &str| {
            let words: Vec<&str> = row.split(' ').collect();
            let time = |word: &str| match word {
                "NULL" => word.to_string(),
                micros => format!("1970-01-01T00:00:00.0000{micros:0>2}"),
            };
            format!(
                "{} {} {} {}",
                words[0],
                words[1],
                time(words[2]),
                time(words[3])
            )
        };
        let lines: Vec<String> = lines.map(timed).collect();
        parse_rows(schema, lines.iter().map(String::as_str))
    }

    #[test]
    fn what_a_checkpoint_has_not_taken_is_accounted() {
        let mut run = Run::new(&[condition(ClockIs::Before, 1, 0)], true, &[]);
        let rows: Vec<String> = (0..500).map(|row| format!("+ r{row} 50 00")).collect();
        run.step(&rows.join(","), 1).unwrap();
        let before = run.filter.state_bytes();
        run.filter.freeze(Scope::All).unwrap();
        assert!(run.filter.state_bytes() >= before + 500 * 16);
        while run.filter.thaw(10).unwrap().is_some() {}
        assert_eq!(run.filter.state_bytes(), before);
    }

    #[test]
    fn rows_come_and_go_by_the_clock() {
        let conditions = [
            condition(ClockIs::AtOrAfter, 1, 0),
            condition(ClockIs::Before, 2, 0),
        ];
        let mut run = Run::new(&conditions, false, &[]);
        assert_eq!(
            run.step("+ a 10 20, + b 05 12, + c 01 09", 9).unwrap(),
            "+ b 05 12"
        );
        assert_eq!(run.filter.deadline(), Some(10));
        assert_eq!(run.step("", 10).unwrap(), "+ a 10 20");
        assert_eq!(run.filter.deadline(), Some(12));
        assert_eq!(run.step("", 11).unwrap(), "");
        assert_eq!(run.step("+ d 30 40, + e 13 99", 12).unwrap(), "- b 05 12");
        // One that has left is not there to be taken away, one that waits never comes.
        assert_eq!(run.step("- b 05 12, - d 30 40", 13).unwrap(), "+ e 13 99");
        assert_eq!(run.step("- a 10 20", 19).unwrap(), "- a 10 20");
        assert_eq!(run.filter.deadline(), Some(99));
        // A jump over both ends shows nothing.
        assert_eq!(run.step("+ f 50 60", 20).unwrap(), "");
        assert_eq!(run.step("", 99).unwrap(), "- e 13 99");
        assert_eq!((run.filter.deadline(), run.filter.state_rows()), (None, 0));
        assert!(run.step("- g 01 99", 50).is_err(), "it never came");
    }

    #[test]
    fn one_microsecond_decides() {
        for (relation, before, at, after) in [
            (ClockIs::Before, "+ a 10 00", "- a 10 00", ""),
            (ClockIs::BeforeOrAt, "+ a 10 00", "", "- a 10 00"),
            (ClockIs::AtOrAfter, "", "+ a 10 00", ""),
            (ClockIs::After, "", "", "+ a 10 00"),
        ] {
            let mut run = Run::new(&[condition(relation, 1, 0)], true, &[]);
            let outputs = [run.step("+ a 10 00", 9), run.step("", 10), run.step("", 11)];
            let outputs = outputs.map(|output| output.unwrap());
            assert_eq!(outputs, [before, at, after], "now() {relation} 10");
            assert_eq!(run.filter.state_rows(), 0);
        }
    }

    #[test]
    fn a_row_without_a_time_never_passes() {
        let conditions = [
            condition(ClockIs::After, 1, 0),
            condition(ClockIs::Before, 2, 0),
        ];
        let mut run = Run::new(&conditions, false, &[]);
        assert_eq!(
            run.step("+ a NULL 20, + b 01 NULL, + c NULL NULL", 10)
                .unwrap(),
            ""
        );
        assert_eq!(run.step("- a NULL 20, - b 01 NULL", 11).unwrap(), "");
        assert_eq!(run.filter.state_rows(), 0);
    }

    #[test]
    fn what_stays_for_ever_is_not_kept() {
        let mut run = Run::new(&[condition(ClockIs::AtOrAfter, 1, 0)], false, &[]);
        assert_eq!(run.step("+ a 10 00, + b 30 00", 20).unwrap(), "+ a 10 00");
        assert_eq!(run.filter.state_rows(), 1);
        assert_eq!(run.step("- a 10 00", 20).unwrap(), "- a 10 00");
        assert_eq!(run.step("", 30).unwrap(), "+ b 30 00");
        assert_eq!(run.filter.state_rows(), 0);
        let mut run = Run::new(&[condition(ClockIs::Before, 1, i64::MAX)], true, &[]);
        assert_eq!(run.step("+ a 10 00", 20).unwrap(), "+ a 10 00");
        assert_eq!(run.filter.state_rows(), 0);
    }

    #[test]
    fn a_bound_is_that_of_the_least_row_that_will_change() {
        let conditions = [
            condition(ClockIs::AtOrAfter, 1, 0),
            condition(ClockIs::BeforeOrAt, 1, 20),
        ];
        let mut run = Run::new(&conditions, false, &[1]);
        assert_eq!(run.bound(0), None, "the input has none");
        run.bound = Some(EventTime(15));
        run.step("+ a 15 00, + b 40 00", 16).unwrap();
        run.bound = Some(EventTime(70));
        assert_eq!(run.bound(16), Some(15), "a will leave");
        assert_eq!(run.step("", 36).unwrap(), "- a 15 00");
        assert_eq!(run.bound(36), Some(40), "b will come, and leave");
        run.step("", 40).unwrap();
        assert_eq!(run.bound(40), Some(40));
        run.step("", 61).unwrap();
        assert_eq!(run.bound(61), Some(70));
    }

    #[test]
    fn a_million_rows_that_leave_at_once_are_one_step() {
        let mut run = Run::new(&[condition(ClockIs::Before, 1, 0)], true, &[]);
        let rows = batch(&run.filter.spec.input, "+ a 10 00");
        let many = arrow::array::UInt32Array::from(vec![0; 100_000]);
        let many = rows.take(&many).unwrap();
        let mut out = Output::default();
        (0..10).for_each(|_| run.filter.push(0, many.clone(), &mut out).unwrap());
        run.filter.finish(&run.at(9), &mut out).unwrap();
        assert_eq!(run.filter.state_rows(), 1_000_000);
        let full = run.filter.state_bytes();
        out = Output::default();
        run.filter.finish(&run.at(10), &mut out).unwrap();
        let gone: i64 = out
            .deltas
            .iter()
            .flat_map(|d| d.explicit_weights().to_vec())
            .sum();
        assert_eq!(gone, -1_000_000);
        assert!(out.deltas.iter().all(|delta| delta.len() <= CHUNK_ROWS_MAX));
        assert_eq!(run.filter.state_rows(), 0);
        assert!(run.filter.state_bytes() < full / 20, "memory is given back");
    }

    /// What passes, said in the plainest way.
    fn holds(condition: &Condition, time: Option<i64>, clock: i64) -> bool {
        let Some(time) = time else { return false };
        let time = time + condition.offset_micros;
        match condition.relation {
            ClockIs::Before => clock < time,
            ClockIs::BeforeOrAt => clock <= time,
            ClockIs::After => clock > time,
            ClockIs::AtOrAfter => clock >= time,
        }
    }

    #[test]
    fn what_is_out_is_what_passes_whatever_the_steps_and_restarts() {
        let relations = [
            ClockIs::Before,
            ClockIs::BeforeOrAt,
            ClockIs::After,
            ClockIs::AtOrAfter,
        ];
        for seed in 0..60 {
            let mut random = Rng::with_seed(seed);
            let conditions: Vec<Condition> = (0..random.usize(1..4))
                .map(|_| {
                    let relation = relations[random.usize(..4)];
                    condition(relation, random.usize(1..3), random.i64(-3..4))
                })
                .collect();
            let is_append_only = random.u8(..3) == 0;
            let mut run = Run::new(&conditions, is_append_only, &[]);
            let schema = run.filter.spec.input.clone();
            let mut held: Vec<String> = Vec::new();
            let (mut input, mut output) = (Vec::new(), Vec::new());
            let mut checkpoint: Vec<TableChange> = Vec::new();
            let mut clock = random.i64(0..30);
            for _ in 0..30 {
                let mut lines = Vec::new();
                for _ in 0..random.usize(..6) {
                    let time = |random: &mut Rng| match random.u8(..10) {
                        0 => "NULL".to_string(),
                        _ => format!("{:02}", random.i64(0..99)),
                    };
                    let name = ["a", "b"][random.usize(..2)];
                    let row = format!("{name} {} {}", time(&mut random), time(&mut random));
                    lines.push(format!("+ {row}"));
                    held.push(row);
                }
                for _ in 0..random.usize(..4) {
                    if is_append_only || held.is_empty() {
                        break;
                    }
                    let row = held.swap_remove(random.usize(..held.len()));
                    lines.push(format!("- {row}"));
                }
                random.shuffle(&mut lines);
                clock += random.i64(0..6);
                input.push(batch(&schema, &lines.join(",")));
                run.step(&lines.join(","), clock).unwrap();
                output.append(&mut run.out.deltas);
                let all = concat(&schema, &input).unwrap();
                let columns = [1, 2].map(|column| micros(all.rows().column(column)));
                let passes: BooleanArray = (0..all.len())
                    .map(|row| {
                        let time = |column: usize| {
                            let times = &columns[column - 1];
                            arrow::array::Array::is_valid(times, row).then(|| times.value(row))
                        };
                        Some(
                            conditions
                                .iter()
                                .all(|each| holds(each, time(each.column), clock)),
                        )
                    })
                    .collect();
                let expected = consolidate(&all.filter(&passes).unwrap()).unwrap();
                let found = consolidate(&concat(&schema, &output).unwrap()).unwrap();
                let (found, expected) = (print_sorted(&found), print_sorted(&expected));
                assert_eq!(
                    found, expected,
                    "seed {seed}, clock {clock}, {conditions:?}"
                );
                if random.u8(..3) == 0 {
                    let is_first = checkpoint.is_empty();
                    let scope = if is_first { Scope::All } else { Scope::Changed };
                    checkpoint.extend(run.filter.changes(scope).unwrap());
                    let deadline = run.filter.deadline();
                    run.filter = Temporal::new(run.filter.spec.clone()).unwrap();
                    checkpoint
                        .iter()
                        .for_each(|c| run.filter.restore(c.clone()).unwrap());
                    assert_eq!(run.filter.deadline(), deadline, "seed {seed}");
                }
            }
            run.step("", 200).unwrap();
            assert_eq!(
                run.filter.state_rows(),
                0,
                "seed {seed}: nothing changes any more"
            );
        }
    }
}
