//! The late rows of a view as a relation: with event time, watermark, weight and reason.
//!
//! A late row is put in once, in the step that judged it; what is kept is bounded, and the rows
//! that came at the least watermark go first. Each is a row of weight one: what its weight was is
//! in the column `diff`, −1 for what a late UPDATE or DELETE would have taken back.
//!
//! ```text
//!   judged             -1  7  300  09:00:01   @09:00:10
//!   relation           +1  event_time 09:00:01  watermark 09:00:10  diff -1  reason …  7  300  …
//! ```

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};

use crate::base::limits::{LATE_BYTES_MAX, LATE_ROWS_MAX};
use crate::base::{Epoch, ObjectId};
use crate::dataflow::graph::Dataflow;
use crate::delta::{DeltaBatch, arrow_error};
use crate::error::{Error, Result};
use crate::operator::recent::{Recent, RecentSpec};
use crate::operator::{Bounds, LateRows, Operator, Output, Scope, Step, TableChange};
use crate::plan::{LateInput, LatePlan};
use crate::view::{Identity, Store};

/// Late rows as a relation.
pub(super) struct LateRelation {
    plan: LatePlan,
    recent: Recent,
}

impl LateRelation {
    pub fn new(plan: LatePlan) -> Result<LateRelation> {
        let recent = Recent::new(RecentSpec {
            input: plan.schema.clone(),
            // Watermarks rise with what comes, whatever the steps; then the event time.
            order: vec![1, 0],
            rows_max: LATE_ROWS_MAX,
            bytes_max: LATE_BYTES_MAX,
        })?;
        Ok(LateRelation { plan, recent })
    }

    /// Takes in what operators judged late in a step; the relation's change.
    pub fn step(&mut self, late: &[(usize, LateRows)]) -> Result<Option<DeltaBatch>> {
        let mut out = Output::default();
        for (node, rows) in late {
            let input = self.plan.inputs.iter().find(|input| input.node == *node);
            if let Some(input) = input {
                let batch = self.batch(input, rows)?;
                self.recent.push(0, batch, &mut out)?;
            }
        }
        let step = Step {
            epoch: Epoch::ZERO,
            clock_micros: 0,
            bounds: vec![Bounds::unknown(self.plan.schema.fields().len())],
        };
        self.recent.finish(&step, &mut out)?;
        Ok(out.deltas.pop())
    }

    /// The rows in the relation's shape.
    fn batch(&self, input: &LateInput, late: &LateRows) -> Result<DeltaBatch> {
        let rows = late.rows.rows();
        let watermarks = late.rows.watermarks();
        let watermarks = watermarks.ok_or_else(|| Error::internal("a late row has a watermark"))?;
        let times = |values: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
        };
        let weights = late.rows.explicit_weights();
        let reasons = weights.iter().map(|&weight| match weight > 0 {
            true => input.reasons.came,
            false => input.reasons.left,
        });
        let fields = self.plan.schema.fields();
        let mut columns: Vec<ArrayRef> = vec![
            times(late.event_times.clone()),
            times(watermarks.to_vec()),
            Arc::new(Int64Array::from(weights.to_vec())),
            Arc::new(StringArray::from_iter_values(reasons)),
        ];
        for (place, field) in fields.iter().enumerate().skip(columns.len()) {
            let column = input.columns.iter().position(|at| *at == place);
            columns.push(match column {
                Some(column) => rows.column(column).clone(),
                None => new_null_array(field.data_type(), rows.num_rows()),
            });
        }
        let rows = RecordBatch::try_new(self.plan.schema.clone(), columns).map_err(arrow_error)?;
        Ok(DeltaBatch::insertions(rows))
    }

    /// Everything that is in it.
    pub fn snapshot(&self) -> Result<DeltaBatch> {
        self.recent.snapshot()
    }

    pub fn state_bytes(&self) -> usize {
        self.recent.state_bytes()
    }

    /// See [`Operator::freeze`].
    pub fn freeze(&mut self, scope: Scope) -> Result<()> {
        self.recent.freeze(scope)
    }

    pub fn thaw(&mut self) -> Result<Option<TableChange>> {
        self.recent.thaw(LATE_ROWS_MAX)
    }

    pub fn restore(&mut self, change: TableChange) -> Result<()> {
        self.recent.restore(change)
    }
}

/// The relation of a view's late rows as readers see it, with its object.
pub(super) fn late_store(dataflow: &Dataflow) -> Result<Option<(ObjectId, Store)>> {
    let (Some(plan), Some(rows)) = (&dataflow.plan().late, dataflow.late_rows()?) else {
        return Ok(None);
    };
    let mut store = Store::new(plan.schema.clone(), Identity::Row)?;
    store.apply(&rows)?;
    Ok(Some((plan.object, store)))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;

    use super::*;
    use crate::delta::notation::{parse, print};
    use crate::plan::Reasons;
    use crate::types::SqlType;

    #[test]
    fn rows_of_different_shapes_come_together() {
        let schema = Schema::new(vec![
            SqlType::Timestamptz.to_field("event_time", false),
            SqlType::Timestamptz.to_field("watermark", false),
            SqlType::BigInt.to_field("diff", false),
            SqlType::Text.to_field("reason", false),
            SqlType::BigInt.to_field("a", true),
            SqlType::Text.to_field("b", true),
        ]);
        let mut late = LateRelation::new(LatePlan {
            object: ObjectId(1),
            schema: Arc::new(schema),
            inputs: vec![
                LateInput {
                    node: 1,
                    columns: vec![4],
                    reasons: Reasons::WINDOW_CLOSED,
                },
                LateInput {
                    node: 3,
                    columns: vec![5, 4],
                    reasons: Reasons::BEHIND_WATERMARK,
                },
            ],
        })
        .unwrap();
        let rows = |text: &str| LateRows {
            rows: parse(text),
            event_times: vec![1_000_000],
        };
        let delta = late.step(&[
            (1, rows("a:bigint\n- @2000000 7")),
            (2, rows("a:bigint\n+ @2000000 8")),
            (3, rows("b:text a:bigint\n+2 @3000000 x 9")),
        ]);
        let text = print(&delta.unwrap().unwrap());
        let found: Vec<&str> = text.lines().collect();
        assert_eq!(found.len(), 2, "{text}");
        let is_back = |line: &&str| line.contains(" -1 ") && line.contains(" 7 NULL");
        let is_there = |line: &&str| line.contains(" 2 ") && line.contains(" 9 x");
        assert!(
            found.iter().any(is_back) && found.iter().any(is_there),
            "{text}"
        );
        assert!(text.contains("window") && text.contains("behind the watermark"));
        assert!(late.step(&[]).unwrap().is_none());
        assert_eq!(print(&late.snapshot().unwrap()), text);
    }
}
