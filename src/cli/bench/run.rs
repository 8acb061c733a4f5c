//! One measurement of one query, from the empty server to the checked answer.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::time::sleep;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::base::Clock;
use crate::base::limits::{
    BENCH_LEAD, BENCH_LOOK_PAUSE, BENCH_LOOKUP_PAUSE, BENCH_READ_PAUSE, BENCH_RUN_SECONDS_MAX,
};
use crate::cli::bench::BenchOptions;
use crate::cli::bench::child::{Server, Usage, failed};
use crate::cli::bench::input::{Ceiling, FLAT, Input, PACED, Pace};
use crate::cli::bench::queries::{Query, Shows};
use crate::error::{Error, Result, SqlState};

/// What a run measured.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub shows: Shows,
    pub rows: u64,
    /// Rows of the view at the end.
    pub view_rows: u64,
    /// Rows of change that the view has put out: insertions and removals.
    pub changes: u64,
    pub seconds: f64,
    /// CPU seconds of the server.
    pub cpu: f64,
    /// Of these, those of the threads that read and decode.
    pub cpu_readers: f64,
    pub memory_bytes: u64,
    /// Entries of the operators' state at the end (groups, sessions, rows), and their bytes.
    pub state_rows: u64,
    pub state_bytes: u64,
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
    /// Of a SELECT of one key, sent as text.
    pub lookup: Vec<f64>,
    /// Of a prepared SELECT of one key.
    pub prepared: Vec<f64>,
}

impl Figures {
    /// Whether the view was the batch answer, and not empty for no reason.
    pub fn is_right(&self) -> bool {
        let may_be_empty = self.shows == Shows::OnClose;
        self.differences == 0 && (self.view_rows > 0 || may_be_empty)
    }
}

/// What the view's last operator has put out.
const CHANGES: &str = "SELECT sum(rows_out)::BIGINT FROM tidemill.operators WHERE view = 'answer' \
    AND operator = (SELECT max(operator) FROM tidemill.operators WHERE view = 'answer')";

/// What the view's operators hold.
fn state(column: &str) -> String {
    format!(
        "SELECT coalesce(sum({column}), 0)::BIGINT FROM tidemill.operators WHERE view = 'answer'"
    )
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
    let changes = number(&client, CHANGES).await?;
    let state_rows = number(&client, &state("state_rows")).await?;
    let state_bytes = number(&client, &state("state_bytes")).await?;
    drop(server);
    Ok(Figures {
        shows: query.shows,
        rows,
        view_rows,
        changes,
        seconds,
        cpu: after.cpu - before.cpu,
        cpu_readers: after.cpu_readers - before.cpu_readers,
        memory_bytes,
        state_rows,
        state_bytes,
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
        &format!(
            "CREATE MATERIALIZED VIEW answer AS {}{}",
            query.select,
            query.emit()
        ),
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

/// The view's rows, and by how many it differs from its query run as a batch over the sources, less
/// the windows that have not closed where it shows those only.
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
        query.batch()
    );
    let differences = number(client, &sql).await?;
    let rows = number(client, "SELECT count(*) FROM answer").await?;
    Ok((rows, differences))
}

/// Rows as they happen, and readers who ask for the newest one and for single keys.
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
            tokio::runtime::Handle::current().block_on(async {
                let reader = server.connect().await?;
                let fresh = read_newest(&client, from, options);
                let (freshness, found) =
                    futures::future::try_join(fresh, look_up(query, &reader, from, options))
                        .await?;
                Ok(Latencies { freshness, ..found })
            })
        });
        drop(stop);
        let produced = producing
            .join()
            .map_err(|_| Error::internal("the bench's producer panicked"))?;
        produced.and(measured)
    })
}

/// Microseconds since 1970 at which a paced run is over.
fn end_of(from: i64, options: &BenchOptions) -> i64 {
    from + i64::try_from(options.seconds).unwrap_or(i64::MAX / 2_000_000) * 1_000_000
}

/// Asks for the newest row until the time is over.
async fn read_newest(client: &Client, from: i64, options: &BenchOptions) -> Result<Vec<f64>> {
    let clock = Clock::system();
    let mut freshness = Vec::new();
    let newest = "SELECT (extract(epoch FROM ts) * 1000000)::BIGINT FROM newest";
    while clock.now_micros() < end_of(from, options) {
        let seen = query_rows(client, newest).await?;
        let now = clock.now_micros();
        let value = seen.first().and_then(|row| row[0].parse::<i64>().ok());
        // The first second is the start's.
        if let Some(ts) = value.filter(|_| now > from + 1_000_000) {
            freshness.push(millis(now - ts));
        }
        sleep(BENCH_READ_PAUSE).await;
    }
    freshness.sort_by(f64::total_cmp);
    Ok(freshness)
}

/// Asks for single keys until the time is over, by text and prepared in turn.
async fn look_up(
    query: &Query,
    client: &Client,
    from: i64,
    options: &BenchOptions,
) -> Result<Latencies> {
    let clock = Clock::system();
    let mut latencies = Latencies::default();
    if query.key.is_empty() {
        return Ok(latencies);
    }
    let equal = |value: &dyn Fn(usize) -> String| {
        let names = query.key.iter().enumerate();
        let equal = names.map(|(at, name)| format!("{name} = {}", value(at)));
        let equal: Vec<String> = equal.collect();
        format!("SELECT * FROM answer WHERE {}", equal.join(" AND "))
    };
    let by_parameters = equal(&|at| format!("${}", at + 1));
    let prepared = client.prepare(&by_parameters).await;
    let prepared = prepared.map_err(|error| failed(&by_parameters, &error))?;
    let some = format!("SELECT {} FROM answer LIMIT 100", query.key.join(", "));
    let mut keys: Vec<Vec<String>> = Vec::new();
    while clock.now_micros() < end_of(from, options) {
        sleep(BENCH_LOOKUP_PAUSE).await;
        if keys.is_empty() {
            keys = query_rows(client, &some).await?;
            continue;
        }
        let key = &keys[fastrand::usize(..keys.len())];
        let text = equal(&|at| format!("'{}'", key[at]));
        let begun = Instant::now();
        query_rows(client, &text).await?;
        latencies.lookup.push(elapsed(begun));
        sleep(BENCH_LOOKUP_PAUSE).await;
        let values: Vec<AsText<'_>> = key.iter().map(|value| AsText(value)).collect();
        let values = values.iter().map(|value| value as &(dyn ToSql + Sync));
        let values: Vec<_> = values.collect();
        let begun = Instant::now();
        let rows = client.query(&prepared, &values).await;
        rows.map_err(|error| failed(&by_parameters, &error))?;
        latencies.prepared.push(elapsed(begun));
    }
    latencies.lookup.sort_by(f64::total_cmp);
    latencies.prepared.sort_by(f64::total_cmp);
    Ok(latencies)
}

/// A parameter of whatever type, sent as text.
#[derive(Debug)]
struct AsText<'a>(&'a str);

impl ToSql for AsText<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

fn elapsed(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "a latency has few digits")]
fn millis(micros: i64) -> f64 {
    micros as f64 / 1_000.0
}

pub(super) async fn execute(client: &Client, sql: &str) -> Result<()> {
    let done = client.batch_execute(sql).await;
    done.map_err(|error| failed(sql, &error))
}

pub(super) async fn number(client: &Client, sql: &str) -> Result<u64> {
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
