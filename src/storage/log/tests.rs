//! What a log promises, tried with torn ends, flipped bytes, planned faults and many threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use fastrand::Rng;

use crate::base::limits::{LOG_QUEUE_RECORDS_MAX, LOG_RECORD_BYTES_MAX};
use crate::base::{Offset, task};
use crate::error::SqlState;
use crate::storage::fault::{Fault, Faults};
use crate::storage::file::Disk;
use crate::storage::log::{LogOptions, LogRecord, LogWriter, Retention, SegmentLog};

type Written = (Offset, u32, Vec<u8>);

fn small() -> LogOptions {
    LogOptions { segment_bytes: 700 }
}

fn open(directory: &Path) -> SegmentLog {
    SegmentLog::open(directory, small()).unwrap()
}

/// Everything in the log, or the first error.
fn contents(log: &SegmentLog) -> crate::error::Result<Vec<Written>> {
    let plain = |record: LogRecord| (record.offset, record.rows, record.payload.to_vec());
    let cursor = log.reader().read_from(log.start_offset())?;
    cursor.map(|record| record.map(plain)).collect()
}

/// Appends a random record and tells what it was.
fn append_random(log: &mut SegmentLog, rng: &mut Rng) -> crate::error::Result<Written> {
    let payload: Vec<u8> = (0..rng.usize(0..120)).map(|_| rng.u8(..)).collect();
    let rows = rng.u32(1..5);
    let offset = log.append(&payload, rows)?;
    Ok((offset, rows, payload))
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// A log of some segments, synced after every third record.
fn sample(directory: &Path, seed: u64, records: usize) -> Vec<Written> {
    let mut rng = Rng::with_seed(seed);
    let mut log = open(directory);
    let mut written = Vec::new();
    for count in 0..records {
        written.push(append_random(&mut log, &mut rng).unwrap());
        if count % 3 == 2 {
            log.sync().unwrap();
        }
    }
    log.sync().unwrap();
    written
}

#[test]
fn records_come_back_from_every_offset_also_after_reopening() {
    let temporary = tempfile::tempdir().unwrap();
    let written = sample(temporary.path(), 1, 60);
    let log = open(temporary.path());
    assert!(segments(temporary.path()).len() > 3);
    assert_eq!(contents(&log).unwrap(), written);
    log.reader().verify().unwrap();
    for (at, (offset, rows, _)) in written.iter().enumerate() {
        for row in 0..u64::from(*rows) {
            let cursor = log.reader().read_from(Offset(offset.0 + row)).unwrap();
            let rest: Vec<_> = cursor.map(|record| record.unwrap().offset).collect();
            let expected: Vec<_> = written[at..].iter().map(|record| record.0).collect();
            assert_eq!(rest, expected);
        }
    }
    let end = log.end_offset();
    assert_eq!(log.reader().read_from(end).unwrap().count(), 0);
    let error = log.reader().read_from(Offset(end.0 + 1)).err().unwrap();
    assert_eq!(error.state(), SqlState::INVALID_PARAMETER_VALUE);
}

#[test]
fn seeking_in_a_large_segment_uses_the_index_before_and_after_a_restart() {
    let temporary = tempfile::tempdir().unwrap();
    let options = || LogOptions {
        segment_bytes: 2 << 20,
    };
    let mut log = SegmentLog::open(temporary.path(), options()).unwrap();
    let count = 3000u64;
    for number in 0..count {
        let payload = [number.to_le_bytes().as_slice(), &[7; 1200]].concat();
        log.append(&payload, 1).unwrap();
    }
    log.sync().unwrap();
    let check = |log: &SegmentLog| {
        for offset in [0, 1, 700, 1500, 1999, count - 1] {
            let mut cursor = log.reader().read_from(Offset(offset)).unwrap();
            let record = cursor.next().unwrap().unwrap();
            assert_eq!(record.offset, Offset(offset));
            assert_eq!(record.payload[..8], offset.to_le_bytes());
        }
    };
    check(&log);
    drop(log);
    check(&SegmentLog::open(temporary.path(), options()).unwrap());
}

#[test]
fn a_cut_at_any_byte_leaves_a_clean_prefix_to_which_one_can_append() {
    let temporary = tempfile::tempdir().unwrap();
    let written = sample(temporary.path(), 2, 20);
    let last = segments(temporary.path()).pop().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    let whole_before = {
        let base: u64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        written.iter().filter(|record| record.0.0 < base).count()
    };
    for cut in (0..bytes.len()).rev() {
        std::fs::write(&last, &bytes[..cut]).unwrap();
        let mut log = open(temporary.path());
        let read = contents(&log).unwrap();
        assert!(read.len() >= whole_before, "cut at {cut}");
        assert_eq!(read, written[..read.len()], "cut at {cut}");
        let offset = log.append(b"more", 1).unwrap();
        log.sync().unwrap();
        assert_eq!(contents(&log).unwrap().last().unwrap().0, offset);
    }
}

#[test]
fn garbage_after_the_last_record_is_cut() {
    let temporary = tempfile::tempdir().unwrap();
    let written = sample(temporary.path(), 3, 10);
    let last = segments(temporary.path()).pop().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    for garbage in [vec![0; 5], vec![0; 500], vec![0xff; 100]] {
        std::fs::write(&last, [bytes.as_slice(), &garbage].concat()).unwrap();
        assert_eq!(contents(&open(temporary.path())).unwrap(), written);
        assert_eq!(std::fs::read(&last).unwrap(), bytes);
    }
}

/// The pages of one unsynced group may reach the disk in any order: a hole followed by an intact
/// record is still a torn write, because nothing says that the hole had been durable.
#[test]
fn a_hole_in_the_last_unsynced_group_is_a_torn_write() {
    let temporary = tempfile::tempdir().unwrap();
    let options = LogOptions::default();
    let mut log = SegmentLog::open(temporary.path(), options.clone()).unwrap();
    log.append(b"first", 1).unwrap();
    log.sync().unwrap();
    let start = log.bytes();
    log.append(b"second", 1).unwrap();
    log.append(b"third", 1).unwrap();
    log.sync().unwrap();
    drop(log);
    let path = segments(temporary.path()).pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[usize::try_from(start).unwrap() + 26] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let log = SegmentLog::open(temporary.path(), options).unwrap();
    assert_eq!(contents(&log).unwrap(), [(Offset(0), 1, b"first".to_vec())]);
}

#[test]
fn a_flipped_bit_anywhere_is_an_error_or_a_cut_and_never_wrong_data() {
    let temporary = tempfile::tempdir().unwrap();
    let written = sample(temporary.path(), 4, 24);
    let paths = segments(temporary.path());
    let mut rng = Rng::with_seed(5);
    for path in &paths {
        let bytes = std::fs::read(path).unwrap();
        let is_last = path == paths.last().unwrap();
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1 << rng.u32(0..8);
            std::fs::write(path, &broken).unwrap();
            let read = SegmentLog::open(temporary.path(), small()).and_then(|log| contents(&log));
            match read {
                Err(error) => {
                    assert_eq!(error.state(), SqlState::DATA_CORRUPTED);
                    let name = path.file_name().unwrap().to_str().unwrap();
                    assert!(error.message().contains(name), "{error}");
                }
                Ok(read) => {
                    assert!(is_last, "byte {at} of {} was not noticed", path.display());
                    assert_eq!(read, written[..read.len()]);
                    // Only what the last sync covered has no record after it to prove damage.
                    assert!(read.len() >= written.len() - 3, "byte {at}: {}", read.len());
                }
            }
            std::fs::write(path, &bytes).unwrap();
        }
    }
    assert_eq!(contents(&open(temporary.path())).unwrap(), written);
}

#[test]
fn a_missing_or_cut_closed_segment_is_an_error() {
    let temporary = tempfile::tempdir().unwrap();
    sample(temporary.path(), 6, 30);
    let path = segments(temporary.path())[1].clone();
    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 10, 24, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let error = contents(&open(temporary.path())).unwrap_err();
        assert_eq!(error.state(), SqlState::DATA_CORRUPTED, "cut at {cut}");
    }
    std::fs::remove_file(&path).unwrap();
    let error = contents(&open(temporary.path())).unwrap_err();
    assert_eq!(error.state(), SqlState::DATA_CORRUPTED);
}

/// Random appends and syncs; then the process dies at the n-th change, with or without the power.
#[test]
fn death_at_any_change_loses_nothing_that_was_synced() {
    let scenario = |disk: &Disk, directory: &Path| {
        let mut rng = Rng::with_seed(7);
        let mut written = Vec::new();
        let mut synced = 0;
        let mut run = || -> crate::error::Result<()> {
            let mut log = SegmentLog::open_on(disk, directory, small())?;
            for _ in 0..40 {
                written.push(append_random(&mut log, &mut rng)?);
                if rng.bool() {
                    log.sync()?;
                    synced = written.len();
                }
            }
            Ok(())
        };
        let result = run();
        (result, written, synced)
    };
    let healthy = Arc::new(Faults::none());
    let temporary = tempfile::tempdir().unwrap();
    let disk = Disk::with_faults(Arc::clone(&healthy));
    scenario(&disk, &temporary.path().join("log")).0.unwrap();
    for at in 0..healthy.changes() {
        for loses_power in [false, true] {
            let temporary = tempfile::tempdir().unwrap();
            let directory = temporary.path().join("log");
            let faults = Arc::new(Faults::at(at, Fault::Stop));
            let disk = Disk::with_faults(Arc::clone(&faults));
            let (result, written, synced) = scenario(&disk, &directory);
            assert!(result.is_err());
            if loses_power {
                faults.lose_power();
            }
            let read = contents(&open(&directory)).unwrap();
            assert!(
                read.len() >= synced,
                "change {at}: {} of {synced}",
                read.len()
            );
            // The record that was being appended when it died is not in `written`.
            let common = read.len().min(written.len());
            assert_eq!(read[..common], written[..common]);
            assert!(read.len() <= written.len() + 1);
        }
    }
}

#[test]
fn readers_see_synced_records_only_and_follow_the_appender() {
    let temporary = tempfile::tempdir().unwrap();
    let mut log = open(temporary.path());
    let reader = log.reader();
    let mut cursor = reader.read_from(Offset(0)).unwrap();
    log.append(b"one", 2).unwrap();
    assert!(cursor.next().is_none());
    assert!(!cursor.wait(Duration::ZERO).unwrap());
    assert_eq!(
        (reader.end_offset(), log.end_offset()),
        (Offset(0), Offset(2))
    );
    log.sync().unwrap();
    assert!(cursor.wait(Duration::ZERO).unwrap());
    assert_eq!(cursor.next().unwrap().unwrap().payload, b"one".as_slice());
    assert_eq!(
        (cursor.offset(), cursor.next().is_none()),
        (Offset(2), true)
    );

    let finished = Arc::new(AtomicBool::new(false));
    let follower = task::spawn("follower", {
        let finished = Arc::clone(&finished);
        move || {
            let mut offsets = Vec::new();
            loop {
                let was_finished = finished.load(Ordering::Acquire);
                for record in cursor.by_ref() {
                    let record = record.unwrap();
                    // What a reader gets is durable by then.
                    assert!(reader.end_offset() >= record.end());
                    offsets.push(record.offset.0);
                }
                if was_finished {
                    return offsets;
                }
                cursor.wait(Duration::from_millis(20)).unwrap();
            }
        }
    });
    let mut expected = Vec::new();
    let mut rng = Rng::with_seed(8);
    for _ in 0..500 {
        expected.push(append_random(&mut log, &mut rng).unwrap().0.0);
        if rng.u8(0..4) == 0 {
            log.sync().unwrap();
        }
    }
    log.sync().unwrap();
    finished.store(true, Ordering::Release);
    assert_eq!(follower.join().unwrap(), expected);
}

#[test]
fn truncation_and_retention_delete_whole_old_segments() {
    let temporary = tempfile::tempdir().unwrap();
    let written = sample(temporary.path(), 9, 60);
    let log = open(temporary.path());
    let mut stale = log.reader().read_from(Offset(0)).unwrap();
    let middle = written[30].0;
    let start = log.truncate_before(middle).unwrap();
    assert!(start <= middle && start > Offset(0));
    assert_eq!(log.start_offset(), start);
    assert!(segments(temporary.path())[0].ends_with(format!("{:020}.log", start.0)));
    assert_eq!(
        stale.next().unwrap().unwrap_err().state(),
        SqlState::SNAPSHOT_TOO_OLD
    );
    assert!(stale.next().is_none());
    let error = log.reader().read_from(Offset(start.0 - 1)).err().unwrap();
    assert_eq!(error.state(), SqlState::SNAPSHOT_TOO_OLD);
    let kept: Vec<Written> = written.iter().filter(|r| r.0 >= start).cloned().collect();
    assert_eq!(contents(&log).unwrap(), kept);

    let now = SystemTime::now();
    let everything = Retention::default();
    let all = log.end_offset();
    assert_eq!(log.retain(&everything, all, now).unwrap(), start);
    let by_bytes = Retention {
        bytes_min: Some(1500),
        age_max: None,
    };
    let needed = log.retain(&by_bytes, start, now).unwrap();
    assert_eq!(needed, start, "what is needed stays");
    let later = log.retain(&by_bytes, all, now).unwrap();
    assert!(later > start && log.bytes() >= 1500 && log.bytes() < 1500 + 1000);
    let by_age = Retention {
        bytes_min: None,
        age_max: Some(Duration::from_secs(60)),
    };
    assert_eq!(log.retain(&by_age, all, now).unwrap(), later);
    let much_later = now + Duration::from_secs(120);
    let last = log.retain(&by_age, all, much_later).unwrap();
    assert_eq!(segments(temporary.path()).len(), 1);
    drop(log);
    let log = open(temporary.path());
    assert_eq!(log.start_offset(), last);
    assert_eq!(
        log.end_offset().0,
        written.last().map(|r| r.0.0 + u64::from(r.1)).unwrap()
    );
}

#[test]
fn a_deletion_that_fails_halfway_leaves_no_gap() {
    let temporary = tempfile::tempdir().unwrap();
    let written = sample(temporary.path(), 12, 60);
    let faults = Arc::new(Faults::none());
    let disk = Disk::with_faults(Arc::clone(&faults));
    let log = SegmentLog::open_on(&disk, temporary.path(), small()).unwrap();
    let middle = written[30].0;
    faults.plan_next(Fault::Error);
    assert!(log.truncate_before(middle).is_err());
    assert_eq!(contents(&log).unwrap(), written);
    let start = log.truncate_before(middle).unwrap();
    drop(log);
    let log = open(temporary.path());
    let kept: Vec<Written> = written.iter().filter(|r| r.0 >= start).cloned().collect();
    assert_eq!(contents(&log).unwrap(), kept);
}

#[test]
fn a_reader_in_a_deleted_segment_reads_it_to_its_end() {
    let temporary = tempfile::tempdir().unwrap();
    let written = sample(temporary.path(), 10, 60);
    let log = open(temporary.path());
    let mut cursor = log.reader().read_from(Offset(0)).unwrap();
    cursor.next().unwrap().unwrap();
    log.truncate_before(log.end_offset()).unwrap();
    let rest: Vec<_> = cursor.collect();
    let error = rest.last().unwrap().as_ref().unwrap_err();
    assert_eq!(error.state(), SqlState::SNAPSHOT_TOO_OLD);
    assert!(rest.len() > 1 && rest.len() < written.len());
}

#[test]
fn impossible_records_are_refused_without_harm() {
    let temporary = tempfile::tempdir().unwrap();
    let mut log = open(temporary.path());
    assert!(log.append(b"", 0).is_err());
    let error = log
        .append(&vec![0; LOG_RECORD_BYTES_MAX + 1], 1)
        .unwrap_err();
    assert_eq!(error.state(), SqlState::CONFIGURATION_LIMIT_EXCEEDED);
    // Larger than a segment: it gets one of its own.
    let large = vec![1; 5000];
    log.append(&large, 1).unwrap();
    log.append(b"", 1).unwrap();
    log.sync().unwrap();
    drop(log);
    let expected = [(Offset(0), 1, large), (Offset(1), 1, vec![])];
    assert_eq!(contents(&open(temporary.path())).unwrap(), expected);
}

#[test]
fn one_sync_covers_what_many_threads_append() {
    let temporary = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::none());
    let disk = Disk::with_faults(Arc::clone(&faults));
    let log = SegmentLog::open_on(&disk, temporary.path(), LogOptions::default()).unwrap();
    let writer = LogWriter::spawn("test-log", log);
    let before = faults.syncs();
    let threads: Vec<_> = (0..8u8)
        .map(|thread| {
            let writer = writer.clone();
            task::spawn("appender", move || {
                let append = |count: u8| writer.append(vec![thread, count], 2).unwrap();
                let tickets: Vec<_> = (0..100).map(append).collect();
                let offsets: Vec<_> = tickets.iter().map(|t| t.wait().unwrap()).collect();
                assert!(offsets.is_sorted());
                assert!(tickets[99].is_synced().unwrap());
                offsets
            })
        })
        .collect();
    let offsets: Vec<Vec<Offset>> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(writer.end_offset(), Offset(1600));
    assert!(
        faults.syncs() - before < 400,
        "{} syncs for 800 records",
        faults.syncs() - before
    );
    for record in writer.reader().read_from(Offset(0)).unwrap() {
        let record = record.unwrap();
        let (thread, count) = (
            usize::from(record.payload[0]),
            usize::from(record.payload[1]),
        );
        assert_eq!(offsets[thread][count], record.offset);
    }
    drop(writer);
    assert_eq!(contents(&open(temporary.path())).unwrap().len(), 800);
}

#[test]
fn appenders_wait_while_the_queue_is_full_and_closing_syncs_it() {
    let temporary = tempfile::tempdir().unwrap();
    let writer = LogWriter::spawn("test-log", open(temporary.path()));
    let count = 2 * LOG_QUEUE_RECORDS_MAX + 10;
    for _ in 0..count {
        let _ = writer.append(vec![1], 1).unwrap();
    }
    drop(writer);
    assert_eq!(
        open(temporary.path()).end_offset(),
        Offset(u64::try_from(count).unwrap())
    );
}

#[test]
fn after_a_failed_sync_or_write_every_call_reports_it() {
    for fault in [Fault::SyncError, Fault::Error, Fault::ShortWrite] {
        let temporary = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::none());
        let disk = Disk::with_faults(Arc::clone(&faults));
        let log = SegmentLog::open_on(&disk, temporary.path(), small()).unwrap();
        let writer = LogWriter::spawn("test-log", log);
        writer.append(b"kept".to_vec(), 1).unwrap().wait().unwrap();
        let mut cursor = writer.reader().read_from(Offset(0)).unwrap();
        faults.plan_next(fault);
        let ticket = writer.append(b"lost".to_vec(), 1).unwrap();
        assert_eq!(ticket.wait().unwrap_err().state(), SqlState::IO_ERROR);
        assert!(ticket.wait().is_err() && ticket.is_synced().is_err());
        assert!(
            writer
                .append(b"x".to_vec(), 1)
                .and_then(|t| t.wait())
                .is_err()
        );
        assert!(writer.reader().read_from(Offset(0)).is_err());
        assert!(cursor.wait(Duration::from_secs(60)).is_err());
        assert!(cursor.next().unwrap().is_err());
        assert!(writer.truncate_before(Offset(1)).is_err());
        drop(writer);
        let read = contents(&open(temporary.path())).unwrap();
        assert_eq!(read[0], (Offset(0), 1, b"kept".to_vec()));
    }
}

#[test]
fn a_later_format_is_refused_and_not_called_damage() {
    let temporary = tempfile::tempdir().unwrap();
    sample(temporary.path(), 11, 3);
    let path = segments(temporary.path()).pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 2;
    let checksum = crc32fast::hash(&bytes[..20]).to_le_bytes();
    bytes[20..24].copy_from_slice(&checksum);
    std::fs::write(&path, &bytes).unwrap();
    let error = SegmentLog::open(temporary.path(), small()).err().unwrap();
    assert_eq!(error.state(), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}
