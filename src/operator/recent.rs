//! The greatest rows of a relation that only grows: so many, and no more.
//!
//! Rule: out = of all rows that came, the greatest by the columns in `order` and then by the
//! others, as many as fit `rows_max` and `bytes_max`. What they are follows from the rows alone,
//! not from the steps in which they came: a row that once did not fit never fits again.
//!
//! ```text
//!   at most 2, by t       + (10, 'a')  + (20, 'b')     + (10, 'a')  + (20, 'b')
//!                         + (30, 'c')                  - (10, 'a')  + (30, 'c')
//!                         + (5, 'd')                   —
//! ```
//!
//! State: the rows as row-format bytes, in order, each with its weight and a slot for checkpoints;
//! state table 0. The rows are few and rare: a key of its own for each is no matter.
//!
//! Bounds: none is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};

use crate::delta::{DeltaBatch, Weights, arrow_error};
use crate::error::{Error, Result, SqlState};
use crate::operator::{Bounds, Operator, Output, Scope, Step, TableChange};

const ROWS_TABLE: u32 = 0;

/// What a [`Recent`] keeps.
#[derive(Clone, Debug)]
pub struct RecentSpec {
    pub input: SchemaRef,
    /// The columns that say first which rows are greater.
    pub order: Vec<usize>,
    pub rows_max: usize,
    /// Of the rows' bytes.
    pub bytes_max: usize,
}

/// Keeps the greatest rows.
pub struct Recent {
    spec: RecentSpec,
    /// The input's columns in the order in which rows are compared.
    columns: Vec<usize>,
    converter: RowConverter,
    saved: SchemaRef,

    slots: Vec<Slot>,
    free: Vec<u32>,
    order: BTreeMap<Arc<[u8]>, u32>,
    rows: i64,
    bytes: usize,

    /// Rows that the step has changed, with their weight before.
    touched: BTreeMap<Arc<[u8]>, i64>,
    /// Slots that have changed since the last checkpoint.
    changed: BTreeSet<u32>,
    /// What a checkpoint under way has not taken yet.
    frozen: Option<TableChange>,
    is_free_stale: bool,
}

#[derive(Clone, Default)]
struct Slot {
    row: Option<Arc<[u8]>>,
    weight: i64,
}

impl Recent {
    /// # Errors
    /// 0A000, when a column's type has no order.
    pub fn new(spec: RecentSpec) -> Result<Recent> {
        let others = (0..spec.input.fields().len()).filter(|column| !spec.order.contains(column));
        let columns: Vec<usize> = spec.order.iter().copied().chain(others).collect();
        let fields = columns.iter().map(|&column| spec.input.field(column));
        let fields = fields.map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(fields.collect()).map_err(arrow_error)?;
        let mut saved: Vec<Field> = spec
            .input
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
        saved.push(Field::new("weight", DataType::Int64, false));
        Ok(Recent {
            spec,
            columns,
            converter,
            saved: Arc::new(Schema::new(saved)),
            slots: Vec::new(),
            free: Vec::new(),
            order: BTreeMap::new(),
            rows: 0,
            bytes: 0,
            touched: BTreeMap::new(),
            changed: BTreeSet::new(),
            frozen: None,
            is_free_stale: false,
        })
    }

    /// Everything that is kept, in its order.
    pub fn snapshot(&self) -> Result<DeltaBatch> {
        let rows: Vec<&[u8]> = self.order.keys().map(AsRef::as_ref).collect();
        let weights = self.order.values();
        let weights = weights.map(|&slot| self.slots[slot as usize].weight);
        Ok(DeltaBatch::new(
            self.batch(&rows)?,
            Weights::Each(weights.collect::<Vec<_>>().into()),
        ))
    }

    fn batch(&self, rows: &[&[u8]]) -> Result<RecordBatch> {
        RecordBatch::try_new(self.spec.input.clone(), self.arrays(rows)?).map_err(arrow_error)
    }

    /// The input's columns of some rows.
    fn arrays(&self, rows: &[&[u8]]) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        let parsed = rows.iter().map(|row| parser.parse(row));
        let sorted = self.converter.convert_rows(parsed).map_err(arrow_error)?;
        let mut columns = sorted.clone();
        for (array, &column) in sorted.into_iter().zip(&self.columns) {
            columns[column] = array;
        }
        Ok(columns)
    }

    fn add(&mut self, row: &[u8], weight: i64) {
        let slot = match self.order.get(row) {
            Some(&slot) => slot,
            None => self.take(row),
        };
        let place = &mut self.slots[slot as usize];
        let row = place.row.as_ref().expect("the slot of a row holds it");
        self.touched.entry(row.clone()).or_insert(place.weight);
        place.weight += weight;
        self.rows += weight;
        self.changed.insert(slot);
    }

    fn take(&mut self, row: &[u8]) -> u32 {
        if std::mem::take(&mut self.is_free_stale) {
            let is_free = |slot: &u32| self.slots[*slot as usize].row.is_none();
            self.free = (0..number(self.slots.len()))
                .rev()
                .filter(is_free)
                .collect();
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            number(self.slots.len() - 1)
        });
        self.put(slot, Arc::from(row), 0);
        slot
    }

    fn put(&mut self, slot: u32, row: Arc<[u8]>, weight: i64) {
        self.bytes += row.len();
        self.rows += weight;
        self.order.insert(row.clone(), slot);
        self.slots[slot as usize] = Slot {
            row: Some(row),
            weight,
        };
    }

    fn clear(&mut self, slot: u32) {
        let Slot { row, weight } = std::mem::take(&mut self.slots[slot as usize]);
        if let Some(row) = row {
            self.order.remove(&row);
            self.bytes -= row.len();
            self.rows -= weight;
        }
    }

    /// Lets go of the least rows until the rest fits.
    fn evict(&mut self) {
        let most = i64::try_from(self.spec.rows_max).unwrap_or(i64::MAX);
        while self.rows > most || self.bytes > self.spec.bytes_max {
            let Some((row, &slot)) = self.order.first_key_value() else {
                return;
            };
            let weight = self.slots[slot as usize].weight;
            self.touched.entry(row.clone()).or_insert(weight);
            self.changed.insert(slot);
            let beyond = self.rows - most;
            if self.bytes <= self.spec.bytes_max && beyond < weight {
                self.slots[slot as usize].weight -= beyond;
                self.rows -= beyond;
            } else {
                self.clear(slot);
                self.free.push(slot);
            }
        }
    }
}

impl Operator for Recent {
    fn push(&mut self, port: usize, batch: DeltaBatch, _out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "what keeps the greatest rows has one input");
        let columns = self
            .columns
            .iter()
            .map(|&column| batch.rows().column(column).clone());
        let columns: Vec<ArrayRef> = columns.collect();
        let rows = self
            .converter
            .convert_columns(&columns)
            .map_err(arrow_error)?;
        for (number, row) in rows.iter().enumerate() {
            match batch.weights().get(number) {
                weight @ 1.. => self.add(row.as_ref(), weight),
                _ => return Err(Error::internal("a row left a relation that only grows")),
            }
        }
        Ok(())
    }

    fn finish(&mut self, _step: &Step, out: &mut Output) -> Result<()> {
        self.evict();
        let mut rows: Vec<&[u8]> = Vec::new();
        let mut weights = Vec::new();
        for (row, before) in &self.touched {
            let slot = self.order.get(row);
            let weight = slot.map_or(0, |&slot| self.slots[slot as usize].weight);
            if weight != *before {
                rows.push(row);
                weights.push(weight - before);
            }
        }
        if !rows.is_empty() {
            let rows = self.batch(&rows)?;
            out.emit(DeltaBatch::new(rows, Weights::Each(weights.into())));
        }
        self.touched.clear();
        Ok(())
    }

    fn bounds(&self, _step: &Step) -> Bounds {
        Bounds::unknown(self.spec.input.fields().len())
    }

    fn state_bytes(&self) -> usize {
        // A row is in the order and in its slot, which share it; a B-tree's nodes are two thirds
        // full on average.
        self.bytes + self.slots.capacity() * size_of::<Slot>() + self.order.len() * 40
    }

    fn state_rows(&self) -> usize {
        self.order.len()
    }

    fn freeze(&mut self, scope: Scope) -> Result<()> {
        // They are few enough to be copied at once.
        self.frozen = None;
        let changed = std::mem::take(&mut self.changed);
        let all = match scope {
            Scope::Changed => changed.into_iter().collect(),
            Scope::All => (0..number(self.slots.len())).collect::<Vec<_>>(),
        };
        let is_live = |slot: &u32| self.slots[*slot as usize].row.is_some();
        let (slots, freed): (Vec<u32>, Vec<u32>) = all.into_iter().partition(is_live);
        let freed = if scope == Scope::All {
            Vec::new()
        } else {
            freed
        };
        if slots.is_empty() && freed.is_empty() {
            return Ok(());
        }
        let held = slots.iter().map(|&slot| &self.slots[slot as usize]);
        let rows: Vec<&[u8]> = held
            .clone()
            .filter_map(|slot| slot.row.as_deref())
            .collect();
        let mut columns = self.arrays(&rows)?;
        columns.push(Arc::new(Int64Array::from_iter_values(
            held.map(|slot| slot.weight),
        )));
        let rows = RecordBatch::try_new(self.saved.clone(), columns).map_err(arrow_error)?;
        self.frozen = Some(TableChange {
            table: ROWS_TABLE,
            slots,
            rows,
            freed,
        });
        Ok(())
    }

    fn thaw(&mut self, _rows: usize) -> Result<Option<TableChange>> {
        Ok(self.frozen.take())
    }

    fn restore(&mut self, change: TableChange) -> Result<()> {
        let width = self.spec.input.fields().len();
        if change.table != ROWS_TABLE || change.rows.num_columns() != width + 1 {
            let message = "a checkpoint has other rows than a view's late ones";
            return Err(Error::new(SqlState::DATA_CORRUPTED, message));
        }
        self.is_free_stale = true;
        let highest = change.slots.iter().chain(&change.freed).max();
        let slots = highest.map_or(0, |&slot| slot as usize + 1);
        if self.slots.len() < slots {
            self.slots.resize(slots, Slot::default());
        }
        // All of them first: a row may have gone from one of these slots to another.
        let all = change.slots.iter().chain(&change.freed);
        all.for_each(|&slot| self.clear(slot));
        let columns = self
            .columns
            .iter()
            .map(|&column| change.rows.column(column).clone());
        let columns: Vec<ArrayRef> = columns.collect();
        let rows = self
            .converter
            .convert_columns(&columns)
            .map_err(arrow_error)?;
        let weights = change.rows.column(width).as_primitive::<Int64Type>();
        for ((row, &slot), &weight) in rows.iter().zip(&change.slots).zip(weights.values()) {
            self.put(slot, Arc::from(row.as_ref()), weight);
        }
        Ok(())
    }
}

fn number(slot: usize) -> u32 {
    u32::try_from(slot).expect("there are fewer rows than 2^32")
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::base::Epoch;
    use crate::delta::notation::{parse, parse_rows, print, print_sorted};
    use crate::delta::{concat, consolidate};

    fn recent(rows_max: usize, bytes_max: usize) -> Recent {
        Recent::new(RecentSpec {
            input: parse("a:text t:bigint").schema(),
            order: vec![1],
            rows_max,
            bytes_max,
        })
        .unwrap()
    }

    fn step(recent: &mut Recent, lines: &[String]) -> Vec<DeltaBatch> {
        let mut out = Output::default();
        let schema = recent.spec.input.clone();
        let batch = parse_rows(&schema, lines.iter().map(String::as_str));
        recent.push(0, batch, &mut out).unwrap();
        let step = Step {
            epoch: Epoch(1),
            clock_micros: 0,
            bounds: vec![Bounds::unknown(2)],
        };
        recent.finish(&step, &mut out).unwrap();
        out.deltas
    }

    fn shown(recent: &mut Recent, lines: &str) -> String {
        let lines: Vec<String> = lines.split(", ").map(str::to_string).collect();
        let text: String = step(recent, &lines).iter().map(print).collect();
        text.lines().collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_least_row_makes_room() {
        let mut kept = recent(2, usize::MAX);
        assert_eq!(shown(&mut kept, "+ b 20, + a 10"), "+ a 10, + b 20");
        assert_eq!(shown(&mut kept, "+ c 30"), "- a 10, + c 30");
        assert_eq!(shown(&mut kept, "+ d 5"), "");
        assert_eq!(shown(&mut kept, "+ c 30"), "- b 20, + c 30");
        assert_eq!(shown(&mut kept, "+3 e 40"), "-2 c 30, +2 e 40");
        assert_eq!(print(&kept.snapshot().unwrap()).trim(), "+2 e 40");
        let least = recent(2, 1);
        assert_eq!(least.spec.bytes_max, 1);
        assert_eq!(shown(&mut { least }, "+ a 1"), "");
    }

    #[test]
    fn what_is_kept_follows_from_the_rows_whatever_the_steps_and_restarts() {
        for seed in 0..40 {
            let mut random = Rng::with_seed(seed);
            let most = random.usize(1..8);
            let mut kept = recent(most, usize::MAX);
            let (mut all, mut output): (Vec<(i64, String)>, _) = (Vec::new(), Vec::new());
            let mut checkpoint: Vec<TableChange> = Vec::new();
            for _ in 0..15 {
                let mut lines = Vec::new();
                for _ in 0..random.usize(..5) {
                    let (name, time) = (["a", "b"][random.usize(..2)], random.i64(10..30));
                    all.push((time, format!("+ {name} {time}")));
                    lines.push(format!("+ {name} {time}"));
                }
                output.extend(step(&mut kept, &lines));
                all.sort();
                let first = all.len().saturating_sub(most);
                let schema = kept.spec.input.clone();
                let expected = all[first..].iter().map(|(_, line)| line.as_str());
                let expected = consolidate(&parse_rows(&schema, expected)).unwrap();
                let found = consolidate(&concat(&schema, &output).unwrap()).unwrap();
                assert_eq!(print_sorted(&found), print_sorted(&expected), "seed {seed}");
                if random.u8(..3) == 0 {
                    let is_first = checkpoint.is_empty();
                    let scope = if is_first { Scope::All } else { Scope::Changed };
                    checkpoint.extend(kept.changes(scope).unwrap());
                    kept = recent(most, usize::MAX);
                    for change in &checkpoint {
                        kept.restore(change.clone()).unwrap();
                    }
                    let back = kept.snapshot().unwrap();
                    assert_eq!(print_sorted(&back), print_sorted(&expected), "seed {seed}");
                }
            }
        }
    }
}
