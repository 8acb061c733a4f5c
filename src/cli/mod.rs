//! The command line: `tidemill serve` and its relatives.

mod bench;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::base::limits::THREAD_STACK_BYTES;
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
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
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
    let done = match arguments.command {
        Some(Command::Serve(options)) => runtime.block_on(serve(&options)),
        Some(Command::Bench(options)) => runtime.block_on(bench::bench(&options)),
        None => runtime.block_on(serve(&arguments.serve)),
    };
    match done {
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
    let mut server = server::start(options).await?;
    let (listen, http) = (server.listen_address(), server.http_address());
    let version = env!("CARGO_PKG_VERSION");
    println!("Tidemill {version} starts: SQL at {listen}, status at http://{http}/");
    tokio::select! {
        ready = server.ready() => ready?,
        signal = wait_for_signal() => {
            signal?;
            tracing::info!("stopping");
            return server.stop().await;
        }
    }
    println!("Tidemill {version} is ready.");
    println!("  SQL:    psql -h {} -p {}", listen.ip(), listen.port());
    println!("  Status: http://{http}/");
    println!("  Data:   {}", options.data_dir.display());
    println!();
    println!("Type this into psql for a first live view:");
    println!();
    println!("  CREATE SOURCE clicks (page TEXT, ts TIMESTAMPTZ) WITH (connector = 'topic');");
    println!("  CREATE MATERIALIZED VIEW per_page AS");
    println!("    SELECT page, count(*) AS clicks FROM clicks GROUP BY page;");
    println!("  INSERT INTO clicks VALUES ('/home', now()), ('/docs', now()), ('/home', now());");
    println!("  SELECT * FROM per_page;");
    wait_for_signal().await?;
    tracing::info!("stopping");
    server.stop().await
}

/// Returns on SIGINT or SIGTERM.
async fn wait_for_signal() -> Result<()> {
    let listen = |kind| signal(kind).map_err(|error| Error::io("listening for signals", &error));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
