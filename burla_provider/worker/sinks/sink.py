"""The protocol of sinks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg
from psycopg import sql

from burla_provider.ranges.key import Bound
from burla_provider.worker.sinks.target import Target


@dataclass(frozen=True)
class Written:
    """What became of the rows of a chunk.

    :param counts: how many were inserted, updated, or left unchanged, by name.
    :param pending: keys of the rows that another session has changed since they were read.
    """

    counts: dict[str, int]
    pending: tuple[Bound, ...] = ()


class Sink(Protocol):
    """Writes rows on an open connection. The caller starts and ends the transaction."""

    @property
    def counts(self) -> tuple[str, ...]:
        """The names of what it counts."""
        ...

    @property
    def target(self) -> Target:
        """The table that the rows are for."""
        ...

    def setup(self, *, pooled: bool) -> sql.Composable:
        """Return statements that each transaction begins with, or nothing.

        :param pooled: whether the session belongs to a pooler, so that nothing may be left in it.
        """
        ...

    def write(self, connection: psycopg.Connection[Any], rows: Sequence[tuple[Any, ...]]) -> Written:
        """Write the rows, and return what became of them."""
        ...
