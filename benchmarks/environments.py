"""The interpreters of the sides. ``make bench`` creates them; each has the packages of its sides only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

INTERPRETERS = {
    "provider": sys.executable,
    "tools": str(ROOT / ".venv-bench" / "bin" / "python"),
    "daft": str(ROOT / ".venv-bench-daft" / "bin" / "python"),
    "guide": str(ROOT / ".venv-bench-guide" / "bin" / "python"),
}

REPORTED_PACKAGES = {
    "provider": ("apache-airflow", "burla", "psycopg"),
    "tools": ("duckdb", "connectorx", "polars", "dask", "pandas", "ray", "pyspark"),
    "daft": ("daft", "connectorx"),
    "guide": ("burla", "psycopg2-binary"),
}
"""Packages whose versions are in the results."""


def exists(environment: str) -> bool:
    return os.access(INTERPRETERS[environment], os.X_OK)


def versions(environment: str) -> dict[str, str]:
    """Return the version of each package; an empty dict if the environment does not exist."""
    if not exists(environment):
        return {}
    code = "import sys, importlib.metadata as m; print(*(f'{name}={m.version(name)}' for name in sys.argv[1:]))"
    command = [INTERPRETERS[environment], "-c", code, *REPORTED_PACKAGES[environment]]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(part.split("=", 1) for part in result.stdout.split())
