//! The catalog survives the loss of anything but its log, and notices damage to that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;

use crate::error::SqlState;
use crate::storage::catalog_store::{CatalogStore, Change, IdCounter};
use crate::storage::fault::{Fault, Faults};
use crate::storage::file::Disk;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn contents(store: &CatalogStore) -> Model {
    store.scan(b"").unwrap().into_iter().collect()
}

/// Some commits; what the store holds after each of them, the empty store first.
fn sample(directory: &Path, commits: usize) -> Vec<Model> {
    let mut rng = Rng::with_seed(1);
    let store = CatalogStore::open(directory).unwrap();
    let mut models = vec![Model::new()];
    for _ in 0..commits {
        let mut model = models.last().unwrap().clone();
        let mut changes = Vec::new();
        for _ in 0..rng.usize(1..4) {
            let key = format!("object/{}", rng.u8(0..9)).into_bytes();
            if rng.u8(0..4) == 0 {
                model.remove(&key);
                changes.push(Change::remove(key));
            } else {
                let value = vec![rng.u8(..); rng.usize(0..200)];
                model.insert(key.clone(), value.clone());
                changes.push(Change::put(key, value));
            }
        }
        store.commit(&changes).unwrap();
        models.push(model);
    }
    models
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn sled_directory(directory: &Path) -> PathBuf {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries
        .filter(|path| path.to_str().unwrap().contains("sled."))
        .collect();
    assert_eq!(found.len(), 1, "one copy at a time");
    found.pop().unwrap()
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn commits_are_read_back_and_survive() {
    let temporary = tempfile::tempdir().unwrap();
    let models = sample(temporary.path(), 12);
    let store = CatalogStore::open(temporary.path()).unwrap();
    assert_eq!(&contents(&store), models.last().unwrap());
    store
        .commit(&[
            Change::put("view/b", "2"),
            Change::put("view/a", "1"),
            Change::put("vie", "0"),
        ])
        .unwrap();
    assert_eq!(store.get(b"view/a").unwrap().unwrap(), b"1");
    assert_eq!(store.get(b"view/c").unwrap(), None);
    let views = store.scan(b"view/").unwrap();
    assert_eq!(
        views,
        [("view/a", "1"), ("view/b", "2")].map(|(k, v)| (k.into(), v.into()))
    );
}

#[test]
fn impossible_changes_are_refused_without_harm() {
    let temporary = tempfile::tempdir().unwrap();
    let store = CatalogStore::open(temporary.path()).unwrap();
    assert!(store.commit(&[Change::put("", "x")]).is_err());
    assert!(
        store
            .commit(&[Change::put("a", "x"), Change::put("\0counter", "x")])
            .is_err()
    );
    let error = store
        .commit(&[Change::put(vec![b'k'; 5000], "x")])
        .unwrap_err();
    assert_eq!(error.state(), SqlState::CONFIGURATION_LIMIT_EXCEEDED);
    assert_eq!(store.get(b"a").unwrap(), None);
    store.commit(&[Change::put("a", "x")]).unwrap();
}

#[test]
fn numbers_never_repeat() {
    let temporary = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let store = CatalogStore::open(temporary.path()).unwrap();
        for _ in 0..150 {
            let id = store.next_id(IdCounter::Object).unwrap();
            assert!(id > last);
            last = id;
        }
        assert!(
            contents(&store).is_empty(),
            "counters are not among the catalog's entries"
        );
    }
    assert!(last < 450 + 3 * 64);
    let store = CatalogStore::open(temporary.path()).unwrap();
    assert_eq!(store.next_id(IdCounter::Oid).unwrap(), 16_384);
    assert_eq!(store.next_id(IdCounter::Oid).unwrap(), 16_385);
}

/// Every file of sled is removed, emptied, cut, overwritten and flipped at many places.
#[test]
fn any_damage_to_sled_is_repaired_from_the_log() {
    let origin = tempfile::tempdir().unwrap();
    let models = sample(origin.path(), 12);
    let expected = models.last().unwrap();
    let mut rng = Rng::with_seed(2);
    let sled = sled_directory(origin.path());
    let files = files_below(&sled);
    assert!(files.len() >= 2);
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        let mut damages: Vec<Option<Vec<u8>>> = vec![
            None,
            Some(Vec::new()),
            Some(bytes[..bytes.len() / 2].to_vec()),
            Some(vec![0; bytes.len()]),
            Some(vec![0xff; bytes.len()]),
        ];
        for count in 0..24 {
            let mut flipped = bytes.clone();
            // The beginning of the files is where the headers are.
            let range = if count % 2 == 0 {
                flipped.len().min(600)
            } else {
                flipped.len()
            };
            flipped[rng.usize(0..range)] ^= 1 << rng.u32(0..8);
            damages.push(Some(flipped));
        }
        for damage in damages {
            let temporary = tempfile::tempdir().unwrap();
            copy_tree(origin.path(), temporary.path());
            let target = temporary
                .path()
                .join(file.strip_prefix(origin.path()).unwrap());
            match damage {
                None => std::fs::remove_file(&target).unwrap(),
                Some(bytes) => std::fs::write(&target, bytes).unwrap(),
            }
            let store = CatalogStore::open(temporary.path()).unwrap();
            assert_eq!(
                &contents(&store),
                expected,
                "after damage to {}",
                target.display()
            );
            store.commit(&[Change::put("new", "1")]).unwrap();
            drop(store);
            let store = CatalogStore::open(temporary.path()).unwrap();
            assert_eq!(contents(&store).len(), expected.len() + 1);
        }
    }
}

#[test]
fn a_sled_that_is_missing_behind_ahead_or_never_opened_is_made_equal() {
    let behind = tempfile::tempdir().unwrap();
    sample(behind.path(), 5);
    let full = tempfile::tempdir().unwrap();
    let models = sample(full.path(), 12);

    // Behind: the copy after five of twelve commits is a prefix, and is kept.
    let temporary = tempfile::tempdir().unwrap();
    copy_tree(&full.path().join("log"), &temporary.path().join("log"));
    copy_tree(
        &sled_directory(behind.path()),
        &temporary.path().join("sled.7"),
    );
    let store = CatalogStore::open(temporary.path()).unwrap();
    assert_eq!(&contents(&store), models.last().unwrap());
    assert!(sled_directory(temporary.path()).ends_with("sled.7"));
    drop(store);

    // Ahead: the log is the truth.
    let temporary = tempfile::tempdir().unwrap();
    copy_tree(&behind.path().join("log"), &temporary.path().join("log"));
    copy_tree(
        &sled_directory(full.path()),
        &temporary.path().join("sled.7"),
    );
    let store = CatalogStore::open(temporary.path()).unwrap();
    assert_eq!(contents(&store), models[5]);
    assert!(sled_directory(temporary.path()).ends_with("sled.8"));
    drop(store);

    // Missing, and one whose opening killed the process.
    let temporary = tempfile::tempdir().unwrap();
    copy_tree(&full.path().join("log"), &temporary.path().join("log"));
    drop(CatalogStore::open(temporary.path()).unwrap());
    assert!(sled_directory(temporary.path()).ends_with("sled.1"));
    std::fs::write(temporary.path().join("sled-opening"), "").unwrap();
    let store = CatalogStore::open(temporary.path()).unwrap();
    assert_eq!(&contents(&store), models.last().unwrap());
    assert!(sled_directory(temporary.path()).ends_with("sled.2"));
    drop(store);
    drop(CatalogStore::open(temporary.path()).unwrap());
    assert!(
        sled_directory(temporary.path()).ends_with("sled.2"),
        "a good one is kept"
    );
}

#[test]
fn damage_to_the_log_is_an_error_or_loses_the_last_commit_only() {
    let origin = tempfile::tempdir().unwrap();
    let models = sample(origin.path(), 6);
    let log = files_below(&origin.path().join("log")).pop().unwrap();
    let bytes = std::fs::read(&log).unwrap();
    let last = models.len() - 1;
    // sled is left out: it would only be rebuilt each time.
    for at in (0..bytes.len()).step_by(7) {
        let temporary = tempfile::tempdir().unwrap();
        let target = temporary.path().join("log").join(log.file_name().unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&target, &flipped).unwrap();
        match CatalogStore::open(temporary.path()) {
            Err(error) => assert_eq!(error.state(), SqlState::DATA_CORRUPTED, "byte {at}"),
            Ok(store) => assert_eq!(contents(&store), models[last - 1], "byte {at}"),
        }
    }
}

#[test]
fn death_at_any_change_keeps_what_was_committed_and_tears_no_commit() {
    let scenario = |disk: &Disk, directory: &Path| -> (u64, crate::error::Result<()>) {
        let mut committed = 0;
        let mut run = || {
            let store = CatalogStore::open_on(disk, directory)?;
            for count in 1..5u64 {
                let value = count.to_be_bytes();
                store.commit(&[Change::put("a", value), Change::put("b", value)])?;
                committed = count;
            }
            Ok(())
        };
        let result = run();
        (committed, result)
    };
    let temporary = tempfile::tempdir().unwrap();
    let healthy = Arc::new(Faults::none());
    let disk = Disk::with_faults(Arc::clone(&healthy));
    scenario(&disk, temporary.path()).1.unwrap();
    for at in 0..healthy.changes() {
        let temporary = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::at(at, Fault::Stop));
        let disk = Disk::with_faults(Arc::clone(&faults));
        let (committed, result) = scenario(&disk, temporary.path());
        assert!(result.is_err());
        faults.lose_power();
        let store = CatalogStore::open(temporary.path()).unwrap();
        let read = |key: &[u8]| {
            let value = store.get(key).unwrap();
            value.map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()))
        };
        assert_eq!(read(b"a"), read(b"b"));
        assert!(read(b"a") >= committed && read(b"a") <= committed + 1);
    }
}

#[test]
fn death_in_a_compaction_loses_nothing() {
    let large = |count: u8| vec![count; 1 << 20];
    let prepared = tempfile::tempdir().unwrap();
    let store = CatalogStore::open(prepared.path()).unwrap();
    store.commit(&[Change::put("kept", "1")]).unwrap();
    for count in 1..4 {
        store.commit(&[Change::put("large", large(count))]).unwrap();
    }
    drop(store);
    // The commit that compacts, on a copy of the same directory each time.
    let scenario = |disk: &Disk, directory: &Path| -> crate::error::Result<u64> {
        let store = CatalogStore::open_on(disk, directory)?;
        store.commit(&[Change::put("large", large(4))])?;
        Ok(store.log_bytes())
    };
    let copy = tempfile::tempdir().unwrap();
    copy_tree(prepared.path(), copy.path());
    let healthy = Arc::new(Faults::none());
    let disk = Disk::with_faults(Arc::clone(&healthy));
    assert!(
        scenario(&disk, copy.path()).unwrap() < 2 << 20,
        "it was compacted"
    );
    for at in 0..healthy.changes() {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(prepared.path(), copy.path());
        let faults = Arc::new(Faults::at(at, Fault::Stop));
        let disk = Disk::with_faults(Arc::clone(&faults));
        let result = scenario(&disk, copy.path());
        faults.lose_power();
        let store = CatalogStore::open(copy.path()).unwrap();
        assert_eq!(store.get(b"kept").unwrap().unwrap(), b"1");
        let value = store.get(b"large").unwrap().unwrap();
        assert!(
            value == large(4) || value == large(3) && result.is_err(),
            "change {at}"
        );
        store.commit(&[Change::put("large", large(5))]).unwrap();
        drop(store);
        let store = CatalogStore::open(copy.path()).unwrap();
        assert_eq!(
            store.get(b"large").unwrap().unwrap(),
            large(5),
            "change {at}"
        );
    }
}

#[test]
fn a_failed_sync_stops_the_store() {
    let temporary = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::none());
    let disk = Disk::with_faults(Arc::clone(&faults));
    let store = CatalogStore::open_on(&disk, temporary.path()).unwrap();
    store.commit(&[Change::put("a", "1")]).unwrap();
    faults.plan_next(Fault::SyncError);
    assert!(store.commit(&[Change::put("a", "2")]).is_err());
    assert!(store.commit(&[Change::put("a", "3")]).is_err());
    assert!(store.get(b"a").is_err() && store.scan(b"").is_err());
    assert!(store.next_id(IdCounter::Object).is_err());
}

#[test]
fn the_log_is_compacted() {
    let temporary = tempfile::tempdir().unwrap();
    let store = CatalogStore::open(temporary.path()).unwrap();
    let value = vec![7; 300_000];
    store.commit(&[Change::put("kept", "1")]).unwrap();
    for count in 0..40u8 {
        let key = format!("object/{}", count % 3);
        store.commit(&[Change::put(key, value.clone())]).unwrap();
        assert!(store.log_bytes() < 6 << 20);
    }
    let expected = contents(&store);
    assert_eq!(expected.len(), 4);
    drop(store);
    let sled = sled_directory(temporary.path());
    let store = CatalogStore::open(temporary.path()).unwrap();
    assert_eq!(contents(&store), expected);
    assert_eq!(
        sled_directory(temporary.path()),
        sled,
        "the copy stayed a prefix"
    );
}
