//! What changes around a source while it is read: a topic that is made anew, partitions that are
//! added.
//!
//! One thread asks the connectors of all running sources now and then, so that the stepper never
//! waits for a broker, and tells the stepper what it saw.
//!
//! ```text
//!   stepper ── watch(source) ──► due times ── thread: identity? partitions? ──► Command::Seen
//! ```
//!
//! Rule: a source's first look comes before its reader. Only when the topic has been found to be
//! the one that the source was made for is it read, so that positions in one topic are never taken
//! for positions in another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::limits::{SHUTDOWN_GRACE_MS, WATCH_RETRY};
use crate::base::{ObjectId, Offset, PartitionId, task};
use crate::dataflow::progress::Progress;
use crate::dataflow::source::SourceSpec;
use crate::dataflow::stepper::Command;
use crate::error::{Error, Result, SqlState};

/// What a look at a source's topic has shown.
#[derive(Debug)]
pub enum Sight {
    /// It is the topic that the source was made for.
    Same {
        /// Partitions beside the known ones, each with its oldest offset.
        found: Vec<(PartitionId, Offset)>,
        /// How many chunks had been taken when the look began: they are of this topic.
        taken: u64,
    },
    /// It is another topic of the same name.
    Another(Error),
    /// It could not be seen.
    Away(Error),
}

/// The thread and what it watches.
pub(super) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    // Behind a mutex because the stepper adds and removes while the thread looks.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    watched: BTreeMap<ObjectId, Watched>,
    is_stopped: bool,
    has_ended: bool,
}

#[derive(Clone)]
struct Watched {
    spec: SourceSpec,
    known: BTreeSet<PartitionId>,
    taken: Arc<AtomicU64>,
    due: Instant,
}

impl Watched {
    fn look(&self) -> Sight {
        // Before the question: what is taken while it is under way may be of another topic.
        let taken = self.taken.load(Ordering::Acquire);
        match another_topic(&self.spec) {
            Ok(None) => {}
            Ok(Some(error)) => return Sight::Another(error),
            Err(error) => return Sight::Away(error),
        }
        match new_partitions(&self.spec, &self.known) {
            Ok(found) => Sight::Same { found, taken },
            Err(error) => Sight::Away(error),
        }
    }
}

impl Watch {
    pub fn start(commands: SyncSender<Command>) -> Watch {
        let shared = Arc::new(Shared::default());
        let inner = shared.clone();
        let thread = task::spawn("source-watch", move || inner.run(&commands));
        Watch {
            shared,
            thread: Some(thread),
        }
    }

    /// Looks at the source as soon as possible and, where it has an interval, again and again.
    /// `taken` counts the chunks that the stepper has taken of it. One that is watched already is
    /// not looked at anew: what it is found to be is still to come, or on its way.
    pub fn add(&self, spec: &SourceSpec, known: BTreeSet<PartitionId>, taken: &Arc<AtomicU64>) {
        let watched = || Watched {
            spec: spec.clone(),
            known,
            taken: taken.clone(),
            due: Instant::now(),
        };
        let mut state = self.shared.lock();
        state.watched.entry(spec.id).or_insert_with(watched);
        self.shared.changed.notify_all();
    }

    /// Says that the stepper knows a partition now.
    pub fn knows(&self, source: ObjectId, partition: PartitionId) {
        if let Some(watched) = self.shared.lock().watched.get_mut(&source) {
            watched.known.insert(partition);
        }
    }

    pub fn remove(&self, source: ObjectId) {
        self.shared.lock().watched.remove(&source);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_stopped = true;
        self.shared.changed.notify_all();
        // A question to a broker cannot be taken back. It ends by itself within seconds, for which
        // nobody need wait: the thread holds nothing that others want.
        let grace = Duration::from_millis(SHUTDOWN_GRACE_MS);
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, grace, |state| !state.has_ended);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let has_ended = state.has_ended;
        drop(state);
        if has_ended
            && let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the watch of sources panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, commands: &SyncSender<Command>) {
        while let Some((id, watched)) = self.next() {
            let sight = watched.look();
            let is_away = matches!(sight, Sight::Away(_));
            // A stepper with a full queue is told at the next look.
            let is_told = commands
                .try_send(Command::Seen { source: id, sight })
                .is_ok();
            self.look_again(id, watched.due, is_told && !is_away);
        }
        self.lock().has_ended = true;
        self.changed.notify_all();
    }

    /// The next source to look at, when its time has come; `None` at the end.
    fn next(&self) -> Option<(ObjectId, Watched)> {
        let mut state = self.lock();
        loop {
            if state.is_stopped {
                return None;
            }
            let now = Instant::now();
            let first = state.watched.iter().min_by_key(|(_, watched)| watched.due);
            let wait = match first {
                Some((id, watched)) if watched.due <= now => {
                    return Some((*id, watched.clone()));
                }
                Some((_, watched)) => watched.due - now,
                // Somebody will say when there is one.
                None => Duration::from_secs(3600),
            };
            let waited = self.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Says when the source that was due then is due again; never, if it was seen and has no
    /// interval. One that was added anew in the meantime stays due.
    fn look_again(&self, id: ObjectId, was_due: Instant, is_seen: bool) {
        let mut state = self.lock();
        let Some(watched) = state.watched.get_mut(&id) else {
            return;
        };
        if watched.due != was_due {
            return;
        }
        let interval = u64::try_from(watched.spec.watch_interval_micros).unwrap_or(0);
        match (is_seen, interval) {
            (false, _) => watched.due = Instant::now() + WATCH_RETRY,
            (true, 0) => drop(state.watched.remove(&id)),
            (true, micros) => watched.due = Instant::now() + Duration::from_micros(micros),
        }
    }
}

fn new_partitions(
    spec: &SourceSpec,
    known: &BTreeSet<PartitionId>,
) -> Result<Vec<(PartitionId, Offset)>> {
    let mut partitions = spec.connector.partitions()?;
    partitions.retain(|partition| !known.contains(partition));
    let bounds = spec.connector.bounds(&partitions)?;
    let starts = bounds.into_iter().map(|bounds| bounds.start);
    Ok(partitions.into_iter().zip(starts).collect())
}

/// Asks the world outside. A statement that waits for its view is told of an error at once; a view
/// that outlives its statement (`Some` progress) waits for a broker that is away.
///
/// # Errors
/// What the question ends with; that of the progress when the view is not wanted any more.
pub(super) fn patiently<T>(
    patience: Option<&Progress>,
    question: impl Fn() -> Result<T>,
) -> Result<T> {
    let mut last = None;
    loop {
        match (question(), patience) {
            (Err(error), Some(progress)) if error.is_retryable() => {
                if last.as_ref() != Some(&error) {
                    tracing::warn!(%error, "building a view waits");
                }
                last = Some(error);
                progress.check()?;
                std::thread::park_timeout(WATCH_RETRY);
            }
            (answer, _) => return answer,
        }
    }
}

/// Asks whether the topic is another one than the source was made for; the error that says so.
/// Blocks.
///
/// # Errors
/// What the connector says when it cannot be asked.
pub fn another_topic(spec: &SourceSpec) -> Result<Option<Error>> {
    let Some(expected) = &spec.identity else {
        return Ok(None);
    };
    let Some(found) = spec.connector.identity()? else {
        return Ok(None);
    };
    let is_another = found != *expected;
    Ok(is_another.then(|| {
        Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!(
                "the topic of source \"{}\" was deleted and made again: its id is {found}, the \
                 source was created over {expected}",
                spec.name
            ),
        )
        .hint("DROP SOURCE … CASCADE and create it again reads the new topic from its start")
    }))
}
