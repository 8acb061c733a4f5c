//! The checkpoints of one directory: opening, loading, retaining, deleting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::base::Epoch;
use crate::base::limits::CHECKPOINT_MANIFESTS_KEPT;
use crate::error::{Error, Result, SqlState};
use crate::storage::checkpoint::block::{Address, Block, read_block};
use crate::storage::checkpoint::data_file::{DataFileWriter, check_file, data_path, data_sequence};
use crate::storage::checkpoint::manifest::{
    BlockPlace, FileEntry, Manifest, manifest_path, manifest_sequence,
};
use crate::storage::checkpoint::merge::{Merger, Merging, Replacement};
use crate::storage::checkpoint::writer::CheckpointWriter;
use crate::storage::file::{ASIDE_SUFFIX, Disk, DiskFile, stopped};

const DAMAGED_SUFFIX: &str = ".damaged";

/// The checkpoints of one directory; cheap to clone. Calls block on the disk.
#[derive(Clone)]
pub struct CheckpointStore(Arc<Store>);

pub(in crate::storage::checkpoint) struct Store {
    pub disk: Disk,
    pub directory: PathBuf,
    /// A mutex because a checkpoint is published on one thread while another merges; held for
    /// the publication itself, never while blocks are written or read.
    state: Mutex<State>,
    /// The unfinished merge; who works on it holds it.
    merger: Mutex<Merger>,
}

pub(in crate::storage::checkpoint) struct State {
    /// Whole manifests, oldest first.
    pub retained: VecDeque<Arc<Manifest>>,
    /// Older ones that somebody still held when they were dropped.
    lent: Vec<Weak<Manifest>>,
    /// Whole data files.
    pub files: BTreeMap<u64, FileEntry>,
    /// Data files in the directory, whole or not.
    present: BTreeSet<u64>,
    /// Data files that are being written.
    pub open: BTreeSet<u64>,
    /// What merging has done since the last publication.
    pub merged: Vec<Replacement>,
    pub is_writing: bool,
    next_sequence: u64,
    failure: Option<Error>,
}

impl CheckpointStore {
    /// Opens the store in `directory`, creating it when there is none, and returns the newest
    /// whole checkpoint, if there is any.
    ///
    /// # Errors
    /// XX001 when there are checkpoints and none is whole.
    pub fn open(directory: impl AsRef<Path>) -> Result<(CheckpointStore, Option<Arc<Manifest>>)> {
        CheckpointStore::open_on(&Disk::new(), directory.as_ref())
    }

    pub(in crate::storage) fn open_on(
        disk: &Disk,
        directory: &Path,
    ) -> Result<(CheckpointStore, Option<Arc<Manifest>>)> {
        disk.create_directory(directory)?;
        let names = disk.list(directory)?;
        let found = read_manifests(disk, directory, &names)?;
        let present: BTreeSet<u64> = names
            .iter()
            .filter_map(|name| data_sequence(name))
            .collect();
        let manifests = names.iter().filter_map(|name| {
            manifest_sequence(name.strip_suffix(DAMAGED_SUFFIX).unwrap_or(name))
        });
        let last = present.iter().copied().chain(manifests).max();
        let files = found
            .whole
            .iter()
            .flat_map(|manifest| manifest.files.clone())
            .collect();
        let newest = found.whole.back().cloned();
        let state = State {
            retained: found.whole,
            lent: Vec::new(),
            files,
            present,
            open: BTreeSet::new(),
            merged: Vec::new(),
            is_writing: false,
            next_sequence: last.map_or(1, |last| last + 1),
            failure: None,
        };
        let store = Store {
            disk: disk.clone(),
            directory: directory.to_path_buf(),
            state: Mutex::new(state),
            merger: Mutex::new(Merger::default()),
        };
        for name in names.iter().filter(|name| name.ends_with(ASIDE_SUFFIX)) {
            disk.remove(&directory.join(name))?;
        }
        if !found.has_damage {
            // Files that only a damaged manifest names stay until a new checkpoint is whole.
            store.lock().delete_unnamed(&store)?;
        }
        Ok((CheckpointStore(Arc::new(store)), newest))
    }

    /// Removes a directory of checkpoints, if there is one. No store may be open in it.
    pub fn delete(directory: impl AsRef<Path>) -> Result<()> {
        let (disk, directory) = (Disk::new(), directory.as_ref());
        if !disk.exists(directory) {
            return Ok(());
        }
        disk.remove_directory(directory)?;
        match directory.parent() {
            Some(parent) => disk.sync_directory(parent),
            None => Ok(()),
        }
    }

    /// Begins a checkpoint of the state after `epoch`. The writer may go to another thread.
    ///
    /// # Errors
    /// 55006 while another writer is there; XX000 when `epoch` is before the newest checkpoint's.
    pub fn begin(&self, epoch: Epoch) -> Result<CheckpointWriter> {
        let file = {
            let mut state = self.0.lock();
            state.check()?;
            if state.is_writing {
                return Err(Error::new(
                    SqlState::OBJECT_IN_USE,
                    "another checkpoint is being written",
                ));
            }
            if let Some(newest) = state
                .retained
                .back()
                .filter(|newest| newest.epoch() > epoch)
            {
                let newest = newest.epoch();
                return Err(Error::internal(format!(
                    "a checkpoint of epoch {epoch} cannot follow one of epoch {newest}"
                )));
            }
            let file = state.create_file(&self.0)?;
            state.is_writing = true;
            file
        };
        Ok(CheckpointWriter::new(Arc::clone(&self.0), epoch, file))
    }

    /// # Errors
    /// What has stopped the store, after which only a restart finds out what is on disk.
    pub fn check(&self) -> Result<()> {
        self.0.lock().check()
    }

    /// The newest checkpoint.
    pub fn newest(&self) -> Option<Arc<Manifest>> {
        self.0.lock().retained.back().cloned()
    }

    /// The checkpoint before the newest, if there is one.
    pub fn before_newest(&self) -> Option<Arc<Manifest>> {
        self.0.lock().retained.iter().rev().nth(1).cloned()
    }

    /// Sets the newest checkpoint aside because something of it cannot be read: the one before it
    /// is the newest now, and what is written from now on follows that one.
    ///
    /// # Errors
    /// XX000 when there is none before it.
    pub fn set_newest_aside(&self) -> Result<()> {
        let mut state = self.0.lock();
        state.check()?;
        let newest = match state.retained.len() {
            0 | 1 => None,
            _ => state.retained.pop_back(),
        };
        let newest =
            newest.ok_or_else(|| Error::internal("the only checkpoint cannot be set aside"))?;
        set_aside(&self.0.disk, &self.0.directory, newest.sequence)?;
        self.0.disk.sync_directory(&self.0.directory)
    }

    /// The epoch of the oldest checkpoint that a restart may fall back to: the journal is kept from
    /// the epoch after it.
    pub fn oldest_epoch(&self) -> Option<Epoch> {
        self.0
            .lock()
            .retained
            .front()
            .map(|manifest| manifest.epoch())
    }

    /// The blocks of an address in the order in which they apply; none for an unknown address.
    pub fn load(&self, manifest: &Arc<Manifest>, address: Address) -> Blocks {
        let chain = manifest.chains.get(&address);
        let places = chain.map(|chain| chain.blocks.clone()).unwrap_or_default();
        Blocks {
            store: Arc::clone(&self.0),
            _manifest: Arc::clone(manifest),
            address,
            places: places.into_iter(),
            file: None,
        }
    }

    /// Does a piece of merging that reads and writes about `budget_bytes`. Call it again while it
    /// says `Working`; its result becomes part of the next checkpoint. For a background thread.
    pub fn merge_step(&self, budget_bytes: u64) -> Result<Merging> {
        let mut merger = self
            .0
            .merger
            .lock()
            .unwrap_or_else(|poisoned: PoisonError<_>| {
                let mut merger = poisoned.into_inner();
                *merger = Merger::default();
                merger
            });
        self.0.lock().check()?;
        let result = merger.step(&self.0, budget_bytes);
        if result.is_err() {
            // The files it read or wrote are in doubt; what was published is not.
            merger.abandon(&self.0);
        }
        result
    }

    /// Bytes of all data files in the directory.
    pub fn bytes(&self) -> Result<u64> {
        let present = self.0.lock().present.clone();
        let mut bytes = 0;
        for sequence in present {
            bytes += self
                .0
                .disk
                .describe(&data_path(&self.0.directory, sequence))?
                .0;
        }
        Ok(bytes)
    }
}

impl Store {
    /// A panic under this lock is a bug of ours between plain assignments; the files it would lose
    /// track of are deleted by the next open.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn open_file(&self, sequence: u64) -> Result<DiskFile> {
        self.disk.open_read(&data_path(&self.directory, sequence))
    }
}

impl State {
    pub fn check(&self) -> Result<()> {
        match &self.failure {
            Some(cause) => Err(stopped("the checkpoint store", cause)),
            None => Ok(()),
        }
    }

    /// Stops the store for good: nobody knows what is on disk. A full disk only means that what was
    /// being written, which nothing names, is given up.
    pub fn note_failure(&mut self, cause: &Error) {
        if cause.state() != SqlState::DISK_FULL {
            self.failure.get_or_insert_with(|| cause.clone());
        }
    }

    pub fn take_sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        sequence
    }

    pub fn create_file(&mut self, store: &Store) -> Result<DataFileWriter> {
        let sequence = self.take_sequence();
        self.present.insert(sequence);
        let file = DataFileWriter::create(&store.disk, &store.directory, sequence)?;
        self.open.insert(sequence);
        Ok(file)
    }

    /// Makes a manifest the newest one. It is durable already.
    pub fn publish(&mut self, manifest: &Arc<Manifest>) {
        self.retained.push_back(Arc::clone(manifest));
        self.merged.clear();
    }

    /// Drops manifests beyond those that are kept, then files that nobody names any more.
    pub fn delete_superseded(&mut self, store: &Store) -> Result<()> {
        while self.retained.len() > CHECKPOINT_MANIFESTS_KEPT {
            let Some(manifest) = self.retained.pop_front() else {
                break;
            };
            self.lent.push(Arc::downgrade(&manifest));
        }
        self.delete_unnamed(store)
    }

    /// Manifests go first, so that none on disk ever names a file that is not there.
    fn delete_unnamed(&mut self, store: &Store) -> Result<()> {
        let kept: BTreeSet<u64> = self
            .retained
            .iter()
            .map(|manifest| manifest.sequence)
            .collect();
        let mut has_removed = false;
        for name in store.disk.list(&store.directory)? {
            let whole_name = name.strip_suffix(DAMAGED_SUFFIX).unwrap_or(&name);
            let is_over = |sequence| !kept.contains(&sequence) || whole_name != name;
            if manifest_sequence(whole_name).is_some_and(is_over) {
                store.disk.remove(&store.directory.join(&name))?;
                has_removed = true;
            }
        }
        if has_removed {
            store.disk.sync_directory(&store.directory)?;
        }
        self.lent.retain(|manifest| manifest.strong_count() > 0);
        let mut named = self.open.clone();
        let lent = self.lent.iter().filter_map(Weak::upgrade);
        for manifest in self.retained.iter().cloned().chain(lent) {
            named.extend(manifest.file_sequences());
        }
        named.extend(self.merged.iter().flat_map(Replacement::new_files));
        let unnamed: Vec<u64> = self.present.difference(&named).copied().collect();
        for sequence in unnamed {
            store.disk.remove(&data_path(&store.directory, sequence))?;
            self.present.remove(&sequence);
            self.files.remove(&sequence);
        }
        Ok(())
    }
}

/// The blocks of an address, read one by one. Holds its manifest, so its files stay.
pub struct Blocks {
    store: Arc<Store>,
    _manifest: Arc<Manifest>,
    address: Address,
    places: std::vec::IntoIter<BlockPlace>,
    /// The file of the last block.
    file: Option<(u64, DiskFile)>,
}

impl Blocks {
    fn read(&mut self, place: BlockPlace) -> Result<Block> {
        let file = match self.file.take() {
            Some((sequence, file)) if sequence == place.file => file,
            _ => self.store.open_file(place.file)?,
        };
        let block = read_block(&file, &place, self.address);
        self.file = Some((place.file, file));
        block.map_err(|e| e.detail(self.address.to_string()))
    }
}

impl Iterator for Blocks {
    type Item = Result<Block>;

    fn next(&mut self) -> Option<Self::Item> {
        let place = self.places.next()?;
        Some(self.read(place))
    }
}

struct Found {
    whole: VecDeque<Arc<Manifest>>,
    has_damage: bool,
}

/// Reads manifests, newest first, until enough of them are whole; sets damaged ones aside.
fn read_manifests(disk: &Disk, directory: &Path, names: &[String]) -> Result<Found> {
    let mut found = Found {
        whole: VecDeque::new(),
        has_damage: false,
    };
    let mut last_error = None;
    let mut sequences: Vec<u64> = names
        .iter()
        .filter_map(|name| manifest_sequence(name))
        .collect();
    sequences.sort_unstable();
    let mut broken = Vec::new();
    for sequence in sequences.into_iter().rev() {
        if found.whole.len() == CHECKPOINT_MANIFESTS_KEPT {
            break;
        }
        match read_whole(disk, directory, sequence) {
            Ok(manifest) => found.whole.push_front(Arc::new(manifest)),
            Err(error) if error.state() == SqlState::DATA_CORRUPTED => {
                tracing::warn!(%error, "a checkpoint is damaged, the one before it is used");
                broken.push(sequence);
                last_error = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    if let (Some(error), true) = (last_error, found.whole.is_empty()) {
        return Err(error.context("no checkpoint is whole").hint(
            "restore the data directory from a backup; without a checkpoint, views can only be \
             rebuilt from sources that still have all their data",
        ));
    }
    found.has_damage =
        !broken.is_empty() || names.iter().any(|name| name.ends_with(DAMAGED_SUFFIX));
    for sequence in broken {
        set_aside(disk, directory, sequence)?;
    }
    Ok(found)
}

fn set_aside(disk: &Disk, directory: &Path, sequence: u64) -> Result<()> {
    let path = manifest_path(directory, sequence);
    if !disk.exists(&path) {
        return Ok(());
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(DAMAGED_SUFFIX);
    disk.rename(&path, Path::new(&aside))
}

fn read_whole(disk: &Disk, directory: &Path, sequence: u64) -> Result<Manifest> {
    let manifest = Manifest::read(disk, directory, sequence)?;
    for file in manifest.files.values() {
        check_file(disk, directory, file)?;
    }
    Ok(manifest)
}
