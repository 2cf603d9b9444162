"""Decide how many items a worker processes in one call. The engines load this file by path."""

from __future__ import annotations

from collections.abc import Sequence

MAX_ITEMS = 100
"""With more, the time per call is no longer noticeable, and its results would arrive later."""

_CALLS_PER_WORKER = 25


def batch_size(waiting: int, workers: int) -> int:
    """Return how many of the waiting items the next call processes, at least 1.

    Batches become smaller towards the end, so that all workers finish at about the same time. Up to 50 items per worker
    are processed in a call each.
    """
    return max(1, min(waiting // (_CALLS_PER_WORKER * workers), MAX_ITEMS))


def make_batches(indexes: Sequence[int], workers: int) -> list[list[int]]:
    """Return the batches of all calls of a job."""
    batches: list[list[int]] = []
    start = 0
    while start < len(indexes):
        size = batch_size(len(indexes) - start, workers)
        batches.append(list(indexes[start : start + size]))
        start += size
    return batches
