//! Rows that leave a view by their age.
//!
//! Rule: after each step the view has no row whose time is before W − retention, where W is the
//! bound of the time's column: the least time that a later change of the view can have.
//!
//! ```text
//!   retention 10 s        W    rows           out to those who follow
//!   +(10) +(25)           20   10 25          +(10) +(25)
//!   +(12)                 21   25             −(10)                    (12) never appears
//!   mode 'forget'         21   25             +(12)                    as if nothing ever left
//! ```
//!
//! State: none of its own. The rows are in the view's store, which finds old ones by their chunk;
//! operators have let go of them when their window closed. No later change is below W, so what has
//! left is never spoken of again.
//!
//! Under 'retract' the removals are part of the step's change, for views above and subscribers. A
//! row that is too old when it comes is not in the change at all: in how many steps time went on
//! does not show in what is there in the end, nor in the count of rows that are gone. Under
//! 'forget' the change is what it would be without retention, and only the rows are fewer.

use arrow::array::{Array, BooleanArray};

use crate::dataflow::graph::{Dataflow, DataflowOutput};
use crate::delta::{DeltaBatch, concat, consolidate};
use crate::error::Result;
use crate::operator::Bounds;
use crate::operator::rows::micros;
use crate::plan::{RetentionMode, StreamPlan};
use crate::view::Store;

/// What a step does to the rows of a view with retention.
#[derive(Debug)]
pub struct Aged {
    /// Rows before this time leave.
    pub before: i64,
    /// The step's change without those.
    pub kept: Option<DeltaBatch>,
}

/// The rows of a new view.
pub fn view_store(plan: &StreamPlan) -> Result<Store> {
    let store = Store::new(plan.schema.clone(), plan.identity())?;
    Ok(match &plan.retention {
        None => store,
        Some(retention) => store.with_ages(retention.column),
    })
}

/// Takes what is too old out of a step's change, and puts the removal of what has become so into
/// it. `rows_before` gives the view's rows before a time, as of the step before, as removals.
pub fn age(
    dataflow: &Dataflow,
    output: &mut DataflowOutput,
    rows_before: impl FnOnce(i64) -> Result<Vec<DeltaBatch>>,
) -> Result<()> {
    let plan = dataflow.plan();
    let Some(retention) = plan.retention else {
        return Ok(());
    };
    let Some(bound) = dataflow.bounds().0[retention.column] else {
        return Ok(());
    };
    let before = bound.0.saturating_sub(retention.micros);
    let mut gone = rows_before(before)?;
    let weight = |delta: &DeltaBatch| delta.explicit_weights().iter().sum::<i64>();
    let mut expired = -gone.iter().map(weight).sum::<i64>();
    let change = output.delta.take();
    let kept = match &change {
        None => None,
        Some(delta) => {
            let times = micros(delta.rows().column(retention.column));
            let stays = |row: usize| !times.is_valid(row) || times.value(row) >= before;
            let stays: BooleanArray = (0..delta.len()).map(|row| Some(stays(row))).collect();
            match stays.true_count() == delta.len() {
                true => Some(delta.clone()),
                false => {
                    let kept = delta.filter(&stays)?;
                    expired += weight(delta) - weight(&kept);
                    (!kept.is_empty()).then_some(kept)
                }
            }
        }
    };
    // A removal of what has left already takes nothing out.
    output.counts.rows_expired += u64::try_from(expired).unwrap_or(0);
    output.delta = match retention.mode {
        RetentionMode::Forget => change,
        RetentionMode::Retract if gone.is_empty() => kept.clone(),
        RetentionMode::Retract => {
            gone.extend(kept.clone().map(|kept| kept.with_origins(None)));
            let delta = concat(&plan.schema, &gone)?;
            // A change says each row once; rows of different keys differ.
            Some(match plan.key {
                Some(_) => delta,
                None => consolidate(&delta)?,
            })
        }
    };
    output.aged = Some(Aged { before, kept });
    Ok(())
}

/// Applies a step's change to the rows of a view.
pub fn apply(store: &mut Store, output: &DataflowOutput) -> Result<()> {
    let change = match &output.aged {
        None => &output.delta,
        Some(aged) => {
            store.take_before(aged.before)?;
            &aged.kept
        }
    };
    change.as_ref().map_or(Ok(()), |delta| store.apply(delta))
}

/// The bounds of the view's columns for those above it. What is retracted by age is below them.
pub fn bounds(dataflow: &Dataflow) -> Bounds {
    let bounds = dataflow.bounds();
    match dataflow.plan().retention {
        Some(retention) if retention.mode == RetentionMode::Retract => {
            Bounds::unknown(bounds.0.len())
        }
        _ => bounds.clone(),
    }
}
