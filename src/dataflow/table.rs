//! What time it is in a table that declares a WATERMARK.
//!
//! Rule: the rows of a transaction come at once. All of them have the watermark that stood before
//! it, and only then it rises to the greatest time among them; a removal tells time like an
//! insertion, though what it removes has told it already. So an UPDATE of many rows makes none of
//! them late, and neither does an INSERT of rows in no order.
//!
//! ```text
//!   WATERMARK FOR ts AS ts                     watermark of its rows    after it
//!   INSERT (1, 10:00:05), (2, 10:00:01)        −                        10:00:05
//!   INSERT (3, 10:00:02)                       10:00:05                 10:00:05
//!   UPDATE … SET ts = 10:00:09 WHERE id = 1    10:00:05, both           10:00:09
//! ```
//!
//! A view that is made later begins with the rows that are there, which are not judged: whatever is
//! not closed by the table's watermark goes on from there as in the views that have run.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::max;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::physical_expr::PhysicalExpr;

use crate::base::{EventTime, ObjectId};
use crate::delta::DeltaBatch;
use crate::error::Result;
use crate::operator::Bounds;
use crate::operator::evaluate::evaluate;
use crate::view::Identity;

/// A table: rows are written by users and kept.
#[derive(Clone, Debug)]
pub struct TableSpec {
    pub id: ObjectId,
    pub name: String,
    pub schema: SchemaRef,
    pub identity: Identity,
    /// The event time's column and the watermark's expression, over all columns.
    pub watermark: Option<(usize, Arc<dyn PhysicalExpr>)>,
}

/// A table's event time.
#[derive(Clone, Debug)]
pub struct TableClock {
    schema: SchemaRef,
    column: usize,
    expr: Arc<dyn PhysicalExpr>,

    watermark: EventTime,
}

impl TableClock {
    /// The clock of a table that declares one, before its first row.
    pub fn new(spec: &TableSpec) -> Option<TableClock> {
        let (column, expr) = spec.watermark.as_ref()?;
        Some(TableClock {
            schema: spec.schema.clone(),
            column: *column,
            expr: expr.clone(),
            watermark: EventTime::MIN,
        })
    }

    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// Puts back what a checkpoint has.
    pub fn restore(&mut self, watermark: EventTime) {
        self.watermark = watermark;
    }

    /// The rows of a transaction, of all columns, with the watermark that stood before it.
    ///
    /// # Errors
    /// Internal ones only: a row whose time cannot be computed tells none.
    pub fn take(&mut self, delta: DeltaBatch) -> Result<DeltaBatch> {
        let data_type = self.schema.field(self.column).data_type();
        let times = evaluate(&self.expr, data_type, delta.rows())?;
        let before = vec![self.watermark.0; delta.len()];
        let greatest = max(times.values.as_primitive::<TimestampMicrosecondType>());
        self.watermark = self
            .watermark
            .max(greatest.map_or(EventTime::MIN, EventTime));
        Ok(delta.with_watermarks(Some(before.into())))
    }

    /// For each column the least value that a later row can have and not be late.
    pub fn bounds(&self) -> Bounds {
        let mut bounds = Bounds::unknown(self.schema.fields().len());
        if self.watermark > EventTime::MIN {
            bounds.0[self.column] = Some(self.watermark);
        }
        bounds
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::TableReference;

    use super::*;
    use crate::dataflow::oracle::relation::{SECOND, batch, timestamp};
    use crate::plan::{Planner, plan_table, session_state};
    use crate::sql::parse_single;
    use crate::sql::statement::Statement;

    fn table(text: &str) -> TableSpec {
        let state = session_state();
        let resolve = |_: &TableReference| Ok(None);
        let Statement::CreateTable(create) = parse_single(text).unwrap().unwrap().statement else {
            panic!("{text}")
        };
        let planned = plan_table(&Planner::new(&state, &resolve), &create).unwrap();
        TableSpec {
            id: ObjectId(1),
            name: planned.name,
            schema: planned.schema,
            identity: Identity::Row,
            watermark: planned.watermark,
        }
    }

    /// The watermarks of a transaction with these seconds.
    fn take(clock: &mut TableClock, seconds: &[Option<i64>]) -> Vec<i64> {
        let time = |second: &Option<i64>| {
            let data_type = clock.schema.field(0).data_type();
            Arc::from([timestamp(data_type, second.map(|second| second * SECOND))])
        };
        let rows: Vec<_> = seconds.iter().map(time).collect();
        let delta = DeltaBatch::insertions(batch(&clock.schema, &rows));
        let taken = clock.take(delta).unwrap();
        let watermarks = taken.watermarks().unwrap().iter();
        watermarks.map(|each| each.div_euclid(SECOND)).collect()
    }

    #[test]
    fn a_transaction_is_judged_by_the_time_before_it() {
        let none = EventTime::MIN.0.div_euclid(SECOND);
        let text = "CREATE TABLE t (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2 seconds')";
        let mut clock = TableClock::new(&table(text)).unwrap();
        assert_eq!(clock.bounds(), Bounds::unknown(1));
        assert_eq!(take(&mut clock, &[Some(10), None, Some(5)]), [none; 3]);
        assert_eq!(clock.bounds().0, [Some(EventTime(8 * SECOND))]);
        assert_eq!(take(&mut clock, &[Some(1)]), [8]);
        assert_eq!(take(&mut clock, &[None]), [8], "and time does not go back");
        assert_eq!(take(&mut clock, &[Some(20), Some(30)]), [8, 8]);
        assert_eq!(clock.watermark(), EventTime(28 * SECOND));
        let mut restarted = TableClock::new(&table(text)).unwrap();
        restarted.restore(clock.watermark());
        assert_eq!(take(&mut restarted, &[Some(3)]), [28]);
    }

    #[test]
    fn a_table_without_a_watermark_tells_no_time() {
        assert!(TableClock::new(&table("CREATE TABLE t (ts TIMESTAMP)")).is_none());
    }
}
