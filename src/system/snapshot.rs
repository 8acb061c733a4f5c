//! What the system relations and functions answer from: one consistent copy, made per statement.
//!
//! The engine makes a [`SystemSnapshot`] for every statement, and few statements look at what runs:
//! that part is gathered when it is first looked at, once ([`Lazy`]). Nothing else in here asks the
//! running system anything.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex};

use crate::base::EventTime;
use crate::catalog::Catalog;
use crate::error::Result;

/// Everything that system relations are made of. Times are microseconds since 1970, UTC.
#[derive(Clone, Debug, Default)]
pub struct SystemSnapshot {
    pub catalog: Arc<Catalog>,
    pub session: SessionFacts,
    /// The session's settings, sorted by name.
    pub settings: Vec<SettingRow>,
    /// Every session, the asking one among them.
    pub sessions: Vec<SessionRow>,
    /// What the running engine tells of itself.
    pub engine: Lazy<EngineRows>,
}

/// A value that is made when somebody looks at it, and is the same from then on.
#[derive(Clone)]
pub struct Lazy<T>(Arc<LazyLock<T, Maker<T>>>);

type Maker<T> = Box<dyn FnOnce() -> T + Send>;

impl<T> Lazy<T> {
    pub fn new(make: impl FnOnce() -> T + Send + 'static) -> Lazy<T> {
        Lazy(Arc::new(LazyLock::new(Box::new(make))))
    }
}

impl<T: Send + 'static> From<T> for Lazy<T> {
    fn from(value: T) -> Lazy<T> {
        Lazy::new(move || value)
    }
}

impl<T: Default + 'static> Default for Lazy<T> {
    fn default() -> Lazy<T> {
        Lazy::new(T::default)
    }
}

impl<T> Deref for Lazy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Lazy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lazy(…)")
    }
}

/// The session that asks.
#[derive(Clone, Debug, Default)]
pub struct SessionFacts {
    pub database: String,
    /// The role that owns everything: there is one user per session and no rights between users.
    pub user: String,
    /// The process id of the session's BackendKeyData.
    pub backend_pid: i32,
    /// The newest published epoch: `txid_current()`.
    pub epoch: u64,
    /// When the server started.
    pub server_started_at: EventTime,
    pub server_address: Option<String>,
    pub server_port: Option<u16>,
    pub client_address: Option<String>,
    pub client_port: Option<u16>,
    /// What `set_config` asked for while the statement ran.
    pub changes: SettingChanges,
}

/// Collects the calls of `set_config`. The engine applies them when the statement has ended.
///
/// A mutex, because the function is called from whatever thread runs the query.
#[derive(Clone, Debug)]
pub struct SettingChanges {
    changes: Arc<Mutex<Vec<SettingChange>>>,
    /// Gives the value as it will be kept, or refuses it.
    check: fn(&str, &str) -> Result<String>,
}

/// One call of `set_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    pub name: String,
    pub value: String,
    /// Until the end of the transaction.
    pub is_local: bool,
}

impl SettingChanges {
    pub fn new(check: fn(&str, &str) -> Result<String>) -> Self {
        SettingChanges {
            changes: Arc::default(),
            check,
        }
    }

    /// Every call so far, oldest first; afterwards there are none.
    pub fn take(&self) -> Vec<SettingChange> {
        std::mem::take(&mut self.lock())
    }

    /// Takes note of a call; gives the value that the setting will have.
    pub(crate) fn push(&self, name: &str, value: &str, is_local: bool) -> Result<String> {
        let value = (self.check)(name, value)?;
        self.lock().push(SettingChange {
            name: name.to_string(),
            value: value.clone(),
            is_local,
        });
        Ok(value)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<SettingChange>> {
        // A push or a take cannot stop half-way.
        self.changes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for SettingChanges {
    /// Takes every value as it is.
    fn default() -> Self {
        SettingChanges::new(|_, value| Ok(value.to_string()))
    }
}

/// A setting of the session: `pg_settings`, `tidemill.settings`, `current_setting`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingRow {
    pub name: String,
    pub value: String,
    pub description: String,
}

/// A client's session: `pg_stat_activity`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionRow {
    pub pid: i32,
    pub user: String,
    pub database: String,
    pub application_name: String,
    pub client_address: Option<String>,
    pub client_port: Option<u16>,
    pub connected_at: EventTime,
    /// When its running or last statement began.
    pub statement_at: Option<EventTime>,
    /// `active`, `idle`, `idle in transaction` …
    pub state: String,
    /// The running or last statement.
    pub statement: String,
}

/// The rows of the relations that describe what runs.
#[derive(Clone, Debug, Default)]
pub struct EngineRows {
    pub views: Vec<ViewRow>,
    pub sources: Vec<SourceRow>,
    pub watermarks: Vec<WatermarkRow>,
    pub operators: Vec<OperatorRow>,
    /// Many and large.
    pub errors: Lazy<Vec<ErrorRow>>,
    pub progress: Vec<ProgressRow>,
    pub memory: Vec<MemoryRow>,
}

/// A materialized view: `tidemill.views`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ViewRow {
    pub name: String,
    /// `running`, `catching up`, `paused` or `failed`.
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
    /// The newest epoch it contains.
    pub epoch: Option<u64>,
    /// The wall-clock time up to which it contains what its sources had.
    pub fresh_at: Option<EventTime>,
    /// How long ago that was.
    pub freshness_ms: Option<u64>,
    pub watermark: Option<EventTime>,
    pub rows: u64,
    /// Bytes of its rows.
    pub bytes: u64,
    /// Bytes of its operators' state.
    pub state_bytes: u64,
    pub rows_late: u64,
    pub rows_late_partly: u64,
    pub retractions_late: u64,
    pub rows_bad: u64,
    /// Rows that its retention has taken out, or kept out.
    pub rows_expired: u64,
    /// Groups, and rows of joins, that its `state_ttl` has let go.
    pub rows_evicted: u64,
    /// What was missing at its start, per partition.
    pub gaps: Option<String>,
}

/// A partition of a source or table: `tidemill.sources`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceRow {
    pub name: String,
    pub connector: String,
    pub partition: u32,
    /// `reading`, `idle`, `paused`, `disconnected`, or `unread` where no running view reads it.
    pub state: String,
    /// The next record to read.
    pub position: u64,
    /// One behind the last record there is; `None` where there is no end, or it is not known.
    pub end_position: Option<u64>,
    /// The oldest record of an embedded topic.
    pub start_position: Option<u64>,
    /// Bytes that are decoded and wait for a step.
    pub queued_bytes: u64,
    pub rows_in: u64,
    pub records_bad: u64,
    pub records_skipped: u64,
    pub last_error: Option<String>,
}

/// The watermark of a partition: `tidemill.watermarks`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatermarkRow {
    pub source: String,
    pub partition: u32,
    /// `None` before the first row.
    pub watermark: Option<EventTime>,
    /// Wall-clock time at which its last row came.
    pub last_row_at: Option<EventTime>,
    pub is_idle: bool,
    /// Whether the source's watermark is this one's.
    pub holds_back: bool,
    /// Whether its rows wait because it is too far ahead of the slowest partition.
    pub is_held: bool,
    /// Whether the source's watermark goes on by the clock.
    pub follows_clock: bool,
    pub source_watermark: Option<EventTime>,
    /// Rows left out as too far ahead of the clock.
    pub rows_ahead: u64,
}

/// An operator of a running view: `tidemill.operators`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OperatorRow {
    pub view: String,
    /// Its position in the plan that EXPLAIN prints.
    pub operator: u32,
    pub shard: u32,
    /// As EXPLAIN prints it.
    pub description: String,
    pub rows_in: u64,
    pub rows_out: u64,
    pub state_rows: u64,
    pub state_bytes: u64,
    pub busy_ms: f64,
    pub rows_late: u64,
    pub rows_bad: u64,
    /// Groups, and rows of joins, that `state_ttl` has let go.
    pub rows_evicted: u64,
}

/// A record or row that was left out: `tidemill.errors`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorRow {
    pub at: EventTime,
    pub source: Option<String>,
    pub view: Option<String>,
    pub partition: Option<u32>,
    pub offset: Option<u64>,
    pub reason: String,
    /// The bytes as they came.
    pub record: Option<Vec<u8>>,
}

/// A view that is catching up: `tidemill.progress`, `SHOW JOBS`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProgressRow {
    pub job: u64,
    pub view: String,
    /// `reading`, `joining` or `failed`.
    pub phase: String,
    pub records_done: u64,
    /// `None` while the ends are not known.
    pub records_total: Option<u64>,
    pub started_at: EventTime,
    pub error: Option<String>,
}

/// Memory by what it is held for: `tidemill.memory`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryRow {
    pub account: String,
    pub bytes: u64,
}

/// The version that clients are told: catalog queries are written for it.
pub const POSTGRES_VERSION: &str = "15.0";

/// Settings of Postgres that clients ask for and that a session cannot change here.
const PRESETS: [(&str, &str, &str); 11] = [
    ("block_size", "8192", "Shows the size of a disk block."),
    (
        "in_hot_standby",
        "off",
        "Shows whether hot standby is currently active.",
    ),
    (
        "integer_datetimes",
        "on",
        "Shows whether datetimes are integer based.",
    ),
    (
        "is_superuser",
        "on",
        "Shows whether the current user is a superuser.",
    ),
    (
        "max_identifier_length",
        "63",
        "Shows the maximum identifier length.",
    ),
    (
        "max_index_keys",
        "32",
        "Shows the maximum number of index keys.",
    ),
    (
        "search_path",
        "\"$user\", public",
        "Shows where names without a schema are looked for.",
    ),
    (
        "server_encoding",
        "UTF8",
        "Shows the server (database) character set encoding.",
    ),
    (
        "server_version",
        POSTGRES_VERSION,
        "Shows the server version.",
    ),
    (
        "server_version_num",
        "150000",
        "Shows the server version as an integer.",
    ),
    ("jit", "off", "Allow JIT compilation."),
];

impl SystemSnapshot {
    /// Name, value and description of every setting: the session's, then those it does not have.
    pub fn all_settings(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let own = self.settings.iter();
        let own = own.map(|row| {
            (
                row.name.as_str(),
                row.value.as_str(),
                row.description.as_str(),
            )
        });
        own.chain(
            PRESETS
                .into_iter()
                .filter(|(name, _, _)| self.is_preset(name)),
        )
    }

    /// A setting's value; names of settings do not care about case.
    pub fn setting(&self, name: &str) -> Option<&str> {
        let mut all = self.all_settings();
        all.find(|(known, _, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value, _)| value)
    }

    /// Whether the setting is none of the session's.
    pub fn is_preset(&self, name: &str) -> bool {
        !self
            .settings
            .iter()
            .any(|row| row.name.eq_ignore_ascii_case(name))
    }
}
