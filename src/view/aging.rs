//! How rows leave a view by their age.
//!
//! Rule: `take_before(t)` takes out every row whose time is before t. A view with retention calls
//! it each step with its watermark less the retention.
//!
//! ```text
//!   chunk      least   rows' times                before 12: chunks 0 and 2 are looked through
//!     0          10    10 14 11 30      ────►     14 30          least 14
//!     1          25    25 40 31                   as it is, not looked at
//!     2           9    9 10                       empty: its slots are used again
//! ```
//!
//! State: for each chunk of rows the least time in it, or less: 8 bytes for 4096 rows. A tree of
//! times beside the rows would be exact and cost several bytes per row and a search per change.
//! Time rises with the slots where rows are only added, and in keyed stores the rows of a window
//! come together, so few chunks are looked through in vain.
//!
//! A row whose time is NULL has no age and stays.

use arrow::array::{Array, ArrayRef};

use crate::delta::{DeltaBatch, Weights};
use crate::error::Result;
use crate::operator::rows::micros;
use crate::view::store::{CHUNK_SLOTS, Store, batch_of, slot_number};

/// The least time of each chunk.
pub(super) struct Ages {
    /// A timestamp in microseconds.
    column: usize,
    leasts: Vec<i64>,
}

impl Ages {
    pub fn new(column: usize) -> Ages {
        Ages {
            column,
            leasts: Vec::new(),
        }
    }

    pub fn bytes(&self) -> usize {
        self.leasts.capacity() * size_of::<i64>()
    }

    /// Rows of a batch were written into a chunk.
    pub fn note(&mut self, chunk: usize, columns: &[ArrayRef], rows: &[u32]) {
        let times = micros(&columns[self.column]);
        let rows = rows.iter().map(|&row| row as usize);
        let times = rows
            .filter(|&row| times.is_valid(row))
            .map(|row| times.value(row));
        let Some(least) = times.min() else { return };
        if self.leasts.len() <= chunk {
            self.leasts.resize(chunk + 1, i64::MAX);
        }
        self.leasts[chunk] = self.leasts[chunk].min(least);
    }

    /// Chunks that may have a row before a time.
    fn chunks_before(&self, before: i64) -> Vec<usize> {
        let chunks = self.leasts.iter().enumerate();
        let chunks = chunks.filter(|(_, least)| **least < before);
        chunks.map(|(chunk, _)| chunk).collect()
    }
}

/// Rows of one chunk that are to go.
struct Old {
    chunk: usize,
    places: Vec<u32>,
    /// The least time of those that stay.
    least: i64,
}

impl Store {
    /// Keeps the order by age that [`Store::take_before`] needs. For a new store.
    pub fn with_ages(mut self, column: usize) -> Store {
        assert!(self.chunks.is_empty(), "the store is new");
        self.ages = Some(Ages::new(column));
        self
    }

    /// The rows before a time, taken away: what a step will do.
    pub fn before(&self, before: i64) -> Result<Vec<DeltaBatch>> {
        let old = self.old(before)?;
        let old = old.iter().filter(|old| !old.places.is_empty());
        old.map(|old| self.removal(old)).collect()
    }

    /// Takes out the rows before a time.
    pub fn take_before(&mut self, before: i64) -> Result<()> {
        for old in self.old(before)? {
            let first = old.chunk * CHUNK_SLOTS;
            let slots = old.places.iter();
            let slots: Vec<u32> = slots
                .map(|&place| slot_number(first + place as usize))
                .collect();
            self.keep(&slots)?;
            slots.iter().for_each(|&slot| self.set_weight(slot, 0));
            self.free(slots);
            let ages = self.ages.as_mut().expect("there are old rows by it");
            ages.leasts[old.chunk] = old.least;
        }
        self.account();
        Ok(())
    }

    fn old(&self, before: i64) -> Result<Vec<Old>> {
        let Some(ages) = &self.ages else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for number in ages.chunks_before(before) {
            let chunk = &self.chunks[number];
            let live = (0..chunk.weights.len()).filter(|&place| chunk.weights.get(place) != 0);
            let live: Vec<u32> = live.map(slot_number).collect();
            let times = micros(&chunk.arena.gather_column(ages.column, &live)?);
            let mut old = Old {
                chunk: number,
                places: Vec::new(),
                least: i64::MAX,
            };
            for (row, &place) in live.iter().enumerate() {
                match times.is_valid(row).then(|| times.value(row)) {
                    Some(time) if time < before => old.places.push(place),
                    Some(time) => old.least = old.least.min(time),
                    None => {}
                }
            }
            all.push(old);
        }
        Ok(all)
    }

    fn removal(&self, old: &Old) -> Result<DeltaBatch> {
        let chunk = &self.chunks[old.chunk];
        let columns = chunk.arena.gather(&old.places)?;
        let rows = batch_of(&self.schema, columns, old.places.len())?;
        let weights = old.places.iter();
        let weights: Vec<i64> = weights
            .map(|&place| -chunk.weights.get(place as usize))
            .collect();
        Ok(DeltaBatch::new(rows, Weights::Each(weights.into())))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fastrand::Rng;

    use super::*;
    use crate::delta::notation::parse;
    use crate::operator::{Scope, TableChange};
    use crate::view::store::Identity;

    const HEADER: &str = "k:bigint t:timestamp";

    fn delta(rows: &[(i64, i64, Option<i64>)]) -> DeltaBatch {
        let mut text = HEADER.to_string();
        for (weight, key, second) in rows {
            let time = second.map_or("NULL".to_string(), |second| {
                format!("1970-01-01T00:{:02}:{:02}", second / 60, second % 60)
            });
            text += &format!("\n{weight:+} {key} {time}");
        }
        parse(&text)
    }

    fn contents(deltas: impl Iterator<Item = Result<DeltaBatch>>) -> BTreeMap<(i64, i64), i64> {
        let mut rows = BTreeMap::new();
        for delta in deltas {
            let delta = delta.unwrap();
            let keys = delta.rows().column(0).to_data();
            let keys = arrow::array::Int64Array::from(keys);
            let times = micros(delta.rows().column(1));
            for row in 0..delta.len() {
                let second = match times.is_valid(row) {
                    true => times.value(row) / 1_000_000,
                    false => -1,
                };
                *rows.entry((keys.value(row), second)).or_insert(0) += delta.weights().get(row);
            }
        }
        rows
    }

    /// Rows come, change and leave by age, with snapshots held, checkpoints under way and restarts.
    #[test]
    fn rows_before_a_time_leave_and_no_others() {
        let identities = [Identity::AppendOnly, Identity::Row, Identity::Key(vec![0])];
        for (seed, identity) in (0..60).zip(identities.into_iter().cycle()) {
            let mut random = Rng::with_seed(seed);
            let new = || {
                let schema = parse(HEADER).schema();
                Store::new(schema, identity.clone()).unwrap().with_ages(1)
            };
            let mut store = new();
            let mut model: BTreeMap<(i64, i64), i64> = BTreeMap::new();
            let mut blocks: Vec<TableChange> = Vec::new();
            let (mut now, mut next_key) = (0, 0);
            let mut held = Vec::new();
            for _ in 0..60 {
                let mut rows = Vec::new();
                for _ in 0..random.usize(..200) {
                    let second = match random.u8(..20) {
                        0 => None,
                        _ => Some((now + random.i64(-5..20)).max(0)),
                    };
                    next_key += 1;
                    rows.push((1, next_key, second));
                    model.insert((next_key, second.unwrap_or(-1)), 1);
                }
                let is_removing = identity != Identity::AppendOnly && random.bool();
                if let Some((&(key, second), _)) = model.iter().next().filter(|_| is_removing) {
                    model.remove(&(key, second));
                    rows.push((-1, key, (second >= 0).then_some(second)));
                }
                store.apply(&delta(&rows)).unwrap();
                now += random.i64(0..4);
                let before = (now - 3) * 1_000_000;
                let gone = contents(store.before(before).unwrap().into_iter().map(Ok));
                let is_old = |second: i64| second >= 0 && second < now - 3;
                let expected: BTreeMap<(i64, i64), i64> = model
                    .iter()
                    .filter(|((_, second), _)| is_old(*second))
                    .map(|(row, weight)| (*row, -weight))
                    .collect();
                assert_eq!(gone, expected, "seed {seed}, {identity:?}");
                if random.u8(..3) == 0 {
                    continue;
                }
                store.take_before(before).unwrap();
                model.retain(|(_, second), _| !is_old(*second));
                assert_eq!(contents(store.snapshot().deltas()), model, "seed {seed}");
                match random.u8(..6) {
                    0 => held.push((store.snapshot(), model.clone())),
                    1 => {
                        blocks.extend(std::iter::from_fn(|| store.thaw(usize::MAX).unwrap()));
                        store.freeze(Scope::Changed);
                    }
                    2 => {
                        blocks.extend(std::iter::from_fn(|| store.thaw(usize::MAX).unwrap()));
                        blocks.extend(store.changes(Scope::Changed).unwrap());
                        store = new();
                        store.restore(blocks.clone()).unwrap();
                        assert_eq!(contents(store.snapshot().deltas()), model, "seed {seed}");
                    }
                    _ => blocks.extend(store.thaw(random.usize(1..8)).unwrap()),
                }
            }
            for (snapshot, expected) in held {
                assert_eq!(contents(snapshot.deltas()), expected, "seed {seed}");
            }
        }
    }

    #[test]
    fn slots_of_rows_that_have_left_are_used_again() {
        let schema = parse(HEADER).schema();
        let mut store = Store::new(schema, Identity::AppendOnly)
            .unwrap()
            .with_ages(1);
        let mut most = 0;
        for minute in 0..50 {
            let rows = (0..1_000).map(|key| (1, key, Some(minute * 60 + key % 60)));
            store.apply(&delta(&rows.collect::<Vec<_>>())).unwrap();
            store.take_before((minute - 2) * 60_000_000).unwrap();
            assert!(store.rows() <= 3_000);
            if minute == 10 {
                most = store.bytes();
            }
        }
        assert!(store.bytes() <= most, "{} of {most} bytes", store.bytes());
    }
}
