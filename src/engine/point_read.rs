//! A SELECT of at most one row by its key: a lookup and a few expressions, compiled once.
//!
//! ```text
//!   SELECT auction, bids * 2 FROM per_auction WHERE auction = $1 AND bids > 3
//!
//!   analyzed plan              point read
//!   Projection                 project  auction, bids * 2        over the row and the parameters
//!   └─ Filter                  filter   auction = $1 AND bids > 3
//!      └─ TableScan            lookup   [$1]                     over the parameters
//! ```
//!
//! DataFusion's way costs some hundred microseconds of planning and several changes of thread,
//! for an answer that takes ten. A compiled read depends on nothing but the catalog's version and
//! its parameters, so it is kept: by a prepared statement, and for texts by
//! [`crate::engine::point_cache`].
//!
//! Rule: the answer is that of the plan. The filters give the key, and are evaluated again over the
//! row that is found; so the lookup only has to find every row that passes them.
//! Bounds: at most one row, and only functions whose cost is that of their arguments
//! ([`LIGHT_FUNCTIONS`]); so it runs where the connection is served.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::config::ConfigOptions;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Distinct, Expr, FetchType, Limit, LogicalPlan, Operator, Projection, SkipType,
    Sort, TableScan, Volatility,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::scalar::ScalarValue;

use crate::base::ObjectId;
use crate::catalog::Object;
use crate::dataflow::Published;
use crate::engine::query::{PlannedQuery, Reading, rename};
use crate::engine::tables::RowsTable;
use crate::error::Result;
use crate::plan::from_datafusion;

/// Functions that may be called where connections are served: what they cost and give is bounded
/// by their arguments. Casts are among them, see [`is_light`].
const LIGHT_FUNCTIONS: [&str; 15] = [
    "abs",
    "add",
    "coalesce",
    "date_part",
    "date_trunc",
    "divide",
    "extract",
    "lower",
    "mod",
    "modulo",
    "multiply",
    "nullif",
    "round",
    "subtract",
    "upper",
];

/// Before the numbers of parameters, where they stand as columns behind those of the row: no user
/// writes such a name.
const PARAMETER: &str = "\u{1}parameter ";

/// See the module page.
#[derive(Debug)]
pub struct PointRead {
    object: Arc<Object>,
    catalog_version: u64,
    /// What values the parameters have; and the same as a row's schema.
    parameters: Vec<FieldRef>,
    parameter_schema: SchemaRef,
    /// For each column of the key its value, and the column's type.
    key: Vec<(Arc<dyn PhysicalExpr>, DataType)>,
    steps: Vec<Step>,
    /// The columns as the user sees them.
    schema: SchemaRef,
}

/// What is done with the row that was found; columns of parameters stand behind its own.
#[derive(Debug)]
enum Step {
    Filter {
        input: SchemaRef,
        predicate: Arc<dyn PhysicalExpr>,
    },
    Project {
        input: SchemaRef,
        exprs: Vec<Arc<dyn PhysicalExpr>>,
    },
}

impl PointRead {
    /// The point read that a query is; `None` where it is not one.
    ///
    /// `parameters`: the types of `$1`, `$2`, … as values will have them.
    pub fn compile(
        reading: &Reading<'_>,
        planned: &PlannedQuery,
        parameters: &[FieldRef],
    ) -> Option<PointRead> {
        // Most queries are none, and are not typed and analyzed once more to find that out.
        let _ = chain(&planned.plan)?;
        let plan = match parameters.is_empty() {
            true => planned.analyzed.clone()?,
            false => {
                let typed = typed_parameters(planned.plan.clone(), parameters).ok()?;
                reading.planning(|planner| planner.analyze(&typed)).ok()?
            }
        };
        let (chain, scan) = chain(&plan)?;
        let provider = source_as_provider(&scan.source).ok()?;
        let provider: &dyn std::any::Any = provider.as_ref();
        let table = provider.downcast_ref::<RowsTable>()?;
        let object = table.object().clone();
        let key = object.relation.key.clone()?;
        let compiling = Compiling::new(reading, parameters)?;
        let mut steps = Vec::new();
        let mut constants = BTreeMap::new();
        // For each column the relation's column that it is, if it is one.
        let mut origins: Vec<Option<usize>> = (0..scan.projected_schema.fields().len())
            .map(Some)
            .collect();
        for node in chain.into_iter().rev() {
            match node {
                LogicalPlan::Filter(filter) => {
                    let schema = filter.input.schema();
                    for conjunct in split_conjunction(&filter.predicate) {
                        if let Some((column, value)) = equated(conjunct, schema)
                            && let Some(column) = origins[column]
                        {
                            constants.entry(column).or_insert(value.clone());
                        }
                    }
                    let input = compiling.row(schema)?;
                    let predicate = compiling.physical(&filter.predicate, &input)?;
                    let input = input.inner().clone();
                    steps.push(Step::Filter { input, predicate });
                }
                LogicalPlan::Projection(projection) => {
                    let schema = projection.input.schema();
                    let input = compiling.row(schema)?;
                    let exprs = projection.expr.iter();
                    let exprs = exprs
                        .map(|expr| compiling.physical(expr, &input))
                        .collect::<Option<_>>()?;
                    let input = input.inner().clone();
                    steps.push(Step::Project { input, exprs });
                    origins = passed_on(projection, &origins);
                }
                // Of one row there is nothing to order, to cut off, or to find twice.
                _ => {}
            }
        }
        let key = key.into_iter().map(|column| {
            let wanted = object.relation.schema.field(column).data_type();
            let value = compiling.physical(constants.get(&column)?, &compiling.parameters)?;
            let found = value.data_type(compiling.parameters.as_arrow()).ok()?;
            // Minus zero equals zero and is another value; numbers are looked up where they fit.
            let is_exact = found == *wanted && !wanted.is_floating();
            let is_whole = wanted.is_signed_integer() && found.is_signed_integer();
            (is_exact || is_whole).then(|| (value, wanted.clone()))
        });
        Some(PointRead {
            key: key.collect::<Option<_>>()?,
            catalog_version: reading.catalog.version(),
            parameters: parameters.to_vec(),
            parameter_schema: compiling.parameters.inner().clone(),
            steps,
            schema: planned.schema.clone(),
            object,
        })
    }

    pub fn object(&self) -> &Arc<Object> {
        &self.object
    }

    pub fn catalog_version(&self) -> u64 {
        self.catalog_version
    }

    pub fn parameters(&self) -> &[FieldRef] {
        &self.parameters
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The answer at the newest epoch.
    ///
    /// # Errors
    /// Those of the expressions; 55000 when the relation has failed or gone.
    pub fn run(&self, published: &Published, parameters: &[ScalarValue]) -> Result<RecordBatch> {
        let arrays = parameters.iter().map(|value| value.to_array_of_size(1));
        let arrays = arrays.collect::<DataFusionResult<Vec<_>>>();
        let arrays = arrays.map_err(from_datafusion)?;
        let of_parameters = one_row(&self.parameter_schema, arrays.clone())?;
        let mut key = Vec::with_capacity(self.key.len());
        for (value, wanted) in &self.key {
            let value = evaluated(value, &of_parameters)?;
            let value = match value.data_type() == wanted {
                true => value,
                // A number that does not fit becomes NULL, which no key is.
                false => cast(&value, wanted).map_err(crate::delta::arrow_error)?,
            };
            if value.null_count() > 0 {
                return Ok(RecordBatch::new_empty(self.schema.clone()));
            }
            key.push(value);
        }
        let found = published.find(self.object.id(), &key)?;
        if found.num_rows() == 0 {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        let mut columns = found.columns().to_vec();
        for step in &self.steps {
            match step {
                Step::Filter { input, predicate } => {
                    let row = [columns.clone(), arrays.clone()].concat();
                    let passes = evaluated(predicate, &one_row(input, row)?)?;
                    let passes = passes.as_boolean();
                    if passes.is_null(0) || !passes.value(0) {
                        return Ok(RecordBatch::new_empty(self.schema.clone()));
                    }
                }
                Step::Project { input, exprs } => {
                    columns.extend(arrays.iter().cloned());
                    let row = one_row(input, std::mem::take(&mut columns))?;
                    for expr in exprs {
                        columns.push(evaluated(expr, &row)?);
                    }
                }
            }
        }
        rename(&columns, 1, &self.schema)
    }

    /// The relation, and the columns by which it is looked up: a line of EXPLAIN.
    pub fn describe(&self) -> String {
        let relation = &self.object.relation;
        let key = relation.key.iter().flatten();
        let names = key.map(|&column| relation.schema.field(column).name().as_str());
        let names: Vec<&str> = names.collect();
        format!("KeyLookup: {} ({})", self.object.name(), names.join(", "))
    }

    /// The relation that is read.
    pub fn id(&self) -> ObjectId {
        self.object.id()
    }
}

/// What expressions are compiled with.
struct Compiling {
    /// The parameters, as columns.
    parameters: DFSchema,
    options: Arc<ConfigOptions>,
    props: ExecutionProps,
}

impl Compiling {
    fn new(reading: &Reading<'_>, parameters: &[FieldRef]) -> Option<Compiling> {
        let fields = parameters.iter().enumerate().map(|(index, field)| {
            let name = format!("{PARAMETER}${}", index + 1);
            let field = field.as_ref().clone().with_name(name).with_nullable(true);
            (None, Arc::new(field))
        });
        let parameters = DFSchema::new_with_metadata(fields.collect(), Default::default()).ok()?;
        let template = &reading.shared.template;
        let options = template.config_options();
        let mut props = ExecutionProps::new();
        props.mark_start_execution(options.clone());
        Some(Compiling {
            parameters,
            options: options.clone(),
            props,
        })
    }

    /// A row's columns and the parameters behind them.
    fn row(&self, columns: &DFSchemaRef) -> Option<DFSchema> {
        columns.join(&self.parameters).ok()
    }

    fn physical(&self, expr: &Expr, schema: &DFSchema) -> Option<Arc<dyn PhysicalExpr>> {
        if !is_light(expr) {
            return None;
        }
        let expr = expr.clone().transform(|expr| {
            Ok(match expr {
                Expr::Placeholder(Placeholder { id, .. }) => {
                    let name = format!("{PARAMETER}{id}");
                    Transformed::yes(Expr::Column(Column::new_unqualified(name)))
                }
                other => Transformed::no(other),
            })
        });
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(schema.clone()))
            .with_config_options(self.options.clone())
            .build();
        // Some functions are there to be replaced by the simplifier.
        let expr = ExprSimplifier::new(context)
            .simplify(expr.ok()?.data)
            .ok()?;
        let planning = PhysicalPlanningContext::default();
        create_physical_expr(&expr, schema, &self.props, &planning).ok()
    }
}

/// The plan with parameters of exactly these types.
fn typed_parameters(plan: LogicalPlan, parameters: &[FieldRef]) -> DataFusionResult<LogicalPlan> {
    let typed = |expr: Expr| {
        expr.transform(|expr| {
            Ok(match expr {
                Expr::Placeholder(Placeholder { id, field }) => {
                    let number = id.strip_prefix('$').and_then(|id| id.parse::<usize>().ok());
                    let known = number.and_then(|number| parameters.get(number.checked_sub(1)?));
                    let field = known.cloned().or(field);
                    Transformed::yes(Expr::Placeholder(Placeholder { id, field }))
                }
                other => Transformed::no(other),
            })
        })
    };
    let plan = plan.transform_up(|plan| {
        plan.map_expressions(typed)?
            .map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(plan.data)
}

/// The nodes above the only scan of a plan that keeps rows apart, from the top.
fn chain(plan: &LogicalPlan) -> Option<(Vec<&LogicalPlan>, &TableScan)> {
    let mut nodes = Vec::new();
    let mut node = plan;
    let mut has_filter = false;
    loop {
        let input = match node {
            LogicalPlan::Filter(filter) => {
                has_filter = true;
                &filter.input
            }
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Distinct(Distinct::All(input)) => input,
            LogicalPlan::Sort(sort) if is_plain(sort) => &sort.input,
            // A filter above it applies to the rows that it leaves.
            LogicalPlan::Limit(limit) if !has_filter && keeps_first(limit) => &limit.input,
            LogicalPlan::TableScan(scan) => {
                let is_whole =
                    scan.projection.is_none() && scan.filters.is_empty() && scan.fetch.is_none();
                return is_whole.then_some((nodes, scan));
            }
            _ => return None,
        };
        nodes.push(node);
        node = input;
    }
}

/// Whether a sort only names columns, so that leaving it out leaves out no error.
fn is_plain(sort: &Sort) -> bool {
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(_));
    sort.fetch.is_none() && sort.expr.iter().all(|sort| is_column(&sort.expr))
}

fn keeps_first(limit: &Limit) -> bool {
    let keeps = match limit.get_fetch_type() {
        Ok(FetchType::Literal(rows)) => rows != Some(0),
        Ok(FetchType::UnsupportedExpr) | Err(_) => false,
    };
    keeps && matches!(limit.get_skip_type(), Ok(SkipType::Literal(0)))
}

/// The column and the value of `column = value`, where the value is the same for every row.
fn equated<'a>(expr: &'a Expr, schema: &DFSchema) -> Option<(usize, &'a Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else {
        return None;
    };
    if *op != Operator::Eq {
        return None;
    }
    let column = |expr: &Expr| match expr {
        Expr::Column(column) => schema.index_of_column(column).ok(),
        // A column of a narrower integer beside a wider one.
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Column(column) => {
                let index = schema.index_of_column(column).ok()?;
                let (from, to) = (schema.field(index).data_type(), cast.field.data_type());
                let is_wider = from.is_signed_integer()
                    && to.is_signed_integer()
                    && from.primitive_width() <= to.primitive_width();
                is_wider.then_some(index)
            }
            _ => None,
        },
        _ => None,
    };
    let is_constant = |expr: &Expr| expr.column_refs().is_empty();
    match (column(left), column(right)) {
        (Some(column), None) if is_constant(right) => Some((column, right)),
        (None, Some(column)) if is_constant(left) => Some((column, left)),
        _ => None,
    }
}

/// The relation's columns that a projection's columns are.
fn passed_on(projection: &Projection, origins: &[Option<usize>]) -> Vec<Option<usize>> {
    let schema = projection.input.schema();
    let origin = |expr: &Expr| match expr.clone().unalias_nested().data {
        Expr::Column(column) => origins[schema.index_of_column(&column).ok()?],
        _ => None,
    };
    projection.expr.iter().map(origin).collect()
}

/// Whether an expression costs next to nothing and depends on its columns only.
fn is_light(expr: &Expr) -> bool {
    let mut is_light = true;
    // The visitor fails where a closure does, and this one does not.
    let _ = expr.apply(|expr| {
        is_light &= match expr {
            Expr::ScalarFunction(call) => {
                let name = call.func.name();
                let is_known = LIGHT_FUNCTIONS.contains(&name) || name.starts_with("cast_to_");
                is_known && call.func.signature().volatility == Volatility::Immutable
            }
            Expr::Alias(_)
            | Expr::Column(_)
            | Expr::Literal(..)
            | Expr::BinaryExpr(_)
            | Expr::Not(_)
            | Expr::IsNotNull(_)
            | Expr::IsNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Negative(_)
            | Expr::Between(_)
            | Expr::Case(_)
            | Expr::Cast(_)
            | Expr::InList(_)
            | Expr::Placeholder(_) => true,
            // Patterns may take long; the rest is no matter of one row.
            _ => false,
        };
        Ok(match is_light {
            true => TreeNodeRecursion::Continue,
            false => TreeNodeRecursion::Stop,
        })
    });
    is_light
}

fn one_row(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(crate::delta::arrow_error)
}

fn evaluated(expr: &Arc<dyn PhysicalExpr>, row: &RecordBatch) -> Result<ArrayRef> {
    let value = expr.evaluate(row).and_then(|value| value.into_array(1));
    value.map_err(from_datafusion)
}
