//! Every bound of the server, each with the sentence that justifies it.
//!
//! A queue, cache, buffer or retry without a line here is a defect. Options that a user may change
//! have their default here; the others are fixed.

/// Rows a step takes at most: some ten milliseconds of work for one core, so that a step under
/// backlog stays below 50 ms, and enough rows for the cost per step to vanish.
pub const STEP_ROWS_MAX: usize = 256 * 1024;

/// Bytes of decoded batches a step takes at most; wide rows reach it before the row bound.
pub const STEP_BYTES_MAX: usize = 64 << 20;

/// Decoded bytes that one source's readers queue ahead of the step before they pause: two full
/// steps, so that the engine never waits for a reader that could have been ahead.
pub const SOURCE_QUEUE_BYTES_MAX: usize = 64 << 20;

/// Rows of one decoded chunk: large enough for vectorised work, small enough for a cut to be fair.
pub const CHUNK_ROWS_MAX: usize = 8 * 1024;

/// Bytes of one statement's text. Postgres allows a gigabyte; a server that plans it would not
/// survive it.
pub const STATEMENT_BYTES_MAX: usize = 16 << 20;

/// Rows an explicit transaction may buffer before COMMIT: they live in memory until then.
pub const TRANSACTION_ROWS_MAX: usize = 1_000_000;

/// Bytes of change history a view keeps in memory for SUBSCRIBE ... AS OF (semantics: 16 MB).
pub const HISTORY_BYTES_MAX: usize = 16 << 20;

/// Rows of the errors relation that one source or view keeps; older ones are dropped and counted.
pub const ERROR_ROWS_MAX: usize = 10_000;

/// Bytes of a bad record that the errors relation keeps: enough to recognise it.
pub const ERROR_RECORD_BYTES_MAX: usize = 4 * 1024;

/// Bytes of text or binary input that one column takes before it is finished: Arrow's 32-bit
/// offsets end at 2 GiB, and no value grows when it is read.
pub const COLUMN_INPUT_BYTES_MAX: usize = 1 << 30;
