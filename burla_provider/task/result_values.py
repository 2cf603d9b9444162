"""The result of a task as the Ranges tab shows it: pairs of names and short texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from burla_provider.task.masking import masked
from burla_provider.task.short_text import shorten

_MAX_VALUES = 40
_MAX_CHARS = 200


def result_part(
    values: Iterable[tuple[str, Any]], count: int, *, complete: bool, verified: str | None = None
) -> dict[str, Any]:
    """Return the part ``result`` of the report.

    :param values: names and JSON values. At most 40 are read.
    :param count: number of all values.
    :param complete: whether the result has all items.
    :param verified: what was checked, a sentence.
    """
    shown = [[_shown(name), _shown(_text(value))] for name, value in islice(values, _MAX_VALUES)]
    return {"values": shown, "complete": complete, "verified": verified, "more": count - len(shown)}


def total_values(result: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the values of a table's result."""
    # The page shows it separately.
    yield from ((name, value) for name, value in result.items() if name != "complete")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return json.dumps(value, ensure_ascii=False)


def _shown(text: str) -> str:
    # A part of a secret would not be found.
    return shorten(masked(text[: 10 * _MAX_CHARS]), _MAX_CHARS)
