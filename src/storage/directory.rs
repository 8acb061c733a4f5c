//! The data directory: its layout, its version, and the lock that keeps a second server out.
//!
//! The picture is in `mod.rs`. The lock is the operating system's advisory lock on the file
//! `LOCK`: it goes with the process however that ends, so a `kill -9` leaves nothing to clean up.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::base::{ObjectId, PartitionId};
use crate::error::{Error, Result, SqlState};
use crate::storage::file::{ASIDE_SUFFIX, Disk};

const LOCK_FILE: &str = "LOCK";
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_LINE: &str = "tidemill data directory, format ";
const FORMAT_VERSION: u32 = 1;

/// Directories with one subdirectory per object.
const PER_OBJECT: [&str; 3] = ["topics", "outboxes", "catchup"];
const SINGLE: [&str; 4] = ["catalog", "journal", "checkpoints", "history"];

/// An open data directory. Dropping it releases the lock.
pub struct DataDirectory {
    root: PathBuf,
    disk: Disk,
    /// Held for its lock.
    _lock: File,
}

impl DataDirectory {
    /// Opens the directory, creating it and its layout when it is new.
    ///
    /// # Errors
    /// 55006 when another server has it open; 55000 when it is not a data directory or one of a
    /// later version; 58030 when the system refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<DataDirectory> {
        let disk = Disk::new();
        let root = path.as_ref().to_path_buf();
        disk.create_directory(&root)?;
        let lock = lock(&root)?;
        check_format(&disk, &root)?;
        for name in SINGLE.iter().chain(&PER_OBJECT) {
            disk.create_directory(&root.join(name))?;
        }
        disk.sync_directory(&root)?;
        Ok(DataDirectory {
            root,
            disk,
            _lock: lock,
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where `CatalogStore` lives.
    pub fn catalog(&self) -> PathBuf {
        self.root.join("catalog")
    }

    /// Where `Journal` lives.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Where the `CheckpointStore` of the running dataflows lives.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Where the `CheckpointStore` of a view that is still catching up lives.
    pub fn catchup(&self, object: ObjectId) -> PathBuf {
        self.root.join("catchup").join(object.to_string())
    }

    /// Where the log of one partition of an embedded topic lives.
    pub fn topic(&self, object: ObjectId, partition: PartitionId) -> PathBuf {
        self.root
            .join("topics")
            .join(object.to_string())
            .join(partition.to_string())
    }

    /// Where the outbox of one shard of a sink lives.
    pub fn outbox(&self, object: ObjectId, shard: u32) -> PathBuf {
        self.root
            .join("outboxes")
            .join(object.to_string())
            .join(shard.to_string())
    }

    /// Where the `HistoryStore` lives, which also removes what is over.
    pub fn histories(&self) -> PathBuf {
        self.root.join("history")
    }

    /// The objects that have files of their own. The catalog's owner removes those that it does
    /// not know: a drop that a crash interrupted.
    pub fn objects(&self) -> Result<BTreeSet<ObjectId>> {
        let mut objects = BTreeSet::new();
        for kind in PER_OBJECT {
            let names = self.disk.list(&self.root.join(kind))?;
            objects.extend(
                names
                    .iter()
                    .filter_map(|name| name.parse().ok())
                    .map(ObjectId),
            );
        }
        Ok(objects)
    }

    /// Removes every file that belongs to a dropped object alone. Close its logs before.
    pub fn remove_object(&self, object: ObjectId) -> Result<()> {
        for kind in PER_OBJECT {
            let directory = self.root.join(kind);
            let path = directory.join(object.to_string());
            if self.disk.exists(&path) {
                self.disk.remove_directory(&path)?;
                self.disk.sync_directory(&directory)?;
            }
        }
        Ok(())
    }
}

/// Takes the lock, and leaves the number of this process in the file for whoever finds it taken.
fn lock(root: &Path) -> Result<File> {
    let path = root.join(LOCK_FILE);
    let refused = |e| Error::io(format_args!("cannot lock \"{}\"", path.display()), &e);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(refused)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(root, file)),
        Err(TryLockError::Error(e)) => return Err(refused(e)),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(refused)?;
    Ok(file)
}

fn in_use(root: &Path, mut file: File) -> Error {
    let mut owner = String::new();
    let error = Error::new(
        SqlState::OBJECT_IN_USE,
        format!(
            "data directory \"{}\" is in use by another server",
            root.display()
        ),
    )
    .hint("stop that server, or start this one with another data directory");
    // The number is a courtesy: a lock without a readable owner is still a lock.
    match file.read_to_string(&mut owner) {
        Ok(_) if !owner.trim().is_empty() => error.detail(format!("process {}", owner.trim())),
        _ => error,
    }
}

/// Writes the version into a new directory, refuses a foreign or later one.
fn check_format(disk: &Disk, root: &Path) -> Result<()> {
    let path = root.join(FORMAT_FILE);
    let Some(contents) = disk.read_if_there(&path)? else {
        let is_ours = |name: &String| {
            name == LOCK_FILE || name == "lost+found" || name.ends_with(ASIDE_SUFFIX)
        };
        if !disk.list(root)?.iter().all(is_ours) {
            return Err(Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!(
                    "directory \"{}\" holds files that are not Tidemill's",
                    root.display()
                ),
            )
            .hint("name an empty or a new directory as the data directory"));
        }
        return disk.write_atomic(&path, format!("{FORMAT_LINE}{FORMAT_VERSION}\n").as_bytes());
    };
    let text = String::from_utf8_lossy(&contents);
    let version = text
        .strip_prefix(FORMAT_LINE)
        .and_then(|rest| rest.trim().parse::<u32>().ok());
    match version {
        Some(FORMAT_VERSION) => Ok(()),
        Some(version) => Err(Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("data directory \"{}\" has format {version}", root.display()),
        )
        .hint(format!(
            "this version of Tidemill reads format {FORMAT_VERSION}"
        ))),
        None => Err(crate::storage::file::damaged(
            &path,
            0,
            "it does not name a format",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_kept_out_until_the_first_has_gone() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("data");
        let first = DataDirectory::open(&path).unwrap();
        let error = DataDirectory::open(&path).err().unwrap();
        assert_eq!(error.state(), SqlState::OBJECT_IN_USE);
        assert_eq!(
            error.get_detail().unwrap(),
            format!("process {}", std::process::id())
        );
        drop(first);
        DataDirectory::open(&path).unwrap();
    }

    #[test]
    fn a_foreign_or_later_directory_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        std::fs::write(temporary.path().join("letter.txt"), "dear").unwrap();
        let error = DataDirectory::open(temporary.path()).err().unwrap();
        assert_eq!(error.state(), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);

        let temporary = tempfile::tempdir().unwrap();
        drop(DataDirectory::open(temporary.path()).unwrap());
        let format = temporary.path().join(FORMAT_FILE);
        std::fs::write(&format, format!("{FORMAT_LINE}2\n")).unwrap();
        let error = DataDirectory::open(temporary.path()).err().unwrap();
        assert_eq!(error.state(), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
        std::fs::write(&format, "garbage").unwrap();
        let error = DataDirectory::open(temporary.path()).err().unwrap();
        assert_eq!(error.state(), SqlState::DATA_CORRUPTED);
    }

    #[test]
    fn objects_are_listed_and_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(temporary.path()).unwrap();
        std::fs::create_dir_all(directory.topic(ObjectId(7), PartitionId(2))).unwrap();
        std::fs::create_dir_all(directory.outbox(ObjectId(9), 0)).unwrap();
        std::fs::create_dir_all(directory.catchup(ObjectId(7))).unwrap();
        assert_eq!(
            directory.objects().unwrap(),
            [ObjectId(7), ObjectId(9)].into()
        );
        directory.remove_object(ObjectId(7)).unwrap();
        directory.remove_object(ObjectId(8)).unwrap();
        assert_eq!(directory.objects().unwrap(), [ObjectId(9)].into());
    }
}
