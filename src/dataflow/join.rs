//! The stepper's side of a catch-up: what it hands out and keeps for it, and how it takes it in.
//!
//! Rule: from the first answer on nothing of the view's inputs is lost to it. The histories of
//! views and tables are pinned where the catch-up stands, which tells now and then how far it has
//! come; what sources take is copied to its tee.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::base::limits::HISTORY_BYTES_MAX;
use crate::base::{Epoch, ObjectId};
use crate::connector::Chunk;
use crate::dataflow::catch_up::{CatchUp, CatchUpStart, Inputs, SourceInput};
use crate::dataflow::late::late_store;
use crate::dataflow::stepper::Stepper;
use crate::dataflow::tee::Tee;
use crate::error::{Error, Result, SqlState};
use crate::view::History;

impl Stepper {
    /// The first answer to a catch-up: from here on nothing of its inputs is lost to it.
    pub(super) fn inputs(&mut self, start: &CatchUpStart) -> Result<Inputs> {
        let wanted = start.wanted();
        self.check_turn(start, &wanted)?;
        // What is being deleted of a topic is gone before the view looks where it begins.
        if self.trimmer.is_deleting() {
            return Err(
                Error::new(SqlState::OBJECT_IN_USE, "old rows of a topic are deleted").retryable(),
            );
        }
        let relations: Vec<ObjectId> = wanted
            .keys()
            .copied()
            .filter(|id| !self.sources.contains_key(id))
            .collect();
        let is_new = |id: &ObjectId| !start.since.contains_key(id);
        let new: Vec<ObjectId> = relations.iter().copied().filter(is_new).collect();
        let (_, snapshots) = self.published.snapshots(&new)?;
        for (id, since) in &start.since {
            self.published.changes_since(*id, *since)?;
        }
        let pins = self.catching_up.entry(start.id).or_default();
        pins.wanted = wanted.clone();
        let epoch = self.epoch;
        let since = |id: &ObjectId| start.since.get(id).copied().unwrap_or(epoch);
        let histories: Vec<_> = relations.iter().map(|id| (*id, since(id))).collect();
        pins.histories.clone_from(&histories);
        self.published.change(|change| {
            for (id, epoch) in histories {
                if let Some(history) = change.history(id) {
                    history.pin(epoch);
                }
            }
            Ok(())
        })?;
        let memory = self.options.memory.clone();
        let mut sources = BTreeMap::new();
        for id in wanted.keys().copied() {
            if !self.sources.contains_key(&id) {
                continue;
            }
            if self.runs(id) {
                self.start_reader(id)?;
                let source = self.sources.get_mut(&id).expect("just looked");
                source.tees.insert(start.id, Tee::new(&memory));
            }
            sources.insert(id, self.source_input(id, Vec::new(), false));
        }
        let snapshots = new.into_iter().zip(snapshots).collect();
        let clocks = self.table_clocks.iter();
        let tables = clocks.filter(|(id, _)| wanted.contains_key(id));
        Ok(Inputs {
            epoch,
            snapshots,
            sources,
            tables: tables.map(|(id, clock)| (*id, clock.clone())).collect(),
            clock_micros: self.clock_micros,
        })
    }

    /// Whether the view can begin now. It waits for an input that is being built itself, and for
    /// another view that is the first to read the same source.
    fn check_turn(
        &self,
        start: &CatchUpStart,
        wanted: &BTreeMap<ObjectId, Vec<usize>>,
    ) -> Result<()> {
        let waits = |input: &ObjectId| {
            let is_built = self.catching_up.iter().any(|(view, pins)| {
                *view != start.id && (view == input || pins.late == Some(*input))
            });
            let is_first_read = self.sources.contains_key(input)
                && !self.runs(*input)
                && self
                    .catching_up
                    .iter()
                    .any(|(view, pins)| *view != start.id && pins.wanted.contains_key(input));
            is_built || is_first_read
        };
        match wanted.keys().any(waits) {
            false => Ok(()),
            true => Err(
                Error::new(SqlState::OBJECT_IN_USE, "an input of the view is not ready")
                    .retryable(),
            ),
        }
    }

    /// Whether the running system has a position in the source.
    fn runs(&self, id: ObjectId) -> bool {
        self.sources
            .get(&id)
            .is_some_and(|source| source.is_running)
    }

    fn source_input(&self, id: ObjectId, chunks: Vec<Chunk>, has_overflowed: bool) -> SourceInput {
        let state = &self.sources[&id].state;
        SourceInput {
            spec: state.spec().clone(),
            running: self.runs(id).then(|| state.partitions.clone()),
            watermark: state.watermark(),
            counted: state.counted().clone(),
            chunks,
            has_overflowed,
        }
    }

    /// Hands over what the view's sources took since the last call.
    pub(super) fn drain(&mut self, view: ObjectId) -> Result<Inputs> {
        let ids: Vec<ObjectId> = match self.catching_up.get(&view) {
            Some(pins) => pins.wanted.keys().copied().collect(),
            None => return Err(Error::internal("a view drains that is not catching up")),
        };
        let mut sources = BTreeMap::new();
        for id in ids {
            let Some(source) = self.sources.get_mut(&id) else {
                let is_view = self.views.contains_key(&id) || self.keeps_late_rows_in(id);
                if is_view || self.tables.contains_key(&id) {
                    continue;
                }
                return Err(Error::new(
                    SqlState::UNDEFINED_TABLE,
                    "an input of the view was dropped or has failed while it was built",
                ));
            };
            let tee = source.tees.get_mut(&view).map(Tee::take);
            let (chunks, has_overflowed) =
                tee.map_or_else(Default::default, |tee| (tee.chunks, tee.has_overflowed));
            sources.insert(id, self.source_input(id, chunks, has_overflowed));
        }
        Ok(Inputs {
            epoch: self.epoch,
            snapshots: BTreeMap::new(),
            sources,
            tables: BTreeMap::new(),
            clock_micros: self.clock_micros,
        })
    }

    /// Takes note of how far a catch-up has followed views and tables: what came before is not kept
    /// for it any more.
    pub(super) fn followed(&mut self, view: ObjectId, reached: &BTreeMap<ObjectId, Epoch>) {
        let Some(pins) = self.catching_up.get_mut(&view) else {
            return;
        };
        let moved = self.published.change(|change| {
            for (id, pinned) in &mut pins.histories {
                let (Some(to), Some(history)) = (reached.get(id), change.history(*id)) else {
                    continue;
                };
                history.pin(*to);
                history.unpin(*pinned);
                *pinned = *to;
            }
            Ok(())
        });
        moved.expect("moving pins cannot fail");
    }

    /// Lets go of what was kept for a catch-up.
    pub(super) fn release(&mut self, view: ObjectId) {
        let Some(pins) = self.catching_up.remove(&view) else {
            return;
        };
        let _ = self.published.change(|change| {
            for (id, epoch) in pins.histories {
                if let Some(history) = change.history(id) {
                    history.unpin(epoch);
                }
            }
            Ok(())
        });
        for source in self.sources.values_mut() {
            source.tees.remove(&view);
        }
        self.stop_unread_sources();
        // Its thread has sent its last message; joining it is a matter of microseconds.
        if let Some(thread) = pins.thread
            && thread.join().is_err()
        {
            tracing::error!("a catch-up panicked");
        }
    }

    /// Brings a view over the last rows and makes it one of the running; the answer waits for the
    /// checkpoint that holds its state.
    pub(super) fn join(&mut self, mut catch_up: CatchUp, done: oneshot::Sender<Result<Epoch>>) {
        let (id, progress) = (catch_up.start.id, catch_up.start.progress.clone());
        // Closed here; deleted when a checkpoint of the running dataflows has the view.
        catch_up.unfinished = None;
        let keeping = catch_up.start.keeping.take();
        let unfinished = keeping.map(|keeping| keeping.directory);
        let joined = self
            .finish(&mut catch_up)
            .and_then(|()| self.adopt(catch_up));
        self.release(id);
        match joined {
            Ok(()) => self.checkpointer.request_for(progress, unfinished, done),
            Err(error) => {
                progress.fail(error.clone());
                let gone = self.take_view(id);
                let _ = self.published.change(|change| {
                    gone.into_iter().for_each(|id| change.remove(id));
                    Ok(())
                });
                let _ = done.send(Err(error));
            }
        }
    }

    fn finish(&mut self, catch_up: &mut CatchUp) -> Result<()> {
        catch_up.start.progress.check()?;
        let inputs = self.drain(catch_up.start.id)?;
        if inputs.sources.values().any(|source| source.has_overflowed) {
            return Err(Error::internal("the last rows of a catch-up did not fit"));
        }
        catch_up.queue(inputs);
        let published = self.published.clone();
        catch_up.follow_relations(&published, Some(self.epoch))?;
        catch_up.feed_pending()?;
        for (id, source) in &catch_up.sources {
            // It ran when this began and stopped since: then nothing was kept for this view.
            if catch_up.is_running[id] && !self.runs(*id) {
                return Err(Error::internal(
                    "a source stopped while a view was built on it",
                ));
            }
            let is_running = catch_up.is_running[id];
            if !is_running && self.runs(*id) {
                return Err(Error::new(
                    SqlState::OBJECT_IN_USE,
                    "another view began to read the same source at the same time",
                )
                .hint("create the view again"));
            }
            if !is_running {
                let source_state = &mut self.sources.get_mut(id).expect("drained").state;
                let time = (source.watermark(), source.followed_micros());
                source_state.restore(source.partitions.clone(), time);
            }
        }
        Ok(())
    }

    fn adopt(&mut self, catch_up: CatchUp) -> Result<()> {
        let id = catch_up.start.id;
        let epoch = self.epoch;
        let scanned: Vec<ObjectId> = catch_up.sources.keys().copied().collect();
        for (id, state) in &catch_up.sources {
            let Some(source) = self.sources.get_mut(id) else {
                continue;
            };
            source.state.add_counted(state.counted());
            for (partition, bad) in catch_up.news.get(id).into_iter().flat_map(|news| &news.bad) {
                if let Some(partition) = source.state.partitions.get_mut(partition) {
                    partition.bad += bad;
                }
            }
        }
        let CatchUp {
            mut dataflow,
            store,
            counts,
            errors,
            start,
            clock_micros,
            ..
        } = catch_up;
        dataflow.set_building(false);
        // The clock does not go back for what the catch-up has let in or out by it.
        self.clock_micros = self.now().max(clock_micros);
        self.shown_at = self.options.clock.steady_micros();
        let bytes = dataflow.state_bytes();
        let metrics = dataflow.metrics().clone();
        let late = late_store(&dataflow)?;
        self.views.insert(id, dataflow);
        self.published.change(|change| {
            if let Some((id, store)) = late {
                change.add(id, Some(store), History::new(epoch, HISTORY_BYTES_MAX));
            }
            change.add(id, Some(store), History::new(epoch, HISTORY_BYTES_MAX));
            change.watch(id, metrics);
            change.set_gaps(id, start.progress.gaps());
            change.count(id, &counts, bytes);
            for (object, rows) in errors {
                change.record_errors(object, rows);
            }
            change.account(&start.memory);
            Ok(())
        })?;
        self.is_step_due = true;
        scanned
            .into_iter()
            .try_for_each(|source| self.start_reader(source))
    }
}
