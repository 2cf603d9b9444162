"""Insert rows, or update those that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg
from psycopg import sql

from burla_provider.worker.sinks.sink import Written
from burla_provider.worker.sinks.staged import assignments, create_stage, row_of, sorted_rows, stage_rows
from burla_provider.worker.sinks.target import Target, names


@dataclass(frozen=True)
class Upsert:
    """Inserts rows. A row whose key is there updates that row if a value differs.

    :param key: columns of a unique index.
    :param update_columns: columns to update; none: leave the row that is there.
    :param version: the row with the greater value of this column wins; None: the last row wins.
    """

    target: Target
    key: tuple[str, ...]
    update_columns: tuple[str, ...]
    version: str | None = None

    counts: ClassVar[tuple[str, ...]] = ("rows_written", "rows_unchanged")

    def setup(self, *, pooled: bool) -> sql.Composable:
        """Return the statement that creates the temporary table."""
        return create_stage(self.target, pooled=pooled)

    def write(self, connection: psycopg.Connection[Any], rows: Sequence[tuple[Any, ...]]) -> Written:
        """Upsert the rows. The server does not say how many of them were inserted."""
        stage_rows(connection, self, rows)
        written = connection.execute(self._statement).rowcount
        return Written({"rows_written": written, "rows_unchanged": len(rows) - written})

    @property
    def _statement(self) -> sql.Composed:
        insert = sql.SQL("INSERT INTO {} AS target ({}) {} ON CONFLICT ({}) DO {}")
        source = sorted_rows(self.target, self.key, self.version)
        action = self._update if self.update_columns else sql.SQL("NOTHING")
        return insert.format(self.target.relation, self.target.column_list, source, names(self.key), action)

    @property
    def _update(self) -> sql.Composed:
        old, new = (row_of(self.update_columns, qualifier) for qualifier in ("target", "excluded"))
        update = sql.SQL("UPDATE SET {} WHERE {} *<> {}{}")
        return update.format(assignments(self.update_columns, "excluded"), old, new, self._newer)

    @property
    def _newer(self) -> sql.Composable:
        if self.version is None:
            return sql.SQL("")
        old, new = sql.Identifier("target", self.version), sql.Identifier("excluded", self.version)
        greater = self.target.operator(self.version, ">")
        return sql.SQL(" AND ({} {} {} OR {} IS NULL)").format(new, greater, old, old)
