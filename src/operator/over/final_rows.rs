//! Rows that are final, and let go: what of them is asked for stays.
//!
//! Let F be the bound of the order, less what frames look ahead: rows before F do not change any
//! more, and neither do their values. Of them those stay that a function of another row can ask
//! for:
//!
//! ```text
//!   sum(x) OVER (ORDER BY ts), lag(x) OVER (ORDER BY ts), max(x) OVER (ORDER BY ts)
//!
//!   ts   1   2   3   4   5 │F  6   7
//!   x    10  90  20  30  40│   5   1
//!        └───┬───────┘   └──── what lag looks back to
//!            └ let go: 10, 20, 30 are 3 rows, sum 60; 90 stays, it is the greatest
//! ```
//!
//! What has been let go stands before all that has not, so that a row's number is its position and
//! how many were let go, and a sum from the first row on is that of the tree and of those.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType};

use crate::delta::SlotSet;
use crate::error::{Error, Result, SqlState};
use crate::operator::TableChange;
use crate::operator::over::partitions::{Partitions, batch};
use crate::operator::over::parts::{Measured, NONE, Part};
use crate::operator::over::spec::Kept;
use crate::operator::over::tree::{Placed, Sum, Tree};

/// What the rows of a partition add up to that were let go.
#[derive(Clone)]
pub(super) struct Base {
    /// Its own slot in state table 1: partitions are numbered anew after a restart.
    slot: u32,
    pub sum: Sum,
    /// Of each measure; of extremes nothing, because the row that is one stays.
    pub parts: Vec<Part>,
}

/// What rows were let go, by partition, and when more of them can be.
#[derive(Default)]
pub(super) struct Bases {
    by_partition: Vec<Option<Box<Base>>>,
    /// By slot of a base, its partition; [`NONE`] until it is put back.
    owners: Vec<u32>,
    /// Changed since the last checkpoint.
    changed: SlotSet,
    /// Partitions by the time that must be final for all their rows to be let go.
    due: BTreeSet<(i64, u32)>,
    times: Vec<i64>,
}

/// No time is waited for.
const NEVER: i64 = i64::MAX;

impl Bases {
    pub fn of(&self, partition: u32) -> Option<&Base> {
        self.by_partition.get(partition as usize)?.as_deref()
    }

    fn of_mut(&mut self, partition: u32, measured: &Measured) -> &mut Base {
        let place = partition as usize;
        if self.by_partition.len() <= place {
            self.by_partition.resize_with(place + 1, || None);
        }
        let owners = &mut self.owners;
        let base = self.by_partition[place].get_or_insert_with(|| {
            owners.push(partition);
            let slot = u32::try_from(owners.len() - 1).expect("partitions fit u32");
            Box::new(Base {
                slot,
                sum: Sum::default(),
                parts: measured.zeros(),
            })
        });
        self.changed.insert(base.slot);
        base
    }

    /// Puts a base back into its slot.
    fn put(&mut self, partition: u32, base: Base) {
        let (slot, place) = (base.slot as usize, partition as usize);
        if self.owners.len() <= slot {
            self.owners.resize(slot + 1, NONE);
        }
        self.owners[slot] = partition;
        if self.by_partition.len() <= place {
            self.by_partition.resize_with(place + 1, || None);
        }
        self.by_partition[place] = Some(Box::new(base));
    }

    /// Partitions all of whose rows are before the time, once.
    pub fn take_due(&mut self, before: i64) -> Vec<u32> {
        let rest = self.due.split_off(&(before, 0));
        let due = std::mem::replace(&mut self.due, rest);
        let partitions: Vec<u32> = due.into_iter().map(|(_, partition)| partition).collect();
        for &partition in &partitions {
            self.times[partition as usize] = NEVER;
        }
        partitions
    }

    /// Says when a partition is to be looked at without rows that come for it.
    pub fn wait(&mut self, partition: u32, time: i64) {
        let place = partition as usize;
        if self.times.len() <= place {
            self.times.resize(place + 1, NEVER);
        }
        let known = std::mem::replace(&mut self.times[place], time);
        if known != time {
            self.due.remove(&(known, partition));
            if time != NEVER {
                self.due.insert((time, partition));
            }
        }
    }

    pub fn bytes(&self, measures: usize) -> usize {
        let of_base = size_of::<Base>() + measures * size_of::<Part>();
        self.owners.len() * (of_base + size_of::<u32>())
            + self.by_partition.capacity() * size_of::<usize>()
            + self.times.capacity() * size_of::<i64>()
            + self.due.len() * size_of::<(i64, u32)>() * 3 / 2
            + self.changed.bytes()
    }
}

/// By what rows are let go.
pub(super) struct Freeing<'a> {
    pub kept: Kept,
    /// The order column, whose values are kept in the store.
    pub column: usize,
    /// Rows before it are final.
    pub time: i64,
    /// The time, and the one that distances reach back to, as rows' bytes begin.
    pub bytes: [&'a [u8]; 2],
    /// Measures of an extreme from the first row on.
    pub extremes: &'a [usize],
}

impl Partitions {
    /// Lets a partition's rows go that nobody asks for any more. Their slots are the caller's to
    /// release.
    pub fn let_go(
        &mut self,
        partition: u32,
        freeing: &Freeing<'_>,
        released: &mut Vec<u32>,
    ) -> Result<()> {
        let going = self.going(partition, freeing);
        if !going.is_empty() {
            let before = self.tree(partition).total();
            for placed in &going {
                self.set(partition, placed.entry.slot, placed.entry.weight, 0);
                released.push(placed.entry.slot);
            }
            if freeing.kept.adds_up {
                let mut sum = before;
                sum -= self.tree(partition).total();
                let (bases, measured) = self.bases_and_measured();
                let base = bases.of_mut(partition, measured);
                base.sum += sum;
                for placed in &going {
                    for (at, part) in base.parts.iter_mut().enumerate() {
                        if !measured.is_extreme(at) {
                            let entry = &placed.entry;
                            measured.add_row(part, at, entry.slot, entry.weight);
                        }
                    }
                }
            }
        }
        let time = self.all_final(partition, freeing)?;
        self.bases_and_measured().0.wait(partition, time);
        Ok(())
    }

    fn going(&self, partition: u32, freeing: &Freeing<'_>) -> Vec<Placed> {
        let (tree, rows, kept) = (self.tree(partition), self.rows(), &freeing.kept);
        let [time, reached] = freeing.bytes;
        let open = tree.partition_point(|bytes| bytes < time, rows);
        let by_rows = open.saturating_sub(kept.rows);
        let by_classes = match kept.classes {
            0 => open,
            classes => class_before(tree, open, classes),
        };
        let by_time = tree.partition_point(|bytes| bytes < reached, rows);
        let end = by_rows.min(by_classes).min(by_time);
        let mut going = Vec::new();
        if end <= kept.first {
            return going;
        }
        let measured = self.measured();
        let extremes: Vec<u32> = (freeing.extremes.iter())
            .map(|&at| match tree.part(0..end, at, measured) {
                Part::Extreme(slot) => slot,
                _ => NONE,
            })
            .collect();
        tree.walk(kept.first..end, &mut |placed| {
            let first = placed.before.rows;
            let is_whole = first >= kept.first && first + placed.entry.weight <= end;
            if is_whole && !extremes.contains(&placed.entry.slot) {
                going.push(placed);
            }
        });
        going
    }

    /// The time at which more rows can be let go than now, if no others come.
    fn all_final(&self, partition: u32, freeing: &Freeing<'_>) -> Result<i64> {
        let tree = self.tree(partition);
        let Some(last) = tree.at(tree.total().rows - 1) else {
            return Ok(NEVER);
        };
        let time = self.values(freeing.column, &[last.entry.slot])?;
        let time = time.as_primitive::<TimestampMicrosecondType>();
        if time.is_null(0) {
            return Ok(NEVER);
        }
        let time = time.value(0).saturating_add(freeing.kept.micros);
        Ok(if time < freeing.time { NEVER } else { time })
    }

    /// What was let go and has changed, or all of it, with the partitions' keys.
    pub fn base_changes(&mut self, all: bool, table: u32) -> Result<Option<TableChange>> {
        let bases = self.bases_and_measured().0;
        let slots: Vec<u32> = match all {
            true => {
                let slots = bases.owners.iter().zip(0..);
                let live = slots.filter(|(owner, _)| **owner != NONE);
                live.map(|(_, slot)| slot).collect()
            }
            false => bases.changed.take(usize::MAX),
        };
        bases.changed = SlotSet::default();
        if slots.is_empty() {
            return Ok(None);
        }
        let owners = slots.iter().map(|&slot| bases.owners[slot as usize]);
        let partitions: Vec<u32> = owners.collect();
        let mut columns = self.keys_of(&partitions)?;
        let mut bytes = BinaryBuilder::new();
        let (mut rows, mut classes) = (Vec::new(), Vec::new());
        let bases = self.bases_and_measured().0;
        for &partition in &partitions {
            let base = bases.of(partition).expect("what has changed is there");
            rows.push(base.sum.rows);
            classes.push(base.sum.classes);
            let mut text = Vec::new();
            base.parts.iter().for_each(|part| part.write(&mut text));
            bytes.append_value(&text);
        }
        columns.push(Arc::new(Int64Array::from(rows)));
        columns.push(Arc::new(Int64Array::from(classes)));
        columns.push(Arc::new(bytes.finish()));
        let fields = columns.iter().enumerate().map(|(place, column)| {
            Field::new(format!("base{place}"), column.data_type().clone(), true)
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(Some(TableChange {
            table,
            rows: batch(schema, columns, slots.len())?,
            slots,
            freed: Vec::new(),
        }))
    }

    /// Puts back what was let go.
    ///
    /// # Errors
    /// XX001, when it is not of these partitions.
    pub fn restore_bases(&mut self, change: &TableChange) -> Result<()> {
        let corrupted = || {
            let message = "a block of what a window's rows add up to is not of its operator";
            Error::new(SqlState::DATA_CORRUPTED, message)
        };
        let columns = change.rows.columns();
        let width = columns.len().checked_sub(3).ok_or_else(corrupted)?;
        let types = [DataType::Int64, DataType::Int64, DataType::Binary];
        let is_fit = columns[width..]
            .iter()
            .zip(&types)
            .all(|(column, data_type)| column.data_type() == data_type);
        let keys = columns[..width].iter().map(|column| column.data_type());
        if !is_fit || !keys.eq(self.key_types().iter()) {
            return Err(corrupted());
        }
        let partitions = self.of_keys(&columns[..width])?;
        let number = |column: usize| columns[width + column].as_primitive::<Int64Type>();
        let (rows, classes) = (number(0), number(1));
        let parts: &ArrayRef = &columns[width + 2];
        let parts = parts.as_binary::<i32>();
        for (row, (&partition, &slot)) in partitions.iter().zip(&change.slots).enumerate() {
            let mut bytes = parts.value(row);
            let (bases, measured) = self.bases_and_measured();
            let read = (0..measured.len()).map(|at| measured.read(at, &mut bytes));
            let base = Base {
                slot,
                sum: Sum {
                    rows: rows.value(row),
                    classes: classes.value(row),
                },
                parts: read.collect::<Option<Vec<Part>>>().ok_or_else(corrupted)?,
            };
            bases.put(partition, base);
        }
        Ok(())
    }
}

/// Where the class begins that stands so many classes before the one at a position.
fn class_before(tree: &Tree, position: i64, classes: i64) -> i64 {
    let class = match tree.at(position) {
        Some(placed) => placed.before.classes + i64::from(placed.entry.is_first) - 1,
        None => tree.total().classes,
    };
    let first = tree.at_class(class.saturating_sub(classes).max(0));
    first.map_or(position, |placed| placed.before.rows.min(position))
}
