//! Who may cancel what: process ids, their secrets and the statements that run under them.
//!
//! State: one entry for each connection, made at login and removed with its registration.
//! The mutex is held for a lookup only; connections and cancel requests are separate tasks.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::Cancel;

/// The connections of a server, as cancel requests name them.
#[derive(Debug, Default)]
pub(super) struct Cancels {
    /// Keyed by the operating system's randomness; secrets are its hashes of a serial number.
    key: RandomState,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    serial: u64,
    by_process: HashMap<i32, Entry>,
}

#[derive(Debug)]
struct Entry {
    secret: i32,
    running: Option<Cancel>,
}

/// One connection's place; dropped with it.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) process_id: i32,
    pub(super) secret: i32,
    cancels: Arc<Cancels>,
}

impl Cancels {
    pub(super) fn register(self: &Arc<Self>) -> Registration {
        let mut entries = self.entries();
        // Serial numbers never come again; process ids do after 2³¹, so one in use is passed.
        let (process_id, secret) = loop {
            entries.serial += 1;
            let hash = self.key.hash_one(entries.serial);
            let process_id = low_bits(entries.serial) & i32::MAX;
            if process_id != 0 && !entries.by_process.contains_key(&process_id) {
                break (process_id, low_bits(hash));
            }
        };
        entries.by_process.insert(
            process_id,
            Entry {
                secret,
                running: None,
            },
        );
        Registration {
            process_id,
            secret,
            cancels: Arc::clone(self),
        }
    }

    /// Cancels the running statement of a connection. Who does not know its secret does nothing,
    /// and nobody is told which it was.
    pub(super) fn cancel(&self, process_id: i32, secret: i32) {
        let entries = self.entries();
        if let Some(entry) = entries.by_process.get(&process_id)
            && entry.secret == secret
            && let Some(running) = &entry.running
        {
            running.cancel();
        }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        // Every change below is a single insert or remove: a panic leaves nothing half done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// Names the statement that a cancel request is for from now on; `None` = none runs.
    pub(super) fn set_running(&self, running: Option<Cancel>) {
        if let Some(entry) = self.cancels.entries().by_process.get_mut(&self.process_id) {
            entry.running = running;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.cancels.entries().by_process.remove(&self.process_id);
    }
}

fn low_bits(number: u64) -> i32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_cancels_and_only_what_runs() {
        let cancels = Arc::new(Cancels::default());
        let (one, other) = (cancels.register(), cancels.register());
        assert_ne!(one.process_id, other.process_id);
        assert_ne!(one.secret, other.secret);
        cancels.cancel(one.process_id, one.secret);
        let statement = Cancel::new();
        one.set_running(Some(statement.clone()));
        assert!(!statement.is_cancelled());
        cancels.cancel(one.process_id, one.secret.wrapping_add(1));
        cancels.cancel(other.process_id, other.secret);
        assert!(!statement.is_cancelled());
        cancels.cancel(one.process_id, one.secret);
        assert!(statement.is_cancelled());
    }

    #[test]
    fn a_connection_that_ended_is_forgotten() {
        let cancels = Arc::new(Cancels::default());
        let registration = cancels.register();
        let statement = Cancel::new();
        registration.set_running(Some(statement.clone()));
        let (process_id, secret) = (registration.process_id, registration.secret);
        drop(registration);
        cancels.cancel(process_id, secret);
        assert!(!statement.is_cancelled());
        assert!(cancels.entries().by_process.is_empty());
    }
}
