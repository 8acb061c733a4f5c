//! Whose rows are next, where one partition's time must not run away from another's.
//!
//! A backlog is read as fast as it comes: a partition with few rows an hour is soon days ahead of
//! one with many, and every window in between is open at once. With `watermark.max_drift` the
//! partition with the lowest watermark is first, and one that is further ahead of the slowest waits
//! in the queue.
//!
//! ```text
//!   max_drift 1 h       W      queued       next
//!   p0               09:00     2 chunks     1st, until it is past 09:10
//!   p1               09:10     1 chunk      then this
//!   p2               10:30     9 chunks     not before p0 and p1 are past 09:30
//! ```
//!
//! The slowest is one of those that have more to come; it may have nothing queued at the moment,
//! and
//! then is waited for. That ends: a partition at its confirmed end is waited for by nobody, and of
//! a full queue one chunk is taken whatever its time, because what is waited for could not come in.
//!
//! The order in which rows were taken is in the journal, as always; this decides it once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::{EventTime, PartitionId};
use crate::connector::Chunk;
use crate::dataflow::panic::contained;
use crate::dataflow::reader::{Queued, ReaderThread};
use crate::dataflow::reading::Source;
use crate::dataflow::source::SourceState;
use crate::error::Result;

/// For each partition its watermark.
type Watermarks = BTreeMap<PartitionId, EventTime>;

/// Takes whole chunks of a reader within the bounds of rows and bytes: in their order, or by their
/// partitions' time. Rows that a step with this clock would leave out as too far ahead of it are no
/// partition's time.
pub(super) fn take(
    reader: &ReaderThread,
    source: &SourceState,
    most: (usize, usize),
    clock_micros: i64,
) -> Result<Vec<Chunk>> {
    let Some(drift) = source.spec().time.drift_max_micros else {
        return Ok(reader.take(most.0, most.1));
    };
    let mut order: Option<Order> = None;
    reader.take_chosen(most, |queued| {
        let order = order.get_or_insert_with(|| Order::new(queued, watermarks(source)));
        let Some((partition, place)) = order.next(drift, queued.is_full) else {
            return Ok(None);
        };
        let chunk = queued.chunk(place);
        // What is wrong with its times is told when it is taken.
        let greatest = contained(|| source.watermark_of(chunk, clock_micros));
        order.take(partition, greatest.ok().flatten());
        Ok(Some(place))
    })
}

/// What waits and what is expected, by time: made once for many choices, each of which then costs
/// next to nothing however much waits.
struct Order {
    watermarks: Watermarks,
    /// The places of each partition's chunks, rising.
    waiting: BTreeMap<PartitionId, VecDeque<usize>>,
    /// Of each waiting partition its watermark and its first place.
    first: BTreeSet<(EventTime, usize, PartitionId)>,
    open: BTreeSet<PartitionId>,
    /// The watermarks of those that are open or wait.
    coming: BTreeSet<(EventTime, PartitionId)>,
}

impl Order {
    fn new(queued: &Queued<'_>, watermarks: Watermarks) -> Order {
        let mut waiting: BTreeMap<PartitionId, VecDeque<usize>> = BTreeMap::new();
        for (place, partition) in queued.partitions().enumerate() {
            waiting.entry(partition).or_default().push_back(place);
        }
        let open: BTreeSet<PartitionId> = queued.open().collect();
        let first = waiting.iter();
        let first = first.map(|(&id, places)| (of(&watermarks, id), places[0], id));
        let coming = open.iter().chain(waiting.keys());
        let coming = coming.map(|&id| (of(&watermarks, id), id));
        Order {
            first: first.collect(),
            coming: coming.collect(),
            watermarks,
            waiting,
            open,
        }
    }

    /// The partition to take from, with the place of its first chunk.
    fn next(&self, drift: i64, is_full: bool) -> Option<(PartitionId, usize)> {
        let &(time, place, partition) = self.first.first()?;
        let &(least, _) = self.coming.first()?;
        let is_near = time.0 <= least.0.saturating_add(drift);
        (is_full || is_near).then_some((partition, place))
    }

    /// Takes the first chunk of a partition, whose rows' greatest watermark is this.
    fn take(&mut self, partition: PartitionId, greatest: Option<EventTime>) {
        let before = of(&self.watermarks, partition);
        let now = greatest.map_or(before, |greatest| before.max(greatest));
        self.watermarks.insert(partition, now);
        let places = self.waiting.entry(partition).or_default();
        if let Some(place) = places.pop_front() {
            self.first.remove(&(before, place, partition));
        }
        let next = places.front().copied();
        self.first.extend(next.map(|place| (now, place, partition)));
        self.coming.remove(&(before, partition));
        if next.is_some() || self.open.contains(&partition) {
            self.coming.insert((now, partition));
        }
    }
}

/// Whether chunks wait that a step would take.
pub(super) fn has_chunks(source: &Source) -> bool {
    let Some(reader) = &source.reader else {
        return false;
    };
    match source.state.spec().time.drift_max_micros {
        None => reader.is_filled(),
        Some(drift) => reader.look(|queued| {
            let order = Order::new(queued, watermarks(&source.state));
            order.next(drift, queued.is_full).is_some()
        }),
    }
}

/// The partitions that wait for others.
pub(super) fn held(source: &Source) -> BTreeSet<PartitionId> {
    let (Some(reader), Some(drift)) = (&source.reader, source.state.spec().time.drift_max_micros)
    else {
        return BTreeSet::new();
    };
    let watermarks = watermarks(&source.state);
    reader.look(|queued| {
        let latest = latest(queued, &watermarks, drift);
        let is_ahead = |partition: &PartitionId| of(&watermarks, *partition) > latest;
        queued.partitions().filter(is_ahead).collect()
    })
}

fn watermarks(source: &SourceState) -> Watermarks {
    let partitions = source.partitions.iter();
    partitions
        .map(|(id, state)| (*id, state.watermark))
        .collect()
}

fn of(watermarks: &Watermarks, partition: PartitionId) -> EventTime {
    watermarks
        .get(&partition)
        .copied()
        .unwrap_or(EventTime::MIN)
}

/// Up to where a partition may be for its rows to be taken.
fn latest(queued: &Queued<'_>, watermarks: &Watermarks, drift: i64) -> EventTime {
    let coming = queued.open().chain(queued.partitions());
    let least = coming.map(|partition| of(watermarks, partition)).min();
    let least = least.unwrap_or(EventTime::MIN);
    EventTime(least.0.saturating_add(drift))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use arrow::array::{RecordBatch, TimestampMicrosecondArray};
    use arrow::datatypes::SchemaRef;

    use super::*;
    use crate::base::limits::SOURCE_QUEUE_BYTES_MAX;
    use crate::base::{Memory, Offset};
    use crate::connector::factory::TimeOptions;
    use crate::connector::{Bounds, Polled, ReadRange, Reader, SourceConnector};
    use crate::dataflow::oracle::relation::{SECOND, World};
    use crate::error::Error;

    /// Says what it is told to, then nothing more.
    struct Said {
        events: Mutex<Vec<Polled>>,
        schema: SchemaRef,
    }

    impl SourceConnector for Said {
        fn partitions(&self) -> Result<Vec<PartitionId>> {
            Err(Error::internal("nobody asks"))
        }

        fn bounds(&self, _partitions: &[PartitionId]) -> Result<Vec<Bounds>> {
            Err(Error::internal("nobody asks"))
        }

        fn startup(&self, _partitions: &[PartitionId]) -> Result<Vec<Offset>> {
            Err(Error::internal("nobody asks"))
        }

        fn reader(&self, _ranges: Vec<ReadRange>, _columns: &[usize]) -> Result<Box<dyn Reader>> {
            Ok(Box::new(Saying {
                events: std::mem::take(&mut *self.events.lock().unwrap()),
                schema: self.schema.clone(),
            }))
        }
    }

    struct Saying {
        events: Vec<Polled>,
        schema: SchemaRef,
    }

    impl Reader for Saying {
        fn poll(&mut self, _timeout: Duration) -> Result<Polled> {
            if self.events.is_empty() {
                std::thread::yield_now();
                return Ok(Polled::Nothing);
            }
            Ok(self.events.remove(0))
        }

        fn schema(&self) -> SchemaRef {
            self.schema.clone()
        }
    }

    /// A chunk with one row, at a second after the source's delay.
    fn row(schema: &SchemaRef, partition: u32, offset: u64, second: i64) -> Polled {
        let times = TimestampMicrosecondArray::from(vec![(second + 4) * SECOND]);
        let times = times.with_data_type(schema.field(0).data_type().clone());
        Polled::Chunk(Chunk {
            partition: PartitionId(partition),
            from: Offset(offset),
            to: Offset(offset + 1),
            rows: RecordBatch::try_new(schema.clone(), vec![Arc::new(times)]).unwrap(),
            jumps: Vec::new(),
            weights: None,
            bad: Vec::new(),
            bad_rows: Vec::new(),
            skipped: 0,
            checksum: 0,
            bytes: 0,
            arrived_micros: 0,
        })
    }

    /// A source with so much drift, and a reader of three partitions that has said everything.
    fn reading(
        drift: Option<i64>,
        events: impl FnOnce(&SchemaRef) -> Vec<Polled>,
    ) -> (SourceState, ReaderThread) {
        let time = TimeOptions {
            drift_max_micros: drift,
            ..TimeOptions::default()
        };
        reading_by(time, events)
    }

    fn reading_by(
        time: TimeOptions,
        events: impl FnOnce(&SchemaRef) -> Vec<Polled>,
    ) -> (SourceState, ReaderThread) {
        let world = World::new();
        let mut spec = world.relations[world.relation("s")].source.clone().unwrap();
        let schema: SchemaRef = Arc::new(spec.schema.project(&[5]).unwrap());
        let mut events = events(&schema);
        // When this one is queued all others are.
        events.push(row(&schema, 9, 0, i64::from(i32::MAX)));
        spec.connector = Arc::new(Said {
            events: Mutex::new(events),
            schema,
        });
        spec.startup = (0..3).map(|id| (PartitionId(id), Offset(0))).collect();
        spec.time = time;
        let state = SourceState::new(spec, Vec::new()).unwrap();
        let ranges = state.ranges(&[0, 1, 2].map(PartitionId));
        let memory = Memory::accounted_only(usize::MAX);
        let reader = ReaderThread::start(state.spec(), ranges, &[5], &memory, Arc::new(|| {}));
        while !reader.look(|queued| queued.partitions().any(|id| id.0 == 9) || queued.is_full) {
            std::thread::yield_now();
        }
        (state, reader)
    }

    /// The partitions of what a step takes, which the source has then.
    fn taken(state: &mut SourceState, reader: &ReaderThread, rows_max: usize) -> Vec<u32> {
        let chunks = take(reader, state, (rows_max, usize::MAX), 0).unwrap();
        for chunk in &chunks {
            state.take(chunk, 0).unwrap();
        }
        let partitions = chunks.iter().map(|chunk| chunk.partition.0);
        partitions.filter(|id| *id != 9).collect()
    }

    #[test]
    fn the_slowest_is_first_and_who_is_far_ahead_waits_for_it() {
        let events = |schema: &SchemaRef| {
            let row = |partition, offset, second| row(schema, partition, offset, second);
            vec![
                row(0, 0, 100),
                row(0, 1, 200),
                row(1, 0, 10),
                row(1, 1, 20),
                row(1, 2, 150),
                row(2, 0, 15),
            ]
        };
        let (mut state, reader) = reading(Some(60 * SECOND), events);
        // 2 has more to come and stands at 15 s: 0 and 1 stay where they are, beyond 75 s.
        assert_eq!(taken(&mut state, &reader, 100), [0, 1, 2, 1, 1]);
        let waiting = |reader: &ReaderThread| reader.look(|queued| queued.partitions().count());
        assert_eq!(waiting(&reader), 1, "of partition 0");
        let (mut state, reader) = reading(None, events);
        assert_eq!(taken(&mut state, &reader, 100), [0, 0, 1, 1, 1, 2]);
    }

    #[test]
    fn nobody_waits_for_a_partition_at_its_end() {
        let (mut state, reader) = reading(Some(60 * SECOND), |schema| {
            let mut events: Vec<Polled> = (0..3).map(|id| row(schema, id, 0, 10)).collect();
            let ends = [1, 2].map(|id| Polled::AtEnd(PartitionId(id), Offset(1)));
            events.extend(ends);
            events.extend((1..4).map(|offset| row(schema, 0, offset, 1_000)));
            events
        });
        assert_eq!(taken(&mut state, &reader, 100), [0, 1, 2, 0, 0, 0]);
    }

    #[test]
    fn of_a_full_queue_one_chunk_is_taken_whatever_its_time() {
        let (mut state, reader) = reading(Some(SECOND), |schema| {
            let Polled::Chunk(mut chunk) = row(schema, 0, 0, 500) else {
                panic!("a chunk")
            };
            let rows = SOURCE_QUEUE_BYTES_MAX / 8 / 2;
            let times = TimestampMicrosecondArray::from(vec![500 * SECOND; rows]);
            let times = times.with_data_type(schema.field(0).data_type().clone());
            chunk.rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(times)]).unwrap();
            let chunks = (0..8).map(|_| Polled::Chunk(chunk.clone()));
            chunks.collect()
        });
        // The first is no further ahead than the others, none of which has said anything; from the
        // second on the queue must be full.
        let mut rounds = 0;
        while reader.look(|queued| queued.partitions().any(|id| id.0 == 0)) {
            taken(&mut state, &reader, usize::MAX);
            rounds += 1;
            let is_over =
                |queued: &Queued<'_>| queued.is_full || queued.partitions().any(|id| id.0 == 9);
            while !reader.look(is_over) {
                std::thread::yield_now();
            }
            if !reader.look(|queued| queued.is_full) {
                break;
            }
        }
        assert!(rounds > 2, "{rounds}");
    }

    #[test]
    fn a_row_that_is_too_far_ahead_of_the_clock_is_no_time_of_its_partition() {
        let time = TimeOptions {
            drift_max_micros: Some(15 * SECOND),
            ahead_max_micros: Some(3_600 * SECOND),
            ..TimeOptions::default()
        };
        let (mut state, reader) = reading_by(time, |schema| {
            vec![
                row(schema, 0, 0, 1_000_000),
                row(schema, 0, 1, 10),
                row(schema, 1, 0, 20),
                row(schema, 0, 2, 30),
                Polled::AtEnd(PartitionId(2), Offset(0)),
            ]
        });
        assert_eq!(taken(&mut state, &reader, 100), [0, 0, 1, 0]);
    }

    /// So many that looking through all of them for each would take minutes.
    #[test]
    fn a_choice_costs_the_same_however_much_waits() {
        let many = 30_000;
        let (mut state, reader) = reading(Some(60 * SECOND), |schema| {
            let chunk = |at: i64| row(schema, u32::from(at % 2 == 1), at.unsigned_abs() / 2, at);
            let mut events: Vec<Polled> = (0..many).map(chunk).collect();
            events.push(Polled::AtEnd(PartitionId(2), Offset(0)));
            events
        });
        let taken = taken(&mut state, &reader, usize::MAX);
        assert_eq!(taken.len() as i64, many);
        assert!(taken.chunks(2).all(|pair| pair == [0, 1]));
    }
}
