//! One block of a checkpoint, and its bytes.
//!
//! ```text
//! crc32 of the rest of the header | slots n u32 | freed m u32 | crc32 of slots and freed
//! | crc32 of the batch | batch bytes u32 | dataflow u64 | operator u32 | shard u32 | table u32
//! then: slot u32 × n, freed slot u32 × m, Arrow IPC stream of n rows
//! ```
//! Slots and columns have checksums of their own, because merging first reads slots alone.

use arrow::array::{Array, ArrayRef, RecordBatch};
use serde::{Deserialize, Serialize};

use crate::base::ObjectId;
use crate::base::limits::CHECKPOINT_BLOCK_BYTES_MAX;
use crate::error::{Error, Result, SqlState};
use crate::storage::batch::{put_stream, read_stream};
use crate::storage::checkpoint::manifest::BlockPlace;
use crate::storage::file::{DiskFile, damaged, length, size};

pub const BLOCK_HEADER_BYTES: usize = 44;

/// Whose state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    pub dataflow: ObjectId,
    pub operator: u32,
    pub shard: u32,
    /// Which of the operator's tables.
    pub table: u32,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Address {
            dataflow,
            operator,
            shard,
            table,
        } = self;
        write!(
            f,
            "dataflow {dataflow}, operator {operator}, shard {shard}, table {table}"
        )
    }
}

/// What a block means for the blocks of earlier checkpoints at its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Part of a full set: all full blocks of a checkpoint together replace what was before.
    Full,
    /// Comes after what was before.
    Delta,
}

/// Slots that were freed, then slots with their new rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The slot of each row of `batch`. Of equal ones the last counts.
    pub slots: Vec<u32>,
    pub batch: RecordBatch,
    pub freed: Vec<u32>,
}

/// The bytes of a block.
///
/// # Errors
/// XX000 when there is not one slot per row; 53400 when the block is too large.
pub fn encode_block(
    address: Address,
    slots: &[u32],
    batch: &RecordBatch,
    freed: &[u32],
) -> Result<Vec<u8>> {
    if slots.len() != batch.num_rows() {
        return Err(Error::internal("a checkpoint block has one slot per row"));
    }
    let slot_bytes = 4 * (slots.len() + freed.len());
    let estimate = BLOCK_HEADER_BYTES + slot_bytes + batch_bytes(batch) + STREAM_BYTES;
    let mut out = Vec::with_capacity(estimate);
    out.resize(BLOCK_HEADER_BYTES, 0);
    for slot in slots.iter().chain(freed) {
        out.extend_from_slice(&slot.to_le_bytes());
    }
    let batch_start = out.len();
    put_stream(&mut out, batch)?;
    if out.len() > CHECKPOINT_BLOCK_BYTES_MAX {
        return Err(Error::new(
            SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            format!("a checkpoint block of {} bytes is too long", out.len()),
        )
        .detail(format!(
            "{address}; the limit is {CHECKPOINT_BLOCK_BYTES_MAX} bytes"
        )));
    }
    let narrow = |count: usize| u32::try_from(count).expect("the block's length is bounded");
    let mut header = Vec::with_capacity(BLOCK_HEADER_BYTES - 4);
    for number in [
        narrow(slots.len()),
        narrow(freed.len()),
        crc32fast::hash(&out[BLOCK_HEADER_BYTES..batch_start]),
        crc32fast::hash(&out[batch_start..]),
        narrow(out.len() - batch_start),
    ] {
        header.extend_from_slice(&number.to_le_bytes());
    }
    header.extend_from_slice(&address.dataflow.0.to_le_bytes());
    for number in [address.operator, address.shard, address.table] {
        header.extend_from_slice(&number.to_le_bytes());
    }
    out[..4].copy_from_slice(&crc32fast::hash(&header).to_le_bytes());
    out[4..BLOCK_HEADER_BYTES].copy_from_slice(&header);
    Ok(out)
}

/// Room for what an Arrow stream has beside its buffers; more is found when it is needed.
const STREAM_BYTES: usize = 4096;

/// The bytes of the columns' rows, which for a slice are less than what its columns hold.
fn batch_bytes(batch: &RecordBatch) -> usize {
    let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_default();
    batch.columns().iter().map(bytes).sum()
}

/// A block's slots and freed slots.
pub struct Slots {
    pub slots: Vec<u32>,
    pub freed: Vec<u32>,
}

/// Reads and checks a whole block.
pub fn read_block(file: &DiskFile, place: &BlockPlace, address: Address) -> Result<Block> {
    let bytes = file.read_bytes(place.offset, length(place.bytes))?;
    let header = Header::check(file, place, address, &bytes)?;
    let Slots { slots, freed } = header.slots(file, place, &bytes)?;
    let stream = &bytes[header.batch_start()..];
    if crc32fast::hash(stream) != header.batch_checksum {
        return Err(damaged(
            file.path(),
            place.offset,
            "a block's checksum is wrong",
        ));
    }
    let batch = read_stream(stream).map_err(|e| damaged(file.path(), place.offset, e.message()))?;
    if batch.num_rows() != slots.len() {
        return Err(damaged(file.path(), place.offset, "a block lacks rows"));
    }
    Ok(Block {
        slots,
        batch,
        freed,
    })
}

/// Reads and checks a block's slots alone.
pub fn read_slots(file: &DiskFile, place: &BlockPlace, address: Address) -> Result<Slots> {
    let bytes = file.read_bytes(place.offset, length(place.slot_bytes()))?;
    Header::check(file, place, address, &bytes)?.slots(file, place, &bytes)
}

/// Reads and checks a block's bytes, to be copied as they are.
pub fn read_raw(file: &DiskFile, place: &BlockPlace, address: Address) -> Result<Vec<u8>> {
    let bytes = file.read_bytes(place.offset, length(place.bytes))?;
    let header = Header::check(file, place, address, &bytes)?;
    header.slots(file, place, &bytes)?;
    if crc32fast::hash(&bytes[header.batch_start()..]) != header.batch_checksum {
        return Err(damaged(
            file.path(),
            place.offset,
            "a block's checksum is wrong",
        ));
    }
    Ok(bytes)
}

struct Header {
    slots: usize,
    freed: usize,
    slot_checksum: u32,
    batch_checksum: u32,
}

impl Header {
    /// Checks the header's own checksum, and that it is the block that the manifest names.
    fn check(
        file: &DiskFile,
        place: &BlockPlace,
        address: Address,
        bytes: &[u8],
    ) -> Result<Header> {
        let wrong = |what| damaged(file.path(), place.offset, what);
        let header = bytes
            .get(..BLOCK_HEADER_BYTES)
            .ok_or_else(|| wrong("a block is cut"))?;
        let number =
            |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        if crc32fast::hash(&header[4..]) != number(0) {
            return Err(wrong("a block's header is damaged"));
        }
        let found = Address {
            dataflow: ObjectId(u64::from(number(24)) | u64::from(number(28)) << 32),
            operator: number(32),
            shard: number(36),
            table: number(40),
        };
        let (slots, freed, batch_bytes) = (number(4), number(8), number(20));
        let is_named = found == address
            && (slots, freed) == (place.slots, place.freed)
            && place.slot_bytes() + u64::from(batch_bytes) == place.bytes;
        if !is_named {
            return Err(wrong("it is not the block that the manifest names"));
        }
        Ok(Header {
            slots: length(u64::from(slots)),
            freed: length(u64::from(freed)),
            slot_checksum: number(12),
            batch_checksum: number(16),
        })
    }

    fn batch_start(&self) -> usize {
        BLOCK_HEADER_BYTES + 4 * (self.slots + self.freed)
    }

    fn slots(&self, file: &DiskFile, place: &BlockPlace, bytes: &[u8]) -> Result<Slots> {
        let bytes = &bytes[BLOCK_HEADER_BYTES..self.batch_start()];
        if crc32fast::hash(bytes) != self.slot_checksum {
            return Err(damaged(
                file.path(),
                place.offset,
                "a block's slots are damaged",
            ));
        }
        let (numbers, _) = bytes.as_chunks::<4>();
        let mut slots: Vec<u32> = numbers
            .iter()
            .map(|number| u32::from_le_bytes(*number))
            .collect();
        let freed = slots.split_off(self.slots);
        Ok(Slots { slots, freed })
    }
}

/// Bytes of a block of which nothing but its slots are known.
pub fn slot_bytes(slots: u32, freed: u32) -> u64 {
    size(BLOCK_HEADER_BYTES) + 4 * (u64::from(slots) + u64::from(freed))
}
