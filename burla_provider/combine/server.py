"""Combine partial aggregates on the server: averages, and values of other types than numbers, given as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.database.settings import EXACT_TEXT, local_settings


def sum_on_server(
    connection: psycopg.Connection[Any], type_name: str, texts: Sequence[str], divisor: int | None = None
) -> str:
    """Return the sum of the values, as text.

    :param type_name: type of the values as ``format_type`` prints it, such as "numeric", "interval" or "money".
    :param texts: the values as text.
    :param divisor: divides the sum, for an average.
    """
    query = sql.SQL("SELECT (sum(p::{type}){division})::text FROM unnest({texts}::text[]) AS p").format(
        type=sql.SQL(type_name),
        division=sql.SQL(f" / {divisor}" if divisor else ""),
        texts=sql.Literal(list(texts)),
    )
    return _query_text(connection, query)


def extremum_on_server(
    connection: psycopg.Connection[Any], function: str, type_name: str, texts: Sequence[str], like: sql.Composed
) -> str:
    """Return the minimum or the maximum of the values, as text.

    :param function: "min" or "max".
    :param type_name: type of the values as ``format_type`` prints it.
    :param texts: the values as text.
    :param like: a query of one column, whose collation is used.
    """
    query = sql.SQL(
        "SELECT {function}(v)::text FROM ({like} UNION ALL SELECT p::{type} FROM unnest({texts}::text[]) AS p) AS u(v)"
    ).format(function=sql.SQL(function), like=like, type=sql.SQL(type_name), texts=sql.Literal(list(texts)))
    return _query_text(connection, query)


def _query_text(connection: psycopg.Connection[Any], query: sql.Composed) -> str:
    # The role may have other defaults for the text of values than the workers' sessions.
    with connection.transaction(force_rollback=True):
        connection.execute(local_settings(EXACT_TEXT), prepare=False)
        [(text,)] = connection.execute(query).fetchall()
    return str(text)
