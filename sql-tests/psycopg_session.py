"""A session with psycopg: parameters, binary results, COPY, a cursor over a subscription, errors.

Usage: psycopg_session.py PORT. Prints "done" when everything was as expected.
"""

import datetime
import decimal
import sys

import psycopg

ADDRESS = f"host=127.0.0.1 port={sys.argv[1]} user=somebody dbname=tidemill"


def check(actual, expected):
    if actual != expected:
        raise AssertionError(f"{actual!r} instead of {expected!r}")


def values(connection):
    connection.execute(
        "CREATE TABLE t (id BIGINT PRIMARY KEY, x TEXT, n NUMERIC(20,5), f DOUBLE PRECISION,"
        " b BOOLEAN, d DATE, ts TIMESTAMP, tz TIMESTAMPTZ, y BYTEA)"
    )
    connection.execute("CREATE MATERIALIZED VIEW v AS SELECT x, count(*) AS n FROM t GROUP BY x")
    row = (
        1,
        "it's \u00e9\u20ac",
        decimal.Decimal("-12345.67891"),
        0.1,
        True,
        datetime.date(2026, 2, 28),
        datetime.datetime(1969, 12, 31, 23, 59, 59, 999999),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        b"\x00\xff",
    )
    insert = "INSERT INTO t VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
    connection.execute(insert, row)
    connection.execute(insert, (2,) + (None,) * 8)
    for binary in (False, True):
        cursor = connection.cursor(binary=binary)
        check(cursor.execute("SELECT * FROM t WHERE id = %s", (1,)).fetchone(), row)
        check(cursor.execute("SELECT * FROM t WHERE id = 2").fetchone(), (2,) + (None,) * 8)
    check(connection.execute("SELECT n FROM v WHERE x = %s", (row[1],)).fetchall(), [(1,)])
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO t (id, x) VALUES (%s, %s)", [(3, "a"), (4, "a")])
    check(connection.execute("SELECT n FROM v WHERE x = 'a'").fetchone(), (2,))


def copies(connection):
    connection.execute("CREATE TABLE c (id BIGINT PRIMARY KEY, x TEXT)")
    with connection.cursor() as cursor:
        with cursor.copy("COPY c FROM STDIN") as copy:
            for number in range(1000):
                copy.write_row((number, None if number % 2 else f"text\t{number}"))
        with cursor.copy("COPY (SELECT * FROM c ORDER BY id) TO STDOUT") as copy:
            copy.set_types(["int8", "text"])
            rows = list(copy.rows())
    check(len(rows), 1000)
    check(rows[:2], [(0, "text\t0"), (1, None)])


def subscription(connection):
    connection.execute("CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM c")
    with psycopg.connect(ADDRESS) as reader:
        reader.execute("DECLARE s CURSOR FOR SUBSCRIBE TO w")
        snapshot = reader.execute("FETCH 10 FROM s WITH (timeout = '10s')").fetchall()
        check([row[1:] for row in snapshot], [(1, 1000)])
        connection.execute("DELETE FROM c WHERE id < 400")
        changes = reader.execute("FETCH 10 FROM s WITH (timeout = '10s')").fetchall()
        check([row[1:] for row in changes], [(-1, 1000), (1, 600)])
        check(reader.execute("FETCH 10 FROM s WITH (timeout = '0s')").fetchall(), [])


def transactions(connection):
    try:
        with connection.transaction():
            connection.execute("INSERT INTO c VALUES (5000, 'x')")
            connection.execute("INSERT INTO c VALUES (5000, 'again')")
        raise AssertionError("a repeated key was taken")
    except psycopg.errors.UniqueViolation:
        pass
    check(connection.execute("SELECT count(*) FROM c WHERE id = 5000").fetchone(), (0,))
    try:
        connection.execute("SELECT * FROM nobody")
        raise AssertionError("a table that is not there was read")
    except psycopg.errors.UndefinedTable:
        pass


def parameters(connection):
    check(connection.execute("SELECT %s, %s", (1, "a")).fetchone(), (1, "a"))
    check(connection.execute("SELECT %s + %s", (1, 2)).fetchone(), (3,))
    check(connection.execute("SELECT %s", (None,)).fetchone(), (None,))
    rows = connection.execute("SELECT id FROM c WHERE id = ANY(%s) ORDER BY id", ([401, 402, 7],))
    check(rows.fetchall(), [(401,), (402,)])
    rows = connection.execute("SELECT id FROM c WHERE x = ANY(%s)", (["text\t402", "none"],))
    check(rows.fetchall(), [(402,)])
    hour = datetime.timedelta(hours=1)
    check(connection.execute("SELECT now() - %s < now()", (hour,)).fetchone(), (True,))
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    check(connection.execute("SELECT %s + %s", (moment, hour)).fetchone(), (moment + hour,))
    with psycopg.connect(ADDRESS) as reader:
        with reader.cursor("named") as cursor:
            cursor.execute("SELECT id, x FROM c WHERE id > %s ORDER BY id", (996,))
            check([column.name for column in cursor.description], ["id", "x"])
            check(cursor.fetchmany(2), [(997, None), (998, "text\t998")])
            check(cursor.fetchall(), [(999, None)])


def pipeline(connection):
    try:
        with connection.pipeline():
            connection.execute("INSERT INTO c VALUES (6000, 'x')")
            connection.execute("INSERT INTO c VALUES (6000, 'again')")
        raise AssertionError("a repeated key was taken")
    except psycopg.errors.UniqueViolation:
        pass
    check(connection.execute("SELECT count(*) FROM c WHERE id = 6000").fetchone(), (0,))


with psycopg.connect(ADDRESS, autocommit=True) as session:
    values(session)
    copies(session)
    subscription(session)
    transactions(session)
    parameters(session)
    pipeline(session)
print("done")
