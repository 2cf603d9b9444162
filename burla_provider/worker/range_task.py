"""What one Burla call does: work one range, and answer with plain data, whatever happens."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_exponential, wait_random_exponential

from burla_provider.database.errors import is_canceled, is_transient
from burla_provider.database.settings import Session, set_config
from burla_provider.database.snapshot import (
    BEGIN_RANGE,
    Snapshot,
    join_snapshot,
    lock_relation,
    settings_between_ranges,
    settings_in_snapshot,
)
from burla_provider.ranges.key import CTID, Key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.connection import RESET_POOLED, connect_worker, renew, set_transactions
from burla_provider.worker.errors import describe, with_advice
from burla_provider.worker.failing_rows import failing_keys, is_of_rows
from burla_provider.worker.kept_connection import KeptConnection
from burla_provider.worker.ledger import Ledger, once
from burla_provider.worker.outcome import Failure, Outcome, encode
from burla_provider.worker.processors import RangeProcessor
from burla_provider.worker.source import Source
from burla_provider.worker.time_limit import time_limit

WAIT = wait_exponential(multiplier=0.25, max=7.5) + wait_random_exponential(multiplier=0.5, max=7.5)
"""Between attempts, with jitter, so that workers that failed together do not come back together. And at least so long
that a network that is gone for a little more than ``tcp_user_timeout`` does not use up all attempts."""

CTID_SETTINGS = {"enable_seqscan": "off", "max_parallel_workers_per_gather": "0"}
"""Otherwise the planner may read the whole table for every range of pages, and pick out the range's rows."""


@dataclass(frozen=True)
class RangeTask:
    """``work(index, item) -> bytes``, to be pickled by value and called on any machine that has psycopg and tenacity.

    :param parameters: what ``connection_parameters`` answered. Never printed.
    :param source: the rows that the job is about.
    :param key: the columns that the items' bounds are of.
    :param kind: what is done with a range.
    :param session: what the server is told and what it limits.
    :param snapshot: the moment at which all ranges are read, and only read; None: each range at its own.
    :param slots: connections that all jobs on the database together may have (``ConnectionLimit.slots``); None: no such limit.
    :param range_retries: further attempts at a range after a fault that may go away by itself.
    :param range_timeout: seconds that one attempt at a range may take, whatever it does; None: no limit.
    :param isolate_failures: when a range fails because of what is in its rows, find out which rows these are.
    :param ledger: makes writes happen once; None: a range that is worked again writes again.
    :param job_key: identifies the job across its retries; part of ``KeyRange.idempotency_key``.
    """

    parameters: Mapping[str, str] = field(repr=False)
    source: Source
    key: Key
    kind: RangeProcessor
    session: Session = field(default_factory=Session)
    snapshot: Snapshot | None = None
    slots: int | None = None
    range_retries: int = 0
    range_timeout: float | None = None
    isolate_failures: bool = False
    ledger: Ledger | None = None
    job_key: str = ""
    _kept: KeptConnection = field(default_factory=KeptConnection, repr=False, compare=False)

    def __call__(self, index: int, item: list[Any]) -> bytes:
        """Works item ``index``; never raises, except where the interpreter itself is told to stop."""
        key_range = KeyRange.from_item(self.key, index, item, self.job_key)
        return encode(self._work(key_range))

    def close(self) -> None:
        """Closes this thread's connection. A worker process that just ends needs no call."""
        self._kept.close()

    def _work(self, key_range: KeyRange) -> Outcome:
        outcome = Outcome(key_range.index, worker=f"{socket.gethostname()}:{os.getpid()}")
        retrying = Retrying(
            retry=_is_worth_another_try, wait=WAIT, stop=stop_after_attempt(self.range_retries + 1), reraise=True
        )
        try:
            for attempt in retrying:
                outcome = replace(outcome, attempts=attempt.retry_state.attempt_number, started=time.time())
                with attempt:
                    outcome = self._attempt(key_range, outcome)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's exception class may derive from anything, and must not travel
            return replace(outcome, seconds=_lasted(outcome), failure=self._failure(error, key_range))
        return outcome

    def _attempt(self, key_range: KeyRange, begun: Outcome) -> Outcome:
        with time_limit(self.range_timeout), self._transaction(key_range) as connection:
            if self.ledger is None:
                return self._run(connection, key_range, begun)
            return once(connection, self.ledger, key_range, begun, lambda: self._run(connection, key_range, begun))

    def _run(self, connection: psycopg.Connection[Any], key_range: KeyRange, begun: Outcome) -> Outcome:
        worked = self.kind(connection, self.source, key_range)
        return replace(begun, value=worked.value, row_count=worked.row_count, seconds=_lasted(begun))

    @contextmanager
    def _transaction(self, key_range: KeyRange, *, undo: bool = False) -> Iterator[psycopg.Connection[Any]]:
        begin = self._own_transaction if self.snapshot is None else self._kept_transaction
        with self._kept.closed_on_error():
            connection = self._take()
            # Closed inside as well: the end of psycopg's block would send a ROLLBACK and wait for the answer.
            with begin(connection, key_range, undo), self._kept.closed_on_error():
                yield connection

    @contextmanager
    def _own_transaction(self, connection: psycopg.Connection[Any], key_range: KeyRange, undo: bool) -> Iterator[None]:
        with connection.transaction(force_rollback=undo):
            reset = RESET_POOLED if self.kind.writes and self._kept.is_pooled else sql.SQL("")
            settings = self.session.settings(_suffix(key_range), self._settings_of_key)
            connection.execute(sql.SQL("{}{}; {}").format(reset, settings, self._inherited_settings))
            yield

    @contextmanager
    def _kept_transaction(
        self, connection: psycopg.Connection[Any], key_range: KeyRange, _undo: bool
    ) -> Iterator[None]:
        """The transaction in the snapshot that lasts from range to range, so that its locks do."""
        assert self.snapshot is not None  # noqa: S101
        self._enter_snapshot(connection, self.snapshot, key_range)
        # It only reads, so a rollback takes back what a user's function did to the session.
        with connection.transaction(force_rollback=True) if self.kind.writes else nullcontext():
            yield
        if self._kept.is_pooled:
            self._kept.end_transaction()  # it would keep a connection of the pooler's, too
        else:
            is_failed = connection.info.transaction_status == TransactionStatus.INERROR  # by a query that was stopped
            connection.execute(settings_between_ranges(self.snapshot, self.session, undo=is_failed))

    def _enter_snapshot(self, connection: psycopg.Connection[Any], snapshot: Snapshot, key_range: KeyRange) -> None:
        kept, relation = self._kept, key_range.relation
        if kept.locked and relation not in kept.locked and len(kept.locked) >= kept.locked_at_most:
            kept.end_transaction()
        settings = settings_in_snapshot(connection)
        if kept.locked is None:
            set_transactions(connection, read_only=True)
            connection.execute(self.session.settings(_suffix(key_range), settings | self._settings_of_key))
            join_snapshot(connection, snapshot, self.source.relation)
            kept.locked = set()
            last = self._inherited_settings
        else:
            last = self.session.settings_of_range(_suffix(key_range), settings)
        if relation and not snapshot.locks_partitions and relation not in kept.locked:
            lock_relation(connection, sql.Identifier(*relation))
            kept.locked.add(relation)
        connection.execute(sql.SQL("{}; {}").format(last, BEGIN_RANGE))

    def _take(self) -> psycopg.Connection[Any]:
        kept = self._kept
        connection = kept.take(self._connect)
        if kept.is_lent:
            try:
                renew(connection, **self._session_options, pooled=kept.is_pooled)
            except psycopg.OperationalError:  # it is lost, or its slot went to another job in between
                kept.close()
                connection = kept.take(self._connect)
        kept.is_lent = self.kind.writes
        return connection

    def _failure(self, error: BaseException, key_range: KeyRange) -> Failure:
        failure = describe(error, self.parameters)
        if not self.isolate_failures or not is_of_rows(error):
            return failure
        try:
            keys = failing_keys(key_range, partial(self._transaction, undo=True), self.kind, self.source)
        except Exception as trouble:  # the failure itself is what counts
            keys = f"not found, because of {describe(trouble, self.parameters).message}"
        return replace(failure, message=with_advice(failure.message, f"Rows that fail: {keys}."))

    def _connect(self) -> psycopg.Connection[Any]:
        connection = connect_worker(self.parameters, self.session.name, **self._session_options)
        self._kept.is_pooled = connection.prepare_threshold is None
        return connection

    @property
    def _session_options(self) -> dict[str, Any]:
        read_only = self.snapshot is not None or not self.kind.writes
        return {"read_only": read_only, "slots": self.slots, "settings": self.session.inherited}

    @property
    def _inherited_settings(self) -> sql.Composable:
        # A pooler may give each transaction another session.
        return set_config(self.session.inherited, local=True) if self._kept.is_pooled else sql.SQL("")

    @property
    def _settings_of_key(self) -> dict[str, str]:
        return CTID_SETTINGS if self.key == CTID else {}


def _suffix(key_range: KeyRange) -> str:
    return f" #{key_range.index}"


def _lasted(begun: Outcome) -> float:
    return max(0.0, time.time() - begun.started)


def _is_worth_another_try(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    if error is None:
        return False
    return is_transient(error) or (is_canceled(error) and state.attempt_number == 1)
