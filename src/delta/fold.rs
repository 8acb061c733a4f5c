//! Adding batches up: one after another, and row by equal row.

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, make_comparator};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::kernels::cmp;
use arrow::compute::{SortOptions, concat_batches};
use arrow::datatypes::{ArrowNativeType, SchemaRef};

use crate::delta::batch::arrow_error;
use crate::delta::{DeltaBatch, KeyBatch, KeyTable, Weights};
use crate::error::Result;

/// The batches as one, in order. Weights stay `Ones` when all are.
pub fn concat(schema: &SchemaRef, batches: &[DeltaBatch]) -> Result<DeltaBatch> {
    match batches {
        [] => return Ok(DeltaBatch::empty(schema.clone())),
        [only] => return Ok(only.clone()),
        _ => {}
    }
    let rows = concat_batches(schema, batches.iter().map(DeltaBatch::rows)).map_err(arrow_error)?;
    let is_ones = batches
        .iter()
        .all(|batch| matches!(batch.weights(), Weights::Ones));
    let weights = match is_ones {
        true => Weights::Ones,
        false => {
            let each: Vec<_> = batches.iter().map(DeltaBatch::explicit_weights).collect();
            Weights::Each(joined(each.iter()))
        }
    };
    let watermarks = batches.iter().map(DeltaBatch::watermarks);
    let watermarks = watermarks.collect::<Option<Vec<_>>>();
    let origins = batches.iter().map(DeltaBatch::origins);
    let origins = origins.collect::<Option<Vec<_>>>();
    Ok(DeltaBatch::new(rows, weights)
        .with_watermarks(watermarks.map(|each| joined(each.into_iter())))
        .with_origins(origins.map(|each| joined(each.into_iter()))))
}

/// Numbers per row, one batch's after another's.
fn joined<'a, T: ArrowNativeType>(
    parts: impl Iterator<Item = &'a ScalarBuffer<T>> + Clone,
) -> ScalarBuffer<T> {
    let mut all = Vec::with_capacity(parts.clone().map(|part| part.len()).sum());
    parts.for_each(|part| all.extend_from_slice(part));
    all.into()
}

/// The same change with each distinct row once: weights of equal rows are added and rows whose
/// weights cancel are gone. Rows keep the order of their first appearance. NULLs are equal to
/// NULLs.
pub fn consolidate(batch: &DeltaBatch) -> Result<DeltaBatch> {
    if batch.len() <= 1 && matches!(batch.weights(), Weights::Ones) {
        return Ok(batch.clone());
    }
    if batch.rows().num_columns() == 0 {
        return consolidate_empty_rows(batch);
    }
    let columns = batch.rows().columns();
    let types: Vec<_> = columns
        .iter()
        .map(|column| column.data_type().clone())
        .collect();
    let mut table = KeyTable::new(&types)?;
    let keys = KeyBatch::new(&table, columns)?;
    let mut slots = Vec::with_capacity(batch.len());
    table.insert(&keys, &mut slots);
    let mut sums = vec![0i64; table.slots()];
    let mut first = vec![u32::MAX; table.slots()];
    for (row, &slot) in slots.iter().enumerate() {
        let slot = slot as usize;
        sums[slot] += batch.weights().get(row);
        if first[slot] == u32::MAX {
            first[slot] = u32::try_from(row).expect("a batch has fewer than 2^32 rows");
        }
    }
    if sums.iter().all(|&sum| sum == 1) && sums.len() == batch.len() {
        return Ok(batch.clone());
    }
    // Slots of a fresh table are numbered in order of appearance.
    let kept = || (0..sums.len()).filter(|&slot| sums[slot] != 0);
    let indices: UInt32Array = kept().map(|slot| first[slot]).collect::<Vec<_>>().into();
    let weights: Vec<i64> = kept().map(|slot| sums[slot]).collect();
    let rows = batch.take(&indices)?;
    Ok(DeltaBatch::new(
        rows.rows().clone(),
        Weights::Each(weights.into()),
    ))
}

/// What [`consolidate`] gives for a change in which each row is unlike all others but, at most, the
/// one next to it: a removal followed by the insertion of the same row is gone. Changes of groups
/// come like this, −old +new; looking at neighbours is a tenth of the work of hashing all rows.
pub fn cancel_pairs(batch: &DeltaBatch) -> Result<DeltaBatch> {
    let Weights::Each(weights) = batch.weights() else {
        return Ok(batch.clone());
    };
    let pairs = batch.len().saturating_sub(1);
    let mut cancels =
        BooleanBuffer::collect_bool(pairs, |row| weights[row] == -1 && weights[row + 1] == 1);
    for column in batch.rows().columns() {
        if cancels.count_set_bits() == 0 {
            return Ok(batch.clone());
        }
        let equal = not_distinct(&column.slice(0, pairs), &column.slice(1, pairs))?;
        cancels = &cancels & &equal;
    }
    if cancels.count_set_bits() == 0 {
        return Ok(batch.clone());
    }
    let mut kept = vec![true; batch.len()];
    for row in cancels.set_indices() {
        kept[row] = false;
        kept[row + 1] = false;
    }
    batch.filter(&kept.into())
}

/// Row by row whether the values are the same; NULL is equal to NULL, NaN to NaN.
///
/// # Errors
/// Internal, when the columns are not of one type and length.
pub fn not_distinct(one: &ArrayRef, other: &ArrayRef) -> Result<BooleanBuffer> {
    if one.data_type().is_nested() {
        let compare = make_comparator(one, other, SortOptions::default()).map_err(arrow_error)?;
        let is_equal = |row| compare(row, row).is_eq();
        return Ok(BooleanBuffer::collect_bool(one.len(), is_equal));
    }
    let is_equal = cmp::not_distinct(one, other).map_err(arrow_error)?;
    Ok(is_equal.values().clone())
}

/// Rows without columns are all equal: one row carries the sum.
fn consolidate_empty_rows(batch: &DeltaBatch) -> Result<DeltaBatch> {
    let sum: i64 = (0..batch.len()).map(|row| batch.weights().get(row)).sum();
    let rows: RecordBatch = batch
        .rows()
        .slice(0, usize::from(sum != 0 && !batch.is_empty()));
    let weights = vec![sum; rows.num_rows()];
    Ok(DeltaBatch::new(rows, Weights::Each(weights.into())))
}
