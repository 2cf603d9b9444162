"""The window of a plan: compare the number of rows that its ranges processed with ``count(*)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from burla_provider.database.settings import EXACT_TEXT
from burla_provider.exceptions import RowCountMismatchError
from burla_provider.ranges.key import INTEGER_LIMITS
from burla_provider.ranges.key_range import KeyRange
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.worker.source import Source

if TYPE_CHECKING:
    import psycopg

    from burla_provider.ranges.plan import Plan


def verify_row_count(connection: psycopg.Connection[Any], source: Source, window: KeyRange, row_count: int) -> None:
    """Compare the number of rows that were processed with a plain ``count(*)``.

    :param connection: a connection in the snapshot of the ranges.
    :param window: the window of the plan, as one range.
    :raises RowCountMismatchError: if the numbers differ.
    """
    with PlannerConnection(connection).local_settings(**EXACT_TEXT):  # as in the ranges
        [(count,)] = connection.execute(source.select(sql.SQL("count(*)"), window)).fetchall()
    if count != row_count:
        raise RowCountMismatchError(
            f"The ranges processed {row_count:,} rows, but {source} has {count:,}. Either the function does not read"
            " all rows of its range, or (with resume=True) an earlier try read some of them in another snapshot. If"
            " neither is the case, please report it."
        )


def full_window(plan: Plan) -> KeyRange:
    """Return the window of the plan as one range. If both ends are open, it includes NULL keys, as the plan does."""
    ranges = [key_range for key_range in plan.ranges if not key_range.nulls]
    lower, upper = (ranges[0].lower, ranges[-1].upper) if ranges else (None, None)
    return KeyRange(plan.key, 0, lower, upper)


def window_end(plan: Plan) -> str | None:
    """Return the end of the window of a plan with a key of one column; None if it is open or there are no ranges."""
    last = next((key_range for key_range in reversed(plan.ranges) if not key_range.nulls), None)
    if last and last.upper is None and plan.key.is_integer:
        # The range includes the maximum of the type, and the end after it is not a value of the type.
        return str(INTEGER_LIMITS[plan.key.columns[0].type][1] + 1)
    return last.upper[0] if last and last.upper else None
