//! The running engine: catalog, step engine and what sessions share.
//!
//! DDL statements change the catalog one at a time under one lock, which none holds while a view is
//! built or a broker asked; everything else only reads shared values. The catalog is a value behind
//! a lock that is replaced whole, so a statement plans against one state.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use datafusion::execution::SessionState;
use tokio::sync::{mpsc, oneshot};

use crate::base::limits::SNAPSHOT_PERCENT;
use crate::base::{Clock, Epoch, EventTime, Memory, ObjectId};
use crate::catalog::{Catalog, Definition, Object, ObjectKind};
use crate::dataflow::{
    Command, Objects, Progress, Published, RecoveredView, Runtime, RuntimeOptions, SourceSpec,
    Startup,
};
use crate::engine::define;
use crate::engine::memory::with_memory;
use crate::engine::point_cache::PointCache;
use crate::engine::query_pool::QueryPool;
use crate::engine::response::Notice;
use crate::engine::session::{Session, SessionParameters};
use crate::error::{Error, Result, SqlState};
use crate::storage::{CatalogStore, Change, DataDirectory, IdCounter};
use crate::view::SnapshotLimits;

/// How the engine is to run.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    pub data_dir: PathBuf,
    /// Shards of each dataflow.
    pub workers: usize,
    pub checkpoint_interval_micros: i64,
    pub memory: Arc<Memory>,
    /// How long a reader keeps its snapshot.
    pub snapshot_age: Duration,
    pub clock: Clock,
    /// Told what the start is at; ends it.
    pub startup: Arc<Startup>,
}

/// The engine that sessions speak to; cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub runtime: Runtime,
    pub queries: QueryPool,
    pub directory: DataDirectory,
    pub store: CatalogStore,
    // Replaced whole by DDL; readers copy the pointer.
    catalog: RwLock<Arc<Catalog>>,
    /// The running sources' connectors, for SELECT and for DDL over them.
    sources: Mutex<BTreeMap<ObjectId, Arc<SourceSpec>>>,
    /// Views that are being built, or could not be.
    progress: Mutex<BTreeMap<ObjectId, Arc<Progress>>>,
    /// Definitions that are in the catalog and not yet on disk.
    unsaved: Mutex<BTreeMap<ObjectId, Definition>>,
    /// One change of the catalog at a time; shared, because it goes along with the end of a
    /// definition that outlives its statement.
    pub ddl: Arc<tokio::sync::Mutex<()>>,
    /// One writer of a table at a time: reading, checking keys and writing are one unit.
    writers: Mutex<BTreeMap<ObjectId, Arc<tokio::sync::Mutex<()>>>>,
    /// How many transactions that hold a table wait for another one.
    pub waiting_holders: AtomicU32,
    pub template: SessionState,
    /// The one for queries that run once.
    pub query_template: SessionState,
    /// SELECTs by key, compiled.
    pub points: PointCache,
    pub memory: Arc<Memory>,
    pub clock: Clock,
    pub started_at: EventTime,
}

/// In a query of its own a scalar subquery that gives several rows is found out when it runs; as
/// the join that a view needs it is not.
fn query_template(template: &SessionState) -> SessionState {
    let mut state = template.clone();
    let options = state.config_mut().options_mut();
    options
        .optimizer
        .enable_physical_uncorrelated_scalar_subquery = true;
    state
}

impl Engine {
    /// Opens the data directory and brings everything in it back to life. Blocks: recovery reads
    /// checkpoint and journal.
    pub fn open(options: EngineOptions) -> Result<Engine> {
        let directory = DataDirectory::open(&options.data_dir)?;
        let store = CatalogStore::open(directory.catalog())?;
        let mut template = with_memory(crate::plan::session_state(), &options.memory)?;
        crate::system::register(&mut template)?;
        let mut loaded = Loaded::default();
        for definition in definitions(&store)? {
            let name = definition.name.clone();
            loaded
                .add(&directory, &template, definition)
                .map_err(|error| error.context(format!("object \"{name}\"")))?;
        }
        let Loaded {
            catalog,
            objects,
            sources,
            mut progress,
        } = loaded;
        sweep(&directory, &catalog)?;
        let runtime_options = RuntimeOptions {
            workers: options.workers,
            clock: options.clock.clone(),
            checkpoint_interval_micros: options.checkpoint_interval_micros,
            memory: options.memory.clone(),
            snapshots: SnapshotLimits {
                age: options.snapshot_age,
                bytes: options.memory.limit() / 100 * SNAPSHOT_PERCENT,
            },
        };
        let runtime = Runtime::start(&directory, runtime_options, objects, &options.startup)?;
        let (_, running) = runtime.published().status();
        progress.retain(|id, _| running.iter().all(|relation| relation.id != *id));
        Ok(Engine(Arc::new(Shared {
            runtime,
            queries: QueryPool::start()?,
            directory,
            store,
            catalog: RwLock::new(Arc::new(catalog)),
            sources: Mutex::new(sources),
            progress: Mutex::new(progress),
            unsaved: Mutex::new(BTreeMap::new()),
            ddl: Arc::default(),
            writers: Mutex::new(BTreeMap::new()),
            waiting_holders: AtomicU32::new(0),
            query_template: query_template(&template),
            template,
            points: PointCache::default(),
            memory: options.memory,
            started_at: EventTime(options.clock.now_micros()),
            clock: options.clock,
        })))
    }

    /// Opens a session; notices that belong to a running statement are sent to `notices`.
    pub fn session(
        &self,
        parameters: SessionParameters,
        notices: mpsc::Sender<Notice>,
    ) -> Result<Session> {
        Ok(Session::new(self.clone(), parameters, notices))
    }

    /// Ends the step engine after its running step. Blocks.
    pub fn shutdown(&self) {
        self.0.runtime.shutdown();
    }

    /// Who holds how much memory.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.0.memory
    }

    pub fn published(&self) -> &Arc<Published> {
        self.0.runtime.published()
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        self.0.catalog()
    }

    /// Takes a checkpoint and answers with its epoch when it is durable.
    pub async fn checkpoint(&self) -> Result<Epoch> {
        let (done, answer) = oneshot::channel();
        self.0.runtime.send(Command::Checkpoint { done })?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Shared {
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn set_catalog(&self, change: impl FnOnce(&mut Catalog)) {
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = catalog.as_ref().clone();
        change(&mut next);
        *catalog = Arc::new(next);
    }

    pub fn sources(&self) -> MutexGuard<'_, BTreeMap<ObjectId, Arc<SourceSpec>>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The views that are not ready.
    pub fn progress(&self) -> MutexGuard<'_, BTreeMap<ObjectId, Arc<Progress>>> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.retain(|_, progress| !progress.is_finished());
        progress
    }

    pub fn unsaved(&self) -> MutexGuard<'_, BTreeMap<ObjectId, Definition>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to write a table, to be held from reading its rows until they are written.
    pub fn writer(&self, id: ObjectId) -> Arc<tokio::sync::Mutex<()>> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.entry(id).or_default().clone()
    }

    pub fn forget(&self, id: ObjectId) {
        self.sources().remove(&id);
        self.progress().remove(&id);
        self.unsaved().remove(&id);
        self.writers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
    }

    pub fn next_id(&self) -> Result<(ObjectId, u32)> {
        let id = ObjectId(self.store.next_id(IdCounter::Object)?);
        let oid = u32::try_from(self.store.next_id(IdCounter::Oid)?)
            .map_err(|_| Error::internal("the oids are used up"))?;
        Ok((id, oid))
    }

    /// Writes definitions to the catalog's disk, all or none; durable on return.
    pub fn persist(&self, definitions: &[Definition]) -> Result<()> {
        let put = |definition: &Definition| {
            let value = serde_json::to_vec(definition)
                .map_err(|error| Error::internal(format!("a catalog entry: {error}")))?;
            Ok(Change::put(define::object_key(definition.id), value))
        };
        let changes = definitions.iter().map(put).collect::<Result<Vec<_>>>()?;
        self.store.commit(&changes)
    }

    /// Takes objects out of what runs; their ids are already gone from the catalog.
    pub async fn forget_running(&self, ids: &[ObjectId]) {
        let (sender, answer) = oneshot::channel();
        let command = Command::Drop {
            ids: ids.to_vec(),
            done: sender,
        };
        if self.runtime.send(command).is_ok() {
            // A server that is shutting down has nothing left that runs.
            let _ = answer.await;
        }
        ids.iter().for_each(|id| self.forget(*id));
    }
}

/// The definitions on disk, by id, each name once.
///
/// Two of one name are there if a CREATE became durable that never came to its end. Nobody has been
/// told of its object or could use it, so the newer one is the one that was acknowledged.
fn definitions(store: &CatalogStore) -> Result<Vec<Definition>> {
    let mut newest: BTreeMap<String, Definition> = BTreeMap::new();
    for (_, value) in store.scan(define::OBJECT_PREFIX)? {
        let definition: Definition = serde_json::from_slice(&value).map_err(|error| {
            Error::new(
                SqlState::DATA_CORRUPTED,
                format!("a catalog entry: {error}"),
            )
        })?;
        let name = definition.name.clone();
        let (older, newer) = match newest.remove(&name) {
            None => (None, definition),
            Some(other) if other.id > definition.id => (Some(definition), other),
            Some(other) => (Some(other), definition),
        };
        newest.insert(name, newer.clone());
        let Some(older) = older else {
            continue;
        };
        tracing::error!(
            "the catalog has two objects with the name \"{}\": {} {} and {} {}; the older one, \
             whose CREATE was never answered, is removed",
            older.name,
            older.kind,
            older.id,
            newer.kind,
            newer.id
        );
        store.commit(&[Change::remove(define::object_key(older.id))])?;
    }
    let mut definitions: Vec<Definition> = newest.into_values().collect();
    definitions.sort_unstable_by_key(|definition| definition.id);
    Ok(definitions)
}

/// What is read from the catalog's disk on start.
#[derive(Default)]
struct Loaded {
    catalog: Catalog,
    objects: Objects,
    sources: BTreeMap<ObjectId, Arc<SourceSpec>>,
    progress: BTreeMap<ObjectId, Arc<Progress>>,
}

impl Loaded {
    fn add(
        &mut self,
        directory: &DataDirectory,
        template: &SessionState,
        definition: Definition,
    ) -> Result<()> {
        let (id, name) = (definition.id, definition.name.clone());
        let defined = define::define(directory, template, &self.catalog, definition)?;
        match defined.runtime {
            define::Runs::Source { spec, logs } => {
                self.sources.insert(id, Arc::new(spec.as_ref().clone()));
                self.objects.sources.push((*spec, logs));
            }
            define::Runs::Table(table) => self.objects.tables.push(table),
            define::Runs::Nothing => {}
            define::Runs::View(plan) => {
                let progress = Arc::new(Progress::default());
                self.progress.insert(id, progress.clone());
                self.objects.views.push(RecoveredView {
                    id,
                    name,
                    plan: *plan,
                    progress,
                });
            }
        }
        self.catalog.put(defined.object);
        if let Some(late) = defined.late {
            self.catalog.put(late);
        }
        Ok(())
    }
}

/// Removes files of objects that the catalog does not know: a drop that a crash interrupted.
fn sweep(directory: &DataDirectory, catalog: &Catalog) -> Result<()> {
    for id in directory.objects()? {
        if catalog.get(id).is_none() {
            tracing::info!(object = id.0, "files of a dropped object are removed");
            directory.remove_object(id)?;
        }
    }
    Ok(())
}

/// The error of a request that the step engine did not answer.
pub(super) fn stopped() -> Error {
    Error::new(SqlState::ADMIN_SHUTDOWN, "the server is shutting down")
}

/// Whether an object's rows are kept and can be read at an epoch.
pub(super) fn keeps_rows(object: &Object) -> bool {
    matches!(
        object.kind(),
        ObjectKind::Table | ObjectKind::MaterializedView | ObjectKind::LateRows
    )
}
