"""The guide's function in a process pool of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pool

from benchmarks.sides.guide import build_id_ranges, combine, find_ids, process_id_range
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    with Pool(task.workers) as pool:

        def run(task: Task) -> Result:
            id_ranges = build_id_ranges(*find_ids(task.login, task.table), 25_000)
            rest = (task.login, task.job, task.table, task.columns)
            return Result(*combine(pool.starmap(process_id_range, [(*ends, *rest) for ends in id_ranges], chunksize=1)))

        yield run
