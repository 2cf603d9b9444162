"""Working only what came since the last success: the window of each run, and what it goes on with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, LiteralString

from burla_provider.exceptions import InvalidParameterError
from burla_provider.task.logs import log_plan
from burla_provider.task.run_identity import is_cleared, run_key
from burla_provider.task.table_job import TableJob, upper_end
from burla_provider.task.watermark import AssetWatermark

if TYPE_CHECKING:
    import psycopg
    from airflow.providers.common.compat.sdk import Context
    from psycopg import sql

    from burla_provider.operators.postgres import BurlaPostgresOperator
    from burla_provider.ranges.catalog import TableFacts
    from burla_provider.ranges.key import KeyColumn
    from burla_provider.ranges.plan import Plan
    from burla_provider.task.session import TaskSession
    from burla_provider.worker.source import Source

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

_CLOCK_DIGITS = 6
"""Digits of a second that the server's clock has."""


@dataclass(frozen=True)
class Increment:
    """The keys of one run, ``lower <= key < upper``, as PostgreSQL's text of them; None is open."""

    lower: str | None
    upper: str


class IncrementalRun:
    """One try of a task that processes what came since the last success.

    :param asked: the operator, its templates rendered and its parameters checked.
    """

    def __init__(self, asked: BurlaPostgresOperator, context: Context, moment: TaskSession) -> None:
        self._asked = asked
        self._context = context
        self._connection = moment.connection
        self._log = asked.log
        self._run = TableJob(asked, context, moment)
        rows = (asked.postgres_conn_id, f"{moment.schema}.{moment.table}", str(asked.key))
        # A condition may hold a date, which differs from run to run; what a task is mapped over does not.
        mapped = (self._run.source.where,) if context["ti"].map_index not in (None, -1) else ()
        self._mark = AssetWatermark(context, asked.outlets, (*rows, *mapped), moment)
        self._column = find_column(moment.facts, str(asked.key))

    def run(self) -> dict[str, Any]:
        """Work this run's window. The watermark moves last: a failed run leaves it where it is."""
        if window := self._mark.window:
            return self._repeat(window)
        self._warn_of_null_keys()
        unfinished = self._mark.unfinished
        if unfinished is None or self._asked.plan_only:
            if is_cleared(self._context):
                self._log.info("This run was cleared, and no window of it is kept: it processes what came since.")
            return self._begin()
        return self._begin() if self._mark.was_cleared_since(unfinished) else self._go_on(unfinished)

    def _repeat(self, window: dict[str, Any]) -> dict[str, Any]:
        begin, end, run = window["begin"], window["end"], self._run
        run.ledger_key = window.get("key") or run_key(self._context)
        if not self._mark.is_of_this_try(window):
            run.ledger_key = _key(run_key(self._context), begin)
        self._log.info("This run repeats its window, %s.", self._describe(begin, end))
        if begin == end:
            return run.nothing()
        run.lower = begin
        self._end_at(end)
        result = self._result()
        if not self._asked.plan_only:
            self._mark.keep_window(begin, end, run.ledger_key)
        return result

    def _begin(self) -> dict[str, Any]:
        run, mark, start = self._run, self._mark, self._asked.start
        run.lower = begin = mark.end or (None if start in (None, "") else str(start))
        run.ledger_key = _key(run_key(self._context), begin)
        increment = find_increment(self._connection, run.source, self._column, begin, self._asked.lag)
        if increment is None:
            self._log.info("Nothing came since %s.", begin)
            self._warn_of_restarted_ids()
            if not self._asked.plan_only:
                mark.keep_window(begin, begin, run.ledger_key)
            return run.nothing()
        self._log.info("Working %s.", self._describe(begin, increment.upper))
        self._end_at(increment.upper)
        run.on_planned = lambda: mark.begin(begin, run.ledger_key, str(run.ledger))
        return self._work(begin)

    def _go_on(self, unfinished: dict[str, Any]) -> dict[str, Any]:
        """Work what is missing of a window that a run has written a part of, and what came since, as one window."""
        run, begin = self._run, unfinished["begin"]
        run.lower, run.ledger_key = begin, unfinished["key"]
        is_retry = self._mark.is_of_this_try(unfinished)
        self._mark.take_over()
        if run.ledger is None or str(run.ledger) != unfinished["ledger"]:
            raise InvalidParameterError(
                "ledger",
                f"the run {unfinished['run']} wrote a part of {self._describe(begin, None)}, which the ledger"
                f" {unfinished['ledger']} has.",
                "Name this ledger, or clear the task to begin a new run, which writes that part again.",
            )
        if not is_retry:
            self._log.info(
                "The run %s wrote a part of %s: this run goes on with it and adds what came since.",
                unfinished["run"],
                self._describe(begin, None),
            )
        # The ranges of a run are fixed by its first try.
        run.find_more = (lambda plan: None) if is_retry else self._what_came_after
        return self._work(begin)

    def _what_came_after(self, plan: Plan) -> Plan | None:
        run = self._run
        end = upper_end(plan) or run.lower
        increment = find_increment(self._connection, run.source, self._column, end, self._asked.lag)
        if increment is None:
            return None
        self._end_at(increment.upper)
        return run.plan(lower=end)

    def _work(self, begin: str | None) -> dict[str, Any]:
        result, run = self._result(), self._run
        if run.end is not None:
            self._mark.move(begin, run.end, run.ledger_key)
        if not self._asked.plan_only:
            self._mark.keep_window(begin, begin if run.end is None else run.end, run.ledger_key)
        return result

    def _end_at(self, end: str) -> None:
        if _is_integer(self._column):
            # Inclusive: the end behind the greatest value of a type is no value of the type.
            self._run.end_id = int(end) - 1
        else:
            self._run.upper = end

    def _result(self) -> dict[str, Any]:
        if not self._asked.plan_only:
            return self._run.run()
        plan = self._run.plan()
        log_plan(self._log, plan)
        return plan.as_dict()

    def _describe(self, begin: str | None, end: str | None) -> str:
        return f"{begin or '...'} <= {self._asked.key} < {end or '...'}"

    def _warn_of_null_keys(self) -> None:
        from psycopg import sql

        if not self._column.nullable:
            return
        query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} IS NULL)")
        key = sql.Identifier(self._column.name)
        [(exists,)] = self._connection.execute(query.format(self._run.source.relation, key))
        if exists:
            self._log.warning("There are rows whose %s is NULL: no incremental run processes them.", self._asked.key)

    def _warn_of_restarted_ids(self) -> None:
        from psycopg import sql

        end = self._mark.end
        if end is None or not _is_integer(self._column):
            return
        query = sql.SQL("SELECT max({}) FROM {}").format(sql.Identifier(self._column.name), self._run.source.relation)
        [(greatest,)] = self._connection.execute(query)
        if greatest is not None and greatest + 1 < int(end):
            self._log.warning(
                "The greatest %s is %s, and the last success came to %s: no run processes new rows below that. If the"
                " ids started again (TRUNCATE ... RESTART IDENTITY), delete the key %r from the state of the asset.",
                self._asked.key,
                greatest,
                end,
                self._mark.name,
            )


def _key(run: str, begin: str | None) -> str:
    """The ledger's key of a window that a run begins. A run has several if another run was faster."""
    return f"{run}/{begin or ''}"


def _is_integer(column: KeyColumn) -> bool:
    from burla_provider.ranges.key import INTEGER_LIMITS

    return column.type in INTEGER_LIMITS


def find_column(facts: TableFacts, name: str) -> KeyColumn:
    """Return the key's column with its type.

    :raises InvalidParameterError: the table has no such column.
    """
    from burla_provider.ranges.key_choice import choose_key

    return choose_key(facts, name).columns[0]


def check_lag(lag: int | timedelta | None) -> None:
    """:raises InvalidParameterError: it is negative: the mark would move ahead of the rows that are yet to come."""
    is_negative = lag < timedelta(0) if isinstance(lag, timedelta) else isinstance(lag, int) and lag < 0
    if is_negative:
        advice = "Give what is to be left to the next run, from 0 on."
        raise InvalidParameterError("lag", f"{lag!r} would leave out rows that are yet to come.", advice)


def find_increment(
    connection: psycopg.Connection[Any],
    source: Source,
    column: KeyColumn,
    lower: str | None,
    lag: int | timedelta | None,
) -> Increment | None:
    """The keys that came since ``lower``, up to the present moment; None when there are none.

    :param lag: leave so much to the next run, for rows that become visible late: ids, or a timedelta.
    :raises InvalidParameterError: the key can go down, or ``lag`` does not fit it.
    """
    from burla_provider.database.settings import EXACT_TEXT
    from burla_provider.ranges.planner_connection import PlannerConnection

    # A role may have moments printed with an abbreviation of their zone, and IST is read as another one than is meant.
    with PlannerConnection(connection).local_settings(**EXACT_TEXT):
        upper = _upper(connection, source, column, lag)
    if upper is None or (lower is not None and not _is_below(connection, column, lower, upper)):
        return None
    return Increment(lower, upper)


def _upper(
    connection: psycopg.Connection[Any], source: Source, column: KeyColumn, lag: int | timedelta | None
) -> str | None:
    from psycopg import sql

    if _is_integer(column):
        back = _fitting(lag or 0, int, column)
        end = sql.SQL("max({})::numeric + 1 - {}").format(sql.Identifier(column.name), sql.Literal(back))
        query = sql.SQL("SELECT ({})::text FROM {}").format(end, source.relation)
    elif column.type in CLOCKS:
        back = _fitting(lag or timedelta(0), timedelta, column)
        back, type_name = _at_precision(connection, source, column, back)
        query = sql.SQL(CLOCKS[column.type]).format(back=sql.Literal(back), type=type_name)
    else:
        raise InvalidParameterError(
            "incremental",
            f"the key {column.name!r} is of type {column.type}, whose values can go down.",
            "Use an ascending integer id, a timestamp or a date.",
        )
    row = connection.execute(query).fetchone()
    return row[0] if row else None


def _at_precision(
    connection: psycopg.Connection[Any], source: Source, column: KeyColumn, back: timedelta
) -> tuple[timedelta, sql.SQL]:
    """What to take from the clock, and the type to round it to, so that the end has the column's own precision.

    The end is rounded down: then later rows have keys from the end on, whether the server rounds their moments or their
    writer cuts them off.
    """
    from psycopg import sql

    query = sql.SQL("SELECT {} FROM {} LIMIT 0").format(sql.Identifier(column.name), source.relation)
    result = connection.execute(query).pgresult
    digits = result.fmod(0) if result else -1
    if not 0 <= digits < _CLOCK_DIGITS:
        return back, sql.SQL(column.type)
    # The cast rounds to the nearest: of a moment that is earlier by half a unit, this is never above the moment.
    back += timedelta(seconds=1) / 10**digits / 2
    return back, sql.SQL(column.type.replace("timestamp", f"timestamp({digits})"))


def _fitting(lag: Any, kind: type, column: KeyColumn) -> Any:
    if isinstance(lag, kind) and not isinstance(lag, bool):
        return lag
    advice = "Give a number of ids." if kind is int else "Give a datetime.timedelta."
    raise InvalidParameterError("lag", f"{lag!r} does not fit the key {column.name!r} ({column.type}).", advice)


def _is_below(connection: psycopg.Connection[Any], column: KeyColumn, lower: str, upper: str) -> bool:
    from psycopg import sql

    # As in _end_at.
    kind = sql.SQL("numeric" if _is_integer(column) else column.type)
    query = sql.SQL("SELECT {}::{} < {}::{}").format(sql.Literal(lower), kind, sql.Literal(upper), kind)
    [(is_below,)] = connection.execute(query)
    return bool(is_below)
