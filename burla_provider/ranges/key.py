"""What a table is split by: the key's columns and their types."""

from __future__ import annotations

from dataclasses import dataclass

INTEGER_LIMITS = {
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}
"""PostgreSQL's integer types with their least and greatest value."""

COMPARISONS = ("<", "<=", "=", ">=", ">")
"""In the order of the strategies of a btree operator class."""

Bound = tuple[str, ...]
"""One value per key column, each as PostgreSQL's own text of it (exact for every type, and JSON)."""


@dataclass(frozen=True)
class KeyColumn:
    """One column of a key.

    :param name: the column's name, unquoted.
    :param type: its type as ``format_type(atttypid, NULL)`` prints it ("bigint", "timestamp with time zone").
    :param nullable: whether the column may hold NULL.
    :param operators: what compares its values, as SQL, in the order of ``COMPARISONS``, where that is not PostgreSQL's
        own but an extension's or a user's; maybe in a schema that is not on the search path.
    """

    name: str
    type: str
    nullable: bool = False
    operators: tuple[str, ...] = ()

    def operator(self, comparison: str) -> str:
        """Return the operator for one of ``COMPARISONS``, as SQL."""
        return self.operators[COMPARISONS.index(comparison)] if self.operators else comparison


@dataclass(frozen=True)
class Key:
    """The columns that order a table, most significant first; none at all for "the whole table at once"."""

    columns: tuple[KeyColumn, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def is_integer(self) -> bool:
        return len(self.columns) == 1 and self.columns[0].type in INTEGER_LIMITS

    @property
    def nullable(self) -> bool:
        return any(column.nullable for column in self.columns)

    def __str__(self) -> str:
        return ", ".join(self.names) or "(none)"


CTID = Key((KeyColumn("ctid", "tid"),))
"""The physical place of a row, the key of tables that have no other."""
