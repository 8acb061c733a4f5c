//! `tidemill bench soak`: whether memory stays what it is while rows go on for long.
//!
//! ```text
//!   memory ▲        ┌ first tenth ┐┌ the rest ─────────────────────────────────┐
//!          │           ╭──────────────╮   ╭─────╮          ╭────
//!          │      ╭────╯   greatest   ╰───╯     ╰──────────╯    greatest: at most so many times
//!          └──────┴────────────────────────────────────────────────────► rows
//! ```
//!
//! Every state of the views that run has an end: groups have bounded keys, windows and sessions
//! close, closed ones leave by retention, rows leave by the clock. So whatever grows after the
//! first tenth is kept by mistake. That rows are counted and not lost is checked at the end.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::base::Clock;
use crate::base::limits::{BENCH_LEAD, BENCH_RUN_SECONDS_MAX, BENCH_SOAK_PAUSE};
use crate::cli::bench::BenchOptions;
use crate::cli::bench::child::Server;
use crate::cli::bench::input::{START_MICROS, events_of, rows_below, time};
use crate::cli::bench::queries::Feed;
use crate::cli::bench::report::megabytes;
use crate::cli::bench::run::{execute, number};
use crate::error::{Error, Result, SqlState};

/// The name on the command line.
pub(super) const NAME: &str = "soak";

/// Rows a second of the source whose rows leave by the clock: its event times are the wall's.
const CLOCK_ROWS_PER_SECOND: u64 = 5_000;

/// Events in a second of event time: in 200 million rows some hours of windows come and go.
const EVENTS_PER_SECOND: u64 = 10_000;

const VIEWS: [&str; 5] = [
    "CREATE MATERIALIZED VIEW per_slot AS \
     SELECT auction % 1000 AS slot, count(*) AS n, sum(price) AS total, max(price) AS top \
     FROM bids GROUP BY auction % 1000",
    "CREATE MATERIALIZED VIEW windows WITH (retention = '1 minute') AS \
     SELECT auction % 1000 AS slot, window_start, window_end, count(*) AS n, max(price) AS top \
     FROM TUMBLE(bids, ts, INTERVAL '10 seconds') \
     GROUP BY auction % 1000, window_start, window_end EMIT ON WINDOW CLOSE",
    "CREATE MATERIALIZED VIEW hops WITH (retention = '1 minute', retention_mode = 'forget') AS \
     SELECT channel, window_start, window_end, count(*) AS n \
     FROM HOP(bids, ts, INTERVAL '5 seconds', INTERVAL '20 seconds') \
     GROUP BY channel, window_start, window_end",
    "CREATE MATERIALIZED VIEW sessions WITH (retention = '1 minute') AS \
     SELECT bidder, window_start, window_end, count(*) AS n \
     FROM SESSION(bids PARTITION BY bidder, ts, INTERVAL '10 seconds') \
     GROUP BY bidder, window_start, window_end",
    "CREATE MATERIALIZED VIEW last_seconds AS \
     SELECT key % 100 AS slot, count(*) AS n FROM events \
     WHERE ts > now() - INTERVAL '5 seconds' GROUP BY key % 100",
];

/// What a soak measured.
struct Soak {
    rows: u64,
    seconds: f64,
    first_bytes: u64,
    after_bytes: u64,
}

impl Soak {
    #[expect(clippy::cast_precision_loss, reason = "a ratio has few digits")]
    fn growth(&self) -> f64 {
        self.after_bytes as f64 / self.first_bytes.max(1) as f64
    }
}

/// Runs it and prints what it measured.
///
/// # Errors
/// What kept it from its end; and an error when memory grew beyond the factor or rows were lost.
pub(super) async fn soak(options: &BenchOptions) -> Result<()> {
    let soak = run(options).await?;
    let (growth, most) = (soak.growth(), options.growth_max);
    let is_ok = growth <= most;
    let (first, after) = (megabytes(soak.first_bytes), megabytes(soak.after_bytes));
    if options.json {
        let status = if is_ok { "ok" } else { "failed" };
        let object = json!({
            "query": NAME, "status": status, "rows": soak.rows, "seconds": soak.seconds,
            "memory_first_tenth_mb": first, "memory_after_mb": after,
            "growth": growth, "growth_max": most,
        });
        println!("{object}");
    } else {
        println!();
        println!("{NAME}: state that ends");
        println!("  {:<28}{} in {:.0} s", "rows", soak.rows, soak.seconds);
        println!("  {:<28}{first:.0} MB", "memory, first tenth");
        println!("  {:<28}{after:.0} MB", "memory, greatest after it");
        println!("  {:<28}{growth:.2} times, at most {most}", "growth");
        if !is_ok {
            println!("  FAILED: memory grew");
        }
    }
    match is_ok {
        true => Ok(()),
        false => Err(Error::new(
            SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            format!("memory grew {growth:.2} times after the first tenth, at most {most} is right"),
        )),
    }
}

async fn run(options: &BenchOptions) -> Result<Soak> {
    let server = Server::start(options.workers)?;
    let client = server.connect().await?;
    let events = events_of(Feed::Bids, options.rows);
    let rows = rows_below(Feed::Bids, events);
    for statement in sources(events, options.partitions) {
        execute(&client, &statement).await?;
    }
    for view in VIEWS {
        execute(&client, view).await?;
    }
    let begun = Instant::now();
    let (mut first_bytes, mut after_bytes) = (0, 0);
    let mut progress = (0, begun);
    loop {
        let read = rows_in(&client).await?;
        let bytes = server.memory()?;
        let is_first = first_bytes == 0 || read <= rows / 10;
        let greatest = if is_first {
            &mut first_bytes
        } else {
            &mut after_bytes
        };
        *greatest = bytes.max(*greatest);
        if read >= rows {
            break;
        }
        if read > progress.0 {
            progress = (read, Instant::now());
        }
        if progress.1.elapsed() > Duration::from_secs(BENCH_RUN_SECONDS_MAX) {
            let message = format!("the server has stood at row {read} of {rows} for an hour");
            return Err(Error::new(SqlState::QUERY_CANCELED, message));
        }
        sleep(BENCH_SOAK_PAUSE).await;
    }
    let counted = number(&client, "SELECT sum(n)::BIGINT FROM per_slot").await?;
    if counted != rows {
        let message = format!("{counted} rows were counted of {rows}");
        return Err(Error::new(SqlState::DATA_CORRUPTED, message));
    }
    Ok(Soak {
        rows,
        seconds: begun.elapsed().as_secs_f64(),
        first_bytes,
        after_bytes,
    })
}

async fn rows_in(client: &Client) -> Result<u64> {
    let sql = "SELECT coalesce(sum(rows_in), 0)::BIGINT FROM tidemill.sources WHERE name = 'bids'";
    number(client, sql).await
}

fn sources(events: u64, partitions: u32) -> [String; 2] {
    let lead = i64::try_from(BENCH_LEAD.as_micros()).unwrap_or(i64::MAX);
    let at = time(Clock::system().now_micros() + lead);
    let (bids, keyed) = (Feed::Bids, Feed::Keyed);
    [
        format!(
            "CREATE SOURCE {} ({}) WITH (connector = 'nexmark', type = 'bid', \
             all_columns = 'true', events = '{events}', event_rate = '{EVENTS_PER_SECOND}', \
             start_time = '{}', starts_at = '{at}', partitions = '{partitions}')",
            bids.name(),
            bids.columns(),
            time(START_MICROS),
        ),
        format!(
            "CREATE SOURCE {} ({}) WITH (connector = 'datagen', \
             rate = '{CLOCK_ROWS_PER_SECOND}', start_time = '{at}', starts_at = '{at}', \
             fields.key.min = '0', fields.key.max = '999999')",
            keyed.name(),
            keyed.columns(),
        ),
    ]
}
