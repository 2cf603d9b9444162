"""The protocol of sinks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import psycopg
from psycopg import sql

from burla_provider.worker.sinks.target import Target


class Sink(Protocol):
    """Writes rows on an open connection. The caller starts and ends the transaction."""

    @property
    def target(self) -> Target:
        """The table that the rows are for."""
        ...

    def setup(self, *, pooled: bool) -> sql.Composable:
        """Return statements that each transaction begins with, or nothing.

        :param pooled: whether the session belongs to a pooler, so that nothing may be left in it.
        """
        ...

    def write(self, connection: psycopg.Connection[Any], rows: Sequence[tuple[Any, ...]]) -> dict[str, int]:
        """Write the rows, and return how many rows were inserted, updated, or left unchanged, by name."""
        ...
