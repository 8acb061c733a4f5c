//! The one writer of a log: opening after a crash, appending, syncing, starting new segments.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use crate::base::Offset;
use crate::base::limits::{
    LOG_BUFFER_BYTES_MAX, LOG_RECORD_BYTES_MAX, LOG_SEGMENT_BYTES, LOG_SEGMENT_BYTES_MAX,
    LOG_SEGMENT_BYTES_MIN, LOG_SEGMENTS_PER_RETENTION,
};
use crate::error::{Error, Result, SqlState};
use crate::storage::file::{Disk, DiskFile, damaged, size};
use crate::storage::log::LogReader;
use crate::storage::log::record::{
    RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, Scan, Scanner, check_segment_header,
    put_record, segment_header,
};
use crate::storage::log::segments::{Active, Closed, IndexEntry, Retention, Segments, SparseIndex};

const SEGMENT_SUFFIX: &str = ".log";

/// How a log is laid out. May change from one opening to the next.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Bytes after which a new segment is started; a larger record has one of its own.
    pub segment_bytes: u64,
}

impl LogOptions {
    /// Segments small enough for the oldest to go long before twice as much is kept as is asked
    /// for.
    pub fn for_retention(retention: &Retention) -> Self {
        let wanted = retention.bytes_min.unwrap_or(u64::MAX) / LOG_SEGMENTS_PER_RETENTION;
        LogOptions {
            segment_bytes: wanted.clamp(LOG_SEGMENT_BYTES_MIN, LOG_SEGMENT_BYTES),
        }
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            segment_bytes: LOG_SEGMENT_BYTES,
        }
    }
}

/// An open log and the right to append to it.
///
/// Dropping it loses what was appended and not synced, as a crash would.
pub struct SegmentLog {
    options: LogOptions,
    segments: Arc<Segments>,
    /// The active segment.
    file: DiskFile,
    base: Offset,
    /// Records not yet handed to the file, which ends at `written`.
    buffer: Vec<u8>,
    written: u64,
    /// Up to where the active segment is durable.
    synced: u64,
    /// The offset of the next record.
    end: Offset,
    /// Places of records that are not yet synced.
    entries: Vec<IndexEntry>,
}

impl SegmentLog {
    /// Opens the log in `directory`, creating both when there is none. Cuts a torn end.
    ///
    /// # Errors
    /// XX001 when a segment is damaged other than by a torn write; 58030 when the system refuses.
    pub fn open(directory: impl AsRef<Path>, options: LogOptions) -> Result<SegmentLog> {
        SegmentLog::open_on(&Disk::new(), directory.as_ref(), options)
    }

    pub(in crate::storage) fn open_on(
        disk: &Disk,
        directory: &Path,
        options: LogOptions,
    ) -> Result<SegmentLog> {
        assert!(
            options.segment_bytes <= LOG_SEGMENT_BYTES_MAX,
            "positions in a segment are 32-bit numbers"
        );
        disk.create_directory(directory)?;
        let bases = list_segments(disk, directory)?;
        let base = bases.last().copied().unwrap_or_default();
        let path = segment_path(directory, base);
        let mut closed = VecDeque::with_capacity(bases.len());
        for pair in bases.windows(2) {
            closed.push_back(Arc::new(describe_closed(
                disk, directory, pair[0], pair[1],
            )?));
        }
        let recovered = recover_active(disk, directory, base)?;
        let Recovered {
            file,
            end,
            index,
            length,
        } = recovered;
        let active = Active {
            base,
            path,
            synced: length,
            index,
        };
        let segments = Segments::new(disk.clone(), directory, closed, active, end);
        Ok(SegmentLog {
            options,
            segments: Arc::new(segments),
            file,
            base,
            buffer: Vec::new(),
            written: length,
            synced: length,
            end,
            entries: Vec::new(),
        })
    }

    /// Appends a record that stands for `rows` rows and returns the offset of its first one. It is
    /// durable, and visible to readers, after the next [`SegmentLog::sync`].
    ///
    /// # Errors
    /// 53400 when the payload is longer than [`LOG_RECORD_BYTES_MAX`]: nothing was appended. After
    /// any other error the log has stopped.
    pub fn append(&mut self, payload: &[u8], rows: u32) -> Result<Offset> {
        check_record(payload, rows)?;
        self.segments.check()?;
        let record_bytes = RECORD_HEADER_BYTES + size(payload.len());
        let position = self.position();
        if position > SEGMENT_HEADER_BYTES && position + record_bytes > self.options.segment_bytes {
            self.roll()?;
        }
        let offset = self.end;
        self.entries.push(IndexEntry {
            offset,
            position: self.position(),
        });
        let synced = u32::try_from(self.synced).expect("a segment is shorter than 4 GiB");
        put_record(
            &mut self.buffer,
            RecordHeader {
                rows,
                synced,
                offset,
            },
            payload,
        );
        self.end = Offset(offset.0 + u64::from(rows));
        if self.buffer.len() >= LOG_BUFFER_BYTES_MAX {
            self.write_buffer()
                .inspect_err(|e| self.segments.fail(e.clone()))?;
        }
        Ok(offset)
    }

    /// Makes everything appended durable and shows it to readers.
    ///
    /// # Errors
    /// After an error the log has stopped: this call and every later one of the log, its readers
    /// and tickets report it, and the server must end.
    pub fn sync(&mut self) -> Result<()> {
        self.segments.check()?;
        self.sync_file()
            .inspect_err(|e| self.segments.fail(e.clone()))
    }

    /// Closes the active segment, so that [`SegmentLog::truncate_before`] can delete it once its
    /// rows are not needed. Implies a sync.
    pub fn roll(&mut self) -> Result<()> {
        self.segments.check()?;
        self.start_segment()
            .inspect_err(|e| self.segments.fail(e.clone()))
    }

    /// # Errors
    /// What has stopped the log.
    pub fn check(&self) -> Result<()> {
        self.segments.check()
    }

    /// A handle for reading, for any number of threads.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.segments))
    }

    /// The first offset that can be read.
    pub fn start_offset(&self) -> Offset {
        self.segments.start()
    }

    /// The offset of the next record that is appended.
    pub fn end_offset(&self) -> Offset {
        self.end
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.bytes()
    }

    /// Deletes the segments whose rows are all before `offset`; returns the new start.
    pub fn truncate_before(&self, offset: Offset) -> Result<Offset> {
        self.segments.truncate_before(offset)
    }

    /// Deletes the segments that `retention` does not keep and whose rows are all before `needed`;
    /// returns the new start.
    pub fn retain(&self, retention: &Retention, needed: Offset, now: SystemTime) -> Result<Offset> {
        self.segments.retain(retention, needed, now)
    }

    pub(in crate::storage::log) fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    /// Where the next record starts in the active segment.
    fn position(&self) -> u64 {
        self.written + size(self.buffer.len())
    }

    fn write_buffer(&mut self) -> Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += size(self.buffer.len());
        self.buffer.clear();
        Ok(())
    }

    fn sync_file(&mut self) -> Result<()> {
        if self.synced == self.position() {
            return Ok(());
        }
        self.write_buffer()?;
        self.file.sync()?;
        self.synced = self.written;
        self.segments
            .publish(self.end, self.synced, &mut self.entries);
        // A burst of large records must not hold its memory for ever.
        self.buffer.shrink_to(LOG_BUFFER_BYTES_MAX);
        Ok(())
    }

    /// The old segment is durable as a whole before the new one exists: only the newest can tear.
    fn start_segment(&mut self) -> Result<()> {
        self.sync_file()?;
        if self.written == SEGMENT_HEADER_BYTES {
            return Ok(());
        }
        let disk = self.segments.disk.clone();
        let path = segment_path(&self.segments.directory, self.end);
        self.file = create_segment(&disk, &path, self.end)?;
        self.base = self.end;
        self.written = SEGMENT_HEADER_BYTES;
        self.synced = SEGMENT_HEADER_BYTES;
        let (base, synced) = (self.base, self.synced);
        let active = Active {
            base,
            path,
            synced,
            index: SparseIndex::default(),
        };
        self.segments.roll(active, SystemTime::now());
        Ok(())
    }
}

/// What a payload must be to be appended.
pub fn check_record(payload: &[u8], rows: u32) -> Result<()> {
    if rows == 0 {
        return Err(Error::internal(
            "a log record must stand for at least one row",
        ));
    }
    if payload.len() > LOG_RECORD_BYTES_MAX {
        return Err(Error::new(
            SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            format!("a log record of {} bytes is too long", payload.len()),
        )
        .hint(format!(
            "the limit is {LOG_RECORD_BYTES_MAX} bytes; write fewer rows at once"
        )));
    }
    Ok(())
}

fn segment_path(directory: &Path, base: Offset) -> PathBuf {
    directory.join(format!("{:020}{SEGMENT_SUFFIX}", base.0))
}

/// The base offsets of the segments, in order.
fn list_segments(disk: &Disk, directory: &Path) -> Result<Vec<Offset>> {
    let names = disk.list(directory)?;
    let mut bases: Vec<Offset> = names
        .iter()
        .filter_map(|name| name.strip_suffix(SEGMENT_SUFFIX)?.parse().ok())
        .map(Offset)
        .collect();
    bases.sort_unstable();
    Ok(bases)
}

/// Closed segments are not read on open (a restart must not take longer the longer the history
/// is): each record is checked when somebody reads it.
fn describe_closed(disk: &Disk, directory: &Path, base: Offset, end: Offset) -> Result<Closed> {
    let path = segment_path(directory, base);
    let (bytes, written) = disk.describe(&path)?;
    Ok(Closed {
        base,
        end,
        path,
        bytes,
        written,
        index: OnceLock::new(),
    })
}

fn create_segment(disk: &Disk, path: &Path, base: Offset) -> Result<DiskFile> {
    let mut file = disk.create(path)?;
    file.write_at(&segment_header(base), 0)?;
    file.sync()?;
    if let Some(directory) = path.parent() {
        disk.sync_directory(directory)?;
    }
    Ok(file)
}

struct Recovered {
    file: DiskFile,
    end: Offset,
    index: SparseIndex,
    length: u64,
}

/// Reads the last segment, cuts its torn end and makes the rest durable.
fn recover_active(disk: &Disk, directory: &Path, base: Offset) -> Result<Recovered> {
    let path = segment_path(directory, base);
    let index = SparseIndex::default();
    let is_unborn = !disk.exists(&path) || disk.describe(&path)?.0 < SEGMENT_HEADER_BYTES;
    if is_unborn {
        // New, or the crash came before its header was synced: no record was ever in it.
        let file = create_segment(disk, &path, base)?;
        return Ok(Recovered {
            file,
            end: base,
            index,
            length: SEGMENT_HEADER_BYTES,
        });
    }
    let file = disk.open_write(&path)?;
    let file_bytes = file.length()?;
    match check_segment_header(&file, base) {
        Ok(()) => {}
        Err(error)
            if error.state() == SqlState::DATA_CORRUPTED && file_bytes == SEGMENT_HEADER_BYTES =>
        {
            drop(file);
            let file = create_segment(disk, &path, base)?;
            return Ok(Recovered {
                file,
                end: base,
                index,
                length: SEGMENT_HEADER_BYTES,
            });
        }
        Err(error) => return Err(error),
    }
    scan_active(file, base, file_bytes)
}

fn scan_active(file: DiskFile, base: Offset, file_bytes: u64) -> Result<Recovered> {
    let mut index = SparseIndex::default();
    let mut scanner = Scanner::new(file, SEGMENT_HEADER_BYTES, base, file_bytes);
    loop {
        let entry = IndexEntry {
            offset: scanner.next_offset(),
            position: scanner.position(),
        };
        match scanner.scan()? {
            Scan::Record(_) => index.offer(entry),
            Scan::End => break,
            Scan::Damage(position, what) => {
                if scanner.was_synced_here()? {
                    return Err(damaged(scanner.file().path(), position, what)
                        .detail("intact records follow, so this is not an interrupted write"));
                }
                tracing::warn!(
                    file = %scanner.file().path().display(),
                    position,
                    bytes = file_bytes - position,
                    what,
                    "cut an interrupted write off the end of a log"
                );
                break;
            }
        }
    }
    let (length, end) = (scanner.position(), scanner.next_offset());
    let mut file = scanner.into_file();
    if length < file_bytes {
        file.set_length(length)?;
    }
    // What was read may still be in the page cache only; it is about to be acted upon.
    file.sync()?;
    Ok(Recovered {
        file,
        end,
        index,
        length,
    })
}
