//! Embedded topics, read from real logs in directories that vanish with the test.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use crc32fast::Hasher;
use tempfile::TempDir;

use crate::base::limits::{CHUNK_ROWS_MAX, TOPIC_CHUNK_BYTES_MAX};
use crate::base::{Clock, Offset, PartitionId, task};
use crate::connector::topic::{TopicConnector, TopicStartup};
use crate::connector::{Bounds, Chunk, Polled, ReadRange, Reader, SourceConnector};
use crate::error::SqlState;
use crate::storage::{LogOptions, LogWriter, SegmentLog, encode_batch};

/// Longer than any machine needs for what is waited for.
const LONG: Duration = Duration::from_secs(60);

/// The source's columns; `twice` is computed, so records do not hold it.
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("twice", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
    ]))
}

fn rows(ids: Range<i64>) -> RecordBatch {
    let schema = Arc::new(schema().project(&[0, 2]).unwrap());
    let text = |id: i64| (id % 3 != 0).then(|| format!("text {id}"));
    let texts: StringArray = ids.clone().map(text).collect();
    let ids = Int64Array::from_iter_values(ids);
    RecordBatch::try_new(schema, vec![Arc::new(ids), Arc::new(texts)]).unwrap()
}

fn payload(ids: Range<i64>) -> (Vec<u8>, u32) {
    let count = u32::try_from(ids.end - ids.start).unwrap();
    (encode_batch(&rows(ids), None).unwrap(), count)
}

/// A log whose row `n` has id `n`, in records with these ends.
fn log(directory: &TempDir, ends: &[i64]) -> SegmentLog {
    let mut log = SegmentLog::open(directory.path(), LogOptions::default()).unwrap();
    extend(&mut log, ends);
    log
}

fn extend(log: &mut SegmentLog, ends: &[i64]) {
    let mut begin = i64::try_from(log.end_offset().0).unwrap();
    for end in ends {
        let (payload, count) = payload(begin..*end);
        log.append(&payload, count).unwrap();
        begin = *end;
    }
    log.sync().unwrap();
}

fn connector(logs: &[&SegmentLog]) -> TopicConnector {
    let logs = logs.iter().map(|log| log.reader()).collect();
    TopicConnector::new(schema(), logs).with_clock(Clock::manual(77))
}

fn range(from: u64, boundaries: &[u64], until: Option<u64>) -> ReadRange {
    ReadRange {
        partition: PartitionId(0),
        from: Offset(from),
        boundaries: boundaries.iter().copied().map(Offset).collect(),
        until: until.map(Offset),
    }
}

/// All chunks until the partition's end or until it is finished.
fn read(connector: &TopicConnector, range: ReadRange, columns: &[usize]) -> Vec<Chunk> {
    let mut reader = connector.reader(vec![range], columns).unwrap();
    drain(reader.as_mut())
}

fn drain(reader: &mut dyn Reader) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    loop {
        match reader.poll(Duration::ZERO).unwrap() {
            Polled::Chunk(chunk) => chunks.push(chunk),
            _ => return chunks,
        }
    }
}

fn ids(chunk: &Chunk) -> Vec<i64> {
    let column = chunk.rows.column_by_name("id").unwrap();
    column.as_primitive::<Int64Type>().values().to_vec()
}

fn cuts(chunks: &[Chunk]) -> Vec<(u64, u64)> {
    chunks
        .iter()
        .map(|chunk| (chunk.from.0, chunk.to.0))
        .collect()
}

/// The checksum of neighbouring chunks as of one.
fn combined(chunks: &[Chunk]) -> (u32, usize) {
    let mut hasher = Hasher::new();
    for chunk in chunks {
        let bytes = u64::try_from(chunk.bytes).unwrap();
        hasher.combine(&Hasher::new_with_initial_len(chunk.checksum, bytes));
    }
    let bytes = chunks.iter().map(|chunk| chunk.bytes).sum();
    (hasher.finalize(), bytes)
}

#[test]
fn small_records_are_joined_into_one_chunk() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory, &[1, 2, 5, 9]);
    let chunks = read(&connector(&[&log]), range(0, &[], None), &[0, 2]);
    assert_eq!(cuts(&chunks), [(0, 9)]);
    assert_eq!(chunks[0].rows, rows(0..9));
    assert_eq!(chunks[0].arrived_micros, 77);
    assert_eq!((chunks[0].bad.len(), chunks[0].skipped), (0, 0));
}

#[test]
fn chunks_end_at_boundaries_and_at_until_inside_records() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory, &[3, 4, 9, 20]);
    let connector = connector(&[&log]);
    // Boundaries at or before the begin say nothing; the ones behind `until` are not reached.
    let asked = range(2, &[1, 2, 4, 6, 6, 15], Some(11));
    let mut reader = connector.reader(vec![asked], &[0]).unwrap();
    let chunks: Vec<Chunk> = (0..3)
        .map(|_| match reader.poll(LONG).unwrap() {
            Polled::Chunk(chunk) => chunk,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(cuts(&chunks), [(2, 4), (4, 6), (6, 11)]);
    for chunk in &chunks {
        let expected: Vec<i64> = (chunk.from.0..chunk.to.0)
            .map(|n| n.try_into().unwrap())
            .collect();
        assert_eq!((ids(chunk), chunk.arrived_micros), (expected, 0));
    }
    assert!(matches!(
        reader.poll(LONG).unwrap(),
        Polled::Finished(PartitionId(0))
    ));
    assert!(matches!(
        reader.poll(Duration::ZERO).unwrap(),
        Polled::Nothing
    ));
}

#[test]
fn an_empty_range_is_finished_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory, &[3]);
    let connector = connector(&[&log]);
    let mut reader = connector
        .reader(vec![range(2, &[], Some(2))], &[0])
        .unwrap();
    assert!(matches!(reader.poll(LONG).unwrap(), Polled::Finished(_)));
}

#[test]
fn the_end_is_reported_once_after_each_run_of_rows() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(&directory, &[]);
    let connector = connector(&[&log]);
    let mut reader = connector.reader(vec![range(0, &[], None)], &[0]).unwrap();
    let mut poll = || reader.poll(Duration::ZERO).unwrap();
    let zero = PartitionId(0);
    assert!(matches!(poll(), Polled::AtEnd(partition, Offset(0)) if partition == zero));
    assert!(matches!(poll(), Polled::Nothing));
    extend(&mut log, &[4]);
    assert!(matches!(poll(), Polled::Chunk(chunk) if ids(&chunk) == [0, 1, 2, 3]));
    assert!(matches!(poll(), Polled::AtEnd(partition, Offset(4)) if partition == zero));
    assert!(matches!(poll(), Polled::Nothing));
}

#[test]
fn a_boundary_that_is_not_there_yet_does_not_hold_rows_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(&directory, &[3]);
    let connector = connector(&[&log]);
    let mut reader = connector
        .reader(vec![range(0, &[5], Some(8))], &[0])
        .unwrap();
    assert_eq!(cuts(&drain(reader.as_mut())), [(0, 3)]);
    extend(&mut log, &[10]);
    assert_eq!(cuts(&drain(reader.as_mut())), [(3, 5), (5, 8)]);
}

#[test]
fn a_large_record_is_cut_into_chunks_with_memory_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let total = 3 * CHUNK_ROWS_MAX + 5;
    let log = log(&directory, &[i64::try_from(total).unwrap()]);
    let chunks = read(&connector(&[&log]), range(0, &[], None), &[0]);
    let counts: Vec<usize> = chunks.iter().map(|chunk| chunk.rows.num_rows()).collect();
    assert_eq!(counts, [CHUNK_ROWS_MAX, CHUNK_ROWS_MAX, CHUNK_ROWS_MAX, 5]);
    assert!(chunks[0].rows.get_array_memory_size() < 2 * CHUNK_ROWS_MAX * size_of::<i64>());
    assert!(chunks[3].rows.get_array_memory_size() < 1000);
    assert_eq!(
        chunks.iter().flat_map(ids).max(),
        Some(i64::try_from(total).unwrap() - 1)
    );
}

#[test]
fn wide_rows_end_a_chunk_by_its_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let schema = Arc::new(schema().project(&[0, 2]).unwrap());
    let wide = "x".repeat(TOPIC_CHUNK_BYTES_MAX / 4);
    let mut log = log(&directory, &[]);
    for _ in 0..2 {
        let ids = Int64Array::from_iter_values(0..10);
        let texts = StringArray::from_iter_values((0..10).map(|_| wide.as_str()));
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(ids), Arc::new(texts)]);
        log.append(&encode_batch(&batch.unwrap(), None).unwrap(), 10)
            .unwrap();
    }
    log.sync().unwrap();
    let connector = connector(&[&log]);
    let chunks = read(&connector, range(0, &[], None), &[0, 2]);
    assert!(chunks.len() >= 4, "{:?}", cuts(&chunks));
    for chunk in &chunks {
        assert!(chunk.bytes <= 2 * TOPIC_CHUNK_BYTES_MAX, "{}", chunk.bytes);
    }
    // A replay is cut at the same places.
    let ends: Vec<u64> = chunks.iter().map(|chunk| chunk.to.0).collect();
    let again = read(&connector, range(0, &ends, Some(20)), &[0, 2]);
    assert_eq!(cuts(&again), cuts(&chunks));
}

#[test]
fn only_the_columns_asked_for_are_there_and_none_is_possible() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory, &[2, 7]);
    let connector = connector(&[&log]);
    let chunks = read(&connector, range(1, &[], None), &[2]);
    assert_eq!(chunks[0].rows, rows(1..7).project(&[1]).unwrap());
    let reader = connector.reader(vec![range(1, &[], None)], &[2]).unwrap();
    assert_eq!(reader.schema(), chunks[0].rows.schema());
    let chunks = read(&connector, range(1, &[], None), &[]);
    assert_eq!(
        (chunks[0].rows.num_rows(), chunks[0].rows.num_columns()),
        (6, 0)
    );
}

#[test]
fn a_checksum_depends_on_the_range_only() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(&directory, &[3]);
    let connector = connector(&[&log]);
    // The first run: rows come in piece by piece while they are read.
    let mut reader = connector
        .reader(vec![range(1, &[], None)], &[0, 2])
        .unwrap();
    let mut first = drain(reader.as_mut());
    for end in [4, 40, 41, 100] {
        extend(&mut log, &[end]);
        first.extend(drain(reader.as_mut()));
    }
    // The replay is cut where the first run was cut, and has other columns.
    let ends: Vec<u64> = first.iter().map(|chunk| chunk.to.0).collect();
    let replay = read(&connector, range(1, &ends, Some(100)), &[0]);
    assert_eq!(cuts(&replay), cuts(&first));
    for (first, replay) in first.iter().zip(&replay) {
        assert_eq!(
            (first.checksum, first.bytes),
            (replay.checksum, replay.bytes)
        );
        assert_eq!(ids(first), ids(replay));
    }
    // Any other cut combines to the same number.
    let whole = read(&connector, range(1, &[], Some(100)), &[]);
    assert_eq!(whole.len(), 1);
    for boundaries in [&ends[..], &[2, 50], &(2..100).collect::<Vec<u64>>()] {
        let chunks = read(&connector, range(1, boundaries, Some(100)), &[2]);
        assert_eq!(combined(&chunks), combined(&whole), "{boundaries:?}");
    }
    assert_ne!(
        combined(&read(&connector, range(1, &[], Some(99)), &[])),
        combined(&whole)
    );
}

#[test]
fn a_record_that_is_covered_as_a_whole_is_summed_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory, &[7]);
    let chunks = read(&connector(&[&log]), range(0, &[2, 3], None), &[0]);
    let (payload, _) = payload(0..7);
    assert_eq!(
        combined(&chunks),
        (crc32fast::hash(&payload), payload.len())
    );
}

#[test]
fn a_waiting_reader_sees_what_is_appended_and_misses_nothing() {
    let directories: Vec<TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let open = |directory: &TempDir| {
        let log = SegmentLog::open(directory.path(), LogOptions::default()).unwrap();
        LogWriter::spawn("test-topic", log)
    };
    let writers: Vec<LogWriter> = directories.iter().map(open).collect();
    let logs = writers.iter().map(LogWriter::reader).collect();
    let connector = TopicConnector::new(schema(), logs);
    let partitions = connector.partitions().unwrap();
    let until = 300;
    let asked = partitions.iter().map(|partition| ReadRange {
        partition: *partition,
        from: Offset(0),
        boundaries: VecDeque::new(),
        until: Some(Offset(until)),
    });
    let mut reader = connector.reader(asked.collect(), &[0]).unwrap();
    let appenders: Vec<_> = writers
        .into_iter()
        .map(|writer| {
            task::spawn("appender", move || {
                for begin in (0..300).step_by(3) {
                    let (payload, count) = payload(begin..begin + 3);
                    writer.append(payload, count).unwrap().wait().unwrap();
                }
            })
        })
        .collect();
    let mut seen = vec![Vec::new(); partitions.len()];
    let mut finished = 0;
    while finished < partitions.len() {
        match reader.poll(LONG).unwrap() {
            Polled::Chunk(chunk) => {
                let index = usize::try_from(chunk.partition.0).unwrap();
                let seen: &mut Vec<i64> = &mut seen[index];
                assert_eq!(chunk.from.0, u64::try_from(seen.len()).unwrap());
                seen.extend(ids(&chunk));
            }
            Polled::Finished(_) => finished += 1,
            Polled::AtEnd(partition, at) => {
                let index = usize::try_from(partition.0).unwrap();
                assert_eq!(at.0, u64::try_from(seen[index].len()).unwrap());
            }
            Polled::Interrupted | Polled::Nothing => panic!("nothing came"),
        }
    }
    let expected: Vec<i64> = (0..300).collect();
    assert!(seen.iter().all(|seen| *seen == expected));
    appenders
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}

#[test]
fn partitions_take_turns() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let many = i64::try_from(3 * CHUNK_ROWS_MAX).unwrap();
    let logs = [log(&directories[0], &[many]), log(&directories[1], &[many])];
    let connector = connector(&[&logs[0], &logs[1]]);
    let asked = [1, 0].map(|partition| ReadRange::tail(PartitionId(partition), Offset(0)));
    let mut reader = connector.reader(asked.into(), &[0]).unwrap();
    let order: Vec<u32> = drain(reader.as_mut())
        .iter()
        .map(|chunk| chunk.partition.0)
        .collect();
    assert_eq!(order, [1, 0, 1, 0, 1, 0]);
}

#[test]
fn a_waker_ends_a_wait_before_and_after_all_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory, &[2]);
    let connector = connector(&[&log]);
    for until in [None, Some(2)] {
        let mut reader = connector.reader(vec![range(0, &[], until)], &[0]).unwrap();
        drain(reader.as_mut());
        let waker = reader.waker();
        let begun = Instant::now();
        let waiting = task::spawn("waiting", move || reader.poll(LONG).unwrap());
        waker();
        assert!(matches!(waiting.join().unwrap(), Polled::Nothing));
        assert!(begun.elapsed() < LONG);
    }
}

#[test]
fn bounds_and_startup_follow_the_logs() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut first = log(&directories[0], &[4]);
    first.roll().unwrap();
    extend(&mut first, &[6]);
    first.truncate_before(Offset(4)).unwrap();
    let second = log(&directories[1], &[3]);
    let topic = connector(&[&first, &second]);
    let partitions = topic.partitions().unwrap();
    assert_eq!(partitions, [PartitionId(0), PartitionId(1)]);
    let bounds = |start, end| Bounds {
        start: Offset(start),
        end: Offset(end),
    };
    assert_eq!(
        topic.bounds(&partitions).unwrap(),
        [bounds(4, 6), bounds(0, 3)]
    );
    assert_eq!(topic.startup(&partitions).unwrap(), [Offset(4), Offset(0)]);
    let topic = topic.with_startup(TopicStartup::Latest);
    assert_eq!(topic.startup(&partitions).unwrap(), [Offset(6), Offset(3)]);
    assert_eq!(topic.identity().unwrap(), None);
    assert!(topic.bounds(&[PartitionId(2)]).is_err());
}

#[test]
fn what_is_not_there_any_more_or_not_yet_is_an_error_that_names_the_partition() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(&directory, &[4]);
    log.roll().unwrap();
    extend(&mut log, &[6]);
    log.truncate_before(Offset(4)).unwrap();
    let connector = connector(&[&log]);
    for (from, state) in [
        (3, SqlState::SNAPSHOT_TOO_OLD),
        (7, SqlState::INVALID_PARAMETER_VALUE),
    ] {
        let error = connector
            .reader(vec![range(from, &[], None)], &[0])
            .err()
            .unwrap();
        assert_eq!(error.state(), state);
        assert!(error.message().starts_with("partition 0: "), "{error}");
    }
}

#[test]
fn records_of_other_columns_end_the_reading_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(&directory, &[2]);
    let connector = connector(&[&log]);
    // The topic's column "twice" is computed and not in its records.
    let mut reader = connector.reader(vec![range(0, &[], None)], &[1]).unwrap();
    for _ in 0..2 {
        let error = reader.poll(Duration::ZERO).unwrap_err();
        assert_eq!(error.state(), SqlState::DATA_CORRUPTED);
        assert_eq!(
            error.message(),
            "partition 0: the record at offset 0 has no column \"twice\""
        );
    }
    let weighted = encode_batch(&rows(0..1), Some(&[-1])).unwrap();
    log.append(&weighted, 1).unwrap();
    log.append(&payload(0..3).0, 2).unwrap();
    log.sync().unwrap();
    for from in [2, 3] {
        let mut reader = connector
            .reader(vec![range(from, &[], None)], &[0])
            .unwrap();
        let error = reader.poll(Duration::ZERO).unwrap_err();
        assert_eq!(error.state(), SqlState::DATA_CORRUPTED, "{error}");
    }
}
