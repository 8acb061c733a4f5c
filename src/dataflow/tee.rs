//! What running sources take while a view catches up on them, kept for that view.
//!
//! ```text
//!   source ─► step          the running views
//!         └─► tee ─► take   the view that is being built, whenever it asks
//! ```
//!
//! Beyond its bound the view has to read by itself what it missed.

use std::sync::Arc;

use crate::base::Memory;
use crate::base::limits::CATCH_UP_TEE_BYTES_MAX;
use crate::base::memory::{Account, Held};
use crate::connector::Chunk;
use crate::dataflow::reader::size;

/// The chunks taken since a view began to catch up, for it to take over.
pub(super) struct Tee {
    pub chunks: Vec<Chunk>,
    /// The chunks' bytes.
    pub held: Held,
    pub has_overflowed: bool,
}

impl Tee {
    pub fn new(memory: &Arc<Memory>) -> Tee {
        Tee {
            chunks: Vec::new(),
            held: memory.hold(Account::CatchUps),
            has_overflowed: false,
        }
    }

    /// What was kept since the last call; the next one gets what comes from now on.
    pub fn take(&mut self) -> Tee {
        let empty = Tee::new(self.held.memory());
        std::mem::replace(self, empty)
    }

    pub fn push(&mut self, chunk: &Chunk) {
        if self.has_overflowed {
            return;
        }
        let bytes = self.held.bytes() + size(chunk);
        if bytes > CATCH_UP_TEE_BYTES_MAX {
            self.has_overflowed = true;
            self.chunks.clear();
            self.held.set(0);
            return;
        }
        self.held.set(bytes);
        self.chunks.push(chunk.clone());
    }
}
