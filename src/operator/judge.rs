//! Judges which rows of a source are late, for an operator that has no windows to judge by.
//!
//! Rule: a row is late when its time is below `W - lateness`, W being the watermark that stood
//! before the row. Late rows are counted and put out aside; the others pass.
//!
//! ```text
//!   lateness 5      ts
//!                +  12  W 10     ─────────► +  12
//!                +   7  W 12     ─────────► +   7
//!                +   6  W 12     ─────────► Output.late
//! ```
//!
//! State: none. A row whose time is NULL is an error row.
//!
//! Bounds: the time column has that of the input, held back by the lateness: rows behind W may
//! still pass, so that no other column has one.

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::{is_not_null, is_null, not};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMicrosecondType};

use crate::delta::{DeltaBatch, arrow_error};
use crate::error::{Error, Result};
use crate::operator::evaluate::{Failure, report};
use crate::operator::{Bounds, LateRows, Operator, Output, Step};

/// What a [`Judge`] goes by.
#[derive(Clone, Debug)]
pub struct JudgeSpec {
    pub input: SchemaRef,
    /// The event time of the source: a timestamp in microseconds.
    pub time_column: usize,
    /// How far behind the watermark a row may be, microseconds.
    pub lateness_micros: i64,
}

/// Takes late rows out.
pub struct Judge {
    spec: JudgeSpec,
}

impl Judge {
    /// # Errors
    /// Internal, when the time column is not one or the lateness is negative.
    pub fn new(spec: JudgeSpec) -> Result<Judge> {
        let data_type = spec.input.field(spec.time_column).data_type();
        let is_time = matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _));
        match is_time && spec.lateness_micros >= 0 {
            true => Ok(Judge { spec }),
            false => Err(Error::internal(format!(
                "rows judged by {data_type}, {} late",
                spec.lateness_micros
            ))),
        }
    }

    /// The rows that have a time; the others go to the errors.
    fn timed(&self, batch: DeltaBatch, out: &mut Output) -> Result<DeltaBatch> {
        let times = batch.rows().column(self.spec.time_column);
        if times.null_count() == 0 {
            return Ok(batch);
        }
        let is_missing = is_null(times).map_err(arrow_error)?;
        let missing = is_missing.values().set_indices().map(|row| Failure {
            row: u32::try_from(row).expect("a batch has fewer than 2^32 rows"),
            reason: "event time is NULL".to_string(),
        });
        report(&batch, &missing.collect::<Vec<_>>(), out)?;
        batch.filter(&is_not_null(times).map_err(arrow_error)?)
    }
}

impl Operator for Judge {
    fn push(&mut self, port: usize, batch: DeltaBatch, out: &mut Output) -> Result<()> {
        assert_eq!(port, 0, "rows are judged of one input");
        let batch = self.timed(batch, out)?;
        let Some(watermarks) = batch.watermarks().cloned() else {
            out.emit(batch);
            return Ok(());
        };
        let times = batch.rows().column(self.spec.time_column);
        let times = times.as_primitive::<TimestampMicrosecondType>().values();
        let lateness = self.spec.lateness_micros;
        let is_in = |(time, watermark): (&i64, &i64)| *time >= watermark.saturating_sub(lateness);
        let mask: Vec<bool> = times.iter().zip(watermarks.iter()).map(is_in).collect();
        let mask = BooleanArray::from(mask);
        let kept = match mask.false_count() {
            0 => batch,
            _ => {
                let is_late = not(&mask).map_err(arrow_error)?;
                put_out_late(&batch, &is_late, self.spec.time_column, out)?;
                batch.filter(&mask)?
            }
        };
        out.emit(kept.with_watermarks(None));
        Ok(())
    }

    fn finish(&mut self, _step: &Step, _out: &mut Output) -> Result<()> {
        Ok(())
    }

    fn bounds(&self, step: &Step) -> Bounds {
        let mut bounds = Bounds::unknown(self.spec.input.fields().len());
        let back = Some(self.spec.lateness_micros.saturating_neg());
        let time = step.bounds[0].0[self.spec.time_column];
        bounds.0[self.spec.time_column] = time.and_then(|time| time.moved(back));
        bounds
    }
}

/// Counts the rows that are late and puts them out aside.
pub(super) fn put_out_late(
    batch: &DeltaBatch,
    is_late: &BooleanArray,
    time_column: usize,
    out: &mut Output,
) -> Result<()> {
    let rows = batch.filter(is_late)?;
    if rows.is_empty() {
        return Ok(());
    }
    for row in 0..rows.len() {
        match rows.weights().get(row) {
            weight @ 0.. => out.counts.rows_late += weight.unsigned_abs(),
            weight => out.counts.retractions_late += weight.unsigned_abs(),
        }
    }
    let times = rows.rows().column(time_column);
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let event_times = times.values().to_vec();
    out.late.push(LateRows { rows, event_times });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Epoch, EventTime};
    use crate::delta::notation::{parse, print};

    fn judge(lateness_micros: i64) -> Judge {
        let spec = JudgeSpec {
            input: parse("t:timestamp a:bigint").schema(),
            time_column: 0,
            lateness_micros,
        };
        Judge::new(spec).unwrap()
    }

    fn input(watermarks: [i64; 5]) -> DeltaBatch {
        let batch = parse(
            "t:timestamp a:bigint
             + 1970-01-01T00:00:12 1
             + 1970-01-01T00:00:07 2
             - 1970-01-01T00:00:06 3
             +3 1970-01-01T00:00:06 4
             + NULL 5",
        );
        let watermarks = watermarks.map(|second| second * 1_000_000).to_vec();
        batch.with_watermarks(Some(watermarks.into()))
    }

    #[test]
    fn rows_behind_the_watermark_by_more_than_the_lateness_are_late() {
        let mut out = Output::default();
        let mut judge = judge(5_000_000);
        judge.push(0, input([10, 12, 12, 12, 0]), &mut out).unwrap();
        assert_eq!(out.deltas.len(), 1);
        assert_eq!(out.deltas[0].len(), 2);
        assert!(out.deltas[0].watermarks().is_none());
        assert_eq!((out.counts.rows_late, out.counts.retractions_late), (3, 1));
        assert_eq!(out.late[0].event_times, [6_000_000, 6_000_000]);
        assert_eq!(out.errors.len(), 1);
        let kept = print(&out.deltas[0]);
        assert!(kept.contains("00:12") && kept.contains("00:07"), "{kept}");
    }

    #[test]
    fn a_row_at_the_watermark_is_in() {
        let mut out = Output::default();
        judge(0).push(0, input([12, 7, 6, 6, 0]), &mut out).unwrap();
        assert_eq!(out.deltas[0].len(), 4);
        assert!(out.late.is_empty());
    }

    #[test]
    fn the_time_is_bounded_and_nothing_else() {
        let bound = |time| Step {
            epoch: Epoch(1),
            clock_micros: 0,
            bounds: vec![Bounds(vec![Some(time), Some(EventTime(3))])],
        };
        let judge = judge(5);
        let of = |time| judge.bounds(&bound(time)).0;
        assert_eq!(of(EventTime(9)), [Some(EventTime(4)), None]);
        assert_eq!(of(EventTime::MIN), [Some(EventTime::MIN), None]);
        assert_eq!(of(EventTime::MAX), [Some(EventTime::MAX), None]);
    }
}
