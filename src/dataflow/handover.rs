//! State on its way from the stepper to the thread that writes a checkpoint, operators' and the
//! rows of views and tables: a piece at a time, each when the thread asks for it.
//!
//! ```text
//!   thread   is_wanted = true, Wake ──────────────►  stepper, between two steps
//!            write ◄── entries ◄── thaw a piece ◄──┘
//! ```
//!
//! A piece without entries is the last. Of a view that is dropped meanwhile the checkpoint has only
//! a part: nobody will ask for it, because the catalog forgot it before. When a view has failed, so
//! has the checkpoint.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::base::ObjectId;
use crate::base::limits::CHECKPOINT_PIECE_ROWS;
use crate::base::memory::Held;
use crate::dataflow::checkpoint::{STORE_PLACE, kind};
use crate::dataflow::graph::Dataflow;
use crate::dataflow::published::Published;
use crate::dataflow::stepper::{Command, Stepper};
use crate::error::{Error, Result, SqlState};
use crate::operator::{Scope, TableChange};
use crate::storage::{Address, BlockKind};

/// One address' change on its way to disk.
pub(super) struct Entry {
    pub address: Address,
    pub kind: BlockKind,
    pub change: TableChange,
}

impl Entry {
    /// A change of an operator's shard.
    pub fn new(
        dataflow: ObjectId,
        (operator, shard): (u32, u32),
        scope: Scope,
        change: TableChange,
    ) -> Entry {
        Entry {
            address: Address {
                dataflow,
                operator,
                shard,
                table: change.table,
            },
            kind: kind(scope),
            change,
        }
    }
}

/// The stepper's end.
pub(super) struct Giving {
    /// What has not been given completely.
    objects: VecDeque<(ObjectId, Scope)>,
    is_wanted: Arc<AtomicBool>,
    pieces: SyncSender<Result<Vec<Entry>>>,
}

/// The thread's end.
pub(super) struct Taking {
    is_wanted: Arc<AtomicBool>,
    commands: SyncSender<Command>,
    pieces: Receiver<Result<Vec<Entry>>>,
    /// The bytes of the piece at hand.
    held: Held,
}

/// Both ends, for these views and tables, which are frozen.
pub(super) fn handover(
    objects: Vec<(ObjectId, Scope)>,
    commands: SyncSender<Command>,
    held: Held,
) -> (Giving, Taking) {
    // A piece that was asked for and, behind it, an error.
    let (sender, pieces) = sync_channel(2);
    let is_wanted = Arc::new(AtomicBool::new(false));
    let giving = Giving {
        objects: objects.into(),
        is_wanted: is_wanted.clone(),
        pieces: sender,
    };
    let taking = Taking {
        is_wanted,
        commands,
        pieces,
        held,
    };
    (giving, taking)
}

impl Giving {
    /// Whether the view or table has something that was not given.
    pub fn is_of(&self, id: ObjectId) -> bool {
        self.objects.iter().any(|(object, _)| *object == id)
    }

    /// A piece of it.
    fn collect(
        &mut self,
        views: &mut BTreeMap<ObjectId, Dataflow>,
        published: &Published,
    ) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut left = CHECKPOINT_PIECE_ROWS;
        while left > 0
            && let Some(&(id, scope)) = self.objects.front()
        {
            let state = views.get_mut(&id).map(|view| view.thaw(left));
            let (place, change) = match state.transpose()?.flatten() {
                Some(state) => ((state.operator, state.shard), Some(state.change)),
                None => (STORE_PLACE, published.thaw(id, left)?),
            };
            let Some(change) = change else {
                self.objects.pop_front();
                continue;
            };
            left = left.saturating_sub((change.slots.len() + change.freed.len()).max(1));
            entries.push(Entry::new(id, place, scope, change));
        }
        Ok(entries)
    }

    /// A view or table is dropped: nothing more of it is wanted.
    pub fn discard(&mut self, id: ObjectId) {
        self.objects.retain(|(object, _)| *object != id);
    }

    /// Ends the checkpoint. A thread that has failed itself does not listen any more.
    pub fn fail(self, error: Error) {
        let _ = self.pieces.send(Err(error));
    }
}

impl Taking {
    fn next(&mut self) -> Result<Option<Vec<Entry>>> {
        self.is_wanted.store(true, Ordering::Release);
        // When there is no room for it, the stepper is awake.
        let _ = self.commands.try_send(Command::Wake);
        let ended = || Error::new(SqlState::ADMIN_SHUTDOWN, "the stepper has ended");
        let entries = self.pieces.recv().map_err(|_| ended())??;
        let bytes = |entry: &Entry| entry.change.rows.get_array_memory_size();
        self.held.set(entries.iter().map(bytes).sum());
        Ok((!entries.is_empty()).then_some(entries))
    }

    /// The entries of all pieces.
    pub fn entries(mut self) -> impl Iterator<Item = Result<Entry>> {
        let pieces = std::iter::from_fn(move || self.next().transpose());
        pieces.flat_map(|piece| {
            let (entries, error) = match piece {
                Ok(entries) => (entries, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            entries.into_iter().map(Ok).chain(error)
        })
    }
}

impl Stepper {
    /// Hands the checkpoint under way the next piece, if it waits for one.
    pub(super) fn give_to_checkpoint(&mut self) {
        let giving = self.checkpointer.giving.as_ref();
        if giving.is_some_and(|giving| giving.is_wanted.swap(false, Ordering::AcqRel)) {
            self.give_piece();
        }
    }

    /// Hands over everything that the checkpoint under way still wants, as fast as it is written.
    pub(super) fn give_rest_to_checkpoint(&mut self) {
        while self.checkpointer.giving.is_some() {
            self.give_piece();
        }
    }

    /// The checkpoint under way has failed: nothing is saved for it any more. The next one is
    /// whole, so what had changed need not be known.
    pub(super) fn unfreeze(&mut self) {
        self.views.values_mut().for_each(Dataflow::unfreeze);
        let ids: Vec<ObjectId> = self
            .views
            .keys()
            .chain(self.tables.keys())
            .copied()
            .collect();
        let unfrozen = self.published.change(|change| {
            for id in ids {
                if let Some(store) = change.store(id) {
                    store.unfreeze();
                }
            }
            Ok(())
        });
        unfrozen.expect("nothing in it can fail");
    }

    fn give_piece(&mut self) {
        let Some(mut giving) = self.checkpointer.giving.take() else {
            return;
        };
        match giving.collect(&mut self.views, &self.published) {
            Ok(entries) => {
                let is_last = entries.is_empty();
                let is_heard = giving.pieces.send(Ok(entries)).is_ok();
                self.checkpointer.giving = (is_heard && !is_last).then_some(giving);
            }
            Err(error) => giving.fail(error),
        }
    }
}
