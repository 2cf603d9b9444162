"""What one Burla call does: work one range, and answer with plain data, whatever happens."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_random_exponential

from burla_provider.database.faults import is_canceled, is_transient
from burla_provider.database.session import Session
from burla_provider.database.snapshot import Snapshot, join_snapshot
from burla_provider.ranges.key import Key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.work.connecting import connect_worker
from burla_provider.work.failure import describe
from burla_provider.work.kept import KeptConnection
from burla_provider.work.kinds import Kind, Worked
from burla_provider.work.outcome import Outcome, encode
from burla_provider.work.source import Source

WAIT = wait_random_exponential(multiplier=0.5, max=15)
"""Between attempts, with jitter, so that workers that failed together do not come back together."""


@dataclass(frozen=True)
class RangeWork:
    """``work(index, item) -> bytes``, to be pickled by value and called on any machine that has psycopg and tenacity.

    :param parameters: what ``connection_parameters`` answered. Never printed.
    :param source: the rows that the job is about.
    :param key: the columns that the items' bounds are of.
    :param kind: what is done with a range.
    :param session: what the server is told and what it limits.
    :param snapshot: the moment at which all ranges are read, and only read; None: each range at its own.
    :param slots: connections that all jobs on the database together may have (``Budget.slots``); None: no such limit.
    :param range_retries: further attempts at a range after a fault that may go away by itself.
    :param job_key: identifies the job across its retries; part of ``KeyRange.idempotency_key``.
    """

    parameters: Mapping[str, str] = field(repr=False)
    source: Source
    key: Key
    kind: Kind
    session: Session = field(default_factory=Session)
    snapshot: Snapshot | None = None
    slots: int | None = None
    range_retries: int = 8
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
                clock = time.monotonic()
                with attempt:
                    worked = self._attempt(key_range)
                outcome = replace(outcome, seconds=time.monotonic() - clock)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's exception class may derive from anything, and must not travel
            return replace(outcome, failure=describe(error, self.parameters))
        return replace(outcome, value=worked.value, row_count=worked.row_count)

    def _attempt(self, key_range: KeyRange) -> Worked:
        with self._transaction(key_range) as connection:
            return self.kind(connection, self.source, key_range)

    @contextmanager
    def _transaction(self, key_range: KeyRange) -> Iterator[psycopg.Connection[Any]]:
        try:
            connection = self._kept.take(self._connect)
            with connection.transaction():
                connection.execute(self.session.settings(f" #{key_range.index}"))
                if self.snapshot is not None:
                    join_snapshot(connection, self.snapshot, self.source.relation_of(key_range))
                yield connection
        except BaseException:
            self._kept.close()  # whatever state it is in
            raise

    def _connect(self) -> psycopg.Connection[Any]:
        read_only = self.snapshot is not None or not self.kind.may_write
        return connect_worker(self.parameters, self.session.name, read_only=read_only, slots=self.slots)


def _is_worth_another_try(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    if error is None:
        return False
    return is_transient(error) or (is_canceled(error) and state.attempt_number == 1)
