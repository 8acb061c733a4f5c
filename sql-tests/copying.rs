//! COPY in both directions: text, CSV and binary, bad lines, and subscriptions that are live.

use std::pin::pin;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, NoTls};

use crate::server::{Server, block_on};

/// Sends `input` to `COPY … FROM STDIN` in parts that end where lines do not.
async fn copy_in(client: &Client, sql: &str, input: &str) -> Result<u64, Error> {
    let mut sink = pin!(client.copy_in(sql).await?);
    for part in input.as_bytes().chunks(7) {
        sink.send(Bytes::copy_from_slice(part)).await?;
    }
    sink.finish().await
}

async fn copy_out(client: &Client, sql: &str) -> Result<String, Error> {
    let mut stream = pin!(client.copy_out(sql).await?);
    let mut text = Vec::new();
    while let Some(part) = stream.next().await {
        text.extend_from_slice(&part?);
    }
    Ok(String::from_utf8(text).unwrap())
}

async fn server_with_table() -> (Server, Client) {
    let server = Server::start();
    let client = server.connect().await;
    let objects = "CREATE TABLE t (id BIGINT PRIMARY KEY, x TEXT, f DOUBLE PRECISION);
        CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, sum(id)::BIGINT AS total FROM t;";
    client.batch_execute(objects).await.unwrap();
    (server, client)
}

#[test]
fn text_goes_in_and_comes_out_the_same() {
    block_on(async {
        let (_server, client) = server_with_table().await;
        let text = "1\ttab\\there\t0.5\n2\t\\N\t\\N\n3\t\t-1e+300\n4\tback\\\\slash\\nline\tNaN\n";
        let rows = copy_in(&client, "COPY t FROM STDIN", text).await.unwrap();
        assert_eq!(rows, 4);
        let back = copy_out(&client, "COPY (SELECT * FROM t ORDER BY id) TO STDOUT")
            .await
            .unwrap();
        assert_eq!(back, text);
        let sum = client
            .query_one("SELECT n, total FROM v", &[])
            .await
            .unwrap();
        assert_eq!((sum.get::<_, i64>(0), sum.get::<_, i64>(1)), (4, 10));
        let delimited = "COPY (SELECT id, x FROM t WHERE id < 3 ORDER BY id) TO STDOUT
            WITH (DELIMITER '|', NULL 'nothing')";
        assert_eq!(
            copy_out(&client, delimited).await.unwrap(),
            "1|tab\\there\n2|nothing\n"
        );
    });
}

#[test]
fn csv_goes_in_with_header_and_quotes() {
    block_on(async {
        let (_server, client) = server_with_table().await;
        let text = "id,x\n1,\"a \"\"b\"\",\nc\"\n2,\n3,\"\"\n";
        let sql = "COPY t (id, x) FROM STDIN WITH (FORMAT csv, HEADER true)";
        assert_eq!(copy_in(&client, sql, text).await.unwrap(), 3);
        let rows = client
            .query("SELECT x FROM t ORDER BY id", &[])
            .await
            .unwrap();
        let texts: Vec<Option<&str>> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(texts, [Some("a \"b\",\nc"), None, Some("")]);
        let sql = "COPY (SELECT id, x FROM t ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)";
        assert_eq!(copy_out(&client, sql).await.unwrap(), text);
    });
}

#[test]
fn binary_goes_in_and_comes_out() {
    block_on(async {
        let (_server, client) = server_with_table().await;
        let types = [Type::INT8, Type::TEXT, Type::FLOAT8];
        let sink = client
            .copy_in("COPY t FROM STDIN WITH (FORMAT binary)")
            .await
            .unwrap();
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
        for id in 0..1000i64 {
            let text = (id % 3 > 0).then(|| id.to_string());
            writer.as_mut().write(&[&id, &text, &0.5f64]).await.unwrap();
        }
        assert_eq!(writer.finish().await.unwrap(), 1000);
        let sql = "COPY (SELECT * FROM t ORDER BY id) TO STDOUT WITH (FORMAT binary)";
        let stream = client.copy_out(sql).await.unwrap();
        let mut rows = pin!(BinaryCopyOutStream::new(stream, &types));
        let mut expected = 0i64;
        while let Some(row) = rows.next().await {
            let row = row.unwrap();
            assert_eq!(row.get::<i64>(0), expected);
            let text = (expected % 3 > 0).then(|| expected.to_string());
            assert_eq!(row.get::<Option<String>>(1), text);
            expected += 1;
        }
        assert_eq!(expected, 1000);
    });
}

#[test]
fn a_bad_line_is_named_and_nothing_is_written() {
    block_on(async {
        let (_server, client) = server_with_table().await;
        let cases = [
            ("1\ta\t1\n2\tb\tnot a number\n", "22P02", "line 2"),
            ("1\ta\t1\n2\n", "22P04", "line 2"),
            ("1\ta\t1\t1\n", "22P04", "line 1"),
            ("1\ta\t1\n1\tb\t1\n", "23505", "t_pkey"),
        ];
        for (text, code, place) in cases {
            let error = copy_in(&client, "COPY t FROM STDIN", text)
                .await
                .unwrap_err();
            let error = error.as_db_error().unwrap();
            assert_eq!(error.code().code(), code, "{error:?}");
            let told = format!("{error} {:?} {:?}", error.detail(), error.where_());
            assert!(told.contains(place), "{told}");
            let n: i64 = client
                .query_one("SELECT n FROM v", &[])
                .await
                .unwrap()
                .get(0);
            assert_eq!(n, 0);
        }
        let missing = client.copy_in::<_, Bytes>("COPY nobody FROM STDIN").await;
        assert_eq!(
            missing.err().unwrap().as_db_error().unwrap().code().code(),
            "42P01"
        );
    });
}

#[test]
fn a_copy_into_a_topic_is_there_whole_or_not_at_all() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let objects = "CREATE SOURCE s (n BIGINT, x TEXT) WITH (connector = 'topic');
            CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM s;";
        client.batch_execute(objects).await.unwrap();
        // Beyond the rows of one batch, and with a bad line at the end.
        let mut text: String = (0..20_000).map(|n| format!("{n}\tx\n")).collect();
        text.push_str("bad\tx\n");
        let error = copy_in(&client, "COPY s FROM STDIN", &text)
            .await
            .unwrap_err();
        assert_eq!(error.code().unwrap().code(), "22P02");
        let count = async |relation: &str| -> i64 {
            let sql = format!("SELECT count(*) FROM {relation}");
            client.query_one(&sql, &[]).await.unwrap().get(0)
        };
        assert_eq!(count("s").await, 0);
        // More bytes than one write may have.
        let line = format!("1\t{}\n", "x".repeat(1 << 20));
        let error = copy_in(&client, "COPY s FROM STDIN", &line.repeat(50))
            .await
            .unwrap_err();
        let refusal = error.as_db_error().unwrap();
        assert_eq!(refusal.code().code(), "54000");
        assert!(refusal.hint().unwrap().contains("cut the file"));
        assert_eq!(count("s").await, 0);
        let sql = "INSERT INTO s SELECT n, repeat('x', 1000000) FROM generate_series(1, 60) g(n)";
        let error = client.execute(sql, &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "54000");
        assert_eq!(count("s").await, 0);
        text.truncate(text.len() - "bad\tx\n".len());
        assert_eq!(
            copy_in(&client, "COPY s FROM STDIN", &text).await.unwrap(),
            20_000
        );
        assert_eq!(count("s").await, 20_000);
    });
}

#[test]
fn many_rows_go_into_a_topic_and_are_in_its_view() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let objects = "CREATE SOURCE s (n BIGINT, x TEXT) WITH (connector = 'topic');
            CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, sum(n)::BIGINT AS total FROM s;";
        client.batch_execute(objects).await.unwrap();
        let mut sink = pin!(client.copy_in("COPY s FROM STDIN").await.unwrap());
        let rows = 50_000i64;
        for first in (0..rows).step_by(1000) {
            let lines: Vec<String> = (first..first + 1000)
                .map(|n| format!("{n}\ttext of {n}\n"))
                .collect();
            sink.send(Bytes::from(lines.concat())).await.unwrap();
        }
        assert_eq!(sink.finish().await.unwrap(), u64::try_from(rows).unwrap());
        let row = client
            .query_one("SELECT n, total FROM v", &[])
            .await
            .unwrap();
        assert_eq!((row.get(0), row.get(1)), (rows, rows * (rows - 1) / 2));
    });
}

#[test]
fn a_subscription_by_copy_is_live_and_ends_when_cancelled() {
    block_on(async {
        let (server, client) = server_with_table().await;
        client
            .batch_execute("INSERT INTO t VALUES (5, 'x', 0)")
            .await
            .unwrap();
        let reader = server.connect().await;
        let stream = reader
            .copy_out("COPY (SUBSCRIBE TO v) TO STDOUT")
            .await
            .unwrap();
        let mut lines = Lines {
            stream: Box::pin(stream),
            rest: String::new(),
        };
        let first = lines.next().await.unwrap();
        assert!(first.ends_with("\t1\t1\t5"), "{first}");
        for id in 6..=9 {
            let insert = format!("INSERT INTO t VALUES ({id}, 'x', 0)");
            client.batch_execute(&insert).await.unwrap();
            // An update of a group: the old row goes, the new one comes, at one epoch.
            let (gone, come) = (lines.next().await.unwrap(), lines.next().await.unwrap());
            let gone: Vec<&str> = gone.split('\t').collect();
            let come: Vec<&str> = come.split('\t').collect();
            assert_eq!((gone[0], gone[1], come[1]), (come[0], "-1", "1"));
            let total: i64 = (5..=id).sum();
            assert_eq!(come[3], total.to_string());
        }
        reader.cancel_token().cancel_query(NoTls).await.unwrap();
        let end = lines.next().await.unwrap_err();
        assert_eq!(end.as_db_error().unwrap().code().code(), "57014");
    });
}

#[test]
fn a_subscription_ends_before_the_epoch_it_names() {
    block_on(async {
        let (server, client) = server_with_table().await;
        let reader = server.connect().await;
        client
            .batch_execute("INSERT INTO t VALUES (1, 'x', 0)")
            .await
            .unwrap();
        let stream = reader
            .copy_out("COPY (SUBSCRIBE TO t) TO STDOUT")
            .await
            .unwrap();
        let mut lines = Lines {
            stream: Box::pin(stream),
            rest: String::new(),
        };
        let first = lines.next().await.unwrap();
        let epoch: i64 = first.split('\t').next().unwrap().parse().unwrap();
        client
            .batch_execute("INSERT INTO t VALUES (2, 'x', 0)")
            .await
            .unwrap();
        client
            .batch_execute("INSERT INTO t VALUES (3, 'x', 0)")
            .await
            .unwrap();
        let second = lines.next().await.unwrap();
        let third = lines.next().await.unwrap();
        let end: i64 = third.split('\t').next().unwrap().parse().unwrap();
        let options = format!("WITH (SNAPSHOT = false) AS OF {epoch} UP TO {end}");
        let sql = format!("COPY (SUBSCRIBE TO t {options}) TO STDOUT");
        assert_eq!(
            copy_out(&client, &sql).await.unwrap(),
            format!("{second}\n")
        );
    });
}

/// The lines of a COPY, as they come.
struct Lines {
    stream: std::pin::Pin<Box<tokio_postgres::CopyOutStream>>,
    rest: String,
}

impl Lines {
    async fn next(&mut self) -> Result<String, Error> {
        loop {
            if let Some((line, rest)) = self.rest.split_once('\n') {
                let line = line.to_string();
                self.rest = rest.to_string();
                return Ok(line);
            }
            let part = self
                .stream
                .next()
                .await
                .expect("a subscription does not end")?;
            self.rest.push_str(std::str::from_utf8(&part).unwrap());
        }
    }
}
