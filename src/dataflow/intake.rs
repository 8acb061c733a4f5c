//! What a step takes in: from queues and writes into its cut, and from there into deltas.
//!
//! ```text
//!   queues ─┐        ┌─ events: partitions idle, active, found
//!   writes ─┴─► cut ─┤  then time follows the clock where all is idle
//!                    └─ chunks in their order, then writes ─► a delta and bounds per collection
//! ```
//!
//! Rule: the cut alone, which the journal keeps, decides what comes of it: a replay makes the same
//! rows late, and leaves out the same ones as too far ahead of the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use crate::base::ObjectId;
use crate::base::limits::STEP_BYTES_MAX;
use crate::dataflow::drift;
use crate::dataflow::graph::CollectionDelta;
use crate::dataflow::idle::{idle_partitions, roused_partitions};
use crate::dataflow::panic::contained;
use crate::dataflow::source::error_row;
use crate::dataflow::stepper::{Changes, Cut, Stepper, Write};
use crate::delta::DeltaBatch;
use crate::error::{Error, Result};
use crate::operator::Bounds;
use crate::storage::Event;

impl Stepper {
    /// Takes what the inputs have queued, within the bounds of a step.
    pub(super) fn cut(&mut self, writes: Vec<(Write, Vec<u8>)>, is_mixed: bool) -> Result<Cut> {
        let clock_micros = self.now();
        let mut cut = Cut {
            epoch: self.epoch.next(),
            clock_micros,
            events: Vec::new(),
            chunks: Vec::new(),
            writes: Vec::new(),
            payloads: Vec::new(),
            appends: Vec::new(),
        };
        let active = self
            .sources
            .values()
            .filter(|source| source.reader.is_some())
            .count()
            .max(1);
        for (id, source) in &mut self.sources {
            let found = source.found.drain(..);
            cut.events
                .extend(found.map(|(partition, from)| Event::Found {
                    source: *id,
                    partition,
                    from,
                }));
            let mut chunks = Vec::new();
            if let Some(reader) = &source.reader {
                let most = (self.rows_budget / active, STEP_BYTES_MAX / active);
                chunks = drift::take(reader, &source.state, most, clock_micros)?;
                // Asked after the chunks were taken, so that none is from behind an interruption
                // that has not been seen: events come before all chunks of a step.
                source.is_unconfirmed |= reader.take_interruption();
            }
            let (source_id, roused) = (*id, roused_partitions(source));
            source.is_unconfirmed = false;
            cut.events
                .extend(roused.into_iter().map(|partition| Event::Active {
                    source: source_id,
                    partition,
                }));
            if chunks.is_empty() {
                let idle = idle_partitions(source, clock_micros).into_iter();
                cut.events.extend(idle.map(|partition| Event::Idle {
                    source: source_id,
                    partition,
                }));
            }
            let chunks = chunks.into_iter();
            cut.chunks.extend(chunks.map(|chunk| (source_id, chunk)));
        }
        self.cut_writes(writes, is_mixed, &mut cut)?;
        Ok(cut)
    }

    pub(super) fn take_event(&mut self, event: &Event) {
        let id = match event {
            Event::Idle { source, .. }
            | Event::Active { source, .. }
            | Event::Found { source, .. } => source,
        };
        // A source that was dropped in the meantime has no time.
        let Some(source) = self.sources.get_mut(id) else {
            return;
        };
        match *event {
            Event::Idle { partition, .. } => source.state.set_idle(partition, true),
            Event::Active { partition, .. } => source.state.set_idle(partition, false),
            Event::Found {
                partition, from, ..
            } => {
                source.state.add_partition(partition, from);
                self.watch.knows(*id, partition);
            }
        }
    }

    pub(super) fn take_chunks(
        &mut self,
        cut: &Cut,
        changes: &mut Changes,
    ) -> Result<BTreeMap<ObjectId, CollectionDelta>> {
        let mut failed: BTreeMap<ObjectId, Error> = BTreeMap::new();
        let mut inputs = BTreeMap::new();
        for (id, source) in &self.sources {
            let input = CollectionDelta::new(source.state.wanted().to_vec(), Bounds::unknown(0));
            inputs.insert(*id, input);
        }
        // Where rows come, they say what time it is.
        let told: BTreeSet<ObjectId> = cut.chunks.iter().map(|(id, _)| *id).collect();
        for (id, source) in &mut self.sources {
            match told.contains(id) {
                true => source.state.tell_clock(cut.clock_micros),
                false => source.state.follow_clock(cut.clock_micros),
            }
        }
        for (id, chunk) in &cut.chunks {
            // A source that was dropped in the meantime has no readers left.
            let Some(source) = self.sources.get_mut(id) else {
                continue;
            };
            source.taken.fetch_add(1, Ordering::Release);
            let clock_micros = cut.clock_micros;
            // Views that catch up do without the same rows.
            let is_failed = failed.contains_key(id);
            let without = match is_failed {
                true => Ok(None),
                false => contained(|| source.state.without_ahead(chunk, clock_micros)),
            };
            let chunk = without
                .as_ref()
                .ok()
                .and_then(Option::as_ref)
                .unwrap_or(chunk);
            for tee in source.tees.values_mut() {
                tee.push(chunk);
            }
            if is_failed {
                source.state.skip(chunk);
                continue;
            }
            let taken = without.as_ref().map(|_| ()).map_err(Error::clone);
            let taken = taken.and_then(|()| contained(|| source.state.take(chunk, clock_micros)));
            let taken = match taken {
                Ok(taken) => taken,
                Err(error) => {
                    let name = &source.state.spec().name;
                    tracing::error!(source = name, %error, "rows of a source cannot be taken");
                    let error = error.context(format!("rows of source \"{name}\""));
                    source.state.skip(chunk);
                    failed.insert(*id, error);
                    continue;
                }
            };
            let input = inputs.get_mut(id).expect("every source has an input");
            input.push(taken.delta, taken.bad_cells);
            if !taken.bad.is_empty() {
                let rows = taken.bad.iter();
                let rows = rows.map(|bad| error_row(bad, cut.clock_micros));
                changes.errors.push((*id, rows.collect()));
            }
        }
        for (id, source) in &self.sources {
            inputs
                .get_mut(id)
                .expect("every source has an input")
                .bounds = source.state.bounds();
        }
        // Without its rows nothing above a source is right any more.
        for (id, error) in failed {
            changes.failures.extend(self.take_out_readers(id, &error));
        }
        Ok(inputs)
    }

    pub(super) fn take_writes(
        &mut self,
        writes: Vec<Write>,
        inputs: &mut BTreeMap<ObjectId, CollectionDelta>,
        changes: &mut Changes,
    ) -> Result<()> {
        for (id, table) in &self.tables {
            let width = table.schema.fields().len();
            let input = CollectionDelta::new((0..width).collect(), Bounds::unknown(width));
            inputs.insert(*id, input);
        }
        let mut deltas: BTreeMap<ObjectId, Vec<DeltaBatch>> = BTreeMap::new();
        for write in writes {
            if self.tables.contains_key(&write.object) {
                deltas.entry(write.object).or_default().push(write.delta);
            }
        }
        for (id, parts) in deltas {
            let delta = crate::delta::concat(&self.tables[&id].schema, &parts)?;
            changes.deltas.push((id, delta.clone()));
            let delta = match self.table_clocks.get_mut(&id) {
                Some(clock) => clock.take(delta)?,
                None => delta,
            };
            let input = inputs.get_mut(&id).expect("every table has an input");
            input.deltas.push(delta);
        }
        for (id, clock) in &self.table_clocks {
            let input = inputs.get_mut(id).expect("every table has an input");
            input.bounds = clock.bounds();
        }
        Ok(())
    }
}
