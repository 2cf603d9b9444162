"""The table that rows are written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import sql

from burla_provider.database.quoting import Identifier, type_name
from burla_provider.ranges.key import COMPARISONS


@dataclass(frozen=True)
class Target:
    """A table, and the columns that get values.

    :param schema: schema of the table.
    :param table: name of the table.
    :param columns: names in the order of a row's values.
    :param json_columns: those of type json or jsonb: their values are written as JSON.
    :param json_arrays: those of type json[] or jsonb[]: the items of their lists are written as JSON.
    :param operators: column -> ``KeyColumn.operators``, for columns that have them.
    """

    schema: str
    table: str
    columns: tuple[str, ...]
    json_columns: tuple[str, ...] = ()
    json_arrays: tuple[str, ...] = ()
    operators: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False, hash=False)

    @property
    def relation(self) -> Identifier:
        """The table as SQL."""
        return Identifier(self.schema, self.table)

    @property
    def column_list(self) -> sql.Composed:
        """The columns as SQL."""
        return names(self.columns)

    def operator(self, column: str, comparison: str) -> sql.Composable:
        """Return the column's operator for one of ``COMPARISONS``."""
        operators = self.operators.get(column)
        return type_name(operators[COMPARISONS.index(comparison)] if operators else comparison)

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


def names(columns: Sequence[str], *qualifier: str) -> sql.Composed:
    """Return the names as a list in SQL.

    :param qualifier: what stands in front of each name.
    """
    return sql.SQL(", ").join(Identifier(*qualifier, name) for name in columns)
