"""What psycopg 3 does by default and on request, against a node on the port in argv."""

import datetime
import decimal
import sys
import uuid

import psycopg

with psycopg.connect(f"host=127.0.0.1 port={sys.argv[1]} user=postgres dbname=postgres") as connection:
    cursor = connection.cursor()
    cursor.execute(
        "CREATE TABLE p (i int PRIMARY KEY, t text, n numeric, b bytea, d date,"
        " z timestamptz, u uuid, f float8, x bool)"
    )
    row = (
        1,
        "häß",
        decimal.Decimal("12.30"),
        b"\x00\xff",
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
        uuid.UUID(int=7),
        0.1,
        True,
    )
    cursor.execute("INSERT INTO p VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", row)
    connection.commit()
    for binary in (False, True):
        found = connection.cursor(binary=binary).execute("SELECT * FROM p WHERE i = %s", (1,)).fetchone()
        assert found == row, (binary, found)
    # Prepared after the fifth time.
    for i in range(2, 12):
        cursor.execute("INSERT INTO p (i, t) VALUES (%s, %s)", (i, None))
    connection.commit()
    with connection.pipeline():
        cursors = [connection.execute("SELECT t FROM p WHERE i = %s", (i,)) for i in range(1, 5)]
        assert [c.fetchone()[0] for c in cursors] == ["häß", None, None, None]
    connection.commit()
    with cursor.copy("COPY p (i, t) FROM STDIN") as copy:
        for i in range(100, 200):
            copy.write_row((i, f"row\t{i}"))
    with cursor.copy("COPY p (i, t) TO STDOUT") as copy:
        rows = list(copy.rows())
    assert len(rows) == 111 and ("150", "row\t150") in rows, rows[:3]
    connection.commit()
    try:
        cursor.execute("INSERT INTO p (i) VALUES (1)")
    except psycopg.errors.UniqueViolation as error:
        assert error.diag.constraint_name == "p_pkey", error.diag.constraint_name
    else:
        raise AssertionError("a duplicate was taken")
    connection.rollback()
    assert cursor.execute("SELECT count(*) FROM p").fetchone() == (111,)
print("ok")
