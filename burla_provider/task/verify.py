"""Whether the rows that were worked are as many as there are."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from burla_provider.database.settings import EXACT_TEXT
from burla_provider.exceptions import RowCountMismatchError
from burla_provider.ranges.key_range import KeyRange
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.worker.source import Source


def check_count(connection: psycopg.Connection[Any], source: Source, whole: KeyRange, worked: int) -> None:
    """Counts the job's rows with one plain query, and compares.

    :param connection: in the snapshot that the ranges were read in; in another one, rows may have come or gone.
    :param whole: the window of the plan, as one range.
    :param worked: rows that the ranges worked.
    :raises RowCountMismatchError: the numbers are not the same.
    """
    with PlannerConnection(connection).local_settings(**EXACT_TEXT):  # as in the ranges
        [(rows,)] = connection.execute(source.select(sql.SQL("count(*)"), whole)).fetchall()
    if rows != worked:
        raise RowCountMismatchError(
            f"The ranges worked {worked:,} rows, and {source} has {rows:,}. Either the function does not take all of"
            " its rows, or (with resume=True) an earlier try read some of them at another moment. If neither is so,"
            " please report it."
        )
