//! The tidemill binary: everything is in the library, but for the allocator.

use std::process::ExitCode;

use libmimalloc_sys::{mi_option_set, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The number of mimalloc's option `purge_delay`, which the crate gives no name.
const PURGE_DELAY: mi_option_t = 15;

/// Milliseconds after which freed memory goes back to the system. A step frees what the next one
/// takes again: where it goes back sooner, a busy server spends much of its time on pages that the
/// system has to clear for it.
const PURGE_DELAY_MS: std::ffi::c_long = 10_000;

fn main() -> ExitCode {
    // SAFETY: sets one number in the allocator's table of options, before any thread is there.
    unsafe { mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
    tidemill::cli::main()
}
