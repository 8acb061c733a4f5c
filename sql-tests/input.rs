//! Input that is large, broken or hostile: an answer or an error, and the server goes on.

use std::pin::pin;

use bytes::Bytes;
use futures::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::Client;

use crate::server::{Server, block_on, code};

async fn is_alive(client: &Client) {
    let row = client.query_one("SELECT 7::BIGINT", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 7);
}

#[test]
fn a_value_of_a_megabyte_goes_through_everything() {
    block_on(async {
        let mut server = Server::start();
        let client = server.connect().await;
        let objects = "CREATE SOURCE s (x TEXT) WITH (connector = 'topic');
            CREATE MATERIALIZED VIEW v AS SELECT x, count(*) AS n FROM s GROUP BY x;";
        client.batch_execute(objects).await.unwrap();
        let large = "\u{e9}".repeat(1 << 19);
        client
            .execute("INSERT INTO s VALUES ($1)", &[&large])
            .await
            .unwrap();
        client
            .batch_execute(&format!("INSERT INTO s VALUES ('{large}')"))
            .await
            .unwrap();
        server.restart();
        let client = server.connect().await;
        let row = client.query_one("SELECT x, n FROM v", &[]).await.unwrap();
        assert!(row.get::<_, &str>(0) == large && row.get::<_, i64>(1) == 2);
    });
}

#[test]
fn text_that_is_not_utf8_and_zero_bytes_are_refused() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        client
            .batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY, x TEXT)")
            .await
            .unwrap();
        for bytes in [&b"1\t\xff\n"[..], b"1\tzero\0byte\n"] {
            let mut sink = pin!(client.copy_in("COPY t FROM STDIN").await.unwrap());
            sink.send(Bytes::from_static(bytes)).await.unwrap();
            let error = sink.finish().await.unwrap_err();
            assert_eq!(code(&error), "22021", "{error:?}");
        }
        let error = client
            .execute("INSERT INTO t VALUES (1, $1)", &[&"zero\0byte"])
            .await;
        assert_eq!(code(&error.unwrap_err()), "22021");
        is_alive(&client).await;
    });
}

#[test]
fn statements_that_are_deep_wide_or_long_are_answered() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let deep = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
        let chain = format!("SELECT 1{}", " + 1".repeat(20_000));
        let wide = format!("SELECT {}1", "1, ".repeat(500));
        let unclosed = "SELECT '".to_string();
        let nested = format!("SELECT {}1{}", "(SELECT ".repeat(500), ")".repeat(500));
        for sql in [deep, chain, wide, unclosed, nested] {
            // Either is fine; what matters is that it is one of them.
            if let Err(error) = client.simple_query(&sql).await {
                let class = &code(&error)[..2];
                assert!(["42", "54", "0A"].contains(&class), "{}", error);
            }
            is_alive(&client).await;
        }
    });
}

#[test]
fn too_many_columns_are_refused_at_once() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let refused = async |sql: String| {
            let error = client.simple_query(&sql).await.unwrap_err();
            assert_eq!(code(&error), "54011", "{error:?}");
        };
        refused(format!("SELECT {}1", "1, ".repeat(20_000))).await;
        refused(format!("SELECT {}1", "1, ".repeat(1_664))).await;
        let columns = |count: usize, letter: &str| {
            let names: Vec<String> = (0..count).map(|n| format!("{letter}{n} INT")).collect();
            names.join(", ")
        };
        refused(format!("CREATE TABLE t ({})", columns(1_601, "c"))).await;
        let half = format!("CREATE TABLE a ({})", columns(900, "a"));
        client.simple_query(&half).await.unwrap();
        refused("SELECT x.*, y.* FROM a x CROSS JOIN a y".to_string()).await;
        is_alive(&client).await;
    });
}

#[test]
fn many_connections_are_served_and_their_end_is_noticed() {
    block_on(async {
        let server = Server::start();
        let mut clients = Vec::new();
        for _ in 0..60 {
            clients.push(server.connect().await);
        }
        let answers = clients.iter().map(is_alive);
        futures::future::join_all(answers).await;
        drop(clients);
        is_alive(&server.connect().await).await;
    });
}

#[test]
fn garbage_on_the_port_does_no_harm() {
    block_on(async {
        let server = Server::start();
        let messages: [&[u8]; 5] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"\x7f\xff\xff\xff\x00\x03\x00\x00",
            b"\x00\x00\x00\x04",
            b"\x00\x00\x00\x09\x00\x03\x00\x00\x00Q\xff\xff\xff\xff",
        ];
        for message in messages {
            let mut stream = TcpStream::connect(server.address()).await.unwrap();
            stream.write_all(message).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            // A connection that is reset has ended as well.
            let _ = stream.read_to_end(&mut answer).await;
        }
        is_alive(&server.connect().await).await;
        assert!(!server.log().contains("panicked"), "{}", server.log());
    });
}
