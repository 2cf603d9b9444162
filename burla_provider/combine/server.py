"""Combining partial aggregates of types that only the server can add or order: text, interval, inet and the like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.database.settings import AS_TEXT, local_settings


def add_on_server(
    connection: psycopg.Connection[Any], type_name: str, texts: Sequence[str], divisor: int | None = None
) -> str:
    """The sum of values given as PostgreSQL's own text, as text again.

    :param type_name: as ``format_type`` prints it; a type that has ``sum`` ("interval", "money").
    :param divisor: by how many to divide the sum, for an average.
    """
    query = sql.SQL("SELECT (sum(p::{type}){division})::text FROM unnest({texts}::text[]) AS p").format(
        type=sql.SQL(type_name),
        division=sql.SQL(f" / {divisor}" if divisor else ""),
        texts=_array(texts),
    )
    return _ask(connection, query)


def extreme_on_server(
    connection: psycopg.Connection[Any], function: str, type_name: str, texts: Sequence[str], like: sql.Composed
) -> str:
    """The least or the greatest of values given as PostgreSQL's own text, as text again.

    :param function: "min" or "max".
    :param like: a query of one column whose collation is the one to compare in.
    """
    query = sql.SQL(
        "SELECT {function}(v)::text FROM ({like} UNION ALL SELECT p::{type} FROM unnest({texts}::text[]) AS p) AS u(v)"
    )
    return _ask(
        connection,
        query.format(function=sql.SQL(function), like=like, type=sql.SQL(type_name), texts=_array(texts)),
    )


def _array(texts: Sequence[str]) -> sql.Literal:
    return sql.Literal(list(texts))


def _ask(connection: psycopg.Connection[Any], query: sql.Composed) -> str:
    # A role may have its values printed in another style than the workers' are.
    with connection.transaction(force_rollback=True):
        connection.execute(local_settings(AS_TEXT), prepare=False)
        [(text,)] = connection.execute(query).fetchall()
    return str(text)
