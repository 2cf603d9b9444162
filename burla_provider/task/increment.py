"""The keys of an incremental run: from the last success to now."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql

from burla_provider.database.settings import EXACT_TEXT
from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key import INTEGER_LIMITS, KeyColumn
from burla_provider.ranges.key_choice import choose_key
from burla_provider.ranges.planner_connection import PlannerConnection

if TYPE_CHECKING:
    from burla_provider.ranges.catalog import TableFacts
    from burla_provider.worker.source import Source

_WITH_ZONE = "timestamp with time zone"
_LOCAL_TIMES = ("timestamp without time zone", "date")

_CLOCK: LiteralString = "SELECT (now() - {lag})::{type}::text"

# If clocks are set back within a day, one hour occurs twice: from its first occurrence on, the second value is less.
_LOCAL_CLOCK: LiteralString = """
    SELECT least(moment::timestamp, (moment + interval '24 hours')::timestamp - interval '24 hours')::{type}::text
    FROM (SELECT now() - {lag} AS moment) AS clock
"""

# The sessions that write rows may have any of these. The settings of roles that cannot write do not matter.
_ZONES: LiteralString = """
    SELECT current_setting('TimeZone') UNION
    SELECT substr(setting, 10) FROM pg_db_role_setting, unnest(setconfig) AS setting
    WHERE setting ILIKE 'timezone=%'
        AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        AND (
            setrole = 0 OR has_any_column_privilege(setrole, {relation}::regclass, 'INSERT, UPDATE')
            -- Rows of a view are written to other tables.
            OR (SELECT relkind NOT IN ('r', 'p') FROM pg_class WHERE oid = {relation}::regclass)
        )
"""

# A setting of this session or role hides the server's, which other sessions have unless the database has one.
_HIDDEN_ZONE: LiteralString = """
    SELECT setting, source FROM pg_settings
    WHERE name = 'TimeZone'
        AND source <> ALL ('{default,environment variable,configuration file,command line,global,database}')
        AND NOT EXISTS (
            SELECT FROM pg_db_role_setting, unnest(setconfig) AS value
            WHERE value ILIKE 'timezone=%' AND setrole = 0
                AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        )
"""

# Not far above the newest row below the clock: later rows with a time in an unknown zone are then not below the end.
# Rows above the clock say nothing: their time may be wrong, or "infinity".
_END_OF_LOCAL_TIMES: LiteralString = """
    SELECT (newest + {unit})::{type}::text
    FROM (SELECT min(moment::{type}) FROM unnest({clocks}::text[]) AS moment) AS clocks (clock),
        LATERAL (SELECT max({column})::{type} FROM {relation} WHERE {column} < clock) AS key (newest)
    WHERE newest IS NOT NULL
"""

# A standby may not have replayed what was written before now. What it lacks was written after its newest row, maybe by
# a session in another zone. A row with a later time than now says nothing.
_END_ON_STANDBY: LiteralString = """
    SELECT least(clock, newest - {lag} - {offset})::{type}::text
    FROM (SELECT min(moment::{clock_type}) FROM unnest({clocks}::text[]) AS moment) AS clocks (clock), (
        SELECT max({column})::{clock_type} FROM {relation}
        WHERE {column} <= (SELECT max(moment::{clock_type}) + {lag} FROM unnest({clocks}::text[]) AS moment)
    ) AS key (newest)
    WHERE newest IS NOT NULL
"""

# Clocks may be set back between the newest row and now, or soon.
_OFFSETS: LiteralString = """
    SELECT moment::timestamp - moment AT TIME ZONE 'UTC'
    FROM unnest(ARRAY[now() - interval '24 hours', now(), now() + interval '24 hours']) AS moment
"""

_CLOCK_DIGITS = 6
"""Fractional digits of a second that the server's clock has."""


@dataclass(frozen=True)
class Increment:
    """The keys of one run, ``lower <= key < upper``, as PostgreSQL's text. None: no lower bound."""

    lower: str | None
    upper: str


def is_integer(column: KeyColumn) -> bool:
    """Return whether the key is a number."""
    return column.type in INTEGER_LIMITS


def has_local_times(column: KeyColumn) -> bool:
    """Return whether the key is a time without a time zone."""
    return column.type in _LOCAL_TIMES


def hidden_zone(connection: psycopg.Connection[Any]) -> tuple[str, str] | None:
    """Return the session's TimeZone and its source, if the one that other sessions have by default is unknown."""
    return connection.execute(_HIDDEN_ZONE).fetchone()


def find_column(facts: TableFacts, name: str) -> KeyColumn:
    """Return the key column with its type.

    :raises InvalidParameterError: if the table has no such column.
    """
    return choose_key(facts, name).columns[0]


def find_increment(
    connection: psycopg.Connection[Any],
    source: Source,
    column: KeyColumn,
    lower: str | None,
    lag: int | timedelta | None,
) -> Increment | None:
    """Return the keys from ``lower`` to now; None if there are none.

    :param lag: leave this to the next run, for rows that become visible late: a number of ids, or a timedelta.
    :raises InvalidParameterError: if the values of the key can decrease, or ``lag`` does not match its type.
    """
    # By default, timestamps may be printed with the abbreviation of a time zone, and abbreviations are ambiguous.
    with PlannerConnection(connection).local_settings(**EXACT_TEXT):
        upper = _find_upper(connection, source, column, lag)
    if upper is None or (lower is not None and not is_below(connection, column, lower, upper)):
        return None
    return Increment(lower, upper)


def _find_upper(
    connection: psycopg.Connection[Any], source: Source, column: KeyColumn, lag: int | timedelta | None
) -> str | None:
    if is_integer(column):
        ids = _check_lag_type(lag or 0, int, column)
        end = sql.SQL("max({})::numeric + 1 - {}").format(sql.Identifier(column.name), sql.Literal(ids))
        query = sql.SQL("SELECT ({})::text FROM {}").format(end, source.relation)
    elif column.type == _WITH_ZONE or has_local_times(column):
        period = _check_lag_type(lag or timedelta(0), timedelta, column)
        query = _end_of_times(connection, source, column, period)
    else:
        raise InvalidParameterError(
            "incremental",
            f"the values of the key {column.name!r} of type {column.type} can decrease.",
            "Use an ascending integer id, a timestamp or a date.",
        )
    row = connection.execute(query).fetchone()
    return row[0] if row else None


def _end_of_times(
    connection: psycopg.Connection[Any], source: Source, column: KeyColumn, lag: timedelta
) -> sql.Composed:
    """Return a query of the end for a key that is a time: rows from now on are left to the next run."""
    lag, type_name, unit = _with_precision(connection, source, column, lag)
    # No days: PostgreSQL's "1 day" has 23 hours if clocks are set forward. Before 15, a number has at most 32 bits.
    minutes, rest = divmod(lag, timedelta(minutes=1))
    text = sql.Literal(f"{minutes} minutes {rest // timedelta(microseconds=1)} microseconds")
    names: dict[str, sql.Composable] = {"lag": sql.SQL("{}::interval").format(text), "type": type_name}
    planner_connection = PlannerConnection(connection)
    is_standby = planner_connection.fetch_value(sql.SQL("SELECT pg_is_in_recovery()"))
    if column.type == _WITH_ZONE:
        clock = sql.SQL(_CLOCK).format(**names)
        if not is_standby:
            return clock
        clocks, offset, clock_type = [planner_connection.fetch_value(clock)], timedelta(0), _WITH_ZONE
    else:
        clocks, offset = _read_local_clocks(planner_connection, source, names)
        clock_type = _LOCAL_TIMES[0]
    return sql.SQL(_END_ON_STANDBY if is_standby else _END_OF_LOCAL_TIMES).format(
        **names,
        unit=sql.Literal(unit),
        offset=sql.Literal(offset),
        clock_type=sql.SQL(clock_type),
        column=sql.Identifier(column.name),
        relation=source.relation,
        clocks=sql.Literal(clocks),
    )


def _read_local_clocks(
    connection: PlannerConnection, source: Source, names: Mapping[str, sql.Composable]
) -> tuple[list[str], timedelta]:
    """Return the time now, minus the lag, in each zone that sessions that write may have, and how far they differ."""
    relation = sql.Literal(source.relation.as_string())
    clocks, offsets = [], []
    for (zone,) in connection.fetch_all(sql.SQL(_ZONES).format(relation=relation)):
        # The server ignores the setting of a zone that it does not know.
        with suppress(psycopg.errors.InvalidParameterValue), connection.local_settings(TimeZone=zone):
            clocks.append(connection.fetch_value(sql.SQL(_LOCAL_CLOCK).format(**names)))
            offsets += [offset for (offset,) in connection.fetch_all(sql.SQL(_OFFSETS))]
    return clocks, max(offsets) - min(offsets)


def _with_precision(
    connection: psycopg.Connection[Any], source: Source, column: KeyColumn, lag: timedelta
) -> tuple[timedelta, sql.SQL, timedelta]:
    """Return the lag and the type that round the clock down to the precision of the column, and its unit.

    Later rows then have keys at or above the end, whether their timestamps are rounded or truncated.
    """
    if column.type == "date":
        return lag, sql.SQL(column.type), timedelta(days=1)
    query = sql.SQL("SELECT {} FROM {} LIMIT 0").format(sql.Identifier(column.name), source.relation)
    result = connection.execute(query).pgresult
    digits = result.fmod(0) if result else -1
    if not 0 <= digits < _CLOCK_DIGITS:
        return lag, sql.SQL(column.type), timedelta(microseconds=1)
    unit = timedelta(seconds=1) / 10**digits
    # A cast rounds to the nearest value. Half a unit earlier, the result is never above the clock.
    return lag + unit / 2, sql.SQL(column.type.replace("timestamp", f"timestamp({digits})")), unit


def _check_lag_type(lag: Any, expected: type, column: KeyColumn) -> Any:
    if isinstance(lag, expected) and not isinstance(lag, bool):
        return lag
    advice = "Use a number of ids." if expected is int else "Use a datetime.timedelta."
    raise InvalidParameterError("lag", f"{lag!r} does not fit the key {column.name!r} ({column.type}).", advice)


def is_below(connection: psycopg.Connection[Any], column: KeyColumn, lower: str, upper: str) -> bool:
    """Return whether a key is less than another one."""
    # numeric, because the end of an integer key may be above the maximum of its type.
    type_name = sql.SQL("numeric" if is_integer(column) else column.type)
    query = sql.SQL("SELECT {}::{} < {}::{}").format(sql.Literal(lower), type_name, sql.Literal(upper), type_name)
    [(is_below,)] = connection.execute(query)
    return bool(is_below)
