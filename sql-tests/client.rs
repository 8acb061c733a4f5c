//! A program with tokio-postgres: parameters, binary values, prepared statements, portals,
//! cancelling, and what a connection sees of its own and others' writes.

use std::pin::pin;
use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::server::{Server, block_on, code};

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[test]
fn parameters_and_results_are_binary_and_survive() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let table =
            "CREATE TABLE t (id BIGINT PRIMARY KEY, i INTEGER, s SMALLINT, f DOUBLE PRECISION,
            r REAL, b BOOLEAN, x TEXT, y BYTEA, ts TIMESTAMP, tz TIMESTAMPTZ)";
        client.batch_execute(table).await.unwrap();
        client
            .batch_execute("CREATE MATERIALIZED VIEW v AS SELECT * FROM t")
            .await
            .unwrap();
        let insert = client
            .prepare("INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
            .await
            .unwrap();
        let parameters = [
            Type::INT8,
            Type::INT4,
            Type::INT2,
            Type::FLOAT8,
            Type::FLOAT4,
            Type::BOOL,
            Type::TEXT,
            Type::BYTEA,
            Type::TIMESTAMP,
            Type::TIMESTAMPTZ,
        ];
        assert_eq!(insert.params(), parameters);
        let before_1970 = SystemTime::UNIX_EPOCH - Duration::from_micros(1);
        let later = SystemTime::UNIX_EPOCH + Duration::from_micros(1_767_225_600_123_456);
        let bytes: &[u8] = &[0, 255, b'\\'];
        let inserted = client
            .execute(
                &insert,
                &[
                    &i64::MIN,
                    &i32::MAX,
                    &i16::MIN,
                    &-0.1f64,
                    &f32::INFINITY,
                    &true,
                    &"it's \\ \u{1f600}",
                    &bytes,
                    &before_1970,
                    &later,
                ],
            )
            .await
            .unwrap();
        assert_eq!(inserted, 1);
        let none: Option<i32> = None;
        let null = "INSERT INTO t (id, i) VALUES ($1, $2)";
        client.execute(null, &[&2i64, &none]).await.unwrap();

        let row = client
            .query_one("SELECT * FROM v WHERE id = $1", &[&i64::MIN])
            .await
            .unwrap();
        assert_eq!(row.get::<_, i32>(1), i32::MAX);
        assert_eq!(row.get::<_, i16>(2), i16::MIN);
        assert_eq!(row.get::<_, f64>(3).to_bits(), (-0.1f64).to_bits());
        assert_eq!(row.get::<_, f32>(4), f32::INFINITY);
        assert!(row.get::<_, bool>(5));
        assert_eq!(row.get::<_, &str>(6), "it's \\ \u{1f600}");
        assert_eq!(row.get::<_, &[u8]>(7), bytes);
        assert_eq!(row.get::<_, SystemTime>(8), before_1970);
        assert_eq!(row.get::<_, SystemTime>(9), later);
        let row = client
            .query_one("SELECT i, x FROM v WHERE id = $1", &[&2i64])
            .await
            .unwrap();
        assert_eq!(row.get::<_, Option<i32>>(0), None);
        assert_eq!(row.get::<_, Option<&str>>(1), None);

        // The types of parameters follow from where they stand.
        let described = [
            (
                "SELECT x FROM t WHERE id > $1 AND b = $2",
                vec![Type::INT8, Type::BOOL],
            ),
            (
                "SELECT $1::BIGINT, $2::NUMERIC(10,2)",
                vec![Type::INT8, Type::NUMERIC],
            ),
            (
                "SELECT id FROM t WHERE s BETWEEN $1 AND $2",
                vec![Type::INT2; 2],
            ),
            ("SELECT id FROM t WHERE id IN ($1, $2)", vec![Type::INT8; 2]),
            (
                "SELECT id FROM t WHERE id = ANY ($1)",
                vec![Type::INT8_ARRAY],
            ),
            (
                "SELECT coalesce(i, $1) FROM t LIMIT $2",
                vec![Type::INT4, Type::INT8],
            ),
            (
                "SELECT i + $1, ts - $2 FROM t",
                vec![Type::INT4, Type::TIMESTAMP],
            ),
            ("SELECT $1", vec![Type::TEXT]),
            (
                "UPDATE t SET x = $1 WHERE id = $2",
                vec![Type::TEXT, Type::INT8],
            ),
        ];
        for (sql, types) in described {
            let statement = client.prepare(sql).await.unwrap();
            assert_eq!(statement.params(), types, "{sql}");
        }
        let statement = client.prepare("SELECT x FROM t").await.unwrap();
        assert_eq!(*statement.columns()[0].type_(), Type::TEXT);
        let row = client
            .query_one(
                "SELECT $1::BIGINT + 1, id = ANY ($2) FROM v WHERE id = $3",
                &[&41i64, &vec![2i64, 3], &2i64],
            )
            .await
            .unwrap();
        assert_eq!((row.get(0), row.get(1)), (42i64, true));
    });
}

#[test]
fn system_columns_have_their_types_in_binary() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        client
            .batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY, x TEXT)")
            .await
            .unwrap();
        let row = client
            .query_one(
                "SELECT oid, relname, relkind, relnatts FROM pg_class WHERE relname = 't'",
                &[],
            )
            .await
            .unwrap();
        let oid: u32 = row.get(0);
        assert_eq!(row.get::<_, &str>(1), "t");
        assert_eq!(row.get::<_, i8>(2), 'r' as i8);
        assert_eq!(row.get::<_, i16>(3), 2);
        let rows = client
            .query(
                "SELECT attname, atttypid FROM pg_attribute WHERE attrelid = $1 AND attnum > 0
                 ORDER BY attnum",
                &[&oid],
            )
            .await
            .unwrap();
        let types: Vec<(String, u32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let expected = [("id".to_string(), 20), ("x".to_string(), 25)];
        assert_eq!(types, expected);
        let keys = client
            .query_one(
                "SELECT indkey FROM pg_index WHERE indrelid = $1 AND indisprimary",
                &[&oid],
            )
            .await
            .unwrap();
        assert_eq!(keys.columns()[0].type_(), &Type::INT2_VECTOR);
        let text = client
            .simple_query("SELECT indkey FROM pg_index WHERE indisprimary")
            .await
            .unwrap();
        let told = text.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
            _ => None,
        });
        assert_eq!(told.as_deref(), Some("1"));
    });
}

#[test]
fn numbers_of_rows_and_ranks_are_bigint() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let sql = "SELECT row_number() OVER (), rank() OVER (), ntile(2) OVER (), count(*) OVER ()";
        let statement = client.prepare(sql).await.unwrap();
        let types: Vec<&Type> = statement.columns().iter().map(|c| c.type_()).collect();
        assert_eq!(types, [&Type::INT8, &Type::INT8, &Type::INT4, &Type::INT8]);
    });
}

#[test]
fn a_prepared_statement_sees_new_rows_each_time() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let objects = "CREATE SOURCE s (k TEXT, n BIGINT) WITH (connector = 'topic');
            CREATE MATERIALIZED VIEW v AS SELECT k, sum(n)::BIGINT AS total FROM s GROUP BY k";
        client.batch_execute(objects).await.unwrap();
        let insert = client
            .prepare("INSERT INTO s VALUES ($1, $2)")
            .await
            .unwrap();
        let select = client
            .prepare("SELECT total FROM v WHERE k = $1")
            .await
            .unwrap();
        assert!(client.query_opt(&select, &[&"a"]).await.unwrap().is_none());
        for n in 1..=20i64 {
            client.execute(&insert, &[&"a", &n]).await.unwrap();
            let total: i64 = client.query_one(&select, &[&"a"]).await.unwrap().get(0);
            assert_eq!(total, n * (n + 1) / 2);
        }
        client
            .batch_execute("DROP MATERIALIZED VIEW v")
            .await
            .unwrap();
        let gone = client.query(&select, &[&"a"]).await.unwrap_err();
        assert_eq!(code(&gone), "42P01");
        assert_eq!(count(&client, "SELECT count(*) FROM s").await, 20);
    });
}

#[test]
fn a_write_returns_rows_and_takes_parameters_in_all_its_clauses() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let table = "CREATE TABLE t (k BIGINT PRIMARY KEY, n INTEGER, note TEXT)";
        client.batch_execute(table).await.unwrap();
        let upsert = "INSERT INTO t VALUES ($1, $2, $3)
             ON CONFLICT (k) DO UPDATE SET n = t.n + $4, note = excluded.note WHERE t.n < $5
             RETURNING k, n, note || $6 AS note";
        let upsert = client.prepare(upsert).await.unwrap();
        let types = [
            Type::INT8,
            Type::INT4,
            Type::TEXT,
            Type::INT4,
            Type::INT4,
            Type::TEXT,
        ];
        assert_eq!(upsert.params(), types);
        let columns = upsert.columns().iter();
        let columns: Vec<_> = columns.map(|c| (c.name(), c.type_().clone())).collect();
        let expected = [("k", Type::INT8), ("n", Type::INT4), ("note", Type::TEXT)];
        assert_eq!(columns, expected);
        let mut results = Vec::new();
        for note in ["a", "b", "c"] {
            let given: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                [&1i64, &10i32, &note, &5i32, &12i32, &"!"];
            let rows = client.query(&upsert, &given).await.unwrap();
            let row = |row: &tokio_postgres::Row| -> (i64, i32, String) {
                (row.get(0), row.get(1), row.get(2))
            };
            results.extend(rows.iter().map(row));
        }
        // The third finds n = 15, which is not below 12.
        assert_eq!(results, [(1, 10, "a!".into()), (1, 15, "b!".into())]);
        let deleted = "DELETE FROM t WHERE k = $1 RETURNING note";
        let deleted = client.query_one(deleted, &[&1i64]).await.unwrap();
        assert_eq!(deleted.get::<_, &str>(0), "b");
        assert_eq!(count(&client, "SELECT count(*) FROM t").await, 0);
    });
}

#[test]
fn statements_are_pipelined_and_answered_in_order() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        client
            .batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
            .await
            .unwrap();
        let writes = (0..20i64).map(|id| {
            let client = &client;
            async move {
                client
                    .execute("INSERT INTO t VALUES ($1)", &[&id])
                    .await
                    .unwrap()
            }
        });
        futures::future::join_all(writes).await;
        assert_eq!(count(&client, "SELECT count(*) FROM t").await, 20);
    });
}

#[test]
fn a_portal_gives_as_many_rows_as_asked_for() {
    block_on(async {
        let server = Server::start();
        let mut client = server.connect().await;
        let transaction = client.transaction().await.unwrap();
        let sql = "SELECT g.value FROM generate_series(1, 5) AS g(value)";
        let portal = transaction.bind(sql, &[]).await.unwrap();
        let mut sizes = Vec::new();
        for _ in 0..3 {
            sizes.push(transaction.query_portal(&portal, 2).await.unwrap().len());
        }
        assert_eq!(sizes, [2, 2, 1]);
        transaction.commit().await.unwrap();
    });
}

#[test]
fn an_error_leaves_the_connection_usable() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let table = "CREATE TABLE t (id BIGINT PRIMARY KEY); INSERT INTO t VALUES (0)";
        client.batch_execute(table).await.unwrap();
        let zero = client
            .query("SELECT 1 / id FROM t WHERE id = $1", &[&0i64])
            .await
            .unwrap_err();
        assert_eq!(code(&zero), "22012");
        let parse = client.prepare("SELEC 1").await.unwrap_err();
        assert_eq!(code(&parse), "42601");
        assert!(parse.as_db_error().unwrap().position().is_some());
        let unknown = client.prepare("SELECT * FROM nobody").await.unwrap_err();
        assert_eq!(code(&unknown), "42P01");
        assert_eq!(count(&client, "SELECT 7::BIGINT").await, 7);
    });
}

#[test]
fn a_running_subscription_is_cancelled() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        client
            .batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
            .await
            .unwrap();
        client
            .batch_execute("INSERT INTO t VALUES (7)")
            .await
            .unwrap();
        let stream = client
            .query_raw("SUBSCRIBE TO t", Vec::<i64>::new())
            .await
            .unwrap();
        let mut stream = pin!(stream);
        // The rows come before the statement ends, which it never does by itself.
        let row = stream.try_next().await.unwrap().unwrap();
        assert_eq!((row.get::<_, i64>("diff"), row.get::<_, i64>("id")), (1, 7));
        let other = server.connect().await;
        other
            .batch_execute("INSERT INTO t VALUES (8)")
            .await
            .unwrap();
        let row = stream.try_next().await.unwrap().unwrap();
        assert_eq!((row.get::<_, i64>("diff"), row.get::<_, i64>("id")), (1, 8));
        client.cancel_token().cancel_query(NoTls).await.unwrap();
        let end = stream.next().await.unwrap().unwrap_err();
        assert_eq!(code(&end), "57014");
        assert_eq!(count(&client, "SELECT count(*) FROM t").await, 2);
    });
}

#[test]
fn a_statement_is_cancelled_and_times_out() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let endless =
            "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
        client
            .batch_execute("SET statement_timeout = '20ms'")
            .await
            .unwrap();
        assert_eq!(
            code(&client.query(endless, &[]).await.unwrap_err()),
            "57014"
        );
        client
            .batch_execute("SET statement_timeout = 0")
            .await
            .unwrap();
        let token = client.cancel_token();
        let statement = client.prepare(endless).await.unwrap();
        // A cancel that comes before the statement runs is void; so it is asked for again.
        let cancel = async {
            loop {
                token.cancel_query(NoTls).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let ended = tokio::select! {
            result = client.query(&statement, &[]) => result.unwrap_err(),
            () = cancel => unreachable!("it is asked for until the statement ends"),
        };
        assert_eq!(code(&ended), "57014");
    });
}

#[test]
fn acknowledged_rows_are_in_every_view_of_the_same_session_and_of_others_after_flush() {
    block_on(async {
        let server = Server::start();
        let (writer, reader) = (server.connect().await, server.connect().await);
        let objects = "CREATE SOURCE s (n BIGINT) WITH (connector = 'topic');
            CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM s;
            CREATE MATERIALIZED VIEW w AS SELECT n + 0 AS n FROM v;";
        writer.batch_execute(objects).await.unwrap();
        for n in 1..=30i64 {
            writer
                .execute("INSERT INTO s VALUES ($1)", &[&n])
                .await
                .unwrap();
            assert_eq!(count(&writer, "SELECT n FROM w").await, n);
            reader.batch_execute("FLUSH").await.unwrap();
            assert_eq!(count(&reader, "SELECT n FROM w").await, n);
        }
        // All relations of a statement are read at one epoch.
        let apart = "SELECT v.n - w.n FROM v, w";
        assert_eq!(count(&reader, apart).await, 0);
    });
}

#[test]
fn several_statements_in_one_text_are_answered_one_by_one() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        let script = "CREATE TABLE t (id BIGINT PRIMARY KEY); INSERT INTO t VALUES (1), (2);
            SELECT id FROM t WHERE id = 2; ; SELECT 'a;b' AS x -- the end";
        let messages = client.simple_query(script).await.unwrap();
        let rows: Vec<&str> = messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .collect();
        assert_eq!(rows, ["2", "a;b"]);
        let failing = "INSERT INTO t VALUES (3); SELECT 1 / 0; INSERT INTO t VALUES (4)";
        assert_eq!(
            code(&client.simple_query(failing).await.unwrap_err()),
            "22012"
        );
        assert_eq!(count(&client, "SELECT count(*) FROM t").await, 2);
    });
}

#[test]
fn a_server_that_is_asked_to_end_does_and_keeps_its_rows() {
    block_on(async {
        let mut server = Server::start();
        let client = server.connect().await;
        client
            .batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
            .await
            .unwrap();
        client
            .batch_execute("CREATE MATERIALIZED VIEW v AS SELECT id FROM t")
            .await
            .unwrap();
        client
            .batch_execute("INSERT INTO t VALUES (1)")
            .await
            .unwrap();
        assert!(server.terminate().success(), "{}", server.log());
        server.start_again();
        assert_eq!(
            count(&server.connect().await, "SELECT count(*) FROM v").await,
            1
        );
    });
}

#[test]
fn two_servers_do_not_share_a_directory() {
    let server = Server::start();
    let second = server.second_process();
    assert!(!second.status.success());
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(message.contains("tidemill:"), "{message}");
}

#[test]
fn http_tells_that_the_server_lives() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        client
            .batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
            .await
            .unwrap();
        for (path, expected) in [
            ("/healthz", "200"),
            ("/metrics", "tidemill_epoch"),
            ("/", "Tidemill"),
        ] {
            let mut stream = tokio::net::TcpStream::connect(server.http_address())
                .await
                .unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(
                answer.contains("200 OK") && answer.contains(expected),
                "{path}: {answer}"
            );
        }
    });
}

#[test]
fn a_query_that_computes_stops_nobody_and_is_cancelled_in_time() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        client
            .batch_execute("SET statement_timeout = '1s'")
            .await
            .unwrap();
        // Ninety thousand million pairs, compared one by one.
        let endless = "SELECT count(*) FROM generate_series(1, 300000) a(x), \
                       generate_series(1, 300000) b(y) WHERE x <> y";
        let others = async {
            for _ in 0..5 {
                let other = server.connect().await;
                assert_eq!(count(&other, "SELECT 1::BIGINT").await, 1);
            }
        };
        let (computed, ()) = futures::join!(client.simple_query(endless), others);
        assert_eq!(code(&computed.unwrap_err()), "57014");
        assert_eq!(count(&client, "SELECT 2::BIGINT").await, 2);
    });
}

#[test]
fn a_parameter_that_does_not_fit_is_refused() {
    block_on(async {
        let server = Server::start();
        let client = server.connect().await;
        client
            .batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY, i INTEGER)")
            .await
            .unwrap();
        let insert = "INSERT INTO t VALUES ($1, $2)";
        let typed = [Type::INT8, Type::INT8];
        let insert = client.prepare_typed(insert, &typed).await.unwrap();
        client.execute(&insert, &[&1_i64, &7_i64]).await.unwrap();
        let refused = client.execute(&insert, &[&2_i64, &(1_i64 << 40)]).await;
        assert_eq!(code(&refused.unwrap_err()), "22003");
        let update = "UPDATE t SET i = $1";
        let update = client.prepare_typed(update, &[Type::INT8]).await.unwrap();
        let refused = client.execute(&update, &[&(1_i64 << 40)]).await;
        assert_eq!(code(&refused.unwrap_err()), "22003");
        assert_eq!(count(&client, "SELECT sum(i)::BIGINT FROM t").await, 7);
    });
}
