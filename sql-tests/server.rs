//! The real program as a child process: started on free ports, killed, and started again on the
//! same directory.
//!
//! ```text
//! Server::start ──► child ── stdout: "starts: SQL at ADDRESS", "is ready."   (a channel)
//!      kill / terminate ──► wait ──► start_again: same directory, new ports
//! ```
//!
//! A child never outlives its `Server`. What it wrote to standard error is printed when the test
//! fails.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::{Client, Error, NoTls};

/// How long a server may take to recover and listen: far more than it needs on a busy machine.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A server of this test alone.
pub struct Server {
    arguments: Vec<String>,
    directory: TempDir,
    /// None between a kill and the next start.
    running: Option<Running>,
    starts: u64,
}

struct Running {
    child: Child,
    listen: SocketAddr,
    http: SocketAddr,
    /// What it prints, from when it listens on.
    lines: mpsc::Receiver<String>,
}

impl Server {
    /// A server with an empty directory.
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    /// A server with further command line arguments.
    pub fn start_with(arguments: &[&str]) -> Server {
        let mut server = Server {
            arguments: arguments.iter().map(ToString::to_string).collect(),
            directory: tempfile::tempdir().unwrap(),
            running: None,
            starts: 0,
        };
        server.start_again();
        server
    }

    /// Starts on the directory of the killed server.
    pub fn start_again(&mut self) {
        self.start_early();
        self.wait_until_ready();
    }

    /// Starts on the directory of the killed server and waits only until it listens.
    pub fn start_early(&mut self) {
        assert!(self.running.is_none(), "the server is running");
        self.starts += 1;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--data-dir",
            ])
            .arg(self.directory.path().join("data"))
            .args(&self.arguments)
            .env("RUST_LOG", "info,datafusion=warn,sled=warn")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let (send, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // The thread ends with the child, whose output it reads to the end: a full pipe would
        // block the server.
        thread::Builder::new()
            .name("server-output".to_string())
            .spawn(move || {
                for line in stdout.lines().map_while(Result::ok) {
                    // The receiver is gone when the test is over.
                    let _ = send.send(line);
                }
            })
            .unwrap();
        let Some((listen, http)) = ports(&lines) else {
            // It may have ended by itself; either way nothing is left of it.
            let _ = child.kill();
            let status = child.wait().unwrap();
            panic!("the server did not start ({status})\n{}", self.log());
        };
        self.running = Some(Running {
            child,
            listen,
            http,
            lines,
        });
    }

    /// Waits until the server serves clients.
    pub fn wait_until_ready(&mut self) {
        let running = self.running.as_ref().expect("the server runs");
        while let Ok(line) = running.lines.recv_timeout(START_TIMEOUT) {
            if line.ends_with("is ready.") {
                return;
            }
        }
        panic!("the server did not become ready\n{}", self.log());
    }

    pub fn address(&self) -> SocketAddr {
        self.running.as_ref().expect("the server runs").listen
    }

    pub fn http_address(&self) -> SocketAddr {
        self.running.as_ref().expect("the server runs").http
    }

    /// Changes with every start: connections made before it are dead.
    pub fn starts(&self) -> u64 {
        self.starts
    }

    /// Ends the process as a power cut would: SIGKILL.
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("the server runs");
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// Asks the process to end (SIGTERM) and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut running = self.running.take().expect("the server runs");
        let id = running.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        running.child.wait().unwrap()
    }

    /// SIGKILL, and a new process on the same directory.
    pub fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// What another process says that is started on the directory of this one.
    pub fn second_process(&self) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
                "--data-dir",
            ])
            .arg(self.directory.path().join("data"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    pub async fn connect(&self) -> Client {
        connect(self.address()).await.unwrap()
    }

    /// What the server has written to standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> std::path::PathBuf {
        self.directory.path().join("stderr")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // Already gone is as good as killed.
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        if thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

/// A connection as drivers make it; its task ends with the connection.
pub async fn connect(address: SocketAddr) -> Result<Client, tokio_postgres::Error> {
    let settings = format!(
        "host={} port={} user=test dbname=tidemill",
        address.ip(),
        address.port()
    );
    let (client, connection) = tokio_postgres::connect(&settings, NoTls).await?;
    // A connection that breaks shows itself in the statement that is running on it.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// The two addresses from what the server prints; None when it ends before it has said them.
fn ports(lines: &mpsc::Receiver<String>) -> Option<(SocketAddr, SocketAddr)> {
    let line = lines.recv_timeout(START_TIMEOUT).ok()?;
    let (_, rest) = line.split_once("starts: SQL at ")?;
    let (listen, http) = rest.split_once(", status at http://")?;
    let http = http.trim_end_matches('/');
    Some((listen.parse().ok()?, http.parse().ok()?))
}

/// The SQLSTATE of an error that the server has sent.
pub fn code(error: &Error) -> &str {
    error
        .as_db_error()
        .unwrap_or_else(|| panic!("not from the server: {error:?}"))
        .code()
        .code()
}

/// Runs one test's future to its end.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
