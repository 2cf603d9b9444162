"""Insert rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg
from psycopg import sql

from burla_provider.worker.sinks.copy_rows import copy_rows
from burla_provider.worker.sinks.sink import Written
from burla_provider.worker.sinks.target import Target


@dataclass(frozen=True)
class Insert:
    """Copies rows straight into the target."""

    target: Target

    counts: ClassVar[tuple[str, ...]] = ("rows_inserted",)

    def setup(self, *, pooled: bool) -> sql.Composable:
        """Return nothing."""
        return sql.SQL("")

    def write(self, connection: psycopg.Connection[Any], rows: Sequence[tuple[Any, ...]]) -> Written:
        """Insert the rows."""
        return Written({"rows_inserted": copy_rows(connection, self.target.relation, self.target, rows)})
