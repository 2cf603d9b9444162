"""What a DAG file pays for importing an operator, beyond Airflow: ``python -m benchmarks.import_time``.

The DAG processor pays it at every parse. Each measurement is a process of its own; Airflow's own operator base and the
compatibility layer that every provider imports are loaded before the clock starts.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

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


def milliseconds(module: str) -> float:
    """Processor time of importing a module after Airflow, so that other programs do not matter."""
    command = [sys.executable, "-c", CODE.format(airflow=AIRFLOW, module=module)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(answer.stdout.splitlines()[-1])


def main() -> int:
    """:return: exit status, 1 when one costs more than ``LIMIT_MS``."""
    worst = 0.0
    for module in MODULES:
        median = statistics.median(milliseconds(module) for _ in range(RUNS))
        worst = max(worst, median)
        print(f"import burla_provider.{module:<20} {median:5.1f} ms beyond Airflow (at most {LIMIT_MS})")
    return int(worst > LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
