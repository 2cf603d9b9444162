"""The rows that a job reads, as SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg import sql

from burla_provider.database.quoting import as_text
from burla_provider.ranges.key_range import KeyRange

_SELECT, _FROM, _WHERE, _AND = map(sql.SQL, ("SELECT ", " FROM ", " WHERE (", ") AND "))


@dataclass(frozen=True)
class Source:
    """A table, the columns to read, and a condition on its rows.

    :param schema: schema of the table.
    :param table: name of the table.
    :param columns: names in the order of the row's values, or name -> SQL expression; empty: all columns.
    :param where: a condition in SQL, with its parameters filled in.
    :param partitioned: whether ranges may be in partitions, which are read with the table's name as alias.
    """

    schema: str
    table: str
    columns: tuple[str, ...] | Mapping[str, str] = ()
    where: str | None = None
    partitioned: bool = False
    _texts: dict[str, sql.SQL] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def relation(self) -> sql.Identifier:
        """The table as SQL."""
        return sql.Identifier(self.schema, self.table)

    @property
    def column_list(self) -> sql.Composable:
        """The columns as a select list."""
        if not self.columns:
            return sql.SQL("*")
        return sql.SQL(", ").join(map(self._selected, self.columns))

    def _selected(self, name: str) -> sql.Composable:
        if not isinstance(self.columns, Mapping):
            return sql.Identifier(name)
        # The line break ends a comment. There are no brackets, because "(a, b)" is one value.
        return sql.SQL(f"{self.columns[name]}\n AS ") + sql.Identifier(name)

    def select(
        self, select_list: sql.Composable, key_range: KeyRange, key_condition: sql.Composable | None = None
    ) -> sql.Composed:
        """Return a query of the rows of one range.

        :param key_condition: replaces the range's condition on the key.
        """
        # What is the same for all ranges of the whole table is put together once.
        if not self._texts:
            self._texts.update(table=as_text(self._from_clause()), condition=as_text(self.condition))
        table = self._from_clause(key_range) if key_range.relation else self._texts["table"]
        on_key = key_range.key_condition if key_condition is None else key_condition
        return sql.Composed([_SELECT, select_list, _FROM, table, _WHERE, on_key, _AND, self._texts["condition"]])

    def select_none(self, select_list: sql.Composable) -> sql.Composed:
        """Return a query of no rows, with which the server checks names and types."""
        return sql.SQL("SELECT {} FROM {} WHERE {} AND FALSE").format(select_list, self._from_clause(), self.condition)

    def _from_clause(self, key_range: KeyRange | None = None) -> sql.Composable:
        # Checks and ranges use the same form, so that the server accepts the same names in both.
        leaf = key_range.relation if key_range else None
        only = sql.SQL("ONLY" if leaf else "")
        relation = sql.Identifier(*leaf) if leaf else self.relation
        alias = sql.SQL(" AS {}").format(sql.Identifier(self.table)) if leaf or self.partitioned else sql.SQL("")
        return sql.SQL("{} {}{}").format(only, relation, alias)

    @property
    def condition(self) -> sql.Composable:
        """``where`` in brackets; the line breaks end a comment in it."""
        return sql.SQL(f"(\n{self.where}\n)") if self.where else sql.SQL("TRUE")

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"
