"""Check the results of a side."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any


def verdict(run: Mapping[str, Any]) -> str:
    """Return "yes" if the result equals that of SQL or of a Python loop, otherwise the difference.

    The text is empty if all rows arrived and the side computes no sum.
    """
    rows, value = run["expected_rows"], run["expected_value"]
    if run["value"] is None:
        return "" if run["rows"] == rows else f"{run['rows'] - rows:+,} rows"
    if run["rows"] != rows:
        return f"**no**: {run['rows'] - rows:+,} rows"
    if Decimal(run["value"]) == Decimal(value):
        return "yes"
    return f"**no**: {run['value']} instead of {value}"


def find_faults(sides: Mapping[str, Mapping[str, Any]], exact: Collection[str]) -> list[str]:
    """Return the sides and jobs that did not run, and the wrong results of the ``exact`` sides."""
    faults = [f"{name}: {side['missing']}" for name, side in sides.items() if "missing" in side]
    for name, side in sides.items():
        for job, run in side["jobs"].items():
            if "error" in run:
                faults.append(f"{name}, {job}: {run['error']}")
            elif name in exact and verdict(run) not in ("", "yes"):
                faults.append(f"{name}, {job}: {verdict(run)}")
    return faults
