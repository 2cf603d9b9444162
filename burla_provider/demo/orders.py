"""The table of the demo: any number of orders, always the same ones."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import LiteralString, NamedTuple

import psycopg
from psycopg import sql

_DATA_VERSION = "demo orders, edition 1"
_MIN_BATCH = 250_000

_TABLE: LiteralString = """
    DROP TABLE IF EXISTS orders;
    CREATE TABLE orders (
        id bigint NOT NULL,
        customer_id integer NOT NULL,
        amount numeric(12, 2) NOT NULL,
        status text NOT NULL,
        created_at timestamptz NOT NULL,
        note text
    )"""

# Every 96th id and 3,000 ids after each 10,000 are missing, as if deleted. One order in a thousand is large.
# Half of the orders have no note: the subscript is beyond the end of the array.
_ROWS: LiteralString = """
    INSERT INTO orders
    SELECT
        n + n / 95 + n / 10000 * 3000,
        n * 7919 %% 50021 + 1,
        ((n * 48271 %% 99991 + 100) * CASE WHEN n %% 1000 = 0 THEN 37 ELSE 1 END)::numeric / 100,
        (ARRAY['paid', 'paid', 'paid', 'shipped', 'open', 'refunded'])[n %% 6 + 1],
        timestamptz '2024-01-01 00:00:00Z' + n * 13 * interval '1 second',
        (ARRAY['gift', 'urgent: by Friday', 'Größe L, bitte', 'ring twice', 'call before delivery'])[n * 31 %% 10 + 1]
    FROM generate_series(%s::bigint, %s) AS n"""


class Totals(NamedTuple):
    """The totals of the table."""

    row_count: int
    total_amount: Decimal


def create_orders(conninfo: str, rows: int, progress: Callable[[int], None]) -> bool:
    """Create ``orders`` with ``rows`` rows, unless it exists.

    :param progress: called after each batch with the number of rows inserted so far.
    :returns: whether the table was created.
    """
    comment = f"{_DATA_VERSION}, {rows} rows"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        if _exists(connection, rows, comment):
            return False
        with connection.transaction():
            connection.execute(_TABLE)
            batch = max(rows // 10, _MIN_BATCH)
            for first in range(1, rows + 1, batch):
                last = min(first + batch - 1, rows)
                connection.execute(_ROWS, [first, last])
                progress(last)
            connection.execute("ALTER TABLE orders ADD PRIMARY KEY (id)")
            connection.execute(sql.SQL("COMMENT ON TABLE orders IS {}").format(comment))
        # Otherwise PostgreSQL counts these rows after ANALYZE, as rows that changed since.
        if connection.info.server_version >= 150000:
            connection.execute("SELECT pg_stat_force_next_flush()")
        connection.execute("VACUUM ANALYZE orders")
        return True


def query_totals(conninfo: str) -> Totals:
    """Return the totals of one SQL query."""
    with psycopg.connect(conninfo) as connection, connection.cursor() as cursor:
        return Totals(*cursor.execute("SELECT count(*), coalesce(sum(amount), 0) FROM orders").fetchall()[0])


def _exists(connection: psycopg.Connection, rows: int, comment: str) -> bool:
    row = connection.execute("SELECT obj_description(to_regclass('orders'), 'pg_class')").fetchone()
    # Rows may have been added or deleted since.
    return row == (comment,) and connection.execute("SELECT count(*) FROM orders").fetchone() == (rows,)
