//! How the server is configured: one typed struct from flags and environment.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Options of `tidemill serve`. Every flag can also be given as the environment variable it names.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeOptions {
    /// Where Postgres clients connect
    #[arg(long, env = "TIDEMILL_LISTEN", default_value = "127.0.0.1:7432")]
    pub listen: SocketAddr,

    /// Where health, metrics and the status page are served
    #[arg(long, env = "TIDEMILL_HTTP", default_value = "127.0.0.1:7433")]
    pub http: SocketAddr,

    /// Where everything durable is kept
    #[arg(long, env = "TIDEMILL_DATA_DIR", default_value = "./tidemill-data")]
    pub data_dir: PathBuf,

    /// Worker threads per dataflow; 0 = one per core
    #[arg(long, env = "TIDEMILL_WORKERS", default_value_t = 0)]
    pub workers: usize,

    /// Milliseconds between checkpoints
    #[arg(
        long,
        env = "TIDEMILL_CHECKPOINT_INTERVAL_MS",
        default_value_t = 10_000
    )]
    pub checkpoint_interval_ms: u64,
}

impl ServeOptions {
    /// The number of workers that 0 stands for.
    pub fn workers(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }
}
