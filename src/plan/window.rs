//! Window table functions in DataFusion's plans.
//!
//! `FROM TUMBLE(bids, ts, INTERVAL '10 seconds')` becomes a [`WindowNode`]: its input's columns
//! plus `window_start` and `window_end`. In a stream it is the operator of the same name; for a
//! batch answer [`lower_windows`] turns it into projections that DataFusion can run.
//!
//! Filters on other columns pass through the node; filters on the window's columns must not, and
//! the node says so. Columns that nobody uses are not asked of the input, the time column excepted.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, DFSchemaRef, ExprSchema, UnnestOptions};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNode,
    UserDefinedLogicalNodeCore,
};
use datafusion::sql::sqlparser::ast::{self, TableFactor, Value};

use crate::error::{Error, Result, SqlState};
use crate::function::window::{Calendar, Span, WindowKind, Windows, window_ends, window_starts};
use crate::plan::as_of::AsOfNode;
use crate::plan::failure::from_datafusion;
use crate::plan::lookup::CurrentNode;
use crate::plan::repeat::RepeatNode;
use crate::plan::session::SessionNode;
use crate::sql::window::{WindowCall, WindowKind as WrittenKind};
use crate::sql::{Interval, interval};
use crate::types::Zone;
use crate::types::calendar::MICROS_PER_DAY;

/// Columns that a window adds, in this order.
pub const WINDOW_START: &str = "window_start";
pub const WINDOW_END: &str = "window_end";

/// A window over a relation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WindowNode {
    pub input: Arc<LogicalPlan>,
    /// The event time, a column of the input.
    pub time: Column,
    pub kind: WindowKind,
    schema: DFSchemaRef,
}

impl WindowNode {
    pub fn new(input: Arc<LogicalPlan>, time: Column, kind: WindowKind) -> DataFusionResult<Self> {
        let schema = windowed_schema(&input, &time)?;
        Ok(WindowNode {
            input,
            time,
            kind,
            schema,
        })
    }

    /// The position of the time column in the input.
    pub fn time_index(&self) -> DataFusionResult<usize> {
        self.input.schema().index_of_column(&self.time)
    }
}

/// The columns of a relation and those of a window over it.
pub(super) fn windowed_schema(input: &LogicalPlan, time: &Column) -> DataFusionResult<DFSchemaRef> {
    let (_, time_field) = input.schema().qualified_field_from_column(time)?;
    let time_type = time_field.data_type().clone();
    let mut fields: Vec<_> = input
        .schema()
        .iter()
        .map(|(qualifier, field)| (qualifier.cloned(), field.clone()))
        .collect();
    for name in [WINDOW_START, WINDOW_END] {
        fields.push((None, Arc::new(Field::new(name, time_type.clone(), false))));
    }
    let metadata = DFSchema::metadata(input.schema()).clone();
    Ok(Arc::new(DFSchema::new_with_metadata(fields, metadata)?))
}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &str {
        "Window"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![Expr::Column(self.time.clone())]
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        // Names are matched without their qualifier: an input column that is called like a window
        // column keeps its filters above, which is correct, only slower.
        [WINDOW_START, WINDOW_END].map(str::to_string).into()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Window: {} on {}", self.kind, self.time)
    }

    fn with_exprs_and_inputs(
        &self,
        exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> DataFusionResult<Self> {
        let time = match exprs.into_iter().next() {
            Some(Expr::Column(column)) => column,
            _ => self.time.clone(),
        };
        let input = inputs
            .pop()
            .ok_or_else(|| DataFusionError::Internal("a window has an input".to_string()))?;
        WindowNode::new(Arc::new(input), time, self.kind)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output_columns
            .iter()
            .copied()
            .filter(|&column| column < width)
            .collect();
        needed.push(self.time_index().ok()?);
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// Plans `TUMBLE(…)` and its relatives where a table is expected.
#[derive(Debug)]
pub struct WindowPlanner;

impl RelationPlanner for WindowPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DataFusionResult<RelationPlanning> {
        match WindowCall::of_table_factor(&relation).map_err(external)? {
            None => Ok(RelationPlanning::Original(Box::new(relation))),
            Some((call, alias)) => {
                let plan = plan_call(call, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation {
                    plan,
                    alias,
                })))
            }
        }
    }
}

fn plan_call(
    call: WindowCall,
    context: &mut dyn RelationPlannerContext,
) -> DataFusionResult<LogicalPlan> {
    let lengths = LengthsOf::read(&call).map_err(external)?;
    let derived = TableFactor::Derived {
        lateral: false,
        subquery: call.input,
        alias: None,
        sample: None,
    };
    let input = context.plan(derived)?;
    let time = match context.sql_to_expr(call.time.clone(), input.schema())? {
        Expr::Column(column) => column,
        _ => {
            let error = Error::unsupported(format!(
                "the time of {} must be a column, not an expression",
                call.kind.name()
            ))
            .hint("compute it in a subquery or as a generated column of the source");
            return Err(external(error));
        }
    };
    let field = input.schema().field_from_column(&time)?;
    if !matches!(
        field.data_type(),
        DataType::Timestamp(TimeUnit::Microsecond, _)
    ) {
        let error = Error::new(
            SqlState::DATATYPE_MISMATCH,
            format!("the time of {} must be a timestamp", call.kind.name()),
        )
        .detail(format!(
            "column \"{}\" has type {}",
            field.name(),
            field.data_type()
        ))
        .hint("cast it: TUMBLE((SELECT *, x::timestamptz AS ts FROM t), ts, …)");
        return Err(external(error));
    }
    if call.zone.is_some() && matches!(field.data_type(), DataType::Timestamp(_, None)) {
        let error = Error::new(
            SqlState::DATATYPE_MISMATCH,
            format!(
                "the time of {} with a zone must be a timestamp with time zone",
                call.kind.name()
            ),
        )
        .detail(format!("column \"{}\" has type timestamp", field.name()))
        .hint("declare it TIMESTAMPTZ, or leave out zone: it is on a clock already");
        return Err(external(error));
    }
    for name in [WINDOW_START, WINDOW_END] {
        if input.schema().has_column_with_unqualified_name(name) {
            let error = Error::new(
                SqlState::DUPLICATE_COLUMN,
                format!(
                    "the input of {} already has a column \"{name}\"",
                    call.kind.name()
                ),
            )
            .hint("rename it in a subquery");
            return Err(external(error));
        }
    }
    let node: Arc<dyn UserDefinedLogicalNode> = match lengths {
        LengthsOf::Window(kind) => Arc::new(WindowNode::new(Arc::new(input), time, kind)?),
        LengthsOf::Session { gap_micros } => {
            let keys = call.partition_by.into_iter();
            let keys = keys.map(|key| context.sql_to_expr(key, input.schema()));
            let keys = keys.collect::<DataFusionResult<Vec<_>>>()?;
            Arc::new(SessionNode::new(Arc::new(input), time, gap_micros, keys)?)
        }
    };
    Ok(LogicalPlan::Extension(Extension { node }))
}

/// What the lengths of a call say.
enum LengthsOf {
    Window(WindowKind),
    Session { gap_micros: i64 },
}

impl LengthsOf {
    fn read(call: &WindowCall) -> Result<LengthsOf> {
        match call.kind {
            WrittenKind::Tumble | WrittenKind::Hop | WrittenKind::Cumulate => {
                window_kind(call).map(LengthsOf::Window)
            }
            WrittenKind::Session => {
                let gap = interval::from_expr(&call.size)
                    .map_err(|error| error.context("the gap of SESSION"))?;
                match span(call.kind, "gap", &gap)? {
                    Span::Micros(gap_micros) => Ok(LengthsOf::Session { gap_micros }),
                    Span::Months(_) => Err(Error::unsupported(
                        "a gap of SESSION in months is not supported",
                    )
                    .hint("use a fixed length: INTERVAL '30 days' in place of '1 month'")),
                }
            }
        }
    }
}

/// The windows that a call asks for, checked.
fn window_kind(call: &WindowCall) -> Result<WindowKind> {
    let zone = zone(call)?;
    let kind = lengths(call)?.kind(call.kind, zone)?;
    // What it is to be asked for is asked for here, where the user can still be told.
    Windows::new(kind)?;
    Ok(kind)
}

/// The time zone whose clock cuts the windows; `None` for UTC.
fn zone(call: &WindowCall) -> Result<Option<Zone>> {
    let name = match &call.zone {
        None => return Ok(None),
        Some(ast::Expr::Value(value)) => match &value.value {
            Value::SingleQuotedString(name) => Some(name),
            _ => None,
        },
        Some(_) => None,
    };
    let name = name.ok_or_else(|| {
        Error::new(
            SqlState::SYNTAX_ERROR,
            format!("the zone of {} must be a constant", call.kind.name()),
        )
        .hint("write zone => 'Europe/Berlin'")
    })?;
    let zone = Zone::parse(name)?;
    Ok((zone != Zone::UTC).then_some(zone))
}

/// The lengths of a window as they are written.
struct Lengths {
    size: Interval,
    /// HOP's slide, CUMULATE's step.
    slide: Option<Interval>,
    offset: Interval,
}

fn lengths(call: &WindowCall) -> Result<Lengths> {
    let read = |what: &str, expr: &ast::Expr| {
        let read = interval::from_expr(expr);
        read.map_err(|error| error.context(format!("the {what} of {}", call.kind.name())))
    };
    let slide = match &call.slide {
        None => None,
        Some(slide) => Some(read(slide_name(call.kind), slide)?),
    };
    Ok(Lengths {
        size: read("size", &call.size)?,
        slide,
        offset: match &call.offset {
            None => Interval::default(),
            Some(offset) => read("offset", offset)?,
        },
    })
}

fn slide_name(kind: WrittenKind) -> &'static str {
    match kind {
        WrittenKind::Cumulate => "step",
        WrittenKind::Tumble | WrittenKind::Hop | WrittenKind::Session => "slide",
    }
}

impl Lengths {
    fn kind(&self, kind: WrittenKind, zone: Option<Zone>) -> Result<WindowKind> {
        let size = span(kind, "size", &self.size)?;
        let slide = match &self.slide {
            None => size,
            Some(slide) => span(kind, slide_name(kind), slide)?,
        };
        let days = i64::from(self.offset.days).checked_mul(MICROS_PER_DAY);
        let offset_micros = days.and_then(|days| days.checked_add(self.offset.micros));
        let offset_micros = offset_micros.ok_or_else(|| too_long(kind, "offset"))?;
        match (size, slide, zone) {
            (Span::Micros(size_micros), Span::Micros(slide_micros), None)
                if self.offset.months == 0 =>
            {
                Ok(match kind {
                    WrittenKind::Tumble | WrittenKind::Session => WindowKind::Tumble {
                        size_micros,
                        offset_micros,
                    },
                    WrittenKind::Hop => WindowKind::Hop {
                        slide_micros,
                        size_micros,
                        offset_micros,
                    },
                    WrittenKind::Cumulate => WindowKind::Cumulate {
                        step_micros: slide_micros,
                        size_micros,
                        offset_micros,
                    },
                })
            }
            _ => {
                let (every, step) = match kind {
                    WrittenKind::Cumulate => (size, Some(slide)),
                    WrittenKind::Tumble | WrittenKind::Hop | WrittenKind::Session => (slide, None),
                };
                let calendar = Calendar {
                    every,
                    size,
                    step,
                    offset_months: self.offset.months,
                    offset_micros,
                    zone: zone.unwrap_or_default(),
                };
                check_calendar(kind, &calendar)?;
                Ok(WindowKind::Calendar(calendar))
            }
        }
    }
}

/// A positive length: months, or what has a fixed length on the clock.
fn span(kind: WrittenKind, what: &str, length: &Interval) -> Result<Span> {
    if length.months != 0 && (length.days != 0 || length.micros != 0) {
        return Err(Error::unsupported(format!(
            "the {what} of {} mixes months with shorter lengths",
            kind.name()
        ))
        .hint("use whole months, or a length without months"));
    }
    let span = match length.fixed_micros() {
        Some(micros) => Span::Micros(micros),
        None if length.months != 0 => Span::Months(length.months),
        None => return Err(too_long(kind, what)),
    };
    match span {
        Span::Micros(1..) | Span::Months(1..) => Ok(span),
        Span::Micros(_) | Span::Months(_) => Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("the {what} of {} must be positive", kind.name()),
        )),
    }
}

fn too_long(kind: WrittenKind, what: &str) -> Error {
    let message = format!("the {what} of {} is too long", kind.name());
    Error::new(SqlState::DATETIME_FIELD_OVERFLOW, message)
}

/// Refuses what the wall clock of a zone, or months, would cut unevenly.
fn check_calendar(kind: WrittenKind, calendar: &Calendar) -> Result<()> {
    let name = kind.name();
    let is_short =
        |span: Span| matches!(span, Span::Micros(micros) if micros % MICROS_PER_DAY != 0);
    if calendar.zone != Zone::UTC {
        let what = match () {
            () if is_short(calendar.size) => Some("size"),
            () if is_short(calendar.every) => Some("slide"),
            () => None,
        };
        if let Some(what) = what {
            return Err(Error::unsupported(format!(
                "the {what} of {name} in a time zone must be whole days or months"
            ))
            .hint("leave out zone for shorter windows: they do not follow the calendar"));
        }
        if let Some(Span::Micros(step)) = calendar.step
            && step % MICROS_PER_DAY != 0
            && MICROS_PER_DAY % step != 0
        {
            return Err(Error::unsupported(format!(
                "the step of {name} in a time zone must divide a day, or be whole days or months"
            ))
            .hint("for example '1 hour'"));
        }
    }
    if calendar.offset_months != 0 && matches!(calendar.every, Span::Micros(_)) {
        return Err(Error::unsupported(format!(
            "an offset in months of {name} is only possible where windows begin every some months"
        ))
        .hint("use an offset in days"));
    }
    Ok(())
}

/// Replaces the nodes of windows, of ASOF joins and of lookups by what DataFusion can run as a
/// batch.
pub fn lower_windows(plan: LogicalPlan) -> Result<LogicalPlan> {
    let lowered = plan.transform_up_with_subqueries(|plan| {
        let LogicalPlan::Extension(extension) = &plan else {
            return Ok(Transformed::no(plan));
        };
        let node = extension.node.as_any();
        if let Some(window) = node.downcast_ref::<WindowNode>() {
            return Ok(Transformed::yes(lower(window)?));
        }
        if let Some(as_of) = node.downcast_ref::<AsOfNode>() {
            return Ok(Transformed::yes(as_of.lower()?));
        }
        if let Some(current) = node.downcast_ref::<CurrentNode>() {
            // What is there at the moment is what a batch reads.
            return Ok(Transformed::yes(current.input.as_ref().clone()));
        }
        if let Some(repeat) = node.downcast_ref::<RepeatNode>() {
            return Ok(Transformed::yes(repeat.lower()?));
        }
        match node.downcast_ref::<SessionNode>() {
            Some(session) => Ok(Transformed::yes(session.lower()?)),
            None => Ok(Transformed::no(plan)),
        }
    });
    Ok(lowered.map_err(from_datafusion)?.data)
}

fn lower(window: &WindowNode) -> DataFusionResult<LogicalPlan> {
    let time = Expr::Column(window.time.clone());
    let columns = window.input.schema().columns();
    let mut columns: Vec<Expr> = columns.into_iter().map(Expr::Column).collect();
    for (function, name) in [
        (window_starts(window.kind), WINDOW_START),
        (window_ends(window.kind), WINDOW_END),
    ] {
        columns.push(function.call(vec![time.clone()]).alias(name));
    }
    LogicalPlanBuilder::from(window.input.as_ref().clone())
        .filter(time.is_not_null())?
        .project(columns)?
        .unnest_columns_with_options(
            vec![
                Column::new_unqualified(WINDOW_START),
                Column::new_unqualified(WINDOW_END),
            ],
            UnnestOptions::default(),
        )?
        .build()
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
