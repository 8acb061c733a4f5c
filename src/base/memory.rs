//! The server's memory: how much there may be, who holds how much, and what that means.
//!
//! ```text
//!   0 ───────────────────────────────────────── 90 % ───────────── limit
//!   everything goes                              │ readers pause      │
//!                                                │ no new view, no INSERT, and queries
//!                                                │ get no more memory  │
//! ```
//!
//! Holders say what they hold, per batch or step and never per row ([`Held`]). What the allocator
//! keeps beside that, and what nobody accounts for, the system knows: the larger of the two sums
//! counts. Running views go on beyond the limit, because what they are could not be said otherwise;
//! but their readers pause, so they only finish what has been read.
//!
//! Who may hold memory and lets go of it soon by itself (a step's batches, a connection's buffers)
//! has a bound in [`limits`](crate::base::limits) and is part of what the system knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crate::base::limits::{MEMORY_SAMPLE_EVERY, MEMORY_TIGHT_PERCENT};
use crate::error::{Error, Result, SqlState};

/// What memory is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// Operators of running views.
    State,
    /// Rows of views and tables.
    Rows,
    /// The last changes of views and tables, and rows that were left out.
    History,
    /// Decoded rows that wait for a step.
    Queues,
    /// Views that are being built.
    CatchUps,
    /// Queries that run.
    Queries,
    /// Prepared statements, and writes that are not committed or not yet in a step.
    Sessions,
    /// State on its way to disk.
    Checkpoints,
    /// Rows of views and tables that have changed, and that somebody still reads as they were.
    Snapshots,
}

impl Account {
    pub const ALL: [Account; 9] = [
        Account::State,
        Account::Rows,
        Account::History,
        Account::Queues,
        Account::CatchUps,
        Account::Queries,
        Account::Sessions,
        Account::Checkpoints,
        Account::Snapshots,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Account::State => "state",
            Account::Rows => "rows",
            Account::History => "history",
            Account::Queues => "queues",
            Account::CatchUps => "catch_ups",
            Account::Queries => "queries",
            Account::Sessions => "sessions",
            Account::Checkpoints => "checkpoints",
            Account::Snapshots => "snapshots",
        }
    }
}

/// The memory of one server, shared by everything that holds some.
#[derive(Debug)]
pub struct Memory {
    limit: usize,
    held: [AtomicUsize; Account::ALL.len()],
    /// What the system says, as of the last look.
    resident: AtomicUsize,
    /// When that was, milliseconds since `started`, plus one; 0: never.
    looked: AtomicU64,
    started: Instant,
    /// Whether the system is asked: not for the many engines of one test.
    asks_system: bool,
}

impl Memory {
    /// The memory of a process that has one server.
    pub fn of_process(limit: usize) -> Arc<Memory> {
        Arc::new(Memory::new(limit, true))
    }

    /// Memory of which only what is accounted for counts.
    pub fn accounted_only(limit: usize) -> Arc<Memory> {
        Arc::new(Memory::new(limit, false))
    }

    fn new(limit: usize, asks_system: bool) -> Memory {
        Memory {
            limit,
            held: Default::default(),
            resident: AtomicUsize::new(0),
            looked: AtomicU64::new(0),
            started: Instant::now(),
            asks_system,
        }
    }

    /// How many bytes the server may have.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// What an account holds.
    pub fn held(&self, account: Account) -> usize {
        self.cell(account).load(Ordering::Relaxed)
    }

    /// What all accounts hold.
    pub fn accounted(&self) -> usize {
        Account::ALL.iter().map(|account| self.held(*account)).sum()
    }

    /// What the process holds of its own, as the system says; 0 where it does not.
    pub fn resident(&self) -> usize {
        let now = self.started.elapsed();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let every = u64::try_from(MEMORY_SAMPLE_EVERY.as_millis()).unwrap_or(u64::MAX);
        let looked = self.looked.load(Ordering::Relaxed);
        let is_due = self.asks_system && (looked == 0 || now >= looked.saturating_add(every));
        // One of those who see that it is due looks.
        if is_due
            && self
                .looked
                .compare_exchange(looked, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            && let Some(resident) = resident_bytes()
        {
            self.resident.store(resident, Ordering::Relaxed);
        }
        self.resident.load(Ordering::Relaxed)
    }

    /// How many bytes are used: accounted for or not.
    pub fn used(&self) -> usize {
        self.accounted().max(self.resident())
    }

    /// Bytes from which on nothing new is begun.
    pub fn tight_from(&self) -> usize {
        self.limit / 100 * MEMORY_TIGHT_PERCENT
    }

    /// Whether so much is used that readers pause and nothing new is begun.
    pub fn is_tight(&self) -> bool {
        self.used() >= self.tight_from()
    }

    /// Whether `bytes` more may be begun with. `what` is refused if not: `a new view`.
    ///
    /// # Errors
    /// 53200 with the limit and the ways out.
    pub fn check(&self, what: &str, bytes: usize) -> Result<()> {
        match self.used().saturating_add(bytes) < self.tight_from() {
            true => Ok(()),
            false => Err(self.refusal(what)),
        }
    }

    /// Gives the system the memory that was freed and that the allocator still keeps: after work
    /// that took much of it and will not take it again soon.
    pub fn give_back() {
        // SAFETY: it takes nothing and gives nothing; any thread may call it at any time.
        unsafe { libmimalloc_sys::mi_collect(true) };
    }

    /// The error of what is refused.
    pub fn refusal(&self, what: &str) -> Error {
        Error::new(
            SqlState::OUT_OF_MEMORY,
            format!("out of memory: there is no room for {what}"),
        )
        .detail(format!(
            "{} of {} are used; nothing new is begun from {} % on",
            megabytes(self.used()),
            megabytes(self.limit),
            MEMORY_TIGHT_PERCENT
        ))
        .hint(format!(
            "the memory limit is {}: drop views that are not needed, or raise --memory-limit \
             (TIDEMILL_MEMORY_LIMIT)",
            megabytes(self.limit)
        ))
    }

    /// Says what an account of one owner holds now.
    pub fn set(&self, account: Account, bytes: usize) {
        self.cell(account).store(bytes, Ordering::Relaxed);
    }

    /// A holder's share of an account, which goes with it.
    pub fn hold(self: &Arc<Self>, account: Account) -> Held {
        Held {
            memory: self.clone(),
            account,
            bytes: 0,
        }
    }

    pub fn add(&self, account: Account, bytes: usize) {
        self.cell(account).fetch_add(bytes, Ordering::Relaxed);
    }

    /// # Panics
    /// In a debug build, when more is taken away than there was.
    pub fn remove(&self, account: Account, bytes: usize) {
        let before = self.cell(account).fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "an account holds what it was given");
    }

    fn cell(&self, account: Account) -> &AtomicUsize {
        &self.held[account as usize]
    }
}

/// What one holder has, until it is dropped.
#[derive(Debug)]
pub struct Held {
    memory: Arc<Memory>,
    account: Account,
    bytes: usize,
}

impl Held {
    /// Says what the holder has now.
    pub fn set(&mut self, bytes: usize) {
        // Added before it is taken away: the sum of others is never too small.
        self.memory.add(self.account, bytes);
        self.memory.remove(self.account, self.bytes);
        self.bytes = bytes;
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.remove(self.account, self.bytes);
    }
}

/// Bytes as a person reads them.
fn megabytes(bytes: usize) -> String {
    match bytes {
        usize::MAX => "all there is".to_string(),
        _ => format!("{} MB", bytes >> 20),
    }
}

/// Memory of the process that is its own: neither program text nor mapped files.
fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kilobytes(&status, "RssAnon:")
}

/// A line `Name:   123 kB` as bytes.
fn kilobytes(text: &str, name: &str) -> Option<usize> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: usize = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

/// The memory that this process can have at most: the machine's, or less where a control group
/// says so. `None` where the system tells neither.
pub fn machine_bytes() -> Option<usize> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| kilobytes(&text, "MemTotal:"));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = group_files(&groups).into_iter().filter_map(|path| {
        let text = std::fs::read_to_string(path).ok()?;
        // Version 2 says `max` for none, version 1 a number beyond any machine.
        text.trim().parse::<usize>().ok()
    });
    limits.chain(machine).min()
}

/// Where limits of this process' control groups stand, in both versions: a group is bounded by
/// those above it.
fn group_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{path}/{file}"));
            match path.rfind('/') {
                Some(at) => path = &path[..at],
                None => break,
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_goes_with_its_holder() {
        let memory = Memory::accounted_only(1000);
        let mut held = memory.hold(Account::Queues);
        held.set(700);
        memory.set(Account::State, 100);
        assert_eq!(memory.used(), 800);
        memory.check("a new view", 50).unwrap();
        assert!(!memory.is_tight());
        held.set(800);
        assert!(memory.is_tight());
        drop(held);
        assert_eq!(memory.used(), 100);
    }

    #[test]
    fn a_refusal_names_the_limit_and_the_way_out() {
        let memory = Memory::accounted_only(100 << 20);
        memory.set(Account::Rows, 95 << 20);
        let error = memory.check("a new view", 0).unwrap_err();
        assert_eq!(error.state(), SqlState::OUT_OF_MEMORY);
        assert!(error.to_string().contains("no room for a new view"));
        assert!(
            memory
                .refusal("it")
                .get_hint()
                .is_some_and(|hint| hint.contains("is 100 MB"))
        );
    }

    #[test]
    fn limits_of_both_versions_of_control_groups_are_found() {
        let groups = "9:name=systemd:/\n4:memory:/a/b\n0::/\n";
        let expected = [
            "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(group_files(groups), expected);
        assert_eq!(
            kilobytes("A: 1 kB\nRssAnon:\t  20 kB\n", "RssAnon:"),
            Some(20480)
        );
    }
}
