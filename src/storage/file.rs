//! The one place that touches files: every other file of this module goes through [`Disk`].
//!
//! It is thin on purpose. What it adds to the standard library: errors that name the file and what
//! was tried, positioned reads and writes only (a file has no hidden cursor that two threads could
//! share), [`Disk::write_atomic`], and one gate through which every change passes, so that a test
//! can make the n-th change fail, be half done, or be the last one before the power goes
//! (`fault.rs`). sled is the exception: it brings its own files.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::Arc;
use std::time::SystemTime;

use crate::base::metrics::PROCESS;
use crate::error::{Error, Result, SqlState};
#[cfg(test)]
use crate::storage::fault::{Admission, Faults};

/// What is written aside before it is renamed; left over after a crash, deleted on open.
pub const ASIDE_SUFFIX: &str = ".aside";

/// The disk; cheap to clone.
#[derive(Clone, Default)]
pub struct Disk {
    #[cfg(test)]
    faults: Option<Arc<Faults>>,
}

/// A change of the disk, as the gate sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    CreateDirectory,
    Create,
    Write,
    SetLength,
    Sync,
    SyncDirectory,
    Rename,
    Remove,
}

/// An open file.
pub struct DiskFile {
    file: File,
    path: PathBuf,
    #[cfg(test)]
    disk: Disk,
}

impl Disk {
    pub fn new() -> Self {
        Disk::default()
    }

    #[cfg(test)]
    pub fn with_faults(faults: Arc<Faults>) -> Self {
        Disk {
            faults: Some(faults),
        }
    }

    /// Creates a directory and those above it, and makes its name durable.
    pub fn create_directory(&self, path: &Path) -> Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.admit(Operation::CreateDirectory, path)
            .and_then(|()| fs::create_dir_all(path))
            .map_err(|e| failed("create directory", path, &e))?;
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_directory(parent),
            _ => Ok(()),
        }
    }

    /// Makes names created, renamed or removed in a directory durable.
    pub fn sync_directory(&self, path: &Path) -> Result<()> {
        self.admit(Operation::SyncDirectory, path)
            .and_then(|()| File::open(path))
            .and_then(|directory| directory.sync_all())
            .map_err(|e| failed("sync directory", path, &e))?;
        PROCESS.fsyncs.add(1);
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.directory_synced(path);
        }
        Ok(())
    }

    /// Creates an empty file, or empties the one that is there.
    pub fn create(&self, path: &Path) -> Result<DiskFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = self
            .admit(Operation::Create, path)
            .and_then(|()| options.open(path))
            .map_err(|e| failed("create file", path, &e))?;
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.file_created(path);
        }
        Ok(self.file(file, path))
    }

    /// Opens an existing file for reading and writing.
    pub fn open_write(&self, path: &Path) -> Result<DiskFile> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|e| failed("open file", path, &e))?;
        let file = self.file(file, path);
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.file_synced(path, file.length()?);
        }
        Ok(file)
    }

    /// Opens an existing file for reading.
    pub fn open_read(&self, path: &Path) -> Result<DiskFile> {
        let file = File::open(path).map_err(|e| failed("open file", path, &e))?;
        Ok(self.file(file, path))
    }

    /// Opens a file for reading; `None` when there is none.
    pub fn open_read_if_there(&self, path: &Path) -> Result<Option<DiskFile>> {
        match File::open(path) {
            Ok(file) => Ok(Some(self.file(file, path))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("open file", path, &e)),
        }
    }

    /// The whole contents of a small file; `None` when there is none.
    pub fn read_if_there(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("read file", path, &e)),
        }
    }

    /// The names in a directory, sorted. Names that are not UTF-8 are nobody's of ours.
    pub fn list(&self, path: &Path) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(|e| failed("list directory", path, &e))? {
            let entry = entry.map_err(|e| failed("list directory", path, &e))?;
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    pub fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    /// Length in bytes and time of the last write.
    pub fn describe(&self, path: &Path) -> Result<(u64, SystemTime)> {
        fs::metadata(path)
            .and_then(|metadata| Ok((metadata.len(), metadata.modified()?)))
            .map_err(|e| failed("look at file", path, &e))
    }

    /// Renames within one directory, replacing what has the new name. Durable after
    /// [`Disk::sync_directory`].
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.admit(Operation::Rename, from)
            .and_then(|()| fs::rename(from, to))
            .map_err(|e| failed("rename file", from, &e))?;
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.file_renamed(from, to);
        }
        Ok(())
    }

    /// Removes a file; one that is not there is no error.
    pub fn remove(&self, path: &Path) -> Result<()> {
        match self
            .admit(Operation::Remove, path)
            .and_then(|()| fs::remove_file(path))
        {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(failed("remove file", path, &e)),
        }
    }

    /// Removes a directory with everything in it; one that is not there is no error.
    pub fn remove_directory(&self, path: &Path) -> Result<()> {
        match self
            .admit(Operation::Remove, path)
            .and_then(|()| fs::remove_dir_all(path))
        {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(failed("remove directory", path, &e)),
        }
    }

    /// Replaces a file's contents so that a crash leaves the old or the new ones, never a mixture:
    /// written aside, synced, renamed, directory synced. Durable on return.
    pub fn write_atomic(&self, path: &Path, contents: &[u8]) -> Result<()> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(ASIDE_SUFFIX);
        let aside = PathBuf::from(aside);
        let mut file = self.create(&aside)?;
        let written = file.write_at(contents, 0).and_then(|()| file.sync());
        drop(file);
        if let Err(error) = written {
            // Where the disk is full it gives a little back; what stays goes at the next start.
            let _ = self.remove(&aside);
            return Err(error);
        }
        self.rename(&aside, path)?;
        match path.parent() {
            Some(parent) => self.sync_directory(parent),
            None => Ok(()),
        }
    }

    fn file(&self, file: File, path: &Path) -> DiskFile {
        DiskFile {
            file,
            path: path.to_path_buf(),
            #[cfg(test)]
            disk: self.clone(),
        }
    }

    #[cfg(not(test))]
    fn admit(&self, _operation: Operation, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// The gate: in tests a planned fault turns a change away.
    #[cfg(test)]
    fn admit(&self, operation: Operation, _path: &Path) -> io::Result<()> {
        match self
            .faults
            .as_ref()
            .map_or(Admission::Pass, |faults| faults.admit(operation))
        {
            Admission::Pass => Ok(()),
            Admission::Full => Err(Faults::full()),
            Admission::Refuse | Admission::Half => Err(Faults::error()),
        }
    }
}

impl DiskFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn length(&self) -> Result<u64> {
        match self.file.metadata() {
            Ok(metadata) => Ok(metadata.len()),
            Err(e) => Err(failed("look at file", &self.path, &e)),
        }
    }

    /// Fills `buffer` from `position`; a file that ends before is an error.
    pub fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<()> {
        self.file
            .read_exact_at(buffer, position)
            .map_err(|e| failed(format_args!("read byte {position} of file"), &self.path, &e))
    }

    /// `length` bytes from `position`.
    pub fn read_bytes(&self, position: u64, length: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        self.read_at(&mut buffer, position)?;
        Ok(buffer)
    }

    /// Writes all bytes at `position`. After an error any prefix of them may be in the file.
    pub fn write_at(&mut self, bytes: &[u8], position: u64) -> Result<()> {
        self.write_admitted(bytes, position).map_err(|e| {
            failed(
                format_args!("write byte {position} of file"),
                &self.path,
                &e,
            )
        })
    }

    #[cfg(not(test))]
    fn write_admitted(&mut self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.admit(Operation::Write)?;
        self.file.write_all_at(bytes, position)
    }

    #[cfg(test)]
    fn write_admitted(&mut self, bytes: &[u8], position: u64) -> io::Result<()> {
        let faults = self.disk.faults.as_ref();
        match faults.map_or(Admission::Pass, |faults| faults.admit(Operation::Write)) {
            Admission::Pass => self.file.write_all_at(bytes, position),
            Admission::Refuse => Err(Faults::error()),
            Admission::Full => Err(Faults::full()),
            Admission::Half => {
                self.file
                    .write_all_at(&bytes[..bytes.len() / 2], position)?;
                Err(Faults::error())
            }
        }
    }

    /// Cuts the file, or extends it with zeros.
    pub fn set_length(&mut self, length: u64) -> Result<()> {
        self.admit(Operation::SetLength)
            .and_then(|()| self.file.set_len(length))
            .map_err(|e| failed("cut file", &self.path, &e))
    }

    /// Makes contents and length durable. A failure is fatal: the kernel may have dropped the
    /// pages, and a later success says nothing about them.
    pub fn sync(&mut self) -> Result<()> {
        self.admit(Operation::Sync)
            .and_then(|()| self.file.sync_data())
            .map_err(|e| failed("sync file", &self.path, &e))?;
        PROCESS.fsyncs.add(1);
        #[cfg(test)]
        if let Some(faults) = &self.disk.faults {
            faults.file_synced(&self.path, self.length()?);
        }
        Ok(())
    }

    #[cfg(not(test))]
    fn admit(&self, _operation: Operation) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn admit(&self, operation: Operation) -> io::Result<()> {
        self.disk.admit(operation, &self.path)
    }
}

fn failed(what: impl std::fmt::Display, path: &Path, cause: &io::Error) -> Error {
    Error::io(format_args!("cannot {what} \"{}\"", path.display()), cause)
}

/// Bytes on disk that are not what was written there.
pub fn damaged(path: &Path, position: u64, what: impl std::fmt::Display) -> Error {
    Error::new(
        SqlState::DATA_CORRUPTED,
        format!(
            "file \"{}\" is damaged at byte {position}: {what}",
            path.display()
        ),
    )
}

/// The error of every call after a failed one: `what` cannot tell any more what is on disk.
pub fn stopped(what: impl std::fmt::Display, cause: &Error) -> Error {
    Error::new(
        cause.state(),
        format!("{what} stopped after an error: {}", cause.message()),
    )
    .hint("the server must be restarted; it recovers everything that was acknowledged")
}

/// Syncs every file below `path`, and the directories. Another handle wrote them: what sled keeps.
pub fn sync_tree(path: &Path) -> Result<()> {
    let cannot = |e: io::Error| failed("sync", path, &e);
    for entry in fs::read_dir(path).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        if entry.file_type().map_err(cannot)?.is_dir() {
            sync_tree(&entry.path())?;
            continue;
        }
        match File::open(entry.path()) {
            Ok(file) => file.sync_all().map_err(cannot)?,
            // sled replaces its snapshot file whenever it likes.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(cannot(e)),
        }
        PROCESS.fsyncs.add(1);
    }
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(cannot)?;
    PROCESS.fsyncs.add(1);
    Ok(())
}

/// A length in memory as a length on disk.
pub fn size(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits into 64 bits")
}

/// A length on disk, already checked against a bound, as a length in memory.
pub fn length(size: u64) -> usize {
    usize::try_from(size).expect("a bounded length fits into memory")
}
