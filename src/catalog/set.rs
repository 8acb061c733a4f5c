//! The set of all objects, with lookups that fail the way Postgres' do.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::ObjectId;
use crate::catalog::{Object, ObjectKind};
use crate::error::{Error, Result, SqlState};

/// All objects. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    objects: BTreeMap<ObjectId, Arc<Object>>,
    names: BTreeMap<String, ObjectId>,
    /// How many changes made it; see [`Catalog::version`].
    version: u64,
}

impl Catalog {
    /// Adds an object or replaces the one with its id.
    ///
    /// # Panics
    /// When another object has its name, or a dependency is missing: both are checked by
    /// [`Catalog::check_free`] and by planning.
    pub fn put(&mut self, object: Object) {
        for id in &object.depends_on {
            assert!(self.objects.contains_key(id), "a dependency exists");
            assert!(*id < object.id(), "a dependency is older");
        }
        let id = object.id();
        if let Some(old) = self.objects.get(&id) {
            self.names.remove(old.name());
        }
        let taken = self.names.insert(object.name().to_string(), id);
        assert!(taken.is_none(), "a name is used once");
        self.objects.insert(id, Arc::new(object));
        self.version += 1;
    }

    pub fn remove(&mut self, id: ObjectId) {
        self.version += 1;
        if let Some(object) = self.objects.remove(&id) {
            self.names.remove(object.name());
        }
    }

    pub fn get(&self, id: ObjectId) -> Option<&Arc<Object>> {
        self.objects.get(&id)
    }

    pub fn find(&self, name: &str) -> Option<&Arc<Object>> {
        self.names.get(name).map(|id| &self.objects[id])
    }

    /// Tells states of one catalog apart: every change of it raises the number, so what was planned
    /// at a version holds as long as the version does.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Every object, dependencies before dependents.
    pub fn objects(&self) -> impl DoubleEndedIterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// The relation of this name.
    pub fn resolve(&self, name: &str) -> Result<&Arc<Object>> {
        self.find(name).ok_or_else(|| {
            let error = Error::new(
                SqlState::UNDEFINED_TABLE,
                format!("relation \"{name}\" does not exist"),
            );
            match self.nearest(name) {
                Some(near) => error.hint(format!("did you mean \"{near}\"?")),
                None => error,
            }
        })
    }

    /// The object of this name and kind.
    pub fn resolve_kind(&self, name: &str, kind: ObjectKind) -> Result<&Arc<Object>> {
        let Some(object) = self.find(name) else {
            return Err(Error::new(
                SqlState::UNDEFINED_TABLE,
                format!("{kind} \"{name}\" does not exist"),
            ));
        };
        match object.kind() == kind {
            true => Ok(object),
            false => Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("\"{name}\" is not a {kind}"),
            )
            .hint(format!("it is a {}", object.kind()))),
        }
    }

    /// Refuses a name that is taken.
    pub fn check_free(&self, name: &str) -> Result<()> {
        match self.find(name) {
            None => Ok(()),
            Some(_) => Err(Error::new(
                SqlState::DUPLICATE_TABLE,
                format!("relation \"{name}\" already exists"),
            )),
        }
    }

    /// Everything that depends on `id`, directly or not, dependencies before dependents.
    pub fn dependents(&self, id: ObjectId) -> Vec<Arc<Object>> {
        let mut found: Vec<Arc<Object>> = Vec::new();
        for object in self.objects.values() {
            let depends =
                |on: &ObjectId| *on == id || found.iter().any(|object| object.id() == *on);
            if object.depends_on.iter().any(depends) {
                found.push(object.clone());
            }
        }
        found
    }

    /// The name with the fewest edits, if that is few enough to be a slip.
    fn nearest(&self, name: &str) -> Option<&str> {
        let near = |other: &&String| edits(name, other) <= 1 + name.len() / 6;
        self.names
            .keys()
            .filter(near)
            .min_by_key(|other| edits(name, other))
            .map(String::as_str)
    }
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
