//! The extended protocol, message by message: what stands before one Sync is one transaction.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::Client;

use crate::server::{Server, block_on};

/// A logged-in connection that sends what a test says, byte by byte.
struct Raw(TcpStream);

impl Raw {
    async fn connect(address: SocketAddr) -> Raw {
        let mut raw = Raw(TcpStream::connect(address).await.unwrap());
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        body.extend_from_slice(b"user\0test\0database\0tidemill\0\0");
        let length = u32::try_from(body.len() + 4).unwrap();
        let message = [&length.to_be_bytes()[..], &body].concat();
        raw.0.write_all(&message).await.unwrap();
        raw.until_ready().await;
        raw
    }

    async fn send(&mut self, messages: &[Vec<u8>]) {
        self.0.write_all(&messages.concat()).await.unwrap();
    }

    async fn message(&mut self) -> (char, Vec<u8>) {
        let tag = self.0.read_u8().await.unwrap();
        let length = usize::try_from(self.0.read_u32().await.unwrap()).unwrap();
        let mut body = vec![0; length - 4];
        self.0.read_exact(&mut body).await.unwrap();
        (char::from(tag), body)
    }

    /// The tags of the messages up to ReadyForQuery, with the text of those that end a statement.
    async fn until_ready(&mut self) -> String {
        let mut seen = String::new();
        loop {
            let (tag, body) = self.message().await;
            match tag {
                'S' | 'K' | 'R' => continue,
                'C' => {
                    let tag = String::from_utf8_lossy(&body[..body.len() - 1]).into_owned();
                    seen.push_str(&format!("[{tag}]"));
                }
                'E' => {
                    let fields = body.split(|&byte| byte == 0);
                    let mut state = fields.filter(|field| field.first() == Some(&b'C'));
                    let state = String::from_utf8_lossy(&state.next().unwrap()[1..]).into_owned();
                    seen.push_str(&format!("[{state}]"));
                }
                'Z' => {
                    seen.push(char::from(body[0]));
                    return seen;
                }
                other => seen.push(other),
            }
        }
    }
}

fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// Parse, Bind and Execute of a statement without parameters.
fn run(sql: &str) -> Vec<u8> {
    let parse = [b"\0", sql.as_bytes(), b"\0\0\0"].concat();
    [
        framed(b'P', &parse),
        framed(b'B', b"\0\0\0\0\0\0\0\0"),
        framed(b'E', b"\0\0\0\0\0"),
    ]
    .concat()
}

fn sync() -> Vec<u8> {
    framed(b'S', b"")
}

async fn ids(client: &Client) -> Vec<i64> {
    let rows = client.query("SELECT id FROM t ORDER BY id", &[]);
    rows.await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[test]
fn what_is_sent_up_to_a_sync_takes_effect_together_or_not_at_all() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let table = "CREATE TABLE t (id BIGINT PRIMARY KEY)";
        client.batch_execute(table).await.unwrap();
        let mut raw = Raw::connect(server.address()).await;

        let both = [
            run("INSERT INTO t VALUES (1)"),
            run("INSERT INTO t VALUES (2)"),
        ];
        raw.send(&[both.concat(), sync()]).await;
        assert_eq!(raw.until_ready().await, "12[INSERT 0 1]12[INSERT 0 1]I");
        assert_eq!(ids(&client).await, [1, 2]);

        // The second fails: the first has not happened, the third is passed over.
        let three = [
            run("INSERT INTO t VALUES (3)"),
            run("INSERT INTO t VALUES (1)"),
            run("INSERT INTO t VALUES (4)"),
        ];
        raw.send(&[three.concat(), sync()]).await;
        assert_eq!(raw.until_ready().await, "12[INSERT 0 1]12[23505]I");
        assert_eq!(ids(&client).await, [1, 2]);

        // Nobody else sees what no Sync has followed; the connection itself does.
        raw.send(&[run("INSERT INTO t VALUES (5)"), framed(b'H', b"")])
            .await;
        while raw.message().await.0 != 'C' {}
        assert_eq!(ids(&client).await, [1, 2]);
        raw.send(&[run("SELECT id FROM t WHERE id = 5"), sync()])
            .await;
        assert_eq!(raw.until_ready().await, "12D[SELECT 1]I");
        assert_eq!(ids(&client).await, [1, 2, 5]);

        // BEGIN makes it a transaction that lasts beyond Sync; COMMIT ends one before it.
        raw.send(&[run("INSERT INTO t VALUES (6)"), run("BEGIN"), sync()])
            .await;
        assert_eq!(raw.until_ready().await, "12[INSERT 0 1]12[BEGIN]T");
        raw.send(&[run("ROLLBACK"), run("INSERT INTO t VALUES (7)"), sync()])
            .await;
        assert_eq!(raw.until_ready().await, "12[ROLLBACK]12[INSERT 0 1]I");
        assert_eq!(ids(&client).await, [1, 2, 5, 7]);

        // A definition takes effect at once, and what was before it with it.
        let defined = [
            run("INSERT INTO t VALUES (8)"),
            run("CREATE TABLE u (id BIGINT)"),
        ];
        raw.send(&[defined.concat(), run("SELECT 1 / 0"), sync()])
            .await;
        assert_eq!(
            raw.until_ready().await,
            "12[INSERT 0 1]12[CREATE TABLE]12[22012]I"
        );
        assert_eq!(ids(&client).await, [1, 2, 5, 7, 8]);

        // A client that goes before its Sync has sent nothing.
        raw.send(&[run("INSERT INTO t VALUES (9)"), framed(b'H', b"")])
            .await;
        while raw.message().await.0 != 'C' {}
        drop(raw);
        client
            .execute("INSERT INTO t VALUES (10)", &[])
            .await
            .unwrap();
        assert_eq!(ids(&client).await, [1, 2, 5, 7, 8, 10]);
    });
}
