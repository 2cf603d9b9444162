"""The rows that a job works on, as SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from burla_provider.ranges.key_range import KeyRange


@dataclass(frozen=True)
class Source:
    """A table, the columns of interest and the condition on its rows.

    :param columns: in the order in which rows have them, or name -> SQL expression; empty: all of the table's.
    :param where: a condition in SQL, final: nothing in it is replaced any more.
    :param partitioned: ranges may be of partitions, which are read by their own names with the table's name as alias.
    """

    schema: str
    table: str
    columns: tuple[str, ...] | Mapping[str, str] = ()
    where: str | None = None
    partitioned: bool = False

    @property
    def relation(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.table)

    def relation_of(self, key_range: KeyRange) -> sql.Identifier:
        """The table that a range is a part of: the plan's own or one of its partitions."""
        return sql.Identifier(*key_range.relation) if key_range.relation else self.relation

    @property
    def column_list(self) -> sql.Composable:
        if not self.columns:
            return sql.SQL("*")
        return sql.SQL(", ").join(map(self._selected, self.columns))

    def _selected(self, name: str) -> sql.Composable:
        if not isinstance(self.columns, Mapping):
            return sql.Identifier(name)
        # A line end keeps a comment to itself. Without brackets, in which "a, b" would be a value.
        return sql.SQL(f"{self.columns[name]}\n AS ") + sql.Identifier(name)

    def select(self, what: sql.Composable, key_range: KeyRange) -> sql.Composed:
        """``SELECT what`` from the rows of one range."""
        return sql.SQL("SELECT {} FROM {} WHERE ({}) AND {}").format(
            what, self._from_item(key_range), key_range.key_condition, self.condition
        )

    def select_none(self, what: sql.Composable) -> sql.Composed:
        """``SELECT what`` from no row at all: whether it is right, and of which types, at no cost."""
        return sql.SQL("SELECT {} FROM {} WHERE {} AND FALSE").format(what, self._from_item(), self.condition)

    def _from_item(self, key_range: KeyRange | None = None) -> sql.Composable:
        """The same form for the check and for the ranges, so that the server accepts the same names in both."""
        leaf = key_range.relation if key_range else None
        only = sql.SQL("ONLY" if leaf else "")
        relation = sql.Identifier(*leaf) if leaf else self.relation
        alias = sql.SQL(" AS {}").format(sql.Identifier(self.table)) if leaf or self.partitioned else sql.SQL("")
        return sql.SQL("{} {}{}").format(only, relation, alias)

    @property
    def condition(self) -> sql.Composable:
        """``where`` in brackets. The line ends keep a comment in it to itself."""
        return sql.SQL(f"(\n{self.where}\n)") if self.where else sql.SQL("TRUE")

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"
