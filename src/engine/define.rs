//! From a definition to an object: the same way at CREATE and at every start.
//!
//! The text is parsed and planned again; what was resolved at CREATE (ids, startup offsets) comes
//! from the definition. So nothing that is derived is ever stored, and a new version of the planner
//! applies to old objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::TableSource;

use crate::base::{ObjectId, PartitionId};
use crate::catalog::{Catalog, Changelog, Definition, Object, ObjectKind, Relation};
use crate::connector::options::Options;
use crate::dataflow::{SourceSpec, TableSpec};
use crate::error::{Error, Result, SqlState};
use crate::operator::map::OnError;
use crate::plan::source::{plan_source, plan_table};
use crate::plan::{
    LATE_SUFFIX, LateOption, Operation, PlannedTable, Planner, RetentionMode, RetentionOption,
    StreamPlan, ViewOptions, plan_view,
};
use crate::sql::statement::{CreateMaterializedView, CreateRelation, SqlOption, Statement};
use crate::sql::{interval, parse_single};
use crate::storage::{DataDirectory, LogOptions, LogWriter, SegmentLog};
use crate::view::Identity;

/// Where the catalog's store keeps definitions.
pub const OBJECT_PREFIX: &[u8] = b"object/";

/// The key of an object's definition; keys sort as ids do.
pub fn object_key(id: ObjectId) -> Vec<u8> {
    format!("object/{:020}", id.0).into_bytes()
}

/// An object and what must run for it.
pub struct Defined {
    pub object: Object,
    /// The relation of a view's late rows.
    pub late: Option<Object>,
    pub runtime: Runs,
}

/// What the step engine is told of an object.
pub enum Runs {
    Source {
        spec: Box<SourceSpec>,
        logs: Vec<LogWriter>,
    },
    Table(TableSpec),
    View(Box<StreamPlan>),
    /// A view without rows: its text is expanded where it is used.
    Nothing,
}

/// Plans the definition's text against the objects before it.
pub fn define(
    directory: &DataDirectory,
    template: &SessionState,
    catalog: &Catalog,
    definition: Definition,
) -> Result<Defined> {
    let parsed = parse_single(&definition.text)?
        .ok_or_else(|| Error::internal("a definition without a statement"))?;
    match &parsed.statement {
        Statement::CreateSource(create) => source(directory, template, catalog, definition, create),
        Statement::CreateTable(create) => table(template, catalog, definition, create),
        Statement::CreateMaterializedView(create) => {
            let mut plan = stream_plan(template, catalog, create)?;
            let relation = Relation {
                schema: plan.schema.clone(),
                key: plan.key.clone(),
                changelog: plan.changelog,
                bounded: plan.bounded.clone(),
                clocked: plan.clocked_columns(),
                event_time: None,
                defaults: Vec::new(),
            };
            let depends_on = named(catalog, &create.query, &plan.depends_on)?;
            let late = late_object(&definition, &mut plan)?;
            let object = Object {
                definition,
                relation,
                depends_on,
            };
            Ok(Defined {
                object,
                late,
                runtime: Runs::View(Box::new(plan)),
            })
        }
        Statement::CreateView(create) => {
            let resolve = resolver(template, catalog);
            let planner = Planner::new(template, &resolve);
            let plan = plan_view(
                &planner,
                &create.query,
                &create.columns,
                &ViewOptions::default(),
            );
            // What cannot be kept up to date can still be a view: its SELECT is run when it is
            // read.
            let (schema, depends_on) = match plan {
                Ok(plan) => (plan.schema, plan.depends_on),
                Err(_) => logical_view(&planner, catalog, create)?,
            };
            let depends_on = named(catalog, &create.query, &depends_on)?;
            let relation = Relation {
                schema,
                key: None,
                changelog: Changelog::Retracting,
                bounded: Vec::new(),
                clocked: Vec::new(),
                event_time: None,
                defaults: Vec::new(),
            };
            Ok(Defined {
                object: Object {
                    definition,
                    relation,
                    depends_on,
                },
                late: None,
                runtime: Runs::Nothing,
            })
        }
        _ => Err(Error::internal("a definition of an unknown kind")),
    }
}

/// The object of a view's late rows; the plan learns its id.
fn late_object(view: &Definition, plan: &mut StreamPlan) -> Result<Option<Object>> {
    let Some(late) = &mut plan.late else {
        return Ok(None);
    };
    let ids = view
        .late
        .ok_or_else(|| Error::internal("late rows without an object"))?;
    late.object = ids.id;
    Ok(Some(Object {
        definition: Definition {
            id: ids.id,
            oid: ids.oid,
            kind: ObjectKind::LateRows,
            name: late_name(&view.name),
            text: String::new(),
            startup: BTreeMap::new(),
            identity: None,
            comment: None,
            late: None,
        },
        relation: Relation {
            schema: late.schema.clone(),
            key: None,
            // The oldest rows make room for new ones.
            changelog: Changelog::Retracting,
            bounded: Vec::new(),
            clocked: Vec::new(),
            event_time: None,
            defaults: Vec::new(),
        },
        depends_on: vec![view.id],
    }))
}

/// What the relation of a view's late rows is called.
pub fn late_name(view: &str) -> String {
    format!("{view}{LATE_SUFFIX}")
}

/// Whether a view's late rows are to be kept.
pub fn keeps_late_rows(create: &CreateMaterializedView) -> Result<bool> {
    Ok(view_options(create)?.late_rows == LateOption::SideOutput)
}

/// What a query depends on: what its plan reads and the views that its text names.
fn named(
    catalog: &Catalog,
    query: &crate::sql::ast::Query,
    read: &[ObjectId],
) -> Result<Vec<ObjectId>> {
    let mut ids: BTreeSet<ObjectId> = read.iter().copied().collect();
    let names = crate::plan::relation_names(query)?;
    ids.extend(
        names
            .iter()
            .filter_map(|name| catalog.find(name))
            .map(|object| object.id()),
    );
    Ok(ids.into_iter().collect())
}

fn logical_view(
    planner: &Planner<'_>,
    catalog: &Catalog,
    create: &crate::sql::statement::CreateView,
) -> Result<(arrow::datatypes::SchemaRef, Vec<ObjectId>)> {
    let (plan, names) = crate::plan::named_query(planner, &create.query, &create.columns)?;
    let optimized = planner.optimize(&crate::plan::lower_windows(plan.clone())?)?;
    let fields: Vec<_> = optimized
        .schema()
        .fields()
        .iter()
        .zip(names)
        .map(|(field, name)| field.as_ref().clone().with_name(name))
        .collect();
    let depends_on = crate::plan::dependencies(&plan)?;
    debug_assert!(depends_on.iter().all(|id| catalog.get(*id).is_some()));
    Ok((Arc::new(arrow::datatypes::Schema::new(fields)), depends_on))
}

/// The plan of a materialized view's dataflow.
pub fn stream_plan(
    template: &SessionState,
    catalog: &Catalog,
    create: &CreateMaterializedView,
) -> Result<StreamPlan> {
    let options = view_options(create)?;
    let resolve = resolver(template, catalog);
    let planner = Planner::new(template, &resolve);
    let plan = plan_view(&planner, &create.query, &create.columns, &options)?;
    check_lateness(&plan, &options)?;
    Ok(plan)
}

/// Finds objects for a stream plan: schemas without rows; views without rows are expanded.
pub fn resolver<'a>(
    template: &'a SessionState,
    catalog: &'a Catalog,
) -> impl Fn(&TableReference) -> Result<Option<Arc<dyn TableSource>>> + Sync + 'a {
    move |reference| {
        let is_public = reference.schema().is_none_or(|schema| schema == "public");
        let is_object = is_public && catalog.find(reference.table()).is_some();
        if !is_object && crate::system::is_relation(reference) {
            return Err(Error::unsupported(format!(
                "system relation \"{reference}\" cannot be used in a view or subscription"
            ))
            .detail("system relations change without a changelog, which is what views follow")
            .hint("SELECT from it when you want to know"));
        }
        if reference.schema().is_some_and(|schema| schema != "public") {
            return Ok(None);
        }
        let object = catalog.resolve(reference.table())?.clone();
        if object.kind() == ObjectKind::View {
            let resolve = resolver_dyn(template, catalog);
            return expanded_view(&Planner::new(template, &*resolve), &object).map(Some);
        }
        Ok(Some(Arc::new(PlannedTable { object })))
    }
}

fn resolver_dyn<'a>(
    template: &'a SessionState,
    catalog: &'a Catalog,
) -> Box<crate::plan::TableResolver<'a>> {
    Box::new(resolver(template, catalog))
}

/// A view without rows as the relation that its query is.
pub fn expanded_view(planner: &Planner<'_>, object: &Object) -> Result<Arc<dyn TableSource>> {
    let parsed = parse_single(&object.definition.text)?
        .ok_or_else(|| Error::internal("a definition without a statement"))?;
    let Statement::CreateView(create) = parsed.statement else {
        return Err(Error::internal("a view's text is not CREATE VIEW"));
    };
    let (plan, names) = crate::plan::named_query(planner, &create.query, &create.columns)?;
    let exprs = plan
        .schema()
        .columns()
        .into_iter()
        .zip(names)
        .map(|(column, name)| datafusion::logical_expr::Expr::Column(column).alias(name));
    let plan = datafusion::logical_expr::LogicalPlanBuilder::from(plan.clone())
        .project(exprs.collect::<Vec<_>>())
        .and_then(datafusion::logical_expr::LogicalPlanBuilder::build)
        .map_err(crate::plan::from_datafusion)?;
    let table =
        datafusion::catalog::view::ViewTable::new(plan, Some(object.definition.text.clone()));
    Ok(provider_as_source(Arc::new(table)))
}

fn view_options(create: &CreateMaterializedView) -> Result<ViewOptions> {
    let mut options = options_of(&create.options);
    let mut planned = ViewOptions {
        emit: create.emit.clone(),
        ..ViewOptions::default()
    };
    if let Some(text) = options.take("allowed_lateness") {
        planned.allowed_lateness_micros = micros("allowed_lateness", &text)?;
    }
    match options.take("late_rows").as_deref() {
        None | Some("discard") => {}
        Some("retract") if planned.allowed_lateness_micros > 0 => {}
        Some("retract") => {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "late_rows = 'retract' needs allowed_lateness",
            )
            .hint("say for how long: allowed_lateness = '1 minute'"));
        }
        Some("side_output") => planned.late_rows = LateOption::SideOutput,
        Some(other) => {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("late_rows = '{other}' is not known"),
            )
            .hint("use 'discard', 'side_output' or 'retract'"));
        }
    }
    planned.retention = retention(&mut options)?;
    planned.state_ttl_micros = state_ttl(&mut options)?;
    match options.take("on_error").as_deref() {
        None | Some("fail_row") => {}
        Some("null") => planned.on_error = OnError::Null,
        Some(other) => {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("on_error = '{other}' is not known"),
            )
            .hint("use 'fail_row' or 'null'"));
        }
    }
    for (name, hint) in PLANNED_OPTIONS {
        if options.take(name).is_some() {
            let error = Error::unsupported(format!("option {name} is not supported")).hint(hint);
            return Err(options.at(name, error));
        }
    }
    options.finish("a materialized view")?;
    Ok(planned)
}

/// Options of a materialized view that have a meaning and are not there yet.
const PLANNED_OPTIONS: [(&str, &str); 1] = [(
    "history",
    "the last changes are kept up to a size, over restarts too",
)];

/// Lateness keeps windows open; where there is none it would be taken and do nothing. So would a
/// relation of late rows where no row is judged.
fn check_lateness(plan: &StreamPlan, options: &ViewOptions) -> Result<()> {
    if options.late_rows == LateOption::SideOutput && plan.late.is_none() {
        return Err(Error::unsupported(
            "late_rows = 'side_output' of a view that judges no rows is not supported",
        )
        .hint(
            "rows are late for a window, a join or functions OVER an order by the event time of a \
             source with a WATERMARK",
        ));
    }
    let mut nodes = plan.nodes.iter().zip(plan.by_clock());
    // No row comes behind the clock.
    let has_window = nodes.any(|(node, by_clock)| match &node.operation {
        _ if by_clock => false,
        Operation::Window(..)
        | Operation::Judge(_)
        | Operation::Session(_)
        | Operation::SessionAggregate(_) => true,
        Operation::Aggregate(spec) => spec.close.is_some(),
        _ => false,
    });
    match options.allowed_lateness_micros == 0 || has_window {
        true => Ok(()),
        false => Err(Error::unsupported(
            "allowed_lateness of a view without a window or a join by time is not supported",
        )
        .hint("no row is late for it: leave the option out, or use a window or a join by time")),
    }
}

/// How long rows stay, and who is told when they leave.
fn retention(options: &mut Options) -> Result<Option<RetentionOption>> {
    let length = options.take("retention");
    let mode = options.take("retention_mode");
    let refused = |message: String| Error::new(SqlState::INVALID_PARAMETER_VALUE, message);
    let Some(length) = length else {
        return match mode {
            None => Ok(None),
            Some(_) => {
                let error = refused("retention_mode needs retention".to_string())
                    .hint("say how long rows stay: retention = '1 hour'");
                Err(options.at("retention_mode", error))
            }
        };
    };
    let micros = micros("retention", &length)?;
    if micros == 0 {
        let error = refused("retention must be longer than nothing".to_string())
            .hint("for example '1 hour'");
        return Err(options.at("retention", error));
    }
    let mode = match mode.as_deref() {
        None | Some("retract") => RetentionMode::Retract,
        Some("forget") => RetentionMode::Forget,
        Some(other) => {
            let error = refused(format!("retention_mode = '{other}' is not known"))
                .hint("use 'retract' or 'forget'");
            return Err(options.at("retention_mode", error));
        }
    };
    Ok(Some(RetentionOption { micros, mode }))
}

/// How long state is there that no time bounds.
fn state_ttl(options: &mut Options) -> Result<Option<i64>> {
    let Some(length) = options.take("state_ttl") else {
        return Ok(None);
    };
    match micros("state_ttl", &length)? {
        0 => {
            let message = "state_ttl must be longer than nothing";
            let error = Error::new(SqlState::INVALID_PARAMETER_VALUE, message);
            Err(options.at("state_ttl", error.hint("for example '1 day'")))
        }
        micros => Ok(Some(micros)),
    }
}

fn micros(name: &str, text: &str) -> Result<i64> {
    let read = interval::parse(text).map_err(|error| error.context(format!("option {name}")))?;
    read.fixed_micros()
        .filter(|micros| *micros >= 0)
        .ok_or_else(|| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("option {name} must be a fixed, positive length of time"),
            )
            .hint("for example '5 seconds'")
        })
}

/// The options of a WITH list as text.
fn options_of(options: &[SqlOption]) -> Options {
    let text = |option: &SqlOption| {
        (
            option.name.clone(),
            option.value.as_str().to_string(),
            option.position.get(),
        )
    };
    Options::new(options.iter().map(text))
}

fn source(
    directory: &DataDirectory,
    template: &SessionState,
    catalog: &Catalog,
    definition: Definition,
    create: &CreateRelation,
) -> Result<Defined> {
    let resolve = resolver(template, catalog);
    let planner = Planner::new(template, &resolve);
    let planned = plan_source(&planner, create)?;
    let relation = planned.relation();
    let config = planned
        .config
        .ok_or_else(|| Error::internal("a source without a connector"))?;
    let partitions = config.topic().map_or(0, |topic| topic.partitions);
    let retention = config
        .topic()
        .map(|topic| topic.retention)
        .unwrap_or_default();
    let options = LogOptions::for_retention(&retention);
    let mut logs = Vec::new();
    for partition in 0..partitions {
        let path = directory.topic(definition.id, PartitionId(partition));
        let log = SegmentLog::open(path, options.clone())?;
        logs.push(LogWriter::spawn("topic", log));
    }
    let connector = config.open(logs.iter().map(LogWriter::reader).collect())?;
    let spec = SourceSpec {
        id: definition.id,
        name: definition.name.clone(),
        connector,
        schema: planned.schema,
        computed: planned.computed,
        clocked: planned.clocked,
        watermark: planned.watermark,
        startup: definition.startup.clone(),
        idle_timeout_micros: config.idle_timeout_micros,
        time: config.time,
        is_embedded: config.is_embedded(),
        connector_name: config.kind.name(),
        identity: definition.identity.clone(),
        watch_interval_micros: config.watch_interval_micros,
        retention,
    };
    let object = Object {
        definition,
        relation,
        depends_on: Vec::new(),
    };
    Ok(Defined {
        object,
        late: None,
        runtime: Runs::Source {
            spec: Box::new(spec),
            logs,
        },
    })
}

fn table(
    template: &SessionState,
    catalog: &Catalog,
    definition: Definition,
    create: &CreateRelation,
) -> Result<Defined> {
    let resolve = resolver(template, catalog);
    let planner = Planner::new(template, &resolve);
    let planned = plan_table(&planner, create)?;
    let identity = match planned.primary_key.is_empty() {
        true => Identity::Row,
        false => Identity::Key(planned.primary_key.clone()),
    };
    let relation = planned.relation();
    let table = TableSpec {
        id: definition.id,
        name: definition.name.clone(),
        schema: planned.schema,
        identity,
        watermark: planned.watermark,
    };
    let object = Object {
        definition,
        relation,
        depends_on: Vec::new(),
    };
    Ok(Defined {
        object,
        late: None,
        runtime: Runs::Table(table),
    })
}
