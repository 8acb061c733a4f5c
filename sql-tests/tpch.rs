//! TPC-H: its 22 queries as materialized views over tables that are loaded in a random order, with
//! rows that go and come again in between. After each part of the load every view must be what its
//! query gives as a SELECT, and at the end, when all rows are gone, what it gives over nothing.
//!
//! The rows are few brands, types, nations and dates and always the same, so that every query
//! finds some. What is drawn is the order in which they come, go and come again:
//! `TIDEMILL_TPCH_PARTS` says in how many parts the load is looked at (3), the seed is
//! `TIDEMILL_TEST_SEED` or drawn, and printed.

use std::collections::BTreeMap;

use fastrand::Rng;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::crash::seed;
use crate::server::{Server, block_on};
use crate::tpch_queries::QUERIES;

const TABLES: &str = "
    CREATE TABLE region (r_regionkey BIGINT PRIMARY KEY, r_name TEXT, r_comment TEXT);
    CREATE TABLE nation (n_nationkey BIGINT PRIMARY KEY, n_name TEXT, n_regionkey BIGINT,
      n_comment TEXT);
    CREATE TABLE supplier (s_suppkey BIGINT PRIMARY KEY, s_name TEXT, s_address TEXT,
      s_nationkey BIGINT, s_phone TEXT, s_acctbal DECIMAL(15, 2), s_comment TEXT);
    CREATE TABLE customer (c_custkey BIGINT PRIMARY KEY, c_name TEXT, c_address TEXT,
      c_nationkey BIGINT, c_phone TEXT, c_acctbal DECIMAL(15, 2), c_mktsegment TEXT,
      c_comment TEXT);
    CREATE TABLE part (p_partkey BIGINT PRIMARY KEY, p_name TEXT, p_mfgr TEXT, p_brand TEXT,
      p_type TEXT, p_size INTEGER, p_container TEXT, p_retailprice DECIMAL(15, 2),
      p_comment TEXT);
    CREATE TABLE partsupp (ps_partkey BIGINT, ps_suppkey BIGINT, ps_availqty INTEGER,
      ps_supplycost DECIMAL(15, 2), ps_comment TEXT, PRIMARY KEY (ps_partkey, ps_suppkey));
    CREATE TABLE orders (o_orderkey BIGINT PRIMARY KEY, o_custkey BIGINT, o_orderstatus TEXT,
      o_totalprice DECIMAL(15, 2), o_orderdate DATE, o_orderpriority TEXT, o_clerk TEXT,
      o_shippriority INTEGER, o_comment TEXT);
    CREATE TABLE lineitem (l_orderkey BIGINT, l_partkey BIGINT, l_suppkey BIGINT,
      l_linenumber INTEGER, l_quantity DECIMAL(15, 2), l_extendedprice DECIMAL(15, 2),
      l_discount DECIMAL(15, 2), l_tax DECIMAL(15, 2), l_returnflag TEXT, l_linestatus TEXT,
      l_shipdate DATE, l_commitdate DATE, l_receiptdate DATE, l_shipinstruct TEXT,
      l_shipmode TEXT, l_comment TEXT, PRIMARY KEY (l_orderkey, l_linenumber));";

/// What the rows are drawn from.
const ROWS: u64 = 1;

/// A row: its table, the condition that finds it, and its values.
struct Row {
    table: &'static str,
    key: String,
    values: String,
}

#[test]
fn every_query_of_tpch_is_kept_up_to_date() {
    let parts = std::env::var("TIDEMILL_TPCH_PARTS").ok();
    let parts = parts.map_or(3, |parts| parts.parse().unwrap());
    block_on(load_and_compare(parts));
}

async fn load_and_compare(parts: usize) {
    let mut random = Rng::with_seed(seed());
    let server = Server::start();
    let client = server.connect().await;
    client.batch_execute(TABLES).await.unwrap();
    for (number, query) in QUERIES {
        let create = format!("CREATE MATERIALIZED VIEW q{number} AS {query}");
        let created = client.batch_execute(&create).await;
        created.unwrap_or_else(|error| panic!("q{number}: {error:?}"));
    }
    let mut rows = rows(&mut Rng::with_seed(ROWS));
    random.shuffle(&mut rows);
    let length = rows.len().div_ceil(parts);
    let mut found = [false; QUERIES.len()];
    let mut loaded = 0;
    while loaded < rows.len() {
        let end = (loaded + length).min(rows.len());
        insert(&client, &rows[loaded..end]).await;
        loaded = end;
        // Some of the rows go, and come again.
        let going: Vec<usize> = (0..loaded).filter(|_| random.u8(..10) == 0).collect();
        delete(&client, going.iter().map(|&at| &rows[at])).await;
        compare(&client, &mut found).await;
        let again: Vec<&Row> = going.iter().map(|&at| &rows[at]).collect();
        insert(&client, again).await;
    }
    compare(&client, &mut found).await;
    let empty: Vec<u32> = QUERIES
        .iter()
        .zip(found)
        .filter(|(_, found)| !found)
        .map(|(q, _)| q.0)
        .collect();
    assert!(empty.is_empty(), "queries {empty:?} never found a row");
    delete(&client, &rows).await;
    compare(&client, &mut found).await;
}

/// Every view against its query.
async fn compare(client: &Client, found: &mut [bool]) {
    for ((number, query), found) in QUERIES.iter().zip(found) {
        let view = answer(client, &format!("SELECT * FROM q{number}")).await;
        assert_eq!(view, answer(client, query).await, "q{number}");
        *found |= view.iter().any(|row| row.iter().any(Option::is_some));
    }
}

/// The rows of a query as texts, sorted.
async fn answer(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(sql).await;
    let messages = messages.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let row = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let value = |column| row.get(column).map(str::to_string);
            Some((0..row.len()).map(value).collect())
        }
        _ => None,
    };
    let mut rows: Vec<Vec<Option<String>>> = messages.into_iter().filter_map(row).collect();
    rows.sort();
    rows
}

/// One statement per table and part.
async fn insert<'a>(client: &Client, rows: impl IntoIterator<Item = &'a Row>) {
    let mut tables: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows {
        tables.entry(row.table).or_default().push(&row.values);
    }
    for (table, values) in tables {
        let sql = format!("INSERT INTO {table} VALUES {}", values.join(", "));
        client.batch_execute(&sql).await.unwrap();
    }
}

async fn delete<'a>(client: &Client, rows: impl IntoIterator<Item = &'a Row>) {
    let mut tables: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows {
        tables.entry(row.table).or_default().push(&row.key);
    }
    for (table, keys) in tables {
        for keys in keys.chunks(100) {
            let sql = format!("DELETE FROM {table} WHERE {}", keys.join(" OR "));
            client.batch_execute(&sql).await.unwrap();
        }
    }
}

const REGIONS: [&str; 5] = ["AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST"];

/// Each with its region.
const NATIONS: [(&str, usize); 8] = [
    ("BRAZIL", 1),
    ("CANADA", 1),
    ("FRANCE", 3),
    ("GERMANY", 3),
    ("INDIA", 2),
    ("JAPAN", 2),
    ("KENYA", 0),
    ("SAUDI ARABIA", 4),
];

const COUNTS: [(&str, u32); 5] = [
    ("supplier", 10),
    ("customer", 30),
    ("part", 40),
    ("orders", 110),
    ("lines of an order, at most", 6),
];

fn pick<'a>(random: &mut Rng, of: &[&'a str]) -> &'a str {
    of[random.usize(..of.len())]
}

fn cents(random: &mut Rng, from: i64, to: i64) -> String {
    let cents = random.i64(from..=to);
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
}

fn day(random: &mut Rng) -> String {
    let (year, month) = (random.u32(1993..=1996), random.u32(1..=12));
    format!("'{year}-{month:02}-{:02}'", random.u32(1..=28))
}

fn rows(random: &mut Rng) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |table: &'static str, key: &[(&str, u32)], values: Vec<String>| {
        let equal = key.iter().map(|(name, value)| format!("{name} = {value}"));
        rows.push(Row {
            table,
            key: format!("({})", equal.collect::<Vec<_>>().join(" AND ")),
            values: format!("({})", values.join(", ")),
        });
    };
    let text = |value: &str| format!("'{value}'");
    let [suppliers, customers, parts, orders, lines] = COUNTS.map(|(_, count)| count);
    for (key, name) in (0..).zip(REGIONS) {
        let values = vec![key.to_string(), text(name), text("")];
        add("region", &[("r_regionkey", key)], values);
    }
    for (key, (name, region)) in (0..).zip(NATIONS) {
        let values = vec![key.to_string(), text(name), region.to_string(), text("")];
        add("nation", &[("n_nationkey", key)], values);
    }
    let nations = NATIONS.len();
    for key in 0..suppliers {
        let comment = pick(random, &["slow", "Customer xy Complaints", "", "ok"]);
        let values = vec![
            key.to_string(),
            text(&format!("Supplier#{key}")),
            text(&format!("street {key}")),
            // Every nation has one.
            (key % u32::try_from(nations).unwrap()).to_string(),
            text(&format!("{}-55", random.u32(10..34))),
            cents(random, -10_000, 900_000),
            text(comment),
        ];
        add("supplier", &[("s_suppkey", key)], values);
    }
    for key in 0..customers {
        let country = pick(random, &["13", "31", "23", "29", "11"]);
        let values = vec![
            key.to_string(),
            text(&format!("Customer#{key}")),
            text(&format!("road {key}")),
            random.usize(..nations).to_string(),
            text(&format!("{country}-{key}")),
            cents(random, -90_000, 900_000),
            text(pick(random, &["BUILDING", "MACHINERY"])),
            text(""),
        ];
        add("customer", &[("c_custkey", key)], values);
    }
    let types = [
        "ECONOMY ANODIZED STEEL",
        "PROMO BRASS",
        "MEDIUM POLISHED BRASS",
        "SMALL BRASS",
    ];
    let containers = ["MED BOX", "SM CASE", "LG PKG"];
    for key in 0..parts {
        let values = vec![
            key.to_string(),
            text(pick(
                random,
                &["forest green", "pale green", "forest", "red"],
            )),
            text("Manufacturer#1"),
            text(pick(
                random,
                &["Brand#12", "Brand#23", "Brand#34", "Brand#45"],
            )),
            text(pick(random, &types)),
            pick(random, &["1", "3", "9", "15"]).to_string(),
            text(pick(random, &containers)),
            cents(random, 100, 100_000),
            text(""),
        ];
        add("part", &[("p_partkey", key)], values);
        for supplier in 0..3 {
            let supplier = (key + supplier * 3) % suppliers;
            let values = vec![
                key.to_string(),
                supplier.to_string(),
                random.u32(1..100).to_string(),
                cents(random, 100, 500),
                text(""),
            ];
            add(
                "partsupp",
                &[("ps_partkey", key), ("ps_suppkey", supplier)],
                values,
            );
        }
    }
    let priorities = ["1-URGENT", "2-HIGH", "3-MEDIUM", "5-LOW"];
    for key in 0..orders {
        let comment = pick(random, &["", "special fast requests", "none"]);
        let values = vec![
            key.to_string(),
            // Some customers have no orders.
            random.u32(..customers * 3 / 4).to_string(),
            text(pick(random, &["F", "F", "O"])),
            cents(random, 10_000, 9_000_000),
            day(random),
            text(pick(random, &priorities)),
            text("Clerk#1"),
            "0".to_string(),
            text(comment),
        ];
        add("orders", &[("o_orderkey", key)], values);
        for line in 0..random.u32(1..=lines) {
            let part = random.u32(..parts);
            let supplier = (part + random.u32(..3) * 3) % suppliers;
            let values = vec![
                key.to_string(),
                part.to_string(),
                supplier.to_string(),
                line.to_string(),
                random.u32(1..=50).to_string(),
                cents(random, 10_000, 9_000_000),
                cents(random, 0, 10),
                cents(random, 0, 8),
                text(pick(random, &["R", "A", "N"])),
                text(pick(random, &["F", "O"])),
                day(random),
                day(random),
                day(random),
                text(pick(random, &["DELIVER IN PERSON", "NONE"])),
                text(pick(random, &["MAIL", "SHIP", "AIR", "AIR REG"])),
                text(""),
            ];
            add(
                "lineitem",
                &[("l_orderkey", key), ("l_linenumber", line)],
                values,
            );
        }
    }
    rows
}
