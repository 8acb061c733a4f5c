//! Checkpoints of a view that is being built, so that a restart goes on with it.
//!
//! ```text
//!   catch-up   reads ── checkpoint ── reads ── checkpoint ── reads …  kill
//!   restart    state, rows, positions of the last one ─► reads on from there, as if nothing was
//! ```
//!
//! They are taken by the catch-up's own thread while it reads its sources: the rows of the
//! relations below it are in by then, and what changed there since is asked of their histories,
//! which outlive a restart too. If such a history does not reach back, or the plan is another one,
//! the view is built from the beginning. Positions never pass those of the running sources, because
//! a catch-up is only handed what a committed step took.
//!
//! Only views whose definition is on disk have checkpoints: others do not outlive the server. They
//! are deleted when a checkpoint of the running dataflows has the view.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::{Epoch, EventTime, ObjectId};
use crate::dataflow::checkpoint::{
    Contents, STORE_PLACE, SourceMeta, fingerprint, load, put_back, write,
};
use crate::dataflow::graph::Dataflow;
use crate::dataflow::handover::Entry;
use crate::dataflow::news::News;
use crate::error::{Error, Result, SqlState};
use crate::operator::{Counts, Scope};
use crate::plan::StreamPlan;
use crate::storage::CheckpointStore;
use crate::view::Store;

/// Where and how often.
#[derive(Clone)]
pub(super) struct Keeping {
    pub directory: PathBuf,
    pub interval_micros: i64,
}

/// The checkpoints of one view.
pub(super) struct Unfinished {
    id: ObjectId,
    store: CheckpointStore,
    interval_micros: i64,
    due_micros: i64,
    /// What the next one writes: everything, until one is there.
    scope: Scope,
}

/// How far a catch-up has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Reached {
    version: u32,
    plan: String,
    shards: usize,
    pub steps: u64,
    /// The clock of the last step.
    pub clock_micros: i64,
    pub records_done: u64,
    rows_late: u64,
    rows_late_partly: u64,
    retractions_late: u64,
    rows_failed: u64,
    rows_expired: u64,
    #[serde(default)]
    rows_evicted: u64,
    pub sources: BTreeMap<ObjectId, SourceMeta>,
    pub relations: BTreeMap<ObjectId, Epoch>,
    /// The watermarks of tables.
    #[serde(default)]
    pub tables: BTreeMap<ObjectId, EventTime>,
    pub news: BTreeMap<ObjectId, News>,
}

/// A view as far as it was built before a restart.
pub(super) struct Resumed {
    pub dataflow: Dataflow,
    pub store: Store,
    pub reached: Reached,
}

/// The bytes-on-disk version of [`Reached`].
const VERSION: u32 = 2;

impl Reached {
    pub fn new(dataflow: &Dataflow, steps: u64, records_done: u64, counts: &Counts) -> Reached {
        Reached {
            version: VERSION,
            plan: fingerprint(dataflow.plan()),
            shards: dataflow.shards(),
            steps,
            clock_micros: i64::MIN,
            records_done,
            rows_late: counts.rows_late,
            rows_late_partly: counts.rows_late_partly,
            retractions_late: counts.retractions_late,
            rows_failed: counts.rows_failed,
            rows_expired: counts.rows_expired,
            rows_evicted: counts.rows_evicted,
            sources: BTreeMap::new(),
            relations: BTreeMap::new(),
            tables: BTreeMap::new(),
            news: BTreeMap::new(),
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            rows_late: self.rows_late,
            rows_late_partly: self.rows_late_partly,
            retractions_late: self.retractions_late,
            rows_failed: self.rows_failed,
            rows_expired: self.rows_expired,
            rows_evicted: self.rows_evicted,
        }
    }
}

impl Unfinished {
    /// Opens a view's checkpoints; what they hold of it, if it is of the same plan.
    pub fn open(
        keeping: &Keeping,
        id: ObjectId,
        plan: &StreamPlan,
        now_micros: i64,
    ) -> Result<(Unfinished, Option<Resumed>)> {
        match find(keeping, id, plan) {
            Ok(Some((store, resumed))) => {
                let unfinished = Unfinished {
                    id,
                    store,
                    interval_micros: keeping.interval_micros,
                    due_micros: now_micros.saturating_add(keeping.interval_micros),
                    scope: Scope::Changed,
                };
                return Ok((unfinished, Some(resumed)));
            }
            Err(error) if error.state() == SqlState::DATA_CORRUPTED => {
                tracing::warn!(view = id.0, %error, "a view is built from the beginning");
            }
            Ok(None) => {}
            Err(error) => return Err(error),
        }
        Ok((Unfinished::create(keeping, id, now_micros)?, None))
    }

    /// Begins a view's checkpoints; what was there is gone.
    pub fn create(keeping: &Keeping, id: ObjectId, now_micros: i64) -> Result<Unfinished> {
        CheckpointStore::delete(&keeping.directory)?;
        let (store, _) = CheckpointStore::open(&keeping.directory)?;
        Ok(Unfinished {
            id,
            store,
            interval_micros: keeping.interval_micros,
            due_micros: now_micros.saturating_add(keeping.interval_micros),
            scope: Scope::All,
        })
    }

    pub fn is_due(&self, now_micros: i64) -> bool {
        now_micros >= self.due_micros
    }

    /// Writes what changed since the last one.
    pub fn write(
        &mut self,
        dataflow: &mut Dataflow,
        rows: &mut Store,
        reached: &Reached,
        now_micros: i64,
    ) -> Result<()> {
        self.due_micros = now_micros.saturating_add(self.interval_micros);
        let (id, scope) = (self.id, self.scope);
        let mut entries: Vec<Entry> = Vec::new();
        for state in dataflow.changes(scope)? {
            let place = (state.operator, state.shard);
            entries.push(Entry::new(id, place, scope, state.change));
        }
        self.scope = Scope::Changed;
        let meta = serde_json::to_value(reached)
            .map_err(|error| Error::internal(format!("a view's description: {error}")))?;
        for change in rows.changes(scope)? {
            entries.push(Entry::new(id, STORE_PLACE, scope, change));
        }
        let contents = Contents {
            whole: BTreeSet::from_iter((scope == Scope::All).then_some(id)),
            dropped: BTreeSet::new(),
            entries: entries.into_iter().map(Ok),
        };
        write(&self.store, Epoch(reached.steps), contents, meta).map(drop)
    }
}

/// What there is of a view of this plan.
fn find(
    keeping: &Keeping,
    id: ObjectId,
    plan: &StreamPlan,
) -> Result<Option<(CheckpointStore, Resumed)>> {
    let (store, manifest) = CheckpointStore::open(&keeping.directory)?;
    let Some(manifest) = manifest else {
        return Ok(None);
    };
    let reached: Option<Reached> = serde_json::from_value(manifest.meta().clone()).ok();
    let is_ours =
        |reached: &Reached| reached.version == VERSION && reached.plan == fingerprint(plan);
    let Some(reached) = reached.filter(is_ours) else {
        return Ok(None);
    };
    let changes = load(&store, &manifest, id)?;
    let (dataflow, rows) = put_back(plan, reached.shards, changes)?;
    let resumed = Resumed {
        dataflow,
        store: rows,
        reached,
    };
    Ok(Some((store, resumed)))
}
