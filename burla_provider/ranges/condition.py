"""What picks the rows between two bounds of a key, as SQL that PostgreSQL reads no more for than it must.

For one column that is simple. For several, a comparison of rows says it, but

- up to PostgreSQL 17, an index scan for one goes on to the last row with the first column's value. So what the whole
  range shares is compared by itself, or each range of a frequent value would read the rest of it; and
- no version estimates a pair of them as a range: it takes even a narrow one for a quarter of the table, and reads the
  whole table for it. So the first column's part is said again, as plain comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from psycopg import sql

from burla_provider.database.quoting import Identifier, Literal, type_name
from burla_provider.ranges.key import Bound, KeyColumn
from burla_provider.ranges.ordinals import least_of


def range_condition(columns: Sequence[KeyColumn], lower: Bound | None, upper: Bound | None) -> sql.Composable:
    """``lower <= key < upper``; None is open-ended."""
    upper = _shortest(columns, upper)
    shared = count_shared_columns(lower, upper)
    lower = _shortest(columns, lower, shared)
    conditions = [
        _compare(columns, operator, bound, shared)
        for operator, bound in ((">=", lower), ("<", upper))
        if bound is not None
    ]
    if lower is not None and upper is not None:
        equal = [prefix_condition(columns, lower[:shared])] if shared else []
        # Last, because an index scan starts at the first condition that says where.
        conditions = [*equal, *conditions, *_estimable(columns, lower, upper, shared)]
    return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("TRUE")


def count_shared_columns(lower: Bound | None, upper: Bound | None) -> int:
    """How many of the first columns have one value in the whole range: at most all but one."""
    pairs = zip((lower or ())[:-1], (upper or ())[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def prefix_condition(columns: Sequence[KeyColumn], values: Bound) -> sql.Composable:
    """The first columns have these values."""
    return _compare(columns, "=", values)


def _shortest(columns: Sequence[KeyColumn], bound: Bound | None, shared: int = 0) -> Bound | None:
    """The bound without what says nothing: (a, b) < (7, the least b there is) is a < 7."""
    while bound is not None and len(bound) > shared + 1 and bound[-1] == least_of(columns[len(bound) - 1]):
        bound = bound[:-1]
    return bound


def _estimable(columns: Sequence[KeyColumn], lower: Bound, upper: Bound, shared: int) -> list[sql.Composable]:
    """What the comparisons of rows say of the first column that is not shared."""
    end = shared + 1
    bounds = ((">=", lower), ("<=", upper))
    return [_compare(columns, operator, bound[:end], shared) for operator, bound in bounds if len(bound) > end]


def _compare(columns: Sequence[KeyColumn], operator: str, bound: Bound, start: int = 0) -> sql.Composable:
    """A comparison with the bound, from the column with number ``start`` on, of as many as the bound has."""
    parts = list(zip(columns, bound, strict=False))[start:]
    names = [Identifier(column.name) for column, _ in parts]
    values = [sql.SQL("{}::{}").format(Literal(value), type_name(column.type)) for column, value in parts]
    return comparison([column for column, _ in parts], names, operator, values)


def comparison(
    columns: Sequence[KeyColumn],
    left: Sequence[sql.Composable],
    operator: str,
    right: Sequence[sql.Composable],
) -> sql.Composable:
    """``left operator right``, for one value each or as rows, by the columns' own operators.

    :param operator: one of ``COMPARISONS``.
    """
    if len(columns) > 1 and any(column.operators for column in columns):
        return _column_by_column(columns, left, operator, right)
    # A row comparison also for one column would hide the index from some planners, so only where it is needed.
    pattern = "{} {} {}" if len(columns) == 1 else "({}) {} ({})"
    comma = sql.SQL(", ")
    return sql.SQL(pattern).format(comma.join(left), type_name(columns[0].operator(operator)), comma.join(right))


def _column_by_column(
    columns: Sequence[KeyColumn], left: Sequence[sql.Composable], operator: str, right: Sequence[sql.Composable]
) -> sql.Composable:
    """A comparison of rows takes one operator for all columns, which is not in one schema for all of their types."""

    def of(number: int, operator: str) -> sql.Composable:
        return comparison(columns[number : number + 1], [left[number]], operator, [right[number]])

    last = len(columns) - 1
    if operator == "=":
        return sql.SQL("({})").format(sql.SQL(" AND ").join(of(number, "=") for number in range(len(columns))))
    condition = of(last, operator)
    for number in reversed(range(last)):
        condition = sql.SQL("({} OR {} AND {})").format(of(number, operator[0]), of(number, "="), condition)
    # The first column by itself, for an index.
    return sql.SQL("({} AND {})").format(of(0, f"{operator[0]}="), condition)
