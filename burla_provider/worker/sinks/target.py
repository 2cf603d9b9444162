"""The table that rows are written to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from burla_provider.database.quoting import Identifier


@dataclass(frozen=True)
class Target:
    """A table, and the columns that get values.

    :param schema: schema of the table.
    :param table: name of the table.
    :param columns: names in the order of a row's values.
    :param json_columns: those of type json or jsonb: their values are written as JSON.
    :param json_arrays: those of type json[] or jsonb[]: the items of their lists are written as JSON.
    """

    schema: str
    table: str
    columns: tuple[str, ...]
    json_columns: tuple[str, ...] = ()
    json_arrays: tuple[str, ...] = ()

    @property
    def relation(self) -> Identifier:
        """The table as SQL."""
        return Identifier(self.schema, self.table)

    @property
    def column_list(self) -> sql.Composed:
        """The columns as SQL."""
        return names(self.columns)

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


def names(columns: Sequence[str], *qualifier: str) -> sql.Composed:
    """Return the names as a list in SQL.

    :param qualifier: what stands in front of each name.
    """
    return sql.SQL(", ").join(Identifier(*qualifier, name) for name in columns)
