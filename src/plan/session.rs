//! SESSION in DataFusion's plans.
//!
//! `FROM SESSION(bids PARTITION BY bidder, ts, INTERVAL '10 seconds')` becomes a [`SessionNode`]:
//! its input's columns plus `window_start` and `window_end`. In a stream it is the operator; for a
//! batch answer it is window functions:
//!
//! ```text
//!   begins   ts is more than the gap after the row before it, of its key and in the order of time
//!   number   how many begin up to here
//!   bounds   of each key and number the least ts, and the greatest ts plus the gap
//! ```
//!
//! A filter on a key passes through the node; no other does: a row that is filtered out holds its
//! session together all the same.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use datafusion::common::{Column, DFSchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::lead_lag::lag;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder,
    UserDefinedLogicalNodeCore, WindowFunctionDefinition, lit, when,
};
use datafusion::scalar::ScalarValue;

use crate::plan::window::{WINDOW_END, WINDOW_START, windowed_schema};

/// Sessions over a relation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionNode {
    pub input: Arc<LogicalPlan>,
    /// The event time, a column of the input.
    pub time: Column,
    pub gap_micros: i64,
    /// What has sessions of its own: expressions over the input.
    pub keys: Vec<Expr>,
    schema: DFSchemaRef,
}

impl SessionNode {
    pub fn new(
        input: Arc<LogicalPlan>,
        time: Column,
        gap_micros: i64,
        keys: Vec<Expr>,
    ) -> Result<Self> {
        Ok(SessionNode {
            schema: windowed_schema(&input, &time)?,
            input,
            time,
            gap_micros,
            keys,
        })
    }

    /// The position of the time column in the input.
    pub fn time_index(&self) -> Result<usize> {
        self.input.schema().index_of_column(&self.time)
    }

    /// What the node is as a batch.
    pub(super) fn lower(&self) -> Result<LogicalPlan> {
        let time = || Expr::Column(self.time.clone());
        let gap = || lit(ScalarValue::DurationMicrosecond(Some(self.gap_micros)));
        let columns = self.input.schema().columns().into_iter();
        let columns: Vec<Expr> = columns.map(Expr::Column).collect();
        let names = (0..self.keys.len()).map(|number| format!("session_key_{number}"));
        let names: Vec<String> = names.collect();
        let keys: Vec<Expr> = names.iter().map(|name| named(name)).collect();
        let made = self.keys.iter().zip(&names);
        let made = made.map(|(key, name)| key.clone().alias(name));
        let in_order = || vec![time().sort(true, false)];
        let before = lag(time(), Some(1), None)
            .partition_by(keys.clone())
            .order_by(in_order())
            .build()?;
        let plan = LogicalPlanBuilder::from(self.input.as_ref().clone())
            .filter(time().is_not_null())?
            .project(columns.iter().cloned().chain(made))?
            .window(vec![before.clone()])?;
        let before = computed(&before);
        let begins = before.clone().is_null().or(time().gt(before + gap()));
        let begins = when(begins, lit(1_i64)).otherwise(lit(0_i64))?;
        let kept: Vec<Expr> = columns.iter().chain(&keys).cloned().collect();
        let begins = [begins.alias("session_begins")];
        let plan = plan.project(kept.iter().cloned().chain(begins))?;
        let number = over(sum_udaf(), named("session_begins"))
            .partition_by(keys.clone())
            .order_by(in_order())
            .build()?;
        let plan = plan.window(vec![number.clone()])?;
        let numbers = [computed(&number).alias("session_number")];
        let plan = plan.project(kept.into_iter().chain(numbers))?;
        let mut session = keys;
        session.push(named("session_number"));
        let first = over(min_udaf(), time())
            .partition_by(session.clone())
            .build()?;
        let last = over(max_udaf(), time()).partition_by(session).build()?;
        let bounds = [
            computed(&first).alias(WINDOW_START),
            (computed(&last) + gap()).alias(WINDOW_END),
        ];
        plan.window(vec![first, last])?
            .project(columns.into_iter().chain(bounds))?
            .build()
    }
}

fn named(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// The column that a window function has become.
fn computed(function: &Expr) -> Expr {
    Expr::Column(Column::new_unqualified(function.schema_name().to_string()))
}

fn over(function: Arc<AggregateUDF>, argument: Expr) -> Expr {
    let function = WindowFunctionDefinition::AggregateUDF(function);
    Expr::from(WindowFunction::new(function, vec![argument]))
}

impl PartialOrd for SessionNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for SessionNode {
    fn name(&self) -> &str {
        "Session"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let time = Expr::Column(self.time.clone());
        std::iter::once(time).chain(self.keys.clone()).collect()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        // Names are matched without their qualifier: a column that is called like a key, and is
        // none, keeps the key's filters above, too.
        let columns = self.schema.columns();
        let is_key = |column: &Column| self.keys.contains(&Expr::Column(column.clone()));
        let others = columns.into_iter().filter(|column| !is_key(column));
        others.map(|column| column.name).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        write!(f, "Session: gap {} us on {}", self.gap_micros, self.time)?;
        match keys.is_empty() {
            true => Ok(()),
            false => write!(f, " by {}", keys.join(", ")),
        }
    }

    fn with_exprs_and_inputs(
        &self,
        exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        let mut exprs = exprs.into_iter();
        let time = match exprs.next() {
            Some(Expr::Column(column)) => column,
            _ => self.time.clone(),
        };
        let input = inputs
            .pop()
            .ok_or_else(|| DataFusionError::Internal("a session has an input".to_string()))?;
        SessionNode::new(Arc::new(input), time, self.gap_micros, exprs.collect())
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let schema = self.input.schema();
        let width = schema.fields().len();
        let wanted = output_columns.iter().copied();
        let mut needed: Vec<usize> = wanted.filter(|&column| column < width).collect();
        needed.push(self.time_index().ok()?);
        for column in self.keys.iter().flat_map(Expr::column_refs) {
            needed.push(schema.index_of_column(column).ok()?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}
