"""What a DAG file pays for importing an operator, beyond Airflow: ``python -m benchmarks.import_time``.

The DAG processor pays it at every parse. Each measurement is a process of its own; Airflow's own operator base and the
compatibility layer that every provider imports are loaded before the clock starts. Python compiles each module once, as
it does (or pip, for it) where the package is installed: a first run that does not count leaves the bytecode.
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
began = time.process_time()
import burla_provider.{module}
print(1000 * (time.process_time() - began))
"""


def milliseconds(module: str, bytecode: str) -> float:
    """Processor time of importing a module after Airflow, so that other programs do not matter."""
    command = [sys.executable, "-c", CODE.format(airflow=AIRFLOW, module=module)]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(answer.stdout.splitlines()[-1])


def median(module: str) -> float:
    """The median of :data:`RUNS` runs, in milliseconds."""
    with tempfile.TemporaryDirectory() as bytecode:
        milliseconds(module, bytecode)
        return statistics.median(milliseconds(module, bytecode) for _ in range(RUNS))


def main() -> None:
    for module in MODULES:
        print(f"import burla_provider.{module:<20} {median(module):5.1f} ms beyond Airflow ({LIMIT_MS} are allowed)")


if __name__ == "__main__":
    main()
