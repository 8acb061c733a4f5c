//! `tidemill demo`: a server with an auction site made up by the Nexmark generator, and its views.
//!
//! Every object is created unless it is there, so a demo over a kept directory goes on where it
//! stopped. Without a directory of the user's everything is in a temporary one, which goes when the
//! server does.

use datafusion::scalar::ScalarValue;
use tokio::sync::mpsc;

use crate::base::Clock;
use crate::base::limits::NOTICES_QUEUED_MAX;
use crate::cli::{StopSignals, is_ready, print_addresses, print_start};
use crate::config::ServeOptions;
use crate::engine::{Cancel, Engine, Session, SessionParameters};
use crate::error::{Error, Result};
use crate::server;

/// Events a second, of all three types: lively, and a small share of one core.
const EVENTS_PER_SECOND: u32 = 10_000;

/// The three sources are one auction site: the same seed, pace and beginning.
const SOURCES: [(&str, &str, &str); 3] = [
    (
        "bids",
        "bid",
        "auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT",
    ),
    (
        "auctions",
        "auction",
        "id BIGINT, item_name TEXT, initial_bid BIGINT, seller BIGINT, category BIGINT",
    ),
    (
        "persons",
        "person",
        "id BIGINT, name TEXT, city TEXT, state TEXT",
    ),
];

/// Each view is bounded by time, so that a demo left alone keeps the state of open windows only.
const VIEWS: [&str; 3] = [
    "CREATE MATERIALIZED VIEW IF NOT EXISTS bids_per_auction AS
  SELECT auction, window_start, window_end, count(*) AS bids, max(price) AS top_price
  FROM TUMBLE(bids, ts, INTERVAL '10 seconds')
  GROUP BY auction, window_start, window_end",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS hot_items AS
  SELECT window_end, auction, count(*) AS bids
  FROM HOP(bids, ts, INTERVAL '2 seconds', INTERVAL '10 seconds')
  GROUP BY auction, window_start, window_end
  HAVING count(*) >= 100",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS new_sellers AS
  SELECT p.window_start, p.state, count(*) AS auctions
  FROM TUMBLE(persons, ts, INTERVAL '10 seconds') p
  JOIN TUMBLE(auctions, ts, INTERVAL '10 seconds') a
    ON a.seller = p.id AND a.window_start = p.window_start AND a.window_end = p.window_end
  GROUP BY p.window_start, p.window_end, p.state",
];

/// What to type. Every line that is indented is a statement or a command of psql.
const HINTS: &str = "\
Type this into psql. The busiest auctions of the newest ten seconds, asked again and again:

  SELECT * FROM bids_per_auction ORDER BY window_start DESC, bids DESC LIMIT 5;
  \\watch 1

Hot items: who got 100 bids within ten seconds, looked at every two seconds:

  SELECT * FROM hot_items ORDER BY window_end DESC, bids DESC LIMIT 5;

A join: how many auctions were opened by people who had come in the same ten seconds:

  SELECT * FROM new_sellers ORDER BY window_start DESC, state LIMIT 6;

The changes of a view as they happen, until Ctrl-C:

  COPY (SUBSCRIBE TO hot_items) TO STDOUT;

How a view is made, and how all of it is doing:

  SHOW CREATE MATERIALIZED VIEW new_sellers;
  EXPLAIN new_sellers;
  SELECT name, state, rows, freshness_ms FROM tidemill.views;

Ctrl-C ends the server.
";

/// Serves the demo until a signal ends it.
pub async fn run(mut options: ServeOptions, keeps_data: bool) -> Result<()> {
    let mut stop = StopSignals::listen()?;
    let mut temporary = None;
    if !keeps_data {
        let directory = tempfile::Builder::new()
            .prefix("tidemill-demo-")
            .tempdir()
            .map_err(|error| Error::io("cannot make a temporary directory", &error))?;
        options.data_dir = directory.path().join("data");
        temporary = Some(directory);
    }
    let mut server = server::start(&options).await?;
    print_start(&server);
    let mut created = is_ready(&mut server, &mut stop).await;
    if matches!(created, Ok(true)) {
        created = tokio::select! {
            created = create(server.engine()?) => created.map(|()| true),
            () = stop.wait() => Ok(false),
        };
    }
    if matches!(created, Ok(true)) {
        println!(
            "Tidemill {} is ready, with an auction site of {EVENTS_PER_SECOND} events a second.",
            env!("CARGO_PKG_VERSION")
        );
        print_addresses(&server);
        match &temporary {
            None => println!("  Data:   {}", options.data_dir.display()),
            Some(directory) => println!(
                "  Data:   {} (removed at the end; --data-dir keeps it)",
                directory.path().display()
            ),
        }
        println!();
        print!("{HINTS}");
        stop.wait().await;
    }
    tracing::info!("stopping");
    let stopped = server.stop().await;
    if let Some(directory) = temporary {
        directory
            .close()
            .map_err(|error| Error::io("cannot remove the temporary directory", &error))?;
    }
    created.and(stopped)
}

/// Creates what is not there yet.
async fn create(engine: &Engine) -> Result<()> {
    // Nobody reads the notices that something is there already.
    let (notices, _) = mpsc::channel(NOTICES_QUEUED_MAX);
    let parameters = SessionParameters {
        user: "demo".to_string(),
        ..SessionParameters::default()
    };
    let mut session = engine.session(parameters, notices)?;
    let start = start_time(engine);
    for (name, kind, columns) in SOURCES {
        let statement = format!(
            "CREATE SOURCE IF NOT EXISTS {name} (
  {columns}, ts TIMESTAMPTZ,
  WATERMARK FOR ts AS ts - INTERVAL '1 second'
)
WITH (connector = 'nexmark', type = '{kind}', rate = {EVENTS_PER_SECOND}, start_time = '{start}')"
        );
        execute(&mut session, &statement).await?;
    }
    for statement in VIEWS {
        execute(&mut session, statement).await?;
    }
    Ok(())
}

/// When the auction site opened: for all its sources when the first one was created.
fn start_time(engine: &Engine) -> String {
    let catalog = engine.catalog();
    let known = SOURCES.iter().find_map(|(name, _, _)| {
        let text = &catalog.find(name)?.definition.text;
        let (_, rest) = text.split_once("start_time = '")?;
        let (start, _) = rest.split_once('\'')?;
        Some(start.to_string())
    });
    known.unwrap_or_else(|| {
        let now = chrono::DateTime::from_timestamp_micros(Clock::system().now_micros());
        let now = now.expect("the clock is within the years of a calendar");
        now.format("%Y-%m-%dT%H:%M:%SZ").to_string()
    })
}

async fn execute(session: &mut Session, statement: &str) -> Result<()> {
    for parsed in session.parse(statement)? {
        let prepared = session.prepare(parsed, &[]).await?;
        let parameters: Vec<ScalarValue> = Vec::new();
        session
            .execute(&prepared, parameters, Cancel::new())
            .await?;
    }
    Ok(())
}
