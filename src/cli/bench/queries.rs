//! What is measured: some queries of the Nexmark suite, and the ones a user starts with.

/// A kind of rows that a query reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feed {
    /// Nexmark's bids, 46 of 50 events.
    Bids,
    /// Nexmark's auctions, 3 of 50 events.
    Auctions,
    /// Nexmark's persons, 1 of 50 events.
    Persons,
    /// A bigint key out of a million, and a number.
    Keyed,
}

impl Feed {
    /// The name of the source, and of its topic's end.
    pub fn name(self) -> &'static str {
        match self {
            Feed::Bids => "bids",
            Feed::Auctions => "auctions",
            Feed::Persons => "persons",
            Feed::Keyed => "events",
        }
    }

    /// The declared columns: all that the generator and the JSON records have.
    pub fn columns(self) -> &'static str {
        match self {
            Feed::Bids => {
                "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, \
                 ts TIMESTAMPTZ, extra VARCHAR, \
                 WATERMARK FOR ts AS ts - INTERVAL '4 seconds'"
            }
            Feed::Auctions => {
                "id BIGINT, itemname VARCHAR, description VARCHAR, initialbid BIGINT, \
                 reserve BIGINT, ts TIMESTAMPTZ, expires TIMESTAMPTZ, seller BIGINT, \
                 category BIGINT, extra VARCHAR, \
                 WATERMARK FOR ts AS ts - INTERVAL '4 seconds'"
            }
            Feed::Persons => {
                "id BIGINT, name VARCHAR, emailaddress VARCHAR, creditcard VARCHAR, city VARCHAR, \
                 state VARCHAR, ts TIMESTAMPTZ, extra VARCHAR, \
                 WATERMARK FOR ts AS ts - INTERVAL '4 seconds'"
            }
            Feed::Keyed => {
                "key BIGINT, value BIGINT, ts TIMESTAMPTZ, \
                 WATERMARK FOR ts AS ts - INTERVAL '4 seconds'"
            }
        }
    }
}

/// When a view's rows appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    OnUpdate,
    /// Windows that have closed, by their `window_end`.
    OnClose,
}

/// One benchmark.
#[derive(Debug)]
pub(super) struct Query {
    pub name: &'static str,
    pub about: &'static str,
    /// The sources; the first is the main one, whose rows are counted by `--rows`.
    pub feeds: &'static [Feed],
    /// For each feed the columns that the query and the watermark use: what has to be decoded.
    pub columns: &'static [&'static [&'static str]],
    /// The view, as SELECT.
    pub select: &'static str,
    /// When its rows appear.
    pub shows: Shows,
    /// The view's key, by which a reader looks up single rows; empty where it has none.
    pub key: &'static [&'static str],
}

impl Query {
    /// The EMIT clause, with a space before it.
    pub fn emit(&self) -> &'static str {
        match self.shows {
            Shows::OnUpdate => "",
            Shows::OnClose => " EMIT ON WINDOW CLOSE",
        }
    }

    /// What the view holds, as a SELECT over the sources.
    pub fn batch(&self) -> String {
        match self.shows {
            Shows::OnUpdate => self.select.to_string(),
            Shows::OnClose => format!(
                "SELECT * FROM ({}) every_window WHERE window_end <= \
                 (SELECT watermark FROM tidemill.views WHERE name = 'answer')",
                self.select
            ),
        }
    }
}

/// All of them, in the order in which they run.
pub(super) const QUERIES: &[Query] = &[
    Query {
        name: "q0",
        about: "every bid as it is",
        feeds: &[Feed::Bids],
        columns: &[&["auction", "bidder", "price", "ts", "extra"]],
        select: "SELECT auction, bidder, price, ts, extra FROM bids",
        shows: Shows::OnUpdate,
        key: &[],
    },
    Query {
        name: "q1",
        about: "every bid with its price in another currency",
        feeds: &[Feed::Bids],
        columns: &[&["auction", "bidder", "price", "ts", "extra"]],
        select: "SELECT auction, bidder, 0.908 * price AS price, ts, extra FROM bids",
        shows: Shows::OnUpdate,
        key: &[],
    },
    Query {
        name: "q2",
        about: "the bids on some auctions",
        feeds: &[Feed::Bids],
        columns: &[&["auction", "price", "ts"]],
        select: "SELECT auction, price FROM bids WHERE auction % 123 = 0",
        shows: Shows::OnUpdate,
        key: &[],
    },
    Query {
        name: "q5",
        about: "the auctions with the most bids in 10 s, every 2 s (HOP, join)",
        feeds: &[Feed::Bids],
        columns: &[&["auction", "ts"]],
        select: "\
SELECT a.auction, a.num, a.window_start, a.window_end
FROM (SELECT auction, count(*) AS num, window_start, window_end
      FROM HOP(bids, ts, INTERVAL '2 seconds', INTERVAL '10 seconds')
      GROUP BY auction, window_start, window_end) a
JOIN (SELECT max(num) AS most, window_start, window_end
      FROM (SELECT auction, count(*) AS num, window_start, window_end
            FROM HOP(bids, ts, INTERVAL '2 seconds', INTERVAL '10 seconds')
            GROUP BY auction, window_start, window_end) c
      GROUP BY window_start, window_end) m
ON a.window_start = m.window_start AND a.window_end = m.window_end AND a.num = m.most",
        shows: Shows::OnUpdate,
        key: &[],
    },
    Query {
        name: "q7",
        about: "the highest bid of every 10 s (TUMBLE, max, join)",
        feeds: &[Feed::Bids],
        columns: &[&["auction", "bidder", "price", "ts"]],
        select: "\
SELECT b.auction, b.price, b.bidder, b.ts, b.window_end
FROM TUMBLE(bids, ts, INTERVAL '10 seconds') b
JOIN (SELECT max(price) AS highest, window_start, window_end
      FROM TUMBLE(bids, ts, INTERVAL '10 seconds')
      GROUP BY window_start, window_end) m
ON b.price = m.highest AND b.window_start = m.window_start AND b.window_end = m.window_end",
        shows: Shows::OnUpdate,
        key: &[],
    },
    Query {
        name: "q8",
        about: "persons who open an auction in the 10 s in which they register (window join)",
        feeds: &[Feed::Auctions, Feed::Persons],
        columns: &[&["seller", "ts"], &["id", "name", "ts"]],
        select: "\
SELECT p.id, p.name, p.window_start, p.window_end
FROM (SELECT id, name, window_start, window_end
      FROM TUMBLE(persons, ts, INTERVAL '10 seconds')
      GROUP BY id, name, window_start, window_end) p
JOIN (SELECT seller, window_start, window_end
      FROM TUMBLE(auctions, ts, INTERVAL '10 seconds')
      GROUP BY seller, window_start, window_end) a
ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end",
        shows: Shows::OnUpdate,
        key: &["id", "window_start", "window_end"],
    },
    Query {
        name: "q11",
        about: "the bids of each bidder's sessions, 10 s apart (SESSION)",
        feeds: &[Feed::Bids],
        columns: &[&["bidder", "ts"]],
        select: "\
SELECT bidder, count(*) AS bids, window_start, window_end
FROM SESSION(bids PARTITION BY bidder, ts, INTERVAL '10 seconds')
GROUP BY bidder, window_start, window_end",
        shows: Shows::OnUpdate,
        key: &["bidder", "window_start", "window_end"],
    },
    Query {
        name: "session",
        about: "sessions of 100,000 keys, 10 s apart: count and sum (SESSION)",
        feeds: &[Feed::Keyed],
        columns: &[&["key", "value", "ts"]],
        select: "\
SELECT visitor, window_start, window_end, count(*) AS visits, sum(value) AS total
FROM SESSION((SELECT key % 100000 AS visitor, value, ts FROM events) PARTITION BY visitor, ts,
             INTERVAL '10 seconds')
GROUP BY visitor, window_start, window_end",
        shows: Shows::OnUpdate,
        key: &["visitor", "window_start", "window_end"],
    },
    Query {
        name: "tumble",
        about: "bids per auction and 10 s: count, sum and max",
        feeds: &[Feed::Bids],
        columns: &[&["auction", "price", "ts"]],
        select: "\
SELECT auction, window_start, window_end,
       count(*) AS bids, sum(price) AS total, max(price) AS top
FROM TUMBLE(bids, ts, INTERVAL '10 seconds')
GROUP BY auction, window_start, window_end",
        shows: Shows::OnUpdate,
        key: &["auction", "window_start", "window_end"],
    },
    Query {
        name: "hop",
        about: "bids per auction in 10 s, every 2 s, on close: count, sum and max (HOP)",
        feeds: &[Feed::Bids],
        columns: &[&["auction", "price", "ts"]],
        select: "\
SELECT auction, window_start, window_end,
       count(*) AS bids, sum(price) AS total, max(price) AS top
FROM HOP(bids, ts, INTERVAL '2 seconds', INTERVAL '10 seconds')
GROUP BY auction, window_start, window_end",
        shows: Shows::OnClose,
        key: &["auction", "window_start", "window_end"],
    },
    Query {
        name: "hop60",
        about: "bids per group of bidders in 60 s, every second, on close (HOP)",
        feeds: &[Feed::Bids],
        columns: &[&["bidder", "price", "ts"]],
        select: "\
SELECT bidder % 500 AS bidders, window_start, window_end,
       count(*) AS bids, sum(price) AS total, max(price) AS top
FROM HOP(bids, ts, INTERVAL '1 second', INTERVAL '60 seconds')
GROUP BY bidder % 500, window_start, window_end",
        shows: Shows::OnClose,
        key: &["bidders", "window_start", "window_end"],
    },
    Query {
        name: "tumble60",
        about: "the same in 60 s, one after the other, on close (TUMBLE)",
        feeds: &[Feed::Bids],
        columns: &[&["bidder", "price", "ts"]],
        select: "\
SELECT bidder % 500 AS bidders, window_start, window_end,
       count(*) AS bids, sum(price) AS total, max(price) AS top
FROM TUMBLE(bids, ts, INTERVAL '60 seconds')
GROUP BY bidder % 500, window_start, window_end",
        shows: Shows::OnClose,
        key: &["bidders", "window_start", "window_end"],
    },
    Query {
        name: "hop60u",
        about: "hop60 on update: every window that a step touches goes out again (HOP)",
        feeds: &[Feed::Bids],
        columns: &[&["bidder", "price", "ts"]],
        select: "\
SELECT bidder % 500 AS bidders, window_start, window_end,
       count(*) AS bids, sum(price) AS total, max(price) AS top
FROM HOP(bids, ts, INTERVAL '1 second', INTERVAL '60 seconds')
GROUP BY bidder % 500, window_start, window_end",
        shows: Shows::OnUpdate,
        key: &["bidders", "window_start", "window_end"],
    },
    Query {
        name: "group",
        about: "a million keys without windows: count, sum and max",
        feeds: &[Feed::Keyed],
        columns: &[&["key", "value", "ts"]],
        select: "SELECT key, count(*) AS n, sum(value) AS total, max(value) AS top \
                 FROM events GROUP BY key",
        shows: Shows::OnUpdate,
        key: &["key"],
    },
    Query {
        name: "interval",
        about: "every auction with the bids of its first 10 s (interval join)",
        feeds: &[Feed::Bids, Feed::Auctions],
        columns: &[
            &["auction", "bidder", "price", "ts"],
            &["id", "seller", "ts"],
        ],
        select: "SELECT b.auction, b.bidder, b.price, b.ts, a.seller \
                 FROM bids b JOIN auctions a ON b.auction = a.id \
                 AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '10 seconds'",
        shows: Shows::OnUpdate,
        key: &[],
    },
    Query {
        name: "join",
        about: "every bid with its auction",
        feeds: &[Feed::Bids, Feed::Auctions],
        columns: &[
            &["auction", "bidder", "price", "ts"],
            &["id", "seller", "category", "ts"],
        ],
        select: "SELECT b.auction, b.bidder, b.price, a.seller, a.category \
                 FROM bids b JOIN auctions a ON b.auction = a.id",
        shows: Shows::OnUpdate,
        key: &[],
    },
    Query {
        name: "q18",
        about: "the last bid of each bidder in each auction",
        feeds: &[Feed::Bids],
        columns: &[&["auction", "bidder", "price", "ts"]],
        select: "\
SELECT auction, bidder, price, ts FROM (
  SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY ts DESC, price) AS place
  FROM bids) b
WHERE place = 1",
        shows: Shows::OnUpdate,
        key: &["bidder", "auction"],
    },
    Query {
        name: "over",
        about: "every bid with the sum so far, the bid before it and the dearest of 100 (OVER)",
        feeds: &[Feed::Bids],
        columns: &[&["auction", "bidder", "price", "ts"]],
        select: "\
SELECT auction, bidder, price, ts,
       sum(price) OVER (ORDER BY ts, bidder, auction, price) AS total,
       lag(price) OVER (ORDER BY ts, bidder, auction, price) AS before,
       max(price) OVER (ORDER BY ts, bidder, auction, price
                        ROWS BETWEEN 99 PRECEDING AND CURRENT ROW) AS top
FROM bids",
        shows: Shows::OnUpdate,
        key: &[],
    },
    Query {
        name: "q19",
        about: "the ten dearest bids of each auction, with their places",
        feeds: &[Feed::Bids],
        columns: &[&["auction", "bidder", "price", "ts"]],
        select: "\
SELECT auction, bidder, price, ts, place FROM (
  SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, ts, bidder) AS place
  FROM bids) b
WHERE place <= 10",
        shows: Shows::OnUpdate,
        key: &["auction", "place"],
    },
];
