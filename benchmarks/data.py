"""The tables: built by the server itself, the same ones every time, and kept from run to run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from benchmarks.checksum import checksum
from benchmarks.task import Task
from burla_provider.demo.cluster import WORKER_NETWORKS, find_bridge
from burla_provider.demo.postgres import EmbeddedPostgres
from burla_provider.exceptions import ClusterNotFoundError

HOME = Path(tempfile.gettempdir()) / "burla-benchmarks"
"""Where the tables stay from run to run."""

EDITION = 1
NARROW = ("id", "amount")
WIDE = ("id", "amount", "label", "note")
SHARE = 20
"""The wide and the skewed tables have one row for so many orders: as much as slow sides have the time for."""

SKEWS = (0, 80, 99)
"""Percent of a skewed table's rows that are in one percent of its ids."""

_SETTINGS = {
    "shared_buffers": "1GB",
    "fsync": "off",
    "autovacuum": "off",
    "max_wal_size": "8GB",
    "max_connections": "100",
}
_AMOUNT = "((n * 48271 % 99991 + 100) * CASE WHEN n % 1000 = 0 THEN 37 ELSE 1 END)::numeric(12, 2) / 100"

# The older half of the ids are sparse, one in nine, as if purged; the newer half are dense but for every 96th.
_ORDERS_ID = "CASE WHEN n <= {rows} / 2 THEN n * 9 + n % 5 ELSE {rows} / 2 * 8 + n + (n - {rows} / 2) / 95 + 9 END"

_ORDERS = f"""
    SELECT ({_ORDERS_ID})::bigint AS id, (n * 7919 % 50021 + 1)::integer AS customer_id,
           ({_AMOUNT})::numeric(12, 2) AS amount,
           (ARRAY['paid', 'paid', 'paid', 'shipped', 'open', 'refunded'])[n % 6 + 1] AS status,
           timestamptz '2024-01-01 00:00:00Z' + n * 13 * interval '1 second' AS created_at
    FROM generate_series(1::bigint, {{rows}}) AS n
"""
_WIDE = f"""
    SELECT n * 3 AS id, ({_AMOUNT})::numeric(12, 2) AS amount, rpad(md5(n::text), 80, md5(n::text || 'x')) AS label,
           repeat(md5(n::text || 'y'), 10) AS note
    FROM generate_series(1::bigint, {{rows}}) AS n
"""
_NULL_KEYS = f"""
    SELECT CASE WHEN n % 100 > 0 THEN n END AS id, ({_AMOUNT})::numeric(12, 2) AS amount
    FROM generate_series(1::bigint, {{rows}}) AS n
"""
# {skew} percent of the rows are the newest one percent of a billion ids.
_SKEWED = f"""
    SELECT CASE WHEN n <= cold THEN n * (990000000 / cold) ELSE 990000001 + (n - cold) * (9000000 / hot) END AS id,
           ({_AMOUNT})::numeric(12, 2) AS amount
    FROM generate_series(1::bigint, {{rows}}) AS n,
         (SELECT {{rows}} * (100 - {{skew}}) / 100 AS cold, greatest({{rows}} * {{skew}} / 100, 1) AS hot) AS parts
"""


class Expected(NamedTuple):
    """What is true of a table."""

    rows: int
    total: Decimal
    checksum: int


class Data:
    """A running server with the tables.

    :param rows: of ``orders``; the other tables are parts of that size.
    """

    def __init__(self, server: EmbeddedPostgres, rows: int, home: Path) -> None:
        self.server = server
        self.rows = rows
        self._answers = home / "answers.json"

    @property
    def process(self) -> int:
        """The process id of the server."""
        return int((self.server.data / "postmaster.pid").read_text().split()[0])

    def task(self, job: str, table: str, workers: int = 2, **options: Any) -> Task:
        server = self.server
        columns = WIDE if table.startswith("wide") else NARROW
        return Task(
            job, table, columns, workers, server.host, server.port, server.user, server.password, "postgres", **options
        )

    def orders(self, rows: int | None = None) -> str:
        """The table of orders of that size, made when it is not there."""
        rows = rows or self.rows
        return self._make(f"orders_{rows}", _ORDERS.format(rows=rows))

    def wide(self) -> str:
        rows = self.rows // SHARE
        return self._make(f"wide_{rows}", _WIDE.format(rows=rows))

    def null_keys(self) -> str:
        """Every hundredth row has no key."""
        rows = min(self.rows // 10, 100_000)
        return self._make(f"null_keys_{rows}", _NULL_KEYS.format(rows=rows), key="CREATE INDEX ON {} (id)")

    def skewed(self, percent: int) -> str:
        rows = self.rows // SHARE
        return self._make(f"skewed_{percent}_{rows}", _SKEWED.format(rows=rows, skew=percent))

    def expected(self, table: str) -> Expected:
        """From one SQL query, and from one plain Python loop over all rows (kept, for the table never changes)."""
        known = json.loads(self._answers.read_text()) if self._answers.exists() else {}
        if table not in known:
            known[table] = [str(part) for part in self._ask(table)]
            self._answers.write_text(json.dumps(known))
        rows, total, digest = known[table]
        return Expected(int(rows), Decimal(total), int(digest))

    def _ask(self, table: str) -> Expected:
        columns = ", ".join(self.task("checksum", table).columns)
        with psycopg.connect(self.server.conninfo()) as connection, connection.cursor() as cursor:
            rows, total = cursor.execute(f"SELECT count(*), sum(amount) FROM {table}").fetchall()[0]  # type: ignore[arg-type]
            digest = sum(map(checksum, cursor.stream(f"SELECT {columns} FROM {table}", size=1000)))  # type: ignore[arg-type]
        return Expected(rows, total, digest)

    def _make(self, table: str, query: str, key: str = "ALTER TABLE {} ADD PRIMARY KEY (id)") -> str:
        name, comment = sql.Identifier(table), f"benchmark, edition {EDITION}"
        with psycopg.connect(self.server.conninfo(), autocommit=True) as connection:
            found = connection.execute("SELECT obj_description(to_regclass(%s), 'pg_class')", [table]).fetchone()
            if found != (comment,):
                print(f"  making {table}", flush=True)
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
                connection.execute(sql.SQL("CREATE TABLE {} AS ").format(name) + sql.SQL(query))  # type: ignore[arg-type]
                connection.execute(sql.SQL(key).format(name))  # type: ignore[arg-type]
                connection.execute(sql.SQL("VACUUM ANALYZE {}").format(name))
                connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(name, comment))
        return table


@contextmanager
def running(home: Path, rows: int, *, cluster: bool = True) -> Iterator[Data]:
    """The server, where the workers of a cluster on this machine reach it too.

    :param home: directory of the server; open to all, because as root the server runs as somebody else.
    :param cluster: False: on loopback only.
    """
    listen: tuple[str, ...] = ("127.0.0.1",)
    networks: tuple[str, ...] = ()
    if cluster:
        try:
            listen, networks = (find_bridge(), "127.0.0.1"), WORKER_NETWORKS
        except ClusterNotFoundError as error:
            print(f"  {error}")
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    with EmbeddedPostgres(home / "server", listen=listen, networks=networks, settings=_SETTINGS) as server:
        yield Data(server, rows, home)
