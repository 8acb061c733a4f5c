//! The manifest: what one checkpoint consists of, readable in ten years.
//!
//! ```text
//! tidemill manifest 1 crc32=9e11bd70 bytes=1234
//! {"sequence":12,"epoch":700,"files":[...],"chains":[...],"meta":{...}}
//! ```
//! The checksum is of the version and the JSON, in every version, so that a damaged version is not
//! taken for a later one. A block is `[file, offset, bytes, slots, freed]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::Epoch;
use crate::error::{Error, Result, SqlState};
use crate::storage::checkpoint::block::{Address, slot_bytes};
use crate::storage::file::{Disk, damaged};

const PREFIX: &str = "manifest-";
const SUFFIX: &str = ".json";
const FIRST_WORDS: &str = "tidemill manifest ";
const VERSION: &str = "1";

/// One whole checkpoint. Somebody who holds it can load from it: its files stay.
#[derive(Debug)]
pub struct Manifest {
    pub(in crate::storage::checkpoint) sequence: u64,
    epoch: Epoch,
    pub(in crate::storage::checkpoint) files: BTreeMap<u64, FileEntry>,
    pub(in crate::storage::checkpoint) chains: BTreeMap<Address, Chain>,
    meta: serde_json::Value,
}

/// A data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub sequence: u64,
    pub bytes: u64,
    /// crc32 of the whole file.
    pub checksum: u32,
}

/// The blocks of an address, in the order in which they apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// At least so many slots are live: exact after a full set or a count, and each freed slot
    /// since takes one off. Overwritten and new slots look alike from here.
    pub live_min: u64,
    pub blocks: Vec<BlockPlace>,
}

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(u64, u64, u64, u32, u32)", into = "(u64, u64, u64, u32, u32)")]
pub struct BlockPlace {
    pub file: u64,
    pub offset: u64,
    pub bytes: u64,
    pub slots: u32,
    pub freed: u32,
}

impl BlockPlace {
    /// Bytes of the block up to its batch.
    pub fn slot_bytes(&self) -> u64 {
        slot_bytes(self.slots, self.freed)
    }
}

impl From<(u64, u64, u64, u32, u32)> for BlockPlace {
    fn from((file, offset, bytes, slots, freed): (u64, u64, u64, u32, u32)) -> Self {
        BlockPlace {
            file,
            offset,
            bytes,
            slots,
            freed,
        }
    }
}

impl From<BlockPlace> for (u64, u64, u64, u32, u32) {
    fn from(place: BlockPlace) -> Self {
        (
            place.file,
            place.offset,
            place.bytes,
            place.slots,
            place.freed,
        )
    }
}

#[derive(Serialize, Deserialize)]
struct Json {
    sequence: u64,
    epoch: Epoch,
    files: Vec<FileEntry>,
    chains: Vec<(Address, Chain)>,
    meta: serde_json::Value,
}

impl Manifest {
    /// A manifest of those `files` that its chains name.
    pub(in crate::storage::checkpoint) fn new(
        (sequence, epoch): (u64, Epoch),
        files: &BTreeMap<u64, FileEntry>,
        chains: BTreeMap<Address, Chain>,
        meta: serde_json::Value,
    ) -> Result<Manifest> {
        let mut named = BTreeMap::new();
        for file in chains
            .values()
            .flat_map(|chain| &chain.blocks)
            .map(|place| place.file)
        {
            let entry = files.get(&file).ok_or_else(|| {
                Error::internal(format!("checkpoint file {file} is named and not known"))
            })?;
            named.entry(file).or_insert_with(|| entry.clone());
        }
        Ok(Manifest {
            sequence,
            epoch,
            files: named,
            chains,
            meta,
        })
    }

    /// The state is that after this epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What the writer of the checkpoint said about it.
    pub fn meta(&self) -> &serde_json::Value {
        &self.meta
    }

    /// Every address that has state, in order.
    pub fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.chains.keys().copied()
    }

    /// Bytes of the files it names.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }

    pub(in crate::storage::checkpoint) fn file_sequences(&self) -> BTreeSet<u64> {
        self.files.keys().copied().collect()
    }

    pub(in crate::storage::checkpoint) fn encode(&self) -> Result<Vec<u8>> {
        let json = Json {
            sequence: self.sequence,
            epoch: self.epoch,
            files: self.files.values().cloned().collect(),
            chains: self
                .chains
                .iter()
                .map(|(address, chain)| (*address, chain.clone()))
                .collect(),
            meta: self.meta.clone(),
        };
        let body = serde_json::to_string(&json)
            .map_err(|e| Error::internal(format!("cannot write a manifest: {e}")))?;
        Ok(format!("{}{body}\n", first_line(VERSION, body.as_bytes())).into_bytes())
    }

    pub(in crate::storage::checkpoint) fn read(
        disk: &Disk,
        directory: &Path,
        sequence: u64,
    ) -> Result<Manifest> {
        let path = manifest_path(directory, sequence);
        let wrong = |what: &str| damaged(&path, 0, what);
        let bytes = disk
            .read_if_there(&path)?
            .ok_or_else(|| wrong("the file is missing"))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is not text"))?;
        let (line, body) = text
            .split_once('\n')
            .ok_or_else(|| wrong("it has no body"))?;
        let version = line
            .strip_prefix(FIRST_WORDS)
            .and_then(|rest| rest.split(' ').next());
        let version = version.ok_or_else(|| wrong("its first line is damaged"))?;
        let body = body.strip_suffix('\n').ok_or_else(|| wrong("it is cut"))?;
        if format!("{line}\n") != first_line(version, body.as_bytes()) {
            return Err(wrong("its checksum is wrong"));
        }
        if version != VERSION {
            return Err(Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("file \"{}\" has manifest format {version}", path.display()),
            )
            .hint(format!("this version of Tidemill reads format {VERSION}")));
        }
        let json: Json =
            serde_json::from_str(body).map_err(|e| wrong(&format!("it cannot be read: {e}")))?;
        if json.sequence != sequence {
            return Err(wrong("it is another manifest"));
        }
        let files: BTreeMap<_, _> = json
            .files
            .into_iter()
            .map(|file| (file.sequence, file))
            .collect();
        let chains = json.chains.into_iter().collect();
        Manifest::new((sequence, json.epoch), &files, chains, json.meta)
            .map_err(|e| wrong(e.message()))
    }
}

impl Chain {
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|place| place.bytes).sum()
    }

    /// Rows in all blocks, live or not.
    pub fn rows(&self) -> u64 {
        self.blocks.iter().map(|place| u64::from(place.slots)).sum()
    }

    pub fn freed(&self) -> u64 {
        self.blocks.iter().map(|place| u64::from(place.freed)).sum()
    }

    /// What `live` rows take, by the average of the rows in the chain.
    pub fn live_bytes(&self, live: u64) -> u64 {
        let row_bytes = u128::from(self.bytes() - 4 * self.freed());
        let live_bytes = u128::from(live) * row_bytes / u128::from(self.rows().max(1));
        u64::try_from(live_bytes).unwrap_or(u64::MAX)
    }
}

pub fn manifest_path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{sequence:020}{SUFFIX}"))
}

/// The sequence number in the name of a manifest.
pub fn manifest_sequence(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?
        .strip_suffix(SUFFIX)?
        .parse()
        .ok()
}

fn first_line(version: &str, body: &[u8]) -> String {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(version.as_bytes());
    checksum.update(body);
    let checksum = checksum.finalize();
    format!(
        "{FIRST_WORDS}{version} crc32={checksum:08x} bytes={}\n",
        body.len()
    )
}
