//! What functions say of rows, many at once.
//!
//! Frames of rows that follow each other are followed as they move: what comes in is added and what
//! falls out is taken away, exactly, or both ends are asked of the tree where they are far. A
//! function that cannot be added up is run over its frame as DataFusion runs it: fed on where the
//! frame only grows, and anew where its start moves.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, UInt32Array,
};
use arrow::compute::{cast, interleave, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Accumulator;
use datafusion::scalar::ScalarValue;

use crate::base::limits::CHUNK_ROWS_MAX;
use crate::delta::arrow_error;
use crate::error::{Error, Result};
use crate::function::aggregate::{Algebra, Total, TotalRule, Totals};
use crate::operator::aggregate::{AggregateCall, AggregateFunction, StockAggregate};
use crate::operator::evaluate::reason;
use crate::operator::over::frames::{Order, Place};
use crate::operator::over::partitions::batch;
use crate::operator::over::parts::{MeasureKind, MeasureSpec, NONE, Part, counted};
use crate::operator::over::spec::{OverFunction, OverSpec};
use crate::operator::over::tree::Entry;

/// A frame that moves by more rows is asked of the tree.
const MOVED_ROWS_MAX: i64 = 32;

/// Where a call's value comes from.
pub(super) enum Source {
    /// Its place alone, or rows that are named.
    Place,
    /// The number of rows of its frame.
    Frame,
    Count {
        measure: usize,
    },
    Total {
        measure: usize,
        rule: TotalRule,
        algebra: Algebra,
    },
    Extreme {
        measure: usize,
        argument: usize,
    },
    /// Whether all are true, or any is.
    Truths {
        measure: usize,
        all: bool,
    },
    Stock(Arc<Stock>),
}

/// A function of DataFusion, over the columns that it takes.
pub(super) struct Stock {
    aggregate: Arc<StockAggregate>,
    filter: Option<usize>,
    schema: SchemaRef,
}

/// What calls say of some copies of rows.
pub(super) struct Evaluation {
    pub places: Vec<(Place, i64)>,
    /// A column for each call.
    pub columns: Vec<ArrayRef>,
    /// Rows that have no value, rising, each once, and why.
    pub failures: Vec<(usize, String)>,
}

/// What a call says of a row, as far as rows behind it, or before it, will go by it.
pub(super) enum State {
    Number(i64),
    Part(Part),
    Row(Option<u32>),
    /// Nobody knows.
    Unknown,
}

/// Which values are kept of rows, and what is added up of them.
#[derive(Default)]
pub(super) struct Needs {
    /// Input columns whose values are read.
    pub kept: Vec<usize>,
    /// Those whose values are compared.
    pub compared: Vec<usize>,
    pub measures: Vec<MeasureSpec>,
    pub sources: Vec<Source>,
    /// By call, the measure that counts its values that are not NULL.
    pub known: Vec<Option<usize>>,
    /// Measures of an extreme from the first row on.
    pub extremes: Vec<usize>,
}

impl Needs {
    /// # Errors
    /// Internal, when the spec contradicts itself.
    pub fn of(spec: &OverSpec) -> Result<Needs> {
        let mut needs = Needs::default();
        let mut extremes = Vec::new();
        for call in &spec.calls {
            let mut known = None;
            let source = match &call.function {
                OverFunction::Shift(shift) => {
                    needs.keep(shift.argument);
                    if shift.ignores_nulls {
                        known = Some(needs.count(Some(shift.argument), None));
                    }
                    Source::Place
                }
                OverFunction::Nth(nth) => {
                    needs.keep(nth.argument);
                    if nth.ignores_nulls {
                        known = Some(needs.count(Some(nth.argument), None));
                    }
                    Source::Place
                }
                OverFunction::Aggregate(aggregate) => {
                    needs.aggregate(aggregate, spec, &mut extremes)?
                }
                _ => Source::Place,
            };
            if call.has_values() {
                needs.keep(spec.order[0].column);
            }
            if let Source::Extreme { measure, .. } = &source
                && !call.frame.has_start()
            {
                needs.extremes.push(*measure);
            }
            needs.sources.push(source);
            needs.known.push(known);
        }
        if let Some(order) = spec.bounded_order.filter(|_| spec.kept.is_some()) {
            needs.keep(order.column);
        }
        // Their columns stand behind all that are kept.
        for (measure, compared, is_greatest) in extremes {
            needs.measures[measure].kind =
                super::partitions::extreme(&needs.kept, compared, is_greatest);
        }
        Ok(needs)
    }

    fn keep(&mut self, column: usize) {
        if !self.kept.contains(&column) {
            self.kept.push(column);
        }
    }

    fn count(&mut self, argument: Option<usize>, filter: Option<usize>) -> usize {
        self.measure(MeasureKind::Count, argument, filter)
    }

    fn measure(
        &mut self,
        kind: MeasureKind,
        argument: Option<usize>,
        filter: Option<usize>,
    ) -> usize {
        let spec = MeasureSpec {
            kind,
            argument,
            filter,
        };
        let known = self.measures.iter().position(|known| *known == spec);
        known.unwrap_or_else(|| {
            self.measures.push(spec);
            self.measures.len() - 1
        })
    }

    fn aggregate(
        &mut self,
        call: &AggregateCall,
        spec: &OverSpec,
        extremes: &mut Vec<(usize, usize, bool)>,
    ) -> Result<Source> {
        let filter = call.filter;
        let argument = || {
            let missing = || Error::internal(format!("{} has no argument", call.function));
            call.argument.ok_or_else(missing)
        };
        Ok(match &call.function {
            AggregateFunction::CountAll if filter.is_none() => Source::Frame,
            AggregateFunction::CountAll => Source::Count {
                measure: self.count(None, filter),
            },
            AggregateFunction::Count => Source::Count {
                measure: self.count(Some(argument()?), filter),
            },
            AggregateFunction::Sum | AggregateFunction::Avg => {
                let data_type = spec.input.field(argument()?).data_type();
                let total = match &call.function {
                    AggregateFunction::Sum => Total::Sum,
                    _ => Total::Average,
                };
                let algebra = Algebra::of(data_type)
                    .ok_or_else(|| Error::internal(format!("a total over {data_type}")))?;
                Source::Total {
                    measure: self.measure(MeasureKind::Total(algebra), call.argument, filter),
                    rule: TotalRule::new(total, data_type)?,
                    algebra,
                }
            }
            AggregateFunction::Min | AggregateFunction::Max => {
                let argument = argument()?;
                let is_greatest = matches!(call.function, AggregateFunction::Max);
                self.keep(argument);
                let compared = self.compared.iter().position(|&known| known == argument);
                let compared = compared.unwrap_or_else(|| {
                    self.compared.push(argument);
                    self.compared.len() - 1
                });
                // Its column is known when all that is kept is.
                self.measures.push(MeasureSpec {
                    kind: MeasureKind::Extreme {
                        is_greatest,
                        bytes: 0,
                    },
                    argument: call.argument,
                    filter,
                });
                let measure = self.measures.len() - 1;
                extremes.push((measure, compared, is_greatest));
                Source::Extreme { measure, argument }
            }
            AggregateFunction::BoolAnd | AggregateFunction::BoolOr => Source::Truths {
                measure: self.measure(MeasureKind::Truths, Some(argument()?), filter),
                all: matches!(call.function, AggregateFunction::BoolAnd),
            },
            AggregateFunction::Stock(stock) => {
                let columns = stock.arguments.iter().chain(&filter);
                columns.for_each(|&column| self.keep(column));
                let fields = stock.arguments.iter().enumerate().map(|(place, &column)| {
                    let data_type = spec.input.field(column).data_type().clone();
                    Field::new(format!("argument{place}"), data_type, true)
                });
                Source::Stock(Arc::new(Stock {
                    aggregate: stock.clone(),
                    filter,
                    schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
                }))
            }
            AggregateFunction::CountDistinct
            | AggregateFunction::SumDistinct
            | AggregateFunction::AvgDistinct => {
                return Err(Error::internal(format!("{} over a frame", call.function)));
            }
        })
    }
}

/// What stands in a frame that moves.
struct Slide {
    range: Range<i64>,
    part: Part,
    measure: usize,
    /// What stands before all rows of the tree, in frames from the first row on.
    base: Option<Part>,
}

impl Slide {
    fn new(order: &Order<'_>, call: usize, measure: usize) -> Slide {
        let is_open = !order.spec.calls[call].frame.has_start();
        let base = order
            .base
            .filter(|_| is_open && !order.measured().is_extreme(measure));
        let base = base.map(|base| base.parts[measure].clone());
        Slide {
            range: 0..0,
            part: base
                .clone()
                .unwrap_or_else(|| order.measured().zero(measure)),
            measure,
            base,
        }
    }

    fn move_to(&mut self, order: &Order<'_>, to: Range<i64>) {
        let from = std::mem::replace(&mut self.range, to.clone());
        if from == to {
            return;
        }
        let measured = order.measured();
        let moved = (to.start - from.start) + (to.end - from.end);
        let is_near = to.start >= from.start
            && to.end >= from.end
            && to.start <= from.end
            && moved <= MOVED_ROWS_MAX;
        let (measure, part) = (self.measure, &mut self.part);
        if !is_near {
            *part = order.tree.part(to, measure, measured);
            if let Some(base) = &self.base {
                measured.combine(part, measure, base, 1);
            }
            return;
        }
        let mut add = |range: Range<i64>, sign: i64| {
            if range.is_empty() {
                return;
            }
            order.tree.walk(range.clone(), &mut |placed| {
                let first = placed.before.rows.max(range.start);
                let end = (placed.before.rows + placed.entry.weight).min(range.end);
                measured.add_row(part, measure, placed.entry.slot, (end - first) * sign);
            });
        };
        add(from.end..to.end, 1);
        if !measured.is_extreme(measure) {
            add(from.start..to.start, -1);
        } else if from.start != to.start {
            // What falls out is the extreme, or one that is equal to it.
            let mut left = measured.zero(measure);
            order.tree.walk(from.start..to.start, &mut |placed| {
                measured.add_row(&mut left, measure, placed.entry.slot, 1);
            });
            let (Part::Extreme(left), &Part::Extreme(best)) = (left, &*part) else {
                unreachable!("an extreme is one everywhere")
            };
            if left != NONE && measured.better(measure, left, best) == left {
                *part = order.tree.part(to, measure, measured);
            }
        }
    }
}

impl Order<'_> {
    /// What all calls say of some copies from a position on; and where the next ones are.
    pub fn evaluate(&self, range: Range<i64>, sources: &[Source]) -> Result<(Evaluation, i64)> {
        let mut places = Vec::new();
        let next = self.places(range, CHUNK_ROWS_MAX, &mut places)?;
        let mut failures = Vec::new();
        let mut columns = Vec::with_capacity(sources.len());
        let width = self.spec.input.fields().len();
        for (at, source) in sources.iter().enumerate() {
            let column = self.column(at, source, &places, &mut failures)?;
            let wanted = self.spec.output.field(width + at).data_type();
            columns.push(match column.data_type() == wanted {
                true => column,
                false => cast(&column, wanted).map_err(arrow_error)?,
            });
        }
        failures.sort_by_key(|(row, _)| *row);
        failures.dedup_by_key(|(row, _)| *row);
        let evaluation = Evaluation {
            places,
            columns,
            failures,
        };
        Ok((evaluation, next))
    }

    fn column(
        &self,
        at: usize,
        source: &Source,
        places: &[(Place, i64)],
        failures: &mut Vec<(usize, String)>,
    ) -> Result<ArrayRef> {
        let frames = || {
            let call = &self.spec.calls[at];
            let frames = places.iter().map(|(place, _)| self.frame(call, place));
            frames.collect::<Result<Vec<_>>>()
        };
        Ok(match source {
            Source::Place => self.placed(at, places)?,
            Source::Frame => {
                let before = match self.spec.calls[at].frame.has_start() {
                    true => 0,
                    false => self.let_go().rows,
                };
                let count = |frame: Range<i64>| before + frame.end - frame.start;
                let counts = frames()?.into_iter().map(count);
                Arc::new(Int64Array::from_iter_values(counts))
            }
            Source::Count { measure } => {
                let mut slide = Slide::new(self, at, *measure);
                let counts = frames()?.into_iter().map(|frame| {
                    slide.move_to(self, frame);
                    match slide.part {
                        Part::Count(count) => count,
                        _ => unreachable!("what is counted has a count"),
                    }
                });
                Arc::new(Int64Array::from_iter_values(counts))
            }
            Source::Total {
                measure,
                rule,
                algebra,
            } => {
                let mut totals = Totals::new(*algebra);
                totals.grow(places.len());
                let mut slide = Slide::new(self, at, *measure);
                let mut counts = Vec::with_capacity(places.len());
                for (row, frame) in frames()?.into_iter().enumerate() {
                    slide.move_to(self, frame);
                    let Part::Total { count, amount } = &slide.part else {
                        unreachable!("a total is one everywhere")
                    };
                    amount.add_to(&mut totals, row);
                    counts.push(*count);
                }
                let (values, failed) = rule.results(&totals, counts.into_iter().enumerate());
                let failed = failed.into_iter();
                failures.extend(failed.map(|(row, reason)| (row, reason.0.to_string())));
                values
            }
            Source::Extreme { measure, argument } => {
                let mut slide = Slide::new(self, at, *measure);
                let slots = frames()?.into_iter().map(|frame| {
                    slide.move_to(self, frame);
                    match slide.part {
                        Part::Extreme(NONE) => None,
                        Part::Extreme(slot) => Some(slot),
                        _ => unreachable!("an extreme is one everywhere"),
                    }
                });
                self.values_of(*argument, slots.collect(), None)?
            }
            Source::Truths { measure, all } => {
                let mut slide = Slide::new(self, at, *measure);
                let truths = frames()?.into_iter().map(|frame| {
                    slide.move_to(self, frame);
                    match slide.part {
                        Part::Truths { yes: 0, no: 0 } => None,
                        Part::Truths { yes, no } => Some(if *all { no == 0 } else { yes > 0 }),
                        _ => unreachable!("truths are such everywhere"),
                    }
                });
                Arc::new(truths.collect::<BooleanArray>())
            }
            Source::Stock(stock) => stock.column(self, &frames()?, failures)?,
        })
    }

    /// What follows from a row's place, or is another row's value.
    fn placed(&self, at: usize, places: &[(Place, i64)]) -> Result<ArrayRef> {
        let call = &self.spec.calls[at];
        let numbers = |number: &dyn Fn(&Place) -> i64| -> ArrayRef {
            let numbers = places.iter().map(|(place, _)| number(place));
            Arc::new(Int64Array::from_iter_values(numbers))
        };
        let shares = |share: &dyn Fn(&Place) -> f64| -> ArrayRef {
            let shares = places.iter().map(|(place, _)| share(place));
            Arc::new(Float64Array::from_iter_values(shares))
        };
        let (rows, before) = (self.rows(), self.let_go());
        Ok(match &call.function {
            OverFunction::RowNumber => numbers(&|place| before.rows + place.position + 1),
            OverFunction::Rank => numbers(&|place| before.rows + place.start + 1),
            OverFunction::DenseRank => numbers(&|place| before.classes + place.class + 1),
            OverFunction::PercentRank => {
                shares(&|place| as_float(place.start) / (as_float(rows) - 1.0).max(1.0))
            }
            OverFunction::CumeDist => shares(&|place| as_float(place.end) / as_float(rows)),
            OverFunction::Ntile(parts) => numbers(&|place| part(place.position, *parts, rows)),
            OverFunction::Shift(shift) => {
                let slots = places.iter().map(|(place, _)| {
                    let shifted = self.shifted(at, shift, place);
                    shifted.map(|(entry, _)| entry.slot)
                });
                self.values_of(shift.argument, slots.collect(), Some(&shift.default))?
            }
            OverFunction::Nth(nth) => {
                let slots = places.iter().map(|(place, _)| {
                    let frame = self.frame(call, place)?;
                    let numbered = self.numbered(at, nth, &frame);
                    Ok(numbered.map(|(entry, _)| entry.slot))
                });
                self.values_of(nth.argument, slots.collect::<Result<_>>()?, None)?
            }
            OverFunction::Aggregate(_) => {
                return Err(Error::internal("an aggregate is not of a row's place"));
            }
        })
    }

    /// A column's values of rows; where there is none, the other value, or NULL.
    fn values_of(
        &self,
        column: usize,
        slots: Vec<Option<u32>>,
        other: Option<&ScalarValue>,
    ) -> Result<ArrayRef> {
        let found: Vec<u32> = slots.iter().copied().flatten().collect();
        let values = self.partitions.values(column, &found)?;
        if found.len() == slots.len() {
            return Ok(values);
        }
        match other.filter(|other| !other.is_null()) {
            None => {
                let mut places = 0_u32..;
                let indices = slots.iter().map(|slot| slot.and_then(|_| places.next()));
                let indices: UInt32Array = indices.collect();
                take(&values, &indices, None).map_err(arrow_error)
            }
            Some(other) => {
                let other = other.to_array().map_err(unforeseen)?;
                let sources: [&dyn Array; 2] = [values.as_ref(), other.as_ref()];
                let mut places = 0_usize..;
                let picks = slots.iter().map(|slot| match slot {
                    Some(_) => (0, places.next().expect("numbers do not end")),
                    None => (1, 0),
                });
                interleave(&sources, &picks.collect::<Vec<_>>()).map_err(arrow_error)
            }
        }
    }

    /// What a call says of a row, as rows behind it, or before it, will go by it.
    pub fn state(&self, at: usize, source: &Source, place: &Place) -> Result<State> {
        let call = &self.spec.calls[at];
        let part = |measure: usize| -> Result<State> {
            let frame = self.frame(call, place)?;
            Ok(State::Part(self.tree.part(frame, measure, self.measured())))
        };
        Ok(match (&call.function, source) {
            (OverFunction::RowNumber | OverFunction::Ntile(_), _) => State::Number(place.position),
            (OverFunction::Rank | OverFunction::PercentRank, _) => State::Number(place.start),
            (OverFunction::DenseRank, _) => State::Number(place.class),
            (OverFunction::CumeDist, _) => State::Number(place.end),
            (OverFunction::Nth(nth), _) => {
                let frame = self.frame(call, place)?;
                let numbered = self.numbered(at, nth, &frame);
                State::Row(numbered.map(|(entry, _): (Entry, i64)| entry.slot))
            }
            (OverFunction::Shift(_), _) | (_, Source::Place | Source::Stock(_)) => State::Unknown,
            (_, Source::Frame) => {
                let frame = self.frame(call, place)?;
                State::Number(frame.end - frame.start)
            }
            (
                _,
                Source::Count { measure }
                | Source::Total { measure, .. }
                | Source::Extreme { measure, .. }
                | Source::Truths { measure, .. },
            ) => part(*measure)?,
        })
    }

    /// The measure of a source, whose parts tell its states apart.
    pub fn is_same(&self, source: &Source, one: &State, other: &State) -> bool {
        match (one, other, source) {
            (State::Number(one), State::Number(other), _) => one == other,
            (State::Row(Some(one)), State::Row(Some(other)), _) => one == other,
            (
                State::Part(one),
                State::Part(other),
                Source::Count { measure }
                | Source::Total { measure, .. }
                | Source::Extreme { measure, .. }
                | Source::Truths { measure, .. },
            ) => self.measured().is_same(*measure, one, other),
            _ => false,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shares are rounded, as a batch rounds them"
)]
fn as_float(number: i64) -> f64 {
    number as f64
}

/// Which of so many parts a row is in; the first ones have a row more where it does not come out
/// even.
fn part(position: i64, parts: i64, rows: i64) -> i64 {
    let (small, large) = (rows / parts, rows % parts);
    // No product overflows: it is at most the number of rows.
    let in_large = large * (small + 1);
    match position < in_large {
        true => position / (small + 1) + 1,
        false => large + (position - in_large) / small + 1,
    }
}

fn unforeseen(cause: DataFusionError) -> Error {
    Error::internal(format!("a value of a window: {cause}"))
}

impl Stock {
    fn column(
        &self,
        order: &Order<'_>,
        frames: &[Range<i64>],
        failures: &mut Vec<(usize, String)>,
    ) -> Result<ArrayRef> {
        let field = self.aggregate.expression.field();
        let data_type = field.data_type();
        let mut values = Vec::with_capacity(frames.len());
        let mut running: Option<(Range<i64>, Box<dyn Accumulator>)> = None;
        let mut last: Option<(Range<i64>, ScalarValue)> = None;
        for (row, frame) in frames.iter().enumerate() {
            if let Some((range, value)) = &last
                && range == frame
            {
                values.push(value.clone());
                continue;
            }
            let value = match self.value(order, frame, &mut running)? {
                Ok(ScalarValue::Null) => ScalarValue::try_from(data_type).map_err(unforeseen)?,
                Ok(value) => value,
                Err(cause) => {
                    failures.push((row, reason(&cause)));
                    (running, last) = (None, None);
                    values.push(ScalarValue::try_from(data_type).map_err(unforeseen)?);
                    continue;
                }
            };
            last = Some((frame.clone(), value.clone()));
            values.push(value);
        }
        match values.is_empty() {
            true => Ok(arrow::array::new_empty_array(data_type)),
            false => ScalarValue::iter_to_array(values).map_err(unforeseen),
        }
    }

    /// The function's value over a frame; the inner error is the user's.
    fn value(
        &self,
        order: &Order<'_>,
        frame: &Range<i64>,
        running: &mut Option<(Range<i64>, Box<dyn Accumulator>)>,
    ) -> Result<Result<ScalarValue, DataFusionError>> {
        let (known, mut accumulator) = match running.take() {
            Some((known, accumulator)) if known.start == frame.start && known.end <= frame.end => {
                (known.end, accumulator)
            }
            _ => match self.aggregate.expression.create_accumulator() {
                Ok(accumulator) => (frame.start, accumulator),
                Err(cause) => return Ok(Err(cause)),
            },
        };
        let mut slots: Vec<u32> = Vec::new();
        let mut at = known;
        while at < frame.end {
            slots.clear();
            let range = at..frame.end;
            let mut next = at;
            order
                .tree
                .walk_some(range.clone(), CHUNK_ROWS_MAX, &mut |placed| {
                    let first = placed.before.rows.max(range.start);
                    let end = (placed.before.rows + placed.entry.weight).min(range.end);
                    let room = i64::try_from(CHUNK_ROWS_MAX - slots.len()).unwrap_or(0);
                    if first == next {
                        next = end.min(first + room);
                        slots.extend((first..next).map(|_| placed.entry.slot));
                    }
                });
            at = next;
            if let Err(cause) = self.feed(order, &slots, accumulator.as_mut())? {
                return Ok(Err(cause));
            }
        }
        let value = accumulator.evaluate();
        *running = Some((frame.clone(), accumulator));
        Ok(value)
    }

    fn feed(
        &self,
        order: &Order<'_>,
        slots: &[u32],
        accumulator: &mut dyn Accumulator,
    ) -> Result<Result<(), DataFusionError>> {
        let values = |&column: &usize| order.partitions.values(column, slots);
        let columns = self.aggregate.arguments.iter().map(values);
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let mut rows = batch(self.schema.clone(), columns, slots.len())?;
        if let Some(filter) = &self.filter {
            let field = Field::new("filter", DataType::Boolean, true);
            let schema = Arc::new(Schema::new(vec![field]));
            let filter = batch(schema, vec![values(filter)?], slots.len())?;
            if let Some(passing) = counted(&filter, None, Some(0)) {
                let passing = BooleanArray::new(passing, None);
                rows = arrow::compute::filter_record_batch(&rows, &passing).map_err(arrow_error)?;
            }
        }
        Ok(self.update(&rows, accumulator))
    }

    fn update(
        &self,
        rows: &RecordBatch,
        accumulator: &mut dyn Accumulator,
    ) -> Result<(), DataFusionError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let inputs = self.aggregate.expression.expressions();
        let inputs = inputs.iter().map(|input| {
            let value = input.evaluate(rows)?;
            value.into_array_of_size(rows.num_rows())
        });
        accumulator.update_batch(&inputs.collect::<Result<Vec<_>, _>>()?)
    }
}
