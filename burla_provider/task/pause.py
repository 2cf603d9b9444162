"""Pause a job while a query of the user returns true.

The task asks every ten seconds. While the answer is true it holds a lock on the target's database, which the workers
try before they write (``worker/pause.py``).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from airflow.exceptions import AirflowRescheduleException
from psycopg import sql

from burla_provider.database.connect import connection_parameters, is_alive, limit_unreachable_client, open_connection
from burla_provider.database.errors import is_canceled, is_transient
from burla_provider.database.redact import redact
from burla_provider.database.settings import application_name, local_settings, unreachable_client_settings
from burla_provider.exceptions import BurlaProviderError, InvalidParameterError, PauseQueryError
from burla_provider.hooks.postgres import open_hook_connection
from burla_provider.task.transform_config import MAX_PAUSE_SECONDS, TransformJobConfig
from burla_provider.worker.json_values import storable_text
from burla_provider.worker.pause import PauseLock

if TYPE_CHECKING:
    from burla_provider.task.reporter import Reporter

ASK_SECONDS = 10.0
"""Seconds between two answers."""
START_SECONDS = 60.0
"""Longest wait before the job starts. There is no snapshot yet, and the task needs only its slot."""
_RESCHEDULE_SECONDS = 300.0
"""Seconds until Airflow starts the task again after a pause that was too long."""
_MAX_FAILURES = 6
"""The task fails if the query fails, or a pause cannot begin, this number of times in a row."""
_MAX_CHARS = 300
_IMPROVE_QUERY = "Make the query faster, or the server reachable."
_ASK_SETTINGS = {"statement_timeout": "10s", "lock_timeout": "5s"}
_HOLD_SETTINGS = {"lock_timeout": "5s", "idle_in_transaction_session_timeout": "0"}


class PauseQuery:
    """The user's query, and a session of its own in which it is asked.

    :param query: SQL that returns true while the workers must wait.
    :param parameters: ``connection_parameters`` of the connection. Never printed.
    :param name: the session's application_name.
    """

    def __init__(self, query: str, parameters: Mapping[str, str], name: str) -> None:
        self.query = query
        self._parameters = parameters
        self._name = application_name(name, " pause_while")
        self._connection: psycopg.Connection[Any] | None = None

    def __str__(self) -> str:
        return storable_text(" ".join(self.query.split()))[:_MAX_CHARS]

    def ask(self) -> bool:
        """Return whether the workers must wait.

        :raises InvalidParameterError: if the query fails, or does not return true or false.
        :raises psycopg.Error: if a later call may succeed.
        """
        try:
            row = self._fetch()
        except psycopg.Error as error:
            if is_transient(error) or is_canceled(error):
                self.close()
                raise
            problem = f"the query failed: {self.redact(error)}."
            raise InvalidParameterError("pause_while", problem, f"Correct it: {self}") from error
        if row is not None and isinstance(row[0], bool):
            return row[0]
        answer = "no row" if row is None else "NULL" if row[0] is None else repr(row[0])
        advice = "Let it return one boolean, with coalesce() or EXISTS."
        if answer == "NULL":
            role = sql.Identifier(self._parameters["user"]).as_string()
            advice += f" If the role may not see a statistics view, run: GRANT pg_monitor TO {role};"
        problem = f"the query returned {answer} instead of true or false: {self}."
        raise InvalidParameterError("pause_while", problem, advice)

    def redact(self, error: psycopg.Error) -> str:
        """Return the text of an error without secrets."""
        return redact(str(error).strip(), self._parameters).rstrip(".")

    def close(self) -> None:
        """Close the session."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _fetch(self) -> tuple[Any, ...] | None:
        if self._connection is None or self._connection.closed:
            self._connection = open_connection(self._parameters, application_name=self._name, autocommit=True)
            self._connection.prepare_threshold = None  # there may be a pooler
            limit_unreachable_client(self._connection)
        with self._connection.transaction(force_rollback=True):
            self._connection.execute(sql.SQL("SET TRANSACTION READ ONLY; {}").format(local_settings(_ASK_SETTINGS)))
            cursor = self._connection.execute(sql.SQL(self.query))
            return cursor.fetchone() if cursor.description else None


class JobPause:
    """Pauses the workers of a running job.

    :param query: says whether they must wait.
    :param target: ``connection_parameters`` of the target, where the workers try the lock. Never printed.
    :param name: the session's application_name.
    :param log: the task's log.
    :param reporter: publishes that the job is paused.
    :ivar lock: the lock that the task holds during a pause.
    """

    def __init__(self, query: PauseQuery, target: Mapping[str, str], name: str, log: Any, reporter: Reporter) -> None:
        self.lock = PauseLock(secrets.randbits(63))
        self._query = query
        self._target = target
        self._name = application_name(name, " pause")
        self._log = log
        self._reporter = reporter
        self._holder: psycopg.Connection[Any] | None = None
        self._began: float | None = None
        self._since = 0.0
        self._seconds = 0.0
        self._ask_at = 0.0
        self._failures = 0

    @property
    def is_over_limit(self) -> bool:
        """Whether the job has been paused for longer than ``MAX_PAUSE_SECONDS``."""
        return self._began is not None and time.monotonic() - self._began > MAX_PAUSE_SECONDS

    def check(self) -> None:
        """Ask, if it is time, and begin or end a pause. Call it about every second.

        :raises PauseQueryError: if the query fails, or the pause cannot begin.
        :raises AirflowRescheduleException: if the pause takes too long.
        """
        if self.is_over_limit:
            self._log.info("Paused for %.0f s: the job ends, and the task continues later.", MAX_PAUSE_SECONDS)
            raise _reschedule()
        if time.monotonic() < self._ask_at:
            return
        must_wait = None
        try:
            must_wait = self._query.ask()
            if must_wait:
                self._hold()
            self._failures = 0
        except InvalidParameterError as error:
            # Rows are written, so a retry must stay possible: it continues the run.
            raise PauseQueryError(str(error)) from error
        except psycopg.Error as error:
            if must_wait:
                advice = (
                    "A worker's transaction is open, or the target's server does not respond: see pg_stat_activity."
                )
                self._handle_failure(error, "the pause cannot begin", advice)
            else:
                self._handle_failure(error, "the query failed", _IMPROVE_QUERY)
        else:
            if not must_wait and self._began is not None:
                self._release(self._began)
        self._ask_at = time.monotonic() + ASK_SECONDS

    def wait(self) -> None:
        """Ask now, and wait until the query returns false.

        :raises PauseQueryError: if the query fails.
        :raises AirflowRescheduleException: if the pause takes too long.
        """
        self._ask_at = 0.0
        self.check()
        while self._began is not None:
            time.sleep(1)
            self.check()
            self._reporter.tick()

    def as_dict(self) -> dict[str, Any]:
        """Return what the report shows: since when the job is paused, and how long it was paused before."""
        since = None if self._began is None else round(self._since, 1)
        return {"since": since, "query": str(self._query), "seconds": round(self._seconds, 1)}

    def close(self) -> None:
        """End both sessions, which releases the lock."""
        self._query.close()
        if self._holder is not None:
            self._holder.close()
        self._holder = None

    def _handle_failure(self, error: psycopg.Error, problem: str, advice: str) -> None:
        """Let the job continue as before.

        :raises PauseQueryError: if it is one failure too many in a row.
        """
        self._failures += 1
        reason = redact(self._query.redact(error), self._target)
        message = f"pause_while: {problem} (attempt {self._failures} of {_MAX_FAILURES}): {reason}."
        if self._failures >= _MAX_FAILURES:
            raise PauseQueryError(f"{message} {advice}") from error
        self._log.warning("%s The job continues as before.", message)

    def _hold(self) -> None:
        """Take the lock, unless it is held. Wait until the workers have written their chunks."""
        if self._holder is not None and is_alive(self._holder):
            return
        if self._holder is not None:
            self._holder.close()
        self._holder = None
        connection = open_connection(self._target, application_name=self._name, autocommit=True)
        try:
            connection.prepare_threshold = None
            # A transaction without a snapshot does not hold back vacuum.
            begin = "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY; {}"
            settings = _HOLD_SETTINGS | unreachable_client_settings(connection)
            if connection.info.server_version >= 170000:
                settings["transaction_timeout"] = "0"
            connection.execute(sql.SQL(begin).format(local_settings(settings)))
            connection.execute(self.lock.lock)
        except BaseException:
            connection.close()
            raise
        self._holder = connection
        if self._began is None:
            self._began, self._since = time.monotonic(), time.time()
            self._log.info("Paused while this is true: %s", self._query)
            self._reporter.pause(str(self._query))

    def _release(self, began: float) -> None:
        if self._holder is not None:
            self._holder.close()
        seconds = time.monotonic() - began
        self._holder, self._began = None, None
        self._seconds += seconds
        self._log.info("Continued after a pause of %.0f s.", seconds)
        self._reporter.end_pause()


@contextmanager
def open_pause(
    config: TransformJobConfig, target: Mapping[str, str], name: str, log: Any, reporter: Reporter
) -> Iterator[JobPause | None]:
    """Return what pauses the job, or None without ``pause_while``; end its sessions at the end.

    :param target: ``connection_parameters`` of the target.
    :param name: the sessions' application_name.
    :param reporter: publishes that the job is paused.
    """
    if config.pause_while is None or config.plan_only:
        yield None
        return
    with closing(JobPause(_open_query(config, name), target, name, log, reporter)) as pause:
        reporter.report.pause = pause.as_dict
        yield pause


def wait_to_start(config: TransformJobConfig, name: str, log: Any, reporter: Reporter) -> None:
    """Wait while the query returns true. Call it before anything is opened.

    :param name: the session's application_name.
    :raises InvalidParameterError: if the query cannot be used.
    :raises AirflowRescheduleException: if the wait takes too long.
    """
    if config.pause_while is None or config.plan_only:
        return
    started = time.monotonic()
    is_logged = False
    with closing(_open_query(config, name)) as query:
        while _ask_first(query):
            if not is_logged:
                log.info("The job does not start while this is true: %s", query)
                reporter.pause(str(query))
            is_logged = True
            if time.monotonic() - started >= START_SECONDS:
                raise _reschedule()
            time.sleep(ASK_SECONDS)
    reporter.end_pause()


def _reschedule() -> AirflowRescheduleException:
    """Return the exception with which Airflow starts the task again later, without using up a retry."""
    return AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=_RESCHEDULE_SECONDS))  # type: ignore[no-untyped-call]


def _open_query(config: TransformJobConfig, name: str) -> PauseQuery:
    assert config.pause_while is not None  # noqa: S101 (the caller has checked it)
    # By default it is the connection of another parameter, which the error of the login must name.
    names = ("postgres_conn_id", "target_conn_id", "pause_conn_id")
    parameter = next(given for given in names if getattr(config, given) == config.pause_conn_id)
    with open_hook_connection(config.pause_conn_id, parameter) as connection:
        return PauseQuery(config.pause_while, connection_parameters(connection), name)


def _ask_first(query: PauseQuery) -> bool:
    try:
        return query.ask()
    except psycopg.Error as error:
        message = f"pause_while: the query failed: {query.redact(error)}. {_IMPROVE_QUERY}"
        raise BurlaProviderError(message) from error
