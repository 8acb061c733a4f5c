//! Faults for tests: the n-th change of the disk fails, is half done, or is the last one.
//!
//! A test runs a scenario once to count its changes, then once for each of them with a fault
//! there, opens what is left with a healthy disk and checks that nothing acknowledged is gone.
//! [`Faults::lose_power`] also takes away what was written and not synced.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::storage::file::Operation;

/// What happens at the planned change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails without effect; later ones succeed.
    Error,
    /// A write leaves its first half and fails; later ones succeed.
    ShortWrite,
    /// A write leaves its first half, and every later change fails: the process has died.
    Stop,
    /// As `Error`, but counting syncs of files only.
    SyncError,
    /// As `Error`, because the disk is full.
    Full,
}

/// The gate's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Pass,
    Refuse,
    Half,
    Full,
}

/// One planned fault, and what a loss of power would leave.
#[derive(Default)]
pub struct Faults(Mutex<State>);

#[derive(Default)]
struct State {
    changes: u64,
    syncs: u64,
    plan: Option<(u64, Fault)>,
    has_stopped: bool,
    files: BTreeMap<PathBuf, Durable>,
}

#[derive(Clone, Copy, Default)]
struct Durable {
    length: u64,
    has_name: bool,
}

impl Faults {
    pub fn none() -> Self {
        Faults::default()
    }

    /// Plans `fault` at change `at`, counted from 0.
    pub fn at(at: u64, fault: Fault) -> Self {
        Faults(Mutex::new(State {
            plan: Some((at, fault)),
            ..State::default()
        }))
    }

    /// Plans `fault` at change `at`, counted from 0.
    pub fn plan(&self, at: u64, fault: Fault) {
        self.0.lock().unwrap().plan = Some((at, fault));
    }

    /// Plans `fault` at the next change (or sync).
    pub fn plan_next(&self, fault: Fault) {
        let mut state = self.0.lock().unwrap();
        let next = if fault == Fault::SyncError {
            state.syncs
        } else {
            state.changes
        };
        state.plan = Some((next, fault));
    }

    /// How many changes there were.
    pub fn changes(&self) -> u64 {
        self.0.lock().unwrap().changes
    }

    /// How many syncs of files there were.
    pub fn syncs(&self) -> u64 {
        self.0.lock().unwrap().syncs
    }

    pub fn full() -> io::Error {
        io::Error::from(io::ErrorKind::StorageFull)
    }

    pub fn error() -> io::Error {
        io::Error::other("planned fault")
    }

    pub fn admit(&self, operation: Operation) -> Admission {
        let mut state = self.0.lock().unwrap();
        let (change, sync) = (state.changes, state.syncs);
        state.changes += 1;
        state.syncs += u64::from(operation == Operation::Sync);
        if state.has_stopped {
            return Admission::Refuse;
        }
        let is_write = operation == Operation::Write;
        match state.plan {
            Some((at, Fault::SyncError)) if operation == Operation::Sync && at == sync => {
                Admission::Refuse
            }
            Some((at, Fault::Error)) if at == change => Admission::Refuse,
            Some((at, Fault::Full)) if at == change => Admission::Full,
            Some((at, Fault::ShortWrite)) if at == change && is_write => Admission::Half,
            Some((at, Fault::Stop)) if at == change => {
                state.has_stopped = true;
                if is_write {
                    Admission::Half
                } else {
                    Admission::Refuse
                }
            }
            _ => Admission::Pass,
        }
    }

    pub fn file_created(&self, path: &Path) {
        self.0
            .lock()
            .unwrap()
            .files
            .insert(path.to_path_buf(), Durable::default());
    }

    pub fn file_synced(&self, path: &Path, length: u64) {
        let mut state = self.0.lock().unwrap();
        let durable = Durable {
            length,
            has_name: true,
        };
        state
            .files
            .entry(path.to_path_buf())
            .or_insert(durable)
            .length = length;
    }

    pub fn file_renamed(&self, from: &Path, to: &Path) {
        let mut state = self.0.lock().unwrap();
        if let Some(durable) = state.files.remove(from) {
            // Rename without a directory sync is taken as kept: what matters is the contents.
            state.files.insert(
                to.to_path_buf(),
                Durable {
                    has_name: true,
                    ..durable
                },
            );
        }
    }

    pub fn directory_synced(&self, directory: &Path) {
        let mut state = self.0.lock().unwrap();
        for (path, durable) in &mut state.files {
            if path.parent() == Some(directory) {
                durable.has_name = true;
            }
        }
    }

    /// Cuts every file to what was synced, and removes those whose names were not.
    pub fn lose_power(&self) {
        let state = self.0.lock().unwrap();
        for (path, durable) in state.files.iter().filter(|(path, _)| path.exists()) {
            if !durable.has_name {
                std::fs::remove_file(path).unwrap();
                continue;
            }
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            if file.metadata().unwrap().len() > durable.length {
                file.set_len(durable.length).unwrap();
            }
        }
    }
}
