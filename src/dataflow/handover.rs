//! State on its way from the stepper to the thread that writes a checkpoint, operators' and the
//! rows of views and tables: a piece at a time, each when the thread asks for it.
//!
//! ```text
//!   thread   is_wanted = true, Wake ──────────────►  stepper, between two steps
//!            write ◄── entries ◄── thaw a piece ◄──┘
//! ```
//!
//! A piece without entries is the last. A view that is dropped meanwhile gives all it still has
//! before it goes; when one has failed, so has the checkpoint.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};

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
    // Holds what was asked for, and what views gave that were dropped.
    pieces: Sender<Result<Vec<Entry>>>,
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
    let (sender, pieces) = channel();
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

    /// About so many rows.
    fn collect(
        &mut self,
        views: &mut BTreeMap<ObjectId, Dataflow>,
        published: &Published,
        rows: usize,
    ) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut left = rows;
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
            self.give_piece(CHECKPOINT_PIECE_ROWS);
        }
    }

    /// Hands over everything that the checkpoint under way still wants.
    pub(super) fn give_rest_to_checkpoint(&mut self) {
        while self.checkpointer.giving.is_some() {
            self.give_piece(usize::MAX);
        }
    }

    /// A view or table is about to be dropped: hands over what the checkpoint under way wants of
    /// it.
    pub(super) fn give_before_drop(&mut self, id: ObjectId) {
        let Some(mut giving) = self.checkpointer.giving.take_if(|giving| giving.is_of(id)) else {
            return;
        };
        let (its, others) = giving.objects.iter().partition(|(object, _)| *object == id);
        giving.objects = its;
        let result = giving.collect(&mut self.views, &self.published, usize::MAX);
        giving.objects = others;
        match result {
            Ok(entries) => {
                if !entries.is_empty() {
                    let _ = giving.pieces.send(Ok(entries));
                }
                self.checkpointer.giving = Some(giving);
            }
            Err(error) => giving.fail(error),
        }
    }

    fn give_piece(&mut self, rows: usize) {
        let Some(mut giving) = self.checkpointer.giving.take() else {
            return;
        };
        match giving.collect(&mut self.views, &self.published, rows) {
            Ok(entries) => {
                let is_last = entries.is_empty();
                let is_heard = giving.pieces.send(Ok(entries)).is_ok();
                self.checkpointer.giving = (is_heard && !is_last).then_some(giving);
            }
            Err(error) => giving.fail(error),
        }
    }
}
