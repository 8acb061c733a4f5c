//! The store's face: commit, get, scan, and numbers that never repeat.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::Offset;
use crate::base::limits::{
    CATALOG_ID_BLOCK, CATALOG_KEY_BYTES_MAX, CATALOG_LOG_BYTES_MIN, CATALOG_LOG_FACTOR,
    CATALOG_VALUE_BYTES_MAX, LOG_RECORD_BYTES_MAX,
};
use crate::error::{Error, Result, SqlState};
use crate::storage::catalog_store::image::{
    Change, encode_changes, encode_image, image_bytes, replay,
};
use crate::storage::catalog_store::mirror::Mirror;
use crate::storage::file::{Disk, stopped};
use crate::storage::log::{LogOptions, SegmentLog};

/// Keys that begin with this byte are the store's own.
const OWN: u8 = 0;

/// A persistent counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IdCounter {
    /// `ObjectId`s, from 1.
    Object,
    /// Postgres oids, from 16384: those below belong to what is built in.
    Oid,
}

/// The open store. Calls block on the disk: not for async threads.
pub struct CatalogStore {
    /// A mutex because a commit goes through log and copy in one order; commits are rare.
    inner: Mutex<Inner>,
}

struct Inner {
    log: SegmentLog,
    mirror: Mirror,
    /// Reserved numbers not yet given out.
    ids: BTreeMap<IdCounter, Range<u64>>,
    /// The log's bytes at which it is compacted.
    compact_at: u64,
    /// Why nothing can be done any more: log and copy may differ.
    failure: Option<Error>,
}

impl CatalogStore {
    /// Opens the store in `directory`, creating it when there is none.
    ///
    /// # Errors
    /// XX001 when the log is damaged; damage to sled's files is repaired from the log.
    pub fn open(directory: impl AsRef<Path>) -> Result<CatalogStore> {
        CatalogStore::open_on(&Disk::new(), directory.as_ref())
    }

    pub(in crate::storage) fn open_on(disk: &Disk, directory: &Path) -> Result<CatalogStore> {
        disk.create_directory(directory)?;
        let log = SegmentLog::open_on(disk, &directory.join("log"), LogOptions::default())?;
        let (mirror, image) = Mirror::open(disk, directory, &log.reader())?;
        let compact_at = compact_at(image_bytes(&image));
        let inner = Inner {
            log,
            mirror,
            ids: BTreeMap::new(),
            compact_at,
            failure: None,
        };
        Ok(CatalogStore {
            inner: Mutex::new(inner),
        })
    }

    /// Applies all changes or none; durable on return.
    ///
    /// # Errors
    /// 53400 when a key, a value or the whole is too long: nothing happened. After any other error
    /// the store has stopped: whether the changes are there shows after a restart.
    pub fn commit(&self, changes: &[Change]) -> Result<()> {
        for change in changes {
            check_change(change)?;
        }
        self.lock().commit(changes)
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let inner = self.lock();
        inner.check()?;
        inner.mirror.get(key)
    }

    /// The entries whose keys begin with `prefix`, in the order of their keys.
    pub fn scan(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let inner = self.lock();
        inner.check()?;
        let mut entries = inner.mirror.scan(prefix)?;
        entries.retain(|(key, _)| key.first() != Some(&OWN));
        Ok(entries)
    }

    /// The next number of a counter, greater than all before it, restarts included. A restart
    /// skips what was reserved and not used.
    pub fn next_id(&self, counter: IdCounter) -> Result<u64> {
        let mut inner = self.lock();
        inner.check()?;
        if let Some(id) = inner.ids.get_mut(&counter).and_then(Iterator::next) {
            return Ok(id);
        }
        let key = counter.key();
        let start = match inner.mirror.get(&key)? {
            None => counter.first(),
            Some(bytes) => bytes.try_into().map(u64::from_be_bytes).map_err(|_| {
                Error::new(
                    SqlState::DATA_CORRUPTED,
                    "a counter of the catalog is not a number",
                )
            })?,
        };
        let end = start + CATALOG_ID_BLOCK;
        inner.commit(&[Change::put(key, end.to_be_bytes())])?;
        inner.ids.insert(counter, start + 1..end);
        Ok(start)
    }

    /// Bytes of the log on disk.
    pub fn log_bytes(&self) -> u64 {
        self.lock().log.bytes()
    }

    /// A panic in the middle of a commit leaves log and copy unequal, which only an open mends.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .unwrap_or_else(|poisoned: PoisonError<_>| {
                let mut inner = poisoned.into_inner();
                let cause = Error::internal("a commit panicked");
                inner.failure.get_or_insert(cause);
                inner
            })
    }
}

impl Inner {
    fn check(&self) -> Result<()> {
        match &self.failure {
            Some(cause) => Err(stopped("the catalog store", cause)),
            None => Ok(()),
        }
    }

    fn commit(&mut self, changes: &[Change]) -> Result<()> {
        self.check()?;
        let record = encode_changes(changes);
        if record.len() > LOG_RECORD_BYTES_MAX {
            return Err(too_long(
                "a catalog change",
                record.len(),
                LOG_RECORD_BYTES_MAX,
            ));
        }
        self.write(&record, changes)
            .inspect_err(|e| self.failure = Some(e.clone()))
    }

    fn write(&mut self, record: &[u8], changes: &[Change]) -> Result<()> {
        self.log.append(record, 1)?;
        self.log.sync()?;
        self.mirror.apply(changes, self.log.end_offset())?;
        if self.log.bytes() > self.compact_at {
            self.compact()?;
        }
        Ok(())
    }

    /// Puts a whole image at the start of a new segment and deletes everything before it.
    fn compact(&mut self) -> Result<()> {
        let image = replay(&self.log.reader(), None)?.image;
        self.log.roll()?;
        let start = self.log.end_offset();
        for part in encode_image(&image) {
            self.log.append(&part, 1)?;
        }
        self.log.sync()?;
        // First the copy learns where it stands, or it would not be a prefix of the shorter log.
        let end: Offset = self.log.end_offset();
        self.mirror.apply(&[], end)?;
        self.log.truncate_before(start)?;
        self.compact_at = compact_at(image_bytes(&image));
        Ok(())
    }
}

impl IdCounter {
    fn first(self) -> u64 {
        match self {
            IdCounter::Object => 1,
            IdCounter::Oid => 16_384,
        }
    }

    fn key(self) -> Vec<u8> {
        let name: &[u8] = match self {
            IdCounter::Object => b"counter/object",
            IdCounter::Oid => b"counter/oid",
        };
        [&[OWN], name].concat()
    }
}

fn compact_at(live: u64) -> u64 {
    live.saturating_mul(CATALOG_LOG_FACTOR)
        .max(CATALOG_LOG_BYTES_MIN)
}

fn check_change(change: &Change) -> Result<()> {
    if change.key.is_empty() || change.key.first() == Some(&OWN) {
        return Err(Error::internal(
            "a catalog key must not be empty or begin with a zero byte",
        ));
    }
    if change.key.len() > CATALOG_KEY_BYTES_MAX {
        return Err(too_long(
            "a catalog key",
            change.key.len(),
            CATALOG_KEY_BYTES_MAX,
        ));
    }
    match &change.value {
        Some(value) if value.len() > CATALOG_VALUE_BYTES_MAX => Err(too_long(
            "a catalog value",
            value.len(),
            CATALOG_VALUE_BYTES_MAX,
        )),
        _ => Ok(()),
    }
}

fn too_long(what: &str, length: usize, limit: usize) -> Error {
    Error::new(
        SqlState::CONFIGURATION_LIMIT_EXCEEDED,
        format!("{what} of {length} bytes is too long"),
    )
    .hint(format!("the limit is {limit} bytes"))
}
