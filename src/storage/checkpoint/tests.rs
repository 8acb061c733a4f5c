//! Checkpoints against a model: random full sets, deltas, frees, crashes, merges and reopenings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use fastrand::Rng;
use serde_json::json;

use crate::base::limits::{CHECKPOINT_CHAIN_BYTES_MIN, CHECKPOINT_GARBAGE_BYTES_MIN};
use crate::base::{Epoch, ObjectId, task};
use crate::error::{Result, SqlState};
use crate::storage::checkpoint::{
    Address, BlockKind, CheckpointStore, CheckpointWriter, Manifest, Merging,
};
use crate::storage::fault::{Fault, Faults};
use crate::storage::file::Disk;

type Slots = BTreeMap<u32, i64>;
type Model = BTreeMap<Address, Slots>;

fn address(operator: u32) -> Address {
    Address {
        dataflow: ObjectId(1 + u64::from(operator / 2)),
        operator,
        shard: 0,
        table: 1,
    }
}

fn batch(values: &[i64]) -> RecordBatch {
    let texts = StringArray::from_iter_values(values.iter().map(|value| format!("text {value}")));
    let values = Int64Array::from(values.to_vec());
    RecordBatch::try_from_iter([
        ("value", Arc::new(values) as _),
        ("text", Arc::new(texts) as _),
    ])
    .unwrap()
}

fn load_slots(store: &CheckpointStore, manifest: &Arc<Manifest>, at: Address) -> Result<Slots> {
    let mut slots = Slots::new();
    for block in store.load(manifest, at) {
        let block = block?;
        for slot in &block.freed {
            slots.remove(slot);
        }
        let values = block.batch.column(0).as_primitive::<Int64Type>();
        let texts = block.batch.column(1).as_string::<i32>();
        for (row, slot) in block.slots.iter().enumerate() {
            assert_eq!(texts.value(row), format!("text {}", values.value(row)));
            slots.insert(*slot, values.value(row));
        }
    }
    Ok(slots)
}

fn load(store: &CheckpointStore, manifest: &Arc<Manifest>) -> Result<Model> {
    manifest
        .addresses()
        .map(|at| Ok((at, load_slots(store, manifest, at)?)))
        .collect()
}

fn write_slots(
    writer: &mut CheckpointWriter,
    at: Address,
    kind: BlockKind,
    slots: &[(u32, i64)],
    freed: &[u32],
) -> Result<()> {
    let values: Vec<i64> = slots.iter().map(|slot| slot.1).collect();
    let slots: Vec<u32> = slots.iter().map(|slot| slot.0).collect();
    writer.write_block(at, kind, &slots, &batch(&values), freed)
}

/// Writes random changes of some addresses, and applies them to `model`.
fn write_random(writer: &mut CheckpointWriter, model: &mut Model, rng: &mut Rng) -> Result<()> {
    for operator in 0..4 {
        let at = address(operator);
        match rng.u8(0..12) {
            0 => {
                write_slots(writer, at, BlockKind::Full, &[], &[])?;
                model.insert(at, BTreeMap::new());
            }
            1 => {
                let range = 0..rng.u32(0..150);
                let slots: Vec<_> = range.map(|slot| (slot * 3, rng.i64(..))).collect();
                for part in slots.chunks(40) {
                    write_slots(writer, at, BlockKind::Full, part, &[])?;
                }
                if slots.is_empty() {
                    write_slots(writer, at, BlockKind::Full, &[], &[])?;
                }
                model.insert(at, slots.into_iter().collect());
            }
            2..10 => {
                let slots = model.entry(at).or_default();
                for _ in 0..rng.u8(1..3) {
                    let freed: Vec<u32> = (0..rng.u32(0..20)).map(|_| rng.u32(0..300)).collect();
                    let written: Vec<_> = (0..rng.u32(0..60))
                        .map(|_| (rng.u32(0..300), rng.i64(..)))
                        .collect();
                    write_slots(writer, at, BlockKind::Delta, &written, &freed)?;
                    for slot in freed {
                        slots.remove(&slot);
                    }
                    slots.extend(written);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn merge_all(store: &CheckpointStore, budget: u64) {
    let mut steps = 0;
    while store.merge_step(budget).unwrap() == Merging::Working {
        steps += 1;
        assert!(steps < 100_000, "merging comes to an end");
    }
}

fn data_files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "blocks"))
        .collect();
    files.sort();
    files
}

fn manifests(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    files
}

#[test]
fn random_chains_equal_a_model_through_crashes_merges_and_reopenings() {
    for seed in 0..12 {
        let temporary = tempfile::tempdir().unwrap();
        let mut rng = Rng::with_seed(seed);
        let mut model = Model::new();
        let (mut store, found) = CheckpointStore::open(temporary.path()).unwrap();
        assert!(found.is_none());
        for epoch in 1..60 {
            let mut writer = store.begin(Epoch(epoch)).unwrap();
            let mut changed = model.clone();
            write_random(&mut writer, &mut changed, &mut rng).unwrap();
            if rng.u8(0..3) == 0 {
                // A merge goes on while a checkpoint is being written.
                let _ = store.merge_step(rng.u64(1..4000)).unwrap();
            }
            if rng.u8(0..5) == 0 {
                drop(writer);
            } else {
                let manifest = writer.publish(json!({"epoch": epoch})).unwrap();
                model = changed;
                assert_eq!(load(&store, &manifest).unwrap(), model);
            }
            match rng.u8(0..6) {
                0 => merge_all(&store, rng.u64(1..20_000)),
                1 => {
                    let newest = store.newest();
                    drop(store);
                    let (reopened, found) = CheckpointStore::open(temporary.path()).unwrap();
                    store = reopened;
                    let epoch = newest.map(|manifest| manifest.epoch());
                    assert_eq!(found.as_ref().map(|manifest| manifest.epoch()), epoch);
                    if let Some(manifest) = found {
                        assert_eq!(manifest.meta(), &json!({"epoch": manifest.epoch().0}));
                        assert_eq!(load(&store, &manifest).unwrap(), model);
                    }
                }
                _ => {}
            }
        }
    }
}

/// A large state of which a part changes, shrinks and is rewritten: the files stay in proportion.
#[test]
fn disk_stays_in_proportion_to_live_state() {
    let temporary = tempfile::tempdir().unwrap();
    let (store, _) = CheckpointStore::open(temporary.path()).unwrap();
    let mut rng = Rng::with_seed(3);
    let mut model = Model::new();
    let live_bytes = |model: &Model| {
        let rows = |slots: &Slots| u64::try_from(slots.len()).unwrap();
        // A row is 8 bytes, a text of up to 25 with its offset, a slot number: 41 at most.
        model.values().map(|slots| 41 * rows(slots)).sum::<u64>()
    };
    for epoch in 1..80u64 {
        let mut writer = store.begin(Epoch(epoch)).unwrap();
        for operator in 0..6 {
            let at = address(operator);
            let slots = model.entry(at).or_default();
            let written: Vec<_> = (0..3000)
                .map(|_| (rng.u32(0..20_000), rng.i64(..)))
                .collect();
            let freed: Vec<u32> = match epoch {
                40 => slots
                    .keys()
                    .copied()
                    .filter(|slot| slot % 10 != 0)
                    .collect(),
                _ => Vec::new(),
            };
            write_slots(&mut writer, at, BlockKind::Delta, &written, &freed).unwrap();
            slots.retain(|slot, _| freed.binary_search(slot).is_err());
            slots.extend(written);
        }
        writer.publish(json!(null)).unwrap();
        merge_all(&store, 1 << 20);
        if epoch % 10 == 0 {
            // The merges are adopted, and what they replaced is let go, by later checkpoints.
            for _ in 0..3 {
                store
                    .begin(Epoch(epoch))
                    .unwrap()
                    .publish(json!(null))
                    .unwrap();
                merge_all(&store, 1 << 20);
            }
            let newest = store.newest().unwrap();
            assert_eq!(load(&store, &newest).unwrap(), model);
            let slack = CHECKPOINT_GARBAGE_BYTES_MIN + 6 * CHECKPOINT_CHAIN_BYTES_MIN;
            let allowed = 3 * live_bytes(&model) + slack;
            let all = store.bytes().unwrap();
            assert!(all <= allowed, "{all} of {allowed} at {epoch}");
        }
    }
}

#[test]
fn many_small_deltas_become_few_blocks() {
    let temporary = tempfile::tempdir().unwrap();
    let (store, _) = CheckpointStore::open(temporary.path()).unwrap();
    for epoch in 1..200u32 {
        let mut writer = store.begin(Epoch(u64::from(epoch))).unwrap();
        let slot = [(epoch, i64::from(epoch))];
        write_slots(&mut writer, address(0), BlockKind::Delta, &slot, &[]).unwrap();
        let manifest = writer.publish(json!(null)).unwrap();
        merge_all(&store, 1000);
        assert!(store.load(&manifest, address(0)).count() <= 36);
        assert!(data_files(temporary.path()).len() <= 80);
    }
}

#[test]
fn a_block_frees_first_and_its_last_row_of_a_slot_counts() {
    let temporary = tempfile::tempdir().unwrap();
    let (store, _) = CheckpointStore::open(temporary.path()).unwrap();
    let mut writer = store.begin(Epoch(1)).unwrap();
    write_slots(
        &mut writer,
        address(0),
        BlockKind::Full,
        &[(1, 10), (2, 20), (1, 11)],
        &[1],
    )
    .unwrap();
    assert!(write_slots(&mut writer, address(0), BlockKind::Delta, &[], &[]).is_err());
    assert!(
        writer
            .write_block(address(1), BlockKind::Full, &[1], &batch(&[]), &[])
            .is_err()
    );
    assert_eq!(
        store.begin(Epoch(2)).err().unwrap().state(),
        SqlState::OBJECT_IN_USE
    );
    let manifest = writer.publish(json!(null)).unwrap();
    assert_eq!(
        load_slots(&store, &manifest, address(0)).unwrap(),
        [(1, 11), (2, 20)].into()
    );
    assert_eq!(store.load(&manifest, address(9)).count(), 0);
    assert!(store.begin(Epoch(0)).is_err(), "epochs do not go back");
}

#[test]
fn a_dropped_dataflow_leaves_no_files() {
    let temporary = tempfile::tempdir().unwrap();
    let (store, _) = CheckpointStore::open(temporary.path()).unwrap();
    let mut writer = store.begin(Epoch(1)).unwrap();
    for operator in 0..4 {
        write_slots(
            &mut writer,
            address(operator),
            BlockKind::Full,
            &[(1, 1)],
            &[],
        )
        .unwrap();
    }
    writer.publish(json!(null)).unwrap();
    let mut writer = store.begin(Epoch(2)).unwrap();
    writer.remove_dataflow(ObjectId(1));
    writer.remove_dataflow(ObjectId(2));
    let manifest = writer.publish(json!(null)).unwrap();
    assert_eq!(manifest.addresses().count(), 0);
    store.begin(Epoch(3)).unwrap().publish(json!(null)).unwrap();
    assert_eq!(data_files(temporary.path()), Vec::<PathBuf>::new());
    assert_eq!(store.oldest_epoch(), Some(Epoch(2)));
}

#[test]
fn a_manifest_that_is_held_can_be_loaded_however_many_follow() {
    let temporary = tempfile::tempdir().unwrap();
    let (store, _) = CheckpointStore::open(temporary.path()).unwrap();
    let publish = |epoch: u64| {
        let mut writer = store.begin(Epoch(epoch)).unwrap();
        let value = i64::try_from(epoch).unwrap();
        write_slots(&mut writer, address(0), BlockKind::Full, &[(0, value)], &[]).unwrap();
        writer.publish(json!(null)).unwrap()
    };
    let held = publish(1);
    for epoch in 2..8 {
        publish(epoch);
    }
    assert_eq!(
        load_slots(&store, &held, address(0)).unwrap(),
        [(0, 1)].into()
    );
    assert_eq!(data_files(temporary.path()).len(), 3);
    drop(held);
    publish(8);
    assert_eq!(data_files(temporary.path()).len(), 2);
    assert_eq!(manifests(temporary.path()).len(), 2);
}

/// Two checkpoints, the second a delta; returns both models.
fn two_checkpoints(directory: &Path) -> (Slots, Slots) {
    let (store, _) = CheckpointStore::open(directory).unwrap();
    let mut writer = store.begin(Epoch(10)).unwrap();
    write_slots(
        &mut writer,
        address(0),
        BlockKind::Full,
        &[(0, 5), (1, 6)],
        &[],
    )
    .unwrap();
    writer.publish(json!({"offsets": [1, 2]})).unwrap();
    let mut writer = store.begin(Epoch(20)).unwrap();
    write_slots(
        &mut writer,
        address(0),
        BlockKind::Delta,
        &[(1, 7), (4, 8)],
        &[0],
    )
    .unwrap();
    writer.publish(json!({"offsets": [3, 4]})).unwrap();
    ([(0, 5), (1, 6)].into(), [(1, 7), (4, 8)].into())
}

#[test]
fn damage_anywhere_falls_back_or_is_an_error_and_never_wrong_data() {
    let temporary = tempfile::tempdir().unwrap();
    let (older, newer) = two_checkpoints(temporary.path());
    let files = [manifests(temporary.path()), data_files(temporary.path())].concat();
    assert_eq!(files.len(), 4);
    let mut fell_back = 0;
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        let saved = manifests(temporary.path());
        let contents: Vec<_> = saved
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect();
        for at in 0..=bytes.len() {
            let mut broken = bytes.clone();
            match broken.get_mut(at) {
                Some(byte) => *byte ^= 0x04,
                None => broken.truncate(bytes.len() / 2),
            }
            std::fs::write(file, &broken).unwrap();
            let outcome = CheckpointStore::open(temporary.path()).and_then(|(store, found)| {
                let manifest = found.unwrap();
                Ok((manifest.epoch(), load_slots(&store, &manifest, address(0))?))
            });
            match outcome {
                Ok((Epoch(20), slots)) => assert_eq!(slots, newer),
                Ok((Epoch(10), slots)) => {
                    fell_back += 1;
                    assert_eq!(slots, older);
                }
                Ok((epoch, _)) => panic!("there is no checkpoint of epoch {epoch}"),
                Err(error) => assert_eq!(error.state(), SqlState::DATA_CORRUPTED),
            }
            std::fs::write(file, &bytes).unwrap();
            for (path, contents) in saved.iter().zip(&contents) {
                std::fs::write(path, contents).unwrap();
            }
        }
    }
    assert!(fell_back > 100, "{fell_back}");
}

#[test]
fn a_later_format_is_refused_and_not_called_damage() {
    let temporary = tempfile::tempdir().unwrap();
    two_checkpoints(temporary.path());
    let newest = manifests(temporary.path()).pop().unwrap();
    let body = "{}";
    let checksum = crc32fast::hash(format!("2{body}").as_bytes());
    let text = format!("tidemill manifest 2 crc32={checksum:08x} bytes=2\n{body}\n");
    std::fs::write(&newest, &text).unwrap();
    let error = CheckpointStore::open(temporary.path()).err().unwrap();
    assert_eq!(error.state(), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    assert_eq!(std::fs::read_to_string(&newest).unwrap(), text);
}

#[test]
fn a_damaged_newest_checkpoint_falls_back_and_the_next_one_follows() {
    let temporary = tempfile::tempdir().unwrap();
    let (older, _) = two_checkpoints(temporary.path());
    let newest = manifests(temporary.path()).pop().unwrap();
    std::fs::write(&newest, "tidemill manifest").unwrap();
    let (store, found) = CheckpointStore::open(temporary.path()).unwrap();
    let manifest = found.unwrap();
    assert_eq!(manifest.meta(), &json!({"offsets": [1, 2]}));
    assert_eq!(load_slots(&store, &manifest, address(0)).unwrap(), older);
    assert_eq!(
        data_files(temporary.path()).len(),
        2,
        "nothing is deleted in doubt"
    );
    let mut writer = store.begin(Epoch(20)).unwrap();
    write_slots(&mut writer, address(0), BlockKind::Delta, &[(9, 9)], &[]).unwrap();
    let manifest = writer.publish(json!(null)).unwrap();
    let expected: Slots = [(0, 5), (1, 6), (9, 9)].into();
    assert_eq!(load_slots(&store, &manifest, address(0)).unwrap(), expected);
    drop((store, manifest));
    let (store, found) = CheckpointStore::open(temporary.path()).unwrap();
    assert_eq!(
        load_slots(&store, &found.unwrap(), address(0)).unwrap(),
        expected
    );
}

#[test]
fn when_no_checkpoint_is_whole_that_is_said() {
    let temporary = tempfile::tempdir().unwrap();
    two_checkpoints(temporary.path());
    for path in manifests(temporary.path()) {
        std::fs::write(path, "").unwrap();
    }
    let open = || CheckpointStore::open(temporary.path()).err().unwrap();
    assert_eq!(open().state(), SqlState::DATA_CORRUPTED);
    assert_eq!(
        open().state(),
        SqlState::DATA_CORRUPTED,
        "and is said again"
    );
}

/// Checkpoints and merges; then the process dies at the n-th change and the power goes.
#[test]
fn death_at_any_change_leaves_the_last_published_checkpoint() {
    let scenario = |disk: &Disk, directory: &Path| {
        let mut rng = Rng::with_seed(4);
        let mut published = vec![(Epoch::ZERO, Model::new())];
        let mut run = || -> Result<()> {
            let (store, _) = CheckpointStore::open_on(disk, directory)?;
            for epoch in 1..10 {
                let mut model = published.last().unwrap().1.clone();
                let mut writer = store.begin(Epoch(epoch))?;
                write_random(&mut writer, &mut model, &mut rng)?;
                // It may be on disk even though publishing it failed.
                published.push((Epoch(epoch), model));
                writer.publish(json!(null))?;
                while store.merge_step(3000)? == Merging::Working {}
            }
            published.push((Epoch(10), Model::new()));
            Ok(())
        };
        let result = run();
        (result, published)
    };
    let temporary = tempfile::tempdir().unwrap();
    let healthy = Arc::new(Faults::none());
    let disk = Disk::with_faults(Arc::clone(&healthy));
    scenario(&disk, &temporary.path().join("c")).0.unwrap();
    for at in 0..healthy.changes() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("c");
        let faults = Arc::new(Faults::at(at, Fault::Stop));
        let disk = Disk::with_faults(Arc::clone(&faults));
        let (_, published) = scenario(&disk, &directory);
        faults.lose_power();
        let (store, found) = CheckpointStore::open(&directory).unwrap();
        let epoch = found
            .as_ref()
            .map_or(Epoch::ZERO, |manifest| manifest.epoch());
        let last = published.last().unwrap().0;
        assert!(
            epoch.next() >= last,
            "change {at}: epoch {epoch} after {last}"
        );
        let (_, model) = published
            .iter()
            .find(|(published, _)| *published == epoch)
            .unwrap();
        if let Some(manifest) = found {
            assert_eq!(&load(&store, &manifest).unwrap(), model, "change {at}");
        }
    }
}

#[test]
fn after_a_failed_sync_nothing_is_published_any_more() {
    let temporary = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::none());
    let disk = Disk::with_faults(Arc::clone(&faults));
    let (store, _) = CheckpointStore::open_on(&disk, temporary.path()).unwrap();
    store.begin(Epoch(1)).unwrap().publish(json!(null)).unwrap();
    faults.plan_next(Fault::SyncError);
    assert!(store.begin(Epoch(2)).unwrap().publish(json!(null)).is_err());
    assert!(store.begin(Epoch(3)).is_err());
    assert!(store.merge_step(1).is_err());
    let (_, found) = CheckpointStore::open(temporary.path()).unwrap();
    assert_eq!(found.unwrap().epoch(), Epoch(1));
}

#[test]
fn a_full_disk_costs_one_checkpoint_and_no_more() {
    for at in 0.. {
        let temporary = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::none());
        let disk = Disk::with_faults(Arc::clone(&faults));
        let (store, _) = CheckpointStore::open_on(&disk, temporary.path()).unwrap();
        let write = |epoch: u64| -> Result<Arc<Manifest>> {
            let mut writer = store.begin(Epoch(epoch))?;
            let slots = [(0, i64::try_from(epoch).unwrap())];
            write_slots(&mut writer, address(0), BlockKind::Full, &slots, &[])?;
            writer.publish(json!(null))
        };
        write(1).unwrap();
        let planned = faults.changes() + at;
        faults.plan(planned, Fault::Full);
        let written = write(2);
        let is_over = faults.changes() <= planned;
        // There is room again.
        faults.plan(u64::MAX, Fault::Full);
        if let Err(error) = written {
            assert_eq!(error.state(), SqlState::DISK_FULL, "change {at}: {error}");
        }
        store.check().unwrap();
        write(3).unwrap();
        drop(store);
        let (store, found) = CheckpointStore::open(temporary.path()).unwrap();
        let found = found.unwrap();
        assert_eq!(found.epoch(), Epoch(3));
        assert_eq!(load_slots(&store, &found, address(0)).unwrap()[&0], 3);
        if is_over {
            return;
        }
    }
}

#[test]
fn a_checkpoint_that_is_set_aside_is_followed_by_none() {
    let temporary = tempfile::tempdir().unwrap();
    let (store, _) = CheckpointStore::open(temporary.path()).unwrap();
    let write = |store: &CheckpointStore, epoch: u64, kind| {
        let mut writer = store.begin(Epoch(epoch)).unwrap();
        let slots = [(u32::try_from(epoch).unwrap(), 7)];
        write_slots(&mut writer, address(0), kind, &slots, &[]).unwrap();
        writer.publish(json!(null)).unwrap();
    };
    write(&store, 1, BlockKind::Full);
    store.set_newest_aside().unwrap_err();
    write(&store, 4, BlockKind::Delta);
    assert_eq!(store.before_newest().unwrap().epoch(), Epoch(1));
    store.set_newest_aside().unwrap();
    drop(store);
    let (store, found) = CheckpointStore::open(temporary.path()).unwrap();
    assert_eq!(found.unwrap().epoch(), Epoch(1));
    write(&store, 3, BlockKind::Delta);
    drop(store);
    let (store, found) = CheckpointStore::open(temporary.path()).unwrap();
    let slots = load_slots(&store, &found.unwrap(), address(0)).unwrap();
    assert_eq!(slots, Slots::from([(1, 7), (3, 7)]));
}

#[test]
fn damage_keeps_nothing_else_from_being_merged() {
    let temporary = tempfile::tempdir().unwrap();
    let (store, _) = CheckpointStore::open(temporary.path()).unwrap();
    let rows = u32::try_from(CHECKPOINT_CHAIN_BYTES_MIN / 16).unwrap();
    let slots: Vec<(u32, i64)> = (0..rows).map(|slot| (slot, 1)).collect();
    for epoch in 1..=4 {
        let mut writer = store.begin(Epoch(epoch)).unwrap();
        for operator in 0..2 {
            write_slots(
                &mut writer,
                address(operator),
                BlockKind::Delta,
                &slots,
                &[],
            )
            .unwrap();
        }
        writer.publish(json!(null)).unwrap();
    }
    // The first file's first block is damaged.
    let first = data_files(temporary.path()).into_iter().min().unwrap();
    let mut bytes = std::fs::read(&first).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let mut errors = 0;
    loop {
        match store.merge_step(1 << 30) {
            Ok(Merging::Idle) => break,
            Ok(Merging::Working) => {}
            Err(error) => {
                assert_eq!(error.state(), SqlState::DATA_CORRUPTED, "{error}");
                errors += 1;
                assert!(errors < 3, "it is met once or twice");
            }
        }
    }
    assert!(errors > 0, "it was met");
    let manifest = store.begin(Epoch(5)).unwrap().publish(json!(null)).unwrap();
    let blocks = |operator| store.load(&manifest, address(operator)).count();
    assert!(blocks(1) < blocks(0), "the other chain was merged");
}

#[test]
fn a_checkpoint_is_written_on_one_thread_while_another_merges() {
    let temporary = tempfile::tempdir().unwrap();
    let (store, _) = CheckpointStore::open(temporary.path()).unwrap();
    let merger = {
        let store = store.clone();
        task::spawn("merger", move || {
            while store
                .newest()
                .is_none_or(|manifest| manifest.epoch() < Epoch(60))
            {
                store.merge_step(2000).unwrap();
                std::thread::yield_now();
            }
        })
    };
    let mut rng = Rng::with_seed(5);
    let mut model = Model::new();
    for epoch in 1..=60 {
        let mut writer = store.begin(Epoch(epoch)).unwrap();
        write_random(&mut writer, &mut model, &mut rng).unwrap();
        let publish = task::spawn("checkpoint", move || writer.publish(json!(null)));
        let manifest = publish.join().unwrap().unwrap();
        assert_eq!(load(&store, &manifest).unwrap(), model);
    }
    merger.join().unwrap();
}
