"""Run this provider's operator as an Airflow task: with the real task runner, and an API server in memory."""

from __future__ import annotations

import importlib
import json
import os
import resource
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

        class MeasuredAirflow(Airflow):
            largest_state = 0

            def send(self, msg: Any) -> Any:
                answer = super().send(msg)
                self.messages.clear()  # Airflow does not keep them in the task's memory
                if type(msg).__name__ == "SetTaskStateStore":
                    self.largest_state = max(self.largest_state, len(json.dumps(msg.value)))
                return answer

        def run(task: Task) -> Result:
            airflow = MeasuredAirflow()
            airflow.add_connection("burla_default", "burla", **burla)
            login = {"host": task.host, "port": task.port, "login": task.user, "password": task.password}
            airflow.add_connection("orders_db", "postgres", schema=task.dbname, **login)
            result = airflow.run(make_operator(task, **options))
            if result.state != "success":
                raise RuntimeError(str(result.error))
            report = result.xcoms[KEY]
            details = {
                "ranges": report["total"],
                "timeline": report["timeline"],
                "plan": report["plan"],
                "used_workers": report["worker_count"],
                "phases": {phase["name"]: phase["seconds"] for phase in report["phases"]},
                "report": len(json.dumps(report)),
                "largest_state": airflow.largest_state,
                "task_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
            if not isinstance(result.value, dict):  # a map
                return Result(report["done"], None, details)
            return Result(result.value["row_count"], result.value.get("total"), details)

        yield run
