"""The guide's function on the Burla cluster that this machine is logged in to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.sides.guide import build_id_ranges, combine, find_ids, process_id_range
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    from burla import remote_parallel_map

    def run(task: Task) -> Result:
        id_ranges = build_id_ranges(*find_ids(task.login, task.table), 25_000)
        rest = (task.login, task.job, task.table, task.columns)
        items = [(*ends, *rest) for ends in id_ranges]
        # The guide uses all workers; here all sides have the same number.
        return Result(
            *combine(remote_parallel_map(process_id_range, items, spinner=False, max_parallelism=task.workers))
        )

    yield run
