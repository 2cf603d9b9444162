"""Run this provider's operator as an Airflow task: with the real task runner, and an API server in memory."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task, burla: dict[str, Any], module: str = "benchmarks.sides.ours", **options: Any) -> Iterator[Run]:
    """Prepare Airflow and yield a function that runs a task.

    :param burla: fields of the Airflow connection ``burla_default``.
    :param module: the module whose ``make_operator`` creates the operator of a task.
    :param options: further arguments of ``make_operator``.
    """
    with tempfile.TemporaryDirectory(prefix="burla-bench-airflow-") as home:
        os.environ |= {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        make_operator = importlib.import_module(module).make_operator  # needs Airflow's home
        from burla_provider.task.reporter import KEY
        from tests.support.task_runner import Airflow

        def run(task: Task) -> Result:
            airflow = Airflow()
            airflow.add_connection("burla_default", "burla", **burla)
            login = {"host": task.host, "port": task.port, "login": task.user, "password": task.password}
            airflow.add_connection("orders_db", "postgres", schema=task.dbname, **login)
            result = airflow.run(make_operator(task, **options))
            if result.state != "success":
                raise RuntimeError(str(result.error))
            report = result.xcoms[KEY]
            details = {"ranges": report["total"], "timeline": report["timeline"], "plan": report["plan"]}
            return Result(result.value["row_count"], result.value.get("total"), details)

        yield run
