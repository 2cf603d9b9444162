"""Working only what came since the last success: the high-water mark of a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from burla_provider.exceptions import InvalidParameter

if TYPE_CHECKING:
    import psycopg
    from airflow.providers.common.compat.sdk import Context

    from burla_provider.ranges.key import KeyColumn
    from burla_provider.work.source import Source

MOMENTS = ("timestamp without time zone", "timestamp with time zone", "date")
"""Key types whose values the clock bounds: rows from now on are left to the next run."""


@dataclass(frozen=True)
class Increment:
    """The keys of one run, ``lower <= key < upper``, as PostgreSQL's text of them; None is open."""

    lower: str | None
    upper: str


class AssetMark:
    """The mark in Airflow's asset state store (3.3), for the operator's outlet.

    :param name: tells apart what different tasks keep for one asset.
    :raises InvalidParameter: there is not exactly one outlet asset, or no such store.
    """

    def __init__(self, context: Context, outlets: Sequence[Any], name: str) -> None:
        stores = context.get("asset_state_store")
        if stores is None or len(outlets) != 1:
            raise InvalidParameter(
                "incremental",
                "there is nowhere to keep how far the last success came.",
                "Give the operator one asset as outlets=[Asset(...)]; this needs Airflow 3.3.",
            )
        self._store = stores[outlets[0]]
        self._key = f"burla_high_water_mark {name}"

    def get(self) -> str | None:
        """Where the next run begins; None before the first success."""
        mark = self._store.get(self._key)
        return None if mark is None else str(mark)

    def set(self, mark: str) -> None:
        self._store.set(self._key, mark)


def find_column(connection: psycopg.Connection[Any], table: str, name: str) -> KeyColumn:
    """The key's column with its type.

    :raises InvalidParameter: the table has no such column.
    """
    from burla_provider.ranges.choose_key import choose_key
    from burla_provider.ranges.facts import read_facts
    from burla_provider.ranges.queries import Queries

    return choose_key(read_facts(Queries(connection), table), name).columns[0]


def find_increment(
    connection: psycopg.Connection[Any],
    source: Source,
    column: KeyColumn,
    lower: str | None,
    lag: int | timedelta | None,
) -> Increment | None:
    """The keys that came since ``lower``, up to the present moment; None when there are none.

    :param lag: leave so much to the next run, for rows that become visible late: ids, or a timedelta.
    :raises InvalidParameter: the key can go down, or ``lag`` does not fit it.
    """
    upper = _upper(connection, source, column, lag)
    if upper is None or (lower is not None and not _is_below(connection, column, lower, upper)):
        return None
    return Increment(lower, upper)


def _upper(
    connection: psycopg.Connection[Any], source: Source, column: KeyColumn, lag: int | timedelta | None
) -> str | None:
    from psycopg import sql

    from burla_provider.ranges.key import INTEGER_LIMITS

    key_type = sql.SQL(column.type)
    if column.type in INTEGER_LIMITS:
        back = _fitting(lag or 0, int, column)
        end = sql.SQL("max({})::numeric + 1 - {}").format(sql.Identifier(column.name), sql.Literal(back))
        query = sql.SQL("SELECT ({})::text FROM {}").format(end, source.relation)
    elif column.type in MOMENTS:
        back = _fitting(lag or timedelta(0), timedelta, column)
        query = sql.SQL("SELECT (now() - {})::{}::text").format(sql.Literal(back), key_type)
    else:
        raise InvalidParameter(
            "incremental",
            f"the key {column.name!r} is of type {column.type}, whose values can go down.",
            "Use an ascending integer id, a timestamp or a date.",
        )
    row = connection.execute(query).fetchone()
    return row[0] if row else None


def _fitting(lag: Any, kind: type, column: KeyColumn) -> Any:
    if isinstance(lag, kind) and not isinstance(lag, bool):
        return lag
    advice = "Give a number of ids." if kind is int else "Give a datetime.timedelta."
    raise InvalidParameter("lag", f"{lag!r} does not fit the key {column.name!r} ({column.type}).", advice)


def _is_below(connection: psycopg.Connection[Any], column: KeyColumn, lower: str, upper: str) -> bool:
    from psycopg import sql

    query = sql.SQL("SELECT {}::{} < {}::{}")
    row = connection.execute(
        query.format(sql.Literal(lower), sql.SQL(column.type), sql.Literal(upper), sql.SQL(column.type))
    ).fetchone()
    return bool(row and row[0])
