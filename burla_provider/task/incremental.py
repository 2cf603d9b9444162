"""An incremental run processes what is new since the last success: its window, and what it continues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key import Key
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.window import parse_key
from burla_provider.task.increment import (
    Increment,
    find_column,
    find_increment,
    has_local_times,
    hidden_zone,
    is_below,
    is_integer,
)
from burla_provider.task.run_identity import is_cleared, run_key
from burla_provider.task.table_job import TableJob
from burla_provider.task.verify import window_end
from burla_provider.task.watermark import AssetWatermark

if TYPE_CHECKING:
    from burla_provider.ranges.plan import Plan


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
        self._is_mapped = self._context["ti"].map_index not in (None, -1)
        mapped = (job.source.where,) if self._is_mapped else ()
        self._watermark = AssetWatermark(self._context, job.outlets, (*rows, *mapped), session)
        self._column = find_column(session.facts, str(config.key))
        # More rows with the maximum may come, unless it is unique.
        self._leaves_maximum = (
            config.lag is None and is_integer(self._column) and not session.facts.is_unique(Key((self._column,)))
        )

    def run(self) -> dict[str, Any]:
        """Process the window of this run. The watermark advances last: a failed run does not change it."""
        if window := self._watermark.finished_window:
            return self._repeat(window)
        self._warn_of_null_keys()
        self._warn_of_hidden_zone()
        if self._leaves_maximum:
            self._log.info(
                "No unique index is on %s alone: the rows with its maximum are left to the next run, because more of"
                " them may come. If no more can come, set lag=0.",
                self._config.key,
            )
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
        job = self._job
        job.lower = begin = self._watermark.end or self._find_start()
        job.ledger_key = _ledger_key(run_key(self._context), begin)
        increment = self._find_increment(begin)
        if increment is None:
            self._log.info("Nothing is new since %s.", begin or "the first key")
            self._warn_of_restarted_ids()
            self._save_window(begin, begin)
            return job.empty_result()
        self._log.info("Processing %s.", self._describe(begin, increment.upper))
        self._set_end(increment.upper)
        job.on_planned = lambda: self._watermark.save_unfinished(begin, job.ledger_key, str(job.ledger))
        return self._process(begin)

    def _find_start(self) -> str | None:
        """Return where a run begins before the first success: at the earliest ``start`` that a run had."""
        if self._is_mapped and self._job.source.where:
            self._log.warning(
                "No run with this condition has succeeded yet, so this run begins at %s. In a mapped task, each"
                " condition has its own watermark: if it changes from run to run (a date), each run begins there.",
                "the first key" if self._config.start is None else "start",
            )
        if self._config.start is None:
            return None
        start, earlier = str(self._config.start), self._watermark.start
        # Before it is saved, because later runs begin there.
        parse_key(PlannerConnection(self._connection), Key((self._column,)), "start", start)
        is_later = is_below(self._connection, self._column, earlier or start, start)
        if is_later:
            self._log.warning(
                "start is %s, but an earlier run began at %s, and no run has succeeded yet: this run begins there. To"
                " leave these rows out, delete the key %r from the state of the asset.",
                start,
                earlier,
                self._watermark.store_key,
            )
            return earlier
        if start != earlier and not self._config.plan_only:
            self._watermark.save_start(start)
        return start

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
        if is_integer(self._column):
            # Inclusive, because the end after the maximum of the type is not a value of the type.
            self._job.end_id = int(end) - 1
        else:
            self._job.upper = end

    def _find_increment(self, lower: str | None) -> Increment | None:
        lag = 1 if self._leaves_maximum else self._config.lag
        return find_increment(self._connection, self._job.source, self._column, lower, lag)

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

    def _warn_of_hidden_zone(self) -> None:
        hidden = hidden_zone(self._connection) if has_local_times(self._column) else None
        if hidden:
            self._log.warning(
                "%s has no time zone, and the TimeZone of the server is unknown, because this session has its own (%s,"
                " source: %s). Rows whose times are in a zone that is behind it and UTC may be skipped: add the"
                " difference to lag, or set the zone of the database (ALTER DATABASE ... SET timezone).",
                self._config.key,
                *hidden,
            )

    def _warn_of_restarted_ids(self) -> None:
        end = self._watermark.end
        if end is None or not is_integer(self._column):
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
