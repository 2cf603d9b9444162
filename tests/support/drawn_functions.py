"""Functions that a drawn job sends to workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

Query = tuple[str, str, bool]
"""A query of a range: the text before the range's condition, the text behind it, and whether it has parameters."""


def run_query(connection: Any, query: Query, where: Any) -> Any:
    """Run the query on a range's rows, as a user's function does it."""
    from psycopg import sql

    head, tail, has_parameters = query
    if not has_parameters:
        return connection.execute(sql.SQL("{}{}{}").format(sql.SQL(head), where, sql.SQL(tail)))
    head, tail = head.replace("%", "%%"), f"{tail.replace('%', '%%')} AND %s"
    return connection.execute(sql.SQL("{}{}{}").format(sql.SQL(head), where, sql.SQL(tail)), [True])


def rows_of(key_range: Any, ids: str | None, *, has_parameters: bool) -> Any:
    """The condition of a range's rows.

    :param ids: the key, to be compared with ``start_id`` and ``end_id`` where the range has them; None: ``where``.
    """
    from psycopg import sql

    if ids is None:
        return key_range.where
    try:
        start_id, end_id = key_range.start_id, key_range.end_id
    except TypeError:  # the range has rows whose key is NULL
        return key_range.where
    name = sql.SQL(ids.replace("%", "%%") if has_parameters else ids)
    return sql.SQL("{} BETWEEN {} AND {}").format(name, start_id, end_id)


def reader(query: Query, ids: str | None) -> Callable[[Any, Any], dict[str, Any]]:
    """A function for ``process_range`` that answers the range's rows."""

    def read(connection: Any, key_range: Any) -> dict[str, Any]:
        rows = run_query(connection, query, rows_of(key_range, ids, has_parameters=query[2])).fetchall()
        return {"rows": [list(row) for row in rows], "row_count": len(rows)}

    return read


def writer(queries: list[Query], ids: str | None) -> Callable[[Any, Any], dict[str, Any]]:
    """A function for ``process_range`` that runs one statement after another."""

    def write(connection: Any, key_range: Any) -> dict[str, Any]:
        conditions = [rows_of(key_range, ids, has_parameters=query[2]) for query in queries]
        counts = [run_query(connection, *pair).rowcount for pair in zip(queries, conditions, strict=True)]
        return {"rows": [], "counts": counts, "row_count": counts[0]}

    return write


def collector(row_format: str, columns: tuple[str, ...]) -> Callable[[Iterator[Any]], dict[str, Any]]:
    """A function for ``process_rows`` that answers all rows, as texts."""

    def tuples(row: Any) -> Any:
        if row_format == "arrow":
            assert row.schema.names == list(columns)
            return zip(*row.to_pydict().values(), strict=True)
        assert len(row) == len(columns)
        return [row] if row_format == "tuple" else [[row[column] for column in columns]]

    def collect(rows: Iterator[Any]) -> dict[str, Any]:
        # What a range's own update changes is not compared.
        taken = [place for place, column in enumerate(columns) if column != "n"]
        return {"rows": [[as_text(found[place]) for place in taken] for row in rows for found in tuples(row)]}

    return collect


def as_text(value: Any) -> str | None:
    """A value as PostgreSQL writes it: of a timestamptz the moment in UTC, of a numeric no zeros at its end."""
    from datetime import UTC

    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        text = moment.isoformat(sep=" ")
        return text.rstrip("0") if "." in text else text
    if isinstance(value, Decimal):
        text = format(value, "f")
        return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-0", "0" if not value else "-0")
    return value.isoformat() if isinstance(value, date) else str(value)


def chain(values: list[dict[str, Any]]) -> dict[str, Any]:
    """A function for ``combine``: all ranges' rows."""
    return {"rows": [row for value in values for row in value["rows"]]}
