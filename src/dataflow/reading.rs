//! Which sources are read, and what the watch makes of it.
//!
//! ```text
//!   a view reads it ─► Topic::Unseen ─ look ─┬─► Same ─► reader, again with more columns or
//!                                            │           partitions, until nobody reads it
//!                                            └─► Another: not read, and said why
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::{EventTime, ObjectId, Offset, PartitionId};
use crate::dataflow::drift;
use crate::dataflow::errors::ErrorLog;
use crate::dataflow::reader::ReaderThread;
use crate::dataflow::source::{SourceState, SourceStatus};
use crate::dataflow::stepper::{Command, Stepper};
use crate::dataflow::tee::Tee;
use crate::dataflow::watch::Sight;
use crate::error::{Error, Result};
use crate::storage::LogWriter;

/// A source in the loop.
pub(super) struct Source {
    pub state: SourceState,
    /// Present while a view reads it and rows come from outside.
    pub reader: Option<ReaderThread>,
    /// Whether the running system has a position in it.
    pub is_running: bool,
    pub logs: Vec<LogWriter>,
    /// Chunks kept for views that are catching up.
    pub tees: BTreeMap<ObjectId, Tee>,
    pub topic: Topic,
    /// Chunks taken by this process, which the watch of the topic reads.
    pub taken: Arc<AtomicU64>,
    /// Nothing is known of where its partitions end, since there was no reader yet: the next step
    /// takes none of them for idle.
    pub is_unconfirmed: bool,
    /// Why the last reader has ended, where the topic is looked for again.
    pub lost: Option<Error>,
    /// Partitions that the next step takes in, with where they begin.
    pub found: Vec<(PartitionId, Offset)>,
}

/// What is known of a source's topic.
pub(super) enum Topic {
    /// Not yet whether it is the one that the source was made for: it is not read.
    Unseen(Option<Error>),
    /// It was when it was last seen, with the chunks that had been taken then.
    Same(u64),
    /// It is another one: it is not read any more.
    Another(Error),
}

impl Source {
    /// Why there is no reader, or none yet.
    fn error(&self) -> Option<Error> {
        match &self.topic {
            Topic::Another(error) | Topic::Unseen(Some(error)) => Some(error.clone()),
            Topic::Unseen(None) | Topic::Same(_) => self.lost.clone(),
        }
    }
}

impl Stepper {
    pub(super) fn stop_unread_sources(&mut self) {
        let ids: Vec<ObjectId> = self.sources.keys().copied().collect();
        for id in ids {
            if self.is_needed(id) {
                continue;
            }
            self.end_reader(id);
            let source = self.sources.get_mut(&id).expect("just listed");
            source.lost = None;
            if !source.state.spec().is_embedded && source.is_running {
                // The next view begins where CREATE SOURCE said.
                source.is_running = false;
                source.topic = Topic::Unseen(None);
                source.found.clear();
                source.state.reset();
                self.watch.remove(id);
                // What was counted and kept belongs to the reading that has ended.
                self.checkpointer.forget(id);
                let cleared = self.published.change(|change| {
                    if let Some(errors) = change.errors(id) {
                        *errors = ErrorLog::default();
                    }
                    Ok(())
                });
                cleared.expect("leaving errors out cannot fail");
            }
        }
        self.publish_sources();
    }

    /// Ends a source's reader, if it has one; what it has queued is gone.
    pub(super) fn end_reader(&mut self, id: ObjectId) {
        let source = self.sources.get_mut(&id);
        if let Some(reader) = source.and_then(|source| source.reader.take()) {
            self.closer.close(reader);
        }
    }

    /// Looks again for the topics of readers that have ended because theirs was not there. They are
    /// read again when it is, and is the one that it was.
    pub(super) fn look_for_lost_topics(&mut self) {
        let mut lost = Vec::new();
        for (id, source) in &mut self.sources {
            let error = source.reader.as_ref().and_then(ReaderThread::lost);
            if error.is_some() {
                source.lost = error;
                lost.push(*id);
            }
        }
        if lost.is_empty() {
            return;
        }
        for id in lost {
            self.end_reader(id);
            let state = &self.sources[&id].state;
            // At once, not when its interval has passed.
            self.watch.remove(id);
            self.watch
                .add(state.spec(), state.known(), &self.sources[&id].taken);
        }
        self.publish_sources();
    }

    /// Starts, or starts anew with more columns, the reader of a source that a view reads.
    pub(super) fn start_reader(&mut self, id: ObjectId) -> Result<()> {
        let wanted = self.wanted(id);
        let commands = self.commands.clone();
        let Some(source) = self.sources.get_mut(&id) else {
            return Ok(());
        };
        let has_columns = source.reader.is_some() || source.state.spec().is_embedded;
        if has_columns
            && wanted
                .iter()
                .all(|column| source.state.wanted().contains(column))
        {
            return Ok(());
        }
        source.state.want(wanted)?;
        if source.state.spec().is_embedded {
            return Ok(());
        }
        source.is_running = true;
        self.end_reader(id);
        let source = self.sources.get_mut(&id).expect("just looked");
        match source.topic {
            Topic::Same(_) => {}
            Topic::Unseen(_) => {
                // Reading begins when it has been seen.
                let known = source.state.known();
                self.watch.add(source.state.spec(), known, &source.taken);
                return Ok(());
            }
            Topic::Another(_) => return Ok(()),
        }
        let partitions: Vec<PartitionId> = source.state.partitions.keys().copied().collect();
        let ranges = source.state.ranges(&partitions);
        let wake = Arc::new(move || {
            // A full queue wakes the stepper all the same.
            let _ = commands.try_send(Command::Wake);
        });
        let decoded = source.state.decoded();
        source.reader = Some(ReaderThread::start(
            source.state.spec(),
            ranges,
            &decoded,
            &self.options.memory,
            wake,
        ));
        source.lost = None;
        Ok(())
    }

    /// Starts the reader of a source that has got partitions. What was queued is read again.
    pub(super) fn read_anew(&mut self, id: ObjectId) {
        self.end_reader(id);
        self.try_to_read(id);
    }

    /// Starts the reader, or says why there is none.
    pub(super) fn try_to_read(&mut self, id: ObjectId) {
        if let Err(error) = self.start_reader(id) {
            tracing::error!(source = id.0, %error, "a source cannot be read");
        }
    }

    /// Takes note of how a source's topic was found to be.
    pub(super) fn see(&mut self, id: ObjectId, sight: Sight) {
        self.note(id, sight);
        self.publish_sources();
    }

    fn note(&mut self, id: ObjectId, sight: Sight) {
        let Some(source) = self.sources.get_mut(&id) else {
            return;
        };
        // A look that was under way when the last view went.
        if !source.is_running || matches!(source.topic, Topic::Another(_)) {
            return;
        }
        let name = &source.state.spec().name;
        match sight {
            Sight::Same { found, taken } => {
                for (partition, from) in found {
                    let is_known = source.state.partitions.contains_key(&partition)
                        || source.found.iter().any(|(known, _)| *known == partition);
                    if !is_known {
                        tracing::info!(source = name, %partition, "a partition was found");
                        source.found.push((partition, from));
                    }
                }
                let is_first = matches!(source.topic, Topic::Unseen(_));
                source.topic = Topic::Same(taken);
                if is_first || source.lost.is_some() {
                    self.try_to_read(id);
                }
            }
            Sight::Away(error) => {
                if let Topic::Unseen(known) = &mut source.topic {
                    if known.as_ref() != Some(&error) {
                        tracing::warn!(source = name, %error, "a topic cannot be seen");
                    }
                    *known = Some(error);
                }
            }
            Sight::Another(error) => {
                tracing::error!(source = name, %error, "reading has ended");
                // What was read since the last look may be of either topic.
                let is_mixed = match &source.topic {
                    Topic::Same(taken) => *taken != source.taken.load(Ordering::Acquire),
                    Topic::Unseen(_) | Topic::Another(_) => false,
                };
                source.topic = Topic::Another(error.clone());
                source.lost = None;
                self.watch.remove(id);
                self.end_reader(id);
                if is_mixed && let Err(error) = self.fail_readers(id, &error) {
                    tracing::error!(%error, "views over another topic could not be ended");
                }
            }
        }
    }

    /// Shows the sources as they are now.
    pub(super) fn publish_sources(&self) {
        let shown = self.published.change(|change| {
            change.set_sources(self.source_status());
            change.set_table_times(self.table_times());
            Ok(())
        });
        shown.expect("showing the sources cannot fail");
    }

    /// The watermarks of the tables that tell time.
    pub(super) fn table_times(&self) -> BTreeMap<ObjectId, EventTime> {
        let clocks = self.table_clocks.iter();
        clocks.map(|(id, clock)| (*id, clock.watermark())).collect()
    }

    pub(super) fn source_status(&self) -> Vec<SourceStatus> {
        let status = |(id, source): (&ObjectId, &Source)| {
            let starts = (0..).zip(&source.logs);
            let start =
                |(partition, log): (u32, &LogWriter)| (PartitionId(partition), log.start_offset());
            SourceStatus {
                id: *id,
                connector: source.state.spec().connector_name,
                watermark: source.state.watermark(),
                follows_clock: source.is_running && source.state.follows_clock(),
                held: drift::held(source),
                partitions: source.state.partitions.clone(),
                is_embedded: source.state.spec().is_embedded,
                starts: starts.map(start).collect(),
                error: source.error(),
                reader: source.reader.as_ref().map(ReaderThread::handle),
            }
        };
        self.sources.iter().map(status).collect()
    }
}
