//! The bytes of a segment: its header, its records, and reading them back with suspicion.
//!
//! ```text
//! segment header: magic "tidelog\0" | version u32 | base offset u64 | crc32 of these 20 bytes
//! record header:  crc32 of the rest | payload length u32 | rows u32 | synced u32 | offset u64
//! ```
//! Numbers are little-endian. `synced` is the position up to which the segment was durable when the
//! record was written: an intact record after a broken place proves by it whether the place had
//! been durable (damage) or not (a torn write whose pages reached the disk out of order).

use bytes::Bytes;

use crate::base::Offset;
use crate::base::limits::{LOG_READ_BYTES, LOG_RECORD_BYTES_MAX};
use crate::error::{Error, Result, SqlState};
use crate::storage::file::{DiskFile, damaged, length, size};

pub const SEGMENT_HEADER_BYTES: u64 = 24;
pub const RECORD_HEADER_BYTES: u64 = 24;

const MAGIC: [u8; 8] = *b"tidelog\0";
const VERSION: u32 = 1;

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Offset of its first row.
    pub offset: Offset,
    /// How many rows it stands for, at least one.
    pub rows: u32,
    pub payload: Bytes,
}

impl LogRecord {
    /// The offset after its last row.
    pub fn end(&self) -> Offset {
        Offset(self.offset.0 + u64::from(self.rows))
    }
}

/// What stands before a payload.
#[derive(Clone, Copy)]
pub struct RecordHeader {
    pub rows: u32,
    pub synced: u32,
    pub offset: Offset,
}

pub fn segment_header(base: Offset) -> Vec<u8> {
    let mut out = Vec::with_capacity(length(SEGMENT_HEADER_BYTES));
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&base.0.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out
}

/// Checks a segment's header against the offset in its name.
///
/// # Errors
/// XX001 when it is damaged; 55000 when a later version wrote it.
pub fn check_segment_header(file: &DiskFile, base: Offset) -> Result<()> {
    if file.length()? < SEGMENT_HEADER_BYTES {
        return Err(damaged(file.path(), 0, "its header is cut"));
    }
    let header = file.read_bytes(0, length(SEGMENT_HEADER_BYTES))?;
    if header == segment_header(base) {
        return Ok(());
    }
    let is_intact = crc32fast::hash(&header[..20]) == read_u32(&header, 20);
    if header[..8] == MAGIC && is_intact && read_u32(&header, 8) != VERSION {
        let version = read_u32(&header, 8);
        return Err(Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "file \"{}\" has log format {version}",
                file.path().display()
            ),
        )
        .hint(format!("this version of Tidemill reads format {VERSION}")));
    }
    Err(damaged(
        file.path(),
        0,
        "its header is not that of this log segment",
    ))
}

/// Appends a whole record to `out`.
pub fn put_record(out: &mut Vec<u8>, header: RecordHeader, payload: &[u8]) {
    let start = out.len();
    let payload_bytes = u32::try_from(payload.len()).expect("the caller checks the length");
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&payload_bytes.to_le_bytes());
    out.extend_from_slice(&header.rows.to_le_bytes());
    out.extend_from_slice(&header.synced.to_le_bytes());
    out.extend_from_slice(&header.offset.0.to_le_bytes());
    out.extend_from_slice(payload);
    let checksum = crc32fast::hash(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// What stands at a position of a segment.
pub enum Scan {
    Record(LogRecord),
    /// The limit is reached exactly.
    End,
    /// No record: `position` and what is wrong there.
    Damage(u64, &'static str),
}

/// Reads the records of one segment in order, up to a limit.
pub struct Scanner {
    file: DiskFile,
    /// Where the next record starts.
    position: u64,
    /// Where reading ends: the file's length, or what is synced of it.
    limit: u64,
    /// The offset the next record must have.
    next: Offset,
    /// Bytes fetched, from `chunk_start` on.
    chunk: Bytes,
    chunk_start: u64,
}

impl Scanner {
    /// Reads `file` from `position`, where the record with offset `next` starts.
    pub fn new(file: DiskFile, position: u64, next: Offset, limit: u64) -> Self {
        Scanner {
            file,
            position,
            limit,
            next,
            chunk: Bytes::new(),
            chunk_start: position,
        }
    }

    pub fn file(&self) -> &DiskFile {
        &self.file
    }

    pub fn into_file(self) -> DiskFile {
        self.file
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn next_offset(&self) -> Offset {
        self.next
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn extend_limit(&mut self, limit: u64) {
        debug_assert!(
            limit >= self.limit,
            "a segment never shrinks under a reader"
        );
        self.limit = limit;
    }

    /// Reads the next record. Only trouble of the disk itself is an `Err`.
    pub fn scan(&mut self) -> Result<Scan> {
        let left = self.limit - self.position;
        if left == 0 {
            return Ok(Scan::End);
        }
        if left < RECORD_HEADER_BYTES {
            return Ok(Scan::Damage(self.position, "a record's header is cut"));
        }
        let header = self.fetch(length(RECORD_HEADER_BYTES))?;
        let payload_bytes = u64::from(read_u32(&header, 4));
        if payload_bytes > size(LOG_RECORD_BYTES_MAX) {
            return Ok(Scan::Damage(
                self.position,
                "a record's length is impossible",
            ));
        }
        let record_bytes = RECORD_HEADER_BYTES + payload_bytes;
        if record_bytes > left {
            return Ok(Scan::Damage(self.position, "a record is cut"));
        }
        let bytes = self.fetch(length(record_bytes))?;
        if crc32fast::hash(&bytes[4..]) != read_u32(&bytes, 0) {
            return Ok(Scan::Damage(self.position, "a record's checksum is wrong"));
        }
        let record = LogRecord {
            offset: Offset(read_u64(&bytes, 16)),
            rows: read_u32(&bytes, 8),
            payload: bytes.slice(length(RECORD_HEADER_BYTES)..),
        };
        if record.offset != self.next || record.rows == 0 {
            return Ok(Scan::Damage(
                self.position,
                "a record's offset is not the next one",
            ));
        }
        self.position += record_bytes;
        self.next = record.end();
        Ok(Scan::Record(record))
    }

    /// `count` bytes from the current position, all of them below the limit.
    fn fetch(&mut self, count: usize) -> Result<Bytes> {
        let chunk_end = self.chunk_start + size(self.chunk.len());
        if self.position + size(count) > chunk_end {
            let left = self.limit - self.position;
            let wanted = left.min(size(count.max(LOG_READ_BYTES)));
            self.chunk = Bytes::from(self.file.read_bytes(self.position, length(wanted))?);
            self.chunk_start = self.position;
        }
        let start = length(self.position - self.chunk_start);
        Ok(self.chunk.slice(start..start + count))
    }

    /// Whether an intact record after the current position proves that this position had been
    /// synced. Reads the rest of the segment, which only a crash or damage makes necessary.
    pub fn was_synced_here(&self) -> Result<bool> {
        let rest = self
            .file
            .read_bytes(self.position, length(self.limit - self.position))?;
        let proves = |start: usize| {
            let bytes = &rest[start..];
            let end = length(RECORD_HEADER_BYTES) + length(u64::from(read_u32(bytes, 4)));
            let synced = u64::from(read_u32(bytes, 12));
            end <= bytes.len()
                && synced > self.position
                && synced <= self.position + size(start)
                && read_u64(bytes, 16) > self.next.0
                && crc32fast::hash(&bytes[4..end]) == read_u32(bytes, 0)
        };
        let starts = rest.len().saturating_sub(length(RECORD_HEADER_BYTES) - 1);
        Ok((1..starts).any(proves))
    }
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
