//! Named threads with an owner that joins them.

use std::thread::JoinHandle;

/// Starts a thread whose name shows in debuggers and panics. The owner joins the handle.
///
/// # Panics
/// When the system has no more threads: the server cannot run then.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::Builder::new()
        .name(name.to_string())
        .spawn(work)
        .expect("the system starts a thread")
}
