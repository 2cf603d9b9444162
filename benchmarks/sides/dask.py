"""Dask: ``read_sql_table`` in processes; for exact text ``read_sql_query``."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from benchmarks.checksum import checksum
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    import dask
    import dask.dataframe as dd
    import sqlalchemy as sa

    def run(task: Task) -> Result:
        uri = task.uri.replace("postgresql://", "postgresql+psycopg2://")
        options = {"npartitions": task.ranges or 24}
        if task.job == "totals":
            frame = dd.read_sql_table(task.table, uri, index_col=task.key, columns=["amount"], **options)
            rows, total = dask.compute(frame.shape[0], frame["amount"].sum())
            return Result(int(rows), total)
        key, *others = task.columns
        names = [sa.cast(sa.column(name), sa.Text).label(name) for name in others]
        query = sa.select(sa.column(key, sa.BigInteger), *names).select_from(sa.table(task.table))
        frame = dd.read_sql_query(query, uri, index_col=key, **options)
        parts = frame.map_partitions(add_up, meta=("checksum", "int64"))
        rows, total = dask.compute(frame.shape[0], parts.sum())
        return Result(int(rows), int(total))

    # Without a pool, Dask starts new processes for each compute().
    with ProcessPoolExecutor(task.workers, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(warm_up, range(2 * task.workers)))
        with dask.config.set(scheduler="processes", pool=pool):
            yield run


def warm_up(_: int) -> None:
    import dask.dataframe  # noqa: F401
    import sqlalchemy  # noqa: F401


def add_up(frame):
    import pandas

    return pandas.Series([sum(map(checksum, frame.itertuples(name=None)))])
