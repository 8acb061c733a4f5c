//! The server that is measured: this program once more, in a directory and a process of its own.
//!
//! What it costs is read from outside: CPU and memory from /proc, fsyncs from its metrics.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use crate::base::limits::BENCH_START_SECONDS_MAX;
use crate::base::task;
use crate::error::{Error, Result};

/// Clock ticks of /proc in a second: Linux has reported in hundredths on every platform for
/// decades, whatever its kernel counts in.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running server, which ends with this value.
pub(super) struct Server {
    child: Child,
    directory: PathBuf,
    workers: usize,
    listen: SocketAddr,
    http: SocketAddr,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// CPU seconds of all threads.
    pub cpu: f64,
    /// CPU seconds of the threads that read and decode sources.
    pub cpu_readers: f64,
    pub fsyncs: f64,
}

impl Server {
    /// Starts on a new directory below the system's one for temporary files.
    ///
    /// # Errors
    /// When it does not come up; its last words are on standard error.
    pub fn start(workers: usize) -> Result<Server> {
        let directory = std::env::temp_dir().join(format!(
            "tidemill-bench-{}-{:016x}",
            std::process::id(),
            fastrand::u64(..)
        ));
        let (child, listen, http) = launch(&directory, workers)?;
        Ok(Server {
            child,
            directory,
            workers,
            listen,
            http,
        })
    }

    /// Ends the process; what it knows stays in its directory.
    pub fn stop(&mut self) -> Result<()> {
        let stopped = self.child.kill().and_then(|()| self.child.wait());
        stopped
            .map(drop)
            .map_err(|error| Error::io("stopping the server measured", &error))
    }

    /// Starts again on what is in the directory; it was stopped before.
    pub fn start_again(&mut self) -> Result<()> {
        (self.child, self.listen, self.http) = launch(&self.directory, self.workers)?;
        Ok(())
    }

    /// A connection whose task ends with it.
    pub async fn connect(&self) -> Result<Client> {
        let settings = format!(
            "host={} port={} user=bench dbname=tidemill",
            self.listen.ip(),
            self.listen.port()
        );
        let (client, connection) = tokio_postgres::connect(&settings, NoTls)
            .await
            .map_err(|error| failed("connecting to the server measured", &error))?;
        // A broken connection shows itself in the statement that runs on it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// What it has used since it was started.
    pub fn usage(&self) -> Result<Usage> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let mut usage = Usage {
            cpu: cpu_seconds(&process)?,
            fsyncs: self.metric("tidemill_fsyncs_total")?,
            ..Usage::default()
        };
        for thread in fs::read_dir(process.join("task")).map_err(|error| read("/proc", &error))? {
            let path = thread.map_err(|error| read("/proc", &error))?.path();
            // A thread may end while it is looked at.
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            if name.trim() == "reader" {
                usage.cpu_readers += cpu_seconds(&path).unwrap_or_default();
            }
        }
        Ok(usage)
    }

    /// The most memory it has had so far, bytes.
    pub fn peak_memory(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// The memory it has now, bytes.
    pub fn memory(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// A size that the system knows of the process.
    fn status(&self, name: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).map_err(|error| read(&path, &error))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
        kilobytes
            .map(|kilobytes| kilobytes * 1024)
            .ok_or_else(|| Error::internal(format!("{path} has no {name}")))
    }

    /// The sum of a metric's samples; 0 where it has none.
    fn metric(&self, name: &str) -> Result<f64> {
        let io = |error: std::io::Error| read("the server's metrics", &error);
        let mut stream = TcpStream::connect(self.http).map_err(io)?;
        stream
            .set_read_timeout(Some(Duration::from_secs(BENCH_START_SECONDS_MAX)))
            .map_err(io)?;
        let request = "GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).map_err(io)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(io)?;
        let value = |line: &str| -> Option<f64> {
            let rest = line.strip_prefix(name)?;
            let ends_there = rest.starts_with(' ') || rest.starts_with('{');
            ends_there.then(|| rest.rsplit(' ').next()?.trim().parse().ok())?
        };
        Ok(answer.lines().filter_map(value).sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of it is needed any more: it may end as it likes.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn launch(directory: &Path, workers: usize) -> Result<(Child, SocketAddr, SocketAddr)> {
    let program = std::env::current_exe().map_err(|error| read("this program", &error))?;
    let mut child = Command::new(program)
        .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .args(["--workers", &workers.to_string(), "--data-dir"])
        .arg(directory)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Error::io("starting the server measured", &error))?;
    let stdout = child.stdout.take().expect("the output is piped");
    let (send, lines) = mpsc::channel();
    // Ends with the server, whose output it reads to the end: a full pipe would block it.
    task::spawn("server-output", move || {
        for line in BufReader::new(stdout).lines().map_while(|line| line.ok()) {
            // The receiver is gone once the addresses are known.
            let _ = send.send(line);
        }
    });
    let (mut listen, mut http) = (None, None);
    let patience = Duration::from_secs(BENCH_START_SECONDS_MAX);
    while let Ok(line) = lines.recv_timeout(patience) {
        if let Some((_, rest)) = line.split_once("psql -h ") {
            listen = rest.replacen(" -p ", ":", 1).trim().parse().ok();
        }
        if let Some((_, rest)) = line.split_once("Status: http://") {
            http = rest.trim().trim_end_matches('/').parse().ok();
        }
        if let (Some(listen), Some(http)) = (listen, http) {
            return Ok((child, listen, http));
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(Error::internal("the server to be measured did not start"))
}

/// User and system time of a process or thread.
fn cpu_seconds(path: &Path) -> Result<f64> {
    let path = path.join("stat");
    let stat = fs::read_to_string(&path).map_err(|error| read("/proc", &error))?;
    // The name in parentheses may contain anything; the numbers begin behind it, and the times are
    // the 12th and 13th of them.
    let numbers = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |place: usize| numbers.split_whitespace().nth(place)?.parse::<f64>().ok();
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) / TICKS_PER_SECOND),
        _ => Err(Error::internal(format!("{} has no times", path.display()))),
    }
}

/// CPU seconds that the calling thread has used.
pub(super) fn thread_cpu_seconds() -> Result<f64> {
    cpu_seconds(Path::new("/proc/thread-self"))
}

fn read(what: &str, error: &std::io::Error) -> Error {
    Error::io(format!("reading {what}"), error)
}

/// A statement or connection of the bench that failed, with all that the server said.
pub(super) fn failed(what: &str, error: &tokio_postgres::Error) -> Error {
    let text = match error.as_db_error() {
        Some(said) => format!("{}: {}", said.code().code(), said.message()),
        None => error.to_string(),
    };
    Error::internal(format!("{what}: {text}"))
}
