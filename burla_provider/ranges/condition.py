"""The condition of a range as SQL, in a form for which PostgreSQL reads only the necessary rows.

For one column the condition is simple. For several columns, a row comparison is correct but has two problems:

- Up to PostgreSQL 17, an index scan for a row comparison continues to the last row with the first column's value. So
  the columns that have the same value in all rows of the range are compared separately. Otherwise each range of a
  frequent value would read all rows of that value.
- PostgreSQL does not estimate a pair of row comparisons as a range. It assumes that any pair matches a quarter of the
  table, and scans the whole table. So plain comparisons of the first column are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from psycopg import sql

from burla_provider.database.quoting import Identifier, Literal, type_name
from burla_provider.ranges.key import Bound, Key, KeyColumn
from burla_provider.ranges.ordinals import min_value

_SPACE, _CAST = sql.SQL(" "), sql.SQL("::")


def range_condition(key: Key, lower: Bound | None = None, upper: Bound | None = None) -> sql.Composable:
    """Return ``lower <= key < upper``. A bound that is None is open."""
    columns = key.columns
    upper = _trim(columns, upper)
    shared = count_shared_columns(lower, upper)
    lower = _trim(columns, lower, shared)
    conditions = [
        _compare(columns, operator, bound, shared)
        for operator, bound in ((">=", lower), ("<", upper))
        if bound is not None
    ]
    if lower is not None and upper is not None:
        equal = [prefix_condition(key, lower[:shared])] if shared else []
        # The estimable comparisons come last: an index scan starts at the first condition that can position it.
        conditions = [*equal, *conditions, *_estimable(columns, lower, upper, shared)]
    return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("TRUE")


def prefix_condition(key: Key, values: Bound) -> sql.Composable:
    """Return the condition that the first columns of the key have these values."""
    return _compare(key.columns, "=", values)


def count_shared_columns(lower: Bound | None, upper: Bound | None) -> int:
    """Return how many of the first columns have the same value in all rows of the range; the last one never counts."""
    pairs = zip((lower or ())[:-1], (upper or ())[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def comparison(
    columns: Sequence[KeyColumn],
    left: Sequence[sql.Composable],
    operator: str,
    right: Sequence[sql.Composable],
) -> sql.Composable:
    """Return ``left operator right``, as single values or as rows, with the operators of the columns.

    :param operator: one of ``COMPARISONS``.
    """
    if len(columns) > 1 and any(column.operators for column in columns):
        return _compare_by_column(columns, left, operator, right)
    name = type_name(columns[0].operator(operator))
    if len(columns) == 1:  # A row comparison of one column would hide the index from some planners.
        # Not with format, which takes a noticeable part of the time of a small range.
        return sql.Composed([left[0], _SPACE, name, _SPACE, right[0]])
    comma = sql.SQL(", ")
    return sql.SQL("({}) {} ({})").format(comma.join(left), name, comma.join(right))


def _trim(columns: Sequence[KeyColumn], bound: Bound | None, shared: int = 0) -> Bound | None:
    """Return the bound without trailing minimum values: (a, b) < (7, minimum of b) is a < 7."""
    while bound is not None and len(bound) > shared + 1 and bound[-1] == min_value(columns[len(bound) - 1]):
        bound = bound[:-1]
    return bound


def _estimable(columns: Sequence[KeyColumn], lower: Bound, upper: Bound, shared: int) -> list[sql.Composable]:
    """Return the comparisons of the first column that is not shared, which the row comparisons imply."""
    end = shared + 1
    bounds = ((">=", lower), ("<=", upper))
    return [_compare(columns, operator, bound[:end], shared) for operator, bound in bounds if len(bound) > end]


def _compare(columns: Sequence[KeyColumn], operator: str, bound: Bound, start: int = 0) -> sql.Composable:
    """Compare the columns from number ``start`` on with the bound, as many as the bound has values for."""
    parts = list(zip(columns, bound, strict=False))[start:]
    names = [Identifier(column.name) for column, _ in parts]
    values = [sql.Composed([Literal(value), _CAST, type_name(column.type)]) for column, value in parts]
    return comparison([column for column, _ in parts], names, operator, values)


def _compare_by_column(
    columns: Sequence[KeyColumn], left: Sequence[sql.Composable], operator: str, right: Sequence[sql.Composable]
) -> sql.Composable:
    """Compare rows without a row comparison, which takes one operator from one schema for all columns."""

    def compare(number: int, operator: str) -> sql.Composable:
        return comparison(columns[number : number + 1], [left[number]], operator, [right[number]])

    last = len(columns) - 1
    if operator == "=":
        return sql.SQL("({})").format(sql.SQL(" AND ").join(compare(number, "=") for number in range(len(columns))))
    condition = compare(last, operator)
    for number in reversed(range(last)):
        strict, equal = compare(number, operator[0]), compare(number, "=")
        condition = sql.SQL("({} OR {} AND {})").format(strict, equal, condition)
    # Compare the first column separately too, so that an index can be used.
    return sql.SQL("({} AND {})").format(compare(0, f"{operator[0]}="), condition)
