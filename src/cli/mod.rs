//! The command line: `tidemill serve` and its relatives.
//!
//! | command | |
//! | --- | --- |
//! | `serve` | a server over a data directory; what plain `tidemill` does |
//! | `demo` | a server with something to look at: see [`demo`] |
//! | `bench` | measures: see [`bench`] |

mod bench;
mod demo;

use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::base::limits::{CONNECTION_THREADS_PER_CORE, THREAD_STACK_BYTES};
use crate::config::ServeOptions;
use crate::error::{Error, Result};
use crate::server;

/// Live SQL views over topics.
#[derive(Parser)]
#[command(
    name = "tidemill",
    version,
    about,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    serve: ServeOptions,
}

#[derive(Subcommand)]
enum Command {
    /// Serve Postgres clients (what plain `tidemill` does)
    Serve(ServeOptions),
    /// Measure a server of its own, with its answers checked
    Bench(bench::BenchOptions),
    /// Serve a made-up auction site with a few live views, and say what to type
    Demo(ServeOptions),
}

/// Reads the command line; ends the program with what is wrong with it.
fn arguments() -> (Arguments, ArgMatches) {
    let command = Arguments::command().mut_subcommand("demo", |demo| {
        demo.mut_arg("data_dir", |data_dir| {
            data_dir
                .hide_default_value(true)
                .help("Where everything durable is kept; without it, nowhere after the exit")
        })
    });
    let matches = command.get_matches();
    match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => (arguments, matches),
        Err(error) => error.exit(),
    }
}

/// Whether the user of `demo` named a directory.
fn names_directory(matches: &ArgMatches) -> bool {
    let source = matches
        .subcommand_matches("demo")
        .and_then(|demo| demo.value_source("data_dir"));
    source.is_some_and(|source| source != ValueSource::DefaultValue)
}

/// Runs the program.
pub fn main() -> ExitCode {
    let (arguments, matches) = arguments();
    log();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores * CONNECTION_THREADS_PER_CORE)
        .enable_all()
        .thread_stack_size(THREAD_STACK_BYTES)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tidemill: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = match arguments.command {
        None => runtime.block_on(serve(&arguments.serve)),
        Some(Command::Serve(options)) => runtime.block_on(serve(&options)),
        Some(Command::Bench(options)) => runtime.block_on(bench::bench(&options)),
        Some(Command::Demo(options)) => {
            runtime.block_on(demo::run(options, names_directory(&matches)))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidemill: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to standard error; `RUST_LOG` says how much.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,datafusion=warn,sled=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

async fn serve(options: &ServeOptions) -> Result<()> {
    let mut stop = StopSignals::listen()?;
    let mut server = server::start(options).await?;
    let version = env!("CARGO_PKG_VERSION");
    print_start(&server);
    if !is_ready(&mut server, &mut stop).await? {
        return server.stop().await;
    }
    println!("Tidemill {version} is ready.");
    print_addresses(&server);
    println!("  Data:   {}", options.data_dir.display());
    println!();
    match server.engine()?.catalog().objects().next() {
        None => print!("{FIRST_VIEW}"),
        Some(_) => print!("{WHAT_IS_THERE}"),
    }
    stop.wait().await;
    tracing::info!("stopping");
    server.stop().await
}

/// Said at once: recovery may have to wait for a broker.
fn print_start(server: &server::Server) {
    let version = env!("CARGO_PKG_VERSION");
    let (listen, http) = (server.listen_address(), server.http_address());
    println!("Tidemill {version} starts: SQL at {listen}, status at http://{http}/");
}

/// Waits until clients are served; false when a signal was first.
async fn is_ready(server: &mut server::Server, stop: &mut StopSignals) -> Result<bool> {
    tokio::select! {
        ready = server.ready() => ready.map(|()| true),
        () = stop.wait() => {
            tracing::info!("stopping");
            Ok(false)
        }
    }
}

fn print_addresses(server: &server::Server) {
    let (listen, http) = (server.listen_address(), server.http_address());
    println!("  SQL:    psql -h {} -p {}", listen.ip(), listen.port());
    println!("  Status: http://{http}/");
}

/// What an empty server is told first.
const FIRST_VIEW: &str = "\
Type this into psql for a first live view:

  CREATE SOURCE clicks (page TEXT, ts TIMESTAMPTZ) WITH (connector = 'topic');
  CREATE MATERIALIZED VIEW per_page AS
    SELECT page, count(*) AS clicks FROM clicks GROUP BY page;
  INSERT INTO clicks VALUES ('/home', now()), ('/docs', now()), ('/home', now());
  SELECT * FROM per_page ORDER BY clicks DESC;

Then watch it, and type more INSERTs into a second psql:

  COPY (SUBSCRIBE TO per_page) TO STDOUT;

Ctrl-C ends the server. Its data stays; so do the views. tidemill demo has more to look at.
";

/// What is said of a server that has objects already.
const WHAT_IS_THERE: &str = "\
What there is and how it is doing, in psql:

  SHOW SOURCES;
  SHOW MATERIALIZED VIEWS;
  SELECT name, state, rows, freshness_ms FROM tidemill.views;

Ctrl-C ends the server. Its data stays; so do the views.
";

/// The signals that end a server.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// From here on SIGINT and SIGTERM do not end the process by themselves.
    fn listen() -> Result<StopSignals> {
        let listen =
            |kind| signal(kind).map_err(|error| Error::io("listening for signals", &error));
        Ok(StopSignals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Returns on SIGINT or SIGTERM.
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_demo_keeps_only_what_it_is_told_to_keep() {
        let of = |arguments: &[&str]| {
            let matches = Arguments::command()
                .try_get_matches_from(arguments)
                .unwrap();
            names_directory(&matches)
        };
        assert!(!of(&["tidemill", "demo"]));
        assert!(of(&["tidemill", "demo", "--data-dir", "here"]));
    }
}
