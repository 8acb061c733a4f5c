//! A batch of changes: rows, their weights, and the watermark that stood before each row.
//!
//! The relation that a batch stands for is the sum over its rows of `weight × row`; the order of
//! rows matters only where rows come straight from a source (lateness, ingest order). Every method
//! that picks rows picks their weights and watermarks with them. The only misuse: a batch with
//! weights of both signs for the same row is correct but not *consolidated*; an operator that
//! counts rows instead of adding weights would go wrong on it.

use arrow::array::{
    Array, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, RecordBatch, UInt32Array,
};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{FilterBuilder, FilterPredicate, take_record_batch};
use arrow::datatypes::{ArrowNativeType, Int64Type, SchemaRef, UInt32Type};

use crate::error::{Error, Result};

/// How often each row of a batch is added (or, negative, removed). Never 0 in a consolidated batch.
#[derive(Clone, Debug)]
pub enum Weights {
    /// Every row once: what append-only input keeps from end to end, at no cost.
    Ones,
    Each(ScalarBuffer<i64>),
}

impl Weights {
    #[inline]
    pub fn get(&self, row: usize) -> i64 {
        match self {
            Weights::Ones => 1,
            Weights::Each(weights) => weights[row],
        }
    }

    fn select(&self, indices: &UInt32Array) -> Weights {
        match self {
            Weights::Ones => Weights::Ones,
            Weights::Each(weights) => Weights::Each(select(weights, indices)),
        }
    }
}

/// Rows with weights; see the module page for what it means.
#[derive(Clone, Debug)]
pub struct DeltaBatch {
    rows: RecordBatch,
    weights: Weights,
    /// The source's watermark before each row, microseconds; only on rows that stand in source
    /// order, on their way to the operator that judges lateness.
    watermarks: Option<ScalarBuffer<i64>>,
    /// A number per row that stands for its key as long as the key is there. A hint for whoever
    /// looks keys up again and again: it may be missing, and it may be wrong.
    origins: Option<ScalarBuffer<u32>>,
}

impl DeltaBatch {
    /// Rows that are all added once.
    pub fn insertions(rows: RecordBatch) -> Self {
        DeltaBatch {
            rows,
            weights: Weights::Ones,
            watermarks: None,
            origins: None,
        }
    }

    /// # Panics
    /// When there is not one weight per row.
    pub fn new(rows: RecordBatch, weights: Weights) -> Self {
        if let Weights::Each(each) = &weights {
            assert_eq!(each.len(), rows.num_rows(), "one weight per row");
        }
        DeltaBatch {
            rows,
            weights,
            watermarks: None,
            origins: None,
        }
    }

    /// Says for each row what the watermark was before it came.
    ///
    /// # Panics
    /// When there is not one watermark per row.
    pub fn with_watermarks(mut self, watermarks: Option<ScalarBuffer<i64>>) -> Self {
        if let Some(each) = &watermarks {
            assert_eq!(each.len(), self.rows.num_rows(), "one watermark per row");
        }
        self.watermarks = watermarks;
        self
    }

    /// Numbers the rows' keys; see [`DeltaBatch::origins`].
    ///
    /// # Panics
    /// When there is not one number per row.
    pub fn with_origins(mut self, origins: Option<ScalarBuffer<u32>>) -> Self {
        if let Some(each) = &origins {
            assert_eq!(each.len(), self.rows.num_rows(), "one number per row");
        }
        self.origins = origins;
        self
    }

    /// A number per row that stands for its key; only a hint.
    pub fn origins(&self) -> Option<&ScalarBuffer<u32>> {
        self.origins.as_ref()
    }

    /// No rows of the schema.
    pub fn empty(schema: SchemaRef) -> Self {
        DeltaBatch::insertions(RecordBatch::new_empty(schema))
    }

    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    pub fn watermarks(&self) -> Option<&ScalarBuffer<i64>> {
        self.watermarks.as_ref()
    }

    pub fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.num_rows() == 0
    }

    /// Whether no row is removed. A batch of explicit weights is looked through.
    pub fn is_append_only(&self) -> bool {
        match &self.weights {
            Weights::Ones => true,
            Weights::Each(weights) => weights.iter().all(|&weight| weight >= 0),
        }
    }

    /// The same weights over other columns: what a projection does.
    ///
    /// # Panics
    /// When the number of rows differs.
    pub fn with_rows(&self, rows: RecordBatch) -> DeltaBatch {
        assert_eq!(
            rows.num_rows(),
            self.rows.num_rows(),
            "a projection keeps its rows"
        );
        DeltaBatch {
            rows,
            weights: self.weights.clone(),
            watermarks: self.watermarks.clone(),
            origins: self.origins.clone(),
        }
    }

    /// The rows for which the predicate is true; NULL is not true.
    pub fn filter(&self, predicate: &BooleanArray) -> Result<DeltaBatch> {
        let filter = FilterBuilder::new(predicate).optimize().build();
        let rows = filter
            .filter_record_batch(&self.rows)
            .map_err(arrow_error)?;
        fn pick<T: ArrowPrimitiveType>(
            filter: &FilterPredicate,
            values: &ScalarBuffer<T::Native>,
        ) -> Result<ScalarBuffer<T::Native>> {
            let array = PrimitiveArray::<T>::new(values.clone(), None);
            let kept = filter.filter(&array).map_err(arrow_error)?;
            Ok(kept.as_primitive::<T>().values().clone())
        }
        let weights = match &self.weights {
            Weights::Ones => Weights::Ones,
            Weights::Each(weights) => Weights::Each(pick::<Int64Type>(&filter, weights)?),
        };
        let watermarks = self.watermarks.as_ref();
        let watermarks = watermarks.map(|each| pick::<Int64Type>(&filter, each));
        let origins = self.origins.as_ref();
        let origins = origins.map(|each| pick::<UInt32Type>(&filter, each));
        Ok(DeltaBatch {
            rows,
            weights,
            watermarks: watermarks.transpose()?,
            origins: origins.transpose()?,
        })
    }

    /// The rows with the given indices, in their order; an index may come more than once.
    pub fn take(&self, indices: &UInt32Array) -> Result<DeltaBatch> {
        assert_eq!(indices.null_count(), 0, "rows are taken by number");
        Ok(DeltaBatch {
            rows: take_record_batch(&self.rows, indices).map_err(arrow_error)?,
            weights: self.weights.select(indices),
            watermarks: self.watermarks.as_ref().map(|each| select(each, indices)),
            origins: self.origins.as_ref().map(|each| select(each, indices)),
        })
    }

    /// `length` rows from `offset` on, without a copy.
    pub fn slice(&self, offset: usize, length: usize) -> DeltaBatch {
        DeltaBatch {
            rows: self.rows.slice(offset, length),
            weights: match &self.weights {
                Weights::Ones => Weights::Ones,
                Weights::Each(weights) => Weights::Each(weights.slice(offset, length)),
            },
            watermarks: self
                .watermarks
                .as_ref()
                .map(|each| each.slice(offset, length)),
            origins: self.origins.as_ref().map(|each| each.slice(offset, length)),
        }
    }

    /// The opposite change.
    pub fn negate(&self) -> DeltaBatch {
        let weights = match &self.weights {
            Weights::Ones => vec![-1; self.len()],
            Weights::Each(weights) => weights.iter().map(|weight| -weight).collect(),
        };
        DeltaBatch {
            rows: self.rows.clone(),
            weights: Weights::Each(weights.into()),
            watermarks: self.watermarks.clone(),
            origins: self.origins.clone(),
        }
    }

    /// The weights as a buffer, whatever their form.
    pub fn explicit_weights(&self) -> ScalarBuffer<i64> {
        match &self.weights {
            Weights::Ones => vec![1; self.len()].into(),
            Weights::Each(weights) => weights.clone(),
        }
    }

    /// The same without rows of weight 0, which a store that only grows would keep.
    pub fn without_zeros(self) -> Result<DeltaBatch> {
        match &self.weights {
            Weights::Each(weights) if weights.contains(&0) => {
                let is_there = weights.iter().map(|&weight| Some(weight != 0)).collect();
                self.filter(&is_there)
            }
            Weights::Ones | Weights::Each(_) => Ok(self),
        }
    }

    /// Bytes that the batch's columns hold in memory.
    pub fn bytes(&self) -> usize {
        self.rows.get_array_memory_size()
    }
}

fn select<T: ArrowNativeType>(values: &ScalarBuffer<T>, indices: &UInt32Array) -> ScalarBuffer<T> {
    let picked: Vec<T> = indices
        .values()
        .iter()
        .map(|&row| values[row as usize])
        .collect();
    picked.into()
}

/// A kernel of Arrow failed on columns that the plan had checked: our fault, or memory is out.
pub fn arrow_error(error: arrow::error::ArrowError) -> Error {
    Error::internal(format!("column kernel: {error}"))
}
