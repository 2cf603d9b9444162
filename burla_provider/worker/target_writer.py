"""Write the chunks of a range to the target, each in a short transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from burla_provider.database.errors import mark_target_error
from burla_provider.database.settings import SessionSettings, set_config
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.blocks import Block
from burla_provider.worker.chunk_ledger import Progress, claim_chunk, read_progress, store_progress
from burla_provider.worker.chunks import Chunk
from burla_provider.worker.connection import CachedConnection, connect_worker
from burla_provider.worker.isolation import IsolateFailures
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.outcome import worker_name
from burla_provider.worker.pause import PauseLock
from burla_provider.worker.refused_rows import PartsRefusedError, reject_refused
from burla_provider.worker.rejects import COUNT, RejectTable, is_refusal
from burla_provider.worker.sinks import Sink, Written

_WRITE_ATTEMPTS = 10
"""Attempts of one write after deadlocks and serialization failures. The user's function is not called again."""


@dataclass(frozen=True)
class TargetWriter:
    """Writes chunks on a connection of its own to the target's database.

    :param parameters: ``connection_parameters`` of the target. Never printed.
    :param settings: settings of every transaction.
    :param sink: writes the rows.
    :param ledger: a chunk is written once; None: a repeated range is written again.
    :param slots: connections of all jobs on the target's database together; None: no limit.
    :param pause_lock: the task holds it while the job is paused; None: the job is never paused.
    :param rejects: takes the rejected rows of a chunk, in its transaction; None: no row is rejected.
    """

    parameters: Mapping[str, str] = field(repr=False)
    settings: SessionSettings
    sink: Sink
    ledger: Ledger | None = None
    slots: int | None = None
    pause_lock: PauseLock | None = None
    rejects: RejectTable | None = None
    _cached: CachedConnection = field(default_factory=CachedConnection, repr=False, compare=False)

    def read_progress(self, key_range: KeyRange) -> Progress:
        """Return how far earlier attempts and tries have written the range."""
        if self.ledger is None:
            return Progress()
        with self._own_errors(), self._transaction(key_range) as connection:
            return read_progress(connection, self.ledger, key_range)

    def write(
        self, key_range: KeyRange, before: Progress, chunk: Chunk, isolate: IsolateFailures | None = None
    ) -> tuple[Progress, bool]:
        """Write a chunk, and return the progress of the range, and whether the chunk is written.

        :param before: the progress behind which the chunk was read. If the ledger has another one, because another
            worker has written, nothing is written.
        :param isolate: the function that has computed the chunk, to find the rows that cannot be written, and write the
            others; None: an error ends the write.
        :raises PartsRefusedError: if parts of the chunk must be computed again.
        """
        retrying = Retrying(
            retry=retry_if_exception_type((psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)),
            wait=wait_random_exponential(multiplier=0.05, max=2),
            stop=stop_after_attempt(_WRITE_ATTEMPTS),
            reraise=True,
        )
        with self._own_errors():
            try:
                return retrying(self._write, key_range, before, chunk, isolate)
            except PartsRefusedError as error:  # the connection is idle, and used again
                refused = error
        raise refused

    def read(
        self, key_range: KeyRange, read_blocks: Callable[[psycopg.Connection[Any]], Iterable[Block]]
    ) -> list[Block]:
        """Return rows as they are now."""
        with self._own_errors(), self._transaction(key_range) as connection:
            return list(read_blocks(connection))

    def close(self) -> None:
        """Close this thread's connection."""
        self._cached.close()

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        """Close the connection if the block fails, and mark the error as one of the target."""
        try:
            with self._cached.close_on_error():
                yield
        except psycopg.Error as error:
            mark_target_error(error, self.parameters.get("host", ""))
            raise

    def _write(
        self, key_range: KeyRange, before: Progress, chunk: Chunk, isolate: IsolateFailures | None
    ) -> tuple[Progress, bool]:
        search = None
        while True:
            try:
                return self._write_now(key_range, before, chunk, search)
            except _PausedError:
                self._wait(key_range)
            except Exception as error:
                if search or not isolate or not is_refusal(error):
                    raise
                search = isolate

    def _wait(self, key_range: KeyRange) -> None:
        """Wait for the end of a pause, outside of a transaction and without the sink's setup."""
        assert self.pause_lock is not None  # noqa: S101 (otherwise there is no pause)
        is_paused = True
        while is_paused:
            self.pause_lock.wait()
            with suppress(_PausedError), self._transaction(key_range, pause_lock=self.pause_lock):
                is_paused = False

    def _write_now(
        self, key_range: KeyRange, before: Progress, chunk: Chunk, isolate: IsolateFailures | None
    ) -> tuple[Progress, bool]:
        worker = worker_name()
        with self._transaction(key_range, self.sink, self.pause_lock) as connection:
            if self.ledger is not None:
                now = claim_chunk(connection, self.ledger, key_range, before, worker)
                if now != before:
                    return now, False
            if isolate:
                chunk = reject_refused(connection, self.sink, isolate, chunk)
            written = self.sink.write(connection, chunk.rows) if chunk.rows else Written({})
            counts = {**written.counts, "rows_filtered": chunk.filtered}
            if chunk.vanished:
                counts["rows_unchanged"] = counts.get("rows_unchanged", 0) + chunk.vanished
            if self.rejects is not None:
                counts[COUNT] = len(chunk.rejected)
                if chunk.rejected:
                    self.rejects.write(connection, key_range, chunk.rejected, chunk.key_names)
            after = before.plus(chunk.position, chunk.row_count, counts, written.pending, is_last=chunk.is_last)
            if self.ledger is not None:
                store_progress(connection, self.ledger, key_range, after, worker)
        return after, True

    @contextmanager
    def _transaction(
        self, key_range: KeyRange, sink: Sink | None = None, pause_lock: PauseLock | None = None
    ) -> Iterator[psycopg.Connection[Any]]:
        connection = self._cached.get(self._connect)
        inherited = set_config(self.settings.inherited, local=True) if self._cached.is_pooled else sql.SQL("")
        settings = self.settings.transaction_sql(f" #{key_range.index}")
        with connection.transaction():
            setup = sink.setup(pooled=self._cached.is_pooled) if sink else sql.SQL("")
            may_write = pause_lock.try_shared if pause_lock else sql.SQL("")
            # All in one round trip.
            cursor = connection.execute(sql.SQL("{}; {}; {}; {}").format(settings, inherited, setup, may_write))
            if pause_lock and not _last_value(cursor):
                raise _PausedError
            yield connection

    def _connect(self) -> psycopg.Connection[Any]:
        connection = connect_worker(
            self.parameters,
            self.settings.name,
            read_only=False,
            slots=self.slots,
            settings=self.settings.inherited,
            reads_slowly=False,
        )
        self._cached.is_pooled = connection.prepare_threshold is None
        return connection


class _PausedError(Exception):
    """Raised in a transaction that must not write now."""


def _last_value(cursor: psycopg.Cursor[Any]) -> Any:
    """Return the value that the last statement returned."""
    while cursor.nextset():
        pass
    [(value,)] = cursor.fetchall()
    return value
