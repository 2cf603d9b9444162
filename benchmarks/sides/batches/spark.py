"""Spark: a JDBC read, partitioned between the minimum and the maximum key, and ``mapInPandas``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.sides.batches.work import COLUMNS, FUNCTIONS
from benchmarks.sides.spark import DRIVER
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession, functions

    builder = SparkSession.builder.master(f"local[{task.workers}]").config("spark.jars", DRIVER)
    builder = builder.config("spark.ui.enabled", "false").config("spark.driver.memory", "2g")
    spark = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()

    def run(task: Task) -> Result:
        url = f"jdbc:postgresql://{task.host}:{task.port}/{task.dbname}"
        login = {"user": task.user, "password": task.password, "driver": "org.postgresql.Driver", "fetchsize": "10000"}
        minimum, maximum = spark.read.jdbc(
            url, f"(SELECT min(id), max(id) FROM {task.table}) AS ends", properties=login
        ).first()
        frame = spark.read.jdbc(url, task.table, task.key, minimum, maximum, 24, properties=login)
        function = FUNCTIONS["pandas"][task.job]

        def add_up(frames):
            import pandas

            for part in frames:
                yield pandas.DataFrame({"rows": [len(part)], "total": [function(part)]})

        # As a double, because a decimal column would be one of Python objects.
        names = [functions.col(name).cast("double") if name == "amount" else name for name in COLUMNS[task.job]]
        totals = frame.select(*names).mapInPandas(add_up, "rows long, total long")
        return Result(*totals.agg(functions.sum("rows"), functions.sum("total")).first())

    yield run
    spark.stop()
