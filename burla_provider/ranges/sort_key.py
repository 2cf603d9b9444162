"""The sort order of a key as SQL: its columns, their collations and their operators."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Literal

from psycopg import sql

from burla_provider.ranges.catalog import Column
from burla_provider.ranges.condition import comparison
from burla_provider.ranges.key import Bound
from burla_provider.ranges.planner_connection import PlannerConnection


@dataclass(frozen=True)
class SortKey:
    """The columns to sort by, most significant first. In a statement, their values are selected as ``aliases``."""

    columns: tuple[Column, ...]

    @property
    def order_by(self) -> sql.Composable:
        """The list for ORDER BY."""
        return comma_separated(self.identifiers)

    @property
    def order_by_descending(self) -> sql.Composable:
        """The list for ORDER BY in descending order."""
        return comma_separated([sql.SQL("{} DESC").format(name) for name in self.identifiers])

    @property
    def identifiers(self) -> list[sql.Composable]:
        """The columns, as one side of a comparison."""
        return [sql.Identifier(column.name) for column in self.columns]

    @property
    def select_list(self) -> sql.Composable:
        """A select list of the columns, named by ``aliases``."""
        return comma_separated(
            [
                sql.SQL("{}::{} AS {}").format(sql.Identifier(column.name), sql.SQL(column.type), sql.Identifier(alias))
                for column, alias in zip(self.columns, self.aliases, strict=True)
            ]
        )

    @property
    def aliases(self) -> list[str]:
        """``k0``, ``k1``, ..., except names of columns: ORDER BY prefers an output name to a column."""
        columns = {column.name for column in self.columns}
        free = (name for number in count() if (name := f"k{number}") not in columns)
        return list(islice(free, len(self.columns)))

    def values_of(self, relation: str) -> list[sql.Composable]:
        """Return the values of ``relation``, which has them as ``aliases``, as one side of a comparison."""
        return [sql.Identifier(relation, alias) for alias in self.aliases]

    def texts_of(self, relation: str) -> sql.Composable:
        """Return the values of ``relation`` as a select list of texts."""
        return comma_separated([sql.SQL("{}::text").format(value) for value in self.values_of(relation)])

    def literals(self, bound: Bound) -> list[sql.Composable]:
        """Return the values of a bound, each with its column's type and collation."""
        pairs = zip(bound, self.columns, strict=True)
        return [cast_and_collate(sql.Literal(value), column) for value, column in pairs]

    def compare(self, left: Sequence[sql.Composable], operator: str, right: Sequence[sql.Composable]) -> sql.Composable:
        """Return ``left operator right``."""
        return comparison(self.columns, left, operator, right)


def fetch_end_keys(
    connection: PlannerConnection,
    sort_key: SortKey,
    from_sql: sql.Composable,
    condition: sql.Composable,
    *ends: Literal["min", "max"],
) -> list[Bound]:
    """Return the minimum and the maximum key of a relation's rows; an empty list if there are no rows.

    :param from_sql: the relation, for FROM.
    :param condition: selects the rows. It must exclude NULL keys if "max" is requested, because NULL sorts last.
    :param ends: the keys to return, in this order.
    """
    order_by = {"min": sort_key.order_by, "max": sort_key.order_by_descending}
    subqueries = [
        sql.SQL("(SELECT {} FROM {} AS origin WHERE {} ORDER BY {} LIMIT 1) AS {}").format(
            sort_key.select_list, from_sql, condition, order_by[end], sql.Identifier(end)
        )
        for end in ends
    ]
    texts = [sort_key.texts_of(end) for end in ends]
    statement = sql.SQL("SELECT {} FROM {}").format(comma_separated(texts), comma_separated(subqueries))
    row = connection.fetch_one(statement) or ()
    size = len(sort_key.columns)
    return [row[start : start + size] for start in range(0, len(row), size)]


def is_sorted(connection: PlannerConnection, sort_key: SortKey, bounds: Sequence[Bound], operator: str = "<=") -> bool:
    """Return whether ``bound operator next bound`` is true on the server for all neighbors."""
    # JSON, because quoting the elements of an array one by one takes a second for 100,000 bounds.
    texts = [
        sql.SQL("json_array_elements_text({})").format(
            sql.Literal(json.dumps([bound[number] for bound in bounds], ensure_ascii=False))
        )
        for number in range(len(sort_key.columns))
    ]
    names = [sql.Identifier(alias) for alias in sort_key.aliases]
    previous_names = [sql.Identifier(f"p{number}") for number in range(len(names))]
    previous = [
        sql.SQL("lag({}) OVER (ORDER BY place) AS {}").format(name, previous_name)
        for name, previous_name in zip(names, previous_names, strict=True)
    ]
    left, right = (
        [cast_and_collate(value, column) for value, column in zip(side, sort_key.columns, strict=True)]
        for side in (previous_names, names)
    )
    statement = sql.SQL(
        "SELECT coalesce(bool_and({is_ordered}), true)"
        " FROM (SELECT {names}, {previous} FROM ROWS FROM ({texts}) WITH ORDINALITY AS bound ({names}, place)) AS pair"
        " WHERE p0 IS NOT NULL"
    ).format(
        is_ordered=sort_key.compare(left, operator, right),
        names=comma_separated(names),
        previous=comma_separated(previous),
        texts=comma_separated(texts),
    )
    return bool(connection.fetch_value(statement))


def cast_and_collate(value: sql.Composable, column: Column) -> sql.Composable:
    """Return the value cast to the column's type, with the column's collation."""
    collate = sql.SQL(" COLLATE {}").format(sql.Identifier(*column.collation)) if column.collation else sql.SQL("")
    return sql.SQL("{}::{}{}").format(value, sql.SQL(column.type), collate)


def comma_separated(parts: Sequence[sql.Composable]) -> sql.Composable:
    """Return the parts with commas between them."""
    return sql.SQL(", ").join(parts)
