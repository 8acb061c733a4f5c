//! Every bound of the server, each with the sentence that justifies it.
//!
//! A queue, cache, buffer or retry without a line here is a defect. Options that a user may change
//! have their default here; the others are fixed.

/// Rows a step takes at most: some ten milliseconds of work for one core, so that a step under
/// backlog stays below 50 ms, and enough rows for the cost per step to vanish.
pub const STEP_ROWS_MAX: usize = 256 * 1024;

/// Time between two steps that nothing but the clock asks for: rows that leave a view one by one
/// would otherwise be as many steps, each with an entry in the journal. Nobody watches a clock more
/// closely, and a step for another reason does what is due as well.
pub const CLOCK_STEP_INTERVAL: std::time::Duration = std::time::Duration::from_millis(50);

/// Time between two steps by which the watermark of an idle source follows the clock
/// (`watermark.advance_when_idle`): a window closes at most so much too late, and a source that
/// says
/// nothing costs two small records of the journal a second. So often are windows over processing
/// time looked at, too, whose end a plan does not know.
pub const WATERMARK_FOLLOW_INTERVAL: std::time::Duration = std::time::Duration::from_millis(500);

/// Bytes of decoded batches a step takes at most; wide rows reach it before the row bound.
pub const STEP_BYTES_MAX: usize = 64 << 20;

/// Decoded bytes that one source's readers queue ahead of the step before they pause: several
/// steps of what a core decodes, so that the engine never waits for a reader that could have been
/// ahead.
pub const SOURCE_QUEUE_BYTES_MAX: usize = 16 << 20;

/// Rows of one decoded chunk: large enough for vectorised work, small enough for a cut to be fair.
pub const CHUNK_ROWS_MAX: usize = 8 * 1024;

/// Bytes of one statement's text. Postgres allows a gigabyte; a server that plans it would not
/// survive it.
pub const STATEMENT_BYTES_MAX: usize = 16 << 20;

/// Rows an explicit transaction may buffer before COMMIT: they live in memory until then.
pub const TRANSACTION_ROWS_MAX: usize = 1_000_000;

/// Bytes of change history a view keeps in memory for SUBSCRIBE ... AS OF (semantics: 16 MB).
/// The disk holds the same changes.
pub const HISTORY_BYTES_MAX: usize = 16 << 20;

/// Bytes of a relation's change history that are written as one record: some thousand small changes
/// share one schema, and a restart holds one of them beside what it has read.
pub const HISTORY_RECORD_BYTES: usize = 1 << 20;

/// Bytes of one segment of a relation's change history, the unit in which old changes are deleted:
/// an eighth of the bound, so that the disk holds little more than memory does.
pub const HISTORY_SEGMENT_BYTES: u64 = 2 << 20;

/// Rows of the errors relation that one source or view keeps; older ones are dropped and counted.
pub const ERROR_ROWS_MAX: usize = 10_000;

/// Late rows that one view keeps with `late_rows = 'side_output'`: as many as of errors; those that
/// came at the least watermark go first.
pub const LATE_ROWS_MAX: usize = 10_000;

/// Bytes of them: the rows are as wide as users make them.
pub const LATE_BYTES_MAX: usize = 16 << 20;

/// Bytes of a bad record that the errors relation keeps: enough to recognise it.
pub const ERROR_RECORD_BYTES_MAX: usize = 4 * 1024;

/// Bytes of text or binary input that one column takes before it is finished: Arrow's 32-bit
/// offsets end at 2 GiB, and no value grows when it is read.
pub const COLUMN_INPUT_BYTES_MAX: usize = 1 << 30;

/// Bytes of one segment of a log: the unit in which retention deletes. Large enough for few files
/// per terabyte, small enough to be read once in a tenth of a second when its index is rebuilt.
pub const LOG_SEGMENT_BYTES: u64 = 64 << 20;

/// Bytes a segment may be asked to have at most: positions inside it are 32-bit numbers.
pub const LOG_SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Bytes of one record of a log. A record is one INSERT or one chunk; a longer length on disk can
/// only be damage, so that nothing larger is ever allocated because of it.
pub const LOG_RECORD_BYTES_MAX: usize = 64 << 20;

/// Bytes between two entries of a segment's sparse index: a seek reads at most these in vain, and
/// a fully indexed terabyte costs 128 MB of memory.
pub const LOG_INDEX_SPACING_BYTES: u64 = 128 * 1024;

/// Bytes appended to a log before they are handed to the file: enough for sequential writes at
/// disk speed.
pub const LOG_BUFFER_BYTES_MAX: usize = 1 << 20;

/// Bytes a reader of a log fetches at once; a record kept in memory keeps such a chunk alive.
pub const LOG_READ_BYTES: usize = 256 * 1024;

/// Bytes that wait for the fsync of a log: what a disk writes in about half a second. Appenders
/// wait beyond it. One record is admitted however large it is.
pub const LOG_QUEUE_BYTES_MAX: usize = 64 << 20;

/// Records that wait for the fsync of a log; bounds what one fsync covers when they are tiny.
pub const LOG_QUEUE_RECORDS_MAX: usize = 16 * 1024;

/// Bytes of one segment of the step journal: tens of thousands of steps, so that what a
/// checkpoint makes superfluous is soon deleted.
pub const JOURNAL_SEGMENT_BYTES: u64 = 8 << 20;

/// Journal records between two entries of its epoch index: a tenth of a second of busy steps.
pub const JOURNAL_INDEX_SPACING_RECORDS: u64 = 128;

/// Bytes of a key in the catalog store: a name with its schema and kind, several times over.
pub const CATALOG_KEY_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a value in the catalog store: an object's record with its statement's full text.
pub const CATALOG_VALUE_BYTES_MAX: usize = 32 << 20;

/// Bytes of sled's page cache: the catalog is read rarely and held by the catalog module anyway.
pub const CATALOG_CACHE_BYTES: u64 = 8 << 20;

/// Bytes the catalog log may always have before it is compacted.
pub const CATALOG_LOG_BYTES_MIN: u64 = 4 << 20;

/// How many times larger than the live catalog its log may grow before it is compacted: each byte
/// is then rewritten a third of a time on average.
pub const CATALOG_LOG_FACTOR: u64 = 4;

/// Numbers that a persistent counter reserves at once: a restart skips at most these, and creating
/// many objects costs one fsync for them.
pub const CATALOG_ID_BLOCK: u64 = 64;

/// Bytes of one block of a checkpoint, slots and columns together; lengths on disk are 32-bit, and
/// a block is held in memory while it is written or restored.
pub const CHECKPOINT_BLOCK_BYTES_MAX: usize = 256 << 20;

/// Rows of one block of a checkpoint: some megabytes, so that the bytes of a large state are never
/// all in memory a second time.
pub const CHECKPOINT_BLOCK_ROWS: usize = 32 * 1024;

/// Bytes at which the merging of checkpoint blocks starts a new block.
pub const CHECKPOINT_MERGED_BLOCK_BYTES: usize = 4 << 20;

/// Rows of operators' state that a step stops for at a time while a checkpoint is written: a few
/// milliseconds of copying.
pub const CHECKPOINT_PIECE_ROWS: usize = 16 * 1024;

/// Bytes at which the merging of checkpoint blocks starts a new file: a file is deleted as a whole,
/// so one should not hold too many addresses together.
pub const CHECKPOINT_MERGED_FILE_BYTES: u64 = 256 << 20;

/// How many times larger than its live rows an address' blocks may be before they are merged.
pub const CHECKPOINT_CHAIN_FACTOR: u64 = 2;

/// Bytes of blocks that an address may always have: merging less would be work without a gain.
pub const CHECKPOINT_CHAIN_BYTES_MIN: u64 = 16 * 1024;

/// Small blocks that an address may have: a restore reads each with a seek, a manifest names each.
pub const CHECKPOINT_CHAIN_BLOCKS_MAX: u64 = 32;

/// Unreferenced bytes that checkpoint files may always have before live blocks are moved out.
pub const CHECKPOINT_GARBAGE_BYTES_MIN: u64 = 1 << 20;

/// Whole manifests that are kept: the newest, and one to fall back to when it is damaged.
pub const CHECKPOINT_MANIFESTS_KEPT: usize = 2;

/// Rows of a step from which its shards run on threads of their own: below it starting a thread
/// costs more than the work.
pub const PARALLEL_ROWS_MIN: usize = 4 * 1024;

/// Tokens of one script. Their number, not the text's bytes, decides what parsing costs in memory
/// (about 100 bytes each, twice that for the tree); an INSERT of 200,000 rows of five columns fits.
pub const STATEMENT_TOKENS_MAX: usize = 2_500_000;

/// Parentheses, subqueries and type brackets inside one another. Hand-written and generated
/// statements stay below 30; each level costs the planner a stack frame per pass.
pub const STATEMENT_NESTING_MAX: usize = 120;

/// Operators in one expression that are chained without a comma or parenthesis between them:
/// `a OR b OR …` is parsed into a tree as deep as it is long, and dropping it is recursive.
/// Measured: the unoptimised build drops 4,000 levels on a 2 MB stack.
pub const STATEMENT_OPERATORS_MAX: usize = 2_000;

/// Levels of a statement's tree once long chains of AND, OR and UNION are balanced; a query counts
/// for three. Measured: the unoptimised build copies, compares and drops 250 levels of the worst
/// kind on the 2 MB stack that threads have by default.
pub const STATEMENT_DEPTH_MAX: usize = 200;

/// Expressions the parser may begin per token of the statement. Its backtracking needs up to six;
/// a text that needs more makes it exponential, and must be refused instead of hanging.
pub const PARSE_ATTEMPTS_PER_TOKEN_MAX: usize = 64;

/// Bytes of one packet before login: start-up parameters need hundreds, a stranger gets no more.
pub const LOGIN_BYTES_MAX: usize = 64 * 1024;

/// Seconds from accepting a connection to its login: Postgres' own `authentication_timeout`.
pub const LOGIN_SECONDS_MAX: u64 = 60;

/// Encryption requests a client may make before its start-up packet: one for TLS, one for GSS, and
/// each once more after the other was refused.
pub const ENCRYPTION_REQUESTS_MAX: usize = 4;

/// Connections that may be open (default): each costs some 100 KiB of buffers and a session.
pub const CONNECTIONS_MAX: usize = 500;

/// Connections beyond the limit that are told so at the same time (a cancel request is among what
/// they may ask); the ones after these are closed without a word.
pub const CONNECTIONS_REFUSED_MAX: usize = 32;

/// Bytes of one message after login (default): a bound parameter or a COPY frame. Several clients
/// may each send one, and each is held in memory until it is used.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Bytes of a message that names something (Describe, Execute, Close …): a name and some numbers.
pub const MESSAGE_SMALL_BYTES_MAX: usize = 64 * 1024;

/// Output bytes that a connection gathers before it waits for the socket: a few large writes cost
/// as little as one, and a client that does not read holds no more than this.
pub const OUTBOUND_BYTES_MAX: usize = 64 * 1024;

/// Input bytes read ahead while a statement runs: enough to notice a client that has gone behind
/// some pipelined messages; beyond it TCP holds the client back.
pub const PIPELINE_BYTES_MAX: usize = 256 * 1024;

/// Prepared statements one session may hold: drivers' caches hold hundreds.
pub const PREPARED_STATEMENTS_MAX: usize = 5_000;

/// Portals one session may hold: a portal lives until the end of its transaction.
pub const PORTALS_MAX: usize = 1_000;

/// Bytes of texts and parameters that a session's statements and portals hold together: twice the
/// largest message, so that the largest parameter can follow the largest statement.
pub const PREPARED_BYTES_MAX: usize = 128 << 20;

/// Notices that wait for a client that does not read; a statement that has more waits with them.
pub const NOTICES_QUEUED_MAX: usize = 64;

/// Bytes of decoded COPY rows that are handed to the writer at once; wide rows reach it before
/// [`CHUNK_ROWS_MAX`].
pub const COPY_BATCH_BYTES_MAX: usize = 4 << 20;

/// Bytes of one COPY row: an unclosed quote would otherwise gather the whole input.
pub const COPY_ROW_BYTES_MAX: usize = 16 << 20;

/// Milliseconds a cancelled statement has to end by itself before it is dropped: what an fsync or
/// a broker's answer may take on a busy machine.
pub const CANCEL_GRACE_MS: u64 = 2_000;

/// Milliseconds that connections have to end when the server stops, or to take a last message.
pub const SHUTDOWN_GRACE_MS: u64 = 5_000;

/// How long a reader waits for records before it looks whether it should stop.
pub const READER_POLL: std::time::Duration = std::time::Duration::from_millis(100);

/// How long a reader pauses after an error that may pass, so that a broker that is down is not
/// asked a thousand times a second.
pub const READER_RETRY: std::time::Duration = std::time::Duration::from_millis(500);

/// Rows taken since a checkpoint at which the next one is due early: a restart takes as many again,
/// which should be a matter of a second or two.
pub const CHECKPOINT_REPLAY_ROWS: u64 = 4_000_000;

/// Bytes of table writes in the journal since a checkpoint at which the next one is due early: a
/// restart reads and applies them all.
pub const CHECKPOINT_REPLAY_BYTES: u64 = 256 << 20;

/// The least part of the checkpoint interval between two checkpoints: what is due early, after much
/// input or after a replay, still leaves the disk to others most of the time.
pub const CHECKPOINT_INTERVAL_PART: i64 = 10;

/// Steps of a catch-up between two looks at what has changed in the views and tables that it reads:
/// some seconds, so that their histories stay near their own bound however long the reading takes.
pub const CATCH_UP_FOLLOW_STEPS: usize = 16;

/// Readers that wait to be closed: more than end at once when a broker's sources are dropped
/// together. Beyond it whoever ends one waits for it.
pub const READERS_CLOSING_MAX: usize = 256;

/// Seconds a request to a Kafka cluster (metadata, offsets) may take: a TLS handshake over a slow
/// line needs a few, and a CREATE that waits longer looks hung.
pub const KAFKA_REQUEST_SECONDS_MAX: u64 = 10;

/// Seconds after which a request fails when no broker can be reached at all: enough for a second
/// attempt to connect, short enough for a mistyped port to be told at once.
pub const KAFKA_UNREACHABLE_SECONDS: u64 = 2;

/// Seconds that making our offsets visible to Kafka's tools may take: it is best effort.
pub const KAFKA_COMMIT_SECONDS_MAX: u64 = 5;

/// Seconds between two reports of a reader that no broker can be reached: visible, not spam.
pub const KAFKA_TROUBLE_SECONDS: u64 = 5;

/// Milliseconds a waiting Kafka reader goes without looking at its client's errors.
pub const KAFKA_WAIT_MS_MAX: u64 = 250;

/// Kilobytes that librdkafka fetches ahead per source (it may exceed them by one response): some
/// hundred milliseconds at full speed, so that decoding never waits for the network.
pub const KAFKA_QUEUE_KBYTES_MAX: usize = 64 * 1024;

/// Records that librdkafka fetches ahead per source: above what `KAFKA_QUEUE_KBYTES_MAX` holds of
/// the usual ones, so that the bound in bytes is the one that counts.
pub const KAFKA_QUEUE_RECORDS_MIN: usize = 1_000_000;

/// Bytes of one partition in a fetch response: large enough for a few thousand records per round
/// trip and for the largest record that a broker accepts by default.
pub const KAFKA_FETCH_BYTES_MAX: usize = 4 << 20;

/// Milliseconds before librdkafka looks again whether its full queue has room; its own default of
/// one second would starve a reader that empties the queue in a tenth of that.
pub const KAFKA_FETCH_BACKOFF_MS: usize = 2;

/// Milliseconds between attempts to reconnect at most: a restarted broker is found soon.
pub const KAFKA_RECONNECT_MS_MAX: usize = 1_000;

/// Payload bytes after which a chunk of a Kafka partition ends, so that a cut stays fair where
/// records are large.
pub const KAFKA_CHUNK_BYTES_MAX: usize = 8 << 20;

/// Kilobytes that a producer holds back until they are acknowledged; then it makes its caller wait.
pub const KAFKA_PRODUCER_KBYTES_MAX: usize = 256 * 1024;

/// Seconds that one record of a producer may wait for its acknowledgement, retries included.
pub const KAFKA_PRODUCER_SECONDS_MAX: u64 = 60;

/// Commands that wait for the stepper before their senders do: more than there are connections.
pub const COMMANDS_MAX: usize = 1024;

/// Rows a step may always take, however slow steps have been: fewer cost more per row than they
/// gain in time.
pub const STEP_ROWS_MIN: usize = 8 * 1024;

/// How long a step under backlog should take: half of what a reader may wait at the most (50 ms).
pub const STEP_TIME_MAX: std::time::Duration = std::time::Duration::from_millis(25);

/// Rows that a view may still be behind when it joins the running ones: the stepper takes them in
/// some milliseconds.
pub const CATCH_UP_JOIN_ROWS_MAX: usize = 32 * 1024;

/// Decoded bytes of one source that are kept for a view that catches up on it, while it reads what
/// was before: some seconds of a fast source. Beyond it the view reads them again by itself.
pub const CATCH_UP_TEE_BYTES_MAX: usize = 64 << 20;

/// Rows a view that catches up takes in one step: nobody waits for its steps, so they are long.
pub const CATCH_UP_STEP_ROWS: usize = 256 * 1024;

/// Bytes of old checkpoint files that are rewritten at a time.
pub const CHECKPOINT_MERGE_BYTES: u64 = 64 << 20;

/// How long a replay waits for rows that were there before a restart, beyond the time a broker
/// needs to come up.
pub const REPLAY_STALL: std::time::Duration = std::time::Duration::from_secs(30);

/// Brackets that a JSON record may nest: what serde_json allows, and a stack that no record fills.
pub const JSON_DEPTH_MAX: usize = 128;

/// Fields over all field orders that a JSON decoder remembers: a hundred optional fields in a few
/// combinations fit, and a topic whose every record differs costs a few hundred kilobytes.
pub const JSON_LAYOUT_NODES_MAX: usize = 4096;

/// Records that a JSON decoder does not try to predict after its memory of field orders was full:
/// enough to make the cost of vain learning vanish, few enough to notice when the topic settles.
pub const JSON_LAYOUT_PAUSE_RECORDS: usize = 4096;

/// Characters of a value that the reason of a bad record repeats: a line of a terminal.
pub const REASON_VALUE_CHARS_MAX: usize = 60;

/// Fields of a CSV record when no header says how many there are: more than any table has columns.
pub const CSV_FIELDS_MAX: usize = 10_000;

/// Events of an endless generator: at ten million a second they last three months, and no id, time
/// or count derived from a number below it overflows.
pub const GENERATOR_EVENTS_MAX: u64 = 1 << 46;

/// Events a second that a generator may be asked for: more than any machine makes.
pub const GENERATOR_RATE_MAX: u64 = 1_000_000_000;

/// Partitions of a generator: enough to look like a large topic; each costs a few entries.
pub const GENERATOR_PARTITIONS_MAX: u64 = 1_024;

/// How long a generator that makes rows at a rate waits for more of them at the least.
pub const GENERATOR_PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

/// Letters or bytes of a text that datagen makes up: a chunk of the longest stays below 100 MB.
pub const DATAGEN_LENGTH_MAX: u64 = 10_000;

/// Bytes of a join's output of one step in which pairs that cancel are looked for: beyond it the
/// search would hold a second copy of more than a step may bring in, and cancelling is left to
/// whoever adds the changes up.
pub const JOIN_NET_BYTES_MAX: usize = 64 << 20;

/// Bytes of records that one chunk of an embedded topic takes in: a few chunks of wide rows then
/// fit into a step, and small records still fill one to its rows.
pub const TOPIC_CHUNK_BYTES_MAX: usize = 8 << 20;

/// Milliseconds for which a reader of several embedded partitions waits for one of them without a
/// look at the others, once all have been silent: fifty looks a second cost an idle server nothing.
pub const TOPIC_WAIT_MS_MAX: u64 = 20;

/// Microseconds without a row after which a source's partition that is at its end counts as idle
/// (default): longer than the pauses of a steady producer, short enough for a dashboard.
pub const SOURCE_IDLE_TIMEOUT_MICROS: i64 = 10_000_000;

/// Microseconds between two looks at a source's topic for new partitions (default): a partition
/// that is added waits so long, and its consumers expect minutes.
pub const WATCH_INTERVAL_MICROS: i64 = 10_000_000;

/// The pause before a topic that could not be seen is looked at again: a broker that comes back is
/// found soon, and one that is away is not worth more attempts.
pub const WATCH_RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// Partitions of an embedded topic: each has a directory, an open file and a thread that syncs it.
pub const TOPIC_PARTITIONS_MAX: u32 = 128;

/// Steps of a column's PATH: records of real producers nest less than ten levels, and each step is
/// a call of the code that builds the decoder.
pub const PATH_STEPS_MAX: usize = 64;

/// Bytes of rows that one FETCH gives: they are in memory until the client has taken them. A client
/// that wants more at once wants a SELECT, whose rows are sent as they are found.
pub const FETCH_BYTES_MAX: usize = 64 << 20;

/// Cursors a session may have open: each may hold a batch and a pinned epoch.
pub const CURSORS_MAX: usize = 100;
/// Windows that one row may be in, size divided by slide: a day in steps of fifteen seconds. Each
/// of them is a row of its own, and beyond it a user has mistaken the units.
pub const WINDOWS_PER_ROW_MAX: usize = 5_760;

/// The shortest interval of EMIT EVERY, microseconds: steps are no closer to each other.
pub const EMIT_EVERY_MICROS_MIN: i64 = 1_000;

/// The longest one: what has changed since is kept in memory.
pub const EMIT_EVERY_MICROS_MAX: i64 = 86_400_000_000;

/// Panes by which one window of HOP begins after the last one, where it is kept in panes. A key has
/// at most so many times more of them than open windows; beyond it a row per window takes less
/// memory, however many windows hold a row.
pub const PANES_PER_SLIDE_MAX: i64 = 8;

/// Bytes of closed windows that wait to go out in one batch: a batch of many small windows is worth
/// its copy, and wide keys reach this before [`CHUNK_ROWS_MAX`].
pub const CLOSED_WINDOWS_BYTES_MAX: usize = 4 << 20;

/// Rows of one batch that HOP puts out: where a row is in many windows, a batch of the input would
/// otherwise become one of millions.
pub const WINDOW_ROWS_MAX: usize = 64 * 1024;

/// Bytes that one transaction may write: its rows are one journal record, and a record is at most
/// 64 MiB.
pub const WRITE_BYTES_MAX: usize = 48 << 20;

/// How long a transaction that holds a table waits for another before it counts as a deadlock: far
/// longer than a write takes, far shorter than a client's patience. Who waits first waits up to
/// twice as long, so that two who wait for each other do not both give up.
pub const LOCK_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// Bytes of stack that a statement is parsed on: the deepest statement that the bounds above let
/// through takes a few megabytes in a debug build.
pub const PARSE_STACK_BYTES: usize = 32 << 20;

/// Bytes of stack that have to be left for a statement to be parsed where it is: twice what the
/// deepest one takes. Another stack costs more than parsing a short statement does.
pub const PARSE_STACK_FREE_MIN: usize = 8 << 20;

/// Bytes of stack of the threads that plan and run statements, whose trees are as deep as the text:
/// only what is used of it becomes memory.
pub const THREAD_STACK_BYTES: usize = 16 << 20;

/// Seconds that the bench waits for what should take a moment: a start, a flush, an answer.
pub const BENCH_START_SECONDS_MAX: u64 = 60;

/// Seconds that the bench waits for the rows of a run: the largest runs take minutes.
pub const BENCH_RUN_SECONDS_MAX: u64 = 3_600;

/// How often the bench's producer sends what has happened since: below a step's shortest length,
/// so that it adds less than a millisecond to what is measured.
pub const BENCH_PRODUCER_PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

/// How often the bench looks whether a run has taken all rows: one part in hundreds of a run.
pub const BENCH_LOOK_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// How often the bench's reader asks for the newest row.
pub const BENCH_READ_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// How often the bench's other reader asks for a row by its key: some thousand times in a run, so
/// that the hundredth part of them is more than a few, and for a small part of a core.
pub const BENCH_LOOKUP_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// How often the bench looks at the memory of a soak: a peak lasts longer than a checkpoint does.
pub const BENCH_SOAK_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);

/// How long before the first row of a run its view has to be there: nothing is to be caught up.
pub const BENCH_LEAD: std::time::Duration = std::time::Duration::from_secs(2);

/// Percent of the memory limit from which on readers pause and nothing new is begun: what is under
/// way then (a step, its output, a checkpoint's copy) fits into the rest.
pub const MEMORY_TIGHT_PERCENT: usize = 90;

/// Grouping sets of an aggregate in a view, each of which is an operator: those of a CUBE of six
/// columns.
pub const GROUPING_SETS_MAX: usize = 64;

/// Percent of the memory limit that rows may take which have changed and are still read as they
/// were: beyond it the oldest readers lose their snapshots.
pub const SNAPSHOT_PERCENT: usize = 25;

/// Seconds for which a reader keeps its snapshot, unless the server is told otherwise.
pub const SNAPSHOT_AGE_SECONDS: u64 = 3600;

/// The least memory limit: an idle server takes a third of it, and below it nothing would fit.
pub const MEMORY_LIMIT_MIN: usize = 64 << 20;

/// Percent of the machine's or the container's memory that a server takes (default): the rest is
/// for the system, its page cache and whoever logs in to look.
pub const MEMORY_LIMIT_PERCENT: usize = 80;

/// How often the system is asked what the process holds: reading it costs some tens of
/// microseconds, and what a tenth of a second brings in is below what the limit leaves free.
pub const MEMORY_SAMPLE_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// Parts of `retention.bytes` that a topic's segments are: what is kept beyond it is one of them.
pub const LOG_SEGMENTS_PER_RETENTION: u64 = 8;

/// Bytes of the smallest segment that a small `retention.bytes` leads to: a file per record would
/// cost more than it frees.
pub const LOG_SEGMENT_BYTES_MIN: u64 = 64 * 1024;

/// How often within `retention.ms` a topic closes its segment: rows go at the latest so much after
/// their time.
pub const TOPIC_ROLLS_PER_AGE: u32 = 4;

/// Bytes that queries may always hold together, however tight memory is: enough to look at the
/// system relations and at small views, which is how one finds out what to drop.
pub const MEMORY_QUERIES_MIN: usize = 8 << 20;

/// Bytes that must be free for a view to be begun: its readers' first batches and what it makes of
/// them. With less it would be given up after its first step.
pub const MEMORY_VIEW_MIN: usize = 8 << 20;

/// Columns of a SELECT list: Postgres' bound, beyond which planning takes minutes.
pub const RESULT_COLUMNS_MAX: usize = 1_664;

/// Columns of a source or table: Postgres' bound.
pub const TABLE_COLUMNS_MAX: usize = 1_600;

/// Characters of a value in an error's detail: Postgres' bound, enough to recognise the row.
pub const DETAIL_VALUE_CHARACTERS_MAX: usize = 64;

/// Statements of which is known that they read a row by its key, or that they do not: more than an
/// application has, and some megabytes at the most.
pub const POINT_READS_MAX: usize = 1_024;

/// Bytes of the text of such a statement: a list of a hundred columns fits.
pub const POINT_READ_BYTES_MAX: usize = 4 * 1024;

/// Threads that serve connections, per core: a statement is planned on one of them, which takes
/// some milliseconds for a large one, and a lookup by key must find another.
pub const CONNECTION_THREADS_PER_CORE: usize = 2;

/// Threads for ad-hoc queries per core: a query that computes holds up to one per partition, and
/// short ones must find one beside several of them.
pub const QUERY_THREADS_PER_CORE: usize = 4;

/// Threads for ad-hoc queries at the least.
pub const QUERY_THREADS_MIN: usize = 8;

/// Bytes of one value that a function makes: what one message to a client may hold. A greater one
/// could neither come in nor be shown. Postgres allows a gigabyte.
pub const VALUE_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// Bytes that a function makes of one batch of rows, some thousand: the batch is in memory whole,
/// and is counted by the query's account only when it is there.
pub const BATCH_TEXT_BYTES_MAX: usize = 256 << 20;

/// Elements of the arrays that a function makes of one batch of rows: as long integers as many
/// bytes as texts may have.
pub const BATCH_ELEMENTS_MAX: usize = BATCH_TEXT_BYTES_MAX / 8;
