//! What embedded topics let go of: segments past their retention that nobody needs any more; and
//! the journal, what is before the oldest checkpoint.
//!
//! ```text
//!   offsets   0 ............ 4000 ............ 9000 ........ 9400
//!             deleted        kept by retention │             end
//!                                              └ position at the oldest kept checkpoint: a replay
//!                                                may read again from here, so this stays
//! ```
//!
//! While a view is built on a topic nothing of the topic goes: it reads from the start. Files are
//! deleted by a thread of their own, never by a step.

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::base::limits::TOPIC_ROLLS_PER_AGE;
use crate::base::{Epoch, ObjectId, Offset, PartitionId, task};
use crate::dataflow::stepper::Stepper;
use crate::storage::{LogWriter, Retention, Truncation};

/// For each embedded topic and partition the next row that a step will take.
pub(super) type Positions = BTreeMap<(ObjectId, PartitionId), Offset>;

/// Knows what replays may need, and keeps the thread that deletes.
#[derive(Default)]
pub(super) struct Trimmer {
    /// At each checkpoint since the oldest that is kept, as far as they are known: those that a
    /// restart did not load are not, and nothing goes until they have been replaced.
    positions: BTreeMap<Epoch, Positions>,
    oldest: Option<Epoch>,
    /// When the active segment of a topic was last closed by its age.
    rolled: BTreeMap<ObjectId, Instant>,
    /// What the journal does not need any more, until a thread has taken it.
    journal: Option<Truncation>,
    deleting: Option<JoinHandle<()>>,
}

/// One log with what it may lose.
struct Trim {
    log: LogWriter,
    retention: Retention,
    needed: Offset,
}

impl Trimmer {
    /// Says where the topics stand at a checkpoint.
    pub fn note(&mut self, epoch: Epoch, positions: Positions) {
        self.positions.insert(epoch, positions);
    }

    /// Says which checkpoint is the oldest that a restart may begin with.
    pub fn keep_from(&mut self, oldest: Epoch) {
        self.oldest = Some(oldest);
        self.positions = self.positions.split_off(&oldest);
    }

    /// Says what the journal can lose, with the next deletion.
    pub fn truncate(&mut self, truncation: Option<Truncation>) {
        // A later one goes further.
        self.journal = truncation.or(self.journal.take());
    }

    fn needed(&self, topic: ObjectId, partition: PartitionId) -> Option<Offset> {
        let positions = self.positions.get(&self.oldest?)?;
        positions.get(&(topic, partition)).copied()
    }

    /// Whether the active segment is old enough to be closed, so that it can go in its time.
    fn is_roll_due(&mut self, topic: ObjectId, age_max: Duration) -> bool {
        let now = Instant::now();
        let last = *self.rolled.entry(topic).or_insert(now);
        let is_due = now.duration_since(last) >= age_max / TOPIC_ROLLS_PER_AGE;
        if is_due {
            self.rolled.insert(topic, now);
        }
        is_due
    }

    /// Whether files are being deleted.
    pub fn is_deleting(&self) -> bool {
        let deleting = self.deleting.as_ref();
        deleting.is_some_and(|thread| !thread.is_finished())
    }

    pub fn join(&mut self) {
        if let Some(thread) = self.deleting.take()
            && thread.join().is_err()
        {
            tracing::error!("deleting old segments panicked");
        }
    }
}

impl Stepper {
    /// Where the embedded topics stand.
    pub(super) fn topic_positions(&self) -> Positions {
        let embedded = self
            .sources
            .iter()
            .filter(|(_, source)| source.state.spec().is_embedded);
        let of_topic = |(id, source): (&ObjectId, &super::reading::Source)| {
            let id = *id;
            let partitions = source.state.partitions.clone();
            partitions
                .into_iter()
                .map(move |(partition, state)| ((id, partition), state.position))
        };
        embedded.flat_map(of_topic).collect()
    }

    /// Deletes what topics need not keep, beside the steps.
    pub(super) fn trim_topics(&mut self) {
        if self.trimmer.is_deleting() {
            return;
        }
        self.trimmer.join();
        let mut trims = Vec::new();
        for (id, source) in &self.sources {
            let retention = source.state.spec().retention;
            let is_read_from_start = self
                .catching_up
                .values()
                .any(|pins| pins.wanted.contains_key(id));
            if retention == Retention::default() || is_read_from_start {
                continue;
            }
            let is_roll_due = retention
                .age_max
                .is_some_and(|age_max| self.trimmer.is_roll_due(*id, age_max));
            for (partition, log) in (0..).map(PartitionId).zip(&source.logs) {
                if is_roll_due {
                    log.roll();
                }
                if let Some(needed) = self.trimmer.needed(*id, partition) {
                    trims.push(Trim {
                        log: log.clone(),
                        retention,
                        needed,
                    });
                }
            }
        }
        let journal = self.trimmer.journal.take();
        if trims.is_empty() && journal.is_none() {
            return;
        }
        self.trimmer.deleting = Some(task::spawn("retention", move || {
            // What could not be deleted now is tried again; the log itself says when it ends.
            if let Some(Err(error)) = journal.map(Truncation::run) {
                tracing::warn!(%error, "the journal could not be trimmed");
            }
            let now = SystemTime::now();
            for trim in trims {
                if let Err(error) = trim.log.retain(&trim.retention, trim.needed, now) {
                    tracing::warn!(%error, "old segments of a topic could not be deleted");
                }
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_let_go_before_the_oldest_checkpoint_is_known() {
        let (topic, partition) = (ObjectId(7), PartitionId(0));
        let mut trimmer = Trimmer::default();
        let at = |offset| Positions::from([((topic, partition), Offset(offset))]);
        trimmer.note(Epoch(20), at(200));
        assert_eq!(trimmer.needed(topic, partition), None);
        // A manifest from before the restart: where the topic stood then is not known.
        trimmer.keep_from(Epoch(10));
        assert_eq!(trimmer.needed(topic, partition), None);
        trimmer.note(Epoch(30), at(300));
        trimmer.keep_from(Epoch(20));
        assert_eq!(trimmer.needed(topic, partition), Some(Offset(200)));
        assert_eq!(trimmer.needed(topic, PartitionId(1)), None);
        trimmer.keep_from(Epoch(30));
        assert_eq!(trimmer.needed(topic, partition), Some(Offset(300)));
    }
}
