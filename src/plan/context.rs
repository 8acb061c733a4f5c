//! Names, types and functions: from a query's text to DataFusion's logical plan.
//!
//! A [`Planner`] resolves names through a function that its user gives it, so that the same
//! planning
//! serves streams (the tables only have schemas) and ad-hoc SELECT (the tables can be scanned at
//! one
//! epoch). It is DataFusion's `ContextProvider`, without async and without a global catalog.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::TableReference;
use datafusion::config::ConfigOptions;
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{
    ContextProvider, ExprPlanner, RelationPlanner, TypePlanner,
};
use datafusion::logical_expr::{
    AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::optimizer::OptimizerRule;
use datafusion::prelude::SessionConfig;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast;

use crate::catalog::Object;
use crate::error::{Error, Result};
use crate::function::aggregate::STACKING_RULE;
use crate::plan::as_of::{AsOfPlanner, nest_joins};
use crate::plan::calls::check_calls;
use crate::plan::casts::PostgresCasts;
use crate::plan::constant::exact_constants;
use crate::plan::failure::from_datafusion;
use crate::plan::forms::plain_forms;
use crate::plan::intervals::IntervalsByLength;
use crate::plan::lenient::lenient;
use crate::plan::literal::sql_type;
use crate::plan::lookup::LookupPlanner;
use crate::plan::membership::with_nulls;
use crate::plan::numbers::{FloatsWin, floats_win};
use crate::plan::operators::PostgresOperators;
use crate::plan::orders::ordered_once;
use crate::plan::parameters::{infer_expression, infer_types};
use crate::plan::place::at_name;
use crate::plan::repeat::counted;
use crate::plan::ties::{FETCH_WITH_TIES, fetch_with_ties, ranked_ties};
use crate::plan::united::called_alike;
use crate::plan::width::{refuse_wide, refuse_wide_plan};
use crate::plan::window::WindowPlanner;
use crate::sql::clauses::refuse_left;

/// DataFusion's rule that turns an inner join into a semi join where the other side's columns are
/// not used: a join that a view can maintain would become one that it cannot.
const JOIN_RULE: &str = "eliminate_join";

/// Finds a relation by name: `Ok(None)` where there is none.
pub type TableResolver<'a> =
    dyn Fn(&TableReference) -> Result<Option<Arc<dyn TableSource>>> + Sync + 'a;

/// What the event time of a relation is called: `Ok(None)` where it has none.
pub type EventTimes<'a> = dyn Fn(&TableReference) -> Result<Option<String>> + Sync + 'a;

/// Finds a function that only one statement has, such as `current_user`, before those that all
/// have.
pub type FunctionResolver<'a> = dyn Fn(&str) -> Option<Arc<ScalarUDF>> + Sync + 'a;

/// The functions of one statement.
#[derive(Clone, Copy)]
pub struct StatementFunctions<'a> {
    pub find: &'a FunctionResolver<'a>,
    /// What `find` knows: near ones are named where a function is not found.
    pub names: &'a [&'static str],
}

/// DataFusion's state with our functions, types and rules: a template that is made once.
pub fn session_state() -> SessionState {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema("tidemill", "public")
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_collect_statistics(false);
    let options = config.options_mut();
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    // Its own optimizer says of some columns that they cannot be NULL where its inputs say they
    // can.
    options.execution.skip_physical_aggregate_schema_check = true;
    options.execution.time_zone = Some("UTC".to_string());
    // A scalar subquery that runs once cannot be kept up to date; as a join it can.
    options
        .optimizer
        .enable_physical_uncorrelated_scalar_subquery = false;
    // It stacks two aggregates where a multiset per group is enough, and takes sums apart as if
    // they
    // had DataFusion's types.
    let is_kept = |rule: &Arc<dyn OptimizerRule + Send + Sync>| {
        rule.name() != STACKING_RULE && rule.name() != JOIN_RULE
    };
    let rules = datafusion::optimizer::Optimizer::new().rules;
    let mut analysis = datafusion::optimizer::Analyzer::new().rules;
    // Before types are made to fit: there is nothing left to fit then.
    analysis.insert(0, Arc::new(FloatsWin));
    // After types are made to fit: that makes casts.
    analysis.push(Arc::new(PostgresCasts));
    analysis.push(Arc::new(IntervalsByLength));
    let builder = SessionStateBuilder::new()
        .with_config(config)
        // Before the library's own, which come with its features.
        .with_expr_planners(vec![Arc::new(PostgresOperators)])
        .with_default_features()
        .with_analyzer_rules(analysis)
        .with_optimizer_rules(rules.into_iter().filter(is_kept).collect())
        .with_type_planner(Arc::new(PostgresTypes))
        .with_relation_planners(vec![
            Arc::new(WindowPlanner),
            Arc::new(AsOfPlanner),
            Arc::new(LookupPlanner),
        ]);
    let mut state = builder.build();
    crate::function::register(&mut state).expect("our functions have names of their own");
    // Expressions that are compiled without a plan are rewritten by this.
    for rewrite in [
        Arc::new(PostgresCasts) as Arc<dyn FunctionRewrite + Send + Sync>,
        Arc::new(IntervalsByLength),
    ] {
        datafusion::execution::FunctionRegistry::register_function_rewrite(&mut state, rewrite)
            .expect("a rewrite has no name to clash with");
    }
    state
}

/// Plans queries against the relations that `tables` finds.
pub struct Planner<'a> {
    state: &'a SessionState,
    tables: &'a TableResolver<'a>,
    event_times: Option<&'a EventTimes<'a>>,
    functions: Option<StatementFunctions<'a>>,
    parameters: Vec<Option<FieldRef>>,
}

impl<'a> Planner<'a> {
    pub fn new(state: &'a SessionState, tables: &'a TableResolver<'a>) -> Self {
        Planner {
            state,
            tables,
            event_times: None,
            functions: None,
            parameters: Vec::new(),
        }
    }

    /// With event times of relations that can be scanned: what their columns are called.
    pub fn with_event_times(self, event_times: &'a EventTimes<'a>) -> Self {
        Planner {
            event_times: Some(event_times),
            ..self
        }
    }

    /// What the event time of a relation is called, if it is there and has one.
    pub(super) fn event_time(&self, name: &TableReference) -> Result<Option<String>> {
        if let Some(event_times) = self.event_times {
            return event_times(name);
        }
        let Some(table) = (self.tables)(name)? else {
            return Ok(None);
        };
        let table: &dyn std::any::Any = table.as_ref();
        let relation = table
            .downcast_ref::<PlannedTable>()
            .map(|table| &table.object.relation);
        let name = |relation: &crate::catalog::Relation| {
            let column = relation.event_time?;
            Some(relation.schema.field(column).name().clone())
        };
        Ok(relation.and_then(name))
    }

    /// With types that the parameters are known to have; the others are inferred.
    pub fn with_parameters(self, parameters: Vec<Option<FieldRef>>) -> Self {
        Planner { parameters, ..self }
    }

    /// With functions of the statement's own.
    pub fn with_functions(self, functions: StatementFunctions<'a>) -> Self {
        Planner {
            functions: Some(functions),
            ..self
        }
    }

    pub fn state(&self) -> &SessionState {
        self.state
    }

    /// The query as DataFusion understands it, not yet optimized.
    pub fn query(&self, query: &ast::Query) -> Result<LogicalPlan> {
        let statement = ast::Statement::Query(Box::new(query.clone()));
        let plan = self.statement(statement)?;
        refuse_wide_plan(&plan)?;
        Ok(plan)
    }

    /// A statement that the library parsed (query, INSERT …).
    pub fn statement(&self, mut statement: ast::Statement) -> Result<LogicalPlan> {
        refuse_wide(&statement)?;
        nest_joins(self, &mut statement)?;
        refuse_left(&statement)?;
        check_calls(self, &statement)?;
        let planned = self.planned(statement.clone());
        planned.map_err(|error| at_name(error, &statement))
    }

    fn planned(&self, mut statement: ast::Statement) -> Result<LogicalPlan> {
        exact_constants(&mut statement);
        plain_forms(&mut statement)?;
        let options = self.parser_options();
        let planner = SqlToRel::new_with_options(self, options);
        let context = PlannerContext::new();
        let mut context = context.with_prepare_param_data_types(self.parameters.clone());
        planner
            .sql_statement_to_plan_with_context(statement, &mut context)
            .and_then(ranked_ties)
            .and_then(counted)
            .and_then(called_alike)
            .and_then(ordered_once)
            .and_then(infer_types)
            .and_then(with_nulls)
            .map_err(from_datafusion)
    }

    /// An expression over the columns of a schema.
    pub fn expression(
        &self,
        expr: &ast::Expr,
        schema: &datafusion::common::DFSchema,
    ) -> Result<datafusion::logical_expr::Expr> {
        let mut exact = expr.clone();
        nest_joins(self, &mut exact)?;
        refuse_left(&exact)?;
        check_calls(self, expr)?;
        let planner = SqlToRel::new_with_options(self, self.parser_options());
        let mut context = PlannerContext::new();
        exact_constants(&mut exact);
        plain_forms(&mut exact)?;
        let planned = planner
            .sql_to_expr(exact, schema, &mut context)
            .and_then(|planned| Ok(infer_expression(planned, schema)?.data))
            .and_then(|planned| Ok(floats_win(planned, schema)?.data));
        planned.map_err(|error| at_name(from_datafusion(error), expr))
    }

    /// The plan with every type as the rows will have it.
    pub fn analyze(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        let options = self.state.config_options();
        self.state
            .analyzer()
            .execute_and_check(plan.clone(), options, |_, _| {})
            .map_err(from_datafusion)
    }

    /// Analyzes and optimizes, for a batch answer and for a stream alike.
    pub fn optimize(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        self.state.optimize(plan).map_err(from_datafusion)
    }

    fn parser_options(&self) -> ParserOptions {
        let options = &self.state.config_options().sql_parser;
        ParserOptions {
            parse_float_as_decimal: options.parse_float_as_decimal,
            enable_ident_normalization: options.enable_ident_normalization,
            map_string_types_to_utf8view: options.map_string_types_to_utf8view,
            ..ParserOptions::default()
        }
    }
}

impl ContextProvider for Planner<'_> {
    fn get_table_source(&self, name: TableReference) -> DataFusionResult<Arc<dyn TableSource>> {
        match (self.tables)(&name) {
            Ok(Some(table)) => Ok(table),
            Ok(None) => {
                let message = format!("relation \"{name}\" does not exist");
                let error = Error::new(crate::error::SqlState::UNDEFINED_TABLE, message);
                Err(DataFusionError::External(Box::new(error)))
            }
            Err(error) => Err(DataFusionError::External(Box::new(error))),
        }
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if name == FETCH_WITH_TIES {
            return Some(fetch_with_ties());
        }
        let own = self.functions.and_then(|functions| (functions.find)(name));
        let function = own.or_else(|| self.state.scalar_functions().get(name).cloned())?;
        Some(lenient(function))
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_table_function_source(
        &self,
        name: &str,
        args: Vec<datafusion::logical_expr::Expr>,
    ) -> DataFusionResult<Arc<dyn TableSource>> {
        let Some(function) = self.state.table_functions().get(name) else {
            let message = format!("table function \"{name}\" does not exist");
            let error = Error::new(crate::error::SqlState::UNDEFINED_FUNCTION, message);
            return Err(DataFusionError::External(Box::new(error)));
        };
        let call = datafusion::catalog::TableFunctionArgs::new(&args, self.state);
        Ok(provider_as_source(
            function.create_table_provider_with_args(call)?,
        ))
    }

    fn create_cte_work_table(
        &self,
        name: &str,
        schema: SchemaRef,
    ) -> DataFusionResult<Arc<dyn TableSource>> {
        let table = CteWorkTable::new(name, schema);
        Ok(provider_as_source(Arc::new(table)))
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        self.state.relation_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(PostgresTypes))
    }

    fn udf_names(&self) -> Vec<String> {
        let own = self.functions.map_or(&[][..], |functions| functions.names);
        let all = self.state.scalar_functions().keys().cloned();
        all.chain(own.iter().map(ToString::to_string)).collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state
            .higher_order_functions()
            .keys()
            .cloned()
            .collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// SQL type names mean what they mean in Postgres.
#[derive(Debug)]
struct PostgresTypes;

impl TypePlanner for PostgresTypes {
    fn plan_type_field(&self, data_type: &ast::DataType) -> DataFusionResult<Option<FieldRef>> {
        // A type that is not Postgres' is left to DataFusion's own names.
        Ok(sql_type(data_type)
            .ok()
            .map(|known| Arc::new(known.to_field("", true))))
    }
}

/// A relation as a stream plan sees it: a schema and an object, nothing to scan.
#[derive(Debug)]
pub struct PlannedTable {
    pub object: Arc<Object>,
}

impl TableSource for PlannedTable {
    fn schema(&self) -> SchemaRef {
        self.object.relation.schema.clone()
    }
}
