"""Process one range on a worker: connect, begin, run the processor, retry, and return an encoded outcome."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from burla_provider.database.errors import advice_for, is_canceled, is_transient
from burla_provider.database.redact import redact
from burla_provider.database.settings import SessionSettings, set_config
from burla_provider.database.snapshot import (
    BEGIN_RANGE,
    END_RANGE,
    UNDO_RANGE,
    Snapshot,
    join_snapshot,
    lock_relation,
    settings_between_ranges,
    settings_in_snapshot,
)
from burla_provider.exceptions import ConnectionLimitError, RangeTimeoutError
from burla_provider.ranges.key import CTID, Key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.connection import (
    RESET_POOLED,
    CachedConnection,
    connect_worker,
    reset_session,
    set_transaction_mode,
)
from burla_provider.worker.errors import to_failure
from burla_provider.worker.failing_rows import find_failing_keys, is_caused_by_rows, is_specific_to_range
from burla_provider.worker.ledger import Ledger, run_once
from burla_provider.worker.outcome import Failure, Outcome, encode, worker_name
from burla_provider.worker.processors import RangeProcessor, RangeResult, Transform
from burla_provider.worker.row_keys import KeyFinder
from burla_provider.worker.source import Source
from burla_provider.worker.time_limit import time_limit
from burla_provider.worker.user_function import UserFunction, bind_range

_THEN = sql.SQL("; ")

_CTID_SETTINGS = {"enable_seqscan": "off", "max_parallel_workers_per_gather": "0"}
"""Without these settings the server may read the whole table for every range of pages, and filter the rows."""


@dataclass(frozen=True)
class RangeTask:
    """``task(index, item) -> bytes``: pickled by value, and called on a machine that has psycopg and tenacity.

    :param parameters: ``connection_parameters`` of the task's connection. Never printed.
    :param source: the rows to read.
    :param key: the columns that the bounds of the items belong to.
    :param processor: processes one range.
    :param settings: settings of every transaction.
    :param snapshot: the snapshot in which all ranges are read; None: each range is read in its own snapshot.
    :param slots: connections of all jobs on the database together (``ConnectionLimit.slots``); None: no limit.
    :param range_retries: further attempts per range after a transient error.
    :param range_timeout: limit for one attempt, in seconds; None: no limit.
    :param isolate_failures: find the rows that make a range fail.
    :param row_key: the columns that identify a row in the error of a range of pages; no columns: unknown.
    :param ledger: makes writes happen once; None: a repeated range writes again.
    :param secrets: connection parameters whose secrets no error may show; none: ``parameters``.
    :param job_key: identifies the job across its retries; part of ``KeyRange.idempotency_key``.
    :param function: the user's function, which the processor calls; None: the processor has none.
    """

    parameters: Mapping[str, str] = field(repr=False)
    source: Source
    key: Key
    processor: RangeProcessor
    settings: SessionSettings = field(default_factory=SessionSettings)
    snapshot: Snapshot | None = None
    slots: int | None = None
    range_retries: int = 0
    range_timeout: float | None = None
    isolate_failures: bool = False
    row_key: Key = field(default_factory=Key)
    ledger: Ledger | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    job_key: str = ""
    function: UserFunction | None = None
    _cached: CachedConnection = field(default_factory=CachedConnection, repr=False, compare=False)
    _key_finder: KeyFinder = field(default_factory=KeyFinder, repr=False, compare=False)

    def __call__(self, index: int, item: list[Any]) -> bytes:
        """Process item ``index`` and pause."""
        try:
            return self.process(index, item)
        finally:
            self.pause()

    def load(self) -> Failure | None:
        """Make what the function needs once per worker process. No transaction and no time limit is active."""
        return None if self.function is None else self.function.load(self.secrets or self.parameters)

    def process(self, index: int, item: list[Any]) -> bytes:
        """Process item ``index``. Raises only KeyboardInterrupt; every other error is in the outcome.

        Another item, or ``pause``, must follow at once.
        """
        if failure := self.load():
            return encode(Outcome(index, started=time.time(), worker=worker_name(), failure=failure))
        key_range = KeyRange.from_item(self.key, index, item, self.job_key)
        return encode(self._run_with_retries(key_range))

    def pause(self) -> None:
        """Limit how long the transaction in the snapshot may wait for the next item."""
        cached = self._cached
        if self.snapshot is None or cached.connection is None or not cached.has_savepoint:
            return
        try:
            cached.connection.execute(settings_between_ranges(self.snapshot, self.settings))
            cached.has_savepoint = False
        except psycopg.Error:  # the outcome is complete; the next item needs another connection
            cached.close()

    def close(self) -> None:
        """Close this thread's connections, and what the function has loaded."""
        self._cached.close()
        if isinstance(self.processor, Transform):
            self.processor.writer.close()
        if self.function is not None:
            self.function.close()

    def _run_with_retries(self, key_range: KeyRange) -> Outcome:
        number = 0
        while True:
            number += 1
            attempt = Outcome(key_range.index, started=time.time(), worker=worker_name(), attempts=number)
            try:
                return self._attempt(key_range, attempt)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a user's exception class may have any base, and must not be sent
                if number > self.range_retries or not _is_worth_retrying(error, number):
                    failure = self._failure(error, key_range)
                    return replace(attempt, seconds=_elapsed(attempt), failure=failure)
            time.sleep(_wait_seconds(number))

    def _attempt(self, key_range: KeyRange, attempt: Outcome) -> Outcome:
        with time_limit(self.range_timeout), self._transaction(key_range) as connection:
            if self.ledger is None:
                return self._process(connection, key_range, attempt)
            process = partial(self._process, connection, key_range, attempt)
            return run_once(connection, self.ledger, key_range, attempt, process)

    def _process(self, connection: psycopg.Connection[Any], key_range: KeyRange, attempt: Outcome) -> Outcome:
        result = self._call_processor(connection, self.source, key_range)
        return replace(attempt, value=result.value, row_count=result.row_count, seconds=_elapsed(attempt))

    def _call_processor(self, connection: psycopg.Connection[Any], source: Source, key_range: KeyRange) -> RangeResult:
        processor = self.processor if self.function is None else bind_range(self.processor, key_range)
        return processor(connection, source, key_range)

    def _call_limited(self, connection: psycopg.Connection[Any], source: Source, part: KeyRange) -> RangeResult:
        """Process a part of a range that failed: the function may hang on it, because it stops at another row."""
        with time_limit(self.range_timeout):
            return self._call_processor(connection, source, part)

    @contextmanager
    def _transaction(self, key_range: KeyRange, *, undo: bool = False) -> Iterator[psycopg.Connection[Any]]:
        begin = self._range_transaction if self.snapshot is None else self._snapshot_transaction
        with self._cached.close_on_error():
            connection = self._get_connection()
            # Closed inside as well: the end of psycopg's block would send a ROLLBACK and wait for the response.
            with begin(connection, key_range, undo), self._cached.close_on_error():
                yield connection

    @contextmanager
    def _range_transaction(
        self, connection: psycopg.Connection[Any], key_range: KeyRange, undo: bool
    ) -> Iterator[None]:
        """Begin and end a transaction for this range."""
        with connection.transaction(force_rollback=undo):
            reset = RESET_POOLED if self.processor.writes and self._cached.is_pooled else sql.SQL("")
            settings = self.settings.transaction_sql(_suffix(key_range), self._key_settings)
            begin = sql.SQL("") if self.processor.writes else BEGIN_RANGE
            connection.execute(sql.SQL("{}{}; {}; {}").format(reset, settings, self._inherited_settings, begin))
            yield

    @contextmanager
    def _snapshot_transaction(
        self, connection: psycopg.Connection[Any], key_range: KeyRange, _undo: bool
    ) -> Iterator[None]:
        """Enter the transaction in the snapshot, which spans ranges so that it keeps its locks."""
        assert self.snapshot is not None  # noqa: S101
        self._enter_snapshot(connection, self.snapshot, key_range)
        # The transaction only reads; a rollback restores session state that a user's function changed.
        with connection.transaction(force_rollback=True) if self.processor.writes else nullcontext():
            yield
        if self._cached.is_pooled:
            self._cached.end_transaction()  # an open transaction would occupy a connection of the pooler
        elif connection.info.transaction_status == TransactionStatus.INERROR:  # by a canceled query
            connection.execute(UNDO_RANGE)

    def _enter_snapshot(self, connection: psycopg.Connection[Any], snapshot: Snapshot, key_range: KeyRange) -> None:
        cached, relation = self._cached, key_range.relation
        if cached.locked and relation not in cached.locked and len(cached.locked) >= cached.max_locked:
            cached.end_transaction()
        defaults = settings_in_snapshot(connection)
        if cached.locked is None:
            set_transaction_mode(connection, read_only=True, isolation_level=psycopg.IsolationLevel.REPEATABLE_READ)
            connection.execute(self.settings.transaction_sql(_suffix(key_range), defaults | self._key_settings))
            join_snapshot(connection, snapshot, self.source.relation)
            cached.locked = set()
            settings = self._inherited_settings
        elif cached.has_savepoint:  # of the last range, whose other settings still apply
            settings = sql.Composed([END_RANGE, _THEN, self.settings.name_sql(_suffix(key_range))])
        else:
            settings = self.settings.range_sql(_suffix(key_range), defaults)
        if relation and not snapshot.locks_partitions and relation not in cached.locked:
            lock_relation(connection, sql.Identifier(*relation))
            cached.locked.add(relation)
        connection.execute(sql.Composed([settings, _THEN, BEGIN_RANGE]))
        cached.has_savepoint = True

    def _get_connection(self) -> psycopg.Connection[Any]:
        cached = self._cached
        connection = cached.get(self._connect)
        if cached.needs_reset:
            try:
                reset_session(connection, **self._session_options, pooled=cached.is_pooled)
            except (psycopg.OperationalError, ConnectionLimitError):  # connection or slot lost
                cached.close()
                connection = cached.get(self._connect)
        cached.needs_reset = self.processor.writes
        return connection

    def _connect(self) -> psycopg.Connection[Any]:
        connection = connect_worker(self.parameters, self.settings.name, **self._session_options)
        self._cached.is_pooled = connection.prepare_threshold is None
        return connection

    def _failure(self, error: BaseException, key_range: KeyRange) -> Failure:
        secrets = self.secrets or self.parameters
        advice = advice_for(error, self.parameters.get("host", ""), self.settings.statement_timeout)
        failure = to_failure(error, secrets, advice)
        transaction = partial(self._transaction, undo=True)
        if self.row_key.columns and is_specific_to_range(error):
            keys = self._key_finder.find(key_range, transaction, self.source, self.row_key)
            failure = replace(failure, keys=redact(keys, secrets))
        if not self.isolate_failures or not is_caused_by_rows(error):
            return failure
        _announce_isolating()
        try:
            rows = find_failing_keys(key_range, transaction, self._call_limited, self.source, self.row_key)
        except (Exception, RangeTimeoutError) as search_error:  # must not hide the failure itself
            rows = f"not found, because {to_failure(search_error, {}).message}"
        return replace(failure, rows=redact(rows, secrets))

    @property
    def _session_options(self) -> dict[str, Any]:
        read_only = self.snapshot is not None or not self.processor.writes
        return {"read_only": read_only, "slots": self.slots, "settings": self.settings.inherited}

    @property
    def _inherited_settings(self) -> sql.Composable:
        # A pooler may give each transaction another session.
        return set_config(self.settings.inherited, local=True) if self._cached.is_pooled else sql.SQL("")

    @property
    def _key_settings(self) -> dict[str, str]:
        return _CTID_SETTINGS if self.key == CTID else {}


def _suffix(key_range: KeyRange) -> str:
    return f" #{key_range.index}"


def _elapsed(attempt: Outcome) -> float:
    return max(0.0, time.time() - attempt.started)


def _announce_isolating() -> None:
    # See jobs/client/call.py, which is not part of this package on a worker.
    announce = getattr(sys.stdout, "announce", None)
    if announce is not None:
        announce("isolating")


def _is_worth_retrying(error: BaseException, attempt: int) -> bool:
    return is_transient(error) or (is_canceled(error) and attempt == 1)


def _wait_seconds(attempt: int) -> float:
    """Return how long to wait before the next attempt.

    A random part keeps workers that failed together from retrying together. All waits together last longer than
    ``tcp_user_timeout``, so that a short network failure does not use up all attempts.
    """
    return min(0.25 * 2.0 ** (attempt - 1), 7.5) + random.uniform(0, min(0.5 * 2.0 ** (attempt - 1), 7.5))  # noqa: S311
