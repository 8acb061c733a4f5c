//! A server that is killed while it is written, read and followed.
//!
//! ```text
//! writer    INSERT 0, 1, 2 … into a topic, one statement each; remembers what was acknowledged
//! updater   UPDATE t SET n = n + 1, counts acknowledgements
//! reader    SELECT count(*) FROM a view, which must never fall
//! follower  SUBSCRIBE by COPY, integrates the changes; resumes behind the last complete epoch
//! ─────────────── SIGKILL at a random moment, restart, check, again ───────────────
//! ```
//!
//! The model is the list of ids that are in the topic: from it every view is computed anew. The
//! seed is `TIDEMILL_TEST_SEED` or drawn, and printed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::pin;

use futures::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::server::{Server, block_on, connect};

const KILLS: usize = 6;

/// Groups of the view that is followed.
const KEYS: i64 = 5;

const OBJECTS: &str = "
    CREATE SOURCE events (id BIGINT, k BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)
      WITH (connector = 'topic');
    CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT);
    INSERT INTO t VALUES (1, 0);
    CREATE MATERIALIZED VIEW whole AS SELECT count(*) AS n FROM events;
    CREATE MATERIALIZED VIEW per_key AS
      SELECT k, count(*) AS n, sum(id) AS total FROM events GROUP BY k;
    CREATE MATERIALIZED VIEW closed AS
      SELECT window_start, count(*) AS n FROM TUMBLE(events, ts, INTERVAL '10 seconds')
      GROUP BY window_start, window_end EMIT ON WINDOW CLOSE;
    CREATE MATERIALIZED VIEW doubled AS SELECT id, n * 2 AS n FROM t;";

type Row = (i64, i64, i64);

#[test]
fn a_killed_server_loses_and_repeats_nothing_with_checkpoints() {
    block_on(kill_again_and_again("150"));
}

/// Without a checkpoint all steps are replayed.
#[test]
fn a_killed_server_loses_and_repeats_nothing_from_its_journal() {
    block_on(kill_again_and_again("3600000"));
}

/// The history is far below its bound, so every subscription resumes, with checkpoints behind the
/// last epoch it saw as without.
async fn kill_again_and_again(checkpoint_interval_ms: &str) {
    let mut random = fastrand::Rng::with_seed(seed());
    let mut server = Server::start_with(&["--checkpoint-interval-ms", checkpoint_interval_ms]);
    server.connect().await.batch_execute(OBJECTS).await.unwrap();
    let mut story = Story::default();
    let mut follower = Follower::default();
    for round in 0..KILLS {
        let run = Run::start(server.address(), &story, follower);
        run.until_acknowledged(random.usize(1..40)).await;
        for _ in 0..random.usize(0..200) {
            tokio::task::yield_now().await;
        }
        server.kill();
        follower = run.finish(&mut story).await;
        let (rows, updates) = (story.acknowledged.len(), story.updates);
        let (begun, resumed) = (follower.begun, follower.resumed);
        println!("kill {round}: {rows} rows, {updates} updates; {begun} begun, {resumed} resumed");
        server.start_again();
        check(&server, &mut story, &follower).await;
    }
    assert_eq!((follower.begun, follower.resumed), (1, KILLS - 1));
}

/// `TIDEMILL_TEST_SEED`, or one that is drawn; printed, so that a failure can be repeated.
pub fn seed() -> u64 {
    let seed = std::env::var("TIDEMILL_TEST_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("TIDEMILL_TEST_SEED={seed}");
    seed
}

/// What is known of the writes.
#[derive(Default)]
struct Story {
    acknowledged: BTreeSet<i64>,
    /// Sent without an answer: each may be there or not.
    unsure: BTreeSet<i64>,
    next: i64,
    updates: i64,
    updates_unsure: i64,
    /// The greatest count that a reader has seen.
    seen: i64,
}

/// The clients between a start and a kill; each ends with an error when the server dies.
struct Run {
    acknowledged: watch::Receiver<usize>,
    writer: JoinHandle<(Vec<i64>, i64)>,
    updater: JoinHandle<i64>,
    reader: JoinHandle<i64>,
    follower: JoinHandle<Follower>,
}

impl Run {
    fn start(address: SocketAddr, story: &Story, follower: Follower) -> Run {
        let (count, acknowledged) = watch::channel(0);
        Run {
            acknowledged,
            writer: tokio::spawn(write(address, story.next, count)),
            updater: tokio::spawn(update(address)),
            reader: tokio::spawn(read(address, story.seen)),
            follower: tokio::spawn(follower.follow(address)),
        }
    }

    async fn until_acknowledged(&self, rows: usize) {
        self.acknowledged
            .clone()
            .wait_for(|count| *count >= rows)
            .await
            .unwrap();
    }

    async fn finish(self, story: &mut Story) -> Follower {
        let (acknowledged, unsure) = self.writer.await.unwrap();
        story.acknowledged.extend(acknowledged);
        story.unsure.insert(unsure);
        story.next = unsure + 1;
        story.updates += self.updater.await.unwrap();
        story.updates_unsure += 1;
        story.seen = story.seen.max(self.reader.await.unwrap());
        self.follower.await.unwrap()
    }
}

/// INSERTs one row after the other; the acknowledged ids, and the one that was under way.
async fn write(address: SocketAddr, first: i64, count: watch::Sender<usize>) -> (Vec<i64>, i64) {
    let client = connect(address).await.unwrap();
    let mut acknowledged = Vec::new();
    for id in first.. {
        let key = id % KEYS;
        let time = format!("TIMESTAMP '2026-01-01' + INTERVAL '{id} seconds'");
        let sql = format!("INSERT INTO events VALUES ({id}, {key}, {time})");
        match client.simple_query(&sql).await {
            Ok(_) => acknowledged.push(id),
            Err(error) => {
                assert!(error.as_db_error().is_none(), "INSERT: {error:?}");
                return (acknowledged, id);
            }
        }
        count.send_replace(acknowledged.len());
    }
    unreachable!("the server is killed")
}

async fn update(address: SocketAddr) -> i64 {
    let client = connect(address).await.unwrap();
    for updates in 0.. {
        if let Err(error) = client
            .simple_query("UPDATE t SET n = n + 1 WHERE id = 1")
            .await
        {
            assert!(error.as_db_error().is_none(), "UPDATE: {error:?}");
            return updates;
        }
    }
    unreachable!("the server is killed")
}

/// Reads a count again and again, which never falls.
async fn read(address: SocketAddr, mut seen: i64) -> i64 {
    let client = connect(address).await.unwrap();
    while let Ok(rows) = client.query("SELECT n FROM whole", &[]).await {
        let now: i64 = rows[0].get(0);
        assert!(now >= seen, "{now} rows after {seen} had been seen");
        seen = now;
    }
    seen
}

/// A subscriber that survives the server: rows as of the last complete epoch.
#[derive(Default)]
struct Follower {
    /// None: nothing was received yet.
    epoch: Option<i64>,
    rows: BTreeMap<Row, i64>,
    resumed: usize,
    begun: usize,
}

impl Follower {
    async fn follow(mut self, address: SocketAddr) -> Follower {
        let client = connect(address).await.unwrap();
        if let Some(epoch) = self.epoch {
            let options = format!("WITH (SNAPSHOT = false, PROGRESS = true) AS OF {epoch}");
            if self.receive(&client, &options).await {
                self.resumed += 1;
                return self;
            }
            self.epoch = None;
            self.rows.clear();
        }
        assert!(
            self.receive(&client, "WITH (PROGRESS = true)").await,
            "a snapshot was refused"
        );
        self.begun += 1;
        self
    }

    /// Takes changes in until the connection breaks; false when the history does not reach back.
    async fn receive(&mut self, client: &Client, options: &str) -> bool {
        let sql = format!("COPY (SUBSCRIBE TO per_key {options}) TO STDOUT");
        let mut lines = match client.copy_out(sql.as_str()).await {
            Ok(stream) => pin!(stream),
            Err(error) => return !is_history_gone(&error),
        };
        let mut pending = Vec::new();
        let mut begun = self.epoch.is_some();
        while let Some(part) = lines.next().await {
            let part = match part {
                Ok(part) => part,
                Err(error) => return !is_history_gone(&error),
            };
            for line in std::str::from_utf8(&part).unwrap().lines() {
                let change = Change::parse(line);
                if let Some(done) = self.epoch {
                    assert!(change.epoch > done, "epoch {} after {done}", change.epoch);
                }
                match change.row {
                    Some((diff, row)) => pending.push((change.epoch, diff, row)),
                    None => {
                        self.take(std::mem::take(&mut pending), change.epoch, begun);
                        begun = true;
                    }
                }
            }
        }
        true
    }

    /// Integrates complete epochs. A snapshot only inserts; later, each key has one row at most.
    fn take(&mut self, changes: Vec<(i64, i64, Row)>, epoch: i64, begun: bool) {
        let mut last = None;
        for (at, diff, row) in changes {
            assert!(at <= epoch && last <= Some(at), "epoch {at} out of order");
            last = Some(at);
            assert!(begun || diff > 0 || self.rows.contains_key(&row));
            let weight = self.rows.entry(row).or_default();
            *weight += diff;
            if *weight == 0 {
                self.rows.remove(&row);
            }
        }
        let keys: BTreeSet<i64> = self.rows.keys().map(|row| row.0).collect();
        assert_eq!(
            keys.len(),
            self.rows.len(),
            "two rows of a key at {epoch}: {:?}",
            self.rows
        );
        assert!(
            self.rows.values().all(|weight| *weight == 1),
            "at {epoch}: {:?}",
            self.rows
        );
        self.epoch = Some(epoch);
    }
}

/// Whether a subscription was refused because it asks for more history than there is. A broken
/// connection is not that; any other refusal is a failure.
fn is_history_gone(error: &tokio_postgres::Error) -> bool {
    let Some(refusal) = error.as_db_error() else {
        return false;
    };
    assert_eq!(refusal.code().code(), "53400", "{refusal:?}");
    true
}

/// One line of the subscription: epoch, progress, diff, k, n, total.
struct Change {
    epoch: i64,
    row: Option<(i64, Row)>,
}

impl Change {
    fn parse(line: &str) -> Change {
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |place: usize| fields[place].parse::<i64>().unwrap();
        let row = (fields[1] == "f").then(|| (number(2), (number(3), number(4), number(5))));
        Change {
            epoch: number(0),
            row,
        }
    }
}

async fn check(server: &Server, story: &mut Story, follower: &Follower) {
    let client = server.connect().await;
    let rows = client.query("SELECT id FROM events", &[]).await.unwrap();
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let there: BTreeSet<i64> = ids.iter().copied().collect();
    assert_eq!(there.len(), ids.len(), "rows were repeated");
    let lost: Vec<_> = story.acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged rows are lost: {lost:?}");
    let invented: Vec<_> = there
        .iter()
        .filter(|id| !story.acknowledged.contains(id))
        .copied()
        .collect();
    assert!(
        invented.iter().all(|id| story.unsure.contains(id)),
        "{invented:?}"
    );
    // They were durable after all, and must stay so.
    story.acknowledged.extend(invented);
    story.unsure.clear();

    let count = i64::try_from(there.len()).unwrap();
    assert!(
        count >= story.seen,
        "{count} rows after {} had been seen",
        story.seen
    );
    assert_eq!(numbers(&client, "SELECT n FROM whole").await, [[count]]);
    let per_key = numbers(&client, "SELECT k, n, total FROM per_key").await;
    assert_eq!(per_key, model_per_key(&there));
    let closed = numbers(&client, "SELECT n FROM closed").await;
    assert_eq!(closed, model_closed(&there));

    let n = numbers(&client, "SELECT n FROM t").await[0][0];
    let bounds = story.updates..=story.updates + story.updates_unsure;
    assert!(bounds.contains(&n), "{n} updates instead of {bounds:?}");
    assert_eq!(numbers(&client, "SELECT n FROM doubled").await, [[n * 2]]);
    (story.updates, story.updates_unsure) = (n, 0);

    check_epoch(&client, follower).await;
}

/// What was seen at an epoch is what that epoch holds after the restart.
async fn check_epoch(client: &Client, follower: &Follower) {
    let Some(epoch) = follower.epoch else {
        return;
    };
    let cursor = format!("DECLARE c CURSOR FOR SUBSCRIBE TO per_key AS OF {epoch}");
    client.batch_execute("BEGIN").await.unwrap();
    let declared = client.batch_execute(&cursor).await;
    let fetched = match declared {
        Ok(()) => {
            client
                .simple_query("FETCH 1000 FROM c WITH (timeout = '10s')")
                .await
        }
        Err(error) => Err(error),
    };
    match fetched {
        Ok(messages) => {
            let mut rows: Vec<Row> = Vec::new();
            for row in all_rows(&messages).filter(|row| row[0] == epoch) {
                rows.push((row[2], row[3], row[4]));
            }
            rows.sort_unstable();
            let seen: Vec<Row> = follower.rows.keys().copied().collect();
            assert_eq!(rows, seen, "epoch {epoch} has changed");
        }
        Err(error) => assert!(is_history_gone(&error), "{error:?}"),
    }
    client.batch_execute("ROLLBACK").await.unwrap();
}

fn model_per_key(ids: &BTreeSet<i64>) -> Vec<Vec<i64>> {
    let mut groups: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for id in ids {
        let group = groups.entry(id % KEYS).or_default();
        *group = (group.0 + 1, group.1 + id);
    }
    groups
        .into_iter()
        .map(|(key, (count, total))| vec![key, count, total])
        .collect()
}

/// Rows of the windows that the last row's time has closed.
fn model_closed(ids: &BTreeSet<i64>) -> Vec<Vec<i64>> {
    let last = ids.last().copied().unwrap_or_default();
    let mut windows: BTreeMap<i64, i64> = BTreeMap::new();
    for id in ids.iter().filter(|id| *id / 10 * 10 + 10 <= last) {
        *windows.entry(id / 10).or_default() += 1;
    }
    let mut counts: Vec<Vec<i64>> = windows.into_values().map(|count| vec![count]).collect();
    counts.sort_unstable();
    counts
}

/// All rows of a query of numbers, sorted.
async fn numbers(client: &Client, sql: &str) -> Vec<Vec<i64>> {
    let messages = client.simple_query(sql).await.unwrap();
    let mut rows: Vec<Vec<i64>> = all_rows(&messages).collect();
    rows.sort_unstable();
    rows
}

fn all_rows(messages: &[SimpleQueryMessage]) -> impl Iterator<Item = Vec<i64>> + '_ {
    messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(
            (0..row.len())
                .map(|place| row.get(place).unwrap().parse().unwrap())
                .collect(),
        ),
        _ => None,
    })
}
