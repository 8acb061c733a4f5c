//! Writing one checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::base::{Epoch, ObjectId};
use crate::error::{Error, Result};
use crate::storage::checkpoint::block::{Address, BlockKind};
use crate::storage::checkpoint::data_file::DataFileWriter;
use crate::storage::checkpoint::manifest::{BlockPlace, Chain, Manifest, manifest_path};
use crate::storage::checkpoint::merge::Replacement;
use crate::storage::checkpoint::store::Store;

/// A checkpoint that is being written. Dropping it without [`CheckpointWriter::publish`] gives it
/// up: whoever wrote deltas to it must write these slots again to the next one.
pub struct CheckpointWriter {
    store: Arc<Store>,
    epoch: Epoch,
    /// `None` once it is finished.
    file: Option<DataFileWriter>,
    sequence: u64,
    changes: BTreeMap<Address, Change>,
    removed_dataflows: BTreeSet<ObjectId>,
}

/// What this checkpoint writes at an address.
struct Change {
    kind: BlockKind,
    blocks: Vec<BlockPlace>,
}

impl CheckpointWriter {
    pub(in crate::storage::checkpoint) fn new(
        store: Arc<Store>,
        epoch: Epoch,
        file: DataFileWriter,
    ) -> Self {
        CheckpointWriter {
            store,
            epoch,
            sequence: file.sequence(),
            file: Some(file),
            changes: BTreeMap::new(),
            removed_dataflows: BTreeSet::new(),
        }
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Writes a block: row i of `batch` is the new contents of slot `slots[i]`; the `freed` slots
    /// are empty, unless they are among `slots` too. Several blocks may be written at an address,
    /// all of one kind; an empty state in full is one full block without rows.
    ///
    /// # Errors
    /// XX000 when the slots do not fit the batch or the kinds differ; 53400 when the block is
    /// larger than `CHECKPOINT_BLOCK_BYTES_MAX`; 53100 and 58030 when the disk refuses. After an
    /// error of the disk, drop the writer.
    pub fn write_block(
        &mut self,
        address: Address,
        kind: BlockKind,
        slots: &[u32],
        batch: &RecordBatch,
        freed: &[u32],
    ) -> Result<()> {
        if self
            .changes
            .get(&address)
            .is_some_and(|change| change.kind != kind)
        {
            return Err(Error::internal(format!(
                "a checkpoint has full and delta blocks of {address}"
            )));
        }
        let file = self
            .file
            .as_mut()
            .expect("the file is there until the writer is published");
        let place = file.write_block(address, slots, batch, freed)?;
        let change = self.changes.entry(address);
        change
            .or_insert_with(|| Change {
                kind,
                blocks: Vec::new(),
            })
            .blocks
            .push(place);
        Ok(())
    }

    /// Forgets every address of a dataflow in earlier checkpoints.
    pub fn remove_dataflow(&mut self, dataflow: ObjectId) {
        self.removed_dataflows.insert(dataflow);
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, DataFileWriter::bytes)
    }

    /// Makes it the newest checkpoint, with `meta` for whoever restores it. Durable on return.
    /// Deletes what is superseded; a failure to do so is only logged, the next one tries again.
    ///
    /// # Errors
    /// When writing or syncing fails. On a full disk the checkpoint is given up and the next one
    /// may succeed; after any other error the store has stopped ([`CheckpointStore::check`]).
    ///
    /// [`CheckpointStore::check`]: crate::storage::CheckpointStore::check
    pub fn publish(mut self, meta: serde_json::Value) -> Result<Arc<Manifest>> {
        let file = self.file.take().expect("a writer is published once");
        let finished = file.finish();
        let store = Arc::clone(&self.store);
        let mut state = store.lock();
        state.check()?;
        let entry = finished.inspect_err(|e| state.note_failure(e))?;
        state.files.insert(entry.sequence, entry);
        let mut chains = state
            .retained
            .back()
            .map(|newest| newest.chains.clone())
            .unwrap_or_default();
        for replacement in &state.merged {
            adopt(&mut chains, replacement);
        }
        chains.retain(|address, _| !self.removed_dataflows.contains(&address.dataflow));
        for (address, change) in std::mem::take(&mut self.changes) {
            apply(chains.entry(address).or_default(), change);
        }
        let sequence = state.take_sequence();
        let manifest = Manifest::new((sequence, self.epoch), &state.files, chains, meta)?;
        let manifest = Arc::new(manifest);
        let encoded = manifest.encode()?;
        let path = manifest_path(&store.directory, sequence);
        // The rename's directory sync covers the data file's name too, but comes too late for it:
        // a manifest must not become durable before the file it names.
        store
            .disk
            .sync_directory(&store.directory)
            .and_then(|()| store.disk.write_atomic(&path, &encoded))
            .inspect_err(|e| state.note_failure(e))?;
        state.publish(&manifest);
        state.open.remove(&self.sequence);
        if let Err(error) = state.delete_superseded(&store) {
            tracing::warn!(%error, "superseded checkpoint files are not deleted yet");
        }
        Ok(manifest)
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        let mut state = self.store.lock();
        state.is_writing = false;
        if state.open.remove(&self.sequence) && state.check().is_ok() {
            // Given up: its file is deleted with the next superseded ones, or by the next open.
            tracing::debug!(epoch = %self.epoch, "a checkpoint was given up");
        }
    }
}

/// Puts merged blocks in the place of those they were made from, unless these are gone meanwhile.
fn adopt(chains: &mut BTreeMap<Address, Chain>, replacement: &Replacement) {
    match replacement {
        Replacement::Chain {
            address,
            before,
            after,
            live,
        } => {
            let Some(chain) = chains.get_mut(address) else {
                return;
            };
            if !chain.blocks.starts_with(before) {
                return;
            }
            let later = chain.blocks.split_off(before.len());
            let freed: u64 = later.iter().map(|place| u64::from(place.freed)).sum();
            chain.blocks = after.iter().copied().chain(later).collect();
            chain.live_min = live.saturating_sub(freed);
        }
        Replacement::Moved {
            address,
            before,
            after,
        } => {
            let Some(chain) = chains.get_mut(address) else {
                return;
            };
            for place in chain.blocks.iter_mut().filter(|place| *place == before) {
                *place = *after;
            }
        }
    }
}

fn apply(chain: &mut Chain, change: Change) {
    let freed: u64 = change
        .blocks
        .iter()
        .map(|place| u64::from(place.freed))
        .sum();
    let rows: u64 = change
        .blocks
        .iter()
        .map(|place| u64::from(place.slots))
        .sum();
    match change.kind {
        BlockKind::Full => {
            *chain = Chain {
                live_min: rows.saturating_sub(freed),
                blocks: change.blocks,
            };
        }
        BlockKind::Delta => {
            chain.live_min = chain.live_min.saturating_sub(freed);
            chain.blocks.extend(change.blocks);
        }
    }
}
