//! Views that are being built: their names are taken, their rows are not there yet.
//!
//! ```text
//!   CREATE ─ lock ─► name, plan, catalog in memory ─ unlock ─ … building … ─ lock ─► disk, answer
//!                        │                                        │
//!   others:     CREATE same name: 42P07              SELECT: 55000 with progress
//!               DROP of its input: 2BP01             DROP of it: cancels it
//!               CREATE MATERIALIZED VIEW over it: waits until it is there
//! ```
//!
//! Until its statement has come to its end a view is *unsaved*: it is in the catalog of this server
//! and not on disk, and whatever ends the statement early takes it away again with the views above
//! it, which are unsaved too. A view above it that comes to its end first saves both. With
//! `background_ddl` a view is saved before it is built.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::ObjectId;
use crate::catalog::{Catalog, Definition, Object, ObjectKind};
use crate::dataflow::Progress;
use crate::engine::ddl::{blocking, drop_all, run_to_end};
use crate::engine::response::Cancel;
use crate::engine::server::{Engine, Shared};
use crate::error::{Error, Result, SqlState};

/// A view that is being built by a statement that waits for it.
pub struct Build {
    engine: Engine,
    id: ObjectId,
    is_over: bool,
}

impl Build {
    /// Takes the name. The caller holds the lock of definitions.
    pub fn begin(
        engine: &Engine,
        (object, late): (Object, Option<Object>),
        progress: Arc<Progress>,
    ) -> Build {
        let (shared, id) = (&engine.0, object.id());
        shared.progress().insert(id, progress);
        shared.unsaved().insert(id, object.definition.clone());
        shared.set_catalog(|catalog| {
            catalog.put(object);
            late.into_iter().for_each(|late| catalog.put(late));
        });
        Build {
            engine: engine.clone(),
            id,
            is_over: false,
        }
    }

    /// Makes the view's definition durable, now that its state is.
    pub async fn finish(mut self) -> Result<()> {
        self.is_over = true;
        let (engine, id) = (self.engine.clone(), self.id);
        run_to_end(async move { save(&engine, id).await }).await
    }

    /// Takes away what was not built; returns what the client is to be told.
    pub async fn give_up(mut self, cause: Error) -> Error {
        self.is_over = true;
        let is_dropped = self.engine.catalog().get(self.id).is_none();
        let (engine, id) = (self.engine.clone(), self.id);
        let removed = run_to_end(async move {
            remove(&engine, id).await;
            Ok(())
        });
        if let Err(error) = removed.await {
            tracing::error!(view = id.0, %error, "a view that was not built could not be removed");
        }
        match is_dropped {
            true => dropped(),
            false => cause,
        }
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let (engine, id) = (self.engine.clone(), self.id);
        // Where the runtime is gone the process is ending: nothing of the view is on disk.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { remove(&engine, id).await });
        }
    }
}

impl Shared {
    /// Refuses to read a view that is being built.
    pub fn check_ready(&self, object: &Object) -> Result<()> {
        let progress = self.progress().get(&built_as(object)).cloned();
        let Some(progress) = progress else {
            return Ok(());
        };
        let name = object.name();
        let unready = |what: String| Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, what);
        if let Some(cause) = progress.failure() {
            let message = cause.message();
            return Err(
                unready(format!("view \"{name}\" could not be built: {message}"))
                    .hint("drop it and create it again when the cause is gone"),
            );
        }
        let done = progress.records_done.get();
        let how_far = match progress.records_total.get() {
            0 => format!("{done} records read"),
            total => format!("{done} of {total} records read"),
        };
        Err(
            unready(format!("view \"{name}\" is being built: {how_far}"))
                .hint("tidemill.progress shows how far it is"),
        )
    }

    /// Refuses a definition that would be on disk before one it depends on.
    pub fn check_saved(&self, depends_on: &[ObjectId]) -> Result<()> {
        let catalog = self.catalog();
        let unsaved = depends_on
            .iter()
            .filter_map(|id| catalog.get(*id))
            .find(|object| self.unsaved().contains_key(&built_as(object)));
        match unsaved {
            None => Ok(()),
            Some(object) => self.check_ready(object),
        }
    }
}

/// The view that an object is built with: late rows come with theirs.
fn built_as(object: &Object) -> ObjectId {
    match (object.kind(), object.depends_on.first()) {
        (ObjectKind::LateRows, Some(view)) => *view,
        _ => object.id(),
    }
}

/// Puts the view, and those below it that are not on disk yet, into the catalog's store.
async fn save(engine: &Engine, id: ObjectId) -> Result<()> {
    let shared = &engine.0;
    let _ddl = shared.ddl.lock().await;
    let catalog = shared.catalog();
    if catalog.get(id).is_none() {
        return Err(dropped());
    }
    let ids = with_inputs(&catalog, id);
    let definitions: Vec<Definition> = {
        let unsaved = shared.unsaved();
        ids.iter()
            .filter_map(|id| unsaved.get(id).cloned())
            .collect()
    };
    let saver = engine.clone();
    let written = definitions.clone();
    blocking(move || saver.0.persist(&written), &Cancel::new()).await?;
    let mut unsaved = shared.unsaved();
    for definition in definitions {
        unsaved.remove(&definition.id);
    }
    Ok(())
}

/// The object and everything that it depends on, directly or not.
fn with_inputs(catalog: &Catalog, id: ObjectId) -> BTreeSet<ObjectId> {
    let mut found = BTreeSet::from([id]);
    // Dependencies have lower ids, so one pass from above finds all.
    for object in catalog.objects().rev() {
        if found.contains(&object.id()) {
            found.extend(&object.depends_on);
        }
    }
    found
}

/// Takes a view that was not built out of the catalog, with the views above it.
async fn remove(engine: &Engine, id: ObjectId) {
    let shared = &engine.0;
    let _ddl = shared.ddl.lock().await;
    if !shared.unsaved().contains_key(&id) {
        // It was dropped, or a view above it was saved and this one with it.
        return;
    }
    let ids = with_dependents(&shared.catalog(), id);
    shared.set_catalog(|catalog| ids.iter().for_each(|id| catalog.remove(*id)));
    shared.forget_running(&ids).await;
}

/// Takes a view away whose building in the background was cancelled, with those above it.
pub async fn remove_saved(engine: &Engine, id: ObjectId) -> Result<()> {
    let _ddl = engine.0.ddl.lock().await;
    match engine.catalog().get(id) {
        // It was dropped, which cancelled it.
        None => Ok(()),
        Some(_) => drop_all(engine, &with_dependents(&engine.catalog(), id)).await,
    }
}

/// The object and everything above it, dependents first.
fn with_dependents(catalog: &Catalog, id: ObjectId) -> Vec<ObjectId> {
    let mut ids: Vec<ObjectId> = catalog.dependents(id).iter().map(|o| o.id()).collect();
    ids.push(id);
    // Dependents have higher ids.
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids
}

fn dropped() -> Error {
    Error::new(
        SqlState::QUERY_CANCELED,
        "building the view was cancelled: it was dropped",
    )
}
