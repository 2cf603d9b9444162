"""Find the rows of a chunk that cannot be written, after writing the whole chunk has failed."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import psycopg

from burla_provider.worker.chunks import Chunk
from burla_provider.worker.errors import mark_rows
from burla_provider.worker.isolation import IsolateFailures
from burla_provider.worker.rejects import is_refusal
from burla_provider.worker.sinks import Sink
from burla_provider.worker.sinks.staged import STAGE

_MAX_PASSES = 10
"""How often rows are tried again that refer to rows of the same chunk."""

_FOREIGN_KEY = "23503"
_LINE = re.compile(r", \w+ (\d+)")


class PartsRefusedError(Exception):
    """Raised when the rows that cannot be written were made of several rows of the source together.

    :param numbers: indexes of these parts in ``Chunk.parts``.
    """

    def __init__(self, numbers: list[int]) -> None:
        super().__init__("The chunk must be computed again in smaller parts.")
        self.numbers = numbers


def reject_refused(connection: psycopg.Connection[Any], sink: Sink, isolate: IsolateFailures, chunk: Chunk) -> Chunk:
    """Return the chunk without the rows that cannot be written, which are added to those that are rejected.

    Runs in the open transaction, and writes nothing. If one of the rows that were made of a row of the source cannot be
    written, none is.

    :raises PartsRefusedError: if it is unknown of which row of the source such a row was made.
    :raises Exception: if there are such rows, and rejected rows are not recorded.
    """
    # Otherwise deferred constraints would fail when the transaction is committed.
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    chunk = replace(chunk, parts=[single for part in chunk.parts for single in part.split()])
    refused = _Search(connection, sink, chunk).find()
    several = [number for number in refused if chunk.parts[number].stop - chunk.parts[number].start > 1]
    if several:
        raise PartsRefusedError(sorted(several))
    rejected = [isolate.reject(chunk.parts[number], refused[number]) for number in sorted(refused)]
    if rejected and not isolate.is_recorded:
        error = refused[min(refused)]
        mark_rows(error, [row.key for row in rejected])
        raise error
    rows, end = [], 0
    for number, part in enumerate(chunk.parts):
        start, end = end, end + part.made
        if number not in refused:
            rows += chunk.rows[start:end]
    # No parts: if these rows fail together, no further search helps.
    return replace(chunk, rows=rows, parts=[], rejected=chunk.rejected + rejected)


class _Search:
    """Writes parts of a chunk, in their order, and keeps what can be written until the end of the search.

    So a row is tried together with the rows before it, which it may refer to, or which it may conflict with.
    """

    def __init__(self, connection: psycopg.Connection[Any], sink: Sink, chunk: Chunk) -> None:
        self._connection = connection
        self._sink = sink
        self._chunk = chunk
        self._ends = list(accumulate(part.made for part in chunk.parts))
        self._refused: dict[int, Exception] = {}
        [(self._has_stage,)] = connection.execute(
            "SELECT to_regclass(%s) IS NOT NULL", [STAGE.as_string(connection)]
        ).fetchall()

    def find(self) -> dict[int, Exception]:
        """Return the parts that cannot be written: index -> error."""
        with self._connection.transaction(force_rollback=True):
            self._write_parts([number for number, part in enumerate(self._chunk.parts) if part.made])
            for _ in range(_MAX_PASSES):
                # A row that others refer to may have come later. If they come in reverse order, one pass is enough.
                again = [number for number, error in self._refused.items() if _state(error) == _FOREIGN_KEY]
                for number in again:
                    del self._refused[number]
                before = len(again) + len(self._refused)
                self._write_parts(sorted(again, reverse=True))
                if len(self._refused) == before:
                    break
        return self._refused

    def _write_parts(self, numbers: list[int]) -> None:
        pending = [numbers] if numbers else []
        while pending:
            some = pending.pop()
            error = self._write(some)
            if error is None:
                continue
            if len(some) == 1:
                self._refused[some[0]] = error
                continue
            pieces = self._split(some, error)
            pending.extend(piece for piece in reversed(pieces) if piece)

    def _write(self, numbers: list[int]) -> Exception | None:
        rows = [row for number in numbers for row in self._rows(number)]
        try:
            with self._connection.transaction():
                if self._has_stage:  # with the rows of the parts before
                    self._connection.execute("DELETE FROM pg_temp.burla_rows")
                self._sink.write(self._connection, rows)
        except Exception as error:
            if not is_refusal(error):
                raise
            return error
        return None

    def _rows(self, number: int) -> Sequence[tuple[Any, ...]]:
        end = self._ends[number]
        return self._chunk.rows[end - self._chunk.parts[number].made : end]

    def _split(self, numbers: list[int], error: Exception) -> list[list[int]]:
        """Return the parts as several lists: around the row at which COPY has failed, or halves."""
        context = error.diag.context if isinstance(error, psycopg.Error) else None
        line = _LINE.search(context or "")
        if line:
            ends = list(accumulate(self._chunk.parts[number].made for number in numbers))
            place = bisect_right(ends, int(line[1]) - 1)
            if place < len(numbers):
                return [numbers[:place], [numbers[place]], numbers[place + 1 :]]
        middle = len(numbers) // 2
        return [numbers[:middle], numbers[middle:]]


def _state(error: Exception) -> str | None:
    return getattr(error, "sqlstate", None)
