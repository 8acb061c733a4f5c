//! Scripts, and the answer of a model that sorts every partition anew.

mod final_rows;
mod model;
mod scripts;

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::scalar::ScalarValue;

use crate::base::{Epoch, EventTime};
use crate::delta::notation::{parse, parse_rows, print_sorted};
use crate::delta::{DeltaBatch, concat, consolidate};
use crate::error::Result;
use crate::operator::aggregate::{AggregateCall, AggregateFunction};
use crate::operator::ordered_rows::OrderColumn;
use crate::operator::over::{
    Distance, Frame, FrameBound, FrameUnits, Nth, Over, OverCall, OverFunction, OverSpec, Shift,
};
use crate::operator::{Bounds, Operator, Output, Step};

const ASCENDING: SortOptions = SortOptions {
    descending: false,
    nulls_first: false,
};

fn over(function: OverFunction, frame: Frame) -> OverCall {
    OverCall { function, frame }
}

fn placed(function: OverFunction) -> OverCall {
    over(function, Frame::WHOLE)
}

fn aggregate(function: AggregateFunction, argument: Option<usize>, frame: Frame) -> OverCall {
    let call = AggregateCall {
        function,
        argument,
        filter: None,
    };
    over(OverFunction::Aggregate(call), frame)
}

fn shift(argument: usize, offset: i64, ignores_nulls: bool) -> OverCall {
    placed(OverFunction::Shift(Shift {
        argument,
        offset,
        default: ScalarValue::Null,
        ignores_nulls,
    }))
}

fn nth(argument: usize, number: i64, ignores_nulls: bool, frame: Frame) -> OverCall {
    let nth = Nth {
        argument,
        number,
        ignores_nulls,
    };
    over(OverFunction::Nth(nth), frame)
}

fn frame(units: FrameUnits, start: FrameBound, end: FrameBound) -> Frame {
    Frame { units, start, end }
}

fn preceding(rows: i64) -> FrameBound {
    FrameBound::Preceding(Distance::Count(rows))
}

fn following(rows: i64) -> FrameBound {
    FrameBound::Following(Distance::Count(rows))
}

/// Rows of `header`, by the first columns, ordered by the column behind them.
fn spec(header: &str, partition: usize, calls: Vec<OverCall>) -> OverSpec {
    let input = parse(header).schema();
    let mut fields: Vec<_> = input.fields().iter().cloned().collect();
    for call in &calls {
        let of = |column: usize| input.field(column).data_type().clone();
        let data_type = match &call.function {
            OverFunction::RowNumber
            | OverFunction::Rank
            | OverFunction::DenseRank
            | OverFunction::Ntile(_) => DataType::UInt64,
            OverFunction::PercentRank | OverFunction::CumeDist => DataType::Float64,
            OverFunction::Shift(shift) => of(shift.argument),
            OverFunction::Nth(nth) => of(nth.argument),
            OverFunction::Aggregate(call) => {
                let argument = call.argument.map(of);
                call.function.result_type(argument.as_ref()).unwrap()
            }
        };
        let name = call.function.to_string();
        fields.push(Arc::new(Field::new(name, data_type, true)));
    }
    OverSpec {
        input,
        partition: (0..partition).collect(),
        order: vec![OrderColumn {
            column: partition,
            options: ASCENDING,
        }],
        calls,
        output: Arc::new(Schema::new(fields)),
        close: None,
        bounded_order: None,
        kept: None,
    }
}

struct Run {
    over: Over,
    spec: OverSpec,
    bounds: Vec<Option<EventTime>>,
    out: Output,
}

impl Run {
    fn new(spec: OverSpec) -> Run {
        Run {
            over: Over::new(spec.clone()).unwrap(),
            bounds: vec![None; spec.input.fields().len()],
            spec,
            out: Output::default(),
        }
    }

    fn clock(&self) -> Step {
        Step {
            epoch: Epoch(1),
            clock_micros: 0,
            bounds: vec![Bounds(self.bounds.clone())],
        }
    }

    fn step<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) -> Result<DeltaBatch> {
        self.out = Output::default();
        let lines: Vec<&str> = lines.into_iter().collect();
        // Two batches, so that rows meet across them.
        for part in lines.chunks(lines.len().div_ceil(2).max(1)) {
            let batch = parse_rows(&self.spec.input, part.iter().copied());
            self.over.push(0, batch, &mut self.out)?;
        }
        let step = self.clock();
        self.over.finish(&step, &mut self.out)?;
        let all = concat(&self.spec.output, &self.out.deltas)?;
        // Nothing comes and goes in one step.
        let changes = |batch: &DeltaBatch| -> i64 {
            (0..batch.len())
                .map(|row| batch.weights().get(row).abs())
                .sum()
        };
        assert_eq!(changes(&consolidate(&all)?), changes(&all));
        Ok(all)
    }

    fn shown(&mut self, lines: &[&str]) -> String {
        let delta = self.step(lines.iter().copied()).unwrap();
        print_sorted(&delta).trim().replace('\n', ", ")
    }
}
