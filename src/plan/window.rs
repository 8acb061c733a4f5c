//! Window table functions in DataFusion's plans.
//!
//! `FROM TUMBLE(bids, ts, INTERVAL '10 seconds')` becomes a [`WindowNode`]: its input's columns
//! plus
//! `window_start` and `window_end`. In a stream it is the operator of the same name; for a batch
//! answer [`lower_windows`] turns it into projections that DataFusion can run.
//!
//! Filters on other columns pass through the node; filters on the window's columns must not, and
//! the
//! node says so. Columns that nobody uses are not asked of the input, the time column excepted.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, DFSchemaRef, ExprSchema};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore, lit,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, TableFactor};

use crate::error::{Error, Result, SqlState};
use crate::function::window_starts;
use crate::operator::window::WindowKind;
use crate::plan::failure::from_datafusion;
use crate::sql::window::{WindowCall, WindowKind as WrittenKind};
use crate::sql::{Interval, interval};

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
        let (_, time_field) = input.schema().qualified_field_from_column(&time)?;
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
        let schema = Arc::new(DFSchema::new_with_metadata(fields, metadata)?);
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
    let kind = window_kind(&call).map_err(external)?;
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
    let node = WindowNode::new(Arc::new(input), time, kind)?;
    Ok(LogicalPlan::Extension(Extension {
        node: Arc::new(node),
    }))
}

fn window_kind(call: &WindowCall) -> Result<WindowKind> {
    if let Some(zone) = &call.zone {
        return Err(
            Error::unsupported(format!("windows in time zone {zone} are not supported"))
                .hint("leave out zone: windows are aligned to UTC"),
        );
    }
    let offset_micros = match &call.offset {
        None => 0,
        Some(expr) => fixed(call.kind, "offset", expr)?,
    };
    let size_micros = positive(call.kind, "size", &call.size)?;
    match (call.kind, &call.slide) {
        (WrittenKind::Tumble, _) => Ok(WindowKind::Tumble {
            size_micros,
            offset_micros,
        }),
        (WrittenKind::Hop, Some(slide)) => {
            let slide_micros = positive(call.kind, "slide", slide)?;
            Ok(WindowKind::Hop {
                slide_micros,
                size_micros,
                offset_micros,
            })
        }
        (kind, _) => Err(
            Error::unsupported(format!("{} is not supported", kind.name()))
                .hint("TUMBLE and HOP are"),
        ),
    }
}

fn positive(kind: WrittenKind, what: &str, expr: &ast::Expr) -> Result<i64> {
    match fixed(kind, what, expr)? {
        micros if micros > 0 => Ok(micros),
        _ => Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("the {what} of {} must be positive", kind.name()),
        )),
    }
}

fn fixed(kind: WrittenKind, what: &str, expr: &ast::Expr) -> Result<i64> {
    let read: Interval = interval::from_expr(expr)
        .map_err(|error| error.context(format!("the {what} of {}", kind.name())))?;
    read.fixed_micros().ok_or_else(|| {
        Error::unsupported(format!(
            "the {what} of {} is a calendar interval",
            kind.name()
        ))
        .hint("use a fixed length: INTERVAL '30 days' in place of '1 month'")
    })
}

/// Replaces window nodes by what DataFusion can run as a batch.
pub fn lower_windows(plan: LogicalPlan) -> Result<LogicalPlan> {
    let lowered = plan.transform_up_with_subqueries(|plan| {
        let LogicalPlan::Extension(extension) = &plan else {
            return Ok(Transformed::no(plan));
        };
        let node = extension.node.as_any();
        let Some(window) = node.downcast_ref::<WindowNode>() else {
            return Ok(Transformed::no(plan));
        };
        Ok(Transformed::yes(lower(window)?))
    });
    Ok(lowered.map_err(from_datafusion)?.data)
}

fn lower(window: &WindowNode) -> DataFusionResult<LogicalPlan> {
    let duration = |micros: i64| lit(ScalarValue::DurationMicrosecond(Some(micros)));
    let (slide, size, offset) = match window.kind {
        WindowKind::Tumble {
            size_micros,
            offset_micros,
        } => (size_micros, size_micros, offset_micros),
        WindowKind::Hop {
            slide_micros,
            size_micros,
            offset_micros,
        } => (slide_micros, size_micros, offset_micros),
    };
    let columns: Vec<Expr> = window
        .input
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    let arguments = vec![
        Expr::Column(window.time.clone()),
        lit(slide),
        lit(size),
        lit(offset),
    ];
    let starts = window_starts().call(arguments).alias(WINDOW_START);
    let mut with_starts = columns.clone();
    with_starts.push(starts);
    let mut with_end = columns;
    let start = Column::new_unqualified(WINDOW_START);
    with_end.push(Expr::Column(start.clone()));
    with_end.push((Expr::Column(start.clone()) + duration(size)).alias(WINDOW_END));
    LogicalPlanBuilder::from(window.input.as_ref().clone())
        .filter(Expr::Column(window.time.clone()).is_not_null())?
        .project(with_starts)?
        .unnest_column(start)?
        .project(with_end)?
        .build()
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
