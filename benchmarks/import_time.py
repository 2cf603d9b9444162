"""Measure how long a DAG file takes to import an operator after Airflow: ``python -m benchmarks.import_time``.

The DAG processor repeats the import at each parse. Each measurement is a new process, in which Airflow's base operator
and the compatibility layer that all providers import are loaded first. A first run, which is not counted, compiles the
modules.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

RUNS = 5
LIMIT_MS = 50
MODULES = ("operators.postgres", "operators.map", "decorators.burla")
AIRFLOW = "from airflow.providers.common.compat.sdk import AirflowFailException, BaseHook, DecoratedOperator"
CODE = """
import time
{airflow}
started = time.process_time()
import burla_provider.{module}
print(1000 * (time.process_time() - started))
"""


def milliseconds(module: str, bytecode: str) -> float:
    """Return the processor time of importing a module after Airflow. Other programs do not affect it much."""
    command = [sys.executable, "-c", CODE.format(airflow=AIRFLOW, module=module)]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(result.stdout.splitlines()[-1])


def median(module: str) -> float:
    """Return the median of :data:`RUNS` runs, in milliseconds."""
    with tempfile.TemporaryDirectory() as bytecode:
        milliseconds(module, bytecode)
        return statistics.median(milliseconds(module, bytecode) for _ in range(RUNS))


def main() -> None:
    for module in MODULES:
        print(
            f"import burla_provider.{module:<20} {median(module):5.1f} ms in addition to Airflow (limit: {LIMIT_MS} ms)"
        )


if __name__ == "__main__":
    main()
