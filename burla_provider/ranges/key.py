"""The key that a table is split by: its columns and their types."""

from __future__ import annotations

from dataclasses import dataclass

INTEGER_LIMITS = {
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}
"""PostgreSQL's integer types with their minimum and maximum."""

COMPARISONS = ("<", "<=", "=", ">=", ">")
"""The comparison operators, in the order of the strategy numbers of a btree operator class."""

Bound = tuple[str, ...]
"""One value per key column, in PostgreSQL's text format: exact for every type, and valid as JSON."""


@dataclass(frozen=True)
class KeyColumn:
    """A column of a key.

    :param name: the column's name, unquoted.
    :param type: its type as ``format_type(atttypid, NULL)`` prints it ("bigint", "timestamp with time zone").
    :param nullable: whether the column can be NULL.
    :param operators: the type's operators as SQL, in the order of ``COMPARISONS``, if they are not in pg_catalog. They
        are qualified, because their schema might not be on the search path.
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
    """The columns to split by, most significant first. A key without columns means the whole table as one range."""

    columns: tuple[KeyColumn, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def is_integer(self) -> bool:
        """Whether the key is one column of an integer type."""
        return len(self.columns) == 1 and self.columns[0].type in INTEGER_LIMITS

    @property
    def nullable(self) -> bool:
        """Whether a column can be NULL."""
        return any(column.nullable for column in self.columns)

    def __str__(self) -> str:
        return ", ".join(self.names) or "(none)"


CTID = Key((KeyColumn("ctid", "tid"),))
"""The physical location of a row: the key of tables without a unique key."""
