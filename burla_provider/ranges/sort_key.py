"""A key's order as SQL: which columns, in which collation, compared how."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice

from psycopg import sql

from burla_provider.ranges.catalog import Column
from burla_provider.ranges.condition import comparison
from burla_provider.ranges.key import Bound
from burla_provider.ranges.planner_connection import PlannerConnection


@dataclass(frozen=True)
class SortKey:
    """The order of one or more columns, most significant first. Inside a statement their values have ``names``."""

    columns: tuple[Column, ...]

    @property
    def order_by(self) -> sql.Composable:
        """What ORDER BY takes."""
        return comma_separated([sql.Identifier(column.name) for column in self.columns])

    @property
    def order_by_descending(self) -> sql.Composable:
        """The same, from the greatest key on."""
        return comma_separated([sql.SQL("{} DESC").format(sql.Identifier(column.name)) for column in self.columns])

    @property
    def identifiers(self) -> list[sql.Composable]:
        """The columns, as one side of a comparison."""
        return [sql.Identifier(column.name) for column in self.columns]

    @property
    def select_list(self) -> sql.Composable:
        """A select list that gives the values of a row of the table their ``names``."""
        return comma_separated(
            [
                sql.SQL("{}::{} AS {}").format(sql.Identifier(column.name), sql.SQL(column.type), sql.Identifier(name))
                for column, name in zip(self.columns, self.aliases, strict=True)
            ]
        )

    @property
    def aliases(self) -> list[str]:
        """``k0``, ``k1``, ..., without those that are columns: ORDER BY takes a name for that of an output first."""
        columns = {column.name for column in self.columns}
        free = (name for number in count() if (name := f"k{number}") not in columns)
        return list(islice(free, len(self.columns)))

    def values_of(self, alias: str) -> list[sql.Composable]:
        """The values that ``alias`` has under those names, as the other side of a comparison."""
        return [sql.Identifier(alias, name) for name in self.aliases]

    def compare(self, left: Sequence[sql.Composable], operator: str, right: Sequence[sql.Composable]) -> sql.Composable:
        """Return ``left operator right``."""
        return comparison(self.columns, left, operator, right)

    def texts_of(self, alias: str) -> sql.Composable:
        """The same values as a select list of their texts."""
        return comma_separated([sql.SQL("{}::text").format(sql.Identifier(alias, name)) for name in self.aliases])

    def literals(self, bound: Bound) -> list[sql.Composable]:
        """A bound's values, each of its column's type and collation."""
        parts = zip(bound, self.columns, strict=True)
        return [cast_and_collate(sql.Literal(value), sql.SQL(column.type), column) for value, column in parts]


def is_sorted(queries: PlannerConnection, order: SortKey, bounds: Sequence[Bound], operator: str = "<=") -> bool:
    """Whether the server finds each bound ``operator`` the one that follows it."""
    # As JSON: to quote the elements of an array one by one takes a second for 100,000.
    texts = [
        sql.SQL("json_array_elements_text({})").format(
            sql.Literal(json.dumps([bound[place] for bound in bounds], ensure_ascii=False))
        )
        for place in range(len(order.columns))
    ]
    names = [sql.Identifier(name) for name in order.aliases]
    before = [
        sql.SQL("lag({}) OVER (ORDER BY place) AS {}").format(name, sql.Identifier(f"p{place}"))
        for place, name in enumerate(names)
    ]
    sides = [
        [
            cast_and_collate(side, sql.SQL(column.type), column)
            for side, column in zip(values, order.columns, strict=True)
        ]
        for values in ([sql.Identifier(f"p{place}") for place in range(len(names))], names)
    ]
    statement = sql.SQL(
        "SELECT coalesce(bool_and({in_order}), true)"
        " FROM (SELECT {names}, {before} FROM ROWS FROM ({texts}) WITH ORDINALITY AS bound ({names}, place)) AS pair"
        " WHERE p0 IS NOT NULL"
    ).format(
        in_order=order.compare(sides[0], operator, sides[1]),
        names=comma_separated(names),
        before=comma_separated(before),
        texts=comma_separated(texts),
    )
    return bool(queries.fetch_value(statement))


def cast_and_collate(value: sql.Composable, type_: sql.Composable, column: Column) -> sql.Composable:
    """The value as one of that type, compared in the column's collation."""
    collate = sql.SQL(" COLLATE {}").format(sql.Identifier(*column.collation)) if column.collation else sql.SQL("")
    return sql.SQL("{}::{}{}").format(value, type_, collate)


def comma_separated(parts: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL(", ").join(parts)
