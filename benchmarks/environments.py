"""The interpreters of the sides: made by ``make bench``, each with no more than its sides need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

INTERPRETERS = {
    "provider": sys.executable,
    "tools": str(ROOT / ".venv-bench" / "bin" / "python"),
    "guide": str(ROOT / ".venv-bench-guide" / "bin" / "python"),
}

SHOWN = {
    "provider": ("apache-airflow", "burla", "psycopg"),
    "tools": ("connectorx", "polars", "dask", "pandas", "ray", "pyspark"),
    "guide": ("burla", "psycopg2-binary"),
}
"""The packages of each whose versions the results state."""


def is_there(environment: str) -> bool:
    return os.access(INTERPRETERS[environment], os.X_OK)


def versions(environment: str) -> dict[str, str]:
    """Package -> version; empty where the environment has not been made."""
    if not is_there(environment):
        return {}
    code = "import sys, importlib.metadata as m; print(*(f'{name}={m.version(name)}' for name in sys.argv[1:]))"
    command = [INTERPRETERS[environment], "-c", code, *SHOWN[environment]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(part.split("=", 1) for part in done.stdout.split())
