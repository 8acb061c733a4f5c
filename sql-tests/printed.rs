//! What the program prints at its start, typed into psql word for word.
//!
//! Indented lines behind the empty line are what a user is to type; the text ends with the line
//! that says what Ctrl-C does.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use tempfile::TempDir;

use crate::program::psql_at;
use crate::server::{START_TIMEOUT, block_on, connect};

/// A program that has printed what it has to say.
struct Printed {
    child: Child,
    /// Where its standard error is.
    log: TempDir,
    text: String,
}

impl Printed {
    fn start(arguments: &[&OsStr]) -> Printed {
        let log = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(log.path().join("stderr")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .args(arguments)
            .args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .env_remove("TIDEMILL_DATA_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        let read = move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The receiver is gone once the text is complete.
                let _ = send.send(line);
            }
        };
        let reader = thread::Builder::new().name("printed".to_string());
        reader.spawn(read).unwrap();
        let mut printed = Printed {
            child,
            log,
            text: String::new(),
        };
        while !printed.text.contains("\nCtrl-C ends the server.") {
            let line = lines.recv_timeout(START_TIMEOUT);
            printed.text.push_str(&line.expect("the text has an end"));
            printed.text.push('\n');
        }
        printed
    }

    fn address(&self) -> SocketAddr {
        let (_, rest) = self.text.split_once("psql -h ").unwrap();
        let (host, rest) = rest.split_once(" -p ").unwrap();
        let (port, _) = rest.split_once('\n').unwrap();
        format!("{host}:{port}").parse().unwrap()
    }

    /// What is to be typed, without the endless part: what Ctrl-C would end.
    fn script(&self) -> String {
        let (_, typed) = self.text.split_once("\n\n").unwrap();
        let lines = typed.lines().filter_map(|line| line.strip_prefix("  "));
        let ends = |line: &&str| !line.contains("SUBSCRIBE") && !line.starts_with("\\watch");
        lines
            .filter(ends)
            .fold(String::new(), |script, line| script + line + "\n")
    }

    /// What psql answers to the script; None where it is not installed.
    fn typed(&self) -> Option<String> {
        let mut child = psql_at(self.address(), &["-qAt"])?.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(self.script().as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        Some(String::from_utf8(output.stdout).unwrap())
    }

    /// SIGTERM, and the end of the process.
    fn terminate(mut self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(sent.success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = std::fs::read_to_string(self.log.path().join("stderr"));
            eprintln!("{}the log:\n{}", self.text, log.unwrap_or_default());
        }
    }
}

/// The first row of a query, asked until it has one that is not empty.
fn until_there(address: SocketAddr, query: &str) -> String {
    block_on(async {
        let client = connect(address).await.unwrap();
        loop {
            let rows = client.query(query, &[]).await.unwrap();
            if let Some(row) = rows.first() {
                return row.get::<_, String>(0);
            }
            tokio::task::yield_now().await;
        }
    })
}

#[test]
fn the_first_command_leads_to_a_live_view() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let arguments = [OsStr::new("--data-dir"), data.as_os_str()];
    let printed = Printed::start(&arguments);
    if let Some(answer) = printed.typed() {
        assert_eq!(answer, "/home|2\n/docs|1\n");
    }
    printed.terminate();
    // The second start knows that there is something already.
    let printed = Printed::start(&arguments);
    if let Some(answer) = printed.typed() {
        assert!(
            answer.starts_with("clicks\nper_page\nper_page|running|2|"),
            "{answer}"
        );
    }
    printed.terminate();
}

#[test]
fn a_demo_has_live_views_and_leaves_nothing_behind() {
    let printed = Printed::start(&[OsStr::new("demo")]);
    let (_, rest) = printed.text.split_once("  Data:   ").unwrap();
    let directory = PathBuf::from(rest.split_once(" (removed").unwrap().0);
    assert!(directory.is_dir());
    let address = printed.address();
    for view in ["bids_per_auction", "hot_items", "new_sellers"] {
        until_there(address, &format!("SELECT '{view}' FROM {view} LIMIT 1"));
    }
    if let Some(answer) = printed.typed() {
        assert!(answer.contains("new_sellers|running|"), "{answer}");
    }
    printed.terminate();
    assert!(!directory.exists());
}

#[test]
fn a_demo_over_a_kept_directory_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let arguments = [
        OsStr::new("demo"),
        OsStr::new("--data-dir"),
        data.as_os_str(),
    ];
    let query = "SELECT min(window_start)::text FROM bids_per_auction HAVING count(*) > 0";
    let printed = Printed::start(&arguments);
    let first = until_there(printed.address(), query);
    printed.terminate();
    assert!(data.is_dir());
    let printed = Printed::start(&arguments);
    assert_eq!(until_there(printed.address(), query), first);
    printed.terminate();
}
