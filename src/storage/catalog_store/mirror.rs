//! sled, kept at arm's length.
//!
//! Facts of version 0.34.7 that shape this file: `flush` on Linux hands pages to the disk without
//! waiting for it, so every file is synced after it; the background flusher is off, for the same
//! reason; damaged files can make it panic or refuse, and it may leave threads behind that still
//! write by path. So a rebuilt copy gets a directory of its own (`sled.2` after `sled.1`), opening
//! runs under `catch_unwind`, and a marker file says that an opening has begun: one that finds the
//! marker knows that the last one never ended, and does not try the same files again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use sled::transaction::{ConflictableTransactionError, TransactionError};
use sled::{Db, Mode, Transactional, Tree};

use crate::base::Offset;
use crate::base::limits::CATALOG_CACHE_BYTES;
use crate::error::{Error, Result, SqlState};
use crate::storage::catalog_store::image::{Change, Image, replay};
use crate::storage::file::{Disk, sync_tree};
use crate::storage::log::LogReader;

const DIRECTORY_PREFIX: &str = "sled.";
const MARKER: &str = "sled-opening";
const DATA_TREE: &str = "catalog";
const META_TREE: &str = "meta";
const APPLIED: &str = "applied";
/// Entries per transaction of a rebuild: sled holds a transaction in memory.
const REBUILD_ENTRIES: usize = 1024;

/// The copy of the catalog in sled.
pub struct Mirror {
    path: PathBuf,
    db: Db,
    data: Tree,
    meta: Tree,
}

impl Mirror {
    /// Opens the copy and makes it equal to the log; returns the catalog with it.
    pub fn open(disk: &Disk, directory: &Path, log: &LogReader) -> Result<(Mirror, Image)> {
        let marker = directory.join(MARKER);
        let newest = generations(disk, directory)?.into_iter().max();
        let found = match newest {
            None => Err("it is missing".to_string()),
            Some(_) if disk.exists(&marker) => Err("its last opening never ended".to_string()),
            Some(generation) => {
                drop(disk.create(&marker)?);
                inspect(&generation_path(directory, generation))
            }
        };
        let applied = found.as_ref().ok().and_then(|found| found.applied);
        let replayed = replay(log, applied)?;
        let end = log.end_offset();
        let reason = match found {
            Ok(found) if replayed.before.is_none() => {
                let applied = found
                    .applied
                    .map_or("nothing".to_string(), |at| at.to_string());
                format!("it holds {applied}, which is not a prefix of the log")
            }
            Ok(found) if replayed.before.as_ref() != Some(&found.image) => {
                "it differs from the log".to_string()
            }
            Ok(found) => {
                let missing = difference(&found.image, &replayed.image);
                if applied != Some(end) {
                    found.mirror.apply(&missing, end)?;
                }
                disk.remove(&marker)?;
                return Ok((found.mirror, replayed.image));
            }
            Err(reason) => reason,
        };
        if newest.is_some() || end > Offset(0) {
            tracing::warn!(
                reason,
                "the catalog's copy in sled is rebuilt from the catalog log"
            );
        }
        let mirror = rebuild(disk, directory, newest.unwrap_or(0), (&replayed.image, end))?;
        disk.remove(&marker)?;
        Ok((mirror, replayed.image))
    }

    /// Applies changes of the log up to `applied` in one transaction, and makes it durable.
    pub fn apply(&self, changes: &[Change], applied: Offset) -> Result<()> {
        self.transact(changes, Some(applied))?;
        self.sync()
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self
            .data
            .get(key)
            .map_err(failed)?
            .map(|value| value.to_vec()))
    }

    /// The entries whose keys begin with `prefix`, in the order of their keys.
    pub fn scan(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.data
            .scan_prefix(prefix)
            .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())))
            .collect::<sled::Result<_>>()
            .map_err(failed)
    }

    fn open_at(path: &Path) -> sled::Result<Mirror> {
        let db = sled::Config::new()
            .path(path)
            .cache_capacity(CATALOG_CACHE_BYTES)
            .mode(Mode::LowSpace)
            .flush_every_ms(None)
            .open()?;
        let data = db.open_tree(DATA_TREE)?;
        let meta = db.open_tree(META_TREE)?;
        Ok(Mirror {
            path: path.to_path_buf(),
            db,
            data,
            meta,
        })
    }

    fn transact(&self, changes: &[Change], applied: Option<Offset>) -> Result<()> {
        (&self.data, &self.meta)
            .transaction(|(data, meta)| {
                for change in changes {
                    match &change.value {
                        Some(value) => data.insert(change.key.as_slice(), value.as_slice())?,
                        None => data.remove(change.key.as_slice())?,
                    };
                }
                if let Some(applied) = applied {
                    meta.insert(APPLIED, &applied.0.to_be_bytes())?;
                }
                Ok::<(), ConflictableTransactionError<()>>(())
            })
            .map_err(|e| match e {
                TransactionError::Storage(e) => failed(e),
                TransactionError::Abort(()) => Error::internal("nobody aborts this transaction"),
            })
    }

    /// `flush` first, then the files themselves.
    fn sync(&self) -> Result<()> {
        self.db.flush().map_err(failed)?;
        sync_tree(&self.path)
    }
}

struct Found {
    mirror: Mirror,
    image: Image,
    applied: Option<Offset>,
}

/// Opens an existing copy and reads all of it.
fn inspect(path: &Path) -> Result<Found, String> {
    // After a panic nothing of the attempt is used again.
    let attempt = catch_unwind(AssertUnwindSafe(|| -> sled::Result<Found> {
        let mirror = Mirror::open_at(path)?;
        let applied = mirror.meta.get(APPLIED)?;
        let applied = applied.and_then(|bytes| Some(u64::from_be_bytes((*bytes).try_into().ok()?)));
        let mut image = Image::new();
        for entry in mirror.data.iter() {
            let (key, value) = entry?;
            image.insert(key.to_vec(), value.to_vec());
        }
        Ok(Found {
            mirror,
            image,
            applied: applied.map(Offset),
        })
    }));
    match attempt {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(format!("it refuses to open: {error}")),
        Err(_) => Err("it panicked".to_string()),
    }
}

/// Writes a fresh copy and removes the older ones.
fn rebuild(
    disk: &Disk,
    directory: &Path,
    newest: u64,
    (image, end): (&Image, Offset),
) -> Result<Mirror> {
    let path = generation_path(directory, newest + 1);
    let mirror = Mirror::open_at(&path).map_err(failed)?;
    let entries: Vec<Change> = image
        .iter()
        .map(|(key, value)| Change::put(key.as_slice(), value.as_slice()))
        .collect();
    for part in entries.chunks(REBUILD_ENTRIES) {
        mirror.transact(part, None)?;
    }
    // Without this last entry the copy is not a prefix of anything, and would be rebuilt again.
    mirror.apply(&[], end)?;
    disk.sync_directory(directory)?;
    for generation in generations(disk, directory)? {
        if generation <= newest {
            disk.remove_directory(&generation_path(directory, generation))?;
        }
    }
    Ok(mirror)
}

/// The changes that make `from` equal to `to`.
fn difference(from: &Image, to: &Image) -> Vec<Change> {
    let removed = from.keys().filter(|key| !to.contains_key(*key));
    let removed = removed.map(|key| Change::remove(key.as_slice()));
    let put = to
        .iter()
        .filter(|(key, value)| from.get(*key) != Some(value));
    let put = put.map(|(key, value)| Change::put(key.as_slice(), value.as_slice()));
    removed.chain(put).collect()
}

fn generation_path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("{DIRECTORY_PREFIX}{generation}"))
}

fn generations(disk: &Disk, directory: &Path) -> Result<Vec<u64>> {
    let names = disk.list(directory)?;
    let numbers = names
        .iter()
        .filter_map(|name| name.strip_prefix(DIRECTORY_PREFIX)?.parse().ok());
    Ok(numbers.collect())
}

fn failed(cause: sled::Error) -> Error {
    Error::new(
        SqlState::IO_ERROR,
        format!("the catalog's copy in sled failed: {cause}"),
    )
    .hint("restart the server: the copy is rebuilt from the catalog log")
}
