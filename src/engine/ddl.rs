//! CREATE, DROP and COMMENT: one at a time, durable before they answer.
//!
//! An object's definition is made durable last: first its text is planned, then what must run for
//! it runs (a view catches up and its state is checkpointed). A crash before that leaves nothing
//! that the next start would not sweep. The lock of definitions is held for moments only: a broker
//! is asked before it is taken, and a view is built between two holds of it (see `build`).
//!
//! A statement can be dropped at any await, when its client cancels or goes. From the first byte
//! that becomes durable on a change therefore runs to its end in a task of its own, which holds the
//! lock: what is on disk and what the server shows are never two things.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::DataType;
use tokio::sync::{OwnedMutexGuard, oneshot};

use crate::base::{Epoch, ObjectId};
use crate::catalog::{Definition, LateIds, Object, ObjectKind};
use crate::dataflow::{Command, NewView, Progress, SourceSpec};
use crate::engine::build::{Build, remove_saved};
use crate::engine::define::{self, Runs, object_key};
use crate::engine::response::{Cancel, Notice, Response, Severity};
use crate::engine::server::{Engine, Shared, stopped};
use crate::engine::session::{Session, done};
use crate::error::{Error, Result, SqlState};
use crate::sql::statement::{
    Comment, CommentTarget, CreateMaterializedView, CreateRelation, CreateView, DropBehavior,
    DropObjects, ObjectKind as WrittenKind,
};
use crate::sql::{ObjectName, Parsed};
use crate::storage::{Change, LogWriter};

/// How often a statement that builds a view says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

impl Session {
    pub(super) async fn create_source(
        &mut self,
        parsed: &Parsed,
        create: &CreateRelation,
        cancel: Cancel,
    ) -> Result<Response> {
        if self.is_there(&create.name, create.if_not_exists)? {
            return Ok(done("CREATE SOURCE"));
        }
        let definition = self.definition(&create.name, ObjectKind::Source, parsed)?;
        let id = definition.id;
        let resolved = self.resolve_source(definition, &cancel).await;
        let created = match resolved {
            Ok((object, spec, logs)) => self.add_source(create, object, spec, logs).await,
            Err(error) => Err(error),
        };
        if !matches!(created, Ok(true)) {
            // Nobody knows it: what was made for it goes.
            let files = self.engine.clone();
            let removed = move || files.0.directory.remove_object(id);
            blocking(removed, &Cancel::new()).await?;
        }
        created?;
        Ok(done("CREATE SOURCE"))
    }

    /// Plans a source and asks its broker, without keeping others from their definitions.
    async fn resolve_source(
        &self,
        mut definition: Definition,
        cancel: &Cancel,
    ) -> Result<(Object, SourceSpec, Vec<LogWriter>)> {
        let (engine, catalog) = (self.engine.clone(), self.catalog());
        let work = move || {
            let shared = &engine.0;
            let template = &shared.template;
            let defined =
                define::define(&shared.directory, template, &catalog, definition.clone())?;
            // Where it begins is decided once: a view made tomorrow begins there too.
            let Runs::Source { mut spec, logs } = defined.runtime else {
                return Err(Error::internal("a source that is none"));
            };
            let partitions = spec.connector.partitions()?;
            let offsets = spec.connector.startup(&partitions)?;
            definition.startup = partitions.into_iter().zip(offsets).collect();
            definition.identity = spec.connector.identity()?;
            spec.startup = definition.startup.clone();
            spec.identity.clone_from(&definition.identity);
            let object = Object {
                definition,
                ..defined.object
            };
            Ok((object, *spec, logs))
        };
        blocking(work, cancel).await
    }

    /// Makes a source that was resolved one of the catalog; false if its name is taken and that is
    /// fine.
    async fn add_source(
        &self,
        create: &CreateRelation,
        object: Object,
        spec: SourceSpec,
        logs: Vec<LogWriter>,
    ) -> Result<bool> {
        let engine = self.engine.clone();
        let ddl = engine.0.ddl.clone().lock_owned().await;
        if self.is_there(&create.name, create.if_not_exists)? {
            return Ok(false);
        }
        run_to_end(async move {
            let (shared, _ddl) = (&engine.0, ddl);
            persist(&engine, &object.definition).await?;
            shared.sources().insert(object.id(), Arc::new(spec.clone()));
            shared.runtime.send(Command::AddSource {
                spec: Box::new(spec),
                logs,
            })?;
            flush_step(shared).await?;
            shared.set_catalog(|catalog| catalog.put(object));
            Ok(true)
        })
        .await
    }

    pub(super) async fn create_table(
        &mut self,
        parsed: &Parsed,
        create: &CreateRelation,
    ) -> Result<Response> {
        let engine = self.engine.clone();
        let shared = &engine.0;
        let ddl = shared.ddl.clone().lock_owned().await;
        if self.is_there(&create.name, create.if_not_exists)? {
            return Ok(done("CREATE TABLE"));
        }
        let definition = self.definition(&create.name, ObjectKind::Table, parsed)?;
        let catalog = self.catalog();
        let template = &shared.template;
        let defined = define::define(&shared.directory, template, &catalog, definition.clone())?;
        let Runs::Table(table) = defined.runtime else {
            return Err(Error::internal("a table that is none"));
        };
        refuse_interval_key(&defined.object, create)?;
        run_to_end(async move {
            let (shared, _ddl) = (&engine.0, ddl);
            persist(&engine, &definition).await?;
            shared.runtime.send(Command::AddTable(table))?;
            flush_step(shared).await?;
            shared.set_catalog(|catalog| catalog.put(defined.object));
            Ok(())
        })
        .await?;
        Ok(done("CREATE TABLE"))
    }

    pub(super) async fn create_view(
        &mut self,
        parsed: &Parsed,
        create: &CreateView,
    ) -> Result<Response> {
        let engine = self.engine.clone();
        let shared = &engine.0;
        let ddl = shared.ddl.clone().lock_owned().await;
        if create.or_replace && self.catalog().find(create.name.name()).is_some() {
            return Err(
                Error::unsupported("CREATE OR REPLACE VIEW of a view that exists")
                    .hint("drop it first"),
            );
        }
        if self.is_there(&create.name, create.if_not_exists)? {
            return Ok(done("CREATE VIEW"));
        }
        let definition = self.definition(&create.name, ObjectKind::View, parsed)?;
        let catalog = self.catalog();
        let template = &shared.template;
        let defined = define::define(&shared.directory, template, &catalog, definition.clone())?;
        shared.check_saved(&defined.object.depends_on)?;
        put(&engine, ddl, defined.object).await?;
        Ok(done("CREATE VIEW"))
    }

    pub(super) async fn create_materialized_view(
        &mut self,
        parsed: &Parsed,
        create: &CreateMaterializedView,
        cancel: Cancel,
    ) -> Result<Response> {
        const TAG: &str = "CREATE MATERIALIZED VIEW";
        let engine = self.engine.clone();
        let shared = &engine.0;
        let ddl = shared.ddl.clone().lock_owned().await;
        if create.or_replace {
            return Err(Error::unsupported("CREATE OR REPLACE MATERIALIZED VIEW")
                .hint("drop the view and create it again"));
        }
        if self.is_there(&create.name, create.if_not_exists)? {
            return Ok(done(TAG));
        }
        let mut definition = self.definition(&create.name, ObjectKind::MaterializedView, parsed)?;
        let catalog = self.catalog();
        if define::keeps_late_rows(create)? {
            let late = define::late_name(create.name.name());
            let free = catalog.check_free(&late);
            free.map_err(|error| create.name.position().mark(error))?;
            let (id, oid) = shared.next_id()?;
            definition.late = Some(LateIds { id, oid });
        }
        let template = &shared.template;
        let defined = define::define(&shared.directory, template, &catalog, definition.clone())?;
        let Runs::View(plan) = defined.runtime else {
            return Err(Error::internal("a view that is none"));
        };
        let is_background = self.settings.is_on("background_ddl");
        let progress = Arc::new(Progress::default());
        let (sender, answer) = oneshot::channel();
        let view = NewView {
            id: definition.id,
            name: definition.name.clone(),
            plan: *plan,
            progress: progress.clone(),
            checkpoints: is_background.then(|| shared.directory.catchup(definition.id)),
            done: sender,
        };
        if is_background {
            // On disk first: a restart goes on with it.
            shared.check_saved(&defined.object.depends_on)?;
            run_to_end(async move {
                let (shared, _ddl) = (&engine.0, ddl);
                persist(&engine, &definition).await?;
                shared.progress().insert(definition.id, progress);
                shared.runtime.send(Command::AddView(Box::new(view)))?;
                shared.set_catalog(|catalog| {
                    catalog.put(defined.object);
                    defined.late.into_iter().for_each(|late| catalog.put(late));
                });
                tokio::spawn(build_in_background(engine.clone(), definition.id, answer));
                Ok(())
            })
            .await?;
            return Ok(done(TAG));
        }
        let objects = (defined.object, defined.late);
        let build = Build::begin(&engine, objects, progress.clone());
        shared.runtime.send(Command::AddView(Box::new(view)))?;
        drop(ddl);
        match self.wait_for_view(answer, &progress, &cancel).await {
            Ok(_) => build.finish().await?,
            Err(error) => return Err(build.give_up(error).await),
        }
        for gap in progress.gaps() {
            let message = format!(
                "the view begins at the oldest record there is: {gap} were deleted by retention"
            );
            self.notify(Severity::Warning, SqlState::WARNING, message);
        }
        Ok(done(TAG))
    }

    /// Waits until the view has joined the running ones, saying how far it is.
    async fn wait_for_view(
        &self,
        mut answer: oneshot::Receiver<Result<Epoch>>,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<Epoch> {
        let mut tick = tokio::time::interval(PROGRESS_EVERY);
        tick.tick().await;
        loop {
            tokio::select! {
                built = &mut answer => return built.map_err(|_| stopped())?,
                () = cancel.cancelled() => {
                    progress.cancel();
                    // It may have joined in this instant; then the statement is done.
                    return (&mut answer).await.map_err(|_| stopped())?;
                }
                _ = tick.tick() => {
                    let (records, total) =
                        (progress.records_done.get(), progress.records_total.get());
                    let message = format!(
                        "building the view: {records} of {total} records read"
                    );
                    self.notify(Severity::Notice, SqlState::SUCCESSFUL_COMPLETION, message);
                }
            }
        }
    }

    pub(super) async fn drop_objects(&mut self, drop: &DropObjects) -> Result<Response> {
        let engine = self.engine.clone();
        let shared = &engine.0;
        let ddl = shared.ddl.clone().lock_owned().await;
        let tag = format!("DROP {}", drop.kind);
        self.refuse_in_transaction(&tag)?;
        let kind = kind_of(drop.kind)?;
        let mut ids: Vec<ObjectId> = Vec::new();
        for name in &drop.names {
            let catalog = self.catalog();
            if drop.if_exists && catalog.find(name.name()).is_none() {
                let message = format!("{kind} \"{}\" does not exist, skipping", name.name());
                self.notify(Severity::Notice, SqlState::SUCCESSFUL_COMPLETION, message);
                continue;
            }
            let object = catalog
                .resolve_kind(name.name(), kind)
                .map_err(|error| name.position().mark(error))?;
            let dependents = catalog.dependents(object.id());
            let others: Vec<&Arc<Object>> = dependents
                .iter()
                .filter(|dependent| !drop.names.iter().any(|n| n.name() == dependent.name()))
                .filter(|dependent| dependent.kind() != ObjectKind::LateRows)
                .collect();
            if !others.is_empty() && drop.behavior == DropBehavior::Restrict {
                let list: Vec<String> = others
                    .iter()
                    .map(|o| {
                        format!(
                            "{} {} depends on {kind} {}",
                            o.kind(),
                            o.name(),
                            name.name()
                        )
                    })
                    .collect();
                return Err(Error::new(
                    SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                    format!(
                        "cannot drop {kind} {} because other objects depend on it",
                        name.name()
                    ),
                )
                .detail(list.join("\n"))
                .hint("use DROP ... CASCADE to drop the dependent objects too"));
            }
            ids.push(object.id());
            ids.extend(dependents.iter().map(|object| object.id()));
        }
        // Dependents have higher ids: they go first.
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.dedup();
        if ids.is_empty() {
            return Ok(done(&tag));
        }
        self.tell_of_cascade(drop, &ids);
        run_to_end(async move {
            let _ddl = ddl;
            drop_all(&engine, &ids).await
        })
        .await?;
        Ok(done(&tag))
    }

    /// As in Postgres, the objects that go with those that were named are named in turn.
    fn tell_of_cascade(&self, drop: &DropObjects, ids: &[ObjectId]) {
        let catalog = self.catalog();
        let is_named = |object: &Object| drop.names.iter().any(|n| n.name() == object.name());
        let others: Vec<String> = ids
            .iter()
            .rev()
            .filter_map(|id| catalog.get(*id))
            .filter(|object| !is_named(object) && object.kind() != ObjectKind::LateRows)
            .map(|object| format!("drop cascades to {} {}", object.kind(), object.name()))
            .collect();
        let (message, detail) = match others.as_slice() {
            [] => return,
            [only] => (only.clone(), None),
            _ => {
                let message = format!("drop cascades to {} other objects", others.len());
                (message, Some(others.join("\n")))
            }
        };
        self.send_notice(Notice {
            severity: Severity::Notice,
            state: SqlState::SUCCESSFUL_COMPLETION,
            message,
            detail,
            hint: None,
        });
    }

    pub(super) async fn comment(&mut self, comment: &Comment) -> Result<Response> {
        let engine = self.engine.clone();
        let ddl = engine.0.ddl.clone().lock_owned().await;
        let CommentTarget::Object { kind, name } = &comment.target else {
            return Err(Error::unsupported("COMMENT ON COLUMN is not supported")
                .hint("comment on the relation"));
        };
        let catalog = self.catalog();
        let object = catalog
            .resolve_kind(name.name(), kind_of(*kind)?)
            .map_err(|error| name.position().mark(error))?;
        engine.0.check_saved(&[object.id()])?;
        let mut changed = object.as_ref().clone();
        changed.definition.comment.clone_from(&comment.text);
        put(&engine, ddl, changed).await?;
        Ok(done("COMMENT"))
    }

    /// Whether the name is taken and that is fine.
    fn is_there(&self, name: &ObjectName, if_not_exists: bool) -> Result<bool> {
        if let Some(schema) = name.schema().filter(|schema| *schema != "public") {
            return Err(name.position().mark(
                Error::new(
                    SqlState::INVALID_NAME,
                    format!("schema \"{schema}\" does not exist"),
                )
                .hint("there is one schema, public"),
            ));
        }
        match self.catalog().check_free(name.name()) {
            Ok(()) => Ok(false),
            Err(_) if if_not_exists => {
                let message = format!("relation \"{}\" already exists, skipping", name.name());
                self.notify(Severity::Notice, SqlState::SUCCESSFUL_COMPLETION, message);
                Ok(true)
            }
            Err(error) => Err(name.position().mark(error)),
        }
    }

    fn definition(
        &self,
        name: &ObjectName,
        kind: ObjectKind,
        parsed: &Parsed,
    ) -> Result<Definition> {
        self.refuse_in_transaction(&format!("CREATE {kind}"))?;
        let (id, oid) = self.shared().next_id()?;
        Ok(Definition {
            id,
            oid,
            kind,
            name: name.name().to_string(),
            text: parsed.text.clone(),
            startup: BTreeMap::new(),
            identity: None,
            comment: None,
            late: None,
        })
    }

    /// A definition is at once what everybody sees; a ROLLBACK could not take it back.
    fn refuse_in_transaction(&self, what: &str) -> Result<()> {
        match self.transaction.is_some() {
            false => Ok(()),
            true => Err(Error::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                format!("{what} cannot run inside a transaction block"),
            )),
        }
    }

    /// Waits until everything acknowledged before, in any session, is in every view.
    pub(super) async fn flush(&mut self) -> Result<Response> {
        flush_step(self.shared()).await?;
        Ok(done("FLUSH"))
    }

    pub(super) fn cancel_jobs(&mut self, jobs: &[u64]) -> Result<Response> {
        let progress = self.shared().progress();
        for job in jobs {
            let job_of = |job: &u64| progress.get(&ObjectId(*job));
            let running = job_of(job).filter(|progress| progress.failure().is_none());
            let running = running.ok_or_else(|| {
                Error::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("job {job} does not exist"),
                )
                .hint("SHOW JOBS lists them")
            })?;
            running.cancel();
        }
        Ok(done("CANCEL JOB"))
    }
}

/// Runs what must not be left half done in a task of its own. The statement waits for it; where
/// that is dropped the task goes on.
pub(super) async fn run_to_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let task = tokio::spawn(work);
    task.await
        .map_err(|error| Error::internal(format!("the end of a definition: {error}")))?
}

/// Makes an object, new or changed, durable and visible. Nothing of it runs.
async fn put(engine: &Engine, ddl: OwnedMutexGuard<()>, object: Object) -> Result<()> {
    let engine = engine.clone();
    run_to_end(async move {
        let _ddl = ddl;
        persist(&engine, &object.definition).await?;
        engine.0.set_catalog(|catalog| catalog.put(object));
        Ok(())
    })
    .await
}

async fn persist(engine: &Engine, definition: &Definition) -> Result<()> {
    let (engine, definition) = (engine.clone(), definition.clone());
    blocking(move || engine.0.persist(&[definition]), &Cancel::new()).await
}

/// Waits until the step engine has taken every command sent before.
async fn flush_step(shared: &Shared) -> Result<()> {
    let (sender, answer) = oneshot::channel();
    shared.runtime.send(Command::Flush { done: sender })?;
    answer.await.map_err(|_| stopped())?.map(drop)
}

/// Takes objects away for good, dependents before what they depend on. The caller holds the lock of
/// definitions.
pub(super) async fn drop_all(engine: &Engine, ids: &[ObjectId]) -> Result<()> {
    let shared = &engine.0;
    let removed = |id: &ObjectId| Change::remove(object_key(*id));
    let changes: Vec<Change> = ids.iter().map(removed).collect();
    let store = engine.clone();
    blocking(move || store.0.store.commit(&changes), &Cancel::new()).await?;
    shared.set_catalog(|catalog| ids.iter().for_each(|id| catalog.remove(*id)));
    shared.forget_running(ids).await;
    let (files, ids) = (engine.clone(), ids.to_vec());
    let remove = move || {
        ids.iter()
            .try_for_each(|id| files.0.directory.remove_object(*id))
    };
    blocking(remove, &Cancel::new()).await
}

/// Waits for a view that nobody waits for. One whose building is cancelled is dropped; one that
/// cannot be built stays with its cause.
async fn build_in_background(
    engine: Engine,
    id: ObjectId,
    answer: oneshot::Receiver<Result<Epoch>>,
) {
    let Ok(Err(error)) = answer.await else {
        return;
    };
    tracing::warn!(view = id.0, %error, "a view was not built");
    if error.state() == SqlState::QUERY_CANCELED
        && let Err(error) = remove_saved(&engine, id).await
    {
        tracing::warn!(view = id.0, %error, "a cancelled view could not be dropped");
    }
}

/// Runs what waits on disks and brokers off the async threads; ends early when cancelled.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
    cancel: &Cancel,
) -> Result<T> {
    let work = tokio::task::spawn_blocking(work);
    tokio::select! {
        result = work => {
            result.map_err(|error| Error::internal(format!("a task of the statement: {error}")))?
        }
        () = cancel.cancelled() => {
            cancel.check()?;
            Err(Error::internal("a cancel that is none"))
        }
    }
}

pub(super) fn kind_of(kind: WrittenKind) -> Result<ObjectKind> {
    Ok(match kind {
        WrittenKind::Source => ObjectKind::Source,
        WrittenKind::Table => ObjectKind::Table,
        WrittenKind::View => ObjectKind::View,
        WrittenKind::MaterializedView => ObjectKind::MaterializedView,
        WrittenKind::Sink | WrittenKind::Index => {
            return Err(Error::unsupported(format!(
                "there are no objects of kind {kind}"
            )));
        }
    })
}

/// 0A000 for a key by which equal rows would not be found alike. It is not refused where tables are
/// defined: one that is there already stays.
fn refuse_interval_key(object: &Object, create: &CreateRelation) -> Result<()> {
    let relation = &object.relation;
    let columns = relation.key.iter().flatten();
    let mut fields = columns.map(|&column| relation.schema.field(column));
    match fields.find(|field| matches!(field.data_type(), DataType::Interval(_))) {
        None => Ok(()),
        Some(field) => {
            let message = format!(
                "column \"{}\" of type interval cannot be a key",
                field.name()
            );
            Err(create.name.position().mark(
                Error::unsupported(message)
                    .detail("intervals that are equal need not be alike: 1 day, 24 hours")
                    .hint("keep the length as a number: extract(epoch FROM i)"),
            ))
        }
    }
}
