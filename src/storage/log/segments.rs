//! What the appender of a log and its readers share: the list of segments and the synced end.
//!
//! A mutex and a condition variable, because readers and waiting appenders are many and need one
//! consistent picture of (segments, synced end, failure); it is held for a few instructions, never
//! across a read, a write or a sync. Deleting has a mutex of its own: files go oldest first and one
//! deletion at a time, so that a crash leaves no gap.
//!
//! A closed segment has its sparse index from the time it was active, or, after a restart, builds
//! it when somebody first seeks into its middle. Reading from a segment's start needs none.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use crate::base::Offset;
use crate::base::limits::LOG_INDEX_SPACING_BYTES;
use crate::error::{Error, Result};
use crate::storage::file::{Disk, stopped};
use crate::storage::log::record::{SEGMENT_HEADER_BYTES, Scan, Scanner, check_segment_header};

/// What to keep of a log; `None` keeps everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Delete the oldest segments while the rest still has at least these bytes.
    pub bytes_min: Option<u64>,
    /// Delete segments whose last record was written longer ago.
    pub age_max: Option<Duration>,
}

/// Where some record of a segment starts.
#[derive(Clone, Copy, Debug)]
pub struct IndexEntry {
    pub offset: Offset,
    pub position: u64,
}

/// A sparse index: entries in order, about one per [`LOG_INDEX_SPACING_BYTES`].
#[derive(Debug, Default)]
pub struct SparseIndex(Vec<IndexEntry>);

impl SparseIndex {
    /// Adds a record's place unless the last entry is near.
    pub fn offer(&mut self, entry: IndexEntry) {
        let last = self
            .0
            .last()
            .map_or(SEGMENT_HEADER_BYTES, |last| last.position);
        if entry.position >= last + LOG_INDEX_SPACING_BYTES {
            self.0.push(entry);
        }
    }

    /// The last entry at or before `offset`, if any; otherwise start at the segment's begin.
    pub fn seek(&self, offset: Offset) -> Option<IndexEntry> {
        let after = self.0.partition_point(|entry| entry.offset <= offset);
        after.checked_sub(1).map(|at| self.0[at])
    }
}

/// A segment that is not written any more.
#[derive(Debug)]
pub struct Closed {
    pub base: Offset,
    /// The base of the segment after it.
    pub end: Offset,
    pub path: PathBuf,
    pub bytes: u64,
    pub written: SystemTime,
    pub index: OnceLock<SparseIndex>,
}

impl Closed {
    /// The place at or before `offset` from which to read.
    fn seek(&self, disk: &Disk, offset: Offset) -> Result<IndexEntry> {
        let begin = IndexEntry {
            offset: self.base,
            position: SEGMENT_HEADER_BYTES,
        };
        if offset == self.base {
            return Ok(begin);
        }
        if self.index.get().is_none() {
            // Two readers may both build it; one of the equal results is kept.
            let index = self.build_index(disk)?;
            let _ = self.index.set(index);
        }
        let index = self.index.get().expect("it was set above");
        Ok(index.seek(offset).unwrap_or(begin))
    }

    /// Reads the segment. Damage ends the index: whoever reads that far meets and reports it.
    fn build_index(&self, disk: &Disk) -> Result<SparseIndex> {
        let mut index = SparseIndex::default();
        let Some(file) = disk.open_read_if_there(&self.path)? else {
            return Ok(index);
        };
        let limit = file.length()?;
        if limit < SEGMENT_HEADER_BYTES {
            return Ok(index);
        }
        let mut scanner = Scanner::new(file, SEGMENT_HEADER_BYTES, self.base, limit);
        loop {
            let entry = IndexEntry {
                offset: scanner.next_offset(),
                position: scanner.position(),
            };
            match scanner.scan()? {
                Scan::Record(_) => index.offer(entry),
                Scan::End | Scan::Damage(..) => return Ok(index),
            }
        }
    }
}

/// The segment that is appended to.
pub struct Active {
    pub base: Offset,
    pub path: PathBuf,
    /// Up to where the file is durable; readers stop here.
    pub synced: u64,
    /// Of the synced part.
    pub index: SparseIndex,
}

struct State {
    closed: VecDeque<Arc<Closed>>,
    active: Active,
    /// The offset after the last synced record.
    end: Offset,
    failure: Option<Error>,
}

pub struct Segments {
    pub disk: Disk,
    pub directory: PathBuf,
    state: Mutex<State>,
    /// The synced end moved, or the log failed.
    changed: Condvar,
    deleting: Mutex<()>,
}

/// Where a reader goes on, and up to where it may read.
pub enum Place {
    Closed {
        segment: Arc<Closed>,
        scanner: Scanner,
    },
    Active {
        base: Offset,
        scanner: Scanner,
    },
    /// Nothing there yet.
    End,
    /// The offset is older than the log.
    Gone(Offset),
}

impl Segments {
    pub fn new(
        disk: Disk,
        directory: &Path,
        closed: VecDeque<Arc<Closed>>,
        active: Active,
        end: Offset,
    ) -> Self {
        let state = State {
            closed,
            active,
            end,
            failure: None,
        };
        Segments {
            disk,
            directory: directory.to_path_buf(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            deleting: Mutex::new(()),
        }
    }

    /// A panic while the lock is held cannot leave a half-made change: each is one assignment
    /// deep, so a poisoned lock is taken over.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn start(&self) -> Offset {
        let state = self.lock();
        state
            .closed
            .front()
            .map_or(state.active.base, |segment| segment.base)
    }

    pub fn end(&self) -> Offset {
        self.lock().end
    }

    /// Bytes of all segments, as far as they are synced.
    pub fn bytes(&self) -> u64 {
        let state = self.lock();
        state
            .closed
            .iter()
            .map(|segment| segment.bytes)
            .sum::<u64>()
            + state.active.synced
    }

    /// The error that stopped the log, for every call after it.
    pub fn check(&self) -> Result<()> {
        self.lock().check(&self.directory)
    }

    /// Stops the log for good; the first cause is kept.
    pub fn fail(&self, cause: Error) {
        let mut state = self.lock();
        if state.failure.is_none() {
            tracing::error!(log = %self.directory.display(), error = %cause, "log stopped");
            state.failure = Some(cause);
        }
        self.changed.notify_all();
    }

    /// Publishes what a sync made durable.
    pub fn publish(&self, end: Offset, synced: u64, entries: &mut Vec<IndexEntry>) {
        let mut state = self.lock();
        state.end = end;
        state.active.synced = synced;
        for entry in entries.drain(..) {
            state.active.index.offer(entry);
        }
        self.changed.notify_all();
    }

    /// Closes the active segment, all of it synced, in favour of a new one.
    pub fn roll(&self, next: Active, now: SystemTime) {
        let mut state = self.lock();
        let end = next.base;
        let before = std::mem::replace(&mut state.active, next);
        state.closed.push_back(Arc::new(Closed {
            base: before.base,
            end,
            path: before.path,
            bytes: before.synced,
            written: now,
            index: OnceLock::from(before.index),
        }));
    }

    /// Waits until everything before `end` is synced.
    pub fn wait_synced(&self, end: Offset) -> Result<()> {
        let mut state = self.lock();
        while state.end < end {
            state.check(&self.directory)?;
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Waits until there is a synced record at `next`, at most for `timeout`; false after it.
    pub fn wait_beyond(&self, next: Offset, timeout: Duration) -> Result<bool> {
        let is_waiting = |state: &mut State| state.end <= next && state.failure.is_none();
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), timeout, is_waiting)
            .unwrap_or_else(PoisonError::into_inner);
        state.check(&self.directory)?;
        Ok(state.end > next)
    }

    /// Finds where a reader finds the record that holds `next`.
    pub fn place(&self, next: Offset) -> Result<Place> {
        let segment = {
            let state = self.lock();
            state.check(&self.directory)?;
            let start = state
                .closed
                .front()
                .map_or(state.active.base, |segment| segment.base);
            if next < start {
                return Ok(Place::Gone(start));
            }
            if next >= state.end {
                return Ok(Place::End);
            }
            if next >= state.active.base {
                let active = &state.active;
                let begin = IndexEntry {
                    offset: active.base,
                    position: SEGMENT_HEADER_BYTES,
                };
                let begin = active.index.seek(next).unwrap_or(begin);
                let (base, path, limit) = (active.base, active.path.clone(), active.synced);
                drop(state);
                return match self.disk.open_read_if_there(&path)? {
                    Some(file) => {
                        let scanner = Scanner::new(file, begin.position, begin.offset, limit);
                        Ok(Place::Active { base, scanner })
                    }
                    None => self.missing(next, &path),
                };
            }
            let after = state.closed.partition_point(|segment| segment.base <= next);
            let at = after
                .checked_sub(1)
                .expect("the first closed segment starts the log");
            Arc::clone(&state.closed[at])
        };
        let begin = segment.seek(&self.disk, next)?;
        let Some(file) = self.disk.open_read_if_there(&segment.path)? else {
            return self.missing(next, &segment.path);
        };
        check_segment_header(&file, segment.base)?;
        let limit = file.length()?;
        let scanner = Scanner::new(file, begin.position, begin.offset, limit);
        Ok(Place::Closed { segment, scanner })
    }

    /// A closed segment's file is not there: deleted since we looked, or taken away by somebody.
    fn missing(&self, next: Offset, path: &Path) -> Result<Place> {
        let start = self.start();
        if next < start {
            return Ok(Place::Gone(start));
        }
        Err(crate::storage::file::damaged(
            path,
            0,
            "the file is missing",
        ))
    }

    /// How far the segment with `base` can be read now: the synced part of the active segment, or
    /// all of it, with its end, once it is closed. `None` when it is deleted.
    pub fn limit_of(&self, base: Offset) -> Result<Option<(u64, Option<Offset>)>> {
        let state = self.lock();
        state.check(&self.directory)?;
        if state.active.base == base {
            return Ok(Some((state.active.synced, None)));
        }
        let at = state.closed.partition_point(|segment| segment.base < base);
        let segment = state.closed.get(at).filter(|segment| segment.base == base);
        Ok(segment.map(|segment| (segment.bytes, Some(segment.end))))
    }

    /// Deletes the segments all of whose rows are before `offset`; returns the new start.
    pub fn truncate_before(&self, offset: Offset) -> Result<Offset> {
        self.delete_while(|segment, _| segment.end <= offset)
    }

    /// Deletes what `retention` does not keep and nobody needs: rows from `needed` on are. Returns
    /// the new start. The active segment stays.
    pub fn retain(&self, retention: &Retention, needed: Offset, now: SystemTime) -> Result<Offset> {
        self.delete_while(|segment, bytes_after| {
            if segment.end > needed {
                return false;
            }
            let is_beyond = retention
                .bytes_min
                .is_some_and(|bytes_min| bytes_after >= bytes_min);
            let age = now.duration_since(segment.written).unwrap_or_default();
            is_beyond || retention.age_max.is_some_and(|age_max| age > age_max)
        })
    }

    /// Deletes the oldest segments while the predicate, given the bytes that would stay, says so.
    fn delete_while(&self, is_over: impl Fn(&Closed, u64) -> bool) -> Result<Offset> {
        let _one_at_a_time = self.deleting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = self.bytes();
        let mut doomed = VecDeque::new();
        {
            let mut state = self.lock();
            state.check(&self.directory)?;
            while let Some(segment) = state.closed.front() {
                if !is_over(segment, bytes - segment.bytes) {
                    break;
                }
                bytes -= segment.bytes;
                doomed.extend(state.closed.pop_front());
            }
        }
        while let Some(segment) = doomed.pop_front() {
            // One sync each: a loss of power must not keep an older file and lose a newer one.
            let removed = self
                .disk
                .remove(&segment.path)
                .and_then(|()| self.disk.sync_directory(&self.directory));
            if let Err(error) = removed {
                // Files that are still there stay in the list, or the next deletion would begin
                // after them and leave a gap.
                let mut state = self.lock();
                if self.disk.exists(&segment.path) {
                    doomed.push_front(segment);
                }
                doomed.append(&mut state.closed);
                state.closed = doomed;
                return Err(error);
            }
        }
        Ok(self.start())
    }
}

impl State {
    fn check(&self, directory: &Path) -> Result<()> {
        match &self.failure {
            Some(cause) => Err(stopped(
                format_args!("log \"{}\"", directory.display()),
                cause,
            )),
            None => Ok(()),
        }
    }
}
