"""The ledger of ranges that are written in chunks: how far a range is, stored in the transaction of each chunk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.ranges.key import Bound
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.ledger import Ledger, check_bounds, describe_bounds
from burla_provider.worker.outcome import Outcome, encode

_CHUNKS, _POSITION, _PENDING = "chunks", "position", "pending"


@dataclass(frozen=True)
class Progress:
    """How far a range is written.

    :param chunks: number of committed chunks.
    :param position: order key of the last row that the committed chunks have read; None: of no row.
    :param row_count: rows that they have read.
    :param counts: what became of these rows, by name.
    :param pending: keys of rows that were changed by others while they were computed, and must be read again.
    :param is_finished: whether the whole range is written.
    """

    chunks: int = 0
    position: Bound | None = None
    row_count: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    pending: tuple[Bound, ...] = ()
    is_finished: bool = False

    def plus(
        self,
        position: Bound | None,
        row_count: int,
        counts: Mapping[str, int],
        pending: tuple[Bound, ...] = (),
        *,
        is_last: bool,
    ) -> Progress:
        """Return the progress after another chunk. The range is finished if it was the last and no row is pending."""
        return replace(
            self,
            chunks=self.chunks + 1,
            position=position or self.position,
            row_count=self.row_count + row_count,
            counts=dict(_add(self.counts, counts)),
            pending=pending,
            is_finished=is_last and not pending,
        )


def read_progress(connection: psycopg.Connection[Any], ledger: Ledger, key_range: KeyRange) -> Progress:
    """Return how far the range is.

    :raises UserFunctionError: if the ledger has other bounds for the range.
    """
    return _select(connection, ledger, key_range, sql.SQL("")) or Progress()


def read_counts(connection: psycopg.Connection[Any], ledger: Ledger) -> Iterator[tuple[int, int, dict[str, int]]]:
    """Yield the ranges of the run that are begun: index, rows read, and what became of them."""
    query = sql.SQL(
        "SELECT range_index, row_count, result::text FROM {} WHERE run_key = %s AND row_count IS NOT NULL"
    ).format(ledger.relation)
    for index, row_count, result in connection.execute(query, [ledger.run_key]).fetchall():
        yield index, row_count, _read_result(result)[0]


def claim_chunk(
    connection: psycopg.Connection[Any], ledger: Ledger, key_range: KeyRange, before: Progress, worker: str
) -> Progress:
    """Return how far the range is, and lock it until the transaction ends. Other workers of the range wait.

    :param before: the progress behind which the chunk was read.
    :raises UserFunctionError: if the ledger has other bounds for the range.
    """
    insert = sql.SQL(
        "INSERT INTO {} (run_key, range_index, range, attempt, worker) VALUES (%s, %s, %s, 1, %s)"
        " ON CONFLICT (run_key, range_index) DO NOTHING"
    ).format(ledger.relation)
    values = [ledger.run_key, key_range.index, describe_bounds(key_range), worker]
    if before.chunks == 0 and connection.execute(insert, values).rowcount:
        return Progress()
    return _select(connection, ledger, key_range, sql.SQL(" FOR UPDATE")) or Progress()


def store_progress(
    connection: psycopg.Connection[Any], ledger: Ledger, key_range: KeyRange, progress: Progress, worker: str
) -> None:
    """Store how far the range is. The transaction has claimed the chunk."""
    result: dict[str, Any] = dict(progress.counts)
    answer = None
    if progress.is_finished:
        answer = encode(Outcome(key_range.index, dict(progress.counts), progress.row_count, worker=worker))
    else:
        result |= {_CHUNKS: progress.chunks, _POSITION: progress.position, _PENDING: progress.pending}
    query = sql.SQL(
        "UPDATE {} SET row_count = %s, result = %s::jsonb, answer = %s, worker = %s,"
        " finished_at = CASE WHEN %s THEN clock_timestamp() END WHERE run_key = %s AND range_index = %s"
    ).format(ledger.relation)
    values = [progress.row_count, json.dumps(result, ensure_ascii=False), answer, worker, progress.is_finished]
    connection.execute(query, [*values, ledger.run_key, key_range.index])


def _select(connection: psycopg.Connection[Any], ledger: Ledger, key_range: KeyRange, lock: sql.SQL) -> Progress | None:
    query = sql.SQL(
        "SELECT range, row_count, result::text, finished_at IS NOT NULL FROM {} WHERE run_key = %s AND range_index = %s"
    ).format(ledger.relation)
    row = connection.execute(query + lock, [ledger.run_key, key_range.index]).fetchone()
    if row is None:
        return None
    bounds, row_count, result, is_finished = row
    check_bounds(ledger, key_range, bounds)
    counts, chunks, position, pending = _read_result(result)
    position = tuple(position) if position else None
    return Progress(chunks, position, row_count or 0, counts, tuple(map(tuple, pending)), is_finished)


def _read_result(result: str | None) -> tuple[dict[str, int], int, Any, Any]:
    counts = json.loads(result or "{}")
    return counts, counts.pop(_CHUNKS, 0), counts.pop(_POSITION, None), counts.pop(_PENDING, ())


def _add(first: Mapping[str, int], second: Mapping[str, int]) -> Counter[str]:
    total = Counter(first)
    total.update(second)
    return total
