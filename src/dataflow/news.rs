//! What a catch-up finds out of a source that runs, and which bad records are news to it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::{Offset, PartitionId};
use crate::connector::BadRecord;

/// What a catch-up finds out of a source that runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct News {
    /// Where the running source stood: it has counted itself what comes after.
    pub until: BTreeMap<PartitionId, Offset>,
    /// The columns whose bad values it has counted before that.
    pub counted: BTreeSet<usize>,
    /// The records that are bad in other columns only.
    pub bad: BTreeMap<PartitionId, u64>,
}

impl News {
    /// Whether the running source has not counted the record; it is counted here then.
    pub fn note(&mut self, bad: &BadRecord) -> bool {
        let is_before = |until: &Offset| bad.offset < *until;
        let is_new = self.until.get(&bad.partition).is_some_and(is_before)
            && !bad.columns.is_empty()
            && !bad
                .columns
                .iter()
                .any(|column| self.counted.contains(column));
        if is_new {
            *self.bad.entry(bad.partition).or_default() += 1;
        }
        is_new
    }
}
