"""A table in which workers record which range they have processed how often."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import psycopg


def conninfo_of(connection: psycopg.Connection[Any]) -> str:
    """Return the connection string of another session."""
    return f"{connection.info.dsn} password={connection.info.password}"


class Marks:
    """The table ``marks`` in the database of ``connection``: a row for each start of a range."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.conninfo = conninfo_of(connection)
        connection.execute("CREATE TABLE marks (first_id bigint)")

    def attempts(self) -> dict[int, int]:
        """Return how often each range was started, by its first id."""
        return dict(self.connection.execute("SELECT first_id, count(*) FROM marks GROUP BY 1").fetchall())

    def count(self) -> int:
        """Return the number of rows."""
        return sum(self.attempts().values())

    def slow(self, seconds: float) -> Callable[[Iterable[tuple[int, Decimal]]], dict[str, Any]]:
        """Return a function for ``process_rows`` that inserts a row for its range and then takes so many seconds."""
        conninfo = self.conninfo

        def slow(rows: Iterable[tuple[int, Decimal]]) -> dict[str, Any]:
            import time

            import psycopg

            taken = list(rows)
            with psycopg.connect(conninfo) as connection:
                connection.execute("INSERT INTO marks VALUES (%s)", [taken[0][0]])
            time.sleep(seconds)
            return {"total": sum(amount for _, amount in taken)}

        return slow
