//! The partitions: their keys, their rows in order, and when they are final.
//!
//! A row is one string of bytes that compares as it is ordered; beside it stand, in columns by its
//! slot, the values that functions read of other rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::row::{RowConverter, Rows, SortField};

use crate::delta::{KeyBatch, KeyTable, arrow_error};
use crate::error::{Error, Result, SqlState};
use crate::operator::aggregate::closing::Windows;
use crate::operator::ordered_rows::{Encoded, Layout};
use crate::operator::over::final_rows::Bases;
use crate::operator::over::parts::{MeasureKind, MeasureSpec, Measured};
use crate::operator::over::spec::OverSpec;
use crate::operator::over::tree::{Alteration, Entry, Key, Sum, Tree};
use crate::operator::rows::{Removal, RowStore, canonical};
use crate::operator::{Scope, TableChange};

/// All partitions of a shard.
pub(super) struct Partitions {
    layout: Layout,
    input: SchemaRef,
    partition: Vec<usize>,

    keys: KeyTable,
    /// By partition.
    trees: Vec<Tree>,
    windows: Option<Windows>,
    measured: Measured,
    bases: Bases,
    /// By slot of a row, stale for those that are free: its partition, and how many of its bytes
    /// are of the order columns.
    owners: Vec<u32>,
    class_lengths: Vec<u32>,

    /// Input columns whose values stand in the store, behind the row's bytes in this order.
    kept: Vec<usize>,
    /// Input columns whose values stand there as bytes that compare, behind those.
    compared: Vec<(usize, RowConverter)>,
}

/// Rows that are to be taken in: a batch of the step, and a row of it.
pub(super) type Origin = (usize, usize);

impl Partitions {
    /// # Errors
    /// 0A000, when a column's type has no order.
    pub fn new(
        spec: &OverSpec,
        kept: Vec<usize>,
        compared: Vec<usize>,
        measures: &[MeasureSpec],
    ) -> Result<Partitions> {
        let layout = Layout::new(&spec.input, &spec.partition, &spec.order)?;
        let is_time = |at: &usize| {
            let data_type = spec.input.field(spec.partition[*at]).data_type();
            matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _))
        };
        let windows = spec.close.clone().map(|close| {
            assert!(
                is_time(&close.column),
                "a partition is final by a timestamp"
            );
            Windows::new(close, (0..spec.partition.len()).filter(is_time).collect())
        });
        let compared = compared.into_iter().map(|column| {
            let field = SortField::new(spec.input.field(column).data_type().clone());
            let converter = RowConverter::new(vec![field]).map_err(arrow_error)?;
            Ok((column, converter))
        });
        let compared = compared.collect::<Result<Vec<_>>>()?;
        let mut fields = vec![Field::new("row", DataType::Binary, false)];
        for &column in &kept {
            fields.push(spec.input.field(column).clone().with_nullable(true));
        }
        for (column, _) in &compared {
            let name = spec.input.field(*column).name();
            fields.push(Field::new(name, DataType::Binary, false));
        }
        let rows = RowStore::new(Arc::new(Schema::new(fields)), Removal::ByOwner)?;
        Ok(Partitions {
            keys: layout.groups()?,
            layout,
            input: spec.input.clone(),
            partition: spec.partition.clone(),
            trees: Vec::new(),
            windows,
            measured: Measured::new(rows, measures, &spec.input),
            bases: Bases::default(),
            owners: Vec::new(),
            class_lengths: Vec::new(),
            kept,
            compared,
        })
    }

    /// The column of the store that has the bytes by which an extreme is found.
    pub fn bytes_column(kept: &[usize], compared: usize) -> usize {
        1 + kept.len() + compared
    }

    pub fn measured(&self) -> &Measured {
        &self.measured
    }

    pub fn rows(&self) -> &RowStore {
        &self.measured.rows
    }

    pub fn bases(&self) -> &Bases {
        &self.bases
    }

    pub fn bases_and_measured(&mut self) -> (&mut Bases, &Measured) {
        (&mut self.bases, &self.measured)
    }

    /// All partitions are looked at when their order next has a bound.
    pub fn wake_all(&mut self) {
        for partition in self.keys.live_slots() {
            self.bases.wait(partition, i64::MIN);
        }
    }

    /// The types of the partitions' keys.
    pub fn key_types(&self) -> Vec<DataType> {
        let types = self.partition.iter();
        let types = types.map(|&column| self.input.field(column).data_type().clone());
        match self.partition.is_empty() {
            true => vec![DataType::Boolean],
            false => types.collect(),
        }
    }

    /// The partitions' keys, as columns.
    pub fn keys_of(&self, partitions: &[u32]) -> Result<Vec<ArrayRef>> {
        self.keys.columns(partitions)
    }

    /// The partitions of some keys; there is one for each afterwards.
    pub fn of_keys(&mut self, columns: &[ArrayRef]) -> Result<Vec<u32>> {
        let keys = KeyBatch::new(&self.keys, columns)?;
        let mut partitions = Vec::new();
        self.keys.insert(&keys, &mut partitions);
        self.trees.resize_with(self.keys.slots(), Tree::default);
        Ok(partitions)
    }

    pub fn tree(&self, partition: u32) -> &Tree {
        &self.trees[partition as usize]
    }

    pub fn windows(&mut self) -> Option<&mut Windows> {
        self.windows.as_mut()
    }

    /// When the first partition is final.
    pub fn first_end(&self) -> Option<i64> {
        self.windows.as_ref()?.first_end()
    }

    /// The least value that a partition column has in a partition that waits for its close.
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
        self.layout.encode(rows, true)
    }

    /// Values of the first order column as rows' bytes begin with.
    pub fn encode_order(&self, column: &ArrayRef) -> Result<Rows> {
        self.layout.encode_first(column)
    }

    /// A kept column's values of rows that have slots.
    pub fn values(&self, column: usize, slots: &[u32]) -> Result<ArrayRef> {
        let place = self.kept.iter().position(|&kept| kept == column);
        let place = place.ok_or_else(|| Error::internal("a column that is read is not kept"))?;
        self.rows().gather_column(1 + place, slots)
    }

    /// The partition of each row; there is one for each afterwards.
    pub fn of_rows(&mut self, rows: &RecordBatch) -> Result<Vec<u32>> {
        let keys = self.layout.keys(&self.keys, rows)?;
        let mut partitions = Vec::new();
        let fresh = self.keys.insert(&keys, &mut partitions);
        self.trees.resize_with(self.keys.slots(), Tree::default);
        if let Some(windows) = &mut self.windows
            && !fresh.is_empty()
        {
            windows.insert_new(&self.partition, rows, &partitions, &fresh);
        }
        Ok(partitions)
    }

    /// Gives new rows, by their places in the step's batches, a slot that no partition has yet.
    pub fn add(
        &mut self,
        batches: &[(RecordBatch, Encoded)],
        origins: &[Origin],
        weights: &[i64],
    ) -> Result<Vec<u32>> {
        if origins.is_empty() {
            return Ok(Vec::new());
        }
        let columns = (0..self.input.fields().len()).map(|column| {
            let sources = batches.iter();
            let sources: Vec<&dyn Array> = sources
                .map(|(rows, _)| rows.column(column).as_ref())
                .collect();
            interleave(&sources, origins).map_err(arrow_error)
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let rows = batch(self.input.clone(), columns, origins.len())?;
        let bytes = origins
            .iter()
            .map(|&(at, row)| batches[at].1.bytes.value(row));
        let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(bytes));
        let stored = self.stored(bytes, &rows)?;
        let slots = self.measured.rows.put(&stored, weights)?;
        self.measured.note(&slots, &rows)?;
        let lengths = origins
            .iter()
            .map(|&(at, row)| batches[at].1.class_lengths[row]);
        self.note_lengths(&slots, lengths);
        Ok(slots)
    }

    /// The columns of the store.
    fn stored(&self, bytes: ArrayRef, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let mut columns = vec![bytes];
        for &column in &self.kept {
            columns.push(canonical(rows.column(column)));
        }
        for (column, converter) in &self.compared {
            let values = converter.convert_columns(&[canonical(rows.column(*column))]);
            let values = values.map_err(arrow_error)?.try_into_binary();
            let too_long =
                |_| Error::new(SqlState::OUT_OF_MEMORY, "the rows of a batch are too long");
            columns.push(Arc::new(values.map_err(too_long)?));
        }
        Ok(columns)
    }

    fn note_lengths(&mut self, slots: &[u32], lengths: impl Iterator<Item = u32>) {
        let end = self.rows().slots();
        self.owners.resize(end, 0);
        self.class_lengths.resize(end, 0);
        for (&slot, length) in slots.iter().zip(lengths) {
            self.class_lengths[slot as usize] = length;
        }
    }

    /// Gives a row of a partition another weight: from 0 it is taken in, to 0 it is taken out, and
    /// its slot is the caller's to release.
    pub fn set(&mut self, partition: u32, slot: u32, old: i64, new: i64) {
        self.owners[slot as usize] = partition;
        let (was_first, is_first) = self.mark_next(partition, slot, old, new);
        if self.rows().weight(slot) != new {
            self.measured.rows.set_weight(slot, new);
        }
        let prefix = self.layout.prefix(self.rows().bytes_of(0, slot));
        let alteration = Alteration {
            entry: Entry {
                prefix,
                weight: new,
                slot,
                is_first,
            },
            delta: Sum {
                rows: new - old,
                classes: i64::from(is_first) - i64::from(was_first),
            },
        };
        let measured = &self.measured;
        let bytes = measured.rows.bytes_of(0, slot);
        let key = Key { prefix, bytes };
        let tree = &mut self.trees[partition as usize];
        match new {
            0 => tree.take(&key, &alteration, measured),
            _ => tree.put(&key, &alteration, measured),
        }
    }

    /// Moves the mark of a class's first row to the row behind one that goes, or away from it
    /// where one comes. Returns whether the row itself was and will be the first.
    fn mark_next(&mut self, partition: u32, slot: u32, old: i64, new: i64) -> (bool, bool) {
        let tree = &self.trees[partition as usize];
        let key = self.key(self.rows().bytes_of(0, slot));
        let (before, entry) = tree.locate(&key, self.rows());
        let was_first = entry.is_some_and(|entry| entry.is_first);
        let is_first = match (old, new) {
            (0, _) => {
                let last = tree.at(before.rows - 1);
                last.is_none_or(|last| !self.are_peers(last.entry.slot, slot))
            }
            (_, 0) => false,
            _ => was_first,
        };
        if was_first == is_first {
            return (was_first, is_first);
        }
        if let Some(next) = tree.at(before.rows + old)
            && next.entry.is_first == is_first
            && self.are_peers(next.entry.slot, slot)
        {
            let alteration = Alteration {
                entry: Entry {
                    is_first: was_first,
                    ..next.entry
                },
                delta: Sum {
                    rows: 0,
                    classes: i64::from(was_first) - i64::from(is_first),
                },
            };
            let measured = &self.measured;
            let key = Key {
                prefix: next.entry.prefix,
                bytes: measured.rows.bytes_of(0, next.entry.slot),
            };
            self.trees[partition as usize].put(&key, &alteration, measured);
        }
        (was_first, is_first)
    }

    /// Whether two rows are equal in the order columns.
    fn are_peers(&self, a: u32, b: u32) -> bool {
        self.class(a) == self.class(b)
    }

    /// The bytes of a row's order columns.
    fn class(&self, slot: u32) -> &[u8] {
        let length = self.class_lengths[slot as usize] as usize;
        &self.rows().bytes_of(0, slot)[..length]
    }

    /// Takes a partition's rows out at once. Returns their slots.
    pub fn clear(&mut self, partition: u32) -> Vec<u32> {
        let tree = std::mem::take(&mut self.trees[partition as usize]);
        let mut slots = Vec::new();
        tree.walk(0..i64::MAX, &mut |placed| slots.push(placed.entry.slot));
        slots
    }

    /// Forgets partitions that are final and empty.
    pub fn forget(&mut self, partitions: &[u32]) {
        partitions.iter().for_each(|&each| self.keys.remove(each));
    }

    /// Forgets those of the partitions, each named once, that have no rows.
    pub fn forget_empty(&mut self, partitions: &[u32]) {
        for &partition in partitions {
            let is_empty =
                self.trees[partition as usize].is_empty() && self.bases.of(partition).is_none();
            if is_empty && self.keys.holds(partition) {
                self.keys.remove(partition);
                if let Some(windows) = &mut self.windows {
                    windows.remove(partition);
                }
            }
        }
    }

    /// Gives the slots of rows that are in no tree back.
    pub fn release(&mut self, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        self.measured.rows.release(slots);
        if self.measured.rows.shrink()? {
            self.owners = Vec::new();
            self.class_lengths = Vec::new();
            self.measured.forget();
        }
        Ok(())
    }

    /// Rows that have slots, as the input has them.
    pub fn gather(&self, slots: &[u32]) -> Result<RecordBatch> {
        let owners: Vec<u32> = slots.iter().map(|&s| self.owners[s as usize]).collect();
        let bytes = slots.iter().map(|&slot| self.rows().bytes_of(0, slot));
        self.layout.decode(bytes, &self.keys, &owners)
    }

    pub fn bytes(&self) -> usize {
        self.keys.bytes()
            + self.trees.capacity() * size_of::<Tree>()
            + Tree::bytes_of(self.rows().rows(), self.measured.len())
            + self.windows.as_ref().map_or(0, Windows::bytes)
            + self.rows().bytes()
            + self.measured.bytes()
            + self.bases.bytes(self.measured.len())
            + (self.owners.capacity() + self.class_lengths.capacity()) * size_of::<u32>()
    }

    /// The rows that changed since the last call, with their weights behind their columns.
    pub fn changes(&mut self, scope: Scope, table: u32) -> Result<Vec<TableChange>> {
        let changes = self.measured.rows.changes(scope, table)?;
        let saved = changes.into_iter().map(|change| {
            let rows = self.gather(&change.slots)?;
            let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
            fields.push(Arc::new(Field::new("weight", DataType::Int64, false)));
            let mut columns = rows.columns().to_vec();
            let weights = change.slots.iter().map(|&slot| self.rows().weight(slot));
            columns.push(Arc::new(Int64Array::from_iter_values(weights)));
            Ok(TableChange {
                rows: batch(Arc::new(Schema::new(fields)), columns, change.slots.len())?,
                ..change
            })
        });
        saved.collect()
    }

    /// Puts a block back; see [`Partitions::rebuild`].
    ///
    /// # Errors
    /// XX001, when it is not one of these rows.
    pub fn restore(&mut self, change: &TableChange) -> Result<()> {
        let replaced = self.rows().replaced(change);
        self.measured.rows.release(&replaced);
        let width = self.input.fields().len();
        let columns = change.rows.columns();
        let is_fit = columns.len() == width + 1
            && columns[width].data_type() == &DataType::Int64
            && columns
                .iter()
                .zip(self.input.fields())
                .all(|(column, field)| column.data_type() == field.data_type());
        if !is_fit {
            let message = "a block of a window's rows does not have the columns of its operator";
            return Err(Error::new(SqlState::DATA_CORRUPTED, message));
        }
        if change.slots.is_empty() {
            return Ok(());
        }
        let columns = columns[..width].to_vec();
        let rows = batch(self.input.clone(), columns, change.slots.len())?;
        let partitions = self.of_rows(&rows)?;
        let encoded = self.encode(&rows)?;
        let weights = change.rows.column(width).clone();
        let mut stored = self.stored(Arc::new(encoded.bytes), &rows)?;
        stored.push(weights);
        let mut fields: Vec<_> = self.rows().schema().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("weight", DataType::Int64, false)));
        self.measured.rows.restore(&TableChange {
            rows: batch(Arc::new(Schema::new(fields)), stored, change.slots.len())?,
            ..change.clone()
        })?;
        self.measured.note(&change.slots, &rows)?;
        self.note_lengths(&change.slots, encoded.class_lengths.into_iter());
        for (&slot, &partition) in change.slots.iter().zip(&partitions) {
            self.owners[slot as usize] = partition;
        }
        Ok(())
    }

    /// All blocks are put back: makes the trees. A row may have moved from one slot to another
    /// between blocks, so that it is not known before where it is.
    pub fn rebuild(&mut self) {
        let rows = self.rows();
        let slots = 0..u32::try_from(rows.slots()).expect("a store has fewer than 2^32 rows");
        let live = slots.filter(|&slot| rows.weight(slot) != 0);
        let keyed = live.map(|slot| {
            let prefix = self.layout.prefix(rows.bytes_of(0, slot));
            (self.owners[slot as usize], prefix, slot)
        });
        let mut keyed: Vec<(u32, u64, u32)> = keyed.collect();
        keyed.sort_unstable_by(|a, b| {
            let by = (a.0, a.1).cmp(&(b.0, b.1));
            by.then_with(|| rows.bytes_of(0, a.2).cmp(rows.bytes_of(0, b.2)))
        });
        for (partition, _, slot) in keyed {
            let weight = self.rows().weight(slot);
            self.set(partition, slot, 0, weight);
        }
        let partitions = self.keys.live_slots();
        self.forget_empty(&partitions);
    }
}

pub(super) fn batch(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(arrow_error)
}

/// Which column of the store has an extreme's bytes, for the spec of a measure.
pub(super) fn extreme(kept: &[usize], compared: usize, is_greatest: bool) -> MeasureKind {
    MeasureKind::Extreme {
        is_greatest,
        bytes: Partitions::bytes_column(kept, compared),
    }
}
