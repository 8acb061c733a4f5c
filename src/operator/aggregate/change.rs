//! Which rows of a batch count for an aggregate, for which group, and how often.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, NullBuffer};

/// The rows of a batch as an aggregate sees them.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    /// The group of each row.
    pub slots: &'a [u32],
    /// `None`: every row once.
    pub weights: Option<&'a [i64]>,
    /// Rows that count; `None`: all.
    pub valid: Option<&'a BooleanBuffer>,
}

impl Change<'_> {
    /// Calls `visit(row, slot, weight)` for every row that counts. Which of the four loops runs is
    /// decided once per batch.
    #[inline(always)]
    pub fn each(&self, mut visit: impl FnMut(usize, usize, i64)) {
        match (self.weights, self.valid) {
            (None, None) => {
                for (row, &slot) in self.slots.iter().enumerate() {
                    visit(row, slot as usize, 1);
                }
            }
            (None, Some(valid)) => {
                for row in valid.set_indices() {
                    visit(row, self.slots[row] as usize, 1);
                }
            }
            (Some(weights), None) => {
                for (row, (&slot, &weight)) in self.slots.iter().zip(weights).enumerate() {
                    visit(row, slot as usize, weight);
                }
            }
            (Some(weights), Some(valid)) => {
                for row in valid.set_indices() {
                    visit(row, self.slots[row] as usize, weights[row]);
                }
            }
        }
    }
}

/// An argument under a filter, and for each group the rows that do not count there.
///
/// `count(x)` is the group's rows less these: where no row is NULL or filtered out, counting costs
/// neither time nor memory.
pub(super) struct Selection {
    argument: Option<usize>,
    filter: Option<usize>,
    /// Empty until the first such row.
    absent: Vec<i64>,
}

impl Selection {
    pub fn new(argument: Option<usize>, filter: Option<usize>) -> Selection {
        Selection {
            argument,
            filter,
            absent: Vec::new(),
        }
    }

    pub fn is_of(&self, argument: Option<usize>, filter: Option<usize>) -> bool {
        self.argument == argument && self.filter == filter
    }

    /// The rows for which the argument is not NULL and the filter is true; `None`: all.
    pub fn valid(&self, rows: &RecordBatch) -> Option<BooleanBuffer> {
        let nulls = self
            .argument
            .and_then(|column| rows.column(column).logical_nulls());
        let passing = self.filter.map(|column| {
            let filter = rows.column(column).as_boolean();
            match filter.nulls() {
                Some(nulls) => filter.values() & nulls.inner(),
                None => filter.values().clone(),
            }
        });
        let passing = passing.map(NullBuffer::new);
        let valid = NullBuffer::union(nulls.as_ref(), passing.as_ref())?;
        (valid.null_count() > 0).then(|| valid.into_inner())
    }

    /// Counts the rows that are not valid.
    pub fn update(&mut self, groups: usize, change: &Change<'_>) {
        let Some(valid) = change.valid else { return };
        if self.absent.len() < groups {
            self.absent.resize(groups, 0);
        }
        let missing = !valid;
        let missing = Change {
            valid: Some(&missing),
            ..*change
        };
        missing.each(|_, slot, weight| self.absent[slot] += weight);
    }

    /// Whether every row has counted so far.
    pub fn is_whole(&self) -> bool {
        self.absent.is_empty()
    }

    /// How many of a group's rows do not count.
    #[inline]
    pub fn absent(&self, slot: u32) -> i64 {
        self.absent.get(slot as usize).copied().unwrap_or(0)
    }

    pub fn set_absent(&mut self, slot: u32, absent: i64) {
        let slot = slot as usize;
        if absent != 0 && self.absent.len() <= slot {
            self.absent.resize(slot + 1, 0);
        }
        if let Some(place) = self.absent.get_mut(slot) {
            *place = absent;
        }
    }

    pub fn bytes(&self) -> usize {
        self.absent.capacity() * size_of::<i64>()
    }
}
