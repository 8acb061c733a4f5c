//! Ends readers beside the steps: closing a client of a broker takes its time, which no step has.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use crate::base::limits::READERS_CLOSING_MAX;
use crate::base::task;
use crate::dataflow::reader::ReaderThread;

/// The thread that waits for readers to end. Dropping it waits for it.
pub(super) struct Closer {
    /// `None` at the end.
    readers: Option<SyncSender<ReaderThread>>,
    thread: Option<JoinHandle<()>>,
}

impl Closer {
    pub fn start() -> Closer {
        let (readers, closing) = sync_channel::<ReaderThread>(READERS_CLOSING_MAX);
        let thread = task::spawn("reader-closer", move || closing.iter().for_each(drop));
        Closer {
            readers: Some(readers),
            thread: Some(thread),
        }
    }

    /// Tells a reader to end and does not wait for it, unless very many end at once.
    pub fn close(&self, reader: ReaderThread) {
        reader.stop();
        if let Some(readers) = &self.readers {
            match readers.try_send(reader) {
                Ok(()) => {}
                Err(TrySendError::Full(reader) | TrySendError::Disconnected(reader)) => {
                    drop(reader);
                }
            }
        }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.readers = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("closing readers panicked");
        }
    }
}
