//! How the server is configured: one typed struct from flags and environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::base::limits::{MEMORY_LIMIT_MIN, MEMORY_LIMIT_PERCENT, SNAPSHOT_AGE_SECONDS};
use crate::base::memory::machine_bytes;

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

    /// Memory that the server may use: bytes, 512MB, 2GB, or a part of the machine's, 50%
    #[arg(long, env = "TIDEMILL_MEMORY_LIMIT", default_value_t = MemoryLimit::default())]
    pub memory_limit: MemoryLimit,

    /// Seconds for which a transaction or cursor keeps rows that have changed since
    #[arg(
        long,
        env = "TIDEMILL_SNAPSHOT_AGE_LIMIT_S",
        default_value_t = SNAPSHOT_AGE_SECONDS
    )]
    pub snapshot_age_limit_s: u64,
}

/// How much memory a server may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    Bytes(usize),
    /// Of the machine's memory, or of what the control group leaves.
    Percent(usize),
}

impl MemoryLimit {
    /// The bytes. A system that does not say how much it has sets no limit by a share of it.
    pub fn bytes(self) -> usize {
        match self {
            MemoryLimit::Bytes(bytes) => bytes,
            MemoryLimit::Percent(percent) => {
                machine_bytes().map_or(usize::MAX, |machine| machine / 100 * percent)
            }
        }
    }
}

impl Default for MemoryLimit {
    fn default() -> MemoryLimit {
        MemoryLimit::Percent(MEMORY_LIMIT_PERCENT)
    }
}

impl std::fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MemoryLimit::Bytes(bytes) => write!(f, "{bytes}"),
            MemoryLimit::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for MemoryLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<MemoryLimit, String> {
        let text = text.trim();
        let unit_at = text
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let help = "write bytes, 512MB, 2GB or 50%";
        let number: usize = number.parse().map_err(|_| help.to_string())?;
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "%" if (1..=100).contains(&number) => return Ok(MemoryLimit::Percent(number)),
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(help.to_string()),
        };
        match number.checked_mul(1 << shift) {
            Some(bytes) if bytes >= MEMORY_LIMIT_MIN => Ok(MemoryLimit::Bytes(bytes)),
            Some(_) => Err(format!("it is at least {} MB", MEMORY_LIMIT_MIN >> 20)),
            None => Err(help.to_string()),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_limits_are_bytes_units_or_a_share() {
        let parsed = |text: &str| text.parse::<MemoryLimit>();
        assert_eq!(parsed("2GB"), Ok(MemoryLimit::Bytes(2 << 30)));
        assert_eq!(parsed("512 mb"), Ok(MemoryLimit::Bytes(512 << 20)));
        assert_eq!(parsed("100000000"), Ok(MemoryLimit::Bytes(100_000_000)));
        assert_eq!(parsed("50%"), Ok(MemoryLimit::Percent(50)));
        for bad in [
            "",
            "much",
            "1",
            "63MB",
            "0%",
            "101%",
            "2 gulps",
            "-1",
            "99999999999TB",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
        assert_eq!(
            parsed(&MemoryLimit::default().to_string()),
            Ok(MemoryLimit::default())
        );
    }
}
