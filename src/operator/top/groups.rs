//! The groups: their keys, their rows in order, and when they are final.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, RecordBatchOptions,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;

use crate::base::limits::CHUNK_ROWS_MAX;
use crate::delta::{KeyTable, arrow_error};
use crate::error::{Error, Result, SqlState};
use crate::operator::aggregate::closing::Windows;
use crate::operator::idle::IdleOrder;
use crate::operator::ordered_rows::{Encoded, Layout};
use crate::operator::rows::{Removal, RowStore};
use crate::operator::top::spec::TopSpec;
use crate::operator::top::tree::{Entry, Key, Sum, Tree};
use crate::operator::{Scope, TableChange};

/// All groups of a shard.
pub(super) struct Groups {
    layout: Layout,
    partition: Vec<usize>,
    has_classes: bool,

    keys: KeyTable,
    /// By group.
    trees: Vec<Tree>,
    windows: Option<Windows>,
    /// Groups that leave when no row has come for long.
    idle: Option<IdleOrder>,
    rows: RowStore,
    /// By slot of a row, stale for those that are free: its group, and how many of its bytes are
    /// of the order columns where that matters.
    owners: Vec<u32>,
    class_lengths: Vec<u32>,
}

impl Groups {
    /// # Errors
    /// 0A000, when a column's type has no order.
    pub fn new(spec: &TopSpec) -> Result<Groups> {
        let layout = Layout::new(&spec.input, &spec.partition, &spec.order)?;
        let is_time = |at: &usize| {
            let data_type = spec.input.field(spec.partition[*at]).data_type();
            matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _))
        };
        let windows = spec.close.clone().map(|close| {
            assert!(is_time(&close.column), "a group is final by a timestamp");
            Windows::new(close, (0..spec.partition.len()).filter(is_time).collect())
        });
        Ok(Groups {
            keys: layout.groups()?,
            layout,
            partition: spec.partition.clone(),
            has_classes: spec.has_classes(),
            trees: Vec::new(),
            windows,
            idle: spec.idle_micros.map(IdleOrder::new),
            rows: RowStore::new(bytes_schema(), Removal::ByOwner)?,
            owners: Vec::new(),
            class_lengths: Vec::new(),
        })
    }

    pub fn rows(&self) -> &RowStore {
        &self.rows
    }

    pub fn tree(&self, group: u32) -> &Tree {
        &self.trees[group as usize]
    }

    pub fn windows(&mut self) -> Option<&mut Windows> {
        self.windows.as_mut()
    }

    pub fn idle(&mut self) -> Option<&mut IdleOrder> {
        self.idle.as_mut()
    }

    /// When the first group leaves for having been idle.
    pub fn deadline(&self) -> Option<i64> {
        self.idle.as_ref()?.deadline()
    }

    /// Has the next checkpoint say when a group, which rows came for, was touched: its rows say
    /// it, each when it is saved, and the last one is right.
    pub fn mark(&mut self, group: u32) {
        if let Some(last) = self.trees[group as usize].last() {
            self.rows.mark(last.slot());
        }
    }

    /// When the first group is final.
    pub fn first_end(&self) -> Option<i64> {
        self.windows.as_ref()?.first_end()
    }

    /// The least value that a partition column has in a group that waits for its close.
    pub fn least_waiting(&self, column: usize) -> Option<i64> {
        self.windows.as_ref()?.least_waiting(column)
    }

    /// A row's bytes as they are searched for.
    pub fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        Key {
            prefix: self.layout.prefix(bytes),
            bytes,
        }
    }

    pub fn encode(&self, rows: &RecordBatch) -> Result<Encoded> {
        self.layout.encode(rows, self.has_classes)
    }

    /// The group of each row; there is one for each afterwards.
    pub fn of_rows(&mut self, rows: &RecordBatch) -> Result<Vec<u32>> {
        let keys = self.layout.keys(&self.keys, rows)?;
        let mut groups = Vec::new();
        let fresh = self.keys.insert(&keys, &mut groups);
        self.trees.resize_with(self.keys.slots(), Tree::default);
        if let Some(windows) = &mut self.windows
            && !fresh.is_empty()
        {
            windows.insert_new(&self.partition, rows, &groups, &fresh);
        }
        Ok(groups)
    }

    /// Gives new rows a slot, which no group has yet.
    pub fn add(&mut self, bytes: &[&[u8]], lengths: &[u32], weights: &[i64]) -> Result<Vec<u32>> {
        let mut slots = Vec::with_capacity(bytes.len());
        let parts = bytes.chunks(CHUNK_ROWS_MAX);
        for (bytes, weights) in parts.zip(weights.chunks(CHUNK_ROWS_MAX)) {
            let column: ArrayRef = Arc::new(BinaryArray::from_iter_values(bytes));
            slots.extend(self.rows.put(&[column], weights)?);
        }
        self.note_lengths(&slots, lengths);
        Ok(slots)
    }

    fn note_lengths(&mut self, slots: &[u32], lengths: &[u32]) {
        self.owners.resize(self.rows.slots(), 0);
        if self.has_classes {
            self.class_lengths.resize(self.rows.slots(), 0);
            for (&slot, &length) in slots.iter().zip(lengths) {
                self.class_lengths[slot as usize] = length;
            }
        }
    }

    /// Gives a row of a group another weight: from 0 it is taken in, to 0 it is taken out, and its
    /// slot is the caller's to release.
    pub fn set(&mut self, group: u32, slot: u32, old: i64, new: i64) {
        self.owners[slot as usize] = group;
        let prefix = self.layout.prefix(self.rows.bytes_of(0, slot));
        let mut is_first = false;
        let mut delta = Sum {
            rows: new - old,
            classes: 0,
        };
        if self.has_classes {
            let (was_first, now_first) = self.mark_next(group, slot, old, new);
            is_first = now_first;
            delta.classes = i64::from(now_first) - i64::from(was_first);
        }
        if self.rows.weight(slot) != new {
            self.rows.set_weight(slot, new);
        }
        let key = Key {
            prefix,
            bytes: self.rows.bytes_of(0, slot),
        };
        let tree = &mut self.trees[group as usize];
        match new {
            0 => {
                let sum = Sum {
                    rows: old,
                    classes: -delta.classes,
                };
                tree.take(&key, sum, &self.rows);
            }
            _ => tree.put(
                &key,
                Entry::new(prefix, slot, new, is_first),
                delta,
                &self.rows,
            ),
        }
    }

    /// Moves the mark of a class's first row to the row behind one that goes, or away from it
    /// where one comes. Returns whether the row itself was and will be the first.
    fn mark_next(&mut self, group: u32, slot: u32, old: i64, new: i64) -> (bool, bool) {
        let tree = &self.trees[group as usize];
        let (before, entry) = tree.locate(&self.key(self.rows.bytes_of(0, slot)), &self.rows);
        let was_first = entry.is_some_and(|entry| entry.is_first());
        let is_first = match (old, new) {
            (0, _) => {
                let last = tree.at(before.rows - 1, &self.rows);
                last.is_none_or(|last| !self.are_peers(last.entry.slot(), slot))
            }
            (_, 0) => false,
            _ => was_first,
        };
        if was_first == is_first {
            return (was_first, is_first);
        }
        if let Some(next) = tree.at(before.rows + old, &self.rows)
            && next.entry.is_first() == is_first
            && self.are_peers(next.entry.slot(), slot)
        {
            let marked = next.entry.marked(was_first);
            let key = Key {
                prefix: marked.prefix(),
                bytes: self.rows.bytes_of(0, marked.slot()),
            };
            let delta = Sum {
                rows: 0,
                classes: i64::from(was_first) - i64::from(is_first),
            };
            self.trees[group as usize].put(&key, marked, delta, &self.rows);
        }
        (was_first, is_first)
    }

    /// Whether two rows are equal in the order columns.
    fn are_peers(&self, a: u32, b: u32) -> bool {
        self.class(a) == self.class(b)
    }

    /// The bytes of a row's order columns.
    pub fn class(&self, slot: u32) -> &[u8] {
        let length = self.class_lengths[slot as usize] as usize;
        &self.rows.bytes_of(0, slot)[..length]
    }

    /// Takes a group's rows out at once. Returns their slots.
    pub fn clear(&mut self, group: u32) -> Vec<u32> {
        let tree = std::mem::take(&mut self.trees[group as usize]);
        let mut slots = Vec::new();
        let all = 0..i64::MAX;
        tree.walk(all, &self.rows, &mut |placed| {
            slots.push(placed.entry.slot())
        });
        slots
    }

    /// Forgets groups that are empty and will not be there any more.
    pub fn forget(&mut self, groups: &[u32]) {
        groups.iter().for_each(|&group| self.keys.remove(group));
        if let Some(idle) = &mut self.idle {
            groups.iter().for_each(|&group| idle.remove(group));
        }
    }

    /// Forgets those of the groups, each named once, that have no rows.
    pub fn forget_empty(&mut self, groups: &[u32]) {
        for &group in groups {
            if self.trees[group as usize].is_empty() && self.keys.holds(group) {
                self.keys.remove(group);
                if let Some(windows) = &mut self.windows {
                    windows.remove(group);
                }
                if let Some(idle) = &mut self.idle {
                    idle.remove(group);
                }
            }
        }
    }

    /// Gives the slots of rows that are in no tree back.
    pub fn release(&mut self, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        self.rows.release(slots);
        if self.rows.shrink()? {
            self.owners = Vec::new();
            self.class_lengths = Vec::new();
        }
        Ok(())
    }

    /// Rows that have slots, as the input has them.
    pub fn gather(&self, slots: &[u32]) -> Result<RecordBatch> {
        let owners: Vec<u32> = slots.iter().map(|&s| self.owners[s as usize]).collect();
        let bytes = slots.iter().map(|&slot| self.rows.bytes_of(0, slot));
        self.layout.decode(bytes, &self.keys, &owners)
    }

    pub fn bytes(&self) -> usize {
        self.keys.bytes()
            + self.trees.capacity() * size_of::<Tree>()
            + Tree::bytes_of(self.rows.rows())
            + self.windows.as_ref().map_or(0, Windows::bytes)
            + self.idle.as_ref().map_or(0, IdleOrder::bytes)
            + self.rows.bytes()
            + (self.owners.capacity() + self.class_lengths.capacity()) * size_of::<u32>()
    }

    /// The rows that changed since the last call, with their weights behind their columns, and
    /// where idle groups leave with the clock of the group's last touch.
    pub fn changes(&mut self, scope: Scope, table: u32) -> Result<Vec<TableChange>> {
        let changes = self.rows.changes(scope, table)?;
        let saved = changes.into_iter().map(|change| {
            let weights = change.rows.column(1).clone();
            let rows = self.gather(&change.slots)?;
            let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
            fields.push(Arc::new(Field::new("weight", DataType::Int64, false)));
            let mut columns = rows.columns().to_vec();
            columns.push(weights);
            if let Some(idle) = &self.idle {
                let owners = change.slots.iter().map(|&slot| self.owners[slot as usize]);
                let touched = owners.map(|group| idle.touched(group));
                columns.push(Arc::new(Int64Array::from_iter_values(touched)));
                fields.push(Arc::new(Field::new("touched", DataType::Int64, false)));
            }
            Ok(TableChange {
                rows: batch(Arc::new(Schema::new(fields)), columns, change.slots.len())?,
                ..change
            })
        });
        saved.collect()
    }

    /// Puts a block back; see [`Groups::rebuild`].
    ///
    /// # Errors
    /// XX001, when it is not one of these rows.
    pub fn restore(&mut self, input: &SchemaRef, change: &TableChange) -> Result<()> {
        let replaced = self.rows.replaced(change);
        self.rows.release(&replaced);
        let width = input.fields().len();
        let columns = change.rows.columns();
        let numbers = 1 + usize::from(self.idle.is_some());
        let is_number = |column: &ArrayRef| *column.data_type() == DataType::Int64;
        let is_fit = columns.len() == width + numbers
            && columns[width..].iter().all(is_number)
            && columns
                .iter()
                .zip(input.fields())
                .all(|(column, field)| column.data_type() == field.data_type());
        if !is_fit {
            let message = "a block of ranked rows does not have the columns of its operator";
            return Err(Error::new(SqlState::DATA_CORRUPTED, message));
        }
        if change.slots.is_empty() {
            return Ok(());
        }
        let rows = batch(input.clone(), columns[..width].to_vec(), change.slots.len())?;
        let groups = self.of_rows(&rows)?;
        let encoded = self.encode(&rows)?;
        let weights = columns[width].clone();
        let bytes: ArrayRef = Arc::new(encoded.bytes);
        let fields = [
            bytes_schema().field(0).clone(),
            Field::new("weight", DataType::Int64, false),
        ];
        let schema = Arc::new(Schema::new(fields.to_vec()));
        self.rows.restore(&TableChange {
            rows: batch(schema, vec![bytes, weights.clone()], change.slots.len())?,
            ..change.clone()
        })?;
        self.note_lengths(&change.slots, &encoded.class_lengths);
        for (&slot, &group) in change.slots.iter().zip(&groups) {
            self.owners[slot as usize] = group;
        }
        if let Some(idle) = &mut self.idle {
            let touched = columns[width + 1].as_primitive::<Int64Type>().values();
            let groups = groups.iter().zip(touched);
            groups.for_each(|(&group, &touched)| idle.restore(group, Some(touched)));
        }
        Ok(())
    }

    /// All blocks are put back: makes the trees. A row may have moved from one slot to another
    /// between blocks, so that it is not known before where it is.
    pub fn rebuild(&mut self) {
        let slots = 0..u32::try_from(self.rows.slots()).expect("a store has fewer than 2^32 rows");
        let live = slots.filter(|&slot| self.rows.weight(slot) != 0);
        let mut keyed: Vec<(u32, u64, u32)> = live
            .map(|slot| {
                let prefix = self.layout.prefix(self.rows.bytes_of(0, slot));
                (self.owners[slot as usize], prefix, slot)
            })
            .collect();
        keyed.sort_unstable_by(|a, b| {
            let by = (a.0, a.1).cmp(&(b.0, b.1));
            let bytes = |slot| self.rows.bytes_of(0, slot);
            by.then_with(|| bytes(a.2).cmp(bytes(b.2)))
        });
        for (group, _, slot) in keyed {
            self.set(group, slot, 0, self.rows.weight(slot));
        }
        let groups = self.keys.live_slots();
        self.forget_empty(&groups);
    }
}

fn bytes_schema() -> SchemaRef {
    let row = Field::new("row", DataType::Binary, false);
    Arc::new(Schema::new(vec![row]))
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(arrow_error)
}
