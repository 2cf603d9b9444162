"""Whether a side did what it was asked to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any


def verdict(run: Mapping[str, Any]) -> str:
    """Whether the answer is what one SQL query, or one plain loop, says: "yes", or what is wrong.

    Empty where all rows came and no sum was asked for.
    """
    wanted = run["expected_rows"], run["expected_value"]
    if run["value"] is None:
        return "" if run["rows"] == wanted[0] else f"{run['rows'] - wanted[0]:+,} rows"
    if run["rows"] != wanted[0]:
        return f"**no**: {run['rows'] - wanted[0]:+,} rows"
    if Decimal(run["value"]) == Decimal(wanted[1]):
        return "yes"
    return f"**no**: {run['value']} for {wanted[1]}"


def faults(sides: Mapping[str, Mapping[str, Any]], exact: Collection[str]) -> list[str]:
    """What did not run, and what of the ``exact`` sides is not right."""
    found = [f"{name}: {side['missing']}" for name, side in sides.items() if "missing" in side]
    for name, side in sides.items():
        for job, run in side["jobs"].items():
            if "error" in run:
                found.append(f"{name}, {job}: {run['error']}")
            elif name in exact and verdict(run) not in ("", "yes"):
                found.append(f"{name}, {job}: {verdict(run)}")
    return found
