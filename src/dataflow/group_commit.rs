//! Shows other tools of the broker how far sources are: their positions as of the last checkpoint,
//! committed to the consumer group that CREATE SOURCE names.
//!
//! ```text
//!   checkpoint begins ─► note(positions) … is durable ─► run ─► thread: connector.commit
//! ```
//!
//! Nothing is read back: where a source goes on is in the checkpoint. So it is done now and then,
//! beside everything else, and a failure is only logged.

use std::collections::BTreeMap;
use std::thread::JoinHandle;

use crate::base::{ObjectId, Offset, PartitionId, task};
use crate::dataflow::panic::contained;
use crate::dataflow::reading::Source;
use crate::dataflow::source::SourceSpec;
use crate::dataflow::stepper::Stepper;

type Positions = Vec<(PartitionId, Offset)>;

/// Knows what to commit, and keeps the thread that does.
#[derive(Default)]
pub(super) struct GroupCommits {
    /// As of the checkpoint that is being written.
    noted: BTreeMap<ObjectId, (SourceSpec, Positions)>,
    /// What was handed to a thread last.
    committed: BTreeMap<ObjectId, Positions>,
    thread: Option<JoinHandle<()>>,
}

impl GroupCommits {
    /// The noted positions are durable: they are committed, unless that is still being done for
    /// those before.
    pub fn run(&mut self) {
        let noted = std::mem::take(&mut self.noted);
        if self
            .thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
        {
            return;
        }
        self.join();
        let mut commits = Vec::new();
        for (id, (spec, positions)) in noted {
            if self.committed.get(&id) != Some(&positions) {
                self.committed.insert(id, positions.clone());
                commits.push((spec, positions));
            }
        }
        if commits.is_empty() {
            return;
        }
        self.thread = Some(task::spawn("group-commit", move || {
            for (spec, positions) in commits {
                if let Err(error) = contained(|| spec.connector.commit(&positions)) {
                    let source = spec.name;
                    tracing::warn!(source, %error, "positions are not shown in the group");
                }
            }
        }));
    }

    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("committing positions panicked");
        }
    }
}

impl Stepper {
    /// Notes where the sources stand that somebody may want to see, for the checkpoint that begins.
    pub(super) fn note_group_positions(&mut self) {
        let is_shown =
            |source: &Source| source.is_running && source.state.spec().connector.has_group();
        let shown = self.sources.iter().filter(|(_, source)| is_shown(source));
        let noted = shown.map(|(id, source)| {
            let partitions = source.state.partitions.iter();
            let positions = partitions.map(|(partition, state)| (*partition, state.position));
            (*id, (source.state.spec().clone(), positions.collect()))
        });
        self.group_commits.noted = noted.collect();
    }
}
