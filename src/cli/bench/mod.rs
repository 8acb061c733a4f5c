//! `tidemill bench`: how fast this server is, measured from outside and with the answer checked.
//!
//! ```text
//!   this process                                   a server of its own, as a child
//!   ceiling    read the input, decode, drop
//!   set up     CREATE SOURCE, view over it  ─────► running, nothing to read yet
//!   flat out   the whole input at once      ─────► steps, journal, checkpoints: all as by default
//!              CPU, memory, fsyncs  ◄──────────── /proc, /metrics
//!   check      the view against its query as a batch over the same input
//!   paced      rows as they happen          ─────► a reader SELECTs every 100 ms
//! ```
//!
//! Rules: the server is a process of its own with its default settings, so that what the bench does
//! itself is in no figure. The view exists before the first row, so that every row goes through
//! the steps of the running system; what is measured is not the faster catch-up of a new view. A
//! run whose answer is not the batch answer has no figures.
//!
//! `soak` measures something else: see [`soak`].
//!
//! Reading order: [`queries`] (what is run), [`input`] (what it reads), [`child`] (the server
//! measured), [`run`] (one measurement), [`report`], [`soak`].

mod child;
mod input;
mod queries;
mod report;
mod run;
mod soak;

use crate::cli::bench::input::Input;
use crate::cli::bench::queries::{QUERIES, Query};
use crate::error::{Error, Result, SqlState};

/// Options of `tidemill bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchOptions {
    /// What to run; all of them where none is named
    #[arg(value_name = "QUERY", help = names())]
    pub queries: Vec<String>,

    /// A Kafka broker, host:port: rows are JSON records of topics that the bench makes and deletes
    #[arg(long, value_name = "ADDRESS")]
    pub kafka: Option<String>,

    /// Rows of the query's main source
    #[arg(long, default_value_t = 10_000_000)]
    pub rows: u64,

    /// Rows a second of the paced part, which measures freshness
    #[arg(long, default_value_t = 50_000)]
    pub rate: u64,

    /// Seconds of the paced part; 0 leaves it out
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,

    /// Partitions of each source
    #[arg(long, default_value_t = 1)]
    pub partitions: u32,

    /// Times that each query is run; the median counts
    #[arg(long, default_value_t = 1)]
    pub runs: usize,

    /// Worker threads of the server; 0 = one per core
    #[arg(long, default_value_t = 0)]
    pub workers: usize,

    /// Times that memory may have grown after the first tenth of `soak`
    #[arg(long, default_value_t = 1.3)]
    pub growth_max: f64,

    /// Print one JSON object per run instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Runs the benchmarks one after the other and prints what they measured.
///
/// # Errors
/// 22023 for a query that does not exist; whatever kept a run from its end; and after the last run
/// an error when one of them had a wrong answer.
pub async fn bench(options: &BenchOptions) -> Result<()> {
    let is_soak = |name: &String| name == soak::NAME;
    let (soaks, queries): (Vec<String>, _) = options.queries.iter().cloned().partition(is_soak);
    let queries = match queries.is_empty() && !soaks.is_empty() {
        true => Vec::new(),
        false => chosen(&queries)?,
    };
    if options.rows == 0 || options.rate == 0 || options.partitions == 0 || options.runs == 0 {
        let message = "rows, rate, partitions and runs are at least 1";
        return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    if !options.json {
        report::print_heading(options);
    }
    if !soaks.is_empty() {
        soak::soak(options).await?;
    }
    let mut wrong = Vec::new();
    for query in queries {
        let mut figures = Vec::new();
        for _ in 0..options.runs {
            let input = Input::new(query, options)?;
            let measured = run::run(query, &input, options).await;
            // What was made on the broker goes, whatever became of the run.
            let cleared = input.clear();
            let measured = measured?;
            cleared?;
            report::print(query, &measured, options);
            figures.push(measured);
        }
        if figures.iter().any(|figures| !figures.is_right()) {
            wrong.push(query.name);
        } else if options.runs > 1 {
            report::print_median(query, &figures, options);
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Error::new(
            SqlState::DATA_CORRUPTED,
            format!("not the batch answer: {}", wrong.join(", ")),
        )),
    }
}

fn chosen(names: &[String]) -> Result<Vec<&'static Query>> {
    if names.is_empty() {
        return Ok(QUERIES.iter().collect());
    }
    let find = |name: &String| {
        let found = QUERIES.iter().find(|query| query.name == name);
        found.ok_or_else(|| {
            let known: Vec<_> = QUERIES.iter().map(|query| query.name).collect();
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("there is no benchmark \"{name}\""),
            )
            .hint(format!("the benchmarks are: {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

fn names() -> String {
    let line = |query: &Query| format!("{}: {}", query.name, query.about);
    let lines: Vec<String> = QUERIES.iter().map(line).collect();
    format!(
        "What to run; all of them, without soak, where none is named:\n{}\n\
         soak: whether memory stays what it is while --rows go on for long",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_benchmark_that_does_not_exist_is_refused_with_the_names() {
        assert_eq!(chosen(&[]).unwrap().len(), QUERIES.len());
        let error = chosen(&["q99".to_string()]).unwrap_err();
        assert!(error.to_string().contains("q99"));
        assert!(error.get_hint().is_some_and(|hint| hint.contains("q7")));
    }
}
