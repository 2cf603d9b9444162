"""Run a function on Arrow batches in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from benchmarks.sides.batches.work import FUNCTIONS
from benchmarks.task import Result, Task


def add_up(pool: ThreadPoolExecutor, task: Task, batches: Iterable[Any]) -> Result:
    """Return the number of rows, and the sum of the function's results."""
    function = FUNCTIONS["arrow"][task.job]
    rows = total = 0
    pending: deque[Future[int]] = deque()
    for batch in batches:
        rows += batch.num_rows
        pending.append(pool.submit(function, batch))
        if len(pending) > 2 * task.workers:  # otherwise all rows would be in memory
            total += pending.popleft().result()
    return Result(rows, total + sum(future.result() for future in pending))
