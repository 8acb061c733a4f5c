//! One measurement of one query, from the empty server to the checked answer.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::base::Clock;
use crate::base::limits::{BENCH_LEAD, BENCH_LOOK_PAUSE, BENCH_READ_PAUSE, BENCH_RUN_SECONDS_MAX};
use crate::cli::bench::BenchOptions;
use crate::cli::bench::child::{Server, Usage, failed};
use crate::cli::bench::input::{Ceiling, FLAT, Input, PACED, Pace};
use crate::cli::bench::queries::Query;
use crate::error::{Error, Result, SqlState};

/// What a run measured.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub rows: u64,
    /// Rows of the view at the end.
    pub view_rows: u64,
    pub seconds: f64,
    /// CPU seconds of the server.
    pub cpu: f64,
    /// Of these, those of the threads that read and decode.
    pub cpu_readers: f64,
    pub memory_bytes: u64,
    pub fsyncs: f64,
    pub ceiling: Ceiling,
    pub paced: Option<Latencies>,
    /// Rows by which the view and the batch answer differ.
    pub differences: u64,
}

/// Milliseconds, in rising order.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies {
    /// From a row's event time, at which it is produced, until a reader has seen it.
    pub freshness: Vec<f64>,
    /// Of a SELECT of one key.
    pub lookup: Vec<f64>,
}

impl Figures {
    /// Whether the view was the batch answer, and not empty.
    pub fn is_right(&self) -> bool {
        self.differences == 0 && self.view_rows > 0
    }
}

/// Measures a query.
///
/// # Errors
/// What kept the run from its end. A wrong answer is a result, not an error.
pub(super) async fn run(query: &Query, input: &Input, options: &BenchOptions) -> Result<Figures> {
    input.prepare(FLAT)?;
    let mut figures = flat_out(query, input, options).await?;
    if options.seconds > 0 && figures.is_right() {
        input.prepare(PACED)?;
        figures.paced = Some(paced(query, input, options).await?);
    }
    Ok(figures)
}

/// The whole input at once, through the running view.
async fn flat_out(query: &Query, input: &Input, options: &BenchOptions) -> Result<Figures> {
    let clock = Clock::system();
    let mut server = Server::start(options.workers)?;
    // A topic is empty until the server has stopped; a generator begins at a moment.
    let lead = i64::try_from(BENCH_LEAD.as_micros()).unwrap_or(i64::MAX);
    let at = clock.now_micros() + lead;
    let client = server.connect().await?;
    define(query, &client, input.statements(FLAT, Pace::AtOnce { at })).await?;
    let (client, begun, before) = if input.is_kafka() {
        drop(client);
        server.stop()?;
        input.fill()?;
        server.start_again()?;
        let begun = Instant::now();
        (server.connect().await?, begun, Usage::default())
    } else {
        let left = u64::try_from(at - clock.now_micros()).map_err(|_| {
            let message = "the view was not there before the first row";
            Error::new(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message)
        })?;
        let before = server.usage()?;
        sleep(Duration::from_micros(left)).await;
        (client, Instant::now(), before)
    };
    let rows = await_rows(&client, input).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = server.usage()?;
    let memory_bytes = server.peak_memory()?;
    let (view_rows, differences) = check(query, &client).await?;
    drop(server);
    Ok(Figures {
        rows,
        view_rows,
        seconds,
        cpu: after.cpu - before.cpu,
        cpu_readers: after.cpu_readers - before.cpu_readers,
        memory_bytes,
        fsyncs: after.fsyncs - before.fsyncs,
        ceiling: input.ceiling()?,
        paced: None,
        differences,
    })
}

async fn define(query: &Query, client: &Client, sources: Vec<String>) -> Result<()> {
    for source in sources {
        execute(client, &source).await?;
    }
    execute(
        client,
        &format!("CREATE MATERIALIZED VIEW answer AS {}", query.select),
    )
    .await
}

/// Waits until the server has taken all rows of all sources; returns how many those are.
async fn await_rows(client: &Client, input: &Input) -> Result<u64> {
    let wanted = input.rows();
    let total: u64 = wanted.iter().map(|(_, rows)| rows).sum();
    let begun = Instant::now();
    let sql = "SELECT name, sum(rows_in) FROM tidemill.sources GROUP BY name";
    loop {
        let found = query_rows(client, sql).await?;
        let has_all = wanted.iter().all(|(feed, rows)| {
            let is_its = |row: &&Vec<String>| row[0] == feed.name();
            found
                .iter()
                .find(is_its)
                .is_some_and(|row| row[1] == rows.to_string())
        });
        if has_all {
            return Ok(total);
        }
        if begun.elapsed() > Duration::from_secs(BENCH_RUN_SECONDS_MAX) {
            let message = format!("the server did not take {total} rows in time: {found:?}");
            return Err(Error::new(SqlState::QUERY_CANCELED, message));
        }
        sleep(BENCH_LOOK_PAUSE).await;
    }
}

/// The view's rows, and by how many it differs from its query run as a batch over the sources.
async fn check(query: &Query, client: &Client) -> Result<(u64, u64)> {
    let columns = client
        .prepare("SELECT * FROM answer")
        .await
        .map_err(|error| failed("describing the view", &error))?;
    let names: Vec<&str> = columns
        .columns()
        .iter()
        .map(|column| column.name())
        .collect();
    let names = names.join(", ");
    let sql = format!(
        "SELECT count(*) FROM (\
           SELECT sum(side) AS difference FROM (\
             SELECT {names}, 1 AS side FROM answer \
             UNION ALL SELECT {names}, -1 AS side FROM ({}) batch) both_sides \
           GROUP BY {names} HAVING sum(side) <> 0) differences",
        query.select
    );
    let differences = number(client, &sql).await?;
    let rows = number(client, "SELECT count(*) FROM answer").await?;
    Ok((rows, differences))
}

/// Rows as they happen, and a reader who asks for the newest one and for single keys.
async fn paced(query: &Query, input: &Input, options: &BenchOptions) -> Result<Latencies> {
    let clock = Clock::system();
    let server = Server::start(options.workers)?;
    let lead = i64::try_from(BENCH_LEAD.as_micros()).unwrap_or(i64::MAX);
    // Event times count in milliseconds.
    let from = (clock.now_micros() + lead) / 1_000 * 1_000;
    let pace = Pace::Paced {
        from,
        rate: options.rate,
    };
    let client = server.connect().await?;
    define(query, &client, input.statements(PACED, pace)).await?;
    let main = query.feeds[0].name();
    let newest = format!("CREATE MATERIALIZED VIEW newest AS SELECT max(ts) AS ts FROM {main}");
    execute(&client, &newest).await?;
    let (stop, stopped) = sync_channel::<()>(1);
    std::thread::scope(|scope| -> Result<Latencies> {
        let rate = options.rate;
        let producing = scope.spawn(move || input.produce(from, rate, &stopped));
        let measured = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(read_along(query, &client, from, options))
        });
        drop(stop);
        let produced = producing
            .join()
            .map_err(|_| Error::internal("the bench's producer panicked"))?;
        produced.and(measured)
    })
}

/// Reads until the time is over.
async fn read_along(
    query: &Query,
    client: &Client,
    from: i64,
    options: &BenchOptions,
) -> Result<Latencies> {
    let clock = Clock::system();
    let mut latencies = Latencies::default();
    let micros = i64::try_from(options.seconds).unwrap_or(i64::MAX / 2_000_000) * 1_000_000;
    let mut keys: Vec<String> = Vec::new();
    let newest = "SELECT (extract(epoch FROM ts) * 1000000)::BIGINT FROM newest";
    while clock.now_micros() < from + micros {
        let seen = query_rows(client, newest).await?;
        let now = clock.now_micros();
        let value = seen.first().and_then(|row| row[0].parse::<i64>().ok());
        // The first second is the start's.
        if let Some(ts) = value.filter(|_| now > from + 1_000_000) {
            latencies.freshness.push(millis(now - ts));
        }
        if keys.is_empty() && !query.key.is_empty() {
            keys = some_keys(query, client).await?;
        } else if !keys.is_empty() {
            let one = &keys[fastrand::usize(..keys.len())];
            let begun = Instant::now();
            query_rows(client, one).await?;
            latencies
                .lookup
                .push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        sleep(BENCH_READ_PAUSE).await;
    }
    latencies.freshness.sort_by(f64::total_cmp);
    latencies.lookup.sort_by(f64::total_cmp);
    Ok(latencies)
}

/// Statements that each read one row of the view by its key.
async fn some_keys(query: &Query, client: &Client) -> Result<Vec<String>> {
    let some = format!("SELECT {} FROM answer LIMIT 100", query.key.join(", "));
    let statement = |row: Vec<String>| {
        let both = query.key.iter().zip(row);
        let equal: Vec<String> = both
            .map(|(name, value)| format!("{name} = '{value}'"))
            .collect();
        format!("SELECT * FROM answer WHERE {}", equal.join(" AND "))
    };
    let rows = query_rows(client, &some).await?;
    Ok(rows.into_iter().map(statement).collect())
}

#[expect(clippy::cast_precision_loss, reason = "a latency has few digits")]
fn millis(micros: i64) -> f64 {
    micros as f64 / 1_000.0
}

async fn execute(client: &Client, sql: &str) -> Result<()> {
    let done = client.batch_execute(sql).await;
    done.map_err(|error| failed(sql, &error))
}

async fn number(client: &Client, sql: &str) -> Result<u64> {
    let rows = query_rows(client, sql).await?;
    rows.first()
        .and_then(|row| row[0].parse().ok())
        .ok_or_else(|| Error::internal(format!("no number came back from {sql}")))
}

/// The rows as texts, NULL as the empty one.
async fn query_rows(client: &Client, sql: &str) -> Result<Vec<Vec<String>>> {
    let messages = client
        .simple_query(sql)
        .await
        .map_err(|error| failed(sql, &error))?;
    let row = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let value = |column| row.get(column).unwrap_or_default().to_string();
            Some((0..row.len()).map(value).collect())
        }
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}
