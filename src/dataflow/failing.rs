//! Views that fail: they go, with the views above them, and the others run on.
//!
//! ```text
//!   source ─► a ─► b      a fails: a and b are taken out and say why; c runs on
//!         └─► c
//! ```

use std::collections::BTreeMap;

use crate::base::ObjectId;
use crate::dataflow::graph::Dataflow;
use crate::dataflow::stepper::Stepper;
use crate::error::{Error, Result, SqlState};

impl Stepper {
    /// Takes views out of the running ones, with those above them; returns what each is to say.
    #[must_use = "whoever reads a view is told that it has failed"]
    pub(super) fn take_out(&mut self, causes: BTreeMap<ObjectId, Error>) -> Vec<(ObjectId, Error)> {
        let failing = failing(&self.views, &causes);
        for (id, _) in &failing {
            self.views.remove(id);
            self.checkpointer.forget(*id);
        }
        failing
    }

    /// As [`Stepper::take_out`], of every view that reads a source.
    pub(super) fn take_out_readers(
        &mut self,
        source: ObjectId,
        cause: &Error,
    ) -> Vec<(ObjectId, Error)> {
        let reads = |view: &Dataflow| view.plan().scans().any(|scan| scan.object == source);
        let views = self.views.iter().filter(|(_, view)| reads(view));
        let causes = views.map(|(id, _)| (*id, cause.clone())).collect();
        self.take_out(causes)
    }

    /// Takes every view that reads the source out of the running ones, between two steps.
    pub(super) fn fail_readers(&mut self, source: ObjectId, cause: &Error) -> Result<()> {
        let failing = self.take_out_readers(source, cause);
        self.published.change(|change| {
            for (id, error) in failing {
                change.fail(id, error);
            }
            Ok(())
        })
    }

    /// Whether the object is the relation of a running view's late rows.
    pub(super) fn keeps_late_rows_in(&self, id: ObjectId) -> bool {
        let mut plans = self.views.values().map(Dataflow::plan);
        plans.any(|plan| plan.late.as_ref().is_some_and(|late| late.object == id))
    }

    /// Takes a view out of the running ones; its relation and that of its late rows.
    pub(super) fn take_view(&mut self, id: ObjectId) -> Vec<ObjectId> {
        let view = self.views.remove(&id);
        let late = view.and_then(|view| Some(view.plan().late.as_ref()?.object));
        let gone: Vec<ObjectId> = std::iter::once(id).chain(late).collect();
        gone.iter().for_each(|id| self.checkpointer.forget(*id));
        gone
    }
}

/// The views that fail with these, and the relations of their late rows, each with its cause; by
/// id, so each after those it reads.
pub(super) fn failing(
    views: &BTreeMap<ObjectId, Dataflow>,
    causes: &BTreeMap<ObjectId, Error>,
) -> Vec<(ObjectId, Error)> {
    let mut failing: BTreeMap<ObjectId, Error> = causes.clone();
    // A view is newer than what it reads.
    for (id, view) in views {
        let mut scans = view.plan().scans();
        let failed = scans.find(|scan| failing.contains_key(&scan.object));
        if let Some(scan) = failed {
            let error = input_has_failed(&scan.name);
            failing.entry(*id).or_insert(error);
        }
        if let (Some(cause), Some(late)) = (failing.get(id).cloned(), &view.plan().late) {
            failing.insert(late.object, cause);
        }
    }
    failing.into_iter().collect()
}

pub(super) fn input_has_failed(name: &str) -> Error {
    Error::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("its input \"{name}\" has failed"),
    )
}
