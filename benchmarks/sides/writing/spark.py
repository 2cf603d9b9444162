"""Spark: a partitioned JDBC read, a Python UDF, and a JDBC append."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.sides.spark import DRIVER
from benchmarks.sides.writing.rows import CHUNK, make_row
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    if not os.path.exists(DRIVER):
        raise RuntimeError(f"there is no JDBC driver, {DRIVER}: install libpostgresql-jdbc-java")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession, functions

    builder = SparkSession.builder.master(f"local[{task.workers}]").config("spark.jars", DRIVER)
    spark = builder.config("spark.ui.enabled", "false").config("spark.driver.memory", "2g").getOrCreate()
    made = functions.udf(lambda *row: make_row(row), "id bigint, cents bigint, label string")

    def run(task: Task) -> Result:
        url = f"jdbc:postgresql://{task.host}:{task.port}/{task.dbname}"
        login = {"user": task.user, "password": task.password, "driver": "org.postgresql.Driver"}
        size = str(CHUNK)
        ends = spark.read.jdbc(url, f"(SELECT min(id), max(id), count(*) FROM {task.table}) AS ends", properties=login)
        minimum, maximum, count = ends.first()
        options = {**login, "fetchsize": size}
        frame = spark.read.jdbc(url, task.table, task.key, minimum, maximum, 24, properties=options)
        rows = frame.select(made(*task.columns).alias("made")).select("made.*")
        options = {**login, "batchsize": size, "reWriteBatchedInserts": "true"}
        rows.write.jdbc(url, task.target, "append", properties=options)
        return Result(count, None)

    yield run
    spark.stop()
