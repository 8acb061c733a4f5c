//! The way to the engine, which may not be there yet: the protocols listen before it has recovered.

use std::sync::{Arc, OnceLock};

use crate::dataflow::Startup;
use crate::engine::server::Engine;
use crate::error::Result;

/// Leads to the engine once it is there; cheap to clone.
#[derive(Clone, Default)]
pub struct Entrance(Arc<Inner>);

#[derive(Default)]
struct Inner {
    startup: Arc<Startup>,
    engine: OnceLock<Engine>,
}

impl Entrance {
    /// The engine.
    ///
    /// # Errors
    /// 57P03 while it starts, with what it is at.
    pub fn engine(&self) -> Result<&Engine> {
        let engine = self.0.engine.get();
        engine.ok_or_else(|| self.0.startup.refusal())
    }

    /// What the start is at.
    pub fn startup(&self) -> &Arc<Startup> {
        &self.0.startup
    }

    /// The engine is there.
    ///
    /// # Panics
    /// When there is one already.
    pub fn open(&self, engine: Engine) {
        let is_first = self.0.engine.set(engine).is_ok();
        assert!(is_first, "an engine starts once");
    }
}
