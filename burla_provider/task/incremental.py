"""An incremental run processes what is new since the last success: its window, and what it continues."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import sql

from burla_provider.database.settings import EXACT_TEXT
from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.catalog import TableFacts
from burla_provider.ranges.key import INTEGER_LIMITS, KeyColumn
from burla_provider.ranges.key_choice import choose_key
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.task.run_identity import is_cleared, run_key
from burla_provider.task.table_job import TableJob
from burla_provider.task.verify import window_end
from burla_provider.task.watermark import AssetWatermark
from burla_provider.worker.source import Source

if TYPE_CHECKING:
    import psycopg

    from burla_provider.ranges.plan import Plan

# A timestamp without a time zone is in UTC or in the zone of the server. The earlier of the two skips no row. If clocks
# are set back within a day, one hour occurs twice: from its first occurrence on, the third value is the earliest.
_EARLIEST_NOW: LiteralString = """
    SELECT least(
        moment AT TIME ZONE 'UTC', moment::timestamp, (moment + interval '24 hours')::timestamp - interval '24 hours'
    )::{type}::text
    FROM (SELECT now() - {lag} AS moment) AS clock
"""
_CLOCKS: dict[str, LiteralString] = {
    "timestamp with time zone": "SELECT (now() - {lag})::{type}::text",
    "timestamp without time zone": _EARLIEST_NOW,
    "date": _EARLIEST_NOW,
}
"""Key types whose values are limited by the clock: rows from now on are left to the next run."""

_CLOCK_DIGITS = 6
"""Fractional digits of a second that the server's clock has."""


@dataclass(frozen=True)
class Increment:
    """The keys of one run, ``lower <= key < upper``, as PostgreSQL's text. None is open."""

    lower: str | None
    upper: str


class IncrementalRun:
    """One try of an incremental task.

    :param job: the job that processes the window.
    """

    def __init__(self, job: TableJob) -> None:
        self._job = job
        self._config = job.config
        self._context = job.context
        self._connection = job.session.connection
        self._log = job.log
        config, session = job.config, job.session
        rows = (config.postgres_conn_id, f"{session.schema}.{session.table}", str(config.key))
        # A condition may contain a date, which changes from run to run. A task may be mapped over conditions.
        mapped = (job.source.where,) if self._context["ti"].map_index not in (None, -1) else ()
        self._watermark = AssetWatermark(self._context, job.outlets, (*rows, *mapped), session)
        self._column = find_column(session.facts, str(config.key))

    def run(self) -> dict[str, Any]:
        """Process the window of this run. The watermark advances last: a failed run does not change it."""
        if window := self._watermark.finished_window:
            return self._repeat(window)
        self._warn_of_null_keys()
        unfinished = self._watermark.unfinished
        if unfinished is None or self._config.plan_only:
            if is_cleared(self._context):
                self._log.info("This run was cleared, and its window is unknown: it processes what is new.")
            return self._begin()
        return self._begin() if self._watermark.was_cleared_since(unfinished) else self._continue(unfinished)

    def _repeat(self, window: dict[str, Any]) -> dict[str, Any]:
        """Process the window that this run has processed before."""
        begin, end, job = window["begin"], window["end"], self._job
        if self._watermark.is_of_this_try(window):
            job.ledger_key = window.get("key") or run_key(self._context)
        else:
            job.ledger_key = _ledger_key(run_key(self._context), begin)
        self._log.info("This run repeats its window, %s.", self._describe(begin, end))
        if begin == end:
            return job.empty_result()
        job.lower = begin
        self._set_end(end)
        result = job.run()
        self._save_window(begin, end)
        return result

    def _begin(self) -> dict[str, Any]:
        """Process a new window, from the watermark to now."""
        job, start = self._job, self._config.start
        job.lower = begin = self._watermark.end or (None if start is None else str(start))
        job.ledger_key = _ledger_key(run_key(self._context), begin)
        increment = self._find_increment(begin)
        if increment is None:
            self._log.info("Nothing is new since %s.", begin)
            self._warn_of_restarted_ids()
            self._save_window(begin, begin)
            return job.empty_result()
        self._log.info("Processing %s.", self._describe(begin, increment.upper))
        self._set_end(increment.upper)
        job.on_planned = lambda: self._watermark.save_unfinished(begin, job.ledger_key, str(job.ledger))
        return self._process(begin)

    def _continue(self, unfinished: dict[str, Any]) -> dict[str, Any]:
        """Process the rest of a window of which a run has written a part, and what is new since, as one window."""
        job, begin = self._job, unfinished["begin"]
        job.lower, job.ledger_key = begin, unfinished["key"]
        is_retry = self._watermark.is_of_this_try(unfinished)
        self._watermark.take_over_unfinished()
        if job.ledger is None or str(job.ledger) != unfinished["ledger"]:
            raise InvalidParameterError(
                "ledger",
                f"the run {unfinished['run']} wrote a part of {self._describe(begin, None)}, which the ledger"
                f" {unfinished['ledger']} has.",
                "Name this ledger, or clear the task to start a new run, which writes that part again.",
            )
        if not is_retry:
            self._log.info(
                "The run %s wrote a part of %s: this run continues it and adds what is new since.",
                unfinished["run"],
                self._describe(begin, None),
            )
        # The first try of a run fixes its ranges.
        job.find_more = (lambda plan: None) if is_retry else self._plan_more
        return self._process(begin)

    def _plan_more(self, plan: Plan) -> Plan | None:
        """Return a plan of what is new since the end of ``plan``; None if nothing is."""
        end = window_end(plan) or self._job.lower
        increment = self._find_increment(end)
        if increment is None:
            return None
        self._set_end(increment.upper)
        return self._job.plan(lower=end)

    def _process(self, begin: str | None) -> dict[str, Any]:
        job = self._job
        result = job.run()
        if job.end is not None:
            self._watermark.advance(begin, job.end, job.ledger_key)
        self._save_window(begin, begin if job.end is None else job.end)
        return result

    def _save_window(self, begin: str | None, end: str | None) -> None:
        if not self._config.plan_only:
            self._watermark.save_window(begin, end, self._job.ledger_key)

    def _set_end(self, end: str) -> None:
        if _is_integer(self._column):
            # Inclusive, because the end after the maximum of the type is not a value of the type.
            self._job.end_id = int(end) - 1
        else:
            self._job.upper = end

    def _find_increment(self, lower: str | None) -> Increment | None:
        return find_increment(self._connection, self._job.source, self._column, lower, self._config.lag)

    def _describe(self, begin: str | None, end: str | None) -> str:
        return f"{begin or '...'} <= {self._config.key} < {end or '...'}"

    def _warn_of_null_keys(self) -> None:
        if not self._column.nullable:
            return
        query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} IS NULL)")
        key = sql.Identifier(self._column.name)
        [(exists,)] = self._connection.execute(query.format(self._job.source.relation, key))
        if exists:
            self._log.warning("There are rows whose %s is NULL: no incremental run processes them.", self._config.key)

    def _warn_of_restarted_ids(self) -> None:
        end = self._watermark.end
        if end is None or not _is_integer(self._column):
            return
        query = sql.SQL("SELECT max({}) FROM {}").format(sql.Identifier(self._column.name), self._job.source.relation)
        [(maximum,)] = self._connection.execute(query)
        if maximum is not None and maximum + 1 < int(end):
            self._log.warning(
                "The maximum of %s is %s, but the last success ended at %s: no run processes new rows below that."
                " If the ids were restarted (TRUNCATE ... RESTART IDENTITY), delete the key %r from the state of the"
                " asset.",
                self._config.key,
                maximum,
                end,
                self._watermark.store_key,
            )


def _ledger_key(run: str, begin: str | None) -> str:
    """Return the ledger's key of a window. A run has several windows if another run was faster."""
    return f"{run}/{begin or ''}"


def _is_integer(column: KeyColumn) -> bool:
    return column.type in INTEGER_LIMITS


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
    if upper is None or (lower is not None and not _is_below(connection, column, lower, upper)):
        return None
    return Increment(lower, upper)


def _find_upper(
    connection: psycopg.Connection[Any], source: Source, column: KeyColumn, lag: int | timedelta | None
) -> str | None:
    if _is_integer(column):
        ids = _check_lag_type(lag or 0, int, column)
        end = sql.SQL("max({})::numeric + 1 - {}").format(sql.Identifier(column.name), sql.Literal(ids))
        query = sql.SQL("SELECT ({})::text FROM {}").format(end, source.relation)
    elif column.type in _CLOCKS:
        period = _check_lag_type(lag or timedelta(0), timedelta, column)
        period, type_name = _with_precision(connection, source, column, period)
        query = sql.SQL(_CLOCKS[column.type]).format(lag=sql.Literal(period), type=type_name)
    else:
        raise InvalidParameterError(
            "incremental",
            f"the values of the key {column.name!r} of type {column.type} can decrease.",
            "Use an ascending integer id, a timestamp or a date.",
        )
    row = connection.execute(query).fetchone()
    return row[0] if row else None


def _with_precision(
    connection: psycopg.Connection[Any], source: Source, column: KeyColumn, lag: timedelta
) -> tuple[timedelta, sql.SQL]:
    """Return the lag and the type that round the clock down to the precision of the column.

    Later rows then have keys at or above the end, whether their timestamps are rounded or truncated.
    """
    query = sql.SQL("SELECT {} FROM {} LIMIT 0").format(sql.Identifier(column.name), source.relation)
    result = connection.execute(query).pgresult
    digits = result.fmod(0) if result else -1
    if not 0 <= digits < _CLOCK_DIGITS:
        return lag, sql.SQL(column.type)
    # A cast rounds to the nearest value. Half a unit earlier, the result is never above the clock.
    lag += timedelta(seconds=1) / 10**digits / 2
    return lag, sql.SQL(column.type.replace("timestamp", f"timestamp({digits})"))


def _check_lag_type(lag: Any, expected: type, column: KeyColumn) -> Any:
    if isinstance(lag, expected) and not isinstance(lag, bool):
        return lag
    advice = "Use a number of ids." if expected is int else "Use a datetime.timedelta."
    raise InvalidParameterError("lag", f"{lag!r} does not fit the key {column.name!r} ({column.type}).", advice)


def _is_below(connection: psycopg.Connection[Any], column: KeyColumn, lower: str, upper: str) -> bool:
    # numeric, because the end of an integer key may be above the maximum of its type.
    type_name = sql.SQL("numeric" if _is_integer(column) else column.type)
    query = sql.SQL("SELECT {}::{} < {}::{}").format(sql.Literal(lower), type_name, sql.Literal(upper), type_name)
    [(is_below,)] = connection.execute(query)
    return bool(is_below)
