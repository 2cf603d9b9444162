"""Spark: a JDBC read, partitioned between the minimum and the maximum key, and a Python UDF."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.checksum import checksum
from benchmarks.task import Result, Run, Task

DRIVER = "/usr/share/java/postgresql.jar"


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession, functions
    from pyspark.sql.types import LongType

    builder = SparkSession.builder.master(f"local[{task.workers}]").config("spark.jars", DRIVER)
    spark = builder.config("spark.ui.enabled", "false").config("spark.driver.memory", "2g").getOrCreate()
    digest = functions.udf(lambda *row: checksum(row), LongType())

    def run(task: Task) -> Result:
        url = f"jdbc:postgresql://{task.host}:{task.port}/{task.dbname}"
        login = {"user": task.user, "password": task.password, "driver": "org.postgresql.Driver", "fetchsize": "10000"}
        minimum, maximum = spark.read.jdbc(
            url, f"(SELECT min(id), max(id) FROM {task.table}) AS ends", properties=login
        ).first()
        frame = spark.read.jdbc(url, task.table, task.key, minimum, maximum, task.ranges or 24, properties=login)
        column = frame["amount"] if task.job == "totals" else digest(*task.columns)
        rows, value = frame.agg(functions.count("*"), functions.sum(column)).first()
        return Result(rows, value)

    yield run
    spark.stop()
