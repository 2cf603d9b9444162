"""Update rows that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg
from psycopg import sql

from burla_provider.worker.sinks.sink import Written
from burla_provider.worker.sinks.staged import (
    BY_INDEX,
    assignments,
    create_stage,
    row_of,
    same_key,
    sorted_rows,
    stage_rows,
)
from burla_provider.worker.sinks.target import Target


@dataclass(frozen=True)
class Update:
    """Updates the rows with the same key if a value differs.

    :param key: columns of a unique index.
    :param update_columns: columns to update.
    """

    target: Target
    key: tuple[str, ...]
    update_columns: tuple[str, ...]

    counts: ClassVar[tuple[str, ...]] = ("rows_updated", "rows_unchanged")

    def setup(self, *, pooled: bool) -> sql.Composable:
        """Return the statements that create the temporary table, and make the server use the index of the key."""
        return create_stage(self.target, pooled=pooled) + BY_INDEX

    def write(self, connection: psycopg.Connection[Any], rows: Sequence[tuple[Any, ...]]) -> Written:
        """Update the rows. Those that are equal, or not there, are counted as unchanged."""
        stage_rows(connection, self, rows)
        updated = connection.execute(self._statement).rowcount
        return Written({"rows_updated": updated, "rows_unchanged": len(rows) - updated})

    @property
    def _statement(self) -> sql.Composed:
        return sql.SQL("UPDATE {} AS target SET {} FROM ({}) AS given WHERE {} AND {} *<> {}").format(
            self.target.relation,
            assignments(self.update_columns, "given"),
            sorted_rows(self.target, self.key, None),
            same_key(self.target, self.key, "target", "given"),
            row_of(self.update_columns, "target"),
            row_of(self.update_columns, "given"),
        )
