//! Reading a log from any number of threads while it is appended to.

use std::sync::Arc;
use std::time::Duration;

use crate::base::Offset;
use crate::error::{Error, Result, SqlState};
use crate::storage::file::damaged;
use crate::storage::log::record::{LogRecord, Scan, Scanner};
use crate::storage::log::segments::{Closed, Place, Segments};

/// A handle for reading, cheap to clone.
#[derive(Clone)]
pub struct LogReader(Arc<Segments>);

impl LogReader {
    pub(in crate::storage::log) fn new(segments: Arc<Segments>) -> Self {
        LogReader(segments)
    }

    /// The first offset that can be read.
    pub fn start_offset(&self) -> Offset {
        self.0.start()
    }

    /// The offset after the last synced row.
    pub fn end_offset(&self) -> Offset {
        self.0.end()
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    /// Reads from the record that holds `offset`: when that is in the middle of a record, the
    /// caller skips the rows before it.
    ///
    /// # Errors
    /// 72000 when the offset is before the start; 22023 when it is after the end.
    pub fn read_from(&self, offset: Offset) -> Result<LogCursor> {
        self.0.check()?;
        let (start, end) = (self.0.start(), self.0.end());
        if offset < start {
            return Err(self.gone(offset, start));
        }
        if offset > end {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!(
                    "log \"{}\" ends at offset {end}",
                    self.0.directory.display()
                ),
            )
            .detail(format!("offset {offset} was asked for")));
        }
        Ok(LogCursor {
            log: self.clone(),
            next: offset,
            reading: None,
            is_broken: false,
        })
    }

    /// Reads everything once, for its checksums.
    pub fn verify(&self) -> Result<()> {
        self.read_from(self.start_offset())?
            .try_for_each(|record| record.map(drop))
    }

    fn gone(&self, offset: Offset, start: Offset) -> Error {
        Error::new(
            SqlState::SNAPSHOT_TOO_OLD,
            format!(
                "log \"{}\" begins at offset {start}",
                self.0.directory.display()
            ),
        )
        .detail(format!("offset {offset} was asked for"))
        .hint("older rows were deleted by its retention")
    }
}

/// A position in a log. As an iterator it yields synced records and `None` at the synced end; it
/// goes on when there are more ([`LogCursor::wait`]). After an error it yields nothing.
pub struct LogCursor {
    log: LogReader,
    /// The first offset that the next record must hold.
    next: Offset,
    reading: Option<Reading>,
    is_broken: bool,
}

struct Reading {
    scanner: Scanner,
    segment: Segment,
}

/// Which segment a scanner reads.
enum Segment {
    Closed(Arc<Closed>),
    Active(Offset),
}

impl LogCursor {
    /// The offset after the last record that was yielded.
    pub fn offset(&self) -> Offset {
        self.next
    }

    /// Waits until another record is synced, at most for `timeout`; false after it.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        self.log.0.wait_beyond(self.next, timeout)
    }

    fn advance(&mut self) -> Result<Option<LogRecord>> {
        loop {
            let Some(reading) = &mut self.reading else {
                match self.log.0.place(self.next)? {
                    Place::End => return Ok(None),
                    Place::Gone(start) => return Err(self.log.gone(self.next, start)),
                    Place::Closed { segment, scanner } => {
                        let segment = Segment::Closed(segment);
                        self.reading = Some(Reading { scanner, segment });
                    }
                    Place::Active { base, scanner } => {
                        let segment = Segment::Active(base);
                        self.reading = Some(Reading { scanner, segment });
                    }
                }
                continue;
            };
            match reading.scanner.scan()? {
                // The index leads to a place before the offset.
                Scan::Record(record) if record.end() <= self.next => {}
                Scan::Record(record) => {
                    self.next = record.end();
                    return Ok(Some(record));
                }
                Scan::Damage(position, what) => {
                    return Err(damaged(reading.scanner.file().path(), position, what));
                }
                Scan::End => match reading.end_reached(&self.log.0)? {
                    Reached::More => {}
                    Reached::NextSegment => self.reading = None,
                    Reached::End => return Ok(None),
                },
            }
        }
    }
}

/// What comes after the end of what a scanner may read.
enum Reached {
    More,
    NextSegment,
    End,
}

impl Reading {
    fn end_reached(&mut self, log: &Segments) -> Result<Reached> {
        let (limit, end) = match &self.segment {
            Segment::Closed(segment) => (self.scanner.limit(), Some(segment.end)),
            Segment::Active(base) => match log.limit_of(*base)? {
                Some(found) => found,
                None => return Ok(Reached::NextSegment),
            },
        };
        if limit > self.scanner.limit() {
            self.scanner.extend_limit(limit);
            return Ok(Reached::More);
        }
        match end {
            None => Ok(Reached::End),
            Some(end) if end == self.scanner.next_offset() => Ok(Reached::NextSegment),
            Some(end) => Err(damaged(
                self.scanner.file().path(),
                self.scanner.position(),
                format_args!("it ends before offset {end}"),
            )),
        }
    }
}

impl Iterator for LogCursor {
    type Item = Result<LogRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_broken {
            return None;
        }
        let record = self.advance();
        self.is_broken = record.is_err();
        record.transpose()
    }
}
