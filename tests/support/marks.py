"""What workers themselves write down: which range was worked how often."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import psycopg


def conninfo_of(connection: psycopg.Connection[Any]) -> str:
    """How another session connects."""
    return f"{connection.info.dsn} password={connection.info.password}"


class Marks:
    """A table of marks, in the database of ``connection``: one for each time that a range was begun."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.conninfo = conninfo_of(connection)
        connection.execute("CREATE TABLE marks (first_id bigint)")

    def worked(self) -> dict[int, int]:
        """First id of a range -> how often it was begun."""
        return dict(self.connection.execute("SELECT first_id, count(*) FROM marks GROUP BY 1").fetchall())

    def count(self) -> int:
        """How many there are."""
        return sum(self.worked().values())

    def slow(self, seconds: float) -> Callable[[Iterable[tuple[int, Decimal]]], dict[str, Any]]:
        """A function for ``process_rows`` that leaves a mark for its range, and then takes so long to add it up."""
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
