//! A file of blocks: header, blocks, an index of them, a trailer.
//!
//! ```text
//! magic "tideblk\0" | version u32 | sequence u64 | crc32     24 bytes
//! block, block, ...
//! index: per block address, offset, bytes (variable-length numbers)
//! index bytes u32 | crc32 of the index | sequence u64 | magic   24 bytes
//! ```
//! The manifest says where the blocks are; the index lets a file be read without it, and the
//! trailer shows that a file is whole without reading it.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;

use crate::error::Result;
use crate::storage::checkpoint::block::{Address, encode_block};
use crate::storage::checkpoint::manifest::{BlockPlace, FileEntry};
use crate::storage::codec::put_number;
use crate::storage::file::{Disk, DiskFile, damaged, size};

const MAGIC: [u8; 8] = *b"tideblk\0";
const VERSION: u32 = 1;
pub const HEADER_BYTES: u64 = 24;
const TRAILER_BYTES: u64 = 24;
const PREFIX: &str = "data-";
const SUFFIX: &str = ".blocks";

pub fn data_path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{sequence:020}{SUFFIX}"))
}

/// The sequence number in the name of a data file.
pub fn data_sequence(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?
        .strip_suffix(SUFFIX)?
        .parse()
        .ok()
}

/// A data file that is being written.
pub struct DataFileWriter {
    file: DiskFile,
    sequence: u64,
    position: u64,
    checksum: crc32fast::Hasher,
    index: Vec<u8>,
}

impl DataFileWriter {
    pub fn create(disk: &Disk, directory: &Path, sequence: u64) -> Result<DataFileWriter> {
        let file = disk.create(&data_path(directory, sequence))?;
        let mut writer = DataFileWriter {
            file,
            sequence,
            position: 0,
            checksum: crc32fast::Hasher::new(),
            index: Vec::new(),
        };
        writer.put(&header(sequence))?;
        Ok(writer)
    }

    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    pub fn bytes(&self) -> u64 {
        self.position
    }

    /// Writes a block and tells its place.
    pub fn write_block(
        &mut self,
        address: Address,
        slots: &[u32],
        batch: &RecordBatch,
        freed: &[u32],
    ) -> Result<BlockPlace> {
        let bytes = encode_block(address, slots, batch, freed)?;
        let narrow = |count: usize| u32::try_from(count).expect("the block's length is bounded");
        self.write_raw(address, &bytes, (narrow(slots.len()), narrow(freed.len())))
    }

    /// Writes the bytes of a block with `(slots, freed)` many slots.
    pub fn write_raw(
        &mut self,
        address: Address,
        bytes: &[u8],
        (slots, freed): (u32, u32),
    ) -> Result<BlockPlace> {
        let offset = self.position;
        self.put(bytes)?;
        let Address {
            dataflow,
            operator,
            shard,
            table,
        } = address;
        put_number(&mut self.index, dataflow.0);
        for number in [operator, shard, table] {
            put_number(&mut self.index, u64::from(number));
        }
        put_number(&mut self.index, offset);
        put_number(&mut self.index, size(bytes.len()));
        Ok(BlockPlace {
            file: self.sequence,
            offset,
            bytes: size(bytes.len()),
            slots,
            freed,
        })
    }

    /// Ends the file and makes its contents durable; its name is so with the directory's sync.
    pub fn finish(mut self) -> Result<FileEntry> {
        let index = std::mem::take(&mut self.index);
        self.put(&index)?;
        self.put(&trailer(self.sequence, &index))?;
        self.file.sync()?;
        let checksum = self.checksum.finalize();
        Ok(FileEntry {
            sequence: self.sequence,
            bytes: self.position,
            checksum,
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_at(bytes, self.position)?;
        self.checksum.update(bytes);
        self.position += size(bytes.len());
        Ok(())
    }
}

/// Checks that the file an entry names is there and whole, without reading its blocks.
pub fn check_file(disk: &Disk, directory: &Path, entry: &FileEntry) -> Result<()> {
    let path = data_path(directory, entry.sequence);
    let Some(file) = disk.open_read_if_there(&path)? else {
        return Err(damaged(&path, 0, "the file is missing"));
    };
    if file.length()? != entry.bytes || entry.bytes < HEADER_BYTES + TRAILER_BYTES {
        return Err(damaged(
            &path,
            0,
            "its length is not what the manifest says",
        ));
    }
    if file.read_bytes(0, header(0).len())? != header(entry.sequence) {
        return Err(damaged(
            &path,
            0,
            "its header is not that of this data file",
        ));
    }
    let at = entry.bytes - TRAILER_BYTES;
    let end = file.read_bytes(at, 24)?;
    let index_bytes = u32::from_le_bytes(end[..4].try_into().expect("four bytes"));
    let Some(start) = at
        .checked_sub(u64::from(index_bytes))
        .filter(|at| *at >= HEADER_BYTES)
    else {
        return Err(damaged(&path, at, "its trailer is damaged"));
    };
    let index = file.read_bytes(start, crate::storage::file::length(u64::from(index_bytes)))?;
    if end != trailer(entry.sequence, &index) {
        return Err(damaged(&path, at, "its trailer is damaged"));
    }
    Ok(())
}

fn header(sequence: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out
}

fn trailer(sequence: u64, index: &[u8]) -> Vec<u8> {
    let index_bytes = u32::try_from(index.len()).expect("an index is far below 4 GiB");
    let mut out = index_bytes.to_le_bytes().to_vec();
    out.extend_from_slice(&crc32fast::hash(index).to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&MAGIC);
    out
}
