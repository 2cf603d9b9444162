"""Update the rows that were read, unless another session has changed them since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import psycopg
from psycopg import sql

from burla_provider.worker.sinks.sink import Written
from burla_provider.worker.sinks.staged import (
    BY_INDEX,
    STAGE,
    assignments,
    create_stage,
    row_of,
    same_key,
    stage_as_given,
)
from burla_provider.worker.sinks.target import Target, names

VERSION = "burla xmin"
"""Column of the temporary table for the xmin of the row that was read."""

_PLACE = "burla ctid"
"""Name of the place of a row in the temporary table."""


@dataclass(frozen=True)
class UpdateInPlace:
    """Updates rows of the source, by a unique key. A row given has the xmin that was read, the key, and the values.

    A row that another session has changed has another xmin. It is left as it is, and its key is returned. VACUUM
    FREEZE, VACUUM FULL and CLUSTER do not change xmin.

    A row that moves to another partition gets another key, because every unique key of a partitioned table contains the
    partition key.

    :param target: the table, with the columns to update.
    :param key: columns of a unique key of the table.
    :param fixed: those of them that other sessions do not change. A row that is gone, while there is one with the same
        values of these columns, has changed too. None: all.
    """

    target: Target
    key: tuple[str, ...]
    fixed: tuple[str, ...] | None = field(default=None, repr=False)

    counts: ClassVar[tuple[str, ...]] = ("rows_updated", "rows_unchanged")

    def setup(self, *, pooled: bool) -> sql.Composable:
        """Return the statements that create the temporary table, and make the server use the index of the key."""
        version = sql.SQL("xmin AS {}").format(sql.Identifier(VERSION))
        columns = sql.SQL(", ").join([version, names(self.key), self.target.column_list])
        return create_stage(self.target, pooled=pooled, columns=columns) + BY_INDEX

    def write(self, connection: psycopg.Connection[Any], rows: Sequence[tuple[Any, ...]]) -> Written:
        """Update the rows that have not changed since they were read."""
        given = replace(self.target, columns=(VERSION, *self.key, *self.target.columns))
        stage_as_given(connection, self, given, rows)
        updated = connection.execute(self._update).rowcount
        # A new statement sees what was committed until the update has ended.
        pending = tuple(connection.execute(self._changed).fetchall())
        return Written({"rows_updated": updated, "rows_unchanged": len(rows) - updated - len(pending)}, pending)

    @property
    def _update(self) -> sql.Composed:
        # The rows given that were written are deleted. Their xmin does not tell them from those of other sessions: if a
        # trigger writes a row again in a subtransaction, it is the id of the subtransaction.
        update = (
            "WITH updated AS (UPDATE {} AS target SET {} FROM ({}) AS given WHERE {} AND target.xmin = given.{}"
            " AND {} *<> {} RETURNING given.{} AS place) DELETE FROM {} AS stage USING updated WHERE stage.ctid = place"
        )
        place = sql.Identifier(_PLACE)
        given = sql.SQL("SELECT *, ctid AS {} FROM {} ORDER BY {}").format(place, STAGE, names(self.key))
        return sql.SQL(update).format(
            self.target.relation,
            assignments(self.target.columns, "given"),
            given,
            same_key(self.target, self.key, "target", "given"),
            sql.Identifier(VERSION),
            row_of(self.target.columns, "target"),
            row_of(self.target.columns, "given"),
            place,
            STAGE,
        )

    @property
    def _changed(self) -> sql.Composed:
        # OFFSET keeps the subquery separate, so that the index of the key is read for each given row.
        query = (
            "SELECT {} FROM {} AS given LEFT JOIN LATERAL (SELECT xmin AS now FROM {} AS target WHERE {} OFFSET 0)"
            " AS target ON TRUE WHERE now <> given.{} OR now IS NULL AND {} ORDER BY {}"
        )
        key = [sql.Identifier("given", name) for name in self.key]
        has_moved: sql.Composable = sql.SQL("FALSE")
        if self.fixed is not None:
            has_moved = sql.SQL("EXISTS (SELECT FROM {} AS target WHERE {} OFFSET 0)").format(
                self.target.relation, same_key(self.target, self.fixed, "target", "given")
            )
        return sql.SQL(query).format(
            sql.SQL(", ").join(sql.SQL("{}::text").format(name) for name in key),
            STAGE,
            self.target.relation,
            same_key(self.target, self.key, "target", "given"),
            sql.Identifier(VERSION),
            has_moved,
            sql.SQL(", ").join(key),
        )
