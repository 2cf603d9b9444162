"""Warn if other programs were running during a measurement."""

from __future__ import annotations

from typing import Any


def load_warning(sides: dict[str, Any], cores: int) -> list[str]:
    """Return a warning if the load average was high when a side began."""
    loads = [side["load"] for side in sides.values() if "load" in side]
    if not loads or max(loads) <= 2 * cores:
        return []
    return [
        "",
        f"> **Other programs were running during this run**: the load average was {min(loads):g} to {max(loads):g} on "
        f"{cores} cores. Seconds, start-up, rows/s and their ratios are not reliable. CPU seconds, memory, "
        "connections, bytes and the correctness of results can be compared.",
    ]
