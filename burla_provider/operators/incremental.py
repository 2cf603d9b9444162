"""Working only what came since the last success: the high-water mark of a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, LiteralString

from burla_provider.exceptions import InvalidParameter, MarkMoved, PermanentError
from burla_provider.fingerprint import fingerprint
from burla_provider.operators.run_identity import dag_run_pass

if TYPE_CHECKING:
    import psycopg
    from airflow.providers.common.compat.sdk import Context

    from burla_provider.ranges.key import KeyColumn
    from burla_provider.work.source import Source

# A moment without a time zone is UTC or in the server's zone, nobody says which: the earlier one leaves out no row.
# Where the clock will be put back within a day, an hour comes twice: from the first of them on it is put back here.
_NOW_SOMEWHERE: LiteralString = """
    SELECT least(
        moment AT TIME ZONE 'UTC', moment::timestamp, (moment + interval '24 hours')::timestamp - interval '24 hours'
    )::{type}::text
    FROM (SELECT now() - {back} AS moment) AS clock
"""
CLOCKS: dict[str, LiteralString] = {
    "timestamp with time zone": "SELECT (now() - {back})::{type}::text",
    "timestamp without time zone": _NOW_SOMEWHERE,
    "date": _NOW_SOMEWHERE,
}
"""Key types whose values the clock bounds: rows from now on are left to the next run."""


@dataclass(frozen=True)
class Increment:
    """The keys of one run, ``lower <= key < upper``, as PostgreSQL's text of them; None is open."""

    lower: str | None
    upper: str


class AssetMark:
    """The mark in Airflow's asset state store (3.3), for the operator's outlet.

    It is moved before Airflow has kept the task's result. So it says which run moved it and where that run began:
    a try that follows, because the result was lost or somebody cleared the task, begins there again.

    :param rows: connection id, table, key, and maybe a condition: whoever works other rows has another mark.
    :raises InvalidParameter: there is not exactly one outlet asset, or no such store.
    """

    def __init__(self, context: Context, outlets: Sequence[Any], rows: tuple[Any, ...]) -> None:
        stores = context.get("asset_state_store")
        if stores is None or len(outlets) != 1:
            raise InvalidParameter(
                "incremental",
                "there is nowhere to keep how far the last success came.",
                "Give the operator one asset as outlets=[Asset(...)]; this needs Airflow 3.3.",
            )
        ti = context["ti"]
        task = f"{ti.dag_id}.{ti.task_id}"
        self._store = stores[outlets[0]]
        # Airflow's keys have at most 512 characters.
        self._key = f"burla_high_water_mark {fingerprint(task, *rows)} {task} {rows[1]}"[:512]
        self._run = {"run": dag_run_pass(context), "map_index": ti.map_index}
        self._found: Any = None

    def begin(self) -> str | None:
        """Where this run begins; None before the first success.

        :raises InvalidParameter: another mapped instance of the task has worked these rows in this run.
        """
        self._found = self._store.get(self._key)
        if self._found is None:
            return None
        if self._found["run"] != self._run["run"]:
            return str(self._found["end"])
        if self._found["map_index"] != self._run["map_index"]:
            problem = "another mapped instance of this task works the same rows of the same table."
            raise InvalidParameter("incremental", problem, "Map it over table, where or postgres_conn_id.")
        return None if self._found["begin"] is None else str(self._found["begin"])

    def move(self, begin: str | None, end: str) -> bool:
        """Makes ``end`` what the next run begins with, unless somebody has moved the mark since ``begin()``."""
        if self._store.get(self._key) != self._found:
            return False
        self._store.set(self._key, {"begin": begin, "end": end, **self._run})
        return True


def mark_moved(*, is_written: bool) -> Exception:
    """The error of a run that was overtaken by another one.

    :param is_written: its writes are committed; a retry would find them in the ledger, with another beginning.
    """
    problem = "incremental: another run of this task worked the same rows at the same time, and ended first."
    advice = "Set max_active_runs=1 on the DAG."
    if is_written:
        return PermanentError(f"{problem} Both have written. {advice} Clear the task to work what came since.")
    return MarkMoved(f"{problem} This one's result is not used; a retry works what came since. {advice}")


def find_column(connection: psycopg.Connection[Any], table: str, name: str) -> KeyColumn:
    """The key's column with its type.

    :raises InvalidParameter: the table has no such column.
    """
    from burla_provider.ranges.choose_key import choose_key
    from burla_provider.ranges.facts import read_facts
    from burla_provider.ranges.queries import Queries

    return choose_key(read_facts(Queries(connection), table), name).columns[0]


def check_lag(lag: int | timedelta | None) -> None:
    """:raises InvalidParameter: it is negative: the mark would move ahead of the rows that are yet to come."""
    is_negative = lag < timedelta(0) if isinstance(lag, timedelta) else isinstance(lag, int) and lag < 0
    if is_negative:
        advice = "Give what is to be left to the next run, from 0 on."
        raise InvalidParameter("lag", f"{lag!r} would leave out rows that are yet to come.", advice)


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
    from burla_provider.database.session import AS_TEXT
    from burla_provider.ranges.queries import Queries

    # A role may have moments printed with an abbreviation of their zone, and IST is read as another one than is meant.
    with Queries(connection).locally(**AS_TEXT):
        upper = _upper(connection, source, column, lag)
    if upper is None or (lower is not None and not _is_below(connection, column, lower, upper)):
        return None
    return Increment(lower, upper)


def _upper(
    connection: psycopg.Connection[Any], source: Source, column: KeyColumn, lag: int | timedelta | None
) -> str | None:
    from psycopg import sql

    from burla_provider.ranges.key import INTEGER_LIMITS

    if column.type in INTEGER_LIMITS:
        back = _fitting(lag or 0, int, column)
        end = sql.SQL("max({})::numeric + 1 - {}").format(sql.Identifier(column.name), sql.Literal(back))
        query = sql.SQL("SELECT ({})::text FROM {}").format(end, source.relation)
    elif column.type in CLOCKS:
        back = _fitting(lag or timedelta(0), timedelta, column)
        query = sql.SQL(CLOCKS[column.type]).format(back=sql.Literal(back), type=sql.SQL(column.type))
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
