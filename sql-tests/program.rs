//! Programs that users have: psql and psycopg.
//!
//! psql is skipped, with a line that says so, where it is not installed, and psycopg where
//! `TIDEMILL_TEST_PYTHON` names no Python; on a build server (`CI` is set) neither may be missing.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use crate::server::{Server, block_on};

/// psql against this server, without anybody's settings.
fn psql(server: &Server, arguments: &[&str]) -> Option<Command> {
    psql_at(server.address(), arguments)
}

/// psql against the server at an address.
pub fn psql_at(address: SocketAddr, arguments: &[&str]) -> Option<Command> {
    match Command::new("psql").arg("--version").output() {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(std::env::var_os("CI").is_none(), "psql is not installed");
            println!("skipped: psql is not installed");
            return None;
        }
        Err(error) => panic!("psql: {error}"),
    }
    let mut command = Command::new("psql");
    command
        .args([
            "-X",
            "-h",
            &address.ip().to_string(),
            "-p",
            &address.port().to_string(),
        ])
        .args(["-U", "somebody", "-v", "ON_ERROR_STOP=1"])
        .args(arguments)
        .env("PGCLIENTENCODING", "UTF8")
        .env("PGDATABASE", "tidemill")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(command)
}

/// What psql says to a script on its standard input.
fn run_psql(server: &Server, arguments: &[&str], script: &str) -> Option<Output> {
    let mut child = psql(server, arguments)?.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    Some(child.wait_with_output().unwrap())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

const README_SESSION: &str = "
CREATE SOURCE clicks (page TEXT, ts TIMESTAMPTZ, WATERMARK FOR ts AS ts) WITH (connector = 'topic');
CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) FROM clicks GROUP BY page;
INSERT INTO clicks VALUES ('/home', now());
INSERT INTO clicks VALUES ('/home', now()), ('/docs', now());
SELECT * FROM pages ORDER BY page;
COPY (SELECT page, count FROM pages ORDER BY page) TO STDOUT WITH (FORMAT csv);
";

#[test]
fn psql_runs_the_session_of_the_readme() {
    let server = Server::start();
    let Some(output) = run_psql(&server, &[], README_SESSION) else {
        return;
    };
    assert_eq!(text(&output.stderr), "");
    let expected = "CREATE SOURCE
CREATE MATERIALIZED VIEW
INSERT 0 1
INSERT 0 2
 page  | count 
-------+-------
 /docs |     1
 /home |     2
(2 rows)

/docs,1
/home,2
";
    assert_eq!(text(&output.stdout), expected);
    assert!(output.status.success());
}

#[test]
fn psql_describes_what_is_there() {
    let server = Server::start();
    let script = "CREATE SOURCE clicks (page TEXT, ts TIMESTAMPTZ) WITH (connector = 'topic');
CREATE TABLE users (id BIGINT PRIMARY KEY, name TEXT NOT NULL, score DOUBLE PRECISION);
CREATE VIEW names AS SELECT name FROM users;
CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS clicks FROM clicks GROUP BY page;
\\echo [all]
\\d
\\echo [tables]
\\dt
\\echo [materialized]
\\dm
\\echo [views]
\\dv
\\echo [table]
\\d users
\\echo [view]
\\d pages
\\echo [databases]
\\l
\\echo [roles]
\\du
\\echo [functions]
\\df no_such_function
\\echo [schemas]
\\dn
";
    let Some(output) = run_psql(&server, &["-q", "-A"], script) else {
        return;
    };
    assert_eq!(text(&output.stderr), "");
    let expected = [
        (
            "all",
            &["clicks", "users", "names", "pages|materialized view"][..],
        ),
        ("tables", &["users|table"]),
        ("materialized", &["pages|materialized view"]),
        ("views", &["names|view"]),
        (
            "table",
            &[
                "id|bigint||not null",
                "name|text||not null",
                "score|double precision",
            ],
        ),
        (
            "view",
            &[
                "Materialized view \"public.pages\"",
                "page|text",
                "clicks|bigint",
            ],
        ),
        ("databases", &["tidemill|somebody|UTF8"]),
        ("roles", &["somebody"]),
        ("functions", &["(0 rows)"]),
        ("schemas", &["public|"]),
    ];
    let told = text(&output.stdout);
    for (section, parts) in expected {
        let begin = told.find(&format!("[{section}]")).expect(section);
        let rest = &told[begin + 1..];
        let answer = &rest[..rest.find("\n[").unwrap_or(rest.len())];
        for part in parts {
            assert!(answer.contains(part), "{part:?} is not in [{answer}");
        }
    }
    assert!(!told.contains("[tables]\nDid not find"));
}

#[test]
fn psql_shows_errors_with_place_and_hint() {
    let server = Server::start();
    let script = "CREATE TABLE bids (price BIGINT);\nSELECT pricee FROM bids;\n";
    let Some(output) = run_psql(&server, &["-v", "VERBOSITY=verbose"], script) else {
        return;
    };
    assert_eq!(output.status.code(), Some(3));
    let told = text(&output.stderr);
    for part in [
        "ERROR:  42703: column \"pricee\" does not exist",
        "LINE 1: SELECT pricee FROM bids;\n               ^",
        "HINT:  ",
        "price",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    let Some(output) = run_psql(
        &server,
        &["-v", "VERBOSITY=verbose"],
        "SELECT 1 FRO bids b;",
    ) else {
        return;
    };
    let told = text(&output.stderr);
    for part in [
        "ERROR:  42601: syntax error at or near \"b",
        "LINE 1: SELECT 1 FRO",
        "^",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
}

#[test]
fn psql_is_told_what_a_drop_takes_along() {
    let server = Server::start();
    let script = "CREATE TABLE t (n BIGINT);
CREATE VIEW plain AS SELECT n FROM t;
CREATE MATERIALIZED VIEW v AS SELECT sum(n) AS total FROM plain;
DROP TABLE t CASCADE;
CREATE TABLE t (n BIGINT);
CREATE MATERIALIZED VIEW v AS SELECT sum(n) AS total FROM t;
DROP TABLE t CASCADE;
CREATE TABLE t (n BIGINT);
CREATE MATERIALIZED VIEW v AS SELECT sum(n) AS total FROM t;
DROP MATERIALIZED VIEW v CASCADE;
";
    let Some(output) = run_psql(&server, &["-q"], script) else {
        return;
    };
    let expected = "NOTICE:  drop cascades to 2 other objects
DETAIL:  drop cascades to view plain
drop cascades to materialized view v
NOTICE:  drop cascades to materialized view v
";
    assert_eq!(text(&output.stderr), expected);
    assert!(output.status.success());
}

#[test]
fn psql_points_at_names_that_are_not_found() {
    let server = Server::start();
    let create = "CREATE TABLE bids (price BIGINT, name TEXT);\n";
    for (statement, line, column) in [
        ("SELECT *\nFROM bid;", "LINE 2: FROM bid;", 5),
        (
            "SELECT b.prise FROM bids b;",
            "LINE 1: SELECT b.prise FROM bids b;",
            7,
        ),
        (
            "SELECT 1, nosuch(price) FROM bids;",
            "LINE 1: SELECT 1, nosuch(",
            10,
        ),
        (
            "SELECT name + price FROM bids;",
            "LINE 1: SELECT name + price",
            12,
        ),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT prise FROM bids;",
            "LINE 1: CREATE MATERIALIZED VIEW v AS SELECT prise",
            37,
        ),
        (
            "INSERT INTO bids (prise) VALUES (1);",
            "LINE 1: INSERT INTO bids (prise)",
            18,
        ),
        (
            "UPDATE bids SET price = prise;",
            "LINE 1: UPDATE bids SET price = prise",
            24,
        ),
        (
            "SELECT 'a' AS a, '{\"a\": 1'::jsonb;",
            "LINE 1: SELECT 'a' AS a, '{",
            17,
        ),
        (
            "SELECT name FROM bids WHERE price = 'x';",
            "LINE 1: SELECT name FROM bids WHERE price = 'x'",
            36,
        ),
    ] {
        let drop = "DROP TABLE bids;\n";
        let script = format!("{create}\\set ON_ERROR_STOP off\n{statement}\n{drop}");
        let Some(output) = run_psql(&server, &[], &script) else {
            return;
        };
        let told = text(&output.stderr);
        assert!(told.contains(line), "{line:?} is not in\n{told}");
        // psql puts the caret below the character, behind `LINE 1: `.
        let caret = format!("\n{}^", " ".repeat(column + "LINE 1: ".len()));
        assert!(told.contains(&caret), "no caret at {column} in\n{told}");
    }
}

#[test]
fn psql_copies_a_file_in_and_uses_variables_and_prepared_statements() {
    let server = Server::start();
    let script = "CREATE TABLE t (id BIGINT PRIMARY KEY, x TEXT);
\\copy t from stdin with (format csv)
1,a
2,\"b,c\"
\\.
\\set key 2
SELECT x FROM t WHERE id = :key;
PREPARE p AS SELECT x FROM t WHERE id = $1;
EXECUTE p(1);
BEGIN;
DELETE FROM t;
ROLLBACK;
SELECT count(*) FROM t \\gset
\\echo :count
";
    let Some(output) = run_psql(&server, &["-qAt"], script) else {
        return;
    };
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&output.stdout), "b,c\na\n2\n");
}

#[test]
fn psql_shows_changes_live_and_ends_at_ctrl_c() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let objects = "CREATE TABLE t (id BIGINT PRIMARY KEY);
            CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t;";
        client.batch_execute(objects).await.unwrap();
        for statement in ["COPY (SUBSCRIBE TO v) TO STDOUT;", "SUBSCRIBE TO v;"] {
            let Some(mut command) = psql(&server, &["-qAt", "-c", statement]) else {
                return;
            };
            let child = command.spawn().unwrap();
            // Enough changes to fill psql's buffer, so that it writes before it ends.
            let child = ReadOnce::of(child);
            for id in 0.. {
                let insert = format!("INSERT INTO t VALUES ({id})");
                client.batch_execute(&insert).await.unwrap();
                client.batch_execute("DELETE FROM t").await.unwrap();
                if child.has_written() {
                    break;
                }
            }
            let told = child.interrupt();
            assert!(
                told.contains("canceling statement due to user request"),
                "{told}"
            );
        }
    });
}

/// A program whose first output is waited for beside other work.
struct ReadOnce {
    child: Child,
    written: std::sync::mpsc::Receiver<()>,
    reader: std::thread::JoinHandle<()>,
}

impl ReadOnce {
    fn of(mut child: Child) -> ReadOnce {
        let (send, written) = std::sync::mpsc::channel();
        let mut stdout = child.stdout.take().unwrap();
        let read = move || {
            let mut block = [0; 4096];
            while stdout.read(&mut block).unwrap() > 0 {
                // Nobody asks any more once the first block has been seen.
                let _ = send.send(());
            }
        };
        let reader = std::thread::Builder::new()
            .name("program-output".to_string())
            .spawn(read);
        ReadOnce {
            child,
            written,
            reader: reader.unwrap(),
        }
    }

    fn has_written(&self) -> bool {
        self.written.try_recv().is_ok()
    }

    /// Ctrl-C; what the program wrote to standard error until it ended.
    fn interrupt(self) -> String {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &id])
                .status()
                .unwrap()
                .success()
        );
        let output = self.child.wait_with_output().unwrap();
        self.reader.join().unwrap();
        text(&output.stderr).to_string()
    }
}

#[test]
fn psycopg_reads_writes_copies_and_subscribes() {
    let Some(python) = std::env::var_os("TIDEMILL_TEST_PYTHON") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "TIDEMILL_TEST_PYTHON is not set"
        );
        println!("skipped: TIDEMILL_TEST_PYTHON is not set");
        return;
    };
    let server = Server::start();
    let script = crate::script::folder("psycopg_session.py");
    let output = Command::new(python)
        .arg(script)
        .arg(server.address().port().to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    assert_eq!(text(&output.stdout), "done\n");
}
