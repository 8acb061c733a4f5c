//! ASOF joins in DataFusion's plans.
//!
//! ```text
//!   a ASOF [LEFT] JOIN b ON a.k = b.k AND a.ts >= b.ts
//!   a [LEFT] JOIN b FOR SYSTEM_TIME AS OF a.ts ON a.k = b.k          b.ts being b's event time
//! ```
//!
//! Both become an [`AsOfNode`]: the left columns, then those of the right row that is nearest. The
//! library plans joins by itself but asks for every relation, so [`nest_joins`] makes each such
//! join a relation of its own, in parentheses. In a stream the node is the operator of the same
//! name; for a batch answer both sides are sorted, and no row is paired with all others of its key:
//!
//! ```text
//!   number   the left rows, and the right ones in the order of time, ties by all columns
//!   sort     both together by key, time, and at one time by who is to meet whom
//!   scan     the greatest number of a right row so far is that of the nearest
//!   join     by these numbers
//! ```
//!
//! Where a side may have other rows when it is computed again (a LIMIT, what is random), every left
//! row is paired with all right rows of its key instead, and the nearest is kept.
//!
//! No filter passes through the node: one on a right column would change which row is the nearest.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef, ExprSchema, JoinType, TableReference};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::functions_aggregate::min_max::max_udaf;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprFunctionExt, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder,
    Operator, SortExpr, UserDefinedLogicalNodeCore, WindowFrame, WindowFrameBound,
    WindowFrameUnits, WindowFunctionDefinition, binary_expr, lit, when,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, JoinConstraint, JoinOperator, Select, TableFactor, TableVersion,
    TableWithJoins, Value, VisitMut, VisitorMut,
};

use crate::error::{Error, Result, SqlState};
use crate::operator::asof::Nearest;
use crate::plan::context::Planner;
use crate::plan::numbers::floats_win;
use crate::sql::as_of::{AsOfJoin, is_proctime};

/// The numbers of the left and of the right rows, among their columns.
const LEFT_ROW: &str = "asof_left_row";
const RIGHT_ROW: &str = "asof_right_row";

/// The columns of both sides together: a row's time, its place among those of one time, and its
/// number in one column or the other.
const TIME: &str = "asof_time";
const PLACE: &str = "asof_place";
const OF_LEFT: &str = "asof_of_left";
const OF_RIGHT: &str = "asof_of_right";

/// The number of the right row that is nearest to a left one.
const NEAREST: &str = "asof_nearest";

/// An ASOF join of two relations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AsOfNode {
    pub left: Arc<LogicalPlan>,
    pub right: Arc<LogicalPlan>,
    /// Equated pairwise: expressions of the same type over the left and over the right.
    pub left_keys: Vec<Expr>,
    pub right_keys: Vec<Expr>,
    /// A column of each side: timestamps of the same type.
    pub left_time: Column,
    pub right_time: Column,
    pub nearest: Nearest,
    /// Left rows without a right one stay, with NULLs.
    pub is_outer: bool,
    /// The right rows are versions: they only ever come.
    pub is_versioned: bool,
    schema: DFSchemaRef,
}

impl AsOfNode {
    /// The same join of other inputs and expressions.
    fn with(
        &self,
        [left, right]: [LogicalPlan; 2],
        [left_keys, right_keys]: [Vec<Expr>; 2],
        [left_time, right_time]: [Column; 2],
    ) -> DataFusionResult<AsOfNode> {
        Ok(AsOfNode {
            schema: joined_schema(&left, &right, self.is_outer)?,
            left: Arc::new(left),
            right: Arc::new(right),
            left_keys,
            right_keys,
            left_time,
            right_time,
            ..self.clone()
        })
    }

    fn comparison(&self) -> Operator {
        match self.nearest {
            Nearest::AtOrBefore => Operator::GtEq,
            Nearest::Before => Operator::Gt,
            Nearest::AtOrAfter => Operator::LtEq,
            Nearest::After => Operator::Lt,
        }
    }

    /// What the node is as a batch: see the module page.
    pub(super) fn lower(&self) -> DataFusionResult<LogicalPlan> {
        match is_repeatable(&self.left)? && is_repeatable(&self.right)? {
            true => self.sorted(),
            false => self.paired(),
        }
    }

    /// Each left row with all right rows that it may meet, and of these the nearest.
    fn paired(&self) -> DataFusionResult<LogicalPlan> {
        let left_time = Expr::Column(self.left_time.clone());
        let right_time = Expr::Column(self.right_time.clone());
        let left = numbered(self.left.as_ref().clone(), LEFT_ROW, Vec::new())?;
        let near = binary_expr(left_time, self.comparison(), right_time.clone());
        let equal = self.left_keys.iter().zip(&self.right_keys);
        let equal = equal.map(|(left, right)| left.clone().eq(right.clone()));
        let joined = LogicalPlanBuilder::from(left)
            .join_on(
                self.right.as_ref().clone(),
                self.join_type(),
                equal.chain([near]),
            )?
            .build()?;
        let nearest_first = right_time.sort(!self.nearest.is_past(), false);
        let ties = self.right.schema().columns().into_iter().map(Expr::Column);
        let ties = ties.map(|column| column.sort(false, false));
        let function = WindowFunctionDefinition::WindowUDF(row_number_udwf());
        let rank = Expr::from(WindowFunction::new(function, Vec::new()))
            .partition_by(vec![named(LEFT_ROW)])
            .order_by([nearest_first].into_iter().chain(ties).collect())
            .build()?;
        let kept = self.schema.columns().into_iter().map(Expr::Column);
        LogicalPlanBuilder::from(joined)
            .window(vec![rank.clone()])?
            .filter(named(&rank.schema_name().to_string()).eq(lit(1_u64)))?
            .project(kept)?
            .build()
    }

    fn join_type(&self) -> JoinType {
        match self.is_outer {
            true => JoinType::Left,
            false => JoinType::Inner,
        }
    }

    /// Both sides sorted; each is computed twice.
    fn sorted(&self) -> DataFusionResult<LogicalPlan> {
        let left_time = Expr::Column(self.left_time.clone());
        let right_time = Expr::Column(self.right_time.clone());
        // Rows of one key and time match the same row: which of them has which number is all one.
        let in_order = self.left_keys.iter().chain([&left_time]);
        let in_order = in_order.map(|expr| expr.clone().sort(true, false));
        let left = numbered(self.left.as_ref().clone(), LEFT_ROW, in_order.collect())?;
        let known = self.right_keys.iter().chain([&right_time]);
        let known = known.map(|expr| expr.clone().is_not_null());
        let right = LogicalPlanBuilder::from(self.right.as_ref().clone())
            .filter(conjunction(known).expect("at least a time"))?
            .build()?;
        let ties = right.schema().columns().into_iter().map(Expr::Column);
        let ties = ties.map(|column| column.sort(true, true));
        let in_order = [right_time.clone().sort(self.nearest.is_past(), false)];
        let in_order = in_order.into_iter().chain(ties).collect();
        let right = numbered(right, RIGHT_ROW, in_order)?;
        let matches = self.matches((&left, left_time), (&right, right_time))?;
        let kept = self.schema.columns().into_iter().map(Expr::Column);
        let of_left = named(LEFT_ROW).eq(named(OF_LEFT));
        LogicalPlanBuilder::from(left)
            .join_on(matches, JoinType::Inner, [of_left])?
            .join_on(
                right,
                self.join_type(),
                [named(NEAREST).eq(named(RIGHT_ROW))],
            )?
            .project(kept)?
            .build()
    }

    /// For each left row, by its number, the number of the nearest right row; NULL where there is
    /// none.
    fn matches(
        &self,
        (left, left_time): (&LogicalPlan, Expr),
        (right, right_time): (&LogicalPlan, Expr),
    ) -> DataFusionResult<LogicalPlan> {
        // At one time the right rows stand before the left ones that may meet them.
        let (left_place, right_place) = match self.nearest {
            Nearest::AtOrBefore | Nearest::AtOrAfter => (1_i64, 0_i64),
            Nearest::Before | Nearest::After => (0, 1),
        };
        let names = (0..self.left_keys.len()).map(|number| format!("asof_key_{number}"));
        let names: Vec<String> = names.collect();
        let side = |plan: &LogicalPlan, keys: &[Expr], rest: [Expr; 4]| {
            let keys = keys.iter().zip(&names);
            let keys = keys.map(|(key, name)| key.clone().alias(name));
            let rest = rest.into_iter().zip([TIME, PLACE, OF_LEFT, OF_RIGHT]);
            let rest = rest.map(|(expr, name)| expr.alias(name));
            let columns: Vec<Expr> = keys.chain(rest).collect();
            LogicalPlanBuilder::from(plan.clone()).project(columns)
        };
        let none = || lit(ScalarValue::UInt64(None));
        let left_columns = [left_time, lit(left_place), named(LEFT_ROW), none()];
        let right_columns = [right_time, lit(right_place), none(), named(RIGHT_ROW)];
        let right = side(right, &self.right_keys, right_columns)?.build()?;
        let both = side(left, &self.left_keys, left_columns)?.union(right)?;
        // Right rows are numbered in the order of time: the last one so far has the greatest.
        let function = WindowFunctionDefinition::AggregateUDF(max_udaf());
        let last = Expr::from(WindowFunction::new(function, vec![named(OF_RIGHT)]))
            .partition_by(names.iter().map(|name| named(name)).collect())
            .order_by(vec![
                named(TIME).sort(self.nearest.is_past(), false),
                named(PLACE).sort(true, false),
            ])
            .window_frame(WindowFrame::new_bounds(
                WindowFrameUnits::Rows,
                WindowFrameBound::Preceding(ScalarValue::UInt64(None)),
                WindowFrameBound::CurrentRow,
            ))
            .build()?;
        let so_far = named(&last.schema_name().to_string());
        // A row without a time stands behind all others and is near none.
        let nearest = when(named(TIME).is_not_null(), so_far).end()?;
        both.window(vec![last])?
            .filter(named(OF_LEFT).is_not_null())?
            .project([named(OF_LEFT), nearest.alias(NEAREST)])?
            .build()
    }
}

fn named(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// Whether a plan certainly gives the same rows when it is computed again: relations at one epoch,
/// and what follows from their rows alone. A LIMIT, say, may have others.
fn is_repeatable(plan: &LogicalPlan) -> DataFusionResult<bool> {
    let mut is_repeatable = true;
    plan.apply(|node| {
        is_repeatable &= match node {
            LogicalPlan::TableScan(scan) => scan.fetch.is_none(),
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Union(_)
            | LogicalPlan::Values(_)
            | LogicalPlan::EmptyRelation(_) => true,
            _ => false,
        };
        for expr in node.expressions() {
            let is_odd = |expr: &Expr| {
                Ok(matches!(
                    expr,
                    Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_)
                ))
            };
            is_repeatable &= !expr.is_volatile() && !expr.exists(is_odd)?;
        }
        Ok(match is_repeatable {
            true => TreeNodeRecursion::Continue,
            false => TreeNodeRecursion::Stop,
        })
    })?;
    Ok(is_repeatable)
}

/// The rows with their numbers, in an order where there is one.
fn numbered(
    plan: LogicalPlan,
    name: &str,
    in_order: Vec<SortExpr>,
) -> DataFusionResult<LogicalPlan> {
    let function = WindowFunctionDefinition::WindowUDF(row_number_udwf());
    let number = Expr::from(WindowFunction::new(function, Vec::new()));
    let number = match in_order.is_empty() {
        true => number,
        false => number.order_by(in_order).build()?,
    };
    let columns = plan.schema().columns().into_iter().map(Expr::Column);
    let named = named(&number.schema_name().to_string()).alias(name);
    let columns: Vec<Expr> = columns.chain([named]).collect();
    LogicalPlanBuilder::from(plan)
        .window(vec![number])?
        .project(columns)?
        .build()
}

fn joined_schema(
    left: &LogicalPlan,
    right: &LogicalPlan,
    is_outer: bool,
) -> DataFusionResult<DFSchemaRef> {
    let kind = match is_outer {
        true => JoinType::Left,
        false => JoinType::Inner,
    };
    let schema = datafusion::logical_expr::build_join_schema(left.schema(), right.schema(), &kind)?;
    Ok(Arc::new(schema))
}

impl PartialOrd for AsOfNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for AsOfNode {
    fn name(&self) -> &str {
        "AsOf"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let times = [&self.left_time, &self.right_time].map(|time| Expr::Column(time.clone()));
        let keys = self.left_keys.iter().chain(&self.right_keys);
        times.into_iter().chain(keys.cloned()).collect()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let columns = self.schema.columns().into_iter();
        columns.map(|column| column.name).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let kind = if self.is_outer { "Left" } else { "Inner" };
        let (left, operator, right) = (&self.left_time, self.comparison(), &self.right_time);
        write!(f, "AsOf: {kind} {left} {operator} {right}")?;
        for (left, right) in self.left_keys.iter().zip(&self.right_keys) {
            write!(f, ", {left} = {right}")?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(
        &self,
        exprs: Vec<Expr>,
        inputs: Vec<LogicalPlan>,
    ) -> DataFusionResult<Self> {
        let wrong = || DataFusionError::Internal("an ASOF join has two inputs".to_string());
        let inputs: [LogicalPlan; 2] = inputs.try_into().map_err(|_| wrong())?;
        let mut exprs = exprs.into_iter();
        let mut time = |known: &Column| match exprs.next() {
            Some(Expr::Column(column)) => column,
            _ => known.clone(),
        };
        let times = [time(&self.left_time), time(&self.right_time)];
        let mut left_keys: Vec<Expr> = exprs.collect();
        let right_keys = left_keys.split_off(self.left_keys.len().min(left_keys.len()));
        self.with(inputs, [left_keys, right_keys], times)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.left.schema().fields().len();
        let wanted = |is_left: bool| {
            let mine = output_columns.iter().copied();
            let mine = mine.filter(move |&column| (column < width) == is_left);
            mine.map(move |column| if is_left { column } else { column - width })
        };
        let used = |schema: &DFSchema, keys: &[Expr], time: &Column| -> Option<Vec<usize>> {
            let columns = keys.iter().flat_map(Expr::column_refs).chain([time]);
            columns
                .map(|column| schema.index_of_column(column).ok())
                .collect()
        };
        let mut left: Vec<usize> = wanted(true).collect();
        left.extend(used(self.left.schema(), &self.left_keys, &self.left_time)?);
        // Which of several rows at one time is the last depends on all right columns.
        let right: Vec<usize> = (0..self.right.schema().fields().len()).collect();
        left.sort_unstable();
        left.dedup();
        Some(vec![left, right])
    }
}

/// Makes every ASOF join a relation of its own, and such a join of every one FOR SYSTEM_TIME.
///
/// # Errors
/// What is wrong with a join FOR SYSTEM_TIME AS OF.
pub(super) fn nest_joins(planner: &Planner<'_>, tree: &mut impl VisitMut) -> Result<()> {
    let mut nesting = Nesting {
        planner,
        queries: HashSet::new(),
    };
    match tree.visit(&mut nesting) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Nesting<'a> {
    planner: &'a Planner<'a>,
    /// What the WITH clauses so far name.
    queries: HashSet<String>,
}

impl VisitorMut for Nesting<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
        let queries = query.with.iter().flat_map(|with| &with.cte_tables);
        self.queries
            .extend(queries.map(|query| folded(&query.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        for from in &mut select.from {
            self.nest(from, false)?;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match factor {
            TableFactor::NestedJoin {
                table_with_joins, ..
            } => self.nest(table_with_joins, true),
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Nesting<'_> {
    /// `is_relation`: whether the joins stand in parentheses of their own.
    fn nest(&self, from: &mut TableWithJoins, is_relation: bool) -> ControlFlow<Error> {
        for join in &mut from.joins {
            if let Err(error) = self.by_event_time(join) {
                return ControlFlow::Break(error);
            }
        }
        let is_nested = is_relation && from.joins.len() == 1 && is_as_of(&from.joins[0]);
        if is_nested || !from.joins.iter().any(is_as_of) {
            return ControlFlow::Continue(());
        }
        for join in std::mem::take(&mut from.joins) {
            let is_as_of = is_as_of(&join);
            from.joins.push(join);
            if is_as_of {
                let as_of = from.joins.pop().expect("just pushed");
                let before = TableWithJoins {
                    joins: std::mem::take(&mut from.joins),
                    relation: std::mem::replace(&mut from.relation, nested(None)),
                };
                let left = match before.joins.is_empty() {
                    true => before.relation,
                    false => nested(Some(before)),
                };
                from.relation = nested(Some(TableWithJoins {
                    relation: left,
                    joins: vec![as_of],
                }));
            }
        }
        ControlFlow::Continue(())
    }

    /// `JOIN b FOR SYSTEM_TIME AS OF a.ts` is an ASOF join by b's event time.
    fn by_event_time(&self, join: &mut ast::Join) -> Result<()> {
        let TableFactor::Table {
            name,
            alias,
            version,
            ..
        } = &mut join.relation
        else {
            return Ok(());
        };
        let Some(TableVersion::ForSystemTimeAsOf(time)) = version else {
            return Ok(());
        };
        let (is_outer, constraint) = match &join.join_operator {
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (false, constraint),
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                (true, constraint)
            }
            _ => {
                return Err(Error::unsupported(
                    "FOR SYSTEM_TIME AS OF is for the right side of JOIN and LEFT JOIN",
                )
                .hint("write it as a LEFT JOIN b FOR SYSTEM_TIME AS OF a.ts ON a.id = b.id"));
            }
        };
        if is_proctime(time) {
            // A join like any other, of what is there at the moment.
            return Ok(());
        }
        let parts: Option<Vec<&ast::Ident>> = name.0.iter().map(|part| part.as_ident()).collect();
        let parts = parts.unwrap_or_default();
        let Some(table) = parts.last() else {
            return Ok(());
        };
        let reference = match parts.as_slice() {
            [schema, table] => TableReference::partial(folded(schema), folded(table)),
            _ => TableReference::bare(folded(table)),
        };
        let is_query = parts.len() == 1 && self.queries.contains(&folded(table));
        let column = match is_query {
            true => None,
            false => self.planner.event_time(&reference)?,
        };
        let Some(column) = column else {
            return Err(Error::unsupported(format!(
                "\"{}\" has no versions to be joined AS OF a time",
                folded(table)
            ))
            .detail("its versions are told apart by an event time, and it declares none")
            .hint(
                "declare one with WATERMARK FOR, or write ASOF JOIN … ON a.k = b.k AND \
                 a.ts >= b.ts",
            ));
        };
        let qualifier = match alias {
            Some(alias) if !alias.columns.is_empty() => {
                let error = Error::unsupported(
                    "other names for the columns of a relation FOR SYSTEM_TIME AS OF are not \
                     supported",
                );
                return Err(error.hint("give them their names in the SELECT list"));
            }
            Some(alias) => alias.name.clone(),
            None => (*table).clone(),
        };
        let right =
            ast::Expr::CompoundIdentifier(vec![qualifier, ast::Ident::with_quote('"', column)]);
        let condition = ast::Expr::BinaryOp {
            left: Box::new(time.clone()),
            op: BinaryOperator::GtEq,
            right: Box::new(right),
        };
        join.join_operator = AsOfJoin {
            is_outer,
            is_versioned: true,
            condition: Some(condition),
        }
        .into_operator(constraint.clone());
        *version = None;
        Ok(())
    }
}

fn folded(ident: &ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

fn is_as_of(join: &ast::Join) -> bool {
    matches!(join.join_operator, JoinOperator::AsOf { .. })
}

/// A join in parentheses; of nothing, for a moment.
fn nested(join: Option<TableWithJoins>) -> TableFactor {
    let nothing = || TableWithJoins {
        relation: TableFactor::TableFunction {
            expr: ast::Expr::Value(Value::Null.into()),
            alias: None,
        },
        joins: Vec::new(),
    };
    TableFactor::NestedJoin {
        table_with_joins: Box::new(join.unwrap_or_else(nothing)),
        alias: None,
    }
}

/// Plans an ASOF join where a table is expected.
#[derive(Debug)]
pub struct AsOfPlanner;

impl RelationPlanner for AsOfPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DataFusionResult<RelationPlanning> {
        match relation {
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } if table_with_joins.joins.len() == 1 && is_as_of(&table_with_joins.joins[0]) => {
                let plan = plan_join(*table_with_joins, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation {
                    plan,
                    alias,
                })))
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

fn plan_join(
    mut from: TableWithJoins,
    context: &mut dyn RelationPlannerContext,
) -> DataFusionResult<LogicalPlan> {
    let join = from.joins.pop().expect("one join");
    let Some((as_of, constraint)) = AsOfJoin::of(join.join_operator) else {
        return Err(external(Error::internal("an ASOF join of another shape")));
    };
    let left = context.plan(from.relation)?;
    let right = context.plan(join.relation)?;
    let schema = left.schema().join(right.schema())?;
    let on = match constraint {
        JoinConstraint::On(on) => Some(on),
        JoinConstraint::None => None,
        JoinConstraint::Using(_) | JoinConstraint::Natural => {
            let error = Error::unsupported("USING of an ASOF join is not supported")
                .hint("write ON a.k = b.k AND a.ts >= b.ts");
            return Err(external(error));
        }
    };
    let mut conditions = Vec::new();
    for condition in on.into_iter().chain(as_of.condition) {
        let planned = context.sql_to_expr(condition, &schema)?;
        let planned = floats_win(planned, &schema)?.data;
        conditions.extend(split_conjunction(&planned).into_iter().cloned());
    }
    let sides = Sides {
        left: left.schema(),
        right: right.schema(),
    };
    let (mut left_keys, mut right_keys, mut times) = (Vec::new(), Vec::new(), None);
    for condition in conditions {
        let Some((on_left, operator, on_right)) = sides.split(&condition) else {
            return Err(external(other_condition(&condition)));
        };
        match operator {
            Operator::Eq => {
                let (on_left, on_right) = sides.alike(on_left, on_right)?;
                left_keys.push(on_left);
                right_keys.push(on_right);
            }
            Operator::Gt | Operator::GtEq | Operator::Lt | Operator::LtEq if times.is_none() => {
                times = Some((on_left, operator, on_right));
            }
            _ => return Err(external(other_condition(&condition))),
        }
    }
    let Some((on_left, operator, on_right)) = times else {
        let error = Error::new(
            SqlState::SYNTAX_ERROR,
            "an ASOF join needs a comparison of two times",
        );
        let hint = "write ASOF JOIN b ON a.k = b.k AND a.ts >= b.ts";
        return Err(external(error.hint(hint)));
    };
    let (left_time, right_time) = sides.times(on_left, on_right).map_err(external)?;
    let node = AsOfNode {
        schema: joined_schema(&left, &right, as_of.is_outer)?,
        left: Arc::new(left),
        right: Arc::new(right),
        left_keys,
        right_keys,
        left_time,
        right_time,
        nearest: match operator {
            Operator::GtEq => Nearest::AtOrBefore,
            Operator::Gt => Nearest::Before,
            Operator::LtEq => Nearest::AtOrAfter,
            _ => Nearest::After,
        },
        is_outer: as_of.is_outer,
        is_versioned: as_of.is_versioned,
    };
    Ok(LogicalPlan::Extension(Extension {
        node: Arc::new(node),
    }))
}

fn other_condition(condition: &Expr) -> Error {
    Error::unsupported(format!(
        "an ASOF join cannot have the condition {condition}"
    ))
    .detail("it has equalities of the two sides and one comparison of their times")
    .hint("put what concerns one side into a subquery, and the rest into WHERE")
}

struct Sides<'a> {
    left: &'a DFSchema,
    right: &'a DFSchema,
}

impl Sides<'_> {
    /// A comparison with the left side's expression on the left.
    fn split(&self, condition: &Expr) -> Option<(Expr, Operator, Expr)> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else {
            return None;
        };
        let is_of = |expr: &Expr, schema: &DFSchema| {
            let columns = expr.column_refs();
            !columns.is_empty() && columns.into_iter().all(|column| schema.has_column(column))
        };
        if is_of(left, self.left) && is_of(right, self.right) {
            return Some((left.as_ref().clone(), *op, right.as_ref().clone()));
        }
        let is_swapped = is_of(left, self.right) && is_of(right, self.left);
        let operator = op.swap().filter(|_| is_swapped)?;
        Some((right.as_ref().clone(), operator, left.as_ref().clone()))
    }

    /// Both as the type in which they are compared.
    fn alike(&self, on_left: Expr, on_right: Expr) -> DataFusionResult<(Expr, Expr)> {
        let types = (on_left.get_type(self.left)?, on_right.get_type(self.right)?);
        let common = comparison_coercion(&types.0, &types.1);
        let common = common.filter(|common| !matches!(common, DataType::Interval(_)));
        let Some(common) = common else {
            let error = Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!("{on_left} and {on_right} of an ASOF join cannot be compared"),
            );
            return Err(external(error.hint("cast one of them")));
        };
        Ok((
            on_left.cast_to(&common, self.left)?,
            on_right.cast_to(&common, self.right)?,
        ))
    }

    fn times(&self, on_left: Expr, on_right: Expr) -> Result<(Column, Column)> {
        let time = |expr: Expr, schema: &DFSchema| -> Result<(Column, DataType)> {
            let wrong = |what: &str| {
                let message = format!("the times of an ASOF join must be {what}");
                Error::new(SqlState::DATATYPE_MISMATCH, message)
            };
            let Expr::Column(column) = expr else {
                return Err(wrong("columns").hint("compute them in a subquery"));
            };
            let field = schema.field_from_column(&column);
            let data_type = field.map_err(crate::plan::failure::from_datafusion)?;
            let data_type = data_type.data_type().clone();
            match data_type {
                DataType::Timestamp(TimeUnit::Microsecond, _) => Ok((column, data_type)),
                _ => Err(wrong("timestamps")
                    .detail(format!("column \"{}\" has another type", column.name))),
            }
        };
        let (left, left_type) = time(on_left, self.left)?;
        let (right, right_type) = time(on_right, self.right)?;
        match left_type == right_type {
            true => Ok((left, right)),
            false => Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                "the times of an ASOF join must be of the same type",
            )
            .detail("one is with and one without time zone")
            .hint("cast one of them in a subquery")),
        }
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
